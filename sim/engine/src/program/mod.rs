//! The static program of a mapped block: what follows what on every unit, and how words get in and out.
//!
//! Both event engines run it. It fixes placement, order and pipeline offsets and holds no times but the delays that
//! follow from the hardware's geometry.
//!
//! # Tasks
//! A task is one Einsum's work on one tile, or on one *fold* of it: the steps of its own loops over which some of its
//! words stay in the PEs (the output of an output-stationary product, the weights of a weight-stationary one). PE (i,
//! j) does step k of a task at `start + k * stride + i + j`. Each array keeps its own frame of time: an array that is
//! fed from the edge of another is the row below its last one, so that the same cycle of a schedule is later there by
//! the rows in between.

mod build;
mod cursor;
mod geometry;
mod groups;
mod occupied;
mod parts;
mod read;
mod steps;
mod tiles;
mod walker;
mod words;

pub use build::{build, programs};
pub use cursor::{Cursor, Digits, Key};
pub use geometry::{Ports, Way, latency};
pub use occupied::{Sides, inside};
pub use parts::{
    Group, KeepPlan, KeepUse, Lockstep, Maker, Op, Program, Reach, Read, Staying, Stream,
    StreamKind, StreamSource, Tile,
};
pub use read::{Need, needed, stored};
pub use steps::{Follows, Runs};
pub use words::{overlap, same};
