//! `list` and `man`.

use std::path::Path;

use clap::CommandFactory;
use einflow_arch::{
    accelerators,
    device::{devices, links},
};
use einflow_mappings::mappings;
use einflow_spec::{Problem, Problems};
use einflow_workloads::{cascades, models};

use super::{
    args::{Arguments, Listing},
    output,
};
use crate::{runs::runs, sweep::sweeps, validate};
use einflow_serving::offload::scenario::scenarios;

/// Manual pages: the whole on standard output, or one file a command.
pub(super) fn man(out: Option<&Path>) -> Result<u8, Problems> {
    let mut command = Arguments::command();
    command.build();
    let page = |command: clap::Command| {
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut text);
        rendered.map_err(|e| Problem::nowhere(format!("cannot write a manual page: {e}")))?;
        Ok::<_, Problem>(text)
    };
    let Some(folder) = out else {
        output::print(&String::from_utf8_lossy(&page(command)?))?;
        return Ok(0);
    };
    let failed = |e: std::io::Error| {
        Problem::nowhere(format!("cannot write {}: {e}", folder.display()))
            .help("name a folder that can be written with --out")
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let own = command.get_subcommands().map(|c| {
        let name = format!("einflow-{}", c.get_name());
        (name, c.clone())
    });
    for (name, command) in own.chain([("einflow".to_string(), command.clone())]) {
        std::fs::write(folder.join(format!("{name}.1")), page(command)?).map_err(failed)?;
    }
    Ok(0)
}

pub(super) fn list(what: Option<Listing>) -> Result<(), Problems> {
    let kinds: [(&str, Listing, Vec<String>); 10] = [
        (
            "workloads",
            Listing::Workloads,
            cascades().names().map(String::from).collect(),
        ),
        (
            "models",
            Listing::Models,
            models().names().map(String::from).collect(),
        ),
        (
            "accelerators",
            Listing::Accelerators,
            accelerators().names().map(String::from).collect(),
        ),
        (
            "mappings",
            Listing::Mappings,
            mappings().names().map(String::from).collect(),
        ),
        (
            "runs",
            Listing::Runs,
            runs().names().map(String::from).collect(),
        ),
        (
            "sweeps",
            Listing::Sweeps,
            sweeps().names().map(String::from).collect(),
        ),
        (
            "experiments",
            Listing::Experiments,
            validate::experiments().names().map(String::from).collect(),
        ),
        (
            "devices",
            Listing::Devices,
            devices().names().map(String::from).collect(),
        ),
        (
            "links",
            Listing::Links,
            links().names().map(String::from).collect(),
        ),
        (
            "scenarios",
            Listing::Scenarios,
            scenarios().names().map(String::from).collect(),
        ),
    ];
    let heads = what.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut text = String::new();
    for (name, kind, names) in kinds {
        if what.is_some_and(|w| w != kind) {
            continue;
        }
        if heads {
            text.push_str(&format!("{name}\n"));
        }
        for entry in names {
            text.push_str(&format!("{}{entry}\n", if heads { "  " } else { "" }));
        }
    }
    output::print(&text)
}
