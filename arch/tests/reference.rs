//! The pages of `docs/src/reference/` on accelerators and on devices, against the readers.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use einflow_arch::{
    Accelerator, Array, Component, Link, Memory, Operator, Polynomial, Registers,
    device::{Chip, Device, DeviceLink, Graph, Modelled, Power, law},
};
use einflow_spec::{FieldRow, Record, Source, with_tables};

const PAGE: &str = include_str!("../../docs/src/reference/accelerators.md");

const DEVICES: &str = include_str!("../../docs/src/reference/devices.md");

fn example() -> &'static str {
    let start = PAGE.find("```ron\n").unwrap() + 7;
    &PAGE[start..start + PAGE[start..].find("```").unwrap()]
}

fn parse(text: &str) -> Result<Accelerator, String> {
    Accelerator::parse(&Source::new("example.ron", text)).map_err(|problems| problems.to_string())
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

#[test]
fn the_tables_are_those_of_the_declarations() {
    let accelerators = [
        ("### accelerator", Accelerator::fields()),
        ("### memory", Memory::fields()),
        ("### array", Array::fields()),
        ("### component", Component::fields()),
        ("### operator", Operator::fields()),
        ("### computes", Polynomial::fields()),
        ("### registers", Registers::fields()),
        ("### link", Link::fields()),
    ];
    check_tables("accelerators.md", &accelerators);
    let devices = [
        ("### device", Device::fields()),
        ("### chip", Chip::fields()),
        ("### power", Power::fields()),
        ("### graph", Graph::fields()),
        ("### accelerator", Modelled::fields()),
        ("### link", DeviceLink::fields()),
    ];
    check_tables("devices.md", &devices);
}

/// `EINFLOW_BLESS=1` writes the tables of a page anew.
fn check_tables(page: &str, tables: &[(&str, Vec<FieldRow>)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/src/reference")
        .join(page);
    let text = fs::read_to_string(&path).unwrap();
    let found = with_tables(&text, tables);
    if std::env::var_os("EINFLOW_BLESS").is_some_and(|v| v == "1") {
        fs::write(&path, &found).unwrap();
    } else {
        assert!(
            found == text,
            "EINFLOW_BLESS=1 writes the tables of {page} anew"
        );
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
        law::LATENT,
        law::PREFILL,
        law::PASS,
        law::GROUPED,
        law::RAGGED,
        law::RAGGED_CORES,
        law::MASKED,
        law::CHUNKED,
        law::TRANSFER,
    ] {
        for parameter in law {
            assert!(DEVICES.contains(parameter.name), "{}", parameter.name);
        }
    }
}
