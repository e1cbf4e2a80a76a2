//! What is assumed of the hardware, as nothing is published.

/// Tasks whose streamed words, or results, wait at an array's edge: those of the task that runs and of the next, as
/// double buffering has it. Assumed, as nothing is published.
pub const TASKS_AT_EDGE: u64 = 2;
/// Fills and drains take at most one in so many of a memory's ports; the others are left to the arrays. Assumed.
pub const FILL_PORTS: u64 = 2;
