//! The exact jump over a steady state.
//!
//! At the end of an iteration of a loop the machine's whole state is compared with what it was some iterations ago:
//! times relative to now, what
//! buffers hold, queues, places in the loops up to that loop's own digit. Where both are alike, the same will happen
//! again, and again, as long as no task can see the loop's last iteration or a change of a condition: those iterations
//! are not simulated, only counted. Jumps nest.

mod joint;
mod mask;
mod numbers;
mod relative;
mod repeat;
mod rows;
mod snapshot;

use std::sync::Arc;

use einflow_mappings::mapped::NamedLoop;

use crate::{
    events::{BackEnd, EventError, Machine, State, Turn},
    program::{Cursor, Digits, Op, Program, inside},
};
use joint::joint;
use relative::{At, Groups, relative};
use repeat::repeat;
use rows::{ROWS, repeat_rows};
use snapshot::{Found, Jumped, Row, Seen, Snapshot, digits};

/// Fewer iterations of a loop leave none to jump over: what follows the first is not compared, two that are alike come
/// next, and the last may differ.
const LEAST_ITERATIONS: u64 = 4;

/// Ends of iterations that were passed in a step: nest, and the walk before.
#[derive(Default)]
pub(super) struct Passed {
    jumps: Option<Jumps>,
    ends: Vec<(usize, Cursor)>,
}

/// The loops that may be jumped over, and what was seen of each.
struct Jumps {
    /// By nest: the Einsum whose walk marks the ends of iterations.
    references: Vec<Option<usize>>,
    /// By nest and loop: recent states.
    seen: Vec<Vec<Seen>>,
    /// How many of the outermost loops count as one.
    joint: usize,
    groups: Arc<Groups>,
    /// By loop of the only nest: ends of rows, and what has been left out since the last. Empty where no row has a
    /// length of its own.
    rows: Vec<(Vec<Row>, Vec<Jumped>)>,
}

fn loop_at<'a>(program: &'a Program, op: &'a Op, index: usize) -> Option<&'a NamedLoop> {
    let loops = &program.nests[op.at.0];
    loops
        .get(index)
        .or_else(|| op.folds.get(index - loops.len()))
}

impl Passed {
    /// Steady states are jumped over, or not.
    pub fn new(machine: &Machine<'_>, jump: bool) -> Self {
        Self {
            jumps: jump.then(|| Jumps::new(machine)),
            ends: Vec::new(),
        }
    }

    /// After a step: jumps where the state has come round.
    pub fn jump(&mut self, machine: &mut Machine<'_>) -> Result<(), EventError> {
        for (nest, before) in std::mem::take(&mut self.ends) {
            if let Some(jumps) = &mut self.jumps {
                jumps.boundary(machine, nest, &before)?;
            }
        }
        Ok(())
    }
}

impl BackEnd for Passed {
    type Error = EventError;

    fn group(
        &mut self,
        machine: &Machine<'_>,
        _unit: usize,
        turn: &Turn,
        _start: u64,
    ) -> Result<(), EventError> {
        for member in &turn.members {
            if let Some(nest) = self.jumps.as_ref().and_then(|j| j.marks(*member)) {
                let cursor = machine.state.ops[*member].cursor.clone();
                self.ends.push((nest, cursor));
            }
        }
        Ok(())
    }
}

impl Jumps {
    fn new(machine: &Machine<'_>) -> Self {
        let program = machine.program;
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
                let loops = program.nests[nest].len() + folds;
                (0..loops).map(|_| Seen::default()).collect()
            })
            .collect();
        let masked = |l: &NamedLoop| program.is_masked(l.cut.rank);
        let rows = match &program.nests[..] {
            [nest] if nest.iter().filter(|l| masked(l)).count() > 1 => nest.len(),
            _ => 0,
        };
        Self {
            references,
            seen,
            joint: joint(machine),
            groups: Arc::new(Groups::new(machine)),
            rows: (0..rows).map(|_| (Vec::new(), Vec::new())).collect(),
        }
    }

    /// Forgets the rows of a loop and of those inside it.
    fn forget_rows(&mut self, from: usize) {
        let inside = self.rows.iter_mut().skip(from);
        inside.for_each(|(rows, jumps)| {
            rows.clear();
            jumps.clear();
        });
    }

    /// Notes a jump for the rows of the loops around it.
    fn note(&mut self, jumped: &Jumped) {
        let around = self.rows.iter_mut().take(jumped.at);
        around.for_each(|(_, jumps)| jumps.push(jumped.clone()));
    }

    /// The nest of which an Einsum marks the iterations.
    fn marks(&self, op: usize) -> Option<usize> {
        self.references.iter().position(|r| *r == Some(op))
    }

    /// After a task of the marking Einsum whose walk moved on from `before`: jumps if the state has come round.
    fn boundary(
        &mut self,
        machine: &mut Machine<'_>,
        nest: usize,
        before: &Cursor,
    ) -> Result<(), EventError> {
        let Some(reference) = self.references[nest] else {
            return Ok(());
        };
        let cursor = &machine.state.ops[reference].cursor;
        let moved = digits(before).zip(digits(cursor)).position(|(a, b)| a != b);
        let Some(moved) = moved.filter(|_| !cursor.done) else {
            return Ok(());
        };
        let (first, at) = match moved < self.joint {
            true => (0, self.joint - 1),
            false => (moved, moved),
        };
        self.seen[nest][at + 1..].iter_mut().for_each(Seen::clear);
        if nest + 1 < self.seen.len() || nest > 0 {
            // A loop around all nests moved on: what was seen of the other nests' own loops is over.
            for (other, seen) in self.seen.iter_mut().enumerate() {
                if other != nest {
                    seen.iter_mut().skip(at + 1).for_each(Seen::clear);
                }
            }
        }
        self.forget_rows(at + 1);
        let (program, walkers) = (machine.program, machine.walkers.clone());
        let groups = Arc::clone(&self.groups);
        let to = At {
            program,
            walkers: &walkers,
            groups: &groups,
            reach: machine.reach,
            reference,
            first,
            at,
        };
        let op = &program.ops[reference];
        let digit = to.digit(op, cursor);
        let count = to.loops(op).iter();
        let count = count.fold(1u64, |n, l| n.saturating_mul(l.count));
        if digit + 1 >= count || count < LEAST_ITERATIONS {
            self.seen[nest][at].clear();
            self.forget_rows(at);
            return Ok(());
        }
        let list = &mut self.seen[nest][at];
        let alike = relative(&machine.state, to);
        let new = Snapshot {
            state: machine.state.clone(),
            totals: machine.totals.clone(),
            mark: alike.mark(),
            alike,
        };
        let around = Digits::from_slice(&cursor.digits[..at.min(cursor.digits.len())]);
        let mut jumped = None;
        for old in list.alike(new.mark) {
            let found = recurs(machine, &new, old, to, self.joint);
            // Marks tell nearly all states apart: what follows from them is looked at first.
            if let Some(found) = found.filter(|_| old.alike == new.alike) {
                let times = repeat(machine, &new, old, to, &found)?;
                jumped = times.map(|times| (found, times));
                break;
            }
        }
        if let Some((found, times)) = jumped {
            list.clear();
            self.forget_rows(at);
            self.note(&Jumped {
                at,
                around,
                whole: (found.low, found.high + times * found.period + 1),
                period: found.period,
                times,
                plain: true,
            });
            return Ok(());
        }
        list.push(new);
        self.row(machine, to, around, digit)
    }

    /// After an iteration of a loop whose rows have lengths of their own: jumps if they grow steadily.
    fn row(
        &mut self,
        machine: &mut Machine<'_>,
        to: At<'_>,
        around: Digits,
        digit: u64,
    ) -> Result<(), EventError> {
        let at = to.at;
        let masked = |l: &NamedLoop| machine.program.is_masked(l.cut.rank);
        let Some((rows, jumps)) = self.rows.get_mut(at) else {
            return Ok(());
        };
        let nest = &machine.program.nests[0];
        if !masked(&nest[at]) || !nest[at + 1..].iter().any(masked) {
            return Ok(());
        }
        let Some(row) = Row::new(machine, std::mem::take(jumps)) else {
            return Ok(());
        };
        if rows.len() == ROWS {
            rows.remove(0);
        }
        rows.push(row);
        let Some(passed) = repeat_rows(machine, rows, to)? else {
            return Ok(());
        };
        self.seen[0][at].clear();
        self.forget_rows(at);
        self.note(&Jumped {
            at,
            around,
            whole: (digit, digit + passed),
            period: 1,
            times: passed,
            plain: false,
        });
        Ok(())
    }
}

/// Whether the state has come round since a snapshot of which it is alike, but for the clocks of what stands still.
fn recurs(
    machine: &Machine<'_>,
    new: &Snapshot,
    old: &Snapshot,
    to: At<'_>,
    joint: usize,
) -> Option<Found> {
    let (program, reference) = (to.program, to.reference);
    if !clocks_alike(&new.state, &old.state) {
        return None;
    }
    let marking = &program.ops[reference];
    let digit = |state: &State| to.digit(marking, &state.ops[reference].cursor);
    let period = digit(&new.state).checked_sub(digit(&old.state))?;
    let home = to.loops(marking);
    // Of loops that count as one all words are apart, and no condition has a say.
    let joint = to.first < to.at || to.at < joint;
    if period == 0 || !joint && !home.iter().all(|l| to.groups.repeat(l, period)) {
        return None;
    }
    let mut times = u64::MAX;
    let mut range: Option<(u64, u64)> = None;
    let mut moved = Vec::new();
    let ops = new.state.ops.iter().zip(&old.state.ops);
    let ops = ops
        .zip(&program.ops)
        .map(|((a, b), op)| (op, &a.cursor, &b.cursor));
    let streams = new.state.streams.iter().zip(&old.state.streams);
    let streams = streams
        .zip(machine.walkers.iter())
        .map(|((a, b), op)| (op, &a.cursor, &b.cursor));
    for (op, new, before) in ops.chain(streams) {
        let step = moves(op, new, before, to, period)?;
        moved.push(step);
        if step {
            let digit = to.digit(op, new);
            let left = to.full_left(op, new).checked_sub(digit)?;
            times = times.min(left / period);
            let low = to.digit(op, before);
            // A running value's first update waits for none before it; between loops that count as one none goes on.
            if low == 0 && !joint {
                return None;
            }
            range = Some(range.map_or((low, digit), |(a, b): (u64, u64)| {
                (a.min(low), b.max(digit))
            }));
        }
    }
    // A movement that stood still and may start, may start at another time in the next period.
    let queues = &new.state.ready[machine.units()..];
    let streams = new.state.streams.iter().zip(queues);
    let due = streams
        .zip(&moved[new.state.ops.len()..])
        .any(|((stream, ready), moved)| !moved && !stream.cursor.done && ready.is_some());
    if due {
        return None;
    }
    let (low, high) = range?;
    if let ([home], false) = (home, joint) {
        times = times.min(conditions_allow(machine, to, home, low, high, period)?);
    }
    // What stood still must not be due before the jump ends.
    while times > 0 && !order_holds(machine, &moved, to, times * period) {
        times /= 2;
    }
    Some(Found {
        times,
        moved,
        period,
        low,
        high,
    })
}

/// Whether units' clocks moved on with time, or not at all: what did not move waits, and its time stays.
fn clocks_alike(new: &State, old: &State) -> bool {
    let mut clocks = new.unit_free.iter().zip(&old.unit_free);
    let alike = |new_time: u64, old_time: u64| {
        new_time == old_time || new_time.wrapping_sub(new.now) == old_time.wrapping_sub(old.now)
    };
    clocks.all(|(a, b)| alike(*a, *b)) && alike(new.end, old.end)
}

/// Whether a walk moved on by the period in the loop; none where it moved otherwise.
fn moves(op: &Op, new: &Cursor, before: &Cursor, to: At<'_>, period: u64) -> Option<bool> {
    let marking = &to.program.ops[to.reference];
    let of = to.first..=to.at;
    let mut pairs = digits(new).zip(digits(before)).enumerate();
    if new.done != before.done || !pairs.all(|(at, (a, b))| a == b || of.contains(&at)) {
        return None;
    }
    match to.digit(op, new).checked_sub(to.digit(op, before))? {
        0 => Some(false),
        by => (by == period && !new.done && to.loops(op) == to.loops(marking)).then_some(true),
    }
}

/// How many periods on all tiles stay whole, where a condition has a say along the loop's rank.
fn conditions_allow(
    machine: &Machine<'_>,
    to: At<'_>,
    home: &NamedLoop,
    low: u64,
    high: u64,
    period: u64,
) -> Option<u64> {
    let Some(occupied) = &machine.program.occupied else {
        return Some(u64::MAX);
    };
    if !occupied.depends_on(home.cut.rank) {
        return Some(u64::MAX);
    }
    let op = &machine.program.ops[to.reference];
    let cursor = &machine.state.ops[to.reference].cursor;
    let mut tile = machine.program.whole;
    for (index, digit) in digits(cursor).enumerate().take(to.at) {
        let l = loop_at(machine.program, op, index)?;
        inside(&mut tile, l, digit);
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
fn order_holds(machine: &Machine<'_>, moved: &[bool], to: At<'_>, by: u64) -> bool {
    let program = machine.program;
    let mut furthest = None;
    for (i, state) in machine.state.ops.iter().enumerate() {
        if moved[i] && !state.cursor.done {
            let mut cursor = state.cursor.clone();
            to.shift(&program.ops[i], &mut cursor, by);
            furthest = furthest.max(Some(cursor.key(program, &program.ops[i])));
        }
    }
    let still = |i: usize| !moved[i] && !machine.state.ops[i].cursor.done;
    (0..machine.state.ops.len())
        .filter(|i| still(*i))
        .all(|i| Some(machine.state.ops[i].key) > furthest)
}
