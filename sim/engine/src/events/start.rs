//! Starting a group: what runs together, what it takes, and what is counted.

use einflow_mappings::{
    mapped::{NamedLoop, Place},
    nest::CountError,
};
use smallvec::{SmallVec, smallvec};

use super::{
    cause::{Cause, Side},
    error::EventError,
    machine::{BackEnd, Machine},
    observer::{Observer, Task},
    state::{Candidate, Started, Turn, Wanted},
    timing::Steps,
};
use crate::{
    hardware::Load,
    program::{Ports, overlap},
};

/// Times are below this, so that a few of them add up in 64 bits, also with a sign.
const LATEST: u64 = 1 << 62;

/// A group that starts.
struct Start {
    unit: usize,
    turn: Turn,
    time: u64,
    cause: Cause,
}

impl Machine<'_> {
    /// Starts a unit's next group, and all that starts with it, or puts it off until there are ports.
    pub(super) fn start_unit<B: BackEnd>(
        &mut self,
        unit: usize,
        back: &mut B,
        observer: &mut dyn Observer,
    ) -> Result<(), B::Error> {
        let (Some(turn), Some(candidate)) =
            (self.turn(unit).cloned(), self.state.ready[unit].clone())
        else {
            return Ok(());
        };
        let first = Start {
            unit,
            turn,
            time: candidate.time,
            cause: candidate.cause,
        };
        let mut together: SmallVec<[Start; 2]> = smallvec![first];
        for pair in &self.program.lockstep {
            let first = &together[0];
            let other_unit = self.program.ops[pair.reader].unit;
            if first.turn.position(pair.maker).is_none()
                || first.turn.position(pair.reader).is_some()
                || together.iter().any(|s| s.unit == other_unit)
            {
                continue;
            }
            if let Some(other) = self.turn(other_unit).cloned()
                && let Some(lead) = self.lead(&first.turn, pair.maker, &other, pair.reader)
                && let Ok(own) = self.group_candidate(other_unit, &other, Some(pair.maker))
            {
                let from = (first.time as i64 + lead).max(0) as u64;
                let (time, cause) = if own.time >= from {
                    (own.time, own.cause)
                } else {
                    let tensor = self.program.ops[pair.maker].output;
                    (from, Cause::Operand(tensor, Side::Array(unit)))
                };
                together.push(Start {
                    unit: other_unit,
                    turn: other,
                    time,
                    cause,
                });
            }
        }
        let mut wanted: Wanted = SmallVec::new();
        let mut bytes: SmallVec<[u128; 4]> = smallvec![0; self.state.bandwidths.len()];
        for start in &together {
            let mut back: SmallVec<[bool; 4]> = SmallVec::new();
            for member in &start.turn.members {
                back.push(
                    self.task_bytes(*member, &mut bytes)
                        .map_err(EventError::from)?,
                );
            }
            wanted.extend(self.ports_of(&start.turn, start.time, &back));
        }
        let loads = |(memory, bytes): (usize, &u128)| {
            let here = || wanted.iter().filter(|p| p.memory == memory);
            Some(Load {
                memory,
                first: here().map(|p| p.start).min()?,
                last: here().map(Ports::last).max()?,
                bytes: *bytes,
            })
        };
        let loads: SmallVec<[Load; 2]> = bytes.iter().enumerate().filter_map(loads).collect();
        self.fit_ports(&mut wanted);
        let (delay, missing) = self.memory_delay(&wanted, &loads)?;
        if delay > 0 {
            // Others may take them meanwhile: asked again then.
            self.state.ready[unit] = Some(Candidate {
                time: candidate.time + delay,
                cause: missing.unwrap_or(candidate.cause),
            });
            return Ok(());
        }
        self.take_memories(&wanted, &loads, observer)?;
        for start in together {
            back.group(self, start.unit, &start.turn, start.time)?;
            self.run(&start, observer)?;
            back.booked(self, start.unit, &start.turn)?;
        }
        Ok(())
    }

    /// Runs a group.
    fn run(&mut self, group: &Start, observer: &mut dyn Observer) -> Result<(), EventError> {
        let Start {
            unit,
            turn,
            time: start,
            ..
        } = group;
        let (program, unit, start) = (self.program, *unit, *start);
        let steps_end = turn.steps.iter().map(Steps::end).max().unwrap_or(0);
        let occupied: u64 = turn.steps.iter().map(|s| s.count * s.cycles).sum();
        let mut busy = occupied;
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &program.ops[*member];
            let slow = steps.count * (steps.cycles - op.works);
            let link = |(array, link)| Cause::Link(array, link);
            let narrow = match steps.cycles == op.cycles {
                true => op.narrow,
                false => op.returning.1,
            };
            let passes = narrow.map_or(Cause::Mapping, link);
            self.totals.wait(unit, passes, slow);
            busy -= slow;
        }
        let gap = start - self.state.unit_free[unit];
        let cause = self.stage(group.cause, unit, turn);
        self.totals.wait(unit, cause, gap);
        self.totals.wait(unit, Cause::Filling, turn.load);
        self.totals.wait(unit, Cause::Draining, turn.shift);
        // Turns of members that are not there.
        self.totals.wait(unit, Cause::Mapping, steps_end - occupied);
        self.totals.busy[unit] += busy;
        let end = start
            .checked_add(turn.load + steps_end + turn.shift)
            .filter(|e| *e < LATEST)
            .ok_or(EventError::Overflow)?;
        self.state.unit_free[unit] = end;
        self.state.end = self.state.end.max(end + program.tails[unit]);
        if !program.segments.is_empty() {
            let frame = end - program.frames[unit].min(end);
            let barrier = &mut self.state.barrier;
            barrier.end = barrier.end.max(frame);
            if gap > barrier.waited.0 {
                barrier.waited = (gap, cause);
            }
        }
        let at = start + turn.load;
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &program.ops[*member];
            if let Some(phase) = op.phase {
                self.state.barrier.work[phase][unit] += steps.count * steps.cycles;
            }
            observer.task(&Task {
                block: &program.name,
                einsum: &op.name,
                unit,
                start: at + steps.at(0),
                duration: steps.end() - steps.at(0),
                tile: &self.state.ops[*member].tile,
            });
            self.count_words(*member)?;
            self.use_keeps(*member, op, turn, steps, start);
            let state = &mut self.state.ops[*member];
            state.history.push_back(Started {
                place: state.place,
                number: state.started,
                start: at,
                steps: steps.clone(),
            });
            state.advance(program, op)?;
            self.totals.tasks += 1;
            self.totals.simulated += 1;
        }
        self.forget();
        self.state.ready[unit] = None;
        self.find_turn(unit);
        Ok(())
    }

    /// Waits of a pipeline that fills or empties are those of filling and draining.
    fn stage(&self, cause: Cause, unit: usize, turn: &Turn) -> Cause {
        if cause != Cause::Mapping {
            return cause;
        }
        let key = self.state.ops[turn.members[0]].key;
        if key.epoch < 0 {
            return Cause::Filling;
        }
        let mine = |o: &usize| self.program.ops[*o].unit == unit;
        let over = (0..self.state.ops.len())
            .filter(mine)
            .any(|o| self.state.ops[o].cursor.done || self.state.ops[o].key.scope > key.scope);
        if over && self.program.ops.iter().any(|o| o.offset > 0) {
            return Cause::Draining;
        }
        cause
    }

    /// Words that a task reads and writes.
    fn count_words(&mut self, member: usize) -> Result<(), CountError> {
        let op = &self.program.ops[member];
        let tile = self.state.ops[member].tile;
        let reads = op.reads.iter().map(|r| r.operand);
        for (slot, transfer) in reads.chain([op.update]).enumerate() {
            if let Some(transfer) = transfer {
                let moved = &self.mapped.blocks[self.block].transfers[transfer];
                // Tiles of one size have as many words wherever they lie, unless some do not exist.
                let counted = self.program.counted_tile(&tile, moved);
                if moved.projection.is_plain() && self.counted(transfer, &counted).is_none() {
                    let steps = self.counted_steps(transfer, member);
                    let words = self.program.moved(&counted, steps, moved)?;
                    self.count(transfer, &counted, words);
                }
                self.totals.words[transfer] += self.words_of(transfer, slot, member)?;
                self.state.ops[member].last[slot] = Some(tile);
            }
        }
        for load in &op.loads {
            self.state.ops[member].last[load.slot] = Some(tile);
        }
        Ok(())
    }

    /// Adds the bytes that an Einsum's next task moves at each memory with a bandwidth of its own; and whether words
    /// come back for it to add to them.
    fn task_bytes(&self, member: usize, bytes: &mut [u128]) -> Result<bool, CountError> {
        let op = &self.program.ops[member];
        let reads = op.reads.iter().map(|r| r.operand);
        let mut add = |transfer: usize, words: u128| {
            let moved = &self.mapped.blocks[self.block].transfers[transfer];
            if let Place::Memory(memory) = moved.inner {
                let share = match moved.through {
                    true => (1, 1),
                    false => moved.share,
                };
                let whole = words * self.mapped.word_bytes() * u128::from(share.0);
                bytes[memory] += whole.div_ceil(share.1.max(1).into());
            }
        };
        if self.state.bandwidths.iter().any(Option::is_some) {
            for (slot, transfer) in reads.enumerate() {
                if let Some(transfer) = transfer {
                    add(transfer, self.words_of(transfer, slot, member)?);
                }
            }
        }
        let Some(update) = op.update else {
            return Ok(false);
        };
        let (words, again) = self.results(member)?;
        add(update, words + again);
        Ok(again > 0)
    }

    /// Words that an Einsum's next task writes to a memory, and how many of them come back first.
    pub(super) fn results(&self, member: usize) -> Result<(u128, u128), CountError> {
        let op = &self.program.ops[member];
        let Some(update) = op.update else {
            return Ok((0, 0));
        };
        let words = self.words_of(update, op.reads.len(), member)?;
        let state = &self.state.ops[member];
        let again = match (state.cursor.comes_back(op), op.repeats) {
            (true, _) => words,
            (false, true) => {
                let own = self.mapped.own_projection(op.output);
                words.saturating_sub(self.program.words(&state.tile, own)?)
            }
            (false, false) => 0,
        };
        Ok((words, again))
    }

    /// The steps of a task at each of which a transfer's words are counted: registers that keep a tile of their own are
    /// filled when it changes, not at every step.
    fn counted_steps(&self, transfer: usize, member: usize) -> &[NamedLoop] {
        let moved = &self.mapped.blocks[self.block].transfers[transfer];
        match moved.loops.len() > moved.tile_depth {
            true => &self.program.ops[member].steps,
            false => &[],
        }
    }

    fn words_of(&self, transfer: usize, slot: usize, member: usize) -> Result<u128, CountError> {
        let moved = &self.mapped.blocks[self.block].transfers[transfer];
        let steps = self.counted_steps(transfer, member);
        let state = &self.state.ops[member];
        let tile = self.program.counted_tile(&state.tile, moved);
        let held = match &state.last[slot] {
            Some(last) => overlap(&self.program.counted_tile(last, moved), &tile, steps, moved)?,
            None => 0,
        };
        let words = match self.counted(transfer, &tile) {
            Some(words) => words,
            None => self.program.moved(&tile, steps, moved)?,
        };
        Ok(words.saturating_sub(held))
    }
}
