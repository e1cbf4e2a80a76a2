//! The ways of words between the PE that makes them and those that use them, hop by hop.

use einflow_arch::{Accelerator, Direction};

use super::{ArrayError, CrowdedLink, engine::Engine, kernel::Reduction, plan::Lane};
use crate::program::{Op, Read};

/// Cycles of a memory.
pub(super) fn latency(accelerator: &Accelerator, memory: usize) -> u64 {
    let memory = &accelerator.memories[memory];
    u64::try_from(memory.latency.cycles(accelerator.clock).0).unwrap_or(u64::MAX / 16)
}

/// A word's way, in the frame of time of the wavefront: a hop to a neighbour costs nothing there where it goes the wavefront's way, as
/// the neighbour works a cycle later anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Travel {
    /// Cycles from the end of the step that made the word in a PE to where it is used, at the PE that needs it first.
    pub cycles: u64,
    /// Words of different rows leave one after another.
    pub serial: bool,
}

/// Hops from PE (0, 0) to the last one of a lane in a direction.
fn hops(accelerator: &Accelerator, unit: usize, direction: Direction) -> u64 {
    let array = &accelerator.arrays[unit];
    let length = match direction {
        Direction::Down => array.rows,
        Direction::Right => array.columns,
        Direction::Up | Direction::Left => 1,
    };
    // A hop takes a cycle, and each neighbour is one.
    (1..length).map(|_| 1).sum()
}

/// The way of a maker's words to a reader. `shared` says of the rows and the columns whether all PEs of a lane make a word together.
pub(super) fn travel(
    accelerator: &Accelerator,
    made: &Op,
    op: &Op,
    read: &Read,
    shared: (bool, bool),
) -> Option<Travel> {
    let maker = read.maker.as_ref()?;
    if let Some(memory) = maker.memory {
        // Out over the link to the memory's port, row after row; stored; then read, row after row, and over the feeding link.
        let out = made.result.as_ref().map_or(0, |w| w.delay + w.burst - 1);
        let stored = latency(accelerator, memory);
        let links = &accelerator.arrays[op.unit].links;
        let behind = &accelerator.memories[memory..];
        let feeds = links.iter().find(|l| {
            l.from
                .as_ref()
                .is_some_and(|from| behind.iter().any(|m| m.name == *from))
        });
        let back = latency(accelerator, memory) + feeds.map_or(1, |l| l.latency);
        let rows = read.way.as_ref().map_or(0, |w| w.burst - 1);
        return Some(Travel {
            cycles: out + stored + back + rows,
            serial: false,
        });
    }
    if made.unit == op.unit {
        // A sum runs to the last PE of its lane and back to the first, which needs it first.
        let array = &accelerator.arrays[op.unit];
        let around = |shared: bool, length: u64| -> u64 {
            if shared {
                (1..length).map(|_| 1 + 1).sum()
            } else {
                0
            }
        };
        return Some(Travel {
            cycles: around(shared.0, array.rows) + around(shared.1, array.columns),
            serial: false,
        });
    }
    let (source, target) = (&accelerator.arrays[made.unit], &accelerator.arrays[op.unit]);
    let out = source
        .links
        .iter()
        .find(|l| l.to.as_ref() == Some(&target.name));
    let into = target
        .links
        .iter()
        .find(|l| l.from.as_ref() == Some(&source.name));
    let cycles = out
        .or(into)
        .map_or(1, |l| hops(accelerator, made.unit, l.direction) + l.latency);
    Some(Travel {
        cycles,
        serial: made.rows_apart,
    })
}

impl Engine<'_> {
    /// Checks that the words of a step that are new to the PEs pass the links between them: an operand that all PEs of a lane share
    /// travels along it, and so does a sum that they form together and that leaves at once.
    pub fn check_links(&self, member: usize, leaves: bool, cycle: u64) -> Result<(), ArrayError> {
        let op = &self.program.ops[member];
        let plan = &self.plans[member];
        let array = &self.mapped.accelerator.arrays[op.unit];
        let lanes = [
            (
                "rows",
                plan.rows,
                op.lanes.0.as_ref(),
                [Direction::Down, Direction::Up],
            ),
            (
                "columns",
                plan.columns,
                op.lanes.1.as_ref(),
                [Direction::Right, Direction::Left],
            ),
        ];
        for (at, (between, lane, l, directions)) in lanes.into_iter().enumerate() {
            let Some(Lane { shared, .. }) = lane.filter(|_| l.is_some_and(|l| l.count > 1)) else {
                continue;
            };
            let mut tensors: Vec<&str> = Vec::new();
            for (i, access) in plan.reads.iter().enumerate() {
                let made_here = op.reads[i]
                    .maker
                    .as_ref()
                    .is_some_and(|m| m.memory.is_none() && self.program.ops[m.op].unit == op.unit);
                if plan.shares[i][at]
                    && !made_here
                    && self.works[member].operands[i].new
                    && !access.checked()
                {
                    tensors.push(self.tensor_name(plan.read_tensors[i]));
                }
            }
            if shared && leaves && plan.kernel.reduction != Reduction::None {
                tensors.push(self.tensor_name(plan.output_tensor));
            }
            let neighbours = array
                .links
                .iter()
                .filter(|l| l.from.is_none() && l.to.is_none());
            let each = neighbours.filter(|l| directions.contains(&l.direction));
            let room = each
                .map(|l| l.words_per_cycle)
                .sum::<u64>()
                .saturating_mul(op.cycles);
            if tensors.len() as u64 > room {
                return Err(ArrayError::Link(Box::new(CrowdedLink {
                    einsum: op.name.clone(),
                    array: array.name.clone(),
                    between,
                    cycle,
                    words: tensors.len() as u64,
                    room,
                    cycles: op.cycles,
                    tensors: tensors.join(", "),
                })));
            }
        }
        Ok(())
    }
}
