//! Movements of tiles and of streamed words: when they may start, and what they take.

use einflow_mappings::nest::CountError;

use super::{
    Cause, CycleError, Movement, Observer, Side,
    machine::Machine,
    state::{Arrived, Blocked, Candidate},
};
use crate::program::{Ports, StreamKind, stored};

impl Machine<'_> {
    pub(super) fn stream_candidate(&self, id: usize) -> Option<Result<Candidate, Blocked>> {
        let state = &self.streams[id];
        if state.cursor.done {
            return None;
        }
        Some(self.stream_time(id))
    }

    pub(super) fn stream_time(&self, id: usize) -> Result<Candidate, Blocked> {
        let stream = &self.program.streams[id];
        let state = &self.streams[id];
        let mut ready = 0;
        let mut cause = Cause::Operand(stream.tensor, Side::Memory(stream.outer));
        match stream.kind {
            StreamKind::Fill(keep) => {
                let plan = &self.program.keeps[keep];
                if state.recent.len() >= plan.generations {
                    let old = state.recent[state.recent.len() - plan.generations];
                    let wait = Cause::Space(plan.tensor, Side::Memory(plan.memory));
                    ready = self.released(keep, old, None).ok_or(wait)?;
                    cause = wait;
                }
            }
            StreamKind::Drain(keep) => {
                let plan = &self.program.keeps[keep];
                let Some(maker) = plan.maker else {
                    return Ok(Candidate { time: 0, cause });
                };
                let done =
                    self.ops[maker].cursor.done || self.generation(maker, keep) > state.place;
                if !done {
                    return Err(cause);
                }
                let last = self.uses[keep][maker]
                    .iter()
                    .rev()
                    .find(|u| u.generation <= state.place);
                let stored = self.channels[plan.memory].latency;
                ready = last.map_or(0, |u| u.end + stored);
            }
            StreamKind::Operand(op, _) => {
                // Words wait at the array's edge for at most two tasks.
                let ahead = &self.ops[op];
                if state.issued >= ahead.started + 2 {
                    return Err(Cause::Space(
                        stream.tensor,
                        Side::Array(self.program.ops[op].unit),
                    ));
                }
                if let Some(before) = state.issued.checked_sub(2)
                    && let Some(task) = ahead.history.iter().find(|t| t.number == before)
                {
                    ready = task.start + task.steps.end();
                    cause = Cause::Space(stream.tensor, Side::Array(self.program.ops[op].unit));
                }
            }
            StreamKind::Result(op) => {
                let ahead = &self.ops[op];
                if ahead.started <= state.issued {
                    return Err(cause);
                }
                let task = ahead.history.iter().find(|t| t.number == state.issued);
                if let (Some(task), Some(way)) = (task, &self.program.ops[op].result) {
                    let end = task.start + task.steps.end() + way.delay + way.burst - 1;
                    let first = task.start + task.steps.at(0) + task.steps.cycles + way.delay;
                    let bytes = self.stream_bytes(id)?;
                    let duration = self.channels[stream.outer]
                        .duration(bytes)
                        .unwrap_or(u64::MAX / 4);
                    ready = if way.depth == 0 {
                        end
                    } else {
                        first.max((end + 1).saturating_sub(duration))
                    };
                }
            }
        }
        if let Some(source) = &stream.source {
            let place = stored(self.program, source, &state.tile);
            let writer = &self.streams[source.stream];
            let wait = Cause::Operand(stream.tensor, Side::Array(self.program.ops[source.op].unit));
            if !writer.cursor.done && writer.place <= place {
                return Err(wait);
            }
            let there = writer.arrived.iter().rev().find(|a| a.place <= place);
            if let Some(there) = there.filter(|t| t.whole > ready) {
                (ready, cause) = (there.whole, wait);
            }
        }
        let (time, busy) = self.channels[stream.outer].earliest(ready);
        Ok(Candidate {
            time,
            cause: if busy {
                Cause::Channel(stream.outer)
            } else {
                cause
            },
        })
    }

    /// Bytes of a stream's next movement, without what is there already.
    pub(super) fn stream_words(&self, id: usize) -> Result<u128, CountError> {
        let stream = &self.program.streams[id];
        let state = &self.streams[id];
        let moved = &self.mapped.blocks[self.block].transfers[stream.transfer];
        let steps: &[_] = match stream.kind {
            StreamKind::Operand(op, _) | StreamKind::Result(op) => &self.program.ops[op].steps,
            _ => &[],
        };
        let words = self.program.words(&state.tile, steps, &moved.projection)?;
        let overlap = state.last.as_ref().map_or(0, |last| {
            super::words::overlap(last, &state.tile, steps, &moved.projection)
        });
        Ok(words.saturating_sub(overlap))
    }

    pub(super) fn stream_bytes(&self, id: usize) -> Result<u128, Blocked> {
        let stream = &self.program.streams[id];
        let words = self.stream_words(id).map_err(|_| Cause::Mapping)?;
        Ok(self.bytes(words, stream.share, stream.outer))
    }

    /// A share of words in bytes: whole rows where it is a part.
    pub(super) fn bytes(&self, words: u128, share: (u64, u64), memory: usize) -> u128 {
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

    /// Cycles of a movement, and the ports of the inner memory that it takes: half of them at the most.
    pub(super) fn duration(
        &self,
        outer: usize,
        inner: Option<usize>,
        bytes: u128,
    ) -> Option<(u64, u64)> {
        let channel = self.channels[outer].duration(bytes)?;
        let Some(inner) = inner.filter(|_| channel > 0) else {
            return Some((channel, 0));
        };
        let memory = &self.mapped.accelerator.memories[inner];
        let rows = u64::try_from(bytes.div_ceil(memory.row.0.max(1))).ok()?;
        let most = (memory.ports.min(memory.banks) / 2).max(1);
        let ports = rows.div_ceil(channel).clamp(1, most);
        Some((channel.max(rows.div_ceil(ports)), ports))
    }

    pub(super) fn start_stream(
        &mut self,
        id: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), CycleError> {
        let Some(candidate) = self.ready[self.unit_free.len() + id].clone() else {
            return Ok(());
        };
        let stream = &self.program.streams[id];
        // The channel may have been taken since.
        let (time, busy) = self.channels[stream.outer].earliest(candidate.time);
        if time > candidate.time {
            self.ready[self.unit_free.len() + id] = Some(Candidate {
                time,
                cause: if busy {
                    Cause::Channel(stream.outer)
                } else {
                    candidate.cause
                },
            });
            return Ok(());
        }
        let words = self.stream_words(id)?;
        let bytes = self.bytes(words, stream.share, stream.outer);
        let inward = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Operand(..));
        let (duration, rows) = self
            .duration(stream.outer, stream.inner, bytes)
            .ok_or(CycleError::Overflow)?;
        if let (Some(inner), true) = (stream.inner, duration > 0) {
            let latency = if inward {
                self.channels[stream.outer].latency
            } else {
                0
            };
            let wanted = [Ports {
                memory: inner,
                start: candidate.time + latency,
                stride: 1,
                count: duration,
                rows,
            }];
            let name = self.mapped.cascade.tensor(stream.tensor).name.clone();
            let (delay, _) = self.port_delay(&wanted, &name)?;
            if delay > 0 {
                self.ready[self.unit_free.len() + id] = Some(Candidate {
                    time: candidate.time + delay,
                    cause: Cause::Port(inner),
                });
                return Ok(());
            }
            self.ports[inner].take(&wanted);
            observer.ports(&wanted[0]);
            self.end = self.end.max(wanted[0].last() + 1);
        }
        let moved = if duration == 0 {
            crate::hardware::Moved {
                start: candidate.time,
                first: candidate.time,
                whole: candidate.time,
            }
        } else {
            observer.movement(&Movement {
                tensor: stream.tensor.0,
                outer: stream.outer,
                inward,
                start: candidate.time,
                duration,
                bytes,
                tile: &self.streams[id].tile,
            });
            self.totals.channel[stream.outer] += duration;
            self.channels[stream.outer].take(candidate.time, duration)
        };
        self.end = self.end.max(moved.whole);
        let counts = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Drain(_));
        if counts {
            self.totals.words[stream.transfer] += words;
        }
        let cause = match candidate.cause {
            Cause::Operand(..) => None,
            late => Some(late),
        };
        let state = &mut self.streams[id];
        state.arrived.push_back(match inward {
            true => Arrived {
                place: state.place,
                first: moved.first,
                whole: moved.whole,
                cause,
            },
            // Room is free when the channel has taken the words.
            false => Arrived {
                place: state.place,
                first: moved.start + duration,
                whole: moved.whole,
                cause,
            },
        });
        state.recent.push_back(state.place);
        if state.recent.len() > 8 {
            state.recent.pop_front();
        }
        state.issued += 1;
        state.last = Some(state.tile);
        let op = &self.stream_ops[id];
        state.cursor.advance(self.program, op)?;
        if !state.cursor.done {
            state.tile = state.cursor.tile(self.program, op);
            state.place = state.cursor.place(self.program, op);
        }
        self.ready[self.unit_free.len() + id] = None;
        Ok(())
    }
}
