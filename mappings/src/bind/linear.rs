//! Index expressions as sums of digits of base ranks.

use einflow_spec::{
    Problem, Span,
    expr::{BinaryOp, Expr, UnaryOp},
};
use einflow_workloads::cascade::Cascade;

use super::ranks::Ranks;
use crate::nest::Term;

/// A sum of digits with whole factors, and a constant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linear {
    pub terms: Vec<(Term, i128)>,
    pub constant: i128,
}

impl Linear {
    fn scaled(mut self, factor: i128) -> Option<Self> {
        for (_, f) in &mut self.terms {
            *f = f.checked_mul(factor)?;
        }
        self.constant = self.constant.checked_mul(factor)?;
        self.terms.retain(|(_, f)| *f != 0);
        Some(self)
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
        self.constant = self.constant.checked_add(other.constant)?;
        self.terms.retain(|(_, f)| *f != 0);
        Some(self.merged())
    }

    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.scaled(-1)?)
    }

    /// Joins digits of one rank that stand together: `m1 * M0 + m0` is `m`.
    fn merged(mut self) -> Self {
        loop {
            let joins = |(upper, u): &(Term, i128), (lower, l): &(Term, i128)| {
                upper.rank == lower.rank
                    && lower.modulus.is_some_and(|m| {
                        lower.unit.checked_mul(m) == Some(upper.unit)
                            && l.checked_mul(i128::from(m)) == Some(*u)
                    })
            };
            let found = (0..self.terms.len()).find_map(|i| {
                (0..self.terms.len())
                    .find(|&j| joins(&self.terms[i], &self.terms[j]))
                    .map(|j| (i, j))
            });
            let Some((i, j)) = found else { return self };
            let upper = self.terms[i].0;
            let lower = &mut self.terms[j].0;
            lower.modulus = upper
                .modulus
                .and_then(|u| lower.modulus.and_then(|l| l.checked_mul(u)));
            self.terms.remove(i);
        }
    }
}

/// An index or a side of a condition as a sum of digits.
pub(crate) fn linear(cascade: &Cascade, ranks: &Ranks, expr: &Expr) -> Result<Linear, Problem> {
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
            Ok(Linear {
                terms: Vec::new(),
                constant,
            })
        }
        Expr::Name { name, span } => {
            if let Some(i) = cascade.ranks.iter().position(|r| r.variable == *name) {
                let digit = ranks.digits[i];
                let term = digit.term();
                return Ok(Linear {
                    terms: vec![(term, 1)],
                    constant: 0,
                });
            }
            let size = ranks.sizes.get(name).ok_or_else(|| unmapped(*span))?;
            Ok(Linear {
                terms: Vec::new(),
                constant: i128::from(size),
            })
        }
        Expr::Unary {
            op: UnaryOp::Neg,
            operand,
            span,
        } => linear(cascade, ranks, operand)?
            .scaled(-1)
            .ok_or_else(|| overflow(*span)),
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => {
            let (left, right) = (
                linear(cascade, ranks, left)?,
                linear(cascade, ranks, right)?,
            );
            let value = match op {
                BinaryOp::Add => left.plus(right),
                BinaryOp::Sub => left.minus(right),
                BinaryOp::Mul if right.terms.is_empty() => left.scaled(right.constant),
                BinaryOp::Mul if left.terms.is_empty() => right.scaled(left.constant),
                BinaryOp::Div | BinaryOp::Rem if right.terms.is_empty() && right.constant > 0 => {
                    return cut_digit(&left, *op, right.constant).ok_or_else(|| unmapped(*span));
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
            Ok(Linear {
                terms: Vec::new(),
                constant,
            })
        }
    }
}

/// `x / by` or `x % by` of one digit.
fn cut_digit(value: &Linear, op: BinaryOp, by: i128) -> Option<Linear> {
    if value.terms.is_empty() {
        let constant = match op {
            BinaryOp::Div => einflow_spec::expr::floor_div(value.constant, by)?,
            _ => value.constant.checked_rem_euclid(by)?,
        };
        return Some(Linear {
            terms: Vec::new(),
            constant,
        });
    }
    let ([(term, 1)], 0) = (value.terms.as_slice(), value.constant) else {
        return None;
    };
    let by = u64::try_from(by).ok()?;
    let whole = |m: u64| m.is_multiple_of(by).then_some(());
    let term = match op {
        BinaryOp::Div => {
            let modulus = match term.modulus {
                Some(m) => {
                    whole(m)?;
                    Some(m / by)
                }
                None => None,
            };
            Term {
                unit: term.unit.checked_mul(by)?,
                modulus,
                ..*term
            }
        }
        _ => {
            if let Some(m) = term.modulus {
                whole(m)?;
            }
            Term {
                modulus: Some(by),
                ..*term
            }
        }
    };
    Some(Linear {
        terms: vec![(term, 1)],
        constant: 0,
    })
}
