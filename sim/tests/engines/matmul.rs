//! Matrix products on systolic arrays.

use crate::check::{Close, Values, differences, inputs, shipped};

const SIZES: [[(&str, u64); 3]; 6] = [
    [("M", 4), ("N", 4), ("K", 4)],
    [("M", 8), ("N", 8), ("K", 8)],
    [("M", 16), ("N", 12), ("K", 20)],
    [("M", 7), ("N", 9), ("K", 5)],
    [("M", 1), ("N", 13), ("K", 6)],
    [("M", 10), ("N", 3), ("K", 1)],
];

fn all(name: &str, values: Values) {
    for [rows, columns] in [[4.0, 4.0], [3.0, 5.0], [1.0, 4.0], [4.0, 1.0]] {
        for sizes in &SIZES {
            let overrides = [("array2d.rows", rows), ("array2d.columns", columns)];
            let mapped = shipped(name, None, &overrides, sizes);
            let found = differences(&mapped, &inputs(&mapped, values, 7), Close::Same, true);
            assert!(
                found.is_empty(),
                "{name} {rows} x {columns} {sizes:?}:\n{}",
                found.join("\n")
            );
        }
    }
}

#[test]
fn output_stationary() {
    all("matmul-output-stationary", Values::Real);
}

#[test]
fn weight_stationary() {
    all("matmul-weight-stationary", Values::Whole);
}

#[test]
fn input_stationary() {
    all("matmul-input-stationary", Values::Whole);
}
