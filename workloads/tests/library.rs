//! Every cascade of the library loads and says of itself what it should.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_workloads::cascade::{Cascade, ReadTime, TensorKind};
use einflow_workloads::cascades;

fn load(name: &str) -> Cascade {
    Cascade::load(name, None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn sizes(cascade: &Cascade, given: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let given = given
        .iter()
        .map(|(name, size)| ((*name).to_owned(), *size))
        .collect();
    cascade
        .sizes(&given)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .0
}

#[test]
fn every_file_loads_and_is_named_after_its_path() {
    let names: Vec<&str> = cascades().names().collect();
    assert!(!names.is_empty());
    for name in names {
        let cascade = load(name);
        assert_eq!(cascade.name, name);
        assert!(
            !cascade.cited.is_empty() && !cascade.description.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn one_pass_has_the_published_einsums() {
    let cascade = load("attention/one-pass");
    let names: Vec<&str> = (0..cascade.einsums.len())
        .map(einflow_workloads::cascade::EinsumId)
        .filter(|id| !cascade.einsum(*id).view)
        .map(|id| cascade.name_of(id))
        .collect();
    let published = [
        "BQK", "LM", "RM", "SLN", "SLD", "SLNV", "PRM", "SPD", "RD", "SPNV", "RNV", "AV",
    ];
    assert_eq!(names, published);
    let kind = |name: &str| cascade.tensor(cascade.tensor_named(name).unwrap()).kind;
    assert_eq!(kind("BK"), TensorKind::View);
    assert_eq!(kind("RM"), TensorKind::Intermediate);
    let rm = cascade.tensor_named("RM").unwrap();
    let prm = cascade
        .einsums
        .iter()
        .find(|e| cascade.tensor(e.output).name == "PRM")
        .unwrap();
    assert_eq!(
        prm.reads.iter().map(|r| r.time).collect::<Vec<_>>(),
        [ReadTime::Previous, ReadTime::Current]
    );
    assert!(prm.reads.iter().all(|r| r.tensor == rm));
    let sizes = sizes(
        &cascade,
        &[("B", 2), ("H", 3), ("E", 4), ("F", 5), ("P", 6), ("M", 40)],
    );
    assert_eq!((sizes["M0"], sizes["M1"]), (16, 3));
}

/// Conditions known before any value is, as text.
fn support(cascade: &Cascade, name: &str) -> Vec<String> {
    cascade
        .tensor(cascade.tensor_named(name).unwrap())
        .support
        .iter()
        .map(|c| c.0.to_string())
        .collect()
}

#[test]
fn a_partial_tile_and_a_causal_mask_carry_through() {
    let cascade = load("attention/one-pass-causal");
    let (in_range, causal) = ("m1 * M0 + m0 < M", "m1 * M0 + m0 <= p");
    assert_eq!(support(&cascade, "BK"), [in_range]);
    for name in ["BQK", "SLN"] {
        assert_eq!(support(&cascade, name), [causal, in_range], "{name}");
    }
    // A maximum or sum over nothing is the identity, not empty; so are running values.
    for name in ["LM", "SLD", "SLNV", "RM", "RD", "AV"] {
        assert!(support(&cascade, name).is_empty(), "{name}");
    }
    let slnv = cascade
        .einsums
        .iter()
        .find(|e| cascade.tensor(e.output).name == "SLNV")
        .unwrap();
    assert_eq!(slnv.support.len(), 2);
}
