use std::collections::BTreeMap;

use einflow_mappings::mappings;
use einflow_spec::{Node, Problem, Problems, did_you_mean, files};

use super::output;
use crate::runs::{RunFile, runs};
use einflow_engine::{
    catalog::Catalog,
    failure::not_run,
    request::{Engine, Request},
};
use einflow_output::{
    explain::{Inputs, explain},
    render,
};

/// The model of a mapping that is explained without one.
const MODEL: &str = "bert";
/// Its length.
const LENGTH: u64 = 1024;

/// What the command line says besides the name.
pub struct Options {
    /// The model.
    pub model: Option<String>,
    /// The sequence length.
    pub length: Option<u64>,
    /// Sizes besides the model's.
    pub sizes: BTreeMap<String, u64>,
    /// The accelerator.
    pub accelerator: Option<String>,
    /// The engine, in place of the file's.
    pub engine: Option<Engine>,
}

/// Explains a mapping, or a run file's only run.
pub fn print(name: &str, options: Options) -> Result<(), Problems> {
    let catalog = Catalog::new();
    let request = match is_run(name)? {
        true => of_run(name, options)?,
        false => of_mapping(name, options, &catalog),
    };
    let mut text = String::new();
    for mapped in &request.bind_all(&catalog)? {
        let inputs = Inputs {
            model: request.model.as_deref(),
            length: request.length,
        };
        let explained = explain(mapped, inputs).map_err(|e| Problem::nowhere(e.to_string()))?;
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&explained.text);
        if request.engine == Engine::Cycle {
            let report = request
                .engine
                .evaluate(mapped)
                .map_err(|e| not_run(mapped, &e))?;
            let cycles = report.cycles();
            text.push_str(&format!("\nUNDER THE CYCLE ENGINE {cycles} cycles\n"));
            text.push_str(&render::cycles(&report));
        }
    }
    output::print(&text)
}

/// Whether a name is that of a run rather than of a mapping.
fn is_run(name: &str) -> Result<bool, Problems> {
    if files::is_there(std::path::Path::new(name)) {
        let (source, _) = mappings().find(name, None)?;
        let has = |field: &str| {
            let node = Node::parse(&source);
            node.is_ok_and(|n| {
                n.record()
                    .is_ok_and(|r| r.iter().any(|(key, _, _)| key == field))
            })
        };
        return Ok(has("runs") && !has("blocks"));
    }
    let stem = name.strip_suffix(".ron").unwrap_or(name);
    if mappings().get(stem).is_some() {
        return Ok(false);
    }
    if runs().get(stem).is_some() {
        return Ok(true);
    }
    let known: Vec<&str> = mappings().names().chain(runs().names()).collect();
    Err(
        Problem::nowhere(format!("there is no mapping or run named `{name}`"))
            .help(did_you_mean(name, known.iter().copied()))
            .into(),
    )
}

fn of_run(name: &str, options: Options) -> Result<Request, Problems> {
    if options.model.is_some() || options.length.is_some() || options.accelerator.is_some() {
        return Err(Problem::nowhere(
            "a run file and options that say what to run were both given",
        )
        .help("leave out --model, --length and --accelerator, or name the mapping")
        .into());
    }
    let file = RunFile::load(name)?;
    match file.requests().as_mut_slice() {
        [only] => {
            let mut request = std::mem::take(only);
            request.sizes.extend(options.sizes);
            request.engine = options.engine.unwrap_or(request.engine);
            Ok(request)
        }
        several => {
            let mapping = several.first().map_or("", |r| r.mapping.as_str());
            let count = several.len();
            Err(
                Problem::nowhere(format!("{} holds {count} runs", file.name))
                    .help(format!(
                        "explain one of its mappings: `einflow explain {mapping}`"
                    ))
                    .into(),
            )
        }
    }
}

/// A mapping at the sizes that are given, else at those of the default model and length.
fn of_mapping(name: &str, options: Options, catalog: &Catalog) -> Request {
    let mut request = Request {
        mapping: name.to_string(),
        model: options.model,
        length: options.length,
        sizes: options.sizes,
        accelerator: options.accelerator,
        engine: options.engine.unwrap_or_default(),
        ..Request::default()
    };
    let nothing = request.model.is_none() && request.length.is_none();
    // Sizes of its own may be all that a mapping needs.
    if !nothing || request.sizes.is_empty() || request.bind(catalog).is_err() {
        request.model.get_or_insert_with(|| MODEL.to_string());
        request.length.get_or_insert(LENGTH);
    }
    request
}
