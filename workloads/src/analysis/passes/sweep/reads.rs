//! Reads and conditions in terms of the Einsum's own ranks.

use std::collections::BTreeSet;

use einflow_spec::expr::{BinaryOp, Expr};

use super::Sweep;
use super::carry::{Group, Seen, Waits};
use crate::cascade::{Cascade, Einsum, Index, RankId, Read, ReadTime};

impl Sweep<'_> {
    /// What one read brings: groups in the Einsum's ranks, and barriers.
    pub(super) fn see(&mut self, einsum: &Einsum, read: &Read, seen: &mut Vec<Seen>) {
        for index in &read.indices {
            if let Index::Gather(through, indices) = index {
                let inner = Read {
                    tensor: *through,
                    indices: indices.clone(),
                    time: ReadTime::Plain,
                    span: read.span,
                };
                self.see(einsum, &inner, seen);
            }
        }
        let tensor = self.cascade.tensor(read.tensor);
        let iterative = tensor.iterative.map(|i| tensor.ranks[i]);
        if read.time == ReadTime::Previous {
            // What earlier iterations left. Along the iterative rank itself it re-reads nothing; along another it is
            // a fiber like an input's.
            if iterative.is_none_or(|rank| self.fibers.outer.contains(&rank)) {
                return;
            }
            let (outer, inner) = self.fibers.among(&tensor.ranks);
            if !outer.is_empty() {
                let group = Group::fresh(outer, inner, read.tensor);
                let groups = self.translate(einsum, read, &group).into_iter().collect();
                seen.push(Seen {
                    tensor: read.tensor,
                    groups,
                    barriers: Waits::new(),
                });
            }
            return;
        }
        let state = self.states[read.tensor.0].clone();
        let mut barriers = Waits::new();
        for (barrier, along) in &state.barriers {
            let along = tensor
                .ranks
                .iter()
                .zip(&read.indices)
                .filter(|(rank, _)| along.contains(rank));
            let here = along.filter_map(|(_, index)| match index {
                Index::Expr(expr) => Some(variables(self.cascade, einsum, expr)),
                Index::Gather(..) => None,
            });
            barriers.insert(*barrier, here.flatten().collect());
        }
        let mut groups: Vec<Group> = state
            .groups
            .iter()
            .filter_map(|group| self.translate(einsum, read, group))
            .collect();
        if state.groups.is_empty() {
            // The fibers may begin here: a view's parts, a window's rank.
            let used = used_ranks(self.cascade, einsum, read);
            let (outer, inner) = self.fibers.among(&used);
            if !outer.is_empty() {
                groups.push(Group::fresh(outer, inner, self.behind_views(read.tensor)));
            }
        }
        seen.push(Seen {
            tensor: read.tensor,
            groups,
            barriers,
        });
    }

    /// A tensor's group in the ranks of the Einsum that reads it; `None` where the read stands still along it.
    pub(super) fn translate(&self, einsum: &Einsum, read: &Read, group: &Group) -> Option<Group> {
        let tensor = self.cascade.tensor(read.tensor);
        let mut found = Group {
            outer: BTreeSet::new(),
            inner: BTreeSet::new(),
            windows: BTreeSet::new(),
            ..group.clone()
        };
        for (rank, index) in tensor.ranks.iter().zip(&read.indices) {
            let Index::Expr(expr) = index else { continue };
            let ranks = variables(self.cascade, einsum, expr);
            if group.outer.contains(rank) {
                if group.windows.contains(rank) {
                    found.windows.extend(&ranks);
                }
                let (outer, inner, windows) = self.sliding(expr, ranks);
                found.outer.extend(outer);
                found.inner.extend(inner);
                found.windows.extend(windows);
            } else if group.inner.contains(rank) {
                if ranks.is_empty() {
                    // One element of each tile.
                    found.roots.clear();
                }
                if group.windows.contains(rank) {
                    found.windows.extend(&ranks);
                }
                found.inner.extend(ranks);
            }
        }
        found.inner.retain(|rank| !found.outer.contains(rank));
        (!found.outer.is_empty()).then_some(found)
    }

    /// Of the ranks in one index, those that sweep the fiber, those that only move within a tile or a window, and of
    /// all these the ones of a window that slides by one.
    fn sliding(&self, expr: &Expr, ranks: Vec<RankId>) -> (Vec<RankId>, Vec<RankId>, Vec<RankId>) {
        let (outer, inner) = self.swept_by(expr, &ranks);
        let steps = |rank: &RankId| is_scaled(expr, &self.cascade.rank(*rank).variable);
        let mut windows = Vec::new();
        if ranks.len() > 1 && !outer.iter().any(steps) && !self.is_split(&ranks) {
            windows.clone_from(if inner.is_empty() { &outer } else { &inner });
        }
        (outer, inner, windows)
    }

    /// Whether ranks are parts of one partition.
    fn is_split(&self, ranks: &[RankId]) -> bool {
        let mut partitions = self.cascade.partitions.iter();
        partitions.any(|p| ranks.iter().all(|rank| p.parts.contains(rank)))
    }

    fn swept_by(&self, expr: &Expr, ranks: &[RankId]) -> (Vec<RankId>, Vec<RankId>) {
        if ranks.len() < 2 {
            return (ranks.to_vec(), Vec::new());
        }
        // The parts of a partition, outermost first.
        for partition in &self.cascade.partitions {
            if ranks.iter().all(|rank| partition.parts.contains(rank)) {
                let first = partition.parts.iter().find(|part| ranks.contains(part));
                return ranks.iter().partition(|rank| Some(*rank) == first);
            }
        }
        // The rank itself, of which a window slides over a tensor (`X[m + k]`).
        let (outer, inner): (Vec<RankId>, Vec<RankId>) =
            ranks.iter().partition(|rank| **rank == self.fibers.rank);
        if !outer.is_empty() {
            return (outer, inner);
        }
        // A size that is a parameter of the cascade is a window's or a tile's, unless all are or it follows from others.
        let is_parameter = |rank: &RankId| {
            let parameter = self.cascade.parameters.get(&self.cascade.rank(*rank).name);
            parameter.is_some_and(|p| {
                let mut follows = false;
                p.default
                    .walk(&mut |part| follows |= matches!(part, Expr::Name { .. }));
                !follows
            })
        };
        let (inner, outer): (Vec<RankId>, Vec<RankId>) =
            ranks.iter().copied().partition(is_parameter);
        if !inner.is_empty() && !outer.is_empty() {
            return (outer, inner);
        }
        // `a * S + s`: what is multiplied moves in steps.
        let scaled = |rank: &RankId| is_scaled(expr, &self.cascade.rank(*rank).variable);
        let (outer, inner): (Vec<RankId>, Vec<RankId>) = ranks.iter().copied().partition(scaled);
        if inner.is_empty() || outer.is_empty() {
            (ranks.to_vec(), Vec::new())
        } else {
            (outer, inner)
        }
    }

    /// The output's ranks i of a reduction that a condition filters to a prefix, `k <= i`: element i needs no element of
    /// the fiber behind it.
    pub(super) fn prefix(&self, einsum: &Einsum, outer: &BTreeSet<RankId>) -> BTreeSet<RankId> {
        let kept = &self.cascade.tensor(einsum.output).ranks;
        let bounds = einsum
            .support
            .iter()
            .chain(&einsum.conditions)
            .filter_map(|condition| {
                let Expr::Binary {
                    op, left, right, ..
                } = &condition.0
                else {
                    return None;
                };
                let (small, large) = match op {
                    BinaryOp::Less | BinaryOp::LessEqual => (left, right),
                    BinaryOp::Greater | BinaryOp::GreaterEqual => (right, left),
                    _ => return None,
                };
                let (k, i) = (
                    variables(self.cascade, einsum, small),
                    variables(self.cascade, einsum, large),
                );
                let ([k], [i]) = (k.as_slice(), i.as_slice()) else {
                    return None;
                };
                let plain = is_shifted(small, &self.cascade.rank(*k).variable)
                    && is_shifted(large, &self.cascade.rank(*i).variable);
                (plain && outer.contains(k) && kept.contains(i)).then_some(*i)
            });
        bounds.collect()
    }

    /// True if one operand depends on i and on the fiber, as a mask's does: then each i reduces elements of its own.
    pub(super) fn read_together(
        &self,
        einsum: &Einsum,
        outer: &BTreeSet<RankId>,
        i: RankId,
    ) -> bool {
        einsum.reads.iter().any(|read| {
            let used = used_ranks(self.cascade, einsum, read);
            used.contains(&i) && !used.is_disjoint(outer)
        })
    }
}

/// The Einsum's ranks whose variables an expression names, in order of appearance.
fn variables(cascade: &Cascade, einsum: &Einsum, expr: &Expr) -> Vec<RankId> {
    let mut found = Vec::new();
    expr.walk(&mut |part| {
        if let Expr::Name { name, .. } = part {
            let rank = einsum
                .ranks
                .iter()
                .find(|rank| cascade.rank(**rank).variable == *name);
            found.extend(
                rank.filter(|rank| !found.contains(*rank))
                    .copied()
                    .into_iter()
                    .collect::<Vec<_>>(),
            );
        }
    });
    found
}

/// The Einsum's ranks that stand in any index of a read, but not those inside a gather.
fn used_ranks(cascade: &Cascade, einsum: &Einsum, read: &Read) -> BTreeSet<RankId> {
    let mut used = BTreeSet::new();
    for index in &read.indices {
        if let Index::Expr(expr) = index {
            used.extend(variables(cascade, einsum, expr));
        }
    }
    used
}

/// True for a variable by itself, or moved by a size: `i`, `i + 1`, `i - W`.
fn is_shifted(expr: &Expr, variable: &str) -> bool {
    let is_variable = |expr: &Expr| matches!(expr, Expr::Name { name, .. } if name == variable);
    match expr {
        Expr::Binary {
            op: BinaryOp::Add,
            left,
            right,
            ..
        } => is_variable(left) || is_variable(right),
        Expr::Binary {
            op: BinaryOp::Sub,
            left,
            ..
        } => is_variable(left),
        _ => is_variable(expr),
    }
}

/// True if the variable stands in a product.
fn is_scaled(expr: &Expr, variable: &str) -> bool {
    let mut found = false;
    expr.walk(&mut |part| {
        if let Expr::Binary {
            op: BinaryOp::Mul,
            left,
            right,
            ..
        } = part
        {
            for side in [left, right] {
                side.walk(&mut |inner| {
                    found |= matches!(inner, Expr::Name { name, .. } if name == variable)
                });
            }
        }
    });
    found
}
