//! Wrong scenarios.

use super::{Case, case};

const TRACE: &str = "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n1,100,101\n";

/// A scenario that is right, but for what is changed.
fn scenario(changes: &[(&str, &str)]) -> String {
    let mut text = r#"(
  name: "mine",
  source: "assumed",
  model: "llama3-70b",
  pools: {
    "model": (role: model, device: "h100", count: 2, link: "nvlink4", memory_utilization: 0.95),
    "attention": (role: attention, device: "h20", count: 4, partition: heads),
  },
  links: [(name: "network", between: ["model", "attention"], link: "ethernet-400g")],
  batches: 2,
  load: (trace: "trace.csv", arrivals: false),
)
"#
    .to_string();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

fn wrong(name: &'static str, says: &'static [&'static str], changes: &[(&str, &str)]) -> Case {
    case(name, "offload mine.ron", says)
        .with("mine.ron", scenario(changes))
        .with("trace.csv", TRACE)
}

pub(super) fn offload_cases() -> Vec<Case> {
    vec![
        wrong(
            "offload-heads-not-divided",
            &[
                "8 key heads of llama3-70b cannot be divided among 3 devices",
                "1, 2, 4, 8, 16, 32, 64 devices, beyond 8",
                "partition: requests",
            ],
            &[("count: 4", "count: 3")],
        ),
        wrong(
            "offload-kinds-of-layers",
            &[
                "attention of kimi-linear cannot be offloaded",
                "layers of several kinds",
                "attention over a latent",
                "linear attention: it has no cache",
            ],
            &[("llama3-70b", "kimi-linear")],
        ),
        wrong(
            "offload-model-too-large",
            &[
                "llama3-70b does not fit in the pool `model`",
                "141.1 GB for weights",
            ],
            &[("count: 2, link: \"nvlink4\"", "count: 1")],
        ),
        wrong(
            "offload-no-batches",
            &["a number of at least 1"],
            &[("batches: 2", "batches: 0")],
        ),
        wrong(
            "offload-replicas",
            &[
                "3 batches in flight over 1 replicas",
                "n - 1 replicas: 2 of them",
            ],
            &[
                ("batches: 2", "batches: 3"),
                ("link: \"nvlink4\"", "tensor_parallel: 2, link: \"nvlink4\""),
            ],
        ),
        wrong(
            "offload-link-named-twice",
            &["the link `network` is named twice"],
            &[(
                "links: [",
                "links: [(name: \"network\", between: [\"attention\", \"model\"], link: \"ideal\"), ",
            )],
        ),
        wrong(
            "offload-no-price",
            &["fusemax-hbm has no price", "price: 2.5"],
            &[("device: \"h20\"", "device: \"fusemax-hbm\"")],
        ),
        wrong(
            "offload-trace-column",
            &["trace.csv:1", "lacks `generated_tokens`"],
            &[],
        )
        .with("trace.csv", "arrival_s,prompt_tokens\n0,5\n"),
        wrong(
            "offload-trace-negative",
            &["row 2, field `prompt_tokens`: `-5`"],
            &[],
        )
        .with(
            "trace.csv",
            "arrival_s,prompt_tokens,generated_tokens\n0,-5,3\n",
        ),
        wrong(
            "offload-request-too-large",
            &[
                "trace.csv:3:1",
                "row 3: a request of 2000101 tokens",
                "the pool `attention` holds",
            ],
            &[],
        )
        .with(
            "trace.csv",
            "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n1,2000000,101\n",
        ),
        wrong(
            "offload-fixed-too-large",
            &["mine.ron:11:17", "5000 of them need 40960000 tokens of cache"],
            &[(
                "trace: \"trace.csv\", arrivals: false",
                "batch: 5000, context: 8192",
            )],
        ),
        wrong(
            "offload-does-nothing",
            &[
                "a partition of a pool that is not for attention",
                "`step_tokens` where no prompts are computed",
                "nothing travels between these pools",
            ],
            &[
                ("memory_utilization: 0.95", "partition: heads"),
                ("batches: 2", "step_tokens: 256, batches: 2"),
                ("links: [", "links: [(name: \"own\", between: [\"model\", \"model\"], link: \"ideal\"), "),
            ],
        ),
        wrong(
            "offload-library",
            &["h20 knows no `decode:vlm`", "it has: cudnn, flash, vllm"],
            &[("count: 4", "count: 4, library: \"vlm\"")],
        ),
        wrong(
            "offload-host-for-ever",
            &["a time from 0 to an hour"],
            &[("batches: 2", "host_overhead: \"1000000 s\", batches: 2")],
        ),
        wrong(
            "offload-all-too-long",
            &["every request is longer than `longest`"],
            &[("arrivals: false", "longest: 4")],
        ),
        case("offload-claim", "validate mine.ron", &["the lesser first", "a case or more"]).with(
            "mine.ron",
            r#"(
  name: "mine",
  source: "assumed",
  kind: claims,
  claims: [(claim: "more", claimed: [2, 1], metric: "mean_batch", tolerance: 0, reason: "none", cases: [])],
)
"#,
        ),
        wrong(
            "offload-words",
            &[
                "there is no role `atention`",
                "did you mean `attention`?",
                "there is no boundary `cores`",
                "a scenario has no field `batch`",
            ],
            &[
                ("role: attention", "role: atention"),
                ("batches: 2", "boundary: cores, batch: 2"),
            ],
        ),
        wrong(
            "offload-roles",
            &["nothing attends", "there is no pool `attention`"],
            &[(
                "    \"attention\": (role: attention, device: \"h20\", count: 4, partition: heads),\n",
                "",
            )],
        ),
        wrong(
            "offload-unknown-files",
            &["llama3-71b", "h21", "did you mean"],
            &[("llama3-70b", "llama3-71b"), ("\"h20\"", "\"h21\"")],
        ),
        wrong(
            "offload-not-joined",
            &[
                "no link joins the model's pool and attention's",
                "links: [(name",
            ],
            &[(
                "  links: [(name: \"network\", between: [\"model\", \"attention\"], link: \"ethernet-400g\")],\n",
                "",
            )],
        ),
        wrong(
            "offload-chunked-elsewhere",
            &["prompts in chunks where attention is offloaded"],
            &[("batches: 2", "prefill: chunked, batches: 2")],
        ),
        wrong(
            "offload-load",
            &["a load is a trace, or a fixed batch"],
            &[(
                "trace: \"trace.csv\", arrivals: false",
                "trace: \"trace.csv\", batch: 3",
            )],
        ),
        case(
            "offload-unknown",
            "offload lamina-71b",
            &["lamina-71b", "lamina-70b"],
        ),
        case("offload-nothing", "offload", &["<SCENARIO>", "Usage"]),
    ]
}
