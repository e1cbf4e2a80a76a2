//! Laws of kernels that are cut into pieces, by hand.

#![allow(clippy::unwrap_used)]

use einflow_arch::device::{
    Attention, Chip, Kernel, Operands,
    law::{self, ragged::Plan},
};
use einflow_spec::Stored;
use einflow_spec::quantity::{Bytes, BytesPerSecond, OperationsPerSecond};

/// Four units, 10^6 operations and 10^6 bytes a microsecond.
const CHIP: Chip = Chip {
    units: 4,
    matrix: OperationsPerSecond(1e12),
    matrix_8bit: Some(OperationsPerSecond(2e12)),
    memory: Bytes(1 << 34),
    bandwidth: BytesPerSecond(1e12),
    cache: Bytes(1 << 20),
};

fn us(kernel: &Kernel, values: &[f64]) -> f64 {
    law::time(&CHIP, kernel, values, true).0 * 1e6
}

fn close(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() < 1e-3,
        "{found} is not {expected}"
    );
}

/// One query a sequence; heads of 64 wide.
fn ragged(plan: Plan, heads: u64, key_heads: u64, lengths: &[u64]) -> Kernel {
    Kernel::Ragged {
        shape: Attention {
            batch: lengths.len() as u64,
            heads,
            key_heads,
            width: 64,
            value_width: 64,
            length: lengths.iter().copied().max().unwrap(),
            causal: false,
            cached: Stored::BF16,
        },
        lengths: lengths.into(),
        plan,
    }
}

/// A token of a key head is 256 bytes: 1.024 us for a thousand at a unit's quarter of the memory. The memory's own pace
/// is out of the way: 100 times as fast.
const TOKEN: f64 = 256.0 * 4.0 / 1e6;

/// floor, bandwidth, ramp, combine, alone, divided, together, launch: a piece streams at its unit's share of the peak,
/// split ones twice as fast, and two on a unit no more than one.
const RAGGED: [f64; 8] = [1.0, 100.0, 1e-9, 5.0, 1.0, 2.0, 1.0, 1e-9];

#[test]
fn whole_caches_share_units() {
    let time = |lengths: &[u64]| us(&ragged(Plan::Longest, 1, 1, lengths), &RAGGED);
    // Four sequences, a unit each: the longest ends last.
    close(time(&[640, 64, 64, 64]), 1.0 + 640.0 * TOKEN);
    // The fifth shares the first's unit: 640 tokens each at half the pace, then the rest.
    close(
        time(&[1280, 64, 64, 64, 640]),
        1.0 + (2.0 * 640.0 + 640.0) * TOKEN,
    );
    // The ninth finds no place before a second piece has ended: after 128 at half the pace, on the first unit as on the
    // others. There it shares with what is left of the first, and ends alone.
    let nine = time(&[640, 64, 64, 64, 64, 64, 64, 64, 640]);
    close(nine, 1.0 + (128.0 + 2.0 * 576.0 + 64.0) * TOKEN);
    // Blocks of 64 keys are read whole.
    close(time(&[65, 1, 1, 1]), 1.0 + 128.0 * TOKEN);
}

#[test]
fn grouped_heads_are_split_by_the_longest() {
    // One key head, eight places: of eight blocks of 128 keys eight splits fill the chip, of which two share a unit.
    let time = us(&ragged(Plan::Longest, 4, 1, &[1024]), &RAGGED);
    close(time, 1.0 + 2.0 * 128.0 * TOKEN / 2.0 + 5.0);
    // A short sequence beside it: two pieces of each split fill the chip by half as many splits, of 256 keys; the
    // short one has work in the first of its four alone.
    let time = us(&ragged(Plan::Longest, 4, 1, &[1024, 100]), &RAGGED);
    close(time, 1.0 + (256.0 + 128.0) * TOKEN / 2.0 + 5.0);
    // Seven sequences of eight places are enough: nothing is split.
    let time = us(
        &ragged(Plan::Longest, 4, 1, &[1024, 64, 64, 64, 64, 64, 64]),
        &RAGGED,
    );
    close(time, 1.0 + (1024.0 + 64.0) * TOKEN);
}

#[test]
fn chunks_fill_the_chip() {
    // Eight places: chunks of 128 tokens, the least, cut 1024 in eight; 2048 are cut in eight of 256.
    for (length, chunk) in [(1024, 128.0), (2048, 256.0)] {
        let time = us(&ragged(Plan::Filled, 4, 1, &[length]), &RAGGED);
        close(time, 1.0 + 2.0 * chunk * TOKEN / 2.0 + 5.0);
    }
    // 24 places of the general-purpose kernel and 24 sequences: one piece each, six on a unit, as each query keeps its
    // unit busy for a tenth of a token's time.
    // floor, bandwidth, ramp, combine, alone, wait, work, launch
    let cores = [1.0, 100.0, 1e-9, 5.0, 1.0, 1e-9, 0.1, 1e-9];
    let mut lengths = [160; 24];
    let time = |lengths: &[u64], cores: &[f64]| us(&ragged(Plan::Cores, 1, 1, lengths), cores);
    close(time(&lengths, &cores), 1.0 + 160.0 * TOKEN);
    lengths[0] = 16000;
    close(time(&lengths, &cores), 1.0 + 16000.0 * TOKEN);
    // One sequence less, and that one is cut in two.
    close(time(&lengths[..23], &cores), 1.0 + 8000.0 * TOKEN + 5.0);
}

#[test]
fn the_host_takes_what_it_takes() {
    let mut values = RAGGED;
    values[7] = 100.0;
    let time = |heads, key_heads, lengths: &[u64]| {
        us(&ragged(Plan::Longest, heads, key_heads, lengths), &values)
    };
    close(time(1, 1, &[64]), 100.0);
    // Queries brought together, the kernel, outputs apart; and the sum of parts.
    close(time(4, 1, &[64; 8]), 300.0);
    close(time(4, 1, &[1024]), 400.0);
}

#[test]
fn experts_make_tiles() {
    // floor, bandwidth, ramp, efficiency, small_tiles, step
    let values = [2.0, 100.0, 1e-9, 0.5, 0.25, 1.0];
    let time = |experts, rows: &[u64]| {
        let kernel = Kernel::Grouped {
            experts,
            rows: rows.into(),
            k: 1024,
            n: 512,
            operands: Operands::WORDS,
        };
        us(&kernel, &values)
    };
    // Rows of 8 experts: 64 in the mean. Tiles of 64 x 128 in pairs: 512 columns are four, so eight tiles for each
    // expert with 1 to 128 rows, two waves of four units.
    let small = 2.0 * 64.0 * 128.0 * 1024.0 / (0.25 * 0.25e6) + 1.0;
    close(time(8, &[1]), 2.0 + 2.0 * small);
    close(time(8, &[129, 128, 1]), 2.0 + 8.0 * small);
    // 512 rows of one: 128 x 256, two columns, four rows: eight tiles.
    let large = 2.0 * 128.0 * 256.0 * 1024.0 / (0.5 * 0.25e6) + 1.0;
    close(time(1, &[512]), 2.0 + 2.0 * large);
}

/// Four bits a number and a byte of scale to 32: 4.25 bits of a weight; as many rows as an expert has, in tiles of 16.
#[test]
fn experts_of_four_bits_take_their_bytes_and_low_tiles() {
    let mxfp4 = Stored::named("mxfp4").unwrap();
    let kernel = |rows: &[u64], operands| Kernel::Grouped {
        experts: 8,
        rows: rows.into(),
        k: 1024,
        n: 512,
        operands,
    };
    let widened = Operands::of(Stored::BF16, mxfp4);
    let weights = 1024.0 * 512.0 * 4.25 / 8.0;
    let rows = 2.0 * (1024.0 + 512.0);
    assert_eq!(kernel(&[1, 1], widened).bytes(), 2.0 * (weights + rows));
    // floor, bandwidth, ramp, efficiency, small_tiles, step: four columns of two experts, two waves of four units at the
    // rate of 16-bit words.
    let values = [2.0, 100.0, 1e-9, 0.5, 0.25, 1.0];
    let tile = |rows: f64, rate: f64| 2.0 * rows * 128.0 * 1024.0 / (0.25 * rate) + 1.0;
    close(
        us(&kernel(&[1, 16], widened), &values),
        2.0 + 2.0 * tile(16.0, 0.25e6),
    );
    close(
        us(&kernel(&[1, 17], widened), &values),
        2.0 + 2.0 * tile(32.0, 0.25e6),
    );
    // Both of a byte: at twice the rate.
    let bytes = kernel(&[1, 16], Operands::BYTES);
    close(us(&bytes, &values), 2.0 + 2.0 * tile(16.0, 0.5e6));
}

/// A latent of 576 words is read once for all heads: 1152 bytes a token, and 2 x heads x (576 + 512) operations.
#[test]
fn latents_are_read_once_or_bound_by_products() {
    let latent = |heads| {
        Kernel::Latent(Attention {
            batch: 4,
            heads,
            key_heads: 1,
            width: 576,
            value_width: 512,
            length: 1000,
            causal: false,
            cached: Stored::BF16,
        })
    };
    let queries = |heads: f64| 2.0 * 4.0 * heads * 1088.0;
    assert_eq!(latent(16).bytes(), queries(16.0) + 4000.0 * 1152.0);
    assert_eq!(latent(128).operations(), 4000.0 * 2.0 * 128.0 * 1088.0);
    // floor, bandwidth, efficiency; a million operations and bytes a microsecond.
    let one = us(&latent(1), &[3.0, 0.5, 100.0]);
    close(one, 3.0 + latent(1).bytes() / 0.5e6);
    let many = us(&latent(128), &[3.0, 100.0, 0.5]);
    close(many, 3.0 + latent(128).operations() / 0.5e6);
}

#[test]
fn words_of_a_byte_are_half_as_long_and_twice_as_fast() {
    let product = |operands| Kernel::Product {
        batch: 1,
        m: 1024,
        k: 1024,
        n: 1024,
        operands,
    };
    let (words, bytes) = (product(Operands::WORDS), product(Operands::BYTES));
    assert_eq!(words.bytes(), 3.0 * 2.0 * 1024.0 * 1024.0);
    assert_eq!(bytes.bytes(), 4.0 * 1024.0 * 1024.0);
    // floor, bandwidth, ramp, efficiency, tile_penalty, throttle, throttle_after, step, cache_bandwidth, cached
    let values = [1e-9, 100.0, 1e-9, 0.8, 0.01, 1e-9, 1e5, 1e-9, 2.0, 1.0];
    close(us(&words, &values) / us(&bytes, &values), 2.0);
    // Weights alone do not make the units faster.
    let weights = product(Operands {
        weights: Stored::FP8,
        ..Operands::WORDS
    });
    close(us(&weights, &values), us(&words, &values));
    // Scales of rows leave tiles of 128 x 128, of a sum that nothing splits: nine, three waves of four units.
    let rows = |n| Kernel::Product {
        batch: 1,
        m: 128,
        k: 1024,
        n,
        operands: Operands::SCALED_ROWS,
    };
    let tile = 2.0 * 128.0 * 128.0 * 1024.0 / (0.8 * 0.5e6);
    close(us(&rows(1152), &values), 3.0 * tile);
    // Four of 64 x 128 are computed at once.
    close(us(&rows(256), &values), tile / 2.0);
}

#[test]
fn masks_and_chunks_take_their_blocks_and_bytes() {
    let shape = Attention {
        batch: 1,
        heads: 2,
        key_heads: 2,
        width: 64,
        value_width: 128,
        length: 1024,
        causal: false,
        cached: Stored::BF16,
    };
    let kernel = Kernel::Masked {
        shape,
        blocks: 30,
        partial: 16,
    };
    // launches, efficiency, row, mask. Of two heads on four units: 15 blocks, 4 rows, 8 blocks with a mask.
    let values = [1e-9, 0.5, 2.0, 3.0];
    let block = 2.0 * 128.0 * 128.0 * 192.0 / (0.5 * 0.25e6);
    close(us(&kernel, &values), 15.0 * block + 4.0 * 2.0 + 8.0 * 3.0);
    // Queries and keys of 64, values and outputs of 128, 1024 tokens, two heads; keys and values twice; 16 states.
    let kernel = Kernel::Chunked(shape);
    let bytes = 2.0 * 2.0 * (1024.0 * (3.0 * 192.0) + 2.0 * 16.0 * 64.0 * 128.0);
    close(kernel.bytes(), bytes);
    close(us(&kernel, &[1e-9, 0.5]), bytes / 0.5e6);
    close(us(&kernel, &[1e4, 0.5]), 1e4);
}
