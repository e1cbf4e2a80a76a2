//! The search for what a block leaves open: sizes, the order of its outer loops, and which optional places it keeps.
//!
//! Deterministic and bounded: candidates for a size are ceil(n / k) for k up to 16 and the powers of two below, orders
//! are all permutations; the first of the best is taken, and the search ends where nothing moves twice. Best is least traffic to the outermost memory, then
//! least time, then fewest accesses to the other memories.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, Span};
use einflow_workloads::cascade::{TensorId, TensorKind};

use super::{
    context::Context,
    outermost::{Outermost, placed_by_loop},
    ranks::Parts,
    sizes::{Found, Rule, cut_count, fits, reads, settle},
    transfers::transfers,
};
use crate::{
    count::{Count, cycles, traffic},
    mapped::Block,
    spec::{Name, Room, SizeRule},
};

/// Loops of which every order is tried.
const MAX_SEARCHED_LOOPS: usize = 6;
/// More trials than this are refused.
const MAX_TRIALS: usize = 200_000;
/// More places that may be left out than this make more trials than that.
const MAX_OPTIONAL: usize = 18;
/// Tiles that cut a rank into up to so many are all tried.
const FINE_QUOTIENTS: u64 = 16;

/// Finds the sizes and the loop order of one block.
pub(crate) fn block(
    context: &Context<'_>,
    index: usize,
    shared: &BTreeMap<String, u64>,
    rules: &[Rule<'_>],
) -> Result<Found, Problems> {
    let spec = &context.spec.blocks[index];
    if let Some(extra) = spec.searched_loops.get(MAX_SEARCHED_LOOPS) {
        return Err(context
            .at(
                extra,
                format!(
                    "{} loops are to be ordered by search, and at most {MAX_SEARCHED_LOOPS} can be",
                    spec.searched_loops.len()
                ),
            )
            .help("put some of them into `loops`, in a fixed order")
            .into());
    }
    let orders = permutations(spec.searched_loops.len());
    let searched: Vec<&Name> = rules
        .iter()
        .filter(|(_, r)| matches!(r, SizeRule::Searched))
        .map(|(name, _)| *name)
        .collect();
    let optional = optional(context, index);
    let mut start = shared.clone();
    start.extend(rules.iter().map(|(name, _)| (name.text.clone(), 1)));
    if searched.is_empty() && orders.len() == 1 && optional.is_empty() {
        let sizes = complete(context, index, start, rules, &[], &mut BTreeMap::new())?;
        return Ok(Found {
            sizes,
            order: orders[0].clone(),
            without: Vec::new(),
        });
    }
    let kept = subsets(&optional);
    let most = MAX_TRIALS / orders.len().saturating_mul(kept.len()).max(1);
    let trials = choices(context, index, &start, rules, &searched, most)?;
    let Some(trials) = trials else {
        return Err(Problem::at(
            &context.spec.source,
            spec.span,
            format!(
                "block {:?} leaves more than {MAX_TRIALS} combinations to search",
                spec.name
            ),
        )
        .help("give some of its sizes a value")
        .into());
    };
    let mut best: Option<(Score, Found)> = None;
    let mut last_refusal = None;
    let mut last = BTreeMap::new();
    'all: for without in &kept {
        for values in &trials.values {
            let trial = trials.sizes(&start, values);
            // Sizes that are yet to be fitted are at their least: where those do not fit, none do.
            if !fits(context, index, &trial, without, &Room::default()).unwrap_or(true) {
                continue;
            }
            // What fits does not depend on the order of the loops around the tiles.
            let fitting = complete(context, index, trial, rules, without, &mut last).map(|s| {
                Some(s)
                    .filter(|s| fits(context, index, s, without, &Room::default()).unwrap_or(false))
            });
            let sizes = match fitting {
                Ok(Some(sizes)) => sizes,
                Ok(None) => continue,
                Err(problems) => {
                    last_refusal = Some(problems);
                    continue;
                }
            };
            let mut outermost = None;
            for order in &distinct(context, index, &sizes, &orders) {
                // No order of the tiles is built that must move more than the best.
                if let Some((best, _)) = &best {
                    let known = outermost.get_or_insert_with(|| {
                        let first = build(context, index, &sizes, order, without).ok()?;
                        Outermost::new(context, index, first, order)
                    });
                    let moved = known.as_mut().and_then(|o| o.moved(order));
                    if moved.is_some_and(|moved| moved > best.0) {
                        continue;
                    }
                }
                match try_one(context, index, &sizes, order, without) {
                    Ok((score, least)) => {
                        debug_assert!(
                            outermost
                                .as_mut()
                                .and_then(|o: &mut Option<Outermost<'_>>| o.as_mut()?.moved(order))
                                .is_none_or(|moved| moved == score.0),
                            "reordering a block's transfers moves what building it anew does"
                        );
                        if best.as_ref().is_none_or(|(b, _)| score < *b) {
                            best = Some((
                                score,
                                Found {
                                    sizes: sizes.clone(),
                                    order: order.to_vec(),
                                    without: without.clone(),
                                },
                            ));
                        }
                        if least {
                            break 'all;
                        }
                    }
                    Err(problems) => last_refusal = Some(problems),
                }
            }
        }
    }
    match (best, last_refusal) {
        (Some((_, found)), _) => Ok(found),
        (None, Some(problems)) => Err(problems),
        // Nothing fits: the smallest tiles show by how much.
        (None, None) => Ok(Found {
            sizes: start,
            order: orders[0].clone(),
            without: optional,
        }),
    }
}

/// The places of a block that its search may leave out.
pub(crate) fn optional(context: &Context<'_>, index: usize) -> Vec<Span> {
    let spec = &context.spec.blocks[index];
    let keeps = spec.keep.iter();
    let keeps = keeps.chain(spec.nests.iter().flat_map(|n| &n.keep));
    let places = keeps
        .filter_map(|k| k.places.pick(context.row, &context.spec.source).ok())
        .flatten();
    places
        .filter(|p| p.optional)
        .map(|p| p.memory.span)
        .collect()
}

/// All subsets, the largest first: a place is kept only where that is better.
fn subsets(places: &[Span]) -> Vec<Vec<Span>> {
    let mut out = vec![Vec::new()];
    // So many that the bound on trials refuses them.
    for place in places.iter().take(MAX_OPTIONAL) {
        out = out
            .iter()
            .map(|kept| kept.iter().copied().chain([*place]).collect())
            .chain(out.iter().cloned())
            .collect();
    }
    out
}

/// The sizes to try: every candidate of every searched size, each cut from what the finer parts of its rank leave.
/// None where there are more than `most`.
fn choices<'a>(
    context: &Context<'_>,
    index: usize,
    start: &BTreeMap<String, u64>,
    rules: &[Rule<'_>],
    searched: &[&'a Name],
    most: usize,
) -> Result<Option<Choices<'a>>, Problems> {
    let finer = |name: &Name| {
        let splits = context.splits(&context.spec.blocks[index]);
        let mut parts = splits.into_iter().map(|(_, parts)| parts);
        let found = parts.find_map(|parts| {
            let at = parts.iter().position(|p| p.text == name.text)?;
            let inside = parts[at + 1..].iter();
            Some(inside.map(|p| p.text.clone()).collect::<Vec<_>>())
        });
        found.unwrap_or_default()
    };
    // In the order of the file, but a part after those that it is cut into.
    let mut left: Vec<(&'a Name, Vec<String>)> = searched.iter().map(|n| (*n, finer(n))).collect();
    let mut open: Vec<&str> = searched.iter().map(|n| n.text.as_str()).collect();
    let mut choices = Choices {
        names: Vec::new(),
        values: vec![Vec::new()],
    };
    while !left.is_empty() {
        let free =
            |(_, finer): &(&Name, Vec<String>)| !finer.iter().any(|f| open.contains(&f.as_str()));
        let (name, _) = left.remove(left.iter().position(free).unwrap_or(0));
        let mut next = Vec::new();
        for values in &choices.values {
            let mut sizes = choices.sizes(start, values);
            settle_known(context, index, rules, &open, &mut sizes)?;
            for candidate in tiles(cut_count(context, &[index], name, &sizes)?) {
                if next.len() == most {
                    return Ok(None);
                }
                next.push(values.iter().copied().chain([candidate]).collect());
            }
        }
        open.retain(|o| *o != name.text);
        choices.names.push(&name.text);
        choices.values = next;
    }
    Ok(Some(choices).filter(|c| c.values.len() <= most))
}

/// Values of the searched sizes, trial by trial.
struct Choices<'a> {
    names: Vec<&'a str>,
    values: Vec<Vec<u64>>,
}

impl Choices<'_> {
    fn sizes(&self, start: &BTreeMap<String, u64>, values: &[u64]) -> BTreeMap<String, u64> {
        let mut sizes = start.clone();
        let chosen = self.names.iter().zip(values);
        sizes.extend(chosen.map(|(name, value)| ((*name).to_string(), *value)));
        sizes
    }
}

/// Gives the expressions their values that read nothing which is `open` still or is to fit what is.
fn settle_known(
    context: &Context<'_>,
    index: usize,
    rules: &[Rule<'_>],
    open: &[&str],
    sizes: &mut BTreeMap<String, u64>,
) -> Result<(), Problems> {
    let mut unknown: Vec<&str> = open.to_vec();
    for (position, (name, rule)) in rules.iter().enumerate() {
        match rule {
            SizeRule::Searched => {}
            SizeRule::Expr(_) if !reads(rule).iter().any(|r| unknown.contains(r)) => settle(
                context,
                &[index],
                &rules[position..],
                sizes,
                None,
                &|_, _| Ok(true),
            )?,
            _ => unknown.push(&name.text),
        }
    }
    Ok(())
}

/// The orders that differ: a loop of one iteration may stand anywhere.
fn distinct<'o>(
    context: &Context<'_>,
    index: usize,
    sizes: &BTreeMap<String, u64>,
    orders: &'o [Vec<usize>],
) -> Vec<&'o [usize]> {
    let spec = &context.spec.blocks[index];
    let all = || orders.iter().map(Vec::as_slice);
    let Some(counts) = counts(context, index, sizes).filter(|_| !placed_by_loop(spec)) else {
        return all().collect();
    };
    let mut seen: Vec<Vec<usize>> = Vec::new();
    all()
        .filter(|order| {
            let moving = order.iter().copied().filter(|i| counts[*i] > 1).collect();
            let new = !seen.contains(&moving);
            seen.push(moving);
            new
        })
        .collect()
}

/// Iterations of the searched loops.
fn counts(context: &Context<'_>, index: usize, sizes: &BTreeMap<String, u64>) -> Option<Vec<u64>> {
    let spec = &context.spec.blocks[index];
    let source = &context.spec.source;
    let splits = context.splits(spec);
    let parts = Parts::new(context.cascade, context.ranks, &splits, sizes, source).ok()?;
    let loops = spec.searched_loops.iter();
    loops
        .map(|n| parts.find_loop(n, source).ok().map(|l| l.count))
        .collect()
}

/// Traffic to the outermost memory, cycles, other accesses.
type Score = (Count, Count, Count);

/// A block with its transfers.
fn build(
    context: &Context<'_>,
    index: usize,
    sizes: &BTreeMap<String, u64>,
    order: &[usize],
    without: &[Span],
) -> Result<Block, Problems> {
    let mut block = context.build(index, sizes, order, without)?;
    block.transfers = transfers(context, index, &block)?;
    Ok(block)
}

/// Scores one combination; true where it moves no more than it must.
fn try_one(
    context: &Context<'_>,
    index: usize,
    sizes: &BTreeMap<String, u64>,
    order: &[usize],
    without: &[Span],
) -> Result<(Score, bool), Problems> {
    let block = build(context, index, sizes, order, without)?;
    let (score, compulsory) = score(context, &block).ok_or_else(|| {
        let spec = &context.spec.blocks[index];
        Problems::from(Problem::at(
            &context.spec.source,
            spec.span,
            format!("the counts of block {:?} overflow", spec.name),
        ))
    })?;
    let least = score.0 <= Count::whole(compulsory);
    Ok((score, least))
}

fn score(context: &Context<'_>, block: &Block) -> Option<(Score, u128)> {
    let accelerator = context.accelerator;
    let memories = accelerator.memories.len();
    let traffic = traffic(
        block,
        accelerator.counting,
        memories,
        context.cascade.tensors.len(),
    )
    .ok()?;
    let time = cycles(block, accelerator.arrays.len()).ok()?;
    let outermost = traffic.of_memory(0)?.total()?;
    let inner = (1..memories).try_fold(Count::default(), |sum, m| {
        sum.plus(traffic.of_memory(m)?.total()?)
    })?;
    let mut compulsory = 0u128;
    for (i, tensor) in context.cascade.tensors.iter().enumerate() {
        if tensor.kind == TensorKind::View || traffic.get(0, i).total()?.is_zero() {
            continue;
        }
        let own = context.projections.own(TensorId(i));
        let all: Vec<u64> = block.space.sizes.clone();
        compulsory = compulsory.checked_add(crate::nest::footprint(&block.space, &all, own))?;
    }
    Some(((outermost, Count::whole(time.compute), inner), compulsory))
}

/// Settles the sizes that are not searched, in order. What fits now is near what fitted `last`.
fn complete(
    context: &Context<'_>,
    index: usize,
    mut sizes: BTreeMap<String, u64>,
    rules: &[Rule<'_>],
    without: &[Span],
    last: &mut BTreeMap<String, u64>,
) -> Result<BTreeMap<String, u64>, Problems> {
    for (position, (name, rule)) in rules.iter().enumerate() {
        settle(
            context,
            &[index],
            &rules[position..],
            &mut sizes,
            last.get(&name.text).copied(),
            &|s, room| fits(context, index, s, without, room),
        )?;
        if let (SizeRule::LargestThatFits(_), Some(size)) = (rule, sizes.get(&name.text)) {
            last.insert(name.text.clone(), *size);
        }
    }
    Ok(sizes)
}

/// Candidates for a tile of `n`: ceil(n / k) while k is small, then powers of two, descending.
fn tiles(n: u64) -> Vec<u64> {
    let mut out: Vec<u64> = (1..=FINE_QUOTIENTS)
        .map(|parts| n.div_ceil(parts))
        .collect();
    let last = n.div_ceil(FINE_QUOTIENTS);
    out.extend(
        (0..u64::BITS)
            .map(|bit| 1 << bit)
            .filter(|size| *size < last),
    );
    out.sort_unstable_by(|a, b| b.cmp(a));
    out.dedup();
    out
}

/// All orders of `n` loops, the one of the file first.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut out = Vec::new();
    for first in 0..n {
        for rest in permutations(n - 1) {
            let shifted = rest.into_iter().map(|i| if i >= first { i + 1 } else { i });
            out.push(std::iter::once(first).chain(shifted).collect());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{permutations, tiles};

    #[test]
    fn candidates() {
        assert_eq!(tiles(10), [10, 5, 4, 3, 2, 1]);
        assert_eq!(tiles(1), [1]);
        assert_eq!(tiles(4096).len(), 16 + 8); // 4096/1 ... 4096/16 = 256, then 128 ... 1
        assert_eq!(permutations(2), [[0, 1], [1, 0]]);
        assert_eq!(permutations(3).len(), 6);
    }
}
