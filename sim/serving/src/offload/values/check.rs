//! A split step against the same step unsplit, on inputs that would overflow without the shift by maxima.

use einflow_spec::NumberFormat;
use einflow_workloads::interpret::Array;

use super::kernels::{from_fn, row};
use super::{Cache, Error, Inputs, Shape, Split, Weights, decode_step};
use einflow_engine::check::real_length::Random;

const SEED: u64 = 0x5eed;

/// A split step beside the unsplit one, both in one format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// The largest difference of an output; infinite where either is not a number.
    pub difference: f64,
    /// What rounding explains.
    pub bound: f64,
}

impl Agreement {
    /// Whether the difference is within the bound.
    pub fn holds(&self) -> bool {
        self.difference <= self.bound
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// In f64.
    pub f64: Agreement,
    /// In bf16 with sums in f32.
    pub bf16: Agreement,
    /// The largest distance between the maxima of two parts that were merged; 0 where none were. Above 709.8 the exponential
    /// of the difference overflows f64, above 88.7 f32.
    pub apart: f64,
}

/// Computes a step split and unsplit, on seeded random inputs.
///
/// # Errors
/// As [`decode_step`].
pub fn check(shape: &Shape, split: &Split) -> Result<Checked, Error> {
    shape.validate(split)?;
    let inputs = Inputs::seeded(shape, SEED);
    let mut apart = 0.0f64;
    let mut agreement = |format| -> Result<Agreement, Error> {
        let own = decode_step(shape, split, &inputs, format)?;
        let whole = decode_step(shape, &Split::NONE, &inputs, format)?;
        apart = apart.max(own.apart);
        let pairs = own.outputs.data.iter().zip(&whole.outputs.data);
        let differences = pairs.map(|(a, b)| (a - b).abs());
        Ok(Agreement {
            difference: differences
                .map(|d| if d.is_nan() { f64::INFINITY } else { d })
                .fold(0.0, f64::max),
            bound: bound(shape, split, &inputs, format),
        })
    };
    let (f64, bf16) = (
        agreement(NumberFormat::F64)?,
        agreement(NumberFormat::Bf16)?,
    );
    Ok(Checked { f64, bf16, apart })
}

/// How far rounding alone can take a split step from the unsplit one.
///
/// Both make the same queries, keys, values and scores, to the bit: each is the same sum in the same order. What differs is
/// relative to `sum_m a_m |v_m|`, at most the largest value, and an output sums that over its column of the output's weight.
/// In units of the format's roundoff an unsplit head has 5 roundings (SN, SD, A and AV, SN twice), a split one 9 (SLN, PLM, SLD
/// or SLNV, SD or SNV, for numerator and denominator, and the division), and the output 3 (a shard's, the sum's, the unsplit
/// one's). In units of the accumulator's a sum of n products has at most n + 1: over the tokens in numerator and denominator, over
/// the heads, over the devices; an exponential's argument x rounds by |x| units, which weighed by exp(x) are at most ln M in the mean, and
/// ln M < M. All of these on both sides, so four times; 10 more for exponentials, quotients and products. 1.1 is for products
/// of errors.
fn bound(shape: &Shape, split: &Split, inputs: &Inputs, format: NumberFormat) -> f64 {
    let tokens = shape.cached.iter().max().map_or(0, |tokens| tokens + 1);
    let terms = 2 * tokens
        + shape.heads * shape.head
        + split.devices.min(shape.requests().max(shape.key_heads));
    let roundings = 17.0 * format.unit_roundoff()
        + 4.0 * (terms + 10) as f64 * format.default_accumulator().unit_roundoff();
    1.1 * roundings * inputs.scale()
}

impl Inputs {
    /// Random inputs, the same for a seed on every machine.
    ///
    /// Hidden states and the weights of queries and keys are positive, so that a new token's score is a small positive
    /// number. Of three requests, the first has an old token whose score is in the hundreds or thousands, the second only old tokens
    /// with scores as far below 0, the third old tokens with small scores: the maximum is an old token's, the new one's, either.
    pub fn seeded(shape: &Shape, seed: u64) -> Self {
        let mut random = Random(seed);
        let (wide, narrow) = (shape.heads * shape.head, shape.key_heads * shape.head);
        let d = shape.hidden;
        let mut signed = |rows, columns| from_fn([rows, columns], |_| 2.0 * random.uniform() - 1.0);
        let (values, output) = (signed(d, narrow), signed(wide, d));
        let mut cached: Vec<Cache> = Vec::new();
        for tokens in &shape.cached {
            cached.push(Cache {
                keys: signed(*tokens, narrow),
                values: signed(*tokens, narrow),
            });
        }
        let mut positive = |rows, columns, scale: f64| {
            from_fn([rows, columns], |_| scale * (0.5 + 0.5 * random.uniform()))
        };
        let hidden = positive(shape.requests(), d, 1.0);
        // A query is in 1/4..1 then.
        let (queries, keys) = (
            positive(d, wide, 1.0 / d as f64),
            positive(d, narrow, 1.0 / d as f64),
        );
        // E products of at least 1/4 and 1/2, divided by sqrt(E): scores of at least 800.
        let far = 6400.0 / (shape.head as f64).sqrt();
        for (request, cache) in cached.iter_mut().enumerate() {
            let tokens = cache.keys.shape[0];
            match request % 3 {
                0 => {
                    let large = positive(1, narrow, far);
                    let first = request % tokens * narrow;
                    cache.keys.data[first..first + narrow].copy_from_slice(&large.data);
                }
                1 => cache.keys = positive(tokens, narrow, -far),
                _ => {}
            }
        }
        Self {
            hidden,
            weights: Weights {
                queries,
                keys,
                values,
                output,
            },
            caches: cached,
        }
    }

    /// The largest output of which errors in attention are a fraction: the largest value, cached or new, over the largest
    /// sum of a column of the output's weight.
    fn scale(&self) -> f64 {
        let (hidden, values) = (&self.hidden, &self.weights.values);
        let sums = |rows: &Array, of: &dyn Fn(usize, f64) -> f64| {
            let sum = |j: usize| {
                (0..rows.shape[0])
                    .map(|i| of(i, row(rows, i)[j]))
                    .sum::<f64>()
            };
            (0..rows.shape[1]).map(sum).fold(0.0, f64::max)
        };
        let new = (0..hidden.shape[0]).map(|request| {
            let state = row(hidden, request);
            sums(values, &|i, weight| (state[i] * weight).abs())
        });
        let cached = self.caches.iter().map(|cache| cache.values.max_abs());
        let largest = new.chain(cached).fold(0.0, f64::max);
        largest * sums(&self.weights.output, &|_, weight| weight.abs())
    }
}
