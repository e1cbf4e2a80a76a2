//! Emptiness that comes from index tensors and reaches further than the read through them.
//!
//! Where a top-k found fewer than k values, its index tensor is empty, and so is every element
//! gathered through it: `KS[e, t, p] = K[e, IDX[t, p]]`. That is a condition on t and p alone, so that a
//! reduction over e must be empty there and not 0, as under a written condition. An index outside its axis (-1 for
//! none) and the key of a gathered block that is beyond the last one are empty likewise.

use einflow_spec::Span;
use einflow_spec::expr::Expr;

use super::index::replaced;
use crate::cascade::{Cascade, Index, RankId, Read, TensorId};

/// The condition that elements of index tensors are there, that they lie inside the axes that they are indices of, and
/// that a condition on what they are holds (the last tile's of a partition that does not divide).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Presence {
    pub gathers: Vec<Gathered>,
    /// Over the variables of the output of the Einsum that has it, sizes, and the gathers' names.
    pub condition: Option<Expr>,
}

/// An element of an index tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gathered {
    /// How a condition calls it.
    pub name: String,
    /// The index tensor.
    pub tensor: TensorId,
    /// Over the variables of the output of the Einsum that has the condition.
    pub indices: Vec<Index>,
    /// The tensor and the axis of which it is an index; none for one that is only read.
    pub axis: Option<(TensorId, usize)>,
}

impl Presence {
    fn of(tensor: TensorId, indices: &[Index], axis: Option<(TensorId, usize)>) -> Self {
        let mut found = Self {
            gathers: Vec::new(),
            condition: None,
        };
        found.gather(tensor, indices, axis);
        found
    }

    /// Adds an element and returns its name.
    fn gather(
        &mut self,
        tensor: TensorId,
        indices: &[Index],
        axis: Option<(TensorId, usize)>,
    ) -> Expr {
        // No variable is called so.
        let name = format!("#{}", self.gathers.len());
        self.gathers.push(Gathered {
            name: name.clone(),
            tensor,
            indices: indices.to_vec(),
            axis,
        });
        let span = Span::default();
        Expr::Name { name, span }
    }

    /// Takes a condition on the coordinates of the tensor that is read as one of the reader.
    fn require(&mut self, cascade: &Cascade, condition: &Expr, read: &Read) -> Option<()> {
        let mut found: Vec<(String, Expr)> = Vec::new();
        let ranks = &cascade.tensor(read.tensor).ranks;
        for (axis, (rank, index)) in ranks.iter().zip(&read.indices).enumerate() {
            let variable = &cascade.rank(*rank).variable;
            if names(condition, variable) {
                let expr = match index {
                    Index::Expr(expr) => expr.clone(),
                    Index::Gather(t, i) => self.gather(*t, i, Some((read.tensor, axis))),
                };
                found.push((variable.clone(), expr));
            }
        }
        let stands_for = |name: &str| found.iter().find(|(v, _)| v == name);
        let replaced = replaced(condition, &|name| {
            Some(stands_for(name).map(|(_, e)| e.clone()))
        });
        self.condition = Some(replaced?);
        Some(())
    }

    /// Whether it names a rank.
    fn names(&self, variable: &str) -> bool {
        let mut indices = self.gathers.iter().flat_map(|g| &g.indices);
        indices.any(|i| i.names(variable))
            || self.condition.as_ref().is_some_and(|c| names(c, variable))
    }
}

fn names(expr: &Expr, variable: &str) -> bool {
    let mut found = false;
    expr.walk(&mut |part| found |= matches!(part, Expr::Name { name, .. } if name == variable));
    found
}

/// For each Einsum the conditions that concern the coordinates of its output alone.
pub(super) fn presences(cascade: &Cascade) -> Vec<Vec<Presence>> {
    let mut of_tensor: Vec<Vec<Presence>> = vec![Vec::new(); cascade.tensors.len()];
    let mut of_einsum = Vec::with_capacity(cascade.einsums.len());
    for einsum in &cascade.einsums {
        let output = cascade.tensor(einsum.output);
        let mut found: Vec<Presence> = Vec::new();
        for (i, read) in einsum.reads.iter().enumerate() {
            if !cascade.needs(einsum, &einsum.map, i) {
                continue;
            }
            let mut conditions = Vec::new();
            gathers(read.tensor, &read.indices, &mut conditions);
            let tensor = cascade.tensor(read.tensor);
            if tensor.coordinates_of.is_some() {
                conditions.push(Presence::of(read.tensor, &read.indices, None));
            }
            let inherited = &of_tensor[read.tensor.0];
            conditions.extend(inherited.iter().filter_map(|c| at_read(cascade, c, read)));
            for condition in &tensor.support {
                let mut found = Presence {
                    gathers: Vec::new(),
                    condition: None,
                };
                // Without a gather it is among the Einsum's own conditions.
                if found.require(cascade, &condition.0, read).is_some() && !found.gathers.is_empty()
                {
                    conditions.push(found);
                }
            }
            for condition in conditions {
                let reduced = |rank: &RankId| condition.names(&cascade.rank(*rank).variable);
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

/// Every read of an index tensor inside the indices of a read.
fn gathers(tensor: TensorId, indices: &[Index], found: &mut Vec<Presence>) {
    for (axis, index) in indices.iter().enumerate() {
        if let Index::Gather(through, indices) = index {
            found.push(Presence::of(*through, indices, Some((tensor, axis))));
            gathers(*through, indices, found);
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
    let mut found = condition.clone();
    for gather in &mut found.gathers {
        let indices = gather.indices.iter().map(|i| substitute(i, &index_of));
        gather.indices = indices.collect::<Option<_>>()?;
    }
    if let Some(own) = &condition.condition {
        found.require(cascade, own, read)?;
    }
    Some(found)
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
