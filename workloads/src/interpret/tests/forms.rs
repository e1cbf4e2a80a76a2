//! Indices and conditions of any form, against values worked out beside the text.

use proptest::prelude::*;

use super::*;

/// What a condition or an index may be in the random test: `a i + b k + c`, perhaps `/ d` or `% d`.
#[derive(Clone, Debug)]
struct Form {
    a: i64,
    b: i64,
    c: i64,
    then: Option<(char, i64)>,
}

impl Form {
    fn text(&self) -> String {
        let linear = format!("({})*i + ({})*k + ({})", self.a, self.b, self.c);
        match self.then {
            Some((op, d)) => format!("({linear}) {op} {d}"),
            None => linear,
        }
    }

    fn at(&self, i: i64, k: i64) -> i64 {
        let x = self.a * i + self.b * k + self.c;
        match self.then {
            Some(('/', d)) => x.div_euclid(d),
            Some((_, d)) => x.rem_euclid(d),
            None => x,
        }
    }
}

fn form() -> impl Strategy<Value = Form> {
    let then = proptest::option::of((prop_oneof![Just('/'), Just('%')], 1..4i64));
    (-2..3i64, -2..3i64, -3..4i64, then).prop_map(|(a, b, c, then)| Form { a, b, c, then })
}

/// As long as the parser lets an expression become.
#[test]
fn long_expressions() {
    let sum = vec!["A[i]"; 700].join("+");
    let index = vec!["0"; 1000].join("+");
    let condition = vec!["i%2"; 900].join("+");
    let einsums =
        format!("Z[i] = {sum}\n Y[i] = A[i+{index}]\n X[i] = A[i] where {condition} > 899");
    let cascade = file("\"A[i]\"", "\"Z[i]\", \"Y[i]\", \"X[i]\"", "", &einsums);
    let found = run(&cascade, &[("I", 2)], &arrays([("A", &[2], &[1.0, 2.0])]));
    assert_eq!(found["Z"].data, [700.0, 1400.0]);
    assert_eq!(found["Y"].data, [1.0, 2.0]);
    assert_eq!(points(&found["X"]), [None, Some(2.0)]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any index and condition, element-wise and reduced, as two plain loops have it.
    #[test]
    fn indices_and_conditions(
        (ni, nk, nx) in (1..8i64, 1..8i64, 1..7i64),
        x in form(), left in form(), right in form(),
        op in prop_oneof![Just("<"), Just("<="), Just(">"), Just(">="), Just("=="), Just("!=")],
    ) {
        let text = format!(
            "Y[i, k] = A[{x}] * B[i, k] where {l} {op} {r}
             Z[i] = A[{x}] * B[i, k] where {l} {op} {r}
             W[k] = max(A[{x}], B[i, k]) :: max(i)",
            x = x.text(), l = left.text(), r = right.text(),
        );
        let cascade = file("\"A[x]\", \"B[i, k]\"", "\"Y[i, k]\", \"Z[i]\", \"W[k]\"", "", &text);
        let a: Vec<f64> = (0..nx).map(|v| (v * 7 % 5) as f64 - 1.5).collect();
        let b: Vec<f64> = (0..ni * nk).map(|v| (v * 5 % 7) as f64 - 2.5).collect();
        let inputs = arrays([("A", &[nx as usize], &a), ("B", &[ni as usize, nk as usize], &b)]);
        let sizes = [("I", ni as u64), ("K", nk as u64), ("X", nx as u64)];
        let found = run(&cascade, &sizes, &inputs);

        let mut y = Vec::new();
        let mut z = vec![0.0; ni as usize];
        let mut w = vec![-INF; nk as usize];
        for i in 0..ni {
            for k in 0..nk {
                let (l, r) = (left.at(i, k), right.at(i, k));
                let holds = match op { "<" => l < r, "<=" => l <= r, ">" => l > r, ">=" => l >= r, "==" => l == r, _ => l != r };
                let read = usize::try_from(x.at(i, k)).ok().and_then(|place| a.get(place));
                let other = b[(i * nk + k) as usize];
                let value = read.filter(|_| holds).map(|a| a * other);
                y.push(value);
                z[i as usize] += value.unwrap_or(0.0);
                // The index names both ranks (if only times 0), so the maximum is the union of both.
                w[k as usize] = w[k as usize].max(read.map_or(other, |a| a.max(other)));
            }
        }
        prop_assert_eq!(points(&found["Y"]), y);
        prop_assert_eq!(&found["W"].data, &w);
        prop_assert_eq!(&found["Z"].data, &z);
    }
}
