//! Device and link files.

use einflow_spec::{
    Fields, Node, Problem, Problems, Source,
    quantity::{Bytes, BytesPerSecond, DollarsPerHour, OperationsPerSecond, Seconds, Watts},
};

use super::{Chip, Device, DeviceLink, Fitted, Graph, Modelled, Power, Times, law, law_parameters};
use crate::{
    decode::{named, text},
    measure::{ARITHMETIC, BANDWIDTH, BYTES, measure, whole},
};

impl Device {
    /// Reads a device file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut fields = Fields::new(&node, "a device");
        let name = fields.need("name", text);
        let description = fields.need("description", text);
        let cited = fields.need("source", text);
        let chip = fields.need_all("chip", chip);
        let power = fields.get_all("power", power);
        let price = fields.get_all("price", price);
        let links = fields.get("links", |n| n.list()?.iter().map(text).collect());
        let graph = fields.get_all("graph", graph);
        let analytic = fields.get("analytic", text);
        let servers = fields.get_all("servers", |n| named(n, |_, n| Ok(text(n)?)));
        let laws = fields.get_all("laws", |n| named(n, fitted_law));
        let tables = fields.get("tables", |n| n.list()?.iter().map(text).collect());
        let accelerator = fields.get_all("accelerator", modelled);
        let given = ["laws", "tables", "accelerator"];
        let count = given.iter().filter(|g| has(&node, g)).count();
        if count != 1 && node.record().is_ok() {
            let at = einflow_spec::Span::new(node.span.start, node.span.start + 1);
            let message = match count {
                0 => "a device says how long things take on it".to_string(),
                _ => "a device has one way to say how long things take".to_string(),
            };
            fields.push(Problem::at(source, at, message).help(
                "one of `laws` (fitted), `tables` (measured) and `accelerator` (an accelerator and a mapping)",
            ));
        }
        let tabled = tables.is_some();
        let times = match (laws, tables, accelerator) {
            (Some(laws), ..) => Some(Times::Laws(laws)),
            (_, Some(tables), _) => Some(Times::Tables(tables)),
            (.., Some(accelerator)) => Some(Times::Accelerator(accelerator)),
            _ => None,
        };
        if analytic.is_some() && !tabled {
            fields.push(
                Problem::at(
                    source,
                    node.span,
                    "only tables lack what `analytic` answers",
                )
                .help("leave it out, or answer by `tables`"),
            );
        }
        if let (Some(graph), Some(chip)) = (&graph, &chip)
            && graph.transfer_units >= chip.units
        {
            fields.push(Problem::at(
                source,
                node.span,
                format!(
                    "a message cannot hold {} units of a chip that has {}",
                    graph.transfer_units, chip.units
                ),
            ));
        }
        let value = (|| {
            Some(Self {
                name: name?,
                cited: cited?,
                description: description?,
                source: source.clone(),
                chip: chip?,
                power,
                price,
                links: links.unwrap_or_default(),
                graph,
                analytic,
                servers: servers.unwrap_or_default(),
                times: times?,
            })
        })();
        fields.finish(value)
    }
}

fn has(node: &Node, field: &str) -> bool {
    node.record()
        .is_ok_and(|entries| entries.iter().any(|(key, ..)| key == field))
}

fn positive(node: &Node, value: f64) -> Result<f64, Problem> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(node.expected("a number above 0"))
    }
}

fn chip(node: &Node) -> Result<Chip, Problems> {
    let mut fields = Fields::new(node, "a chip");
    fields.need("source", text);
    let units = fields.need("units", |n| match n.u64()? {
        0 => Err(n.expected("a number of units, 1 or more")),
        units => Ok(units),
    });
    let matrix = fields.need("matrix", |n| positive(n, measure(n, ARITHMETIC)?));
    let memory = fields.need("memory", |n| whole(n, BYTES));
    let bandwidth = fields.need("bandwidth", |n| positive(n, measure(n, BANDWIDTH)?));
    let cache = fields.need("cache", |n| whole(n, BYTES));
    let value = (|| {
        Some(Chip {
            units: units?,
            matrix: OperationsPerSecond(matrix?),
            memory: Bytes(memory?.into()),
            bandwidth: BytesPerSecond(bandwidth?),
            cache: Bytes(cache?.into()),
        })
    })();
    fields.finish(value)
}

fn power(node: &Node) -> Result<Power, Problems> {
    let mut fields = Fields::new(node, "what a device draws");
    fields.need("source", text);
    let idle = fields.need("idle", |n| positive(n, n.f64()?));
    let limit = fields.need("limit", |n| positive(n, n.f64()?));
    let active = fields.need("active", |n| positive(n, n.f64()?));
    let score = fields.get("score", |n| positive(n, n.f64()?));
    let operation = fields.get("operation", |n| positive(n, n.f64()?));
    let byte = fields.get("byte", |n| positive(n, n.f64()?));
    let copied_byte = fields.get("copied_byte", |n| positive(n, n.f64()?));
    let value = (|| {
        Some(Power {
            idle: Watts(idle?),
            active: Watts(active?),
            limit: Watts(limit?),
            score,
            operation,
            byte,
            copied_byte,
        })
    })();
    fields.finish(value)
}

fn graph(node: &Node) -> Result<Graph, Problems> {
    let mut fields = Fields::new(node, "how kernels follow one another");
    fields.need("source", text);
    let gap = fields.need("gap", |n| positive(n, n.f64()?));
    let transfer_units = fields.need("transfer_units", Node::u64);
    let dirty = fields.need("dirty", |n| whole(n, BYTES));
    let value = (|| {
        Some(Graph {
            gap: Seconds(gap? * 1e-6),
            transfer_units: transfer_units?,
            dirty: Bytes(dirty?.into()),
        })
    })();
    fields.finish(value)
}

fn price(node: &Node) -> Result<DollarsPerHour, Problems> {
    let mut fields = Fields::new(node, "a price");
    fields.need("source", text);
    let price = fields.need("per_hour", |n| positive(n, n.f64()?));
    fields.finish(price.map(DollarsPerHour))
}

fn modelled(node: &Node) -> Result<Modelled, Problems> {
    let mut fields = Fields::new(node, "an accelerator as a device");
    fields.get("source", text);
    let accelerator = fields.need("name", text);
    let mapping = fields.need("mapping", text);
    let causal = fields.get("causal_mapping", text);
    let value = (|| {
        Some(Modelled {
            accelerator: accelerator?,
            mapping: mapping?,
            causal,
        })
    })();
    fields.finish(value)
}

fn fitted_law(name: &str, node: &Node) -> Result<Fitted, Problems> {
    let Some(parameters) = law_parameters(name) else {
        let problem = node.problem(format!("there is no law `{name}`"));
        return Err(problem
            .help("product, decode, prefill or pass, with a suffix as in decode:flash")
            .into());
    };
    fitted(node, parameters)
}

fn fitted(node: &Node, parameters: &'static [law::Parameter]) -> Result<Fitted, Problems> {
    let mut fields = Fields::new(node, "a law");
    let cited = fields.need("source", text);
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
    let value = (|| {
        Some(Fitted {
            cited: cited?,
            values: values.into_iter().collect::<Option<_>>()?,
        })
    })();
    fields.finish(value)
}

impl DeviceLink {
    /// Reads a link file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut fields = Fields::new(&node, "a link");
        let name = fields.need("name", text);
        let description = fields.need("description", text);
        let cited = fields.need("source", text);
        let bandwidth = fields.need("bandwidth", |n| positive(n, measure(n, BANDWIDTH)?));
        let shared = fields.get("shared", Node::bool);
        let operations =
            fields.need_all("operations", |n| named(n, |_, n| fitted(n, law::TRANSFER)));
        let value = (|| {
            Some(Self {
                name: name?,
                cited: cited?,
                description: description?,
                source: source.clone(),
                bandwidth: BytesPerSecond(bandwidth?),
                shared: shared.unwrap_or(false),
                operations: operations.unwrap_or_default(),
            })
        })();
        fields.finish(value)
    }
}
