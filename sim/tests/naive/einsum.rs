//! An Einsum's tasks: what each reads, writes and takes.

use einflow_mappings::{
    mapped::{
        Block, BoundEinsum, Load, MappedCascade, OperandOrigin, Place, Transfer, TransferKind,
    },
    nest::Projection,
};

use super::{
    chip::{accesses_of, exit, gate, hop, inward, lie, outward, wide},
    plan::{Access, Draft, From, Kept, Kind, Need, Op, Order, Plan, Use, Work},
    unroll::{Task, Visit, stays, tasks, visits},
    words::{Tile, Words, words},
};

impl Plan {
    pub(super) fn einsum<'a>(
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
                cycles: einsum.interval as i64,
                works: einsum.cycles as i64,
                narrow: einsum.narrow,
                load: 0,
                shift: 0,
                accesses: Vec::new(),
                moves: Vec::new(),
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
        let mut loading = 0;
        let own_rows = own_lie.rows;
        for (position, operand) in einsum.operands.iter().enumerate() {
            let slow = |l: &&Load| l.projection == operand.projection;
            for load in einsum.loads.iter().filter(slow) {
                let times = times(einsum, &tasks, &operand.projection);
                for (w, times) in work.iter_mut().zip(times) {
                    w.load = w.load.max(times * load.excess as i64);
                }
            }
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
            if lies.down && lies.across {
                let link = gate(chip, memory, einsum.unit, &lies);
                let rows = own_rows.div_ceil(wide(chip, einsum.unit, link));
                loading = loading.max(rows as i64);
            }
            let new = by_task(&tasks, &visits(mapped, block, &block.transfers[transfer]));
            for (w, n) in work.iter_mut().zip(&new) {
                w.counts.push((transfer, *n));
                w.moves.push((memory, *n));
            }
            let stay = many && stays(einsum, &tasks[0].steps, &operand.projection);
            if memory == 0 {
                let mover = self.stream(Kind::Operand(index), transfer, operand.tensor.0, new);
                let hop = hop(chip, 0, einsum.unit, &lies);
                let need = Need::Stream { mover, stay, hop };
                work.iter_mut()
                    .for_each(|w| w.needs.push((position, need.clone())));
                continue;
            }
            let link = gate(chip, memory, einsum.unit, &lies);
            let (burst, rows) = accesses_of(chip, memory, &lies, wide(chip, einsum.unit, link));
            let delay = inward(chip, memory, einsum.unit, &lies);
            let keep = self.kept(operand.tensor.0, memory, at.0);
            let way = delay + burst - 1;
            let tensor = operand.tensor.0;
            let need = Need::Way {
                tensor,
                memory,
                way,
            };
            work.iter_mut()
                .for_each(|w| w.needs.push((position, need.clone())));
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
                            tensor,
                            memory,
                            way,
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
            let link = exit(chip, memory, einsum.unit);
            let (burst, rows) = accesses_of(chip, memory, &own_lie, wide(chip, einsum.unit, link));
            out = Some((delay, burst, memory));
            let counts = by_task(&tasks, &visits(mapped, block, &block.transfers[transfer]));
            let keep = self
                .kept(einsum.output.0, memory, at.0)
                .filter(|_| memory > 0);
            let all = tasks
                .iter()
                .map(|t| t.steps.iter().flat_map(|s| words(s, own)).collect());
            let back = come_back(all, &counts);
            let rest = tasks.iter().zip(&counts).zip(&back);
            for (w, ((task, count), back)) in work.iter_mut().zip(rest) {
                w.counts.push((transfer, *count));
                w.moves.push((memory, count + back));
                if *back > 0 && einsum.returns.interval > einsum.interval {
                    w.cycles = einsum.returns.interval as i64;
                    w.narrow = einsum.returns.narrow;
                }
                // What is added to comes in as it goes out.
                let rows = if *back > 0 { 2 * rows } else { rows };
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
                w.load = w.load.max(loading);
                w.shift = if own_lie.down && own_lie.across && leaves {
                    let to = out.map_or(0, |(_, _, memory)| memory);
                    let link = exit(chip, to, einsum.unit);
                    own_lie.rows.div_ceil(wide(chip, einsum.unit, link)) as i64
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
}

/// By task: how often words that stay for some steps are others than before.
fn times(einsum: &BoundEinsum, tasks: &[Task], projection: &Projection) -> Vec<i64> {
    let all = |t: usize| words_of(&tasks[t].steps, projection);
    let of = |t: usize| {
        let other = |pair: &&[Tile]| !stays(einsum, pair, projection);
        let more = tasks[t].steps.windows(2).filter(other).count();
        let there = more == 0 && t > 0 && all(t) == all(t - 1);
        (more + usize::from(!there)) as i64
    };
    (0..tasks.len()).map(of).collect()
}

fn words_of(steps: &[Tile], projection: &Projection) -> Words {
    steps.iter().flat_map(|s| words(s, projection)).collect()
}

/// Of the words that leave each time, how many have left before.
pub(super) fn come_back(all: impl Iterator<Item = Words>, moved: &[u128]) -> Vec<u128> {
    let mut seen = Words::new();
    let one = |(words, moved): (Words, &u128)| {
        let new = words.difference(&seen).count() as u128;
        seen.extend(words);
        moved.saturating_sub(new)
    };
    all.zip(moved).map(one).collect()
}

/// Words that come new in each task, step by step.
fn by_task(tasks: &[Task], visits: &[Visit]) -> Vec<u128> {
    let mut at = visits.iter();
    let one = |t: &Task| {
        let each = t.steps.iter();
        each.map(|_| at.next().map_or(0, |v| v.new.len() as u128))
            .sum()
    };
    tasks.iter().map(one).collect()
}

/// At which steps of a task an operand is read: where its words are others than a step before, and at the first,
/// unless they stay for the whole task and were there in the task before.
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
