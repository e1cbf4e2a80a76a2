//! What happens on the chip: engines that run a mapped cascade, the check of their values, and their report.
//!
//! [`analytic`] counts and adds ideal times. [`mod@cycle`] and [`mod@array`] run the same [`program`] on the same
//! [`hardware`]: tiles as tasks on real resources, and every word through every PE. [`mod@check`] holds values against
//! references; a [`report`] is data only. A [`request`] goes the whole way, from names of files (read once, by a
//! [`catalog`]) to a report.

pub mod analytic;
pub mod array;
pub mod catalog;
pub mod check;
pub mod cycle;
pub mod hardware;
pub mod program;
pub mod report;
pub mod request;
pub mod units;
