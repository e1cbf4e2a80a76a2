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

/// A compiled expression, and whether 64 bits hold every value on the way to its own.
#[derive(Clone, Debug)]
pub(super) struct Form {
    tree: Tree,
    small: bool,
}

impl Form {
    /// `tree` over loops of these extents.
    pub fn new(tree: Tree, extents: &[usize]) -> Self {
        let small = tree.bounds(extents).is_some();
        Self { tree, small }
    }

    /// Whether the value depends on a loop.
    pub fn uses(&self, which: usize) -> bool {
        self.tree.uses(which)
    }

    /// The value at a point.
    pub fn at(&self, point: &[i64]) -> Result<i128, Fault> {
        if self.small {
            Ok(self.tree.small(point).into())
        } else {
            self.tree.at(point)
        }
    }
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

    /// Compiles an expression whose extremes the caller checks.
    pub fn build(expr: &Expr, scope: &Scope<'_>) -> Result<Tree, Problem> {
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

    /// Whether the value depends on a loop.
    fn uses(&self, which: usize) -> bool {
        match self {
            Tree::Affine(a) => a.coefficients[which] != 0,
            Tree::Unary(_, a, _) => a.uses(which),
            Tree::Binary(_, a, b, _) | Tree::Ceil(a, b, _) => a.uses(which) || b.uses(which),
            Tree::Min(parts) | Tree::Max(parts) => parts.iter().any(|p| p.uses(which)),
        }
    }

    /// Bounds of the value over loops of these extents; `None` where 64 bits may not hold it or a part
    /// of it, or where a divisor may not be positive.
    fn bounds(&self, extents: &[usize]) -> Option<(i64, i64)> {
        let of = |tree: &Tree| tree.bounds(extents);
        Some(match self {
            Tree::Affine(a) => a.bounds(extents)?,
            Tree::Unary(op, a, _) => {
                let (low, high) = of(a)?;
                match op {
                    Prefix::Neg => (high.checked_neg()?, low.checked_neg()?),
                    Prefix::Abs => (0, low.checked_abs()?.max(high.checked_abs()?)),
                    Prefix::Not => (0, 1),
                }
            }
            Tree::Ceil(a, b, _) => {
                let ((low, high), (divisor, _)) = (of(a)?, of(b)?);
                let most = low.checked_abs()?.max(high.checked_abs()?);
                (divisor >= 1).then_some((-most, most))?
            }
            Tree::Min(parts) | Tree::Max(parts) => {
                let bounds: Vec<(i64, i64)> = parts.iter().map(of).collect::<Option<_>>()?;
                let low = bounds.iter().map(|b| b.0).min()?;
                (low, bounds.iter().map(|b| b.1).max()?)
            }
            Tree::Binary(op, a, b, _) => {
                let ((a, b), (c, d)) = (of(a)?, of(b)?);
                match op {
                    BinaryOp::Add => (a.checked_add(c)?, b.checked_add(d)?),
                    BinaryOp::Sub => (a.checked_sub(d)?, b.checked_sub(c)?),
                    BinaryOp::Mul => {
                        let corners = [
                            a.checked_mul(c)?,
                            a.checked_mul(d)?,
                            b.checked_mul(c)?,
                            b.checked_mul(d)?,
                        ];
                        (*corners.iter().min()?, *corners.iter().max()?)
                    }
                    BinaryOp::Div if c >= 1 => (a.min(0), b.max(0)),
                    BinaryOp::Rem if c >= 1 => (0, d - 1),
                    BinaryOp::Div | BinaryOp::Rem => return None,
                    _ => (0, 1),
                }
            }
        })
    }

    /// The value at a point, where [`Tree::bounds`] are known.
    fn small(&self, point: &[i64]) -> i64 {
        match self {
            Tree::Affine(a) => a.at(point),
            Tree::Unary(Prefix::Neg, a, _) => -a.small(point),
            Tree::Unary(Prefix::Abs, a, _) => a.small(point).abs(),
            Tree::Unary(Prefix::Not, a, _) => i64::from(a.small(point) == 0),
            Tree::Ceil(a, b, _) => -(-a.small(point)).div_euclid(b.small(point)),
            Tree::Min(parts) => parts.iter().map(|p| p.small(point)).min().unwrap_or(0),
            Tree::Max(parts) => parts.iter().map(|p| p.small(point)).max().unwrap_or(0),
            Tree::Binary(BinaryOp::And, a, b, _) => {
                i64::from(a.small(point) != 0 && b.small(point) != 0)
            }
            Tree::Binary(BinaryOp::Or, a, b, _) => {
                i64::from(a.small(point) != 0 || b.small(point) != 0)
            }
            Tree::Binary(op, a, b, _) => {
                let (a, b) = (a.small(point), b.small(point));
                match op {
                    BinaryOp::Less => i64::from(a < b),
                    BinaryOp::LessEqual => i64::from(a <= b),
                    BinaryOp::Greater => i64::from(a > b),
                    BinaryOp::GreaterEqual => i64::from(a >= b),
                    BinaryOp::Equal => i64::from(a == b),
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    // The divisor is positive, so this rounds down.
                    BinaryOp::Div => a.div_euclid(b),
                    BinaryOp::Rem => a.rem_euclid(b),
                    _ => i64::from(a != b),
                }
            }
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
pub(crate) fn replaced(
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
