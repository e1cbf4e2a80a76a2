use einflow_spec::Problems;
use einflow_workloads::interpret::{self, MAX_ELEMENTS};

/// Why a step cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A number that must be at least 1 is 0.
    #[error("{what} is 0; it is at least 1")]
    Nothing {
        /// The number.
        what: &'static str,
    },
    /// Query heads do not share key heads evenly.
    #[error("{heads} query heads cannot share {key_heads} key heads evenly")]
    Groups {
        /// Query heads.
        heads: usize,
        /// Key heads.
        key_heads: usize,
    },
    /// The devices do not divide the key heads.
    #[error("{devices} devices cannot divide {key_heads} key heads evenly")]
    KeyHeads {
        /// Attention devices.
        devices: usize,
        /// Key heads.
        key_heads: usize,
    },
    /// A request without old tokens.
    #[error("request {request} has no token in its cache")]
    NothingCached {
        /// The request, from 0.
        request: usize,
    },
    /// An input that would not fit.
    #[error("{name} would hold more than {MAX_ELEMENTS} numbers")]
    TooLarge {
        /// The input.
        name: &'static str,
    },
    /// There are not as many caches as requests.
    #[error("there are {found} caches for {expected} requests")]
    Caches {
        /// Caches given.
        found: usize,
        /// Requests of the shape.
        expected: usize,
    },
    /// An input of another shape.
    #[error("{name} has the shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The input.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What the layer needs.
        expected: [usize; 2],
    },
    /// A cascade that cannot be computed: NaN or a wrong number of elements in an input.
    #[error(transparent)]
    Interpret(#[from] interpret::Error),
    /// A cascade of the library that cannot be read.
    #[error("{0}")]
    Cascade(Problems),
}
