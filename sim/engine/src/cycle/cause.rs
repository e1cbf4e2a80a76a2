//! What a unit does in a cycle, and what it waits for.

use einflow_workloads::cascade::TensorId;

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
    /// The outermost memory's channel is busy with other requests.
    Channel(usize),
    /// The mapping has other units work, or keeps the pace that it states.
    Mapping,
}
