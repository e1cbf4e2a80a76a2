//! Starting a group: what runs together, what it takes, and what is counted.

use smallvec::{SmallVec, smallvec};

use super::{
    Cause, CycleError, Observer, Side, Task,
    machine::Machine,
    state::{Candidate, Started, Turn, Wanted},
    timing::Steps,
};
use crate::program::Tile;

impl Machine<'_> {
    pub(super) fn start_unit(
        &mut self,
        unit: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), CycleError> {
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
                        (
                            (first.2 as i64 + lead).max(0) as u64,
                            Cause::Operand(tensor, from),
                        )
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
    pub(super) fn run(
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
    pub(super) fn stage(&self, cause: Cause, unit: usize, turn: &Turn) -> Cause {
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
    pub(super) fn count_words(&mut self, member: usize) -> Result<(), CycleError> {
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

    pub(super) fn words_of(
        &mut self,
        transfer: usize,
        slot: usize,
        member: usize,
        tile: &Tile,
    ) -> Result<u128, CycleError> {
        let moved = &self.mapped.blocks[self.block].transfers[transfer];
        let op = &self.program.ops[member];
        // Registers that keep a tile of their own are filled when it changes, not at every step.
        let own = op.loops.len() + op.folds.len() + op.steps.len();
        let steps: &[_] = if moved.loops.len() == own {
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
}
