//! Passes: how often each fiber of a rank must be traversed whatever the mapping, and what that forces to be held.
//!
//! Where a tensor is made by reducing a rank away (a *barrier*), every element of the fibers that went into
//! it is read before it is complete. An Einsum that depends on the barrier and reads those fibers
//! again makes one more pass. The rule follows "Passes" of FuseMax (MICRO 2024), section III.

mod report;
mod sweep;

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::cascade::{Cascade, RankId};

pub use report::{Live, PassReport, Passes};
use sweep::Sweep;

/// The fibers that are followed: those of a rank and, if it is split, of its parts.
#[derive(Clone, Debug)]
struct Fibers {
    rank: RankId,
    /// The rank itself and the outermost part of each of its partitions.
    outer: BTreeSet<RankId>,
    /// The other parts.
    inner: BTreeSet<RankId>,
}

impl Fibers {
    /// Of some ranks, those that sweep the fibers and those that move within a part.
    fn among<'a>(
        &self,
        ranks: impl IntoIterator<Item = &'a RankId> + Clone,
    ) -> (BTreeSet<RankId>, BTreeSet<RankId>) {
        let pick = |from: &BTreeSet<RankId>| {
            ranks
                .clone()
                .into_iter()
                .filter(|rank| from.contains(rank))
                .copied()
                .collect()
        };
        (pick(&self.outer), pick(&self.inner))
    }
}

/// Passes over every rank of the iteration spaces and over every part of a split rank, and the tensors that
/// must be held.
pub fn passes(cascade: &Cascade) -> PassReport {
    let parts: BTreeSet<RankId> = cascade
        .partitions
        .iter()
        .flat_map(|partition| partition.parts.iter().copied())
        .collect();
    let mut report = PassReport {
        passes: IndexMap::new(),
        live: Vec::new(),
        live_in_parts: Vec::new(),
    };
    for rank in order(cascade, &parts) {
        let fibers = if parts.contains(&rank) {
            // A part by itself: one tile's fiber, or the fiber of tiles.
            Fibers {
                rank,
                outer: BTreeSet::from([rank]),
                inner: BTreeSet::new(),
            }
        } else {
            split(cascade, rank)
        };
        let Some((passes, live)) = Sweep::new(cascade, &fibers).run() else {
            continue;
        };
        report
            .passes
            .insert(cascade.rank(rank).name.clone(), passes);
        if parts.contains(&rank) {
            report.live_in_parts.extend(live);
        } else {
            report.live.extend(live);
        }
    }
    report
}

/// Unsplit ranks in the order of the cascade, each followed by its parts; no batch ranks.
fn order(cascade: &Cascade, parts: &BTreeSet<RankId>) -> Vec<RankId> {
    let mut order = Vec::new();
    let all = (0..cascade.ranks.len())
        .map(RankId)
        .filter(|rank| !cascade.batch.contains(rank));
    for rank in all.clone().filter(|rank| !parts.contains(rank)) {
        order.push(rank);
        let mut from = order.len() - 1;
        while from < order.len() {
            let of = cascade
                .partitions
                .iter()
                .filter(|partition| partition.whole == order[from]);
            let new: Vec<RankId> = of
                .flat_map(|p| p.parts.iter().copied())
                .filter(|r| !order.contains(r))
                .collect();
            order.extend(new);
            from += 1;
        }
    }
    order
}

/// A rank with everything into which it is split, also in several steps.
fn split(cascade: &Cascade, rank: RankId) -> Fibers {
    let mut fibers = Fibers {
        rank,
        outer: BTreeSet::from([rank]),
        inner: BTreeSet::new(),
    };
    // Each round adds the parts of what the round before found; there are no more rounds than partitions.
    for _ in &cascade.partitions {
        for partition in &cascade.partitions {
            let outer = fibers.outer.contains(&partition.whole);
            if !outer && !fibers.inner.contains(&partition.whole) {
                continue;
            }
            for (i, part) in partition.parts.iter().enumerate() {
                if outer && i == 0 {
                    fibers.outer.insert(*part);
                } else if !fibers.outer.contains(part) {
                    fibers.inner.insert(*part);
                }
            }
        }
    }
    fibers
}
