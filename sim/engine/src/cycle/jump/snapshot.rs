//! What is remembered of the end of an iteration.

use std::collections::VecDeque;

use super::{
    numbers::{Split, split},
    relative::Alike,
};
use rustc_hash::FxHashSet;

use crate::{
    events::{Machine, State, Totals},
    program::{Cursor, Digits, Key},
};

/// Snapshots of one loop that are compared at once. What takes turns in a memory, on a channel or among ports comes round
/// after the least common multiple of a few small numbers (1, 2, 3 or 4 tiles or requests), which is at most 12 and mostly
/// at most 8.
const REMEMBERED: usize = 8;

/// States of one loop of which the mark is remembered, to find what comes round later: it bounds the memory, 8 B each.
const MARKS: usize = 1 << 16;

/// The state at the end of an iteration.
pub(super) struct Snapshot {
    /// As it was.
    pub state: State,
    /// What had been counted.
    pub totals: Totals,
    /// A mark of the state apart from when it was: states that are alike have the same.
    pub mark: u64,
    /// The state apart from when it was.
    pub alike: Alike,
}

/// What is remembered of the ends of a loop's iterations.
#[derive(Default)]
pub(super) struct Seen {
    recent: VecDeque<Snapshot>,
    marks: FxHashSet<u64>,
    /// The first state of which the mark came round after longer.
    anchor: Option<Snapshot>,
}

impl Seen {
    /// Snapshots that may be alike one with a mark, the latest first.
    pub fn alike(&self, mark: u64) -> impl Iterator<Item = &Snapshot> {
        let all = self.recent.iter().rev().chain(&self.anchor);
        all.filter(move |s| s.mark == mark)
    }

    /// Remembers a snapshot.
    pub fn push(&mut self, new: Snapshot) {
        let again = self.marks.contains(&new.mark);
        self.recent.push_back(new);
        if self.recent.len() <= REMEMBERED {
            return;
        }
        let Some(old) = self.recent.pop_front() else {
            return;
        };
        if self.marks.len() < MARKS {
            self.marks.insert(old.mark);
        }
        // Where marks come round, the next time is compared with this one.
        if again && self.anchor.is_none() {
            self.anchor = Some(old);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.recent.clear();
        self.marks.clear();
        self.anchor = None;
    }
}

/// Digits of an Einsum's loops, its folds last.
pub(super) fn digits(cursor: &Cursor) -> impl Iterator<Item = u64> + '_ {
    cursor.digits.iter().chain(&cursor.folds).copied()
}

/// A jump that a row made along a loop inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jumped {
    /// The loop.
    pub at: usize,
    /// Digits of the loops around it.
    pub around: Digits,
    /// Its iterations that were seen to be whole: first, and behind the last.
    pub whole: (u64, u64),
    /// Iterations of a period.
    pub period: u64,
    /// Periods that were left out.
    pub times: u64,
    /// Whether over iterations that are all alike, and not over rows.
    pub plain: bool,
}

/// The end of a row.
pub(super) struct Row {
    pub split: Split,
    pub numbers: Vec<i128>,
    pub now: i128,
    /// Of Einsums, then of streams: digits of the walk of its tasks, and of that through every tile.
    pub walks: Vec<[Digits; 2]>,
    pub keys: Vec<Key>,
    pub open: Option<(u64, i64, usize)>,
    /// By Einsum: tasks started; by stream: movements.
    pub started: (Vec<u64>, Vec<u64>),
    /// The jumps since the row before.
    pub jumps: Vec<Jumped>,
}

impl Row {
    /// The state at the end of a row; none where a number is too large.
    pub fn new(machine: &Machine<'_>, jumps: Vec<Jumped>) -> Option<Self> {
        let state = &machine.state;
        let (split, numbers) = split(state, &machine.totals, machine.program)?;
        let walk = |c: &Cursor| {
            let own = c.digits.iter().chain(&c.folds).copied();
            [own.collect(), Digits::from_slice(c.walked())]
        };
        let ops = state.ops.iter().map(|o| &o.cursor);
        let walkers = ops.chain(state.streams.iter().map(|s| &s.cursor));
        Some(Self {
            split,
            numbers,
            now: state.now.into(),
            walks: walkers.map(walk).collect(),
            keys: state.ops.iter().map(|o| o.key).collect(),
            open: state.barrier.open,
            started: (
                state.ops.iter().map(|o| o.started).collect(),
                state.streams.iter().map(|s| s.issued).collect(),
            ),
            jumps,
        })
    }
}

/// A state that has come round.
pub(super) struct Found {
    /// How often the iterations since may be repeated without looking.
    pub times: u64,
    /// Which Einsums and streams moved in them.
    pub moved: Vec<bool>,
    /// Iterations of them.
    pub period: u64,
    /// The first and the last iteration at which one of them stood.
    pub low: u64,
    pub high: u64,
}

/// Where parts of a row go from one row to the next.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    /// The loop of the rows, and the one inside along which they grow, of the block's nest.
    pub at: usize,
    pub band: usize,
    /// Iterations of each.
    pub by: u64,
    pub along: u64,
}

/// A stretch of a row that its jump left out.
pub(super) struct Stretch<'j> {
    pub jump: &'j Jumped,
    /// How far its first iteration moves from row to row, and the one behind its last.
    pub moves: (u64, u64),
    /// Periods that it has more, or fewer, in the next row.
    pub more: i64,
}
