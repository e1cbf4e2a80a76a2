//! When a unit's next group may start.

use smallvec::SmallVec;

use super::{
    Cause, Side,
    machine::Machine,
    state::{Blocked, Candidate, Turn},
    timing::{Steps, rounds},
};
use crate::program::{Maker, Need, Op, Read, StreamKind, Tile, needed};

impl Machine<'_> {
    /// The group that is next on a unit.
    pub(super) fn turn(&self, unit: usize) -> Option<&Turn> {
        self.turns[unit].as_ref()
    }

    /// The group that is next on a unit, with all members whose turn it is.
    pub(super) fn find_turn(&self, unit: usize) -> Option<Turn> {
        let waiting = (0..self.ops.len())
            .filter(|o| self.program.ops[*o].unit == unit && !self.ops[*o].cursor.done);
        let first = waiting.min_by_key(|o| self.ops[*o].key)?;
        let key = self.ops[first].key;
        let group = self.program.ops[first].group;
        let members: SmallVec<[usize; 4]> = self.program.groups[group]
            .ops
            .iter()
            .copied()
            .filter(|o| !self.ops[*o].cursor.done && self.ops[*o].key == key)
            .collect();
        let counts: SmallVec<[(u64, u64); 4]> = members
            .iter()
            .map(|o| {
                let op = &self.program.ops[*o];
                (op.steps_of(&self.ops[*o].tile), op.cycles)
            })
            .collect();
        Some(Turn {
            steps: rounds(&counts),
            load: members.iter().map(|o| self.program.ops[*o].load).sum(),
            shift: members.iter().map(|o| self.program.ops[*o].shift).sum(),
            members,
        })
    }

    /// When a unit's next group may start, ports aside; none: it has no task left.
    pub(super) fn unit_candidate(&self, unit: usize) -> Option<Result<Candidate, Blocked>> {
        let turn = self.turn(unit)?;
        Some(self.group_candidate(unit, turn, None))
    }

    /// `without`: a maker that starts together with this group.
    pub(super) fn group_candidate(
        &self,
        unit: usize,
        turn: &Turn,
        without: Option<usize>,
    ) -> Result<Candidate, Blocked> {
        let mut at = Candidate {
            time: self.unit_free[unit],
            cause: Cause::Mapping,
        };
        let mut later = |time: u64, cause: Cause| {
            if time > at.time {
                at = Candidate { time, cause };
            }
        };
        if !self.program.segments.is_empty() {
            let key = self.ops[turn.members[0]].key;
            if self.barrier.open != Some((key.scope, key.epoch, key.segment)) {
                return Err(Cause::Mapping);
            }
            later(
                self.barrier.floor + self.program.frames[unit],
                self.barrier.cause,
            );
        }
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &self.program.ops[*member];
            for read in &op.reads {
                self.read_candidate(*member, op, read, turn, steps, without, &mut later)?;
            }
            self.space_candidate(*member, op, turn, steps, &mut later)?;
        }
        if without.is_none() {
            for pair in &self.program.lockstep {
                if turn.members.contains(&pair.maker) && !turn.members.contains(&pair.reader) {
                    let (time, cause) = self.partner(turn, pair.maker, pair.reader)?;
                    later(time, cause);
                }
            }
        }
        Ok(at)
    }

    /// The earliest start of a maker whose reader on another unit takes each word as it comes: not before that reader
    /// is next on its unit and could start in time.
    pub(super) fn partner(
        &self,
        turn: &Turn,
        maker: usize,
        reader: usize,
    ) -> Result<(u64, Cause), Blocked> {
        let tensor = self.program.ops[maker].output;
        let unit = self.program.ops[reader].unit;
        let wait = Cause::Space(tensor, Side::Array(unit));
        let other = self.turn(unit).ok_or(wait)?;
        let lead = self.lead(turn, maker, other, reader).ok_or(wait)?;
        let candidate = self.group_candidate(unit, other, Some(maker))?;
        let earliest = candidate.time as i64 - lead - self.slack(turn, maker) as i64;
        Ok((earliest.max(0) as u64, candidate.cause))
    }

    /// How long a word may wait at its reader: until the next one comes.
    pub(super) fn slack(&self, turn: &Turn, maker: usize) -> u64 {
        let steps = turn
            .members
            .iter()
            .zip(&turn.steps)
            .find(|(m, _)| **m == maker);
        steps.map_or(0, |(_, s)| s.stride() - 1)
    }

    /// Cycles from a maker's group's start to its reader's; none where the reader is not next, or its task another.
    pub(super) fn lead(
        &self,
        turn: &Turn,
        maker: usize,
        other: &Turn,
        reader: usize,
    ) -> Option<i64> {
        let at = other.members.iter().position(|m| *m == reader)?;
        let (op, made) = (&self.program.ops[reader], &self.program.ops[maker]);
        let read = op.reads.iter().find(|r| {
            r.maker
                .as_ref()
                .is_some_and(|m| m.op == maker && m.memory.is_none())
        })?;
        let by = read.maker.as_ref()?;
        let need = needed(self.program, op, read, by, &self.ops[reader].tile);
        if need != Need::UpTo(self.ops[maker].place) {
            return None;
        }
        let steps = &turn.steps[turn.members.iter().position(|m| *m == maker)?];
        let _ = made;
        Some(steps.lead_of(&other.steps[at], by.delay) + turn.load as i64 - other.load as i64)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn read_candidate(
        &self,
        member: usize,
        op: &Op,
        read: &Read,
        turn: &Turn,
        steps: &Steps,
        without: Option<usize>,
        later: &mut dyn FnMut(u64, Cause),
    ) -> Result<(), Blocked> {
        let tile = &self.ops[member].tile;
        let first = turn.load + steps.at(0);
        if let Some(maker) = &read.maker
            && (without != Some(maker.op) || maker.memory.is_some())
        {
            self.maker_candidate(op, read, maker, turn, steps, tile, later)?;
        }
        if let Some(stream) = read.keep.and_then(|k| self.program.keeps[k].fill) {
            let keep = &self.program.keeps[read.keep.unwrap_or_default()];
            let cause = Cause::Operand(read.tensor, Side::Memory(keep.memory));
            let generation = self.generation(member, read.keep.unwrap_or_default());
            let state = &self.streams[stream];
            if !state.cursor.done && state.place <= generation {
                return Err(self.pending(stream, generation, cause));
            }
            let there = state.arrived.iter().rev().find(|a| a.place <= generation);
            if let (Some(there), Some(way)) = (there, &read.way) {
                let time = (there.whole + way.delay + way.burst - 1).saturating_sub(first);
                later(time, there.cause.unwrap_or(cause));
            }
        }
        if let Some(stream) = read.stream {
            let state = &self.streams[stream];
            let place = self.ops[member].place;
            let cause = Cause::Operand(
                read.tensor,
                Side::Memory(self.program.streams[stream].outer),
            );
            if !state.cursor.done && state.place <= place {
                return Err(self.pending(stream, place, cause));
            }
            if let Some(there) = state.arrived.iter().rev().find(|a| a.place <= place) {
                let hop = 1;
                let last = if read.stays {
                    0
                } else {
                    steps.count.saturating_sub(1)
                };
                let span = steps.at(last) - steps.at(0);
                let time = (there.first + hop).max((there.whole + hop).saturating_sub(span));
                later(time.saturating_sub(first), there.cause.unwrap_or(cause));
            }
        }
        Ok(())
    }

    /// What keeps a request from starting, where it is the next of its stream; else that its words are not there.
    fn pending(&self, stream: usize, place: u128, cause: Cause) -> Cause {
        let queue = self.unit_free.len() + stream;
        let ready = self.ready[queue].as_ref().map(|c| c.cause);
        let late = ready.or(self.blocked[queue]);
        let late = late.filter(|c| !matches!(c, Cause::Operand(..)));
        late.filter(|_| self.streams[stream].place == place)
            .unwrap_or(cause)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn maker_candidate(
        &self,
        op: &Op,
        read: &Read,
        maker: &Maker,
        turn: &Turn,
        steps: &Steps,
        tile: &Tile,
        later: &mut dyn FnMut(u64, Cause),
    ) -> Result<(), Blocked> {
        let Need::UpTo(place) = needed(self.program, op, read, maker, tile) else {
            return Ok(());
        };
        let made = &self.ops[maker.op];
        let from = maker
            .memory
            .map_or(Side::Array(self.program.ops[maker.op].unit), Side::Memory);
        let cause = Cause::Operand(read.tensor, from);
        if !made.cursor.done && made.place <= place {
            // Members of one group hand over in the order of their turns.
            if turn.members.contains(&maker.op) {
                return Ok(());
            }
            return Err(cause);
        }
        let Some(task) = made.history.iter().rev().find(|t| t.place <= place) else {
            return Ok(());
        };
        let lead = if maker.by_word && task.place == place {
            task.steps.lead_of(steps, maker.delay)
        } else {
            (task.steps.end() + maker.delay) as i64 - steps.at(0) as i64
        };
        let time = task.start as i64 + lead - turn.load as i64;
        later(time.max(0) as u64, cause);
        Ok(())
    }

    /// Room for what an Einsum makes.
    pub(super) fn space_candidate(
        &self,
        member: usize,
        op: &Op,
        turn: &Turn,
        steps: &Steps,
        later: &mut dyn FnMut(u64, Cause),
    ) -> Result<(), Blocked> {
        let state = &self.ops[member];
        if let (Some(keep), Some(way)) = (op.writes, &op.result) {
            let plan = &self.program.keeps[keep];
            let generation = self.generation(member, keep);
            let new = state.recent.back().is_some_and(|g| *g != generation);
            if new && state.recent.len() >= plan.generations {
                let old = state.recent[state.recent.len() - plan.generations];
                let cause = Cause::Space(plan.tensor, Side::Memory(plan.memory));
                let released = self.released(keep, old, Some(member)).ok_or(cause)?;
                let every = self.every(op, steps, way, &state.tile);
                let write = steps.accesses(every, true)[0].0 + turn.load + way.delay;
                later(released.saturating_sub(write), cause);
            }
        }
        for (reader, other) in self.program.ops.iter().enumerate() {
            for read in &other.reads {
                let Some(maker) = read.maker.as_ref().filter(|m| m.op == member) else {
                    continue;
                };
                let Some(waiting) = maker
                    .waiting
                    .filter(|_| op.folds.iter().all(|l| l.count == 1))
                else {
                    continue;
                };
                let pair = self.program.lockstep.iter();
                if pair
                    .clone()
                    .any(|p| p.maker == member && p.reader == reader)
                {
                    continue;
                }
                let taken = &self.ops[reader];
                let cause = Cause::Space(op.output, Side::Array(other.unit));
                if state.started >= taken.started + waiting {
                    return Err(cause);
                }
                let Some(before) = (state.started + 1).checked_sub(waiting + 1) else {
                    continue;
                };
                if let Some(task) = taken.history.iter().find(|t| t.number == before) {
                    // Where each row has its own word, they leave one after another.
                    let last = task.start + task.steps.at(task.steps.count.saturating_sub(1));
                    let free = if op.rows_apart {
                        (last + 1).saturating_sub(maker.delay)
                    } else {
                        (last + 1).saturating_sub(maker.delay + steps.end())
                    };
                    later(free.saturating_sub(turn.load), cause);
                }
            }
        }
        for (id, stream) in self.program.streams.iter().enumerate() {
            if stream.kind == StreamKind::Result(member) {
                let sent = &self.streams[id];
                let cause = Cause::Space(op.output, Side::Memory(stream.outer));
                if state.started >= sent.issued + 2 {
                    return Err(cause);
                }
                if let Some(oldest) = sent
                    .arrived
                    .iter()
                    .rev()
                    .nth(1)
                    .filter(|_| state.started > sent.issued)
                {
                    later(oldest.first, cause);
                }
            }
        }
        Ok(())
    }
}
