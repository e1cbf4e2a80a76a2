//! Attention divided over two devices of one host: what each way to divide it is made of.
//!
//! Nothing of a way is fitted but its parts, which were measured alone: attention over halves, and the exchanges.

use einflow_arch::device::{Attention, Kernel};

use super::{
    Call, Launch, Step, Task,
    layer::{copy, pass},
};

/// Ways to divide, each with parts of it alone.
pub const MODES: [&str; 13] = [
    "prefill-one-gpu",
    "part-diagonal",
    "part-full",
    "part-exchange-kv",
    "part-all-gather",
    "part-all-to-all",
    "ring",
    "ring-zigzag",
    "all-gather",
    "ulysses",
    "decode-one-gpu",
    "decode-part",
    "decode-divided",
];

/// Bytes of a word.
const WORD: u64 = 2;

/// What a mode of `a` is made of on the device that ends last; `a.length` is the whole prompt or cache.
pub fn task(mode: &str, a: &Attention) -> Task {
    let half = Attention {
        // Keys are repeated for the query heads that share them.
        key_heads: a.heads,
        length: a.length / 2,
        ..*a
    };
    let quarters = |batch: u64| Attention {
        batch: a.batch.saturating_mul(batch),
        length: a.length / 4,
        ..half
    };
    let whole = Attention {
        key_heads: a.heads,
        ..*a
    };
    let keys = Attention {
        length: half.length,
        ..*a
    };
    let steps = match mode {
        "prefill-one-gpu" => vec![prompt(whole, true)],
        "part-diagonal" => vec![prompt(half, true)],
        "part-full" => vec![prompt(half, false)],
        "part-exchange-kv" => vec![exchange("exchange", keys.cache_bytes())],
        "part-all-gather" => vec![exchange("gather", keys.cache_bytes())],
        "part-all-to-all" => vec![all_to_all(a)],
        // The second device attends to its own half, then to all of the first.
        "ring" => {
            let first = own_and_exchange(prompt(half, true), &keys);
            [first, vec![prompt(half, false)], merge(&half)].concat()
        }
        // Each device has half of the pairs of a full block besides its own: queries of a half, keys of a quarter.
        "ring-zigzag" => {
            let first = own_and_exchange(prompt(half, true), &keys);
            [first, vec![prompt(quarters(2), false)], merge(&half)].concat()
        }
        // Quarters 0 and 3, or 1 and 2, each with all keys up to its end: five squares of a quarter.
        "all-gather" => {
            let gather = exchange("gather", keys.cache_bytes());
            let square = prompt(quarters(5), false);
            [vec![gather], repeated(&whole, a), vec![square]].concat()
        }
        // Half of the heads over the whole prompt.
        "ulysses" => {
            let heads = Attention {
                heads: a.heads / 2,
                key_heads: a.heads / 2,
                ..*a
            };
            vec![all_to_all(a), prompt(heads, true)]
        }
        "decode-one-gpu" => vec![cached(*a)],
        "decode-part" => vec![cached(keys)],
        // The other's output, in words of four bytes, and its sums, each gathered; then the merge.
        _ => {
            let one = Attention { length: 1, ..keys };
            let heads = keys.batch.saturating_mul(keys.heads) as f64 * (2 * WORD) as f64;
            let gathers = [heads * keys.value_width as f64, heads];
            let gathers = gathers.map(|bytes| exchange("gather", bytes)).to_vec();
            [vec![cached(keys)], gathers, merge(&one)].concat()
        }
    };
    let parts = steps.len() > 1;
    Task {
        steps,
        launch: Launch::Eager,
        chained: parts,
        events: parts,
    }
}

fn prompt(shape: Attention, causal: bool) -> Step {
    Step::Call(Call {
        law: "divided:prefill:flash".into(),
        kernel: Kernel::Prefill(Attention { causal, ..shape }),
        flushed: false,
    })
}

fn cached(shape: Attention) -> Step {
    Step::Call(Call {
        law: "divided:decode:flash".into(),
        kernel: Kernel::Decode(shape),
        flushed: false,
    })
}

/// A message of each device to the other.
fn exchange(operation: &str, bytes: f64) -> Step {
    Step::Send {
        operation: operation.into(),
        link: "nvlink4".into(),
        bytes: bytes as u64,
        count: 1,
    }
}

/// From a half of the tokens to a half of the heads, and back: half of the queries, keys, values and outputs.
fn all_to_all(a: &Attention) -> Step {
    let tokens = a.batch.saturating_mul(a.length / 2);
    let words = (a.heads + a.key_heads).saturating_mul(a.width + a.value_width);
    exchange(
        "all_to_all",
        (tokens.saturating_mul(words) / 2).saturating_mul(WORD) as f64,
    )
}

/// The device's own part while keys and values are exchanged.
fn own_and_exchange(own: Step, keys: &Attention) -> Vec<Step> {
    let message = exchange("exchange", keys.cache_bytes());
    vec![Step::Beside(vec![vec![own], vec![message]])]
}

/// Two outputs weighted by their sums into one, as a framework does it in words of four bytes: both widened, their
/// difference, its weight, the product, the sum, and back to words of two bytes.
fn merge(a: &Attention) -> Vec<Step> {
    let sizes = [a.batch, a.heads, a.length, a.value_width];
    let outputs = sizes.into_iter().fold(1, u64::saturating_mul);
    let wide = 2 * WORD;
    let bytes = [
        WORD + wide,
        WORD + wide,
        3 * wide,
        2 * wide,
        3 * wide,
        wide + WORD,
    ];
    let pass = |bytes: u64| Step::Call(pass("pass", 1, outputs.saturating_mul(bytes / WORD)));
    bytes.map(pass).to_vec()
}

/// Keys and values written once for each query head.
fn repeated(whole: &Attention, a: &Attention) -> Vec<Step> {
    if whole.key_heads == a.key_heads {
        return Vec::new();
    }
    let words = |width: u64| {
        let sizes = [whole.batch, whole.key_heads, whole.length, width];
        sizes.into_iter().fold(1, u64::saturating_mul)
    };
    [a.width, a.value_width]
        .map(|width| Step::Call(copy(words(width))))
        .to_vec()
}
