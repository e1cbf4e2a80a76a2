//! Sets of the values that a sum of terms takes: `{ Σ c_i * j_i : 0 <= j_i < n_i }`.
//!
//! Where the smaller terms fill the gaps of the larger ones the set is an arithmetic progression;
//! a dilated or strided convolution can leave gaps, and then the gap terms are enumerated.

use super::{CountError, MAX_RANKS};

/// Most runs that are enumerated for one set with gaps.
const MAX_RUNS: u64 = 1 << 20;

/// A sum of terms: (coefficient, number of consecutive values before the coefficient).
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    /// Sorted by coefficient; only terms with more than one value.
    terms: [(u64, u64); MAX_RANKS],
    len: usize,
}

/// `count` values from `start`, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progression {
    stride: u64,
    count: u64,
}

impl Sum {
    /// A sum of no terms: the set {0}.
    pub const ZERO: Self = Self {
        terms: [(0, 1); MAX_RANKS],
        len: 0,
    };

    /// Adds a term; at most [`MAX_RANKS`] of them.
    #[inline]
    pub fn push(&mut self, coefficient: u64, count: u64) {
        if coefficient == 0 || count <= 1 {
            return;
        }
        let mut at = self.len;
        while at > 0 && self.terms[at - 1].0 > coefficient {
            self.terms[at] = self.terms[at - 1];
            at -= 1;
        }
        self.terms[at] = (coefficient, count);
        self.len += 1;
    }

    fn terms(&self) -> &[(u64, u64)] {
        &self.terms[..self.len]
    }

    /// The progression that the leading terms make without gaps, and how many terms that takes.
    fn dense(&self) -> (Progression, usize) {
        let Some(&(stride, _)) = self.terms().first() else {
            return (
                Progression {
                    stride: 1,
                    count: 1,
                },
                0,
            );
        };
        let mut count = 1_u64;
        for (i, &(c, n)) in self.terms().iter().enumerate() {
            if !c.is_multiple_of(stride) || c / stride > count {
                return (Progression { stride, count }, i);
            }
            count = count.saturating_add((c / stride).saturating_mul(n - 1));
        }
        (Progression { stride, count }, self.len)
    }

    /// Number of different values.
    ///
    /// # Errors
    /// [`CountError::TooLarge`] where the set has gaps and too many runs.
    pub fn size(&self) -> Result<u128, CountError> {
        let (dense, used) = self.dense();
        if used == self.len {
            return Ok(dense.count.into());
        }
        Ok(total(&self.runs(dense.stride, dense.count, used, 0)?))
    }

    /// Number of values that lie between the least and the greatest, and not more than the
    /// number of index tuples: never below the size.
    pub fn size_at_most(&self) -> u128 {
        let fold = |(span, tuples): (u128, u128), &(c, n): &(u64, u64)| {
            (
                span + u128::from(c) * u128::from(n - 1),
                tuples.saturating_mul(n.into()),
            )
        };
        let (span, tuples) = self.terms().iter().fold((1, 1), fold);
        span.min(tuples)
    }

    /// Number of values that `self` and `other + shift` have in common.
    ///
    /// # Errors
    /// [`CountError::TooLarge`] where a set has gaps and too many runs.
    pub fn overlap(&self, other: &Self, shift: i128) -> Result<u128, CountError> {
        if shift == 0 && self.terms() == other.terms() {
            return self.size();
        }
        let ((a, a_used), (b, b_used)) = (self.dense(), other.dense());
        if a_used == self.len && b_used == other.len {
            let stride = if a.count == 1 { b.stride } else { a.stride };
            if a.count == 1 || b.count == 1 || a.stride == b.stride {
                if shift % i128::from(stride) != 0 {
                    return Ok(0);
                }
                let start = shift / i128::from(stride);
                let end = (start + i128::from(b.count)).min(a.count.into());
                return Ok((end - start.max(0)).max(0).unsigned_abs());
            }
        }
        let (a, b) = self.in_runs(other, shift)?;
        Ok(common(&a, &b))
    }

    /// Adds a term.
    ///
    /// # Errors
    /// [`CountError::TooMany`] beyond [`MAX_RANKS`] of them.
    pub fn add(&mut self, coefficient: u64, count: u64) -> Result<(), CountError> {
        if self.len == MAX_RANKS {
            return Err(CountError::TooMany {
                what: "terms of a dimension over instances",
                found: self.len + 1,
                limit: MAX_RANKS,
            });
        }
        self.push(coefficient, count);
        Ok(())
    }

    /// The sums of a value of each.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn plus(mut self, other: &Self) -> Result<Self, CountError> {
        for &(coefficient, count) in other.terms() {
            self.add(coefficient, count)?;
        }
        Ok(self)
    }

    /// Number of different sums of a value of `other + shift` that `self` lacks and one of `lanes`.
    ///
    /// # Errors
    /// [`CountError::TooLarge`] where a set has gaps and too many runs, or too many lanes.
    pub fn beyond(&self, other: &Self, shift: i128, lanes: &Self) -> Result<u128, CountError> {
        let (old, new) = self.in_runs(other, shift)?;
        let pieces = new.without(&old);
        match pieces.as_slice() {
            [] => return Ok(0),
            &[(_, start, end)] => {
                let mut sum = *lanes;
                sum.add(new.stride, (end - start) as u64)?;
                return sum.size();
            }
            _ => {}
        }
        let lanes = lanes.runs(1, 1, 0, 0)?;
        let too_many = total(&lanes) * pieces.len() as u128 > MAX_RUNS.into();
        if too_many {
            return Err(too_large());
        }
        let stride = i128::from(new.stride);
        let mut all = Vec::new();
        for lane in lanes.runs.iter().flat_map(|&(_, start, end)| start..end) {
            for &(residue, start, end) in &pieces {
                let (residue, carried) = (
                    (residue + lane).rem_euclid(stride),
                    (residue + lane).div_euclid(stride),
                );
                all.push((residue, start + carried, end + carried));
            }
        }
        Ok(total(&Runs::merged(new.stride, all)))
    }

    /// `self` and `other + shift` in runs of one stride: the common one, else single values.
    fn in_runs(&self, other: &Self, shift: i128) -> Result<(Runs, Runs), CountError> {
        let ((a, a_used), (b, b_used)) = (self.dense(), other.dense());
        if a.stride == b.stride {
            return Ok((
                self.runs(a.stride, a.count, a_used, 0)?,
                other.runs(b.stride, b.count, b_used, shift)?,
            ));
        }
        let single = |sum: &Self, dense: Progression, used: usize, shift| {
            if dense.stride == 1 {
                sum.runs(1, dense.count, used, shift)
            } else {
                sum.runs(1, 1, 0, shift)
            }
        };
        Ok((
            single(self, a, a_used, 0)?,
            single(other, b, b_used, shift)?,
        ))
    }

    /// The set, moved by `shift`, as runs of `stride`: terms before `used` make one run of
    /// `count`, the others are enumerated.
    fn runs(&self, stride: u64, count: u64, used: usize, shift: i128) -> Result<Runs, CountError> {
        let gaps = &self.terms()[used..];
        let runs = gaps
            .iter()
            .try_fold(1_u64, |runs, &(_, n)| runs.checked_mul(n));
        if runs.is_none_or(|runs| runs > MAX_RUNS) {
            return Err(too_large());
        }
        let mut starts = vec![shift];
        for &(c, n) in gaps {
            let before = starts.len();
            for j in 1..n {
                for i in 0..before {
                    starts.push(starts[i] + i128::from(c) * i128::from(j));
                }
            }
        }
        let step = i128::from(stride);
        let run = |s: i128| {
            let start = s.div_euclid(step);
            (s.rem_euclid(step), start, start + i128::from(count))
        };
        Ok(Runs::merged(stride, starts.into_iter().map(run).collect()))
    }
}

fn too_large() -> CountError {
    CountError::TooLarge {
        what: "runs of a tile with gaps",
        limit: MAX_RUNS,
    }
}

/// Disjoint runs in ascending order: (residue modulo the stride, first, one past the last).
struct Runs {
    stride: u64,
    runs: Vec<Run>,
}

type Run = (i128, i128, i128);

impl Runs {
    /// Joins runs that touch.
    fn merged(stride: u64, mut runs: Vec<Run>) -> Self {
        runs.sort_unstable();
        let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
        for (residue, start, end) in runs {
            match merged.last_mut() {
                Some(last) if last.0 == residue && start <= last.2 => last.2 = last.2.max(end),
                _ => merged.push((residue, start, end)),
            }
        }
        Self {
            stride,
            runs: merged,
        }
    }

    /// The runs of what `other`, of the same stride, lacks.
    fn without(&self, other: &Self) -> Vec<Run> {
        let mut left = Vec::new();
        let mut first = 0;
        for &(residue, mut start, end) in &self.runs {
            let before = |o: &&Run| (o.0, o.2) <= (residue, start);
            first += other.runs[first..].iter().take_while(before).count();
            let meets = |o: &&Run| o.0 == residue && o.1 < end;
            for o in other.runs[first..].iter().take_while(meets) {
                if start < o.1 {
                    left.push((residue, start, o.1));
                }
                start = start.max(o.2);
            }
            if start < end {
                left.push((residue, start, end));
            }
        }
        left
    }
}

fn total(runs: &Runs) -> u128 {
    runs.runs
        .iter()
        .map(|&(_, start, end)| (end - start).unsigned_abs())
        .sum()
}

fn common(a: &Runs, b: &Runs) -> u128 {
    let (mut i, mut j, mut sum) = (0, 0, 0_u128);
    while let (Some(&x), Some(&y)) = (a.runs.get(i), b.runs.get(j)) {
        if x.0 == y.0 {
            sum += (x.2.min(y.2) - x.1.max(y.1)).max(0).unsigned_abs();
        }
        if (x.0, x.2) < (y.0, y.2) {
            i += 1
        } else {
            j += 1
        }
    }
    sum
}
