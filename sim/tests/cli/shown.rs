//! What is shown where a part of what was asked cannot be, and by which names.

use std::{fs, os::unix::fs::symlink, process::Command};

use einflow_arch::device::devices;
use einflow_mappings::mappings;
use einflow_workloads::cascades;

use crate::support::{command, edited, einflow, einflow_in, folder};

/// A run file of these runs.
fn runs(list: &str) -> Vec<(&'static str, String)> {
    let text = format!("(name: \"r\", models: [\"bert\"], lengths: [256, \"1K\"], runs: [{list}])");
    vec![("r.ron", text)]
}

const GOOD: &str = "(mapping: \"fusemax-binding\")";

#[test]
fn good_runs_are_shown_beside_a_bad_one() {
    // 2560 bytes of buffer would do.
    let small = "(mapping: \"fusemax-binding\", set: {\"memories.buffer.capacity\": 2048})";
    for engine in ["analytic", "cycle"] {
        for format in ["table", "csv", "json"] {
            let folder = folder(&runs(&format!("{GOOD}, {small}")));
            let line = format!("compare r.ron --no-check --engine {engine} --format {format}");
            let ran = einflow_in(folder.path(), &line.split(' ').collect::<Vec<_>>());
            assert_eq!(ran.code, 2, "{line}");
            assert!(ran.stdout.contains("binding"), "{line}: {}", ran.stdout);
            let words = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            let named = "the run fusemax-binding, bert, 256 tokens, memories.buffer.capacity=2048";
            assert!(words.contains(named), "{line}: {words}");
        }
    }
    // What all have is said once, of none.
    let folder = folder(&runs(small));
    let ran = einflow_in(folder.path(), &["compare", "r.ron"]);
    assert!(!ran.stderr.contains("the run"), "{}", ran.stderr);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
}

#[test]
fn what_no_double_holds_is_an_error() {
    let set = "(mapping: \"fusemax-binding\", set: {\"memories.dram.read_energy\": 1e308})";
    let folder = folder(&runs(&format!("{GOOD}, {set}")));
    for format in ["table", "csv", "json"] {
        let line = [
            "compare",
            "r.ron",
            "--no-check",
            "--plot",
            "plots",
            "--format",
            format,
        ];
        let ran = einflow_in(folder.path(), &line);
        assert_eq!(ran.code, 2);
        let words = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("the energy of dram is beyond what a 64-bit number"),
            "{words}"
        );
        for wrong in ["inf", "NaN", "null,"] {
            assert!(
                !ran.stdout.contains(wrong),
                "{format}: {wrong}: {}",
                ran.stdout
            );
        }
    }
}

#[test]
fn nor_of_devices_and_pools() {
    let device = |from: &str, to: &str| edited(devices(), "h100", &[(from, to)]);
    let files = [
        ("dear.ron", device("per_hour: 11.06", "per_hour: 1e308")),
        (
            "slow.ron",
            device("bandwidth: \"3.35 TB/s\"", "bandwidth: 1e-300"),
        ),
    ];
    let folder = folder(&files);
    for format in ["table", "csv", "json"] {
        let pools = format!("offload s.ron --format {format}");
        let rows = format!(
            "predict --device ./slow.ron --table data/h200/gemm-bf16.csv --format {format}"
        );
        let scenario = "(name: \"s\", source: \"s\", model: \"llama3-8b\", pools: {\"all\": (role: all, device: \"./dear.ron\", count: 2, link: \"nvlink4\")}, \
                        load: (batch: 8, context: 128))";
        fs::write(folder.path().join("s.ron"), scenario).unwrap();
        for line in [pools, rows] {
            let ran = einflow_in(folder.path(), &line.split(' ').collect::<Vec<_>>());
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}");
            let words = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                words.contains("is beyond what a 64-bit number holds"),
                "{line}: {words}"
            );
        }
    }
}

/// Words of a tensor kept in part are fractions: each is rounded once, and all totals are of what is shown.
#[test]
fn totals_are_sums_of_what_is_shown() {
    let all = einflow("compare all --no-check --format json").json();
    for run in all.as_array().unwrap() {
        let whole = |value: &serde_json::Value| value.as_u64().unwrap();
        let dram = run["traffic"]["dram"].as_object().unwrap();
        let sum = |kind: &str| 2 * dram.values().map(|t| whole(&t[kind])).sum::<u64>();
        let bytes = &run["dram_bytes"];
        assert_eq!(whole(&bytes["read"]), sum("read"), "{}", run["inputs"]);
        assert_eq!(whole(&bytes["write"]), sum("write"), "{}", run["inputs"]);
        assert_eq!(whole(&bytes["total"]), sum("read") + sum("write"));
    }
}

#[test]
fn runs_are_named_by_what_they_differ_in() {
    let list = "(mapping: \"fusemax-binding\"), \
                (mapping: \"fusemax-binding\", set: {\"memories.dram.bandwidth\": 1e11}), \
                (mapping: \"fusemax-binding\", set: {\"memories.dram.bandwidth\": 2e11}), \
                (mapping: \"fusemax-binding\", sizes: {\"B\": 3}), (mapping: \"fusemax-architecture\")";
    let folder = folder(&runs(list));
    let run = |format| {
        einflow_in(
            folder.path(),
            &["compare", "r.ron", "--no-check", "--format", format],
        )
    };
    let table = run("table").good();
    let heads: Vec<&str> = table
        .lines()
        .filter(|line| line.contains("useful"))
        .collect();
    assert!(!heads.is_empty());
    let words = table.split_whitespace().collect::<String>();
    for name in [
        "bandwidth=1e11",
        "bandwidth=2e11",
        "+bindingB=3",
        "+bindingB=64",
    ] {
        assert!(words.contains(name), "{name}: {table}");
    }
    let csv = run("csv").good();
    let mut rows = csv.lines();
    let set = rows
        .next()
        .unwrap()
        .split(',')
        .position(|column| column == "set")
        .unwrap();
    let sets: Vec<&str> = rows
        .take(3)
        .map(|row| row.split(',').nth(set).unwrap())
        .collect();
    let of = |value| format!("memories.dram.bandwidth={value}00000000000");
    assert_eq!(sets, ["", &of(1), &of(2)]);
    // Where nothing is set there is no such column.
    assert!(
        !einflow("run --mapping flat --model bert --length 1K --format csv")
            .good()
            .contains("set")
    );
}

#[test]
fn sizes_of_blocks_are_told_apart() {
    let text = einflow("run --mapping unfused --model bert --length 1K").good();
    let sizes = text.lines().skip_while(|line| !line.starts_with("sizes"));
    let sizes: Vec<&str> = sizes
        .take_while(|line| !line.starts_with("uncharged"))
        .collect();
    assert_eq!(
        sizes[1..],
        ["          scores: M2=1 P2=1", "          values: M2=1 P2=1"]
    );
    assert!(!sizes[0].contains("M2="), "{}", sizes[0]);
    let json = einflow("run --mapping unfused --model bert --length 1K --format json").json();
    assert_eq!(json["inputs"]["sizes_by_block"]["scores"]["M2"], 1);
}

/// A dilation named D is no width of BERT.
#[test]
fn a_default_that_a_model_overrides_is_said() {
    let cascade = edited(cascades(), "attention/sliding-window", &[]).replace("DILATION", "D");
    let folder = folder(&[("own.ron", cascade)]);
    let describe = |more: &[&str]| {
        let line = [&["describe", "own.ron", "--length", "64"], more].concat();
        let text = einflow_in(folder.path(), &line).good();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = "D=768 is the size of bert; the cascade's own default is 1 (--size D=1)";
    assert!(describe(&[]).contains(said), "{}", describe(&[]));
    assert!(!describe(&["--size", "D=1"]).contains("own default"));
    assert!(
        !einflow("describe attention/sliding-window")
            .good()
            .contains("own default")
    );
}

#[test]
fn what_is_no_file_is_called_what_it_is() {
    let map = edited(mappings(), "fusemax-binding", &[]);
    let folder = folder(&[("map.ron", map)]);
    let at = folder.path();
    fs::create_dir(at.join("folder.ron")).unwrap();
    symlink("loop.ron", at.join("loop.ron")).unwrap();
    symlink("gone.ron", at.join("dangling.ron")).unwrap();
    fs::write(at.join("bytes.ron"), b"\xff\xfe").unwrap();
    for (name, what) in [
        ("./folder.ron", "./folder.ron is a folder, not a file"),
        (
            "./loop.ron",
            "./loop.ron is a link that leads back to itself",
        ),
        (
            "./dangling.ron",
            "./dangling.ron is a link to a file that is not there",
        ),
        ("./bytes.ron", "./bytes.ron is no text: it is not in UTF-8"),
        ("./none.ron", "there is no file ./none.ron"),
    ] {
        for line in [
            vec![
                "run",
                "--model",
                "bert",
                "--length",
                "1K",
                "--mapping",
                name,
            ],
            vec!["compare", name],
            vec!["sweep", name],
            vec!["replay", "--device", "h100", "--model", "llama3-8b", name],
        ] {
            let ran = einflow_in(at, &line);
            assert_eq!(ran.code, 2, "{line:?}");
            assert!(
                ran.stderr.starts_with(&format!("error: {what}")),
                "{line:?}: {}",
                ran.stderr
            );
        }
    }
    // A pipe is read, and once.
    assert!(
        Command::new("mkfifo")
            .arg(at.join("pipe.ron"))
            .status()
            .unwrap()
            .success()
    );
    let writer = std::thread::spawn({
        let (map, pipe) = (at.join("map.ron"), at.join("pipe.ron"));
        move || fs::write(pipe, fs::read(map).unwrap()).unwrap()
    });
    let line = [
        "run",
        "--model",
        "bert",
        "--length",
        "1K",
        "--mapping",
        "./pipe.ron",
    ];
    let piped = einflow_in(at, &line).good();
    writer.join().unwrap();
    let plain = einflow_in(at, &[&line[..6], &["./map.ron"]].concat()).good();
    assert_eq!(piped, plain);
    let stdin = command(at, &[&line[..6], &["/dev/stdin"]].concat())
        .stdin(fs::File::open(at.join("map.ron")).unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(stdin.stdout).unwrap(), plain);
}

#[test]
fn mistakes_without_end_are_counted() {
    let fields: String = (0..1000).map(|i| format!("f{i}: 1,\n")).collect();
    let deep = format!("(name: {}{})", "[".repeat(500), "]".repeat(500));
    let folder = folder(&[("many.ron", format!("({fields})")), ("deep.ron", deep)]);
    let run = |file: &str| {
        let line = [
            "run",
            "--model",
            "bert",
            "--length",
            "1K",
            "--mapping",
            file,
        ];
        einflow_in(folder.path(), &line).stderr
    };
    let many = run("./many.ron");
    // 1000 unknown fields, and five or more that are missing.
    assert_eq!(many.matches("error: ").count(), 33, "{many}");
    assert!(many.contains("./many.ron has more of them: 97"), "{many}");
    let deep = run("./deep.ron");
    assert!(
        deep.contains("it nests too deep") && !deep.contains("recursion"),
        "{deep}"
    );
}
