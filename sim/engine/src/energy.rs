//! Energy: what each component does, and what doing it costs.

use einflow_mappings::{
    count::{Access, Count, Traffic, transferred},
    mapped::{Block, MappedCascade, PassingWords, Place, Transfer, TransferKind},
};
use einflow_workloads::cascade::TensorId;
use indexmap::IndexMap;

use crate::report::Charge;

/// By nest and Einsum of a block: points at which it works.
type Points = Vec<Vec<u128>>;

/// The energy ledger: component x action x count x energy. Register accesses join the traffic.
pub(crate) fn energy(
    mapped: &MappedCascade,
    accesses: &Traffic,
    points: &[Points],
    traffic: &mut IndexMap<String, IndexMap<String, Access>>,
) -> Option<Vec<Charge>> {
    let accelerator = &mapped.accelerator;
    let passed = passed(mapped, points)?;
    let mut ledger = Vec::new();
    for (m, memory) in accelerator.memories.iter().enumerate() {
        let access = accesses.of_memory(m)?;
        let rows = |words: Count| words.times(accelerator.word.bytes().0)?.over(memory.row.0);
        let name = &memory.name;
        ledger.push(Charge {
            component: name.clone(),
            action: "read",
            count: rows(access.reads)?,
            energy: memory.read_energy.0,
        });
        ledger.push(Charge {
            component: name.clone(),
            action: "write",
            count: rows(access.writes)?,
            energy: memory.write_energy.0,
        });
    }
    for (unit, array) in accelerator.arrays.iter().enumerate() {
        let mut actions: IndexMap<&str, u128> = IndexMap::new();
        let mut registers: IndexMap<String, Access> = IndexMap::new();
        let (mut reads, mut writes, mut worked) = (0u128, 0u128, 0u128);
        for (block, points) in mapped.blocks.iter().zip(points) {
            for (nest, points) in block.nests.iter().zip(points) {
                for (einsum, points) in nest
                    .einsums
                    .iter()
                    .zip(points)
                    .filter(|(e, _)| e.unit == unit)
                {
                    worked = worked.checked_add(points.checked_mul(u128::from(einsum.cycles))?)?;
                    let cell = registers.entry(einsum.name.clone()).or_default();
                    for (operator, times) in &einsum.operators {
                        let operator = array.operator(operator)?;
                        let done = points.checked_mul(u128::from(*times))?;
                        for (component, each) in &operator.actions {
                            let sum = actions.entry(component).or_insert(0);
                            *sum = sum.checked_add(done.checked_mul(u128::from(*each))?)?;
                        }
                        let read = done.checked_mul(u128::from(operator.register_reads))?;
                        let write = done.checked_mul(u128::from(operator.register_writes))?;
                        reads = reads.checked_add(read)?;
                        writes = writes.checked_add(write)?;
                        cell.reads = cell.reads.plus(Count::whole(read))?;
                        cell.writes = cell.writes.plus(Count::whole(write))?;
                    }
                }
            }
        }
        for (component, done) in actions {
            let energy = array.components.get(component)?.energy.0;
            let component = format!("{}.{component}", array.name);
            ledger.push(Charge {
                component,
                action: "compute",
                count: Count::whole(done),
                energy,
            });
        }
        let component = format!("{}.registers", array.name);
        let energy = &array.registers;
        ledger.push(Charge {
            component: component.clone(),
            action: "read",
            count: Count::whole(reads),
            energy: energy.read_energy.0,
        });
        ledger.push(Charge {
            component: component.clone(),
            action: "write",
            count: Count::whole(writes),
            energy: energy.write_energy.0,
        });
        if array.control_energy.0 != 0.0 {
            let component = format!("{}.control", array.name);
            ledger.push(Charge {
                component,
                action: "cycle",
                count: Count::whole(worked),
                energy: array.control_energy.0,
            });
        }
        if !registers.is_empty() {
            traffic.insert(component, registers);
        }
        for (link, hops) in array.links.iter().zip(&passed[unit]) {
            if link.energy.0 != 0.0 {
                ledger.push(Charge {
                    component: format!("{}.links.{}", array.name, link.name),
                    action: "hop",
                    count: *hops,
                    energy: link.energy.0,
                });
            }
        }
    }
    Some(ledger)
}

/// Words times links that they pass, by array and link. Counted where a link's energy is stated, else none.
fn passed(mapped: &MappedCascade, points: &[Points]) -> Option<Vec<Vec<Count>>> {
    let arrays = &mapped.accelerator.arrays;
    let mut out: Vec<Vec<Count>> = arrays
        .iter()
        .map(|a| vec![Count::default(); a.links.len()])
        .collect();
    let charged = |array: usize, link: usize| arrays[array].links[link].energy.0 != 0.0;
    for (block, points) in mapped.blocks.iter().zip(points) {
        let einsums = block.nests.iter().zip(points).enumerate();
        for (nest, (own, points)) in einsums {
            for (position, (einsum, points)) in own.einsums.iter().zip(points).enumerate() {
                for p in &einsum.passing {
                    if !charged(p.array, p.link) {
                        continue;
                    }
                    let words = match p.of {
                        PassingWords::Points => *points,
                        PassingWords::Read(tensor) => moved(block, (nest, position), tensor, true)?,
                        PassingWords::Written(tensor) => {
                            moved(block, (nest, position), tensor, false)?
                        }
                    };
                    let hops = p.hops.times(words)?;
                    let sum = &mut out[p.array][p.link];
                    *sum = sum.plus(hops)?;
                }
            }
        }
    }
    Some(out)
}

/// Words of a tensor that come into, or leave, an array for an Einsum.
fn moved(block: &Block, at: (usize, usize), tensor: TensorId, reads: bool) -> Option<u128> {
    let own = |t: &&Transfer| {
        let registers = matches!(t.inner, Place::Registers(_));
        let kind = match t.kind {
            TransferKind::Operand => reads && !registers,
            TransferKind::Fill => reads && registers,
            TransferKind::Update => !reads && !registers,
            TransferKind::Drain => !reads && registers,
        };
        kind && t.einsum == at && t.tensor == tensor
    };
    let words = block.transfers.iter().filter(own).map(|t| {
        let moved = transferred(&block.space, t).ok()?;
        Some(moved.words)
    });
    words.sum()
}
