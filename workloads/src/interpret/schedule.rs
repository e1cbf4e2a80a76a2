//! In which order Einsums are computed, and which of them together, coordinate by coordinate.

use petgraph::algo::tarjan_scc;
use petgraph::visit::EdgeRef;

use super::Error;
use super::layout::Layouts;
use super::presence::Presence;
use crate::cascade::{Cascade, EinsumId, Index, RankId, TensorId, TensorKind};

/// Einsums that depend on each other (a strongly connected component of the cascade's graph), or
/// one Einsum alone.
pub(super) struct Component {
    /// In the cascade's order.
    pub einsums: Vec<EinsumId>,
    /// The tensor and rank whose coordinates they step through together, for a recurrence.
    pub iterative: Option<(TensorId, RankId)>,
}

/// The components, each after those that it reads.
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
        components.push(Component { einsums, iterative });
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
        for &id in &component.einsums {
            let einsum = cascade.einsum(id);
            last[einsum.output.0] = Some(i);
            for read in &einsum.reads {
                mark(read.tensor, &read.indices, i, &mut last);
            }
            for gather in presences[id.0].iter().flat_map(|p| &p.gathers) {
                mark(gather.tensor, &gather.indices, i, &mut last);
            }
        }
    }
    last
}

/// Refuses tensors of which more is held at once than `limit` bytes: inputs, each tensor until its `last_use`, outputs and
/// with `all` everything to the end. An element takes a word and a mark that it is empty; inputs stay with the caller besides.
pub(super) fn check_memory(
    cascade: &Cascade,
    layouts: &Layouts,
    components: &[Component],
    last_use: &[Option<usize>],
    all: bool,
    limit: u64,
) -> Result<(), Error> {
    let bytes = |tensor: usize| -> u128 {
        let layout = &layouts.tensors[tensor];
        layout.shape.iter().map(|n| *n as u128).product::<u128>() * 9
    };
    let input = |t: &usize| cascade.tensors[*t].kind == TensorKind::Input;
    let mut held: Vec<usize> = (0..cascade.tensors.len()).filter(input).collect();
    let given: u128 = held.iter().map(|t| bytes(*t)).sum();
    let mut worst = (0, Vec::new());
    for (i, component) in components.iter().enumerate() {
        held.extend(
            component
                .einsums
                .iter()
                .map(|e| cascade.einsum(*e).output.0),
        );
        let sum = given + held.iter().map(|t| bytes(*t)).sum::<u128>();
        if sum > worst.0 {
            worst = (sum, held.clone());
        }
        held.retain(|t| all || last_use[*t] != Some(i) || cascade.outputs.contains(&TensorId(*t)));
    }
    let (sum, mut held) = worst;
    if sum <= u128::from(limit) {
        return Ok(());
    }
    held.sort_by_key(|t| std::cmp::Reverse(bytes(*t)));
    let named = |t: &usize| (cascade.tensors[*t].name.clone(), bytes(*t));
    Err(Error::TooMuchMemory {
        bytes: sum,
        limit,
        largest: held.iter().take(6).map(named).collect(),
    })
}

fn mark(tensor: TensorId, indices: &[Index], i: usize, last: &mut [Option<usize>]) {
    last[tensor.0] = Some(i);
    for index in indices {
        if let Index::Gather(tensor, indices) = index {
            mark(*tensor, indices, i, last);
        }
    }
}
