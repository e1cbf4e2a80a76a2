//! Movements of what Einsums make: updates, drains, and partial results that come back.

use super::transfers::{Finder, steps};
use crate::{
    mapped::{BoundEinsum, NamedLoop, Place, Transfer, TransferKind},
    nest::{Loop, Projection, Reuse},
    spec::BindingSpec,
};

impl Finder<'_> {
    pub(super) fn writes(
        &mut self,
        nest: usize,
        einsum: &BoundEinsum,
        binding: &BindingSpec,
        name: &crate::spec::Name,
    ) {
        let context = self.context;
        let tensor = context.cascade.einsum(einsum.einsum).output;
        let levels = self.levels(nest, tensor);
        let own = context.projections.own(tensor);
        let partials = match binding.partials.as_ref().map(|n| (n, context.memory(n))) {
            None => false,
            Some((_, Err(problem))) => return self.problems.push(problem),
            Some((n, Ok(memory))) => {
                if levels.last().is_none_or(|l| l.memory != memory) {
                    let own_name = &context.cascade.tensor(tensor).name;
                    return self.problems.push(
                        context
                            .at(n, format!("partial results of {own_name} are to live in `{}`, which does not keep it", n.text))
                            .help(format!("keep {own_name} there, or leave `partials` out")),
                    );
                }
                true
            }
        };
        let Some(last) = levels.len().checked_sub(1) else {
            if self.is_spatially_incomplete(einsum, own) {
                let own_name = &context.cascade.tensor(tensor).name;
                self.problems.push(
                    context
                        .at(name, format!("partial results of {own_name} are carried over shared loops, and no memory keeps it"))
                        .help(format!("keep {own_name} in a memory of the block")),
                );
            }
            return;
        };
        let registers = self
            .keeps(nest, tensor)
            .find(|(k, _)| k.place == Place::Registers(einsum.unit))
            .map(|(k, _)| k.depth);
        if let (true, Some(n), Some(_)) = (partials, &binding.partials, registers) {
            let own_name = &context.cascade.tensor(tensor).name;
            return self.problems.push(
                context
                    .at(n, format!("partial results of {own_name} are to live in `{}`, and registers keep it", n.text))
                    .help("leave `partials` out, or do not keep it in the array's registers"),
            );
        }
        let mut projection = own.clone();
        if partials {
            // Every step sends its results: the steps of all loops count as coordinates.
            projection.dims.extend(steps(&einsum.loops, own));
        }
        let steps = projection.dims.len() - own.dims.len();
        let (loops, tile_depth): (Vec<Loop>, usize) = match registers {
            Some(depth) => {
                let loops = self.around(nest, depth, einsum);
                let depth = loops.len();
                (loops, depth)
            }
            None => (
                einsum.loops.iter().map(|l| l.cut).collect(),
                einsum.loops.len() - einsum.own_loops,
            ),
        };
        self.out.push(Transfer {
            tensor,
            einsum: self.at,
            kind: TransferKind::Update,
            loops,
            tile_depth,
            projection,
            steps,
            reuse: if partials {
                Reuse::Nothing
            } else {
                Reuse::Previous
            },
            outer: None,
            inner: Place::Memory(levels[last].memory),
            share: levels[last].share,
            spill: self.spill(&levels, last),
            through: levels[last].through,
        });
        for at in (1..levels.len()).rev() {
            let level = &levels[at];
            if levels[at - 1].share != (1, 1) {
                self.partly_kept_outside(tensor);
            }
            let loops = self.around(nest, level.depth, einsum);
            self.out.push(Transfer {
                tensor,
                einsum: self.at,
                kind: TransferKind::Drain,
                tile_depth: loops.len(),
                loops,
                projection: own.clone(),
                steps: 0,
                reuse: Reuse::Previous,
                outer: Some(Place::Memory(levels[at - 1].memory)),
                inner: Place::Memory(level.memory),
                share: level.share,
                spill: None,
                through: level.through,
            });
        }
    }

    /// True where results would have to be carried from one iteration of a shared loop to the next.
    fn is_spatially_incomplete(&self, einsum: &BoundEinsum, own: &Projection) -> bool {
        let shared = &einsum.loops[..einsum.loops.len() - einsum.own_loops];
        let touched = |l: &NamedLoop| l.touches_any(&own.dims);
        let reduced: Vec<_> = self
            .context
            .cascade
            .einsum(einsum.einsum)
            .reduced
            .iter()
            .map(|r| self.context.ranks.digit(*r))
            .collect();
        shared
            .iter()
            .any(|l| !touched(l) && reduced.iter().any(|d| l.touches(&d.term())))
    }
}
