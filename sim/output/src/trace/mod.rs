//! Traces: a window of a run of the cycle engine, for people to look at.
//!
//! A [`Recorder`] watches a run and keeps what happens in a [`TraceWindow`]; [`Recorder::write`] writes it as Chrome trace
//! JSON, which Perfetto and `chrome://tracing` open, and [`crate::plot::waterfall`] draws two epochs of it.
//!
//! # Tracks
//! Each array has a track, and one more for each further Einsum whose turns alternate with the first's (`array2d, turn 2`); each memory
//! whose channel moves words has one, reads and writes together; uses of a memory's ports are laid on as few tracks as keep them
//! apart, the lowest free one first. Slices of a track never overlap. An array's times are those of its PE (0, 0). A use of ports is
//! named by the task whose accesses are then; where several operands have the same times, in the order in which the Einsum reads them.
//!
//! # Counters
//! A memory's occupancy counts the tiles that it keeps, each with the room of its largest, from the first cycle of its load
//! (of the first task that writes it) to the end of its last user, at the latest until its successor takes the room. Bandwidth is a
//! movement's bytes over its cycles.
//!
//! # What a window costs
//! A traced run does not jump: the engine walks from the start to the window's end, task by task, though it keeps only the
//! window: a second for some fifteen million cycles of FuseMax. A window at the start of a long run is as fast as at the start of a
//! short one; one in the middle of a million tokens is out of reach.

mod lives;
mod recorder;
mod tracks;
mod write;

pub(crate) use recorder::TaskSlice;
pub use recorder::{MOST_SLICES, Recorder};

use std::{fmt, io, str::FromStr};

use einflow_mappings::{mapped::MappedCascade, nest::CountError};

use einflow_engine::{cycle, events::EventError};

/// Cycles that a trace shows: all that is under way in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceWindow {
    /// The first cycle.
    pub from: u64,
    /// The cycle after the last.
    pub to: u64,
}

impl FromStr for TraceWindow {
    type Err = TraceError;

    /// Reads `A..B`.
    fn from_str(text: &str) -> Result<Self, TraceError> {
        let wrong = || TraceError::Window(text.to_string());
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let number = |t: &str| {
            t.trim()
                .replace('_', "")
                .parse::<u64>()
                .map_err(|_| wrong())
        };
        let window = Self {
            from: number(from)?,
            to: number(to)?,
        };
        if window.from < window.to {
            Ok(window)
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for TraceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A block that cannot be run.
    #[error("{0}")]
    Count(#[from] CountError),
    /// A run that fails.
    #[error("{0}")]
    Run(#[from] EventError),
    /// A file that cannot be written.
    #[error("cannot write the trace: {0}")]
    Write(#[from] io::Error),
    /// A window that is none.
    #[error("`{0}` is no window of cycles such as 0..20000")]
    Window(String),
}

/// Runs a mapped cascade until the window has been seen. `title` says what runs: model and length, say.
///
/// # Errors
/// A run that fails.
pub fn record(
    mapped: &MappedCascade,
    window: Option<TraceWindow>,
    title: &str,
) -> Result<Recorder, TraceError> {
    let mut recorder = Recorder::new(mapped, window)?.titled(title);
    let runs = cycle::run(mapped, false, &mut recorder)?;
    if recorder.complete() {
        recorder = recorder.of(runs.iter().map(|r| r.cycles).sum());
    }
    Ok(recorder)
}
