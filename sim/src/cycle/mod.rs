//! The cycle engine: tiles as tasks on the real resources, every cycle accounted for.

mod cause;
mod jump;
mod machine;
mod timing;
mod words;

pub use cause::{Cause, Side};
pub use machine::{CycleError, Movement, Observer, Task, Totals, Unseen};

use einflow_mappings::mapped::MappedCascade;

use crate::program::programs;
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

/// Runs all blocks of a mapped cascade.
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
    for (index, program) in programs.iter().enumerate() {
        let mut machine = Machine::new(mapped, program, index)?;
        if jump && !observer.sees_all() {
            machine = machine.jumping();
        }
        while machine.step(observer)? {}
        let end = machine.end;
        let mut totals = machine.totals.clone();
        for (unit, free) in machine.unit_free.iter().enumerate() {
            let rest = end - free;
            match totals.waits[unit].iter_mut().find(|(c, _)| *c == Cause::Draining) {
                Some((_, sum)) => *sum += rest,
                None => totals.waits[unit].push((Cause::Draining, rest)),
            }
        }
        out.push(BlockRun {
            name: program.name.clone(),
            cycles: end,
            totals,
        });
    }
    Ok(out)
}

/// A cause in words.
pub fn describe(mapped: &MappedCascade, cause: Cause) -> String {
    let tensor = |t: einflow_workloads::cascade::TensorId| mapped.cascade.tensor(t).name.as_str();
    let memory = |m: usize| mapped.accelerator.memories[m].name.as_str();
    let side = |side: Side| match side {
        Side::Memory(m) => memory(m),
        Side::Array(a) => mapped.accelerator.arrays[a].name.as_str(),
    };
    match cause {
        Cause::Filling => "filling".into(),
        Cause::Draining => "draining".into(),
        Cause::Operand(t, from) => format!("{} from {}", tensor(t), side(from)),
        Cause::Space(t, at) => format!("room for {} in {}", tensor(t), side(at)),
        Cause::Port(m) => format!("a port of {}", memory(m)),
        Cause::Channel(m) => format!("the channel of {}", memory(m)),
        Cause::Mapping => "idle by the mapping".into(),
    }
}
