//! Which words a mapping moves and holds, where an index is not one plain loop variable: by hand.

#![allow(clippy::unwrap_used)]

mod small;

use einflow_mappings::mapped::{MappedCascade, TransferKind};
use small::{ACROSS, BUFFER, DRAM, chip, mapped, words};

fn need(mapped: &MappedCascade, tensor: &str) -> u128 {
    mapped.needed(mapped.cascade.tensor_named(tensor).unwrap())
}

/// 20 rows of two words: both of each row are loaded, and both of the eight rows of a tile are held.
#[test]
fn two_columns_of_one_tensor_are_two_tiles() {
    let found = mapped(
        &chip(ACROSS),
        r#"inputs: ["X[m, i]"], outputs: ["Y[m]"], einsums: "Y[m] = X[m, 0] - X[m, 1]""#,
        r#"sizes: {"M0": 8}, splits: {"M": ["M1", "M0"]}, blocks: [(name: "b", loops: ["m1"],
           keep: {"X": [(memory: "buffer", below: "m1")]}, einsums: {"Y": (unit: "row", columns: "m0")})]"#,
        &[("M", 20), ("I", 2)],
    )
    .unwrap();
    assert_eq!(words(&found, DRAM, "X"), [40, 0]);
    assert_eq!(words(&found, BUFFER, "X"), [40, 40]);
    assert_eq!(found.blocks[0].occupancy[BUFFER], 2 * 8 * 2);
    assert_eq!(need(&found, "X"), 40);
}

/// X[c] and X[c + C] for 3 of C: all 6 rows of 10 words.
#[test]
fn two_halves_of_one_tensor_are_both_loaded() {
    let found = mapped(
        &chip(ACROSS),
        r#"inputs: ["X[s, m]"], outputs: ["Y[c, m]"], parameters: {"C": "S / 2"}, einsums: "Y[c, m] = X[c, m] * X[c + C, m]""#,
        r#"sizes: {"M0": 8}, splits: {"M": ["M1", "M0"]}, blocks: [(name: "b", loops: ["m1"],
           keep: {"X": [(memory: "buffer", below: "m1")]}, einsums: {"Y": (unit: "row", columns: "m0", loops: ["c"])})]"#,
        &[("M", 10), ("S", 6)],
    )
    .unwrap();
    assert_eq!(words(&found, DRAM, "X"), [60, 0]);
    assert_eq!(need(&found, "X"), 60);
}

/// The word before a tile's first comes with the tile: 9 words at a time, of which one was there. There is none before
/// the first of all.
#[test]
fn a_shift_by_one_brings_the_word_before_the_tile() {
    let found = mapped(
        &chip(ACROSS),
        r#"inputs: ["X[m]"], outputs: ["Y[m]"], einsums: "Y[m] = X[m] + X[m - 1]""#,
        r#"sizes: {"M0": 8}, splits: {"M": ["M1", "M0"]}, blocks: [(name: "b", loops: ["m1"],
           keep: {"X": [(memory: "buffer", below: "m1")]}, einsums: {"Y": (unit: "row", columns: "m0")})]"#,
        &[("M", 24)],
    )
    .unwrap();
    assert_eq!(words(&found, DRAM, "X"), [24, 0]);
    // 24 as X[m], and as X[m - 1] one less.
    assert_eq!(words(&found, BUFFER, "X"), [47, 24]);
    assert_eq!(found.blocks[0].occupancy[BUFFER], 9 * 2);
}

/// Five taps around each of 20 positions: taps beyond the ends move nothing. Kept whole, 20 words; in tiles of 8, of
/// which each has two words of the one before and of the next, 20 as well.
#[test]
fn taps_beyond_the_ends_move_nothing() {
    let cascade = r#"inputs: ["X[p]", "C[w]"], outputs: ["Y[p]"], parameters: {"W": 5}, einsums: "Y[p] = X[p + w - 2] * C[w]""#;
    for place in [
        r#"(memory: "buffer")"#,
        r#"(memory: "buffer", below: "p1")"#,
    ] {
        let mapping = format!(
            r#"sizes: {{"P0": 8}}, splits: {{"P": ["P1", "P0"]}}, blocks: [(name: "b", loops: ["p1"],
            keep: {{"X": [{place}], "C": [(memory: "buffer")]}}, einsums: {{"Y": (unit: "row", columns: "p0", loops: ["w"])}})]"#
        );
        let found = mapped(&chip(ACROSS), cascade, &mapping, &[("P", 20)]).unwrap();
        assert_eq!(words(&found, DRAM, "X"), [20, 0], "{place}");
        // Each PE takes its own word in each step, whatever its neighbour had: 20 positions of 5 taps, less 3 at each end.
        assert_eq!(words(&found, BUFFER, "X")[0], 100 - 6, "{place}");
    }
}

/// Of Q[m1 * 8 + n] with 17 of M there are 24 numbers and 17 words.
#[test]
fn a_partial_part_names_words_that_are_not_there() {
    let found = mapped(
        &chip(ACROSS),
        r#"inputs: ["Q[m]"], outputs: ["Y[m1, n]"], partitions: ["M -> M1, M0"], parameters: {"M0": 8, "N": "= M0"},
           einsums: "Y[m1, n] = relu(Q[m1*M0 + n])""#,
        r#"blocks: [(name: "b", loops: ["m1"], einsums: {"Y": (unit: "row", columns: "n")})]"#,
        &[("M", 17)],
    )
    .unwrap();
    assert_eq!(words(&found, DRAM, "Q"), [17, 0]);
    assert_eq!(words(&found, DRAM, "Y"), [0, 24]);
}

/// Four of 16 words for each of 30: kept whole they are loaded once, and each entry of the table is read once.
#[test]
fn what_is_gathered_from_is_loaded_once_and_its_table_is_read() {
    let cascade = r#"inputs: ["X[m]", "V[p]", "IDX[t, p] -> m"], outputs: ["G[t, p]"], einsums: "G[t, p] = X[IDX[t, p]] * V[p]""#;
    let of = |keep: &str| {
        let mapping = format!(
            r#"blocks: [(name: "b", loops: ["p"], keep: {{{keep}}}, einsums: {{"G": (unit: "row", loops: ["t"])}})]"#
        );
        let sizes = [("M", 16), ("T", 4), ("P", 30)];
        mapped(&chip(ACROSS), cascade, &mapping, &sizes).unwrap()
    };
    let whole = of(r#""X": [(memory: "buffer")]"#);
    assert_eq!(words(&whole, DRAM, "X"), [16, 0]);
    assert_eq!(words(&whole, BUFFER, "X"), [120, 16]);
    assert_eq!(words(&whole, DRAM, "IDX"), [120, 0]);
    // A tile for each p alone is of four words that nobody knows beforehand.
    let each = of(r#""X": [(memory: "buffer", below: "p")]"#);
    assert_eq!(words(&each, DRAM, "X"), [120, 0]);
    assert_eq!(each.blocks[0].occupancy[BUFFER], 4 * 2);
    // All of them may be the same word.
    assert_eq!(need(&whole, "X"), 1);
}

/// A running sum of 50 over 8 lanes, kept in the buffer, whose last value another block reads: 8 words go out.
#[test]
fn a_running_value_leaves_once() {
    let cascade = r##"inputs: ["A[i, p]"], outputs: ["Z[p]"], einsums: r#"
        S[0, p] = 0
        S[i+1, p] = S[i, p] + A[i, p]
        Z[p] = relu(S[I, p])
    "#"##;
    let mapping = r#"sizes: {"P0": 4}, splits: {"P": ["P1", "P0"]}, blocks: [
        (name: "sum", loops: ["p1", "i"], keep: {"S": [(memory: "buffer", below: "p1")]}, einsums: {"S": (unit: "row", columns: "p0")}),
        (name: "use", loops: ["p1"], einsums: {"Z": (unit: "row", columns: "p0")}),
    ]"#;
    let found = mapped(&chip(ACROSS), cascade, mapping, &[("I", 50), ("P", 8)]).unwrap();
    assert_eq!(words(&found, DRAM, "S"), [8, 8]);
    assert_eq!(words(&found, BUFFER, "S")[1], 400);
    let drains = found.blocks[0].transfers.iter();
    assert_eq!(drains.filter(|t| t.kind == TransferKind::Drain).count(), 1);
}

/// Masks as they are written, joined by `or`, `not`, `min` and `max`: the points, the tiles that run and the words of the
/// inputs are those of a walk over the points.
#[test]
fn masks_that_join_conditions() {
    type Mask = (&'static str, fn(u64, u64) -> bool);
    let masks: [Mask; 10] = [
        ("m <= p or m < 3", |m, p| m <= p || m < 3),
        ("m <= max(p, 5)", |m, p| m <= p.max(5)),
        ("max(m, 4) <= min(p, 9)", |m, p| m.max(4) <= p.min(9)),
        ("min(m, 4) >= max(p - 6, 2)", |m, p| {
            m.min(4) as i64 >= (p as i64 - 6).max(2)
        }),
        ("not (m <= p)", |m, p| m > p),
        ("not (m <= p or m == 7)", |m, p| m > p && m != 7),
        ("m != p", |m, p| m != p),
        ("m + p < 9", |m, p| m + p < 9),
        ("(m + p) % 3 == 0 or m/4 == p/4", |m, p| {
            (m + p).is_multiple_of(3) || m / 4 == p / 4
        }),
        ("m <= p and p - m < 4 or m < 2 and not (p == 6)", |m, p| {
            m <= p && p - m < 4 || m < 2 && p != 6
        }),
    ];
    let (long, wide, tile) = (13u64, 11u64, 3u64);
    for (text, holds) in masks {
        let cascade = format!(
            r#"inputs: ["A[m, p]"], outputs: ["Z[m, p]"], einsums: "Z[m, p] = relu(A[m, p]) where {text}""#
        );
        let mapping = format!(
            r#"accelerator: "chip", sizes: {{ "M0": {tile}, "P0": {tile} }}, splits: {{ "M": ["M1", "M0"], "P": ["P1", "P0"] }},
            blocks: [(name: "b", skip_empty: true, loops: ["m1", "p1"], keep: {{ "A": [(memory: "buffer", below: "p1")] }},
            einsums: {{ "Z": (unit: "row", columns: "p0", loops: ["m0"]) }})]"#
        );
        let mapped = mapped(
            &chip(ACROSS),
            &cascade,
            &mapping,
            &[("M", long), ("P", wide)],
        )
        .unwrap();
        let all = || (0..long).flat_map(|m| (0..wide).map(move |p| (m, p)));
        let inside = all().filter(|(m, p)| holds(*m, *p)).count() as u128;
        let mut tiles: Vec<(u64, u64)> = all()
            .filter(|(m, p)| holds(*m, *p))
            .map(|(m, p)| (m / tile, p / tile))
            .collect();
        tiles.sort_unstable();
        tiles.dedup();
        let size = |at: u64, length: u64| u128::from((length - at * tile).min(tile));
        let moved: u128 = tiles
            .iter()
            .map(|(m, p)| size(*m, long) * size(*p, wide))
            .sum();
        let space = &mapped.blocks[0].space;
        assert_eq!(einflow_mappings::nest::points(space), Ok(inside), "{text}");
        assert_eq!(words(&mapped, DRAM, "A")[0], moved, "{text}");
    }
}

/// Words of X that come from DRAM and that PEs read, tile by tile of eight of `lane`.
fn tiled(inputs: &str, einsum: &str, lane: &str, own: &str, sizes: &[(&str, u64)]) -> [u128; 2] {
    let (upper, name) = (lane.to_uppercase(), einsum.split('[').next().unwrap());
    let cascade = format!(
        r#"inputs: ["X[{lane}]"{inputs}], outputs: ["{name}[{lane}]"], einsums: "{einsum}""#
    );
    let mapping = format!(
        r#"sizes: {{"{upper}0": 8}}, splits: {{"{upper}": ["{upper}1", "{upper}0"]}}, blocks: [(name: "b", loops: ["{lane}1"],
           keep: {{"X": [(memory: "buffer", below: "{lane}1")]}},
           einsums: {{"{name}": (unit: "row", columns: "{lane}0", loops: [{own}])}})]"#
    );
    let found = mapped(&chip(ACROSS), &cascade, &mapping, sizes).unwrap();
    assert_eq!(need(&found, "X"), u128::from(sizes[0].1));
    [words(&found, DRAM, "X")[0], words(&found, BUFFER, "X")[0]]
}

/// Tiles of 8 of 20 from the end on: each word comes once.
#[test]
fn an_index_falls() {
    let sizes = [("M", 20)];
    let found = tiled(r#", "A[m]""#, "Y[m] = X[M - 1 - m] * A[m]", "m", "", &sizes);
    assert_eq!(found, [20, 20]);
    // Both ends at once: 16 words; 4 to 15, of which 8 to 11 are new; 0 to 3 and 16 to 19 again.
    let found = tiled("", "Y[m] = X[m] * X[M - 1 - m]", "m", "", &sizes);
    assert_eq!(found, [16 + 4 + 8, 40]);
}

/// Of 24 rolled by 2, a tile has itself and the next 2 words: 10, then 8 and 8 more, the last of them the first two again.
#[test]
fn a_roll_begins_anew_at_the_end() {
    let sizes = [("R", 24)];
    let found = tiled("", "Y[r] = X[r] + X[(r + 2) % R]", "r", "", &sizes);
    assert_eq!(found, [26, 48]);
    // By a half: 0 to 7 and 12 to 19; 8 to 15 and 20 to 23, 0 to 3, of which 8 to 11 and 20 to 23 are new; 16 to 23 and 4 to
    // 11, of which 16 to 19 and 4 to 7 are.
    let found = tiled("", "Y[r] = X[r] + X[(r + R / 2) % R]", "r", "", &sizes);
    assert_eq!(found, [16 + 8 + 8, 48]);
    // Backwards: as forwards.
    let found = tiled("", "Y[r] = X[r] + X[(r + R - 2) % R]", "r", "", &sizes);
    assert_eq!(found, [10 + 8 + 8, 48]);
}

/// Five taps round a circle of 20: 12 words, 8 more, and the first four again.
#[test]
fn a_window_goes_round() {
    let sizes = [("P", 20), ("W", 5)];
    let found = tiled(
        r#", "C[w]""#,
        "Y[p] = X[(p + w) % P] * C[w]",
        "p",
        r#""w""#,
        &sizes,
    );
    assert_eq!(found, [12 + 8 + 4, 100]);
}

/// Pairs turned about: 2 * (m / 2) + 1 - m % 2 is the neighbour in each pair, in the same tile.
#[test]
fn a_sum_of_digits_falls_in_part() {
    let sizes = [("M", 20)];
    let einsum = "Y[m] = X[m] * X[2 * (m / 2) + 1 - m % 2]";
    assert_eq!(tiled("", einsum, "m", "", &sizes), [20, 40]);
}

/// A bias for each distance of 20 keys and 20 queries: 39 words; a tile of 8 by 8 has 15 of them.
#[test]
fn a_distance_of_two_ranks_has_as_many_words_as_there_are_distances() {
    let found = mapped(
        &chip(ACROSS),
        r#"inputs: ["B[d]", "S[m, p]"], outputs: ["T[m, p]"], parameters: {"D": "= M + P - 1"},
           einsums: "T[m, p] = S[m, p] + B[m + P - 1 - p]""#,
        r#"sizes: {"M0": 8, "P0": 8}, splits: {"M": ["M1", "M0"], "P": ["P1", "P0"]},
           blocks: [(name: "b", loops: ["p1", "m1"], keep: {"B": [(memory: "buffer", below: "m1")]},
           einsums: {"T": (unit: "row", columns: "p0", loops: ["m0"])})]"#,
        &[("M", 20), ("P", 20)],
    )
    .unwrap();
    // By tile of p and m, less what the tile before has: distances from m - p + 19 on, 15 of them or 11 and 7 at the ends.
    // p 0: from 12 (15), 20 (8 more), 28 (11 in all, 4 more). p 8: from 4 (15, none there), 8 and 4 more. p 16: from 0
    // (11, none there), 8 and 4 more.
    let tiles = (15 + 8 + 4) + (15 + 8 + 4) + (11 + 8 + 4);
    assert_eq!(words(&found, DRAM, "B"), [tiles, 0]);
    assert_eq!(need(&found, "B"), 39);
    assert_eq!(found.blocks[0].occupancy[BUFFER], 15 * 2);
}

/// Four of eight blocks of eight words, through a view: 32 words, and the table once.
#[test]
fn blocks_are_gathered_through_a_view() {
    let of = |keep: &str, blocks: u64| {
        let mapping = format!(
            r#"blocks: [(name: "b", loops: ["t"], keep: {{{keep}}}, einsums: {{"G": (unit: "row", columns: "n")}})]"#
        );
        mapped(
            &chip(ACROSS),
            r#"inputs: ["X[m]", "IDX[t] -> j"], outputs: ["G[t, n]"], parameters: {"J": "M / 8", "I": 8, "N": "= I"},
               einsums: "BX[j, i] = X[j * I + i]; G[t, n] = BX[IDX[t], n]""#,
            &mapping,
            &[("M", 64), ("T", blocks)],
        )
        .unwrap()
    };
    let streamed = of("", 4);
    assert_eq!(words(&streamed, DRAM, "X"), [32, 0]);
    assert_eq!(words(&streamed, DRAM, "IDX"), [4, 0]);
    // Of 20 blocks chosen among 8, kept whole, no more than all there are.
    let whole = of(r#""X": [(memory: "buffer")]"#, 20);
    assert_eq!(words(&whole, DRAM, "X"), [64, 0]);
    assert_eq!(words(&whole, BUFFER, "X"), [160, 64]);
}

/// Of 24 rows, each PE has its own: what another PE has, no link brings.
#[test]
fn registers_hand_over_to_their_own_pe_only() {
    let cascade = r#"inputs: ["X[r]"], outputs: ["Z[r]"], einsums: "Q[r] = relu(X[r]); Z[r] = Q[r] + Q[(r + 4) % R]""#;
    let of = |keep: &str| {
        let mapping = format!(
            r#"blocks: [(name: "b", loops: [], keep: {{{keep}}}, einsums: {{
               "Q": (unit: "row", columns: "r"), "Z": (unit: "row", columns: "r")}})]"#
        );
        mapped(&chip(ACROSS), cascade, &mapping, &[("R", 8)])
    };
    assert!(of("").unwrap_err().contains("takes Q from the registers"));
    let kept = of(r#""Q": [(memory: "buffer")]"#).unwrap();
    assert_eq!(words(&kept, BUFFER, "Q"), [16, 8]);
}

/// A word of the next tile, of a tensor that is made tile by tile: on one array it would be waited for for ever; another
/// array runs ahead as far as there is room.
#[test]
fn what_comes_later_is_waited_for_only_where_it_can_come() {
    let cascade = r#"inputs: ["A[m]"], outputs: ["Y[m]"], einsums: "X[m] = relu(A[m]); Y[m] = X[m] + X[m + 1]""#;
    let second = chip(ACROSS).replace(
        r#"arrays: { "row":"#,
        r#"arrays: { "ahead": (source: "assumed", rows: 1, columns: 8, components: { "alu": (source: "assumed", energy: 1, area: 1) },
            operators: { "relu": (cycles: 1, actions: {"alu": 1}, register_reads: 2, register_writes: 1) },
            registers: (source: "assumed", words: 64, read_energy: 1, write_energy: 1, area: 1),
            links: { "in": (from: "buffer", direction: down), "out": (to: "buffer", direction: down) } ), "row":"#,
    );
    let of = |loops: &str, keep: &str, unit: &str, own: &str| {
        let mapping = format!(
            r#"sizes: {{"M0": 8}}, splits: {{"M": ["M1", "M0"]}}, blocks: [(name: "b", loops: [{loops}], keep: {{"X": [(memory: "buffer"{keep})]}},
               einsums: {{"X": (unit: "{unit}", columns: "m0", loops: [{own}]), "Y": (unit: "row", columns: "m0", loops: [{own}])}})]"#
        );
        mapped(&second, cascade, &mapping, &[("M", 32)])
    };
    let waits = |found: Result<MappedCascade, String>, what: &str| {
        let message = found.unwrap_err();
        assert!(message.contains(what), "{message}");
    };
    waits(
        of(r#""m1""#, "", "row", ""),
        "Y waits for X, which stands behind Y",
    );
    waits(
        of(r#""m1""#, r#", below: "m1""#, "ahead", ""),
        "X waits for room until Y has run",
    );
    of(r#""m1""#, r#", below: "m1", buffers: 2"#, "ahead", "").unwrap();
    of(r#""m1""#, "", "ahead", "").unwrap();
    of("", "", "row", r#""m1""#).unwrap();
}

/// A word of the tile before, of a tensor that is made tile by tile: it is gone where one tile is kept, wherever the others
/// are, or nothing keeps it. A second tile has it, a memory that holds all does, and an outer one from which it is read.
#[test]
fn what_was_made_before_is_read_only_where_it_still_is() {
    let cascade = r#"inputs: ["A[m, p]"], outputs: ["Y[m, p]"], einsums: "X[m, p] = relu(A[m, p]); Y[m, p] = X[m, p] + X[m - 1, p]""#;
    let of = |loops: &str, keep: &str, own: &str, from: &str| {
        let mapping = format!(
            r#"sizes: {{"M0": 4}}, splits: {{"M": ["M1", "M0"]}}, blocks: [(name: "b", loops: [{loops}], keep: {{{keep}}}, einsums: {{
               "X": (unit: "row", columns: "p", loops: [{own}]), "Y": (unit: "row", columns: "p", loops: [{own}]{from}) }})]"#
        );
        mapped(&chip(ACROSS), cascade, &mapping, &[("M", 12), ("P", 8)])
    };
    let (all, one) = (
        r#""X": [(memory: "buffer")]"#,
        r#""X": [(memory: "buffer", below: "m1")]"#,
    );
    let outer = r#""X": [(memory: "dram"), (memory: "buffer", below: "m1")]"#;
    let registers = r#""X": [(memory: "row", below: "m1")]"#;
    for keep in [one, outer, registers, ""] {
        let message = of(r#""m1""#, keep, r#""m0""#, "").unwrap_err();
        let place = if keep == one || keep == outer {
            "buffer"
        } else {
            "row"
        };
        let said = format!("one tile of it stays in `{place}`: what was made before is gone");
        assert!(message.contains(&said), "{keep}: {message}");
        let message = "Y reads X up to 1 iterations of `m1` before its own";
        assert!(
            of(r#""m1""#, keep, r#""m0""#, "")
                .unwrap_err()
                .contains(message)
        );
    }
    let two = one.replace(r#""m1""#, r#""m1", buffers: 2"#);
    for keep in [all, &two] {
        let found = of(r#""m1""#, keep, r#""m0""#, "").unwrap();
        // 12 rows as X[m], 11 as X[m - 1].
        assert_eq!(words(&found, BUFFER, "X"), [23 * 8, 12 * 8], "{keep}");
    }
    // Where no loop around both steps along it, all of it waits in registers.
    of("", "", r#""m1", "m0""#, "").unwrap();
    let found = of(r#""m1""#, outer, r#""m0""#, r#", from: {"X": "dram"}"#).unwrap();
    assert_eq!(words(&found, DRAM, "X"), [23 * 8, 12 * 8]);
}

/// Tiles of two words, one for each p, that registers keep: a loop outside them makes them again, but the last one, with
/// which it finds no other between, is made once.
#[test]
fn a_tile_that_stays_in_registers_is_not_made_again() {
    let found = |condition: &str, loops: &str, skip: bool| {
        let cascade = format!(
            r#"inputs: ["X[p, h]", "W[f]"], outputs: ["O[f, p, h]"], einsums: "A[p, h] = relu(X[p, h]) {condition}
            O[f, p, h] = A[p, h] * W[f] {condition}""#
        );
        let mapping = format!(
            r#"sizes: {{"P0": 3}}, splits: {{"P": ["P1", "P0"]}}, blocks: [(name: "b", loops: [{loops}, "h"], skip_empty: {skip},
            keep: {{"A": [(memory: "buffer", below: "p0"), (memory: "row", below: "p0")]}},
            einsums: {{"A": (unit: "row"), "O": (unit: "row")}})]"#
        );
        let sizes = [("P", 4), ("F", 2), ("H", 2)];
        mapped(&chip(ACROSS), &cascade, &mapping, &sizes)
    };
    let written = |found: Result<MappedCascade, String>| words(&found.unwrap(), BUFFER, "A")[1];
    let (again, once) = (r#""p1", "f", "p0""#, r#""p1", "p0", "f""#);
    // p: 0 1 2 0 1 2 3 3.
    assert_eq!(written(found("", again, false)), 2 * 7);
    assert_eq!(written(found("where h <= p + 1", again, true)), 2 * 7);
    assert_eq!(written(found("where h <= p", again, false)), 2 * 7);
    assert_eq!(written(found("", once, false)), 2 * 4);
    // Of p = 0 there is one of two.
    let refused = found("where h <= p", again, true).unwrap_err();
    assert!(refused.contains("as loop f comes round"), "{refused}");
}

/// Tiles of two at one key: the loop over what is in a tile has one iteration, and what it makes is made once.
#[test]
fn a_tile_longer_than_its_rank_has_one_iteration() {
    let cascade = r#"inputs: ["X[m]", "W[f]"], outputs: ["O[f, m]"], einsums: "A[m] = relu(X[m])
        O[f, m] = A[m] * W[f]""#;
    let mapping = r#"sizes: {"M0": 2}, splits: {"M": ["M1", "M0"]}, blocks: [(name: "b", loops: ["f"],
        keep: {"A": [(memory: "buffer")]}, nests: [
            (loops: ["m0"], einsums: {"A": (unit: "row", loops: ["m1"])}),
            (loops: [], einsums: {"O": (unit: "row", loops: ["m1", "m0"])}),
        ])]"#;
    let found = mapped(&chip(ACROSS), cascade, mapping, &[("M", 1), ("F", 3)]).unwrap();
    assert_eq!(words(&found, BUFFER, "A")[1], 1);
    assert_eq!(words(&found, DRAM, "X")[0], 1);
}
