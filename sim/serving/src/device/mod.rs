//! Devices: what a kernel, a layer or a message takes on real hardware, from laws or tables, and on an accelerator of this
//! simulator beside it.
//!
//! A table's row ([`table`]) becomes a [`Task`]; a device answers it ([`Answerer`]); [`predict`] puts answers beside measured times, and
//! [`fit`] finds a law's parameters from them.

mod accelerator;
mod answer;
pub mod apart;
pub mod cells;
pub mod divided;
pub mod energy;
pub mod file;
pub mod fit;
pub mod formats;
pub mod halves;
pub mod layer;
pub mod predict;
pub mod profiled;
pub mod table;
pub mod two_gpus;

pub use answer::{Answer, Answerer};

use einflow_arch::device::{Collective, Kernel};

/// How kernels are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// One by one, by the host.
    Eager,
    /// As a captured graph: without the host.
    Graph,
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The law that answers, without the launch: `product`, `decode:flash`.
    pub law: String,
    /// The work.
    pub kernel: Kernel,
    /// Nothing of its data is in the cache when it begins.
    pub flushed: bool,
}

/// A part of a [`Task`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A kernel.
    Call(Call),
    /// The fastest of several ways to do the same.
    Fastest(Vec<Call>),
    /// A kernel that finds nothing in the cache which has yet to be written back, unlike one that is timed alone after a flush.
    Clean(Call),
    /// So many gaps between kernels of a graph of which each needs the one before.
    Gaps(u64),
    /// The same again and again.
    Repeat {
        /// How often.
        count: u64,
        /// What.
        steps: Vec<Step>,
    },
    /// Layers whose attention is on a second device like this one.
    Apart(Box<apart::Apart>),
    /// Several at once, until the last has ended.
    Beside(Vec<Vec<Step>>),
    /// Messages over a link, one after another.
    Send {
        /// The operation in the link's file.
        operation: String,
        /// The link.
        link: String,
        /// Bytes of one.
        bytes: u64,
        /// How many.
        count: u64,
    },
    /// A reduction over devices.
    AllReduce {
        /// The operation in the link's file.
        operation: String,
        /// The link.
        link: String,
        /// Bytes.
        bytes: u64,
        /// Devices.
        devices: u64,
        /// How.
        how: Collective,
    },
}

/// What is asked of a device: steps, one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The steps.
    pub steps: Vec<Step>,
    /// How they are launched.
    pub launch: Launch,
    /// Whether its steps follow one another without the events that a kernel timed alone has around it.
    pub chained: bool,
    /// Whether such events are around the whole.
    pub events: bool,
}

impl Task {
    /// One kernel, timed alone.
    pub fn alone(call: Call, launch: Launch) -> Self {
        Self {
            steps: vec![Step::Call(call)],
            launch,
            chained: false,
            events: false,
        }
    }
}
