//! `offload`.

mod json;
mod text;

use std::{fs::File, path::Path};

use einflow_spec::{Problem, Problems};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{
    args::{Format, OffloadArguments},
    commands, interrupt, output,
};
use einflow_output::plot;
use einflow_serving::offload::{
    Report, Scenario, System,
    curve::by_batch,
    report,
    serve::{Options, Served, Watch},
    timeline,
    values::{self, Checked},
};

/// Tokens so far, on standard error; an interrupt stops the run.
pub(super) struct Bar(pub(super) ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
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
        let mut problems = Problems::new();
        let found = [a, b].map(|name| problems.absorb(run(name, options)).map(|(found, _)| found));
        let [Some(a), Some(b)] = &found else {
            // What was computed is shown even where the other cannot be.
            for one in found.iter().flatten() {
                output::print(&match arguments.format {
                    Format::Json => commands::pretty(&json::document(one)),
                    Format::Csv => text::csv(&[one]),
                    Format::Table => text::table(one),
                })?;
            }
            return Err(problems);
        };
        match arguments.format {
            Format::Json => {
                output::json(&serde_json::json!({"a": json::document(a), "b": json::document(b)}))?
            }
            Format::Csv => output::print(&text::csv(&[a, b]))?,
            Format::Table => output::print(&text::side_by_side(a, b))?,
        }
        if let Some(folder) = &arguments.plot {
            let figure = plot::offload_compared(&[a, b]);
            plot::save(&figure, folder)?;
        }
        return Ok(code(&[a, b]));
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
            let mut document = json::document(&found);
            if let (Some(checked), Value::Object(object)) = (&checked, &mut document) {
                object.insert("check".into(), json::check_document(checked));
            }
            output::json(&document)?;
        }
        Format::Csv => output::print(&text::csv(&[&found]))?,
        Format::Table => {
            let mut out = text::table(&found);
            if let Some(checked) = &checked {
                out.push_str(&text::check_text(checked));
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
    if let Some(path) = &arguments.requests {
        let rows: Vec<_> = served.by_request().collect();
        std::fs::write(path, super::replay::csv(&rows))
            .map_err(|e| Problem::nowhere(format!("cannot write {}: {e}", path.display())))?;
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
    interrupt::code(reports.iter().any(stopped))
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
