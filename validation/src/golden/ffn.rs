//! Feed-forward layers of a transformer.

use nalgebra::DMatrix;

use super::projections::project;

/// `max(x, 0)`.
pub fn relu(x: f64) -> f64 {
    x.max(0.0)
}

/// `x Phi(x)`, with the normal distribution's cumulative function (Hendrycks and Gimpel, 2016), the
/// exact form and not its approximation by tanh.
pub fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// `x / (1 + e^-x)` (also called swish).
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The error function by its series of positive terms,
/// `2/sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (1 3 5 ... (2n+1))` (Abramowitz and Stegun 7.1.6).
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        // 1 - erf(6) is 2e-17, below half a unit in the last place of 1.
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    let mut odd = 1.0;
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// `down^T activation(up^T x)`: `x` is D x P, `up` D x S, `down` S x D (S the hidden size); the
/// result is D x P.
pub fn ffn(
    x: &DMatrix<f64>,
    up: &DMatrix<f64>,
    down: &DMatrix<f64>,
    activation: impl Fn(f64) -> f64,
) -> DMatrix<f64> {
    project(down, &project(up, x).map(activation))
}

/// `down^T (silu(gate^T x) * (up^T x))`, the product by element (SwiGLU; Shazeer, 2020): `x` is
/// D x P, `gate` and `up` are D x S, `down` is S x D; the result is D x P.
pub fn gated_ffn(
    x: &DMatrix<f64>,
    gate: &DMatrix<f64>,
    up: &DMatrix<f64>,
    down: &DMatrix<f64>,
) -> DMatrix<f64> {
    let gated = project(gate, x).map(silu).component_mul(&project(up, x));
    project(down, &gated)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Abramowitz and Stegun, table 7.1, to its ten decimals.
    #[test]
    fn erf_of_the_tables() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.5204998778),
            (1.0, 0.8427007929),
            (2.0, 0.9953222650),
            (-1.0, -0.8427007929),
        ] {
            assert!((erf(x) - expected).abs() < 6e-11, "{x}: {}", erf(x));
        }
        assert_eq!(erf(9.0), 1.0);
    }

    #[test]
    fn layers_by_hand() {
        let x = DMatrix::from_row_slice(2, 1, &[1.0, -2.0]);
        let up = DMatrix::from_row_slice(2, 2, &[1.0, 0.0, 0.0, 1.0]);
        let down = DMatrix::from_row_slice(2, 2, &[1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(ffn(&x, &up, &down, relu).as_slice(), [1.0, 10.0]);
        // A gate of ln 3 opens it by 3/4: silu(ln 3) = 3/4 ln 3.
        let one = DMatrix::from_element(1, 1, 1.0);
        let gate = DMatrix::from_element(1, 1, 3f64.ln());
        let out = gated_ffn(&one, &gate, &DMatrix::from_element(1, 1, 4.0), &one);
        assert!((out[(0, 0)] - 3.0 * 3f64.ln()).abs() < 1e-14);
    }
}
