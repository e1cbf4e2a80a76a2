//! Loops as cuts of ranks, split so that each cut either steps a term's value by whole digits or
//! leaves it alone.
//!
//! A term `(x / unit) % modulus` divides its rank into blocks of `unit` and of `unit * modulus`
//! coordinates. A loop whose extent holds several blocks and whose tiles are parts of one is the
//! same as two loops: over the blocks, and within one. After the split every box that a cut makes
//! either lies within a block or starts where one starts.

use super::projection::{NONE, View};
use super::values::Sum;
use super::walk::mul;
use super::{CountError, Loop, MAX_LOOPS, MAX_RANKS, Space, Spread};

/// Loops, and two blocks for each rank at most that split one.
pub(super) const MAX_CUTS: usize = MAX_LOOPS + 2 * MAX_RANKS;

/// One loop after splitting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub step: u64,
    pub rank: u8,
    /// The next cut inward on the same rank.
    pub next: u8,
    pub over: Spread,
    /// Tiles of a box where nothing is partial.
    pub count: u64,
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
    /// Whether some cut lays tiles side by side.
    pub spatial: bool,
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
                over: Spread::Time,
                count: 1,
            }; MAX_CUTS],
            len: 0,
            tested: 0,
            innermost: [u64::MAX; MAX_RANKS],
            spatial: false,
        };
        check_loops(space, loops)?;
        // Ranks whose boxes are not all of one size.
        let mut uneven = [false; MAX_RANKS];
        for (i, l) in loops.iter().enumerate() {
            let mut extent = space.sizes[l.rank].min(cuts.innermost[l.rank]);
            if l.step < extent {
                let (first, last) = (cuts.len, cuts.add(l, extent, view)?);
                for cut in &mut cuts.cuts[first..last] {
                    uneven[l.rank] |= !extent.is_multiple_of(cut.step);
                    cut.count = extent.div_ceil(cut.step);
                    extent = cut.step;
                }
                if l.is_spatial() {
                    cuts.spatial = true;
                    if uneven[l.rank] {
                        let (rank, step) = (l.rank, l.step);
                        return Err(CountError::Uneven { rank, step });
                    }
                }
            }
            if i < tile_depth {
                cuts.tested = cuts.len;
            }
        }
        if cuts.spatial && space.skips() {
            return Err(CountError::SkippedInstances);
        }
        cuts.link();
        Ok(cuts)
    }

    /// Adds the cuts of a loop; says how many there are then.
    fn add(&mut self, l: &Loop, extent: u64, view: &View) -> Result<usize, CountError> {
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
                    self.push(l, block);
                }
            }
        }
        self.push(l, l.step);
        Ok(self.len)
    }

    fn push(&mut self, l: &Loop, step: u64) {
        self.cuts[self.len] = Cut {
            step,
            rank: l.rank as u8,
            next: NONE,
            over: l.over,
            count: 1,
        };
        self.len += 1;
        self.innermost[l.rank] = step;
    }

    /// Instances side by side of one kind.
    pub fn instances(&self, over: Spread) -> Result<u128, CountError> {
        let cuts = self.all().iter().filter(|cut| cut.over == over);
        cuts.map(|cut| cut.count.into()).try_fold(1, mul)
    }

    /// How far the values of dimension `d` lie apart in the tiles of the lanes of one source.
    pub fn lanes(&self, view: &View, d: usize) -> Result<Sum, CountError> {
        let mut lanes = Sum::ZERO;
        for cut in self.all().iter().filter(|cut| cut.over == Spread::Lanes) {
            self.spread(cut, view, d, &mut lanes)?;
        }
        Ok(lanes)
    }

    /// The values of dimension `d` that one source of these sends at all, or with `lane` one of
    /// its lanes takes.
    pub fn reach(
        &self,
        view: &View,
        d: usize,
        extents: &[u64; MAX_RANKS],
        lane: bool,
    ) -> Result<Sum, CountError> {
        let stays = |cut: &Cut| cut.over == Spread::Sources || (lane && cut.over == Spread::Lanes);
        let mut reach = Sum::ZERO;
        for term in view.dim(d) {
            let own = self.all().iter().filter(|cut| cut.rank == term.rank);
            let own: Vec<&Cut> = own.collect();
            // Down to the innermost cut of which one tile is taken: from there inward there are no gaps.
            let outer = own.iter().rposition(|cut| stays(cut));
            let mut extent = extents[term.rank as usize];
            for cut in &own[..outer.map_or(0, |at| at + 1)] {
                if !stays(cut) {
                    self.spread(cut, view, d, &mut reach)?;
                }
                extent = cut.step;
            }
            reach.add(term.coefficient, term.digits(0, extent).count)?;
        }
        Ok(reach)
    }

    /// Adds what the tiles of a cut add to dimension `d`: nothing where they lie in one block of its
    /// term, or a whole period apart.
    fn spread(&self, cut: &Cut, view: &View, d: usize, sum: &mut Sum) -> Result<(), CountError> {
        let term = view.term_of(cut.rank as usize);
        let Some(term) = term.filter(|term| term.dim as usize == d) else {
            return Ok(());
        };
        let [unit, period] = term.blocks();
        if cut.step < unit || cut.step >= period {
            return Ok(());
        }
        sum.add(mul64(term.coefficient, cut.step / unit)?, cut.count)
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
    /// starts at cut `chain`, in the first instance: its offset in the box, and its length.
    #[inline]
    pub fn last_tile(&self, mut chain: u8, mut extent: u64) -> (u64, u64) {
        let mut offset = 0;
        while chain != NONE {
            let cut = &self.cuts[chain as usize];
            if cut.over != Spread::Time {
                extent = extent.min(cut.step);
            } else if extent > cut.step {
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

fn mul64(a: u64, b: u64) -> Result<u64, CountError> {
    a.checked_mul(b).ok_or(CountError::Overflow)
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
