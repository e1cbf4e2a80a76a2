//! What happens: engines that run a mapped cascade, their reports, and the command line.

pub mod analytic;
pub mod array;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod cycle;
pub mod device;
pub mod eval;
pub mod explain;
pub mod hardware;
pub mod npz;
pub mod offload;
pub mod plot;
pub mod program;
pub mod render;
pub mod report;
pub mod request;
pub mod runs;
pub mod serving;
pub mod sweep;
pub mod trace;
pub mod units;
pub mod validate;
