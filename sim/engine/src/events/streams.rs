//! Movements of tiles and of streamed words: when they may start, and what they take.

use einflow_mappings::nest::CountError;

use super::{
    assumed::{FILL_PORTS, TASKS_AT_EDGE},
    cause::{Cause, Side},
    error::EventError,
    machine::{BackEnd, Machine},
    observer::{Movement, Observer},
    state::{Arrived, Blocked, Candidate, Whom},
};
use crate::{
    hardware::{Load, Moved},
    program::{Ports, StreamKind, Tile, overlap, stored},
};

impl Machine<'_> {
    /// When a stream's next movement may start; none: it has moved all.
    pub(super) fn stream_candidate(&self, id: usize) -> Option<Result<Candidate, Blocked>> {
        let done = self.state.streams[id].cursor.done;
        (!done).then(|| self.movement_candidate(id))
    }

    fn movement_candidate(&self, id: usize) -> Result<Candidate, Blocked> {
        let stream = &self.program.streams[id];
        let state = &self.state.streams[id];
        let (ready, cause) = self.movement_ready(id)?;
        let mut at = Candidate { time: ready, cause };
        let (time, cause) = self.around_ready(id)?;
        if time > at.time {
            at = Candidate { time, cause };
        }
        let taken = stream.source.as_ref();
        let taken = taken.and_then(|s| Some((s, stored(self.program, s, &state.tile)?)));
        if let Some((source, place)) = taken {
            let writer = &self.state.streams[source.stream];
            let unit = self.program.ops[source.op].unit;
            let cause = Cause::Operand(stream.tensor, Side::Array(unit));
            let whom = Whom::Stream(source.stream);
            let there = writer.moved(place).ok_or(Blocked { cause, whom })?;
            if let Some(there) = there.filter(|t| t.whole > at.time) {
                let time = there.whole;
                at = Candidate { time, cause };
            }
        }
        Ok(self.on_channel(stream.outer, at))
    }

    /// When the tile around a movement's is in the outer memory, or has room there.
    fn around_ready(&self, id: usize) -> Result<(u64, Cause), Blocked> {
        let stream = &self.program.streams[id];
        let state = &self.state.streams[id];
        let from = Cause::Operand(stream.tensor, Side::Memory(stream.outer));
        let Some(around) = stream.around else {
            return Ok((0, from));
        };
        let plan = &self.program.keeps[around];
        if let StreamKind::Drain(_) = stream.kind {
            let new = state
                .recent
                .back()
                .is_some_and(|tile| *tile != state.around);
            return match plan.replaced(&state.recent).filter(|_| new) {
                Some(old) => self.room(around, old),
                None => Ok((0, from)),
            };
        }
        // What this block writes there is waited for by itself.
        let Some(fill) = plan.fill.filter(|_| stream.source.is_none()) else {
            return Ok((0, from));
        };
        let there = self.state.streams[fill].moved(state.around);
        let there = there.ok_or(Blocked {
            cause: from,
            whom: Whom::Stream(fill),
        })?;
        Ok((there.map_or(0, |a| a.whole), from))
    }

    /// When the room of a kept tile is free.
    fn room(&self, keep: usize, tile: u128) -> Result<(u64, Cause), Blocked> {
        let plan = &self.program.keeps[keep];
        let cause = Cause::Space(plan.tensor, Side::Memory(plan.memory));
        let released = self.released(keep, tile, None);
        Ok((released.map_err(|whom| Blocked { cause, whom })?, cause))
    }

    /// The first cycle from a candidate's on in which a memory's channel is free for it.
    fn on_channel(&self, memory: usize, at: Candidate) -> Candidate {
        match self.state.channels[memory].earliest(at.time) {
            (_, false) => at,
            (time, true) => Candidate {
                time,
                cause: Cause::Channel(memory),
            },
        }
    }

    /// What keeps a request from starting until `time`: a memory's channel is asked for before the ports and the
    /// bandwidth of the other memory, so where it is busy as long as they are, it counts.
    pub(super) fn kept_from(&self, outer: usize, time: u64, cause: Cause) -> Cause {
        let inner = matches!(cause, Cause::Port(_) | Cause::Channel(_));
        match time.checked_sub(1).filter(|_| inner) {
            Some(before) if self.state.channels[outer].earliest(before).1 => Cause::Channel(outer),
            _ => cause,
        }
    }

    /// When the words of a stream's next movement, or the room for them, are there, and what ended last before.
    fn movement_ready(&self, id: usize) -> Result<(u64, Cause), Blocked> {
        let stream = &self.program.streams[id];
        let state = &self.state.streams[id];
        let from = Cause::Operand(stream.tensor, Side::Memory(stream.outer));
        Ok(match stream.kind {
            StreamKind::Fill(keep) => {
                let plan = &self.program.keeps[keep];
                let Some(old) = plan.replaced(&state.recent) else {
                    return Ok((0, from));
                };
                self.room(keep, old)?
            }
            StreamKind::Drain(keep) => {
                let plan = &self.program.keeps[keep];
                let stored = self.state.channels[plan.memory].latency;
                let Some(maker) = plan.maker else {
                    // Its parts come from further in.
                    let mut time = 0;
                    for part in &plan.outward {
                        let last = self.state.streams[*part].moved_within(state.place);
                        let whom = Whom::Stream(*part);
                        let last = last.ok_or(Blocked { cause: from, whom })?;
                        time = time.max(last.map_or(0, |a| a.whole + stored));
                    }
                    return Ok((time, from));
                };
                if !self.is_past(maker, keep, state.place) {
                    return Err(Blocked {
                        cause: from,
                        whom: Whom::Op(maker),
                    });
                }
                let mut uses = self.state.uses[keep][maker].iter().rev();
                let last = uses.find(|u| u.generation <= state.place);
                (last.map_or(0, |u| u.end + stored), from)
            }
            StreamKind::Operand(op, _) => {
                let ahead = &self.state.ops[op];
                let cause = Cause::Space(stream.tensor, Side::Array(self.program.ops[op].unit));
                if state.issued >= ahead.started + TASKS_AT_EDGE {
                    return Err(Blocked {
                        cause,
                        whom: Whom::Op(op),
                    });
                }
                let before = state.issued.checked_sub(TASKS_AT_EDGE);
                let task = before.and_then(|n| ahead.history.iter().find(|t| t.number == n));
                task.map_or((0, from), |task| (task.end(), cause))
            }
            StreamKind::Result(op) => {
                let ahead = &self.state.ops[op];
                if ahead.started <= state.issued {
                    return Err(Blocked {
                        cause: from,
                        whom: Whom::Op(op),
                    });
                }
                let task = ahead.history.iter().find(|t| t.number == state.issued);
                let (Some(task), Some(way)) = (task, &self.program.ops[op].result) else {
                    return Ok((0, from));
                };
                let end = task.end() + way.delay + way.burst - 1;
                if way.stays {
                    return Ok((end, from));
                }
                // The channel must not overtake the words. What cannot be counted is refused when it starts.
                let words = self.stream_words(id).unwrap_or(0);
                let words = words + self.words_back(id, words).unwrap_or(0);
                let bytes = self.bytes(words, stream.share, stream.outer);
                let duration = self.state.channels[stream.outer]
                    .duration(bytes)
                    .unwrap_or(0);
                let first = task.start + task.steps.at(0) + task.steps.cycles + way.delay;
                (first.max((end + 1).saturating_sub(duration)), from)
            }
        })
    }

    /// Words of a stream's next movement, without what is there already.
    fn stream_words(&self, id: usize) -> Result<u128, CountError> {
        let stream = &self.program.streams[id];
        let state = &self.state.streams[id];
        let moved = &self.mapped.blocks[self.block].transfers[stream.transfer];
        let of_task = matches!(stream.kind, StreamKind::Operand(..) | StreamKind::Result(_));
        let counted = |tile: &Tile| match of_task {
            true => self.program.counted_tile(tile, moved),
            false => *tile,
        };
        let steps: &[_] = match stream.kind {
            StreamKind::Operand(op, _) | StreamKind::Result(op)
                if moved.loops.len() > moved.tile_depth =>
            {
                &self.program.ops[op].steps
            }
            _ => &[],
        };
        let tile = counted(&state.tile);
        let words = self.program.moved(&tile, steps, moved)?;
        let overlap = match &state.last {
            Some(last) => overlap(&counted(last), &tile, steps, moved)?,
            None => 0,
        };
        Ok(words.saturating_sub(overlap))
    }

    /// Of the words of a stream's next movement, those that have gone outward before: they came back meanwhile.
    fn words_back(&self, id: usize, words: u128) -> Result<u128, CountError> {
        let stream = &self.program.streams[id];
        let state = &self.state.streams[id];
        if state.cursor.comes_back(&self.walkers[id]) {
            return Ok(words);
        }
        Ok(match stream.kind {
            StreamKind::Result(op) if self.program.ops[op].repeats => {
                words.saturating_sub(self.program.words(&state.tile, &stream.own)?)
            }
            _ => 0,
        })
    }

    /// A share of words in bytes: whole rows where it is a part.
    fn bytes(&self, words: u128, share: (u64, u64), memory: usize) -> u128 {
        let bytes = words * self.mapped.word_bytes();
        if share.0 == share.1 {
            return bytes;
        }
        let row = self.mapped.accelerator.memories[memory].row.0.max(1);
        (bytes * u128::from(share.0))
            .div_ceil(u128::from(share.1.max(1)))
            .div_ceil(row)
            * row
    }

    /// Cycles of a movement, and the ports of the inner memory that it takes.
    fn duration(&self, outer: usize, inner: Option<usize>, bytes: u128) -> Option<(u64, u64)> {
        let channel = self.state.channels[outer].duration(bytes)?;
        let Some(inner) = inner.filter(|_| channel > 0) else {
            return Some((channel, 0));
        };
        let channel = match self.state.bandwidths[inner] {
            Some(_) => channel.max(self.state.channels[inner].duration(bytes)?),
            None => channel,
        };
        let memory = &self.mapped.accelerator.memories[inner];
        let rows = u64::try_from(bytes.div_ceil(memory.row.0.max(1))).ok()?;
        let most = (memory.ports.min(memory.banks) / FILL_PORTS).max(1);
        let ports = rows.div_ceil(channel).clamp(1, most);
        Some((channel.max(rows.div_ceil(ports)), ports))
    }

    /// Starts a stream's next movement, or puts it off until channel and ports are free.
    pub(super) fn start_stream<B: BackEnd>(
        &mut self,
        id: usize,
        back: &mut B,
        observer: &mut dyn Observer,
    ) -> Result<(), B::Error> {
        let queue = self.units() + id;
        let Some(candidate) = self.state.ready[queue].clone() else {
            return Ok(());
        };
        let stream = &self.program.streams[id];
        let (time, mut cause) = (candidate.time, candidate.cause);
        // The channel may have been taken since.
        let free = self.on_channel(stream.outer, candidate);
        if free.time > time {
            self.state.ready[queue] = Some(free);
            return Ok(());
        }
        let words = self.stream_words(id).map_err(EventError::from)?;
        let returned = self.words_back(id, words).map_err(EventError::from)?;
        let bytes = self.bytes(words + returned, stream.share, stream.outer);
        let inward = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Operand(..));
        let (duration, rows) = self
            .duration(stream.outer, stream.inner, bytes)
            .ok_or(EventError::Overflow)?;
        if let (Some(inner), true) = (stream.inner, duration > 0) {
            let latency = match inward {
                true => self.state.channels[stream.outer].latency,
                false => 0,
            };
            let wanted = Ports {
                memory: inner,
                start: time + latency,
                stride: 1,
                count: duration,
                rows,
            };
            let load = |memory: usize, first: u64| Load {
                memory,
                first,
                last: first + duration - 1,
                bytes,
            };
            let loads = [load(stream.outer, time), load(inner, time + latency)];
            let (delay, missing) = self.memory_delay(&[wanted], &loads)?;
            if delay > 0 {
                self.state.ready[queue] = Some(Candidate {
                    time: time + delay,
                    cause: missing.unwrap_or(cause),
                });
                return Ok(());
            }
            self.take_memories(&[wanted], &loads, observer)?;
            cause = self.kept_from(stream.outer, time, cause);
        }
        let moved = if duration == 0 {
            Moved {
                start: time,
                first: time,
                whole: time,
            }
        } else {
            observer.movement(&Movement {
                tensor: stream.tensor.0,
                outer: stream.outer,
                inward,
                start: time,
                duration,
                bytes,
                tile: &self.state.streams[id].tile,
            });
            self.totals.channel[stream.outer] += duration;
            self.state.channels[stream.outer].take(time, duration)
        };
        back.movement(self, id, moved)?;
        self.state.end = self.state.end.max(moved.whole);
        if matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Drain(_)) {
            self.totals.words[stream.transfer] += words;
        }
        let state = &mut self.state.streams[id];
        state.arrived.push_back(Arrived {
            place: state.place,
            around: state.around,
            taken: moved.start + duration,
            first: match inward {
                true => moved.first,
                false => moved.start + duration,
            },
            whole: moved.whole,
            cause: Some(cause).filter(|c| !matches!(c, Cause::Operand(..))),
        });
        match (stream.kind, stream.around) {
            (StreamKind::Fill(keep), _) => {
                self.program.keeps[keep].remember(&mut state.recent, state.place);
            }
            (StreamKind::Drain(_), Some(keep)) if state.recent.back() != Some(&state.around) => {
                self.program.keeps[keep].remember(&mut state.recent, state.around);
            }
            _ => {}
        }
        let walked = state.advance(self.program, stream, &self.walkers[id]);
        walked.map_err(EventError::from)?;
        self.state.ready[queue] = None;
        Ok(())
    }
}
