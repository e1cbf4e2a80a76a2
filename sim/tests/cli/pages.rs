//! The pages of `docs/src/reference/` on files of requests and on reports, against the readers and the reports.

use std::{collections::BTreeSet, fs, path::Path};

use einflow::{
    runs::{Run, RunFile},
    sweep::{Objectives, SweepFile},
    validate,
};
use einflow_serving::offload::scenario::{Fixed, Link, Pool, Scenario, Trace};
use einflow_serving::offload::serve::trace::Columns;
use einflow_spec::{Record, with_tables};
use serde_json::Value;

use crate::support::{einflow, einflow_in};

/// The pages on run, sweep and experiment files, one after another.
const PAGE: &str = concat!(
    include_str!("../../../docs/src/reference/runs.md"),
    include_str!("../../../docs/src/reference/sweeps.md"),
    include_str!("../../../docs/src/reference/experiments.md"),
);
const REPORT: &str = include_str!("../../../docs/src/reference/report.md");
const OFFLOAD: &str = include_str!("../../../docs/src/reference/pools.md");

/// Tag and text of each fenced block.
fn fences() -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = PAGE.split("```").collect();
    assert_eq!(parts.len() % 2, 1, "a block is not closed");
    parts
        .iter()
        .skip(1)
        .step_by(2)
        .map(|part| part.split_once('\n').unwrap())
        .collect()
}

/// Everything in code font outside the fenced blocks, as words.
fn words(page: &'static str) -> BTreeSet<&'static str> {
    let outside = page.split("```").step_by(2);
    let code = outside.flat_map(|text| text.split('`').skip(1).step_by(2));
    code.flat_map(|c| c.split(|c: char| !(c.is_alphanumeric() || c == '_')))
        .collect()
}

#[test]
fn examples_run() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut counts = Vec::new();
    for (tag, text) in fences() {
        match tag.split_once(' ') {
            Some(("csv", name)) => fs::write(folder.path().join(name), text).unwrap(),
            Some(("ron", "run")) => {
                fs::write(folder.path().join("mine.ron"), text).unwrap();
                let list =
                    einflow_in(folder.path(), &["compare", "mine.ron", "--format", "json"]).json();
                counts.push(list.as_array().unwrap().len());
                let one = einflow_in(folder.path(), &["run", "mine.ron", "--format", "json"]);
                assert_eq!(one.code, if counts.ends_with(&[1]) { 0 } else { 2 });
            }
            Some(("ron", "sweep")) => {
                fs::write(folder.path().join("mine.ron"), text).unwrap();
                let rows =
                    einflow_in(folder.path(), &["sweep", "mine.ron", "--format", "csv"]).good();
                assert!(
                    rows.lines().skip(1).all(|row| row.contains(",ok,")),
                    "{rows}"
                );
                assert!(rows.lines().count() > 10, "{rows}");
            }
            Some(("ron", "experiment")) => {
                fs::write(folder.path().join("mine.ron"), text).unwrap();
                let outcome =
                    einflow_in(folder.path(), &["validate", "mine.ron", "--format", "json"]).json();
                assert_eq!(outcome["passed"], true, "{outcome}");
            }
            _ => panic!("a block with the unknown tag {tag:?}"),
        }
    }
    assert_eq!(counts, [12, 1]);
}

#[test]
fn the_tables_are_those_of_the_declarations() {
    let scenarios = [
        ("## A scenario", Scenario::fields()),
        ("### A pool", Pool::fields()),
        ("### A link", Link::fields()),
        ("### A load", Trace::fields()),
        ("### Columns of a trace", Columns::fields()),
        ("### A fixed load", Fixed::fields()),
    ];
    let sweeps = [
        ("## A file", SweepFile::fields()),
        ("### A front", Objectives::fields()),
    ];
    let runs = [
        ("## A file", RunFile::fields()),
        ("## A run", Run::fields()),
    ];
    let pages = [
        ("pools.md", scenarios.to_vec()),
        ("sweeps.md", sweeps.to_vec()),
        ("runs.md", runs.to_vec()),
        ("experiments.md", validate::tables()),
    ];
    for (page, tables) in pages {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/src/reference")
            .join(page);
        let text = fs::read_to_string(&path).unwrap();
        let found = with_tables(&text, &tables);
        if std::env::var_os("EINFLOW_BLESS").is_some_and(|v| v == "1") {
            fs::write(&path, &found).unwrap();
            continue;
        }
        assert!(
            found == text,
            "EINFLOW_BLESS=1 writes the tables of {page} anew"
        );
    }
}

#[test]
fn axes_are_explained() {
    let (words, source) = (words(PAGE), include_str!("../../src/sweep/axes.rs"));
    let mut found = 0;
    for start in [".get(\"", ".need(\"", ".get_all(\"", ".need_all(\""] {
        for field in source
            .split(start)
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(words.contains(field), "`{field}` is not explained");
            found += 1;
        }
    }
    assert!(found > 9, "{found}");
}

/// The first column of a section's table names the report's keys, all and no other.
fn assert_lists(section: &str, report: &Value) {
    let rows = section.lines().filter(|l| l.starts_with("| `"));
    let cells = rows.map(|l| l.split('|').nth(1).unwrap());
    let listed: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let keys = report.as_object().unwrap().keys();
    assert_eq!(listed, keys.map(String::as_str).collect());
}

/// The example of the page on scenarios runs, and the keys that it lists are the report's.
#[test]
fn the_offload_page_is_right() {
    let folder = tempfile::TempDir::new().unwrap();
    let example = OFFLOAD.split("```ron scenario\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    fs::write(folder.path().join("mine.ron"), example).unwrap();
    let report = einflow_in(folder.path(), &["offload", "mine.ron", "--format", "json"]).json();
    let section = OFFLOAD.split("| key | value |").nth(1).unwrap();
    assert_lists(section, &report);
    let words = words(OFFLOAD);
    for nested in [
        "cost",
        "bandwidth_needed",
        "balance",
        "time_between_tokens_ms",
        "cache_tokens",
    ] {
        for key in report[nested].as_object().unwrap().keys() {
            assert!(words.contains(key.as_str()), "{nested}.{key}");
        }
    }
}

/// The keys of the page's table are the report's.
#[test]
fn keys_are_listed() {
    let report = einflow(
        "run --model bert --length 1K --mapping fusemax-binding --end-to-end --engine cycle --check --format json",
    )
    .json();
    assert_lists(REPORT, &report);
    let explained = words(REPORT);
    let miniature = report["check"]["miniature"].as_object().unwrap();
    for key in report["account"]
        .as_object()
        .unwrap()
        .keys()
        .chain(miniature.keys())
    {
        assert!(explained.contains(key.as_str()), "{key}");
    }
    for inner in ["dram_bytes", "energy_pj", "area", "lower_bound"] {
        for key in report[inner].as_object().unwrap().keys() {
            assert!(explained.contains(key.as_str()), "{inner}.{key}");
        }
    }
    for key in report["blocks"][0].as_object().unwrap().keys() {
        assert!(explained.contains(key.as_str()), "blocks: {key}");
    }
    let row = &einflow("validate attn-arch --format json").json()["rows"][0];
    let explained = words(PAGE);
    let keys: Vec<&String> = row
        .as_object()
        .map(|o: &serde_json::Map<String, Value>| o.keys().collect())
        .unwrap();
    for key in keys {
        assert!(explained.contains(key.as_str()), "rows: {key}");
    }
}
