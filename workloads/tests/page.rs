//! Every fenced example of `docs/src/reference/language.md` and of `tests/errors.md` is checked.
//!
//! A block tagged `ron` is a whole file. One tagged `einsums` is the text of `einsums` in a file whose other fields
//! stand in its first lines as comments (`# inputs: A[k], B[k]`). A block tagged `error` that follows holds the exact
//! problems of the one before, `line:column: message (help)`, lines counted in the block; without it the example is good.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;

use einflow_spec::{Problems, Source};
use einflow_workloads::cascade::Cascade;

/// Tag, text and line of each fenced block.
fn blocks(page: &str) -> Vec<(&str, &str, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    for (number, line) in page.split_inclusive('\n').enumerate() {
        if let Some(tag) = line.strip_prefix("```") {
            match start.take() {
                None => start = Some((tag.trim(), at + line.len(), number + 1)),
                Some((tag, from, number)) => found.push((tag, &page[from..at], number)),
            }
        }
        at += line.len();
    }
    assert!(start.is_none(), "a block is not closed");
    found
}

/// A whole file around a fragment.
fn whole(fragment: &str) -> String {
    let field = |name: &str| {
        let items = fragment
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# {name}: ")))?;
        Some(items.to_owned())
    };
    let list = |items: String| {
        format!(
            "[{}]",
            outside_brackets(&items)
                .iter()
                .map(|i| format!("{i:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        )
    };
    let mut file =
        String::from("(name: \"example\", source: \"assumed\", description: \"an example\",");
    for name in ["inputs", "outputs"] {
        let _ = write!(file, " {name}: {},", field(name).map_or("[]".into(), list));
    }
    if let Some(batch) = field("batch") {
        let _ = write!(file, " batch: [{}],", quoted(&batch));
    }
    if let Some(splits) = field("partitions") {
        let splits: Vec<String> = splits
            .split("; ")
            .map(|split| format!("{split:?}"))
            .collect();
        let _ = write!(file, " partitions: [{}],", splits.join(", "));
    }
    if let Some(sizes) = field("parameters") {
        let sizes: Vec<String> = sizes
            .split("; ")
            .map(|size| {
                let (name, value) = size.split_once(": ").unwrap();
                format!("{name:?}: {value}")
            })
            .collect();
        let _ = write!(file, " parameters: {{ {} }},", sizes.join(", "));
    }
    // The fragment's first line, a comment, shares the file's first: lines count the same in both.
    file.push_str(" einsums: r#\"");
    file.push_str(fragment);
    file.push_str("\"#)\n");
    file
}

/// Items between commas; commas inside brackets belong to an item.
fn outside_brackets(items: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut open = 0;
    for c in items.chars() {
        match c {
            '[' => open += 1,
            ']' => open -= 1,
            ',' if open == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().unwrap().push(c);
    }
    found.iter().map(|item| item.trim().to_owned()).collect()
}

fn quoted(names: &str) -> String {
    names
        .split(", ")
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn render(problems: &Problems, fragment: bool) -> String {
    let mut text = String::new();
    for problem in problems.iter() {
        if let Some((source, span)) = &problem.place {
            let at = source.locate(span.start);
            let _ = match at.line {
                1 if fragment => write!(text, "file: "),
                line => write!(text, "{line}:{}: ", at.column),
            };
        }
        text.push_str(&problem.message);
        if let Some(help) = &problem.help {
            let _ = write!(text, " ({help})");
        }
        text.push('\n');
    }
    text
}

/// Checks every example of a page; a page as it would have to be is written beside the build where it differs.
fn check(path: &str, text: &str) {
    let blocks = blocks(text);
    let mut wrong = Vec::new();
    let mut corrected = text.to_owned();
    let mut examples = 0;
    for (i, (tag, example, line)) in blocks.iter().enumerate() {
        let file = match *tag {
            "ron" => (*example).to_owned(),
            "einsums" => whole(example),
            "error" | "text" | "sh" => continue,
            _ => panic!("{path}:{line}: a block with the unknown tag {tag:?}"),
        };
        examples += 1;
        let expected = match blocks.get(i + 1) {
            Some(("error", text, _)) => *text,
            _ => "",
        };
        let found = match Cascade::parse(&Source::new("example.ron", file)) {
            Ok(_) => String::new(),
            Err(problems) => render(&problems, *tag == "einsums"),
        };
        if found != expected {
            wrong.push(format!("{path}:{line}: expected\n{expected}found\n{found}"));
            corrected = corrected.replacen(
                &format!("{example}```\n```error\n{expected}"),
                &format!("{example}```\n```error\n{found}"),
                1,
            );
        }
    }
    assert!(examples > 0, "{path} has no examples");
    if !wrong.is_empty() {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(Path::new(path).file_name().unwrap());
        std::fs::write(&out, corrected).unwrap();
        panic!(
            "{}\nthe page with what was found: {}",
            wrong.join("\n"),
            out.display()
        );
    }
}

#[test]
fn the_reference_page() {
    check(
        "docs/src/reference/language.md",
        include_str!("../../docs/src/reference/language.md"),
    );
}

#[test]
fn every_error() {
    check("workloads/tests/errors.md", include_str!("errors.md"));
}
