//! The FuseMax paper's teaching example (section III): `Z = (sum A B) (sum A)`.

use nalgebra::DVector;

/// The dot product of `a` and `b`, times the sum of `a`; both have length K.
pub fn product_of_sums(a: &DVector<f64>, b: &DVector<f64>) -> f64 {
    a.dot(b) * a.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let a = DVector::from_row_slice(&[1.0, 2.0, -4.0]);
        let b = DVector::from_row_slice(&[3.0, 5.0, 1.0]);
        assert_eq!(product_of_sums(&a, &b), -9.0);
    }
}
