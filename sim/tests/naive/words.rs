//! Tiles as boxes of coordinates, and tensors' words as explicit sets.

use std::collections::BTreeSet;

use einflow_mappings::nest::{Condition, Dim, Loop, Projection, Space, Term, Wrapped};

/// First coordinate and length of each base rank.
pub type Tile = Vec<(u64, u64)>;
/// A word's coordinates in its tensor.
pub type Word = Vec<i128>;
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

/// What a point's coordinates sum up to, digits of sums taken as they are.
fn coordinate(point: &[u64], dim: &Dim) -> i128 {
    let term = |t: &Term| {
        let digit = point[t.rank] / t.unit;
        let digit = t.modulus.map_or(digit, |m| digit % m);
        i128::from(digit) * i128::from(t.coefficient)
    };
    let wrapped = |w: &Wrapped| {
        let digit = coordinate(point, &w.of).div_euclid(w.unit.into());
        let digit = w.modulus.map_or(digit, |m| digit.rem_euclid(m.into()));
        digit * i128::from(w.coefficient)
    };
    let terms = dim.terms.iter().map(term);
    i128::from(dim.offset) + terms.chain(dim.wrapped.iter().map(wrapped)).sum::<i128>()
}

/// The word that a point touches in an image; none where there is no such word.
fn image(point: &[u64], dims: &[Dim]) -> Option<Word> {
    let dim = |dim: &Dim| {
        let at = coordinate(point, dim);
        let inside = dim
            .within
            .is_none_or(|size| (0..i128::from(size)).contains(&at));
        inside.then_some(at)
    };
    dims.iter().map(dim).collect()
}

/// Whether a rank moves a dimension's coordinate, or might.
pub fn follows(dim: &Dim, rank: usize) -> bool {
    let mut found = false;
    dim.each_term(&mut |t| found |= t.rank == rank);
    found
}

/// The words that a tile touches: those of its box, whatever a condition masks in it.
pub fn words(tile: &Tile, projection: &Projection) -> Words {
    // Ranks that the tensor lacks add nothing.
    let mut only = tile.clone();
    for (rank, range) in only.iter_mut().enumerate() {
        if !projection.all_dims().any(|d| follows(d, rank)) {
            range.1 = range.1.min(1);
        }
    }
    let points = points(&only);
    let touched = |p| projection.images().filter_map(move |dims| image(p, dims));
    points.iter().flat_map(|p: &Vec<u64>| touched(p)).collect()
}

/// Whether a block leaves a tile out: it skips empty ones, and a condition fails at each of its points.
pub fn left_out(tile: &Tile, space: &Space) -> bool {
    space.skip_empty
        && !space.conditions.is_empty()
        && !points(tile)
            .iter()
            .any(|p| space.conditions.iter().all(|c: &Condition| c.holds(p)))
}
