//! Words that move for a task: those of each step that the step before did not hold.

use crate::program::Tile;

use einflow_mappings::{
    mapped::Transfer,
    nest::{Dim, Reuse},
};

use super::place::Words;

/// Counts the words of one transfer as steps go by.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    /// The transfer.
    pub transfer: usize,
    /// What it is.
    pub moved: Transfer,
    words: Words,
    /// Where words are of use only in their places: what tells whether they are there still.
    in_place: Option<Vec<Dim>>,
    /// Words change with the task, not with the step.
    pub by_task: bool,
    /// Words of the last step.
    held: Vec<usize>,
    next: Vec<usize>,
    last: Option<Tile>,
}

impl Counter {
    /// Of this transfer of a block, in a space of these sizes.
    pub fn new(transfer: usize, moved: &Transfer, sizes: &[u64], by_task: bool) -> Self {
        Self {
            transfer,
            moved: moved.clone(),
            words: Words::counting(&moved.projection, sizes),
            in_place: (moved.reuse == Reuse::InPlace).then(|| moved.projection.dims.clone()),
            by_task,
            held: Vec::new(),
            next: Vec::new(),
            last: None,
        }
    }

    /// New words of the points in a box.
    pub fn step(&mut self, tile: &Tile) -> u128 {
        let same = |last: &Tile| self.words.same_points(last, tile);
        if self.last.as_ref().is_some_and(same) {
            return 0;
        }
        self.words.words(tile, &mut self.next);
        let mut new = 0;
        let mut held = self.held.iter().peekable();
        for word in &self.next {
            while held.next_if(|h| *h < word).is_some() {}
            if held.peek() != Some(&word) {
                new += 1;
            }
        }
        if let (Some(dims), Some(last)) = (&self.in_place, &self.last)
            && dims.iter().any(|d| d.first(last) != d.first(tile))
        {
            new = self.next.len() as u128;
        }
        std::mem::swap(&mut self.held, &mut self.next);
        self.last = Some(*tile);
        new
    }
}
