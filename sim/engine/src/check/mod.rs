//! Checks of values: what an accelerator's arithmetic makes of a cascade's results, and whether the mapped dataflow computes them.

pub mod miniature;
pub mod real_length;

use einflow_mappings::mapped::MappedCascade;

use miniature::{Miniature, MiniatureError, miniature};
use real_length::{RealLength, RealLengthError, real_length};

/// What a run's check found.
#[derive(Clone, Debug)]
pub struct Check {
    /// The mapped dataflow in miniature, on the array engine.
    pub miniature: Result<Miniature, MiniatureError>,
    /// One query at the real length; none where it was not asked for.
    pub real_length: Option<Result<RealLength, RealLengthError>>,
}

/// Checks a mapped cascade's values: in miniature, and `long` one query at its real length.
pub fn check(mapped: &MappedCascade, long: bool) -> Check {
    Check {
        miniature: miniature(mapped),
        real_length: long.then(|| real_length(mapped, None)),
    }
}
