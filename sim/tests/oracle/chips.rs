//! Small accelerators: two or three memories, two linked arrays that do everything.

use std::sync::Arc;

use einflow_arch::Accelerator;
use einflow_spec::Source;

const OPERATORS: [(&str, u64); 10] = [
    ("mac", 1),
    ("mul", 1),
    ("add", 1),
    ("sub", 1),
    ("max", 1),
    ("min", 1),
    ("div", 2),
    ("exp", 6),
    ("sqrt", 3),
    ("sub+exp", 5),
];

/// Links every way, of any width: to neighbours, from and to the memory by the arrays.
fn links(others: &str) -> String {
    let neighbours: Vec<String> = ["right", "left", "down", "up"]
        .iter()
        .map(|way| {
            format!(
                "{way:?}: (direction: {way}, multicast: true, reduce: true, words_per_cycle: 65536)"
            )
        })
        .collect();
    format!(
        r#"{}, "in": (from: "buffer", direction: down, words_per_cycle: 65536),
            "out": (to: "buffer", direction: down, words_per_cycle: 65536), {others}"#,
        neighbours.join(", ")
    )
}

fn array(rows: u64, links: &str) -> String {
    let operators: Vec<String> = OPERATORS
        .iter()
        .map(|(name, cycles)| {
            format!("{name:?}: (cycles: {cycles}, actions: {{\"alu\": 1}}, register_reads: 2, register_writes: 1)")
        })
        .collect();
    format!(
        r#"(source: "assumed", rows: {rows}, columns: 64,
            components: {{ "alu": (source: "assumed", energy: 1, area: 1) }},
            operators: {{ {} }},
            registers: (source: "assumed", words: 65536, read_energy: 1, write_energy: 1, area: 1),
            links: {{ {links} }})"#,
        operators.join(", ")
    )
}

/// An accelerator; the memories are `dram`, perhaps `shared`, `buffer`.
pub fn chip(memories: usize, timeloop: bool) -> Arc<Accelerator> {
    let memory = |name: &str| {
        format!(
            r#"{name:?}: (source: "assumed", capacity: unbounded, row: "8 B", banks: 1, ports: 1, bandwidth: "64 GiB/s",
                latency: "10 ns", outstanding: 1, read_energy: 1, write_energy: 1, area: 0)"#
        )
    };
    let names = if memories == 3 {
        vec!["dram", "shared", "buffer"]
    } else {
        vec!["dram", "buffer"]
    };
    let text = format!(
        r#"(name: "chip", description: "a chip for tests", source: "assumed", clock: "1 GHz", word: bf16, counting: {},
            memories: {{ {} }}, arrays: {{ "array2d": {}, "array1d": {} }})"#,
        if timeloop { "timeloop" } else { "physical" },
        names
            .iter()
            .map(|n| memory(n))
            .collect::<Vec<_>>()
            .join(", "),
        array(
            64,
            &links(
                r#""below": (to: "array1d", direction: down, words_per_cycle: 65536),
                    "back": (from: "array1d", direction: up, words_per_cycle: 65536)"#
            )
        ),
        array(1, &links("")),
    );
    let parsed = Accelerator::parse(&Source::new("chip.ron", text.clone()));
    Arc::new(parsed.unwrap_or_else(|e| panic!("{e:?}\n{text}")))
}
