//! Text to tokens to expressions.

use std::fmt;

use super::{BinaryOp, Expr, UnaryOp};
use crate::{Problem, Source, Span};

/// Nesting deeper than this is refused, so that no input exhausts the stack.
const MAX_DEPTH: usize = 64;

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
