//! Number formats: rounding of a value held as `f64` to what a format can represent.

use std::{fmt, str::FromStr};

use einflow_spec::did_you_mean;

/// A binary floating-point format. Values in it are held as `f64`, which represents all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of binary32.
    Bf16,
    /// IEEE 754 binary16.
    F16,
}

impl Format {
    /// Every format, widest first.
    pub const ALL: [Format; 4] = [Format::F64, Format::F32, Format::Bf16, Format::F16];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Format::F64 => "f64",
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::F16 => "f16",
        }
    }

    /// Size of one number, in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Format::F64 => 8,
            Format::F32 => 4,
            Format::Bf16 | Format::F16 => 2,
        }
    }

    /// Bits of the significand, the hidden one included.
    pub fn precision(self) -> u32 {
        match self {
            Format::F64 => 53,
            Format::F32 => 24,
            Format::Bf16 => 8,
            Format::F16 => 11,
        }
    }

    /// Largest relative error of one rounding in the normal range: `2^-precision`.
    pub fn unit_roundoff(self) -> f64 {
        power_of_two(-(self.precision() as i32))
    }

    /// Exponent of the smallest normal number.
    pub fn min_exponent(self) -> i32 {
        match self {
            Format::F64 => -1022,
            Format::F32 | Format::Bf16 => -126,
            Format::F16 => -14,
        }
    }

    /// Exponent of the largest number.
    pub fn max_exponent(self) -> i32 {
        match self {
            Format::F64 => 1023,
            Format::F32 | Format::Bf16 => 127,
            Format::F16 => 15,
        }
    }

    /// The accumulator's format where none is stated: `f64` for `f64`, `f32` for the others.
    pub fn default_accumulator(self) -> Format {
        if self == Format::F64 {
            Format::F64
        } else {
            Format::F32
        }
    }

    /// The nearest number of the format, ties to even, in a single rounding; past the largest
    /// number an infinity, subnormal numbers kept.
    pub fn round(self, x: f64) -> f64 {
        match self {
            Format::F64 => x,
            Format::F32 => f64::from(x as f32),
            Format::Bf16 => round_bits::<8, -126, 127>(x),
            Format::F16 => round_bits::<11, -14, 15>(x),
        }
    }
}

/// `2^exponent` for an exponent in the normal range of `f64`.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023) as u16) << 52)
}

/// Rounds to `PRECISION` significant bits with exponents in `MIN..=MAX`.
///
/// The `half` crate's conversions from `f64` drop the low 32 bits before they round, which takes a
/// value just above a midpoint for the midpoint; and rounding by way of `f32` rounds twice.
fn round_bits<const PRECISION: u32, const MIN: i32, const MAX: i32>(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    if exponent == 1024 || x == 0.0 {
        return x;
    }
    if exponent < MIN {
        // Below the normal range the numbers of the format are multiples of one quantum; scaling
        // by a power of two is exact here.
        let quantum = MIN - (PRECISION as i32 - 1);
        return (x * power_of_two(-quantum)).round_ties_even() * power_of_two(quantum);
    }
    let dropped = 53 - PRECISION;
    let odd = (bits >> dropped) & 1;
    // A carry out of the significand moves into the exponent, as it should.
    let rounded = (bits + (1 << (dropped - 1)) - 1 + odd) >> dropped << dropped;
    let value = f64::from_bits(rounded);
    if value.abs() >= power_of_two(MAX + 1) {
        f64::INFINITY.copysign(x)
    } else {
        value
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Format::ALL
            .into_iter()
            .find(|f| f.name() == text)
            .ok_or_else(|| {
                format!(
                    "there is no number format `{text}` ({})",
                    did_you_mean(text, Format::ALL.map(Format::name))
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// Every finite number of the format is itself; the midpoint of two neighbours goes to the even
    /// one, and a point as near to the midpoint as `f64` can tell goes to its own side.
    fn check_neighbours(format: Format, of_bits: impl Fn(u16) -> f64) {
        for bits in 0..0x7fffu16 {
            let (low, high) = (of_bits(bits), of_bits(bits + 1));
            if high.is_nan() || low.is_infinite() {
                break;
            }
            assert_eq!(format.round(low).to_bits(), low.to_bits());
            assert_eq!(format.round(-low).to_bits(), (-low).to_bits());
            if high.is_infinite() {
                break;
            }
            let middle = (low + high) / 2.0;
            let even = if bits % 2 == 0 { low } else { high };
            assert_eq!(format.round(middle), even, "{low} {high}");
            assert_eq!(format.round(-middle), -even);
            assert_eq!(format.round(middle.next_down()), low, "{low} {high}");
            assert_eq!(format.round(middle.next_up()), high, "{low} {high}");
        }
    }

    #[test]
    fn f16_rounds_once_to_nearest_even() {
        check_neighbours(Format::F16, |b| f16::from_bits(b).to_f64());
        assert_eq!(Format::F16.round(65519.999), 65504.0);
        assert_eq!(Format::F16.round(65520.0), f64::INFINITY);
        assert_eq!(Format::F16.round(-1e300), f64::NEG_INFINITY);
        assert_eq!(Format::F16.round(1e-300), 0.0);
        assert_eq!(Format::F16.round(f64::from_bits(1)), 0.0);
        // By way of f32 this becomes the midpoint and then 1.
        assert_eq!(
            Format::F16.round(1.0 + 2f64.powi(-11) + 2f64.powi(-40)),
            1.0 + 2f64.powi(-10)
        );
    }

    #[test]
    fn bf16_rounds_once_to_nearest_even() {
        check_neighbours(Format::Bf16, |b| bf16::from_bits(b).to_f64());
        assert_eq!(Format::Bf16.round(f64::from(f32::MAX)), f64::INFINITY);
        assert_eq!(
            Format::Bf16.round(1.0 + 2f64.powi(-8) + 2f64.powi(-40)),
            1.0 + 2f64.powi(-7)
        );
    }

    #[test]
    fn special_values_stay() {
        for format in Format::ALL {
            assert!(format.round(f64::NAN).is_nan());
            assert_eq!(format.round(f64::NEG_INFINITY), f64::NEG_INFINITY);
            assert_eq!(format.round(-0.0).to_bits(), (-0.0f64).to_bits());
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert_eq!(Format::F32.round(0.1), f64::from(0.1f32));
        assert_eq!(Format::F64.round(0.1), 0.1);
        assert_eq!(Format::F16.unit_roundoff(), 2f64.powi(-11));
        assert!(
            "fp16"
                .parse::<Format>()
                .is_err_and(|e| e.contains("did you mean `f16`"))
        );
    }
}
