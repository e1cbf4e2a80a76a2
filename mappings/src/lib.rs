//! How a cascade is laid on an accelerator: the mapping file, loop nests, legality and search.

mod library;
pub mod spec;

pub use library::mappings;
