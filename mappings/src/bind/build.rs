//! One block at given sizes: loops, phases, and what its parts give.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, Span, did_you_mean};

use super::{context::Context, ranks::Parts};
use crate::{
    mapped::{Block, NamedLoop, Nest, Phase, Pipeline},
    nest::Space,
    spec::{BlockSpec, Name},
};

impl Context<'_> {
    /// Builds a block with its rank parts at `sizes`, its searched loops in `order`, and not the places `without`.
    pub fn build(
        &self,
        index: usize,
        sizes: &BTreeMap<String, u64>,
        order: &[usize],
        without: &[Span],
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
                .filter_map(|n| problems.absorb(parts.find_loop(n, source).map_err(Problems::from)))
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
            .absorb(self.keeps(&spec.keep, &loops, &[], without, &space, &all, index))
            .unwrap_or_default();
        for (nest, nest_spec) in nests.iter_mut().zip(&spec.nests) {
            let around: Vec<NamedLoop> = loops.iter().chain(&nest.loops).cloned().collect();
            nest.keeps = problems
                .absorb(self.keeps(
                    &nest_spec.keep,
                    &around,
                    &keeps,
                    without,
                    &space,
                    &all,
                    index,
                ))
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
        let interleave = interleaved(spec, &nests);
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
            interleave,
        };
        problems.into_result(Some(block))
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
                einsums.extend(place_of(nests, name));
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

/// Where an Einsum of that name stands: nest and position.
fn place_of(nests: &[Nest], name: &Name) -> Option<(usize, usize)> {
    nests.iter().enumerate().find_map(|(n, nest)| {
        let position = nest.einsums.iter().position(|e| e.name == name.text);
        position.map(|e| (n, e))
    })
}

fn interleaved(spec: &BlockSpec, nests: &[Nest]) -> Vec<Vec<(usize, usize)>> {
    let group = |names: &Vec<Name>| names.iter().filter_map(|n| place_of(nests, n)).collect();
    spec.interleave.iter().map(group).collect()
}
