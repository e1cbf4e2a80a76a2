//! Files as a hasty user leaves them: parts swapped, left out, doubled, misspelt, numbers and units changed. Each mutant
//! goes through the commands that read its kind of file, on both engines. Counted are exit codes other than 0, 1 and 2,
//! panics, hangs, numbers that are none, and a cycle engine below the analytic one.
//!
//! `cargo run --release -p einflow --example mutants -- target/release/einflow 0 1000` tries the mutants 0 to 999.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rayon::prelude::*;

/// A run that takes longer hangs: the longest of the shipped ones takes a tenth, also beside others.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first of [`KINDS`] take milliseconds a command and the others up to seconds: of so many mutants one is of the
/// others.
const QUICK: usize = 4;
const SLOW_OF: usize = 12;

/// A kind of file: where the shipped ones are, and the commands that read one, `FILE` in its place.
const KINDS: [(&str, &[&str]); 9] = [
    (
        "arch/accelerators",
        &[
            "run --mapping fusemax-binding --accelerator FILE --model bert --length 300 --format json",
            "run --mapping flat --accelerator FILE --model bert --length 64 --size B=1 --format json",
        ],
    ),
    (
        "mappings",
        &["run --mapping FILE --model bert --length 300 --size B=2 --size H=3 --format json"],
    ),
    (
        "workloads/cascades/attention",
        &["passes FILE", "describe FILE --model bert --length 64"],
    ),
    (
        "workloads/models",
        &[
            "run --model FILE --mapping fusemax-binding --length 300 --format json",
            "describe attention/one-pass --model FILE --length 64",
        ],
    ),
    (
        "arch/devices",
        &["predict --device FILE --table data/h200/gemm-bf16.csv"],
    ),
    ("validation", &["validate FILE"]),
    ("sim/runs/offload", &["offload FILE --format json"]),
    ("sim/runs", &["run FILE --format json"]),
    ("sim/sweeps", &["sweep FILE --out swept"]),
];

/// The same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.below(list.len());
        list.get(at)
    }
}

/// Elements between commas of one bracket: where each begins and ends.
fn groups(text: &str) -> Vec<Vec<(usize, usize)>> {
    let bytes = text.as_bytes();
    let (mut open, mut out) = (Vec::<(usize, Vec<(usize, usize)>)>::new(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'r' if text[at..].starts_with("r#\"") => {
                at += text[at..].find("\"#").unwrap_or(0) + 1;
            }
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'(' | b'[' | b'{' => open.push((at + 1, Vec::new())),
            b',' => {
                if let Some((from, list)) = open.last_mut() {
                    list.push((*from, at));
                    *from = at + 1;
                }
            }
            b')' | b']' | b'}' => {
                if let Some((from, mut list)) = open.pop() {
                    if !text[from..at].trim().is_empty() {
                        list.push((from, at));
                    }
                    if !list.is_empty() {
                        out.push(list);
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    out
}

/// Pieces of text that `is` accepts, one after another.
fn pieces(text: &str, is: impl Fn(char) -> bool) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| is(*c)) {
        match out.last_mut() {
            Some((_, end)) if *end == at => *end = at + c.len_utf8(),
            _ => out.push((at, at + c.len_utf8())),
        }
    }
    out
}

const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "-1",
    "0.5",
    "97",
    "65536",
    "1e9",
    "1e308",
    "18446744073709551615",
];

const UNITS: [(&str, &str); 8] = [
    ("GB/s", "GiB/s"),
    ("GiB", "KiB"),
    ("MiB", "B"),
    ("MHz", "Hz"),
    ("cycles", "ns"),
    ("ns", "s"),
    ("right", "left"),
    ("down", "up"),
];

/// One change.
fn mutated(text: &str, dice: &mut Dice) -> Option<String> {
    let put =
        |(from, to): (usize, usize), new: &str| format!("{}{new}{}", &text[..from], &text[to..]);
    let all = groups(text);
    match dice.below(8) {
        0 => {
            let list = dice.of(&all)?;
            let (mut a, mut b) = (*dice.of(list)?, *dice.of(list)?);
            if a.0 > b.0 {
                std::mem::swap(&mut a, &mut b);
            }
            let (first, second) = (&text[a.0..a.1], &text[b.0..b.1]);
            let between = text.get(a.1..b.0)?;
            Some(put((a.0, b.1), &format!("{second}{between}{first}")))
        }
        1 => {
            let list = dice.of(&all)?;
            let (from, to) = *dice.of(list)?;
            let to = to + usize::from(text[to..].starts_with(','));
            Some(put((from, to), ""))
        }
        2 => {
            let list = dice.of(&all)?;
            let (from, to) = *dice.of(list)?;
            Some(put((to, to), &format!(",{}", &text[from..to])))
        }
        3 => {
            let words = pieces(text, |c| c.is_alphabetic() || c == '_');
            let (from, to) = *dice.of(&words)?;
            let other = *dice.of(&words)?;
            let new = match dice.below(3) {
                0 => format!("{}x", &text[from..to]),
                1 => text[from..to].chars().skip(1).collect(),
                _ => text[other.0..other.1].to_string(),
            };
            Some(put((from, to), &new))
        }
        4 | 5 => {
            let numbers = pieces(text, |c| c.is_ascii_digit() || c == '.');
            let place = *dice.of(&numbers)?;
            Some(put(place, dice.of(&NUMBERS)?))
        }
        6 => {
            let (from, to) = *dice.of(&UNITS)?;
            let found: Vec<usize> = text.match_indices(from).map(|(at, _)| at).collect();
            let at = *dice.of(&found)?;
            Some(put((at, at + from.len()), to))
        }
        _ => {
            // Lines of Einsums, in another order, left out or doubled.
            let begin = text.find("r#\"")? + 3;
            let end = begin + text[begin..].find("\"#")?;
            let mut lines: Vec<&str> = text[begin..end].lines().collect();
            let (a, b) = (dice.below(lines.len()), dice.below(lines.len()));
            match dice.below(3) {
                0 => lines.swap(a, b),
                1 => {
                    lines.remove(a);
                }
                _ => lines.insert(b, lines[a]),
            }
            Some(put((begin, end), &lines.join("\n")))
        }
    }
}

/// What a command did: what it printed, or what is wrong with it.
fn run(program: &Path, folder: &Path, words: &[String]) -> io::Result<Result<String, String>> {
    let out = folder.join("out.txt");
    let mut child = Command::new(program)
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(folder.join("err.txt"))?)
        .spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Err("hangs".into()));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let read = |path: &Path| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
    let (said, wrong) = (read(&out)?, read(&folder.join("err.txt"))?);
    let word = |w: &str| {
        let mut words = said.split(|c: char| !c.is_alphanumeric());
        words.any(|found| found == w)
    };
    Ok(if wrong.contains("panicked") || said.contains("panicked") {
        Err("panics".into())
    } else if !matches!(status.code(), Some(0..=2)) {
        Err(format!("ends with {status}"))
    } else if status.success()
        && (word("NaN") || word("inf") || said.contains(": null,\n  \"cycles"))
    {
        Err("prints a number that is none".into())
    } else {
        Ok(if status.success() {
            said
        } else {
            String::new()
        })
    })
}

fn cycles(said: &str) -> Option<u128> {
    let from = said.find("\"cycles\": ")? + 10;
    let digits: String = said[from..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// One mutant through its commands: kinds of what is wrong, with the command.
fn mutant(
    program: &Path,
    files: &[(usize, PathBuf)],
    seed: u64,
) -> io::Result<Vec<(String, String)>> {
    let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95));
    let slow = dice.below(SLOW_OF) == 0;
    let from = files.partition_point(|(kind, _)| *kind < QUICK);
    let Some((kind, path)) = dice.of(if slow { &files[from..] } else { &files[..from] }) else {
        return Ok(Vec::new());
    };
    let mut text = fs::read_to_string(path)?;
    for _ in 0..1 + dice.below(2) {
        text = mutated(&text, &mut dice).unwrap_or(text);
    }
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("mutant.ron"), &text)?;
    let mut found = Vec::new();
    for command in KINDS[*kind].1 {
        let words = command.replace("FILE", "./mutant.ron");
        let words: Vec<String> = words.split(' ').map(String::from).collect();
        let mut before = None;
        for engine in ["analytic", "cycle"] {
            let mut words = words.clone();
            if words[0] == "run" {
                words.extend(["--engine".into(), engine.into()]);
            } else if engine == "cycle" {
                continue;
            }
            let called = format!("{} of {}: {}", seed, path.display(), words.join(" "));
            match run(program, folder.path(), &words)? {
                Err(wrong) => found.push((wrong, called)),
                Ok(said) => {
                    let now = cycles(&said);
                    if let (Some(analytic), Some(now)) = (before, now)
                        && now < analytic
                    {
                        let wrong = "takes fewer cycles than the analytic engine says";
                        found.push((wrong.into(), format!("{called}: {now} of {analytic}")));
                    }
                    before = now;
                }
            }
        }
    }
    Ok(found)
}

fn files() -> io::Result<Vec<(usize, PathBuf)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut out = Vec::new();
    for (kind, (folder, _)) in KINDS.iter().enumerate() {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "ron") {
                out.push((kind, path));
            }
        }
    }
    out.sort();
    Ok(out)
}

fn main() -> io::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().map(PathBuf::from);
    let mut number = || arguments.next().and_then(|n| n.parse::<u64>().ok());
    let (Some(program), Some(from), Some(to)) = (program, number(), number()) else {
        eprintln!("mutants PROGRAM FIRST BEHIND-LAST");
        return Ok(ExitCode::from(2));
    };
    let (program, files) = (fs::canonicalize(program)?, files()?);
    let found: Vec<_> = (from..to)
        .into_par_iter()
        .map(|seed| {
            let found = mutant(&program, &files, seed)?;
            // Each as it is found: whoever stops a long run keeps what it saw.
            for (wrong, called) in &found {
                eprintln!("{wrong}: {called}");
            }
            Ok(found)
        })
        .collect::<io::Result<_>>()?;
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (wrong, called) in found.into_iter().flatten() {
        kinds.entry(wrong).or_default().push(called);
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} mutants of {} files",
        to.saturating_sub(from),
        files.len()
    )?;
    for (wrong, calls) in &kinds {
        writeln!(out, "{} {wrong}", calls.len())?;
        for call in calls.iter().take(10) {
            writeln!(out, "  {call}")?;
        }
    }
    Ok(ExitCode::from(u8::from(!kinds.is_empty())))
}
