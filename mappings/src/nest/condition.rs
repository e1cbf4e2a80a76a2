use std::fmt;
use std::sync::Arc;

use super::{CountError, Space};

/// A test of a point: whether a condition holds at these coordinates.
pub type PointTest = Arc<dyn Fn(&[u64]) -> bool + Send + Sync>;

/// A condition on the coordinates of a point. A point at which one fails is empty.
#[derive(Clone)]
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
    /// Any other condition, tested point by point: exact, and bounded by what can be enumerated.
    General {
        /// Indices of the ranks that it reads.
        ranks: Vec<usize>,
        /// The test of the coordinates of these ranks, in that order.
        test: PointTest,
    },
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
            Self::General {
                ref ranks,
                ref test,
            } => test(&ranks.iter().map(|&rank| point[rank]).collect::<Vec<_>>()),
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
            Self::General { ref ranks, .. } => {
                return ranks.iter().try_for_each(|&rank| space.check_rank(rank));
            }
        };
        space.check_rank(a)?;
        space.check_rank(b)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Band { a, b, low, high } => write!(f, "{low:?} <= x{a} - x{b} <= {high:?}"),
            Self::Congruent {
                a,
                b,
                modulus,
                remainder,
            } => {
                write!(f, "(x{a} - x{b}) mod {modulus} == {remainder}")
            }
            Self::SameBlock {
                a,
                unit_a,
                b,
                unit_b,
            } => {
                write!(f, "x{a} / {unit_a} == x{b} / {unit_b}")
            }
            Self::General { ranks, .. } => write!(f, "a general condition on ranks {ranks:?}"),
        }
    }
}
