//! A naive simulator of mapped cascades, by the rules of `docs/src/explanation/engines.md`: it imports nothing from the
//! engines, unrolls every loop into sets of words, and goes one cycle after another.

pub mod chip;
mod einsum;
pub mod machine;
mod made;
mod movers;
pub mod plan;
mod units;
pub mod unroll;
pub mod words;

pub use machine::{Ran, Wait};

use einflow_mappings::mapped::MappedCascade;

/// Runs all blocks, `None` where one waits for itself.
pub fn run(mapped: &MappedCascade) -> Option<Vec<Ran>> {
    let blocks = mapped.blocks.iter();
    blocks
        .map(|block| machine::run(mapped, block, &plan::Plan::new(mapped, block)))
        .collect()
}
