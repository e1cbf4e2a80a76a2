//! What happens on the chip: engines that run a mapped cascade, the check of their values, and their report.
//!
//! [`analytic`] counts and adds ideal times. [`mod@cycle`] and [`mod@array`] run the same [`program`] on the same
//! [`hardware`] by the same rules, the [`events`]: tiles as tasks on real resources, and every word through every PE.
//! [`mod@check`] holds values against
//! references; a [`report`] is data only. [`Engine`] lists the engines, and runs them.

pub mod analytic;
pub mod array;
pub mod check;
pub mod cycle;
mod engine;
mod error;
pub mod events;
pub mod hardware;
pub mod program;
pub mod report;
pub mod units;

pub use engine::Engine;
pub use error::EngineError;
