//! Numbers with a unit in a string (`"16 MiB"`), or bare in the base unit.

use crate::{Kind, Node, Problem};

/// Units by name, each in the base unit, which is the first.
pub type Units = &'static [(&'static str, f64)];

/// Sizes.
pub const BYTES: Units = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
];
/// Bandwidths.
pub const BANDWIDTH: Units = &[
    ("B/s", 1.0),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
    ("TB/s", 1e12),
    ("MiB/s", 1_048_576.0),
    ("GiB/s", 1_073_741_824.0),
    ("TiB/s", 1_099_511_627_776.0),
];
/// Rates of arithmetic.
pub const ARITHMETIC: Units = &[
    ("op/s", 1.0),
    ("GFLOP/s", 1e9),
    ("TFLOP/s", 1e12),
    ("PFLOP/s", 1e15),
];
/// Frequencies.
pub const FREQUENCY: Units = &[("Hz", 1.0), ("kHz", 1e3), ("MHz", 1e6), ("GHz", 1e9)];
/// Times.
pub const TIME: Units = &[
    ("s", 1.0),
    ("ms", 1e-3),
    ("us", 1e-6),
    ("ns", 1e-9),
    ("ps", 1e-12),
];

/// The number at `node` in the base unit (the first of `units`).
///
/// # Errors
/// Neither a number nor one with one of these units.
pub fn measure(node: &Node, units: Units) -> Result<f64, Problem> {
    let Kind::Text(text, _) = &node.kind else {
        return node.f64();
    };
    let known = || {
        units
            .iter()
            .map(|(unit, _)| *unit)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let wrong = || {
        node.expected("a number with a unit")
            .help(format!("units: {}", known()))
    };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    // Divide by the exact inverse: 300 * 1e-9 and 300 / 1e9 differ in the last bit, and the second is 300e-9.
    Ok(if *factor < 1.0 {
        number / (1.0 / factor).round()
    } else {
        number * factor
    })
}

/// Like [`measure`], for a whole number.
///
/// # Errors
/// As [`measure`]; a number that is not whole, or beyond 2^53.
pub fn whole(node: &Node, units: Units) -> Result<u64, Problem> {
    if !matches!(node.kind, Kind::Text(..)) {
        return node.u64();
    }
    let value = measure(node, units)?;
    // 33.13 times 10^9 is whole, but not to the last bit of a float.
    let value = match (value - value.round()).abs() <= value.abs() * f64::EPSILON {
        true => value.round(),
        false => value,
    };
    // 2^53: every whole number up to there is exact.
    if value.fract() != 0.0 || !(0.0..=9_007_199_254_740_992.0).contains(&value) {
        let base = units.first().map_or("", |(unit, _)| unit);
        return Err(node.problem(format!(
            "{} is not a whole number of {base} below 2^53",
            node.kind.describe()
        )));
    }
    Ok(value as u64)
}

/// Number and unit of `16 MiB`.
pub fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(char::is_whitespace)?);
    Some((number, unit.trim()))
}

#[cfg(test)]
mod tests {
    use crate::Source;

    use super::*;

    fn node(text: &str) -> Node {
        Node::parse(&Source::new("t", text)).unwrap()
    }

    #[test]
    fn units_scale_to_the_base_unit() {
        assert_eq!(whole(&node("\"16 MiB\""), BYTES).unwrap(), 16 << 20);
        assert_eq!(whole(&node("512"), BYTES).unwrap(), 512);
        assert_eq!(
            measure(&node("\"400 GiB/s\""), BANDWIDTH).unwrap(),
            400.0 * 1024.0 * 1024.0 * 1024.0
        );
        assert_eq!(measure(&node("\"300 ns\""), TIME).unwrap(), 300e-9);
        assert_eq!(measure(&node("\"0.94 GHz\""), FREQUENCY).unwrap(), 940e6);
    }

    #[test]
    fn an_unknown_unit_lists_the_known_ones() {
        let problem = whole(&node("\"16 Mib\""), BYTES).unwrap_err();
        assert!(problem.help.unwrap().contains("MiB"));
        assert!(whole(&node("\"16\""), BYTES).is_err());
        assert!(whole(&node("\"0.3 B\""), BYTES).is_err());
        assert!(whole(&node("\"-1 KiB\""), BYTES).is_err());
        assert!(whole(&node("\"inf GiB\""), BYTES).is_err());
        assert!(whole(&node("\"NaN GiB\""), BYTES).is_err());
    }
}
