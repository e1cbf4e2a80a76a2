//! Energy: what each component does, and what doing it costs.

use einflow_arch::Array;
use einflow_mappings::{
    count::{Access, Count, Traffic},
    mapped::{MappedCascade, Passing},
    passed::passed,
};
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
    let hops = hops(mapped)?;
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
        for (link, hops) in array.links.iter().zip(&hops[unit]) {
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
fn hops(mapped: &MappedCascade) -> Option<Vec<Vec<Count>>> {
    let accelerator = &mapped.accelerator;
    let arrays = &accelerator.arrays;
    let none = |a: &Array| vec![Count::default(); a.links.len()];
    let mut out: Vec<Vec<Count>> = arrays.iter().map(none).collect();
    let charged = |p: &Passing| arrays[p.array].links[p.link].energy.0 != 0.0;
    for block in mapped.blocks.iter() {
        for (p, hops) in passed(block, accelerator.counting, charged).ok()? {
            let sum = &mut out[p.array][p.link];
            *sum = sum.plus(hops)?;
        }
    }
    Some(out)
}
