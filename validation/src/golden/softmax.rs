//! Softmax attention (Vaswani et al., "Attention Is All You Need", equation 1).

use nalgebra::DMatrix;

/// Attention of every query over the keys that `allowed(m, p)` admits:
/// `sum_m softmax_m(scale * q_p . k_m) v_m`.
///
/// `q` is E x P, `k` is E x M, `v` is F x M; the result is F x P. The unscaled form has
/// `scale = 1`, the usual one `1 / sqrt(E)`. A query with no admitted key, or whose scores are all
/// -inf, gives a column of zeros.
pub fn attention(
    q: &DMatrix<f64>,
    k: &DMatrix<f64>,
    v: &DMatrix<f64>,
    scale: f64,
    allowed: impl Fn(usize, usize) -> bool,
) -> DMatrix<f64> {
    let mut out = DMatrix::zeros(v.nrows(), q.ncols());
    for p in 0..q.ncols() {
        let kept: Vec<usize> = (0..k.ncols()).filter(|&m| allowed(m, p)).collect();
        let scores: Vec<f64> = kept
            .iter()
            .map(|&m| scale * q.column(p).dot(&k.column(m)))
            .collect();
        for (weight, &m) in softmax(&scores).iter().zip(&kept) {
            for f in 0..v.nrows() {
                out[(f, p)] += weight * v[(f, m)];
            }
        }
    }
    out
}

/// `exp(x_i) / sum_j exp(x_j)`, shifted by the largest; all zeros where every score is -inf.
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: scores ln 1, ln 2, ln 5 weigh the values 1/8, 2/8, 5/8.
    #[test]
    fn weights_by_hand() {
        let q = DMatrix::from_row_slice(1, 2, &[1.0, 0.0]);
        let k = DMatrix::from_row_slice(1, 3, &[0.0, 2f64.ln(), 5f64.ln()]);
        let v = DMatrix::from_row_slice(2, 3, &[8.0, 16.0, 24.0, 0.0, 0.0, 8.0]);
        let out = attention(&q, &k, &v, 1.0, |_, _| true);
        // Rounding of a few units in the last place of numbers below 32.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-14, "{a} {b}");
        close(out[(0, 0)], (8.0 + 32.0 + 120.0) / 8.0);
        close(out[(1, 0)], 5.0);
        close(out[(0, 1)], 16.0);
        let causal = attention(&q, &k, &v, 1.0, |m, p| m <= p);
        close(causal[(0, 0)], 8.0);
        close(causal[(0, 1)], 12.0);
        let scaled = attention(&q, &k, &v, 2.0, |_, _| true);
        close(scaled[(0, 0)], (8.0 + 4.0 * 16.0 + 25.0 * 24.0) / 30.0);
    }

    #[test]
    fn nothing_admitted_gives_zero() {
        let one = DMatrix::from_element(1, 2, 3.0);
        assert_eq!(attention(&one, &one, &one, 1.0, |_, _| false).amax(), 0.0);
        assert_eq!(softmax(&[f64::NEG_INFINITY; 2]), [0.0, 0.0]);
        assert_eq!(softmax(&[f64::NEG_INFINITY, 700.0, 700.0]), [0.0, 0.5, 0.5]);
        assert!(softmax(&[]).is_empty());
    }
}
