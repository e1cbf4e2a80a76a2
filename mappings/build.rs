//! Embeds the mapping files and their tables.

fn main() -> std::io::Result<()> {
    einflow_embed::embed("mappings", ".", "ron")?;
    einflow_embed::embed("tables", ".", "csv")
}
