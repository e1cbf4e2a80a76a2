//! Wrong input: each mistake has a golden file with the command, its exit code and its message.
//!
//! `EINFLOW_BLESS=1 cargo test -p einflow --test cli` writes the files anew; read what changed before keeping it.

use std::{fmt::Write as _, io::Write as _};

use einflow::{runs::runs, validate::experiments};
use einflow_arch::accelerators;
use einflow_mappings::mappings;
use einflow_workloads::{cascades, models::models};
use zip::{ZipWriter, write::SimpleFileOptions};

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
    edited(mappings(), "fusemax-binding", changes)
}

fn one_pass(changes: &[(&str, &str)]) -> String {
    edited(cascades(), "attention/one-pass", changes)
}

const RUN: &str = "run --model bert --length 1K --mapping mine.ron";

fn cascade_cases() -> Vec<Case> {
    vec![
        case(
            "rank-typo",
            "passes mine.ron",
            &["mine.ron:11:26", "`n1`", "`m1`"],
        )
        .with(
            "mine.ron",
            one_pass(&[(
                "BK[e, m1, m0] = K[e, m1*M0 + m0]",
                "BK[e, m1, m0] = K[e, n1*M0 + m0]",
            )]),
        ),
        case(
            "missing-tensor",
            "passes mine.ron",
            &["mine.ron:", "SLDD", "did you mean `SLD`?"],
        )
        .with(
            "mine.ron",
            one_pass(&[("= SLD[m1, p] + SPD[m1, p]", "= SLDD[m1, p] + SPD[m1, p]")]),
        ),
        case(
            "later-coordinate",
            "describe mine.ron",
            &["mine.ron:", "RM"],
        )
        .with(
            "mine.ron",
            one_pass(&[(
                "exp(BQK[m1, m0, p] - RM[m1+1, p])",
                "exp(BQK[m1, m0, p] - RM[m1+2, p])",
            )]),
        ),
        case("ron-syntax", "passes mine.ron", &["mine.ron:8:13"]).with(
            "mine.ron",
            one_pass(&[("outputs: [\"AV[f, p]\"],", "outputs: [\"AV[f, p]\",")]),
        ),
        case(
            "several-mistakes",
            "passes mine.ron",
            &["mine.ron:1", "`QQ`", "`sorce`", "`expo`"],
        )
        .with(
            "mine.ron",
            one_pass(&[
                ("  source:", "  sorce:"),
                ("Q[e, p] * BK", "QQ[e, p] * BK"),
                ("PRM[m1, p]      = exp", "PRM[m1, p]      = expo"),
            ]),
        ),
        case(
            "no-such-cascade",
            "passes one-pas",
            &["one-pas", "did you mean `attention/one-pass`?"],
        ),
        case(
            "no-such-file",
            "passes nowhere/mine.ron",
            &["nowhere/mine.ron"],
        ),
    ]
}

/// FuseMax's chip with a text replaced everywhere.
fn chip(from: &str, to: &str) -> String {
    let text = accelerators().get("fusemax").unwrap().text().to_string();
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

/// Values that are stored nowhere, and words that no link carries.
fn home_cases() -> Vec<Case> {
    const LONG: &str = "run --model bert --length 64K --mapping mine.ron";
    const ON_MINE: &str =
        "run --model bert --length 1K --mapping fusemax-binding --accelerator mine.ron";
    const RUNNING: &str = "      \"RNV\": [(memory: \"buffer\", below: \"p2\")],\n";
    const DENOMINATOR: &str = "      \"RD\": [(memory: \"buffer\", below: \"p2\")],\n";
    vec![
        case("running-value-nowhere", LONG, &["mine.ron:", "RNV 16384", "`array1d`, which has 32", "keep RNV in a memory"])
            .with("mine.ron", binding(&[(RUNNING, "")])),
        case("running-value-nowhere-2", LONG, &["mine.ron:", "RD 128", "keep RD in a memory"])
            .with("mine.ron", binding(&[(DENOMINATOR, "")])),
        case("running-value-left", LONG, &["mine.ron:", "RNV is carried", "`array1d` is left at every `p1`"])
            .with("mine.ron", binding(&[(RUNNING, "      \"RNV\": [(memory: \"array1d\", below: \"p1\")],\n")])),
        case("input-in-registers", LONG, &["mine.ron:20:7", "Q 12582912", "which has 12"])
            .with("mine.ron", binding(&[("\"Q\": [(memory: \"buffer\", below: \"p2\")]", "\"Q\": [(memory: \"array2d\")]")])),
        case("waits-for-a-sum", "run --model bert --length 1M --mapping mine.ron", &["mine.ron:", "SN 4096", "which has 16"])
            .with("mine.ron", edited(mappings(), "unfused", &[("        \"SN\": [(memory: \"buffer\", below: \"p0\", in_place_of: \"QK\")],\n", "")])),
        case("from-registers-after-a-sum", LONG, &["mine.ron:", "SN 256", "which has 16"])
            .with("mine.ron", edited(mappings(), "unfused", &[(
                "\"A\": (unit: \"array1d\", columns: \"m0\", loops: [\"m1\"])",
                "\"A\": (unit: \"array1d\", columns: \"m0\", loops: [\"m1\"], from: {\"SN\": \"array1d\"})",
            )])),
        case("laid-otherwise", RUN, &["mine.ron:29:7", "LM takes BQK from the registers of array2d"])
            .with("mine.ron", binding(&[("\"LM\": (unit: \"array2d\", rows: \"m0\", columns: \"p0\")", "\"LM\": (unit: \"array2d\", rows: \"p0\", columns: \"m0\")")])),
        case("link-does-not-reduce", ON_MINE, &["fusemax-binding.ron:", "SLNV reduces over `m0`", "direction: down, reduce: true"])
            .with("mine.ron", chip(", reduce: true", "")),
        case("link-does-not-multicast", ON_MINE, &["BQK lays `m0` across the rows", "direction: right, multicast: true"])
            .with("mine.ron", chip(", multicast: true", "")),
        case("link-to-memory-missing", ON_MINE, &["no link of array1d goes there", "to: \"buffer\""])
            .with("mine.ron", chip("\"out\": (to: \"buffer\", direction: down),", "")),
        case("link-from-memory-missing", ON_MINE, &["no link of array1d comes from there"])
            .with("mine.ron", chip("\"in\": (from: \"buffer\", direction: up),", "")),
        case("link-crowded", RUN, &["mine.ron:", "SLN puts 256 words", "in a step of 7 cycles, which takes 7"])
            .with("mine.ron", binding(&[("      \"RD\": [(memory: \"buffer\"", "      \"BQK\": [(memory: \"buffer\", below: \"m1\")],\n      \"RD\": [(memory: \"buffer\"")])),
        case("overflows-outermost", ON_MINE, &["402653184 bytes of `dram`", "which has 1048576", "Q 100663296"])
            .with("mine.ron", chip("capacity: unbounded", "capacity: \"1 MiB\"")),
    ]
}

fn mapping_cases() -> Vec<Case> {
    vec![
        case("negative-size", RUN, &["mine.ron:11:11", "-256"])
            .with("mine.ron", binding(&[("\"M0\": \"array2d.rows\"", "\"M0\": -256")])),
        case("size-of-zero", RUN, &["mine.ron:11:"])
            .with("mine.ron", binding(&[("\"M0\": \"array2d.rows\"", "\"M0\": \"array2d.rows - 256\"")])),
        case(
            "overflows-buffer",
            "run --model bert --length 64K --mapping mine.ron",
            &["mine.ron:", "`buffer`", "16777216"],
        )
        .with("mine.ron", binding(&[("\"P1\": largest_divisor_that_fits", "\"P1\": 256")])),
        case("larger-than-array", RUN, &["mine.ron:", "BQK", "512", "256"])
            .with("mine.ron", binding(&[("\"M0\": \"array2d.rows\"", "\"M0\": \"2 * array2d.rows\"")])),
        case("operator-lacking", "run --model bert --length 1K --mapping fusemax-binding --accelerator flat", &[
            "LM", "`max`", "array2d", "fusemax-binding.ron:",
        ]),
        case("pipeline-offset", RUN, &["mine.ron:", "RM reads LM", "raise the pipeline offset of LM to 3"])
            .with("mine.ron", binding(&[("\"LM\": 3", "\"LM\": 2")])),
        case("given-twice", RUN, &["mine.ron:37:7", "`RD` is given twice"]).with(
            "mine.ron",
            binding(&[(
                "      \"SPNV\": (",
                "      \"RD\": (unit: \"array1d\", columns: \"p0\"),\n      \"SPNV\": (",
            )]),
        ),
        case("bound-twice", RUN, &["mine.ron:", "QK is bound twice"]).with(
            "mine.ron",
            edited(mappings(), "unfused", &[(
                "        \"SN\": (unit",
                "        \"QK\": (unit: \"array1d\", columns: \"m0\", loops: [\"m1\", \"e\"]),\n        \"SN\": (unit",
            )]),
        ),
        case("left-out", RUN, &["mine.ron:", "PRM"])
            .with("mine.ron", binding(&[("      \"PRM\": (unit: \"array1d\", columns: \"p0\"),\n", "")])),
        case("loop-unknown", RUN, &["mine.ron:18:35", "`pl`", "did you mean `p"])
            .with("mine.ron", binding(&[("[\"b\", \"h\", \"p2\", \"m1\", \"p1\"]", "[\"b\", \"h\", \"p2\", \"m1\", \"pl\"]")])),
        case("loop-upper-case", RUN, &["mine.ron:", "`p1`"])
            .with("mine.ron", binding(&[("[\"b\", \"h\", \"p2\", \"m1\", \"p1\"]", "[\"b\", \"h\", \"p2\", \"m1\", \"P1\"]")])),
        case("phase-einsum-unknown", RUN, &["mine.ron:", "SLNN", "`SLN`"])
            .with("mine.ron", binding(&[("einsums: [\"SLN\", \"SLD\", \"PRM\", \"SPD\"]", "einsums: [\"SLNN\", \"SLD\", \"PRM\", \"SPD\"]")])),
        case("interleave-einsum-unknown", RUN, &["mine.ron:", "SPNVV", "`SPNV`"])
            .with("mine.ron", binding(&[("[\"SPNV\", \"RNV\"]", "[\"SPNVV\", \"RNV\"]")])),
        case("size-cycle", RUN, &["mine.ron:12:", "P1"]).with(
            "mine.ron",
            binding(&[
                ("\"P0\": \"array2d.columns\"", "\"P0\": \"P1 * 2\""),
                ("\"P1\": largest_divisor_that_fits", "\"P1\": \"P0 / 2\""),
            ]),
        ),
        case("tensor-unknown", RUN, &["mine.ron:", "`BKK`", "`BK`"])
            .with("mine.ron", binding(&[("      \"BK\": [", "      \"BKK\": [")])),
        case("memory-unknown", RUN, &["mine.ron:", "`bufer`", "`buffer`"])
            .with("mine.ron", binding(&[("\"Q\": [(memory: \"buffer\"", "\"Q\": [(memory: \"bufer\"")])),
        case("field-unknown", RUN, &["mine.ron:", "`bellow`", "`below`"])
            .with("mine.ron", binding(&[("\"Q\": [(memory: \"buffer\", below", "\"Q\": [(memory: \"buffer\", bellow")])),
        case("rule-unknown", RUN, &["mine.ron:", "largest_divisor"])
            .with("mine.ron", binding(&[("largest_divisor_that_fits", "largest_divisor")])),
        case("workload-unknown", RUN, &["mine.ron:7:13", "attention/one-pas", "attention/one-pass"])
            .with("mine.ron", binding(&[("\"attention/one-pass\"", "\"attention/one-pas\"")])),
        case("several-mistakes-in-mapping", RUN, &["`xm0`", "`aray1d`", "`BVV`", "`SLNN`"]).with(
            "mine.ron",
            binding(&[
                ("\"BQK\": (unit: \"array2d\", rows: \"m0\"", "\"BQK\": (unit: \"array2d\", rows: \"xm0\""),
                ("\"RM\": (unit: \"array1d\"", "\"RM\": (unit: \"aray1d\""),
                ("      \"BV\": [", "      \"BVV\": ["),
                ("einsums: [\"SLN\",", "einsums: [\"SLNN\","),
            ]),
        ),
        case("flat-length", "run --model bert --length 3K --mapping flat", &["flat.ron:", "512, 1024, 2048, 4096, 8192", "1048576"]),
        case("flat-length-2", "run --model xlm --length 1000 --mapping flat", &["P may be", "1024"]),
        case("flat-table-missing", "run --model bert --length 1K --mapping mine.ron", &["mine.ron:", "choices.csv"])
            .with("mine.ron", edited(mappings(), "flat", &[("\"flat-choices.csv\"", "\"my-choices.csv\"")])),
        case("other-cascade", "run --model bert --length 1K --mapping fusemax-binding --workload attention/three-pass", &["QK, GM, SN, SD, A", "it maps attention/one-pass"]),
    ]
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
            &["cycel", "analytic"],
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
            edited(models(), "bert", &[("batch: 64", "batch: -64")]),
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

const LISTS: &str = "lengths: [\"1K\", \"64K\", \"256K\"]";

fn run_file_cases() -> Vec<Case> {
    let pipeline_ends = |changes: &[(&str, &str)]| edited(runs(), "pipeline-ends", changes);
    vec![
        case(
            "run-file-length",
            "compare mine.ron",
            &["mine.ron:8:", "17M"],
        )
        .with(
            "mine.ron",
            pipeline_ends(&[(LISTS, "lengths: [\"1K\", \"17M\", 0]")]),
        ),
        case(
            "run-file-mapping",
            "compare mine.ron",
            &["mine.ron:11:", "fusemax-bindin-run-on"],
        )
        .with(
            "mine.ron",
            pipeline_ends(&[
                (LISTS, "lengths: [\"1K\"]"),
                ("binding-run-on", "bindin-run-on"),
            ]),
        )
        .code(2),
        case(
            "run-file-model",
            "compare mine.ron",
            &["mine.ron:7:", "bret"],
        )
        .with(
            "mine.ron",
            pipeline_ends(&[("models: [\"bert\"]", "models: [\"bret\"]")]),
        ),
        case(
            "run-file-accelerator",
            "compare mine.ron",
            &["mine.ron:10:", "fusemx", "`fusemax`"],
        )
        .with(
            "mine.ron",
            pipeline_ends(&[(
                "(mapping: \"fusemax-binding\")",
                "(mapping: \"fusemax-binding\", accelerator: \"fusemx\")",
            )]),
        ),
        case(
            "run-file-set",
            "compare mine.ron",
            &["mine.ron:10:", "bufer"],
        )
        .with(
            "mine.ron",
            pipeline_ends(&[(
                "(mapping: \"fusemax-binding\")",
                "(mapping: \"fusemax-binding\", set: {\"memories.bufer.capacity\": 1048576})",
            )]),
        ),
        case("run-file-no-models", "compare mine.ron", &["mine.ron:1:", "nothing to run"])
            .with("mine.ron", "(name: \"m\", source: \"s\", models: [], lengths: [\"1K\"], runs: [(mapping: \"flat\")])"),
        case("run-file-empty", "compare mine.ron", &["mine.ron:"])
            .with("mine.ron", "(name: \"empty\", runs: [])"),
        case("run-file-is-a-mapping", "compare mine.ron", &["mine.ron:"])
            .with("mine.ron", binding(&[])),
    ]
}

fn experiment_cases() -> Vec<Case> {
    let attn = |changes: &[(&str, &str)]| edited(experiments(), "attn-binding", changes);
    let small = "model,seq_len,traffic,latency,util_2d,util_1d,energy,QK,SLN,SLD,SLNV,LM\nBERT,1024,402653184,lots,1,1,1,1,1,1,1,1\n";
    vec![
        case(
            "experiment-column",
            "validate mine.ron",
            &["mine.ron:", "`trafic`", "`traffic`"],
        )
        .with(
            "mine.ron",
            attn(&[("column: \"traffic\"", "column: \"trafic\"")]),
        ),
        case(
            "experiment-value",
            "validate mine.ron",
            &["mine.ron:", "`totl`", "`total`"],
        )
        .with(
            "mine.ron",
            attn(&[("\"dram_bytes.total\"", "\"dram_bytes.totl\"")]),
        ),
        case(
            "experiment-value-not-number",
            "validate mine.ron",
            &["mine.ron:", "bottleneck"],
        )
        .with(
            "mine.ron",
            attn(&[("\"dram_bytes.total\"", "\"bottleneck\"")]),
        ),
        case(
            "experiment-model-column",
            "validate mine.ron",
            &["mine.ron:", "`modell`", "`model`"],
        )
        .with(
            "mine.ron",
            attn(&[("model_column: \"model\"", "model_column: \"modell\"")]),
        ),
        case(
            "experiment-reference",
            "validate mine.ron",
            &["mine.ron:6:", "nothing.csv"],
        )
        .with(
            "mine.ron",
            attn(&[("data/fusemax/attn-binding.csv", "nothing.csv")]),
        ),
        case(
            "csv-not-a-number",
            "validate mine.ron",
            &["mine.csv:2:", "lots", "latency"],
        )
        .with(
            "mine.ron",
            attn(&[("data/fusemax/attn-binding.csv", "mine.csv")]),
        )
        .with("mine.csv", small),
        case(
            "experiment-mapping",
            "validate mine.ron",
            &["mine.ron:", "fusemax-bindin"],
        )
        .with(
            "mine.ron",
            attn(&[(
                "mapping: \"fusemax-binding\"",
                "mapping: \"fusemax-bindin\"",
            )]),
        ),
        case(
            "csv-no-rows",
            "validate mine.ron",
            &["mine.ron:6:", "no rows"],
        )
        .with(
            "mine.ron",
            attn(&[("data/fusemax/attn-binding.csv", "mine.csv")]),
        )
        .with("mine.csv", small.lines().next().unwrap_or_default()),
        case(
            "csv-cells",
            "validate mine.ron",
            &["mine.csv:2:", "columns"],
        )
        .with(
            "mine.ron",
            attn(&[("data/fusemax/attn-binding.csv", "mine.csv")]),
        )
        .with("mine.csv", small.replace("lots", "1,2")),
        case("experiment-kind", "validate mine.ron", &["mine.ron:5:"])
            .with("mine.ron", attn(&[("kind: table", "kind: tabel")])),
        case("out-of-bounds", "validate mine.ron", &[])
            .code(1)
            .with(
                "mine.ron",
                edited(
                    experiments(),
                    "attn-arch",
                    &[(
                        "accelerator: \"fusemax-artifact\"",
                        "accelerator: \"fusemax\"",
                    )],
                ),
            ),
    ]
}

/// A sweep of +Binding for BERT at 1K.
fn sweep_file(axes: &str, rest: &str) -> String {
    format!(
        "(\n  name: \"mine\",\n  source: \"a test\",\n  base: (mapping: \"fusemax-binding\", model: \"bert\", length: \"1K\"),\n  axes: [\n    {axes},\n  ],\n{rest})\n"
    )
}

fn sweep_cases() -> Vec<Case> {
    const SWEEP: &str = "sweep mine.ron --out out";
    const ROWS: &str = "(path: \"accelerator.arrays.array2d.rows\", values: [128, 256])";
    let with = |name, says, axes: &str, rest: &str| {
        case(name, SWEEP, says).with("mine.ron", sweep_file(axes, rest))
    };
    vec![
        with(
            "sweep-axis-path",
            &["mine.ron:6:12", "did you mean `arrays.array2d.rows`?"],
            "(path: \"accelerator.arrays.aray2d.rows\", values: [1])",
            "",
        ),
        with(
            "sweep-axis-mapping-path",
            &["mine.ron:6:12", "did you mean `sizes.P1`?"],
            "(path: \"mapping.sizes.P11\", values: [1])",
            "",
        ),
        with(
            "sweep-axis-head",
            &["mine.ron:6:12", "did you mean `length`?"],
            "(path: \"lenght\", values: [1])",
            "",
        ),
        with(
            "sweep-empty-axis",
            &["mine.ron:6:30", "at least one"],
            "(path: \"length\", values: [])",
            "",
        ),
        case("sweep-empty", SWEEP, &["mine.ron:1:", "a single run"]).with(
            "mine.ron",
            "(name: \"mine\", source: \"s\", base: (mapping: \"flat\"), axes: [])",
        ),
        with(
            "sweep-backwards",
            &["a range of no values"],
            "(path: \"length\", from: 4096, to: 1024, times: 2)",
            "",
        ),
        with(
            "sweep-unclear",
            &["which values"],
            "(path: \"length\", from: 4096)",
            "",
        ),
        with(
            "sweep-linked",
            &["has 3 values", "2"],
            "(linked: [(path: \"length\", values: [1, 2]), (path: \"sizes.B\", values: [1, 2, 3])])",
            "",
        ),
        with(
            "sweep-twice",
            &["varies twice"],
            &format!("{ROWS}, {ROWS}"),
            "",
        ),
        with(
            "sweep-where-name",
            &["mine.ron:8:12", "did you mean `area_mm2`?"],
            ROWS,
            "  where: [\"area_mm < 400\"],\n",
        ),
        with(
            "sweep-where-none",
            &["mine.ron:8:12", "all 2", "area_mm2 = "],
            ROWS,
            "  where: [\"area_mm2 < 4\"],\n",
        ),
        with(
            "sweep-until-never",
            &["never holds", "mine.ron:6:"],
            "(path: \"accelerator.memories.dram.bandwidth\", from: 1e9, to: 1e12, times: 2, until: \"seconds < 1e-9\")",
            "",
        ),
        with(
            "sweep-column",
            &["did you mean `energy_pj`?"],
            ROWS,
            "  columns: [\"energypj\"],\n",
        ),
        with(
            "sweep-front-text",
            &["`bottleneck` is no number"],
            ROWS,
            "  front: (minimize: [\"bottleneck\"]),\n",
        ),
        with(
            "sweep-model-number",
            &["model cannot be 3"],
            "(path: \"model\", values: [3])",
            "",
        ),
        case(
            "sweep-unwritable",
            "sweep lengths --out mine.ron/out",
            &["cannot write mine.ron/out"],
        )
        .with("mine.ron", "()"),
        case(
            "sweep-unknown",
            "sweep lenghts",
            &["did you mean `lengths`?"],
        ),
        case(
            "plot-unwritable",
            "run --model bert --length 1K --mapping flat --format csv --plot mine.ron/out",
            &["cannot draw", "mine.ron/out"],
        )
        .with("mine.ron", "()"),
    ]
}

/// One array as `.npy`.
fn npy(shape: &[usize], values: &[f64]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// An `.npz` file of small integers, one for each array: name and shape.
pub fn npz(arrays: &[(&str, &[usize])], change: impl Fn(&str, &mut Vec<f64>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, shape) in arrays {
        let mut values: Vec<f64> = (0..shape.iter().product())
            .map(|i| (i % 7) as f64 / 4.0)
            .collect();
        change(name, &mut values);
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default())
            .unwrap();
        zip.write_all(&npy(shape, &values)).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Q, K and V of four queries and eight keys.
pub const ARRAYS: [(&str, &[usize]); 3] = [("Q", &[2, 4]), ("K", &[2, 8]), ("V", &[3, 8])];

const EVAL: &str = "eval attention/one-pass --input in.npz --output out.npz --size M0=4";

/// Cases whose input is an `.npz` file.
fn eval_cases() -> Vec<(Case, Vec<u8>)> {
    let whole = || npz(&ARRAYS, |_, _| {});
    let nan = |name: &str, values: &mut Vec<f64>| {
        values[3] = if name == "Q" { f64::NAN } else { values[3] }
    };
    let truncated = |keep: usize| {
        let mut bytes = whole();
        bytes.truncate(keep);
        bytes
    };
    let longer: [(&str, &[usize]); 3] = [("Q", &[2, 4]), ("K", &[2, 8]), ("V", &[3, 9])];
    vec![
        (
            case("npz-truncated", EVAL, &["in.npz"]),
            truncated(whole().len() - 30),
        ),
        (case("npz-cut-in-array", EVAL, &["in.npz"]), truncated(100)),
        (case("npz-empty", EVAL, &["in.npz"]), Vec::new()),
        (
            case("npz-nan", EVAL, &["in.npz", "Q", "NaN", "--allow-nan"]),
            npz(&ARRAYS, nan),
        ),
        (
            case("npz-missing-array", EVAL, &["in.npz", "V"]),
            npz(&ARRAYS[..2], |_, _| {}),
        ),
        (
            case("npz-shapes", EVAL, &["`V`", "8", "9"]),
            npz(&longer, |_, _| {}),
        ),
        (
            case(
                "output-unwritable",
                "eval attention/one-pass --input in.npz --output no/such/out.npz --size M0=4",
                &["no/such/out.npz"],
            ),
            whole(),
        ),
        (
            case(
                "format-unknown",
                "eval attention/one-pass --input in.npz --number-format bf61",
                &["bf61", "`bf16`"],
            ),
            whole(),
        ),
        (
            case(
                "input-missing",
                "eval attention/one-pass --input other.npz",
                &["other.npz"],
            ),
            whole(),
        ),
        (
            case(
                "size-not-used",
                "eval attention/one-pass --input in.npz --size M3=4",
                &["M3"],
            ),
            whole(),
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
    cases.extend(none(run_file_cases()));
    cases.extend(none(experiment_cases()));
    cases.extend(none(sweep_cases()));
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
            // Nor does a plot that cannot be drawn.
            || case.name == "plot-unwritable";
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
