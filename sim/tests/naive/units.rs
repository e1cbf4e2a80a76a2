//! When a unit starts its next task, and what that takes.

use super::{
    chip::last_pe,
    machine::{Machine, Rows, Turn, Wait},
    movers::Loads,
    plan::Need,
};

/// What starts with a turn: unit, turn, when, and what it waited for where it is not the first.
type Starting = (usize, Turn, i64, Option<Wait>);

impl Machine<'_> {
    pub(super) fn start_unit(&mut self, unit: usize) -> bool {
        let start = self.now + self.frames[unit];
        if self.free[unit] > start {
            return false;
        }
        let Some(turn) = self.turn(unit) else {
            return false;
        };
        // A unit whose frame is late could have started in the cycles before the first.
        if self.now == 0 {
            let before = (self.free[unit]..start).rev();
            let mut waits = before.map(|at| self.together(unit, turn.clone(), at).err());
            if let Some(wait) = waits.find_map(|wait| wait) {
                self.waiting[unit] = wait;
            }
        }
        match self.together(unit, turn, start) {
            Ok((together, wanted, loads)) => {
                self.take_ports(wanted);
                self.take_bandwidth(&loads);
                for (unit, turn, start, wait) in together {
                    self.waiting[unit] = wait.unwrap_or(self.waiting[unit]);
                    self.run_turn(unit, &turn, start);
                }
                true
            }
            Err(_) => false,
        }
    }

    /// All that starts with a turn, and the ports that it takes; or why it does not start.
    pub(super) fn together(
        &self,
        unit: usize,
        turn: Turn,
        start: i64,
    ) -> Result<(Vec<Starting>, Rows, Loads), Wait> {
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
        let mut loads: Loads = Vec::new();
        for memory in 0..self.chip.memories.len() {
            let at = || wanted.keys().filter(|(m, _)| *m == memory).map(|(_, c)| *c);
            let tasks = together.iter().flat_map(|(_, turn, _, _)| &turn.members);
            let moves = tasks
                .filter_map(|(e, _)| self.next(*e))
                .flat_map(|w| &w.moves);
            let words: u128 = moves.filter(|(m, _)| *m == memory).map(|(_, n)| n).sum();
            if let (Some(first), Some(last)) = (at().min(), at().max()) {
                loads.push((memory, words * self.word, first, last));
            }
        }
        let wanted = self.fitted(wanted);
        if let Some(memory) = self.crowded(&wanted) {
            return Err(Wait::Port(memory));
        }
        match self.narrow(&loads) {
            Some(memory) => Err(Wait::Channel(memory)),
            None => Ok((together, wanted, loads)),
        }
    }

    /// Readers on other arrays that take each word as it comes: they start with their maker, when the first word is
    /// there or until the next one comes.
    pub(super) fn partners(&self, turn: &Turn, start: i64) -> Result<Vec<Starting>, Wait> {
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
    pub(super) fn turn_waits(&self, turn: &Turn, start: i64, with: Option<usize>) -> Option<Wait> {
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

    pub(super) fn task_waits(
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
                Need::Way {
                    tensor,
                    memory,
                    way,
                } => {
                    if at(0) < *way {
                        return Some(Wait::Operand(*tensor, *memory));
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
                Need::Stream { mover, stay, hop } => {
                    let plan = &self.plan.movers[*mover];
                    let wait = Wait::Operand(plan.tensor, plan.outer);
                    let Some(m) = self.moved[*mover].get(task) else {
                        return Some(self.not_yet(*mover, task, wait));
                    };
                    // From the edge on. The first word is there at the first step, the last at the last.
                    if m.first + hop > at(0) || m.whole + hop > at(if *stay { 0 } else { last }) {
                        return Some(m.late.unwrap_or(wait));
                    }
                }
            }
        }
        if let Some((keep, tile, step, way)) = work.makes {
            let kept = &self.plan.keeps[keep];
            if let Some(old) = tile.checked_sub(kept.generations) {
                let until = self.released(keep, old, Some(e));
                if until.is_none_or(|until| until > at(step) + work.cycles + way) {
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
    pub(super) fn not_yet(&self, mover: usize, number: usize, wait: Wait) -> Wait {
        let held = self.held[mover]
            .filter(|w| self.moved[mover].len() == number && !matches!(w, Wait::Operand(..)));
        held.unwrap_or(wait)
    }

    /// Rows that a turn reads and writes.
    pub(super) fn wanted(&self, turn: &Turn, start: i64) -> Rows {
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

    pub(super) fn run_turn(&mut self, unit: usize, turn: &Turn, start: i64) {
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
        self.end = self.end.max(end + last_pe(self.chip, unit));
        for (e, times) in &turn.members {
            let work = &self.plan.ops[*e].work[self.started[*e].len()];
            self.ran.busy[unit] += work.steps as u64 * work.works as u64;
            let slow = work.steps as u64 * (work.cycles - work.works) as u64;
            if slow > 0 {
                // What no link slows passes from register to register.
                let link = |(array, link)| Wait::Narrow(array, link);
                let wait = work.narrow.map_or(Wait::Mapping, link);
                *self.ran.waits[unit].entry(wait).or_insert(0) += slow;
            }
            self.ran.tasks += 1;
            for (transfer, words) in &work.counts {
                self.ran.words[*transfer] += words;
            }
            self.begun[*e].push(first);
            self.started[*e].push(times.iter().map(|t| first + t).collect());
        }
        self.waiting[unit] = Wait::Mapping;
    }
}
