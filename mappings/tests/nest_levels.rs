//! `nest::count_levels` against a simulation of every instance, step by step, with explicit sets.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use einflow_arch::Counting;
use einflow_mappings::nest::{
    Factor, Level, LevelCounts, LevelError, LevelNest, LevelTensor, LevelTotals, count_levels,
};
use proptest::prelude::*;

type Word = Vec<u64>;

/// One loop of the flattened nest.
#[derive(Clone, Copy, Debug)]
struct Step {
    level: usize,
    rank: usize,
    factor: u64,
    stride: u64,
    spatial: bool,
}

fn flatten(nest: &LevelNest) -> Vec<Step> {
    let mut stride = vec![1; nest.sizes.len()];
    let mut steps = Vec::new();
    for (level, l) in nest.levels.iter().enumerate().rev() {
        let (spatial, temporal) = (l.spatial.iter().rev(), l.temporal.iter().rev());
        for (f, spatial) in spatial
            .map(|f| (f, true))
            .chain(temporal.map(|f| (f, false)))
        {
            steps.push(Step {
                level,
                rank: f.rank,
                factor: f.factor,
                stride: stride[f.rank],
                spatial,
            });
            stride[f.rank] *= f.factor;
        }
    }
    steps.reverse();
    steps
}

/// All index tuples of some loops, in the order of execution.
fn tuples(steps: &[Step]) -> Vec<Vec<u64>> {
    steps.iter().fold(vec![vec![]], |tuples, step| {
        let longer = |t: Vec<u64>| (0..step.factor).map(move |i| [&t[..], &[i]].concat());
        tuples.into_iter().flat_map(longer).collect()
    })
}

/// The words of a tensor over all points whose coordinates start at `at` and go on along `free`.
fn words(tensor: &LevelTensor, at: &[u64], free: &[Step]) -> BTreeSet<Word> {
    let mut found = BTreeSet::new();
    for tuple in tuples(free) {
        let mut x = at.to_vec();
        free.iter()
            .zip(tuple)
            .for_each(|(step, i)| x[step.rank] += i * step.stride);
        found.insert(
            tensor
                .dims
                .iter()
                .map(|dim| dim.iter().map(|&r| x[r]).sum())
                .collect(),
        );
    }
    found
}

/// One instance of a level: its place along the spatial loops above, and what it holds.
#[derive(Default)]
struct Instance {
    place: Vec<u64>,
    /// Each word of the tile, and whether a partial sum of it is there.
    tile: BTreeMap<Word, bool>,
    touched: BTreeSet<Word>,
}

struct Simulation<'a> {
    nest: &'a LevelNest,
    counting: Counting,
    t: usize,
    steps: Vec<Step>,
    kept: Vec<usize>,
    instances: Vec<Vec<Instance>>,
    counts: Vec<LevelCounts>,
}

impl<'a> Simulation<'a> {
    fn new(nest: &'a LevelNest, t: usize, counting: Counting) -> Self {
        let steps = flatten(nest);
        let kept: Vec<usize> = (0..nest.levels.len())
            .filter(|&l| nest.levels[l].keep.contains(&t))
            .collect();
        let above = |l: usize| -> Vec<Step> {
            steps
                .iter()
                .filter(|s| s.spatial && s.level < l)
                .copied()
                .collect()
        };
        let instances = kept
            .iter()
            .map(|&l| {
                let make = |place| Instance {
                    place,
                    ..Instance::default()
                };
                tuples(&above(l)).into_iter().map(make).collect()
            })
            .collect();
        let counts = vec![LevelCounts::default(); nest.levels.len()];
        Self {
            nest,
            counting,
            t,
            steps,
            kept,
            instances,
            counts,
        }
    }

    fn has(&self, rank: usize) -> bool {
        self.nest.tensors[self.t]
            .dims
            .iter()
            .flatten()
            .any(|&r| r == rank)
    }

    /// The coordinates of the spatial loops between two levels along which the tensor changes.
    fn relevant(&self, place: &[u64], from: usize) -> Vec<u64> {
        let spatial = self.steps.iter().filter(|s| s.spatial);
        spatial
            .zip(place)
            .filter(|(s, _)| s.level >= from && self.has(s.rank))
            .map(|(_, &i)| i)
            .collect()
    }

    fn tile(&self, k: usize, place: &[u64], time: &[u64]) -> BTreeSet<Word> {
        let level = self.kept[k];
        let mut at = vec![0; self.nest.sizes.len()];
        let (mut spatial, mut temporal) = (place.iter(), time.iter());
        let mut free = Vec::new();
        for step in &self.steps {
            if step.level >= level {
                free.push(*step);
            } else if step.spatial {
                at[step.rank] += spatial.next().unwrap() * step.stride;
            } else {
                at[step.rank] += temporal.next().unwrap() * step.stride;
            }
        }
        words(&self.nest.tensors[self.t], &at, &free)
    }

    /// The number of spatial loops above a kept level: how much of a place tells its instance.
    fn depth(&self, k: usize) -> usize {
        self.steps
            .iter()
            .filter(|s| s.spatial && s.level < self.kept[k])
            .count()
    }

    /// Runs the whole nest.
    fn run(mut self) -> Vec<LevelCounts> {
        let output = self.nest.tensors[self.t].output;
        let temporal: Vec<Step> = self.steps.iter().filter(|s| !s.spatial).copied().collect();
        for instance in &mut self.instances[0] {
            let at = vec![0; self.nest.sizes.len()];
            let all = words(&self.nest.tensors[self.t], &at, &self.steps);
            instance.tile = all.into_iter().map(|w| (w, false)).collect();
        }
        let mut before: Option<Vec<u64>> = None;
        for time in tuples(&temporal) {
            // Levels whose outer loops have moved take new tiles.
            let moved: Vec<usize> = (1..self.kept.len())
                .filter(|&k| {
                    let outer = temporal.iter().filter(|s| s.level < self.kept[k]).count();
                    before.as_ref().is_none_or(|b| b[..outer] != time[..outer])
                })
                .collect();
            let tiles: Vec<Vec<BTreeSet<Word>>> = moved
                .iter()
                .map(|&k| {
                    self.instances[k]
                        .iter()
                        .map(|i| self.tile(k, &i.place, &time))
                        .collect()
                })
                .collect();
            if output {
                for (k, tiles) in moved.iter().zip(&tiles).rev() {
                    self.drain(*k, tiles);
                }
            }
            for (k, tiles) in moved.iter().zip(&tiles) {
                self.fill(*k, tiles, output);
            }
            self.multiply(&time, &temporal, output);
            before = Some(time);
        }
        if output {
            for k in (1..self.kept.len()).rev() {
                let nothing = vec![BTreeSet::new(); self.instances[k].len()];
                self.drain(k, &nothing);
            }
        }
        self.counts
    }

    /// An update of a word arrives at an instance.
    fn update(&mut self, k: usize, instance: usize, word: &Word, accumulates: bool) {
        let counts = &mut self.counts[self.kept[k]];
        let instance = &mut self.instances[k][instance];
        counts.updates += 1;
        let first = instance.touched.insert(word.clone());
        let held = instance
            .tile
            .insert(word.clone(), true)
            .expect("an update of a word that is not there");
        match self.counting {
            Counting::Timeloop => counts.reads += u128::from(!first),
            // Partial sums of a child have the old value in them already.
            Counting::Physical => counts.reads += u128::from(held && accumulates),
        }
    }

    /// Words that are not in the next tile go outward, summed over instances.
    fn drain(&mut self, k: usize, next: &[BTreeSet<Word>]) {
        let mut sent: BTreeSet<(usize, Word)> = BTreeSet::new();
        for (i, next) in next.iter().enumerate() {
            let old = std::mem::take(&mut self.instances[k][i].tile);
            let (stay, leave): (BTreeMap<_, _>, BTreeMap<_, _>) =
                old.into_iter().partition(|(word, _)| next.contains(word));
            self.instances[k][i].tile = stay;
            let parent = self.parent(k, i);
            for (word, held) in leave {
                assert!(held, "a tile leaves before it was updated");
                if self.counting == Counting::Physical {
                    self.counts[self.kept[k]].reads += 1;
                }
                sent.insert((parent, word));
            }
        }
        for (parent, word) in sent {
            self.update(k - 1, parent, &word, false);
        }
    }

    fn parent(&self, k: usize, instance: usize) -> usize {
        let place = &self.instances[k][instance].place[..self.depth(k - 1)];
        self.instances[k - 1]
            .iter()
            .position(|p| p.place == place)
            .unwrap()
    }

    /// Words of the next tile that are not there come in.
    fn fill(&mut self, k: usize, next: &[BTreeSet<Word>], output: bool) {
        let (parent_level, level) = (self.kept[k - 1], self.kept[k]);
        let mut sent: BTreeSet<(usize, Word)> = BTreeSet::new();
        for (i, next) in next.iter().enumerate() {
            let parent = self.parent(k, i);
            if !output {
                self.instances[k][i]
                    .tile
                    .retain(|word, _| next.contains(word));
            }
            for word in next {
                if self.instances[k][i].tile.contains_key(word) {
                    continue;
                }
                let first_sent = sent.insert((parent, word.clone()));
                let mut held = false;
                if !output {
                    self.counts[level].fills += 1;
                    self.counts[parent_level].reads += u128::from(first_sent);
                } else if self.counting == Counting::Timeloop {
                    self.counts[level].fills +=
                        u128::from(self.instances[k][i].touched.contains(word));
                } else if first_sent && self.instances[k - 1][parent].tile[word] {
                    held = true;
                    self.counts[level].fills += 1;
                    self.counts[parent_level].reads += 1;
                }
                self.instances[k][i].tile.insert(word.clone(), held);
            }
        }
    }

    /// One cycle of all multipliers.
    fn multiply(&mut self, time: &[u64], temporal: &[Step], output: bool) {
        let k = self.kept.len() - 1;
        let spatial: Vec<Step> = self.steps.iter().filter(|s| s.spatial).copied().collect();
        let depth = self.depth(k);
        let mut groups: BTreeMap<(Vec<u64>, Vec<u64>), Word> = BTreeMap::new();
        for place in tuples(&spatial) {
            let mut x = vec![0; self.nest.sizes.len()];
            temporal
                .iter()
                .zip(time)
                .for_each(|(s, i)| x[s.rank] += i * s.stride);
            spatial
                .iter()
                .zip(&place)
                .for_each(|(s, i)| x[s.rank] += i * s.stride);
            let word: Word = self.nest.tensors[self.t]
                .dims
                .iter()
                .map(|dim| dim.iter().map(|&r| x[r]).sum())
                .collect();
            let group = self.relevant(&place, self.kept[k]);
            groups.insert((place[..depth].to_vec(), group), word);
        }
        for ((place, _), word) in groups {
            if output {
                let instance = self.instances[k]
                    .iter()
                    .position(|i| i.place == place)
                    .unwrap();
                self.update(k, instance, &word, true);
            } else {
                self.counts[self.kept[k]].reads += 1;
            }
        }
    }
}

fn check(nest: &LevelNest) {
    for &counting in Counting::ALL {
        let found = count_levels(nest, counting).unwrap();
        for t in 0..nest.tensors.len() {
            let expected = Simulation::new(nest, t, counting).run();
            let found: Vec<LevelCounts> = found.counts.iter().map(|level| level[t]).collect();
            assert_eq!(
                found,
                expected,
                "tensor {t} under {} of {nest:?}",
                counting.name()
            );
        }
    }
}

/// Matrix product, batched product, convolution and matrix-vector product.
fn family(which: usize) -> (usize, Vec<LevelTensor>) {
    let tensor = |dims: &[&[usize]], output| LevelTensor {
        dims: dims.iter().map(|d| d.to_vec()).collect(),
        output,
    };
    match which {
        0 => (
            3,
            vec![
                tensor(&[&[0], &[2]], false),
                tensor(&[&[2], &[1]], false),
                tensor(&[&[0], &[1]], true),
            ],
        ),
        1 => (
            4,
            vec![
                tensor(&[&[3], &[0], &[2]], false),
                tensor(&[&[3], &[2], &[1]], false),
                tensor(&[&[3], &[0], &[1]], true),
            ],
        ),
        // p, r, c, k
        2 => (
            4,
            vec![
                tensor(&[&[0, 1], &[2]], false),
                tensor(&[&[1], &[2], &[3]], false),
                tensor(&[&[0], &[3]], true),
            ],
        ),
        // p, r, q, s: two dimensions of two ranks each
        3 => (
            4,
            vec![
                tensor(&[&[0, 1], &[2, 3]], false),
                tensor(&[&[1], &[3]], false),
                tensor(&[&[0], &[2]], true),
            ],
        ),
        _ => (
            2,
            vec![
                tensor(&[&[0], &[1]], false),
                tensor(&[&[1]], false),
                tensor(&[&[0]], true),
            ],
        ),
    }
}

/// Random loops, dropped from the inside once the space has too many points to walk.
fn nests() -> impl Strategy<Value = LevelNest> {
    let loops = prop::collection::vec((0_usize..4, 0_usize..4, 2_u64..=4, 0_usize..3), 0..=9);
    (
        0_usize..6,
        2_usize..=4,
        loops,
        prop::collection::vec(any::<u8>(), 4),
    )
        .prop_map(|(which, depth, loops, keep)| {
            // Convolutions twice as often.
            let (ranks, tensors) = family(if which == 5 { 2 } else { which });
            let mut levels = vec![Level::default(); depth];
            for (l, level) in levels.iter_mut().enumerate() {
                level.keep = (0..3).filter(|t| l == 0 || keep[l] >> t & 3 != 0).collect();
            }
            let mut sizes = vec![1; ranks];
            for (level, rank, factor, kind) in loops {
                if sizes.iter().product::<u64>() * factor > 300 {
                    break;
                }
                let f = Factor {
                    rank: rank % ranks,
                    factor,
                };
                sizes[f.rank] *= factor;
                let level = &mut levels[level % depth];
                if kind == 0 {
                    level.spatial.push(f)
                } else {
                    level.temporal.push(f)
                }
            }
            LevelNest {
                sizes,
                tensors,
                levels,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_to_the_simulation(nest in nests()) {
        check(&nest);
    }
}

fn matvec(temporal: &[(usize, u64)], spatial: &[(usize, u64)], sizes: [u64; 2]) -> LevelNest {
    let factors = |f: &[(usize, u64)]| {
        f.iter()
            .map(|&(rank, factor)| Factor { rank, factor })
            .collect()
    };
    let all = vec![0, 1, 2];
    let levels = vec![
        Level {
            keep: all.clone(),
            temporal: factors(temporal),
            spatial: factors(spatial),
        },
        Level {
            keep: all,
            ..Level::default()
        },
    ];
    LevelNest {
        sizes: sizes.to_vec(),
        tensors: family(4).1,
        levels,
    }
}

/// m = 2, k = 6 = 3 x 2 side by side; k outside m, so each of two results leaves three times.
#[test]
fn partial_sums_by_hand() {
    let nest = matvec(&[(1, 3), (0, 2)], &[(1, 2)], [2, 6]);
    let of = |counting, level: usize| count_levels(&nest, counting).unwrap().counts[level][2];
    let counts = |reads, fills, updates| LevelCounts {
        reads,
        fills,
        updates,
    };
    // Both children had the word before: two fills for each of four returns. No read to drain.
    assert_eq!(of(Counting::Timeloop, 0), counts(4, 0, 6));
    assert_eq!(of(Counting::Timeloop, 1), counts(12 - 4, 8, 12));
    // One child takes the old sum, and reads it to add; the other starts anew. All twelve drain.
    assert_eq!(of(Counting::Physical, 0), counts(4, 0, 6));
    assert_eq!(of(Counting::Physical, 1), counts(4 + 12, 4, 12));
}

#[test]
fn totals() {
    let nest = matvec(&[(1, 3), (0, 2)], &[(1, 2)], [2, 6]);
    let LevelTotals {
        instances,
        multipliers,
        points,
        cycles,
        ..
    } = count_levels(&nest, Counting::Physical).unwrap();
    assert_eq!(
        (instances, multipliers, points, cycles),
        (vec![1, 2], 2, 12, 6)
    );
}

#[test]
fn malformed_nests_are_refused() {
    let of = |nest: &LevelNest| count_levels(nest, Counting::Physical).unwrap_err();
    let mut nest = matvec(&[(1, 3), (0, 2)], &[(1, 2)], [2, 5]);
    assert_eq!(
        of(&nest),
        LevelError::Factors {
            rank: 1,
            product: 6,
            size: 5
        }
    );
    nest.sizes[1] = 6;
    nest.levels[0].keep.pop();
    assert_eq!(of(&nest), LevelError::NotKept { tensor: 2 });
    nest.levels[0].keep = vec![0, 1, 2, 3];
    assert_eq!(
        of(&nest),
        LevelError::NoSuchTensor {
            tensor: 3,
            tensors: 3
        }
    );
    nest.levels[0].keep = vec![0, 1, 2];
    nest.tensors[2].dims[0] = vec![0, 1];
    assert_eq!(of(&nest), LevelError::Dimension { tensor: 2, rank: 0 });
    nest.tensors[2].dims[0] = vec![7];
    assert_eq!(of(&nest), LevelError::NoSuchRank { rank: 7, ranks: 2 });
    nest = LevelNest::default();
    assert_eq!(
        count_levels(&nest, Counting::Physical),
        Ok(LevelTotals {
            cycles: 1,
            points: 1,
            multipliers: 1,
            ..LevelTotals::default()
        })
    );
}
