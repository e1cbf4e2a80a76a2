use einflow_spec::Problem;

/// Why a cascade cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// An input of the cascade is not given.
    #[error("the input `{name}` is missing; its axes are [{axes}]")]
    MissingInput {
        /// The input.
        name: String,
        /// Its ranks in declared order, without the batch.
        axes: String,
    },
    /// An array is given that the cascade does not read.
    #[error("the cascade has no input `{name}`{help}")]
    UnknownInput {
        /// The array.
        name: String,
        /// The nearest known input, or all of them.
        help: String,
    },
    /// An array has too few or too many axes.
    #[error("`{name}` has {found} axes, expected {expected}")]
    WrongRank {
        /// The array.
        name: String,
        /// How many it has.
        found: usize,
        /// Its ranks, and the batch ranks that may stand in front.
        expected: String,
    },
    /// An axis of an array has the wrong length.
    #[error("axis {axis} ({rank}) of `{name}` has length {found}, expected {expected}")]
    WrongLength {
        /// The array.
        name: String,
        /// Which axis, from 0.
        axis: usize,
        /// The rank that it is.
        rank: String,
        /// Its length.
        found: usize,
        /// The rank's size.
        expected: u64,
    },
    /// Two inputs carry different batches.
    #[error("`{name}` carries the batch {found:?}, but `{other}` carries {expected:?}")]
    WrongBatch {
        /// The array.
        name: String,
        /// Its batch.
        found: Vec<usize>,
        /// An earlier array.
        other: String,
        /// That one's batch.
        expected: Vec<usize>,
    },
    /// The number of elements is not the product of the axes.
    #[error("`{name}` holds {found} elements where its shape {shape:?} needs {expected}")]
    WrongCount {
        /// The array.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many elements it holds.
        found: usize,
        /// How many it should hold.
        expected: usize,
    },
    /// NaN in an input.
    #[error("`{name}` holds NaN at {index:?}")]
    NotANumber {
        /// The array.
        name: String,
        /// Where.
        index: Vec<usize>,
    },
    /// An index tensor holds something that is not a coordinate.
    #[error("`{name}` holds {value}, which is not a coordinate")]
    NotACoordinate {
        /// The index tensor.
        name: String,
        /// What it holds.
        value: f64,
    },
    /// The size of a rank or parameter is not given.
    #[error("the size of `{name}` is not known")]
    MissingSize {
        /// The rank or parameter.
        name: String,
    },
    /// A rank has no coordinates.
    #[error("the size of `{name}` is 0; sizes are at least 1")]
    ZeroSize {
        /// The rank.
        name: String,
    },
    /// A tensor does not fit.
    #[error("`{name}` would hold more than {limit} elements: its ranks have the sizes {sizes:?}")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Sizes of its axes, batch first.
        sizes: Vec<u64>,
        /// The limit.
        limit: usize,
    },
    /// The tensors that are held at once do not fit.
    #[error(
        "the tensors would hold up to {:.1} GB at once, more than the {:.1} GB of memory there are: {}",
        *.bytes as f64 / 1e9, *.limit as f64 / 1e9, of_tensors(.largest)
    )]
    TooMuchMemory {
        /// Bytes at most, of all tensors that are held together.
        bytes: u128,
        /// [`Options::memory`](super::Options::memory).
        limit: u64,
        /// The largest of these tensors and their bytes.
        largest: Vec<(String, u128)>,
    },
    /// An index expression or condition has no value.
    #[error("in `{einsum}`: {problem}")]
    Expression {
        /// The Einsum.
        einsum: String,
        /// What is wrong, and where.
        problem: Problem,
    },
    /// Einsums depend on each other in a way that no order of one iterative rank satisfies.
    #[error("`{einsum}` takes part in a recurrence, but {why}")]
    Recurrence {
        /// The Einsum.
        einsum: String,
        /// What stands in the way.
        why: String,
    },
    /// An Einsum that the interpreter cannot compute.
    #[error("`{einsum}` cannot be computed: {why}")]
    Unsupported {
        /// The Einsum.
        einsum: String,
        /// What stands in the way.
        why: String,
    },
}

fn of_tensors(largest: &[(String, u128)]) -> String {
    let each = largest
        .iter()
        .map(|(name, bytes)| format!("`{name}` {:.1} GB", *bytes as f64 / 1e9));
    each.collect::<Vec<_>>().join(", ")
}
