//! Whole spaces: the largest tile, and the words that are needed.

use std::collections::HashSet;

use smallvec::{SmallVec, smallvec};

use super::{Group, Images, Tile, whole};
use crate::nest::{
    Condition, CountError, Dim, MAX_RANKS, Projection, Space, Term, region::Budget,
    used as used_of, walk::mul,
};

/// As [`crate::nest::footprint`]: of the first tile, one in the middle and the last of each rank, as if all their words
/// existed, but no more than do.
pub(in crate::nest) fn largest(
    space: &Space,
    extents: &[u64],
    projection: &Projection,
) -> Result<u128, CountError> {
    let all = Images::new(space, projection)?.words(&whole(space))?;
    let mut anywhere = projection.clone();
    let also = anywhere.also.iter_mut().flatten();
    anywhere
        .dims
        .iter_mut()
        .chain(also)
        .for_each(|d| d.within = None);
    let images = Images::new(space, &anywhere)?;
    let mut tiles = vec![[(0, 1); MAX_RANKS]];
    for (rank, &size) in space.sizes.iter().enumerate() {
        let len = extents
            .get(rank)
            .copied()
            .unwrap_or(1)
            .clamp(1, size.max(1));
        let last = size.div_ceil(len).saturating_sub(1);
        let mut places: SmallVec<[u64; 3]> = smallvec![0, last / 2, last];
        places.dedup();
        let moves = |g: &Group| !g.dims.is_empty() && g.ranks >> rank & 1 == 1;
        if !images.groups.iter().any(moves) {
            places.truncate(1);
        }
        let at = |tile: &Tile| {
            let tile = *tile;
            let part = |&place: &u64| {
                let mut part = tile;
                part[rank] = (place * len, len.min(size.max(1) - place * len));
                part
            };
            places.iter().map(part).collect::<Vec<_>>()
        };
        tiles = tiles.iter().flat_map(at).collect();
    }
    let most = |most: u128, tile| Ok(images.words(tile)?.max(most));
    Ok(tiles.iter().try_fold(0, most)?.min(all))
}

/// As [`crate::nest::used`]; a lower bound where words are chosen at run time, and where a mask meets the end of a tensor in
/// too many places to try.
pub(in crate::nest) fn used(space: &Space, projection: &Projection) -> Result<u128, CountError> {
    // Of the words that are chosen at run time one may be all.
    let fixed = |dim: &Dim| match dim.chosen {
        Some(_) => Dim::default(),
        None => dim.clone(),
    };
    let fixed = |image: &[Dim]| image.iter().map(fixed).collect::<Vec<_>>();
    let mut sure = Projection::default();
    for (i, image) in projection.images().enumerate() {
        let image = Projection::of(fixed(image));
        sure = if i == 0 { image } else { sure.with(&image) };
    }
    let everywhere = whole(space);
    if space.conditions.is_empty() {
        return Images::new(space, &sure)?.words(&everywhere);
    }
    let mut most = 0;
    for image in sure.images() {
        let exist = Projection::of(image.to_vec());
        let anywhere = image.iter().map(|dim| Dim {
            within: None,
            ..dim.clone()
        });
        let anywhere = Projection::of(anywhere.collect());
        let anywhere = anywhere.risen();
        if !anywhere.is_plain() {
            most = most.max(enumerated(space, &exist)?);
            continue;
        }
        let mut inside = space.clone();
        for condition in image.iter().filter_map(ends).flatten() {
            if !inside.conditions.contains(&condition) {
                inside.conditions.push(condition);
            }
        }
        let words = match used_of(&inside, &anywhere) {
            Err(CountError::TooLarge { .. }) => {
                let missing = Images::new(space, &anywhere)?.words(&everywhere)?
                    - Images::new(space, &exist)?.words(&everywhere)?;
                used_of(space, &anywhere)?.saturating_sub(missing)
            }
            found => found?,
        };
        most = most.max(words);
    }
    Ok(most)
}

/// Words that points touch at which all conditions hold, looked at one by one.
fn enumerated(space: &Space, projection: &Projection) -> Result<u128, CountError> {
    // Dimensions that no condition ties stand for themselves.
    let tied = space.conditions.iter().flat_map(Condition::ranks);
    let mut ranks = tied.fold(0u32, |all, rank| all | 1 << rank);
    let dims = &projection.dims;
    while let Some(more) = dims
        .iter()
        .map(Dim::ranks)
        .find(|d| d & ranks != 0 && d & !ranks != 0)
    {
        ranks |= more;
    }
    let (bound, free): (Vec<Dim>, Vec<Dim>) =
        dims.iter().cloned().partition(|d| d.ranks() & ranks != 0);
    let mut walked = whole(space);
    for (rank, side) in walked.iter_mut().enumerate() {
        if ranks >> rank & 1 == 0 {
            side.1 = side.1.min(1);
        }
    }
    let mut point: Vec<u64> = vec![0; space.sizes.len()];
    let (mut words, budget) = (HashSet::new(), Budget::new());
    let free = Images::new(space, &Projection::of(free))?.words(&whole(space))?;
    loop {
        budget.spend()?;
        if space.conditions.iter().all(|c| c.holds(&point)) {
            let exists = |d: &Dim| {
                let at = d.at(&|rank| point[rank]);
                let inside = d
                    .within
                    .is_none_or(|size| (0..i128::from(size)).contains(&at));
                inside.then_some(at)
            };
            words.extend(bound.iter().map(exists).collect::<Option<Vec<_>>>());
        }
        let next = (0..point.len()).find(|&rank| {
            point[rank] += 1;
            let inside = point[rank] < walked[rank].1;
            if !inside {
                point[rank] = 0;
            }
            inside
        });
        if next.is_none() {
            return mul(words.len() as u128, free);
        }
    }
}

/// That a coordinate is not below 0, and that it is below the tensor's size.
fn ends(dim: &Dim) -> Option<[Condition; 2]> {
    let size = dim.within?;
    let weight = |t: &Term| {
        let one = Term {
            coefficient: 1,
            ..*t
        };
        (t.coefficient, one)
    };
    let terms: Vec<_> = dim.terms.iter().map(weight).collect();
    let offset = i128::from(dim.offset);
    let sum = |low, high| Condition::Affine {
        terms: terms.clone(),
        low,
        high,
        residue: None,
    };
    Some([
        sum(Some(-offset), None),
        sum(None, Some(i128::from(size) - 1 - offset)),
    ])
}
