//! The engines against each other: cycles, busy cycles and words of the array engine equal those of the cycle engine, and its values
//! those of the reference interpreter.

#![allow(clippy::unwrap_used)]

#[path = "engines/attention.rs"]
mod attention;
#[path = "oracle/bindings.rs"]
mod bindings;
#[path = "oracle/cases.rs"]
mod cases;
#[path = "engines/check.rs"]
mod check;
#[path = "oracle/chips.rs"]
mod chips;
#[path = "engines/faults.rs"]
mod faults;
#[path = "engines/matmul.rs"]
mod matmul;
#[path = "engines/random.rs"]
mod random;
