//! The smallest programs in which an engine breaks the page. Each test fails when that is mended: then its kind of
//! [`Known`] goes, and the random programs have to agree there too.

use super::{
    compare::{Outcome, compare},
    generate::build,
};
use crate::naive::Known;

/// One array of one PE below one or two memories, all as slow as a word a cycle and 5 cycles away.
fn chip() -> String {
    let memory = |name: &str| {
        format!(
            r#"{name:?}: (source: "assumed", capacity: unbounded, row: "2 B", bandwidth: "2 GB/s", latency: "5 cycles",
            ports: 64, banks: 64, read_energy: 1, write_energy: 1, area: 0), "#
        )
    };
    let memories: String = ["dram", "shared", "buffer"].map(memory).concat();
    format!(
        r#"(name: "chip", description: "for tests", source: "assumed", clock: "1 GHz", word: f16, memories: {{ {memories} }},
        arrays: {{ "pe": (source: "assumed", rows: 1, columns: 1,
            components: {{ "alu": (source: "assumed", energy: 1, area: 1) }},
            operators: {{
                "mac": (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),
                "add": (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),
                "relu": (cycles: 1, actions: {{"alu": 1}}, register_reads: 1, register_writes: 1),
            }},
            registers: (source: "assumed", words: 64, read_energy: 1, write_energy: 1, area: 1),
            links: {{
                "in": (from: "buffer", direction: down, words_per_cycle: 8), "out": (to: "buffer", direction: down, words_per_cycle: 8),
            }},
        ) }})"#
    )
}

fn known(cascade: [&str; 4], sizes: &[(&str, u64)], mapping: &str) -> Option<Known> {
    let [inputs, output, einsum, more] = cascade;
    let cascade = format!(
        r##"(name: "test", source: "assumed", description: "for tests", inputs: [{inputs}], outputs: [{output:?}], {more} einsums: r#"{einsum}"#)"##
    );
    let mapping = format!(r#"(name: "case", source: "assumed", workload: "test", {mapping})"#);
    let sizes = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    let program = build(&cascade, &chip(), &mapping, &sizes);
    match compare(&program.mapped.unwrap()) {
        Outcome::Known(known) => Some(known),
        _ => None,
    }
}

/// A's tiles go from the shared memory to the buffer before A is in the shared memory.
#[test]
fn a_tile_further_in_does_not_wait_for_the_one_around_it() {
    let mapping = r#"sizes: { "M0": 2 }, splits: { "M": ["M1", "M0"] }, blocks: [(name: "b", loops: ["m1"],
        keep: { "A": [(memory: "shared"), (memory: "buffer", below: "m1")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", loops: ["m0"]) })]"#;
    let found = known(
        [r#""A[m]""#, "Z[m]", "Z[m] = relu(A[m])", ""],
        &[("M", 4)],
        mapping,
    );
    assert_eq!(found, Some(Known::Deep));
}

/// Of M's second tile there is one word: it stays in the buffer while K moves on, and is drained before it is whole.
#[test]
fn a_tile_that_stays_is_drained_when_a_loop_outside_moves() {
    let mapping = r#"sizes: { "M0": 1, "M1": 2 }, splits: { "M": ["M2", "M1", "M0"] }, blocks: [(name: "b", loops: ["m2", "k", "m1"],
        keep: { "Z": [(memory: "buffer", below: "m1")] }, einsums: { "Z": (unit: "pe", loops: ["m0"]) })]"#;
    let found = known(
        [r#""A[m, k]""#, "Z[m]", "Z[m] = A[m, k]", ""],
        &[("M", 3), ("K", 2)],
        mapping,
    );
    assert_eq!(found, Some(Known::SameAgain));
}

/// Two tiles of I are held, of which the second has words of the first. The array engine takes them for words that
/// come with the second, and refuses the first task, which reads them.
#[test]
fn words_that_two_tiles_share_are_there_for_the_first() {
    let mapping = r#"blocks: [(name: "b", loops: ["p"], keep: { "I": [(memory: "buffer", below: "p", buffers: 2)], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", loops: ["r"]) })]"#;
    let more = r#"parameters: { "P": "W - R + 1" },"#;
    let found = known(
        [r#""I[w]", "F[r]""#, "Z[p]", "Z[p] = I[p + r] * F[r]", more],
        &[("W", 12), ("R", 8)],
        mapping,
    );
    assert_eq!(found, Some(Known::Shared));
}
