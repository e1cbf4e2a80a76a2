//! Movements of what Einsums make: updates, drains, and partial results that come back.

use einflow_workloads::cascade::TensorId;

use super::{
    conditions::of_block,
    transfers::{Finder, steps},
};
use crate::{
    mapped::{BoundEinsum, NamedLoop, Place, Transfer, TransferKind},
    nest::{Dim, Loop, Projection, Reuse, iterations},
    spec::{BindingSpec, Name},
};

impl Finder<'_> {
    pub(super) fn writes(
        &mut self,
        nest: usize,
        einsum: &BoundEinsum,
        binding: &BindingSpec,
        name: &Name,
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
        let kept_through = registers.map(|depth| self.around(nest, depth, einsum));
        let mut projection = match &kept_through {
            Some(loops) => self.leaving(tensor, loops, Place::Registers(einsum.unit)),
            None => own.clone(),
        };
        if partials {
            // Every step sends its results: the steps of all loops count as coordinates.
            projection.dims.extend(steps(&einsum.loops, own));
        }
        let steps = projection.dims.len() - own.dims.len();
        let (loops, tile_depth): (Vec<Loop>, usize) = match (kept_through, registers) {
            (Some(around), Some(depth)) => {
                let made = self.made_below(nest, depth, einsum, &projection);
                let loops = match self.leaves_out(&made) {
                    true => {
                        self.comes_back(nest, depth, name, &projection);
                        made
                    }
                    false => around,
                };
                let depth = loops.len();
                (loops, depth)
            }
            _ => (
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
                projection: self.leaving(tensor, &loops, Place::Memory(level.memory)),
                loops,
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

    /// The loops that tell the words apart which iterations make of a tile that registers keep below `depth`: where some
    /// are left out, nobody makes theirs. Other loops only come back to them.
    fn made_below(
        &self,
        nest: usize,
        depth: usize,
        einsum: &BoundEinsum,
        leaving: &Projection,
    ) -> Vec<Loop> {
        let all = self.block.loops.iter().chain(&self.block.nests[nest].loops);
        let all: Vec<&NamedLoop> = all.collect();
        let touched = |l: &NamedLoop| l.touches_any(&leaving.dims);
        let around = all.iter().take(depth).rposition(|l| touched(l));
        let around = around.map_or(0, |at| at + 1);
        let known = |(at, l): (usize, &&NamedLoop)| {
            let told = at < around || at >= depth && touched(l);
            let runs = einsum.at_exit_of.as_ref() != Some(&l.name);
            (told && runs).then_some(l.cut)
        };
        all.iter().enumerate().filter_map(known).collect()
    }

    /// Whether tiles of these loops are left out.
    fn leaves_out(&self, loops: &[Loop]) -> bool {
        let mut space = self.block.space.clone();
        if !space.skip_empty {
            return false;
        }
        // Conditions that do not go together are refused elsewhere.
        space.conditions = of_block(self.context, self.index, self.block).unwrap_or_default();
        let some = iterations(&space, loops).ok();
        space.skip_empty = false;
        // What cannot be counted may be.
        some.is_none() || some != iterations(&space, loops).ok()
    }

    /// Refuses a tile in registers, parts of which are left out, to which a loop may come back with no other between: the
    /// parts would be told from those before them, and not the tile.
    fn comes_back(&mut self, nest: usize, depth: usize, name: &Name, leaving: &Projection) {
        let block = self.block;
        let all = || block.loops.iter().chain(&block.nests[nest].loops);
        let touched = |l: &&NamedLoop| l.count > 1 && l.touches_any(&leaving.dims);
        let parts = all().skip(depth).any(|l| touched(&l));
        let mut again = all().take(depth).filter(|l| l.count > 1 && !touched(l));
        let (true, Some(again)) = (parts, again.next()) else {
            return;
        };
        let why = format!(
            "tiles of {} in registers, parts of which `skip_empty` leaves out, would be made again as loop {} comes round",
            name.text, again.name
        );
        self.problems.push(self.context.at(name, why).help(format!(
            "put {} inside the loops of {}, keep it in no registers, or leave `skip_empty` out",
            again.name, name.text
        )));
    }

    /// Which words leave a place where a tensor's tile serves while these loops stand: of a running value that passes
    /// through all its coordinates meanwhile, the last, where the block reads it nowhere further out.
    fn leaving(&self, tensor: TensorId, loops: &[Loop], from: Place) -> Projection {
        let context = self.context;
        let mut projection = context.projections.own(tensor).clone();
        let t = context.cascade.tensor(tensor);
        let read_outside = self.block.nests.iter().enumerate().any(|(n, own)| {
            let einsums = own.einsums.iter().enumerate();
            let mut einsums = einsums;
            einsums.any(|(e, einsum)| {
                self.reads_tensor(einsum, tensor) && !self.reads_there(n, e, einsum, tensor, from)
            })
        });
        let in_place = context.updated_in_place(tensor) && !read_outside;
        let Some(iterative) = t.iterative.filter(|_| in_place) else {
            return projection;
        };
        let digit = context.ranks.digit(t.ranks[iterative]);
        let walks = |l: &Loop| l.rank == digit.base && l.step >= digit.unit;
        if !loops.iter().any(walks) {
            projection.dims[context.cascade.batch.len() + iterative] = Dim {
                offset: i64::try_from(digit.size.saturating_sub(1)).unwrap_or(i64::MAX),
                ..Dim::default()
            };
        }
        projection
    }

    /// Whether an Einsum reads a tensor from a place, or from further in.
    fn reads_there(
        &self,
        nest: usize,
        position: usize,
        einsum: &BoundEinsum,
        tensor: TensorId,
        place: Place,
    ) -> bool {
        let context = self.context;
        let binding = &context.spec.blocks[self.index].nests[nest].einsums[position].1;
        let stated = binding.from.iter();
        let mut stated = stated.filter(|(t, _)| context.tensor(t) == Ok(tensor));
        let from = stated.find_map(|(_, place)| context.place(place).ok());
        let in_registers = |unit: usize| {
            let mut keeps = self.keeps(nest, tensor);
            keeps.any(|(k, _)| k.place == Place::Registers(unit))
        };
        match (from, place) {
            (Some(Place::Registers(_)), _) => true,
            (None, _) if in_registers(einsum.unit) => true,
            (_, Place::Registers(_)) => false,
            (Some(Place::Memory(memory)), Place::Memory(outer)) => memory >= outer,
            (None, Place::Memory(outer)) => {
                let levels = self.levels(nest, tensor);
                levels.last().is_some_and(|l| l.memory >= outer)
            }
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
