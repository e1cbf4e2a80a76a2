//! Cascades and mappings that are wrong.

use super::*;

const RUN: &str = "run --model bert --length 1K --mapping mine.ron";

pub(super) fn cascade_cases() -> Vec<Case> {
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
pub(super) fn home_cases() -> Vec<Case> {
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
            .with("mine.ron", edited(shipped(), "unfused", &[("        \"SN\": [(memory: \"buffer\", below: \"p0\", in_place_of: \"QK\")],\n", "")])),
        case("from-registers-after-a-sum", LONG, &["mine.ron:", "SN 256", "which has 16"])
            .with("mine.ron", edited(shipped(), "unfused", &[(
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
        case("overflows-outermost", ON_MINE, &["402653184 bytes of `dram`", "which has 1048576", "Q 100663296"])
            .with("mine.ron", chip("capacity: unbounded", "capacity: \"1 MiB\"")),
    ]
}

pub(super) fn mapping_cases() -> Vec<Case> {
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
            edited(shipped(), "unfused", &[(
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
            .with("mine.ron", edited(shipped(), "flat", &[("\"flat-choices.csv\"", "\"my-choices.csv\"")])),
        case("other-cascade", "run --model bert --length 1K --mapping fusemax-binding --workload attention/three-pass", &["QK, GM, SN, SD, A", "it maps attention/one-pass"]),
    ]
}
