//! Times of a trace, in nanoseconds of its own clock: dates differ in more digits than a float has.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// The latest time in seconds: far beyond any clock, and its nanoseconds far from overflow.
const LATEST: f64 = 1e20;

/// A number of seconds or milliseconds, or a date; none where it is neither, or out of range.
pub(super) fn nanoseconds(text: &str, milliseconds: bool) -> Option<i128> {
    if let Ok(number) = text.parse::<f64>() {
        let unit = if milliseconds { 1e-3 } else { 1.0 };
        let seconds = number * unit;
        if !(seconds.is_finite() && seconds.abs() <= LATEST) {
            return None;
        }
        // Digits as written, down to nanoseconds.
        return exact(text, if milliseconds { 6 } else { 9 })
            .or(Some((seconds * 1e9).round() as i128));
    }
    if milliseconds {
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
    use super::nanoseconds;

    #[test]
    fn seconds_milliseconds_and_dates() {
        assert_eq!(nanoseconds("1.5", false), Some(1_500_000_000));
        assert_eq!(nanoseconds("-0.25", false), Some(-250_000_000));
        assert_eq!(
            nanoseconds("1699000000.123456789", false),
            Some(1_699_000_000_123_456_789)
        );
        let longer = nanoseconds("1699000000.1234567891", false);
        assert_eq!(longer, Some(1_699_000_000_123_456_789));
        assert_eq!(nanoseconds("3052", true), Some(3_052_000_000));
        assert_eq!(nanoseconds("1e3", false), Some(1_000_000_000_000));
        // Azure writes seven digits, and in 2024 an offset: 18:15:46.68059 of that day is 1 700 158 546.68059 s.
        let plain = nanoseconds("2023-11-16 18:15:46.6805900", false);
        assert_eq!(plain, Some(1_700_158_546_680_590_000));
        assert_eq!(
            nanoseconds("2023-11-16 20:15:46.6805900+02:00", false),
            plain
        );
        assert_eq!(nanoseconds("inf", false), None);
        assert_eq!(nanoseconds("1e300", false), None);
        assert_eq!(nanoseconds("yesterday", false), None);
        assert_eq!(nanoseconds("2023-11-16 18:15:46", true), None);
    }
}
