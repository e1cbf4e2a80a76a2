//! Runs side by side.

use einflow_mappings::count::Access;
use indexmap::IndexMap;

use super::{finish, of, short_name, table, tight, times, wrapped};
use einflow_engine::{
    check::Check,
    report::Report,
    units::{length, number, percent},
};

/// The order of `reports`: groups of one model and length.
fn groups(reports: &[Report]) -> Vec<(String, Vec<&Report>)> {
    let mut out: IndexMap<(Option<&str>, Option<u64>), Vec<&Report>> = IndexMap::new();
    for r in reports {
        out.entry((r.inputs.model.as_deref(), r.inputs.length))
            .or_default()
            .push(r);
    }
    let name = |(model, tokens): (Option<&str>, Option<u64>)| {
        format!(
            "{}, {} tokens",
            model.unwrap_or("no model"),
            tokens.map_or("?".into(), length)
        )
    };
    out.into_iter()
        .map(|(key, list)| (name(key), list))
        .collect()
}

/// Several runs side by side: a summary of each model and length, details of the last.
pub fn compare(reports: &[Report]) -> String {
    let mut out = String::new();
    let groups = groups(reports);
    for (name, list) in &groups {
        out.push_str(&format!("{name}\n"));
        let units: Vec<&String> = list
            .first()
            .map(|r| r.units.keys().collect())
            .unwrap_or_default();
        let mut header = vec!["mapping", "time", "speedup"];
        let short: Vec<String> = units
            .iter()
            .map(|u| u.trim_start_matches("array").to_uppercase())
            .collect();
        header.extend(short.iter().map(String::as_str));
        header.extend(["traffic", "energy", "bound by", "x bound"]);
        let mut t = table(&header);
        let first = list.first().map_or(1.0, |r| r.seconds());
        for (r, name) in list.iter().zip(run_names(list)) {
            let mut row = vec![name, tight(r.seconds(), "s"), times(first, r.seconds())];
            row.extend(units.iter().map(|u| percent(r.utilization(u))));
            row.push(tight(r.dram_bytes().2 as f64, "B"));
            row.push(tight(r.energy_pj() * 1e-12, "J"));
            row.push(r.bottleneck());
            let above = r.above_bound();
            row.push(if above.is_finite() {
                format!("{above:.2}")
            } else {
                "-".into()
            });
            t.add_row(row);
        }
        out.push_str(&finish(t, 1));
        out.push('\n');
    }
    out.push_str(&wrapped(
        "speedup: over the first; 2D, 1D: useful work of each array; x bound: times the larger of the two lower bounds \
         (all operations on all PEs, inputs and outputs moved once). +X is fusemax-X.",
    ));
    out.push('\n');
    let Some((name, list)) = groups.last() else {
        return out;
    };
    out.push_str(&format!(
        "In detail, {name} (--format json has every run)\n"
    ));
    for unit in list
        .first()
        .map(|r| r.units.keys().cloned().collect::<Vec<_>>())
        .unwrap_or_default()
    {
        out.push_str(&format!("\nutilization of {unit} by Einsum\n"));
        out.push_str(&by_run(list, "Einsum", &|r| {
            r.utilization_by_einsum(&unit)
                .into_iter()
                .map(|(name, v)| (name, percent(v)))
                .collect()
        }));
    }
    let memories: Vec<String> = list
        .first()
        .map(|r| r.occupancy.keys().cloned().collect())
        .unwrap_or_default();
    let outermost = list.first().map(|r| r.outermost.clone());
    for memory in outermost.into_iter().chain(memories) {
        out.push_str(&format!("\n{memory}, words read and written by tensor\n"));
        out.push_str(&by_run(list, "tensor", &|r| {
            let cells = |a: &Access| tight(a.total().unwrap_or_default().as_f64(), "");
            let tensors = r.traffic.get(&memory);
            tensors
                .map(|t| t.iter().map(|(name, a)| (name.clone(), cells(a))).collect())
                .unwrap_or_default()
        }));
    }
    let accounts = list.iter().any(|r| r.account.is_some());
    let units: Vec<&String> = list
        .first()
        .map(|r| r.units.keys().collect())
        .unwrap_or_default();
    for unit in units.into_iter().filter(|_| accounts) {
        out.push_str(&format!("\n{unit}: where its cycles go\n"));
        out.push_str(&by_run(list, "activity", &|r| {
            let activities = r.account.as_ref().and_then(|a| a.units.get(unit));
            let shares = activities.into_iter().flatten().filter(|(_, c)| **c > 0);
            shares
                .map(|(a, c)| (a.text(), percent(*c as f64 / r.cycles().max(1) as f64)))
                .collect()
        }));
    }
    out.push_str("\nenergy by component\n");
    out.push_str(&by_run(list, "component", &|r| {
        r.energy_by_component()
            .into_iter()
            .map(|(name, pj)| (name, tight(pj * 1e-12, "J")))
            .collect()
    }));
    out.push_str("\narea\n");
    out.push_str(&by_run(list, "part", &|r| {
        let mut rows: IndexMap<String, f64> = IndexMap::new();
        for item in &r.area {
            let part = item
                .in_array
                .clone()
                .unwrap_or_else(|| item.component.clone());
            *rows.entry(part).or_insert(0.0) += item.count as f64 * item.area;
        }
        rows.insert("total".into(), r.area_um2());
        rows.into_iter()
            .map(|(name, um2)| (name, format!("{:.1} mm^2", um2 * 1e-6)))
            .collect()
    }));
    out.push_str(&all_checked(reports));
    out
}

/// A table with one column a run; long mapping names lose what they have in common.
fn by_run(
    list: &[&Report],
    what: &str,
    rows: &dyn Fn(&Report) -> IndexMap<String, String>,
) -> String {
    let columns: Vec<IndexMap<String, String>> = list.iter().map(|r| rows(r)).collect();
    let mut names: Vec<String> = Vec::new();
    for column in &columns {
        for name in column.keys() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    let heads = run_names(list);
    let mut header = vec![what];
    header.extend(heads.iter().map(String::as_str));
    let mut t = table(&header);
    for name in names {
        let mut row = vec![name.clone()];
        row.extend(
            columns
                .iter()
                .map(|c| c.get(&name).cloned().unwrap_or_else(|| "-".into())),
        );
        t.add_row(row);
    }
    finish(t, 1)
}

/// A part of a name: what it is of a run.
type Part<'a> = &'a dyn Fn(&Report) -> Vec<String>;

/// Names that tell runs apart: the mapping, and where several runs share one, what differs of accelerator, engine and
/// numbers set; else the first size that does; else a number.
pub(crate) fn run_names(list: &[&Report]) -> Vec<String> {
    let sizes = |r: &Report| -> Vec<String> {
        let all = r.inputs.sizes.iter();
        all.map(|(name, size)| format!("{name}={size}")).collect()
    };
    let parts: [Part<'_>; 3] = [
        &|r| vec![r.inputs.accelerator.clone()],
        &|r| vec![r.inputs.engine.to_owned()],
        &|r| {
            let set = &r.inputs.set;
            let name = |path: &str| {
                let short = last(path, 1);
                let alone = set
                    .iter()
                    .filter(|(other, _)| last(other, 1) == short)
                    .count()
                    == 1;
                last(path, if alone { 1 } else { 2 }).to_owned()
            };
            set.iter()
                .map(|(path, value)| format!("{}={}", name(path), short(value)))
                .collect()
        },
    ];
    let name = |(i, run): (usize, &&Report)| {
        let same = |r: &&&Report| r.inputs.mapping == run.inputs.mapping;
        let mut alike: Vec<&Report> = list.iter().filter(same).copied().collect();
        let mut name = short_name(&run.inputs.mapping);
        // What all that are still alike have tells none apart.
        let telling = |own: &[String], part: Part<'_>, alike: &[&Report]| {
            let tells = |p: &&String| !alike.iter().all(|r| part(r).contains(p));
            own.iter().filter(tells).cloned().collect::<Vec<String>>()
        };
        for part in parts {
            let own = part(run);
            for word in telling(&own, part, &alike) {
                name.push_str(&format!(" {word}"));
            }
            alike.retain(|r| part(r) == own);
        }
        let own = sizes(run);
        if let Some(first) = telling(&own, &sizes, &alike).first() {
            name.push_str(&format!(" {first}"));
            alike.retain(|r| sizes(r).contains(first));
        }
        match alike.len() {
            1 => name,
            _ => format!("{name} #{}", i + 1),
        }
    };
    list.iter().enumerate().map(name).collect()
}

/// A number of a file as text, short.
fn short(value: &str) -> String {
    value.parse().map_or_else(|_| value.to_owned(), number)
}

/// The last names of a path.
fn last(path: &str, names: usize) -> &str {
    let dots = path.rmatch_indices('.').nth(names - 1);
    dots.map_or(path, |(at, _)| &path[at + 1..])
}

/// What the checks of a comparison found, in a few lines.
fn all_checked(reports: &[Report]) -> String {
    let checks: Vec<(&Report, &Check)> = reports
        .iter()
        .filter_map(|r| Some((r, r.check.as_deref()?)))
        .collect();
    if checks.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n");
    let done: Vec<_> = checks
        .iter()
        .filter_map(|(_, c)| c.miniature.as_ref().ok())
        .collect();
    let worst = done.iter().map(|m| m.errors.max_rel).fold(0.0, f64::max);
    let agree = done
        .iter()
        .filter(|m| m.cycles.0 == m.cycles.1 && m.as_interpreted)
        .count();
    if let Some(first) = done.first() {
        out.push_str(&wrapped(&format!(
            "checked in miniature on every PE ({}, sums in {}): {} of {} runs compute what the reference interpreter does, bit by bit, in as many cycles as the cycle engine says; the worst is off {} by {worst:.1e} of the largest value",
            first.formats.0, first.formats.1, agree, checks.len(), of(first.reference)
        )));
    }
    let listed: Vec<f64> = done
        .iter()
        .filter_map(|m| m.as_listed.as_ref().map(|e| e.max_rel))
        .collect();
    if !listed.is_empty() {
        let worst = listed.iter().copied().fold(0.0, f64::max);
        out.push_str(&wrapped(&format!(
            "that is with exact functions; the exponential that the accelerator lists (in {} runs) is off by up to {worst:.1e}, see `einflow run --check`",
            listed.len()
        )));
    }
    let mut said: Vec<String> = Vec::new();
    for (report, check) in &checks {
        if let Err(error) = &check.miniature {
            let line = format!("{} is not checked: {error}", report.inputs.mapping);
            if !said.contains(&line) {
                out.push_str(&wrapped(&line));
                said.push(line);
            }
        }
    }
    out
}
