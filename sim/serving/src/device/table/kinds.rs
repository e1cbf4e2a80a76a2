//! Which kind of table a header tells of.

use einflow_spec::Problem;

use super::{
    super::cells::{CellRow, Cells},
    Kind,
};

/// The columns of a table of products.
const PRODUCT: &[&str] = &["m", "k", "n", "us"];

/// The columns of each kind: those that it must have besides what was measured.
const KINDS: &[(Kind, &[&str], &str)] = &[
    (
        Kind::Grouped,
        &[
            "experts", "active", "tokens", "k", "n", "balance", "us", "dense_us",
        ],
        "products of a mixture's experts",
    ),
    (
        Kind::Ragged,
        &["backend", "b", "h", "hkv", "d", "lengths", "us"],
        "fused attention over caches of unequal lengths",
    ),
    (
        Kind::Widths,
        &["kind", "b", "h", "dqk", "dv", "s", "causal", "us"],
        "fused attention of prompts with values of another width",
    ),
    (
        Kind::Mechanism,
        &["mechanism", "b", "h", "dk", "dv", "s", "us"],
        "mechanisms over prompts",
    ),
    (
        Kind::Pattern,
        &["pattern", "b", "h", "d", "s", "kept_blocks", "us"],
        "fused attention under masks",
    ),
    (
        Kind::Divided,
        &["mode", "b", "h", "hkv", "d", "s", "us"],
        "attention divided over two devices",
    ),
    (Kind::Product, PRODUCT, "matrix products"),
    (
        Kind::Prefill,
        &["backend", "b", "h", "hkv", "d", "s", "causal", "us"],
        "fused attention of prompts",
    ),
    (
        Kind::Decode,
        &["b", "h", "hkv", "d", "l", "us"],
        "fused attention over a cache (with `backend` or `framework`)",
    ),
    (
        Kind::Unfused,
        &[
            "b",
            "h",
            "d",
            "s",
            "qk_us",
            "softmax_us",
            "av_us",
            "total_us",
        ],
        "attention in three kernels",
    ),
    (
        Kind::Layer,
        &["model", "phase", "b", "s", "us_eager", "us_graph"],
        "decoder layers",
    ),
    (
        Kind::Parts,
        &[
            "device",
            "tp",
            "tokens",
            "attn_pre_proj_us",
            "mlp_up_proj_us",
        ],
        "parts of a Llama-2-70B layer",
    ),
    (
        Kind::TwoGpus,
        &["mode", "b", "l", "layers", "us"],
        "a decode step over two devices",
    ),
    (
        Kind::Network,
        &["system", "op", "gpus", "gpus_per_node", "bytes", "us"],
        "messages among devices",
    ),
    (Kind::Messages, &["op", "bytes", "us"], "copies or messages"),
    (
        Kind::Elementwise,
        &["op", "rows", "us"],
        "element-wise maps",
    ),
    (
        Kind::Energy,
        &["op", "params", "us_per_call", "joule_per_call", "mean_watt"],
        "energy",
    ),
];

pub(super) fn recognised(cells: &Cells) -> Result<Kind, Problem> {
    let lacks = |columns: &[&str]| -> Vec<String> {
        let missing = columns.iter().filter(|c| !cells.has(c));
        missing.map(|c| format!("`{c}`")).collect()
    };
    if let Some((kind, ..)) = KINDS
        .iter()
        .find(|(_, columns, _)| lacks(columns).is_empty())
    {
        if *kind == Kind::Messages {
            let memory = |row: &CellRow| super::MEMORY.contains(&cells.text(row, "op"));
            if cells.rows.iter().any(memory) {
                return Ok(Kind::Memory);
            }
        }
        return Ok(*kind);
    }
    // The kind that shares the most columns is likely meant.
    let shared = |columns: &[&str]| columns.iter().filter(|c| cells.has(c)).count();
    let nearest = KINDS
        .iter()
        .max_by_key(|(_, columns, _)| (shared(columns) * 100) / columns.len());
    let problem = cells.at_header("this is no table of measurements that is known");
    Err(match nearest {
        Some((_, columns, what)) if shared(columns) > 1 => {
            let lacking = lacks(columns);
            let near: Vec<String> = lacking
                .iter()
                .filter_map(|c| {
                    let known = cells.header.iter().map(String::as_str);
                    einflow_spec::nearest(c.trim_matches('`'), known)
                        .map(|n| format!("; is `{n}` {c}?"))
                })
                .collect();
            problem.help(format!(
                "a table of {what} has the columns {}; this one lacks {}{}",
                columns.join(", "),
                lacking.join(", "),
                near.concat()
            ))
        }
        _ => problem.help(format!(
            "a table of matrix products has the columns {}; see validation/data for the others",
            PRODUCT.join(", ")
        )),
    })
}
