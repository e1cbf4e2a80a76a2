//! What a device is asked to do, as shapes.

use std::sync::Arc;

use einflow_spec::NumberFormat;

use super::law::ragged::Plan;

/// One launch of work on a device. Words are two bytes wide (bf16, f16), but for the operands of a product.
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
    },
    /// Fused attention of `s` queries over `s` keys.
    Prefill(Attention),
    /// Fused attention of one query over `length` cached tokens.
    Decode(Attention),
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
}

/// How wide the operands of a product are: an 8-bit format is none that the simulator computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operands {
    /// Bits of a number of the first matrix.
    pub activations: u64,
    /// Bits of a number of the second matrix.
    pub weights: u64,
    /// How many numbers share a scale, where they have any.
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
    pub const WORDS: Self = Self::both(NumberFormat::Bf16.bits());
    /// Words of one byte (e4m3, e5m2, int8).
    pub const BYTES: Self = Self::both(8);
    /// Words of one byte with a scale for each row and column.
    pub const SCALED_ROWS: Self = Self {
        scales: Scales::Rows,
        ..Self::BYTES
    };

    /// Both as wide.
    pub const fn both(bits: u64) -> Self {
        Self {
            activations: bits,
            weights: bits,
            scales: Scales::Whole,
        }
    }

    /// Bits of the wider one: that in which matrix units multiply.
    pub fn bits(self) -> u64 {
        self.activations.max(self.weights)
    }
}

/// Bytes of a word.
const WORD: f64 = bytes(NumberFormat::Bf16.bits());

/// Tokens of a chunk of a linear mechanism.
pub const CHUNK: u64 = 64;

const fn bytes(bits: u64) -> f64 {
    bits as f64 / 8.0
}

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

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> f64 {
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
            Self::Product { operands, .. } => operands.bits(),
            _ => Operands::WORDS.bits(),
        }
    }

    /// Scores that attention exponentiates; none elsewhere.
    pub fn scores(&self) -> f64 {
        match self {
            Self::Prefill(a) => a.scores(a.length),
            Self::Decode(a) => a.scores(1),
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
                bytes(operands.activations) * product([*batch, *m, *k])
                    + bytes(operands.weights) * product([*batch, *k, *n])
                    + WORD * product([*batch, *m, *n])
            }
            Self::Grouped { rows, k, n, .. } => {
                let (k, n) = (*k as f64, *n as f64);
                WORD * (sum(rows) * (k + n) + rows.len() as f64 * k * n)
            }
            Self::Prefill(a) | Self::Masked { shape: a, .. } => {
                a.query_bytes(a.length) + a.cache_bytes()
            }
            Self::Decode(a) => a.query_bytes(1) + a.cache_bytes(),
            Self::Ragged { shape, lengths, .. } => {
                let token = WORD * shape.key_heads as f64 * shape.widths();
                shape.query_bytes(1) + token * sum(lengths)
            }
            // Queries, keys, values and outputs; keys and values again for the states; each state there and back.
            Self::Chunked(a) => {
                a.query_bytes(a.length) + 2.0 * a.cache_bytes() + 2.0 * a.state_bytes()
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
