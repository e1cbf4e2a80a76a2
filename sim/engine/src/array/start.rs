//! When a unit may start: the earliest cycle at which every step finds its words, and its results find room.

use super::{
    ArrayError,
    engine::{Engine, Stop, Turn},
    plan::{step_counts, step_tile},
    tensors::{NOT_MADE, THERE},
};
use crate::program::{Need, Op, Ports, Read, StreamKind, Way, needed};

impl Engine<'_> {
    /// When a unit's next group may start, ports aside; none: it has no task left.
    pub fn unit_time(&self, unit: usize) -> Option<Result<u64, Stop>> {
        let turn = self.turns[unit].as_ref()?;
        Some(self.group_time(unit, turn, None))
    }

    /// `without`: a maker that starts together with this group.
    pub fn group_time(
        &self,
        unit: usize,
        turn: &Turn,
        without: Option<usize>,
    ) -> Result<u64, Stop> {
        let mut time = self.unit_free[unit];
        if !self.program.segments.is_empty() {
            let key = self.ops[turn.members[0]].key;
            if self.barrier.open != Some((key.scope, key.epoch, key.segment)) {
                return Err(Stop::Waits("the units of the phase before".into()));
            }
            time = time.max(self.barrier.floor + self.program.frames[unit]);
        }
        for (position, member) in turn.members.iter().enumerate() {
            let op = &self.program.ops[*member];
            for (i, read) in op.reads.iter().enumerate() {
                let starts = self.read_time(*member, i, read, turn, position, without)?;
                time = time.max(starts);
            }
            time = time.max(self.room_time(*member, op, turn, position)?);
        }
        if without.is_none() {
            for pair in &self.program.lockstep {
                if turn.members.contains(&pair.maker) && !turn.members.contains(&pair.reader) {
                    time = time.max(self.partner_time(turn, pair.maker, pair.reader)?);
                }
            }
        }
        Ok(time)
    }

    /// The earliest start of a maker whose reader on another array takes each word as it comes: that reader must be next there,
    /// and no word may wait for it longer than until the next one comes.
    fn partner_time(&self, turn: &Turn, maker: usize, reader: usize) -> Result<u64, Stop> {
        let unit = self.program.ops[reader].unit;
        let waits = || Stop::Waits(format!("{} to take its words", self.name(reader)));
        let other = self.turns[unit].as_ref().ok_or_else(waits)?;
        let lead = self.lead(turn, maker, other, reader).ok_or_else(waits)?;
        let reader_starts = self.group_time(unit, other, Some(maker))?;
        let slack = turn.position(maker).map_or(0, |m| turn.issue.stride(m) - 1);
        let earliest = reader_starts as i64 - lead - slack as i64;
        Ok(earliest.max(0) as u64)
    }

    /// Cycles from the start of a maker's group to the earliest of its reader's, at which every step finds the word of the same
    /// step; none where the reader is not next, or takes other words.
    pub fn lead(&self, turn: &Turn, maker: usize, other: &Turn, reader: usize) -> Option<i64> {
        let (m, r) = (turn.position(maker)?, other.position(reader)?);
        let op = &self.program.ops[reader];
        let takes = |read: &Read| {
            read.maker
                .as_ref()
                .is_some_and(|m| m.op == maker && m.memory.is_none())
        };
        let i = op.reads.iter().position(takes)?;
        let by = op.reads[i].maker.as_ref()?;
        let need = needed(self.program, op, &op.reads[i], by, &self.ops[reader].tile);
        if need != Need::UpTo(self.ops[maker].place) {
            return None;
        }
        let travel = self.plans[reader].travels[i]?.cycles;
        let (made, taken) = (&turn.issue.times[m], &other.issue.times[r]);
        let each = made.iter().zip(taken);
        let lead = each
            .map(|(made, taken)| (made + turn.issue.cycles[m] + travel) as i64 - *taken as i64)
            .max()
            .unwrap_or(0);
        Some(lead + turn.load as i64 - other.load as i64)
    }

    /// The earliest start at which a member's operand is there.
    fn read_time(
        &self,
        member: usize,
        i: usize,
        read: &Read,
        turn: &Turn,
        position: usize,
        without: Option<usize>,
    ) -> Result<u64, Stop> {
        let mut time = 0;
        let first = turn.load + turn.issue.first(position);
        if let Some(maker) = &read.maker
            && (without != Some(maker.op) || maker.memory.is_some())
        {
            time = time.max(self.made_time(member, i, read, turn, position)?);
        }
        if let Some(keep) = read.keep
            && let Some(stream) = self.program.keeps[keep].fill
        {
            let generation = self.generation(member, keep);
            let state = &self.streams[stream];
            let memory = self.program.keeps[keep].memory;
            if !state.cursor.done && state.place <= generation {
                let tensor = self.tensor_name(read.tensor.0);
                let memory = &self.mapped.accelerator.memories[memory].name;
                return Err(Stop::Waits(format!("its tile of {tensor} in {memory}")));
            }
            let there = state.arrived.iter().rev().find(|a| a.place <= generation);
            if let (Some(there), Some(way)) = (there, &read.way) {
                time = time.max((there.whole + way.delay + way.burst - 1).saturating_sub(first));
            }
        }
        if let Some(stream) = read.stream {
            let state = &self.streams[stream];
            let place = self.ops[member].place;
            if !state.cursor.done && state.place <= place {
                let tensor = self.tensor_name(read.tensor.0);
                return Err(Stop::Waits(format!("the stream of {tensor}")));
            }
            if let Some(there) = state.arrived.iter().rev().find(|a| a.place <= place) {
                // A hop from the edge; the first word for the first step, the last for the last, or for the first where all stay.
                let last = match read.stays {
                    true => first,
                    false => turn.load + turn.issue.last(position),
                };
                time = time.max((there.first + 1).saturating_sub(first));
                time = time.max((there.whole + 1).saturating_sub(last));
            }
        }
        Ok(time)
    }

    /// The earliest start at which what an Einsum of this block makes is there. Einsums that go word by word wait for each word; others
    /// for the whole tasks that make their words.
    fn made_time(
        &self,
        member: usize,
        i: usize,
        read: &Read,
        turn: &Turn,
        position: usize,
    ) -> Result<u64, Stop> {
        let op = &self.program.ops[member];
        let Some(maker) = &read.maker else {
            return Ok(0);
        };
        let tile = &self.ops[member].tile;
        let Need::UpTo(place) = needed(self.program, op, read, maker, tile) else {
            return Ok(0);
        };
        let made = &self.ops[maker.op];
        if !made.cursor.done && made.place <= place {
            // Members of one group hand over in the order of their turns; each read is looked at when it happens.
            if turn.members.contains(&maker.op) {
                return Ok(0);
            }
            return Err(Stop::Waits(self.missing(member, i, read, tile)));
        }
        let Some(travel) = self.plans[member].travels[i] else {
            return Ok(0);
        };
        let mut time = 0i64;
        let load = turn.load as i64;
        let access = &self.plans[member].reads[i];
        let tensor = &self.tensors[read.tensor.0];
        let mut words = Vec::new();
        let limit = made.upto(place);
        // Where the task of the very tile was left out, the last before it counts as a whole.
        let exact = limit > 0 && made.done[limit as usize - 1].place == place;
        if maker.by_word && exact {
            let counts = step_counts(op, tile);
            for (step, at) in turn.issue.times[position].iter().enumerate() {
                // As the same step of the task that counts.
                let same_step = || {
                    let steps = turn.issue.times[position].len() as u64;
                    let done = &made.done[limit as usize - 1];
                    let stride = (done.last - done.first) / steps.saturating_sub(1).max(1);
                    done.end - (steps - 1 - step as u64) * stride + travel.cycles
                };
                let Some(inside) = step_tile(op, &counts, tile, step as u64) else {
                    // An idle slot of a partial tile is handed over like another.
                    time = time.max(same_step() as i64 - load - *at as i64);
                    continue;
                };
                access.words(&inside, &mut words);
                for word in &words {
                    let word = tensor.latest(*word);
                    if matches!(tensor.task[word], NOT_MADE | THERE) {
                        continue;
                    }
                    let there = if tensor.task[word] > limit {
                        // Made anew since.
                        same_step()
                    } else {
                        tensor.made[word] + travel.cycles
                    };
                    time = time.max(there as i64 - load - *at as i64);
                }
            }
        } else {
            access.words(tile, &mut words);
            let mut latest = 0;
            for word in &words {
                let word = tensor.latest(*word);
                if !matches!(tensor.task[word], NOT_MADE | THERE) {
                    latest = latest.max(tensor.task[word].min(limit));
                }
            }
            // Tasks end in order.
            if !exact {
                latest = limit;
            }
            if latest > 0 {
                let end = made.done[latest as usize - 1].end;
                time = (end + travel.cycles) as i64 - load - turn.issue.first(position) as i64;
            }
        }
        Ok(time.max(0) as u64)
    }

    /// The first word of an operand that has not been made, in words.
    fn missing(&self, member: usize, i: usize, read: &Read, tile: &crate::program::Tile) -> String {
        let tensor = &self.tensors[read.tensor.0];
        let mut words = Vec::new();
        self.plans[member].reads[i].words(tile, &mut words);
        let name = self.tensor_name(read.tensor.0);
        let first = words
            .iter()
            .find(|w| tensor.task[**w] == NOT_MADE)
            .or(words.first());
        match first {
            Some(word) => format!(
                "{name}{}, which has not been made",
                tensor.layout.coordinates(*word)
            ),
            None => name.into(),
        }
    }

    /// The earliest start at which there is room for what an Einsum makes.
    fn room_time(&self, member: usize, op: &Op, turn: &Turn, position: usize) -> Result<u64, Stop> {
        let mut time = 0;
        let state = &self.ops[member];
        let waits = |what: String| Stop::Waits(format!("room for its words {what}"));
        if let (Some(keep), Some(way)) = (op.writes, &op.result) {
            let plan = &self.program.keeps[keep];
            let generation = self.generation(member, keep);
            let new = state.recent.back().is_some_and(|g| *g != generation);
            if new && state.recent.len() >= plan.generations {
                let old = state.recent[state.recent.len() - plan.generations];
                let memory = &self.mapped.accelerator.memories[plan.memory].name;
                let free = self.released(keep, old, Some(member));
                let free = free.ok_or_else(|| waits(format!("in {memory}")))?;
                let writes = self.accesses(member, way, turn, position, true);
                let first = writes.first().copied().unwrap_or(0);
                time = time.max(free.saturating_sub(turn.load + first + way.delay));
            }
        }
        for (reader, other) in self.program.ops.iter().enumerate() {
            for (i, read) in other.reads.iter().enumerate() {
                let Some(maker) = read.maker.as_ref().filter(|m| m.op == member) else {
                    continue;
                };
                let whole = op.folds.iter().all(|l| l.count == 1);
                let Some(waiting) = maker.waiting.filter(|_| whole) else {
                    continue;
                };
                let mut pairs = self.program.lockstep.iter();
                if pairs.any(|p| p.maker == member && p.reader == reader) {
                    continue;
                }
                let taken = &self.ops[reader].done;
                let started = state.done.len() as u64;
                if started >= taken.len() as u64 + waiting {
                    return Err(waits(format!("in the PEs of {}", other.name)));
                }
                let Some(before) = started.checked_sub(waiting) else {
                    continue;
                };
                if let Some(task) = taken.get(before as usize) {
                    // The new word may come when the old one has been taken.
                    let travel = self.plans[reader].travels[i].map_or(0, |t| t.cycles);
                    let leaves = if op.rows_apart {
                        0
                    } else {
                        turn.issue.end(position)
                    };
                    let free = (task.last + 1).saturating_sub(travel + leaves);
                    time = time.max(free.saturating_sub(turn.load));
                }
            }
        }
        for (id, stream) in self.program.streams.iter().enumerate() {
            if stream.kind == StreamKind::Result(member) {
                let sent = &self.streams[id].arrived;
                if state.done.len() >= sent.len() + 2 {
                    return Err(waits("on its way outward".into()));
                }
                // Results of two tasks wait at the edge.
                if state.done.len() > sent.len()
                    && let Some(oldest) = sent.len().checked_sub(2).and_then(|at| sent.get(at))
                {
                    time = time.max(oldest.first);
                }
            }
        }
        Ok(time)
    }

    /// When a member's accesses on a way happen, after the start of its steps: as often as the loops that bring new words step on, at the
    /// begin of a step, or (`ends`) when the last step with the same words has ended.
    pub fn accesses(
        &self,
        member: usize,
        way: &Way,
        turn: &Turn,
        position: usize,
        ends: bool,
    ) -> Vec<u64> {
        let op = &self.program.ops[member];
        let counts = step_counts(op, &self.ops[member].tile);
        let times = &turn.issue.times[position];
        let cycles = turn.issue.cycles[position];
        let inner: u64 = counts[way.depth.min(counts.len())..].iter().product();
        let every = inner.max(1) as usize;
        let last = times.len().saturating_sub(1);
        (0..times.len())
            .step_by(every)
            .map(|step| {
                if ends {
                    times[(step + every - 1).min(last)] + cycles
                } else {
                    times[step]
                }
            })
            .collect()
    }

    /// The ports that a group takes if it starts at `start`.
    pub fn ports_of(&self, turn: &Turn, start: u64) -> Vec<Ports> {
        let mut out: Vec<Ports> = Vec::new();
        let mut add = |way: &Way, times: &[u64], inward: bool| {
            let mut runs: Vec<(i64, u64, u64)> = Vec::new();
            for time in times {
                let time = (start + turn.load + time) as i64;
                let row = if inward {
                    time - (way.delay + way.burst - 1) as i64
                } else {
                    time + way.delay as i64
                };
                // Regular accesses are one use.
                if way.burst == 1
                    && let Some((first, stride, count)) = runs.last_mut()
                {
                    let distance = (row - *first) as u64 - *stride * (*count - 1);
                    if distance > 0 && (*count == 1 || distance == *stride) {
                        *stride = distance;
                        *count += 1;
                        continue;
                    }
                }
                runs.push((row, 1, way.burst));
            }
            out.extend(runs.into_iter().map(|(first, stride, count)| Ports {
                memory: way.memory,
                // What a block finds in a memory when it begins, it has asked for before.
                start: first.max(0) as u64,
                stride,
                count,
                rows: way.rows,
            }));
        };
        for (position, member) in turn.members.iter().enumerate() {
            let op = &self.program.ops[*member];
            for (i, read) in op.reads.iter().enumerate() {
                if let Some(way) = read.way.as_ref().filter(|w| w.memory > 0)
                    && !self.stays(*member, i, way)
                {
                    add(
                        way,
                        &self.accesses(*member, way, turn, position, false),
                        true,
                    );
                }
            }
            if let Some(way) = op.result.as_ref().filter(|w| w.memory > 0) {
                add(
                    way,
                    &self.accesses(*member, way, turn, position, true),
                    false,
                );
            }
        }
        out
    }

    /// Whether an operand's words are those that the task before has left in the PEs.
    fn stays(&self, member: usize, i: usize, way: &Way) -> bool {
        let op = &self.program.ops[member];
        if way.depth > 0 || op.steps.is_empty() {
            return false;
        }
        let mut words = Vec::new();
        self.plans[member].reads[i].words(&self.ops[member].tile, &mut words);
        !words.is_empty() && words == self.ops[member].held[i]
    }

    /// Splits wanted ports by memory and finds the least delay.
    pub fn port_delay(&self, wanted: &[Ports], what: &str) -> Result<u64, ArrayError> {
        let mut delay = 0;
        // Moving on for one memory may bring a clash at another.
        loop {
            let mut more = 0;
            for (memory, table) in self.ports.iter().enumerate() {
                let mine = wanted.iter().filter(|p| p.memory == memory);
                let here: Vec<Ports> = mine
                    .map(|p| Ports {
                        start: p.start + delay,
                        ..*p
                    })
                    .collect();
                if here.is_empty() {
                    continue;
                }
                let found = table.delay(&here).ok_or_else(|| {
                    let spec = &self.mapped.accelerator.memories[memory];
                    ArrayError::Ports {
                        what: what.into(),
                        memory: spec.name.clone(),
                        ports: spec.ports.min(spec.banks),
                    }
                })?;
                if found > 0 {
                    more = found;
                    break;
                }
            }
            if more == 0 {
                return Ok(delay);
            }
            delay += more;
        }
    }

    // Kept tiles.

    /// The tile of a keep that an Einsum's next task uses, as a number.
    pub fn generation(&self, member: usize, keep: usize) -> u128 {
        let plan = &self.program.keeps[keep];
        let op = &self.program.ops[member];
        let digits = &self.ops[member].cursor.digits;
        let loops = self.program.nests[plan.nest][..plan.depth]
            .iter()
            .enumerate();
        loops.fold(0u128, |sum, (at, l)| {
            // At a loop's exit the loop stands at its end; loops that it does not run in, at their begin.
            let digit = if op.loops.contains(&at) {
                digits[at]
            } else if op.exit == Some(at) {
                l.count.saturating_sub(1)
            } else {
                0
            };
            sum.saturating_mul(l.count.max(1).into())
                .saturating_add(digit.into())
        })
    }

    /// When all users but `but` have finished with a tile; none where one has not.
    pub fn released(&self, keep: usize, generation: u128, but: Option<usize>) -> Option<u64> {
        let plan = &self.program.keeps[keep];
        let mut time = 0;
        for user in &plan.users {
            if !self.ops[*user].cursor.done && self.generation(*user, keep) <= generation {
                return None;
            }
            if Some(*user) != but {
                let mut uses = self.uses[keep][*user].iter().rev();
                let last = uses.find(|u| u.generation <= generation);
                time = time.max(last.map_or(0, |u| u.end));
            }
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
}
