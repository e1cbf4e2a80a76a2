//! The mapped dataflow in miniature: the same mapping file on a small array, every word moved, against a golden
//! reference.
//!
//! Arrays shrink to 8 x 8, ranks with them: as many tiles as there were, up to 8, and the last one partial where it
//! was. One batch, two heads; ranks that no array is as long as have 8 coordinates. Buffers shrink with the inputs, so
//! that what did not fit does not fit. Ranks shrink further where an Einsum of many ranks would have millions of points.
//! What is proved is the structure: loops, pipeline, hand-overs, partial tiles. What length does to the numbers is
//! the business of
//! [`real_length`](mod@super::real_length).

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_mappings::{bind, mapped::MappedCascade};
use einflow_spec::{NumberFormat, Problems, quantity::Bytes};
use einflow_workloads::{
    cascade::{Cascade, RankId, Sizes, TensorKind},
    interpret::{Array, Options, interpret, interpret_with},
};

use super::{
    inputs::inputs,
    real_length::{compared, errors, finite, function_unit},
    roles::{self, SIDE},
};
use crate::{
    array::{self, ArrayError},
    cycle,
    events::Unseen,
};

pub use crate::report::{Miniature, MiniatureError, Reference};

/// How often a buffer in which the miniature does not fit is doubled.
const DOUBLINGS: u32 = 24;

/// Runs a mapped cascade in miniature: with exact functions, and where `as_listed` says so as the operators compute them
/// besides.
///
/// # Errors
/// See [`MiniatureError`].
pub fn miniature(mapped: &MappedCascade, as_listed: bool) -> Result<Miniature, MiniatureError> {
    let small = shrunk(mapped)?;
    let inputs = inputs(&small)?;
    let format = small.accelerator.word;
    let sizes = sizes_of(&small);
    let reference_options = Options::new(NumberFormat::F64);
    let computed = interpret(&small.cascade, &sizes, &inputs, &reference_options)?;
    let (kind, reference) = match attention(&small.cascade, &sizes, &inputs) {
        Some(values) if agrees(&computed, &values) => (
            Reference::Attention,
            BTreeMap::from([("AV".to_string(), values)]),
        ),
        _ => {
            let data = computed.into_iter().map(|(name, array)| (name, array.data));
            (Reference::Interpreter, data.collect())
        }
    };
    finite(&reference, "in 64 bits")?;
    let errors = |outputs: &BTreeMap<String, Array>, by: &'static str| {
        errors(&reference, outputs, by).map_err(MiniatureError::from)
    };
    let plain = exact(&small);
    let run = array::run(&plain, &inputs).map_err(on_array)?;
    let cycles = run.blocks.iter().map(|b| b.cycles).sum();
    let expected =
        cycle::run(&plain, true, &mut Unseen).map_err(|e| MiniatureError::Cycle(e.to_string()))?;
    let options = Options::new(format);
    let same = interpret(&small.cascade, &sizes, &inputs, &options)?;
    let as_interpreted = same.iter().all(|(name, array)| {
        let bits = |a: &Array| a.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        run.outputs
            .get(name)
            .is_some_and(|o| bits(o) == bits(array))
    });
    let listed = if as_listed && *plain.accelerator != *small.accelerator {
        // Where the array does what the interpreter does, the interpreter does what the array would.
        let outputs = if as_interpreted {
            let unit = |einsum, function| function_unit(&small, einsum, function);
            interpret_with(&small.cascade, &sizes, &inputs, &options, &unit)?
        } else {
            array::run(&small, &inputs).map_err(on_array)?.outputs
        };
        let by = "with functions as the accelerator's operators compute them";
        Some(errors(&outputs, by)?)
    } else {
        None
    };
    Ok(Miniature {
        sizes: sizes.0,
        arrays: small
            .accelerator
            .arrays
            .iter()
            .map(|a| (a.name.clone(), a.rows, a.columns))
            .collect(),
        formats: (format, format.default_accumulator()),
        reference: kind,
        errors: errors(&run.outputs, "on the array")?,
        as_listed: listed,
        as_interpreted,
        cycles: (cycles, expected.iter().map(|b| b.cycles).sum()),
        toothless: roles::toothless(mapped, &small.sizes),
    })
}

fn on_array(error: ArrayError) -> MiniatureError {
    MiniatureError::Array(error.to_string())
}

/// The sizes of a miniature, and the bytes that its blocks keep in each memory; where there is none, the sizes of the
/// whole.
pub type Shape = (BTreeMap<String, u64>, Vec<Vec<u128>>);

/// What the miniature of a mapped cascade follows from, besides its files.
pub fn key(mapped: &MappedCascade) -> Shape {
    match shrunk(mapped) {
        Ok(small) => {
            let kept = small.blocks.iter().map(|b| b.occupancy.clone()).collect();
            (small.sizes, kept)
        }
        Err(_) => (mapped.sizes.clone(), Vec::new()),
    }
}

/// The same with exact functions.
fn exact(mapped: &MappedCascade) -> MappedCascade {
    let mut accelerator = (*mapped.accelerator).clone();
    for array in &mut accelerator.arrays {
        array.operators.values_mut().for_each(|o| o.computes = None);
    }
    mapped.on(&Arc::new(accelerator))
}

/// The mapping on small arrays, at small sizes.
fn shrunk(mapped: &MappedCascade) -> Result<MappedCascade, MiniatureError> {
    let mut spec = (*mapped.spec).clone();
    if let Some(table) = &spec.table {
        // A published choice stays what it is for the real shape.
        let real = |name: &str| mapped.sizes.get(name).copied();
        let pinned = table.pinned(&spec.source, &real);
        spec.table = Some(pinned.map_err(|p| MiniatureError::Bind(p.into()))?);
    }
    let spec = Arc::new(spec);
    let given = roles::sizes(mapped);
    let words = |sizes: &dyn Fn(&str) -> u64| -> f64 {
        let cascade = &mapped.cascade;
        let inputs = cascade
            .tensors
            .iter()
            .filter(|t| t.kind == TensorKind::Input);
        let of = |ranks: &[RankId]| -> f64 {
            ranks
                .iter()
                .map(|r| sizes(&cascade.rank(*r).name) as f64)
                .product()
        };
        inputs.map(|t| of(&t.ranks)).sum()
    };
    let real = words(&|name| mapped.sizes.get(name).copied().unwrap_or(1));
    let small = words(&|name| given.get(name).copied().unwrap_or(1));
    let share = (small / real).min(1.0);
    let mut problems = Problems::new();
    for doubling in 0..DOUBLINGS {
        let accelerator =
            small_accelerator(&mapped.accelerator, share * f64::from(1u32 << doubling));
        match bind(&mapped.cascade, &Arc::new(accelerator), &spec, &given) {
            Ok(found) => return Ok(found),
            Err(why) => problems = why,
        }
    }
    Err(MiniatureError::Bind(problems))
}

/// Arrays of at most 8 x 8; rows of memories as many times as wide as before as a row of PEs; capacities of a share.
fn small_accelerator(accelerator: &Accelerator, share: f64) -> Accelerator {
    let mut out = accelerator.clone();
    let widest = accelerator
        .arrays
        .iter()
        .map(|a| a.columns)
        .max()
        .unwrap_or(1);
    let side = widest.min(SIDE);
    for array in &mut out.arrays {
        array.rows = array.rows.min(SIDE);
        array.columns = array.columns.min(SIDE);
    }
    let word = accelerator.word.bytes().0;
    for memory in out.memories.iter_mut().skip(1) {
        let row = (memory.row.0 * u128::from(side)).div_ceil(u128::from(widest));
        memory.row = Bytes(row.max(word).next_multiple_of(word));
        if let Some(capacity) = &mut memory.capacity {
            let rows = (capacity.0 as f64 * share / memory.row.0 as f64)
                .ceil()
                .max(1.0);
            capacity.0 = capacity.0.min(rows as u128 * memory.row.0);
        }
    }
    out
}

fn sizes_of(mapped: &MappedCascade) -> Sizes {
    let cascade = &mapped.cascade;
    let ranks = cascade.ranks.iter().map(|r| &r.name);
    let names = ranks.chain(cascade.parameters.keys());
    Sizes(
        names
            .filter_map(|name| Some((name.clone(), *mapped.sizes.get(name)?)))
            .collect(),
    )
}

/// The golden reference: softmax attention of Q[b, h, e, p], K[b, h, e, m] and V[b, h, f, m], one query after
/// another. `None` where the cascade has other inputs or outputs.
fn attention(
    cascade: &Cascade,
    sizes: &Sizes,
    inputs: &BTreeMap<String, Array>,
) -> Option<Vec<f64>> {
    let data = |name: &str| Some(inputs.get(name)?.data.as_slice());
    let (q, k, v) = (data("Q")?, data("K")?, data("V")?);
    let size = |name: &str| Some(sizes.get(name)? as usize);
    let (e, f, m, p) = (size("E")?, size("F")?, size("M")?, size("P")?);
    let heads = q.len() / (e * p);
    let whole = k.len() == heads * e * m && v.len() == heads * f * m;
    if inputs.len() != 3 || cascade.outputs.len() != 1 || !whole {
        return None;
    }
    let mut out = vec![0.0; heads * f * p];
    for head in 0..heads {
        let (q, k, v) = (&q[head * e * p..], &k[head * e * m..], &v[head * f * m..]);
        for query in 0..p {
            let score =
                |key: usize| -> f64 { (0..e).map(|i| q[i * p + query] * k[i * m + key]).sum() };
            let highest = (0..m).map(score).fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = (0..m).map(|key| (score(key) - highest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for channel in 0..f {
                let value: f64 = weights
                    .iter()
                    .enumerate()
                    .map(|(key, w)| w * v[channel * m + key])
                    .sum();
                out[head * f * p + channel * p + query] = value / sum;
            }
        }
    }
    Some(out)
}

/// Whether what the cascade computes in 64 bits is softmax attention: a masked or a scaled one is not.
fn agrees(computed: &BTreeMap<String, Array>, attention: &[f64]) -> bool {
    computed.get("AV").is_some_and(|own| {
        // A few thousand roundings of 2^-53 each.
        compared([(own.data.as_slice(), attention)]).max_rel <= 1e-9
    })
}
