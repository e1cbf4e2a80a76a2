//! The bandwidth of a memory between the outermost one and the arrays.

use einflow_arch::Accelerator;
use einflow_mappings::count::Count;

use super::channel::cycles_per_byte;

/// Parts of a cycle in which it is counted, so that tasks of a few bytes do not take a cycle each.
const PARTS: u64 = 8;

/// What passes a memory that states a bandwidth: one after another, each for its bytes over the bandwidth, rounded up
/// to eighths of a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// Cycles of one byte, exactly.
    per_byte: Count,
    /// From when on it is free, in parts of a cycle.
    free: u64,
}

/// What a task or a movement needs of it: its first and last cycle there, and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The memory.
    pub memory: usize,
    /// The first cycle in which words pass.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Bytes in all.
    pub bytes: u128,
}

impl Bandwidth {
    /// That of a memory at rest; none of the outermost, whose channel has it, or where none is stated.
    pub fn new(accelerator: &Accelerator, memory: usize) -> Option<Self> {
        let per_byte = cycles_per_byte(accelerator, &accelerator.memories[memory])?;
        (memory > 0).then_some(Self { per_byte, free: 0 })
    }

    /// How long bytes take, in parts of a cycle.
    fn time(&self, bytes: u128) -> Option<u64> {
        let parts = self.per_byte.times(bytes)?.times(PARTS.into())?;
        u64::try_from(parts.ceiling()).ok()
    }

    /// By how many cycles a load has to be moved on: until it can have passed by its last cycle, or, where it takes
    /// longer than from its first to its last, until all before it has passed. None on overflow.
    pub fn delay(&self, load: &Load) -> Option<u64> {
        let time = self.time(load.bytes)?;
        let span = (load.last + 1 - load.first).saturating_mul(PARTS);
        let slack = span.saturating_sub(time);
        let from = self.free.saturating_sub(slack).div_ceil(PARTS);
        Some(from.saturating_sub(load.first))
    }

    /// Lets a load pass: when the last of all has. None on overflow.
    pub fn take(&mut self, load: &Load) -> Option<u64> {
        let from = self.free.max(load.first.checked_mul(PARTS)?);
        self.free = from.checked_add(self.time(load.bytes)?)?;
        Some(self.free.div_ceil(PARTS))
    }

    /// The same with times relative to `now`.
    pub fn relative(&self, now: u64) -> Self {
        Self {
            free: self.free.saturating_sub(now.saturating_mul(PARTS)),
            ..self.clone()
        }
    }

    /// From when on it is free, and in how many parts of a cycle that is counted.
    pub fn free(&mut self) -> (&mut u64, u64) {
        (&mut self.free, PARTS)
    }

    /// Moves all times on.
    pub fn move_on(&mut self, by: u64) {
        self.free = self.free.saturating_add(by.saturating_mul(PARTS));
    }
}
