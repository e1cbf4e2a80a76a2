//! A scenario at fixed batches, from one request to a full cache: throughput, latency and cost against the batch.

use einflow_spec::{At, Problems};
use rayon::prelude::*;

use super::{
    Report, Scenario, report,
    scenario::{Fixed, Load, Prefill},
    serve::{Options, Watch},
};

/// The scenario with other batches, all of the report's mean context: powers of two from the batches in flight on, and the most that the
/// cache holds.
///
/// # Errors
/// A kernel of which a device says nothing.
pub fn by_batch(
    scenario: &Scenario,
    found: &Report,
    watch: &(dyn Watch + Sync),
) -> Result<Vec<Report>, Problems> {
    let context = found.mean_context.round().max(1.0) as u64;
    // A batch that is as large as the cache needs more room for activations than the run's: the last is what fits then.
    let most = found.capacity.0 / context * 9 / 10;
    let first = scenario.batches.value;
    let mut batches: Vec<Option<u64>> = std::iter::successors(Some(first), |b| b.checked_mul(2))
        .take_while(|b| *b < most)
        .map(Some)
        .collect();
    batches.push(None);
    let one = |batch: Option<u64>| {
        let mut own = scenario.clone();
        let span = own.batches.span;
        own.load = Load::Fixed(Fixed {
            batch: At { value: batch, span },
            context,
        });
        // Prompts are no part of a fixed load.
        own.prefill.value = Prefill::Excluded;
        own.pools
            .retain(|p| p.role != super::scenario::Role::Prefill);
        own.links.retain(|l| {
            let known = |name: &str| own.pools.iter().any(|p| p.name == name);
            l.between.iter().all(|e| known(&e.value))
        });
        report(own, Options::default(), &Stop(watch)).map(|(report, _)| report)
    };
    batches.into_par_iter().map(one).collect()
}

/// Stops with another, and tells it nothing.
struct Stop<'w>(&'w (dyn Watch + Sync));

impl Watch for Stop<'_> {
    fn done(&self, _: u64, _: u64) {}

    fn stop(&self) -> bool {
        self.0.stop()
    }
}
