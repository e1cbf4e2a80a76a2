//! Run files: one run, or several to compare.

use std::{path::PathBuf, sync::LazyLock};

use einflow_spec::{Fields, Kind, Library, Node, Problem, Problems, Source, Span, list, pairs};

use einflow_engine::request::{Accounting, Engine, Places, Request};
use einflow_engine::units::{LENGTHS, parse_length};

static RUNS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/runs.rs"));

/// The run files that travel in the binary.
pub fn runs() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("run", "ron", RUNS).marked("runs"));
    &LIBRARY
}

/// A run file.
#[derive(Clone, Debug)]
pub struct RunFile {
    /// Its name.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// Every run: for each model, each length, each entry of `runs`.
    pub requests: Vec<Request>,
}

impl RunFile {
    /// Finds a run file by name or path.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn load(name: &str) -> Result<Self, Problems> {
        let (source, origin) = runs().find(name, None)?;
        Self::parse(&source, origin.folder())
    }

    /// Reads a run file; names in it are looked for in `beside` first.
    ///
    /// # Errors
    /// Every mistake in the file's form.
    pub fn parse(source: &Source, beside: Option<PathBuf>) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut f = Fields::new(&node, "a run file");
        let name = f.need("name", text);
        f.get("source", text);
        let description = f.get("description", text).unwrap_or_default();
        let engine = f
            .get("engine", |n| {
                Engine::named(n.text()?).map_err(|p| placed(n, p))
            })
            .unwrap_or_default();
        let accounting = f.get("accounting", accounting).unwrap_or_default();
        let end_to_end = f.get("end_to_end", Node::bool).unwrap_or(false);
        let models = f.get_all("models", |n| {
            some(
                n,
                each(n, |n| Ok((text(n)?, n.span)))?,
                "models: [\"bert\"]",
            )
        });
        let lengths = f.get_all("lengths", |n| {
            some(n, each(n, length)?, "lengths: [\"1K\"]")
        });
        let runs = f.need_all("runs", |n| {
            let runs = list(n, run)?;
            if runs.is_empty() {
                let problem = n.problem("there is nothing to run");
                return Err(problem.help("add (mapping: \"...\")").into());
            }
            Ok(runs)
        });
        let value = name.zip(runs).map(|(name, runs)| {
            let models: Vec<Option<(String, Span)>> =
                models.map_or(vec![None], |m| m.into_iter().map(Some).collect());
            let lengths: Vec<Option<u64>> =
                lengths.map_or(vec![None], |l| l.into_iter().map(Some).collect());
            let mut requests = Vec::new();
            for model in &models {
                for length in &lengths {
                    for run in &runs {
                        let mut request = run.clone();
                        if let (None, Some((model, span))) = (&request.model, model) {
                            request.model = Some(model.clone());
                            request.places.set("model", source, *span);
                        }
                        request.length = request.length.or(*length);
                        request.engine = engine;
                        request.accounting = accounting;
                        request.end_to_end |= end_to_end;
                        request.beside.clone_from(&beside);
                        requests.push(request);
                    }
                }
            }
            RunFile {
                name,
                description,
                requests,
            }
        });
        f.finish(value)
    }
}

fn text(node: &Node) -> Result<String, Problem> {
    Ok(node.text()?.to_string())
}

/// Reads every element of a list, collecting every mistake.
pub(crate) fn each<T>(
    node: &Node,
    read: impl Fn(&Node) -> Result<T, Problem>,
) -> Result<Vec<T>, Problems> {
    list(node, |n| Ok(read(n)?))
}

/// A list that says what to run is not empty.
fn some<T>(node: &Node, list: Vec<T>, such_as: &str) -> Result<Vec<T>, Problems> {
    if list.is_empty() {
        return Err(node
            .problem("an empty list leaves nothing to run")
            .help(format!(
                "leave the field out, or give some, such as {such_as}"
            ))
            .into());
    }
    Ok(list)
}

pub(crate) fn placed(node: &Node, problem: Problem) -> Problem {
    Problem {
        place: Some((node.source.clone(), node.span)),
        ..problem
    }
}

/// A length: a number, or a string such as `"64K"`.
pub(crate) fn length(node: &Node) -> Result<u64, Problem> {
    let text = match &node.kind {
        Kind::Number(text) => text.as_str(),
        _ => node.text()?,
    };
    parse_length(text).map_err(|message| node.problem(message).help(LENGTHS))
}

/// An accounting by name.
pub(crate) fn accounting(node: &Node) -> Result<Accounting, Problem> {
    match node.text()? {
        "correct" => Ok(Accounting::Correct),
        "published" => Ok(Accounting::Published),
        _ => Err(node.expected("correct or published")),
    }
}

fn size(node: &Node) -> Result<u64, Problem> {
    match node.u64()? {
        0 => Err(node.problem("a size of 0").help("sizes are at least 1")),
        size => Ok(size),
    }
}

/// One run: a mapping, and what else differs from the mapping's own choices.
pub(crate) fn run(node: &Node) -> Result<Request, Problems> {
    let mut f = Fields::new(node, "a run");
    let mapping = f.need("mapping", text);
    let workload = f.get("workload", text);
    let accelerator = f.get("accelerator", text);
    let model = f.get("model", text);
    let own_length = f.get("length", length);
    let end_to_end = f.get("end_to_end", Node::bool).unwrap_or(false);
    let sizes = f
        .get_all("sizes", |n| pairs(n, |_, n| Ok(size(n)?)))
        .unwrap_or_default();
    let overrides = f
        .get_all("set", |n| pairs(n, |_, n| Ok(n.f64()?)))
        .unwrap_or_default();
    let mut places = Places::default();
    places.set("run", &node.source, node.span);
    for (key, _, value) in node.record().unwrap_or_default() {
        for field in [
            "mapping",
            "workload",
            "accelerator",
            "model",
            "sizes",
            "set",
        ] {
            if key == field {
                places.set(field, &value.source, value.span);
            }
        }
    }
    let value = mapping.map(|mapping| Request {
        workload,
        model,
        length: own_length,
        sizes: sizes
            .into_iter()
            .map(|(name, size)| (name.text, size))
            .collect(),
        accelerator,
        mapping,
        overrides: overrides
            .into_iter()
            .map(|(name, value)| (name.text, value))
            .collect(),
        end_to_end,
        places,
        ..Request::default()
    });
    f.finish(value)
}
