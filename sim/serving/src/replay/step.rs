//! What a step of a server takes: from tables measured in a server, or from a device's kernels.

use std::collections::BTreeMap;

use einflow_arch::device::{Attention, Kernel};
use einflow_spec::{Problem, Problems, quantity::Seconds};
use einflow_workloads::models::Model;

use super::schedule::Part;
use crate::{
    data::data,
    device::{
        Answerer, Call, Launch, Step, Task,
        cells::Cells,
        layer::{self, Phase},
    },
};

/// How long steps take.
pub enum StepModel {
    /// Layers and attention as measured in a server.
    Measured(Box<ServerTables>),
    /// Kernels of a device.
    Kernels(Box<(Answerer, Model)>),
}

/// What a step computes: decodes by their number and mean context, prompts chunk by chunk.
#[derive(Clone, Debug, Default, PartialEq)]
struct Load {
    tokens: u64,
    sampled: u64,
    /// Tokens, and those before them in the cache; the largest first.
    chunks: Vec<(f64, f64)>,
    decodes: f64,
    context: f64,
}

impl Load {
    fn of(parts: &[Part]) -> Self {
        let mut out = Self::default();
        let mut context = 0.0;
        for part in parts {
            out.tokens += part.tokens;
            out.sampled += u64::from(part.samples);
            if part.tokens == 1 && part.before > 0 {
                out.decodes += 1.0;
                context += (part.before + 1) as f64;
            } else {
                out.chunks.push((part.tokens as f64, part.before as f64));
            }
        }
        out.chunks
            .sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
        out.context = context / out.decodes.max(1.0);
        out
    }
}

/// Times over one coordinate.
type Line = BTreeMap<u64, f64>;

/// Tables of one model on one device, in microseconds.
pub struct ServerTables {
    layers: u64,
    dense: BTreeMap<String, Line>,
    sequences: BTreeMap<String, Line>,
    /// By chunk, tokens before it, decodes, and their context.
    attention: BTreeMap<[u64; 4], f64>,
    axes: [Vec<u64>; 4],
}

/// Layers of a decoder block, once or twice in it; the rest run once in a step.
const BLOCK: [(&str, f64); 8] = [
    ("layernorm", 2.0),
    ("qkv_proj", 1.0),
    ("rotary_emb", 1.0),
    ("o_proj", 1.0),
    ("gate_up_proj", 1.0),
    ("act_fn", 1.0),
    ("down_proj", 1.0),
    ("attention", 1.0),
];
const ONCE: [&str; 2] = ["embedding", "final_layernorm"];
const SAMPLING: [&str; 2] = ["lm_head", "sampler"];

/// Linear between measured points, and on by the last two beyond them.
fn along(line: &Line, x: f64) -> f64 {
    let below = line.range(..=(x.floor() as u64)).next_back();
    let above = line.range((x.ceil() as u64)..).next();
    let pair = match (below, above) {
        (Some(a), Some(b)) => (a, b),
        (Some(_), None) => {
            let mut ends = line.iter().rev();
            match (ends.next(), ends.next()) {
                (Some(b), Some(a)) => (a, b),
                (Some(a), None) => (a, a),
                _ => return f64::NAN,
            }
        }
        (None, Some(b)) => (b, b),
        (None, None) => return f64::NAN,
    };
    let ((x0, y0), (x1, y1)) = pair;
    if x0 == x1 {
        return *y0;
    }
    y0 + (y1 - y0) * (x - *x0 as f64) / (*x1 as f64 - *x0 as f64)
}

impl ServerTables {
    /// Reads `dense.csv`, `per_sequence.csv` and `attention.csv` of a folder of the embedded set.
    ///
    /// # Errors
    /// A table that is not there, and every wrong cell.
    pub fn load(folder: &str, layers: u64) -> Result<Self, Problems> {
        let lines = |file: &str, column: &str| -> Result<BTreeMap<String, Line>, Problems> {
            let cells = Cells::read(&data(&format!("{folder}/{file}"), None)?)?;
            let mut problems = cells.problems.clone();
            let mut out: BTreeMap<String, Line> = BTreeMap::new();
            for row in &cells.rows {
                let read = cells
                    .size(row, column)
                    .and_then(|x| Ok((x, cells.measured(row, "time_us")?)));
                if let Some((x, Some(us))) = problems.absorb(read.map_err(Problems::from)) {
                    let line = out.entry(cells.text(row, "layer").to_string()).or_default();
                    line.insert(x, us);
                }
            }
            problems.into_result(Some(out))
        };
        let dense = lines("dense.csv", "tokens")?;
        let sequences = lines("per_sequence.csv", "sequences")?;
        let cells = Cells::read(&data(&format!("{folder}/attention.csv"), None)?)?;
        let mut problems = cells.problems.clone();
        let (mut attention, mut axes) = (BTreeMap::new(), [const { Vec::new() }; 4]);
        let names = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"];
        for row in &cells.rows {
            let mut at = [0; 4];
            for (value, name) in at.iter_mut().zip(names) {
                let text = cells.text(row, name);
                match text.parse::<u64>() {
                    Ok(number) => *value = number,
                    Err(_) => {
                        problems.push(cells.wrong(row, name, text, "a whole number"));
                    }
                }
            }
            let us = cells.measured(row, "time_us").map_err(Problems::from);
            if let Some(Some(us)) = problems.absorb(us) {
                attention.insert(at, us);
                for (axis, value) in axes.iter_mut().zip(at) {
                    axis.push(value);
                }
            }
        }
        for axis in &mut axes {
            axis.sort_unstable();
            axis.dedup();
        }
        problems.into_result(Some(Self {
            layers,
            dense,
            sequences,
            attention,
            axes,
        }))
    }

    /// Attention of a step. Tables mix one chunk with decodes; further chunks add what they take alone beyond the smallest launch.
    fn attention(&self, load: &Load) -> f64 {
        let (chunk, before) = load.chunks.first().copied().unwrap_or_default();
        let least = self.axes[0].iter().find(|c| **c > 0);
        let least = least.map_or(0.0, |c| self.mixed([*c as f64, 0.0, 0.0, 0.0]));
        let others: f64 = load
            .chunks
            .iter()
            .skip(1)
            .map(|(chunk, before)| (self.mixed([*chunk, *before, 0.0, 0.0]) - least).max(0.0))
            .sum();
        self.mixed([chunk, before, load.decodes, load.context]) + others
    }

    /// Attention of a chunk, the tokens before it, decodes and their context: linear in each between the measured points around.
    fn mixed(&self, point: [f64; 4]) -> f64 {
        // A coordinate of what there is none of is 0; what there is some of does not lean on what there is none of.
        let mut corners: Vec<([u64; 4], f64)> = vec![([0; 4], 1.0)];
        for (axis, x) in point.into_iter().enumerate() {
            let present = match axis {
                0 | 1 => point[0] > 0.0,
                _ => point[2] > 0.0,
            };
            let least = if axis == 1 { 0 } else { 1 };
            let values: Vec<u64> = self.axes[axis]
                .iter()
                .copied()
                .filter(|v| if present { *v >= least } else { *v == 0 })
                .collect();
            let Some(first) = values.first() else {
                return f64::NAN;
            };
            let (a, b, share) = if x <= *first as f64 {
                (*first, *first, 0.0)
            } else {
                let at = values
                    .partition_point(|v| (*v as f64) < x)
                    .min(values.len() - 1);
                let (a, b) = (values[at.saturating_sub(1)], values[at]);
                (a, b, (x - a as f64) / (b - a).max(1) as f64)
            };
            corners = corners
                .into_iter()
                .flat_map(|(mut low, weight)| {
                    let mut high = low;
                    (low[axis], high[axis]) = (a, b);
                    [(low, weight * (1.0 - share)), (high, weight * share)]
                })
                .filter(|(_, weight)| *weight != 0.0)
                .collect();
        }
        corners
            .into_iter()
            .map(|(at, weight)| weight * self.nearest(at))
            .sum()
    }

    /// A measured point; where the table lacks it, that of fewer decodes, scaled by their number.
    fn nearest(&self, at: [u64; 4]) -> f64 {
        if let Some(us) = self.attention.get(&at) {
            return *us;
        }
        let fewer = self.axes[2].iter().rev().filter(|n| **n < at[2] && **n > 0);
        for n in fewer {
            let other = [at[0], at[1], *n, at[3]];
            if let Some(us) = self.attention.get(&other) {
                return us * at[2] as f64 / *n as f64;
            }
        }
        f64::NAN
    }

    fn us(&self, load: &Load) -> f64 {
        let dense = |name: &str| {
            self.dense
                .get(name)
                .map_or(f64::NAN, |l| along(l, load.tokens as f64))
        };
        let block: f64 = BLOCK
            .iter()
            .map(|(name, times)| match *name {
                "attention" => times * self.attention(load),
                name => times * dense(name),
            })
            .sum();
        let once: f64 = ONCE.iter().map(|name| dense(name)).sum();
        let sampling: f64 = match load.sampled {
            0 => 0.0,
            n => SAMPLING
                .iter()
                .map(|name| {
                    self.sequences
                        .get(*name)
                        .map_or(f64::NAN, |l| along(l, n as f64))
                })
                .sum(),
        };
        block * self.layers as f64 + once + sampling
    }
}

impl StepModel {
    /// What a step takes.
    ///
    /// # Errors
    /// A kernel of which the device's file says nothing.
    pub fn time(&self, parts: &[Part]) -> Result<Seconds, Problem> {
        let load = Load::of(parts);
        match self {
            StepModel::Measured(tables) => Ok(Seconds(tables.us(&load) * 1e-6)),
            StepModel::Kernels(of) => {
                let (answerer, model) = of.as_ref();
                kernels(answerer, model, &load)
            }
        }
    }
}

/// A step from a device's kernels: the layer's, over all tokens; attention of decodes and of chunks apart.
fn kernels(answerer: &Answerer, model: &Model, load: &Load) -> Result<Seconds, Problem> {
    let decode = layer::layer(
        model,
        Phase::Decode,
        load.tokens,
        load.context.round().max(1.0) as u64,
        Launch::Graph,
    );
    let mut steps: Vec<Step> = Vec::new();
    for step in decode.steps {
        let Step::Fastest(_) = &step else {
            steps.push(step);
            continue;
        };
        let shape = |batch: f64, length: f64, causal| Attention {
            batch: batch.round().max(1.0) as u64,
            heads: model.heads,
            key_heads: model.key_heads,
            width: model.query_width,
            length: length.round().max(1.0) as u64,
            causal,
        };
        let fastest = |name: &str, kernel: Kernel| {
            Step::Fastest(
                ["cudnn", "flash"]
                    .map(|backend| Call {
                        law: format!("{name}:{backend}"),
                        kernel,
                        flushed: true,
                    })
                    .into(),
            )
        };
        if load.decodes > 0.0 {
            let kernel = Kernel::Decode(shape(load.decodes, load.context, false));
            steps.push(fastest("decode", kernel));
        }
        if !load.chunks.is_empty() {
            // A chunk of c queries over b + c keys has c (c + 2 b) / 2 scores: those of a causal prompt of this length.
            let scores = load.chunks.iter().map(|(c, b)| c * (c + 2.0 * b));
            let length = scores.sum::<f64>().sqrt();
            let kernel = Kernel::Prefill(shape(1.0, length, true));
            steps.push(fastest("prefill", kernel));
        }
    }
    let block = Task {
        steps,
        launch: Launch::Graph,
        chained: true,
        events: false,
    };
    let layers = model.layers.unwrap_or(1) as f64;
    let mut time = answerer.time(&block)?.time * layers;
    if let (Some(words), true) = (model.vocabulary, load.sampled > 0) {
        let head = Call {
            law: "product".into(),
            kernel: Kernel::Product {
                batch: 1,
                m: load.sampled,
                k: model.model_width,
                n: words,
            },
            flushed: true,
        };
        let task = Task {
            chained: true,
            ..Task::alone(head, Launch::Graph)
        };
        time += answerer.time(&task)?.time;
    }
    Ok(time)
}
