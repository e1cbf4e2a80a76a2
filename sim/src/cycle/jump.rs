//! The exact jump over a steady state.
//!
//! At the end of an iteration of a loop the machine's whole state is compared with what it was some iterations ago: times relative to now, what
//! buffers hold, queues, places in the loops up to that loop's own digit. Where both are alike, the same will happen again, and again, as long as no
//! task can see the loop's last iteration or a change of a condition: those iterations are not simulated, only counted. Jumps nest.

use super::machine::{CycleError, Machine, OpState, Started, StreamState, Totals, Use};
use crate::{
    hardware::{Channel, PortTable},
    program::{Cursor, Op, Program, Tile},
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
    barrier: super::machine::Barrier,
    ports: Vec<PortTable>,
    channels: Vec<Channel>,
    totals: Totals,
    end: u64,
    ready: Vec<Option<super::machine::Candidate>>,
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
    loops.get(index).or_else(|| op.folds.get(index - loops.len()))
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
        // Two ends of iterations, what runs ahead, and the last iteration have to be left.
        if digit + 2 >= l.count {
            self.seen[nest][at].clear();
            return Ok(());
        }
        let list = &mut self.seen[nest][at];
        let mut jumped = false;
        for snapshot in list.iter().rev() {
            if let Some(times) = machine.recurs(snapshot, reference, at) {
                if times > 0 {
                    machine.jump(snapshot, at, times)?;
                    jumped = true;
                }
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
            generations: self.generations(),
        }
    }

    /// By keep and user: the tile that its next task uses.
    fn generations(&self) -> Vec<Vec<u128>> {
        let users = |keep: usize| {
            let plan = &self.program.keeps[keep];
            plan.users.iter().map(move |u| self.generation(*u, keep))
        };
        (0..self.program.keeps.len()).map(|k| users(k).collect()).collect()
    }

    /// How often the iterations since a snapshot may be repeated without looking; none where the state has not come round.
    fn recurs(&self, old: &Snapshot, reference: usize, at: usize) -> Option<u64> {
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
        if period == 0 || !self.barriers_alike(old) {
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
                // All of the next iterations must be alike: the last one is not.
                let left = (new.iterations(program, op, at) - 1).checked_sub(digit + 1)?;
                times = times.min(left / period);
                let low = digits(before).nth(at)?;
                range = Some(range.map_or((low, digit), |(a, b): (u64, u64)| (a.min(low), b.max(digit))));
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
        if !self.hardware_alike(old) || !self.uses_alike(old) {
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
        Some(times)
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
        let differs = digits(new).zip(digits(before)).enumerate().filter(|(_, (a, b))| a != b);
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

    fn barriers_alike(&self, old: &Snapshot) -> bool {
        let (a, b) = (&self.barrier, &old.barrier);
        let same = |x: u64, y: u64| x as i64 - self.now as i64 == y as i64 - old.now as i64;
        self.program.segments.is_empty()
            || (same(a.floor, b.floor)
                && same(a.end, b.end)
                && same(a.epoch.0, b.epoch.0)
                && a.work == b.work
                && a.cause == b.cause
                && a.waited == b.waited
                && a.open.map(|o| o.2) == b.open.map(|o| o.2))
    }

    /// Long ago: nothing that starts from now on depends on it.
    fn old(&self, now: u64, end: u64) -> bool {
        end + self.reach() < now
    }

    fn op_alike(&self, op: usize, new: &OpState, before: &OpState, old: &Snapshot, moved: bool) -> bool {
        let live = |now: u64, state: &OpState| -> Vec<(i128, i64, i64, u64)> {
            state
                .history
                .iter()
                .filter(|t: &&Started| !self.old(now, t.start + t.steps.end()))
                .map(|t| {
                    (
                        state.place as i128 - t.place as i128,
                        state.started as i64 - t.number as i64,
                        t.start as i64 - now as i64,
                        t.steps.end(),
                    )
                })
                .collect()
        };
        let steps = |now: u64, state: &OpState| -> Vec<super::timing::Steps> {
            let live = state.history.iter().filter(|t| !self.old(now, t.start + t.steps.end()));
            live.map(|t| t.steps.clone()).collect()
        };
        if live(self.now, new) != live(old.now, before) || steps(self.now, new) != steps(old.now, before) {
            return false;
        }
        let ahead = |state: &OpState| -> Vec<Option<Vec<(i64, u64)>>> {
            let of = |last: &Option<Tile>| {
                last.as_ref().map(|t| {
                    t.iter()
                        .zip(&state.tile)
                        .map(|(a, b)| (a.0 as i64 - b.0 as i64, a.1))
                        .collect()
                })
            };
            state.last.iter().map(of).collect()
        };
        if moved {
            let lengths = |state: &OpState| state.tile.iter().map(|s| s.1).collect::<Vec<_>>();
            return ahead(new) == ahead(before)
                && lengths(new) == lengths(before)
                && self.recents_alike(op, new, before, old);
        }
        new.last == before.last && new.recent == before.recent && new.started == before.started
    }

    fn recents_alike(&self, op: usize, new: &OpState, before: &OpState, old: &Snapshot) -> bool {
        let Some(keep) = self.program.ops[op].writes else {
            return true;
        };
        let Some(user) = self.program.keeps[keep].users.iter().position(|u| *u == op) else {
            return true;
        };
        let now = self.generation(op, keep) as i128;
        let then = old.generations[keep][user] as i128;
        let ages = |list: &std::collections::VecDeque<u128>, from: i128| -> Vec<i128> {
            list.iter().map(|g| from - *g as i128).collect()
        };
        ages(&new.recent, now) == ages(&before.recent, then)
    }

    fn stream_alike(&self, new: &StreamState, before: &StreamState, old: &Snapshot, moved: bool) -> bool {
        let live = |now: u64, s: &StreamState| -> Vec<(i128, i64, i64, Option<super::Cause>)> {
            s.arrived
                .iter()
                .filter(|a| !self.old(now, a.whole))
                .map(|a| {
                    (
                        s.place as i128 - a.place as i128,
                        a.first as i64 - now as i64,
                        a.whole as i64 - now as i64,
                        a.cause,
                    )
                })
                .collect()
        };
        if live(self.now, new) != live(old.now, before) {
            return false;
        }
        if !moved {
            return new.recent == before.recent && new.last == before.last && new.issued == before.issued;
        }
        let ages = |s: &StreamState| -> Vec<i128> {
            s.recent.iter().map(|g| s.place as i128 - *g as i128).collect()
        };
        let last = |s: &StreamState| -> Option<Vec<(i64, u64)>> {
            s.last.as_ref().map(|t| {
                t.iter().zip(&s.tile).map(|(a, b)| (a.0 as i64 - b.0 as i64, a.1)).collect()
            })
        };
        let lengths = |s: &StreamState| s.tile.iter().map(|s| s.1).collect::<Vec<_>>();
        ages(new) == ages(before) && last(new) == last(before) && lengths(new) == lengths(before)
    }

    fn hardware_alike(&self, old: &Snapshot) -> bool {
        let reach = self.reach();
        let ports = |now: u64, table: &PortTable| -> Vec<(i64, u64, u64, u64)> {
            let mut live: Vec<_> = table
                .taken
                .iter()
                .filter(|p| p.last() + reach >= now)
                .map(|p| (p.start as i64 - now as i64, p.stride, p.count, p.rows))
                .collect();
            live.sort_unstable();
            live
        };
        let tables = self.ports.iter().zip(&old.ports);
        let channel = |now: u64, c: &Channel| -> (u64, Vec<u64>) {
            let live = c.under_way.iter().filter(|e| **e > now).map(|e| e - now);
            (c.free.saturating_sub(now), live.collect())
        };
        let channels = self.channels.iter().zip(&old.channels);
        tables.clone().all(|(a, b)| ports(self.now, a) == ports(old.now, b))
            && channels.clone().all(|(a, b)| channel(self.now, a) == channel(old.now, b))
    }

    fn uses_alike(&self, old: &Snapshot) -> bool {
        let generations = self.generations();
        for (keep, plan) in self.program.keeps.iter().enumerate() {
            for (position, user) in plan.users.iter().enumerate() {
                let live = |now: u64, from: u128, list: &std::collections::VecDeque<Use>| -> Vec<(i128, i64)> {
                    let live = list.iter().filter(|u| !self.old(now, u.end));
                    live.map(|u| (from as i128 - u.generation as i128, u.end as i64 - now as i64)).collect()
                };
                let now = live(self.now, generations[keep][position], &self.uses[keep][*user]);
                let then = live(old.now, old.generations[keep][position], &old.uses[keep][*user]);
                if now != then {
                    return false;
                }
            }
        }
        true
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
            let last = (high + times * period + 1).saturating_mul(home.cut.step).min(len);
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
        (0..self.ops.len()).filter(|i| still(*i)).all(|i| Some(self.ops[i].key) > furthest)
    }

    /// Repeats what happened since a snapshot so many times.
    fn jump(&mut self, old: &Snapshot, at: usize, times: u64) -> Result<(), CycleError> {
        let program = self.program;
        let ahead = (self.now - old.now)
            .checked_mul(times)
            .filter(|t| *t < 1 << 61)
            .ok_or(CycleError::Overflow)?;
        let before = self.generations();
        let count = u128::from(times);
        for (i, (state, then)) in self.ops.iter_mut().zip(&old.ops).enumerate() {
            let op = &program.ops[i];
            let by = digits(&state.cursor).nth(at).unwrap_or(0) - digits(&then.cursor).nth(at).unwrap_or(0);
            if by == 0 || state.cursor.done {
                continue;
            }
            let place = state.place;
            let tile = state.tile;
            state.cursor.shift(program, op, at, by * times);
            state.key = state.cursor.key(program, op);
            state.tile = state.cursor.tile(program, op);
            state.place = state.cursor.place(program, op);
            let started = (state.started - then.started) * times;
            state.started += started;
            for task in &mut state.history {
                task.place += state.place - place;
                task.number += started;
                task.start += ahead;
            }
            shift_tiles(&mut state.last, &tile, &state.tile);
        }
        for (i, (state, then)) in self.streams.iter_mut().zip(&old.streams).enumerate() {
            let op = &self.stream_ops[i];
            let by = digits(&state.cursor).nth(at).unwrap_or(0) - digits(&then.cursor).nth(at).unwrap_or(0);
            if by == 0 || state.cursor.done {
                continue;
            }
            let place = state.place;
            let tile = state.tile;
            state.cursor.shift(program, op, at, by * times);
            state.tile = state.cursor.tile(program, op);
            state.place = state.cursor.place(program, op);
            let moved = state.place - place;
            for arrived in &mut state.arrived {
                arrived.place += moved;
                arrived.first += ahead;
                arrived.whole += ahead;
            }
            state.recent.iter_mut().for_each(|p| *p += moved);
            state.issued += (state.issued - then.issued) * times;
            let mut last = [state.last.take()];
            shift_tiles(&mut last, &tile, &state.tile);
            let [last] = last;
            state.last = last;
        }
        let after = self.generations();
        for keep in 0..program.keeps.len() {
            for (position, user) in program.keeps[keep].users.iter().enumerate() {
                let by = after[keep][position] - before[keep][position];
                for last in &mut self.uses[keep][*user] {
                    last.generation += by;
                    last.end += ahead;
                }
                if program.ops[*user].writes == Some(keep) {
                    self.ops[*user].recent.iter_mut().for_each(|g| *g += by);
                }
            }
        }
        self.now += ahead;
        if self.end != old.end {
            self.end += ahead;
        }
        for (time, before) in self.unit_free.iter_mut().zip(&old.unit_free) {
            if time != before {
                *time += ahead;
            }
        }
        let least = self.ops.iter().filter(|o| !o.cursor.done).map(|o| o.key).min();
        let b = &mut self.barrier;
        b.floor += ahead;
        b.end += ahead;
        b.epoch.0 += ahead;
        if let (Some(open), Some(key)) = (&mut b.open, least) {
            *open = (key.scope, key.epoch, open.2);
        }
        for table in &mut self.ports {
            table.taken.iter_mut().for_each(|p| p.start += ahead);
        }
        for channel in &mut self.channels {
            channel.free += ahead;
            channel.under_way.iter_mut().for_each(|t| *t += ahead);
        }
        for candidate in self.ready.iter_mut().flatten() {
            candidate.time += ahead;
        }
        self.find_turns();
        self.totals
            .repeat(&old.totals, times, count)
            .ok_or(CycleError::Overflow)
    }
}

fn shift_tiles(tiles: &mut [Option<Tile>], from: &Tile, to: &Tile) {
    for tile in tiles.iter_mut().flatten() {
        for (side, (a, b)) in tile.iter_mut().zip(from.iter().zip(to)) {
            side.0 = side.0 + b.0 - a.0;
        }
    }
}

impl Totals {
    /// Adds what came since `old` so many times more; none on overflow.
    fn repeat(&mut self, old: &Totals, times: u64, count: u128) -> Option<()> {
        for (sum, before) in self.words.iter_mut().zip(&old.words) {
            *sum = (*sum - before).checked_mul(count)?.checked_add(*sum)?;
        }
        let more = |sum: &mut u64, before: u64| -> Option<()> {
            *sum = (*sum - before).checked_mul(times)?.checked_add(*sum)?;
            Some(())
        };
        for (sum, before) in self.busy.iter_mut().zip(&old.busy) {
            more(sum, *before)?;
        }
        for (list, before) in self.waits.iter_mut().zip(&old.waits) {
            for (cause, sum) in list {
                let before = before.iter().find(|(c, _)| c == cause).map_or(0, |(_, n)| *n);
                more(sum, before)?;
            }
        }
        more(&mut self.tasks, old.tasks)?;
        for (sum, before) in self.channel.iter_mut().zip(&old.channel) {
            more(sum, *before)?;
        }
        Some(())
    }
}
