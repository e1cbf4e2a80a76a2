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

use std::collections::BTreeSet;

pub use plan::Known;

use einflow_mappings::mapped::MappedCascade;

/// Runs all blocks, `None` where one waits for itself; and what the program has of what engines are known to do
/// otherwise.
pub fn run(mapped: &MappedCascade) -> (Option<Vec<Ran>>, BTreeSet<Known>) {
    let plans: Vec<_> = mapped
        .blocks
        .iter()
        .map(|block| plan::Plan::new(mapped, block))
        .collect();
    let mut known: BTreeSet<Known> = plans.iter().flat_map(|p| p.known.clone()).collect();
    let blocks = mapped.blocks.iter().zip(&plans);
    let ran: Option<Vec<Ran>> = blocks
        .map(|(block, plan)| machine::run(mapped, block, plan))
        .collect();
    if ran.iter().flatten().any(|r| r.early) {
        known.insert(Known::Early);
    }
    (ran, known)
}
