use super::{Condition, CountError};

/// Most ranks that a [`Space`] may have.
pub const MAX_RANKS: usize = 12;
/// Most loops over a [`Space`].
pub const MAX_LOOPS: usize = 24;

/// An iteration space: the cross product of its base ranks.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// Number of coordinates of each base rank.
    pub sizes: Vec<u64>,
    /// Points at which one of these fails are empty.
    pub conditions: Vec<Condition>,
    /// Whether iterations in whose tile every point is empty are left out: they take no time and
    /// move nothing, and the tile before them is still remembered after them. Else they run.
    pub skip_empty: bool,
}

impl Space {
    /// The whole cross product of ranks of these sizes.
    pub fn new(sizes: impl Into<Vec<u64>>) -> Self {
        Self {
            sizes: sizes.into(),
            ..Self::default()
        }
    }

    /// The sizes in an array of fixed length, 1 beyond the last rank.
    pub(super) fn extents(&self) -> Result<[u64; MAX_RANKS], CountError> {
        let found = self.sizes.len();
        if found > MAX_RANKS {
            return Err(CountError::TooMany {
                what: "ranks",
                found,
                limit: MAX_RANKS,
            });
        }
        if self.sizes.iter().any(|&size| size > 1 << 62) {
            return Err(CountError::Overflow);
        }
        let mut extents = [1; MAX_RANKS];
        extents[..found].copy_from_slice(&self.sizes);
        Ok(extents)
    }

    /// True where conditions decide which iterations run.
    pub(crate) fn skips(&self) -> bool {
        self.skip_empty && !self.conditions.is_empty()
    }

    pub(super) fn check_rank(&self, rank: usize) -> Result<(), CountError> {
        let ranks = self.sizes.len();
        if rank < ranks {
            Ok(())
        } else {
            Err(CountError::NoSuchRank { rank, ranks })
        }
    }
}

/// A loop. It cuts the extent X that its rank has at that depth (the rank's size, or the
/// tile of the enclosing loop on the same rank) into ceil(X / step) tiles; all but the last have
/// `step` coordinates, the last has the rest. A step of X or more makes one iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Index of the base rank.
    pub rank: usize,
    /// Coordinates of a full tile.
    pub step: u64,
    /// Over what its tiles are spread.
    pub over: Spread,
}

/// Over what a [`Loop`] spreads its tiles. Instances side by side have tiles of one size: a spatial
/// loop divides every box of its rank exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Over time: a temporal loop, one tile after another.
    #[default]
    Time,
    /// Over instances side by side, each with a source of its own.
    Sources,
    /// Over instances side by side that share a source, which sends what several of them take in
    /// the same step once (multicast; for results, sums them on their way).
    Lanes,
}

impl Loop {
    /// A temporal loop over `rank` in tiles of `step` coordinates.
    pub fn new(rank: usize, step: u64) -> Self {
        Self {
            rank,
            step,
            over: Spread::Time,
        }
    }

    /// True where its tiles lie side by side.
    pub fn is_spatial(&self) -> bool {
        self.over != Spread::Time
    }
}
