//! The binary as its users meet it: what it prints, where, and with which exit code.

#![allow(clippy::unwrap_used)]

mod behaviour;
mod checks;
mod errors;
mod explain;
mod json;
mod numbers;
mod pages;
mod shown;
mod sources;
mod support;
mod sweep;
