//! The exact jump over a steady state.
//!
//! At the end of an iteration of a loop the machine's whole state is compared with what it was some iterations ago:
//! times relative to now, what
//! buffers hold, queues, places in the loops up to that loop's own digit. Where both are alike, the same will happen
//! again, and again, as long as no task can see the loop's last iteration or a change of a condition: those iterations
//! are not simulated, only counted. Jumps nest.

mod relative;
mod repeat;
mod snapshot;

use einflow_mappings::{mapped::NamedLoop, nest::Term};

use crate::{
    events::{BackEnd, EventError, Machine, State, Turn},
    program::{Cursor, Op, Program, inside},
};
use relative::{At, relative};
use repeat::repeat;
use snapshot::{Snapshot, digits};

/// Snapshots of one loop that are compared. What takes turns in a memory, on a channel or among ports comes round after the
/// least common multiple of a few small numbers (1, 2, 3 or 4 tiles or requests), which is at most 12 and mostly at most 8;
/// what comes round later is walked. It bounds the memory and the time of a look, and bears on no result.
const REMEMBERED: usize = 8;

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
    seen: Vec<Vec<Vec<Snapshot>>>,
}

fn loop_at<'a>(program: &'a Program, op: &'a Op, index: usize) -> Option<&'a NamedLoop> {
    let loops = &program.nests[op.at.0];
    loops
        .get(index)
        .or_else(|| op.folds.get(index - loops.len()))
}

impl Passed {
    /// Steady states are jumped over, or not.
    pub fn new(program: &Program, jump: bool) -> Self {
        Self {
            jumps: jump.then(|| Jumps::new(program)),
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
    fn new(program: &Program) -> Self {
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
                (0..loops).map(|_| Vec::new()).collect()
            })
            .collect();
        Self { references, seen }
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
        let to = At {
            program,
            reach: machine.reach,
            reference,
            at,
        };
        let new = Snapshot {
            state: machine.state.clone(),
            totals: machine.totals.clone(),
            relative: relative(&machine.state, to),
        };
        let mut jumped = false;
        for old in list.iter().rev() {
            if let Some((times, moved)) = recurs(machine, &new, old, to) {
                jumped = repeat(machine, &new, old, to, times, &moved)?;
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
        list.push(new);
        Ok(())
    }
}

/// How often the iterations since a snapshot may be repeated without looking, and which Einsums and streams moved in
/// them; none where the state has not come round.
fn recurs(
    machine: &Machine<'_>,
    new: &Snapshot,
    old: &Snapshot,
    to: At<'_>,
) -> Option<(u64, Vec<bool>)> {
    let At {
        program,
        reference,
        at,
        ..
    } = to;
    if !clocks_alike(&new.state, &old.state) || new.relative != old.relative {
        return None;
    }
    let digit = |state: &State| digits(&state.ops[reference].cursor).nth(at).unwrap_or(0);
    let period = digit(&new.state).checked_sub(digit(&old.state))?;
    let home = loop_at(program, &program.ops[reference], at)?;
    if period == 0 || !groups_repeat(machine, home, period) {
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
        .zip(&machine.walkers)
        .map(|((a, b), op)| (op, &a.cursor, &b.cursor));
    for (op, new, before) in ops.chain(streams) {
        let step = moves(program, op, new, before, at, period, home)?;
        moved.push(step);
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
    times = times.min(conditions_allow(machine, to, home, low, high, period)?);
    // What stood still must not be due before the jump ends.
    while times > 0 && !order_holds(machine, &moved, at, times * period) {
        times /= 2;
    }
    Some((times, moved))
}

/// Whether units' clocks moved on with time, or not at all: what did not move waits, and its time stays.
fn clocks_alike(new: &State, old: &State) -> bool {
    let mut clocks = new.unit_free.iter().zip(&old.unit_free);
    let alike = |new_time: u64, old_time: u64| {
        new_time == old_time || new_time.wrapping_sub(new.now) == old_time.wrapping_sub(old.now)
    };
    clocks.all(|(a, b)| alike(*a, *b)) && alike(new.end, old.end)
}

/// Whether coordinates that share a word, and those of which words begin anew, stand as they did a period before.
fn groups_repeat(machine: &Machine<'_>, home: &NamedLoop, period: u64) -> bool {
    let transfers = &machine.mapped.blocks[machine.block].transfers;
    let of_transfers = transfers.iter().map(|t| &t.projection);
    let of_reads = machine.program.ops.iter().flat_map(|o| &o.reads);
    let mut all = of_transfers.chain(of_reads.map(|r| &r.projection));
    let by = period.saturating_mul(home.cut.step);
    let group = |t: &Term| t.unit.max(1).saturating_mul(t.modulus.unwrap_or(1).max(1));
    // Where words do not exist, tiles of one size have more or fewer of them.
    all.all(|p| {
        let mut terms = p.all_dims().flat_map(|d| &d.terms);
        p.is_even_along(home.cut.rank)
            && terms.all(|t| t.rank != home.cut.rank || by.is_multiple_of(group(t)))
    })
}

/// Whether a cursor moved on by the period in the loop; none where it moved otherwise.
fn moves(
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
fn order_holds(machine: &Machine<'_>, moved: &[bool], at: usize, by: u64) -> bool {
    let program = machine.program;
    let mut furthest = None;
    for (i, state) in machine.state.ops.iter().enumerate() {
        if moved[i] && !state.cursor.done {
            let mut cursor = state.cursor.clone();
            cursor.shift(program, &program.ops[i], at, by);
            furthest = furthest.max(Some(cursor.key(program, &program.ops[i])));
        }
    }
    let still = |i: usize| !moved[i] && !machine.state.ops[i].cursor.done;
    (0..machine.state.ops.len())
        .filter(|i| still(*i))
        .all(|i| Some(machine.state.ops[i].key) > furthest)
}
