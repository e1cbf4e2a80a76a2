//! Operation counts, sizes, compulsory traffic and the graph.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_workloads::analysis::{compulsory, dot, footprints, operations};
use einflow_workloads::cascade::{Cascade, Map, Reduce, Sizes};
use einflow_workloads::cascades;

fn load(name: &str, given: &[(&str, u64)]) -> (Cascade, Sizes) {
    let cascade = Cascade::load(name, None).unwrap_or_else(|problems| panic!("{problems}"));
    let given = given
        .iter()
        .map(|(name, size)| ((*name).to_owned(), *size))
        .collect();
    let sizes = cascade
        .sizes(&given)
        .unwrap_or_else(|problems| panic!("{problems}"));
    (cascade, sizes)
}

fn totals(name: &str, given: &[(&str, u64)]) -> BTreeMap<&'static str, u128> {
    let (cascade, sizes) = load(name, given);
    let counted = operations(&cascade, &sizes).unwrap();
    assert!(counted.exact);
    counted.total.into_iter().collect()
}

/// Counts by walking every point and looking at the expression again there.
fn walk(cascade: &Cascade, sizes: &Sizes) -> BTreeMap<String, u128> {
    fn at_point(map: &Map, counts: &mut BTreeMap<String, u128>) -> bool {
        let Map::Apply(function, operands) = map else {
            return matches!(map, Map::Read(_));
        };
        let reads = operands
            .iter()
            .fold(false, |any, operand| at_point(operand, counts) | any);
        if reads {
            *counts.entry(function.name().to_owned()).or_default() += 1;
        }
        reads
    }
    let mut counts = BTreeMap::new();
    let batch: u128 = cascade
        .batch
        .iter()
        .map(|r| u128::from(sizes.get(&cascade.rank(*r).name).unwrap()))
        .product();
    for einsum in cascade.einsums.iter().filter(|einsum| !einsum.view) {
        let mut ranks: Vec<_> = einsum
            .ranks
            .iter()
            .map(|rank| cascade.rank(*rank))
            .collect();
        if let Reduce::Top { into, .. } = einsum.reduce {
            ranks.retain(|rank| rank.name != cascade.rank(into).name);
        }
        let lengths: Vec<u64> = ranks
            .iter()
            .map(|rank| sizes.get(&rank.name).unwrap())
            .collect();
        let mut here = BTreeMap::new();
        // A number in mixed base is a point.
        for number in 0..lengths.iter().product() {
            let mut rest: u64 = number;
            let mut point = BTreeMap::new();
            for (rank, length) in ranks.iter().zip(&lengths) {
                point.insert(rank.variable.as_str(), i128::from(rest % length));
                rest /= length;
            }
            let lookup = |name: &str| {
                point
                    .get(name)
                    .copied()
                    .or_else(|| sizes.get(name).map(i128::from))
            };
            let holds = |c: &einflow_workloads::cascade::Condition| {
                c.0.whole(&cascade.source, &lookup, &Vec::new).unwrap() != 0
            };
            if !einsum.support.iter().all(holds) {
                continue;
            }
            at_point(&einsum.map, &mut here);
            let reduction = match einsum.reduce {
                Reduce::None => continue,
                Reduce::Sum => "add",
                Reduce::Max => "max",
                Reduce::Min => "min",
                Reduce::Top { .. } => "top",
            };
            // A product that is summed is one multiply-accumulate.
            if reduction == "add" && matches!(&einsum.map, Map::Apply(f, _) if f.name() == "mul") {
                *here.get_mut("mul").unwrap() -= 1;
                *here.entry("mac".to_owned()).or_default() += 1;
            } else {
                *here.entry(reduction.to_owned()).or_default() += 1;
            }
        }
        for (kind, count) in here {
            *counts.entry(kind).or_default() += count * batch;
        }
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// Sizes that tiles, windows and groups do not divide, and ones where a window is longer than the sequence.
#[test]
fn counts_equal_a_walk_over_all_points() {
    let shapes: [&[(&str, u64)]; 3] = [
        &[
            ("P", 5),
            ("M", 7),
            ("M0", 3),
            ("WIDTH", 3),
            ("DILATION", 2),
            ("RADIUS", 1),
            ("T", 3),
            ("A", 2),
            ("H", 5),
            ("G", 2),
        ],
        &[
            ("P", 6),
            ("M", 4),
            ("M0", 4),
            ("WIDTH", 9),
            ("DILATION", 1),
            ("RADIUS", 2),
            ("T", 2),
            ("A", 3),
            ("H", 3),
            ("G", 3),
        ],
        &[
            ("P", 9),
            ("M", 10),
            ("M0", 4),
            ("WIDTH", 4),
            ("DILATION", 3),
            ("RADIUS", 1),
            ("T", 1),
            ("A", 1),
            ("H", 4),
            ("G", 1),
        ],
    ];
    for name in cascades().names() {
        for shape in shapes {
            let fixed = [
                ("B", 2),
                ("E", 2),
                ("F", 3),
                ("D", 4),
                ("S", 3),
                ("K", 5),
                ("N", 4),
            ];
            let given: Vec<_> = shape.iter().chain(&fixed).copied().collect();
            let (cascade, sizes) = load(name, &given);
            let counted = operations(&cascade, &sizes).unwrap();
            let mut total: BTreeMap<String, u128> = counted
                .total
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect();
            total.retain(|_, count| *count > 0);
            assert!(counted.exact, "{name}");
            assert_eq!(total, walk(&cascade, &sizes), "{name} {shape:?}");
        }
    }
}

/// Formulas by hand, with E = 8, F = 4, P = 6, M = 10.
#[test]
fn counts_of_published_cascades_by_formula() {
    let shape = [
        ("B", 2),
        ("H", 3),
        ("E", 8),
        ("F", 4),
        ("P", 6),
        ("M", 10),
        ("M0", 5),
    ];
    let scores = 2 * 3 * 6 * 10;
    // QK E and AV F products a score; GM, SN's subtraction and SD one each, and the exponential and the division.
    let expected = [
        ("mac", 12 * scores),
        ("max", scores),
        ("sub", scores),
        ("exp", scores),
        ("add", scores),
        ("div", scores),
    ];
    assert_eq!(totals("attention/three-pass", &shape), expected.into());
    // M - F divisions a query less.
    assert_eq!(
        totals("attention/three-pass-deferred", &shape)["div"],
        2 * 3 * 6 * 4
    );
    // Two tiles: per tile and query RM, PRM, SPD, RD, F of SPNV and RNV; the rest is a score's.
    let tiles = 2 * 3 * 6 * 2;
    let expected = [
        ("mac", 12 * scores),
        ("max", scores + tiles),
        ("sub", scores + tiles),
        ("exp", scores + tiles),
        ("add", scores + tiles + 4 * tiles),
        ("mul", tiles + 4 * tiles),
        ("div", 2 * 3 * 6 * 4),
    ];
    assert_eq!(totals("attention/one-pass", &shape), expected.into());
    // Half the square and half the diagonal: sum of p + 1 over 6 queries.
    assert_eq!(
        totals("attention/one-pass-causal", &shape)["mac"],
        12 * 2 * 3 * 21
    );
    // Windows of 3 keys: queries 0 and 1 see 1 and 2.
    let window = [("WIDTH", 3), ("DILATION", 1)];
    let shape: Vec<_> = shape.iter().chain(&window).copied().collect();
    assert_eq!(
        totals("attention/sliding-window", &shape)["mac"],
        12 * 2 * 3 * (1 + 2 + 4 * 3)
    );
}

/// The sums of E and F products for FuseMax's 65536 x 12288 scores of BERT at 1K, and 2^24 tokens in closed form.
#[test]
fn counts_at_published_and_at_the_largest_sizes() {
    let bert = [
        ("B", 64),
        ("H", 12),
        ("E", 64),
        ("F", 64),
        ("P", 1024),
        ("M", 1024),
        ("M0", 256),
    ];
    assert_eq!(
        totals("attention/one-pass", &bert)["mac"],
        12288 * 65536 * 128
    );
    let long = 1u64 << 24;
    let longest = [
        ("B", 64),
        ("H", 16),
        ("E", 128),
        ("F", 128),
        ("P", long),
        ("M", long),
        ("M0", 256),
    ];
    let pairs = u128::from(long) * (u128::from(long) + 1) / 2;
    assert_eq!(
        totals("attention/one-pass-causal", &longest)["mac"],
        64 * 16 * 256 * pairs
    );
}

#[test]
fn sizes_and_compulsory_traffic() {
    let shape = [
        ("B", 2),
        ("H", 3),
        ("E", 8),
        ("F", 4),
        ("P", 6),
        ("M", 10),
        ("M0", 5),
    ];
    let (cascade, sizes) = load("attention/one-pass", &shape);
    let words: BTreeMap<String, u128> = footprints(&cascade, &sizes)
        .unwrap()
        .into_iter()
        .map(|f| (f.name, f.words))
        .collect();
    assert!(!words.contains_key("BK"), "a view holds nothing");
    // RM keeps its initial value and one for each of 2 tiles.
    for (name, expected) in [
        ("Q", 48),
        ("K", 80),
        ("V", 40),
        ("BQK", 60),
        ("RM", 18),
        ("SLNV", 48),
        ("RNV", 72),
        ("AV", 24),
    ] {
        assert_eq!(words[name], 6 * expected, "{name}");
    }
    let traffic = compulsory(&cascade, &sizes).unwrap();
    assert_eq!(
        (traffic.read, traffic.written),
        (6 * (48 + 80 + 40), 6 * 24)
    );
    let counted = operations(&cascade, &sizes).unwrap();
    let other = counted
        .total
        .iter()
        .filter(|(kind, _)| **kind != "mac")
        .map(|(_, count)| count)
        .sum::<u128>();
    let arithmetic = 2 * counted.total["mac"] + other;
    // Exact integers below 2^53 and one division: no tolerance needed.
    assert_eq!(
        traffic.intensity(&counted, 2),
        Some(arithmetic as f64 / (2.0 * 6.0 * 192.0))
    );
}

/// Of V, which is only read through the index tensor, one selection of T = 3 coordinates must move.
#[test]
fn what_is_picked_is_all_that_must_move() {
    let (cascade, sizes) = load(
        "attention/topk-gather",
        &[
            ("B", 1),
            ("H", 1),
            ("E", 8),
            ("F", 4),
            ("P", 6),
            ("M", 10),
            ("T", 3),
        ],
    );
    let traffic = compulsory(&cascade, &sizes).unwrap();
    assert_eq!((traffic.read, traffic.written), (48 + 80 + 3 * 4, 24));
}

#[test]
fn the_graph_in_graphviz() {
    let cascade = Cascade::load("pedagogical/c3", None).unwrap();
    let expected = r#"digraph "pedagogical/c3" {
  rankdir=LR;
  t0 [shape=box, label="A[k]"];
  t1 [shape=box, label="B[k]"];
  e0 [shape=ellipse, label="RY[k]"];
  e1 [shape=ellipse, label="RZ[k]"];
  e2 [shape=ellipse, label="Z"];
  t0 -> e0 [label="A"];
  t1 -> e0 [label="B"];
  t0 -> e1 [label="A"];
"#;
    let text = dot(&cascade);
    assert!(text.starts_with(expected), "{text}");
    // Each of RY and RZ reads its own previous coordinate, and RZ reads RY's.
    assert_eq!(text.matches("style=dashed").count(), 3, "{text}");
    assert!(
        text.contains("e1 -> e2 [label=\"RZ\"];") && text.ends_with("  e2 -> t4;\n}\n"),
        "{text}"
    );
    // Every name is quoted, every edge has both of its ends.
    for name in cascades().names() {
        let text = dot(&Cascade::load(name, None).unwrap());
        for line in text.lines().filter(|line| line.contains(" -> ")) {
            let mut ends = line.trim().split([' ', ';']);
            let (from, to) = (ends.next().unwrap(), ends.nth(1).unwrap());
            for end in [from, to] {
                assert!(text.contains(&format!("  {end} [shape=")), "{name}: {end}");
            }
        }
    }
}

/// Inputs of which masks, windows and shifts leave parts unread, against a walk over all points.
#[test]
fn the_words_that_are_read() {
    let cases = [
        ("Y[p] = A[m] * B[p] where m <= p", ""),
        ("Y[p] = A[m] * B[p] where m <= p, m > p - 3", ""),
        ("Y[p] = A[m] * B[p] where m >= M - 5", ""),
        (
            "Y[p] = A[m] * B[p] where (p < 2 and m < 3) or m >= M - 2",
            "",
        ),
        (
            "C[m1, m0] = A[m1*M0 + m0]\nY[p] = C[m1, m0] * B[p] where m1*M0 + m0 >= M - 6",
            "yes",
        ),
        (
            "C[m1, m0] = A[m1*M0 + m0]\nY[p] = C[m1, m0] * B[p] where m1 < 2, m1*M0 + m0 <= p",
            "yes",
        ),
        ("Y[p] = A[2*p] * B[p]", ""),
        ("Y[p] = A[3*p + 1] * B[p]", ""),
        ("Y[p] = A[p / 2] * B[p]", ""),
        ("Y[p] = A[M - 1 - p % 3] * B[p]", ""),
        ("Y[p] = A[p] + A[p + 4]\nZ[p] = B[p]", ""),
        ("Y[p] = A[m] * B[p] where abs(m - p) <= 1, p >= 4", ""),
    ];
    for (einsums, split) in cases {
        for (m, p, m0) in [(7u64, 5u64, 3u64), (10, 12, 4), (3, 9, 2), (12, 4, 5)] {
            let partitions = match split {
                "" => String::new(),
                _ => "partitions: [\"M -> M1, M0\"], parameters: {\"M0\": 2},".into(),
            };
            let z = if einsums.contains("Z[p]") {
                ", \"Z[p]\""
            } else {
                ""
            };
            let text = format!(
                "(name: \"t\", source: \"assumed\", description: \"A test.\", inputs: [\"A[m]\", \"B[p]\"], \
                 outputs: [\"Y[p]\"{z}], {partitions} einsums: \"{}\")",
                einsums.replace('\n', "; ")
            );
            let source = einflow_spec::Source::new("t.ron", text);
            let cascade = Cascade::parse(&source).unwrap_or_else(|e| panic!("{e}"));
            let mut given = BTreeMap::from([("M".to_owned(), m), ("P".to_owned(), p)]);
            if !split.is_empty() {
                given.insert("M0".into(), m0);
            }
            let sizes = cascade.sizes(&given).unwrap_or_else(|e| panic!("{e}"));
            let walked = walk_reads(&cascade, &sizes);
            let found = compulsory(&cascade, &sizes).unwrap();
            assert_eq!(found.read, walked, "{einsums} M={m} P={p} M0={m0}");
        }
    }
}

/// The distinct elements of inputs that any point reads, views followed.
fn walk_reads(cascade: &Cascade, sizes: &Sizes) -> u128 {
    use einflow_workloads::cascade::{Index, TensorId, TensorKind};
    let mut seen = std::collections::BTreeSet::new();
    for einsum in cascade.einsums.iter().filter(|e| !e.view) {
        let ranks: Vec<_> = einsum.ranks.iter().map(|r| cascade.rank(*r)).collect();
        let lengths: Vec<u64> = ranks.iter().map(|r| sizes.get(&r.name).unwrap()).collect();
        for number in 0..lengths.iter().product() {
            let mut rest: u64 = number;
            let mut point = BTreeMap::new();
            for (rank, length) in ranks.iter().zip(&lengths) {
                point.insert(rank.variable.clone(), i128::from(rest % length));
                rest /= length;
            }
            let value = |expr: &einflow_spec::expr::Expr, at: &BTreeMap<String, i128>| {
                let lookup = |n: &str| at.get(n).copied().or_else(|| sizes.get(n).map(i128::from));
                expr.whole(&cascade.source, &lookup, &Vec::new).unwrap()
            };
            if einsum.support.iter().any(|c| value(&c.0, &point) == 0) {
                continue;
            }
            for read in &einsum.reads {
                let (mut tensor, mut indices, mut at): (TensorId, Vec<Index>, _) =
                    (read.tensor, read.indices.clone(), point.clone());
                loop {
                    let place: Vec<i128> = indices
                        .iter()
                        .map(|index| match index {
                            Index::Expr(expr) => value(expr, &at),
                            Index::Gather(..) => panic!("no gather here"),
                        })
                        .collect();
                    let own = cascade.tensor(tensor);
                    let inside = own.ranks.iter().zip(&place).all(|(r, i)| {
                        (0..i128::from(sizes.get(&cascade.rank(*r).name).unwrap())).contains(i)
                    });
                    if !inside {
                        break;
                    }
                    if own.kind == TensorKind::Input {
                        seen.insert((tensor, place));
                        break;
                    }
                    if own.kind != TensorKind::View {
                        break;
                    }
                    let maker = cascade.einsum(own.producer.unwrap());
                    let names = own.ranks.iter().map(|r| cascade.rank(*r).variable.clone());
                    at = names.zip(place).collect();
                    (tensor, indices) = (maker.reads[0].tensor, maker.reads[0].indices.clone());
                }
            }
        }
    }
    seen.len() as u128
}
