//! Every cascade of the library computes what its golden reference says.

mod case;
mod references;

use std::collections::BTreeMap;

use case::{Case, Element, Fill, relative};
use einflow_spec::Source;
use einflow_validation::golden::ffn::{gelu, relu, silu};
use einflow_workloads::cascade::{Cascade, Function};
use einflow_workloads::cascades;
use einflow_workloads::format::Format;
use einflow_workloads::interpret::unary;
use proptest::prelude::*;

/// Both sides round each of at most some thousand operations by 1e-16.
const TOLERANCE: f64 = 1e-12;

/// Sizes of a run and the lengths of its batch axes.
type Shape = (&'static [(&'static str, u64)], &'static [usize]);

/// Shapes to try a cascade at: with and without a batch, P above and below M, and tiles that divide M,
/// that do not, and that are longer than all of it.
fn shapes(name: &str) -> Vec<Shape> {
    match name {
        "attention/grouped-query" => vec![
            (
                &[("E", 4), ("F", 3), ("M", 7), ("P", 5), ("H", 8), ("G", 2)],
                &[],
            ),
            (
                &[("E", 8), ("F", 4), ("M", 12), ("P", 16), ("H", 6), ("G", 3)],
                &[3],
            ),
            // The last head of keys serves fewer.
            (
                &[("E", 2), ("F", 5), ("M", 3), ("P", 4), ("H", 7), ("G", 3)],
                &[2],
            ),
            (
                &[("E", 2), ("F", 2), ("M", 5), ("P", 1), ("H", 3), ("G", 1)],
                &[1],
            ),
        ],
        "attention/sliding-window" => vec![
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 16),
                    ("P", 16),
                    ("WIDTH", 4),
                    ("DILATION", 1),
                ],
                &[],
            ),
            (
                &[
                    ("E", 8),
                    ("F", 5),
                    ("M", 20),
                    ("P", 20),
                    ("WIDTH", 3),
                    ("DILATION", 4),
                ],
                &[3],
            ),
            // The last queries see no key.
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 5),
                    ("P", 17),
                    ("WIDTH", 3),
                    ("DILATION", 2),
                ],
                &[2, 2],
            ),
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 19),
                    ("P", 6),
                    ("WIDTH", 40),
                    ("DILATION", 3),
                ],
                &[2],
            ),
        ],
        "attention/neighborhood-2d" => vec![
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 20),
                    ("P", 20),
                    ("WIDTH", 5),
                    ("RADIUS", 1),
                ],
                &[],
            ),
            (
                &[
                    ("E", 8),
                    ("F", 5),
                    ("M", 42),
                    ("P", 42),
                    ("WIDTH", 7),
                    ("RADIUS", 2),
                ],
                &[2],
            ),
            // A last row that is not full; queries beyond the keys, the last of which see none.
            (
                &[
                    ("E", 4),
                    ("F", 2),
                    ("M", 11),
                    ("P", 30),
                    ("WIDTH", 4),
                    ("RADIUS", 1),
                ],
                &[2, 1],
            ),
        ],
        "attention/linear-recurrent" | "attention/linear-chunked" => vec![
            (&[("E", 4), ("F", 3), ("M", 32), ("M0", 8)], &[]),
            (&[("E", 5), ("F", 6), ("M", 37), ("M0", 16)], &[3]),
            (&[("E", 2), ("F", 3), ("M", 9), ("M0", 4)], &[2, 2]),
            (&[("E", 3), ("F", 2), ("M", 5), ("M0", 16)], &[1, 2]),
        ],
        // The root of E is exact: rounding must not break the ties of coarse inputs.
        "attention/topk-gather" => vec![
            (&[("E", 4), ("F", 3), ("M", 20), ("P", 6), ("T", 5)], &[]),
            (&[("E", 16), ("F", 5), ("M", 37), ("P", 11), ("T", 1)], &[3]),
            (
                &[("E", 4), ("F", 3), ("M", 9), ("P", 20), ("T", 9)],
                &[2, 2],
            ),
            // More than there are keys.
            (&[("E", 4), ("F", 3), ("M", 4), ("P", 3), ("T", 7)], &[2]),
        ],
        "attention/agent" => vec![
            (&[("E", 4), ("F", 3), ("M", 20), ("P", 6), ("A", 5)], &[]),
            (&[("E", 8), ("F", 5), ("M", 37), ("P", 11), ("A", 1)], &[3]),
            (
                &[("E", 4), ("F", 3), ("M", 9), ("P", 20), ("A", 12)],
                &[2, 2],
            ),
        ],
        "linear-algebra/matmul" => vec![
            (&[("M", 4), ("N", 6), ("K", 5)], &[]),
            (&[("M", 11), ("N", 1), ("K", 37)], &[]),
            (&[("M", 1), ("N", 9), ("K", 1)], &[]),
        ],
        name if name.starts_with("pedagogical/") => {
            vec![(&[("K", 1)], &[]), (&[("K", 7)], &[]), (&[("K", 100)], &[])]
        }
        name if name.starts_with("transformer/") => vec![
            (
                &[
                    ("B", 1),
                    ("P", 4),
                    ("D", 6),
                    ("H", 2),
                    ("E", 3),
                    ("F", 3),
                    ("S", 24),
                ],
                &[],
            ),
            (
                &[
                    ("B", 3),
                    ("P", 7),
                    ("D", 5),
                    ("H", 1),
                    ("E", 4),
                    ("F", 2),
                    ("S", 9),
                ],
                &[],
            ),
            (
                &[
                    ("B", 2),
                    ("P", 1),
                    ("D", 8),
                    ("H", 4),
                    ("E", 2),
                    ("F", 5),
                    ("S", 3),
                ],
                &[],
            ),
        ],
        _ => vec![
            (&[("E", 4), ("F", 3), ("M", 32), ("P", 5), ("M0", 16)], &[]),
            (
                &[("E", 8), ("F", 5), ("M", 37), ("P", 37), ("M0", 16)],
                &[3],
            ),
            (
                &[("E", 4), ("F", 3), ("M", 9), ("P", 20), ("M0", 4)],
                &[2, 2],
            ),
            (
                &[("E", 4), ("F", 2), ("M", 3), ("P", 1), ("M0", 16)],
                &[1, 2],
            ),
            (&[("E", 2), ("F", 1), ("M", 1), ("P", 2), ("M0", 1)], &[2]),
        ],
    }
}

/// Whether -inf in a key makes sense: its scores are then -inf.
fn has_scores(name: &str) -> bool {
    name.starts_with("attention/") && !name.starts_with("attention/linear-")
}

#[test]
fn every_library_cascade_has_a_reference() {
    let without: Vec<&str> = cascades()
        .names()
        .filter(|name| references::of(name).is_none())
        .collect();
    assert!(without.is_empty(), "no golden reference for {without:?}");
    // The library began with 22: an empty library must not pass.
    assert!(cascades().names().count() >= 22);
}

#[test]
fn f64_equals_the_references() {
    for name in cascades().names() {
        let shapes = shapes(name);
        assert!(shapes.len() >= 3);
        for (seed, (sizes, batch)) in shapes.into_iter().enumerate() {
            let mut fills = vec![Fill::Signed, Fill::Coarse];
            if has_scores(name) {
                fills.extend([Fill::SomeKeysMasked, Fill::AllKeysMasked]);
            }
            for fill in fills {
                let case = Case::new(name, sizes, batch, fill, seed as u64);
                let error = case.error(&case.interpreted(Format::F64));
                assert!(
                    error <= TOLERANCE,
                    "{name} {sizes:?} {batch:?} {fill:?}: {error:e}"
                );
            }
        }
    }
}

#[test]
fn fully_masked_rows_are_zero() {
    let all_zero = |case: &Case| {
        case.interpreted(Format::F64)["AV"]
            .data
            .iter()
            .all(|x| *x == 0.0)
    };
    for name in cascades().names().filter(|name| has_scores(name)) {
        let (sizes, batch) = shapes(name)[1];
        assert!(
            all_zero(&Case::new(name, sizes, batch, Fill::AllKeysMasked, 1)),
            "{name}"
        );
        assert!(
            !all_zero(&Case::new(name, sizes, batch, Fill::Positive, 1)),
            "{name}"
        );
    }
    // Queries 9 and later are more than 2 * 2 behind the last of 5 keys.
    let (sizes, _) = shapes("attention/sliding-window")[2];
    let found =
        Case::new("attention/sliding-window", sizes, &[], Fill::Signed, 1).interpreted(Format::F64);
    for (place, x) in found["AV"].data.iter().enumerate() {
        assert_eq!(*x == 0.0, place % 17 >= 9, "{place}");
    }
}

/// The bound is `roundings + 1` units of roundoff: the one more is for f32, in which at most some thousand
/// operations round by 2^-24 each, less than 2^-13; 1.1 is for the products of errors, which
/// with n u < 0.19 stay below a tenth of their sum.
#[test]
fn short_formats_stay_within_their_bound() {
    let sizes: &[(&str, u64)] = &[
        ("B", 2),
        ("H", 4),
        ("G", 2),
        ("E", 4),
        ("F", 3),
        ("M", 11),
        ("P", 7),
        ("M0", 4),
        ("A", 3),
        ("T", 4),
        ("K", 12),
        ("N", 5),
        ("D", 6),
        ("S", 9),
        ("WIDTH", 3),
        ("DILATION", 2),
        ("RADIUS", 1),
    ];
    for name in cascades().names() {
        // Rounding must not decide which keys are selected.
        let fill = if name == "attention/topk-gather" {
            Fill::Coarse
        } else {
            Fill::Positive
        };
        for format in [Format::Bf16, Format::F16, Format::F32] {
            let case = Case::new(name, sizes, &[], fill, 7).rounded(format);
            let steps = 1.0 + references::roundings(name, &Element::first(&case));
            // In f32 the accumulator's roundings are as large as the tensors': four operators an Einsum, 100 terms a sum.
            let steps = if format == Format::F32 {
                100.0 * steps
            } else {
                steps
            };
            let bound = 1.1 * steps * format.unit_roundoff();
            assert!(bound < 0.19, "{name} {format}: {bound}");
            let error = case.error(&case.interpreted(format));
            assert!(error <= bound, "{name} {format}: {error:e} > {bound:e}");
            // Something was rounded: f64 would be far below.
            assert!(
                error > 1e-3 * format.unit_roundoff(),
                "{name} {format}: {error:e}"
            );
        }
    }
}

/// Both sides are within a few units in the last place of values below 8.
#[test]
fn activations_equal_the_references() {
    for (function, reference) in [
        (Function::Gelu, gelu as fn(f64) -> f64),
        (Function::Silu, silu),
        (Function::Relu, relu),
    ] {
        let function = unary(function).unwrap();
        for step in -800..=800 {
            let x = f64::from(step) / 100.0;
            assert!((function(x) - reference(x)).abs() < 1e-14, "{x}");
        }
    }
}

/// A cascade that forgets to correct the running numerator must be found out.
#[test]
fn a_broken_cascade_is_noticed() {
    let good = cascades().get("attention/one-pass").unwrap();
    let broken = good
        .text()
        .replace("RNV[f, m1, p] * PRM[m1, p]", "RNV[f, m1, p]");
    assert_ne!(broken, good.text());
    let broken = Cascade::parse(&Source::new("broken.ron", broken)).unwrap();
    let sizes = [("E", 8), ("F", 5), ("M", 37), ("P", 11), ("M0", 4)];
    for (cascade, holds) in [(Cascade::parse(&good).unwrap(), true), (broken, false)] {
        let case = Case::of(cascade, &sizes, &[2], Fill::Signed, 3);
        let error = case.error(&case.interpreted(Format::F64));
        assert_eq!(error <= TOLERANCE, holds, "{error:e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// How M is split never changes a result.
    #[test]
    fn any_split_gives_the_same(m in 1..40u64, m0 in 1..45u64, p in 1..12u64, seed in any::<u64>(), masked in any::<bool>()) {
        for name in cascades().names() {
            let cascade = Cascade::load(name, None).unwrap();
            if cascade.partitions.is_empty() {
                continue;
            }
            let fill = if masked && has_scores(name) { Fill::SomeKeysMasked } else { Fill::Signed };
            let run = |m0: u64| {
                let sizes = [("E", 3), ("F", 2), ("M", m), ("P", p), ("M0", m0)];
                Case::new(name, &sizes, &[2], fill, seed).interpreted(Format::F64)
            };
            let (split, whole): (BTreeMap<_, _>, BTreeMap<_, _>) = (run(m0), run(m));
            for (output, array) in &whole {
                let error = relative(&split[output], array);
                prop_assert!(error <= TOLERANCE, "{name} M = {m}, M0 = {m0}: {error:e}");
            }
        }
    }
}
