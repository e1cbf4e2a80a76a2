//! The Pareto front, kept while points come.

use std::collections::{BTreeMap, BTreeSet};

/// The points of each amount of work that no other beats in everything.
#[derive(Debug, Default)]
pub struct Front {
    by_work: BTreeMap<String, Vec<(u64, Vec<f64>)>>,
}

/// Whether `a` is at least as good as `b` everywhere and better somewhere; less is better.
fn beats(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

impl Front {
    /// A row's objectives, less is better, among the rows of the same work. Rows that are equal are all kept.
    pub fn offer(&mut self, work: &str, row: u64, objectives: &[f64]) {
        let kept = match self.by_work.get_mut(work) {
            Some(kept) => kept,
            None => self.by_work.entry(work.to_string()).or_default(),
        };
        if kept.iter().any(|(_, k)| beats(k, objectives)) {
            return;
        }
        kept.retain(|(_, k)| !beats(objectives, k));
        kept.push((row, objectives.to_vec()));
    }

    /// The rows on it.
    pub fn rows(&self) -> BTreeSet<u64> {
        self.by_work
            .values()
            .flatten()
            .map(|(row, _)| *row)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against every pair, on points whose coordinates often tie.
    #[test]
    fn no_kept_point_is_beaten_and_every_other_is() {
        let mut state = 1u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let points: Vec<(String, Vec<f64>)> = (0..400)
            .map(|_| {
                let work = draw(3).to_string();
                (work, (0..3).map(|_| draw(12) as f64).collect())
            })
            .collect();
        let mut front = Front::default();
        for (row, (work, objectives)) in points.iter().enumerate() {
            front.offer(work, row as u64, objectives);
        }
        let kept = front.rows();
        for (row, (work, objectives)) in points.iter().enumerate() {
            let beaten = points
                .iter()
                .any(|(w, o)| w == work && beats(o, objectives));
            assert_eq!(kept.contains(&(row as u64)), !beaten, "{row}");
        }
        assert!(kept.len() > 5 && kept.len() < 200, "{}", kept.len());
    }
}
