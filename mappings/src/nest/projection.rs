use std::borrow::Cow;

use super::{CountError, Dim, MAX_RANKS, Space, Term};

/// Most dimensions that a [`Projection`] may have.
pub const MAX_DIMS: usize = 8;

/// Which words of a tensor a point of the space touches: one, and one for each further image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    /// The tensor's dimensions.
    pub dims: Vec<Dim>,
    /// The same at the other places that a point reads too: `X[m - 1]` beside `X[m]`.
    pub also: Vec<Vec<Dim>>,
}

impl Projection {
    /// One image with these dimensions.
    pub fn of(dims: Vec<Dim>) -> Self {
        Self {
            dims,
            also: Vec::new(),
        }
    }

    /// The projection onto plain coordinates: one dimension for each rank given.
    pub fn plain(ranks: &[usize]) -> Self {
        let dim = |&rank: &usize| Dim::sum(vec![Term::plain(rank)]);
        Self::of(ranks.iter().map(dim).collect())
    }

    /// The images: for each its dimensions.
    pub fn images(&self) -> impl Iterator<Item = &[Dim]> {
        let also = self.also.iter().map(Vec::as_slice);
        std::iter::once(self.dims.as_slice()).chain(also)
    }

    /// The dimensions of all images.
    pub fn all_dims(&self) -> impl Iterator<Item = &Dim> {
        self.images().flatten()
    }

    /// The images of both, each once.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for image in other.images() {
            if !all.images().any(|i| i == image) {
                all.also.push(image.to_vec());
            }
        }
        all
    }

    /// Whether a tile has as many words wherever it lies along a rank: whether all its words exist, none wraps, and all
    /// images move alike.
    pub fn is_even_along(&self, rank: usize) -> bool {
        let along = |d: &Dim| {
            d.terms
                .iter()
                .filter(|t| t.rank == rank)
                .copied()
                .collect::<Vec<_>>()
        };
        let wraps = |d: &Dim| d.wrapped.iter().any(|w| w.of.ranks() >> rank & 1 == 1);
        let alike = |image: &[Dim]| {
            let mut dims = image.iter().zip(&self.dims);
            dims.all(|(d, first)| {
                let own = along(d);
                own == along(first) && (own.is_empty() || d.within.is_none()) && !wraps(d)
            })
        };
        self.images().all(alike)
    }

    /// Whether there is one image that rises and does not wrap, and all its words exist: then where it lies changes no
    /// count.
    pub fn is_plain(&self) -> bool {
        self.also.is_empty() && self.dims.iter().all(Dim::is_plain)
    }

    /// The same with dimensions that only fall turned around: as many words, and as many in common.
    pub(super) fn risen(&self) -> Cow<'_, Self> {
        let falls = |d: usize| {
            let size = self.dims[d].within;
            self.images().any(|image| image[d].falls())
                && self.images().all(|image| {
                    let own = &image[d];
                    own.within == size && (own.falls() || own.ranks() == 0)
                })
        };
        let falling: Vec<usize> = (0..self.dims.len()).filter(|d| falls(*d)).collect();
        if falling.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut out = self.clone();
        let also = out.also.iter_mut().map(Vec::as_mut_slice);
        for image in std::iter::once(out.dims.as_mut_slice()).chain(also) {
            for &d in &falling {
                let last = image[d]
                    .within
                    .map_or(Ok(0), |size| i64::try_from(size.saturating_sub(1)));
                let turned = last.ok().and_then(|last| image[d].turned(last));
                let Some(turned) = turned else {
                    return Cow::Borrowed(self);
                };
                image[d] = turned;
            }
        }
        Cow::Owned(out)
    }
}

/// Says that a rank has no term, or a chain no further cut.
pub(super) const NONE: u8 = u8::MAX;

/// A term of a [`View`].
#[derive(Clone, Copy, Debug)]
pub(super) struct FlatTerm {
    pub rank: u8,
    pub dim: u8,
    pub unit: u64,
    /// `u64::MAX` without a modulus.
    pub modulus: u64,
    pub coefficient: u64,
}

/// A run of consecutive values of a term, before the coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    pub start: u64,
    pub count: u64,
}

impl Digits {
    /// How many values the two have in common.
    #[inline]
    pub fn common(self, other: Self) -> u64 {
        let end = (self.start + self.count).min(other.start + other.count);
        end.saturating_sub(self.start.max(other.start))
    }
}

impl FlatTerm {
    const EMPTY: Self = Self {
        rank: 0,
        dim: 0,
        unit: 1,
        modulus: u64::MAX,
        coefficient: 0,
    };

    /// The values over the coordinates [start, start + len), which lie within one block of the
    /// term or start where one starts (see [`super::cuts`]).
    #[inline]
    pub fn digits(&self, start: u64, len: u64) -> Digits {
        if self.unit == 1 && self.modulus == u64::MAX {
            return Digits { start, count: len };
        }
        let count = if len <= self.unit {
            1
        } else {
            len.div_ceil(self.unit).min(self.modulus)
        };
        let block = if self.unit == 1 {
            start
        } else {
            start / self.unit
        };
        Digits {
            start: if block < self.modulus {
                block
            } else {
                block % self.modulus
            },
            count,
        }
    }

    /// Length of the blocks after which the values repeat.
    fn period(&self) -> Option<u64> {
        (self.modulus != u64::MAX).then(|| self.unit.saturating_mul(self.modulus))
    }

    /// Lengths of the blocks at whose ends the value steps: the unit, and the period.
    #[inline]
    pub fn blocks(&self) -> [u64; 2] {
        [self.unit, self.period().unwrap_or(u64::MAX)]
    }
}

/// A projection in a form without indirection, every rank in one term at most.
#[derive(Clone, Debug)]
pub(super) struct View {
    terms: [FlatTerm; MAX_RANKS],
    len: usize,
    ends: [u8; MAX_DIMS],
    dims: usize,
    of_rank: [u8; MAX_RANKS],
}

impl View {
    /// Checks a projection and lays it flat. Digits of one rank that belong together (m1 and m0
    /// of m, as two dimensions or summed into one) become one term of the whole.
    pub fn new(space: &Space, projection: &Projection) -> Result<Self, CountError> {
        if projection.dims.len() > MAX_DIMS {
            let found = projection.dims.len();
            return Err(CountError::TooMany {
                what: "dimensions",
                found,
                limit: MAX_DIMS,
            });
        }
        let mut view = Self {
            terms: [FlatTerm::EMPTY; MAX_RANKS],
            len: 0,
            ends: [0; MAX_DIMS],
            dims: projection.dims.len(),
            of_rank: [NONE; MAX_RANKS],
        };
        for (d, dim) in projection.dims.iter().enumerate() {
            for term in &dim.terms {
                let Some(flat) = flatten(space, term, d)? else {
                    continue;
                };
                if view.of_rank[term.rank] != NONE {
                    return Self::merged(space, projection);
                }
                view.push(flat);
            }
            view.ends[d] = view.len as u8;
        }
        Ok(view)
    }

    /// Terms of one dimension.
    #[inline]
    pub fn dim(&self, d: usize) -> &[FlatTerm] {
        let start = if d == 0 { 0 } else { self.ends[d - 1] as usize };
        &self.terms[start..self.ends[d] as usize]
    }

    /// Number of dimensions.
    #[inline]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The term on a rank.
    #[inline]
    pub fn term_of(&self, rank: usize) -> Option<&FlatTerm> {
        let index = self.of_rank[rank];
        (index != NONE).then(|| &self.terms[index as usize])
    }

    /// The view of some of the dimensions only.
    pub fn only(&self, dims: &[usize]) -> Self {
        let mut view = Self {
            terms: [FlatTerm::EMPTY; MAX_RANKS],
            len: 0,
            ends: [0; MAX_DIMS],
            dims: dims.len(),
            of_rank: [NONE; MAX_RANKS],
        };
        for (d, &from) in dims.iter().enumerate() {
            for &term in self.dim(from) {
                view.push(FlatTerm {
                    dim: d as u8,
                    ..term
                });
            }
            view.ends[d] = view.len as u8;
        }
        view
    }

    fn push(&mut self, term: FlatTerm) {
        self.of_rank[term.rank as usize] = self.len as u8;
        self.terms[self.len] = term;
        self.len += 1;
    }

    /// The same where a rank occurs more than once.
    fn merged(space: &Space, projection: &Projection) -> Result<Self, CountError> {
        let mut dims: Vec<Vec<FlatTerm>> = Vec::with_capacity(projection.dims.len());
        for (d, dim) in projection.dims.iter().enumerate() {
            let mut terms = Vec::new();
            for term in &dim.terms {
                terms.extend(flatten(space, term, d)?);
            }
            dims.push(merge_within(terms));
        }
        while let Some((high, low)) = adjacent_digits(&dims) {
            let upper = dims.swap_remove(high)[0];
            let lower = &mut dims
                .iter_mut()
                .find(|d| d.len() == 1 && follows(&upper, &d[0]))
                .ok_or(CountError::SharedRank { rank: low })?[0];
            *lower = FlatTerm {
                modulus: joined_modulus(&upper, lower),
                ..*lower
            };
        }
        let mut view = Self {
            terms: [FlatTerm::EMPTY; MAX_RANKS],
            len: 0,
            ends: [0; MAX_DIMS],
            dims: dims.len(),
            of_rank: [NONE; MAX_RANKS],
        };
        for (d, terms) in dims.iter().enumerate() {
            for &term in terms {
                if view.of_rank[term.rank as usize] != NONE {
                    return Err(CountError::SharedRank {
                        rank: term.rank as usize,
                    });
                }
                view.push(FlatTerm {
                    dim: d as u8,
                    ..term
                });
            }
            view.ends[d] = view.len as u8;
        }
        Ok(view)
    }
}

/// A term's flat form; none where its value is constant.
fn flatten(space: &Space, term: &Term, dim: usize) -> Result<Option<FlatTerm>, CountError> {
    space.check_rank(term.rank)?;
    if term.unit == 0 {
        return Err(CountError::Zero {
            what: "unit",
            rank: term.rank,
        });
    }
    let modulus = match term.modulus {
        None => u64::MAX,
        Some(0) => {
            return Err(CountError::Zero {
                what: "modulus",
                rank: term.rank,
            });
        }
        Some(modulus) => modulus,
    };
    let size = space.sizes[term.rank];
    // Without effect: the coordinate never reaches the modulus.
    let modulus = if size.div_ceil(term.unit) <= modulus {
        u64::MAX
    } else {
        modulus
    };
    if term.coefficient == 0 || modulus == 1 || size <= term.unit {
        return Ok(None);
    }
    // What falls is counted by images.
    let coefficient = u64::try_from(term.coefficient).map_err(|_| CountError::Overflow)?;
    if coefficient
        .checked_mul(size)
        .is_none_or(|reach| reach > 1 << 62)
    {
        return Err(CountError::Overflow);
    }
    Ok(Some(FlatTerm {
        rank: term.rank as u8,
        dim: dim as u8,
        unit: term.unit,
        modulus,
        coefficient,
    }))
}

/// Whether `upper` is the digit above `lower` of the same rank.
fn follows(upper: &FlatTerm, lower: &FlatTerm) -> bool {
    upper.rank == lower.rank && lower.period() == Some(upper.unit)
}

fn joined_modulus(upper: &FlatTerm, lower: &FlatTerm) -> u64 {
    if upper.modulus == u64::MAX {
        u64::MAX
    } else {
        lower.modulus.saturating_mul(upper.modulus)
    }
}

/// Joins digits of one rank that are summed with the weights of their places: `m1 * M0 + m0`.
fn merge_within(mut terms: Vec<FlatTerm>) -> Vec<FlatTerm> {
    let joins = |upper: &FlatTerm, lower: &FlatTerm| {
        follows(upper, lower)
            && lower.coefficient.checked_mul(lower.modulus) == Some(upper.coefficient)
    };
    loop {
        let found = (0..terms.len()).find_map(|i| {
            (0..terms.len())
                .find(|&j| joins(&terms[i], &terms[j]))
                .map(|j| (i, j))
        });
        let Some((i, j)) = found else { return terms };
        terms[j].modulus = joined_modulus(&terms[i], &terms[j]);
        terms.remove(i);
    }
}

/// Two dimensions that hold adjacent digits of one rank and nothing else: the index of the
/// dimension with the upper digit, and the rank.
fn adjacent_digits(dims: &[Vec<FlatTerm>]) -> Option<(usize, usize)> {
    let single = |d: &&Vec<FlatTerm>| d.len() == 1;
    dims.iter()
        .position(|upper| {
            upper.len() == 1
                && dims
                    .iter()
                    .filter(single)
                    .any(|lower| follows(&upper[0], &lower[0]))
        })
        .map(|high| (high, dims[high][0].rank as usize))
}
