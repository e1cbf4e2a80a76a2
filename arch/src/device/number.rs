//! Numbers that a law's formula is evaluated in.

use std::ops::{Add, Div, Mul, Sub};

/// What a formula needs of a number: a value, or a value with its slopes.
pub trait Number:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Mul<f64, Output = Self>
{
    /// A number that no parameter bears on.
    fn of(value: f64) -> Self;

    /// Without slopes.
    fn value(self) -> f64;

    /// To a whole power.
    #[must_use]
    fn powi(self, power: i32) -> Self;

    /// To any power; of a number above 0.
    #[must_use]
    fn powf(self, power: f64) -> Self;
}

impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn value(self) -> f64 {
        self
    }

    fn powi(self, power: i32) -> Self {
        f64::powi(self, power)
    }

    fn powf(self, power: f64) -> Self {
        f64::powf(self, power)
    }
}

/// A value and its slope along each of up to `N` parameters (forward-mode differentiation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sloped<const N: usize> {
    /// The value.
    pub value: f64,
    /// What it gains with each parameter, to first order.
    pub slopes: [f64; N],
}

impl<const N: usize> Sloped<N> {
    /// A function of one number, and of two: its value, and its slope along each.
    fn chain(self, value: f64, slope: f64) -> Self {
        let slopes = self.slopes.map(|s| s * slope);
        Self { value, slopes }
    }

    fn join(self, slope: f64, other: Self, along: f64, value: f64) -> Self {
        let slopes = std::array::from_fn(|i| self.slopes[i] * slope + other.slopes[i] * along);
        Self { value, slopes }
    }
}

impl<const N: usize> Number for Sloped<N> {
    fn of(value: f64) -> Self {
        let slopes = [0.0; N];
        Self { value, slopes }
    }

    fn value(self) -> f64 {
        self.value
    }

    fn powi(self, power: i32) -> Self {
        let slope = f64::from(power) * self.value.powi(power - 1);
        self.chain(self.value.powi(power), slope)
    }

    fn powf(self, power: f64) -> Self {
        let value = self.value.powf(power);
        self.chain(value, power * value / self.value)
    }
}

impl<const N: usize> Add for Sloped<N> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.join(1.0, other, 1.0, self.value + other.value)
    }
}

impl<const N: usize> Sub for Sloped<N> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.join(1.0, other, -1.0, self.value - other.value)
    }
}

impl<const N: usize> Mul for Sloped<N> {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        self.join(other.value, other, self.value, self.value * other.value)
    }
}

impl<const N: usize> Div for Sloped<N> {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        self.join(1.0 / other.value, other, -value / other.value, value)
    }
}

impl<const N: usize> Mul<f64> for Sloped<N> {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        self.chain(self.value * factor, factor)
    }
}
