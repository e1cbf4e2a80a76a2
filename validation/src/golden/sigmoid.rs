//! Sigmoid attention (Ramapuram et al., 2024): each weight by itself, without a normaliser.

use nalgebra::DMatrix;

/// `sum_m sigmoid(scale * q_p . k_m + bias) v_m`; the paper's bias is `-ln M`.
///
/// `q` is E x P, `k` is E x M, `v` is F x M; the result is F x P.
pub fn sigmoid_attention(
    q: &DMatrix<f64>,
    k: &DMatrix<f64>,
    v: &DMatrix<f64>,
    scale: f64,
    bias: f64,
) -> DMatrix<f64> {
    let weights = (k.transpose() * q).map(|score| 1.0 / (1.0 + (-(scale * score + bias)).exp()));
    v * weights
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores ln 3 and -ln 3 give the weights 3/4 and 1/4.
    #[test]
    fn weights_by_hand() {
        let q = DMatrix::from_element(1, 1, 1.0);
        let k = DMatrix::from_row_slice(1, 2, &[3f64.ln(), -(3f64.ln())]);
        let v = DMatrix::from_row_slice(1, 2, &[4.0, 8.0]);
        let out = sigmoid_attention(&q, &k, &v, 1.0, 0.0);
        // A few units in the last place of 5.
        assert!((out[(0, 0)] - 5.0).abs() < 1e-14);
        // A bias of ln 3 makes odds of 9 and 1.
        let out = sigmoid_attention(&q, &k, &v, 1.0, 3f64.ln());
        assert!((out[(0, 0)] - (0.9 * 4.0 + 0.5 * 8.0)).abs() < 1e-14);
    }
}
