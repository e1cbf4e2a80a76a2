//! What each task reads, and over which way.

use einflow_mappings::{
    mapped::{
        BoundEinsum, BoundOperand, Keep, Load, NamedLoop, OperandOrigin, Place, Transfer,
        TransferKind,
    },
    nest::Projection,
};
use einflow_workloads::cascade::TensorId;

use super::{
    super::{
        geometry::{Way, accesses, depth, entering, lanes, latency, rows_of, width},
        parts::{KeepUse, Read, Staying, Stream, StreamKind},
        steps::follows,
    },
    Builder, last_real,
};

impl Builder<'_> {
    /// Which kept tiles an Einsum reads and writes: those of its tensors, and of tensors that take their room.
    pub(super) fn uses(&self, op: usize, einsum: &BoundEinsum, reads: &[Read]) -> Vec<KeepUse> {
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

    /// Own loops between folds and inside them: inside are the most, from the innermost on, over which the output or
    /// an operand stays in its PE. An Einsum of which nothing stays runs all its loops as one.
    pub(super) fn folds(&self, einsum: &BoundEinsum) -> (Vec<NamedLoop>, Vec<NamedLoop>) {
        let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
        let output = self.mapped.own_projection(einsum.output);
        let stays = |from: usize| {
            let still = |p: &Projection| !own[from..].iter().any(|l| l.touches_any(&p.dims));
            still(output) || einsum.operands.iter().any(|o| still(&o.projection))
        };
        let inner = (0..=own.len()).find(|from| stays(*from));
        let real = |from: usize| own[from..].iter().any(|l| l.count > 1);
        match inner.filter(|from| real(*from)) {
            Some(from) => (own[..from].to_vec(), own[from..].to_vec()),
            None => (Vec::new(), own.to_vec()),
        }
    }

    pub(super) fn read(
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
        let from_memory = matches!(operand.origin, OperandOrigin::Memory(_));
        if let Some(id) = transfer.filter(|_| from_memory) {
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
                        own: self.mapped.own_projection(operand.tensor).clone(),
                        around: None,
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
            hop: entering(
                self.accelerator,
                0,
                einsum.unit,
                lanes(einsum, &operand.projection),
            )
            .map_or(1, |l| l.latency),
            stays: last_real(steps) > 0 && depth(steps, &operand.projection) == 0,
        }
    }

    /// Words of an Einsum that stay, and take longer to load.
    pub(super) fn loads(
        &self,
        einsum: &BoundEinsum,
        reads: &[Read],
        steps: &[NamedLoop],
    ) -> Vec<Staying> {
        let one = |load: &Load| {
            let mine = |r: &Read| match load.kept {
                None => r.projection == load.projection,
                kept => r.operand == kept,
            };
            let slot = reads.iter().position(mine)?;
            Some(Staying {
                slot,
                projection: load.projection.clone(),
                excess: load.excess,
                follows: follows(steps, |l| l.touches_any(&load.projection.dims)),
                kept: load.kept,
            })
        };
        einsum.loads.iter().filter_map(one).collect()
    }

    /// The transfer that counts an operand. RM[m1] and RM[m1+1] of one Einsum touch words alike and are two: each has
    /// its own, in the order of the reads; what registers keep is loaded once, as a tile, for the first.
    pub(super) fn operand_transfer(
        &self,
        at: (usize, usize),
        einsum: &BoundEinsum,
        position: usize,
    ) -> Option<usize> {
        let operand = &einsum.operands[position];
        let alike =
            |o: &BoundOperand| o.tensor == operand.tensor && o.projection == operand.projection;
        let from_memory = |o: &BoundOperand| matches!(o.origin, OperandOrigin::Memory(_));
        let own = self.block.keeps.iter().chain(&self.block.nests[at.0].keeps);
        let mut own = own.filter(|k| k.tensor == operand.tensor);
        if own.any(|k| k.place == Place::Registers(einsum.unit)) {
            let same = |o: &&BoundOperand| o.tensor == operand.tensor;
            let mut reads = einsum.operands.iter().filter(same);
            let first = reads.clone().find(|o| from_memory(o)).or(reads.next());
            if first.is_none_or(|o| !std::ptr::eq(o, operand)) {
                return None;
            }
            return self.block.transfers.iter().position(|t| {
                t.kind == TransferKind::Operand && t.einsum == at && t.tensor == operand.tensor
            });
        }
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

    pub(super) fn inward_way(
        &self,
        einsum: &BoundEinsum,
        memory: usize,
        projection: &Projection,
        steps: &[NamedLoop],
    ) -> Way {
        let own = lanes(einsum, projection);
        let link = entering(self.accelerator, memory, einsum.unit, own);
        let wide = width(self.accelerator, einsum.unit, link);
        let (burst, words) = accesses(own, wide);
        Way {
            memory,
            delay: latency(self.accelerator, memory) + link.map_or(1, |l| l.latency),
            rows: rows_of(self.accelerator, memory, words),
            follows: follows(steps, |l| l.touches_any(&projection.dims)),
            stays: depth(steps, projection) == 0,
            burst,
        }
    }
}
