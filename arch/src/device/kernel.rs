//! What a device is asked to do, as shapes.

use einflow_spec::NumberFormat;

/// One launch of work on a device. Words are two bytes wide (bf16, f16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    },
    /// Fused attention of `s` queries over `s` keys.
    Prefill(Attention),
    /// Fused attention of one query over `length` cached tokens.
    Decode(Attention),
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
    /// Width of a head.
    pub width: u64,
    /// Query and key length (prefill), or cached tokens (decode).
    pub length: u64,
    /// Whether a query sees no later key.
    pub causal: bool,
}

/// Bytes of a word.
const WORD: f64 = (NumberFormat::Bf16.bits() / 8) as f64;

impl Attention {
    /// Scores of `queries` queries a sequence, each with the keys that it sees.
    pub fn scores(&self, queries: u64) -> f64 {
        let seen = if self.causal && queries > 1 { 0.5 } else { 1.0 };
        product([self.batch, self.heads, queries, self.length]) * seen
    }

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> f64 {
        2.0 * WORD * product([self.batch, self.key_heads, self.width, self.length])
    }
}

impl Kernel {
    /// Floating-point operations: two for each multiply-add of a product; none for passes and transfers.
    pub fn operations(&self) -> f64 {
        match *self {
            Kernel::Product { batch, m, k, n } => 2.0 * product([batch, m, k, n]),
            Kernel::Prefill(a) => 4.0 * a.scores(a.length) * a.width as f64,
            Kernel::Decode(a) => 4.0 * a.scores(1) * a.width as f64,
            Kernel::Pass { .. } => 0.0,
        }
    }

    /// Bytes that cannot but move: each operand and result once.
    pub fn bytes(&self) -> f64 {
        match *self {
            Kernel::Product { batch, m, k, n } => {
                WORD * (product([batch, m, k]) + product([batch, k, n]) + product([batch, m, n]))
            }
            Kernel::Prefill(a) => {
                2.0 * WORD * product([a.batch, a.heads, a.width, a.length]) + a.cache_bytes()
            }
            Kernel::Decode(a) => {
                2.0 * WORD * product([a.batch, a.heads, a.width]) + a.cache_bytes()
            }
            Kernel::Pass { bytes, .. } => bytes as f64,
        }
    }
}

/// Sizes to 2^24 each: beyond what a float holds exactly, far from where it overflows.
fn product<const N: usize>(sizes: [u64; N]) -> f64 {
    sizes.into_iter().map(|s| s as f64).product()
}
