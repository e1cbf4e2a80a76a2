//! The conditions of a space, grouped: ranks that no condition ties together are independent.

use std::cell::Cell;

use super::pair::{Interval, Pair};
use super::projection::NONE;
use super::walk::{add, mul};
use super::{Condition, CountError, MAX_RANKS, Space, Term};

/// Most boxes or points that are looked at one by one in one count.
pub(super) const MAX_VISITS: u64 = 10_000_000;

/// A box: an interval of each rank.
pub(super) type Box = [Interval; MAX_RANKS];

/// How much enumeration a count may still do.
#[derive(Debug)]
pub(super) struct Budget(Cell<u64>);

impl Budget {
    pub fn new() -> Self {
        Self(Cell::new(MAX_VISITS))
    }

    /// Takes one; an error when all are spent.
    pub fn spend(&self) -> Result<(), CountError> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(CountError::TooLarge {
                what: "tiles and points",
                limit: MAX_VISITS,
            }),
        }
    }
}

/// Ranks that conditions tie together, and these conditions.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Two ranks, in closed form.
    Pair(Pair),
    /// Anything else, by dividing boxes until each is inside or outside of every condition.
    Any {
        ranks: Vec<usize>,
        conditions: Vec<Condition>,
    },
}

/// The conditions of a space. A point is in the region where it is in every part.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub parts: Vec<Part>,
    /// The part that a rank is in, or [`NONE`].
    pub part_of: [u8; MAX_RANKS],
}

/// Where a box lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Inside,
    Outside,
    Across,
}

impl Region {
    /// Groups the conditions of a space of at most [`MAX_RANKS`] ranks.
    pub fn new(space: &Space) -> Result<Self, CountError> {
        let mut group: [usize; MAX_RANKS] = std::array::from_fn(|rank| rank);
        let mut tied = [false; MAX_RANKS];
        let mut conditions = Vec::with_capacity(space.conditions.len());
        for condition in &space.conditions {
            condition.check(space)?;
            conditions.extend(condition.simplified());
        }
        for condition in &conditions {
            let ranks = condition.ranks();
            for &rank in &ranks {
                tied[rank] = true;
                let (from, to) = (group[rank], group[ranks[0]]);
                group
                    .iter_mut()
                    .filter(|g| **g == from)
                    .for_each(|g| *g = to);
            }
        }
        let mut region = Self {
            parts: Vec::new(),
            part_of: [NONE; MAX_RANKS],
        };
        for root in 0..MAX_RANKS {
            let ranks: Vec<usize> = (0..MAX_RANKS)
                .filter(|&r| tied[r] && group[r] == root)
                .collect();
            if ranks.is_empty() {
                continue;
            }
            let conditions: Vec<&Condition> = conditions
                .iter()
                .filter(|c| c.ranks().first().is_some_and(|&r| group[r] == root))
                .collect();
            for &rank in &ranks {
                region.part_of[rank] = region.parts.len() as u8;
            }
            region.parts.push(Part::new(ranks, &conditions));
        }
        // Conditions on no rank hold everywhere or nowhere.
        let constants: Vec<Condition> = conditions
            .iter()
            .filter(|c| c.ranks().is_empty())
            .cloned()
            .collect();
        if !constants.is_empty() {
            region.parts.push(Part::Any {
                ranks: Vec::new(),
                conditions: constants,
            });
        }
        Ok(region)
    }

    /// Points that have to be looked at one by one, at most.
    pub fn enumerated(&self, extents: &[u64; MAX_RANKS]) -> Result<u128, CountError> {
        self.parts.iter().try_fold(0, |sum, part| match part {
            Part::Pair(_) => Ok(sum),
            Part::Any { ranks, .. } => add(
                sum,
                ranks
                    .iter()
                    .try_fold(1, |points, &r| mul(points, extents[r].into()))?,
            ),
        })
    }

    /// Points of the box that are in the region.
    pub fn points(&self, within: &Box, ranks: usize) -> Result<u128, CountError> {
        let budget = Budget::new();
        let free = (0..ranks)
            .filter(|&r| self.part_of[r] == NONE)
            .try_fold(1, |points, r| mul(points, within[r].len.into()))?;
        self.parts.iter().try_fold(free, |points, part| {
            mul(points, part.points(within, &budget)?)
        })
    }
}

impl Part {
    fn new(ranks: Vec<usize>, conditions: &[&Condition]) -> Self {
        if let [a, b] = ranks[..] {
            let mut pair = Pair::new(a, b);
            let two = |c: &&Condition| c.ranks().iter().any(|&r| r != c.ranks()[0]);
            if conditions.iter().all(|c| two(c) && pair.meet(c)) {
                return Self::Pair(pair);
            }
        }
        Self::Any {
            ranks,
            conditions: conditions.iter().map(|&c| c.clone()).collect(),
        }
    }

    /// Whether the conditions hold at one point of the box at least.
    pub fn holds_somewhere(&self, within: &Box, budget: &Budget) -> Result<bool, CountError> {
        match self {
            Self::Pair(pair) => pair.holds_somewhere(within[pair.a], within[pair.b]),
            Self::Any { ranks, conditions } => {
                Ok(search(ranks, conditions, within, budget, true)? > 0)
            }
        }
    }

    /// Where a box lies, as far as its ends tell.
    pub fn side(&self, within: &Box) -> Side {
        match self {
            Self::Pair(pair) => {
                let (a, b) = (within[pair.a], within[pair.b]);
                match pair.holds_somewhere(a, b) {
                    Ok(false) => Side::Outside,
                    _ if pair.full(a, b, None) => Side::Inside,
                    _ => Side::Across,
                }
            }
            Self::Any { conditions, .. } => side_of_all(conditions, within),
        }
    }

    /// The ranks that it ties together.
    pub fn ranks(&self) -> Vec<usize> {
        match self {
            Self::Pair(pair) => vec![pair.a, pair.b],
            Self::Any { ranks, .. } => ranks.clone(),
        }
    }

    /// Points of the box, in its own ranks, at which all conditions hold.
    pub fn points(&self, within: &Box, budget: &Budget) -> Result<u128, CountError> {
        match self {
            Self::Pair(pair) => pair.points(within[pair.a], within[pair.b]),
            Self::Any { ranks, conditions } => search(ranks, conditions, within, budget, false),
        }
    }
}

/// Where a box lies to several conditions that all have to hold.
fn side_of_all(conditions: &[Condition], within: &Box) -> Side {
    let mut all = Side::Inside;
    for condition in conditions {
        match condition.side(within) {
            Side::Outside => return Side::Outside,
            Side::Across => all = Side::Across,
            Side::Inside => {}
        }
    }
    all
}

/// Counts the points of a box at which all conditions hold, or stops at the first.
fn search(
    ranks: &[usize],
    conditions: &[Condition],
    within: &Box,
    budget: &Budget,
    first: bool,
) -> Result<u128, CountError> {
    budget.spend()?;
    match side_of_all(conditions, within) {
        Side::Outside => return Ok(0),
        Side::Inside => {
            return ranks
                .iter()
                .try_fold(1, |points, &r| mul(points, within[r].len.into()));
        }
        Side::Across => {}
    }
    let Some(&longest) = ranks
        .iter()
        .max_by_key(|&&r| within[r].len)
        .filter(|&&r| within[r].len > 1)
    else {
        return Ok(0);
    };
    let whole = within[longest];
    let half = whole.len / 2;
    let (mut lower, mut upper) = (*within, *within);
    lower[longest] = Interval {
        start: whole.start,
        len: half,
    };
    upper[longest] = Interval {
        start: whole.start + half,
        len: whole.len - half,
    };
    let points = search(ranks, conditions, &lower, budget, first)?;
    if first && points > 0 {
        return Ok(points);
    }
    add(points, search(ranks, conditions, &upper, budget, first)?)
}

impl Condition {
    /// The ranks that it reads.
    pub(crate) fn ranks(&self) -> Vec<usize> {
        match *self {
            Self::Band { a, b, .. }
            | Self::Congruent { a, b, .. }
            | Self::SameBlock { a, b, .. } => {
                vec![a, b]
            }
            Self::Affine { ref terms, .. } => {
                let mut ranks: Vec<usize> = terms.iter().map(|(_, term)| term.rank).collect();
                ranks.sort_unstable();
                ranks.dedup();
                ranks
            }
            Self::General { ref ranks, .. } => ranks.clone(),
            Self::All(ref list) | Self::Any(ref list) => {
                let mut ranks: Vec<usize> = list.iter().flat_map(Self::ranks).collect();
                ranks.sort_unstable();
                ranks.dedup();
                ranks
            }
            Self::Not(ref not) => not.ranks(),
        }
    }

    /// Where a box lies; exact for a single point.
    fn side(&self, within: &Box) -> Side {
        let sure = |all: bool, some: bool| match (all, some) {
            (true, _) => Side::Inside,
            (_, true) => Side::Across,
            _ => Side::Outside,
        };
        match *self {
            Self::Affine {
                ref terms,
                low,
                high,
                residue,
            } => {
                let (mut least, mut greatest) = (0, 0);
                for &(weight, term) in terms {
                    let weight = i128::from(weight) * i128::from(term.coefficient);
                    let (first, last) = digits(term, within[term.rank]);
                    let ends = [weight * i128::from(first), weight * i128::from(last)];
                    least += ends[0].min(ends[1]);
                    greatest += ends[0].max(ends[1]);
                }
                let above = |x: i128| low.is_none_or(|low| low <= x);
                let below = |x: i128| high.is_none_or(|high| x <= high);
                let (all, some) = residue.map_or((true, true), |(modulus, remainder)| {
                    let rest = least.rem_euclid(modulus.into());
                    let one = least == greatest;
                    (
                        one && rest == remainder.into(),
                        !one || rest == remainder.into(),
                    )
                });
                sure(
                    all && above(least) && below(greatest),
                    some && above(greatest) && below(least),
                )
            }
            Self::General {
                ref ranks,
                ref test,
            } => {
                if ranks.iter().any(|&r| within[r].len > 1) {
                    return Side::Across;
                }
                let point: Vec<u64> = ranks.iter().map(|&r| within[r].start).collect();
                let holds = test.holds(&point);
                sure(holds, holds)
            }
            Self::All(ref list) => side_of_all(list, within),
            Self::Any(ref list) => {
                let mut some = false;
                for condition in list {
                    match condition.side(within) {
                        Side::Inside => return Side::Inside,
                        Side::Across => some = true,
                        Side::Outside => {}
                    }
                }
                sure(false, some)
            }
            Self::Not(ref not) => match not.side(within) {
                Side::Inside => Side::Outside,
                Side::Outside => Side::Inside,
                Side::Across => Side::Across,
            },
            Self::Band { a, b, .. }
            | Self::Congruent { a, b, .. }
            | Self::SameBlock { a, b, .. } => {
                let mut pair = Pair::new(a, if a == b { MAX_RANKS } else { b });
                pair.meet(self);
                let (x, y) = if a == b && !matches!(self, Self::SameBlock { .. }) {
                    // The difference of a coordinate and itself is 0 everywhere.
                    (Interval { start: 0, len: 1 }, Interval { start: 0, len: 1 })
                } else {
                    (within[a], within[b])
                };
                let some = pair.holds_somewhere(x, y).unwrap_or(true);
                sure(pair.full(x, y, None), some)
            }
        }
    }
}

/// Least and greatest of `(x / unit) % modulus` over an interval, or 0 and modulus - 1 where the
/// remainder starts over within it.
fn digits(term: Term, interval: Interval) -> (u64, u64) {
    let last = interval.start + (interval.len - 1);
    let (first, last) = (interval.start / term.unit, last / term.unit);
    match term.modulus {
        None => (first, last),
        Some(modulus) if first / modulus == last / modulus => (first % modulus, last % modulus),
        Some(modulus) => (0, modulus - 1),
    }
}

/// Whether tiles hold any point at which all conditions of a space hold.
#[derive(Debug)]
pub struct Occupied {
    region: Region,
    ranks: usize,
}

impl Occupied {
    /// Of the points of this space.
    ///
    /// # Errors
    /// Conditions on ranks that the space lacks, or too many ranks.
    pub fn new(space: &Space) -> Result<Self, CountError> {
        space.extents()?;
        Ok(Self {
            region: Region::new(space)?,
            ranks: space.sizes.len(),
        })
    }

    /// Whether a box, given as first coordinate and length of each rank, holds such a point.
    ///
    /// # Errors
    /// [`CountError::TooLarge`] where conditions without a closed form leave too much to try.
    pub fn holds(&self, tile: &[(u64, u64)]) -> Result<bool, CountError> {
        let mut within: Box = [Interval { start: 0, len: 1 }; MAX_RANKS];
        for (side, &(start, len)) in within.iter_mut().zip(tile).take(self.ranks) {
            if len == 0 {
                return Ok(false);
            }
            *side = Interval { start, len };
        }
        for part in &self.region.parts {
            if !part.holds_somewhere(&within, &Budget::new())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a condition has a say along a rank.
    pub fn depends_on(&self, rank: usize) -> bool {
        self.region
            .part_of
            .get(rank)
            .is_some_and(|part| *part != NONE)
    }

    /// Whether a point is one where, and only where, the point that lies so much further along these ranks is: a mask
    /// along its own diagonal.
    pub fn unchanged_by(&self, shifts: &[(usize, u64)]) -> bool {
        let of = |rank: usize| {
            let own = shifts.iter().filter(|(r, _)| *r == rank);
            own.map(|(_, by)| i128::from(*by)).sum::<i128>()
        };
        self.region.parts.iter().all(|part| match part {
            Part::Pair(pair) => pair.unchanged_by(of(pair.a), of(pair.b)),
            Part::Any { conditions, .. } => conditions.iter().all(|c| c.unchanged_by(&of)),
        })
    }

    /// Whether [`Self::holds`] and [`Self::whole`] of boxes of any size are arithmetic.
    pub fn is_closed(&self) -> bool {
        let closed = |part: &Part| match part {
            Part::Pair(_) => true,
            Part::Any { ranks, .. } => ranks.is_empty(),
        };
        self.region.parts.iter().all(closed)
    }

    /// Whether every point of a box is one: a tile inside it is like any other.
    pub fn whole(&self, tile: &[(u64, u64)]) -> bool {
        let mut within: Box = [Interval { start: 0, len: 1 }; MAX_RANKS];
        for (side, &(start, len)) in within.iter_mut().zip(tile).take(self.ranks) {
            if len == 0 {
                return true;
            }
            *side = Interval { start, len };
        }
        self.region
            .parts
            .iter()
            .all(|part| match part.side(&within) {
                Side::Inside => true,
                Side::Outside => false,
                Side::Across => {
                    let mut ranks = part.ranks().into_iter();
                    let all = ranks.try_fold(1u128, |p, r| mul(p, within[r].len.into()));
                    let points = part.points(&within, &Budget::new());
                    matches!((points, all), (Ok(points), Ok(all)) if points == all)
                }
            })
    }
}
