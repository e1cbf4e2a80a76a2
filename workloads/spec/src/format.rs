//! Number formats: their widths, and rounding of a value held as `f64` to what a format can represent.

use std::{fmt, str::FromStr};

use crate::{Problem, did_you_mean, quantity::Bytes};

/// Rounding to a format that is known at compile time; [`with_rounding`](crate::with_rounding) chooses one at run time.
pub trait Rounding {
    /// To which format.
    const FORMAT: NumberFormat;

    /// As [`NumberFormat::round`].
    fn round(x: f64) -> f64;
}

/// Declares every format by its name, its bits and those of its significand, the hidden one included; the remaining
/// bits but the sign are an IEEE 754 exponent's. All else follows from these.
macro_rules! formats {
    ($d:tt $($(#[$doc:meta])* $format:ident = $name:literal, $bits:literal bits, significand $precision:literal;)*) => {
        crate::named! {
            /// A binary floating-point format, widest first. Values in it are held as `f64`, which represents all of them.
            #[derive(PartialOrd, Ord)]
            pub enum NumberFormat {
                $($(#[$doc])* $format = $name,)*
            }
        }

        impl NumberFormat {
            /// Width of one number, in bits.
            pub const fn bits(self) -> u64 {
                match self {
                    $(NumberFormat::$format => $bits,)*
                }
            }

            /// Bits of the significand, the hidden one included.
            pub const fn precision(self) -> u32 {
                match self {
                    $(NumberFormat::$format => $precision,)*
                }
            }

            /// The nearest number of the format, ties to even, in a single rounding; past the largest
            /// number an infinity, subnormal numbers kept.
            #[inline]
            pub fn round(self, x: f64) -> f64 {
                match self {
                    $(NumberFormat::$format => nearest::<$bits, $precision>(x),)*
                }
            }
        }

        /// The formats as types, for code that is compiled for each.
        pub mod rounding {
            use super::{NumberFormat, Rounding, nearest};

            $(
                #[doc = concat!("To [`NumberFormat::", stringify!($format), "`].")]
                pub struct $format;

                impl Rounding for $format {
                    const FORMAT: NumberFormat = NumberFormat::$format;

                    #[inline(always)]
                    fn round(x: f64) -> f64 {
                        nearest::<$bits, $precision>(x)
                    }
                }
            )*
        }

        /// `with_rounding!(format, R => body)`: the body with `R` the [`Rounding`] of the format.
        #[macro_export]
        macro_rules! with_rounding {
            ($d format:expr, $d rounding:ident => $d body:expr) => {
                match $d format {
                    $($crate::NumberFormat::$format => {
                        type $d rounding = $crate::rounding::$format;
                        $d body
                    })*
                }
            };
        }
    };
}

formats! {
    $
    /// IEEE 754 binary64.
    F64 = "f64", 64 bits, significand 53;
    /// IEEE 754 binary32.
    F32 = "f32", 32 bits, significand 24;
    /// bfloat16: the upper half of binary32.
    Bf16 = "bf16", 16 bits, significand 8;
    /// IEEE 754 binary16.
    F16 = "f16", 16 bits, significand 11;
}

impl NumberFormat {
    /// Every format, narrowest first; of two of the same width the one with less precision.
    pub fn narrowest_first() -> Vec<NumberFormat> {
        let mut formats = Self::ALL.to_vec();
        formats.sort_by_key(|format| (format.bits(), format.precision()));
        formats
    }

    /// Size of one number.
    pub const fn bytes(self) -> Bytes {
        Bytes((self.bits() / 8) as u128)
    }

    /// Largest relative error of one rounding in the normal range: `2^-precision`.
    pub fn unit_roundoff(self) -> f64 {
        power_of_two(-(self.precision() as i32))
    }

    /// Bits of the exponent.
    pub const fn exponent_bits(self) -> u32 {
        // The sign's bit stands in for the hidden one.
        self.bits() as u32 - self.precision()
    }

    /// Exponent of the smallest normal number.
    pub const fn min_exponent(self) -> i32 {
        1 - self.max_exponent()
    }

    /// Exponent of the largest number.
    pub const fn max_exponent(self) -> i32 {
        max_exponent(self.exponent_bits())
    }

    /// Whether every number of `other` is one of this format.
    pub const fn holds(self, other: NumberFormat) -> bool {
        self.precision() >= other.precision() && self.exponent_bits() >= other.exponent_bits()
    }

    /// The accumulator's format where none is stated: `f64` for `f64`, `f32` for the others.
    pub fn default_accumulator(self) -> NumberFormat {
        if self == NumberFormat::F64 {
            NumberFormat::F64
        } else {
            NumberFormat::F32
        }
    }
}

const fn max_exponent(exponent_bits: u32) -> i32 {
    (1 << (exponent_bits - 1)) - 1
}

/// `2^exponent` for an exponent in the normal range of `f64`.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023) as u16) << 52)
}

/// Rounds to the format of so many bits, of them so many of the significand.
///
/// The `half` crate's conversions from `f64` drop the low 32 bits before they round, which takes a
/// value just above a midpoint for the midpoint; and rounding by way of `f32` rounds twice.
#[inline(always)]
fn nearest<const BITS: u32, const PRECISION: u32>(x: f64) -> f64 {
    match (BITS, PRECISION) {
        (64, 53) => return x,
        (32, 24) => return f64::from(x as f32),
        _ => {}
    }
    let max = const { max_exponent(BITS - PRECISION) };
    let min = 1 - max;
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    if exponent == 1024 || x == 0.0 {
        return x;
    }
    if exponent < min {
        // Below the normal range the numbers of the format are multiples of one quantum; scaling
        // by a power of two is exact here.
        let quantum = min - (PRECISION as i32 - 1);
        return (x * power_of_two(-quantum)).round_ties_even() * power_of_two(quantum);
    }
    let dropped = 53 - PRECISION;
    let odd = (bits >> dropped) & 1;
    // A carry out of the significand moves into the exponent, as it should.
    let rounded = (bits + (1 << (dropped - 1)) - 1 + odd) >> dropped << dropped;
    let value = f64::from_bits(rounded);
    if value.abs() >= power_of_two(max + 1) {
        f64::INFINITY.copysign(x)
    } else {
        value
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NumberFormat {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::named(text).ok_or_else(|| {
            Problem::nowhere(format!("there is no number format `{text}`"))
                .help(did_you_mean(text, Self::ALL.iter().map(|f| f.name())))
        })
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// Every finite number of the format is itself; the midpoint of two neighbours goes to the even
    /// one, and a point as near to the midpoint as `f64` can tell goes to its own side.
    fn check_neighbours(format: NumberFormat, of_bits: impl Fn(u16) -> f64) {
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
        check_neighbours(NumberFormat::F16, |b| f16::from_bits(b).to_f64());
        assert_eq!(NumberFormat::F16.round(65519.999), 65504.0);
        assert_eq!(NumberFormat::F16.round(65520.0), f64::INFINITY);
        assert_eq!(NumberFormat::F16.round(-1e300), f64::NEG_INFINITY);
        assert_eq!(NumberFormat::F16.round(1e-300), 0.0);
        assert_eq!(NumberFormat::F16.round(f64::from_bits(1)), 0.0);
        // By way of f32 this becomes the midpoint and then 1.
        assert_eq!(
            NumberFormat::F16.round(1.0 + 2f64.powi(-11) + 2f64.powi(-40)),
            1.0 + 2f64.powi(-10)
        );
    }

    #[test]
    fn bf16_rounds_once_to_nearest_even() {
        check_neighbours(NumberFormat::Bf16, |b| bf16::from_bits(b).to_f64());
        assert_eq!(NumberFormat::Bf16.round(f64::from(f32::MAX)), f64::INFINITY);
        assert_eq!(
            NumberFormat::Bf16.round(1.0 + 2f64.powi(-8) + 2f64.powi(-40)),
            1.0 + 2f64.powi(-7)
        );
    }

    #[test]
    fn special_values_stay() {
        for &format in NumberFormat::ALL {
            assert!(format.round(f64::NAN).is_nan());
            assert_eq!(format.round(f64::NEG_INFINITY), f64::NEG_INFINITY);
            assert_eq!(format.round(-0.0).to_bits(), (-0.0f64).to_bits());
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert_eq!(NumberFormat::F32.round(0.1), f64::from(0.1f32));
        assert_eq!(NumberFormat::F64.round(0.1), 0.1);
        assert_eq!(NumberFormat::F16.unit_roundoff(), 2f64.powi(-11));
        assert!(
            "fp16"
                .parse::<NumberFormat>()
                .is_err_and(|e| e.help.as_deref() == Some("did you mean `f16`?"))
        );
    }

    #[test]
    fn widths_of_exponents() {
        let of = |f: NumberFormat| (f.exponent_bits(), f.min_exponent(), f.max_exponent());
        let found: Vec<_> = NumberFormat::ALL.iter().map(|f| of(*f)).collect();
        let half = (5, -14, 15);
        let single = (8, -126, 127);
        assert_eq!(found, [(11, -1022, 1023), single, single, half]);
        assert!(NumberFormat::F32.holds(NumberFormat::Bf16));
        assert!(!NumberFormat::Bf16.holds(NumberFormat::F16));
        assert!(!NumberFormat::F16.holds(NumberFormat::Bf16));
    }
}
