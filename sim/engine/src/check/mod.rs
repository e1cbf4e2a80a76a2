//! Checks of values: what an accelerator's arithmetic makes of a cascade's results, and whether the mapped dataflow
//! computes them.

mod bounds;
pub mod inputs;
pub mod miniature;
mod query;
pub mod real_length;
mod roles;

use einflow_mappings::mapped::MappedCascade;

use miniature::miniature;
use real_length::real_length;

pub use crate::report::Check;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// The mapped dataflow, in miniature, with exact functions.
    Structure,
    /// And with functions as the accelerator's operators compute them.
    Functions,
    /// And one query at its real length.
    Length,
}

/// Checks a mapped cascade's values.
pub fn check(mapped: &MappedCascade, depth: Depth) -> Check {
    Check {
        miniature: miniature(mapped, depth >= Depth::Functions),
        real_length: (depth == Depth::Length).then(|| real_length(mapped, None)),
    }
}
