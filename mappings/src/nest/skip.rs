//! Counting where empty tiles are left out.
//!
//! The walk descends loop by loop. A box in which every tile runs is counted in closed form, a box
//! in which none does is passed over; of a loop along the edge of a condition the iterations of
//! each kind are grouped, and what remains is remembered by its place relative to the condition,
//! so that the same stretch of an edge is walked once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Range;

use super::cuts::Cuts;
use super::pair::Interval;
use super::projection::{FlatTerm, NONE, View};
use super::region::{Box, Budget, Part, Region, Side};
use super::values::Sum;
use super::walk::{Walk, add, mul};
use super::{CountError, MAX_RANKS, Reuse};

/// Most results that are remembered.
const MAX_SEEN: usize = 1 << 16;

/// What the iterations within a box come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// Iterations that run.
    pub iterations: u128,
    /// Words fetched after the first tile.
    pub words: u128,
    /// Changes of the tile after the first.
    pub tiles: u128,
    /// The first tile; intervals start relative to the box.
    pub first: Box,
    /// The last tile.
    last: Box,
}

/// A walk over the tiles that run.
pub(super) struct Skip<'a> {
    cuts: &'a Cuts,
    view: &'a View,
    region: &'a Region,
    /// Cuts whose boxes are tested for points; those further in run as they are.
    tested: usize,
    reuse: Reuse,
    /// For each part, one past its innermost tested cut.
    decided: Vec<usize>,
    seen: HashMap<Key, Option<Summary>, BuildHasherDefault<Mix>>,
    budget: Budget,
}

/// What a box's result depends on.
#[derive(Clone, Copy)]
struct Key {
    data: [i64; Key::ROOM],
    len: usize,
}

impl<'a> Skip<'a> {
    /// Starts a walk; the first `tested` cuts are those that can be left out.
    pub fn new(
        cuts: &'a Cuts,
        view: &'a View,
        region: &'a Region,
        tested: usize,
        reuse: Reuse,
    ) -> Self {
        let mut decided = vec![0; region.parts.len()];
        for (i, cut) in cuts.all()[..tested].iter().enumerate() {
            let part = region.part_of[cut.rank as usize];
            if part != NONE {
                decided[part as usize] = i + 1;
            }
        }
        let seen = HashMap::default();
        Self {
            cuts,
            view,
            region,
            tested,
            reuse,
            decided,
            seen,
            budget: Budget::new(),
        }
    }

    /// Everything within a box that the cuts from index `depth` divide; none where nothing runs.
    pub fn within(&mut self, depth: usize, whole: &Box) -> Result<Option<Summary>, CountError> {
        self.budget.spend()?;
        let mut open = 0_u16;
        for (i, part) in self.region.parts.iter().enumerate() {
            let undecided = depth < self.decided[i];
            match part {
                Part::Pair(pair) => {
                    let (a, b) = (whole[pair.a], whole[pair.b]);
                    if !pair.holds_somewhere(a, b)? {
                        return Ok(None);
                    }
                    let tiles = (undecided && pair.modulus > 1).then(|| {
                        (
                            self.least_tile(pair.a, depth, a.len),
                            self.least_tile(pair.b, depth, b.len),
                        )
                    });
                    if undecided && !pair.full(a, b, tiles) {
                        open |= 1 << i;
                    }
                }
                Part::Any { .. } => match part.side(whole) {
                    Side::Outside => return Ok(None),
                    Side::Inside => {}
                    Side::Across if undecided => open |= 1 << i,
                    Side::Across => {
                        if !part.holds_somewhere(whole, &self.budget)? {
                            return Ok(None);
                        }
                    }
                },
            }
        }
        if open > 0 && !self.recurs(open) {
            return self.some(depth, whole, open);
        }
        let key = self.key(depth, whole, open, None);
        if let Some(&found) = self.seen.get(&key) {
            return Ok(found);
        }
        let found = if open == 0 {
            Some(self.all(depth, whole)?)
        } else {
            self.some(depth, whole, open)?
        };
        self.remember(key, found);
        Ok(found)
    }

    /// Whether boxes that these parts cross are alike at other places too. Along a plain edge only
    /// whole stretches are, and across a general condition nothing is.
    fn recurs(&self, open: u16) -> bool {
        self.region.parts.iter().enumerate().all(|(i, part)| {
            open >> i & 1 == 0 || matches!(part, Part::Pair(pair) if pair.recurs())
        })
    }

    /// Keeps a result while there are not too many: along a general condition none comes again.
    fn remember(&mut self, key: Key, found: Option<Summary>) {
        if self.seen.len() < MAX_SEEN {
            self.seen.insert(key, found);
        }
    }

    /// A box in which every tile runs.
    fn all(&self, depth: usize, whole: &Box) -> Result<Summary, CountError> {
        let extents = whole.map(|interval| interval.len);
        let steps = Walk::new(self.cuts, self.view, depth, &extents)?
            .with(self.reuse, &[])
            .steps()?;
        let iterations = Walk::new(self.cuts, self.view, depth, &extents)?.iterations()?;
        let chain = self.cuts.first_from(depth);
        let first = std::array::from_fn(|r| Interval {
            start: 0,
            len: extents[r].min(self.cuts.innermost[r]),
        });
        let last = std::array::from_fn(|r| {
            let (start, len) = self.cuts.last_tile(chain[r], extents[r]);
            Interval { start, len }
        });
        Ok(Summary {
            iterations,
            words: steps.words,
            tiles: steps.tiles,
            first,
            last,
        })
    }

    /// A box that some parts of the region cross.
    fn some(
        &mut self,
        depth: usize,
        whole: &Box,
        open: u16,
    ) -> Result<Option<Summary>, CountError> {
        let cut = self.cuts.all()[depth];
        let (rank, step) = (cut.rank as usize, cut.step);
        let Interval { start, len } = whole[rank];
        if len <= step {
            return self.within(depth + 1, whole);
        }
        let (full, tail) = (len / step, len % step);
        let mut found = None;
        let part = self.region.part_of[rank];
        if part == NONE || open >> part & 1 == 0 {
            // Every full iteration is like the first.
            self.alike(depth, whole, 0..full, &mut found)?;
        } else {
            let (reach, interior) = match &self.region.parts[part as usize] {
                Part::Pair(pair) => {
                    let other = if rank == pair.a { pair.b } else { pair.a };
                    let sure = pair.modulus == 1 || {
                        let least = self.least_tile(rank, depth + 1, step);
                        let others = self.least_tile(other, depth + 1, whole[other].len);
                        least.saturating_add(others) > pair.modulus
                    };
                    let reach = iterations(pair.reach(rank, whole[other]), start, step, full, true);
                    let interior = pair.interior(rank, whole[other]);
                    (
                        reach,
                        if sure {
                            iterations(interior, start, step, full, false)
                        } else {
                            0..0
                        },
                    )
                }
                Part::Any { .. } => (0..full, 0..0),
            };
            if interior.is_empty() {
                self.stretch(depth, whole, reach, open, &mut found)?;
            } else {
                self.stretch(depth, whole, reach.start..interior.start, open, &mut found)?;
                self.alike(depth, whole, interior.clone(), &mut found)?;
                self.stretch(depth, whole, interior.end..reach.end, open, &mut found)?;
            }
        }
        if tail > 0 {
            let sub = self.within(depth + 1, &part_of(whole, rank, full * step, tail))?;
            self.append(&mut found, sub.as_ref(), rank, full * step)?;
        }
        Ok(found)
    }

    /// Iterations that all come to the same.
    fn alike(
        &mut self,
        depth: usize,
        whole: &Box,
        which: Range<u64>,
        found: &mut Option<Summary>,
    ) -> Result<(), CountError> {
        let cut = self.cuts.all()[depth];
        let (rank, step) = (cut.rank as usize, cut.step);
        if which.is_empty() {
            return Ok(());
        }
        let sub = self.within(depth + 1, &part_of(whole, rank, which.start * step, step))?;
        let Some(one) = sub else { return Ok(()) };
        let between = self.step(&one.last, &one.first, rank, step)?;
        let more = u128::from(which.end - which.start - 1);
        let run = Summary {
            iterations: mul(one.iterations, more + 1)?,
            words: add(mul(one.words, more + 1)?, mul(between.0, more)?)?,
            tiles: add(mul(one.tiles, more + 1)?, mul(between.1, more)?)?,
            first: one.first,
            last: moved_by(one.last, rank, step * (which.end - which.start - 1)),
        };
        self.append(found, Some(&run), rank, which.start * step)
    }

    /// Iterations that differ, one by one; the same stretch of an edge is walked once.
    fn stretch(
        &mut self,
        depth: usize,
        whole: &Box,
        which: Range<u64>,
        open: u16,
        found: &mut Option<Summary>,
    ) -> Result<(), CountError> {
        let cut = self.cuts.all()[depth];
        let (rank, step) = (cut.rank as usize, cut.step);
        if which.is_empty() {
            return Ok(());
        }
        let at = which.start * step;
        let number = which.end - which.start;
        let key = (number > 2)
            .then(|| self.key(depth, &part_of(whole, rank, at, step), open, Some(number)));
        if let Some(&known) = key.as_ref().and_then(|key| self.seen.get(key)) {
            return self.append(found, known.as_ref(), rank, at);
        }
        let mut run = None;
        for i in which {
            let sub = self.within(depth + 1, &part_of(whole, rank, i * step, step))?;
            self.append(&mut run, sub.as_ref(), rank, i * step - at)?;
        }
        if let Some(key) = key {
            self.remember(key, run);
        }
        self.append(found, run.as_ref(), rank, at)
    }

    /// Puts `next`, which starts at `offset` of `rank`, behind what ran so far.
    fn append(
        &self,
        found: &mut Option<Summary>,
        next: Option<&Summary>,
        rank: usize,
        offset: u64,
    ) -> Result<(), CountError> {
        let Some(next) = next else { return Ok(()) };
        match found {
            None => {
                let found = found.insert(*next);
                found.first[rank].start += offset;
                found.last[rank].start += offset;
            }
            Some(found) => {
                let (words, tiles) = self.step(&found.last, &next.first, rank, offset)?;
                found.iterations = add(found.iterations, next.iterations)?;
                found.words = add(add(found.words, words)?, next.words)?;
                found.tiles = add(add(found.tiles, tiles)?, next.tiles)?;
                found.last = next.last;
                found.last[rank].start += offset;
            }
        }
        Ok(())
    }

    /// New words, and 1 where anything differs, from one tile to another moved by `offset` along
    /// `rank`.
    fn step(
        &self,
        old: &Box,
        new: &Box,
        rank: usize,
        offset: u64,
    ) -> Result<(u128, u128), CountError> {
        let (mut size, mut overlap, mut same) = (1, 1, true);
        for d in 0..self.view.dims() {
            let pair = |term: &FlatTerm| {
                let r = term.rank as usize;
                let moved = if r == rank { offset } else { 0 };
                let was = term.digits(old[r].start, old[r].len);
                (was, term.digits(new[r].start + moved, new[r].len))
            };
            let (words, common, equal) = match self.view.dim(d) {
                [term] => {
                    let (was, is) = pair(term);
                    (is.count.into(), was.common(is).into(), was == is)
                }
                terms => {
                    let (mut sum, mut before, mut shift) = (Sum::ZERO, Sum::ZERO, 0_i128);
                    for term in terms {
                        let (was, is) = pair(term);
                        before.push(term.coefficient, was.count);
                        sum.push(term.coefficient, is.count);
                        shift += i128::from(term.coefficient)
                            * (i128::from(is.start) - i128::from(was.start));
                    }
                    let (words, common) = (sum.size()?, before.overlap(&sum, shift)?);
                    (words, common, words == common && before.size()? == words)
                }
            };
            same &= equal;
            size = mul(size, words)?;
            overlap = mul(overlap, common)?;
        }
        Ok(match self.reuse {
            Reuse::Previous | Reuse::InPlace => (size - overlap, u128::from(!same)),
            Reuse::Nothing => (size, 1),
        })
    }

    /// The smallest tile that the tested cuts from index `depth` make of `extent` coordinates.
    fn least_tile(&self, rank: usize, depth: usize, extent: u64) -> u64 {
        let next = self.cuts.all()[..self.tested]
            .iter()
            .enumerate()
            .skip(depth)
            .find(|(_, cut)| cut.rank as usize == rank && cut.step < extent);
        let Some((i, cut)) = next else { return extent };
        let least = self.least_tile(rank, i + 1, cut.step);
        match extent % cut.step {
            0 => least,
            tail => least.min(self.least_tile(rank, i + 1, tail)),
        }
    }

    /// The key of a box; with `stretch` that of so many iterations of the cut at `depth`, of which
    /// the box is the first.
    fn key(&self, depth: usize, whole: &Box, open: u16, stretch: Option<u64>) -> Key {
        let mut key = Key {
            data: [0; Key::ROOM],
            len: 0,
        };
        key.push(depth as i64);
        key.push(open.into());
        key.push(stretch.unwrap_or(0) as i64);
        for (interval, &tile) in whole.iter().zip(&self.cuts.innermost) {
            if tile != u64::MAX {
                key.push(interval.len as i64);
            }
        }
        for (i, part) in self.region.parts.iter().enumerate() {
            match part {
                _ if open >> i & 1 == 0 => {}
                Part::Pair(pair) => pair
                    .place(whole[pair.a], whole[pair.b], stretch.is_some())
                    .into_iter()
                    .for_each(|number| key.push(number)),
                Part::Any { ranks, .. } => {
                    ranks.iter().for_each(|&r| key.push(whole[r].start as i64))
                }
            }
        }
        key
    }
}

/// The part of a box at `offset` along a rank.
fn part_of(whole: &Box, rank: usize, offset: u64, len: u64) -> Box {
    let mut part = *whole;
    part[rank] = Interval {
        start: whole[rank].start + offset,
        len,
    };
    part
}

fn moved_by(mut tile: Box, rank: usize, offset: u64) -> Box {
    tile[rank].start += offset;
    tile
}

/// The full iterations of a loop (tiles of `step` from `start`) that lie within the coordinates
/// [first, last], or that `touch` them.
fn iterations(
    (first, last): (i128, i128),
    start: u64,
    step: u64,
    full: u64,
    touch: bool,
) -> Range<u64> {
    // Relative to the loop's start; what lies beyond its end makes no difference.
    let end = full * step;
    let clip = |x: i128| (x - i128::from(start)).clamp(-i128::from(step), i128::from(end)) as i64;
    let (first, last, step, full) = (clip(first), clip(last), step as i64, full as i64);
    let (low, high) = if touch {
        (first.div_euclid(step), last.div_euclid(step) + 1)
    } else {
        (-(-first).div_euclid(step), (last + 1).div_euclid(step))
    };
    let low = low.clamp(0, full);
    let high = high.clamp(low, full);
    low as u64..high as u64
}

impl Key {
    /// Depth, open parts and number; extents; and for each part, of two ranks at least, four
    /// numbers for a pair, or one for each rank.
    const ROOM: usize = 3 + MAX_RANKS + 2 * MAX_RANKS;

    fn push(&mut self, number: i64) {
        self.data[self.len] = number;
        self.len += 1;
    }

    fn used(&self) -> &[i64] {
        &self.data[..self.len]
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.used() == other.used()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for &number in self.used() {
            state.write_i64(number);
        }
    }
}

/// A quick hasher of a few integers, the same in every run.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i64(byte.into());
        }
    }

    fn write_i64(&mut self, number: i64) {
        self.0 = (self.0.rotate_left(23) ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
