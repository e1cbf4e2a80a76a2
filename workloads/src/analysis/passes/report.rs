use indexmap::IndexMap;

use crate::cascade::{Cascade, Sizes, TensorId};

/// Passes of a cascade and what they force to be held; see [`passes`](super::passes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassReport {
    /// By the name of the rank: each unsplit rank (`M`) and, behind it, each of its parts (`M1`, `M0`).
    /// The passes over a part are those over the fiber of one tile (`M0`), or over the fiber of tiles (`M1`).
    pub passes: IndexMap<String, Passes>,
    /// Tensors that must be held (or spilled and read again) across a barrier over an unsplit rank.
    pub live: Vec<Live>,
    /// The same for barriers over a part: what one tile, or the tiles' summaries, must keep.
    pub live_in_parts: Vec<Live>,
}

/// Passes over the fibers of one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passes {
    /// How many.
    pub count: u32,
    /// One line for each pass after the first: which Einsum reads which tensor across which barrier. Where there is
    /// only one, why; and a line for each read through an index tensor, which is no pass.
    pub why: Vec<String>,
}

/// A tensor that must be held across a barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The tensor; for a view, the tensor of which it is one.
    pub id: TensorId,
    /// Its name.
    pub tensor: String,
    /// The rank whose barrier it outlives.
    pub rank: String,
    /// The ranks of the fiber that is held: all parts of the rank, or fewer for a summary.
    pub fiber: Vec<String>,
    /// Every rank of the tensor.
    pub ranks: Vec<String>,
    /// True if every element of the rank's fiber is held, false for a summary (one value for each tile).
    pub whole_fiber: bool,
    /// Which reads it waits for.
    pub why: String,
}

impl PassReport {
    /// Passes over a rank; `None` for a rank over which nothing iterates.
    pub fn over(&self, rank: &str) -> Option<u32> {
        self.passes.get(rank).map(|passes| passes.count)
    }

    /// Names of the tensors held across a barrier over `rank`, in the order of the cascade.
    pub fn held_over<'a>(&'a self, rank: &'a str) -> impl Iterator<Item = &'a Live> {
        self.live
            .iter()
            .chain(&self.live_in_parts)
            .filter(move |live| live.rank == rank)
    }
}

impl Live {
    /// Words of one fiber; `None` where a size is missing or the product passes 128 bits.
    pub fn fiber_words(&self, sizes: &Sizes) -> Option<u128> {
        product(&self.fiber, sizes)
    }

    /// Words of the whole tensor, one batch element; `None` where a size is missing or the product passes 128 bits.
    pub fn words(&self, sizes: &Sizes) -> Option<u128> {
        product(&self.ranks, sizes)
    }

    pub(super) fn new(
        cascade: &Cascade,
        id: TensorId,
        rank: &str,
        fiber: Vec<String>,
        whole_fiber: bool,
    ) -> Self {
        let tensor = cascade.tensor(id);
        Live {
            id,
            tensor: tensor.name.clone(),
            rank: rank.to_string(),
            fiber,
            ranks: tensor
                .ranks
                .iter()
                .map(|rank| cascade.rank(*rank).name.clone())
                .collect(),
            whole_fiber,
            why: String::new(),
        }
    }
}

fn product(ranks: &[String], sizes: &Sizes) -> Option<u128> {
    ranks.iter().try_fold(1u128, |product, rank| {
        product.checked_mul(u128::from(sizes.get(rank)?))
    })
}
