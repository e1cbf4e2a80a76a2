//! Whole-number expressions over rank variables and sizes, compiled to linear forms over the loops
//! where they are linear.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp, floor_div};
use einflow_spec::{Problem, Source, Span, did_you_mean};

use crate::cascade::Sizes;

/// What names mean inside one Einsum: its loops' variables, then sizes.
pub(super) struct Scope<'a> {
    /// The cascade's file.
    pub source: &'a Source,
    /// Values of ranks and parameters.
    pub sizes: &'a Sizes,
    /// The rank variable of each loop.
    pub variables: Vec<&'a str>,
    /// The number of iterations of each loop.
    pub extents: Vec<usize>,
}

/// `constant + sum of coefficient * loop variable`. Its extremes over the loops fit in an `i64`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    /// The value where every variable is 0.
    pub constant: i64,
    /// One for each loop.
    pub coefficients: Vec<i64>,
}

impl Affine {
    /// The value at a point.
    pub fn at(&self, point: &[i64]) -> i64 {
        self.coefficients
            .iter()
            .zip(point)
            .fold(self.constant, |sum, (c, v)| sum + c * v)
    }

    fn is_constant(&self) -> bool {
        self.coefficients.iter().all(|c| *c == 0)
    }

    /// `a * self + b * other`, or `None` on overflow.
    pub fn combine(&self, a: i64, other: &Affine, b: i64) -> Option<Affine> {
        let mix = |x: i64, y: i64| x.checked_mul(a)?.checked_add(y.checked_mul(b)?);
        let coefficients = self
            .coefficients
            .iter()
            .zip(&other.coefficients)
            .map(|(x, y)| mix(*x, *y));
        Some(Affine {
            constant: mix(self.constant, other.constant)?,
            coefficients: coefficients.collect::<Option<_>>()?,
        })
    }

    /// Smallest and largest value over loops of these extents.
    pub fn bounds(&self, extents: &[usize]) -> Option<(i64, i64)> {
        let (mut low, mut high) = (self.constant, self.constant);
        for (&c, &extent) in self.coefficients.iter().zip(extents) {
            let last = i64::try_from(extent.saturating_sub(1)).ok()?;
            let end = c.checked_mul(last)?;
            low = low.checked_add(end.min(0))?;
            high = high.checked_add(end.max(0))?;
        }
        Some((low, high))
    }
}

/// An expression that has no value at some point, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The operation.
    pub span: Span,
    /// What is wrong with it.
    pub message: String,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// A linear form.
    Affine(Affine),
    /// A truth value's opposite, or a magnitude.
    Unary(Prefix, Box<Tree>, Span),
    /// An operation on two values.
    Binary(BinaryOp, Box<Tree>, Box<Tree>, Span),
    /// `ceil(a / b)`.
    Ceil(Box<Tree>, Box<Tree>, Span),
    /// The smallest of several.
    Min(Vec<Tree>),
    /// The largest of several.
    Max(Vec<Tree>),
}

/// An operation on one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prefix {
    Neg,
    Not,
    Abs,
}

impl Tree {
    /// Compiles an expression.
    pub fn compile(expr: &Expr, scope: &Scope<'_>) -> Result<Tree, Problem> {
        let tree = Self::build(expr, scope)?;
        if let Tree::Affine(affine) = &tree
            && affine.bounds(&scope.extents).is_none()
        {
            return Err(Problem::at(
                scope.source,
                expr.span(),
                "the value overflows 64 bits",
            ));
        }
        Ok(tree)
    }

    fn build(expr: &Expr, scope: &Scope<'_>) -> Result<Tree, Problem> {
        let loops = scope.variables.len();
        let constant = |value: i64| {
            Tree::Affine(Affine {
                constant: value,
                coefficients: vec![0; loops],
            })
        };
        let at = |span: Span, message: String| Problem::at(scope.source, span, message);
        Ok(match expr {
            Expr::Number { text, span } => constant(
                text.replace('_', "")
                    .parse()
                    .map_err(|_| at(*span, format!("{text} is not a whole number of 64 bits")))?,
            ),
            Expr::Name { name, span } => {
                if let Some(i) = scope.variables.iter().position(|v| v == name) {
                    let mut coefficients = vec![0; loops];
                    coefficients[i] = 1;
                    Tree::Affine(Affine {
                        constant: 0,
                        coefficients,
                    })
                } else {
                    let size = scope
                        .sizes
                        .get(name)
                        .and_then(|s| i64::try_from(s).ok())
                        .ok_or_else(|| {
                            let known = scope
                                .variables
                                .iter()
                                .copied()
                                .chain(scope.sizes.0.keys().map(String::as_str));
                            at(*span, format!("`{name}` is not known here"))
                                .help(did_you_mean(name, known))
                        })?;
                    constant(size)
                }
            }
            Expr::Read { name, span, .. } => {
                return Err(at(
                    *span,
                    format!("`{name}[...]` reads a tensor where a whole number was expected"),
                ));
            }
            Expr::Unary { op, operand, span } => {
                let operand = Self::build(operand, scope)?;
                match (op, &operand) {
                    (UnaryOp::Neg, Tree::Affine(a)) => a
                        .combine(-1, a, 0)
                        .map(Tree::Affine)
                        .ok_or_else(|| at(*span, "the value overflows 64 bits".into()))?,
                    (UnaryOp::Neg, _) => Tree::Unary(Prefix::Neg, Box::new(operand), *span),
                    (UnaryOp::Not, _) => Tree::Unary(Prefix::Not, Box::new(operand), *span),
                }
            }
            Expr::Call {
                name,
                arguments,
                name_span,
                span,
            } => {
                if name == "ceil"
                    && let [
                        Expr::Binary {
                            op: BinaryOp::Div,
                            left,
                            right,
                            ..
                        },
                    ] = arguments.as_slice()
                {
                    let (left, right) = (Self::build(left, scope)?, Self::build(right, scope)?);
                    return Ok(Tree::Ceil(Box::new(left), Box::new(right), *span));
                }
                let mut parts: Vec<Tree> = arguments
                    .iter()
                    .map(|a| Self::build(a, scope))
                    .collect::<Result<_, _>>()?;
                match (name.as_str(), parts.len()) {
                    ("min", 1..) => Tree::Min(parts),
                    ("max", 1..) => Tree::Max(parts),
                    ("abs", 1) => Tree::Unary(Prefix::Abs, Box::new(parts.remove(0)), *span),
                    _ => {
                        let message = format!(
                            "`{name}` of {} arguments is not a function of whole numbers",
                            parts.len()
                        );
                        let help = "known: min(a, b, ...), max(a, b, ...), abs(a), ceil(a / b)";
                        return Err(at(*name_span, message).help(help));
                    }
                }
            }
            Expr::Binary {
                op,
                left,
                right,
                span,
            } => {
                let (left, right) = (Self::build(left, scope)?, Self::build(right, scope)?);
                let folded = match (op, &left, &right) {
                    (BinaryOp::Add, Tree::Affine(a), Tree::Affine(b)) => Some(a.combine(1, b, 1)),
                    (BinaryOp::Sub, Tree::Affine(a), Tree::Affine(b)) => Some(a.combine(1, b, -1)),
                    (BinaryOp::Mul, Tree::Affine(a), Tree::Affine(b)) if b.is_constant() => {
                        Some(a.combine(b.constant, b, 0))
                    }
                    (BinaryOp::Mul, Tree::Affine(a), Tree::Affine(b)) if a.is_constant() => {
                        Some(b.combine(a.constant, a, 0))
                    }
                    (BinaryOp::Div, Tree::Affine(a), Tree::Affine(b))
                        if a.is_constant() && b.is_constant() =>
                    {
                        let quotient = floor_div(i128::from(a.constant), i128::from(b.constant));
                        let quotient = quotient.and_then(|q| i64::try_from(q).ok());
                        quotient.map(|q| {
                            Some(Affine {
                                constant: q,
                                coefficients: vec![0; loops],
                            })
                        })
                    }
                    _ => None,
                };
                match folded {
                    Some(Some(affine)) => Tree::Affine(affine),
                    Some(None) => return Err(at(*span, "the value overflows 64 bits".into())),
                    None => Tree::Binary(*op, Box::new(left), Box::new(right), *span),
                }
            }
        })
    }

    /// Whether the value depends on any of the loops for which `which` holds.
    pub fn uses(&self, which: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Tree::Affine(a) => a
                .coefficients
                .iter()
                .enumerate()
                .any(|(i, c)| *c != 0 && which(i)),
            Tree::Unary(_, a, _) => a.uses(which),
            Tree::Binary(_, a, b, _) | Tree::Ceil(a, b, _) => a.uses(which) || b.uses(which),
            Tree::Min(parts) | Tree::Max(parts) => parts.iter().any(|p| p.uses(which)),
        }
    }

    /// The value at a point.
    pub fn at(&self, point: &[i64]) -> Result<i128, Fault> {
        Ok(match self {
            // Inside a tree nothing has checked the extremes.
            Tree::Affine(a) => a
                .coefficients
                .iter()
                .zip(point)
                .fold(i128::from(a.constant), |sum, (c, v)| {
                    sum + i128::from(*c) * i128::from(*v)
                }),
            Tree::Unary(op, a, span) => {
                let value = a.at(point)?;
                match op {
                    Prefix::Neg => value.checked_neg(),
                    Prefix::Abs => value.checked_abs(),
                    Prefix::Not => Some(i128::from(value == 0)),
                }
                .ok_or_else(|| overflow(*span))?
            }
            Tree::Ceil(a, b, span) => {
                let (a, b) = (a.at(point)?, b.at(point)?);
                a.checked_neg()
                    .and_then(|a| floor_div(a, b))
                    .and_then(i128::checked_neg)
                    .ok_or_else(|| Fault {
                        span: *span,
                        message: format!("{a} cannot be divided by {b}"),
                    })?
            }
            Tree::Min(parts) | Tree::Max(parts) => {
                let mut best: Option<i128> = None;
                for part in parts {
                    let value = part.at(point)?;
                    best = Some(match best {
                        None => value,
                        Some(best) if matches!(self, Tree::Min(_)) => best.min(value),
                        Some(best) => best.max(value),
                    });
                }
                best.unwrap_or(0)
            }
            Tree::Binary(BinaryOp::And, a, b, _) => {
                i128::from(a.at(point)? != 0 && b.at(point)? != 0)
            }
            Tree::Binary(BinaryOp::Or, a, b, _) => {
                i128::from(a.at(point)? != 0 || b.at(point)? != 0)
            }
            Tree::Binary(op, a, b, span) => {
                let (a, b) = (a.at(point)?, b.at(point)?);
                let value = match op {
                    BinaryOp::Less => Some(i128::from(a < b)),
                    BinaryOp::LessEqual => Some(i128::from(a <= b)),
                    BinaryOp::Greater => Some(i128::from(a > b)),
                    BinaryOp::GreaterEqual => Some(i128::from(a >= b)),
                    BinaryOp::Equal => Some(i128::from(a == b)),
                    BinaryOp::NotEqual => Some(i128::from(a != b)),
                    BinaryOp::Add => a.checked_add(b),
                    BinaryOp::Sub => a.checked_sub(b),
                    BinaryOp::Mul => a.checked_mul(b),
                    BinaryOp::Div | BinaryOp::Rem if b == 0 => {
                        let message = format!("{a} {} 0: the divisor is zero", op.symbol());
                        return Err(Fault {
                            span: *span,
                            message,
                        });
                    }
                    BinaryOp::Div => floor_div(a, b),
                    BinaryOp::Rem => a.checked_rem_euclid(b),
                    BinaryOp::And | BinaryOp::Or => None,
                };
                value.ok_or_else(|| overflow(*span))?
            }
        })
    }
}

/// The expression with names replaced: `replace` gives `Some(None)` for a name that stays and `None` for
/// one that no expression can stand for, which makes the whole `None`.
pub(super) fn replaced(
    expr: &Expr,
    replace: &dyn Fn(&str) -> Option<Option<Expr>>,
) -> Option<Expr> {
    let mut whole = expr.clone();
    match &mut whole {
        Expr::Number { .. } => {}
        Expr::Name { name, .. } => {
            if let Some(other) = replace(name)? {
                whole = other;
            }
        }
        Expr::Read { indices: parts, .. }
        | Expr::Call {
            arguments: parts, ..
        } => {
            for part in parts {
                *part = replaced(part, replace)?;
            }
        }
        Expr::Unary { operand, .. } => **operand = replaced(operand, replace)?,
        Expr::Binary { left, right, .. } => {
            **left = replaced(left, replace)?;
            **right = replaced(right, replace)?;
        }
    }
    Some(whole)
}

fn overflow(span: Span) -> Fault {
    Fault {
        span,
        message: "the value overflows 128 bits".into(),
    }
}

/// A range of the innermost loop: `start..end`, empty where `end <= start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First coordinate.
    pub start: i64,
    /// One past the last.
    pub end: i64,
}

impl Range {
    /// Whether it holds no coordinate.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Number of coordinates.
    pub fn len(self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(0)
    }

    /// Keeps the coordinates `v` where `base + step * v >= 0`.
    pub fn keep_from_zero(&mut self, base: i64, step: i64) {
        let bound = floor_div(i128::from(base), i128::from(step.unsigned_abs()));
        match bound.map(|b| b.clamp(i128::from(i64::MIN) + 1, i128::from(i64::MAX) - 1) as i64) {
            // v >= -base / step, rounded up.
            Some(b) if step > 0 => self.start = self.start.max(-b),
            // v <= base / -step, rounded down.
            Some(b) => self.end = self.end.min(b + 1),
            None if base < 0 => self.end = self.start,
            None => {}
        }
    }

    /// Keeps the coordinates `v` where `0 <= base + step * v < length`.
    pub fn keep_inside(&mut self, base: i64, step: i64, length: i64) {
        self.keep_from_zero(base, step);
        self.keep_from_zero((length - 1).saturating_sub(base), step.saturating_neg());
    }
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// The form is at least 0.
    NonNegative(Affine),
    /// The form is 0.
    Zero(Affine),
    /// The value is not 0.
    Tree(Tree),
}

impl Test {
    /// Compiles a condition to tests that must all hold.
    pub fn compile(expr: &Expr, scope: &Scope<'_>, tests: &mut Vec<Test>) -> Result<(), Problem> {
        let Expr::Binary {
            op, left, right, ..
        } = expr
        else {
            tests.push(Test::Tree(Tree::compile(expr, scope)?));
            return Ok(());
        };
        if *op == BinaryOp::And {
            Test::compile(left, scope, tests)?;
            return Test::compile(right, scope, tests);
        }
        let (a, b) = (Tree::build(left, scope)?, Tree::build(right, scope)?);
        let form = match (&a, &b) {
            (Tree::Affine(a), Tree::Affine(b)) => {
                let one = Affine {
                    constant: 1,
                    coefficients: vec![0; a.coefficients.len()],
                };
                let less = |a: &Affine, b: &Affine, strict: i64| {
                    b.combine(1, a, -1)?.combine(1, &one, -strict)
                };
                match op {
                    BinaryOp::Less => less(a, b, 1).map(Test::NonNegative),
                    BinaryOp::LessEqual => less(a, b, 0).map(Test::NonNegative),
                    BinaryOp::Greater => less(b, a, 1).map(Test::NonNegative),
                    BinaryOp::GreaterEqual => less(b, a, 0).map(Test::NonNegative),
                    BinaryOp::Equal => less(a, b, 0).map(Test::Zero),
                    _ => None,
                }
            }
            _ => None,
        };
        let fits = |test: &Test| match test {
            Test::NonNegative(a) | Test::Zero(a) => a.bounds(&scope.extents).is_some(),
            Test::Tree(_) => true,
        };
        tests.push(match form.filter(fits) {
            Some(test) => test,
            None => Test::Tree(Tree::compile(expr, scope)?),
        });
        Ok(())
    }

    /// Whether it depends on any of the loops for which `which` holds.
    pub fn uses(&self, which: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Test::NonNegative(a) | Test::Zero(a) => a
                .coefficients
                .iter()
                .enumerate()
                .any(|(i, c)| *c != 0 && which(i)),
            Test::Tree(tree) => tree.uses(which),
        }
    }

    /// Whether it holds at a point.
    pub fn holds(&self, point: &[i64]) -> Result<bool, Fault> {
        Ok(match self {
            Test::NonNegative(a) => a.at(point) >= 0,
            Test::Zero(a) => a.at(point) == 0,
            Test::Tree(tree) => tree.at(point)? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against trying every coordinate.
    #[test]
    fn ranges_are_clipped_exactly() {
        for base in -9..10 {
            for step in -4..5 {
                for length in 1..6 {
                    let full = Range { start: 0, end: 7 };
                    let mut range = full;
                    range.keep_inside(base, step, length);
                    let inside = |v: i64| (0..length).contains(&(base + step * v));
                    let expected: Vec<i64> = (0..7).filter(|v| inside(*v)).collect();
                    let found: Vec<i64> = (range.start..range.end).collect();
                    assert_eq!(found, expected, "{base} {step} {length}");
                }
            }
        }
    }
}
