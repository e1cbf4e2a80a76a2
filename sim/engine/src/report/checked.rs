//! What a check of the values found.

use std::collections::BTreeMap;

use einflow_spec::{NumberFormat, Problems};
use einflow_workloads::interpret;

/// What a run's check found.
#[derive(Clone, Debug)]
pub struct Check {
    /// The mapped dataflow in miniature, on the array engine.
    pub miniature: Result<Miniature, MiniatureError>,
    /// One query at the real length; none where it was not asked for.
    pub real_length: Option<Result<RealLength, RealLengthError>>,
}

impl Check {
    /// Whether everything was checked and what must agree does: the cycles of both engines. Where nothing runs along
    /// keys, there is nothing to check at the real length.
    pub fn passed(&self) -> bool {
        let small = self.miniature.as_ref();
        let long = self.real_length.as_ref();
        small.is_ok_and(|m| m.cycles.0 == m.cycles.1 && m.toothless.is_empty())
            && long.is_none_or(|r| matches!(r, Ok(_) | Err(RealLengthError::NoKeys { .. })))
    }
}

/// What the array engine made of a miniature.
#[derive(Clone, Debug)]
pub struct Miniature {
    /// Sizes of the cascade's ranks.
    pub sizes: BTreeMap<String, u64>,
    /// Rows and columns of each array.
    pub arrays: Vec<(String, u64, u64)>,
    /// The format of words, and of sums.
    pub formats: (NumberFormat, NumberFormat),
    /// What the results are compared with.
    pub reference: Reference,
    /// Errors with exact functions: of the dataflow and the formats.
    pub errors: Errors,
    /// Errors with the functions as the accelerator's operators compute them; none where that is the same.
    pub as_listed: Option<Errors>,
    /// Words and maxima in the interpreter's order: whether the outputs are its outputs to the bit, in the same
    /// formats.
    pub as_interpreted: bool,
    /// Cycles on the array engine, and on the cycle engine.
    pub cycles: (u64, u64),
    /// Conditions that leave points out of the whole, and none or all of the miniature: they are not checked.
    pub toothless: Vec<String>,
}

/// Why there is no miniature.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MiniatureError {
    /// The mapping does not fit the small array.
    #[error("the mapping has no miniature: {0}")]
    Bind(Problems),
    /// An input has no values to try.
    #[error(transparent)]
    Inputs(#[from] NoValues),
    /// The array engine refuses.
    #[error("{0}")]
    Array(String),
    /// The cycle engine refuses.
    #[error("{0}")]
    Cycle(String),
    /// The interpreter refuses.
    #[error(transparent)]
    Interpret(#[from] interpret::Error),
    /// A value is NaN or infinite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

/// A value that is NaN or infinite, of which no error can be told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{output}` is NaN or infinite {by}")]
pub struct NotFinite {
    /// The output.
    pub output: String,
    /// In which computation.
    pub by: &'static str,
}

/// An input for which there are no values.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{input}` holds coordinates, for which the check has no values")]
pub struct NoValues {
    /// The input.
    pub input: String,
}

/// How far a result at the real length is from what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct RealLength {
    /// Keys, the size of M.
    pub length: u64,
    /// The size of E, shrunk; 1 where the cascade has no such rank.
    pub e: u64,
    /// The size of F, shrunk; 1 where the cascade has no such rank.
    pub f: u64,
    /// The format of every tensor: the accelerator's word.
    pub format: NumberFormat,
    /// The format of operators and partial sums.
    pub accumulator: NumberFormat,
    /// What the results are compared with.
    pub reference: Reference,
    /// The largest `|output - reference|` with the accelerator's function units.
    pub max_abs_error: f64,
    /// The same, over the largest `|reference|`.
    pub max_rel_error: f64,
    /// The errors with every function exact (rounded once): what the number format alone costs.
    pub exact_exponential: Errors,
    /// The running sum that loses increments, with exact functions; `None` where none does.
    pub stagnation: Option<Stagnation>,
    /// The query, where a mask makes a difference between queries.
    pub mask: Option<MaskedQuery>,
}

/// The query of a mask that sees the most keys, of those at both ends and at each quarter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedQuery {
    /// Its coordinate.
    pub query: u64,
    /// The keys that it sees.
    pub keys: u64,
}

/// What results are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Softmax attention of the query over all keys in f64, by a loop over the keys.
    Attention,
    /// The cascade's own result by the interpreter in f64 with exact functions: it is no plain softmax attention.
    Interpreter,
}

/// How far outputs are from their reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// The largest `|output - reference|`.
    pub max_abs: f64,
    /// The same, over the largest `|reference|`.
    pub max_rel: f64,
}

/// A running sum of increments that are nowhere negative, whose format loses some: each below half a unit in the
/// sum's last place.
#[derive(Clone, Debug, PartialEq)]
pub struct Stagnation {
    /// The sum.
    pub tensor: String,
    /// The key (m) at which the first lost increment begins.
    pub key: u64,
    /// The key from which nothing is added any more: every increment to the end is lost. `None` where the last one is
    /// added.
    pub stopped: Option<u64>,
    /// Increments that are lost.
    pub lost: u64,
    /// Increments, one for each tile of keys.
    pub steps: u64,
    /// `|sum - exact| / exact` at the end, where `exact` sums the same increments' terms in f64.
    pub relative_error: f64,
    /// The largest relative error of a sum that counts as cured: 4 unit roundoffs of the word's format.
    pub bound: f64,
    /// The narrowest format that keeps the sum within the bound, if operators, partial sums and running values are in
    /// it while all other tensors stay words; of two of the same width the one with more precision. `None` where none
    /// does.
    pub cure: Option<NumberFormat>,
}

/// Why a cascade cannot be checked so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RealLengthError {
    /// Nothing grows with the length.
    #[error("{cascade} has no rank M: the check is of one query against M keys")]
    NoKeys {
        /// The cascade.
        cascade: String,
    },
    /// An input cannot be drawn.
    #[error("`{input}` of {cascade} holds coordinates, for which the check has no values")]
    Coordinates {
        /// The cascade.
        cascade: String,
        /// The input.
        input: String,
    },
    /// The cascade has no sizes for one query.
    #[error("{0}")]
    Sizes(Problems),
    /// The interpreter refuses.
    #[error(transparent)]
    Interpret(#[from] interpret::Error),
    /// A value is NaN or infinite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}
