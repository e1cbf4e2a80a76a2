//! Index expressions as sums of digits: of base ranks, and of other sums.

use einflow_spec::{
    Problem, Span,
    expr::{BinaryOp, Expr, UnaryOp},
};
use einflow_workloads::cascade::Cascade;

use super::ranks::Ranks;
use crate::nest::{Dim, Term, Wrapped};

/// A sum of digits with whole factors, and a constant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linear {
    pub terms: Vec<(Term, i128)>,
    /// Digits of sums (their own coefficients are 1).
    pub wrapped: Vec<(Wrapped, i128)>,
    pub constant: i128,
    /// Whether part of it is chosen at run time: each value stands for one of its own.
    pub chosen: bool,
}

/// What stands for the variables of a view's own ranks where it is read.
pub(crate) type Variables<'a> = &'a [(&'a str, Linear)];

impl Linear {
    /// The constant alone.
    fn constant(constant: i128) -> Self {
        Self {
            constant,
            ..Self::default()
        }
    }

    /// Whether it is a constant.
    pub fn is_constant(&self) -> bool {
        self.terms.is_empty() && self.wrapped.is_empty() && !self.chosen
    }

    /// Whether it is a sum of digits of single ranks.
    pub fn is_affine(&self) -> bool {
        self.wrapped.is_empty() && !self.chosen
    }

    pub fn scaled(mut self, factor: i128) -> Option<Self> {
        let terms = self.terms.iter_mut().map(|(_, f)| f);
        for f in terms.chain(self.wrapped.iter_mut().map(|(_, f)| f)) {
            *f = f.checked_mul(factor)?;
        }
        self.constant = self.constant.checked_mul(factor)?;
        self.terms.retain(|(_, f)| *f != 0);
        self.wrapped.retain(|(_, f)| *f != 0);
        Some(self)
    }

    /// Least and greatest value over all coordinates.
    pub fn range(&self, ranks: &Ranks) -> Option<(i128, i128)> {
        let (low, high) = self.dim()?.range(&|rank| (0, ranks.base[rank].size));
        Some((low, high))
    }

    /// As a dimension, before it is known which of its coordinates exist. `None` where a number is too large.
    pub fn dim(&self) -> Option<Dim> {
        let term = |(term, factor): &(Term, i128)| {
            let coefficient = i64::try_from(*factor).ok()?;
            Some(Term {
                coefficient,
                ..*term
            })
        };
        let wrapped = |(wrapped, factor): &(Wrapped, i128)| {
            let coefficient = i64::try_from(*factor).ok()?;
            Some(Wrapped {
                coefficient,
                ..wrapped.clone()
            })
        };
        Some(Dim {
            terms: self.terms.iter().map(term).collect::<Option<_>>()?,
            wrapped: self.wrapped.iter().map(wrapped).collect::<Option<_>>()?,
            offset: i64::try_from(self.constant).ok()?,
            ..Dim::default()
        })
    }

    pub fn plus(mut self, other: Self) -> Option<Self> {
        for (term, factor) in other.terms {
            let same =
                |t: &Term| (t.rank, t.unit, t.modulus) == (term.rank, term.unit, term.modulus);
            match self.terms.iter_mut().find(|(t, _)| same(t)) {
                Some((_, f)) => *f = f.checked_add(factor)?,
                None => self.terms.push((term, factor)),
            }
        }
        for (wrapped, factor) in other.wrapped {
            match self.wrapped.iter_mut().find(|(w, _)| *w == wrapped) {
                Some((_, f)) => *f = f.checked_add(factor)?,
                None => self.wrapped.push((wrapped, factor)),
            }
        }
        self.constant = self.constant.checked_add(other.constant)?;
        self.chosen |= other.chosen;
        self.terms.retain(|(_, f)| *f != 0);
        self.wrapped.retain(|(_, f)| *f != 0);
        Some(self.merged())
    }

    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.scaled(-1)?)
    }

    /// Joins digits of one rank, or of one sum, that stand together: `m1 * M0 + m0` is `m`.
    fn merged(mut self) -> Self {
        // Unit and modulus of the upper digit and of the lower: the modulus of both together.
        let together = |u: (u64, Option<u64>, i128), l: (u64, Option<u64>, i128)| {
            let modulus = l.1?;
            let follows = l.0.checked_mul(modulus) == Some(u.0)
                && l.2.checked_mul(modulus.into()) == Some(u.2);
            follows.then(|| u.1.and_then(|u| modulus.checked_mul(u)))
        };
        let term = |(t, f): &(Term, i128)| (t.unit, t.modulus, *f);
        let wrapped = |(w, f): &(Wrapped, i128)| (w.unit, w.modulus, *f);
        loop {
            let pairs = |n: usize| (0..n).flat_map(move |i| (0..n).map(move |j| (i, j)));
            let found = pairs(self.terms.len()).find_map(|(i, j)| {
                let (upper, lower) = (&self.terms[i], &self.terms[j]);
                let modulus = together(term(upper), term(lower));
                modulus
                    .filter(|_| upper.0.rank == lower.0.rank)
                    .map(|m| (i, j, m))
            });
            if let Some((upper, lower, modulus)) = found {
                self.terms[lower].0.modulus = modulus;
                self.terms.remove(upper);
                continue;
            }
            let found = pairs(self.wrapped.len()).find_map(|(i, j)| {
                let (upper, lower) = (&self.wrapped[i], &self.wrapped[j]);
                let modulus = together(wrapped(upper), wrapped(lower));
                modulus
                    .filter(|_| upper.0.of == lower.0.of)
                    .map(|m| (i, j, m))
            });
            let Some((upper, lower, modulus)) = found else {
                return self;
            };
            self.wrapped[lower].0.modulus = modulus;
            self.wrapped.remove(upper);
        }
    }
}

/// An index or a side of a condition as a sum of digits, `variables` standing for names before ranks do.
pub(crate) fn linear(
    cascade: &Cascade,
    ranks: &Ranks,
    expr: &Expr,
    variables: Variables<'_>,
) -> Result<Linear, Problem> {
    let unmapped = |span: Span| {
        Problem::at(
            &cascade.source,
            span,
            format!("`{expr}` is no sum of rank variables with whole factors"),
        )
        .help("a mapped cascade needs affine indices, v / c or v % c")
    };
    let overflow = |span: Span| Problem::at(&cascade.source, span, "the value overflows 128 bits");
    match expr {
        Expr::Number { text, span } => {
            let constant = text.replace('_', "").parse().map_err(|_| unmapped(*span))?;
            Ok(Linear::constant(constant))
        }
        Expr::Name { name, span } => {
            if let Some((_, value)) = variables.iter().find(|(n, _)| n == name) {
                return Ok(value.clone());
            }
            if let Some(i) = cascade.ranks.iter().position(|r| r.variable == *name) {
                return Ok(Linear {
                    terms: vec![(ranks.digits[i].term(), 1)],
                    ..Linear::default()
                });
            }
            let size = ranks.sizes.get(name).ok_or_else(|| unmapped(*span))?;
            Ok(Linear::constant(size.into()))
        }
        Expr::Unary {
            op: UnaryOp::Neg,
            operand,
            span,
        } => linear(cascade, ranks, operand, variables)?
            .scaled(-1)
            .ok_or_else(|| overflow(*span)),
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => {
            let (left, right) = (
                linear(cascade, ranks, left, variables)?,
                linear(cascade, ranks, right, variables)?,
            );
            let value = match op {
                BinaryOp::Add => left.plus(right),
                BinaryOp::Sub => left.minus(right),
                BinaryOp::Mul if right.is_constant() => left.scaled(right.constant),
                BinaryOp::Mul if left.is_constant() => right.scaled(left.constant),
                BinaryOp::Div | BinaryOp::Rem if right.is_constant() && right.constant > 0 => {
                    return cut(ranks, left, *op, right.constant).ok_or_else(|| unmapped(*span));
                }
                _ => return Err(unmapped(*span)),
            };
            value.ok_or_else(|| overflow(*span))
        }
        // A function of sizes alone, such as ceil(H / G).
        _ => {
            let constant = expr
                .whole(
                    &cascade.source,
                    &|name| ranks.sizes.get(name).map(i128::from),
                    &Vec::new,
                )
                .map_err(|_| unmapped(expr.span()))?;
            Ok(Linear::constant(constant))
        }
    }
}

/// `x / by` or `x % by`.
fn cut(ranks: &Ranks, value: Linear, op: BinaryOp, by: i128) -> Option<Linear> {
    if value.chosen {
        return None;
    }
    // Whole multiples of the divisor pass unchanged into the quotient, and not into the remainder.
    let (mut whole, mut rest) = (Linear::default(), Linear::default());
    for (term, factor) in value.terms {
        match factor.rem_euclid(by) {
            0 => whole.terms.push((term, factor / by)),
            _ => rest.terms.push((term, factor)),
        }
    }
    for (wrapped, factor) in value.wrapped {
        match factor.rem_euclid(by) {
            0 => whole.wrapped.push((wrapped, factor / by)),
            _ => rest.wrapped.push((wrapped, factor)),
        }
    }
    whole.constant = value.constant.div_euclid(by);
    rest.constant = value.constant.rem_euclid(by);
    let (least, greatest) = rest.range(ranks)?;
    if least >= 0 && greatest < by {
        return Some(if op == BinaryOp::Div { whole } else { rest });
    }
    let by = u64::try_from(by).ok()?;
    let found = match digit(&rest, op, by) {
        Some(term) => Linear {
            terms: vec![(term, 1)],
            ..Linear::default()
        },
        None => {
            let wrapped = Wrapped {
                of: rest.dim()?,
                unit: if op == BinaryOp::Div { by } else { 1 },
                modulus: (op == BinaryOp::Rem).then_some(by),
                coefficient: 1,
            };
            Linear {
                wrapped: vec![(wrapped, 1)],
                ..Linear::default()
            }
        }
    };
    if op == BinaryOp::Div {
        whole.plus(found)
    } else {
        Some(found)
    }
}

/// `x / by` or `x % by` of one digit of a rank as another digit of it.
fn digit(value: &Linear, op: BinaryOp, by: u64) -> Option<Term> {
    let ([(term, 1)], [], 0) = (
        value.terms.as_slice(),
        value.wrapped.as_slice(),
        value.constant,
    ) else {
        return None;
    };
    if term.modulus.is_some_and(|m| !m.is_multiple_of(by)) {
        return None;
    }
    Some(match op {
        BinaryOp::Div => Term {
            unit: term.unit.checked_mul(by)?,
            modulus: term.modulus.map(|m| m / by),
            ..*term
        },
        _ => Term {
            modulus: Some(by),
            ..*term
        },
    })
}
