//! Counts for projections with several images, words that do not exist, or words chosen at run time.
//!
//! A tile is here a union of boxes of words. Its size and what two tiles have in common follow by inclusion and
//! exclusion from the sizes of intersections of boxes, and these are products over dimensions: so are their sums over
//! all iterations where dimensions share no rank, as in [`super::moved`]. Where words do not exist beyond the ends of a
//! tensor, a tile's size depends on its place; iterations away from the ends are alike and are counted once.

mod sets;
mod walk;
mod wholes;

use smallvec::SmallVec;

use super::region::Budget;
use super::walk::{add, mul};
use super::{CountError, Dim, Loop, MAX_RANKS, Moved, Projection, Reuse, Space, Term};
use sets::{Runs, Set, joined, set};

pub(super) use wholes::{largest, used};

/// Most images that do not differ in one dimension alone.
const MAX_IMAGES: usize = 5;

/// First coordinate and length of each rank.
pub(super) type Tile = [(u64, u64); MAX_RANKS];

/// Dimensions that share ranks with each other and with no other.
#[derive(Debug)]
struct Group {
    dims: Vec<usize>,
    ranks: u32,
}

/// A projection, as boxes of words.
pub(super) struct Images<'p> {
    /// By image, by dimension: whose coordinates it has, those of the first or of one of the others.
    images: Vec<Vec<Vec<&'p Dim>>>,
    groups: Vec<Group>,
    budget: Budget,
}

/// By image, by dimension of a group: its coordinates.
type Boxes = SmallVec<[SmallVec<[Set; 4]>; 4]>;

/// Sums over the pairs of a tile and the one before, of one group.
#[derive(Debug)]
struct Sums {
    pairs: u128,
    same: u128,
    /// By set of boxes, of the new tile and then of the old: of the sizes of what they have in common.
    common: Vec<u128>,
    /// Of these, where the first points of the two touch the same.
    in_place: Vec<u128>,
}

impl<'p> Images<'p> {
    pub fn new(space: &Space, projection: &'p Projection) -> Result<Self, CountError> {
        space.extents()?;
        for dim in projection.all_dims() {
            let mut known = Ok(());
            dim.each_term(&mut |term| {
                if known.is_ok() {
                    known = space.check_rank(term.rank);
                }
            });
            known?;
        }
        let mut images: Vec<Vec<Vec<&Dim>>> = Vec::new();
        for image in projection.images() {
            let differs = |known: &Vec<Vec<&Dim>>| {
                let differing = (0..image.len()).filter(|&d| known[d].as_slice() != [&image[d]]);
                let found: Vec<usize> = differing.collect();
                let simple = |&d: &usize| {
                    image[d].chosen.is_none() && known[d].iter().all(|k| k.chosen.is_none())
                };
                matches!(found.as_slice(), [d] if simple(d)).then(|| found[0])
            };
            match images
                .iter_mut()
                .find_map(|known| differs(known).map(|d| (known, d)))
            {
                Some((known, d)) => known[d].push(&image[d]),
                None => images.push(image.iter().map(|d| vec![d]).collect()),
            }
        }
        if images.len() > MAX_IMAGES {
            return Err(CountError::TooMany {
                what: "ways to read a tensor",
                found: images.len(),
                limit: MAX_IMAGES,
            });
        }
        let ranks_of = |d: usize| {
            let all = images.iter().flat_map(|image| &image[d]);
            all.fold(0u32, |ranks, dim| ranks | dim.ranks())
        };
        let mut groups: Vec<Group> = Vec::new();
        for d in 0..projection.dims.len() {
            let mut group = Group {
                dims: vec![d],
                ranks: ranks_of(d),
            };
            while let Some(at) = groups.iter().position(|g| g.ranks & group.ranks != 0) {
                let other = groups.swap_remove(at);
                group.dims.extend(other.dims);
                group.ranks |= other.ranks;
            }
            groups.push(group);
        }
        let all = groups.iter().fold(0, |ranks, g| ranks | g.ranks);
        groups.push(Group {
            dims: Vec::new(),
            ranks: !all,
        });
        Ok(Self {
            images,
            groups,
            budget: Budget::new(),
        })
    }

    /// The boxes of some dimensions over a tile.
    fn boxes(&self, dims: &[usize], tile: &Tile) -> Result<Boxes, CountError> {
        let of = |image: &Vec<Vec<&Dim>>| {
            if dims.len() > 1 {
                separate(image, dims, tile)?;
            }
            let set = |&d: &usize| match image[d].as_slice() {
                [dim] => set(dim, tile, &self.budget),
                several => {
                    let mut runs = Runs::new();
                    for dim in several {
                        if let Set::Known(more) = set(dim, tile, &self.budget)? {
                            runs.extend(more);
                        }
                    }
                    Ok(Set::Known(joined(runs)))
                }
            };
            dims.iter().map(set).collect()
        };
        self.images.iter().map(of).collect()
    }

    /// Sets of boxes that have one of the new tile: (which, whether their size is added).
    fn signs(&self, old: bool) -> impl Iterator<Item = (usize, bool)> + use<'_> {
        let new = (1usize << self.images.len()) - 1;
        let all = if old {
            1 << (2 * self.images.len())
        } else {
            new + 1
        };
        (1..all)
            .filter(move |set| set & new != 0)
            .map(|set: usize| (set, set.count_ones() % 2 == 1))
    }

    /// Words of a tile.
    pub fn words(&self, tile: &Tile) -> Result<u128, CountError> {
        self.fresh(tile, None)
    }

    /// Words of a tile that another one does not hold.
    pub fn fresh(&self, tile: &Tile, held: Option<&Tile>) -> Result<u128, CountError> {
        let dims: Vec<usize> = (0..self.images.first().map_or(0, Vec::len)).collect();
        let mut boxes = self.boxes(&dims, tile)?;
        if let Some(held) = held {
            boxes.extend(self.boxes(&dims, held)?);
        }
        let signs = self.signs(held.is_some());
        signed(signs.map(|(set, plus)| Ok((common(&boxes, set)?, plus))))
    }

    /// Whether the first points of two tiles touch the same.
    fn in_place(&self, dims: &[usize], a: &Tile, b: &Tile) -> bool {
        let mut all = self
            .images
            .iter()
            .flat_map(|image| dims.iter().flat_map(|&d| &image[d]));
        all.all(|dim| dim.first(a) == dim.first(b))
    }

    /// Whether two tiles have the same words.
    pub fn same(&self, a: &Tile, b: &Tile) -> Result<bool, CountError> {
        let dims: Vec<usize> = (0..self.images.first().map_or(0, Vec::len)).collect();
        Ok(self.boxes(&dims, a)? == self.boxes(&dims, b)?)
    }
}

/// Refuses a tile in which dimensions of one image depend on each other.
fn separate(image: &[Vec<&Dim>], dims: &[usize], tile: &Tile) -> Result<(), CountError> {
    let mut moved = 0u32;
    for &d in dims {
        let mut own = 0u32;
        let mut look = |term: &Term| {
            let (start, len) = tile[term.rank];
            if term.digits(start, len).is_none_or(|(_, count)| count > 1) {
                own |= 1 << term.rank;
            }
        };
        image[d].iter().for_each(|dim| dim.each_term(&mut look));
        let both = moved & own;
        if both != 0 {
            let rank = both.trailing_zeros() as usize;
            return Err(CountError::SharedRank { rank });
        }
        moved |= own;
    }
    Ok(())
}

/// Words that these of the boxes have in common.
fn common(boxes: &Boxes, set: usize) -> Result<u128, CountError> {
    let mut members = (0..boxes.len())
        .filter(|i| set >> i & 1 == 1)
        .map(|i| &boxes[i]);
    let Some(first) = members.next() else {
        return Ok(0);
    };
    let others: SmallVec<[_; 8]> = members.collect();
    let mut words = 1;
    for (d, own) in first.iter().enumerate() {
        let size = match others.as_slice() {
            [] => own.size(),
            others => {
                let all = others
                    .iter()
                    .fold(own.clone(), |all, other| all.common(&other[d]));
                all.size()
            }
        };
        words = mul(words, size.into())?;
    }
    Ok(words)
}

/// The sum of what is added, less what is not.
fn signed(
    parts: impl Iterator<Item = Result<(u128, bool), CountError>>,
) -> Result<u128, CountError> {
    let (mut plus, mut minus) = (0, 0);
    for part in parts {
        let (words, is_plus) = part?;
        let side = if is_plus { &mut plus } else { &mut minus };
        *side = add(*side, words)?;
    }
    plus.checked_sub(minus).ok_or(CountError::Overflow)
}

/// The part of a tile that iteration `at` of a loop has.
fn narrow(tile: &Tile, l: &Loop, at: u64) -> Tile {
    let mut part = *tile;
    let (start, len) = tile[l.rank];
    let step = l.step.max(1);
    part[l.rank] = (start + at * step, step.min(len - at * step));
    part
}

fn trips(tile: &Tile, l: &Loop) -> u64 {
    tile[l.rank].1.div_ceil(l.step.max(1))
}

impl Images<'_> {
    /// Sums over the steps from one iteration of loop `turn` to the next.
    fn turns(
        &self,
        group: &Group,
        loops: &[Loop],
        turn: usize,
        whole: &Tile,
    ) -> Result<Sums, CountError> {
        let sets = 1 << (2 * self.images.len());
        let mut sums = Sums {
            pairs: 0,
            same: 0,
            common: vec![0; sets],
            in_place: vec![0; sets],
        };
        self.visit(group, loops, 0, turn, (whole, whole), 1, &mut sums)?;
        Ok(sums)
    }

    #[allow(clippy::too_many_arguments)]
    fn visit(
        &self,
        group: &Group,
        loops: &[Loop],
        at: usize,
        turn: usize,
        (old, new): (&Tile, &Tile),
        times: u128,
        sums: &mut Sums,
    ) -> Result<(), CountError> {
        let Some(l) = loops.get(at) else {
            return self.add_pair(group, old, new, times, sums);
        };
        if group.ranks >> l.rank & 1 == 0 {
            return self.visit(group, loops, at + 1, turn, (old, new), times, sums);
        }
        if at > turn {
            let last = trips(old, l).saturating_sub(1);
            let pair = (narrow(old, l, last), narrow(new, l, 0));
            return self.visit(group, loops, at + 1, turn, (&pair.0, &pair.1), times, sums);
        }
        let ahead = u64::from(at == turn);
        let pairs = trips(new, l).saturating_sub(ahead);
        let (first, end) = self.alike(group, l, new, pairs, ahead);
        let mut i = 0;
        while i < pairs {
            let alike = if i == first && first < end {
                end - first
            } else {
                1
            };
            let pair = (narrow(old, l, i), narrow(new, l, i + ahead));
            let times = mul(times, alike.into())?;
            self.visit(group, loops, at + 1, turn, (&pair.0, &pair.1), times, sums)?;
            i += alike;
        }
        Ok(())
    }

    /// Iterations [first, end) of a loop whose tiles, with the next where `ahead` is 1, differ in nothing but place.
    fn alike(&self, group: &Group, l: &Loop, tile: &Tile, pairs: u64, ahead: u64) -> (u64, u64) {
        if !self.moves_evenly(group, l, tile) {
            return (0, 0);
        }
        let full = tile[l.rank].1 / l.step.max(1);
        let inside = |i: u64| {
            let mut both = narrow(tile, l, i);
            both[l.rank].1 *= 1 + ahead;
            i + ahead < full && self.inside(group, &both)
        };
        let Some(first) = (0..pairs).find(|i| inside(*i)) else {
            return (0, 0);
        };
        let last = (first..pairs).rev().find(|i| inside(*i)).unwrap_or(first);
        (first, last + 1)
    }

    /// Whether each iteration of a loop moves every coordinate of a dimension by as much.
    fn moves_evenly(&self, group: &Group, l: &Loop, tile: &Tile) -> bool {
        let step = l.step.max(1);
        group.dims.iter().all(|&d| {
            let mut by = None;
            let mut all = self.images.iter().flat_map(|image| &image[d]);
            all.all(|dim| {
                let mut own = 0i128;
                // Where a wrapped sum moves, it begins anew somewhere.
                if dim.wrapped.iter().any(|w| w.of.ranks() >> l.rank & 1 == 1) {
                    return false;
                }
                for term in dim.terms.iter().filter(|t| t.rank == l.rank) {
                    let unit = term.unit.max(1);
                    if term.modulus.is_some()
                        || !step.is_multiple_of(unit)
                        || !tile[l.rank].0.is_multiple_of(unit)
                    {
                        return false;
                    }
                    own += i128::from(term.coefficient) * i128::from(step / unit);
                }
                *by.get_or_insert(own) == own
            })
        })
    }

    /// Whether all words of a tile exist.
    fn inside(&self, group: &Group, tile: &Tile) -> bool {
        let mut dims = self
            .images
            .iter()
            .flat_map(|image| group.dims.iter().flat_map(|&d| &image[d]));
        dims.all(|dim| {
            let Some(size) = dim.within else { return true };
            let (low, high) = dim.range(&|rank| tile[rank]);
            low >= 0 && high < i128::from(size)
        })
    }

    fn add_pair(
        &self,
        group: &Group,
        old: &Tile,
        new: &Tile,
        times: u128,
        sums: &mut Sums,
    ) -> Result<(), CountError> {
        self.budget.spend()?;
        sums.pairs = add(sums.pairs, times)?;
        let mut boxes = self.boxes(&group.dims, new)?;
        let before = self.boxes(&group.dims, old)?;
        let same = before == boxes;
        if same {
            sums.same = add(sums.same, times)?;
        }
        boxes.extend(before);
        let in_place = self.in_place(&group.dims, old, new);
        for (set, _) in self.signs(true) {
            let words = mul(times, common(&boxes, set)?)?;
            sums.common[set] = add(sums.common[set], words)?;
            if in_place {
                sums.in_place[set] = add(sums.in_place[set], words)?;
            }
        }
        Ok(())
    }

    /// As [`super::moved_within`], from the tile `whole` on, where no conditions leave tiles out.
    pub fn moved(&self, loops: &[Loop], whole: &Tile, reuse: Reuse) -> Result<Moved, CountError> {
        if loops.iter().any(Loop::is_spatial) {
            return Err(CountError::SkippedInstances);
        }
        let first = loops.iter().fold(*whole, |tile, l| narrow(&tile, l, 0));
        let (mut words, mut tiles) = (self.words(&first)?, 1);
        for turn in 0..loops.len() {
            let groups = self.groups.iter();
            let sums: Vec<Sums> = groups
                .map(|g| self.turns(g, loops, turn, whole))
                .collect::<Result<_, _>>()?;
            let all = |of: &dyn Fn(&Sums) -> u128| sums.iter().try_fold(1, |n, s| mul(n, of(s)));
            let (pairs, same) = (all(&|s| s.pairs)?, all(&|s| s.same)?);
            let still = if reuse == Reuse::Nothing { 0 } else { same };
            tiles = add(tiles, pairs - still)?;
            let of = |set: usize| all(&|s| s.common[set]);
            let more = match reuse {
                Reuse::Previous => {
                    signed(self.signs(true).map(|(set, plus)| Ok((of(set)?, plus))))?
                }
                Reuse::Nothing => {
                    signed(self.signs(false).map(|(set, plus)| Ok((of(set)?, plus))))?
                }
                Reuse::InPlace => {
                    let kept = |set: usize| all(&|s| s.in_place[set]);
                    let new = (1usize << self.images.len()) - 1;
                    let part = |(set, plus)| {
                        let words = if set & !new == 0 {
                            of(set)?
                        } else {
                            kept(set)?
                        };
                        Ok((words, plus))
                    };
                    signed(self.signs(true).map(part))?
                }
            };
            words = add(words, more)?;
        }
        Ok(Moved::alone(words, tiles, self.words(whole)?))
    }
}

/// The tile of a whole space.
pub(super) fn whole(space: &Space) -> Tile {
    let mut tile = [(0, 1); MAX_RANKS];
    for (side, &size) in tile.iter_mut().zip(&space.sizes) {
        side.1 = size;
    }
    tile
}
