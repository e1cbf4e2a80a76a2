//! `run`: one run, checked, traced and drawn.

use einflow_mappings::mappings;
use einflow_spec::{Problem, Problems};

use super::{
    OUT_OF_BOUNDS,
    args::{self, Format, RunArguments},
    commands::{busy, draw, engine_of, length_of, pretty, sizes},
    output,
};
use crate::runs::RunFile;
use einflow_engine::{
    catalog::Catalog,
    check::Depth,
    failure::not_run,
    request::{Engine, Request},
};
use einflow_output::{
    plot, render,
    trace::{self, Recorder, TraceError, TraceWindow},
};

pub(super) fn one(arguments: &RunArguments) -> Result<u8, Problems> {
    let catalog = Catalog::new();
    let request = match &arguments.run {
        Some(file) => {
            let file = RunFile::load(file)?;
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
            let mut requests = file.requests();
            match (requests.pop(), requests.len()) {
                (Some(mut request), 0) => {
                    // Options that do not say what to run hold for the file's run too.
                    request.sizes.extend(sizes(&arguments.size)?);
                    request.engine = engine_of(&arguments.engine)?.unwrap_or(request.engine);
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
                .absorb(engine_of(&arguments.engine).map_err(Problems::from))
                .flatten()
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
        request.check = Some(Depth::Length);
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
    let passed = !arguments.check || report.check.as_ref().is_none_or(|check| check.passed());
    Ok(if passed { 0 } else { OUT_OF_BOUNDS })
}

/// What the cycle engine does task by task, where a trace or a waterfall is asked for.
pub(super) fn trace(
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
            .map(|l| format!("{} tokens", einflow_engine::units::length(l))),
    ];
    let title = shape.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let recorder = trace::record(&mapped, window, &title).map_err(|e| match e {
        TraceError::Run(e) => not_run(&mapped, &e.into()),
        e => wrong(e),
    })?;
    Ok(Some(recorder))
}
