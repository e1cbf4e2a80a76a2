//! Seeded faults: what is wrong is seen, by the word.

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_engine::{array, events::Unseen};
use einflow_engine::{
    catalog::Catalog,
    request::{Engine, Request},
};
use einflow_mappings::{bind, mapped::MappedCascade, mappings, nest::Term};
use einflow_spec::Source;
use einflow_workloads::{
    cascade::{Cascade, TensorKind},
    cascades,
    interpret::Array,
};

use crate::check::{Numbers, Values, inputs, shipped};

const CHIP: [(&str, f64); 4] = [
    ("array2d.rows", 4.0),
    ("array2d.columns", 4.0),
    ("array1d.columns", 4.0),
    ("buffer.row", 8.0),
];
const SIZES: [(&str, u64); 6] = [("B", 1), ("H", 1), ("E", 4), ("F", 4), ("M", 16), ("P", 16)];

/// An offset one too small, past the check of legality: the Einsum that reads too early is named, with the word that it misses.
#[test]
fn an_offset_one_too_small() {
    let mapped = shipped("fusemax-binding", None, &CHIP, &SIZES);
    let count = array::programs(&mapped).unwrap()[0].ops.len();
    let mut seen = 0;
    for changed in 0..count {
        let mut programs = array::programs(&mapped).unwrap();
        let op = &mut programs[0].ops[changed];
        // The running maximum comes first in its epoch, so that it may well be one later.
        if op.offset == 0 || op.name == "RM" {
            continue;
        }
        op.offset -= 1;
        let name = op.name.clone();
        let run = array::run_programs(
            &mapped,
            &programs,
            &inputs(&mapped, Values::Real, 1),
            &mut Unseen,
        );
        let text = run.unwrap_err().to_string();
        assert!(
            matches!(text.split_once(&name), Some((_, rest)) if !rest.is_empty()),
            "{name}: {text}"
        );
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

/// A reader that is told that its words come a cycle earlier than they do is caught at the first of them.
#[test]
fn a_group_that_hands_over_too_early() {
    let mapped = shipped("fusemax-cascade", None, &CHIP, &SIZES);
    let mut programs = array::programs(&mapped).unwrap();
    // Two Einsums of one array taken for members of one group: the second reads in the same round what the first has not summed.
    let ops = &programs[0].ops;
    let at = |name: &str| ops.iter().position(|o| o.name == name).unwrap();
    let (lm, rm) = (at("LM"), at("RM"));
    let (group, gone) = (ops[lm].group, ops[rm].group);
    programs[0].ops[rm].group = group;
    programs[0].groups[gone].ops.clear();
    programs[0].groups[group].ops.push(rm);
    let error = array::run_programs(
        &mapped,
        &programs,
        &inputs(&mapped, Values::Real, 1),
        &mut Unseen,
    )
    .unwrap_err();
    assert!(matches!(error, array::ArrayError::Word { .. }), "{error}");
    assert!(error.to_string().contains("LM["), "{error}");
}

/// A cascade, edited, on the +Binding mapping.
fn edited(from: &str, to: &str) -> MappedCascade {
    let legal = shipped("fusemax-cascade", None, &CHIP, &SIZES);
    let source = cascades().find("attention/one-pass", None).unwrap().0;
    let text = source.text().replace(from, to);
    assert_ne!(text, source.text().to_string());
    let cascade =
        Cascade::parse(&Source::new("edited.ron", text)).unwrap_or_else(|e| panic!("{e:?}"));
    let sizes: BTreeMap<String, u64> = SIZES.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    bind(&Arc::new(cascade), &legal.accelerator, &legal.spec, &sizes)
        .unwrap_or_else(|e| panic!("{e:#?}"))
}

/// Softmax attention, written plainly.
fn attention(inputs: &BTreeMap<String, Array>, e: usize, f: usize, m: usize, p: usize) -> Vec<f64> {
    let (q, k, v) = (&inputs["Q"].data, &inputs["K"].data, &inputs["V"].data);
    let mut out = vec![0.0; f * p];
    for i in 0..p {
        let scores: Vec<f64> = (0..m)
            .map(|j| (0..e).map(|d| q[d * p + i] * k[d * m + j]).sum())
            .collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for d in 0..f {
            out[d * p + i] = (0..m).map(|j| weights[j] * v[d * m + j]).sum::<f64>() / sum;
        }
    }
    out
}

/// The largest distance of the arrays' output from softmax attention.
fn off(mapped: &MappedCascade) -> f64 {
    let mut numbers = Numbers(5);
    let mut given = inputs(mapped, Values::Real, 5);
    // Scores that rise from tile to tile, so that corrections matter.
    let names: Vec<String> = mapped
        .cascade
        .tensors
        .iter()
        .filter(|t| t.kind == TensorKind::Input)
        .map(|t| t.name.clone())
        .collect();
    for name in names {
        let array = given.get_mut(&name).unwrap();
        let last = *array.shape.last().unwrap();
        for (i, x) in array.data.iter_mut().enumerate() {
            let along = (i % last) as f64 / last as f64;
            *x = match name.as_str() {
                "K" => 0.25 + along,
                "Q" => 1.0,
                _ => (numbers.next() % 9) as f64 / 4.0 - 1.0,
            };
        }
    }
    let run = array::run(mapped, &given).unwrap();
    let wanted = attention(&given, 4, 4, 16, 16);
    let found = &run.outputs["AV"].data;
    let distance = |(a, b): (&f64, &f64)| {
        if a.is_finite() {
            (a - b).abs()
        } else {
            f64::INFINITY
        }
    };
    found.iter().zip(&wanted).map(distance).fold(0.0, f64::max)
}

/// bfloat16 keeps 8 bits: what is right is near softmax, and what is edited is not.
#[test]
fn an_edited_cascade_is_not_attention() {
    const BOUND: f64 = 0.03;
    let right = off(&shipped("fusemax-cascade", None, &CHIP, &SIZES));
    assert!(right < BOUND, "{right}");
    for (what, from, to) in [
        (
            "the correction dropped",
            "exp(RM[m1, p] - RM[m1+1, p])",
            "exp(RM[m1+1, p] - RM[m1+1, p])",
        ),
        (
            "a stale maximum",
            "exp(BQK[m1, m0, p] - RM[m1+1, p])",
            "exp(BQK[m1, m0, p] - RM[m1, p])",
        ),
    ] {
        let wrong = off(&edited(from, to));
        assert!(wrong >= 2.0 * BOUND, "{what}: {wrong}");
    }
}

/// A read of the wrong tile: the digits of a coordinate swapped. The buffer does not hold that word then.
#[test]
fn a_swapped_tile_index_is_seen() {
    let mapped = shipped("fusemax-cascade", None, &CHIP, &SIZES);
    let mut programs = array::programs(&mapped).unwrap();
    let op = programs[0]
        .ops
        .iter_mut()
        .find(|o| o.name == "SLNV")
        .unwrap();
    let v = mapped.cascade.tensor_named("V").unwrap();
    let read = op.reads.iter_mut().find(|r| r.tensor == v).unwrap();
    let along = read.projection.dims.last_mut().unwrap();
    let term = along.terms[0];
    along.terms = vec![
        Term {
            modulus: Some(4),
            coefficient: 4,
            ..term
        },
        Term { unit: 4, ..term },
    ];
    let error = array::run_programs(
        &mapped,
        &programs,
        &inputs(&mapped, Values::Real, 1),
        &mut Unseen,
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("SLNV at cycle") && text.contains("reads V[0, 0, 0, 4] from buffer"),
        "{text}"
    );
}

/// The same accelerator with other numbers after the binding has been checked.
fn on(mapped: &MappedCascade, change: impl FnOnce(&mut Accelerator)) -> MappedCascade {
    let mut accelerator = (*mapped.accelerator).clone();
    change(&mut accelerator);
    mapped.on(&Arc::new(accelerator))
}

/// A register file that is too small for what waits in it.
#[test]
fn full_registers() {
    let mapped = shipped("fusemax-binding", None, &CHIP, &SIZES);
    let run = array::run(&mapped, &inputs(&mapped, Values::Real, 1)).unwrap();
    let limits: Vec<u64> = mapped
        .accelerator
        .arrays
        .iter()
        .map(|a| a.registers.words)
        .collect();
    assert!(
        run.peak_registers
            .iter()
            .zip(&limits)
            .all(|(p, l)| *p > 2 && p <= l),
        "{:?} of {limits:?}",
        run.peak_registers
    );
    let small = on(&mapped, |a| {
        a.arrays[0].registers.words = run.peak_registers[0] - 1
    });
    let error = array::run(&small, &inputs(&small, Values::Real, 1)).unwrap_err();
    assert!(matches!(error, array::ArrayError::Registers(_)), "{error}");
    assert!(
        error.to_string().contains("in PE (0, 0) of array2d"),
        "{error}"
    );
}

/// A link that is not there takes no word.
#[test]
fn two_words_on_a_link() {
    let chip = [("array2d.rows", 4.0), ("array2d.columns", 4.0)];
    let mapped = shipped(
        "matmul-output-stationary",
        None,
        &chip,
        &[("M", 4), ("N", 4), ("K", 4)],
    );
    let narrow = on(&mapped, |a| {
        a.arrays[0].links.retain(|l| l.name != "columns")
    });
    let error = array::run(&narrow, &inputs(&narrow, Values::Real, 1)).unwrap_err();
    assert!(matches!(error, array::ArrayError::Link(_)), "{error}");
    assert!(
        error.to_string().contains("between the rows of array2d"),
        "{error}"
    );
}

/// Two Einsums that take turns, of which the second needs another array to have read all of the first: legal tile by tile, and refused
/// at its place, with who waits for whom.
#[test]
fn a_mapping_that_waits_for_itself_is_illegal() {
    let source = mappings().find("fusemax-binding", None).unwrap().0;
    let text = source.text();
    let (phases, turns) = (
        text.find("    phases: [").unwrap(),
        text.find("    interleave: ").unwrap(),
    );
    let end = text.rfind("  )],").unwrap();
    assert!(phases < turns && turns < end);
    let text = format!(
        "{}    interleave: [[\"LM\", \"SLN\"]],\n{}",
        &text[..phases],
        &text[end..]
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waits.ron");
    std::fs::write(&file, text).unwrap();
    let request = Request {
        mapping: file.to_str().unwrap().into(),
        model: Some("bert".into()),
        length: Some(1024),
        engine: Engine::Cycle,
        ..Request::default()
    };
    let problems = request.run(&Catalog::new()).unwrap_err();
    let problem = problems.iter().next().unwrap();
    let circle = "LM with SLN waits for RM from buffer, so for RM; RM waits for LM from array2d, so for LM with SLN";
    assert!(
        problem.message.contains("waits for itself") && problem.message.contains(circle),
        "{problem:?}"
    );
    let (place, span) = problem.place.as_ref().unwrap();
    assert_eq!(&place.text()[span.start..span.end], "\"LM\"");
}
