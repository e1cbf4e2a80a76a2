//! The coordinates of one dimension over a tile.

use smallvec::{SmallVec, smallvec};

use super::Tile;
use crate::nest::{CountError, Dim, Term, region::Budget};

/// Consecutive coordinates, ascending and apart: (first, how many).
pub(super) type Runs = SmallVec<[(i64, u64); 2]>;

/// The coordinates of one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Set {
    Known(Runs),
    /// That many are chosen at run time, for these values.
    Chosen(Runs, u64),
}

impl Set {
    /// How many.
    pub fn size(&self) -> u64 {
        let all = |runs: &Runs| runs.iter().map(|r| r.1).sum::<u64>();
        match self {
            Self::Known(runs) => all(runs),
            Self::Chosen(runs, most) => all(runs).min(*most),
        }
    }

    /// What both have. Of words that are chosen only those are known to be the same which are chosen alike, or where
    /// all there are must have been.
    pub fn common(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(intersection(a, b)),
            (Self::Chosen(_, most), _) if self.size() == *most => other.clone(),
            (_, Self::Chosen(_, most)) if other.size() == *most => self.clone(),
            (Self::Known(all), Self::Chosen(_, most))
            | (Self::Chosen(_, most), Self::Known(all))
                if all.as_slice() == [(0, *most)] =>
            {
                match self {
                    Self::Chosen(..) => self.clone(),
                    Self::Known(_) => other.clone(),
                }
            }
            _ => Self::Known(Runs::new()),
        }
    }
}

fn intersection(a: &Runs, b: &Runs) -> Runs {
    let mut out = Runs::new();
    for &(s, n) in a {
        for &(t, m) in b {
            let (first, end) = (s.max(t), (s + n as i64).min(t + m as i64));
            if first < end {
                out.push((first, (end - first) as u64));
            }
        }
    }
    out
}

pub(super) fn joined(mut runs: Runs) -> Runs {
    runs.sort_unstable();
    let mut out = Runs::new();
    for (start, len) in runs {
        match out.last_mut() {
            Some((first, n)) if start <= *first + *n as i64 => {
                let end = (start + len as i64).max(*first + *n as i64);
                *n = (end - *first) as u64;
            }
            _ => out.push((start, len)),
        }
    }
    out
}

/// The coordinates of a dimension over a tile.
pub(super) fn set(dim: &Dim, tile: &Tile, budget: &Budget) -> Result<Set, CountError> {
    let mut first = i128::from(dim.offset);
    let mut runs: Runs = smallvec![(0, 1)];
    // What steps evenly: (coefficient, how many).
    let mut even: SmallVec<[(u64, u64); 4]> = SmallVec::new();
    for (i, term) in dim.terms.iter().enumerate() {
        let (start, len) = tile[term.rank];
        let of_rank = |t: &&Term| t.rank == term.rank;
        let (before, together) = (
            dim.terms[..i].iter().filter(of_rank).count(),
            dim.terms.iter().filter(of_rank),
        );
        if together.clone().count() > 1 {
            if before == 0 {
                runs = plus(
                    &runs,
                    &values(&together.collect::<Vec<_>>(), start, len, budget)?,
                    budget,
                )?;
            }
            continue;
        }
        match digits(term, start, len) {
            Some((low, count)) => {
                first += i128::from(term.coefficient) * i128::from(low);
                if count > 1 && term.coefficient > 0 {
                    even.push((term.coefficient, count));
                }
            }
            None => runs = plus(&runs, &values(&[term], start, len, budget)?, budget)?,
        }
    }
    // Sums with weights have no gaps where the smaller parts fill those of the larger.
    even.sort_unstable();
    for (coefficient, count) in even {
        if runs.len() == 1 && coefficient <= runs[0].1 {
            let more = coefficient.checked_mul(count - 1);
            let all = more.and_then(|more| more.checked_add(runs[0].1));
            runs[0].1 = all.ok_or(CountError::Overflow)?;
            continue;
        }
        let mut apart = Runs::new();
        for i in 0..count {
            budget.spend()?;
            let at = i.checked_mul(coefficient);
            let at = at.and_then(|v| i64::try_from(v).ok());
            apart.push((at.ok_or(CountError::Overflow)?, 1));
        }
        runs = plus(&runs, &apart, budget)?;
    }
    let first = i64::try_from(first).map_err(|_| CountError::Overflow)?;
    for run in &mut runs {
        run.0 = run.0.checked_add(first).ok_or(CountError::Overflow)?;
    }
    if let Some(size) = dim.within {
        runs = intersection(&runs, &smallvec![(0, size)]);
    }
    Ok(match dim.chosen {
        None => Set::Known(runs),
        Some(most) => Set::Chosen(runs, most),
    })
}

/// The values of a term over a run of coordinates, before the coefficient: first, and how many. None where they begin
/// anew on the way.
pub(super) fn digits(term: &Term, start: u64, len: u64) -> Option<(u64, u64)> {
    let unit = term.unit.max(1);
    let (low, high) = (start / unit, (start + len.max(1) - 1) / unit);
    match term.modulus {
        None => Some((low, high - low + 1)),
        Some(m) if high - low + 1 >= m => Some((0, m)),
        Some(m) => (low % m + (high - low) < m).then_some((low % m, high - low + 1)),
    }
}

/// The values of terms of one rank together, one coordinate after another.
fn values(terms: &[&Term], start: u64, len: u64, budget: &Budget) -> Result<Runs, CountError> {
    let mut runs = Runs::new();
    for x in start..start + len.max(1) {
        budget.spend()?;
        let value: u128 = terms.iter().map(|t| t.value(x)).sum();
        runs.push((i64::try_from(value).map_err(|_| CountError::Overflow)?, 1));
    }
    Ok(joined(runs))
}

/// All sums of two sets.
fn plus(a: &Runs, b: &Runs, budget: &Budget) -> Result<Runs, CountError> {
    let mut out = Runs::with_capacity(a.len() * b.len());
    for &(s, n) in a {
        for &(t, m) in b {
            budget.spend()?;
            out.push((s.checked_add(t).ok_or(CountError::Overflow)?, n + m - 1));
        }
    }
    Ok(joined(out))
}
