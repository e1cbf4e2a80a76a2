//! The walk: every loop is a loop, every place holds a set of words.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use einflow_mappings::mapped::{Block, MappedCascade, NamedLoop};
use einflow_workloads::cascade::TensorId;
use num_rational::Ratio;

use crate::{
    index::{Area, Formula, Names, each_point},
    tiles::{Key, Level, Tile},
    work::{Work, cut, points, work},
};

/// Exact, as tensors may be kept in part.
pub type Exact = Ratio<i128>;

/// What a block did.
#[derive(Debug, Default)]
pub struct Walked {
    /// By memory and tensor: words read and words written.
    pub accesses: BTreeMap<(usize, usize), (Exact, Exact)>,
    /// By nest and position: steps, each of one point in every PE.
    pub steps: Vec<Vec<u128>>,
    /// By nest and position: cycles, with those for which the steps wait for what is loaded.
    pub cycles: Vec<Vec<u128>>,
    /// By nest and position: points at which the Einsum works.
    pub points: Vec<Vec<u128>>,
    /// Iterations of the loops that all Einsums share.
    pub tiles: u128,
    pub compute: u128,
    pub drain: u128,
}

/// By nest and tensor: the memories that hold it.
pub type Places = BTreeMap<(usize, TensorId), Rc<Vec<Level>>>;

/// A block being walked.
pub struct Walk<'a> {
    pub mapped: &'a MappedCascade,
    pub block: &'a Block,
    pub index: usize,
    pub conditions: Vec<Formula>,
    pub works: Vec<Work<'a>>,
    pub tiles: BTreeMap<Key, Tile>,
    pub levels: RefCell<Places>,
    pub out: Walked,
}

/// Stands for the iteration of a loop that has ended.
pub const WHOLE: u64 = u64::MAX;
/// No iteration: the block is over.
pub const END: u64 = u64::MAX - 1;

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

    pub fn loops(&self, nest: usize) -> Vec<&'a NamedLoop> {
        self.block
            .loops
            .iter()
            .chain(&self.block.nests[nest].loops)
            .collect()
    }

    /// The box of the first loops at their current iteration.
    pub fn area(&self, nest: usize, at: &[u64]) -> Area {
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
    pub fn running(&self, nest: usize, tensor: TensorId, around: &[u64], step: &Area) -> Area {
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
        let worked = self.works[work].variables.words(&area);
        self.works[work].worked.extend(worked.iter());
        self.steps(work, own, &area, at, &mut Vec::new());
    }

    pub fn steps(
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
        self.works[work].load(self.block, area);
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
        self.out.cycles = self.out.steps.clone();
        for work in &self.works {
            self.out.steps[work.at.0][work.at.1] = work.steps;
            let loads = work.loads.iter().map(|(_, excess)| *excess).max();
            let einsum = work.einsum;
            let mut cycles = work.steps * u128::from(einsum.interval) + loads.unwrap_or(0);
            if einsum.returns.interval > einsum.interval {
                let longer = einsum.returns.interval - einsum.interval;
                cycles += work.returned * u128::from(longer);
            }
            self.out.cycles[work.at.0][work.at.1] = cycles;
            self.out.points[work.at.0][work.at.1] = points(self.mapped, names, work);
        }
        let cycles = |(n, e): (usize, usize)| self.out.cycles[n][e];
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
