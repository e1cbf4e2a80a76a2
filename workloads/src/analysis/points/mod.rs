//! How many points of a box satisfy conditions on their coordinates.
//!
//! Conditions that are affine in the coordinates, also through `/`, `%`, `min`, `max`, `abs` and the logical
//! operators, count in closed form: a causal mask over 2^24 x 2^24 points costs no more than one over 4 x 4. The rest
//! is counted point by point up to [`ENUMERATED`] points, and beyond that bounded by the box.

mod image;
mod region;
mod term;

use std::ops::Range;

use einflow_spec::expr::Expr;
use einflow_spec::{Problem, Source};

pub(super) use image::{Image, reached};
use region::Residues;
use term::{Affine, Formula, Stop};

/// Boxes of up to this many points are counted point by point where no closed form is known.
pub const ENUMERATED: u128 = 1 << 20;

/// A number of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// How many.
    pub count: u128,
    /// False where `count` is the size of the whole box, an upper bound.
    pub exact: bool,
}

/// A rank variable and the coordinates that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis<'a> {
    /// The rank variable.
    pub variable: &'a str,
    /// Its coordinates.
    pub range: Range<i128>,
}

/// Counts the points of the box of `axes` at which every condition holds. `size` gives ranks and parameters their
/// values; `source` is the file in which the conditions stand.
///
/// # Errors
/// A count beyond 128 bits, an unknown name, or a condition that divides by zero.
pub fn count(
    axes: &[Axis<'_>],
    conditions: &[&Expr],
    source: &Source,
    size: &dyn Fn(&str) -> Option<i128>,
) -> Result<Points, Problem> {
    let all = volume(axes.iter().map(|axis| &axis.range))
        .ok_or_else(|| Problem::nowhere("the iteration space has more than 2^127 points"))?;
    if all == 0 || conditions.is_empty() {
        return Ok(Points {
            count: all,
            exact: true,
        });
    }
    let scope = term::Scope { axes, source, size };
    let mut formulas = Vec::with_capacity(conditions.len());
    for condition in conditions {
        match scope.formula(condition) {
            Ok(formula) => formulas.push(formula),
            Err(Stop::Wrong(problem)) => return Err(*problem),
            Err(Stop::NotAffine) => return enumerate(&scope, conditions, all),
        }
    }
    match closed_form(axes, formulas) {
        Some(count) => Ok(Points { count, exact: true }),
        None => enumerate(&scope, conditions, all),
    }
}

/// Product of the lengths; `None` beyond 127 bits.
fn volume<'a>(ranges: impl Iterator<Item = &'a Range<i128>>) -> Option<u128> {
    let mut product = 1i128;
    for range in ranges {
        product = product.checked_mul(range.end.checked_sub(range.start)?.max(0))?;
    }
    u128::try_from(product).ok()
}

/// The count, or `None` where no closed form is known.
fn closed_form(axes: &[Axis<'_>], formulas: Vec<Formula>) -> Option<u128> {
    let ranges: Vec<Range<i128>> = axes.iter().map(|axis| axis.range.clone()).collect();
    let mut budget = ENUMERATED;
    let mut total = 0u128;
    for terms in term::alternatives(formulas)? {
        let free = (0..ranges.len()).filter(|v| !terms.iter().any(|t| t.uses(*v)));
        let mut product = volume(free.map(|v| &ranges[v]))?;
        for (variables, terms) in components(ranges.len(), &terms) {
            if variables.is_empty() {
                // A condition on sizes alone.
                let mut holds = true;
                for term in terms {
                    holds &= Affine::of(term, &[])?.constant >= 0;
                }
                product *= u128::from(holds);
            } else if product > 0 {
                let residues = Residues::new(&ranges, &variables, &terms)?;
                product = product.checked_mul(residues.count(&terms, &mut budget)?)?;
            }
        }
        total = total.checked_add(product)?;
    }
    Some(total)
}

/// Groups terms that share variables: the groups' counts multiply.
fn components(variables: usize, terms: &[term::Term]) -> Vec<(Vec<usize>, Vec<&term::Term>)> {
    let mut groups: Vec<(Vec<usize>, Vec<&term::Term>)> = Vec::new();
    for term in terms {
        let mut group: (Vec<usize>, _) = (
            (0..variables).filter(|v| term.uses(*v)).collect(),
            vec![term],
        );
        let (joined, apart) = groups
            .into_iter()
            .partition(|(vs, _)| vs.iter().any(|v| group.0.contains(v)));
        groups = apart;
        for (vs, ts) in joined {
            group.0.extend(vs);
            group.1.extend(ts);
        }
        group.0.sort_unstable();
        group.0.dedup();
        groups.push(group);
    }
    groups
}

/// Walks the box of the variables that the conditions name, if it is small enough.
fn enumerate(scope: &term::Scope<'_>, conditions: &[&Expr], all: u128) -> Result<Points, Problem> {
    let used: Vec<usize> = (0..scope.axes.len())
        .filter(|v| conditions.iter().any(|c| scope.names(c, *v)))
        .collect();
    let walked = volume(used.iter().map(|v| &scope.axes[*v].range)).unwrap_or(u128::MAX);
    if walked > ENUMERATED {
        return Ok(Points {
            count: all,
            exact: false,
        });
    }
    let mut point: Vec<i128> = scope.axes.iter().map(|axis| axis.range.start).collect();
    let mut inside = 0u128;
    'points: loop {
        let mut holds = true;
        for condition in conditions {
            holds = holds && scope.value(condition, &point)? != 0;
        }
        inside += u128::from(holds);
        for v in used.iter().rev() {
            point[*v] += 1;
            if point[*v] < scope.axes[*v].range.end {
                continue 'points;
            }
            point[*v] = scope.axes[*v].range.start;
        }
        break;
    }
    // `all` is a multiple of `walked`: the other axes are free.
    Ok(Points {
        count: all / walked * inside,
        exact: true,
    })
}

#[cfg(test)]
mod tests;
