//! Sweeps: one run over a grid of values, written as it goes.
//!
//! A sweep file names a run, the axes that vary and what to keep ([`SweepFile`]). [`run`] evaluates the points on all
//! cores in a fixed order, so that the files hold the same bytes whatever the number of threads, and holds no more of
//! them in memory than a few and the Pareto front.

mod axes;
mod base;
mod front;
mod point;
mod row;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use einflow_spec::{
    At, Form, Library, Name, Problem, Problems, Record, Source, expr::Expr, list, record,
};
use rayon::prelude::*;

pub use axes::Value;
use axes::{Dimension, Target, Values, dimension, expression};
use base::Base;
use einflow_engine::{catalog::Catalog, request::Engine};
use front::Front;
use point::Evaluator;
use row::{Columns, Status, Verdict};
use write::Writer;
pub use write::{FRONT, POINTS_CSV, POINTS_JSON};

static SWEEPS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sweeps.rs"));

/// Points evaluated between two writes, at most; fewer where they take long, so that rows are written as they come.
const CHUNK: u64 = 256;
/// What so many take about.
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

/// Reasons that are shown where no point is legal.
const MOST_REASONS: usize = 3;

/// The sweep files that travel in the binary.
pub fn sweeps() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("sweep", "ron", SWEEPS).marked("axes"));
    &LIBRARY
}

/// A result to make small or large.
#[derive(Clone, Debug)]
pub struct Objective {
    /// The result's or axis's name.
    pub name: Name,
    /// 1 where less is better, -1 where more is.
    pub sign: f64,
}

record! {
    /// A sweep file.
    #[derive(Clone, Debug)]
    pub struct SweepFile = "a sweep" {
        /// Its name.
        pub name: String;
        /// Where its numbers come from.
        pub cited("source"): Option<String> => "nothing is cited";
        /// One or two sentences.
        pub description: String = String::new() => "nothing";
        /// The file.
        pub source: Source where Source;
        /// The run or the scenario that the axes change.
        pub(self) base: Base;
        /// What computes the results.
        pub engine: Option<At<Engine>> => "`analytic`";
        /// What varies, the first slowest.
        pub(self) dimensions("axes"): Vec<Dimension> as axes;
        /// Points where one of these is 0 are left out.
        pub(self) constraints("where"): Vec<Expr> as constraints = Vec::new() => "all points";
        /// The results to write.
        pub(self) columns: Option<Vec<Name>> => "cycles, seconds, traffic, energy, area, bottleneck, utilization";
        /// What the front is about.
        pub(self) objectives("front"): Option<Vec<Objective>> as objectives => "see below";
    }
}

record! {
    /// The results that a front makes small and large.
    pub struct Objectives = "a front" {
        /// Those to make small.
        pub minimize: Vec<Name> = Vec::new() => "none";
        /// Those to make large.
        pub maximize: Vec<Name> = Vec::new() => "none";
    } check |fields| {
        let given = |names: &Option<Vec<Name>>| names.as_ref().is_some_and(|n| !n.is_empty());
        if !given(&minimize) && !given(&maximize) {
            let problem = fields.node().problem("a front of nothing");
            fields.push(problem.help("such as front: (minimize: [\"seconds\", \"area_mm2\"])"));
        }
    }
}

fn objectives() -> Form<Vec<Objective>> {
    Form {
        value: || Objectives::WHAT.into(),
        read: |name, node| {
            let all = Objectives::read(name, node)?;
            let of = |names: Vec<Name>, sign| {
                names.into_iter().map(move |name| Objective { name, sign })
            };
            Ok(of(all.minimize, 1.0)
                .chain(of(all.maximize, -1.0))
                .collect())
        },
    }
}

fn axes() -> Form<Vec<Dimension>> {
    Form {
        value: || "list: an axis".into(),
        read: |_, node| {
            let axes = list(node, dimension)?;
            if axes.is_empty() {
                let problem = node.problem("a sweep without axes is a single run");
                let help = "give at least one: (path: \"length\", values: [\"1K\", \"4K\"])";
                return Err(problem.help(help).into());
            }
            Ok(axes)
        },
    }
}

fn constraints() -> Form<Vec<Expr>> {
    Form {
        value: || "list: an expression".into(),
        read: |_, node| list(node, |n| Ok(expression(n)?)),
    }
}

impl SweepFile {
    /// Finds a sweep file by name or path.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn load(name: &str) -> Result<Self, Problems> {
        let (source, origin) = sweeps().find(name, None)?;
        Self::parse(&source, origin.folder())
    }

    /// Reads a sweep file; names in it are looked for in `beside` first.
    ///
    /// # Errors
    /// Every mistake in the file's form.
    pub fn parse(source: &Source, beside: Option<PathBuf>) -> Result<Self, Problems> {
        let mut sweep = Self::read_file(source)?;
        sweep.base.set_beside(beside);
        sweep.check()?;
        if let (Base::Run(request), Some(engine)) = (&mut sweep.base, &sweep.engine) {
            request.engine = engine.value;
        }
        Ok(sweep)
    }

    /// Refuses axes of one name, more than one that ends by a condition, and a grid beyond 2^63 points.
    fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let axes: Vec<_> = self.axes().collect();
        for (i, axis) in axes.iter().enumerate() {
            if axes[..i]
                .iter()
                .any(|a| a.name == axis.name || a.target == axis.target)
            {
                problems.push(
                    Problem::at(
                        &self.source,
                        axis.span,
                        format!("{} varies twice", axis.path),
                    )
                    .help("each axis has a path and a name of its own"),
                );
            }
        }
        for axis in &axes {
            let of_scenario = matches!(axis.target, Target::Scenario | Target::ScenarioField(_));
            if of_scenario != self.base.is_scenario() {
                let (what, base) = match of_scenario {
                    true => ("a scenario", "a run"),
                    false => ("a run", "a scenario"),
                };
                problems.push(
                    Problem::at(
                        &self.source,
                        axis.span,
                        format!("{} is of {what}, and the base is {base}", axis.path),
                    )
                    .help("base: (scenario: \"lamina-70b\") goes with scenario.PATH"),
                );
            }
        }
        if let (true, Some(engine)) = (self.base.is_scenario(), &self.engine) {
            let problem = Problem::at(&self.source, engine.span, "an engine for a scenario");
            problems.push(
                problem.help("the pools of its file name theirs: scenario.pools.NAME.engine"),
            );
        }
        let varies = axes.iter().find(|axis| axis.target == Target::Engine);
        if let (Some(axis), Some(_)) = (varies, &self.engine) {
            let problem = Problem::at(
                &self.source,
                axis.span,
                "the sweep names its engine, and varies it",
            );
            problems.push(problem.help("keep the axis or the field `engine`"));
        }
        let open = axes.iter().filter(|a| matches!(a.values, Values::Until(_)));
        if let Some(second) = open.clone().nth(1) {
            problems.push(
                Problem::at(
                    &self.source,
                    second.span,
                    format!(
                        "{} is the second axis that ends by a condition",
                        second.name
                    ),
                )
                .help("one may"),
            );
        }
        let total = self
            .dimensions
            .iter()
            .try_fold(1u64, |n, d| n.checked_mul(d.count))
            .filter(|n| *n < 1 << 63);
        if let (None, Some(axis)) = (total, axes.first()) {
            problems.push(
                Problem::at(
                    &self.source,
                    axis.span,
                    "the axes span more than 2^63 points",
                )
                .help("take fewer values"),
            );
        }
        problems.into_result(Some(()))
    }

    fn axes(&self) -> impl Iterator<Item = &axes::Axis> + Clone {
        self.dimensions.iter().flat_map(|d| &d.axes)
    }

    /// Results for a narrow table: those that the file names, or what the front is about and what bounds it.
    pub fn headlines(&self) -> Vec<String> {
        match &self.columns {
            Some(list) => list.iter().map(|n| n.text.clone()).collect(),
            None => {
                let ranked = self.front().into_iter().map(|(name, _)| name);
                let bound = match self.base.is_scenario() {
                    true => "bound_by",
                    false => "bottleneck",
                };
                ranked.chain([bound.to_string()]).collect()
            }
        }
    }

    /// Names of the axes with more than one value, but those that follow from others.
    pub fn varying(&self) -> Vec<&str> {
        let varies = |axis: &&axes::Axis| match &axis.values {
            Values::List(list) => list.len() > 1,
            Values::Until(_) => true,
            Values::Follows(_) => false,
        };
        self.axes()
            .filter(varies)
            .map(|a| a.name.as_str())
            .collect()
    }

    /// What the front is about.
    pub fn front(&self) -> Vec<(String, f64)> {
        match &self.objectives {
            None if self.base.is_scenario() => point::SCENARIO_OBJECTIVES
                .map(|n| (n.to_string(), 1.0))
                .to_vec(),
            None => point::DEFAULT_OBJECTIVES
                .map(|n| (n.to_string(), 1.0))
                .to_vec(),
            Some(list) => list.iter().map(|o| (o.name.text.clone(), o.sign)).collect(),
        }
    }

    /// Points of the grid.
    pub fn points(&self) -> u64 {
        self.dimensions.iter().map(|d| d.count).product()
    }
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Points of the grid.
    pub points: u64,
    /// Points that were evaluated before the end, or the stop.
    pub done: u64,
    /// Rows with results.
    pub ok: u64,
    /// Rows of illegal points, with the reason.
    pub illegal: u64,
    /// Rows whose condition did not hold before the end of its axis.
    pub unmet: u64,
    /// Points that a constraint left out.
    pub excluded: u64,
    /// Rows on the front.
    pub front: u64,
}

/// Who watches a sweep.
pub trait Watch: Sync {
    /// So many points are done.
    fn done(&self, points: u64);
    /// Whether to stop here.
    fn stop(&self) -> bool;
}

/// Evaluates every point and writes [`POINTS_CSV`], [`POINTS_JSON`] and [`FRONT`] into `folder`, which is made if needed.
///
/// # Errors
/// Names that are not known, files that cannot be written, a sweep that leaves no point: what was computed is in the
/// files nevertheless.
pub fn run(sweep: &SweepFile, folder: &Path, watch: &dyn Watch) -> Result<Summary, Problems> {
    let catalog = Catalog::new();
    let evaluator = Evaluator::new(sweep, &catalog)?;
    let columns = evaluator.columns()?;
    let mut writer = Writer::create(folder, &columns)?;
    let mut front = Front::default();
    let total = sweep.points();
    let mut summary = Summary {
        points: total,
        ..Summary::default()
    };
    let mut failure = None;
    let mut refused = Vec::new();
    let mut chunk = rayon::current_num_threads() as u64;
    while summary.done < total && !watch.stop() && failure.is_none() {
        let end = total.min(summary.done + chunk);
        let started = Instant::now();
        let verdicts: Vec<Result<Verdict, Problems>> = (summary.done..end)
            .into_par_iter()
            .map(|point| evaluator.evaluate(point, &columns))
            .collect();
        chunk = match started.elapsed() < BETWEEN_WRITES {
            true => CHUNK.min(2 * chunk),
            false => (chunk / 2).max(1),
        };
        for verdict in verdicts {
            match verdict {
                Ok(Verdict::Excluded) => summary.excluded += 1,
                Ok(Verdict::Row(row)) => {
                    match row.status {
                        Status::Ok => {
                            summary.ok += 1;
                            front.offer(&row.work, writer.rows(), &row.objectives);
                        }
                        Status::Illegal => {
                            summary.illegal += 1;
                            if refused.len() < MOST_REASONS && !refused.contains(&row.reason) {
                                refused.push(row.reason.clone());
                            }
                        }
                        Status::Unmet => summary.unmet += 1,
                    }
                    writer.write(&row)?;
                }
                Err(problems) => {
                    failure = Some(problems);
                    break;
                }
            }
        }
        summary.done = end;
        watch.done(end);
    }
    let stopped = summary.done < total;
    let on_front = front.rows();
    summary.front = on_front.len() as u64;
    writer.finish(&on_front)?;
    match failure {
        Some(problems) => Err(problems),
        None if stopped => Ok(summary),
        None => leaves_something(sweep, &summary, &columns, &refused).map(|()| summary),
    }
}

/// Refuses a sweep of which nothing is left.
fn leaves_something(
    sweep: &SweepFile,
    summary: &Summary,
    columns: &Columns,
    refused: &[String],
) -> Result<(), Problems> {
    if summary.illegal > 0 && summary.illegal + summary.excluded == summary.points {
        let all = format!(
            "none of the {} points of `{}` is legal",
            summary.points, sweep.name
        );
        return Err(Problem::nowhere(all).help(refused.join("\n")).into());
    }
    let points = if summary.points == 1 {
        "the only point"
    } else {
        "every point"
    };
    if summary.excluded == summary.points {
        let Some(first) = sweep.constraints.first() else {
            return Ok(());
        };
        let span = first.span();
        let found = columns
            .nearest_miss
            .as_ref()
            .map(|m| format!("the first has {m}; "))
            .unwrap_or_default();
        let problem = Problem::at(
            &sweep.source,
            span,
            format!("`where` leaves out {points}, all {}", summary.points),
        );
        return Err(problem
            .help(format!("{found}loosen a condition, or widen an axis"))
            .into());
    }
    let until = sweep.axes().find_map(|a| match &a.values {
        Values::Until(until) => Some((a, until)),
        _ => None,
    });
    if let Some((axis, until)) = until
        && summary.unmet > 0
        && summary.ok == 0
    {
        return Err(Problem::at(
            &sweep.source,
            until.condition.span(),
            format!("`{}` never holds, with {} up to {}", until.condition, axis.name, until.to),
        )
        .help("the rows hold the last value of each; give `to` a larger bound or change the condition")
        .into());
    }
    Ok(())
}
