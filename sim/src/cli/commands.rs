use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::CommandFactory;
use einflow_arch::{
    accelerators,
    device::{devices, links},
};
use einflow_mappings::mappings;
use einflow_spec::{Problem, Problems, did_you_mean};
use einflow_workloads::{analysis::passes, cascades, format::Format as NumberFormat, models};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{
    OUT_OF_BOUNDS,
    args::{self, Arguments, Command, Format, Listing, RunArguments},
    describe, device, explain, offload, output, replay,
};
use crate::{
    catalog::Catalog,
    eval::{EvalReport, EvalRequest, eval},
    offload::scenario::scenarios,
    plot::{self, Figure},
    render,
    report::Report,
    request::{Accounting, Checking, Engine, Request},
    runs::{RunFile, runs},
    sweep::sweeps,
    trace::{self, Recorder, TraceError, TraceWindow},
    units::{LENGTHS, parse_length},
    validate,
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
                Checking::None
            } else {
                Checking::Miniature
            };
            let how = (Engine::named(engine)?, check);
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
            format,
        } => {
            let found = Catalog::new().cascade(cascade, None, &[])?;
            let report = eval(&EvalRequest {
                cascade: &found,
                input: input.clone(),
                output: output.clone(),
                number_format: number_format_named(number_format)?,
                accumulator: accumulator
                    .as_deref()
                    .map(number_format_named)
                    .transpose()?,
                sizes: sizes(size)?,
                allow_nan: *allow_nan,
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
            format,
        } => {
            let shape = describe::Shape {
                model,
                length: length_of(length)?,
                sizes: &sizes(size)?,
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
                .absorb(Engine::named(engine).map_err(Problems::from))
                .unwrap_or_default();
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

fn compare(
    name: Option<&str>,
    accounting: Accounting,
    (engine, check): (Engine, Checking),
    plot: Option<&Path>,
    format: Format,
) -> Result<u8, Problems> {
    let file = RunFile::load(name.unwrap_or("attention"))?;
    let catalog = Catalog::new();
    let results: Vec<Result<Report, Problems>> = file
        .requests
        .par_iter()
        .map(|request| {
            let mut request = request.clone();
            request.engine = engine;
            request.check = check;
            if accounting == Accounting::Published {
                request.accounting = accounting;
            }
            request.run(&catalog)
        })
        .collect();
    let mut reports = Vec::new();
    let mut problems = Problems::new();
    for result in results {
        reports.extend(problems.absorb_new(result));
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

fn one(arguments: &RunArguments) -> Result<u8, Problems> {
    let catalog = Catalog::new();
    let request = match &arguments.run {
        Some(file) => {
            let mut file = RunFile::load(file)?;
            let options = [
                &arguments.model,
                &arguments.mapping,
                &arguments.accelerator,
                &arguments.workload,
            ];
            if options.iter().any(|o| o.is_some()) || arguments.length.is_some() {
                return Err(Problem::nowhere("a run file and options that say what to run were both given")
                    .help("leave out --model, --length, --accelerator, --mapping and --workload, or leave out the file")
                    .into());
            }
            match (file.requests.pop(), file.requests.len()) {
                (Some(mut request), 0) => {
                    // Options that do not say what to run hold for the file's run too.
                    request.sizes.extend(sizes(&arguments.size)?);
                    request.engine = Engine::named(&arguments.engine)?;
                    request.end_to_end |= arguments.end_to_end;
                    if arguments.accounting == args::Accounting::Published {
                        request.accounting = arguments.accounting.into();
                    }
                    request
                }
                (_, more) => {
                    return Err(
                        Problem::nowhere(format!("{} holds {} runs", file.name, more + 1))
                            .help(format!(
                                "see them side by side with `einflow compare {}`",
                                arguments.run.as_deref().unwrap_or("")
                            ))
                            .into(),
                    );
                }
            }
        }
        None => {
            let mut problems = Problems::new();
            if let (Some(name), args::Accounting::Published) =
                (&arguments.accelerator, arguments.accounting)
            {
                problems.push(
                    Problem::nowhere(format!(
                        "the accelerator {name} and published accounting were both given"
                    ))
                    .help("published accounting is that of the accelerator which the mapping names for it: leave out one of them"),
                );
            }
            let mapping = arguments.mapping.clone();
            if mapping.is_none() {
                let names: Vec<&str> = mappings().names().collect();
                problems.push(
                    Problem::nowhere("`run` needs a mapping, or a run file")
                        .help(format!("give --mapping with one of {}", names.join(", "))),
                );
            }
            let length = arguments.length.as_deref().map(length_of).transpose();
            let length = problems.absorb(length).flatten();
            let sizes = problems.absorb(sizes(&arguments.size)).unwrap_or_default();
            let engine = problems
                .absorb(Engine::named(&arguments.engine).map_err(Problems::from))
                .unwrap_or_default();
            problems.into_result(mapping.map(|mapping| Request {
                workload: arguments.workload.clone(),
                model: arguments.model.clone(),
                length,
                sizes,
                accelerator: arguments.accelerator.clone(),
                mapping,
                engine,
                accounting: arguments.accounting.into(),
                end_to_end: arguments.end_to_end,
                ..Request::default()
            }))?
        }
    };
    let mut request = request;
    if arguments.check {
        request.check = Checking::Full;
    }
    let recorder = trace(arguments, &request, &catalog)?;
    let busy = busy(&request);
    let report = request.run(&catalog)?;
    busy.finish_and_clear();
    output::print(&match arguments.format {
        Format::Json => pretty(&report.to_json()),
        Format::Csv => render::csv(std::slice::from_ref(&report)),
        Format::Table => render::run(&report),
    })?;
    if let Some(folder) = &arguments.plot {
        let mut figures = plot::one(&report);
        figures.extend(recorder.as_ref().and_then(plot::waterfall));
        draw(&figures, folder)?;
    }
    if let (Some(recorder), Some(file)) = (recorder, &arguments.trace) {
        let recorder = recorder.of(u64::try_from(report.cycles()).unwrap_or(u64::MAX));
        let unwritable = |e: String| {
            Problem::nowhere(format!("cannot write the trace {}: {e}", file.display()))
                .help("name a file that can be written with --trace")
        };
        let out = std::fs::File::create(file).map_err(|e| unwritable(e.to_string()))?;
        let mut out = std::io::BufWriter::new(out);
        recorder
            .write(&mut out)
            .and_then(|()| Ok(std::io::Write::flush(&mut out)?))
            .map_err(|e| unwritable(e.to_string()))?;
    }
    Ok(0)
}

/// Says on a terminal that a run goes on, which the cycle engine may do for a while where a condition keeps it from jumping.
fn busy(request: &Request) -> ProgressBar {
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

/// What the cycle engine does task by task, where a trace or a waterfall is asked for.
fn trace(
    arguments: &RunArguments,
    request: &Request,
    catalog: &Catalog,
) -> Result<Option<Recorder>, Problems> {
    let cycle = request.engine == Engine::Cycle;
    if arguments.trace.is_some() && !cycle {
        return Err(Problem::nowhere("a trace is of the cycle engine")
            .help("add --engine cycle, or leave out --trace")
            .into());
    }
    if arguments.trace.is_none() && (arguments.plot.is_none() || !cycle) {
        return Ok(None);
    }
    let wrong = |e: TraceError| Problem::nowhere(e.to_string());
    let window = arguments
        .trace_window
        .as_deref()
        .map(str::parse::<TraceWindow>);
    let window = window.transpose().map_err(wrong)?;
    let mapped = request.bind(catalog)?;
    let shape = [
        Some(mapped.spec.name.clone()),
        request.model.clone(),
        request
            .length
            .map(|l| format!("{} tokens", crate::units::length(l))),
    ];
    let title = shape.into_iter().flatten().collect::<Vec<_>>().join(", ");
    Ok(Some(trace::record(&mapped, window, &title).map_err(wrong)?))
}

pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn length_of(text: &str) -> Result<u64, Problems> {
    parse_length(text).map_err(|message| Problem::nowhere(message).help(LENGTHS).into())
}

/// `NAME=SIZE` arguments.
fn sizes(arguments: &[String]) -> Result<BTreeMap<String, u64>, Problems> {
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

fn number_format_named(name: &str) -> Result<NumberFormat, Problems> {
    let all = [
        NumberFormat::F64,
        NumberFormat::F32,
        NumberFormat::Bf16,
        NumberFormat::F16,
    ];
    all.into_iter().find(|f| f.name() == name).ok_or_else(|| {
        Problem::nowhere(format!("there is no number format `{name}`"))
            .help(did_you_mean(name, ["f64", "f32", "bf16", "f16"]))
            .into()
    })
}

fn print_eval(cascade: &str, report: &EvalReport, format: Format) -> Result<u8, Problems> {
    let axes = |a: &crate::eval::EvalArray| {
        let parts: Vec<String> = a
            .axes
            .iter()
            .zip(&a.shape)
            .map(|(axis, n)| format!("{axis}={n}"))
            .collect();
        format!("[{}]", parts.join(", "))
    };
    match format {
        Format::Json => {
            let array = |a: &crate::eval::EvalArray| json!({"name": a.name, "axes": a.axes, "shape": a.shape, "element": a.element.name()});
            let outputs: Vec<Value> = report
                .outputs
                .iter()
                .map(|o| {
                    let mut value = array(&o.array);
                    value["empty"] = json!(o.empty);
                    value["error"] = o.error.map_or(
                        Value::Null,
                        |e| json!({"absolute": e.absolute, "relative": e.relative}),
                    );
                    value
                })
                .collect();
            output::json(&json!({
                "cascade": cascade,
                "number_format": report.number_format.name(),
                "accumulator": report.accumulator.name(),
                "sizes": report.sizes.0,
                "inputs": report.inputs.iter().map(array).collect::<Vec<_>>(),
                "outputs": outputs,
            }))?;
        }
        Format::Csv => {
            let mut text = String::from("output,absolute_error,relative_error\n");
            for o in &report.outputs {
                let error = o.error.map_or(",".to_string(), |e| {
                    format!("{},{}", e.absolute, e.relative)
                });
                text.push_str(&format!("{},{error}\n", o.array.name));
            }
            output::print(&text)?;
        }
        Format::Table => {
            let mut text = render::wrapped(&format!(
                "{cascade} in {}, reductions accumulated in {} in ascending coordinate order",
                report.number_format.name(),
                report.accumulator.name()
            ));
            for input in &report.inputs {
                text.push_str(&render::wrapped(&format!(
                    "read      {} {} {}",
                    input.name,
                    axes(input),
                    input.element.name()
                )));
            }
            for o in &report.outputs {
                text.push_str(&render::wrapped(&format!(
                    "computed  {} {} {}",
                    o.array.name,
                    axes(&o.array),
                    o.array.element.name()
                )));
                if o.empty > 0 {
                    text.push_str(&format!(
                        "          {} empty points written as 0\n",
                        o.empty
                    ));
                }
                if let Some(e) = o.error {
                    text.push_str(&render::wrapped(&format!(
                        "error     {} against the array of that name: largest absolute {:.3e}, relative to its largest {:.3e}",
                        o.array.name, e.absolute, e.relative
                    )));
                }
            }
            output::print(&text)?;
        }
    }
    Ok(0)
}

/// Manual pages: the whole on standard output, or one file a command.
fn man(out: Option<&Path>) -> Result<u8, Problems> {
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

fn list(what: Option<Listing>) -> Result<(), Problems> {
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
