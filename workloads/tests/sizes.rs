//! From given sizes to all of them, and what is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_workloads::cascade::Cascade;

fn sizes(cascade: &str, given: &[(&str, u64)]) -> Result<BTreeMap<String, u64>, String> {
    let given = given
        .iter()
        .map(|(name, size)| ((*name).to_owned(), *size))
        .collect();
    let cascade = Cascade::load(cascade, None).unwrap();
    cascade
        .sizes(&given)
        .map(|sizes| sizes.0)
        .map_err(|problems| problems.to_string())
}

const ATTENTION: [(&str, u64); 6] = [
    ("B", 1),
    ("H", 2),
    ("E", 4),
    ("F", 4),
    ("M", 100),
    ("P", 10),
];

fn with(more: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let kept = ATTENTION
        .iter()
        .filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    kept.chain(more).copied().collect()
}

#[test]
fn partitions_and_defaults() {
    let one_pass = |more: &[(&'static str, u64)]| {
        let sizes = sizes("attention/one-pass", &with(more)).unwrap();
        (sizes["M1"], sizes["M0"])
    };
    assert_eq!(one_pass(&[]), (7, 16)); // ceil(100 / 16)
    assert_eq!(one_pass(&[("M0", 10)]), (10, 10));
    assert_eq!(one_pass(&[("M0", 256)]), (1, 256));
    assert_eq!(one_pass(&[("M", 1 << 24), ("M0", 1)]), (1 << 24, 1));
    assert_eq!(one_pass(&[("M1", 7)]), (7, 16));
    let chunked = sizes("attention/linear-chunked", &with(&[("M0", 8)])).unwrap();
    assert_eq!((chunked["M1"], chunked["M0"], chunked["N0"]), (13, 8, 8));
    let grouped =
        |more: &[(&'static str, u64)]| sizes("attention/grouped-query", &with(more)).unwrap()["G"];
    assert_eq!(
        (
            grouped(&[("H", 12)]),
            grouped(&[("H", 13)]),
            grouped(&[("H", 12), ("G", 6)])
        ),
        (3, 4, 6)
    );
}

#[test]
fn wrong_sizes() {
    let refused =
        |cascade: &str, more: &[(&'static str, u64)]| sizes(cascade, &with(more)).unwrap_err();
    assert_eq!(
        refused("attention/one-pass", &[("M", 0), ("P", (1 << 24) + 1)]),
        "the size of `P` is 16777217, above 2^24 = 16777216 (lengths go to 2^24: beyond it counts could pass 128 bits)\n\
         the size of `M` is 0 (a size is at least 1)"
    );
    assert_eq!(
        refused("attention/one-pass", &[("M1", 3)]),
        "`M1` is given as 3, but the partition makes it ceil(M / M0) = 7 (leave `M1` out)"
    );
    assert_eq!(
        refused("attention/linear-chunked", &[("N0", 3)]),
        "`N0` is given as 3, but it is M0 = 16 (leave `N0` out)"
    );
    assert_eq!(
        sizes("attention/one-pass", &ATTENTION[..4]).unwrap_err(),
        "attention/one-pass needs the size of `P` (it is neither given nor does it follow from the others)\n\
         attention/one-pass needs the size of `M` (it is neither given nor does it follow from the others)"
    );
    let cascade = Cascade::load("attention/one-pass", None).unwrap();
    cascade.check_size_names(["M0", "M", "B"]).unwrap();
    assert_eq!(
        cascade
            .check_size_names(["M2", "WIDTH"])
            .unwrap_err()
            .to_string(),
        "attention/one-pass has no rank or parameter `M2` (did you mean `M`?)\n\
         attention/one-pass has no rank or parameter `WIDTH` (known: B, H, E, P, M, F, M1, M0)"
    );
}

#[test]
fn unknown_names_suggest_the_nearest() {
    let say = |name: &str| Cascade::load(name, None).unwrap_err().to_string();
    assert_eq!(
        say("attention/one-pas"),
        "there is no cascade named `attention/one-pas` (did you mean `attention/one-pass`?)"
    );
    assert_eq!(
        say("one-pass"),
        "there is no cascade named `one-pass` (did you mean `attention/one-pass`?)"
    );
    assert!(say("./none.ron").starts_with("there is no file ./none.ron"));
}
