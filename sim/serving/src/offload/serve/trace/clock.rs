//! Times of a trace, in nanoseconds of its own clock: dates differ in more digits than a float has.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// The latest time in seconds: far beyond any clock, and its nanoseconds far from overflow.
const LATEST: f64 = 1e20;

/// What a number of a trace's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds; or it is a date.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl Unit {
    /// Decimal digits of it that are nanoseconds.
    fn digits(self) -> usize {
        match self {
            Self::Seconds => 9,
            Self::Milliseconds => 6,
            Self::Nanoseconds => 0,
        }
    }

    /// What is read.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Seconds => "a time in seconds, or a date",
            Self::Milliseconds => "a time in milliseconds",
            Self::Nanoseconds => "a time in nanoseconds",
        }
    }
}

/// A number, or a date in place of seconds; none where it is neither, or out of range.
pub(super) fn nanoseconds(text: &str, unit: Unit) -> Option<i128> {
    if let Ok(number) = text.parse::<f64>() {
        let seconds = number * 10f64.powi(unit.digits() as i32 - 9);
        if !(seconds.is_finite() && seconds.abs() <= LATEST) {
            return None;
        }
        // Digits as written, down to nanoseconds.
        return exact(text, unit.digits()).or(Some((seconds * 1e9).round() as i128));
    }
    if unit != Unit::Seconds {
        return None;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_nanosecond());
    }
    // Without a time zone: all of a file are in the same one.
    let at: DateTime = text.parse().ok()?;
    let at = TimeZone::UTC.to_timestamp(at).ok()?;
    Some(at.as_nanosecond())
}

/// A plain decimal number times ten to a power.
fn exact(text: &str, power: usize) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(part) || whole.len() > 20 {
        return None;
    }
    let part = &part[..part.len().min(power)];
    let padded = format!("{whole}{part:0<power$}");
    let value: i128 = padded.parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::{Unit, nanoseconds};

    #[test]
    fn seconds_milliseconds_and_dates() {
        assert_eq!(nanoseconds("1.5", Unit::Seconds), Some(1_500_000_000));
        assert_eq!(nanoseconds("-0.25", Unit::Seconds), Some(-250_000_000));
        assert_eq!(
            nanoseconds("1699000000.123456789", Unit::Seconds),
            Some(1_699_000_000_123_456_789)
        );
        let longer = nanoseconds("1699000000.1234567891", Unit::Seconds);
        assert_eq!(longer, Some(1_699_000_000_123_456_789));
        assert_eq!(nanoseconds("3052", Unit::Milliseconds), Some(3_052_000_000));
        assert_eq!(nanoseconds("1e3", Unit::Seconds), Some(1_000_000_000_000));
        // Azure writes seven digits, and in 2024 an offset: 18:15:46.68059 of that day is 1 700 158 546.68059 s.
        let plain = nanoseconds("2023-11-16 18:15:46.6805900", Unit::Seconds);
        assert_eq!(plain, Some(1_700_158_546_680_590_000));
        assert_eq!(
            nanoseconds("2023-11-16 20:15:46.6805900+02:00", Unit::Seconds),
            plain
        );
        assert_eq!(nanoseconds("inf", Unit::Seconds), None);
        assert_eq!(nanoseconds("1e300", Unit::Seconds), None);
        assert_eq!(nanoseconds("yesterday", Unit::Seconds), None);
        assert_eq!(nanoseconds("2023-11-16 18:15:46", Unit::Milliseconds), None);
    }
}
