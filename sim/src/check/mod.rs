//! Checks of values: what an accelerator's arithmetic makes of a cascade's results.

pub mod real_length;
