//! Attention split over devices equals attention on one, on real numbers; and what travels is what the formulas say.

#![allow(clippy::unwrap_used)]

use einflow_serving::offload::values::{
    Error, Inputs, Kind, Shape, Split, Step, check, decode_step,
};
use einflow_serving::offload::{Boundary, Partition};
use einflow_spec::NumberFormat;
use einflow_validation::golden::decode::{Weights, decode};
use einflow_workloads::interpret::Array;
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;

fn matrix(array: &Array) -> DMatrix<f64> {
    DMatrix::from_row_slice(array.shape[0], array.shape[1], &array.data)
}

fn shape(
    hidden: usize,
    [heads, key_heads, head]: [usize; 3],
    cached: impl Into<Vec<usize>>,
) -> Shape {
    Shape {
        hidden,
        heads,
        key_heads,
        head,
        cached: cached.into(),
    }
}

/// Boundary and overlap, in every combination.
const WAYS: [(Boundary, bool); 4] = [
    (Boundary::Core, false),
    (Boundary::Core, true),
    (Boundary::Projections, false),
    (Boundary::Projections, true),
];

fn split(partition: Partition, (boundary, overlap): (Boundary, bool), devices: usize) -> Split {
    Split {
        partition,
        boundary,
        overlap,
        devices,
    }
}

/// The golden outputs, and how far rounding may take the interpreter from them.
///
/// A score differs by the roundings between inputs and scores: in the format's roundoff query, scaled query and score, the new
/// token's key; in the accumulator's the sums over D and E. Relative to the score without cancellation, these
/// are absolute errors of an exponent x, so that weights change by a factor of exp(2 x). Beside those errors, relative to
/// the largest value times the column sums of the output's weight: at most 9 roundings of a head, 3 of the output and 1 of a
/// new value in the format's roundoff, and in the accumulator's (and as many of the reference's own, in f64) the sums over tokens twice,
/// over heads, over D, over devices, an exponential's argument (at most ln M in the weighted mean) and 10 more.
fn golden(shape: &Shape, inputs: &Inputs, format: NumberFormat) -> (Vec<f64>, f64) {
    let weights = Weights {
        queries: matrix(&inputs.weights.queries),
        keys: matrix(&inputs.weights.keys),
        values: matrix(&inputs.weights.values),
        output: matrix(&inputs.weights.output),
    };
    let hidden = matrix(&inputs.hidden);
    let (mut outputs, mut score, mut value, mut longest) = (Vec::new(), 0.0f64, 0.0f64, 0);
    for (r, cache) in inputs.caches.iter().enumerate() {
        let x = DVector::from_iterator(shape.hidden, hidden.row(r).iter().copied());
        let (keys, values) = (matrix(&cache.keys), matrix(&cache.values));
        outputs.extend(decode(&x, &weights, &keys, &values, shape.head).iter());
        let magnitude = |weight: &DMatrix<f64>| weight.abs().tr_mul(&x.abs());
        let query = magnitude(&weights.queries).amax();
        let key = magnitude(&weights.keys).amax().max(keys.amax());
        score = score.max(query * key * (shape.head as f64).sqrt());
        value = value
            .max(magnitude(&weights.values).amax())
            .max(values.amax());
        longest = longest.max(keys.nrows() + 1);
    }
    let (u, a) = (
        format.unit_roundoff(),
        format.default_accumulator().unit_roundoff(),
    );
    let exponent = score * (4.0 * u + 2.0 * (shape.hidden * 2 + shape.head + 4) as f64 * a);
    let width = shape.heads * shape.head;
    let terms = 3 * longest + width + shape.hidden + shape.requests() + shape.key_heads + 10;
    let relative = (2.0 * exponent).exp_m1() + 13.0 * u + 4.0 * terms as f64 * a;
    let columns = weights.output.column_iter();
    let sums = columns.map(|column| column.lp_norm(1)).fold(0.0, f64::max);
    (outputs, 1.1 * relative * value * sums)
}

/// Fails unless a step equals the golden reference.
fn equals(shape: &Shape, split: &Split, inputs: &Inputs, format: NumberFormat) -> Step {
    let step = decode_step(shape, split, inputs, format).unwrap();
    let (golden, bound) = golden(shape, inputs, format);
    assert_eq!(step.outputs.shape, [shape.requests(), shape.hidden]);
    assert_eq!(step.outputs.data.len(), golden.len());
    for (found, expected) in step.outputs.data.iter().zip(&golden) {
        let error = (found - expected).abs();
        assert!(error <= bound, "{split:?} {shape:?}: {error:e} > {bound:e}");
    }
    // The bound would be worthless were it as large as the outputs.
    let largest = golden.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
    let share = if format == NumberFormat::F64 {
        1e-8
    } else {
        2.0
    };
    assert!(bound < share * largest, "{bound:e} {largest:e}");
    step
}

/// Every boundary, with and without overlap, for one partition.
fn every_way(partition: Partition, shape: &Shape, devices: &[usize]) {
    let inputs = Inputs::seeded(shape, 7);
    for (devices, way) in devices.iter().flat_map(|n| WAYS.map(|way| (*n, way))) {
        let split = split(partition, way, devices);
        let step = equals(shape, &split, &inputs, NumberFormat::F64);
        // Without the shift by maxima the exponential of a score is infinite.
        let overflows = step.apart.exp().is_infinite();
        assert_eq!(overflows, split.overlap, "{split:?}: {}", step.apart);
        let checked = check(shape, &split).unwrap();
        assert!(
            checked.f64.holds() && checked.bf16.holds(),
            "{split:?} {checked:?}"
        );
    }
}

#[test]
fn heads_apart() {
    every_way(
        Partition::Heads,
        &shape(24, [8, 4, 3], [5, 17, 9, 1]),
        &[1, 2, 4],
    );
    // Every head has keys of its own; one request.
    every_way(Partition::Heads, &shape(5, [6, 6, 4], [12]), &[1, 3, 6]);
    // All share one.
    every_way(Partition::Heads, &shape(16, [4, 1, 4], [3, 30]), &[1]);
}

#[test]
fn requests_apart() {
    let uneven = shape(24, [8, 4, 3], [40, 1, 2, 7, 3]);
    // The last two have more devices than requests.
    every_way(Partition::Requests, &uneven, &[1, 2, 3, 5, 6, 9]);
    every_way(Partition::Requests, &shape(5, [3, 3, 2], [12]), &[1, 4]);
}

/// Scores are small here, so that bf16 does not decide which token wins.
#[test]
fn short_formats_stay_near_the_reference() {
    let shape = shape(8, [4, 2, 2], [6, 3, 11]);
    let mut inputs = Inputs::seeded(&shape, 3);
    for cache in &mut inputs.caches {
        let largest = cache.keys.max_abs();
        cache.keys.data.iter_mut().for_each(|k| *k /= largest);
    }
    for format in [NumberFormat::Bf16, NumberFormat::F32] {
        let mut inputs = inputs.clone();
        let weights = &mut inputs.weights;
        let fixed = [
            &mut inputs.hidden,
            &mut weights.queries,
            &mut weights.keys,
            &mut weights.values,
            &mut weights.output,
        ];
        let caches = inputs.caches.iter_mut();
        let caches = caches.flat_map(|cache| [&mut cache.keys, &mut cache.values]);
        for array in fixed.into_iter().chain(caches) {
            array.data.iter_mut().for_each(|x| *x = format.round(*x));
        }
        for partition in [Partition::Heads, Partition::Requests] {
            for way in WAYS {
                equals(&shape, &split(partition, way, 2), &inputs, format);
            }
        }
    }
}

/// Lamina's equations, with d = H * E and groups of G = 4: e*d*B for queries out, 2*e*d*B/G for new keys and values, e*d*B back.
#[test]
fn the_core_sends_what_the_equations_say() {
    let shape = shape(48, [16, 4, 3], [9, 2, 30, 4, 1]);
    let inputs = Inputs::seeded(&shape, 1);
    let (d, batch, group) = (48, 5, 4);
    for partition in [Partition::Heads, Partition::Requests] {
        for (devices, overlap) in [(1, false), (2, true), (4, false), (4, true)] {
            let split = split(partition, (Boundary::Core, overlap), devices);
            let step = decode_step(&shape, &split, &inputs, NumberFormat::F64).unwrap();
            for (format, e) in [(NumberFormat::Bf16, 2), (NumberFormat::F32, 4)] {
                assert_eq!(step.bytes(Kind::Queries, format), e * d * batch);
                assert_eq!(
                    step.bytes(Kind::NewKeyValue, format),
                    2 * e * d * batch / group
                );
                assert_eq!(step.bytes(Kind::Outputs, format), e * d * batch);
                assert_eq!(step.bytes(Kind::Hidden, format), 0);
            }
            // Queries go first, on every device.
            for device in 0..devices {
                let own = step.sent.iter().filter(|sent| sent.device == device);
                let kinds: Vec<Kind> = own.map(|sent| sent.kind).collect();
                assert_eq!(kinds, [Kind::Queries, Kind::NewKeyValue, Kind::Outputs]);
            }
        }
    }
}

/// Hidden states go to each device that needs them: all of them, or the request's own; as much comes back.
#[test]
fn projections_send_hidden_states() {
    let shape = shape(10, [8, 4, 3], [9, 2, 30]);
    let inputs = Inputs::seeded(&shape, 1);
    for (partition, devices, copies) in [
        (Partition::Heads, 4, 4),
        (Partition::Requests, 2, 1),
        (Partition::Requests, 7, 1),
    ] {
        let split = split(partition, (Boundary::Projections, true), devices);
        let step = decode_step(&shape, &split, &inputs, NumberFormat::F64).unwrap();
        for kind in [Kind::Hidden, Kind::Outputs] {
            assert_eq!(step.bytes(kind, NumberFormat::Bf16), copies * 2 * 10 * 3);
        }
        for kind in [Kind::Queries, Kind::NewKeyValue] {
            assert_eq!(step.bytes(kind, NumberFormat::Bf16), 0);
        }
    }
}

/// Each request goes to the device with the fewest tokens: 8 to one, 5 and 2 to the other, then 1 there.
#[test]
fn requests_go_where_the_fewest_tokens_are() {
    let shape = shape(4, [2, 1, 2], [8, 5, 2, 1]);
    let inputs = Inputs::seeded(&shape, 1);
    let split = split(Partition::Requests, (Boundary::Core, false), 2);
    let step = decode_step(&shape, &split, &inputs, NumberFormat::F64).unwrap();
    let queries = step.sent.iter().filter(|sent| sent.kind == Kind::Queries);
    let words: Vec<(usize, usize)> = queries.map(|sent| (sent.device, sent.words)).collect();
    assert_eq!(words, [(0, 4), (1, 12)]);
}

#[test]
fn refusals() {
    let good = shape(6, [4, 2, 3], [2, 3]);
    let heads = |devices| split(Partition::Heads, (Boundary::Core, true), devices);
    let requests = split(Partition::Requests, (Boundary::Projections, false), 3);
    let refused = |shape: &Shape, split: Split| check(shape, &split).unwrap_err();
    let nothing = |what| Error::Nothing { what };
    assert_eq!(
        refused(&good, heads(3)),
        Error::KeyHeads {
            devices: 3,
            key_heads: 2
        }
    );
    // More than there are heads.
    assert_eq!(
        refused(&good, heads(4)).to_string(),
        "4 devices cannot divide 2 key heads evenly"
    );
    assert!(check(&good, &requests).is_ok());
    assert_eq!(refused(&good, heads(0)), nothing("the number of devices"));
    for (shape, error) in [
        (
            shape(6, [5, 2, 3], [2]),
            Error::Groups {
                heads: 5,
                key_heads: 2,
            },
        ),
        (
            shape(6, [4, 2, 3], [2, 0]),
            Error::NothingCached { request: 1 },
        ),
        (shape(6, [4, 2, 3], []), nothing("the number of requests")),
        (shape(0, [4, 2, 3], [2]), nothing("the hidden size")),
        (
            shape(6, [0, 2, 3], [2]),
            nothing("the number of query heads"),
        ),
        (shape(6, [4, 0, 3], [2]), nothing("the number of key heads")),
        (shape(6, [4, 2, 0], [2]), nothing("the head size")),
        (
            shape(1 << 20, [1 << 20, 1, 1 << 40], [2]),
            Error::TooLarge {
                name: "the weights",
            },
        ),
        (
            shape(1, [1, 1, 1], [usize::MAX]),
            Error::TooLarge { name: "the caches" },
        ),
    ] {
        assert_eq!(refused(&shape, requests), error);
    }
    let inputs = Inputs::seeded(&good, 1);
    let refused =
        |inputs: &Inputs| decode_step(&good, &requests, inputs, NumberFormat::F64).unwrap_err();
    let mut few = inputs.clone();
    few.caches.pop();
    assert_eq!(
        refused(&few),
        Error::Caches {
            found: 1,
            expected: 2
        }
    );
    let mut short = inputs.clone();
    short.weights.keys.data.pop();
    assert!(matches!(
        refused(&short),
        Error::WrongShape {
            name: "the keys' weight",
            ..
        }
    ));
    let mut long = inputs.clone();
    long.caches[1].values = Array::new([4, 6], [0.0; 24]);
    assert_eq!(
        refused(&long).to_string(),
        "a cache's values has the shape [4, 6], expected [3, 6]"
    );
    let mut unknown = inputs;
    unknown.hidden.data[0] = f64::NAN;
    assert!(matches!(refused(&unknown), Error::Interpret(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any shape, any way to split it.
    #[test]
    fn any_split_equals_the_whole(
        hidden in 1..20usize,
        (each, devices, group, head) in (1..3usize, 1..5usize, 1..4usize, 1..6usize),
        cached in prop::collection::vec(1..25usize, 1..6),
        (seed, by_heads, way) in (any::<u64>(), any::<bool>(), 0..4usize),
    ) {
        let partition = if by_heads { Partition::Heads } else { Partition::Requests };
        let key_heads = if by_heads { each * devices } else { each };
        let shape = shape(hidden, [group * key_heads, key_heads, head], cached);
        let split = split(partition, WAYS[way], devices);
        equals(&shape, &split, &Inputs::seeded(&shape, seed), NumberFormat::F64);
        let checked = check(&shape, &split).unwrap();
        prop_assert!(checked.f64.holds() && checked.bf16.holds(), "{split:?} {shape:?} {checked:?}");
    }
}
