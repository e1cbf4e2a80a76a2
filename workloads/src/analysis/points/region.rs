//! Lattice points of a box under affine inequalities.
//!
//! A variable under `/` or `%` is written as `L * q + r`, one case for each residue r, which makes
//! the condition affine in q. Two variables are counted by sums of floors between the lines that bound them.

use std::ops::Range;

use einflow_spec::expr::floor_div;

use super::term::{Affine, Term};

/// More combinations of residues than this are not worth a closed form.
const MOST_CASES: u128 = 1 << 17;

pub(super) fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

fn lcm(a: i128, b: i128) -> Option<i128> {
    (a / gcd(a, b)).checked_mul(b)
}

/// One form `step * q + residue` that a variable takes, and for how many residues it stands.
#[derive(Clone, Debug)]
struct Case {
    step: i128,
    residue: i128,
    quotients: Range<i128>,
    times: u128,
}

/// The variables of a group of terms, each with its cases.
pub(super) struct Residues {
    /// For each variable of the group: its number and its cases.
    cases: Vec<(usize, Vec<Case>)>,
    variables: usize,
}

impl Residues {
    /// `None` if there are too many cases.
    pub(super) fn new(
        ranges: &[Range<i128>],
        variables: &[usize],
        terms: &[&Term],
    ) -> Option<Self> {
        let mut steps = vec![1; ranges.len()];
        for term in terms {
            need(term, 1, &mut steps)?;
        }
        let mut cases = Vec::new();
        let mut product = 1u128;
        for &v in variables {
            let step = steps[v];
            let only_blocks = step > 1 && terms.iter().all(|term| blocks_only(term, v, step));
            let mut list: Vec<Case> = Vec::new();
            if u128::try_from(step).ok()? > MOST_CASES {
                return None;
            }
            for residue in 0..step {
                let first = ceil_div(ranges[v].start.checked_sub(residue)?, step)?;
                let end = ceil_div(ranges[v].end.checked_sub(residue)?, step)?;
                if first >= end {
                    continue;
                }
                // Where only v / step counts, residues with the same quotients are alike.
                match list
                    .iter_mut()
                    .find(|case| only_blocks && case.quotients == (first..end))
                {
                    Some(case) => case.times += 1,
                    None => list.push(Case {
                        step,
                        residue,
                        quotients: first..end,
                        times: 1,
                    }),
                }
            }
            product = product.checked_mul(list.len() as u128)?;
            if product > MOST_CASES {
                return None;
            }
            cases.push((v, list));
        }
        Some(Self {
            cases,
            variables: ranges.len(),
        })
    }

    /// Number of points of the group's variables at which every term is at least 0; `None` without a closed form.
    pub(super) fn count(&self, terms: &[&Term], budget: &mut u128) -> Option<u128> {
        let mut chosen = vec![0; self.cases.len()];
        let mut total = 0u128;
        if self.cases.iter().any(|(_, list)| list.is_empty()) {
            return Some(0);
        }
        let width = self.cases.len();
        'cases: loop {
            let mut functions = vec![Affine::constant(0, width); self.variables];
            let mut ranges = Vec::with_capacity(width);
            let mut times = 1u128;
            for (i, (v, list)) in self.cases.iter().enumerate() {
                let case = &list[chosen[i]];
                functions[*v] = Affine::constant(case.residue, width);
                functions[*v].factors[i] = case.step;
                ranges.push(case.quotients.clone());
                times = times.checked_mul(case.times)?;
            }
            let inequalities: Vec<Affine> = terms
                .iter()
                .map(|term| Affine::of(term, &functions))
                .collect::<Option<_>>()?;
            let inside = region(&ranges, &inequalities, budget)?;
            total = total.checked_add(inside.checked_mul(times)?)?;
            for (i, (_, list)) in self.cases.iter().enumerate().rev() {
                chosen[i] += 1;
                if chosen[i] < list.len() {
                    continue 'cases;
                }
                chosen[i] = 0;
            }
            return Some(total);
        }
    }
}

/// True if the variable stands in the term only as `v / step`.
fn blocks_only(term: &Term, v: usize, step: i128) -> bool {
    match term {
        Term::Constant(_) => true,
        Term::Variable(other) => *other != v,
        Term::Div(a, by) if **a == Term::Variable(v) => *by == step,
        Term::Add(a, b) | Term::Min(a, b) | Term::Max(a, b) => {
            blocks_only(a, v, step) && blocks_only(b, v, step)
        }
        Term::Scale(_, a) | Term::Div(a, _) | Term::Rem(a, _) | Term::Abs(a) => {
            blocks_only(a, v, step)
        }
    }
}

/// Raises the steps so that the term's factors become multiples of `by`.
fn need(term: &Term, by: i128, steps: &mut [i128]) -> Option<()> {
    match term {
        Term::Constant(_) => {}
        Term::Variable(v) => steps[*v] = lcm(steps[*v], by)?,
        Term::Add(a, b) | Term::Min(a, b) | Term::Max(a, b) => {
            need(a, by, steps)?;
            need(b, by, steps)?;
        }
        Term::Scale(factor, a) => need(a, by / gcd(by, *factor), steps)?,
        Term::Div(a, d) => need(a, by.checked_mul(*d)?, steps)?,
        Term::Rem(a, d) => need(a, lcm(by, *d)?, steps)?,
        Term::Abs(a) => need(a, by, steps)?,
    }
    Some(())
}

fn ceil_div(a: i128, b: i128) -> Option<i128> {
    floor_div(a.checked_neg()?, b)?.checked_neg()
}

fn length(range: &Range<i128>) -> i128 {
    (range.end - range.start).max(0)
}

/// Points of the box at which every function is at least 0.
fn region(ranges: &[Range<i128>], inequalities: &[Affine], budget: &mut u128) -> Option<u128> {
    let mut ranges = ranges.to_vec();
    let mut rest: Vec<Affine> = Vec::new();
    for function in inequalities {
        if function.factors.iter().any(|f| *f != 0) {
            rest.push(function.clone());
        } else if function.constant < 0 {
            return Some(0);
        }
    }
    merge(&mut ranges, &mut rest)?;
    let mut product = 1u128;
    let mut used = Vec::new();
    for (v, range) in ranges.iter().enumerate() {
        if rest.iter().any(|function| function.factors[v] != 0) {
            used.push(v);
        } else {
            product = product.checked_mul(u128::try_from(length(range)).ok()?)?;
        }
    }
    if product == 0 {
        return Some(0);
    }
    let count = match used.as_slice() {
        [] => 1,
        [x] => between(&ranges[*x], &rest, *x)?,
        [x, y] => polygon(&ranges[*x], &ranges[*y], *x, *y, &rest)?,
        _ => {
            // Walk the shortest variable; the others keep their closed form.
            let v = *used.iter().min_by_key(|v| length(&ranges[**v]))?;
            *budget = budget.checked_sub(u128::try_from(length(&ranges[v])).ok()?)?;
            let mut sum = 0u128;
            for value in ranges[v].clone() {
                let fixed = rest.iter().map(|function| {
                    let mut function = function.clone();
                    function.constant = function
                        .constant
                        .checked_add(function.factors[v].checked_mul(value)?)?;
                    function.factors[v] = 0;
                    Some(function)
                });
                let fixed: Vec<Affine> = fixed.collect::<Option<_>>()?;
                let free: Vec<_> = (0..ranges.len())
                    .map(|other| {
                        if used.contains(&other) && other != v {
                            ranges[other].clone()
                        } else {
                            0..1
                        }
                    })
                    .collect();
                sum = sum.checked_add(region(&free, &fixed, budget)?)?;
            }
            sum
        }
    };
    product.checked_mul(count)
}

/// Replaces u and v by u * |v| + v where they only occur together in that way, as the parts of a split rank do.
fn merge(ranges: &mut [Range<i128>], functions: &mut [Affine]) -> Option<()> {
    for u in 0..ranges.len() {
        for v in 0..ranges.len() {
            let long = length(&ranges[v]);
            let together = u != v
                && functions.iter().any(|f| f.factors[v] != 0)
                && functions
                    .iter()
                    .all(|f| f.factors[v].checked_mul(long) == Some(f.factors[u]));
            if !together {
                continue;
            }
            let first = ranges[v].start;
            ranges[u] = ranges[u].start.checked_mul(long)?..ranges[u].end.checked_mul(long)?;
            ranges[v] = 0..1;
            for function in functions.iter_mut() {
                let factor = function.factors[v];
                function.constant = function.constant.checked_add(factor.checked_mul(first)?)?;
                (function.factors[u], function.factors[v]) = (factor, 0);
            }
        }
    }
    Some(())
}

/// Values of x at which every function, of x alone, is at least 0.
fn between(range: &Range<i128>, functions: &[Affine], x: usize) -> Option<u128> {
    let range = narrowed(range, functions.iter().map(|f| (f.factors[x], f.constant)))?;
    u128::try_from(length(&range)).ok()
}

/// The part of the range in which factor * x + constant >= 0 for all.
fn narrowed(
    range: &Range<i128>,
    functions: impl Iterator<Item = (i128, i128)>,
) -> Option<Range<i128>> {
    let mut range = range.clone();
    for (factor, constant) in functions {
        if factor > 0 {
            range.start = range.start.max(ceil_div(constant.checked_neg()?, factor)?);
        } else if factor < 0 {
            range.end = range
                .end
                .min(floor_div(constant, factor.checked_neg()?)?.checked_add(1)?);
        } else if constant < 0 {
            range.end = range.start;
        }
    }
    Some(range)
}

/// A bound on y: (slope * x + offset) / divisor, the divisor positive.
#[derive(Clone, Copy)]
struct Line {
    slope: i128,
    offset: i128,
    divisor: i128,
}

impl Line {
    /// The sign of `self - other` at x.
    fn compare(&self, other: &Line, x: i128) -> Option<std::cmp::Ordering> {
        let at = |line: &Line| line.slope.checked_mul(x)?.checked_add(line.offset);
        Some(
            at(self)?
                .checked_mul(other.divisor)?
                .cmp(&at(other)?.checked_mul(self.divisor)?),
        )
    }

    /// The last whole x up to the crossing of two lines, if they cross.
    fn crossing(&self, other: &Line) -> Option<Option<i128>> {
        let slope = self
            .slope
            .checked_mul(other.divisor)?
            .checked_sub(other.slope.checked_mul(self.divisor)?)?;
        let offset = other
            .offset
            .checked_mul(self.divisor)?
            .checked_sub(self.offset.checked_mul(other.divisor)?)?;
        if slope == 0 {
            return Some(None);
        }
        let (slope, offset) = if slope < 0 {
            (slope.checked_neg()?, offset.checked_neg()?)
        } else {
            (slope, offset)
        };
        floor_div(offset, slope).map(Some)
    }

    /// Sum of the values rounded down, over x in start..end.
    fn floors(&self, start: i128, end: i128) -> Option<i128> {
        floor_sum(
            end - start,
            self.divisor,
            self.slope,
            self.slope.checked_mul(start)?.checked_add(self.offset)?,
        )
    }
}

/// Points (x, y) of the box at which every function is at least 0.
fn polygon(
    xs: &Range<i128>,
    ys: &Range<i128>,
    x: usize,
    y: usize,
    functions: &[Affine],
) -> Option<u128> {
    let vertical = functions
        .iter()
        .filter(|f| f.factors[y] == 0)
        .map(|f| (f.factors[x], f.constant));
    let xs = narrowed(xs, vertical)?;
    if xs.is_empty() {
        return Some(0);
    }
    let mut below = vec![Line {
        slope: 0,
        offset: ys.start,
        divisor: 1,
    }];
    let mut above = vec![Line {
        slope: 0,
        offset: ys.end - 1,
        divisor: 1,
    }];
    for function in functions {
        let (a, b, c) = (function.factors[x], function.factors[y], function.constant);
        if b > 0 {
            below.push(Line {
                slope: a.checked_neg()?,
                offset: c.checked_neg()?,
                divisor: b,
            });
        } else if b < 0 {
            above.push(Line {
                slope: a,
                offset: c,
                divisor: b.checked_neg()?,
            });
        }
    }
    // Between these values of x no two lines change their order.
    let lines: Vec<Line> = below.iter().chain(&above).copied().collect();
    let mut cuts = vec![xs.start, xs.end];
    for (i, line) in lines.iter().enumerate() {
        for other in &lines[..i] {
            if let Some(cut) = line.crossing(other)? {
                // A crossing at a whole x is a piece of its own: there, and only there, they are equal.
                cuts.extend(
                    [cut, cut.checked_add(1)?]
                        .into_iter()
                        .filter(|cut| xs.contains(cut)),
                );
            }
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    let mut total = 0i128;
    for piece in cuts.windows(2) {
        let &[start, end] = piece else { continue };
        let pick = |lines: &[Line], wanted: std::cmp::Ordering| {
            lines[1..].iter().try_fold(lines[0], |best, line| {
                Some(if line.compare(&best, start)? == wanted {
                    *line
                } else {
                    best
                })
            })
        };
        let low = pick(&below, std::cmp::Ordering::Greater)?;
        let high = pick(&above, std::cmp::Ordering::Less)?;
        if high.compare(&low, start)? == std::cmp::Ordering::Less {
            continue;
        }
        // Rounding the lower bound up is rounding its negative down.
        let low = Line {
            slope: low.slope.checked_neg()?,
            offset: low.offset.checked_neg()?,
            divisor: low.divisor,
        };
        let sum = high
            .floors(start, end)?
            .checked_add(low.floors(start, end)?)?
            .checked_add(end - start)?;
        total = total.checked_add(sum)?;
    }
    u128::try_from(total).ok()
}

/// Sum of floor((a * i + b) / m) for i in 0..n, with m > 0, in steps of Euclid's algorithm.
fn floor_sum(n: i128, m: i128, a: i128, b: i128) -> Option<i128> {
    let (mut n, mut m) = (n, m);
    let pairs = |n: i128| {
        Some(if n % 2 == 0 {
            (n / 2).checked_mul(n - 1)?
        } else {
            ((n - 1) / 2).checked_mul(n)?
        })
    };
    let mut sum = pairs(n)?
        .checked_mul(floor_div(a, m)?)?
        .checked_add(n.checked_mul(floor_div(b, m)?)?)?;
    let (mut a, mut b) = (a.rem_euclid(m), b.rem_euclid(m));
    loop {
        let most = a.checked_mul(n)?.checked_add(b)?;
        if most < m {
            return Some(sum);
        }
        // Count the same points by columns instead of rows.
        (n, b, m, a) = (most / m, most % m, a, m);
        sum = sum
            .checked_add(pairs(n)?.checked_mul(a / m)?)?
            .checked_add(n.checked_mul(b / m)?)?;
        (a, b) = (a % m, b % m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_sums_equal_loops() {
        for n in 0..7 {
            for m in 1..6 {
                for a in -9..10 {
                    for b in -9..10 {
                        let expected: i128 = (0..n).map(|i| floor_div(a * i + b, m).unwrap()).sum();
                        assert_eq!(floor_sum(n, m, a, b), Some(expected), "{n} {m} {a} {b}");
                    }
                }
            }
        }
    }
}
