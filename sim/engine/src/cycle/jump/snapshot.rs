//! What is remembered of the end of an iteration.

use crate::{
    events::{State, Totals},
    program::Cursor,
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
