//! How far lanes are filled, over all tiles.

use std::collections::BTreeMap;

use super::links::Check;
use crate::{
    count::Count,
    mapped::{BoundEinsum, NamedLoop},
};

/// PEs of a lane that work: averages over all tiles.
pub(super) struct Filled {
    /// How many.
    pub lanes: Count,
    /// Those beyond the first.
    pub further: Count,
    /// How far a PE is from the first.
    pub apart: Count,
}

/// Tiles of so many steps of a lane that loops over one rank leave, and how often.
fn lengths(length: u64, steps: &[u64], times: u64, out: &mut BTreeMap<u64, u64>) {
    let Some((step, rest)) = steps.split_first() else {
        return;
    };
    if rest.is_empty() {
        *out.entry(length.div_ceil(*step).max(1)).or_default() += times;
        return;
    }
    let (full, part) = (length / step, length % step);
    if full > 0 {
        lengths(*step, rest, times.saturating_mul(full), out);
    }
    if part > 0 || full == 0 {
        lengths(part, rest, times, out);
    }
}

impl Check<'_, '_> {
    /// How many PEs of a lane work, over all tiles.
    pub(super) fn filled(&self, einsum: &BoundEinsum, lane: &NamedLoop) -> Filled {
        let rank = lane.cut.rank;
        let around = einsum.loops.iter().filter(|l| l.cut.rank == rank);
        let mut steps: Vec<u64> = around.map(|l| l.cut.step.max(1)).collect();
        steps.push(lane.cut.step.max(1));
        let mut tiles = BTreeMap::new();
        lengths(
            self.homes.context.ranks.base[rank].size,
            &steps,
            1,
            &mut tiles,
        );
        let (mut number, mut lanes, mut apart) = (0u128, 0u128, 0u128);
        for (count, times) in tiles {
            let (count, times) = (u128::from(count), u128::from(times));
            number = number.saturating_add(times);
            lanes = lanes.saturating_add(times.saturating_mul(count));
            let each = count.saturating_mul(count.saturating_sub(1)) / 2;
            apart = apart.saturating_add(times.saturating_mul(each));
        }
        let ratio = |a, b| Count::ratio(a, b).unwrap_or(Count::whole(1));
        Filled {
            lanes: ratio(lanes, number.max(1)),
            further: ratio(lanes - number, number.max(1)),
            apart: ratio(apart, lanes.max(1)),
        }
    }
}
