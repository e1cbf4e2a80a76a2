//! The steps of a task: how many, what each covers, and at which of them words change.

use einflow_mappings::mapped::NamedLoop;
use smallvec::{SmallVec, smallvec};

use super::{
    occupied::{Sides, count, inside},
    parts::{Op, Tile},
};

/// Steps at regular distances: the first, the distance and the number of each run of them.
pub type Runs = SmallVec<[(u64, u64, u64); 2]>;

/// Which of an Einsum's step loops, as bits from the outermost on, bring other words.
pub type Follows = u64;

/// The loops that `follow` says so of.
pub(super) fn follows(steps: &[NamedLoop], follow: impl Fn(&NamedLoop) -> bool) -> Follows {
    let bits = steps.iter().zip(0u32..64).filter(|(l, _)| follow(l));
    bits.fold(0, |all, (_, bit)| all | 1 << bit)
}

impl Op {
    /// Steps of a task on this tile.
    pub fn steps_of(&self, tile: &Tile) -> u64 {
        Sides(&self.steps).iterations(tile)
    }

    /// What a step of a task covers.
    pub fn step_tile(&self, tile: &Tile, step: u64) -> Tile {
        let (mut out, mut rest) = (*tile, step);
        for (at, l) in self.steps.iter().enumerate() {
            let mut first = out;
            inside(&mut first, l, 0);
            let each = Sides(&self.steps[at + 1..]).iterations(&first).max(1);
            let digit = (rest / each).min(count(&out, l) - 1);
            rest -= digit * each;
            inside(&mut out, l, digit);
        }
        out
    }

    /// The steps of a task that bring other words than the step before, its first among them; or (`ends`) the steps
    /// after which other words follow, and its last.
    pub fn changes(&self, tile: &Tile, follows: Follows, ends: bool) -> Runs {
        self.changes_from(0, tile, follows, ends).0
    }

    /// The same of the loops from one on; and how many steps these have.
    fn changes_from(&self, at: usize, tile: &Tile, follows: Follows, ends: bool) -> (Runs, u64) {
        let loops = &self.steps[at..];
        let mut first = *tile;
        let moves = loops.iter().zip(at..).any(|(l, bit)| {
            let more = count(&first, l) > 1;
            inside(&mut first, l, 0);
            more && follows >> bit & 1 == 1
        });
        let Some(l) = loops.first().filter(|_| moves) else {
            let steps = Sides(loops).iterations(tile);
            return (smallvec![(if ends { steps - 1 } else { 0 }, 1, 1)], steps);
        };
        let part = |digit: u64| {
            let mut part = *tile;
            inside(&mut part, l, digit);
            part
        };
        let times = count(tile, l);
        let (one, each) = self.changes_from(at + 1, &part(0), follows, ends);
        let last = part(times - 1);
        let full = times - u64::from(last[l.cut.rank].1 < part(0)[l.cut.rank].1);
        let mut runs = match one.as_slice() {
            [(first, _, 1)] => smallvec![(*first, each, full)],
            [(first, stride, number)] if stride * number == each => {
                smallvec![(*first, *stride, number * full)]
            }
            runs => (0..full)
                .flat_map(|i| runs.iter().map(move |r| (r.0 + i * each, r.1, r.2)))
                .collect(),
        };
        let mut steps = full * each;
        if full < times {
            let (more, left) = self.changes_from(at + 1, &last, follows, ends);
            runs.extend(more.iter().map(|r| (r.0 + steps, r.1, r.2)));
            steps += left;
        }
        (runs, steps)
    }
}
