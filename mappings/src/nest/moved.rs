use super::cuts::Cuts;
use super::images::{self, Images};
use super::pair::Interval;
use super::projection::View;
use super::region::{Box, Region};
use super::skip::{Skip, Summary};
use super::values::Sum;
use super::walk::{Walk, add, mul};
use super::{CountError, Loop, MAX_RANKS, Projection, Space, Spread, distinct, plain};

/// What one tensor's tile costs to keep up to date while its loops run: all instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Words that leave their sources: the first tile whole, then of each tile what the one before
    /// did not hold. What several lanes of a source lack in the same step leaves it once.
    pub words: u128,
    /// How often the tile of an instance changed, the first one included.
    pub tiles: u128,
    /// Words ever touched, each once for every source.
    pub distinct: u128,
    /// Words that arrive: `words`, where no loop is spatial.
    pub received: u128,
    /// Words ever touched, each once for every instance: `distinct`, where no loop is spatial.
    pub received_distinct: u128,
}

impl Moved {
    /// Where there is one source and one instance.
    pub(super) fn alone(words: u128, tiles: u128, distinct: u128) -> Self {
        Self {
            words,
            tiles,
            distinct,
            received: words,
            received_distinct: distinct,
        }
    }

    /// The same where so many words moved instead, in a nest without spatial loops.
    #[must_use]
    pub fn with_words(self, words: u128) -> Self {
        Self::alone(words, self.tiles, self.distinct)
    }
}

/// What is left of a tile for the next step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Its words: what the next tile has too does not move again.
    #[default]
    Previous,
    /// Nothing: every step moves its tile whole.
    Nothing,
    /// Its words where the tile's first point still touches the same: else all have moved on by a place, to where
    /// another's word is of no use. So it is in the PEs of an array, none of which has its neighbour's word.
    InPlace,
}

/// Words that move into a memory that holds one tile of a tensor and remembers the previous one.
///
/// Walking all iterations of `loops` in order, `words` is the sum over the steps of
/// |tile(step) \ tile(previous step)|. It is computed in closed form: a step from one iteration of
/// a loop to the next takes the outer loops as they are, this loop from one tile to the next, and
/// all inner loops from their last to their first tile. The dimensions of the tensor have no rank
/// in common, so both the sizes and the overlaps of tiles are products over the dimensions, and so
/// are their sums over all iterations. The cost does not depend on the trip counts.
///
/// With loops over lanes (see [`Spread`](super::Spread)) a source sends in a step the union of what
/// its lanes lack: not what the union of their tiles lacks, for a lane has nothing of its
/// neighbours'.
///
/// Where the space skips empty tiles, those iterations are left out in whose tile no point
/// satisfies the conditions; the others move their tile whole.
///
/// # Errors
/// See [`CountError`]; none for projections onto plain coordinates within the limits.
pub fn moved(space: &Space, loops: &[Loop], projection: &Projection) -> Result<Moved, CountError> {
    moved_within(space, loops, loops.len(), projection, Reuse::Previous)
}

/// As [`moved`], where only the boxes of the first `tile_depth` loops are tested for emptiness (the
/// loops further in run in full wherever their tile is not empty), and with a choice of what is reused.
///
/// # Errors
/// As [`moved`].
pub fn moved_within(
    space: &Space,
    loops: &[Loop],
    tile_depth: usize,
    projection: &Projection,
    reuse: Reuse,
) -> Result<Moved, CountError> {
    let projection = &*projection.risen();
    // Where every dimension is one term, tiles have the same words or none in common.
    let apart = || projection.dims.iter().all(|d| d.terms.len() <= 1);
    let reuse = match reuse {
        Reuse::InPlace if projection.is_plain() && apart() => Reuse::Previous,
        other => other,
    };
    let by_images = || {
        let images = Images::new(space, projection)?;
        if space.sizes.contains(&0) {
            return Ok(Moved::default());
        }
        if space.skips() {
            images.walked(space, loops, tile_depth, reuse)
        } else {
            images.moved(loops, &images::whole(space), reuse)
        }
    };
    if !projection.is_plain() || reuse == Reuse::InPlace {
        return by_images();
    }
    if !space.skips()
        && let Some(found) = plain::moved(space, loops, projection, reuse)
    {
        return Ok(found);
    }
    let extents = space.extents()?;
    let view = match View::new(space, projection) {
        Ok(view) => view,
        // Digits of one rank in a sum of another kind.
        Err(CountError::SharedRank { .. }) => return by_images(),
        Err(error) => return Err(error),
    };
    let cuts = Cuts::new(space, loops, tile_depth, &view)?;
    if space.sizes.contains(&0) {
        return Ok(Moved::default());
    }
    if space.skips() {
        let region = Region::new(space)?;
        let Some(found) = skipping(&cuts, &view, &region, &extents, reuse)? else {
            return Ok(Moved::default());
        };
        return Ok(Moved::alone(
            add(view.words(&found.first.map(|tile| tile.len))?, found.words)?,
            add(1, found.tiles)?,
            distinct::touched(space, &cuts, &view, &region)?,
        ));
    }
    let mut first = extents;
    for (extent, &tile) in first.iter_mut().zip(&cuts.innermost) {
        *extent = tile.min(*extent);
    }
    let walk = || Walk::new(&cuts, &view, 0, &extents);
    let steps = walk()?.with(reuse, &[]).steps()?;
    let alone = Moved::alone(
        add(view.words(&first)?, steps.words)?,
        add(1, steps.tiles)?,
        view.words(&extents)?,
    );
    if !cuts.spatial {
        return Ok(alone);
    }
    let sums = |of: &dyn Fn(usize) -> Result<Sum, CountError>| {
        (0..view.dims()).map(of).collect::<Result<Vec<_>, _>>()
    };
    let words = |sums: &[Sum]| {
        sums.iter()
            .try_fold(1, |words, sum| mul(words, sum.size()?))
    };
    let lanes = sums(&|d| cuts.lanes(&view, d))?;
    let together = sums(&|d| view.sum(d, &first).plus(&lanes[d]))?;
    let sent = walk()?.with(reuse, &lanes).steps()?.words;
    let sources = cuts.instances(Spread::Sources)?;
    let instances = mul(sources, cuts.instances(Spread::Lanes)?)?;
    let reach = |lane| words(&sums(&|d| cuts.reach(&view, d, &extents, lane))?);
    Ok(Moved {
        words: mul(add(words(&together)?, sent)?, sources)?,
        tiles: alone.tiles,
        distinct: mul(reach(false)?, sources)?,
        received: mul(alone.words, instances)?,
        received_distinct: mul(reach(true)?, instances)?,
    })
}

/// As [`moved_within`] over the box `tile` alone, given as first coordinate and length of each rank, where nothing is
/// left out.
///
/// # Errors
/// As [`moved`].
pub fn moved_at(
    tile: &[(u64, u64)],
    loops: &[Loop],
    projection: &Projection,
    reuse: Reuse,
) -> Result<Moved, CountError> {
    let lengths = tile.iter().map(|(_, len)| *len);
    let space = Space::new(lengths.collect::<Vec<_>>());
    let projection = &*projection.risen();
    if projection.is_plain() {
        return moved_within(&space, loops, loops.len(), projection, reuse);
    }
    let mut whole = images::whole(&space);
    whole[..tile.len()].copy_from_slice(tile);
    Images::new(&space, projection)?.moved(loops, &whole, reuse)
}

/// Words that two boxes, given as [`moved_at`] is, both touch.
///
/// # Errors
/// As [`moved`].
pub fn common(
    a: &[(u64, u64)],
    b: &[(u64, u64)],
    projection: &Projection,
) -> Result<u128, CountError> {
    between(a, b, projection, |images, [a, b]| {
        Ok(images.words(a)? - images.fresh(a, Some(b))?)
    })
}

/// Whether two boxes, given as [`moved_at`] is, touch the same words.
///
/// # Errors
/// As [`moved`].
pub fn same(
    a: &[(u64, u64)],
    b: &[(u64, u64)],
    projection: &Projection,
) -> Result<bool, CountError> {
    between(a, b, projection, |images, [a, b]| images.same(a, b))
}

fn between<T>(
    a: &[(u64, u64)],
    b: &[(u64, u64)],
    projection: &Projection,
    of: impl Fn(&Images<'_>, [&images::Tile; 2]) -> Result<T, CountError>,
) -> Result<T, CountError> {
    let space = Space::new(a.iter().map(|(_, len)| *len).collect::<Vec<_>>());
    let images = Images::new(&space, projection)?;
    let mut tiles = [images::whole(&space); 2];
    tiles[0][..a.len()].copy_from_slice(a);
    tiles[1][..b.len()].copy_from_slice(b);
    of(&images, [&tiles[0], &tiles[1]])
}

/// Iterations that `loops` execute: the product of the trip counts, partial tiles included, empty
/// ones not where the space skips them. A spatial loop takes no time.
///
/// # Errors
/// [`CountError`] where a loop names no rank of the space, on overflow, and where conditions
/// without a closed form leave too many tiles to enumerate.
pub fn iterations(space: &Space, loops: &[Loop]) -> Result<u128, CountError> {
    iterations_within(space, loops, loops.len())
}

/// As [`iterations`], with emptiness tested at the first `tile_depth` loops only.
///
/// # Errors
/// As [`iterations`].
pub fn iterations_within(
    space: &Space,
    loops: &[Loop],
    tile_depth: usize,
) -> Result<u128, CountError> {
    if !space.skips()
        && let Some(found) = plain::iterations(space, loops)
    {
        return Ok(found);
    }
    let extents = space.extents()?;
    let view = View::new(space, &Projection::default())?;
    let cuts = Cuts::new(space, loops, tile_depth, &view)?;
    if space.sizes.contains(&0) {
        return Ok(0);
    }
    if space.skips() {
        let region = Region::new(space)?;
        let found = skipping(&cuts, &view, &region, &extents, Reuse::Previous)?;
        return Ok(found.map_or(0, |found| found.iterations));
    }
    Walk::new(&cuts, &view, 0, &extents)?.iterations()
}

/// Instances side by side of what is below these loops.
///
/// # Errors
/// As [`moved`].
pub fn instances(space: &Space, loops: &[Loop]) -> Result<u128, CountError> {
    let view = View::new(space, &Projection::default())?;
    let cuts = Cuts::new(space, loops, loops.len(), &view)?;
    mul(
        cuts.instances(Spread::Sources)?,
        cuts.instances(Spread::Lanes)?,
    )
}

fn skipping(
    cuts: &Cuts,
    view: &View,
    region: &Region,
    extents: &[u64; MAX_RANKS],
    reuse: Reuse,
) -> Result<Option<Summary>, CountError> {
    Skip::new(cuts, view, region, cuts.tested, reuse).within(0, &whole(extents))
}

/// The box of a whole space.
pub(super) fn whole(extents: &[u64; MAX_RANKS]) -> Box {
    extents.map(|len| Interval { start: 0, len })
}

/// Words that the tiles of these loops touch at all, those left out that the space skips: without
/// regard to how often they move.
///
/// # Errors
/// As [`moved`].
pub fn touched(space: &Space, loops: &[Loop], projection: &Projection) -> Result<u128, CountError> {
    let extents = space.extents()?;
    let projection = &*projection.risen();
    if !projection.is_plain() {
        return Images::new(space, projection)?.words(&images::whole(space));
    }
    let view = View::new(space, projection)?;
    if space.sizes.contains(&0) {
        return Ok(0);
    }
    if space.skips() {
        let cuts = Cuts::new(space, loops, loops.len(), &view)?;
        return distinct::touched(space, &cuts, &view, &Region::new(space)?);
    }
    view.words(&extents)
}

/// Words that the points touch at which all conditions hold: what has to be read whatever the loops.
///
/// # Errors
/// As [`moved`].
pub fn used(space: &Space, projection: &Projection) -> Result<u128, CountError> {
    let projection = &*projection.risen();
    if !projection.is_plain() {
        return images::used(space, projection);
    }
    let view = View::new(space, projection)?;
    if space.sizes.contains(&0) {
        return Ok(0);
    }
    distinct::used(space, &view, &Region::new(space)?)
}

/// Points of the space at which all conditions hold.
///
/// # Errors
/// [`CountError::Overflow`], and [`CountError::TooLarge`] where conditions without a closed form
/// leave too many points to enumerate.
pub fn points(space: &Space) -> Result<u128, CountError> {
    if space.conditions.is_empty() {
        return space
            .sizes
            .iter()
            .try_fold(1, |points, &size| mul(points, size.into()));
    }
    let region = Region::new(space)?;
    if space.sizes.contains(&0) {
        return Ok(0);
    }
    region.points(&whole(&space.extents()?), space.sizes.len())
}

/// Points that have to be enumerated for a count of this space, at most: those of the ranks tied by
/// conditions that have no closed form. 0 where all have one.
pub fn enumerated(space: &Space) -> Result<u128, CountError> {
    Region::new(space)?.enumerated(&space.extents()?)
}

/// Words of the largest tile where `extents` coordinates of each rank remain below the loops
/// (capped at the rank's size; ranks beyond the end of the slice have one).
///
/// Exact for tiles that align with the terms' units. Where a tile has gaps that are too many to
/// enumerate it is the smaller of the span and the number of points, never less than the tile;
/// 2^128 - 1 where the projection itself is in error or the product overflows.
pub fn footprint(space: &Space, extents: &[u64], projection: &Projection) -> u128 {
    let projection = &*projection.risen();
    let view = View::new(space, projection);
    if !projection.is_plain() || matches!(view, Err(CountError::SharedRank { .. })) {
        return images::largest(space, extents, projection).unwrap_or(u128::MAX);
    }
    let Ok(view) = view else {
        return u128::MAX;
    };
    let mut tile = [1; MAX_RANKS];
    for (r, &size) in space.sizes.iter().enumerate() {
        tile[r] = extents.get(r).copied().unwrap_or(1).min(size);
    }
    (0..view.dims())
        .map(|d| {
            let sum = view.sum(d, &tile);
            sum.size().unwrap_or_else(|_| sum.size_at_most())
        })
        .fold(1, u128::saturating_mul)
}
