//! Expressions, as they stand in Einsum text, in sizes of mappings and in conditions.
//!
//! One grammar serves all of them; each place checks which forms it allows. From loosest to
//! tightest: `or`, `and`, `not`, comparison (`< <= > >= == !=`), `+ -`, `* / %`, unary `-`, then a number,
//! a name (dots allowed: `array2d.rows`), a call `f(a, b)`, a read `T[i, j]`, or parentheses.
//! Comments run from `#` or `//` to the end of the line.

use std::fmt;

use crate::{Problem, Source, Span, did_you_mean};

/// Nesting deeper than this is refused, so that no input exhausts the stack.
const MAX_DEPTH: usize = 64;

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

/// A token of the expression language.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A number as written.
    Number(String),
    /// A name, perhaps dotted, or a keyword (`and`, `or`, `not`, `where`).
    Name(String),
    /// Punctuation: one of `( ) [ ] , ; : :: = == != < <= > >= + - * / % ->`.
    Symbol(&'static str),
    /// The end of a line outside brackets.
    Newline,
    /// The end of the text.
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Number(text) | Token::Name(text) => write!(f, "`{text}`"),
            Token::Symbol(text) => write!(f, "`{text}`"),
            Token::Newline => f.write_str("the end of the line"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

const SYMBOLS: [&str; 21] = [
    "::", "->", "==", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]",
    ",", ";", ":",
];

/// A cursor over the tokens of a text; Einsum statements are parsed with it too.
#[derive(Clone, Debug)]
pub struct Parser {
    source: Source,
    tokens: Vec<(Token, Span)>,
    position: usize,
    depth: usize,
}

impl Parser {
    /// Splits `text` into tokens. `base` is the offset of `text` in `source`: every span that the
    /// parser makes is a place in `source`.
    ///
    /// # Errors
    /// A character that begins no token.
    pub fn new(source: &Source, text: &str, base: usize) -> Result<Self, Problem> {
        let mut tokens: Vec<(Token, Span)> = Vec::new();
        let mut open = 0usize;
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let first = rest.chars().next().unwrap_or(' ');
            let start = at;
            if first == '\n' {
                at += 1;
                if open == 0 {
                    tokens.push((Token::Newline, Span::new(base + start, base + at)));
                }
            } else if first.is_whitespace() {
                at += first.len_utf8();
            } else if first == '#' || rest.starts_with("//") {
                at += rest.find('\n').unwrap_or(rest.len());
            } else if first.is_ascii_digit()
                || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
            {
                at += number_length(rest);
                tokens.push((
                    Token::Number(text[start..at].into()),
                    Span::new(base + start, base + at),
                ));
            } else if first.is_alphabetic() || first == '_' {
                at += rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
                    .unwrap_or(rest.len());
                tokens.push((
                    Token::Name(text[start..at].into()),
                    Span::new(base + start, base + at),
                ));
            } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                at += symbol.len();
                match *symbol {
                    "(" | "[" => open += 1,
                    ")" | "]" => open = open.saturating_sub(1),
                    _ => {}
                }
                tokens.push((Token::Symbol(symbol), Span::new(base + start, base + at)));
            } else {
                let span = Span::new(base + start, base + start + first.len_utf8());
                return Err(Problem::at(
                    source,
                    span,
                    format!("the character {first:?} has no meaning here"),
                ));
            }
        }
        tokens.push((Token::End, Span::new(base + text.len(), base + text.len())));
        Ok(Self {
            source: source.clone(),
            tokens,
            position: 0,
            depth: 0,
        })
    }

    /// The text's source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The next token.
    pub fn peek(&self) -> &Token {
        &self.tokens[self.position].0
    }

    /// The token after the next.
    pub fn peek_second(&self) -> &Token {
        &self.tokens[(self.position + 1).min(self.tokens.len() - 1)].0
    }

    /// Where the next token stands.
    pub fn span(&self) -> Span {
        self.tokens[self.position].1
    }

    /// Takes the next token.
    pub fn bump(&mut self) -> (Token, Span) {
        let token = self.tokens[self.position].clone();
        if self.position + 1 < self.tokens.len() {
            self.position += 1;
        }
        token
    }

    /// Takes the next token if it is this symbol.
    pub fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        if found {
            self.bump();
        }
        found
    }

    /// Takes the next token if it is this word.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Name(name) if name == word);
        if found {
            self.bump();
        }
        found
    }

    /// Takes this symbol.
    ///
    /// # Errors
    /// Another token stands there.
    pub fn expect(&mut self, symbol: &str) -> Result<Span, Problem> {
        let span = self.span();
        if self.eat(symbol) {
            Ok(span)
        } else {
            Err(self.unexpected(&format!("`{symbol}`")))
        }
    }

    /// Takes a name.
    ///
    /// # Errors
    /// Another token stands there.
    pub fn name(&mut self) -> Result<(String, Span), Problem> {
        match self.peek() {
            Token::Name(_) => match self.bump() {
                (Token::Name(name), span) => Ok((name, span)),
                (_, span) => Err(Problem::at(&self.source, span, "expected a name")),
            },
            _ => Err(self.unexpected("a name")),
        }
    }

    /// Skips ends of lines.
    pub fn skip_newlines(&mut self) {
        while matches!(self.peek(), Token::Newline) {
            self.bump();
        }
    }

    /// Skips to the next statement: past the next `;` or end of line.
    pub fn skip_statement(&mut self) {
        while !matches!(
            self.peek(),
            Token::Newline | Token::End | Token::Symbol(";")
        ) {
            self.bump();
        }
        self.bump();
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// The token that stands there.
    pub fn end(&self) -> Result<(), Problem> {
        if matches!(self.peek(), Token::End) {
            Ok(())
        } else {
            Err(self.unexpected("the end"))
        }
    }

    /// "expected ..., found ..." at the next token.
    pub fn unexpected(&self, expected: &str) -> Problem {
        Problem::at(
            &self.source,
            self.span(),
            format!("expected {expected}, found {}", self.peek()),
        )
    }

    /// Parses an expression and stops at the first token that cannot continue it.
    ///
    /// # Errors
    /// What stands where an operand was expected.
    pub fn expression(&mut self) -> Result<Expr, Problem> {
        self.binary(1)
    }

    fn deeper(&mut self) -> Result<(), Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Problem::at(
                &self.source,
                self.span(),
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }

    fn peek_binary(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Name(name) if name == "or" => BinaryOp::Or,
            Token::Name(name) if name == "and" => BinaryOp::And,
            Token::Symbol(symbol) => match *symbol {
                "<" => BinaryOp::Less,
                "<=" => BinaryOp::LessEqual,
                ">" => BinaryOp::Greater,
                ">=" => BinaryOp::GreaterEqual,
                "==" => BinaryOp::Equal,
                "!=" => BinaryOp::NotEqual,
                "+" => BinaryOp::Add,
                "-" => BinaryOp::Sub,
                "*" => BinaryOp::Mul,
                "/" => BinaryOp::Div,
                "%" => BinaryOp::Rem,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn binary(&mut self, at_least: u8) -> Result<Expr, Problem> {
        self.deeper()?;
        let mut left = self.unary()?;
        let mut height = 0;
        while let Some(op) = self.peek_binary() {
            if op.precedence() < at_least {
                break;
            }
            // A long chain makes a deep tree even without nesting.
            height += 1;
            if height > 16 * MAX_DEPTH {
                return Err(Problem::at(
                    &self.source,
                    self.span(),
                    "an expression of more than 1000 operators",
                ));
            }
            self.bump();
            let right = self.binary(op.precedence() + 1)?;
            let span = left.span().to(right.span());
            left = Expr::Binary {
                op,
                left: Box::new(left),
                right: Box::new(right),
                span,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Problem> {
        let start = self.span();
        let op = if self.eat("-") {
            UnaryOp::Neg
        } else if self.eat_word("not") {
            UnaryOp::Not
        } else {
            return self.primary();
        };
        let operand = self.binary(if op == UnaryOp::Neg { 7 } else { 3 })?;
        let span = start.to(operand.span());
        Ok(Expr::Unary {
            op,
            operand: Box::new(operand),
            span,
        })
    }

    fn primary(&mut self) -> Result<Expr, Problem> {
        if self.eat("(") {
            let inner = self.binary(1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        match self.peek() {
            Token::Number(_) => {
                let (token, span) = self.bump();
                let Token::Number(text) = token else {
                    return Err(self.unexpected("a number"));
                };
                Ok(Expr::Number { text, span })
            }
            Token::Name(name) if !matches!(name.as_str(), "and" | "or" | "where") => {
                let (name, name_span) = self.name()?;
                if self.eat("[") {
                    let (indices, end) = self.arguments("]")?;
                    return Ok(Expr::Read {
                        name,
                        indices,
                        name_span,
                        span: name_span.to(end),
                    });
                }
                if self.eat("(") {
                    let (arguments, end) = self.arguments(")")?;
                    return Ok(Expr::Call {
                        name,
                        arguments,
                        name_span,
                        span: name_span.to(end),
                    });
                }
                Ok(Expr::Name {
                    name,
                    span: name_span,
                })
            }
            _ => Err(self.unexpected("a number, a name or `(`")),
        }
    }

    /// Parses expressions between commas up to `close`, which is taken.
    ///
    /// # Errors
    /// What stands where an expression, a comma or `close` was expected.
    pub fn arguments(&mut self, close: &str) -> Result<(Vec<Expr>, Span), Problem> {
        let mut parts = Vec::new();
        loop {
            let span = self.span();
            if self.eat(close) {
                return Ok((parts, span));
            }
            parts.push(self.binary(1)?);
            let span = self.span();
            if self.eat(close) {
                return Ok((parts, span));
            }
            if !self.eat(",") {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
    }
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while at < bytes.len() && (bytes[at].is_ascii_digit() || bytes[at] == b'_') {
            at += 1;
        }
        at
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_none_or(u8::is_ascii_digit) {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
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
