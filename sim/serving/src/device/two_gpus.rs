//! A decode step of a model over two devices of one host: what `offload-two-gpus.csv` measures, as the kernels and messages that its
//! README names.
//!
//! No norms, rotary embedding or head. A layer's products: q, k and v in one, the output, gate and up in one, down. Attention is
//! FlashAttention-2 over a cache whose last position two copies write; q, k, v and the output are copied on either side.

use einflow_arch::device::Collective;
use einflow_workloads::{
    layer::{Layer, Operator, WORD_BYTES},
    models::Model,
};

use super::{
    Call, Launch, Step, Task,
    apart::Apart,
    layer::{Lowering, attention, copy},
};

/// How the work is divided, as a table names it.
pub const MODES: [&str; 6] = [
    "model_only",
    "attention_only",
    "one_gpu",
    "tp2",
    "split1",
    "split2",
];

/// The link between the two, and what is sent over it.
const LINK: &str = "nvlink4";

/// One of the devices among which a layer is divided, and the tokens in each sequence's cache.
struct Shard {
    layer: Layer,
    length: u64,
}

/// The operators before attention, but for the write to the cache: that is where attention is.
fn first() -> Vec<Operator> {
    let all = Layer::OPERATORS.into_iter();
    all.take_while(|o| *o != Operator::Attention)
        .filter(|o| *o != Operator::CacheWrite)
        .collect()
}

/// The operators after attention.
fn rest() -> &'static [Operator] {
    let attention = |o: &Operator| *o == Operator::Attention;
    Layer::OPERATORS.rsplit(attention).next().unwrap_or(&[])
}

impl Shard {
    fn kernels(&self, operators: &[Operator]) -> Vec<Call> {
        Lowering::Bare.all(operators, &self.layer)
    }

    fn copies(&self, widths: &[u64]) -> Vec<Call> {
        let copy = |width: &u64| copy(self.layer.words(*width));
        widths.iter().map(copy).collect()
    }

    /// q, k and v, moved.
    fn inputs(&self) -> Vec<Call> {
        let layer = &self.layer;
        self.copies(&[layer.queries(), layer.keys(), layer.values()])
    }

    /// The output, moved.
    fn outputs(&self) -> Vec<Call> {
        self.copies(&[self.layer.attended()])
    }

    /// Before attention: the product, and q, k and v to where they are sent from.
    fn before(&self) -> Vec<Call> {
        [self.kernels(&first()), self.inputs()].concat()
    }

    /// After it: the output from where it came, and the rest of the layer.
    fn after(&self) -> Vec<Call> {
        [self.outputs(), self.kernels(rest())].concat()
    }

    /// The new keys and values into the cache, and attention over it.
    fn attention(&self) -> Vec<Step> {
        let mut steps = chain(self.kernels(&[Operator::CacheWrite]));
        steps.push(Step::Clean(Call {
            law: "decode:flash".into(),
            kernel: attention(&self.layer, self.layer.tokens, self.length, false),
            flushed: true,
        }));
        steps.push(Step::Gaps(1));
        steps
    }

    /// All that the attention device does: copies in, attention, a copy out.
    fn attended(&self) -> Vec<Step> {
        [
            chain(self.inputs()),
            self.attention(),
            chain(self.outputs()),
        ]
        .concat()
    }

    fn bytes(&self, width: u64) -> u64 {
        self.layer.words(width).saturating_mul(WORD_BYTES)
    }

    fn send(&self, width: u64) -> Step {
        Step::Send {
            operation: "send:graph".into(),
            link: LINK.into(),
            bytes: self.bytes(width),
            count: 1,
        }
    }

    /// Sums over `devices` devices what each has of the hidden state.
    fn reduce(&self, devices: u64) -> Step {
        Step::AllReduce {
            operation: "all_reduce:graph".into(),
            link: LINK.into(),
            bytes: self.bytes(self.layer.hidden),
            devices,
            how: Collective::Ring,
        }
    }
}

/// Kernels of which each needs the one before.
fn chain(calls: Vec<Call>) -> Vec<Step> {
    let gaps = Step::Gaps(calls.len() as u64);
    calls.into_iter().map(Step::Call).chain([gaps]).collect()
}

/// `layers` layers of one decode step of `batch` sequences of `length` tokens, divided as one of [`MODES`] says.
pub fn task(model: &Model, mode: &str, batch: u64, length: u64, layers: u64) -> Task {
    let shard = |devices| Shard {
        layer: model.layer(batch, devices),
        length,
    };
    let whole = shard(1);
    let steps = match mode {
        "model_only" => chain([whole.before(), whole.after()].concat()),
        "attention_only" => whole.attended(),
        // The output is where the next product finds it: one copy less.
        "one_gpu" => [
            chain(whole.before()),
            whole.attended(),
            chain(whole.kernels(rest())),
        ]
        .concat(),
        "tp2" => {
            let half = shard(2);
            let mut steps = chain(half.kernels(&first()));
            steps.extend(half.attention());
            for part in rest().split_inclusive(Operator::summed) {
                steps.extend(chain(half.kernels(part)));
                if part.last().is_some_and(Operator::summed) {
                    steps.push(half.reduce(2));
                }
            }
            steps
        }
        _ => {
            let apart = Apart {
                layers,
                batches: if mode == "split1" { 1 } else { 2 },
                first: chain(whole.before()),
                slice: chain([whole.after(), whole.before()].concat()),
                last: chain(whole.after()),
                attend: whole.attended(),
                query: whole.send(whole.layer.queries() + whole.layer.keys_values()),
                output: whole.send(whole.layer.attended()),
            };
            return graph(vec![Step::Apart(Box::new(apart))]);
        }
    };
    graph(vec![Step::Repeat {
        count: layers,
        steps,
    }])
}

fn graph(steps: Vec<Step>) -> Task {
    Task {
        steps,
        launch: Launch::Graph,
        chained: true,
        events: false,
    }
}
