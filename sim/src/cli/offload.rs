//! `offload`.

use std::{fs::File, path::Path};

use comfy_table::{CellAlignment, Table};
use einflow_spec::{Problem, Problems};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::{
    args::{Format, OffloadArguments},
    interrupt, output,
};
use crate::{
    offload::{
        Report, Scenario, System,
        curve::by_batch,
        report,
        report::{PoolMemory, Quantiles},
        serve::{Options, Served, Watch},
        timeline,
        values::{self, Checked},
    },
    plot, render,
};

/// Tokens so far, on standard error; an interrupt stops the run.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} tokens {wide_bar} {eta} left")
        {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Watch for Bar {
    fn done(&self, tokens: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(tokens);
    }

    fn stop(&self) -> bool {
        interrupt::happened()
    }
}

/// Runs a scenario, or two.
pub fn offloaded(arguments: &OffloadArguments) -> Result<u8, Problems> {
    interrupt::remember();
    let mut options = Options {
        jump: !arguments.every_layer,
        spans: 0,
    };
    if let [a, b] = arguments.compare.as_slice() {
        let (a, _) = run(a, options)?;
        let (b, _) = run(b, options)?;
        match arguments.format {
            Format::Json => output::json(&json!({"a": document(&a), "b": document(&b)}))?,
            Format::Csv => output::print(&csv(&[&a, &b]))?,
            Format::Table => output::print(&side_by_side(&a, &b))?,
        }
        if let Some(folder) = &arguments.plot {
            let figure = plot::offload_compared(&[&a, &b]);
            plot::save(&figure, folder)?;
        }
        return Ok(code(&[&a, &b]));
    }
    let name = arguments.scenario.as_deref().unwrap_or_default();
    if arguments.trace.is_some() {
        options.spans = timeline::MOST_SPANS;
    }
    let (found, served) = run(name, options)?;
    let checked = match arguments.check {
        true => Some(check(name)?),
        false => None,
    };
    match arguments.format {
        Format::Json => {
            let mut document = document(&found);
            if let (Some(checked), Value::Object(object)) = (&checked, &mut document) {
                object.insert("check".into(), check_document(checked));
            }
            output::json(&document)?;
        }
        Format::Csv => output::print(&csv(&[&found]))?,
        Format::Table => {
            let mut out = table(&found);
            if let Some(checked) = &checked {
                out.push_str(&check_text(checked));
            }
            output::print(&out)?;
        }
    }
    if let Some(folder) = &arguments.plot {
        let curve = by_batch(&Scenario::load(name)?, &found, &Bar::new())?;
        for figure in plot::offloaded(&found, &curve) {
            plot::save(&figure, folder)?;
        }
    }
    if let Some(path) = &arguments.trace {
        trace(name, &served, path)?;
    }
    let holds = checked.is_none_or(|c| c.f64.holds());
    Ok(if holds {
        code(&[&found])
    } else {
        super::OUT_OF_BOUNDS
    })
}

fn run(name: &str, options: Options) -> Result<(Report, Served), Problems> {
    let bar = Bar::new();
    let found = report(Scenario::load(name)?, options, &bar);
    bar.0.finish_and_clear();
    found
}

/// That of an interrupt where one came.
fn code(reports: &[&Report]) -> u8 {
    let stopped = |r: &&Report| r.flags.iter().any(|f| f.starts_with("stopped after"));
    if interrupt::happened() && reports.iter().any(stopped) {
        interrupt::STOPPED
    } else {
        0
    }
}

fn trace(name: &str, served: &Served, path: &Path) -> Result<(), Problems> {
    let system = System::new(Scenario::load(name)?)?;
    let wrong =
        |e: std::io::Error| Problem::nowhere(format!("cannot write {}: {e}", path.display()));
    let mut file = File::create(path).map_err(wrong)?;
    timeline::write(&system, served, &mut file).map_err(wrong)?;
    eprintln!(
        "{}: the first {} tasks; open it at ui.perfetto.dev",
        path.display(),
        served.spans.len()
    );
    Ok(())
}

/// The scenario's split, in miniature: its heads, and a few requests of different lengths.
fn check(name: &str) -> Result<Checked, Problems> {
    let system = System::new(Scenario::load(name)?)?;
    let scenario = &system.scenario;
    let devices = match &system.attention {
        Some(pool) => pool.count(),
        None => 1,
    };
    let model = &system.model;
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    // Width does not matter to a split: small heads show the same.
    let shape = values::Shape {
        hidden: 32,
        heads: size(model.heads),
        key_heads: size(model.key_heads),
        head: 8,
        cached: vec![7, 40, 19],
    };
    let split = values::Split {
        partition: system.attends().spec.partition,
        boundary: scenario.boundary,
        overlap: scenario.overlap,
        devices: size(devices),
    };
    values::check(&shape, &split)
        .map_err(|e| Problem::nowhere(format!("the check of values: {e}")).into())
}

fn check_document(checked: &Checked) -> Value {
    json!({
        "f64": {
            "difference": checked.f64.difference,
            "bound": checked.f64.bound,
            "holds": checked.f64.holds(),
        },
        "bf16": {"difference": checked.bf16.difference},
        "apart": checked.apart,
    })
}

fn check_text(checked: &Checked) -> String {
    let verdict = if checked.f64.holds() {
        "within"
    } else {
        "BEYOND"
    };
    format!(
        "\nvalues of one layer, divided like this and undivided\n  f64: off by {:.1e}, {verdict} {:.1e} that rounding explains\n  bf16: off by {:.1e}\n",
        checked.f64.difference, checked.f64.bound, checked.bf16.difference
    )
}

fn quantiles(times: Option<Quantiles>) -> Value {
    times.map_or(
        Value::Null,
        |t| json!({"p50": t.p50, "p90": t.p90, "p99": t.p99, "mean": t.mean}),
    )
}

fn memory(pool: &PoolMemory) -> Value {
    let gb = |bytes: einflow_spec::quantity::Bytes| bytes.0 as f64 * 1e-9;
    json!({
        "pool": pool.pool,
        "device": pool.device,
        "count": pool.count,
        "total_gb": gb(pool.each.total),
        "usable_gb": gb(pool.each.usable),
        "weights_gb": gb(pool.each.weights),
        "activations_gb": gb(pool.each.activations),
        "reserved_gb": gb(pool.each.reserved),
        "cache_gb": gb(pool.each.cache),
    })
}

/// The report as JSON.
fn document(r: &Report) -> Value {
    let devices = r.devices.iter().map(|d| {
        let operators: Map<String, Value> = d
            .by_operator
            .iter()
            .map(|(name, share)| (name.to_string(), json!(share)))
            .collect();
        json!({
            "name": d.name,
            "device": d.device,
            "utilization": d.utilization,
            "by_operator": operators,
        })
    });
    let links = r.links.iter().map(|l| {
        json!({
            "name": l.name,
            "bytes": l.bytes,
            "utilization": l.utilization,
            "peak_gb_per_s": l.peak_gb_per_s,
        })
    });
    let breakdown: Map<String, Value> = r
        .breakdown
        .iter()
        .map(|(name, ms)| (name.to_string(), json!(ms)))
        .collect();
    let needed = r.needed.map_or(Value::Null, |n| {
        json!({
            "slowdown": n.slowdown,
            "aggregate_gb_per_s": n.aggregate,
            "larger_direction_gb_per_s": n.duplex,
            "per_model_device_gb_per_s": n.per_model_device,
            "per_attention_device_gb_per_s": n.per_attention_device,
        })
    });
    let balance = r.balance.map_or(Value::Null, |b| {
        json!({
            "batches": b.batches,
            "model_us": b.model,
            "attention_us": b.attention,
            "messages_us": b.messages,
            "host_us": b.host,
            "layer_us": b.layer,
            "balanced_attention_us": b.balanced,
        })
    });
    let over_time = r.batch_over_time.iter().map(|(s, n)| json!([s, n]));
    json!({
        "name": r.name,
        "description": r.description,
        "model": r.model,
        "window_s": r.window_s,
        "saturated": r.saturated,
        "throughput_tokens_per_s": r.throughput,
        "mean_batch": r.mean_batch,
        "mean_context": r.mean_context,
        "batch_over_time": over_time.collect::<Vec<_>>(),
        "time_between_tokens_ms": quantiles(r.between),
        "time_between_tokens_by_part_ms": breakdown,
        "first_token_ms": quantiles(r.first),
        "devices": devices.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "bandwidth_needed": needed,
        "memory": r.memory.iter().map(memory).collect::<Vec<_>>(),
        "cache_tokens": {"capacity": r.capacity.0, "peak_of_a_store": r.capacity.1},
        "cost": {
            "dollars_per_hour": r.dollars_per_hour,
            "tokens_per_dollar": r.tokens_per_dollar,
            "dollars_per_million_tokens": 1e6 / r.tokens_per_dollar,
        },
        "energy_j_per_token": r.joules_per_token,
        "bound_by": r.bound_by,
        "balance": balance,
        "tokens": {"generated": r.tokens.0, "wanted": r.tokens.1},
        "requests": {"finished": r.requests.0, "wanted": r.requests.1},
        "preemptions": r.preemptions,
        "assumptions": r.assumptions,
        "flags": r.flags,
    })
}

/// Name, value and unit of what there is one of.
fn headlines(r: &Report) -> Vec<(&'static str, f64, &'static str)> {
    let mut out = vec![
        ("throughput", r.throughput, "tokens/s"),
        ("batch", r.mean_batch, "requests"),
        ("context", r.mean_context, "tokens"),
    ];
    if let Some(t) = r.between {
        out.extend([
            ("time between tokens, p50", t.p50, "ms"),
            ("time between tokens, p90", t.p90, "ms"),
            ("time between tokens, p99", t.p99, "ms"),
            ("time between tokens, mean", t.mean, "ms"),
        ]);
    }
    if let Some(t) = r.first {
        out.extend([
            ("first token, p50", t.p50, "ms"),
            ("first token, p99", t.p99, "ms"),
        ]);
    }
    out.extend([
        ("price", r.dollars_per_hour, "$/h"),
        ("tokens for a dollar", r.tokens_per_dollar, ""),
        ("a million tokens", 1e6 / r.tokens_per_dollar, "$"),
        ("energy of a token", r.joules_per_token, "J"),
    ]);
    out
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{value:.3e}"),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_string(),
        _ => format!("{value:.3}"),
    }
}

fn shown(header: &[&str]) -> Table {
    let mut table = render::table(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn printed(table: &Table) -> String {
    let lines = table.to_string();
    lines
        .lines()
        .map(|l| format!("{}\n", l.trim_end()))
        .collect()
}

/// Lines of at most 80 columns, those after the first indented.
fn wrapped(text: &str, first: &str) -> String {
    let mut out = String::new();
    let mut line = first.to_string();
    let indent = " ".repeat(first.len());
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 80 && line.trim() != first.trim() {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

fn table(r: &Report) -> String {
    let mut out = format!("{}: {}\n", r.name, r.model);
    out.push_str(&wrapped(&r.description, ""));
    out.push('\n');
    let mut main = shown(&["", "", ""]);
    for (name, value, unit) in headlines(r) {
        main.add_row([name.to_string(), short(value), unit.to_string()]);
    }
    if let Some(column) = main.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    out.push_str(printed(&main).trim_start_matches('\n'));
    out.push_str(&wrapped(&r.bound_by, "bound by: "));
    if r.tokens.1 > 0 {
        let done = format!(
            "{} of {} requests done, {} of {} tokens; rates of {:.1} s{}",
            r.requests.0,
            r.requests.1,
            r.tokens.0,
            r.tokens.1,
            r.window_s,
            if r.saturated {
                ", in which some waited"
            } else {
                ""
            },
        );
        out.push_str(&wrapped(&done, ""));
    }
    let mut parts = shown(&["time between tokens", "ms"]);
    for (name, ms) in &r.breakdown {
        parts.add_row([format!("  {name}"), short(*ms)]);
    }
    out.push('\n');
    out.push_str(&printed(&parts));
    out.push('\n');
    let mut devices = shown(&["device", "busy", "with"]);
    for (names, d) in alike(r) {
        let operators: Vec<String> = d
            .by_operator
            .iter()
            .filter(|(_, share)| *share >= 0.005)
            .map(|(name, share)| format!("{name} {:.0}", 100.0 * share))
            .collect();
        let chunks: Vec<String> = operators.chunks(3).map(|c| c.join(", ")).collect();
        devices.add_row([
            format!("{names} {}", d.device),
            format!("{:.1} %", 100.0 * d.utilization),
            chunks.join(",\n"),
        ]);
    }
    if let Some(column) = devices.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    out.push_str(&printed(&devices));
    if !r.links.is_empty() {
        let mut links = shown(&["link", "busy", "GB", "peak GB/s"]);
        for l in &r.links {
            links.add_row([
                l.name.clone(),
                format!("{:.1} %", 100.0 * l.utilization),
                short(l.bytes * 1e-9),
                short(l.peak_gb_per_s),
            ]);
        }
        out.push('\n');
        out.push_str(&printed(&links));
    }
    if let Some(n) = r.needed {
        out.push_str(&wrapped(
            &format!(
                "{} GB/s in all would slow it by no more than {:.0} % ({} for each of the model's devices, {} for each of attention's; {} in all where both directions run at once)",
                short(n.aggregate),
                100.0 * n.slowdown,
                short(n.per_model_device),
                short(n.per_attention_device),
                short(n.duplex),
            ),
            "needed: ",
        ));
    }
    if let Some(b) = r.balance {
        out.push_str(&wrapped(
            &format!(
                "a layer takes a batch {} us on the model, {} in attention, {} in messages, {} on the host; all {} batches {} us. Attention of {} us would balance it.",
                short(b.model),
                short(b.attention),
                short(b.messages),
                short(b.host),
                b.batches,
                short(b.layer),
                short(b.balanced),
            ),
            "balance: ",
        ));
    }
    let mut memory = shown(&[
        "memory, GB a device",
        "of",
        "weights",
        "activations",
        "runtime",
        "cache",
    ]);
    for pool in &r.memory {
        let gb = |bytes: einflow_spec::quantity::Bytes| format!("{:.1}", bytes.0 as f64 * 1e-9);
        memory.add_row([
            format!("{} {} {}", pool.count, pool.device, pool.pool),
            gb(pool.each.usable),
            gb(pool.each.weights),
            gb(pool.each.activations),
            gb(pool.each.reserved),
            gb(pool.each.cache),
        ]);
    }
    out.push('\n');
    out.push_str(&printed(&memory));
    out.push_str(&format!(
        "room for {} tokens; the fullest store held {}; {} preemptions\n",
        r.capacity.0, r.capacity.1, r.preemptions
    ));
    out.push_str("\nassumed\n");
    for line in &r.assumptions {
        out.push_str(&wrapped(line, "  - "));
    }
    if !r.flags.is_empty() {
        out.push_str("\nless sure\n");
        for line in &r.flags {
            out.push_str(&wrapped(line, "  - "));
        }
    }
    out
}

/// Devices that did the same, together.
fn alike(r: &Report) -> Vec<(String, &crate::offload::report::DeviceUse)> {
    let mut out: Vec<(String, &crate::offload::report::DeviceUse, u64)> = Vec::new();
    for device in &r.devices {
        let pool = |name: &str| name.rsplit_once('/').map(|(p, _)| p.to_string());
        let same = |d: &crate::offload::report::DeviceUse| {
            pool(&d.name) == pool(&device.name)
                && d.utilization == device.utilization
                && d.by_operator == device.by_operator
        };
        match out.last_mut().filter(|(_, d, _)| same(d)) {
            Some((_, _, count)) => *count += 1,
            None => out.push((device.name.clone(), device, 1)),
        }
    }
    out.into_iter()
        .map(|(name, device, count)| {
            let (pool, first) = name.rsplit_once('/').unwrap_or((&name, "0"));
            let first: u64 = first.parse().unwrap_or(0);
            let range = match count {
                1 => format!("{pool}/{first}"),
                n => format!("{pool}/{first}-{}", first + n - 1),
            };
            (range, device)
        })
        .collect()
}

fn side_by_side(a: &Report, b: &Report) -> String {
    let mut out = String::new();
    for (letter, r) in [("A", a), ("B", b)] {
        out.push_str(&wrapped(
            &format!("{}: {}", r.name, r.description),
            &format!("{letter}  "),
        ));
    }
    let mut main = shown(&["", "A", "B", "A / B", ""]);
    let other = headlines(b);
    for (name, value, unit) in headlines(a) {
        let Some((_, second, _)) = other.iter().find(|(n, ..)| *n == name) else {
            continue;
        };
        let ratio = match *second {
            0.0 => String::new(),
            second => format!("{:.3}", value / second),
        };
        main.add_row([
            name.to_string(),
            short(value),
            short(*second),
            ratio,
            unit.to_string(),
        ]);
    }
    if let Some(column) = main.column_mut(4) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    out.push('\n');
    out.push_str(&printed(&main));
    for (letter, r) in [("A", a), ("B", b)] {
        out.push_str(&wrapped(&r.bound_by, &format!("{letter} is bound by: ")));
    }
    for (letter, r) in [("A", a), ("B", b)] {
        for flag in &r.flags {
            out.push_str(&wrapped(flag, &format!("{letter} is less sure: ")));
        }
    }
    out
}

/// One line for each number: scenario, what, of what, value.
fn csv(reports: &[&Report]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(["scenario", "quantity", "of", "value"]);
    let mut line = |r: &Report, what: &str, of: &str, value: String| {
        let _ = writer.write_record([r.name.as_str(), what, of, &value]);
    };
    for r in reports {
        for (name, value) in r.metrics() {
            line(r, &name, "", value.to_string());
        }
        for (name, ms) in &r.breakdown {
            line(r, "time_between_tokens_by_part_ms", name, ms.to_string());
        }
        for d in &r.devices {
            line(r, "utilization", &d.name, d.utilization.to_string());
            for (operator, share) in &d.by_operator {
                let of = format!("{} {operator}", d.name);
                line(r, "utilization_by_operator", &of, share.to_string());
            }
        }
        for l in &r.links {
            line(r, "link_bytes", &l.name, l.bytes.to_string());
            line(r, "link_utilization", &l.name, l.utilization.to_string());
            line(
                r,
                "link_peak_gb_per_s",
                &l.name,
                l.peak_gb_per_s.to_string(),
            );
        }
        for (seconds, batch) in &r.batch_over_time {
            line(r, "batch_at_s", &seconds.to_string(), batch.to_string());
        }
        for flag in &r.flags {
            line(r, "flag", "", flag.clone());
        }
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}
