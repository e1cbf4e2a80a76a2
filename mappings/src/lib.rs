//! Mappings: how a cascade is laid on an accelerator.

pub mod nest;
