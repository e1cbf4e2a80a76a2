//! The exact jump over a steady state.
//!
//! At the end of an iteration of a loop the machine's whole state is compared with what it was some iterations ago: times relative to now, what
//! buffers hold, queues, places in the loops up to that loop's own digit. Where both are alike, the same will happen again, and again, as long as no
//! task can see the loop's last iteration or a change of a condition: those iterations are not simulated, only counted. Jumps nest.

mod alike;
mod repeat;

use super::{
    Cause, CycleError, Totals,
    machine::Machine,
    state::{Barrier, Candidate, OpState, StreamState, Use},
};
use crate::{
    hardware::{Channel, PortTable},
    program::{Cursor, Op, Program},
};
use einflow_mappings::mapped::NamedLoop;

/// Snapshots of one loop that are compared: a steady state may take several iterations to come round.
const REMEMBERED: usize = 8;

/// The state at the end of an iteration.
#[derive(Clone)]
struct Snapshot {
    now: u64,
    ops: Vec<OpState>,
    streams: Vec<StreamState>,
    uses: Vec<Vec<std::collections::VecDeque<Use>>>,
    unit_free: Vec<u64>,
    barrier: Barrier,
    ports: Vec<PortTable>,
    channels: Vec<Channel>,
    totals: Totals,
    end: u64,
    ready: Vec<Option<Candidate>>,
    blocked: Vec<Option<Cause>>,
    generations: Vec<Vec<u128>>,
}

/// The loops of one nest that may be jumped over, and what was seen of each.
#[derive(Default)]
pub(super) struct Jumps {
    /// By nest: the Einsum whose walk marks the ends of iterations.
    references: Vec<Option<usize>>,
    /// By nest and loop: recent states.
    seen: Vec<Vec<Vec<Snapshot>>>,
}

/// Digits of an Einsum's loops, its folds last.
fn digits(cursor: &Cursor) -> impl Iterator<Item = u64> + '_ {
    cursor.digits.iter().chain(&cursor.folds).copied()
}

fn loop_at<'a>(program: &'a Program, op: &'a Op, index: usize) -> Option<&'a NamedLoop> {
    let loops = &program.nests[op.at.0];
    loops
        .get(index)
        .or_else(|| op.folds.get(index - loops.len()))
}

impl Jumps {
    pub fn new(program: &Program) -> Self {
        let depth = |op: &Op| op.loops.len() + op.folds.len();
        let reference = |nest: usize| {
            let own = (0..program.ops.len())
                .filter(|o| program.ops[*o].at.0 == nest && program.ops[*o].exit.is_none());
            own.max_by_key(|o| {
                let op = &program.ops[*o];
                (depth(op), std::cmp::Reverse(op.offset), op.group)
            })
        };
        let references: Vec<Option<usize>> = (0..program.nests.len()).map(reference).collect();
        let seen = references
            .iter()
            .enumerate()
            .map(|(nest, r)| {
                let folds = r.map_or(0, |o| program.ops[o].folds.len());
                vec![Vec::new(); program.nests[nest].len() + folds]
            })
            .collect();
        Self { references, seen }
    }

    /// The nest of which an Einsum marks the iterations.
    pub fn marks(&self, op: usize) -> Option<usize> {
        self.references.iter().position(|r| *r == Some(op))
    }

    /// After a task of the marking Einsum whose walk moved on from `before`: jumps if the state has come round.
    pub fn boundary(
        &mut self,
        machine: &mut Machine<'_>,
        nest: usize,
        before: &Cursor,
    ) -> Result<(), CycleError> {
        let Some(reference) = self.references[nest] else {
            return Ok(());
        };
        let cursor = &machine.ops[reference].cursor;
        let moved = digits(before).zip(digits(cursor)).position(|(a, b)| a != b);
        let Some(at) = moved.filter(|_| !cursor.done) else {
            return Ok(());
        };
        self.seen[nest][at + 1..].iter_mut().for_each(Vec::clear);
        if nest + 1 < self.seen.len() || nest > 0 {
            // A loop around all nests moved on: what was seen of the other nests' own loops is over.
            for (other, seen) in self.seen.iter_mut().enumerate() {
                if other != nest {
                    seen.iter_mut().skip(at + 1).for_each(Vec::clear);
                }
            }
        }
        let program = machine.program;
        let Some(l) = loop_at(program, &program.ops[reference], at) else {
            return Ok(());
        };
        let digit = digits(cursor).nth(at).unwrap_or(0);
        if digit + 1 >= l.count {
            self.seen[nest][at].clear();
            return Ok(());
        }
        let list = &mut self.seen[nest][at];
        let mut jumped = false;
        for snapshot in list.iter().rev() {
            if let Some((times, moved)) = machine.recurs(snapshot, reference, at) {
                jumped = machine.repeat(snapshot, at, times, &moved)?;
                break;
            }
        }
        if jumped {
            list.clear();
            return Ok(());
        }
        if list.len() == REMEMBERED {
            list.remove(0);
        }
        list.push(machine.snapshot());
        Ok(())
    }
}

impl Machine<'_> {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: self.now,
            ops: self.ops.clone(),
            streams: self.streams.clone(),
            uses: self.uses.clone(),
            unit_free: self.unit_free.clone(),
            barrier: self.barrier.clone(),
            ports: self.ports.clone(),
            channels: self.channels.clone(),
            totals: self.totals.clone(),
            end: self.end,
            ready: self.ready.clone(),
            blocked: self.blocked.clone(),
            generations: self.generations(),
        }
    }

    /// By keep and user: the tile that its next task uses.
    fn generations(&self) -> Vec<Vec<u128>> {
        let users = |keep: usize| {
            let plan = &self.program.keeps[keep];
            plan.users.iter().map(move |u| self.generation(*u, keep))
        };
        (0..self.program.keeps.len())
            .map(|k| users(k).collect())
            .collect()
    }

    /// How often the iterations since a snapshot may be repeated without looking, and which Einsums and streams moved in them; none
    /// where the state has not come round.
    fn recurs(&self, old: &Snapshot, reference: usize, at: usize) -> Option<(u64, Vec<bool>)> {
        let program = self.program;
        // Quick tests first.
        let ago = |now: u64, then: u64, time: u64, before: u64| {
            time as i64 - now as i64 == before as i64 - then as i64
        };
        let same_time = |time: u64, before: u64| ago(self.now, old.now, time, before);
        // What did not move at all waits: its time stays.
        let clocks = self.unit_free.iter().zip(&old.unit_free);
        if !clocks.clone().all(|(a, b)| a == b || same_time(*a, *b))
            || (self.end != old.end && !same_time(self.end, old.end))
        {
            return None;
        }
        let period = {
            let digit = |c: &Cursor| digits(c).nth(at).unwrap_or(0);
            digit(&self.ops[reference].cursor).checked_sub(digit(&old.ops[reference].cursor))?
        };
        let home = loop_at(program, &program.ops[reference], at)?;
        if period == 0 || !self.groups_repeat(home, period) || !self.barriers_alike(old, reference)
        {
            return None;
        }
        let mut times = u64::MAX;
        let mut range: Option<(u64, u64)> = None;
        let mut moved_ops = Vec::new();
        let cursors = self
            .ops
            .iter()
            .zip(&old.ops)
            .enumerate()
            .map(|(i, (a, b))| (&program.ops[i], &a.cursor, &b.cursor));
        let stream_cursors = self
            .streams
            .iter()
            .zip(&old.streams)
            .enumerate()
            .map(|(i, (a, b))| (&self.stream_ops[i], &a.cursor, &b.cursor));
        for (op, new, before) in cursors.chain(stream_cursors) {
            let step = Self::moved(program, op, new, before, at, period, home)?;
            moved_ops.push(step);
            if step {
                let digit = digits(new).nth(at)?;
                let left = new.full_left(program, op, at).checked_sub(digit)?;
                times = times.min(left / period);
                let low = digits(before).nth(at)?;
                // A running value's first update waits for none before it.
                if low == 0 {
                    return None;
                }
                range = Some(range.map_or((low, digit), |(a, b): (u64, u64)| {
                    (a.min(low), b.max(digit))
                }));
            }
        }
        for (i, (new, before)) in self.ops.iter().zip(&old.ops).enumerate() {
            if !self.op_alike(i, new, before, old, moved_ops[i]) {
                return None;
            }
        }
        for (i, (new, before)) in self.streams.iter().zip(&old.streams).enumerate() {
            let moved = moved_ops[self.ops.len() + i];
            if !self.stream_alike(new, before, old, moved) {
                return None;
            }
            let queue = self.unit_free.len() + i;
            if !moved && !new.cursor.done && self.ready[queue].is_some() {
                return None;
            }
        }
        if !self.hardware_alike(old) || !self.uses_alike(old) || self.blocked != old.blocked {
            return None;
        }
        for (new, before) in self.ready.iter().zip(&old.ready) {
            let alike = match (new, before) {
                (None, None) => true,
                (Some(a), Some(b)) => a.cause == b.cause && same_time(a.time, b.time),
                _ => false,
            };
            if !alike {
                return None;
            }
        }
        let (low, high) = range?;
        times = times.min(self.conditions_allow(reference, at, home, low, high, period)?);
        // What stood still must not be due before the jump ends.
        while times > 0 && !self.order_holds(&moved_ops, at, times * period) {
            times /= 2;
        }
        Some((times, moved_ops))
    }

    /// Whether coordinates that share a word, and those of which words begin anew, stand as they did a period before.
    fn groups_repeat(&self, home: &NamedLoop, period: u64) -> bool {
        let transfers = &self.mapped.blocks[self.block].transfers;
        let of_transfers = transfers.iter().map(|t| &t.projection);
        let of_reads = self.program.ops.iter().flat_map(|o| &o.reads);
        let all = of_transfers.chain(of_reads.map(|r| &r.projection));
        let by = period.saturating_mul(home.cut.step);
        all.flat_map(|p| &p.dims)
            .flat_map(|d| &d.terms)
            .filter(|t| t.rank == home.cut.rank)
            .all(|t| {
                let group = t.unit.max(1).saturating_mul(t.modulus.unwrap_or(1).max(1));
                by.is_multiple_of(group)
            })
    }

    /// Whether a cursor moved on by the period in the loop; none where it moved otherwise.
    fn moved(
        program: &Program,
        op: &Op,
        new: &Cursor,
        before: &Cursor,
        at: usize,
        period: u64,
        home: &NamedLoop,
    ) -> Option<bool> {
        if new.done != before.done {
            return None;
        }
        let differs = digits(new)
            .zip(digits(before))
            .enumerate()
            .filter(|(_, (a, b))| a != b);
        let mut moved = false;
        for (index, (a, b)) in differs {
            let same = index == at && a.checked_sub(b) == Some(period);
            if !same || loop_at(program, op, index)? != home {
                return None;
            }
            moved = true;
        }
        if new.done {
            return Some(false);
        }
        Some(moved)
    }

    /// How many periods on all tiles stay whole, where a condition has a say along the loop's rank.
    fn conditions_allow(
        &self,
        reference: usize,
        at: usize,
        home: &NamedLoop,
        low: u64,
        high: u64,
        period: u64,
    ) -> Option<u64> {
        let Some(occupied) = &self.program.occupied else {
            return Some(u64::MAX);
        };
        if !occupied.depends_on(home.cut.rank) {
            return Some(u64::MAX);
        }
        let op = &self.program.ops[reference];
        let cursor = &self.ops[reference].cursor;
        let mut tile = self.program.whole;
        for (index, digit) in digits(cursor).enumerate().take(at) {
            let l = loop_at(self.program, op, index)?;
            crate::program::inside(&mut tile, l, digit);
        }
        let (start, len) = tile[home.cut.rank];
        let whole = |times: u64| {
            let mut tile = tile;
            let last = (high + times * period + 1)
                .saturating_mul(home.cut.step)
                .min(len);
            let first = low.saturating_mul(home.cut.step).min(last);
            tile[home.cut.rank] = (start + first, last - first);
            occupied.whole(&tile)
        };
        if !whole(0) {
            return None;
        }
        let (mut good, mut bad) = (0, home.count / period + 1);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if whole(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Some(good)
    }

    /// Whether Einsums that stood still are due after all those that move, also when those have moved on.
    fn order_holds(&self, moved: &[bool], at: usize, by: u64) -> bool {
        let program = self.program;
        let mut furthest = None;
        for (i, state) in self.ops.iter().enumerate() {
            if moved[i] && !state.cursor.done {
                let mut cursor = state.cursor.clone();
                cursor.shift(program, &program.ops[i], at, by);
                furthest = furthest.max(Some(cursor.key(program, &program.ops[i])));
            }
        }
        let still = |i: usize| !moved[i] && !self.ops[i].cursor.done;
        (0..self.ops.len())
            .filter(|i| still(*i))
            .all(|i| Some(self.ops[i].key) > furthest)
    }
}
