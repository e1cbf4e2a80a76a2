//! What tensors and Einsums carry of the fibers that are followed.

use std::collections::{BTreeMap, BTreeSet};

use crate::cascade::{RankId, TensorId};

/// The ranks along which a tensor (or an Einsum) carries the fibers.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) outer: BTreeSet<RankId>,
    pub(super) inner: BTreeSet<RankId>,
    /// Of these, the ranks of a window that slides by one (`k` of `X[m + k]`): what is left without them is as long.
    pub(super) windows: BTreeSet<RankId>,
    /// The pass in which the elements are there.
    pub(super) level: u32,
    /// Tensors from which it follows element by element; none for a summary.
    pub(super) roots: BTreeSet<TensorId>,
    /// Tensors whose fibers went into it, also through a reduction.
    pub(super) swept: BTreeSet<TensorId>,
}

/// A tensor that is complete only when whole fibers have been read.
#[derive(Clone, Debug)]
pub(super) struct Barrier {
    pub(super) tensor: TensorId,
    /// The pass at whose end it is there.
    pub(super) done: u32,
    pub(super) swept: BTreeSet<TensorId>,
    /// The tensors whose fibers its Einsum reduces or runs over.
    pub(super) from: Vec<TensorId>,
    /// A running result: only its end needs all of the fiber.
    pub(super) running: bool,
}

/// Barriers that were waited for. Each comes with the ranks along which only a prefix of the fiber was needed (an
/// iterative rank; i of a causal reduction, `k <= i`): whoever walks the fiber along one of these meets no barrier.
pub(super) type Waits = BTreeMap<usize, BTreeSet<RankId>>;

/// What is known of a tensor.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) groups: Vec<Group>,
    /// Barriers that whoever reads it has waited for, itself included if it is one.
    pub(super) barriers: Waits,
}

/// A tensor as one Einsum reads it: its groups in terms of the Einsum's own ranks.
pub(super) struct Seen {
    pub(super) tensor: TensorId,
    pub(super) groups: Vec<Group>,
    pub(super) barriers: Waits,
}

/// Groups of one Einsum that share an outer rank, and which reads they come from.
pub(super) struct Joined {
    pub(super) group: Group,
    pub(super) members: Vec<(usize, Group)>,
}

impl Group {
    pub(super) fn fresh(outer: BTreeSet<RankId>, inner: BTreeSet<RankId>, root: TensorId) -> Self {
        let roots = BTreeSet::from([root]);
        Group {
            outer,
            inner,
            windows: BTreeSet::new(),
            level: 1,
            swept: roots.clone(),
            roots,
        }
    }
}

/// An Einsum's group as its output carries it along `outer`: element by element from the members of which no part is
/// reduced. The output itself is a fiber as long where a window alone is reduced, or (`apart`) where its elements
/// stand for whole fibers along another group.
pub(super) fn carried(
    group: Group,
    members: &[(usize, Group)],
    kept: &BTreeSet<RankId>,
    outer: BTreeSet<RankId>,
    output: TensorId,
    apart: bool,
) -> Group {
    let mut roots = BTreeSet::new();
    if members.is_empty() {
        roots.clone_from(&group.roots);
    }
    for (_, g) in members.iter().filter(|(_, g)| !g.roots.is_empty()) {
        let mut gone = g
            .outer
            .union(&g.inner)
            .filter(|r| !kept.contains(r))
            .peekable();
        if gone.peek().is_none() && !apart {
            roots.extend(&g.roots);
        } else if gone.all(|rank| g.windows.contains(rank)) {
            roots.insert(output);
        }
    }
    Group {
        inner: group.inner.intersection(kept).copied().collect(),
        outer,
        swept: group.swept.union(&roots).copied().collect(),
        roots,
        ..group
    }
}

/// Joins the groups of all reads that share an outer rank.
pub(super) fn join(seen: &[Seen]) -> Vec<Joined> {
    let mut joined: Vec<Joined> = Vec::new();
    for (read, group) in seen
        .iter()
        .enumerate()
        .flat_map(|(i, s)| s.groups.iter().map(move |g| (i, g)))
    {
        let mut whole = Joined {
            group: group.clone(),
            members: vec![(read, group.clone())],
        };
        let (touching, apart) = joined
            .into_iter()
            .partition(|j: &Joined| !j.group.outer.is_disjoint(&whole.group.outer));
        joined = apart;
        for other in touching {
            let (to, from) = (&mut whole.group, other.group);
            to.outer.extend(from.outer);
            to.inner.extend(from.inner);
            to.windows.extend(from.windows);
            to.roots.extend(from.roots);
            to.swept.extend(from.swept);
            to.level = to.level.max(from.level);
            whole.members.splice(0..0, other.members);
        }
        joined.push(whole);
    }
    joined
}

pub(super) fn meet(a: &BTreeSet<TensorId>, b: &BTreeSet<TensorId>) -> bool {
    !a.is_disjoint(b)
}
