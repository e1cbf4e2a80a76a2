//! How a cascade is laid on an accelerator: the mapping file, loop nests, legality and search.
//!
//! [`bind`] is the way in: what it returns is legal, and all that an engine needs.
//!
//! ```
//! use einflow_arch::{Accelerator, accelerators};
//! use einflow_mappings::{bind, mappings, spec::MappingSpec};
//! use einflow_workloads::{Model, cascade::Cascade, cascades};
//!
//! let shipped = "a shipped file";
//! let cascade = Cascade::parse(&cascades().get("attention/one-pass").expect(shipped))?;
//! let chip = Accelerator::parse(&accelerators().get("fusemax").expect(shipped))?;
//! let mapping = MappingSpec::parse(&mappings().get("fusemax-binding").expect(shipped), None)?;
//! let sizes = Model::load("bert", None)?.sizes(1024);
//! let mapped = bind(&cascade.into(), &chip.into(), &mapping.into(), &sizes)?;
//! // A tile of queries is as wide as the array; four of them share a pass over the keys.
//! assert_eq!((mapped.sizes["P0"], mapped.sizes["P1"]), (256, 4));
//! # Ok::<(), einflow_spec::Problems>(())
//! ```

mod bind;
pub mod count;
pub mod hierarchy;
mod library;
pub mod mapped;
pub mod nest;
pub mod passed;
pub mod spec;
mod touches;

pub use bind::bind;
pub use library::mappings;
