//! What a unit does in a cycle, and what it waits for.

use einflow_mappings::mapped::MappedCascade;
use einflow_workloads::cascade::TensorId;

use crate::report::Activity;

/// Where a word comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// A memory.
    Memory(usize),
    /// An array.
    Array(usize),
}

/// Why a unit does not work in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The wavefront, or the pipeline, fills: words that stay are loaded, or the first tiles have not come this far.
    Filling,
    /// Results leave, or the last tiles have passed.
    Draining,
    /// An operand is not there.
    Operand(TensorId, Side),
    /// There is no room for what it makes, or for the tile that it needs.
    Space(TensorId, Side),
    /// A memory's ports are taken.
    Port(usize),
    /// A link of an array takes longer for the words of a step than the step.
    Link(usize, usize),
    /// The outermost memory's channel is busy with other requests.
    Channel(usize),
    /// The mapping has other units work, or keeps the pace that it states.
    Mapping,
}

impl Cause {
    /// The cause with the names of tensors, memories and arrays.
    pub fn activity(self, mapped: &MappedCascade) -> Activity {
        let tensor = |t: TensorId| mapped.cascade.tensor(t).name.clone();
        let memory = |m: usize| mapped.accelerator.memories[m].name.clone();
        let side = |side: Side| match side {
            Side::Memory(m) => memory(m),
            Side::Array(a) => mapped.accelerator.arrays[a].name.clone(),
        };
        match self {
            Cause::Filling => Activity::Filling,
            Cause::Draining => Activity::Draining,
            Cause::Operand(t, from) => Activity::Operand(tensor(t), side(from)),
            Cause::Space(t, at) => Activity::Space(tensor(t), side(at)),
            Cause::Port(m) => Activity::Port(memory(m)),
            Cause::Link(array, link) => {
                let array = &mapped.accelerator.arrays[array];
                Activity::Link(array.links[link].name.clone(), array.name.clone())
            }
            Cause::Channel(m) => Activity::Channel(memory(m)),
            Cause::Mapping => Activity::Mapping,
        }
    }
}
