//! The walk: every loop is a loop, every place holds a set of words.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use einflow_arch::Counting;
use einflow_mappings::{
    mapped::{Block, BoundEinsum, Keep, MappedCascade, NamedLoop, Place},
    spec::BindingSpec,
};
use einflow_workloads::cascade::{ReadTime, TensorId, TensorKind};
use num_rational::Ratio;

use crate::index::{Area, Formula, Names, Touch, each_point};

/// Exact, as tensors may be kept in part.
pub type Exact = Ratio<i128>;

/// What a block did.
#[derive(Debug, Default)]
pub struct Walked {
    /// By memory and tensor: words read and words written.
    pub accesses: BTreeMap<(usize, usize), (Exact, Exact)>,
    /// By nest and position: steps, each of one point in every PE.
    pub steps: Vec<Vec<u128>>,
    /// By nest and position: points at which the Einsum's conditions hold.
    pub points: Vec<Vec<u128>>,
    /// Iterations of the loops that all Einsums share.
    pub tiles: u128,
    pub compute: u128,
    pub drain: u128,
}

/// A place that keeps a tensor, as one nest sees it.
#[derive(Clone, Debug)]
struct Level {
    memory: usize,
    depth: usize,
    share: Exact,
    through: bool,
    nest: Option<usize>,
}

/// A tile that is remembered until the next one stands in its place.
#[derive(Default)]
struct Tile {
    /// The iteration of the loops around it.
    at: Option<Vec<u64>>,
    before: BTreeSet<u64>,
    now: BTreeSet<u64>,
    /// Words in whose place others stand when the tile leaves.
    stale: BTreeSet<u64>,
    /// Words that were here and left.
    left: BTreeSet<u64>,
}

impl Tile {
    fn turn(&mut self, at: &[u64]) -> bool {
        if self.at.as_deref() == Some(at) {
            return false;
        }
        self.at = Some(at.to_vec());
        self.before = std::mem::take(&mut self.now);
        let stale = std::mem::take(&mut self.stale);
        self.before.retain(|word| !stale.contains(word));
        true
    }

    /// Words that have to be fetched so that these are here.
    fn fetch(&mut self, at: &[u64], words: &[u64]) -> u128 {
        self.turn(at);
        words
            .iter()
            .filter(|w| self.now.insert(**w) && !self.before.contains(*w))
            .count() as u128
    }

    /// Replaces a tile of results: words that leave, and partial ones that come back.
    fn replace(&mut self, at: &[u64], words: &[u64]) -> (u128, u128) {
        if !self.turn(at) {
            return (0, 0);
        }
        self.now = words.iter().copied().collect();
        let leave = self.before.difference(&self.now).count() as u128;
        self.left.extend(self.before.difference(&self.now));
        let back = self
            .now
            .iter()
            .filter(|w| !self.before.contains(w) && self.left.contains(w))
            .count() as u128;
        (leave, back)
    }
}

/// Which tile: an operand of an Einsum at the array, a tensor in registers or in a memory, results at the array,
/// results in a memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Operand {
        einsum: (usize, usize),
        operand: usize,
    },
    Held {
        tensor: usize,
        place: Place,
        nest: Option<usize>,
    },
    Results {
        einsum: (usize, usize),
    },
    Drained {
        einsum: (usize, usize),
        level: usize,
    },
}

struct Operand {
    tensor: TensorId,
    touch: Touch,
    time: ReadTime,
}

struct Work<'a> {
    at: (usize, usize),
    einsum: &'a BoundEinsum,
    binding: &'a BindingSpec,
    operands: Vec<Operand>,
    output: TensorId,
    written: Touch,
    /// The words in whose place it writes, along an iterative rank.
    replaced: Option<Touch>,
    /// Its points, to tell when a step does something else.
    variables: Touch,
    exit: Option<usize>,
    /// Of the shared loops, those that bring it new work.
    prefix: usize,
    /// Indices of those loops when it last ran.
    ran: Option<Vec<u64>>,
    own: &'a [NamedLoop],
    steps: u128,
    /// Boxes that were laid across the array before.
    checked: BTreeSet<Area>,
}

pub struct Walk<'a> {
    mapped: &'a MappedCascade,
    block: &'a Block,
    index: usize,
    conditions: Vec<Formula>,
    works: Vec<Work<'a>>,
    tiles: BTreeMap<Key, Tile>,
    levels: RefCell<BTreeMap<(usize, TensorId), Rc<Vec<Level>>>>,
    out: Walked,
}

/// Stands for the iteration of a loop that has ended.
const WHOLE: u64 = u64::MAX;
/// No iteration: the block is over.
const END: u64 = u64::MAX - 1;

impl<'a> Walk<'a> {
    pub fn block(mapped: &'a MappedCascade, index: usize) -> Walked {
        let names = Names::new(mapped);
        let block = &mapped.blocks[index];
        let spec = &mapped.spec.blocks[index];
        let mut works = Vec::new();
        for (n, nest) in block.nests.iter().enumerate() {
            for (e, einsum) in nest.einsums.iter().enumerate() {
                works.push(work(
                    mapped,
                    &names,
                    block,
                    (n, e),
                    einsum,
                    &spec.nests[n].einsums[e].1,
                ));
            }
        }
        let mut conditions: Vec<Formula> = Vec::new();
        if spec.skip_empty {
            for work in &works {
                for condition in &mapped.cascade.einsum(work.einsum.einsum).support {
                    let formula = names.formula(&condition.0, &[]);
                    if !conditions.contains(&formula) {
                        conditions.push(formula);
                    }
                }
            }
        }
        let mut walk = Walk {
            mapped,
            block,
            index,
            conditions,
            works,
            tiles: BTreeMap::new(),
            levels: RefCell::default(),
            out: Walked::default(),
        };
        let whole: Area = mapped.base.iter().map(|b| (0, b.size)).collect();
        walk.shared(0, &whole, &mut Vec::new());
        walk.finish(&names);
        walk.out
    }

    /// The loops of the block, then its nests one after another.
    fn shared(&mut self, depth: usize, area: &Area, at: &mut Vec<u64>) {
        if self.is_empty(area) {
            return;
        }
        let block = self.block;
        let Some(l) = block.loops.get(depth) else {
            let nests = block.nests.len();
            if nests != 1 {
                self.out.tiles += 1;
            }
            return (0..nests).for_each(|nest| self.nest(nest, 0, area, at));
        };
        for (i, part) in cut(area, l).into_iter().enumerate() {
            at.push(i as u64);
            self.shared(depth + 1, &part, at);
            at.pop();
        }
        for nest in 0..block.nests.len() {
            self.exits(nest, depth, area, at);
        }
    }

    fn nest(&mut self, nest: usize, depth: usize, area: &Area, at: &mut Vec<u64>) {
        if self.is_empty(area) {
            return;
        }
        let block = self.block;
        let Some(l) = block.nests[nest].loops.get(depth) else {
            if block.nests.len() == 1 {
                self.out.tiles += 1;
            }
            for work in 0..self.works.len() {
                if self.works[work].at.0 == nest && self.works[work].exit.is_none() {
                    self.run(work, at);
                }
            }
            return;
        };
        for (i, part) in cut(area, l).into_iter().enumerate() {
            at.push(i as u64);
            self.nest(nest, depth + 1, &part, at);
            at.pop();
        }
        self.exits(nest, block.loops.len() + depth, area, at);
    }

    /// Einsums that run when a loop has ended, once for each iteration of the loops inside it.
    fn exits(&mut self, nest: usize, ended: usize, area: &Area, at: &mut Vec<u64>) {
        let loops = self.loops(nest);
        let waiting: Vec<usize> = (0..self.works.len())
            .filter(|w| self.works[*w].at.0 == nest && self.works[*w].exit == Some(ended))
            .collect();
        if !waiting.is_empty() {
            at.push(WHOLE);
            self.inside(&loops, ended + 1, &waiting, area, at);
            at.pop();
        }
    }

    fn inside(
        &mut self,
        loops: &[&'a NamedLoop],
        depth: usize,
        waiting: &[usize],
        area: &Area,
        at: &mut Vec<u64>,
    ) {
        if self.is_empty(area) {
            return;
        }
        let Some(l) = loops.get(depth) else {
            return waiting.iter().for_each(|w| self.run(*w, at));
        };
        for (i, part) in cut(area, l).into_iter().enumerate() {
            at.push(i as u64);
            self.inside(loops, depth + 1, waiting, &part, at);
            at.pop();
        }
    }

    fn loops(&self, nest: usize) -> Vec<&'a NamedLoop> {
        self.block
            .loops
            .iter()
            .chain(&self.block.nests[nest].loops)
            .collect()
    }

    /// The box of the first loops at their current iteration.
    fn area(&self, nest: usize, at: &[u64]) -> Area {
        let mut area: Area = self.mapped.base.iter().map(|b| (0, b.size)).collect();
        for (l, i) in self
            .loops(nest)
            .into_iter()
            .zip(at)
            .filter(|(_, i)| **i != WHOLE)
        {
            let (low, high) = area[l.cut.rank];
            let first = low + i * l.cut.step;
            area[l.cut.rank] = (first, high.min(first + l.cut.step));
        }
        area
    }

    /// The box of the first loops, at the coordinate of the step along an iterative rank.
    fn running(&self, nest: usize, tensor: TensorId, around: &[u64], step: &Area) -> Area {
        let mut area = self.area(nest, around);
        let t = self.mapped.cascade.tensor(tensor);
        if let Some(i) = t.iterative
            && let Formula::Rank { base, .. } = Names::new(self.mapped).rank(t.ranks[i])
        {
            area[base] = step[base];
        }
        area
    }

    fn is_empty(&self, area: &Area) -> bool {
        if self.conditions.is_empty() {
            return false;
        }
        let mut bases = Vec::new();
        self.conditions.iter().for_each(|c| c.bases(&mut bases));
        bases.sort_unstable();
        bases.dedup();
        let mut found = false;
        each_point(&bases, area, &mut vec![0; area.len()], &mut |point| {
            found |= self.conditions.iter().all(|c| c.at(point) != 0);
        });
        !found
    }

    /// One Einsum in one shared tile: its own loops. Loops inside the last that brings new work do not repeat it.
    fn run(&mut self, work: usize, at: &[u64]) {
        let prefix = at[..self.works[work].prefix].to_vec();
        if self.works[work].ran.as_ref() == Some(&prefix) {
            return;
        }
        let (nest, own) = (self.works[work].at.0, self.works[work].own);
        let area = self.area(nest, &prefix);
        self.works[work].ran = Some(prefix);
        self.steps(work, own, &area, at, &mut Vec::new());
    }

    fn steps(
        &mut self,
        work: usize,
        own: &[NamedLoop],
        area: &Area,
        at: &[u64],
        step: &mut Vec<u64>,
    ) {
        if let Some((l, rest)) = own.split_first() {
            for (i, part) in cut(area, l).into_iter().enumerate() {
                step.push(i as u64);
                self.steps(work, rest, &part, at, step);
                step.pop();
            }
            return;
        }
        self.one_point_a_lane(work, area);
        self.works[work].steps += 1;
        let now: Vec<u64> = at.iter().chain(step.iter()).copied().collect();
        for operand in 0..self.works[work].operands.len() {
            self.read(work, operand, area, at, &now);
        }
        self.write(work, area, at, &now);
    }

    /// Lanes and loops together leave each PE one point.
    fn one_point_a_lane(&mut self, work: usize, area: &Area) {
        if !self.works[work].checked.insert(area.clone()) {
            return;
        }
        let work = &self.works[work];
        let array = &self.mapped.accelerator.arrays[work.einsum.unit];
        let mut lanes = vec![area.clone()];
        let dimensions = [
            (&work.einsum.rows, array.rows),
            (&work.einsum.columns, array.columns),
        ];
        for (l, room) in dimensions {
            let Some(l) = l else { continue };
            lanes = lanes
                .iter()
                .flat_map(|a| {
                    let parts = cut(a, l);
                    assert!(
                        parts.len() as u64 <= room,
                        "{} overflows its array",
                        work.einsum.name
                    );
                    parts
                })
                .collect();
        }
        for lane in lanes {
            assert_eq!(
                work.variables.words(&lane).len(),
                1,
                "{} leaves a PE more than a point",
                work.einsum.name
            );
        }
    }

    fn keeps(&self, nest: usize, tensor: TensorId) -> Vec<(&'a Keep, Option<usize>)> {
        let block = self.block;
        let outer = block.keeps.iter().map(|k| (k, None));
        let inner = block.nests[nest].keeps.iter().map(move |k| (k, Some(nest)));
        outer
            .chain(inner)
            .filter(|(k, _)| k.tensor == tensor)
            .collect()
    }

    /// Memories that hold a tensor, from its home inward.
    fn levels(&self, nest: usize, tensor: TensorId) -> Rc<Vec<Level>> {
        if let Some(known) = self.levels.borrow().get(&(nest, tensor)) {
            return Rc::clone(known);
        }
        let found = Rc::new(self.find_levels(nest, tensor));
        self.levels
            .borrow_mut()
            .insert((nest, tensor), Rc::clone(&found));
        found
    }

    fn find_levels(&self, nest: usize, tensor: TensorId) -> Vec<Level> {
        let mut levels: Vec<Level> = self
            .keeps(nest, tensor)
            .into_iter()
            .filter_map(|(k, nest)| match k.place {
                Place::Memory(memory) => Some(Level {
                    memory,
                    depth: k.depth,
                    share: Ratio::new(k.share.0.into(), k.share.1.into()),
                    through: k.spills_through,
                    nest,
                }),
                Place::Registers(_) => None,
            })
            .collect();
        levels.sort_by_key(|l| (l.memory, l.depth));
        let lives_inside = levels.first().is_some_and(|l| {
            l.memory == 0
                || (l.depth == 0
                    && self.mapped.cascade.tensor(tensor).kind == TensorKind::Intermediate)
        });
        if self.crosses(tensor) && !lives_inside {
            levels.insert(
                0,
                Level {
                    memory: 0,
                    depth: 0,
                    share: 1.into(),
                    through: false,
                    nest: None,
                },
            );
        }
        levels
    }

    /// Whether a tensor comes from outside the block or goes there.
    fn crosses(&self, tensor: TensorId) -> bool {
        let kind = self.mapped.cascade.tensor(tensor).kind;
        let made_here = self.works.iter().any(|w| w.output == tensor);
        let names = Names::new(self.mapped);
        let read_elsewhere = self.mapped.blocks.iter().enumerate().any(|(b, block)| {
            b != self.index
                && block.nests.iter().flat_map(|n| &n.einsums).any(|e| {
                    let reads = &self.mapped.cascade.einsum(e.einsum).reads;
                    reads
                        .iter()
                        .any(|r| names.read(r.tensor, &r.indices).0 == tensor)
                })
        });
        kind != TensorKind::Intermediate || !made_here || read_elsewhere
    }

    fn charge(&mut self, memory: usize, tensor: TensorId, reads: Exact, writes: Exact) {
        let cell = self.out.accesses.entry((memory, tensor.0)).or_default();
        cell.0 += reads;
        cell.1 += writes;
    }

    /// Reads (or writes) at a level: the kept share there, the rest at the next memory outward; what spills through is
    /// charged here as well.
    fn access(&mut self, tensor: TensorId, levels: &[Level], at: usize, reads: u128, writes: u128) {
        let (reads, writes) = (Exact::from(reads as i128), Exact::from(writes as i128));
        let level = &levels[at];
        let here = if level.through { 1.into() } else { level.share };
        self.charge(level.memory, tensor, reads * here, writes * here);
        let rest = Exact::from(1) - level.share;
        if rest > 0.into() {
            let outer = if at > 0 {
                levels[at - 1].memory
            } else {
                level.memory.saturating_sub(1)
            };
            self.charge(outer, tensor, reads * rest, writes * rest);
        }
    }

    fn read(&mut self, work: usize, operand: usize, area: &Area, at: &[u64], now: &[u64]) {
        let (nest, position) = self.works[work].at;
        let unit = self.works[work].einsum.unit;
        let Operand { tensor, time, .. } = self.works[work].operands[operand];
        let cascade = &self.mapped.cascade;
        let named = |name: &str| {
            cascade
                .tensor_named(name)
                .is_some_and(|t| viewed(self.mapped, t) == tensor)
        };
        let from = self.works[work]
            .binding
            .from
            .iter()
            .find(|(n, _)| named(&n.text))
            .map(|(_, place)| place.text.clone());
        let arrays = &self.mapped.accelerator.arrays;
        if from
            .as_ref()
            .is_some_and(|f| arrays.iter().any(|a| a.name == *f))
        {
            return;
        }
        let mut levels = Vec::clone(&self.levels(nest, tensor));
        if let Some(name) = from {
            let memory = self
                .mapped
                .accelerator
                .memories
                .iter()
                .position(|m| m.name == name)
                .unwrap();
            let inner = levels.iter().position(|l| l.memory == memory).unwrap();
            levels.truncate(inner + 1);
        }
        if levels.is_empty() {
            return;
        }
        // Tiles on the way in.
        for l in 1..levels.len() {
            let level = levels[l].clone();
            if self
                .works
                .iter()
                .any(|w| w.output == tensor && level.nest.is_none_or(|n| n == w.at.0))
            {
                continue;
            }
            let around = &at[..level.depth];
            let words = self.works[work].operands[operand]
                .touch
                .words(&self.area(nest, around));
            let key = Key::Held {
                tensor: tensor.0,
                place: Place::Memory(level.memory),
                nest: level.nest,
            };
            let fetched = self.tiles.entry(key).or_default().fetch(around, &words);
            let fetched = Exact::from(fetched as i128);
            let passed = if level.through {
                fetched
            } else {
                fetched * level.share
            };
            self.charge(level.memory, tensor, 0.into(), passed);
            let kept = fetched * level.share;
            let outer = levels[l - 1].clone();
            self.charge(
                outer.memory,
                tensor,
                if outer.through {
                    kept
                } else {
                    kept * outer.share
                },
                0.into(),
            );
            if outer.share < 1.into() {
                let beyond = if l > 1 {
                    levels[l - 2].memory
                } else {
                    outer.memory.saturating_sub(1)
                };
                self.charge(
                    beyond,
                    tensor,
                    kept * (Exact::from(1) - outer.share),
                    0.into(),
                );
            }
        }
        let innermost = levels.len() - 1;
        let held = self
            .keeps(nest, tensor)
            .into_iter()
            .find(|(k, _)| k.place == Place::Registers(unit));
        let fetched = if let Some((keep, scope)) = held {
            let around = &at[..keep.depth];
            let words = self.works[work].operands[operand]
                .touch
                .words(&self.area(nest, around));
            let key = Key::Held {
                tensor: tensor.0,
                place: keep.place,
                nest: scope,
            };
            // What the block keeps there outlasts the nest that made it.
            let made_here = self.works.iter().any(|w| {
                w.output == tensor && (scope.is_none() || w.at.0 == nest) && w.einsum.unit == unit
            });
            // A running value that is made here is not loaded ahead of its coordinate.
            let words = if made_here {
                self.works[work].operands[operand]
                    .touch
                    .words(&self.running(nest, tensor, around, area))
            } else {
                words
            };
            let fetched = self.tiles.entry(key).or_default().fetch(around, &words);
            // What the array makes is there when it is read.
            if made_here && time != ReadTime::Previous {
                0
            } else {
                fetched
            }
        } else {
            let words = self.works[work].operands[operand].touch.words(area);
            let key = Key::Operand {
                einsum: (nest, position),
                operand,
            };
            self.tiles.entry(key).or_default().fetch(now, &words)
        };
        self.access(tensor, &levels, innermost, fetched, 0);
    }

    fn write(&mut self, work: usize, area: &Area, at: &[u64], now: &[u64]) {
        let (nest, position) = self.works[work].at;
        let (unit, tensor) = (self.works[work].einsum.unit, self.works[work].output);
        let levels = self.levels(nest, tensor);
        let Some(innermost) = levels.len().checked_sub(1) else {
            return;
        };
        let held = self
            .keeps(nest, tensor)
            .into_iter()
            .find(|(k, _)| k.place == Place::Registers(unit));
        let einsum = (nest, position);
        let (tile_at, words) = match held {
            Some((keep, scope)) => {
                let around = &at[..keep.depth];
                let words = self.works[work].written.words(&self.area(nest, around));
                let key = Key::Held {
                    tensor: tensor.0,
                    place: keep.place,
                    nest: scope,
                };
                let made = self.works[work]
                    .written
                    .words(&self.running(nest, tensor, around, area));
                let running = self.running(nest, tensor, around, area);
                let replaced = self.works[work]
                    .replaced
                    .as_ref()
                    .map(|t| t.words(&running));
                let tile = self.tiles.entry(key).or_default();
                tile.fetch(around, &made);
                // A running value is updated in place: the tile leaves with the new one only.
                tile.stale
                    .extend(replaced.iter().flat_map(|words| words.iter()));
                (around, words)
            }
            None => (now, self.works[work].written.words(area)),
        };
        let results = self.tiles.entry(Key::Results { einsum }).or_default();
        let (sent, back) = if self.works[work].binding.partials.is_some() {
            // Nothing stays in the array: every step takes its partial results out of the memory and puts them back.
            if results.turn(tile_at) {
                let known = words.iter().filter(|w| !results.left.insert(**w)).count();
                (words.len() as u128, known as u128)
            } else {
                (0, 0)
            }
        } else {
            results.replace(tile_at, &words)
        };
        self.access(tensor, &levels, innermost, back, sent);
        for l in 1..levels.len() {
            let around = &at[..levels[l].depth];
            let words = self.works[work].written.words(&self.area(nest, around));
            let (leave, back) = self
                .tiles
                .entry(Key::Drained { einsum, level: l })
                .or_default()
                .replace(around, &words);
            self.drain(tensor, &levels, l, leave, back);
        }
    }

    /// A tile of results goes outward, a partial one comes back.
    fn drain(&mut self, tensor: TensorId, levels: &[Level], l: usize, leave: u128, back: u128) {
        let (level, outer) = (&levels[l], &levels[l - 1]);
        let here = if level.through { 1.into() } else { level.share };
        let (leave, back) = (Exact::from(leave as i128), Exact::from(back as i128));
        let physical = self.mapped.accelerator.counting == Counting::Physical;
        let drained = if physical { leave * here } else { 0.into() };
        let (memory, share, outer) = (level.memory, level.share, outer.memory);
        self.charge(memory, tensor, drained, back * here);
        self.charge(outer, tensor, back * share, leave * share);
    }

    /// Empties the array and the kept tiles, and adds up the time.
    fn finish(&mut self, names: &Names<'_>) {
        let block = self.block;
        for work in 0..self.works.len() {
            let (einsum, tensor) = (self.works[work].at, self.works[work].output);
            let levels = self.levels(einsum.0, tensor);
            if let Some(innermost) = levels.len().checked_sub(1)
                && self.works[work].binding.partials.is_none()
            {
                let (leave, _) = self
                    .tiles
                    .entry(Key::Results { einsum })
                    .or_default()
                    .replace(&[END], &[]);
                self.access(tensor, &levels, innermost, 0, leave);
            }
            for l in 1..levels.len() {
                let (leave, _) = self
                    .tiles
                    .entry(Key::Drained { einsum, level: l })
                    .or_default()
                    .replace(&[END], &[]);
                self.drain(tensor, &levels, l, leave, 0);
            }
        }
        self.out.steps = block
            .nests
            .iter()
            .map(|n| vec![0; n.einsums.len()])
            .collect();
        self.out.points = self.out.steps.clone();
        for work in &self.works {
            self.out.steps[work.at.0][work.at.1] = work.steps;
            self.out.points[work.at.0][work.at.1] = points(self.mapped, names, work);
        }
        let cycles = |(n, e): (usize, usize)| {
            self.out.steps[n][e] * u128::from(block.nests[n].einsums[e].cycles)
        };
        let slowest = |members: &[(usize, usize)]| {
            let units = 0..self.mapped.accelerator.arrays.len();
            let on = |unit| {
                members
                    .iter()
                    .filter(move |(n, e)| block.nests[*n].einsums[*e].unit == unit)
            };
            units
                .map(|unit| on(unit).map(|at| cycles(*at)).sum::<u128>())
                .max()
                .unwrap()
        };
        let mut compute = 0;
        for phase in &block.phases {
            compute += slowest(&phase.einsums);
            self.out.drain += self.out.tiles * u128::from(phase.drain);
        }
        if block.phases.is_empty() {
            compute = slowest(&self.works.iter().map(|w| w.at).collect::<Vec<_>>());
        }
        self.out.compute = compute + self.out.drain;
    }
}

fn viewed(mapped: &MappedCascade, tensor: TensorId) -> TensorId {
    let ranks = &mapped.cascade.tensor(tensor).ranks;
    let names = ranks.iter().map(|r| einflow_spec::expr::Expr::Name {
        name: mapped.cascade.rank(*r).variable.clone(),
        span: einflow_spec::Span::new(0, 0),
    });
    let indices: Vec<_> = names.map(einflow_workloads::cascade::Index::Expr).collect();
    Names::new(mapped).read(tensor, &indices).0
}

/// The tiles of a loop within a box.
fn cut(area: &Area, l: &NamedLoop) -> Vec<Area> {
    let (low, high) = area[l.cut.rank];
    (low..high)
        .step_by(l.cut.step as usize)
        .map(|x| {
            let mut part = area.clone();
            part[l.cut.rank] = (x, high.min(x + l.cut.step));
            part
        })
        .collect()
}

fn work<'a>(
    mapped: &'a MappedCascade,
    names: &Names<'_>,
    block: &'a Block,
    at: (usize, usize),
    einsum: &'a BoundEinsum,
    binding: &'a BindingSpec,
) -> Work<'a> {
    let e = mapped.cascade.einsum(einsum.einsum);
    let mut operands: Vec<Operand> = Vec::new();
    for read in &e.reads {
        let (tensor, formulas) = names.read(read.tensor, &read.indices);
        if !operands
            .iter()
            .any(|o| o.tensor == tensor && o.touch.formulas() == formulas)
        {
            operands.push(Operand {
                tensor,
                touch: Touch::new(formulas),
                time: read.time,
            });
        }
    }
    let loops: Vec<&NamedLoop> = block.loops.iter().chain(&block.nests[at.0].loops).collect();
    let exit = einsum
        .at_exit_of
        .as_ref()
        .map(|name| loops.iter().position(|l| l.name == *name).unwrap());
    let variables = Touch::new(names.variables(e));
    // The innermost shared loop of which two iterations in a row touch different points.
    let mut areas = vec![mapped.base.iter().map(|b| (0, b.size)).collect::<Area>()];
    let mut prefix = 0;
    for (depth, l) in loops.iter().enumerate() {
        if exit == Some(depth) {
            continue;
        }
        let parts: Vec<Vec<Area>> = areas.iter().map(|a| cut(a, l)).collect();
        if parts.iter().any(|p| {
            p.iter()
                .any(|a| variables.words(a) != variables.words(&p[0]))
        }) {
            prefix = depth + 1;
        }
        areas = parts.into_iter().flatten().collect();
    }
    let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
    Work {
        at,
        einsum,
        binding,
        operands,
        output: e.output,
        written: Touch::new(names.written(e)),
        replaced: names.replaced(e).map(Touch::new),
        variables,
        exit,
        prefix,
        ran: None,
        own,
        steps: 0,
        checked: BTreeSet::new(),
    }
}

/// Points of an Einsum at which its conditions hold, each counted once.
fn points(mapped: &MappedCascade, names: &Names<'_>, work: &Work<'_>) -> u128 {
    let e = mapped.cascade.einsum(work.einsum.einsum);
    let conditions: Vec<Formula> = e.support.iter().map(|c| names.formula(&c.0, &[])).collect();
    let area: Area = mapped.base.iter().map(|b| (0, b.size)).collect();
    let mut seen = BTreeSet::new();
    let mut bases: Vec<usize> = Vec::new();
    let found = work.variables.formulas();
    for f in found {
        if let Formula::Rank { base, .. } = f {
            bases.push(*base);
        }
    }
    bases.sort_unstable();
    bases.dedup();
    each_point(&bases, &area, &mut vec![0; area.len()], &mut |point| {
        if conditions.iter().all(|c| c.at(point) != 0) {
            seen.insert(found.iter().map(|f| f.at(point)).collect::<Vec<_>>());
        }
    });
    seen.len() as u128
}
