//! Grouped-query attention (Ainslie et al., 2023): several query heads share one head of keys and
//! values.

use nalgebra::DMatrix;

use super::softmax::attention;

/// Softmax attention of each query head `h` over the keys and values of head `h / group`, where
/// `group = q.len() / k.len()` query heads share one.
///
/// `q` has a matrix E x P for each query head, `k` (E x M) and `v` (F x M) one for each shared
/// head; the result has F x P for each query head.
pub fn grouped_query(
    q: &[DMatrix<f64>],
    k: &[DMatrix<f64>],
    v: &[DMatrix<f64>],
    scale: f64,
    allowed: impl Fn(usize, usize) -> bool,
) -> Vec<DMatrix<f64>> {
    let group = q.len().div_ceil(k.len().max(1));
    q.iter()
        .enumerate()
        .map(|(h, q)| attention(q, &k[h / group], &v[h / group], scale, &allowed))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key a head: every weight is 1, so each query head returns its shared head's value.
    #[test]
    fn heads_share_by_hand() {
        let q = vec![DMatrix::from_element(1, 1, 1.0); 4];
        let k = vec![DMatrix::from_element(1, 1, 1.0); 2];
        let v = [
            DMatrix::from_element(1, 1, 5.0),
            DMatrix::from_element(1, 1, 7.0),
        ];
        let out = grouped_query(&q, &k, &v, 1.0, |_, _| true);
        let values: Vec<f64> = out.iter().map(|o| o[(0, 0)]).collect();
        assert_eq!(values, [5.0, 5.0, 7.0, 7.0]);
    }
}
