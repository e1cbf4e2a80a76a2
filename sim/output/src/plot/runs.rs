//! What runs show.

use indexmap::IndexMap;

use super::{Bar, Content, Figure, Group, Panel, Series};
use crate::render::run_names;
use einflow_engine::{report::Report, units::length};

/// Runs of one model: its name, and by length the runs.
type Grouped<'a> = IndexMap<String, IndexMap<String, Vec<&'a Report>>>;

fn grouped(reports: &[Report]) -> Grouped<'_> {
    let mut out: Grouped<'_> = IndexMap::new();
    for report in reports {
        let model = report.inputs.model.clone().unwrap_or_default();
        let tokens = report.inputs.length.map(length).unwrap_or_default();
        let lengths = out.entry(model).or_default();
        lengths.entry(tokens).or_default().push(report);
    }
    out
}

/// A panel for each model, a group for each length; `bars` makes those of a group.
fn panels(reports: &[Report], y: &str, bars: &dyn Fn(&[&Report]) -> Vec<Bar>) -> Vec<Panel> {
    grouped(reports)
        .into_iter()
        .map(|(model, lengths)| Panel {
            title: model.to_uppercase(),
            y: y.into(),
            x: "tokens".into(),
            content: Content::Bars(
                lengths
                    .into_iter()
                    .map(|(label, runs)| Group {
                        label,
                        bars: bars(&runs),
                    })
                    .collect(),
            ),
        })
        .collect()
}

/// A bar for each run, coloured by its name.
fn plain(runs: &[&Report], value: &dyn Fn(&Report) -> f64) -> Vec<Bar> {
    let bar = |(r, name): (&&Report, String)| Bar {
        label: String::new(),
        parts: vec![(name, value(r))],
    };
    runs.iter().zip(run_names(runs)).map(bar).collect()
}

/// A bar for each run, under its initials.
fn split(runs: &[&Report], parts: &dyn Fn(&Report) -> Vec<(String, f64)>) -> Vec<Bar> {
    let bar = |(r, label): (&&Report, String)| Bar {
        label,
        parts: parts(r),
    };
    runs.iter()
        .zip(initials(&run_names(runs)))
        .map(bar)
        .collect()
}

/// A part of a whole; nothing of nothing.
fn over(value: f64, whole: f64) -> f64 {
    match whole == 0.0 {
        true => 0.0,
        false => value / whole,
    }
}

/// The arrays of all runs.
fn units(reports: &[Report]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for unit in reports.iter().flat_map(|r| r.units.keys()) {
        if !names.contains(unit) {
            names.push(unit.clone());
        }
    }
    names
}

fn first(runs: &[&Report], of: &dyn Fn(&Report) -> f64) -> f64 {
    runs.first().map_or(1.0, |r| of(r))
}

/// Runs side by side: utilization of each array and its split, speed and energy over the first, energy by component,
/// area against latency.
pub fn compared(reports: &[Report]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let of_first = grouped(reports)
        .into_iter()
        .next()
        .and_then(|(_, lengths)| {
            let (_, runs) = lengths.into_iter().next()?;
            run_names(&runs).into_iter().next()
        });
    let baseline = of_first.unwrap_or_default();
    let mut add = |file: String, title: String, panels: Vec<Panel>, note: &str| {
        figures.push(Figure {
            name: file,
            title,
            panels,
            note: note.into(),
        });
    };
    for unit in units(reports) {
        let note = "useful work over the PE-cycles that the run takes";
        add(
            format!("utilization-{unit}"),
            format!("Utilization of {unit}"),
            panels(reports, "utilization, %", &|runs| {
                plain(runs, &|r| 100.0 * r.utilization(&unit))
            }),
            note,
        );
        add(
            format!("utilization-{unit}-by-einsum"),
            format!("Utilization of {unit}, split by Einsum"),
            panels(reports, "utilization, %", &|runs| {
                split(runs, &|r| {
                    let shares = r.utilization_by_einsum(&unit).into_iter();
                    shares
                        .map(|(einsum, share)| (einsum, 100.0 * share))
                        .collect()
                })
            }),
            &legend_of_initials(reports),
        );
    }
    let seconds = |r: &Report| r.seconds();
    add(
        "speed".into(),
        format!("Speed over {baseline}"),
        panels(reports, "times as fast", &|runs| {
            let base = first(runs, &seconds);
            plain(runs, &|r| over(base, r.seconds()))
        }),
        "",
    );
    let energy = |r: &Report| r.energy_pj();
    add(
        "energy".into(),
        format!("Energy over {baseline}"),
        panels(reports, "share of its energy, %", &|runs| {
            let base = first(runs, &energy);
            plain(runs, &|r| 100.0 * over(r.energy_pj(), base))
        }),
        "",
    );
    add(
        "energy-by-component".into(),
        format!("Energy by component, over the whole of {baseline}"),
        panels(reports, "share of its energy, %", &|runs| {
            let base = first(runs, &energy);
            split(runs, &|r| {
                let components = r.energy_by_component().into_iter();
                components
                    .map(|(component, pj)| (component, 100.0 * over(pj, base)))
                    .filter(|(_, share)| *share > 0.05)
                    .collect()
            })
        }),
        &format!(
            "{}; parts below 0.05 % left out",
            legend_of_initials(reports)
        ),
    );
    let last = grouped(reports).into_iter().filter_map(|(model, lengths)| {
        let (tokens, runs) = lengths.into_iter().next_back()?;
        let series = runs.iter().zip(run_names(&runs)).map(|(r, name)| Series {
            name,
            points: vec![(r.area_um2() * 1e-6, r.seconds())],
            joined: false,
            pale: false,
        });
        Some(Panel {
            title: format!("{}, {tokens} tokens", model.to_uppercase()),
            y: "latency, s".into(),
            x: "area, mm²".into(),
            content: Content::Points {
                series: series.collect(),
                log: (false, true),
            },
        })
    });
    add(
        "area-latency".into(),
        "Area against latency".into(),
        last.collect(),
        "nearer the lower left is better",
    );
    figures
}

/// `+binding` as `+b`, to stand above a bar; runs that share a mapping are counted.
fn initials(names: &[String]) -> Vec<String> {
    let mapping = |name: &String| name.split(' ').next().unwrap_or_default().to_owned();
    let short = |(i, name): (usize, &String)| {
        let letters = if name.starts_with('+') { 2 } else { 1 };
        let short: String = name.chars().take(letters).collect();
        let same = |other: &&String| mapping(other) == mapping(name);
        match names.iter().filter(same).count() {
            1 => short,
            _ => format!("{short}{}", names[..=i].iter().filter(same).count()),
        }
    };
    names.iter().enumerate().map(short).collect()
}

fn legend_of_initials(reports: &[Report]) -> String {
    let mut all: Vec<String> = Vec::new();
    let groups = grouped(reports);
    for runs in groups.values().flat_map(IndexMap::values) {
        let names = run_names(runs);
        for (short, name) in initials(&names).iter().zip(&names) {
            let entry = format!("{short} {name}");
            if !all.contains(&entry) {
                all.push(entry);
            }
        }
    }
    all.join(", ")
}

/// One run: utilization by Einsum, energy by component, traffic by tensor.
pub fn one(report: &Report) -> Vec<Figure> {
    let bar = |label: &str, parts: Vec<(String, f64)>| Group {
        label: label.to_string(),
        bars: vec![Bar {
            label: String::new(),
            parts,
        }],
    };
    let figure = |name: &str, what: &str, y: &str, groups: Vec<Group>| Figure {
        name: name.into(),
        title: format!("{what}: {}", crate::render::title(report)),
        panels: vec![Panel {
            title: String::new(),
            y: y.into(),
            x: String::new(),
            content: Content::Bars(groups),
        }],
        note: String::new(),
    };
    // One figure an array: more Einsums than there are colours would share a legend.
    let mut figures: Vec<Figure> = report
        .units
        .keys()
        .map(|unit| {
            let parts = report.utilization_by_einsum(unit).into_iter();
            let parts = parts.map(|(e, share)| (e, 100.0 * share)).collect();
            figure(
                &format!("utilization-{unit}"),
                &format!("Utilization of {unit} by Einsum"),
                "utilization, %",
                vec![bar(unit, parts)],
            )
        })
        .collect();
    let energy = report
        .energy_by_component()
        .into_iter()
        .map(|(component, pj)| bar(&component.clone(), vec![(component, pj * 1e-12)]));
    let memories = report.traffic.iter().filter(|(memory, _)| {
        *memory == &report.outermost || report.occupancy.contains_key(*memory)
    });
    let traffic = memories.map(|(memory, tensors)| {
        let parts = tensors.iter().map(|(tensor, access)| {
            let words = access.total().unwrap_or_default().as_f64();
            (tensor.clone(), words * report.word_bytes as f64)
        });
        bar(memory, parts.collect())
    });
    figures.extend([
        figure(
            "energy",
            "Energy by component",
            "energy, J",
            energy.collect(),
        ),
        figure(
            "traffic",
            "Bytes read and written, by tensor",
            "bytes",
            traffic.collect(),
        ),
    ]);
    figures
}
