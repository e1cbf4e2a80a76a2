//! Small programs of which the cycles have been worked out by hand from the page.

use super::{
    compare::{Outcome, compare},
    generate::build,
};
use crate::naive;

/// Ports enough.
const WIDE: &str = "ports: 64, banks: 64";

/// One column of PEs below three memories, all as slow as a word a cycle and 5 cycles away; what the buffer has, and
/// the latency from PE to PE.
fn chip(buffer: &str, rows: u64, hop: u64) -> String {
    let memory = |(name, has): (&str, &str)| {
        format!(
            r#"{name:?}: (source: "assumed", capacity: unbounded, row: "2 B", latency: "5 cycles",
            {has}, read_energy: 1, write_energy: 1, area: 0), "#
        )
    };
    let memories = [("dram", WIDE), ("shared", WIDE), ("buffer", buffer)];
    let memories: String = memories.map(memory).concat();
    format!(
        r#"(name: "chip", description: "for tests", source: "assumed", clock: "1 GHz", word: f16, memories: {{ {memories} }},
        arrays: {{ "pe": (source: "assumed", rows: {rows}, columns: 1,
            components: {{ "alu": (source: "assumed", energy: 1, area: 1) }},
            operators: {{
                "mac": (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),
                "add": (cycles: 1, actions: {{"alu": 1}}, register_reads: 2, register_writes: 1),
                "relu": (cycles: 1, actions: {{"alu": 1}}, register_reads: 1, register_writes: 1),
            }},
            registers: (source: "assumed", words: 64, read_energy: 1, write_energy: 1, area: 1),
            links: {{ "down": (direction: down, words_per_cycle: 8, latency: {hop}),
                "in": (from: "buffer", direction: down, words_per_cycle: 8), "out": (to: "buffer", direction: down, words_per_cycle: 8),
            }},
        ) }})"#
    )
}

/// The cycles in which all engines and the naive simulator agree.
fn cycles(cascade: [&str; 4], sizes: &[(&str, u64)], mapping: &str) -> u64 {
    cycles_on(&chip(WIDE, 1, 1), cascade, sizes, mapping)
}

fn cycles_on(chip: &str, cascade: [&str; 4], sizes: &[(&str, u64)], mapping: &str) -> u64 {
    let [inputs, output, einsum, more] = cascade;
    let cascade = format!(
        r##"(name: "test", source: "assumed", description: "for tests", inputs: [{inputs}], outputs: [{output:?}], {more} einsums: r#"{einsum}"#)"##
    );
    let mapping = format!(r#"(name: "case", source: "assumed", workload: "test", {mapping})"#);
    let sizes = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    let mapped = build(&cascade, chip, &mapping, &sizes).mapped.unwrap();
    match compare(&mapped) {
        Outcome::Agreed(_) => naive::run(&mapped).unwrap().iter().map(|b| b.cycles).sum(),
        Outcome::Differs(text) => panic!("{text}"),
        _ => panic!("it does not run"),
    }
}

/// A is in the shared memory at 9 (4 words, 5 cycles away), its first tile in the buffer at 9 + 5 + 2 = 16 and in the
/// PE 6 later, at 22; then its room is free, the second tile is in the buffer at 29 and in the PE at 35. Its steps end
/// at 37, Z is written at 38, read 5 cycles later, at 44, and 4 words are in the outermost memory at 53.
#[test]
fn a_tile_further_in_waits_for_the_one_around_it() {
    let mapping = r#"sizes: { "M0": 2 }, splits: { "M": ["M1", "M0"] }, blocks: [(name: "b", loops: ["m1"],
        keep: { "A": [(memory: "shared"), (memory: "buffer", below: "m1")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", loops: ["m0"]) })]"#;
    let cascade = [r#""A[m]""#, "Z[m]", "Z[m] = relu(A[m])", ""];
    assert_eq!(cycles(cascade, &[("M", 4)], mapping), 53);
}

/// A is in the PE from 15 on. Z goes to the shared memory tile by tile, and from there whole. The first tile's steps
/// end at 17, it is written until 19, drained at 24 and taken at 26: then the second is written from, and steps at 24
/// and 25. It is written until 28, drained at 33 and in the shared memory at 40; Z leaves there at 45 and is in the
/// outermost memory at 54.
#[test]
fn a_tile_further_out_waits_for_those_within() {
    let mapping = r#"sizes: { "M0": 2 }, splits: { "M": ["M1", "M0"] }, blocks: [(name: "b", loops: ["m1"],
        keep: { "A": [(memory: "buffer")], "Z": [(memory: "shared"), (memory: "buffer", below: "m1")] },
        einsums: { "Z": (unit: "pe", loops: ["m0"]) })]"#;
    let cascade = [r#""A[m]""#, "Z[m]", "Z[m] = relu(A[m])", ""];
    assert_eq!(cycles(cascade, &[("M", 4)], mapping), 54);
}

/// Tiles of one word, each in its turn: the first is drained at 15, and three more at 23, 31 and 39, when the fifth
/// has been made. Of the last rows of M there is one word: it stays in the buffer while K moves on, is added to at 40,
/// drained at 48, and in the outermost memory at 54.
#[test]
fn a_tile_that_stays_is_the_same_when_a_loop_outside_moves() {
    let mapping = r#"sizes: { "M0": 1, "M1": 2 }, splits: { "M": ["M2", "M1", "M0"] }, blocks: [(name: "b", loops: ["m2", "k", "m1"],
        keep: { "Z": [(memory: "buffer", below: "m1")] }, einsums: { "Z": (unit: "pe", loops: ["m0"]) })]"#;
    let cascade = [r#""A[m, k]""#, "Z[m]", "Z[m] = A[m, k]", ""];
    assert_eq!(cycles(cascade, &[("M", 3), ("K", 2)], mapping), 54);
}

/// Two tiles of I are held, of which the second has words of the first: those are there for the first task, at 19.
/// F comes anew for each task, 8 words over a channel that I's new words share; tasks start at 19, 27, 37, 47 and 56.
#[test]
fn words_that_two_tiles_share_are_there_for_the_first() {
    let mapping = r#"blocks: [(name: "b", loops: ["p"], keep: { "I": [(memory: "buffer", below: "p", buffers: 2)], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", loops: ["r"]) })]"#;
    let more = r#"parameters: { "P": "W - R + 1" },"#;
    let cascade = [r#""I[w]", "F[r]""#, "Z[p]", "Z[p] = I[p + r] * F[r]", more];
    assert_eq!(cycles(cascade, &[("W", 12), ("R", 8)], mapping), 81);
}

/// Of 5 words of K in fours the last is alone: K takes 5 steps, and not 8. A's two rows of 5 words come as a stream,
/// 5 cycles a task; the first step of a task is no earlier than its first word, a hop after it came, and the last no
/// earlier than its last: the tasks step from 7 and from 12 on. Z is written until 19, and there at 31.
#[test]
fn a_partial_tile_has_the_steps_that_it_has() {
    let mapping = r#"sizes: { "K0": 4 }, splits: { "K": ["K1", "K0"] }, blocks: [(name: "b", loops: ["m"],
        keep: { "Z": [(memory: "buffer")] }, einsums: { "Z": (unit: "pe", loops: ["k1", "k0"]) })]"#;
    let cascade = [r#""A[m, k]""#, "Z[m]", "Z[m] = A[m, k]", ""];
    assert_eq!(cycles(cascade, &[("M", 2), ("K", 5)], mapping), 31);
}

const RELU: [&str; 4] = [r#""A[m]""#, "Z[m]", "Z[m] = relu(A[m])", ""];
const WHOLE: &str = r#"blocks: [(name: "b", loops: [], keep: { "A": [(memory: "buffer")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", loops: ["m"]) })]"#;

/// A byte a cycle: A's 8 bytes come from 5 to 13, are read from 13 on and Z's written until 25, which takes the buffer
/// 16 cycles, until 29. Z is asked for at 25 + 5 = 30, takes 8 cycles, and is 5 cycles later there.
#[test]
fn a_buffers_bandwidth_paces_tiles_and_tasks() {
    let chip = chip(&format!(r#"bandwidth: "1 GB/s", {WIDE}"#), 1, 1);
    assert_eq!(cycles_on(&chip, RELU, &[("M", 4)], WHOLE), 43);
}

/// One port: A's 10 rows come until 15. They are read from 15 to 24, and Z's written from 23 on: two rows a cycle, so
/// the 20 rows take the port from 15 to 34. Z, written by its own time at 33, is asked for at 38 and there at 53.
/// Of 14 rows Z's are written until 41 and the port is taken from 19 to 46: Z waits for it until 47, and is there at 66.
#[test]
fn too_few_ports_let_rows_pass_one_after_another() {
    let chip = chip("ports: 1, banks: 1", 1, 1);
    assert_eq!(cycles_on(&chip, RELU, &[("M", 10)], WHOLE), 53);
    assert_eq!(cycles_on(&chip, RELU, &[("M", 14)], WHOLE), 66);
}

/// Three PEs below each other make a word each in the cycle after 14; the first to come to the edge passes two hops,
/// and the link: written at 18, drained from 24 on and there at 32. With hops of 4 cycles all is 6 later.
#[test]
fn every_hop_takes_its_links_latency() {
    let mapping = r#"blocks: [(name: "b", loops: [], keep: { "A": [(memory: "buffer")], "Z": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", rows: "m", loops: []) })]"#;
    let found = [1, 4].map(|hop| cycles_on(&chip(WIDE, 3, hop), RELU, &[("M", 3)], mapping));
    assert_eq!(found, [32, 38]);
}

/// A is in the buffer at 6 and in the PE at 12, X one cycle later each. Z is made in cycle 12; of it the only step of Y
/// reads nothing, as m - 1 lies outside, so that it runs in cycle 13 and does not wait for Z to come back. Y is written
/// at 15, read 5 cycles later, at 21, and in the outermost memory at 27.
#[test]
fn what_reads_nothing_waits_for_nothing() {
    let mapping = r#"blocks: [(name: "b", loops: [],
        keep: { "A": [(memory: "buffer")], "X": [(memory: "buffer")], "Z": [(memory: "buffer")], "Y": [(memory: "buffer")] },
        einsums: { "Z": (unit: "pe", loops: ["m"]), "Y": (unit: "pe", loops: ["m"]) })]"#;
    let einsums = "Z[m] = relu(A[m])\nY[m] = Z[m - 1] + X[m]";
    let cascade = [r#""A[m]", "X[m]""#, "Y[m]", einsums, ""];
    assert_eq!(cycles(cascade, &[("M", 1)], mapping), 27);
}
