//! One dimension of a tensor: which coordinate of it a point of the space touches.

/// One dimension of a tensor: its coordinate is the sum of the terms (a convolution has two) and the offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dim {
    /// The summands.
    pub terms: Vec<Term>,
    /// Summands that are digits of sums themselves: a roll `(r + 8) % 16`.
    pub wrapped: Vec<Wrapped>,
    /// What is added to them.
    pub offset: i64,
    /// Where some coordinates are below 0 or not below the tensor's size: that size. Words exist inside only.
    pub within: Option<u64>,
    /// Where the words are chosen at run time: among how many. Each value of the sum stands for a word of its own, as
    /// far as there are as many.
    pub chosen: Option<u64>,
}

impl Dim {
    /// The coordinate where each rank has the one that `of` gives it.
    pub fn at(&self, of: &impl Fn(usize) -> u64) -> i128 {
        let terms = self.terms.iter().map(|t| t.value(of(t.rank)));
        let wrapped = self.wrapped.iter().map(|w| w.of_value(w.of.at(of)));
        let all = terms.chain(wrapped);
        all.fold(i128::from(self.offset), i128::saturating_add)
    }

    /// The coordinate at the first point of a box, given as first coordinate and length of each rank.
    pub fn first(&self, tile: &[(u64, u64)]) -> i128 {
        self.at(&|rank| tile[rank].0)
    }

    /// Least and greatest coordinate that could be in a box, given as first coordinate and length of each rank.
    pub fn range(&self, tile: &impl Fn(usize) -> (u64, u64)) -> (i128, i128) {
        let term = |t: &Term| {
            let (start, len) = tile(t.rank);
            let begun = t.modulus.map_or(u64::MAX, |m| m.saturating_sub(1));
            let (low, count) = t.digits(start, len).unwrap_or((0, begun.saturating_add(1)));
            (
                t.coefficient,
                low.into(),
                i128::from(low) + i128::from(count) - 1,
            )
        };
        let wrapped = |w: &Wrapped| {
            let (low, high) = w.of.range(tile);
            let unit = w.unit.max(1).into();
            let (low, high) = (low.div_euclid(unit), high.div_euclid(unit));
            let (low, high) = match w.modulus.map(i128::from) {
                Some(m) if low.div_euclid(m.max(1)) != high.div_euclid(m.max(1)) => (0, m - 1),
                Some(m) => (low.rem_euclid(m.max(1)), high.rem_euclid(m.max(1))),
                None => (low, high),
            };
            (w.coefficient, low, high)
        };
        let all = self.terms.iter().map(term);
        let all = all.chain(self.wrapped.iter().map(wrapped));
        let offset = i128::from(self.offset);
        all.fold((offset, offset), |(least, greatest), (c, low, high)| {
            let ends = [low, high].map(|v| i128::from(c).saturating_mul(v));
            (
                least.saturating_add(ends[0].min(ends[1])),
                greatest.saturating_add(ends[0].max(ends[1])),
            )
        })
    }

    /// Calls `visit` with every term, those of wrapped sums too.
    pub fn each_term(&self, visit: &mut dyn FnMut(&Term)) {
        self.terms.iter().for_each(&mut *visit);
        for wrapped in &self.wrapped {
            wrapped.of.each_term(visit);
        }
    }

    /// The ranks that it follows, a bit each.
    pub(super) fn ranks(&self) -> u32 {
        let mut ranks = 0;
        self.each_term(&mut |t| {
            ranks |= u32::try_from(t.rank).map_or(0, |rank| 1u32.checked_shl(rank).unwrap_or(0))
        });
        ranks
    }

    /// Whether it falls nowhere and wraps nowhere, all its coordinates exist, and none is chosen.
    pub(super) fn is_plain(&self) -> bool {
        let rises = |t: &Term| t.coefficient >= 0;
        self.wrapped.is_empty()
            && self.within.is_none()
            && self.chosen.is_none()
            && self.terms.iter().all(rises)
    }

    /// Whether it only falls.
    pub(super) fn falls(&self) -> bool {
        let terms = self.terms.iter().map(|t| t.coefficient);
        let mut all = terms.chain(self.wrapped.iter().map(|w| w.coefficient));
        self.chosen.is_none() && all.clone().any(|c| c < 0) && all.all(|c| c <= 0)
    }

    /// Turned around: coordinate x is `last - x`.
    pub(super) fn turned(&self, last: i64) -> Option<Self> {
        let mut out = self.clone();
        for term in &mut out.terms {
            term.coefficient = term.coefficient.checked_neg()?;
        }
        for wrapped in &mut out.wrapped {
            wrapped.coefficient = wrapped.coefficient.checked_neg()?;
        }
        out.offset = last.checked_sub(self.offset)?;
        Some(out)
    }

    /// The sum of these terms.
    pub fn sum(terms: Vec<Term>) -> Self {
        Self {
            terms,
            ..Self::default()
        }
    }
}

/// A digit of a sum: `coefficient * ((of / unit) % modulus)`, divided towards minus infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The sum: its terms, wrapped sums and offset.
    pub of: Dim,
    /// Divisor.
    pub unit: u64,
    /// Modulus, if any.
    pub modulus: Option<u64>,
    /// Factor, applied last.
    pub coefficient: i64,
}

impl Wrapped {
    /// The summand where the sum has this value.
    pub fn of_value(&self, value: i128) -> i128 {
        let digit = value.div_euclid(self.unit.max(1).into());
        let digit = self
            .modulus
            .map_or(digit, |m| digit.rem_euclid(m.max(1).into()));
        i128::from(self.coefficient).saturating_mul(digit)
    }
}

/// A summand of a coordinate: `coefficient * ((x / unit) % modulus)` for coordinate x of the rank.
///
/// After a partition of M into M1, M0: m1 has unit M0, m0 has modulus M0. Grouped heads `h / G`
/// have unit G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Index of the base rank.
    pub rank: usize,
    /// Divisor; 1 for the plain coordinate.
    pub unit: u64,
    /// Modulus, if any.
    pub modulus: Option<u64>,
    /// Factor, applied last; below 0 the coordinate falls as the rank rises.
    pub coefficient: i64,
}

impl Term {
    /// The plain coordinate of a rank.
    pub fn plain(rank: usize) -> Self {
        Self {
            rank,
            unit: 1,
            modulus: None,
            coefficient: 1,
        }
    }

    /// The term's value at coordinate `x` of its rank.
    pub fn value(&self, x: u64) -> i128 {
        let digit = (x / self.unit.max(1)) % self.modulus.unwrap_or(u64::MAX).max(1);
        i128::from(self.coefficient) * i128::from(digit)
    }

    /// The values over a run of coordinates, before the coefficient: first, and how many. None where they begin anew on
    /// the way.
    pub fn digits(&self, start: u64, len: u64) -> Option<(u64, u64)> {
        let unit = self.unit.max(1);
        let (low, high) = (start / unit, (start + len.max(1) - 1) / unit);
        match self.modulus {
            None => Some((low, high - low + 1)),
            Some(m) if high - low + 1 >= m => Some((0, m)),
            Some(m) => (low % m + (high - low) < m).then_some((low % m, high - low + 1)),
        }
    }
}
