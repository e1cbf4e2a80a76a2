//! Embeds the experiments, runs and sweeps.

fn main() -> std::io::Result<()> {
    einflow_embed::embed("experiments", "../validation", "ron")?;
    einflow_embed::embed("runs", "runs", "ron")?;
    einflow_embed::embed("sweeps", "sweeps", "ron")
}
