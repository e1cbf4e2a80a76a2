//! How values of common types are written.

use indexmap::IndexMap;

use crate::measure::{ARITHMETIC, BANDWIDTH, BYTES, FREQUENCY, TIME, Units, measure, whole};
use crate::quantity::{
    Bytes, BytesPerSecond, DollarsPerHour, Hertz, OperationsPerSecond, Picojoules, Quantity,
    Seconds, SquareMicrometres, Watts,
};
use crate::{
    At, Form, Name, Named, Node, Problem, Problems, Record, Written, did_you_mean, expr::Expr,
};

/// Declares how types are written: what a page says of the values, and how one is read.
macro_rules! written {
    ($($type:ty = $value:expr, $read:expr;)*) => {$(
        impl Written for $type {
            fn form() -> Form<Self> {
                Form { value: || $value.into(), read: |_, node| Ok($read(node)?) }
            }
        }
    )*};
}

/// `Hz, or with a unit: Hz, kHz`.
fn units(base: &str, units: Units) -> String {
    let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    format!("{base}, or with a unit: {}", names.join(", "))
}

written! {
    u64 = "a whole number", Node::u64;
    f64 = "a number", Node::f64;
    bool = "`true` or `false`", Node::bool;
    String = "text", |node: &Node| node.text().map(str::to_owned);
    Name = "a name", Name::read;
    Expr = "a number, or an expression in a string", Expr::read;
    Hertz = units("Hz", FREQUENCY), |node| measure(node, FREQUENCY).map(Self);
    Bytes = units("bytes", BYTES), |node| whole(node, BYTES).map(|bytes| Self(bytes.into()));
    BytesPerSecond = units("bytes a second", BANDWIDTH), |node| measure(node, BANDWIDTH).map(Self);
    OperationsPerSecond = units("operations a second", ARITHMETIC), |node| measure(node, ARITHMETIC).map(Self);
    Seconds = units("seconds", TIME), |node| measure(node, TIME).map(Self);
    Picojoules = "pJ", |node| Node::f64(node).map(Self);
    SquareMicrometres = "um^2", |node| Node::f64(node).map(Self);
    Watts = "watts", |node| Node::f64(node).map(Self);
    DollarsPerHour = "US dollars an hour", |node| Node::f64(node).map(Self);
}

impl<T: Written> Written for At<T> {
    fn form() -> Form<Self> {
        Form {
            value: || (T::form().value)(),
            read: |name, node| {
                let (value, span) = ((T::form().read)(name, node)?, node.span);
                Ok(At { value, span })
            },
        }
    }
}

/// `()` is none.
impl<T: Written> Written for Option<T> {
    fn form() -> Form<Self> {
        Form {
            value: || format!("{}, or ()", (T::form().value)()),
            read: |name, node| match node.kind {
                crate::Kind::Empty => Ok(None),
                _ => (T::form().read)(name, node).map(Some),
            },
        }
    }
}

impl<T: Written> Written for Vec<T> {
    fn form() -> Form<Self> {
        Form {
            value: || format!("list: {}", (T::form().value)()),
            read: |name, node| list(node, |item| (T::form().read)(name, item)),
        }
    }
}

/// A map whose keys have places.
impl<T: Written> Written for Vec<(Name, T)> {
    fn form() -> Form<Self> {
        Form {
            value: || format!("map from names: {}", (T::form().value)()),
            read: |_, node| pairs(node, T::form().read),
        }
    }
}

impl<T: Written> Written for IndexMap<String, T> {
    fn form() -> Form<Self> {
        Form {
            value: || format!("map from names: {}", (T::form().value)()),
            read: |_, node| map(node, T::form().read),
        }
    }
}

/// The elements of a list.
///
/// # Errors
/// No list, and what `read` finds.
pub fn list<T>(
    node: &Node,
    read: impl Fn(&Node) -> Result<T, Problems>,
) -> Result<Vec<T>, Problems> {
    let mut problems = Problems::new();
    let items = node.list()?.iter();
    let items = items
        .filter_map(|item| problems.absorb(read(item)))
        .collect();
    problems.into_result(Some(items))
}

fn entries<T>(
    node: &Node,
    record: &[(String, crate::Span, Node)],
    help: &str,
    read: impl Fn(&str, &Node) -> Result<T, Problems>,
) -> Result<Vec<(Name, T)>, Problems> {
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for (i, (key, span, value)) in record.iter().enumerate() {
        if record[..i].iter().any(|(other, ..)| other == key) {
            let problem = Problem::at(&node.source, *span, format!("`{key}` is given twice"));
            problems.push(problem.help(help));
        }
        if let Some(value) = problems.absorb(read(key, value)) {
            let (text, span) = (key.clone(), *span);
            found.push((Name { text, span }, value));
        }
    }
    problems.into_result(Some(found))
}

/// The entries of a map with the places of their keys, each read by `read`, which is given its key.
///
/// # Errors
/// No map, a key that is given twice, and what `read` finds.
pub fn pairs<T>(
    node: &Node,
    read: impl Fn(&str, &Node) -> Result<T, Problems>,
) -> Result<Vec<(Name, T)>, Problems> {
    entries(node, node.record()?, "keep one of them", read)
}

/// The entries of a map from names, each read by `read`, which is given its key.
///
/// # Errors
/// No map, a name that is given twice, and what `read` finds.
pub fn map<T>(
    node: &Node,
    read: impl Fn(&str, &Node) -> Result<T, Problems>,
) -> Result<IndexMap<String, T>, Problems> {
    let record = node
        .record()
        .map_err(|p| p.help("written as {\"name\": (...), ...}"))?;
    let entries = entries(node, record, "names are distinct", read)?;
    Ok(entries
        .into_iter()
        .map(|(name, value)| (name.text, value))
        .collect())
}

/// A map from names of structs that know theirs ([`Key`](crate::Key)).
pub fn by_name<T: Record>() -> Form<Vec<T>> {
    Form {
        value: || format!("map from names: {}", T::WHAT),
        read: |_, node| Ok(map(node, T::read)?.into_values().collect()),
    }
}

/// A string that says something.
pub fn text() -> Form<String> {
    Form {
        value: || "text".into(),
        read: |_, node| match node.text()? {
            text if text.trim().is_empty() => Err(node.expected("a text that is not empty").into()),
            text => Ok(text.to_owned()),
        },
    }
}

/// A list of strings that say something.
pub fn texts() -> Form<Vec<String>> {
    Form {
        value: || "list of texts".into(),
        read: |name, node| list(node, |item| (text().read)(name, item)),
    }
}

/// A whole number from 1 to `MOST`.
pub fn counted<const MOST: u64, T: Written>() -> Form<T> {
    Form {
        value: || match MOST {
            most if most.is_power_of_two() => format!("1 to 2^{}", most.ilog2()),
            most => format!("1 to {most}"),
        },
        read: |name, node| match node.u64()? {
            0 => Err(node.expected("a number of at least 1").into()),
            n if n > MOST => Err(node
                .problem(format!("{n}"))
                .help(format!("at most {MOST}"))
                .into()),
            _ => (T::form().read)(name, node),
        },
    }
}

/// A finite number above 0.
pub fn positive<Q: Quantity + Written>() -> Form<Q> {
    Form {
        value: || format!("{}, above 0", (Q::form().value)()),
        read: |name, node| {
            let value = (Q::form().read)(name, node)?;
            match value.number() {
                number if number.is_finite() && number > 0.0 => Ok(value),
                _ => Err(node.expected("a number above 0").into()),
            }
        },
    }
}

/// One of `all`, by its name. A message calls it `what`, where that is not empty.
///
/// # Errors
/// None of them: the nearest is suggested.
pub fn choice<T: Named>(node: &Node, what: &str, all: &[T]) -> Result<T, Problem> {
    let known: Vec<&str> = all.iter().map(|value| value.name()).collect();
    let text = node
        .text()
        .map_err(|p| p.help(format!("known: {}", known.join(", "))))?;
    let found = all.iter().find(|value| value.name() == text);
    found.copied().ok_or_else(|| {
        let message = match what {
            "" => format!("`{text}` is not known here"),
            what => format!("there is no {what} `{text}`"),
        };
        node.problem(message).help(did_you_mean(text, known))
    })
}

/// The names of `all` as a page has them.
pub fn choices<T: Named>(all: &[T]) -> String {
    let names: Vec<String> = all
        .iter()
        .map(|value| format!("`{}`", value.name()))
        .collect();
    names.join(", ")
}
