//! Devices, tables of measurements and fits that are wrong.

use super::*;

const GEMM: &str = "m,k,n,us\n1,4096,4096,17.5\n64,4096,4096,18.9\n";

/// A device of measured products.
fn profiled(table: &str) -> String {
    format!(
        r#"(
    name: "mine",
    description: "measured",
    source: "assumed",
    chip: (source: "assumed", units: 132, matrix: "989 TFLOP/s", memory: "80 GB", bandwidth: "3 TB/s", cache: "50 MiB"),
    tables: ["{table}"],
)"#
    )
}

pub(super) fn device_cases() -> Vec<Case> {
    vec![
        case(
            "device-unknown",
            "predict --device h20O --table data/h200/gemm-bf16.csv",
            &["no device named `h20O`", "did you mean"],
        ),
        case(
            "table-missing-column",
            "predict --device h200 --table mine.csv",
            &["lacks `n`", "m, k, n, us"],
        )
        .with("mine.csv", "m,k,us\n1,4096,17.5\n"),
        case(
            "table-unknown",
            "predict --device h200 --table mine.csv",
            &["no table of measurements that is known"],
        )
        .with("mine.csv", "colour,taste\n1,2\n"),
        case(
            "table-wrong-cells",
            "predict --device h200 --table mine.csv",
            &[
                "row 2, field `us`: `-17.5` is not a number above 0",
                "row 3, field `m`: `0` is not a whole number, 1 or more",
                "row 4 has 3 fields, the header 4",
            ],
        )
        .with(
            "mine.csv",
            "m,k,n,us\n1,4096,4096,-17.5\n0,4096,4096,18\n1,2,3\n",
        ),
        case(
            "table-wrong-heads",
            "predict --device h200 --table mine.csv",
            &["row 2, field `hkv`: `5` is not a divisor of h, 32"],
        )
        .with("mine.csv", "backend,b,h,hkv,d,l,us\nflash,1,32,5,128,256,13.6\n"),
        case(
            "table-unknown-model",
            "predict --device h200 --table mine.csv",
            &["row 2, field `model`", "did you mean `llama3-8b`?"],
        )
        .with(
            "mine.csv",
            "model,phase,b,s,us_eager,us_graph\nllama3-8,decode,1,512,209,166\n",
        ),
        case(
            "table-two-gpus",
            "predict --device h200 --table mine.csv",
            &[
                "row 2, field `mode`: `split3` is not a way to divide the work",
                "model_only, attention_only, one_gpu, tp2, split1, split2",
                "row 3, field `b`: `0` is not a whole number, 1 or more",
            ],
        )
        .with(
            "mine.csv",
            "mode,b,l,layers,us\nsplit3,64,512,8,900\none_gpu,0,512,8,900\n",
        ),
        case(
            "two-gpus-for-ever",
            "predict --device h200 --table mine.csv",
            &["row 2: a step longer than a simulation lasts"],
        )
        .with(
            "mine.csv",
            "mode,b,l,layers,us\nsplit2,100000,131072,16000000,900\n",
        ),
        case(
            "two-gpus-of-an-unmeasured-device",
            "predict --device h100 --table mine.csv",
            &["row 2: h100 does not say how kernels follow one another in a graph"],
        )
        .with("mine.csv", "mode,b,l,layers,us\nmodel_only,64,512,8,900\n"),
        case(
            "table-wrong-degree",
            "predict --device h100 --table mine.csv",
            &["row 2, field `tp`: `3` is not a divisor of the 8 key heads"],
        )
        .with(
            "mine.csv",
            "device,tp,tokens,attn_pre_proj_us,mlp_up_proj_us\nh100_sxm,3,16,20,40\n",
        ),
        case(
            "table-of-other-devices",
            "predict --device h200 --table data/serving/gemm-bf16.csv",
            &["no row of h200", "l40s"],
        ),
        case(
            "profiled-outside-the-grid",
            "predict --device mine.ron --table asked.csv",
            &["beyond what mine has measured", "measured: 1 to 64"],
        )
        .with("mine.ron", profiled("mine.csv"))
        .with("mine.csv", GEMM)
        .with("asked.csv", "m,k,n,us\n128,4096,4096,19\n"),
        case(
            "profiled-unmeasured-shape",
            "predict --device mine.ron --table asked.csv",
            &["has not measured product of k=4096 n=512", "k=4096 n=4096"],
        )
        .with("mine.ron", profiled("mine.csv"))
        .with("mine.csv", GEMM)
        .with("asked.csv", "m,k,n,us\n1,4096,512,19\n"),
        case(
            "profiled-impossible-rows",
            "predict --device mine.ron --table mine.csv",
            &[
                "row 2, field `us`: 5 us is impossible on mine",
                "of the memory's 3.00 for 1074 MB",
                "row 3, field `us`",
                "of the 989 of its matrix units",
            ],
        )
        .with("mine.ron", profiled("mine.csv"))
        .with(
            "mine.csv",
            "m,k,n,us\n1,16384,32768,5\n4096,4096,4096,100\n",
        ),
        case(
            "device-without-a-price",
            "predict --device fusemax-hbm --table mine.csv --cost",
            &["fusemax-hbm has no price", "per_hour"],
        )
        .with("mine.csv", "backend,b,h,hkv,d,l,us\ncudnn,1,32,8,128,1024,16\n"),
        case(
            "accelerator-computes-attention",
            "predict --device fusemax-hbm --table mine.csv",
            &["row 2", "fusemax-hbm computes attention; this is none"],
        )
        .with("mine.csv", GEMM),
        case(
            "fit-too-few-rows",
            "fit --table mine.csv",
            &["2 measured times for the 8 parameters of `product`"],
        )
        .with("mine.csv", GEMM),
        case(
            "fit-several-devices",
            "fit --table data/serving/gemm-bf16.csv",
            &["rows of several devices", "--device", "a100_sxm"],
        ),
        case(
            "trace-missing-column",
            "replay trace.csv --device rtx4090 --model llama3-8b",
            &["lacks `generated_tokens`"],
        )
        .with("trace.csv", "arrival_s,prompt_tokens\n0,5\n"),
        case(
            "trace-wrong-cells",
            "replay trace.csv --device rtx4090 --model llama3-8b",
            &[
                "row 2, field `prompt_tokens`: `-5`",
                "row 4: it comes before the request that is listed before it",
            ],
        )
        .with(
            "trace.csv",
            "arrival_s,prompt_tokens,generated_tokens\n0,-5,3\n1,5,3\n0.5,5,3\n",
        ),
        case(
            "trace-larger-than-the-cache",
            "replay trace.csv --device rtx4090 --model llama3-8b --kv-blocks 10",
            &["row 3: a request of 200 tokens, and the pool `all` holds 144"],
        )
        .with(
            "trace.csv",
            "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n1,100,101\n",
        ),
        case(
            "model-too-large",
            "replay trace.csv --device l40s --model llama3-70b",
            &["llama3-70b does not fit in the pool `all`: each of 1 l40s needs 141.1 GB for weights"],
        )
        .with("trace.csv", "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n"),
        case(
            "device-file",
            "predict --device mine.ron --table mine.csv",
            &[
                "a number of units, 1 or more",
                "there is no law `gemm`",
                "has no field `prise`",
            ],
        )
        .with("mine.csv", GEMM)
        .with(
            "mine.ron",
            r#"(
    name: "mine",
    description: "wrong",
    source: "assumed",
    chip: (source: "assumed", units: 0, matrix: "989 TFLOP/s", memory: "80 GB", bandwidth: "3 TB/s", cache: "50 MiB"),
    prise: 3,
    laws: { "gemm": (source: "assumed") },
)"#,
        ),
        case(
            "device-two-answers",
            "predict --device mine.ron --table mine.csv",
            &["one way to say how long things take"],
        )
        .with("mine.csv", GEMM)
        .with(
            "mine.ron",
            profiled("mine.csv").replace("tables:", "laws: {},\n    tables:"),
        ),
        case(
            "device-parameter-out-of-range",
            "predict --device mine.ron --table mine.csv",
            &["4.5", "a parameter in its range", "floor"],
        )
        .with("mine.csv", GEMM)
        .with(
            "mine.ron",
            profiled("mine.csv").replace(
                "tables: [\"mine.csv\"]",
                "laws: { \"pass\": (source: \"assumed\", floor: -1, bandwidth: 4.5, ramp: 1, row: 1, cache_bandwidth: 2, cached: 1) }",
            ),
        ),
    ]
}
