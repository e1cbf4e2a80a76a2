//! What each task needs and takes, before anything runs.

use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, Place, Transfer, TransferKind},
    nest::Projection,
};

use super::{
    unroll::{Task, tiles, visits},
    words::{Tile, Words, words},
};

/// One use of a memory's port: so many rows, so many cycles after a step's begin or end.
#[derive(Clone, Debug)]
pub struct Access {
    pub memory: usize,
    pub step: usize,
    pub at_end: bool,
    pub cycles: i64,
    pub rows: u64,
}

/// What a task needs before it starts, in the order in which it reads.
#[derive(Clone, Debug)]
pub enum Need {
    /// Another Einsum's task: cycles from there to the first PE; whether word by word, both walking the same steps.
    Made {
        maker: usize,
        task: usize,
        tensor: usize,
        memory: Option<usize>,
        delay: i64,
        by_word: bool,
    },
    /// The way from a memory, which it cannot go before the first cycle.
    Way {
        tensor: usize,
        memory: usize,
        way: i64,
    },
    /// A kept tile: the movement that brings it, which of its tiles, cycles from the memory to the first PE.
    Tile {
        mover: usize,
        tile: usize,
        tensor: usize,
        memory: usize,
        way: i64,
    },
    /// Words that stream from the outermost memory: whether all are needed at the first step.
    Stream { mover: usize, stay: bool, hop: i64 },
}

/// Until when a task uses a kept tile.
#[derive(Clone, Debug)]
pub struct Use {
    pub keep: usize,
    pub tile: usize,
    /// After the begin of the first or last step, or the end of all.
    pub from: From,
    pub cycles: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    First,
    Last,
    End,
}

/// The order in which a unit runs tasks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Iterations of the loops at which the pipeline empties.
    pub scope: Vec<u64>,
    pub nest: usize,
    /// The tile's number less the offset.
    pub epoch: i64,
    /// Phases that run as one.
    pub segment: usize,
    pub place: usize,
    pub fold: u64,
}

/// A task, with all that follows from its place in the program alone.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its place in the order of its unit.
    pub order: Order,
    pub steps: usize,
    /// Cycles of a step, in how many its PEs work, and the link that takes the others.
    pub cycles: i64,
    pub works: i64,
    pub narrow: Option<(usize, usize)>,
    /// Cycles for itself before its first step and after its last.
    pub load: i64,
    pub shift: i64,
    pub accesses: Vec<Access>,
    /// Words that it moves at memories.
    pub moves: Vec<(usize, u128)>,
    /// By operand.
    pub needs: Vec<(usize, Need)>,
    pub uses: Vec<Use>,
    /// Of a tile that it makes: keep, tile, the step after which it writes first, cycles from there.
    pub makes: Option<(usize, usize, usize, i64)>,
    /// The movement that takes its results to the outermost memory.
    pub result: Option<usize>,
    /// Words counted, by transfer.
    pub counts: Vec<(usize, u128)>,
}

/// What a movement serves.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A kept tile.
    Fill(usize),
    Drain(usize),
    /// An Einsum, task by task.
    Operand(usize),
    Result(usize),
}

/// A sequence of requests.
#[derive(Clone, Debug)]
pub struct Mover {
    pub kind: Kind,
    pub transfer: usize,
    pub tensor: usize,
    pub outer: usize,
    pub inner: Option<usize>,
    /// Words of each request.
    pub words: Vec<u128>,
    /// Of these, how many have gone outward before: they came back meanwhile.
    pub back: Vec<u128>,
    /// Of results: cycles after a step's end at which they are at the memory; at the end of a task, the last of them;
    /// and whether they leave at the end only.
    pub leaves: (i64, i64, bool),
    /// By request: what writes its words to the outer memory first, a movement and a request of it.
    pub after: Vec<Option<(usize, usize)>>,
    /// By request: the kept tile in the outer memory that its words are a part of.
    pub around: Vec<Option<(usize, usize)>>,
}

/// A tile of a tensor that a memory keeps.
#[derive(Clone, Debug)]
pub struct Kept {
    pub tensor: usize,
    pub memory: usize,
    pub nest: Option<usize>,
    pub words: u128,
    pub generations: usize,
    /// The loops' iterations, and which tile of the tensor each has.
    pub tiles: Vec<(Tile, usize)>,
    pub fill: Option<usize>,
    pub drain: Option<usize>,
}

/// An Einsum's tasks.
#[derive(Debug)]
pub struct Op {
    pub unit: usize,
    /// The first of those that take turns with it.
    pub group: usize,
    pub output: usize,
    pub phase: Option<usize>,
    /// Tiles ahead.
    pub offset: u64,
    pub work: Vec<Work>,
    /// Readers on other arrays: Einsum, how many tiles may wait there, cycles of the way, and whether it takes each
    /// word as it comes.
    pub readers: Vec<(usize, usize, i64, bool)>,
    /// Whether each row of PEs has words of its own.
    pub rows_apart: bool,
    /// Whether a tile is one task.
    pub whole_tiles: bool,
}

/// A block, unrolled.
#[derive(Debug, Default)]
pub struct Plan {
    pub ops: Vec<Op>,
    pub movers: Vec<Mover>,
    pub keeps: Vec<Kept>,
    /// By phase: the first of those that run as one with it, and the cycles of drain before it.
    pub segments: Vec<usize>,
    pub drains: Vec<i64>,
}

/// An Einsum while its plan is made.
pub(super) struct Draft<'a> {
    pub(super) einsum: &'a BoundEinsum,
    pub(super) tasks: Vec<Task>,
    /// Cycles from a step's end to the memory that takes results, accesses of one step there, the memory.
    pub(super) out: Option<(i64, i64, usize)>,
}

impl Plan {
    pub fn new(mapped: &MappedCascade, block: &Block) -> Self {
        let mut plan = Self::default();
        plan.keep(mapped, block);
        let mut drafts = Vec::new();
        for (n, nest) in block.nests.iter().enumerate() {
            for (e, einsum) in nest.einsums.iter().enumerate() {
                let draft = plan.einsum(mapped, block, (n, e), einsum);
                drafts.push(draft);
            }
        }
        plan.made(mapped, block, &drafts);
        plan
    }

    /// Kept tiles, and what loads and unloads them.
    pub(super) fn keep(&mut self, mapped: &MappedCascade, block: &Block) {
        let of_block = block.keeps.iter().map(|k| (k, None));
        let of_nests = (0..)
            .zip(&block.nests)
            .flat_map(|(n, nest)| nest.keeps.iter().map(move |k| (k, Some(n))));
        for (keep, nest) in of_block.chain(of_nests) {
            let Place::Memory(memory) = keep.place else {
                continue;
            };
            if memory == 0 {
                continue;
            }
            let id = self.keeps.len();
            let moves = |kind: TransferKind| {
                let mine = |t: &Transfer| {
                    t.kind == kind
                        && t.tensor == keep.tensor
                        && t.inner == keep.place
                        && nest.is_none_or(|n| t.einsum.0 == n)
                };
                block.transfers.iter().position(mine)
            };
            let mut movers = [None, None];
            let loops: Vec<_> = block
                .loops
                .iter()
                .chain(&block.nests[nest.unwrap_or(0)].loops)
                .collect();
            let cuts: Vec<_> = loops[..keep.depth].iter().map(|l| l.cut).collect();
            let read = moves(TransferKind::Fill).map(|t| &block.transfers[t].projection);
            let projection = read.unwrap_or(mapped.own_projection(keep.tensor));
            let all = tiles(mapped, block, &cuts);
            let starts = changes(&all, projection);
            for (at, kind) in [TransferKind::Fill, TransferKind::Drain]
                .into_iter()
                .enumerate()
            {
                let Some(transfer) = moves(kind) else {
                    continue;
                };
                let moved = &block.transfers[transfer];
                let Some(Place::Memory(outer)) = moved.outer else {
                    continue;
                };
                let words: Vec<u128> = visits(mapped, block, moved)
                    .iter()
                    .map(|v| v.new.len() as u128)
                    .collect();
                let mine = changes(&tiles(mapped, block, &moved.loops), projection);
                let words: Vec<u128> = mine.iter().map(|at| words[*at]).collect();
                movers[at] = Some(self.movers.len());
                self.movers.push(Mover {
                    kind: if at == 0 {
                        Kind::Fill(id)
                    } else {
                        Kind::Drain(id)
                    },
                    transfer,
                    tensor: keep.tensor.0,
                    outer,
                    inner: Some(memory),
                    after: vec![None; words.len()],
                    around: vec![None; words.len()],
                    back: vec![0; words.len()],
                    words,
                    leaves: (0, 0, false),
                });
            }
            let number = |at: usize| starts.iter().filter(|s| **s <= at).count() - 1;
            let tiles = all
                .into_iter()
                .enumerate()
                .map(|(at, tile)| (tile, number(at)))
                .collect();
            self.keeps.push(Kept {
                tensor: keep.tensor.0,
                memory,
                nest,
                words: keep.words,
                generations: keep.generations as usize,
                tiles,
                fill: movers[0],
                drain: movers[1],
            });
        }
    }

    pub(super) fn kept(&self, tensor: usize, memory: usize, nest: usize) -> Option<usize> {
        let mine =
            |k: &Kept| k.tensor == tensor && k.memory == memory && k.nest.is_none_or(|n| n == nest);
        self.keeps.iter().position(mine)
    }

    /// A movement of an Einsum's words between its array and the outermost memory, task by task.
    pub(super) fn stream(
        &mut self,
        kind: Kind,
        transfer: usize,
        tensor: usize,
        words: Vec<u128>,
    ) -> usize {
        let after = vec![None; words.len()];
        self.movers.push(Mover {
            kind,
            transfer,
            tensor,
            outer: 0,
            inner: None,
            words,
            leaves: (0, 0, false),
            around: vec![None; after.len()],
            back: vec![0; after.len()],
            after,
        });
        self.movers.len() - 1
    }
}

/// Where a tensor's words change from one tile to the next: a new tile of it begins.
fn changes(tiles: &[Tile], projection: &Projection) -> Vec<usize> {
    let mut last: Option<Words> = None;
    let mut out = Vec::new();
    for (at, tile) in tiles.iter().enumerate() {
        let now = words(tile, projection);
        if last.as_ref() != Some(&now) {
            out.push(at);
        }
        last = Some(now);
    }
    out
}
