//! The pace that links leave the Einsums of a block: how long a step takes, and what is loaded for longer than it stays.

use einflow_spec::Problems;

use super::{
    context::Context,
    homes::{Homes, Operand, Origin},
    links::{Check, Dimension, Fault, Way},
    registers::kept,
    transfers::steps,
};
use crate::{
    mapped::{
        Block, BoundEinsum, Keep, Load, NamedLoop, Passing, PassingWords, Returns, Transfer,
        TransferKind,
    },
    nest::{Dim, Projection, Reuse},
};

/// Choices of ways that are tried for the words of one step.
const MOST_CHOICES: usize = 4096;

/// What pace links leave an Einsum.
pub(crate) struct Pace {
    /// Cycles from one step to the next.
    pub interval: u64,
    /// The link that takes more of them than the operators: array, link.
    pub narrow: Option<(usize, usize)>,
    /// The same while partial results come back.
    pub returns: Returns,
    /// What takes longer to pass its links than it stays.
    pub loads: Vec<Load>,
    /// What passes its links.
    pub passing: Vec<Passing>,
}

/// By nest and position.
type Paces = Vec<((usize, usize), Pace)>;

/// What pace links leave the Einsums of a block, between whose places `transfers` move words.
///
/// # Errors
/// Words that have no links to move on.
pub(crate) fn paces(
    context: &Context<'_>,
    index: usize,
    block: &Block,
    transfers: &[Transfer],
) -> Result<Paces, Problems> {
    let homes = Homes {
        context,
        index,
        block,
    };
    let check = Check { homes: &homes };
    let mut problems = Problems::new();
    let mut out = Vec::new();
    for (nest, position, einsum) in homes.einsums() {
        let mut words = Words {
            check: &check,
            at: (nest, position),
            einsum,
            transfers,
            every_step: Vec::new(),
            coming_back: Vec::new(),
            staying: Vec::new(),
            passing: Vec::new(),
        };
        for (message, help) in words.find() {
            let at = homes.binding(nest, position).0;
            problems.push(context.at(at, message).help(help));
        }
        out.push(((nest, position), words.pace()));
    }
    problems.into_result(Some(out))
}

/// Which way words go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heading {
    /// To the PEs that use them.
    In,
    /// From those that made them. What leaves after some steps is at the end of these, as the drain of an array is.
    Out,
    /// To where partial results are added to; what then stays comes as the one before leaves.
    Back,
}

/// Words that an Einsum moves over links, each in one of several ways.
struct Words<'c, 'a, 'h> {
    check: &'c Check<'a, 'h>,
    at: (usize, usize),
    einsum: &'c BoundEinsum,
    transfers: &'c [Transfer],
    /// Those of every step.
    every_step: Vec<Vec<Way>>,
    /// Partial results of every step that come back.
    coming_back: Vec<Vec<Way>>,
    /// Those that stay for some steps: by the cycles that links take for them, and steps.
    staying: Vec<(Load, u64)>,
    passing: Vec<Passing>,
}

impl Words<'_, '_, '_> {
    /// Finds all of them; what has no links to move on is told.
    fn find(&mut self) -> Vec<Fault> {
        let (check, einsum, (nest, position)) = (self.check, self.einsum, self.at);
        let homes = check.homes;
        let mut faults = Vec::new();
        let mut seen = Vec::new();
        for operand in homes.operands(nest, position) {
            let ways = match check.operand(nest, einsum, &operand) {
                Ok(ways) => ways,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            let kept = homes.registers(nest, operand.tensor, einsum.unit);
            match operand.origin {
                Origin::Memory(_) => {
                    let moved = self.operand_transfer(&operand, kept.is_some());
                    let moved = moved.filter(|t| !seen.contains(t));
                    if let Some(transfer) = moved {
                        seen.push(transfer);
                        self.passes(&ways, PassingWords::Moved(transfer));
                    }
                    if let Some((keep, _)) = kept {
                        if let Some(transfer) = moved {
                            self.kept(nest, keep, transfer, &ways);
                        }
                        continue;
                    }
                }
                Origin::Made(writer) if writer.unit != einsum.unit => {
                    let words = Projection::of(operand.dims.to_vec());
                    self.passes(&ways, PassingWords::Changing(words));
                }
                _ => {}
            }
            self.move_on(operand.dims, Heading::In, ways);
        }
        faults.extend(self.find_results());
        faults
    }

    fn find_results(&mut self) -> Vec<Fault> {
        let (check, einsum, (nest, _)) = (self.check, self.einsum, self.at);
        let homes = check.homes;
        let output = homes.output(einsum);
        let own = homes.context.projections.own(output);
        let mut faults = Vec::new();
        for dimension in [Dimension::Rows, Dimension::Columns] {
            match check.sum(einsum, &own.dims, dimension) {
                Ok(ways) => {
                    if let Some(added) = self.added(own, dimension) {
                        self.passes(&ways, added);
                    }
                    self.move_on(&own.dims, Heading::Out, ways);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let Some(memory) = homes.memory(nest, output) else {
            return faults;
        };
        let update = self.transfers.iter().position(|t| {
            t.kind == TransferKind::Update && t.einsum == self.at && t.tensor == output
        });
        let mut both = vec![(check.leave(einsum, &own.dims, memory), Heading::Out)];
        if !self.returning().is_empty() {
            both.push((check.come_back(einsum, &own.dims, memory), Heading::Back));
        }
        let kept = homes.registers(nest, output, einsum.unit);
        for (found, way) in both {
            let ways = match found {
                Ok(ways) => ways,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            if let Some(update) = update {
                let back = way == Heading::Back;
                let words = if back {
                    PassingWords::Returned
                } else {
                    PassingWords::Moved
                };
                self.passes(&ways, words(update));
            }
            if kept.is_none() {
                self.move_on(&own.dims, way, ways);
            }
        }
        faults
    }

    /// The transfer that counts an operand from a memory.
    fn operand_transfer(&self, operand: &Operand<'_>, kept: bool) -> Option<usize> {
        self.transfers.iter().position(|t| {
            t.kind == TransferKind::Operand
                && t.einsum == self.at
                && t.tensor == operand.tensor
                && (kept || t.projection.dims == operand.dims)
        })
    }

    /// Of several ways words take the one over the fewest links, of equals the first.
    fn passes(&mut self, ways: &[Way], of: PassingWords) {
        let hops = |way: &Way| way.iter().map(|p| p.hops.as_f64()).sum::<f64>();
        let way = ways.iter().min_by(|a, b| hops(a).total_cmp(&hops(b)));
        self.passing
            .extend(way.into_iter().flatten().map(|p| Passing {
                array: p.unit,
                link: p.link,
                of: of.clone(),
                hops: p.hops,
            }));
    }

    /// What lanes of a dimension add up; none where they do not.
    fn added(&self, own: &Projection, dimension: Dimension) -> Option<PassingWords> {
        let einsum = self.einsum;
        let lane = |d: Dimension| d.lane(einsum).filter(|l| !l.touches_any(&own.dims));
        let digit = |lane: &NamedLoop| {
            let mut all = einsum.loops.clone();
            let lanes = einsum.rows.iter().chain(&einsum.columns);
            all.extend(lanes.filter(|l| l.cut.step > lane.cut.step).cloned());
            all.push(lane.clone());
            steps(&all, own).pop()
        };
        let mut sums = own.clone();
        // Sums down the rows, one in each column, go on along the columns.
        if dimension == Dimension::Rows
            && let Some(columns) = lane(Dimension::Columns)
        {
            sums.dims.extend(digit(columns));
        }
        let mut parts = sums.clone();
        parts.dims.push(digit(lane(dimension)?)?);
        let reuse = match einsum.partials {
            true => Reuse::Nothing,
            false => Reuse::Previous,
        };
        Some(PassingWords::Added { parts, sums, reuse })
    }

    /// Loops each further iteration of which adds to results that have left.
    fn returning(&self) -> Vec<usize> {
        let (einsum, (nest, _)) = (self.einsum, self.at);
        let homes = self.check.homes;
        let output = homes.output(einsum);
        let dims = &homes.context.projections.own(output).dims;
        let touches = |l: &NamedLoop| l.touches_any(dims);
        let kept = homes.registers(nest, output, einsum.unit);
        let mut around = kept.map_or(&einsum.loops[..], |(keep, _)| self.around(nest, keep));
        if !einsum.partials {
            let last = around.iter().rposition(touches);
            around = &around[..last.map_or(0, |at| at + 1)];
        }
        let adds = |at: &usize| around[*at].count > 1 && !touches(&around[*at]);
        (0..around.len()).filter(adds).collect()
    }

    /// The loops of the Einsum that a kept tile stands below.
    fn around(&self, nest: usize, keep: &Keep) -> &[NamedLoop] {
        let (einsum, block) = (self.einsum, self.check.homes.block);
        let loops = block.loops.iter().chain(&block.nests[nest].loops);
        let loops = loops.take(keep.depth);
        let runs = loops.filter(|l| einsum.at_exit_of.as_ref() != Some(&l.name));
        &einsum.loops[..runs.count().min(einsum.shared_loops().len())]
    }

    /// Words that pass links in every step, or stay for some. What only copies takes its links' time also for these. A
    /// sum that `partials` sends out after a step is forwarded to the next that adds to it.
    fn move_on(&mut self, dims: &[Dim], way: Heading, ways: Vec<Way>) {
        let (einsum, check) = (self.einsum, self.check);
        if changes(einsum, dims) || einsum.operators.is_empty() {
            return match way {
                Heading::Back => self.coming_back.push(ways),
                Heading::In | Heading::Out => self.every_step.push(ways),
            };
        }
        if way != Heading::In {
            return;
        }
        let load = Load {
            projection: Projection::of(dims.to_vec()),
            kept: None,
            excess: check.quickest(&ways, 1),
        };
        self.staying
            .push((load, steps_that_keep(&einsum.loops, dims)));
    }

    /// A tile that registers keep: all of its words pass the links while the one before it is used.
    fn kept(&mut self, nest: usize, keep: &Keep, transfer: usize, ways: &[Way]) {
        let (check, einsum) = (self.check, self.einsum);
        let moved = &self.transfers[transfer];
        let around = self.around(nest, keep).len();
        let (outer, inner) = einsum.loops.split_at(around);
        let inner = inner
            .iter()
            .fold(1, |steps: u64, l| steps.saturating_mul(l.count.max(1)));
        let steps = steps_that_keep(outer, &moved.projection.dims).saturating_mul(inner);
        let each = kept(check.homes, nest, einsum, keep).unwrap_or(u64::MAX);
        let load = Load {
            projection: moved.projection.clone(),
            kept: Some(transfer),
            excess: check.quickest(ways, each),
        };
        self.staying.push((load, steps));
    }

    fn pace(self) -> Pace {
        let (einsum, loops) = (self.einsum, self.returning());
        let (interval, narrow) = self.check.pace(einsum, &self.every_step);
        let mut both = self.every_step;
        both.extend(self.coming_back);
        let back = self.check.pace(einsum, &both);
        let loads = self.staying.into_iter().filter_map(|(load, steps)| {
            let meanwhile = steps.saturating_mul(interval);
            let excess = load
                .excess
                .checked_sub(meanwhile)
                .filter(|more| *more > 0)?;
            Some(Load { excess, ..load })
        });
        Pace {
            interval,
            narrow,
            returns: Returns {
                loops,
                interval: back.0,
                narrow: back.1,
            },
            loads: loads.collect(),
            passing: self.passing,
        }
    }
}

/// Whether a tensor's word is another one at every step. What stays for the steps of a tile is loaded, or leaves, beside them.
fn changes(einsum: &BoundEinsum, dims: &[Dim]) -> bool {
    let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
    let real = |loops: &[NamedLoop]| loops.iter().rev().find(|l| l.count > 1).cloned();
    // Where a tile is one step, that step follows the loops around it.
    let last = real(own).or_else(|| real(&einsum.loops));
    last.is_some_and(|l| l.touches_any(dims))
}

/// Steps of loops, one after another, for which a tensor's words stay.
fn steps_that_keep(loops: &[NamedLoop], dims: &[Dim]) -> u64 {
    let inner = loops.iter().rev();
    let inner = inner.take_while(|l| l.count <= 1 || !l.touches_any(dims));
    inner.fold(1, |steps, l| steps.saturating_mul(l.count.max(1)))
}

impl Check<'_, '_> {
    fn width(&self, unit: usize, link: usize) -> u64 {
        self.array(unit).links[link].words_per_cycle.max(1)
    }

    /// Cycles of the slowest link on the way that takes the fewest, for so many words of each PE.
    fn quickest(&self, ways: &[Way], words: u64) -> u64 {
        let slowest = |way: &Way| {
            let all = way.iter().map(|p| (p, p.words.saturating_mul(words)));
            let each = all.map(|(p, words)| words.div_ceil(self.width(p.unit, p.link)));
            each.max().unwrap_or(0)
        };
        ways.iter().map(slowest).min().unwrap_or(0)
    }

    /// What a step takes, its words going on those of their ways that leave the slowest link the least to do.
    fn pace(&self, einsum: &BoundEinsum, moved: &[Vec<Way>]) -> (u64, Option<(usize, usize)>) {
        // Each choice of a way for each word is a number in a mixed base.
        let choices = moved.iter().map(Vec::len);
        let choices = choices.fold(1usize, usize::saturating_mul);
        let slowest = |choice: usize| {
            let mut on: Vec<((usize, usize), u64)> = Vec::new();
            let mut rest = choice;
            for ways in moved {
                for p in &ways[rest % ways.len()] {
                    match on.iter_mut().find(|(at, _)| *at == (p.unit, p.link)) {
                        Some((_, sum)) => *sum = sum.saturating_add(p.words),
                        None => on.push(((p.unit, p.link), p.words)),
                    }
                }
                rest /= ways.len();
            }
            let takes = on
                .into_iter()
                .map(|(at, words)| (words.div_ceil(self.width(at.0, at.1)), at));
            // Of equals the first.
            takes.rev().max_by_key(|(cycles, _)| *cycles)
        };
        let all = (0..choices.min(MOST_CHOICES)).map(slowest);
        match all.min_by_key(|found| found.map_or(0, |(cycles, _)| cycles)) {
            Some(Some((cycles, at))) if cycles > einsum.cycles => (cycles, Some(at)),
            // From register to register a word takes a cycle.
            _ => (einsum.cycles.max(1), None),
        }
    }
}
