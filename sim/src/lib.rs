//! Who asks: the command line, sweeps, and published numbers held against what is computed.

pub mod cli;
pub mod eval;
pub mod npz;
pub mod runs;
pub mod sweep;
pub mod validate;
