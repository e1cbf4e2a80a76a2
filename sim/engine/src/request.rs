//! A run: what to run, and running it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use einflow_arch::{Accelerator, bears_on_mappings};
use einflow_mappings::{bind, mapped::MappedCascade, spec::MappingSpec};
use einflow_spec::{Edit, Problem, Problems, Source, Span, files, named};
use einflow_workloads::{
    Model,
    cascade::Cascade,
    models::{FeedForward, models},
};

pub use crate::Engine;
use crate::{
    catalog::Catalog,
    check::Depth,
    failure::not_run,
    key_heads,
    report::{Report, combine},
};

named! {
    /// Whose accounting an accelerator file stands for.
    #[derive(Default)]
    pub enum Accounting = "accounting" {
        /// Every action charged.
        #[default]
        Correct = "correct",
        /// As the published tables have it: the mapping's `published` accelerator.
        Published = "published",
    }
}

/// The mappings of the layers around attention: the projections, and a plain and a gated feed-forward layer.
pub const LINEAR_MAPPINGS: [&str; 3] = ["projections", "ffn", "ffn-gated"];

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The cascade; the mapping's where `None`.
    pub workload: Option<String>,
    /// The model that gives the sizes.
    pub model: Option<String>,
    /// The sequence length.
    pub length: Option<u64>,
    /// Sizes besides the model's, or in its place.
    pub sizes: BTreeMap<String, u64>,
    /// The accelerator; the mapping's where `None`.
    pub accelerator: Option<String>,
    /// The mapping.
    pub mapping: String,
    /// Fields of the accelerator to replace: path, value.
    pub overrides: Vec<(String, f64)>,
    /// Values to change in the files.
    pub edits: Edits,
    /// The engine.
    pub engine: Engine,
    /// Whose accounting.
    pub accounting: Accounting,
    /// Whether the values are checked.
    pub check: Option<Depth>,
    /// Whether the linear layers are added.
    pub end_to_end: bool,
    /// The folder of the file that names the others.
    pub beside: Option<PathBuf>,
    /// Where that file says so.
    pub places: Places,
}

/// A file of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The accelerator's.
    Accelerator,
    /// The mapping's.
    Mapping,
    /// The model's.
    Model,
    /// The cascade's.
    Workload,
}

/// Values to change in the files of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edits {
    /// In the accelerator's.
    pub accelerator: Vec<Edit>,
    /// In the mapping's.
    pub mapping: Vec<Edit>,
    /// In the model's.
    pub model: Vec<Edit>,
    /// In the cascade's.
    pub workload: Vec<Edit>,
}

/// Where the fields of a [`Request`] stand in a file: what a message about one of them points to.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<(&'static str, Source, Span)>);

/// All that the result of a [`Request`] follows from: two with the same key compute the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKey {
    workload: Option<String>,
    model: (Option<String>, Option<u64>),
    sizes: BTreeMap<String, u64>,
    accelerator: Option<String>,
    mapping: String,
    /// Values as bits: what is written alike is alike.
    overrides: Vec<(String, u64)>,
    edits: Edits,
    how: (Engine, Accounting, Option<Depth>, bool),
    beside: Option<PathBuf>,
}

impl Places {
    /// Says where a field stands; `run` is the whole of it.
    pub fn set(&mut self, field: &'static str, source: &Source, span: Span) {
        self.0.retain(|(known, _, _)| *known != field);
        self.0.push((field, source.clone(), span));
    }

    /// Whether the place of a field is known.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|(known, _, _)| *known == field)
    }

    /// Gives problems without a place that of a field, or else of the whole request.
    fn place(&self, problems: Problems, field: &str) -> Problems {
        let at = |field: &str| self.0.iter().find(|(known, _, _)| *known == field);
        let Some((_, source, span)) = at(field).or_else(|| at("run")) else {
            return problems;
        };
        let mut out = Problems::new();
        for problem in problems.iter() {
            let place = problem
                .place
                .clone()
                .or_else(|| Some((source.clone(), *span)));
            out.push(Problem {
                place,
                ..problem.clone()
            });
        }
        out
    }
}

impl Request {
    /// What its result follows from.
    pub fn key(&self) -> RunKey {
        // Every field is named: one that is new has to be thought of.
        let Self {
            workload,
            model,
            length,
            sizes,
            accelerator,
            mapping,
            overrides,
            edits,
            engine,
            accounting,
            check,
            end_to_end,
            beside,
            // Messages differ in it, and no result.
            places: _,
        } = self;
        let bits = overrides
            .iter()
            .map(|(path, v)| (path.clone(), v.to_bits()));
        RunKey {
            workload: workload.clone(),
            model: (model.clone(), *length),
            sizes: sizes.clone(),
            accelerator: accelerator.clone(),
            mapping: mapping.clone(),
            overrides: bits.collect(),
            edits: edits.clone(),
            how: (*engine, *accounting, *check, *end_to_end),
            beside: beside.clone(),
        }
    }

    /// Reads the files and lays the cascade on the accelerator.
    ///
    /// # Errors
    /// Every mistake in the files, or why the mapping is illegal.
    pub fn bind(&self, catalog: &Catalog) -> Result<MappedCascade, Problems> {
        self.bind_mapping(catalog, &self.mapping)
    }

    /// What [`Request::run`] evaluates one after another: the mapping, and end to end the layers around it.
    ///
    /// # Errors
    /// As [`Request::bind`].
    pub fn bind_all(&self, catalog: &Catalog) -> Result<Vec<MappedCascade>, Problems> {
        let mut all = vec![self.bind(catalog)?];
        if self.end_to_end {
            for mapping in self.linear(catalog)? {
                all.push(self.bind_mapping(catalog, mapping)?);
            }
        }
        Ok(all)
    }

    /// The mappings of the layers around attention that the model has.
    fn linear(&self, catalog: &Catalog) -> Result<[&'static str; 2], Problems> {
        let model = self.the_model(catalog)?;
        let gated = model.is_some_and(|m| m.feed_forward == FeedForward::Gated);
        Ok(["projections", if gated { "ffn-gated" } else { "ffn" }])
    }

    fn the_model(&self, catalog: &Catalog) -> Result<Option<Arc<Model>>, Problems> {
        let beside = self.beside.as_deref();
        let model = self.model.as_ref();
        model
            .map(|model| catalog.model(model, beside, &self.edits.model))
            .transpose()
    }

    fn bind_mapping(&self, catalog: &Catalog, mapping: &str) -> Result<MappedCascade, Problems> {
        let beside = self.beside.as_deref();
        let mut problems = Problems::new();
        // The layers around attention keep their own mappings and cascades.
        let own = mapping == self.mapping;
        let edits = if own { &self.edits.mapping[..] } else { &[] };
        let workload_edits = if own { &self.edits.workload[..] } else { &[] };
        let at = |field: &'static str| move |problems| self.places.place(problems, field);
        let spec = problems.absorb(
            catalog
                .mapping(mapping, beside, edits)
                .map_err(at("mapping")),
        );
        let given = problems.absorb(self.given(catalog).map_err(at("model")));
        let accelerator = match (&spec, &self.accelerator) {
            // The layers around attention run on the chip that it runs on.
            (Some(_), None) if !own => {
                problems.absorb(self.chip(catalog).map_err(at("accelerator")))
            }
            (Some(spec), _) => {
                problems.absorb(self.accelerator(catalog, spec).map_err(at("accelerator")))
            }
            (None, Some(name)) => {
                let loaded = catalog.accelerator(name, beside, &self.edits.accelerator);
                problems.absorb(loaded.map_err(at("accelerator")))
            }
            (None, None) => None,
        };
        let cascade = match (&spec, &self.workload) {
            (_, Some(name)) if own => {
                let loaded = catalog.cascade(name, beside, workload_edits);
                problems.absorb(loaded.map_err(at("workload")))
            }
            (Some(spec), _) => problems.absorb(named_in(
                spec,
                catalog,
                &|c, n, b| c.cascade(n, b, workload_edits),
                &spec.workload,
            )),
            (None, _) => None,
        };
        let (Some(spec), Some(mut given), Some(accelerator), Some(cascade)) =
            (spec, given, accelerator, cascade)
        else {
            return Err(problems);
        };
        let mut alike = self.clone();
        let model = self.the_model(catalog)?;
        if own {
            self.check_sizes(&cascade, &spec).map_err(at("sizes"))?;
            // What the model calls so is another size than the one that the cascade derives: nobody asked for it.
            let derived = |name: &str| cascade.parameters.get(name).is_some_and(|p| p.fixed);
            let asked = |name: &str| self.sizes.contains_key(name) || ["M", "P"].contains(&name);
            given.retain(|name, _| asked(name) || !derived(name));
        } else {
            alike.accelerator = Some(self.its_chip());
        }
        if let Some(model) = model {
            let set = |name: &str| spec.sizes.iter().any(|(size, _)| size.text == name);
            let known = |name: &str| given.contains_key(name) || set(name);
            cascade.check_model(&model, &known).map_err(at("model"))?;
            if own && !self.sizes.contains_key("H") {
                let shared = key_heads::share(&model, &cascade, &mut given);
                shared.map_err(|problem| at("model")(problem.into()))?;
            }
        }
        alike.overrides.retain(|(path, _)| bears_on_mappings(path));
        catalog
            .bound((mapping.to_string(), alike.key()), &accelerator, || {
                bind(&cascade, &accelerator, &spec, &given)
            })
            .map_err(at("run"))
    }

    /// Refuses sizes that would change nothing: those that the cascade does not have, or the mapping sets itself.
    fn check_sizes(&self, cascade: &Cascade, spec: &MappingSpec) -> Result<(), Problems> {
        let mut problems = Problems::new();
        // The layers around attention have ranks of their own.
        let names = self
            .sizes
            .keys()
            .map(String::as_str)
            .filter(|name| !self.end_to_end || !["D", "S"].contains(name));
        problems.absorb(cascade.check_size_names(names));
        for (name, _) in spec
            .sizes
            .iter()
            .filter(|(name, _)| self.sizes.contains_key(&name.text))
        {
            problems.push(
                Problem::nowhere(format!("mapping {} sets {} itself", spec.name, name.text))
                    .help("change it in a copy of the mapping"),
            );
        }
        problems.into_result(Some(()))
    }

    /// The sizes that the model, the length and `sizes` give.
    ///
    /// # Errors
    /// No such model, or a model without a length.
    pub fn given(&self, catalog: &Catalog) -> Result<BTreeMap<String, u64>, Problems> {
        let mut given = match (&self.model, self.length) {
            (Some(model), Some(length)) => {
                let beside = self.beside.as_deref();
                let model = catalog.model(model, beside, &self.edits.model)?;
                model.sizes(length)
            }
            (Some(_), None) => {
                return Err(Problem::nowhere("a model needs a length").help("give one such as 64K: --length on the command line, `length` or `lengths` in a run file").into());
            }
            (None, length) => {
                let ranks = ["M", "P"].map(|r| length.map(|l| (r.to_string(), l)));
                ranks.into_iter().flatten().collect()
            }
        };
        given.extend(self.sizes.iter().map(|(k, v)| (k.clone(), *v)));
        Ok(given)
    }

    fn accelerator(
        &self,
        catalog: &Catalog,
        spec: &MappingSpec,
    ) -> Result<Arc<Accelerator>, Problems> {
        let beside = self.beside.as_deref();
        let edits = &self.edits.accelerator[..];
        let found = match (&self.accelerator, self.accounting) {
            (Some(name), _) => catalog.accelerator(name, beside, edits)?,
            (None, accounting) => {
                let name = match accounting {
                    Accounting::Published => spec.published.as_ref(),
                    Accounting::Correct => spec.accelerator.as_ref(),
                };
                let Some(name) = name else {
                    let what = if accounting == Accounting::Published {
                        "published accounting"
                    } else {
                        "accelerator"
                    };
                    return Err(
                        Problem::nowhere(format!("mapping {} names no {what}", spec.name))
                            .help("name an accelerator with --accelerator")
                            .into(),
                    );
                };
                named_in(spec, catalog, &|c, n, b| c.accelerator(n, b, edits), name)?
            }
        };
        if self.overrides.is_empty() {
            return Ok(found);
        }
        catalog
            .overridden(&found, &self.overrides)
            .map_err(|p| self.places.place(p.into(), "set"))
    }

    /// The text of one of the run's files, unchanged.
    ///
    /// # Errors
    /// No such file, or every mistake in it; a run without a model.
    pub fn source(&self, catalog: &Catalog, file: File) -> Result<Source, Problems> {
        let beside = self.beside.as_deref();
        let spec = || catalog.mapping(&self.mapping, beside, &[]);
        match file {
            File::Mapping => Ok(spec()?.source.clone()),
            File::Accelerator => Ok(self.chip(catalog)?.source.clone()),
            File::Model => match &self.model {
                Some(model) => Ok(models().find(model, beside)?.0),
                None => Err(Problem::nowhere("the run has no model").into()),
            },
            File::Workload => match &self.workload {
                Some(name) => Ok(catalog.cascade(name, beside, &[])?.source.clone()),
                None => {
                    let spec = spec()?;
                    let load: Load<'_, Cascade> = &|c, n, b| c.cascade(n, b, &[]);
                    Ok(named_in(&spec, catalog, load, &spec.workload)?
                        .source
                        .clone())
                }
            },
        }
    }

    /// The accelerator of the run, unchanged.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn chip(&self, catalog: &Catalog) -> Result<Arc<Accelerator>, Problems> {
        let spec = catalog.mapping(&self.mapping, self.beside.as_deref(), &[])?;
        self.accelerator(catalog, &spec)
    }

    /// Runs it.
    ///
    /// # Errors
    /// Every mistake in the files, why the mapping is illegal, or a count beyond 128 bits.
    pub fn run(&self, catalog: &Catalog) -> Result<Report, Problems> {
        let mapped = self.bind(catalog)?;
        let mut reports = vec![self.evaluate(&mapped)?];
        if let Some(model) = self.the_model(catalog)? {
            let chosen = |name: &str| {
                self.sizes.contains_key(name)
                    || mapped.spec.sizes.iter().any(|(n, _)| n.text == name)
            };
            let mut overridden = mapped.cascade.overridden(&mapped.sizes, &model);
            overridden.retain(|o| !chosen(&o.name));
            reports[0].inputs.overridden = overridden;
        }
        if let Some(depth) = self.check {
            reports[0].check = Some(catalog.check(&mapped, depth));
        }
        if self.end_to_end {
            if LINEAR_MAPPINGS.contains(&self.mapping.as_str()) {
                let problem = Problem::nowhere(format!(
                    "{} is one of the layers that end to end adds",
                    self.mapping
                ))
                .help("run it alone, or name the mapping of an attention");
                return Err(self.places.place(problem.into(), "mapping"));
            }
            for mapping in self.linear(catalog)? {
                let report = || self.evaluate(&self.bind_mapping(catalog, mapping)?);
                // The layers are the same around every attention: a comparison searches them once.
                let plain = self.overrides.is_empty() && self.edits == Edits::default();
                reports.push(match plain {
                    true => (*catalog.report(self.layers(mapping), report)?).clone(),
                    false => report()?,
                });
            }
        }
        let report =
            combine(reports).ok_or_else(|| Problem::nowhere("a count overflows 128 bits"))?;
        match report.beyond_a_double() {
            None => Ok(report),
            Some(what) => Err(Problem::nowhere(format!(
                "mapping {} on {}: the {what} is beyond what a 64-bit number holds",
                report.inputs.mapping, report.inputs.accelerator
            ))
            .help("look for a number of the accelerator that is far too large or too small: an energy, an area, a clock, a bandwidth")
            .into()),
        }
    }

    /// All that the result of layers around attention follows from: as a run of their mapping, of no cascade but its own.
    fn layers(&self, mapping: &str) -> RunKey {
        let alone = Self {
            workload: None,
            mapping: mapping.to_string(),
            accelerator: Some(self.its_chip()),
            check: None,
            ..self.clone()
        };
        alone.key()
    }

    /// What it is of, in a few words: mapping, accelerator, model, length, and what it sets.
    pub fn label(&self) -> String {
        let mut out = self.mapping.clone();
        if let Some(accelerator) = &self.accelerator {
            out.push_str(&format!(" on {accelerator}"));
        }
        let length = self
            .length
            .map(|l| format!("{} tokens", crate::units::length(l)));
        let sizes = self
            .sizes
            .iter()
            .map(|(name, size)| format!("{name}={size}"));
        let set = self.overrides.iter();
        let set = set.map(|(path, value)| format!("{path}={}", crate::units::number(*value)));
        for part in self
            .model
            .clone()
            .into_iter()
            .chain(length)
            .chain(sizes)
            .chain(set)
        {
            out.push_str(&format!(", {part}"));
        }
        out
    }

    /// What tells its accelerator from another one's.
    fn its_chip(&self) -> String {
        let of_mapping = || format!("that of the mapping {}", self.mapping);
        self.accelerator.clone().unwrap_or_else(of_mapping)
    }

    fn evaluate(&self, mapped: &MappedCascade) -> Result<Report, Problems> {
        let report = self.engine.evaluate(mapped);
        let mut report = report.map_err(|e| not_run(mapped, &e))?;
        report.inputs.model.clone_from(&self.model);
        report.inputs.length = self.length;
        let numbers = self.overrides.iter().map(|(p, v)| (p, v.to_string()));
        report.inputs.set = numbers.map(|(p, v)| (p.clone(), v)).collect();
        Ok(report)
    }
}

type Load<'a, T> = &'a dyn Fn(&Catalog, &str, Option<&Path>) -> Result<Arc<T>, Problems>;

/// Loads what a mapping file names; a failure points into the mapping file.
fn named_in<T>(
    spec: &MappingSpec,
    catalog: &Catalog,
    load: Load<'_, T>,
    name: &einflow_mappings::spec::Name,
) -> Result<Arc<T>, Problems> {
    // An embedded file has a name and is nowhere; the folder of a file in the working folder is empty, and there may be
    // a file of another kind there under the embedded one's name.
    let file = PathBuf::from(spec.source.name());
    let text = files::existing_text(&file);
    let is_mapping =
        |text: String| einflow_mappings::mappings().may_be(&Source::new(spec.source.name(), text));
    let mapping = text.is_some_and(|text| text.is_ok_and(is_mapping));
    let beside = file.parent().filter(|_| mapping);
    load(catalog, &name.text, beside).map_err(|problems| {
        let mut out = Problems::new();
        for problem in problems.iter() {
            out.push(match &problem.place {
                Some(_) => problem.clone(),
                None => Problem {
                    place: Some((spec.source.clone(), name.span)),
                    ..problem.clone()
                },
            });
        }
        out
    })
}
