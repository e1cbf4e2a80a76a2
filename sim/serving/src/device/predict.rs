//! Predictions beside measured times, row by row.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, quantity::DollarsPerHour};

use super::{Answerer, Step, fit, table::Table};

/// A table with its predictions.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// The device.
    pub device: String,
    /// The columns of the table, as they were.
    pub header: Vec<String>,
    /// The columns that are predicted: of the table, and the name of the prediction.
    pub columns: Vec<(String, String)>,
    /// The rows.
    pub rows: Vec<PredictedRow>,
    /// Rows of other devices, left out.
    pub others: usize,
}

/// A row with its predictions.
#[derive(Clone, Debug)]
pub struct PredictedRow {
    /// Its cells, as they were.
    pub cells: Vec<String>,
    /// Its group.
    pub group: String,
    /// What each of [`Predicted::columns`] should be (microseconds, joules, watts); none: the row asks nothing there.
    pub predicted: Vec<Option<f64>>,
    /// What was measured there.
    pub measured: Vec<Option<f64>>,
    /// What makes the predictions less sure.
    pub flags: Vec<String>,
}

/// Errors of a group of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupError {
    /// The group.
    pub group: String,
    /// The predicted column.
    pub column: String,
    /// Compared rows.
    pub rows: usize,
    /// Mean magnitude of the relative error.
    pub mean: f64,
    /// The largest, with its sign.
    pub worst: f64,
}

impl PredictedRow {
    /// Relative errors where something was measured.
    pub fn errors(&self) -> Vec<Option<f64>> {
        let pairs = self.predicted.iter().zip(&self.measured);
        pairs.map(|(p, m)| Some((*p)? / (*m)? - 1.0)).collect()
    }
}

/// The columns that `predicted_us` answers.
const MAIN: [&str; 3] = ["us", "total_us", "us_graph"];

/// Predicts every row of a table.
///
/// # Errors
/// Rows that the device cannot answer, each by its number; no row of the device.
pub fn predict(answerer: &Answerer, table: &Table) -> Result<Predicted, Problems> {
    let device = &answerer.device;
    let mut columns: Vec<(String, String)> = Vec::new();
    for row in &table.rows {
        for (name, ..) in &row.columns {
            if !columns.iter().any(|(c, _)| c == name) {
                let prediction = match MAIN.contains(&name.as_str()) {
                    true => "predicted_us".to_string(),
                    false => format!("predicted_{name}"),
                };
                columns.push((name.clone(), prediction));
            }
        }
        if row.energy.is_some() {
            for name in ["joule_per_call", "mean_watt"] {
                if !columns.iter().any(|(c, _)| c == name) {
                    columns.push((name.into(), format!("predicted_{name}")));
                }
            }
        }
    }
    // Parts without a whole: their sum answers for the row.
    let summed = !columns.iter().any(|(c, _)| MAIN.contains(&c.as_str()))
        && table.rows.iter().all(|r| r.energy.is_none());
    let mut problems = Problems::new();
    let (mut rows, mut others) = (Vec::new(), 0);
    for row in &table.rows {
        if !row.of(&device.name) {
            others += 1;
            continue;
        }
        let cell = &table.cells.rows[row.at];
        let mut out = PredictedRow {
            cells: cell.cells.clone(),
            group: row.group.clone(),
            predicted: vec![None; columns.len()],
            measured: vec![None; columns.len()],
            flags: Vec::new(),
        };
        let place = |name: &str| columns.iter().position(|(c, _)| c == name);
        for (name, measured, task) in &row.columns {
            let Some(at) = place(name) else { continue };
            out.measured[at] = *measured;
            match answerer.time(task) {
                Ok(answer) => {
                    out.predicted[at] = Some(answer.time.0 * 1e6);
                    for flag in answer.flags {
                        if !out.flags.contains(&flag) {
                            out.flags.push(flag);
                        }
                    }
                }
                Err(problem) => problems.push(Problem {
                    message: format!("row {}: {}", cell.number, problem.message),
                    ..table
                        .cells
                        .at_row(cell, "")
                        .help(problem.help.unwrap_or_default())
                }),
            }
        }
        if let Some(measured) = &row.energy {
            let drawn = match &measured.task {
                None => device.power.as_ref().map(|power| (None, power.idle.0)),
                Some(task) => answerer.time(task).ok().and_then(|answer| {
                    let Step::Call(call) = task.steps.first()? else {
                        return None;
                    };
                    let found = answerer.energy(&call.kernel, answer.time).ok()??;
                    Some((Some(found.0.0), found.1.0))
                }),
            };
            if drawn.is_none()
                && measured.task.is_some()
                && out.predicted.iter().any(Option::is_some)
            {
                problems.push(table.cells.at_row(
                    cell,
                    format!(
                        "row {}: {} does not say what it draws",
                        cell.number, device.name
                    ),
                ));
            }
            let values = [
                ("joule_per_call", measured.joules, drawn.and_then(|d| d.0)),
                ("mean_watt", measured.watts, drawn.map(|d| d.1)),
            ];
            for (name, found, predicted) in values {
                if let Some(at) = place(name) {
                    out.measured[at] = found;
                    out.predicted[at] = predicted;
                }
            }
        }
        rows.push(out);
    }
    if rows.is_empty() && problems.is_empty() {
        let mut named: Vec<&str> = table
            .rows
            .iter()
            .filter_map(|r| r.device.as_deref())
            .collect();
        named.sort_unstable();
        named.dedup();
        problems.push(
            table
                .cells
                .at_header(format!("the table has no row of {}", device.name))
                .help(format!("it has rows of {}", named.join(", "))),
        );
    }
    if summed {
        columns.push((String::new(), "predicted_us".into()));
        for row in &mut rows {
            let sum = row.predicted.iter().flatten().sum();
            let measured: Option<f64> = row.measured.iter().copied().sum();
            row.predicted.push(Some(sum));
            row.measured.push(measured);
        }
    }
    problems.into_result(Some(Predicted {
        device: device.name.clone(),
        header: table.cells.header.clone(),
        columns,
        rows,
        others,
    }))
}

impl Predicted {
    /// Adds a column of what each row costs on a device of this price: `predicted_dollars`.
    pub fn add_cost(&mut self, price: DollarsPerHour) {
        let main = self.columns.iter().position(|(_, p)| p == "predicted_us");
        self.columns
            .push((String::new(), "predicted_dollars".into()));
        for row in &mut self.rows {
            let us = main.and_then(|at| row.predicted[at]);
            row.predicted
                .push(us.map(|us| us * 1e-6 / 3600.0 * price.0));
            row.measured.push(None);
        }
    }

    /// Mean and worst error of each group and predicted column, and over all groups (an empty name).
    pub fn groups(&self) -> Vec<GroupError> {
        let mut found: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
        for row in &self.rows {
            for (at, error) in row.errors().into_iter().enumerate() {
                if let Some(error) = error {
                    found
                        .entry((at, row.group.clone()))
                        .or_default()
                        .push(error);
                    found.entry((at, String::new())).or_default().push(error);
                }
            }
        }
        found
            .into_iter()
            .map(|((at, group), errors)| GroupError {
                group,
                column: self.columns[at].1.clone(),
                rows: errors.len(),
                mean: fit::size(&errors).0,
                worst: errors
                    .iter()
                    .copied()
                    .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a }),
            })
            .collect()
    }

    /// Mean error of a predicted column over all rows.
    pub fn mean(&self, column: &str) -> Option<f64> {
        let all = self.groups();
        let found = all
            .iter()
            .find(|g| g.group.is_empty() && g.column == column);
        found.map(|g| g.mean)
    }
}
