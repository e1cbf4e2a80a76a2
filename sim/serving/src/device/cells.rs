//! CSV tables with places: every mistake names its row and field.

use einflow_spec::{Problem, Problems, Source, Span, did_you_mean};

/// A table's text, cell by cell.
#[derive(Clone, Debug)]
pub struct Cells {
    /// The file.
    pub source: Source,
    /// The columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<CellRow>,
    /// Rows that are none: with more or fewer cells than the header.
    pub problems: Problems,
}

/// A row.
#[derive(Clone, Debug)]
pub struct CellRow {
    /// Its number in the file, the header being 1.
    pub number: u64,
    /// Its cells.
    pub cells: Vec<String>,
    span: Span,
}

impl Cells {
    /// Reads a table.
    ///
    /// # Errors
    /// No header.
    pub fn read(source: &Source) -> Result<Self, Problems> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(source.text().as_bytes());
        let mut problems = Problems::new();
        let at = |start: usize| {
            let text = source.text();
            let start = start.min(text.len());
            let end = text[start..].find('\n').map_or(text.len(), |n| start + n);
            Span::new(start, end.max(start))
        };
        let header: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_string).collect(),
            Err(e) => {
                return Err(Problem::at(source, at(0), format!("no header: {e}")).into());
            }
        };
        for (i, name) in header.iter().enumerate() {
            if header[..i].contains(name) {
                problems.push(Problem::at(
                    source,
                    at(0),
                    format!("the column `{name}` is given twice"),
                ));
            }
        }
        let mut rows = Vec::new();
        let (mut counted, mut lines) = (0, 1);
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(e) => {
                    problems.push(Problem::at(source, at(0), format!("no table: {e}")));
                    break;
                }
            };
            // Of lines that end in CR LF, the reader's record begins at the LF.
            let text = source.text();
            let from = record.position().map_or(0, |p| p.byte() as usize);
            let ends = text.get(from..).unwrap_or("").chars();
            let start = from + ends.take_while(|c| matches!(c, '\r' | '\n')).count();
            let passed = text.get(counted..start).unwrap_or("");
            lines += passed.matches('\n').count() as u64;
            counted = start;
            let number = lines;
            let span = at(start);
            if record.len() != header.len() {
                problems.push(Problem::at(
                    source,
                    span,
                    format!(
                        "row {number} has {} fields, the header {}",
                        record.len(),
                        header.len()
                    ),
                ));
                continue;
            }
            rows.push(CellRow {
                number,
                cells: record.iter().map(str::to_string).collect(),
                span,
            });
        }
        Ok(Self {
            source: source.clone(),
            header,
            rows,
            problems,
        })
    }

    /// Whether the table has a column.
    pub fn has(&self, column: &str) -> bool {
        self.header.iter().any(|h| h == column)
    }

    /// A problem at the header.
    pub fn at_header(&self, message: impl Into<String>) -> Problem {
        let end = self.source.text().find('\n');
        let end = end.unwrap_or(self.source.text().len());
        Problem::at(&self.source, Span::new(0, end), message)
    }

    /// A problem in a row.
    pub fn at_row(&self, row: &CellRow, message: impl Into<String>) -> Problem {
        Problem::at(&self.source, row.span, message)
    }

    /// A cell's text; empty where the table lacks the column.
    pub fn text<'a>(&self, row: &'a CellRow, column: &str) -> &'a str {
        let at = self.header.iter().position(|h| h == column);
        at.and_then(|at| row.cells.get(at))
            .map_or("", String::as_str)
    }

    /// A cell as a whole number from 1 on.
    pub fn size(&self, row: &CellRow, column: &str) -> Result<u64, Problem> {
        let text = self.text(row, column);
        match text.parse::<u64>() {
            Ok(0) => Err(self.wrong(row, column, text, "a whole number, 1 or more")),
            Ok(size) if size > 1 << 40 => {
                Err(self.wrong(row, column, text, "a whole number up to 2^40"))
            }
            Ok(size) => Ok(size),
            Err(_) => Err(self.wrong(row, column, text, "a whole number, 1 or more")),
        }
    }

    /// A cell as a measured value: above 0. Empty: none.
    pub fn measured(&self, row: &CellRow, column: &str) -> Result<Option<f64>, Problem> {
        let text = self.text(row, column);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value > 0.0 => Ok(Some(value)),
            _ => Err(self.wrong(row, column, text, "a number above 0")),
        }
    }

    /// A cell that is 0 or 1.
    pub fn flag(&self, row: &CellRow, column: &str) -> Result<bool, Problem> {
        match self.text(row, column) {
            "0" => Ok(false),
            "1" => Ok(true),
            text => Err(self.wrong(row, column, text, "0 or 1")),
        }
    }

    /// A cell that is one of these.
    pub fn choice<'c>(
        &self,
        row: &CellRow,
        column: &str,
        known: &[&'c str],
    ) -> Result<&'c str, Problem> {
        let text = self.text(row, column);
        let found = known.iter().find(|k| **k == text).copied();
        found.ok_or_else(|| {
            self.wrong(row, column, text, "one of the operations below")
                .help(did_you_mean(text, known.iter().copied()))
        })
    }

    /// A cell that is not what it should be.
    pub fn wrong(&self, row: &CellRow, column: &str, found: &str, want: &str) -> Problem {
        let found = match found {
            "" => "nothing".to_string(),
            text => format!("`{text}`"),
        };
        self.at_row(
            row,
            format!(
                "row {}, field `{column}`: {found} is not {want}",
                row.number
            ),
        )
    }
}
