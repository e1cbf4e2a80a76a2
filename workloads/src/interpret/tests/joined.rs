//! Einsums that step with a recurrence: the same values, and room for one step.

use super::*;

/// Running sums of a masked product and of its reduction, and what reads them at the end.
fn sums() -> Cascade {
    file(
        "\"X[i, j]\"",
        "\"O[j]\"",
        "",
        "S[0, j] = 0
         T[0] = 0
         Y[i, j] = X[i, j] * X[i, j] where i + 2*j < 100
         S[i+1, j] = S[i, j] + Y[i, j]
         Z[i] = Y[i, j]
         T[i+1] = T[i] + Z[i]
         O[j] = S[I, j] * T[I]",
    )
}

fn value(i: usize, j: usize) -> f64 {
    ((i * 7 + j * 3) % 11) as f64 - 4.0
}

#[test]
fn what_one_step_hands_on_takes_the_room_of_one() {
    let cascade = sums();
    let (rows, columns) = (150, 80);
    let sizes = Sizes([("I".into(), 150), ("J".into(), 80)].into());
    let data: Vec<f64> = (0..rows * columns)
        .map(|at| value(at / columns, at % columns))
        .collect();
    let inputs = arrays([("X", &[rows, columns], &data)]);
    let run = |kept| {
        let options = Options {
            kept,
            ..Options::new(NumberFormat::F64)
        };
        interpret(&cascade, &sizes, &inputs, &options).unwrap()
    };
    // Rows have fewer elements one after another, so that what was there is not there in the next step.
    let there = |i: usize, j: usize| i + 2 * j < 100;
    let square = |i: usize, j: usize| value(i, j) * value(i, j);
    let column = |j: usize| -> f64 {
        let of = (0..rows).filter(|i| there(*i, j)).map(|i| square(i, j));
        of.fold(0.0, |sum, x| sum + x)
    };
    let total = (0..columns).map(column).fold(0.0, |sum, x| sum + x);
    let expected: Vec<f64> = (0..columns).map(|j| column(j) * total).collect();
    let same = |found: &[f64]| {
        let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found), bits(&expected));
    };
    same(&run(Kept::Outputs)["O"].data);
    let every = run(Kept::Every);
    same(&every["O"].data);
    assert_eq!(every["Y"].shape, [rows, columns]);

    // X with the caller, S, T, O, and a row of Y and an element of Z.
    let words = |extra: u128| 9 * (150 * 80 + 151 * 80 + 151 + 80 + extra);
    assert_eq!(
        memory(&cascade, &sizes, Kept::Outputs).unwrap(),
        words(0) - 9 * 80 + 9 * (80 + 1)
    );
    assert_eq!(
        memory(&cascade, &sizes, Kept::Every).unwrap(),
        words(150 * 80 + 150)
    );
}

#[test]
fn only_what_is_asked_for_is_computed() {
    let cascade = sums();
    let sizes = Sizes([("I".into(), 150), ("J".into(), 80)].into());
    let inputs = arrays([("X", &[150, 80], &[1.0; 150 * 80])]);
    let tensor = |name: &str| {
        let at = cascade.tensors.iter().position(|t| t.name == name);
        TensorId(at.unwrap())
    };
    let these = [tensor("S")];
    let options = Options {
        kept: Kept::Only(&these),
        ..Options::new(NumberFormat::F64)
    };
    let found = interpret(&cascade, &sizes, &inputs, &options).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["S"]);
    // Column 0 has the elements 0 to 99, column 49 two.
    assert_eq!(found["S"].data[150 * 80], 100.0);
    assert_eq!(found["S"].data[150 * 80 + 49], 2.0);
    let held = memory(&cascade, &sizes, Kept::Only(&these)).unwrap();
    assert_eq!(held, 9 * (150 * 80 + 151 * 80 + 80));
}
