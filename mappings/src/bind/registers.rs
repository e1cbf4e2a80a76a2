//! Registers: words that each PE must hold at once.

use einflow_spec::{Problem, Problems};
use einflow_workloads::cascade::TensorId;

use super::{
    alive::waiting,
    context::Context,
    homes::{Homes, Operand, Origin},
};
use crate::{
    mapped::{Block, BoundEinsum, Keep, NamedLoop},
    spec::Name,
};

/// Operands are latched on arrival, so a two-operand step holds both.
const LATCHED_OPERANDS: u64 = 2;

/// Words of one tensor in each PE of one array.
struct Need<'a> {
    tensor: TensorId,
    words: u64,
    at: &'a Name,
    /// The file itself keeps it in registers.
    stated: bool,
}

/// Words that a block needs in each PE of each array besides the operands of one step and its running result, by tensor.
///
/// Counted: what is taken from where it is made and waits there ([`waiting`]), in the array where fewer of its words meet in one PE; tiles that
/// the mapping keeps in registers, whoever made them. A word that goes straight over a link is an operand of its step.
fn needs<'a>(homes: &Homes<'a>) -> Option<Vec<Vec<Need<'a>>>> {
    let mut needs: Vec<Vec<Need<'a>>> = Vec::new();
    needs.resize_with(homes.context.accelerator.arrays.len(), Vec::new);
    let mut add = |unit: usize, need: Need<'a>| {
        let list: &mut Vec<Need<'a>> = &mut needs[unit];
        match list.iter_mut().find(|n| n.tensor == need.tensor) {
            Some(known) if known.words >= need.words => {}
            Some(known) => *known = need,
            None => list.push(need),
        }
    };
    for (nest, position, reader) in homes.einsums() {
        for Operand {
            tensor,
            time,
            origin,
            ..
        } in homes.operands(nest, position)
        {
            let Origin::Made(writer) = origin else {
                continue;
            };
            let wait = waiting(homes, writer, reader, tensor, time)?;
            let (unit, words) = if writer.unit == reader.unit || wait.writer < wait.reader {
                (writer.unit, wait.writer)
            } else {
                (reader.unit, wait.reader)
            };
            let Some(at) = einsum_name(homes, writer) else {
                continue;
            };
            if writer.unit == reader.unit || words > 1 {
                let stated = false;
                add(
                    unit,
                    Need {
                        tensor,
                        words,
                        at,
                        stated,
                    },
                );
            }
        }
    }
    for (nest, _, einsum) in homes.einsums() {
        let mut touched: Vec<TensorId> = vec![homes.output(einsum)];
        let seen = homes.context.projections.reads(einsum.einsum);
        touched.extend(seen.iter().flatten().map(|(t, _)| *t));
        for tensor in touched {
            let Some((keep, whole)) = homes.registers(nest, tensor, einsum.unit) else {
                continue;
            };
            let words = kept(homes, nest, einsum, keep)?.checked_mul(keep.generations)?;
            if let Some(at) = keep_name(homes, (!whole).then_some(nest), tensor) {
                let stated = true;
                add(
                    einsum.unit,
                    Need {
                        tensor,
                        words,
                        at,
                        stated,
                    },
                );
            }
        }
    }
    Some(needs)
}

/// Words of a tile in one PE: lanes whose rank the tensor has divide it, others hold it each.
pub(super) fn kept(
    homes: &Homes<'_>,
    nest: usize,
    einsum: &BoundEinsum,
    keep: &Keep,
) -> Option<u64> {
    let loops: Vec<NamedLoop> = homes
        .block
        .loops
        .iter()
        .chain(&homes.block.nests[nest].loops)
        .take(keep.depth)
        .cloned()
        .collect();
    let lanes: Vec<&NamedLoop> = einsum.rows.iter().chain(&einsum.columns).collect();
    let words =
        homes
            .context
            .tile_words(homes.index, keep.tensor, &homes.block.space, &loops, &lanes);
    u64::try_from(words).ok()
}

/// Where the file binds an Einsum.
fn einsum_name<'a>(homes: &Homes<'a>, einsum: &BoundEinsum) -> Option<&'a Name> {
    let (nest, position, _) = homes
        .einsums()
        .find(|(_, _, e)| e.einsum == einsum.einsum)?;
    Some(homes.binding(nest, position).0)
}

/// Where the file keeps a tensor: in a nest, or in the block.
fn keep_name<'a>(homes: &Homes<'a>, nest: Option<usize>, tensor: TensorId) -> Option<&'a Name> {
    let spec = &homes.context.spec.blocks[homes.index];
    let keeps = nest.map_or(&spec.keep, |n| &spec.nests[n].keep);
    let found = keeps
        .iter()
        .find(|k| homes.context.tensor(&k.tensor) == Ok(tensor))?;
    Some(&found.tensor)
}

/// Refuses a block that needs more registers than a PE has.
pub(crate) fn check_registers(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<(), Problems> {
    let spec = &context.spec.blocks[index];
    let homes = Homes {
        context,
        index,
        block,
    };
    let mut problems = Problems::new();
    let overflow = || {
        let message = format!("the registers of block {:?} overflow 64 bits", spec.name);
        Problem::at(&context.spec.source, spec.span, message)
    };
    let Some(needs) = needs(&homes) else {
        return Err(overflow().into());
    };
    for (unit, (array, mut needs)) in context.accelerator.arrays.iter().zip(needs).enumerate() {
        let mut on_unit = homes
            .einsums()
            .filter(|(_, _, e)| e.unit == unit)
            .peekable();
        if on_unit.peek().is_none() {
            continue;
        }
        // An Einsum whose result does not wait anyway has one that runs.
        let running = !on_unit.all(|(_, _, e)| needs.iter().any(|n| n.tensor == homes.output(e)));
        let steps = LATCHED_OPERANDS + u64::from(running);
        let total = needs
            .iter()
            .try_fold(steps, |sum, n| sum.checked_add(n.words));
        let Some(total) = total else {
            problems.push(overflow());
            continue;
        };
        if total <= array.registers.words {
            continue;
        }
        needs.sort_by_key(|n| std::cmp::Reverse(n.words));
        let mut list: Vec<String> = needs
            .iter()
            .map(|n| format!("{} {}", homes.name(n.tensor), n.words))
            .collect();
        list.push(format!("operands {LATCHED_OPERANDS}"));
        if running {
            list.push("a running result 1".into());
        }
        let message = format!(
            "block {:?} needs {total} words in each PE of `{}`, which has {}",
            spec.name, array.name, array.registers.words
        );
        let (problem, advice) = match needs.first() {
            Some(most) if most.stated => (
                context.at(most.at, message),
                format!(
                    "keep a smaller tile of {} there, or keep it in a memory alone",
                    homes.name(most.tensor)
                ),
            ),
            Some(most) => (
                context.at(most.at, message),
                format!(
                    "keep {} in a memory{}",
                    homes.name(most.tensor),
                    if spec.pipeline.is_some() {
                        ", or shorten the pipeline"
                    } else {
                        ""
                    }
                ),
            ),
            None => (
                Problem::at(&context.spec.source, spec.span, message),
                "give the PEs more registers".into(),
            ),
        };
        problems.push(problem.help(format!("words: {}; {advice}", list.join(", "))));
    }
    problems.into_result(Some(()))
}
