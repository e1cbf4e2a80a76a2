//! Traces as tables.

use einflow_spec::{Problem, Problems, Source};

use super::{
    Reading, Row, Rows,
    clock::nanoseconds,
    forms::{Form, TABLES, recognised},
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
    if form.arrival.is_none() && how.arrivals {
        return Err(cells.at_header("the trace does not say when requests come").help(
            "a column of times, named by `columns`; or all at the start, with `arrivals: false` in a scenario",
        )
        .into());
    }
    let mut problems = cells.problems.clone();
    let mut out = Vec::with_capacity(cells.rows.len());
    for row in &cells.rows {
        out.extend(problems.absorb(request(&cells, row, form).map_err(Problems::from)));
    }
    Ok((out, problems))
}

fn request(cells: &Cells, row: &CellRow, form: Form<'_>) -> Result<Row, Problem> {
    let at = match form.arrival {
        None => None,
        Some(column) => {
            let text = cells.text(row, column);
            let want = match form.milliseconds {
                true => "a time in milliseconds",
                false => "a time in seconds, or a date",
            };
            let at = nanoseconds(text, form.milliseconds);
            Some(at.ok_or_else(|| cells.wrong(row, column, text, want))?)
        }
    };
    let tokens = |column: &str| {
        let text = cells.text(row, column);
        let wrong = || cells.wrong(row, column, text, "a whole number of tokens up to 2^40");
        let tokens: u64 = text.parse().map_err(|_| wrong())?;
        (tokens <= MOST).then_some(tokens).ok_or_else(wrong)
    };
    Ok(Row {
        at,
        prompt: tokens(form.prompt)?,
        generated: tokens(form.generated)?,
        line: row.number,
    })
}
