//! Words of one tile that the tile before it held too.

use einflow_mappings::{
    mapped::NamedLoop,
    nest::{MAX_DIMS, Projection},
};
use smallvec::SmallVec;

use crate::program::Tile;

/// The values of each dimension over a tile: first, and how many; none where they have gaps.
fn spans(tile: &Tile, projection: &Projection) -> Option<SmallVec<[(u128, u128); MAX_DIMS]>> {
    let mut out = SmallVec::new();
    for dim in &projection.dims {
        let (mut first, mut len) = (0u128, 1u128);
        for term in &dim.terms {
            let (start, length) = tile[term.rank];
            let unit = term.unit.max(1);
            let (low, high) = (start / unit, (start + length.max(1) - 1) / unit);
            let (low, count) = match term.modulus {
                Some(m) if high - low + 1 >= m => (0, m),
                Some(m) => (low % m, high - low + 1),
                None => (low, high - low + 1),
            };
            if term.coefficient > 1 && count > 1 && dim.terms.len() > 1 {
                // Sums with weights are whole only where the parts fill each other's gaps.
                let fills = dim.terms.iter().any(|t| t.coefficient == 1);
                if !fills {
                    return None;
                }
            }
            first += u128::from(low) * u128::from(term.coefficient);
            let weight = if dim.terms.len() == 1 {
                1
            } else {
                u128::from(term.coefficient)
            };
            len += u128::from(count - 1) * weight;
            if dim.terms.len() == 1 && term.coefficient > 1 {
                first = u128::from(low);
            }
        }
        out.push((first, len));
    }
    Some(out)
}

/// Whether two tiles hold the same words.
pub fn same(a: &Tile, b: &Tile, projection: &Projection) -> bool {
    projection.dims.iter().flat_map(|d| &d.terms).all(|t| {
        a[t.rank] == b[t.rank]
            || (a[t.rank].1 == 1
                && b[t.rank].1 == 1
                && t.value(a[t.rank].0) == t.value(b[t.rank].0))
    })
}

/// Words of a task's first step that the last step of the task before held.
pub fn overlap(before: &Tile, tile: &Tile, steps: &[NamedLoop], projection: &Projection) -> u128 {
    let (mut last, mut first) = (*before, *tile);
    for l in steps {
        let step = l.cut.step.max(1);
        let side = &mut last[l.cut.rank];
        let digit = side.1.div_ceil(step).max(1) - 1;
        *side = (side.0 + digit * step, side.1 - digit * step);
        let side = &mut first[l.cut.rank];
        *side = (side.0, side.1.min(step));
    }
    let (Some(last), Some(first)) = (spans(&last, projection), spans(&first, projection)) else {
        return 0;
    };
    last.iter()
        .zip(&first)
        .map(|((a, a_len), (b, b_len))| {
            let end = (a + a_len).min(b + b_len);
            end.saturating_sub(*a.max(b))
        })
        .product()
}
