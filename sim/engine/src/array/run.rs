//! A group at work: step by step, every PE of the array.

use super::{
    arrays::{Arrays, Done},
    error::ArrayError,
    kernel::Reduction,
    plan::Lane,
    tensors::NOT_MADE,
    work::{NO_WORD, Operand, length},
};
use crate::{
    events::{Machine, Turn, issued},
    program::Tile,
};
use einflow_spec::{Rounding, with_rounding};

/// An operand's words of a step at the edges of the array.
struct Side<'a> {
    values: &'a [f64],
    operand: &'a Operand,
}

/// Those of one row of PEs: the same word for all, or one for each column.
struct RowOf<'a> {
    values: &'a [f64],
    base: i64,
    columns: &'a [i64],
}

impl<'a> Side<'a> {
    fn row(&self, i: usize) -> RowOf<'a> {
        let row = self.operand.rows.get(i).copied().unwrap_or(0);
        RowOf {
            values: self.values,
            base: self.operand.base + row,
            columns: &self.operand.columns,
        }
    }
}

impl RowOf<'_> {
    #[inline(always)]
    fn at(&self, j: usize) -> f64 {
        let column = self.columns.get(j).copied().unwrap_or(0);
        self.values[(self.base + column) as usize]
    }
}

impl Arrays<'_> {
    /// Runs the steps of a group from `at` on, in the order of issue.
    pub fn run_group(
        &mut self,
        machine: &Machine<'_>,
        turn: &Turn,
        at: u64,
    ) -> Result<(), ArrayError> {
        let tiles = turn.members.iter().map(|m| machine.state.ops[*m].tile);
        let tiles: Vec<Tile> = tiles.collect();
        for (member, steps) in turn.members.iter().zip(&turn.steps) {
            self.done[*member].push(Done {
                place: machine.state.ops[*member].place,
                end: at + steps.end(),
            });
            self.works[*member].tile = None;
        }
        for slot in issued(&turn.steps) {
            let member = turn.members[slot.member];
            let tile = &tiles[slot.member];
            let op = &self.program.ops[member];
            let inside = op.step_tile(tile, slot.step);
            self.execute(machine, member, &inside, at + slot.time)?;
            let after = slot.step + 1;
            let next = (after < turn.steps[slot.member].count).then(|| op.step_tile(tile, after));
            if self.leaves(member, next.as_ref()) {
                self.flush(member, at + slot.time + turn.steps[slot.member].cycles);
            }
        }
        for (member, tile) in turn.members.iter().zip(&tiles) {
            self.count_tasks(*member, tile);
        }
        Ok(())
    }

    /// Words that move when the task changes, not the step.
    fn count_tasks(&mut self, member: usize, tile: &Tile) {
        for counter in self.plans[member].counters.iter_mut().flatten() {
            if counter.by_task {
                let tile = self.program.counted_tile(tile, &counter.moved);
                self.words[counter.transfer] += counter.step(&tile);
            }
        }
    }

    /// Whether the words that a member works on leave its PEs before the next step.
    fn leaves(&self, member: usize, next: Option<&Tile>) -> bool {
        let plan = &self.plans[member];
        let work = &self.works[member];
        let Some(now) = work.tile.as_ref() else {
            return false;
        };
        let Some(next) = next else { return true };
        if plan.bound.partials {
            return true;
        }
        // Without a reduction every step makes words of its own.
        plan.kernel.reduction == Reduction::None
            || plan.output.parts.iter().any(|p| {
                let lane = |l: Option<Lane>| l.is_some_and(|l| l.rank == p.rank);
                if lane(plan.rows) || lane(plan.columns) {
                    now[p.rank].0 != next[p.rank].0
                } else {
                    p.table[now[p.rank].0 as usize] != p.table[next[p.rank].0 as usize]
                }
            })
    }

    /// One step of one member in all PEs, at a cycle of PE (0, 0)'s time.
    fn execute(
        &mut self,
        machine: &Machine<'_>,
        member: usize,
        tile: &Tile,
        cycle: u64,
    ) -> Result<(), ArrayError> {
        for counter in self.plans[member].counters.iter_mut().flatten() {
            if !counter.by_task {
                let tile = self.program.counted_tile(tile, &counter.moved);
                self.words[counter.transfer] += counter.step(&tile);
            }
        }
        let plan = &self.plans[member];
        let (rows, columns) = (
            length(plan.rows, plan.columns, tile),
            length(plan.columns, plan.rows, tile),
        );
        let fresh = self.works[member].tile.is_none();
        if fresh {
            self.begin(machine, member, tile, rows, columns);
        }
        self.works[member].tile = Some(*tile);
        let crossed = matches!((self.plans[member].rows, self.plans[member].columns), (Some(a), Some(b)) if a.rank == b.rank);
        for i in 0..self.plans[member].reads.len() {
            if !crossed && !self.plans[member].reads[i].checked() {
                self.feed(member, i, tile, rows, columns);
            }
            if self.program.ops[member].reads[i].maker.is_some() {
                self.check_words(machine, member, i, tile, cycle)?;
            }
            self.check_kept(member, i, tile, cycle)?;
        }
        if !crossed {
            self.check_links(member, fresh, cycle)?;
        }
        let plan = &self.plans[member];
        let plain = !crossed
            && plan.kernel.unconditional()
            && plan.reads.iter().all(|r| !r.checked())
            && plan
                .read_tensors
                .iter()
                .all(|t| !self.tensors[*t].masked && self.tensors[*t].layout.iterative.is_none());
        if let (true, Some((a, b))) = (plain, plan.kernel.mac) {
            self.multiply(member, a, b, rows, columns);
            return Ok(());
        }
        self.points(member, tile, rows, columns);
        Ok(())
    }

    /// Clears the running values at the begin of new output words.
    fn begin(
        &mut self,
        machine: &Machine<'_>,
        member: usize,
        tile: &Tile,
        rows: usize,
        columns: usize,
    ) {
        let plan = &self.plans[member];
        let work = &mut self.works[member];
        let digits = &machine.state.ops[member].cursor.digits;
        let round = plan.again.iter().fold(1u64, |sum, at| {
            let count = self.program.nests[self.program.ops[member].at.0][*at].count;
            sum.wrapping_mul(count.max(1)).wrapping_add(digits[*at])
        }) as u32;
        let full_rows = plan
            .rows
            .map_or(rows, |_| work.running.len() / work.columns);
        let full_columns = plan.columns.map_or(columns, |_| work.columns);
        work.active = (0, 0);
        let identity = plan.kernel.reduction.identity();
        let keeps_on = plan.kernel.reduction != Reduction::None
            && !plan.adds_outside
            && !plan.rows.is_some_and(|l| l.shared)
            && !plan.columns.is_some_and(|l| l.shared);
        let mut point: Vec<u64> = tile.iter().map(|(first, _)| *first).collect();
        let base = point.clone();
        for i in 0..full_rows {
            for j in 0..full_columns {
                let pe = i * work.columns + j;
                work.running[pe] = identity;
                work.filled[pe] = plan.kernel.reduction != Reduction::None;
                work.word[pe] = NO_WORD;
                if i >= rows || j >= columns {
                    continue;
                }
                point.copy_from_slice(&base);
                if let Some(l) = plan.rows {
                    point[l.rank] += i as u64 * l.step;
                }
                if let Some(l) = plan.columns {
                    point[l.rank] += j as u64 * l.step;
                }
                let inside = point
                    .iter()
                    .zip(tile)
                    .all(|(x, (first, length))| *x < first + length);
                if !inside {
                    continue;
                }
                let Some(word) = plan.output.at(&point) else {
                    continue;
                };
                work.word[pe] = word;
                if plan.kernel.reduction == Reduction::None {
                    continue;
                }
                if work.round[word] != round {
                    work.round[word] = round;
                    work.sums[word] = identity;
                }
                if keeps_on {
                    work.running[pe] = work.sums[word];
                }
            }
        }
    }

    /// Brings an operand's words of a step to the edges of the array: which word each row and each column uses.
    fn feed(&mut self, member: usize, i: usize, tile: &Tile, rows: usize, columns: usize) {
        let plan = &self.plans[member];
        let access = &plan.reads[i];
        let operand = &mut self.works[member].operands[i];
        let lane_rank = |l: Option<Lane>| l.map_or(usize::MAX, |l| l.rank);
        let (row_rank, column_rank) = (lane_rank(plan.rows), lane_rank(plan.columns));
        let mut base = access.constant;
        operand.before.0 = operand.base;
        std::mem::swap(&mut operand.before.1, &mut operand.rows);
        std::mem::swap(&mut operand.before.2, &mut operand.columns);
        operand.rows.clear();
        operand.columns.clear();
        for part in &access.parts {
            let first = tile[part.rank].0;
            let along = |lane: Option<Lane>, length: usize, out: &mut Vec<i64>| {
                let step = lane.map_or(1, |l| l.step);
                out.extend((0..length as u64).map(|i| part.table[(first + i * step) as usize]));
            };
            if part.rank == row_rank {
                along(plan.rows, rows, &mut operand.rows);
            } else if part.rank == column_rank {
                along(plan.columns, columns, &mut operand.columns);
            } else {
                base += part.table[first as usize];
            }
        }
        operand.base = base;
        operand.new = operand.before.0 != operand.base
            || operand.before.1 != operand.rows
            || operand.before.2 != operand.columns;
    }

    /// Multiplies and adds in every PE: both operands are there, no point is masked.
    fn multiply(&mut self, member: usize, a: usize, b: usize, rows: usize, columns: usize) {
        let plan = &self.plans[member];
        let work = &mut self.works[member];
        let side = |read: usize| Side {
            values: &self.tensors[plan.read_tensors[read]].values,
            operand: &work.operands[read],
        };
        let (left, right) = (side(a), side(b));
        let running = work.running.chunks_exact_mut(work.columns);
        with_rounding!(plan.kernel.accumulator, R => {
            for (i, sums) in running.take(rows).enumerate() {
                let (left, right) = (left.row(i), right.row(i));
                for (j, sum) in sums[..columns].iter_mut().enumerate() {
                    let product = R::round(left.at(j) * right.at(j));
                    *sum = R::round(*sum + product);
                }
            }
        });
    }

    /// Computes point by point.
    fn points(&mut self, member: usize, tile: &Tile, rows: usize, columns: usize) {
        let plan = &self.plans[member];
        let kernel = &plan.kernel;
        let mut point: Vec<u64> = tile.iter().map(|(first, _)| *first).collect();
        let base = point.clone();
        let mut operands: Vec<Option<f64>> = vec![None; plan.reads.len()];
        let mut scratch = Vec::new();
        for i in 0..rows {
            for j in 0..columns {
                point.copy_from_slice(&base);
                if let Some(l) = plan.rows {
                    point[l.rank] += i as u64 * l.step;
                }
                if let Some(l) = plan.columns {
                    point[l.rank] += j as u64 * l.step;
                }
                let mut sides = point.iter().zip(tile);
                if !sides.all(|(x, (first, length))| *x < first + length) {
                    continue;
                }
                for (o, access) in operands
                    .iter_mut()
                    .zip(&plan.reads)
                    .enumerate()
                    .map(|(o, (v, a))| ((o, v), a))
                {
                    *o.1 = self.operand(member, o.0, access.at(&point), &point);
                }
                let value = kernel.map(self.mapped, &point, &operands, &mut scratch);
                let work = &mut self.works[member];
                let pe = i * work.columns + j;
                match (kernel.reduction, value) {
                    (Reduction::None, value) => {
                        work.filled[pe] = value.is_some();
                        work.running[pe] = value.unwrap_or(0.0);
                    }
                    (_, None) => {}
                    (reduction, Some(value)) => {
                        work.running[pe] =
                            reduction.of(kernel.accumulator, work.running[pe], value);
                    }
                }
            }
        }
    }

    /// The value of an operand's word.
    fn operand(&self, member: usize, i: usize, word: Option<usize>, point: &[u64]) -> Option<f64> {
        let word = word?;
        let tensor = &self.tensors[self.plans[member].read_tensors[i]];
        let word = tensor.latest(word);
        if tensor.task[word] == NOT_MADE {
            // No point of it has been visited: its tile was left out.
            let maker = self.program.ops[member].reads[i].maker.as_ref()?;
            let kernel = &self.plans[maker.op].kernel;
            let reduces = kernel.reduction != Reduction::None;
            return (reduces && kernel.inside(self.mapped, point))
                .then(|| kernel.reduction.identity());
        }
        tensor.value(word)
    }

    /// Takes the running values out of the PEs at the end of a step: reduced along the lanes that share a word, the
    /// first PE first.
    fn flush(&mut self, member: usize, end: u64) {
        let plan = &self.plans[member];
        let work = &mut self.works[member];
        let Some(tile) = work.tile.take() else {
            return;
        };
        let kernel = &plan.kernel;
        let output = &mut self.tensors[plan.output_tensor];
        let task = self.done[member].len() as u32;
        let shared = |l: Option<Lane>| l.is_some_and(|l| l.shared);
        let (down, right) = (shared(plan.rows), shared(plan.columns));
        let rows = work.running.len() / work.columns;
        let (rows, columns) = (
            plan.rows.map_or(1, |_| rows),
            plan.columns.map_or(1, |_| work.columns),
        );
        let base: Vec<u64> = tile.iter().map(|(first, _)| *first).collect();
        for i in 0..if down { 1 } else { rows } {
            for j in 0..if right { 1 } else { columns } {
                let mut total: Option<f64> = None;
                let mut word = NO_WORD;
                for jj in if right { 0..columns } else { j..j + 1 } {
                    for ii in if down { 0..rows } else { i..i + 1 } {
                        let pe = ii * work.columns + jj;
                        if work.word[pe] == NO_WORD || !work.filled[pe] {
                            word = word.min(work.word[pe]);
                            continue;
                        }
                        word = word.min(work.word[pe]);
                        let own = work.running[pe];
                        total = Some(match total {
                            Some(sum) => kernel.reduction.of(kernel.accumulator, sum, own),
                            None => own,
                        });
                    }
                }
                if word == NO_WORD {
                    continue;
                }
                let mut value = total;
                if kernel.reduction != Reduction::None {
                    let own = total.unwrap_or_else(|| kernel.reduction.identity());
                    let sum = if plan.adds_outside || down || right {
                        kernel
                            .reduction
                            .of(kernel.accumulator, work.sums[word], own)
                    } else {
                        own
                    };
                    work.sums[word] = sum;
                    value = Some(sum);
                    if !kernel.on_output.is_empty() {
                        let mut point = base.clone();
                        if let Some(l) = plan.rows {
                            point[l.rank] += i as u64 * l.step;
                        }
                        if let Some(l) = plan.columns {
                            point[l.rank] += j as u64 * l.step;
                        }
                        if !kernel.inside(self.mapped, &point) {
                            value = None;
                        }
                    }
                }
                let value = match value {
                    Some(value) => Some(kernel.format.round(value)),
                    // A step that is not taken keeps the value before it.
                    None => {
                        let before = output.layout.before(word);
                        before.and_then(|b| output.value(output.latest(b)))
                    }
                };
                output.set(word, value);
                output.task[word] = task;
                output.made[word] = end;
            }
        }
    }
}
