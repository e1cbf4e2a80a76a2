//! From a mapped block to its program.

use einflow_arch::Accelerator;
use einflow_mappings::{
    mapped::{
        Block, BoundEinsum, BoundOperand, Keep, MappedCascade, NamedLoop, OperandOrigin, Place,
        Transfer, TransferKind,
    },
    nest::{CountError, MAX_RANKS, Occupied, Projection},
};
use einflow_workloads::cascade::TensorId;

use super::{
    KeepPlan, KeepUse, Lockstep, Maker, Op, Program, Read, Stream, StreamKind, StreamSource, Tile,
    Way,
    geometry::{between, depth, frames, inward, lanes, latency, outward, rows_of, touches},
};

/// Builds a block's program.
///
/// # Errors
/// Conditions that cannot be tested tile by tile.
pub fn build(mapped: &MappedCascade, index: usize) -> Result<Program, CountError> {
    let block = &mapped.blocks[index];
    let nests: Vec<Vec<NamedLoop>> = block
        .nests
        .iter()
        .map(|n| block.loops.iter().chain(&n.loops).cloned().collect())
        .collect();
    let scopes = match &block.pipeline {
        _ if nests.len() > 1 => block.loops.len(),
        Some(p) => p.drains_at.map_or(0, |at| at + 1),
        None => 0,
    };
    let occupied = (block.space.skip_empty && !block.space.conditions.is_empty())
        .then(|| Occupied::new(&block.space))
        .transpose()?;
    let mut builder = Builder {
        mapped,
        block,
        accelerator: &mapped.accelerator,
        nests: &nests,
        ops: Vec::new(),
        keeps: Vec::new(),
        streams: Vec::new(),
    };
    builder.keeps();
    builder.ops();
    builder.makers();
    builder.sources();
    let lockstep = builder.lockstep();
    let (groups, segments) = builder.groups();
    let Builder {
        mut ops,
        keeps,
        streams,
        ..
    } = builder;
    for (g, group) in groups.iter().enumerate() {
        group.ops.iter().for_each(|op| ops[*op].group = g);
    }
    Ok(Program {
        name: block.name.clone(),
        whole: whole(&block.space.sizes),
        nests,
        scopes,
        ops,
        groups,
        segments,
        drains: block.phases.iter().map(|p| p.drain).collect(),
        keeps,
        streams,
        frames: frames(&mapped.accelerator),
        occupied,
        lockstep,
    })
}

/// By fold of an Einsum: whether it adds to words that are whole only at its end.
fn sums(op: &Op, own: &Projection) -> Vec<bool> {
    op.folds
        .iter()
        .map(|l| l.count > 1 && !touches(own, l))
        .collect()
}

/// All of a space.
fn whole(sizes: &[u64]) -> Tile {
    let mut tile = [(0, 1); MAX_RANKS];
    for (side, size) in tile.iter_mut().zip(sizes) {
        side.1 = *size;
    }
    tile
}

pub(super) struct Builder<'a> {
    mapped: &'a MappedCascade,
    pub(super) block: &'a Block,
    accelerator: &'a Accelerator,
    nests: &'a [Vec<NamedLoop>],
    pub(super) ops: Vec<Op>,
    keeps: Vec<KeepPlan>,
    streams: Vec<Stream>,
}

impl Builder<'_> {
    fn einsums(&self) -> impl Iterator<Item = ((usize, usize), &BoundEinsum)> {
        self.block.nests.iter().enumerate().flat_map(|(n, nest)| {
            nest.einsums
                .iter()
                .enumerate()
                .map(move |(e, einsum)| ((n, e), einsum))
        })
    }

    /// Tiles in memories further in than the outermost, and what fills and drains them.
    fn keeps(&mut self) {
        let block = self.block;
        let of_block = block.keeps.iter().map(|k| (k, None));
        let of_nests = block
            .nests
            .iter()
            .enumerate()
            .flat_map(|(n, nest)| nest.keeps.iter().map(move |k| (k, Some(n))));
        let all: Vec<(&Keep, Option<usize>)> = of_block.chain(of_nests).collect();
        for (keep, scope) in &all {
            let Place::Memory(memory) = keep.place else {
                continue;
            };
            if memory == 0 {
                continue;
            }
            let nest = scope.unwrap_or(0);
            let id = self.keeps.len();
            let moves = |kind: TransferKind| {
                block.transfers.iter().position(|t| {
                    t.kind == kind
                        && t.tensor == keep.tensor
                        && t.inner == keep.place
                        && scope.is_none_or(|n| t.einsum.0 == n)
                })
            };
            let (fill, drain) = (moves(TransferKind::Fill), moves(TransferKind::Drain));
            let projection = match fill {
                Some(t) => block.transfers[t].projection.clone(),
                None => self.mapped.own_projection(keep.tensor).clone(),
            };
            let loops = &self.nests[nest][..keep.depth];
            let depth = loops
                .iter()
                .rposition(|l| l.count > 1 && touches(&projection, l))
                .map_or(0, |at| at + 1);
            let mut stream = |transfer: Option<usize>, kind: StreamKind| {
                let transfer = transfer?;
                let moved = &block.transfers[transfer];
                let Some(Place::Memory(outer)) = moved.outer else {
                    return None;
                };
                let (n, e) = moved.einsum;
                let exit = block.nests[n].einsums[e].at_exit_of.as_ref();
                self.streams.push(Stream {
                    kind,
                    exit: loops[..depth].iter().position(|l| exit == Some(&l.name)),
                    transfer,
                    tensor: keep.tensor,
                    outer,
                    inner: Some(memory),
                    share: moved.share,
                    nest,
                    depth,
                    projection: moved.projection.clone(),
                    source: None,
                });
                Some(self.streams.len() - 1)
            };
            let fill = stream(fill, StreamKind::Fill(id));
            let drain = stream(drain, StreamKind::Drain(id));
            let room_of = |t: TensorId| {
                t == keep.tensor
                    || all.iter().any(|(k, _)| {
                        k.tensor == t && k.place == keep.place && k.in_place_of == Some(keep.tensor)
                    })
            };
            let mut users = Vec::new();
            let mut maker = None;
            for (at, (_, einsum)) in self.einsums().enumerate() {
                let reads = einsum
                    .operands
                    .iter()
                    .any(|o| room_of(o.tensor) && o.origin == OperandOrigin::Memory(memory));
                let writes = room_of(einsum.output) && einsum.output_memory == Some(memory);
                if reads || writes {
                    users.push(at);
                }
                if einsum.output == keep.tensor && writes {
                    maker = Some(at);
                }
            }
            self.keeps.push(KeepPlan {
                tensor: keep.tensor,
                memory,
                nest,
                depth,
                // What takes over another tensor's room waits for nothing.
                generations: if keep.in_place_of.is_some() {
                    usize::MAX
                } else {
                    usize::try_from(keep.generations).unwrap_or(usize::MAX)
                },
                by_row: keep.freed_by_row,
                users,
                fill,
                drain,
                maker,
            });
        }
    }

    fn ops(&mut self) {
        let phase_of = |at: (usize, usize)| {
            self.block
                .phases
                .iter()
                .position(|p| p.einsums.contains(&at))
        };
        let all: Vec<((usize, usize), BoundEinsum)> =
            self.einsums().map(|(at, e)| (at, e.clone())).collect();
        for (id, (at, einsum)) in all.iter().enumerate() {
            let loops = &self.nests[at.0];
            let exit = einsum
                .at_exit_of
                .as_ref()
                .and_then(|name| loops.iter().position(|l| l.name == *name));
            let own = (0..loops.len())
                .filter(|l| Some(*l) != exit)
                .take(einsum.shared_loops().len())
                .collect();
            let (folds, steps) = self.folds(einsum);
            let output = self.mapped.own_projection(einsum.output).clone();
            let reads: Vec<Read> = einsum
                .operands
                .iter()
                .enumerate()
                .map(|(i, o)| self.read(id, *at, einsum, o, i, &steps))
                .collect();
            let update = self.block.transfers.iter().position(|t| {
                t.kind == TransferKind::Update && t.einsum == *at && t.tensor == einsum.output
            });
            let result = update.and_then(|t| self.result(einsum, t, &output, &steps));
            if let Some(transfer) = update {
                self.result_stream(id, *at, transfer);
            }
            let (load, shift) = self.exclusive(einsum, &steps, &output, &reads, result.as_ref());
            let writes = self
                .keeps
                .iter()
                .position(|k| k.maker == Some(id) && k.fill.is_none());
            let uses = self.uses(id, einsum, &reads);
            let every_tile = exit.is_none() && einsum.shared_loops().len() == loops.len();
            self.ops.push(Op {
                name: einsum.name.clone(),
                at: *at,
                unit: einsum.unit,
                loops: own,
                exit,
                folds,
                steps,
                cycles: einsum.cycles,
                offset: einsum.offset,
                group: 0,
                phase: phase_of(*at),
                reads,
                output: einsum.output,
                result,
                update,
                load,
                shift,
                lanes: (einsum.rows.clone(), einsum.columns.clone()),
                writes,
                uses,
                every_tile,
                rows_apart: lanes(einsum, &output).0 > 1,
            });
        }
    }

    /// Which kept tiles an Einsum reads and writes: those of its tensors, and of tensors that take their room.
    fn uses(&self, op: usize, einsum: &BoundEinsum, reads: &[Read]) -> Vec<KeepUse> {
        let nests = self.block.nests.iter().flat_map(|n| &n.keeps);
        let all: Vec<&Keep> = self.block.keeps.iter().chain(nests).collect();
        let mut out = Vec::new();
        for (keep, plan) in self.keeps.iter().enumerate() {
            if !plan.users.contains(&op) {
                continue;
            }
            let room_of = |t: TensorId| {
                t == plan.tensor
                    || all.iter().any(|k| {
                        k.tensor == t
                            && k.place == Place::Memory(plan.memory)
                            && k.in_place_of == Some(plan.tensor)
                    })
            };
            out.push(KeepUse {
                keep,
                reads: (0..reads.len())
                    .filter(|r| room_of(reads[*r].tensor))
                    .collect(),
                output: room_of(einsum.output),
            });
        }
        out
    }

    /// Own loops between folds and inside them: inside are the most, from the innermost on, over which the output or an operand stays
    /// in its PE. An Einsum of which nothing stays runs all its loops as one.
    fn folds(&self, einsum: &BoundEinsum) -> (Vec<NamedLoop>, Vec<NamedLoop>) {
        let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
        let output = self.mapped.own_projection(einsum.output);
        let stays = |from: usize| {
            let still = |p: &Projection| !own[from..].iter().any(|l| l.count > 1 && touches(p, l));
            still(output) || einsum.operands.iter().any(|o| still(&o.projection))
        };
        let inner = (0..=own.len()).find(|from| stays(*from));
        let real = |from: usize| own[from..].iter().any(|l| l.count > 1);
        match inner.filter(|from| real(*from)) {
            Some(from) => (own[..from].to_vec(), own[from..].to_vec()),
            None => (Vec::new(), own.to_vec()),
        }
    }

    fn read(
        &mut self,
        op: usize,
        at: (usize, usize),
        einsum: &BoundEinsum,
        operand: &BoundOperand,
        position: usize,
        steps: &[NamedLoop],
    ) -> Read {
        let block = self.block;
        let transfer = self.operand_transfer(at, einsum, position);
        let (mut way, mut stream) = (None, None);
        if let Some(id) = transfer {
            let moved = &block.transfers[id];
            if let Place::Memory(memory) = moved.inner {
                if memory > 0 && (moved.share.0 > 0 || moved.through) {
                    way = Some(self.inward_way(einsum, memory, &operand.projection, steps));
                }
                let rest = (moved.share.1 - moved.share.0, moved.share.1);
                let outside = match (memory, moved.spill) {
                    (0, _) => Some((0, moved.share)),
                    (_, Some(Place::Memory(outer))) if rest.0 > 0 => Some((outer, rest)),
                    _ => None,
                };
                if let Some((outer, share)) = outside {
                    stream = Some(self.streams.len());
                    self.streams.push(Stream {
                        kind: StreamKind::Operand(op, position),
                        transfer: id,
                        tensor: operand.tensor,
                        outer,
                        inner: None,
                        share,
                        nest: at.0,
                        depth: 0,
                        exit: None,
                        projection: operand.projection.clone(),
                        source: None,
                    });
                }
            }
        }
        let keep = match operand.origin {
            OperandOrigin::Memory(memory) => self.keeps.iter().position(|k| {
                k.tensor == operand.tensor
                    && k.memory == memory
                    && k.fill.is_some()
                    && (self.block.keeps.iter().any(|b| b.tensor == k.tensor) || k.nest == at.0)
            }),
            OperandOrigin::Made(..) => None,
        };
        Read {
            tensor: operand.tensor,
            time: operand.time,
            projection: operand.projection.clone(),
            maker: None,
            keep,
            way,
            operand: transfer,
            stream,
            stays: last_real(steps) > 0 && depth(steps, &operand.projection) == 0,
        }
    }

    /// The transfer that counts an operand. RM[m1] and RM[m1+1] of one Einsum touch words alike and are two: each has its own, in the
    /// order of the reads; what registers keep is loaded once, as a tile, for the first.
    fn operand_transfer(
        &self,
        at: (usize, usize),
        einsum: &BoundEinsum,
        position: usize,
    ) -> Option<usize> {
        let operand = &einsum.operands[position];
        let alike =
            |o: &BoundOperand| o.tensor == operand.tensor && o.projection == operand.projection;
        let from_memory = |o: &BoundOperand| matches!(o.origin, OperandOrigin::Memory(_));
        if !from_memory(operand) {
            return None;
        }
        let before = einsum.operands[..position]
            .iter()
            .filter(|o| alike(o) && from_memory(o))
            .count();
        let alone = einsum
            .operands
            .iter()
            .filter(|o| o.tensor == operand.tensor)
            .count()
            == 1;
        let counts = |t: &Transfer| {
            t.kind == TransferKind::Operand
                && t.einsum == at
                && t.tensor == operand.tensor
                && (t.projection == operand.projection || alone)
        };
        let transfers = self.block.transfers.iter().enumerate();
        let mut found = transfers.filter(|(_, t)| counts(t)).map(|(i, _)| i);
        found.nth(before)
    }

    fn inward_way(
        &self,
        einsum: &BoundEinsum,
        memory: usize,
        projection: &Projection,
        steps: &[NamedLoop],
    ) -> Way {
        let (rows, columns) = lanes(einsum, projection);
        let (burst, words) = if rows > 1 && columns > 1 {
            (rows, columns)
        } else {
            (1, rows.max(columns))
        };
        Way {
            memory,
            delay: inward(self.accelerator, memory, einsum.unit),
            rows: rows_of(self.accelerator, memory, words),
            depth: depth(steps, projection),
            burst,
        }
    }

    fn result(
        &self,
        einsum: &BoundEinsum,
        transfer: usize,
        output: &Projection,
        steps: &[NamedLoop],
    ) -> Option<Way> {
        let moved = &self.block.transfers[transfer];
        let Place::Memory(memory) = moved.inner else {
            return None;
        };
        let (rows, columns) = lanes(einsum, output);
        let (burst, words) = if rows > 1 && columns > 1 {
            (rows, columns)
        } else {
            (1, rows.max(columns))
        };
        let across = einsum.columns.as_ref().is_some_and(|l| l.count > 1) && columns == 1;
        Some(Way {
            memory,
            delay: outward(self.accelerator, einsum.unit, memory, across),
            rows: rows_of(self.accelerator, memory, words),
            depth: if einsum.partials {
                steps.len()
            } else {
                depth(steps, output)
            },
            burst,
        })
    }

    fn result_stream(&mut self, op: usize, at: (usize, usize), transfer: usize) {
        let moved = &self.block.transfers[transfer];
        let rest = (moved.share.1 - moved.share.0, moved.share.1);
        let outside = match (moved.inner, moved.spill) {
            (Place::Memory(0), _) => Some((0, moved.share)),
            (_, Some(Place::Memory(outer))) if rest.0 > 0 => Some((outer, rest)),
            _ => None,
        };
        if let Some((outer, share)) = outside {
            self.streams.push(Stream {
                kind: StreamKind::Result(op),
                transfer,
                tensor: moved.tensor,
                outer,
                inner: None,
                share,
                nest: at.0,
                depth: 0,
                exit: None,
                projection: self.mapped.own_projection(moved.tensor).clone(),
                source: None,
            });
        }
    }

    /// Cycles that loading what stays, and shifting results out, take an array for themselves: where every row has words of its own and
    /// the links along the rows carry another word in every step.
    fn exclusive(
        &self,
        einsum: &BoundEinsum,
        steps: &[NamedLoop],
        output: &Projection,
        reads: &[Read],
        result: Option<&Way>,
    ) -> (u64, u64) {
        let rows = einsum.rows.as_ref().map_or(1, |l| l.count);
        if rows <= 1 {
            return (0, 0);
        }
        let streams = |p: &Projection| steps.is_empty() || depth(steps, p) == last_real(steps);
        let down = |p: &Projection| lanes(einsum, p).0 == 1;
        let operands = reads
            .iter()
            .filter(|r| r.way.is_some() || r.stream.is_some());
        let busy = operands
            .clone()
            .any(|r| streams(&r.projection) && down(&r.projection))
            || (down(output) && streams(output) && last_real(steps) > 0);
        if !busy {
            return (0, 0);
        }
        let apart = |p: &Projection| lanes(einsum, p).0 > 1 && lanes(einsum, p).1 > 1;
        let load = operands.clone().any(|r| apart(&r.projection));
        let leaves = result.is_some() || self.leaves(einsum);
        let shift = apart(output) && leaves;
        (u64::from(load) * rows, u64::from(shift) * rows)
    }

    /// Whether another array takes an Einsum's words over a link.
    fn leaves(&self, einsum: &BoundEinsum) -> bool {
        self.einsums().any(|(_, reader)| {
            reader.unit != einsum.unit
                && reader.operands.iter().any(|o| {
                    o.tensor == einsum.output && matches!(o.origin, OperandOrigin::Made(..))
                })
        })
    }

    /// Who makes each operand in this block, and how long it takes to where it is read.
    fn makers(&mut self) {
        let bound: Vec<BoundEinsum> = self.einsums().map(|(_, e)| e.clone()).collect();
        for reader in 0..self.ops.len() {
            for position in 0..self.ops[reader].reads.len() {
                let tensor = self.ops[reader].reads[position].tensor;
                let Some(op) = self.ops.iter().position(|o| o.output == tensor) else {
                    continue;
                };
                let origin = bound[reader].operands[position].origin;
                let maker = self.maker(&bound, reader, position, op, origin);
                self.ops[reader].reads[position].maker = Some(maker);
            }
        }
    }

    fn maker(
        &self,
        bound: &[BoundEinsum],
        reader: usize,
        position: usize,
        op: usize,
        origin: OperandOrigin,
    ) -> Maker {
        let (made, read) = (&self.ops[op], &self.ops[reader].reads[position]);
        let own = self.mapped.own_projection(read.tensor);
        let aligned = self.aligned(own, &read.projection);
        let cascade = &self.mapped.cascade;
        let iterative = cascade.tensor(read.tensor).iterative.and_then(|i| {
            let dim = own.dims.get(cascade.batch.len() + i)?;
            dim.terms.first().map(|t| t.rank)
        });
        let (from, to) = (&bound[op], &bound[reader]);
        let (delay, memory) = match origin {
            OperandOrigin::Memory(memory) => {
                let out = made.result.as_ref().map_or(0, |w| w.delay + w.burst - 1);
                let stored = latency(self.accelerator, memory);
                let back = inward(self.accelerator, memory, to.unit);
                let burst = read.way.as_ref().map_or(0, |w| w.burst - 1);
                (out + stored + back + burst, Some(memory))
            }
            OperandOrigin::Made(..) if from.unit == to.unit => (self.around(from, own), None),
            OperandOrigin::Made(..) => (between(self.accelerator, from.unit, to.unit), None),
        };
        let real = |loops: &[NamedLoop]| -> Vec<NamedLoop> {
            loops.iter().filter(|l| l.count > 1).cloned().collect()
        };
        let (mine, theirs) = (real(&made.steps), real(&self.ops[reader].steps));
        let by_word = !mine.is_empty()
            && mine == theirs
            && real(&made.folds) == real(&self.ops[reader].folds)
            // A word of which some loop makes only a part is whole at that loop's end.
            && mine.iter().all(|l| touches(own, l))
            && depth(&theirs, &read.projection) == theirs.len()
            && made
                .result
                .as_ref()
                .is_none_or(|w| memory.is_none() || w.burst == 1);
        let ahead = made.offset.saturating_sub(self.ops[reader].offset);
        let crosses = memory.is_none() && from.unit != to.unit;
        let together = from.shared_loops() == to.shared_loops();
        Maker {
            op,
            aligned,
            sums: sums(made, own),
            iterative,
            delay,
            by_word,
            memory,
            waiting: (crosses && together).then_some(ahead + 1),
        }
    }

    /// By base rank: whether a reader's coordinates are those of the tensor's own ranks.
    fn aligned(&self, own: &Projection, seen: &Projection) -> Vec<bool> {
        let mut aligned = vec![true; self.block.space.sizes.len()];
        for (mine, seen) in own.dims.iter().zip(&seen.dims) {
            if mine != seen {
                mine.terms.iter().for_each(|t| aligned[t.rank] = false);
            }
        }
        aligned
    }

    /// What this block writes to an outer memory and takes from there again.
    fn sources(&mut self) {
        for id in 0..self.streams.len() {
            let stream = &self.streams[id];
            if !matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Operand(..)) {
                continue;
            }
            let Some(op) = self.ops.iter().position(|o| o.output == stream.tensor) else {
                continue;
            };
            let writes = |s: &Stream| {
                s.tensor == stream.tensor
                    && s.outer == stream.outer
                    && matches!(s.kind, StreamKind::Drain(_) | StreamKind::Result(_))
            };
            if let Some(writer) = self.streams.iter().position(writes) {
                let own = self.mapped.own_projection(stream.tensor);
                let aligned = self.aligned(own, &stream.projection);
                self.streams[id].source = Some(StreamSource {
                    op,
                    aligned,
                    sums: sums(&self.ops[op], own),
                    stream: writer,
                });
            }
        }
    }

    /// A sum that all PEs of a lane make together is whole at the lane's end, and goes back along it.
    fn around(&self, from: &BoundEinsum, output: &Projection) -> u64 {
        let array = &self.accelerator.arrays[from.unit];
        let shared = |lane: &Option<NamedLoop>, length: u64| {
            let apart = lane
                .as_ref()
                .is_none_or(|l| l.count <= 1 || touches(output, l));
            if apart { 0 } else { 2 * (length - 1) }
        };
        shared(&from.rows, array.rows) + shared(&from.columns, array.columns)
    }

    /// Readers on another array that take each word as it arrives: no room for more of them.
    fn lockstep(&self) -> Vec<Lockstep> {
        let mut found = Vec::new();
        for (reader, op) in self.ops.iter().enumerate() {
            for read in &op.reads {
                let Some(maker) = &read.maker else { continue };
                let made = &self.ops[maker.op];
                let now = read.time != einflow_workloads::cascade::ReadTime::Previous;
                if maker.waiting == Some(1) && maker.by_word && now && made.offset == op.offset {
                    found.push(Lockstep {
                        maker: maker.op,
                        reader,
                    });
                }
            }
        }
        found
    }
}

fn last_real(steps: &[NamedLoop]) -> usize {
    steps
        .iter()
        .rposition(|l| l.count > 1)
        .map_or(0, |at| at + 1)
}
