//! Reports of scenarios as tables of 80 columns, and as CSV.

use comfy_table::{CellAlignment, Table};

use einflow_output::render;
use einflow_serving::offload::{Report, report::DeviceUse, values::Checked};

pub fn check_text(checked: &Checked) -> String {
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

pub fn table(r: &Report) -> String {
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
fn alike(r: &Report) -> Vec<(String, &DeviceUse)> {
    let mut out: Vec<(String, &DeviceUse, u64)> = Vec::new();
    for device in &r.devices {
        let pool = |name: &str| name.rsplit_once('/').map(|(p, _)| p.to_string());
        let same = |d: &DeviceUse| {
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

pub fn side_by_side(a: &Report, b: &Report) -> String {
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
pub fn csv(reports: &[&Report]) -> String {
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
