//! How many words of a tensor wait in a PE between the Einsum that makes them and one that takes them from there.

use einflow_workloads::cascade::{ReadTime, TensorId};

use super::homes::Homes;
use crate::{
    mapped::{BoundEinsum, NamedLoop},
    nest::Dim,
};

/// Words that wait in each PE, by where they do: in the array of the writer, or in that of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub writer: u64,
    pub reader: u64,
}

/// The words of a tensor that are made and not yet taken, at the worst moment; `None` on overflow.
///
/// Two Einsums that walk the same own loops go word by word, unless an Einsum between them needs more than the word
/// (SD between SN and A sums all of SN), they stand in different phases, or the pipeline has tiles between them. A running value waits while the loops
/// inside the one that carries it step through its other coordinates.
pub(crate) fn waiting(
    homes: &Homes<'_>,
    writer: &BoundEinsum,
    reader: &BoundEinsum,
    tensor: TensorId,
    time: ReadTime,
) -> Option<Waiting> {
    let (running, standing) = dims(homes, tensor);
    let (w_shared, w_own) = parts(writer);
    let (r_shared, r_own) = parts(reader);
    let common = common(&w_shared, &r_shared);
    let ahead = writer.offset.saturating_sub(reader.offset);
    let carry = |loops: &[&NamedLoop]| {
        running
            .as_ref()
            .filter(|_| time == ReadTime::Previous)
            .and_then(|d| loops.iter().rposition(|l| l.touches_any([d])))
    };
    if let Some(at) = carry(&w_shared[..common]) {
        let tile = words(&w_own, &standing)?;
        let steps = words(&w_shared[at + 1..], &standing)?;
        let tiles = steps.checked_add(ahead)?;
        let both = tiles.checked_mul(tile)?;
        return Some(Waiting {
            writer: both,
            reader: both,
        });
    }
    // The last value alone is left of a running value; of one that is read on the way, each.
    let mut walked = standing.clone();
    if time != ReadTime::Last {
        walked.extend(running.clone());
    }
    let outer = &w_shared[common..];
    let in_step = outer.is_empty()
        && r_shared.len() == common
        && ahead == 0
        && overlap(homes, writer, reader);
    let together = if in_step {
        in_step_loops(homes, writer, reader, tensor, &walked)
    } else {
        0
    };
    let tiles = if outer.is_empty() {
        ahead.checked_add(1)?
    } else {
        words(outer, &walked)?
    };
    let of = |own: &[&NamedLoop]| tiles.checked_mul(words(&own[together..], &walked)?);
    // A value carried along a loop of its own Einsum waits there for that loop's next step.
    let carried = match carry(&w_own) {
        Some(at) => words(&w_own[at + 1..], &standing)?,
        None => 0,
    };
    Some(Waiting {
        writer: of(&w_own)?.max(carried),
        reader: of(&r_own)?.max(carried),
    })
}

/// The dim of a running value's iterative rank, and the others.
pub(crate) fn dims(homes: &Homes<'_>, tensor: TensorId) -> (Option<Dim>, Vec<Dim>) {
    let mut all = homes.context.projections.own(tensor).dims.clone();
    let batch = homes.context.cascade.batch.len();
    let iterative = homes.context.cascade.tensor(tensor).iterative;
    (iterative.map(|i| all.remove(batch + i)), all)
}

/// Shared and own loops of an Einsum, without those of one iteration.
fn parts<'e>(einsum: &'e BoundEinsum) -> (Vec<&'e NamedLoop>, Vec<&'e NamedLoop>) {
    let (shared, own) = einsum.loops.split_at(einsum.loops.len() - einsum.own_loops);
    let real = |loops: &'e [NamedLoop]| loops.iter().filter(|l| l.count > 1).collect();
    (real(shared), real(own))
}

fn common(a: &[&NamedLoop], b: &[&NamedLoop]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn words(loops: &[&NamedLoop], dims: &[Dim]) -> Option<u64> {
    let touched = loops.iter().filter(|l| l.touches_any(dims));
    touched.map(|l| l.count).try_fold(1, u64::checked_mul)
}

/// Own loops, from the outside, in which writer and reader go word by word.
fn in_step_loops(
    homes: &Homes<'_>,
    writer: &BoundEinsum,
    reader: &BoundEinsum,
    tensor: TensorId,
    walked: &[Dim],
) -> usize {
    let (shared, own) = parts(writer);
    let through = |other: &BoundEinsum, dims: &[Dim]| {
        let (others, loops) = parts(other);
        if others != shared {
            return 0;
        }
        let same = own[..common(&own, &loops)].iter();
        same.take_while(|l| l.touches_any(dims)).count()
    };
    let mut together = through(reader, walked);
    for between in between(homes, tensor, reader) {
        let output = homes.output(between);
        let dims = &homes.context.projections.own(output).dims;
        together = together.min(through(between, dims));
    }
    together
}

/// Einsums of the block by which a tensor reaches a reader in the same tile besides being read by it.
fn between<'a>(homes: &Homes<'a>, tensor: TensorId, reader: &BoundEinsum) -> Vec<&'a BoundEinsum> {
    let operands = |e: &BoundEinsum| -> Vec<TensorId> {
        let reads = homes.context.projections.listed(e.einsum).iter();
        let seen = homes.context.projections.reads(e.einsum).iter();
        reads
            .zip(seen)
            .filter(|(r, _)| r.time != ReadTime::Previous)
            .filter_map(|(_, s)| s.as_ref().ok().map(|(t, _)| *t))
            .collect()
    };
    let producers = |tensors: Vec<TensorId>| {
        let made = tensors.into_iter().filter(|t| *t != tensor);
        made.filter_map(|t| homes.producer(t).map(|(_, e)| e))
            .collect::<Vec<_>>()
    };
    // All that the reader needs, and of it what needs the tensor.
    let mut needed: Vec<&'a BoundEinsum> = Vec::new();
    let mut open = producers(operands(reader));
    while let Some(next) = open.pop() {
        if !needed.iter().any(|n| n.einsum == next.einsum) {
            needed.push(next);
            open.extend(producers(operands(next)));
        }
    }
    let mut after: Vec<TensorId> = vec![tensor];
    let mut found: Vec<&'a BoundEinsum> = Vec::new();
    loop {
        let next = needed.iter().position(|n| {
            !found.iter().any(|f| f.einsum == n.einsum)
                && operands(n).iter().any(|t| after.contains(t))
        });
        let Some(next) = next else { return found };
        after.push(homes.output(needed[next]));
        found.push(needed[next]);
    }
}

/// Whether two Einsums run at the same time in a tile. Einsums that alternate on an array run through all their phases.
fn overlap(homes: &Homes<'_>, a: &BoundEinsum, b: &BoundEinsum) -> bool {
    let phases = &homes.block.phases;
    let spec = &homes.context.spec.blocks[homes.index];
    let phase = |name: &str| {
        phases.iter().position(|p| {
            p.einsums
                .iter()
                .any(|(n, e)| homes.block.nests[*n].einsums[*e].name == name)
        })
    };
    let span = |einsum: &BoundEinsum| {
        let groups = spec.interleave.iter();
        let alternating = groups
            .filter(|g| g.iter().any(|n| n.text == einsum.name))
            .flatten()
            .filter_map(|n| phase(&n.text));
        let all: Vec<usize> = phase(&einsum.name).into_iter().chain(alternating).collect();
        Some((*all.iter().min()?, *all.iter().max()?))
    };
    match (span(a), span(b)) {
        (Some((a, a_end)), Some((b, b_end))) => a <= b_end && b <= a_end,
        _ => true,
    }
}
