//! One point of a sweep: its request, its result, its row.

use std::fmt::Write as _;

use einflow_spec::{Edit, Node, Problem, Problems, did_you_mean, expr::Expr, find};

use super::{
    SweepFile,
    axes::{Axis, Target, Until, Value, Values},
    base::{Base, Found, Work},
    row::{Columns, Row, Status, Verdict},
    write::line,
};
use einflow_engine::{
    catalog::Catalog,
    request::{Accounting, Engine, File, Request},
};
use einflow_engine::{
    report::Metric,
    units::{LENGTHS, parse_length},
};

/// So many illegal points at the start are passed over to learn what a legal one has.
const MOST_TRIED: u64 = 1000;

/// Values that are tried until a condition holds, at most.
const MOST_VALUES_TRIED: u32 = 10_000;

/// Results that are written where the file names none; the utilization of each array joins them.
const DEFAULT_COLUMNS: [&str; 6] = [
    "cycles",
    "seconds",
    "dram_bytes",
    "energy_pj",
    "area_mm2",
    "bottleneck",
];

/// What the front is about where the file does not say.
pub(super) const DEFAULT_OBJECTIVES: [&str; 3] = ["seconds", "energy_pj", "area_mm2"];

/// The same of a scenario; the utilization of each pool joins them.
const SCENARIO_COLUMNS: [&str; 6] = [
    "throughput_tokens_per_s",
    "mean_batch",
    "time_between_tokens_ms.p50",
    "tokens_per_dollar",
    "energy_j_per_token",
    "bound_by",
];

/// What its front is about where the file does not say.
pub(super) const SCENARIO_OBJECTIVES: [&str; 3] = [
    "time_between_tokens_ms.mean",
    "dollars_per_million_tokens",
    "energy_j_per_token",
];

/// Evaluates points.
pub struct Evaluator<'a> {
    sweep: &'a SweepFile,
    catalog: &'a Catalog,
    axes: Vec<&'a Axis>,
    /// By axis: a number of the accelerator that changes without reading the file again.
    direct: Vec<bool>,
    until: Option<(usize, &'a Until)>,
}

impl<'a> Evaluator<'a> {
    /// Checks the paths against the files of the first point.
    pub fn new(sweep: &'a SweepFile, catalog: &'a Catalog) -> Result<Self, Problems> {
        let axes: Vec<&Axis> = sweep.axes().collect();
        let until = axes.iter().enumerate().find_map(|(i, a)| match &a.values {
            Values::Until(until) => Some((i, until)),
            _ => None,
        });
        let mut new = Self {
            sweep,
            catalog,
            direct: vec![false; axes.len()],
            axes,
            until,
        };
        let values = new.first_values()?;
        if sweep.base.is_scenario() {
            new.check_scenario(&values)?;
            return Ok(new);
        }
        let mut plain = new
            .work(&values, |axis| !matches!(axis.target, Target::Field(..)))?
            .request()?;
        plain.edits = Default::default();
        let mut problems = Problems::new();
        for (i, axis) in new.axes.iter().enumerate() {
            let Target::Field(file, path) = &axis.target else {
                continue;
            };
            let at = |p: Problem| Problem::at(&sweep.source, axis.span, p.message);
            let chip = match file {
                File::Accelerator => Some(plain.chip(catalog)?),
                _ => None,
            };
            if chip.as_ref().is_some_and(|c| c.has_number(path))
                && !matches!(&axis.values, Values::List(list) if list.iter().any(|v| v.number().is_none()))
            {
                new.direct[i] = true;
                continue;
            }
            let source = plain.source(catalog, *file)?;
            if let Err(problem) = find(&Node::parse(&source)?, path) {
                let numbers = chip.map(|c| c.override_paths()).unwrap_or_default();
                let near = einflow_spec::nearest(path, numbers.iter().map(String::as_str));
                let help = match (near, &problem.help) {
                    (Some(near), _) => format!("did you mean `{near}`?"),
                    (None, help) => help.clone().unwrap_or_default(),
                };
                problems.push(at(problem).help(help));
            }
        }
        problems.into_result(Some(new))
    }

    /// Checks the paths against the scenario of the first point.
    fn check_scenario(&self, values: &[Value]) -> Result<(), Problems> {
        let which = |axis: &Axis| matches!(axis.target, Target::Scenario);
        let Work::Scenario(source, _) = self.work(values, which)? else {
            return Ok(());
        };
        let root = Node::parse(&source)?;
        let mut problems = Problems::new();
        for axis in &self.axes {
            let Target::ScenarioField(path) = &axis.target else {
                continue;
            };
            if let Err(problem) = find(&root, path) {
                let help = problem.help.clone().unwrap_or_default();
                problems
                    .push(Problem::at(&self.sweep.source, axis.span, problem.message).help(help));
            }
        }
        problems.into_result(Some(()))
    }

    /// What to write, by the first legal point; names that it does not have are refused.
    pub fn columns(&self) -> Result<Columns, Problems> {
        let mut columns = self.results()?;
        let axes = self.axes.iter().map(|a| a.name.clone());
        columns.header = axes
            .chain(["status".to_string()])
            .chain(columns.names.iter().cloned())
            .chain(["reason".to_string()])
            .collect();
        Ok(columns)
    }

    fn results(&self) -> Result<Columns, Problems> {
        let named = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let chosen = self.sweep.columns.as_ref();
        let chosen = chosen.map(|list| list.iter().map(|n| n.text.clone()).collect::<Vec<_>>());
        let mut columns = Columns {
            names: chosen
                .clone()
                .unwrap_or_else(|| match self.sweep.base.is_scenario() {
                    true => named(&SCENARIO_COLUMNS),
                    false => named(&DEFAULT_COLUMNS),
                }),
            header: Vec::new(),
            objectives: self.sweep.front(),
            nearest_miss: None,
        };
        let mut legal = None;
        for point in 0..self.sweep.points().min(MOST_TRIED) {
            let Ok(values) = self.values(point, None) else {
                continue;
            };
            if let Ok(report) = self.work(&values, |_| true)?.run(self.catalog) {
                legal = Some((values, report));
                break;
            }
        }
        let Some((values, report)) = legal else {
            return Ok(columns);
        };
        if chosen.is_none() {
            columns.names.extend(report.utilizations());
        }
        let mut problems = Problems::new();
        let chosen = self.sweep.columns.iter().flatten();
        let ranked = self.sweep.objectives.iter().flatten().map(|o| &o.name);
        for (name, ranks) in chosen.map(|n| (n, false)).chain(ranked.map(|n| (n, true))) {
            let found = report.metric(&name.text);
            let axis = self.number(&values, &name.text).is_some();
            if found.is_none() && !(ranks && axis) {
                problems.push(self.unknown(&report, name.span, &name.text));
            } else if ranks && !axis && found.and_then(|m| m.number()).is_none() {
                problems.push(
                    Problem::at(
                        &self.sweep.source,
                        name.span,
                        format!("`{}` is no number", name.text),
                    )
                    .help("a front ranks numbers"),
                );
            }
        }
        let until = self.until.map(|(_, u)| &u.condition);
        for condition in self.sweep.constraints.iter().chain(until) {
            problems.absorb(
                self.real(condition, &values, &report)
                    .map_err(Problems::from),
            );
        }
        if let Some(first) = self.sweep.constraints.first() {
            let mut text = String::new();
            first.walk(&mut |part| {
                if let (Expr::Name { name, .. }, true) = (part, text.is_empty())
                    && let Some(value) = self.lookup(&values, &report, name.as_str())
                {
                    let _ = write!(text, "{name} = {value}");
                }
            });
            columns.nearest_miss = (!text.is_empty()).then_some(text);
        }
        problems.into_result(Some(columns))
    }

    fn unknown(&self, report: &Found, span: einflow_spec::Span, name: &str) -> Problem {
        let names = report.metric_names();
        Problem::at(
            &self.sweep.source,
            span,
            format!("there is no result `{name}`"),
        )
        .help(did_you_mean(name, names.iter().map(String::as_str)))
    }

    /// The values of the first point whose expressions have some.
    fn first_values(&self) -> Result<Vec<Value>, Problems> {
        let first = self.values(0, None);
        let mut others = 1..self.sweep.points().min(MOST_TRIED);
        first.or_else(|e| {
            others
                .find_map(|point| self.values(point, None).ok())
                .ok_or(e)
        })
    }

    /// The values of a point, by axis; `until` is that of the axis that ends by a condition.
    ///
    /// # Errors
    /// An expression without a value there.
    fn values(&self, point: u64, until: Option<f64>) -> Result<Vec<Value>, Problems> {
        self.values_or(point, until, Err)
    }

    /// The same; `otherwise` says what an expression has that has no value.
    fn values_or(
        &self,
        point: u64,
        until: Option<f64>,
        otherwise: impl Fn(Problems) -> Result<Value, Problems>,
    ) -> Result<Vec<Value>, Problems> {
        let mut places = Vec::with_capacity(self.sweep.dimensions.len());
        let mut rest = point;
        for dimension in self.sweep.dimensions.iter().rev() {
            places.push((rest % dimension.count) as usize);
            rest /= dimension.count;
        }
        places.reverse();
        let mut values = Vec::with_capacity(self.axes.len());
        for (dimension, place) in self.sweep.dimensions.iter().zip(places) {
            for axis in &dimension.axes {
                let value = match &axis.values {
                    Values::List(list) => list.get(place).cloned().unwrap_or(Value::Bool(false)),
                    Values::Follows(expr) => self
                        .follows(expr, &values)
                        .map(Value::Number)
                        .or_else(&otherwise)?,
                    Values::Until(open) => match until {
                        Some(value) => Value::Number(value),
                        None => self
                            .follows(&open.from, &values)
                            .map(Value::Number)
                            .or_else(&otherwise)?,
                    },
                };
                values.push(value);
            }
        }
        Ok(values)
    }

    /// An expression over the axes before it and the sizes that the run is given.
    fn follows(&self, expr: &Expr, before: &[Value]) -> Result<f64, Problems> {
        let mut sizes = None;
        let mut needs_sizes = false;
        expr.walk(&mut |part| {
            if let Expr::Name { name, .. } = part {
                needs_sizes |= self.number(before, name).is_none();
            }
        });
        if needs_sizes {
            let is_file = |axis: &Axis| matches!(axis.target, Target::Field(..));
            let work = self.work(before, |axis| !is_file(axis))?;
            sizes = work.request()?.given(self.catalog).ok();
        }
        let size = |name: &str| sizes.as_ref()?.get(name).map(|v| *v as f64);
        let known = || {
            let axes = self.axes[..before.len()].iter().map(|a| a.name.as_str());
            let sizes = sizes.iter().flat_map(|s| s.keys().map(String::as_str));
            axes.chain(sizes).collect()
        };
        let lookup = |name: &str| self.number(before, name).or_else(|| size(name));
        Ok(expr.real(&self.sweep.source, &lookup, &known)?)
    }

    /// The number of an axis by its name or path.
    fn number(&self, values: &[Value], name: &str) -> Option<f64> {
        let mut axes = self.axes.iter().zip(values);
        let (_, value) = axes.find(|(a, _)| a.name == name || a.path == name)?;
        value.number()
    }

    fn lookup(&self, values: &[Value], report: &Found, name: &str) -> Option<f64> {
        self.number(values, name)
            .or_else(|| report.metric(name)?.number())
    }

    /// A condition's value at a point.
    fn real(&self, expr: &Expr, values: &[Value], report: &Found) -> Result<f64, Problem> {
        let names = std::cell::OnceCell::new();
        expr.real(
            &self.sweep.source,
            &|name| self.lookup(values, report, name),
            &|| {
                let names: &Vec<String> = names.get_or_init(|| {
                    let axes = self.axes.iter().map(|a| a.name.clone());
                    axes.chain(report.metric_names()).collect()
                });
                names.iter().map(String::as_str).collect()
            },
        )
    }

    /// The run or scenario of a point, changed by those axes that `takes` names.
    fn work(&self, values: &[Value], takes: impl Fn(&Axis) -> bool) -> Result<Work, Problems> {
        match &self.sweep.base {
            Base::Run(base) => {
                let request = self.request(base, values, takes)?;
                Ok(Work::Run(Box::new(request)))
            }
            Base::Scenario { name, beside } => {
                let mut name = name.clone();
                let mut edits = Vec::new();
                for (axis, value) in self.axes.iter().zip(values).filter(|(a, _)| takes(a)) {
                    match &axis.target {
                        Target::Scenario => name = value.to_string(),
                        Target::ScenarioField(path) => edits.push(Edit {
                            path: path.clone(),
                            value: value.ron(),
                        }),
                        _ => {}
                    }
                }
                Work::scenario(&name, beside.as_ref(), &edits)
            }
        }
    }

    /// The run of a point.
    fn request(
        &self,
        base: &Request,
        values: &[Value],
        takes: impl Fn(&Axis) -> bool,
    ) -> Result<Request, Problems> {
        let mut request = base.clone();
        for (i, (axis, value)) in self.axes.iter().zip(values).enumerate() {
            if !takes(axis) {
                continue;
            }
            let wrong = |what: &str| {
                Problem::at(
                    &self.sweep.source,
                    axis.span,
                    format!("{} cannot be {value}", axis.path),
                )
                .help(format!("{what} would do"))
            };
            let text = || match value {
                Value::Text(text) => Ok(text.clone()),
                _ => Err(wrong("a name")),
            };
            match &axis.target {
                // The base is a run: `SweepFile::check` has refused these.
                Target::Scenario | Target::ScenarioField(_) => {}
                Target::Model => request.model = Some(text()?),
                Target::Mapping => request.mapping = text()?,
                Target::Accelerator => request.accelerator = Some(text()?),
                Target::Workload => request.workload = Some(text()?),
                Target::Length => {
                    let length = parse_length(&value.to_string());
                    request.length = Some(length.map_err(|message| {
                        Problem::at(&self.sweep.source, axis.span, message).help(LENGTHS)
                    })?);
                }
                Target::Accounting => {
                    let named = Accounting::named(&text()?);
                    request.accounting = named.ok_or_else(|| wrong("correct or published"))?;
                }
                Target::Engine => {
                    request.engine = Engine::named(&text()?).map_err(|p| {
                        let place = Some((self.sweep.source.clone(), axis.span));
                        Problem { place, ..p }
                    })?;
                }
                Target::EndToEnd => match value {
                    Value::Bool(yes) => request.end_to_end = *yes,
                    _ => return Err(wrong("true or false").into()),
                },
                Target::Size(name) => {
                    let size = value
                        .number()
                        .filter(|v| *v >= 1.0 && v.fract() == 0.0 && *v < 2f64.powi(53))
                        .ok_or_else(|| wrong("a whole number of at least 1"))?;
                    request.sizes.insert(name.clone(), size as u64);
                }
                Target::Field(file, path) => {
                    if let (true, Some(number)) = (self.direct[i], value.number()) {
                        request.overrides.push((path.clone(), number));
                        continue;
                    }
                    let edits = match file {
                        File::Accelerator => &mut request.edits.accelerator,
                        File::Mapping => &mut request.edits.mapping,
                        File::Model => &mut request.edits.model,
                        File::Workload => &mut request.edits.workload,
                    };
                    edits.push(Edit {
                        path: path.clone(),
                        value: value.ron(),
                    });
                }
            }
        }
        Ok(request)
    }

    /// Evaluates a point.
    ///
    /// # Errors
    /// What is wrong with the sweep itself; a point that cannot be run is a row.
    pub fn evaluate(&self, point: u64, columns: &Columns) -> Result<Verdict, Problems> {
        let mut open = None;
        for tried in 1.. {
            let values = match self.values(point, open) {
                Ok(values) => values,
                Err(problems) => {
                    let values = self.values_or(point, open, |_| Ok(Value::Text(String::new())))?;
                    let reason = one_line(&problems);
                    return Ok(self.row(Status::Illegal, &values, None, &reason, columns));
                }
            };
            let report = match self.work(&values, |_| true)?.run(self.catalog) {
                Ok(report) => report,
                Err(problems) => {
                    let reason = one_line(&problems);
                    return Ok(self.row(Status::Illegal, &values, None, &reason, columns));
                }
            };
            if let Some((axis, until)) = self.until
                && self.real(&until.condition, &values, &report)? == 0.0
            {
                let now = values[axis].number().unwrap_or_default();
                let next = until.step.next(now);
                if next <= until.to && next > now && tried < MOST_VALUES_TRIED {
                    open = Some(next);
                    continue;
                }
                let name = &self.axes[axis].name;
                let so_far = match tried < MOST_VALUES_TRIED {
                    true => String::new(),
                    false => format!(", after {tried} values: a larger step gets further"),
                };
                let reason = format!(
                    "`{}` does not hold up to {name} = {now}{so_far}",
                    until.condition
                );
                return Ok(self.row(Status::Unmet, &values, Some(&report), &reason, columns));
            }
            for constraint in &self.sweep.constraints {
                if self.real(constraint, &values, &report)? == 0.0 {
                    return Ok(Verdict::Excluded);
                }
            }
            return Ok(self.row(Status::Ok, &values, Some(&report), "", columns));
        }
        // The loop above ends by itself.
        Ok(Verdict::Excluded)
    }

    fn row(
        &self,
        status: Status,
        values: &[Value],
        report: Option<&Found>,
        reason: &str,
        columns: &Columns,
    ) -> Verdict {
        let text = |text: &str| {
            let json = serde_json::Value::from(text).to_string();
            (text.to_string(), json)
        };
        let mut cells: Vec<(String, String)> =
            values.iter().map(|v| (v.to_string(), v.json())).collect();
        cells.push(text(status.name()));
        for name in &columns.names {
            let metric = report.and_then(|r| r.metric(name));
            cells.push(match metric {
                Some(Metric::Whole(value)) => (value.to_string(), value.to_string()),
                Some(Metric::Real(value)) => (
                    value.to_string(),
                    serde_json::Value::from(value).to_string(),
                ),
                Some(Metric::Text(value)) => text(&value),
                None => Default::default(),
            });
        }
        cells.push(if reason.is_empty() {
            Default::default()
        } else {
            text(reason)
        });
        let objectives = report.map_or_else(Vec::new, |report| {
            let value = |(name, sign): &(String, f64)| {
                let number = self.lookup(values, report, name);
                number.map_or(f64::INFINITY, |n| n * sign)
            };
            columns.objectives.iter().map(value).collect()
        });
        let mut work = String::new();
        for (axis, value) in self.axes.iter().zip(values) {
            if axis.target.is_work() {
                let _ = writeln!(work, "{value}");
            }
        }
        let csv = line(cells.iter().map(|(csv, _)| csv.as_str()).chain([""]));
        let mut object = String::with_capacity(512);
        for (name, (_, json)) in columns.header.iter().zip(&cells) {
            if !json.is_empty() {
                object.push(if object.is_empty() { '{' } else { ',' });
                let _ = write!(object, "{}:{json}", serde_json::Value::from(name.as_str()));
            }
        }
        object.push_str("}\n");
        Verdict::Row(Row {
            status,
            csv,
            json: object,
            reason: reason.to_string(),
            work,
            objectives,
        })
    }
}

/// Every problem on one line.
fn one_line(problems: &Problems) -> String {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    all.join("; ").replace('\n', " ")
}
