//! The machine: units, ports and channels, and the tasks that run on them in the order of time.

use std::sync::Arc;

use einflow_mappings::{mapped::MappedCascade, nest::CountError};

use super::{
    assumed::TASKS_AT_EDGE,
    cause::Cause,
    error::{EventError, Wait},
    observer::Observer,
    state::{Blocked, Candidate, Held, State, Totals, Turn, Whom},
};
use crate::{
    hardware::Moved,
    program::{Op, Program, Tile, latency},
};

/// Is told of all that starts, before the walks move on.
pub trait BackEnd {
    /// What it may find wrong.
    type Error: From<EventError>;

    /// A group starts on a unit.
    ///
    /// # Errors
    /// What the back end finds wrong with it.
    fn group(
        &mut self,
        machine: &Machine<'_>,
        unit: usize,
        turn: &Turn,
        start: u64,
    ) -> Result<(), Self::Error>;

    /// A group has been booked, and its members stand at their next tasks.
    ///
    /// # Errors
    /// What the back end finds wrong with it.
    fn booked(
        &mut self,
        _machine: &Machine<'_>,
        _unit: usize,
        _turn: &Turn,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// A stream's next movement starts.
    ///
    /// # Errors
    /// What the back end finds wrong with it.
    fn movement(
        &mut self,
        _machine: &Machine<'_>,
        _stream: usize,
        _moved: Moved,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A program on its hardware.
pub struct Machine<'a> {
    /// The mapped cascade.
    pub mapped: &'a MappedCascade,
    /// The program of one of its blocks.
    pub program: &'a Program,
    /// Which block.
    pub block: usize,
    /// The walks of the streams.
    pub walkers: Arc<[Op]>,
    /// All that changes and bears on what starts when.
    pub state: State,
    /// What has been counted.
    pub totals: Totals,
    /// Cycles after which nothing that has ended bears on what starts.
    pub reach: u64,
    /// By unit: what is next. Follows from the state.
    turns: Vec<Option<Turn>>,
    /// By transfer: words of tiles of these lengths. Follows from the program.
    counted: Vec<Vec<(Tile, u128)>>,
}

impl<'a> Machine<'a> {
    /// Before the first task of a block.
    ///
    /// # Errors
    /// Conditions that cannot be tested.
    pub fn new(
        mapped: &'a MappedCascade,
        program: &'a Program,
        block: usize,
    ) -> Result<Self, CountError> {
        let (units, memories) = (
            mapped.accelerator.arrays.len(),
            mapped.accelerator.memories.len(),
        );
        let transfers = mapped.blocks[block].transfers.len();
        let walkers: Arc<[Op]> = program.streams.iter().map(|s| s.walker(program)).collect();
        let mut machine = Self {
            mapped,
            program,
            block,
            state: State::new(mapped, program, &walkers)?,
            totals: Totals {
                words: vec![0; transfers],
                busy: vec![0; units],
                waits: vec![Vec::new(); units],
                tasks: 0,
                simulated: 0,
                channel: vec![0; memories],
            },
            reach: reach(mapped, program),
            turns: vec![None; units],
            counted: vec![Vec::new(); transfers],
            walkers,
        };
        machine.find_turns();
        Ok(machine)
    }

    /// Takes up another state.
    pub fn set(&mut self, state: State, totals: Totals) {
        self.state = state;
        self.totals = totals;
        self.find_turns();
    }

    /// Finds what is next on every unit.
    pub fn find_turns(&mut self) {
        for unit in 0..self.units() {
            self.find_turn(unit);
        }
    }

    /// Finds what is next on a unit.
    pub(super) fn find_turn(&mut self, unit: usize) {
        self.turns[unit] = self.next_turn(unit);
    }

    /// The group that is next on a unit; none: it has no task left.
    pub fn turn(&self, unit: usize) -> Option<&Turn> {
        self.turns[unit].as_ref()
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.turns.len()
    }

    /// Starts what may start first, each unit in its own frame of time: a cycle of the schedule is later in an array
    /// below another.
    /// False when all is done.
    ///
    /// # Errors
    /// Why nothing can start, or what the back end finds wrong.
    pub fn step<B: BackEnd>(
        &mut self,
        back: &mut B,
        observer: &mut dyn Observer,
    ) -> Result<bool, B::Error> {
        self.close_segments();
        let units = self.units();
        let mut best: Option<(u64, usize)> = None;
        for q in 0..self.state.ready.len() {
            if self.state.ready[q].is_none() {
                match self.candidate(q) {
                    Some(Ok(mut candidate)) => {
                        let now = self.state.now + self.frame(q);
                        let blocked = self.state.blocked[q].take();
                        if candidate.time < now {
                            // What kept it until now ended last.
                            candidate.time = now;
                            let until = |held: Held| held.until(self.state.now);
                            candidate.cause = blocked.and_then(until).unwrap_or(candidate.cause);
                        }
                        self.state.ready[q] = Some(candidate);
                    }
                    Some(Err(Blocked { cause, .. })) => {
                        let held = self.state.blocked[q];
                        let by = Held::by(held, cause, self.state.now);
                        let same = held.filter(|h| h.cause == cause);
                        self.state.blocked[q] =
                            (cause != Cause::Mapping).then_some(same.unwrap_or(by));
                    }
                    None => {}
                }
            }
            if let Some(candidate) = &self.state.ready[q] {
                let time = candidate.time - self.frame(q);
                if best.is_none_or(|(best, _)| time < best) {
                    best = Some((time, q));
                }
            }
        }
        let Some((time, q)) = best else {
            if self.state.is_done() {
                return Ok(false);
            }
            return Err(self.deadlock().into());
        };
        self.state.now = time;
        if q < units {
            self.start_unit(q, back, observer)?;
        } else {
            self.start_stream(q - units, back, observer)?;
        }
        Ok(true)
    }

    /// When a unit's next group, or (after the units) a stream's next movement may start; none: nothing is left.
    pub fn candidate(&self, queue: usize) -> Option<Result<Candidate, Blocked>> {
        match queue.checked_sub(self.units()) {
            None => self.unit_candidate(queue),
            Some(stream) => self.stream_candidate(stream),
        }
    }

    /// How late the frame of a unit is; streams keep that of the first.
    fn frame(&self, queue: usize) -> u64 {
        self.program.frames.get(queue).copied().unwrap_or(0)
    }

    /// The words of tiles of these lengths, remembered.
    pub(super) fn counted(&self, transfer: usize, tile: &Tile) -> Option<u128> {
        let alike = |known: &Tile| known.iter().zip(tile).all(|(a, b)| a.1 == b.1);
        let known = self.counted[transfer].iter().find(|(k, _)| alike(k));
        known.map(|(_, words)| *words)
    }

    /// Remembers the words of a tile.
    pub(super) fn count(&mut self, transfer: usize, tile: &Tile, words: u128) {
        self.counted[transfer].push((*tile, words));
    }

    /// Nothing can start: from what is first in the order of queues along the waits until they come round.
    fn deadlock(&self) -> EventError {
        let blocked = |q: usize| match self.candidate(q) {
            Some(Err(blocked)) => Some(blocked),
            _ => None,
        };
        let mut walked: Vec<(usize, Blocked)> = Vec::new();
        let mut next = (0..self.state.ready.len()).find(|q| blocked(*q).is_some());
        while let Some(q) = next.filter(|q| walked.iter().all(|(seen, _)| seen != q)) {
            let Some(wait) = blocked(q) else { break };
            walked.push((q, wait));
            next = self.queue_of(wait.whom);
        }
        let begin = walked.iter().position(|(q, _)| Some(*q) == next);
        let waits = walked[begin.unwrap_or(0)..].iter().map(|(q, wait)| Wait {
            who: self.name_of(*q),
            what: wait.cause.activity(self.mapped).text(),
            whom: self.whom(wait.whom),
        });
        EventError::Deadlock {
            time: self.state.now,
            waits: waits.collect(),
        }
    }

    /// Who has to go on first, in words.
    fn whom(&self, whom: Whom) -> String {
        let queue = self.queue_of(whom);
        let next = queue.map_or_else(String::new, |q| self.name_of(q));
        match (whom, queue.and_then(|q| self.turns.get(q)?.as_ref())) {
            (Whom::Op(op), Some(turn)) if turn.position(op).is_none() => {
                format!("{}, which stands behind {next}", self.program.ops[op].name)
            }
            _ => next,
        }
    }

    /// The queue in which what is waited for stands.
    fn queue_of(&self, whom: Whom) -> Option<usize> {
        match whom {
            Whom::Op(op) => Some(self.program.ops[op].unit),
            Whom::Stream(stream) => Some(self.units() + stream),
            Whom::Segment => {
                let ops = self.state.ops.iter().zip(&self.program.ops);
                let left = ops.filter(|(state, _)| !state.cursor.done);
                left.min_by_key(|(state, _)| (state.key.scope, state.key.epoch, state.key.segment))
                    .map(|(_, op)| op.unit)
            }
        }
    }

    /// What is next in a queue, in words.
    fn name_of(&self, queue: usize) -> String {
        if let Some(stream) = queue.checked_sub(self.units()) {
            let tensor = self.program.streams[stream].tensor;
            return format!(
                "the movement of {}",
                self.mapped.cascade.tensor(tensor).name
            );
        }
        let members = self.turn(queue).map_or(&[][..], |t| &t.members[..]);
        let names = members.iter().map(|m| self.program.ops[*m].name.as_str());
        names.collect::<Vec<_>>().join(" with ")
    }

    /// Forgets what can no longer matter: all that starts from now on starts now or later. What was the last of its
    /// kind stays, so that a wait that has long ended still names its cause.
    pub(super) fn forget(&mut self) {
        let (now, reach) = (self.state.now, self.reach);
        let old = |end: u64| end + reach < now;
        for table in &mut self.state.ports {
            table.forget(now.saturating_sub(reach));
        }
        for state in &mut self.state.ops {
            while state.history.len() > 1 && state.history.front().is_some_and(|t| old(t.end())) {
                state.history.pop_front();
            }
        }
        for list in self.state.uses.iter_mut().flatten() {
            while list.len() > 1 && list.front().is_some_and(|u| old(u.end)) {
                list.pop_front();
            }
        }
        for state in &mut self.state.streams {
            let last = TASKS_AT_EDGE as usize + 1;
            while state.arrived.len() > last && state.arrived.front().is_some_and(|a| old(a.whole))
            {
                state.arrived.pop_front();
            }
        }
    }
}

/// The most cycles from the end of something to a start that it delays: a maker's last step to its reader's first
/// (that is the maker's delay), an access to the task on whose way it lies (delay and burst), a result to the drain
/// that takes it from its memory (latency), and the hop between the edge of an array and its PEs.
fn reach(mapped: &MappedCascade, program: &Program) -> u64 {
    let reads = || program.ops.iter().flat_map(|o| &o.reads);
    let makers = reads().filter_map(|r| r.maker.as_ref().map(|m| m.delay));
    let results = program.ops.iter().filter_map(|o| o.result.as_ref());
    let ways = reads().filter_map(|r| r.way.as_ref()).chain(results);
    let stored = program
        .keeps
        .iter()
        .map(|k| latency(&mapped.accelerator, k.memory));
    let hops = reads().map(|r| r.hop);
    let longest = makers
        .chain(hops)
        .chain(ways.map(|w| w.delay + w.burst))
        .chain(stored);
    longest.max().unwrap_or(0)
}
