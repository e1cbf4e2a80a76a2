//! The closed form for projections of any kind: see [`super::moved`].

use super::cuts::{Cut, Cuts, MAX_CUTS};
use super::projection::{Digits, FlatTerm, MAX_DIMS, View};
use super::values::Sum;
use super::{CountError, MAX_RANKS, Reuse, Spread};

impl View {
    /// The values of dimension `d` over a box of these extents that starts at the origin.
    pub(super) fn sum(&self, d: usize, extents: &[u64; MAX_RANKS]) -> Sum {
        let mut sum = Sum::ZERO;
        for term in self.dim(d) {
            sum.push(
                term.coefficient,
                term.digits(0, extents[term.rank as usize]).count,
            );
        }
        sum
    }

    /// Words of a box of these extents that starts at the origin.
    pub(super) fn words(&self, extents: &[u64; MAX_RANKS]) -> Result<u128, CountError> {
        (0..self.dims()).try_fold(1, |words, d| {
            let size = match self.dim(d) {
                [term] => term.digits(0, extents[term.rank as usize]).count.into(),
                _ => self.sum(d, extents).size()?,
            };
            mul(words, size)
        })
    }
}

/// All steps after the first tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub words: u128,
    pub tiles: u128,
}

/// Sums over a set of pairs (previous tile, tile) of one dimension, or of several multiplied.
#[derive(Clone, Copy, Debug)]
struct Pairs {
    /// How many pairs.
    number: u128,
    /// In how many the two are the same set.
    same: u128,
    /// Sum of the sizes of the later tile: of what the lanes of one source have of it together.
    size: u128,
    /// Sum of the sizes of the intersection: of what no lane lacked.
    overlap: u128,
}

impl Pairs {
    const NONE: Self = Self {
        number: 0,
        same: 0,
        size: 0,
        overlap: 0,
    };
    const ONE: Self = Self {
        number: 1,
        same: 1,
        size: 1,
        overlap: 1,
    };

    fn count(
        &mut self,
        times: u64,
        same: bool,
        size: u128,
        overlap: u128,
    ) -> Result<(), CountError> {
        let times = u128::from(times);
        self.number = add(self.number, times)?;
        if same {
            self.same = add(self.same, times)?;
        }
        self.size = add(self.size, mul(times, size)?)?;
        self.overlap = add(self.overlap, mul(times, overlap)?)?;
        Ok(())
    }
}

/// The extents that boxes of each rank have at one depth, and how many boxes have them.
struct Extents {
    /// (extent, number of boxes); a rank has one entry more than cuts at most.
    items: [(u64, u64); MAX_CUTS + MAX_RANKS],
    start: [u8; MAX_RANKS],
    len: [u8; MAX_RANKS],
}

impl Extents {
    fn new(cuts: &Cuts, from: usize, extents: &[u64; MAX_RANKS]) -> Self {
        let mut room = [1_u8; MAX_RANKS];
        for cut in &cuts.all()[from..] {
            room[cut.rank as usize] += 1;
        }
        let mut states = Self {
            items: [(0, 0); MAX_CUTS + MAX_RANKS],
            start: [0; MAX_RANKS],
            len: [1; MAX_RANKS],
        };
        let mut at = 0;
        for (r, room) in room.into_iter().enumerate() {
            states.start[r] = at;
            states.items[at as usize] = (extents[r], 1);
            at += room;
        }
        states
    }

    #[inline]
    fn of(&self, rank: usize) -> &[(u64, u64)] {
        let start = self.start[rank] as usize;
        &self.items[start..start + self.len[rank] as usize]
    }

    /// Boxes of a rank. They partition it, so there are no more than it has coordinates.
    fn number(&self, rank: usize) -> u64 {
        self.of(rank).iter().map(|&(_, number)| number).sum()
    }

    fn cut(&mut self, cut: &Cut) {
        let (rank, step) = (cut.rank as usize, cut.step);
        let start = self.start[rank] as usize;
        if cut.over != Spread::Time {
            // Every box is divided alike, and one of its parts stands for all.
            self.items[start].0 = step;
            return;
        }
        let len = self.len[rank] as usize;
        let (mut full, mut kept) = (0, 0);
        for i in start..start + len {
            let (extent, number) = self.items[i];
            let trips = extent.div_ceil(step);
            let tail = extent - (trips - 1) * step;
            full += number * (trips - 1);
            if tail == step {
                full += number;
            } else {
                self.items[start + kept] = (tail, number);
                kept += 1;
            }
        }
        if full > 0 {
            self.items[start + kept] = (step, full);
            kept += 1;
        }
        self.len[rank] = kept as u8;
    }
}

/// One walk over the cuts from index `from` inward, starting from one box.
pub(super) struct Walk<'a> {
    cuts: &'a Cuts,
    view: &'a View,
    from: usize,
    extents: Extents,
    /// The next cut of each rank.
    chain: [u8; MAX_RANKS],
    reuse: Reuse,
    /// By dimension, how far the lanes of one source lie apart; empty for the words of one lane.
    lanes: &'a [Sum],
}

impl<'a> Walk<'a> {
    pub fn new(
        cuts: &'a Cuts,
        view: &'a View,
        from: usize,
        extents: &[u64; MAX_RANKS],
    ) -> Result<Self, CountError> {
        let extents = Extents::new(cuts, from, extents);
        Ok(Self {
            cuts,
            view,
            from,
            extents,
            chain: cuts.first_from(from),
            reuse: Reuse::Previous,
            lanes: &[],
        })
    }

    /// What the memory remembers, and the lanes whose words a source sends together.
    pub fn with(mut self, reuse: Reuse, lanes: &'a [Sum]) -> Self {
        self.reuse = reuse;
        self.lanes = lanes;
        self
    }

    /// Number of iterations of all cuts together.
    pub fn iterations(mut self) -> Result<u128, CountError> {
        for cut in &self.cuts.all()[self.from..] {
            self.extents.cut(cut);
        }
        (0..MAX_RANKS).try_fold(1, |product, r| mul(product, self.extents.number(r).into()))
    }

    /// Sums what moves at every step from one iteration to the next.
    pub fn steps(mut self) -> Result<Steps, CountError> {
        let mut rest = [Pairs::ONE; MAX_DIMS];
        let mut total = Steps::default();
        // Boxes of the ranks that the tensor does not have.
        let mut idle = [1_u64; MAX_RANKS];
        let mut idle_product = 1_u128;
        for (d, rest) in rest[..self.view.dims()].iter_mut().enumerate() {
            *rest = self.between(d)?;
        }
        for cut in &self.cuts.all()[self.from..] {
            let rank = cut.rank as usize;
            let dim = self.view.term_of(rank).map(|term| term.dim as usize);
            if cut.over != Spread::Time {
                // All instances step together: one stands for them.
                self.advance(cut);
                if let Some(dim) = dim {
                    rest[dim] = self.between(dim)?;
                }
                continue;
            }
            let Some(dim) = dim else {
                // Every box of the rank repeats the same tiles: all but one step each.
                let before = idle[rank];
                self.advance(cut);
                idle[rank] = self.extents.number(rank);
                let own = Pairs {
                    number: (idle[rank] - before).into(),
                    same: (idle[rank] - before).into(),
                    size: (idle[rank] - before).into(),
                    overlap: (idle[rank] - before).into(),
                };
                let others = idle_product / u128::from(before);
                self.collect(&mut total, &rest, None, own, others)?;
                idle_product = mul(others, idle[rank].into())?;
                continue;
            };
            let own = self.across(dim, rank, cut.step, cut.next)?;
            self.collect(&mut total, &rest, Some(dim), own, idle_product)?;
            self.advance(cut);
            rest[dim] = self.between(dim)?;
        }
        Ok(total)
    }

    /// Adds the steps of one loop: `own` for the dimension (or the rank) that it walks, for the
    /// other dimensions the steps from the last to the first tile of each box.
    #[inline]
    fn collect(
        &self,
        total: &mut Steps,
        rest: &[Pairs; MAX_DIMS],
        dim: Option<usize>,
        own: Pairs,
        idle: u128,
    ) -> Result<(), CountError> {
        let others = || {
            rest[..self.view.dims()]
                .iter()
                .enumerate()
                .filter(|&(d, _)| Some(d) != dim)
        };
        let mut number = mul(own.number, idle)?;
        let mut same = mul(own.same, idle)?;
        for (_, pairs) in others() {
            number = mul(number, pairs.number)?;
            same = mul(same, pairs.same)?;
        }
        if number == same && self.reuse == Reuse::Previous {
            return Ok(());
        }
        let mut size = mul(own.size, idle)?;
        let mut overlap = mul(own.overlap, idle)?;
        for (_, pairs) in others() {
            size = mul(size, pairs.size)?;
            overlap = mul(overlap, pairs.overlap)?;
        }
        if self.reuse == Reuse::Nothing {
            (same, overlap) = (0, 0);
        }
        total.tiles = add(total.tiles, number - same)?;
        total.words = add(total.words, size - overlap)?;
        Ok(())
    }

    fn advance(&mut self, cut: &Cut) {
        self.extents.cut(cut);
        self.chain[cut.rank as usize] = cut.next;
    }

    /// Pairs (last tile, first tile) of one dimension in every box of this depth.
    fn between(&self, dim: usize) -> Result<Pairs, CountError> {
        let mut pairs = Pairs::NONE;
        match self.view.dim(dim) {
            [] => Ok(Pairs::ONE),
            [term] if self.lanes.is_empty() => {
                self.last_to_first(term, |times, old, new| single(&mut pairs, times, old, new))?;
                Ok(pairs)
            }
            terms => {
                self.several(
                    terms,
                    None,
                    &mut Several::new(&mut pairs, self.lanes.get(dim)),
                    1,
                )?;
                Ok(pairs)
            }
        }
    }

    /// Pairs of one dimension at the steps of a cut of one of its ranks.
    fn across(&self, dim: usize, rank: usize, step: u64, next: u8) -> Result<Pairs, CountError> {
        let mut pairs = Pairs::NONE;
        match self.view.dim(dim) {
            [] => Ok(Pairs::ONE),
            [term] if self.lanes.is_empty() => {
                self.tile_to_tile(term, step, next, |times, old, new| {
                    single(&mut pairs, times, old, new)
                })?;
                Ok(pairs)
            }
            terms => {
                let own = Some((rank, step, next));
                self.several(
                    terms,
                    own,
                    &mut Several::new(&mut pairs, self.lanes.get(dim)),
                    1,
                )?;
                Ok(pairs)
            }
        }
    }

    /// The digits of one term in the last and in the first tile of every box.
    #[inline]
    fn last_to_first(
        &self,
        term: &FlatTerm,
        mut pair: impl FnMut(u64, Digits, Digits) -> Result<(), CountError>,
    ) -> Result<(), CountError> {
        let rank = term.rank as usize;
        for &(extent, number) in self.extents.of(rank) {
            let (offset, len) = self.cuts.last_tile(self.chain[rank], extent);
            let first = extent.min(self.cuts.innermost[rank]);
            pair(number, term.digits(offset, len), term.digits(0, first))?;
        }
        Ok(())
    }

    /// The digits of one term in the last tile of one box of a cut and in the first tile of the
    /// next box, relative to the former's start. Only the last box may be a partial one.
    #[inline]
    fn tile_to_tile(
        &self,
        term: &FlatTerm,
        step: u64,
        next: u8,
        mut pair: impl FnMut(u64, Digits, Digits) -> Result<(), CountError>,
    ) -> Result<(), CountError> {
        let rank = term.rank as usize;
        let (offset, len) = self.cuts.last_tile(next, step);
        let old = term.digits(offset, len);
        let innermost = self.cuts.innermost[rank];
        for &(extent, number) in self.extents.of(rank) {
            if extent <= step {
                continue;
            }
            let trips = extent.div_ceil(step);
            let tail = extent - (trips - 1) * step;
            if trips > 2 {
                pair(
                    number * (trips - 2),
                    old,
                    term.digits(step, step.min(innermost)),
                )?;
            }
            pair(number, old, term.digits(step, tail.min(innermost)))?;
        }
        Ok(())
    }

    /// The pairs of a dimension with several terms: every combination of the terms' pairs.
    fn several(
        &self,
        terms: &[FlatTerm],
        own: Option<(usize, u64, u8)>,
        state: &mut Several<'_>,
        times: u64,
    ) -> Result<(), CountError> {
        let Some((term, inner)) = terms.split_first() else {
            return state.finish(times);
        };
        let pair = |number: u64, old: Digits, new: Digits| {
            let times = times.checked_mul(number).ok_or(CountError::Overflow)?;
            let (before_old, before_new, before_shift) = (state.old, state.new, state.shift);
            state.old.push(term.coefficient, old.count);
            state.new.push(term.coefficient, new.count);
            state.shift +=
                i128::from(term.coefficient) * (i128::from(new.start) - i128::from(old.start));
            self.several(inner, own, state, times)?;
            (state.old, state.new, state.shift) = (before_old, before_new, before_shift);
            Ok(())
        };
        match own {
            Some((rank, step, next)) if rank == term.rank as usize => {
                self.tile_to_tile(term, step, next, pair)
            }
            _ => self.last_to_first(term, pair),
        }
    }
}

/// Adds a pair of a dimension with one term, whose values are a run of digits.
#[inline]
fn single(pairs: &mut Pairs, times: u64, old: Digits, new: Digits) -> Result<(), CountError> {
    pairs.count(times, old == new, new.count.into(), old.common(new).into())
}

/// A pair in the making, for a dimension with several terms.
struct Several<'a> {
    pairs: &'a mut Pairs,
    old: Sum,
    new: Sum,
    shift: i128,
    lanes: Option<&'a Sum>,
}

impl<'a> Several<'a> {
    fn new(pairs: &'a mut Pairs, lanes: Option<&'a Sum>) -> Self {
        Self {
            pairs,
            lanes,
            old: Sum::ZERO,
            new: Sum::ZERO,
            shift: 0,
        }
    }

    fn finish(&mut self, times: u64) -> Result<(), CountError> {
        let size = self.new.size()?;
        let overlap = self.old.overlap(&self.new, self.shift)?;
        let same = size == overlap && self.old.size()? == size;
        let Some(lanes) = self.lanes else {
            return self.pairs.count(times, same, size, overlap);
        };
        // A word is sent where some lane takes it: every dimension must lie in its tile, and one of
        // them in the new part.
        let all = self.new.plus(lanes)?.size()?;
        let fresh = self.old.beyond(&self.new, self.shift, lanes)?;
        self.pairs.count(times, same, all, all - fresh)
    }
}

#[inline]
pub(super) fn mul(a: u128, b: u128) -> Result<u128, CountError> {
    if (a | b) >> 64 == 0 {
        return Ok(a * b);
    }
    a.checked_mul(b).ok_or(CountError::Overflow)
}

#[inline]
pub(super) fn add(a: u128, b: u128) -> Result<u128, CountError> {
    a.checked_add(b).ok_or(CountError::Overflow)
}
