//! All that changes while a program runs.

use std::collections::VecDeque;

use einflow_mappings::{mapped::MappedCascade, nest::CountError};
use smallvec::SmallVec;

use super::{cause::Cause, timing::Steps};
use crate::{
    hardware::{Bandwidth, Channel, PortTable},
    program::{Cursor, Key, Op, Ports, Program, Stream, Tile},
};

/// The state of a machine: what starts when from now on follows from it and the program alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The cycle up to which all that starts has started, in the frame of the first array.
    pub now: u64,
    /// The Einsums.
    pub ops: Vec<OpState>,
    /// The streams.
    pub streams: Vec<StreamState>,
    /// By keep and Einsum: tiles used, the latest last.
    pub uses: Vec<Vec<VecDeque<Use>>>,
    /// By unit: when it is free.
    pub unit_free: Vec<u64>,
    /// The segment that runs.
    pub barrier: Barrier,
    /// By memory: its ports.
    pub ports: Vec<PortTable>,
    /// By memory: its channel.
    pub channels: Vec<Channel>,
    /// By memory: its bandwidth, where arrays and other memories share it.
    pub bandwidths: Vec<Option<Bandwidth>>,
    /// The last cycle in which anything happens.
    pub end: u64,
    /// Candidates of units, then streams; none: not known.
    pub ready: Vec<Option<Candidate>>,
    /// As `ready`: what kept a queue from being ready, where something did when it was last asked.
    pub blocked: Vec<Option<Held>>,
}

/// What keeps a queue from being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// What does now.
    pub cause: Cause,
    /// From when on.
    pub since: u64,
    /// What did until then.
    pub before: Option<Cause>,
}

impl Held {
    /// Something else does from `now` on.
    pub fn by(held: Option<Self>, cause: Cause, now: u64) -> Self {
        let before = held.and_then(|h| match h.since == now {
            true => h.before,
            false => Some(h.cause),
        });
        Self {
            cause,
            since: now,
            before,
        }
    }

    /// What did in the cycle before `now`, where something did and ended: of reasons that ended in the same cycle the
    /// first, as they are asked for in order.
    pub fn until(self, now: u64) -> Option<Cause> {
        match self.since == now {
            true => self.before,
            false => Some(self.cause),
        }
    }
}

/// A task that has started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Started {
    /// Its place in its Einsum's sequence.
    pub place: u128,
    /// How many tasks of its Einsum started before it.
    pub number: u64,
    /// When its group's steps started.
    pub start: u64,
    /// Its steps.
    pub steps: Steps,
}

impl Started {
    /// When its last step has ended in PE (0, 0).
    pub fn end(&self) -> u64 {
        self.start + self.steps.end()
    }
}

/// A movement that has been given its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arrived {
    /// Which tile, or task.
    pub place: u128,
    /// Which tile of the outer memory it is a part of.
    pub around: u128,
    /// The channel has taken its words: their room is free.
    pub taken: u64,
    /// The first data are there; of a movement outward, as `taken`.
    pub first: u64,
    /// All there.
    pub whole: u64,
    /// What made it late.
    pub cause: Option<Cause>,
}

/// A stream's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamState {
    /// Where it stands.
    pub cursor: Cursor,
    /// The place of its next movement: the number of a kept tile.
    pub place: u128,
    /// The number of the kept tile in the outer memory around it.
    pub around: u128,
    /// The tile of its next movement.
    pub tile: Tile,
    /// The tile of the last.
    pub last: Option<Tile>,
    /// Movements whose times may still matter.
    pub arrived: VecDeque<Arrived>,
    /// Tiles of the memory to which it brings words, the latest last, as many as may be there at once.
    pub recent: VecDeque<u128>,
    /// Movements so far.
    pub issued: u64,
}

/// An Einsum's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpState {
    /// Where it stands.
    pub cursor: Cursor,
    /// When its next task is due.
    pub key: Key,
    /// The next task's tile.
    pub tile: Tile,
    /// The next task's place in its Einsum's sequence.
    pub place: u128,
    /// Tasks that have started.
    pub started: u64,
    /// Tasks whose times may still matter.
    pub history: VecDeque<Started>,
    /// The kept tiles that it uses: keep and number.
    pub kept: SmallVec<[(usize, u128); 4]>,
    /// By read and for the output: the last tile whose words moved.
    pub last: Vec<Option<Tile>>,
    /// Tiles of its keep that it wrote, the latest last, as many as may be there at once.
    pub recent: VecDeque<u128>,
}

/// The last use of a kept tile by one of its users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// The tile's number.
    pub generation: u128,
    /// When the use has ended.
    pub end: u64,
}

/// The steps of an epoch that units go through together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Barrier {
    /// Scope, epoch and segment that run.
    pub open: Option<(u64, i64, usize)>,
    /// When it began, in the frame of the first array.
    pub floor: u64,
    /// When all that has started in it ends.
    pub end: u64,
    /// When its epoch began.
    pub epoch: u64,
    /// By phase and unit: cycles of what has started in the epoch.
    pub work: Vec<Vec<u64>>,
    /// Why it began when it did.
    pub cause: Cause,
    /// The longest wait in it, on the unit that ends last.
    pub waited: (u64, Cause),
}

/// A start that is possible.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// When.
    pub time: u64,
    /// What ended last of all that it waited for.
    pub cause: Cause,
}

/// Uses of ports that a start needs.
pub type Wanted = SmallVec<[Ports; 8]>;

/// Why nothing can be said of a start yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What it waits for.
    pub cause: Cause,
    /// Who has to go on first.
    pub whom: Whom,
}

/// Whom a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// An Einsum's next task.
    Op(usize),
    /// A stream's next movement.
    Stream(usize),
    /// All that is left of the segment that runs.
    Segment,
}

/// A group's task that may start.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The Einsums that take turns.
    pub members: SmallVec<[usize; 4]>,
    /// By member: its steps.
    pub steps: SmallVec<[Steps; 2]>,
    /// Cycles before the first step.
    pub load: u64,
    /// Cycles after the last.
    pub shift: u64,
}

impl Turn {
    /// Which of the members an Einsum is.
    pub fn position(&self, op: usize) -> Option<usize> {
        self.members.iter().position(|m| *m == op)
    }
}

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
    /// Adds waiting cycles of a unit.
    pub fn wait(&mut self, unit: usize, cause: Cause, cycles: u64) {
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

impl OpState {
    fn new(program: &Program, op: &Op) -> Result<Self, CountError> {
        let cursor = Cursor::first(program, op)?;
        Ok(Self {
            key: cursor.key(program, op),
            tile: cursor.tile(program, op),
            place: cursor.place(program, op),
            kept: kept(program, op, &cursor),
            cursor,
            started: 0,
            history: VecDeque::new(),
            last: vec![None; op.reads.len() + 1],
            recent: VecDeque::new(),
        })
    }

    /// Moves on to the next task.
    ///
    /// # Errors
    /// Conditions that cannot be tested.
    pub fn advance(&mut self, program: &Program, op: &Op) -> Result<(), CountError> {
        self.started += 1;
        self.cursor.advance(program, op)?;
        if !self.cursor.done {
            self.stand(program, op);
        }
        Ok(())
    }

    /// What follows from where its walk stands.
    pub fn stand(&mut self, program: &Program, op: &Op) {
        self.key = self.cursor.key(program, op);
        self.tile = self.cursor.tile(program, op);
        self.place = self.cursor.place(program, op);
        self.kept = kept(program, op, &self.cursor);
    }
}

/// The kept tiles at which an Einsum's walk stands.
fn kept(program: &Program, op: &Op, cursor: &Cursor) -> SmallVec<[(usize, u128); 4]> {
    let number = |keep: usize| program.kept_tile(&program.keeps[keep], op, &cursor.digits);
    op.uses.iter().map(|u| (u.keep, number(u.keep))).collect()
}

impl StreamState {
    fn new(program: &Program, stream: &Stream, walker: &Op) -> Result<Self, CountError> {
        let cursor = Cursor::first(program, walker)?;
        let mut state = Self {
            place: 0,
            around: 0,
            tile: program.whole,
            cursor,
            last: None,
            arrived: VecDeque::new(),
            recent: VecDeque::new(),
            issued: 0,
        };
        state.stand(program, stream, walker);
        Ok(state)
    }

    /// Moves on to the next movement: kept tiles with the words of the one before are that one.
    ///
    /// # Errors
    /// Conditions that cannot be tested.
    pub fn advance(
        &mut self,
        program: &Program,
        stream: &Stream,
        walker: &Op,
    ) -> Result<(), CountError> {
        self.issued += 1;
        self.last = Some(self.tile);
        let before = self.place;
        loop {
            self.cursor.advance(program, walker)?;
            if self.cursor.done {
                return Ok(());
            }
            self.stand(program, stream, walker);
            if stream.keep().is_none() || self.place != before {
                return Ok(());
            }
        }
    }

    /// The last movement up to a place, none where there was none; none at all while one of them is to come.
    pub fn moved(&self, place: u128) -> Option<Option<&Arrived>> {
        let over = self.cursor.done || self.place > place;
        over.then(|| self.arrived.iter().rev().find(|a| a.place <= place))
    }

    /// The same up to the last one within a tile of the outer memory.
    pub fn moved_within(&self, around: u128) -> Option<Option<&Arrived>> {
        let over = self.cursor.done || self.around > around;
        over.then(|| self.arrived.iter().rev().find(|a| a.around <= around))
    }

    /// What follows from where its walk stands.
    pub fn stand(&mut self, program: &Program, stream: &Stream, walker: &Op) {
        let number = |keep: usize| {
            let plan = &program.keeps[keep];
            program.kept_tile(plan, walker, &self.cursor.digits)
        };
        self.place = match stream.keep() {
            Some(keep) => number(keep),
            None => self.cursor.place(program, walker),
        };
        self.around = stream.around.map_or(0, number);
        self.tile = self.cursor.tile(program, walker);
    }
}

impl State {
    /// Before anything has started; `walkers` are the walks of the streams.
    ///
    /// # Errors
    /// Conditions that cannot be tested.
    pub fn new(
        mapped: &MappedCascade,
        program: &Program,
        walkers: &[Op],
    ) -> Result<Self, CountError> {
        let accelerator = &mapped.accelerator;
        let units = accelerator.arrays.len();
        let memories = || accelerator.memories.iter();
        let ops = program.ops.iter().map(|op| OpState::new(program, op));
        let streams = program.streams.iter().zip(walkers);
        let streams = streams.map(|(stream, op)| StreamState::new(program, stream, op));
        Ok(Self {
            now: 0,
            ops: ops.collect::<Result<_, _>>()?,
            streams: streams.collect::<Result<_, _>>()?,
            uses: vec![vec![VecDeque::new(); program.ops.len()]; program.keeps.len()],
            unit_free: vec![0; units],
            barrier: Barrier {
                open: None,
                floor: 0,
                end: 0,
                epoch: 0,
                work: vec![vec![0; units]; program.drains.len()],
                cause: Cause::Filling,
                waited: (0, Cause::Mapping),
            },
            ports: memories()
                .map(|m| PortTable::new(m.ports, m.banks))
                .collect(),
            channels: memories().map(|m| Channel::new(accelerator, m)).collect(),
            bandwidths: (0..accelerator.memories.len())
                .map(|m| Bandwidth::new(accelerator, m))
                .collect(),
            end: 0,
            ready: vec![None; units + walkers.len()],
            blocked: vec![None; units + walkers.len()],
        })
    }

    /// Whether all has run.
    pub fn is_done(&self) -> bool {
        self.ops.iter().all(|o| o.cursor.done) && self.streams.iter().all(|s| s.cursor.done)
    }

    /// The number of a keep's tile that the next task of one of its users uses.
    pub fn generation(&self, member: usize, keep: usize) -> u128 {
        let mut kept = self.ops[member].kept.iter();
        kept.find(|(k, _)| *k == keep).map_or(0, |(_, tile)| *tile)
    }
}
