//! One walk over the Einsums of a cascade for the fibers of one rank.
//!
//! A tensor *carries* the rank along some of its own ranks (its groups): element by element where every part of
//! the rank is still there, as a summary where the inner parts have been reduced. The outer ranks of a group are
//! followed through index expressions, so a rank that is renamed (`A[i]` for a tensor of rank K), split
//! or slid over (`K[e, p + w]`) stays the same fiber. Reducing the outer ranks of a group away makes a barrier.

use std::collections::{BTreeMap, BTreeSet};

use einflow_spec::expr::{BinaryOp, Expr};

use super::{Fibers, Live, Passes};
use crate::cascade::{Cascade, Einsum, Index, RankId, Read, ReadTime, Reduce, TensorId, TensorKind};

/// The ranks along which a tensor (or an Einsum) carries the fibers.
#[derive(Clone, Debug)]
struct Group {
    outer: BTreeSet<RankId>,
    inner: BTreeSet<RankId>,
    /// The pass in which the elements are there.
    level: u32,
    /// Tensors from which it follows element by element; none for a summary.
    roots: BTreeSet<TensorId>,
    /// Tensors whose fibers went into it, also through a reduction.
    swept: BTreeSet<TensorId>,
}

/// A tensor that is complete only when whole fibers have been read.
#[derive(Clone, Debug)]
struct Barrier {
    tensor: TensorId,
    /// The pass at whose end it is there.
    done: u32,
    swept: BTreeSet<TensorId>,
    /// The tensors whose fibers its Einsum reduces or runs over.
    from: Vec<TensorId>,
    /// A running result: only its end needs all of the fiber.
    running: bool,
}

/// Barriers that were waited for. Each comes with the ranks along which only a prefix of the fiber was needed (an
/// iterative rank; i of a causal reduction, `k <= i`): whoever walks the fiber along one of these meets no barrier.
type Waits = BTreeMap<usize, BTreeSet<RankId>>;

/// What is known of a tensor.
#[derive(Clone, Debug, Default)]
struct State {
    groups: Vec<Group>,
    /// Barriers that whoever reads it has waited for, itself included if it is one.
    barriers: Waits,
}

/// A tensor as one Einsum reads it: its groups in terms of the Einsum's own ranks.
struct Seen {
    tensor: TensorId,
    groups: Vec<Group>,
    barriers: Waits,
}

/// Groups of one Einsum that share an outer rank, and which reads they come from.
struct Joined {
    group: Group,
    members: Vec<(usize, Group)>,
}

pub(super) struct Sweep<'a> {
    cascade: &'a Cascade,
    fibers: &'a Fibers,
    states: Vec<State>,
    barriers: Vec<Barrier>,
    count: u32,
    why: Vec<String>,
    notes: Vec<String>,
    live: BTreeMap<TensorId, (BTreeSet<RankId>, bool, Vec<String>)>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(cascade: &'a Cascade, fibers: &'a Fibers) -> Self {
        let states = cascade.tensors.iter().enumerate().map(|(id, tensor)| {
            let mut state = State::default();
            if tensor.kind == TensorKind::Input {
                let pick = |from: &BTreeSet<RankId>| tensor.ranks.iter().filter(|r| from.contains(r)).copied().collect();
                let (outer, inner): (BTreeSet<_>, _) = (pick(&fibers.outer), pick(&fibers.inner));
                if !outer.is_empty() {
                    state.groups.push(Group::fresh(outer, inner, TensorId(id)));
                }
            }
            state
        });
        Sweep {
            cascade,
            fibers,
            states: states.collect(),
            barriers: Vec::new(),
            count: 0,
            why: Vec::new(),
            notes: Vec::new(),
            live: BTreeMap::new(),
        }
    }

    /// The passes and what is held; `None` if no Einsum walks the rank.
    pub(super) fn run(mut self) -> Option<(Passes, Vec<Live>)> {
        for einsum in &self.cascade.einsums {
            self.step(einsum);
        }
        if self.count == 0 {
            return None;
        }
        let rank = self.rank_name();
        let mut why = std::mem::take(&mut self.why);
        if self.count == 1 {
            let running: Vec<TensorId> = self.barriers.iter().filter(|b| b.running).map(|b| b.tensor).collect();
            why.push(if self.barriers.is_empty() {
                format!("1 pass: nothing needs all of {rank}")
            } else if running.len() == self.barriers.len() {
                format!("1 pass: running results only ({}), and nothing reads {rank} again after their end", self.list(&running))
            } else {
                format!("1 pass: what needs all of {rank} is not followed by another read of the same fibers")
            });
        }
        why.extend(self.notes);
        let names = |ranks: &BTreeSet<RankId>| ranks.iter().map(|r| self.cascade.rank(*r).name.clone()).collect();
        let live = self.live.iter().map(|(id, (fiber, whole, reads))| Live {
            why: reads.join("; "),
            ..Live::new(self.cascade, *id, &rank, names(fiber), *whole)
        });
        let live = live.collect();
        Some((Passes { count: self.count, why }, live))
    }

    fn rank_name(&self) -> String {
        self.cascade.rank(self.fibers.rank).name.clone()
    }

    fn name(&self, tensor: TensorId) -> &str {
        &self.cascade.tensor(tensor).name
    }

    fn step(&mut self, einsum: &Einsum) {
        let mut seen = Vec::new();
        for read in &einsum.reads {
            self.see(einsum, read, &mut seen);
        }
        let mut waits = Waits::new();
        for (barrier, along) in seen.iter().flat_map(|s| &s.barriers) {
            // Read in two ways, it spares only a walk that both spare.
            waits.entry(*barrier).and_modify(|a| a.retain(|r| along.contains(r))).or_insert_with(|| along.clone());
        }
        let mut joined = join(&seen);
        if joined.is_empty() {
            // Values that are made along the rank from nothing that carries it: coordinates, constants.
            let pick = |from: &BTreeSet<RankId>| einsum.ranks.iter().filter(|r| from.contains(r)).copied().collect();
            let (outer, inner): (BTreeSet<_>, _) = (pick(&self.fibers.outer), pick(&self.fibers.inner));
            if !outer.is_empty() {
                joined.push(Joined { group: Group::fresh(outer, inner, einsum.output), members: Vec::new() });
            }
        }
        self.raise(einsum, &seen, &waits, &mut joined);
        for (i, other) in seen.iter().enumerate() {
            let members = joined.iter().flat_map(|j| &j.members).filter(|(read, _)| *read == i);
            for (_, group) in members.cloned().collect::<Vec<_>>() {
                self.hold(einsum, other, &group, &waits);
            }
        }
        self.gathers(einsum, &waits);
        self.produce(einsum, &seen, waits, joined);
    }

    /// Raises the level of each group to what its barriers force, and says why.
    fn raise(&mut self, einsum: &Einsum, seen: &[Seen], waits: &Waits, joined: &mut [Joined]) {
        let mut raised: BTreeMap<u32, (BTreeSet<TensorId>, BTreeSet<usize>)> = BTreeMap::new();
        for j in joined.iter_mut() {
            let carried = j.group.level;
            let mut level = carried;
            for (barrier, along) in waits {
                let barrier = &self.barriers[*barrier];
                let again = meet(&j.group.roots, &barrier.swept) && along.is_disjoint(&j.group.outer);
                level = level.max(barrier.done + u32::from(again));
            }
            j.group.level = level;
            self.count = self.count.max(level);
            if level == carried {
                continue;
            }
            for (b, along) in waits {
                let barrier = &self.barriers[*b];
                let again = j.members.iter().filter(|(_, group)| meet(&group.roots, &barrier.swept));
                let mut again = again.map(|(read, _)| seen[*read].tensor).peekable();
                if barrier.done + 1 == level && along.is_disjoint(&j.group.outer) && again.peek().is_some() {
                    let (tensors, across) = raised.entry(level).or_default();
                    tensors.extend(again);
                    across.insert(*b);
                }
            }
        }
        for (level, (tensors, across)) in raised {
            let across: Vec<String> = across.into_iter().map(|b| self.describe(b, seen)).collect();
            let (reader, tensors) = (self.name(einsum.output), self.list(&tensors.into_iter().collect::<Vec<_>>()));
            self.why.push(format!("pass {level}: {reader} reads {tensors} across {}", across.join(", and ")));
        }
    }

    /// `GM (through PLM), which reduces M of LM`.
    fn describe(&self, barrier: usize, seen: &[Seen]) -> String {
        let found = &self.barriers[barrier];
        let name = self.name(found.tensor);
        let direct = seen.iter().any(|s| s.tensor == found.tensor);
        let through: Vec<TensorId> =
            seen.iter().filter(|s| !direct && s.barriers.contains_key(&barrier)).map(|s| s.tensor).collect();
        let through =
            if through.is_empty() { String::new() } else { format!(" (through {})", self.list(&through)) };
        let what = if found.running { "runs over" } else { "reduces" };
        format!("{name}{through}, which {what} {} of {}", self.rank_name(), self.list(&found.from))
    }

    fn list(&self, tensors: &[TensorId]) -> String {
        let mut names: Vec<&str> = Vec::new();
        for tensor in tensors {
            if !names.contains(&self.name(*tensor)) {
                names.push(self.name(*tensor));
            }
        }
        names.join(", ")
    }

    /// Notes that a tensor outlives the barriers that its reader waits for and its maker did not.
    fn hold(&mut self, einsum: &Einsum, seen: &Seen, group: &Group, waits: &Waits) {
        let late = waits.iter().filter(|(b, along)| {
            !seen.barriers.contains_key(*b) && along.is_disjoint(&group.outer)
        });
        let late = late.map(|(b, _)| &self.barriers[*b]).filter(|b| meet(&b.swept, &group.swept));
        let across: Vec<TensorId> = late.map(|b| b.tensor).collect();
        if across.is_empty() {
            return;
        }
        let line = format!("{} reads it after {}", self.name(einsum.output), self.list(&across));
        self.keep(seen.tensor, !group.roots.is_empty(), line);
    }

    /// Adds a tensor, or the one of which it is a view, to those that are held.
    fn keep(&mut self, tensor: TensorId, whole: bool, line: String) {
        let held = self.behind_views(tensor);
        let in_fibers = |rank: &&RankId| self.fibers.outer.contains(rank) || self.fibers.inner.contains(rank);
        let mut fiber: BTreeSet<RankId> =
            self.cascade.tensor(held).ranks.iter().filter(in_fibers).copied().collect();
        if fiber.is_empty() {
            // Carried along a rank of another name.
            let groups = &self.states[held.0].groups;
            fiber = groups.iter().flat_map(|g| g.outer.iter().chain(&g.inner)).copied().collect();
        }
        let entry = self.live.entry(held).or_insert_with(|| (fiber, whole, Vec::new()));
        entry.1 |= whole;
        if !entry.2.contains(&line) {
            entry.2.push(line);
        }
    }

    fn behind_views(&self, mut tensor: TensorId) -> TensorId {
        while let (TensorKind::View, Some(producer)) =
            (self.cascade.tensor(tensor).kind, self.cascade.tensor(tensor).producer)
        {
            let Some(read) = self.cascade.einsum(producer).reads.first() else { break };
            tensor = read.tensor;
        }
        tensor
    }

    /// Reads through an index tensor: no pass, but the fiber that is picked from stays live.
    fn gathers(&mut self, einsum: &Einsum, waits: &Waits) {
        for read in &einsum.reads {
            for (position, index) in read.indices.iter().enumerate() {
                let Index::Gather(through, _) = index else { continue };
                let dimension = self.cascade.tensor(read.tensor).ranks[position];
                let groups = self.states[read.tensor.0].groups.iter();
                let Some(group) = groups.clone().find(|g| g.outer.contains(&dimension)).cloned() else { continue };
                let again = waits.keys().any(|b| meet(&self.barriers[*b].swept, &group.swept));
                let rank = self.rank_name();
                let note = format!(
                    "no pass: {} reads {} through {}, {} of {rank} {}",
                    self.name(einsum.output),
                    self.name(read.tensor),
                    self.name(*through),
                    self.picked(*through),
                    if again { "re-read; its fiber stays live" } else { "read" },
                );
                self.notes.push(note);
                if again {
                    let line = format!("{} reads it through {}", self.name(einsum.output), self.name(*through));
                    self.keep(read.tensor, !group.roots.is_empty(), line);
                }
            }
        }
    }

    /// How many coordinates an index tensor holds: the rank that top-k populates, or all its ranks.
    fn picked(&self, tensor: TensorId) -> String {
        let made = self.cascade.tensor(tensor);
        if let Some(producer) = made.producer
            && let Reduce::Top { into, .. } = self.cascade.einsum(producer).reduce
        {
            return self.cascade.rank(into).name.clone();
        }
        let ranks: Vec<&str> = made.ranks.iter().map(|r| self.cascade.rank(*r).name.as_str()).collect();
        ranks.join(" x ")
    }

    /// The output's groups and barriers.
    fn produce(&mut self, einsum: &Einsum, seen: &[Seen], mut waits: Waits, joined: Vec<Joined>) {
        let output = self.cascade.tensor(einsum.output);
        let kept: BTreeSet<RankId> = output.ranks.iter().copied().collect();
        let iterative = output.iterative.map(|i| output.ranks[i]);
        waits.values_mut().for_each(|along| along.retain(|rank| kept.contains(rank)));
        let mut state = State { groups: Vec::new(), barriers: waits };
        for Joined { group, members } in joined {
            let outer: BTreeSet<RankId> = group.outer.intersection(&kept).copied().collect();
            let prefix = self.prefix(einsum, &group.outer);
            let apart = |i: &RankId| !self.read_together(einsum, &group.outer, *i);
            let barrier = Barrier {
                tensor: einsum.output,
                done: group.level,
                swept: group.swept.clone(),
                from: members.iter().map(|(read, _)| seen[*read].tensor).collect(),
                running: true,
            };
            if !outer.is_empty() {
                if let Some(rank) = iterative.filter(|rank| outer.contains(rank)) {
                    state.barriers.insert(self.barriers.len(), BTreeSet::from([rank]));
                    self.barriers.push(barrier);
                }
                state.groups.push(carried(group, &members, &kept, outer));
                continue;
            }
            state.barriers.insert(self.barriers.len(), prefix.clone());
            let running = !prefix.is_empty() && prefix.iter().all(apart);
            self.barriers.push(Barrier { running, ..barrier });
            if running {
                // It goes over k as i grows, and so carries the fiber along i.
                state.groups.push(Group { outer: prefix, inner: BTreeSet::new(), ..group });
            }
        }
        self.states[einsum.output.0] = state;
    }

    /// The output's ranks i of a reduction that a condition filters to a prefix, `k <= i`: element i needs no element of
    /// the fiber behind it.
    fn prefix(&self, einsum: &Einsum, outer: &BTreeSet<RankId>) -> BTreeSet<RankId> {
        let kept = &self.cascade.tensor(einsum.output).ranks;
        let bounds = einsum.support.iter().chain(&einsum.conditions).filter_map(|condition| {
            let Expr::Binary { op, left, right, .. } = &condition.0 else { return None };
            let (small, large) = match op {
                BinaryOp::Less | BinaryOp::LessEqual => (left, right),
                BinaryOp::Greater | BinaryOp::GreaterEqual => (right, left),
                _ => return None,
            };
            let (k, i) = (variables(self.cascade, einsum, small), variables(self.cascade, einsum, large));
            let ([k], [i]) = (k.as_slice(), i.as_slice()) else { return None };
            (outer.contains(k) && kept.contains(i)).then_some(*i)
        });
        bounds.collect()
    }

    /// True if one operand depends on i and on the fiber, as a mask's does: then each i reduces elements of its own.
    fn read_together(&self, einsum: &Einsum, outer: &BTreeSet<RankId>, i: RankId) -> bool {
        einsum.reads.iter().any(|read| {
            let used = used_ranks(self.cascade, einsum, read);
            used.contains(&i) && !used.is_disjoint(outer)
        })
    }

    /// What one read brings: groups in the Einsum's ranks, and barriers.
    fn see(&mut self, einsum: &Einsum, read: &Read, seen: &mut Vec<Seen>) {
        for index in &read.indices {
            if let Index::Gather(through, indices) = index {
                let inner =
                    Read { tensor: *through, indices: indices.clone(), time: ReadTime::Plain, span: read.span };
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
            let pick = |from: &BTreeSet<RankId>| tensor.ranks.iter().filter(|r| from.contains(r)).copied().collect();
            let (outer, inner): (BTreeSet<_>, _) = (pick(&self.fibers.outer), pick(&self.fibers.inner));
            if !outer.is_empty() {
                let group = Group::fresh(outer, inner, read.tensor);
                let groups = self.translate(einsum, read, &group).into_iter().collect();
                seen.push(Seen { tensor: read.tensor, groups, barriers: Waits::new() });
            }
            return;
        }
        let state = self.states[read.tensor.0].clone();
        let mut barriers = Waits::new();
        for (barrier, along) in &state.barriers {
            let along = tensor.ranks.iter().zip(&read.indices).filter(|(rank, _)| along.contains(rank));
            let here = along.filter_map(|(_, index)| match index {
                Index::Expr(expr) => Some(variables(self.cascade, einsum, expr)),
                Index::Gather(..) => None,
            });
            barriers.insert(*barrier, here.flatten().collect());
        }
        let mut groups: Vec<Group> =
            state.groups.iter().filter_map(|group| self.translate(einsum, read, group)).collect();
        if state.groups.is_empty() {
            // The fibers may begin here: a view's parts, a window's rank.
            let used = used_ranks(self.cascade, einsum, read);
            let pick = |from: &BTreeSet<RankId>| used.intersection(from).copied().collect();
            let (outer, inner): (BTreeSet<_>, _) = (pick(&self.fibers.outer), pick(&self.fibers.inner));
            if !outer.is_empty() {
                groups.push(Group::fresh(outer, inner, self.behind_views(read.tensor)));
            }
        }
        seen.push(Seen { tensor: read.tensor, groups, barriers });
    }

    /// A tensor's group in the ranks of the Einsum that reads it; `None` where the read stands still along it.
    fn translate(&self, einsum: &Einsum, read: &Read, group: &Group) -> Option<Group> {
        let tensor = self.cascade.tensor(read.tensor);
        let mut found =
            Group { outer: BTreeSet::new(), inner: BTreeSet::new(), ..group.clone() };
        for (rank, index) in tensor.ranks.iter().zip(&read.indices) {
            let Index::Expr(expr) = index else { continue };
            let ranks = variables(self.cascade, einsum, expr);
            if group.outer.contains(rank) {
                let (outer, inner) = self.sliding(expr, ranks);
                found.outer.extend(outer);
                found.inner.extend(inner);
            } else if group.inner.contains(rank) {
                if ranks.is_empty() {
                    // One element of each tile.
                    found.roots.clear();
                }
                found.inner.extend(ranks);
            }
        }
        found.inner.retain(|rank| !found.outer.contains(rank));
        (!found.outer.is_empty()).then_some(found)
    }

    /// Of the ranks in one index, those that sweep the fiber, and those that only move within a tile or a window.
    fn sliding(&self, expr: &Expr, ranks: Vec<RankId>) -> (Vec<RankId>, Vec<RankId>) {
        if ranks.len() < 2 {
            return (ranks, Vec::new());
        }
        // The parts of a partition, outermost first.
        for partition in &self.cascade.partitions {
            if ranks.iter().all(|rank| partition.parts.contains(rank)) {
                let first = partition.parts.iter().find(|part| ranks.contains(part));
                return ranks.iter().partition(|rank| Some(*rank) == first);
            }
        }
        // A size that is a parameter of the cascade is a window's or a tile's, unless all are.
        let is_parameter = |rank: &RankId| self.cascade.parameters.contains_key(&self.cascade.rank(*rank).name);
        let (inner, outer): (Vec<RankId>, Vec<RankId>) = ranks.iter().copied().partition(is_parameter);
        if !inner.is_empty() && !outer.is_empty() {
            return (outer, inner);
        }
        // `a * S + s`: what is multiplied moves in steps.
        let scaled = |rank: &RankId| is_scaled(expr, &self.cascade.rank(*rank).variable);
        let (outer, inner): (Vec<RankId>, Vec<RankId>) = ranks.iter().copied().partition(scaled);
        if inner.is_empty() || outer.is_empty() { (ranks, Vec::new()) } else { (outer, inner) }
    }
}

impl Group {
    fn fresh(outer: BTreeSet<RankId>, inner: BTreeSet<RankId>, root: TensorId) -> Self {
        let roots = BTreeSet::from([root]);
        Group { outer, inner, level: 1, swept: roots.clone(), roots }
    }
}

/// An Einsum's group as its output carries it along `outer`: element by element from the members of which
/// no part is reduced.
fn carried(
    group: Group,
    members: &[(usize, Group)],
    kept: &BTreeSet<RankId>,
    outer: BTreeSet<RankId>,
) -> Group {
    let whole = |g: &&Group| g.outer.is_subset(kept) && g.inner.is_subset(kept);
    let roots = if members.is_empty() {
        group.roots.clone()
    } else {
        members.iter().map(|(_, g)| g).filter(whole).flat_map(|g| g.roots.iter().copied()).collect()
    };
    Group {
        inner: group.inner.intersection(kept).copied().collect(),
        outer,
        roots,
        ..group
    }
}

/// Joins the groups of all reads that share an outer rank.
fn join(seen: &[Seen]) -> Vec<Joined> {
    let mut joined: Vec<Joined> = Vec::new();
    for (read, group) in seen.iter().enumerate().flat_map(|(i, s)| s.groups.iter().map(move |g| (i, g))) {
        let mut whole = Joined { group: group.clone(), members: vec![(read, group.clone())] };
        let (touching, apart) = joined.into_iter().partition(|j: &Joined| !j.group.outer.is_disjoint(&whole.group.outer));
        joined = apart;
        for other in touching {
            let (to, from) = (&mut whole.group, other.group);
            to.outer.extend(from.outer);
            to.inner.extend(from.inner);
            to.roots.extend(from.roots);
            to.swept.extend(from.swept);
            to.level = to.level.max(from.level);
            whole.members.splice(0..0, other.members);
        }
        joined.push(whole);
    }
    joined
}

fn meet(a: &BTreeSet<TensorId>, b: &BTreeSet<TensorId>) -> bool {
    !a.is_disjoint(b)
}

/// The Einsum's ranks whose variables an expression names, in order of appearance.
fn variables(cascade: &Cascade, einsum: &Einsum, expr: &Expr) -> Vec<RankId> {
    let mut found = Vec::new();
    expr.walk(&mut |part| {
        if let Expr::Name { name, .. } = part {
            let rank = einsum.ranks.iter().find(|rank| cascade.rank(**rank).variable == *name);
            found.extend(rank.filter(|rank| !found.contains(*rank)).copied().into_iter().collect::<Vec<_>>());
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

/// True if the variable stands in a product.
fn is_scaled(expr: &Expr, variable: &str) -> bool {
    let mut found = false;
    expr.walk(&mut |part| {
        if let Expr::Binary { op: BinaryOp::Mul, left, right, .. } = part {
            for side in [left, right] {
                side.walk(&mut |inner| found |= matches!(inner, Expr::Name { name, .. } if name == variable));
            }
        }
    });
    found
}
