//! Expressions over whole numbers: indices, sizes, conditions.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};
use einflow_spec::{Problems, did_you_mean};

use super::names::Names;

impl Names {
    /// Checks an expression over sizes and, if allowed, rank variables: names known, no reads, and a
    /// divisor without variables, so that it can be evaluated and reasoned about.
    pub fn check_whole(&self, expr: &Expr, allowed: Allowed, problems: &mut Problems) -> bool {
        match expr {
            Expr::Number { text, span } => {
                let good = text.replace('_', "").parse::<i64>().is_ok();
                if !good {
                    problems.push(
                        self.problem(
                            *span,
                            format!("{text} is not a whole number of at most 63 bits"),
                        )
                        .help("sizes and coordinates are whole numbers"),
                    );
                }
                good
            }
            Expr::Name { name, span } => {
                if self.is_size(name) {
                    return true;
                }
                if allowed == Allowed::Variables
                    && !name.starts_with(|c: char| c.is_ascii_uppercase())
                {
                    return self.need_variable(name, *span, problems).is_some();
                }
                if !self.broken.contains(&name.to_ascii_lowercase()) {
                    let known: Vec<&str> = self
                        .ranks
                        .keys()
                        .chain(
                            self.parameters
                                .keys()
                                .filter(|p| !self.ranks.contains_key(*p)),
                        )
                        .map(String::as_str)
                        .collect();
                    let what = if allowed == Allowed::Sizes {
                        "a size"
                    } else {
                        "a size or rank variable"
                    };
                    problems.push(
                        self.problem(*span, format!("`{name}` is not {what}"))
                            .help(did_you_mean(name, known)),
                    );
                }
                false
            }
            Expr::Read { name, span, .. } => {
                problems.push(
                    self.problem(
                        *span,
                        format!("`{name}[...]` reads a tensor where a whole number was expected"),
                    )
                    .help("a read through an index tensor is all of an index: `K[e, IDX[k, p]]`"),
                );
                false
            }
            Expr::Call {
                name,
                arguments,
                name_span,
                ..
            } => {
                let good = match (name.as_str(), arguments.as_slice()) {
                    ("min" | "max", [_, ..]) | ("abs", [_]) => true,
                    (
                        "ceil",
                        [
                            Expr::Binary {
                                op: BinaryOp::Div,
                                right,
                                ..
                            },
                        ],
                    ) => self.constant_divisor(right, problems),
                    ("ceil", _) => {
                        problems
                            .push(self.problem(*name_span, "`ceil` takes a division: ceil(a / b)"));
                        return false;
                    }
                    ("min" | "max" | "abs", _) => {
                        let message = format!("`{name}` of {} arguments", arguments.len());
                        problems.push(
                            self.problem(*name_span, message)
                                .help("min(a, b), max(a, b), abs(a)"),
                        );
                        return false;
                    }
                    _ => {
                        problems.push(
                            self.problem(
                                *name_span,
                                format!("`{name}` is not a function of whole numbers"),
                            )
                            .help(did_you_mean(name, ["min", "max", "abs", "ceil"])),
                        );
                        return false;
                    }
                };
                arguments.iter().fold(good, |good, a| {
                    self.check_whole(a, allowed, problems) && good
                })
            }
            Expr::Unary {
                op: UnaryOp::Neg,
                operand,
                ..
            } => self.check_whole(operand, allowed, problems),
            Expr::Binary {
                op: BinaryOp::Add | BinaryOp::Sub,
                left,
                right,
                ..
            } => {
                let good = self.check_whole(left, allowed, problems);
                self.check_whole(right, allowed, problems) && good
            }
            Expr::Binary {
                op: BinaryOp::Mul,
                left,
                right,
                span,
            } => {
                let good = self.check_whole(left, allowed, problems);
                let good = self.check_whole(right, allowed, problems) && good;
                let linear = !(self.has_variable(left) && self.has_variable(right));
                if !linear {
                    problems.push(
                        self.problem(*span, "a product of two rank variables")
                            .help("an index or condition is linear in the rank variables, with `/` and `%` by sizes"),
                    );
                }
                good && linear
            }
            Expr::Binary {
                op: BinaryOp::Div | BinaryOp::Rem,
                left,
                right,
                ..
            } => {
                let good = self.check_whole(left, allowed, problems);
                let good = self.check_whole(right, allowed, problems) && good;
                self.constant_divisor(right, problems) && good
            }
            Expr::Unary {
                op: UnaryOp::Not,
                span,
                ..
            }
            | Expr::Binary { span, .. } => {
                problems.push(self.problem(*span, "a condition where a whole number was expected"));
                false
            }
        }
    }

    fn constant_divisor(&self, divisor: &Expr, problems: &mut Problems) -> bool {
        let zero = matches!(divisor, Expr::Number { text, .. } if text.bytes().all(|b| matches!(b, b'0' | b'_')));
        let message = if zero {
            "a division by zero"
        } else if self.has_variable(divisor) {
            "a division by a rank variable"
        } else {
            return true;
        };
        problems.push(
            self.problem(divisor.span(), message)
                .help("divide by a size: `h / G`, `p % 16`"),
        );
        false
    }

    /// True where an expression names a rank variable.
    pub fn has_variable(&self, expr: &Expr) -> bool {
        let mut found = false;
        expr.walk(&mut |part| {
            if let Expr::Name { name, .. } = part {
                found |= !self.is_size(name) && self.variable(name).is_some();
            }
        });
        found
    }

    /// Checks a condition: comparisons of whole numbers joined by `and`, `or`, `not`.
    pub fn check_condition(&self, expr: &Expr, problems: &mut Problems) -> bool {
        match expr {
            Expr::Binary {
                op: BinaryOp::And | BinaryOp::Or,
                left,
                right,
                ..
            } => {
                let good = self.check_condition(left, problems);
                self.check_condition(right, problems) && good
            }
            Expr::Unary {
                op: UnaryOp::Not,
                operand,
                ..
            } => self.check_condition(operand, problems),
            Expr::Binary {
                op, left, right, ..
            } if is_comparison(*op) => {
                if let Expr::Binary {
                    op: inner, span, ..
                } = left.as_ref()
                    && is_comparison(*inner)
                {
                    problems.push(
                        self.problem(*span, "a comparison of a comparison")
                            .help("write `0 <= a and a < b`, not `0 <= a < b`"),
                    );
                    return false;
                }
                let mut reads = None;
                expr.walk(&mut |part| {
                    if let Expr::Read { span, .. } = part {
                        reads.get_or_insert(*span);
                    }
                });
                if let Some(span) = reads {
                    problems.push(
                        self.problem(span, "a condition on a tensor's values")
                            .help("a condition compares coordinates and sizes; to mask by values, add a tensor that holds -inf"),
                    );
                    return false;
                }
                let good = self.check_whole(left, Allowed::Variables, problems);
                self.check_whole(right, Allowed::Variables, problems) && good
            }
            _ => {
                problems.push(
                    self.problem(expr.span(), "not a condition")
                        .help("a condition compares whole numbers: `m <= p`, `(p - m) % 2 == 0`"),
                );
                false
            }
        }
    }
}

/// What an expression of whole numbers may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Ranks and parameters.
    Sizes,
    /// These and rank variables.
    Variables,
}

pub(super) fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(
        op,
        Less | LessEqual | Greater | GreaterEqual | Equal | NotEqual
    )
}
