//! The cycle engine: tiles as tasks on the real resources, every cycle accounted for.

mod account;
mod candidate;
mod cause;
mod error;
mod jump;
mod keeps;
mod machine;
mod observer;
mod ports;
mod segments;
mod start;
mod state;
mod streams;
mod timing;
mod words;

pub use account::describe;
pub use cause::{Cause, Side};
pub use error::CycleError;
pub use observer::{Movement, Observer, Task, Unseen};
pub use state::Totals;

use einflow_mappings::{
    count::{Count, Traffic, accesses, transferred},
    mapped::MappedCascade,
};

use crate::{analytic, program::programs, report::Report};
use machine::Machine;

/// What a block did.
#[derive(Clone, Debug)]
pub struct BlockRun {
    /// The block.
    pub name: String,
    /// Cycles from its start to its end.
    pub cycles: u64,
    /// By unit: cycles from the unit's last task to the block's end.
    pub totals: Totals,
}

/// Runs all blocks of a mapped cascade, or until the observer has seen enough.
///
/// # Errors
/// See [`CycleError`].
pub fn run(
    mapped: &MappedCascade,
    jump: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<BlockRun>, CycleError> {
    let programs = programs(mapped)?;
    let mut out = Vec::new();
    let mut before = 0u64;
    for (index, program) in programs.iter().enumerate() {
        observer.block(index, before);
        let mut machine = Machine::new(mapped, program, index)?;
        if jump && !observer.sees_all() {
            machine = machine.jumping();
        }
        let mut enough = false;
        while !enough && machine.step(observer)? {
            enough = observer.enough(machine.now);
        }
        let end = machine.end;
        before = before.checked_add(end).ok_or(CycleError::Overflow)?;
        let mut totals = machine.totals.clone();
        for (unit, free) in machine.unit_free.iter().enumerate() {
            let rest = end - free;
            match totals.waits[unit]
                .iter_mut()
                .find(|(c, _)| *c == Cause::Draining)
            {
                Some((_, sum)) => *sum += rest,
                None => totals.waits[unit].push((Cause::Draining, rest)),
            }
        }
        out.push(BlockRun {
            name: program.name.clone(),
            cycles: end,
            totals,
        });
        if enough {
            break;
        }
    }
    Ok(out)
}

/// Evaluates a mapped cascade: times by running it, words as they moved, and where every cycle went.
///
/// # Errors
/// See [`CycleError`].
pub fn evaluate(mapped: &MappedCascade) -> Result<Report, CycleError> {
    let runs = run(mapped, true, &mut Unseen)?;
    report(mapped, &runs)
}

/// The report of what blocks did.
///
/// # Errors
/// Overflow.
pub fn report(mapped: &MappedCascade, runs: &[BlockRun]) -> Result<Report, CycleError> {
    let mut counts = analytic::count(mapped)?;
    let account = account::account(mapped, runs, &counts).ok_or(CycleError::Overflow)?;
    let accelerator = &mapped.accelerator;
    let (memories, tensors) = (accelerator.memories.len(), mapped.cascade.tensors.len());
    counts.traffic = Traffic::new(memories, tensors);
    for (index, (block, run)) in mapped.blocks.iter().zip(runs).enumerate() {
        let mut moved = Vec::with_capacity(block.transfers.len());
        for (transfer, words) in block.transfers.iter().zip(&run.totals.words) {
            moved.push(transferred(&block.space, transfer)?.with_words(*words));
        }
        let traffic = accesses(
            &block.transfers,
            &moved,
            accelerator.counting,
            memories,
            tensors,
        )?;
        counts.traffic.add(&traffic).ok_or(CycleError::Overflow)?;
        counts.block_traffic[index] = traffic;
        counts.times[index] = Count::whole(run.cycles.into());
    }
    let mut report = analytic::report(mapped, &counts, "cycle")?;
    report.account = Some(account);
    Ok(report)
}
