//! Running the blocks of a mapped cascade, one after another.

use einflow_mappings::mapped::MappedCascade;

use super::jump::Passed;
use crate::{
    events::{Cause, EventError, Machine, Observer, Totals},
    program::programs,
};

/// What a block did.
#[derive(Clone, Debug)]
pub struct BlockRun {
    /// The block.
    pub name: String,
    /// Cycles from its start to its end.
    pub cycles: u64,
    /// What was counted, and what units did in each cycle.
    pub totals: Totals,
}

/// Runs all blocks of a mapped cascade, or until the observer has seen enough.
///
/// # Errors
/// See [`EventError`].
pub fn run(
    mapped: &MappedCascade,
    jump: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<BlockRun>, EventError> {
    let programs = programs(mapped)?;
    let mut out = Vec::new();
    let mut before = 0u64;
    for (index, program) in programs.iter().enumerate() {
        observer.block(index, before);
        let mut machine = Machine::new(mapped, program, index)?;
        let mut passed = Passed::new(&machine, jump && !observer.sees_all());
        let mut enough = false;
        while !enough && machine.step(&mut passed, observer)? {
            passed.jump(&mut machine)?;
            enough = observer.enough(machine.state.now);
        }
        let (end, mut totals) = (machine.state.end, machine.totals);
        before = before.checked_add(end).ok_or(EventError::Overflow)?;
        for (unit, free) in machine.state.unit_free.iter().enumerate() {
            totals.wait(unit, Cause::Draining, end - free);
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
