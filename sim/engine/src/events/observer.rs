//! Who watches a run.

use crate::program::{Ports, Tile};

/// What is reported of a task as it starts.
pub struct Task<'a> {
    /// The block.
    pub block: &'a str,
    /// The Einsum.
    pub einsum: &'a str,
    /// The array.
    pub unit: usize,
    /// The first cycle in PE (0, 0).
    pub start: u64,
    /// Cycles until its last step has ended there.
    pub duration: u64,
    /// First coordinate and length of each base rank.
    pub tile: &'a Tile,
}

/// What is reported of a movement as it starts.
pub struct Movement<'a> {
    /// The tensor.
    pub tensor: usize,
    /// The outer memory.
    pub outer: usize,
    /// Towards the arrays, or away from them.
    pub inward: bool,
    /// The first cycle of the channel.
    pub start: u64,
    /// Cycles of the channel.
    pub duration: u64,
    /// Bytes.
    pub bytes: u128,
    /// First coordinate and length of each base rank.
    pub tile: &'a Tile,
}

/// Who watches a run.
pub trait Observer {
    /// A task starts.
    fn task(&mut self, _task: &Task<'_>) {}
    /// A movement starts.
    fn movement(&mut self, _movement: &Movement<'_>) {}
    /// Ports are used.
    fn ports(&mut self, _ports: &Ports) {}
    /// A block starts: all times until the next one count from its start, `before` cycles after the run's.
    fn block(&mut self, _index: usize, _before: u64) {}
    /// Whether every task has to be seen: no jump then.
    fn sees_all(&self) -> bool {
        false
    }
    /// Whether enough has been seen: the run ends then, and what it returns is that of a part. Nothing that has not
    /// been reported starts before `now` (ports are read before it by no more than the longest way of a word).
    fn enough(&mut self, _now: u64) -> bool {
        false
    }
}

/// Nobody watches.
pub struct Unseen;
impl Observer for Unseen {}
