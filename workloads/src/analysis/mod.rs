//! What follows from a cascade alone, with no mapping.

mod passes;
pub mod points;

pub use passes::{Live, PassReport, Passes, passes};
