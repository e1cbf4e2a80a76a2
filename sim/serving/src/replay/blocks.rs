//! Blocks of a KV cache: those that are free, longest free first, and whose tokens they still hold.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

/// A block of a request: which request, and its place among the request's blocks.
type Owner = (usize, u64);

/// The free blocks of a cache.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// By when they were given back.
    free: BTreeMap<u64, u32>,
    /// When each free block was.
    since: Vec<u64>,
    /// Whose tokens a block holds, if they fill it.
    holds: Vec<Option<Owner>>,
    /// The block of an owner.
    found: HashMap<Owner, u32>,
    next: u64,
    /// Blocks that nobody has ever taken: the longest free of all.
    fresh: u64,
}

impl Blocks {
    pub fn new(count: u64) -> Self {
        Self {
            free: BTreeMap::new(),
            since: Vec::new(),
            holds: Vec::new(),
            found: HashMap::new(),
            next: 0,
            fresh: count,
        }
    }

    /// Free blocks.
    pub fn count(&self) -> u64 {
        self.fresh + self.free.len() as u64
    }

    /// Takes blocks, the longest free first: what they hold is lost. False, and nothing taken: there are too few.
    pub fn take(&mut self, count: u64, into: &mut Vec<u32>) -> bool {
        if count > self.count() {
            return false;
        }
        let fresh = count.min(self.fresh);
        self.fresh -= fresh;
        for _ in 0..fresh {
            into.push(self.holds.len() as u32);
            self.holds.push(None);
            self.since.push(0);
        }
        for _ in fresh..count {
            if let Some((_, block)) = self.free.pop_first() {
                if let Some(owner) = self.holds[block as usize].take() {
                    self.found.remove(&owner);
                }
                into.push(block);
            }
        }
        true
    }

    /// Gives blocks back, the last first: the first ones are kept longest.
    pub fn give(&mut self, blocks: &mut Vec<u32>) {
        while let Some(block) = blocks.pop() {
            self.since[block as usize] = self.next;
            self.free.insert(self.next, block);
            self.next += 1;
        }
    }

    /// Tokens of a request fill these of its blocks.
    pub fn filled(&mut self, request: usize, blocks: &[u32], range: Range<u64>) {
        for place in range {
            if let Some(block) = blocks.get(place as usize) {
                self.holds[*block as usize] = Some((request, place));
                self.found.insert((request, place), *block);
            }
        }
    }

    /// Of a request's blocks from the first on, how many are free and still hold its tokens; no more than `most`.
    pub fn kept(&self, request: usize, most: u64) -> u64 {
        let held = |place: &u64| self.found.contains_key(&(request, *place));
        (0..most).take_while(held).count() as u64
    }

    /// Takes back blocks that were kept.
    pub fn take_back(&mut self, request: usize, count: u64, into: &mut Vec<u32>) {
        for place in 0..count {
            if let Some(block) = self.found.get(&(request, place)) {
                self.free.remove(&self.since[*block as usize]);
                into.push(*block);
            }
        }
    }
}
