//! What happens: engines that run a mapped cascade, their reports, and the command line.

pub mod catalog;
pub mod cli;
pub mod device;
pub mod eval;
pub mod explain;
pub mod npz;
pub mod offload;
pub mod plot;
pub mod render;
pub mod request;
pub mod runs;
pub mod serving;
pub mod sweep;
pub mod trace;
pub mod validate;
