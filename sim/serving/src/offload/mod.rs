//! Pools of devices: decoding on devices of one kind, or with attention offloaded to others.
//!
//! A [`Scenario`] is read ([`scenario`]) and its files with it ([`system`]), memory filled ([`memory`]); [`serve`] runs requests through batches in flight
//! ([`pipeline`]), whose times come from the devices ([`times`]); what that adds up to ([`account`]) is reported ([`mod@report`]). [`values`] computes one layer's attention so divided, on real numbers.

pub mod account;
pub mod curve;
pub mod memory;
pub mod pipeline;
mod recur;
pub mod report;
pub mod scenario;
pub mod serve;
pub mod system;
mod tasks;
pub mod time;
pub mod timeline;
pub mod times;
pub mod values;

pub use report::{Report, report};
pub use scenario::Scenario;
pub use system::System;

/// What each attention device takes of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Some key heads of every request, with the query heads that share them; the devices divide the key heads evenly.
    Heads,
    /// Some requests, whole.
    Requests,
}

/// Where the model is cut: what the attention devices compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Attention alone, without weights: queries, new keys and new values go out, heads' outputs come back.
    Core,
    /// Attention with its projections: hidden states go out and come back, and the weights lie on the attention devices.
    Projections,
}
