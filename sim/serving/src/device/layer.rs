//! The decoder layer as the kernels that implementations launch for its operators.

use einflow_arch::device::{Attention, Kernel, Operands};
use einflow_spec::{Problem, Problems};
pub use einflow_workloads::layer::Phase;
use einflow_workloads::{
    layer::{Grouped, Layer, Mixer, Operator, Product, Shape, WORD_BYTES},
    models::{Formats, Model},
};

use super::{
    Call, Launch, Step, Task,
    formats::{law, narrowing, operands},
};

/// An implementation: which kernels it launches for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// A framework that fuses nothing.
    Framework,
    /// Without norms and rotary embedding, else as [`Lowering::Framework`]: what `offload-two-gpus.csv` measures.
    Bare,
    /// A server's graph: one pass for a normalisation with the residual sum, the rotary embedding with the write to the cache, the
    /// gate.
    Served,
    /// A kernel of a library for each operator: what `decoder-layer-llama2-70b.csv` measures.
    Library,
}

/// Kernels of a rotary embedding as frameworks write it without fusing: a product with the cosines, a negation, a concatenation, a
/// product with the sines, a sum.
const ROTARY_KERNELS: usize = 5;

impl Lowering {
    /// The kernels of an operator, but for attention: whose they are, and over which cache, is for the caller to say.
    /// A server narrows activations in a pass of its own before the products that take them so.
    pub fn kernels(self, operator: Operator, layer: &Layer) -> Vec<Call> {
        let multiplied = |call: Call| {
            let before = match self {
                Self::Served => narrowing(operator, layer),
                _ => None,
            };
            before.into_iter().chain([call]).collect()
        };
        let operands = operands(operator, layer);
        let map = match layer.shape(operator) {
            Shape::Product(shape) => return multiplied(product(shape, operands)),
            Shape::Grouped(shape) => {
                let drawn = shape.drawn().round() as u64;
                return multiplied(grouped(shape, drawn, operands));
            }
            Shape::Attention(_) | Shape::Recurrence(_) => return Vec::new(),
            Shape::Elementwise(map) => map,
        };
        let bytes = |words: u64| words.saturating_mul(WORD_BYTES);
        let latent = matches!(layer.mixer, Mixer::Latent(_));
        let moved = match (self, operator) {
            (Self::Framework, Operator::Rotary) if layer.rotary => {
                let kernels = map.maps.iter();
                kernels.flat_map(|w| [bytes(*w); ROTARY_KERNELS]).collect()
            }
            (Self::Bare, Operator::Norm | Operator::Rotary)
            | (Self::Served, Operator::Residual) => Vec::new(),
            (_, Operator::Rotary) if !layer.rotary => Vec::new(),
            // The rotary embedding writes to the cache, but for a latent, which it does not turn.
            (Self::Served, Operator::CacheWrite) if layer.rotary && !latent => Vec::new(),
            // Queries, keys and values are read, and written: to the cache but for the queries.
            (Self::Served, Operator::Rotary) if !latent => {
                let queries = bytes(layer.words(2 * layer.queries()));
                vec![queries.saturating_add(written(layer))]
            }
            (Self::Served, Operator::CacheWrite) => vec![written(layer)],
            (Self::Framework | Self::Bare, _) => map.maps.into_iter().map(bytes).collect(),
            (Self::Served | Self::Library, _) => vec![bytes(map.words)],
        };
        let law = match operator {
            Operator::Norm | Operator::LatentNorm => "pass:norm",
            _ => "pass",
        };
        let pass = |bytes| pass_of(law, map.rows, bytes);
        moved.into_iter().map(pass).collect()
    }

    /// The kernels of operators, one after another.
    pub fn all(self, operators: &[Operator], layer: &Layer) -> Vec<Call> {
        let kernels = operators.iter().map(|o| self.kernels(*o, layer));
        kernels.flatten().collect()
    }
}

/// Bytes that move where new keys and values, or latents, go to the cache: read as they were made, written as they are
/// kept.
fn written(layer: &Layer) -> u64 {
    let words = layer.cached();
    let kept = u64::try_from(layer.formats.cache.bytes(words, 1).0).unwrap_or(u64::MAX);
    layer.words(words.saturating_mul(WORD_BYTES).saturating_add(kept))
}

/// Element-wise operators in one pass that reads and writes what each of them does.
pub(crate) fn fused(operators: &[Operator], layer: &Layer) -> Call {
    let bytes = |operator: &Operator| match (operator, layer.shape(*operator)) {
        (Operator::CacheWrite, _) => written(layer),
        (_, Shape::Elementwise(map)) => map.words.saturating_mul(WORD_BYTES),
        _ => 0,
    };
    let bytes = operators.iter().map(bytes);
    pass_of("pass", 1, bytes.fold(0, u64::saturating_add))
}

/// A model by name, of which tables of measured layers can speak.
///
/// # Errors
/// As [`Model::load`]; parts of it that no framework's layer has here.
pub fn model(name: &str) -> Result<Model, Problems> {
    let model = Model::load(name, None)?;
    plain(&model)?;
    Ok(model)
}

/// Refuses a model of which some part is in no measured layer.
fn plain(model: &Model) -> Result<(), Problem> {
    let kinds = model.kinds();
    let any = |of: fn(&Model) -> bool| kinds.iter().any(|(_, _, model)| of(model));
    let parts = [
        (any(|m| m.latent.is_some()), "attention over a latent"),
        (any(|m| m.linear.is_some()), "linear attention"),
        (any(|m| m.window.is_some()), "windows"),
        (any(|m| m.sinks), "sinks"),
        (
            model.formats != Formats::default(),
            "words that are not bf16",
        ),
        (kinds.len() > 1, "layers of several kinds"),
    ];
    let parts: Vec<&str> = parts
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, part)| *part)
        .collect();
    if parts.is_empty() {
        return Ok(());
    }
    let message = format!(
        "tables of layers have no rows for parts of {}: {}",
        model.name,
        parts.join(", ")
    );
    Err(Problem::nowhere(message).help(format!(
        "their layers have grouped key heads with a feed-forward layer, all alike; `einflow describe {}` shows what it takes",
        model.name
    )))
}

/// A pass over words of memory, read and written.
pub(crate) fn pass(law: &str, rows: u64, words: u64) -> Call {
    pass_of(law, rows, words.saturating_mul(WORD_BYTES))
}

/// A pass over bytes of memory, read and written.
fn pass_of(law: &str, rows: u64, bytes: u64) -> Call {
    Call {
        law: law.into(),
        kernel: Kernel::Pass { rows, bytes },
        flushed: false,
    }
}

/// Copies words of memory.
pub(super) fn copy(words: u64) -> Call {
    pass("pass", 1, words.saturating_mul(2))
}

/// A product with weights; its activations and they are held so.
pub(crate) fn product(Product { m, k, n }: Product, operands: Operands) -> Call {
    Call {
        law: law("product", operands),
        kernel: Kernel::Product {
            batch: 1,
            m,
            k,
            n,
            operands,
        },
        // A layer's weights were last used a layer's whole traffic ago.
        flushed: true,
    }
}

/// Products with weights of their own, whose rows are spread evenly over so many of them; where each has as many as
/// there are tokens, one launch of a library for products of a shape.
pub(crate) fn grouped(shape: Grouped, with: u64, operands: Operands) -> Call {
    let Grouped {
        groups,
        rows,
        each,
        k,
        n,
    } = shape;
    if each == groups {
        return Call {
            law: law("product", operands),
            kernel: Kernel::Product {
                batch: groups,
                m: rows / groups.max(1),
                k,
                n,
                operands,
            },
            flushed: true,
        };
    }
    let with = with.max(1);
    let rows = (0..with).map(|at| rows / with + u64::from(at < rows % with));
    Call {
        law: law("grouped", operands),
        kernel: Kernel::Grouped {
            experts: groups,
            rows: rows.collect(),
            k,
            n,
            operands,
        },
        flushed: true,
    }
}

/// Attention of a layer's heads: `batch` sequences of `length` tokens; `causal` that of prompts, which a latent is
/// expanded for.
pub(crate) fn attention(layer: &Layer, batch: u64, length: u64, causal: bool) -> Kernel {
    let latent = matches!(layer.mixer, Mixer::Latent(_));
    let shape = Attention {
        batch,
        heads: layer.heads,
        key_heads: if latent { layer.heads } else { layer.key_heads },
        width: layer.query_width,
        value_width: layer.value_width,
        length,
        causal,
        cached: layer.formats.cache,
    };
    match causal {
        true => Kernel::Prefill(shape),
        false => Kernel::Decode(shape),
    }
}

/// The kernels of an element-wise operation of `elementwise-graph-bf16.csv` over the tokens of a layer.
pub fn elementwise(op: &str, layer: &Layer) -> Vec<Call> {
    let operator = match op {
        "copy" => return vec![copy(layer.words(layer.hidden))],
        "add" => Operator::Residual,
        "rmsnorm" => Operator::Norm,
        _ => Operator::Gate,
    };
    Lowering::Framework.kernels(operator, layer)
}

/// The three kernels of attention that is not fused: QK^T, softmax, AV.
pub fn unfused(heads: u64, width: u64, length: u64) -> [Call; 3] {
    let product = |m, k, n| Call {
        kernel: Kernel::Product {
            batch: heads,
            m,
            k,
            n,
            operands: Operands::WORDS,
        },
        ..product(Product { m, k, n }, Operands::WORDS)
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
    let (name, tokens) = match phase {
        Phase::Prefill => ("prefill", batch.saturating_mul(length)),
        Phase::Decode => ("decode", batch),
    };
    let layer = model.layer(tokens, 1);
    // The framework takes the faster library.
    let backends = ["cudnn", "flash"].map(|backend| Call {
        law: format!("{name}:{backend}"),
        kernel: attention(&layer, batch, length, phase == Phase::Prefill),
        flushed: true,
    });
    let mut steps = Vec::new();
    for operator in layer.operators(phase) {
        match operator {
            Operator::Attention => steps.push(Step::Fastest(backends.to_vec())),
            _ => {
                let calls = Lowering::Framework.kernels(operator, &layer);
                steps.extend(calls.into_iter().map(Step::Call));
            }
        }
    }
    Task {
        steps,
        launch,
        chained: true,
        events: false,
    }
}

/// Columns of `decoder-layer-llama2-70b.csv`, the operator of each, and what its library's kernel is called in laws.
const PARTS: [(&str, Operator, &str); 9] = [
    ("input_layernorm_us", Operator::Norm, "layernorm"),
    ("attn_pre_proj_us", Operator::QueryKeyValue, "layer"),
    ("attn_rope_us", Operator::Rotary, "rope"),
    ("attn_post_proj_us", Operator::Output, "layer"),
    ("post_attention_layernorm_us", Operator::Norm, "layernorm"),
    ("mlp_up_proj_us", Operator::GateUp, "layer"),
    ("mlp_act_us", Operator::Gate, "activation"),
    ("mlp_down_proj_us", Operator::Down, "layer"),
    ("add_us", Operator::Residual, "add"),
];

/// The parts of a layer on one of `tp` devices among which its heads and feed-forward columns are divided, by column.
///
/// # Errors
/// What the degree should be instead.
pub fn parts(model: &Model, tp: u64, tokens: u64) -> Result<Vec<(&'static str, Task)>, String> {
    if !model.key_heads.is_multiple_of(tp) {
        return Err(format!("a divisor of the {} key heads", model.key_heads));
    }
    let layer = model.layer(tokens, tp);
    let mut out = Vec::new();
    for (column, operator, library) in PARTS {
        for call in Lowering::Library.kernels(operator, &layer) {
            let family = call.law.split(':').next().unwrap_or("");
            let call = Call {
                law: format!("{family}:{library}"),
                flushed: false,
                ..call
            };
            out.push((column, Task::alone(call, Launch::Eager)));
        }
    }
    Ok(out)
}
