//! In which order Einsums are computed, which of them together, coordinate by coordinate, and what that holds at once.

use petgraph::algo::tarjan_scc;
use petgraph::visit::EdgeRef;

use super::layout::Layouts;
use super::presence::Presence;
use super::{Error, Kept, Order};
use crate::cascade::{Cascade, EinsumId, Index, RankId, TensorId, TensorKind};

/// Einsums that are computed together.
pub(super) struct Component {
    /// In the order in which they are computed.
    pub einsums: Vec<Member>,
    /// The rank whose coordinates they step through together.
    pub steps: Option<RankId>,
}

/// An Einsum of a component.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub id: EinsumId,
    /// Whether it is part of a recurrence.
    pub recurrent: bool,
}

/// The components, each after those that it reads: Einsums that depend on each other (a strongly connected component of
/// the cascade's graph), or one Einsum alone.
pub(super) fn components(cascade: &Cascade) -> Result<Vec<Component>, Error> {
    let mut components = Vec::new();
    // Tarjan's algorithm finds consumers first.
    for nodes in tarjan_scc(&cascade.graph).into_iter().rev() {
        let mut einsums: Vec<EinsumId> = nodes.iter().map(|&n| cascade.graph[n]).collect();
        einsums.sort();
        let inside = |e: EinsumId| einsums.binary_search(&e).is_ok();
        let mut iterative: Option<(TensorId, RankId)> = None;
        let mut recurrent = false;
        for &node in &nodes {
            for edge in cascade.graph.edges(node) {
                if !inside(cascade.graph[edge.target()]) {
                    continue;
                }
                recurrent = true;
                let tensor = cascade.tensor(edge.weight().tensor);
                let Some(axis) = tensor.iterative.filter(|_| edge.weight().previous) else {
                    continue;
                };
                let found = (edge.weight().tensor, tensor.ranks[axis]);
                match iterative {
                    Some((other, rank)) if rank != found.1 => {
                        return Err(Error::Recurrence {
                            einsum: tensor.name.clone(),
                            why: format!(
                                "it steps through {} while `{}` steps through {}",
                                cascade.rank(found.1).name,
                                cascade.tensor(other).name,
                                cascade.rank(rank).name
                            ),
                        });
                    }
                    _ => iterative = Some(found),
                }
            }
        }
        if recurrent {
            check_recurrence(cascade, &einsums, iterative)?;
        }
        let member = |id| Member { id, recurrent };
        components.push(Component {
            einsums: einsums.into_iter().map(member).collect(),
            steps: iterative.map(|(_, rank)| rank),
        });
    }
    Ok(components)
}

/// Every Einsum of a recurrence has the iterative rank and does not reduce it.
fn check_recurrence(
    cascade: &Cascade,
    einsums: &[EinsumId],
    iterative: Option<(TensorId, RankId)>,
) -> Result<(), Error> {
    for &id in einsums {
        let einsum = cascade.einsum(id);
        let why = match iterative {
            None => "it has no iterative rank".to_string(),
            Some((_, rank)) if !einsum.ranks.contains(&rank) => {
                format!("it does not step through {}", cascade.rank(rank).name)
            }
            Some((_, rank)) if einsum.reduced.contains(&rank) => {
                format!("it reduces {}", cascade.rank(rank).name)
            }
            _ => continue,
        };
        return Err(Error::Recurrence {
            einsum: cascade.name_of(id).to_string(),
            why,
        });
    }
    Ok(())
}

/// For each tensor the last component that reads or makes it; `presences` are those of each Einsum.
pub(super) fn last_uses(
    cascade: &Cascade,
    components: &[Component],
    presences: &[Vec<Presence>],
) -> Vec<Option<usize>> {
    let mut last = vec![None; cascade.tensors.len()];
    for (i, component) in components.iter().enumerate() {
        for Member { id, .. } in &component.einsums {
            last[cascade.einsum(*id).output.0] = Some(i);
            read_by(cascade, *id, presences, &mut |t| last[t.0] = Some(i));
        }
    }
    last
}

/// Leaves out the components that none of the tensors follows from.
pub(super) fn keep_only(
    cascade: &Cascade,
    components: &mut Vec<Component>,
    presences: &[Vec<Presence>],
    tensors: &[TensorId],
) {
    let mut needed = vec![false; cascade.tensors.len()];
    tensors.iter().for_each(|t| needed[t.0] = true);
    components.reverse();
    components.retain(|component| {
        let makes = |member: &Member| needed[cascade.einsum(member.id).output.0];
        let kept = component.einsums.iter().any(makes);
        if kept {
            for member in &component.einsums {
                read_by(cascade, member.id, presences, &mut |t| needed[t.0] = true);
            }
        }
        kept
    });
    components.reverse();
}

/// What is held at once: bytes, and the tensors that take them.
pub(super) struct Held {
    pub bytes: u128,
    tensors: Vec<(usize, u128)>,
}

impl Held {
    /// The most: inputs with the caller and, where they are rounded, once more; each tensor until its `last_use`, what is
    /// returned to the end. An element takes a word and a mark that it is empty.
    pub fn most(
        cascade: &Cascade,
        layouts: &Layouts,
        order: &Order,
        rounds: &dyn Fn(usize) -> bool,
        kept: Kept<'_>,
    ) -> Self {
        let bytes = |tensor: usize| -> u128 {
            let layout = &layouts.tensors[tensor];
            layout.shape.iter().map(|n| *n as u128).product::<u128>() * 9
        };
        let input = |t: &usize| cascade.tensors[*t].kind == TensorKind::Input;
        let inputs = (0..cascade.tensors.len()).filter(input);
        let given: u128 = inputs.clone().map(bytes).sum();
        let mut held: Vec<usize> = inputs.filter(|t| rounds(*t)).collect();
        let mut worst = (given, held.clone());
        for (i, component) in order.components.iter().enumerate() {
            let made = component.einsums.iter();
            held.extend(made.map(|member| cascade.einsum(member.id).output.0));
            let sum = given + held.iter().map(|t| bytes(*t)).sum::<u128>();
            if sum > worst.0 {
                worst = (sum, held.clone());
            }
            held.retain(|t| order.last_use[*t] != Some(i) || kept.holds(cascade, TensorId(*t)));
        }
        let mut tensors: Vec<_> = worst.1.into_iter().map(|t| (t, bytes(t))).collect();
        tensors.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Self {
            bytes: worst.0,
            tensors,
        }
    }

    /// Refuses more than `limit` bytes.
    pub fn check(&self, cascade: &Cascade, limit: u64) -> Result<(), Error> {
        if self.bytes <= u128::from(limit) {
            return Ok(());
        }
        let named = |(t, bytes): &(usize, u128)| (cascade.tensors[*t].name.clone(), *bytes);
        Err(Error::TooMuchMemory {
            bytes: self.bytes,
            limit,
            largest: self.tensors.iter().take(6).map(named).collect(),
        })
    }
}

/// Visits all tensors that an Einsum reads.
pub(super) fn read_by(
    cascade: &Cascade,
    id: EinsumId,
    presences: &[Vec<Presence>],
    visit: &mut dyn FnMut(TensorId),
) {
    for read in &cascade.einsum(id).reads {
        visit_read(read.tensor, &read.indices, visit);
    }
    for gather in presences[id.0].iter().flat_map(|p| &p.gathers) {
        visit_read(gather.tensor, &gather.indices, visit);
    }
}

fn visit_read(tensor: TensorId, indices: &[Index], visit: &mut dyn FnMut(TensorId)) {
    visit(tensor);
    for index in indices {
        if let Index::Gather(tensor, indices) = index {
            visit_read(*tensor, indices, visit);
        }
    }
}
