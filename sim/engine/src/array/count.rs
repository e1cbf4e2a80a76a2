//! Words that move for a task: those of each step that the step before did not hold.

use crate::program::Tile;

use super::place::Access;

/// Counts the words of one transfer as steps go by.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    /// The transfer.
    pub transfer: usize,
    access: Access,
    /// Words change with the task, not with the step.
    pub by_task: bool,
    /// Words of the last step.
    held: Vec<usize>,
    next: Vec<usize>,
    last: Option<Tile>,
}

impl Counter {
    pub fn new(transfer: usize, access: Access, by_task: bool) -> Self {
        Self {
            transfer,
            access,
            by_task,
            held: Vec::new(),
            next: Vec::new(),
            last: None,
        }
    }

    /// New words of the points in a box.
    pub fn step(&mut self, tile: &Tile) -> u128 {
        let same = |last: &Tile| {
            self.access
                .parts
                .iter()
                .all(|p| last[p.rank] == tile[p.rank])
        };
        if self.last.as_ref().is_some_and(same) {
            return 0;
        }
        self.access.words(tile, &mut self.next);
        let mut new = 0;
        let mut held = self.held.iter().peekable();
        for word in &self.next {
            while held.next_if(|h| *h < word).is_some() {}
            if held.peek() != Some(&word) {
                new += 1;
            }
        }
        std::mem::swap(&mut self.held, &mut self.next);
        self.last = Some(*tile);
        new
    }
}
