use std::fmt;
use std::sync::Arc;

use super::{CountError, Space, Term};

type Test = dyn Fn(&[u64]) -> bool + Send + Sync;

/// A test of a point: whether a condition holds at the coordinates of its ranks.
#[derive(Clone)]
pub struct PointTest {
    test: Arc<Test>,
    text: Arc<str>,
    /// Coordinates that one of each rank stands for; empty: one.
    scale: Arc<[u64]>,
}

impl PointTest {
    /// A test and what it says: two that say the same are taken for the same.
    pub fn new(
        text: impl Into<Arc<str>>,
        test: impl Fn(&[u64]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            test: Arc::new(test),
            text: text.into(),
            scale: Arc::from([]),
        }
    }

    /// The same test of the first of so many coordinates of each rank that a coarse one stands for.
    #[must_use]
    pub fn scaled(&self, scale: impl Into<Arc<[u64]>>) -> Self {
        Self {
            scale: scale.into(),
            ..self.clone()
        }
    }

    /// Whether the condition holds at these coordinates.
    pub fn holds(&self, at: &[u64]) -> bool {
        if self.scale.is_empty() {
            return (self.test)(at);
        }
        let scaled = at.iter().zip(&*self.scale);
        (self.test)(
            &scaled
                .map(|(x, s)| x.saturating_mul(*s))
                .collect::<Vec<_>>(),
        )
    }
}

impl PartialEq for PointTest {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.scale) == (&other.text, &other.scale)
    }
}

impl Eq for PointTest {}

impl fmt::Debug for PointTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.text, self.scale)
    }
}

/// A condition on the coordinates of a point. A point at which one fails is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `low <= x_a - x_b <= high`; no bound where `None`. Causal attention has `a` the query,
    /// `b` the key and `low` 0; a window bounds both sides.
    Band {
        /// Index of the rank a.
        a: usize,
        /// Index of the rank b.
        b: usize,
        /// Least difference.
        low: Option<i128>,
        /// Greatest difference.
        high: Option<i128>,
    },
    /// `(x_a - x_b) mod modulus == remainder`, the remainder of a negative difference taken as
    /// non-negative: dilation.
    Congruent {
        /// Index of the rank a.
        a: usize,
        /// Index of the rank b.
        b: usize,
        /// The modulus, at least 1.
        modulus: u64,
        /// The remainder, below the modulus.
        remainder: u64,
    },
    /// `x_a / unit_a == x_b / unit_b`: attention within blocks.
    SameBlock {
        /// Index of the rank a.
        a: usize,
        /// Length of the blocks of a.
        unit_a: u64,
        /// Index of the rank b.
        b: usize,
        /// Length of the blocks of b.
        unit_b: u64,
    },
    /// `low <= S <= high`, and S mod `modulus` is `remainder`, for a weighted sum S of quotients and
    /// remainders of coordinates. Differences of two coordinates are counted as the kinds above;
    /// other sums by dividing boxes, bounded by what can be enumerated.
    Affine {
        /// The summands: a weight, and the term that it multiplies.
        terms: Vec<(i64, Term)>,
        /// Least sum.
        low: Option<i128>,
        /// Greatest sum.
        high: Option<i128>,
        /// Modulus and remainder of the sum, if any.
        residue: Option<(u64, u64)>,
    },
    /// Any other condition, tested point by point: exact, and bounded by what can be enumerated.
    General {
        /// Indices of the ranks that it reads.
        ranks: Vec<usize>,
        /// The test of the coordinates of these ranks, in that order.
        test: PointTest,
    },
    /// All of these hold.
    All(Vec<Condition>),
    /// One of these holds at least.
    Any(Vec<Condition>),
    /// This one does not hold.
    Not(Box<Condition>),
}

impl Condition {
    /// Whether the condition holds at a point, given as one coordinate for each rank of the space.
    pub fn holds(&self, point: &[u64]) -> bool {
        let difference = |a: usize, b: usize| i128::from(point[a]) - i128::from(point[b]);
        match *self {
            Self::Band { a, b, low, high } => {
                let d = difference(a, b);
                low.is_none_or(|low| low <= d) && high.is_none_or(|high| d <= high)
            }
            Self::Congruent {
                a,
                b,
                modulus,
                remainder,
            } => difference(a, b).rem_euclid(modulus.max(1).into()) == i128::from(remainder),
            Self::SameBlock {
                a,
                unit_a,
                b,
                unit_b,
            } => point[a] / unit_a.max(1) == point[b] / unit_b.max(1),
            Self::Affine {
                ref terms,
                low,
                high,
                residue,
            } => {
                let sum = terms.iter().try_fold(0_i128, |sum, (weight, term)| {
                    let value = term.value(point[term.rank]);
                    sum.checked_add(i128::from(*weight).checked_mul(value)?)
                });
                sum.is_some_and(|sum| {
                    low.is_none_or(|low| low <= sum)
                        && high.is_none_or(|high| sum <= high)
                        && residue.is_none_or(|(m, r)| sum.rem_euclid(m.max(1).into()) == r.into())
                })
            }
            Self::General {
                ref ranks,
                ref test,
            } => test.holds(&ranks.iter().map(|&rank| point[rank]).collect::<Vec<_>>()),
            Self::All(ref all) => all.iter().all(|c| c.holds(point)),
            Self::Any(ref any) => any.iter().any(|c| c.holds(point)),
            Self::Not(ref not) => !not.holds(point),
        }
    }

    /// The same condition on a difference of two ranks, where it is one: a band, a residue, both, or
    /// blocks.
    pub(super) fn simplified(&self) -> Vec<Self> {
        let Self::Affine {
            terms,
            low,
            high,
            residue,
        } = self
        else {
            return vec![self.clone()];
        };
        let [(plus, s), (minus, t)] = terms[..] else {
            return vec![self.clone()];
        };
        let turned = plus < 0;
        let (a, b) = if turned { (t, s) } else { (s, t) };
        let ones = plus.abs() == 1 && plus == -minus && a.coefficient == 1 && b.coefficient == 1;
        if !ones || a.modulus.is_some() || b.modulus.is_some() || a.rank == b.rank {
            return vec![self.clone()];
        }
        let (a_rank, b_rank) = (a.rank, b.rank);
        if a.unit == 1 && b.unit == 1 {
            let band = Self::Band {
                a: a_rank,
                b: b_rank,
                low: *low,
                high: *high,
            };
            let congruent = residue.map(|(modulus, remainder)| Self::Congruent {
                a: a_rank,
                b: b_rank,
                modulus,
                remainder,
            });
            return std::iter::once(band).chain(congruent).collect();
        }
        if *low == Some(0) && *high == Some(0) && residue.is_none() {
            return vec![Self::SameBlock {
                a: a_rank,
                unit_a: a.unit,
                b: b_rank,
                unit_b: b.unit,
            }];
        }
        vec![self.clone()]
    }

    /// Whether it holds as before where coordinates are further by `of` their rank.
    pub(super) fn unchanged_by(&self, of: &dyn Fn(usize) -> i128) -> bool {
        let quotient = |rank: usize, unit: u64| {
            let unit = i128::from(unit.max(1));
            (of(rank) % unit == 0).then(|| of(rank) / unit)
        };
        match *self {
            Self::Band { a, b, .. } => of(a) == of(b),
            Self::Congruent { a, b, modulus, .. } => {
                (of(a) - of(b)).rem_euclid(modulus.max(1).into()) == 0
            }
            Self::SameBlock {
                a,
                unit_a,
                b,
                unit_b,
            } => quotient(a, unit_a).is_some_and(|q| quotient(b, unit_b) == Some(q)),
            Self::Affine { ref terms, .. } => {
                let sum = terms.iter().try_fold(0i128, |sum, (weight, term)| {
                    let by = quotient(term.rank, term.unit)?;
                    let by = match term.modulus {
                        Some(m) if by % i128::from(m.max(1)) == 0 => 0,
                        Some(_) => return None,
                        None => by.checked_mul(term.coefficient.into())?,
                    };
                    sum.checked_add(by.checked_mul((*weight).into())?)
                });
                sum == Some(0)
            }
            Self::General { ref ranks, .. } => ranks.iter().all(|rank| of(*rank) == 0),
            Self::All(ref list) | Self::Any(ref list) => list.iter().all(|c| c.unchanged_by(of)),
            Self::Not(ref not) => not.unchanged_by(of),
        }
    }

    pub(super) fn check(&self, space: &Space) -> Result<(), CountError> {
        let zero = |what, rank| Err(CountError::Zero { what, rank });
        let (a, b) = match *self {
            Self::Band { a, b, .. } => (a, b),
            Self::Congruent { a, b, modulus, .. } => {
                if modulus == 0 {
                    return zero("modulus", a);
                }
                (a, b)
            }
            Self::SameBlock {
                a,
                unit_a,
                b,
                unit_b,
            } => {
                if unit_a == 0 {
                    return zero("unit", a);
                }
                if unit_b == 0 {
                    return zero("unit", b);
                }
                (a, b)
            }
            Self::Affine {
                ref terms, residue, ..
            } => {
                for (weight, term) in terms {
                    space.check_rank(term.rank)?;
                    if term.unit == 0 {
                        return zero("unit", term.rank);
                    }
                    if term.modulus == Some(0) || residue.is_some_and(|(modulus, _)| modulus == 0) {
                        return zero("modulus", term.rank);
                    }
                    // Sums of sixteen such stay below 2^127.
                    let reach = i128::from(space.sizes[term.rank]) * i128::from(term.coefficient);
                    let reach = reach.checked_mul(i128::from(*weight).abs());
                    if terms.len() > 16 || reach.is_none_or(|reach| reach > 1 << 120) {
                        return Err(CountError::Overflow);
                    }
                }
                return Ok(());
            }
            Self::General { ref ranks, .. } => {
                return ranks.iter().try_for_each(|&rank| space.check_rank(rank));
            }
            Self::All(ref list) | Self::Any(ref list) => {
                return list.iter().try_for_each(|c| c.check(space));
            }
            Self::Not(ref not) => return not.check(space),
        };
        space.check_rank(a)?;
        space.check_rank(b)
    }
}
