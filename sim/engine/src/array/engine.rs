//! The arrays at work: units take turns in the order of time, and each starts when its words are there.

use std::collections::VecDeque;

use einflow_mappings::{mapped::MappedCascade, nest::CountError};

use super::{ArrayError, issue::Issue, place::Access, plan::Plan, run::Work, tensors::Tensor};
use crate::{
    cycle::Observer,
    hardware::{Channel, PortTable},
    program::{Cursor, Key, Op, Program, StreamKind, Tile},
};

/// A task that has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// Its place in its Einsum's sequence.
    pub place: u128,
    /// When its first and its last step started, and when the last one ended, in PE (0, 0).
    pub first: u64,
    pub last: u64,
    pub end: u64,
}

/// Where an Einsum stands.
pub(super) struct OpState {
    pub cursor: Cursor,
    pub key: Key,
    pub tile: Tile,
    pub place: u128,
    /// Tasks that have started.
    pub done: Vec<Done>,
    /// Tiles of its keep that it wrote, the latest last.
    pub recent: VecDeque<u128>,
    /// By operand: words that stay at the edge of the array from one task to the next.
    pub held: Vec<Vec<usize>>,
}

impl OpState {
    /// How many of its tasks stand before or at a place.
    pub fn upto(&self, place: u128) -> u32 {
        self.done.partition_point(|d| d.place <= place) as u32
    }
}

/// A movement that has been given its time.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    /// Which tile, or task.
    pub place: u128,
    /// The first data are there; of a movement outward, room is free.
    pub first: u64,
    /// All are there.
    pub whole: u64,
}

/// Where a stream stands.
pub(super) struct StreamState {
    pub walker: Op,
    pub cursor: Cursor,
    pub place: u128,
    pub tile: Tile,
    pub arrived: Vec<Arrived>,
    /// Tiles that it moved, the latest last.
    pub recent: VecDeque<u128>,
    pub access: Access,
    /// Of a fill, by word: one more than the number of the movement that brought it last.
    pub brought: Vec<u32>,
    pub counting: super::count::Counter,
}

/// The last cycle of use of a kept tile by one of its users.
pub(super) struct Use {
    pub generation: u128,
    pub end: u64,
}

/// The steps of an epoch that units go through together.
pub(super) struct Barrier {
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
}

/// What is next on a unit.
#[derive(Clone)]
pub(super) struct Turn {
    pub members: Vec<usize>,
    pub issue: Issue,
    pub load: u64,
    pub shift: u64,
}

impl Turn {
    pub fn position(&self, op: usize) -> Option<usize> {
        self.members.iter().position(|m| *m == op)
    }
}

/// Why nothing can be said of a start yet.
pub(super) enum Stop {
    /// What it waits for.
    Waits(String),
    /// What cannot be.
    Fails(ArrayError),
}

impl<E: Into<ArrayError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Fails(error.into())
    }
}

pub(super) struct Engine<'a> {
    pub mapped: &'a MappedCascade,
    pub program: &'a Program,
    pub tensors: &'a mut Vec<Tensor>,
    pub plans: Vec<Plan<'a>>,
    pub ops: Vec<OpState>,
    pub works: Vec<Work>,
    pub streams: Vec<StreamState>,
    /// By keep and user.
    pub uses: Vec<Vec<VecDeque<Use>>>,
    pub unit_free: Vec<u64>,
    /// By unit: what ran last.
    pub unit_last: Vec<usize>,
    pub barrier: Barrier,
    pub ports: Vec<PortTable>,
    pub channels: Vec<Channel>,
    /// By unit: the most words that lived in one PE.
    pub peak_registers: Vec<u64>,
    pub turns: Vec<Option<Turn>>,
    pub ready: Vec<Option<u64>>,
    pub now: u64,
    pub end: u64,
    pub busy: Vec<u64>,
    pub words: Vec<u128>,
    pub pe_cycles: u128,
    /// Words of one step, reused.
    pub scratch: Vec<usize>,
    reach: u64,
}

impl<'a> Engine<'a> {
    pub fn new(
        mapped: &'a MappedCascade,
        program: &'a Program,
        block: usize,
        tensors: &'a mut Vec<Tensor>,
    ) -> Result<Self, ArrayError> {
        let accelerator = &mapped.accelerator;
        let units = accelerator.arrays.len();
        let sizes = &mapped.blocks[block].space.sizes;
        let layouts: Vec<_> = tensors.iter().map(|t| t.layout.clone()).collect();
        let (mut plans, mut ops, mut works) = (Vec::new(), Vec::new(), Vec::new());
        for op in &program.ops {
            let plan = Plan::new(mapped, program, block, op, &layouts)?;
            let einsum = mapped.cascade.einsum(plan.bound.einsum);
            tensors[op.output.0].prepare(plan.kernel.format, einsum.initial);
            works.push(Work::new(
                &plan,
                &accelerator.arrays[op.unit],
                &tensors[op.output.0],
            ));
            plans.push(plan);
            let cursor = Cursor::first(program, op)?;
            ops.push(OpState {
                key: cursor.key(program, op),
                tile: cursor.tile(program, op),
                place: cursor.place(program, op),
                cursor,
                done: Vec::new(),
                recent: VecDeque::new(),
                held: vec![Vec::new(); op.reads.len()],
            });
        }
        let mut streams = Vec::new();
        for stream in &program.streams {
            let walker = stream.walker(program);
            let cursor = Cursor::first(program, &walker)?;
            let tensor = &mut tensors[stream.tensor.0];
            let moved = &mapped.blocks[block].transfers[stream.transfer];
            if tensor.outer.is_empty() && program.ops.iter().any(|o| o.output == stream.tensor) {
                tensor.outer = vec![super::tensors::NEVER; tensor.layout.words];
            }
            streams.push(StreamState {
                place: cursor.place(program, &walker),
                tile: cursor.tile(program, &walker),
                cursor,
                walker,
                arrived: Vec::new(),
                recent: VecDeque::new(),
                brought: match stream.kind {
                    StreamKind::Fill(_) => vec![0; tensor.layout.words],
                    _ => Vec::new(),
                },
                access: Access::own(&tensor.layout, &stream.projection, sizes, false),
                counting: super::count::Counter::new(
                    stream.transfer,
                    Access::counting(&moved.projection, sizes),
                    false,
                ),
            });
        }
        let reads = program.ops.iter().flat_map(|o| &o.reads);
        let ways = reads.filter_map(|r| r.way.as_ref());
        let ways = ways.chain(program.ops.iter().filter_map(|o| o.result.as_ref()));
        let longest = ways.map(|w| w.delay + w.burst).max().unwrap_or(0);
        let mut engine = Self {
            mapped,
            program,
            peak_registers: vec![0; units],
            uses: program
                .keeps
                .iter()
                .map(|_| program.ops.iter().map(|_| VecDeque::new()).collect())
                .collect(),
            unit_free: vec![0; units],
            unit_last: vec![0; units],
            barrier: Barrier {
                open: None,
                floor: 0,
                end: 0,
                epoch: 0,
                work: vec![vec![0; units]; program.drains.len()],
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
            turns: vec![None; units],
            ready: vec![None; units + program.streams.len()],
            now: 0,
            end: 0,
            busy: vec![0; units],
            words: vec![0; mapped.blocks[block].transfers.len()],
            pe_cycles: 0,
            scratch: Vec::new(),
            reach: longest + 8,
            tensors,
            plans,
            ops,
            works,
            streams,
        };
        for unit in 0..units {
            engine.turns[unit] = engine.find_turn(unit);
        }
        Ok(engine)
    }

    pub fn name(&self, op: usize) -> &str {
        &self.program.ops[op].name
    }

    pub fn tensor_name(&self, tensor: usize) -> &str {
        &self.mapped.cascade.tensors[tensor].name
    }

    fn is_done(&self) -> bool {
        self.ops.iter().all(|o| o.cursor.done) && self.streams.iter().all(|s| s.cursor.done)
    }

    /// How late the frame of a unit is; streams keep that of the first.
    fn frame(&self, queue: usize) -> u64 {
        self.program.frames.get(queue).copied().unwrap_or(0)
    }

    /// Starts what may start first, each unit in its own frame of time. False when all is done.
    pub fn step(&mut self, observer: &mut dyn Observer) -> Result<bool, ArrayError> {
        self.close_segments();
        let units = self.unit_free.len();
        let mut best: Option<(u64, usize)> = None;
        for queue in 0..self.ready.len() {
            if self.ready[queue].is_none() {
                let found = if queue < units {
                    self.unit_time(queue)
                } else {
                    self.stream_time(queue - units)
                };
                self.ready[queue] = match found {
                    Some(Ok(time)) => Some(time.max(self.now + self.frame(queue))),
                    Some(Err(Stop::Fails(error))) => return Err(error),
                    _ => None,
                };
            }
            if let Some(time) = self.ready[queue] {
                let time = time - self.frame(queue);
                if best.is_none_or(|(best, _)| time < best) {
                    best = Some((time, queue));
                }
            }
        }
        let Some((time, queue)) = best else {
            return if self.is_done() {
                Ok(false)
            } else {
                Err(self.deadlock())
            };
        };
        self.now = time;
        if queue < units {
            self.start_unit(queue, observer)?;
        } else {
            self.start_stream(queue - units, observer)?;
        }
        Ok(true)
    }

    fn deadlock(&mut self) -> ArrayError {
        let units = self.unit_free.len();
        let mut waits = Vec::new();
        for queue in 0..self.ready.len() {
            let (found, name) = if queue < units {
                let first = self.turns[queue].as_ref().map(|t| t.members[0]);
                let name = first.map_or(String::new(), |op| self.task_name(op));
                (self.unit_time(queue), name)
            } else {
                let tensor = self.program.streams[queue - units].tensor.0;
                let name = format!("the movement of {}", self.tensor_name(tensor));
                (self.stream_time(queue - units), name)
            };
            match found {
                Some(Err(Stop::Waits(what))) => waits.push(format!("{name} waits for {what}")),
                Some(Err(Stop::Fails(error))) => waits.push(format!("{name}: {error}")),
                _ => {}
            }
        }
        ArrayError::Deadlock {
            time: self.now,
            waits: waits.join("; "),
        }
    }

    /// An Einsum's next task in words: its name and the first word that it makes.
    fn task_name(&self, op: usize) -> String {
        let point: Vec<u64> = self.ops[op].tile.iter().map(|(first, _)| *first).collect();
        let layout = &self.tensors[self.plans[op].output_tensor].layout;
        let word = self.plans[op].output.at(&point);
        let at = word.map_or(String::new(), |w| layout.coordinates(w).to_string());
        format!("{}{at}", self.name(op))
    }

    /// The group that is next on a unit, with all members whose turn it is.
    pub fn find_turn(&self, unit: usize) -> Option<Turn> {
        let waiting = (0..self.ops.len())
            .filter(|o| self.program.ops[*o].unit == unit && !self.ops[*o].cursor.done);
        let first = waiting.min_by_key(|o| self.ops[*o].key)?;
        let key = self.ops[first].key;
        let group = &self.program.groups[self.program.ops[first].group];
        let turns = |o: &usize| !self.ops[*o].cursor.done && self.ops[*o].key == key;
        let members: Vec<usize> = group.ops.iter().copied().filter(turns).collect();
        let steps: Vec<(u64, u64)> = members
            .iter()
            .map(|o| {
                let op = &self.program.ops[*o];
                (op.steps_of(&self.ops[*o].tile), op.cycles)
            })
            .collect();
        Some(Turn {
            issue: Issue::new(&steps),
            load: members.iter().map(|o| self.program.ops[*o].load).sum(),
            shift: members.iter().map(|o| self.program.ops[*o].shift).sum(),
            members,
        })
    }

    /// Opens the next segment when no unit has a task left in the open one.
    fn close_segments(&mut self) {
        if self.program.segments.is_empty() {
            return;
        }
        let left = self.ops.iter().filter(|o| !o.cursor.done);
        let Some(next) = left
            .map(|o| (o.key.scope, o.key.epoch, o.key.segment))
            .min()
        else {
            return;
        };
        let barrier = &mut self.barrier;
        if barrier.open == Some(next) {
            return;
        }
        let mut floor = barrier.end.max(barrier.floor);
        if barrier
            .open
            .is_none_or(|(scope, epoch, _)| (scope, epoch) != (next.0, next.1))
        {
            // An epoch takes at least what the mapping states: each phase its slowest unit and its drain.
            let slowest = barrier
                .work
                .iter()
                .map(|units| units.iter().copied().max().unwrap_or(0));
            let stated: u64 = slowest
                .zip(&self.program.drains)
                .map(|(most, drain)| if most > 0 { most + drain } else { 0 })
                .sum();
            floor = floor.max(barrier.epoch + stated);
            barrier.work.iter_mut().for_each(|units| units.fill(0));
            barrier.epoch = floor;
        }
        barrier.open = Some(next);
        barrier.floor = floor;
        barrier.end = floor;
        self.ready[..self.unit_free.len()].fill(None);
    }

    /// Forgets uses of ports that nothing can meet any more.
    pub fn forget(&mut self) {
        let before = self.now.saturating_sub(self.reach);
        for table in &mut self.ports {
            if table.taken.len() > 16 {
                table.forget(before);
            }
        }
    }

    /// Moves an Einsum on to its next task.
    pub fn advance(&mut self, op: usize) -> Result<(), CountError> {
        let of = &self.program.ops[op];
        let state = &mut self.ops[op];
        state.cursor.advance(self.program, of)?;
        if !state.cursor.done {
            state.key = state.cursor.key(self.program, of);
            state.tile = state.cursor.tile(self.program, of);
            state.place = state.cursor.place(self.program, of);
        }
        Ok(())
    }
}
