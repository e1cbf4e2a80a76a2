//! Tokens: what a model's layers take on devices, and requests served on them.
//!
//! A [`device`] answers kernels and messages with times and energies, from laws, tables or an accelerator of this
//! simulator. [`replay`](mod@replay) serves a trace of requests on one device, [`offload`] on pools of them, with
//! attention offloaded or not. [`data`] finds the tables that these read.

pub mod data;
pub mod device;
pub mod offload;
pub mod replay;
