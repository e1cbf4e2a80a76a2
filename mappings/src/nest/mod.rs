//! Exact reuse counting: how often a loop nest runs, and how many words of a tensor move.
//!
//! A [`Space`] of ranks is cut by [`Loop`]s, outermost first, into boxes. The box below
//! all loops, seen through a tensor's [`Projection`], is that tensor's tile. A memory that keeps
//! the tile remembers the previous one only: unchanged, nothing moves; changed, what is new is
//! fetched. [`moved`] sums that over all iterations without walking them. Loops over instances side
//! by side ([`Spread`]) cost no time; their instances take what they need from one source, or each
//! from its own.

mod condition;
mod cuts;
mod dim;
mod distinct;
mod error;
mod images;
mod moved;
mod pair;
mod plain;
mod projection;
mod region;
mod skip;
mod space;
mod values;
mod walk;

pub use condition::{Condition, PointTest};
pub use dim::{Dim, Term, Wrapped};
pub use error::CountError;
pub use moved::{
    Moved, Reuse, common, enumerated, footprint, instances, iterations, iterations_within, moved,
    moved_at, moved_within, points, same, touched, used,
};
pub use projection::{MAX_DIMS, Projection};
pub use region::Occupied;
pub use space::{Loop, MAX_LOOPS, MAX_RANKS, Space, Spread};
