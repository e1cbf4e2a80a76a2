//! The coordinates of one dimension over a tile.

use smallvec::{SmallVec, smallvec};

use super::Tile;
use crate::nest::{CountError, Dim, Term, Wrapped, region::Budget};

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
    let mut runs = sums(dim, tile, budget)?;
    if let Some(size) = dim.within {
        runs = intersection(&runs, &smallvec![(0, size)]);
    }
    Ok(match dim.chosen {
        None => Set::Known(runs),
        Some(most) => Set::Chosen(runs, most),
    })
}

/// The values of a dimension's sum over a tile, whether or not they exist.
fn sums(dim: &Dim, tile: &Tile, budget: &Budget) -> Result<Runs, CountError> {
    if dim.wrapped.is_empty() {
        return unwrapped(dim, tile, budget);
    }
    // Summands that follow one rank are not free of each other: then every point is looked at.
    let moves = |d: &Dim| {
        let mut ranks = 0u32;
        d.each_term(&mut |t| ranks |= u32::from(tile[t.rank].1 > 1) << t.rank);
        ranks
    };
    let plain = Dim {
        wrapped: Vec::new(),
        ..dim.clone()
    };
    let mut moved = moves(&plain);
    for wrapped in &dim.wrapped {
        let own = moves(&wrapped.of);
        if moved & own != 0 {
            return enumerated(dim, tile, budget);
        }
        moved |= own;
    }
    let mut runs = unwrapped(&plain, tile, budget)?;
    for wrapped in &dim.wrapped {
        let own = folded(wrapped, &sums(&wrapped.of, tile, budget)?, budget)?;
        runs = plus(&runs, &own, budget)?;
    }
    Ok(runs)
}

/// What digits the values of a sum have.
fn folded(wrapped: &Wrapped, sums: &Runs, budget: &Budget) -> Result<Runs, CountError> {
    let unit = i64::try_from(wrapped.unit.max(1)).map_err(|_| CountError::Overflow)?;
    let mut digits = Runs::new();
    for &(start, len) in sums {
        budget.spend()?;
        let (first, last) = (start.div_euclid(unit), end(start, len)?.div_euclid(unit));
        let count = first.abs_diff(last) + 1;
        match wrapped.modulus.map(|m| m.max(1)) {
            None => digits.push((first, count)),
            Some(m) if count >= m => digits.push((0, m)),
            Some(m) => {
                let signed = i64::try_from(m).map_err(|_| CountError::Overflow)?;
                let first = first.rem_euclid(signed);
                let before = count.min(first.abs_diff(signed));
                digits.push((first, before));
                if before < count {
                    digits.push((0, count - before));
                }
            }
        }
    }
    let coefficient = wrapped.coefficient;
    let times = |v: i64| v.checked_mul(coefficient).ok_or(CountError::Overflow);
    let mut out = Runs::new();
    for (start, len) in joined(digits) {
        match coefficient {
            1 => out.push((start, len)),
            -1 => out.push((times(end(start, len)?)?, len)),
            _ => {
                for value in start..=end(start, len)? {
                    budget.spend()?;
                    out.push((times(value)?, 1));
                }
            }
        }
    }
    Ok(joined(out))
}

/// The last of a run.
fn end(start: i64, len: u64) -> Result<i64, CountError> {
    let more = i64::try_from(len.max(1) - 1).ok();
    let end = more.and_then(|more| start.checked_add(more));
    end.ok_or(CountError::Overflow)
}

/// The values at every point.
fn enumerated(dim: &Dim, tile: &Tile, budget: &Budget) -> Result<Runs, CountError> {
    let mut ranks: SmallVec<[usize; 4]> = SmallVec::new();
    dim.each_term(&mut |t| {
        if tile[t.rank].1 > 1 && !ranks.contains(&t.rank) {
            ranks.push(t.rank);
        }
    });
    let mut point = tile.map(|(start, _)| start);
    let mut runs = Runs::new();
    loop {
        budget.spend()?;
        let value = i64::try_from(dim.at(&|rank| point[rank]));
        runs.push((value.map_err(|_| CountError::Overflow)?, 1));
        let next = ranks.iter().find(|&&r| {
            let (start, len) = tile[r];
            point[r] += 1;
            let inside = point[r] < start + len;
            if !inside {
                point[r] = start;
            }
            inside
        });
        if next.is_none() {
            return Ok(joined(runs));
        }
    }
}

/// The sums of a dimension's terms over a tile.
fn unwrapped(dim: &Dim, tile: &Tile, budget: &Budget) -> Result<Runs, CountError> {
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
        match term.digits(start, len) {
            Some((low, count)) => {
                let high = i128::from(low) + i128::from(count) - 1;
                let least = if term.coefficient < 0 {
                    high
                } else {
                    low.into()
                };
                first += i128::from(term.coefficient) * least;
                if count > 1 && term.coefficient != 0 {
                    even.push((term.coefficient.unsigned_abs(), count));
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
    Ok(runs)
}

/// The values of terms of one rank together, one coordinate after another.
fn values(terms: &[&Term], start: u64, len: u64, budget: &Budget) -> Result<Runs, CountError> {
    let mut runs = Runs::new();
    for x in start..start + len.max(1) {
        budget.spend()?;
        let value: i128 = terms.iter().map(|t| t.value(x)).sum();
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
