//! What an array cannot do.

use super::coordinates::Coordinates;
use crate::events::EventError;

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
    /// Nothing that any back end can run.
    #[error(transparent)]
    Events(#[from] EventError),
    /// A read does not find its word.
    #[error("{0}")]
    Word(Box<MissingWord>),
    /// Two words on one link at once.
    #[error("{0}")]
    Link(Box<CrowdedLink>),
    /// Two operations in one PE at once.
    #[error("{0}")]
    Busy(Box<BusyPe>),
    /// More live words in a PE than it has registers.
    #[error("{0}")]
    Registers(Box<FullRegisters>),
}

/// A word that is not where a step reads it.
#[derive(Debug, thiserror::Error)]
#[error("{einsum} at cycle {cycle} reads {tensor}{coordinates} from {place}, which {why}")]
pub struct MissingWord {
    /// The reader.
    pub einsum: String,
    /// The cycle in PE (0, 0).
    pub cycle: u64,
    /// The tensor.
    pub tensor: String,
    /// The word.
    pub coordinates: Coordinates,
    /// Where it should be.
    pub place: String,
    /// What is there instead.
    pub why: String,
}

/// More words on a link than pass in a step.
#[derive(Debug, thiserror::Error)]
#[error(
    "{einsum} at cycle {cycle} puts {words} words on each link between the {between} of {array}, where {room} pass in a step of {cycles} cycles: {tensors}"
)]
pub struct CrowdedLink {
    /// The Einsum.
    pub einsum: String,
    /// The array.
    pub array: String,
    /// What the links join: rows or columns.
    pub between: &'static str,
    /// First cycle of the step in PE (0, 0).
    pub cycle: u64,
    /// Words.
    pub words: u64,
    /// How many pass.
    pub room: u64,
    /// Cycles of the step.
    pub cycles: u64,
    /// The words.
    pub tensors: String,
}

/// A PE that is not free.
#[derive(Debug, thiserror::Error)]
#[error(
    "{einsum} starts in PE (0, 0) of {array} at cycle {cycle}, while {other} is busy there until {until}"
)]
pub struct BusyPe {
    /// The Einsum.
    pub einsum: String,
    /// The array.
    pub array: String,
    /// When.
    pub cycle: u64,
    /// What runs there.
    pub other: String,
    /// When that ends.
    pub until: u64,
}

/// A PE without a free register.
#[derive(Debug, thiserror::Error)]
#[error(
    "{einsum} at cycle {cycle} needs a register for {tensor}{coordinates} in PE (0, 0) of {array}: {live} words live there, of {words}"
)]
pub struct FullRegisters {
    /// The Einsum.
    pub einsum: String,
    /// The array.
    pub array: String,
    /// When.
    pub cycle: u64,
    /// The tensor.
    pub tensor: String,
    /// The word.
    pub coordinates: Coordinates,
    /// Words that would live there.
    pub live: u64,
    /// Registers.
    pub words: u64,
}
