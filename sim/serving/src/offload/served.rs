//! Which models are served, and on what that rests.

use einflow_spec::{NumberFormat, Problem, Stored};
use einflow_workloads::{
    Model,
    counts::Part,
    layer::{Mixer, SERVED},
};

/// Refuses a model of which some part takes a time that no device has a law for.
///
/// # Errors
/// Those parts.
pub(super) fn served(model: &Model) -> Result<(), Problem> {
    let wide = |format: Stored| format.bits() > SERVED.bits();
    let formats = &model.formats;
    let mut parts: Vec<String> = Vec::new();
    // Routers are small, and often kept so.
    for part in Part::ALL.iter().filter(|part| **part != Part::Router) {
        let format = model.format(*part);
        if wide(format) {
            parts.push(format!("weights of {} in {format}", part.name()));
        }
    }
    if wide(formats.activations) {
        parts.push(format!("activations in {}", formats.activations));
    }
    if wide(formats.cache) {
        parts.push(format!("a cache in {}", formats.cache));
    }
    if parts.is_empty() {
        return Ok(());
    }
    let message = format!(
        "devices have no time for parts of {}: {}",
        model.name,
        parts.join(", ")
    );
    Err(Problem::nowhere(message).help(format!(
        "served are words of {} and narrower ones; `einflow describe {}` shows what it takes",
        SERVED.name(),
        model.name
    )))
}

/// What times and room of a model rest on, in words.
pub(super) fn assumptions(model: &Model) -> Vec<String> {
    let mut out = Vec::new();
    let formats = &model.formats;
    let kinds = model.kinds();
    let layers = |of: fn(&Model) -> bool| kinds.iter().any(|(_, _, model)| of(model));
    if formats.activations.bits() < SERVED.bits() {
        out.push(format!(
            "activations go from operator to operator in {}; a pass narrows them to {} before a product that takes them so",
            SERVED.name(),
            formats.activations
        ));
    }
    let cache = formats.cache;
    if cache.bits() < NumberFormat::Bf16.bits() {
        out.push(format!(
            "attention over a cache in {cache} by a law of two-byte words: bytes as they are kept, products at the rate of 16-bit words"
        ));
    }
    if layers(|m| m.window.is_some()) {
        out.push("a layer with a window reads and keeps its tokens only, whole blocks of them; a chunk of a prompt takes no more while it is computed; of a prompt it computes the blocks of 128 x 128 scores that the window touches".into());
    }
    if layers(|m| m.sinks) {
        out.push("sinks take no time".into());
    }
    if layers(|m| m.latent.is_some()) {
        out.push("a latent is absorbed where tokens are decoded, all heads reading it once, and expanded for prompts, that of the tokens before a chunk again with each; each device of a group has it whole".into());
    }
    let linear = kinds
        .iter()
        .any(|(_, _, m)| matches!(m.layer(1, 1).mixer, Mixer::Linear(_)));
    if linear {
        out.push("linear attention reads and writes its state for each token that is decoded, in one pass; of prompts it takes what the gated delta rule takes in chunks".into());
    }
    out
}
