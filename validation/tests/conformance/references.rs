//! Which golden reference judges which cascade, and how many roundings lie between its inputs and
//! its outputs.

use einflow_validation::golden::agent::agent_attention;
use einflow_validation::golden::ffn::{ffn, gated_ffn, relu};
use einflow_validation::golden::grouped::grouped_query;
use einflow_validation::golden::linear::linear_attention;
use einflow_validation::golden::masks::{causal, neighborhood, sliding_window};
use einflow_validation::golden::parts::{Part, merged, part};
use einflow_validation::golden::pedagogical::product_of_sums;
use einflow_validation::golden::projections::{merge_heads, project};
use einflow_validation::golden::sigmoid::sigmoid_attention;
use einflow_validation::golden::softmax::attention;
use einflow_validation::golden::topk::topk_attention;
use nalgebra::{DMatrix, DVector};

use crate::case::Element;

/// An output: name, lengths of its axes, elements row by row.
pub type Output = (&'static str, Vec<usize>, Vec<f64>);

/// Computes all outputs for one element of the batch.
pub type Reference = fn(&Element<'_>) -> Vec<Output>;

/// The reference of a library cascade.
pub fn of(name: &str) -> Option<Reference> {
    Some(match name {
        "attention/no-max"
        | "attention/three-pass"
        | "attention/three-pass-deferred"
        | "attention/two-pass"
        | "attention/two-pass-deferred"
        | "attention/split"
        | "attention/one-pass" => |x| softmax(x, 1.0, |_, _| true),
        "attention/one-pass-causal" => |x| softmax(x, 1.0, causal),
        "attention/partial" => |x| {
            let part = part(&x.matrix("Q"), &x.matrix("K"), &x.matrix("V"), scale(x));
            let queries = vec![x.size("P")];
            let mut outputs = vec![
                ("LM", queries.clone(), part.maxima),
                ("SLD", queries, part.denominators),
            ];
            let numerators = &part.numerators;
            let shape = vec![numerators.nrows(), numerators.ncols()];
            outputs.push(("SLNV", shape, row_major(numerators)));
            outputs
        },
        "attention/merge" => |x| {
            let (maxima, denominators) = (x.matrix("LM"), x.matrix("SLD"));
            let row = |matrix: &DMatrix<f64>, i: usize| matrix.row(i).iter().copied().collect();
            let parts: Vec<Part> = (0..x.size("M1"))
                .map(|i| Part {
                    maxima: row(&maxima, i),
                    denominators: row(&denominators, i),
                    numerators: x.middle_slice("SLNV", i),
                })
                .collect();
            av(merged(&parts))
        },
        "attention/grouped-query" => |x| {
            let heads = |name: &str, count: usize| {
                (0..count)
                    .map(|h| x.last_slice(name, h))
                    .collect::<Vec<_>>()
            };
            let (q, k, v) = (
                heads("Q", x.size("H")),
                heads("K", x.size("G")),
                heads("V", x.size("G")),
            );
            let out = grouped_query(&q, &k, &v, scale(x), |_, _| true);
            let shape = vec![x.size("F"), x.size("P"), x.size("H")];
            let mut data = Vec::new();
            for f in 0..shape[0] {
                for p in 0..shape[1] {
                    data.extend(out.iter().map(|head| head[(f, p)]));
                }
            }
            vec![("AV", shape, data)]
        },
        "attention/sliding-window" => |x| {
            let (width, dilation) = (x.size("WIDTH"), x.size("DILATION"));
            softmax(x, scale(x), |m, p| sliding_window(m, p, width, dilation))
        },
        "attention/neighborhood-2d" => |x| {
            let (columns, radius) = (x.size("WIDTH"), x.size("RADIUS"));
            softmax(x, scale(x), |m, p| neighborhood(m, p, columns, radius))
        },
        "attention/linear-recurrent" | "attention/linear-chunked" => |x| {
            let (_, log_decay) = x.data("G");
            av(linear_attention(
                &x.matrix("Q"),
                &x.matrix("K"),
                &x.matrix("V"),
                log_decay,
            ))
        },
        "attention/sigmoid" => |x| {
            let bias = -(x.size("M") as f64).ln();
            av(sigmoid_attention(
                &x.matrix("Q"),
                &x.matrix("K"),
                &x.matrix("V"),
                scale(x),
                bias,
            ))
        },
        "attention/topk-gather" => |x| {
            av(topk_attention(
                &x.matrix("Q"),
                &x.matrix("K"),
                &x.matrix("V"),
                x.size("T"),
                scale(x),
            ))
        },
        "attention/agent" => |x| {
            av(agent_attention(
                &x.matrix("Q"),
                &x.matrix("T"),
                &x.matrix("K"),
                &x.matrix("V"),
                scale(x),
            ))
        },
        "linear-algebra/matmul" => |x| {
            // A^T B.
            let z = project(&x.matrix("A"), &x.matrix("B"));
            let (rows, columns) = z.shape();
            vec![("Z", vec![rows, columns], z.transpose().as_slice().to_vec())]
        },
        "pedagogical/c1" | "pedagogical/c2" | "pedagogical/c3" => |x| {
            let vector = |name: &str| DVector::from_row_slice(x.data(name).1);
            vec![(
                "Z",
                vec![],
                vec![product_of_sums(&vector("A"), &vector("B"))],
            )]
        },
        "transformer/ffn" => |x| {
            rows("FFN2", x, |x, b| {
                ffn(&tokens(x, b), &x.matrix("W1"), &x.matrix("W2"), relu)
            })
        },
        "transformer/ffn-gated" => |x| {
            rows("FFN2", x, |x, b| {
                gated_ffn(
                    &tokens(x, b),
                    &x.matrix("WG"),
                    &x.matrix("W1"),
                    &x.matrix("W2"),
                )
            })
        },
        "transformer/projections" => projections,
        _ => return None,
    })
}

/// How many roundings to the number format, as a bound on the relative error in units of roundoff,
/// lie between inputs and outputs where all inputs are in 1/2..1 (1/2..0 for the logarithms of decays).
///
/// Nothing cancels then, so that a sum has at most the relative error of its worst term, and a product
/// or quotient the sum of both. Each Einsum rounds once, when it populates its output (operators
/// and sums are in f32 and count for nothing beside it). A score with the relative error n u, at most S in
/// magnitude, changes its exponential by n S u, hence a softmax's quotient by 2 n S u; beyond that maxima are exact.
pub fn roundings(name: &str, x: &Element<'_>) -> f64 {
    let size = |name: &str| x.size(name) as f64;
    // The largest score: E products of at most 1, scaled.
    let unscaled = || 2.0 * size("E");
    let scaled = || 4.0 * size("E").sqrt();
    match name {
        // Numerator SN, A, AV; denominator SN, SD.
        "attention/no-max" | "attention/three-pass" => unscaled() + 5.0,
        // Numerator SN, SNV; denominator SN, SD; the division.
        "attention/three-pass-deferred" => unscaled() + 5.0,
        // Numerator SLN, PLM, A, AV; denominator SLN, SLD, PLM, SD.
        "attention/two-pass" => unscaled() + 8.0,
        // Numerator SLN, PLM, SN, SNV (likewise the other); denominator four; the division.
        "attention/two-pass-deferred" | "attention/split" => unscaled() + 9.0,
        // Numerator SLN, SLNV, and for each tile PRM, SPNV, RNV; denominator likewise; the division.
        "attention/one-pass" | "attention/one-pass-causal" => {
            unscaled() + 2.0 * (2.0 + 3.0 * size("M1")) + 1.0
        }
        // The scaled query rounds once more; SLN, then SLD or SLNV.
        "attention/partial" => scaled() + 2.0,
        // The maxima are exact. Numerator PLM, SNV; denominator PLM, SD; the division.
        "attention/merge" => 5.0,
        // The scaled query rounds once more; then as the 3-pass cascade.
        "attention/grouped-query"
        | "attention/sliding-window"
        | "attention/neighborhood-2d"
        | "attention/topk-gather" => scaled() + 5.0,
        // Twice that.
        "attention/agent" => 2.0 * (scaled() + 5.0),
        // No denominator: half of the scores' part; A, AV.
        "attention/sigmoid" => scaled() / 2.0 + 2.0,
        // D and S at each token; KV, AV.
        "attention/linear-recurrent" => 2.0 * size("M") + 2.0,
        // CG and TG are at most M0 / 2: DQ, DK and (at each chunk) D take their error into exponents.
        "attention/linear-chunked" => {
            let exponent = size("M0") / 2.0;
            (exponent + 1.0) + (2.0 * exponent + 2.0) + size("M1") * (exponent + 2.0) + 2.0
        }
        "pedagogical/c1" => 2.0,
        "pedagogical/c2" => 3.0,
        // RY and RZ round at each step; the ratios of RY telescope.
        "pedagogical/c3" => 2.0 * size("K"),
        "linear-algebra/matmul" | "transformer/projections" => 1.0,
        // FFN1, ACT, FFN2.
        "transformer/ffn" => 3.0,
        // GATE (of which the activation at most doubles a relative error), FFN1, ACT, FFN2.
        "transformer/ffn-gated" => 5.0,
        _ => panic!("no bound for {name}"),
    }
}

/// `1 / sqrt(E)`.
fn scale(x: &Element<'_>) -> f64 {
    1.0 / (x.size("E") as f64).sqrt()
}

fn softmax(x: &Element<'_>, scale: f64, allowed: impl Fn(usize, usize) -> bool) -> Vec<Output> {
    av(attention(
        &x.matrix("Q"),
        &x.matrix("K"),
        &x.matrix("V"),
        scale,
        allowed,
    ))
}

fn av(matrix: DMatrix<f64>) -> Vec<Output> {
    vec![(
        "AV",
        vec![matrix.nrows(), matrix.ncols()],
        row_major(&matrix),
    )]
}

fn row_major(matrix: &DMatrix<f64>) -> Vec<f64> {
    matrix.transpose().as_slice().to_vec()
}

/// The tokens of `X[b, p, d]` as columns.
fn tokens(x: &Element<'_>, b: usize) -> DMatrix<f64> {
    x.slice("X", &[b]).transpose()
}

/// An output with the axes b, p, d from a matrix D x P for each b.
fn rows(
    name: &'static str,
    x: &Element<'_>,
    of: impl Fn(&Element<'_>, usize) -> DMatrix<f64>,
) -> Vec<Output> {
    let data = (0..x.size("B"))
        .flat_map(|b| row_major(&of(x, b).transpose()))
        .collect();
    vec![(name, vec![x.size("B"), x.size("P"), x.size("D")], data)]
}

fn projections(x: &Element<'_>) -> Vec<Output> {
    let (batch, heads, key_heads) = (x.size("B"), x.size("H"), x.size("G"));
    let head = |weight: &str, h: usize| {
        let (shape, data) = x.data(weight);
        DMatrix::from_fn(shape[0], shape[2], |d, e| {
            data[(d * shape[1] + h) * shape[2] + e]
        })
    };
    let through = |name: &'static str, weight: &str, heads: usize, width: &str| {
        let mut data = Vec::new();
        for b in 0..batch {
            for h in 0..heads {
                data.extend(row_major(&project(&head(weight, h), &tokens(x, b))));
            }
        }
        (name, vec![batch, heads, x.size(width), x.size("P")], data)
    };
    let mut outputs = vec![
        through("Q", "WQ", heads, "E"),
        through("K", "WK", key_heads, "E"),
        through("V", "WV", key_heads, "F"),
    ];
    outputs.extend(rows("Z", x, |x, b| {
        let weights: Vec<_> = (0..heads).map(|h| x.slice("WZ", &[h])).collect();
        let results: Vec<_> = (0..heads).map(|h| x.slice("AV", &[b, h])).collect();
        merge_heads(&weights, &results).expect("at least one head")
    }));
    outputs
}
