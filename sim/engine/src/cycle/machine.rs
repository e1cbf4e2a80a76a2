//! The machine: units, ports and channels, and the tasks that run on them in the order of time.

use std::collections::VecDeque;

use einflow_mappings::mapped::MappedCascade;

use super::{
    Cause, CycleError, Observer, Totals,
    jump::Jumps,
    state::{Barrier, Candidate, OpState, StreamState, Turn, Use},
};
use crate::{
    hardware::{Channel, PortTable},
    program::{Cursor, Op, Program, Tile},
};

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
    /// As `ready`: what kept a queue from being ready, where something did when it was last asked.
    pub blocked: Vec<Option<Cause>>,
    /// Words of tiles of these lengths.
    pub counted: Vec<Vec<(Tile, u128)>>,
    /// Ends of iterations that were passed since the last look: nest, and the walk before.
    pub passed: Vec<(usize, Cursor)>,
    /// By unit: what is next.
    pub turns: Vec<Option<Turn>>,
    pub reach: u64,
    pub jumps: Option<Jumps>,
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
        let stream_ops: Vec<Op> = program.streams.iter().map(|s| s.walker(program)).collect();
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
        let makers = reads
            .clone()
            .filter_map(|r| r.maker.as_ref().map(|m| m.delay));
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
            blocked: vec![None; units + program.streams.len()],
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
                        let now = self.now + self.frame(q);
                        let blocked = self.blocked[q].take();
                        if candidate.time < now {
                            // What kept it until now ended last.
                            candidate.time = now;
                            candidate.cause = blocked.unwrap_or(candidate.cause);
                        }
                        Some(candidate)
                    }
                    Some(Err(cause)) => {
                        self.blocked[q] = (cause != Cause::Mapping).then_some(cause);
                        None
                    }
                    None => None,
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
                waits.push(format!(
                    "{name} waits for {}",
                    super::describe(self.mapped, cause)
                ));
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

    /// Forgets what can no longer matter: all that starts from now on starts now or later.
    pub(super) fn forget(&mut self) {
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
                && state
                    .history
                    .front()
                    .is_some_and(|t| t.start + t.steps.end() + reach < now)
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
}
