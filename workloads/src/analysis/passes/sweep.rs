//! One walk over the Einsums of a cascade for the fibers of one rank.
//!
//! A tensor *carries* the rank along some of its own ranks (its groups): element by element where every part of
//! the rank is still there, as a summary where the inner parts have been reduced. The outer ranks of a group are
//! followed through index expressions, so a rank that is renamed (`A[i]` for a tensor of rank K), split
//! or slid over (`K[e, p + w]`) stays the same fiber. Reducing the outer ranks of a group away makes a barrier.

use std::collections::{BTreeMap, BTreeSet};

mod carry;
mod reads;

use carry::{Barrier, Group, Joined, Seen, State, Waits, carried, join, meet};

use super::{Fibers, Live, Passes};
use crate::cascade::{Cascade, Einsum, Index, RankId, Reduce, TensorId, TensorKind};

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
                let (outer, inner) = fibers.among(&tensor.ranks);
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
            let running: Vec<TensorId> = self
                .barriers
                .iter()
                .filter(|b| b.running)
                .map(|b| b.tensor)
                .collect();
            why.push(if self.barriers.is_empty() {
                format!("1 pass: nothing needs all of {rank}")
            } else if running.len() == self.barriers.len() {
                format!("1 pass: running results only ({}), and nothing reads {rank} again after their end", self.list(&running))
            } else {
                format!("1 pass: what needs all of {rank} is not followed by another read of the same fibers")
            });
        }
        why.extend(self.notes);
        let names = |ranks: &BTreeSet<RankId>| {
            ranks
                .iter()
                .map(|r| self.cascade.rank(*r).name.clone())
                .collect()
        };
        let live = self.live.iter().map(|(id, (fiber, whole, reads))| Live {
            why: reads.join("; "),
            ..Live::new(self.cascade, *id, &rank, names(fiber), *whole)
        });
        let live = live.collect();
        Some((
            Passes {
                count: self.count,
                why,
            },
            live,
        ))
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
            waits
                .entry(*barrier)
                .and_modify(|a| a.retain(|r| along.contains(r)))
                .or_insert_with(|| along.clone());
        }
        let mut joined = join(&seen);
        if joined.is_empty() {
            // Values that are made along the rank from nothing that carries it: coordinates, constants.
            let (outer, inner) = self.fibers.among(&einsum.ranks);
            if !outer.is_empty() {
                joined.push(Joined {
                    group: Group::fresh(outer, inner, einsum.output),
                    members: Vec::new(),
                });
            }
        }
        self.raise(einsum, &seen, &waits, &mut joined);
        for (i, other) in seen.iter().enumerate() {
            let members = joined
                .iter()
                .flat_map(|j| &j.members)
                .filter(|(read, _)| *read == i);
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
                let again =
                    meet(&j.group.roots, &barrier.swept) && along.is_disjoint(&j.group.outer);
                level = level.max(barrier.done + u32::from(again));
            }
            j.group.level = level;
            self.count = self.count.max(level);
            if level == carried {
                continue;
            }
            for (b, along) in waits {
                let barrier = &self.barriers[*b];
                let again = j
                    .members
                    .iter()
                    .filter(|(_, group)| meet(&group.roots, &barrier.swept));
                let mut again = again.map(|(read, _)| seen[*read].tensor).peekable();
                if barrier.done + 1 == level
                    && along.is_disjoint(&j.group.outer)
                    && again.peek().is_some()
                {
                    let (tensors, across) = raised.entry(level).or_default();
                    tensors.extend(again);
                    across.insert(*b);
                }
            }
        }
        for (level, (tensors, across)) in raised {
            let across: Vec<String> = across.into_iter().map(|b| self.describe(b, seen)).collect();
            let (reader, tensors) = (
                self.name(einsum.output),
                self.list(&tensors.into_iter().collect::<Vec<_>>()),
            );
            self.why.push(format!(
                "pass {level}: {reader} reads {tensors} across {}",
                across.join(", and ")
            ));
        }
    }

    /// `GM (through PLM), which reduces M of LM`.
    fn describe(&self, barrier: usize, seen: &[Seen]) -> String {
        let found = &self.barriers[barrier];
        let name = self.name(found.tensor);
        let direct = seen.iter().any(|s| s.tensor == found.tensor);
        let through: Vec<TensorId> = seen
            .iter()
            .filter(|s| !direct && s.barriers.contains_key(&barrier))
            .map(|s| s.tensor)
            .collect();
        let through = if through.is_empty() {
            String::new()
        } else {
            format!(" (through {})", self.list(&through))
        };
        let what = if found.running {
            "runs over"
        } else {
            "reduces"
        };
        format!(
            "{name}{through}, which {what} {} of {}",
            self.rank_name(),
            self.list(&found.from)
        )
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
        // A summary stands for all that went into it.
        let followed = if group.roots.is_empty() {
            &group.swept
        } else {
            &group.roots
        };
        let late = waits.iter().filter(|(b, along)| {
            !seen.barriers.contains_key(*b) && along.is_disjoint(&group.outer)
        });
        let late = late
            .map(|(b, _)| &self.barriers[*b])
            .filter(|b| meet(&b.swept, followed));
        let across: Vec<TensorId> = late.map(|b| b.tensor).collect();
        if across.is_empty() {
            return;
        }
        let line = format!(
            "{} reads it after {}",
            self.name(einsum.output),
            self.list(&across)
        );
        self.keep(seen.tensor, group, line);
    }

    /// Adds a tensor, or the one of which it is a view, to those that are held, as its reader walks it.
    fn keep(&mut self, tensor: TensorId, group: &Group, line: String) {
        let whole = !group.roots.is_empty();
        let held = self.behind_views(tensor);
        let in_fibers =
            |rank: &&RankId| self.fibers.outer.contains(rank) || self.fibers.inner.contains(rank);
        let mut fiber: BTreeSet<RankId> = self
            .cascade
            .tensor(held)
            .ranks
            .iter()
            .filter(in_fibers)
            .copied()
            .collect();
        if fiber.is_empty() {
            // Carried along a rank of another name.
            let groups = &self.states[held.0].groups;
            fiber = groups
                .iter()
                .flat_map(|g| g.outer.iter().chain(&g.inner))
                .copied()
                .collect();
        }
        if fiber.is_empty() {
            // Of another name still: the fibers begin at its reader.
            fiber = group.outer.union(&group.inner).copied().collect();
        }
        let entry = self
            .live
            .entry(held)
            .or_insert_with(|| (fiber, whole, Vec::new()));
        entry.1 |= whole;
        if !entry.2.contains(&line) {
            entry.2.push(line);
        }
    }

    fn behind_views(&self, mut tensor: TensorId) -> TensorId {
        while let (TensorKind::View, Some(producer)) = (
            self.cascade.tensor(tensor).kind,
            self.cascade.tensor(tensor).producer,
        ) {
            let Some(read) = self.cascade.einsum(producer).reads.first() else {
                break;
            };
            tensor = read.tensor;
        }
        tensor
    }

    /// Reads through an index tensor: no pass, but the fiber that is picked from stays live.
    fn gathers(&mut self, einsum: &Einsum, waits: &Waits) {
        for read in &einsum.reads {
            for (position, index) in read.indices.iter().enumerate() {
                let Index::Gather(through, _) = index else {
                    continue;
                };
                let dimension = self.cascade.tensor(read.tensor).ranks[position];
                let groups = self.states[read.tensor.0].groups.iter();
                let Some(group) = groups
                    .clone()
                    .find(|g| g.outer.contains(&dimension))
                    .cloned()
                else {
                    continue;
                };
                let again = waits
                    .keys()
                    .any(|b| meet(&self.barriers[*b].swept, &group.swept));
                let rank = self.rank_name();
                let note = format!(
                    "no pass: {} reads {} through {}, {} of {rank} {}",
                    self.name(einsum.output),
                    self.name(read.tensor),
                    self.name(*through),
                    self.picked(*through),
                    if again {
                        "re-read; its fiber stays live"
                    } else {
                        "read"
                    },
                );
                self.notes.push(note);
                if again {
                    let line = format!(
                        "{} reads it through {}",
                        self.name(einsum.output),
                        self.name(*through)
                    );
                    self.keep(read.tensor, &group, line);
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
        let ranks: Vec<&str> = made
            .ranks
            .iter()
            .map(|r| self.cascade.rank(*r).name.as_str())
            .collect();
        ranks.join(" x ")
    }

    /// The output's groups and barriers.
    fn produce(&mut self, einsum: &Einsum, seen: &[Seen], mut waits: Waits, joined: Vec<Joined>) {
        let output = self.cascade.tensor(einsum.output);
        let kept: BTreeSet<RankId> = output.ranks.iter().copied().collect();
        let iterative = output.iterative.map(|i| output.ranks[i]);
        waits
            .values_mut()
            .for_each(|along| self.narrow(einsum, along, &joined, &kept));
        let mut state = State {
            groups: Vec::new(),
            barriers: waits,
        };
        let apart = joined.iter().any(|j| j.group.outer.is_disjoint(&kept));
        for Joined { group, members } in joined {
            let outer: BTreeSet<RankId> = group.outer.intersection(&kept).copied().collect();
            let prefix = self.prefix(einsum, &group.outer);
            let each_alone = |i: &RankId| !self.read_together(einsum, &group.outer, *i);
            let barrier = Barrier {
                tensor: einsum.output,
                done: group.level,
                swept: group.swept.clone(),
                from: members.iter().map(|(read, _)| seen[*read].tensor).collect(),
                running: true,
            };
            if !outer.is_empty() {
                if let Some(rank) = iterative.filter(|rank| outer.contains(rank)) {
                    state
                        .barriers
                        .insert(self.barriers.len(), BTreeSet::from([rank]));
                    self.barriers.push(barrier);
                }
                state
                    .groups
                    .push(carried(group, &members, &kept, outer, einsum.output, apart));
                continue;
            }
            state.barriers.insert(self.barriers.len(), prefix.clone());
            let running = !prefix.is_empty() && prefix.iter().all(each_alone);
            self.barriers.push(Barrier { running, ..barrier });
            if running {
                // It goes over k as i grows, and so carries the fiber along i.
                state.groups.push(Group {
                    outer: prefix,
                    inner: BTreeSet::new(),
                    ..group
                });
            }
        }
        self.states[einsum.output.0] = state;
    }

    /// Of the ranks along which only a prefix was waited for, those of the output: where such a rank is reduced to a
    /// prefix in turn (`D[m] = C[n] where n <= m`), the rank that bounds it.
    fn narrow(
        &self,
        einsum: &Einsum,
        along: &mut BTreeSet<RankId>,
        joined: &[Joined],
        kept: &BTreeSet<RankId>,
    ) {
        for j in joined.iter().filter(|j| j.group.outer.is_disjoint(kept)) {
            if !along.is_disjoint(&j.group.outer) {
                along.extend(self.prefix(einsum, &j.group.outer));
            }
        }
        along.retain(|rank| kept.contains(rank));
    }
}
