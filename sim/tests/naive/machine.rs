//! One cycle after another: whatever may start, starts.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_mappings::mapped::{Block, MappedCascade};

use super::plan::{Kind, Plan, latency};

/// Why a unit does not work in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    Filling,
    Draining,
    /// A tensor, from a memory.
    Operand(usize, usize),
    /// A tensor, from an array.
    Link(usize, usize),
    /// Room for a tensor in a memory, or at the edge on the way to or from it.
    Room(usize, usize),
    /// Room at an array's edge.
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

/// What a started request will have done.
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

struct Machine<'a> {
    chip: &'a Accelerator,
    word: u128,
    plan: &'a Plan,
    now: i64,
    /// By Einsum: first step and end of every started task.
    started: Vec<Vec<(i64, i64)>>,
    /// By unit.
    free: Vec<i64>,
    waiting: Vec<Wait>,
    moved: Vec<Vec<Moved>>,
    /// By movement: why its next request did not start in the last cycle.
    held: Vec<Option<Wait>>,
    channel_free: Vec<i64>,
    under_way: Vec<Vec<i64>>,
    /// Rows that memories move, by cycle.
    ports: BTreeMap<(usize, i64), u64>,
    ran: Ran,
    end: i64,
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
        started: vec![Vec::new(); plan.work.len()],
        free: vec![0; units],
        waiting: vec![Wait::Mapping; units],
        moved: vec![Vec::new(); plan.movers.len()],
        held: vec![None; plan.movers.len()],
        channel_free: vec![0; memories],
        under_way: vec![Vec::new(); memories],
        ports: BTreeMap::new(),
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
        let units = self.plan.work.iter().zip(&self.started).all(|((_, w), s)| w.len() == s.len());
        units && self.plan.movers.iter().zip(&self.moved).all(|(m, done)| m.words.len() == done.len())
    }

    /// Starts the first thing that may start in this cycle: units before movements.
    fn start_one(&mut self) -> bool {
        (0..self.free.len()).any(|unit| self.start_unit(unit)) || (0..self.moved.len()).any(|id| self.start_mover(id))
    }

    /// Whether uses of ports all find one.
    fn ports_free(&self, wanted: &BTreeMap<(usize, i64), u64>) -> Option<usize> {
        let clash = wanted.iter().find(|((memory, cycle), rows)| {
            let memory_of = &self.chip.memories[*memory];
            let taken = self.ports.get(&(*memory, *cycle)).copied().unwrap_or(0);
            taken + **rows > memory_of.ports.min(memory_of.banks)
        });
        clash.map(|((memory, _), _)| *memory)
    }

    fn take_ports(&mut self, wanted: BTreeMap<(usize, i64), u64>) {
        for ((memory, cycle), rows) in wanted {
            *self.ports.entry((memory, cycle)).or_insert(0) += rows;
            self.end = self.end.max(cycle + 1);
        }
    }

    /// Until when the users of a kept tile need it; none where one has yet to come.
    fn released(&self, keep: usize, tile: usize, but: Option<usize>) -> Option<i64> {
        let mut until = 0;
        for (e, (_, work)) in self.plan.work.iter().enumerate() {
            for (t, w) in work.iter().enumerate() {
                for (k, number, end, _) in &w.uses {
                    if *k == keep && *number <= tile {
                        let (first, _) = self.started[e].get(t)?;
                        if Some(e) != but && *number == tile {
                            until = until.max(first + end);
                        }
                    }
                }
            }
        }
        if let Some(drain) = self.plan.keeps[keep].drain {
            until = until.max(self.moved[drain].get(tile)?.taken);
        }
        Some(until)
    }

    fn start_unit(&mut self, unit: usize) -> bool {
        let next = (0..self.plan.work.len()).find(|e| {
            let (at, work) = &self.plan.work[*e];
            *at == unit && self.started[*e].len() < work.len()
        });
        let Some(e) = next else { return false };
        if self.free[unit] > self.now {
            return false;
        }
        match self.unit_waits(e) {
            Some(wait) => {
                self.waiting[unit] = wait;
                false
            }
            None => {
                self.run_task(unit, e);
                true
            }
        }
    }

    /// Why an Einsum's next task does not start now.
    fn unit_waits(&self, e: usize) -> Option<Wait> {
        let task = self.started[e].len();
        let work = &self.plan.work[e].1[task];
        let first = self.now + work.load as i64;
        for (mover, tile, tensor, memory, way) in &work.tiles {
            match self.moved[*mover].get(*tile) {
                Some(m) if m.whole + way <= first => {}
                Some(m) => return Some(m.late.unwrap_or(Wait::Operand(*tensor, *memory))),
                None => return Some(Wait::Operand(*tensor, *memory)),
            }
        }
        for (mover, stay) in &work.streams {
            let plan = &self.plan.movers[*mover];
            let wait = Wait::Operand(plan.tensor, plan.outer);
            let Some(m) = self.moved[*mover].get(task) else { return Some(wait) };
            // A hop from the edge. The first word is there at the first step, the last at the last.
            let last = if *stay { 0 } else { (work.steps - 1) as i64 * work.stride as i64 };
            if m.first + 1 > first || m.whole + 1 > first + last {
                return Some(m.late.unwrap_or(wait));
            }
        }
        if let Some((keep, tile, write)) = work.makes {
            let kept = &self.plan.keeps[keep];
            if let Some(old) = tile.checked_sub(kept.generations) {
                let wait = Wait::Room(kept.tensor, kept.memory);
                match self.released(keep, old, Some(e)) {
                    Some(until) if until <= first + write => {}
                    _ => return Some(wait),
                }
            }
        }
        for mover in &work.results {
            // Results of two tasks wait at the edge.
            if task >= self.moved[*mover].len() + 2 {
                let plan = &self.plan.movers[*mover];
                return Some(Wait::Room(plan.tensor, plan.outer));
            }
        }
        self.ports_free(&self.wanted(e)).map(Wait::Port)
    }

    fn wanted(&self, e: usize) -> BTreeMap<(usize, i64), u64> {
        let work = &self.plan.work[e].1[self.started[e].len()];
        let mut wanted = BTreeMap::new();
        for a in &work.accesses {
            let cycle = self.now + work.load as i64 + a.cycle;
            *wanted.entry((a.memory, cycle)).or_insert(0) += a.rows;
        }
        wanted
    }

    fn run_task(&mut self, unit: usize, e: usize) {
        let wanted = self.wanted(e);
        self.take_ports(wanted);
        let work = &self.plan.work[e].1[self.started[e].len()];
        let busy = work.steps * work.stride;
        let first = self.now + work.load as i64;
        let end = first + busy as i64 + work.shift as i64;
        let waits = &mut self.ran.waits[unit];
        *waits.entry(self.waiting[unit]).or_insert(0) += (self.now - self.free[unit]) as u64;
        *waits.entry(Wait::Filling).or_insert(0) += work.load;
        *waits.entry(Wait::Draining).or_insert(0) += work.shift;
        self.ran.busy[unit] += busy;
        self.ran.tasks += 1;
        for (transfer, words) in &work.counts {
            self.ran.words[*transfer] += words;
        }
        self.free[unit] = end;
        let array = &self.chip.arrays[unit];
        // The wavefront's last PE.
        self.end = self.end.max(end + (array.rows + array.columns) as i64 - 2);
        self.started[e].push((first, first + busy as i64));
        self.waiting[unit] = Wait::Mapping;
    }

    /// Bytes of a movement, and cycles of the channel alone.
    fn channel_cycles(&self, id: usize) -> (u128, i64) {
        let mover = &self.plan.movers[id];
        let bytes = mover.words[self.moved[id].len()] * self.word;
        let memory = &self.chip.memories[mover.outer];
        let cycles = match memory.bandwidth {
            Some(rate) => (bytes * self.chip.clock.0 as u128).div_ceil(rate.0 as u128),
            None => bytes.div_ceil(memory.row.0),
        };
        (bytes, cycles as i64)
    }

    fn start_mover(&mut self, id: usize) -> bool {
        let mover = &self.plan.movers[id];
        let number = self.moved[id].len();
        if number == mover.words.len() {
            return false;
        }
        let (bytes, channel) = self.channel_cycles(id);
        // What it waits for by itself.
        let own = self.mover_waits(id, number, channel);
        let memory = &self.chip.memories[mover.outer];
        let busy = self.channel_free[mover.outer] > self.now
            || memory.outstanding.is_some_and(|most| {
                let under_way = self.under_way[mover.outer].iter().filter(|end| **end > self.now);
                under_way.count() as u64 >= most.max(1)
            });
        if own.is_some() || busy {
            self.held[id] = own.or(Some(Wait::Channel(mover.outer)));
            return false;
        }
        let inward = matches!(mover.kind, Kind::Fill(_) | Kind::Operand(_));
        let far = latency(self.chip, mover.outer);
        let mut cycles = channel;
        let mut wanted = BTreeMap::new();
        if let (Some(inner), true) = (mover.inner, channel > 0) {
            let inner_memory = &self.chip.memories[inner];
            let rows = bytes.div_ceil(inner_memory.row.0) as i64;
            let half = (inner_memory.ports.min(inner_memory.banks) / 2).max(1) as i64;
            // As many ports as the channel's pace asks for, half of them at most; fewer than asked make it longer.
            let ports = ((rows + channel - 1) / channel).clamp(1, half);
            cycles = channel.max((rows + ports - 1) / ports);
            let from = self.now + if inward { far } else { 0 };
            wanted.extend((from..from + cycles).map(|c| ((inner, c), ports as u64)));
            if let Some(at) = self.ports_free(&wanted) {
                self.held[id] = Some(Wait::Port(at));
                return false;
            }
        }
        let room = match mover.kind {
            Kind::Fill(keep) => number.checked_sub(self.plan.keeps[keep].generations).map(|_| keep),
            _ => None,
        };
        let asked = room.map(|keep| Wait::Room(mover.tensor, self.plan.keeps[keep].memory));
        let late = self.held[id].or(asked).filter(|w| !matches!(w, Wait::Operand(..)));
        let (outer, transfer) = (mover.outer, mover.transfer);
        let counts = matches!(mover.kind, Kind::Fill(_) | Kind::Drain(_));
        if counts {
            self.ran.words[transfer] += mover.words[number];
        }
        self.take_ports(wanted);
        let now = self.now;
        let moved = if cycles == 0 {
            Moved { began: now, taken: now, first: now, whole: now, late }
        } else {
            self.channel_free[outer] = now + cycles;
            self.under_way[outer].push(now + far + cycles);
            self.ran.channel[outer] += cycles as u64;
            Moved { began: now, taken: now + cycles, first: now + far, whole: now + far + cycles, late }
        };
        self.end = self.end.max(moved.whole);
        self.moved[id].push(moved);
        self.held[id] = None;
        true
    }

    fn mover_waits(&self, id: usize, number: usize, channel: i64) -> Option<Wait> {
        let mover = &self.plan.movers[id];
        match mover.kind {
            Kind::Fill(keep) => {
                let kept = &self.plan.keeps[keep];
                let old = number.checked_sub(kept.generations)?;
                let free = self.released(keep, old, None).is_some_and(|until| until <= self.now);
                (!free).then_some(Wait::Room(kept.tensor, kept.memory))
            }
            Kind::Drain(keep) => {
                let kept = &self.plan.keeps[keep];
                let stored = latency(self.chip, kept.memory);
                let mut done = 0;
                for (e, (_, work)) in self.plan.work.iter().enumerate() {
                    for (t, w) in work.iter().enumerate() {
                        for (k, tile, end, writes) in &w.uses {
                            if *writes && *k == keep && *tile <= number {
                                let Some((first, _)) = self.started[e].get(t) else {
                                    return Some(Wait::Operand(mover.tensor, mover.outer));
                                };
                                done = done.max(first + end + stored);
                            }
                        }
                    }
                }
                (done > self.now).then_some(Wait::Operand(mover.tensor, mover.outer))
            }
            Kind::Operand(e) => {
                // The words of two tasks wait at the edge.
                let before = number.checked_sub(2)?;
                let ended = self.started[e].get(before).is_some_and(|(_, end)| *end <= self.now);
                (!ended).then_some(Wait::Edge(mover.tensor, self.plan.work[e].0))
            }
            Kind::Result(e) => {
                let Some((first, _)) = self.started[e].get(number) else {
                    return Some(Wait::Operand(mover.tensor, mover.outer));
                };
                let (begins, ends, stay) = mover.leaves[number];
                // As soon as they leave no faster than they come.
                let ready = if stay { ends } else { begins.max(ends + 1 - channel) };
                (first + ready > self.now).then_some(Wait::Operand(mover.tensor, mover.outer))
            }
        }
    }

    /// Bytes of kept tiles that are there, or on their way, at the worst moment.
    fn note_peak(&mut self) {
        let mut changes: BTreeMap<(i64, bool), Vec<(usize, u128)>> = BTreeMap::new();
        for (k, keep) in self.plan.keeps.iter().enumerate() {
            for tile in 0..=keep.tiles.last().map_or(0, |t| t.1) {
                let made = self.plan.work.iter().zip(&self.started).flat_map(|((_, work), started)| {
                    let writes = |(w, (first, _)): (&super::plan::Work, &(i64, i64))| {
                        w.makes.filter(|(kk, t, _)| (*kk, *t) == (k, tile)).map(|m| first + m.2)
                    };
                    work.iter().zip(started).filter_map(writes).collect::<Vec<_>>()
                });
                let begun = match keep.fill {
                    Some(fill) => self.moved[fill].get(tile).map(|m| m.began),
                    None => made.min(),
                };
                if let (Some(begun), Some(over)) = (begun, self.released(k, tile, None)) {
                    // What ends in a cycle makes room for what begins there.
                    let bytes = keep.words * self.word;
                    changes.entry((begun, true)).or_default().push((keep.memory, bytes));
                    changes.entry((over.max(begun), false)).or_default().push((keep.memory, bytes));
                }
            }
        }
        let mut held = vec![0u128; self.chip.memories.len()];
        for ((_, more), list) in changes {
            for (memory, bytes) in list {
                held[memory] = if more { held[memory] + bytes } else { held[memory].saturating_sub(bytes) };
                self.ran.peak[memory] = self.ran.peak[memory].max(held[memory]);
            }
        }
    }
}
