//! Crate under construction.

pub mod npz;
