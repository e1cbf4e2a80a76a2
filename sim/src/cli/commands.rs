use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::CommandFactory;
use einflow_spec::{Problem, Problems};
use einflow_workloads::analysis::passes;
use indexmap::IndexMap;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::Value;

use super::{
    OUT_OF_BOUNDS,
    args::{self, Arguments, Command, Format},
    describe, device,
    eval::print_eval,
    explain,
    list::{list, man},
    offload, output, replay,
    run::one,
};
use crate::{
    eval::{EvalRequest, eval},
    npz::StoredAs,
    runs::RunFile,
    validate,
};
use einflow_engine::{
    catalog::Catalog,
    check::Depth,
    request::{Accounting, Engine, Request},
};
use einflow_engine::{
    report::Report,
    units::{LENGTHS, parse_length},
};
use einflow_output::{
    plot::{self, Figure},
    render,
};

/// Runs a command; the value is the exit code.
pub fn run(arguments: &Arguments) -> Result<u8, Problems> {
    match &arguments.command {
        Command::Compare {
            run,
            accounting,
            engine,
            no_check,
            plot,
            format,
        } => {
            let plot = plot.as_deref();
            let check = if *no_check {
                None
            } else {
                Some(Depth::Functions)
            };
            let how = (engine_of(engine)?, check);
            compare(run.as_deref(), (*accounting).into(), how, plot, *format)
        }
        Command::Run(run) => one(run),
        Command::Predict(arguments) => device::predicted(arguments),
        Command::Fit(arguments) => device::fitted(arguments),
        Command::Replay(arguments) => replay::replayed(arguments),
        Command::Offload(arguments) => offload::offloaded(arguments),
        Command::Eval {
            cascade,
            input,
            output,
            number_format,
            accumulator,
            size,
            allow_nan,
            stored_as,
            format,
        } => {
            let found = Catalog::new().cascade(cascade, None, &[])?;
            let report = eval(&EvalRequest {
                cascade: &found,
                input: input.clone(),
                output: output.clone(),
                number_format: number_format.parse()?,
                accumulator: accumulator.as_deref().map(str::parse).transpose()?,
                sizes: sizes(size)?,
                allow_nan: *allow_nan,
                stored_as: StoredAs::parse(stored_as)?,
            })?;
            print_eval(&found.name, &report, *format)
        }
        Command::Passes { cascade, format } => {
            let found = Catalog::new().cascade(cascade, None, &[])?;
            describe::print_passes(&found, &passes(&found), *format)?;
            Ok(0)
        }
        Command::Describe {
            name,
            model,
            length,
            size,
            devices,
            format,
        } => {
            let shape = describe::Shape {
                model,
                length: length_of(length)?,
                sizes: &sizes(size)?,
                devices: *devices,
            };
            describe::describe(name, &shape, *format)?;
            Ok(0)
        }
        Command::Explain {
            name,
            model,
            length,
            size,
            accelerator,
            engine,
        } => {
            let mut problems = Problems::new();
            let length = length.as_deref().map(length_of).transpose();
            let length = problems.absorb(length).flatten();
            let sizes = problems.absorb(sizes(size)).unwrap_or_default();
            let engine = problems
                .absorb(engine_of(engine).map_err(Problems::from))
                .flatten();
            let options = problems.into_result(Some(explain::Options {
                model: model.clone(),
                length,
                sizes,
                accelerator: accelerator.clone(),
                engine,
            }))?;
            explain::print(name, options)?;
            Ok(0)
        }
        Command::Validate {
            experiments,
            all,
            plot,
            format,
        } => {
            let outcome = validate::run(experiments, *all)?;
            if let Some(folder) = plot {
                for figure in validate::figures(experiments, *all)? {
                    plot::save(&figure, folder)?;
                }
            }
            output::print(&match format {
                Format::Json => format!(
                    "{}\n",
                    serde_json::to_string_pretty(&outcome.to_json()).unwrap_or_default()
                ),
                Format::Csv => outcome.to_csv(),
                Format::Table => outcome.to_table(),
            })?;
            Ok(if outcome.passed() { 0 } else { OUT_OF_BOUNDS })
        }
        Command::Sweep {
            sweep,
            out,
            plot,
            format,
        } => super::sweep::sweep(sweep, out.as_deref(), plot.as_deref(), *format),
        Command::Man { out } => man(out.as_deref()),
        Command::List { what } => {
            list(*what)?;
            Ok(0)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "einflow", &mut script);
            output::print(&String::from_utf8_lossy(&script))?;
            Ok(0)
        }
    }
}

impl From<args::Accounting> for Accounting {
    fn from(value: args::Accounting) -> Self {
        match value {
            args::Accounting::Correct => Accounting::Correct,
            args::Accounting::Published => Accounting::Published,
        }
    }
}

/// The engine that an option names.
pub(super) fn engine_of(option: &Option<String>) -> Result<Option<Engine>, Problem> {
    option.as_deref().map(Engine::named).transpose()
}

fn compare(
    name: Option<&str>,
    accounting: Accounting,
    (engine, check): (Option<Engine>, Option<Depth>),
    plot: Option<&Path>,
    format: Format,
) -> Result<u8, Problems> {
    let file = RunFile::load(name.unwrap_or("attention"))?;
    let catalog = Catalog::new();
    let requests = file.requests();
    let labels: Vec<String> = requests.iter().map(Request::label).collect();
    let results: Vec<Result<Report, Problems>> = requests
        .into_par_iter()
        .map(|mut request| {
            request.engine = engine.unwrap_or(request.engine);
            request.check = check;
            if accounting == Accounting::Published {
                request.accounting = accounting;
            }
            request.run(&catalog)
        })
        .collect();
    let mut reports = Vec::new();
    let mut bad: IndexMap<String, (Problem, Vec<&str>)> = IndexMap::new();
    for (result, label) in results.into_iter().zip(&labels) {
        match result {
            Ok(report) => reports.push(report),
            Err(problems) => {
                for problem in problems.iter() {
                    let same = bad.entry(problem.to_string());
                    let (_, runs) = same.or_insert_with(|| (problem.clone(), Vec::new()));
                    runs.push(label);
                }
            }
        }
    }
    let mut problems = Problems::new();
    for (_, (problem, runs)) in bad {
        problems.push(named(problem, &runs, labels.len()));
    }
    // What was computed is shown even where some runs are refused.
    if !reports.is_empty() {
        output::print(&match format {
            Format::Json => pretty(&Value::Array(reports.iter().map(Report::to_json).collect())),
            Format::Csv => render::csv(&reports),
            Format::Table => render::compare(&reports),
        })?;
    }
    if let (Some(folder), false) = (plot, reports.is_empty()) {
        problems.absorb(draw(&plot::compared(&reports), folder));
    }
    problems.into_result(Some(0))
}

/// A problem with the runs that have it, where not all do.
fn named(mut problem: Problem, runs: &[&str], of: usize) -> Problem {
    if let Some(first) = runs.first().filter(|_| runs.len() < of) {
        let more = match runs.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        problem.message = format!("the run {first}{more}: {}", problem.message);
    }
    problem
}

/// Draws figures into a folder.
pub(super) fn draw(figures: &[Figure], folder: &Path) -> Result<(), Problems> {
    // A folder that cannot be made is one mistake, however many figures.
    std::fs::create_dir_all(folder).map_err(|e| {
        Problem::nowhere(format!("cannot draw into {}: {e}", folder.display()))
            .help("name a folder that can be written with --plot")
    })?;
    let mut problems = Problems::new();
    for drawn in figures
        .par_iter()
        .map(|figure| plot::save(figure, folder))
        .collect::<Vec<_>>()
    {
        problems.absorb_new(drawn.map_err(Problems::from));
    }
    problems.into_result(Some(()))
}

/// Says on a terminal that a run goes on, which the cycle engine may do for a while where a condition keeps it from jumping.
pub(super) fn busy(request: &Request) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if request.engine == Engine::Cycle {
        bar.set_message(format!(
            "{}: running every task that is like no other",
            request.mapping
        ));
        bar.enable_steady_tick(Duration::from_millis(500));
    }
    bar
}

pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

pub(super) fn length_of(text: &str) -> Result<u64, Problems> {
    parse_length(text).map_err(|message| Problem::nowhere(message).help(LENGTHS).into())
}

/// `NAME=SIZE` arguments.
pub(super) fn sizes(arguments: &[String]) -> Result<BTreeMap<String, u64>, Problems> {
    let mut problems = Problems::new();
    let mut out = BTreeMap::new();
    for argument in arguments {
        let parsed = argument.split_once('=').and_then(|(name, size)| {
            let size: u64 = size.trim().parse().ok().filter(|s| *s > 0)?;
            Some((name.trim().to_string(), size))
        });
        match parsed {
            Some((name, size)) => {
                if let Some(other) = out.insert(name.clone(), size) {
                    problems.push(
                        Problem::nowhere(format!("{name} is given as {other} and as {size}"))
                            .help("give each size once"),
                    );
                }
            }
            None => problems.push(
                Problem::nowhere(format!("{argument:?} is not a size"))
                    .help("a size is written NAME=SIZE with a whole number of at least 1: M0=16"),
            ),
        }
    }
    problems.into_result(Some(out))
}
