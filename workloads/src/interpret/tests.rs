//! Small cascades whose results are known by hand, and random index expressions against plain loops.

use std::collections::BTreeMap;

use einflow_spec::Source;

use super::*;
use crate::cascade::Function;

mod formats;
mod forms;
mod joined;
mod unions;

/// The text of a cascade file.
fn file(inputs: &str, outputs: &str, more: &str, einsums: &str) -> Cascade {
    let text = format!(
        "(name: \"test\", source: \"assumed\", description: \"\", inputs: [{inputs}], outputs: [{outputs}], {more}\n\
         einsums: r#\"{einsums}\"#)"
    );
    Cascade::parse(&Source::new("test.ron", text)).unwrap_or_else(|e| panic!("{e}"))
}

fn arrays<const N: usize>(of: [(&str, &[usize], &[f64]); N]) -> BTreeMap<String, Array> {
    of.into_iter()
        .map(|(name, shape, data)| (name.to_string(), Array::new(shape, data)))
        .collect()
}

/// Runs in a format, with sizes besides the defaults, and returns every tensor.
fn run_all(
    cascade: &Cascade,
    options: Options,
    sizes: &[(&str, u64)],
    inputs: &BTreeMap<String, Array>,
) -> Result<BTreeMap<String, Array>, Error> {
    let given = sizes
        .iter()
        .map(|(name, size)| (name.to_string(), *size))
        .collect();
    let sizes = cascade.sizes(&given).unwrap_or_else(|e| panic!("{e}"));
    interpret(
        cascade,
        &sizes,
        inputs,
        &Options {
            kept: Kept::Every,
            ..options
        },
    )
}

fn run(
    cascade: &Cascade,
    sizes: &[(&str, u64)],
    inputs: &BTreeMap<String, Array>,
) -> BTreeMap<String, Array> {
    run_all(cascade, Options::new(NumberFormat::F64), sizes, inputs)
        .unwrap_or_else(|e| panic!("{e}"))
}

/// The elements, with `None` for the empty ones.
fn points(array: &Array) -> Vec<Option<f64>> {
    let empty = |i: usize| array.empty.as_ref().is_some_and(|e| e[i]);
    array
        .data
        .iter()
        .enumerate()
        .map(|(i, x)| (!empty(i)).then_some(*x))
        .collect()
}

const INF: f64 = f64::INFINITY;

#[test]
fn a_product_with_a_batch() {
    let cascade = file(
        "\"A[i, k]\", \"B[k, j]\"",
        "\"Z[i, j]\"",
        "batch: [\"N\", \"H\"],",
        "Z[i, j] = A[i, k] * B[k, j]",
    );
    let sizes = [("N", 1), ("H", 2), ("I", 1), ("J", 2), ("K", 2)];
    let a = [1.0, 2.0, 3.0, 4.0];
    let b = [1.0, 10.0, 100.0, 1000.0];
    let shared = arrays([("A", &[2, 1, 2], &a), ("B", &[2, 2], &b)]);
    let found = run(&cascade, &sizes, &shared);
    assert_eq!(
        found["Z"],
        Array::new([2, 1, 2], [201.0, 2010.0, 403.0, 4030.0])
    );
    let none = arrays([("A", &[1, 2], &a[..2]), ("B", &[2, 2], &b)]);
    assert_eq!(
        run(
            &cascade,
            &[("N", 1), ("H", 1), ("I", 1), ("J", 2), ("K", 2)],
            &none
        )["Z"]
            .shape,
        [1, 2]
    );
    let both = arrays([
        ("A", &[1, 2, 1, 2], &a),
        ("B", &[1, 2, 2, 2], &[b, b].concat()),
    ]);
    assert_eq!(run(&cascade, &sizes, &both)["Z"].shape, [1, 2, 1, 2]);
}

#[test]
fn the_accumulator_has_its_own_format() {
    let cascade = file("\"A[k]\"", "\"Z\"", "", "Z = A[k]");
    // 2049 is no f16 number: one by one the ones are lost, in f32 their sum is not.
    let inputs = arrays([("A", &[3], &[2048.0, 1.0, 1.0])]);
    let sum = |accumulator| {
        let options = Options {
            accumulator,
            ..Options::new(NumberFormat::F16)
        };
        run_all(&cascade, options, &[("K", 3)], &inputs).unwrap()["Z"].data[0]
    };
    assert_eq!(sum(NumberFormat::F32), 2050.0);
    assert_eq!(sum(NumberFormat::F16), 2048.0);
    // In bf16 the inputs are rounded first: 1.01 to 1.0078125.
    let inputs = arrays([("A", &[1], &[1.01])]);
    let found = run_all(
        &cascade,
        Options::new(NumberFormat::Bf16),
        &[("K", 1)],
        &inputs,
    )
    .unwrap();
    assert_eq!(found["Z"].data, [1.0078125]);
    // A product in f32 rounds once for each operator; the result once more.
    let cascade = file("\"A[k]\"", "\"Z[k]\"", "", "Z[k] = A[k] * A[k] - 1");
    let x = NumberFormat::Bf16.round(1.01);
    let found = run_all(
        &cascade,
        Options::new(NumberFormat::Bf16),
        &[("K", 1)],
        &inputs,
    )
    .unwrap();
    assert_eq!(found["Z"].data, [NumberFormat::Bf16.round(x * x - 1.0)]);
}

#[test]
fn a_partial_last_tile_is_empty_beyond_its_end() {
    let einsums = "BA[m1, m0] = A[m1*M0 + m0]\n LM[m1] = BA[m1, m0] :: max(m0)\n Z[m1] = BA[m1, m0] * BA[m1, m0]";
    let cascade = file(
        "\"A[m]\"",
        "\"LM[m1]\", \"Z[m1]\"",
        "partitions: [\"M -> M1, M0\"], parameters: {\"M0\": 3},",
        einsums,
    );
    let found = run(
        &cascade,
        &[("M", 5)],
        &arrays([("A", &[5], &[-1.0, -2.0, -3.0, -4.0, -5.0])]),
    );
    let some = [-1.0, -2.0, -3.0, -4.0, -5.0].map(Some);
    assert_eq!(points(&found["BA"]), [&some[..], &[None]].concat());
    assert_eq!(found["LM"].data, [-1.0, -4.0]);
    assert_eq!(found["Z"].data, [14.0, 41.0]);
}

#[test]
fn conditions_leave_points_empty_and_reductions_with_their_identity() {
    let cascade = file(
        "\"A[m, p]\"",
        "\"S[m, p]\", \"E[m, p]\", \"D[p]\", \"G[p]\", \"L[p]\", \"X[p]\"",
        "",
        "S[m, p] = A[m, p] where m < p
         E[m, p] = exp(S[m, p] - 1)
         D[p] = S[m, p]
         G[p] = S[m, p] :: max(m)
         L[p] = S[m, p] :: min(m)
         X[p] = A[m, p] where p > 0, m <= 1",
    );
    let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let found = run(
        &cascade,
        &[("M", 3), ("P", 3)],
        &arrays([("A", &[3, 3], &a)]),
    );
    assert_eq!(
        points(&found["S"]),
        [
            None,
            Some(2.0),
            Some(3.0),
            None,
            None,
            Some(6.0),
            None,
            None,
            None
        ]
    );
    // exp(-1) is not there where S is empty, though an empty operand of a difference alone is skipped.
    let empty = |name: &str| {
        points(&found[name])
            .iter()
            .map(Option::is_none)
            .collect::<Vec<_>>()
    };
    assert_eq!(empty("E"), empty("S"));
    assert_eq!(points(&found["D"]), [0.0, 2.0, 9.0].map(Some));
    assert_eq!(points(&found["G"]), [-INF, 2.0, 6.0].map(Some));
    assert_eq!(points(&found["L"]), [INF, 2.0, 3.0].map(Some));
    // A condition on p alone empties the output rather than giving the identity.
    assert_eq!(
        points(&found["X"]),
        [None, Some(2.0 + 5.0), Some(3.0 + 6.0)]
    );
}

#[test]
fn empty_operands_and_zero_divisors() {
    let cascade = file(
        "\"A[i]\", \"B[i, j]\"",
        "\"Q[i]\", \"U[i, j]\", \"W[i, j]\", \"R[i]\"",
        "",
        "Q[i] = 6 / A[i]
         U[i, j] = Q[i] + B[i, j]
         W[i, j] = Q[i] * B[i, j]
         R[i] = B[i, j] / A[i]",
    );
    let inputs = arrays([
        ("A", &[3], &[2.0, 0.0, -0.0]),
        ("B", &[3, 1], &[1.0, 2.0, 3.0]),
    ]);
    let found = run(&cascade, &[("I", 3), ("J", 1)], &inputs);
    assert_eq!(points(&found["Q"]), [Some(3.0), None, None]);
    assert_eq!(points(&found["U"]), [4.0, 2.0, 3.0].map(Some));
    assert_eq!(points(&found["W"]), [Some(3.0), None, None]);
    assert_eq!(points(&found["R"]), [0.5, 0.0, 0.0].map(Some));
    assert_eq!(found["Q"].data, [3.0, 0.0, 0.0]);
}

#[test]
fn iterative_ranks() {
    let cascade = file(
        "\"A[i]\"",
        "\"S[i]\", \"L\", \"W[i]\", \"C[i]\"",
        "",
        "S[0] = 10
         S[i+1] = S[i] + A[i]
         L = S[I]
         W[i] = S[i+1] - S[i]
         C[0] = -1
         C[i+1] = C[i] * A[i] where i >= 1, i != 2",
    );
    let found = run(
        &cascade,
        &[("I", 4)],
        &arrays([("A", &[4], &[1.0, 2.0, 3.0, 4.0])]),
    );
    assert_eq!(
        points(&found["S"]),
        [10.0, 11.0, 13.0, 16.0, 20.0].map(Some)
    );
    assert_eq!(found["L"].data, [20.0]);
    assert_eq!(found["W"].data, [1.0, 2.0, 3.0, 4.0]);
    // A step that is not taken keeps the value.
    assert_eq!(
        points(&found["C"]),
        [-1.0, -1.0, -2.0, -2.0, -8.0].map(Some)
    );
}

#[test]
fn a_filtered_reduction_is_a_prefix_sum() {
    let cascade = file(
        "\"A[k]\"",
        "\"S[i]\"",
        "parameters: {\"I\": \"K\"},",
        "S[0] = 0\n S[i+1] = A[k] where k <= i",
    );
    let found = run(
        &cascade,
        &[("K", 3)],
        &arrays([("A", &[3], &[1.0, 2.0, 4.0])]),
    );
    assert_eq!(found["S"].data, [0.0, 1.0, 3.0, 7.0]);
}

#[test]
fn two_tensors_that_need_each_other_step_together() {
    // Fibonacci numbers, by two tensors and one in between.
    let cascade = file(
        "\"Z[i]\"",
        "\"A[i]\", \"B[i]\"",
        "",
        "A[0] = 0
         B[0] = 1
         T[i] = A[i] + B[i] + Z[i]
         A[i+1] = B[i] + Z[i]
         B[i+1] = T[i]",
    );
    let found = run(&cascade, &[("I", 6)], &arrays([("Z", &[6], &[0.0; 6])]));
    assert_eq!(found["A"].data, [0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0]);
    assert_eq!(found["T"].data, [1.0, 2.0, 3.0, 5.0, 8.0, 13.0]);
}

#[test]
fn a_masked_row_is_no_nan() {
    let cascade = file(
        "\"S[m]\"",
        "\"Z\"",
        "",
        "G = S[m] :: max(m)
         N[m] = exp(S[m] - G)
         D = N[m]
         Z = N[m] / D",
    );
    let run = |s: &[f64]| run(&cascade, &[("M", 2)], &arrays([("S", &[2], s)]))["Z"].data[0];
    assert_eq!(run(&[-INF, -INF]), 0.0);
    assert_eq!(run(&[-INF, 3.0]), 1.0);
}

#[test]
fn top_k_and_gather() {
    let cascade = file(
        "\"S[m, p]\", \"V[m]\", \"FROM[p] -> m\"",
        "\"IDX[k, p]\", \"G[k, p]\", \"H[p]\"",
        "parameters: {\"K\": 2},",
        "T[m, p] = S[m, p] where m <= p
         IDX[k, p] = T[m, p] :: top(m -> k)
         G[k, p] = V[IDX[k, p]]
         H[p] = V[FROM[p]]",
    );
    let s = [1.0, 5.0, 5.0, 0.0, 5.0, 9.0, 0.0, 0.0, 5.0];
    let inputs = arrays([
        ("S", &[3, 3], &s),
        ("V", &[3], &[10.0, 20.0, 30.0]),
        ("FROM", &[3], &[2.0, 3.0, 0.0]),
    ]);
    let found = run(&cascade, &[("M", 3), ("P", 3)], &inputs);
    // p = 0 has one candidate; p = 1 a tie; p = 2 the 9 and then the lower of two fives.
    assert_eq!(
        points(&found["IDX"]),
        [Some(0.0), Some(0.0), Some(1.0), None, Some(1.0), Some(0.0)]
    );
    assert_eq!(
        points(&found["G"]),
        [
            Some(10.0),
            Some(10.0),
            Some(20.0),
            None,
            Some(20.0),
            Some(10.0)
        ]
    );
    // A coordinate beyond the end reads nothing.
    assert_eq!(points(&found["H"]), [Some(30.0), None, Some(10.0)]);

    let mut wrong = inputs.clone();
    wrong.insert("FROM".into(), Array::new([3], [0.5, 0.0, 0.0]));
    let sizes = [("M", 3), ("P", 3)];
    let error = run_all(&cascade, Options::new(NumberFormat::F16), &sizes, &wrong).unwrap_err();
    assert_eq!(
        error,
        Error::NotACoordinate {
            name: "FROM".into(),
            value: 0.5
        }
    );
}

/// Scores of keys that a top-k did not find are empty, not 0, also behind a reduction over e.
#[test]
fn what_top_k_did_not_find_stays_empty() {
    let cascade = file(
        "\"S[m, p]\", \"K[e, m]\", \"W[e]\"",
        "\"Z[t, p]\", \"L[p]\"",
        "parameters: {\"T\": 2},",
        "C[m, p] = S[m, p] where m <= p
         IDX[t, p] = C[m, p] :: top(m -> t)
         KS[e, t, p] = K[e, IDX[t, p]]
         Z[t, p] = KS[e, t, p] * W[e]
         L[p] = Z[t, p] :: max(t)",
    );
    let inputs = arrays([
        ("S", &[2, 2], &[1.0, 1.0, 1.0, 2.0]),
        ("K", &[2, 2], &[-1.0, -2.0, -3.0, -4.0]),
        ("W", &[2], &[1.0, 1.0]),
    ]);
    let found = run(&cascade, &[("M", 2), ("P", 2), ("E", 2)], &inputs);
    assert_eq!(
        points(&found["Z"]),
        [Some(-4.0), Some(-6.0), None, Some(-4.0)]
    );
    assert_eq!(found["L"].data, [-4.0, -4.0]);
}

#[test]
fn coordinates_are_not_rounded() {
    let cascade = file(
        "\"S[m]\"",
        "\"IDX[k]\"",
        "parameters: {\"K\": 1},",
        "IDX[k] = S[m] :: top(m -> k)",
    );
    let mut data = vec![0.0; 4100];
    data[4099] = 1.0;
    let inputs = arrays([("S", &[4100], &data)]);
    let found = run_all(
        &cascade,
        Options::new(NumberFormat::Bf16),
        &[("M", 4100)],
        &inputs,
    )
    .unwrap();
    assert_eq!(found["IDX"].data, [4099.0]);
}

#[test]
fn element_functions() {
    let cascade = file(
        "\"X[i]\"",
        "\"Z[i]\"",
        "",
        "Z[i] = relu(X[i]) + abs(X[i]) + sqrt(4) + rsqrt(4) + exp2(3) + log(1) + pow(X[i], 2) + max(X[i], 0, 1) + I + i",
    );
    let found = run(&cascade, &[("I", 2)], &arrays([("X", &[2], &[-3.0, 2.0])]));
    let constant = 2.0 + 0.5 + 8.0 + 0.0 + 2.0;
    assert_eq!(
        found["Z"].data,
        [
            3.0 + 9.0 + 1.0 + constant,
            2.0 + 2.0 + 4.0 + 2.0 + constant + 1.0
        ]
    );
    // Values of the error function and of tanh from Abramowitz and Stegun, tables 7.1 and 4.15.
    let at = |function: Function, x: f64| unary(function).unwrap()(x);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    close(
        at(Function::Gelu, 2f64.sqrt()),
        2f64.sqrt() / 2.0 * (1.0 + 0.8427007929),
    );
    close(at(Function::Tanh, 1.0), 0.7615941560);
    close(at(Function::Sigmoid, 3f64.ln()), 0.75);
    close(at(Function::Silu, 3f64.ln()), 0.75 * 3f64.ln());
    for function in [
        Function::Gelu,
        Function::Silu,
        Function::Sigmoid,
        Function::Relu,
        Function::Exp,
    ] {
        assert_eq!(at(function, -INF), 0.0);
    }
    assert!(binary(Function::Max).unwrap()(f64::NAN, 1.0).is_nan());
    assert!(binary(Function::Max).unwrap()(1.0, f64::NAN).is_nan());
    assert!(binary(Function::Min).unwrap()(1.0, f64::NAN).is_nan());
}

#[test]
fn wrong_inputs_are_named() {
    let cascade = file(
        "\"A[i, k]\", \"B[k]\"",
        "\"Z[i]\"",
        "batch: [\"N\"],",
        "Z[i] = A[i, k] * B[k]",
    );
    let sizes = [("N", 2), ("I", 2), ("K", 2)];
    let good = arrays([("A", &[2, 2], &[1.0; 4]), ("B", &[2], &[1.0; 2])]);
    let say = |inputs: &BTreeMap<String, Array>| {
        run_all(&cascade, Options::new(NumberFormat::F64), &sizes, inputs)
            .unwrap_err()
            .to_string()
    };
    let with = |name: &str, array: Array| {
        let mut inputs = good.clone();
        inputs.insert(name.into(), array);
        say(&inputs)
    };
    let mut fewer = good.clone();
    fewer.remove("B");
    assert_eq!(say(&fewer), "the input `B` is missing; its axes are [K]");
    assert_eq!(
        with("C", Array::new([], [0.0])),
        "the cascade has no input `C` (known: A, B)"
    );
    assert_eq!(
        with("A", Array::new([2], [0.0; 2])),
        "`A` has 1 axes, expected 2 [I, K], or up to 1 more in front for the batch (N)"
    );
    assert_eq!(
        with("A", Array::new([2, 3], [0.0; 6])),
        "axis 1 (K) of `A` has length 3, expected 2"
    );
    assert_eq!(
        with("A", Array::new([3, 2, 2], [0.0; 12])),
        "axis 0 (N) of `A` has length 3, expected 2"
    );
    assert_eq!(
        with("B", Array::new([2], [0.0; 3])),
        "`B` holds 3 elements where its shape [2] needs 2"
    );
    assert_eq!(
        with("A", Array::new([2, 2], [0.0, 0.0, f64::NAN, 0.0])),
        "`A` holds NaN at [1, 0]"
    );
    let nan = arrays([
        ("A", &[2, 2], &[1.0, 1.0, f64::NAN, 1.0]),
        ("B", &[2], &[1.0; 2]),
    ]);
    let options = Options {
        allow_nan: true,
        ..Options::new(NumberFormat::F64)
    };
    let found = run_all(&cascade, options, &sizes, &nan).unwrap();
    assert!(found["Z"].data[0] == 2.0 && found["Z"].data[1].is_nan());

    let mut two = good.clone();
    two.insert("A".into(), Array::new([2, 2, 2], [0.0; 8]));
    two.insert("B".into(), Array::new([1, 2], [0.0; 2]));
    assert_eq!(say(&two), "`B` carries the batch [1], but `A` carries [2]");

    let sizes = Sizes(BTreeMap::from([("I".into(), 2)]));
    let error = interpret(&cascade, &sizes, &good, &Options::new(NumberFormat::F64)).unwrap_err();
    assert_eq!(error, Error::MissingSize { name: "K".into() });
    let sizes = Sizes(BTreeMap::from([("I".into(), 2), ("K".into(), 0)]));
    let error = interpret(&cascade, &sizes, &good, &Options::new(NumberFormat::F64)).unwrap_err();
    assert_eq!(error, Error::ZeroSize { name: "K".into() });
}

#[test]
fn a_huge_tensor_is_refused_before_it_is_made() {
    let cascade = file(
        "\"A[m]\"",
        "\"Z[m1, m0]\"",
        "partitions: [\"M -> M1, M0\"], parameters: {\"M0\": 1},",
        "Z[m1, m0] = A[m1*M0 + m0] * A[m1*M0 + m0]",
    );
    let sizes = Sizes(BTreeMap::from([
        ("M".into(), 2),
        ("M0".into(), u64::MAX),
        ("M1".into(), u64::MAX),
    ]));
    let inputs = arrays([("A", &[2], &[1.0, 2.0])]);
    let error = interpret(&cascade, &sizes, &inputs, &Options::new(NumberFormat::F64)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`Z` would hold more than 268435456 elements"),
        "{error}"
    );
}

/// X, Y and W of 100 x 10 at once and no more: each is made from the one before.
#[test]
fn tensors_that_do_not_fit_together_are_refused_before_they_are_made() {
    let cascade = file(
        "\"A[i]\", \"B[j]\"",
        "\"Z\"",
        "",
        "X[i, j] = A[i] * B[j]
         Y[i, j] = X[i, j] + 1
         V[i, j] = Y[i, j] + 1
         W[i, j] = V[i, j] + X[i, j]
         Z = W[i, j]",
    );
    let inputs = arrays([("A", &[100], &[1.0; 100]), ("B", &[10], &[1.0; 10])]);
    let with = |memory: u64, kept: Kept<'_>| {
        let sizes = Sizes([("I".into(), 100), ("J".into(), 10)].into());
        let options = Options {
            memory,
            kept,
            ..Options::new(NumberFormat::F64)
        };
        interpret(&cascade, &sizes, &inputs, &options)
    };
    // 9 bytes an element; with the caller's, A and B stand twice until X is made.
    let most = 9 * (3 * 1000 + 110);
    assert!(with(most, Kept::Outputs).is_ok());
    let error = with(most - 1, Kept::Outputs).unwrap_err();
    let Error::TooMuchMemory { bytes, largest, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*bytes, u128::from(most));
    let named: Vec<&str> = largest.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        ["X", "V"].iter().all(|name| named.contains(name)),
        "{error}"
    );
    assert!(with(most, Kept::Every).is_err());
}
