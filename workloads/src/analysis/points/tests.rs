use proptest::prelude::*;

use super::*;

/// Counts by looking at every point; shares nothing with the counter but the expression's evaluation.
fn walk(ranges: &[(&str, Range<i128>)], conditions: &[Expr], source: &Source) -> u128 {
    fn go(
        ranges: &[(&str, Range<i128>)],
        at: &mut Vec<(String, i128)>,
        conditions: &[Expr],
        source: &Source,
    ) -> u128 {
        let Some(((name, range), rest)) = ranges.split_first() else {
            let lookup = |wanted: &str| {
                at.iter()
                    .find(|(name, _)| name == wanted)
                    .map(|(_, value)| *value)
                    .or_else(|| size(wanted))
            };
            return u128::from(
                conditions
                    .iter()
                    .all(|c| c.whole(source, &lookup, &Vec::new).unwrap() != 0),
            );
        };
        let mut sum = 0;
        for value in range.clone() {
            at.push((name.to_string(), value));
            sum += go(rest, at, conditions, source);
            at.pop();
        }
        sum
    }
    go(ranges, &mut Vec::new(), conditions, source)
}

fn size(name: &str) -> Option<i128> {
    [
        ("P", 13),
        ("M", 17),
        ("M0", 4),
        ("W", 5),
        ("D", 3),
        ("B", 4),
    ]
    .iter()
    .find(|(n, _)| *n == name)
    .map(|(_, v)| *v)
}

fn counted(ranges: &[(&str, Range<i128>)], texts: &[&str]) -> (Points, u128) {
    let source = Source::new("conditions", texts.join("\n"));
    let exprs: Vec<Expr> = texts
        .iter()
        .map(|text| Expr::parse(&source, text, 0).unwrap())
        .collect();
    let axes: Vec<_> = ranges
        .iter()
        .map(|(variable, range)| Axis {
            variable,
            range: range.clone(),
        })
        .collect();
    let found = count(&axes, &exprs.iter().collect::<Vec<_>>(), &source, &size).unwrap();
    (found, walk(ranges, &exprs, &source))
}

type Ranges<'a> = &'a [(&'a str, Range<i128>)];

#[test]
fn the_conditions_of_attention() {
    let square: Ranges<'_> = &[("p", 0..13), ("m", 0..17), ("e", 0..3)];
    let split: Ranges<'_> = &[("p", 0..13), ("m1", 0..5), ("m0", 0..4)];
    let cases: &[(Ranges<'_>, &[&str])] = &[
        (square, &["m <= p"]),
        (square, &["m <= p + M - P"]),
        (square, &["m <= p", "m > p - W"]),
        (square, &["m <= p and p - m < W * D and (p - m) % D == 0"]),
        (square, &["abs(p - m) <= W / 2"]),
        (square, &["m / B == p / B"]),
        (square, &["m / B <= p / B", "m < M - 2"]),
        (square, &["m < 4 or p - m < 3 and m <= p"]),
        (square, &["not (m <= p)", "m != p + 1"]),
        (square, &["m % 4 == p % 3"]),
        (square, &["min(m, p) > 3", "max(m, p) < 11"]),
        (square, &["m == p or m == 0"]),
        (square, &["P < M", "e % 2 == 0"]),
        (square, &["P > M", "m <= p"]),
        (
            square,
            &["3 * m <= 2 * p + 5", "5 * m >= p - 7", "2 * m + 3 * p < 40"],
        ),
        (square, &["ceil(m / B) > p / B"]),
        (square, &["m * p < 20"]),
        (square, &["m"]),
        (split, &["m1 * M0 + m0 < M"]),
        (split, &["m1 * M0 + m0 < M", "m1 * M0 + m0 <= p"]),
        (
            split,
            &[
                "m1 * M0 + m0 < M",
                "m1 * M0 + m0 <= p",
                "p - (m1 * M0 + m0) < W",
            ],
        ),
        (split, &["m1 * M0 <= p", "m0 < 3"]),
        (split, &["(m1 * M0 + m0) % D == 1"]),
        (split, &["(m1 + 1) * M0 - 1 <= p"]),
    ];
    for (ranges, texts) in cases {
        let (found, expected) = counted(ranges, texts);
        assert_eq!(
            found,
            Points {
                count: expected,
                exact: true
            },
            "{texts:?}"
        );
    }
}

#[test]
fn boxes_that_do_not_begin_at_zero() {
    let tile: Ranges<'_> = &[("p", 7..12), ("m", 5..11)];
    for text in [
        "m <= p",
        "m / B == p / B",
        "(p - m) % D == 1",
        "m > 20",
        "m <= 20",
        "2 * m >= p",
    ] {
        let (found, expected) = counted(tile, &[text]);
        assert_eq!(
            found,
            Points {
                count: expected,
                exact: true
            },
            "{text}"
        );
    }
    assert_eq!(counted(&[("p", 3..3), ("m", 0..4)], &["m <= p"]).0.count, 0);
}

/// Sizes far beyond any walk: the counts follow from the formula of a triangle, a band, a block diagonal.
#[test]
fn long_sequences_count_in_closed_form() {
    let n: i128 = 1 << 24;
    let axes = [
        Axis {
            variable: "p",
            range: 0..n,
        },
        Axis {
            variable: "m",
            range: 0..n,
        },
    ];
    let big = |text: &str| {
        let source = Source::new("condition", text);
        let expr = Expr::parse(&source, text, 0).unwrap();
        count(&axes, &[&expr], &source, &|_| None).unwrap()
    };
    let exact = |count: i128| Points {
        count: count as u128,
        exact: true,
    };
    assert_eq!(big("m <= p"), exact(n * (n + 1) / 2));
    assert_eq!(
        big("m <= p and p - m < 4096"),
        exact(n * 4096 - 4096 * 4095 / 2)
    );
    assert_eq!(big("m / 128 == p / 128"), exact(n * 128));
    // Every 8th key back, 512 of them: rows p < 8 * 511 see p / 8 + 1.
    assert_eq!(
        big("m <= p and (p - m) % 8 == 0 and p - m < 4096"),
        exact(n * 512 - 8 * (511 * 512 / 2))
    );
    assert_eq!(
        big("m * p % 7 == 3"),
        Points {
            count: (n * n) as u128,
            exact: false
        }
    );
}

#[test]
fn what_cannot_be_counted_is_an_error() {
    let source = Source::new("condition", "m / (P - 13) == 0");
    let expr = Expr::parse(&source, source.text(), 0).unwrap();
    let axes = [Axis {
        variable: "m",
        range: 0..4,
    }];
    assert!(
        count(&axes, &[&expr], &source, &size)
            .unwrap_err()
            .message
            .contains("divisor is zero")
    );
    let wide: Vec<_> = ["a", "b"]
        .iter()
        .map(|variable| Axis {
            variable,
            range: 0..i128::MAX / 2,
        })
        .collect();
    assert!(count(&wide, &[], &source, &size).is_err());
    let unknown = Expr::parse(&source, "m < Q", 0).unwrap();
    assert!(
        count(&axes, &[&unknown], &source, &size)
            .unwrap_err()
            .message
            .contains("`Q`")
    );
}

fn linear() -> impl Strategy<Value = String> {
    (-3i32..4, -3i32..4, -3i32..4, -12i32..13)
        .prop_map(|(a, b, c, d)| format!("{a} * p + {b} * m + {c} * e + {d}"))
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (
            linear(),
            prop_oneof![Just("<"), Just("<="), Just("=="), Just("!="), Just(">")],
            -6i32..7
        )
            .prop_map(|(l, op, r)| format!("{l} {op} {r}")),
        (linear(), 1i32..5, 0i32..4).prop_map(|(l, d, r)| format!("({l}) % {d} == {r}")),
        (linear(), 1i32..5, linear(), 1i32..4)
            .prop_map(|(a, d, b, f)| format!("({a}) / {d} <= ({b}) / {f}")),
        (linear(), linear(), 0i32..6).prop_map(|(a, b, r)| format!("max(abs({a}), {b}) < {r}")),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn equals_a_walk(
        texts in prop::collection::vec(condition(), 1..3),
        (p, m, e) in (-4i128..5, -4i128..5, 0i128..3),
        (pn, mn, en) in (0i128..9, 0i128..9, 0i128..4),
    ) {
        let ranges: [(&str, Range<i128>); 3] = [("p", p..p + pn), ("m", m..m + mn), ("e", e..e + en)];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (found, expected) = counted(&ranges, &texts);
        prop_assert!(found.exact);
        prop_assert_eq!(found.count, expected);
    }
}
