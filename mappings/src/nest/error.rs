use thiserror::Error;

/// Why a count cannot be given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CountError {
    /// More ranks, loops, dimensions or terms than the counting supports.
    #[error("{found} {what}, and at most {limit} can be counted")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A loop, a term or a condition names a rank that the space does not have.
    #[error("rank {rank} in a space of {ranks} ranks")]
    NoSuchRank {
        /// Index of the rank.
        rank: usize,
        /// Number of ranks of the space.
        ranks: usize,
    },
    /// A step, a unit or a modulus of zero.
    #[error("a {what} of 0 on rank {rank}")]
    Zero {
        /// `step`, `unit` or `modulus`.
        what: &'static str,
        /// Index of the rank.
        rank: usize,
    },
    /// The tiles of a loop straddle the blocks by which a term divides its rank.
    #[error("steps of {step} on rank {rank} do not align with its blocks of {unit}")]
    Unaligned {
        /// Index of the rank.
        rank: usize,
        /// The loop's step.
        step: u64,
        /// Length of the term's blocks: its unit, or unit times modulus.
        unit: u64,
    },
    /// A spatial loop whose instances would not all have the same number of coordinates.
    #[error("steps of {step} on rank {rank} do not divide it evenly among instances")]
    Uneven {
        /// Index of the rank.
        rank: usize,
        /// The loop's step.
        step: u64,
    },
    /// Empty tiles are left out, and others lie side by side: instances then differ.
    #[error("a nest that leaves out empty tiles is not counted over several instances")]
    SkippedInstances,
    /// A rank stands in a projection twice, in a way that does not fall apart into separate digits.
    #[error(
        "rank {rank} occurs twice in a projection, other than as separate digits of its coordinate"
    )]
    SharedRank {
        /// Index of the rank.
        rank: usize,
    },
    /// A count above 2^128 - 1, or coordinates above 2^63.
    #[error("a count overflows 128 bits")]
    Overflow,
    /// No closed form applies, and there is too much to enumerate.
    #[error("no closed form applies, and more than {limit} {what} would have to be enumerated")]
    TooLarge {
        /// What would be enumerated.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}
