//! The search for what a block leaves open: sizes and the order of its outer loops.
//!
//! Deterministic and bounded: candidates for a size are ceil(n / k) for k up to 16 and the powers of two below, orders
//! are all permutations; the first of the best is taken, and the search ends where nothing moves twice. Best is least traffic to the outermost memory, then
//! least time, then fewest accesses to the other memories.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems};
use einflow_workloads::cascade::{TensorId, TensorKind};

use super::{
    context::Context,
    sizes::{Found, Rule, cut_count, fits, settle},
    transfers::transfers,
};
use crate::{
    count::{Count, cycles, traffic},
    mapped::Block,
    spec::{Room, SizeRule},
};

/// Loops of which every order is tried.
const MAX_SEARCHED_LOOPS: usize = 6;
/// More trials than this are refused.
const MAX_TRIALS: usize = 200_000;
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
    let searched: Vec<&Rule<'_>> = rules
        .iter()
        .filter(|(_, r)| matches!(r, SizeRule::Searched))
        .collect();
    let mut start = shared.clone();
    start.extend(rules.iter().map(|(name, _)| (name.text.clone(), 1)));
    if searched.is_empty() && orders.len() == 1 {
        let sizes = complete(context, index, start, rules)?;
        return Ok(Found {
            sizes,
            order: orders[0].clone(),
        });
    }
    let mut candidates = Vec::new();
    for (name, _) in &searched {
        candidates.push(tiles(cut_count(context, &[index], name, &start)?));
    }
    let trials = candidates
        .iter()
        .map(Vec::len)
        .fold(orders.len(), usize::saturating_mul);
    if trials > MAX_TRIALS {
        return Err(Problem::at(&context.spec.source, spec.span, format!(
            "block {:?} leaves {trials} combinations to search, and at most {MAX_TRIALS} are tried", spec.name
        ))
        .help("give some of its sizes a value")
        .into());
    }
    let mut best: Option<(Score, Found)> = None;
    let mut last_refusal = None;
    let mut at = vec![0usize; candidates.len()];
    'all: loop {
        let mut sizes = start.clone();
        for ((name, _), (choice, list)) in searched.iter().zip(at.iter().zip(&candidates)) {
            sizes.insert(name.text.clone(), list[*choice]);
        }
        // What fits does not depend on the order of the loops around the tiles.
        let fitting = complete(context, index, sizes, rules).map(|s| {
            Some(s).filter(|s| fits(context, index, s, &Room::default()).unwrap_or(false))
        });
        match fitting {
            Ok(Some(sizes)) => {
                for order in &orders {
                    match try_one(context, index, &sizes, order) {
                        Ok((score, least)) => {
                            if best.as_ref().is_none_or(|(b, _)| score < *b) {
                                best = Some((
                                    score,
                                    Found {
                                        sizes: sizes.clone(),
                                        order: order.clone(),
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
            Ok(None) => {}
            Err(problems) => last_refusal = Some(problems),
        }
        if !advance(&mut at, &candidates) {
            break;
        }
    }
    match (best, last_refusal) {
        (Some((_, found)), _) => Ok(found),
        (None, Some(problems)) => Err(problems),
        // Nothing fits: the smallest tiles show by how much.
        (None, None) => Ok(Found {
            sizes: start,
            order: orders[0].clone(),
        }),
    }
}

/// Traffic to the outermost memory, cycles, other accesses.
type Score = (Count, Count, Count);

/// Scores one combination; true where it moves no more than it must.
fn try_one(
    context: &Context<'_>,
    index: usize,
    sizes: &BTreeMap<String, u64>,
    order: &[usize],
) -> Result<(Score, bool), Problems> {
    let mut block = context.build(index, sizes, order)?;
    block.transfers = transfers(context, index, &block)?;
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

/// Settles the sizes that are not searched, in order.
fn complete(
    context: &Context<'_>,
    index: usize,
    mut sizes: BTreeMap<String, u64>,
    rules: &[Rule<'_>],
) -> Result<BTreeMap<String, u64>, Problems> {
    for position in 0..rules.len() {
        settle(
            context,
            &[index],
            &rules[position..],
            &mut sizes,
            &|s, room| fits(context, index, s, room),
        )?;
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

fn advance(at: &mut [usize], candidates: &[Vec<u64>]) -> bool {
    for (i, list) in at.iter_mut().zip(candidates).rev() {
        *i += 1;
        if *i < list.len() {
            return true;
        }
        *i = 0;
    }
    false
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
