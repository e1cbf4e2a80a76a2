//! What each task needs and takes, before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use einflow_arch::Accelerator;
use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, OperandOrigin, Place, Transfer, TransferKind},
    nest::Projection,
};

use super::{
    chip::{accesses_of, between, inward, latency, lie, outward, round_trip},
    unroll::{Task, Visit, stays, tasks, tiles, visits},
    words::{Tile, Word, Words, words},
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
    /// A kept tile: the movement that brings it, which of its tiles, cycles from the memory to the first PE.
    Tile {
        mover: usize,
        tile: usize,
        tensor: usize,
        memory: usize,
        way: i64,
    },
    /// Words that stream from the outermost memory: whether all are needed at the first step.
    Stream { mover: usize, stay: bool },
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
    /// Cycles of a step.
    pub cycles: i64,
    /// Cycles for itself before its first step and after its last.
    pub load: i64,
    pub shift: i64,
    pub accesses: Vec<Access>,
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
    /// Of results: cycles after a step's end at which they are at the memory; at the end of a task, the last of them;
    /// and whether they leave at the end only.
    pub leaves: (i64, i64, bool),
    /// By request: what writes its words to the outer memory first, a movement and a request of it.
    pub after: Vec<Option<(usize, usize)>>,
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
    /// Readers on other arrays: Einsum, how many tiles may wait there, cycles of the way, and whether it takes each word as it comes.
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
    /// What this program has of the kinds in which an engine is known to break the page.
    pub known: BTreeSet<Known>,
}

/// Where an engine breaks the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// A tile that a loop outside moved without changing its words, because loops inside have one iteration there: the engines
    /// take it for another one, wait for room, and drain sums before they are whole.
    SameAgain,
    /// A tile that comes from, or goes to, a memory other than the outermost: the engines do not wait until it is there.
    Deep,
    /// Tiles that share words, two of which are held: the array engine takes shared words for new ones.
    Shared,
}

/// An Einsum while its plan is made.
struct Draft<'a> {
    einsum: &'a BoundEinsum,
    tasks: Vec<Task>,
    /// Cycles from a step's end to the memory that takes results, accesses of one step there, the memory.
    out: Option<(i64, i64, usize)>,
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
    fn keep(&mut self, mapped: &MappedCascade, block: &Block) {
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
                if outer > 0 {
                    self.known.insert(Known::Deep);
                }
                if at == 0
                    && keep.generations > 1
                    && starts.len() > 1
                    && words[1..].iter().any(|w| *w < keep.words)
                {
                    self.known.insert(Known::Shared);
                }
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
                    words,
                    leaves: (0, 0, false),
                });
            }
            let touched: Vec<bool> = loops[..keep.depth]
                .iter()
                .map(|l| {
                    l.count > 1
                        && projection
                            .dims
                            .iter()
                            .flat_map(|d| &d.terms)
                            .any(|t| t.rank == l.cut.rank)
                })
                .collect();
            for at in (1..all.len()).filter(|at| !starts.contains(at)) {
                // The outermost loop that moved on, and whether one inside it tells tiles apart elsewhere.
                let moved = loops[..keep.depth]
                    .iter()
                    .position(|l| all[at][l.cut.rank] != all[at - 1][l.cut.rank]);
                if moved.is_some_and(|l| touched[l..].contains(&true)) {
                    self.known.insert(Known::SameAgain);
                }
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

    fn kept(&self, tensor: usize, memory: usize, nest: usize) -> Option<usize> {
        let mine =
            |k: &Kept| k.tensor == tensor && k.memory == memory && k.nest.is_none_or(|n| n == nest);
        self.keeps.iter().position(mine)
    }

    fn einsum<'a>(
        &mut self,
        mapped: &MappedCascade,
        block: &Block,
        at: (usize, usize),
        einsum: &'a BoundEinsum,
    ) -> Draft<'a> {
        let chip = &mapped.accelerator;
        let index = self.ops.len();
        let tasks = tasks(mapped, block, at.0, einsum);
        let own = mapped.own_projection(einsum.output);
        let mut work: Vec<Work> = tasks
            .iter()
            .map(|t| Work {
                order: Order {
                    scope: t.at.0.clone(),
                    nest: at.0,
                    epoch: t.at.1 - einsum.offset as i64,
                    segment: 0,
                    place: 0,
                    fold: t.fold,
                },
                steps: t.steps.len(),
                cycles: einsum.cycles as i64,
                load: 0,
                shift: 0,
                accesses: Vec::new(),
                needs: Vec::new(),
                uses: Vec::new(),
                makes: None,
                result: None,
                counts: Vec::new(),
            })
            .collect();
        let step = tasks[0].steps[0].clone();
        let many = tasks[0].steps.len() > 1;
        let always = |p: &Projection| {
            tasks[0]
                .steps
                .windows(2)
                .all(|pair| !stays(einsum, pair, p))
        };
        let own_lie = lie(einsum, &step, own);
        // A link along the rows carries a word in every step where all rows of PEs share it.
        let mut down_every_step = false;
        let mut loaded_by_row = false;
        for (position, operand) in einsum.operands.iter().enumerate() {
            let OperandOrigin::Memory(memory) = operand.origin else {
                continue;
            };
            let mine = |t: &Transfer| {
                t.kind == TransferKind::Operand
                    && t.einsum == at
                    && t.tensor == operand.tensor
                    && t.projection == operand.projection
            };
            let Some(transfer) = block.transfers.iter().position(mine) else {
                continue;
            };
            let lies = lie(einsum, &step, &operand.projection);
            down_every_step |= !lies.down && always(&operand.projection);
            loaded_by_row |= lies.down && lies.across;
            let new = by_task(&tasks, &visits(mapped, block, &block.transfers[transfer]));
            for (w, n) in work.iter_mut().zip(&new) {
                w.counts.push((transfer, *n));
            }
            let stay = many && stays(einsum, &tasks[0].steps, &operand.projection);
            let same = |t: &Task| {
                t.steps
                    .windows(2)
                    .any(|pair| stays(einsum, pair, &operand.projection))
            };
            let shorter = |t: &&Task| t.steps.len() < tasks[0].steps.len();
            if !same(&tasks[0]) && tasks.iter().filter(shorter).any(same) {
                self.known.insert(Known::SameAgain);
            }
            if memory == 0 {
                let mover = self.stream(Kind::Operand(index), transfer, operand.tensor.0, new);
                work.iter_mut()
                    .for_each(|w| w.needs.push((position, Need::Stream { mover, stay })));
                continue;
            }
            let (burst, rows) = accesses_of(chip, memory, &lies);
            let delay = inward(chip, memory, einsum.unit);
            let keep = self.kept(operand.tensor.0, memory, at.0);
            for (t, (w, task)) in work.iter_mut().zip(&tasks).enumerate() {
                for (step, reads) in reads_at(einsum, &tasks, t, &operand.projection)
                    .into_iter()
                    .enumerate()
                {
                    if reads {
                        let one = |i| Access {
                            memory,
                            step,
                            at_end: false,
                            cycles: -delay - i,
                            rows,
                        };
                        w.accesses.extend((0..burst).map(one));
                    }
                }
                let Some(keep) = keep else { continue };
                let tile = tile_of(&self.keeps[keep], task);
                if let Some(mover) = self.keeps[keep].fill {
                    w.needs.push((
                        position,
                        Need::Tile {
                            mover,
                            tile,
                            tensor: operand.tensor.0,
                            memory,
                            way: delay + burst - 1,
                        },
                    ));
                }
                let from = if stay || !many {
                    From::First
                } else {
                    From::Last
                };
                w.uses.push(Use {
                    keep,
                    tile,
                    from,
                    cycles: 1 - delay,
                });
            }
        }
        let update = |t: &Transfer| {
            t.kind == TransferKind::Update && t.einsum == at && t.tensor == einsum.output
        };
        let update = block.transfers.iter().position(update);
        down_every_step |= !own_lie.down && many && always(own);
        let mut out = None;
        if let Some((transfer, Place::Memory(memory))) =
            update.map(|t| (t, block.transfers[t].inner))
        {
            let delay = outward(
                chip,
                memory,
                einsum.unit,
                own_lie.columns > 1 && !own_lie.across,
            );
            let (burst, rows) = accesses_of(chip, memory, &own_lie);
            out = Some((delay, burst, memory));
            let counts = by_task(&tasks, &visits(mapped, block, &block.transfers[transfer]));
            let keep = self
                .kept(einsum.output.0, memory, at.0)
                .filter(|_| memory > 0);
            for ((w, task), count) in work.iter_mut().zip(&tasks).zip(&counts) {
                w.counts.push((transfer, *count));
                if memory == 0 {
                    continue;
                }
                let ends = writes_after(einsum, task, own);
                for step in &ends {
                    let one = |i| Access {
                        memory,
                        step: *step,
                        at_end: true,
                        cycles: delay + i,
                        rows,
                    };
                    w.accesses.extend((0..burst).map(one));
                }
                let Some(keep) = keep else { continue };
                let tile = tile_of(&self.keeps[keep], task);
                w.uses.push(Use {
                    keep,
                    tile,
                    from: From::End,
                    cycles: delay + burst,
                });
                if self.keeps[keep].fill.is_none() {
                    w.makes = Some((keep, tile, ends[0], delay));
                }
            }
            if memory == 0 {
                let mover = self.stream(Kind::Result(index), transfer, einsum.output.0, counts);
                let end_only = !einsum.partials && (!many || stays(einsum, &tasks[0].steps, own));
                self.movers[mover].leaves = (delay, delay + burst - 1, end_only);
                work.iter_mut().for_each(|w| w.result = Some(mover));
            }
        }
        let all = block.nests.iter().flat_map(|n| &n.einsums);
        let leaves = out.is_some()
            || all.into_iter().any(|r| {
                let takes = |o: &einflow_mappings::mapped::BoundOperand| {
                    o.tensor == einsum.output && matches!(o.origin, OperandOrigin::Made(..))
                };
                r.unit != einsum.unit && r.operands.iter().any(takes)
            });
        if down_every_step && own_lie.rows > 1 {
            for w in &mut work {
                w.load = if loaded_by_row {
                    own_lie.rows as i64
                } else {
                    0
                };
                w.shift = if own_lie.down && own_lie.across && leaves {
                    own_lie.rows as i64
                } else {
                    0
                };
            }
        }
        self.ops.push(Op {
            unit: einsum.unit,
            group: index,
            output: einsum.output.0,
            phase: None,
            offset: einsum.offset,
            work,
            readers: Vec::new(),
            rows_apart: own_lie.down,
            whole_tiles: tasks.iter().all(|t| t.fold == 0),
        });
        Draft { einsum, tasks, out }
    }

    /// A movement of an Einsum's words between its array and the outermost memory, task by task.
    fn stream(&mut self, kind: Kind, transfer: usize, tensor: usize, words: Vec<u128>) -> usize {
        let after = vec![None; words.len()];
        self.movers.push(Mover {
            kind,
            transfer,
            tensor,
            outer: 0,
            inner: None,
            words,
            leaves: (0, 0, false),
            after,
        });
        self.movers.len() - 1
    }

    /// What Einsums hand on to each other.
    fn made(&mut self, mapped: &MappedCascade, block: &Block, drafts: &[Draft<'_>]) {
        let chip = &mapped.accelerator;
        for (reader, to) in drafts.iter().enumerate() {
            for (position, operand) in to.einsum.operands.iter().enumerate() {
                let Some(maker) = drafts
                    .iter()
                    .position(|d| d.einsum.output == operand.tensor)
                else {
                    continue;
                };
                let from = &drafts[maker];
                let own = mapped.own_projection(operand.tensor);
                // Which task makes a word, or adds to it last.
                let mut last: BTreeMap<Word, usize> = BTreeMap::new();
                for (t, task) in from.tasks.iter().enumerate() {
                    for step in &task.steps {
                        last.extend(words(step, own).into_iter().map(|w| (w, t)));
                    }
                }
                let across = from.einsum.unit != to.einsum.unit;
                let (delay, memory) = match operand.origin {
                    OperandOrigin::Memory(memory) => {
                        let (out, burst, _) = from.out.unwrap_or((0, 1, 0));
                        let lies = lie(to.einsum, &to.tasks[0].steps[0], &operand.projection);
                        let (back, _) = accesses_of(chip, memory, &lies);
                        let way = inward(chip, memory, to.einsum.unit) + back - 1;
                        (out + burst - 1 + latency(chip, memory) + way, Some(memory))
                    }
                    OperandOrigin::Made(..) if across => {
                        (between(chip, from.einsum.unit, to.einsum.unit), None)
                    }
                    OperandOrigin::Made(..) => {
                        let lies = lie(from.einsum, &from.tasks[0].steps[0], own);
                        (round_trip(chip, from.einsum, &lies), None)
                    }
                };
                let word_by_word =
                    memory.is_none() || from.out.is_none_or(|(_, burst, _)| burst == 1);
                let mut same_steps = word_by_word;
                let mut needs = Vec::new();
                for task in &to.tasks {
                    let read: Words = task
                        .steps
                        .iter()
                        .flat_map(|s| words(s, &operand.projection))
                        .collect();
                    let made = read.iter().filter_map(|w| last.get(w)).max();
                    let Some(made) = made else { continue };
                    same_steps &= alike(
                        from.einsum,
                        to.einsum,
                        &from.tasks[*made],
                        task,
                        own,
                        &operand.projection,
                    );
                    needs.push(*made);
                }
                let by_word = same_steps && from.tasks[0].steps.len() > 1;
                for (w, task) in self.ops[reader].work.iter_mut().zip(&needs) {
                    let need = Need::Made {
                        maker,
                        task: *task,
                        tensor: operand.tensor.0,
                        memory,
                        delay,
                        by_word,
                    };
                    // In the order of the operands, before what loads it.
                    let at = w
                        .needs
                        .iter()
                        .position(|(p, _)| *p >= position)
                        .unwrap_or(w.needs.len());
                    w.needs.insert(at, (position, need));
                }
                let together = from.einsum.shared_loops() == to.einsum.shared_loops();
                if across && memory.is_none() && together {
                    let ahead = from.einsum.offset.saturating_sub(to.einsum.offset) as usize;
                    let lockstep = ahead == 0 && by_word && from.einsum.offset == to.einsum.offset;
                    self.ops[maker]
                        .readers
                        .push((reader, ahead + 1, delay, lockstep));
                }
                let same_tiles = from.tasks.len() == to.tasks.len() && together;
                if !across
                    && memory.is_none()
                    && by_word
                    && delay == 0
                    && same_tiles
                    && from.einsum.at_exit_of == to.einsum.at_exit_of
                {
                    let (a, b) = (self.ops[maker].group, self.ops[reader].group);
                    self.ops
                        .iter_mut()
                        .filter(|o| o.group == a.max(b))
                        .for_each(|o| o.group = a.min(b));
                }
            }
        }
        // What a block writes to an outer memory and takes from there again.
        for id in 0..self.movers.len() {
            if !matches!(self.movers[id].kind, Kind::Fill(_) | Kind::Operand(_)) {
                continue;
            }
            let (tensor, outer) = (self.movers[id].tensor, self.movers[id].outer);
            let writes = |m: &Mover| {
                matches!(m.kind, Kind::Drain(_) | Kind::Result(_))
                    && m.tensor == tensor
                    && m.outer == outer
            };
            let Some(writer) = self.movers.iter().position(writes) else {
                self.further_in(id);
                continue;
            };
            let written = self.moved_tiles(mapped, block, drafts, writer);
            let read = self.moved_tiles(mapped, block, drafts, id);
            self.movers[id].after = read
                .iter()
                .map(|r| {
                    written
                        .iter()
                        .rposition(|w| !w.is_disjoint(r))
                        .map(|at| (writer, at))
                })
                .collect();
        }
        self.order(block);
    }

    /// Phases, and the places in them. Phases between which Einsums take turns run as one.
    fn order(&mut self, block: &Block) {
        let at: Vec<(usize, usize)> = (0..)
            .zip(&block.nests)
            .flat_map(|(n, nest)| (0..nest.einsums.len()).map(move |e| (n, e)))
            .collect();
        let phase = |op: usize| {
            block
                .phases
                .iter()
                .position(|p| p.einsums.contains(&at[op]))
        };
        self.segments = (0..block.phases.len()).collect();
        for op in 0..self.ops.len() {
            let first = self.ops[op].group;
            if let (Some(a), Some(b)) = (phase(first), phase(op)) {
                let (low, high) = (
                    self.segments[a].min(self.segments[b]),
                    self.segments[a].max(self.segments[b]),
                );
                self.segments
                    .iter_mut()
                    .filter(|s| (low..=high).contains(*s))
                    .for_each(|s| *s = low);
            }
        }
        self.drains = block.phases.iter().map(|p| p.drain as i64).collect();
        let place = |op: usize| {
            let phase = phase(op);
            let inside =
                phase.and_then(|p| block.phases[p].einsums.iter().position(|e| *e == at[op]));
            (phase.unwrap_or(0), inside.unwrap_or(op))
        };
        for op in 0..self.ops.len() {
            let group = self.ops[op].group;
            let members = (0..self.ops.len()).filter(|o| self.ops[*o].group == group);
            let (first, inside) = members.map(place).min().unwrap_or_default();
            let segment = phase(group).map_or(0, |p| self.segments[p]);
            self.ops[op].phase = phase(op);
            for w in &mut self.ops[op].work {
                w.order.segment = segment;
                w.order.place = first * 1000 + inside;
            }
        }
    }

    /// What a tile waits for that comes from a tile further out: that one.
    fn further_in(&mut self, id: usize) {
        let Kind::Fill(keep) = self.movers[id].kind else {
            return;
        };
        let (tensor, outer) = (self.movers[id].tensor, self.movers[id].outer);
        let around = self
            .keeps
            .iter()
            .find(|k| k.tensor == tensor && k.memory == outer);
        let Some((around, fill)) = around.and_then(|k| Some((k, k.fill?))) else {
            return;
        };
        let inside = |a: &Tile, b: &Tile| {
            a.iter()
                .zip(b)
                .all(|(a, b)| b.0 <= a.0 && a.0 + a.1 <= b.0 + b.1)
        };
        let holds = |n: usize| {
            let mine = self.keeps[keep].tiles.iter().find(|t| t.1 == n)?;
            Some((fill, around.tiles.iter().find(|t| inside(&mine.0, &t.0))?.1))
        };
        self.movers[id].after = (0..self.movers[id].words.len()).map(holds).collect();
    }

    /// All words that each request of a movement stands for.
    fn moved_tiles(
        &self,
        mapped: &MappedCascade,
        block: &Block,
        drafts: &[Draft<'_>],
        id: usize,
    ) -> Vec<Words> {
        let mover = &self.movers[id];
        let projection = &block.transfers[mover.transfer].projection;
        match mover.kind {
            Kind::Fill(keep) | Kind::Drain(keep) => {
                let tiles = &self.keeps[keep].tiles;
                let first = |n: usize| tiles.iter().find(|(_, number)| *number == n);
                (0..mover.words.len())
                    .filter_map(first)
                    .map(|(tile, _)| words(tile, projection))
                    .collect()
            }
            Kind::Operand(op) | Kind::Result(op) => {
                let own = matches!(mover.kind, Kind::Result(_))
                    .then(|| mapped.own_projection(drafts[op].einsum.output));
                let of = |t: &Task| {
                    t.steps
                        .iter()
                        .flat_map(|s| words(s, own.unwrap_or(projection)))
                        .collect()
                };
                drafts[op].tasks.iter().map(of).collect()
            }
        }
    }
}

/// Whether two tasks walk the same steps: each step of one makes what the same step of the other reads, and no other.
fn alike(
    from: &BoundEinsum,
    to: &BoundEinsum,
    made: &Task,
    read: &Task,
    own: &Projection,
    seen: &Projection,
) -> bool {
    made.steps.len() == read.steps.len()
        && made.fold == read.fold
        && made.steps.windows(2).all(|pair| !stays(from, pair, own))
        && read.steps.windows(2).all(|pair| !stays(to, pair, seen))
        && made
            .steps
            .iter()
            .zip(&read.steps)
            .all(|(a, b)| words(a, own) == words(b, seen))
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

/// Words that come new in each task, step by step.
fn by_task(tasks: &[Task], visits: &[Visit]) -> Vec<u128> {
    let mut at = visits.iter();
    let one = |t: &Task| {
        let work = t.idle.iter().filter(|idle| !**idle);
        work.map(|_| at.next().map_or(0, |v| v.new.len() as u128))
            .sum()
    };
    tasks.iter().map(one).collect()
}

/// At which steps of a task an operand is read: where its words are others than a step before, and at the first, unless
/// they stay for the whole task and were there in the task before.
fn reads_at(einsum: &BoundEinsum, tasks: &[Task], t: usize, projection: &Projection) -> Vec<bool> {
    let steps = &tasks[t].steps;
    let mut out: Vec<bool> = steps
        .windows(2)
        .map(|pair| !stays(einsum, pair, projection))
        .collect();
    // A full task's words stay: then those of the task before may be there still.
    let still = einsum.own_loops > 0 && stays(einsum, &tasks[0].steps, projection);
    let again = t > 0 && still && {
        let before = &tasks[t - 1].steps;
        words(&before[before.len() - 1], projection) == words(&steps[0], projection)
    };
    out.insert(0, !again);
    out
}

/// After which steps of a task results leave: where the next step makes other words, and at the end.
fn writes_after(einsum: &BoundEinsum, task: &Task, own: &Projection) -> Vec<usize> {
    let last = task.steps.len() - 1;
    let leaves =
        |k: &usize| *k == last || einsum.partials || !stays(einsum, &task.steps[*k..k + 2], own);
    (0..=last).filter(leaves).collect()
}

/// Which of a keep's tiles a task uses: the one that holds it.
fn tile_of(keep: &Kept, task: &Task) -> usize {
    let holds = |tile: &Tile| {
        tile.iter()
            .zip(&task.tile)
            .all(|(a, b)| a.0 <= b.0 && b.0 + b.1 <= a.0 + a.1)
    };
    // An Einsum at a loop's exit uses the last tile inside it, which does not hold its own.
    let within = |tile: &Tile| {
        tile.iter()
            .zip(&task.tile)
            .all(|(a, b)| b.0 <= a.0 && a.0 + a.1 <= b.0 + b.1)
    };
    let found = keep.tiles.iter().find(|(tile, _)| holds(tile));
    found
        .or_else(|| keep.tiles.iter().rfind(|(tile, _)| within(tile)))
        .map_or(0, |t| t.1)
}
