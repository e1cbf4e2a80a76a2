//! Which words tiles hold, and which of them the tile before held too.

use einflow_mappings::{
    mapped::{NamedLoop, Transfer},
    nest::{self, CountError, MAX_DIMS, Projection, Reuse, Term, common},
};
use smallvec::SmallVec;

use super::parts::Tile;

/// The values of each dimension over a tile: first, and how many; none where they have gaps, or dimensions depend on
/// each other.
fn spans(tile: &Tile, projection: &Projection) -> Option<SmallVec<[(i128, i128); MAX_DIMS]>> {
    let mut out = SmallVec::new();
    // Ranks along which a dimension before has moved.
    let mut moved = 0u32;
    for dim in &projection.dims {
        let (mut first, mut len) = (0i128, 1i128);
        let mut terms: SmallVec<[(i128, i128); 4]> = SmallVec::new();
        for term in &dim.terms {
            let (start, length) = tile[term.rank];
            let (low, count) = term.digits(start, length)?;
            if count > 1 {
                if moved & (1 << term.rank) != 0 {
                    return None;
                }
                moved |= 1 << term.rank;
            }
            if dim.terms.len() == 1 {
                (first, len) = (low.into(), count.into());
                break;
            }
            let coefficient = i128::from(term.coefficient);
            let more = i128::from(count) - 1;
            first += i128::from(low) * coefficient + more * coefficient.min(0);
            if count > 1 {
                terms.push((coefficient.abs(), more));
            }
        }
        // Sums with weights have no gaps where the smaller parts fill those of the larger.
        terms.sort_unstable();
        for (coefficient, more) in terms {
            if coefficient > len {
                return None;
            }
            len += coefficient * more;
        }
        out.push((first, len));
    }
    Some(out)
}

/// The words of a tile, ascending.
fn listed(tile: &Tile, projection: &Projection) -> Vec<SmallVec<[i128; MAX_DIMS]>> {
    let mut ranks: SmallVec<[usize; 8]> = projection
        .dims
        .iter()
        .flat_map(|d| d.terms.iter().map(|t| t.rank))
        .collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut point = tile.map(|(start, _)| start);
    let mut words = Vec::new();
    loop {
        let value =
            |d: &einflow_mappings::nest::Dim| d.terms.iter().map(|t| t.value(point[t.rank])).sum();
        words.push(projection.dims.iter().map(value).collect());
        let next = ranks.iter().find(|r| {
            let (start, length) = tile[**r];
            point[**r] += 1;
            let inside = point[**r] < start + length;
            if !inside {
                point[**r] = start;
            }
            inside
        });
        if next.is_none() {
            break;
        }
    }
    words.sort_unstable();
    words.dedup();
    words
}

/// Whether two tiles hold the same words.
pub fn same(a: &Tile, b: &Tile, projection: &Projection) -> bool {
    let mut stays = true;
    let mut look = |t: &Term| stays &= a[t.rank] == b[t.rank];
    projection.all_dims().for_each(|d| d.each_term(&mut look));
    if stays {
        return true;
    }
    if projection.dims.iter().any(|d| !d.wrapped.is_empty()) {
        return nest::same(a, b, projection).unwrap_or(false);
    }
    let mut terms = projection.dims.iter().flat_map(|d| &d.terms);
    // A word for each coordinate.
    let apart = terms.all(|t| t.unit <= 1 && t.modulus.is_none());
    if apart && projection.dims.iter().all(|d| d.terms.len() <= 1) {
        return false;
    }
    match (spans(a, projection), spans(b, projection)) {
        (Some(a), Some(b)) => a == b,
        _ => listed(a, projection) == listed(b, projection),
    }
}

/// Words of a task's first step that are still there from the last step of the task before.
///
/// # Errors
/// As [`common`].
pub fn overlap(
    before: &Tile,
    tile: &Tile,
    steps: &[NamedLoop],
    moved: &Transfer,
) -> Result<u128, CountError> {
    let (mut last, mut first) = (*before, *tile);
    for l in steps {
        let step = l.cut.step.max(1);
        let side = &mut last[l.cut.rank];
        let digit = side.1.div_ceil(step).max(1) - 1;
        *side = (side.0 + digit * step, side.1 - digit * step);
        let side = &mut first[l.cut.rank];
        *side = (side.0, side.1.min(step));
    }
    let projection = &moved.projection;
    let moved_on = || {
        projection
            .all_dims()
            .any(|d| d.first(&last) != d.first(&first))
    };
    if moved.reuse == Reuse::InPlace && moved_on() {
        return Ok(0);
    }
    if !projection.is_plain() {
        return common(&first, &last, projection);
    }
    let (Some(last), Some(first)) = (spans(&last, projection), spans(&first, projection)) else {
        let (last, first) = (listed(&last, projection), listed(&first, projection));
        let held = first.iter().filter(|word| last.binary_search(word).is_ok());
        return Ok(held.count() as u128);
    };
    let both = |((a, a_len), (b, b_len)): (&(i128, i128), &(i128, i128))| {
        let end = (a + a_len).min(b + b_len);
        (end - *a.max(b)).max(0).unsigned_abs()
    };
    Ok(last.iter().zip(&first).map(both).product())
}
