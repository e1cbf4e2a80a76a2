//! What is remembered of the end of an iteration.

use super::numbers::{Split, split};
use crate::{
    events::{Machine, State, Totals},
    program::{Cursor, Digits, Key},
};

/// The state at the end of an iteration.
pub(super) struct Snapshot {
    /// As it was.
    pub state: State,
    /// What had been counted.
    pub totals: Totals,
    /// What is compared.
    pub relative: State,
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
