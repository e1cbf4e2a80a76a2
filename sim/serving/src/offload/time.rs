//! Whole picoseconds: what is simulated twice from the same state takes the same time, whenever it starts.

use std::fmt;

use einflow_spec::quantity::Seconds;

/// A time or a duration in picoseconds; 2^64 of them are 213 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ps(pub u64);

const SECOND: f64 = 1e12;

impl Ps {
    /// No time.
    pub const ZERO: Self = Self(0);
    /// The end of time.
    pub const NEVER: Self = Self(u64::MAX);

    /// Rounded; `None` below 0 or beyond 213 days.
    pub fn of(time: Seconds) -> Option<Self> {
        let ps = (time.0 * SECOND).round();
        (0.0..1.8e19).contains(&ps).then_some(Self(ps as u64))
    }

    /// As seconds.
    pub fn seconds(self) -> Seconds {
        Seconds(self.0 as f64 / SECOND)
    }

    /// As milliseconds.
    pub fn ms(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// Later by `other`; the end of time where there is none so late.
    #[must_use]
    pub fn after(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// From `other` to here; no time if it is later.
    #[must_use]
    pub fn since(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So often.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl fmt::Display for Ps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ps", self.0)
    }
}
