//! One query at the real length: what the accelerator's number format and function units make of the result.
//!
//! The cascade is computed by the reference interpreter as the accelerator would: every tensor in the format of a
//! word, running values (`RD`) and partial sums too, since registers and links hold words; the functions as its
//! operators list them ([`function_unit`]). One query, one batch and one head see all keys, or as many as a mask leaves
//! any query; E and F are shrunk, for the arithmetic along the keys is what length bears on. The mapping gives the cascade's tiles (M0), so sums are
//! those of the tiles.
//!
//! Queries, keys and values come from a fixed seed, rounded to the word's format before anything is computed, the
//! reference included: the query has length 1 and keys have standard normal elements, so scores are standard normal,
//! as 1/sqrt(E) makes them of standard normal queries; values are standard normal.

mod sums;

use std::collections::BTreeMap;

use super::query;
use crate::report::NotFinite;
use einflow_mappings::mapped::{BoundEinsum, MappedCascade};
use einflow_spec::NumberFormat;
use einflow_workloads::{
    cascade::{Cascade, EinsumId, Function, Partition, RankId, Sizes, TensorId, TensorKind},
    interpret::{Array, FunctionUnit, Kept, Options, interpret_with, memory},
};
use sums::{Lost, RunningSum};

pub use crate::report::{Errors, RealLength, RealLengthError, Reference, Stagnation};

/// E and F are shrunk to this, or further where the tensors would not fit.
const MOST_CHANNELS: u64 = 8;

/// Bytes that the tensors of a run may take with more than one channel: about 64 MB.
const MEMORY: u128 = 64_000_000;

/// A sum is cured by a format in which its relative error is at most so many unit roundoffs of the word's format.
const CURED: f64 = 4.0;

/// The interpreter's f64 and a loop over the keys agree this far, relative to the largest output.
const AGREEMENT: f64 = 1e-9;

const SEED: u64 = 0x5eed;

/// Checks one query at the length that the mapping was bound for. `accumulator` is the format of operators and partial
/// sums; `None` for the word's own, in which the accelerator's registers and links hold them.
///
/// # Errors
/// See [`RealLengthError`].
pub fn real_length(
    mapped: &MappedCascade,
    accumulator: Option<NumberFormat>,
) -> Result<RealLength, RealLengthError> {
    let format = mapped.accelerator.word;
    let accumulator = accumulator.unwrap_or(format);
    let sums = running_sums(&mapped.cascade);
    let mut kept = mapped.cascade.outputs.clone();
    kept.extend(sums.iter().flat_map(RunningSum::tensors));
    let sizes = shrunk(mapped, Kept::Only(&kept))?;
    let mask = query::with_most_keys(mapped);
    let moved = mask.as_ref().map(|mask| query::moved(mapped, mask.query));
    let run = Run::new(moved.as_ref().unwrap_or(&mapped.cascade), sizes, format)?;
    let options = Options {
        accumulator,
        ..Options::new(format)
    };
    let unit = |einsum, function| function_unit(mapped, einsum, function);
    let by = "with functions as the accelerator's operators compute them";
    let listed = errors(&run.reference, &run.compute(options, &unit)?, by)?;
    let traced = Options {
        kept: Kept::Only(&kept),
        ..options
    };
    let trace = run.compute(traced, &exact)?;
    let exact_exponential = errors(&run.reference, &trace, "in the word's format")?;
    let size = |name: &str| run.sizes.get(name).unwrap_or(1);
    let (length, e, f) = (size("M"), size("E"), size("F"));
    let mut lost = sums.iter().filter_map(|sum| sum.lost(run.cascade, &trace));
    let stagnation = lost.next().map(|lost| run.stagnation(lost)).transpose()?;
    Ok(RealLength {
        length,
        e,
        f,
        format,
        accumulator,
        reference: run.kind,
        max_abs_error: listed.max_abs,
        max_rel_error: listed.max_rel,
        exact_exponential,
        stagnation,
        mask,
    })
}

/// What computes a function of one operand in an Einsum: the operator of its unit that applies it, alone or as the
/// last of a chain; exact where it is bound to none, or the operator states no polynomial.
pub fn function_unit(mapped: &MappedCascade, einsum: EinsumId, function: Function) -> FunctionUnit {
    let nests = mapped.blocks.iter().flat_map(|block| &block.nests);
    let bound: Option<&BoundEinsum> = nests
        .flat_map(|nest| &nest.einsums)
        .find(|bound| bound.einsum == einsum);
    let Some(bound) = bound else {
        return FunctionUnit::Exact;
    };
    let last = |name: &str| name.rsplit('+').next() == Some(function.name());
    let mut names = bound.operators.iter().map(|(name, _)| name.as_str());
    let array = mapped.accelerator.arrays.get(bound.unit);
    let operator = names
        .find(|name| last(name))
        .and_then(|name| array?.operator(name));
    match operator.and_then(|operator| operator.computes.as_ref()) {
        Some(polynomial) => FunctionUnit::Polynomial {
            coefficients: polynomial.coefficients.clone(),
            reduced: polynomial.reduction.is_some(),
        },
        None => FunctionUnit::Exact,
    }
}

fn exact(_: EinsumId, _: Function) -> FunctionUnit {
    FunctionUnit::Exact
}

fn running_sums(cascade: &Cascade) -> Vec<RunningSum> {
    let tensors = (0..cascade.tensors.len()).map(TensorId);
    let sum = |tensor| RunningSum::of(cascade, tensor);
    tensors.filter_map(sum).collect()
}

/// The sizes of one query: P, B and H are 1, E and F shrunk, all else as mapped.
fn shrunk(mapped: &MappedCascade, kept: Kept<'_>) -> Result<Sizes, RealLengthError> {
    let cascade = &*mapped.cascade;
    if !cascade.ranks.iter().any(|rank| rank.name == "M") {
        return Err(RealLengthError::NoKeys {
            cascade: cascade.name.clone(),
        });
    }
    let names = cascade.ranks.iter().map(|rank| &rank.name);
    let mut given = BTreeMap::new();
    for name in names.chain(cascade.parameters.keys()) {
        if let Some(size) = mapped.sizes.get(name) {
            given.insert(name.clone(), *size);
        }
    }
    given.extend(["P", "B", "H"].map(|name| (name.to_owned(), 1)));
    // What follows from others follows from the new ones.
    given.retain(|name, _| {
        let part = |p: &Partition| cascade.rank(p.parts[0]).name == *name;
        !cascade.partitions.iter().any(part)
            && !cascade.parameters.get(name).is_some_and(|p| p.fixed)
    });
    let mut most = MOST_CHANNELS;
    loop {
        for name in ["E", "F"] {
            if let Some(size) = given.get_mut(name) {
                *size = (*size).min(most);
            }
        }
        let sizes = cascade.sizes(&given).map_err(RealLengthError::Sizes)?;
        if most == 1 || memory(cascade, &sizes, kept)? <= MEMORY {
            return Ok(sizes);
        }
        most /= 2;
    }
}

/// Inputs with their reference, to be computed in several ways.
struct Run<'a> {
    cascade: &'a Cascade,
    sizes: Sizes,
    inputs: BTreeMap<String, Array>,
    format: NumberFormat,
    /// By output.
    reference: BTreeMap<String, Vec<f64>>,
    kind: Reference,
}

impl<'a> Run<'a> {
    /// Draws the inputs and computes their reference.
    fn new(
        cascade: &'a Cascade,
        sizes: Sizes,
        format: NumberFormat,
    ) -> Result<Self, RealLengthError> {
        let mut run = Self {
            cascade,
            sizes,
            inputs: BTreeMap::new(),
            format,
            reference: BTreeMap::new(),
            kind: Reference::Attention,
        };
        let channels = run.sizes.get("E").unwrap_or(1) as f64;
        // Cascades that scale scores by 1/sqrt(E) themselves get a query that is sqrt(E) times as long.
        for scale in [1.0, 1.0 / channels.sqrt()] {
            run.inputs = run.draw(1.0 / scale)?;
            let computed = run.compute(Options::new(NumberFormat::F64), &exact)?;
            let computed = computed.into_iter().map(|(name, array)| (name, array.data));
            run.reference = computed.collect();
            finite(&run.reference, "in 64 bits")?;
            if let Some(found) = run.attention(scale) {
                let close = run.reference.get("AV").is_some_and(|own| {
                    let errors = compared([(own.as_slice(), found.as_slice())]);
                    errors.max_rel <= AGREEMENT
                });
                if close {
                    run.reference = BTreeMap::from([("AV".to_owned(), found)]);
                    return Ok(run);
                }
            }
        }
        run.kind = Reference::Interpreter;
        Ok(run)
    }

    /// Inputs in the word's format; the query `Q` has the given length.
    fn draw(&self, query: f64) -> Result<BTreeMap<String, Array>, RealLengthError> {
        let mut random = Random(SEED);
        let mut inputs = BTreeMap::new();
        for tensor in &self.cascade.tensors {
            if tensor.kind != TensorKind::Input {
                continue;
            }
            if tensor.coordinates_of.is_some() {
                return Err(RealLengthError::Coordinates {
                    cascade: self.cascade.name.clone(),
                    input: tensor.name.clone(),
                });
            }
            let size = |rank: &RankId| self.sizes.get(&self.cascade.rank(*rank).name).unwrap_or(1);
            let shape: Vec<usize> = tensor.ranks.iter().map(|r| size(r) as usize).collect();
            let mut data: Vec<f64> = (0..shape.iter().product())
                .map(|_| random.normal())
                .collect();
            if tensor.name == "Q" {
                // Of each query: there may be more than one, where queries share the keys' rank.
                let queries = shape.iter().skip(1).product::<usize>().max(1);
                for q in 0..queries {
                    let norm = data
                        .iter()
                        .skip(q)
                        .step_by(queries)
                        .map(|x| x * x)
                        .sum::<f64>()
                        .sqrt();
                    let scaled = data.iter_mut().skip(q).step_by(queries);
                    scaled.for_each(|x| *x *= query / norm);
                }
            }
            data.iter_mut().for_each(|x| *x = self.format.round(*x));
            inputs.insert(tensor.name.clone(), Array::new(shape, data));
        }
        Ok(inputs)
    }

    fn compute(
        &self,
        options: Options<'_>,
        units: &dyn Fn(EinsumId, Function) -> FunctionUnit,
    ) -> Result<BTreeMap<String, Array>, RealLengthError> {
        Ok(interpret_with(
            self.cascade,
            &self.sizes,
            &self.inputs,
            &options,
            units,
        )?)
    }

    /// Softmax attention of the query over all keys, scores times `scale`; `None` where the cascade has other inputs
    /// or outputs.
    fn attention(&self, scale: f64) -> Option<Vec<f64>> {
        let data = |name: &str| Some(self.inputs.get(name)?.data.as_slice());
        let (query, keys, values) = (data("Q")?, data("K")?, data("V")?);
        let length = self.sizes.get("M")? as usize;
        let whole = keys.len() == query.len() * length && values.len().is_multiple_of(length);
        let outputs = &self.cascade.outputs;
        if self.inputs.len() != 3 || outputs.len() != 1 || !whole || self.sizes.get("P") != Some(1)
        {
            return None;
        }
        let score = |m: usize| {
            let products = query
                .iter()
                .enumerate()
                .map(|(e, q)| q * keys[e * length + m]);
            products.sum::<f64>() * scale
        };
        let highest = (0..length).map(score).fold(f64::NEG_INFINITY, f64::max);
        let mut denominator = 0.0;
        let mut numerators = vec![0.0; values.len() / length];
        for m in 0..length {
            let weight = (score(m) - highest).exp();
            denominator += weight;
            for (f, numerator) in numerators.iter_mut().enumerate() {
                *numerator += weight * values[f * length + m];
            }
        }
        Some(numerators.iter().map(|n| n / denominator).collect())
    }

    /// What a sum that loses increments has come to, and which format cures it.
    fn stagnation(&self, lost: Lost) -> Result<Stagnation, RealLengthError> {
        let bound = CURED * self.format.unit_roundoff();
        let last = |sums: NumberFormat| -> Result<f64, RealLengthError> {
            let options = Options {
                accumulator: sums,
                running: sums,
                kept: Kept::Only(&[lost.tensor]),
                ..Options::new(self.format)
            };
            let trace = self.compute(options, &exact)?;
            let array = trace.get(&self.cascade.tensor(lost.tensor).name);
            Ok(array
                .and_then(|a| a.data.get(lost.last))
                .copied()
                .unwrap_or(f64::NAN))
        };
        let wanted = last(NumberFormat::F64)?;
        let error = |found: f64| ((found - wanted) / wanted).abs();
        // One of no more precision loses what the word's own does.
        let mut wider = NumberFormat::narrowest_first();
        wider.retain(|format| format.precision() > self.format.precision());
        let mut cure = None;
        for format in wider {
            if error(last(format)?) <= bound {
                cure = Some(format);
                break;
            }
        }
        let tile = self.keys_of_a_step(lost.rank);
        Ok(Stagnation {
            tensor: self.cascade.tensor(lost.tensor).name.clone(),
            key: lost.first * tile,
            stopped: lost.stopped.map(|step| step * tile),
            lost: lost.count,
            steps: lost.steps,
            relative_error: error(lost.value),
            bound,
            cure,
        })
    }

    /// Keys for each coordinate of a rank: 1, or the size of a tile where it counts tiles.
    fn keys_of_a_step(&self, rank: RankId) -> u64 {
        for partition in &self.cascade.partitions {
            if let Some(i) = partition.parts.iter().position(|part| *part == rank) {
                let inner = partition.parts[i + 1..].iter();
                return inner
                    .filter_map(|part| self.sizes.get(&self.cascade.rank(*part).name))
                    .product();
            }
        }
        1
    }
}

/// Refuses outputs that are NaN or infinite.
pub(super) fn finite(
    outputs: &BTreeMap<String, Vec<f64>>,
    by: &'static str,
) -> Result<(), NotFinite> {
    let wrong = |data: &[f64]| data.iter().any(|x| !x.is_finite());
    match outputs.iter().find(|(_, data)| wrong(data)) {
        Some((output, _)) => Err(NotFinite {
            output: output.clone(),
            by,
        }),
        None => Ok(()),
    }
}

/// How far outputs are from their reference.
pub(super) fn errors(
    reference: &BTreeMap<String, Vec<f64>>,
    outputs: &BTreeMap<String, Array>,
    by: &'static str,
) -> Result<Errors, NotFinite> {
    let data = |name: &str| outputs.get(name).map_or(&[][..], |array| &array.data);
    let wrong = |name: &&String| data(name).iter().any(|x| !x.is_finite());
    if let Some(output) = reference.keys().find(wrong) {
        return Err(NotFinite {
            output: output.clone(),
            by,
        });
    }
    Ok(compared(reference.iter().map(|(name, reference)| {
        (data(name), reference.as_slice())
    })))
}

/// The largest differences over several outputs: found, reference.
pub(super) fn compared<'a>(outputs: impl IntoIterator<Item = (&'a [f64], &'a [f64])>) -> Errors {
    let (mut max_abs, mut largest) = (0.0f64, 0.0f64);
    for (found, reference) in outputs {
        for (i, reference) in reference.iter().enumerate() {
            let difference = found.get(i).map_or(f64::NAN, |x| (x - reference).abs());
            max_abs = max_abs.max(if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            });
            largest = largest.max(reference.abs());
        }
    }
    let max_rel = if max_abs == 0.0 {
        0.0
    } else {
        max_abs / largest
    };
    Errors { max_abs, max_rel }
}

/// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014), from a seed: the numbers that checks draw, the same on every
/// platform.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Nearly standard normal: the sum of twelve uniform numbers less 6, the same on every platform.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests;
