//! Reference tables: each row is run, each column compared.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, Source, did_you_mean};
use rayon::prelude::*;
use serde_json::Value;

use super::{
    data,
    experiment::{Column, Experiment, Table},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use crate::{
    catalog::Catalog,
    report::{Report, combine},
    request::Request,
    units::{length as length_text, parse_length},
};

struct Row {
    label: String,
    model: Option<String>,
    length: u64,
    cells: BTreeMap<String, String>,
}

/// Runs every row of the reference and compares.
pub(super) fn run(experiment: &Experiment, table: &Table, catalog: &Catalog) -> Result<ExperimentResult, Problems> {
    let at = |problem: Problem| match problem.place {
        Some(_) => problem,
        None => Problem { place: Some((experiment.source.clone(), table.reference.span)), ..problem },
    };
    let name = table.reference.text()?;
    let source = data(name, experiment.beside.as_deref()).map_err(at)?;
    let mut rows = read(&source, table)?;
    let referenced = rows.len();
    for (model, lengths) in &table.also {
        for length in lengths {
            rows.push(Row {
                label: format!("{model} {}", length_text(*length)),
                model: Some(model.clone()),
                length: *length,
                cells: BTreeMap::new(),
            });
        }
    }
    let reports: Vec<Result<Value, Problems>> =
        rows.par_iter().map(|row| run_row(experiment, table, row, catalog).map(|r| r.to_json())).collect();
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for report in reports {
        found.extend(problems.absorb(report));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut columns = Vec::new();
    for column in &table.columns {
        let mut compared = Vec::new();
        for (index, (row, report)) in rows.iter().zip(&found).enumerate() {
            let found = number_at(report, &column.value)
                .map_err(|p| Problem { place: Some((experiment.source.clone(), table.reference.span)), ..p })?;
            let expected = (index < referenced).then(|| cell(&source, row, &column.column)).transpose()?;
            compared.push(RowResult { row: row.label.clone(), expected, found, tolerance: tolerance(column, row.length) });
        }
        columns.push(ColumnResult { column: column.column.clone(), bound: column.bound, rows: compared });
    }
    Ok(ExperimentResult { name: experiment.name.clone(), columns, unreferenced: rows.len() - referenced })
}

fn tolerance(column: &Column, length: u64) -> f64 {
    let fit = column.tolerances.iter().filter(|(up_to, _)| length <= *up_to).min_by_key(|(up_to, _)| *up_to);
    fit.map_or(0.0, |(_, tolerance)| *tolerance)
}

/// A number in a report, by its path.
pub(super) fn number_at(report: &Value, path: &str) -> Result<f64, Problem> {
    let mut at = report;
    for step in path.split('.') {
        at = at.get(step).ok_or_else(|| {
            let known: Vec<&str> = at.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
            Problem::nowhere(format!("a report has no value `{path}`: `{step}` is not there"))
                .help(did_you_mean(step, known.iter().copied()))
        })?;
    }
    at.as_f64().ok_or_else(|| Problem::nowhere(format!("`{path}` of a report is no number")))
}

fn cell(source: &Source, row: &Row, column: &str) -> Result<f64, Problem> {
    let text = row.cells.get(column).ok_or_else(|| {
        Problem::nowhere(format!("{}: there is no column `{column}`", source.name()))
            .help(did_you_mean(column, row.cells.keys().map(String::as_str)))
    })?;
    text.trim().parse().map_err(|_| {
        Problem::nowhere(format!("{}: row {}, column `{column}`: {text:?} is no number", source.name(), row.label))
    })
}

fn read(source: &Source, table: &Table) -> Result<Vec<Row>, Problems> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(source.text().as_bytes());
    let bad = |e: csv::Error| Problem::nowhere(format!("{}: {e}", source.name()));
    let header: Vec<String> = reader.headers().map_err(bad)?.iter().map(|h| h.trim().to_string()).collect();
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(bad)?;
        let cells: BTreeMap<String, String> =
            header.iter().cloned().zip(record.iter().map(str::to_string)).collect();
        let get = |column: &str| {
            cells.get(column).cloned().ok_or_else(|| {
                Problem::nowhere(format!("{}: there is no column `{column}`", source.name()))
                    .help(did_you_mean(column, header.iter().map(String::as_str)))
            })
        };
        let model = table.model.as_deref().map(get).transpose()?.map(|m| m.trim().to_lowercase());
        let length = match (&table.length_column, table.length) {
            (Some(column), _) => {
                let text = get(column)?;
                parse_length(&text).map_err(|m| {
                    Problem::nowhere(format!("{}: row {}, column `{column}`: {m}", source.name(), index + 1))
                })?
            }
            (None, Some(length)) => length,
            (None, None) => 1,
        };
        let mut label = format!("{} {}", model.as_deref().unwrap_or("-"), length_text(length));
        for (_, expr) in &table.set {
            if let einflow_spec::expr::Expr::Name { name, .. } = expr
                && let Some(value) = cells.get(name)
                && !label.contains(&format!(" {name}="))
            {
                label.push_str(&format!(" {name}={value}"));
            }
        }
        rows.push(Row { label, model, length, cells });
    }
    Ok(rows)
}

/// Runs one row: the sum of its runs, with the accelerator's fields set, and grown where the experiment says so.
fn run_row(experiment: &Experiment, table: &Table, row: &Row, catalog: &Catalog) -> Result<Report, Problems> {
    let sizes = match &row.model {
        Some(model) => catalog.model(model, experiment.beside.as_deref())?.sizes(row.length),
        None => BTreeMap::new(),
    };
    let lookup = |name: &str| {
        let cell = row.cells.get(name).and_then(|c| c.trim().parse::<i128>().ok());
        cell.or_else(|| sizes.get(name).map(|v| i128::from(*v)))
    };
    let known = || row.cells.keys().map(String::as_str).chain(sizes.keys().map(String::as_str)).collect();
    let mut overrides = Vec::new();
    for (path, expr) in &table.set {
        overrides.push((path.clone(), expr.whole(&experiment.source, &lookup, &known)? as f64));
    }
    let Some(grow) = &table.grow else { return sum(table, row, &overrides, catalog) };
    let mut value = grow.from.whole(&experiment.source, &lookup, &known)? as f64;
    loop {
        let mut with = overrides.clone();
        with.push((grow.field.clone(), value));
        let report = sum(table, row, &with, catalog)?;
        let memory: f64 = report.blocks.iter().flat_map(|b| b.memory.values()).map(|t| t.as_f64()).sum();
        let compute: f64 = report.blocks.iter().map(|b| b.compute as f64).sum();
        if memory <= compute || value > 2f64.powi(50) {
            return Ok(report);
        }
        value *= 2.0;
    }
}

fn sum(table: &Table, row: &Row, overrides: &[(String, f64)], catalog: &Catalog) -> Result<Report, Problems> {
    let mut reports = Vec::new();
    for run in &table.runs {
        let request = Request {
            model: row.model.clone(),
            length: Some(row.length),
            overrides: overrides.to_vec(),
            ..run.clone()
        };
        reports.push((*catalog.report(format!("{request:?}"), || request.run(catalog))?).clone());
    }
    combine(reports).ok_or_else(|| Problem::nowhere("a count overflows 128 bits").into())
}
