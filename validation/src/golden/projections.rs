//! The linear projections of a transformer layer.

use nalgebra::DMatrix;

/// `weight^T x`: tokens `x` (D x P, one token a column) through a weight D x E; the result is E x P.
pub fn project(weight: &DMatrix<f64>, x: &DMatrix<f64>) -> DMatrix<f64> {
    let mut out = DMatrix::zeros(weight.ncols(), x.ncols());
    for p in 0..x.ncols() {
        for e in 0..weight.ncols() {
            out[(e, p)] = weight.column(e).dot(&x.column(p));
        }
    }
    out
}

/// The output projection: the sum over heads of `weight_h^T x_h`, with a weight F x D and an
/// attention output F x P for each head; the result is D x P.
pub fn merge_heads(weights: &[DMatrix<f64>], heads: &[DMatrix<f64>]) -> Option<DMatrix<f64>> {
    weights
        .iter()
        .zip(heads)
        .map(|(w, x)| project(w, x))
        .reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let weight = DMatrix::from_row_slice(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let x = DMatrix::from_row_slice(2, 1, &[1.0, 10.0]);
        assert_eq!(project(&weight, &x).as_slice(), [41.0, 52.0, 63.0]);
        let both = merge_heads(&[weight.clone(), weight], &[x.clone(), x]);
        assert_eq!(
            both.as_ref().map(DMatrix::as_slice),
            Some([82.0, 104.0, 126.0].as_slice())
        );
        assert_eq!(merge_heads(&[], &[]), None);
    }
}
