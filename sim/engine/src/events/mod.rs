//! The rules that every event engine runs by: when a task may start, what it takes, and what it gives back.
//!
//! A [`Machine`] walks a program in the order of time. What may start when is in `candidate.rs` (units), `streams.rs`
//! (movements), `keeps.rs` (room) and `segments.rs` (phases); `start.rs` and `ports.rs` take what a start takes and
//! count it.
//! All that changes is one [`State`]. A [`BackEnd`] is told of each start and does with it what its engine is for:
//! the cycle
//! engine looks for states that come round, the array engine moves words. An [`Observer`] only watches.

mod assumed;
mod candidate;
mod cause;
mod error;
mod keeps;
mod machine;
mod observer;
mod ports;
mod segments;
mod start;
mod state;
mod streams;
mod timing;

pub use cause::{Cause, Side};
pub use error::{EventError, Wait};
pub use machine::{BackEnd, Machine};
pub use observer::{Movement, Observer, Task, Unseen};
pub use state::{
    Arrived, Barrier, Blocked, Candidate, Held, OpState, Started, State, StreamState, Totals, Turn,
    Use, Whom,
};
pub use timing::{Slot, Steps, issued};
