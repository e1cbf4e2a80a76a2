//! The ports that a group takes.

use super::{
    error::EventError,
    machine::Machine,
    state::{Turn, Wanted},
    timing::{Pieces, Steps},
};
use crate::program::{Op, Ports, Read, Tile, Way};

impl Machine<'_> {
    /// Steps of a task for each access on a way.
    pub(super) fn every(&self, op: &Op, steps: &Steps, way: &Way, tile: &Tile) -> u64 {
        let mut sides = *tile;
        let mut accesses = 1u64;
        for l in &op.steps[..way.depth.min(op.steps.len())] {
            let side = &mut sides[l.cut.rank];
            accesses *= side.1.div_ceil(l.cut.step.max(1)).max(1);
            side.1 = side.1.min(l.cut.step);
        }
        (steps.count / accesses.max(1)).max(1)
    }

    /// The ports that a group takes if it starts at `start`.
    pub(super) fn ports_of(&self, turn: &Turn, start: u64) -> Wanted {
        let mut out = Wanted::new();
        let mut add = |way: &Way, pieces: Pieces, inward: bool| {
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
                        rows: way.rows,
                    });
                } else {
                    for i in 0..count {
                        out.push(Ports {
                            memory: way.memory,
                            start: first + i * stride,
                            stride: 1,
                            count: way.burst,
                            rows: way.rows,
                        });
                    }
                }
            }
        };
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            let op = &self.program.ops[*member];
            let tile = &self.state.ops[*member].tile;
            for (i, read) in op.reads.iter().enumerate() {
                // The same words again are still there.
                if let Some(way) = read.way.as_ref().filter(|w| w.memory > 0)
                    && !self.stays(*member, i, read, tile)
                {
                    let every = self.every(op, steps, way, tile);
                    add(way, steps.accesses(every, false), true);
                }
            }
            if let Some(way) = op.result.as_ref().filter(|w| w.memory > 0) {
                let every = self.every(op, steps, way, tile);
                add(way, steps.accesses(every, true), false);
            }
        }
        out
    }

    /// Whether an operand's words are those of the task before.
    pub(super) fn stays(&self, member: usize, position: usize, read: &Read, tile: &Tile) -> bool {
        let op = &self.program.ops[member];
        let same = self.state.ops[member].last[position]
            .as_ref()
            .is_some_and(|last| super::words::same(last, tile, &read.projection));
        same && read.way.as_ref().is_some_and(|w| w.depth == 0) && !op.steps.is_empty()
    }

    /// Splits wanted ports by memory and finds the least delay.
    pub(super) fn port_delay(
        &self,
        wanted: &[Ports],
        what: &str,
    ) -> Result<(u64, Option<usize>), EventError> {
        let mut delay = 0;
        let mut cause = None;
        // Moving on for one memory may bring a clash at another.
        loop {
            let mut more = 0;
            for memory in 0..self.state.ports.len() {
                let here: Wanted = wanted
                    .iter()
                    .filter(|p| p.memory == memory)
                    .map(|p| Ports {
                        start: p.start + delay,
                        ..*p
                    })
                    .collect();
                if here.is_empty() {
                    continue;
                }
                let found = self.state.ports[memory].delay(&here).ok_or_else(|| {
                    let spec = &self.mapped.accelerator.memories[memory];
                    EventError::Ports {
                        what: what.to_string(),
                        memory: spec.name.clone(),
                        ports: spec.ports.min(spec.banks),
                    }
                })?;
                if found > 0 {
                    more = found;
                    cause = Some(memory);
                    break;
                }
            }
            if more == 0 {
                return Ok((delay, cause));
            }
            delay += more;
        }
    }
}
