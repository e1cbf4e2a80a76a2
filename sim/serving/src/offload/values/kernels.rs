//! What a device computes, as cascades of the library; matrices as arrays of two axes.

use std::collections::BTreeMap;
use std::ops::Range;

use einflow_spec::NumberFormat;
use einflow_workloads::cascade::Cascade;
use einflow_workloads::interpret::{Array, Options, interpret};

use super::{Cache, Error};

/// The cascades, and the format to compute in.
pub(super) struct Kernels {
    product: Cascade,
    attention: Cascade,
    partial: Cascade,
    merge: Cascade,
    format: NumberFormat,
}

/// Attention of one request to a part of its tokens. The queries that share a key head are P of `attention/partial`,
/// the key heads its batch.
pub(super) struct Part {
    /// Key heads x queries.
    maxima: Array,
    /// Key heads x queries.
    denominators: Array,
    /// Key heads x E x queries.
    numerators: Array,
}

impl Part {
    /// The largest distance between the maxima of two parts.
    pub(super) fn apart(&self, other: &Part) -> f64 {
        let pairs = self.maxima.data.iter().zip(&other.maxima.data);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }
}

impl Kernels {
    pub(super) fn new(format: NumberFormat) -> Result<Self, Error> {
        let load = |name| Cascade::load(name, None).map_err(Error::Cascade);
        Ok(Self {
            product: load("linear-algebra/matmul")?,
            attention: load("attention/grouped-query")?,
            partial: load("attention/partial")?,
            merge: load("attention/merge")?,
            format,
        })
    }

    /// Rows times a weight.
    pub(super) fn product(&self, rows: &Array, weight: &Array) -> Result<Array, Error> {
        let ([m, k], [_, n]) = (sides(rows), sides(weight));
        let left = from_fn([k, m], |[k, m]| row(rows, m)[k]);
        let outputs = self.run(
            &self.product,
            &[("K", k), ("M", m), ("N", n)],
            [("A", left), ("B", weight.clone())],
        )?;
        let [product] = outputs;
        Ok(product)
    }

    /// Attention of one token's queries to all tokens of a cache, in as many numbers as the queries have.
    pub(super) fn attention(
        &self,
        queries: &[f64],
        cache: &Cache,
        key_heads: usize,
    ) -> Result<Vec<f64>, Error> {
        let [tokens, width] = sides(&cache.keys);
        let head = width / key_heads;
        let heads = queries.len() / head;
        let laid = |rows: &Array| {
            from_fn([head, tokens, key_heads], |[e, m, g]| {
                row(rows, m)[g * head + e]
            })
        };
        let [out] = self.run(
            &self.attention,
            &[
                ("B", 1),
                ("H", heads),
                ("G", key_heads),
                ("E", head),
                ("F", head),
                ("M", tokens),
                ("P", 1),
            ],
            [
                (
                    "Q",
                    from_fn([head, 1, heads], |[e, _, h]| queries[h * head + e]),
                ),
                ("K", laid(&cache.keys)),
                ("V", laid(&cache.values)),
            ],
        )?;
        Ok(from_fn([heads, head], |[h, f]| out.data[f * heads + h]).data)
    }

    /// Attention to the tokens of a cache as a part of all.
    pub(super) fn partial(
        &self,
        queries: &[f64],
        cache: &Cache,
        key_heads: usize,
    ) -> Result<Part, Error> {
        let [tokens, width] = sides(&cache.keys);
        let head = width / key_heads;
        let group = queries.len() / width;
        let laid = |rows: &Array| {
            from_fn([key_heads, head, tokens], |[g, e, m]| {
                row(rows, m)[g * head + e]
            })
        };
        let own = from_fn([key_heads, head, group], |[g, e, p]| {
            queries[(g * group + p) * head + e]
        });
        let [maxima, denominators, numerators] = self.run(
            &self.partial,
            &[
                ("B", 1),
                ("H", key_heads),
                ("E", head),
                ("F", head),
                ("M", tokens),
                ("P", group),
            ],
            [
                ("Q", own),
                ("K", laid(&cache.keys)),
                ("V", laid(&cache.values)),
            ],
        )?;
        Ok(Part {
            maxima,
            denominators,
            numerators,
        })
    }

    /// Attention from its parts, in as many numbers as the queries had.
    pub(super) fn merged(&self, parts: &[&Part]) -> Result<Vec<f64>, Error> {
        let Some(first) = parts.first() else {
            return Ok(Vec::new());
        };
        let ([key_heads, group], count) = (sides(&first.maxima), parts.len());
        let head = first.numerators.shape[1];
        let summary = |of: fn(&Part) -> &Array| {
            from_fn([key_heads, count, group], |[g, i, p]| {
                of(parts[i]).data[g * group + p]
            })
        };
        let numerators = from_fn([key_heads, head, count, group], |[g, f, i, p]| {
            parts[i].numerators.data[(g * head + f) * group + p]
        });
        let [out] = self.run(
            &self.merge,
            &[
                ("B", 1),
                ("H", key_heads),
                ("F", head),
                ("M1", count),
                ("P", group),
            ],
            [
                ("LM", summary(|part| &part.maxima)),
                ("SLD", summary(|part| &part.denominators)),
                ("SLNV", numerators),
            ],
        )?;
        let heads = from_fn([key_heads, group, head], |[g, p, f]| {
            out.data[(g * head + f) * group + p]
        });
        Ok(heads.data)
    }

    /// The sum of vectors, each addition in the accumulator's format, the result in the format.
    pub(super) fn sum(&self, parts: &[Vec<f64>]) -> Vec<f64> {
        let accumulator = self.format.default_accumulator();
        let width = parts.first().map_or(0, Vec::len);
        let of = |i: usize| {
            let terms = parts.iter().map(|part| part[i]);
            terms.fold(0.0, |sum, x| accumulator.round(sum + x))
        };
        (0..width).map(|i| self.format.round(of(i))).collect()
    }

    /// The outputs of a cascade, in the order that it declares.
    fn run<const INPUTS: usize, const OUTPUTS: usize>(
        &self,
        cascade: &Cascade,
        sizes: &[(&str, usize)],
        inputs: [(&str, Array); INPUTS],
    ) -> Result<[Array; OUTPUTS], Error> {
        let sizes: BTreeMap<String, u64> = sizes
            .iter()
            .map(|(name, size)| ((*name).to_owned(), *size as u64))
            .collect();
        let sizes = cascade.sizes(&sizes).map_err(Error::Cascade)?;
        let inputs = inputs.map(|(name, array)| (name.to_owned(), array));
        let options = Options::new(self.format);
        let mut outputs = interpret(cascade, &sizes, &inputs.into(), &options)?;
        let mut names = cascade.outputs.iter().map(|id| &cascade.tensor(*id).name);
        Ok(std::array::from_fn(|_| {
            let found = names.next().and_then(|name| outputs.remove(name));
            found.unwrap_or_else(|| Array::new([0, 0], []))
        }))
    }
}

/// Rows and columns of a matrix.
fn sides(matrix: &Array) -> [usize; 2] {
    [matrix.shape[0], matrix.shape[1]]
}

/// A row of a matrix.
pub(super) fn row(matrix: &Array, index: usize) -> &[f64] {
    let width = matrix.shape[1];
    &matrix.data[index * width..(index + 1) * width]
}

/// Some rows of a matrix.
pub(super) fn pick(matrix: &Array, rows: &[usize]) -> Array {
    let data = rows.iter().flat_map(|i| row(matrix, *i)).copied();
    Array::new([rows.len(), matrix.shape[1]], data.collect::<Vec<f64>>())
}

/// Some columns of a matrix.
pub(super) fn columns(matrix: &Array, columns: Range<usize>) -> Array {
    from_fn([matrix.shape[0], columns.len()], |[i, j]| {
        row(matrix, i)[columns.start + j]
    })
}

/// The array with the element `of` its coordinates.
pub(super) fn from_fn<const N: usize>(
    shape: [usize; N],
    mut of: impl FnMut([usize; N]) -> f64,
) -> Array {
    let mut at = [0; N];
    let mut data = Vec::with_capacity(shape.iter().product());
    for _ in 0..shape.iter().product() {
        data.push(of(at));
        for axis in (0..N).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    Array::new(shape, data)
}
