//! A decoder layer as the kernels that a framework launches for it, from the model's shape.

use einflow_arch::device::{Attention, Kernel};
use einflow_spec::Problems;
use einflow_workloads::models::Model;

use super::{Call, Launch, Step, Task};

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All tokens of prompts.
    Prefill,
    /// One token of each sequence, over its cache.
    Decode,
}

/// Bytes of a word.
const WORD: u64 = 2;

/// Kernels of a rotary embedding of queries and keys as frameworks write it without fusing: for each a product with the cosines, a
/// negation, a concatenation, a product with the sines, a sum.
const ROTARY_KERNELS: u64 = 5;

/// A model's shape by name.
pub fn model(name: &str) -> Result<Model, Problems> {
    Model::load(name, None)
}

pub(super) fn pass(law: &str, rows: u64, words: u64) -> Call {
    Call {
        law: law.into(),
        kernel: Kernel::Pass {
            rows,
            bytes: words.saturating_mul(WORD),
        },
        flushed: false,
    }
}

pub(super) fn product(m: u64, k: u64, n: u64) -> Call {
    Call {
        law: "product".into(),
        kernel: Kernel::Product { batch: 1, m, k, n },
        // A layer's weights were last used a layer's whole traffic ago.
        flushed: true,
    }
}

/// The kernels of an element-wise operation of `elementwise-graph-bf16.csv` on `rows` rows (4096 words wide; 14336 for `silu_mul`).
pub fn elementwise(op: &str, rows: u64) -> Vec<Call> {
    let words = rows.saturating_mul(4096);
    match op {
        "add" => vec![pass("pass", 1, 3 * words)],
        "copy" => vec![pass("pass", 1, 2 * words)],
        "rmsnorm" => vec![pass("pass:norm", rows, 2 * words)],
        _ => silu_mul(rows, 14336).into(),
    }
}

/// silu(y) * z: two kernels.
pub(super) fn silu_mul(rows: u64, width: u64) -> [Call; 2] {
    let words = rows.saturating_mul(width);
    [pass("pass", 1, 2 * words), pass("pass", 1, 3 * words)]
}

/// The three kernels of attention that is not fused: QK^T, softmax, AV.
pub fn unfused(heads: u64, width: u64, length: u64) -> [Call; 3] {
    let product = |m, k, n| Call {
        law: "product".into(),
        kernel: Kernel::Product {
            batch: heads,
            m,
            k,
            n,
        },
        flushed: true,
    };
    // A row of more than 1024 scores takes a block of threads, eight scores to a thread, 1024 threads at most. A unit holds 2048 threads;
    // a block's reductions take longer the more warps it has: as 1 + warps / 32, which is 2 for the largest.
    let rows = heads.saturating_mul(length);
    let waiting = match length {
        0..=1024 => 1,
        _ => {
            let threads = (length / 8).clamp(1, 1024);
            let (together, warps) = (2048 / threads, threads / 32);
            let waiting = (rows / together).saturating_mul(32 + warps) / 64;
            // Scores of wider heads spread further, and a board at its limit pays for that: measured, 1.1 to 1.4 times as long for 128
            // as for 64.
            waiting.saturating_mul(192 + width) / 256
        }
    };
    let scores = rows.saturating_mul(length);
    let mut softmax = pass("pass:softmax", waiting.max(1), 2 * scores);
    softmax.flushed = true;
    [
        product(length, width, length),
        softmax,
        product(length, length, width),
    ]
}

/// One decoder layer: `batch` sequences, `length` tokens each (prefill) or one token over `length` cached ones (decode).
pub fn layer(model: &Model, phase: Phase, batch: u64, length: u64, launch: Launch) -> Task {
    let (d, heads, keys, width) = (
        model.model_width,
        model.heads,
        model.key_heads,
        model.query_width,
    );
    let tokens = match phase {
        Phase::Prefill => batch.saturating_mul(length),
        Phase::Decode => batch,
    };
    let words = |width: u64| tokens.saturating_mul(width);
    let norm = || pass("pass:norm", tokens, 2 * words(d));
    let add = || pass("pass", 1, 3 * words(d));
    let mut calls = vec![norm(), product(tokens, d, (heads + 2 * keys) * width)];
    for rotated in [heads * width, keys * width] {
        for _ in 0..ROTARY_KERNELS {
            calls.push(pass("pass", 1, 2 * words(rotated)));
        }
    }
    // The new keys and values are copied into the cache.
    calls.extend([
        pass("pass", 1, 2 * words(keys * width)),
        pass("pass", 1, 2 * words(keys * width)),
    ]);
    let mut steps: Vec<Step> = calls.into_iter().map(Step::Call).collect();
    let shape = Attention {
        batch,
        heads,
        key_heads: keys,
        width,
        length,
        causal: phase == Phase::Prefill,
    };
    let (name, kernel) = match phase {
        Phase::Prefill => ("prefill", Kernel::Prefill(shape)),
        Phase::Decode => ("decode", Kernel::Decode(shape)),
    };
    // The framework takes the faster library.
    let backends = ["cudnn", "flash"].map(|backend| Call {
        law: format!("{name}:{backend}"),
        kernel,
        flushed: true,
    });
    steps.push(Step::Fastest(backends.into()));
    let mut rest = vec![
        product(tokens, heads * width, d),
        add(),
        norm(),
        product(tokens, d, 2 * model.feed_forward_width),
    ];
    rest.extend(silu_mul(tokens, model.feed_forward_width));
    rest.extend([product(tokens, model.feed_forward_width, d), add()]);
    steps.extend(rest.into_iter().map(Step::Call));
    Task {
        steps,
        launch,
        chained: true,
        events: false,
    }
}

/// The parts of a layer on one of `tp` devices among which its heads and feed-forward columns are divided, as columns of
/// `decoder-layer-llama2-70b.csv`.
///
/// # Errors
/// What the degree should be instead.
pub fn parts(model: &Model, tp: u64, tokens: u64) -> Result<Vec<(&'static str, Task)>, String> {
    if !model.key_heads.is_multiple_of(tp) {
        return Err(format!("a divisor of the {} key heads", model.key_heads));
    }
    let (d, width) = (model.model_width, model.query_width);
    let (heads, keys) = (model.heads / tp, model.key_heads / tp);
    let feed = model.feed_forward_width / tp;
    let words = |width: u64| tokens.saturating_mul(width);
    let library = |mut call: Call, part: &str| {
        call.law = format!("{}:{part}", call.law.split(':').next().unwrap_or(""));
        call.flushed = false;
        Task::alone(call, Launch::Eager)
    };
    let norm = || library(pass("pass", tokens, 2 * words(d)), "layernorm");
    Ok(vec![
        ("input_layernorm_us", norm()),
        (
            "attn_pre_proj_us",
            library(product(tokens, d, (heads + 2 * keys) * width), "layer"),
        ),
        (
            "attn_rope_us",
            library(pass("pass", 1, 2 * words((heads + keys) * width)), "rope"),
        ),
        (
            "attn_post_proj_us",
            library(product(tokens, heads * width, d), "layer"),
        ),
        ("post_attention_layernorm_us", norm()),
        (
            "mlp_up_proj_us",
            library(product(tokens, d, 2 * feed), "layer"),
        ),
        (
            "mlp_act_us",
            library(pass("pass", 1, 3 * words(feed)), "activation"),
        ),
        (
            "mlp_down_proj_us",
            library(product(tokens, feed, d), "layer"),
        ),
        ("add_us", library(pass("pass", 1, 3 * words(d)), "add")),
    ])
}
