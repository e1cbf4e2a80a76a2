use std::collections::BTreeMap;

use einflow_arch::{Accelerator, accelerators};
use einflow_mappings::{mappings, spec::MappingSpec};
use einflow_spec::{Problem, Problems, did_you_mean, files};
use einflow_workloads::{
    analysis::{PassReport, compulsory, dot, footprints, operations, passes},
    cascade::{Cascade, TensorKind},
    cascades, models,
};
use serde_json::{Map, Value, json};

use super::{
    args::{DescribeFormat, Format},
    commands::pretty,
    model, output,
};
use einflow_engine::catalog::Catalog;
use einflow_engine::{report::whole, units::si};
use einflow_output::render::wrapped;

/// Describes whatever has this name.
pub fn describe(name: &str, shape: &Shape<'_>, format: DescribeFormat) -> Result<(), Problems> {
    let catalog = Catalog::new();
    let stem = name.strip_suffix(".ron").unwrap_or(name);
    let path = std::path::Path::new(name);
    let is_file = files::is_there(path);
    if models().get(stem).is_some() && !is_file {
        return model::describe(&*catalog.model(name, None, &[])?, shape, format);
    }
    if let (Some(devices), false) = (shape.devices, is_file) {
        return Err(shared(name, devices));
    }
    if cascades().get(stem).is_some() && !is_file {
        return cascade(&*catalog.cascade(name, None, &[])?, &catalog, shape, format);
    }
    if accelerators().get(stem).is_some() && !is_file {
        return accelerator(&*catalog.accelerator(name, None, &[])?, format);
    }
    if mappings().get(stem).is_some() && !is_file {
        return mapping(&*catalog.mapping(name, None, &[])?, format);
    }
    if is_file {
        // A file of the user's: what it is shows in its fields.
        let (source, _) = cascades().find(name, None)?;
        let node = einflow_spec::Node::parse(&source)?;
        let has = |field: &str| {
            node.record()
                .is_ok_and(|r| r.iter().any(|(k, _, _)| k == field))
        };
        if has("heads") {
            return model::describe(&*catalog.model(name, None, &[])?, shape, format);
        }
        if let Some(devices) = shape.devices {
            return Err(shared(name, devices));
        }
        if has("einsums") {
            return cascade(&*catalog.cascade(name, None, &[])?, &catalog, shape, format);
        }
        if has("blocks") {
            return mapping(&*catalog.mapping(name, None, &[])?, format);
        }
        return accelerator(&*catalog.accelerator(name, None, &[])?, format);
    }
    // A folder, which is called one.
    files::existing_text(path).transpose()?;
    let known: Vec<&str> = cascades()
        .names()
        .chain(accelerators().names())
        .chain(mappings().names())
        .chain(models().names())
        .collect();
    Err(Problem::nowhere(format!(
        "there is no cascade, accelerator, mapping or model named `{name}`"
    ))
    .help(did_you_mean(name, known.iter().copied()))
    .into())
}

/// Nothing but a model is shared.
fn shared(name: &str, devices: u64) -> Problems {
    Problem::nowhere(format!("{name} is no model that {devices} devices share"))
        .help("leave out --devices, or name a model (einflow list models)")
        .into()
}

pub(super) fn only(format: DescribeFormat, what: &str) -> Result<(), Problems> {
    match format {
        DescribeFormat::Dot => Err(Problem::nowhere(format!("{what} has no graph"))
            .help("a cascade has one")
            .into()),
        _ => Ok(()),
    }
}

/// Sizes for the counts of a cascade's description.
pub struct Shape<'a> {
    /// The model.
    pub model: &'a str,
    /// The sequence length.
    pub length: u64,
    /// Sizes besides the model's.
    pub sizes: &'a BTreeMap<String, u64>,
    /// Devices that share a model.
    pub devices: Option<u64>,
}

/// Bytes of a word, for intensities: the published accelerators use 16-bit words.
const WORD_BYTES: u64 = 2;

fn cascade(
    c: &Cascade,
    catalog: &Catalog,
    shape: &Shape<'_>,
    format: DescribeFormat,
) -> Result<(), Problems> {
    if format == DescribeFormat::Dot {
        return output::print(&dot(c));
    }
    c.check_size_names(shape.sizes.keys().map(String::as_str))?;
    let model = catalog.model(shape.model, None, &[])?;
    let mut given = model.sizes(shape.length);
    given.extend(shape.sizes.iter().map(|(k, v)| (k.clone(), *v)));
    let report = passes(c);
    let sizes = c.check_model(&model, &|name| given.contains_key(name));
    let sizes = sizes.and_then(|()| c.sizes(&given));
    let mut overridden = sizes
        .as_ref()
        .map_or(Vec::new(), |s| c.overridden(&s.0, &model));
    overridden.retain(|o| !shape.sizes.contains_key(&o.name));
    let counts = match &sizes {
        Ok(sizes) => Some((
            operations(c, sizes)?,
            footprints(c, sizes)?,
            compulsory(c, sizes)?,
        )),
        Err(_) => None,
    };
    if format == DescribeFormat::Json {
        let sizes = sizes?;
        let Some((operations, footprints, compulsory)) = counts else {
            return Ok(());
        };
        let by_einsum: Map<String, Value> = operations
            .einsums
            .iter()
            .map(|e| (e.name.clone(), kinds(&e.kinds)))
            .collect();
        let words: Map<String, Value> = footprints
            .iter()
            .map(|f| (f.name.clone(), whole(f.words)))
            .collect();
        let mut document = json!({
            "name": c.name,
            "sizes": sizes.0,
            "operations": {"total": kinds(&operations.total), "by_einsum": by_einsum, "exact": operations.exact},
            "footprint_words": words,
            "compulsory_words": {"read": whole(compulsory.read), "written": whole(compulsory.written)},
            "intensity_operations_per_byte": compulsory.intensity(&operations, WORD_BYTES),
            "word_bytes": WORD_BYTES,
            "passes": passes_json(&report),
        });
        if let (false, Some(fields)) = (overridden.is_empty(), document.as_object_mut()) {
            let defaults: BTreeMap<_, _> = overridden
                .iter()
                .map(|o| (o.name.as_str(), o.default))
                .collect();
            fields.insert("defaults_overridden".into(), json!(defaults));
        }
        return output::json(&document);
    }
    let mut text = wrapped(&format!("{}: {}", c.name, c.description));
    text.push_str(&wrapped(&format!("source: {}", c.cited)));
    let parts: Vec<String> = report
        .passes
        .iter()
        .map(|(rank, p)| format!("{rank} {}", p.count))
        .collect();
    text.push_str(&wrapped(&format!(
        "passes    {} (`einflow passes {}` says why)",
        parts.join(", "),
        c.name
    )));
    match (sizes, counts) {
        (Ok(sizes), Some((operations, footprints, compulsory))) => {
            let list: Vec<String> = sizes.0.iter().map(|(k, v)| format!("{k}={v}")).collect();
            text.push_str(&wrapped(&format!("sizes     {}", list.join(" "))));
            for overridden in &overridden {
                text.push_str(&wrapped(&format!("          {overridden}")));
            }
            let exact = if operations.exact {
                ""
            } else {
                " (an upper bound: a condition could not be counted)"
            };
            let all: Vec<String> = operations
                .total
                .iter()
                .map(|(k, v)| format!("{k} {v}"))
                .collect();
            text.push_str(&wrapped(&format!("operations{exact} {}", all.join(", "))));
            text.push_str(&wrapped(&format!(
                "compulsory traffic {} words read, {} written; intensity {} operations a byte in words of {WORD_BYTES} bytes",
                compulsory.read,
                compulsory.written,
                compulsory
                    .intensity(&operations, WORD_BYTES)
                    .map_or("-".into(), |i| format!("{i:.1}"))
            )));
            text.push_str("\nEinsums: points and operations\n");
            for e in operations
                .einsums
                .iter()
                .filter(|e| !c.einsum(e.einsum).view)
            {
                let list: Vec<String> = e.kinds.iter().map(|(k, v)| format!("{k} {v}")).collect();
                text.push_str(&wrapped(&format!("  {:<7} {}", e.name, list.join(", "))));
            }
            text.push_str("\ntensors: words\n");
            for f in footprints.iter().filter(|f| f.kind != TensorKind::View) {
                text.push_str(&wrapped(&format!(
                    "  {:<7} {} ({})",
                    f.name,
                    f.words,
                    kind(f.kind)
                )));
            }
        }
        (Err(problems), _) => {
            for problem in problems.iter() {
                text.push_str(&wrapped(&format!(
                    "no counts: {} (give --size NAME=SIZE)",
                    problem.message
                )));
            }
        }
        _ => {}
    }
    output::print(&text)
}

fn kind(kind: TensorKind) -> &'static str {
    match kind {
        TensorKind::Input => "input",
        TensorKind::Intermediate => "intermediate",
        TensorKind::Output => "output",
        TensorKind::View => "view",
    }
}

fn kinds(counts: &indexmap::IndexMap<&'static str, u128>) -> Value {
    Value::Object(
        counts
            .iter()
            .map(|(k, v)| ((*k).to_string(), whole(*v)))
            .collect(),
    )
}

fn accelerator(a: &Accelerator, format: DescribeFormat) -> Result<(), Problems> {
    only(format, "an accelerator")?;
    let area = a.area();
    if format == DescribeFormat::Json {
        let memories: Vec<Value> = a
            .memories
            .iter()
            .map(|m| {
                json!({
                    "name": m.name,
                    "capacity_bytes": m.capacity.map(|c| c.0 as u64),
                    "row_bytes": m.row.0 as u64,
                    "banks": m.banks,
                    "ports": m.ports,
                    "bandwidth_bytes_per_second": m.bandwidth.map(|b| b.0),
                    "latency_cycles": m.latency.cycles(a.clock).0 as u64,
                    "read_pj": m.read_energy.0,
                    "write_pj": m.write_energy.0,
                    "area_um2": m.area.0,
                })
            })
            .collect();
        let arrays: Vec<Value> = a
            .arrays
            .iter()
            .map(|x| {
                json!({
                    "name": x.name,
                    "rows": x.rows,
                    "columns": x.columns,
                    "register_words": x.registers.words,
                    "operators": x.operators.iter().map(|(n, o)| (n.clone(), json!(o.cycles))).collect::<Map<_, _>>(),
                })
            })
            .collect();
        return output::json(&json!({
            "name": a.name,
            "clock_hz": a.clock.0,
            "word": a.word.name(),
            "counting": a.counting.name(),
            "memories": memories,
            "arrays": arrays,
            "area_um2": area.total().0,
        }));
    }
    let mut text = wrapped(&format!("{}: {}", a.name, a.description));
    text.push_str(&wrapped(&format!("source: {}", a.cited)));
    text.push_str(&format!(
        "clock {}, words of {}, accesses counted by the {} rule\n",
        si(a.clock.0, "Hz"),
        a.word.name(),
        a.counting.name()
    ));
    for m in &a.memories {
        let capacity = m
            .capacity
            .map_or("unbounded".into(), |c| si(c.0 as f64, "B"));
        let bandwidth = m
            .bandwidth
            .map_or(String::new(), |b| format!(", {}", si(b.0, "B/s")));
        text.push_str(&wrapped(&format!(
            "{}: {capacity}, rows of {}, {} banks, {} ports{bandwidth}, latency {} cycles, {} pJ a read, {} pJ a write",
            m.name,
            m.row,
            m.banks,
            m.ports,
            m.latency.cycles(a.clock).0,
            m.read_energy.0,
            m.write_energy.0
        )));
    }
    for x in &a.arrays {
        let operators: Vec<String> = x
            .operators
            .iter()
            .map(|(n, o)| format!("{n} {}", o.cycles))
            .collect();
        text.push_str(&wrapped(&format!(
            "{}: {} x {} PEs, {} words of registers each; cycles by operator: {}",
            x.name,
            x.rows,
            x.columns,
            x.registers.words,
            operators.join(", ")
        )));
    }
    text.push_str(&format!("area {:.1} mm^2\n", area.total().0 * 1e-6));
    output::print(&text)
}

fn mapping(m: &MappingSpec, format: DescribeFormat) -> Result<(), Problems> {
    only(format, "a mapping")?;
    if format == DescribeFormat::Json {
        let blocks: Vec<Value> = m
            .blocks
            .iter()
            .map(|b| {
                let einsums: Vec<&str> = b.nests.iter().flat_map(|n| n.einsums.iter().map(|(n, _)| n.text.as_str())).collect();
                json!({
                    "name": b.name,
                    "loops": b.loops.iter().map(|l| &l.text).collect::<Vec<_>>(),
                    "einsums": einsums,
                    "phases": b.phases.iter().map(|p| json!({"name": p.name, "einsums": p.einsums.iter().map(|e| &e.text).collect::<Vec<_>>()})).collect::<Vec<_>>(),
                })
            })
            .collect();
        return output::json(&json!({
            "name": m.name,
            "workload": m.workload.text,
            "accelerator": m.accelerator.as_ref().map(|a| &a.text),
            "blocks": blocks,
        }));
    }
    let mut text = wrapped(&format!("{}: {}", m.name, m.description));
    text.push_str(&wrapped(&format!("source: {}", m.cited)));
    let on = m
        .accelerator
        .as_ref()
        .map_or(String::new(), |a| format!(" on {}", a.text));
    text.push_str(&format!("maps {}{on}\n", m.workload.text));
    for b in &m.blocks {
        let loops: Vec<&str> = b
            .loops
            .iter()
            .chain(&b.searched_loops)
            .map(|l| l.text.as_str())
            .collect();
        text.push_str(&wrapped(&format!(
            "block {}: loops {}",
            b.name,
            loops.join(" > ")
        )));
        for n in &b.nests {
            for (name, e) in &n.einsums {
                text.push_str(&format!("  {} on {}\n", name.text, e.unit.text));
            }
        }
        for p in &b.phases {
            let names: Vec<&str> = p.einsums.iter().map(|e| e.text.as_str()).collect();
            text.push_str(&wrapped(&format!(
                "  phase {}: {}",
                p.name,
                names.join(", ")
            )));
        }
    }
    output::print(&text)
}

/// Prints the passes of a cascade and why there are so many.
pub fn print_passes(c: &Cascade, report: &PassReport, format: Format) -> Result<(), Problems> {
    match format {
        Format::Json => output::print(&pretty(&passes_json(report))),
        Format::Csv => {
            let rows: String = report
                .passes
                .iter()
                .map(|(rank, p)| format!("{rank},{}\n", p.count))
                .collect();
            output::print(&format!("rank,passes\n{rows}"))
        }
        Format::Table => {
            let mut text = format!("{}\n", c.name);
            for (rank, p) in &report.passes {
                text.push_str(&format!(
                    "{rank}: {} pass{}\n",
                    p.count,
                    if p.count == 1 { "" } else { "es" }
                ));
                for why in &p.why {
                    text.push_str(&wrapped(&format!("          {why}")));
                }
            }
            for live in &report.live {
                let what = if live.whole_fiber {
                    "whole fiber"
                } else {
                    "summary"
                };
                text.push_str(&wrapped(&format!(
                    "live      {} over {}: {what} of {}; {}",
                    live.tensor,
                    live.rank,
                    live.fiber.join(" x "),
                    live.why
                )));
            }
            output::print(&text)
        }
    }
}

fn passes_json(report: &PassReport) -> Value {
    let counts: Map<String, Value> = report
        .passes
        .iter()
        .map(|(rank, p)| (rank.clone(), json!(p.count)))
        .collect();
    let mut live: Vec<&str> = Vec::new();
    for l in &report.live {
        if !live.contains(&l.tensor.as_str()) {
            live.push(&l.tensor);
        }
    }
    let why: Vec<String> = report
        .passes
        .iter()
        .flat_map(|(rank, p)| p.why.iter().map(move |w| format!("{rank}: {w}")))
        .collect();
    let detail: Vec<Value> = report
        .live
        .iter()
        .map(|l| json!({"tensor": l.tensor, "rank": l.rank, "fiber": l.fiber, "whole_fiber": l.whole_fiber, "why": l.why}))
        .collect();
    json!({"passes": counts, "live": live, "why": why, "live_detail": detail})
}
