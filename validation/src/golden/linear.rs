//! Causal linear attention with a decay for each token (constant: Sun et al., "Retentive Network",
//! 2023, equation 5; dependent on the token: Dao and Gu, "Transformers are SSMs", 2024, the matrix form).

use nalgebra::DMatrix;

/// `sum over m <= p of a_(m+1) ... a_p (q_p . k_m) v_m` with `a_t = exp(log_decay[t])`: the quadratic sum,
/// with neither a recurrent state nor chunks.
///
/// `q` and `k` are E x M, `v` is F x M, `log_decay` has M elements; the result is F x M.
pub fn linear_attention(
    q: &DMatrix<f64>,
    k: &DMatrix<f64>,
    v: &DMatrix<f64>,
    log_decay: &[f64],
) -> DMatrix<f64> {
    let mut out = DMatrix::zeros(v.nrows(), q.ncols());
    for p in 0..q.ncols() {
        for m in 0..=p {
            let decay: f64 = log_decay[m + 1..=p].iter().map(|g| g.exp()).product();
            let weight = decay * q.column(p).dot(&k.column(m));
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

    /// Ones everywhere: with a decay of 1/2 the partial sums of the geometric series, 1, 3/2, 7/4.
    #[test]
    fn by_hand() {
        let one = DMatrix::from_element(1, 3, 1.0);
        let check = |log_decay: [f64; 3], expected: [f64; 3]| {
            let out = linear_attention(&one, &one, &one, &log_decay);
            // A few units in the last place of numbers below 4.
            assert!(
                out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14),
                "{out}"
            );
        };
        check([-(2f64.ln()); 3], [1.0, 1.5, 1.75]);
        check([0.0; 3], [1.0, 2.0, 3.0]);
        // The first token's decay meets an empty past; the last one's alone counts for the last.
        check([-9.0, 0.0, -(4f64.ln())], [1.0, 2.0, 1.5]);
    }
}
