//! Wrong input: each mistake has a golden file with the command, its exit code and its message.
//!
//! `EINFLOW_BLESS=1 cargo test -p einflow --test cli` writes the files anew; read what changed before keeping it.

mod devices;
mod eval;
mod files;
mod mappings;
mod models;
mod offload;
mod sweeps;

use std::{fmt::Write as _, io::Write as _};

use einflow::{runs::runs, validate::experiments};
use einflow_arch::accelerators;
use einflow_mappings::mappings as shipped;
use einflow_workloads::{cascades, models::models as shapes};
use zip::{ZipWriter, write::SimpleFileOptions};

use self::mappings::{cascade_cases, home_cases, mapping_cases};
use self::models::model_cases;
use devices::device_cases;
use eval::eval_cases;
pub use eval::{ARRAYS, npz};
use files::{experiment_cases, run_file_cases};
use offload::offload_cases;
use sweeps::sweep_cases;

use crate::support::{differs, edited, einflow_in, folder, stale};

/// A mistake.
struct Case {
    /// The golden file's name.
    name: &'static str,
    /// Arguments, split at spaces.
    arguments: &'static str,
    /// Files of the folder in which the command runs.
    files: Vec<(&'static str, String)>,
    /// The exit code.
    code: i32,
    /// What the message must contain, whatever the golden file says.
    says: &'static [&'static str],
}

fn case(name: &'static str, arguments: &'static str, says: &'static [&'static str]) -> Case {
    Case {
        name,
        arguments,
        files: Vec::new(),
        code: 2,
        says,
    }
}

impl Case {
    fn with(mut self, file: &'static str, text: impl Into<String>) -> Self {
        self.files.push((file, text.into()));
        self
    }

    fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }
}

fn binding(changes: &[(&str, &str)]) -> String {
    edited(shipped(), "fusemax-binding", changes)
}

fn one_pass(changes: &[(&str, &str)]) -> String {
    edited(cascades(), "attention/one-pass", changes)
}

fn command_cases() -> Vec<Case> {
    vec![
        case(
            "explain-unknown",
            "explain fusemax-bindng",
            &["mapping or run", "did you mean `fusemax-binding`?"],
        ),
        case(
            "explain-unknown-run",
            "explain pipeline-end",
            &["mapping or run", "did you mean `pipeline-ends`?"],
        ),
        case(
            "explain-several-runs",
            "explain pipeline-ends",
            &[
                "pipeline-ends holds 9 runs",
                "einflow explain fusemax-binding",
            ],
        ),
        case(
            "explain-run-and-options",
            "explain attention --model bert",
            &["leave out --model"],
        ),
        case(
            "explain-several-mistakes",
            "explain flat --length 0 --size M --engine analitic",
            &["length of 0", "not a size", "`analytic`"],
        ),
        case(
            "explain-no-choice",
            "explain flat --length 3K",
            &["flat-choices.csv"],
        ),
        case(
            "trace-without-cycle",
            "run --model bert --length 1K --mapping fusemax-binding --trace trace.json",
            &["--engine cycle"],
        ),
        case(
            "trace-window",
            "run --model bert --length 1K --mapping fusemax-binding --engine cycle --trace trace.json --trace-window 20..10",
            &["20..10"],
        ),
        case(
            "trace-unwritable",
            "run --model bert --length 1K --mapping fusemax-binding --engine cycle --format csv --trace mine.ron/trace.json",
            &["cannot write the trace", "mine.ron/trace.json"],
        )
        .with("mine.ron", "()"),
        case(
            "length-0",
            "run --model bert --length 0 --mapping fusemax-binding",
            &["0", "16777216"],
        ),
        case(
            "length-above",
            "run --model bert --length 16777217 --mapping fusemax-binding",
            &["16777217", "2^24"],
        ),
        case(
            "length-not",
            "run --model bert --length 1.5K --mapping fusemax-binding",
            &["1.5K"],
        ),
        case(
            "length-missing",
            "run --model bert --mapping fusemax-binding",
            &["--length"],
        ),
        case(
            "size-not",
            "run --model bert --length 1K --mapping fusemax-binding --size B=-1",
            &["B=-1"],
        ),
        case(
            "size-unknown",
            "run --model bert --length 1K --mapping fusemax-binding --size BB=1",
            &["BB"],
        ),
        case(
            "accelerator-unknown",
            "run --model bert --length 1K --mapping fusemax-binding --accelerator fusemx",
            &["did you mean `fusemax`?"],
        ),
        case(
            "mapping-unknown",
            "run --model bert --length 1K --mapping fusemax-bindin",
            &["did you mean `fusemax-binding`?"],
        ),
        case(
            "model-unknown",
            "run --model bret --length 1K --mapping fusemax-binding",
            &["did you mean `bert`?"],
        ),
        case(
            "mapping-missing",
            "run --model bert --length 1K",
            &["--mapping", "fusemax-binding"],
        ),
        case(
            "engine-unknown",
            "run --model bert --length 1K --mapping fusemax-binding --engine cycel",
            &["cycel", "did you mean `cycle`?"],
        ),
        case(
            "several-names-unknown",
            "run --model bret --length 1K --mapping fusemax-binding --accelerator fusemx",
            &["`bert`", "`fusemax`"],
        ),
        case(
            "compare-unknown",
            "compare atention",
            &["did you mean `attention`?"],
        ),
        case(
            "describe-unknown",
            "describe fusemx",
            &["did you mean `fusemax`?"],
        ),
        case("describe-dot", "describe fusemax --format dot", &["graph"]),
        case(
            "validate-unknown",
            "validate attn-bindin",
            &["did you mean `attn-binding`?"],
        ),
        case(
            "library-name-with-extension",
            "run --model bert --length 1K --mapping fusemax-binding.ron",
            &["no file", "named `fusemax-binding`"],
        ),
        case(
            "size-twice",
            "run --model bert --length 1K --mapping fusemax-binding --size B=1 --size B=2",
            &["B is given as 1 and as 2"],
        ),
        case(
            "size-zero",
            "eval attention/one-pass --input in.npz --size M0=0",
            &["at least 1"],
        ),
        case(
            "length-negative",
            "run --model bert --length -5 --mapping fusemax-binding",
            &["-5", "16777216"],
        ),
        case(
            "published-on-another",
            "run --model bert --length 1K --mapping flat --accelerator fusemax --accounting published",
            &["both given"],
        ),
        case(
            "layers-twice",
            "run --model bert --length 1K --mapping ffn --end-to-end",
            &["ffn", "end to end"],
        ),
        case("command-unknown", "comapre", &["compare"]),
        case("option-unknown", "compare --foramt json", &["--format"]),
        case("list-unknown", "list mapings", &["mappings"]),
        case(
            "run-with-several",
            "run pipeline-ends",
            &["9 runs", "einflow compare pipeline-ends"],
        ),
        case(
            "run-file-and-options",
            "run pipeline-ends --model bert",
            &["--model"],
        ),
        case(
            "model-negative",
            "run --model mine.ron --length 1K --mapping fusemax-binding",
            &["mine.ron:5:10", "-64"],
        )
        .with(
            "mine.ron",
            edited(shapes(), "bert", &[("batch: 64", "batch: -64")]),
        ),
        case("accelerator-wrong", "describe mine.ron", &["mine.ron:"]).with(
            "mine.ron",
            edited(
                accelerators(),
                "fusemax",
                &[("capacity: \"16 MiB\"", "capacity: \"16 MiBi\"")],
            ),
        ),
    ]
}

#[test]
fn every_mistake() {
    let none = |cases: Vec<Case>| cases.into_iter().map(|c| (c, None)).collect::<Vec<_>>();
    let mut cases = none(cascade_cases());
    cases.extend(none(mapping_cases()));
    cases.extend(none(home_cases()));
    cases.extend(none(command_cases()));
    cases.extend(none(model_cases()));
    cases.extend(none(run_file_cases()));
    cases.extend(none(experiment_cases()));
    cases.extend(none(sweep_cases()));
    cases.extend(none(device_cases()));
    cases.extend(none(offload_cases()));
    cases.extend(eval_cases().into_iter().map(|(c, bytes)| (c, Some(bytes))));
    let (mut wrong, mut names) = (Vec::new(), Vec::new());
    for (case, npz) in cases {
        let folder = folder(&case.files);
        if let Some(npz) = npz {
            std::fs::write(folder.path().join("in.npz"), npz).unwrap();
        }
        let ran = einflow_in(
            folder.path(),
            &case.arguments.split_whitespace().collect::<Vec<_>>(),
        );
        let mut text = format!("$ einflow {}\nexit code {}\n", case.arguments, ran.code);
        for (name, content) in [("output", &ran.stdout), ("errors", &ran.stderr)] {
            if !content.is_empty() {
                let _ = write!(text, "\n{name}:\n{content}");
            }
        }
        let file = format!("{}.txt", case.name);
        assert!(!names.contains(&file), "{file}: two cases");
        wrong.extend(differs(&format!("errors/{file}"), &text));
        // A golden file can be blessed by mistake; these cannot.
        if ran.code != case.code {
            wrong.push(format!(
                "{}: exit code {} where {} was expected",
                case.name, ran.code, case.code
            ));
        }
        // A mapping that is refused among others does not keep the others from being shown.
        let partial = case.name == "run-file-mapping"
            || case.name == "run-file-accelerator"
            || case.name == "run-file-set"
            // Nor does a plot or a trace that cannot be written.
            || case.name == "plot-unwritable"
            || case.name == "trace-unwritable";
        if !partial && ran.stdout.is_empty() != (ran.code == 2) {
            wrong.push(format!("{}: standard output\n{}", case.name, ran.stdout));
        }
        let unwrapped = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for piece in case.says {
            if !unwrapped.contains(piece) {
                wrong.push(format!(
                    "{}: {piece:?} is missing from\n{}",
                    case.name, ran.stderr
                ));
            }
        }
        if ran.stderr.contains('\u{1b}') || ran.stderr.contains("panicked") {
            wrong.push(format!("{}: {}", case.name, ran.stderr));
        }
        names.push(file);
    }
    let stale = stale("errors", &names);
    assert!(stale.is_empty(), "golden files without a case: {stale:?}");
    assert!(
        wrong.is_empty(),
        "{}\n(EINFLOW_BLESS=1 writes what was found)",
        wrong.join("\n\n")
    );
}
