//! The parts of a program.

use std::collections::VecDeque;

use einflow_mappings::{
    mapped::{NamedLoop, Transfer},
    nest::{CountError, Dim, Loop, MAX_RANKS, Occupied, Projection, Reuse, moved_at},
};
use einflow_workloads::cascade::{ReadTime, TensorId};

use super::{geometry::Way, steps::Follows};

/// A part of a space: first coordinate and length of each base rank; of ranks beyond the last, 0 and 1.
pub type Tile = [(u64, u64); MAX_RANKS];

/// One block's program.
#[derive(Debug)]
pub struct Program {
    /// The block's name.
    pub name: String,
    /// The size of each base rank.
    pub whole: Tile,
    /// Loops of each nest: the block's, then its own.
    pub nests: Vec<Vec<NamedLoop>>,
    /// How many of them, from the outside, the pipeline empties at.
    pub scopes: usize,
    /// The Einsums.
    pub ops: Vec<Op>,
    /// Einsums that are issued together, in turns, on one unit.
    pub groups: Vec<Group>,
    /// Steps of an epoch, one after another: by segment, the phases in it. Empty: units run freely.
    pub segments: Vec<Vec<usize>>,
    /// By phase: cycles of drain that the mapping states.
    pub drains: Vec<u64>,
    /// Tiles that memories keep.
    pub keeps: Vec<KeepPlan>,
    /// Movements of tiles between memories, and of words between the outermost memory and the arrays.
    pub streams: Vec<Stream>,
    /// By array: cycles from its first PE to its last.
    pub tails: Vec<u64>,
    /// By array: cycles by which its frame is late.
    pub frames: Vec<u64>,
    /// The test of tiles where empty ones are left out.
    pub occupied: Option<Occupied>,
    /// Pairs of Einsums on two arrays, the second of which takes each word when it arrives.
    pub lockstep: Vec<Lockstep>,
}

/// An Einsum on its unit.
#[derive(Debug)]
pub struct Op {
    /// Its name.
    pub name: String,
    /// Nest and position in the block.
    pub at: (usize, usize),
    /// The array.
    pub unit: usize,
    /// Its loops among those of its nest, in order.
    pub loops: Vec<usize>,
    /// The loop at whose exit it runs.
    pub exit: Option<usize>,
    /// Own loops between folds.
    pub folds: Vec<NamedLoop>,
    /// Own loops inside a fold.
    pub steps: Vec<NamedLoop>,
    /// Cycles of a step.
    pub cycles: u64,
    /// In how many of them its PEs work.
    pub works: u64,
    /// The link that takes the others: array, and which of its links.
    pub narrow: Option<(usize, usize)>,
    /// The same two of a step while partial results come back.
    pub returning: (u64, Option<(usize, usize)>),
    /// Words that stay, and take longer to load.
    pub loads: Vec<Staying>,
    /// Tiles ahead.
    pub offset: u64,
    /// Its group.
    pub group: usize,
    /// Its phase.
    pub phase: Option<usize>,
    /// What it reads.
    pub reads: Vec<Read>,
    /// Its output.
    pub output: TensorId,
    /// Where its output goes, where a memory takes it.
    pub result: Option<Way>,
    /// The transfer that counts it.
    pub update: Option<usize>,
    /// Cycles before the first step in which the array does nothing but load what stays.
    pub load: u64,
    /// Cycles after the last step in which the array does nothing but shift results out.
    pub shift: u64,
    /// Rows and columns that it lies across, by base rank, with the coordinates of a full lane.
    pub lanes: (Option<NamedLoop>, Option<NamedLoop>),
    /// The keep that it writes without a fill.
    pub writes: Option<usize>,
    /// The keeps that it reads (which operands) or writes.
    pub uses: Vec<KeepUse>,
    /// Loops of its nest, and folds, each further iteration of which adds to words that have left: they come back.
    pub again: (Vec<usize>, Vec<usize>),
    /// Whether words leave more than once in a task.
    pub repeats: bool,
    /// Whether its walk goes through every tile, one after another.
    pub every_tile: bool,
    /// Words that it makes a tile or fold, in rows: whether each row of the array has its own.
    pub rows_apart: bool,
}

/// What an Einsum does with a kept tile.
#[derive(Clone, Debug)]
pub struct KeepUse {
    /// The keep.
    pub keep: usize,
    /// Operands read from it.
    pub reads: Vec<usize>,
    /// Whether the output goes there.
    pub output: bool,
}

/// Einsums that take turns on a unit: each round does a step of each.
#[derive(Debug)]
pub struct Group {
    /// The unit.
    pub unit: usize,
    /// The members, in the order of a round.
    pub ops: Vec<usize>,
    /// The segment of an epoch.
    pub segment: usize,
    /// Its place in the order of its unit.
    pub place: usize,
}

/// An operand of an [`Op`].
#[derive(Debug)]
pub struct Read {
    /// The tensor.
    pub tensor: TensorId,
    /// When, where it has an iterative rank.
    pub time: ReadTime,
    /// Which words.
    pub projection: Projection,
    /// The Einsum of this block that makes it.
    pub maker: Option<Maker>,
    /// The tile that a fill loads.
    pub keep: Option<usize>,
    /// The way from a memory, where the array reads one.
    pub way: Option<Way>,
    /// The transfer that counts it, where words move.
    pub operand: Option<usize>,
    /// Bytes of a task that come from the outermost memory past every other: the stream.
    pub stream: Option<usize>,
    /// Cycles from the edge of the array to its first PE.
    pub hop: u64,
    /// Whether its words stay in the PEs for a whole task: all of them are there before the first step.
    pub stays: bool,
}

/// Words of an [`Op`] that stay in the PEs, and take longer to load than they stay.
#[derive(Debug)]
pub struct Staying {
    /// Which operand they are.
    pub slot: usize,
    /// Which words.
    pub projection: Projection,
    /// Cycles by which they take longer.
    pub excess: u64,
    /// At which step loops others are loaded.
    pub follows: Follows,
    /// The transfer of which registers keep a tile: others are loaded where it is another one.
    pub kept: Option<usize>,
}

/// Who makes an operand, and how it comes.
#[derive(Debug)]
pub struct Maker {
    /// The Einsum.
    pub op: usize,
    /// By base rank: how far along it a reader's tile reads.
    pub reach: Vec<Reach>,
    /// By fold of the maker: whether it adds to words that are whole only at its end.
    pub sums: Vec<bool>,
    /// The base rank of the tensor's iterative rank.
    pub iterative: Option<usize>,
    /// Coordinates of it that are one step.
    pub iteration: u64,
    /// Cycles from the end of the maker's step to where the reader's first PE has the word.
    pub delay: u64,
    /// Whether reader and maker go word by word.
    pub by_word: bool,
    /// Where it passes: a memory, or none.
    pub memory: Option<usize>,
    /// Words wait in PEs of another array: how many tiles may wait.
    pub waiting: Option<u64>,
}

/// How far along a base rank of its maker a tile reads.
#[derive(Clone, Debug)]
pub enum Reach {
    /// As far as it lies there itself.
    Own,
    /// As far as these go, each times the coordinates that it counts.
    Indices(Vec<(u64, Dim)>),
    /// To the end.
    End,
}

impl Reach {
    /// Whether a tile reads nothing: every index of it lies outside the tensor.
    pub fn misses(&self, tile: &Tile) -> bool {
        let Self::Indices(all) = self else {
            return false;
        };
        let outside = |dim: &Dim| {
            let (first, last) = dim.range(&|rank| tile[rank]);
            let size = dim.within.map(i128::from);
            size.is_some_and(|size| last < 0 || first >= size)
        };
        !all.is_empty() && all.iter().all(|(_, dim)| outside(dim))
    }

    /// The last coordinate, of a part of the rank given as first coordinate and length, that a tile reads.
    pub fn last(&self, tile: &Tile, rank: usize, (start, len): (u64, u64)) -> u64 {
        let end = start + len.max(1) - 1;
        match self {
            Self::End => end,
            Self::Own => (tile[rank].0 + tile[rank].1).saturating_sub(1),
            Self::Indices(all) => {
                let last = |(unit, dim): &(u64, Dim)| {
                    let (_, last) = dim.range(&|rank| tile[rank]);
                    let next = last.saturating_add(1).saturating_mul((*unit).into());
                    u64::try_from(next - 1).unwrap_or(0)
                };
                all.iter()
                    .map(last)
                    .max()
                    .map_or(end, |last| last.clamp(start, end))
            }
        }
    }
}

/// A tile of a tensor that a memory keeps.
#[derive(Debug)]
pub struct KeepPlan {
    /// The tensor.
    pub tensor: TensorId,
    /// The memory.
    pub memory: usize,
    /// The nest whose loops count, none: the block's.
    pub nest: usize,
    /// How many of the nest's loops tell its tiles apart.
    pub depth: usize,
    /// Which words a tile holds.
    pub projection: Projection,
    /// Tiles that may be there at once; none: it takes over another tensor's room, and waits for nothing.
    pub generations: Option<usize>,
    /// Freed row by row.
    pub by_row: bool,
    /// Einsums that read or write it.
    pub users: Vec<usize>,
    /// The stream that fills it.
    pub fill: Option<usize>,
    /// The stream that drains it.
    pub drain: Option<usize>,
    /// Streams that take tiles from it further in.
    pub inward: Vec<usize>,
    /// Streams that bring tiles from further in to it.
    pub outward: Vec<usize>,
    /// The Einsum that makes it.
    pub maker: Option<usize>,
}

/// A sequence of movements that the outermost memory, or one further in, makes one after another.
#[derive(Debug)]
pub struct Stream {
    /// What moves.
    pub kind: StreamKind,
    /// The transfer that counts it.
    pub transfer: usize,
    /// The tensor.
    pub tensor: TensorId,
    /// The outer memory.
    pub outer: usize,
    /// The inner memory; none: the array.
    pub inner: Option<usize>,
    /// The share of the words that moves, as a fraction.
    pub share: (u64, u64),
    /// The nest whose loops count.
    pub nest: usize,
    /// How many loops of it tell its tiles apart.
    pub depth: usize,
    /// Of these, the one at whose exit the tiles are made or used.
    pub exit: Option<usize>,
    /// Which words of a tile.
    pub projection: Projection,
    /// Which words of the tensor a point of its own ranks is.
    pub own: Projection,
    /// The keep in the outer memory of whose tiles its own are parts.
    pub around: Option<usize>,
    /// Where this block makes the words: they have to be in the outer memory first.
    pub source: Option<StreamSource>,
}

/// What brings words of this block to the outer memory before a [`Stream`] takes them from there.
#[derive(Clone, Debug)]
pub struct StreamSource {
    /// The Einsum.
    pub op: usize,
    /// By base rank: how far along it a tile of the stream reads.
    pub reach: Vec<Reach>,
    /// By fold of the Einsum: whether it adds to words that are whole only at its end.
    pub sums: Vec<bool>,
    /// The stream that writes them.
    pub stream: usize,
    /// Where the values before are read: along which base rank, by how many of its coordinates.
    pub previous: Option<(usize, u64)>,
}

/// What a [`Stream`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Loads tiles of a keep.
    Fill(usize),
    /// Takes tiles of a keep outward.
    Drain(usize),
    /// Brings an Einsum's operand, task by task (Einsum, operand).
    Operand(usize, usize),
    /// Takes an Einsum's results, task by task.
    Result(usize),
}

/// Two Einsums on two arrays that start together.
#[derive(Clone, Copy, Debug)]
pub struct Lockstep {
    /// Who makes the words.
    pub maker: usize,
    /// Who takes them.
    pub reader: usize,
}

impl Stream {
    /// The keep whose tiles its own are.
    pub fn keep(&self) -> Option<usize> {
        match self.kind {
            StreamKind::Fill(keep) | StreamKind::Drain(keep) => Some(keep),
            StreamKind::Operand(..) | StreamKind::Result(_) => None,
        }
    }
}

impl KeepPlan {
    /// Of the latest tiles there, the one whose room the next takes.
    pub fn replaced(&self, recent: &VecDeque<u128>) -> Option<u128> {
        let at = recent.len().checked_sub(self.generations?)?;
        recent.get(at).copied()
    }

    /// Notes a tile that is now there: as many are remembered as may be there at once.
    pub fn remember(&self, recent: &mut VecDeque<u128>, tile: u128) {
        recent.push_back(tile);
        if recent.len() > self.generations.unwrap_or(1) {
            recent.pop_front();
        }
    }
}

impl Program {
    /// Whether tiles are left out by where they lie along a base rank.
    pub fn is_masked(&self, rank: usize) -> bool {
        let occupied = self.occupied.as_ref();
        occupied.is_some_and(|o| o.depends_on(rank))
    }

    /// Words of a tile.
    ///
    /// # Errors
    /// As [`einflow_mappings::nest::moved_within`].
    pub fn words(&self, tile: &Tile, projection: &Projection) -> Result<u128, CountError> {
        Ok(moved_at(tile, &[], projection, Reuse::Previous)?.words)
    }

    /// The box whose words count for a task on `tile`: that of the loops at which a transfer's tile changes, where
    /// registers keep it for longer than a task.
    pub fn counted_tile(&self, tile: &Tile, moved: &Transfer) -> Tile {
        if moved.loops.len() > moved.tile_depth {
            return *tile;
        }
        let mut out = self.whole;
        for l in &moved.loops {
            let (start, len) = &mut out[l.rank];
            let step = l.step.max(1);
            let passed = tile[l.rank].0.saturating_sub(*start) / step * step;
            (*start, *len) = (*start + passed, step.min(*len - passed));
        }
        out
    }

    /// Words of a fold that a transfer moves, each step's anew where it changes.
    ///
    /// # Errors
    /// As [`einflow_mappings::nest::moved_within`].
    pub fn moved(
        &self,
        tile: &Tile,
        loops: &[NamedLoop],
        moved: &Transfer,
    ) -> Result<u128, CountError> {
        let loops: Vec<Loop> = loops.iter().map(|l| l.cut).collect();
        // The steps of partial results, which the projection of a transfer tells apart, all move.
        let reuse = match moved.reuse {
            Reuse::Nothing => Reuse::Previous,
            reuse => reuse,
        };
        Ok(moved_at(tile, &loops, &moved.projection, reuse)?.words)
    }
}
