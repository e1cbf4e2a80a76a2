//! One cycle after another: whatever may start, starts.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_mappings::mapped::{Block, MappedCascade};

use super::{
    chip::frames,
    plan::{From, Kind, Plan, Work},
};

/// Why a unit does not work in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    Filling,
    Draining,
    /// A tensor, from a memory.
    Operand(usize, usize),
    /// A tensor, from an array.
    Link(usize, usize),
    /// Room for a tensor in a memory, or on the way there.
    Room(usize, usize),
    /// Room for a tensor at an array.
    Edge(usize, usize),
    Port(usize),
    Channel(usize),
    /// An array's link, for the words of a step.
    Narrow(usize, usize),
    Mapping,
}

/// What a block did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ran {
    pub cycles: u64,
    pub busy: Vec<u64>,
    pub waits: Vec<BTreeMap<Wait, u64>>,
    /// By transfer.
    pub words: Vec<u128>,
    pub channel: Vec<u64>,
    pub tasks: u64,
    /// By memory: the most bytes in kept tiles at one time.
    pub peak: Vec<u128>,
}

/// A request that has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub(super) began: i64,
    /// The channel has taken all.
    pub(super) taken: i64,
    pub(super) first: i64,
    pub(super) whole: i64,
    /// What it waited for, where that was not the words themselves.
    pub(super) late: Option<Wait>,
}

/// Einsums that start together on a unit, each with the times of its steps after the first of all.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) members: Vec<(usize, Vec<i64>)>,
    pub(super) load: i64,
    pub(super) shift: i64,
    /// Cycles of all steps.
    pub(super) length: i64,
}

pub(super) type Rows = BTreeMap<(usize, i64), u64>;

pub(super) struct Machine<'a> {
    pub(super) chip: &'a Accelerator,
    pub(super) word: u128,
    pub(super) plan: &'a Plan,
    pub(super) now: i64,
    pub(super) frames: Vec<i64>,
    /// By Einsum: the times of every started task's steps.
    pub(super) started: Vec<Vec<Vec<i64>>>,
    /// By Einsum: when the first step was of those that each started task takes turns with.
    pub(super) begun: Vec<Vec<i64>>,
    /// By unit.
    pub(super) free: Vec<i64>,
    pub(super) waiting: Vec<Wait>,
    pub(super) moved: Vec<Vec<Moved>>,
    /// By movement: why its next request did not start in the last cycle.
    pub(super) held: Vec<Option<Wait>>,
    pub(super) channel_free: Vec<i64>,
    pub(super) under_way: Vec<Vec<i64>>,
    /// By memory: from when on its bandwidth is free, in eighths of a cycle.
    pub(super) bandwidth_free: Vec<i64>,
    /// Rows that memories move, by cycle.
    pub(super) ports: Rows,
    /// Where phases are stated.
    pub(super) epoch: Epoch,
    pub(super) ran: Ran,
    pub(super) end: i64,
}

/// The phases of an epoch that run, all units together, each in its frame.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    pub(super) open: Option<(Vec<u64>, i64, usize)>,
    /// When these phases began, and when what has started in them ends.
    pub(super) began: i64,
    pub(super) end: i64,
    /// When the epoch began, and by phase and unit how long its tasks take.
    pub(super) first: i64,
    pub(super) work: BTreeMap<(usize, usize), i64>,
    /// Why it began no earlier, and the longest wait since then.
    pub(super) cause: Option<Wait>,
    pub(super) longest: (i64, Option<Wait>),
}

/// Runs a block; `None` where nothing can start any more.
pub fn run(mapped: &MappedCascade, block: &Block, plan: &Plan) -> Option<Ran> {
    let chip = &mapped.accelerator;
    let (units, memories) = (chip.arrays.len(), chip.memories.len());
    let mut m = Machine {
        chip,
        word: mapped.word_bytes(),
        plan,
        now: 0,
        frames: frames(chip),
        started: vec![Vec::new(); plan.ops.len()],
        begun: vec![Vec::new(); plan.ops.len()],
        free: vec![0; units],
        waiting: vec![Wait::Mapping; units],
        moved: vec![Vec::new(); plan.movers.len()],
        held: vec![None; plan.movers.len()],
        channel_free: vec![0; memories],
        under_way: vec![Vec::new(); memories],
        bandwidth_free: vec![0; memories],
        ports: Rows::new(),
        epoch: Epoch::default(),
        ran: Ran {
            busy: vec![0; units],
            waits: vec![BTreeMap::new(); units],
            words: vec![0; block.transfers.len()],
            channel: vec![0; memories],
            peak: vec![0; memories],
            ..Ran::default()
        },
        end: 0,
    };
    let mut idle = 0;
    while !m.is_done() {
        let mut any = false;
        while m.start_one() {
            any = true;
        }
        m.note_waits();
        // Longer than anything takes that has started: nothing will.
        idle = if any || m.now < m.end { 0 } else { idle + 1 };
        if idle > 1000 {
            return None;
        }
        m.now += 1;
    }
    m.note_peak();
    let cycles = m.end;
    for (unit, free) in m.free.iter().enumerate() {
        *m.ran.waits[unit].entry(Wait::Draining).or_insert(0) += (cycles - free) as u64;
    }
    m.ran.cycles = cycles as u64;
    m.ran.waits.iter_mut().for_each(|w| w.retain(|_, n| *n > 0));
    Some(m.ran)
}

impl Machine<'_> {
    pub(super) fn is_done(&self) -> bool {
        let units = self
            .plan
            .ops
            .iter()
            .zip(&self.started)
            .all(|(o, s)| o.work.len() == s.len());
        units
            && self
                .plan
                .movers
                .iter()
                .zip(&self.moved)
                .all(|(m, done)| m.words.len() == done.len())
    }

    /// Starts the first thing that may start in this cycle: units before movements.
    pub(super) fn start_one(&mut self) -> bool {
        self.next_phases();
        (0..self.free.len()).any(|unit| self.start_unit(unit))
            || (0..self.moved.len()).any(|id| self.start_mover(id))
    }

    /// The next phases begin when all tasks of those before have started: when the last of them has ended, and an
    /// epoch no earlier than the mapping states for the one before.
    pub(super) fn next_phases(&mut self) {
        if self.plan.segments.is_empty() {
            return;
        }
        let next = (0..self.plan.ops.len()).filter_map(|e| self.next(e));
        let Some(next) = next
            .map(|w| (w.order.scope.clone(), w.order.epoch, w.order.segment))
            .min()
        else {
            return;
        };
        let epoch = &mut self.epoch;
        if epoch.open.as_ref() == Some(&next) {
            return;
        }
        let mut begin = epoch.end.max(epoch.began);
        let mut cause = epoch
            .longest
            .1
            .filter(|_| epoch.longest.0 > 0)
            .unwrap_or(Wait::Mapping);
        if epoch
            .open
            .as_ref()
            .is_none_or(|open| (&open.0, open.1) != (&next.0, next.1))
        {
            let phases = self.plan.drains.iter().enumerate().map(|(phase, drain)| {
                let slowest = epoch
                    .work
                    .iter()
                    .filter(|((p, _), _)| *p == phase)
                    .map(|(_, n)| *n)
                    .max();
                slowest.map_or(0, |n| n + drain)
            });
            let stated = epoch.first + phases.sum::<i64>();
            if stated > begin {
                (begin, cause) = (stated, Wait::Mapping);
            }
            epoch.work.clear();
            epoch.first = begin;
        }
        *epoch = Epoch {
            open: Some(next),
            began: begin,
            end: begin,
            cause: Some(cause),
            longest: (0, None),
            first: epoch.first,
            work: std::mem::take(&mut epoch.work),
        };
    }

    /// What idling by the mapping is while the pipeline fills or empties.
    pub(super) fn stage(&self, wait: Wait, unit: usize, e: usize) -> Wait {
        let (Wait::Mapping, Some(work)) = (wait, self.next(e)) else {
            return wait;
        };
        if work.order.epoch < 0 {
            return Wait::Filling;
        }
        let over = (0..self.plan.ops.len())
            .filter(|o| self.plan.ops[*o].unit == unit)
            .any(|o| {
                self.next(o)
                    .is_none_or(|w| w.order.scope > work.order.scope)
            });
        if over && self.plan.ops.iter().any(|o| o.offset > 0) {
            Wait::Draining
        } else {
            wait
        }
    }

    /// The memory at which uses of ports do not all find one.
    pub(super) fn crowded(&self, wanted: &Rows) -> Option<usize> {
        let clash = wanted.iter().find(|((memory, cycle), rows)| {
            let at = &self.chip.memories[*memory];
            let taken = self.ports.get(&(*memory, *cycle)).copied().unwrap_or(0);
            taken + **rows > at.ports.min(at.banks)
        });
        clash.map(|((memory, _), _)| *memory)
    }

    /// Rows that need more ports in a cycle than a memory has pass one after another from the first cycle on.
    pub(super) fn fitted(&self, wanted: Rows) -> Rows {
        let mut out = Rows::new();
        for (memory, at) in self.chip.memories.iter().enumerate() {
            let limit = at.ports.min(at.banks);
            let here = wanted.iter().filter(|((m, _), _)| *m == memory);
            let mut rest: u64 = here.clone().map(|(_, rows)| rows).sum();
            if here.clone().all(|(_, rows)| *rows <= limit) {
                out.extend(here.map(|(at, rows)| (*at, *rows)));
                continue;
            }
            let first = here.map(|((_, cycle), _)| *cycle).min().unwrap_or(0);
            for cycle in first.. {
                if rest == 0 {
                    break;
                }
                // The last of them hold all ports too.
                out.insert((memory, cycle), limit);
                rest = rest.saturating_sub(limit);
            }
        }
        out
    }

    /// Eighths of a cycle that bytes take of a memory's bandwidth, where arrays and other memories share one.
    fn eighths(&self, memory: usize, bytes: u128) -> Option<i64> {
        let rate = self.chip.memories[memory]
            .bandwidth
            .filter(|_| memory > 0)?;
        Some((8 * bytes * self.chip.clock.0 as u128).div_ceil(rate.0 as u128) as i64)
    }

    /// The memory whose bandwidth does not let so many bytes pass by the last of these cycles; or, where they take
    /// longer, is not free in the first.
    pub(super) fn narrow(&self, loads: &[(usize, u128, i64, i64)]) -> Option<usize> {
        let late = loads.iter().find(|(memory, bytes, first, last)| {
            let free = self.bandwidth_free[*memory];
            self.eighths(*memory, *bytes).is_some_and(|time| {
                let whole = 8 * (last + 1 - first);
                if time <= whole {
                    free + time > 8 * (last + 1)
                } else {
                    free > 8 * first
                }
            })
        });
        late.map(|(memory, ..)| *memory)
    }

    pub(super) fn take_bandwidth(&mut self, loads: &[(usize, u128, i64, i64)]) {
        for (memory, bytes, first, _) in loads {
            if let Some(time) = self.eighths(*memory, *bytes) {
                let free = self.bandwidth_free[*memory].max(8 * first) + time;
                self.bandwidth_free[*memory] = free;
                self.end = self.end.max((free + 7) / 8);
            }
        }
    }

    pub(super) fn take_ports(&mut self, wanted: Rows) {
        for ((memory, cycle), rows) in wanted {
            *self.ports.entry((memory, cycle)).or_insert(0) += rows;
            self.end = self.end.max(cycle + 1);
        }
    }

    /// An Einsum's next task.
    pub(super) fn next(&self, e: usize) -> Option<&Work> {
        self.plan.ops[e].work.get(self.started[e].len())
    }

    /// What is next on a unit: the first in order, with those that take turns with it, a step each.
    pub(super) fn turn(&self, unit: usize) -> Option<Turn> {
        let ops = (0..self.plan.ops.len()).filter(|e| self.plan.ops[*e].unit == unit);
        let ready = ops.filter_map(|e| Some((self.next(e)?, e)));
        let first = ready
            .clone()
            .min_by_key(|(w, e)| (w.order.clone(), *e))?
            .0
            .order
            .clone();
        let members: Vec<(usize, &Work)> = ready
            .filter(|(w, _)| w.order == first)
            .map(|(w, e)| (e, w))
            .collect();
        let mut times = vec![Vec::new(); members.len()];
        let mut time = 0;
        for round in 0..members.iter().map(|(_, w)| w.steps).max()? {
            for ((_, w), times) in members.iter().zip(&mut times) {
                if round < w.steps {
                    times.push(time);
                    time += w.cycles;
                }
            }
        }
        Some(Turn {
            load: members.iter().map(|(_, w)| w.load).sum(),
            shift: members.iter().map(|(_, w)| w.shift).sum(),
            members: members.iter().map(|(e, _)| *e).zip(times).collect(),
            length: time,
        })
    }

    /// When a task's use of a tile ends.
    pub(super) fn use_end(&self, e: usize, t: usize, from: From, cycles: i64) -> Option<i64> {
        let steps = self.started[e].get(t)?;
        let (first, last) = (steps[0], steps[steps.len() - 1]);
        let end = match from {
            From::First => first,
            From::Last => last,
            From::End => last + self.plan.ops[e].work[t].cycles,
        };
        // Not before the task's first step, even if all was read before.
        Some((end + cycles).max(self.begun[e][t]))
    }

    pub(super) fn task_end(&self, e: usize, t: usize) -> Option<i64> {
        let steps = self.started[e].get(t)?;
        Some(steps[steps.len() - 1] + self.plan.ops[e].work[t].cycles)
    }

    /// Until when the users of a kept tile need it; none where one has yet to come.
    pub(super) fn released(&self, keep: usize, tile: usize, but: Option<usize>) -> Option<i64> {
        let mut until = 0;
        for (e, op) in self.plan.ops.iter().enumerate() {
            for (t, w) in op.work.iter().enumerate() {
                for u in w.uses.iter().filter(|u| u.keep == keep && u.tile <= tile) {
                    let end = self.use_end(e, t, u.from, u.cycles)?;
                    if Some(e) != but && u.tile == tile {
                        until = until.max(end);
                    }
                }
            }
        }
        if let Some(drain) = self.plan.keeps[keep].drain {
            until = until.max(self.moved[drain].get(tile)?.taken);
        }
        // What goes further in from there.
        for part in self.parts(keep, tile, true) {
            until = until.max(part?.taken);
        }
        Some(until)
    }

    /// The requests that take parts of a kept tile, or of one before it, further in, or bring them from there; of
    /// those that have yet to start, none.
    pub(super) fn parts(
        &self,
        keep: usize,
        tile: usize,
        inward: bool,
    ) -> impl Iterator<Item = Option<Moved>> {
        let movers = self.plan.movers.iter().zip(&self.moved);
        let this_way = move |m: &Kind| matches!(m, Kind::Fill(_)) == inward;
        movers
            .filter(move |(m, _)| this_way(&m.kind))
            .flat_map(move |(m, moved)| {
                let mine =
                    move |n: &usize| m.around[*n].is_some_and(|(k, t)| k == keep && t <= tile);
                let all = (0..m.words.len()).filter(mine);
                all.map(|n| moved.get(n).copied())
            })
    }

    /// Why units and movements do not start in this cycle, when all has started that does.
    pub(super) fn note_waits(&mut self) {
        for id in 0..self.moved.len() {
            self.held[id] = self.ask(id).and_then(Result::err);
        }
        for unit in 0..self.free.len() {
            let start = self.now + self.frames[unit];
            if self.free[unit] <= start
                && let Some(turn) = self.turn(unit)
                && let Err(wait) = self.together(unit, turn, start)
            {
                self.waiting[unit] = wait;
            }
        }
    }

    /// Bytes of kept tiles that are there, or on their way, at the worst moment.
    pub(super) fn note_peak(&mut self) {
        let mut changes: BTreeMap<(i64, bool), Vec<(usize, u128)>> = BTreeMap::new();
        for (k, keep) in self.plan.keeps.iter().enumerate() {
            for tile in 0..=keep.tiles.last().map_or(0, |t| t.1) {
                let mut begun = keep
                    .fill
                    .and_then(|fill| self.moved[fill].get(tile))
                    .map(|m| m.began);
                for (e, op) in self
                    .plan
                    .ops
                    .iter()
                    .enumerate()
                    .filter(|_| keep.fill.is_none())
                {
                    for (t, w) in op.work.iter().enumerate() {
                        if let Some((_, _, step, way)) = w.makes.filter(|m| (m.0, m.1) == (k, tile))
                        {
                            let at = self.started[e][t][step] + w.cycles + way;
                            begun = Some(begun.map_or(at, |b| b.min(at)));
                        }
                    }
                }
                if let (Some(begun), Some(over)) = (begun, self.released(k, tile, None)) {
                    // What ends in a cycle makes room for what begins there.
                    let bytes = keep.words * self.word;
                    changes
                        .entry((begun, true))
                        .or_default()
                        .push((keep.memory, bytes));
                    changes
                        .entry((over.max(begun), false))
                        .or_default()
                        .push((keep.memory, bytes));
                }
            }
        }
        let mut held = vec![0u128; self.chip.memories.len()];
        for ((_, more), list) in changes {
            for (memory, bytes) in list {
                held[memory] = if more {
                    held[memory] + bytes
                } else {
                    held[memory].saturating_sub(bytes)
                };
                self.ran.peak[memory] = self.ran.peak[memory].max(held[memory]);
            }
        }
    }
}
