//! Numbers for people: three or four digits and an SI prefix.

/// `1892352` cycles as seconds, say: `2.013 ms`.
pub fn si(value: f64, unit: &str) -> String {
    const PREFIXES: [(f64, &str); 12] = [
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "u"),
        (1e-9, "n"),
        (1e-12, "p"),
        (1e-15, "f"),
    ];
    if value == 0.0 || !value.is_finite() {
        return format!("{value} {unit}");
    }
    let (scale, prefix) = PREFIXES
        .iter()
        .find(|(scale, _)| value.abs() >= *scale * 0.99995)
        .copied()
        .unwrap_or((1e-15, "f"));
    let scaled = value / scale;
    let digits = if scaled.abs() >= 99.995 {
        1
    } else if scaled.abs() >= 9.9995 {
        2
    } else {
        3
    };
    format!("{scaled:.digits$} {prefix}{unit}")
}

/// A share as a percentage with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// A number, with an exponent where that is shorter.
pub fn number(value: f64) -> String {
    let (plain, short) = (value.to_string(), format!("{value:e}"));
    if short.len() < plain.len() {
        short
    } else {
        plain
    }
}

/// A sequence length: a multiple of 1024 as `64K` or `1M`, others as they are.
pub fn length(value: u64) -> String {
    if value >= 1 << 20 && value.is_multiple_of(1 << 20) {
        format!("{}M", value >> 20)
    } else if value >= 1 << 10 && value.is_multiple_of(1 << 10) {
        format!("{}K", value >> 10)
    } else {
        value.to_string()
    }
}

/// What [`parse_length`] accepts.
pub const LENGTHS: &str =
    "a length is a whole number from 1 to 16777216 (2^24), or one such as 64K or 1M";

/// Reads a sequence length: `1K` is 1024, `1M` is 1048576, or any whole number from 1 to 2^24.
///
/// # Errors
/// What was found; [`LENGTHS`] says what would do.
pub fn parse_length(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.trim().char_indices().last() {
        Some((i, 'K' | 'k')) => (&text.trim()[..i], 1 << 10),
        Some((i, 'M' | 'm')) => (&text.trim()[..i], 1 << 20),
        _ => (text.trim(), 1u64),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a length"))?;
    match number.checked_mul(factor) {
        Some(0) => Err("a length of 0 has nothing to attend to".to_string()),
        Some(length) if length <= 1 << 24 => Ok(length),
        _ => Err(format!("a length of {text} is above 2^24")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn si_keeps_three_or_four_digits() {
        assert_eq!(si(0.002013140, "s"), "2.013 ms");
        assert_eq!(si(1891.827, "s"), "1.892 ks");
        assert_eq!(si(99.9999, "s"), "100.0 s");
        assert_eq!(si(402_653_184.0, "B"), "402.7 MB");
        assert_eq!(si(0.0, "B"), "0 B");
    }

    #[test]
    fn lengths_round_trip() {
        for text in ["1K", "64K", "1M", "1000", "16M", "1"] {
            assert_eq!(length(parse_length(text).unwrap()), text);
        }
        for wrong in [
            "0",
            "0K",
            "17M",
            "16777217",
            "-1",
            "1.5K",
            "",
            "K",
            "1G",
            "99999999999999999999",
        ] {
            assert!(parse_length(wrong).is_err(), "{wrong}");
        }
    }
}
