//! `nest::moved`, `iterations` and `footprint` against a walk of the loop nest point by point.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use einflow_mappings::nest::{
    CountError, Dim, Loop, Moved, Projection, Reuse, Space, Spread, Term, Wrapped, footprint,
    instances, iterations, moved, moved_within, points,
};
use proptest::prelude::*;

/// A box: the coordinates [low, high) of each rank.
type Box = Vec<(u64, u64)>;

/// All boxes below the loops, in the order of their execution.
fn tiles(sizes: &[u64], loops: &[Loop]) -> Vec<Box> {
    let whole = sizes.iter().map(|&size| (0, size)).collect::<Box>();
    loops.iter().fold(vec![whole], |boxes, l| {
        boxes.iter().flat_map(|whole| tiles_of(whole, l)).collect()
    })
}

fn tiles_of(whole: &Box, l: &Loop) -> Vec<Box> {
    let (low, high) = whole[l.rank];
    let part = |at| {
        let mut part = whole.clone();
        part[l.rank] = (at, high.min(at + l.step));
        part
    };
    (low..high).step_by(l.step as usize).map(part).collect()
}

/// The coordinate of a dimension that a point touches.
fn coordinate(d: &Dim, point: &[u64]) -> i64 {
    let mut sum = d.offset;
    for t in &d.terms {
        sum += t.coefficient * (point[t.rank] / t.unit % t.modulus.unwrap_or(u64::MAX)) as i64;
    }
    for w in &d.wrapped {
        let digit = coordinate(&w.of, point).div_euclid(w.unit as i64);
        sum += w.coefficient * w.modulus.map_or(digit, |m| digit.rem_euclid(m as i64));
    }
    sum
}

/// The words that the points of a box touch, of those that exist.
fn words(tile: &Box, projection: &Projection) -> BTreeSet<Vec<i64>> {
    let mut points = vec![vec![]];
    for &(low, high) in tile {
        points = points
            .into_iter()
            .flat_map(|point| (low..high).map(move |x| [&point[..], &[x]].concat()))
            .collect();
    }
    let mut found = BTreeSet::new();
    for point in &points {
        for image in projection.images() {
            let word: Vec<i64> = image.iter().map(|d| coordinate(d, point)).collect();
            let inside = |(d, x): (&Dim, &i64)| d.within.is_none_or(|n| (0..n as i64).contains(x));
            if image.iter().zip(&word).all(inside) {
                found.insert(word);
            }
        }
    }
    found
}

/// The tiles of all instances at each step, in the order of time: (source, tile).
fn steps(loops: &[Loop], at: Vec<(usize, Box)>) -> Vec<Vec<(usize, Box)>> {
    let Some((l, inner)) = loops.split_first() else {
        return vec![at];
    };
    // By instance the parts that the loop makes of its box.
    let parts: Vec<Vec<(usize, Box)>> = at
        .into_iter()
        .map(|(source, tile)| {
            let parts = tiles_of(&tile, l);
            let number = parts.len();
            let source = |i| match l.over {
                Spread::Sources => source * number + i,
                _ => source,
            };
            let parts = parts.into_iter().enumerate();
            parts.map(|(i, part)| (source(i), part)).collect()
        })
        .collect();
    if l.is_spatial() {
        return steps(inner, parts.concat());
    }
    (0..parts[0].len())
        .flat_map(|i| steps(inner, parts.iter().map(|p| p[i].clone()).collect()))
        .collect()
}

fn walked(sizes: &[u64], loops: &[Loop], projection: &Projection, reuse: Reuse) -> (Moved, u128) {
    let mut found = Moved::default();
    let whole = sizes.iter().map(|&size| (0, size)).collect();
    let all = steps(loops, vec![(0, whole)]);
    let mut held = vec![None; all[0].len()];
    // What the first point of the tile before touched, in one instance.
    let mut firsts = None;
    let first = |tile: &Box| -> Vec<i64> {
        let point: Vec<u64> = tile.iter().map(|(low, _)| *low).collect();
        let dims = projection.dims.iter();
        dims.map(|d| coordinate(d, &point)).collect()
    };
    let (mut ever_sent, mut ever) = (BTreeSet::new(), BTreeSet::new());
    for step in &all {
        let mut sent = BTreeSet::new();
        for (instance, (source, tile)) in step.iter().enumerate() {
            let now = words(tile, projection);
            let before: BTreeSet<_> = match reuse {
                Reuse::Previous => held[instance].clone().unwrap_or_default(),
                Reuse::InPlace if firsts.replace(first(tile)) == Some(first(tile)) => {
                    held[instance].clone().unwrap_or_default()
                }
                Reuse::Nothing | Reuse::InPlace => BTreeSet::new(),
            };
            let changed = reuse == Reuse::Nothing || held[instance].as_ref() != Some(&now);
            found.tiles += u128::from(changed && instance == 0);
            for word in now.difference(&before) {
                found.received += 1;
                ever.insert((instance, word.clone()));
                sent.insert((*source, word.clone()));
            }
            held[instance] = Some(now);
        }
        found.words += sent.len() as u128;
        ever_sent.extend(sent);
    }
    found.distinct = ever_sent.len() as u128;
    found.received_distinct = ever.len() as u128;
    (found, all.len() as u128)
}

fn check(sizes: &[u64], loops: &[Loop], projection: &Projection) {
    let space = Space::new(sizes);
    let mut count = 0;
    for reuse in [Reuse::Previous, Reuse::Nothing] {
        let (expected, steps) = walked(sizes, loops, projection, reuse);
        assert_eq!(
            moved_within(&space, loops, loops.len(), projection, reuse),
            Ok(expected),
            "{sizes:?} {loops:?} {projection:?} {reuse:?}"
        );
        count = steps;
    }
    assert_eq!(iterations(&space, loops), Ok(count), "{sizes:?} {loops:?}");
    assert_eq!(
        points(&space),
        Ok(sizes.iter().map(|&s| u128::from(s)).product())
    );
    let largest = tiles(sizes, loops)
        .iter()
        .map(|t| words(t, projection).len())
        .max();
    let extents: Vec<u64> = (0..sizes.len())
        .map(|r| {
            loops
                .iter()
                .filter(|l| l.rank == r)
                .map(|l| l.step)
                .fold(sizes[r], u64::min)
        })
        .collect();
    assert_eq!(
        footprint(&space, &extents, projection),
        largest.unwrap_or(0) as u128
    );
}

/// Plain dimensions: sizes of up to four ranks, any loops over them, any subset of them.
fn nests(max: u64, ranks: usize) -> impl Strategy<Value = (Vec<u64>, Vec<Loop>)> {
    prop::collection::vec(1..=max, 1..=ranks).prop_flat_map(move |sizes| {
        let loops = prop::collection::vec((0..sizes.len(), 1..=max), 0..=6).prop_map(|loops| {
            loops
                .into_iter()
                .map(|(rank, step)| Loop::new(rank, step))
                .collect()
        });
        (Just(sizes), loops)
    })
}

/// Lays some of the loops over instances: those that divide every box of their rank.
fn spread(sizes: &[u64], loops: &[Loop], over: &[usize]) -> Vec<Loop> {
    let mut laid: Vec<Loop> = Vec::new();
    let space = Space::new(sizes);
    for (l, kind) in loops.iter().zip(over.iter().chain(std::iter::repeat(&0))) {
        let kinds = [Spread::Time, Spread::Sources, Spread::Lanes, Spread::Lanes];
        laid.push(Loop {
            over: kinds[*kind],
            ..*l
        });
        if instances(&space, &laid).is_err() {
            laid.pop();
            laid.push(*l);
        }
    }
    laid
}

fn overs() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..4, 6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plain_dimensions((sizes, loops) in nests(7, 4), mask in 0_usize..16, over in overs()) {
        let loops = spread(&sizes, &loops, &over);
        let ranks: Vec<usize> = (0..sizes.len()).filter(|r| mask >> r & 1 == 1).collect();
        check(&sizes, &loops, &Projection::plain(&ranks));
    }

    /// Convolutions: every rank in one of two dimensions, with a coefficient of 0 to 4.
    #[test]
    fn sums_of_terms(
        (sizes, loops) in nests(8, 4),
        which in prop::collection::vec((0_usize..3, 0_i64..5), 4),
        over in overs(),
    ) {
        prop_assume!(sizes.iter().product::<u64>() <= 1296);
        let loops = spread(&sizes, &loops, &over);
        let mut dims = vec![Dim::default(); 2];
        for (rank, &(dim, coefficient)) in which.iter().enumerate().take(sizes.len()) {
            if dim < 2 {
                dims[dim].terms.push(Term { coefficient, ..Term::plain(rank) });
            }
        }
        check(&sizes, &loops, &Projection::of(dims));
    }

    /// Quotients and remainders; steps are made to align with them, unit by unit.
    #[test]
    fn digits(
        sizes in prop::collection::vec(1_u64..=14, 3),
        parts in prop::collection::vec((1_u64..=3, 1_u64..=3, 0_usize..4, 1_i64..3), 3),
        raw in prop::collection::vec((0_usize..3, 0_usize..6), 0..=5),
        sum in any::<bool>(),
        over in overs(),
    ) {
        let steps = |rank: usize, pick: usize| {
            let (unit, modulus, ..) = parts[rank];
            let block = unit * modulus;
            [1, unit, unit * modulus, block * 2, block * 3, if modulus == 3 { unit } else { block * 4 }][pick]
        };
        let loops: Vec<Loop> = raw.iter().map(|&(rank, pick)| Loop::new(rank, steps(rank, pick))).collect();
        let mut dims = vec![Dim::default()];
        for (rank, &(unit, modulus, kind, coefficient)) in parts.iter().enumerate() {
            let term = Term { rank, unit: 1, modulus: None, coefficient };
            let low = Term { modulus: Some(unit), ..term };
            let mid = Term { unit, modulus: Some(modulus), ..term };
            let high = Term { unit: unit * modulus, ..term };
            let terms = match kind {
                0 => vec![mid],
                1 if rank < 1 => vec![high, low, mid],
                2 => vec![mid, high],
                _ => vec![low],
            };
            if sum && terms.len() == 1 {
                dims[0].terms.extend(terms);
            } else {
                dims.extend(terms.into_iter().map(|t| Dim::sum(vec![t])));
            }
        }
        let projection = Projection::of(dims);
        let laid = spread(&sizes, &loops, &over);
        // Blocks of a term may divide what instances would share alike.
        let uneven = matches!(
            moved(&Space::new(&*sizes), &laid, &projection),
            Err(CountError::Uneven { .. })
        );
        check(&sizes, if uneven { &loops } else { &laid }, &projection);
    }
}

/// Holds images against a walk: words, tiles, largest tile.
fn check_images(sizes: &[u64], loops: &[Loop], projection: &Projection) {
    let space = Space::new(sizes);
    // What an Einsum reads in a step is one image.
    let reuses = [Reuse::Previous, Reuse::Nothing, Reuse::InPlace];
    for reuse in reuses
        .into_iter()
        .take(if projection.also.is_empty() { 3 } else { 2 })
    {
        let (expected, _) = walked(sizes, loops, projection, reuse);
        let found = match moved_within(&space, loops, loops.len(), projection, reuse) {
            // One image whose words all exist is counted by blocks.
            Err(CountError::Unaligned { .. }) => return,
            found => found.unwrap(),
        };
        let of = |m: &Moved| (m.words, m.distinct);
        let at = format!("{sizes:?} {loops:?} {projection:?} {reuse:?}");
        assert_eq!(of(&found), of(&expected), "{at}");
        // The walk sees the tile before the first as one without words, even where the first has none.
        assert!(found.tiles >= expected.tiles, "{at}");
    }
    let largest = tiles(sizes, loops)
        .iter()
        .map(|t| words(t, projection).len())
        .max();
    let mut extents = sizes.to_vec();
    for l in loops {
        extents[l.rank] = extents[l.rank].min(l.step);
    }
    // Tiles that begin inside a quotient's block may hold one value more.
    let plain = |t: &Term| t.unit == 1 && t.modulus.is_none();
    if projection
        .all_dims()
        .all(|d| d.wrapped.is_empty() && d.terms.iter().all(plain))
    {
        assert!(
            footprint(&space, &extents, projection) as usize >= largest.unwrap(),
            "{sizes:?} {loops:?} {projection:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// One or several reads at constant distances, sums and differences of two ranks, quotients, in tensors that end
    /// before they do.
    #[test]
    fn images_are_counted_where_they_lie(
        sizes in prop::collection::vec(1u64..9, 2..=3),
        cuts in prop::collection::vec((0usize..3, 1u64..5), 0..5),
        shape in prop::collection::vec((0usize..3, 0usize..4, -2i64..3, any::<bool>()), 2..=2),
        offsets in prop::collection::vec((-5i64..6, -5i64..6), 1..4),
        ends in (prop::option::of(1u64..9), prop::option::of(1u64..9)),
    ) {
        let loops: Vec<Loop> = cuts.iter().map(|&(rank, step)| Loop::new(rank % sizes.len(), step)).collect();
        let mut free: Vec<usize> = (0..sizes.len()).collect();
        let mut dims = Vec::new();
        for &(which, kind, coefficient, falls) in &shape {
            if free.is_empty() {
                dims.push(Dim::default());
                continue;
            }
            let rank = free.remove(which % free.len());
            let mut terms = match kind {
                0 => vec![],
                1 => vec![Term { unit: 2, ..Term::plain(rank) }],
                2 => vec![Term { unit: 2, coefficient: 3, ..Term::plain(rank) }, Term { modulus: Some(2), ..Term::plain(rank) }],
                _ => vec![Term::plain(rank)],
            };
            if falls {
                terms.iter_mut().for_each(|t| t.coefficient = -t.coefficient);
            }
            if coefficient != 0 && !free.is_empty() {
                terms.push(Term { coefficient, ..Term::plain(free.remove(0)) });
            }
            dims.push(Dim::sum(terms));
        }
        let image = |&(a, b): &(i64, i64)| {
            let mut image = dims.clone();
            for (dim, (offset, end)) in image.iter_mut().zip([(a, ends.0), (b, ends.1)]) {
                (dim.offset, dim.within) = (offset, end);
            }
            Projection::of(image)
        };
        let mut projection = image(&offsets[0]);
        for offset in &offsets[1..] {
            projection = projection.with(&image(offset));
        }
        check_images(&sizes, &loops, &projection);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Rolls, windows round a circle, quotients of shifted and falling sums, and what is added to them: alone and beside
    /// another read, with and without an end.
    #[test]
    fn what_wraps_is_counted_where_it_lies(
        sizes in prop::collection::vec(1u64..10, 2..=3),
        cuts in prop::collection::vec((0usize..3, 1u64..5), 0..5),
        (one, other) in (-2i64..3, -2i64..3),
        (offset, unit, modulus, coefficient) in (-9i64..10, 1u64..4, prop::option::of(1u64..12), -2i64..3),
        (beside, nested, end) in (0usize..4, any::<bool>(), prop::option::of(1u64..12)),
        (shift, reads) in (-3i64..4, 1usize..3),
    ) {
        let loops: Vec<Loop> = cuts.iter().map(|&(rank, step)| Loop::new(rank % sizes.len(), step)).collect();
        let term = |rank, coefficient| Term { coefficient, ..Term::plain(rank) };
        let last = sizes.len() - 1;
        let mut of = Dim { offset, ..Dim::sum(vec![term(0, one), term(last, other)]) };
        if nested {
            of = Dim { offset: 1, wrapped: vec![Wrapped { of, unit: 1, modulus: Some(5), coefficient: 1 }], ..Dim::default() };
        }
        let mut dim = Dim { wrapped: vec![Wrapped { of, unit, modulus, coefficient }], within: end, ..Dim::default() };
        // Beside it the same rank, or another, in the same sum or in a dimension of its own.
        let middle = usize::from(sizes.len() == 3);
        match beside {
            1 => dim.terms.push(term(0, 1)),
            2 => dim.terms.push(Term { unit: 2, ..term(middle, 3) }),
            _ => {}
        }
        let mut dims = vec![dim];
        if beside == 3 && middle == 1 {
            dims.push(Dim::sum(vec![term(1, -1)]));
        }
        let mut projection = Projection::of(dims.clone());
        if reads > 1 {
            dims[0].offset += shift;
            projection = projection.with(&Projection::of(dims));
        }
        check_images(&sizes, &loops, &projection);
    }
}

/// Far from the ends iterations are alike: 4 taps over 2^40 words, in tiles of 2^10, read each word once.
#[test]
fn long_tensors_are_counted_without_a_walk() {
    let dim = Dim {
        terms: vec![Term::plain(0), Term::plain(1)],
        offset: -3,
        within: Some(1 << 40),
        ..Dim::default()
    };
    let space = Space::new([1 << 40, 4]);
    let found = moved(&space, &[Loop::new(0, 1 << 20)], &Projection::of(vec![dim])).unwrap();
    // Each tile shares its last three words with the next; the last tile ends with the tensor.
    assert_eq!((found.words, found.tiles), (1 << 40, 1 << 20));
}

/// 16 words, of which 4 are chosen for each of 100: kept whole, 16; for each alone, 4 at a time.
#[test]
fn words_chosen_at_run_time_are_no_more_than_there_are() {
    let terms = vec![
        Term {
            coefficient: 4,
            ..Term::plain(0)
        },
        Term::plain(1),
    ];
    let dim = Dim {
        chosen: Some(16),
        ..Dim::sum(terms)
    };
    let space = Space::new([100, 4]);
    let words = |loops: &[Loop]| {
        moved(&space, loops, &Projection::of(vec![dim.clone()]))
            .unwrap()
            .words
    };
    assert_eq!(words(&[]), 16);
    assert_eq!(words(&[Loop::new(0, 1)]), 400);
    assert_eq!(words(&[Loop::new(0, 2)]), 50 * 8);
    // Tiles of 16 choices are of all words there are, and nothing moves again.
    assert_eq!(words(&[Loop::new(0, 4)]), 16);
}

#[test]
fn steps_across_blocks_are_refused() {
    let thirds = Projection::of(vec![Dim::sum(vec![Term {
        unit: 4,
        ..Term::plain(0)
    }])]);
    let space = Space::new([12]);
    assert_eq!(
        moved(&space, &[Loop::new(0, 6)], &thirds),
        Err(CountError::Unaligned {
            rank: 0,
            step: 6,
            unit: 4
        })
    );
    assert_eq!(
        moved(&space, &[Loop::new(0, 3)], &thirds),
        Err(CountError::Unaligned {
            rank: 0,
            step: 3,
            unit: 4
        })
    );
    assert!(moved(&space, &[Loop::new(0, 2)], &thirds).is_ok());
}

#[test]
fn wrong_input_is_an_error() {
    let space = Space::new([4, 4]);
    let plain = Projection::plain(&[0]);
    assert_eq!(
        moved(&space, &[Loop::new(2, 1)], &plain),
        Err(CountError::NoSuchRank { rank: 2, ranks: 2 })
    );
    assert_eq!(
        moved(&space, &[Loop::new(0, 0)], &plain),
        Err(CountError::Zero {
            what: "step",
            rank: 0
        })
    );
    assert!(matches!(
        moved(&space, &[], &Projection::plain(&[0, 0])),
        Err(CountError::SharedRank { rank: 0 })
    ));
    assert!(matches!(
        points(&Space::new([1 << 60; 3])),
        Err(CountError::Overflow)
    ));
    assert!(moved(&space, &[Loop::new(0, 1); 25], &plain).is_err());
    assert_eq!(
        moved(&Space::new([0, 4]), &[], &plain),
        Ok(Moved::default())
    );
}

/// FuseMax's nest at 1000 tokens: b, h -> p2 -> m1 -> p1 with tiles of 256; K's tile of 256 by 64
/// is fetched once for each (b, h, p2, m1), the last one short.
#[test]
fn long_nest_in_closed_form() {
    let (b, h, p, m, e) = (0, 1, 2, 3, 4);
    let space = Space::new([64, 12, 1000, 1000, 64]);
    let loops =
        [(b, 1), (h, 1), (p, 512), (m, 256), (p, 256)].map(|(rank, step)| Loop::new(rank, step));
    let k = moved(&space, &loops, &Projection::plain(&[b, h, e, m])).unwrap();
    assert_eq!(k.words, 64 * 12 * 2 * 1000 * 64);
    assert_eq!(k.tiles, 64 * 12 * 2 * 4);
    let q = moved(&space, &loops, &Projection::plain(&[b, h, e, p])).unwrap();
    assert_eq!(q.words, 64 * 12 * 4 * 1000 * 64);
    assert_eq!(iterations(&space, &loops), Ok(64 * 12 * 2 * 4 * 2));
}
