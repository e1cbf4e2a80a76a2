//! When a movement starts its next request, and what that takes.

use super::{
    chip::latency,
    machine::{Machine, Moved, Rows, Wait},
    plan::{From, Kind},
};

/// Memory, bytes, first and last cycle.
pub(super) type Loads = Vec<(usize, u128, i64, i64)>;

impl Machine<'_> {
    /// Whether a movement's next request may start now, with cycles of the channel and ports; none where it has none
    /// left.
    pub(super) fn ask(&self, id: usize) -> Option<Result<(i64, Rows, Loads), Wait>> {
        let mover = &self.plan.movers[id];
        let number = self.moved[id].len();
        let bytes = (mover.words.get(number)? + mover.back[number]) * self.word;
        let through = |memory: usize| {
            let memory = &self.chip.memories[memory];
            let rate = memory.bandwidth.map(|rate| rate.0 as u128);
            let of = |rate| (bytes * self.chip.clock.0 as u128).div_ceil(rate) as i64;
            (rate.map(of), bytes.div_ceil(memory.row.0) as i64)
        };
        let (paced, by_row) = through(mover.outer);
        let channel = paced.unwrap_or(by_row);
        let (ready, wait) = self.mover_ready(id, number, channel);
        if ready.is_none_or(|ready| ready > self.now) {
            return Some(Err(wait));
        }
        if self.channel_ends(mover.outer) > self.now {
            return Some(Err(Wait::Channel(mover.outer)));
        }
        let (Some(inner), true) = (mover.inner, channel > 0) else {
            return Some(Ok((channel, Rows::new(), Vec::new())));
        };
        let (paced, _) = through(inner);
        let channel = channel.max(paced.unwrap_or(0));
        let at = &self.chip.memories[inner];
        let rows = bytes.div_ceil(at.row.0) as i64;
        let half = (at.ports.min(at.banks) / 2).max(1) as i64;
        // As many ports as the channel's pace asks for, half of them at most: then it takes longer.
        let ports = ((rows + channel - 1) / channel).clamp(1, half);
        let cycles = channel.max((rows + ports - 1) / ports);
        let inward = matches!(mover.kind, Kind::Fill(_));
        let from = self.now
            + if inward {
                latency(self.chip, mover.outer)
            } else {
                0
            };
        let wanted: Rows = (from..from + cycles)
            .map(|c| ((inner, c), ports as u64))
            .collect();
        Some(match self.crowded(&wanted) {
            Some(at) => Err(Wait::Port(at)),
            None => {
                let load = |memory, first| (memory, bytes, first, first + cycles - 1);
                let loads = vec![load(mover.outer, self.now), load(inner, from)];
                match self.narrow(&loads) {
                    Some(memory) => Err(Wait::Channel(memory)),
                    None => Ok((cycles, wanted, loads)),
                }
            }
        })
    }

    pub(super) fn start_mover(&mut self, id: usize) -> bool {
        let Some(Ok((cycles, wanted, loads))) = self.ask(id) else {
            return false;
        };
        let plan = self.plan;
        let mover = &plan.movers[id];
        let number = self.moved[id].len();
        let far = latency(self.chip, mover.outer);
        // What ended last of all that it asked for, even where it was there before its turn came.
        let (ready, own) = self.mover_ready(id, number, cycles);
        let late = match self.held[id] {
            Some(wait @ (Wait::Port(_) | Wait::Channel(_))) => Some(wait),
            _ if ready.is_some_and(|ready| self.channel_ends(mover.outer) > ready) => {
                Some(Wait::Channel(mover.outer))
            }
            _ => Some(own).filter(|w| !matches!(w, Wait::Operand(..) | Wait::Link(..))),
        };
        if matches!(mover.kind, Kind::Fill(_) | Kind::Drain(_)) {
            self.ran.words[mover.transfer] += mover.words[number];
        }
        self.take_ports(wanted);
        self.take_bandwidth(&loads);
        let now = self.now;
        let mut moved = Moved {
            began: now,
            taken: now,
            first: now,
            whole: now,
            late,
        };
        if cycles > 0 {
            self.channel_free[mover.outer] = now + cycles;
            self.under_way[mover.outer].push(now + far + cycles);
            self.ran.channel[mover.outer] += cycles as u64;
            moved = Moved {
                taken: now + cycles,
                first: now + far,
                whole: now + far + cycles,
                ..moved
            };
        }
        self.end = self.end.max(moved.whole);
        self.moved[id].push(moved);
        self.held[id] = None;
        true
    }

    /// When a memory's channel is free for another request.
    pub(super) fn channel_ends(&self, memory: usize) -> i64 {
        let under_way = &self.under_way[memory];
        let most = self.chip.memories[memory]
            .outstanding
            .map(|most| most.max(1) as usize);
        let oldest = most
            .and_then(|most| under_way.len().checked_sub(most))
            .map_or(0, |at| under_way[at]);
        self.channel_free[memory].max(oldest)
    }

    /// When a request may start, the channel aside, none where that is not known yet; and what it waits for until
    /// then.
    pub(super) fn mover_ready(
        &self,
        id: usize,
        number: usize,
        channel: i64,
    ) -> (Option<i64>, Wait) {
        let mover = &self.plan.movers[id];
        let words = Wait::Operand(mover.tensor, mover.outer);
        let (ready, wait) =
            match mover.kind {
                Kind::Fill(keep) => {
                    let kept = &self.plan.keeps[keep];
                    match number.checked_sub(kept.generations) {
                        Some(old) => (
                            self.released(keep, old, None),
                            Wait::Room(kept.tensor, kept.memory),
                        ),
                        None => (Some(0), words),
                    }
                }
                Kind::Drain(keep) => {
                    let stored = latency(self.chip, self.plan.keeps[keep].memory);
                    let mut last = Some(0);
                    for (e, op) in self.plan.ops.iter().enumerate() {
                        for (t, w) in op.work.iter().enumerate() {
                            for u in w.uses.iter().filter(|u| {
                                u.from == From::End && u.keep == keep && u.tile <= number
                            }) {
                                let end = self.use_end(e, t, u.from, u.cycles);
                                last = last.zip(end).map(|(last, end)| last.max(end));
                            }
                        }
                    }
                    for part in self.parts(keep, number, false) {
                        let there = part.map(|m| m.whole);
                        last = last.zip(there).map(|(last, there)| last.max(there));
                    }
                    let ready = last.map(|last| last + stored);
                    let room = mover.around[number].and_then(|(around, tile)| {
                        let before = mover.around[..number].iter().flatten();
                        let new = before.last().is_some_and(|(_, last)| *last != tile);
                        let old = tile.checked_sub(self.plan.keeps[around].generations);
                        Some((around, old.filter(|_| new)?))
                    });
                    match room {
                        None => (ready, words),
                        Some((around, old)) => {
                            let kept = &self.plan.keeps[around];
                            let room = Wait::Room(kept.tensor, kept.memory);
                            match (ready, self.released(around, old, None)) {
                                (Some(ready), Some(free)) if free <= ready => (Some(ready), words),
                                (Some(_), free) => (free, room),
                                (None, _) => (None, words),
                            }
                        }
                    }
                }
                Kind::Operand(e) => match number.checked_sub(2) {
                    // The words of two tasks wait at the edge.
                    Some(before) => (
                        self.task_end(e, before),
                        Wait::Edge(mover.tensor, self.plan.ops[e].unit),
                    ),
                    None => (Some(0), words),
                },
                Kind::Result(e) => {
                    let (way, last_way, end_only) = mover.leaves;
                    // They leave no faster than they come.
                    let ready = self.started[e].get(number).map(|steps| {
                        let cycles = self.plan.ops[e].work[number].cycles;
                        let first = steps[0] + cycles + way;
                        let end = steps[steps.len() - 1] + cycles + last_way;
                        if end_only {
                            end
                        } else {
                            first.max(end + 1 - channel)
                        }
                    });
                    (ready, words)
                }
            };
        let Some((writer, at)) = mover.after[number] else {
            return (ready, wait);
        };
        let made = self
            .plan
            .ops
            .iter()
            .find(|o| o.output == self.plan.movers[writer].tensor);
        // A tile of an input comes from the tile around it.
        let source = made.map_or(words, |o| Wait::Link(mover.tensor, o.unit));
        match (ready, self.moved[writer].get(at)) {
            (None, _) => (None, wait),
            (_, None) => (None, source),
            (Some(ready), Some(m)) if m.whole > ready => (Some(m.whole), source),
            _ => (ready, wait),
        }
    }
}
