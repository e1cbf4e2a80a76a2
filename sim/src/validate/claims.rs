//! Claims about systems of devices, each held against what scenarios give, with the reason where it does not reproduce.

use einflow_spec::{
    Edit, Form, Name, Problem, Problems, Record, Written, did_you_mean, edited, named, positive,
    record,
};
use rayon::prelude::*;

use super::{
    experiment::{Bound, Claims, Experiment, tolerance},
    outcome::{ColumnResult, ExperimentResult, RowResult},
};
use crate::sweep::Value;
use einflow_serving::offload::{
    self, Scenario,
    scenario::scenarios,
    serve::{Options, Unwatched},
};

record! {
    /// What somebody claims, and the scenarios that show it.
    #[derive(Clone, Debug)]
    pub struct Claim = "a claim" {
        /// In a few words.
        pub claim: String;
        /// The claimed value, from and to.
        pub claimed: (f64, f64) as range;
        /// How far beyond a value may be, relative.
        pub tolerance: f64 as tolerance;
        /// Whether it reproduces; where it does not, values lie outside, which is checked too.
        pub reproduces: bool = true;
        /// Why so near, or why not.
        pub reason: String;
        /// What is held against it: each case, their mean, the range (both ends of the claimed one are met), the least, the most.
        pub of: Aggregate = Aggregate::Each => "`each`";
        /// By what each value is divided.
        pub per: f64 as positive = 1.0 => "1";
        /// The result's name, as in a sweep over scenarios.
        pub metric: Name;
        /// The cases.
        pub cases: Vec<Case> as cases;
    }
}

named! {
    /// What is held against a claim.
    pub enum Aggregate = "aggregate" {
        /// Every case.
        Each = "each",
        /// Their mean.
        Mean = "mean",
        /// The least and the largest: both ends of the claimed range are met.
        Range = "range",
        /// The least.
        Least = "least",
        /// The largest.
        Most = "most",
    }
}

record! {
    /// One case: a value of a scenario, or of one over another.
    #[derive(Clone, Debug)]
    pub struct Case = "a case" {
        /// What tells it from the others.
        pub name("case"): String;
        /// Above the line.
        pub over: Measure;
        /// Below it.
        pub under: Option<Measure> => "nothing";
    }
}

record! {
    /// A value of a scenario.
    #[derive(Clone, Debug)]
    pub struct Measure = "a value of a scenario" {
        /// The scenario: a name or a path.
        pub scenario: Name;
        /// What is other than in its file, by path.
        pub set: Vec<(Name, Value)> = Vec::new() => "nothing";
        /// The value's name.
        pub metric: Option<Name> => "the claim's";
    }
}

fn range() -> Form<(f64, f64)> {
    Form {
        value: || "two numbers, `[from, to]`".into(),
        read: |_, node| match node.list()? {
            [a, b] => match (a.f64()?, b.f64()?) {
                (from, to) if from <= to => Ok((from, to)),
                _ => Err(node.expected("[from, to], the lesser first").into()),
            },
            _ => Err(node.expected("two numbers, [from, to]").into()),
        },
    }
}

fn cases() -> Form<Vec<Case>> {
    Form {
        value: || format!("list: {}", Case::WHAT),
        read: |name, node| match node.list()? {
            [] => Err(node.expected("a case or more").into()),
            _ => (Written::form().read)(name, node),
        },
    }
}

impl Measure {
    fn value(&self, experiment: &Experiment, metric: &Name) -> Result<f64, Problems> {
        let metric = self.metric.as_ref().unwrap_or(metric);
        let edits: Vec<Edit> = self
            .set
            .iter()
            .map(|(path, value)| Edit {
                path: path.text.clone(),
                value: value.ron(),
            })
            .collect();
        let at = |p: Problem| match p.place {
            Some(_) => p,
            None => Problem {
                place: Some((experiment.source.clone(), self.scenario.span)),
                ..p
            },
        };
        let beside = experiment.beside.as_deref();
        let (source, origin) = scenarios().find(&self.scenario.text, beside).map_err(at)?;
        let scenario = Scenario::parse(&edited(&source, &edits)?, origin.folder())?;
        let (report, _) = offload::report(scenario, Options::default(), &Unwatched)?;
        let metrics = report.metrics();
        let found = metrics.iter().find(|(n, _)| *n == metric.text);
        let value = found.and_then(|(_, m)| m.number());
        value.ok_or_else(|| {
            let numbers = metrics.iter().filter(|(_, m)| m.number().is_some());
            let known = numbers.map(|(n, _)| n.as_str());
            Problem::at(
                &experiment.source,
                metric.span,
                format!("there is no number `{}`", metric.text),
            )
            .help(did_you_mean(&metric.text, known))
            .into()
        })
    }
}

/// Runs the scenarios of all claims.
pub(super) fn run(experiment: &Experiment, claims: &Claims) -> Result<ExperimentResult, Problems> {
    let mut columns = Vec::new();
    let mut notes = Vec::new();
    for claim in &claims.claims {
        let values: Vec<Result<f64, Problems>> = claim
            .cases
            .par_iter()
            .map(|case| {
                let over = case.over.value(experiment, &claim.metric)?;
                let under = match &case.under {
                    Some(under) => under.value(experiment, &claim.metric)?,
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
