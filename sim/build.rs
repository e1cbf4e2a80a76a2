//! Embeds the experiments.

fn main() -> std::io::Result<()> {
    einflow_embed::embed("experiments", "../validation", "ron")
}
