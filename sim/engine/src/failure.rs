//! Why a mapping is not run, at its place in its file.

use einflow_mappings::{mapped::MappedCascade, nest::CountError};
use einflow_spec::Problem;

use crate::{EngineError, analytic::AnalyticError, events::EventError};

/// A mapping that cannot be run, at its place in the file.
pub fn not_run(mapped: &MappedCascade, error: &EngineError) -> Problem {
    match error {
        EngineError::Analytic(error) => uncounted(mapped, error),
        EngineError::Events(error @ EventError::Deadlock { .. }) => waits_for_itself(mapped, error),
        error => Problem::nowhere(format!("mapping {}: {error}", mapped.spec.name)),
    }
}

/// A mapping that is legal tile by tile and waits for itself as a whole, at the first Einsum of those that wait for each other.
fn waits_for_itself(mapped: &MappedCascade, error: &EventError) -> Problem {
    let spec = &mapped.spec;
    let waits = match error {
        EventError::Deadlock { waits, .. } => &waits[..],
        _ => &[],
    };
    let message = format!("mapping {} waits for itself: {error}", spec.name);
    let nests = || spec.blocks.iter().flat_map(|b| &b.nests);
    let named = |who: &str| {
        let first = who.split(' ').next().unwrap_or_default();
        let mut einsums = nests().flat_map(|n| &n.einsums);
        einsums.find_map(|(n, _)| (n.text == first).then_some(n.span))
    };
    let problem = match waits.iter().find_map(|w| named(&w.who)) {
        Some(span) => Problem::at(&spec.source, span, message),
        None => Problem::nowhere(message),
    };
    problem.help("change the order of the Einsums on a unit, their offsets in the pipeline, or the buffers of what is kept")
}

/// A block that cannot be counted, at its place in the mapping.
fn uncounted(mapped: &MappedCascade, error: &AnalyticError) -> Problem {
    let AnalyticError::Count { block, source } = error else {
        return Problem::nowhere(error.to_string());
    };
    let spec = mapped.spec.blocks.iter().find(|b| b.name == *block);
    let problem = spec.map_or_else(
        || Problem::nowhere(error.to_string()),
        |spec| Problem::at(&mapped.spec.source, spec.span, error.to_string()),
    );
    match source {
        CountError::TooLarge { .. } if spec.is_some_and(|b| b.skip_empty) => problem.help(
            "leave `skip_empty` out, so that every tile runs, or take a shorter length or coarser tiles",
        ),
        CountError::TooLarge { .. } => {
            problem.help("take a shorter length, or a condition on the difference of two ranks")
        }
        _ => problem,
    }
}
