//! What is computed: cascades of Einsums, their analysis without a mapping, and the reference interpreter.

pub mod cascade;
pub mod format;
pub mod interpret;
