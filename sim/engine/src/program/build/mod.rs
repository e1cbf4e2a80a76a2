//! From a mapped block to its program.

mod order;
mod reads;

use einflow_arch::Accelerator;
use einflow_mappings::{
    mapped::{
        Block, BoundEinsum, Keep, MappedCascade, NamedLoop, OperandOrigin, Place, TransferKind,
    },
    nest::{CountError, MAX_RANKS, Occupied, Projection},
};
use einflow_workloads::cascade::TensorId;

use super::{
    geometry::{
        Way, accesses, depth, entering, frames, lanes, leaving, outward, rows_of, tail, width,
    },
    parts::{KeepPlan, Op, Program, Read, Stream, StreamKind, Tile},
    steps::follows,
};

/// Builds the programs of all blocks.
///
/// # Errors
/// A block that cannot be run: conditions without a closed form, more iterations than 64 bits count.
pub fn programs(mapped: &MappedCascade) -> Result<Vec<Program>, CountError> {
    (0..mapped.blocks.len())
        .map(|index| build(mapped, index))
        .collect()
}

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
        tails: mapped
            .accelerator
            .arrays
            .iter()
            .map(|a| tail(a).0 + tail(a).1)
            .collect(),
        frames: frames(&mapped.accelerator),
        occupied,
        lockstep,
    })
}

/// By fold of an Einsum: whether it adds to words that are whole only at its end.
fn sums(op: &Op, own: &Projection) -> Vec<bool> {
    op.folds
        .iter()
        .map(|l| l.count > 1 && !l.touches_any(&own.dims))
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
                .rposition(|l| l.touches_any(projection.all_dims()))
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
                    own: self.mapped.own_projection(keep.tensor).clone(),
                    around: None,
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
                projection,
                // What takes over another tensor's room waits for nothing.
                generations: match keep.in_place_of {
                    Some(_) => None,
                    None => Some(usize::try_from(keep.generations).unwrap_or(usize::MAX)),
                },
                by_row: keep.freed_by_row,
                users,
                fill,
                drain,
                inward: Vec::new(),
                outward: Vec::new(),
                maker,
            });
        }
        self.tiles_around();
    }

    /// Which tiles of memories other than the outermost hold those that come from or go to there.
    fn tiles_around(&mut self) {
        for (id, stream) in self.streams.iter_mut().enumerate() {
            let mut keeps = self.keeps.iter();
            let holds = |k: &KeepPlan| k.tensor == stream.tensor && k.memory == stream.outer;
            stream.around = keeps.position(holds);
            let Some(around) = stream.around else {
                continue;
            };
            match stream.kind {
                StreamKind::Fill(_) => self.keeps[around].inward.push(id),
                _ => self.keeps[around].outward.push(id),
            }
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
            let loads = self.loads(einsum, &reads, &steps);
            let adds = |l: &NamedLoop| l.count > 1 && !l.touches_any(&output.dims);
            let own: Vec<usize> = own;
            let again = (
                own.iter().copied().filter(|at| adds(&loops[*at])).collect(),
                (0..folds.len()).filter(|at| adds(&folds[*at])).collect(),
            );
            let left = match einsum.partials {
                true => steps.len(),
                false => depth(&steps, &output),
            };
            let repeats = steps[..left].iter().any(adds);
            let every_tile = exit.is_none() && einsum.shared_loops().len() == loops.len();
            self.ops.push(Op {
                name: einsum.name.clone(),
                at: *at,
                unit: einsum.unit,
                loops: own,
                exit,
                folds,
                steps,
                cycles: einsum.interval,
                works: einsum.cycles,
                narrow: einsum.narrow,
                returning: (einsum.returns.interval, einsum.returns.narrow),
                loads,
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
                again,
                repeats,
                every_tile,
                rows_apart: lanes(einsum, &output).0 > 1,
            });
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
        let link = leaving(self.accelerator, memory, einsum.unit);
        let wide = width(self.accelerator, einsum.unit, link);
        let (burst, words) = accesses((rows, columns), wide);
        let across = einsum.columns.as_ref().is_some_and(|l| l.count > 1) && columns == 1;
        Some(Way {
            memory,
            delay: outward(self.accelerator, einsum.unit, memory, across),
            rows: rows_of(self.accelerator, memory, words),
            follows: follows(steps, |l| einsum.partials || l.touches_any(&output.dims)),
            stays: match einsum.partials {
                true => steps.is_empty(),
                false => depth(steps, output) == 0,
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
                own: self.mapped.own_projection(moved.tensor).clone(),
                around: None,
                source: None,
            });
        }
    }

    /// Cycles that loading what stays, and shifting results out, take an array for themselves: where every row has
    /// words of its own and the links along the rows carry another word in every step.
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
        let unit = einsum.unit;
        // Over the widest of the links that they come or leave by, as many rows a cycle as it takes.
        let loaded = operands.filter(|r| apart(&r.projection)).map(|r| {
            let memory = r.way.as_ref().map_or(0, |w| w.memory);
            let link = entering(self.accelerator, memory, unit, lanes(einsum, &r.projection));
            rows.div_ceil(width(self.accelerator, unit, link))
        });
        let load = loaded.max().unwrap_or(0);
        let leaves = result.is_some() || self.leaves(einsum);
        let shift = apart(output) && leaves;
        let out = result.map_or(0, |w| w.memory);
        let wide = width(self.accelerator, unit, leaving(self.accelerator, out, unit));
        (load, u64::from(shift) * rows.div_ceil(wide))
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
}

fn last_real(steps: &[NamedLoop]) -> usize {
    steps
        .iter()
        .rposition(|l| l.count > 1)
        .map_or(0, |at| at + 1)
}
