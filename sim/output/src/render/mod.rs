//! Reports as text: tables that fit 80 columns, and CSV.

mod compared;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

pub use compared::compare;
pub(crate) use compared::run_names;
use einflow_engine::{
    check::{Check, real_length::Reference},
    report::{LowerBound, Report},
    units::{length, percent, si},
};

/// Columns of a terminal that every table fits.
pub const WIDTH: u16 = 80;

/// An empty table with these columns.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table.set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

/// Right-aligns every column but the first `left`, and gives the text.
pub fn finish(mut table: Table, left: usize) -> String {
    for (i, column) in table.column_iter_mut().enumerate() {
        if i >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// What a report is of, in a line.
pub fn title(report: &Report) -> String {
    let i = &report.inputs;
    let model = i
        .model
        .as_deref()
        .map(|m| format!(", {m}"))
        .unwrap_or_default();
    let tokens = i
        .length
        .map(|l| format!(", {} tokens", length(l)))
        .unwrap_or_default();
    format!(
        "{} on {}, {}{model}{tokens}",
        i.mapping, i.accelerator, i.workload
    )
}

/// How many times a bound something is; `-` where the bound is nothing.
fn times(value: f64, bound: f64) -> String {
    match bound > 0.0 {
        true => format!("{:.2}x", value / bound),
        false => "-".into(),
    }
}

/// One run in full.
pub fn run(report: &Report) -> String {
    let mut out = wrapped(&title(report));
    let seconds = report.seconds();
    let (_, _, dram) = report.dram_bytes();
    out.push_str(&format!(
        "time      {} ({} cycles), bound by {}\n",
        si(seconds, "s"),
        report.cycles(),
        report.bottleneck()
    ));
    // What computes nothing, or moves nothing, is no multiple of its bound.
    let multiple = |what: &str, value: f64, bound: f64| match bound > 0.0 {
        true => format!(" ({what} {})", times(value, bound)),
        false => String::new(),
    };
    let LowerBound {
        compute_seconds: compute,
        dram_bytes: moved,
        ..
    } = report.lower_bound;
    out.push_str(&wrapped(&format!(
        "bounds    compute {}{}, {} traffic {}{}",
        si(compute, "s"),
        multiple("the run takes", seconds, compute),
        report.outermost,
        si(moved as f64, "B"),
        multiple("it moves", dram as f64, moved as f64),
    )));
    out.push_str(&format!(
        "energy    {}; area {:.1} mm^2\n",
        si(report.energy_pj() * 1e-12, "J"),
        report.area_um2() * 1e-6
    ));
    let inputs = &report.inputs;
    let by_block = |name: &String| {
        inputs
            .block_sizes
            .iter()
            .any(|(_, own)| own.contains_key(name))
    };
    let listed = |sizes: &mut dyn Iterator<Item = (&String, &u64)>| {
        let sizes: Vec<String> = sizes.map(|(name, size)| format!("{name}={size}")).collect();
        sizes.join(" ")
    };
    let shared = listed(&mut inputs.sizes.iter().filter(|(name, _)| !by_block(name)));
    out.push_str(&wrapped(&format!("sizes     {shared}")));
    for (block, own) in &inputs.block_sizes {
        out.push_str(&wrapped(&format!(
            "          {block}: {}",
            listed(&mut own.iter())
        )));
    }
    for overridden in &inputs.overridden {
        out.push_str(&wrapped(&format!("          {overridden}")));
    }
    if !report.uncharged.is_empty() {
        out.push_str(&wrapped(&format!(
            "uncharged (nothing published, 0 pJ assumed): {}",
            report.uncharged.join(", ")
        )));
    }
    if let Some(check) = &report.check {
        out.push_str(&checked(check));
    }
    for unit in report.units.keys() {
        out.push_str(&format!(
            "\n{unit}: {} utilized\n",
            percent(report.utilization(unit))
        ));
        let mut t = table(&["Einsum", "utilization", "PE-cycles"]);
        for (name, share) in report.utilization_by_einsum(unit) {
            let busy = report.units[unit].busy.get(&name).copied().unwrap_or(0);
            t.add_row([name, percent(share), busy.to_string()]);
        }
        out.push_str(&finish(t, 1));
    }
    out.push_str(&cycles(report));
    if report.blocks.len() > 1 {
        out.push_str("\nblocks\n");
        let mut t = table(&["block", "time", "compute", "memory", "bound by"]);
        for b in &report.blocks {
            let memory = b.memory.values().map(|c| c.as_f64()).fold(0.0, f64::max) / report.clock;
            t.add_row([
                b.name.clone(),
                si(b.time.as_f64() / report.clock, "s"),
                si(b.compute as f64 / report.clock, "s"),
                si(memory, "s"),
                b.bottleneck.clone(),
            ]);
        }
        out.push_str(&finish(t, 1));
    }
    for (memory, tensors) in &report.traffic {
        out.push_str(&format!("\n{memory}: words by tensor"));
        if let Some(bytes) = report.occupancy.get(memory) {
            out.push_str(&format!(
                ", {} held at the worst moment",
                si(*bytes as f64, "B")
            ));
        }
        out.push('\n');
        let mut t = table(&["tensor", "read", "written"]);
        for (tensor, access) in tensors {
            t.add_row([
                tensor.clone(),
                access.reads.rounded().to_string(),
                access.writes.rounded().to_string(),
            ]);
        }
        out.push_str(&finish(t, 1));
    }
    out.push_str("\nenergy by component\n");
    let total = report.energy_pj();
    let mut t = table(&["component", "energy", "share"]);
    for (component, pj) in report.energy_by_component() {
        // Where nothing costs energy, nothing has a share of it.
        let share = if total > 0.0 {
            percent(pj / total)
        } else {
            "-".into()
        };
        t.add_row([component, si(pj * 1e-12, "J"), share]);
    }
    out.push_str(&finish(t, 1));
    out
}

/// What a check found, in full.
fn checked(check: &Check) -> String {
    let mut out = String::new();
    match &check.miniature {
        Err(error) => out.push_str(&wrapped(&format!("check     not in miniature: {error}"))),
        Ok(m) => {
            let sizes: Vec<String> = m.sizes.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let arrays: Vec<String> = m
                .arrays
                .iter()
                .map(|(n, r, c)| format!("{n} {r} x {c}"))
                .collect();
            out.push_str(&wrapped(&format!(
                "check     in miniature ({}; {}; {}, sums in {}): off {} by {:.1e} at most, {:.1e} of the largest value; {}; {}",
                arrays.join(", "),
                sizes.join(" "),
                m.formats.0,
                m.formats.1,
                of(m.reference),
                m.errors.max_abs,
                m.errors.max_rel,
                if m.as_interpreted { "bit by bit what the reference interpreter computes" } else { "sums in another order than the reference interpreter's" },
                if m.cycles.0 == m.cycles.1 { format!("{} cycles on every PE's and on the cycle engine", m.cycles.0) } else { format!("{} cycles on every PE's engine, {} on the cycle engine", m.cycles.0, m.cycles.1) },
            )));
            if let Some(e) = &m.as_listed {
                out.push_str(&wrapped(&format!(
                    "          with functions as the accelerator's operators compute them: off by {:.1e}, {:.1e} of the largest value",
                    e.max_abs, e.max_rel
                )));
            }
            for condition in &m.toothless {
                out.push_str(&wrapped(&format!(
                    "          not checked: `{condition}`, which leaves out no point of the miniature, or every one"
                )));
            }
        }
    }
    match &check.real_length {
        None => {}
        Some(Err(error)) => out.push_str(&wrapped(&format!(
            "          not at the real length: {error}"
        ))),
        Some(Ok(r)) => {
            let query = r.mask.as_ref().map_or("one query".into(), |mask| {
                let seen = match mask.keys < r.length {
                    true => format!(", which sees {},", mask.keys),
                    false => String::new(),
                };
                format!("query {}{seen}", mask.query)
            });
            out.push_str(&wrapped(&format!(
                "          {query} against {} keys (E={}, F={}), all in {}: off {} by {:.1e} of the largest value; with exact functions by {:.1e}",
                length(r.length), r.e, r.f, r.format, of(r.reference), r.max_rel_error, r.exact_exponential.max_rel
            )));
            if let Some(s) = &r.stagnation {
                let end = s
                    .stopped
                    .map(|m| format!(", and nothing from key {m} on"))
                    .unwrap_or_default();
                let cure = s.cure.map_or("no format cures it".into(), |f| {
                    format!("{f} for running values cures it")
                });
                out.push_str(&wrapped(&format!(
                    "          {} in {} loses {} of {} increments, the first at key {}{end}: it ends {} too small; {cure}",
                    s.tensor, r.format, s.lost, s.steps, s.key, percent(s.relative_error)
                )));
            }
        }
    }
    out
}

fn of(reference: Reference) -> &'static str {
    match reference {
        Reference::Attention => "softmax attention",
        Reference::Interpreter => "the cascade in 64 bits",
    }
}

/// Where every cycle goes, and why there are more than the analytic engine counts.
pub fn cycles(report: &Report) -> String {
    let Some(account) = &report.account else {
        return String::new();
    };
    let total = report.cycles();
    let mut out = String::new();
    for (unit, activities) in &account.units {
        out.push_str(&format!("\n{unit}: where its cycles go\n"));
        let mut t = table(&["activity", "cycles", "share"]);
        for (activity, cycles) in activities.iter().filter(|(_, c)| **c > 0) {
            let share = *cycles as f64 / total.max(1) as f64;
            t.add_row([activity.text(), cycles.to_string(), percent(share)]);
        }
        out.push_str(&finish(t, 1));
    }
    let analytic = account.analytic.ceiling();
    out.push('\n');
    out.push_str(&wrapped(&format!(
        "cycles beyond the analytic engine's {analytic}, as {} has them",
        account.paced_by
    )));
    let mut t = table(&["item", "cycles"]);
    for item in &account.items {
        t.add_row([item.what.clone(), item.cycles.to_string()]);
    }
    t.add_row(["all".into(), (total as i128 - analytic as i128).to_string()]);
    out.push_str(&finish(t, 1));
    let rounding = account.request_rounding.as_f64();
    if rounding > 0.0 {
        out.push_str(&wrapped(&format!(
            "{}: requests take whole cycles, {rounding:.0} more than their bytes over the bandwidth",
            report.outermost
        )));
    }
    out
}

/// Breaks a line at spaces so that it fits the terminal; continuation lines are indented.
pub fn wrapped(text: &str) -> String {
    let indent = text.len() - text.trim_start().len();
    let mut line = " ".repeat(indent);
    let mut out = String::new();
    for word in text.trim_start().split(' ') {
        let full = line.chars().count() + 1 + word.chars().count() > usize::from(WIDTH) - 1;
        if full && !line.trim().is_empty() {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(10);
        } else if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

/// A quantity without the space before its unit, for narrow columns.
fn tight(value: f64, unit: &str) -> String {
    si(value, unit).replace(' ', "")
}

/// `fusemax-binding` as `+binding`.
pub fn short_name(mapping: &str) -> String {
    mapping
        .strip_prefix("fusemax-")
        .map_or_else(|| mapping.to_string(), |rest| format!("+{rest}"))
}

/// Rows of a sweep: some of their columns, numbers to four digits.
pub fn sweep_rows(
    header: &csv::StringRecord,
    rows: &[csv::StringRecord],
    columns: &[&str],
) -> String {
    let shown: Vec<usize> = (0..header.len())
        .filter(|i| columns.contains(&&header[*i]))
        .collect();
    // The last step of a path says enough, where it says it alone.
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
    let only = |name: &str| {
        shown
            .iter()
            .filter(|i| last(&header[**i]) == last(name))
            .count()
            == 1
    };
    let head: Vec<String> = shown
        .iter()
        .map(|i| {
            let name = &header[*i];
            if only(name) {
                last(name)
            } else {
                name.to_string()
            }
        })
        .collect();
    let mut t = table(&head.iter().map(String::as_str).collect::<Vec<_>>());
    let cell = |text: &str| match text.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() < 1e6 => text.to_string(),
        Ok(value) => tight(value, ""),
        Err(_) => short_name(text),
    };
    for row in rows {
        t.add_row(shown.iter().map(|i| cell(row.get(*i).unwrap_or_default())));
    }
    finish(t, 0)
}

/// Runs as CSV: one row a run, the scalar results.
pub fn csv(reports: &[Report]) -> String {
    let units: Vec<String> = reports
        .first()
        .map(|r| r.units.keys().cloned().collect())
        .unwrap_or_default();
    let mut header: Vec<String> = [
        "model",
        "length",
        "workload",
        "accelerator",
        "mapping",
        "engine",
    ]
    .map(String::from)
    .to_vec();
    // A column that would be empty in every row says nothing.
    let set = reports.iter().any(|r| !r.inputs.set.is_empty());
    header.extend(set.then(|| "set".to_owned()));
    header.extend(["cycles", "seconds"].map(String::from));
    header.extend(
        [
            "dram_read_bytes",
            "dram_write_bytes",
            "dram_bytes",
            "energy_pj",
            "area_um2",
        ]
        .map(String::from),
    );
    header.extend(units.iter().map(|u| format!("utilization_{u}")));
    header.extend(
        [
            "bottleneck",
            "lower_bound_compute_seconds",
            "lower_bound_dram_bytes",
        ]
        .map(String::from),
    );
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut rows = vec![header];
    for r in reports {
        let i = &r.inputs;
        let (read, write, total) = r.dram_bytes();
        let mut row = vec![
            i.model.clone().unwrap_or_default(),
            i.length.map(|l| l.to_string()).unwrap_or_default(),
            i.workload.clone(),
            i.accelerator.clone(),
            i.mapping.clone(),
            i.engine.to_string(),
        ];
        let changed = i.set.iter().map(|(path, value)| format!("{path}={value}"));
        row.extend(set.then(|| changed.collect::<Vec<_>>().join(";")));
        row.extend([
            r.cycles().to_string(),
            r.seconds().to_string(),
            read.to_string(),
            write.to_string(),
            total.to_string(),
            r.energy_pj().to_string(),
            r.area_um2().to_string(),
        ]);
        row.extend(units.iter().map(|u| r.utilization(u).to_string()));
        row.push(r.bottleneck());
        row.push(r.lower_bound.compute_seconds.to_string());
        row.push(r.lower_bound.dram_bytes.to_string());
        rows.push(row);
    }
    for row in rows {
        // Writing to memory cannot fail.
        let _ = writer.write_record(&row);
    }
    writer
        .into_inner()
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default()
}
