//! What Einsums hand on to each other, and in which order they run.

use std::collections::BTreeMap;

use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, OperandOrigin},
    nest::Projection,
};
use einflow_workloads::cascade::{ReadTime, TensorId};

use super::{
    chip::{accesses_of, between, gate, inward, latency, lie, round_trip, wide},
    einsum::come_back,
    plan::{Draft, Kind, Mover, Need, Plan},
    unroll::{Task, stays},
    words::{Tile, Word, Words, words},
};

impl Plan {
    /// What Einsums hand on to each other.
    pub(super) fn made(&mut self, mapped: &MappedCascade, block: &Block, drafts: &[Draft<'_>]) {
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
                        let link = gate(chip, memory, to.einsum.unit, &lies);
                        let wide = wide(chip, to.einsum.unit, link);
                        let (back, _) = accesses_of(chip, memory, &lies, wide);
                        let way = inward(chip, memory, to.einsum.unit, &lies) + back - 1;
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
                let dim = mapped
                    .cascade
                    .tensor(operand.tensor)
                    .iterative
                    .map(|i| mapped.cascade.batch.len() + i);
                let final_one = dim.and_then(|d| last.keys().map(|w| w[d]).max());
                let seen = |tile: &Tile| -> Words {
                    let all = words(tile, &operand.projection);
                    match (dim, operand.time) {
                        // The coordinate before this one; before the first there is the initial value.
                        (Some(dim), ReadTime::Previous) => {
                            let before = |mut w: Word| {
                                w[dim] = w[dim].checked_sub(1)?;
                                Some(w)
                            };
                            all.into_iter().filter_map(before).collect()
                        }
                        (Some(dim), ReadTime::Last) => {
                            let at_end = |mut w: Word| {
                                w[dim] = final_one.unwrap_or(0);
                                w
                            };
                            all.into_iter().map(at_end).collect()
                        }
                        _ => all,
                    }
                };
                let mut same_steps = word_by_word;
                let mut needs = Vec::new();
                for task in &to.tasks {
                    let read: Words = task.steps.iter().flat_map(&seen).collect();
                    let made = read.iter().filter_map(|w| last.get(w)).max().copied();
                    if let Some(made) = made {
                        same_steps &= alike(
                            (from.einsum, &from.tasks[made], own),
                            (to.einsum, task, &operand.projection),
                            &seen,
                        );
                    }
                    needs.push(made);
                }
                let by_word = same_steps && from.tasks[0].steps.len() > 1;
                for (w, task) in self.ops[reader].work.iter_mut().zip(&needs) {
                    let Some(task) = task else { continue };
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
                    let now = operand.time != ReadTime::Previous;
                    let lockstep = now && by_word && from.einsum.offset == to.einsum.offset;
                    self.ops[maker]
                        .readers
                        .push((reader, ahead + 1, delay, lockstep));
                }
                let same_tiles = from.tasks.len() == to.tasks.len() && together;
                if !across
                    && memory.is_none()
                    && by_word
                    && delay == 0
                    && operand.time != ReadTime::Previous
                    && same_tiles
                    && from.einsum.offset == to.einsum.offset
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
                continue;
            };
            let tiles = |id: usize| {
                let mover = &self.movers[id];
                let projection = match mover.kind {
                    Kind::Result(op) => mapped.own_projection(drafts[op].einsum.output),
                    _ => &block.transfers[mover.transfer].projection,
                };
                self.moved_tiles(projection, drafts, id)
            };
            let written = tiles(writer);
            let read = tiles(id);
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
        (0..self.movers.len()).for_each(|id| self.further_in(id));
        for id in 0..self.movers.len() {
            if let Kind::Drain(_) | Kind::Result(_) = self.movers[id].kind {
                let own = mapped.own_projection(TensorId(self.movers[id].tensor));
                let all = self.moved_tiles(own, drafts, id);
                self.movers[id].back = come_back(all.into_iter(), &self.movers[id].words);
            }
        }
        self.order(block);
    }

    /// Phases, and the places in them. Phases between which Einsums take turns run as one.
    pub(super) fn order(&mut self, block: &Block) {
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

    /// Which tile of an outer memory each tile is a part of that comes from or goes to there; one that comes waits for
    /// it, where nothing in the block writes it there.
    pub(super) fn further_in(&mut self, id: usize) {
        let (Kind::Fill(keep) | Kind::Drain(keep)) = self.movers[id].kind else {
            return;
        };
        let (tensor, outer) = (self.movers[id].tensor, self.movers[id].outer);
        let same = |k: &super::plan::Kept| k.tensor == tensor && k.memory == outer;
        let Some(around) = self.keeps.iter().position(same) else {
            return;
        };
        let inside = |a: &Tile, b: &Tile| {
            a.iter()
                .zip(b)
                .all(|(a, b)| b.0 <= a.0 && a.0 + a.1 <= b.0 + b.1)
        };
        let outside = &self.keeps[around];
        let holds = |n: usize| {
            let mine = self.keeps[keep].tiles.iter().find(|t| t.1 == n)?;
            let tile = outside.tiles.iter().find(|t| inside(&mine.0, &t.0))?.1;
            Some((around, tile))
        };
        let all: Vec<_> = (0..self.movers[id].words.len()).map(holds).collect();
        if let (Kind::Fill(_), Some(fill)) = (&self.movers[id].kind, outside.fill) {
            let comes = |tile: &Option<(usize, usize)>| tile.map(|(_, tile)| (fill, tile));
            if self.movers[id].after.iter().all(Option::is_none) {
                self.movers[id].after = all.iter().map(comes).collect();
            }
        }
        self.movers[id].around = all;
    }

    /// All words that each request of a movement stands for.
    pub(super) fn moved_tiles(
        &self,
        projection: &Projection,
        drafts: &[Draft<'_>],
        id: usize,
    ) -> Vec<Words> {
        let mover = &self.movers[id];
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
                let of = |t: &Task| t.steps.iter().flat_map(|s| words(s, projection)).collect();
                drafts[op].tasks.iter().map(of).collect()
            }
        }
    }
}

/// Whether two tasks walk the same steps: each step of one makes what the same step of the other reads, and no other.
fn alike(
    (from, made, own): (&BoundEinsum, &Task, &Projection),
    (to, read, projection): (&BoundEinsum, &Task, &Projection),
    seen: &dyn Fn(&Tile) -> Words,
) -> bool {
    made.steps.len() == read.steps.len()
        && made.fold == read.fold
        && made.steps.windows(2).all(|pair| !stays(from, pair, own))
        && read
            .steps
            .windows(2)
            .all(|pair| !stays(to, pair, projection))
        && made
            .steps
            .iter()
            .zip(&read.steps)
            .all(|(a, b)| words(a, own) == seen(b))
}
