//! Accesses of a hierarchy of storage levels, with spatial fan-out between them, in closed form.
//!
//! For nests whose factors divide their ranks exactly. Every instance of a level then goes through
//! the same steps, so one stands for all.

use einflow_arch::Counting;
use thiserror::Error;

use super::values::Sum;
use super::walk::{add, mul};
use super::{CountError, MAX_RANKS};

/// An Einsum mapped onto storage levels; the multipliers are below the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelNest {
    /// Number of coordinates of each rank.
    pub sizes: Vec<u64>,
    /// Operands and results.
    pub tensors: Vec<LevelTensor>,
    /// The levels, outermost first; the first keeps every tensor.
    pub levels: Vec<Level>,
}

/// A tensor of a [`LevelNest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelTensor {
    /// For each dimension the ranks whose coordinates are summed in it.
    pub dims: Vec<Vec<usize>>,
    /// A result, else an operand. The dimensions of a result have one rank each.
    pub output: bool,
}

/// A storage level, and the loops over the tiles of the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Indices of the tensors that it stores; others pass it by.
    pub keep: Vec<usize>,
    /// Temporal loops, outermost first.
    pub temporal: Vec<Factor>,
    /// Spatial loops, inside the temporal ones: the fan-out to the next level.
    pub spatial: Vec<Factor>,
}

/// A loop over a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Index of the rank.
    pub rank: usize,
    /// Number of iterations, or of instances side by side.
    pub factor: u64,
}

/// Accesses of one level for one tensor, in words, all instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCounts {
    /// Words read.
    pub reads: u128,
    /// Words written on their way inward.
    pub fills: u128,
    /// Words of results written on their way outward, partial and final.
    pub updates: u128,
}

/// What a [`LevelNest`] comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelTotals {
    /// By level and tensor; zero where a level does not keep the tensor.
    pub counts: Vec<Vec<LevelCounts>>,
    /// Instances of each level that the spatial loops use.
    pub instances: Vec<u128>,
    /// Multipliers that the spatial loops use.
    pub multipliers: u128,
    /// Points of the iteration space: multiplications.
    pub points: u128,
    /// The product of the temporal factors.
    pub cycles: u128,
}

/// Why a [`LevelNest`] cannot be counted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LevelError {
    /// A dimension or a loop names a rank that there is not.
    #[error("rank {rank} of {ranks}")]
    NoSuchRank {
        /// Index of the rank.
        rank: usize,
        /// Number of ranks.
        ranks: usize,
    },
    /// A level keeps a tensor that there is not.
    #[error("tensor {tensor} of {tensors}")]
    NoSuchTensor {
        /// Index of the tensor.
        tensor: usize,
        /// Number of tensors.
        tensors: usize,
    },
    /// The factors of a rank do not multiply to its size.
    #[error("the factors of rank {rank} multiply to {product}, its size is {size}")]
    Factors {
        /// Index of the rank.
        rank: usize,
        /// Product of its factors.
        product: u128,
        /// Size of the rank.
        size: u64,
    },
    /// The outermost level does not keep a tensor.
    #[error("the outermost level does not keep tensor {tensor}")]
    NotKept {
        /// Index of the tensor.
        tensor: usize,
    },
    /// A rank stands in a tensor twice, or in a sum of a result.
    #[error(
        "rank {rank} in tensor {tensor}: each rank stands once, and alone in a result's dimension"
    )]
    Dimension {
        /// Index of the tensor.
        tensor: usize,
        /// Index of the rank.
        rank: usize,
    },
    /// A count overflows, or there are too many loops.
    #[error(transparent)]
    Count(#[from] CountError),
}

/// Counts the accesses of every level.
///
/// A level instance holds one tile of each tensor that it keeps, and remembers the previous one
/// only. An operand's words are read once where several instances below take them in the same
/// step, and written in each. A multiplier stores nothing: it reads its operands every cycle, once
/// for all multipliers along spatial loops that the operand does not have. Results are summed over
/// space on their way out. The first update of a word needs no read.
///
/// Under [`Counting::Timeloop`] a returning partial sum is written in every child that had the
/// word before, and the read that drains a tile outward is left out. Under
/// [`Counting::Physical`] that read counts, and a partial sum returns to one child of those that
/// are summed: the others start from nothing, so their next update needs no read.
///
/// # Errors
/// [`LevelError`] where the nest is malformed or a count overflows.
pub fn count_levels(nest: &LevelNest, counting: Counting) -> Result<LevelTotals, LevelError> {
    nest.check()?;
    let mut totals = LevelTotals {
        counts: vec![vec![LevelCounts::default(); nest.tensors.len()]; nest.levels.len()],
        points: nest
            .sizes
            .iter()
            .try_fold(1, |points, &size| mul(points, size.into()))?,
        cycles: product(nest.levels.iter().flat_map(|level| &level.temporal))?,
        multipliers: product(nest.levels.iter().flat_map(|level| &level.spatial))?,
        ..LevelTotals::default()
    };
    for l in 0..nest.levels.len() {
        totals.instances.push(product(
            nest.levels[..l].iter().flat_map(|level| &level.spatial),
        )?);
    }
    for (t, tensor) in nest.tensors.iter().enumerate() {
        let kept: Vec<usize> = (0..nest.levels.len())
            .filter(|&l| nest.levels[l].keep.contains(&t))
            .collect();
        if tensor.output {
            nest.count_output(t, &kept, counting, &mut totals)?;
        } else {
            nest.count_input(t, &kept, &mut totals)?;
        }
    }
    Ok(totals)
}

/// What passes between a level and the next inner one that keeps the tensor.
struct Exchange {
    /// Words that enter one instance of the child.
    child: u128,
    /// Different words that one instance of the parent sends in the same step, summed over steps.
    parent: u128,
}

impl LevelNest {
    fn check(&self) -> Result<(), LevelError> {
        let ranks = self.sizes.len();
        let check_rank = |rank: usize| {
            if rank < ranks {
                Ok(())
            } else {
                Err(LevelError::NoSuchRank { rank, ranks })
            }
        };
        let mut products = vec![1_u128; ranks];
        for level in &self.levels {
            for factor in level.temporal.iter().chain(&level.spatial) {
                check_rank(factor.rank)?;
                products[factor.rank] = mul(products[factor.rank], factor.factor.into())?;
            }
            let tensors = self.tensors.len();
            if let Some(&tensor) = level.keep.iter().find(|&&t| t >= tensors) {
                return Err(LevelError::NoSuchTensor { tensor, tensors });
            }
        }
        for (rank, (&product, &size)) in products.iter().zip(&self.sizes).enumerate() {
            if product != size.into() || size == 0 {
                return Err(LevelError::Factors {
                    rank,
                    product,
                    size,
                });
            }
            if size > 1 << 48 {
                return Err(CountError::Overflow.into());
            }
        }
        for (tensor, t) in self.tensors.iter().enumerate() {
            if self
                .levels
                .first()
                .is_none_or(|level| !level.keep.contains(&tensor))
            {
                return Err(LevelError::NotKept { tensor });
            }
            let mut seen = vec![false; ranks];
            for dim in &t.dims {
                for &rank in dim {
                    check_rank(rank)?;
                    if std::mem::replace(&mut seen[rank], true) || (t.output && dim.len() > 1) {
                        return Err(LevelError::Dimension { tensor, rank });
                    }
                }
            }
        }
        Ok(())
    }

    fn count_input(
        &self,
        t: usize,
        kept: &[usize],
        totals: &mut LevelTotals,
    ) -> Result<(), LevelError> {
        for pair in kept.windows(2) {
            let passed = self.exchange(t, pair[0], pair[1])?;
            totals.counts[pair[0]][t].reads = mul(passed.parent, totals.instances[pair[0]])?;
            totals.counts[pair[1]][t].fills = mul(passed.child, totals.instances[pair[1]])?;
        }
        let innermost = *kept.last().unwrap_or(&0);
        let (_, alike) = self.fan_out(t, innermost, self.levels.len())?;
        totals.counts[innermost][t].reads = totals.points / alike;
        Ok(())
    }

    fn count_output(
        &self,
        t: usize,
        kept: &[usize],
        counting: Counting,
        totals: &mut LevelTotals,
    ) -> Result<(), LevelError> {
        let mut entered = Vec::with_capacity(kept.len());
        let (mut apart, mut alike) = (vec![1], vec![1]);
        // The outermost level holds each of its words once and for all.
        let words = self.tensors[t].dims.iter().flatten();
        entered.push(
            words
                .clone()
                .try_fold(1, |size, &rank| mul(size, self.sizes[rank].into()))?,
        );
        for pair in kept.windows(2) {
            let passed = self.exchange(t, pair[0], pair[1])?;
            totals.counts[pair[0]][t].updates = mul(passed.parent, totals.instances[pair[0]])?;
            entered.push(passed.child);
            let (different, same) = self.fan_out(t, pair[0], pair[1])?;
            apart.push(different);
            alike.push(same);
        }
        let innermost = *kept.last().unwrap_or(&0);
        let (_, summed) = self.fan_out(t, innermost, self.levels.len())?;
        totals.counts[innermost][t].updates = totals.points / summed;
        for (i, &l) in kept.iter().enumerate() {
            let instances = totals.instances[l];
            // Words that one instance touches at all.
            let touched = entered[0] / apart[..=i].iter().product::<u128>();
            if counting == Counting::Timeloop {
                let counts = &mut totals.counts[l][t];
                counts.reads = counts.updates - mul(touched, instances)?;
                if i > 0 {
                    counts.fills = mul(entered[i] - touched, instances)?;
                }
                continue;
            }
            let fresh = fresh_starts(i, &entered, &apart, &alike)?;
            let all = mul(entered[i], instances)?;
            if i > 0 {
                let fills = all - fresh;
                totals.counts[l][t].fills = fills;
                // The parent reads what returns; the child, what it drains.
                let parent = &mut totals.counts[kept[i - 1]][t].reads;
                *parent = add(*parent, fills)?;
                totals.counts[l][t].reads = all;
            }
            if i + 1 == kept.len() {
                let counts = &mut totals.counts[l][t];
                counts.reads = add(counts.reads, counts.updates - fresh)?;
            }
        }
        Ok(())
    }

    /// Instances side by side between two levels: (product of the spatial factors of ranks that a
    /// tensor has, product of the others).
    fn fan_out(&self, t: usize, from: usize, to: usize) -> Result<(u128, u128), LevelError> {
        let has = |factor: &&Factor| {
            self.tensors[t]
                .dims
                .iter()
                .flatten()
                .any(|&r| r == factor.rank)
        };
        let spatial = || {
            self.levels[from..to]
                .iter()
                .flat_map(|level| &level.spatial)
        };
        Ok((
            product(spatial().filter(has))?,
            product(spatial().filter(|f| !has(f)))?,
        ))
    }

    /// Sums, over the first tile and every step of the temporal loops above level `child`, the
    /// words that are new to an instance of it, and those that its parent sends.
    fn exchange(&self, t: usize, parent: usize, child: usize) -> Result<Exchange, LevelError> {
        let ranks = self.sizes.len();
        // Coordinates of a tile of the child.
        let mut tile = vec![1_u64; ranks];
        for level in &self.levels[child..] {
            level
                .temporal
                .iter()
                .chain(&level.spatial)
                .for_each(|f| tile[f.rank] *= f.factor);
        }
        // Loops above the child, innermost first, with the distance of their iterations.
        let mut stride = tile.clone();
        let (mut steps, mut side_by_side) = (Vec::new(), vec![Vec::new(); ranks]);
        for (l, level) in self.levels[..child].iter().enumerate().rev() {
            for f in level.spatial.iter().rev() {
                if l >= parent {
                    side_by_side[f.rank].push((stride[f.rank], f.factor));
                }
                stride[f.rank] *= f.factor;
            }
            for f in level.temporal.iter().rev() {
                steps.push((f.rank, stride[f.rank], f.factor));
                stride[f.rank] *= f.factor;
            }
        }
        let dims: Vec<TileDim> = self.tensors[t]
            .dims
            .iter()
            .map(|dim| TileDim {
                len: dim.iter().map(|&r| tile[r] - 1).sum::<u64>() + 1,
                copies: dim
                    .iter()
                    .flat_map(|&r| side_by_side[r].iter().copied())
                    .collect(),
            })
            .collect();
        let whole = dims.iter().try_fold((1, 1), |(child, parent), dim| {
            Ok::<_, CountError>((
                mul(child, dim.len.into())?,
                mul(parent, dim.spread(dim.len)?)?,
            ))
        })?;
        let mut passed = Exchange {
            child: whole.0,
            parent: whole.1,
        };
        // From the innermost loop outward: how far the inner loops have taken each rank.
        let mut reach = vec![0_u64; ranks];
        let mut outer = steps
            .iter()
            .try_fold(1, |trips, &(_, _, n)| mul(trips, n.into()))?;
        for (rank, stride, trips) in steps {
            outer /= u128::from(trips);
            let times = mul(outer, (trips - 1).into())?;
            if times > 0 {
                let shift = |r: usize| {
                    let forward = if r == rank { i128::from(stride) } else { 0 };
                    forward - i128::from(reach[r])
                };
                let (mut size, mut kept, mut sent, mut unsent) = (1, 1, 1, 1);
                for (dim, ranks) in dims.iter().zip(&self.tensors[t].dims) {
                    let shift: i128 = ranks.iter().map(|&r| shift(r)).sum();
                    let new = u128::from(dim.len).min(shift.unsigned_abs());
                    size = mul(size, dim.len.into())?;
                    kept = mul(kept, u128::from(dim.len) - new)?;
                    // A word is sent where some instance takes it: every dimension must lie in
                    // its tile, and one of them in the new part.
                    let (all, fresh) = (dim.spread(dim.len)?, dim.spread(new as u64)?);
                    sent = mul(sent, all)?;
                    unsent = mul(unsent, all - fresh)?;
                }
                passed.child = add(passed.child, mul(times, size - kept)?)?;
                passed.parent = add(passed.parent, mul(times, sent - unsent)?)?;
            }
            reach[rank] += (trips - 1) * stride;
        }
        Ok(passed)
    }
}

/// One dimension of a tile, and where its copies side by side lie.
struct TileDim {
    len: u64,
    /// (distance, number) of instances, innermost first.
    copies: Vec<(u64, u64)>,
}

impl TileDim {
    /// Number of values that an interval of `len` covers in all copies together.
    fn spread(&self, len: u64) -> Result<u128, CountError> {
        if len == 0 {
            return Ok(0);
        }
        let mut copies = self.copies.clone();
        copies.sort_unstable();
        // Copies that touch make a longer interval.
        let mut run = len;
        let mut gaps = Vec::new();
        for (distance, number) in copies.into_iter().filter(|copy| copy.1 > 1) {
            if gaps.is_empty() && distance <= run {
                run += distance * (number - 1);
            } else {
                gaps.push((distance, number));
            }
        }
        if gaps.len() >= MAX_RANKS {
            return Err(CountError::TooMany {
                what: "spatial loops",
                found: gaps.len(),
                limit: MAX_RANKS - 1,
            });
        }
        let mut sum = Sum::ZERO;
        sum.push(1, run);
        for (distance, number) in gaps {
            sum.push(distance, number);
        }
        sum.size()
    }
}

/// How often, over all instances of the i-th kept level, a word of a result starts from nothing.
///
/// Of instances that are summed, one takes part in the partial sum that returns. An instance that
/// is that one at all levels starts each of its words once. Else let j be the innermost level at
/// which it, or the instance above it, is another: there a word starts afresh whenever it enters
/// level j.
fn fresh_starts(
    i: usize,
    entered: &[u128],
    apart: &[u128],
    alike: &[u128],
) -> Result<u128, CountError> {
    let all_apart = apart[..=i].iter().try_fold(1, |all, &n| mul(all, n))?;
    let mut fresh = 0;
    for j in 0..=i {
        let others = if j == 0 { 1 } else { alike[j] - 1 };
        let instances = alike[..j]
            .iter()
            .try_fold(mul(all_apart, others)?, |all, &n| mul(all, n))?;
        let each = entered[j] / apart[j + 1..=i].iter().product::<u128>();
        fresh = add(fresh, mul(instances, each)?)?;
    }
    Ok(fresh)
}

fn product<'a>(factors: impl Iterator<Item = &'a Factor>) -> Result<u128, CountError> {
    factors
        .into_iter()
        .try_fold(1, |product, f| mul(product, f.factor.into()))
}
