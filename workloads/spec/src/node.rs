use std::fmt;

use ron::value::RawValue;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{Problem, Problems, Source, Span};

/// A value of a RON file and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The file.
    pub source: Source,
    /// Where the value stands.
    pub span: Span,
    /// The value.
    pub kind: Kind,
}

/// What a value is. Specifications use no enum variants with payloads, so a struct's name carries
/// no meaning and is dropped.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A struct or a map: key, place of the key, value, in the order of the file.
    Record(Vec<(String, Span, Node)>),
    /// A list or a tuple.
    List(Vec<Node>),
    /// A string, and the offset in the file at which its content begins.
    Text(String, usize),
    /// A number, as written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// A bare word such as `double`.
    Word(String),
    /// `()` or `None`.
    Empty,
}

impl Kind {
    /// What a message calls such a value.
    pub fn describe(&self) -> String {
        match self {
            Kind::Record(_) => "a struct or map".into(),
            Kind::List(_) => "a list".into(),
            Kind::Text(text, _) => format!("the string {text:?}"),
            Kind::Number(text) => format!("the number {text}"),
            Kind::Bool(value) => format!("{value}"),
            Kind::Word(word) => format!("`{word}`"),
            Kind::Empty => "nothing".into(),
        }
    }
}

impl Node {
    /// Reads RON text into a tree.
    ///
    /// # Errors
    /// A RON syntax error, with its place; it ends the list, because nothing after it can be trusted.
    pub fn parse(source: &Source) -> Result<Node, Problems> {
        match crate::reader::read(source) {
            Some(node) => Ok(node),
            None => Self::parse_any(source),
        }
    }

    /// Reads any RON text.
    fn parse_any(source: &Source) -> Result<Node, Problems> {
        let text = source.text();
        let raw: &RawValue =
            ron::from_str(text).map_err(|e| syntax_problem(source, text, 0, &e))?;
        convert(source, raw.get_ron())
    }

    /// A problem at this value.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::at(&self.source, self.span, message)
    }

    /// "expected ..., found ..." at this value.
    pub fn expected(&self, what: &str) -> Problem {
        self.problem(format!("expected {what}, found {}", self.kind.describe()))
    }

    /// The string or bare word here.
    pub fn text(&self) -> Result<&str, Problem> {
        match &self.kind {
            Kind::Text(text, _) | Kind::Word(text) => Ok(text),
            _ => Err(self.expected("a string")),
        }
    }

    /// Offset in the file of the first byte of the string or word here.
    pub fn text_start(&self) -> usize {
        match &self.kind {
            Kind::Text(_, start) => *start,
            _ => self.span.start,
        }
    }

    /// The non-negative whole number here.
    pub fn u64(&self) -> Result<u64, Problem> {
        let Kind::Number(text) = &self.kind else {
            return Err(self.expected("a whole number"));
        };
        ron::from_str::<u64>(text).map_err(|_| {
            let what = if text.starts_with('-') {
                "a negative number where a count was expected"
            } else if text.contains(['.', 'e', 'E']) && !text.starts_with("0x") {
                "a fraction where a whole number was expected"
            } else {
                "a number too large for 64 bits"
            };
            self.problem(format!("{text} is {what}"))
                .help("a whole number from 0 to 2^64 - 1 would do")
        })
    }

    /// The finite number here.
    pub fn f64(&self) -> Result<f64, Problem> {
        let Kind::Number(text) = &self.kind else {
            return Err(self.expected("a number"));
        };
        match ron::from_str::<f64>(text) {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.problem(format!("{text} is not a finite number"))),
        }
    }

    /// `true` or `false`.
    pub fn bool(&self) -> Result<bool, Problem> {
        match self.kind {
            Kind::Bool(value) => Ok(value),
            _ => Err(self.expected("true or false")),
        }
    }

    /// The elements of the list here.
    pub fn list(&self) -> Result<&[Node], Problem> {
        match &self.kind {
            Kind::List(items) => Ok(items),
            Kind::Empty => Ok(&[]),
            _ => Err(self.expected("a list")),
        }
    }

    /// The entries of the struct or map here: key, place of the key, value.
    pub fn record(&self) -> Result<&[(String, Span, Node)], Problem> {
        match &self.kind {
            Kind::Record(entries) => Ok(entries),
            Kind::Empty => Ok(&[]),
            Kind::List(items) if items.is_empty() => Ok(&[]),
            _ => Err(self.expected("a struct or map")),
        }
    }
}

fn syntax_problem(
    source: &Source,
    part: &str,
    base: usize,
    error: &ron::error::SpannedError,
) -> Problems {
    // ron counts lines and columns from the start of the part that it was given.
    let part_source = Source::new("", part);
    let start = base + part_source.offset_of(error.span.start.line, error.span.start.col);
    let end = base + part_source.offset_of(error.span.end.line, error.span.end.col);
    Problem::at(
        source,
        Span::new(start, end.max(start)),
        match error.code {
            ron::Error::ExceededRecursionLimit => "not valid RON: it nests too deep".to_owned(),
            ref code => format!("not valid RON: {code}"),
        },
    )
    .into()
}

fn offset_in(source: &Source, part: &str) -> usize {
    part.as_ptr() as usize - source.text().as_ptr() as usize
}

/// Skips white space and comments, as RON defines them.
fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix("//") {
            text = rest.find('\n').map_or("", |i| &rest[i..]);
        } else if let Some(rest) = text.strip_prefix("/*") {
            let mut depth = 1;
            let mut at = 0;
            while depth > 0 && at < rest.len() {
                if rest[at..].starts_with("*/") {
                    depth -= 1;
                    at += 2;
                } else if rest[at..].starts_with("/*") {
                    depth += 1;
                    at += 2;
                } else {
                    at += rest[at..].chars().next().map_or(1, char::len_utf8);
                }
            }
            text = &rest[at.min(rest.len())..];
        } else {
            return text;
        }
    }
}

/// Converts valid RON, borrowed from `source`, into a tree.
fn convert(source: &Source, raw: &str) -> Result<Node, Problems> {
    let mut value = skip_blank(raw);
    let trimmed = {
        // `RawValue` trims by parsing; a scalar's text matters exactly, so use its own trimming.
        let whole = RawValue::from_ron(value)
            .map_err(|e| syntax_problem(source, value, offset_in(source, value), &e))?;
        whole.trim().get_ron()
    };
    value = trimmed;
    let start = offset_in(source, value);
    let span = Span::new(start, start + value.len());
    let node = |kind| {
        Ok(Node {
            source: source.clone(),
            span,
            kind,
        })
    };
    let first = value.chars().next().unwrap_or(' ');
    let word_end = value
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(value.len());
    match first {
        '"' | 'r' if first == '"' || value[1..].starts_with(['"', '#']) => {
            let text: String = parse_scalar(source, value, start)?;
            let content = value.find('"').map_or(0, |i| i + 1);
            node(Kind::Text(text, start + content))
        }
        '\'' => {
            let c: char = parse_scalar(source, value, start)?;
            node(Kind::Text(c.to_string(), start + 1))
        }
        '0'..='9' | '+' | '-' | '.' => node(Kind::Number(value.to_string())),
        '(' | '[' | '{' => convert_compound(source, value, span),
        _ if value == "true" || value == "false" => node(Kind::Bool(value == "true")),
        _ if value == "None" => node(Kind::Empty),
        _ if value == "inf" || value == "NaN" => node(Kind::Number(value.to_string())),
        _ if word_end == value.len() => node(Kind::Word(value.to_string())),
        _ if &value[..word_end] == "Some" => {
            let inner = skip_blank(&value[word_end..]);
            let inner = inner
                .strip_prefix('(')
                .and_then(|i| i.strip_suffix(')'))
                .unwrap_or(inner);
            convert(source, inner.trim_end().trim_end_matches(','))
        }
        _ => {
            // A named struct: its name carries no meaning here.
            let inner = skip_blank(&value[word_end..]);
            convert_compound(source, inner, span)
        }
    }
}

fn parse_scalar<T: for<'de> serde::Deserialize<'de>>(
    source: &Source,
    value: &str,
    start: usize,
) -> Result<T, Problems> {
    ron::from_str(value).map_err(|e| syntax_problem(source, value, start, &e))
}

enum Parts<'a> {
    Record(Vec<(&'a RawValue, &'a RawValue)>),
    Fields(Vec<(String, &'a RawValue)>),
    List(Vec<&'a RawValue>),
    Empty,
}

struct PartsVisitor {
    map: bool,
}

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a struct, a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        if self.map {
            let mut entries = Vec::new();
            while let Some(entry) = access.next_entry()? {
                entries.push(entry);
            }
            return Ok(Parts::Record(entries));
        }
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Parts::Fields(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Parts::List(items))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Parts::Empty)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        let item = serde::Deserialize::deserialize(deserializer)?;
        Ok(Parts::List(vec![item]))
    }
}

impl<'de> DeserializeSeed<'de> for PartsVisitor {
    type Value = Parts<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn convert_compound(source: &Source, value: &str, span: Span) -> Result<Node, Problems> {
    let start = offset_in(source, value);
    let mut deserializer =
        ron::Deserializer::from_str(value).map_err(|e| syntax_problem(source, value, start, &e))?;
    let seed = PartsVisitor {
        map: value.starts_with('{'),
    };
    let parts = seed
        .deserialize(&mut deserializer)
        .map_err(|e| syntax_problem(source, value, start, &deserializer.span_error(e)))?;
    let kind = match parts {
        Parts::Empty => Kind::Empty,
        Parts::List(items) => Kind::List(
            items
                .iter()
                .map(|item| convert(source, item.get_ron()))
                .collect::<Result<_, _>>()?,
        ),
        Parts::Record(entries) => {
            let mut out = Vec::with_capacity(entries.len());
            for (key, entry) in entries {
                let key = convert(source, key.get_ron())?;
                let name = match &key.kind {
                    Kind::Text(text, _) | Kind::Word(text) | Kind::Number(text) => text.clone(),
                    _ => return Err(key.expected("a name as key").into()),
                };
                out.push((name, key.span, convert(source, entry.get_ron())?));
            }
            Kind::Record(out)
        }
        Parts::Fields(fields) => {
            let mut out = Vec::with_capacity(fields.len());
            let mut previous = start;
            for (name, entry) in fields {
                let entry = convert(source, entry.get_ron())?;
                // The key is the last occurrence of its name between the previous value and this one.
                let gap = &source.text()[previous..entry.span.start];
                let key = previous + gap.rfind(name.as_str()).unwrap_or(0);
                previous = entry.span.end;
                out.push((name.clone(), Span::new(key, key + name.len()), entry));
            }
            Kind::Record(out)
        }
    };
    Ok(Node {
        source: source.clone(),
        span,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node, Problems> {
        Node::parse(&Source::new("t.ron", text))
    }

    fn field<'a>(node: &'a Node, name: &str) -> &'a Node {
        &node
            .record()
            .unwrap()
            .iter()
            .find(|(k, _, _)| k == name)
            .unwrap()
            .2
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = "// head\n(\n  name: \"x y\", /* c */ n: 1_000, list: [1, -2.5e3,],\n  \
                    map: {\"K\": (a: true), \"L\": double},\n  raw: r#\"line \"one\"\"#, u: (),\n)\n";
        let node = parse(text).unwrap();
        for (key, at, value) in node.record().unwrap() {
            assert_eq!(&text[at.start..at.end], key);
            assert!(
                text[value.span.start..value.span.end].starts_with(['"', '1', '[', '{', 'r', '('])
            );
        }
        assert_eq!(field(&node, "n").u64().unwrap(), 1000);
        assert_eq!(
            field(&node, "list").list().unwrap()[1].f64().unwrap(),
            -2500.0
        );
        let map = field(&node, "map");
        assert!(field(field(map, "K"), "a").bool().unwrap());
        assert_eq!(field(map, "L").text().unwrap(), "double");
        let raw = field(&node, "raw");
        assert_eq!(raw.text().unwrap(), "line \"one\"");
        assert!(text[raw.text_start()..].starts_with("line"));
        assert!(matches!(field(&node, "u").kind, Kind::Empty));
    }

    #[test]
    fn tuples_named_structs_and_options() {
        let node =
            parse("Thing(a: (1, 2), b: Some((c: 3)), d: None, e: (7), f: Other(g: [ ]))").unwrap();
        assert_eq!(field(&node, "a").list().unwrap().len(), 2);
        assert_eq!(field(field(&node, "b"), "c").u64().unwrap(), 3);
        assert!(matches!(field(&node, "d").kind, Kind::Empty));
        assert_eq!(field(&node, "e").list().unwrap().len(), 1);
        assert!(field(field(&node, "f"), "g").list().unwrap().is_empty());
    }

    /// The reader of the common subset gives the tree that the general way gives, or none.
    #[test]
    fn both_ways_give_the_same_tree() {
        let file = "// head\n(name: \"x\", n: -12, f: 0.5, e: 1e-9, words: [a, b_1, true,],\n  \
                    map: {\"K\": (a: 1, a: 2), \"L\": [(1, 2), ()]}, // end\n  raw: r##\"a \"# b\"##, t: T(u: 1),\n)\n";
        assert!(crate::reader::read(&Source::new("t", file)).is_some());
        let pieces = [
            "(", ")", "[", "]", "{", "}", ",", ":", "\"", "//", "/*", "\n", " ", "-", "_", "r#",
            "é", "0", "1e9", "+1", "Some", "x", "'", "\\",
        ];
        let mut texts = vec![file.to_string()];
        for at in (0..=file.len()).filter(|at| file.is_char_boundary(*at)) {
            for piece in pieces {
                texts.push(format!("{}{piece}{}", &file[..at], &file[at..]));
            }
            texts.push(file[..at].to_string());
            texts.push(format!(
                "{}{}",
                &file[..at],
                file.get(at + 1..).unwrap_or("")
            ));
        }
        let mut read = 0;
        for text in texts {
            let source = Source::new("t", text.as_str());
            let Some(node) = crate::reader::read(&source) else {
                continue;
            };
            read += 1;
            match Node::parse_any(&source) {
                Ok(other) => assert_eq!(format!("{node:?}"), format!("{other:?}"), "{text}"),
                Err(problems) => panic!("{text}: {problems}"),
            }
        }
        assert!(read > 500, "{read}");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = parse("(\n  a: 1,\n  b: ],\n)").unwrap_err().to_string();
        assert!(error.starts_with("t.ron:3:"), "{error}");
    }

    #[test]
    fn wrong_numbers_say_what_is_wrong() {
        let node = parse("[-1, 1.5, 99999999999999999999, \"x\"]").unwrap();
        let say = |i: usize| node.list().unwrap()[i].u64().unwrap_err().message;
        assert!(say(0).contains("negative"));
        assert!(say(1).contains("fraction"));
        assert!(say(2).contains("too large"));
        assert!(say(3).contains("expected a whole number, found the string"));
    }
}
