//! Experiments: runs held against published and measured results.

mod claims;
mod devices;
mod engines;
mod experiment;
mod means;
mod outcome;
mod systolic;
mod table;
pub mod timeloop;

use std::sync::LazyLock;

use einflow_spec::{FieldRow, Library, Origin, Problem, Problems, Record, Source};
use rayon::prelude::*;

use einflow_engine::catalog::Catalog;
use einflow_output::plot::Figure;
use einflow_serving::data::data;
use experiment::{Cases, Experiment, Kind};
pub use outcome::{ColumnResult, ExperimentResult, Outcome, RowResult};

static EXPERIMENTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/experiments.rs"));

/// The experiments that travel in the binary.
pub fn experiments() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("experiment", "ron", EXPERIMENTS).marked("kind"));
    &LIBRARY
}

/// Checks the form of an experiment file.
///
/// # Errors
/// Every mistake in it.
pub fn parse_experiment(source: &Source) -> Result<(), Problems> {
    Experiment::parse(source, None).map(|_| ())
}

/// The fields of an experiment file, by the headings of the page on them.
pub fn tables() -> Vec<(&'static str, Vec<FieldRow>)> {
    vec![
        ("## A file", Experiment::fields()),
        ("## Tables", experiment::Table::fields()),
        ("### A column", experiment::Column::fields()),
        ("### A tolerance", experiment::Tolerance::fields()),
        ("### A growing field", experiment::Grow::fields()),
        ("### Further rows", experiment::Further::fields()),
        ("## Means", experiment::Means::fields()),
        ("### A ratio", experiment::Ratio::fields()),
        ("## Loop nests", Cases::fields()),
        ("## Systolic arrays", experiment::Systolic::fields()),
        ("## Devices", experiment::DeviceTable::fields()),
        ("## Devices side by side", experiment::SideBySide::fields()),
        ("## Claims", experiment::Claims::fields()),
        ("### A claim", claims::Claim::fields()),
        ("### A case", claims::Case::fields()),
        ("### A value of a scenario", claims::Measure::fields()),
        ("## Engines", experiment::Engines::fields()),
    ]
}

/// Experiments by name or path; none: the fast set, or all.
fn load(names: &[String], all: bool) -> Result<Vec<Experiment>, Problems> {
    let mut problems = Problems::new();
    let chosen: Vec<String> = if names.is_empty() {
        experiments().names().map(String::from).collect()
    } else {
        names.to_vec()
    };
    let mut loaded: Vec<Experiment> = Vec::new();
    for name in &chosen {
        let found = experiments()
            .find(name, None)
            .map_err(Problems::from)
            .and_then(|(source, origin)| {
                let beside = match origin {
                    Origin::Folder(folder) => Some(folder),
                    Origin::Embedded => None,
                };
                Experiment::parse(&source, beside)
            });
        loaded.extend(problems.absorb(found));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if names.is_empty() && !all {
        loaded.retain(|e| e.fast);
    }
    Ok(loaded)
}

/// Predicted against measured times of the device experiments among these.
///
/// # Errors
/// As [`run`].
pub fn figures(names: &[String], all: bool) -> Result<Vec<Figure>, Problems> {
    let loaded = load(names, all)?;
    let of_devices = loaded.iter().filter_map(|e| match &e.kind {
        Kind::Device(table) => Some((e, table)),
        _ => None,
    });
    of_devices
        .map(|(experiment, table)| {
            let found = devices::predicted(experiment, table)?;
            Ok(einflow_output::plot::predicted(&found, &experiment.name))
        })
        .collect()
}

/// Runs experiments by name or path; none: the fast set, or all.
///
/// # Errors
/// Every mistake in the experiments and in the files that they name; a run that is refused.
pub fn run(names: &[String], all: bool) -> Result<Outcome, Problems> {
    let loaded = load(names, all)?;
    let mut problems = Problems::new();
    let catalog = Catalog::new();
    let results: Vec<Result<ExperimentResult, Problems>> = loaded
        .par_iter()
        .map(|experiment| run_one(experiment, &catalog))
        .collect();
    let mut done = Vec::new();
    for result in results {
        done.extend(problems.absorb(result));
    }
    problems.into_result(Some(Outcome { experiments: done }))
}

fn run_one(experiment: &Experiment, catalog: &Catalog) -> Result<ExperimentResult, Problems> {
    match &experiment.kind {
        Kind::Table(table) => table::run(experiment, table, catalog),
        Kind::Means(means) => means::run(experiment, means, catalog),
        Kind::Timeloop(cases) => timeloop_cases(experiment, cases),
        Kind::Systolic(systolic) => systolic::run(experiment, systolic, catalog),
        Kind::Engines(engines) => engines::run(experiment, engines, catalog),
        Kind::Device(table) => devices::run(experiment, table),
        Kind::Devices(shapes) => devices::side_by_side(experiment, shapes),
        Kind::Claims(claims) => claims::run(experiment, claims),
    }
}

/// Counts the cases of a Timeloop file and compares every value.
fn timeloop_cases(experiment: &Experiment, cases: &Cases) -> Result<ExperimentResult, Problems> {
    let source = data(&cases.file.value, experiment.beside.as_deref()).map_err(|p| Problem {
        place: Some((experiment.source.clone(), cases.file.span)),
        ..p
    })?;
    let results = timeloop::check_cases(source.name(), source.text())?;
    let mut columns: Vec<ColumnResult> = Vec::new();
    for case in &results {
        for value in &case.values {
            let names = [Some(&case.id), value.level.as_ref(), value.tensor.as_ref()];
            let tolerance = match value.expected {
                timeloop::Quantity::Count(_) => cases.tolerance,
                // The last digit of a quotient.
                timeloop::Quantity::Ratio(_) => cases.tolerance.max(f64::EPSILON),
            };
            let row = RowResult {
                row: names
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(" "),
                expected: Some(value.expected.as_f64()),
                found: value.found.as_f64(),
                tolerance,
            };
            match columns.iter_mut().find(|c| c.column == value.what) {
                Some(column) => column.rows.push(row),
                None => columns.push(ColumnResult {
                    column: value.what.to_string(),
                    bound: experiment::Bound::Within,
                    rows: vec![row],
                }),
            }
        }
    }
    Ok(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes: Vec::new(),
    })
}
