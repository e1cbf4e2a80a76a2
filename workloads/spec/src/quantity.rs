//! Numbers with units, as types.

use std::{fmt, iter::Sum, ops};

/// A number with a unit.
pub trait Quantity {
    /// The number.
    fn number(&self) -> f64;
}

impl<Q: Quantity> Quantity for crate::At<Q> {
    fn number(&self) -> f64 {
        self.value.number()
    }
}

impl Quantity for f64 {
    fn number(&self) -> f64 {
        *self
    }
}

macro_rules! float_quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
        pub struct $name(pub f64);

        impl Quantity for $name {
            fn number(&self) -> f64 {
                self.0
            }
        }

        impl ops::Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl ops::Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self(0.0), |a, b| a + b)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)?;
                f.write_str(concat!(" ", $unit))
            }
        }
    };
}

float_quantity!(
    /// Energy, in picojoules.
    Picojoules, "pJ"
);
float_quantity!(
    /// Area, in square micrometres.
    SquareMicrometres, "um^2"
);
float_quantity!(
    /// Time, in seconds.
    Seconds, "s"
);
float_quantity!(
    /// Frequency, in hertz.
    Hertz, "Hz"
);
float_quantity!(
    /// Bandwidth, in bytes a second.
    BytesPerSecond, "B/s"
);

float_quantity!(
    /// Arithmetic, in operations a second.
    OperationsPerSecond, "op/s"
);
float_quantity!(
    /// Energy, in joules.
    Joules, "J"
);
float_quantity!(
    /// Power, in watts.
    Watts, "W"
);
float_quantity!(
    /// Price, in US dollars an hour.
    DollarsPerHour, "$/h"
);

macro_rules! count_quantity {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// Sum; `None` on overflow.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Product with a number; `None` on overflow.
            pub fn checked_mul(self, factor: $inner) -> Option<Self> {
                self.0.checked_mul(factor).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)?;
                f.write_str(concat!(" ", $unit))
            }
        }
    };
}

count_quantity!(
    /// Clock cycles.
    Cycles, u128, "cycles"
);
count_quantity!(
    /// Size or traffic, in bytes.
    Bytes, u128, "B"
);
count_quantity!(
    /// Size or traffic, in words of the accelerator's number format.
    Words, u128, "words"
);

impl Cycles {
    /// Duration at a clock frequency.
    pub fn at(self, clock: Hertz) -> Seconds {
        Seconds(self.0 as f64 / clock.0)
    }
}

impl Bytes {
    /// Time to move these bytes.
    pub fn over(self, bandwidth: BytesPerSecond) -> Seconds {
        Seconds(self.0 as f64 / bandwidth.0)
    }
}
