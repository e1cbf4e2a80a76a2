//! Why a block could not be run.

use einflow_mappings::nest::CountError;

/// Why a block could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// Tiles that cannot be tested or counted.
    #[error("{0}")]
    Count(#[from] CountError),
    /// What the analytic engine cannot count either.
    #[error("{0}")]
    Analytic(#[from] crate::analytic::AnalyticError),
    /// More cycles or words than can be counted.
    #[error("a time overflows 64 bits")]
    Overflow,
    /// Nothing can start: a mapping that waits for itself.
    #[error("nothing can start at cycle {time}: {waits}")]
    Deadlock {
        /// When.
        time: u64,
        /// Who waits for what.
        waits: String,
    },
    /// One task alone needs more ports than there are.
    #[error("{einsum} needs more rows a cycle than the {ports} ports of `{memory}` move")]
    Ports {
        /// The Einsum, or the tensor that is loaded.
        einsum: String,
        /// The memory.
        memory: String,
        /// Its ports.
        ports: u64,
    },
}
