//! The engines against each other: every run's miniature on the array engine.

use einflow_spec::{Problem, Problems};
use rayon::prelude::*;

use super::{
    experiment::{Bound, Engines, Experiment},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use crate::runs::at;
use einflow_engine::{catalog::Catalog, request::Request};
use einflow_engine::{
    check::{Depth, miniature::Miniature},
    units::length as length_text,
};

pub(super) fn run(
    experiment: &Experiment,
    engines: &Engines,
    catalog: &Catalog,
) -> Result<ExperimentResult, Problems> {
    let mut requests = Vec::new();
    for model in &engines.models {
        for length in &engines.lengths {
            for run in &engines.runs {
                requests.push(Request {
                    beside: experiment.beside.clone(),
                    ..at(run, Some(model), Some(*length))
                });
            }
        }
    }
    let done: Vec<Result<(String, Miniature), Problems>> = requests
        .par_iter()
        .map(|request| {
            let label = format!(
                "{} {} {}",
                request.mapping,
                request.model.as_deref().unwrap_or("-"),
                length_text(request.length.unwrap_or(0))
            );
            let mapped = request.bind(catalog)?;
            let small = &catalog.check(&mapped, Depth::Structure).miniature;
            let small = small.as_ref();
            let small = small.map_err(|e| Problem::nowhere(format!("{label}: {e}")))?;
            Ok((label, small.clone()))
        })
        .collect();
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for one in done {
        found.extend(problems.absorb_new(one));
    }
    type Cell<'c> = &'c dyn Fn(&Miniature) -> (f64, f64);
    let column = |name: &str, bound: Bound, tolerance: f64, cell: Cell<'_>| ColumnResult {
        column: name.into(),
        bound,
        rows: found
            .iter()
            .map(|(label, m)| {
                let (expected, found) = cell(m);
                RowResult {
                    row: label.clone(),
                    expected: Some(expected),
                    found,
                    tolerance,
                }
            })
            .collect(),
    };
    let columns = vec![
        column("cycles: array, cycle", Bound::Within, 0.0, &|m| {
            (m.cycles.1 as f64, m.cycles.0 as f64)
        }),
        column("bits of the interpreter's", Bound::Within, 0.0, &|m| {
            (1.0, f64::from(u8::from(m.as_interpreted)))
        }),
        column("error of values", Bound::AtMost, engines.tolerance, &|m| {
            (0.0, m.errors.max_rel)
        }),
    ];
    problems.into_result(Some(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes: Vec::new(),
    }))
}
