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

/// Checks a mapped cascade's values: in miniature, and `long` one query at its real length.
pub fn check(mapped: &MappedCascade, long: bool) -> Check {
    Check {
        miniature: miniature(mapped),
        real_length: long.then(|| real_length(mapped, None)),
    }
}
