//! Causal linear attention with decay (Sun et al., "Retentive Network", 2023, equation 5).

use nalgebra::DMatrix;

/// `sum over m <= p of decay^(p - m) (q_p . k_m) v_m`: the quadratic sum, with neither a recurrent
/// state nor chunks. `q` and `k` are E x M, `v` is F x M; the result is F x M.
pub fn linear_attention(
    q: &DMatrix<f64>,
    k: &DMatrix<f64>,
    v: &DMatrix<f64>,
    decay: f64,
) -> DMatrix<f64> {
    let mut out = DMatrix::zeros(v.nrows(), q.ncols());
    for p in 0..q.ncols() {
        for m in 0..=p.min(k.ncols().saturating_sub(1)) {
            let weight = decay.powf((p - m) as f64) * q.column(p).dot(&k.column(m));
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

    /// Ones everywhere: the partial sums of the geometric series, 1, 3/2, 7/4 (exact in binary).
    #[test]
    fn a_geometric_series() {
        let one = DMatrix::from_element(1, 3, 1.0);
        let out = linear_attention(&one, &one, &one, 0.5);
        assert_eq!(out.as_slice(), [1.0, 1.5, 1.75]);
        assert_eq!(
            linear_attention(&one, &one, &one, 1.0).as_slice(),
            [1.0, 2.0, 3.0]
        );
    }
}
