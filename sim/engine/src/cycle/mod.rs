//! The cycle engine: tiles as tasks on the real resources, every cycle accounted for.

mod account;
mod jump;
mod run;

pub use run::{BlockRun, run};

use einflow_mappings::mapped::MappedCascade;

use crate::{
    analytic,
    error::EngineError,
    events::{EventError, Unseen},
    report::Report,
};

/// Evaluates a mapped cascade: times by running it, words as they moved, and where every cycle went.
///
/// # Errors
/// See [`EngineError`].
pub fn evaluate(mapped: &MappedCascade) -> Result<Report, EngineError> {
    let runs = run(mapped, true, &mut Unseen)?;
    report(mapped, &runs)
}

/// The report of what blocks did.
///
/// # Errors
/// Overflow.
pub fn report(mapped: &MappedCascade, runs: &[BlockRun]) -> Result<Report, EngineError> {
    let mut counts = analytic::count(mapped)?;
    let account = account::account(mapped, runs, &counts).ok_or(EventError::Overflow)?;
    let moved = runs.iter().map(|run| (&run.totals.words[..], run.cycles));
    counts.measured(mapped, moved)?;
    let mut report = analytic::report(mapped, &counts, "cycle")?;
    for (block, run) in report.blocks.iter_mut().zip(runs) {
        block.bottleneck = account::bound_by(mapped, run).ok_or(EventError::Overflow)?;
    }
    report.account = Some(account);
    Ok(report)
}
