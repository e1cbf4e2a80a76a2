//! Request traces.

use einflow_spec::{Problem, Problems, Source, Span, quantity::Seconds};

use crate::device::cells::{CellRow, Cells};

/// A request: when it comes, and how many tokens it brings and wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// After the trace's begin.
    pub at: Seconds,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens to generate.
    pub generated: u64,
    /// Its row in the file, the header being 1.
    pub row: u64,
}

const COLUMNS: [&str; 3] = ["arrival_s", "prompt_tokens", "generated_tokens"];

/// Reads `arrival_s,prompt_tokens,generated_tokens`, a request a row.
///
/// # Errors
/// A column that is missing; a negative or unordered arrival, a length below 1, each by row and field.
pub fn read(source: &Source) -> Result<Vec<Arrival>, Problems> {
    let cells = Cells::read(source)?;
    let missing: Vec<String> = COLUMNS
        .iter()
        .filter(|c| !cells.has(c))
        .map(|c| format!("`{c}`"))
        .collect();
    if !missing.is_empty() {
        return Err(cells
            .at_header(format!("a request trace lacks {}", missing.join(", ")))
            .help(format!("its columns are {}", COLUMNS.join(", ")))
            .into());
    }
    let mut problems = cells.problems.clone();
    let mut out: Vec<Arrival> = Vec::new();
    for row in &cells.rows {
        let read = (|| {
            let at = arrival(&cells, row, out.last())?;
            Ok(Arrival {
                at,
                prompt: cells.size(row, COLUMNS[1])?,
                generated: cells.size(row, COLUMNS[2])?,
                row: row.number,
            })
        })();
        out.extend(problems.absorb(read.map_err(|p: Problem| Problems::from(p))));
    }
    if cells.rows.is_empty() {
        problems.push(cells.at_header("the trace has no requests"));
    }
    problems.into_result(Some(out))
}

/// A problem with the request in a row of its file.
pub fn at_row(source: &Source, row: u64, message: impl Into<String>) -> Problem {
    let line = usize::try_from(row).unwrap_or(usize::MAX);
    let start = source.offset_of(line, 1);
    let rest = source.text().get(start..).unwrap_or("");
    let end = start + rest.lines().next().map_or(0, str::len);
    Problem::at(source, Span::new(start, end), message)
}

fn arrival(cells: &Cells, row: &CellRow, last: Option<&Arrival>) -> Result<Seconds, Problem> {
    let text = cells.text(row, COLUMNS[0]);
    match text.parse::<f64>() {
        Ok(at) if at.is_finite() && at >= last.map_or(0.0, |l| l.at.0) => Ok(Seconds(at)),
        Ok(at) if at.is_finite() && at >= 0.0 => {
            Err(cells.wrong(row, COLUMNS[0], text, "at or after the arrival before it"))
        }
        _ => Err(cells.wrong(row, COLUMNS[0], text, "a time in seconds, 0 or more")),
    }
}
