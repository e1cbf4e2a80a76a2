//! `predict` and `fit`.

use std::{collections::BTreeMap, path::Path};

use comfy_table::{CellAlignment, ContentArrangement, Table as Shown, presets};
use einflow_arch::device::{Chip, Device, Times, devices};
use einflow_spec::{
    Problem, Problems, Source, files,
    quantity::{Bytes, BytesPerSecond, OperationsPerSecond},
};
use serde_json::{Map, Value, json};

use super::{
    args::{FitArguments, Format, LaunchMode, PredictArguments},
    output,
};
use einflow_output::plot;
use einflow_serving::data::data;
use einflow_serving::device::{
    Answerer, Launch,
    file::{self, Heading},
    fit::{FittedLaw, fit_all, fit_links},
    predict::{GroupError, Predicted, predict},
    table::Table,
};

fn launch(mode: Option<LaunchMode>) -> Option<Launch> {
    mode.map(|mode| match mode {
        LaunchMode::Eager => Launch::Eager,
        LaunchMode::Graph => Launch::Graph,
    })
}

/// A table by path, or by its path in the embedded set (`data/h200/gemm-bf16.csv`).
fn table(path: &Path, mode: Option<LaunchMode>) -> Result<Table, Problems> {
    let name = path.display().to_string();
    let source = match files::existing_text(path) {
        Some(text) => Source::new(name, text?),
        None => data(&name, None)
            .map_err(|p| p.help("a path, or a table of the embedded set: data/h200/..."))?,
    };
    Table::read(&source, launch(mode))
}

/// Predicts a table's rows.
pub fn predicted(arguments: &PredictArguments) -> Result<u8, Problems> {
    let mut answerer = Answerer::load(&arguments.device, None)?;
    answerer.extrapolate = arguments.extrapolate;
    let table = table(&arguments.table, arguments.launch)?;
    let mut found = predict(&answerer, &table)?;
    if arguments.cost {
        let device = &answerer.device;
        let price = device.price.ok_or_else(|| {
            Problem::nowhere(format!("{} has no price", device.name)).help(
                "add `price: (source: ..., per_hour: ...)` to its file, in US dollars, or leave out --cost",
            )
        })?;
        found.add_cost(price);
    }
    match arguments.format {
        Format::Csv => output::print(&csv(&found))?,
        Format::Json => output::json(&document(&found))?,
        Format::Table => output::print(&text(&found))?,
    }
    if arguments.format == Format::Csv {
        // Standard output is the table's alone.
        eprint!("{}", summary(&found));
    }
    if let Some(folder) = &arguments.plot {
        let name = arguments.table.file_stem().unwrap_or_default();
        let name = format!("{}-{}", found.device, name.to_string_lossy());
        plot::save(&plot::predicted(&found, &name), folder)?;
    }
    Ok(0)
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |v| match v.abs() {
        // Dollars of a kernel, and joules of a small one.
        small if small < 1e-2 && small > 0.0 => format!("{v:.4e}"),
        _ => format!("{v:.4}"),
    })
}

/// Columns of the rows beyond the table's own: predictions, errors and flags.
fn extra(found: &Predicted) -> Vec<String> {
    let predictions = found.columns.iter().map(|(_, name)| name.clone());
    let errors = found.columns.iter().map(|(_, name)| error_name(name));
    predictions
        .chain(errors)
        .chain(["flags".to_string()])
        .collect()
}

fn error_name(prediction: &str) -> String {
    match prediction {
        "predicted_us" => "error".into(),
        name => name.replacen("predicted_", "error_", 1),
    }
}

fn csv(found: &Predicted) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    let header = found.header.iter().cloned().chain(extra(found));
    let _ = writer.write_record(header);
    for row in &found.rows {
        let cells = row.cells.iter().cloned();
        let predicted = row.predicted.iter().map(|p| number(*p));
        let errors = row.errors().into_iter().map(number);
        let flags = std::iter::once(row.flags.join("; "));
        let _ = writer.write_record(cells.chain(predicted).chain(errors).chain(flags));
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

fn document(found: &Predicted) -> Value {
    let rows = found.rows.iter().map(|row| {
        let mut out = Map::new();
        for (name, cell) in found.header.iter().zip(&row.cells) {
            let value = match cell.parse::<f64>() {
                Ok(number) if number.is_finite() => json!(number),
                _ => json!(cell),
            };
            out.insert(name.clone(), value);
        }
        let errors = row.errors();
        for ((_, name), (predicted, error)) in
            found.columns.iter().zip(row.predicted.iter().zip(errors))
        {
            out.insert(name.clone(), json!(predicted));
            out.insert(error_name(name), json!(error));
        }
        out.insert("flags".into(), json!(row.flags));
        Value::Object(out)
    });
    let groups = found.groups().into_iter().map(|g| {
        json!({
            "group": if g.group.is_empty() { "all" } else { &g.group },
            "column": g.column,
            "rows": g.rows,
            "mean_error": g.mean,
            "worst_error": g.worst,
        })
    });
    json!({
        "device": found.device,
        "rows": rows.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
    })
}

fn shown(header: &[&str]) -> Shown {
    let mut table = Shown::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(einflow_output::render::WIDTH)
        .set_header(header.to_vec());
    table
}

fn align(table: &mut Shown) {
    for (i, column) in table.column_iter_mut().enumerate() {
        if i > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn text(found: &Predicted) -> String {
    let mut table = shown(&["row", "measured", "predicted", "error"]);
    for row in &found.rows {
        let own = found.header.iter().zip(&row.cells);
        let key: Vec<String> = own
            .filter(|(name, _)| !found.columns.iter().any(|(c, _)| c == *name))
            .map(|(name, cell)| match cell.parse::<f64>() {
                Ok(_) => format!("{name}={cell}"),
                Err(_) => cell.clone(),
            })
            .collect();
        let errors = row.errors();
        for (at, (column, prediction)) in found.columns.iter().enumerate() {
            if row.predicted[at].is_none() {
                continue;
            }
            let name = match found.columns.len() {
                1 => key.join(" "),
                _ if column.is_empty() => format!("{} {prediction}", key.join(" ")),
                _ => format!("{} {column}", key.join(" ")),
            };
            let flag = if row.flags.is_empty() { "" } else { " *" };
            table.add_row(vec![
                format!("{name}{flag}"),
                row.measured[at].map_or("-".into(), |m| format!("{m:.3}")),
                row.predicted[at].map_or("-".into(), |p| match p {
                    p if p < 1e-2 => format!("{p:.3e}"),
                    p => format!("{p:.3}"),
                }),
                errors[at].map_or("-".into(), percent),
            ]);
        }
    }
    align(&mut table);
    format!("{}\n\n{}", trimmed(&table), summary(found))
}

fn trimmed(table: &Shown) -> String {
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_string()).collect();
    lines.join("\n")
}

fn percent(error: f64) -> String {
    format!("{:+.1} %", 100.0 * error)
}

/// Mean and worst of each group, and what makes rows less sure.
fn summary(found: &Predicted) -> String {
    let mut out = String::new();
    let groups: Vec<GroupError> = found.groups();
    if groups.is_empty() {
        out.push_str("nothing was measured to compare with\n");
    } else {
        let mut table = shown(&["group", "column", "rows", "mean error", "worst"]);
        for g in &groups {
            table.add_row(vec![
                if g.group.is_empty() {
                    "all".to_string()
                } else {
                    g.group.clone()
                },
                g.column.clone(),
                g.rows.to_string(),
                format!("{:.1} %", 100.0 * g.mean),
                percent(g.worst),
            ]);
        }
        align(&mut table);
        out.push_str(&trimmed(&table));
        out.push('\n');
    }
    let mut flags: BTreeMap<&str, usize> = BTreeMap::new();
    for flag in found.rows.iter().flat_map(|r| &r.flags) {
        *flags.entry(flag).or_insert(0) += 1;
    }
    for (flag, rows) in flags {
        out.push_str(&format!("* {flag}: {rows} rows\n"));
    }
    if found.others > 0 {
        out.push_str(&format!(
            "{} rows of other devices left out\n",
            found.others
        ));
    }
    out
}

/// A chip of which nothing is known: a law's fractions are then of these numbers.
const ASSUMED: Chip = Chip {
    units: 132,
    matrix: OperationsPerSecond(1e15),
    matrix_8bit: None,
    memory: Bytes(80_000_000_000),
    bandwidth: BytesPerSecond(3e12),
    cache: Bytes(50_000_000),
};

/// Fits a device to tables.
pub fn fitted(arguments: &FitArguments) -> Result<u8, Problems> {
    let mut problems = Problems::new();
    let mut tables = Vec::new();
    for path in &arguments.table {
        tables.extend(problems.absorb(table(path, arguments.launch)));
    }
    let base = match &arguments.device {
        None => None,
        Some(name) => problems.absorb(
            devices()
                .find(name, None)
                .map_err(Problems::from)
                .and_then(|(source, _)| Device::parse(&source)),
        ),
    };
    problems.into_result(Some(()))?;
    let mut known = BTreeMap::new();
    let (chip, chip_source, like) = match &base {
        None => (
            ASSUMED,
            "assumed: no --device was named".into(),
            String::new(),
        ),
        Some(base) => {
            if let Times::Laws(laws) = &base.times {
                let values = laws.iter().map(|(k, l)| (k.clone(), l.values.clone()));
                known.extend(values);
            }
            (
                base.chip,
                format!("that of {}: {}", base.name, base.cited),
                base.name.clone(),
            )
        }
    };
    let name = match (&arguments.name, like.is_empty()) {
        (Some(name), _) => name.clone(),
        (None, false) => like.clone(),
        (None, true) => "fitted".into(),
    };
    let of = if like.is_empty() { &name } else { &like };
    // Tables of one device that is not named: all their rows.
    let mut devices: Vec<String> = tables
        .iter()
        .flat_map(|t| t.rows.iter().filter_map(|r| r.device.clone()))
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let of = match (arguments.device.is_none(), devices.as_slice()) {
        (true, [only]) => only.clone(),
        (true, [_, _, ..]) => {
            return Err(Problem::nowhere("the tables have rows of several devices")
                .help(format!("name one with --device: {}", devices.join(", ")))
                .into());
        }
        _ => of.clone(),
    };
    let found = fit_all(&of, &chip, &tables, &known).map_err(|message| {
        Problem::nowhere(message)
            .help("measure more rows, or name a --device whose laws it can start from")
    })?;
    let links = fit_links(&tables).map_err(Problem::nowhere)?;
    if found.is_empty() && links.is_empty() {
        return Err(Problem::nowhere(format!("no measured time of a kernel of {of}"))
            .help("tables of products, attention, passes over memory and layers' parts can be fitted")
            .into());
    }
    let heading = Heading {
        name,
        chip,
        chip_source,
    };
    let mut text = String::new();
    if !found.is_empty() {
        text.push_str(&file::device(&heading, &found));
    }
    for (link, operations) in &links {
        text.push_str(&format!("// Of the link {link}:\n"));
        text.push_str(&file::laws("operations", operations));
    }
    match &arguments.out {
        None => output::print(&text)?,
        Some(path) => std::fs::write(path, &text)
            .map_err(|e| Problem::nowhere(format!("cannot write {}: {e}", path.display())))?,
    }
    let all: Vec<FittedLaw> = found
        .into_iter()
        .chain(links.into_values().flatten())
        .collect();
    eprint!("{}", fits(&all));
    Ok(0)
}

fn fits(found: &[FittedLaw]) -> String {
    let mut table = shown(&["law", "times", "mean error", "worst"]);
    for law in found {
        table.add_row(vec![
            law.name.clone(),
            law.samples.to_string(),
            format!("{:.1} %", 100.0 * law.fit.error.0),
            format!("{:.0} %", 100.0 * law.fit.error.1),
        ]);
    }
    align(&mut table);
    format!("{}\n", trimmed(&table))
}
