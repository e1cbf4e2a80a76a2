//! A legal mapping of a cascade on an accelerator at given sizes: what the engines run.

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_workloads::cascade::{Cascade, EinsumId, RankId, ReadTime, TensorId};

use crate::{
    count::Count,
    nest::{Condition, Loop, Projection, Reuse, Space, Term, footprint, used},
    spec::MappingSpec,
};

/// A cascade laid on an accelerator. Only [`crate::bind`] makes one, and it makes only legal ones.
#[derive(Clone, Debug)]
pub struct MappedCascade {
    /// What is computed.
    pub cascade: Arc<Cascade>,
    /// What it runs on.
    pub accelerator: Arc<Accelerator>,
    /// The mapping file.
    pub spec: Arc<MappingSpec>,
    /// Sizes of all ranks, parameters and rank parts (a part that differs from block to block has its size in the first).
    pub sizes: BTreeMap<String, u64>,
    /// The ranks that loops cut, in the order in which [`Loop::rank`] counts them.
    pub base: Arc<[BaseRank]>,
    /// Blocks, one after another.
    pub blocks: Arc<[Block]>,
    /// By tensor: which of its words a point of the base ranks touches.
    pub(crate) projections: Arc<[Projection]>,
    /// By tensor: how its Einsums read it where it is an input, or write it where it is an output.
    pub(crate) uses: Arc<[Vec<Use>]>,
}

/// One Einsum's use of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// The Einsum's points, over [`MappedCascade::base`].
    pub points: Space,
    /// Which word each of them touches.
    pub projection: Projection,
}

/// A rank that is not a part of another.
#[derive(Clone, Debug)]
pub struct BaseRank {
    /// The cascade's rank.
    pub rank: RankId,
    /// Its name.
    pub name: String,
    /// Its size.
    pub size: u64,
}

/// A named loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLoop {
    /// The rank part's name, in lower case.
    pub name: String,
    /// What it cuts.
    pub cut: Loop,
    /// Its iterations where nothing is partial.
    pub count: u64,
}

/// Where words are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A memory of the accelerator.
    Memory(usize),
    /// The registers of an array.
    Registers(usize),
}

/// A fused block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The name.
    pub name: String,
    /// Loops that all nests share, outermost first.
    pub loops: Vec<NamedLoop>,
    /// Nests, one after another inside the loops.
    pub nests: Vec<Nest>,
    /// What stays where across nests.
    pub keeps: Vec<Keep>,
    /// Phases of a tile; empty: the slowest unit decides.
    pub phases: Vec<Phase>,
    /// Every movement of words.
    pub transfers: Vec<Transfer>,
    /// The iteration space over [`MappedCascade::base`], with the conditions that empty tiles are tested against.
    pub space: Space,
    /// Sizes of the rank parts in this block.
    pub parts: BTreeMap<String, u64>,
    /// Bytes in each memory at the worst moment.
    pub occupancy: Vec<u128>,
    /// The software pipeline, where there is one.
    pub pipeline: Option<Pipeline>,
    /// Einsums that alternate cycle by cycle on one array, by nest and position.
    pub interleave: Vec<Vec<(usize, usize)>>,
}

/// A software pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The loop at whose end it empties; none: it runs on to the end of the block.
    pub drains_at: Option<usize>,
    /// The largest number of tiles that an Einsum runs ahead.
    pub depth: u64,
}

/// Einsums that share loops.
#[derive(Clone, Debug)]
pub struct Nest {
    /// Loops inside the block's.
    pub loops: Vec<NamedLoop>,
    /// What stays where while this nest runs.
    pub keeps: Vec<Keep>,
    /// The Einsums in order.
    pub einsums: Vec<BoundEinsum>,
}

/// An Einsum on its unit.
#[derive(Clone, Debug)]
pub struct BoundEinsum {
    /// Which.
    pub einsum: EinsumId,
    /// Its name.
    pub name: String,
    /// The array.
    pub unit: usize,
    /// The rank part across the array's rows.
    pub rows: Option<NamedLoop>,
    /// The rank part across the array's columns.
    pub columns: Option<NamedLoop>,
    /// All temporal loops that it runs in: the block's, the nest's, its own.
    pub loops: Vec<NamedLoop>,
    /// How many of `loops` are the Einsum's own (the last ones); the others step from tile to tile.
    pub own_loops: usize,
    /// The loop of the block or nest at whose exit it runs.
    pub at_exit_of: Option<String>,
    /// Operators, and how often each is applied at one point.
    pub operators: Vec<(String, u64)>,
    /// Cycles that one point takes in a PE.
    pub cycles: u64,
    /// Tiles that it runs ahead of the tile that leaves the pipeline.
    pub offset: u64,
    /// Its points: sizes of its ranks and its conditions.
    pub points: Space,
    /// The coordinates that tell its points apart, as functions of the base ranks.
    pub coordinates: Vec<Term>,
    /// What it reads, in the cascade's order.
    pub operands: Vec<BoundOperand>,
    /// The tensor that it makes (never a view).
    pub output: TensorId,
    /// The innermost memory that holds its output while it runs; none: the output stays in registers or leaves over a link.
    pub output_memory: Option<usize>,
    /// The memory that takes partial results after every step.
    pub partials: bool,
    /// Cycles from one step to the next: `cycles`, or as many as a link takes for the words of a step.
    pub interval: u64,
    /// That link, where it takes longer: array, and which of its links.
    pub narrow: Option<(usize, usize)>,
    /// The same while partial results come back.
    pub returns: Returns,
    /// What stays in the PEs for some steps and takes longer to load than they take.
    pub loads: Vec<Load>,
    /// What passes links for it.
    pub passing: Vec<Passing>,
}

/// What pace partial results leave an Einsum that come back for it to add to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// The loops, of [`BoundEinsum::loops`], each further iteration of which adds to results that have left.
    pub loops: Vec<usize>,
    /// Cycles from one step to the next while they come back.
    pub interval: u64,
    /// The link that takes so long, where it takes longer than the operators: array, and which of its links.
    pub narrow: Option<(usize, usize)>,
}

/// Words that pass one family of links, at the edge of an array or between its PEs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    /// The array whose links they are.
    pub array: usize,
    /// Which of its links.
    pub link: usize,
    /// How many words.
    pub of: PassingWords,
    /// Links of the family that each of them passes, on average over all tiles.
    pub hops: Count,
}

/// How many words pass links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassingWords {
    /// As many as a transfer of the block moves.
    Moved(usize),
    /// As many partial results as come back in one.
    Returned(usize),
    /// One whenever a step brings another.
    Changing(Projection),
    /// Parts that lanes add up, less the sums that they make: a sum of n lanes passes from each to the next.
    Added {
        /// A part: a sum, and the lane.
        parts: Projection,
        /// A sum.
        sums: Projection,
        /// What stays of them for the next step.
        reuse: Reuse,
    },
}

/// Words that stay in the PEs for some steps, one for each, or as registers keep them, and are loaded meanwhile for the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which.
    pub projection: Projection,
    /// The transfer that moves them, where registers keep a tile of them; else they may change with every step.
    pub kept: Option<usize>,
    /// Cycles by which loading them takes longer than those steps.
    pub excess: u64,
}

/// An operand of an Einsum, and where it comes from.
#[derive(Clone, Debug)]
pub struct BoundOperand {
    /// The tensor (never a view).
    pub tensor: TensorId,
    /// How the read stands to the tensor's iterative rank.
    pub time: ReadTime,
    /// Which word each point of the base ranks reads.
    pub projection: Projection,
    /// Where it comes from.
    pub origin: OperandOrigin,
}

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandOrigin {
    /// A memory.
    Memory(usize),
    /// The array whose Einsum (nest and position) makes it: over a link, or from the registers of the same PE.
    Made(usize, usize),
}

impl BoundEinsum {
    /// The loops that step from tile to tile.
    pub fn shared_loops(&self) -> &[NamedLoop] {
        &self.loops[..self.loops.len() - self.own_loops]
    }

    /// Of loops of the Einsum those that do not come back to results that have left, and the space that they walk: with
    /// it, what is counted is what happens when results leave for the first time.
    pub(crate) fn first(&self, space: &Space, loops: &[Loop]) -> (Space, Vec<Loop>) {
        let again = |at: &usize| self.returns.loops.contains(at);
        let cuts = |at: usize| self.loops[at].cut;
        let mut space = space.clone();
        for at in &self.returns.loops {
            let Loop { rank, step, .. } = cuts(*at);
            let mut inside = at + 1..self.loops.len();
            // What is inside walks each iteration of the outer loop alike.
            if inside.any(|i| cuts(i).rank == rank && self.loops[i].count > 1 && !again(&i)) {
                space.sizes[rank] = space.sizes[rank].min(step);
            }
        }
        let again: Vec<Loop> = self.returns.loops.iter().map(|at| cuts(*at)).collect();
        let left = loops.iter().filter(|l| !again.contains(l));
        (space, left.copied().collect())
    }
}

/// A tile of a tensor that stays in a place.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The tensor.
    pub tensor: TensorId,
    /// Where.
    pub place: Place,
    /// Loops (of the block, then of the nest) during one iteration of which the tile serves; 0: the whole tensor.
    pub depth: usize,
    /// Words of the largest tile.
    pub words: u128,
    /// Tiles held at once.
    pub generations: u64,
    /// The share that is kept, as a fraction.
    pub share: (u64, u64),
    /// The rest passes through this place on its way.
    pub spills_through: bool,
    /// A tensor whose room it takes over.
    pub in_place_of: Option<TensorId>,
    /// Room is freed row by row.
    pub freed_by_row: bool,
}

/// One phase of a tile.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The name.
    pub name: String,
    /// Einsums, by nest and position.
    pub einsums: Vec<(usize, usize)>,
    /// Cycles of drain before it.
    pub drain: u64,
}

/// A movement of the words of a tensor, counted by [`crate::nest::moved`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The tensor (never a view).
    pub tensor: TensorId,
    /// The Einsum for which the words move, by nest and position: of several readers of a tile, the first.
    pub einsum: (usize, usize),
    /// What kind of movement.
    pub kind: TransferKind,
    /// Loops at each iteration of which the moved tile may change.
    pub loops: Vec<Loop>,
    /// How many of them, from the outside, step from tile to tile: at those, empty iterations are left out.
    pub tile_depth: usize,
    /// Which word each point touches.
    pub projection: Projection,
    /// Dims at the end of `projection` that tell the steps of partial results apart, not words: for engines
    /// that follow words one by one.
    pub steps: usize,
    /// What does not move again; nothing is reused of partial results, which move at every step.
    pub reuse: Reuse,
    /// The outer side (for a fill or drain), and the share of it that moves.
    pub outer: Option<Place>,
    /// The inner side, and how accesses divide between it and the next memory outward: the
    /// share that is kept there.
    pub inner: Place,
    /// The kept share of `inner`, as a fraction.
    pub share: (u64, u64),
    /// Where the rest of `inner` lives.
    pub spill: Option<Place>,
    /// The rest passes through `inner` on its way, so that every access is one of `inner` too.
    pub through: bool,
}

/// What kind of movement a [`Transfer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// A tile of an operand is loaded: read at `outer`, written at `inner`.
    Fill,
    /// An operand is read at `inner` by an Einsum's unit.
    Operand,
    /// An Einsum's results, partial or final, are written at `inner`; partial ones come back.
    Update,
    /// A tile of results goes from `inner` to `outer`; a partial one comes back.
    Drain,
}

impl MappedCascade {
    /// The same on an accelerator that differs only in what does not bear on legality or counts: clock, bandwidths,
    /// latencies, energies, areas.
    #[must_use]
    pub fn on(&self, accelerator: &Arc<Accelerator>) -> Self {
        Self {
            accelerator: Arc::clone(accelerator),
            ..self.clone()
        }
    }

    /// The conditions on a block's tiles.
    pub fn conditions(&self, block: usize) -> &[Condition] {
        &self.blocks[block].space.conditions
    }

    /// Which word of a tensor a point of the base ranks touches, every rank variable being its own index.
    pub fn own_projection(&self, tensor: TensorId) -> &Projection {
        &self.projections[tensor.0]
    }

    /// Words of an input or output that some point reads or writes which no condition masks. Where they cannot be
    /// counted, all of the tensor's. Readers under one mask together; of those under several masks, the one that needs
    /// most: no fewer are needed by all together.
    pub fn needed(&self, tensor: TensorId) -> u128 {
        let space = Space::new(self.base.iter().map(|b| b.size).collect::<Vec<_>>());
        let all = footprint(&space, &space.sizes, self.own_projection(tensor));
        let mut together: Vec<(&Space, Projection)> = Vec::new();
        for own in &self.uses[tensor.0] {
            let alike =
                |s: &Space| s.sizes == own.points.sizes && s.conditions == own.points.conditions;
            match together.iter_mut().find(|(s, _)| alike(s)) {
                Some((_, projection)) => *projection = projection.with(&own.projection),
                None => together.push((&own.points, own.projection.clone())),
            }
        }
        let words =
            |(points, projection): &(&Space, Projection)| used(points, projection).unwrap_or(all);
        let most = together.iter().map(words).max();
        most.map_or(all, |words| words.min(all))
    }

    /// Bytes of one word.
    pub fn word_bytes(&self) -> u128 {
        self.accelerator.word.bytes().0
    }
}
