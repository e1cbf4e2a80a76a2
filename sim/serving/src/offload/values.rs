//! One decode step of one attention layer on real numbers, split over attention devices.
//!
//! The model device and the attention devices share nothing but the messages that they send. Attention and products are
//! the library's cascades (`attention/grouped-query`, `attention/partial`, `attention/merge`, `linear-algebra/matmul`),
//! computed by the reference interpreter. Positions and normalisation are left out: they change neither the split nor
//! what travels.

mod check;
mod device;
mod error;
mod kernels;

use einflow_spec::NumberFormat;
use einflow_workloads::interpret::{Array, MAX_ELEMENTS};

pub use check::{Agreement, Checked, check};
pub use device::{Hidden, NewKeyValue, Outputs, Queries};
pub use error::Error;

use super::{Boundary, Partition};
use device::{Device, devices};
use kernels::{Kernels, columns, pick, row};

/// A layer and its requests. Every request decodes one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length of a hidden state: D.
    pub hidden: usize,
    /// Query heads: H, a multiple of the key heads.
    pub heads: usize,
    /// Heads of keys and values: G.
    pub key_heads: usize,
    /// Length of a head's query, key and value: E.
    pub head: usize,
    /// Tokens in each request's cache before the step.
    pub cached: Vec<usize>,
}

/// How the layer is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// What each attention device takes.
    pub partition: Partition,
    /// What the attention devices compute.
    pub boundary: Boundary,
    /// Whether the old tokens are attended before the new key and value are there, and merged with the new token's part
    /// afterwards; otherwise attention is over the cache with the new token appended.
    pub overlap: bool,
    /// Attention devices.
    pub devices: usize,
}

impl Split {
    /// No split: one device attends to everything at once.
    pub const NONE: Split = Split {
        partition: Partition::Heads,
        boundary: Boundary::Core,
        overlap: false,
        devices: 1,
    };
}

/// Weights of a layer; a head's columns, or the output's rows, lie together.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// D x (H * E).
    pub queries: Array,
    /// D x (G * E).
    pub keys: Array,
    /// D x (G * E).
    pub values: Array,
    /// (H * E) x D.
    pub output: Array,
}

/// The keys and values of one request: a row for each token, G * E wide.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Tokens x (G * E).
    pub keys: Array,
    /// Tokens x (G * E).
    pub values: Array,
}

/// What a step begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// Hidden state of each request's new token: requests x D.
    pub hidden: Array,
    /// The layer's weights.
    pub weights: Weights,
    /// The cache of each request.
    pub caches: Vec<Cache>,
}

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Hidden`], to an attention device.
    Hidden,
    /// [`Queries`], to an attention device.
    Queries,
    /// [`NewKeyValue`], to an attention device.
    NewKeyValue,
    /// [`Outputs`], back to the model device.
    Outputs,
}

/// A message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The attention device at one end.
    pub device: usize,
    /// What it carried.
    pub kind: Kind,
    /// Numbers in it.
    pub words: usize,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Outputs: requests x D.
    pub outputs: Array,
    /// Every message, in the order of each device.
    pub sent: Vec<Sent>,
    /// The largest distance between the maxima of two parts that were merged; 0 where none were.
    pub apart: f64,
}

impl Step {
    /// Bytes of all messages of a kind, numbers stored in `format`.
    pub fn bytes(&self, kind: Kind, format: NumberFormat) -> u64 {
        let sent = self.sent.iter().filter(|sent| sent.kind == kind);
        sent.map(|sent| sent.words as u64 * format.bits() / 8).sum()
    }
}

/// Computes one decode step in `format`, its sums in the format's default accumulator.
///
/// # Errors
/// A shape that is empty, too large or whose heads cannot be shared; inputs of another shape; NaN.
pub fn decode_step(
    shape: &Shape,
    split: &Split,
    inputs: &Inputs,
    format: NumberFormat,
) -> Result<Step, Error> {
    shape.validate(split)?;
    inputs.validate(shape)?;
    let kernels = Kernels::new(format)?;
    let devices = devices(shape, split, inputs);
    match split.boundary {
        Boundary::Core => core(shape, split, inputs, &kernels, devices),
        Boundary::Projections => projections(shape, split, inputs, &kernels, devices),
    }
}

/// The model device projects, the attention devices attend.
fn core(
    shape: &Shape,
    split: &Split,
    inputs: &Inputs,
    kernels: &Kernels,
    devices: Vec<Device>,
) -> Result<Step, Error> {
    let (weights, hidden) = (&inputs.weights, &inputs.hidden);
    let queries = kernels.product(hidden, &weights.queries)?;
    let keys = kernels.product(hidden, &weights.keys)?;
    let values = kernels.product(hidden, &weights.values)?;
    let width = shape.heads * shape.head;
    let mut attended = Array::new([shape.requests(), width], vec![0.0; queries.data.len()]);
    let (mut sent, mut apart) = (Vec::new(), 0.0f64);
    for device in devices {
        let part = |all: &Array, own: &std::ops::Range<usize>| {
            columns(&pick(all, &device.requests), own.clone())
        };
        let queries = Queries(part(&queries, &device.query_columns));
        sent.push(queries.sent(device.index));
        let started = device.start(kernels, queries, split.overlap)?;
        let new = NewKeyValue {
            keys: part(&keys, &device.key_columns),
            values: part(&values, &device.key_columns),
        };
        sent.push(new.sent(device.index));
        let (outputs, distance) = started.finish(kernels, new)?;
        sent.push(outputs.sent(device.index));
        apart = apart.max(distance);
        for (i, request) in device.requests.iter().enumerate() {
            let first = request * width + device.query_columns.start;
            let own = row(&outputs.0, i);
            attended.data[first..first + own.len()].copy_from_slice(own);
        }
    }
    Ok(Step {
        outputs: kernels.product(&attended, &weights.output)?,
        sent,
        apart,
    })
}

/// The attention devices project and attend; what comes back of a request is summed over the devices that had a part of
/// it, as an all-reduce does.
fn projections(
    shape: &Shape,
    split: &Split,
    inputs: &Inputs,
    kernels: &Kernels,
    devices: Vec<Device>,
) -> Result<Step, Error> {
    let mut parts = vec![Vec::new(); shape.requests()];
    let (mut sent, mut apart) = (Vec::new(), 0.0f64);
    for device in devices {
        let hidden = Hidden(pick(&inputs.hidden, &device.requests));
        sent.push(hidden.sent(device.index));
        let shard = device.shard(&inputs.weights);
        let (outputs, distance) = device.layer(kernels, &shard, &hidden, split.overlap)?;
        sent.push(outputs.sent(device.index));
        apart = apart.max(distance);
        for (i, request) in device.requests.iter().enumerate() {
            parts[*request].push(row(&outputs.0, i).to_vec());
        }
    }
    let summed: Vec<f64> = parts.iter().flat_map(|parts| kernels.sum(parts)).collect();
    Ok(Step {
        outputs: Array::new([shape.requests(), shape.hidden], summed),
        sent,
        apart,
    })
}

impl Shape {
    /// How many requests there are.
    pub fn requests(&self) -> usize {
        self.cached.len()
    }

    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.heads / self.key_heads
    }

    fn validate(&self, split: &Split) -> Result<(), Error> {
        let numbers = [
            ("the hidden size", self.hidden),
            ("the number of query heads", self.heads),
            ("the number of key heads", self.key_heads),
            ("the head size", self.head),
            ("the number of requests", self.requests()),
            ("the number of devices", split.devices),
        ];
        if let Some((what, _)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Err(Error::Nothing { what });
        }
        let (heads, key_heads, devices) = (self.heads, self.key_heads, split.devices);
        if heads % key_heads != 0 {
            return Err(Error::Groups { heads, key_heads });
        }
        if split.partition == Partition::Heads && key_heads % devices != 0 {
            return Err(Error::KeyHeads { devices, key_heads });
        }
        if let Some(request) = self.cached.iter().position(|tokens| *tokens == 0) {
            return Err(Error::NothingCached { request });
        }
        let product = |numbers: &[usize]| {
            let wide = numbers.iter().map(|n| *n as u128);
            wide.fold(1, u128::saturating_mul)
        };
        let tokens = self
            .cached
            .iter()
            .fold(self.requests() as u128, |sum, n| sum + *n as u128);
        let sizes = [
            ("the weights", product(&[self.hidden, heads, self.head])),
            (
                "the hidden states",
                product(&[self.requests(), self.hidden]),
            ),
            ("the queries", product(&[self.requests(), heads, self.head])),
            (
                "the caches",
                tokens.saturating_mul(product(&[key_heads, self.head])),
            ),
            ("the scores", tokens.saturating_mul(heads as u128)),
        ];
        match sizes
            .into_iter()
            .find(|(_, size)| *size > MAX_ELEMENTS as u128)
        {
            Some((name, _)) => Err(Error::TooLarge { name }),
            None => Ok(()),
        }
    }
}

impl Inputs {
    fn validate(&self, shape: &Shape) -> Result<(), Error> {
        let (requests, hidden) = (shape.requests(), shape.hidden);
        let (wide, narrow) = (shape.heads * shape.head, shape.key_heads * shape.head);
        if self.caches.len() != requests {
            return Err(Error::Caches {
                found: self.caches.len(),
                expected: requests,
            });
        }
        let mut arrays = vec![
            ("the hidden states", &self.hidden, [requests, hidden]),
            ("the queries' weight", &self.weights.queries, [hidden, wide]),
            ("the keys' weight", &self.weights.keys, [hidden, narrow]),
            ("the values' weight", &self.weights.values, [hidden, narrow]),
            ("the output's weight", &self.weights.output, [wide, hidden]),
        ];
        for (cache, tokens) in self.caches.iter().zip(&shape.cached) {
            arrays.push(("a cache's keys", &cache.keys, [*tokens, narrow]));
            arrays.push(("a cache's values", &cache.values, [*tokens, narrow]));
        }
        for (name, array, expected) in arrays {
            if array.shape != expected || array.data.len() != expected[0] * expected[1] {
                return Err(Error::WrongShape {
                    name,
                    found: array.shape.clone(),
                    expected,
                });
            }
        }
        Ok(())
    }
}
