//! RON as specification files use it, read in one pass.
//!
//! This reads a subset of RON into the same tree as the general way through the `ron` crate, which parses a value again
//! at every level of nesting. Whatever it does not know (an error above all) is left to that way.

use crate::{Kind, Node, Source, Span};

/// Deeper nesting is left to the general way, which refuses it.
const DEEPEST: usize = 64;

/// The tree; `None` where the text is not in the subset.
pub(crate) fn read(source: &Source) -> Option<Node> {
    let mut reader = Reader {
        source,
        text: source.text(),
        at: 0,
    };
    let node = reader.value(0)?;
    reader.blank()?;
    (reader.at == reader.text.len()).then_some(node)
}

struct Reader<'a> {
    source: &'a Source,
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Skips white space and comments.
    fn blank(&mut self) -> Option<()> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'/') if self.rest().starts_with("//") => self.at += self.rest().find('\n')?,
                Some(b'/') => return None,
                _ => return Some(()),
            }
        }
    }

    fn node(&self, start: usize, kind: Kind) -> Node {
        Node {
            source: self.source.clone(),
            span: Span::new(start, self.at),
            kind,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Node> {
        self.blank()?;
        let start = self.at;
        if depth > DEEPEST {
            return None;
        }
        let kind = match self.peek()? {
            b'"' => self.string()?,
            b'r' if self.rest()[1..].starts_with(['"', '#']) => self.raw_string()?,
            b'(' => self.parentheses(depth)?,
            b'[' => {
                self.at += 1;
                Kind::List(self.items(b']', depth)?)
            }
            b'{' => self.map(depth)?,
            b'0'..=b'9' | b'-' => self.number()?,
            _ => match self.word()? {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "Some" | "None" | "inf" | "NaN" => return None,
                // A struct's name carries no meaning.
                _ if self.peek() == Some(b'(') => self.parentheses(depth)?,
                word => Kind::Word(word.to_string()),
            },
        };
        Some(self.node(start, kind))
    }

    /// Values up to a closing bracket.
    fn items(&mut self, close: u8, depth: usize) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            self.blank()?;
            if self.eat(close) {
                return Some(items);
            }
            items.push(self.value(depth + 1)?);
            self.blank()?;
            if !self.eat(b',') && self.peek() != Some(close) {
                return None;
            }
        }
    }

    /// A struct, or a tuple.
    fn parentheses(&mut self, depth: usize) -> Option<Kind> {
        self.at += 1;
        if self.eat(b')') {
            return Some(Kind::Empty);
        }
        self.blank()?;
        let inside = self.at;
        let is_struct =
            self.word().is_some() && self.blank().is_some() && self.peek() == Some(b':');
        self.at = inside;
        if !is_struct {
            let items = self.items(b')', depth)?;
            return (!items.is_empty()).then_some(Kind::List(items));
        }
        let mut fields = Vec::new();
        loop {
            self.blank()?;
            if self.eat(b')') {
                return Some(Kind::Record(fields));
            }
            let start = self.at;
            let name = self.word()?.to_string();
            let span = Span::new(start, self.at);
            self.blank()?;
            if !self.eat(b':') {
                return None;
            }
            fields.push((name, span, self.value(depth + 1)?));
            self.blank()?;
            if !self.eat(b',') && self.peek() != Some(b')') {
                return None;
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Kind> {
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            self.blank()?;
            if self.eat(b'}') {
                return Some(Kind::Record(entries));
            }
            let key = self.value(depth + 1)?;
            let Kind::Text(name, _) = key.kind else {
                return None;
            };
            self.blank()?;
            if !self.eat(b':') {
                return None;
            }
            entries.push((name, key.span, self.value(depth + 1)?));
            self.blank()?;
            if !self.eat(b',') && self.peek() != Some(b'}') {
                return None;
            }
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        // Other letters, and names of one underscore, are RON's business.
        let plain = word.starts_with(|c: char| c.is_ascii_alphabetic())
            && rest[end..].chars().next().is_none_or(|c| c.is_ascii());
        self.at += end;
        plain.then_some(word)
    }

    fn string(&mut self) -> Option<Kind> {
        let start = self.at + 1;
        let length = self.text[start..].find('"')?;
        let content = &self.text[start..start + length];
        if content.contains('\\') {
            return None;
        }
        self.at = start + length + 1;
        Some(Kind::Text(content.to_string(), start))
    }

    fn raw_string(&mut self) -> Option<Kind> {
        let hashes = self.rest()[1..].bytes().take_while(|b| *b == b'#').count();
        let start = self.at + 1 + hashes + 1;
        if self.text.as_bytes().get(start - 1) != Some(&b'"') {
            return None;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let length = self.text[start..].find(&close)?;
        self.at = start + length + close.len();
        Some(Kind::Text(
            self.text[start..start + length].to_string(),
            start,
        ))
    }

    /// A plain number of moderate length: `-12`, `0.5`, `1e-9`.
    fn number(&mut self) -> Option<Kind> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_')))
            .unwrap_or(rest.len());
        let text = &rest[..end];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.strip_prefix('-').unwrap_or(exponent))
            }
            None => (digits, "0"),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let good = [whole, fraction, exponent].into_iter().all(plain)
            && (whole == "0" || !whole.starts_with('0'))
            && text.len() <= 18
            && exponent.len() <= 2;
        self.at += end;
        good.then(|| Kind::Number(text.to_string()))
    }
}
