//! Which words move between which places in a block.

use einflow_spec::Problems;
use einflow_workloads::cascade::{Read, ReadTime, TensorId, TensorKind};

use super::context::Context;
use crate::{
    mapped::{Block, BoundEinsum, Keep, NamedLoop, Place, Transfer, TransferKind},
    nest::{Dim, Loop, Projection, Reuse, Term},
    spec::BindingSpec,
};

/// A tensor's places as one Einsum sees them: memories from its home inward.
pub(super) struct Level {
    pub(super) memory: usize,
    pub(super) depth: usize,
    pub(super) share: (u64, u64),
    pub(super) through: bool,
    /// `None`: the block's own level; `Some`: kept only while this nest runs.
    pub(super) nest: Option<usize>,
}

/// Finds every movement of words in a block.
pub(crate) fn transfers(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<Vec<Transfer>, Problems> {
    let mut finder = Finder {
        context,
        index,
        block,
        out: Vec::new(),
        problems: Problems::new(),
        filled: Vec::new(),
        at: (0, 0),
    };
    for (n, nest) in block.nests.iter().enumerate() {
        for (e, einsum) in nest.einsums.iter().enumerate() {
            let (name, binding) = &context.spec.blocks[index].nests[n].einsums[e];
            debug_assert_eq!(name.text, einsum.name);
            finder.at = (n, e);
            finder.reads(n, einsum, binding, name);
            finder.writes(n, einsum, binding, name);
        }
    }
    finder.problems.into_result(Some(finder.out))
}

pub(super) struct Finder<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) index: usize,
    pub(super) block: &'a Block,
    pub(super) out: Vec<Transfer>,
    pub(super) problems: Problems,
    /// Tiles whose loading is already accounted for: tensor, place, nest.
    pub(super) filled: Vec<(TensorId, Place, Option<usize>)>,
    /// The Einsum at hand, by nest and position.
    pub(super) at: (usize, usize),
}

impl Finder<'_> {
    pub(super) fn keeps(
        &self,
        nest: usize,
        tensor: TensorId,
    ) -> impl Iterator<Item = (&Keep, Option<usize>)> {
        let own = self.block.keeps.iter().map(|k| (k, None));
        own.chain(
            self.block.nests[nest]
                .keeps
                .iter()
                .map(move |k| (k, Some(nest))),
        )
        .filter(move |(k, _)| k.tensor == tensor)
    }

    /// Memories that hold a tensor while a nest runs, outermost first.
    pub(super) fn levels(&self, nest: usize, tensor: TensorId) -> Vec<Level> {
        let mut levels: Vec<Level> = self
            .keeps(nest, tensor)
            .filter_map(|(k, nest)| match k.place {
                Place::Memory(memory) => Some(Level {
                    memory,
                    depth: k.depth,
                    share: k.share,
                    through: k.spills_through,
                    nest,
                }),
                Place::Registers(_) => None,
            })
            .collect();
        levels.sort_by_key(|l| (l.memory, l.depth));
        let crosses = self.context.crosses(self.index, tensor);
        let kind = self.context.cascade.tensor(tensor).kind;
        let homed = levels
            .first()
            .is_some_and(|l| l.memory == 0 || (l.depth == 0 && kind == TensorKind::Intermediate));
        if crosses && !homed {
            levels.insert(
                0,
                Level {
                    memory: 0,
                    depth: 0,
                    share: (1, 1),
                    through: false,
                    nest: None,
                },
            );
        }
        levels
    }

    pub(super) fn spill(&self, levels: &[Level], at: usize) -> Option<Place> {
        if levels[at].share == (1, 1) {
            return None;
        }
        let outer = if at > 0 {
            levels[at - 1].memory
        } else {
            levels[at].memory.saturating_sub(1)
        };
        Some(Place::Memory(outer))
    }

    /// The outer loops in which an Einsum's tiles change; not the one at whose exit it runs.
    pub(super) fn around(&self, nest: usize, depth: usize, einsum: &BoundEinsum) -> Vec<Loop> {
        let shared = self
            .block
            .loops
            .iter()
            .chain(&self.block.nests[nest].loops)
            .take(depth);
        shared
            .filter(|l| einsum.at_exit_of.as_ref() != Some(&l.name))
            .map(|l| l.cut)
            .collect()
    }

    fn producer(&self, tensor: TensorId) -> Option<(usize, &BoundEinsum)> {
        self.block.nests.iter().enumerate().find_map(|(n, nest)| {
            nest.einsums
                .iter()
                .find(|e| self.context.cascade.einsum(e.einsum).output == tensor)
                .map(|e| (n, e))
        })
    }

    fn reads(
        &mut self,
        nest: usize,
        einsum: &BoundEinsum,
        binding: &BindingSpec,
        name: &crate::spec::Name,
    ) {
        let context = self.context;
        for (operand, _) in &binding.from {
            let known = context
                .projections
                .listed(einsum.einsum)
                .iter()
                .map(|r| &context.cascade.tensor(r.tensor).name);
            if context
                .tensor(operand)
                .is_ok_and(|t| !self.reads_tensor(einsum, t))
                || context.tensor(operand).is_err()
            {
                let known: Vec<&str> = known.map(String::as_str).collect();
                self.problems.push(
                    context
                        .at(
                            operand,
                            format!("{} does not read `{}`", einsum.name, operand.text),
                        )
                        .help(einflow_spec::did_you_mean(
                            &operand.text,
                            known.iter().copied(),
                        )),
                );
            }
        }
        let reads = context.projections.listed(einsum.einsum);
        let mut done: Vec<(TensorId, &Projection, ReadTime)> = Vec::new();
        for (read, seen) in reads.iter().zip(context.projections.reads(einsum.einsum)) {
            match seen {
                Ok((tensor, projection)) => {
                    // The same words read twice in one expression arrive once. RM[m1] and RM[m1+1] are told apart by
                    // when they are read.
                    let known = (*tensor, projection, read.time);
                    if done.contains(&known) {
                        continue;
                    }
                    done.push(known);
                    self.read(
                        nest,
                        einsum,
                        binding,
                        read,
                        *tensor,
                        projection.clone(),
                        name,
                    );
                }
                Err(problem) => self.problems.push(problem.clone()),
            }
        }
    }

    pub(super) fn reads_tensor(&self, einsum: &BoundEinsum, tensor: TensorId) -> bool {
        let context = self.context;
        let mut seen = context.projections.reads(einsum.einsum).iter().flatten();
        seen.any(|(t, _)| *t == tensor)
    }

    #[allow(clippy::too_many_arguments)]
    fn read(
        &mut self,
        nest: usize,
        einsum: &BoundEinsum,
        binding: &BindingSpec,
        read: &Read,
        tensor: TensorId,
        projection: Projection,
        name: &crate::spec::Name,
    ) {
        let context = self.context;
        let own_name = context.cascade.tensor(tensor).name.clone();
        let from = binding
            .from
            .iter()
            .find(|(t, _)| context.tensor(t).is_ok_and(|t| t == tensor))
            .map(|(_, p)| p);
        let mut levels = self.levels(nest, tensor);
        match from.map(|p| (p, context.place(p))) {
            Some((_, Err(problem))) => return self.problems.push(problem),
            Some((place, Ok(Place::Registers(array)))) => {
                return self.forwarded(nest, einsum, tensor, Some(array), place);
            }
            Some((place, Ok(Place::Memory(memory)))) => {
                let Some(at) = levels.iter().position(|l| l.memory == memory) else {
                    return self.problems.push(context.at(
                        place,
                        format!("{} is not kept in `{}`", own_name, place.text),
                    ));
                };
                levels.truncate(at + 1);
            }
            None => {}
        }
        let registers = self
            .keeps(nest, tensor)
            .find(|(k, _)| k.place == Place::Registers(einsum.unit))
            .map(|(k, n)| (k.depth, n));
        if levels.is_empty() {
            return self.forwarded(nest, einsum, tensor, None, name);
        }
        self.fills(nest, einsum, tensor, &levels);
        let last = levels.len() - 1;
        let inner = Place::Memory(levels[last].memory);
        let spill = self.spill(&levels, last);
        let (share, through) = (levels[last].share, levels[last].through);
        if let Some((depth, scope)) = registers {
            // The array's own registers hold a tile: it is loaded once for all its readers there, unless it is made there.
            // What the block keeps there outlasts the nest that made it.
            let made_here = self
                .producer(tensor)
                .is_some_and(|(n, p)| (scope.is_none() || n == nest) && p.unit == einsum.unit);
            let place = Place::Registers(einsum.unit);
            if (made_here && read.time != ReadTime::Previous)
                || self.filled.contains(&(tensor, place, scope))
            {
                return;
            }
            self.filled.push((tensor, place, scope));
            let loops = self.around(nest, depth, einsum);
            let mut projection = projection;
            // A running value that is made here and whose tile does not change is still here at the next coordinate.
            if let Some(iterative) = context
                .cascade
                .tensor(tensor)
                .iterative
                .filter(|_| made_here)
            {
                // Loops that run its Einsum again without touching it start it again.
                let shared: Vec<NamedLoop> = self
                    .block
                    .loops
                    .iter()
                    .chain(&self.block.nests[nest].loops)
                    .cloned()
                    .collect();
                let runs = self
                    .producer(tensor)
                    .map_or(0, |(_, p)| p.loops.len() - p.own_loops);
                let again = steps(&shared[..depth.min(runs).min(shared.len())], &projection);
                projection
                    .dims
                    .remove(context.cascade.batch.len() + iterative);
                projection.dims.extend(again);
            }
            self.out.push(Transfer {
                tensor,
                einsum: self.at,
                kind: TransferKind::Operand,
                tile_depth: loops.len(),
                loops,
                projection,
                steps: 0,
                reuse: Reuse::Previous,
                outer: None,
                inner,
                share,
                spill,
                through,
            });
            return;
        }
        let loops = einsum.loops.iter().map(|l| l.cut).collect();
        let tile_depth = einsum.loops.len() - einsum.own_loops;
        // In p + r a PE's next word may be its neighbour's, and it has no way to it.
        let mut lanes = einsum.rows.iter().chain(&einsum.columns);
        let shifts = lanes.any(|l| {
            let dims = projection.dims.iter();
            dims.filter(|d| d.terms.len() > 1 || !d.wrapped.is_empty())
                .any(|d| l.touches_any([d]))
        });
        self.out.push(Transfer {
            tensor,
            einsum: self.at,
            kind: TransferKind::Operand,
            loops,
            tile_depth,
            projection,
            steps: 0,
            reuse: if shifts {
                Reuse::InPlace
            } else {
                Reuse::Previous
            },
            outer: None,
            inner,
            share,
            spill,
            through,
        });
    }

    /// Loading of the tiles that stand between a tensor's home and where it is read.
    fn fills(&mut self, nest: usize, einsum: &BoundEinsum, tensor: TensorId, levels: &[Level]) {
        for at in 1..levels.len() {
            let level = &levels[at];
            if levels[at - 1].share != (1, 1) {
                self.partly_kept_outside(tensor);
            }
            let made_inside = self
                .producer(tensor)
                .is_some_and(|(n, _)| level.nest.is_none_or(|l| l == n));
            let place = Place::Memory(level.memory);
            if made_inside || self.filled.contains(&(tensor, place, level.nest)) {
                continue;
            }
            self.filled.push((tensor, place, level.nest));
            let loops = self.around(nest, level.depth, einsum);
            let projection = self
                .context
                .tile_projection(self.index, tensor)
                .into_owned();
            self.out.push(Transfer {
                tensor,
                einsum: self.at,
                kind: TransferKind::Fill,
                tile_depth: loops.len(),
                loops,
                projection,
                steps: 0,
                reuse: Reuse::Previous,
                outer: Some(Place::Memory(levels[at - 1].memory)),
                inner: place,
                share: level.share,
                spill: None,
                through: level.through,
            });
        }
    }

    pub(super) fn partly_kept_outside(&mut self, tensor: TensorId) {
        let spec = &self.context.spec.blocks[self.index];
        let keeps = spec
            .keep
            .iter()
            .chain(spec.nests.iter().flat_map(|n| &n.keep));
        let at = keeps
            .into_iter()
            .find(|k| self.context.tensor(&k.tensor) == Ok(tensor))
            .map(|k| &k.tensor);
        let name = &self.context.cascade.tensor(tensor).name;
        if let Some(at) = at {
            self.problems.push(
                self.context
                    .at(at, format!("{name} is kept in part, and a tile of it further inside would be loaded from there"))
                    .help("give the share to the innermost memory only"),
            );
        }
    }

    /// An operand that comes straight from the array that makes it.
    fn forwarded(
        &mut self,
        nest: usize,
        einsum: &BoundEinsum,
        tensor: TensorId,
        from: Option<usize>,
        at: &crate::spec::Name,
    ) {
        let context = self.context;
        let own_name = &context.cascade.tensor(tensor).name;
        let arrays = &context.accelerator.arrays;
        let problem = match self.producer(tensor) {
            None => Some(format!(
                "{} reads {own_name}, which no array makes in this block",
                einsum.name
            )),
            Some((n, _)) if n != nest => Some(format!(
                "{} reads {own_name}, which another nest makes and no memory keeps",
                einsum.name
            )),
            Some((_, producer)) if from.is_some_and(|f| f != producer.unit) => Some(format!(
                "{} takes {own_name} from `{}`, but {} makes it",
                einsum.name, at.text, arrays[producer.unit].name
            )),
            Some((_, producer)) => {
                let linked = producer.unit == einsum.unit
                    || arrays[producer.unit]
                        .links
                        .iter()
                        .any(|l| l.to.as_ref() == Some(&arrays[einsum.unit].name))
                    || arrays[einsum.unit]
                        .links
                        .iter()
                        .any(|l| l.from.as_ref() == Some(&arrays[producer.unit].name));
                (!linked).then(|| {
                    format!(
                        "{} on {} reads {own_name} from {}, and no link joins them",
                        einsum.name, arrays[einsum.unit].name, arrays[producer.unit].name
                    )
                })
            }
        };
        if let Some(message) = problem {
            self.problems.push(
                context
                    .at(at, message)
                    .help(format!("keep {own_name} in a memory of the block")),
            );
        }
    }
}

/// Iterations of loops that do not touch a tensor, as coordinates of their own: each a digit of its rank.
pub(super) fn steps(loops: &[NamedLoop], projection: &Projection) -> Vec<Dim> {
    let touched = |l: &NamedLoop| l.touches_any(&projection.dims);
    let mut dims = Vec::new();
    for (i, l) in loops
        .iter()
        .enumerate()
        .filter(|(_, l)| l.count > 1 && !touched(l))
    {
        let outer = loops[..i]
            .iter()
            .rev()
            .find(|o| o.cut.rank == l.cut.rank && o.count > 1);
        let modulus = outer.map(|o| o.cut.step / l.cut.step.max(1));
        dims.push(Dim::sum(vec![Term {
            rank: l.cut.rank,
            unit: l.cut.step,
            modulus,
            coefficient: 1,
        }]));
    }
    dims
}
