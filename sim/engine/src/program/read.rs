//! Which task of a maker a reader's task needs.

use einflow_workloads::cascade::ReadTime;

use super::{
    occupied::inside,
    parts::{Maker, Op, Program, Reach, Read, StreamKind, StreamSource, Tile},
};

/// What must have been done before a task may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the initial value.
    Nothing,
    /// The maker's tasks up to this place in its sequence.
    UpTo(u128),
}

/// Whether a tile reads no word: along some rank all lie outside the tensor.
fn misses(reach: &[Reach], tile: &Tile) -> bool {
    reach.iter().any(|along| along.misses(tile))
}

/// The place in a maker's sequence up to which a reader's tile needs it.
pub fn needed(program: &Program, op: &Op, read: &Read, maker: &Maker, tile: &Tile) -> Need {
    // Before the first step there is the initial value.
    let first = |rank: usize| tile[rank].0 + tile[rank].1 <= maker.iteration;
    if read.time == ReadTime::Previous && maker.iterative.is_some_and(first) {
        return Need::Nothing;
    }
    if misses(&maker.reach, tile) {
        return Need::Nothing;
    }
    let made = &program.ops[maker.op];
    let loops = &program.nests[made.at.0];
    let shared = made.loops.iter().map(|at| (&loops[*at], false));
    let own = shared.chain(made.folds.iter().zip(maker.sums.iter().copied()));
    let previous = (read.time == ReadTime::Previous)
        .then_some(maker.iterative)
        .flatten();
    // Steps along the iterative rank inside a task follow one another there.
    let inside_task =
        previous.is_some_and(|rank| op.steps.iter().any(|l| l.cut.rank == rank && l.count > 1));
    let mut area = program.whole;
    let mut place = 0u128;
    for (l, sums) in own {
        let rank = l.cut.rank;
        let (start, len) = area[rank];
        let last = match previous.filter(|p| *p == rank) {
            Some(_) if inside_task && tile[rank].0 == 0 => return Need::Nothing,
            Some(_) => match tile[rank].0.checked_sub(1) {
                Some(last) => last,
                None => return Need::Nothing,
            },
            None if sums => start + len.max(1) - 1,
            None => maker.reach[rank].last(tile, rank, (start, len)),
        };
        let count = len.div_ceil(l.cut.step.max(1)).max(1);
        let digit = (last.saturating_sub(start) / l.cut.step.max(1)).min(count - 1);
        place = place
            .saturating_mul(l.count.max(1).into())
            .saturating_add(digit.into());
        inside(&mut area, l, digit);
    }
    Need::UpTo(place)
}

/// The place in a stream's sequence up to which its words must be in the outer memory for another stream's tile; none
/// where it takes what is there from the start.
pub fn stored(program: &Program, source: &StreamSource, tile: &Tile) -> Option<u128> {
    if let Some((rank, by)) = source.previous
        && tile[rank].0 + tile[rank].1 <= by
    {
        return None;
    }
    if misses(&source.reach, tile) {
        return None;
    }
    let writer = &program.streams[source.stream];
    let made = &program.ops[source.op];
    let loops = &program.nests[match writer.kind {
        StreamKind::Result(_) => made.at.0,
        _ => writer.nest,
    }];
    let tasks: Vec<_> = match writer.kind {
        StreamKind::Result(_) => {
            let shared = made.loops.iter().map(|at| (&loops[*at], false));
            shared
                .chain(made.folds.iter().zip(source.sums.iter().copied()))
                .collect()
        }
        _ => loops[..writer.depth].iter().map(|l| (l, false)).collect(),
    };
    let mut area = program.whole;
    let mut place = 0u128;
    for (l, sums) in tasks {
        let (start, len) = area[l.cut.rank];
        let before = source.previous.filter(|(rank, _)| *rank == l.cut.rank);
        let last = if before.is_some() {
            tile[l.cut.rank].0.checked_sub(1)?
        } else if sums {
            start + len.max(1) - 1
        } else {
            source.reach[l.cut.rank].last(tile, l.cut.rank, (start, len))
        };
        let count = len.div_ceil(l.cut.step.max(1)).max(1);
        let digit = (last.saturating_sub(start) / l.cut.step.max(1)).min(count - 1);
        place = place
            .saturating_mul(l.count.max(1).into())
            .saturating_add(digit.into());
        inside(&mut area, l, digit);
    }
    Some(place)
}
