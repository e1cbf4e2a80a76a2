//! What experiments found: data, and its renderings.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::experiment::Bound;
use einflow_output::render::{WIDTH, wrapped};

/// Results of all experiments that ran.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In order of name.
    pub experiments: Vec<ExperimentResult>,
}

/// Results of one experiment.
#[derive(Clone, Debug)]
pub struct ExperimentResult {
    /// Its name.
    pub name: String,
    /// Its columns, each with its rows.
    pub columns: Vec<ColumnResult>,
    /// Rows computed beyond the reference's.
    pub unreferenced: usize,
    /// What there is to say besides numbers.
    pub notes: Vec<String>,
}

/// One compared column.
#[derive(Clone, Debug)]
pub struct ColumnResult {
    /// Its name.
    pub column: String,
    /// How its values must stand to the reference.
    pub bound: Bound,
    /// Its rows.
    pub rows: Vec<RowResult>,
}

/// One compared value.
#[derive(Clone, Debug)]
pub struct RowResult {
    /// What the row is about (model, length; a case).
    pub row: String,
    /// The reference; `None` for a row that has none.
    pub expected: Option<f64>,
    /// What the run gave.
    pub found: f64,
    /// Largest relative error that is accepted.
    pub tolerance: f64,
}

impl RowResult {
    /// (found - expected) / |expected|; for a reference of 0, the difference itself.
    pub fn error(&self) -> Option<f64> {
        self.expected.map(|e| {
            if e == 0.0 {
                self.found
            } else {
                (self.found - e) / e.abs()
            }
        })
    }

    fn passes(&self, bound: Bound) -> bool {
        match (self.error(), bound) {
            (None, _) | (_, Bound::Report) => true,
            (Some(error), Bound::Within) => error.abs() <= self.tolerance,
            (Some(error), Bound::AtMost) => error <= self.tolerance,
            (Some(error), Bound::AtLeast) => error >= -self.tolerance,
        }
    }
}

impl ColumnResult {
    /// Whether all rows are in bounds.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|r| r.passes(self.bound))
    }

    fn errors(&self) -> Vec<f64> {
        self.rows.iter().filter_map(RowResult::error).collect()
    }

    /// The error of largest magnitude, with its sign.
    pub fn worst(&self) -> f64 {
        self.errors().into_iter().fold(0.0, |a: f64, b| {
            if b.abs() > a.abs() || b.is_nan() {
                b
            } else {
                a
            }
        })
    }

    /// The mean magnitude of the errors.
    pub fn mean(&self) -> f64 {
        let errors = self.errors();
        if errors.is_empty() {
            0.0
        } else {
            errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len() as f64
        }
    }
}

fn error_text(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else {
        format!("{value:.1e}")
    }
}

impl Outcome {
    /// Whether everything is in bounds.
    pub fn passed(&self) -> bool {
        self.experiments
            .iter()
            .all(|e| e.columns.iter().all(ColumnResult::passed))
    }

    /// A table of each column's worst and mean error.
    pub fn to_table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH);
        table.set_header([
            "experiment",
            "column",
            "rows",
            "worst",
            "mean",
            "allowed",
            "",
        ]);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let (mut columns, mut rows, mut failed) = (0, 0, Vec::new());
        for experiment in &self.experiments {
            let mut name = experiment.name.clone();
            for column in &experiment.columns {
                let compared = column.rows.iter().filter(|r| r.expected.is_some()).count();
                columns += 1;
                rows += compared;
                let loosest = column.rows.iter().map(|r| r.tolerance).fold(0.0, f64::max);
                let allowed = match column.bound {
                    Bound::Within => error_text(loosest),
                    Bound::AtMost => format!("<= {}", error_text(loosest)),
                    Bound::AtLeast => format!(">= {}", error_text(-loosest)),
                    Bound::Report => "-".into(),
                };
                let verdict = match (column.bound, column.passed()) {
                    (Bound::Report, _) => "shown",
                    (_, true) => "ok",
                    (_, false) => "FAILED",
                };
                table.add_row([
                    std::mem::take(&mut name),
                    column.column.clone(),
                    compared.to_string(),
                    error_text(column.worst()),
                    error_text(column.mean()),
                    allowed,
                    verdict.into(),
                ]);
                if !column.passed() {
                    failed.extend(column.rows.iter().filter(|r| !r.passes(column.bound)).map(|r| {
                        wrapped(&format!(
                            "FAILED {} {} at {}: {} where {} was expected, error {} of {} allowed",
                            experiment.name,
                            column.column,
                            r.row,
                            r.found,
                            r.expected.unwrap_or(f64::NAN),
                            error_text(r.error().unwrap_or(f64::NAN)),
                            error_text(r.tolerance),
                        ))
                    }));
                }
            }
        }
        for (i, column) in table.column_iter_mut().enumerate() {
            if (2..6).contains(&i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut out: String = table
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        let beyond: usize = self.experiments.iter().map(|e| e.unreferenced).sum();
        out.push_str(&wrapped(&format!(
            "{} experiments, {columns} columns, {rows} values compared{}",
            self.experiments.len(),
            if beyond > 0 {
                format!("; {beyond} further runs without a reference")
            } else {
                String::new()
            },
        )));
        for note in self.experiments.iter().flat_map(|e| &e.notes) {
            out.push_str(&wrapped(note));
        }
        const SHOWN: usize = 20;
        let more = failed.len().saturating_sub(SHOWN);
        out.extend(failed.into_iter().take(SHOWN));
        if more > 0 {
            out.push_str(&format!("... and {more} more (--format json has all)\n"));
        }
        out
    }

    /// Every row as JSON.
    pub fn to_json(&self) -> Value {
        let mut rows = Vec::new();
        for experiment in &self.experiments {
            for column in &experiment.columns {
                for row in &column.rows {
                    rows.push(json!({
                        "experiment": experiment.name,
                        "column": column.column,
                        "row": row.row,
                        "expected": row.expected,
                        "found": row.found,
                        "error": row.error(),
                        "tolerance": row.tolerance,
                        "passed": row.passes(column.bound),
                    }));
                }
            }
        }
        let notes: Vec<&String> = self.experiments.iter().flat_map(|e| &e.notes).collect();
        json!({"passed": self.passed(), "rows": rows, "notes": notes})
    }

    /// Every row as CSV.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
        let header = [
            "experiment",
            "column",
            "row",
            "expected",
            "found",
            "error",
            "tolerance",
            "passed",
        ];
        let mut rows = vec![header.map(String::from)];
        for experiment in &self.experiments {
            for column in &experiment.columns {
                rows.extend(column.rows.iter().map(|row| {
                    [
                        experiment.name.clone(),
                        column.column.clone(),
                        row.row.clone(),
                        number(row.expected),
                        row.found.to_string(),
                        number(row.error()),
                        row.tolerance.to_string(),
                        row.passes(column.bound).to_string(),
                    ]
                }));
            }
        }
        for row in rows {
            // Writing to memory cannot fail.
            let _ = writer.write_record(&row);
        }
        writer
            .into_inner()
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}
