//! The conditions on one pair of ranks, together: an interval of differences, one residue of the
//! difference, and blocks. Whether a box holds a point, and how many, is arithmetic.

use super::walk::{add, mul};
use super::{Condition, CountError};

/// Beyond every difference of coordinates, which stay below 2^62.
const FAR: i128 = 1 << 63;

/// `low <= x_a - x_b <= high`, `x_a - x_b` congruent to `remainder`, and the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub a: usize,
    pub b: usize,
    low: i128,
    high: i128,
    pub modulus: u64,
    remainder: u64,
    blocks: Option<(u64, u64)>,
}

/// The coordinates [start, start + len) of a rank, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub start: u64,
    pub len: u64,
}

impl Interval {
    fn last(self) -> u64 {
        self.start + (self.len - 1)
    }

    /// The part within block `k` of length `unit`; the block and the interval meet.
    fn within(self, k: u64, unit: u64) -> Self {
        let start = self.start.max(k.saturating_mul(unit));
        let last = self
            .last()
            .min(k.saturating_mul(unit).saturating_add(unit - 1));
        Self {
            start,
            len: last - start + 1,
        }
    }
}

impl Pair {
    /// No condition on two different ranks yet.
    pub fn new(a: usize, b: usize) -> Self {
        Self {
            a,
            b,
            low: -FAR,
            high: FAR,
            modulus: 1,
            remainder: 0,
            blocks: None,
        }
    }

    /// Adds a condition on the same two ranks; false where the sum of them has no such form.
    pub fn meet(&mut self, condition: &Condition) -> bool {
        match *condition {
            Condition::Band { a, low, high, .. } => {
                let (low, high) = if a == self.a {
                    (low, high)
                } else {
                    (
                        high.and_then(i128::checked_neg),
                        low.and_then(i128::checked_neg),
                    )
                };
                self.low = self.low.max(low.unwrap_or(-FAR)).min(FAR);
                self.high = self.high.min(high.unwrap_or(FAR)).max(-FAR);
                true
            }
            Condition::Congruent {
                a,
                modulus,
                remainder,
                ..
            } => {
                if remainder >= modulus {
                    self.never();
                    return true;
                }
                let turned = if a == self.a || remainder == 0 {
                    remainder
                } else {
                    modulus - remainder
                };
                self.meet_residue(modulus, turned)
            }
            Condition::SameBlock {
                a, unit_a, unit_b, ..
            } => {
                let blocks = if a == self.a {
                    (unit_a, unit_b)
                } else {
                    (unit_b, unit_a)
                };
                let same = self.blocks.is_none_or(|before| before == blocks);
                self.blocks = Some(blocks);
                same
            }
            Condition::Affine { .. }
            | Condition::General { .. }
            | Condition::All(_)
            | Condition::Any(_)
            | Condition::Not(_) => false,
        }
    }

    /// Whether the conditions hold as before where both coordinates are so much further.
    pub fn unchanged_by(&self, a: i128, b: i128) -> bool {
        let bounded = self.low > -FAR || self.high < FAR;
        let difference = if bounded {
            a == b
        } else {
            (a - b).rem_euclid(self.modulus.into()) == 0
        };
        let block =
            |by: i128, unit: u64| (by % i128::from(unit) == 0).then(|| by / i128::from(unit));
        let blocks =
            |(unit_a, unit_b)| block(a, unit_a).is_some_and(|a| block(b, unit_b) == Some(a));
        difference && self.blocks.is_none_or(blocks)
    }

    fn never(&mut self) {
        (self.low, self.high) = (1, 0);
    }

    /// The residues that satisfy both congruences; small moduli only, by trial.
    fn meet_residue(&mut self, modulus: u64, remainder: u64) -> bool {
        let (before, r) = (u128::from(self.modulus), u128::from(self.remainder));
        let (new, s) = (u128::from(modulus), u128::from(remainder));
        let (large, r, small, s) = if before >= new {
            (before, r, new, s)
        } else {
            (new, s, before, r)
        };
        let common = large / gcd(large, small) * small;
        if small > 1 << 20 || common >= 1 << 62 {
            return false;
        }
        match (0..small).map(|i| r + i * large).find(|x| x % small == s) {
            Some(x) => (self.modulus, self.remainder) = (common as u64, (x % common) as u64),
            None => self.never(),
        }
        true
    }

    /// Whether the conditions hold at every point of the box, or, given `tiles` with at least
    /// (extent of a, extent of b) coordinates, at one point of every tile of it at least.
    pub fn full(&self, a: Interval, b: Interval, tiles: Option<(u64, u64)>) -> bool {
        self.within_band(a, b)
            && self.blocks.is_none_or(|(unit_a, unit_b)| {
                let block = a.start / unit_a;
                a.last() / unit_a == block
                    && b.start / unit_b == block
                    && b.last() / unit_b == block
            })
            && (self.modulus == 1
                || (a.len == 1 && b.len == 1 && self.congruent(difference(a.start, b.start)))
                || tiles.is_some_and(|(a, b)| a.saturating_add(b) > self.modulus))
    }

    fn within_band(&self, a: Interval, b: Interval) -> bool {
        self.low <= difference(a.start, b.last()) && difference(a.last(), b.start) <= self.high
    }

    fn congruent(&self, difference: i128) -> bool {
        difference.rem_euclid(self.modulus.into()) == i128::from(self.remainder)
    }

    /// The blocks that both intervals meet.
    fn common_blocks(a: Interval, b: Interval, (unit_a, unit_b): (u64, u64)) -> (u64, u64) {
        let first = (a.start / unit_a).max(b.start / unit_b);
        (first, (a.last() / unit_a).min(b.last() / unit_b))
    }

    /// Whether one point of the box satisfies all.
    ///
    /// # Errors
    /// [`CountError::TooLarge`] where blocks of different lengths, together with other
    /// conditions, must be tried one by one and there are too many.
    pub fn holds_somewhere(&self, a: Interval, b: Interval) -> Result<bool, CountError> {
        let Some(units) = self.blocks else {
            return Ok(self.differs_well(a, b));
        };
        let (first, last) = Self::common_blocks(a, b, units);
        if first > last {
            return Ok(false);
        }
        let test = |k| self.differs_well(a.within(k, units.0), b.within(k, units.1));
        if self.modulus == 1 && self.low == -FAR && self.high == FAR {
            return Ok(true);
        }
        if units.0 == units.1 {
            // Blocks inside both intervals are all alike.
            return Ok(test(first) || test(last) || (last - first > 1 && test(first + 1)));
        }
        bounded_blocks(first, last)?;
        Ok((first..=last).any(test))
    }

    /// The same without the blocks.
    fn differs_well(&self, a: Interval, b: Interval) -> bool {
        let low = self.low.max(difference(a.start, b.last()));
        let high = self.high.min(difference(a.last(), b.start));
        low <= high && self.first_congruent(low) <= high
    }

    fn first_congruent(&self, low: i128) -> i128 {
        low + (i128::from(self.remainder) - low).rem_euclid(self.modulus.into())
    }

    /// Number of points of the box at which all hold.
    ///
    /// # Errors
    /// As [`Self::holds_somewhere`], and [`CountError::Overflow`].
    pub fn points(&self, a: Interval, b: Interval) -> Result<u128, CountError> {
        let Some(units) = self.blocks else {
            return self.points_by_difference(a, b);
        };
        let (first, last) = Self::common_blocks(a, b, units);
        if first > last {
            return Ok(0);
        }
        let count = |k| self.points_by_difference(a.within(k, units.0), b.within(k, units.1));
        let mut sum = count(first)?;
        if last > first {
            sum = add(sum, count(last)?)?;
        }
        if last - first <= 1 {
            return Ok(sum);
        }
        let free = self.modulus == 1 && self.low == -FAR && self.high == FAR;
        if units.0 == units.1 || free {
            // Blocks inside both intervals are all alike.
            return add(sum, mul((last - first - 1).into(), count(first + 1)?)?);
        }
        bounded_blocks(first, last)?;
        (first + 1..last).try_fold(sum, |sum, k| add(sum, count(k)?))
    }

    /// Sums, over the admitted differences d, the number of points with x_a - x_b = d. That number
    /// rises by one from the least difference on, is level at the shorter interval's length, and
    /// falls by one to the greatest difference.
    fn points_by_difference(&self, a: Interval, b: Interval) -> Result<u128, CountError> {
        let (least, greatest) = (difference(a.start, b.last()), difference(a.last(), b.start));
        let level = i128::from(a.len.min(b.len));
        let pieces = [
            (least, least + level - 1),
            (least + level, greatest - level),
            ((greatest - level + 1).max(least + level), greatest),
        ];
        let at = |d: i128| (d - least + 1).min(greatest - d + 1).min(level);
        let mut sum = 0;
        for (from, to) in pieces {
            let start = self.first_congruent(from.max(self.low));
            let end = to.min(self.high);
            if start > end {
                continue;
            }
            // An arithmetic series: the number of terms times the mean of first and last.
            let steps = (end - start) / i128::from(self.modulus);
            let ends = at(start) + at(start + steps * i128::from(self.modulus));
            sum = add(
                sum,
                mul((steps + 1).unsigned_abs(), ends.unsigned_abs())? / 2,
            )?;
        }
        Ok(sum)
    }

    /// The coordinates [first, last] of one rank outside of which no point of the other's interval
    /// satisfies the conditions.
    pub fn reach(&self, rank: usize, other: Interval) -> (i128, i128) {
        let (low, high) = self.bounds_for(rank);
        let mut range = (
            i128::from(other.start) + low,
            i128::from(other.last()) + high,
        );
        if let Some((unit, other_unit)) = self.units_for(rank) {
            let (first, last) = (other.start / other_unit, other.last() / other_unit);
            range.0 = range.0.max(i128::from(first) * i128::from(unit));
            range.1 = range.1.min((i128::from(last) + 1) * i128::from(unit) - 1);
        }
        range
    }

    /// Whether every coordinate within [`Self::reach`] is allowed by one of the other interval.
    pub fn reaches_all(&self) -> bool {
        let unbounded = self.low == -FAR && self.high == FAR;
        self.modulus == 1 && (unbounded || self.blocks.is_none())
    }

    /// The coordinates [first, last] of one rank at which every point of the other's interval
    /// satisfies the conditions, leaving aside the residue.
    pub fn interior(&self, rank: usize, other: Interval) -> (i128, i128) {
        let (low, high) = self.bounds_for(rank);
        let mut range = (
            i128::from(other.last()) + low,
            i128::from(other.start) + high,
        );
        if let Some((unit, other_unit)) = self.units_for(rank) {
            let block = other.start / other_unit;
            if block != other.last() / other_unit {
                return (1, 0);
            }
            range.0 = range.0.max(i128::from(block) * i128::from(unit));
            range.1 = range.1.min((i128::from(block) + 1) * i128::from(unit) - 1);
        }
        range
    }

    /// Least and greatest of (coordinate of `rank`) - (coordinate of the other).
    fn bounds_for(&self, rank: usize) -> (i128, i128) {
        if rank == self.a {
            (self.low, self.high)
        } else {
            (-self.high, -self.low)
        }
    }

    fn units_for(&self, rank: usize) -> Option<(u64, u64)> {
        self.blocks
            .map(|(a, b)| if rank == self.a { (a, b) } else { (b, a) })
    }

    /// Whether boxes at different distances can be alike though the conditions cross them.
    pub fn recurs(&self) -> bool {
        self.modulus > 1 || self.blocks.is_some()
    }

    /// What of a box's place decides which of its points satisfy the conditions; boxes of the same
    /// extents and the same place are alike. `exact` also tells boxes apart that are alike
    /// themselves but whose neighbours may differ.
    pub fn place(&self, a: Interval, b: Interval, exact: bool) -> [i64; 4] {
        let d = difference(a.start, b.start);
        let d = if exact || !self.within_band(a, b) {
            d as i64
        } else {
            // Away from every difference, lest it be taken for one.
            i64::MIN + d.rem_euclid(self.modulus.into()) as i64
        };
        let (phases, blocks) = match self.blocks {
            None => ([0, 0], 0),
            Some((unit_a, unit_b)) => (
                [(a.start % unit_a) as i64, (b.start % unit_b) as i64],
                (a.start / unit_a) as i64 - (b.start / unit_b) as i64,
            ),
        };
        [d, phases[0], phases[1], blocks]
    }
}

fn difference(a: u64, b: u64) -> i128 {
    i128::from(a) - i128::from(b)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn bounded_blocks(first: u64, last: u64) -> Result<(), CountError> {
    let limit = 1 << 20;
    if last - first > limit {
        return Err(CountError::TooLarge {
            what: "blocks of different lengths",
            limit,
        });
    }
    Ok(())
}
