//! What happens on the chip: engines that run a mapped cascade, the check of their values, and their report.
//!
//! [`analytic`] counts and adds ideal times. [`mod@cycle`] and [`mod@array`] run the same [`program`] on the same
//! [`hardware`] by the same rules, the [`events`]: tiles as tasks on real resources, and every word through every PE.
//! [`mod@check`] holds values against references; a [`report`] is data only. [`Engine`] lists the engines, and runs
//! them. A [`request`] goes the whole way, from names of files (read once, by a
//! [`catalog`]) to a report.
//!
//! ```
//! use einflow_arch::{Accelerator, accelerators};
//! use einflow_engine::analytic::evaluate;
//! use einflow_mappings::{bind, mappings, spec::MappingSpec};
//! use einflow_workloads::{Model, cascade::Cascade, cascades};
//!
//! let shipped = "a shipped file";
//! let cascade = Cascade::parse(&cascades().get("attention/one-pass").expect(shipped))?;
//! let chip = Accelerator::parse(&accelerators().get("fusemax").expect(shipped))?;
//! let mapping = MappingSpec::parse(&mappings().get("fusemax-binding").expect(shipped), None)?;
//! let sizes = Model::load("bert", None)?.sizes(1024);
//! let mapped = bind(&cascade.into(), &chip.into(), &mapping.into(), &sizes)?;
//!
//! let report = evaluate(&mapped)?;
//! let bytes = report.metric("dram_bytes.total").and_then(|found| found.number());
//! // Q, K, V and the result, once each: B H (M E + M E + M F + M F) words of two bytes.
//! assert_eq!(bytes, Some((64 * 12 * 1024 * 4 * 64 * 2) as f64));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod analytic;
pub mod array;
pub mod catalog;
pub mod check;
pub mod cycle;
mod energy;
mod engine;
mod error;
pub mod events;
pub mod failure;
pub mod hardware;
mod key_heads;
pub mod program;
pub mod report;
pub mod request;
pub mod units;

pub use engine::Engine;
pub use error::EngineError;
