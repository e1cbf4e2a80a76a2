//! The Pareto front, kept while points come.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// Objectives, and the points that have just these.
type Tied = (Vec<f64>, Vec<u64>);

/// The points of each amount of work that no other beats in everything. Rows of equal objectives are one entry, entries stand in order
/// of their first objective (then the others): one that beats another stands before it.
#[derive(Debug, Default)]
pub struct Front {
    by_work: BTreeMap<String, Vec<Tied>>,
}

/// Whether `a` is at least as good as `b` everywhere; less is better.
fn as_good(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

fn order(a: &[f64], b: &[f64]) -> Ordering {
    let differ = |(a, b): (&f64, &f64)| Some(a.total_cmp(b)).filter(|o| o.is_ne());
    a.iter().zip(b).find_map(differ).unwrap_or(Ordering::Equal)
}

impl Front {
    /// A row's objectives, less is better, among the rows of the same work. Rows that are equal are all kept.
    pub fn offer(&mut self, work: &str, row: u64, objectives: &[f64]) {
        // Of a zero with a sign, which compares as less and is not.
        let objectives: Vec<f64> = objectives.iter().map(|x| x + 0.0).collect();
        let kept = match self.by_work.get_mut(work) {
            Some(kept) => kept,
            None => self.by_work.entry(work.to_string()).or_default(),
        };
        let at = match kept.binary_search_by(|(k, _)| order(k, &objectives)) {
            Ok(same) => return kept[same].1.push(row),
            Err(at) => at,
        };
        // With two objectives the one before is the best of those before in the second, as none of them beats another.
        let before = if objectives.len() <= 2 {
            &kept[at.saturating_sub(1)..at]
        } else {
            &kept[..at]
        };
        if before.iter().any(|(k, _)| as_good(k, &objectives)) {
            return;
        }
        let beaten = |(k, _): &(Vec<f64>, Vec<u64>)| as_good(&objectives, k);
        let end = match objectives.len() {
            // Those that it beats follow it.
            0..=2 => at + kept[at..].iter().take_while(|k| beaten(k)).count(),
            _ => kept.len(),
        };
        if kept[at..end].iter().any(beaten) {
            let rest = kept.split_off(at);
            kept.extend(rest.into_iter().filter(|k| !beaten(k)));
        }
        kept.insert(at, (objectives, vec![row]));
    }

    /// The rows on it.
    pub fn rows(&self) -> BTreeSet<u64> {
        self.by_work
            .values()
            .flatten()
            .flat_map(|(_, rows)| rows)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(a: &[f64], b: &[f64]) -> bool {
        as_good(a, b) && a != b
    }

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
        for objectives in 1..=3 {
            let points: Vec<(String, Vec<f64>)> = (0..400)
                .map(|_| {
                    let work = draw(3).to_string();
                    (work, (0..objectives).map(|_| draw(12) as f64).collect())
                })
                .collect();
            let mut front = Front::default();
            for (row, (work, objectives)) in points.iter().enumerate() {
                front.offer(work, row as u64, objectives);
            }
            let kept = front.rows();
            for (row, (work, objectives)) in points.iter().enumerate() {
                let mut others = points.iter();
                let beaten = others.any(|(w, o)| w == work && beats(o, objectives));
                assert_eq!(kept.contains(&(row as u64)), !beaten, "{row}");
            }
            assert!(kept.len() > 2 && kept.len() < 200, "{}", kept.len());
        }
    }

    /// Rows that tie are one entry: a front of nothing else is not compared with itself.
    #[test]
    fn ties_are_one_entry() {
        let mut front = Front::default();
        for row in 0..100_000 {
            front.offer("", row, &[2.0, 1.0, 3.0]);
        }
        assert_eq!(front.by_work[""].len(), 1);
        assert_eq!(front.rows().len(), 100_000);
    }
}
