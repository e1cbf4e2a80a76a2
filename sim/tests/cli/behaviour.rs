//! Tables, lists, pipes, threads, paths, completions.

use std::{
    fs,
    io::{Read, Write as _},
    process::Stdio,
};

use einflow::{runs::runs, validate::experiments};
use einflow_arch::accelerators;
use einflow_mappings::mappings;
use einflow_spec::Library;
use einflow_workloads::{cascades, models::models};

use crate::{
    errors::{ARRAYS, npz},
    support::{command, edited, einflow, einflow_in, folder, golden},
};

/// Every line fits a terminal of 80 columns, and a pipe carries no escape codes.
pub fn fits(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what}");
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80,
            "{what}: {} columns: {line}",
            line.chars().count()
        );
        // clap pads the blank lines of its help.
        if !what.ends_with("--help") {
            assert_eq!(line.trim_end(), line, "{what}: blanks at the end");
        }
    }
    assert!(!text.contains('\u{1b}'), "{what}: escape codes");
    assert!(text.ends_with('\n'), "{what}: no line end");
}

/// A shipped mapping and a shipped accelerator share the name `flat`: beside one of a kind, the other is still the library's.
#[test]
fn files_of_another_kind_hide_nothing() {
    let all: Vec<(String, String)> = ["unfused", "flat", "fusemax-cascade"]
        .iter()
        .map(|name| (format!("{name}.ron"), edited(mappings(), name, &[])))
        .collect();
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../mappings/flat-choices.csv");
    let table = fs::read_to_string(table).unwrap();
    let mut files: Vec<(&str, String)> = all
        .iter()
        .map(|(file, text)| (file.as_str(), text.clone()))
        .collect();
    files.push(("flat-choices.csv", table));
    let copies = folder(&files);
    let run = |folder: &std::path::Path, mapping: &str| {
        let line = format!("run --model bert --length 1K --mapping {mapping} --format json");
        einflow_in(folder, &line.split(' ').collect::<Vec<_>>()).json()
    };
    for (file, _) in &all {
        let name = file.trim_end_matches(".ron");
        assert_eq!(
            run(copies.path(), file)["cycles"],
            run(copies.path(), name)["cycles"]
        );
    }
    // An accelerator `flat` of the user's beside a run file: it is the accelerator, and the mapping the library's.
    let slower = edited(
        accelerators(),
        "flat",
        &[("clock: \"940 MHz\"", "clock: \"470 MHz\"")],
    );
    let request = "(name: \"r\", source: \"s\", runs: [(mapping: \"flat\", accelerator: \"flat\", model: \"bert\", length: \"1K\")])";
    let own = folder(&[("flat.ron", slower), ("r.ron", request.into())]);
    let slow = einflow_in(own.path(), &["run", "r.ron", "--format", "json"]).json();
    let library = run(own.path(), "flat");
    assert!(slow["seconds"].as_f64() > library["seconds"].as_f64());
}

#[test]
fn tables_fit_80_columns() {
    let mut commands: Vec<String> = [
        "compare",
        "compare --accounting published",
        "compare all",
        "compare pipeline-ends",
        "run --model bert --length 1K --mapping fusemax-binding",
        "run --model xlm --length 1M --mapping flat --end-to-end",
        "run --model t5 --length 8M --mapping unfused",
        "validate",
        "list",
        "--help",
    ]
    .map(String::from)
    .to_vec();
    let subcommands = [
        "compare",
        "run",
        "eval",
        "passes",
        "describe",
        "explain",
        "validate",
        "list",
        "completions",
        "sweep",
        "offload",
        "replay",
        "man",
    ];
    commands.extend(subcommands.map(|c| format!("{c} --help")));
    commands.extend(subcommands.map(|c| format!("{c} -h")));
    commands.extend(cascades().names().map(|name| format!("passes {name}")));
    let scenarios = einflow_serving::offload::scenario::scenarios().names();
    commands.extend(scenarios.map(|name| format!("offload {name}")));
    commands.push("offload --compare lamina-70b vllm-70b".into());
    for library in [cascades(), accelerators(), mappings()] {
        commands.extend(library.names().map(|name| format!("describe {name}")));
    }
    for line in commands {
        fits(&line, &einflow(&line).good());
    }
}

#[test]
fn messages_fit_80_columns_where_the_input_does() {
    // Names without blanks cannot be broken, and lines of files are quoted as they are.
    for line in [
        "run --model bert --length 0 --mapping flat",
        "run --model bert --length 3K --mapping flat",
        "validate nothing",
        "run --model bert --length 1K",
    ] {
        fits(line, &einflow(line).stderr);
    }
}

#[test]
fn lists_print_one_name_a_line() {
    let kinds: [(&str, &Library); 10] = [
        ("workloads", cascades()),
        ("models", models()),
        ("accelerators", accelerators()),
        ("mappings", mappings()),
        ("runs", runs()),
        ("sweeps", einflow::sweep::sweeps()),
        ("experiments", experiments()),
        ("devices", einflow_arch::device::devices()),
        ("links", einflow_arch::device::links()),
        ("scenarios", einflow_serving::offload::scenario::scenarios()),
    ];
    let mut all = Vec::new();
    for (kind, library) in kinds {
        let names: Vec<&str> = library.names().collect();
        assert_eq!(
            einflow(&format!("list {kind}"))
                .good()
                .lines()
                .collect::<Vec<_>>(),
            names,
            "{kind}"
        );
        assert!(!names.is_empty(), "{kind}");
        all.extend(names);
    }
    assert_eq!(einflow("list").good().lines().collect::<Vec<_>>(), all);
    // Names that the pages promise.
    for name in ["bert", "trxl", "t5", "xlm"] {
        assert!(models().get(name).is_some(), "{name}");
    }
    for name in [
        "unfused",
        "flat",
        "fusemax-cascade",
        "fusemax-architecture",
        "fusemax-binding",
    ] {
        assert!(mappings().get(name).is_some(), "{name}");
    }
    for name in [
        "fusemax",
        "flat",
        "fusemax-artifact",
        "flat-artifact",
        "cascade-artifact",
    ] {
        assert!(accelerators().get(name).is_some(), "{name}");
    }
}

#[test]
fn tables_as_they_are() {
    golden("compare.txt", &einflow("compare").good());
    golden(
        "run.txt",
        &einflow("run --model bert --length 1K --accelerator fusemax --mapping fusemax-binding")
            .good(),
    );
    golden("passes.txt", &einflow("passes attention/three-pass").good());
    golden(
        "describe-mapping.txt",
        &einflow("describe fusemax-binding").good(),
    );
    golden(
        "describe-accelerator.txt",
        &einflow("describe fusemax").good(),
    );
}

#[test]
fn completions_for_every_shell() {
    for (shell, sign) in [
        ("bash", "complete -F _einflow"),
        ("zsh", "#compdef einflow"),
        ("fish", "complete -c einflow"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = einflow(&format!("completions {shell}")).good();
        assert!(script.contains(sign), "{shell}");
        assert!(
            script.contains("end-to-end") && script.contains("validate"),
            "{shell}"
        );
    }
}

/// A reader that has seen enough, such as `head -1`.
#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::TempDir::new().unwrap();
    for arguments in [
        ["compare", "all"],
        ["completions", "bash"],
        ["describe", "fusemax"],
        ["list", "mappings"],
    ] {
        let mut child = command(folder.path(), &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One byte, and then the pipe is closed.
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).as_ref()
            ),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn thread_counts_change_no_byte() {
    let folder = tempfile::TempDir::new().unwrap();
    for arguments in [
        &["compare", "all", "--format", "json"][..],
        &["validate", "--format", "json"],
        &["compare", "--format", "csv"],
        &[
            "run",
            "--model",
            "trxl",
            "--length",
            "4K",
            "--mapping",
            "unfused",
            "--end-to-end",
            "--format",
            "json",
        ],
    ] {
        let run = |threads: &str| {
            let output = command(folder.path(), arguments)
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .unwrap();
            assert!(output.status.success());
            output.stdout
        };
        let one = run("1");
        assert!(one == run("2") && one == run("5"), "{arguments:?}");
    }
}

#[test]
fn names_may_be_paths() {
    let folder = folder(&[
        (
            "my/cascade.ron",
            edited(cascades(), "attention/one-pass", &[]),
        ),
        (
            "my/mapping.ron",
            edited(
                mappings(),
                "fusemax-binding",
                &[("\"attention/one-pass\"", "\"cascade\"")],
            ),
        ),
        (
            "my/chip.ron",
            edited(
                accelerators(),
                "fusemax",
                &[("clock: \"940 MHz\"", "clock: \"470 MHz\"")],
            ),
        ),
        (
            "my/model.ron",
            edited(models(), "bert", &[("batch: 64", "batch: 32")]),
        ),
    ]);
    let arguments = "run --workload my/cascade.ron --model my/model.ron --length 1K --accelerator my/chip.ron --mapping my/mapping.ron --format json";
    let report = einflow_in(folder.path(), &arguments.split(' ').collect::<Vec<_>>()).json();
    // Half the batch of BERT's 1892352 cycles, at half the clock.
    assert_eq!(report["cycles"].to_string(), "946176");
    assert_eq!(report["seconds"].as_f64().unwrap(), 946_176.0 / 470e6);
    // Without --workload, the mapping's: beside the mapping.
    let arguments = "run --model my/model.ron --length 1K --mapping my/mapping.ron --format json";
    let report = einflow_in(folder.path(), &arguments.split(' ').collect::<Vec<_>>()).json();
    assert_eq!(report["cycles"].to_string(), "946176");
    // An absolute path, and a description of each.
    for name in ["cascade", "mapping", "chip"] {
        let path = folder.path().join(format!("my/{name}.ron"));
        einflow_in(folder.path(), &["describe", path.to_str().unwrap()]).good();
        einflow_in(folder.path(), &["describe", &format!("my/{name}.ron")]).good();
    }
    einflow_in(folder.path(), &["passes", "my/cascade.ron"]).good();
}

/// A file beside the run file is used, not the embedded one of the same name.
#[test]
fn files_beside_the_run_file_win() {
    let run = "(name: \"mine\", models: [\"bert\"], lengths: [\"1K\"], runs: [(mapping: \"fusemax-binding\")])";
    let folder = folder(&[
        ("plain/mine.ron", run.into()),
        (
            "chip/mine.ron",
            run.replace(
                "fusemax-binding\"",
                "fusemax-binding\", accelerator: \"fusemax\"",
            ),
        ),
        (
            "chip/fusemax.ron",
            edited(
                accelerators(),
                "fusemax",
                &[("clock: \"940 MHz\"", "clock: \"470 MHz\"")],
            ),
        ),
        ("model/mine.ron", run.into()),
        (
            "model/bert.ron",
            edited(models(), "bert", &[("batch: 64", "batch: 32")]),
        ),
        ("mapping/mine.ron", run.into()),
        (
            "mapping/fusemax-binding.ron",
            edited(mappings(), "fusemax-architecture", &[]),
        ),
        // A chip that another file of the run names: the mapping's accelerator, beside the mapping.
        ("both/mine.ron", run.into()),
        (
            "both/fusemax-binding.ron",
            edited(mappings(), "fusemax-binding", &[]),
        ),
        (
            "both/fusemax.ron",
            edited(
                accelerators(),
                "fusemax",
                &[("clock: \"940 MHz\"", "clock: \"470 MHz\"")],
            ),
        ),
    ]);
    // +Binding takes 154 cycles a tile, +Architecture 458 (FUSEMAX.md's formulas); BERT at 1K has 12288 tiles.
    for (case, cycles, clock) in [
        ("plain", 12288 * 154, 940e6),
        ("chip", 12288 * 154, 470e6),
        ("model", 12288 / 2 * 154, 940e6),
        ("mapping", 12288 * 458, 940e6),
        ("both", 12288 * 154, 470e6),
    ] {
        let report = einflow_in(
            folder.path(),
            &["run", &format!("{case}/mine.ron"), "--format", "json"],
        )
        .json();
        assert_eq!(report["cycles"].to_string(), cycles.to_string(), "{case}");
        assert_eq!(
            report["seconds"].as_f64().unwrap(),
            cycles as f64 / clock,
            "{case}"
        );
    }
}

/// A copy of the Timeloop experiment anywhere, with an absolute path to any number of cases.
#[test]
fn timeloop_cases_of_the_users() {
    let cases = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../validation/data/timeloop/cases.jsonl"
    ))
    .unwrap();
    let three: String = cases
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    let there = folder(&[
        ("my-cases.jsonl", three.clone()),
        (
            "wrong-cases.jsonl",
            three.replacen("\"cycles\":", "\"cycles\":1", 1),
        ),
    ]);
    for (file, code) in [("my-cases.jsonl", 0), ("wrong-cases.jsonl", 1)] {
        let path = there.path().join(file);
        let text = edited(
            experiments(),
            "timeloop",
            &[("data/timeloop/cases.jsonl", path.to_str().unwrap())],
        );
        let here = folder(&[("copy.ron", text)]);
        let ran = einflow_in(here.path(), &["validate", "copy.ron", "--format", "json"]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let outcome: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let rows = outcome["rows"].as_array().unwrap();
        assert_eq!(rows.iter().filter(|r| r["column"] == "cycles").count(), 3);
    }
}

/// Options of `run` that do not say what to run hold for a run file too.
#[test]
fn options_join_a_run_file() {
    let folder = folder(&[(
        "mine.ron",
        "(name: \"mine\", runs: [(model: \"bert\", length: 1024, mapping: \"fusemax-binding\")])"
            .into(),
    )]);
    let run = |more: &[&str]| {
        let mut arguments = vec!["run", "mine.ron", "--format", "json"];
        arguments.extend(more);
        einflow_in(folder.path(), &arguments).json()
    };
    assert_eq!(run(&[])["inputs"]["accelerator"], "fusemax");
    assert_eq!(
        run(&["--accounting", "published"])["inputs"]["accelerator"],
        "fusemax-artifact"
    );
    assert_eq!(run(&["--size", "B=32"])["cycles"].to_string(), "946176");
    assert!(run(&["--end-to-end"])["blocks"].as_array().unwrap().len() > 1);
    assert_eq!(
        einflow_in(folder.path(), &["run", "mine.ron", "--engine", "cycel"]).code,
        2
    );
}

/// A run file's engine runs it, unless an option names another.
#[test]
fn a_files_engine_is_obeyed() {
    let text = "(name: \"mine\", engine: cycle, models: [\"bert\"], lengths: [\"1K\"], runs: [(mapping: \"fusemax-binding\")])";
    let folder = folder(&[("mine.ron", text.into())]);
    let run = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        einflow_in(folder.path(), &arguments).good()
    };
    for (arguments, cycles) in [
        ("run ./mine.ron --format csv", "4121514"),
        ("run ./mine.ron --format csv --engine analytic", "1892352"),
        ("compare ./mine.ron --format csv --no-check", "4121514"),
        ("explain ./mine.ron", "UNDER THE CYCLE ENGINE 4121514"),
    ] {
        assert!(run(arguments).contains(cycles), "{arguments}");
    }
    assert!(!run("explain ./mine.ron --engine analytic").contains("UNDER THE CYCLE"));
}

/// What can be computed is shown though another run of the file is refused.
#[test]
fn a_refused_run_does_not_hide_the_others() {
    let run = "(name: \"mine\", models: [\"bert\"], lengths: [3000], runs: [(mapping: \"fusemax-binding\"), (mapping: \"flat\")])";
    let folder = folder(&[("mine.ron", run.into())]);
    let ran = einflow_in(folder.path(), &["compare", "mine.ron", "--format", "csv"]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stdout.lines().count(), 2);
    assert!(ran.stdout.contains("fusemax-binding") && ran.stderr.contains("flat-choices.csv"));
}

#[test]
fn eval_computes_the_users_tensors() {
    let folder = tempfile::TempDir::new().unwrap();
    // With every score equal, attention is the mean of V: with K zero, that is.
    let zero = |name: &str, values: &mut Vec<f64>| {
        if name == "K" {
            values.fill(0.0);
        } else if name == "AV" {
            // V holds 0, 1, ... 6, 0, ... quarters along rows of 8: 0..7, 1..6 0 1 2, ...
            let v: Vec<f64> = (0..24).map(|i| f64::from(i % 7) / 4.0).collect();
            for f in 0..3 {
                let mean = v[f * 8..f * 8 + 8].iter().sum::<f64>() / 8.0;
                values[f * 4..f * 4 + 4].fill(mean);
            }
        }
    };
    let with: Vec<(&str, &[usize])> = ARRAYS
        .iter()
        .copied()
        .chain([("AV", &[3usize, 4][..])])
        .collect();
    let mut file = fs::File::create(folder.path().join("in.npz")).unwrap();
    file.write_all(&npz(&with, zero)).unwrap();
    let arguments =
        "eval attention/one-pass --input in.npz --output out.npz --size M0=4 --format json";
    let report = einflow_in(folder.path(), &arguments.split(' ').collect::<Vec<_>>()).json();
    let output = &report["outputs"][0];
    assert_eq!(
        (
            output["name"].as_str(),
            output["shape"].to_string().as_str()
        ),
        (Some("AV"), "[3,4]")
    );
    // Eight terms of doubles, then one division.
    assert!(output["error"]["relative"].as_f64().unwrap() <= 8.0 * f64::EPSILON);
    assert_eq!(output["error"]["finite"], true);
    assert!(fs::metadata(folder.path().join("out.npz")).unwrap().len() > 0);
    let arguments = "eval attention/one-pass --input in.npz --number-format bf16 --size M0=4";
    fits(
        "eval",
        &einflow_in(folder.path(), &arguments.split(' ').collect::<Vec<_>>()).good(),
    );
}

/// An error that no number holds is said to be none: relative to zeros, or of NaN.
#[test]
fn errors_of_eval_that_are_infinite_are_named() {
    let with = ARRAYS.into_iter().chain([("AV", &[3usize, 4][..])]);
    let with: Vec<(&str, &[usize])> = with.collect();
    let arguments = "eval attention/one-pass --input in.npz --size M0=4 --allow-nan --format json";
    for (reference, absolute) in [(0.0, true), (f64::NAN, false)] {
        let wrong = |name: &str, values: &mut Vec<f64>| {
            if name == "AV" {
                values.fill(reference);
            }
        };
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join("in.npz"), npz(&with, wrong)).unwrap();
        let report = einflow_in(folder.path(), &arguments.split(' ').collect::<Vec<_>>()).json();
        let error = &report["outputs"][0]["error"];
        assert_eq!(error["finite"], false);
        assert_eq!(
            (error["absolute"].is_f64(), error["relative"].is_null()),
            (absolute, true)
        );
    }
}

/// Where few tiles stand between two updates, a running value waits in registers.
#[test]
fn a_running_value_may_wait_in_registers() {
    let line = "      \"RD\": [(memory: \"buffer\", below: \"p2\")],\n";
    let text = edited(mappings(), "fusemax-binding", &[(line, "")]);
    let folder = folder(&[("mine.ron", text)]);
    let run = |length: &str| {
        let arguments = [
            "run",
            "--model",
            "bert",
            "--length",
            length,
            "--mapping",
            "mine.ron",
        ];
        einflow_in(folder.path(), &arguments).code
    };
    assert_eq!([run("1K"), run("64K")], [0, 2]);
}
