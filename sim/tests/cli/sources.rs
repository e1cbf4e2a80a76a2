//! Every number of every library file says where it comes from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use einflow::{runs::runs, sweep::sweeps, validate::experiments};
use einflow_arch::accelerators;
use einflow_mappings::mappings;
use einflow_serving::{data::data, offload::scenario::scenarios};
use einflow_spec::{Library, Node, Source, check_sources};
use einflow_workloads::{cascades, models::models};

fn problems(source: &Source) -> String {
    check_sources(&Node::parse(source).unwrap()).to_string()
}

#[test]
fn embedded_files() {
    let libraries: [&Library; 6] = [
        cascades(),
        models(),
        accelerators(),
        mappings(),
        runs(),
        experiments(),
    ];
    for library in libraries {
        assert!(library.names().count() > 0);
        for name in library.names() {
            assert_eq!(problems(&library.get(name).unwrap()), "", "{name}");
        }
    }
}

fn ron_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            ron_files(&path, found);
        } else if name.ends_with(".ron") {
            found.push(path);
        }
    }
}

/// The same for the repository's files, should a room hold one that is not embedded; and all names are their files'.
#[test]
fn files_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for room in ["workloads", "arch", "mappings", "sim", "validation"] {
        ron_files(&root.join(room), &mut files);
    }
    assert!(files.len() > 40, "{}", files.len());
    for path in files {
        let source = Source::new(
            path.display().to_string(),
            fs::read_to_string(&path).unwrap(),
        );
        assert_eq!(problems(&source), "");
        let node = Node::parse(&source).unwrap();
        let name = node
            .record()
            .unwrap()
            .iter()
            .find(|(k, _, _)| k == "name")
            .unwrap()
            .2
            .text()
            .unwrap()
            .to_string();
        let stem = path.with_extension("").display().to_string();
        assert!(
            stem.ends_with(&name),
            "{} calls itself {name}",
            path.display()
        );
    }
}

/// A file that is new since the build script ran is not in the list.
#[test]
fn every_file_is_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lists = [
        (experiments(), "../validation"),
        (runs(), "runs"),
        (sweeps(), "sweeps"),
        (scenarios(), "runs/offload"),
    ];
    for (library, folder) in lists {
        let mut names: Vec<String> = fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "ron"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        let embedded: Vec<&str> = library.names().collect();
        assert_eq!(embedded, names, "touch the build.rs of {folder}");
    }
}

fn tables(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tables(&path, found);
        } else if path.extension().is_some_and(|e| e != "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_table_is_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../validation");
    let mut found = Vec::new();
    tables(&root.join("data"), &mut found);
    assert!(found.len() > 30);
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let source = data(name, None).unwrap();
        assert_eq!(source.text(), fs::read_to_string(&path).unwrap(), "{name}");
    }
}
