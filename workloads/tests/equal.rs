//! Cascades of the library that compute the same, by mathematics, do.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_spec::NumberFormat;
use einflow_workloads::cascade::{Cascade, TensorKind};
use einflow_workloads::interpret::{Array, Options, interpret};

/// Numbers in -1..1, different for each tensor, the same in every run.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The cascade's output AV for inputs that depend on their name and shape only.
fn run(name: &str, given: &[(&str, u64)]) -> Vec<f64> {
    let cascade = Cascade::load(name, None).unwrap();
    let given: BTreeMap<String, u64> = given.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect();
    let sizes = cascade.sizes(&given).unwrap();
    let mut inputs = BTreeMap::new();
    for tensor in cascade
        .tensors
        .iter()
        .filter(|tensor| tensor.kind == TensorKind::Input)
    {
        let ranks = cascade.batch.iter().chain(&tensor.ranks);
        let shape: Vec<usize> = ranks
            .map(|rank| sizes.get(&cascade.rank(*rank).name).unwrap() as usize)
            .collect();
        let seed = tensor.name.bytes().map(u64::from).sum();
        let mut data = numbers(seed, shape.iter().product());
        if tensor.name == "G" {
            data.iter_mut()
                .for_each(|log_decay| *log_decay = -log_decay.abs());
        }
        inputs.insert(tensor.name.clone(), Array::new(shape, data));
    }
    let outputs = interpret(&cascade, &sizes, &inputs, &Options::new(NumberFormat::F64)).unwrap();
    outputs["AV"].data.to_vec()
}

/// Largest difference, relative to the largest value. Sums of at most 100 terms in another order differ by less than
/// 100 * 2^-52 of their largest term, and exponentials amplify that by the size of their argument, here below 10.
fn assert_equal(a: &[f64], b: &[f64], what: &str) {
    let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert_eq!(a.len(), b.len(), "{what}");
    assert!(largest > 0.0, "{what}");
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-12 * largest, "{what}: {x} and {y}");
    }
}

const SHAPES: [[u64; 7]; 3] = [
    [2, 2, 8, 8, 5, 24, 8],
    [1, 3, 4, 6, 9, 23, 7],
    [1, 1, 3, 2, 1, 5, 16],
];

fn sizes([b, h, e, f, p, m, m0]: [u64; 7]) -> Vec<(&'static str, u64)> {
    vec![
        ("B", b),
        ("H", h),
        ("E", e),
        ("F", f),
        ("P", p),
        ("M", m),
        ("M0", m0),
    ]
}

#[test]
fn softmax_attention_is_the_same_in_every_number_of_passes() {
    for shape in SHAPES {
        let expected = run("attention/three-pass", &sizes(shape));
        for name in [
            "no-max",
            "three-pass-deferred",
            "two-pass",
            "two-pass-deferred",
            "split",
            "one-pass",
        ] {
            assert_equal(
                &run(&format!("attention/{name}"), &sizes(shape)),
                &expected,
                name,
            );
        }
    }
}

#[test]
fn the_causal_mask_is_a_window_of_every_key() {
    // Scores are scaled in the window only: one of E = 1 makes no difference.
    let shape = [1, 2, 1, 3, 11, 11, 4];
    let causal = run("attention/one-pass-causal", &sizes(shape));
    let window = [sizes(shape), vec![("WIDTH", 11), ("DILATION", 1)]].concat();
    assert_equal(
        &run("attention/sliding-window", &window),
        &causal,
        "sliding-window",
    );
    let one_row = [sizes(shape), vec![("WIDTH", 11), ("RADIUS", 11)]].concat();
    let full = run("attention/three-pass", &sizes(shape));
    assert_equal(
        &run("attention/neighborhood-2d", &one_row),
        &full,
        "neighborhood-2d",
    );
    let all = [sizes(shape), vec![("T", 11)]].concat();
    assert_equal(&run("attention/topk-gather", &all), &full, "topk-gather");
}

#[test]
fn chunks_do_not_change_linear_attention() {
    for (m, m0) in [(16, 4), (13, 5), (3, 8)] {
        let sizes = [("B", 1), ("H", 2), ("E", 3), ("F", 4), ("M", m), ("M0", m0)];
        let expected = run("attention/linear-recurrent", &sizes);
        assert_equal(
            &run("attention/linear-chunked", &sizes),
            &expected,
            "linear-chunked",
        );
    }
}
