//! The jump over rows of tiles that grow or shrink under a mask changes nothing.

#![allow(clippy::unwrap_used)]

use einflow_engine::{
    cycle::{self, BlockRun},
    events::Unseen,
};
use einflow_mappings::mapped::MappedCascade;
use proptest::prelude::*;

#[path = "small/mod.rs"]
mod small;

use small::{causal, replace};

/// Masks along a diagonal: causal, the other way round, windows, blocks, and two that have no diagonal of their own.
const MASKS: [&str; 8] = [
    "m1*M0 + m0 <= p",
    "m1*M0 + m0 >= p",
    "m1*M0 + m0 <= p + 9",
    "m1*M0 + m0 <= p, p - m1*M0 - m0 < 23",
    "m1*M0 + m0 <= p + 5, p - m1*M0 - m0 < 40",
    "(m1*M0 + m0)/16 == p/16",
    "m1*M0 + m0 <= p, (p - m1*M0 - m0) % 3 == 0",
    "m1*M0 + m0 <= 2*p",
];

const LOOPS: [&str; 3] = [
    r#"["b", "h", "p2", "m1", "p1"]"#,
    r#"["h", "p2", "b", "m1", "p1"]"#,
    r#"["p2", "b", "h", "m1", "p1"]"#,
];

#[derive(Clone, Debug)]
struct Case {
    mask: usize,
    loops: usize,
    runs_on: bool,
    side: u64,
    across: u64,
    p1: u64,
    bandwidth: u64,
    sizes: [(&'static str, u64); 6],
}

fn bound(case: &Case) -> Result<MappedCascade, String> {
    let mut files = causal().on(case.side, case.across);
    replace(&mut files.cascade, MASKS[0], MASKS[case.mask]);
    let bandwidth = format!("bandwidth: \"{} MiB/s\"", case.bandwidth);
    replace(&mut files.chip, "bandwidth: \"400 GiB/s\"", &bandwidth);
    replace(&mut files.mapping, LOOPS[0], LOOPS[case.loops]);
    let p1 = case.p1.to_string();
    replace(&mut files.mapping, "largest_divisor_that_fits", &p1);
    if case.runs_on {
        replace(&mut files.mapping, "drains_at: \"p2\",", "");
    }
    files.bound(&case.sizes)
}

/// What a run must be the same in, jump or not, and how many tasks were simulated.
fn seen(mapped: &MappedCascade, jump: bool) -> (Vec<String>, u64) {
    let one = |run: &BlockRun| {
        let t = &run.totals;
        let mut waits = t.waits.clone();
        waits.iter_mut().for_each(|w| w.sort_unstable());
        format!(
            "{} {:?} {:?} {waits:?} {} {:?}",
            run.cycles, t.words, t.busy, t.tasks, t.channel
        )
    };
    match cycle::run(mapped, jump, &mut Unseen) {
        Ok(runs) => (
            runs.iter().map(one).collect(),
            runs.iter().map(|r| r.totals.simulated).sum(),
        ),
        Err(error) => (vec![error.to_string()], 0),
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (
        0..MASKS.len(),
        0..LOOPS.len(),
        any::<bool>(),
        prop::sample::select(vec![1u64, 2, 4, 8]),
        prop::sample::select(vec![1u64, 2, 4, 8]),
        prop::sample::select(vec![1u64, 2, 3, 5, 8, 16]),
        prop::sample::select(vec![400u64, 4000, 400_000]),
    );
    let sizes = (
        1..5u64,
        1..6u64,
        prop::sample::select(vec![1u64, 2, 3, 8]),
        prop::sample::select(vec![1u64, 2, 5]),
        8..160u64,
        8..160u64,
        any::<bool>(),
    );
    (shape, sizes).prop_map(|(shape, (b, h, e, f, m, p, square))| {
        let (mask, loops, runs_on, side, across, p1, bandwidth) = shape;
        let m = if square { p } else { m };
        Case {
            mask,
            loops,
            runs_on,
            side,
            across,
            p1,
            bandwidth,
            sizes: [("B", b), ("H", h), ("E", e), ("F", f), ("M", m), ("P", p)],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn masks_on_small_chips(case in cases()) {
        if let Ok(mapped) = bound(&case) {
            prop_assert_eq!(seen(&mapped, true).0, seen(&mapped, false).0);
        }
    }
}

/// Tasks that are simulated do not grow with the length where a mask has a diagonal.
#[test]
fn tasks_that_are_simulated_do_not_grow_with_the_length() {
    for mask in [0, 1, 3] {
        let of = |length: u64| {
            let case = Case {
                mask,
                loops: 0,
                runs_on: false,
                side: 4,
                across: 4,
                p1: 8,
                bandwidth: 400_000,
                sizes: [
                    ("B", 4),
                    ("H", 6),
                    ("E", 4),
                    ("F", 4),
                    ("M", length),
                    ("P", length),
                ],
            };
            seen(&bound(&case).unwrap(), true).1
        };
        let (short, long) = (of(1024), of(16 * 1024));
        assert!(
            short > 0 && long <= short,
            "{}: {short}, {long}",
            MASKS[mask]
        );
    }
}

#[test]
fn a_row_that_runs_on() {
    let case = Case {
        mask: 4,
        loops: 0,
        runs_on: true,
        side: 2,
        across: 1,
        p1: 2,
        bandwidth: 400,
        sizes: [("B", 1), ("H", 1), ("E", 1), ("F", 1), ("M", 46), ("P", 44)],
    };
    let mapped = bound(&case).unwrap();
    assert_eq!(seen(&mapped, true).0, seen(&mapped, false).0);
}
