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
    /// Each element depends on all elements before it: a running result.
    running: bool,
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
    /// The tensors whose fibers its Einsum reduces; empty for the last value of a running result.
    from: Vec<TensorId>,
}

/// What is known of a tensor.
#[derive(Clone, Debug, Default)]
struct State {
    groups: Vec<Group>,
    /// Barriers that whoever reads it has waited for, itself included if it is one.
    barriers: BTreeSet<usize>,
}

/// A tensor as one Einsum reads it: its groups in terms of the Einsum's own ranks.
struct Seen {
    tensor: TensorId,
    groups: Vec<Group>,
    barriers: BTreeSet<usize>,
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
    why: Vec<(u32, String)>,
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
        let mut why: Vec<String> = self.why.into_iter().map(|(_, line)| line).collect();
        if self.count == 1 && why.is_empty() {
            why.push(match self.barriers.as_slice() {
                [] => format!("1 pass: nothing needs all of {rank}"),
                _ => format!("1 pass: what needs all of {rank} is not followed by another read of the same fibers"),
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
        let waits: BTreeSet<usize> = seen.iter().flat_map(|s| s.barriers.iter().copied()).collect();
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
                self.hold(einsum, other, &group, waits.difference(&other.barriers));
            }
        }
        self.gathers(einsum, &waits);
        self.produce(einsum, &seen, waits, joined);
    }

    /// Raises the level of each group to what its barriers force, and says why.
    fn raise(&mut self, einsum: &Einsum, seen: &[Seen], waits: &BTreeSet<usize>, joined: &mut [Joined]) {
        // A running result read at one coordinate while its fibers are read again at another is complete only at its end.
        let running: Vec<(Group, Vec<TensorId>)> = joined
            .iter()
            .filter(|j| j.group.running)
            .map(|j| (j.group.clone(), j.members.iter().map(|(read, _)| seen[*read].tensor).collect()))
            .collect();
        for j in joined.iter_mut() {
            let carried = j.group.level;
            let mut level = carried;
            for barrier in waits.iter().map(|b| &self.barriers[*b]) {
                level = level.max(barrier.done + u32::from(meet(&j.group.roots, &barrier.swept)));
            }
            for (other, _) in running.iter().filter(|(other, _)| other.outer.is_disjoint(&j.group.outer)) {
                level = level.max(other.level + u32::from(meet(&j.group.roots, &other.swept)));
            }
            j.group.level = level;
            self.count = self.count.max(level);
            let again: Vec<TensorId> = j
                .members
                .iter()
                .filter(|(_, group)| !group.roots.is_empty())
                .map(|(read, _)| seen[*read].tensor)
                .collect();
            if level == carried || again.is_empty() {
                continue;
            }
            let mut across = Vec::new();
            for b in waits {
                let barrier = &self.barriers[*b];
                if barrier.done + 1 == level && meet(&j.group.roots, &barrier.swept) {
                    across.push(self.describe(*b, seen));
                }
            }
            for (other, tensors) in &running {
                if other.outer.is_disjoint(&j.group.outer) && meet(&j.group.roots, &other.swept) {
                    across.push(format!("{}, which runs over all of {}", self.list(tensors), self.rank_name()));
                }
            }
            if !across.is_empty() {
                let (reader, tensors) = (self.name(einsum.output), self.list(&again));
                let line = format!("pass {level}: {reader} reads {tensors} across {}", across.join(" and "));
                self.why.push((level, line));
            }
        }
    }

    /// `GM (through PLM), which reduces M of LM`.
    fn describe(&self, barrier: usize, seen: &[Seen]) -> String {
        let found = &self.barriers[barrier];
        let name = self.name(found.tensor);
        let direct = seen.iter().any(|s| s.tensor == found.tensor);
        let through: Vec<TensorId> =
            seen.iter().filter(|s| !direct && s.barriers.contains(&barrier)).map(|s| s.tensor).collect();
        let through =
            if through.is_empty() { String::new() } else { format!(" (through {})", self.list(&through)) };
        if found.from.is_empty() {
            format!("the last {name}{through}, which runs over all of {}", self.rank_name())
        } else {
            format!("{name}{through}, which reduces {} of {}", self.rank_name(), self.list(&found.from))
        }
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
    fn hold<'b>(
        &mut self,
        einsum: &Einsum,
        seen: &Seen,
        group: &Group,
        late: impl Iterator<Item = &'b usize>,
    ) {
        let across: Vec<TensorId> =
            late.map(|b| &self.barriers[*b]).filter(|b| meet(&b.swept, &group.swept)).map(|b| b.tensor).collect();
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
    fn gathers(&mut self, einsum: &Einsum, waits: &BTreeSet<usize>) {
        for read in &einsum.reads {
            for (position, index) in read.indices.iter().enumerate() {
                let Index::Gather(through, _) = index else { continue };
                let dimension = self.cascade.tensor(read.tensor).ranks[position];
                let groups = self.states[read.tensor.0].groups.iter();
                let Some(group) = groups.clone().find(|g| g.outer.contains(&dimension)).cloned() else { continue };
                let again = waits.iter().any(|b| meet(&self.barriers[*b].swept, &group.swept));
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
    fn produce(&mut self, einsum: &Einsum, seen: &[Seen], waits: BTreeSet<usize>, joined: Vec<Joined>) {
        let output = self.cascade.tensor(einsum.output);
        let kept: BTreeSet<RankId> = output.ranks.iter().copied().collect();
        let iterative = output.iterative.map(|i| output.ranks[i]);
        let mut state = State { groups: Vec::new(), barriers: waits };
        for Joined { group, members } in joined {
            let outer: BTreeSet<RankId> = group.outer.intersection(&kept).copied().collect();
            let prefix = self.prefix(einsum, &group.outer);
            if let (true, Some(rank)) = (outer.is_empty(), prefix) {
                let outer = BTreeSet::from([rank]);
                state.groups.push(Group { outer, inner: BTreeSet::new(), running: true, ..group });
            } else if outer.is_empty() {
                state.barriers.insert(self.barriers.len());
                self.barriers.push(Barrier {
                    tensor: einsum.output,
                    done: group.level,
                    swept: group.swept,
                    from: members.iter().map(|(read, _)| seen[*read].tensor).collect(),
                });
            } else {
                let whole = |g: &Group| g.outer.is_subset(&kept) && g.inner.is_subset(&kept);
                let roots = if members.is_empty() {
                    group.roots.clone()
                } else {
                    let whole = members.iter().filter(|(_, g)| whole(g));
                    whole.flat_map(|(_, g)| g.roots.iter().copied()).collect()
                };
                state.groups.push(Group {
                    running: group.running || iterative.is_some_and(|rank| outer.contains(&rank)),
                    inner: group.inner.intersection(&kept).copied().collect(),
                    outer,
                    roots,
                    ..group
                });
            }
        }
        self.states[einsum.output.0] = state;
    }

    /// The output's rank i of a reduction filtered to a prefix (`where k <= i`): it runs over k as i grows. None where
    /// an operand depends on both, as a mask's does: then each i has elements of its own.
    fn prefix(&self, einsum: &Einsum, outer: &BTreeSet<RankId>) -> Option<RankId> {
        let kept = &self.cascade.tensor(einsum.output).ranks;
        let ranks_in = |expr: &Expr| variables(self.cascade, einsum, expr);
        einsum.conditions.iter().find_map(|condition| {
            let Expr::Binary { op, left, right, .. } = &condition.0 else { return None };
            let (small, large) = match op {
                BinaryOp::Less | BinaryOp::LessEqual => (left, right),
                BinaryOp::Greater | BinaryOp::GreaterEqual => (right, left),
                _ => return None,
            };
            let (k, i) = (ranks_in(small), ranks_in(large));
            let ([k], [i]) = (k.as_slice(), i.as_slice()) else { return None };
            let both = einsum.reads.iter().any(|read| {
                let used = used_ranks(self.cascade, einsum, read);
                used.contains(k) && used.contains(i)
            });
            (outer.contains(k) && kept.contains(i) && !both).then_some(*i)
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
                seen.push(Seen { tensor: read.tensor, groups, barriers: BTreeSet::new() });
            }
            return;
        }
        let state = self.states[read.tensor.0].clone();
        let mut barriers = state.barriers.clone();
        let mut groups = Vec::new();
        for group in &state.groups {
            match self.translate(einsum, read, group) {
                Some(group) => groups.push(group),
                // The last value of a running result needs all of it.
                None if iterative.is_some_and(|rank| group.outer.contains(&rank)) => {
                    barriers.insert(self.barriers.len());
                    self.barriers.push(Barrier {
                        tensor: read.tensor,
                        done: group.level,
                        swept: group.swept.clone(),
                        from: Vec::new(),
                    });
                }
                None => {}
            }
        }
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
        Group { outer, inner, running: false, level: 1, swept: roots.clone(), roots }
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
            to.running |= from.running;
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
