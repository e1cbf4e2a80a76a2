//! What a sweep varies: values, where they go, and the grid that they span.

use std::fmt;

use einflow_spec::{
    Fields, Form, Kind, Node, Problem, Problems, Source, Span, Written, did_you_mean, expr::Expr,
    list,
};

use einflow_engine::request::File;
use einflow_engine::units::{LENGTHS, parse_length};

/// More values on one axis than this are refused.
const MOST_VALUES: usize = 1_000_000;

/// A value of an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number; whole ones are exact up to 2^53.
    Number(f64),
    /// A name or a text with a unit.
    Text(String),
    /// Yes or no.
    Bool(bool),
}

impl Written for Value {
    fn form() -> Form<Self> {
        Form {
            value: || "a number, text, `true` or `false`".into(),
            read: |_, node| Ok(Self::read(node)?),
        }
    }
}

impl Value {
    /// Reads a number, a text, true or false.
    ///
    /// # Errors
    /// Anything else.
    pub fn read(node: &Node) -> Result<Self, Problem> {
        match &node.kind {
            Kind::Number(_) => node.f64().map(Value::Number),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Text(text, _) | Kind::Word(text) => Ok(Value::Text(text.clone())),
            _ => Err(node.expected("a number, a string, true or false")),
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// As RON text.
    pub fn ron(&self) -> String {
        match self {
            Value::Text(text) => format!("{text:?}"),
            _ => self.to_string(),
        }
    }

    /// As JSON text.
    pub fn json(&self) -> String {
        match self {
            Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(value) => write!(f, "{value}"),
            Value::Text(text) => f.write_str(text),
            Value::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// What an axis changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Which model.
    Model,
    /// The sequence length.
    Length,
    /// Which mapping.
    Mapping,
    /// Which accelerator.
    Accelerator,
    /// Which cascade.
    Workload,
    /// Whose accounting.
    Accounting,
    /// What computes the result.
    Engine,
    /// Whether the linear layers are added.
    EndToEnd,
    /// A size by name.
    Size(String),
    /// A value of a file by path.
    Field(File, String),
    /// Which scenario.
    Scenario,
    /// A value of the scenario by path.
    ScenarioField(String),
}

const HEADS: [&str; 15] = [
    "model",
    "length",
    "mapping",
    "accelerator",
    "workload",
    "accounting",
    "engine",
    "end_to_end",
    "sizes.NAME",
    "accelerator.PATH",
    "mapping.PATH",
    "model.PATH",
    "workload.PATH",
    "scenario",
    "scenario.PATH",
];

impl Target {
    fn named(path: &str) -> Result<Self, Problem> {
        let unknown = || {
            let head = path.split('.').next().unwrap_or(path);
            Problem::nowhere(format!("a run has no `{path}`")).help(did_you_mean(
                if path.contains('.') { path } else { head },
                HEADS,
            ))
        };
        let field = |file, rest: &str| Ok(Target::Field(file, rest.to_string()));
        match path.split_once('.') {
            None => match path {
                "model" => Ok(Target::Model),
                "length" => Ok(Target::Length),
                "mapping" => Ok(Target::Mapping),
                "accelerator" => Ok(Target::Accelerator),
                "workload" => Ok(Target::Workload),
                "accounting" => Ok(Target::Accounting),
                "engine" => Ok(Target::Engine),
                "end_to_end" => Ok(Target::EndToEnd),
                "scenario" => Ok(Target::Scenario),
                _ => Err(unknown()),
            },
            Some(("sizes", name)) => Ok(Target::Size(name.to_string())),
            Some(("accelerator", rest)) => field(File::Accelerator, rest),
            Some(("mapping", rest)) => field(File::Mapping, rest),
            Some(("model", rest)) => field(File::Model, rest),
            Some(("workload", rest)) => field(File::Workload, rest),
            Some(("scenario", rest)) => Ok(Target::ScenarioField(rest.to_string())),
            Some(_) => Err(unknown()),
        }
    }

    /// Whether another value is another amount of work: points are ranked among those of the same work.
    pub fn is_work(&self) -> bool {
        if let Target::ScenarioField(path) = self {
            return path == "model" || path.split('.').next() == Some("load");
        }
        matches!(
            self,
            Target::Model
                | Target::Length
                | Target::Workload
                | Target::EndToEnd
                | Target::Size(_)
                | Target::Field(File::Model | File::Workload, _)
        )
    }
}

/// One thing that varies.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The name of its column, and in expressions.
    pub name: String,
    /// Its path, as in the file.
    pub path: String,
    /// What it changes.
    pub target: Target,
    /// Where its path stands.
    pub span: Span,
    /// What it is set to.
    pub values: Values,
}

/// What an axis is set to.
#[derive(Clone, Debug)]
pub enum Values {
    /// One after the other.
    List(Vec<Value>),
    /// What follows from the axes before it.
    Follows(Expr),
    /// From a start on, until a condition on the result holds.
    Until(Until),
}

/// An axis that ends where a condition on the result first holds.
#[derive(Clone, Debug)]
pub struct Until {
    /// The first value.
    pub from: Expr,
    /// How the next follows.
    pub step: Step,
    /// No value is beyond this.
    pub to: f64,
    /// The condition, over axes and results.
    pub condition: Expr,
}

/// From one value to the next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Add.
    Plus(f64),
    /// Multiply.
    Times(f64),
}

impl Step {
    /// The next value.
    pub fn next(self, value: f64) -> f64 {
        match self {
            Step::Plus(step) => value + step,
            Step::Times(factor) => value * factor,
        }
    }
}

/// Axes that move together, and how many places they move through.
#[derive(Clone, Debug)]
pub struct Dimension {
    /// The axes.
    pub axes: Vec<Axis>,
    /// Places; 1 where all of it follows from others.
    pub count: u64,
}

/// Reads an entry of `axes`: one axis, or several that are linked.
pub fn dimension(node: &Node) -> Result<Dimension, Problems> {
    let axes = if given(node, "linked") {
        let mut f = Fields::new(node, "linked axes");
        let axes = f.need_all("linked", |n| list(n, axis));
        f.finish(axes)?
    } else {
        vec![axis(node)?]
    };
    let mut count = None;
    for axis in &axes {
        let own = match &axis.values {
            Values::List(values) => values.len() as u64,
            Values::Follows(_) => continue,
            Values::Until(_) if axes.len() > 1 => {
                return Err(Problem::at(
                    &node.source,
                    axis.span,
                    format!("{} ends by a condition and cannot be linked", axis.name),
                )
                .help("let the others follow it: (path: ..., as: \"expression\")")
                .into());
            }
            Values::Until(_) => 1,
        };
        if let Some(other) = count.filter(|c| *c != own) {
            return Err(Problem::at(
                &node.source,
                axis.span,
                format!(
                    "{} has {own} values, the axes that it is linked to {other}",
                    axis.name
                ),
            )
            .help("linked axes move together and have as many values each")
            .into());
        }
        count = Some(own);
    }
    Ok(Dimension {
        axes,
        count: count.unwrap_or(1),
    })
}

fn axis(node: &Node) -> Result<Axis, Problems> {
    let mut f = Fields::new(node, "an axis");
    let path = f.need("path", |n| Ok((n.text()?.to_string(), n.span)));
    let target = path.as_ref().and_then(|(path, span)| {
        Target::named(path)
            .map_err(|p| {
                f.push(Problem {
                    place: Some((node.source.clone(), *span)),
                    ..p
                });
            })
            .ok()
    });
    let is_length = target == Some(Target::Length);
    let name = f.get("name", |n| Ok(n.text()?.to_string()));
    let list = f.get_all("values", |n| {
        let values: Vec<Value> = list(n, |n| Ok(value(n, is_length)?))?;
        if values.is_empty() {
            let problem = n.problem("an axis without values");
            return Err(problem.help("give at least one").into());
        }
        Ok(values)
    });
    let follows = f.get("as", expression);
    let from = f.get("from", |n| {
        Ok((expression_or_number(n, is_length)?, n.span))
    });
    let to = f.get("to", |n| {
        let value = value(n, is_length)?;
        value.number().ok_or_else(|| n.expected("a number"))
    });
    let plus = f.get("step", |n| {
        Ok(Step::Plus(
            n.f64()
                .ok()
                .filter(|s| *s > 0.0)
                .ok_or_else(|| n.expected("a step above 0"))?,
        ))
    });
    let times = f.get("times", |n| {
        Ok(Step::Times(
            n.f64()
                .ok()
                .filter(|s| *s > 1.0)
                .ok_or_else(|| n.expected("a factor above 1"))?,
        ))
    });
    let until = f.get("until", expression);
    let understood = |key: &str| match key {
        "values" => list.is_some(),
        "as" => follows.is_some(),
        "from" => from.is_some(),
        "to" => to.is_some(),
        "step" => plus.is_some(),
        "times" => times.is_some(),
        _ => until.is_some(),
    };
    let wrong = ["values", "as", "from", "to", "step", "times", "until"]
        .into_iter()
        .any(|key| given(node, key) && !understood(key));
    let step = plus.or(times);
    let ranged = from.is_some() && step.is_some() && to.is_some();
    let ways = [list.is_some(), follows.is_some(), from.is_some()];
    let values = if ways.iter().filter(|w| **w).count() != 1 || (plus.is_some() && times.is_some())
    {
        None
    } else if let Some(list) = list {
        Some(Values::List(list))
    } else if let Some(expr) = follows {
        Some(Values::Follows(expr))
    } else {
        match (from, step, to, until) {
            (Some((from, _)), Some(step), to, Some(condition)) => Some(Values::Until(Until {
                from,
                step,
                to: to.unwrap_or(f64::from(1u32 << 31) * f64::from(1u32 << 22)),
                condition,
            })),
            (Some((from, span)), Some(step), Some(to), None) => {
                let values = range(&node.source, &from, span, step, to);
                values.map_err(|p| f.push(p)).ok().map(Values::List)
            }
            _ => None,
        }
    };
    let read = path.is_some() && target.is_some();
    // What is there and wrong has been said.
    if values.is_none() && read && !wrong && !ranged {
        f.push(node.problem("it is not clear which values this axis takes").help(
            "give one of values: [...]; from, to and step or times; from, step or times and until; as: \"expression\"",
        ));
    }
    let axis = path
        .zip(target)
        .zip(values)
        .map(|(((path, span), target), values)| Axis {
            name: name.unwrap_or_else(|| path.clone()),
            path,
            target,
            span,
            values,
        });
    f.finish(axis)
}

fn given(node: &Node, key: &str) -> bool {
    let entries = node.record().unwrap_or_default();
    entries.iter().any(|(known, _, _)| known == key)
}

/// A value; a length may be written `64K`.
fn value(node: &Node, is_length: bool) -> Result<Value, Problem> {
    let value = Value::read(node)?;
    if !is_length {
        return Ok(value);
    }
    let length = parse_length(&value.to_string());
    length
        .map(|l| Value::Number(l as f64))
        .map_err(|message| node.problem(message).help(LENGTHS))
}

/// The expression in a string.
pub fn expression(node: &Node) -> Result<Expr, Problem> {
    Expr::parse(&node.source, node.text()?, node.text_start())
}

fn expression_or_number(node: &Node, is_length: bool) -> Result<Expr, Problem> {
    let number = |text: String| Expr::Number {
        text,
        span: node.span,
    };
    match &node.kind {
        Kind::Number(_) => Ok(number(node.f64()?.to_string())),
        Kind::Text(..) if is_length => Ok(number(value(node, true)?.to_string())),
        _ => expression(node),
    }
}

fn range(
    source: &Source,
    from: &Expr,
    span: Span,
    step: Step,
    to: f64,
) -> Result<Vec<Value>, Problem> {
    let start = from.real(source, &|_| None, &Vec::new)?;
    if matches!(step, Step::Times(_)) && start <= 0.0 {
        return Err(Problem::at(source, span, "powers start above 0").help("or use step"));
    }
    let mut values = Vec::new();
    for i in 0..=MOST_VALUES {
        // From the start each time: a sum of steps would drift.
        let value = match step {
            Step::Plus(step) => start + step * i as f64,
            Step::Times(factor) => start * factor.powi(i as i32),
        };
        // A thousandth of a step forgives what rounding adds.
        let slack = match step {
            Step::Plus(step) => step * 1e-3,
            Step::Times(factor) => to * (factor - 1.0) * 1e-3,
        };
        if value > to + slack {
            break;
        }
        values.push(Value::Number(value));
    }
    if values.is_empty() || values.len() > MOST_VALUES {
        let found = if values.is_empty() {
            "no"
        } else {
            "over a million"
        };
        return Err(
            Problem::at(source, span, format!("a range of {found} values"))
                .help("from is at most to, and a sweep has at most a million values an axis"),
        );
    }
    Ok(values)
}
