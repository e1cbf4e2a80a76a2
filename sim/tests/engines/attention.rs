//! The published attention mappings in miniature.

use crate::check::{Close, Values, differences, inputs, shipped};

fn chip(name: &str) -> Vec<(&'static str, f64)> {
    let _ = name;
    vec![
        ("array2d.rows", 8.0),
        ("array2d.columns", 8.0),
        ("array1d.columns", 8.0),
        ("buffer.row", 16.0),
    ]
}

const SIZES: [(&str, u64); 6] = [("B", 1), ("H", 2), ("E", 8), ("F", 8), ("M", 64), ("P", 64)];

fn same(name: &str, sizes: &[(&str, u64)], close: Close) {
    let mapped = shipped(name, None, &chip(name), sizes);
    let found = differences(&mapped, &inputs(&mapped, Values::Real, 3), close);
    assert!(found.is_empty(), "{name} {sizes:?}:\n{}", found.join("\n"));
}

#[test]
fn fusemax_binding() {
    same("fusemax-binding", &SIZES, Close::Same);
}

#[test]
fn fusemax_binding_run_on() {
    same("fusemax-binding-run-on", &SIZES, Close::Same);
}

#[test]
fn fusemax_binding_double() {
    same("fusemax-binding-double", &SIZES, Close::Same);
}

#[test]
fn fusemax_causal() {
    same("fusemax-causal", &SIZES, Close::Same);
}

#[test]
fn fusemax_architecture() {
    same("fusemax-architecture", &SIZES, Close::Same);
}

#[test]
fn fusemax_cascade() {
    same("fusemax-cascade", &SIZES, Close::Same);
}

#[test]
fn fusemax_cascade_chained() {
    same("fusemax-cascade-chained", &SIZES, Close::Same);
}

#[test]
fn unfused() {
    same("unfused", &SIZES, Close::Same);
}
