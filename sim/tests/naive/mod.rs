//! A naive simulator of mapped cascades, from `sim/ENGINES.md` alone: it shares nothing with the engines.

pub mod chip;
pub mod machine;
pub mod plan;
pub mod unroll;
pub mod words;

pub use machine::{Ran, Wait};

use einflow_mappings::mapped::MappedCascade;

/// Runs all blocks; `None` where one waits for itself.
pub fn run(mapped: &MappedCascade) -> Option<Vec<Ran>> {
    let one = |block| machine::run(mapped, block, &plan::Plan::new(mapped, block));
    mapped.blocks.iter().map(one).collect()
}
