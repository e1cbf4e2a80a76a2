//! The tiles that a block keeps: where, below which loops, how many words.

use std::{borrow::Cow, collections::BTreeMap};

use einflow_spec::{Problems, Span, did_you_mean};
use einflow_workloads::cascade::{EinsumId, ReadTime, TensorId};

use super::{context::Context, ranks::Parts};
use crate::{
    mapped::{Keep, NamedLoop, Place},
    nest::{Projection, Space, footprint},
    spec::{KeepSpec, Name},
};

/// What a block keeps, and what each of its nests does.
pub(crate) struct Tiles {
    pub block: Vec<Keep>,
    pub nests: Vec<Vec<Keep>>,
}

impl Context<'_> {
    /// The tiles that a block keeps, without its Einsums: all that a size has to fit.
    pub fn room(
        &self,
        index: usize,
        sizes: &BTreeMap<String, u64>,
        without: &[Span],
    ) -> Result<Tiles, Problems> {
        let spec = &self.spec.blocks[index];
        let source = &self.spec.source;
        let parts = Parts::new(self.cascade, self.ranks, &self.splits(spec), sizes, source)?;
        let find = |names: &[Name]| {
            names
                .iter()
                .map(|n| parts.find_loop(n, source))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut loops = find(&spec.loops)?;
        loops.extend(find(&spec.searched_loops)?);
        let space = Space::new(self.ranks.base.iter().map(|b| b.size).collect::<Vec<_>>());
        let block = self.keeps(&spec.keep, &loops, &[], without, &space, sizes, index)?;
        let mut nests = Vec::with_capacity(spec.nests.len());
        for nest in &spec.nests {
            let mut around = loops.clone();
            around.extend(find(&nest.loops)?);
            nests.push(self.keeps(&nest.keep, &around, &block, without, &space, sizes, index)?);
        }
        Ok(Tiles { block, nests })
    }

    /// The tiles that `specs` keep below `loops`, but for the places `without`; the block keeps `outside` already.
    #[allow(clippy::too_many_arguments)]
    pub fn keeps(
        &self,
        specs: &[KeepSpec],
        loops: &[NamedLoop],
        outside: &[Keep],
        without: &[Span],
        space: &Space,
        sizes: &BTreeMap<String, u64>,
        index: usize,
    ) -> Result<Vec<Keep>, Problems> {
        let block = &self.spec.blocks[index];
        let mut problems = Problems::new();
        let mut keeps: Vec<Keep> = Vec::new();
        for spec in specs {
            let Some(tensor) = problems.absorb(self.tensor(&spec.tensor).map_err(Problems::from))
            else {
                continue;
            };
            let Some(places) = problems.absorb(
                spec.places
                    .pick(self.row, &self.spec.source)
                    .map_err(Problems::from),
            ) else {
                continue;
            };
            for place in places {
                if without.contains(&place.memory.span) {
                    continue;
                }
                let found = self.place(&place.memory);
                let depth = match &place.below {
                    None => Ok(0),
                    // The tile between searched loops and those inside them.
                    Some(name) if name.text == "searched" && !block.searched_loops.is_empty() => {
                        Ok(block.loops.len() + block.searched_loops.len())
                    }
                    Some(name) => loops
                        .iter()
                        .position(|l| l.name == name.text)
                        .map(|i| i + 1)
                        .ok_or_else(|| {
                            self.at(
                                name,
                                format!(
                                    "`{}` is no loop around {}'s place",
                                    name.text, spec.tensor.text
                                ),
                            )
                            .help(did_you_mean(
                                &name.text,
                                loops.iter().map(|l| l.name.as_str()),
                            ))
                        }),
                };
                let share = match &place.share {
                    None => Ok((1, 1)),
                    Some(expr) => self.scope(sizes).share(expr),
                };
                let in_place_of = place
                    .in_place_of
                    .as_ref()
                    .map(|n| self.tensor(n))
                    .transpose();
                let parts = (
                    problems.absorb(found.map_err(Problems::from)),
                    problems.absorb(depth.map_err(Problems::from)),
                    problems.absorb(share.map_err(Problems::from)),
                    problems.absorb(in_place_of.map_err(Problems::from)),
                );
                let (Some(found), Some(depth), Some(share), Some(in_place_of)) = parts else {
                    continue;
                };
                let kept = |k: &Keep| k.tensor == tensor && k.place == found;
                if keeps.iter().chain(outside).any(kept) {
                    problems.push(self.at(
                        &place.memory,
                        format!(
                            "{} is kept in `{}` already",
                            spec.tensor.text, place.memory.text
                        ),
                    ));
                    continue;
                }
                let words = self.tile_words(index, tensor, space, &loops[..depth], &[]);
                // Where the pipeline runs on past the end of the loop that the tile serves, old and new coexist.
                let ends_inside = block.pipeline.as_ref().is_some_and(|p| {
                    let drains = p
                        .drains_at
                        .as_ref()
                        .and_then(|n| loops.iter().position(|l| l.name == n.text));
                    depth > 0 && drains.is_none_or(|d| d + 1 < depth)
                });
                let ahead = match ends_inside {
                    true => self.ahead(index, tensor),
                    false => 0,
                };
                let inside = &loops[depth.min(loops.len())..];
                let own = self.tile_projection(index, tensor);
                let changes = |l: &NamedLoop| l.count > 1 && l.touches_any(&own.dims);
                let runs_on = match inside.iter().all(|l| l.count == 1) {
                    // Each tile of the pipeline has one of its own, in registers as long as it is used.
                    true if matches!(found, Place::Memory(_))
                        && loops[..depth].iter().any(changes) =>
                    {
                        ahead
                    }
                    true => 0,
                    false => ahead.div_ceil(least_tiles(inside, space)),
                };
                keeps.push(Keep {
                    tensor,
                    place: found,
                    depth,
                    words,
                    generations: place.buffers.max(runs_on.saturating_add(1)),
                    share,
                    spills_through: place.spills_through,
                    in_place_of,
                    freed_by_row: place.freed_by_row,
                });
            }
        }
        problems.into_result(Some(keeps))
    }

    /// How many tiles the first stage of the pipeline that touches a tensor runs ahead of the last: 0 where it is one.
    /// Operands with one reader are freed before the next tile is loaded.
    fn ahead(&self, block: usize, tensor: TensorId) -> u64 {
        let Some(pipeline) = &self.spec.blocks[block].pipeline else {
            return 0;
        };
        let offset = |name: &str| {
            pipeline
                .offsets
                .iter()
                .find(|(n, _)| n.text == name)
                .map_or(0, |(_, o)| *o)
        };
        let mut offsets: Vec<u64> = Vec::new();
        for id in (0..self.cascade.einsums.len()).map(EinsumId) {
            let einsum = self.cascade.einsum(id);
            let name = &self.cascade.tensor(einsum.output).name;
            let mut reads = self.projections.listed(id).iter();
            let touches = einsum.output == tensor
                || reads.any(|r| self.projections.viewed(r.tensor) == tensor);
            if touches && !einsum.view {
                offsets.push(offset(name));
            }
        }
        let (first, last) = (offsets.iter().max(), offsets.iter().min());
        first.zip(last).map_or(0, |(first, last)| first - last)
    }

    /// Which words of a tensor the iterations of a block use: as its Einsums read it, where it comes from outside.
    pub fn tile_projection(&self, index: usize, tensor: TensorId) -> Cow<'_, Projection> {
        let own = self.projections.own(tensor);
        if self.made_in(tensor) == Some(index) {
            return Cow::Borrowed(own);
        }
        let seen = self.projections.seen(self.einsums_of(index), tensor);
        seen.map_or(Cow::Borrowed(own), Cow::Owned)
    }

    /// Whether a running value needs no other room than its last coordinate's: none but the one before and the last are
    /// read.
    pub fn updated_in_place(&self, tensor: TensorId) -> bool {
        let mut reads = self.cascade.einsums.iter().flat_map(|e| &e.reads);
        !reads.any(|r| r.tensor == tensor && r.time == ReadTime::Other)
    }

    /// Words of the largest tile of a tensor below some loops, in one PE where it is laid across `lanes`. An iterative
    /// rank occupies one coordinate: the running value is updated in place.
    pub fn tile_words(
        &self,
        index: usize,
        tensor: TensorId,
        space: &Space,
        loops: &[NamedLoop],
        lanes: &[&NamedLoop],
    ) -> u128 {
        let made_here = self.made_in(tensor) == Some(index);
        if !made_here && !loops.is_empty() {
            let projection = self.tile_projection(index, tensor);
            return footprint(
                space,
                &extents(space, loops, lanes, &projection),
                &projection,
            );
        }
        let mut projection = self.projections.own(tensor).clone();
        let t = self.cascade.tensor(tensor);
        if let Some(iterative) = t.iterative.filter(|_| self.updated_in_place(tensor)) {
            projection.dims.remove(self.cascade.batch.len() + iterative);
        }
        footprint(
            space,
            &extents(space, loops, lanes, &projection),
            &projection,
        )
    }
}

/// Tiles of a pipeline that share a kept one, at the least: where some are left out, or a last one is partial, one.
fn least_tiles(inside: &[NamedLoop], space: &Space) -> u64 {
    let whole = |l: &NamedLoop| {
        let extent = l.cut.step.saturating_mul(l.count).max(1);
        space.sizes[l.cut.rank].is_multiple_of(extent)
    };
    if space.skip_empty || !inside.iter().all(whole) {
        return 1;
    }
    let all = inside.iter().map(|l| l.count);
    all.fold(1, u64::saturating_mul).max(1)
}

/// Coordinates of each base rank that are left below some loops, and in one PE.
fn extents(
    space: &Space,
    loops: &[NamedLoop],
    lanes: &[&NamedLoop],
    projection: &Projection,
) -> Vec<u64> {
    let mut extents = space.sizes.clone();
    for l in loops {
        let extent = &mut extents[l.cut.rank];
        *extent = (*extent).min(l.cut.step);
    }
    for lane in lanes {
        // Only an index that is one rank divides among PEs: neighbours share words of p + r.
        let mut touched = projection
            .all_dims()
            .filter(|d| lane.touches_any([*d]))
            .peekable();
        if touched.peek().is_some() && touched.all(|d| d.terms.len() == 1 && d.wrapped.is_empty()) {
            let extent = &mut extents[lane.cut.rank];
            let step = lane.cut.step.max(1);
            let rounds = extent.div_ceil(step.saturating_mul(lane.count).max(1));
            *extent = (*extent).min(rounds.saturating_mul(step));
        }
    }
    extents
}
