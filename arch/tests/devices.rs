//! Devices and links of the library, and laws by hand.

#![allow(clippy::unwrap_used)]

use einflow_arch::device::{
    Attention, Chip, Collective, Device, DeviceLink, Kernel, Operands, Times, devices,
    law::{self, Sloped, ragged::Plan},
    links,
};
use einflow_spec::{
    Node, Stored, check_sources,
    quantity::{Bytes, BytesPerSecond, OperationsPerSecond},
};

/// Four units of 10^6 operations a microsecond each; 10^6 bytes a microsecond.
const CHIP: Chip = Chip {
    units: 4,
    matrix: OperationsPerSecond(4e12),
    matrix_8bit: None,
    memory: Bytes(1 << 34),
    bandwidth: BytesPerSecond(1e12),
    cache: Bytes(1_000_000),
};

fn us(kernel: &Kernel, values: &[f64], flushed: bool) -> f64 {
    law::time(&CHIP, kernel, values, flushed).0 * 1e6
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() <= tolerance,
        "{found} is not within {tolerance} of {expected}"
    );
}

#[test]
fn every_number_has_a_source() {
    for library in [devices(), links()] {
        for name in library.names() {
            let node = Node::parse(&library.get(name).unwrap()).unwrap();
            let problems = check_sources(&node);
            assert!(problems.is_empty(), "{problems}");
        }
    }
}

#[test]
fn the_library_holds_the_devices_and_links() {
    for name in [
        "h100",
        "h200",
        "h20",
        "a100",
        "l40s",
        "rtx4090",
        "rtx-pro-6000",
        "tpu-v6e",
    ] {
        let device = Device::parse(&devices().get(name).unwrap()).unwrap();
        assert!(matches!(device.times, Times::Laws(_)), "{name}");
        assert!(device.price.is_some(), "{name}");
        for link in &device.links {
            assert!(links().get(link).is_some(), "{name} names {link}");
        }
    }
    for name in links().names() {
        let link = DeviceLink::parse(&links().get(name).unwrap()).unwrap();
        assert_eq!(link.name, name);
    }
}

#[test]
fn a_product_by_hand() {
    // floor, bandwidth, ramp, efficiency, tile_penalty, throttle, throttle_after, step, cache_bandwidth, cached
    let values = [2.0, 0.5, 0.001, 0.8, 0.01, 0.001, 1e5, 0.5, 2.0, 1.0];
    let square = |side| Kernel::Product {
        batch: 1,
        m: side,
        k: side,
        n: side,
        operands: Operands::WORDS,
    };
    // 1024^3: 32 tiles of 128 x 256 on four units, eight waves of 67.1 million operations at 0.8 x 10^6 a microsecond, 83.9 us, and half a
    // microsecond each. Smaller tiles take more steps; memory takes 12.6 us.
    let expected = 2.0 + 8.0 * (2.0 * 128.0 * 256.0 * 1024.0 / 0.8e6 + 0.5);
    close(us(&square(1024), &values, true), expected, 1e-3);
    // One row, 4096 x 4096: memory takes 67.1 us for 33.6 MB at half of 10^6 a microsecond, and 32 tiles of 64 x 128 longer: a single row
    // fills one of 64.
    let thin = Kernel::Product {
        batch: 1,
        m: 1,
        k: 4096,
        n: 4096,
        operands: Operands::WORDS,
    };
    let work = 8.0 * (2.0 * 64.0 * 128.0 * 4096.0 / 0.8e6 + 0.5);
    close(us(&thin, &values, true), 2.0 + work, 1e-3);
    // One tile of 64 x 64 over k = 4096: split in four, a unit each, and a step to add up.
    let deep = Kernel::Product {
        batch: 1,
        m: 64,
        k: 4096,
        n: 64,
        operands: Operands::WORDS,
    };
    let work = 2.0 * 64.0 * 64.0 * 1024.0 / 0.8e6 + 0.5 + 0.5;
    close(us(&deep, &values, true), 2.0 + work, 1e-3);
    // In the cache the same words come at twice the peak.
    let small = square(64);
    assert!(us(&small, &values, false) <= us(&small, &values, true));
}

#[test]
fn held_units_make_another_wave() {
    // floor, bandwidth, ramp, efficiency, tile_penalty, throttle, throttle_after, step, cache_bandwidth, cached
    let values = [2.0, 0.5, 0.001, 0.8, 0.01, 0.001, 1e5, 0.5, 2.0, 1.0];
    let beside = |kernel: &Kernel, values: &[f64], held| {
        law::Call::new(&CHIP, kernel, true, held).time(values).0 * 1e6
    };
    let cube = Kernel::Product {
        batch: 1,
        m: 1024,
        k: 1024,
        n: 1024,
        operands: Operands::WORDS,
    };
    // 32 tiles of 128 x 256 on three units of four: eleven waves in place of eight.
    let wave = 2.0 * 128.0 * 256.0 * 1024.0 / 0.8e6 + 0.5;
    close(beside(&cube, &values, 1), 2.0 + 11.0 * wave, 1e-3);
    // Four tiles of 128 x 128 on four units: one wave, and two where one unit is held. The choice stays.
    let small = Kernel::Product {
        batch: 1,
        m: 128,
        k: 1024,
        n: 512,
        operands: Operands::WORDS,
    };
    let wave = 2.0 * 128.0 * 128.0 * 1024.0 / 0.8e6 + 0.5;
    close(us(&small, &values, true), 2.0 + wave, 1e-3);
    close(beside(&small, &values, 1), 2.0 + 2.0 * wave, 1e-3);
    assert_eq!(beside(&small, &values, 0), us(&small, &values, true));
    // A pass: three quarters of the units ask for three quarters of the words.
    let values = [1.0, 0.5, 0.001, 0.001, 2.0, 1.0];
    let pass = Kernel::Pass {
        rows: 1,
        bytes: 3_000_000,
    };
    close(beside(&pass, &values, 1), 1.0 + 6.0 * 4.0 / 3.0, 1e-3);
}

#[test]
fn what_has_to_be_written_back_by_hand() {
    // floor, bandwidth, ramp, head, combine, unsplit, cache_bandwidth, cached
    let values = [3.0, 0.5, 4.0, 0.001, 1.5, 0.25, 2.0, 1.0];
    let cache = |batch| Attention {
        batch,
        heads: 8,
        key_heads: 2,
        width: 64,
        value_width: 64,
        length: 4096,
        causal: false,
        cached: Stored::BF16,
    };
    let written = |batch, dirty| law::written_back(&CHIP, &cache(batch), &values, dirty);
    // A split cache streams at all that memory gives: a million bytes at half of 10^6 a microsecond.
    close(written(1, 1e6), 2.0, 1e-12);
    // No more than the cache of a sequence, 2 x 2 B x 2 x 64 x 4096, goes in its place.
    close(written(1, 1e9), 2_097_152.0 * 2.0 / 1e6, 1e-12);
    // Not split: at half of that, a quarter remains.
    close(written(4, 1e6), 0.5, 1e-12);
}

#[test]
fn a_decode_by_hand() {
    // floor, bandwidth, ramp, head, combine, unsplit, cache_bandwidth, cached
    let values = [3.0, 0.5, 4.0, 0.001, 1.5, 0.25, 2.0, 1.0];
    let cache = |batch, length| {
        Kernel::Decode(Attention {
            batch,
            heads: 8,
            key_heads: 2,
            width: 64,
            value_width: 64,
            length,
            causal: false,
            cached: Stored::BF16,
        })
    };
    // Two key heads of eight slots: split. 2 x 2 B x 2 x 64 x 4097 tokens = 2.098 MB: 4.195 us at half the peak; of the ramp
    // 2.098 / (2.098 + 1); a part added.
    let bytes = 4.0 * 2.0 * 64.0 * 4097.0;
    let expected = 3.0 + bytes / 0.5e6 + 4.0 * bytes / (bytes + 1e6) + 1.5;
    close(us(&cache(1, 4096), &values, true), expected, 1e-3);
    // Four key heads of eight slots are fewer than 0.8 of them: split, at half the peak.
    let twice = 2.0 * bytes;
    let expected = 3.0 + twice / 0.5e6 + 4.0 * twice / (twice + 1e6) + 1.5;
    close(us(&cache(2, 4096), &values, true), expected, 1e-3);
    // Eight key heads: 0.8 x 8 slots are taken, and the cache is not split.
    let bytes = 4.0 * bytes;
    let expected = 3.0 + bytes / 0.25e6 + 4.0 * bytes / (bytes + 1e6);
    close(us(&cache(4, 4096), &values, true), expected, 1e-3);
}

#[test]
fn a_prompt_by_hand() {
    // floor, efficiency, scores, row, imbalance, throttle, throttle_after
    let values = [5.0, 0.5, 1.0, 2.0, 0.5, 0.001, 1e5];
    let prompt = |causal| {
        Kernel::Prefill(Attention {
            batch: 1,
            heads: 4,
            key_heads: 4,
            width: 64,
            value_width: 64,
            length: 512,
            causal,
            cached: Stored::BF16,
        })
    };
    // A block of 128 x 128 x 64: 4.194 million operations at half of 10^6, 8.389 us, and 16384 scores at 2^18 a microsecond, 0.0625 us.
    let block = 4.0 * 128.0 * 128.0 * 64.0 / 0.5e6 + 0.0625;
    // 16 blocks of queries on four units: four waves of four steps and a row each.
    close(
        us(&prompt(false), &values, true),
        5.0 + 4.0 * (4.0 * block + 2.0),
        1e-3,
    );
    // Three heads of three blocks: nine on four units, 2.25 waves that take as long as the mean of that and three.
    let odd = Kernel::Prefill(Attention {
        batch: 1,
        heads: 3,
        key_heads: 3,
        width: 64,
        value_width: 64,
        length: 384,
        causal: false,
        cached: Stored::BF16,
    });
    let expected = 5.0 + 2.625 * (3.0 * block + 2.0);
    close(us(&odd, &values, true), expected, 1e-3);
    // Causal: 4 x (1 + 2 + 3 + 4) steps over four units, half of the longest block left over, four rows a unit.
    close(
        us(&prompt(true), &values, true),
        5.0 + (10.0 + 2.0) * block + 4.0 * 2.0,
        1e-3,
    );
}

#[test]
fn messages_and_reductions_by_hand() {
    // floor, bandwidth, ramp, half, step
    let values = [10.0, 0.5, 8.0, 1.0, 3.0];
    let peak = BytesPerSecond(1e12);
    let mib = 1_048_576.0;
    // A message of 1 MiB at half the peak, and half of the ramp.
    let time = law::transfer(peak, mib, 0, &values);
    close(time, 10.0 + mib / 0.5e6 + 4.0, 1e-12);
    // Two devices more add two steps.
    let time = law::transfer(peak, mib, 2, &values);
    close(time, 16.0 + mib / 0.5e6 + 4.0, 1e-12);
    // Each of four devices sends its quarter three times, twice round; directly, all of it to three.
    assert_eq!(Collective::Ring.sent(4, 1024), 1536.0);
    assert_eq!(Collective::Direct.sent(4, 1024), 3072.0);
    let pcie = DeviceLink::parse(&links().get("pcie5").unwrap()).unwrap();
    assert!(pcie.shared);
    let alone = pcie.send("send", 1 << 30, 1).unwrap().0;
    let together = pcie.send("send", 1 << 30, 4).unwrap().0;
    // A gigabyte hides latency: four at once take four times as long.
    close(together / alone, 4.0, 1e-2);
}

#[test]
fn slopes_are_those_of_small_steps() {
    let attention = |causal| Attention {
        batch: 3,
        heads: 8,
        key_heads: 2,
        width: 64,
        value_width: 64,
        length: 1500,
        causal,
        cached: Stored::BF16,
    };
    let ragged = |plan, lengths: [u64; 3]| Kernel::Ragged {
        shape: attention(false),
        lengths: lengths.into(),
        plan,
    };
    let kernels = [
        Kernel::Product {
            batch: 1,
            m: 700,
            k: 4096,
            n: 900,
            operands: Operands::WORDS,
        },
        Kernel::Prefill(attention(true)),
        Kernel::Prefill(attention(false)),
        Kernel::Decode(attention(false)),
        Kernel::Pass {
            rows: 900,
            bytes: 1_500_000,
        },
        Kernel::Grouped {
            experts: 8,
            rows: [700, 20, 3].into(),
            k: 4096,
            n: 900,
            operands: Operands::WORDS,
        },
        Kernel::Masked {
            shape: attention(false),
            blocks: 60,
            partial: 24,
        },
        Kernel::Chunked(attention(false)),
        ragged(Plan::Longest, [1500, 300, 7]),
        ragged(Plan::Filled, [15_000, 300, 7]),
        ragged(Plan::Cores, [15_000, 300, 7]),
    ];
    const STEP: f64 = 1e-6;
    for (kernel, flushed) in kernels.iter().flat_map(|k| [(k, true), (k, false)]) {
        let values: Vec<f64> = law::parameters(kernel).iter().map(|p| p.start).collect();
        let call = law::Call::new(&CHIP, kernel, flushed, 0);
        let mut sloped: Vec<Sloped<{ law::MOST }>> = Vec::new();
        for (at, value) in values.iter().copied().enumerate() {
            let slopes = std::array::from_fn(|i| f64::from(u8::from(i == at)));
            sloped.push(Sloped { value, slopes });
        }
        let found = call.us(&sloped);
        assert_eq!(found.value, call.us(&values));
        for at in 0..values.len() {
            let beside = |factor: f64| {
                let mut other = values.clone();
                other[at] *= factor;
                call.us(&other)
            };
            let rise = beside(1.0 + STEP) - beside(1.0 - STEP);
            let expected = rise / (2.0 * STEP * values[at]);
            let error = (found.slopes[at] - expected).abs() * values[at];
            assert!(
                error <= 1e-8 * found.value,
                "{kernel:?}: {at}: {} is not {expected}",
                found.slopes[at]
            );
        }
    }
}
