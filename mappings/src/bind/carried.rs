//! Results that are carried from one iteration of a loop to the next must still be where they were left.

use einflow_spec::Problems;
use einflow_workloads::cascade::TensorKind;

use super::{
    alive,
    context::Context,
    homes::{Homes, Operand, Origin},
};
use crate::{
    mapped::{Block, BoundEinsum, Keep, NamedLoop, Place},
    nest::Dim,
};

/// Refuses a block in which a running value or a partial result is lost, or updated twice.
pub(crate) fn check_carried(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    let homes = Homes {
        context,
        index,
        block,
    };
    for (n, nest) in block.nests.iter().enumerate() {
        let shared: Vec<&NamedLoop> = block.loops.iter().chain(&nest.loops).collect();
        for (e, einsum) in nest.einsums.iter().enumerate() {
            let at = &context.spec.blocks[index].nests[n].einsums[e].0;
            if let Some(message) = twice(context, einsum) {
                let help = "put that loop outside, or give it to the Einsums that walk it";
                problems.push(context.at(at, message).help(help));
            }
            for (message, help) in left(&homes, n, e, &shared) {
                problems.push(context.at(at, message).help(help));
            }
            let keeps = block.keeps.iter().chain(&nest.keeps);
            if let Some((message, help)) = lost(context, index, einsum, &shared, keeps) {
                problems.push(context.at(at, message).help(help));
            }
        }
    }
    problems.into_result(Some(()))
}

/// The dims of an Einsum's results, and those along which they run or are reduced.
fn dims(context: &Context<'_>, einsum: &BoundEinsum) -> (Vec<Dim>, Vec<Dim>) {
    let e = context.cascade.einsum(einsum.einsum);
    let mut own = context.projections.own(e.output).dims.clone();
    let mut carried: Vec<Dim> = Vec::new();
    if let Some(iterative) = context.cascade.tensor(e.output).iterative {
        carried.push(own.remove(context.cascade.batch.len() + iterative));
    }
    for rank in &e.reduced {
        let d = context.ranks.digit(*rank);
        let term = d.term();
        carried.push(Dim::sum(vec![term]));
    }
    (own, carried)
}

/// A running value is updated in place: repeating the update at one coordinate counts it twice.
fn twice(context: &Context<'_>, einsum: &BoundEinsum) -> Option<String> {
    let tensor = context.cascade.einsum(einsum.einsum).output;
    context.cascade.tensor(tensor).iterative?;
    let (own, carried) = dims(context, einsum);
    let shared = &einsum.loops[..einsum.loops.len() - einsum.own_loops];
    let running = shared.iter().position(|l| l.touches_any(&carried[..1]))?;
    let again = shared[running + 1..]
        .iter()
        .find(|l| l.count > 1 && !l.touches_any(&own) && !l.touches_any(&carried))?;
    Some(format!(
        "{} is updated in place along `{}`, and loop `{}` inside it would update it again",
        einsum.name, shared[running].name, again.name
    ))
}

/// What no memory further out backs must not leave its place before it is whole.
fn lost<'k>(
    context: &Context<'_>,
    index: usize,
    einsum: &BoundEinsum,
    shared: &[&NamedLoop],
    keeps: impl Iterator<Item = &'k Keep>,
) -> Option<(String, String)> {
    let tensor = context.cascade.einsum(einsum.einsum).output;
    // A tensor that no memory keeps is at home in the registers of its own array.
    let home = keeps
        .filter(|k| k.tensor == tensor)
        .filter(|k| matches!(k.place, Place::Memory(_)) || k.place == Place::Registers(einsum.unit))
        .map(|k| (k.place, k.depth))
        .min()?;
    let (place, depth) = home;
    let intermediate = context.cascade.tensor(tensor).kind == TensorKind::Intermediate;
    if place == Place::Memory(0) || depth == 0 || (context.crosses(index, tensor) || !intermediate)
    {
        return None;
    }
    let (own, carried) = dims(context, einsum);
    let inside = &shared[..depth.min(shared.len())];
    let carries = |l: &NamedLoop| {
        l.touches_any(&carried)
            && !l.touches_any(&own)
            && einsum.at_exit_of.as_ref() != Some(&l.name)
    };
    let outer = inside.iter().position(|l| carries(l))?;
    let leaves = inside[outer + 1..].iter().find(|l| l.touches_any(&own))?;
    let name = &context.cascade.tensor(tensor).name;
    Some((
        format!(
            "{name} is carried from one iteration of `{}` to the next, but its tile in `{}` is left at every `{}`",
            inside[outer].name,
            place_name(context, place),
            leaves.name
        ),
        format!(
            "keep {name} below a loop outside `{}`, or in a memory further out as well",
            inside[outer].name
        ),
    ))
}

/// What an Einsum at a loop's exit reads must not have left its place inside that loop.
fn left(
    homes: &Homes<'_>,
    nest: usize,
    position: usize,
    shared: &[&NamedLoop],
) -> Vec<(String, String)> {
    let reader = &homes.block.nests[nest].einsums[position];
    let exit = reader.at_exit_of.as_ref();
    let Some(exit) = exit.and_then(|exit| shared.iter().position(|l| l.name == *exit)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for Operand { tensor, origin, .. } in homes.operands(nest, position) {
        let place = match origin {
            Origin::Memory(memory) => Place::Memory(memory),
            Origin::Kept(writer) => Place::Registers(writer.unit),
            Origin::Made(_) => continue,
        };
        let (_, standing) = alive::dims(homes, tensor);
        let tile = homes
            .keeps(nest, tensor)
            .filter(|(k, _)| k.place == place && homes.producer(tensor).is_some());
        let Some(depth) = tile.map(|(k, _)| k.depth).max() else {
            continue;
        };
        let inside = shared
            .get(exit..depth.min(shared.len()))
            .unwrap_or_default();
        if let Some(l) = inside.iter().find(|l| l.touches_any(&standing)) {
            let name = homes.name(tensor);
            let exit = &shared[exit].name;
            found.push((
                format!(
                    "{} reads {name} at the exit of `{exit}`, but its tile in `{}` is left at every `{}`",
                    reader.name, place_name(homes.context, place), l.name
                ),
                format!("keep {name} below a loop outside `{exit}`"),
            ));
        }
    }
    found
}

fn place_name<'a>(context: &Context<'a>, place: Place) -> &'a str {
    match place {
        Place::Memory(memory) => &context.accelerator.memories[memory].name,
        Place::Registers(unit) => &context.accelerator.arrays[unit].name,
    }
}
