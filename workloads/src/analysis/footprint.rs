//! How large the tensors of a cascade are, and what must cross the chip's edge whatever the mapping.

use std::collections::{BTreeMap, BTreeSet};

use einflow_spec::Problem;
use einflow_spec::expr::Expr;

use super::operations::{Operations, size};
use super::points::{Axis, Image, reached};
use crate::cascade::{Cascade, EinsumId, Index, RankId, Read, Reduce, Sizes, TensorId, TensorKind};
use crate::interpret::replaced;

/// The size of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The tensor.
    pub tensor: TensorId,
    /// Its name.
    pub name: String,
    /// What it is to the cascade.
    pub kind: TensorKind,
    /// Words of all its coordinates, batch and empty ones included. An iterative rank has one coordinate more than its
    /// size: the initial value.
    pub words: u128,
}

/// The words that must cross the chip's edge once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compulsory {
    /// Input words read: every input that some Einsum reads, once. An input that is only read through an index tensor counts
    /// the coordinates that one selection picks. What a mask leaves unread is taken off where it is known in closed form.
    pub read: u128,
    /// Output words written, once.
    pub written: u128,
}

impl Compulsory {
    /// Both; `None` beyond 128 bits.
    pub fn total(&self) -> Option<u128> {
        self.read.checked_add(self.written)
    }

    /// Arithmetic operations (a multiply-accumulate is two) for each byte that must move.
    pub fn intensity(&self, operations: &Operations, word_bytes: u64) -> Option<f64> {
        let bytes = self.total()?.checked_mul(u128::from(word_bytes))?;
        (bytes > 0).then_some(operations.arithmetic()? as f64 / bytes as f64)
    }
}

/// The size of every tensor but views, which hold nothing of their own.
///
/// # Errors
/// A rank without a size, or a product beyond 128 bits.
pub fn footprints(cascade: &Cascade, sizes: &Sizes) -> Result<Vec<Footprint>, Problem> {
    let mut found = Vec::new();
    for id in (0..cascade.tensors.len()).map(TensorId) {
        let tensor = cascade.tensor(id);
        if tensor.kind == TensorKind::View {
            continue;
        }
        let words = words(cascade, sizes, id, &BTreeMap::new())?;
        found.push(Footprint {
            tensor: id,
            name: tensor.name.clone(),
            kind: tensor.kind,
            words,
        });
    }
    Ok(found)
}

/// The traffic that no mapping avoids: inputs read once, outputs written once.
///
/// # Errors
/// As [`footprints`].
pub fn compulsory(cascade: &Cascade, sizes: &Sizes) -> Result<Compulsory, Problem> {
    let overflow = || Problem::nowhere("the compulsory traffic passes 128 bits");
    let mut traffic = Compulsory {
        read: 0,
        written: 0,
    };
    for id in (0..cascade.tensors.len()).map(TensorId) {
        match cascade.tensor(id).kind {
            TensorKind::Input => {
                let Some(picked) = picked(cascade, sizes, id)? else {
                    continue;
                };
                let words = match picked.is_empty() {
                    true => read(cascade, sizes, id)?,
                    false => None,
                };
                let words = match words {
                    Some(words) => words,
                    None => self::words(cascade, sizes, id, &picked)?,
                };
                traffic.read = traffic.read.checked_add(words).ok_or_else(overflow)?;
            }
            TensorKind::Output => {
                let words = words(cascade, sizes, id, &BTreeMap::new())?;
                traffic.written = traffic.written.checked_add(words).ok_or_else(overflow)?;
            }
            TensorKind::Intermediate | TensorKind::View => {}
        }
    }
    // An output that is a view of something else is still written.
    for id in cascade
        .outputs
        .iter()
        .filter(|id| cascade.tensor(**id).kind == TensorKind::View)
    {
        let words = words(cascade, sizes, *id, &BTreeMap::new())?;
        traffic.written = traffic.written.checked_add(words).ok_or_else(overflow)?;
    }
    Ok(traffic)
}

/// Words of a tensor with some of its ranks cut short.
fn words(
    cascade: &Cascade,
    sizes: &Sizes,
    id: TensorId,
    cut: &BTreeMap<RankId, u64>,
) -> Result<u128, Problem> {
    let tensor = cascade.tensor(id);
    let mut product = 1u128;
    let positions = tensor
        .ranks
        .iter()
        .enumerate()
        .map(|(i, rank)| (Some(i), *rank));
    for (position, rank) in positions.chain(cascade.batch.iter().map(|rank| (None, *rank))) {
        let whole = u128::from(size(cascade, sizes, rank)?)
            + u128::from(position.is_some() && tensor.iterative == position);
        let length = cut
            .get(&rank)
            .map_or(whole, |cut| whole.min(u128::from(*cut)));
        product = product.checked_mul(length).ok_or_else(|| {
            Problem::nowhere(format!("the size of {} passes 128 bits", tensor.name))
        })?;
    }
    Ok(product)
}

/// Words of an input that some point reads; `None` where that is not known, as where one is read through an index tensor.
fn read(cascade: &Cascade, sizes: &Sizes, id: TensorId) -> Result<Option<u128>, Problem> {
    let ranks = &cascade.tensor(id).ranks;
    let length = |rank: &RankId| size(cascade, sizes, *rank).map(i128::from);
    let lengths: Vec<i128> = ranks.iter().map(length).collect::<Result<_, _>>()?;
    let Some(uses) = uses(cascade, id) else {
        return Ok(None);
    };
    let mut images = Vec::new();
    for Use {
        einsum,
        indices,
        conditions,
    } in uses
    {
        let einsum = cascade.einsum(einsum);
        let populated = match einsum.reduce {
            Reduce::Top { into, .. } => Some(into),
            _ => None,
        };
        let mut axes = Vec::new();
        for rank in einsum.ranks.iter().filter(|rank| Some(**rank) != populated) {
            axes.push(Axis {
                variable: &cascade.rank(*rank).variable,
                range: 0..length(rank)?,
            });
        }
        let support = einsum.support.iter().map(|c| c.0.clone());
        images.push(Image {
            axes,
            conditions: conditions.into_iter().chain(support).collect(),
            indices,
        });
    }
    let lookup = |name: &str| sizes.get(name).map(i128::from);
    let Some(one) = reached(&lengths, &images, &cascade.source, &lookup)? else {
        return Ok(None);
    };
    let batch = cascade.batch.iter();
    let batch = batch.map(|rank| size(cascade, sizes, *rank).map(u128::from));
    let batch: Vec<u128> = batch.collect::<Result<_, _>>()?;
    Ok(batch
        .iter()
        .try_fold(one, |product, n| product.checked_mul(*n)))
}

/// How an Einsum reads a tensor, perhaps through views.
struct Use {
    einsum: EinsumId,
    /// One for each rank of the tensor, over the Einsum's variables.
    indices: Vec<Expr>,
    /// Of views, over the Einsum's variables.
    conditions: Vec<Expr>,
}

/// Every way in which a tensor is read; `None` where one is through an index tensor, or it is one.
fn uses(cascade: &Cascade, id: TensorId) -> Option<Vec<Use>> {
    let mut found = Vec::new();
    for einsum in (0..cascade.einsums.len()).map(EinsumId) {
        for read in &cascade.einsum(einsum).reads {
            let indices = read.indices.iter().map(|index| match index {
                Index::Expr(expr) => Some(expr.clone()),
                Index::Gather(..) => None,
            });
            let through =
                |index: &Index| matches!(index, Index::Gather(through, _) if *through == id);
            if read.indices.iter().any(through) {
                return None;
            }
            if read.tensor != id {
                continue;
            }
            let indices: Vec<Expr> = indices.collect::<Option<_>>()?;
            let view = cascade.einsum(einsum).output;
            let own = Use {
                einsum,
                indices,
                conditions: Vec::new(),
            };
            if cascade.tensor(view).kind != TensorKind::View || cascade.outputs.contains(&view) {
                found.push(own);
                continue;
            }
            let ranks = &cascade.tensor(view).ranks;
            for outer in uses(cascade, view)? {
                let at = |name: &str| {
                    let rank = |rank: &RankId| cascade.rank(*rank).variable == name;
                    Some(
                        ranks
                            .iter()
                            .position(rank)
                            .map(|i| outer.indices[i].clone()),
                    )
                };
                let support = cascade
                    .tensor(view)
                    .support
                    .iter()
                    .map(|c| replaced(&c.0, &at));
                let conditions: Vec<Expr> = support.collect::<Option<_>>()?;
                let indices = own.indices.iter().map(|index| replaced(index, &at));
                found.push(Use {
                    einsum: outer.einsum,
                    indices: indices.collect::<Option<_>>()?,
                    conditions: conditions.into_iter().chain(outer.conditions).collect(),
                });
            }
        }
    }
    Some(found)
}

/// For an input that is read: its ranks that are only read through index tensors, and how many different coordinates one
/// selection holds at least. `None` if nothing reads it.
fn picked(
    cascade: &Cascade,
    sizes: &Sizes,
    id: TensorId,
) -> Result<Option<BTreeMap<RankId, u64>>, Problem> {
    let mut read = false;
    let mut whole: BTreeSet<RankId> = BTreeSet::new();
    let mut cut: BTreeMap<RankId, u64> = BTreeMap::new();
    let mut visit = |found: &Read| -> Result<(), Problem> {
        read = true;
        for (rank, index) in cascade.tensor(id).ranks.iter().zip(&found.indices) {
            let Index::Gather(through, _) = index else {
                whole.insert(*rank);
                continue;
            };
            let producer = cascade
                .tensor(*through)
                .producer
                .map(|producer| &cascade.einsum(producer).reduce);
            let different = match producer {
                // The coordinates of one top-k differ.
                Some(Reduce::Top { into, .. }) => size(cascade, sizes, *into)?,
                _ => 1,
            };
            let most = cut.entry(*rank).or_insert(0);
            *most = (*most).max(different);
        }
        Ok(())
    };
    for found in cascade.einsums.iter().flat_map(|einsum| &einsum.reads) {
        if found.tensor == id {
            visit(found)?;
        }
    }
    // An input may itself be an index tensor.
    let as_index = cascade.einsums.iter().flat_map(|e| &e.reads).any(|found| {
        found
            .indices
            .iter()
            .any(|index| matches!(index, Index::Gather(through, _) if *through == id))
    });
    cut.retain(|rank, _| !whole.contains(rank));
    Ok((read || as_index).then_some(cut))
}
