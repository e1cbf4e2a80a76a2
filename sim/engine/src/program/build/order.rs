//! Which task makes what another reads, and which go in lockstep.

use einflow_mappings::{
    mapped::{BoundEinsum, NamedLoop, OperandOrigin},
    nest::{Dim, Projection},
};
use einflow_workloads::cascade::ReadTime;

use super::{
    super::{
        geometry::{between, depth, latency, tail},
        parts::{Lockstep, Maker, Reach, Stream, StreamKind, StreamSource},
    },
    Builder, sums,
};

impl Builder<'_> {
    /// Who makes each operand in this block, and how long it takes to where it is read.
    pub(super) fn makers(&mut self) {
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

    pub(super) fn maker(
        &self,
        bound: &[BoundEinsum],
        reader: usize,
        position: usize,
        op: usize,
        origin: OperandOrigin,
    ) -> Maker {
        let (made, read) = (&self.ops[op], &self.ops[reader].reads[position]);
        let own = self.mapped.own_projection(read.tensor);
        let reach = self.reach(own, &read.projection);
        let cascade = &self.mapped.cascade;
        let iterative = cascade.tensor(read.tensor).iterative.and_then(|i| {
            let dim = own.dims.get(cascade.batch.len() + i)?;
            dim.terms.first()
        });
        let (from, to) = (&bound[op], &bound[reader]);
        let (delay, memory) = match origin {
            OperandOrigin::Memory(memory) => {
                let out = made.result.as_ref().map_or(0, |w| w.delay + w.burst - 1);
                let stored = latency(self.accelerator, memory);
                let way = read.way.as_ref().map(|w| w.delay + w.burst - 1);
                let back = way.unwrap_or(stored + read.hop);
                (out + stored + back, Some(memory))
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
            // Each step takes what the same one made, or the value before it.
            && reach.iter().enumerate().all(|(rank, along)| {
                matches!(along, Reach::Own) || iterative.is_some_and(|t| t.rank == rank)
            })
            && real(&made.folds) == real(&self.ops[reader].folds)
            // A word of which some loop makes only a part is whole at that loop's end.
            && mine.iter().all(|l| l.touches_any(&own.dims))
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
            reach,
            sums: sums(made, own),
            iterative: iterative.map(|t| t.rank),
            iteration: iterative.map_or(1, |t| t.unit.max(1)),
            delay,
            by_word,
            memory,
            waiting: (crosses && together).then_some(ahead + 1),
        }
    }

    /// By base rank: how far along a tensor's own ranks a reader reads.
    pub(super) fn reach(&self, own: &Projection, seen: &Projection) -> Vec<Reach> {
        let mut reach = vec![Reach::Own; self.block.space.sizes.len()];
        for (d, mine) in own.dims.iter().enumerate() {
            let seen: Vec<&Dim> = seen.images().filter_map(|i| i.get(d)).collect();
            if seen.iter().all(|dim| *dim == mine) {
                continue;
            }
            let known = seen.iter().all(|dim| dim.chosen.is_none());
            match mine.terms.as_slice() {
                [t] if t.modulus.is_none() && known => {
                    let all = seen.iter().map(|dim| (t.unit.max(1), (*dim).clone()));
                    reach[t.rank] = Reach::Indices(all.collect());
                }
                terms => terms.iter().for_each(|t| reach[t.rank] = Reach::End),
            }
        }
        reach
    }

    /// What this block writes to an outer memory and takes from there again.
    pub(super) fn sources(&mut self) {
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
                let reach = self.reach(own, &stream.projection);
                let previous = match stream.kind {
                    StreamKind::Operand(reader, position) => self.previous(reader, position),
                    _ => None,
                };
                self.streams[id].source = Some(StreamSource {
                    op,
                    reach,
                    sums: sums(&self.ops[op], own),
                    stream: writer,
                    previous,
                });
            }
        }
    }

    /// Where an operand is the value before of a running one: its iterative rank, and how many coordinates a step has.
    fn previous(&self, reader: usize, position: usize) -> Option<(usize, u64)> {
        let read = &self.ops[reader].reads[position];
        let cascade = &self.mapped.cascade;
        let iterative = cascade.tensor(read.tensor).iterative?;
        let own = self.mapped.own_projection(read.tensor);
        let term = own
            .dims
            .get(cascade.batch.len() + iterative)?
            .terms
            .first()?;
        (read.time == ReadTime::Previous).then_some((term.rank, term.unit.max(1)))
    }

    /// A sum that all PEs of a lane make together is whole at the lane's end, and goes back along it.
    pub(super) fn around(&self, from: &BoundEinsum, output: &Projection) -> u64 {
        let array = &self.accelerator.arrays[from.unit];
        let shared = |lane: &Option<NamedLoop>, length: u64| {
            let apart = lane
                .as_ref()
                .is_none_or(|l| l.count <= 1 || l.touches_any(&output.dims));
            if apart { 0 } else { 2 * length }
        };
        let (down, right) = tail(array);
        shared(&from.rows, down) + shared(&from.columns, right)
    }

    /// Readers on another array that take each word as it arrives: no room for more of them.
    pub(super) fn lockstep(&self) -> Vec<Lockstep> {
        let mut found = Vec::new();
        for (reader, op) in self.ops.iter().enumerate() {
            for read in &op.reads {
                let Some(maker) = &read.maker else { continue };
                let made = &self.ops[maker.op];
                let now = read.time != ReadTime::Previous;
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
