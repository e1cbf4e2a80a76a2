//! What is computed: cascades of Einsums, their analysis without a mapping, and the reference interpreter.

pub mod analysis;
pub mod bounds;
pub mod cascade;
mod check;
mod file;
pub mod format;
pub mod interpret;
pub mod layer;
pub mod library;
pub mod models;
pub mod sizes;
mod statement;

pub use library::cascades;
pub use models::{Model, models};
