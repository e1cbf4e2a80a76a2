//! Models that are wrong, or that something cannot do.

use super::*;

fn kimi(changes: &[(&str, &str)]) -> String {
    edited(shapes(), "kimi-linear", changes)
}

fn scenario(model: &str) -> String {
    format!(
        "(name: \"s\", source: \"assumed\", model: \"{model}\",\n pools: {{\"all\": (role: all, device: \"h100\", count: 1)}},\n load: (batch: full, context: 1024))"
    )
}

pub(super) fn model_cases() -> Vec<Case> {
    let wrong =
        |name, says, text: String| case(name, "describe mine.ron", says).with("mine.ron", text);
    vec![
        wrong(
            "model-kind-unknown",
            &[
                "mine.ron:19:",
                "there is no kind of layer `lattent`",
                "did you mean `latent`?",
            ],
            kimi(&[(
                "\"dense\", \"linear\", \"linear\", \"latent\"",
                "\"dense\", \"linear\", \"linear\", \"lattent\"",
            )]),
        ),
        wrong(
            "model-kind-unused",
            &["no layer is of the kind `wide`", "name it in `layers`"],
            kimi(&[(
                "\"dense\": (experts: ()),",
                "\"dense\": (experts: ()), \"wide\": (query_width: 256),",
            )]),
        ),
        wrong(
            "model-kinds-none",
            &[
                "there is no kind of layer `full`",
                "kinds: {\"name\": (...)}",
            ],
            edited(
                shapes(),
                "llama3-8b",
                &[("layers: 32", "layers: [(repeat: 32, of: \"full\")]")],
            ),
        ),
        wrong(
            "model-layers",
            &["has no field `off`", "did you mean `of`?", "a size of 0"],
            kimi(&[(
                "(repeat: 5, of: [",
                "(repeat: 0, of: \"latent\"), (repeat: 5, off: [",
            )]),
        ),
        wrong(
            "model-contradictions",
            &[
                "300 of 256 experts",
                "linear attention with a latent",
                "positions take 256 of a query's width of 192",
                "8 key heads of a latent for 32 query heads",
            ],
            kimi(&[
                ("active: 8", "active: 300"),
                (
                    "\"latent\": (linear: (), latent: (cache_rank: 512, rope_width: 64)",
                    "\"latent\": (key_heads: 8, latent: (cache_rank: 512, rope_width: 256)",
                ),
            ]),
        ),
        wrong(
            "model-no-feed-forward",
            &["the layers `dense` have neither experts nor a `feed_forward_width`"],
            kimi(&[("feed_forward_width: 9216, // of the dense layer", "")]),
        ),
        wrong(
            "model-format",
            &[
                "there is no number format `mxfp5`",
                "mxfp4 has blocks of its own",
                "or how many positions have an embedding",
            ],
            kimi(&[
                (
                    "formats: (state: f32)",
                    "formats: (weights: mxfp5, cache: (format: mxfp4, block: [16, 1], scale: f32))",
                ),
                ("positions: none", "positions: alibi"),
            ]),
        ),
        case(
            "model-rank-unsized",
            "run --model kimi-linear --length 1K --mapping fusemax-binding",
            &["no one size of `E`", "192 in `latent`", "--size E=N"],
        ),
        case(
            "model-end-to-end",
            "run --model deepseek-v3 --length 1K --mapping fusemax-binding --end-to-end",
            &["no one size of `D`", "a latent's products"],
        ),
        case(
            "model-experts-end-to-end",
            "run --model mixtral-8x7b --length 1K --mapping fusemax-binding --end-to-end",
            &["no one size of `S`", "that of each expert"],
        ),
        case(
            "model-not-served",
            "offload s.ron",
            &[
                "s.ron:1:",
                "weights of experts in f32, activations in f32, a cache in f64",
                "served are words of bf16 and narrower ones",
            ],
        )
        .with("s.ron", scenario("wide.ron"))
        .with(
            "wide.ron",
            edited(
                shapes(),
                "gpt-oss-20b",
                &[
                    ("name: \"gpt-oss-20b\"", "name: \"wide\""),
                    (
                        "experts: mxfp4",
                        "experts: f32, activations: f32, cache: f64",
                    ),
                ],
            ),
        ),
        case(
            "model-positions-too-few",
            "offload s.ron",
            &["a context of 4096 tokens, and gpt3-175b has 2048 positions"],
        )
        .with(
            "s.ron",
            scenario("gpt3-175b")
                .replace("count: 1", "count: 8, link: \"nvlink4\"")
                .replace("batch: full, context: 1024", "batch: 4, context: 4096"),
        ),
        case(
            "describe-devices",
            "describe fusemax --devices 8",
            &["no model"],
        ),
        case(
            "describe-devices-none",
            "describe llama3-8b --devices 0",
            &["0"],
        ),
        case(
            "describe-model-dot",
            "describe llama3-8b --format dot",
            &["a model has no graph"],
        ),
    ]
}
