//! What a sweep varies: a run, or a scenario of pools of devices.

use std::path::PathBuf;

use einflow_spec::{Edit, Fields, Form, Node, Problem, Problems, Record, Source, Written, edited};

use crate::runs::Run;
use einflow_engine::report::{Metric, Report};
use einflow_engine::{catalog::Catalog, request::Request};
use einflow_serving::offload::{
    self, Scenario,
    scenario::scenarios,
    serve::{Options, Unwatched},
};

/// The base of a sweep.
#[derive(Clone, Debug)]
pub enum Base {
    /// A run.
    Run(Box<Request>),
    /// A scenario, by name or path.
    Scenario {
        /// As written.
        name: String,
        /// Where it is looked for first.
        beside: Option<PathBuf>,
    },
}

impl Written for Base {
    fn form() -> Form<Self> {
        Form {
            value: || "a run, or `(scenario: ...)`".into(),
            read: |_, node| Self::read(node),
        }
    }
}

impl Base {
    /// Reads `(scenario: ...)`, or a run.
    fn read(node: &Node) -> Result<Self, Problems> {
        let entries = node.record().unwrap_or_default();
        if entries.iter().any(|(key, ..)| key == "scenario") {
            let mut f = Fields::new(node, "a base");
            let name = f.need("scenario", |n| Ok(n.text()?.to_string()));
            return f.finish(name.map(|name| Self::Scenario { name, beside: None }));
        }
        Run::read("", node).map(|run| Self::Run(Box::new(run.into())))
    }

    /// Names in it are looked for there first.
    pub fn set_beside(&mut self, folder: Option<PathBuf>) {
        match self {
            Self::Run(request) => request.beside = folder,
            Self::Scenario { beside, .. } => *beside = folder,
        }
    }

    /// Whether it is a scenario.
    pub fn is_scenario(&self) -> bool {
        matches!(self, Self::Scenario { .. })
    }
}

/// What a point runs.
pub enum Work {
    /// A run.
    Run(Box<Request>),
    /// A scenario's text, and the folder of its file.
    Scenario(Source, Option<PathBuf>),
}

impl Work {
    /// The scenario with some values in the place of others.
    pub fn scenario(
        name: &str,
        beside: Option<&PathBuf>,
        edits: &[Edit],
    ) -> Result<Self, Problems> {
        let (source, origin) = scenarios().find(name, beside.map(PathBuf::as_path))?;
        Ok(Self::Scenario(edited(&source, edits)?, origin.folder()))
    }

    /// Runs it.
    pub fn run(&self, catalog: &Catalog) -> Result<Found, Problems> {
        match self {
            Self::Run(request) => request.run(catalog).map(|r| Found::Run(Box::new(r))),
            Self::Scenario(source, folder) => {
                let scenario = Scenario::parse(source, folder.clone())?;
                let (report, _) = offload::report(scenario, Options::default(), &Unwatched)?;
                Ok(Found::Scenario(Box::new(report)))
            }
        }
    }

    /// The run, where it is one.
    pub fn request(self) -> Result<Request, Problem> {
        match self {
            Self::Run(request) => Ok(*request),
            Self::Scenario(..) => Err(Problem::nowhere("a scenario has no sizes")
                .help("values that follow from others are of the axes before them")),
        }
    }
}

/// What came out of a point.
pub enum Found {
    /// Of a run.
    Run(Box<Report>),
    /// Of a scenario.
    Scenario(Box<offload::Report>),
}

impl Found {
    /// A result by name.
    pub fn metric(&self, name: &str) -> Option<Metric> {
        match self {
            Self::Run(report) => report.metric(name),
            Self::Scenario(report) => {
                let all = report.metrics().into_iter();
                all.into_iter().find(|(n, _)| n == name).map(|(_, m)| m)
            }
        }
    }

    /// Every name.
    pub fn metric_names(&self) -> Vec<String> {
        match self {
            Self::Run(report) => report.metric_names(),
            Self::Scenario(report) => report.metrics().into_iter().map(|(n, _)| n).collect(),
        }
    }

    /// Results that are written besides the default ones.
    pub fn utilizations(&self) -> Vec<String> {
        match self {
            Self::Run(report) => report
                .units
                .keys()
                .map(|u| format!("utilization.{u}"))
                .collect(),
            Self::Scenario(report) => report
                .memory
                .iter()
                .map(|p| format!("utilization.{}", p.pool))
                .collect(),
        }
    }
}
