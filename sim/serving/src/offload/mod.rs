//! Pools of devices: decoding on devices of one kind, or with attention offloaded to others.
//!
//! A [`Scenario`] is read ([`scenario`]) and its files with it ([`system`], [`pool`]), memory filled ([`memory`]); [`serve`] runs requests through batches in flight
//! ([`pipeline`]), whose times come from the devices ([`times`]); what that adds up to ([`account`]) is reported ([`mod@report`]). [`values`] computes one layer's attention so divided, on real numbers.

pub mod account;
pub mod curve;
pub mod memory;
pub mod pipeline;
pub mod pool;
mod recur;
pub mod report;
pub mod room;
pub mod scenario;
pub mod serve;
mod served;
pub mod system;
mod tasks;
pub mod time;
pub mod timeline;
pub mod times;
pub mod values;

use einflow_spec::named;

pub use report::{Report, report};
pub use scenario::{Load, Scenario};
pub use system::System;

named! {
    /// What each attention device takes of a layer's attention.
    pub enum Partition = "partition" {
        /// Some key heads of every request, with the query heads that share them; the devices divide the key heads evenly.
        Heads = "heads",
        /// Some requests, whole.
        Requests = "requests",
    }
}

named! {
    /// Where the model is cut: what the attention devices compute.
    pub enum Boundary = "boundary" {
        /// Attention alone, without weights: queries, new keys and new values go out, heads' outputs come back.
        Core = "core",
        /// Attention with its projections: hidden states go out and come back, and the weights lie on the attention devices.
        Projections = "projections",
    }
}
