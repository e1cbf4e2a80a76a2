//! Serving requests on one device: a server's scheduler, step by step, over a trace of requests.
//!
//! [`trace`] reads requests, [`schedule`] says what a step runs, [`step`] how long that takes, [`replay()`] joins them.

mod blocks;
pub mod run;
pub mod schedule;
pub mod step;
pub mod trace;

pub use run::{Replayed, Served, replay};
pub use schedule::{Policy, Scheduler};
pub use trace::Arrival;
