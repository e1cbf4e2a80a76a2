//! No text makes the reader panic: the library's files, damaged at random.
//!
//! 10^5 inputs by default; `EINFLOW_MUTATIONS=1000000 cargo test -p einflow-workloads --test mutations` tries as many as it
//! says. The variable changes the effort of this test only.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_spec::Source;
use einflow_workloads::cascade::Cascade;
use einflow_workloads::{Model, cascades, models};

/// xorshift64*: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound.max(1)
    }
}

/// Texts that mean something to one of the grammars.
const PIECES: [&str; 64] = [
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "\"",
    "r#\"",
    "\"#",
    ",",
    ";",
    ":",
    "::",
    "=",
    "==",
    "<",
    "<=",
    "!=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "->",
    "where ",
    "top(",
    "max(",
    "and ",
    "not ",
    "0",
    "1",
    "-1",
    "999999999999999999999999",
    "1e999",
    "0x10",
    "inf",
    "-inf",
    "NaN",
    "M0",
    "m0",
    "m1+1",
    "M1",
    "RM[m1+2, p]",
    "IDX[t, p]",
    "Q",
    "\n",
    "\n\n",
    "#",
    "//",
    "/*",
    "*/",
    "\\u{0}",
    "é",
    "\u{1f980}",
    "'",
    "Some(",
    "None",
    "true",
    "()",
    "1.5",
    ".",
    "_",
    "ceil(M / M0)",
    "m * p",
];

/// A place between two characters.
fn place(random: &mut Random, text: &str) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Words of the text: names and numbers.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_alphanumeric() || c == '_', start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    found
}

fn mutate(random: &mut Random, text: &mut String, other: &str) {
    match random.below(8) {
        0 => {
            let at = place(random, text);
            text.insert_str(at, PIECES[random.below(PIECES.len())]);
        }
        1 => {
            let (a, b) = (place(random, text), place(random, text));
            let (a, b) = (a.min(b), a.max(b));
            let mut b = b.min(a + random.below(12));
            while !text.is_char_boundary(b) {
                b -= 1;
            }
            text.replace_range(a..b.max(a), "");
        }
        2 => {
            let at = place(random, text);
            text.truncate(at);
        }
        // A word in place of another, of this file or of another.
        3 | 4 => {
            let from = if random.below(2) == 0 {
                text.clone()
            } else {
                other.to_owned()
            };
            let (targets, sources) = (words(text), words(&from));
            if !targets.is_empty() && !sources.is_empty() {
                let (a, b) = targets[random.below(targets.len())];
                let (c, d) = sources[random.below(sources.len())];
                text.replace_range(a..b, &from[c..d]);
            }
        }
        5 => {
            let found = words(text);
            if !found.is_empty() {
                let (a, b) = found[random.below(found.len())];
                text.replace_range(a..b, PIECES[random.below(PIECES.len())]);
            }
        }
        // A line of another file, or the same once more.
        6 => {
            let lines: Vec<&str> = if random.below(2) == 0 {
                other.lines().collect()
            } else {
                text.lines().collect()
            };
            let line = format!(
                "{}\n",
                lines.get(random.below(lines.len())).copied().unwrap_or("")
            );
            let at = text[..place(random, text)].rfind('\n').map_or(0, |i| i + 1);
            text.insert_str(at, &line);
        }
        _ => {
            let at = place(random, text);
            if let Some(c) = text[at..].chars().next() {
                let byte = char::from(random.below(128) as u8);
                text.replace_range(at..at + c.len_utf8(), &byte.to_string());
            }
        }
    }
}

/// What a program does with a file: read it, print its problems, compute its sizes.
fn exercise(text: String) -> bool {
    let source = Source::new("mutated.ron", text);
    match Cascade::parse(&source) {
        Ok(cascade) => {
            let given: BTreeMap<String, u64> = cascade
                .size_names()
                .map(|name| (name.to_owned(), 7))
                .collect();
            let _ = cascade.sizes(&BTreeMap::new());
            let _ = cascade
                .sizes(&given)
                .map_err(|problems| problems.to_string());
            true
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(!problems.to_string().is_empty());
            false
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let count: usize = std::env::var("EINFLOW_MUTATIONS")
        .ok()
        .map_or(100_000, |n| n.parse().unwrap());
    let originals: Vec<String> = cascades()
        .names()
        .map(|name| cascades().get(name).unwrap().text().to_owned())
        .collect();
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(count.max(1));
    let good: usize = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let originals = &originals;
                scope.spawn(move || {
                    (worker..count)
                        .step_by(workers)
                        .filter(|i| one(*i, originals))
                        .count()
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .sum()
    });
    // Both sides of the checker are reached.
    assert!(
        good > count / 50 && good < count / 2,
        "{good} of {count} are good"
    );
}

/// One input, the same for the same number whatever the thread.
fn one(number: usize, originals: &[String]) -> bool {
    let mut random = Random((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut text = originals[random.below(originals.len())].clone();
    let other = &originals[random.below(originals.len())];
    // Half of them keep the RON around the Einsum text whole.
    let inside = text
        .find("r#\"")
        .map(|at| at + 3)
        .zip(text.rfind("\"#"))
        .filter(|_| number.is_multiple_of(2));
    for _ in 0..=random.below(4) {
        match inside.filter(|(from, _)| *from <= text.len()) {
            Some((from, _)) if text[from..].rfind("\"#").is_some() => {
                let to = from + text[from..].rfind("\"#").unwrap_or(0);
                let mut einsums = text[from..to].to_owned();
                mutate(&mut random, &mut einsums, other);
                text.replace_range(from..to, &einsums);
            }
            _ => mutate(&mut random, &mut text, other),
        }
    }
    exercise(text)
}

#[test]
fn damaged_models_never_panic() {
    let originals: Vec<String> = models()
        .names()
        .map(|name| models().get(name).unwrap().text().to_owned())
        .collect();
    for number in 0..5000u64 {
        let mut random = Random((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut text = originals[random.below(originals.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut random, &mut text, &originals[0]);
        }
        let _ = Model::parse(&Source::new("mutated.ron", text))
            .map_err(|problems| problems.to_string());
    }
}

/// A file around some Einsum text.
fn file(einsums: &str) -> String {
    format!(
        "(name: \"x\", source: \"assumed\", description: \"x\", inputs: [\"A[i, j]\"], outputs: [\"Z\"], einsums: r#\"{einsums}\"#)"
    )
}

#[test]
fn large_texts_end_soon_and_do_not_exhaust_the_stack() {
    let deep = |open: &str, close: &str| {
        format!("{}A[i, j]{}", open.repeat(100_000), close.repeat(100_000))
    };
    let mut texts = vec![
        file(&format!("Z = {}", deep("(", ")"))),
        file(&format!("Z = {}", deep("exp(", ")"))),
        file(&format!("Z = A[i, {}j", "-".repeat(100_000))),
        file(&format!("Z = A[i, j]{}", " + A[i, j]".repeat(100_000))),
        file(&format!("Z = A[i, j]{}", "+1".repeat(2000))),
        file(&format!("Z = A[i, j{}]", "+1".repeat(2000))),
        file(&format!("Z = A[i, j] where {}i < j", "not ".repeat(900))),
        file(&format!(
            "Z = A[i, j] where i < j{}",
            " and i < j".repeat(300)
        )),
        file(&format!("Z = A[i, (I+J){}]", "*(I+J+1)".repeat(200))),
        file(&"[".repeat(100_000)),
        "(".repeat(100_000),
        "[".repeat(100_000),
        format!("(name: {}", "Some(".repeat(100_000)),
        format!("(name: {}", "a(b:".repeat(10_000)),
        format!("{}{}", "(a: [{\"b\": ".repeat(60), "}])".repeat(60)),
    ];
    // Indices that double the conditions of the tensor before, statement by statement.
    let mut doubling = String::from("X0[i, j] = A[i+i-1, j+j-1]\n");
    for n in 1..60 {
        doubling += &format!("X{n}[i, j] = X{}[i+i+j, j+j+i]\n", n - 1);
    }
    texts.push(file(&(doubling + "Z = X59[i, j]")));
    let mut long = String::from("X0[i, j] = A[i, j]\n");
    for n in 1..2000 {
        long += &format!("X{n}[i, j] = X{}[i, j] + X{}[i, j]\n", n - 1, n / 2);
    }
    texts.push(file(&(long.clone() + "Z = X1999[i, j]")));
    texts.push(file(&format!("{long}Z = X1999[i, j] + Y\nY = Z * 2")));
    for text in texts {
        let begin = std::time::Instant::now();
        let name: String = text
            .chars()
            .skip(text.find("r#").unwrap_or(0))
            .take(60)
            .collect();
        exercise(text);
        // Some milliseconds each; a quadratic slip would take minutes.
        assert!(
            begin.elapsed().as_secs() < 5,
            "{name} took {:?}",
            begin.elapsed()
        );
    }
}
