//! The function units of PEs: what an element function's values are computed with.

use super::ops;
use crate::cascade::Function;
use einflow_spec::{NumberFormat, Rounding, with_rounding};

/// What computes an element function of one operand.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FunctionUnit {
    /// The function itself, rounded once.
    #[default]
    Exact,
    /// A polynomial by Horner's rule, each multiply-accumulate a product and then a sum in the accumulator's format,
    /// which the coefficients are rounded to as well.
    ///
    /// FuseMax (MICRO 2024) publishes "a 5th-order polynomial" of 6 sequential MACs: read here as one MAC a coefficient
    /// (the first adds the highest one to 0), Taylor's coefficients of the exponential, and no range reduction.
    Polynomial {
        /// Coefficients, of the power 0 first.
        coefficients: Vec<f64>,
        /// Whether the operand is brought near 0 first, which only an exponential can: `n = round(x log2 e)`,
        /// `r = x - n ln 2` by two multiply-accumulates, the polynomial in `r`, its value times `2^n` by an addition to the exponent.
        reduced: bool,
    },
}

impl FunctionUnit {
    /// The value of `function`, which has one operand, at `x`, computed in the accumulator's format.
    ///
    /// A polynomial is not evaluated at NaN, which stays NaN, nor at -inf: a masked point is not computed, the unit passes
    /// the function's own value on (0 for an exponential), so that masked scores are 0 whatever the polynomial. A reduced
    /// exponential is infinite past the format's largest number and 0 below its smallest. NaN for a function that has not one operand.
    pub fn apply(&self, function: Function, x: f64, accumulator: NumberFormat) -> f64 {
        let Some(exact) = ops::unary(function) else {
            return f64::NAN;
        };
        with_rounding!(accumulator, R => self.at::<R>(exact, x))
    }

    /// As [`FunctionUnit::apply`]; `exact` is the function.
    #[inline]
    pub(super) fn at<R: Rounding>(&self, exact: fn(f64) -> f64, x: f64) -> f64 {
        match self {
            FunctionUnit::Polynomial {
                coefficients,
                reduced,
            } if x > f64::NEG_INFINITY => {
                if *reduced {
                    exponential::<R>(coefficients, x)
                } else {
                    horner::<R>(coefficients, x)
                }
            }
            _ => R::round(exact(x)),
        }
    }
}

/// A product, then a sum.
#[inline(always)]
fn mac<R: Rounding>(a: f64, b: f64, sum: f64) -> f64 {
    R::round(R::round(a * b) + sum)
}

fn horner<R: Rounding>(coefficients: &[f64], x: f64) -> f64 {
    let mut highest_first = coefficients.iter().rev();
    let Some(highest) = highest_first.next() else {
        return 0.0;
    };
    // The first multiply-accumulate adds the highest coefficient to 0, exactly.
    highest_first.fold(R::round(*highest), |sum, c| mac::<R>(sum, x, R::round(*c)))
}

/// `exp(x)` for `x` above -inf.
fn exponential<R: Rounding>(coefficients: &[f64], x: f64) -> f64 {
    let format = R::FORMAT;
    let n = R::round(x * R::round(std::f64::consts::LOG2_E)).round_ties_even();
    // Beyond these the polynomial's value, near 1, is past every number of the format.
    if n > f64::from(format.max_exponent() + 2) {
        return f64::INFINITY;
    }
    if n < f64::from(format.min_exponent() - format.precision() as i32 - 2) {
        return 0.0;
    }
    let (high, low) = ln2(format);
    let r = mac::<R>(-n, low, mac::<R>(-n, high, x));
    R::round(libm::scalbn(horner::<R>(coefficients, r), n as i32))
}

/// ln 2 in two parts that are numbers of a format: the first so short that its product with every `n` above, of as many bits as the
/// exponent, is exact. In bf16 no part is: the 4 bits of its first one, half of all, do for `n` to 16, beyond which the operand itself
/// is coarser than 2^-5.
fn ln2(format: NumberFormat) -> (f64, f64) {
    let precision = format.precision();
    let bits = precision
        .saturating_sub(format.exponent_bits())
        .max(precision / 2);
    let scale = libm::scalbn(1.0, bits as i32);
    let high = (std::f64::consts::LN_2 * scale).floor() / scale;
    // The digits of ln 2 beyond a f64's, for a low part that is right in all of its own.
    const BEYOND: f64 = 2.319_046_813_846_299_6e-17;
    (high, format.round((std::f64::consts::LN_2 - high) + BEYOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taylor's coefficients, as in the accelerator files.
    fn taylor(reduced: bool) -> FunctionUnit {
        FunctionUnit::Polynomial {
            coefficients: vec![1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0],
            reduced,
        }
    }

    #[test]
    fn the_published_polynomial_is_right_near_zero_alone() {
        let at = |x, format| taylor(false).apply(Function::Exp, x, format);
        assert!((at(-20.0, NumberFormat::F64) + 21152.333).abs() < 1e-3);
        assert!((at(-20.0, NumberFormat::Bf16) + 21152.0).abs() < 21152.0 / 32.0);
        assert!((at(0.25, NumberFormat::F64) - libm::exp(0.25)).abs() < 1e-6);
        assert_eq!(at(0.0, NumberFormat::F16), 1.0);
    }

    #[test]
    fn each_product_and_each_sum_is_rounded() {
        // 1.0078125^2 = 1.01568..., which rounds to 1.015625 in bf16; and 256 + 1.015625 to 258 (ties and above up).
        let unit = FunctionUnit::Polynomial {
            coefficients: vec![256.0, 0.0, 1.0],
            reduced: false,
        };
        assert_eq!(
            unit.apply(Function::Tanh, 1.0078125, NumberFormat::Bf16),
            NumberFormat::Bf16.round(256.0 + 1.015625)
        );
        let third = FunctionUnit::Polynomial {
            coefficients: vec![1.0 / 3.0],
            reduced: false,
        };
        let found = third.apply(Function::Tanh, 5.0, NumberFormat::F16);
        assert_eq!(found, NumberFormat::F16.round(1.0 / 3.0));
    }

    #[test]
    fn masked_points_and_nan() {
        for unit in [FunctionUnit::Exact, taylor(false), taylor(true)] {
            for &format in NumberFormat::ALL {
                let at = |f, x| unit.apply(f, x, format);
                assert_eq!(at(Function::Exp, f64::NEG_INFINITY), 0.0);
                assert!(at(Function::Exp, f64::NAN).is_nan());
                assert_eq!(at(Function::Exp, f64::INFINITY), f64::INFINITY);
            }
        }
        let sum = FunctionUnit::Exact.apply(Function::Add, 1.0, NumberFormat::F64);
        assert!(sum.is_nan());
        let tanh = taylor(false).apply(Function::Tanh, f64::NEG_INFINITY, NumberFormat::F64);
        assert_eq!(tanh, -1.0);
    }

    /// The largest relative error over operands from `from` to 0 that are numbers of the format.
    fn worst(format: NumberFormat, from: f64) -> f64 {
        let unit = taylor(true);
        let errors = (0..=20_000).map(|i| {
            let x = format.round(from * f64::from(i) / 20_000.0);
            let exact = libm::exp(x);
            (unit.apply(Function::Exp, x, format) - exact).abs() / exact
        });
        errors.fold(0.0, f64::max)
    }

    /// The polynomial's own error at ln 2 / 2 is 2.6e-6; f32 adds a few roundings of 6e-8, whatever the operand.
    #[test]
    fn the_reduced_exponential_is_right_everywhere() {
        let f64_error = worst(NumberFormat::F64, -700.0);
        let f32_error = worst(NumberFormat::F32, -87.0);
        assert!((2e-6..3.5e-6).contains(&f64_error), "{f64_error}");
        assert!((2e-6..4e-6).contains(&f32_error), "{f32_error}");
        let f16_error = worst(NumberFormat::F16, -9.7);
        assert!(
            f16_error < 6.0 * NumberFormat::F16.unit_roundoff(),
            "{f16_error}"
        );
        // In bf16 n ln 2 is rounded to 8 bits: an operand of 8 is known to 2^-6 only.
        let bf16_error = worst(NumberFormat::Bf16, -10.0);
        assert!(bf16_error < 0.06, "{bf16_error}");
    }

    #[test]
    fn overflow_and_underflow() {
        let at = |x, format| taylor(true).apply(Function::Exp, x, format);
        assert_eq!(at(-1e300, NumberFormat::F64), 0.0);
        assert_eq!(at(f64::MAX, NumberFormat::F64), f64::INFINITY);
        assert_eq!(at(-800.0, NumberFormat::F64), 0.0);
        assert_eq!(at(-104.0, NumberFormat::F32), 0.0);
        assert_eq!(at(89.0, NumberFormat::F32), f64::INFINITY);
        assert_eq!(at(-18.0, NumberFormat::F16), 0.0);
        assert_eq!(at(11.5, NumberFormat::F16), f64::INFINITY);
        // Subnormal numbers are kept.
        let small = at(-100.0, NumberFormat::F32);
        assert!(small > 0.0 && small < 1e-40, "{small}");
        assert!(at(-740.0, NumberFormat::F64) > 0.0);
    }

    #[test]
    fn the_parts_of_ln2() {
        for &format in NumberFormat::ALL {
            let (high, low) = ln2(format);
            assert_eq!((format.round(high), format.round(low)), (high, low));
            let error = (high - std::f64::consts::LN_2 + low).abs();
            assert!(error <= low * format.unit_roundoff() + 3e-17, "{format}");
        }
    }
}
