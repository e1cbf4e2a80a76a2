//! Expressions, as they stand in Einsum text, in sizes of mappings and in conditions.
//!
//! One grammar serves all of them; each place checks which forms it allows. From loosest to
//! tightest: `or`, `and`, `not`, comparison (`< <= > >= == !=`), `+ -`, `* / %`, unary `-`, then a number,
//! a name (dots allowed: `array2d.rows`), a call `f(a, b)`, a read `T[i, j]`, or parentheses.
//! Comments run from `#` or `//` to the end of the line.

mod parser;
mod value;

pub use parser::{Parser, Token};
pub use value::floor_div;

use std::fmt;

use crate::{Kind, Node, Problem, Source, Span};

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Or,
    And,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl BinaryOp {
    /// The operator as written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::And => "and",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
        }
    }

    fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And => 2,
            BinaryOp::Less
            | BinaryOp::LessEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterEqual
            | BinaryOp::Equal
            | BinaryOp::NotEqual => 4,
            BinaryOp::Add | BinaryOp::Sub => 5,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => 6,
        }
    }
}

/// An operator before one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Neg,
    Not,
}

/// A parsed expression; spans are byte offsets in the text that was parsed, moved by the parser's
/// base offset (so that they are places in the file).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Expr {
    /// A number as written.
    Number { text: String, span: Span },
    /// A name, perhaps dotted.
    Name { name: String, span: Span },
    /// A read of a tensor: `T[i, j]`; `span` covers all of it, `name_span` the tensor.
    Read {
        name: String,
        indices: Vec<Expr>,
        name_span: Span,
        span: Span,
    },
    /// A call: `exp(x)`.
    Call {
        name: String,
        arguments: Vec<Expr>,
        name_span: Span,
        span: Span,
    },
    /// An operator before one operand.
    Unary {
        op: UnaryOp,
        operand: Box<Expr>,
        span: Span,
    },
    /// An operator between two operands.
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
        span: Span,
    },
}

impl Expr {
    /// Parses a whole text as one expression. `base` is the offset of `text` in `source`.
    ///
    /// # Errors
    /// What stands where an expression, or its end, was expected.
    pub fn parse(source: &Source, text: &str, base: usize) -> Result<Expr, Problem> {
        let mut parser = Parser::new(source, text, base)?;
        parser.skip_newlines();
        let expr = parser.expression()?;
        parser.skip_newlines();
        parser.end()?;
        Ok(expr)
    }

    /// The number at `node`, or the expression in a string.
    ///
    /// # Errors
    /// Neither, and those of [`Expr::parse`].
    pub fn read(node: &Node) -> Result<Expr, Problem> {
        match &node.kind {
            Kind::Number(text) => Ok(Expr::Number {
                text: text.clone(),
                span: node.span,
            }),
            _ => Expr::parse(&node.source, node.text()?, node.text_start()),
        }
    }

    /// Where the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number { span, .. }
            | Expr::Name { span, .. }
            | Expr::Read { span, .. }
            | Expr::Call { span, .. }
            | Expr::Unary { span, .. }
            | Expr::Binary { span, .. } => *span,
        }
    }

    /// Calls `visit` on this expression and every part of it, outermost first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        match self {
            Expr::Number { .. } | Expr::Name { .. } => {}
            Expr::Read { indices: parts, .. }
            | Expr::Call {
                arguments: parts, ..
            } => {
                parts.iter().for_each(|part| part.walk(visit));
            }
            Expr::Unary { operand, .. } => operand.walk(visit),
            Expr::Binary { left, right, .. } => {
                left.walk(visit);
                right.walk(visit);
            }
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, parts: &[Expr]) -> fmt::Result {
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{part}")?;
            }
            Ok(())
        }
        fn operand(f: &mut fmt::Formatter<'_>, part: &Expr, at_least: u8) -> fmt::Result {
            match part {
                Expr::Binary { op, .. } if op.precedence() < at_least => write!(f, "({part})"),
                Expr::Unary { .. } => write!(f, "({part})"),
                _ => write!(f, "{part}"),
            }
        }
        match self {
            Expr::Number { text, .. } => f.write_str(text),
            Expr::Name { name, .. } => f.write_str(name),
            Expr::Read { name, indices, .. } => {
                write!(f, "{name}[")?;
                list(f, indices)?;
                f.write_str("]")
            }
            Expr::Call {
                name, arguments, ..
            } => {
                write!(f, "{name}(")?;
                list(f, arguments)?;
                f.write_str(")")
            }
            Expr::Unary {
                op, operand: inner, ..
            } => {
                f.write_str(if *op == UnaryOp::Neg { "-" } else { "not " })?;
                operand(f, inner, 7)
            }
            Expr::Binary {
                op, left, right, ..
            } => {
                operand(f, left, op.precedence())?;
                write!(f, " {} ", op.symbol())?;
                operand(f, right, op.precedence() + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expr, Problem> {
        Expr::parse(&Source::new("e", text), text, 0)
    }

    fn whole(text: &str) -> Result<i128, Problem> {
        let source = Source::new("e", text);
        let lookup = |name: &str| match name {
            "P" => Some(1000),
            "array2d.rows" => Some(256),
            _ => None,
        };
        Expr::parse(&source, text, 0)?.whole(&source, &lookup, &|| vec!["P", "array2d.rows"])
    }

    #[test]
    fn precedence_and_rounding() {
        assert_eq!(whole("1 + 2 * 3 - 4 - 5").unwrap(), -2);
        assert_eq!(whole("ceil(P / array2d.rows)").unwrap(), 4);
        assert_eq!(whole("P / array2d.rows").unwrap(), 3);
        assert_eq!(whole("-7 / 2").unwrap(), -4);
        assert_eq!(whole("-7 % 4").unwrap(), 1);
        assert_eq!(whole("max(1, 2 * max(1, 3)) + min(4, 2, 9)").unwrap(), 8);
        assert_eq!(whole("not 1 < 2 or 3 >= 3 and 1 == 1").unwrap(), 1);
    }

    #[test]
    fn real_numbers() {
        let real = |text: &str| {
            let source = Source::new("e", text);
            let lookup = |name: &str| (name == "area_mm2").then_some(391.5);
            Expr::parse(&source, text, 0)
                .and_then(|e| e.real(&source, &lookup, &|| vec!["area_mm2"]))
                .map_err(|p| p.to_string())
        };
        assert_eq!(real("7 / 2 + 1e-3"), Ok(3.501));
        assert_eq!(real("area_mm2 < 400 and not area_mm2 < 1"), Ok(1.0));
        assert_eq!(real("ceil(log2(1000)) + floor(2.5) * sqrt(16)"), Ok(18.0));
        assert_eq!(real("-7 % 4"), Ok(1.0));
        assert!(real("area_mm < 400").unwrap_err().contains("area_mm2"));
        assert!(real("1 / (2 - 2)").unwrap_err().contains("inf"));
        assert!(real("tanh(1)").unwrap_err().contains("known: min"));
    }

    #[test]
    fn text_and_back() {
        for text in [
            "a * (b + c)",
            "T[i, m1 * M0 + m0] / exp(a - b)",
            "a - (b - c)",
            "-(a + b) * c",
        ] {
            let once = parse(text).unwrap().to_string();
            assert_eq!(parse(&once).unwrap().to_string(), once);
        }
    }

    #[test]
    fn errors_name_the_place() {
        let say = |text: &str| {
            let problem = whole(text).unwrap_err();
            (problem.place.unwrap().1.start, problem.message)
        };
        assert_eq!(say("P + Q"), (4, "`Q` is not known here".into()));
        assert_eq!(say("1 / (2 - 2)").0, 5);
        assert_eq!(
            say("1 +").1,
            "expected a number, a name or `(`, found the end of the text"
        );
        assert_eq!(say("1.5").1, "1.5 is not a whole number");
        assert!(
            say("9999999999999999999 * 9999999999999999999 * 9999999999")
                .1
                .contains("overflows")
        );
        assert!(
            parse(&"(".repeat(100_000))
                .unwrap_err()
                .message
                .contains("nested")
        );
        assert!(
            parse(&"-".repeat(100_000))
                .unwrap_err()
                .message
                .contains("nested")
        );
        assert!(parse(&("1".to_string() + &"+1".repeat(100_000))).is_err());
    }
}
