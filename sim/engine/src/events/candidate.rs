//! When a unit's next group may start.

use smallvec::SmallVec;

use super::{
    assumed::TASKS_AT_EDGE,
    cause::{Cause, Side},
    machine::Machine,
    state::{Blocked, Candidate, Turn, Whom},
    timing::{Steps, rounds},
};
use crate::program::{Maker, Need, Read, Staying, StreamKind, Tile, needed, same};

/// Tells of a time before which a start cannot be, and of the cause.
type Later<'l> = &'l mut dyn FnMut(u64, Cause);

/// One member of a group that may start.
#[derive(Clone, Copy)]
struct Member<'m> {
    op: usize,
    turn: &'m Turn,
    steps: &'m Steps,
}

impl Machine<'_> {
    /// The group that is next on a unit, with all members whose turn it is.
    pub(super) fn next_turn(&self, unit: usize) -> Option<Turn> {
        let waiting = (0..self.state.ops.len())
            .filter(|o| self.program.ops[*o].unit == unit && !self.state.ops[*o].cursor.done);
        let first = waiting.min_by_key(|o| self.state.ops[*o].key)?;
        let key = self.state.ops[first].key;
        let group = self.program.ops[first].group;
        let members: SmallVec<[usize; 4]> = self.program.groups[group]
            .ops
            .iter()
            .copied()
            .filter(|o| !self.state.ops[*o].cursor.done && self.state.ops[*o].key == key)
            .collect();
        let counts: SmallVec<[(u64, u64); 4]> = members
            .iter()
            .map(|o| {
                let op = &self.program.ops[*o];
                (op.steps_of(&self.state.ops[*o].tile), self.interval(*o))
            })
            .collect();
        Some(Turn {
            steps: rounds(&counts),
            load: members.iter().map(|o| self.loading(*o)).sum(),
            shift: members.iter().map(|o| self.program.ops[*o].shift).sum(),
            members,
        })
    }

    /// Cycles from one step of the next task to the next.
    fn interval(&self, op: usize) -> u64 {
        let (one, back) = (
            self.program.ops[op].cycles,
            self.program.ops[op].returning.0,
        );
        // What cannot be counted is told where the task starts.
        let returns = || matches!(self.results(op), Ok((_, again)) if again > 0);
        if back > one && returns() { back } else { one }
    }

    /// Cycles before the next task's first step in which its array does nothing but load what stays: as long as links
    /// along the rows are needed for it, or as the loading takes longer than the steps before.
    fn loading(&self, op: usize) -> u64 {
        let (state, op) = (&self.state.ops[op], &self.program.ops[op]);
        let excess = |l: &Staying| {
            let changes = || op.changes(&state.tile, l.follows, false);
            let moved = l.kept.map(|t| &self.mapped.blocks[self.block].transfers[t]);
            let tile = |tile: &Tile| moved.map_or(*tile, |t| self.program.counted_tile(tile, t));
            let times = moved.map_or_else(|| changes().iter().map(|run| run.2).sum(), |_| 1);
            let there = |last: &Tile| same(&tile(last), &tile(&state.tile), &l.projection);
            let again = times == 1 && state.last[l.slot].as_ref().is_some_and(there);
            l.excess.saturating_mul(times - u64::from(again))
        };
        op.loads.iter().map(excess).fold(op.load, u64::max)
    }

    /// When a unit's next group may start, ports aside; none: it has no task left.
    pub fn unit_candidate(&self, unit: usize) -> Option<Result<Candidate, Blocked>> {
        let turn = self.turn(unit)?;
        Some(self.group_candidate(unit, turn, None))
    }

    /// `without`: a maker that starts together with this group.
    pub fn group_candidate(
        &self,
        unit: usize,
        turn: &Turn,
        without: Option<usize>,
    ) -> Result<Candidate, Blocked> {
        let mut at = Candidate {
            time: self.state.unit_free[unit],
            cause: Cause::Mapping,
        };
        let mut later = |time: u64, cause: Cause| {
            if time > at.time {
                at = Candidate { time, cause };
            }
        };
        if !self.program.segments.is_empty() {
            let key = self.state.ops[turn.members[0]].key;
            if self.state.barrier.open != Some((key.scope, key.epoch, key.segment)) {
                return Err(Blocked {
                    cause: Cause::Mapping,
                    whom: Whom::Segment,
                });
            }
            later(
                self.state.barrier.floor + self.program.frames[unit],
                self.state.barrier.cause,
            );
        }
        for (op, steps) in turn.members.iter().zip(&turn.steps) {
            let member = Member {
                op: *op,
                turn,
                steps,
            };
            for read in &self.program.ops[*op].reads {
                self.read_candidate(member, read, without, &mut later)?;
            }
            self.space_candidate(member, &mut later)?;
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
    fn partner(&self, turn: &Turn, maker: usize, reader: usize) -> Result<(u64, Cause), Blocked> {
        let tensor = self.program.ops[maker].output;
        let unit = self.program.ops[reader].unit;
        let wait = Blocked {
            cause: Cause::Space(tensor, Side::Array(unit)),
            whom: Whom::Op(reader),
        };
        let other = self.turn(unit).ok_or(wait)?;
        let lead = self.lead(turn, maker, other, reader).ok_or(wait)?;
        let candidate = self.group_candidate(unit, other, Some(maker))?;
        // A word may wait at its reader until the next one comes.
        let slack = turn
            .position(maker)
            .map_or(0, |m| turn.steps[m].stride() - 1);
        let earliest = candidate.time as i64 - lead - slack as i64;
        Ok((earliest.max(0) as u64, candidate.cause))
    }

    /// Cycles from a maker's group's start to its reader's; none where the reader is not next, or its task another.
    pub(super) fn lead(
        &self,
        turn: &Turn,
        maker: usize,
        other: &Turn,
        reader: usize,
    ) -> Option<i64> {
        let (steps, takes) = (turn.position(maker)?, other.position(reader)?);
        let op = &self.program.ops[reader];
        let (read, by) = op.reads.iter().find_map(|read| {
            let by = read.maker.as_ref()?;
            (by.op == maker && by.memory.is_none()).then_some((read, by))
        })?;
        let need = needed(self.program, op, read, by, &self.state.ops[reader].tile);
        if need != Need::UpTo(self.state.ops[maker].place) {
            return None;
        }
        let lead = turn.steps[steps].lead_of(&other.steps[takes], by.delay);
        Some(lead + turn.load as i64 - other.load as i64)
    }

    fn read_candidate(
        &self,
        member: Member<'_>,
        read: &Read,
        without: Option<usize>,
        later: Later<'_>,
    ) -> Result<(), Blocked> {
        let Member { op, turn, steps } = member;
        let first = turn.load + steps.at(0);
        if let Some(maker) = &read.maker
            && (without != Some(maker.op) || maker.memory.is_some())
        {
            self.maker_candidate(member, read, maker, later)?;
        }
        if let Some(way) = &read.way {
            // Nothing is read before the first cycle.
            let cause = Cause::Operand(read.tensor, Side::Memory(way.memory));
            later((way.delay + way.burst - 1).saturating_sub(first), cause);
        }
        if let Some(keep) = read.keep
            && let Some(stream) = self.program.keeps[keep].fill
        {
            let memory = self.program.keeps[keep].memory;
            let cause = Cause::Operand(read.tensor, Side::Memory(memory));
            let generation = self.state.generation(op, keep);
            let there = self.state.streams[stream].moved(generation);
            let there = there.ok_or_else(|| Blocked {
                cause: self.pending(stream, generation, cause),
                whom: Whom::Stream(stream),
            })?;
            if let (Some(there), Some(way)) = (there, &read.way) {
                let time = (there.whole + way.delay + way.burst - 1).saturating_sub(first);
                later(time, there.cause.unwrap_or(cause));
            }
        }
        if let Some(stream) = read.stream {
            let place = self.state.ops[op].place;
            let outer = self.program.streams[stream].outer;
            let cause = Cause::Operand(read.tensor, Side::Memory(outer));
            let there = self.state.streams[stream].moved(place);
            let there = there.ok_or_else(|| Blocked {
                cause: self.pending(stream, place, cause),
                whom: Whom::Stream(stream),
            })?;
            if let Some(there) = there {
                // The first word for the first step, the last for the last, or for the first where all stay.
                let last = match read.stays {
                    true => 0,
                    false => steps.count.saturating_sub(1),
                };
                let span = steps.at(last) - steps.at(0);
                let time =
                    (there.first + read.hop).max((there.whole + read.hop).saturating_sub(span));
                later(time.saturating_sub(first), there.cause.unwrap_or(cause));
            }
        }
        Ok(())
    }

    /// What keeps a request from starting, where it is the next of its stream; else that its words are not there.
    fn pending(&self, stream: usize, place: u128, cause: Cause) -> Cause {
        let queue = self.units() + stream;
        let outer = self.program.streams[stream].outer;
        let ready = self.state.ready[queue].as_ref();
        let ready = ready.map(|c| self.kept_from(outer, c.time, c.cause));
        let late = ready.or(self.state.blocked[queue].map(|h| h.cause));
        let late = late.filter(|c| !matches!(c, Cause::Operand(..)));
        late.filter(|_| self.state.streams[stream].place == place)
            .unwrap_or(cause)
    }

    /// What an Einsum of this block makes. Einsums that go word by word wait for each word; others for the whole
    /// tasks that make their words.
    fn maker_candidate(
        &self,
        member: Member<'_>,
        read: &Read,
        maker: &Maker,
        later: Later<'_>,
    ) -> Result<(), Blocked> {
        let Member { op, turn, steps } = member;
        let tile = &self.state.ops[op].tile;
        let Need::UpTo(place) = needed(self.program, &self.program.ops[op], read, maker, tile)
        else {
            return Ok(());
        };
        let made = &self.state.ops[maker.op];
        let from = maker
            .memory
            .map_or(Side::Array(self.program.ops[maker.op].unit), Side::Memory);
        let cause = Cause::Operand(read.tensor, from);
        if !made.cursor.done && made.place <= place {
            // Members of one group hand over in the order of their turns.
            if turn.members.contains(&maker.op) {
                return Ok(());
            }
            return Err(Blocked {
                cause,
                whom: Whom::Op(maker.op),
            });
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
    fn space_candidate(&self, member: Member<'_>, later: Later<'_>) -> Result<(), Blocked> {
        let Member {
            op: id,
            turn,
            steps,
        } = member;
        let (op, state) = (&self.program.ops[id], &self.state.ops[id]);
        if let (Some(keep), Some(way)) = (op.writes, &op.result) {
            let plan = &self.program.keeps[keep];
            let generation = self.state.generation(id, keep);
            let new = state.recent.back().is_some_and(|g| *g != generation);
            if let Some(old) = plan.replaced(&state.recent).filter(|_| new) {
                let cause = Cause::Space(plan.tensor, Side::Memory(plan.memory));
                let released = self.released(keep, old, Some(id));
                let released = released.map_err(|whom| Blocked { cause, whom })?;
                let writes = op.changes(&state.tile, way.follows, true);
                let first = steps.at(writes[0].0) + steps.cycles;
                let write = first + turn.load + way.delay;
                later(released.saturating_sub(write), cause);
            }
        }
        for (reader, other) in self.program.ops.iter().enumerate() {
            for maker in other.reads.iter().filter_map(|r| r.maker.as_ref()) {
                let whole = op.folds.iter().all(|l| l.count == 1);
                let Some(waiting) = maker.waiting.filter(|_| maker.op == id && whole) else {
                    continue;
                };
                let mut pairs = self.program.lockstep.iter();
                if pairs.any(|p| p.maker == id && p.reader == reader) {
                    continue;
                }
                let taken = &self.state.ops[reader];
                let cause = Cause::Space(op.output, Side::Array(other.unit));
                if state.started >= taken.started + waiting {
                    return Err(Blocked {
                        cause,
                        whom: Whom::Op(reader),
                    });
                }
                let Some(before) = state.started.checked_sub(waiting) else {
                    continue;
                };
                if let Some(task) = taken.history.iter().find(|t| t.number == before) {
                    // The new word may come when the old one has been taken. Where each row has its own, they leave
                    // one after another.
                    let last = task.start + task.steps.at(task.steps.count.saturating_sub(1));
                    let leaves = if op.rows_apart { 0 } else { steps.end() };
                    let free = (last + 1).saturating_sub(maker.delay + leaves);
                    later(free.saturating_sub(turn.load), cause);
                }
            }
        }
        for (stream, plan) in self.program.streams.iter().enumerate() {
            if plan.kind == StreamKind::Result(id) {
                let sent = &self.state.streams[stream];
                let cause = Cause::Space(op.output, Side::Memory(plan.outer));
                if state.started >= sent.issued + TASKS_AT_EDGE {
                    return Err(Blocked {
                        cause,
                        whom: Whom::Stream(stream),
                    });
                }
                let mut latest = sent.arrived.iter().rev();
                if let Some(oldest) = latest.nth(TASKS_AT_EDGE as usize - 1)
                    && state.started > sent.issued
                {
                    later(oldest.first, cause);
                }
            }
        }
        Ok(())
    }
}
