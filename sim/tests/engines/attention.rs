//! The published attention mappings in miniature.

use std::path::Path;

use einflow_engine::Engine;

use crate::check::{Close, Values, differences, inputs, shipped};

/// A chip of 8 x 8 and 8 PEs, with rows of the buffer as wide as they are.
const CHIP: [(&str, f64); 4] = [
    ("array2d.rows", 8.0),
    ("array2d.columns", 8.0),
    ("array1d.columns", 8.0),
    ("buffer.row", 16.0),
];

const SIZES: [[(&str, u64); 6]; 4] = [
    [("B", 1), ("H", 2), ("E", 8), ("F", 8), ("M", 64), ("P", 64)],
    [("B", 1), ("H", 1), ("E", 5), ("F", 7), ("M", 20), ("P", 19)],
    [("B", 2), ("H", 1), ("E", 3), ("F", 2), ("M", 9), ("P", 33)],
    [("B", 1), ("H", 3), ("E", 9), ("F", 4), ("M", 40), ("P", 3)],
];

fn same(name: &str, beside: Option<&Path>, sizes: &[(&str, u64)]) {
    let mapped = shipped(name, beside, &CHIP, sizes);
    // Sums that form in the buffer, or across the 1D array, are added in another order than the interpreter's: no more than a last place
    // of bfloat16 in what is read from them, 2^-8, and what that does to the result.
    let close = match name {
        "flat" | "unfused" => Close::Within(1.0 / 64.0),
        _ => Close::Same,
    };
    let found = differences(&mapped, &inputs(&mapped, Values::Real, 3), close, true);
    assert!(found.is_empty(), "{name} {sizes:?}:\n{}", found.join("\n"));
}

fn all(name: &str) {
    SIZES.iter().for_each(|sizes| same(name, None, sizes));
}

#[test]
fn fusemax_binding() {
    all("fusemax-binding");
}

#[test]
fn fusemax_binding_run_on() {
    all("fusemax-binding-run-on");
}

#[test]
fn fusemax_binding_double() {
    all("fusemax-binding-double");
}

#[test]
fn fusemax_causal() {
    all("fusemax-causal");
}

#[test]
fn fusemax_architecture() {
    all("fusemax-architecture");
}

#[test]
fn fusemax_cascade() {
    all("fusemax-cascade");
}

#[test]
fn fusemax_cascade_chained() {
    all("fusemax-cascade-chained");
}

#[test]
fn unfused() {
    all("unfused");
}

/// FLAT takes its choices from a table: one of ours, beside its mapping.
#[test]
fn flat() {
    const COLUMNS: &str = "E,F,H,M,P,Q_loc,K_loc,QK_loc,A_loc,V_loc,AV_loc,QK_stationarity,AV_stationarity,fusion_granularity,P1,proportion_buffered";
    let rows = [
        "offchip,offchip,onchip,onchip,offchip,offchip,output,output,head,4,1",
        "offchip,offchip,onchip,onchip,offchip,offchip,output,output,row,8,0.75",
        "onchip,offchip,offchip,offchip,offchip,onchip,weight,weight,row,4,1",
        "onchip,onchip,onchip,onchip,onchip,onchip,input,weight,row,8,0.5",
        "offchip,onchip,onchip,onchip,onchip,onchip,weight,input,head,4,0.25",
    ];
    for row in rows {
        for sizes in &SIZES {
            let folder = tempfile::tempdir().unwrap();
            let [_, h, e, f, m, p] = sizes.map(|(_, s)| s);
            let text = format!("{COLUMNS}\n{e},{f},{h},{m},{p},{row}\n");
            std::fs::write(folder.path().join("flat-choices.csv"), text).unwrap();
            same("flat", Some(folder.path()), sizes);
        }
    }
}

/// What one engine reports, all do: their name, and what moves; the two that run, when it has ended too.
#[test]
fn every_engine_reports() {
    let mapped = shipped("fusemax-binding", None, &CHIP, &SIZES[1]);
    let reports = Engine::all().map(|e| (e, e.evaluate(&mapped).unwrap()));
    let reports: Vec<_> = reports.collect();
    let ideal = &reports[0].1;
    for (engine, report) in &reports {
        assert_eq!(report.inputs.engine, engine.name());
        assert_eq!(report.traffic, ideal.traffic, "{engine:?}");
        assert!(report.time >= ideal.time, "{engine:?}");
    }
    let time = |engine| reports.iter().find(|(e, _)| *e == engine).unwrap().1.time;
    assert_eq!(time(Engine::Array), time(Engine::Cycle));
}
