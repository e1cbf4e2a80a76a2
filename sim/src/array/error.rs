//! What an array cannot do.

use einflow_mappings::nest::CountError;

use super::place::Coordinates;

/// Why a program could not be run on the arrays.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// The interpreter would refuse these inputs too.
    #[error("{0}")]
    Inputs(String),
    /// A cascade that this engine does not run.
    #[error("the array engine cannot run {einsum}: {why}")]
    Unsupported {
        /// The Einsum.
        einsum: String,
        /// What it does that the engine has no hardware for.
        why: String,
    },
    /// Tiles that cannot be tested.
    #[error("{0}")]
    Count(#[from] CountError),
    /// More cycles than can be counted.
    #[error("a time overflows 64 bits")]
    Overflow,
    /// A read does not find its word.
    #[error("{einsum} at cycle {cycle} reads {tensor}{coordinates} from {place}, which {why}")]
    Word {
        /// The reader.
        einsum: String,
        /// The cycle in PE (0, 0).
        cycle: u64,
        /// The tensor.
        tensor: String,
        /// The word.
        coordinates: Coordinates,
        /// Where it should be.
        place: String,
        /// What is there instead.
        why: String,
    },
    /// Two words on one link at once.
    #[error(
        "{einsum} puts {words} words on each link `{link}` of {array} from cycle {cycle} on, where {room} pass in its {cycles} cycles: {tensors}"
    )]
    Link {
        /// The Einsum.
        einsum: String,
        /// The array.
        array: String,
        /// The link.
        link: String,
        /// First cycle of the step in PE (0, 0).
        cycle: u64,
        /// Words.
        words: u64,
        /// How many pass.
        room: u64,
        /// Cycles of the step.
        cycles: u64,
        /// Whose words.
        tensors: String,
    },
    /// Two operations in one PE at once.
    #[error("{einsum} starts a step in PE ({row}, {column}) of {array} at cycle {cycle}, while {other} is busy there until {until}")]
    Busy {
        /// The Einsum.
        einsum: String,
        /// The array.
        array: String,
        /// The PE.
        row: u64,
        /// The PE.
        column: u64,
        /// When, at the PE.
        cycle: u64,
        /// What runs there.
        other: String,
        /// When that ends.
        until: u64,
    },
    /// More live words in a PE than it has registers.
    #[error("{einsum} needs a register for {tensor}{coordinates} in PE ({row}, {column}) of {array} at cycle {cycle}: {live} words live there, of {words}")]
    Registers {
        /// The Einsum.
        einsum: String,
        /// The array.
        array: String,
        /// The PE.
        row: u64,
        /// The PE.
        column: u64,
        /// When, at the PE.
        cycle: u64,
        /// The tensor.
        tensor: String,
        /// The word.
        coordinates: Coordinates,
        /// Words that would live there.
        live: u64,
        /// Registers.
        words: u64,
    },
    /// One task alone needs more ports than there are.
    #[error("{what} needs more rows a cycle than the {ports} ports of `{memory}` move")]
    Ports {
        /// The Einsum, or the tensor that is loaded.
        what: String,
        /// The memory.
        memory: String,
        /// Its ports.
        ports: u64,
    },
    /// Nothing can start: words that never come.
    #[error("nothing can start at cycle {time}: {waits}")]
    Deadlock {
        /// When.
        time: u64,
        /// Who waits for which word.
        waits: String,
    },
}
