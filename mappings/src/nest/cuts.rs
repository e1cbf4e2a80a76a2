//! Loops as cuts of ranks, split so that each cut either steps a term's value by whole digits or
//! leaves it alone.
//!
//! A term `(x / unit) % modulus` divides its rank into blocks of `unit` and of `unit * modulus`
//! coordinates. A loop whose extent holds several blocks and whose tiles are parts of one is the
//! same as two loops: over the blocks, and within one. After the split every box that a cut makes
//! either lies within a block or starts where one starts.

use super::projection::{NONE, View};
use super::{CountError, Loop, MAX_LOOPS, MAX_RANKS, Space};

/// Loops, and two blocks for each rank at most that split one.
pub(super) const MAX_CUTS: usize = MAX_LOOPS + 2 * MAX_RANKS;

/// One loop after splitting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub step: u64,
    pub rank: u8,
    /// The next cut inward on the same rank.
    pub next: u8,
}

/// The cuts, outermost first; loops of one iteration are gone.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    cuts: [Cut; MAX_CUTS],
    len: usize,
    /// How many of them come from the leading loops whose boxes are tested for emptiness.
    pub tested: usize,
    /// Coordinates of the innermost tile of each rank, `u64::MAX` where no loop cuts it.
    pub innermost: [u64; MAX_RANKS],
}

impl Cuts {
    /// Splits loops for a projection; emptiness is tested at the first `tile_depth` of them.
    pub fn new(
        space: &Space,
        loops: &[Loop],
        tile_depth: usize,
        view: &View,
    ) -> Result<Self, CountError> {
        let mut cuts = Self {
            cuts: [Cut {
                step: 0,
                rank: 0,
                next: NONE,
            }; MAX_CUTS],
            len: 0,
            tested: 0,
            innermost: [u64::MAX; MAX_RANKS],
        };
        check_loops(space, loops)?;
        for (i, l) in loops.iter().enumerate() {
            let extent = space.sizes[l.rank].min(cuts.innermost[l.rank]);
            if l.step < extent {
                cuts.add(l, extent, view)?;
            }
            if i < tile_depth {
                cuts.tested = cuts.len;
            }
        }
        cuts.link();
        Ok(cuts)
    }

    fn add(&mut self, l: &Loop, extent: u64, view: &View) -> Result<(), CountError> {
        let unaligned = |unit| CountError::Unaligned {
            rank: l.rank,
            step: l.step,
            unit,
        };
        if let Some(term) = view.term_of(l.rank) {
            // The longer blocks first, so that each cut lies within the one before.
            for block in term
                .blocks()
                .into_iter()
                .rev()
                .filter(|&block| 1 < block && block < extent)
            {
                if l.step >= block {
                    if !l.step.is_multiple_of(block) {
                        return Err(unaligned(block));
                    }
                } else if !block.is_multiple_of(l.step) {
                    return Err(unaligned(block));
                } else {
                    self.push(l.rank, block);
                }
            }
        }
        self.push(l.rank, l.step);
        Ok(())
    }

    fn push(&mut self, rank: usize, step: u64) {
        self.cuts[self.len] = Cut {
            step,
            rank: rank as u8,
            next: NONE,
        };
        self.len += 1;
        self.innermost[rank] = step;
    }

    fn link(&mut self) {
        let mut next = [NONE; MAX_RANKS];
        for (i, cut) in self.cuts[..self.len].iter_mut().enumerate().rev() {
            cut.next = next[cut.rank as usize];
            next[cut.rank as usize] = i as u8;
        }
    }

    /// The cuts, outermost first.
    #[inline]
    pub fn all(&self) -> &[Cut] {
        &self.cuts[..self.len]
    }

    /// The first cut of each rank at or after index `from`.
    #[inline]
    pub fn first_from(&self, from: usize) -> [u8; MAX_RANKS] {
        let mut first = [NONE; MAX_RANKS];
        for (i, cut) in self.all().iter().enumerate().skip(from).rev() {
            first[cut.rank as usize] = i as u8;
        }
        first
    }

    /// The innermost tile of a rank of `extent` coordinates that holds coordinate `x`: its start,
    /// and its length.
    pub fn tile_of(&self, rank: usize, mut extent: u64, x: u64) -> (u64, u64) {
        let mut start = 0;
        for cut in self.all().iter().filter(|cut| cut.rank as usize == rank) {
            let at = (x - start) / cut.step * cut.step;
            start += at;
            extent = cut.step.min(extent - at);
        }
        (start, extent)
    }

    /// The last innermost tile of a box of `extent` coordinates that is cut by the chain that
    /// starts at cut `chain`: its offset in the box, and its length.
    #[inline]
    pub fn last_tile(&self, mut chain: u8, mut extent: u64) -> (u64, u64) {
        let mut offset = 0;
        while chain != NONE {
            let cut = &self.cuts[chain as usize];
            if extent > cut.step {
                let rest = extent % cut.step;
                let tail = if rest == 0 { cut.step } else { rest };
                offset += extent - tail;
                extent = tail;
            }
            chain = cut.next;
        }
        (offset, extent)
    }
}

/// Refuses loops that the space has no rank for, steps of zero, and too many of them.
pub(super) fn check_loops(space: &Space, loops: &[Loop]) -> Result<(), CountError> {
    if loops.len() > MAX_LOOPS {
        let found = loops.len();
        return Err(CountError::TooMany {
            what: "loops",
            found,
            limit: MAX_LOOPS,
        });
    }
    for l in loops {
        space.check_rank(l.rank)?;
        if l.step == 0 {
            return Err(CountError::Zero {
                what: "step",
                rank: l.rank,
            });
        }
    }
    Ok(())
}
