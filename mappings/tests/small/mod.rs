//! A small chip, and what is mapped on it.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_mappings::{bind, count::traffic, mapped::MappedCascade, spec::MappingSpec};
use einflow_spec::Source;
use einflow_workloads::cascade::Cascade;

/// A row of eight PEs below a buffer and DRAM; `links` between them.
pub fn chip(links: &str) -> String {
    let operator = |name: &str| {
        format!(
            r#"{name:?}: (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),"#
        )
    };
    let operators: String = ["mac", "mul", "add", "sub", "relu"].map(operator).concat();
    format!(
        r#"(name: "chip", description: "for tests", source: "assumed", clock: "1 GHz", word: f16, memories: {{
            "dram": (source: "assumed", capacity: unbounded, row: "8 B", latency: "1 ns", read_energy: 1, write_energy: 1, area: 0),
            "buffer": (source: "assumed", capacity: "1 MiB", row: "16 B", banks: 16, ports: 16, latency: "1 cycle", read_energy: 1, write_energy: 1, area: 0),
        }}, arrays: {{ "row": (source: "assumed", rows: 1, columns: 8,
            components: {{ "alu": (source: "assumed", energy: 1, area: 1) }}, operators: {{ {operators} }},
            registers: (source: "assumed", words: 64, read_energy: 1, write_energy: 1, area: 1),
            links: {{ {links} "in": (from: "buffer", direction: down), "out": (to: "buffer", direction: down) }},
        ) }})"#
    )
}

pub const ACROSS: &str = r#""across": (direction: right, multicast: true, reduce: true),"#;

pub fn mapped(
    chip: &str,
    cascade: &str,
    mapping: &str,
    sizes: &[(&str, u64)],
) -> Result<MappedCascade, String> {
    let cascade =
        format!(r#"(name: "test", source: "assumed", description: "for tests", {cascade})"#);
    let mapping = format!(r#"(name: "case", source: "assumed", workload: "test", {mapping})"#);
    let cascade = Cascade::parse(&Source::new("test.ron", cascade)).unwrap();
    let chip = Accelerator::parse(&Source::new("chip.ron", chip)).unwrap();
    let spec = MappingSpec::parse(&Source::new("case.ron", mapping), None).unwrap();
    let sizes: BTreeMap<String, u64> = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    bind(&Arc::new(cascade), &Arc::new(chip), &Arc::new(spec), &sizes).map_err(|problems| {
        problems
            .iter()
            .map(|p| p.message.clone())
            .collect::<Vec<_>>()
            .join("; ")
    })
}

/// Words of a tensor read from and written to a memory.
pub fn words(mapped: &MappedCascade, memory: usize, tensor: &str) -> [u128; 2] {
    let tensors = &mapped.cascade.tensors;
    let id = tensors.iter().position(|t| t.name == tensor).unwrap();
    let chip = &mapped.accelerator;
    let mut sum = [0; 2];
    for block in mapped.blocks.iter() {
        let all = traffic(block, chip.counting, chip.memories.len(), tensors.len()).unwrap();
        let access = all.get(memory, id);
        sum[0] += access.reads.rounded();
        sum[1] += access.writes.rounded();
    }
    sum
}

pub const DRAM: usize = 0;
pub const BUFFER: usize = 1;
