//! Walking an Einsum's tasks in the order of its loops, empty tiles left out.

use std::ops::RangeInclusive;

use einflow_mappings::{mapped::NamedLoop, nest::CountError};

use smallvec::{SmallVec, smallvec};

use super::{
    occupied::{Sides, count, inside, numbered, occupied_tiles, pass_empty},
    parts::{Op, Program, Tile},
};

/// Digits of loops.
pub type Digits = SmallVec<[u64; 8]>;

/// When a task is due on its unit: tasks of a unit run in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Which filling of the pipeline.
    pub scope: u64,
    /// The nest: nests run one after another inside the block's loops.
    pub nest: usize,
    /// The tile's number in it, less the Einsum's offset.
    pub epoch: i64,
    /// The segment of the epoch.
    pub segment: usize,
    /// The place in the segment.
    pub place: usize,
    /// The fold.
    pub fold: u64,
}

/// Where an Einsum stands in its sequence of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Digits of the nest's loops; the loop at whose exit it runs stands at its last iteration.
    pub digits: Digits,
    /// Digits of the folds.
    pub folds: Digits,
    /// The number of the current tile within its scope.
    pub number: u64,
    /// No task is left.
    pub done: bool,
    /// Where empty tiles are left out: the full tile at which the walk stands, and its number.
    walk: Option<(Digits, u64)>,
}

/// Moves digits on by so many iterations of the innermost of their loops.
fn count_on(digits: &mut [u64], loops: &[NamedLoop], by: u64) {
    let mut by = by;
    for (at, (digit, l)) in digits.iter_mut().zip(loops).enumerate().rev() {
        *digit += by;
        if at > 0 {
            by = *digit / l.count.max(1);
            *digit %= l.count.max(1);
        }
    }
}

impl Cursor {
    /// At an Einsum's first task.
    ///
    /// # Errors
    /// Conditions that cannot be tested.
    pub fn first(program: &Program, op: &Op) -> Result<Self, CountError> {
        let loops = &program.nests[op.at.0];
        let mut cursor = Self {
            digits: smallvec![0; loops.len()],
            folds: smallvec![0; op.folds.len()],
            number: 0,
            done: false,
            walk: None,
        };
        if program.occupied.is_some() {
            cursor.walk = Some((smallvec![0; loops.len()], 0));
            if !cursor.settle(program, op, 0)? {
                cursor.done = true;
                return Ok(cursor);
            }
            cursor.take_walk(program, op)?;
        } else {
            cursor.pin(program, op);
        }
        Ok(cursor)
    }

    /// To the next task.
    ///
    /// # Errors
    /// Conditions that cannot be tested.
    pub fn advance(&mut self, program: &Program, op: &Op) -> Result<(), CountError> {
        if self.done {
            return Ok(());
        }
        let tile = self.tile_of_loops(program, op);
        for at in (0..op.folds.len()).rev() {
            let mut outer = tile;
            for (l, digit) in op.folds[..at].iter().zip(&self.folds) {
                inside(&mut outer, l, *digit);
            }
            if self.folds[at] + 1 < count(&outer, &op.folds[at]) {
                self.folds[at] += 1;
                self.folds[at + 1..].fill(0);
                return Ok(());
            }
        }
        self.folds.fill(0);
        self.next_tile(program, op)
    }

    fn next_tile(&mut self, program: &Program, op: &Op) -> Result<(), CountError> {
        if self.walk.is_some() {
            return self.next_walked(program, op);
        }
        let loops = &program.nests[op.at.0];
        for at in op.loops.iter().rev() {
            let mut tile = program.whole;
            for (l, digit) in loops[..*at].iter().zip(&self.digits) {
                inside(&mut tile, l, *digit);
            }
            if self.digits[*at] + 1 < count(&tile, &loops[*at]) {
                self.digits[*at] += 1;
                self.digits[*at + 1..].fill(0);
                if op.every_tile {
                    self.number = if *at < program.scopes {
                        0
                    } else {
                        self.number + 1
                    };
                } else {
                    self.pin(program, op);
                }
                return Ok(());
            }
        }
        self.done = true;
        Ok(())
    }

    /// Puts the loop at whose exit the Einsum runs to its last iteration, and numbers the tile.
    fn pin(&mut self, program: &Program, op: &Op) {
        let loops = &program.nests[op.at.0];
        let mut tile = program.whole;
        let mut number = 0u64;
        for (at, l) in loops.iter().enumerate() {
            if op.exit == Some(at) {
                self.digits[at] = count(&tile, l) - 1;
            }
            if at >= program.scopes && self.digits[at] > 0 {
                // Iterations before the current one are full.
                let mut full = tile;
                inside(&mut full, l, 0);
                let each = Sides(&loops[at + 1..]).iterations(&full);
                number = number.saturating_add(each.saturating_mul(self.digits[at]));
            }
            inside(&mut tile, l, self.digits[at]);
        }
        self.number = number;
    }

    /// The tile without the folds: that of the loops in which the Einsum runs.
    fn tile_of_loops(&self, program: &Program, op: &Op) -> Tile {
        let loops = &program.nests[op.at.0];
        let mut tile = program.whole;
        for at in &op.loops {
            inside(&mut tile, &loops[*at], self.digits[*at]);
        }
        tile
    }

    /// The current task's tile.
    pub fn tile(&self, program: &Program, op: &Op) -> Tile {
        let mut tile = self.tile_of_loops(program, op);
        for (l, digit) in op.folds.iter().zip(&self.folds) {
            inside(&mut tile, l, *digit);
        }
        tile
    }

    /// When the task is due.
    pub fn key(&self, program: &Program, op: &Op) -> Key {
        let loops = &program.nests[op.at.0];
        let scope = loops[..program.scopes.min(loops.len())]
            .iter()
            .zip(&self.digits)
            .fold(0u64, |sum, (l, digit)| {
                sum.saturating_mul(l.count.max(1)).saturating_add(*digit)
            });
        let group = &program.groups[op.group];
        let fold = op.folds.iter().zip(&self.folds).fold(0u64, |sum, (l, d)| {
            sum.saturating_mul(l.count.max(1)).saturating_add(*d)
        });
        Key {
            scope,
            nest: op.at.0,
            epoch: self.number as i64 - op.offset as i64,
            segment: group.segment,
            place: group.place,
            fold,
        }
    }

    /// Whether the words of the current task have left before, and come back for it to add to them.
    pub fn comes_back(&self, op: &Op) -> bool {
        let (loops, folds) = &op.again;
        loops.iter().any(|at| self.digits[*at] > 0) || folds.iter().any(|at| self.folds[*at] > 0)
    }

    /// The place in the Einsum's own sequence: its loops, then its folds, as one number.
    pub fn place(&self, program: &Program, op: &Op) -> u128 {
        let loops = &program.nests[op.at.0];
        let digits = op
            .loops
            .iter()
            .map(|at| (loops[*at].count, self.digits[*at]));
        let folds = op.folds.iter().zip(&self.folds).map(|(l, d)| (l.count, *d));
        digits.chain(folds).fold(0u128, |sum, (count, digit)| {
            sum.saturating_mul(count.max(1).into())
                .saturating_add(digit.into())
        })
    }

    /// The last iteration of one loop (folds count after the loops) up to which all are full, in the tile in which it
    /// now runs.
    pub fn full_left(&self, program: &Program, op: &Op, at: usize) -> u64 {
        let loops = &program.nests[op.at.0];
        let mut tile = program.whole;
        for l in op.loops.iter().filter(|l| **l < at) {
            inside(&mut tile, &loops[*l], self.digits[*l]);
        }
        let l = match at.checked_sub(loops.len()) {
            None => &loops[at],
            Some(fold) => {
                for (l, digit) in op.folds[..fold].iter().zip(&self.folds) {
                    inside(&mut tile, l, *digit);
                }
                &op.folds[fold]
            }
        };
        (tile[l.cut.rank].1 / l.cut.step.max(1)).max(1) - 1
    }

    /// Moves on by so many iterations of a loop, or of several that count as one (folds count after the loops), all of
    /// them full.
    pub fn shift(&mut self, program: &Program, op: &Op, of: RangeInclusive<usize>, by: u64) {
        let loops = &program.nests[op.at.0];
        let at = *of.end();
        if at >= loops.len() {
            self.folds[at - loops.len()] += by;
            return;
        }
        count_on(&mut self.digits[of.clone()], &loops[of.clone()], by);
        if let Some((digits, number)) = &mut self.walk {
            count_on(&mut digits[of.clone()], &loops[of], by);
            if at >= program.scopes {
                let mut tile = program.whole;
                for (l, digit) in loops[..=at].iter().zip(digits.iter()) {
                    inside(&mut tile, l, *digit);
                }
                // What cannot be tested is refused by the walk itself.
                let inner = &loops[at + 1..];
                let occupied = program.occupied.as_ref();
                let each = occupied.and_then(|o| occupied_tiles(&tile, inner, o).ok());
                let each = each.unwrap_or_else(|| Sides(inner).iterations(&tile));
                let more = each.saturating_mul(by);
                *number += more;
                self.number += more;
            }
        } else {
            self.pin(program, op);
        }
    }

    /// The same without the digits of some loops (folds count after the loops), and what follows from them.
    pub fn without(&self, of: RangeInclusive<usize>) -> Self {
        let mut out = self.clone();
        out.number = 0;
        let own = out.digits.iter_mut().chain(&mut out.folds).enumerate();
        own.filter(|(at, _)| of.contains(at))
            .for_each(|(_, d)| *d = 0);
        if let Some((digits, number)) = &mut out.walk {
            *number = 0;
            digits
                .get_mut(of)
                .into_iter()
                .flatten()
                .for_each(|d| *d = 0);
        }
        out
    }

    /// Digits of the walk through every tile, where empty ones are left out.
    pub fn walked(&self) -> &[u64] {
        self.walk.as_ref().map_or(&[], |(digits, _)| digits)
    }

    /// Its digits and the numbers of its tiles, in an order that does not change.
    pub fn numbers(&mut self) -> impl Iterator<Item = &mut u64> {
        let walk = self.walk.iter_mut();
        let walk = walk.flat_map(|(digits, number)| digits.iter_mut().chain([number]));
        let own = self.digits.iter_mut().chain(&mut self.folds);
        own.chain([&mut self.number]).chain(walk)
    }

    // Where empty tiles are left out, every tile is walked.

    /// From the walk's place at `depth` on, the first tile that holds a point; false at the end.
    fn settle(&mut self, program: &Program, op: &Op, depth: usize) -> Result<bool, CountError> {
        let loops = &program.nests[op.at.0];
        let Some(occupied) = &program.occupied else {
            return Ok(true);
        };
        let mut depth = depth;
        loop {
            let Some((digits, _)) = &mut self.walk else {
                return Ok(true);
            };
            let mut tile = program.whole;
            for (l, digit) in loops[..depth].iter().zip(digits.iter()) {
                inside(&mut tile, l, *digit);
            }
            if occupied.holds(&tile)? {
                if depth == loops.len() {
                    return Ok(true);
                }
                depth += 1;
                continue;
            }
            if occupied.is_closed() && depth > 0 {
                pass_empty(digits, &loops[..depth], program, occupied)?;
            }
            // To the next iteration of the innermost loop that has one.
            match self.step(program, op, depth) {
                Some(at) => depth = at + 1,
                None => return Ok(false),
            }
        }
    }

    /// The next iteration among the first `depth` loops: the loop that moved on.
    fn step(&mut self, program: &Program, op: &Op, depth: usize) -> Option<usize> {
        let loops = &program.nests[op.at.0];
        let (digits, _) = self.walk.as_mut()?;
        for at in (0..depth).rev() {
            let mut tile = program.whole;
            for (l, digit) in loops[..at].iter().zip(digits.iter()) {
                inside(&mut tile, l, *digit);
            }
            if digits[at] + 1 < count(&tile, &loops[at]) {
                digits[at] += 1;
                digits[at + 1..].fill(0);
                return Some(at);
            }
        }
        None
    }

    /// One tile on: the loop that moved on, none at the end.
    fn walk_on(&mut self, program: &Program, op: &Op) -> Result<Option<usize>, CountError> {
        self.walk_past(program, op, program.nests[op.at.0].len())
    }

    /// To the first tile of the next iteration of the first `depth` loops: the loop that moved on, none at the end.
    fn walk_past(
        &mut self,
        program: &Program,
        op: &Op,
        depth: usize,
    ) -> Result<Option<usize>, CountError> {
        let before = self
            .walk
            .as_ref()
            .map(|(d, _)| d.clone())
            .unwrap_or_default();
        let Some(at) = self.step(program, op, depth) else {
            return Ok(None);
        };
        if !self.settle(program, op, at + 1)? {
            return Ok(None);
        }
        let Some((digits, number)) = &mut self.walk else {
            return Ok(None);
        };
        let moved = digits
            .iter()
            .zip(&before)
            .position(|(a, b)| a != b)
            .unwrap_or(at);
        *number = if moved < program.scopes {
            0
        } else {
            *number + 1
        };
        Ok(Some(moved))
    }

    /// The first task at the walk's tile.
    fn take_walk(&mut self, program: &Program, op: &Op) -> Result<(), CountError> {
        if let Some(exit) = op.exit {
            return self.leave(program, op, exit);
        }
        if let Some((digits, number)) = &self.walk {
            self.digits.clone_from(digits);
            self.number = *number;
        }
        Ok(())
    }

    /// To the end of the loop at whose exit the Einsum runs: its tasks stand behind the last tile there.
    fn leave(&mut self, program: &Program, op: &Op, exit: usize) -> Result<(), CountError> {
        let loops = &program.nests[op.at.0];
        let (start, mut last) = match &self.walk {
            Some((digits, number)) => (digits.clone(), *number),
            None => return Ok(()),
        };
        match numbered(program, exit) {
            Some(occupied) => {
                let mut tile = program.whole;
                for (l, digit) in loops[..exit].iter().zip(&start) {
                    inside(&mut tile, l, *digit);
                }
                last += occupied_tiles(&tile, &loops[exit..], occupied)?.max(1) - 1;
            }
            None => {
                let mut ahead = self.clone();
                while ahead
                    .walk_on(program, op)?
                    .is_some_and(|moved| moved >= exit)
                {
                    last = ahead.walk.as_ref().map_or(last, |(_, n)| *n);
                }
            }
        }
        self.digits = start;
        self.digits[exit + 1..].fill(0);
        self.digits[exit] = loops[exit].count - 1;
        self.number = last;
        if !self.exit_holds(program, op)? {
            return self.next_exit(program, op, exit);
        }
        Ok(())
    }

    /// Whether the tile of an Einsum at a loop's exit, that loop as a whole, holds a point.
    fn exit_holds(&self, program: &Program, op: &Op) -> Result<bool, CountError> {
        let tile = self.tile_of_loops(program, op);
        program
            .occupied
            .as_ref()
            .map_or(Ok(true), |o| o.holds(&tile))
    }

    /// The next iteration of the loops inside the one that has ended, or the next run of that loop.
    fn next_exit(&mut self, program: &Program, op: &Op, exit: usize) -> Result<(), CountError> {
        let loops = &program.nests[op.at.0];
        loop {
            let mut moved = false;
            for at in op.loops.iter().rev().filter(|at| **at > exit) {
                let mut tile = program.whole;
                for (i, (l, digit)) in loops[..*at].iter().zip(&self.digits).enumerate() {
                    if i != exit {
                        inside(&mut tile, l, *digit);
                    }
                }
                if self.digits[*at] + 1 < count(&tile, &loops[*at]) {
                    self.digits[*at] += 1;
                    self.digits[*at + 1..].fill(0);
                    moved = true;
                    break;
                }
            }
            if !moved {
                if numbered(program, exit).is_some()
                    && let Some((_, number)) = &mut self.walk
                {
                    // Past the run that has ended, at the number of its last tile.
                    *number = self.number;
                    if self.walk_past(program, op, exit)?.is_none() {
                        self.done = true;
                        return Ok(());
                    }
                    return self.leave(program, op, exit);
                }
                loop {
                    match self.walk_on(program, op)? {
                        Some(moved) if moved >= exit => {}
                        Some(_) => break,
                        None => {
                            self.done = true;
                            return Ok(());
                        }
                    }
                }
                return self.leave(program, op, exit);
            }
            if self.exit_holds(program, op)? {
                return Ok(());
            }
        }
    }

    fn next_walked(&mut self, program: &Program, op: &Op) -> Result<(), CountError> {
        if let Some(exit) = op.exit {
            return self.next_exit(program, op, exit);
        }
        let innermost = op.loops.last().map_or(0, |at| at + 1);
        loop {
            match self.walk_on(program, op)? {
                // Loops inside the last that brings new work do not repeat it.
                Some(moved) if moved >= innermost => {}
                Some(_) => return self.take_walk(program, op),
                None => {
                    self.done = true;
                    return Ok(());
                }
            }
        }
    }
}
