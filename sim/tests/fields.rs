//! What a file states is obeyed or refused: every field of every kind of file, changed in a file that works, changes a result, is
//! refused, or is named as descriptive.
//!
//! `fields.txt` beside this file has the files that work and where their structs stand; and a change for each field for which its
//! value says none. Fields come from the declarations, and from the readers of what is not declared; a field without an entry fails.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, OnceLock},
};

use einflow::{
    runs::{Run, RunFile, runs},
    sweep::{Objectives, SweepFile, sweeps},
    validate::{self, experiments},
};
use einflow_arch::{
    Accelerator, Array, Component, Link, Memory, Operator, Polynomial, Registers, accelerators,
    device::{Chip, Device, DeviceLink, Graph, Modelled, Power, devices, links},
};
use einflow_mappings::{
    mappings,
    spec::{BindingSpec, BlockSpec, MappingSpec, NestSpec, PhaseSpec, PipelineSpec, PlaceSpec},
};
use einflow_serving::offload::scenario::{self, Fixed, Pool, Scenario, Trace, scenarios};
use einflow_serving::offload::serve::trace::Columns;
use einflow_spec::{Edit, FieldRow, Kind, Library, Node, Record, Source, edited, find};
use einflow_workloads::{
    cascades,
    models::{Experts, Formats, Kind as LayerKind, Latent, Linear, Model, models},
};
use rayon::prelude::*;

/// The declared structs; experiments by the headings of their page.
fn declared() -> BTreeMap<&'static str, Vec<FieldRow>> {
    let mut all: BTreeMap<_, _> = validate::tables().into_iter().collect();
    all.extend([
        ("accelerator", Accelerator::fields()),
        ("memory", Memory::fields()),
        ("array", Array::fields()),
        ("component", Component::fields()),
        ("operator", Operator::fields()),
        ("polynomial", Polynomial::fields()),
        ("registers", Registers::fields()),
        ("link", Link::fields()),
        ("device", Device::fields()),
        ("chip", Chip::fields()),
        ("power", Power::fields()),
        ("graph", Graph::fields()),
        ("modelled", Modelled::fields()),
        ("device link", DeviceLink::fields()),
        ("model", Model::fields()),
        ("layer kind", LayerKind::fields()),
        ("latent", Latent::fields()),
        ("linear attention", Linear::fields()),
        ("experts", Experts::fields()),
        ("formats", Formats::fields()),
        ("mapping", MappingSpec::fields()),
        ("block", BlockSpec::fields()),
        ("nest", NestSpec::fields()),
        ("binding", BindingSpec::fields()),
        ("place", PlaceSpec::fields()),
        ("phase", PhaseSpec::fields()),
        ("pipeline", PipelineSpec::fields()),
        ("run file", RunFile::fields()),
        ("run", Run::fields()),
        ("sweep", SweepFile::fields()),
        ("front", Objectives::fields()),
        ("scenario", Scenario::fields()),
        ("pool", Pool::fields()),
        ("scenario link", scenario::Link::fields()),
        ("trace", Trace::fields()),
        ("columns of a trace", Columns::fields()),
        ("fixed", Fixed::fields()),
    ]);
    all
}

/// A file of a base: `KIND NAME` of a library, perhaps ` with PATH = VALUE`, or the text itself.
fn text_of(written: &str) -> String {
    let change = written
        .split_once(" with ")
        .and_then(|(file, change)| Some((file, change.split_once(" = ")?)));
    if let Some((file, (path, value))) = change {
        return with(&text_of(file), path, value);
    }
    let libraries: [(&str, &Library); 10] = [
        ("accelerator", accelerators()),
        ("device", devices()),
        ("link", links()),
        ("model", models()),
        ("cascade", cascades()),
        ("mapping", mappings()),
        ("run", runs()),
        ("sweep", sweeps()),
        ("scenario", scenarios()),
        ("experiment", experiments()),
    ];
    let named = written.split_once(' ').and_then(|(kind, name)| {
        let (_, library) = libraries.iter().find(|(known, _)| *known == kind)?;
        library.get(name)
    });
    named.map_or_else(|| written.to_owned(), |source| source.text().to_owned())
}

/// A file with a value in the place of another, or with a field more.
fn with(text: &str, path: &str, value: &str) -> String {
    let source = Source::new("changed", text);
    let root = Node::parse(&source).unwrap();
    if find(&root, path).is_ok() {
        let (path, value) = (path.to_owned(), value.to_owned());
        return edited(&source, &[Edit { path, value }])
            .unwrap()
            .text()
            .to_owned();
    }
    let (parent, field) = match path.rsplit_once('.') {
        Some((parent, field)) => (
            find(&root, parent).unwrap_or_else(|e| panic!("{path}: {e}")),
            field,
        ),
        None => (&root, path),
    };
    let at = parent.span.start + 1;
    let quote = if text[..at].ends_with('{') { "\"" } else { "" };
    format!(
        "{}{quote}{field}{quote}: {value}, {}",
        &text[..at],
        &text[at..]
    )
}

/// Files that work, the one that changes, and what is run.
struct Base {
    files: Vec<(String, String)>,
    changes: String,
    commands: Vec<String>,
}

type Outcome = Vec<(Option<i32>, String)>;

impl Base {
    fn read(node: &Node) -> Self {
        let list = find(node, "commands").unwrap().list().unwrap().iter();
        let files = find(node, "files").unwrap().record().unwrap().iter();
        let files = files.map(|(name, _, text)| (name.clone(), text_of(text.text().unwrap())));
        let files: Vec<_> = files.collect();
        Self {
            changes: files[0].0.clone(),
            files,
            commands: list.map(|c| c.text().unwrap().to_owned()).collect(),
        }
    }

    fn edited(&self, edits: &[(String, String)]) -> String {
        let file = self.files[0].1.clone();
        edits
            .iter()
            .fold(file, |text, (path, value)| with(&text, path, value))
    }

    /// What the commands print, and what they complain of.
    fn run(&self, text: &str) -> (Outcome, String) {
        let folder = tempfile::tempdir().unwrap();
        for (name, own) in &self.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, if *name == self.changes { text } else { own }).unwrap();
        }
        let mut said = String::new();
        let outcome = self.commands.iter().map(|command| {
            let ran = Command::new(env!("CARGO_BIN_EXE_einflow"))
                .current_dir(folder.path())
                .args(command.split(' '))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            said += &String::from_utf8(ran.stderr).unwrap();
            (ran.status.code(), String::from_utf8(ran.stdout).unwrap())
        });
        (outcome.collect(), said)
    }
}

/// Another value of the same kind, where one is sure to matter.
fn other(node: Option<&Node>, row: Option<&FieldRow>) -> Option<String> {
    let names: Vec<&str> = row.map_or(Vec::new(), |row| {
        let plain = row
            .value
            .split('`')
            .step_by(2)
            .all(|t| ["", ", ", " or "].contains(&t));
        let names = row.value.split('`').skip(1).step_by(2);
        names.filter(|_| plain).collect()
    });
    let now = match node.map(|node| &node.kind) {
        Some(Kind::Number(number)) => {
            return Some(format!("{}", number.parse::<f64>().ok()? * 2.0));
        }
        Some(Kind::Bool(value)) => value.to_string(),
        Some(Kind::Word(word)) | Some(Kind::Text(word, _)) => word.clone(),
        Some(_) => return None,
        None => row?.left_out.trim_matches('`').to_owned(),
    };
    if names.contains(&now.as_str()) {
        return names
            .iter()
            .find(|name| **name != now)
            .map(|name| (*name).to_owned());
    }
    // The name of a file or a part.
    node.map(|_| "\"no-such-name\"".to_owned())
}

/// The fields that the reader of a struct knows.
fn known(base: &Base, at: &str) -> Vec<String> {
    let (_, said) = base.run(&base.edited(&[(format!("{at}zzzzzzzzzzzz"), "0".into())]));
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let list = said
        .split("known: ")
        .nth(1)
        .unwrap_or_else(|| panic!("{at}: {said}"));
    let list = list.split(" error: ").next().unwrap();
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_field_is_obeyed_or_refused() {
    let root = Node::parse(&Source::new("fields.txt", text_of_fields())).unwrap();
    let map = |name: &str| find(&root, name).unwrap().record().unwrap();
    let text =
        |node: &Node, name: &str| find(node, name).ok().map(|n| n.text().unwrap().to_owned());
    let bases: BTreeMap<&str, Base> = map("bases")
        .iter()
        .map(|(k, _, n)| (k.as_str(), Base::read(n)))
        .collect();
    let changes: BTreeMap<&str, &Node> = map("changes")
        .iter()
        .map(|(k, _, n)| (k.as_str(), n))
        .collect();
    let descriptive = find(&root, "descriptive").unwrap().list().unwrap();
    let descriptive: Vec<&str> = descriptive.iter().map(|n| n.text().unwrap()).collect();
    let declared = declared();
    let places = map("places");
    for what in declared.keys() {
        assert!(
            places.iter().any(|(name, ..)| name == what),
            "{what} stands nowhere"
        );
    }
    // Which structs stand where: what is in them is asked for there.
    let inside: Vec<(String, String)> = places
        .iter()
        .map(|(_, _, n)| (text(n, "base").unwrap(), text(n, "at").unwrap()))
        .collect();
    let mut jobs = Vec::new();
    for (what, _, node) in places {
        let (base, at) = (text(node, "base").unwrap(), text(node, "at").unwrap());
        let prefix = if at.is_empty() {
            String::new()
        } else {
            format!("{at}.")
        };
        let rows = declared.get(what.as_str());
        let fields = match rows {
            Some(rows) => rows.iter().map(|row| row.name.to_owned()).collect(),
            None => known(&bases[base.as_str()], &prefix),
        };
        for field in fields {
            let row = rows.and_then(|rows| rows.iter().find(|row| row.name == field));
            jobs.push((
                format!("{what}.{field}"),
                field,
                base.clone(),
                prefix.clone(),
                row,
            ));
        }
    }
    for name in changes.keys() {
        assert!(
            jobs.iter().any(|job| job.0 == *name),
            "there is no field {name}"
        );
    }
    let unchanged: Mutex<BTreeMap<String, &'static OnceLock<(Outcome, String)>>> = Mutex::default();
    let only = std::env::var("EINFLOW_FIELD").unwrap_or_default();
    jobs.retain(|job| job.0.starts_with(&only));
    let wrong: Vec<String> =
        jobs.par_iter()
            .filter_map(|(name, field, base, prefix, row)| {
                if descriptive.contains(&name.as_str()) || descriptive.contains(&field.as_str()) {
                    return None;
                }
                let change = changes.get(name.as_str()).copied();
                let own = |key: &str| change.and_then(|c| text(c, key));
                let key = own("base").unwrap_or_else(|| base.clone());
                let base = &bases[key.as_str()];
                let path = own("at").unwrap_or_else(|| format!("{prefix}{field}"));
                let edits: Vec<(String, String)> = change
                    .and_then(|c| find(c, "with").ok())
                    .map_or(Vec::new(), |w| {
                        let entries = w.record().unwrap().iter();
                        entries
                            .map(|(path, _, v)| (path.clone(), v.text().unwrap().to_owned()))
                            .collect()
                    });
                let before = base.edited(&edits);
                let tree = Node::parse(&Source::new("before", before.as_str())).unwrap();
                let node = find(&tree, &path).ok();
                let written =
                    change.and_then(|c| c.text().ok().map(str::to_owned).or_else(|| own("to")));
                let structs = inside.iter().any(|(b, at)| {
                    *b == key && (at == &path || at.starts_with(&format!("{path}.")))
                });
                let Some(value) = written.or_else(|| other(node, *row)) else {
                    return (!structs).then(|| format!("{name}: no change is known"));
                };
                let cell = *unchanged
                    .lock()
                    .unwrap()
                    .entry(format!("{key} {before}"))
                    .or_insert_with(|| Box::leak(Box::default()));
                let (first, said) = cell.get_or_init(|| base.run(&before));
                if first.iter().any(|(code, _)| *code != Some(0)) {
                    return Some(format!(
                        "{name} begins with a file that does not work: {said}"
                    ));
                }
                let (second, said) = base.run(&with(&before, &path, &value));
                let refused = second.iter().any(|(code, _)| *code == Some(2));
                if std::env::var_os("EINFLOW_SHOW").is_some() && refused {
                    println!(
                        "{name}: {value}: {}",
                        said.split_whitespace().collect::<Vec<_>>().join(" ")
                    );
                }
                (second == *first).then(|| format!("{name}: {value} changes nothing"))
            })
            .collect();
    assert!(wrong.is_empty(), "of {}:\n{}", jobs.len(), wrong.join("\n"));
}

fn text_of_fields() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fields.txt");
    fs::read_to_string(path).unwrap()
}
