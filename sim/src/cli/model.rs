//! What a model takes: parameters, bytes of weights and caches, and the operators of its kinds of layers.

use std::collections::BTreeMap;

use einflow_engine::{
    report::whole,
    units::{length as tokens, si},
};
use einflow_output::render::{finish, table, wrapped};
use einflow_spec::{Problem, Problems, quantity::Bytes};
use einflow_workloads::{
    Model,
    counts::Part,
    layer::{Attended, Grouped, Layer, Operator, Phase, Product, Recurrence, Shape},
};
use serde_json::{Value, json};

use super::{
    args::DescribeFormat,
    describe::{self, only},
    output,
};

/// A number of parameters in words.
fn parameters(words: u64) -> String {
    match words as f64 {
        few if few < 1e9 => format!("{:.2} million", few * 1e-6),
        many => format!("{:.2} billion", many * 1e-9),
    }
}

/// A kind of layer on one of the devices: its name, how many there are, a model that has no others, and a layer over
/// one token.
struct Kind<'m> {
    name: &'m str,
    layers: u64,
    model: Model,
    layer: Layer,
}

/// Prints what a model takes; of several devices, what one of them has.
pub fn describe(
    model: &Model,
    asked: &describe::Shape<'_>,
    format: DescribeFormat,
) -> Result<(), Problems> {
    only(format, "a model")?;
    let devices = asked.devices.unwrap_or(1);
    let overflow = || {
        Problem::nowhere(format!("the weights of {} overflow", model.name)).help("smaller sizes")
    };
    let kinds = model.kinds().into_iter().map(|(name, layers, model)| {
        let layer = model.layer(1, devices);
        Kind {
            name,
            layers,
            model,
            layer,
        }
    });
    let kinds: Vec<Kind<'_>> = kinds.collect();
    match format {
        DescribeFormat::Json => {
            let kinds: Option<Vec<Value>> = kinds.iter().map(Kind::json).collect();
            output::json(&json!({
                "name": model.name,
                "devices": devices,
                "length": asked.length,
                "layers": model.depth(),
                "parameters": model.weights(),
                "active_parameters": model.active_weights(),
                "weight_bytes": model.weight_bytes(devices).map(|bytes| whole(bytes.0)),
                "cache_bytes_per_token": model.token_cache_bytes(devices).map(|bytes| whole(bytes.0)),
                "request_bytes": model.request_bytes(asked.length, devices).map(|bytes| whole(bytes.0)),
                "formats": formats(model).into_iter().collect::<BTreeMap<_, _>>(),
                "kinds": kinds.ok_or_else(overflow)?,
            }))
        }
        _ => {
            let mut text = wrapped(&format!("{}: {}", model.name, model.description));
            text.push_str(&wrapped(&format!("source: {}", model.cited)));
            text.push_str(&totals(model, asked.length, devices));
            text.push_str(&by_kind(&kinds).ok_or_else(overflow)?);
            for kind in &kinds {
                text.push_str(&kind.operators());
            }
            output::print(&text)
        }
    }
}

/// Parts whose words are kept, and how.
fn formats(model: &Model) -> Vec<(&'static str, String)> {
    let own = &model.formats;
    let mut all = vec![("weights", own.weights)];
    for part in Part::ALL {
        if model.format(*part) != own.weights {
            all.push((part.name(), model.format(*part)));
        }
    }
    all.extend([("activations", own.activations), ("cache", own.cache)]);
    all.extend(own.state.map(|state| ("state", state)));
    all.into_iter()
        .map(|(part, format)| (part, format.to_string()))
        .collect()
}

fn totals(model: &Model, length: u64, devices: u64) -> String {
    let bytes = |bytes: Option<Bytes>| bytes.map_or("-".into(), |bytes| si(bytes.0 as f64, "B"));
    let each = match devices {
        1 => String::new(),
        devices => format!(" on each of {devices} devices"),
    };
    let mut text = String::new();
    match (model.weights(), model.active_weights()) {
        (Some(all), Some(active)) => {
            text.push_str(&wrapped(&format!(
                "parameters {all} ({}), of which {active} ({}) work on a token",
                parameters(all),
                parameters(active)
            )));
            text.push_str(&wrapped(&format!(
                "weights   {}{each}",
                bytes(model.weight_bytes(devices))
            )));
        }
        _ => text.push_str(
            "parameters of the whole are not known: the file has no layers or no vocabulary\n",
        ),
    }
    if let Some(token) = model.token_cache_bytes(devices) {
        text.push_str(&wrapped(&format!(
            "cache     {} bytes a token{each}; a request of {} tokens keeps {}",
            token.0,
            tokens(length),
            bytes(model.request_bytes(length, devices))
        )));
    }
    let formats: Vec<String> = formats(model)
        .iter()
        .map(|(part, format)| format!("{part} {format}"))
        .collect();
    text.push_str(&wrapped(&format!("formats   {}", formats.join("; "))));
    text
}

/// One layer of each kind.
fn by_kind(kinds: &[Kind<'_>]) -> Option<String> {
    let mut rows = table(&[
        "a layer",
        "layers",
        "parameters",
        "active",
        "weights",
        "cache a token",
        "window",
        "state",
    ]);
    for kind in kinds {
        let none = |bytes: u128| {
            if bytes == 0 {
                "-".into()
            } else {
                si(bytes as f64, "B")
            }
        };
        let one = kind.model.layer(1, 1);
        let cache = kind.model.cache_bytes_of(&kind.layer, 1);
        rows.add_row([
            kind.title(),
            kind.layers.to_string(),
            one.weights()?.to_string(),
            one.active_weights()?.to_string(),
            si(kind.model.layer_bytes(&kind.layer)? as f64, "B"),
            if cache == 0 {
                "-".into()
            } else {
                format!("{cache} B")
            },
            kind.layer
                .window
                .map_or("-".into(), |window| window.to_string()),
            none(kind.model.state_bytes_of(&kind.layer)),
        ]);
    }
    Some(format!("\n{}", finish(rows, 1)))
}

impl Kind<'_> {
    fn title(&self) -> String {
        if self.name.is_empty() {
            "each".into()
        } else {
            self.name.into()
        }
    }

    /// Its products and what mixes tokens, in order; those of decoding where they are others.
    fn operators(&self) -> String {
        let line = |operators: &[Operator]| {
            let shapes = operators
                .iter()
                .filter_map(|o| Some(format!("{} {}", o.name(), shape(&self.layer, *o)?)));
            shapes.collect::<Vec<_>>().join(", ")
        };
        let [prefill, decode] =
            [Phase::Prefill, Phase::Decode].map(|phase| self.layer.operators(phase));
        let of = if self.name.is_empty() {
            "a layer".into()
        } else {
            format!("a layer `{}`", self.name)
        };
        let mut text = format!("\noperators of {of}: weights [rows that are summed, columns]\n");
        if prefill == decode {
            text.push_str(&wrapped(&format!("  {}", line(&prefill))));
        } else {
            text.push_str(&wrapped(&format!("  prompts: {}", line(&prefill))));
            text.push_str(&wrapped(&format!("  decoding: {}", line(&decode))));
        }
        text
    }

    fn json(&self) -> Option<Value> {
        let one = self.model.layer(1, 1);
        let operators = |phase| {
            let all = self.layer.operators(phase).into_iter();
            all.map(|o| operator_json(&self.layer, o))
                .collect::<Vec<Value>>()
        };
        Some(json!({
            "name": self.title(),
            "layers": self.layers,
            "parameters": one.weights()?,
            "active_parameters": one.active_weights()?,
            "weight_bytes": whole(self.model.layer_bytes(&self.layer)?),
            "cache_bytes_per_token": whole(self.model.cache_bytes_of(&self.layer, 1)),
            "window": self.layer.window,
            "state_bytes": whole(self.model.state_bytes_of(&self.layer)),
            "prefill": operators(Phase::Prefill),
            "decode": operators(Phase::Decode),
        }))
    }
}

/// The shape of an operator that is more than a map of words.
fn shape(layer: &Layer, operator: Operator) -> Option<String> {
    match layer.shape(operator) {
        Shape::Product(Product { k, n, .. }) => Some(format!("[{k}, {n}]")),
        Shape::Grouped(Grouped {
            groups, rows, k, n, ..
        }) if rows == groups => Some(format!("{groups} x [{k}, {n}]")),
        Shape::Grouped(Grouped {
            groups, rows, k, n, ..
        }) => Some(format!("{rows} of {groups} x [{k}, {n}]")),
        Shape::Elementwise(_) => None,
        Shape::Attention(attended) => {
            let Attended {
                heads,
                key_heads,
                query_width,
                value_width,
                ..
            } = attended;
            Some(format!(
                "({heads} heads of {query_width} and {value_width} over {key_heads})"
            ))
        }
        Shape::Recurrence(Recurrence {
            heads,
            query_width,
            value_width,
        }) => Some(format!("({heads} states of {query_width} x {value_width})")),
    }
}

/// An operator over one token.
fn operator_json(layer: &Layer, operator: Operator) -> Value {
    let mut document = match layer.shape(operator) {
        Shape::Product(Product { m, k, n }) => json!({"rows": m, "k": k, "n": n}),
        Shape::Grouped(Grouped {
            groups, rows, k, n, ..
        }) => {
            json!({"groups": groups, "rows": rows, "k": k, "n": n})
        }
        Shape::Elementwise(map) => json!({"words": map.words}),
        Shape::Attention(of) => json!({
            "heads": of.heads,
            "key_heads": of.key_heads,
            "query_width": of.query_width,
            "value_width": of.value_width,
            "read_words_per_token": of.read,
            "window": of.window,
        }),
        Shape::Recurrence(of) => json!({
            "heads": of.heads,
            "query_width": of.query_width,
            "value_width": of.value_width,
        }),
    };
    if let Some(fields) = document.as_object_mut() {
        fields.insert("operator".into(), operator.name().into());
    }
    document
}
