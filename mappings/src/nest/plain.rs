//! The common case of [`super::moved`], an order of magnitude faster: every dimension is one rank's
//! plain coordinate or quotient, and every loop that steps the tensor iterates in every box.
//!
//! Two tiles are then equal or disjoint. Down to the innermost loop that steps the tensor every
//! iteration has a new tile, below it none has; so the words are a product over the ranks: the
//! digits of a rank that the tensor has, the boxes of any other.

use super::{Loop, MAX_LOOPS, MAX_RANKS, Moved, Projection, Reuse, Space};

/// Most digits of one rank in a projection that this case recognises.
const MAX_DIGITS: usize = 3;

/// The boxes of one rank at one depth: full ones, and partial ones of a single length.
#[derive(Clone, Copy)]
struct Boxes {
    extent: u64,
    full: u64,
    tail: u64,
    tails: u64,
}

impl Boxes {
    /// Cuts every box; false where that needs more than one length of partial boxes, or where
    /// `every` box must be cut and one is not.
    #[inline]
    fn cut(&mut self, step: u64, every: bool) -> bool {
        let trips = self.extent / step;
        let rest = self.extent - trips * step;
        let mut after = Self {
            extent: step,
            full: self.full * trips,
            tail: rest,
            tails: 0,
        };
        if rest > 0 {
            after.tails = self.full;
        }
        if self.tails > 0 {
            if every && self.tail <= step {
                return false;
            }
            let trips = self.tail / step;
            let rest = self.tail - trips * step;
            after.full += self.tails * trips;
            if rest > 0 {
                if after.tails > 0 && after.tail != rest {
                    return false;
                }
                after.tail = rest;
                after.tails += self.tails;
            }
        }
        *self = after;
        true
    }
}

/// What moves, or `None` where the general method has to answer.
pub(super) fn moved(
    space: &Space,
    loops: &[Loop],
    projection: &Projection,
    reuse: Reuse,
) -> Option<Moved> {
    let ranks = space.sizes.len();
    if ranks > MAX_RANKS
        || loops.len() > MAX_LOOPS
        || space.sizes.iter().any(|&size| size == 0 || size > 1 << 62)
    {
        return None;
    }
    let units = units(space, projection)?;
    let mut nominal = [1_u64; MAX_RANKS];
    nominal[..ranks].copy_from_slice(&space.sizes);
    let sizes = nominal;
    // How many loops there are down to the innermost that steps the tensor.
    let mut depth = 0;
    for (i, l) in loops.iter().enumerate() {
        if l.rank >= ranks || l.step == 0 || l.is_spatial() {
            return None;
        }
        let extent = &mut nominal[l.rank];
        if l.step < *extent {
            if units[l.rank] < *extent {
                depth = i + 1;
            }
            *extent = l.step;
        }
    }
    if reuse == Reuse::Nothing {
        // Every loop steps what moves.
        depth = usize::MAX;
    }
    let mut boxes = sizes.map(|size| Boxes {
        extent: size,
        full: 1,
        tail: 0,
        tails: 0,
    });
    // Ranks of which several boxes hold the same digit.
    let mut repeats = [false; MAX_RANKS];
    for (i, l) in loops.iter().take(depth).enumerate() {
        let rank = &mut boxes[l.rank];
        let unit = units[l.rank];
        if l.step >= rank.extent {
            continue;
        }
        if unit >= rank.extent {
            repeats[l.rank] |= unit != u64::MAX;
            if !rank.cut(l.step, false) {
                return None;
            }
        } else if l.step >= unit {
            if !(unit == 1 || l.step.is_multiple_of(unit)) || !rank.cut(l.step, true) {
                return None;
            }
        } else {
            // The same as two loops: over the units, and within one. Where this is the innermost
            // loop that steps the tensor, only the first of the two does.
            if !unit.is_multiple_of(l.step) || !rank.cut(unit, true) {
                return None;
            }
            if i + 1 < depth {
                repeats[l.rank] = true;
                if !rank.cut(l.step, false) {
                    return None;
                }
            }
        }
    }
    let (mut words, mut tiles, mut distinct) = (1, 1, 1);
    for r in 0..ranks {
        let number = boxes[r].full + boxes[r].tails;
        let digits = match units[r] {
            u64::MAX => 1,
            1 => sizes[r],
            unit => sizes[r].div_ceil(unit),
        };
        let factor = if units[r] == u64::MAX || repeats[r] {
            number
        } else {
            digits
        };
        words = product(words, factor)?;
        tiles = product(tiles, number)?;
        distinct = product(distinct, digits)?;
    }
    Some(Moved::alone(words, tiles, distinct))
}

/// The product of the trip counts, or `None` where the general method has to answer.
pub(super) fn iterations(space: &Space, loops: &[Loop]) -> Option<u128> {
    let ranks = space.sizes.len();
    if ranks > MAX_RANKS
        || loops.len() > MAX_LOOPS
        || space.sizes.iter().any(|&size| size == 0 || size > 1 << 62)
    {
        return None;
    }
    let mut boxes = [Boxes {
        extent: 1,
        full: 1,
        tail: 0,
        tails: 0,
    }; MAX_RANKS];
    for (rank, &size) in boxes.iter_mut().zip(&space.sizes) {
        rank.extent = size;
    }
    for l in loops {
        if l.rank >= ranks || l.step == 0 || l.is_spatial() {
            return None;
        }
        let rank = &mut boxes[l.rank];
        if l.step < rank.extent && !rank.cut(l.step, false) {
            return None;
        }
    }
    boxes[..ranks].iter().try_fold(1, |product_so_far, b| {
        product(product_so_far, b.full + b.tails)
    })
}

#[inline]
fn product(a: u128, b: u64) -> Option<u128> {
    if a >> 64 == 0 {
        Some(a * u128::from(b))
    } else {
        a.checked_mul(b.into())
    }
}

/// For each rank the unit of its lowest digit in the tensor, where the tensor has all digits from
/// there up, each a dimension of its own; `u64::MAX` for a rank that does not move the tensor.
fn units(space: &Space, projection: &Projection) -> Option<[u64; MAX_RANKS]> {
    let mut digits = [[(0_u64, 0_u64); MAX_DIGITS]; MAX_RANKS];
    let mut number = [0_usize; MAX_RANKS];
    for dim in &projection.dims {
        let [term] = dim.terms.as_slice() else {
            return None;
        };
        let size = *space.sizes.get(term.rank)?;
        if term.coefficient != 1 || term.unit == 0 || number[term.rank] == MAX_DIGITS {
            return None;
        }
        if size <= term.unit {
            continue;
        }
        let modulus = match term.modulus {
            Some(modulus) if modulus < size.div_ceil(term.unit) => modulus,
            _ => 0,
        };
        if term.modulus == Some(0) {
            return None;
        }
        if modulus == 1 {
            continue;
        }
        digits[term.rank][number[term.rank]] = (term.unit, modulus);
        number[term.rank] += 1;
    }
    let mut units = [u64::MAX; MAX_RANKS];
    for (r, digits) in digits.iter().enumerate() {
        let digits = &digits[..number[r]];
        match *digits {
            [] => {}
            [(unit, 0)] => units[r] = unit,
            _ => units[r] = chain(digits)?,
        }
    }
    Some(units)
}

/// The lowest unit of digits that follow one another and end without a modulus.
fn chain(digits: &[(u64, u64)]) -> Option<u64> {
    let &(lowest, mut modulus) = digits.iter().min()?;
    let mut unit = lowest;
    for _ in 1..digits.len() {
        unit = unit.checked_mul(modulus)?;
        modulus = digits.iter().find(|digit| digit.0 == unit)?.1;
    }
    (modulus == 0).then_some(lowest)
}
