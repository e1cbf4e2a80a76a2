//! Matrix products on systolic arrays, held against SCALE-Sim, and what makes the difference.
//!
//! SCALE-Sim lets the skew of every fold run out before the next begins, and the memory be ideal: a fold takes T + R + C - 2
//! cycles output-stationary (T = K), and R more to load what stays weight-stationary (T = M) or input-stationary (T = N); the total
//! is folds x that - 1. Here a fold follows the one before it in the wavefront, loads share the links with what streams, and
//! results that stayed are shifted out over the links on which operands stream.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, Source, Span};
use rayon::prelude::*;

use super::{
    data,
    experiment::{Bound, Experiment, Systolic},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use einflow_engine::report::Activity;
use einflow_engine::{
    catalog::Catalog,
    request::{Engine, Request},
};

/// The columns of the reference that are numbers.
const NUMBERS: [&str; 6] = ["rows", "columns", "m", "n", "k", "cycles"];

struct Row {
    dataflow: String,
    numbers: BTreeMap<&'static str, u64>,
}

/// What one product takes, here and there.
struct Compared {
    label: String,
    reference: u64,
    theirs: i128,
    ours: i128,
    items: [(&'static str, i128); 4],
}

pub(super) fn run(
    experiment: &Experiment,
    systolic: &Systolic,
    catalog: &Catalog,
) -> Result<ExperimentResult, Problems> {
    let source =
        data(&systolic.reference.value, experiment.beside.as_deref()).map_err(|p| Problem {
            place: Some((experiment.source.clone(), systolic.reference.span)),
            ..p
        })?;
    let rows = read(&source)?;
    let done: Vec<Result<Compared, Problems>> = rows
        .par_iter()
        .map(|row| compare(row, experiment, &systolic.accelerator, catalog))
        .collect();
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for compared in done {
        found.extend(problems.absorb_new(compared));
    }
    let column =
        |name: &str, bound: Bound, cell: &dyn Fn(&Compared) -> (Option<i128>, i128)| ColumnResult {
            column: name.to_string(),
            bound,
            rows: found
                .iter()
                .map(|c| {
                    let (expected, found) = cell(c);
                    RowResult {
                        row: c.label.clone(),
                        expected: expected.map(|e| e as f64),
                        found: found as f64,
                        // Whole cycles on both sides.
                        tolerance: 0.0,
                    }
                })
                .collect(),
        };
    let mut columns = vec![
        column("SCALE-Sim's formula", Bound::Within, &|c| {
            (Some(c.reference.into()), c.theirs)
        }),
        column("cycles", Bound::Report, &|c| (Some(c.theirs), c.ours)),
        column("difference, by items", Bound::Within, &|c| {
            (
                Some(c.ours - c.theirs),
                c.items.iter().map(|(_, n)| n).sum(),
            )
        }),
    ];
    for item in 0..4 {
        let name = found.first().map_or("", |c| c.items[item].0);
        columns.push(column(name, Bound::Report, &|c| (None, c.items[item].1)));
    }
    problems.into_result(Some(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes: Vec::new(),
    }))
}

fn read(source: &Source) -> Result<Vec<Row>, Problems> {
    let mut reader = csv::Reader::from_reader(source.text().as_bytes());
    let at = |position: Option<&csv::Position>, message: String| {
        let at = position.map_or(0, |p| p.byte() as usize);
        Problem::at(source, Span::new(at, at), message)
    };
    let header = reader
        .headers()
        .map_err(|e| at(e.position(), format!("not valid CSV: {e}")))?
        .clone();
    let mut problems = Problems::new();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| at(e.position(), format!("not valid CSV: {e}")))?;
        let cell = |name: &str| {
            let index = header.iter().position(|h| h.trim() == name);
            index.and_then(|i| record.get(i)).map(str::trim)
        };
        let number = |name: &&'static str| {
            let found = cell(name).unwrap_or("");
            let value = found.parse::<u64>().ok().filter(|v| *v > 0);
            value.map(|v| (*name, v)).ok_or_else(|| {
                at(
                    record.position(),
                    format!("column `{name}`: {found:?} is no whole number above 0"),
                )
                .help("a row holds dataflow, rows, columns, m, n, k and cycles")
            })
        };
        let mut numbers = BTreeMap::new();
        for name in &NUMBERS {
            numbers.extend(problems.absorb(number(name).map_err(Problems::from)));
        }
        let dataflow = cell("dataflow").unwrap_or("");
        let known = match dataflow {
            "os" | "output" => "output",
            "ws" | "weight" => "weight",
            "is" | "input" => "input",
            _ => {
                let message = format!("column `dataflow`: {dataflow:?} is not known");
                problems.push(at(record.position(), message).help("output, weight or input"));
                continue;
            }
        };
        rows.push(Row {
            dataflow: known.into(),
            numbers,
        });
    }
    problems.into_result(Some(rows))
}

fn compare(
    row: &Row,
    experiment: &Experiment,
    accelerator: &str,
    catalog: &Catalog,
) -> Result<Compared, Problems> {
    let of = |name: &str| row.numbers.get(name).copied().unwrap_or(1);
    let [r, c, m, n, k] = ["rows", "columns", "m", "n", "k"].map(of);
    let request = Request {
        mapping: format!("matmul-{}-stationary", row.dataflow),
        accelerator: Some(accelerator.replace("{rows}", &r.to_string())),
        sizes: [("M", m), ("N", n), ("K", k)]
            .map(|(name, size)| (name.to_string(), size))
            .into(),
        overrides: [("arrays.array2d.rows", r), ("arrays.array2d.columns", c)]
            .map(|(path, size)| (path.to_string(), size as f64))
            .into(),
        engine: Engine::Cycle,
        beside: experiment.beside.clone(),
        ..Request::default()
    };
    let report = request.run(catalog)?;
    let (folds, steps, load) = match row.dataflow.as_str() {
        "output" => (m.div_ceil(r) * n.div_ceil(c), k, 0),
        "weight" => (k.div_ceil(r) * n.div_ceil(c), m, r),
        _ => (k.div_ceil(r) * m.div_ceil(c), n, r),
    };
    let whole = |value: u64| i128::from(value);
    let skew = whole(r) + whole(c) - 2;
    let theirs = whole(folds) * (whole(steps + load) + skew) - 1;
    let ours = i128::try_from(report.cycles()).unwrap_or(i128::MAX);
    // The rest is what the engine saw the array wait for: the first tiles, and the last results' way to the buffer.
    let activities = report.account.and_then(|a| a.units.get("array2d").cloned());
    let of = |which: &dyn Fn(&Activity) -> bool| -> i128 {
        let all = activities.iter().flatten().filter(|(a, _)| which(a));
        all.map(|(_, n)| i128::try_from(*n).unwrap_or(i128::MAX))
            .sum()
    };
    let draining = of(&|a| *a == Activity::Draining);
    let waits = of(&|a| !matches!(a, Activity::Busy | Activity::Filling | Activity::Draining));
    let shifted = if row.dataflow == "output" {
        whole(folds * r)
    } else {
        0
    };
    Ok(Compared {
        label: format!("{} {r}x{c}, {m} x {n} x {k}", row.dataflow),
        reference: row.numbers.get("cycles").copied().unwrap_or(0),
        theirs,
        ours,
        items: [
            ("its last cycle, left out", 1),
            ("skew of a fold under the next", -(whole(folds) - 1) * skew),
            ("results shifted out", shifted),
            (
                "first tiles in, last results out",
                waits + draining - shifted - skew,
            ),
        ],
    })
}
