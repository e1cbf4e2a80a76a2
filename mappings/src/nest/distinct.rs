//! The words that the tiles which run touch at all.

use std::collections::HashSet;

use super::cuts::Cuts;
use super::pair::Interval;
use super::projection::{FlatTerm, NONE, View};
use super::region::{Box, Budget, Part, Region};
use super::skip::Skip;
use super::walk::{add, mul};
use super::{CountError, Loop, Reuse, Space, moved};

/// Number of words that the running tiles touch.
///
/// Their order does not matter, nor do the loops of ranks that the tensor does not have: a box of
/// its own ranks is touched where it satisfies the conditions together with the whole of the
/// others. Where boxes hold different words, all there is to do is to add them up.
pub(super) fn touched(
    space: &Space,
    cuts: &Cuts,
    view: &View,
    region: &Region,
) -> Result<u128, CountError> {
    let extents = space.extents()?;
    let tied = |term: &FlatTerm| region.part_of[term.rank as usize] != NONE;
    let (mut free, mut bound) = (Vec::new(), Vec::new());
    for d in 0..view.dims() {
        if view.dim(d).iter().any(tied) {
            bound.push(d)
        } else {
            free.push(d)
        }
    }
    let free = free
        .iter()
        .try_fold(1, |words, &d| mul(words, view.sum(d, &extents).size()?))?;
    // Loops that divide the tensor's tied ranks, down to its digits.
    let loops: Vec<Loop> = cuts.all()[..cuts.tested]
        .iter()
        .map(|cut| Loop::new(cut.rank as usize, cut.step))
        .filter(|l| {
            view.term_of(l.rank)
                .is_some_and(|term| tied(term) && l.step >= term.unit)
        })
        .collect();
    let cuts = Cuts::new(space, &loops, loops.len(), view)?;
    let whole = moved::whole(&extents);
    let budget = Budget::new();
    for part in &region.parts {
        if !part.holds_somewhere(&whole, &budget)? {
            return Ok(0);
        }
    }
    let disjoint = bound
        .iter()
        .all(|&d| matches!(view.dim(d), [term] if term.modulus == u64::MAX));
    let apart = disjoint
        .then(|| apart(&cuts, view, region, &bound, &whole))
        .flatten();
    if let Some(words) = apart {
        return mul(free, words?);
    }
    if !disjoint {
        let mut words = HashSet::new();
        enumerate(
            &cuts,
            view,
            region,
            &bound,
            0,
            &whole,
            &Budget::new(),
            &mut words,
        )?;
        return mul(free, words.len() as u128);
    }
    let bound = view.only(&bound);
    let found = Skip::new(&cuts, &bound, region, cuts.tested, Reuse::Previous).within(0, &whole)?;
    let words = match found {
        Some(found) => add(bound.words(&found.first.map(|tile| tile.len))?, found.words)?,
        None => 0,
    };
    mul(free, words)
}

/// Number of words that the points touch at which all conditions hold.
pub(super) fn used(space: &Space, view: &View, region: &Region) -> Result<u128, CountError> {
    let extents = space.extents()?;
    let tied: Vec<&FlatTerm> = (0..view.dims())
        .flat_map(|d| view.dim(d))
        .filter(|term| region.part_of[term.rank as usize] != NONE)
        .collect();
    // Where words and points of the tied ranks are the same thing, the points are counted.
    let plain = |d: usize| matches!(view.dim(d), [t] if t.unit == 1 && t.modulus == u64::MAX);
    let alone = tied.iter().all(|term| plain(term.dim as usize));
    let complete = |part: &Part| {
        let ranks = part.ranks();
        !ranks.is_empty() && ranks.iter().all(|&r| view.term_of(r).is_some())
    };
    if alone && region.parts.iter().all(complete) {
        let free = (0..view.dims())
            .filter(|&d| !tied.iter().any(|term| term.dim as usize == d))
            .try_fold(1, |words, d| mul(words, view.sum(d, &extents).size()?))?;
        let (whole, budget) = (moved::whole(&extents), Budget::new());
        return region.parts.iter().try_fold(free, |words, part| {
            mul(words, part.points(&whole, &budget)?)
        });
    }
    let loops: Vec<Loop> = tied
        .iter()
        .map(|term| Loop::new(term.rank as usize, term.unit))
        .collect();
    let cuts = Cuts::new(space, &loops, loops.len(), view)?;
    touched(space, &cuts, view, region)
}

/// The words where the tensor has one rank only of each tied pair: the tiles of that rank which
/// meet the coordinates that some coordinate of the other rank allows. None in any other case.
fn apart(
    cuts: &Cuts,
    view: &View,
    region: &Region,
    dims: &[usize],
    whole: &Box,
) -> Option<Result<u128, CountError>> {
    let mut words = Ok(1);
    for &d in dims {
        let [term] = view.dim(d) else { return None };
        let rank = term.rank as usize;
        let Part::Pair(pair) = region.parts.get(region.part_of[rank] as usize)? else {
            return None;
        };
        let other = if rank == pair.a { pair.b } else { pair.a };
        if !pair.reaches_all() || view.term_of(other).is_some() {
            return None;
        }
        let (first, last) = pair.reach(rank, whole[other]);
        let end = i128::from(whole[rank].len - 1);
        let first = cuts
            .tile_of(rank, whole[rank].len, first.clamp(0, end) as u64)
            .0;
        let (start, len) = cuts.tile_of(rank, whole[rank].len, last.clamp(0, end) as u64);
        let digits = (start + len).div_ceil(term.unit) - first / term.unit;
        words = words.and_then(|words| mul(words, digits.into()));
    }
    Some(words)
}

/// Collects the words of every box that runs.
#[allow(clippy::too_many_arguments)]
fn enumerate(
    cuts: &Cuts,
    view: &View,
    region: &Region,
    dims: &[usize],
    depth: usize,
    within: &Box,
    budget: &Budget,
    words: &mut HashSet<Vec<u64>>,
) -> Result<(), CountError> {
    budget.spend()?;
    for part in &region.parts {
        if !part.holds_somewhere(within, budget)? {
            return Ok(());
        }
    }
    let Some(cut) = cuts.all().get(depth) else {
        let mut tuples = vec![Vec::new()];
        for &d in dims {
            let values = values(view.dim(d), within, budget)?;
            let mut longer = Vec::with_capacity(tuples.len());
            for tuple in &tuples {
                for &value in &values {
                    budget.spend()?;
                    let mut tuple: Vec<u64> = tuple.clone();
                    tuple.push(value);
                    longer.push(tuple);
                }
            }
            tuples = longer;
        }
        words.extend(tuples);
        return Ok(());
    };
    let rank = cut.rank as usize;
    let whole = within[rank];
    let mut at = 0;
    while at < whole.len {
        let mut part = *within;
        part[rank] = Interval {
            start: whole.start + at,
            len: cut.step.min(whole.len - at),
        };
        enumerate(cuts, view, region, dims, depth + 1, &part, budget, words)?;
        at += cut.step;
    }
    Ok(())
}

/// The values of one dimension over a box.
fn values(terms: &[FlatTerm], within: &Box, budget: &Budget) -> Result<Vec<u64>, CountError> {
    let mut values = vec![0_u64];
    for term in terms {
        let interval = within[term.rank as usize];
        let digits = term.digits(interval.start, interval.len);
        let mut sums = HashSet::new();
        for &value in &values {
            for digit in digits.start..digits.start + digits.count {
                budget.spend()?;
                sums.insert(value + term.coefficient * digit);
            }
        }
        values = sums.into_iter().collect();
    }
    values.sort_unstable();
    Ok(values)
}
