//! The tiles that loops make, and those of them that hold points.

use einflow_mappings::{
    mapped::NamedLoop,
    nest::{CountError, Occupied},
};
use smallvec::SmallVec;

use super::parts::{Program, Tile};

/// What a loop leaves of a tile at one of its iterations.
pub fn inside(tile: &mut Tile, l: &NamedLoop, digit: u64) {
    let side = &mut tile[l.cut.rank];
    let first = digit.saturating_mul(l.cut.step).min(side.1);
    *side = (side.0 + first, l.cut.step.min(side.1 - first));
}

/// Iterations of a loop in a tile.
pub(super) fn count(tile: &Tile, l: &NamedLoop) -> u64 {
    tile[l.cut.rank].1.div_ceil(l.cut.step.max(1)).max(1)
}

/// Lengths of a tile's sides.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a>(pub &'a [NamedLoop]);

impl Sides<'_> {
    /// Iterations of the loops inside a tile with these sides, all loops together.
    pub fn iterations(self, tile: &Tile) -> u64 {
        let mut total = 1u64;
        for (at, l) in self.0.iter().enumerate() {
            if self.0[..at].iter().any(|o| o.cut.rank == l.cut.rank) {
                continue;
            }
            let rank = l.cut.rank;
            let chain: SmallVec<[u64; 4]> = self.0[at..]
                .iter()
                .filter(|o| o.cut.rank == rank)
                .map(|o| o.cut.step.max(1))
                .collect();
            total = total.saturating_mul(nested(tile[rank].1, &chain));
        }
        total
    }
}

/// Iterations of loops over one rank, one inside the other.
fn nested(length: u64, steps: &[u64]) -> u64 {
    let Some((step, rest)) = steps.split_first() else {
        return 1;
    };
    if rest.is_empty() {
        return length.div_ceil(*step).max(1);
    }
    let (full, part) = (length / step, length % step);
    let last = if part > 0 || full == 0 {
        nested(part, rest)
    } else {
        0
    };
    full.saturating_mul(nested(*step, rest))
        .saturating_add(last)
}

/// The test of tiles, where it is arithmetic and tiles inside a loop are numbered on, not anew.
pub(super) fn numbered(program: &Program, exit: usize) -> Option<&Occupied> {
    let occupied = program.occupied.as_ref()?;
    (exit >= program.scopes && occupied.is_closed()).then_some(occupied)
}

/// A part of a tile: iterations of a loop from one on, up to another.
fn range(tile: &Tile, l: &NamedLoop, from: u64, to: u64) -> Tile {
    let mut part = *tile;
    let side = &mut part[l.cut.rank];
    let first = from.saturating_mul(l.cut.step).min(side.1);
    let behind = to.saturating_mul(l.cut.step).min(side.1);
    *side = (side.0 + first, behind.saturating_sub(first));
    part
}

/// How many tiles of loops inside a tile hold a point: boxes that hold none or are whole are counted at once.
pub(super) fn occupied_tiles(
    tile: &Tile,
    loops: &[NamedLoop],
    occupied: &Occupied,
) -> Result<u64, CountError> {
    let Some(l) = loops.first() else {
        return Ok(occupied.holds(tile)?.into());
    };
    let mut total = 0u64;
    let mut parts = vec![(0, count(tile, l))];
    while let Some((from, to)) = parts.pop() {
        let part = range(tile, l, from, to);
        total = total.saturating_add(if !occupied.holds(&part)? {
            0
        } else if occupied.whole(&part) {
            Sides(loops).iterations(&part)
        } else if to - from == 1 {
            occupied_tiles(&part, &loops[1..], occupied)?
        } else {
            let middle = from + (to - from) / 2;
            parts.extend([(from, middle), (middle, to)]);
            0
        });
    }
    Ok(total)
}

/// From an iteration of the last of some loops that holds no point to the last before one that does, or to the loop's
/// last where none does.
pub(super) fn pass_empty(
    digits: &mut [u64],
    loops: &[NamedLoop],
    program: &Program,
    occupied: &Occupied,
) -> Result<(), CountError> {
    let Some((l, around)) = loops.split_last() else {
        return Ok(());
    };
    let mut tile = program.whole;
    for (l, digit) in around.iter().zip(digits.iter()) {
        inside(&mut tile, l, *digit);
    }
    let next = digits[around.len()] + 1;
    let (mut empty, mut to) = (next, count(&tile, l));
    let count = to;
    while empty < to {
        let middle = empty + (to - empty) / 2;
        if occupied.holds(&range(&tile, l, next, middle + 1))? {
            to = middle;
        } else {
            empty = middle + 1;
        }
    }
    digits[around.len()] = empty.min(count) - 1;
    Ok(())
}
