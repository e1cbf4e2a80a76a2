//! Every cascade of the library computes what its golden reference says.

mod case;
mod references;
mod shapes;

use std::collections::BTreeMap;

use case::{Case, Element, Fill, relative};
use einflow_spec::NumberFormat;
use einflow_spec::Source;
use einflow_validation::golden::ffn::{gelu, relu, silu};
use einflow_workloads::cascade::{Cascade, Function};
use einflow_workloads::cascades;
use einflow_workloads::interpret::unary;
use proptest::prelude::*;
use shapes::shapes;

/// Both sides round each of at most some thousand operations by 1e-16.
const TOLERANCE: f64 = 1e-12;

/// Whether -inf in a key makes sense: its scores are then -inf.
fn has_scores(name: &str) -> bool {
    let without = ["attention/linear-", "attention/merge"];
    name.starts_with("attention/") && !without.iter().any(|other| name.starts_with(other))
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
                let error = case.error(&case.interpreted(NumberFormat::F64));
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
        let outputs = case.interpreted(NumberFormat::F64);
        // The maximum over no keys is -inf.
        outputs
            .iter()
            .filter(|(name, _)| *name != "LM")
            .all(|(_, array)| array.data.iter().all(|x| *x == 0.0))
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
    let found = Case::new("attention/sliding-window", sizes, &[], Fill::Signed, 1)
        .interpreted(NumberFormat::F64);
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
        for format in [NumberFormat::Bf16, NumberFormat::F16, NumberFormat::F32] {
            let case = Case::new(name, sizes, &[], fill, 7).rounded(format);
            let steps = 1.0 + references::roundings(name, &Element::first(&case));
            // In f32 the accumulator's roundings are as large as the tensors': four operators an Einsum, 100 terms a sum.
            let steps = if format == NumberFormat::F32 {
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
        let error = case.error(&case.interpreted(NumberFormat::F64));
        assert_eq!(error <= TOLERANCE, holds, "{error:e}");
    }
}

/// Parts whose maxima are hundreds apart, above and below 0: each part's weight and the shift by the largest maximum count.
#[test]
fn parts_far_apart_are_merged() {
    let good = cascades().get("attention/merge").unwrap();
    let changed = |from: &str, to: &str| {
        let text = good.text().replace(from, to);
        assert_ne!(text, good.text());
        Cascade::parse(&Source::new("changed.ron", text)).unwrap()
    };
    for (cascade, holds) in [
        (Cascade::parse(&good).unwrap(), true),
        (
            changed("exp(LM[m1, p] - GM[p])", "exp(LM[m1, p] - 0 * GM[p])"),
            false,
        ),
        (
            changed("SLNV[f, m1, p] * PLM[m1, p]", "SLNV[f, m1, p]"),
            false,
        ),
        (changed("SLD[m1, p] * PLM[m1, p]", "SLD[m1, p]"), false),
    ] {
        let sizes = [("F", 3), ("P", 20), ("M1", 3)];
        let mut case = Case::of(cascade, &sizes, &[2], Fill::Signed, 3);
        let maxima = case.inputs.get_mut("LM").unwrap();
        maxima.data.iter_mut().for_each(|x| *x *= 1000.0);
        // Some parts weigh nearly the same, whatever their maxima.
        for p in 0..5 {
            maxima.data[20 + p] = maxima.data[p] + 0.5;
        }
        let error = case.error(&case.interpreted(NumberFormat::F64));
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
                Case::new(name, &sizes, &[2], fill, seed).interpreted(NumberFormat::F64)
            };
            let (split, whole): (BTreeMap<_, _>, BTreeMap<_, _>) = (run(m0), run(m));
            for (output, array) in &whole {
                let error = relative(&split[output], array);
                prop_assert!(error <= TOLERANCE, "{name} M = {m}, M0 = {m0}: {error:e}");
            }
        }
    }
}
