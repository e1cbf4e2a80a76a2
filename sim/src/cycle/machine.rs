//! The machine: units, ports and channels, and the tasks that run on them in the order of time.

use std::collections::VecDeque;

use einflow_mappings::{mapped::MappedCascade, nest::CountError};
use smallvec::{SmallVec, smallvec};

use super::{
    cause::{Cause, Side},
    jump::Jumps,
    timing::{Pieces, Steps, rounds},
};
use crate::{
    hardware::{Channel, PortTable},
    program::{Cursor, Key, Maker, Need, Op, Ports, Program, Read, StreamKind, Tile, Way, needed, stored},
};

/// Why a block could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// Tiles that cannot be tested or counted.
    #[error("{0}")]
    Count(#[from] CountError),
    /// What the analytic engine cannot count either.
    #[error("{0}")]
    Analytic(#[from] crate::analytic::AnalyticError),
    /// More cycles or words than can be counted.
    #[error("a time overflows 64 bits")]
    Overflow,
    /// Nothing can start: a mapping that waits for itself.
    #[error("nothing can start at cycle {time}: {waits}")]
    Deadlock {
        /// When.
        time: u64,
        /// Who waits for what.
        waits: String,
    },
    /// One task alone needs more ports than there are.
    #[error("{einsum} needs more rows a cycle than the {ports} ports of `{memory}` move")]
    Ports {
        /// The Einsum, or the tensor that is loaded.
        einsum: String,
        /// The memory.
        memory: String,
        /// Its ports.
        ports: u64,
    },
}

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
    /// Whether every task has to be seen: no jump then.
    fn sees_all(&self) -> bool {
        false
    }
}

/// Nobody watches.
pub struct Unseen;
impl Observer for Unseen {}

/// A start that is possible.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub time: u64,
    pub cause: Cause,
}

/// Uses of ports that a start needs.
type Wanted = SmallVec<[Ports; 8]>;

/// Why nothing can be said yet.
type Blocked = Cause;

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
    fn wait(&mut self, unit: usize, cause: Cause, cycles: u64) {
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
struct Turn {
    members: SmallVec<[usize; 4]>,
    steps: SmallVec<[Steps; 2]>,
    load: u64,
    shift: u64,
}

pub(super) struct Machine<'a> {
    pub mapped: &'a MappedCascade,
    pub program: &'a Program,
    pub block: usize,
    pub stream_ops: Vec<Op>,
    pub now: u64,
    pub ops: Vec<OpState>,
    pub streams: Vec<StreamState>,
    /// By keep and user (Einsums, then streams).
    pub uses: Vec<Vec<VecDeque<Use>>>,
    pub unit_free: Vec<u64>,
    pub barrier: Barrier,
    pub ports: Vec<PortTable>,
    pub channels: Vec<Channel>,
    pub totals: Totals,
    /// The last cycle in which anything happens.
    pub end: u64,
    /// Candidates of units, then streams; none: not known.
    pub ready: Vec<Option<Candidate>>,
    /// Words of tiles of these lengths.
    counted: Vec<Vec<(Tile, u128)>>,
    /// Ends of iterations that were passed since the last look: nest, and the walk before.
    passed: Vec<(usize, Cursor)>,
    /// By unit: what is next.
    turns: Vec<Option<Turn>>,
    reach: u64,
    jumps: Option<Jumps>,
}

impl<'a> Machine<'a> {
    pub fn new(
        mapped: &'a MappedCascade,
        program: &'a Program,
        block: usize,
    ) -> Result<Self, CycleError> {
        let accelerator = &mapped.accelerator;
        let units = accelerator.arrays.len();
        let mut ops = Vec::new();
        for op in &program.ops {
            let cursor = Cursor::first(program, op)?;
            ops.push(OpState {
                key: cursor.key(program, op),
                tile: cursor.tile(program, op),
                place: cursor.place(program, op),
                cursor,
                started: 0,
                history: VecDeque::new(),
                last: vec![None; op.reads.len() + 1],
                recent: VecDeque::new(),
            });
        }
        let stream_ops: Vec<Op> = program.streams.iter().map(|s| walker(program, s)).collect();
        let mut streams = Vec::new();
        for op in &stream_ops {
            let cursor = Cursor::first(program, op)?;
            streams.push(StreamState {
                place: cursor.place(program, op),
                tile: cursor.tile(program, op),
                cursor,
                last: None,
                arrived: VecDeque::new(),
                recent: VecDeque::new(),
                issued: 0,
            });
        }
        let users = program.ops.len() + program.streams.len();
        let reads = program.ops.iter().flat_map(|o| &o.reads);
        let makers = reads.clone().filter_map(|r| r.maker.as_ref().map(|m| m.delay));
        let ways = reads.filter_map(|r| r.way.as_ref());
        let ways = ways.chain(program.ops.iter().filter_map(|o| o.result.as_ref()));
        let longest = makers.chain(ways.map(|w| w.delay + w.burst)).max();
        let reach = longest.unwrap_or(0) + 8;
        let mut machine = Self {
            mapped,
            program,
            block,
            now: 0,
            uses: vec![vec![VecDeque::new(); users]; program.keeps.len()],
            unit_free: vec![0; units],
            barrier: Barrier {
                open: None,
                floor: 0,
                end: 0,
                epoch: (0, 0),
                work: vec![vec![0; units]; program.drains.len()],
                cause: Cause::Filling,
                waited: (0, Cause::Mapping),
            },
            ports: accelerator
                .memories
                .iter()
                .map(|m| PortTable::new(m.ports, m.banks))
                .collect(),
            channels: accelerator
                .memories
                .iter()
                .map(|m| Channel::new(accelerator, m))
                .collect(),
            totals: Totals {
                words: vec![0; mapped.blocks[block].transfers.len()],
                busy: vec![0; units],
                waits: vec![Vec::new(); units],
                tasks: 0,
                simulated: 0,
                channel: vec![0; accelerator.memories.len()],
            },
            end: 0,
            ready: vec![None; units + program.streams.len()],
            counted: vec![Vec::new(); mapped.blocks[block].transfers.len()],
            passed: Vec::new(),
            turns: vec![None; units],
            reach,
            jumps: None,
            ops,
            streams,
            stream_ops,
        };
        machine.find_turns();
        Ok(machine)
    }

    /// Finds what is next on every unit.
    pub(super) fn find_turns(&mut self) {
        for unit in 0..self.units() {
            self.turns[unit] = self.find_turn(unit);
        }
    }

    /// Steady states are jumped over from now on.
    pub fn jumping(mut self) -> Self {
        self.jumps = Some(Jumps::new(self.program));
        self
    }

    fn units(&self) -> usize {
        self.unit_free.len()
    }

    pub fn is_done(&self) -> bool {
        self.ops.iter().all(|o| o.cursor.done) && self.streams.iter().all(|s| s.cursor.done)
    }

    /// Starts what may start first, each unit in its own frame of time: a cycle of the schedule is later in an array below another.
    /// False when all is done.
    pub fn step(&mut self, observer: &mut dyn Observer) -> Result<bool, CycleError> {
        self.close_segments();
        let units = self.units();
        let mut best: Option<(u64, usize)> = None;
        for q in 0..units + self.streams.len() {
            if self.ready[q].is_none() {
                let found = if q < units {
                    self.unit_candidate(q)
                } else {
                    self.stream_candidate(q - units)
                };
                self.ready[q] = match found {
                    Some(Ok(mut candidate)) => {
                        candidate.time = candidate.time.max(self.now + self.frame(q));
                        Some(candidate)
                    }
                    _ => None,
                };
            }
            if let Some(candidate) = &self.ready[q] {
                let time = candidate.time - self.frame(q);
                if best.is_none_or(|(best, _)| time < best) {
                    best = Some((time, q));
                }
            }
        }
        let Some((time, q)) = best else {
            if self.is_done() {
                return Ok(false);
            }
            return Err(self.deadlock());
        };
        self.now = time;
        if q < units {
            self.start_unit(q, observer)?;
        } else {
            self.start_stream(q - units, observer)?;
        }
        if !self.passed.is_empty()
            && let Some(mut jumps) = self.jumps.take()
        {
            for (nest, before) in std::mem::take(&mut self.passed) {
                jumps.boundary(self, nest, &before)?;
            }
            self.jumps = Some(jumps);
        }
        Ok(true)
    }

    /// How late the frame of a unit is; streams keep that of the first.
    fn frame(&self, queue: usize) -> u64 {
        self.program.frames.get(queue).copied().unwrap_or(0)
    }

    fn deadlock(&self) -> CycleError {
        let mut waits = Vec::new();
        for unit in 0..self.units() {
            if let Some(Err(cause)) = self.unit_candidate(unit) {
                let turn = self.turn(unit);
                let name = turn.map_or(String::new(), |t| {
                    self.program.ops[t.members[0]].name.clone()
                });
                waits.push(format!("{name} waits for {}", super::describe(self.mapped, cause)));
            }
        }
        for stream in 0..self.streams.len() {
            if let Some(Err(cause)) = self.stream_candidate(stream) {
                let tensor = self.program.streams[stream].tensor;
                let name = &self.mapped.cascade.tensor(tensor).name;
                waits.push(format!(
                    "the movement of {name} waits for {}",
                    super::describe(self.mapped, cause)
                ));
            }
        }
        CycleError::Deadlock {
            time: self.now,
            waits: waits.join("; "),
        }
    }

    // Units.

    /// The group that is next on a unit.
    fn turn(&self, unit: usize) -> Option<&Turn> {
        self.turns[unit].as_ref()
    }

    /// The group that is next on a unit, with all members whose turn it is.
    fn find_turn(&self, unit: usize) -> Option<Turn> {
        let waiting = (0..self.ops.len())
            .filter(|o| self.program.ops[*o].unit == unit && !self.ops[*o].cursor.done);
        let first = waiting.min_by_key(|o| self.ops[*o].key)?;
        let key = self.ops[first].key;
        let group = self.program.ops[first].group;
        let members: SmallVec<[usize; 4]> = self.program.groups[group]
            .ops
            .iter()
            .copied()
            .filter(|o| !self.ops[*o].cursor.done && self.ops[*o].key == key)
            .collect();
        let counts: SmallVec<[(u64, u64); 4]> = members
            .iter()
            .map(|o| {
                let op = &self.program.ops[*o];
                (op.steps_of(&self.ops[*o].tile), op.cycles)
            })
            .collect();
        Some(Turn {
            steps: rounds(&counts),
            load: members.iter().map(|o| self.program.ops[*o].load).sum(),
            shift: members.iter().map(|o| self.program.ops[*o].shift).sum(),
            members,
        })
    }

    /// When a unit's next group may start, ports aside; none: it has no task left.
    fn unit_candidate(&self, unit: usize) -> Option<Result<Candidate, Blocked>> {
        let turn = self.turn(unit)?;
        Some(self.group_candidate(unit, turn, None))
    }

    /// `without`: a maker that starts together with this group.
    fn group_candidate(
        &self,
        unit: usize,
        turn: &Turn,
        without: Option<usize>,
    ) -> Result<Candidate, Blocked> {
        let mut at = Candidate {
            time: self.unit_free[unit],
            cause: Cause::Mapping,
        };
        let mut later = |time: u64, cause: Cause| {
            if time > at.time {
                at = Candidate { time, cause };
            }
        };
        if !self.program.segments.is_empty() {
            let key = self.ops[turn.members[0]].key;
            if self.barrier.open != Some((key.scope, key.epoch, key.segment)) {
                return Err(Cause::Mapping);
            }
            later(self.barrier.floor + self.program.frames[unit], self.barrier.cause);
        }
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &self.program.ops[*member];
            for read in &op.reads {
                self.read_candidate(*member, op, read, turn, steps, without, &mut later)?;
            }
            self.space_candidate(*member, op, turn, steps, &mut later)?;
        }
        if without.is_none() {
            for pair in &self.program.lockstep {
                if turn.members.contains(&pair.maker) && !turn.members.contains(&pair.reader) {
                    let (time, cause) = self.partner(turn, pair.maker, pair.reader)?;
                    later(time, cause);
                }
            }
        }
        Ok(at)
    }

    /// The earliest start of a maker whose reader on another unit takes each word as it comes: not before that reader
    /// is next on its unit and could start in time.
    fn partner(&self, turn: &Turn, maker: usize, reader: usize) -> Result<(u64, Cause), Blocked> {
        let tensor = self.program.ops[maker].output;
        let unit = self.program.ops[reader].unit;
        let wait = Cause::Space(tensor, Side::Array(unit));
        let other = self.turn(unit).ok_or(wait)?;
        let lead = self.lead(turn, maker, other, reader).ok_or(wait)?;
        let candidate = self.group_candidate(unit, other, Some(maker))?;
        let earliest = candidate.time as i64 - lead - self.slack(turn, maker) as i64;
        Ok((earliest.max(0) as u64, candidate.cause))
    }

    /// How long a word may wait at its reader: until the next one comes.
    fn slack(&self, turn: &Turn, maker: usize) -> u64 {
        let steps = turn.members.iter().zip(&turn.steps).find(|(m, _)| **m == maker);
        steps.map_or(0, |(_, s)| s.stride() - 1)
    }

    /// Cycles from a maker's group's start to its reader's; none where the reader is not next, or its task another.
    fn lead(&self, turn: &Turn, maker: usize, other: &Turn, reader: usize) -> Option<i64> {
        let at = other.members.iter().position(|m| *m == reader)?;
        let (op, made) = (&self.program.ops[reader], &self.program.ops[maker]);
        let read = op
            .reads
            .iter()
            .find(|r| r.maker.as_ref().is_some_and(|m| m.op == maker && m.memory.is_none()))?;
        let by = read.maker.as_ref()?;
        let need = needed(self.program, op, read, by, &self.ops[reader].tile);
        if need != Need::UpTo(self.ops[maker].place) {
            return None;
        }
        let steps = &turn.steps[turn.members.iter().position(|m| *m == maker)?];
        let _ = made;
        Some(steps.lead_of(&other.steps[at], by.delay) + turn.load as i64 - other.load as i64)
    }

    #[allow(clippy::too_many_arguments)]
    fn read_candidate(
        &self,
        member: usize,
        op: &Op,
        read: &Read,
        turn: &Turn,
        steps: &Steps,
        without: Option<usize>,
        later: &mut dyn FnMut(u64, Cause),
    ) -> Result<(), Blocked> {
        let tile = &self.ops[member].tile;
        let first = turn.load + steps.at(0);
        if let Some(maker) = &read.maker
            && (without != Some(maker.op) || maker.memory.is_some())
        {
            self.maker_candidate(op, read, maker, turn, steps, tile, later)?;
        }
        if let Some(stream) = read.keep.and_then(|k| self.program.keeps[k].fill) {
            let keep = &self.program.keeps[read.keep.unwrap_or_default()];
            let cause = Cause::Operand(read.tensor, Side::Memory(keep.memory));
            let generation = self.generation(member, read.keep.unwrap_or_default());
            let state = &self.streams[stream];
            if !state.cursor.done && state.place <= generation {
                return Err(cause);
            }
            let there = state.arrived.iter().rev().find(|a| a.place <= generation);
            if let (Some(there), Some(way)) = (there, &read.way) {
                let time = (there.whole + way.delay + way.burst - 1).saturating_sub(first);
                later(time, there.cause.unwrap_or(cause));
            }
        }
        if let Some(stream) = read.stream {
            let state = &self.streams[stream];
            let place = self.ops[member].place;
            let cause = Cause::Operand(read.tensor, Side::Memory(self.program.streams[stream].outer));
            if !state.cursor.done && state.place <= place {
                return Err(cause);
            }
            if let Some(there) = state.arrived.iter().rev().find(|a| a.place <= place) {
                let hop = 1;
                let span = steps.at(steps.count.saturating_sub(1)) - steps.at(0);
                let time = (there.first + hop).max((there.whole + hop).saturating_sub(span));
                later(time.saturating_sub(first), there.cause.unwrap_or(cause));
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn maker_candidate(
        &self,
        op: &Op,
        read: &Read,
        maker: &Maker,
        turn: &Turn,
        steps: &Steps,
        tile: &Tile,
        later: &mut dyn FnMut(u64, Cause),
    ) -> Result<(), Blocked> {
        let Need::UpTo(place) = needed(self.program, op, read, maker, tile) else {
            return Ok(());
        };
        let made = &self.ops[maker.op];
        let from = maker.memory.map_or(
            Side::Array(self.program.ops[maker.op].unit),
            Side::Memory,
        );
        let cause = Cause::Operand(read.tensor, from);
        if !made.cursor.done && made.place <= place {
            // Members of one group hand over in the order of their turns.
            if turn.members.contains(&maker.op) {
                return Ok(());
            }
            return Err(cause);
        }
        let Some(task) = made.history.iter().rev().find(|t| t.place <= place) else {
            return Ok(());
        };
        let lead = if maker.by_word && task.place == place {
            task.steps.lead_of(steps, maker.delay)
        } else {
            (task.steps.end() + maker.delay) as i64 - steps.at(0) as i64
        };
        let time = task.start as i64 + lead - turn.load as i64;
        later(time.max(0) as u64, cause);
        Ok(())
    }

    /// Room for what an Einsum makes.
    fn space_candidate(
        &self,
        member: usize,
        op: &Op,
        turn: &Turn,
        steps: &Steps,
        later: &mut dyn FnMut(u64, Cause),
    ) -> Result<(), Blocked> {
        let state = &self.ops[member];
        if let (Some(keep), Some(way)) = (op.writes, &op.result) {
            let plan = &self.program.keeps[keep];
            let generation = self.generation(member, keep);
            let new = state.recent.back().is_some_and(|g| *g != generation);
            if new && state.recent.len() >= plan.generations {
                let old = state.recent[state.recent.len() - plan.generations];
                let cause = Cause::Space(plan.tensor, Side::Memory(plan.memory));
                let released = self.released(keep, old, Some(member)).ok_or(cause)?;
                let every = self.every(op, steps, way, &state.tile);
                let write = steps.accesses(every, true)[0].0 + turn.load + way.delay;
                later(released.saturating_sub(write), cause);
            }
        }
        for (reader, other) in self.program.ops.iter().enumerate() {
            for read in &other.reads {
                let Some(maker) = read.maker.as_ref().filter(|m| m.op == member) else {
                    continue;
                };
                let Some(waiting) = maker.waiting.filter(|_| op.folds.iter().all(|l| l.count == 1)) else {
                    continue;
                };
                let pair = self.program.lockstep.iter();
                if pair.clone().any(|p| p.maker == member && p.reader == reader) {
                    continue;
                }
                let taken = &self.ops[reader];
                let cause = Cause::Space(op.output, Side::Array(other.unit));
                if state.started >= taken.started + waiting {
                    return Err(cause);
                }
                let Some(before) = (state.started + 1).checked_sub(waiting + 1) else {
                    continue;
                };
                if let Some(task) = taken.history.iter().find(|t| t.number == before) {
                    // Where each row has its own word, they leave one after another.
                    let last = task.start + task.steps.at(task.steps.count.saturating_sub(1));
                    let free = if op.rows_apart {
                        (last + 1).saturating_sub(maker.delay)
                    } else {
                        (last + 1).saturating_sub(maker.delay + steps.end())
                    };
                    later(free.saturating_sub(turn.load), cause);
                }
            }
        }
        for (id, stream) in self.program.streams.iter().enumerate() {
            if stream.kind == StreamKind::Result(member) {
                let sent = &self.streams[id];
                let cause = Cause::Space(op.output, Side::Memory(stream.outer));
                if state.started >= sent.issued + 2 {
                    return Err(cause);
                }
                if let Some(oldest) = sent.arrived.iter().rev().nth(1).filter(|_| state.started > sent.issued) {
                    later(oldest.first, cause);
                }
            }
        }
        Ok(())
    }

    /// Steps of a task for each access on a way.
    fn every(&self, op: &Op, steps: &Steps, way: &Way, tile: &Tile) -> u64 {
        let mut sides = *tile;
        let mut accesses = 1u64;
        for l in &op.steps[..way.depth.min(op.steps.len())] {
            let side = &mut sides[l.cut.rank];
            accesses *= side.1.div_ceil(l.cut.step.max(1)).max(1);
            side.1 = side.1.min(l.cut.step);
        }
        (steps.count / accesses.max(1)).max(1)
    }

    /// The ports that a group takes if it starts at `start`.
    fn ports_of(&self, turn: &Turn, start: u64) -> Wanted {
        let mut out = Wanted::new();
        let mut add = |way: &Way, pieces: Pieces, inward: bool| {
            for (first, stride, count) in pieces {
                let time = start + turn.load + first;
                let first = if inward {
                    time.saturating_sub(way.delay + way.burst - 1)
                } else {
                    time + way.delay
                };
                if count == 1 || way.burst == 1 {
                    out.push(Ports {
                        memory: way.memory,
                        start: first,
                        stride: if way.burst > 1 { 1 } else { stride },
                        count: if way.burst > 1 { way.burst } else { count },
                        rows: way.rows,
                    });
                } else {
                    for i in 0..count {
                        out.push(Ports {
                            memory: way.memory,
                            start: first + i * stride,
                            stride: 1,
                            count: way.burst,
                            rows: way.rows,
                        });
                    }
                }
            }
        };
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &self.program.ops[*member];
            let tile = &self.ops[*member].tile;
            for (i, read) in op.reads.iter().enumerate() {
                // The same words again are still there.
                if let Some(way) = read.way.as_ref().filter(|w| w.memory > 0)
                    && !self.stays(*member, i, read, tile)
                {
                    let every = self.every(op, steps, way, tile);
                    add(way, steps.accesses(every, false), true);
                }
            }
            if let Some(way) = op.result.as_ref().filter(|w| w.memory > 0) {
                let every = self.every(op, steps, way, tile);
                add(way, steps.accesses(every, true), false);
            }
        }
        out
    }

    /// Whether an operand's words are those of the task before.
    fn stays(&self, member: usize, position: usize, read: &Read, tile: &Tile) -> bool {
        let op = &self.program.ops[member];
        let same = self.ops[member].last[position]
            .as_ref()
            .is_some_and(|last| super::words::same(last, tile, &read.projection));
        same && read.way.as_ref().is_some_and(|w| w.depth == 0) && !op.steps.is_empty()
    }

    /// Splits wanted ports by memory and finds the least delay.
    fn port_delay(&self, wanted: &[Ports], name: &str) -> Result<(u64, Option<usize>), CycleError> {
        let mut delay = 0;
        let mut cause = None;
        // Moving on for one memory may bring a clash at another.
        loop {
            let mut more = 0;
            for memory in 0..self.ports.len() {
                let here: Wanted = wanted
                    .iter()
                    .filter(|p| p.memory == memory)
                    .map(|p| Ports {
                        start: p.start + delay,
                        ..*p
                    })
                    .collect();
                if here.is_empty() {
                    continue;
                }
                let found = self.ports[memory].delay(&here).ok_or_else(|| {
                    let spec = &self.mapped.accelerator.memories[memory];
                    CycleError::Ports {
                        einsum: name.to_string(),
                        memory: spec.name.clone(),
                        ports: spec.ports.min(spec.banks),
                    }
                })?;
                if found > 0 {
                    more = found;
                    cause = Some(memory);
                    break;
                }
            }
            if more == 0 {
                return Ok((delay, cause));
            }
            delay += more;
        }
    }

    fn start_unit(&mut self, unit: usize, observer: &mut dyn Observer) -> Result<(), CycleError> {
        let Some(turn) = self.turn(unit).cloned() else {
            return Ok(());
        };
        let candidate = self.ready[unit].clone();
        let Some(candidate) = candidate else {
            return Ok(());
        };
        // All that starts together.
        let mut together: SmallVec<[(usize, Turn, u64, Cause); 2]> =
            smallvec![(unit, turn, candidate.time, candidate.cause)];
        let program = self.program;
        for pair in &program.lockstep {
            let first = &together[0];
            if first.1.members.contains(&pair.maker) && !first.1.members.contains(&pair.reader) {
                let other_unit = self.program.ops[pair.reader].unit;
                if together.iter().any(|t| t.0 == other_unit) {
                    continue;
                }
                if let Some(other) = self.turn(other_unit).cloned()
                    && let Some(lead) = self.lead(&first.1, pair.maker, &other, pair.reader)
                    && let Ok(own) = self.group_candidate(other_unit, &other, Some(pair.maker))
                {
                    let from = (first.2 as i64 + lead).max(0) as u64;
                    let (time, cause) = if own.time >= from {
                        (own.time, own.cause)
                    } else {
                        let from = Side::Array(unit);
                        let tensor = self.program.ops[pair.maker].output;
                        ((first.2 as i64 + lead).max(0) as u64, Cause::Operand(tensor, from))
                    };
                    together.push((other_unit, other, time, cause));
                }
            }
        }
        let mut wanted: Wanted = SmallVec::new();
        for (_, turn, time, _) in &together {
            wanted.extend(self.ports_of(turn, *time));
        }
        let name = &self.program.ops[together[0].1.members[0]].name;
        let (delay, memory) = self.port_delay(&wanted, name)?;
        if delay > 0 {
            // Others may take the ports meanwhile: asked again then.
            self.ready[unit] = Some(Candidate {
                time: candidate.time + delay,
                cause: memory.map_or(candidate.cause, Cause::Port),
            });
            return Ok(());
        }
        for port in &wanted {
            self.ports[port.memory].taken.push(*port);
            self.end = self.end.max(port.last() + 1);
            observer.ports(port);
        }
        for (unit, turn, time, cause) in together {
            self.run(unit, &turn, time, cause, observer)?;
        }
        Ok(())
    }

    /// Runs a group from `start` on.
    fn run(
        &mut self,
        unit: usize,
        turn: &Turn,
        start: u64,
        cause: Cause,
        observer: &mut dyn Observer,
    ) -> Result<(), CycleError> {
        let program = self.program;
        let steps_end = turn.steps.iter().map(Steps::end).max().unwrap_or(0);
        let busy: u64 = turn.steps.iter().map(|s| s.count * s.cycles).sum();
        let gap = start - self.unit_free[unit];
        let cause = self.stage(cause, unit, turn);
        self.totals.wait(unit, cause, gap);
        self.totals.wait(unit, Cause::Filling, turn.load);
        self.totals.wait(unit, Cause::Draining, turn.shift);
        // Turns of members that are not there.
        self.totals.wait(unit, Cause::Mapping, steps_end - busy);
        self.totals.busy[unit] += busy;
        let end = start
            .checked_add(turn.load + steps_end + turn.shift)
            .filter(|e| *e < 1 << 62)
            .ok_or(CycleError::Overflow)?;
        self.unit_free[unit] = end;
        let array = &self.mapped.accelerator.arrays[unit];
        self.end = self.end.max(end + (array.rows - 1) + (array.columns - 1));
        if !program.segments.is_empty() {
            let frame = end - program.frames[unit].min(end);
            if frame >= self.barrier.end {
                self.barrier.end = frame;
            }
            if gap > self.barrier.waited.0 {
                self.barrier.waited = (gap, cause);
            }
        }
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &program.ops[*member];
            if let Some(phase) = op.phase {
                self.barrier.work[phase][unit] += steps.count * steps.cycles;
            }
            let at = start + turn.load;
            observer.task(&Task {
                block: &program.name,
                einsum: &op.name,
                unit,
                start: at + steps.at(0),
                duration: steps.end() - steps.at(0),
                tile: &self.ops[*member].tile,
            });
            self.count_words(*member)?;
            self.use_keeps(*member, op, turn, steps, start);
            let state = &mut self.ops[*member];
            let number = state.started;
            state.history.push_back(Started {
                place: state.place,
                number,
                start: at,
                steps: steps.clone(),
            });
            state.started += 1;
            if let Some(nest) = self.jumps.as_ref().and_then(|j| j.marks(*member)) {
                self.passed.push((nest, state.cursor.clone()));
            }
            state.cursor.advance(program, op)?;
            self.totals.tasks += 1;
            self.totals.simulated += 1;
            if !state.cursor.done {
                state.key = state.cursor.key(program, op);
                state.tile = state.cursor.tile(program, op);
                state.place = state.cursor.place(program, op);
            }
        }
        self.forget();
        self.ready[unit] = None;
        self.turns[unit] = self.find_turn(unit);
        Ok(())
    }

    /// Waits of a pipeline that fills or empties are those of filling and draining.
    fn stage(&self, cause: Cause, unit: usize, turn: &Turn) -> Cause {
        if cause != Cause::Mapping {
            return cause;
        }
        let key = self.ops[turn.members[0]].key;
        if key.epoch < 0 {
            return Cause::Filling;
        }
        let mine = |o: &usize| self.program.ops[*o].unit == unit;
        let over = (0..self.ops.len())
            .filter(mine)
            .any(|o| self.ops[o].cursor.done || self.ops[o].key.scope > key.scope);
        if over && self.program.ops.iter().any(|o| o.offset > 0) {
            return Cause::Draining;
        }
        cause
    }

    /// Words that a task reads and writes.
    fn count_words(&mut self, member: usize) -> Result<(), CycleError> {
        let program = self.program;
        let op = &program.ops[member];
        let tile = self.ops[member].tile;
        for (i, read) in op.reads.iter().enumerate() {
            if let Some(transfer) = read.operand {
                let words = self.words_of(transfer, i, member, &tile)?;
                self.totals.words[transfer] += words;
            }
        }
        if let Some(transfer) = op.update {
            let words = self.words_of(transfer, op.reads.len(), member, &tile)?;
            self.totals.words[transfer] += words;
        }
        Ok(())
    }

    fn words_of(
        &mut self,
        transfer: usize,
        slot: usize,
        member: usize,
        tile: &Tile,
    ) -> Result<u128, CycleError> {
        let moved = &self.mapped.blocks[self.block].transfers[transfer];
        let op = &self.program.ops[member];
        // Registers that keep a tile of their own are filled when it changes, not at every step.
        let steps: &[_] = if moved.loops.len() > moved.tile_depth || op.steps.is_empty() {
            &op.steps
        } else if moved.loops.len() == self.program.ops[member].loops.len() + op.folds.len() + op.steps.len() {
            &op.steps
        } else {
            &[]
        };
        let last = self.ops[member].last[slot].as_ref();
        let overlap = match last {
            Some(last) => super::words::overlap(last, tile, steps, &moved.projection),
            None => 0,
        };
        let alike = |known: &Tile| known.iter().zip(tile).all(|(a, b)| a.1 == b.1);
        let known = self.counted[transfer].iter().find(|(k, _)| alike(k));
        let words = match known {
            Some((_, words)) => *words,
            None => {
                let words = self.program.words(tile, steps, &moved.projection)?;
                self.counted[transfer].push((*tile, words));
                words
            }
        };
        self.ops[member].last[slot] = Some(*tile);
        Ok(words.saturating_sub(overlap))
    }

    // Kept tiles.

    /// The tile of a keep that an Einsum's next task uses.
    pub(super) fn generation(&self, member: usize, keep: usize) -> u128 {
        let plan = &self.program.keeps[keep];
        let op = &self.program.ops[member];
        let state = &self.ops[member];
        generation(self.program, plan.nest, plan.depth, |at| {
            let runs = op.loops.contains(&at);
            // Loops that it does not run in are at their last iteration when it does, or were at the first.
            if runs {
                Some(state.cursor.digits[at])
            } else if op.exit == Some(at) {
                None
            } else {
                Some(0)
            }
        })
    }

    /// When all users but `but` have finished with a generation; none where one has not.
    fn released(&self, keep: usize, generation: u128, but: Option<usize>) -> Option<u64> {
        let plan = &self.program.keeps[keep];
        let mut time = 0;
        for user in &plan.users {
            let done = self.ops[*user].cursor.done || self.generation(*user, keep) > generation;
            if !done {
                return None;
            }
            if Some(*user) == but {
                continue;
            }
            let last = self.uses[keep][*user].iter().rev().find(|u| u.generation <= generation);
            time = time.max(last.map_or(0, |u| u.end));
        }
        if let Some(drain) = plan.drain {
            let state = &self.streams[drain];
            if !state.cursor.done && state.place <= generation {
                return None;
            }
            let last = state.arrived.iter().rev().find(|a| a.place <= generation);
            time = time.max(last.map_or(0, |a| a.first));
        }
        Some(time)
    }

    /// Notes until when a task uses kept tiles.
    fn use_keeps(&mut self, member: usize, op: &Op, turn: &Turn, steps: &Steps, start: u64) {
        for used in &op.uses {
            let keep = used.keep;
            let plan = &self.program.keeps[keep];
            let generation = self.generation(member, keep);
            let at = start + turn.load;
            let mut end = at;
            for read in &used.reads {
                let read = &op.reads[*read];
                if let Some(way) = &read.way {
                    let last = at + steps.at(steps.count.saturating_sub(1));
                    let first = at + steps.at(0);
                    let whole = if way.depth == 0 { first } else { last };
                    let by_row = if plan.by_row && way.depth > 0 {
                        // The next tile's rows arrive no faster than one a cycle: the first may come when the first is free, the last when the last is.
                        let rows = steps.count;
                        whole.saturating_sub(rows.saturating_sub(1)).max(first)
                    } else {
                        whole
                    };
                    end = end.max((by_row + 1).saturating_sub(way.delay));
                }
            }
            if used.output
                && let Some(way) = &op.result
            {
                end = end.max(at + steps.end() + way.delay + way.burst);
            }
            let uses = &mut self.uses[keep][member];
            match uses.back_mut() {
                Some(last) if last.generation == generation => last.end = last.end.max(end),
                _ => uses.push_back(Use { generation, end }),
            }
            if op.writes == Some(keep) {
                let recent = &mut self.ops[member].recent;
                if recent.back() != Some(&generation) {
                    recent.push_back(generation);
                    if recent.len() > plan.generations.min(8) {
                        recent.pop_front();
                    }
                }
            }
        }
    }

    /// Forgets what can no longer matter: all that starts from now on starts now or later.
    fn forget(&mut self) {
        let now = self.now;
        // Reads at ports lie before the start of their task by the memory's latency.
        let reach = self.reach();
        let before = now.saturating_sub(reach);
        for table in &mut self.ports {
            if table.taken.len() > 16 {
                table.forget(before);
            }
        }
        for state in &mut self.ops {
            while state.history.len() > 1
                && state.history.front().is_some_and(|t| t.start + t.steps.end() + reach < now)
            {
                state.history.pop_front();
            }
        }
        for uses in &mut self.uses {
            for list in uses {
                while list.len() > 1 && list.front().is_some_and(|u| u.end + reach < now) {
                    list.pop_front();
                }
            }
        }
        for state in &mut self.streams {
            while state.arrived.len() > 3
                && state.arrived.front().is_some_and(|a| a.whole + reach < now)
            {
                state.arrived.pop_front();
            }
        }
    }

    /// Cycles after which nothing that has ended bears on what starts: the longest way of a word.
    pub(super) fn reach(&self) -> u64 {
        self.reach
    }

    // Segments.

    /// Opens the next segment when no unit has a task left in the open one.
    fn close_segments(&mut self) {
        if self.program.segments.is_empty() {
            return;
        }
        let least = self
            .ops
            .iter()
            .filter(|o| !o.cursor.done)
            .map(|o| (o.key.scope, o.key.epoch, o.key.segment))
            .min();
        let Some(next) = least else { return };
        if self.barrier.open == Some(next) {
            return;
        }
        let b = &mut self.barrier;
        let mut floor = b.end.max(b.floor);
        let mut cause = b.waited.1;
        let new_epoch = b.open.is_none_or(|(s, e, _)| (s, e) != (next.0, next.1));
        let stated_of = |work: &[Vec<u64>]| -> u64 {
            let slowest = work.iter().map(|u| u.iter().copied().max().unwrap_or(0));
            slowest
                .zip(&self.program.drains)
                .map(|(most, drain)| if most > 0 { most + drain } else { 0 })
                .sum()
        };
        // What the segment takes without any wait is the mapping's choice.
        if b.waited.0 == 0 {
            cause = Cause::Mapping;
        }
        if new_epoch {
            let pace = b.epoch.0 + stated_of(&b.work);
            if pace > floor {
                floor = pace;
                cause = Cause::Mapping;
            }
            b.work.iter_mut().for_each(|u| u.fill(0));
            b.epoch = (floor, 0);
        }
        b.cause = cause;
        b.open = Some(next);
        b.floor = floor;
        b.end = floor;
        b.waited = (0, Cause::Mapping);
        self.ready[..self.unit_free.len()].fill(None);
    }

    // Streams.

    fn stream_candidate(&self, id: usize) -> Option<Result<Candidate, Blocked>> {
        let state = &self.streams[id];
        if state.cursor.done {
            return None;
        }
        Some(self.stream_time(id))
    }

    fn stream_time(&self, id: usize) -> Result<Candidate, Blocked> {
        let stream = &self.program.streams[id];
        let state = &self.streams[id];
        let mut ready = 0;
        let mut cause = Cause::Operand(stream.tensor, Side::Memory(stream.outer));
        match stream.kind {
            StreamKind::Fill(keep) => {
                let plan = &self.program.keeps[keep];
                if state.recent.len() >= plan.generations {
                    let old = state.recent[state.recent.len() - plan.generations];
                    let wait = Cause::Space(plan.tensor, Side::Memory(plan.memory));
                    ready = self.released(keep, old, None).ok_or(wait)?;
                    cause = wait;
                }
            }
            StreamKind::Drain(keep) => {
                let plan = &self.program.keeps[keep];
                let Some(maker) = plan.maker else {
                    return Ok(Candidate { time: 0, cause });
                };
                let done =
                    self.ops[maker].cursor.done || self.generation(maker, keep) > state.place;
                if !done {
                    return Err(cause);
                }
                let last = self.uses[keep][maker].iter().rev().find(|u| u.generation <= state.place);
                let stored = self.channels[plan.memory].latency;
                ready = last.map_or(0, |u| u.end + stored);
            }
            StreamKind::Operand(op, _) => {
                // Words wait at the array's edge for at most two tasks.
                let ahead = &self.ops[op];
                if state.issued >= ahead.started + 2 {
                    return Err(Cause::Space(stream.tensor, Side::Array(self.program.ops[op].unit)));
                }
                if let Some(before) = state.issued.checked_sub(2)
                    && let Some(task) = ahead.history.iter().find(|t| t.number == before)
                {
                    ready = task.start + task.steps.end();
                    cause = Cause::Space(stream.tensor, Side::Array(self.program.ops[op].unit));
                }
            }
            StreamKind::Result(op) => {
                let ahead = &self.ops[op];
                if ahead.started <= state.issued {
                    return Err(cause);
                }
                let task = ahead.history.iter().find(|t| t.number == state.issued);
                if let (Some(task), Some(way)) = (task, &self.program.ops[op].result) {
                    let end = task.start + task.steps.end() + way.delay + way.burst - 1;
                    let first = task.start + task.steps.at(0) + task.steps.cycles + way.delay;
                    let bytes = self.stream_bytes(id)?;
                    let duration = self.channels[stream.outer].duration(bytes).unwrap_or(u64::MAX / 4);
                    ready = if way.depth == 0 {
                        end
                    } else {
                        first.max((end + 1).saturating_sub(duration))
                    };
                }
            }
        }
        if let Some(source) = &stream.source {
            let place = stored(self.program, source, &state.tile);
            let writer = &self.streams[source.stream];
            let wait = Cause::Operand(stream.tensor, Side::Array(self.program.ops[source.op].unit));
            if !writer.cursor.done && writer.place <= place {
                return Err(wait);
            }
            let there = writer.arrived.iter().rev().find(|a| a.place <= place);
            if let Some(there) = there.filter(|t| t.whole > ready) {
                (ready, cause) = (there.whole, wait);
            }
        }
        let (time, busy) = self.channels[stream.outer].earliest(ready);
        Ok(Candidate {
            time,
            cause: if busy { Cause::Channel(stream.outer) } else { cause },
        })
    }

    /// Bytes of a stream's next movement, without what is there already.
    fn stream_words(&self, id: usize) -> Result<u128, CountError> {
        let stream = &self.program.streams[id];
        let state = &self.streams[id];
        let moved = &self.mapped.blocks[self.block].transfers[stream.transfer];
        let steps: &[_] = match stream.kind {
            StreamKind::Operand(op, _) | StreamKind::Result(op) => &self.program.ops[op].steps,
            _ => &[],
        };
        let words = self.program.words(&state.tile, steps, &moved.projection)?;
        let overlap = state.last.as_ref().map_or(0, |last| {
            super::words::overlap(last, &state.tile, steps, &moved.projection)
        });
        Ok(words.saturating_sub(overlap))
    }

    fn stream_bytes(&self, id: usize) -> Result<u128, Blocked> {
        let stream = &self.program.streams[id];
        let words = self.stream_words(id).map_err(|_| Cause::Mapping)?;
        Ok(self.bytes(words, stream.share, stream.outer))
    }

    /// A share of words in bytes: whole rows where it is a part.
    fn bytes(&self, words: u128, share: (u64, u64), memory: usize) -> u128 {
        let bytes = words * self.mapped.word_bytes();
        if share.0 == share.1 {
            return bytes;
        }
        let row = self.mapped.accelerator.memories[memory].row.0.max(1);
        (bytes * u128::from(share.0))
            .div_ceil(u128::from(share.1.max(1)))
            .div_ceil(row)
            * row
    }

    /// Cycles of a movement, and the ports of the inner memory that it takes: half of them at the most.
    fn duration(&self, outer: usize, inner: Option<usize>, bytes: u128) -> Option<(u64, u64)> {
        let channel = self.channels[outer].duration(bytes)?;
        let Some(inner) = inner.filter(|_| channel > 0) else {
            return Some((channel, 0));
        };
        let memory = &self.mapped.accelerator.memories[inner];
        let rows = u64::try_from(bytes.div_ceil(memory.row.0.max(1))).ok()?;
        let most = (memory.ports.min(memory.banks) / 2).max(1);
        let ports = rows.div_ceil(channel).clamp(1, most);
        Some((channel.max(rows.div_ceil(ports)), ports))
    }

    fn start_stream(&mut self, id: usize, observer: &mut dyn Observer) -> Result<(), CycleError> {
        let Some(candidate) = self.ready[self.unit_free.len() + id].clone() else {
            return Ok(());
        };
        let stream = &self.program.streams[id];
        // The channel may have been taken since.
        let (time, busy) = self.channels[stream.outer].earliest(candidate.time);
        if time > candidate.time {
            self.ready[self.unit_free.len() + id] = Some(Candidate {
                time,
                cause: if busy { Cause::Channel(stream.outer) } else { candidate.cause },
            });
            return Ok(());
        }
        let words = self.stream_words(id)?;
        let bytes = self.bytes(words, stream.share, stream.outer);
        let inward = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Operand(..));
        let (duration, rows) = self
            .duration(stream.outer, stream.inner, bytes)
            .ok_or(CycleError::Overflow)?;
        if let (Some(inner), true) = (stream.inner, duration > 0) {
            let latency = if inward { self.channels[stream.outer].latency } else { 0 };
            let wanted = [Ports {
                memory: inner,
                start: candidate.time + latency,
                stride: 1,
                count: duration,
                rows,
            }];
            let name = self.mapped.cascade.tensor(stream.tensor).name.clone();
            let (delay, _) = self.port_delay(&wanted, &name)?;
            if delay > 0 {
                self.ready[self.unit_free.len() + id] = Some(Candidate {
                    time: candidate.time + delay,
                    cause: Cause::Port(inner),
                });
                return Ok(());
            }
            self.ports[inner].take(&wanted);
            observer.ports(&wanted[0]);
            self.end = self.end.max(wanted[0].last() + 1);
        }
        let moved = if duration == 0 {
            crate::hardware::Moved {
                start: candidate.time,
                first: candidate.time,
                whole: candidate.time,
            }
        } else {
            observer.movement(&Movement {
                tensor: stream.tensor.0,
                outer: stream.outer,
                inward,
                start: candidate.time,
                duration,
                bytes,
                tile: &self.streams[id].tile,
            });
            self.totals.channel[stream.outer] += duration;
            self.channels[stream.outer].take(candidate.time, duration)
        };
        self.end = self.end.max(moved.whole);
        let counts = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Drain(_));
        if counts {
            self.totals.words[stream.transfer] += words;
        }
        let cause = match candidate.cause {
            Cause::Operand(..) => None,
            late => Some(late),
        };
        let state = &mut self.streams[id];
        state.arrived.push_back(match inward {
            true => Arrived {
                place: state.place,
                first: moved.first,
                whole: moved.whole,
                cause,
            },
            // Room is free when the channel has taken the words.
            false => Arrived {
                place: state.place,
                first: moved.start + duration,
                whole: moved.whole,
                cause,
            },
        });
        state.recent.push_back(state.place);
        if state.recent.len() > 8 {
            state.recent.pop_front();
        }
        state.issued += 1;
        state.last = Some(state.tile);
        let op = &self.stream_ops[id];
        state.cursor.advance(self.program, op)?;
        if !state.cursor.done {
            state.tile = state.cursor.tile(self.program, op);
            state.place = state.cursor.place(self.program, op);
        }
        self.ready[self.unit_free.len() + id] = None;
        Ok(())
    }
}

/// The number of a kept tile from the digits of the loops that tell tiles apart; no digit: the last iteration.
fn generation(
    program: &Program,
    nest: usize,
    depth: usize,
    digit: impl Fn(usize) -> Option<u64>,
) -> u128 {
    program.nests[nest][..depth]
        .iter()
        .enumerate()
        .fold(0u128, |sum, (at, l)| {
            let digit = digit(at).unwrap_or(l.count.saturating_sub(1));
            sum.saturating_mul(l.count.max(1).into())
                .saturating_add(digit.into())
        })
}

/// A stream's walk as that of an Einsum: a tile's through the loops that tell tiles apart, a task's like the Einsum's own.
fn walker(program: &Program, stream: &crate::program::Stream) -> Op {
    let like = |at: (usize, usize), loops, exit, folds| Op {
        name: String::new(),
        at,
        unit: 0,
        loops,
        exit,
        folds,
        steps: Vec::new(),
        cycles: 0,
        offset: 0,
        group: 0,
        phase: None,
        reads: Vec::new(),
        output: stream.tensor,
        result: None,
        update: None,
        load: 0,
        shift: 0,
        lanes: (None, None),
        writes: None,
        uses: Vec::new(),
        every_tile: false,
        rows_apart: false,
    };
    match stream.kind {
        StreamKind::Fill(_) | StreamKind::Drain(_) => {
            like((stream.nest, 0), (0..stream.depth).collect(), None, Vec::new())
        }
        StreamKind::Operand(op, _) | StreamKind::Result(op) => {
            let of = &program.ops[op];
            like(of.at, of.loops.clone(), of.exit, of.folds.clone())
        }
    }
}
