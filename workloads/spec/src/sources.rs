//! The rule that numbers in library files say where they come from.

use crate::{Kind, Node, Problem, Problems, Span};

/// Checks that every block of numbers has a source: a struct or map that directly holds a number, a string that is
/// a number with a unit (`"16 MiB"`), or a list of them, has a non-empty string field `source`, or stands inside a
/// struct that has one.
pub fn check_sources(node: &Node) -> Problems {
    let mut problems = Problems::new();
    check(node, false, &mut problems);
    problems
}

fn check(node: &Node, covered: bool, problems: &mut Problems) {
    match &node.kind {
        Kind::Record(entries) => {
            let own = entries.iter().any(|(key, _, value)| {
                key == "source" && matches!(&value.kind, Kind::Text(text, _) | Kind::Word(text) if !text.trim().is_empty())
            });
            let covered = covered || own;
            let number = entries.iter().find(|(_, _, value)| is_number(value));
            if let (false, Some((key, at, _))) = (covered, number) {
                let at = Span::new(node.span.start.min(at.start), at.end);
                let problem = Problem::at(
                    &node.source,
                    at,
                    format!("the number `{key}` has no source"),
                );
                problems.push(
                    problem.help(
                        "add source: \"paper and table, artifact, datasheet, ... or assumed\"",
                    ),
                );
            }
            entries
                .iter()
                .for_each(|(_, _, value)| check(value, covered, problems));
        }
        Kind::List(items) => items.iter().for_each(|item| check(item, covered, problems)),
        _ => {}
    }
}

fn is_number(node: &Node) -> bool {
    match &node.kind {
        Kind::Number(_) => true,
        Kind::Text(text, _) => is_quantity(text),
        Kind::List(items) => items.iter().any(is_number),
        _ => false,
    }
}

/// `16`, `16 MiB`, `1K`, `400 GiB/s`; not `3-pass` and not a sentence.
fn is_quantity(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_')))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    number.starts_with(|c: char| c.is_ascii_digit())
        && unit
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '/' | '^' | '+' | '-'))
        && !unit.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn places(text: &str) -> Vec<usize> {
        let node = Node::parse(&Source::new("t", text)).unwrap();
        let lines = |p: &Problem| {
            p.place
                .as_ref()
                .map_or(0, |(source, span)| source.locate(span.end).line)
        };
        check_sources(&node).iter().map(lines).collect()
    }

    #[test]
    fn a_source_covers_its_struct_and_what_is_inside() {
        assert_eq!(
            places("(\n source: \"a paper\", a: 1,\n b: (c: (d: \"4 GB\")), list: [1, 2])"),
            []
        );
        assert_eq!(
            places("(name: \"3-pass\", text: \"2 of them, at most\",\n b: (c: \"x\"))"),
            []
        );
    }

    #[test]
    fn a_source_does_not_cover_what_stands_beside() {
        assert_eq!(
            places("(\n a: (source: \"s\", x: 1),\n b: (x: 2),\n c: {\"k\": (x: 3)},\n)"),
            [3, 4]
        );
        assert_eq!(places("(\n a: \"16 MiB\",\n)"), [2]);
        assert_eq!(places("(\n a: [\n (b: 1),\n (source: \"s\", b: 1)])"), [3]);
        assert_eq!(places("(a: [1, 2])"), [1]);
        assert_eq!(places("(source: \" \", a: 1)"), [1]);
    }
}
