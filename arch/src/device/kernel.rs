//! What a device is asked to do, as shapes.

use std::sync::Arc;

use einflow_spec::Stored;

use super::law::ragged::Plan;

/// One launch of work on a device. Words are two bytes wide (bf16, f16), but for the operands of products, and what a
/// cache holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// A matrix product, `[m, k] x [k, n]`, for each of `batch` matrices.
    Product {
        /// Independent products.
        batch: u64,
        /// Rows of the first matrix.
        m: u64,
        /// The reduced rank.
        k: u64,
        /// Columns of the second matrix.
        n: u64,
        /// What its operands are held in; the result has words of two bytes.
        operands: Operands,
    },
    /// Products of a mixture's experts in one launch: `[rows, k] x [k, n]` for each expert that has rows.
    Grouped {
        /// Experts, whether they have rows or not.
        experts: u64,
        /// Rows of each expert that has any.
        rows: Arc<[u64]>,
        /// The reduced rank.
        k: u64,
        /// Columns of a weight.
        n: u64,
        /// What its operands are held in; the result has words of two bytes.
        operands: Operands,
    },
    /// Fused attention of `s` queries over `s` keys.
    Prefill(Attention),
    /// Fused attention of one query over `length` cached tokens.
    Decode(Attention),
    /// Fused attention of one query over `length` cached latents: one key head, whose values are the first of the same
    /// words as its keys.
    Latent(Attention),
    /// Fused attention of one query over caches of unequal lengths.
    Ragged {
        /// The shape; its length is the longest, its batch the number of lengths.
        shape: Attention,
        /// Cached tokens of each sequence, in the order of the batch.
        lengths: Arc<[u64]>,
        /// How the library divides the caches.
        plan: Plan,
    },
    /// Fused attention of `length` queries over as many keys under a mask that leaves some blocks out.
    Masked {
        /// The shape, without its mask.
        shape: Attention,
        /// Blocks of 128 queries and 128 keys in which a pair is kept, of one head.
        blocks: u64,
        /// Those of them in which a pair is left out: a mask is computed for these alone.
        partial: u64,
    },
    /// A linear mechanism over a prompt, in chunks of tokens with a state from one to the next.
    Chunked(Attention),
    /// A pass over memory: an element-wise map, a normalisation, a copy.
    Pass {
        /// Independent rows (a normalisation's scope); 1 where there is none.
        rows: u64,
        /// Bytes read and written.
        bytes: u64,
    },
}

/// The shape of fused attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Sequences.
    pub batch: u64,
    /// Query heads.
    pub heads: u64,
    /// Key heads: `heads / key_heads` query heads share one.
    pub key_heads: u64,
    /// Width of a head's queries and keys.
    pub width: u64,
    /// Width of a head's values, and of its output.
    pub value_width: u64,
    /// Query and key length (prefill), or cached tokens (decode).
    pub length: u64,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// What the words of a cache are kept in.
    pub cached: Stored,
}

/// What the operands of a product are held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operands {
    /// Numbers of the first matrix.
    pub activations: Stored,
    /// Numbers of the second matrix.
    pub weights: Stored,
    /// By what the matrix units' library tells its kernels apart.
    pub scales: Scales,
}

/// Which numbers of an operand share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scales {
    /// All, or there is none.
    Whole,
    /// Those of a row of the first matrix, and of a column of the second: another library multiplies them.
    Rows,
}

impl Operands {
    /// Words of two bytes.
    pub const WORDS: Self = Self::both(Stored::BF16);
    /// Words of one byte (e4m3, e5m2, int8).
    pub const BYTES: Self = Self::both(Stored::FP8);
    /// Words of one byte with a scale for each row and column.
    pub const SCALED_ROWS: Self = Self {
        scales: Scales::Rows,
        ..Self::BYTES
    };

    /// Both alike.
    pub const fn both(format: Stored) -> Self {
        Self {
            activations: format,
            weights: format,
            scales: Scales::Whole,
        }
    }

    /// Activations and weights so held. Numbers that matrix units take as they are, with scales of their own, are
    /// another library's ([`Scales::Rows`]); narrower weights are widened first.
    pub fn of(activations: Stored, weights: Stored) -> Self {
        let scaled = activations.scaled() || weights.scaled();
        let alike = activations.bits().max(weights.bits()) <= 8;
        Self {
            activations,
            weights,
            scales: match scaled && alike {
                true => Scales::Rows,
                false => Scales::Whole,
            },
        }
    }

    /// Bits of the wider one: that in which matrix units multiply.
    pub fn bits(self) -> u64 {
        self.activations.bits().max(self.weights.bits())
    }

    /// Bytes of `rows` rows of the first matrix, each reduced over `k` numbers.
    fn activation_bytes(&self, k: u64, rows: f64) -> f64 {
        self.activations.bytes(k, 1).0 as f64 * rows
    }

    fn weight_bytes(&self, k: u64, n: u64) -> f64 {
        self.weights.bytes(k, n).0 as f64
    }
}

/// Bytes of a word.
const WORD: f64 = 2.0;

/// Tokens of a chunk of a linear mechanism.
pub const CHUNK: u64 = 64;

impl Attention {
    /// Scores of `queries` queries a sequence, each with the keys that it sees.
    pub fn scores(&self, queries: u64) -> f64 {
        let seen = if self.causal && queries > 1 { 0.5 } else { 1.0 };
        product([self.batch, self.heads, queries, self.length]) * seen
    }

    /// Width of queries and keys, and of values, together.
    pub fn widths(&self) -> f64 {
        self.width as f64 + self.value_width as f64
    }

    /// Bytes of the cached keys and values of a token.
    pub fn token_bytes(&self) -> f64 {
        let widths = self.width.saturating_add(self.value_width);
        let words = self.key_heads.saturating_mul(widths);
        self.cached.bytes(words, 1).0 as f64
    }

    /// Bytes of the cached latent of a token, which all heads read.
    pub fn latent_bytes(&self) -> f64 {
        self.cached.bytes(self.width, 1).0 as f64
    }

    /// Bytes of all keys and values, in the cache's words.
    pub fn cache_bytes(&self) -> f64 {
        product([self.batch, self.length]) * self.token_bytes()
    }

    /// Bytes of keys and values as they are made, in words of two bytes.
    fn key_bytes(&self) -> f64 {
        WORD * product([self.batch, self.key_heads, self.length]) * self.widths()
    }

    /// Bytes of `queries` queries a sequence and of their outputs.
    fn query_bytes(&self, queries: u64) -> f64 {
        WORD * product([self.batch, self.heads, queries]) * self.widths()
    }

    /// Bytes of the states of all chunks of a linear mechanism, each written once.
    fn state_bytes(&self) -> f64 {
        let chunks = self.length.div_ceil(CHUNK);
        WORD * product([self.batch, self.heads, chunks, self.width, self.value_width])
    }
}

impl Kernel {
    /// A product of words of two bytes.
    pub fn product(m: u64, k: u64, n: u64) -> Self {
        Self::Product {
            batch: 1,
            m,
            k,
            n,
            operands: Operands::WORDS,
        }
    }

    /// Bits of the operands of its products.
    pub fn bits(&self) -> u64 {
        match self {
            Self::Product { operands, .. } | Self::Grouped { operands, .. } => operands.bits(),
            _ => Operands::WORDS.bits(),
        }
    }

    /// Scores that attention exponentiates; none elsewhere.
    pub fn scores(&self) -> f64 {
        match self {
            Self::Prefill(a) => a.scores(a.length),
            Self::Decode(a) | Self::Latent(a) => a.scores(1),
            Self::Ragged { shape, lengths, .. } => shape.heads as f64 * sum(lengths),
            Self::Masked { shape, blocks, .. } => {
                product([shape.batch, shape.heads, *blocks]) * (128.0 * 128.0)
            }
            _ => 0.0,
        }
    }

    /// Floating-point operations: two for each multiply-add of a product; none for passes and transfers.
    pub fn operations(&self) -> f64 {
        match self {
            Self::Product { batch, m, k, n, .. } => 2.0 * product([*batch, *m, *k, *n]),
            Self::Grouped { rows, k, n, .. } => 2.0 * sum(rows) * product([*k, *n]),
            Self::Prefill(a)
            | Self::Decode(a)
            | Self::Latent(a)
            | Self::Ragged { shape: a, .. }
            | Self::Masked { shape: a, .. } => 2.0 * self.scores() * a.widths(),
            // Of a chunk: its scores and their outputs, the state's outputs, and what the state gains.
            Self::Chunked(a) => {
                let tokens = product([a.batch, a.heads, a.length]);
                let state = 4.0 * product([a.width, a.value_width]);
                tokens * (2.0 * CHUNK as f64 * a.widths() + state)
            }
            Self::Pass { .. } => 0.0,
        }
    }

    /// Bytes that cannot but move: each operand and result once.
    pub fn bytes(&self) -> f64 {
        match self {
            Self::Product {
                batch,
                m,
                k,
                n,
                operands,
            } => {
                let rows = product([*batch, *m]);
                operands.activation_bytes(*k, rows)
                    + operands.weight_bytes(*k, *n) * *batch as f64
                    + WORD * product([*batch, *m, *n])
            }
            Self::Grouped {
                rows,
                k,
                n,
                operands,
                ..
            } => {
                operands.activation_bytes(*k, sum(rows))
                    + WORD * sum(rows) * *n as f64
                    + rows.len() as f64 * operands.weight_bytes(*k, *n)
            }
            Self::Prefill(a) | Self::Masked { shape: a, .. } => {
                a.query_bytes(a.length) + a.key_bytes()
            }
            Self::Decode(a) => a.query_bytes(1) + a.cache_bytes(),
            Self::Latent(a) => a.query_bytes(1) + product([a.batch, a.length]) * a.latent_bytes(),
            Self::Ragged { shape, lengths, .. } => {
                shape.query_bytes(1) + shape.token_bytes() * sum(lengths)
            }
            // Queries, keys, values and outputs; keys and values again for the states; each state there and back.
            Self::Chunked(a) => {
                a.query_bytes(a.length) + 2.0 * a.key_bytes() + 2.0 * a.state_bytes()
            }
            Self::Pass { bytes, .. } => *bytes as f64,
        }
    }
}

/// Sizes to 2^24 each: beyond what a float holds exactly, far from where it overflows.
fn product<const N: usize>(sizes: [u64; N]) -> f64 {
    sizes.into_iter().map(|s| s as f64).product()
}

fn sum(sizes: &[u64]) -> f64 {
    sizes.iter().map(|s| *s as f64).sum()
}
