//! Traces as tables.

use std::hash::BuildHasher;

use einflow_spec::{Problem, Problems, Source};
use rustc_hash::FxBuildHasher;

use super::{
    Reading, Row, Rows,
    clock::nanoseconds,
    forms::{Form, Prefix, TABLES, recognised},
    prefix::Known,
};
use crate::device::cells::{CellRow, Cells};

/// Tokens of one request at most.
pub(super) const MOST: u64 = 1 << 40;

/// The requests of a table.
pub(super) fn read(source: &Source, how: &Reading) -> Result<Rows, Problems> {
    let cells = Cells::read(source)?;
    let has: Vec<&str> = cells.header.iter().map(String::as_str).collect();
    let form = recognised(&TABLES, &how.columns, &has, |message| {
        cells.at_header(message)
    })?;
    let alike = how.alike(&has, |message| cells.at_header(message))?;
    if form.arrival.is_none() && how.arrivals {
        return Err(cells.at_header("the trace does not say when requests come").help(
            "a column of times, named by `columns`; or all at the start, with `arrivals: false` in a scenario",
        )
        .into());
    }
    let mut problems = cells.problems.clone();
    let mut out = Vec::with_capacity(cells.rows.len());
    for row in &cells.rows {
        out.extend(problems.absorb(request(&cells, row, form, alike).map_err(Problems::from)));
    }
    Ok((out, problems))
}

/// What is listed in a cell: apart by blanks, commas and the like, in brackets or not.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let apart = |c: char| c.is_whitespace() || ",;|[](){}'\"".contains(c);
    text.split(apart).filter(|part| !part.is_empty())
}

/// Block hashes that are listed in a cell: numbers, or texts of any form.
pub(super) fn hashes(text: &str) -> Vec<u64> {
    listed(text)
        .map(|hash| match hash.parse() {
            Ok(number) => number,
            Err(_) => FxBuildHasher.hash_one(hash),
        })
        .collect()
}

fn request(
    cells: &Cells,
    row: &CellRow,
    form: Form<'_>,
    alike: Prefix<'_>,
) -> Result<Row, Problem> {
    let at = match form.arrival {
        None => None,
        Some(column) => {
            let text = cells.text(row, column);
            let at = nanoseconds(text, form.unit);
            Some(at.ok_or_else(|| cells.wrong(row, column, text, form.unit.wanted()))?)
        }
    };
    let tokens = |column: &str| {
        let text = cells.text(row, column);
        let wrong = || cells.wrong(row, column, text, "a whole number of tokens up to 2^40");
        let tokens: u64 = text.parse().map_err(|_| wrong())?;
        (tokens <= MOST).then_some(tokens).ok_or_else(wrong)
    };
    let ids = |column: &str| {
        let text = cells.text(row, column);
        let wrong = || cells.wrong(row, column, text, "whole numbers of tokens");
        let each = listed(text).map(|id| id.parse().map_err(|_| wrong()));
        each.collect::<Result<Vec<u32>, Problem>>()
    };
    Ok(Row {
        at,
        prompt: tokens(form.prompt)?,
        generated: tokens(form.generated)?,
        line: row.number,
        known: match alike {
            Prefix::Nowhere => Known::Nothing,
            Prefix::Hashes(column) => Known::Hashes(hashes(cells.text(row, column))),
            Prefix::Tokens(prompt, generated) => {
                Known::Tokens(ids(prompt)?, generated.map_or(Ok(Vec::new()), ids)?)
            }
        },
    })
}
