//! Sums, differences, maxima and minima of what is empty in different places, and empty points behind index tensors.

use proptest::prelude::*;

use super::*;

/// One operand of the random test.
#[derive(Clone, Debug)]
enum Operand {
    /// `A[i + di, j + dj]`: carries both ranks, empty outside A.
    Moved(i64, i64),
    /// `M[i, j]`, which is `A[i, j] where i * x + j * y >= z`.
    Masked,
    /// `G[j + dj]`: repeated along i.
    Row(i64),
    /// A number.
    Constant(i64),
    /// A function of two others.
    Two(&'static str, Box<Operand>, Box<Operand>),
}

fn operand() -> impl Strategy<Value = Operand> {
    let leaf = prop_oneof![
        3 => (-2..3i64, -2..3i64).prop_map(|(i, j)| Operand::Moved(i, j)),
        2 => Just(Operand::Masked),
        2 => (-2..3i64).prop_map(Operand::Row),
        1 => (1..4i64).prop_map(Operand::Constant),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let name = prop::sample::select(vec!["+", "-", "*", "/", "max", "min"]);
        (name, inner.clone(), inner).prop_map(|(name, a, b)| Operand::Two(name, a.into(), b.into()))
    })
}

impl Operand {
    fn text(&self) -> String {
        match self {
            Operand::Moved(i, j) => format!("A[i + ({i}), j + ({j})]"),
            Operand::Masked => "M[i, j]".into(),
            Operand::Row(j) => format!("G[j + ({j})]"),
            Operand::Constant(x) => x.to_string(),
            Operand::Two(name @ ("max" | "min"), a, b) => {
                format!("{name}({}, {})", a.text(), b.text())
            }
            Operand::Two(name, a, b) => format!("({} {name} {})", a.text(), b.text()),
        }
    }

    /// The ranks of which it has words of its own, as bits (1 for i, 2 for j); none without a tensor.
    fn carries(&self) -> Option<u8> {
        match self {
            Operand::Moved(..) | Operand::Masked => Some(3),
            Operand::Row(_) => Some(2),
            Operand::Constant(_) => None,
            Operand::Two(name, a, b) => match (a.carries(), b.carries()) {
                (Some(a), Some(b)) if matches!(*name, "*" | "/") || a == 3 || b == 3 => Some(a | b),
                (Some(a), Some(b)) => Some(a & b),
                (a, b) => a.or(b),
            },
        }
    }

    /// The value at a point: of a sum and its like, that of the operand that is there, if it decides.
    fn at(&self, i: i64, j: i64, data: &Data) -> Option<f64> {
        let Operand::Two(name, a, b) = self else {
            return match self {
                Operand::Moved(di, dj) => data.a(i + di, j + dj),
                Operand::Masked => data.a(i, j).filter(|_| data.masked(i, j)),
                Operand::Row(dj) => data.g.get(usize::try_from(j + dj).ok()?).copied(),
                Operand::Constant(x) => Some(*x as f64),
                Operand::Two(..) => unreachable!(),
            };
        };
        let (x, y) = (a.at(i, j, data), b.at(i, j, data));
        let one_is_whole = a.carries() == Some(3) || b.carries() == Some(3);
        let decides = |o: &Operand| match one_is_whole {
            true => o.carries() == Some(3),
            false => o.carries().is_some(),
        };
        let points = (x.is_some() && decides(a)) || (y.is_some() && decides(b));
        // Two constants are there everywhere.
        if !matches!(*name, "*" | "/") && !points && (decides(a) || decides(b)) {
            return None;
        }
        match *name {
            "*" => Some(x? * y?),
            "/" => y.filter(|y| *y != 0.0).and_then(|y| Some(x? / y)),
            "+" => Some(x.unwrap_or(0.0) + y.unwrap_or(0.0)),
            "-" => Some(x.unwrap_or(0.0) - y.unwrap_or(0.0)),
            "max" => Some(x.unwrap_or(-INF).max(y.unwrap_or(-INF))),
            _ => Some(x.unwrap_or(INF).min(y.unwrap_or(INF))),
        }
    }
}

struct Data {
    sizes: (i64, i64),
    mask: (i64, i64, i64),
    a: Vec<f64>,
    g: Vec<f64>,
}

impl Data {
    fn a(&self, i: i64, j: i64) -> Option<f64> {
        let inside = (0..self.sizes.0).contains(&i) && (0..self.sizes.1).contains(&j);
        inside.then(|| self.a[(i * self.sizes.1 + j) as usize])
    }

    fn masked(&self, i: i64, j: i64) -> bool {
        i * self.mask.0 + j * self.mask.1 >= self.mask.2
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any expression, element-wise and reduced, against its definition; and no point outside an Einsum's support has a value.
    #[test]
    fn unions(sizes in (1..5i64, 1..9i64), mask in (-2..3i64, -2..3i64, -3..4i64), of in operand()) {
        prop_assume!(of.carries() == Some(3));
        let data = Data {
            sizes,
            mask,
            a: (0..sizes.0 * sizes.1).map(|v| (v * 7 % 5) as f64 - 2.0).collect(),
            g: (0..sizes.1).map(|v| (v * 5 % 7) as f64 - 3.0).collect(),
        };
        let text = format!(
            "M[i, j] = A[i, j] where ({}) * i + ({}) * j >= {}
             Y[i, j] = {of}
             Z[j] = {of} :: max(i)
             W[i, j] = M[i, j] + G[j]",
            mask.0, mask.1, mask.2, of = of.text(),
        );
        let cascade = file("\"A[i, j]\", \"G[j]\"", "\"Y[i, j]\", \"Z[j]\", \"W[i, j]\"", "", &text);
        let (ni, nj) = (sizes.0 as usize, sizes.1 as usize);
        let inputs = arrays([("A", &[ni, nj], &data.a), ("G", &[nj], &data.g)]);
        let found = run(&cascade, &[("I", ni as u64), ("J", nj as u64)], &inputs);
        let value = |i, j| of.at(i, j, &data).map(|x| x + 0.0);
        let expected: Vec<_> = (0..sizes.0).flat_map(|i| (0..sizes.1).map(move |j| value(i, j))).collect();
        let shown: Vec<_> = points(&found["Y"]).into_iter().map(|x| x.map(|x| x + 0.0)).collect();
        prop_assert_eq!(&shown, &expected, "{}", text);
        for (j, z) in found["Z"].data.iter().enumerate() {
            let column = expected.iter().skip(j).step_by(nj).flatten();
            let greatest = column.fold(-INF, |a, b| a.max(*b));
            let empty = found["Z"].empty.as_ref().is_some_and(|e| e[j]);
            prop_assert!(*z == greatest || (empty && greatest == -INF), "{}: {:?}", text, found["Z"]);
        }
        let y = cascade.tensor(cascade.tensor_named("Y").unwrap());
        for (at, value) in expected.iter().enumerate() {
            let lookup = |name: &str| Some(match name {
                "i" => at / nj,
                "j" => at % nj,
                "I" => ni,
                _ => nj,
            } as i128);
            let holds = |c: &crate::cascade::Condition| {
                c.0.whole(&cascade.source, &lookup, &Vec::new).unwrap() != 0
            };
            prop_assert!(value.is_none() || y.support.iter().all(holds), "{}: {:?}", text, y.support);
        }
    }

    /// Attention to the keys of chosen blocks, the last of them partial and some chosen blocks absent (-1), read
    /// where they are and through a copy, is attention to these keys alone.
    #[test]
    fn attention_to_gathered_blocks(
        (m, m0, t) in (1..12usize, 1..5usize, 1..4usize),
        picks in prop::collection::vec(-1..12i64, 6),
    ) {
        let cascade = file(
            "\"Q[e, p]\", \"K[e, m]\", \"V[f, m]\", \"IDX[t, p] -> n\"",
            "\"AV[f, p]\", \"AC[f, p]\"",
            "parameters: { \"M0\": 2, \"N\": \"ceil(M / M0)\" },",
            "BK[e, n, m0] = K[e, n*M0 + m0]
             BV[f, n, m0] = V[f, n*M0 + m0]
             QK[t, m0, p] = Q[e, p] * BK[e, IDX[t, p], m0]
             GM[p] = QK[t, m0, p] :: max(t, m0)
             SN[t, m0, p] = exp(QK[t, m0, p] - GM[p])
             SD[p] = SN[t, m0, p]
             NV[f, p] = SN[t, m0, p] * BV[f, IDX[t, p], m0]
             AV[f, p] = NV[f, p] / SD[p]
             CK[e, t, m0, p] = BK[e, IDX[t, p], m0]
             CQK[t, m0, p] = Q[e, p] * CK[e, t, m0, p]
             CM[p] = CQK[t, m0, p] :: max(t, m0)
             CN[t, m0, p] = exp(CQK[t, m0, p] - CM[p])
             CD[p] = CN[t, m0, p]
             CV[f, p] = CN[t, m0, p] * BV[f, IDX[t, p], m0]
             AC[f, p] = CV[f, p] / CD[p]",
        );
        let m1 = m.div_ceil(m0);
        let random = |n: usize, by: usize| -> Vec<f64> { (0..n).map(|v| (v * by % 11) as f64 / 4.0 - 1.0).collect() };
        let (q, k, v) = (random(4, 3), random(2 * m, 5), random(2 * m, 7));
        let index: Vec<f64> = (0..2 * t).map(|i| (picks[i] % (m1 as i64 + 1)) as f64).collect();
        let inputs = arrays([("Q", &[2, 2], &q), ("K", &[2, m], &k), ("V", &[2, m], &v), ("IDX", &[t, 2], &index)]);
        let sizes = [("E", 2), ("F", 2), ("P", 2), ("M", m as u64), ("M0", m0 as u64), ("T", t as u64)];
        let found = run(&cascade, &sizes, &inputs);
        for p in 0..2 {
            let blocks = (0..t).filter_map(|t| usize::try_from(index[t * 2 + p] as i64).ok());
            let keys: Vec<usize> = blocks.flat_map(|b| b * m0..(b * m0 + m0)).filter(|k| *k < m).collect();
            let weight = |key: &usize| (q[p] * k[*key] + q[2 + p] * k[m + key]).exp();
            let all: f64 = keys.iter().map(weight).sum();
            for f in 0..2 {
                let sum: f64 = keys.iter().map(|key| weight(key) * v[f * m + key]).sum();
                for name in ["AV", "AC"] {
                    let value = points(&found[name])[f * 2 + p];
                    match keys.is_empty() {
                        true => prop_assert_eq!(value, None),
                        false => prop_assert!((value.unwrap() - sum / all).abs() < 1e-12, "{name} {found:?}"),
                    }
                }
            }
        }
    }
}
