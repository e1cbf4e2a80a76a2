//! How a layer mixes tokens, of each kind of layer: attention over what is cached or within a window, over a latent,
//! or through a state.

use einflow_arch::device::{Attention, Kernel, Times as Answers, operator};
use einflow_spec::{Problem, Stored};
use einflow_workloads::layer::{Layer, Mixer, Operator, Phase};

use super::{
    super::{pool::DevicePool, system::LayerKind},
    Caches, Times, Work,
};
use crate::device::{Call, layer::attention};

/// Side of a block of scores that fused attention computes or leaves out.
const BLOCK: u64 = 128;

/// What mixing tokens takes, apart from the products that run over all of them alike.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mixed {
    /// Attention, or a state's.
    pub attention: Work,
    /// Products that decoded tokens and prompts have not in common: into a latent's space, or out of a latent.
    pub products: Work,
}

impl Mixed {
    pub fn plus(self, other: Self) -> Self {
        Self {
            attention: self.attention.plus(other.attention),
            products: self.products.plus(other.products),
        }
    }
}

/// Attention over the latents of `batch` sequences of `length` tokens: all heads read the same.
pub(in super::super) fn over_latents(layer: &Layer, batch: u64, length: u64) -> Option<Kernel> {
    let Mixer::Latent(latent) = layer.mixer else {
        return None;
    };
    Some(Kernel::Latent(Attention {
        batch,
        heads: layer.heads,
        key_heads: 1,
        width: latent.cache_rank.saturating_add(latent.rope_width),
        value_width: latent.cache_rank,
        length,
        causal: false,
        cached: layer.formats.cache,
    }))
}

/// The length of the causal prompt whose scores are as many as those of `chunk` tokens after `before` others: c queries
/// over b + c keys have c (c + 2 b) / 2. With a window: that which has as many blocks of scores as the window touches.
fn as_long_as(chunk: u64, before: u64, window: Option<u64>) -> u64 {
    let (c, b) = (chunk as f64, before as f64);
    let whole = (c * (c + 2.0 * b)).sqrt().round().max(1.0);
    let Some(window) = window else {
        return whole as u64;
    };
    // Of a block of queries from q on: the blocks of keys from q + 1 - window to its own.
    let touched = |at: u64| {
        let own = before + at;
        (own / BLOCK) - (own + 1).saturating_sub(window) / BLOCK + 1
    };
    let blocks: u64 = (0..chunk.div_ceil(BLOCK))
        .map(|at| touched(at * BLOCK))
        .fold(0, u64::saturating_add);
    // n (n + 1) / 2 blocks are those of a causal prompt of n.
    let side = ((1.0 + 8.0 * blocks as f64).sqrt() - 1.0) / 2.0;
    (side * BLOCK as f64).round().clamp(1.0, whole) as u64
}

impl Times<'_> {
    /// New tokens over these caches in a kind of layer, on one of `parts` devices among which the heads are divided.
    pub(super) fn decoded(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        caches: &Caches,
        parts: u64,
    ) -> Result<Mixed, Problem> {
        let requests = caches.requests();
        let layer = kind.model.layer(requests, parts);
        let within = layer.window.map(|window| caches.within(window));
        let caches = within.as_ref().unwrap_or(caches);
        let mean = caches.mean().round().max(1.0) as u64;
        Ok(match layer.mixer {
            Mixer::Grouped => Mixed {
                attention: self.decode(pool, kind, caches, parts)?,
                ..Mixed::default()
            },
            Mixer::Latent(_) => {
                let law = law_of(pool, "latent");
                let attention = match over_latents(&layer, requests, mean) {
                    Some(kernel) => self.call(pool, &law, &kernel)?,
                    None => Work::default(),
                };
                let mut products = Work::default();
                for own in [Operator::Absorb, Operator::Expand] {
                    products = products.plus(self.operator(pool, own, &layer)?);
                }
                Mixed {
                    attention,
                    products,
                }
            }
            Mixer::Linear(_) => Mixed {
                attention: self.run(pool, &through_state(kind, &layer))?,
                ..Mixed::default()
            },
        })
    }

    /// Chunks of prompts, one after another, each after so many tokens.
    pub(super) fn prompted(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        chunks: &[(u64, u64)],
    ) -> Result<Mixed, Problem> {
        let mut sum = Mixed::default();
        let laws = self.prefill_laws(pool);
        for (tokens, before) in chunks {
            let layer = kind.model.layer(*tokens, pool.group);
            if let Mixer::Linear(_) = layer.mixer {
                let kernel = in_chunks(&layer);
                let law = law_of(pool, "chunked:gated-delta-rule");
                sum.attention = sum.attention.plus(self.call(pool, &law, &kernel)?);
                continue;
            }
            if let Mixer::Latent(_) = layer.mixer {
                let all = kind.model.layer(tokens.saturating_add(*before), pool.group);
                let expanded = self.operator(pool, Operator::LatentUp, &all)?;
                sum.products = sum.products.plus(expanded);
            }
            let length = as_long_as(*tokens, *before, layer.window);
            let kernel = attention(&layer, 1, length, true);
            let mut best: Option<Work> = None;
            for law in &laws {
                let work = self.call(pool, law, &kernel)?;
                best = Some(best.map_or(work, |b| if work.time < b.time { work } else { b }));
            }
            sum.attention = sum.attention.plus(best.unwrap_or_default());
        }
        Ok(sum)
    }
}

/// The device's law of that name, or the first that begins with it; the name itself where it has none.
fn law_of(pool: &DevicePool, name: &str) -> String {
    let Answers::Laws(laws) = &pool.answerer.device.times else {
        return name.into();
    };
    let own = laws.keys().find(|law| *law == name);
    let like = || laws.keys().find(|law| operator(law) == name);
    own.or_else(like).map_or_else(|| name.into(), Clone::clone)
}

/// A pass over the state of each sequence, there and back, with what a token brings and takes.
fn through_state(kind: &LayerKind, layer: &Layer) -> Call {
    let state = u64::try_from(kind.model.state_bytes_of(layer)).unwrap_or(u64::MAX);
    // Queries, keys, values and a decay for each channel of the keys, how strongly each head writes, and what comes out.
    let words = [
        layer.queries(),
        layer.keys_values(),
        layer.queries(),
        layer.heads,
        layer.attended(),
    ];
    let words = words.into_iter().fold(0, u64::saturating_add);
    let bytes = state
        .saturating_mul(2)
        .saturating_add(words.saturating_mul(einflow_workloads::layer::WORD_BYTES));
    Call {
        law: "pass".into(),
        kernel: Kernel::Pass {
            rows: 1,
            bytes: layer.words(bytes),
        },
        // States of all layers pass between two uses of one.
        flushed: true,
    }
}

/// Linear attention of a prompt in chunks of tokens.
fn in_chunks(layer: &Layer) -> Kernel {
    Kernel::Chunked(Attention {
        batch: 1,
        heads: layer.heads,
        key_heads: layer.heads,
        width: layer.query_width,
        value_width: layer.value_width,
        length: layer.tokens,
        causal: true,
        cached: Stored::BF16,
    })
}

/// Products that run over decoded tokens and prompts alike, and element-wise operators, between the first
/// normalisation and the output projection.
pub(super) fn common(layer: &Layer) -> impl Iterator<Item = Operator> {
    use Operator as O;
    let all = layer.attention_operators(Phase::Decode).into_iter();
    all.filter(|own| {
        !matches!(
            own,
            O::Attention | O::LatentAttention | O::Recurrence | O::Absorb | O::Expand
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By counting pairs of blocks that hold a pair that is kept.
    fn counted(chunk: u64, before: u64, window: u64) -> u64 {
        let keeps = |q: u64, k: u64| k <= q && q < k + window;
        let mut blocks = 0;
        for rows in 0..chunk.div_ceil(BLOCK) {
            let queries = before + rows * BLOCK..(before + (rows + 1) * BLOCK).min(before + chunk);
            for columns in 0..(before + chunk).div_ceil(BLOCK) {
                let mut keys = columns * BLOCK..(columns + 1) * BLOCK;
                blocks += u64::from(keys.any(|k| queries.clone().any(|q| keeps(q, k))));
            }
        }
        blocks
    }

    #[test]
    fn a_window_takes_the_blocks_that_it_touches() {
        for (chunk, before, window) in [(512, 0, 128), (512, 1024, 128), (256, 640, 300)] {
            let blocks = counted(chunk, before, window) as f64;
            let side = as_long_as(chunk, before, Some(window)) as f64 / BLOCK as f64;
            let found = side * (side + 1.0) / 2.0;
            assert!((found / blocks - 1.0).abs() < 0.02, "{found} {blocks}");
        }
        // 512 tokens without others before them: 4 + 3 + 2 + 1 blocks, or with a window of one block two each.
        assert_eq!(as_long_as(512, 0, None), 512);
        assert_eq!(counted(512, 0, 128), 7);
        // A window that reaches to the first token leaves nothing out.
        assert_eq!(as_long_as(512, 0, Some(4096)), 512);
    }
}
