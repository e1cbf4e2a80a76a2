//! The pace that links leave the Einsums of a block: how long a step takes, and what is loaded for longer than it stays.

use einflow_spec::Problems;

use super::{
    context::Context,
    homes::{Homes, Origin},
    links::{Check, Dimension, Fault, Way, product},
};
use crate::{
    count::Count,
    mapped::{Block, BoundEinsum, Load, NamedLoop, Passing, PassingWords},
    nest::{Dim, Projection},
};

/// Choices of ways that are tried for the words of one step.
const MOST_CHOICES: usize = 4096;

/// What pace links leave an Einsum.
pub(crate) struct Pace {
    /// Cycles from one step to the next.
    pub interval: u64,
    /// The link that takes more of them than the operators: array, link.
    pub narrow: Option<(usize, usize)>,
    /// What takes longer to load than it stays.
    pub loads: Vec<Load>,
    /// What passes its links.
    pub passing: Vec<Passing>,
}

/// By nest and position.
type Paces = Vec<((usize, usize), Pace)>;

/// What pace links leave the Einsums of a block.
///
/// # Errors
/// Words that have no links to move on.
pub(crate) fn paces(context: &Context<'_>, index: usize, block: &Block) -> Result<Paces, Problems> {
    let homes = Homes {
        context,
        index,
        block,
    };
    let check = Check { homes: &homes };
    let mut problems = Problems::new();
    let mut out = Vec::new();
    for (nest, position, einsum) in homes.einsums() {
        let at = homes.binding(nest, position).0;
        // One step's words: each in one of several ways. What only copies takes its links' time, also for words that stay.
        let mut moved: Vec<Vec<Way>> = Vec::new();
        let copies = einsum.operators.is_empty();
        let mut needed = |found: Result<Vec<Way>, Fault>, streams: bool| match found {
            Ok(ways) if streams || copies => moved.push(ways),
            Ok(_) => {}
            Err((message, help)) => problems.push(context.at(at, message).help(help)),
        };
        let mut stays = Vec::new();
        let mut passing = Vec::new();
        // Of several ways words take the one over the fewest links, of equals the first.
        let hops = |way: &Way| way.iter().map(|p| p.hops.as_f64()).sum::<f64>();
        let mut passes = |found: &Result<Vec<Way>, Fault>, of: PassingWords, each: Count| {
            let ways = found.iter().flatten();
            let way = ways.min_by(|a, b| hops(a).total_cmp(&hops(b)));
            passing.extend(way.into_iter().flatten().map(|p| Passing {
                array: p.unit,
                link: p.link,
                of,
                hops: product(p.hops, each),
            }));
        };
        // Words for each point: what lanes share comes once for all of them, and stays for some steps.
        let of_points = |dims: &[Dim]| {
            let mut each = Count::ratio(1, steps_that_keep(einsum, dims).into());
            for dimension in [Dimension::Rows, Dimension::Columns] {
                let lane = dimension.lane(einsum).filter(|l| !l.touches_any(dims));
                if let Some(lane) = lane {
                    let lanes = check.filled(einsum, lane).lanes;
                    each = each.and_then(|e| e.times(lanes.denominator())?.over(lanes.numerator()));
                }
            }
            each.unwrap_or(Count::whole(1))
        };
        let mut seen = Vec::new();
        for operand in homes.operands(nest, position) {
            let found = check.operand(nest, einsum, &operand);
            match operand.origin {
                Origin::Memory(_) if !seen.contains(&operand.tensor) => {
                    seen.push(operand.tensor);
                    passes(&found, PassingWords::Read(operand.tensor), Count::whole(1));
                }
                Origin::Made(writer) if writer.unit != einsum.unit => {
                    passes(&found, PassingWords::Points, of_points(operand.dims));
                }
                _ => {}
            }
            let streams = changes(einsum, operand.dims);
            // What registers keep for longer is loaded as they have room.
            let kept = homes.registers(nest, operand.tensor, einsum.unit);
            if let (Ok(ways), false, None) = (&found, streams || copies, kept) {
                stays.push((operand.dims, check.quickest(ways)));
            }
            needed(found, streams);
        }
        let output = homes.output(einsum);
        let dims = context.projections.own(output).dims.as_slice();
        let streams = changes(einsum, dims);
        for dimension in [Dimension::Rows, Dimension::Columns] {
            let found = check.sum(einsum, dims, dimension);
            let each = Count::ratio(1, steps_that_keep(einsum, dims).into());
            passes(
                &found,
                PassingWords::Points,
                each.unwrap_or(Count::whole(1)),
            );
            needed(found, streams);
        }
        if let Some(memory) = homes.memory(nest, output) {
            let found = check.leave(einsum, dims, memory);
            passes(&found, PassingWords::Written(output), Count::whole(1));
            needed(found, streams);
        }
        let (interval, narrow) = check.pace(einsum, &moved);
        let loads = stays.into_iter().filter_map(|(dims, cycles)| {
            let meanwhile = steps_that_keep(einsum, dims).saturating_mul(interval);
            let excess = cycles.checked_sub(meanwhile).filter(|more| *more > 0)?;
            let projection = Projection::of(dims.to_vec());
            Some(Load { projection, excess }).filter(|l| l.projection.is_plain())
        });
        let loads = loads.collect();
        let pace = Pace {
            interval,
            narrow,
            loads,
            passing,
        };
        out.push(((nest, position), pace));
    }
    problems.into_result(Some(out))
}

/// Whether a tensor's word is another one at every step. What stays for the steps of a tile is loaded, or leaves, beside them.
fn changes(einsum: &BoundEinsum, dims: &[Dim]) -> bool {
    let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
    let real = |loops: &[NamedLoop]| loops.iter().rev().find(|l| l.count > 1).cloned();
    // Where a tile is one step, that step follows the loops around it.
    let last = real(own).or_else(|| real(&einsum.loops));
    last.is_some_and(|l| l.touches_any(dims))
}

/// Steps one after another for which a tensor's words stay.
fn steps_that_keep(einsum: &BoundEinsum, dims: &[Dim]) -> u64 {
    let inner = einsum.loops.iter().rev();
    let inner = inner.take_while(|l| l.count <= 1 || !l.touches_any(dims));
    inner.fold(1, |steps, l| steps.saturating_mul(l.count.max(1)))
}

impl Check<'_, '_> {
    fn width(&self, unit: usize, link: usize) -> u64 {
        self.array(unit).links[link].words_per_cycle.max(1)
    }

    /// Cycles of the slowest link on the way that takes the fewest.
    fn quickest(&self, ways: &[Way]) -> u64 {
        let slowest = |way: &Way| {
            let each = way.iter();
            let each = each.map(|p| p.words.div_ceil(self.width(p.unit, p.link)));
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
