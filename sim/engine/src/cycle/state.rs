//! What the machine remembers of Einsums, streams and kept tiles.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Cause, timing::Steps};
use crate::program::{Cursor, Key, Ports, Tile};

/// A task that has started.
#[derive(Clone, Debug)]
pub(super) struct Started {
    /// Its place in its Einsum's sequence.
    pub place: u128,
    /// How many tasks of its Einsum started before it.
    pub number: u64,
    /// When its group's steps started.
    pub start: u64,
    /// Its steps.
    pub steps: Steps,
}

/// A movement that has been given its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Which tile, or task.
    pub place: u128,
    /// First and last data there.
    pub first: u64,
    /// All there.
    pub whole: u64,
    /// What made it late.
    pub cause: Option<Cause>,
}

/// A stream's state.
#[derive(Clone, Debug)]
pub(super) struct StreamState {
    /// Where it stands.
    pub cursor: Cursor,
    /// The place of its next movement.
    pub place: u128,
    /// The tile of its next movement.
    pub tile: Tile,
    /// The tile of the last.
    pub last: Option<Tile>,
    /// Movements whose times may still matter.
    pub arrived: VecDeque<Arrived>,
    /// Places of the movements, the latest last, as many as tiles may be there at once.
    pub recent: VecDeque<u128>,
    /// Movements so far.
    pub issued: u64,
}

/// An Einsum's state.
#[derive(Clone, Debug)]
pub(super) struct OpState {
    pub cursor: Cursor,
    pub key: Key,
    pub tile: Tile,
    pub place: u128,
    /// Tasks that have started.
    pub started: u64,
    pub history: VecDeque<Started>,
    /// By read and for the output: the last tile whose words moved.
    pub last: Vec<Option<Tile>>,
    /// Generations that it wrote, the latest last.
    pub recent: VecDeque<u128>,
}

/// The last use of a kept tile by one of its users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Use {
    pub generation: u128,
    pub end: u64,
}

/// The steps of an epoch that units go through together.
#[derive(Clone, Debug)]
pub(super) struct Barrier {
    /// Scope, epoch and segment that run.
    pub open: Option<(u64, i64, usize)>,
    /// When it began, in the frame of the first array.
    pub floor: u64,
    /// When all that has started in it ends.
    pub end: u64,
    /// When its epoch began, and the cycles that the mapping states for it.
    pub epoch: (u64, u64),
    /// By phase and unit: cycles of what has started in the epoch.
    pub work: Vec<Vec<u64>>,
    /// Why it began when it did.
    pub cause: Cause,
    /// The longest wait in it, on the unit that ends last.
    pub waited: (u64, Cause),
}

/// A start that is possible.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub time: u64,
    pub cause: Cause,
}

/// Uses of ports that a start needs.
pub(super) type Wanted = SmallVec<[Ports; 8]>;

/// Why nothing can be said yet.
pub(super) type Blocked = Cause;

/// Totals of a block.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Words moved, by transfer.
    pub words: Vec<u128>,
    /// By unit: busy cycles.
    pub busy: Vec<u64>,
    /// By unit and cause: waiting cycles.
    pub waits: Vec<Vec<(Cause, u64)>>,
    /// Tasks started.
    pub tasks: u64,
    /// Tasks that were simulated, and not jumped over.
    pub simulated: u64,
    /// By memory: cycles in which its channel moved data.
    pub channel: Vec<u64>,
}

impl Totals {
    pub(super) fn wait(&mut self, unit: usize, cause: Cause, cycles: u64) {
        if cycles == 0 {
            return;
        }
        let list = &mut self.waits[unit];
        match list.iter_mut().find(|(c, _)| *c == cause) {
            Some((_, sum)) => *sum += cycles,
            None => list.push((cause, cycles)),
        }
    }
}

/// A group's task that may start.
#[derive(Clone)]
pub(super) struct Turn {
    pub members: SmallVec<[usize; 4]>,
    pub steps: SmallVec<[Steps; 2]>,
    pub load: u64,
    pub shift: u64,
}
