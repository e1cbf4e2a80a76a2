//! Counts for projections with several images, words that do not exist, or words chosen at run time.
//!
//! A tile is here a union of boxes of words. Its size and what two tiles have in common follow by inclusion and
//! exclusion from the sizes of intersections of boxes, and these are products over dimensions: so are their sums over
//! all iterations where dimensions share no rank, as in [`super::moved`]. Where words do not exist beyond the ends of a
//! tensor, a tile's size depends on its place; iterations away from the ends are alike and are counted once.

use smallvec::{SmallVec, smallvec};

use super::region::{Budget, Occupied};
use super::walk::{add, mul};
use super::{Condition, CountError, Dim, Loop, MAX_RANKS, Moved, Projection, Reuse, Space, Term};

/// Most images that do not differ in one dimension alone.
const MAX_IMAGES: usize = 5;

/// First coordinate and length of each rank.
pub(super) type Tile = [(u64, u64); MAX_RANKS];

/// Consecutive coordinates, ascending and apart: (first, how many).
type Runs = SmallVec<[(i64, u64); 2]>;

/// The coordinates of one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Set {
    Known(Runs),
    /// That many are chosen at run time, for these values.
    Chosen(Runs, u64),
}

impl Set {
    /// How many.
    fn size(&self) -> u64 {
        let all = |runs: &Runs| runs.iter().map(|r| r.1).sum::<u64>();
        match self {
            Self::Known(runs) => all(runs),
            Self::Chosen(runs, most) => all(runs).min(*most),
        }
    }

    /// What both have. Of words that are chosen only those are known to be the same which are chosen alike, or where
    /// all there are must have been.
    fn common(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(intersection(a, b)),
            (Self::Chosen(_, most), _) if self.size() == *most => other.clone(),
            (_, Self::Chosen(_, most)) if other.size() == *most => self.clone(),
            (Self::Known(all), Self::Chosen(_, most))
            | (Self::Chosen(_, most), Self::Known(all))
                if all.as_slice() == [(0, *most)] =>
            {
                match self {
                    Self::Chosen(..) => self.clone(),
                    Self::Known(_) => other.clone(),
                }
            }
            _ => Self::Known(Runs::new()),
        }
    }
}

fn intersection(a: &Runs, b: &Runs) -> Runs {
    let mut out = Runs::new();
    for &(s, n) in a {
        for &(t, m) in b {
            let (first, end) = (s.max(t), (s + n as i64).min(t + m as i64));
            if first < end {
                out.push((first, (end - first) as u64));
            }
        }
    }
    out
}

fn joined(mut runs: Runs) -> Runs {
    runs.sort_unstable();
    let mut out = Runs::new();
    for (start, len) in runs {
        match out.last_mut() {
            Some((first, n)) if start <= *first + *n as i64 => {
                let end = (start + len as i64).max(*first + *n as i64);
                *n = (end - *first) as u64;
            }
            _ => out.push((start, len)),
        }
    }
    out
}

/// The coordinates of a dimension over a tile.
fn set(dim: &Dim, tile: &Tile, budget: &Budget) -> Result<Set, CountError> {
    let mut first = i128::from(dim.offset);
    let mut runs: Runs = smallvec![(0, 1)];
    // What steps evenly: (coefficient, how many).
    let mut even: SmallVec<[(u64, u64); 4]> = SmallVec::new();
    for (i, term) in dim.terms.iter().enumerate() {
        let (start, len) = tile[term.rank];
        let of_rank = |t: &&Term| t.rank == term.rank;
        let (before, together) = (
            dim.terms[..i].iter().filter(of_rank).count(),
            dim.terms.iter().filter(of_rank),
        );
        if together.clone().count() > 1 {
            if before == 0 {
                runs = plus(
                    &runs,
                    &values(&together.collect::<Vec<_>>(), start, len, budget)?,
                    budget,
                )?;
            }
            continue;
        }
        match digits(term, start, len) {
            Some((low, count)) => {
                first += i128::from(term.coefficient) * i128::from(low);
                if count > 1 && term.coefficient > 0 {
                    even.push((term.coefficient, count));
                }
            }
            None => runs = plus(&runs, &values(&[term], start, len, budget)?, budget)?,
        }
    }
    // Sums with weights have no gaps where the smaller parts fill those of the larger.
    even.sort_unstable();
    for (coefficient, count) in even {
        if runs.len() == 1 && coefficient <= runs[0].1 {
            let more = coefficient.checked_mul(count - 1);
            let all = more.and_then(|more| more.checked_add(runs[0].1));
            runs[0].1 = all.ok_or(CountError::Overflow)?;
            continue;
        }
        let mut apart = Runs::new();
        for i in 0..count {
            budget.spend()?;
            let at = i.checked_mul(coefficient);
            let at = at.and_then(|v| i64::try_from(v).ok());
            apart.push((at.ok_or(CountError::Overflow)?, 1));
        }
        runs = plus(&runs, &apart, budget)?;
    }
    let first = i64::try_from(first).map_err(|_| CountError::Overflow)?;
    for run in &mut runs {
        run.0 = run.0.checked_add(first).ok_or(CountError::Overflow)?;
    }
    if let Some(size) = dim.within {
        runs = intersection(&runs, &smallvec![(0, size)]);
    }
    Ok(match dim.chosen {
        None => Set::Known(runs),
        Some(most) => Set::Chosen(runs, most),
    })
}

/// The values of a term over a run of coordinates, before the coefficient: first, and how many. None where they begin
/// anew on the way.
fn digits(term: &Term, start: u64, len: u64) -> Option<(u64, u64)> {
    let unit = term.unit.max(1);
    let (low, high) = (start / unit, (start + len.max(1) - 1) / unit);
    match term.modulus {
        None => Some((low, high - low + 1)),
        Some(m) if high - low + 1 >= m => Some((0, m)),
        Some(m) => (low % m + (high - low) < m).then_some((low % m, high - low + 1)),
    }
}

/// The values of terms of one rank together, one coordinate after another.
fn values(terms: &[&Term], start: u64, len: u64, budget: &Budget) -> Result<Runs, CountError> {
    let mut runs = Runs::new();
    for x in start..start + len.max(1) {
        budget.spend()?;
        let value: u128 = terms.iter().map(|t| t.value(x)).sum();
        runs.push((i64::try_from(value).map_err(|_| CountError::Overflow)?, 1));
    }
    Ok(joined(runs))
}

/// All sums of two sets.
fn plus(a: &Runs, b: &Runs, budget: &Budget) -> Result<Runs, CountError> {
    let mut out = Runs::with_capacity(a.len() * b.len());
    for &(s, n) in a {
        for &(t, m) in b {
            budget.spend()?;
            out.push((s.checked_add(t).ok_or(CountError::Overflow)?, n + m - 1));
        }
    }
    Ok(joined(out))
}

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
            for term in &dim.terms {
                space.check_rank(term.rank)?;
            }
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
            let all = images
                .iter()
                .flat_map(|image| &image[d])
                .flat_map(|dim| &dim.terms);
            all.fold(0u32, |ranks, t| ranks | 1 << t.rank)
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

    fn same(&self, a: &Tile, b: &Tile) -> Result<bool, CountError> {
        let dims: Vec<usize> = (0..self.images.first().map_or(0, Vec::len)).collect();
        Ok(self.boxes(&dims, a)? == self.boxes(&dims, b)?)
    }
}

/// Refuses a tile in which dimensions of one image depend on each other.
fn separate(image: &[Vec<&Dim>], dims: &[usize], tile: &Tile) -> Result<(), CountError> {
    let mut moved = 0u32;
    for &d in dims {
        let mut own = 0u32;
        for term in image[d].iter().flat_map(|dim| &dim.terms) {
            let (start, len) = tile[term.rank];
            if digits(term, start, len).is_none_or(|(_, count)| count > 1) {
                own |= 1 << term.rank;
            }
        }
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
                let mut own = 0u128;
                for term in dim.terms.iter().filter(|t| t.rank == l.rank) {
                    let unit = term.unit.max(1);
                    if term.modulus.is_some()
                        || !step.is_multiple_of(unit)
                        || !tile[l.rank].0.is_multiple_of(unit)
                    {
                        return false;
                    }
                    own += u128::from(term.coefficient) * u128::from(step / unit);
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
            let (mut low, mut high) = (i128::from(dim.offset), i128::from(dim.offset));
            for term in &dim.terms {
                let (start, len) = tile[term.rank];
                let most = term.modulus.map_or(u64::MAX, |m| m.saturating_sub(1));
                let (first, count) =
                    digits(term, start, len).unwrap_or((0, most.saturating_add(1)));
                low += i128::from(term.coefficient) * i128::from(first);
                high += i128::from(term.coefficient) * i128::from(first + count - 1);
            }
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

    /// The same where conditions leave tiles out: one after another, but for what repeats outside of all.
    pub fn walked(
        &self,
        space: &Space,
        loops: &[Loop],
        tile_depth: usize,
        reuse: Reuse,
    ) -> Result<Moved, CountError> {
        if loops.iter().any(Loop::is_spatial) {
            return Err(CountError::SkippedInstances);
        }
        let whole = whole(space);
        let mut walk = Walk {
            images: self,
            occupied: Occupied::new(space)?,
            ranks: space.sizes.len(),
            loops,
            tile_depth,
            reuse,
            held: None,
            words: 0,
            tiles: 0,
        };
        walk.from(0, &whole)?;
        Ok(Moved::alone(walk.words, walk.tiles, self.words(&whole)?))
    }
}

/// As [`super::footprint`]: of the first tile, one in the middle and the last of each rank, as if all their words
/// existed, but no more than do.
pub(super) fn largest(
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

/// As [`super::used`]; a lower bound where words are chosen at run time, and where a mask meets the end of a tensor in
/// too many places to try.
pub(super) fn used(space: &Space, projection: &Projection) -> Result<u128, CountError> {
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
        let terms = image.iter().map(|dim| Dim::sum(dim.terms.clone()));
        let anywhere = Projection::of(terms.collect());
        let mut inside = space.clone();
        for condition in image.iter().filter_map(ends).flatten() {
            if !inside.conditions.contains(&condition) {
                inside.conditions.push(condition);
            }
        }
        let words = match super::used(&inside, &anywhere) {
            Err(CountError::TooLarge { .. }) => {
                let missing = Images::new(space, &anywhere)?.words(&everywhere)?
                    - Images::new(space, &exist)?.words(&everywhere)?;
                super::used(space, &anywhere)?.saturating_sub(missing)
            }
            found => found?,
        };
        most = most.max(words);
    }
    Ok(most)
}

/// That a coordinate is not below 0, and that it is below the tensor's size.
fn ends(dim: &Dim) -> Option<[Condition; 2]> {
    let size = dim.within?;
    let weight = |t: &Term| {
        Some((
            i64::try_from(t.coefficient).ok()?,
            Term {
                coefficient: 1,
                ..*t
            },
        ))
    };
    let terms: Vec<_> = dim.terms.iter().map(weight).collect::<Option<_>>()?;
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

/// The tile of a whole space.
pub(super) fn whole(space: &Space) -> Tile {
    let mut tile = [(0, 1); MAX_RANKS];
    for (side, &size) in tile.iter_mut().zip(&space.sizes) {
        side.1 = size;
    }
    tile
}

struct Walk<'w, 'p> {
    images: &'w Images<'p>,
    occupied: Occupied,
    ranks: usize,
    loops: &'w [Loop],
    tile_depth: usize,
    reuse: Reuse,
    held: Option<Tile>,
    words: u128,
    tiles: u128,
}

impl Walk<'_, '_> {
    fn from(&mut self, at: usize, tile: &Tile) -> Result<(), CountError> {
        self.images.budget.spend()?;
        if at <= self.tile_depth && !self.occupied.holds(&tile[..self.ranks])? {
            return Ok(());
        }
        let Some(l) = self.loops.get(at) else {
            return self.tile(tile);
        };
        let trips = trips(tile, l);
        let moves = self
            .images
            .groups
            .iter()
            .any(|g| !g.dims.is_empty() && g.ranks >> l.rank & 1 == 1);
        let again = self.loops[at + 1..]
            .iter()
            .any(|inner| inner.rank == l.rank);
        if !moves && !again && !self.occupied.depends_on(l.rank) && trips > 2 {
            // From the second on each starts from where the one before ended, which is the same.
            self.from(at + 1, &narrow(tile, l, 0))?;
            let (words, tiles) = (self.words, self.tiles);
            self.from(at + 1, &narrow(tile, l, 1))?;
            let more = u128::from(trips - 2);
            self.words = add(self.words, mul(self.words - words, more)?)?;
            self.tiles = add(self.tiles, mul(self.tiles - tiles, more)?)?;
            return Ok(());
        }
        for i in 0..trips {
            self.from(at + 1, &narrow(tile, l, i))?;
        }
        Ok(())
    }

    fn tile(&mut self, tile: &Tile) -> Result<(), CountError> {
        let same = match &self.held {
            Some(held) => self.images.same(held, tile)?,
            None => false,
        };
        let dims: Vec<usize> = (0..self.images.images.first().map_or(0, Vec::len)).collect();
        let held = self.held.filter(|held| match self.reuse {
            Reuse::Previous => true,
            Reuse::Nothing => false,
            Reuse::InPlace => self.images.in_place(&dims, held, tile),
        });
        let more = self.images.fresh(tile, held.as_ref())?;
        self.words = add(self.words, more)?;
        self.tiles += u128::from(!same || self.reuse == Reuse::Nothing);
        self.held = Some(*tile);
        Ok(())
    }
}
