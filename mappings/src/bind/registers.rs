//! Registers: words that each PE must hold at once.

use einflow_spec::{Problem, Problems};
use einflow_workloads::cascade::{Einsum, TensorId};

use super::{context::Context, einsum::touches};
use crate::mapped::{Block, BoundEinsum, Place};

/// Operands are latched on arrival, so a two-operand step holds both.
const LATCHED_OPERANDS: u64 = 2;

/// Words that a block needs in each PE of each array, with what needs them.
///
/// Counted: the latched operands of one step; one running result for each Einsum; a tensor that stays on
/// the array from its Einsum to a later one, once for each tile that the software pipeline has between the two; a tile that the
/// mapping keeps in the registers. Einsums that walk the same loops of their own hand over word by word. What
/// leaves over a link does not wait in the array that made it.
fn needs(context: &Context<'_>, block: &Block, unit: usize) -> Option<Vec<(String, u64)>> {
    let mut needs: Vec<(String, u64)> = Vec::new();
    let on_unit = || {
        block
            .nests
            .iter()
            .flat_map(|n| &n.einsums)
            .filter(|e| e.unit == unit)
    };
    if on_unit().next().is_none() {
        return Some(needs);
    }
    needs.push(("operands".into(), LATCHED_OPERANDS));
    for einsum in on_unit() {
        let tensor = context.cascade.einsum(einsum.einsum).output;
        let kept = block
            .keeps
            .iter()
            .chain(block.nests.iter().flat_map(|n| &n.keeps));
        let in_memory = kept
            .clone()
            .any(|k| k.tensor == tensor && matches!(k.place, Place::Memory(_)));
        let waits = on_unit().filter(|r| reads(context, context.cascade.einsum(r.einsum), tensor));
        let mut words = 0u64;
        for reader in waits.filter(|_| !in_memory) {
            let tiles = einsum.offset.saturating_sub(reader.offset).checked_add(1)?;
            words = words.max(tiles.checked_mul(held(context, einsum, reader, tensor)?)?);
        }
        if words > 0 {
            needs.push((einsum.name.clone(), words));
        }
        for keep in kept.filter(|k| k.tensor == tensor && k.place == Place::Registers(unit)) {
            let lanes = u128::from(einsum.rows.as_ref().map_or(1, |l| l.count))
                .checked_mul(u128::from(einsum.columns.as_ref().map_or(1, |l| l.count)))?;
            needs.push((
                einsum.name.clone(),
                u64::try_from(keep.words.div_ceil(lanes.max(1))).ok()?,
            ));
        }
    }
    if !on_unit().all(|e| needs.iter().any(|(name, _)| *name == e.name)) {
        needs.push(("a running result".into(), 1));
    }
    Some(needs)
}

/// Words of one tile of a tensor that wait in a PE between two of its Einsums.
fn held(
    context: &Context<'_>,
    writer: &BoundEinsum,
    reader: &BoundEinsum,
    tensor: TensorId,
) -> Option<u64> {
    let own = |e: &BoundEinsum| e.loops[e.loops.len() - e.own_loops..].to_vec();
    if own(writer) == own(reader) {
        return Some(1);
    }
    let projection = context.projections.own(tensor);
    let touched = own(writer).into_iter().filter(|l| {
        projection
            .dims
            .iter()
            .flat_map(|d| &d.terms)
            .any(|t| touches(t, l))
    });
    touched.map(|l| l.count).try_fold(1u64, u64::checked_mul)
}

fn reads(context: &Context<'_>, einsum: &Einsum, tensor: TensorId) -> bool {
    einsum
        .reads
        .iter()
        .any(|r| context.projections.viewed(r.tensor) == tensor)
}

/// Refuses a block that needs more registers than a PE has.
pub(crate) fn check_registers(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<(), Problems> {
    let spec = &context.spec.blocks[index];
    let mut problems = Problems::new();
    for (unit, array) in context.accelerator.arrays.iter().enumerate() {
        let found = needs(context, block, unit);
        let total = found.as_ref().and_then(|n| {
            n.iter()
                .try_fold(0u64, |sum, (_, words)| sum.checked_add(*words))
        });
        let (Some(needs), Some(total)) = (found, total) else {
            problems.push(Problem::at(
                &context.spec.source,
                spec.span,
                format!("the registers of block {:?} overflow 64 bits", spec.name),
            ));
            continue;
        };
        if total > array.registers.words {
            let list: Vec<String> = needs
                .iter()
                .map(|(name, words)| format!("{name} {words}"))
                .collect();
            problems.push(
                Problem::at(
                    &context.spec.source,
                    spec.span,
                    format!(
                        "block {:?} needs {total} words in each PE of `{}`, which has {}",
                        spec.name, array.name, array.registers.words
                    ),
                )
                .help(format!(
                    "words: {}; shorten the pipeline, or keep one of these in a memory",
                    list.join(", ")
                )),
            );
        }
    }
    problems.into_result(Some(()))
}
