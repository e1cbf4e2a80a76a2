//! Why a program could not be run.

use einflow_mappings::nest::CountError;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Tiles that cannot be tested or counted.
    #[error("{0}")]
    Count(#[from] CountError),
    /// More cycles or words than can be counted.
    #[error("a time overflows 64 bits")]
    Overflow,
    /// Nothing can start: a mapping that waits for itself.
    #[error("from cycle {time} on nothing can start: {}", in_words(waits))]
    Deadlock {
        /// When.
        time: u64,
        /// Who waits for whom, round in a circle.
        waits: Vec<Wait>,
    },
}

/// One wait of a circle of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waits: an Einsum, or the movement of a tensor.
    pub who: String,
    /// What for, in words.
    pub what: String,
    /// Who would have to go on first.
    pub whom: String,
}

fn in_words(waits: &[Wait]) -> String {
    let one = |w: &Wait| format!("{} {}, so for {}", w.who, w.what, w.whom);
    waits.iter().map(one).collect::<Vec<_>>().join("; ")
}
