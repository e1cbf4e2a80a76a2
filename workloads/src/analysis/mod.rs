//! What follows from a cascade alone, with no mapping: operation counts, sizes of tensors, the traffic that no mapping
//! avoids, passes over fibers and what they force to be held, and a graph.

mod dot;
mod footprint;
mod operations;
mod passes;
pub mod points;

pub use dot::dot;
pub use footprint::{Compulsory, Footprint, compulsory, footprints};
pub use operations::{EinsumOperations, Operations, kinds_of, operations, points_of};
pub use passes::{Live, PassReport, Passes, passes};
