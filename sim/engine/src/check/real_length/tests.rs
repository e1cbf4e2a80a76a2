#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use einflow_arch::{Accelerator, accelerators};
use einflow_mappings::{bind, mappings, spec::MappingSpec};
use einflow_workloads::Model;

use super::*;
use crate::report::MaskedQuery;

/// A mapping bound to BERT at a length, with words of some format; `rows` replaces the 2D array's, and so the tile
/// along the keys.
fn mapped(
    mapping: &str,
    accelerator: &str,
    word: NumberFormat,
    length: u64,
    rows: Option<u64>,
) -> MappedCascade {
    let (source, _) = mappings().find(mapping, None).unwrap();
    let spec = MappingSpec::parse(&source, None).unwrap();
    let (source, _) = accelerators().find(accelerator, None).unwrap();
    let mut chip = Accelerator::parse(&source).unwrap();
    chip.word = word;
    if let Some(rows) = rows {
        let array = chip.arrays.iter_mut().find(|a| a.name == "array2d");
        array.unwrap().rows = rows;
    }
    let cascade = Cascade::load(&spec.workload.text, None).unwrap();
    let given = Model::load("bert", None).unwrap().sizes(length);
    bind(&Arc::new(cascade), &Arc::new(chip), &Arc::new(spec), &given)
        .unwrap_or_else(|e| panic!("{e}"))
}

fn binding(chip: &str, word: NumberFormat, length: u64) -> RealLength {
    real_length(&mapped("fusemax-binding", chip, word, length, None), None).unwrap()
}

/// With 256 tiles of 256 keys no increment is lost. The published polynomial is wrong by more than the result at every
/// length; the range-reduced one is as good as the number format.
#[test]
fn the_published_and_the_reduced_exponential() {
    for (word, most) in [(NumberFormat::Bf16, 0.15), (NumberFormat::F16, 0.005)] {
        for length in [256, 1024, 4096, 16384, 65536] {
            let published = binding("fusemax", word, length);
            let reduced = binding("fusemax-range-reduced", word, length);
            assert_eq!((published.length, published.e, published.f), (length, 8, 8));
            assert_eq!(published.format.name(), word.name());
            assert_eq!(published.accumulator, published.format);
            assert_eq!(published.reference, Reference::Attention);
            assert!(published.max_rel_error >= 1.0, "{published:?}");
            assert!(reduced.max_rel_error < most, "{reduced:?}");
            assert!(reduced.exact_exponential.max_rel < most, "{reduced:?}");
            assert_eq!(reduced.exact_exponential, published.exact_exponential);
            assert_eq!((published.stagnation, reduced.stagnation), (None, None));
        }
    }
}

/// Tiles of 16 keys: 4096 increments. A sum of equal increments stops in bf16 after 2^8 of them, in f16 after 2^11.
#[test]
fn denominators_stop_growing() {
    let at = |word, length| {
        let bound = mapped(
            "fusemax-binding",
            "fusemax-range-reduced",
            word,
            length,
            Some(16),
        );
        real_length(&bound, None).unwrap()
    };
    assert_eq!(at(NumberFormat::Bf16, 1024).stagnation, None);
    let bf16 = at(NumberFormat::Bf16, 65536);
    let found = bf16.stagnation.unwrap();
    assert_eq!((found.tensor.as_str(), found.steps), ("RD", 4096));
    assert!((1024..16 * 1024).contains(&found.key), "{found:?}");
    assert!(found.stopped.is_none_or(|key| key >= found.key));
    assert!(found.lost > 2048 && found.relative_error > 0.5, "{found:?}");
    assert_eq!(found.bound, 4.0 / 256.0);
    assert_eq!(found.cure, Some(NumberFormat::F32));
    // A denominator that is too small makes the output too large.
    assert!(bf16.exact_exponential.max_rel > 0.5);

    let f16 = at(NumberFormat::F16, 65536).stagnation.unwrap();
    assert!((16 * 1024..65536).contains(&f16.key), "{f16:?}");
    assert_eq!(f16.cure, Some(NumberFormat::F32));
    assert_eq!(at(NumberFormat::F32, 65536).stagnation, None);
}

/// A wider accumulator does not help a sum whose running value is a word.
#[test]
fn a_wider_accumulator_does_not_cure() {
    let bound = mapped(
        "fusemax-binding",
        "fusemax",
        NumberFormat::Bf16,
        131_072,
        None,
    );
    let found = real_length(&bound, Some(NumberFormat::F32)).unwrap();
    assert_eq!(
        (found.format, found.accumulator),
        (NumberFormat::Bf16, NumberFormat::F32)
    );
    let stagnation = found.stagnation.unwrap();
    assert!((65536..131_072).contains(&stagnation.key), "{stagnation:?}");
}

/// Scores that the cascade scales itself, a mask, and cascades without keys.
#[test]
fn other_cascades() {
    let check = |mapping: &str, chip: &str| {
        real_length(&mapped(mapping, chip, NumberFormat::F32, 1024, None), None)
    };
    for mapping in ["flat", "unfused"] {
        let found = check(mapping, "flat").unwrap();
        assert_eq!(found.reference, Reference::Attention);
        assert!(found.max_rel_error < 1e-4, "{found:?}");
        // FLAT's unit is exact.
        let exact = found.exact_exponential;
        assert_eq!(
            (found.max_abs_error, found.max_rel_error),
            (exact.max_abs, exact.max_rel)
        );
    }
    let causal = check("fusemax-causal", "fusemax").unwrap();
    // Its last query sees every key, as without a mask.
    assert_eq!(causal.reference, Reference::Attention);
    let query = MaskedQuery {
        query: 1023,
        keys: 1024,
    };
    assert_eq!(causal.mask, Some(query));
    let message = check("projections", "fusemax").unwrap_err().to_string();
    assert!(
        message.starts_with("transformer/projections has no rank M"),
        "{message}"
    );
}

#[test]
fn units_of_the_accelerator() {
    let bound = mapped(
        "fusemax-binding",
        "fusemax-range-reduced",
        NumberFormat::Bf16,
        1024,
        None,
    );
    let einsum = |name: &str| {
        let tensor = bound.cascade.tensor_named(name).unwrap();
        bound.cascade.tensor(tensor).producer.unwrap()
    };
    for name in ["SLN", "PRM"] {
        let unit = function_unit(&bound, einsum(name), Function::Exp);
        assert!(
            matches!(unit, FunctionUnit::Polynomial { reduced: true, .. }),
            "{name}"
        );
    }
    for name in ["BK", "LM"] {
        assert_eq!(
            function_unit(&bound, einsum(name), Function::Exp),
            FunctionUnit::Exact
        );
    }
    // A chain of subtraction and exponential has the unit of its last function.
    let chained = mapped("flat", "flat", NumberFormat::Bf16, 1024, None);
    let mut chip = (*chained.accelerator).clone();
    let exp = bound
        .accelerator
        .array("array1d")
        .unwrap()
        .operator("exp")
        .unwrap();
    for array in &mut chip.arrays {
        if let Some(operator) = array.operators.get_mut("sub+exp") {
            operator.computes.clone_from(&exp.computes);
        }
    }
    let chained = chained.on(&Arc::new(chip));
    let tensor = chained.cascade.tensor_named("SN").unwrap();
    let einsum = chained.cascade.tensor(tensor).producer.unwrap();
    let unit = function_unit(&chained, einsum, Function::Exp);
    assert!(matches!(
        unit,
        FunctionUnit::Polynomial { reduced: true, .. }
    ));
}

#[test]
fn tensors_stay_in_memory() {
    let bound = mapped(
        "fusemax-binding",
        "fusemax",
        NumberFormat::Bf16,
        1 << 20,
        None,
    );
    let sizes = shrunk(&bound, Kept::Outputs).unwrap();
    // K and V, 2 x 2 x 8 MiB; with 4 channels they alone take 64 MiB.
    assert_eq!(
        (sizes.get("M"), sizes.get("E"), sizes.get("F")),
        (Some(1 << 20), Some(2), Some(2))
    );
    assert!(memory(&bound.cascade, &sizes, Kept::Outputs).unwrap() <= MEMORY);
}
