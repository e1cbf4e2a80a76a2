//! Counts under conditions, with and without skipping of empty tiles, against a walk of every
//! iteration and every point.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Instant;

use einflow_mappings::nest::{
    Condition, Dim, Loop, Moved, PointTest, Projection, Reuse, Space, Term, enumerated, iterations,
    iterations_within, moved, moved_within, points,
};
use proptest::prelude::*;

type Box = Vec<(u64, u64)>;

fn boxes(whole: &Box, loops: &[Loop]) -> Vec<Box> {
    let Some((l, inner)) = loops.split_first() else {
        return vec![whole.clone()];
    };
    let (low, high) = whole[l.rank];
    let mut all = Vec::new();
    for at in (low..high).step_by(l.step as usize) {
        let mut part = whole.clone();
        part[l.rank] = (at, high.min(at + l.step));
        all.extend(boxes(&part, inner));
    }
    all
}

fn all_points(tile: &Box) -> Vec<Vec<u64>> {
    let mut points = vec![vec![]];
    for &(low, high) in tile {
        points = points
            .into_iter()
            .flat_map(|point: Vec<u64>| (low..high).map(move |x| [&point[..], &[x]].concat()))
            .collect();
    }
    points
}

/// The conditions, written once more.
fn holds(condition: &Condition, x: &[u64]) -> bool {
    match condition {
        Condition::Band { a, b, low, high } => {
            let d = x[*a] as i128 - x[*b] as i128;
            d >= low.unwrap_or(i128::MIN) && d <= high.unwrap_or(i128::MAX)
        }
        Condition::Congruent {
            a,
            b,
            modulus,
            remainder,
        } => {
            let m = *modulus as i128;
            ((x[*a] as i128 - x[*b] as i128) % m + m) % m == *remainder as i128
        }
        Condition::SameBlock {
            a,
            unit_a,
            b,
            unit_b,
        } => x[*a] / unit_a == x[*b] / unit_b,
        Condition::Affine {
            terms,
            low,
            high,
            residue,
        } => {
            let sum: i128 = terms.iter().map(|(w, t)| *w as i128 * value(t, x)).sum();
            low.is_none_or(|l| sum >= l)
                && high.is_none_or(|h| sum <= h)
                && residue
                    .is_none_or(|(m, r)| (sum % m as i128 + m as i128) % m as i128 == r as i128)
        }
        Condition::General { ranks, test } => {
            let at: Vec<u64> = ranks.iter().map(|&r| x[r]).collect();
            test.holds(&at)
        }
        Condition::All(list) => !list.iter().any(|c| !holds(c, x)),
        Condition::Any(list) => list.iter().filter(|c| holds(c, x)).count() > 0,
        Condition::Not(not) => !holds(not, x),
    }
}

fn value(t: &Term, x: &[u64]) -> i128 {
    i128::from(t.coefficient) * i128::from(x[t.rank] / t.unit % t.modulus.unwrap_or(u64::MAX))
}

fn words(tile: &Box, projection: &Projection) -> BTreeSet<Vec<i128>> {
    let word = |x: &Vec<u64>| {
        let sum = |d: &Dim| d.terms.iter().map(|t| value(t, x)).sum();
        projection.dims.iter().map(sum).collect()
    };
    all_points(tile).iter().map(word).collect()
}

fn check(space: &Space, loops: &[Loop], depth: usize, projection: &Projection) {
    let whole: Box = space.sizes.iter().map(|&size| (0, size)).collect();
    let point_holds = |x: &Vec<u64>| space.conditions.iter().all(|c| holds(c, x));
    let (mut found, mut whole_tiles) = (Moved::default(), 0);
    let (mut runs, mut before, mut ever) = (0, None, BTreeSet::new());
    for tile in boxes(&whole, &loops[..depth]) {
        if space.skip_empty && !all_points(&tile).iter().any(point_holds) {
            continue;
        }
        for tile in boxes(&tile, &loops[depth..]) {
            runs += 1;
            let now = words(&tile, projection);
            let new = |w: &&Vec<i128>| {
                before
                    .as_ref()
                    .is_none_or(|b: &BTreeSet<_>| !b.contains(*w))
            };
            found.words += now.iter().filter(new).count() as u128;
            found.tiles += u128::from(before.as_ref() != Some(&now));
            whole_tiles += now.len() as u128;
            ever.extend(now.iter().cloned());
            before = Some(now);
        }
    }
    found.distinct = ever.len() as u128;
    (found.received, found.received_distinct) = (found.words, found.distinct);
    let case = format!("{space:?} {loops:?} depth {depth} {projection:?}");
    let expected = all_points(&whole).iter().filter(|x| point_holds(x)).count() as u128;
    assert_eq!(points(space), Ok(expected), "{case}");
    assert_eq!(iterations_within(space, loops, depth), Ok(runs), "{case}");
    assert_eq!(
        moved_within(space, loops, depth, projection, Reuse::Previous),
        Ok(found),
        "{case}"
    );
    let whole = moved_within(space, loops, depth, projection, Reuse::Nothing).unwrap();
    let expected = (whole_tiles, runs, found.distinct);
    assert_eq!(
        (whole.words, whole.tiles, whole.distinct),
        expected,
        "{case}"
    );
    if depth == loops.len() {
        assert_eq!(iterations(space, loops), Ok(runs), "{case}");
        assert_eq!(moved(space, loops, projection), Ok(found), "{case}");
    }
}

fn bound() -> impl Strategy<Value = Option<i128>> {
    prop::option::of(-9_i128..9)
}

/// Conditions on two of `ranks`, some of them joined.
fn condition(ranks: usize) -> impl Strategy<Value = Condition> {
    let not = |c: Condition| Condition::Not(std::boxed::Box::new(c));
    prop_oneof![
        6 => comparison(ranks),
        1 => comparison(ranks).prop_map(not),
        2 => prop::collection::vec(comparison(ranks), 1..4).prop_map(Condition::Any),
        1 => (comparison(ranks), comparison(ranks), comparison(ranks)).prop_map(move |(a, b, c)| {
            Condition::Any(vec![Condition::All(vec![a, not(b)]), c])
        }),
    ]
}

/// Conditions that are not joined.
fn comparison(ranks: usize) -> impl Strategy<Value = Condition> {
    let two = (0..ranks, 0..ranks);
    (two, 0..11, bound(), bound(), 1_u64..5, 0_u64..4, 1_u64..6).prop_map(
        |((a, b), kind, low, high, modulus, remainder, unit)| match kind {
            0..=2 => Condition::Band { a, b, low, high },
            3 => Condition::Band {
                a,
                b,
                low: Some(0),
                high: None,
            },
            4 => Condition::Congruent {
                a,
                b,
                modulus,
                remainder,
            },
            5 => Condition::SameBlock {
                a,
                unit_a: unit,
                b,
                unit_b: unit,
            },
            6 => Condition::SameBlock {
                a,
                unit_a: unit,
                b,
                unit_b: modulus,
            },
            7 => Condition::Affine {
                terms: vec![(1, Term::plain(a)), (-1, Term::plain(b))],
                low,
                high,
                residue: (unit > 3).then_some((modulus, remainder)),
            },
            8 => {
                let term = |rank| Term {
                    rank,
                    unit,
                    modulus: None,
                    coefficient: 1,
                };
                let (low, high) = (
                    Some(low.unwrap_or(0).min(0)),
                    Some(high.unwrap_or(0).max(0)),
                );
                Condition::Affine {
                    terms: vec![(-1, term(a)), (1, term(b))],
                    low,
                    high,
                    residue: None,
                }
            }
            9 => Condition::Affine {
                terms: vec![
                    (
                        1,
                        Term {
                            rank: a,
                            unit,
                            modulus: Some(modulus),
                            coefficient: 1,
                        },
                    ),
                    (
                        -2,
                        Term {
                            rank: b,
                            unit: modulus,
                            modulus: None,
                            coefficient: 1,
                        },
                    ),
                    (
                        1,
                        Term {
                            rank: b,
                            unit: 1,
                            modulus: Some(unit),
                            coefficient: 3,
                        },
                    ),
                ],
                low,
                high,
                residue: (unit > 3).then_some((modulus, remainder)),
            },
            _ => Condition::General {
                ranks: vec![a, b],
                test: PointTest::new("weighted", move |x| {
                    (2 * x[0] + 3 * x[1]) % modulus <= remainder
                }),
            },
        },
    )
}

/// Sizes, loops, conditions that concentrate on ranks 0 and 1.
fn spaces(max: u64) -> impl Strategy<Value = (Space, Vec<Loop>, usize)> {
    (prop::collection::vec(1..=max, 2..=4), any::<bool>()).prop_flat_map(move |(sizes, skip)| {
        let ranks = sizes.len();
        let loops = prop::collection::vec((0..ranks, 1..=max), 0..=6).prop_map(|loops| {
            loops
                .into_iter()
                .map(|(r, s)| Loop::new(r, s))
                .collect::<Vec<_>>()
        });
        let pair = prop::collection::vec(condition(2), 1..=3);
        let any = prop::collection::vec(condition(ranks), 1..=3);
        (loops, prop_oneof![2 => pair, 1 => any], 0_usize..9).prop_map(
            move |(loops, conditions, cut)| {
                let space = Space {
                    sizes: sizes.clone(),
                    conditions,
                    skip_empty: skip || cut % 2 == 0,
                };
                let depth = if cut > 5 {
                    loops.len().min(cut - 5)
                } else {
                    loops.len()
                };
                (space, loops, depth)
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plain_dimensions((space, loops, depth) in spaces(9), mask in 0_usize..16) {
        let ranks: Vec<usize> = (0..space.sizes.len()).filter(|r| mask >> r & 1 == 1).collect();
        check(&space, &loops, depth, &Projection::plain(&ranks));
    }

    /// Long ranks in small tiles, where iterations are grouped.
    #[test]
    fn two_long_ranks(
        sizes in (20_u64..60, 20_u64..60, 1_u64..3),
        steps in prop::collection::vec((0_usize..3, 1_u64..12), 1..=5),
        conditions in prop::collection::vec(condition(2), 1..=2),
        mask in 1_usize..8,
    ) {
        let space = Space { sizes: vec![sizes.0, sizes.1, sizes.2], conditions, skip_empty: true };
        let loops: Vec<Loop> = steps.iter().map(|&(r, s)| Loop::new(r, s)).collect();
        let ranks: Vec<usize> = (0..3).filter(|r| mask >> r & 1 == 1).collect();
        check(&space, &loops, loops.len(), &Projection::plain(&ranks));
    }

    /// Sums, quotients and remainders, with steps that align with units of 2.
    #[test]
    fn terms(
        (space, loops, depth) in spaces(8),
        kinds in prop::collection::vec((0_usize..4, 0_usize..3, 1_i64..4), 4),
    ) {
        let loops: Vec<Loop> = loops.iter().map(|l| Loop::new(l.rank, [1, 2, 4, 8][l.step as usize % 4])).collect();
        let mut dims = vec![Dim::default(); 3];
        for (rank, &(kind, dim, coefficient)) in kinds.iter().enumerate().take(space.sizes.len()) {
            let (unit, modulus) = [(1, None), (2, None), (1, Some(2)), (2, Some(2))][kind];
            dims[dim].terms.push(Term { rank, unit, modulus, coefficient });
        }
        check(&space, &loops, depth, &Projection::of(dims));
    }
}

const P: usize = 0;
const M: usize = 1;

fn causal(length: u64) -> Space {
    let condition = Condition::Band {
        a: P,
        b: M,
        low: Some(0),
        high: None,
    };
    Space {
        sizes: vec![length, length, 64],
        conditions: vec![condition],
        skip_empty: true,
    }
}

/// Causal attention in tiles of 256 by 256: n (n + 1) / 2 tiles of n^2 run.
#[test]
fn long_causal_nest() {
    let (length, p1) = (1 << 20, 128);
    let n = u128::from(length / 256);
    let space = causal(length);
    let loops = [Loop::new(P, 256 * p1), Loop::new(M, 256), Loop::new(P, 256)];
    let start = Instant::now();
    assert_eq!(iterations(&space, &loops), Ok(n * (n + 1) / 2));
    assert_eq!(
        points(&space),
        Ok(u128::from(length) * (u128::from(length) + 1) / 2 * 64)
    );
    let k = moved(&space, &loops, &Projection::plain(&[M, 2])).unwrap();
    // Of the j-th group of p1 query tiles, the key tiles up to its end, once each.
    let groups = n / u128::from(p1);
    assert_eq!(
        k.words,
        (1..=groups).map(|j| j * u128::from(p1)).sum::<u128>() * 256 * 64
    );
    assert_eq!(k.distinct, n * 256 * 64);
    // The bound is generous (it takes tens of microseconds): walking the tiles would take seconds.
    assert!(start.elapsed().as_millis() < 200);
}

/// A window of 1024 keys, dilated by 3, at 2^24 tokens: every query tile of 256 meets five key
/// tiles, the first four fewer.
#[test]
fn long_window() {
    let length = 1_u64 << 24;
    let mut space = causal(length);
    space.conditions = vec![
        Condition::Band {
            a: P,
            b: M,
            low: Some(0),
            high: Some(1023),
        },
        Condition::Congruent {
            a: P,
            b: M,
            modulus: 3,
            remainder: 0,
        },
    ];
    let loops = [Loop::new(P, 32768), Loop::new(M, 256), Loop::new(P, 256)];
    let tiles = u128::from(length / 256);
    assert_eq!(iterations(&space, &loops), Ok(5 * tiles - 10));
    // Differences 0, 3, ..., 1023, each at as many points as fit before the sequence's start.
    let expected: u128 = (0..=1023).step_by(3).map(|d| u128::from(length) - d).sum();
    assert_eq!(points(&space), Ok(expected * 64));
    assert_eq!(enumerated(&space), Ok(0));
}

/// A box inside the band, known by its residue, is not the box across its edge at that difference.
#[test]
fn residue_is_not_a_difference() {
    let conditions = vec![
        Condition::Congruent {
            a: P,
            b: M,
            modulus: 2,
            remainder: 0,
        },
        Condition::Band {
            a: M,
            b: P,
            low: Some(0),
            high: None,
        },
    ];
    let space = Space {
        sizes: vec![4, 6],
        conditions,
        skip_empty: true,
    };
    check(
        &space,
        &[Loop::new(M, 1), Loop::new(P, 1)],
        2,
        &Projection::plain(&[M]),
    );
}

/// A neighbourhood of 7 by 7 on a grid of 64 by 64, in tiles of one row: of r rows, each meets
/// itself and three to either side, fewer at the border.
#[test]
fn neighborhood() {
    let (width, radius) = (64, 3);
    let of = |unit, modulus| {
        let term = |rank| Term {
            rank,
            unit,
            modulus,
            coefficient: 1,
        };
        let (low, high) = (Some(-radius), Some(radius));
        Condition::Affine {
            terms: vec![(1, term(P)), (-1, term(M))],
            low,
            high,
            residue: None,
        }
    };
    let conditions = vec![of(width, None), of(1, Some(width))];
    let space = Space {
        sizes: vec![width * width; 2],
        conditions,
        skip_empty: true,
    };
    let along: u128 = 7 * 64 - 2 * (3 + 2 + 1);
    let loops = [Loop::new(P, width), Loop::new(M, width)];
    assert_eq!(points(&space), Ok(along * along));
    assert_eq!(iterations(&space, &loops), Ok(along));
    assert!(enumerated(&space).unwrap() > 0);
}
