//! What must not change does not: the same work written in another way, and more of what helps never hurts.

#![allow(clippy::unwrap_used)]

use einflow_engine::{analytic, cycle, report::Report};

#[path = "small/mod.rs"]
mod small;

use small::{Files, causal, replace};

const SIZES: [(&str, u64); 6] = [("B", 2), ("H", 3), ("E", 4), ("F", 4), ("M", 50), ("P", 50)];
const LOOPS: &str = r#"["b", "h", "p2", "m1", "p1"]"#;

fn small() -> Files {
    let mut files = causal().on(4, 8);
    replace(&mut files.mapping, "largest_divisor_that_fits", "3");
    files
}

fn both(files: &Files, sizes: &[(&str, u64)]) -> [Report; 2] {
    let mapped = files.bound(sizes).unwrap();
    [
        analytic::evaluate(&mapped).unwrap(),
        cycle::evaluate(&mapped).unwrap(),
    ]
}

/// Cycles, words and bytes by memory and tensor, energy: what a report says of the work, whatever its parts are called.
fn said(report: &Report) -> Vec<String> {
    // Sums of the same charges in another order.
    let energy = format!("{:.9e} pJ", report.energy_pj());
    let mut out = vec![format!("{:?}", report.time), energy];
    for (memory, tensors) in &report.traffic {
        let mut list: Vec<String> = tensors
            .values()
            .map(|access| format!("{access:?}"))
            .collect();
        list.sort();
        out.push(format!("{memory} {list:?}"));
    }
    out
}

fn alike(a: &Files, a_sizes: &[(&str, u64)], b: &Files, b_sizes: &[(&str, u64)]) {
    for (a, b) in both(a, a_sizes).iter().zip(&both(b, b_sizes)) {
        assert_eq!(said(a), said(b), "{}", a.inputs.engine);
    }
}

#[test]
fn names_mean_nothing() {
    let mut renamed = small();
    for (from, to) in [("SLNV", "WEIGHTED"), ("PRM", "SCALE"), ("BQK", "SCORES")] {
        for text in [&mut renamed.cascade, &mut renamed.mapping] {
            *text = text.replace(from, to);
        }
    }
    alike(&small(), &SIZES, &renamed, &SIZES);
}

#[test]
fn heads_and_batches_trade_places() {
    let mut turned = small();
    replace(
        &mut turned.mapping,
        LOOPS,
        r#"["h", "b", "p2", "m1", "p1"]"#,
    );
    alike(&small(), &SIZES, &turned, &SIZES);
    let mut heads = SIZES;
    (heads[0].1, heads[1].1) = (1, 6);
    alike(&small(), &SIZES, &small(), &heads);
}

/// The loop over tiles of queries as two loops, the inner one of so many iterations.
fn in_two(inner: u64) -> Files {
    let mut split = small();
    let loops = r#"["b", "h", "p3", "p2", "m1", "p1"]"#;
    replace(&mut split.mapping, LOOPS, loops);
    let parts = r#"["P3", "P2", "P1", "P0"]"#;
    replace(&mut split.mapping, r#"["P2", "P1", "P0"]"#, parts);
    let sizes = format!(r#""P1": 3, "P2": {inner},"#);
    replace(&mut split.mapping, r#""P1": 3,"#, &sizes);
    split
}

/// Two loops, one in the other, walk the same tiles in the same order as one; so does one with a loop of one around it.
#[test]
fn a_loop_is_two_loops() {
    alike(&small(), &SIZES, &in_two(2), &SIZES);
    alike(&small(), &SIZES, &in_two(3), &SIZES);
}

#[test]
fn a_condition_that_always_holds_changes_nothing() {
    let mask = "m1*M0 + m0 <= p";
    for more in [
        "m1*M0 + m0 <= p, p >= 0",
        "m1*M0 + m0 <= p, m1*M0 + m0 < M",
        "m1*M0 + m0 <= p and (p < 7 or p >= 7)",
        "not (m1*M0 + m0 > p)",
        "m1*M0 + m0 <= max(p, 0)",
    ] {
        let mut padded = small();
        replace(&mut padded.cascade, mask, more);
        alike(&small(), &SIZES, &padded, &SIZES);
    }
}

/// Twice the clock with twice every rate: as many cycles, in half the time. Latencies are in cycles, or none.
#[test]
fn clock_and_bandwidth_scale_together() {
    let still = |mut files: Files| {
        replace(&mut files.chip, "latency: \"300 ns\"", "latency: \"0 ns\"");
        files
    };
    let slow = still(small());
    let mut fast = slow.clone();
    replace(&mut fast.chip, "clock: \"940 MHz\"", "clock: \"1880 MHz\"");
    replace(
        &mut fast.chip,
        "bandwidth: \"400 GiB/s\"",
        "bandwidth: \"800 GiB/s\"",
    );
    for (a, b) in both(&slow, &SIZES).iter().zip(&both(&fast, &SIZES)) {
        assert_eq!(a.time, b.time);
        assert_eq!(a.clock * 2.0, b.clock);
    }
}

/// A faster memory, more ports, longer buffers never slow a run down; more queries and keys never speed it up.
#[test]
fn more_of_what_helps_never_hurts() {
    let cycles = |files: &Files, sizes: &[(&str, u64)]| both(files, sizes).map(|r| r.cycles());
    let mut before: Option<[u128; 2]> = None;
    for rate in [100u64, 200, 400, 1000, 10_000] {
        let mut files = small();
        let bandwidth = format!("bandwidth: \"{rate} MiB/s\"");
        replace(&mut files.chip, "bandwidth: \"400 GiB/s\"", &bandwidth);
        let now = cycles(&files, &SIZES);
        let slower = before.is_some_and(|b| now[0] > b[0] || now[1] > b[1]);
        assert!(!slower, "{rate} MiB/s: {now:?} after {before:?}");
        before = Some(now);
    }
    let mut before: Option<[u128; 2]> = None;
    for length in [1u64, 2, 3, 5, 8, 13, 21, 34, 55, 89] {
        let mut sizes = SIZES;
        (sizes[4].1, sizes[5].1) = (length, length);
        let now = cycles(&small(), &sizes);
        let faster = before.is_some_and(|b| now[0] < b[0] || now[1] < b[1]);
        assert!(!faster, "{length}: {now:?} after {before:?}");
        before = Some(now);
    }
}
