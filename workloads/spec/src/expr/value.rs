//! What an expression is worth.

use super::{BinaryOp, Expr, UnaryOp};
use crate::{Problem, Source, Span, did_you_mean};

impl Expr {
    /// Value as a whole number. `/` rounds down and `%` is never negative; `ceil(a / b)` rounds
    /// up; `min`, `max` and `abs` are known; a comparison is 1 or 0. `lookup` gives names their values.
    ///
    /// # Errors
    /// An unknown name (`known` lists what is known), a fraction, a division by zero, an overflow.
    pub fn whole<'k>(
        &self,
        source: &Source,
        lookup: &dyn Fn(&str) -> Option<i128>,
        known: &dyn Fn() -> Vec<&'k str>,
    ) -> Result<i128, Problem> {
        let at = |span: Span, message: String| Problem::at(source, span, message);
        let overflow = |span| at(span, "the value overflows 128 bits".into());
        match self {
            Expr::Number { text, span } => text.replace('_', "").parse().map_err(|_| {
                at(*span, format!("{text} is not a whole number"))
                    .help("sizes and coordinates are whole numbers")
            }),
            Expr::Name { name, span } => lookup(name).ok_or_else(|| {
                at(*span, format!("`{name}` is not known here")).help(did_you_mean(name, known()))
            }),
            Expr::Read { name, span, .. } => Err(at(
                *span,
                format!("`{name}[...]` reads a tensor where a whole number was expected"),
            )),
            Expr::Unary { op, operand, span } => {
                let value = operand.whole(source, lookup, known)?;
                match op {
                    UnaryOp::Neg => value.checked_neg().ok_or_else(|| overflow(*span)),
                    UnaryOp::Not => Ok(i128::from(value == 0)),
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
                    let (a, b) = (
                        left.whole(source, lookup, known)?,
                        right.whole(source, lookup, known)?,
                    );
                    return a
                        .checked_neg()
                        .and_then(|a| floor_div(a, b))
                        .and_then(i128::checked_neg)
                        .ok_or_else(|| at(right.span(), format!("{a} cannot be divided by {b}")));
                }
                let values: Vec<i128> = arguments
                    .iter()
                    .map(|a| a.whole(source, lookup, known))
                    .collect::<Result<_, _>>()?;
                match (name.as_str(), values.as_slice()) {
                    ("min", [first, rest @ ..]) => Ok(rest.iter().fold(*first, |a, b| a.min(*b))),
                    ("max", [first, rest @ ..]) => Ok(rest.iter().fold(*first, |a, b| a.max(*b))),
                    ("abs", [value]) => value.checked_abs().ok_or_else(|| overflow(*span)),
                    _ => Err(at(
                        *name_span,
                        format!(
                            "`{name}` of {} arguments is not a function of whole numbers",
                            values.len()
                        ),
                    )
                    .help("known: min(a, b, ...), max(a, b, ...), abs(a), ceil(a / b)")),
                }
            }
            Expr::Binary {
                op,
                left,
                right,
                span,
            } => {
                let a = left.whole(source, lookup, known)?;
                let b = right.whole(source, lookup, known)?;
                let value = match op {
                    BinaryOp::Or => Some(i128::from(a != 0 || b != 0)),
                    BinaryOp::And => Some(i128::from(a != 0 && b != 0)),
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
                        return Err(at(
                            right.span(),
                            format!("{a} {} 0: the divisor is zero", op.symbol()),
                        ));
                    }
                    BinaryOp::Div => floor_div(a, b),
                    BinaryOp::Rem => a.checked_rem_euclid(b),
                };
                value.ok_or_else(|| overflow(*span))
            }
        }
    }

    /// Value as a real number: `/` divides, and `floor`, `ceil`, `sqrt`, `log2`, `min`, `max` and `abs` are known; a
    /// comparison is 1 or 0. `lookup` gives names their values.
    ///
    /// # Errors
    /// An unknown name (`known` lists what is known), an unknown function, a result that is not finite.
    pub fn real<'k>(
        &self,
        source: &Source,
        lookup: &dyn Fn(&str) -> Option<f64>,
        known: &dyn Fn() -> Vec<&'k str>,
    ) -> Result<f64, Problem> {
        let at = |span: Span, message: String| Problem::at(source, span, message);
        let truth = |b: bool| f64::from(u8::from(b));
        let value = match self {
            Expr::Number { text, span } => text
                .replace('_', "")
                .parse()
                .map_err(|_| at(*span, format!("{text} is not a number")))?,
            Expr::Name { name, span } => lookup(name).ok_or_else(|| {
                at(*span, format!("`{name}` is not known here")).help(did_you_mean(name, known()))
            })?,
            Expr::Read { name, span, .. } => {
                return Err(at(
                    *span,
                    format!("`{name}[...]` reads a tensor where a number was expected"),
                ));
            }
            Expr::Unary { op, operand, .. } => {
                let value = operand.real(source, lookup, known)?;
                match op {
                    UnaryOp::Neg => -value,
                    UnaryOp::Not => truth(value == 0.0),
                }
            }
            Expr::Call {
                name,
                arguments,
                name_span,
                ..
            } => {
                let values: Vec<f64> = arguments
                    .iter()
                    .map(|a| a.real(source, lookup, known))
                    .collect::<Result<_, _>>()?;
                match (name.as_str(), values.as_slice()) {
                    ("min", [first, rest @ ..]) => rest.iter().fold(*first, |a, b| a.min(*b)),
                    ("max", [first, rest @ ..]) => rest.iter().fold(*first, |a, b| a.max(*b)),
                    ("abs", [value]) => value.abs(),
                    ("floor", [value]) => value.floor(),
                    ("ceil", [value]) => value.ceil(),
                    ("sqrt", [value]) => value.sqrt(),
                    ("log2", [value]) => value.log2(),
                    _ => {
                        return Err(at(
                            *name_span,
                            format!("`{name}` of {} arguments is not known", values.len()),
                        )
                        .help("known: min(a, b, ...), max(a, b, ...), abs(a), floor(a), ceil(a), sqrt(a), log2(a)"));
                    }
                }
            }
            Expr::Binary {
                op, left, right, ..
            } => {
                let a = left.real(source, lookup, known)?;
                let b = right.real(source, lookup, known)?;
                match op {
                    BinaryOp::Or => truth(a != 0.0 || b != 0.0),
                    BinaryOp::And => truth(a != 0.0 && b != 0.0),
                    BinaryOp::Less => truth(a < b),
                    BinaryOp::LessEqual => truth(a <= b),
                    BinaryOp::Greater => truth(a > b),
                    BinaryOp::GreaterEqual => truth(a >= b),
                    BinaryOp::Equal => truth(a == b),
                    BinaryOp::NotEqual => truth(a != b),
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div => a / b,
                    BinaryOp::Rem => a.rem_euclid(b),
                }
            }
        };
        if value.is_finite() {
            Ok(value)
        } else {
            Err(at(self.span(), format!("`{self}` is {value}")).help("a finite number would do"))
        }
    }
}

/// `a / b` rounded down; `None` for a zero divisor or an overflow.
pub fn floor_div(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) {
        quotient - 1
    } else {
        quotient
    })
}
