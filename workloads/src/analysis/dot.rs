//! A cascade as a graph in Graphviz's language.

use std::fmt::Write;

use crate::cascade::{Cascade, Einsum, EinsumId, RankId, Reduce, TensorId, TensorKind};

/// The cascade's graph: inputs and outputs as boxes, Einsums as ellipses (views dashed) with what they
/// reduce, edges named after the tensor that flows. A read of an iterative rank's previous coordinate is dashed.
pub fn dot(cascade: &Cascade) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_graph(cascade, &mut text);
    text
}

fn write_graph(cascade: &Cascade, text: &mut String) -> std::fmt::Result {
    writeln!(text, "digraph {} {{", quoted(&cascade.name))?;
    writeln!(text, "  rankdir=LR;")?;
    for (id, tensor) in cascade.tensors.iter().enumerate() {
        if tensor.kind == TensorKind::Input {
            let label = shape(cascade, &tensor.name, &tensor.ranks);
            writeln!(text, "  t{id} [shape=box, label={}];", quoted(&label))?;
        }
    }
    for (id, einsum) in cascade.einsums.iter().enumerate() {
        let style = if einsum.view { ", style=dashed" } else { "" };
        writeln!(
            text,
            "  e{id} [shape=ellipse, label={}{style}];",
            quoted(&label(cascade, einsum))
        )?;
    }
    for (reader, einsum) in cascade.einsums.iter().enumerate() {
        let mut inputs: Vec<TensorId> = Vec::new();
        for read in &einsum.reads {
            let through = read.indices.iter().filter_map(|index| match index {
                crate::cascade::Index::Gather(tensor, _) => Some(*tensor),
                crate::cascade::Index::Expr(_) => None,
            });
            inputs.extend(
                through
                    .chain([read.tensor])
                    .filter(|id| cascade.tensor(*id).producer.is_none()),
            );
        }
        inputs.sort_unstable();
        inputs.dedup();
        for id in inputs {
            writeln!(
                text,
                "  t{} -> e{reader} [label={}];",
                id.0,
                quoted(&cascade.tensor(id).name)
            )?;
        }
    }
    for edge in cascade.graph.edge_indices() {
        let (Some((from, to)), Some(edge)) = (
            cascade.graph.edge_endpoints(edge),
            cascade.graph.edge_weight(edge),
        ) else {
            continue;
        };
        let (from, to): (EinsumId, EinsumId) = (cascade.graph[from], cascade.graph[to]);
        let style = if edge.previous { ", style=dashed" } else { "" };
        let name = quoted(&cascade.tensor(edge.tensor).name);
        writeln!(text, "  e{} -> e{} [label={name}{style}];", from.0, to.0)?;
    }
    for id in &cascade.outputs {
        let tensor = cascade.tensor(*id);
        let label = shape(cascade, &tensor.name, &tensor.ranks);
        writeln!(text, "  t{} [shape=box, label={}];", id.0, quoted(&label))?;
        if let Some(producer) = tensor.producer {
            writeln!(text, "  e{} -> t{};", producer.0, id.0)?;
        }
    }
    writeln!(text, "}}")
}

/// `LM[m1, p]`, and what is reduced: `max over M0`.
fn label(cascade: &Cascade, einsum: &Einsum) -> String {
    let output = cascade.tensor(einsum.output);
    let mut label = shape(cascade, &output.name, &output.ranks);
    let how = match einsum.reduce {
        Reduce::None => return label,
        Reduce::Sum => "sum",
        Reduce::Max => "max",
        Reduce::Min => "min",
        Reduce::Top { .. } => "top",
    };
    let over: Vec<&str> = einsum
        .reduced
        .iter()
        .map(|rank| cascade.rank(*rank).name.as_str())
        .collect();
    label.push_str(&format!("\n{how} over {}", over.join(", ")));
    label
}

fn shape(cascade: &Cascade, name: &str, ranks: &[RankId]) -> String {
    if ranks.is_empty() {
        return name.to_owned();
    }
    let variables: Vec<&str> = ranks
        .iter()
        .map(|rank| cascade.rank(*rank).variable.as_str())
        .collect();
    format!("{name}[{}]", variables.join(", "))
}

fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}
