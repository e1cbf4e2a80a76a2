//! Words on links: how many pass, and what time that takes. By hand.

#![allow(clippy::unwrap_used)]

mod small;

use std::collections::BTreeMap;

use einflow_mappings::{count::cycles, mapped::MappedCascade, passed::passed};
use small::{ACROSS, BUFFER, DRAM, chip, mapped, words};

/// Words times links that they pass, by link.
fn hops(mapped: &MappedCascade) -> BTreeMap<String, f64> {
    let chip = &mapped.accelerator;
    let mut out = BTreeMap::new();
    for block in mapped.blocks.iter() {
        for (p, hops) in passed(block, chip.counting, |_| true).unwrap() {
            let name = chip.arrays[p.array].links[p.link].name.clone();
            *out.entry(name).or_insert(0.0) += hops.as_f64();
        }
    }
    out
}

/// A product on eight PEs in a row, ten columns: tiles of eight and of two. Each of the 3 x 4 words of A comes once for
/// each tile and passes the 7, and 1, links to the other PEs; a word of Z passes as many links as its PE is far away.
#[test]
fn words_pass_links() {
    let cascade = r#"inputs: ["A[m, k]", "B[k, n]"], outputs: ["Z[m, n]"], einsums: "Z[m, n] = A[m, k] * B[k, n]""#;
    let mapping = r#"sizes: {"N0": 8}, splits: {"N": ["N1", "N0"]}, blocks: [(name: "b", loops: ["n1", "m"],
        keep: {"Z": [(memory: "buffer", below: "m")]}, einsums: {"Z": (unit: "row", columns: "n0", loops: ["k"])})]"#;
    let links = r#""across": (direction: right, multicast: true), "in2": (from: "buffer", direction: right),"#;
    let chip = chip(links).replace(
        r#""out": (to: "buffer", direction: down)"#,
        r#""out": (to: "buffer", direction: right)"#,
    );
    let found = mapped(&chip, cascade, mapping, &[("M", 3), ("N", 10), ("K", 4)]).unwrap();
    let hops = hops(&found);
    // A over the link at the row's end, B, with fewer links to pass, from above straight to its own PE.
    let (a, b, z) = (3.0 * 4.0 * 2.0, 3.0 * 4.0 * 10.0, 3.0 * 10.0);
    let passed = 3.0 * 4.0 * (7.0 + 1.0);
    let left = 3.0 * (28.0 + 1.0);
    assert_eq!(hops.get("in"), Some(&b), "{hops:?}");
    assert_eq!(hops.get("across"), Some(&(passed + left)), "{hops:?}");
    assert_eq!(hops.get("out"), Some(&z), "{hops:?}");
    assert_eq!(hops.get("in2"), Some(&a), "{hops:?}");
}

/// A sum down four PEs: 3 of each 4 points pass a word on.
#[test]
fn sums_pass_links() {
    let cascade = r#"inputs: ["A[k, n]"], outputs: ["Z[n]"], einsums: "Z[n] = A[k, n]""#;
    let mapping = r#"sizes: {"K0": 4}, splits: {"K": ["K1", "K0"]}, blocks: [(name: "b", loops: ["n"],
        keep: {"Z": [(memory: "buffer", below: "n")]}, einsums: {"Z": (unit: "row", columns: "k0", loops: ["k1"])})]"#;
    for (k, sums) in [(4u64, 3.0), (8, 3.0), (6, 3.0), (3, 2.0), (1, 0.0)] {
        let found = mapped(&chip(ACROSS), cascade, mapping, &[("N", 5), ("K", k)]).unwrap();
        let hops = hops(&found);
        // What stays in the last PE over the steps of k1 is added up in each first, and passed on once.
        let average = sums * 5.0;
        assert_eq!(hops.get("across"), Some(&average), "{k}: {hops:?}");
    }
}

/// A chip whose buffer feeds the row from its left end, a word a cycle.
fn from_the_end() -> String {
    chip(ACROSS).replace(
        r#""in": (from: "buffer", direction: down)"#,
        r#""in": (from: "buffer", direction: right)"#,
    )
}

fn cycles_of(mapped: &MappedCascade) -> u128 {
    cycles(&mapped.blocks[0], 1).unwrap().compute
}

/// 16 sums of six, eight side by side, the loop over the sums inside: in each of 12 steps 8 words of A come over the one
/// link, in the last 10 also 8 partial sums. From PE to PE they pass 0 + 1 + .. + 7 = 28 links.
#[test]
fn partial_results_come_back_over_links() {
    let cascade = r#"inputs: ["A[m, k]"], outputs: ["Z[m]"], einsums: "Z[m] = relu(A[m, k])""#;
    let mapping = r#"sizes: {"M0": 8}, splits: {"M": ["M1", "M0"]}, blocks: [(name: "b", loops: [],
        keep: {"A": [(memory: "buffer")], "Z": [(memory: "buffer")]},
        einsums: {"Z": (unit: "row", columns: "m0", loops: ["k", "m1"])})]"#;
    let found = mapped(&from_the_end(), cascade, mapping, &[("M", 16), ("K", 6)]).unwrap();
    let hops = hops(&found);
    assert_eq!(words(&found, BUFFER, "Z"), [80 + 16, 96]);
    assert_eq!(hops["in"], 96.0 + 80.0, "{hops:?}");
    assert_eq!(hops["across"], (12.0 + 10.0) * 28.0, "{hops:?}");
    assert_eq!(hops["out"], 96.0, "{hops:?}");
    let einsum = &found.blocks[0].nests[0].einsums[0];
    assert_eq!((einsum.interval, einsum.returns.interval), (8, 16));
    assert_eq!(cycles_of(&found), 12 * 8 + 10 * 8);
}

/// Two tiles of eight sums of six, in two parts of three steps. Of A one word comes a step. B, two words for each PE, comes
/// once: 16 cycles for 12 steps.
#[test]
fn what_stays_passes_links_meanwhile() {
    let cascade = r#"inputs: ["A[k]", "B[m]"], outputs: ["Z[m]"], einsums: "Z[m] = A[k] * B[m]""#;
    let mapping = r#"sizes: {"M0": 8, "K0": 3}, splits: {"M": ["M1", "M0"], "K": ["K1", "K0"]}, blocks: [(name: "b", loops: ["k1"],
        keep: {"A": [(memory: "buffer")], "B": [(memory: "buffer"), (memory: "row")], "Z": [(memory: "buffer")]},
        einsums: {"Z": (unit: "row", columns: "m0", loops: ["m1", "k0"])})]"#;
    let sizes = [("M", 16), ("K", 6)];
    let found = mapped(&from_the_end(), cascade, mapping, &sizes).unwrap();
    assert_eq!(cycles_of(&found), 12 + (16 - 12));
    let once = mapping.replace(r#"loops: ["k1"]"#, "loops: []");
    let once = once.replace(r#"["m1", "k0"]"#, r#"["m1", "k1", "k0"]"#);
    let found = mapped(&from_the_end(), cascade, &once, &sizes).unwrap();
    assert_eq!(cycles_of(&found), 12 + (16 - 12));
}

/// Tiles of eight words that stay for three steps each: they pass the one link whether they are read or kept in registers.
#[test]
fn tiles_kept_in_registers_pass_links() {
    let cascade =
        r#"inputs: ["A[p]", "B[m]"], outputs: ["Z[p, m]"], einsums: "Z[p, m] = A[p] * B[m]""#;
    for registers in ["", r#", (memory: "row", below: "m1")"#] {
        let mapping = format!(
            r#"sizes: {{"M0": 8}}, splits: {{"M": ["M1", "M0"]}}, blocks: [(name: "b", loops: ["m1"],
            keep: {{"A": [(memory: "buffer")], "B": [(memory: "buffer", below: "m1"){registers}]}},
            einsums: {{"Z": (unit: "row", columns: "m0", loops: ["p"])}})]"#
        );
        let sizes = [("M", 16), ("P", 3)];
        let found = mapped(&from_the_end(), cascade, &mapping, &sizes).unwrap();
        assert_eq!(cycles_of(&found), 6 + 2 * (8 - 3), "{registers}");
    }
}

/// Sums over six of K on four rows and columns of two, three sums: four lanes, then two, in each of two columns. 3 and 1
/// links down for each column, where the parts of a sum leave one after another; 3 where they stay. Then one link across.
#[test]
fn sums_over_partial_tiles_pass_as_many_links_as_lanes_work() {
    let cascade = r#"inputs: ["A[k, c, n]"], outputs: ["Z[n]"], einsums: "Z[n] = A[k, c, n]""#;
    let grid = chip(&format!(
        r#"{ACROSS} "down": (direction: down, multicast: true, reduce: true),"#
    ));
    let grid = grid.replace("rows: 1", "rows: 4");
    for (loops, down, across) in [(r#""n", "k1""#, 3.0, 1.0), (r#""k1", "n""#, 4.0, 2.0)] {
        let mapping = format!(
            r#"sizes: {{"K0": 4}}, splits: {{"K": ["K1", "K0"]}}, blocks: [(name: "b", loops: [], keep: {{"Z": [(memory: "buffer")]}},
            einsums: {{"Z": (unit: "row", rows: "k0", columns: "c", loops: [{loops}])}})]"#
        );
        let sizes = [("N", 3), ("K", 6), ("C", 2)];
        let found = mapped(&grid, cascade, &mapping, &sizes).unwrap();
        // A passes no link between PEs along the columns, and down the rows as far as its PE.
        let hops = hops(&found);
        let a = 3.0 * 2.0 * (6.0 + 1.0);
        assert_eq!(hops["down"], a + 3.0 * 2.0 * down, "{hops:?}");
        assert_eq!(hops["across"], 3.0 * across, "{hops:?}");
    }
}

/// Eight PEs that each take a word of their own over one link across the row: eight words on it in each step, at one a
/// cycle; with three a cycle, three cycles.
#[test]
fn a_narrow_link_slows_the_steps() {
    let cascade = r#"inputs: ["A[m, k]"], outputs: ["Z[m]"], einsums: "Z[m] = A[m, k]""#;
    let mapping = r#"blocks: [(name: "b", loops: [], keep: {"A": [(memory: "buffer")], "Z": [(memory: "buffer")]},
        einsums: {"Z": (unit: "row", columns: "m", loops: ["k"])})]"#;
    for (width, interval) in [(1, 8), (3, 3), (8, 1)] {
        let chip = chip(&format!(
            r#""across": (direction: right, words_per_cycle: {width}),"#
        ));
        let chip = chip.replace(
            r#""in": (from: "buffer", direction: down)"#,
            &format!(r#""in": (from: "buffer", direction: right, words_per_cycle: {width})"#),
        );
        let found = mapped(&chip, cascade, mapping, &[("M", 8), ("K", 5)]).unwrap();
        let einsum = &found.blocks[0].nests[0].einsums[0];
        assert_eq!(einsum.interval, interval);
        assert_eq!(einsum.narrow.is_some(), interval > 1);
    }
}

/// What only copies has no operator, and takes its links' time: four words over a link of one a cycle, or a cycle.
#[test]
fn a_copy_takes_its_links_time() {
    let cascade = r#"inputs: ["S[b, a]"], outputs: ["T[a, b]"], einsums: "T[a, b] = S[b, a]""#;
    let narrow = chip(r#""across": (direction: right),"#).replace(
        r#""in": (from: "buffer", direction: down)"#,
        r#""in": (from: "buffer", direction: right)"#,
    );
    for (chip, loops, interval) in [
        (chip(ACROSS), r#""b""#, 1),
        (narrow.clone(), r#""b""#, 4),
        (narrow, "", 4),
    ] {
        let mapping = format!(
            r#"blocks: [(name: "b", loops: [], einsums: {{"T": (unit: "row", columns: "a", loops: [{loops}])}})]"#
        );
        let rows = if loops.is_empty() { 1 } else { 3 };
        let found = mapped(&chip, cascade, &mapping, &[("A", 4), ("B", rows)]).unwrap();
        let einsum = &found.blocks[0].nests[0].einsums[0];
        assert!(einsum.operators.is_empty());
        assert_eq!(einsum.interval, interval);
        assert_eq!(words(&found, DRAM, "S"), [u128::from(4 * rows), 0]);
        assert_eq!(words(&found, DRAM, "T"), [0, u128::from(4 * rows)]);
    }
}

/// Sums of tiles of four rows and of one: of the four they come back with each further k, 4 words over a link of one
/// beside one of A's; that of the last stays in its PE.
#[test]
fn a_sum_that_stays_in_a_partial_tile_does_not_come_back() {
    let cascade = r#"inputs: ["A[m, k]", "B[k, n]"], outputs: ["Z[m, n]"], einsums: "Z[m, n] = A[m, k] * B[k, n]""#;
    let mapping = r#"sizes: {"M0": 4}, splits: {"M": ["M1", "M0"]}, blocks: [(name: "b", loops: [],
        einsums: {"Z": (unit: "row", columns: "n", loops: ["m1", "k", "m0"])})]"#;
    let chip = chip(ACROSS).replace(
        r#""in": (from: "buffer", direction: down)"#,
        r#""in": (from: "buffer", direction: right)"#,
    );
    for k in [1, 9, 99] {
        let found = mapped(&chip, cascade, mapping, &[("M", 5), ("N", 4), ("K", k)]).unwrap();
        let taken = cycles(&found.blocks[0], 1).unwrap().compute;
        assert_eq!(taken, u128::from(5 * k + 4 * 4 * (k - 1)), "{k}");
    }
}
