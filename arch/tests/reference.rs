//! The pages of `docs/src/reference/` on accelerators and on devices, against the readers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use einflow_arch::{
    Accelerator,
    device::{Device, DeviceLink, law},
};
use einflow_spec::Source;

const PAGE: &str = include_str!("../../docs/src/reference/accelerators.md");

const DEVICES: &str = include_str!("../../docs/src/reference/devices.md");

fn example() -> &'static str {
    let start = PAGE.find("```ron\n").unwrap() + 7;
    &PAGE[start..start + PAGE[start..].find("```").unwrap()]
}

fn parse(text: &str) -> Result<Accelerator, String> {
    Accelerator::parse(&Source::new("example.ron", text)).map_err(|problems| problems.to_string())
}

/// The fields that the page's table under a heading lists.
fn listed(heading: &str) -> BTreeSet<&'static str> {
    let start = PAGE.find(&format!("### {heading}\n")).unwrap();
    let section = &PAGE[start + 4..];
    let section = &section[..section.find("\n#").unwrap()];
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect()
}

#[test]
fn the_example_is_read() {
    assert_eq!(
        parse(example()).unwrap().area().total().0,
        4.0 * 5500.0 + 8192.0 * 0.5
    );
    assert_eq!(
        PAGE.matches("```ron").count(),
        1,
        "read the new example too"
    );
}

/// A field of a name far from any other makes the reader list those that it knows.
#[test]
fn the_tables_list_the_fields_of_the_reader() {
    let places = [
        ("accelerator", "clock:"),
        ("memory", "row:"),
        ("array", "rows:"),
        ("component", "energy: 4"),
        ("operator", "cycles:"),
        ("computes", "polynomial:"),
        ("registers", "words:"),
        ("link", "direction:"),
    ];
    for (heading, field) in places {
        let text = example().replacen(field, &format!("qqqqqqqqqqqqqqqqqqqq: 1, {field}"), 1);
        let message = parse(&text).unwrap_err();
        let known = message
            .split("known: ")
            .nth(1)
            .unwrap()
            .trim_end_matches(')');
        assert_eq!(listed(heading), known.split(", ").collect(), "{heading}");
    }
}

#[test]
fn the_names_and_paths_of_the_page_exist() {
    let chip = parse(example()).unwrap();
    let names: Vec<_> = PAGE
        .split("## Names in size expressions")
        .nth(1)
        .unwrap()
        .split('`')
        .skip(1)
        .step_by(2)
        .collect();
    let paths = chip.override_paths();
    for name in &names {
        let known = chip.lookup(name).is_some() || paths.iter().any(|path| path == name);
        assert!(known || ["arrays.", "memories."].contains(name), "{name}");
    }
    assert!(names.len() > 10);
}

#[test]
fn the_page_names_every_shipped_file() {
    for name in einflow_arch::accelerators().names() {
        assert!(PAGE.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_examples_of_devices_are_read() {
    let mut examples = DEVICES.split("```ron\n").skip(1).map(|rest| {
        let text = rest.split("```").next().unwrap();
        Source::new("example.ron", text)
    });
    Device::parse(&examples.next().unwrap()).unwrap_or_else(|p| panic!("{p}"));
    DeviceLink::parse(&examples.next().unwrap()).unwrap_or_else(|p| panic!("{p}"));
    assert!(examples.next().is_none(), "read the new example too");
}

#[test]
fn the_parameters_of_laws_are_explained() {
    for law in [
        law::PRODUCT,
        law::DECODE,
        law::PREFILL,
        law::PASS,
        law::TRANSFER,
    ] {
        for parameter in law {
            assert!(DEVICES.contains(parameter.name), "{}", parameter.name);
        }
    }
}
