//! Attention over the best keys only (Gupta et al., "Memory-efficient Transformers via Top-k
//! Attention", 2021; retrieval attention selects the same way).

use std::cmp::Ordering;

use nalgebra::DMatrix;

use super::softmax::softmax;

/// The `count` keys of largest `q_p . k_m` for each query (a column of `q`), best first; of equal scores the
/// earlier key. A score of -inf is a score.
pub fn select(q: &DMatrix<f64>, k: &DMatrix<f64>, count: usize) -> Vec<Vec<usize>> {
    (0..q.ncols())
        .map(|p| {
            let score = |m: usize| q.column(p).dot(&k.column(m));
            let mut order: Vec<usize> = (0..k.ncols()).collect();
            // A stable sort leaves the earlier of two equals in front.
            order.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal));
            order.truncate(count);
            order
        })
        .collect()
}

/// Softmax attention of each query over its `count` best keys.
///
/// `q` is E x P, `k` is E x M, `v` is F x M; the result is F x P.
pub fn topk_attention(
    q: &DMatrix<f64>,
    k: &DMatrix<f64>,
    v: &DMatrix<f64>,
    count: usize,
    scale: f64,
) -> DMatrix<f64> {
    let mut out = DMatrix::zeros(v.nrows(), q.ncols());
    for (p, chosen) in select(q, k, count).iter().enumerate() {
        let scores: Vec<f64> = chosen
            .iter()
            .map(|&m| scale * q.column(p).dot(&k.column(m)))
            .collect();
        for (weight, &m) in softmax(&scores).iter().zip(chosen) {
            for f in 0..v.nrows() {
                out[(f, p)] += weight * v[(f, m)];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_two_by_hand() {
        let q = DMatrix::from_row_slice(1, 2, &[1.0, -1.0]);
        let k = DMatrix::from_row_slice(1, 4, &[1.0, 3.0, 2.0, 3.0]);
        assert_eq!(select(&q, &k, 2), [[1, 3], [0, 2]]);
        let v = DMatrix::from_row_slice(1, 4, &[100.0, 2.0, 100.0, 4.0]);
        assert_eq!(topk_attention(&q, &k, &v, 2, 1.0)[(0, 0)], 3.0);
        // More than there are keys: plain attention.
        let all = topk_attention(&q, &k, &v, 9, 1.0);
        let plain = super::super::softmax::attention(&q, &k, &v, 1.0, |_, _| true);
        assert!((all - plain).amax() < 1e-12);
    }
}
