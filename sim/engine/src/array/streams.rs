//! Movements between memories, and between the outermost one and the arrays.

use super::{
    ArrayError,
    engine::{Arrived, Engine, Stop},
    tensors::NEVER,
};
use crate::{
    cycle::{Movement, Observer},
    hardware::Moved,
    program::{Ports, StreamKind, stored},
};

impl Engine<'_> {
    /// When a stream's next movement may start; none: it has moved all.
    pub fn stream_time(&self, id: usize) -> Option<Result<u64, Stop>> {
        (!self.streams[id].cursor.done).then(|| self.movement_time(id))
    }

    fn movement_time(&self, id: usize) -> Result<u64, Stop> {
        let stream = &self.program.streams[id];
        let state = &self.streams[id];
        let mut ready = 0;
        match stream.kind {
            StreamKind::Fill(keep) => {
                let plan = &self.program.keeps[keep];
                if state.recent.len() >= plan.generations {
                    let old = state.recent[state.recent.len() - plan.generations];
                    let memory = &self.mapped.accelerator.memories[plan.memory].name;
                    let free = self.released(keep, old, None);
                    ready = free.ok_or_else(|| Stop::Waits(format!("room in {memory}")))?;
                }
            }
            StreamKind::Drain(keep) => {
                let plan = &self.program.keeps[keep];
                if let Some(maker) = plan.maker {
                    let made =
                        self.ops[maker].cursor.done || self.generation(maker, keep) > state.place;
                    if !made {
                        return Err(Stop::Waits(format!("{} to make it", self.name(maker))));
                    }
                    let mut uses = self.uses[keep][maker].iter().rev();
                    let last = uses.find(|u| u.generation <= state.place);
                    ready = last.map_or(0, |u| u.end + self.channels[plan.memory].latency);
                }
            }
            StreamKind::Operand(op, _) => {
                // Words wait at the array's edge for at most two tasks.
                let done = &self.ops[op].done;
                let issued = state.arrived.len();
                if issued >= done.len() + 2 {
                    return Err(Stop::Waits(format!("{} to take its words", self.name(op))));
                }
                if let Some(task) = issued.checked_sub(2).and_then(|at| done.get(at)) {
                    ready = task.end;
                }
            }
            StreamKind::Result(op) => {
                let issued = state.arrived.len();
                let Some(task) = self.ops[op].done.get(issued) else {
                    return Err(Stop::Waits(format!("{} to make it", self.name(op))));
                };
                if let Some(way) = &self.program.ops[op].result {
                    let end = task.end + way.delay + way.burst - 1;
                    let first = task.first + self.program.ops[op].cycles + way.delay;
                    ready = if way.depth == 0 {
                        end
                    } else {
                        // The channel must not overtake the words.
                        let bytes = self.bytes_of(id);
                        let duration = self.channels[stream.outer].duration(bytes);
                        first.max((end + 1).saturating_sub(duration.unwrap_or(u64::MAX / 4)))
                    };
                }
            }
        }
        if let Some(source) = &stream.source {
            let place = stored(self.program, source, &state.tile);
            let writer = &self.streams[source.stream];
            if !writer.cursor.done && writer.place <= place {
                return Err(Stop::Waits(format!(
                    "{} to be stored",
                    self.name(source.op)
                )));
            }
            let tensor = &self.tensors[stream.tensor.0];
            let mut words = Vec::new();
            state.access.words(&state.tile, &mut words);
            let there = words
                .iter()
                .map(|w| tensor.outer[tensor.latest(*w)])
                .filter(|time| *time != NEVER)
                .max();
            // What has been stored anew since was there before.
            let before = writer.arrived.iter().rev().find(|a| a.place <= place);
            let before = before.map_or(u64::MAX, |a| a.whole);
            ready = ready.max(there.unwrap_or(0).min(before));
        }
        Ok(self.channels[stream.outer].earliest(ready).0)
    }

    /// Words of a stream's next movement, without what is there already.
    fn words_of(&self, id: usize) -> (u128, super::count::Counter) {
        let stream = &self.program.streams[id];
        let state = &self.streams[id];
        let mut counting = state.counting.clone();
        let words = match stream.kind {
            StreamKind::Operand(op, _) | StreamKind::Result(op) => {
                let op = &self.program.ops[op];
                let counts = super::plan::step_counts(op, &state.tile);
                let steps = op.steps_of(&state.tile);
                (0..steps)
                    .filter_map(|k| super::plan::step_tile(op, &counts, &state.tile, k))
                    .map(|tile| counting.step(&tile))
                    .sum()
            }
            _ => counting.step(&state.tile),
        };
        (words, counting)
    }

    fn bytes_of(&self, id: usize) -> u128 {
        let stream = &self.program.streams[id];
        self.bytes(self.words_of(id).0, stream.share, stream.outer)
    }

    /// A share of words in bytes: whole rows where it is a part.
    fn bytes(&self, words: u128, share: (u64, u64), memory: usize) -> u128 {
        let bytes = words * self.mapped.word_bytes();
        if share.0 == share.1 {
            return bytes;
        }
        let row = self.mapped.accelerator.memories[memory].row.0.max(1);
        let part = (bytes * u128::from(share.0)).div_ceil(u128::from(share.1.max(1)));
        part.div_ceil(row) * row
    }

    /// Cycles of a movement, and the ports of the inner memory that it takes: half of them at the most.
    fn duration(&self, outer: usize, inner: Option<usize>, bytes: u128) -> Option<(u64, u64)> {
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

    /// Starts a stream's next movement at the time that it is ready for, or puts it off.
    pub fn start_stream(
        &mut self,
        id: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), ArrayError> {
        let queue = self.unit_free.len() + id;
        let Some(time) = self.ready[queue] else {
            return Ok(());
        };
        let stream = &self.program.streams[id];
        // The channel may have been taken since.
        let (free, _) = self.channels[stream.outer].earliest(time);
        if free > time {
            self.ready[queue] = Some(free);
            return Ok(());
        }
        let (words, counting) = self.words_of(id);
        let bytes = self.bytes(words, stream.share, stream.outer);
        let inward = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Operand(..));
        let (duration, rows) = self
            .duration(stream.outer, stream.inner, bytes)
            .ok_or(ArrayError::Overflow)?;
        if let (Some(inner), true) = (stream.inner, duration > 0) {
            let latency = if inward {
                self.channels[stream.outer].latency
            } else {
                0
            };
            let wanted = [Ports {
                memory: inner,
                start: time + latency,
                stride: 1,
                count: duration,
                rows,
            }];
            let delay = self.port_delay(&wanted, self.tensor_name(stream.tensor.0))?;
            if delay > 0 {
                self.ready[queue] = Some(time + delay);
                return Ok(());
            }
            self.ports[inner].take(&wanted);
            self.end = self.end.max(wanted[0].last() + 1);
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
                tile: &self.streams[id].tile,
            });
            self.channels[stream.outer].take(time, duration)
        };
        self.end = self.end.max(moved.whole);
        self.streams[id].counting = counting;
        if matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Drain(_)) {
            self.words[stream.transfer] += words;
        }
        let state = &mut self.streams[id];
        let tensor = &mut self.tensors[stream.tensor.0];
        if !inward && !tensor.outer.is_empty() {
            let mut stored = Vec::new();
            state.access.words(&state.tile, &mut stored);
            for word in stored {
                // Of an iterative tensor the value after this step.
                let word = match tensor.layout.iterative {
                    Some(at) => word + tensor.layout.strides[at],
                    None => word,
                };
                tensor.outer[word] = moved.whole;
            }
        }
        if matches!(stream.kind, StreamKind::Fill(_)) {
            let mut words = Vec::new();
            state.access.words(&state.tile, &mut words);
            let number = state.arrived.len() as u32 + 1;
            words
                .into_iter()
                .for_each(|word| state.brought[word] = number);
        }
        state.arrived.push(Arrived {
            place: state.place,
            // Room is free when the channel has taken the words.
            first: if inward {
                moved.first
            } else {
                moved.start + duration
            },
            whole: moved.whole,
        });
        state.recent.push_back(state.place);
        if state.recent.len() > 8 {
            state.recent.pop_front();
        }
        state.cursor.advance(self.program, &state.walker)?;
        if !state.cursor.done {
            state.tile = state.cursor.tile(self.program, &state.walker);
            state.place = state.cursor.place(self.program, &state.walker);
        }
        self.ready[queue] = None;
        Ok(())
    }
}
