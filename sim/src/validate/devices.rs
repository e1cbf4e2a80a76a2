//! Device models held against measured tables: on all rows, on rows that the fit has not seen, and between the points of a grid.

use std::collections::{BTreeMap, BTreeSet};

use einflow_arch::device::{Attention, Kernel, Times};
use einflow_spec::{Problem, Problems, Stored};
use rayon::prelude::*;

use super::{
    data,
    experiment::{Bound, DeviceTable, Experiment, SideBySide},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use einflow_engine::request::Engine;
use einflow_serving::device::{
    Answerer, Call, Launch, Task,
    fit::{self, kept, of_table},
    halves::unseen,
    predict::{GroupError, Predicted, predict},
    profiled::between_points,
    table::Table,
};

/// Draws of the half that a fit sees; any others do as well.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// A mean error that must stay at or below what is allowed.
fn row(what: String, mean: f64, allowed: f64) -> RowResult {
    RowResult {
        row: what,
        expected: Some(0.0),
        found: mean,
        tolerance: allowed,
    }
}

fn load(experiment: &Experiment, spec: &DeviceTable) -> Result<(Answerer, Table), Problems> {
    let beside = experiment.beside.as_deref();
    let answerer = Answerer::load(&spec.device, beside)?;
    let source = data(&spec.table.value, beside).map_err(|p| Problem {
        place: Some((experiment.source.clone(), spec.table.span)),
        ..p
    })?;
    Ok((answerer, Table::read(&source, None)?))
}

/// The table's rows with their predictions.
pub(super) fn predicted(
    experiment: &Experiment,
    spec: &DeviceTable,
) -> Result<Predicted, Problems> {
    let (answerer, table) = load(experiment, spec)?;
    predict(&answerer, &table)
}

pub(super) fn run(
    experiment: &Experiment,
    spec: &DeviceTable,
) -> Result<ExperimentResult, Problems> {
    let (answerer, table) = load(experiment, spec)?;
    let mut columns = Vec::new();
    let mut add = |name: &str, rows: Vec<RowResult>| {
        if !rows.is_empty() {
            columns.push(ColumnResult {
                column: name.to_string(),
                bound: Bound::AtMost,
                rows,
            });
        }
    };
    if spec.all.is_some() || !spec.groups.is_empty() {
        let found = predict(&answerer, &table)?.groups();
        for column in &spec.columns {
            if !found.iter().any(|g| g.column == column.text) {
                let known: BTreeSet<&str> = found.iter().map(|g| g.column.as_str()).collect();
                let message = format!("there is no predicted column `{}`", column.text);
                let problem = Problem::at(&experiment.source, column.span, message);
                return Err(problem
                    .help(einflow_spec::did_you_mean(&column.text, known))
                    .into());
            }
        }
        // Where a column has a limit of its own, the others do not count.
        let own = |g: &GroupError| {
            spec.columns.is_empty() || spec.columns.iter().any(|column| column.text == g.column)
        };
        let found: Vec<GroupError> = found.into_iter().filter(own).collect();
        let of = |name: &str, allowed: f64| -> Vec<RowResult> {
            let groups = found.iter().filter(|g| g.group == name);
            let what = |g: &GroupError| match name {
                "" => g.column.clone(),
                name => format!("{name}: {}", g.column),
            };
            groups.map(|g| row(what(g), g.mean, allowed)).collect()
        };
        if let Some(allowed) = spec.all {
            add("all rows, mean error", of("", allowed));
        }
        let mut rows = Vec::new();
        for (name, allowed) in &spec.groups {
            let group = of(name, *allowed);
            if group.is_empty() {
                let known = found.iter().map(|g| g.group.as_str());
                let known = known.filter(|g| !g.is_empty());
                let problem = Problem::nowhere(format!("the table has no group `{name}`"));
                return Err(Problem {
                    place: Some((experiment.source.clone(), spec.table.span)),
                    ..problem.help(einflow_spec::did_you_mean(name, known))
                }
                .into());
            }
            rows.extend(group);
        }
        add("groups, mean error", rows);
    }
    let device = &answerer.device;
    let known: BTreeMap<String, Vec<f64>> = match &device.times {
        Times::Laws(laws) => laws
            .iter()
            .map(|(name, law)| (name.clone(), law.values.clone()))
            .collect(),
        _ => BTreeMap::new(),
    };
    if spec.half.is_some() || spec.families.is_some() {
        let samples = of_table(&table, &device.name);
        let found: Vec<(String, Result<_, String>)> = samples
            .into_par_iter()
            .map(|(name, samples)| {
                let keep = kept(&name, &known);
                let result = unseen(&name, &device.chip, &samples, &keep, &SEEDS);
                (name, result)
            })
            .collect();
        let (mut half, mut families) = (Vec::new(), Vec::new());
        for (name, result) in found {
            let result = result.map_err(|message| Problem {
                place: Some((experiment.source.clone(), spec.table.span)),
                ..Problem::nowhere(message)
            })?;
            if let Some(allowed) = spec.half {
                half.push(row(name.clone(), result.half, allowed));
            }
            if let (Some(allowed), Some(mean)) = (spec.families, result.families_mean()) {
                families.push(row(name, mean, allowed));
            }
        }
        add("the half not fitted", half);
        add("families left out, mean", families);
    }
    if let Some(allowed) = spec.grid {
        let errors = between_points(device, &table);
        let rows = errors
            .into_iter()
            .map(|(name, errors)| row(name, fit::size(&errors).0, allowed))
            .collect();
        add("between grid points", rows);
    }
    Ok(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes: Vec::new(),
    })
}

/// Attention on several devices, with what bounds each.
pub(super) fn side_by_side(
    experiment: &Experiment,
    spec: &SideBySide,
) -> Result<ExperimentResult, Problems> {
    let shape = |batch: u64, length: u64, causal: bool| Attention {
        batch,
        heads: spec.heads.0,
        key_heads: spec.heads.1,
        width: spec.width,
        value_width: spec.width,
        length,
        causal,
        cached: Stored::BF16,
    };
    let mut cases: Vec<(String, Kernel, &str)> = Vec::new();
    for (batch, length) in &spec.decode {
        let kernel = Kernel::Decode(shape(*batch, *length, false));
        cases.push((
            format!("decode b={batch} l={length}"),
            kernel,
            "decode:cudnn",
        ));
    }
    for (batch, length) in &spec.prefill {
        let kernel = Kernel::Prefill(shape(*batch, *length, false));
        cases.push((
            format!("prefill b={batch} s={length}"),
            kernel,
            "prefill:cudnn",
        ));
    }
    let mut columns = Vec::new();
    for name in &spec.devices {
        for engine in [Engine::Analytic, Engine::Cycle] {
            let mut answerer = Answerer::load(name, experiment.beside.as_deref())?;
            let modelled = answerer.by(engine);
            // What is measured has one answer.
            if !modelled && engine == Engine::Cycle {
                continue;
            }
            let rows = cases
                .par_iter()
                .map(|(what, kernel, law)| {
                    let call = Call {
                        law: (*law).to_string(),
                        kernel: kernel.clone(),
                        flushed: true,
                    };
                    let answer = answerer.time(&Task::alone(call, Launch::Eager))?;
                    let bound = answerer.bound_by(kernel)?;
                    Ok(RowResult {
                        row: format!("{what}, bound by {bound}"),
                        expected: None,
                        found: answer.time.0 * 1e6,
                        tolerance: 0.0,
                    })
                })
                .collect::<Result<Vec<_>, Problem>>()?;
            let column = match (modelled, engine) {
                (true, Engine::Cycle) => format!("{name} by cycle, us"),
                _ => format!("{name}, us"),
            };
            columns.push(ColumnResult {
                column,
                bound: Bound::Report,
                rows,
            });
        }
    }
    Ok(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes: Vec::new(),
    })
}
