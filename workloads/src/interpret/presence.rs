//! Emptiness that comes from index tensors and reaches further than the read through them.
//!
//! Where a top-k found fewer than k values, its index tensor is empty, and so is every element
//! gathered through it: `KS[e, t, p] = K[e, IDX[t, p]]`. That is a condition on t and p alone, so that a
//! reduction over e must be empty there and not 0, as under a written condition.

use einflow_spec::expr::Expr;

use super::index::replaced;
use crate::cascade::{Cascade, Function, Index, Map, RankId, Read, TensorId};

/// The condition that an index tensor is non-empty at some indices.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Presence {
    /// The index tensor.
    pub tensor: TensorId,
    /// Over the variables of the output of the Einsum that has the condition.
    pub indices: Vec<Index>,
}

/// For each Einsum the conditions that concern the coordinates of its output alone.
pub(super) fn presences(cascade: &Cascade) -> Vec<Vec<Presence>> {
    let mut of_tensor: Vec<Vec<Presence>> = vec![Vec::new(); cascade.tensors.len()];
    let mut of_einsum = Vec::with_capacity(cascade.einsums.len());
    for einsum in &cascade.einsums {
        let output = cascade.tensor(einsum.output);
        let mut found: Vec<Presence> = Vec::new();
        for (i, read) in einsum.reads.iter().enumerate() {
            let names = |rank: &RankId| {
                read.indices
                    .iter()
                    .any(|i| i.names(&cascade.rank(*rank).variable))
            };
            if !einsum.ranks.iter().all(names) && !always_needed(&einsum.map, i) {
                continue;
            }
            let mut conditions = Vec::new();
            gathers(&read.indices, &mut conditions);
            if cascade.tensor(read.tensor).coordinates_of.is_some() {
                conditions.push(Presence {
                    tensor: read.tensor,
                    indices: read.indices.clone(),
                });
            }
            let inherited = &of_tensor[read.tensor.0];
            conditions.extend(inherited.iter().filter_map(|c| at_read(cascade, c, read)));
            for condition in conditions {
                let reduced = |rank: &RankId| {
                    condition
                        .indices
                        .iter()
                        .any(|i| i.names(&cascade.rank(*rank).variable))
                };
                if !einsum.reduced.iter().any(reduced) && !found.contains(&condition) {
                    found.push(condition);
                }
            }
        }
        // A step that is not taken keeps the value before it.
        if output.iterative.is_none() {
            of_tensor[einsum.output.0] = found.clone();
        }
        of_einsum.push(found);
    }
    of_einsum
}

/// Whether the expression has no value without this read: no operator above it skips empty operands.
fn always_needed(map: &Map, read: usize) -> bool {
    match map {
        Map::Read(i) => *i == read,
        Map::Apply(Function::Add | Function::Sub | Function::Max | Function::Min, _) => false,
        Map::Apply(_, operands) => operands.iter().any(|o| always_needed(o, read)),
        Map::Constant(_) | Map::Coordinate(_) => false,
    }
}

/// Every read of an index tensor inside indices.
fn gathers(indices: &[Index], found: &mut Vec<Presence>) {
    for index in indices {
        if let Index::Gather(tensor, indices) = index {
            found.push(Presence {
                tensor: *tensor,
                indices: indices.clone(),
            });
            gathers(indices, found);
        }
    }
}

/// A condition on a tensor's coordinates as one on those of its reader; `None` where it cannot be written.
fn at_read(cascade: &Cascade, condition: &Presence, read: &Read) -> Option<Presence> {
    let ranks = &cascade.tensor(read.tensor).ranks;
    let index_of = |variable: &str| {
        let axis = ranks
            .iter()
            .position(|r| cascade.rank(*r).variable == variable)?;
        read.indices.get(axis)
    };
    let indices = condition
        .indices
        .iter()
        .map(|index| substitute(index, &index_of));
    Some(Presence {
        tensor: condition.tensor,
        indices: indices.collect::<Option<_>>()?,
    })
}

fn substitute<'a>(index: &Index, index_of: &dyn Fn(&str) -> Option<&'a Index>) -> Option<Index> {
    Some(match index {
        Index::Gather(tensor, indices) => {
            let indices = indices.iter().map(|i| substitute(i, index_of));
            Index::Gather(*tensor, indices.collect::<Option<_>>()?)
        }
        Index::Expr(Expr::Name { name, .. }) => index_of(name).unwrap_or(index).clone(),
        Index::Expr(expr) => Index::Expr(replaced(expr, &|name| match index_of(name) {
            None => Some(None),
            Some(Index::Expr(expr)) => Some(Some(expr.clone())),
            Some(Index::Gather(..)) => None,
        })?),
    })
}
