//! One decode step of an attention layer on one device.

use nalgebra::{DMatrix, DVector};

use super::grouped::grouped_query;

/// The weights of a layer, D rows for queries, keys and values, H * E for the output; a head's columns (or rows) lie
/// together.
pub struct Weights {
    /// D x (H * E).
    pub queries: DMatrix<f64>,
    /// D x (G * E).
    pub keys: DMatrix<f64>,
    /// D x (G * E).
    pub values: DMatrix<f64>,
    /// (H * E) x D.
    pub output: DMatrix<f64>,
}

/// The output of one request: its new token's hidden state `x` is projected, its key and value join those cached, and every
/// query head attends to all of them, scores times `1 / sqrt(E)`.
///
/// `keys` and `values` hold a row for each cached token, G * E wide; `head` is E. The result has D elements.
pub fn decode(
    x: &DVector<f64>,
    weights: &Weights,
    keys: &DMatrix<f64>,
    values: &DMatrix<f64>,
    head: usize,
) -> DVector<f64> {
    let appended = |cached: &DMatrix<f64>, weight: &DMatrix<f64>| {
        let row = weight.tr_mul(x).transpose();
        let mut all = cached.clone().insert_row(cached.nrows(), 0.0);
        all.row_mut(cached.nrows()).copy_from(&row);
        heads(&all, head)
    };
    let query = weights.queries.tr_mul(x).transpose();
    let query = DMatrix::from_row_slice(1, query.len(), query.as_slice());
    let (keys, values) = (
        appended(keys, &weights.keys),
        appended(values, &weights.values),
    );
    let scale = 1.0 / (head as f64).sqrt();
    let out = grouped_query(&heads(&query, head), &keys, &values, scale, |_, _| true);
    let joined: Vec<f64> = out.iter().flat_map(|head| head.iter().copied()).collect();
    weights.output.tr_mul(&DVector::from_vec(joined))
}

/// Rows of tokens as a matrix E x tokens for each head.
fn heads(rows: &DMatrix<f64>, head: usize) -> Vec<DMatrix<f64>> {
    (0..rows.ncols() / head)
        .map(|h| rows.columns(h * head, head).transpose())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two query heads share one key head of width 1. The new key is 0 and its value 6; the old key is ln 2 times the
    /// first head's query and 0 for the second, whose query is 0; its value is 3.
    #[test]
    fn by_hand() {
        let row = |x: &[f64]| DMatrix::from_row_slice(1, x.len(), x);
        let weights = Weights {
            queries: row(&[1.0, 0.0]),
            keys: row(&[0.0]),
            values: row(&[6.0]),
            output: DMatrix::from_row_slice(2, 1, &[1.0, 10.0]),
        };
        let x = DVector::from_element(1, 1.0);
        let out = decode(&x, &weights, &row(&[2f64.ln()]), &row(&[3.0]), 1);
        // 2/3 of 3 and 1/3 of 6; then the mean, times 10.
        assert!((out[0] - (4.0 + 45.0)).abs() < 1e-13, "{}", out[0]);
    }
}
