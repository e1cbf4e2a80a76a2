//! Sweeps that are wrong, plots that cannot be drawn.

use super::*;

/// A sweep of +Binding for BERT at 1K.
fn sweep_file(axes: &str, rest: &str) -> String {
    format!(
        "(\n  name: \"mine\",\n  source: \"a test\",\n  base: (mapping: \"fusemax-binding\", model: \"bert\", length: \"1K\"),\n  axes: [\n    {axes},\n  ],\n{rest})\n"
    )
}

pub(super) fn sweep_cases() -> Vec<Case> {
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
