//! What a cascade runs on: accelerators, described in RON files by memories, arrays, operators,
//! energies and areas; and devices, real ones beside them ([`device`]).
//!
//! [`Accelerator::parse`] reads a file, [`accelerators`] holds the ones that travel inside the binary, and
//! `docs/src/reference/accelerators.md` is the reference of the format. Nothing here knows what is computed: an operator is a name.
//!
//! ```
//! use einflow_arch::{Accelerator, accelerators};
//!
//! let chip = Accelerator::parse(&accelerators().get("fusemax").expect("a shipped file"))?;
//! assert_eq!((chip.arrays[0].rows, chip.arrays[0].columns), (256, 256));
//! // Chip area in um^2, from what each component and bit takes.
//! assert!(chip.area().total().0 > 1.2e9);
//! # Ok::<(), einflow_spec::Problems>(())
//! ```

mod accelerator;
mod area;
mod check;
pub mod device;
mod library;
mod link;
mod memory;
mod paths;
mod pe_array;

pub use accelerator::{Accelerator, Counting};
pub use area::{AreaEntry, AreaLedger};
pub use einflow_spec::measure;
pub use library::accelerators;
pub use link::{Direction, Link};
pub use memory::{Latency, Memory};
pub use paths::bears_on_mappings;
pub use pe_array::{Array, Component, Operator, Polynomial, RangeReduction, Registers};
