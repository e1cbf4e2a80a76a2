//! The outermost memory's channel: one request at a time, each a whole number of cycles.

use std::collections::VecDeque;

use einflow_arch::{Accelerator, Memory};
use einflow_mappings::count::Count;

/// When a request moved its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The channel began.
    pub start: u64,
    /// The first data are at the other side.
    pub first: u64,
    /// All data are at the other side.
    pub whole: u64,
}

/// A memory's channel. A request is the movement of one tile: it waits for its turn, occupies the channel for its
/// bytes over the bandwidth, rounded up to whole cycles, and its data arrive the latency later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Cycles of one byte, exactly; none: a row a cycle.
    per_byte: Option<Count>,
    /// Bytes of a row.
    row: u64,
    /// Cycles from a request to its first data.
    pub latency: u64,
    /// Requests under way at most.
    outstanding: Option<usize>,
    /// From when on it is free.
    pub free: u64,
    /// When the requests under way end, ascending.
    pub under_way: VecDeque<u64>,
}

impl Channel {
    /// A memory's channel at rest.
    pub fn new(accelerator: &Accelerator, memory: &Memory) -> Self {
        let latency = memory.latency.cycles(accelerator.clock).0;
        Self {
            per_byte: cycles_per_byte(accelerator, memory),
            row: u64::try_from(memory.row.0.max(1)).unwrap_or(u64::MAX),
            latency: u64::try_from(latency).unwrap_or(u64::MAX),
            outstanding: memory
                .outstanding
                .map(|n| usize::try_from(n.max(1)).unwrap_or(usize::MAX)),
            free: 0,
            under_way: VecDeque::new(),
        }
    }

    /// The same with times relative to `now`, without what has ended.
    pub fn relative(&self, now: u64) -> Self {
        let live = self.under_way.iter().filter(|end| **end > now);
        Self {
            free: self.free.saturating_sub(now),
            under_way: live.map(|end| end - now).collect(),
            ..self.clone()
        }
    }

    /// Moves all times on.
    pub fn move_on(&mut self, by: u64) {
        self.free += by;
        self.under_way.iter_mut().for_each(|end| *end += by);
    }

    /// Whole cycles that bytes occupy the channel.
    pub fn duration(&self, bytes: u128) -> Option<u64> {
        if bytes == 0 {
            return Some(0);
        }
        let cycles = match self.per_byte {
            Some(each) => each.times(bytes)?.ceiling(),
            None => bytes.div_ceil(self.row.into()),
        };
        u64::try_from(cycles.max(1)).ok()
    }

    /// The earliest cycle in which a request that is there at `ready` may begin, and whether the channel is what it
    /// waits for.
    pub fn earliest(&self, ready: u64) -> (u64, bool) {
        let mut start = ready.max(self.free);
        if let Some(limit) = self.outstanding {
            // As many as are allowed are under way until the oldest of the last `limit` has ended.
            let after = self.under_way.len().checked_sub(limit);
            if let Some(end) = after.and_then(|at| self.under_way.get(at)) {
                start = start.max(*end);
            }
        }
        (start, start > ready)
    }

    /// Moves bytes from `start` on, which [`Channel::earliest`] allowed.
    pub fn take(&mut self, start: u64, duration: u64) -> Moved {
        while self.under_way.front().is_some_and(|end| *end <= start) {
            self.under_way.pop_front();
        }
        let first = start + self.latency;
        let whole = first + duration;
        self.free = start + duration;
        // Latency is the same for all, so they end in order.
        self.under_way.push_back(whole);
        Moved {
            start,
            first,
            whole,
        }
    }
}

/// Cycles in which a memory moves a byte, exactly; none where it states no bandwidth (or the fraction overflows).
pub fn cycles_per_byte(accelerator: &Accelerator, memory: &Memory) -> Option<Count> {
    let (clock, clock_scale) = exact(accelerator.clock.0);
    let (rate, rate_scale) = exact(memory.bandwidth?.0);
    // 1 / (rate / rate_scale) seconds, times clock / clock_scale.
    Count::whole(clock)
        .times(rate_scale)?
        .over(rate)?
        .over(clock_scale)
}

/// A positive finite number as numerator and denominator (a power of two), exactly.
fn exact(value: f64) -> (u128, u128) {
    let (mut value, mut scale) = (value, 1u128);
    while value.fract() != 0.0 && scale < 1 << 60 {
        value *= 2.0;
        scale *= 2;
    }
    (value as u128, scale)
}
