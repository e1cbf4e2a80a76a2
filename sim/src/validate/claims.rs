//! Claims about systems of devices, each held against what scenarios give, with the reason where it does not reproduce.

use einflow_spec::{Edit, Fields, Name, Node, Problem, Problems, did_you_mean, edited, list};
use rayon::prelude::*;

use super::{
    experiment::{Bound, Experiment, text, tolerance},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use crate::sweep::Value;
use einflow_serving::offload::{
    self, Scenario,
    scenario::scenarios,
    serve::{Options, Unwatched},
};

/// What somebody claims, and the scenarios that show it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// In a few words.
    pub claim: String,
    /// The claimed value, from and to.
    pub claimed: (f64, f64),
    /// How far beyond a value may be.
    pub tolerance: f64,
    /// Whether it reproduces; where it does not, values lie outside, and the file says why.
    pub reproduces: bool,
    /// Why so near, or why not.
    pub reason: String,
    /// What is held against it.
    pub of: Aggregate,
    /// By what values are divided.
    pub per: f64,
    /// The cases.
    pub cases: Vec<Case>,
}

/// What is held against a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Every case.
    Each,
    /// Their mean.
    Mean,
    /// The least and the largest: both ends of the claimed range are met.
    Range,
    /// The least.
    Least,
    /// The largest.
    Most,
}

/// One case: a value of a scenario, or of one over another.
#[derive(Clone, Debug)]
pub struct Case {
    /// What tells it from the others.
    pub name: String,
    /// Above the line.
    pub over: Measure,
    /// Below it.
    pub under: Option<Measure>,
}

/// A value of a scenario.
#[derive(Clone, Debug)]
pub struct Measure {
    /// The scenario: a name or a path.
    pub scenario: Name,
    /// What is other than in its file.
    pub set: Vec<Edit>,
    /// The value's name.
    pub metric: Name,
}

/// Reads a claim.
pub(super) fn read(node: &Node) -> Result<Claim, Problems> {
    let mut f = Fields::new(node, "a claim");
    let claim = f.need("claim", text);
    let claimed = f.need("claimed", |n| match n.list()? {
        [a, b] => match (a.f64()?, b.f64()?) {
            (from, to) if from <= to => Ok((from, to)),
            _ => Err(n.expected("[from, to], the lesser first")),
        },
        _ => Err(n.expected("two numbers, [from, to]")),
    });
    let tolerance = f.need("tolerance", tolerance);
    let reproduces = f.get("reproduces", Node::bool).unwrap_or(true);
    let reason = f.need("reason", text);
    let of = f
        .get("of", |n| match n.text()? {
            "each" => Ok(Aggregate::Each),
            "mean" => Ok(Aggregate::Mean),
            "range" => Ok(Aggregate::Range),
            "least" => Ok(Aggregate::Least),
            "most" => Ok(Aggregate::Most),
            _ => Err(n.expected("each, mean, range, least or most")),
        })
        .unwrap_or(Aggregate::Each);
    let per = f.get("per", |n| match n.f64()? {
        per if per.is_finite() && per > 0.0 => Ok(per),
        _ => Err(n.expected("a number above 0")),
    });
    let per = per.unwrap_or(1.0);
    let metric = f.need("metric", Name::read);
    let cases = f.need_all("cases", |n| match n.list()? {
        [] => Err(n.expected("a case or more").into()),
        _ => list(n, |n| case(n, metric.as_ref())),
    });
    let value = (|| {
        Some(Claim {
            claim: claim?,
            claimed: claimed?,
            tolerance: tolerance?,
            reproduces,
            reason: reason?,
            of,
            per,
            cases: cases?,
        })
    })();
    f.finish(value)
}

fn case(node: &Node, metric: Option<&Name>) -> Result<Case, Problems> {
    let mut f = Fields::new(node, "a case");
    let own_name = f.need("case", text);
    let over = f.need_all("over", |n| measure(n, metric));
    let under = f.get_all("under", |n| measure(n, metric));
    let value = own_name
        .zip(over)
        .map(|(name, over)| Case { name, over, under });
    f.finish(value)
}

fn measure(node: &Node, metric: Option<&Name>) -> Result<Measure, Problems> {
    let mut f = Fields::new(node, "a value of a scenario");
    let scenario = f.need("scenario", Name::read);
    let set = f
        .get_all("set", |n| {
            let mut problems = Problems::new();
            let mut out = Vec::new();
            for (path, _, value) in n.record()? {
                let value = problems.absorb(Value::read(value).map_err(Problems::from));
                out.extend(value.map(|value| Edit {
                    path: path.clone(),
                    value: value.ron(),
                }));
            }
            problems.into_result(Some(out))
        })
        .unwrap_or_default();
    let metric = f.get("metric", Name::read).or_else(|| metric.cloned());
    let value = scenario.zip(metric).map(|(scenario, metric)| Measure {
        scenario,
        set,
        metric,
    });
    f.finish(value)
}

impl Measure {
    fn value(&self, experiment: &Experiment) -> Result<f64, Problems> {
        let at = |p: Problem| match p.place {
            Some(_) => p,
            None => Problem {
                place: Some((experiment.source.clone(), self.scenario.span)),
                ..p
            },
        };
        let beside = experiment.beside.as_deref();
        let (source, origin) = scenarios().find(&self.scenario.text, beside).map_err(at)?;
        let scenario = Scenario::parse(&edited(&source, &self.set)?, origin.folder())?;
        let (report, _) = offload::report(scenario, Options::default(), &Unwatched)?;
        let metrics = report.metrics();
        let found = metrics.iter().find(|(n, _)| *n == self.metric.text);
        let value = found.and_then(|(_, m)| m.number());
        value.ok_or_else(|| {
            let numbers = metrics.iter().filter(|(_, m)| m.number().is_some());
            let known = numbers.map(|(n, _)| n.as_str());
            Problem::at(
                &experiment.source,
                self.metric.span,
                format!("there is no number `{}`", self.metric.text),
            )
            .help(did_you_mean(&self.metric.text, known))
            .into()
        })
    }
}

/// Runs the scenarios of all claims.
pub(super) fn run(experiment: &Experiment, claims: &[Claim]) -> Result<ExperimentResult, Problems> {
    let mut columns = Vec::new();
    let mut notes = Vec::new();
    for claim in claims {
        let values: Vec<Result<f64, Problems>> = claim
            .cases
            .par_iter()
            .map(|case| {
                let over = case.over.value(experiment)?;
                let under = match &case.under {
                    Some(under) => under.value(experiment)?,
                    None => 1.0,
                };
                Ok(over / under / claim.per)
            })
            .collect();
        let values: Vec<f64> = values.into_iter().collect::<Result<_, _>>()?;
        let named = claim.cases.iter().map(|c| c.name.clone());
        let pairs: Vec<(String, f64)> = named.zip(values.iter().copied()).collect();
        let rows = claim.rows(&pairs);
        let inside = rows
            .iter()
            .all(|r| r.error().is_none_or(|e| e.abs() <= r.tolerance));
        let shown = shown(&pairs);
        notes.push(format!(
            "{}: {}; claimed {}, found {}. {}",
            claim.claim,
            if inside {
                "reproduces"
            } else {
                "does not reproduce"
            },
            match claim.claimed {
                (a, b) if a == b => format!("{a}"),
                (a, b) => format!("{a} to {b}"),
            },
            shown,
            claim.reason,
        ));
        if claim.reproduces {
            columns.push(ColumnResult {
                column: claim.claim.clone(),
                bound: Bound::Within,
                rows,
            });
            continue;
        }
        // What the file says does not reproduce must not: else it says something wrong.
        columns.push(ColumnResult {
            column: format!("{} (not reproduced)", claim.claim),
            bound: Bound::Report,
            rows,
        });
        columns.push(ColumnResult {
            column: format!("{}: claims that hold", claim.claim),
            bound: Bound::Within,
            rows: vec![RowResult {
                row: "all cases".into(),
                expected: Some(0.0),
                found: f64::from(u8::from(inside)),
                tolerance: 0.0,
            }],
        });
    }
    Ok(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes,
    })
}

/// Every value; of many, the least and the largest.
fn shown(pairs: &[(String, f64)]) -> String {
    const MOST: usize = 12;
    let one = |(name, value): &(String, f64)| format!("{value:.3} ({name})");
    if pairs.len() <= MOST {
        return pairs.iter().map(one).collect::<Vec<_>>().join(", ");
    }
    let by = |a: &&(String, f64), b: &&(String, f64)| a.1.total_cmp(&b.1);
    let (least, most) = (pairs.iter().min_by(by), pairs.iter().max_by(by));
    let ends: Vec<String> = least.into_iter().chain(most).map(one).collect();
    format!("{} in {} cases", ends.join(" to "), pairs.len())
}

impl Claim {
    fn rows(&self, pairs: &[(String, f64)]) -> Vec<RowResult> {
        let (low, high) = self.claimed;
        let row = |what: &str, found: f64, expected: f64| RowResult {
            row: what.to_string(),
            expected: Some(expected),
            found,
            tolerance: self.tolerance,
        };
        let inside = |what: &str, found: f64| row(what, found, found.clamp(low, high));
        let values = || pairs.iter().map(|(_, v)| *v);
        let least = values().fold(f64::INFINITY, f64::min);
        let most = values().fold(f64::NEG_INFINITY, f64::max);
        match self.of {
            Aggregate::Each => pairs.iter().map(|(n, v)| inside(n, *v)).collect(),
            Aggregate::Mean => {
                let mean = values().sum::<f64>() / pairs.len().max(1) as f64;
                vec![inside("mean", mean)]
            }
            Aggregate::Range => vec![row("least", least, low), row("most", most, high)],
            Aggregate::Least => vec![inside("least", least)],
            Aggregate::Most => vec![inside("most", most)],
        }
    }
}
