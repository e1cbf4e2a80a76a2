//! One block at given sizes: loops, places, units.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_spec::{Problem, Problems, did_you_mean};
use einflow_workloads::cascade::{Cascade, Einsum, EinsumId, ReadTime, TensorId, TensorKind};

use super::{
    operators::operators_of,
    ranks::{Parts, Ranks, Scope, own_projection, seen_projection, viewed},
};
use crate::{
    mapped::{Block, BoundEinsum, Keep, NamedLoop, Nest, Phase, Pipeline, Place},
    nest::{Projection, Space, Term, footprint},
    spec::{BindingSpec, BlockSpec, KeepSpec, MappingSpec, Name, Row},
};

/// What a block keeps, and what each of its nests does.
pub(crate) struct Tiles {
    pub block: Vec<Keep>,
    pub nests: Vec<Vec<Keep>>,
}

/// What every block of one mapping shares.
pub(crate) struct Context<'a> {
    pub cascade: &'a Cascade,
    pub accelerator: &'a Accelerator,
    pub spec: &'a MappingSpec,
    pub given: &'a BTreeMap<String, u64>,
    pub ranks: &'a Ranks,
    pub row: Option<&'a Row>,
}

impl Context<'_> {
    pub fn at(&self, name: &Name, message: String) -> Problem {
        Problem::at(&self.spec.source, name.span, message)
    }

    pub fn scope<'a>(&'a self, found: &'a BTreeMap<String, u64>) -> Scope<'a> {
        Scope {
            given: self.given,
            found,
            accelerator: self.accelerator,
            row: self.row,
            source: &self.spec.source,
        }
    }

    /// The block that binds an Einsum.
    pub fn block_of(&self, einsum: &str) -> Option<usize> {
        self.spec.blocks.iter().position(|b| {
            b.nests
                .iter()
                .any(|n| n.einsums.iter().any(|(name, _)| name.text == einsum))
        })
    }

    /// Whether a tensor comes from outside the block or is needed outside it.
    pub fn crosses(&self, block: usize, tensor: TensorId) -> bool {
        let t = self.cascade.tensor(tensor);
        if matches!(t.kind, TensorKind::Input | TensorKind::Output) {
            return true;
        }
        if self.block_of(&t.name) != Some(block) {
            return true;
        }
        self.cascade.einsums.iter().any(|e| {
            let reader = &self.cascade.tensor(e.output).name;
            !e.view
                && self.block_of(reader) != Some(block)
                && e.reads
                    .iter()
                    .any(|r| viewed(self.cascade, r.tensor) == tensor)
        })
    }

    /// The tensor that a name in the mapping stands for; a view stands for what it views.
    pub fn tensor(&self, name: &Name) -> Result<TensorId, Problem> {
        let id = self.cascade.tensor_named(&name.text).ok_or_else(|| {
            let known = self.cascade.tensors.iter().map(|t| t.name.as_str());
            self.at(
                name,
                format!("{} has no tensor `{}`", self.cascade.name, name.text),
            )
            .help(did_you_mean(&name.text, known))
        })?;
        Ok(viewed(self.cascade, id))
    }

    /// The memory that a name stands for.
    pub fn memory(&self, name: &Name) -> Result<usize, Problem> {
        let known = self.accelerator.memories.iter().map(|m| m.name.as_str());
        self.accelerator
            .memories
            .iter()
            .position(|m| m.name == name.text)
            .ok_or_else(|| {
                self.at(
                    name,
                    format!("{} has no memory `{}`", self.accelerator.name, name.text),
                )
                .help(did_you_mean(&name.text, known))
            })
    }

    /// The array that a name stands for.
    pub fn array(&self, name: &Name) -> Result<usize, Problem> {
        let known = self.accelerator.arrays.iter().map(|a| a.name.as_str());
        self.accelerator
            .arrays
            .iter()
            .position(|a| a.name == name.text)
            .ok_or_else(|| {
                self.at(
                    name,
                    format!("{} has no array `{}`", self.accelerator.name, name.text),
                )
                .help(did_you_mean(&name.text, known))
            })
    }

    /// The memory, or the array whose registers are meant, that a name stands for.
    pub fn place(&self, name: &Name) -> Result<Place, Problem> {
        if let Some(array) = self
            .accelerator
            .arrays
            .iter()
            .position(|a| a.name == name.text)
        {
            return Ok(Place::Registers(array));
        }
        let known: Vec<&str> = self
            .accelerator
            .memories
            .iter()
            .map(|m| m.name.as_str())
            .chain(self.accelerator.arrays.iter().map(|a| a.name.as_str()))
            .collect();
        self.memory(name).map(Place::Memory).map_err(|_| {
            self.at(
                name,
                format!(
                    "{} has no memory or array `{}`",
                    self.accelerator.name, name.text
                ),
            )
            .help(did_you_mean(&name.text, known.iter().copied()))
        })
    }

    /// The splits that hold in a block: its own, and the mapping's of other ranks.
    pub fn splits<'b>(&'b self, block: &'b BlockSpec) -> Vec<&'b (Name, Vec<Name>)> {
        let own = &block.splits;
        let others = self
            .spec
            .splits
            .iter()
            .filter(|(rank, _)| !own.iter().any(|(o, _)| o.text == rank.text));
        own.iter().chain(others).collect()
    }

    /// The tiles that a block keeps, without its Einsums: all that a size has to fit.
    pub fn room(&self, index: usize, sizes: &BTreeMap<String, u64>) -> Result<Tiles, Problems> {
        let spec = &self.spec.blocks[index];
        let source = &self.spec.source;
        let parts = Parts::new(self.cascade, self.ranks, &self.splits(spec), sizes, source)?;
        let find = |names: &[Name]| {
            names
                .iter()
                .map(|n| parts.find(n, source))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut loops = find(&spec.loops)?;
        loops.extend(find(&spec.searched_loops)?);
        let space = Space::new(self.ranks.base.iter().map(|b| b.size).collect::<Vec<_>>());
        let block = self.keeps(&spec.keep, &loops, spec, &space, sizes, index)?;
        let mut nests = Vec::with_capacity(spec.nests.len());
        for nest in &spec.nests {
            let mut around = loops.clone();
            around.extend(find(&nest.loops)?);
            nests.push(self.keeps(&nest.keep, &around, spec, &space, sizes, index)?);
        }
        Ok(Tiles { block, nests })
    }

    /// Builds a block with its rank parts at `sizes` and its searched loops in `order`.
    pub fn build(
        &self,
        index: usize,
        sizes: &BTreeMap<String, u64>,
        order: &[usize],
    ) -> Result<Block, Problems> {
        let spec = &self.spec.blocks[index];
        let source = &self.spec.source;
        let mut problems = Problems::new();
        let parts = Parts::new(self.cascade, self.ranks, &self.splits(spec), sizes, source)?;
        let mut all: BTreeMap<String, u64> = parts
            .iter()
            .map(|p| (p.size_name.clone(), p.count))
            .collect();
        all.extend(sizes.iter().map(|(k, v)| (k.clone(), *v)));
        let mut find = |names: &[Name]| -> Vec<NamedLoop> {
            names
                .iter()
                .filter_map(|n| problems.absorb(parts.find(n, source).map_err(Problems::from)))
                .collect()
        };
        let mut loops = find(&spec.loops);
        let searched = find(&spec.searched_loops);
        loops.extend(order.iter().filter_map(|i| searched.get(*i).cloned()));

        let mut nests: Vec<Nest> = Vec::new();
        for nest in &spec.nests {
            nests.push(Nest {
                loops: find(&nest.loops),
                keeps: Vec::new(),
                einsums: Vec::new(),
            });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let base_sizes: Vec<u64> = self.ranks.base.iter().map(|b| b.size).collect();
        let mut space = Space::new(base_sizes);
        space.skip_empty = spec.skip_empty;
        let keeps = problems
            .absorb(self.keeps(&spec.keep, &loops, spec, &space, &all, index))
            .unwrap_or_default();
        for (nest, nest_spec) in nests.iter_mut().zip(&spec.nests) {
            let around: Vec<NamedLoop> = loops.iter().chain(&nest.loops).cloned().collect();
            nest.keeps = problems
                .absorb(self.keeps(&nest_spec.keep, &around, spec, &space, &all, index))
                .unwrap_or_default();
            for (name, binding) in &nest_spec.einsums {
                if let Some(bound) =
                    problems.absorb(self.einsum(name, binding, &around, &parts, spec))
                {
                    nest.einsums.push(bound);
                }
            }
        }
        let phases = problems
            .absorb(self.phases(spec, &nests, &all))
            .unwrap_or_default();
        let pipeline = match &spec.pipeline {
            None => None,
            Some(p) => {
                let drains_at = match &p.drains_at {
                    None => None,
                    Some(name) => {
                        let found = loops.iter().position(|l| l.name == name.text);
                        if found.is_none() {
                            problems.push(
                                self.at(
                                    name,
                                    format!("the block has no loop `{}` to drain at", name.text),
                                )
                                .help(did_you_mean(
                                    &name.text,
                                    loops.iter().map(|l| l.name.as_str()),
                                )),
                            );
                        }
                        found
                    }
                };
                Some(Pipeline {
                    drains_at,
                    depth: p.offsets.iter().map(|(_, o)| *o).max().unwrap_or(0),
                })
            }
        };
        let block = Block {
            name: spec.name.clone(),
            loops,
            nests,
            keeps,
            phases,
            transfers: Vec::new(),
            space,
            parts: all,
            occupancy: Vec::new(),
            pipeline,
        };
        problems.into_result(Some(block))
    }

    fn keeps(
        &self,
        specs: &[KeepSpec],
        loops: &[NamedLoop],
        block: &BlockSpec,
        space: &Space,
        sizes: &BTreeMap<String, u64>,
        index: usize,
    ) -> Result<Vec<Keep>, Problems> {
        let mut problems = Problems::new();
        let mut keeps = Vec::new();
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
                let words = self.tile_words(index, tensor, space, &loops[..depth]);
                // Where the pipeline runs on past the end of the loop that the tile serves, old and new coexist.
                let runs_on = block.pipeline.as_ref().is_some_and(|p| {
                    let drains = p
                        .drains_at
                        .as_ref()
                        .and_then(|n| loops.iter().position(|l| l.name == n.text));
                    let ends_inside = depth > 0 && drains.is_none_or(|d| d + 1 < depth);
                    let one_tile = loops[depth.min(loops.len())..].iter().all(|l| l.count == 1);
                    // Operands with one reader are freed before the next tile is loaded; what several stages touch is not.
                    ends_inside && !one_tile && self.stages(index, tensor) > 1
                });
                keeps.push(Keep {
                    tensor,
                    place: found,
                    depth,
                    words,
                    generations: place.buffers.max(if runs_on { 2 } else { 1 }),
                    share,
                    spills_through: place.spills_through,
                    in_place_of,
                    freed_by_row: place.freed_by_row,
                });
            }
        }
        problems.into_result(Some(keeps))
    }

    /// In how many distinct pipeline stages (offsets) a tensor is touched.
    fn stages(&self, block: usize, tensor: TensorId) -> usize {
        let Some(pipeline) = &self.spec.blocks[block].pipeline else {
            return 1;
        };
        let offset = |name: &str| {
            pipeline
                .offsets
                .iter()
                .find(|(n, _)| n.text == name)
                .map_or(0, |(_, o)| *o)
        };
        let mut offsets: Vec<u64> = Vec::new();
        for einsum in &self.cascade.einsums {
            let name = &self.cascade.tensor(einsum.output).name;
            let touches = einsum.output == tensor
                || einsum
                    .reads
                    .iter()
                    .any(|r| viewed(self.cascade, r.tensor) == tensor);
            if touches && !einsum.view {
                offsets.push(offset(name));
            }
        }
        offsets.sort_unstable();
        offsets.dedup();
        offsets.len()
    }

    /// Which words of a tensor the iterations of a block use: as its Einsums read it, where it comes from outside and they
    /// agree. The error: they read it in different ways.
    pub fn tile_projection(
        &self,
        index: usize,
        tensor: TensorId,
    ) -> Result<Projection, Projection> {
        let own = own_projection(self.cascade, self.ranks, tensor);
        let name = &self.cascade.tensor(tensor).name;
        if self.block_of(name) == Some(index) {
            return Ok(own);
        }
        let here = |e: &&Einsum| {
            !e.view && self.block_of(&self.cascade.tensor(e.output).name) == Some(index)
        };
        match seen_projection(
            self.cascade,
            self.ranks,
            &mut self.cascade.einsums.iter().filter(here),
            tensor,
        ) {
            Ok(projection) => Ok(projection),
            Err(true) => Err(own),
            Err(false) => Ok(own),
        }
    }

    /// Words of the largest tile of a tensor below some loops. An iterative rank occupies one
    /// coordinate: the running value is updated in place.
    fn tile_words(
        &self,
        index: usize,
        tensor: TensorId,
        space: &Space,
        loops: &[NamedLoop],
    ) -> u128 {
        let made_here = self.block_of(&self.cascade.tensor(tensor).name) == Some(index);
        if !made_here
            && !loops.is_empty()
            && let Ok(projection) = self.tile_projection(index, tensor)
        {
            return footprint(space, &extents(space, loops), &projection);
        }
        let mut projection = own_projection(self.cascade, self.ranks, tensor);
        let t = self.cascade.tensor(tensor);
        let in_place = !self.cascade.einsums.iter().any(|e| {
            e.reads
                .iter()
                .any(|r| r.tensor == tensor && r.time == ReadTime::Other)
        });
        if let Some(iterative) = t.iterative.filter(|_| in_place) {
            projection.dims.remove(self.cascade.batch.len() + iterative);
        }
        footprint(space, &extents(space, loops), &projection)
    }

    fn einsum(
        &self,
        name: &Name,
        spec: &BindingSpec,
        around: &[NamedLoop],
        parts: &Parts,
        block: &BlockSpec,
    ) -> Result<BoundEinsum, Problems> {
        let source = &self.spec.source;
        let mut problems = Problems::new();
        let known = || -> Vec<&str> {
            let real = self.cascade.einsums.iter().filter(|e| !e.view);
            real.map(|e| self.cascade.tensor(e.output).name.as_str())
                .collect()
        };
        let id = (0..self.cascade.einsums.len())
            .map(EinsumId)
            .find(|id| self.cascade.name_of(*id) == name.text && !self.cascade.einsum(*id).view)
            .ok_or_else(|| {
                self.at(
                    name,
                    format!("{} has no Einsum `{}`", self.cascade.name, name.text),
                )
                .help(did_you_mean(&name.text, known()))
            })?;
        let einsum = self.cascade.einsum(id);
        let unit = problems.absorb(self.array(&spec.unit).map_err(Problems::from));
        let mut lane = |choice: &crate::spec::Choice<Option<Name>>| -> Option<(NamedLoop, Name)> {
            let name = problems
                .absorb(choice.pick(self.row, source).map_err(Problems::from))?
                .clone()?;
            Some((
                problems.absorb(parts.find(&name, source).map_err(Problems::from))?,
                name,
            ))
        };
        let rows = lane(&spec.rows);
        let columns = lane(&spec.columns);
        let own: Vec<(NamedLoop, Name)> = problems
            .absorb(spec.loops.pick(self.row, source).map_err(Problems::from))
            .map(|names| {
                names
                    .iter()
                    .filter_map(|n| {
                        Some((
                            problems.absorb(parts.find(n, source).map_err(Problems::from))?,
                            n.clone(),
                        ))
                    })
                    .collect()
            })
            .unwrap_or_default();

        // Digits that the Einsum iterates over.
        let digits: Vec<_> = self
            .cascade
            .batch
            .iter()
            .chain(&einsum.ranks)
            .map(|r| self.ranks.digit(*r))
            .collect();
        let relevant = |l: &NamedLoop| {
            digits.iter().any(|d| {
                d.base == l.cut.rank
                    && touches(
                        &Term {
                            rank: d.base,
                            unit: d.unit,
                            modulus: d.modulus,
                            coefficient: 1,
                        },
                        l,
                    )
            })
        };
        for (l, n) in own.iter().chain(rows.iter()).chain(columns.iter()) {
            if !relevant(l) && l.count > 1 {
                problems.push(self.at(
                    n,
                    format!("{} does not iterate over `{}`", name.text, l.name),
                ));
            }
        }
        let mut shared: Vec<NamedLoop> = around.to_vec();
        if let Some(exit) = &spec.at_exit_of {
            match shared.iter().position(|l| l.name == exit.text) {
                Some(position) => {
                    shared.remove(position);
                }
                None => problems.push(
                    self.at(
                        exit,
                        format!("no loop `{}` is around {}", exit.text, name.text),
                    )
                    .help(did_you_mean(
                        &exit.text,
                        around.iter().map(|l| l.name.as_str()),
                    )),
                ),
            }
        }
        // Inside its innermost own rank an Einsum is not repeated; around it, it is computed again.
        let last = shared.iter().rposition(relevant).map_or(0, |i| i + 1);
        shared.truncate(last);
        let own_loops = own.len();
        let mut loops = shared;
        loops.extend(own.iter().map(|(l, _)| l.clone()));

        // Every rank must be walked completely, from coarse to fine, the lanes innermost.
        for (base, rank) in self.ranks.base.iter().enumerate() {
            let Some(finest) = digits
                .iter()
                .filter(|d| d.base == base)
                .map(|d| d.unit)
                .min()
            else {
                continue;
            };
            let start = digits
                .iter()
                .filter(|d| d.base == base)
                .map(|d| d.unit.saturating_mul(d.size))
                .max();
            let mut extent = rank.size.min(start.unwrap_or(rank.size));
            let mut steps: Vec<(&NamedLoop, bool)> = loops
                .iter()
                .filter(|l| l.cut.rank == base)
                .map(|l| (l, false))
                .collect();
            steps.extend(
                rows.iter()
                    .chain(columns.iter())
                    .map(|(l, _)| (l, true))
                    .filter(|(l, _)| l.cut.rank == base),
            );
            steps.retain(|(l, is_lane)| l.count > 1 || *is_lane);
            for pair in steps.windows(2) {
                // A part of one coordinate (an array of one row) cuts nothing and may stand anywhere.
                if pair[1].0.cut.step >= pair[0].0.cut.step
                    && pair[1].0.count > 1
                    && pair[0].0.count > 1
                {
                    let (inner, outer) = (&pair[1].0.name, &pair[0].0.name);
                    let message = if inner == outer {
                        format!("{}: `{inner}` is walked twice", name.text)
                    } else {
                        format!(
                            "{}: `{inner}` stands inside `{outer}` but is the coarser part of {}",
                            name.text, rank.name
                        )
                    };
                    problems.push(self.at(name, message).help("order the parts of a rank from coarse to fine, the part across the array innermost"));
                }
            }
            for (l, is_lane) in &steps {
                if *is_lane {
                    let lanes = extent.div_ceil(l.cut.step);
                    let (on_rows, lane_name) = match &rows {
                        Some((r, n)) if r == *l => (true, n),
                        _ => (false, columns.as_ref().map_or(name, |(_, n)| n)),
                    };
                    if let Some(unit) = unit {
                        let array = &self.accelerator.arrays[unit];
                        let room = if on_rows { array.rows } else { array.columns };
                        if lanes > room {
                            let dimension = if on_rows { "rows" } else { "columns" };
                            problems.push(
                                self.at(lane_name, format!(
                                    "{}: `{}` lays {lanes} coordinates across the {dimension} of {}, which has {room}",
                                    name.text, l.name, array.name
                                ))
                                .help(format!("make the part {} at most {room}, or loop over a coarser part around it", l.name.to_uppercase())),
                            );
                        }
                    }
                }
                extent = extent.min(l.cut.step);
            }
            if extent > finest {
                let missing: Vec<String> = parts
                    .iter()
                    .filter(|p| p.base == base && p.step < extent && p.count > 1)
                    .map(|p| format!("`{}`", p.name))
                    .collect();
                problems.push(
                    self.at(name, format!("{} does not walk all of rank {}: tiles of {extent} coordinates are left", name.text, rank.name))
                        .help(format!("loop over or lay across the array: {}", missing.join(", "))),
                );
            }
        }

        let operators = unit.and_then(|unit| {
            problems.absorb(operators_of(
                self,
                name,
                einsum,
                spec,
                &self.accelerator.arrays[unit],
            ))
        });
        let points = self.points(einsum);
        let offset = block
            .pipeline
            .as_ref()
            .and_then(|p| p.offsets.iter().find(|(n, _)| n.text == name.text))
            .map_or(0, |(_, o)| *o);
        let value = unit
            .zip(operators)
            .map(|(unit, (operators, cycles))| BoundEinsum {
                einsum: id,
                name: name.text.clone(),
                unit,
                rows: rows.map(|(l, _)| l),
                columns: columns.map(|(l, _)| l),
                loops,
                own_loops,
                at_exit_of: spec.at_exit_of.as_ref().map(|n| n.text.clone()),
                operators,
                cycles,
                offset,
                points,
            });
        problems.into_result(value)
    }

    /// The points of an Einsum: one rank for each base rank, 1 where it does not iterate over it.
    fn points(&self, einsum: &einflow_workloads::cascade::Einsum) -> Space {
        let mut sizes = vec![1; self.ranks.base.len()];
        for (base, rank) in self.ranks.base.iter().enumerate() {
            let digits: Vec<_> = self
                .cascade
                .batch
                .iter()
                .chain(&einsum.ranks)
                .map(|r| self.ranks.digit(*r))
                .filter(|d| d.base == base)
                .collect();
            let Some(finest) = digits.iter().map(|d| d.unit).min() else {
                continue;
            };
            let whole = digits.iter().any(|d| d.modulus.is_none());
            sizes[base] = if whole {
                rank.size.div_ceil(finest)
            } else {
                digits
                    .iter()
                    .map(|d| d.size)
                    .product::<u64>()
                    .min(rank.size)
            };
        }
        let mut space = Space::new(sizes);
        super::conditions::of_points(self, einsum, &mut space);
        space
    }

    fn phases(
        &self,
        spec: &BlockSpec,
        nests: &[Nest],
        sizes: &BTreeMap<String, u64>,
    ) -> Result<Vec<Phase>, Problems> {
        let mut problems = Problems::new();
        let mut phases = Vec::new();
        for phase in &spec.phases {
            let drain = phase.drain.as_ref().map_or(Ok(0), |expr| {
                let value = self.scope(sizes).whole(expr)?;
                u64::try_from(value).map_err(|_| {
                    Problem::at(
                        &self.spec.source,
                        expr.span(),
                        format!("a drain of {value} cycles"),
                    )
                    .help("0 or more would do")
                })
            });
            let drain = problems.absorb(drain.map_err(Problems::from)).unwrap_or(0);
            let mut einsums = Vec::new();
            for name in &phase.einsums {
                let found = nests.iter().enumerate().find_map(|(n, nest)| {
                    nest.einsums
                        .iter()
                        .position(|e| e.name == name.text)
                        .map(|e| (n, e))
                });
                einsums.extend(found);
            }
            phases.push(Phase {
                name: phase.name.clone(),
                einsums,
                drain,
            });
        }
        problems.into_result(Some(phases))
    }
}

/// Coordinates of each base rank that are left below some loops.
fn extents(space: &Space, loops: &[NamedLoop]) -> Vec<u64> {
    let mut extents = space.sizes.clone();
    for l in loops {
        let extent = &mut extents[l.cut.rank];
        *extent = (*extent).min(l.cut.step);
    }
    extents
}

/// Whether a term's value changes from one iteration of a loop to the next.
pub(crate) fn touches(term: &Term, l: &NamedLoop) -> bool {
    if term.rank != l.cut.rank || l.count <= 1 {
        return false;
    }
    let span = l.cut.step.saturating_mul(l.count);
    let wraps = term
        .modulus
        .is_some_and(|m| l.cut.step.is_multiple_of(m.saturating_mul(term.unit)));
    span > term.unit && !wraps
}
