//! Reference tables: each row is run, each column compared.

use std::collections::BTreeMap;

use einflow_spec::{Name, Problem, Problems, Source, Span, did_you_mean};
use rayon::prelude::*;
use serde_json::Value;

use super::{
    data,
    experiment::{Column, Experiment, Further, Table},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use crate::runs::at;
use einflow_engine::{
    catalog::Catalog,
    report::{Report, combine},
    units::{LENGTHS, length as length_text, parse_length},
};

struct Row {
    label: String,
    model: Option<String>,
    length: u64,
    cells: BTreeMap<String, Cell>,
}

/// Runs every row of the reference and compares.
pub(super) fn run(
    experiment: &Experiment,
    table: &Table,
    catalog: &Catalog,
) -> Result<ExperimentResult, Problems> {
    let at = |problem: Problem| match problem.place {
        Some(_) => problem,
        None => Problem {
            place: Some((experiment.source.clone(), table.reference.span)),
            ..problem
        },
    };
    let source = data(&table.reference.value, experiment.beside.as_deref()).map_err(at)?;
    let mut rows = read(experiment, &source, table)?;
    let referenced = rows.len();
    for Further { model, lengths } in &table.also {
        for length in lengths {
            rows.push(Row {
                label: format!("{model} {}", length_text(*length)),
                model: Some(model.clone()),
                length: *length,
                cells: BTreeMap::new(),
            });
        }
    }
    let reports: Vec<Result<Value, Problems>> = rows
        .par_iter()
        .map(|row| run_row(experiment, table, row, catalog).map(|r| r.to_json()))
        .collect();
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for report in reports {
        found.extend(problems.absorb_new(report));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut columns = Vec::new();
    for column in &table.columns {
        let mut compared = Vec::new();
        for (index, (row, report)) in rows.iter().zip(&found).enumerate() {
            let found = problems
                .absorb(number_at(report, experiment, &column.value).map_err(Problems::from));
            let expected = (index < referenced)
                .then(|| cell(experiment, &source, row, &column.column))
                .transpose();
            let expected = problems.absorb(expected.map_err(Problems::from));
            let Some((found, expected)) = found.zip(expected) else {
                // The next row would say the same of a name.
                break;
            };
            compared.push(RowResult {
                row: row.label.clone(),
                expected,
                found,
                tolerance: tolerance(column, row.length),
            });
        }
        columns.push(ColumnResult {
            column: column.column.text.clone(),
            bound: column.bound,
            rows: compared,
        });
    }
    problems.into_result(Some(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: rows.len() - referenced,
        notes: Vec::new(),
    }))
}

fn tolerance(column: &Column, length: u64) -> f64 {
    let fit = column
        .tolerances
        .iter()
        .filter(|tolerance| length <= tolerance.up_to)
        .min_by_key(|tolerance| tolerance.up_to);
    fit.map_or(0.0, |fit| fit.tolerance)
}

/// A number in a report, by its path.
pub(super) fn number_at(
    report: &Value,
    experiment: &Experiment,
    path: &Name,
) -> Result<f64, Problem> {
    let problem = |message: String| Problem::at(&experiment.source, path.span, message);
    let mut at = report;
    for step in path.text.split('.') {
        at = at.get(step).ok_or_else(|| {
            let known: Vec<&str> = at
                .as_object()
                .map(|o| o.keys().map(String::as_str).collect())
                .unwrap_or_default();
            problem(format!(
                "a report has no value `{}`: `{step}` is not there",
                path.text
            ))
            .help(did_you_mean(step, known.iter().copied()))
        })?;
    }
    at.as_f64().ok_or_else(|| {
        let known: Vec<&str> = at
            .as_object()
            .map(|o| o.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let help = if known.is_empty() {
            String::new()
        } else {
            format!("add one of .{}", known.join(", ."))
        };
        problem(format!("`{}` of a report is no number", path.text)).help(help)
    })
}

/// A cell of the reference and its place there.
struct Cell {
    text: String,
    span: Span,
}

fn cell(
    experiment: &Experiment,
    source: &Source,
    row: &Row,
    column: &Name,
) -> Result<f64, Problem> {
    let cell = row.cells.get(&column.text).ok_or_else(|| {
        Problem::at(
            &experiment.source,
            column.span,
            format!("{} has no column `{}`", source.name(), column.text),
        )
        .help(did_you_mean(
            &column.text,
            row.cells.keys().map(String::as_str),
        ))
    })?;
    let number = cell
        .text
        .trim()
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite());
    number.ok_or_else(|| {
        let message = format!(
            "column `{}` of {}: {:?} is no number",
            column.text, row.label, cell.text
        );
        Problem::at(source, cell.span, message)
            .help("the experiment compares this column: give it a finite number")
    })
}

fn read(experiment: &Experiment, source: &Source, table: &Table) -> Result<Vec<Row>, Problems> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(source.text().as_bytes());
    let bad = |e: csv::Error| {
        let at = e.position().map_or(0, |p| p.byte() as usize);
        Problem::at(source, Span::new(at, at), format!("not valid CSV: {e}"))
    };
    let header: Vec<String> = reader
        .headers()
        .map_err(bad)?
        .iter()
        .map(|h| h.trim().to_string())
        .collect();
    let mut problems = Problems::new();
    for column in table
        .model
        .iter()
        .chain(&table.length_column)
        .filter(|c| !header.contains(&c.text))
    {
        problems.push(
            Problem::at(
                &experiment.source,
                column.span,
                format!("{} has no column `{}`", source.name(), column.text),
            )
            .help(did_you_mean(
                &column.text,
                header.iter().map(String::as_str),
            )),
        );
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let mut start = record.position().map_or(0, |p| p.byte() as usize);
        let line = source
            .text()
            .get(start..)
            .and_then(|t| t.lines().next())
            .unwrap_or_default();
        let whole = Span::new(start, start + line.len());
        if record.len() > header.len() {
            problems.push(
                Problem::at(
                    source,
                    whole,
                    format!(
                        "this row has {} cells under {} columns",
                        record.len(),
                        header.len()
                    ),
                )
                .help("quote a cell that holds a comma"),
            );
        }
        let mut cells = BTreeMap::new();
        for (name, text) in header.iter().zip(record.iter()) {
            // Between quotes, cells and text differ in length.
            let span = if line.contains('"') {
                whole
            } else {
                Span::new(start, start + text.len())
            };
            start += text.len() + 1;
            cells.insert(
                name.clone(),
                Cell {
                    text: text.to_string(),
                    span,
                },
            );
        }
        let get = |column: &Name| {
            let missing = || {
                Problem::at(
                    source,
                    whole,
                    format!("this row has no cell under `{}`", column.text),
                )
            };
            header
                .contains(&column.text)
                .then(|| cells.get(&column.text).ok_or_else(missing))
        };
        let mut needed = |column: &Option<Name>| {
            let found = column.as_ref().and_then(get)?;
            problems
                .absorb(found.map_err(Problems::from))
                .map(|c| (c.text.trim().to_string(), c.span))
        };
        let model = needed(&table.model).map(|(text, _)| text.to_lowercase());
        let length = match needed(&table.length_column) {
            Some((text, span)) => {
                let length = parse_length(&text)
                    .map_err(|m| Problems::from(Problem::at(source, span, m).help(LENGTHS)));
                problems.absorb(length).unwrap_or(1)
            }
            None => table.length.unwrap_or(1),
        };
        let mut label = format!(
            "{} {}",
            model.as_deref().unwrap_or("-"),
            length_text(length)
        );
        for (_, expr) in &table.set {
            if let einflow_spec::expr::Expr::Name { name, .. } = expr
                && let Some(value) = cells.get(name)
                && !label.contains(&format!(" {name}="))
            {
                label.push_str(&format!(" {name}={}", value.text));
            }
        }
        rows.push(Row {
            label,
            model,
            length,
            cells,
        });
    }
    if rows.is_empty() && problems.is_empty() {
        problems.push(
            Problem::at(
                &experiment.source,
                table.reference.span,
                format!("{} has no rows to compare", source.name()),
            )
            .help("a row for each run follows the header"),
        );
    }
    problems.into_result(Some(rows))
}

/// Runs one row: the sum of its runs, with the accelerator's fields set, and grown where the experiment says so.
fn run_row(
    experiment: &Experiment,
    table: &Table,
    row: &Row,
    catalog: &Catalog,
) -> Result<Report, Problems> {
    let sizes = match &row.model {
        Some(model) => catalog
            .model(model, experiment.beside.as_deref(), &[])?
            .sizes(row.length),
        None => BTreeMap::new(),
    };
    let lookup = |name: &str| {
        let cell = row
            .cells
            .get(name)
            .and_then(|c| c.text.trim().parse::<i128>().ok());
        cell.or_else(|| sizes.get(name).map(|v| i128::from(*v)))
    };
    let known = || {
        row.cells
            .keys()
            .map(String::as_str)
            .chain(sizes.keys().map(String::as_str))
            .collect()
    };
    let mut overrides = Vec::new();
    for (path, expr) in &table.set {
        overrides.push((
            path.text.clone(),
            expr.whole(&experiment.source, &lookup, &known)? as f64,
        ));
    }
    let Some(grow) = &table.grow else {
        return sum(experiment, table, row, &overrides, catalog);
    };
    let mut value = grow.from.whole(&experiment.source, &lookup, &known)? as f64;
    loop {
        let mut with = overrides.clone();
        with.push((grow.field.clone(), value));
        let report = sum(experiment, table, row, &with, catalog)?;
        let memory: f64 = report
            .blocks
            .iter()
            .flat_map(|b| b.memory.values())
            .map(|t| t.as_f64())
            .sum();
        let compute: f64 = report.blocks.iter().map(|b| b.compute as f64).sum();
        if memory <= compute || value > 2f64.powi(50) {
            return Ok(report);
        }
        value *= 2.0;
    }
}

fn sum(
    experiment: &Experiment,
    table: &Table,
    row: &Row,
    overrides: &[(String, f64)],
    catalog: &Catalog,
) -> Result<Report, Problems> {
    let mut reports = Vec::new();
    for run in &table.runs {
        let mut request = at(run, row.model.as_deref(), Some(row.length));
        request.overrides.extend_from_slice(overrides);
        request.engine = table.engine;
        request.beside.clone_from(&experiment.beside);
        reports.push((*catalog.report(request.key(), || request.run(catalog))?).clone());
    }
    combine(reports).ok_or_else(|| Problem::nowhere("a count overflows 128 bits").into())
}
