//! Words that pass links, and how many of these each of them passes.

use einflow_arch::Counting;

use crate::{
    count::{Count, exchanges, transferred},
    mapped::{Block, BoundEinsum, Passing, PassingWords},
    nest::{CountError, Projection, Reuse, moved_within},
};

/// Words times links that they pass, for each of those [`BoundEinsum::passing`] of a block that `counted` asks for.
///
/// # Errors
/// Overflow of 128 bits, or a nest that cannot be counted.
pub fn passed(
    block: &Block,
    counting: Counting,
    counted: impl Fn(&Passing) -> bool,
) -> Result<Vec<(&Passing, Count)>, CountError> {
    let einsums = || block.nests.iter().flat_map(|n| &n.einsums);
    let all: Vec<(&BoundEinsum, &Passing)> = einsums()
        .flat_map(|e| e.passing.iter().map(move |p| (e, p)))
        .filter(|(_, p)| counted(p))
        .collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let transfers = &block.transfers;
    let moved = transfers.iter().map(|t| transferred(&block.space, t));
    let moved = moved.collect::<Result<Vec<_>, _>>()?;
    let made = exchanges(transfers, &moved, counting)?;
    let hops = |(einsum, p): (&BoundEinsum, &'_ Passing)| {
        let stepwise = |words: &Projection, reuse| stepwise(block, einsum, words, reuse);
        let words = match &p.of {
            PassingWords::Moved(transfer) => moved[*transfer].words,
            PassingWords::Returned(transfer) => made[*transfer].returned,
            PassingWords::Changing(words) => stepwise(words, Reuse::Previous)?,
            PassingWords::Added { parts, sums, reuse } => {
                let (parts, sums) = (stepwise(parts, *reuse)?, stepwise(sums, *reuse)?);
                parts.checked_sub(sums).ok_or(CountError::Overflow)?
            }
        };
        p.hops.times(words).ok_or(CountError::Overflow)
    };
    all.into_iter()
        .map(|(e, p)| Ok((p, hops((e, p))?)))
        .collect()
}

/// Words that come new with the steps of an Einsum.
fn stepwise(
    block: &Block,
    einsum: &BoundEinsum,
    words: &Projection,
    reuse: Reuse,
) -> Result<u128, CountError> {
    let loops: Vec<_> = einsum.loops.iter().map(|l| l.cut).collect();
    let tiles = einsum.shared_loops().len();
    Ok(moved_within(&block.space, &loops, tiles, words, reuse)?.words)
}
