//! The book in `docs/`, and the README: commands run and print what the pages show, files on them are read, links lead somewhere.
//!
//! A block `ron NAME` or `csv NAME` is a file of that name in the page's folder. The lines of a `sh` block are run there, in order;
//! a `text` block right below one is what its last line prints, `...` standing for any lines. `EINFLOW_BLESS=1` writes those
//! without dots anew; read what changed before keeping it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use einflow_spec::{Node, Source};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use rayon::prelude::*;

/// Pages whose files and fragments the tests of their readers check.
const CHECKED_ELSEWHERE: [&str; 8] = [
    "docs/src/reference/accelerators.md",
    "docs/src/reference/devices.md",
    "docs/src/reference/experiments.md",
    "docs/src/reference/language.md",
    "docs/src/reference/mappings.md",
    "docs/src/reference/pools.md",
    "docs/src/reference/runs.md",
    "docs/src/reference/sweeps.md",
];

/// A page, by its path from the top of the repository.
struct Page {
    path: String,
    text: String,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Page {
    Page {
        path: path.to_owned(),
        text: fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}")),
    }
}

/// Files of a folder and those below it, by their paths from the top.
fn below(folder: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(top().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The README and every page of the book.
fn pages() -> Vec<Page> {
    let mut paths = vec!["README.md".to_owned()];
    below("docs/src", &mut paths);
    paths.retain(|path| path.ends_with(".md"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// A fenced block.
struct Block {
    tag: String,
    text: String,
    /// Where the text stands in the page.
    at: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for (event, place) in Parser::new(page).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(tag))) => {
                inside = true;
                found.push(Block {
                    tag: tag.to_string(),
                    text: String::new(),
                    at: place.start,
                });
            }
            Event::Text(text) if inside => {
                let block = found.last_mut().unwrap();
                if block.text.is_empty() {
                    block.at = place.start;
                }
                block.text += &text;
            }
            Event::End(TagEnd::CodeBlock) => inside = false,
            _ => {}
        }
    }
    found
}

/// The lines of a `sh` block that are run, as the shell gets them: those that build or fetch are left out.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined
        .lines()
        .map(|line| line.trim().trim_start_matches("$ "));
    lines
        .map(|line| line.replace("cargo run --release -- ", "einflow "))
        .filter(|line| !["", "#"].contains(&line.get(..1).unwrap_or_default()))
        .filter(|line| {
            !["cargo ", "git ", ".ci/"]
                .iter()
                .any(|start| line.starts_with(start))
        })
        .collect()
}

#[test]
fn commands_are_found() {
    let block = "# five\ncargo run --release -- compare   # five\ncargo test\n\n$ einflow eval x \\\n    --size M0=16\nsed s/a/b/ x > y\n";
    assert_eq!(
        commands(block),
        [
            "einflow compare   # five",
            "einflow eval x      --size M0=16",
            "sed s/a/b/ x > y"
        ]
    );
}

/// Whether lines are those that a page shows, where `...` stands for any.
fn is_shown(shown: &[&str], found: &[&str]) -> bool {
    match (shown.split_first(), found.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=found.len()).any(|skip| is_shown(rest, &found[skip..])),
        (Some((line, shown)), Some((other, found))) => line == other && is_shown(shown, found),
        _ => false,
    }
}

#[test]
fn dots_stand_for_lines() {
    let found = ["a", "b", "c"];
    assert!(is_shown(&["a", "..."], &found) && is_shown(&["...", "b", "...", "c"], &found));
    assert!(!is_shown(&["a", "c"], &found) && !is_shown(&["...", "b"], &found));
}

/// `in.npz`, for `eval`: Q, K and V of four queries and eight keys.
fn tensors() -> Vec<u8> {
    use npyz::WriterBuilder;
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, rows, columns) in [("Q", 2, 4), ("K", 2, 8), ("V", 3, 8)] {
        let mut array = Vec::new();
        let options = npyz::WriteOptions::<f64>::new()
            .default_dtype()
            .shape(&[rows, columns]);
        let mut writer = options.writer(&mut array).begin_nd().unwrap();
        writer
            .extend((0..rows * columns).map(|i| i as f64 / 8.0))
            .unwrap();
        writer.finish().unwrap();
        zip.start_file(
            format!("{name}.npy"),
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
        zip.write_all(&array).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A folder in which a page's commands run: the repository's folders are there, and the binary is on the path.
#[cfg(unix)]
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::symlink;
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("in.npz"), tensors()).unwrap();
    for name in ["arch", "mappings", "sim", "validation", "workloads"] {
        symlink(
            fs::canonicalize(top().join(name)).unwrap(),
            folder.path().join(name),
        )
        .unwrap();
    }
    fs::create_dir(folder.path().join("bin")).unwrap();
    symlink(
        env!("CARGO_BIN_EXE_einflow"),
        folder.path().join("bin/einflow"),
    )
    .unwrap();
    folder
}

/// What a line prints; a line that fails is an error with what it said.
fn run(line: &str, folder: &Path) -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(folder.join("bin")).chain(std::env::split_paths(&path));
    let output = Command::new("sh")
        .current_dir(folder)
        .env("PATH", std::env::join_paths(paths).unwrap())
        .args(["-c", line])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Runs a page from top to bottom; what is wrong goes to `wrong`, and the page is returned as it would have to be.
#[cfg(unix)]
fn tried(page: &Page, wrong: &mut Vec<String>) -> String {
    let folder = folder();
    let elsewhere = CHECKED_ELSEWHERE.contains(&page.path.as_str());
    let mut corrected = page.text.clone();
    let mut printed = None;
    for block in blocks(&page.text) {
        let (kind, name) = block.tag.split_once(' ').unwrap_or((&block.tag, ""));
        match kind {
            "sh" => {
                let mut last = None;
                for line in commands(&block.text) {
                    match run(&line, folder.path()) {
                        Ok(text) => last = Some(text),
                        Err(said) => wrong.push(format!("{}: {line}\n{said}", page.path)),
                    }
                }
                printed = last;
                continue;
            }
            "text" if printed.is_some() => {
                let found: String = printed.take().unwrap_or_default();
                let shown: Vec<&str> = block.text.lines().collect();
                if is_shown(&shown, &found.lines().collect::<Vec<_>>()) {
                    continue;
                }
                wrong.push(format!(
                    "{}: shown\n{}found\n{found}",
                    page.path, block.text
                ));
                if !shown.contains(&"...") {
                    let moved = corrected.len() as isize - page.text.len() as isize;
                    let at = (block.at as isize + moved) as usize;
                    corrected.replace_range(at..at + block.text.len(), &found);
                }
            }
            _ if elsewhere => {}
            "ron" | "csv" if name.contains('.') => {
                fs::write(folder.path().join(name), &block.text).unwrap();
                if kind == "ron"
                    && let Err(problems) = Node::parse(&Source::new(name, block.text.as_str()))
                {
                    wrong.push(format!("{}: {problems}", page.path));
                }
            }
            _ => wrong.push(format!("{}: what is a block `{}`?", page.path, block.tag)),
        }
        printed = None;
    }
    corrected
}

#[test]
#[cfg(unix)]
fn pages_show_what_happens() {
    let bless = std::env::var_os("EINFLOW_BLESS").is_some_and(|v| v == "1");
    let wrong: Vec<String> = pages()
        .par_iter()
        .flat_map(|page| {
            let mut wrong = Vec::new();
            let corrected = tried(page, &mut wrong);
            if bless && corrected != page.text {
                fs::write(top().join(&page.path), corrected).unwrap();
            }
            wrong
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{}\n(EINFLOW_BLESS=1 writes what was found)",
        wrong.join("\n\n")
    );
}

/// The README's picture is what its command draws.
#[test]
#[cfg(unix)]
fn the_picture_is_drawn_by_the_tool() {
    let folder = folder();
    run("einflow compare --no-check --plot plots", folder.path()).unwrap();
    let name = "utilization-array2d-by-einsum.svg";
    let drawn = fs::read(folder.path().join("plots").join(name)).unwrap();
    let kept = top().join("docs/src/images").join(name);
    assert!(
        drawn == fs::read(&kept).unwrap(),
        "{} is another",
        kept.display()
    );
}

/// Each command has its section in the reference, and no other has.
#[test]
#[cfg(unix)]
fn every_command_is_in_the_reference() {
    let help = run("einflow --help", folder().path()).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    let named = list
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !["", "help"].contains(name));
    let page = read("docs/src/reference/command-line.md").text;
    let sections = page.lines().filter_map(|l| l.strip_prefix("## einflow "));
    assert_eq!(sections.collect::<Vec<_>>(), named.collect::<Vec<_>>());
    for name in page.lines().filter_map(|l| l.strip_prefix("## ")) {
        let block = format!("```sh\n{name} --help\n```\n```text\n");
        assert!(page.contains(&block), "{name}: its help is not shown");
    }
}

/// Targets of links and images, and names in code font.
fn mentions(page: &Page) -> (Vec<String>, Vec<String>) {
    let (mut targets, mut code) = (Vec::new(), Vec::new());
    for event in Parser::new_ext(&page.text, pulldown_cmark::Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                targets.push(dest_url.to_string());
            }
            Event::Code(text) => code.push(text.to_string()),
            _ => {}
        }
    }
    (targets, code)
}

/// The anchors of a page's headings, as mdBook makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new(text) {
        match (event, &mut heading) {
            (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
            (Event::Text(text) | Event::Code(text), Some(heading)) => *heading += &text,
            (Event::End(TagEnd::Heading(_)), _) => {
                let title = heading.take().unwrap();
                let kept = title.chars().filter_map(|c| match c {
                    _ if c.is_whitespace() => Some('-'),
                    _ if c.is_alphanumeric() || "_-".contains(c) => Some(c.to_ascii_lowercase()),
                    _ => None,
                });
                found.insert(kept.collect());
            }
            _ => {}
        }
    }
    found
}

/// A path without `.` and `..`; none where it leaves the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !found.pop() => return None,
            Component::Normal(name) => found.push(name),
            _ => {}
        }
    }
    Some(found)
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages().into_iter().chain([read("ARCHITECTURE.md")]) {
        for target in mentions(&page).0 {
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let from = Path::new(&page.path);
            let to = match file {
                "" => Some(from.to_owned()),
                _ => plain(&from.parent().unwrap().join(file)),
            };
            // What lies outside the book's sources is not in the built book.
            let book = page.path.starts_with("docs/src");
            let there =
                to.filter(|to| top().join(to).is_file() && (!book || to.starts_with("docs/src")));
            let good = there.is_some_and(|to| {
                anchor.is_empty() || anchors(&read(to.to_str().unwrap()).text).contains(anchor)
            });
            if !good {
                wrong.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is named by a path from the top of the repository is there.
#[test]
fn paths_exist() {
    let rooms = [
        "arch/",
        "docs/",
        "findings/",
        "mappings/",
        "sim/",
        "validation/",
        "workloads/",
    ];
    let (mut found, mut wrong) = (0, Vec::new());
    for page in pages() {
        for code in mentions(&page).1 {
            let one = rooms.iter().any(|room| code.starts_with(room)) && !code.contains([' ', '*']);
            if one {
                found += 1;
                if !top().join(&code).exists() {
                    wrong.push(format!("{}: {code}", page.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 50, "{found}");
}

#[test]
fn the_summary_lists_every_page() {
    let summary = read("docs/src/SUMMARY.md");
    let listed: Vec<String> = mentions(&summary)
        .0
        .iter()
        .map(|to| format!("docs/src/{to}"))
        .collect();
    let pages = pages();
    let there = pages.iter().map(|page| page.path.clone());
    let there: BTreeSet<String> = there
        .filter(|path| path.starts_with("docs/") && *path != summary.path)
        .collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), there);
    assert_eq!(listed.len(), there.len(), "a page is listed twice");
}

/// A paragraph's lines fit 120 columns. A row of a table is one line; its cells stay short.
#[test]
fn lines_are_short() {
    for page in pages() {
        let mut fenced = false;
        for (number, line) in page.text.lines().enumerate() {
            fenced ^= line.starts_with("```");
            let limit = if line.starts_with('|') { 320 } else { 120 };
            let length = line.chars().count();
            assert!(
                fenced || length <= limit,
                "{}:{}: {length}",
                page.path,
                number + 1
            );
        }
    }
}
