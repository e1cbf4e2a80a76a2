//! The machine-readable outputs: keys, types, digits.

use serde_json::Value;

use crate::support::{einflow, einflow_in, folder};

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn is_whole(value: &Value) -> bool {
    value.is_number() && value.to_string().bytes().all(|b| b.is_ascii_digit())
}

fn is_share(value: &Value) -> bool {
    value.as_f64().is_some_and(|v| (0.0..=1.0).contains(&v))
}

/// The keys that the report promises, each with its type.
fn check_report(report: &Value) {
    assert!(is_whole(&report["cycles"]));
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(keys(&report["dram_bytes"]), ["read", "write", "total"]);
    let dram = |key: &str| {
        report["dram_bytes"][key]
            .to_string()
            .parse::<u128>()
            .unwrap()
    };
    assert!(
        dram("total").abs_diff(dram("read") + dram("write")) <= 1,
        "shares round once"
    );
    assert_eq!(keys(&report["energy_pj"]), ["total", "by_component"]);
    let parts: f64 = report["energy_pj"]["by_component"]
        .as_object()
        .unwrap()
        .values()
        .map(|v| v.as_f64().unwrap())
        .sum();
    let total = report["energy_pj"]["total"].as_f64().unwrap();
    assert!(
        (parts - total).abs() <= 1e-12 * total,
        "a sum in another order"
    );
    assert!(report["area_um2"].as_f64().unwrap() > 0.0);
    assert_eq!(keys(&report["utilization"]), ["array2d", "array1d"]);
    assert_eq!(
        keys(&report["utilization_by_einsum"]),
        ["array2d", "array1d"]
    );
    for array in ["array2d", "array1d"] {
        assert!(is_share(&report["utilization"][array]));
        let by = report["utilization_by_einsum"][array].as_object().unwrap();
        assert!(by.values().all(is_share));
        let sum: f64 = by.values().map(|v| v.as_f64().unwrap()).sum();
        assert!(
            (sum - report["utilization"][array].as_f64().unwrap()).abs() < 1e-12,
            "a sum in another order"
        );
    }
    let mut word_bytes = 0u128;
    for (memory, tensors) in report["traffic"].as_object().unwrap() {
        for access in tensors.as_object().unwrap().values() {
            assert_eq!(keys(access), ["read", "write"]);
            for which in ["read", "write"] {
                assert!(is_whole(&access[which]));
                if memory == "dram" {
                    word_bytes += 2 * access[which].to_string().parse::<u128>().unwrap();
                }
            }
        }
    }
    let tensors = report["traffic"]["dram"].as_object().unwrap().len() as u128;
    assert!(
        word_bytes.abs_diff(dram("total")) <= 2 * tensors,
        "each tensor's share is rounded"
    );
    assert!(report["bottleneck"].is_string());
    assert_eq!(
        keys(&report["lower_bound"]),
        ["compute_seconds", "dram_bytes"]
    );
    assert!(is_whole(&report["lower_bound"]["dram_bytes"]));
    assert!(
        report["lower_bound"]["compute_seconds"].as_f64().unwrap()
            <= report["seconds"].as_f64().unwrap()
    );
    for key in ["workload", "accelerator", "mapping", "engine"] {
        assert!(report["inputs"][key].is_string(), "{key}");
    }
    assert!(is_whole(&report["inputs"]["length"]));
}

#[test]
fn one_run() {
    let report =
        einflow("run --model bert --length 1K --accelerator fusemax --mapping fusemax-binding --format json").json();
    check_report(&report);
    let inputs = &report["inputs"];
    for (key, value) in [
        ("workload", "\"attention/one-pass\""),
        ("model", "\"bert\""),
        ("length", "1024"),
        ("accelerator", "\"fusemax\""),
        ("mapping", "\"fusemax-binding\""),
        ("engine", "\"analytic\""),
        ("P1", "4"),
        ("P2", "1"),
        ("P0", "256"),
        ("M0", "256"),
        ("M1", "4"),
        ("B", "64"),
        ("H", "12"),
        ("E", "64"),
        ("F", "64"),
    ] {
        assert_eq!(inputs[key].to_string(), value, "{key}");
    }
    assert_eq!(report["cycles"].to_string(), "1892352");
    assert_eq!(report["dram_bytes"]["total"].to_string(), "402653184");
}

#[test]
fn a_comparison_is_a_list_of_runs() {
    let list = einflow("compare --no-check --format json").json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 5 * 4);
    list.iter().for_each(check_report);
    // A comparison checks that its dataflows compute what they should, and changes nothing else.
    let checked = einflow("compare --format json").json();
    for (mut with, without) in checked.as_array().unwrap().clone().into_iter().zip(list) {
        let check = with.as_object_mut().unwrap().remove("check").unwrap();
        assert_eq!(with, *without);
        let miniature = &check["miniature"];
        assert_eq!(miniature["reference"], "softmax attention");
        assert_eq!(miniature["equals_interpreter"], true);
        assert_eq!(miniature["cycles_array"], miniature["cycles_cycle"]);
    }
    let one = einflow("run --model bert --length 1K --mapping unfused --format json").json();
    assert_eq!(list[0], one);
    assert_eq!(
        einflow("compare all --no-check --format json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        5 * 4 * 6
    );
    assert_eq!(
        einflow("compare pipeline-ends --no-check --format json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        9
    );
}

#[test]
fn whole_numbers_keep_every_digit() {
    let run = |line: &str| einflow(&format!("run --format json {line}")).json();
    // FUSEMAX.md: 2 B * B*H * (P*(E+F) + P2*M*(E+F)) with P1 = 128, P2 = 2^20 / 2^15 = 32.
    let report = run("--model bert --length 1M --mapping fusemax-binding");
    let (p, heads) = (1u128 << 20, 64 * 12);
    assert_eq!(2 * heads * (p * 128 + 32 * p * 128), 6_803_228_196_864);
    assert_eq!(report["dram_bytes"]["total"].to_string(), "6803228196864");
    // At 2^24 tokens BQK reads E words of K and of Q for each of B*H*P*M/256 scores of a column or row: far above 2^53.
    let report = run("--model bert --length 16M --mapping fusemax-binding");
    let p = 1u128 << 24;
    let words = heads * p * (p / 256) * 64;
    assert!(words > 1 << 53);
    for tensor in ["Q", "K"] {
        assert_eq!(
            report["traffic"]["buffer"][tensor]["read"].to_string(),
            words.to_string(),
            "{tensor}"
        );
    }
    // 154 cycles less the share of AV: 10 + 2*64 + 64/65536 cycles a tile, spread over m1.
    let tiles = heads * (p / 256) * (p / 256);
    assert_eq!(
        report["cycles"].to_string(),
        (tiles * 138 + heads * (p / 256) * 64).to_string()
    );
}

#[test]
fn csv_has_a_row_for_each_run() {
    let text = einflow("compare --format csv").good();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 20);
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    let binding = rows
        .iter()
        .find(|r| &r[column("mapping")] == "fusemax-binding" && &r[column("length")] == "1024")
        .unwrap();
    assert_eq!(&binding[column("cycles")], "1892352");
    assert_eq!(&binding[column("dram_bytes")], "402653184");
    assert_eq!(&binding[column("model")], "bert");
    let single =
        einflow("run --model bert --length 1K --mapping fusemax-binding --format csv").good();
    assert_eq!(single.lines().count(), 2);
    assert_eq!(text.lines().next(), single.lines().next());
    assert!(text.lines().any(|l| Some(l) == single.lines().nth(1)));
}

/// Names with commas and quotes stay one cell.
#[test]
fn csv_quotes_what_needs_it() {
    let folder = folder(&[(
        "mine.ron",
        "(name: \"speed, and \\\"more\\\"\", source: \"assumed\", kind: means, models: [\"bert\"], lengths: [1024],
          ratios: [(name: \"flat, over fusemax\", value: \"seconds\", expected: 1, tolerance: 0, bound: report, reason: \"none\",
            over: [(mapping: \"flat\")], under: [(mapping: \"fusemax-binding\")])])"
            .into(),
    )]);
    let text = einflow_in(folder.path(), &["validate", "mine.ron", "--format", "csv"]).good();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0][0], &rows[0][1]),
        ("speed, and \"more\"", "flat, over fusemax")
    );
}

#[test]
fn passes_by_rank() {
    // CASCADES.md's table, and both spellings of a split rank.
    for (name, rank, count) in [
        ("attention/three-pass", "M", 3),
        ("attention/three-pass-deferred", "M", 2),
        ("attention/two-pass", "M", 2),
        ("attention/two-pass-deferred", "M", 2),
        ("attention/split", "M", 1),
        ("attention/one-pass", "M", 1),
        ("attention/one-pass", "M0", 2),
        ("attention/no-max", "M", 2),
        ("pedagogical/c1", "K", 2),
        ("pedagogical/c2", "K", 1),
        ("pedagogical/c3", "K", 1),
    ] {
        let report = einflow(&format!("passes {name} --format json")).json();
        assert_eq!(
            report["passes"][rank].as_u64(),
            Some(count),
            "{name} over {rank}"
        );
        assert!(
            report["live"]
                .as_array()
                .unwrap()
                .iter()
                .all(Value::is_string),
            "{name}"
        );
        assert!(
            !report["why"].as_array().unwrap().is_empty() || count == 1,
            "{name}"
        );
    }
    let live =
        |name: &str| einflow(&format!("passes {name} --format json")).json()["live"].to_string();
    assert!(
        live("attention/three-pass").contains("QK") && live("attention/three-pass").contains("SN")
    );
    assert!(live("pedagogical/c1").contains("\"A\""));
    assert!(!live("attention/three-pass-deferred").contains("\"SN\""));
}

#[test]
fn validation_gives_every_row() {
    let outcome = einflow("validate attn-binding --format json").json();
    assert_eq!(outcome["passed"], true);
    let rows = outcome["rows"].as_array().unwrap();
    // Twelve rows are published (two models, six lengths), and as many computed beside them.
    let traffic: Vec<&Value> = rows.iter().filter(|r| r["column"] == "traffic").collect();
    assert_eq!(traffic.len(), 24);
    assert_eq!(
        traffic.iter().filter(|r| r["expected"].is_null()).count(),
        12
    );
    for row in rows {
        assert_eq!(row["experiment"], "attn-binding");
        for key in [
            "column",
            "row",
            "expected",
            "found",
            "error",
            "tolerance",
            "passed",
        ] {
            assert!(row.get(key).is_some(), "{key}");
        }
    }
}
