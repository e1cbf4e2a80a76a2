//! Conditions as formulas over terms `>= 0`, with sizes replaced by their values.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp, floor_div};
use einflow_spec::{Problem, Source};

use super::Axis;

/// More alternatives than this are not worth a closed form.
const MOST_ALTERNATIVES: usize = 256;

/// A whole number that depends on the variables.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    Constant(i128),
    Variable(usize),
    Add(Box<Term>, Box<Term>),
    Scale(i128, Box<Term>),
    /// Quotient, rounded down, by a positive constant.
    Div(Box<Term>, i128),
    /// Remainder, never negative, by a positive constant.
    Rem(Box<Term>, i128),
    Min(Box<Term>, Box<Term>),
    Max(Box<Term>, Box<Term>),
    Abs(Box<Term>),
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Formula {
    Constant(bool),
    /// The term is at least 0.
    Holds(Term),
    And(Vec<Formula>),
    Or(Vec<Formula>),
}

/// Why a condition has no formula.
pub(super) enum Stop {
    /// A product of variables or the like.
    NotAffine,
    /// A mistake in the condition.
    Wrong(Box<Problem>),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Wrong(Box::new(problem))
    }
}

/// Where a condition stands.
pub(super) struct Scope<'a> {
    pub(super) axes: &'a [Axis<'a>],
    pub(super) source: &'a Source,
    pub(super) size: &'a dyn Fn(&str) -> Option<i128>,
}

impl Term {
    pub(super) fn constant(&self) -> Option<i128> {
        if let Term::Constant(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    pub(super) fn uses(&self, variable: usize) -> bool {
        match self {
            Term::Constant(_) => false,
            Term::Variable(v) => *v == variable,
            Term::Add(a, b) | Term::Min(a, b) | Term::Max(a, b) => {
                a.uses(variable) || b.uses(variable)
            }
            Term::Scale(_, a) | Term::Div(a, _) | Term::Rem(a, _) | Term::Abs(a) => {
                a.uses(variable)
            }
        }
    }

    fn add(self, other: Term) -> Term {
        Term::Add(Box::new(self), Box::new(other))
    }

    fn minus(self, other: Term) -> Term {
        self.add(Term::Scale(-1, Box::new(other)))
    }

    /// `min`, `max` or `abs` somewhere inside: the term is the second where the first is at least 0, else the third.
    fn split(&self) -> Option<(Term, Term, Term)> {
        let one = |a: &Term, wrap: &dyn Fn(Box<Term>) -> Term| {
            let (when, yes, no) = a.split()?;
            Some((when, wrap(Box::new(yes)), wrap(Box::new(no))))
        };
        let two = |a: &Term, b: &Term, wrap: &dyn Fn(Box<Term>, Box<Term>) -> Term| {
            one(a, &|a| wrap(a, Box::new(b.clone())))
                .or_else(|| one(b, &|b| wrap(Box::new(a.clone()), b)))
        };
        match self {
            Term::Constant(_) | Term::Variable(_) => None,
            Term::Add(a, b) => two(a, b, &Term::Add),
            Term::Scale(factor, a) => one(a, &|a| Term::Scale(*factor, a)),
            Term::Div(a, by) => one(a, &|a| Term::Div(a, *by)),
            Term::Rem(a, by) => one(a, &|a| Term::Rem(a, *by)),
            Term::Min(a, b) => two(a, b, &Term::Min).or_else(|| {
                Some((
                    b.as_ref().clone().minus(a.as_ref().clone()),
                    a.as_ref().clone(),
                    b.as_ref().clone(),
                ))
            }),
            Term::Max(a, b) => two(a, b, &Term::Max).or_else(|| {
                Some((
                    a.as_ref().clone().minus(b.as_ref().clone()),
                    a.as_ref().clone(),
                    b.as_ref().clone(),
                ))
            }),
            Term::Abs(a) => one(a, &Term::Abs).or_else(|| {
                Some((
                    a.as_ref().clone(),
                    a.as_ref().clone(),
                    Term::Scale(-1, a.clone()),
                ))
            }),
        }
    }
}

/// `left >= right + more`.
fn at_least(left: Term, right: Term, more: i128) -> Formula {
    let difference = left.minus(right);
    Formula::Holds(if more == 0 {
        difference
    } else {
        difference.add(Term::Constant(-more))
    })
}

impl Formula {
    fn not(&self) -> Formula {
        match self {
            Formula::Constant(value) => Formula::Constant(!value),
            Formula::Holds(term) => at_least(
                Term::Scale(-1, Box::new(term.clone())),
                Term::Constant(0),
                1,
            ),
            Formula::And(parts) => Formula::Or(parts.iter().map(Formula::not).collect()),
            Formula::Or(parts) => Formula::And(parts.iter().map(Formula::not).collect()),
        }
    }
}

/// The conjunction of `formulas` as alternatives of which no two hold at once, each a list of terms
/// that must be at least 0. `None` if there are too many.
pub(super) fn alternatives(formulas: Vec<Formula>) -> Option<Vec<Vec<Term>>> {
    let mut found = Vec::new();
    let mut work = vec![(formulas, Vec::new())];
    while let Some((mut pending, mut terms)) = work.pop() {
        let Some(formula) = pending.pop() else {
            found.push(terms);
            if found.len() > MOST_ALTERNATIVES {
                return None;
            }
            continue;
        };
        match formula {
            Formula::Constant(false) => {}
            Formula::Constant(true) => work.push((pending, terms)),
            Formula::And(parts) => {
                pending.extend(parts);
                work.push((pending, terms));
            }
            Formula::Or(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    let mut branch = pending.clone();
                    branch.extend(parts[..i].iter().map(Formula::not));
                    branch.push(part.clone());
                    work.push((branch, terms.clone()));
                }
            }
            Formula::Holds(term) => match term.split() {
                None => {
                    terms.push(term);
                    work.push((pending, terms));
                }
                Some((when, yes, no)) => {
                    let when = Formula::Holds(when);
                    for (condition, term) in [(when.clone(), yes), (when.not(), no)] {
                        let mut branch = pending.clone();
                        branch.extend([condition, Formula::Holds(term)]);
                        work.push((branch, terms.clone()));
                    }
                }
            },
        }
        if work.len() > 4 * MOST_ALTERNATIVES {
            return None;
        }
    }
    Some(found)
}

impl Scope<'_> {
    /// True if the expression names the variable of an axis.
    pub(super) fn names(&self, expr: &Expr, axis: usize) -> bool {
        let mut found = false;
        expr.walk(&mut |part| {
            found |= matches!(part, Expr::Name { name, .. } if name == self.axes[axis].variable);
        });
        found
    }

    /// Value at a point.
    pub(super) fn value(&self, expr: &Expr, point: &[i128]) -> Result<i128, Problem> {
        let lookup = |name: &str| match self.axes.iter().position(|axis| axis.variable == name) {
            Some(v) => Some(point[v]),
            None => (self.size)(name),
        };
        expr.whole(self.source, &lookup, &|| {
            self.axes.iter().map(|axis| axis.variable).collect()
        })
    }

    fn term(&self, expr: &Expr) -> Result<Term, Stop> {
        if !(0..self.axes.len()).any(|v| self.names(expr, v)) {
            return Ok(Term::Constant(self.value(expr, &[])?));
        }
        let pair =
            |a: &Expr, b: &Expr| Ok::<_, Stop>((Box::new(self.term(a)?), Box::new(self.term(b)?)));
        match expr {
            Expr::Name { name, .. } => self
                .axes
                .iter()
                .position(|axis| axis.variable == name)
                .map(Term::Variable)
                .ok_or(Stop::NotAffine),
            Expr::Unary {
                op: UnaryOp::Neg,
                operand,
                ..
            } => Ok(Term::Scale(-1, Box::new(self.term(operand)?))),
            Expr::Binary {
                op, left, right, ..
            } => {
                let (a, b) = pair(left, right)?;
                match (op, a.constant(), b.constant()) {
                    (BinaryOp::Add, ..) => Ok(Term::Add(a, b)),
                    (BinaryOp::Sub, ..) => Ok(a.minus(*b)),
                    (BinaryOp::Mul, Some(factor), _) => Ok(Term::Scale(factor, b)),
                    (BinaryOp::Mul, _, Some(factor)) => Ok(Term::Scale(factor, a)),
                    (BinaryOp::Div, _, Some(by)) if by > 0 => Ok(Term::Div(a, by)),
                    (BinaryOp::Rem, _, Some(by)) if by > 0 => Ok(Term::Rem(a, by)),
                    // Evaluating it once names the mistake.
                    (BinaryOp::Div | BinaryOp::Rem, _, Some(0)) => {
                        let start: Vec<i128> =
                            self.axes.iter().map(|axis| axis.range.start).collect();
                        self.value(expr, &start)?;
                        Err(Stop::NotAffine)
                    }
                    _ => Err(Stop::NotAffine),
                }
            }
            Expr::Call {
                name, arguments, ..
            } => match (name.as_str(), arguments.as_slice()) {
                ("abs", [a]) => Ok(Term::Abs(Box::new(self.term(a)?))),
                ("min" | "max", [first, rest @ ..]) => {
                    rest.iter().try_fold(self.term(first)?, |sofar, next| {
                        let (a, b) = (Box::new(sofar), Box::new(self.term(next)?));
                        Ok(if name == "min" {
                            Term::Min(a, b)
                        } else {
                            Term::Max(a, b)
                        })
                    })
                }
                (
                    "ceil",
                    [
                        Expr::Binary {
                            op: BinaryOp::Div,
                            left,
                            right,
                            ..
                        },
                    ],
                ) => {
                    let (a, b) = pair(left, right)?;
                    match b.constant() {
                        // ceil(a / b) = -floor(-a / b)
                        Some(by) if by > 0 => {
                            let quotient = Term::Div(Box::new(Term::Scale(-1, a)), by);
                            Ok(Term::Scale(-1, Box::new(quotient)))
                        }
                        _ => Err(Stop::NotAffine),
                    }
                }
                _ => Err(Stop::NotAffine),
            },
            _ => Err(Stop::NotAffine),
        }
    }

    /// That a term equals an expression.
    pub(super) fn equal(&self, term: Term, expr: &Expr) -> Result<Formula, Stop> {
        let other = self.term(expr)?;
        Ok(Formula::And(vec![
            at_least(term.clone(), other.clone(), 0),
            at_least(other, term, 0),
        ]))
    }

    /// The condition as a formula.
    pub(super) fn formula(&self, expr: &Expr) -> Result<Formula, Stop> {
        use BinaryOp::{And, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Or};
        match expr {
            Expr::Unary {
                op: UnaryOp::Not,
                operand,
                ..
            } => Ok(self.formula(operand)?.not()),
            Expr::Binary {
                op: And,
                left,
                right,
                ..
            } => Ok(Formula::And(vec![
                self.formula(left)?,
                self.formula(right)?,
            ])),
            Expr::Binary {
                op: Or,
                left,
                right,
                ..
            } => Ok(Formula::Or(vec![self.formula(left)?, self.formula(right)?])),
            Expr::Binary {
                op, left, right, ..
            } if matches!(
                op,
                Less | LessEqual | Greater | GreaterEqual | Equal | NotEqual
            ) =>
            {
                let (a, b) = (self.term(left)?, self.term(right)?);
                Ok(match op {
                    Less => at_least(b, a, 1),
                    LessEqual => at_least(b, a, 0),
                    Greater => at_least(a, b, 1),
                    GreaterEqual => at_least(a, b, 0),
                    Equal => {
                        Formula::And(vec![at_least(a.clone(), b.clone(), 0), at_least(b, a, 0)])
                    }
                    _ => Formula::Or(vec![at_least(a.clone(), b.clone(), 1), at_least(b, a, 1)]),
                })
            }
            _ => {
                let term = self.term(expr)?;
                match term.constant() {
                    Some(value) => Ok(Formula::Constant(value != 0)),
                    None => Ok(Formula::Or(vec![
                        at_least(term.clone(), Term::Constant(0), 1),
                        at_least(Term::Constant(0), term, 1),
                    ])),
                }
            }
        }
    }
}

/// An affine function of the variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    pub(super) constant: i128,
    pub(super) factors: Vec<i128>,
}

impl Affine {
    pub(super) fn constant(value: i128, variables: usize) -> Self {
        Affine {
            constant: value,
            factors: vec![0; variables],
        }
    }

    fn combine(&self, other: &Affine) -> Option<Affine> {
        let factors = self
            .factors
            .iter()
            .zip(&other.factors)
            .map(|(a, b)| a.checked_add(*b));
        Some(Affine {
            constant: self.constant.checked_add(other.constant)?,
            factors: factors.collect::<Option<_>>()?,
        })
    }

    fn scale(&self, by: i128) -> Option<Affine> {
        let factors = self.factors.iter().map(|a| a.checked_mul(by));
        Some(Affine {
            constant: self.constant.checked_mul(by)?,
            factors: factors.collect::<Option<_>>()?,
        })
    }

    /// Value of the term where each variable is the given function; `None` if that is not affine.
    pub(super) fn of(term: &Term, variables: &[Affine]) -> Option<Affine> {
        let width = variables.first().map_or(0, |v| v.factors.len());
        match term {
            Term::Constant(value) => Some(Affine::constant(*value, width)),
            Term::Variable(v) => variables.get(*v).cloned(),
            Term::Add(a, b) => Affine::of(a, variables)?.combine(&Affine::of(b, variables)?),
            Term::Scale(by, a) => Affine::of(a, variables)?.scale(*by),
            Term::Div(a, by) => {
                let a = Affine::of(a, variables)?;
                let whole = a.factors.iter().all(|f| f % by == 0);
                whole.then_some(())?;
                Some(Affine {
                    constant: floor_div(a.constant, *by)?,
                    factors: a.factors.iter().map(|f| f / by).collect(),
                })
            }
            Term::Rem(a, by) => {
                let a = Affine::of(a, variables)?;
                let whole = a.factors.iter().all(|f| f % by == 0);
                whole.then(|| Affine::constant(a.constant.rem_euclid(*by), width))
            }
            Term::Min(..) | Term::Max(..) | Term::Abs(_) => None,
        }
    }
}
