//! Tokens: what a model's layers take on devices, and requests served on them.
//!
//! A [`device`] answers kernels and messages with times and energies, from laws, tables or an accelerator of this
//! simulator. [`offload`] serves requests on pools of devices, with attention offloaded or not; on one device that is a
//! [`replay`] of a trace. [`data`] finds the tables that these read.

pub mod data;
pub mod device;
pub mod objectives;
pub mod offload;
pub mod replay;
