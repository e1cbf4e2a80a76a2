//! The event engines against a naive simulator that shares nothing with them.

#![allow(clippy::unwrap_used)]

#[path = "naive_harness/mod.rs"]
mod harness;
#[path = "naive/mod.rs"]
mod naive;
