//! Exact counts of a block: accesses of every memory by tensor, and cycles by Einsum and phase.

use std::collections::HashMap;

use einflow_arch::Counting;

use crate::{
    mapped::{Block, BoundEinsum, Place, Transfer, TransferKind},
    nest::{
        CountError, Dim, Loop, Moved, Projection, Reuse, Space, iterations, iterations_within,
        moved_within, points, touched,
    },
};

/// A count, exact: whole unless a tensor is kept in part, then a fraction that is rounded once, at the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    numerator: u128,
    denominator: u128,
}

impl Default for Count {
    fn default() -> Self {
        Self::whole(0)
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Count {
    /// A whole count.
    pub fn whole(value: u128) -> Self {
        Self {
            numerator: value,
            denominator: 1,
        }
    }

    /// `value * numerator / denominator`; `None` on overflow or a zero denominator.
    pub fn share(value: u128, share: (u64, u64)) -> Option<Self> {
        Self::ratio(value.checked_mul(u128::from(share.0))?, u128::from(share.1))
    }

    /// `numerator / denominator`; `None` for a zero denominator.
    pub fn ratio(numerator: u128, denominator: u128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        if denominator == 1 {
            return Some(Self {
                numerator,
                denominator,
            });
        }
        let common = gcd(numerator, denominator);
        Some(Self {
            numerator: numerator / common,
            denominator: denominator / common,
        })
    }

    /// Above the line, in lowest terms.
    pub fn numerator(self) -> u128 {
        self.numerator
    }

    /// Below the line, in lowest terms.
    pub fn denominator(self) -> u128 {
        self.denominator
    }

    /// Sum; `None` on overflow.
    pub fn plus(self, other: Self) -> Option<Self> {
        if self.denominator == other.denominator {
            let numerator = self.numerator.checked_add(other.numerator)?;
            return Self::ratio(numerator, self.denominator);
        }
        let (mine, theirs, denominator) = self.alike(other)?;
        Self::ratio(mine.checked_add(theirs)?, denominator)
    }

    /// Difference; `None` on overflow or below zero.
    pub fn minus(self, other: Self) -> Option<Self> {
        let (mine, theirs, denominator) = self.alike(other)?;
        Self::ratio(mine.checked_sub(theirs)?, denominator)
    }

    /// Both over one denominator.
    fn alike(self, other: Self) -> Option<(u128, u128, u128)> {
        let common = gcd(self.denominator, other.denominator);
        let (left, right) = (other.denominator / common, self.denominator / common);
        Some((
            self.numerator.checked_mul(left)?,
            other.numerator.checked_mul(right)?,
            self.denominator.checked_mul(left)?,
        ))
    }

    /// Product with a whole number; `None` on overflow.
    pub fn times(self, factor: u128) -> Option<Self> {
        let common = gcd(factor, self.denominator);
        let numerator = self.numerator.checked_mul(factor / common.max(1))?;
        Some(Self {
            numerator,
            denominator: self.denominator / common.max(1),
        })
    }

    /// Quotient by a whole number; `None` on overflow or zero.
    pub fn over(self, divisor: u128) -> Option<Self> {
        Self::ratio(self.numerator, self.denominator.checked_mul(divisor)?)
    }

    /// The nearest whole number, halves up.
    pub fn rounded(self) -> u128 {
        let (whole, rest) = (
            self.numerator / self.denominator,
            self.numerator % self.denominator,
        );
        whole + u128::from(rest >= self.denominator - rest)
    }

    /// The smallest whole number that is not below.
    pub fn ceiling(self) -> u128 {
        self.numerator.div_ceil(self.denominator)
    }

    /// As a floating-point number.
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// True for zero.
    pub fn is_zero(self) -> bool {
        self.numerator == 0
    }
}

impl PartialOrd for Count {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Count {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if self.denominator == other.denominator {
            return self.numerator.cmp(&other.numerator);
        }
        // Whole parts first, so that nothing overflows; then the fractions, turned around.
        let whole = (self.numerator / self.denominator).cmp(&(other.numerator / other.denominator));
        whole.then_with(|| {
            let (a, b) = (
                self.numerator % self.denominator,
                other.numerator % other.denominator,
            );
            match (a, b) {
                (0, 0) => std::cmp::Ordering::Equal,
                (0, _) => std::cmp::Ordering::Less,
                (_, 0) => std::cmp::Ordering::Greater,
                _ => {
                    let left = Self {
                        numerator: self.denominator,
                        denominator: a,
                    };
                    let right = Self {
                        numerator: other.denominator,
                        denominator: b,
                    };
                    right.cmp(&left)
                }
            }
        })
    }
}

/// Words read from and written to a memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Words read.
    pub reads: Count,
    /// Words written.
    pub writes: Count,
}

impl Access {
    /// Sum; `None` on overflow.
    pub fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            reads: self.reads.plus(other.reads)?,
            writes: self.writes.plus(other.writes)?,
        })
    }

    /// Reads and writes together; `None` on overflow.
    pub fn total(self) -> Option<Count> {
        self.reads.plus(self.writes)
    }
}

/// Accesses of a block: memory by memory, tensor by tensor.
#[derive(Clone, Debug)]
pub struct Traffic {
    tensors: usize,
    cells: Vec<Access>,
}

impl Traffic {
    /// No accesses yet.
    pub fn new(memories: usize, tensors: usize) -> Self {
        Self {
            tensors,
            cells: vec![Access::default(); memories * tensors],
        }
    }

    /// Accesses of a memory to a tensor.
    pub fn get(&self, memory: usize, tensor: usize) -> Access {
        self.cells[memory * self.tensors + tensor]
    }

    /// All words that a memory reads and writes; `None` on overflow.
    pub fn of_memory(&self, memory: usize) -> Option<Access> {
        self.cells[memory * self.tensors..(memory + 1) * self.tensors]
            .iter()
            .try_fold(Access::default(), |sum, cell| sum.plus(*cell))
    }

    /// Adds another block's; `None` on overflow.
    pub fn add(&mut self, other: &Self) -> Option<()> {
        for (cell, more) in self.cells.iter_mut().zip(&other.cells) {
            *cell = cell.plus(*more)?;
        }
        Some(())
    }

    fn access(&mut self, place: Place, tensor: usize, more: Access) -> Option<()> {
        if let Place::Memory(memory) = place {
            let cell = &mut self.cells[memory * self.tensors + tensor];
            *cell = cell.plus(more)?;
        }
        Some(())
    }
}

/// Counts every access of a block.
///
/// Under [`Counting::Physical`] a tile that drains outward is read where it was; Timeloop's rule
/// leaves that read out. Neither reads a result before its first write.
///
/// # Errors
/// Overflow of 128 bits, or a nest that cannot be counted.
pub fn traffic(
    block: &Block,
    counting: Counting,
    memories: usize,
    tensors: usize,
) -> Result<Traffic, CountError> {
    traffic_of(&block.space, &block.transfers, counting, memories, tensors)
}

/// [`traffic`] of some transfers of a block with this iteration space.
///
/// # Errors
/// As [`traffic`].
pub fn traffic_of(
    space: &Space,
    transfers: &[Transfer],
    counting: Counting,
    memories: usize,
    tensors: usize,
) -> Result<Traffic, CountError> {
    let moved: Vec<Moved> = transfers
        .iter()
        .map(|transfer| transferred(space, transfer))
        .collect::<Result<_, _>>()?;
    accesses(transfers, &moved, counting, memories, tensors)
}

/// What a transfer moves: words, and how many different ones.
///
/// # Errors
/// As [`traffic`].
pub fn transferred(space: &Space, transfer: &Transfer) -> Result<Moved, CountError> {
    let moved = |words: &Projection| {
        let Transfer { loops, reuse, .. } = transfer;
        moved_within(space, loops, transfer.tile_depth, words, *reuse)
    };
    if transfer.steps == 0 {
        return moved(&transfer.projection);
    }
    let mut words = transfer.projection.clone();
    words
        .dims
        .truncate(words.dims.len().saturating_sub(transfer.steps));
    moved(&words)
}

/// The accesses that movements of so many words make.
///
/// # Errors
/// Overflow of 128 bits.
pub fn accesses(
    transfers: &[Transfer],
    moved: &[Moved],
    counting: Counting,
    memories: usize,
    tensors: usize,
) -> Result<Traffic, CountError> {
    let mut out = Traffic::new(memories, tensors);
    for (transfer, made) in transfers.iter().zip(exchanges(transfers, moved, counting)?) {
        let tensor = transfer.tensor.0;
        let mut add = |place: Option<Place>, access| {
            place.map_or(Some(()), |place| out.access(place, tensor, access))
        };
        add(transfer.outer, made.outer)
            .and_then(|()| add(Some(transfer.inner), made.inner))
            .and_then(|()| add(transfer.spill, made.spill))
            .ok_or(CountError::Overflow)?;
    }
    Ok(out)
}

/// The accesses that one [`Transfer`] makes at its places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// At [`Transfer::outer`].
    pub outer: Access,
    /// At [`Transfer::inner`].
    pub inner: Access,
    /// At [`Transfer::spill`].
    pub spill: Access,
    /// Partial results that come back in an update.
    pub returned: u128,
}

/// The accesses of each transfer, where they move so many words. The drains of a tensor stand in
/// order, the innermost first, and behind its updates.
///
/// A result whose partial sums form in several instances at once is summed on its way outward; when
/// it comes back, one of them goes on from it and the others start from nothing. Timeloop's rule
/// writes it to every instance that had the word before.
///
/// # Errors
/// Overflow of 128 bits.
pub fn exchanges(
    transfers: &[Transfer],
    moved: &[Moved],
    counting: Counting,
) -> Result<Vec<Exchange>, CountError> {
    let mut out = vec![Exchange::default(); transfers.len()];
    // By tensor and its maker, from the home inward: starts from nothing beyond each instance's first.
    let mut restarts: HashMap<_, u128> = HashMap::new();
    for ((transfer, words), made) in transfers.iter().zip(moved).zip(&mut out).rev() {
        let timeloop = counting == Counting::Timeloop;
        let chain = (transfer.tensor, transfer.einsum);
        let restarted = restarts.get(&chain).copied().unwrap_or(0);
        let mut fill = || -> Option<()> {
            let share = transfer.share;
            let inward = |words| {
                if transfer.through {
                    Some(Count::whole(words))
                } else {
                    Count::share(words, share)
                }
            };
            let fresh = if timeloop { 0 } else { restarted };
            let returned = words.words.checked_sub(words.distinct.checked_add(fresh)?);
            let returned = returned.unwrap_or(0);
            match transfer.kind {
                TransferKind::Fill => {
                    made.outer.reads = Count::share(words.words, share)?;
                    made.inner.writes = inward(words.received)?;
                }
                TransferKind::Operand => {
                    made.inner.reads = inward(words.words)?;
                    made.spill.reads = spilled(words.words, share)?;
                }
                TransferKind::Update => {
                    made.returned = returned;
                    made.inner.writes = inward(words.words)?;
                    made.inner.reads = inward(returned)?;
                    made.spill.writes = spilled(words.words, share)?;
                    made.spill.reads = spilled(returned, share)?;
                }
                TransferKind::Drain => {
                    made.outer.writes = Count::share(words.words, share)?;
                    made.outer.reads = Count::share(returned, share)?;
                    if timeloop {
                        let again = words.received.checked_sub(words.received_distinct);
                        made.inner.writes = inward(again.unwrap_or(0))?;
                    } else {
                        made.inner.writes = inward(returned)?;
                        made.inner.reads = inward(words.received)?;
                    }
                    let starts = words.received.checked_sub(words.words)?;
                    let first = words.received_distinct.checked_sub(words.distinct)?;
                    let more = starts.checked_sub(first)?;
                    if more > 0 {
                        restarts.insert(chain, restarted.checked_add(more)?);
                    }
                }
            }
            Some(())
        };
        fill().ok_or(CountError::Overflow)?;
    }
    Ok(out)
}

fn spilled(words: u128, share: (u64, u64)) -> Option<Count> {
    Count::share(words, (share.1 - share.0, share.1))
}

/// Cycles of a block.
#[derive(Clone, Debug)]
pub struct BlockCycles {
    /// By nest and position: cycles in which the Einsum's unit works on it.
    pub einsums: Vec<Vec<u128>>,
    /// By array: all its Einsums.
    pub units: Vec<u128>,
    /// Cycles of the block, memory aside: the sum over its phases of the slowest unit and of the drains; without
    /// phases, the slowest unit.
    pub compute: u128,
    /// Cycles spent in drains.
    pub drain: u128,
    /// Tiles: iterations of the loops that all of the block's Einsums share.
    pub tiles: u128,
}

/// Points at which an Einsum works, each counted once: where its own conditions hold; without any, in a block that
/// skips empty tiles, all points of the tiles that are not skipped.
///
/// # Errors
/// Overflow of 128 bits, or conditions that cannot be counted.
pub fn work(block: &Block, einsum: &BoundEinsum) -> Result<u128, CountError> {
    let space = &block.space;
    if !space.skips() || !einsum.points.conditions.is_empty() {
        return points(&einsum.points);
    }
    let mut tied = vec![false; space.sizes.len()];
    for rank in space.conditions.iter().flat_map(|c| c.ranks()) {
        tied[rank] = true;
    }
    let loops: Vec<_> = einsum.shared_loops().iter().map(|l| l.cut).collect();
    let terms = einsum.coordinates.iter().filter(|t| tied[t.rank]);
    let dims = terms.map(|t| Dim::sum(vec![*t])).collect();
    let sizes = einsum.points.sizes.iter().zip(&tied);
    let free = sizes.filter(|(_, tied)| !**tied).map(|(size, _)| *size);
    free.map(u128::from)
        .try_fold(
            touched(space, &loops, &Projection::of(dims))?,
            u128::checked_mul,
        )
        .ok_or(CountError::Overflow)
}

/// How often something happens in a space, in loops of which so many step from tile to tile.
type Times<'t> = &'t dyn Fn(&Space, &[Loop], usize) -> Result<u128, CountError>;

/// Cycles in which an Einsum's unit works on it. Partial tiles take a full tile's spatial time; what stays in the PEs
/// is loaded while they compute, and costs what that takes longer.
fn einsum_cycles(block: &Block, e: &BoundEinsum) -> Result<u128, CountError> {
    let space = &block.space;
    let all: Vec<Loop> = e.loops.iter().map(|l| l.cut).collect();
    let shared = e.shared_loops().len();
    // As often as something happens, or as often as that is when results have left before.
    let times = |again: bool, loops: &[Loop], depth: usize, of: Times<'_>| {
        let whole = of(space, loops, depth)?;
        if !again {
            return Ok(whole);
        }
        let (first, left) = e.first(space, loops);
        let (_, outer) = e.first(space, &loops[..depth]);
        Ok(whole.saturating_sub(of(&first, &left, outer.len())?))
    };
    let mut cycles = times(false, &all, shared, &iterations_within)?.checked_mul(e.interval.into());
    if e.returns.interval > e.interval {
        let mut back = times(true, &all, shared, &iterations_within)?;
        let leaves = |t: &&Transfer| t.kind == TransferKind::Update && t.tensor == e.output;
        if let (false, Some(update)) = (e.partials, block.transfers.iter().find(leaves)) {
            // What stays over a step, also where a tile is partial, does not come back in it.
            let results = &update.projection;
            back = back.min(times(true, &all, shared, &|space, loops, depth| {
                Ok(moved_within(space, loops, depth, results, Reuse::Previous)?.tiles)
            })?);
        }
        let longer = u128::from(e.returns.interval - e.interval);
        let longer = longer.checked_mul(back);
        cycles = longer.and_then(|more| cycles?.checked_add(more));
    }
    let mut waits = 0;
    for load in &e.loads {
        let kept = load.kept.map(|t| &block.transfers[t]);
        let (loops, depth) = kept.map_or((&all, shared), |t| (&t.loops, t.tile_depth));
        let times = times(false, loops, depth, &|space, loops, depth| {
            let words = &load.projection;
            Ok(moved_within(space, loops, depth, words, Reuse::Previous)?.tiles)
        })?;
        let own = times.checked_mul(load.excess.into());
        waits = own.ok_or(CountError::Overflow)?.max(waits);
    }
    cycles
        .and_then(|cycles| cycles.checked_add(waits))
        .ok_or(CountError::Overflow)
}

/// Counts the cycles of a block.
///
/// # Errors
/// Overflow of 128 bits.
pub fn cycles(block: &Block, arrays: usize) -> Result<BlockCycles, CountError> {
    let of = |e: &BoundEinsum| einsum_cycles(block, e);
    let einsums: Vec<Vec<u128>> = block
        .nests
        .iter()
        .map(|n| n.einsums.iter().map(of).collect())
        .collect::<Result<_, _>>()?;
    let unit_of = |(n, e): (usize, usize)| block.nests[n].einsums[e].unit;
    let sum_by_unit = |members: &mut dyn Iterator<Item = (usize, usize)>| {
        let mut units = vec![0u128; arrays];
        for at in members {
            let unit = &mut units[unit_of(at)];
            *unit = unit
                .checked_add(einsums[at.0][at.1])
                .ok_or(CountError::Overflow)?;
        }
        Ok::<_, CountError>(units)
    };
    let mut all = block
        .nests
        .iter()
        .enumerate()
        .flat_map(|(n, nest)| (0..nest.einsums.len()).map(move |e| (n, e)));
    let units = sum_by_unit(&mut all)?;
    let mut shared: Vec<_> = block.loops.iter().map(|l| l.cut).collect();
    if let [only] = block.nests.as_slice() {
        shared.extend(only.loops.iter().map(|l| l.cut));
    }
    let tiles = iterations(&block.space, &shared)?;
    let (mut compute, mut drain) = (0u128, 0u128);
    for phase in &block.phases {
        let slowest = sum_by_unit(&mut phase.einsums.iter().copied())?
            .into_iter()
            .max()
            .unwrap_or(0);
        let drained = tiles
            .checked_mul(u128::from(phase.drain))
            .ok_or(CountError::Overflow)?;
        drain = drain.checked_add(drained).ok_or(CountError::Overflow)?;
        compute = compute
            .checked_add(slowest)
            .and_then(|c| c.checked_add(drained))
            .ok_or(CountError::Overflow)?;
    }
    if block.phases.is_empty() {
        compute = units.iter().copied().max().unwrap_or(0);
    }
    Ok(BlockCycles {
        einsums,
        units,
        compute,
        drain,
        tiles,
    })
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn counts_are_exact_fractions() {
        let third = Count::ratio(1, 3).unwrap();
        let sum = third.plus(third).unwrap().plus(third).unwrap();
        assert_eq!(sum, Count::whole(1));
        assert_eq!(
            Count::share(1 << 100, (1, 129))
                .unwrap()
                .times(129)
                .unwrap(),
            Count::whole(1 << 100)
        );
        assert_eq!(Count::ratio(5, 2).unwrap().rounded(), 3);
        assert_eq!(Count::ratio(7, 3).unwrap().rounded(), 2);
        assert_eq!(Count::ratio(7, 3).unwrap().ceiling(), 3);
        assert!(Count::ratio(7, 3).unwrap() < Count::ratio(12, 5).unwrap());
        assert!(Count::whole(u128::MAX).plus(Count::whole(1)).is_none());
    }
}
