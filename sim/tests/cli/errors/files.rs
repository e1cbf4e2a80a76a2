//! Run files and experiments that are wrong.

use super::*;

const LISTS: &str = "lengths: [\"1K\", \"64K\", \"256K\"]";

pub(super) fn run_file_cases() -> Vec<Case> {
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

pub(super) fn experiment_cases() -> Vec<Case> {
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
            "experiment-systolic",
            "validate mine.ron",
            &["mine.csv:2:", "`dataflow`", "mine.csv:3:", "`rows`"],
        )
        .with(
            "mine.ron",
            edited(
                experiments(),
                "systolic",
                &[("data/scale-sim/systolic.csv", "mine.csv")],
            ),
        )
        .with(
            "mine.csv",
            "dataflow,rows,columns,m,n,k,cycles\nrow,32,32,8,8,8,1\noutput,-4,32,8,8,8,1\n",
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
