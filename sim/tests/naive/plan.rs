//! What each task needs and takes, cycle by cycle, before anything runs.

use einflow_arch::{Accelerator, Direction};
use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, Place, Transfer, TransferKind},
    nest::Projection,
};

use super::{
    unroll::{Task, pes, stays, tasks, tiles, visits},
    words::{Tile, Words, words},
};

/// One use of a memory's port: so many rows in one cycle.
#[derive(Clone, Debug)]
pub struct Access {
    pub memory: usize,
    /// Cycles after the task's first step; negative before it.
    pub cycle: i64,
    pub rows: u64,
}

/// A task, with all that follows from its place in the program alone.
#[derive(Clone, Debug)]
pub struct Work {
    pub steps: u64,
    /// Cycles of a step.
    pub stride: u64,
    /// Cycles for itself before its first step and after its last.
    pub load: u64,
    pub shift: u64,
    pub accesses: Vec<Access>,
    /// Kept tiles that it needs: movement, which tile of it, tensor, memory, cycles from the memory to the first PE.
    pub tiles: Vec<(usize, usize, usize, usize, i64)>,
    /// Words that stream from the outermost memory: movement, whether all are needed before the first step.
    pub streams: Vec<(usize, bool)>,
    /// Movements that take its results, task by task.
    pub results: Vec<usize>,
    /// Until when kept tiles are in use, after the first step: keep, tile, cycles; and whether this task writes it.
    pub uses: Vec<(usize, usize, i64, bool)>,
    /// Of a tile that it makes: keep, tile, cycle of the first write.
    pub makes: Option<(usize, usize, i64)>,
    /// Words counted, by transfer.
    pub counts: Vec<(usize, u128)>,
}

/// What a movement waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Fill(usize),
    Drain(usize),
    /// The Einsum whose tasks it serves.
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
    /// Of results: cycles after a task's first step at which the first and the last are at the edge's link, by task.
    pub leaves: Vec<(i64, i64, bool)>,
}

/// A tile of a tensor that a memory keeps.
#[derive(Clone, Debug)]
pub struct Kept {
    pub tensor: usize,
    pub memory: usize,
    pub words: u128,
    pub generations: usize,
    /// The loops' iterations, and which tile of the tensor each has.
    pub tiles: Vec<(Tile, usize)>,
    pub fill: Option<usize>,
    pub drain: Option<usize>,
}

/// A block, unrolled.
#[derive(Debug, Default)]
pub struct Plan {
    /// By Einsum: unit and tasks.
    pub work: Vec<(usize, Vec<Work>)>,
    pub movers: Vec<Mover>,
    pub keeps: Vec<Kept>,
}

pub fn latency(chip: &Accelerator, memory: usize) -> i64 {
    chip.memories[memory].latency.cycles(chip.clock).0 as i64
}

/// Cycles from a memory's port to the first PE of an array.
fn inward(chip: &Accelerator, memory: usize, unit: usize) -> i64 {
    let feeds = |name: &String| chip.memories[memory..].iter().any(|m| m.name == *name);
    let link = chip.arrays[unit].links.iter().find(|l| l.from.as_ref().is_some_and(feeds));
    latency(chip, memory) + link.map_or(1, |l| l.latency as i64)
}

/// Cycles from a step's end in the first PE to a memory's port: to the array's edge, and over the link.
fn outward(chip: &Accelerator, memory: usize, unit: usize, summed_across: bool) -> i64 {
    let array = &chip.arrays[unit];
    let takes = |name: &String| chip.memories[memory..].iter().any(|m| m.name == *name);
    let link = array.links.iter().find(|l| l.to.as_ref().is_some_and(takes));
    let direction = link.map_or(Direction::Down, |l| l.direction);
    let hops = match direction {
        Direction::Down => array.rows - 1,
        Direction::Right => array.columns - 1,
        Direction::Up | Direction::Left => 0,
    };
    let across = if summed_across && direction != Direction::Right { array.columns - 1 } else { 0 };
    (hops + across + link.map_or(1, |l| l.latency)) as i64
}

/// How a tensor lies in the PEs of a full step.
struct Lie {
    rows: u64,
    columns: u64,
    /// Whether PEs of different rows (columns) touch different words.
    down: bool,
    across: bool,
}

fn lie(einsum: &BoundEinsum, step: &Tile, projection: &Projection) -> Lie {
    let all = pes(einsum, step);
    let of = |i: u64, j: u64| {
        let pe = all.iter().find(|(r, c, _)| (*r, *c) == (i, j));
        pe.map(|(_, _, tile)| words(tile, projection))
    };
    let rows = all.iter().map(|p| p.0).max().unwrap_or(0) + 1;
    let columns = all.iter().map(|p| p.1).max().unwrap_or(0) + 1;
    let down = (1..rows).any(|i| (0..columns).any(|j| of(i, j) != of(0, j)));
    let across = (1..columns).any(|j| (0..rows).any(|i| of(i, j) != of(i, 0)));
    Lie { rows, columns, down, across }
}

/// Accesses of a step: one of all lanes' words, or, where all PEs have their own, one for each row of PEs.
fn accesses_of(chip: &Accelerator, memory: usize, lie: &Lie) -> (i64, u64) {
    let (burst, words) = match (lie.down, lie.across) {
        (true, true) => (lie.rows, lie.columns),
        (true, false) => (1, lie.rows),
        (false, true) => (1, lie.columns),
        (false, false) => (1, 1),
    };
    let bytes = words * chip.word.bytes().0 as u64;
    (burst as i64, bytes.div_ceil(chip.memories[memory].row.0 as u64))
}

impl Plan {
    pub fn new(mapped: &MappedCascade, block: &Block) -> Self {
        let mut plan = Self::default();
        plan.keep(mapped, block);
        let mut index = 0;
        for (n, nest) in block.nests.iter().enumerate() {
            for (e, einsum) in nest.einsums.iter().enumerate() {
                plan.einsum(mapped, block, (n, e), index, einsum);
                index += 1;
            }
        }
        plan
    }

    /// Kept tiles, and what loads and unloads them.
    fn keep(&mut self, mapped: &MappedCascade, block: &Block) {
        for keep in block.keeps.iter().chain(block.nests.iter().flat_map(|n| &n.keeps)) {
            let Place::Memory(memory) = keep.place else { continue };
            if memory == 0 {
                continue;
            }
            let id = self.keeps.len();
            let moves = |kind: TransferKind| {
                let mine = |t: &&Transfer| t.tensor == keep.tensor && t.inner == keep.place;
                let found = block.transfers.iter().position(|t| t.kind == kind && mine(&t));
                found.map(|t| (t, kind))
            };
            let mut movers = [None, None];
            let loops: Vec<_> = block.loops.iter().chain(&block.nests[0].loops).collect();
            let cuts: Vec<_> = loops[..keep.depth].iter().map(|l| l.cut).collect();
            let read = moves(TransferKind::Fill).map(|(t, _)| &block.transfers[t].projection);
            let projection = read.unwrap_or(mapped.own_projection(keep.tensor));
            let all = tiles(mapped, block, &cuts);
            let starts = changes(&all, projection);
            for (at, kind) in [TransferKind::Fill, TransferKind::Drain].into_iter().enumerate() {
                let Some((transfer, _)) = moves(kind) else { continue };
                let moved = &block.transfers[transfer];
                let Some(Place::Memory(outer)) = moved.outer else { continue };
                let words: Vec<u128> = visits(mapped, block, moved).iter().map(|v| v.new.len() as u128).collect();
                let words = starts.iter().map(|at| words[*at]).collect();
                movers[at] = Some(self.movers.len());
                self.movers.push(Mover {
                    kind: if at == 0 { Kind::Fill(id) } else { Kind::Drain(id) },
                    transfer,
                    tensor: keep.tensor.0,
                    outer,
                    inner: Some(memory),
                    words,
                    leaves: Vec::new(),
                });
            }
            let number = |at: usize| starts.iter().filter(|s| **s <= at).count() - 1;
            let tiles = all.into_iter().enumerate().map(|(at, tile)| (tile, number(at))).collect();
            self.keeps.push(Kept {
                tensor: keep.tensor.0,
                memory,
                words: keep.words,
                generations: keep.generations as usize,
                tiles,
                fill: movers[0],
                drain: movers[1],
            });
        }
    }

    fn einsum(&mut self, mapped: &MappedCascade, block: &Block, at: (usize, usize), index: usize, einsum: &BoundEinsum) {
        let chip = &mapped.accelerator;
        let tasks = tasks(mapped, block, einsum);
        let Some(first) = tasks.first() else {
            self.work.push((einsum.unit, Vec::new()));
            return;
        };
        let step = first.steps[0].clone();
        let own = mapped.own_projection(einsum.output);
        let many = first.steps.len() > 1;
        let transfer_of = |kind: TransferKind, tensor, projection: Option<&Projection>| {
            let mine = |t: &Transfer| {
                t.kind == kind && t.einsum == at && t.tensor == tensor && projection.is_none_or(|p| t.projection == *p)
            };
            block.transfers.iter().position(mine)
        };
        let mut work: Vec<Work> = (tasks.iter())
            .map(|t| Work {
                steps: t.steps.len() as u64,
                stride: einsum.cycles,
                load: 0,
                shift: 0,
                accesses: Vec::new(),
                tiles: Vec::new(),
                streams: Vec::new(),
                results: Vec::new(),
                uses: Vec::new(),
                makes: None,
                counts: Vec::new(),
            })
            .collect();
        let rows = lie(einsum, &step, own).rows;
        // A link along the rows carries a word in every step where all rows of PEs share it.
        let mut down_every_step = false;
        let mut loaded_by_row = false;
        for operand in &einsum.operands {
            let Some(transfer) = transfer_of(TransferKind::Operand, operand.tensor, Some(&operand.projection)) else {
                continue;
            };
            let moved = &block.transfers[transfer];
            let Place::Memory(memory) = moved.inner else { continue };
            let lies = lie(einsum, &step, &operand.projection);
            let changes_always = changes_every_step(einsum, &first.steps, &operand.projection);
            down_every_step |= !lies.down && changes_always;
            loaded_by_row |= lies.down && lies.across;
            let new = by_task(&tasks, &visits(mapped, block, moved));
            for (w, n) in work.iter_mut().zip(&new) {
                w.counts.push((transfer, n.iter().map(|s| s.len() as u128).sum()));
            }
            let stay = many && stays(einsum, &first.steps, &operand.projection);
            if memory == 0 {
                let mover = self.movers.len();
                let words = new.iter().map(|t| t.iter().map(|s| s.len() as u128).sum()).collect();
                self.movers.push(Mover {
                    kind: Kind::Operand(index),
                    transfer,
                    tensor: operand.tensor.0,
                    outer: 0,
                    inner: None,
                    words,
                    leaves: Vec::new(),
                });
                work.iter_mut().for_each(|w| w.streams.push((mover, stay)));
                continue;
            }
            let (burst, rows) = accesses_of(chip, memory, &lies);
            let delay = inward(chip, memory, einsum.unit);
            let keep = self.keeps.iter().position(|k| k.tensor == operand.tensor.0 && k.memory == memory);
            for (t, (w, task)) in work.iter_mut().zip(&tasks).enumerate() {
                let mut last = 0;
                for (k, reads) in reads_at(einsum, &tasks, t, &operand.projection).into_iter().enumerate() {
                    let cycle = (k as u64 * einsum.cycles) as i64;
                    if !stay {
                        last = cycle;
                    }
                    if reads {
                        w.accesses.extend((0..burst).map(|i| Access { memory, cycle: cycle - delay - i, rows }));
                    }
                }
                let Some(keep) = keep else { continue };
                let tile = tile_of(&self.keeps[keep], task);
                if let Some(fill) = self.keeps[keep].fill {
                    w.tiles.push((fill, tile, operand.tensor.0, memory, delay + burst - 1));
                }
                w.uses.push((keep, tile, last + 1 - delay, false));
            }
        }
        let Some(transfer) = transfer_of(TransferKind::Update, einsum.output, None) else {
            self.work.push((einsum.unit, work));
            return;
        };
        let moved = &block.transfers[transfer];
        let Place::Memory(memory) = moved.inner else { return };
        let lies = lie(einsum, &step, own);
        let every = einsum.partials || changes_every_step(einsum, &first.steps, own);
        down_every_step |= !lies.down && many && every;
        let summed_across = lies.columns > 1 && !lies.across;
        let delay = outward(chip, memory, einsum.unit, summed_across);
        let (burst, rows_each) = accesses_of(chip, memory, &lies);
        let stay = !einsum.partials && (!many || stays(einsum, &first.steps, own));
        let counts: Vec<u128> = by_task(&tasks, &visits(mapped, block, moved))
            .iter()
            .map(|t| t.iter().map(|s| s.len() as u128).sum())
            .collect();
        let keep = self.keeps.iter().position(|k| k.tensor == einsum.output.0 && k.memory == memory);
        let mut leaves = Vec::new();
        for ((w, task), count) in work.iter_mut().zip(&tasks).zip(&counts) {
            w.counts.push((transfer, *count));
            let ends: Vec<i64> = writes_after(einsum, task, own)
                .iter()
                .enumerate()
                .filter(|(_, writes)| **writes)
                .map(|(k, _)| ((k as u64 + 1) * einsum.cycles) as i64 + delay)
                .collect();
            let end = (w.steps * w.stride) as i64 + delay;
            leaves.push((einsum.cycles as i64 + delay, end + burst - 1, stay));
            if memory == 0 {
                continue;
            }
            for at in &ends {
                w.accesses.extend((0..burst).map(|i| Access { memory, cycle: at + i, rows: rows_each }));
            }
            let Some(keep) = keep else { continue };
            let tile = tile_of(&self.keeps[keep], task);
            w.uses.push((keep, tile, end + burst, true));
            if self.keeps[keep].fill.is_none() {
                w.makes = Some((keep, tile, ends[0]));
            }
        }
        if memory == 0 {
            let mover = self.movers.len();
            self.movers.push(Mover {
                kind: Kind::Result(index),
                transfer,
                tensor: einsum.output.0,
                outer: 0,
                inner: None,
                words: counts,
                leaves,
            });
            work.iter_mut().for_each(|w| w.results.push(mover));
        }
        if down_every_step && rows > 1 {
            for w in &mut work {
                w.load = if loaded_by_row { rows } else { 0 };
                w.shift = if lies.down && lies.across { rows } else { 0 };
            }
        }
        self.work.push((einsum.unit, work));
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

/// Words that come new in each step of each task.
fn by_task(tasks: &[Task], visits: &[super::unroll::Visit]) -> Vec<Vec<Words>> {
    let mut at = visits.iter();
    let one = |t: &Task| t.steps.iter().map(|_| at.next().map_or_else(Words::new, |v| v.new.clone())).collect();
    tasks.iter().map(one).collect()
}

/// Whether no two steps after one another touch the same words in the same PE.
fn changes_every_step(einsum: &BoundEinsum, steps: &[Tile], projection: &Projection) -> bool {
    steps.windows(2).all(|pair| !stays(einsum, pair, projection))
}

/// At which steps of a task an operand is read: where its words are others than a step before, and at the first, unless
/// they stay for the whole task and were there in the task before.
fn reads_at(einsum: &BoundEinsum, tasks: &[Task], t: usize, projection: &Projection) -> Vec<bool> {
    let steps = &tasks[t].steps;
    let mut out: Vec<bool> = steps.windows(2).map(|pair| !stays(einsum, pair, projection)).collect();
    let still = !out.contains(&true) && einsum.own_loops > 0;
    let again = t > 0 && still && {
        let before = tasks[t - 1].steps.last().unwrap();
        words(before, projection) == words(&steps[0], projection)
    };
    out.insert(0, !again);
    out
}

/// After which steps of a task results leave: where the next step makes other words, and at the end.
fn writes_after(einsum: &BoundEinsum, task: &Task, own: &Projection) -> Vec<bool> {
    let mut out: Vec<bool> = (task.steps.windows(2))
        .map(|pair| einsum.partials || !stays(einsum, pair, own))
        .collect();
    out.push(true);
    out
}

/// Which of a keep's tiles a task uses: the one that holds it.
fn tile_of(keep: &Kept, task: &Task) -> usize {
    let holds = |tile: &Tile| tile.iter().zip(&task.tile).all(|(a, b)| a.0 <= b.0 && b.0 + b.1 <= a.0 + a.1);
    keep.tiles.iter().find(|(tile, _)| holds(tile)).unwrap().1
}
