//! How well a law does on rows that its fit has not seen: a random half, and whole families.

use std::collections::BTreeMap;

use einflow_arch::device::Chip;

use super::fit::{Samples, fit, fit_from, size};

/// Errors on unseen rows.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// Mean error on the other half, fitted on one drawn at random; the mean over the draws.
    pub half: f64,
    /// Mean error on each family, fitted on all the others; none: fewer samples than parameters are left.
    pub families: BTreeMap<String, f64>,
}

impl Unseen {
    /// The mean over the families, each counting once.
    pub fn families_mean(&self) -> Option<f64> {
        let count = self.families.len();
        (count > 0).then(|| self.families.values().sum::<f64>() / count as f64)
    }
}

/// A fixed sequence of numbers below 2^32, so that a draw is the same everywhere (Knuth's MMIX generator).
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 32
}

/// The mean error on one half of a fit to the other.
fn half(
    name: &str,
    chip: &Chip,
    samples: &Samples,
    keep: &BTreeMap<String, f64>,
    seed: u64,
) -> Result<f64, String> {
    let mut state = seed;
    next(&mut state);
    let (mut seen, mut held) = (Samples::default(), Samples::default());
    // A drawn order, cut in the middle.
    let mut order: Vec<(u64, usize)> = (0..samples.all.len())
        .map(|i| (next(&mut state), i))
        .collect();
    order.sort_unstable();
    for (place, (_, i)) in order.iter().enumerate() {
        let half = match place * 2 < order.len() {
            true => &mut seen,
            false => &mut held,
        };
        half.all.push(samples.all[*i].clone());
    }
    let found = fit(name, chip, &seen, keep)?;
    Ok(size(&held.errors(chip, &found.values)).0)
}

/// Fits on random halves and on all but each family.
///
/// # Errors
/// Fewer samples than parameters.
pub fn unseen(
    name: &str,
    chip: &Chip,
    samples: &Samples,
    keep: &BTreeMap<String, f64>,
    seeds: &[u64],
) -> Result<Unseen, String> {
    let mut halves = Vec::new();
    for seed in seeds {
        halves.push(half(name, chip, samples, keep, *seed)?);
    }
    let half = size(&halves).0;
    let mut groups: Vec<&str> = samples.all.iter().map(|s| s.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    let all = fit(name, chip, samples, keep)?;
    let mut families = BTreeMap::new();
    for group in groups {
        let (inside, outside): (Vec<_>, Vec<_>) =
            samples.all.iter().cloned().partition(|s| s.group == group);
        let (inside, outside) = (Samples { all: inside }, Samples { all: outside });
        // The start only saves rounds: each search ends where its own samples have it.
        if let Ok(found) = fit_from(name, chip, &outside, keep, Some(&all.values)) {
            let error = size(&inside.errors(chip, &found.values)).0;
            families.insert(group.to_string(), error);
        }
    }
    Ok(Unseen { half, families })
}
