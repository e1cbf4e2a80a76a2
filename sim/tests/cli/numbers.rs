//! Figures that follow on paper from the paper's formulas.

use serde_json::Value;

use crate::support::einflow;

fn run(line: &str) -> Value {
    einflow(&format!("run --format json {line}")).json()
}

fn whole(value: &Value) -> u128 {
    value.to_string().parse().unwrap()
}

/// Tiles of 256 x 256 scores: B * H * (M / 256) * (P / 256).
fn tiles(heads: u128, length: u128) -> u128 {
    heads * length.div_ceil(256) * length.div_ceil(256)
}

const BERT: u128 = 64 * 12;
const XLM: u128 = 64 * 16;

#[test]
fn binding() {
    // max(E + 1, 1 + F + F/M1) + 1 + max(8, 8) + max(F, F) = 10 + 2F + F/M1: 154 at E = F = 64 and M1 = 4.
    let report = run("--model bert --length 1K --mapping fusemax-binding");
    assert_eq!(whole(&report["cycles"]), tiles(BERT, 1024) * 154);
    assert_eq!(whole(&report["cycles"]), 1_892_352);
    assert_eq!(whole(&report["dram_bytes"]["total"]), 402_653_184);
    assert_eq!(report["bottleneck"], "array1d");
    // (E + F + 9) / 154 of the 2D array's PE-cycles do something.
    let busy = report["utilization"]["array2d"].as_f64().unwrap();
    assert!((busy - 137.0 / 154.0).abs() < 1e-12, "one division");
    // Energy as published, within its tolerance: RM's second read and what was fitted.
    let published =
        run("--model bert --length 1K --mapping fusemax-binding --accounting published");
    let energy = published["energy_pj"]["total"].as_f64().unwrap();
    assert!((energy / 1.950645e12 - 1.0).abs() < 1e-3, "{energy}");
    assert_eq!(published["cycles"], report["cycles"]);
    // All registers charged: 63 to 68 % more, by the paper's own counts.
    let more = report["energy_pj"]["total"].as_f64().unwrap() / energy;
    assert!((1.60..1.71).contains(&more), "{more}");
}

#[test]
fn every_length_of_binding() {
    for (length, p1) in [
        (1u128 << 10, 4),
        (1 << 12, 16),
        (1 << 14, 64),
        (1 << 16, 128),
        (1 << 18, 128),
        (1 << 20, 128),
    ] {
        let report = run(&format!(
            "--model bert --length {length} --mapping fusemax-binding"
        ));
        let p2 = length / (256 * p1);
        assert_eq!(
            (
                whole(&report["inputs"]["P1"]),
                whole(&report["inputs"]["P2"])
            ),
            (p1, p2),
            "{length}"
        );
        let bytes = 2 * BERT * (length * 128 + p2 * length * 128);
        assert_eq!(whole(&report["dram_bytes"]["total"]), bytes, "{length}");
        // 138 a tile, and AV's 64 spread over the m1 tiles of a column.
        let cycles = tiles(BERT, length) * 138 + BERT * (length / 256) * 64;
        assert_eq!(whole(&report["cycles"]), cycles, "{length}");
    }
}

#[test]
fn architecture_and_cascade() {
    // max(65, 1 + 64/4) + 256 + 1 + max(8, 8) + max(64, 64 + 64) = 458.
    let report = run("--model bert --length 1K --mapping fusemax-architecture");
    assert_eq!(whole(&report["cycles"]), tiles(BERT, 1024) * 458);
    // 256 + 1 + 2 + 1 + 64 + 512 + 256 + 1 + 64 + 64/4 = 1173.
    let report = run("--model bert --length 1K --mapping fusemax-cascade");
    assert_eq!(whole(&report["cycles"]), tiles(BERT, 1024) * 1173);
    for (length, p1) in [
        ("1K", 4),
        ("4K", 16),
        ("16K", 32),
        ("64K", 32),
        ("256K", 32),
        ("1M", 32),
    ] {
        let report = run(&format!(
            "--model bert --length {length} --mapping fusemax-cascade"
        ));
        assert_eq!(whole(&report["inputs"]["P1"]), p1, "{length}");
    }
}

#[test]
fn xlm() {
    let report = run("--model xlm --length 64K --mapping fusemax-binding");
    assert_eq!(
        (
            whole(&report["inputs"]["P1"]),
            whole(&report["inputs"]["P2"])
        ),
        (64, 4)
    );
    // 10 + 2 * 128 + 128 / 256 = 266.5 cycles a tile.
    assert_eq!(2 * whole(&report["cycles"]), 533 * tiles(XLM, 1 << 16));
    for (length, p1) in [("1K", 4), ("4K", 16), ("16K", 64), ("256K", 64), ("1M", 64)] {
        let report = run(&format!(
            "--model xlm --length {length} --mapping fusemax-binding"
        ));
        assert_eq!(whole(&report["inputs"]["P1"]), p1, "{length}");
    }
}

#[test]
fn flat() {
    let report = run("--model bert --length 1K --mapping flat");
    // (3P/256 + 1) * P * E + 7 * s * M * P words a head; nothing is spilled at 1K.
    let words = BERT * (3 * 1024 / 256 + 1) * 1024 * 64;
    assert_eq!(2 * words, 1_308_622_848);
    assert_eq!(whole(&report["dram_bytes"]["total"]), 1_308_622_848);
    // Softmax on the 1D array: 4 operations an element.
    let softmax = 4 * BERT * 1024 * 1024 / 256;
    assert!(whole(&report["cycles"]) >= softmax);
    // At 256K scores live in DRAM: (2P/1024 + 2) * P * E + 4 * M * P words a head.
    let report = run("--model bert --length 256K --mapping flat");
    let p = 1u128 << 18;
    assert_eq!(
        whole(&report["dram_bytes"]["total"]),
        2 * BERT * ((2 * p / 1024 + 2) * p * 64 + 4 * p * p)
    );
}

/// 1000 means 1000: the last tile holds 232 of 256, takes a full tile's time, and moves its own words.
#[test]
fn partial_tiles() {
    let full = run("--model bert --length 1K --mapping fusemax-binding");
    let partial = run("--model bert --length 1000 --mapping fusemax-binding");
    assert_eq!(partial["cycles"], full["cycles"]);
    // Q, K, V and AV: 4 * 1000 * 64 words a head, K and V read once (P2 = 1).
    assert_eq!(
        whole(&partial["dram_bytes"]["total"]),
        2 * BERT * 4 * 1000 * 64
    );
    assert_eq!(whole(&partial["dram_bytes"]["total"]), 393_216_000);
    // PEs without work are idle: useful cycles shrink with the scores, (1000 / 1024)^2.
    let share = |report: &Value| {
        report["utilization_by_einsum"]["array2d"]["BQK"]
            .as_f64()
            .unwrap()
    };
    let ratio = share(&partial) / share(&full);
    assert!(
        (ratio - 1000.0 * 1000.0 / (1024.0 * 1024.0)).abs() < 1e-12,
        "{ratio}"
    );
}

#[test]
fn the_longest_length_works() {
    for mapping in ["fusemax-binding", "fusemax-architecture", "fusemax-cascade"] {
        for model in ["bert", "xlm"] {
            let report = run(&format!(
                "--model {model} --length 16777216 --mapping {mapping}"
            ));
            assert_eq!(whole(&report["inputs"]["length"]), 1 << 24);
            assert!(whole(&report["cycles"]) > 1 << 40);
        }
    }
    let report = run("--model bert --length 16777215 --mapping fusemax-binding --end-to-end");
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
}

/// The linear layers of BERT on the whole array: 65536 products a cycle, or more where traffic takes longer.
#[test]
fn end_to_end_adds_the_linear_layers() {
    let alone = run("--model bert --length 1K --mapping fusemax-binding");
    let whole_model = run("--model bert --length 1K --mapping fusemax-binding --end-to-end");
    // Q, K, V and Z: D * E * H each; FFN: twice D * S; over B * P rows.
    let products = 64 * 1024 * (4 * 768 * 768 + 2 * 768 * 3072u128);
    let linear = whole(&whole_model["cycles"]) - whole(&alone["cycles"]);
    assert!(linear >= products / 65536, "{linear}");
    assert_eq!(products % 65536, 0);
    let bound: f64 = whole_model["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["seconds"].as_f64().unwrap())
        .sum();
    assert!(
        (bound / whole_model["seconds"].as_f64().unwrap() - 1.0).abs() < 1e-12,
        "blocks add"
    );
}

/// Where one accounting and the other differ: energy only.
#[test]
fn accounting_changes_energy_alone() {
    let of = |accounting: &str| {
        einflow(&format!("compare --format json --accounting {accounting}")).json()
    };
    let (correct, published) = (of("correct"), of("published"));
    for (c, p) in correct
        .as_array()
        .unwrap()
        .iter()
        .zip(published.as_array().unwrap())
    {
        for key in [
            "cycles",
            "seconds",
            "dram_bytes",
            "utilization",
            "bottleneck",
        ] {
            assert_eq!(c[key], p[key], "{key} of {}", c["inputs"]["mapping"]);
        }
        let energy = |r: &Value| r["energy_pj"]["total"].as_f64().unwrap();
        assert!(energy(c) > energy(p), "{}", c["inputs"]["mapping"]);
    }
}

#[test]
fn no_array_does_more_than_it_can() {
    let mappings = [
        "unfused",
        "flat",
        "fusemax-cascade",
        "fusemax-architecture",
        "fusemax-binding",
    ];
    for mapping in mappings
        .into_iter()
        .chain(["fusemax-causal", "ffn", "projections"])
    {
        for model in ["bert", "xlm"] {
            for length in ["1K", "5000", "1M", "16M"] {
                // FLAT's table ends at 1M, and no row of unfused scores fits the buffer at 16M.
                let fits = match mapping {
                    "flat" => ["1K", "1M"].contains(&length),
                    "unfused" => length != "16M",
                    _ => true,
                };
                if !fits {
                    continue;
                }
                let line = format!("--model {model} --length {length} --mapping {mapping}");
                let report = run(&line);
                for busy in report["utilization"].as_object().unwrap().values() {
                    assert!(busy.as_f64().unwrap() <= 1.0, "{line}: {busy}");
                }
                let bound = report["lower_bound"]["compute_seconds"].as_f64().unwrap();
                assert!(
                    report["seconds"].as_f64().unwrap() >= bound,
                    "{line}: {bound}"
                );
            }
        }
    }
}

#[test]
fn the_bound_counts_what_is_not_masked() {
    // 300 queries see 300 keys: Q, K, V and AV of 300 x 64 words each.
    let report = run("--model bert --length 1K --mapping fusemax-causal --size P=300");
    let bound = whole(&report["lower_bound"]["dram_bytes"]);
    assert_eq!(bound, 4 * BERT * 300 * 64 * 2);
    assert_eq!(whole(&report["dram_bytes"]["total"]), 159_645_696);
}

#[test]
fn searched_layers() {
    let of = |line: &str| run(&format!("{line} --mapping ffn"));
    let trxl = of("--model trxl --length 64K");
    let sizes = ["S0", "S1", "S2"].map(|s| whole(&trxl["inputs"][s]));
    assert_eq!(sizes, [256, 16, 1]);
    // FFN2's sums wait in the buffer where ACT and W2 cannot both stay.
    for (line, bytes) in [
        ("--model xlm --length 1K", 3_992_977_408),
        ("--model xlm --length 64K", 244_846_690_304),
        (
            "--model xlm --length 64K --accelerator flat",
            208_339_468_288,
        ),
        ("--model trxl --length 64K", 85_916_123_136),
    ] {
        assert_eq!(whole(&of(line)["dram_bytes"]["total"]), bytes, "{line}");
    }
}

/// Llama 3 8B: 32 heads over 8 key heads of 128. One query of each head reads 8 heads of 32K keys and values; Q and AV are
/// 32 heads of 128 words.
#[test]
fn heads_that_share_keys_read_them_once() {
    let line = "--model llama3-8b --length 32K --size P=1 --mapping fusemax-binding";
    let one = run(line);
    assert_eq!(["H", "P"].map(|s| whole(&one["inputs"][s])), [8, 4]);
    let least = 2 * (2 * 8 * 32_768 * 128 + 2 * 32 * 128);
    assert_eq!(whole(&one["lower_bound"]["dram_bytes"]), least);
    // Keys for each head, where that is what is asked for.
    let apart = run(&format!("{line} --size H=32"));
    let least = 2 * (2 * 32 * 32_768 * 128 + 2 * 32 * 128);
    assert_eq!(whole(&apart["lower_bound"]["dram_bytes"]), least);
    let masked = einflow("run --model llama3-8b --length 1K --mapping fusemax-causal");
    assert_eq!(masked.code, 2);
    assert!(masked.stderr.contains("8 key heads for its 32 heads"));
}

/// The layers around attention take what they take alone on its chip, the gated one where the model has it.
#[test]
fn layers_run_on_the_chip_of_the_attention() {
    for (model, feed) in [("bert", "ffn"), ("llama3-8b", "ffn-gated")] {
        let line = format!("--model {model} --length 1K --size B=1 --mapping");
        let cycles = |rest: &str| whole(&run(&format!("{line} {rest}"))["cycles"]);
        let layers = ["projections", feed].map(|m| cycles(&format!("{m} --accelerator flat")));
        let (all, each) = (
            cycles("unfused --end-to-end"),
            cycles("unfused") + layers.iter().sum::<u128>(),
        );
        // Each of the four times is rounded to whole cycles once.
        assert!(all.abs_diff(each) <= 2, "{model}: {all}, {each}");
    }
}
