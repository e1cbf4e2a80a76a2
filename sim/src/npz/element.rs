//! Types of stored elements, and their values.

use std::str::FromStr;

use einflow_spec::{Problem, did_you_mean, named};
use half::{bf16, f16};

named! {
    /// What raw elements of one or two bytes hold, by ml_dtypes' names: numpy keeps the bytes of these types and forgets
    /// the names of most.
    pub enum Raw {
        /// The upper half of binary32.
        Bfloat16 = "bfloat16",
        /// IEEE 754 binary16.
        Float16 = "float16",
        /// Exponent of 4 bits, 3 of the significand; no infinities, and NaN where all but the sign are ones.
        Float8E4m3fn = "float8_e4m3fn",
        /// Exponent of 5 bits, 2 of the significand, as IEEE 754 would have it.
        Float8E5m2 = "float8_e5m2",
        /// Exponent of 4 bits, 3 of the significand, as IEEE 754 would have it.
        Float8E4m3 = "float8_e4m3",
        /// Exponent of 3 bits, 4 of the significand, as IEEE 754 would have it.
        Float8E3m4 = "float8_e3m4",
        /// Exponent of 4 bits, 3 of the significand, no infinities, and NaN in the place of -0.
        Float8E4m3fnuz = "float8_e4m3fnuz",
        /// Exponent of 5 bits, 2 of the significand, no infinities, and NaN in the place of -0.
        Float8E5m2fnuz = "float8_e5m2fnuz",
        /// As `float8_e4m3fnuz`, with a bias of 11.
        Float8E4m3b11fnuz = "float8_e4m3b11fnuz",
    }
}

/// Which bit patterns are no numbers.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// The highest exponent: infinities, NaN.
    Ieee,
    /// The highest magnitude: NaN.
    Highest,
    /// -0: NaN.
    MinusZero,
}

impl Raw {
    fn bytes(self) -> usize {
        match self {
            Raw::Bfloat16 | Raw::Float16 => 2,
            _ => 1,
        }
    }

    /// The value of some bits.
    fn value(self, bits: u16) -> f64 {
        let (significand, bias, special) = match self {
            Raw::Bfloat16 => return bf16::from_bits(bits).to_f64(),
            Raw::Float16 => return f16::from_bits(bits).to_f64(),
            Raw::Float8E4m3fn => (3, 7, Special::Highest),
            Raw::Float8E5m2 => (2, 15, Special::Ieee),
            Raw::Float8E4m3 => (3, 7, Special::Ieee),
            Raw::Float8E3m4 => (4, 3, Special::Ieee),
            Raw::Float8E4m3fnuz => (3, 8, Special::MinusZero),
            Raw::Float8E5m2fnuz => (2, 16, Special::MinusZero),
            Raw::Float8E4m3b11fnuz => (3, 11, Special::MinusZero),
        };
        let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
        let magnitude = bits & 0x7f;
        let fraction = magnitude & ((1 << significand) - 1);
        let exponent = magnitude >> significand;
        let highest = exponent == 0x7f >> significand;
        match special {
            Special::Ieee if highest && fraction == 0 => return sign * f64::INFINITY,
            Special::Ieee if highest => return f64::NAN,
            Special::Highest if magnitude == 0x7f => return f64::NAN,
            Special::MinusZero if bits == 0x80 => return f64::NAN,
            _ => {}
        }
        let (hidden, exponent) = match exponent {
            0 => (0, 1),
            e => (1 << significand, i32::from(e)),
        };
        let scale = 2f64.powi(exponent - bias - significand);
        sign * f64::from(hidden + fraction) * scale
    }
}

/// The type of the stored elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Raw bytes of a format that numpy does not know.
    Raw(Raw),
    /// IEEE 754 binary16.
    F2,
    /// IEEE 754 binary32.
    F4,
    /// IEEE 754 binary64.
    F8,
    /// Whole numbers of some bytes.
    Integer {
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Whether there are negative ones.
        signed: bool,
    },
}

/// Types that are read, as messages list them.
pub(super) const ACCEPTED: &str =
    "f2, f4, f8, integers (i1 to i8, u1 to u8) and V2 (bfloat16) are accepted";

impl Element {
    /// The name that numpy's headers use, without the byte order; of raw elements that of ml_dtypes.
    pub fn name(self) -> &'static str {
        match self {
            Element::Raw(Raw::Bfloat16) => "V2",
            Element::Raw(raw) => raw.name(),
            Element::F2 => "f2",
            Element::F4 => "f4",
            Element::F8 => "f8",
            Element::Integer { bytes, signed } => match (bytes, signed) {
                (1, true) => "i1",
                (2, true) => "i2",
                (4, true) => "i4",
                (_, true) => "i8",
                (1, false) => "u1",
                (2, false) => "u2",
                (4, false) => "u4",
                (_, false) => "u8",
            },
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Element::Raw(raw) => raw.bytes(),
            Element::F2 => 2,
            Element::F4 => 4,
            Element::F8 => 8,
            Element::Integer { bytes, .. } => usize::from(bytes),
        }
    }

    /// The element of a header's `descr` without the byte order, where `raw` says what raw bytes are.
    pub(super) fn of(descr: &str, raw: Option<Raw>) -> Result<Option<Self>, String> {
        let integer = |signed, bytes| Ok(Some(Element::Integer { bytes, signed }));
        match descr {
            "f2" => Ok(Some(Element::F2)),
            "f4" => Ok(Some(Element::F4)),
            "f8" => Ok(Some(Element::F8)),
            "i1" => integer(true, 1),
            "i2" => integer(true, 2),
            "i4" => integer(true, 4),
            "i8" => integer(true, 8),
            "u1" => integer(false, 1),
            "u2" => integer(false, 2),
            "u4" => integer(false, 4),
            "u8" => integer(false, 8),
            // ml_dtypes writes bfloat16 so, and no other float of two bytes.
            "V2" => match raw {
                Some(raw) if raw.bytes() == 2 => Ok(Some(Element::Raw(raw))),
                Some(raw) => Err(format!(
                    "its elements have two bytes, and {} has one",
                    raw.name()
                )),
                None => Ok(Some(Element::Raw(Raw::Bfloat16))),
            },
            "V1" | "f1" => match raw {
                Some(raw) if raw.bytes() == 1 => Ok(Some(Element::Raw(raw))),
                Some(raw) => Err(format!(
                    "its elements have one byte, and {} has two",
                    raw.name()
                )),
                None => {
                    let likely = match descr {
                        "f1" => Raw::Float8E5m2,
                        _ => Raw::Float8E4m3fn,
                    };
                    Err(format!(
                        "its elements are of one byte whose format numpy has not kept; name it, such as \
                         --stored-as {}, or write `array.astype(numpy.float32)` in its place",
                        likely.name()
                    ))
                }
            },
            _ => Ok(None),
        }
    }

    /// The values of stored bytes.
    ///
    /// # Errors
    /// A whole number that an `f64` does not hold.
    pub(super) fn decode(self, bytes: &[u8], big_endian: bool) -> Result<Vec<f64>, String> {
        bytes
            .chunks_exact(self.bytes())
            .map(|chunk| self.value(chunk, big_endian))
            .collect()
    }

    fn value(self, chunk: &[u8], big_endian: bool) -> Result<f64, String> {
        let bits = chunk.iter().enumerate().fold(0u64, |bits, (i, byte)| {
            let place = if big_endian { chunk.len() - 1 - i } else { i };
            bits | u64::from(*byte) << (8 * place)
        });
        Ok(match self {
            Element::Raw(raw) => raw.value(bits as u16),
            Element::F2 => f16::from_bits(bits as u16).to_f64(),
            Element::F4 => f64::from(f32::from_bits(bits as u32)),
            Element::F8 => f64::from_bits(bits),
            Element::Integer { bytes, signed } => {
                let unused = 64 - 8 * u32::from(bytes);
                let whole = match signed {
                    true => i128::from((bits << unused).cast_signed() >> unused),
                    false => i128::from(bits),
                };
                let value = whole as f64;
                if value as i128 != whole {
                    return Err(format!(
                        "its element {whole} is beyond the whole numbers of f64"
                    ));
                }
                value
            }
        })
    }
}

/// What raw elements hold: of all arrays, or of one.
#[derive(Clone, Debug, Default)]
pub struct StoredAs(Vec<(Option<String>, Raw)>);

impl StoredAs {
    /// From arguments `FORMAT` and `NAME=FORMAT`.
    ///
    /// # Errors
    /// No such format.
    pub fn parse(arguments: &[String]) -> Result<Self, Problem> {
        let read = |argument: &String| {
            let (name, format) = match argument.split_once('=') {
                Some((name, format)) => (Some(name.trim().to_owned()), format.trim()),
                None => (None, argument.as_str()),
            };
            Ok((name, format.parse()?))
        };
        arguments
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Of the array of this name.
    pub(super) fn of(&self, name: &str) -> Option<Raw> {
        let own = self.0.iter().find(|(of, _)| of.as_deref() == Some(name));
        own.or_else(|| self.0.iter().find(|(of, _)| of.is_none()))
            .map(|(_, raw)| *raw)
    }

    /// The arrays that are named.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(name, _)| name.as_deref())
    }
}

impl FromStr for Raw {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::named(text).ok_or_else(|| {
            Problem::nowhere(format!("there is no stored format `{text}`"))
                .help(did_you_mean(text, Self::ALL.iter().map(|raw| raw.name())))
        })
    }
}
