//! Changing one value of a file by its path.

use crate::{Kind, Node, Problem, Problems, Source, Span, did_you_mean};

/// A value to put in the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edit {
    /// Where: keys, positions in lists or the names of their elements, with dots between (`sizes.P1`,
    /// `blocks.attention.loops.0`).
    pub path: String,
    /// The RON text to write there.
    pub value: String,
}

/// The text with each edit's value in the place of what stood there; the rest is as it was.
///
/// # Errors
/// A RON syntax error, or a path that leads nowhere (the nearest known name is suggested).
pub fn edited(source: &Source, edits: &[Edit]) -> Result<Source, Problems> {
    if edits.is_empty() {
        return Ok(source.clone());
    }
    let root = Node::parse(source)?;
    let mut places = Vec::new();
    for edit in edits {
        places.push((find(&root, &edit.path)?.span, edit));
    }
    places.sort_by_key(|(span, _)| (span.start, span.end));
    let mut text = String::new();
    let mut done = 0;
    for (span, edit) in places {
        if span.start < done {
            return Err(
                Problem::nowhere(format!("`{}` is changed twice", edit.path))
                    .help("keep one of the changes")
                    .into(),
            );
        }
        text.push_str(&source.text()[done..span.start]);
        text.push_str(&edit.value);
        done = span.end;
    }
    text.push_str(&source.text()[done..]);
    Ok(Source::new(source.name(), text))
}

/// The value that a path leads to.
///
/// # Errors
/// A step that leads nowhere.
pub fn find<'a>(root: &'a Node, path: &str) -> Result<&'a Node, Problem> {
    let mut node = root;
    let mut done = String::new();
    for step in path.split('.') {
        let (found, known): (Option<&Node>, Vec<String>) = match &node.kind {
            Kind::Record(entries) => (
                entries.iter().find(|(k, _, _)| k == step).map(|e| &e.2),
                entries.iter().map(|(k, _, _)| k.clone()).collect(),
            ),
            Kind::List(items) => {
                let name = |item: &Node| Some(find(item, "name").ok()?.text().ok()?.to_string());
                let at = step.parse::<usize>().ok();
                let found = at
                    .and_then(|i| items.get(i))
                    .or_else(|| items.iter().find(|i| name(i).as_deref() == Some(step)));
                let known = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| name(item).unwrap_or_else(|| i.to_string()));
                (found, known.collect())
            }
            _ => (None, Vec::new()),
        };
        node = found.ok_or_else(|| {
            let full = |known: &String| format!("{done}{known}");
            let known: Vec<String> = known.iter().map(full).collect();
            // The whole of a long value would say nothing: its beginning is its place.
            let start = Span::new(node.span.start, node.span.start + 1);
            let message = format!("{} has no `{done}{step}`", node.source.name());
            let help = if known.is_empty() {
                format!("`{}` is a single value", done.trim_end_matches('.'))
            } else {
                did_you_mean(&format!("{done}{step}"), known.iter().map(String::as_str))
            };
            Problem::at(&node.source, start, message).help(help)
        })?;
        done.push_str(step);
        done.push('.');
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FILE: &str = "(\n  a: 1, // one\n  m: {\"x.y\": 2, \"z\": (b: \"t\")},\n  l: [(name: \"u\", c: 3), 4],\n)";

    fn change(edits: &[(&str, &str)]) -> Result<String, String> {
        let edits: Vec<Edit> = edits
            .iter()
            .map(|(path, value)| Edit {
                path: (*path).to_string(),
                value: (*value).to_string(),
            })
            .collect();
        edited(&Source::new("f.ron", FILE), &edits)
            .map(|s| s.text().to_string())
            .map_err(|p| p.to_string())
    }

    #[test]
    fn values_change_and_the_rest_stays() {
        assert_eq!(
            change(&[
                ("l.u.c", "30"),
                ("a", "\"one\""),
                ("m.z.b", "[5]"),
                ("l.1", "40")
            ])
            .unwrap(),
            FILE.replace(": 3)", ": 30)")
                .replace("a: 1", "a: \"one\"")
                .replace("\"t\"", "[5]")
                .replace("), 4]", "), 40]")
        );
    }

    #[test]
    fn paths_that_lead_nowhere() {
        let says = |path: &str, what: &str| {
            let message = change(&[(path, "0")]).unwrap_err();
            assert!(message.contains(what), "{message}");
        };
        says("aa", "did you mean `a`?");
        says("l.v.c", "`l.u`");
        says("a.b", "single value");
        assert!(
            change(&[("m.z", "0"), ("m.z.b", "1")])
                .unwrap_err()
                .contains("twice")
        );
    }
}
