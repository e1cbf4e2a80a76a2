//! Every cascade of the library loads and says of itself what it should.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_workloads::cascade::{Cascade, ReadTime, TensorKind};
use einflow_workloads::{Model, cascades, models};

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

#[test]
fn the_library_is_complete() {
    let attention = [
        "agent",
        "grouped-query",
        "linear-chunked",
        "linear-recurrent",
        "merge",
        "neighborhood-2d",
        "no-max",
        "one-pass",
        "one-pass-causal",
        "partial",
        "sigmoid",
        "sliding-window",
        "split",
        "three-pass",
        "three-pass-deferred",
        "topk-gather",
        "two-pass",
        "two-pass-deferred",
    ];
    let expected: Vec<String> = attention
        .iter()
        .map(|name| format!("attention/{name}"))
        .chain(["linear-algebra/matmul".to_owned()])
        .chain(["c1", "c2", "c3"].map(|name| format!("pedagogical/{name}")))
        .chain(["ffn", "ffn-gated", "projections"].map(|name| format!("transformer/{name}")))
        .collect();
    assert_eq!(cascades().names().collect::<Vec<_>>(), expected);
}

#[test]
fn every_cascade_has_its_sizes_for_every_model() {
    for model in models().names() {
        let model = Model::load(model, None).unwrap();
        for name in cascades().names() {
            let mut given = model.sizes(1000);
            given.insert("K".into(), 1000); // of the pedagogical ones and the matrix product
            given.insert("N".into(), 1000); // of the matrix product
            let cascade = load(name);
            if cascade
                .check_model(&model, &|name| given.contains_key(name))
                .is_err()
            {
                continue;
            }
            let sizes = cascade
                .sizes(&given)
                .unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert_eq!(cascade.size_names().count(), sizes.0.len(), "{name}");
        }
    }
}

#[test]
fn models_have_the_published_shapes() {
    // FuseMax's workloads: (D, E = F, H, S), B = 64.
    let published = [
        ("bert", [768, 64, 12, 3072]),
        ("t5", [512, 64, 8, 2048]),
        ("trxl", [1024, 64, 16, 4096]),
        ("xlm", [2048, 128, 16, 8192]),
    ];
    let decoders = [
        "llama-33b",
        "llama-65b",
        "llama2-13b",
        "llama2-70b",
        "llama3-70b",
        "llama3-8b",
    ];
    // Parameters as published, in billions: without normalisations and rounding.
    for (name, billions) in decoders.iter().zip([32.5, 65.2, 13.0, 69.0, 70.6, 8.03]) {
        let weights = Model::load(name, None).unwrap().weights().unwrap();
        let off = weights as f64 / 1e9 / billions - 1.0;
        assert!(off.abs() < 0.005, "{name}: {weights}");
    }
    // Lamina (arXiv 2405.01814), table 2: bytes of a token's keys and values, of words of two.
    for (name, bytes) in [
        ("llama-33b", 1_597_440),
        ("llama-65b", 2_621_440),
        ("llama3-70b", 327_680),
    ] {
        let words = Model::load(name, None).unwrap().cache_words();
        assert_eq!(words, Some(bytes / 2), "{name}");
    }
    // 32 layers of keys and values, 8 heads of 128.
    assert_eq!(
        Model::load("llama3-8b", None).unwrap().cache_words(),
        Some(2 * 32 * 8 * 128)
    );
    for (name, [d, e, h, s]) in published {
        let sizes = Model::load(name, None).unwrap().sizes(7);
        let expected = [
            ("B", 64),
            ("D", d),
            ("E", e),
            ("F", e),
            ("G", h),
            ("H", h),
            ("M", 7),
            ("P", 7),
            ("S", s),
        ];
        assert_eq!(
            sizes,
            expected.map(|(rank, size)| (rank.to_owned(), size)).into()
        );
    }
}

#[test]
fn emptiness_of_the_masked_cascades() {
    let window = load("attention/sliding-window");
    for name in ["QK", "SN", "A"] {
        assert_eq!(
            support(&window, name),
            [
                "p - m >= 0",
                "p - m < WIDTH * DILATION",
                "(p - m) % DILATION == 0"
            ],
            "{name}"
        );
    }
    assert!(support(&window, "AV").is_empty());
    // Shared heads are always in range: h / ceil(H / G) < G.
    let grouped = load("attention/grouped-query");
    assert!(
        grouped
            .einsums
            .iter()
            .all(|einsum| einsum.support.is_empty())
    );
    // Every token has its chunk, m / M0 < M1, and its place in it, m % M0 < N0 = M0.
    let chunked = load("attention/linear-chunked");
    assert!(support(&chunked, "AV").is_empty());
    assert_eq!(
        support(&chunked, "QK"),
        ["m0 <= n0", "m1 * M0 + n0 < M", "m1 * M0 + m0 < M"]
    );
    let recurrent = load("attention/linear-recurrent");
    assert!(
        recurrent
            .einsums
            .iter()
            .all(|einsum| einsum.support.is_empty())
    );
}
