//! The ports and the bandwidth that a group or a movement takes.

use super::{
    cause::Cause,
    error::EventError,
    machine::Machine,
    observer::Observer,
    state::{Turn, Wanted},
    timing::Pieces,
};
use crate::{
    hardware::Load,
    program::{Ports, Read, Tile, Way, same},
};

impl Machine<'_> {
    /// The ports that a group takes if it starts at `start`.
    pub(super) fn ports_of(&self, turn: &Turn, start: u64, back: &[bool]) -> Wanted {
        let mut out = Wanted::new();
        let mut add = |way: &Way, rows: u64, pieces: Pieces, inward: bool| {
            for (first, stride, count) in pieces {
                let time = start + turn.load + first;
                let first = if inward {
                    time.saturating_sub(way.delay + way.burst - 1)
                } else {
                    time + way.delay
                };
                if count == 1 || way.burst == 1 {
                    out.push(Ports {
                        memory: way.memory,
                        start: first,
                        stride: if way.burst > 1 { 1 } else { stride },
                        count: if way.burst > 1 { way.burst } else { count },
                        rows,
                    });
                } else {
                    for i in 0..count {
                        out.push(Ports {
                            memory: way.memory,
                            start: first + i * stride,
                            stride: 1,
                            count: way.burst,
                            rows,
                        });
                    }
                }
            }
        };
        for ((member, steps), back) in turn.members.iter().zip(&turn.steps).zip(back) {
            let op = &self.program.ops[*member];
            let tile = &self.state.ops[*member].tile;
            for (i, read) in op.reads.iter().enumerate() {
                // The same words again are still there.
                if let Some(way) = read.way.as_ref().filter(|w| w.memory > 0)
                    && !self.stays(*member, i, read, tile)
                {
                    let reads = op.changes(tile, way.follows, false);
                    add(way, way.rows, steps.times(&reads, false), true);
                }
            }
            if let Some(way) = op.result.as_ref().filter(|w| w.memory > 0) {
                let writes = op.changes(tile, way.follows, true);
                // What is added to comes in as it goes out.
                let rows = if *back { 2 * way.rows } else { way.rows };
                add(way, rows, steps.times(&writes, true), false);
            }
        }
        out
    }

    /// Whether an operand's words are those of the task before.
    pub(super) fn stays(&self, member: usize, position: usize, read: &Read, tile: &Tile) -> bool {
        let op = &self.program.ops[member];
        let same = self.state.ops[member].last[position]
            .as_ref()
            .is_some_and(|last| same(last, tile, &read.projection));
        same && read.way.as_ref().is_some_and(|w| w.stays) && !op.steps.is_empty()
    }

    /// Rows that need more ports in a cycle than a memory has pass one after another.
    pub(super) fn fit_ports(&self, wanted: &mut Wanted) {
        for (memory, table) in self.state.ports.iter().enumerate() {
            let here: Wanted = wanted
                .iter()
                .filter(|p| p.memory == memory)
                .copied()
                .collect();
            if let Some(all) = table.fit(&here) {
                wanted.retain(|p| p.memory != memory);
                wanted.push(all);
            }
        }
    }

    /// The least delay with which wanted ports and bandwidths are there, and what is missing in the cycle before.
    pub(super) fn memory_delay(
        &self,
        wanted: &[Ports],
        loads: &[Load],
    ) -> Result<(u64, Option<Cause>), EventError> {
        let mut delay = 0;
        // Moving on for one memory may bring a clash at another.
        while let Some((more, _)) = self.missing(wanted, loads, delay)? {
            delay += more;
        }
        let before = match delay {
            0 => None,
            _ => self.missing(wanted, loads, delay - 1)?,
        };
        Ok((delay, before.map(|(_, cause)| cause)))
    }

    /// By how much more than a delay something that is missing with it asks for, and what.
    fn missing(
        &self,
        wanted: &[Ports],
        loads: &[Load],
        delay: u64,
    ) -> Result<Option<(u64, Cause)>, EventError> {
        for (memory, table) in self.state.ports.iter().enumerate() {
            let here = wanted.iter().filter(|p| p.memory == memory);
            let here = here.map(|p| Ports {
                start: p.start + delay,
                ..*p
            });
            let more = table.delay(&here.collect::<Wanted>());
            if more > 0 {
                return Ok(Some((more, Cause::Port(memory))));
            }
        }
        for load in loads {
            let Some(bandwidth) = &self.state.bandwidths[load.memory] else {
                continue;
            };
            let load = Load {
                first: load.first + delay,
                last: load.last + delay,
                ..*load
            };
            let more = bandwidth.delay(&load).ok_or(EventError::Overflow)?;
            if more > 0 {
                return Ok(Some((more, Cause::Channel(load.memory))));
            }
        }
        Ok(None)
    }

    /// Takes ports and bandwidths that [`Machine::memory_delay`] found free.
    pub(super) fn take_memories(
        &mut self,
        wanted: &[Ports],
        loads: &[Load],
        observer: &mut dyn Observer,
    ) -> Result<(), EventError> {
        for port in wanted {
            self.state.ports[port.memory].take(&[*port]);
            self.state.end = self.state.end.max(port.last() + 1);
            observer.ports(port);
        }
        for load in loads {
            if let Some(bandwidth) = &mut self.state.bandwidths[load.memory] {
                let end = bandwidth.take(load).ok_or(EventError::Overflow)?;
                self.state.end = self.state.end.max(end);
            }
        }
        Ok(())
    }
}
