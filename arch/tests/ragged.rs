//! Pieces of unequal caches: held against a simulation that goes from event to event.

#![allow(clippy::unwrap_used)]

use einflow_arch::device::{
    Attention, Chip,
    law::ragged::{Plan, streamed},
};
use einflow_spec::quantity::{Bytes, BytesPerSecond, OperationsPerSecond};

fn chip(units: u64) -> Chip {
    Chip {
        units,
        matrix: OperationsPerSecond(1e15),
        matrix_8bit: None,
        memory: Bytes(1 << 34),
        // A token of 256 bytes takes a microsecond at a unit's share.
        bandwidth: BytesPerSecond(256e6 * units as f64),
        cache: Bytes(1 << 20),
    }
}

fn shape(heads: u64, key_heads: u64, lengths: &[u64]) -> Attention {
    Attention {
        batch: lengths.len() as u64,
        heads,
        key_heads,
        width: 64,
        value_width: 64,
        length: lengths.iter().copied().max().unwrap(),
        causal: false,
        cached: einflow_spec::Stored::BF16,
    }
}

/// When the last of some pieces ends: each goes to a unit in turn, then to where one has ended; a unit's pieces share
/// what they stream together.
fn makespan(pieces: &[f64], units: usize, resident: usize, together: f64) -> f64 {
    let rate = |pieces: usize| (together / pieces as f64).min(1.0);
    let mut chip: Vec<Vec<f64>> = vec![Vec::new(); units];
    let mut waiting = pieces.iter().copied();
    for (at, piece) in waiting.by_ref().take(units * resident).enumerate() {
        chip[at % units].push(piece);
    }
    let mut now = 0.0;
    loop {
        let ends = chip.iter().flat_map(|unit| {
            let rate = rate(unit.len());
            unit.iter().map(move |left| left / rate)
        });
        let Some(passed) = ends.reduce(f64::min) else {
            return now;
        };
        now += passed;
        for unit in &mut chip {
            let streamed = passed * rate(unit.len().max(1));
            for left in unit.iter_mut() {
                *left -= streamed;
            }
        }
        // As the law: of those that end at the same time, the first unit first.
        for unit in &mut chip {
            for left in unit.iter_mut().filter(|left| **left < 1e-6) {
                *left = waiting.next().unwrap_or(0.0);
            }
            unit.retain(|left| *left > 1e-6);
        }
    }
}

/// Numbers that look drawn.
fn drawn(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn whole_caches_end_when_events_say() {
    let mut seed = 1;
    for (units, batch, key_heads) in [(4, 3, 1), (4, 9, 1), (7, 40, 3), (132, 64, 8), (1, 5, 2)] {
        for together in [1.0, 1.5, 2.0] {
            let lengths: Vec<u64> = (0..batch).map(|_| 1 + drawn(&mut seed, 9000)).collect();
            // floor, bandwidth (out of the way), ramp, combine, alone, divided, together, launch
            let values = [0.0, 1e6, 0.0, 0.0, 1.0, 1.0, together, 0.0];
            let a = shape(key_heads, key_heads, &lengths);
            let found = streamed(&chip(units), &a, &lengths, Plan::Longest, &values);
            let whole = lengths.iter().map(|l| (l.div_ceil(64) * 64) as f64);
            let pieces: Vec<f64> = whole.collect::<Vec<_>>().repeat(key_heads as usize);
            let expected = makespan(&pieces, units as usize, 2, together);
            assert!(
                (found / expected - 1.0).abs() < 1e-3,
                "{units} {batch} {key_heads} {together}: {found} {expected}"
            );
        }
    }
}
