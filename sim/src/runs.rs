//! Run files: one run, or several to compare.

use std::{collections::BTreeMap, path::PathBuf, sync::LazyLock};

use einflow_spec::{
    Fields, Form, Kind, Library, Name, Node, Part, Problems, Record, Source, list, pairs, record,
};

use einflow_engine::request::{Accounting, Engine, Places, Request};
use einflow_engine::units::{LENGTHS, parse_length};

static RUNS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/runs.rs"));

/// The run files that travel in the binary.
pub fn runs() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("run", "ron", RUNS).marked("runs"));
    &LIBRARY
}

record! {
    /// A run file.
    #[derive(Clone, Debug)]
    pub struct RunFile = "a run file" {
        unread source: Option<String> => "nothing is cited";
        /// Its name.
        pub name: String;
        /// One or two sentences.
        pub description: String = String::new() => "nothing";
        /// The file.
        pub source: Source where Source;
        /// The folder in which names are looked for first.
        pub beside: Option<PathBuf> where PathBuf;
        /// What computes the results ([engines](../explanation/engines.md)).
        pub engine: Engine = Engine::default() => "`analytic`";
        /// Whose: every action charged, or the mapping's `published` accelerator.
        pub accounting: Accounting = Accounting::default() => "`correct`";
        /// Whether the linear layers are added to every run.
        pub end_to_end: bool = false;
        /// Models.
        pub models: Option<Vec<Name>> => "each run names its own, or gives `sizes`";
        /// Lengths.
        pub lengths: Option<Vec<u64>> as lengths => "each run gives its own";
        /// What runs on every model at every length.
        pub runs: Vec<Request> as requests;
    } check |fields| {
        let empty = [
            ("models", models.iter().flatten().any(Vec::is_empty), "models: [\"bert\"]"),
            ("lengths", lengths.iter().flatten().any(Vec::is_empty), "lengths: [\"1K\"]"),
        ];
        for (field, empty, such_as) in empty {
            if let (Some(node), true) = (fields.optional(field), empty) {
                let problem = node.problem("an empty list leaves nothing to run");
                fields.push(problem.help(format!("leave the field out, or give some, such as {such_as}")));
            }
        }
    }
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
        Self::read_beside(&Node::parse(source)?, beside.as_deref())
    }

    /// Every run: for each model, each length, each entry of `runs`.
    pub fn requests(&self) -> Vec<Request> {
        let models: Vec<Option<&Name>> = self
            .models
            .as_ref()
            .map_or(vec![None], |m| m.iter().map(Some).collect());
        let lengths: Vec<Option<u64>> = self
            .lengths
            .as_ref()
            .map_or(vec![None], |l| l.iter().copied().map(Some).collect());
        let mut requests = Vec::new();
        for model in &models {
            for length in &lengths {
                for run in &self.runs {
                    let mut request = at(run, model.map(|m| m.text.as_str()), *length);
                    if let (None, Some(model)) = (&run.model, model) {
                        request.places.set("model", &self.source, model.span);
                    }
                    request.engine = self.engine;
                    request.accounting = self.accounting;
                    request.end_to_end |= self.end_to_end;
                    request.beside.clone_from(&self.beside);
                    requests.push(request);
                }
            }
        }
        requests
    }
}

/// A run with this model and length where it has none of its own.
pub(crate) fn at(run: &Request, model: Option<&str>, length: Option<u64>) -> Request {
    let mut request = run.clone();
    request.model = request.model.or_else(|| model.map(str::to_owned));
    request.length = request.length.or(length);
    request
}

record! {
    /// One run: a mapping, and what else differs from the mapping's own choices.
    pub struct Run = "a run" {
        /// A mapping.
        pub mapping: String;
        /// A cascade.
        pub workload: Option<String> => "the mapping's";
        /// An accelerator.
        pub accelerator: Option<String> => "the mapping's";
        /// A model, in place of the list's.
        pub model: Option<String> => "the list's";
        /// A length, in place of the list's.
        pub length: Option<u64> as length => "the list's";
        /// Whether the linear layers are added.
        pub end_to_end: bool = false => "the file's";
        /// Sizes of ranks and parameters of the cascade, in place of the model's.
        pub sizes: BTreeMap<String, u64> as sizes = BTreeMap::new() => "none";
        /// Numbers of the accelerator in place of others, by their paths
        /// ([accelerators](accelerators.md#names-in-size-expressions-and-sweeps) lists them).
        pub overrides("set"): Vec<(Name, f64)> = Vec::new() => "none";
        /// Where it says so.
        pub places: Places where Placed;
    }
}

/// Where the fields of a run stand.
struct Placed;

impl Part<Places> for Placed {
    fn take(fields: &mut Fields<'_>) -> Option<Places> {
        let run = fields.node();
        let mut places = Places::default();
        places.set("run", &run.source, run.span);
        for (key, _, value) in run.record().unwrap_or_default() {
            let known = [
                "mapping",
                "workload",
                "accelerator",
                "model",
                "sizes",
                "set",
            ];
            if let Some(field) = known.into_iter().find(|field| key == field) {
                places.set(field, &value.source, value.span);
            }
        }
        Some(places)
    }
}

impl From<Run> for Request {
    fn from(run: Run) -> Self {
        Self {
            workload: run.workload,
            model: run.model,
            length: run.length,
            sizes: run.sizes,
            accelerator: run.accelerator,
            mapping: run.mapping,
            overrides: run
                .overrides
                .into_iter()
                .map(|(path, value)| (path.text, value))
                .collect(),
            end_to_end: run.end_to_end,
            places: run.places,
            ..Self::default()
        }
    }
}

/// Some runs.
pub(crate) fn requests() -> Form<Vec<Request>> {
    Form {
        value: || format!("list: {}", Run::WHAT),
        read: |_, node| {
            let runs = list(node, |node| Run::read("", node).map(Request::from))?;
            if runs.is_empty() {
                let problem = node.problem("there is nothing to run");
                return Err(problem.help("add (mapping: \"...\")").into());
            }
            Ok(runs)
        },
    }
}

/// A length: a number, or a string such as `"64K"`.
pub(crate) fn length() -> Form<u64> {
    Form {
        value: || "a whole number, or `\"64K\"`; 1 to 2^24".into(),
        read: |_, node| {
            let text = match &node.kind {
                Kind::Number(text) => text.as_str(),
                _ => node.text()?,
            };
            parse_length(text).map_err(|message| node.problem(message).help(LENGTHS).into())
        },
    }
}

/// Lengths.
pub(crate) fn lengths() -> Form<Vec<u64>> {
    Form {
        value: || format!("list: {}", (length().value)()),
        read: |name, node| list(node, |node| (length().read)(name, node)),
    }
}

fn sizes() -> Form<BTreeMap<String, u64>> {
    Form {
        value: || "map from names: a whole number, at least 1".into(),
        read: |_, node| {
            let sizes = pairs(node, |_, node| match node.u64()? {
                0 => Err(node
                    .problem("a size of 0")
                    .help("sizes are at least 1")
                    .into()),
                size => Ok(size),
            })?;
            Ok(sizes
                .into_iter()
                .map(|(name, size)| (name.text, size))
                .collect())
        },
    }
}
