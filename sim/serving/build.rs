//! Embeds the published and measured tables, and the scenarios.

fn main() -> std::io::Result<()> {
    einflow_embed::embed_tree("data", "../../validation/data", &["csv", "jsonl"])?;
    einflow_embed::embed("scenarios", "../runs/offload", "ron")
}
