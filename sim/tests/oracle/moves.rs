//! Movements: what each step takes from the memories and puts into them.

use std::rc::Rc;

use einflow_arch::Counting;
use einflow_mappings::mapped::{Keep, Place};
use einflow_workloads::cascade::{Read, ReadTime, TensorId, TensorKind};
use num_rational::Ratio;

use crate::{
    index::{Area, Names},
    tiles::{Key, Level},
    walk::{Exact, Walk},
    work::{Operand, Work, viewed},
};

impl<'a> Walk<'a> {
    pub fn keeps(&self, nest: usize, tensor: TensorId) -> Vec<(&'a Keep, Option<usize>)> {
        let block = self.block;
        let outer = block.keeps.iter().map(|k| (k, None));
        let inner = block.nests[nest].keeps.iter().map(move |k| (k, Some(nest)));
        outer
            .chain(inner)
            .filter(|(k, _)| k.tensor == tensor)
            .collect()
    }

    /// Memories that hold a tensor, from its home inward.
    pub fn levels(&self, nest: usize, tensor: TensorId) -> Rc<Vec<Level>> {
        if let Some(known) = self.levels.borrow().get(&(nest, tensor)) {
            return Rc::clone(known);
        }
        let found = Rc::new(self.find_levels(nest, tensor));
        self.levels
            .borrow_mut()
            .insert((nest, tensor), Rc::clone(&found));
        found
    }

    pub fn find_levels(&self, nest: usize, tensor: TensorId) -> Vec<Level> {
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
    pub fn crosses(&self, tensor: TensorId) -> bool {
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

    pub fn charge(&mut self, memory: usize, tensor: TensorId, reads: Exact, writes: Exact) {
        let cell = self.out.accesses.entry((memory, tensor.0)).or_default();
        cell.0 += reads;
        cell.1 += writes;
    }

    /// Reads (or writes) at a level: the kept share there, the rest at the next memory outward; what spills through is
    /// charged here as well.
    pub fn access(
        &mut self,
        tensor: TensorId,
        levels: &[Level],
        at: usize,
        reads: u128,
        writes: u128,
    ) {
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

    pub fn read(&mut self, work: usize, operand: usize, area: &Area, at: &[u64], now: &[u64]) {
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
            let shifts = self.works[work].shifts(operand);
            let tile = self.tiles.entry(key).or_default();
            if shifts && tile.turn(now) {
                // The PEs' words have moved on by a place, to where no PE has use for its neighbour's.
                let first: Vec<_> = area.iter().map(|(low, _)| (*low, low + 1)).collect();
                let first = self.works[work].operands[operand]
                    .touch
                    .words(&first)
                    .to_vec();
                if tile.first != first {
                    tile.before.clear();
                }
                tile.first = first;
            }
            tile.fetch(now, &words)
        };
        self.access(tensor, &levels, innermost, fetched, 0);
    }

    pub fn write(&mut self, work: usize, area: &Area, at: &[u64], now: &[u64]) {
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
        let mut whole = None;
        let (tile_at, words) = match held {
            Some((keep, scope)) => {
                let around = &at[..keep.depth];
                let box_around = self.area(nest, around);
                let words = self.leaving(work, &box_around, keep.place);
                let all = self.works[work].written.words(&box_around);
                // Of words that leave one by one those that are made, of a running value the last.
                let own = match words == *all {
                    true => self.works[work].written.words(area).to_vec(),
                    false => words.clone(),
                };
                whole = Some(words);
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
                (around, own)
            }
            None => (now, self.works[work].written.words(area).to_vec()),
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
        } else if let Some(whole) = whole {
            results.hold(&whole, &words)
        } else {
            results.replace(tile_at, &words)
        };
        self.access(tensor, &levels, innermost, back, sent);
        for l in 1..levels.len() {
            let around = &at[..levels[l].depth];
            let place = Place::Memory(levels[l].memory);
            let words = self.leaving(work, &self.area(nest, around), place);
            let (leave, back) = self
                .tiles
                .entry(Key::Drained { einsum, level: l })
                .or_default()
                .replace(around, &words);
            self.drain(tensor, &levels, l, leave, back);
        }
    }

    /// What leaves a place of an Einsum's results when a tile does: of a running value the last in the tile, where no
    /// Einsum reads it further out.
    fn leaving(&self, work: usize, area: &Area, place: Place) -> Vec<u64> {
        let (written, tensor) = (&self.works[work].written, self.works[work].output);
        let all = written.words(area).to_vec();
        let Some(replaced) = &self.works[work].replaced else {
            return all;
        };
        let cascade = &self.mapped.cascade;
        let anywhere = cascade.einsums.iter().flat_map(|e| &e.reads);
        let any = |r: &Read| viewed(self.mapped, r.tensor) == tensor && r.time == ReadTime::Other;
        let reads = |w: &Work<'_>| w.operands.iter().any(|o| o.tensor == tensor);
        let outside = |w: &Work<'_>| {
            let unit = Place::Registers(w.einsum.unit);
            let kept = |p: &dyn Fn(Place) -> bool| {
                self.keeps(w.at.0, tensor).iter().any(|(k, _)| p(k.place))
            };
            let named = w.binding.from.iter();
            let mut named = named.filter(|(n, _)| {
                let id = cascade.tensor_named(&n.text);
                id.is_some_and(|id| viewed(self.mapped, id) == tensor)
            });
            let chip = &self.mapped.accelerator;
            let from = named.next().map(|(_, place)| &place.text);
            let memory = from.and_then(|f| chip.memories.iter().position(|m| m.name == *f));
            match (from, memory, place) {
                (Some(_), None, _) => false,
                (Some(_), Some(_), Place::Registers(_)) => true,
                (Some(_), Some(from), Place::Memory(here)) => from < here,
                (None, ..) if kept(&|p| p == unit) => false,
                (None, _, Place::Registers(_)) => true,
                (None, _, Place::Memory(here)) => {
                    !kept(&|p| matches!(p, Place::Memory(m) if m >= here))
                }
            }
        };
        if anywhere.clone().any(any) || self.works.iter().any(|w| reads(w) && outside(w)) {
            return all;
        }
        let replaced = replaced.words(area);
        let last = all.iter().filter(|w| !replaced.contains(w));
        last.copied().collect()
    }

    /// A tile of results goes outward, a partial one comes back.
    pub fn drain(&mut self, tensor: TensorId, levels: &[Level], l: usize, leave: u128, back: u128) {
        let (level, outer) = (&levels[l], &levels[l - 1]);
        let here = if level.through { 1.into() } else { level.share };
        let (leave, back) = (Exact::from(leave as i128), Exact::from(back as i128));
        let physical = self.mapped.accelerator.counting == Counting::Physical;
        let drained = if physical { leave * here } else { 0.into() };
        let (memory, share, outer) = (level.memory, level.share, outer.memory);
        self.charge(memory, tensor, drained, back * here);
        self.charge(outer, tensor, back * share, leave * share);
    }
}
