//! How a cascade is laid on an accelerator: the mapping file, loop nests, legality and search.

mod bind;
pub mod count;
mod library;
pub mod mapped;
pub mod nest;
pub mod spec;
mod touches;

pub use bind::bind;
pub use library::mappings;
