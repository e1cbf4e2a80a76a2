//! Softmax attention in parts: what each part of the keys contributes, and all of them together.

use nalgebra::DMatrix;

/// What attention over some of the keys leaves, for each of P queries.
pub struct Part {
    /// The largest score; -inf where there is none.
    pub maxima: Vec<f64>,
    /// `sum_m exp(s_m - maximum)`.
    pub denominators: Vec<f64>,
    /// `sum_m exp(s_m - maximum) v_m`: F x P.
    pub numerators: DMatrix<f64>,
}

/// The part of all keys given: `q` is E x P, `k` E x M, `v` F x M.
pub fn part(q: &DMatrix<f64>, k: &DMatrix<f64>, v: &DMatrix<f64>, scale: f64) -> Part {
    let scores = k.transpose() * q * scale;
    let mut part = Part {
        maxima: Vec::new(),
        denominators: Vec::new(),
        numerators: DMatrix::zeros(v.nrows(), q.ncols()),
    };
    for (p, scores) in scores.column_iter().enumerate() {
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for (m, score) in scores.iter().enumerate() {
            if *score > f64::NEG_INFINITY {
                let weight = (score - largest).exp();
                sum += weight;
                let mut numerator = part.numerators.column_mut(p);
                numerator += weight * v.column(m);
            }
        }
        part.maxima.push(largest);
        part.denominators.push(sum);
    }
    part
}

/// Attention from its parts, each the mean of its values weighted by its share of `sum exp(score)`.
///
/// The shares are taken from logarithms: `exp(l_i - log sum_j exp(l_j))` with `l_i = maximum + ln(denominator)`. Parts
/// without a key have none; without any key the result is 0.
pub fn merged(parts: &[Part]) -> DMatrix<f64> {
    let Some(first) = parts.first() else {
        return DMatrix::zeros(0, 0);
    };
    let mut out = DMatrix::zeros(first.numerators.nrows(), first.numerators.ncols());
    for p in 0..out.ncols() {
        let kept: Vec<(f64, &Part)> = parts
            .iter()
            .filter(|part| part.denominators[p] > 0.0)
            .map(|part| (part.maxima[p] + part.denominators[p].ln(), part))
            .collect();
        // log(exp a + exp b) = a + log(1 + exp(b - a)) with a the larger.
        let total = kept.iter().map(|(log, _)| *log).reduce(|a, b| {
            let (a, b) = (a.max(b), a.min(b));
            a + (b - a).exp().ln_1p()
        });
        for (log, part) in &kept {
            let share = (log - total.unwrap_or(*log)).exp();
            let mut sum = out.column_mut(p);
            sum += share / part.denominators[p] * part.numerators.column(p);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores ln 1, ln 2 and ln 5 in parts of two and one: weights 1/8, 2/8, 5/8.
    #[test]
    fn two_parts_by_hand() {
        let q = DMatrix::from_element(1, 1, 1.0);
        let row = |x: &[f64]| DMatrix::from_row_slice(1, x.len(), x);
        let old = part(&q, &row(&[0.0, 2f64.ln()]), &row(&[8.0, 16.0]), 1.0);
        // Rounding of a few units in the last place of numbers below 32.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-14, "{a} {b}");
        close(old.maxima[0], 2f64.ln());
        close(old.denominators[0], 1.5);
        close(old.numerators[0], 4.0 + 16.0);
        let new = part(&q, &row(&[5f64.ln()]), &row(&[24.0]), 1.0);
        close(merged(&[old, new])[0], (8.0 + 32.0 + 120.0) / 8.0);
    }

    #[test]
    fn far_maxima_and_empty_parts() {
        let q = DMatrix::from_element(1, 1, 1.0);
        let one = |k: f64, v: f64| {
            let of = |x| DMatrix::from_element(1, 1, x);
            part(&q, &of(k), &of(v), 1.0)
        };
        assert_eq!(merged(&[one(2000.0, 3.0), one(-2000.0, 5.0)])[0], 3.0);
        // Logarithms near 2000 round by 1e-13.
        let mean = merged(&[one(-2000.0, 3.0), one(-2000.0, 5.0)])[0];
        assert!((mean - 4.0).abs() < 1e-12, "{mean}");
        let none = || one(f64::NEG_INFINITY, 7.0);
        assert_eq!(merged(&[none(), one(-2000.0, 5.0)])[0], 5.0);
        assert_eq!(merged(&[none(), none()])[0], 0.0);
        assert_eq!(none().maxima, [f64::NEG_INFINITY]);
        assert_eq!(merged(&[]).len(), 0);
    }
}
