//! One cycle after another: whatever may start, starts.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_mappings::mapped::{Block, MappedCascade};

use super::{
    chip::{frames, latency},
    plan::{From, Kind, Need, Plan, Work},
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
struct Moved {
    began: i64,
    /// The channel has taken all.
    taken: i64,
    first: i64,
    whole: i64,
    /// What it waited for, where that was not the words themselves.
    late: Option<Wait>,
}

/// Einsums that start together on a unit, each with the times of its steps after the first of all.
#[derive(Clone, Debug)]
struct Turn {
    members: Vec<(usize, Vec<i64>)>,
    load: i64,
    shift: i64,
    /// Cycles of all steps.
    length: i64,
}

type Rows = BTreeMap<(usize, i64), u64>;

struct Machine<'a> {
    chip: &'a Accelerator,
    word: u128,
    plan: &'a Plan,
    now: i64,
    frames: Vec<i64>,
    /// By Einsum: the times of every started task's steps.
    started: Vec<Vec<Vec<i64>>>,
    /// By Einsum: when the first step was of those that each started task takes turns with.
    begun: Vec<Vec<i64>>,
    /// By unit.
    free: Vec<i64>,
    waiting: Vec<Wait>,
    moved: Vec<Vec<Moved>>,
    /// By movement: why its next request did not start in the last cycle.
    held: Vec<Option<Wait>>,
    channel_free: Vec<i64>,
    under_way: Vec<Vec<i64>>,
    /// Rows that memories move, by cycle.
    ports: Rows,
    /// Where phases are stated.
    epoch: Epoch,
    ran: Ran,
    end: i64,
}

/// The phases of an epoch that run, all units together, each in its frame.
#[derive(Debug, Default)]
struct Epoch {
    open: Option<(Vec<u64>, i64, usize)>,
    /// When these phases began, and when what has started in them ends.
    began: i64,
    end: i64,
    /// When the epoch began, and by phase and unit how long its tasks take.
    first: i64,
    work: BTreeMap<(usize, usize), i64>,
    /// Why it began no earlier, and the longest wait since then.
    cause: Option<Wait>,
    longest: (i64, Option<Wait>),
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
    fn is_done(&self) -> bool {
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
    fn start_one(&mut self) -> bool {
        self.next_phases();
        (0..self.free.len()).any(|unit| self.start_unit(unit))
            || (0..self.moved.len()).any(|id| self.start_mover(id))
    }

    /// The next phases begin when all tasks of those before have started: when the last of them has ended, and an epoch no
    /// earlier than the mapping states for the one before.
    fn next_phases(&mut self) {
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
    fn stage(&self, wait: Wait, unit: usize, e: usize) -> Wait {
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
    fn crowded(&self, wanted: &Rows) -> Option<usize> {
        let clash = wanted.iter().find(|((memory, cycle), rows)| {
            let at = &self.chip.memories[*memory];
            let taken = self.ports.get(&(*memory, *cycle)).copied().unwrap_or(0);
            taken + **rows > at.ports.min(at.banks)
        });
        clash.map(|((memory, _), _)| *memory)
    }

    fn take_ports(&mut self, wanted: Rows) {
        for ((memory, cycle), rows) in wanted {
            *self.ports.entry((memory, cycle)).or_insert(0) += rows;
            self.end = self.end.max(cycle + 1);
        }
    }

    /// An Einsum's next task.
    fn next(&self, e: usize) -> Option<&Work> {
        self.plan.ops[e].work.get(self.started[e].len())
    }

    /// What is next on a unit: the first in order, with those that take turns with it, a step each.
    fn turn(&self, unit: usize) -> Option<Turn> {
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
    fn use_end(&self, e: usize, t: usize, from: From, cycles: i64) -> Option<i64> {
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

    fn task_end(&self, e: usize, t: usize) -> Option<i64> {
        let steps = self.started[e].get(t)?;
        Some(steps[steps.len() - 1] + self.plan.ops[e].work[t].cycles)
    }

    /// Until when the users of a kept tile need it; none where one has yet to come.
    fn released(&self, keep: usize, tile: usize, but: Option<usize>) -> Option<i64> {
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
        if let Some(fill) = self.plan.keeps[keep].fill {
            for (m, mover) in self.plan.movers.iter().enumerate() {
                for n in (0..mover.words.len())
                    .filter(|n| mover.after[*n].is_some_and(|(f, t)| f == fill && t <= tile))
                {
                    let taken = self.moved[m].get(n)?.taken;
                    if mover.after[n] == Some((fill, tile)) {
                        until = until.max(taken);
                    }
                }
            }
        }
        Some(until)
    }

    fn start_unit(&mut self, unit: usize) -> bool {
        let start = self.now + self.frames[unit];
        if self.free[unit] > start {
            return false;
        }
        let Some(turn) = self.turn(unit) else {
            return false;
        };
        match self.together(unit, turn, start) {
            Ok((together, wanted)) => {
                self.take_ports(wanted);
                for (unit, turn, start, wait) in together {
                    self.waiting[unit] = wait.unwrap_or(self.waiting[unit]);
                    self.run_turn(unit, &turn, start);
                }
                true
            }
            Err(_) => false,
        }
    }

    /// Why units and movements do not start in this cycle, when all has started that does.
    fn note_waits(&mut self) {
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

    /// All that starts with a turn, and the ports that it takes; or why it does not start.
    #[allow(clippy::type_complexity)]
    fn together(
        &self,
        unit: usize,
        turn: Turn,
        start: i64,
    ) -> Result<(Vec<(usize, Turn, i64, Option<Wait>)>, Rows), Wait> {
        if let Some(wait) = self.turn_waits(&turn, start, None) {
            return Err(wait);
        }
        let mut together = self.partners(&turn, start)?;
        together.insert(0, (unit, turn, start, None));
        let mut wanted = Rows::new();
        for (_, turn, start, _) in &together {
            for (at, rows) in self.wanted(turn, *start) {
                *wanted.entry(at).or_insert(0) += rows;
            }
        }
        match self.crowded(&wanted) {
            Some(memory) => Err(Wait::Port(memory)),
            None => Ok((together, wanted)),
        }
    }

    /// Readers on other arrays that take each word as it comes: they start with their maker, when the first word is there or until
    /// the next one comes.
    fn partners(
        &self,
        turn: &Turn,
        start: i64,
    ) -> Result<Vec<(usize, Turn, i64, Option<Wait>)>, Wait> {
        let mut out = Vec::new();
        for (maker, times) in &turn.members {
            for (reader, _, delay, lockstep) in &self.plan.ops[*maker].readers {
                if !lockstep {
                    continue;
                }
                let (unit, tensor) = (self.plan.ops[*reader].unit, self.plan.ops[*maker].output);
                let wait = Wait::Edge(tensor, unit);
                let other = self.turn(unit).ok_or(wait)?;
                let theirs = other
                    .members
                    .iter()
                    .find(|(e, _)| e == reader)
                    .ok_or(wait)?;
                let task = self.started[*maker].len();
                let needs = |need: &Need| matches!(need, Need::Made { maker: m, task: t, .. } if m == maker && *t == task);
                if !self
                    .next(*reader)
                    .is_some_and(|w| w.needs.iter().any(|(_, n)| needs(n)))
                {
                    return Err(wait);
                }
                let cycles = self.plan.ops[*maker].work[task].cycles;
                let words = times
                    .iter()
                    .zip(&theirs.1)
                    .map(|(a, b)| a + cycles + delay - b)
                    .max()
                    .unwrap_or(0);
                let lead = words + turn.load - other.load;
                // A word waits until the next one comes.
                let slack = times.get(1).map_or(cycles, |second| second - times[0]) - 1;
                let from = start + lead;
                let ready = |at: i64| {
                    if self.free[unit] > at {
                        return Some(self.waiting[unit]);
                    }
                    self.turn_waits(&other, at, Some(*maker))
                };
                let at = (from..=from + slack).find(|at| ready(*at).is_none());
                let Some(at) = at else {
                    return Err(ready(from + slack).unwrap_or(wait));
                };
                let late = ready(at - 1).filter(|_| at > self.free[unit]);
                let late = late.unwrap_or(Wait::Link(tensor, self.plan.ops[*maker].unit));
                out.push((unit, other, at, Some(late)));
            }
        }
        Ok(out)
    }

    /// Why a turn does not start at a time; `with`: a maker that starts together with it.
    fn turn_waits(&self, turn: &Turn, start: i64, with: Option<usize>) -> Option<Wait> {
        if let (Some(open), Some(work)) = (&self.epoch.open, self.next(turn.members[0].0)) {
            let unit = self.plan.ops[turn.members[0].0].unit;
            if *open
                != (
                    work.order.scope.clone(),
                    work.order.epoch,
                    work.order.segment,
                )
            {
                return Some(Wait::Mapping);
            }
            if self.epoch.began + self.frames[unit] > start {
                return self.epoch.cause;
            }
        }
        turn.members
            .iter()
            .find_map(|(e, times)| self.task_waits(turn, *e, times, start, with))
    }

    fn task_waits(
        &self,
        turn: &Turn,
        e: usize,
        times: &[i64],
        start: i64,
        with: Option<usize>,
    ) -> Option<Wait> {
        let work = self.next(e)?;
        let task = self.started[e].len();
        let at = |step: usize| start + turn.load + times[step];
        let last = work.steps - 1;
        for (_, need) in &work.needs {
            match need {
                Need::Made {
                    maker,
                    task,
                    tensor,
                    memory,
                    delay,
                    by_word,
                } => {
                    if with == Some(*maker) && memory.is_none() {
                        continue;
                    }
                    let wait = match memory {
                        Some(memory) => Wait::Operand(*tensor, *memory),
                        None => Wait::Link(*tensor, self.plan.ops[*maker].unit),
                    };
                    let Some(made) = self.started[*maker].get(*task) else {
                        // Those that take turns hand over in the order of their turns.
                        if turn.members.iter().any(|(m, _)| m == maker) {
                            continue;
                        }
                        return Some(wait);
                    };
                    let cycles = self.plan.ops[*maker].work[*task].cycles;
                    let there = if *by_word {
                        made.iter()
                            .enumerate()
                            .all(|(k, made)| made + cycles + delay <= at(k))
                    } else {
                        made[made.len() - 1] + cycles + delay <= at(0)
                    };
                    if !there {
                        return Some(wait);
                    }
                }
                Need::Tile {
                    mover,
                    tile,
                    tensor,
                    memory,
                    way,
                } => {
                    let wait = Wait::Operand(*tensor, *memory);
                    let Some(m) = self.moved[*mover].get(*tile) else {
                        return Some(self.not_yet(*mover, *tile, wait));
                    };
                    if m.whole + way > at(0) {
                        return Some(m.late.unwrap_or(wait));
                    }
                }
                Need::Stream { mover, stay } => {
                    let plan = &self.plan.movers[*mover];
                    let wait = Wait::Operand(plan.tensor, plan.outer);
                    let Some(m) = self.moved[*mover].get(task) else {
                        return Some(self.not_yet(*mover, task, wait));
                    };
                    // A hop from the edge. The first word is there at the first step, the last at the last.
                    if m.first + 1 > at(0) || m.whole + 1 > at(if *stay { 0 } else { last }) {
                        return Some(m.late.unwrap_or(wait));
                    }
                }
            }
        }
        if let Some((keep, tile, step, way)) = work.makes {
            let kept = &self.plan.keeps[keep];
            if let Some(old) = tile.checked_sub(kept.generations) {
                let until = self.released(keep, old, Some(e));
                if !until.is_some_and(|until| until <= at(step) + work.cycles + way) {
                    return Some(Wait::Room(kept.tensor, kept.memory));
                }
            }
        }
        let op = &self.plan.ops[e];
        for (reader, tiles, delay, lockstep) in &op.readers {
            if *lockstep || !op.whole_tiles {
                continue;
            }
            let Some(before) = task.checked_sub(*tiles) else {
                continue;
            };
            let taken = self.started[*reader].get(before).is_some_and(|steps| {
                let last_read = steps[steps.len() - 1] + 1;
                let first_word = if op.rows_apart {
                    0
                } else {
                    times[last] + work.cycles
                };
                last_read - delay - first_word <= start + turn.load
            });
            if !taken {
                return Some(Wait::Edge(op.output, self.plan.ops[*reader].unit));
            }
        }
        // Results of two tasks wait at the edge.
        let mover = work.result?;
        let plan = &self.plan.movers[mover];
        (task >= self.moved[mover].len() + 2).then_some(Wait::Room(plan.tensor, plan.outer))
    }

    /// What a request waits for that has not started, where it is next.
    fn not_yet(&self, mover: usize, number: usize, wait: Wait) -> Wait {
        let held = self.held[mover]
            .filter(|w| self.moved[mover].len() == number && !matches!(w, Wait::Operand(..)));
        held.unwrap_or(wait)
    }

    /// Rows that a turn reads and writes.
    fn wanted(&self, turn: &Turn, start: i64) -> Rows {
        let mut wanted = Rows::new();
        for (e, times) in &turn.members {
            let Some(work) = self.next(*e) else { continue };
            for a in &work.accesses {
                let end = if a.at_end { work.cycles } else { 0 };
                let cycle = start + turn.load + times[a.step] + end + a.cycles;
                *wanted.entry((a.memory, cycle)).or_insert(0) += a.rows;
            }
        }
        wanted
    }

    fn run_turn(&mut self, unit: usize, turn: &Turn, start: i64) {
        let first = start + turn.load;
        let gap = start - self.free[unit];
        let wait = self.stage(self.waiting[unit], unit, turn.members[0].0);
        let waits = &mut self.ran.waits[unit];
        *waits.entry(wait).or_insert(0) += gap as u64;
        *waits.entry(Wait::Filling).or_insert(0) += turn.load as u64;
        *waits.entry(Wait::Draining).or_insert(0) += turn.shift as u64;
        let end = first + turn.length + turn.shift;
        self.free[unit] = end;
        self.epoch.end = self.epoch.end.max(end - self.frames[unit]);
        if gap > self.epoch.longest.0 {
            self.epoch.longest = (gap, Some(wait));
        }
        for (e, times) in &turn.members {
            if let Some(phase) = self.plan.ops[*e].phase {
                let cycles = self.plan.ops[*e].work[self.started[*e].len()].cycles;
                *self.epoch.work.entry((phase, unit)).or_insert(0) += times.len() as i64 * cycles;
            }
        }
        let array = &self.chip.arrays[unit];
        // The wavefront's last PE.
        self.end = self.end.max(end + (array.rows + array.columns) as i64 - 2);
        for (e, times) in &turn.members {
            let work = &self.plan.ops[*e].work[self.started[*e].len()];
            self.ran.busy[unit] += work.steps as u64 * work.cycles as u64;
            self.ran.tasks += 1;
            for (transfer, words) in &work.counts {
                self.ran.words[*transfer] += words;
            }
            if std::env::var("NAIVE_SEED").is_ok() {
                println!(
                    "naive: task of {e} at {start} first {first} {:?}",
                    self.waiting[unit]
                );
            }
            self.begun[*e].push(first);
            self.started[*e].push(times.iter().map(|t| first + t).collect());
        }
        self.waiting[unit] = Wait::Mapping;
    }

    /// Whether a movement's next request may start now, with cycles of the channel and ports; none where it has none left.
    fn ask(&self, id: usize) -> Option<Result<(i64, Rows), Wait>> {
        let mover = &self.plan.movers[id];
        let number = self.moved[id].len();
        let bytes = mover.words.get(number)? * self.word;
        let memory = &self.chip.memories[mover.outer];
        let channel = match memory.bandwidth {
            Some(rate) => (bytes * self.chip.clock.0 as u128).div_ceil(rate.0 as u128),
            None => bytes.div_ceil(memory.row.0),
        } as i64;
        let (ready, wait) = self.mover_ready(id, number, channel);
        if ready.is_none_or(|ready| ready > self.now) {
            return Some(Err(wait));
        }
        if self.channel_ends(mover.outer) > self.now {
            return Some(Err(Wait::Channel(mover.outer)));
        }
        let (Some(inner), true) = (mover.inner, channel > 0) else {
            return Some(Ok((channel, Rows::new())));
        };
        let at = &self.chip.memories[inner];
        let rows = bytes.div_ceil(at.row.0) as i64;
        let half = (at.ports.min(at.banks) / 2).max(1) as i64;
        // As many ports as the channel's pace asks for, half of them at most: then it takes longer.
        let ports = ((rows + channel - 1) / channel).clamp(1, half);
        let cycles = channel.max((rows + ports - 1) / ports);
        let inward = matches!(mover.kind, Kind::Fill(_));
        let from = self.now
            + if inward {
                latency(self.chip, mover.outer)
            } else {
                0
            };
        let wanted: Rows = (from..from + cycles)
            .map(|c| ((inner, c), ports as u64))
            .collect();
        Some(match self.crowded(&wanted) {
            Some(at) => Err(Wait::Port(at)),
            None => Ok((cycles, wanted)),
        })
    }

    fn start_mover(&mut self, id: usize) -> bool {
        let Some(Ok((cycles, wanted))) = self.ask(id) else {
            return false;
        };
        let plan = self.plan;
        let mover = &plan.movers[id];
        let number = self.moved[id].len();
        let far = latency(self.chip, mover.outer);
        // What ended last of all that it asked for, even where it was there before its turn came.
        let (ready, own) = self.mover_ready(id, number, cycles);
        let late = match self.held[id] {
            Some(Wait::Port(memory)) => Some(Wait::Port(memory)),
            _ if ready.is_some_and(|ready| self.channel_ends(mover.outer) > ready) => {
                Some(Wait::Channel(mover.outer))
            }
            _ => Some(own).filter(|w| !matches!(w, Wait::Operand(..) | Wait::Link(..))),
        };
        if matches!(mover.kind, Kind::Fill(_) | Kind::Drain(_)) {
            self.ran.words[mover.transfer] += mover.words[number];
        }
        self.take_ports(wanted);
        let now = self.now;
        let mut moved = Moved {
            began: now,
            taken: now,
            first: now,
            whole: now,
            late,
        };
        if cycles > 0 {
            self.channel_free[mover.outer] = now + cycles;
            self.under_way[mover.outer].push(now + far + cycles);
            self.ran.channel[mover.outer] += cycles as u64;
            moved = Moved {
                taken: now + cycles,
                first: now + far,
                whole: now + far + cycles,
                ..moved
            };
        }
        if std::env::var("NAIVE_SEED").is_ok() {
            println!(
                "naive: {:?} {number} of {} {moved:?}",
                mover.kind, mover.tensor
            );
        }
        self.end = self.end.max(moved.whole);
        self.moved[id].push(moved);
        self.held[id] = None;
        true
    }

    /// When a memory's channel is free for another request.
    fn channel_ends(&self, memory: usize) -> i64 {
        let under_way = &self.under_way[memory];
        let most = self.chip.memories[memory]
            .outstanding
            .map(|most| most.max(1) as usize);
        let oldest = most
            .and_then(|most| under_way.len().checked_sub(most))
            .map_or(0, |at| under_way[at]);
        self.channel_free[memory].max(oldest)
    }

    /// When a request may start, the channel aside, none where that is not known yet; and what it waits for until then.
    fn mover_ready(&self, id: usize, number: usize, channel: i64) -> (Option<i64>, Wait) {
        let mover = &self.plan.movers[id];
        let words = Wait::Operand(mover.tensor, mover.outer);
        let (ready, wait) =
            match mover.kind {
                Kind::Fill(keep) => {
                    let kept = &self.plan.keeps[keep];
                    match number.checked_sub(kept.generations) {
                        Some(old) => (
                            self.released(keep, old, None),
                            Wait::Room(kept.tensor, kept.memory),
                        ),
                        None => (Some(0), words),
                    }
                }
                Kind::Drain(keep) => {
                    let stored = latency(self.chip, self.plan.keeps[keep].memory);
                    let mut last = Some(0);
                    for (e, op) in self.plan.ops.iter().enumerate() {
                        for (t, w) in op.work.iter().enumerate() {
                            for u in w.uses.iter().filter(|u| {
                                u.from == From::End && u.keep == keep && u.tile <= number
                            }) {
                                let end = self.use_end(e, t, u.from, u.cycles);
                                last = last.zip(end).map(|(last, end)| last.max(end));
                            }
                        }
                    }
                    (last.map(|last| last + stored), words)
                }
                Kind::Operand(e) => match number.checked_sub(2) {
                    // The words of two tasks wait at the edge.
                    Some(before) => (
                        self.task_end(e, before),
                        Wait::Edge(mover.tensor, self.plan.ops[e].unit),
                    ),
                    None => (Some(0), words),
                },
                Kind::Result(e) => {
                    let (way, last_way, end_only) = mover.leaves;
                    // They leave no faster than they come.
                    let ready = self.started[e].get(number).map(|steps| {
                        let cycles = self.plan.ops[e].work[number].cycles;
                        let first = steps[0] + cycles + way;
                        let end = steps[steps.len() - 1] + cycles + last_way;
                        if end_only {
                            end
                        } else {
                            first.max(end + 1 - channel)
                        }
                    });
                    (ready, words)
                }
            };
        let Some((writer, at)) = mover.after[number] else {
            return (ready, wait);
        };
        let made = self
            .plan
            .ops
            .iter()
            .find(|o| o.output == self.plan.movers[writer].tensor);
        let source = Wait::Link(mover.tensor, made.map_or(0, |o| o.unit));
        match (ready, self.moved[writer].get(at)) {
            (None, _) => (None, wait),
            (_, None) => (None, source),
            (Some(ready), Some(m)) if m.whole > ready => (Some(m.whole), source),
            _ => (ready, wait),
        }
    }

    /// Bytes of kept tiles that are there, or on their way, at the worst moment.
    fn note_peak(&mut self) {
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
