//! Tiles: sets of words that a place remembers until the next ones stand there.

use std::collections::BTreeSet;

use einflow_mappings::mapped::Place;

use crate::walk::Exact;

/// A place that keeps a tensor, as one nest sees it.
#[derive(Clone, Debug)]
pub struct Level {
    pub memory: usize,
    pub depth: usize,
    pub share: Exact,
    pub through: bool,
    pub nest: Option<usize>,
}

/// A tile that is remembered until the next one stands in its place.
#[derive(Default)]
pub struct Tile {
    /// The iteration of the loops around it.
    pub at: Option<Vec<u64>>,
    pub before: BTreeSet<u64>,
    pub now: BTreeSet<u64>,
    /// What the first point touches.
    pub first: Vec<u64>,
    /// Words in whose place others stand when the tile leaves.
    pub stale: BTreeSet<u64>,
    /// Words that were here and left.
    pub left: BTreeSet<u64>,
    /// All words that a tile of results may have.
    pub whole: Vec<u64>,
}

impl Tile {
    pub fn turn(&mut self, at: &[u64]) -> bool {
        if self.at.as_deref() == Some(at) {
            return false;
        }
        self.at = Some(at.to_vec());
        self.before = std::mem::take(&mut self.now);
        let stale = std::mem::take(&mut self.stale);
        self.before.retain(|word| !stale.contains(word));
        true
    }

    /// Words that have to be fetched so that these are here.
    pub fn fetch(&mut self, at: &[u64], words: &[u64]) -> u128 {
        self.turn(at);
        words
            .iter()
            .filter(|w| self.now.insert(**w) && !self.before.contains(*w))
            .count() as u128
    }

    /// Adds results to a tile that stays while it is of these words in all: words that leave, and partial ones that come
    /// back.
    pub fn hold(&mut self, whole: &[u64], made: &[u64]) -> (u128, u128) {
        let mut leave = 0;
        if self.whole != whole {
            leave = self.now.len() as u128;
            self.left.append(&mut self.now);
            self.whole = whole.to_vec();
        }
        let again = |w: &&u64| self.now.insert(**w) && self.left.contains(*w);
        (leave, made.iter().filter(again).count() as u128)
    }

    /// Replaces a tile of results: words that leave, and partial ones that come back.
    pub fn replace(&mut self, at: &[u64], words: &[u64]) -> (u128, u128) {
        if !self.turn(at) {
            return (0, 0);
        }
        self.now = words.iter().copied().collect();
        let leave = self.before.difference(&self.now).count() as u128;
        self.left.extend(self.before.difference(&self.now));
        let back = self
            .now
            .iter()
            .filter(|w| !self.before.contains(w) && self.left.contains(w))
            .count() as u128;
        (leave, back)
    }
}

/// Which tile: an operand of an Einsum at the array, a tensor in registers or in a memory, results at the array,
/// results in a memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Operand {
        einsum: (usize, usize),
        operand: usize,
    },
    Held {
        tensor: usize,
        place: Place,
        nest: Option<usize>,
    },
    Results {
        einsum: (usize, usize),
    },
    Drained {
        einsum: (usize, usize),
        level: usize,
    },
}
