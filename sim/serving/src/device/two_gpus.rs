//! A decode step of a model over two devices of one host: what `offload-two-gpus.csv` measures, as the kernels and messages that its
//! README names.
//!
//! No norms, rotary embedding or head. A layer's products: q, k and v in one, the output, gate and up in one, down. Attention is
//! FlashAttention-2 over a cache whose last position two copies write; q, k, v and the output are copied on either side.

use einflow_arch::device::{Attention, Collective, Kernel};
use einflow_workloads::models::Model;

use super::{
    Call, Launch, Step, Task,
    apart::Apart,
    layer::{pass, product, silu_mul},
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

/// Bytes of a word.
const WORD: u64 = 2;

/// The link between the two, and what is sent over it.
const LINK: &str = "nvlink4";

/// One of `tp` devices among which heads and feed-forward columns are divided.
struct Shard<'m> {
    model: &'m Model,
    batch: u64,
    length: u64,
    tp: u64,
}

impl Shard<'_> {
    fn width(&self, heads: u64) -> u64 {
        heads / self.tp * self.model.query_width
    }

    fn queries(&self) -> u64 {
        self.width(self.model.heads)
    }

    fn keys(&self) -> u64 {
        self.width(self.model.key_heads)
    }

    fn words(&self, width: u64) -> u64 {
        self.batch.saturating_mul(width)
    }

    fn copy(&self, width: u64) -> Call {
        pass("pass", 1, 2 * self.words(width))
    }

    fn sum(&self) -> Call {
        pass("pass", 1, 3 * self.words(self.model.model_width))
    }

    fn product(&self, k: u64, n: u64) -> Call {
        product(self.batch, k, n)
    }

    /// q, k, v and the product that makes them.
    fn projected(&self) -> Call {
        self.product(self.model.model_width, self.queries() + 2 * self.keys())
    }

    /// q, k and v, moved.
    fn copies(&self) -> Vec<Call> {
        [self.queries(), self.keys(), self.keys()]
            .map(|width| self.copy(width))
            .into()
    }

    fn output(&self) -> Call {
        self.product(self.queries(), self.model.model_width)
    }

    fn feed_forward(&self) -> Vec<Call> {
        let (width, feed) = (
            self.model.model_width,
            self.model.feed_forward_width / self.tp,
        );
        let [silu, times] = silu_mul(self.batch, feed);
        vec![
            self.product(width, 2 * feed),
            silu,
            times,
            self.product(feed, width),
        ]
    }

    /// Before attention: the product, and q, k and v to where they are sent from.
    fn before(&self) -> Vec<Call> {
        let mut calls = vec![self.projected()];
        calls.extend(self.copies());
        calls
    }

    /// After it: the output from where it came, and the rest of the layer.
    fn after(&self) -> Vec<Call> {
        let mut calls = vec![self.copy(self.queries())];
        calls.extend(self.after_copy());
        calls
    }

    fn after_copy(&self) -> Vec<Call> {
        let mut calls = vec![self.output(), self.sum()];
        calls.extend(self.feed_forward());
        calls.push(self.sum());
        calls
    }

    /// The new keys and values into the cache, and attention over it.
    fn attention(&self) -> Vec<Step> {
        let shape = Attention {
            batch: self.batch,
            heads: self.model.heads / self.tp,
            key_heads: self.model.key_heads / self.tp,
            width: self.model.query_width,
            length: self.length,
            causal: false,
        };
        let writes = [self.keys(), self.keys()].map(|width| self.copy(width));
        let mut steps = chain(writes.into());
        steps.push(Step::Clean(Call {
            law: "decode:flash".into(),
            kernel: Kernel::Decode(shape),
            flushed: true,
        }));
        steps.push(Step::Gaps(1));
        steps
    }

    /// All that the attention device does: copies in, attention, a copy out.
    fn attended(&self) -> Vec<Step> {
        let mut steps = chain(self.copies());
        steps.extend(self.attention());
        steps.extend(chain(vec![self.copy(self.queries())]));
        steps
    }

    fn send(&self, width: u64) -> Step {
        Step::Send {
            operation: "send:graph".into(),
            link: LINK.into(),
            bytes: self.words(width).saturating_mul(WORD),
            count: 1,
        }
    }

    /// Sums over the devices what each has of the hidden state.
    fn reduce(&self) -> Step {
        Step::AllReduce {
            operation: "all_reduce:graph".into(),
            link: LINK.into(),
            bytes: self.words(self.model.model_width).saturating_mul(WORD),
            devices: self.tp,
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
    let shard = |tp| Shard {
        model,
        batch,
        length,
        tp,
    };
    let whole = shard(1);
    let joined = |before: Vec<Call>, after: Vec<Call>| {
        let mut calls = before;
        calls.extend(after);
        chain(calls)
    };
    let steps = match mode {
        "model_only" => joined(whole.before(), whole.after()),
        "attention_only" => whole.attended(),
        // The output is where the next product finds it: one copy less.
        "one_gpu" => {
            let mut steps = chain(whole.before());
            steps.extend(whole.attended());
            steps.extend(chain(whole.after_copy()));
            steps
        }
        "tp2" => {
            let half = shard(2);
            let mut steps = chain(vec![half.projected()]);
            steps.extend(half.attention());
            steps.extend(chain(vec![half.output()]));
            steps.push(half.reduce());
            steps.extend(joined(vec![half.sum()], half.feed_forward()));
            steps.push(half.reduce());
            steps.extend(chain(vec![half.sum()]));
            steps
        }
        _ => {
            let apart = Apart {
                layers,
                batches: if mode == "split1" { 1 } else { 2 },
                first: chain(whole.before()),
                slice: joined(whole.after(), whole.before()),
                last: chain(whole.after()),
                attend: whole.attended(),
                query: whole.send(whole.queries() + 2 * whole.keys()),
                output: whole.send(whole.queries()),
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
