//! Blocks of a KV cache: how many are free, and whose tokens those still hold that nobody has taken.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// The blocks of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    all: u64,
    free: u64,
    /// Of the free ones, those that hold nothing: the longest free of all.
    fresh: u64,
    /// The others by when they were given back, a run for each time.
    runs: BTreeMap<u64, Run>,
    /// The run of each request that may come back.
    found: FxHashMap<usize, u64>,
    next: u64,
    reuse: bool,
}

/// Blocks that a request gave back at once: its first ones, as those behind are taken before.
#[derive(Clone, Debug)]
struct Run {
    blocks: u64,
    /// Whose tokens fill how many of them, if it may come back.
    owner: Option<(usize, u64)>,
}

impl Blocks {
    /// All free; `reuse`: those that are given back keep what they hold until somebody takes them.
    pub fn new(count: u64, reuse: bool) -> Self {
        Self {
            all: count,
            free: count,
            fresh: count,
            reuse,
            ..Self::default()
        }
    }

    /// Free blocks.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Blocks that somebody holds.
    pub fn used(&self) -> u64 {
        self.all - self.free
    }

    /// Takes blocks, the longest free first: what they hold is lost. False, and nothing taken: there are too few.
    pub fn take(&mut self, count: u64) -> bool {
        if count > self.free {
            return false;
        }
        self.free -= count;
        let fresh = count.min(self.fresh);
        self.fresh -= fresh;
        let mut left = count - fresh;
        while left > 0 {
            let Some(mut oldest) = self.runs.first_entry() else {
                break;
            };
            let run = oldest.get_mut();
            let taken = left.min(run.blocks);
            run.blocks -= taken;
            left -= taken;
            if run.blocks == 0
                && let Some((request, _)) = oldest.remove().owner
            {
                self.found.remove(&request);
            }
        }
        true
    }

    /// Gives blocks back, the last first: the first ones are kept longest. `owner`: a request that may come back, and how
    /// many of them its tokens fill.
    pub fn give(&mut self, blocks: u64, owner: Option<(usize, u64)>) {
        self.free += blocks;
        if !self.reuse {
            self.fresh += blocks;
            return;
        }
        if blocks == 0 {
            return;
        }
        if let Some((request, _)) = owner {
            self.found.insert(request, self.next);
        }
        self.runs.insert(self.next, Run { blocks, owner });
        self.next += 1;
    }

    /// Of a request's blocks from the first on, how many are free and still hold its tokens; no more than `most`.
    pub fn kept(&self, request: usize, most: u64) -> u64 {
        let run = self.found.get(&request).and_then(|at| self.runs.get(at));
        run.map_or(0, |run| {
            let full = run.owner.map_or(0, |(_, full)| full);
            run.blocks.min(full).min(most)
        })
    }

    /// A request takes back blocks that were kept; the rest of them is anybody's.
    pub fn take_back(&mut self, request: usize, count: u64) {
        let Some(at) = self.found.remove(&request) else {
            return;
        };
        if let Some(run) = self.runs.get_mut(&at) {
            run.blocks -= count;
            run.owner = None;
            self.free -= count;
            if run.blocks == 0 {
                self.runs.remove(&at);
            }
        }
    }
}
