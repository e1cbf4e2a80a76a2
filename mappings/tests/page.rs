//! `docs/src/reference/mappings.md` against the reader: every example is laid on its accelerator, every field is named.
//!
//! A `ron` block that is a whole file is a cascade, an accelerator or a mapping. `ron fields` and `ron block fields` replace
//! fields of the mapping before, or of its first block. `csv NAME` is a file beside the mappings. After one or more of them a
//! `text` block holds what follows, or an `error` block the problems. `EINFLOW_BLESS=1 cargo test -p einflow-mappings --test page`
//! writes those two, and the tables of fields, anew; read what changed before keeping it.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};

use einflow_arch::Accelerator;
use einflow_mappings::{
    bind,
    count::{Count, cycles, traffic},
    mapped::MappedCascade,
    spec::{BindingSpec, BlockSpec, MappingSpec, PhaseSpec, PipelineSpec, PlaceSpec},
};
use einflow_spec::{FieldRow, Node, Problems, Record, Source, with_tables};
use einflow_workloads::cascade::Cascade;

const PAGE: &str = include_str!("../../docs/src/reference/mappings.md");

struct Fence {
    tag: &'static str,
    text: &'static str,
    /// Where the text stands in the page.
    at: usize,
}

fn fences() -> Vec<Fence> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in PAGE.split_inclusive('\n') {
        if let Some(tag) = line.strip_prefix("```") {
            match open.take() {
                None => open = Some((tag.trim(), at + line.len())),
                Some((tag, from)) => found.push(Fence {
                    tag,
                    text: &PAGE[from..at],
                    at: from,
                }),
            }
        }
        at += line.len();
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The sizes of the comment that begins an example.
fn given(text: &str) -> Option<BTreeMap<String, u64>> {
    let line = text.lines().next()?.strip_prefix("// ")?;
    Some(
        line.split(", ")
            .map(|s| s.split_once('=').unwrap())
            .map(|(k, v)| (k.to_string(), v.parse().unwrap()))
            .collect(),
    )
}

/// A file with some fields replaced, or added: at its top, or in its first block.
fn with_fields(base: &str, fields: &str, in_block: bool) -> String {
    let mut text = base.to_string();
    let wrapped = Source::new("fields", format!("(\n{fields})"));
    for (key, at, value) in Node::parse(&wrapped).unwrap().record().unwrap() {
        let whole = Node::parse(&Source::new("base", text.as_str())).unwrap();
        let field = |node: &Node, name: &str| {
            node.record()
                .unwrap()
                .iter()
                .find(|(k, _, _)| k == name)
                .cloned()
        };
        let into = if in_block {
            field(&whole, "blocks").unwrap().2.list().unwrap()[0].clone()
        } else {
            whole
        };
        let new = &wrapped.text()[at.start..value.span.end];
        match field(&into, key) {
            Some((_, old, value)) => text.replace_range(old.start..value.span.end, new),
            None => text.insert_str(into.span.start + 1, &format!("\n{new},")),
        }
    }
    text
}

fn words(name: &str, count: Count, what: &str) -> Option<String> {
    (!count.is_zero()).then(|| format!("{name} {} {what}", count.rounded()))
}

/// Sizes, words by memory and tensor, bytes held, cycles.
fn summary(mapped: &MappedCascade) -> String {
    let chip = &mapped.accelerator;
    let sizes: Vec<String> = mapped
        .sizes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let mut out = format!("{:<7} {}\n", "sizes", sizes.join(" "));
    let (memories, tensors) = (chip.memories.len(), mapped.cascade.tensors.len());
    for (index, block) in mapped.blocks.iter().enumerate() {
        let moved = traffic(block, chip.counting, memories, tensors).unwrap();
        for (m, memory) in chip.memories.iter().enumerate() {
            let mut list = Vec::new();
            for (t, tensor) in mapped.cascade.tensors.iter().enumerate() {
                let access = moved.get(m, t);
                list.extend(words(&tensor.name, access.reads, "read"));
                list.extend(words(&tensor.name, access.writes, "written"));
            }
            if !list.is_empty() {
                let _ = writeln!(out, "{:<7} {}", memory.name, list.join(", "));
            }
            if let Some(capacity) = memory.capacity.filter(|_| block.occupancy[m] > 0) {
                let _ = writeln!(
                    out,
                    "{:<7} {} of {} bytes",
                    "held", block.occupancy[m], capacity.0
                );
            }
        }
        let time = cycles(block, chip.arrays.len()).unwrap();
        let units = chip.arrays.iter().zip(&time.units).filter(|(_, c)| **c > 0);
        let units: Vec<String> = units.map(|(a, c)| format!("{c} of {}", a.name)).collect();
        let _ = writeln!(
            out,
            "{:<7} {} ({})",
            "cycles",
            time.compute,
            units.join(", ")
        );
        assert!(index == 0, "the page's examples have one block");
    }
    out
}

fn said(problems: &Problems) -> String {
    let mut text = String::new();
    for problem in problems.iter() {
        text += &problem.message;
        if let Some(help) = &problem.help {
            let _ = write!(text, "\n  help: {help}");
        }
        text.push('\n');
    }
    text
}

#[derive(Default)]
struct Page {
    cascades: BTreeMap<String, Arc<Cascade>>,
    chips: BTreeMap<String, Arc<Accelerator>>,
    mapping: String,
    sizes: BTreeMap<String, u64>,
}

impl Page {
    fn read(&mut self, fence: &Fence) {
        if let Some(sizes) = given(fence.text) {
            self.sizes = sizes;
        }
        let source = Source::new("example.ron", fence.text);
        match fence.tag {
            "ron fields" => self.mapping = with_fields(&self.mapping, fence.text, false),
            "ron block fields" => self.mapping = with_fields(&self.mapping, fence.text, true),
            "ron" => {
                let node = Node::parse(&source).unwrap();
                let has = |field: &str| node.record().unwrap().iter().any(|(k, _, _)| k == field);
                if has("blocks") {
                    self.mapping = fence.text.to_string();
                } else if has("memories") {
                    let chip = Accelerator::parse(&source).unwrap_or_else(|p| panic!("{p}"));
                    self.chips.insert(chip.name.clone(), Arc::new(chip));
                } else {
                    let cascade = Cascade::parse(&source).unwrap_or_else(|p| panic!("{p}"));
                    self.cascades
                        .insert(cascade.name.clone(), Arc::new(cascade));
                }
            }
            tag => panic!("a block with the unknown tag {tag:?}"),
        }
    }

    /// The example as it stands: what follows, or why it is refused.
    fn result(&self, beside: &Path) -> Result<String, String> {
        let source = Source::new("example.ron", self.mapping.as_str());
        let spec = MappingSpec::parse(&source, Some(beside)).map_err(|p| said(&p))?;
        let chip = &self.chips[&spec.accelerator.as_ref().unwrap().text];
        let cascade = &self.cascades[&spec.workload.text];
        bind(cascade, chip, &Arc::new(spec), &self.sizes)
            .map(|m| summary(&m))
            .map_err(|p| said(&p))
    }
}

fn blessing() -> bool {
    std::env::var_os("EINFLOW_BLESS").is_some_and(|v| v == "1")
}

#[test]
fn examples_are_as_they_say() {
    let beside = tempfile::TempDir::new().unwrap();
    let mut page = Page::default();
    let (mut corrected, mut wrong, mut checked) = (PAGE.to_string(), Vec::new(), 0);
    for fence in fences().iter() {
        match fence.tag.split_once(' ') {
            Some(("csv", name)) => fs::write(beside.path().join(name), fence.text).unwrap(),
            _ if fence.tag == "text" || fence.tag == "error" => {
                checked += 1;
                let (found, good) = match page.result(beside.path()) {
                    Ok(text) => (text, true),
                    Err(text) => (text, false),
                };
                if good != (fence.tag == "text") {
                    wrong.push(format!(
                        "this is {}:\n{}\n{found}",
                        if good { "good" } else { "refused" },
                        page.mapping
                    ));
                } else if found != fence.text {
                    wrong.push(format!("expected\n{}found\n{found}", fence.text));
                    // From the front, so that places move by what was already corrected.
                    let moved = corrected.len() as isize - PAGE.len() as isize;
                    let at = (fence.at as isize + moved) as usize;
                    corrected.replace_range(at..at + fence.text.len(), &found);
                }
            }
            _ => page.read(fence),
        }
    }
    assert!(checked > 15, "{checked}");
    if blessing() {
        let path = "../docs/src/reference/mappings.md";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::write(path, with_tables(&corrected, &tables())).unwrap();
        wrong.retain(|w| w.starts_with("this is"));
    }
    assert!(
        wrong.is_empty(),
        "{}\n(EINFLOW_BLESS=1 writes what was found)",
        wrong.join("\n\n")
    );
}

/// The page's tables of fields, and what each struct declares.
fn tables() -> Vec<(&'static str, Vec<FieldRow>)> {
    vec![
        ("## The file", MappingSpec::fields()),
        ("## Blocks", BlockSpec::fields()),
        ("### Places", PlaceSpec::fields()),
        ("### Bindings", BindingSpec::fields()),
        ("### Phases", PhaseSpec::fields()),
        ("### Pipelines", PipelineSpec::fields()),
    ]
}

#[test]
fn the_tables_are_those_of_the_declarations() {
    let same = with_tables(PAGE, &tables()) == PAGE;
    assert!(
        same || blessing(),
        "EINFLOW_BLESS=1 writes the page's tables anew"
    );
}

#[test]
fn every_field_is_explained() {
    let mut fields: Vec<&str> = tables()
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|r| r.name))
        .collect();
    fields.extend([
        "choose", "cases", "rule", "memory", "within", "file", "keys",
    ]);
    assert!(fields.len() > 35, "{fields:?}");
    // Between fences, in code font, alone or in an example: `drain`, `(name, einsums, drain)`, `(choose: ...`.
    let mut prose = PAGE.to_string();
    for fence in fences().iter().rev() {
        prose.replace_range(fence.at..fence.at + fence.text.len(), "");
    }
    let code: String = prose
        .replace("```", "")
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|c| format!(" {c} "))
        .collect();
    let words: Vec<&str> = code
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    let examples: String = fences()
        .iter()
        .filter(|f| f.tag.starts_with("ron"))
        .map(|f| f.text)
        .collect();
    for field in fields {
        assert!(words.contains(&field), "`{field}` is not explained");
        // Interleaving is stated by no small example that anything follows from.
        let shown = examples.contains(&format!("{field}:"));
        assert!(
            shown || ["published", "interleave"].contains(&field),
            "`{field}` is in no example"
        );
    }
    for word in [
        "largest_divisor_that_fits",
        "largest_that_fits",
        "searched",
        "around",
        "through",
        "tile",
        "row",
    ] {
        assert!(words.contains(&word), "`{word}` is not explained");
    }
}
