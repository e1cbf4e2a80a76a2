//! Where the elements of each tensor lie, after the inputs were checked against the sizes.

use std::collections::BTreeMap;

use einflow_spec::did_you_mean;

use super::array::coordinates;
use super::{Array, Error, MAX_ELEMENTS};
use crate::cascade::{Cascade, RankId, Sizes, Tensor, TensorKind};

/// The shape of one tensor.
pub(super) struct Layout {
    /// Lengths of all axes, the batch that is carried in front.
    pub shape: Vec<usize>,
    /// For each batch rank of the cascade, how far apart its coordinates lie: 0 where not carried.
    pub batch_strides: Vec<i64>,
    /// Length of each axis without the batch.
    pub lengths: Vec<i64>,
    /// How far apart neighbours lie along each axis without the batch.
    pub strides: Vec<i64>,
}

/// The shape of every tensor.
pub(super) struct Layouts {
    /// As in [`Cascade::tensors`].
    pub tensors: Vec<Layout>,
    /// As in [`Cascade::ranks`]; 1 for a batch rank that no input carries.
    extents: Vec<usize>,
}

impl Layouts {
    /// Checks `inputs` against the cascade and the sizes, and lays all tensors out.
    pub fn new(
        cascade: &Cascade,
        sizes: &Sizes,
        inputs: &BTreeMap<String, Array>,
    ) -> Result<Self, Error> {
        check_names(cascade, inputs)?;
        let batch = batch_of(cascade, sizes, inputs)?;
        let given = |tensor: &Tensor| {
            let array = inputs.get(&tensor.name);
            array.filter(|_| tensor.kind == TensorKind::Input)
        };
        let layouts = Self::of(cascade, sizes, &batch, &|tensor| {
            given(tensor).is_none_or(|array| array.shape.len() > tensor.ranks.len())
        })?;
        for (tensor, layout) in cascade.tensors.iter().zip(&layouts.tensors) {
            if let Some(array) = given(tensor) {
                check_shape(cascade, tensor, array, layout)?;
            }
        }
        Ok(layouts)
    }

    /// Lays all tensors out, those that `carries` says with the batch in front.
    pub fn of(
        cascade: &Cascade,
        sizes: &Sizes,
        batch: &[usize],
        carries: &dyn Fn(&Tensor) -> bool,
    ) -> Result<Self, Error> {
        let absent = cascade.batch.len() - batch.len();
        let mut extents = Vec::with_capacity(cascade.ranks.len());
        for (r, rank) in cascade.ranks.iter().enumerate() {
            let extent = match cascade.batch.iter().position(|b| *b == RankId(r)) {
                Some(i) if i < absent => 1,
                Some(i) => batch[i - absent],
                None => size_of(sizes, &rank.name)?,
            };
            extents.push(extent);
        }
        let mut layouts = Self {
            tensors: Vec::with_capacity(cascade.tensors.len()),
            extents,
        };
        for tensor in &cascade.tensors {
            let batch = if carries(tensor) { batch } else { &[] };
            let layout = layouts.layout(tensor, batch, cascade.batch.len())?;
            layouts.tensors.push(layout);
        }
        Ok(layouts)
    }

    /// Gives a tensor the room of one coordinate along an axis, at which all of them lie.
    pub fn narrow(&mut self, tensor: usize, axis: usize) {
        let layout = &mut self.tensors[tensor];
        let batch = layout.shape.len() - layout.lengths.len();
        layout.shape[batch + axis] = 1;
        let carried = layout.batch_strides.len() - batch;
        let strides = layout.batch_strides[carried..]
            .iter_mut()
            .chain(&mut layout.strides);
        let mut count = 1;
        for (stride, length) in strides.rev().zip(layout.shape.iter().rev()) {
            (*stride, count) = (count, count * *length as i64);
        }
        layout.strides[axis] = 0;
    }

    /// Number of coordinates of a rank.
    pub fn extent(&self, rank: RankId) -> usize {
        self.extents[rank.0]
    }

    fn layout(
        &self,
        tensor: &Tensor,
        batch: &[usize],
        batch_ranks: usize,
    ) -> Result<Layout, Error> {
        let mut shape = batch.to_vec();
        for (axis, rank) in tensor.ranks.iter().enumerate() {
            let initial = usize::from(tensor.iterative == Some(axis));
            shape.push(self.extent(*rank).saturating_add(initial));
        }
        let mut strides = vec![0i64; shape.len()];
        let mut count = 1usize;
        for (stride, &length) in strides.iter_mut().zip(&shape).rev() {
            *stride = count as i64;
            count = count
                .checked_mul(length)
                .filter(|&n| n <= MAX_ELEMENTS)
                .ok_or_else(|| Error::TooLarge {
                    name: tensor.name.clone(),
                    sizes: shape.iter().map(|&n| n as u64).collect(),
                    limit: MAX_ELEMENTS,
                })?;
        }
        let mut batch_strides = vec![0; batch_ranks - batch.len()];
        batch_strides.extend_from_slice(&strides[..batch.len()]);
        Ok(Layout {
            lengths: shape[batch.len()..].iter().map(|&n| n as i64).collect(),
            strides: strides.split_off(batch.len()),
            batch_strides,
            shape,
        })
    }
}

fn size_of(sizes: &Sizes, name: &str) -> Result<usize, Error> {
    match sizes.get(name) {
        None => Err(Error::MissingSize { name: name.into() }),
        Some(0) => Err(Error::ZeroSize { name: name.into() }),
        // A size beyond the address space is beyond MAX_ELEMENTS too, which is checked later.
        Some(size) => Ok(usize::try_from(size).unwrap_or(usize::MAX)),
    }
}

fn inputs_of(cascade: &Cascade) -> impl Iterator<Item = &Tensor> + Clone {
    cascade
        .tensors
        .iter()
        .filter(|t| t.kind == TensorKind::Input)
}

fn axes_of(cascade: &Cascade, tensor: &Tensor) -> String {
    let names: Vec<&str> = tensor
        .ranks
        .iter()
        .map(|r| cascade.rank(*r).name.as_str())
        .collect();
    names.join(", ")
}

fn check_names(cascade: &Cascade, inputs: &BTreeMap<String, Array>) -> Result<(), Error> {
    if let Some(missing) = inputs_of(cascade).find(|t| !inputs.contains_key(&t.name)) {
        return Err(Error::MissingInput {
            name: missing.name.clone(),
            axes: axes_of(cascade, missing),
        });
    }
    let known = inputs_of(cascade).map(|t| t.name.as_str());
    if let Some(name) = inputs
        .keys()
        .find(|name| !known.clone().any(|k| k == name.as_str()))
    {
        let help = format!(" ({})", did_you_mean(name, known));
        return Err(Error::UnknownInput {
            name: name.clone(),
            help,
        });
    }
    Ok(())
}

/// The lengths of the batch axes that inputs carry: of the last of the cascade's batch ranks.
fn batch_of(
    cascade: &Cascade,
    sizes: &Sizes,
    inputs: &BTreeMap<String, Array>,
) -> Result<Vec<usize>, Error> {
    let mut first: Option<(&str, &[usize])> = None;
    for tensor in inputs_of(cascade) {
        let Some(array) = inputs.get(&tensor.name) else {
            continue;
        };
        let carried = array.shape.len().checked_sub(tensor.ranks.len());
        let Some(carried) = carried.filter(|&n| n <= cascade.batch.len()) else {
            let mut expected = format!("{} [{}]", tensor.ranks.len(), axes_of(cascade, tensor));
            if !cascade.batch.is_empty() {
                let names: Vec<&str> = cascade
                    .batch
                    .iter()
                    .map(|b| cascade.rank(*b).name.as_str())
                    .collect();
                expected += &format!(
                    ", or up to {} more in front for the batch ({})",
                    names.len(),
                    names.join(", ")
                );
            }
            return Err(Error::WrongRank {
                name: tensor.name.clone(),
                found: array.shape.len(),
                expected,
            });
        };
        if carried == 0 {
            continue;
        }
        let batch = &array.shape[..carried];
        match first {
            None => {
                let ranks = &cascade.batch[cascade.batch.len() - carried..];
                for (axis, (&found, rank)) in batch.iter().zip(ranks).enumerate() {
                    let rank = &cascade.rank(*rank).name;
                    if found == 0 {
                        return Err(Error::ZeroSize { name: rank.clone() });
                    }
                    if let Some(expected) = sizes.get(rank).filter(|&s| s != found as u64) {
                        let (name, rank) = (tensor.name.clone(), rank.clone());
                        return Err(Error::WrongLength {
                            name,
                            axis,
                            rank,
                            found,
                            expected,
                        });
                    }
                }
                first = Some((&tensor.name, batch));
            }
            Some((other, expected)) if expected != batch => {
                return Err(Error::WrongBatch {
                    name: tensor.name.clone(),
                    found: batch.to_vec(),
                    other: other.into(),
                    expected: expected.to_vec(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(first.map(|(_, batch)| batch.to_vec()).unwrap_or_default())
}

fn check_shape(
    cascade: &Cascade,
    tensor: &Tensor,
    array: &Array,
    layout: &Layout,
) -> Result<(), Error> {
    let carried = layout.shape.len() - tensor.ranks.len();
    for (axis, (&found, &expected)) in array.shape.iter().zip(&layout.shape).enumerate() {
        if found != expected {
            return Err(Error::WrongLength {
                name: tensor.name.clone(),
                axis,
                rank: cascade.rank(tensor.ranks[axis - carried]).name.clone(),
                found,
                expected: expected as u64,
            });
        }
    }
    let expected = layout.shape.iter().product();
    let masked = array.empty.as_ref().map_or(expected, Vec::len);
    for found in [array.data.len(), masked] {
        if found != expected {
            let (name, shape) = (tensor.name.clone(), array.shape.clone());
            return Err(Error::WrongCount {
                name,
                shape,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// Refuses NaN in an input.
pub(super) fn check_numbers(name: &str, array: &Array) -> Result<(), Error> {
    match array.data.iter().position(|x| x.is_nan()) {
        Some(place) => Err(Error::NotANumber {
            name: name.into(),
            index: coordinates(&array.shape, place),
        }),
        None => Ok(()),
    }
}
