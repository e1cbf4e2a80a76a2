//! Binding: a mapping file meets a cascade, an accelerator and sizes, and either becomes a
//! [`MappedCascade`] or is refused with every reason.

mod alive;
mod between;
mod build;
mod capacity;
mod carried;
mod conditions;
mod context;
mod einsum;
mod filled;
mod homes;
mod keeps;
mod linear;
mod links;
mod names;
mod operators;
mod order;
mod outermost;
mod pace;
mod projections;
mod ranks;
mod registers;
mod results;
mod search;
mod sizes;
mod transfers;

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_spec::{Problem, Problems};
use einflow_workloads::cascade::Cascade;

use crate::{
    mapped::{Block, MappedCascade},
    nest::Space,
    spec::MappingSpec,
};
use context::Context;
use projections::Projections;
use ranks::{Ranks, Scope};
use sizes::Found;

/// Lays a cascade on an accelerator as a mapping says, at the sizes `given` (ranks and parameters by
/// name; more may be given than the cascade uses).
///
/// # Errors
/// Everything that makes the mapping illegal: unknown names, ranks that are not walked, a part larger
/// than the array, an operator that the unit lacks, a read before its write, a tile that does not fit, words that no link carries, a shape
/// for which the mapping's table has no row.
pub fn bind(
    cascade: &Arc<Cascade>,
    accelerator: &Arc<Accelerator>,
    spec: &Arc<MappingSpec>,
    given: &BTreeMap<String, u64>,
) -> Result<MappedCascade, Problems> {
    let mut given = given.clone();
    let row = match &spec.table {
        None => None,
        Some(table) => Some(table.row(&spec.source, &|name| given.get(name).copied())?),
    };
    // Sizes of the cascade's own parameters come first: ranks follow from them.
    let mut problems = Problems::new();
    let mut own = BTreeMap::new();
    for (name, choice) in spec
        .sizes
        .iter()
        .filter(|(n, _)| cascade.parameters.contains_key(&n.text))
    {
        let scope = Scope {
            given: &given,
            found: &own,
            accelerator: accelerator.as_ref(),
            row: row.as_ref(),
            source: &spec.source,
        };
        let value = choice
            .pick(row.as_ref(), &spec.source)
            .and_then(|rule| match rule {
                crate::spec::SizeRule::Expr(expr) => scope.size(expr),
                _ => Err(Problem::at(
                    &spec.source,
                    name.span,
                    format!("{} is a parameter of {}", name.text, cascade.name),
                )
                .help("give it a number or an expression")),
            });
        if let Some(value) = problems.absorb(value.map_err(Problems::from)) {
            own.insert(name.text.clone(), value);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    given.extend(own);
    let sizes = cascade.sizes(&given)?;
    let ranks = Ranks::new(cascade, sizes)?;
    let projections = Projections::new(cascade, &ranks);
    let context = Context {
        cascade,
        accelerator,
        spec,
        given: &given,
        ranks: &ranks,
        projections: &projections,
        made_in: context::makers(cascade, spec),
        row: row.as_ref(),
    };
    names::check_names(&context)?;
    let found = sizes::resolve(&context)?;
    let mut blocks = Vec::new();
    for (index, choice) in found.iter().enumerate() {
        if let Some(block) = problems.absorb(finish(&context, index, choice)) {
            blocks.push(block);
        }
    }
    if blocks.len() == found.len() {
        problems.absorb(capacity::check_outermost(&context, &blocks));
        capacity::of_outermost(&context, &mut blocks);
    }
    let mut all: BTreeMap<String, u64> = ranks.sizes.0.clone();
    for block in blocks.iter().rev() {
        all.extend(block.parts.iter().map(|(k, v)| (k.clone(), *v)));
    }
    let base = ranks.base.clone();
    let uses = context.uses();
    let mapped = MappedCascade {
        cascade: Arc::clone(cascade),
        accelerator: Arc::clone(accelerator),
        spec: Arc::clone(spec),
        sizes: all,
        base: base.into(),
        blocks: blocks.into(),
        projections: projections.into_own().into(),
        uses: uses.into(),
    };
    problems.into_result(Some(mapped))
}

/// Builds a block as it was found and checks that it is legal.
fn finish(context: &Context<'_>, index: usize, found: &Found) -> Result<Block, Problems> {
    let draft = context.build(index, &found.sizes, &found.order, &found.without)?;
    let mut problems = Problems::new();
    problems.absorb(order::check_order(context, index, &draft));
    problems.absorb(carried::check_carried(context, index, &draft));
    problems.absorb(capacity::check_capacity(context, index, &draft));
    problems.absorb(registers::check_registers(context, index, &draft));
    let occupancy = capacity::occupancy(context, &draft).unwrap_or_default();
    let origins = homes::origins(context, index, &draft);
    let transfers = transfers::transfers(context, index, &draft);
    let moved = transfers.as_deref().unwrap_or_default();
    let paces = problems.absorb(pace::paces(context, index, &draft, moved));
    let transfers = problems.absorb(transfers);
    let conditions = problems.absorb(conditions::of_block(context, index, &draft));
    let (Some(transfers), Some(conditions), Some(paces)) = (transfers, conditions, paces) else {
        return Err(problems);
    };
    let mut nests = draft.nests;
    for ((nest, position), operands, output_memory) in origins {
        let einsum = &mut nests[nest].einsums[position];
        (einsum.operands, einsum.output_memory) = (operands, output_memory);
    }
    for ((nest, position), pace) in paces {
        let einsum = &mut nests[nest].einsums[position];
        (einsum.interval, einsum.narrow, einsum.loads) = (pace.interval, pace.narrow, pace.loads);
        (einsum.returns, einsum.passing) = (pace.returns, pace.passing);
    }
    problems.into_result(Some(Block {
        nests,
        transfers,
        space: Space {
            conditions,
            ..draft.space
        },
        occupancy,
        ..draft
    }))
}
