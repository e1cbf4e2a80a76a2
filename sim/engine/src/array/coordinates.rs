//! Which word of a tensor.

use std::fmt;

/// The coordinates of a word, `[h, m1, p]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinates(pub Vec<u64>);

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(u64::to_string).collect();
        write!(f, "[{}]", texts.join(", "))
    }
}
