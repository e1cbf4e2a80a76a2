//! The element functions on `f64`; the caller rounds.

use crate::cascade::Function;

/// The function of one operand, if `function` is one.
///
/// At -inf, `silu` and `gelu` have their limit 0.
pub fn unary(function: Function) -> Option<fn(f64) -> f64> {
    Some(match function {
        Function::Neg => |x| -x,
        Function::Abs => f64::abs,
        Function::Exp => libm::exp,
        Function::Exp2 => libm::exp2,
        Function::Log => libm::log,
        Function::Sqrt => f64::sqrt,
        Function::Rsqrt => |x| 1.0 / x.sqrt(),
        Function::Sigmoid => |x| 1.0 / (1.0 + libm::exp(-x)),
        Function::Tanh => libm::tanh,
        Function::Relu => |x| max(x, 0.0),
        Function::Silu => |x| {
            if x == f64::NEG_INFINITY {
                0.0
            } else {
                x / (1.0 + libm::exp(-x))
            }
        },
        // x Phi(x); erfc keeps the digits of the left tail.
        Function::Gelu => |x| {
            if x == f64::NEG_INFINITY {
                0.0
            } else {
                0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2)
            }
        },
        _ => return None,
    })
}

/// The function of two operands, if `function` is one.
///
/// `-inf - -inf` is -inf: the exponential of a masked score less a fully masked row's maximum is 0.
/// A maximum or minimum with NaN is NaN.
pub fn binary(function: Function) -> Option<fn(f64, f64) -> f64> {
    Some(match function {
        Function::Add => |a, b| a + b,
        Function::Sub => sub,
        Function::Mul => |a, b| a * b,
        Function::Div => |a, b| a / b,
        Function::Max => max,
        Function::Min => min,
        Function::Pow => libm::pow,
        _ => return None,
    })
}

#[inline]
pub(super) fn sub(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY && b == f64::NEG_INFINITY {
        a
    } else {
        a - b
    }
}

#[inline]
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

#[inline]
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a < b || a.is_nan() { a } else { b }
}
