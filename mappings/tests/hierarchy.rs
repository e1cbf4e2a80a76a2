//! Counts over several levels with fan-out between them, against a simulation of every instance, step by step, with
//! explicit sets.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use einflow_arch::Counting;
use einflow_mappings::{
    count::{Count, traffic_of},
    hierarchy::{Hierarchy, LevelCounts, Tensor},
    nest::{CountError, Dim, Projection, Space, Term, instances, iterations},
};
use proptest::prelude::*;

type Word = Vec<u64>;

/// An Einsum on levels, as the simulation walks it.
#[derive(Clone, Debug, Default)]
struct Nest {
    sizes: Vec<u64>,
    tensors: Vec<Dims>,
    levels: Vec<Level>,
}

/// The ranks that are summed in each dimension, and whether it is a result.
#[derive(Clone, Debug)]
struct Dims(Vec<Vec<usize>>, bool);

/// A level's tensors, and (rank, factor) of its loops, outermost first.
#[derive(Clone, Debug, Default)]
struct Level {
    keep: Vec<usize>,
    temporal: Vec<(usize, u64)>,
    spatial: Vec<(usize, u64)>,
}

impl Nest {
    fn hierarchy(&self) -> Result<Hierarchy, CountError> {
        let tensor = |Dims(dims, output): &Dims| Tensor {
            projection: Projection::of(
                dims.iter()
                    .map(|dim| Dim::sum(dim.iter().map(|&rank| Term::plain(rank)).collect()))
                    .collect(),
            ),
            output: *output,
        };
        let mut hierarchy = Hierarchy {
            space: Space::new(&*self.sizes),
            tensors: self.tensors.iter().map(tensor).collect(),
            ..Hierarchy::default()
        };
        for level in &self.levels {
            hierarchy.push(level.keep.clone(), &level.temporal, &level.spatial)?;
        }
        Ok(hierarchy)
    }
}

/// One loop of the flattened nest.
#[derive(Clone, Copy, Debug)]
struct Step {
    level: usize,
    rank: usize,
    factor: u64,
    stride: u64,
    spatial: bool,
}

fn flatten(nest: &Nest) -> Vec<Step> {
    let mut stride = vec![1; nest.sizes.len()];
    let mut steps = Vec::new();
    for (level, l) in nest.levels.iter().enumerate().rev() {
        let (spatial, temporal) = (l.spatial.iter().rev(), l.temporal.iter().rev());
        for (&(rank, factor), spatial) in spatial
            .map(|f| (f, true))
            .chain(temporal.map(|f| (f, false)))
        {
            steps.push(Step {
                level,
                rank,
                factor,
                stride: stride[rank],
                spatial,
            });
            stride[rank] *= factor;
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
fn words(tensor: &Dims, at: &[u64], free: &[Step]) -> BTreeSet<Word> {
    let mut found = BTreeSet::new();
    for tuple in tuples(free) {
        let mut x = at.to_vec();
        free.iter()
            .zip(tuple)
            .for_each(|(step, i)| x[step.rank] += i * step.stride);
        found.insert(
            tensor
                .0
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
    nest: &'a Nest,
    counting: Counting,
    t: usize,
    steps: Vec<Step>,
    kept: Vec<usize>,
    instances: Vec<Vec<Instance>>,
    counts: Vec<LevelCounts>,
}

impl<'a> Simulation<'a> {
    fn new(nest: &'a Nest, t: usize, counting: Counting) -> Self {
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
        let Dims(_, output) = self.nest.tensors[self.t];
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
        let mut taken: BTreeSet<(Vec<u64>, Word)> = BTreeSet::new();
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
            let here = words(&self.nest.tensors[self.t], &x, &[]);
            taken.extend(here.into_iter().map(|word| (place[..depth].to_vec(), word)));
        }
        for (place, word) in taken {
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

fn check(nest: &Nest) {
    let hierarchy = nest.hierarchy().unwrap();
    let (levels, tensors) = (nest.levels.len(), nest.tensors.len());
    for &counting in Counting::ALL {
        let found = hierarchy.counts(counting).unwrap();
        let transfers = hierarchy.transfers();
        let all = traffic_of(&hierarchy.space, &transfers, counting, levels, tensors).unwrap();
        for t in 0..tensors {
            let expected = Simulation::new(nest, t, counting).run();
            let found: Vec<LevelCounts> = found.iter().map(|level| level[t]).collect();
            let name = counting.name();
            assert_eq!(found, expected, "tensor {t} under {name} of {nest:?}");
            for (level, counts) in expected.into_iter().enumerate() {
                let access = all.get(level, t);
                assert_eq!(access.reads, Count::whole(counts.reads));
                assert_eq!(access.writes, Count::whole(counts.fills + counts.updates));
            }
        }
    }
}

/// Matrix product, batched product, convolutions, matrix-vector product.
fn family(which: usize) -> (usize, Vec<Dims>) {
    type Ranks = &'static [&'static [usize]];
    let tensor = |dims: Ranks, output| Dims(dims.iter().map(|d| d.to_vec()).collect(), output);
    let (ranks, a, b, z): (usize, Ranks, Ranks, Ranks) = match which {
        0 => (3, &[&[0], &[2]], &[&[2], &[1]], &[&[0], &[1]]),
        1 => (
            4,
            &[&[3], &[0], &[2]],
            &[&[3], &[2], &[1]],
            &[&[3], &[0], &[1]],
        ),
        // p, r, c, k
        2 => (4, &[&[0, 1], &[2]], &[&[1], &[2], &[3]], &[&[0], &[3]]),
        // p, r, q, s: two dimensions of two ranks each
        3 => (4, &[&[0, 1], &[2, 3]], &[&[1], &[3]], &[&[0], &[2]]),
        // p, r, s: a dimension of three ranks
        4 => (3, &[&[0, 1, 2]], &[&[1], &[2]], &[&[0]]),
        _ => (2, &[&[0], &[1]], &[&[1]], &[&[0]]),
    };
    (
        ranks,
        vec![tensor(a, false), tensor(b, false), tensor(z, true)],
    )
}

/// Random loops, dropped from the inside once the space has too many points to walk.
fn nests() -> impl Strategy<Value = Nest> {
    let loops = prop::collection::vec((0_usize..4, 0_usize..4, 2_u64..=4, 0_usize..3), 0..=9);
    (
        0_usize..7,
        2_usize..=4,
        loops,
        prop::collection::vec(any::<u8>(), 4),
    )
        .prop_map(|(which, depth, loops, keep)| {
            // Convolutions twice as often.
            let (ranks, tensors) = family(if which == 6 { 2 } else { which });
            let mut levels = vec![Level::default(); depth];
            for (l, level) in levels.iter_mut().enumerate() {
                level.keep = (0..3).filter(|t| l == 0 || keep[l] >> t & 3 != 0).collect();
            }
            let mut sizes = vec![1; ranks];
            for (level, rank, factor, kind) in loops {
                if sizes.iter().product::<u64>() * factor > 300 {
                    break;
                }
                let f = (rank % ranks, factor);
                sizes[f.0] *= factor;
                let level = &mut levels[level % depth];
                if kind == 0 {
                    level.spatial.push(f)
                } else {
                    level.temporal.push(f)
                }
            }
            Nest {
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

fn matvec(temporal: &[(usize, u64)], spatial: &[(usize, u64)], sizes: [u64; 2]) -> Nest {
    let keep = vec![0, 1, 2];
    let (temporal, spatial) = (temporal.to_vec(), spatial.to_vec());
    let outer = Level {
        keep: keep.clone(),
        temporal,
        spatial,
    };
    let inner = Level {
        keep,
        ..Level::default()
    };
    Nest {
        sizes: sizes.to_vec(),
        tensors: family(5).1,
        levels: vec![outer, inner],
    }
}

/// m = 2, k = 6 = 3 x 2 side by side; k outside m, so each of two results leaves three times.
#[test]
fn partial_sums_by_hand() {
    let nest = matvec(&[(1, 3), (0, 2)], &[(1, 2)], [2, 6]);
    let hierarchy = nest.hierarchy().unwrap();
    let of = |counting, level: usize| hierarchy.counts(counting).unwrap()[level][2];
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
    assert_eq!(iterations(&hierarchy.space, &hierarchy.loops), Ok(6));
    assert_eq!(instances(&hierarchy.space, &hierarchy.loops), Ok(2));
}

/// 8 x 3 multipliers at p + r read 10 words a step, not 24; the step before leaves them nothing.
#[test]
fn a_sum_across_multipliers_by_hand() {
    let (_, tensors) = family(2);
    let mut nest = Nest {
        sizes: vec![16, 3, 30, 40],
        tensors,
        levels: vec![Level {
            keep: vec![0, 1, 2],
            temporal: vec![(3, 40), (2, 30), (0, 2)],
            spatial: vec![(0, 8), (1, 3)],
        }],
    };
    let reads = |nest: &Nest| {
        nest.hierarchy()
            .unwrap()
            .counts(Counting::Timeloop)
            .unwrap()[0][0]
            .reads
    };
    assert_eq!(reads(&nest), 10 * 2400);
    // 3 x 8 with p apart by two: r fills the gaps of p, 17 words.
    nest.levels[0].temporal = vec![(3, 40), (2, 30)];
    nest.levels[0].spatial = vec![(0, 8), (1, 3)];
    nest.levels.push(Level {
        keep: vec![],
        temporal: vec![(0, 2)],
        spatial: vec![],
    });
    assert_eq!(reads(&nest), 17 * 2400);
}

#[test]
fn malformed_nests_are_refused() {
    let of = |nest: &Nest| nest.hierarchy().map(|_| ()).unwrap_err();
    let nest = matvec(&[(1, 3), (0, 2)], &[(1, 2)], [2, 5]);
    assert_eq!(of(&nest), CountError::Uneven { rank: 1, step: 1 });
    let nest = matvec(&[(2, 3)], &[], [2, 5]);
    assert_eq!(of(&nest), CountError::NoSuchRank { rank: 2, ranks: 2 });
    // Instances of unequal size.
    let space = Space::new([10, 1]);
    let mut hierarchy = matvec(&[], &[(0, 2)], [10, 1]).hierarchy().unwrap();
    hierarchy.loops[0].step = 4;
    assert_eq!(
        instances(&space, &hierarchy.loops),
        Err(CountError::Uneven { rank: 0, step: 4 })
    );
    let nothing = Hierarchy::default().counts(Counting::Physical);
    assert_eq!(nothing, Ok(vec![]));
}
