//! What is computed: cascades of Einsums, their analysis without a mapping, and the reference interpreter.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use einflow_spec::Source;
//! use einflow_workloads::{
//!     cascade::Cascade,
//!     interpret::{Array, Options, interpret},
//! };
//!
//! let file = r#"(
//!     name: "product", source: "assumed", description: "A matrix product.",
//!     inputs: ["A[i, k]", "B[k, j]"], outputs: ["C[i, j]"],
//!     einsums: "C[i, j] = A[i, k] * B[k, j]",
//! )"#;
//! let cascade = Cascade::parse(&Source::new("product.ron", file))?;
//! let given = [("I", 1), ("J", 2), ("K", 2)].map(|(name, size)| (name.to_owned(), size));
//! let inputs = BTreeMap::from([
//!     ("A".to_owned(), Array::new([1, 2], [1.0, 2.0])),
//!     ("B".to_owned(), Array::new([2, 2], [3.0, 4.0, 5.0, 6.0])),
//! ]);
//! let options = Options::new("f64".parse().expect("a number format"));
//! let outputs = interpret(&cascade, &cascade.sizes(&given.into())?, &inputs, &options)?;
//! assert_eq!(outputs["C"].data, [13.0, 16.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod analysis;
pub mod bounds;
pub mod cascade;
mod check;
pub mod counts;
mod emptiness;
mod file;
pub mod interpret;
pub mod layer;
pub mod library;
pub mod models;
pub mod sizes;
mod statement;

pub use library::cascades;
pub use models::{Model, models};
