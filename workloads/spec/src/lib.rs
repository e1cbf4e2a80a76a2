//! What every specification file of einflow has in common: RON text with positions, problems that
//! name their place, integer expressions, typed quantities and the embedded library.
//!
//! A file is read in two stages. [`Node::parse`] turns RON text into a tree in which every value
//! knows its place ([`Node`]). Each crate then decodes its own specification from the tree with
//! [`Fields`], collecting every mistake in a [`Problems`] list; only a RON syntax error ends a list
//! early.
//!
//! ```
//! use einflow_spec::{Node, Source};
//!
//! let source = Source::new("mine.ron", "(rows: 4, name: \"small\")");
//! let node = Node::parse(&source)?;
//! let (key, _, value) = &node.record()?[0];
//! assert_eq!((key.as_str(), value.u64()?), ("rows", 4));
//!
//! let problem = value.text().unwrap_err();
//! assert!(problem.to_string().starts_with("mine.ron:1:8: "));
//! # Ok::<(), einflow_spec::Problems>(())
//! ```

mod edit;
pub mod expr;
mod fields;
pub mod files;
mod format;
mod library;
pub mod measure;
mod names;
mod node;
mod problem;
pub mod quantity;
mod reader;
mod record;
mod source;
mod sources;
mod stored;
mod written;

pub use edit::{Edit, edited, find};
pub use fields::Fields;
pub use format::{NumberFormat, Rounding, rounding};
pub use library::{Library, Origin};
pub use names::{At, Name, Named, did_you_mean, nearest};
pub use node::{Kind, Node};
pub use problem::{Problem, Problems};
#[doc(hidden)]
pub use record::Maybe;
pub use record::{Check, FieldRow, Form, Key, Part, Record, Written, table, with_tables};
pub use source::{Location, Source, Span};
pub use sources::check_sources;
pub use stored::Stored;
pub use written::{by_name, choice, choices, counted, list, map, pairs, positive, text, texts};
