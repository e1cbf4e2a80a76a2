//! Formats in which words are kept: numbers of some bits, and scales that blocks of them share.

use std::fmt;

use crate::{
    Form, Kind, Node, NumberFormat, Problems, Record, Written, did_you_mean, quantity::Bytes,
};

/// Formats that numbers are kept in and not computed in: name, bits of a number, numbers that share a scale of 8 bits.
const KEPT: [(&str, u64, Option<u64>); 6] = [
    // OCP 8-bit floating point, E4M3 or E5M2.
    ("fp8", 8, None),
    ("int8", 8, None),
    ("int4", 4, None),
    // OCP Microscaling (MX) v1.0: blocks of 32, scales E8M0.
    ("mxfp8", 8, Some(32)),
    ("mxfp4", 4, Some(32)),
    // Blocks of 16, scales E4M3; the one scale of a tensor is left out.
    ("nvfp4", 4, Some(16)),
];

/// How words of memory are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    name: &'static str,
    bits: u64,
    scales: Option<Scales>,
}

/// A scale for each block of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Scales {
    /// Numbers along the rank that a product reduces, and along the other.
    block: [u64; 2],
    bits: u64,
    /// Whether a file says so, and not the format's own standard.
    stated: bool,
}

impl From<NumberFormat> for Stored {
    fn from(format: NumberFormat) -> Self {
        Self::of(format)
    }
}

impl Stored {
    /// Words of two bytes.
    pub const BF16: Self = Self::of(NumberFormat::Bf16);
    /// Words of one byte, all with one scale or none.
    pub const FP8: Self = Self {
        name: "fp8",
        bits: 8,
        scales: None,
    };

    /// Numbers of a format that is computed in.
    pub const fn of(format: NumberFormat) -> Self {
        Self {
            name: format.name(),
            bits: format.bits(),
            scales: None,
        }
    }

    /// The name of the numbers' format.
    pub const fn numbers(&self) -> &'static str {
        self.name
    }

    /// Bits of a number.
    pub const fn bits(&self) -> u64 {
        self.bits
    }

    /// Whether blocks of numbers have scales.
    pub const fn scaled(&self) -> bool {
        self.scales.is_some()
    }

    /// Every name that a file may have.
    fn names() -> Vec<&'static str> {
        let numbers = NumberFormat::ALL.iter().map(|format| format.name());
        numbers.chain(KEPT.map(|(name, ..)| name)).collect()
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(format) = NumberFormat::named(name) {
            return Some(format.into());
        }
        let (name, bits, block) = *KEPT.iter().find(|(known, ..)| *known == name)?;
        let scales = block.map(|block| Scales {
            block: [block, 1],
            bits: 8,
            stated: false,
        });
        Some(Self { name, bits, scales })
    }

    /// Bytes of a matrix whose `k` rows a product reduces, and `n` columns: its numbers and their scales, a block at
    /// the edge having one too.
    pub fn bytes(&self, k: u64, n: u64) -> Bytes {
        let whole = |count: u128, bits: u64| count.saturating_mul(bits.into()).div_ceil(8);
        let numbers = whole(u128::from(k) * u128::from(n), self.bits);
        let scales = self.scales.map_or(0, |scales| {
            let [down, across] = [k.div_ceil(scales.block[0]), n.div_ceil(scales.block[1])];
            whole(u128::from(down) * u128::from(across), scales.bits)
        });
        Bytes(numbers.saturating_add(scales))
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.scales {
            Some(scales) if scales.stated => {
                let ([k, n], bits) = (scales.block, scales.bits);
                write!(f, ", a scale of {bits} bits to {k} x {n}")
            }
            _ => Ok(()),
        }
    }
}

crate::record! {
    /// A format with scales.
    struct Scaled = "a format" {
        /// The numbers.
        pub(crate) format: Stored as named;
        /// Numbers that share a scale: along the rank that a product reduces, and along the other.
        pub(crate) block: [u64; 2] as block;
        /// The scale.
        pub(crate) scale: NumberFormat;
    } check |fields| {
        if let (Some(Stored { name, scales: Some(_), .. }), Some(node)) = (format, fields.optional("block")) {
            fields.push(node.problem(format!("{name} has blocks of its own")).help(format!("write `{name}` alone")));
        }
    }
}

fn named() -> Form<Stored> {
    Form {
        value: || {
            let names = Stored::names();
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        },
        read: |_, node| {
            let known = Stored::names();
            let text = node
                .text()
                .map_err(|p| p.help(format!("known: {}", known.join(", "))))?;
            Ok(Stored::named(text).ok_or_else(|| {
                node.problem(format!("there is no number format `{text}`"))
                    .help(did_you_mean(text, known))
            })?)
        },
    }
}

fn block() -> Form<[u64; 2]> {
    Form {
        value: || "list: two whole numbers, at least 1".into(),
        read: |_, node| {
            let wrong = || node.expected("two numbers of at least 1: [128, 128]");
            let items = node.list().map_err(|_| wrong())?;
            let numbers: Result<Vec<u64>, _> = items.iter().map(Node::u64).collect();
            match numbers?[..] {
                [k, n] if k > 0 && n > 0 => Ok([k, n]),
                _ => Err(wrong().into()),
            }
        },
    }
}

/// A name, or the numbers' with scales: `(format: fp8, block: [128, 128], scale: f32)`.
impl Written for Stored {
    fn form() -> Form<Self> {
        Form {
            value: || "a format".into(),
            read: |name, node| -> Result<Self, Problems> {
                if !matches!(node.kind, Kind::Record(_)) {
                    return (named().read)(name, node);
                }
                let Scaled {
                    format,
                    block,
                    scale,
                } = Scaled::read(name, node)?;
                let scales = Some(Scales {
                    block,
                    bits: scale.bits(),
                    stated: true,
                });
                Ok(Self { scales, ..format })
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn read(text: &str) -> Result<Stored, Problems> {
        let node = Node::parse(&Source::new("f.ron", text)).unwrap();
        (Stored::form().read)("weights", &node)
    }

    #[test]
    fn bytes_are_numbers_and_scales() {
        let bytes = |text: &str, k, n| read(text).unwrap().bytes(k, n).0;
        assert_eq!(bytes("bf16", 3, 5), 30);
        assert_eq!(bytes("int4", 3, 5), 8);
        // 64 numbers of half a byte, in blocks of 32 and of 16, two columns.
        assert_eq!(bytes("mxfp4", 64, 2), 64 + 4);
        assert_eq!(bytes("nvfp4", 64, 2), 64 + 8);
        // A block at the edge has a scale too: 2 x 3 blocks.
        let scaled = "(format: fp8, block: [128, 128], scale: f32)";
        assert_eq!(bytes(scaled, 200, 300), 60_000 + 4 * 6);
        assert_eq!(
            read(scaled).unwrap().to_string(),
            "fp8, a scale of 32 bits to 128 x 128"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("fp9", "did you mean `fp8`?"),
            ("8", "known: f64, f32, bf16, f16, fp8"),
            (
                "(format: mxfp4, block: [16, 1], scale: f32)",
                "mxfp4 has blocks of its own",
            ),
            (
                "(format: fp8, block: [0, 1], scale: f32)",
                "two numbers of at least 1",
            ),
            ("(format: fp8, scale: f32)", "lacks the field `block`"),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
