//! Device and link files: what is read otherwise than by its type.

use einflow_spec::{
    FieldRow, Fields, Form, Node, Part, Problems, Record, Source, find, map, positive,
    quantity::{DollarsPerHour, Seconds},
    record, text, texts,
};
use indexmap::IndexMap;

use super::{Device, DeviceLink, Fitted, Modelled, Times, law, law_parameters};

impl Device {
    /// Reads a device file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let device = Self::read_file(source)?;
        if let Some(power) = device.power
            && power.limit.0 <= power.idle.0
        {
            let root = Node::parse(source)?;
            let limit = find(&root, "power.limit")?;
            let problem = limit.problem(format!(
                "a limit of {} W, and the device draws {} W idle",
                power.limit.0, power.idle.0
            ));
            return Err(problem.help("a limit above `idle`").into());
        }
        Ok(device)
    }
}

impl DeviceLink {
    /// Reads a link file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        Self::read_file(source)
    }
}

/// One of three ways to answer.
impl Part<Times> for Times {
    fn take(fields: &mut Fields<'_>) -> Option<Times> {
        let ways = Ways::take(fields);
        let names = ["laws", "tables", "accelerator"];
        let given = names.iter().filter(|way| fields.has(way));
        let message = match given.count() {
            0 => "a device says how long things take on it",
            1 => "",
            _ => "a device has one way to say how long things take",
        };
        if !message.is_empty() && fields.node().record().is_ok() {
            let problem = fields.problem(message);
            fields.push(problem.help(
                "one of `laws` (fitted), `tables` (measured) and `accelerator` (an accelerator and a mapping)",
            ));
        }
        let ways = ways?;
        let laws = ways.laws.map(Times::Laws);
        let tables = ways.tables.map(Times::Tables);
        laws.or(tables).or(ways.accelerator.map(Times::Accelerator))
    }

    fn fields() -> Vec<FieldRow> {
        Ways::fields()
    }
}

record! {
    /// The ways to answer, of which a device has one.
    struct Ways = "a way to answer" {
        /// Closed forms with fitted parameters, below: any shape.
        pub laws: Option<IndexMap<String, Fitted>> as laws => "the device answers otherwise";
        /// Measured tables, by path.
        pub tables: Option<Vec<String>> as texts => "the device answers otherwise";
        /// An accelerator and its mappings of attention; time and energy come from the engines.
        pub accelerator: Option<Modelled> => "the device answers otherwise";
    }
}

record! {
    /// What a device costs.
    struct Price = "a price" {
        unread source: String as text;
        /// For each hour.
        pub per_hour: DollarsPerHour as positive;
    }
}

pub(super) fn price() -> Form<DollarsPerHour> {
    Form {
        value: || Price::WHAT.into(),
        read: |name, node| Price::read(name, node).map(|price| price.per_hour),
    }
}

pub(super) fn units() -> Form<u64> {
    Form {
        value: || "a whole number, 1 or more".into(),
        read: |_, node| match node.u64()? {
            0 => Err(node.expected("a number of units, 1 or more").into()),
            units => Ok(units),
        },
    }
}

pub(super) fn microseconds() -> Form<Seconds> {
    Form {
        value: || "microseconds, above 0".into(),
        read: |name, node| Ok(Seconds((positive::<f64>().read)(name, node)? * 1e-6)),
    }
}

pub(super) fn servers() -> Form<IndexMap<String, String>> {
    Form {
        value: || "map from models to folders".into(),
        read: |_, node| map(node, text().read),
    }
}

fn laws() -> Form<IndexMap<String, Fitted>> {
    Form {
        value: || "map from names of laws to their parameters".into(),
        read: |_, node| map(node, fitted_law),
    }
}

pub(super) fn operations() -> Form<IndexMap<String, Fitted>> {
    Form {
        value: || "map from operations to their parameters".into(),
        read: |_, node| map(node, |_, node| fitted(node, law::TRANSFER, &[])),
    }
}

fn fitted_law(name: &str, node: &Node) -> Result<Fitted, Problems> {
    let Some(parameters) = law_parameters(name) else {
        let problem = node.problem(format!("there is no law `{name}`"));
        return Err(problem
            .help("product, grouped, decode, latent, ragged, ragged-cores, prefill, masked, chunked or pass, with a suffix as in decode:flash")
            .into());
    };
    fitted(node, parameters, &["shortest", "longest"])
}

/// A law's parameters, and of its times those that it may have.
fn fitted(
    node: &Node,
    parameters: &'static [law::Parameter],
    times: &[&'static str],
) -> Result<Fitted, Problems> {
    let mut fields = Fields::new(node, "a law");
    let cited = fields.needed("source", text());
    let values: Vec<Option<f64>> = parameters
        .iter()
        .map(|p| {
            fields.need(p.name, |n| {
                let value = n.f64()?;
                // A fit may end at a bound; beyond it the form means nothing.
                if (p.range.0 * 0.999..=p.range.1 * 1.001).contains(&value) {
                    Ok(value)
                } else {
                    let unit = if p.unit.is_empty() { "" } else { " us" };
                    Err(n.expected("a parameter in its range").help(format!(
                        "{} ({}): {} to {}{unit}",
                        p.name, p.about, p.range.0, p.range.1
                    )))
                }
            })
        })
        .collect();
    let mut time = |at: usize| fields.given(times.get(at)?, positive::<f64>());
    let times = [time(0), time(1)];
    let value = (|| {
        Some(Fitted {
            cited: cited?,
            times,
            values: values.into_iter().collect::<Option<_>>()?,
        })
    })();
    fields.finish(value)
}
