use std::io::{IsTerminal, Write};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use einflow_spec::{Problem, Problems};
use indexmap::IndexMap;

/// Mistakes of one file that are shown: who has more than a screenful repairs the first and runs again.
const SHOWN: usize = 32;

/// Prints problems to standard error, each with the line that it concerns.
pub fn print(problems: &Problems) {
    let colour = std::io::stderr().is_terminal();
    // A closed standard error leaves nothing to do.
    let _ = std::io::stderr().write_all(text(problems, colour).as_bytes());
}

/// The text of [`print`]: of one file the first mistakes, and how many more there are.
pub fn text(problems: &Problems, colour: bool) -> String {
    let mut out = String::new();
    let mut found: IndexMap<&str, usize> = IndexMap::new();
    for problem in problems.iter() {
        let Some((source, _)) = &problem.place else {
            out.push_str(&one(problem, colour));
            continue;
        };
        let count = found.entry(source.name()).or_insert(0);
        *count += 1;
        if *count <= SHOWN {
            out.push_str(&one(problem, colour));
        }
    }
    for (file, count) in found.into_iter().filter(|(_, count)| *count > SHOWN) {
        let note = format!("{file} has more of them: {} are not shown", count - SHOWN);
        out.push_str(&one(&Problem::nowhere(note), colour));
    }
    out
}

/// The text with line ends in place of blanks, so that lines are short where words are.
fn broken(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

fn one(problem: &Problem, colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(80);
    let message = broken(&problem.message, 80 - "error: ".len());
    let help = problem
        .help
        .as_ref()
        .map(|help| broken(help, 80 - "     = help: ".len()));
    let title = Level::ERROR.primary_title(&message);
    let mut group = match &problem.place {
        Some((source, span)) => {
            let end = span
                .end
                .min(source.text().len())
                .max(span.start.min(source.text().len()));
            // One line of a long value is enough.
            let start = span.start.min(end);
            let line = source.text()[start..end]
                .find('\n')
                .map_or(end, |i| start + i);
            let snippet = Snippet::source(source.text())
                .path(source.name())
                .annotation(AnnotationKind::Primary.span(start..line));
            title.element(snippet)
        }
        None => annotate_snippets::Group::with_title(title),
    };
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help));
    }
    let mut out = renderer.render(&[group]).to_string();
    out.push('\n');
    out
}
