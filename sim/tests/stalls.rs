//! Every cause of a stall by one tiny chip: the cycles derived by hand.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_engine::{cycle, events::Unseen};
use einflow_mappings::{bind, spec::MappingSpec};
use einflow_spec::Source;
use einflow_workloads::cascade::Cascade;

/// An array below a buffer. A word has 2 bytes, the clock 1 GHz: 2 GB/s are a word a cycle, 1000 GB/s more than any
/// tile here takes.
struct Chip {
    rows: u64,
    columns: u64,
    bandwidth: &'static str,
    latency: u64,
    ports: u64,
}

const FAST: Chip = Chip {
    rows: 1,
    columns: 1,
    bandwidth: "1000 GB/s",
    latency: 0,
    ports: 64,
};

impl Chip {
    fn text(&self) -> String {
        format!(
            r#"(name: "chip", description: "for tests", source: "assumed", clock: "1 GHz", word: f16,
            memories: {{
                "dram": (source: "assumed", capacity: unbounded, row: "8 B", bandwidth: "{}", latency: "{} ns",
                    read_energy: 1, write_energy: 1, area: 0),
                "buffer": (source: "assumed", capacity: unbounded, row: "64 B", banks: {}, ports: {}, latency: "0 cycles",
                    read_energy: 1, write_energy: 1, area: 0),
            }},
            arrays: {{ "pes": (source: "assumed", rows: {}, columns: {},
                components: {{ "alu": (source: "assumed", energy: 1, area: 1) }},
                operators: {{
                    "mac": (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),
                    "mul": (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),
                    "relu": (cycles: 1, actions: {{"alu": 1}}, register_reads: 1, register_writes: 1),
                }},
                registers: (source: "assumed", words: 64, read_energy: 1, write_energy: 1, area: 1),
                links: {{
                    "right": (direction: right, multicast: true), "down": (direction: down, multicast: true, reduce: true),
                    "left": (from: "buffer", direction: right, words_per_cycle: 64), "top": (from: "buffer", direction: down), "out": (to: "buffer", direction: down, words_per_cycle: 64),
                }},
            ) }})"#,
            self.bandwidth, self.latency, self.ports, self.ports, self.rows, self.columns
        )
    }
}

/// Cycles of the one block, those in which the array is busy, and its waits by what they are for.
fn run(
    chip: &Chip,
    cascade: [&str; 3],
    sizes: &[(&str, u64)],
    mapping: &str,
) -> (u64, u64, BTreeMap<String, u64>) {
    let [inputs, outputs, einsums] = cascade;
    let text = format!(
        r##"(name: "test", source: "assumed", description: "for tests", inputs: [{inputs}], outputs: [{outputs}], einsums: r#"{einsums}"#)"##
    );
    let cascade = Arc::new(Cascade::parse(&Source::new("test.ron", text)).unwrap());
    let chip = Arc::new(Accelerator::parse(&Source::new("chip.ron", chip.text())).unwrap());
    let text = format!(r#"(name: "case", source: "assumed", workload: "test", {mapping})"#);
    let spec = Arc::new(MappingSpec::parse(&Source::new("case.ron", text), None).unwrap());
    let sizes = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    let mapped = bind(&cascade, &chip, &spec, &sizes).unwrap();
    let runs = cycle::run(&mapped, true, &mut Unseen).unwrap();
    let totals = &runs[0].totals;
    let waits = totals.waits[0].iter().filter(|(_, cycles)| *cycles > 0);
    let waits: BTreeMap<String, u64> = waits
        .map(|(cause, cycles)| (cause.activity(&mapped).text(), *cycles))
        .collect();
    (runs[0].cycles, totals.busy[0], waits)
}

fn waits<const N: usize>(list: [(&str, u64); N]) -> BTreeMap<String, u64> {
    list.map(|(cause, cycles)| (cause.to_string(), cycles))
        .into()
}

/// Four words of A stream from DRAM: asked for at 0, they are at the edge from 10 to 14, the last of them; a hop
/// later the last is used in the last of four steps, so that the first is at 14 + 1 - 3 = 12. Results leave a hop
/// after each step's end, as fast as they come: from 14 on, four cycles and ten of latency, to 28. The array is free
/// at 16.
#[test]
fn an_operand_and_draining() {
    let chip = Chip {
        bandwidth: "2 GB/s",
        latency: 10,
        ..FAST
    };
    let mapping =
        r#"blocks: [(name: "b", loops: [], einsums: { "Z": (unit: "pes", loops: ["m"]) })]"#;
    let found = run(
        &chip,
        [r#""A[m]""#, r#""Z[m]""#, "Z[m] = relu(A[m])"],
        &[("M", 4)],
        mapping,
    );
    assert_eq!(
        found,
        (
            28,
            4,
            waits([("waits for A from dram", 12), ("draining", 12)])
        )
    );
}

/// B stays in 3 x 2 PEs, A goes to the right past it, sums go down in every step: B is loaded before, a row of PEs a
/// cycle, 3 cycles in which the array does nothing else. A is in the buffer at 1, B, which waited a cycle for the
/// channel, at 2. The first step finds B's last row a hop and two more rows later, at 5: the array begins to load at
/// 2. Four steps, free at 9; the last sum leaves the last row at 9 + 2, is written a hop later in cycle 12, asked for
/// at 13 and in DRAM at 14.
#[test]
fn filling() {
    let chip = Chip {
        rows: 3,
        columns: 2,
        ..FAST
    };
    let mapping = r#"blocks: [(name: "b", loops: [], keep: { "A": [(memory: "buffer")], "B": [(memory: "buffer")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pes", rows: "k", columns: "n", loops: ["m"]) })]"#;
    let cascade = [
        r#""A[m, k]", "B[k, n]""#,
        r#""Z[m, n]""#,
        "Z[m, n] = A[m, k] * B[k, n]",
    ];
    let found = run(&chip, cascade, &[("M", 4), ("N", 2), ("K", 3)], mapping);
    assert_eq!(
        found,
        (
            14,
            4,
            waits([
                ("waits for dram's channel", 2),
                ("filling", 3),
                ("draining", 5)
            ])
        )
    );
}

/// A takes the channel from 0 to 4, B, a tile like it, waits for that until 4 and is there at 18, ten cycles of
/// latency and four of its own later; a hop, and the first step is at 19: what made it late was the channel. Four
/// steps to 23. Z is written from 24 to 27, asked for at 28, and takes four cycles and ten, to 38 + 4.
#[test]
fn the_channel() {
    let chip = Chip {
        bandwidth: "2 GB/s",
        latency: 10,
        ..FAST
    };
    let mapping = r#"blocks: [(name: "b", loops: [], keep: { "A": [(memory: "buffer")], "B": [(memory: "buffer")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pes", loops: ["m"]) })]"#;
    let cascade = [r#""A[m]", "B[m]""#, r#""Z[m]""#, "Z[m] = A[m] * B[m]"];
    let found = run(&chip, cascade, &[("M", 4)], mapping);
    assert_eq!(
        found,
        (
            39,
            4,
            waits([("waits for dram's channel", 19), ("draining", 16)])
        )
    );
}

/// A's first tile is there at 4, used a hop later in the steps 5 to 8, for the last of which it is read in cycle 7:
/// its room is free at 8. The second is there at 12, used from 13 on: the array, free at 9, waits 4 cycles for room.
/// It ends at 17, Z's last word is written in 18, all eight are asked for at 19 and in DRAM at 27.
#[test]
fn room() {
    let chip = Chip {
        bandwidth: "2 GB/s",
        ..FAST
    };
    let mapping = r#"sizes: { "M0": 4 }, splits: { "M": ["M1", "M0"] },
        blocks: [(name: "b", loops: ["m1"], keep: { "A": [(memory: "buffer", below: "m1")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pes", loops: ["m0"]) })]"#;
    let found = run(
        &chip,
        [r#""A[m]""#, r#""Z[m]""#, "Z[m] = relu(A[m])"],
        &[("M", 8)],
        mapping,
    );
    let wanted = waits([
        ("waits for A from buffer", 5),
        ("waits for room for A in buffer", 4),
        ("draining", 10),
    ]);
    assert_eq!(found, (27, 8, wanted));
}

/// Results wait at the edge, those of two tasks. A is whole in the buffer at 4, tasks start at 5, 6 and 7; the
/// results of the first leave at 5 + 1 + 1 = 7 and take the channel for a cycle, those of the second follow at 8.
/// Nothing waits: a word a cycle comes, a word a cycle goes. Where the channel takes two cycles a word (1 GB/s; A is
/// there at 8, the first task at 9), results leave at 11, 13, 15: the third task waits until the first result has
/// begun to leave, at 11 as it would start; the fourth for the second, until 13 and not 12. It ends at 14, its result
/// waits for those before it until 17 and is in DRAM at 19.
#[test]
fn room_for_results() {
    let chip = Chip {
        bandwidth: "1 GB/s",
        ..FAST
    };
    let mapping = r#"blocks: [(name: "b", loops: ["m"], keep: { "A": [(memory: "buffer")] }, einsums: { "Z": (unit: "pes") })]"#;
    let found = run(
        &chip,
        [r#""A[m]""#, r#""Z[m]""#, "Z[m] = relu(A[m])"],
        &[("M", 4)],
        mapping,
    );
    let wanted = waits([
        ("waits for A from buffer", 9),
        ("waits for room for Z in dram", 1),
        ("draining", 5),
    ]);
    assert_eq!(found, (19, 4, wanted));
}

/// One port. A is there at 1; a task that starts at s reads in s - 1 and writes in s + 2. Tasks at 2, 3 and 4 read in
/// 1, 2, 3 and write in 4, 5, 6: the fourth would read in 4, waits for these three, and starts at 8. It ends at 9, Z
/// is written in 10 and in DRAM at 12.
#[test]
fn ports() {
    let chip = Chip { ports: 1, ..FAST };
    let mapping = r#"blocks: [(name: "b", loops: ["m"], keep: { "A": [(memory: "buffer")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pes") })]"#;
    let found = run(
        &chip,
        [r#""A[m]""#, r#""Z[m]""#, "Z[m] = relu(A[m])"],
        &[("M", 4)],
        mapping,
    );
    let wanted = waits([
        ("waits for A from buffer", 2),
        ("waits for a port of buffer", 3),
        ("draining", 3),
    ]);
    assert_eq!(found, (12, 4, wanted));
}

/// Two products of a word, one phase each, and 10 cycles of drain stated before the second: an epoch takes 1 + 10 + 1
/// cycles at least. The first is at 2 and 3; the second cannot begin before 12, where the array is free at 4. It ends
/// at 14; Z is written by 14 and in DRAM at 16, Y a cycle later.
#[test]
fn the_mapping() {
    let mapping = r#"sizes: { "M0": 1 }, splits: { "M": ["M1", "M0"] },
        blocks: [(name: "b", loops: ["m1"],
            keep: { "A": [(memory: "buffer")], "B": [(memory: "buffer")], "Z": [(memory: "buffer")], "Y": [(memory: "buffer")] },
            einsums: { "Z": (unit: "pes"), "Y": (unit: "pes") },
            phases: [(name: "first", einsums: ["Z"]), (name: "second", einsums: ["Y"], drain: 10)])]"#;
    let cascade = [
        r#""A[m]", "B[m]""#,
        r#""Z[m]", "Y[m]""#,
        "Z[m] = relu(A[m])\nY[m] = relu(B[m])",
    ];
    let found = run(&FAST, cascade, &[("M", 2)], mapping);
    let wanted = waits([
        ("waits for A from buffer", 2),
        ("idle by the mapping", 8),
        ("draining", 3),
    ]);
    assert_eq!(found, (17, 4, wanted));
}

/// Two Einsums read each tile of A, Y before Z, though Z stands first. A's first tile is there at 1, used for Y in the
/// steps 2 to 5 and for Z in 6 to 9, for the last of which it is read in cycle 8: its room is free at 9, and not at 5,
/// when Y has read it. The second is there at 10, and used from 11 on: the array, free at 10, waits a cycle for room. It
/// ends at 19, Z's last word is written in 20, all eight are asked for at 21 and in DRAM at 22.
#[test]
fn room_that_two_read() {
    let mapping = r#"sizes: { "M0": 4 }, splits: { "M": ["M1", "M0"] },
        blocks: [(name: "b", loops: ["m1"],
            keep: { "A": [(memory: "buffer", below: "m1")], "Z": [(memory: "buffer")], "Y": [(memory: "buffer")] },
            einsums: { "Z": (unit: "pes", loops: ["m0"]), "Y": (unit: "pes", loops: ["m0"]) },
            phases: [(name: "first", einsums: ["Y"]), (name: "second", einsums: ["Z"])])]"#;
    let cascade = [
        r#""A[m]""#,
        r#""Z[m]", "Y[m]""#,
        "Z[m] = relu(A[m])\nY[m] = relu(A[m])",
    ];
    let found = run(&FAST, cascade, &[("M", 8)], mapping);
    let wanted = waits([
        ("waits for A from buffer", 2),
        ("waits for room for A in buffer", 1),
        ("draining", 3),
    ]);
    assert_eq!(found, (22, 16, wanted));
}
