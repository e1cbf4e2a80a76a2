//! Tiles as boxes of coordinates, and tensors' words as explicit sets.

use std::collections::BTreeSet;

use einflow_mappings::nest::{Condition, Loop, Projection, Space};

/// First coordinate and length of each base rank.
pub type Tile = Vec<(u64, u64)>;
/// A word's coordinates in its tensor.
pub type Word = Vec<u128>;
/// A set of words.
pub type Words = BTreeSet<Word>;

/// All coordinates of a space.
pub fn whole(sizes: &[u64]) -> Tile {
    sizes.iter().map(|size| (0, *size)).collect()
}

/// The tiles that a loop cuts a tile into; the last may be partial.
pub fn cut(tile: &Tile, l: Loop) -> Vec<Tile> {
    let (start, len) = tile[l.rank];
    let step = l.step.max(1);
    let one = |i: u64| {
        let mut part = tile.clone();
        part[l.rank] = (start + i * step, step.min(len - i * step));
        part
    };
    (0..len.div_ceil(step)).map(one).collect()
}

/// The innermost tiles of a nest of loops, in the order in which it walks them.
pub fn walk(tile: &Tile, loops: &[Loop]) -> Vec<Tile> {
    match loops.split_first() {
        None => vec![tile.clone()],
        Some((first, rest)) => cut(tile, *first)
            .iter()
            .flat_map(|t| walk(t, rest))
            .collect(),
    }
}

/// Every point of a tile.
pub fn points(tile: &Tile) -> Vec<Vec<u64>> {
    let mut out = vec![Vec::new()];
    for (start, len) in tile {
        out = (out.iter())
            .flat_map(|p: &Vec<u64>| (*start..start + len).map(|x| [p.as_slice(), &[x]].concat()))
            .collect();
    }
    out
}

/// The word that a point touches.
pub fn word(point: &[u64], projection: &Projection) -> Word {
    let dim = |terms: &[einflow_mappings::nest::Term]| -> u128 {
        let value = |t: &einflow_mappings::nest::Term| {
            let digit = point[t.rank] / t.unit;
            let digit = t.modulus.map_or(digit, |m| digit % m);
            u128::from(digit) * u128::from(t.coefficient)
        };
        terms.iter().map(value).sum()
    };
    projection.dims.iter().map(|d| dim(&d.terms)).collect()
}

/// The words that a tile touches: those of its box, whatever a condition masks in it.
pub fn words(tile: &Tile, projection: &Projection) -> Words {
    // Ranks that the tensor lacks add nothing.
    let mut only = tile.clone();
    for (rank, range) in only.iter_mut().enumerate() {
        let mut terms = projection.dims.iter().flat_map(|d| &d.terms);
        if !terms.any(|t| t.rank == rank) {
            range.1 = range.1.min(1);
        }
    }
    points(&only).iter().map(|p| word(p, projection)).collect()
}

/// Whether a block leaves a tile out: it skips empty ones, and a condition fails at each of its points.
pub fn left_out(tile: &Tile, space: &Space) -> bool {
    space.skip_empty
        && !space.conditions.is_empty()
        && !points(tile)
            .iter()
            .any(|p| space.conditions.iter().all(|c: &Condition| c.holds(p)))
}
