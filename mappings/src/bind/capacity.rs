//! Room: bytes in every memory and words in every PE at the worst moment.

use einflow_spec::{Problem, Problems};
use einflow_workloads::cascade::{TensorId, TensorKind};

use super::{context::Context, keeps::Tiles};
use crate::mapped::{Block, Keep, Place};

/// Bytes that a block needs in each memory at the worst moment, whole rows not counted.
///
/// Tiles kept across nests add up; of the nests, the greediest counts. A tensor that takes over
/// another's room counts only where it needs more. `None` on overflow.
pub(crate) fn occupancy(context: &Context<'_>, block: &Block) -> Option<Vec<u128>> {
    needed(
        context,
        &block.keeps,
        &block
            .nests
            .iter()
            .map(|n| n.keeps.as_slice())
            .collect::<Vec<_>>(),
    )
}

/// [`occupancy`] of tiles alone.
pub(crate) fn occupancy_of(context: &Context<'_>, tiles: &Tiles) -> Option<Vec<u128>> {
    needed(
        context,
        &tiles.block,
        &tiles.nests.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    )
}

fn needed(context: &Context<'_>, block: &[Keep], nests: &[&[Keep]]) -> Option<Vec<u128>> {
    let word = context.accelerator.word.bytes().0;
    let bytes_of = |keep: &Keep| {
        let words = keep
            .words
            .checked_mul(u128::from(keep.generations))?
            .checked_mul(u128::from(keep.share.0))?;
        words.div_ceil(u128::from(keep.share.1)).checked_mul(word)
    };
    let mut out = Vec::new();
    for memory in 0..context.accelerator.memories.len() {
        let here = |keep: &&Keep| keep.place == Place::Memory(memory);
        let sum = |keeps: &[Keep], around: &[Keep]| {
            let mut total = 0u128;
            for keep in keeps.iter().filter(here) {
                let own = bytes_of(keep)?;
                let taken = match keep.in_place_of {
                    None => 0,
                    Some(tensor) => {
                        let host = keeps
                            .iter()
                            .chain(around)
                            .filter(here)
                            .find(|k| k.tensor == tensor && k.in_place_of.is_none());
                        host.map_or(Some(0), &bytes_of)?
                    }
                };
                total = total.checked_add(own.saturating_sub(taken))?;
            }
            Some(total)
        };
        let mut most = 0;
        for nest in nests {
            most = most.max(sum(nest, block)?);
        }
        out.push(sum(block, &[])?.checked_add(most)?);
    }
    Some(out)
}

/// Refuses a block that does not fit some memory.
pub(crate) fn check_capacity(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<(), Problems> {
    let spec = &context.spec.blocks[index];
    let source = &context.spec.source;
    let Some(needed) = occupancy(context, block) else {
        return Err(Problem::at(
            source,
            spec.span,
            format!("the tiles of block {:?} overflow 128 bits", spec.name),
        )
        .into());
    };
    let word = context.accelerator.word.bytes().0;
    let mut problems = Problems::new();
    for (memory, needed) in context.accelerator.memories.iter().zip(needed) {
        let Some(capacity) = memory.capacity.filter(|c| needed > c.0) else {
            continue;
        };
        let mut largest: Option<(&Keep, u128)> = None;
        let mut list: Vec<(String, u128)> = Vec::new();
        for keep in block
            .keeps
            .iter()
            .chain(block.nests.iter().flat_map(|n| &n.keeps))
        {
            if keep.place
                != Place::Memory(
                    context
                        .accelerator
                        .memories
                        .iter()
                        .position(|m| m == memory)
                        .unwrap_or(0),
                )
            {
                continue;
            }
            let bytes = keep
                .words
                .saturating_mul(u128::from(keep.generations))
                .saturating_mul(word);
            list.push((context.cascade.tensor(keep.tensor).name.clone(), bytes));
            if largest.is_none_or(|(_, b)| bytes > b) {
                largest = Some((keep, bytes));
            }
        }
        list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let list: Vec<String> = list
            .iter()
            .map(|(name, bytes)| format!("{name} {bytes}"))
            .collect();
        let span = largest
            .and_then(|(keep, _)| {
                let name = &context.cascade.tensor(keep.tensor).name;
                let keeps = spec
                    .keep
                    .iter()
                    .chain(spec.nests.iter().flat_map(|n| &n.keep));
                keeps.into_iter().find(|k| {
                    context
                        .tensor(&k.tensor)
                        .is_ok_and(|t| &context.cascade.tensor(t).name == name)
                })
            })
            .map_or(spec.span, |k| k.tensor.span);
        problems.push(
            Problem::at(
                source,
                span,
                format!(
                    "block {:?} needs {needed} bytes of `{}`, which has {}",
                    spec.name, memory.name, capacity.0
                ),
            )
            .help(format!(
                "bytes by tensor: {}; make a rank part smaller, or use largest_divisor_that_fits",
                list.join(", ")
            )),
        );
    }
    problems.into_result(Some(()))
}

/// Refuses a mapping whose tensors do not fit the outermost memory, where that one has an end.
///
/// Whole tensors live there: inputs and outputs all the time, what one block leaves for another from the one to the other. A block's
/// own tiles add to them, and what does not fit further in.
pub(crate) fn check_outermost(context: &Context<'_>, blocks: &[Block]) -> Result<(), Problems> {
    let Some(memory) = context.accelerator.memories.first() else {
        return Ok(());
    };
    let Some(capacity) = memory.capacity else {
        return Ok(());
    };
    let spec = context.spec;
    for (index, block) in blocks.iter().enumerate() {
        let mut list = outside(context, blocks, index);
        let needed = list
            .iter()
            .fold(0u128, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if needed <= capacity.0 {
            continue;
        }
        list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let list: Vec<String> = list
            .iter()
            .map(|(name, bytes)| format!("{name} {bytes}"))
            .collect();
        let message = format!(
            "the tensors of {} need {needed} bytes of `{}` while block {:?} runs, which has {}",
            context.cascade.name, memory.name, block.name, capacity.0
        );
        let help = format!(
            "bytes by tensor: {}; a shorter length or a smaller batch would fit, or a larger `{}`",
            list.join(", "),
            memory.name
        );
        return Err(Problem::at(&spec.source, spec.blocks[index].span, message)
            .help(help)
            .into());
    }
    Ok(())
}

/// By tensor that has some there: bytes of the outermost memory while a block runs.
fn outside<'a>(context: &Context<'a>, blocks: &[Block], index: usize) -> Vec<(&'a str, u128)> {
    let block = &blocks[index];
    let word = context.accelerator.word.bytes().0;
    let mut list = Vec::new();
    for tensor in (0..context.cascade.tensors.len()).map(TensorId) {
        let words = if lives_outside(context, blocks, index, tensor) {
            context.tile_words(index, tensor, &block.space, &[], &[])
        } else {
            let nests = block.nests.iter().flat_map(|n| &n.keeps);
            let keeps = block.keeps.iter().chain(nests);
            let own = keeps.filter(|k| k.tensor == tensor);
            own.map(outside_words).fold(0, u128::saturating_add)
        };
        if words > 0 {
            let name = context.cascade.tensor(tensor).name.as_str();
            list.push((name, words.saturating_mul(word)));
        }
    }
    list
}

/// Bytes of the outermost memory while each block runs, where it has an end.
pub(crate) fn of_outermost(context: &Context<'_>, blocks: &mut [Block]) {
    if context
        .accelerator
        .memories
        .first()
        .is_none_or(|m| m.capacity.is_none())
    {
        return;
    }
    for index in 0..blocks.len() {
        let all = outside(context, blocks, index);
        let bytes = all
            .iter()
            .fold(0u128, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if let Some(outermost) = blocks[index].occupancy.first_mut() {
            *outermost = bytes;
        }
    }
}

/// Whether all of a tensor is in the outermost memory while a block runs.
fn lives_outside(context: &Context<'_>, blocks: &[Block], index: usize, tensor: TensorId) -> bool {
    match context.cascade.tensor(tensor).kind {
        TensorKind::View => return false,
        TensorKind::Intermediate => {}
        TensorKind::Input | TensorKind::Output => return true,
    }
    let Some(made) = context.made_in(tensor) else {
        return false;
    };
    let reads = |block: usize| {
        let seen = context
            .einsums_of(block)
            .flat_map(|e| context.projections.reads(e));
        seen.flatten().any(|(read, _)| *read == tensor)
    };
    let last = (made..blocks.len()).rev().find(|b| reads(*b));
    // What blocks hand on is outside unless they keep it whole further in.
    let whole = |block: &Block| {
        let inside = |k: &Keep| matches!(k.place, Place::Memory(m) if m > 0) && k.depth == 0;
        block.keeps.iter().any(|k| k.tensor == tensor && inside(k))
    };
    let handed_on = last.is_some_and(|last| last > made);
    handed_on && (made..=last.unwrap_or(made)).contains(&index) && !whole(&blocks[made])
}

/// Words of a tile that are in the outermost memory: it is kept there, or in part in the next one, and the rest spilled.
fn outside_words(keep: &Keep) -> u128 {
    let words = keep.words.saturating_mul(u128::from(keep.generations));
    let (share, whole) = keep.share;
    match keep.place {
        Place::Memory(0) => words,
        Place::Memory(1) if keep.in_place_of.is_none() => words
            .saturating_mul(u128::from(whole - share.min(whole)))
            .div_ceil(u128::from(whole.max(1))),
        _ => 0,
    }
}
