//! Function units of an accelerator, and running values in a format of their own.

use super::*;

/// A masked row of softmax, and the units of two Einsums that differ.
#[test]
fn function_units_by_einsum() {
    let cascade = file(
        "\"A[i]\"",
        "\"Y[i]\", \"Z[i]\"",
        "",
        "X[i] = A[i] where i < 2\n Y[i] = exp(X[i]) / sqrt(I)\n Z[i] = exp(A[i])",
    );
    let inputs = arrays([("A", &[4], &[1.0, -INF, 2.0, -20.0])]);
    let sizes = cascade.sizes(&BTreeMap::from([("I".into(), 4)])).unwrap();
    let unit = |einsum: EinsumId, function| {
        assert_eq!(function, Function::Exp, "sqrt(I) is a constant");
        match cascade.name_of(einsum) {
            "Y" => FunctionUnit::Polynomial {
                coefficients: vec![1.0, 1.0],
                reduced: false,
            },
            _ => FunctionUnit::Exact,
        }
    };
    let options = Options::new(NumberFormat::F64);
    let found = interpret_with(&cascade, &sizes, &inputs, &options, &unit).unwrap();
    assert_eq!(points(&found["Y"]), [Some(1.0), Some(0.0), None, None]);
    assert_eq!(found["Z"].data, [1.0, -INF, 2.0, -20.0].map(libm::exp));
}

/// A recurrence in f32 between tensors of bf16: 1 is added 1000 times, where bf16 stops at 256.
#[test]
fn running_values_in_a_wider_format() {
    let cascade = file(
        "\"A[m]\"",
        "\"Z[m]\"",
        "",
        "S[0] = 0\n C[m] = S[m] * 1\n S[m+1] = C[m] + A[m]\n Z[m] = S[M] * A[m]",
    );
    let inputs = arrays([("A", &[1000], &[1.0; 1000])]);
    let last = |options: Options| {
        let all = run_all(&cascade, options, &[("M", 1000)], &inputs).unwrap();
        (all["S"].data[1000], all["C"].data[999], all["Z"].data[0])
    };
    let bf16 = Options::new(NumberFormat::Bf16);
    assert_eq!(last(bf16), (256.0, 256.0, 256.0));
    let wider = Options {
        running: NumberFormat::F32,
        ..bf16
    };
    assert_eq!(last(wider), (1000.0, 999.0, 1000.0));
    // The recurrence computes in it too; what reads it is rounded as before.
    let all_bf16 = Options {
        accumulator: NumberFormat::Bf16,
        ..wider
    };
    assert_eq!(last(all_bf16), (1000.0, 999.0, 1000.0));
    let f16 = Options {
        running: NumberFormat::F16,
        ..all_bf16
    };
    assert_eq!(last(f16).0, 1000.0);
}
