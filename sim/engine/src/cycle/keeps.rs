//! Tiles that memories keep: which a task uses, until when, and when their room is free.

use super::{
    machine::Machine,
    state::{Turn, Use},
    timing::Steps,
};
use crate::program::{Op, Program};

impl Machine<'_> {
    /// The tile of a keep that an Einsum's next task uses.
    pub(super) fn generation(&self, member: usize, keep: usize) -> u128 {
        let plan = &self.program.keeps[keep];
        let op = &self.program.ops[member];
        let state = &self.ops[member];
        generation(self.program, plan.nest, plan.depth, |at| {
            let runs = op.loops.contains(&at);
            // Loops that it does not run in are at their last iteration when it does, or were at the first.
            if runs {
                Some(state.cursor.digits[at])
            } else if op.exit == Some(at) {
                None
            } else {
                Some(0)
            }
        })
    }

    /// When all users but `but` have finished with a generation; none where one has not.
    pub(super) fn released(
        &self,
        keep: usize,
        generation: u128,
        but: Option<usize>,
    ) -> Option<u64> {
        let plan = &self.program.keeps[keep];
        let mut time = 0;
        for user in &plan.users {
            let done = self.ops[*user].cursor.done || self.generation(*user, keep) > generation;
            if !done {
                return None;
            }
            if Some(*user) == but {
                continue;
            }
            let last = self.uses[keep][*user]
                .iter()
                .rev()
                .find(|u| u.generation <= generation);
            time = time.max(last.map_or(0, |u| u.end));
        }
        if let Some(drain) = plan.drain {
            let state = &self.streams[drain];
            if !state.cursor.done && state.place <= generation {
                return None;
            }
            let last = state.arrived.iter().rev().find(|a| a.place <= generation);
            time = time.max(last.map_or(0, |a| a.first));
        }
        Some(time)
    }

    /// Notes until when a task uses kept tiles.
    pub(super) fn use_keeps(
        &mut self,
        member: usize,
        op: &Op,
        turn: &Turn,
        steps: &Steps,
        start: u64,
    ) {
        for used in &op.uses {
            let keep = used.keep;
            let plan = &self.program.keeps[keep];
            let generation = self.generation(member, keep);
            let at = start + turn.load;
            let mut end = at;
            for read in &used.reads {
                let read = &op.reads[*read];
                if let Some(way) = &read.way {
                    let last = at + steps.at(steps.count.saturating_sub(1));
                    let first = at + steps.at(0);
                    let whole = if way.depth == 0 { first } else { last };
                    let by_row = if plan.by_row && way.depth > 0 {
                        // The next tile's rows arrive no faster than one a cycle: the first may come when the first is free, the last when the last is.
                        let rows = steps.count;
                        whole.saturating_sub(rows.saturating_sub(1)).max(first)
                    } else {
                        whole
                    };
                    end = end.max((by_row + 1).saturating_sub(way.delay));
                }
            }
            if used.output
                && let Some(way) = &op.result
            {
                end = end.max(at + steps.end() + way.delay + way.burst);
            }
            let uses = &mut self.uses[keep][member];
            match uses.back_mut() {
                Some(last) if last.generation == generation => last.end = last.end.max(end),
                _ => uses.push_back(Use { generation, end }),
            }
            if op.writes == Some(keep) {
                let recent = &mut self.ops[member].recent;
                if recent.back() != Some(&generation) {
                    recent.push_back(generation);
                    if recent.len() > plan.generations.min(8) {
                        recent.pop_front();
                    }
                }
            }
        }
    }
}

/// The number of a kept tile from the digits of the loops that tell tiles apart; no digit: the last iteration.
fn generation(
    program: &Program,
    nest: usize,
    depth: usize,
    digit: impl Fn(usize) -> Option<u64>,
) -> u128 {
    program.nests[nest][..depth]
        .iter()
        .enumerate()
        .fold(0u128, |sum, (at, l)| {
            let digit = digit(at).unwrap_or(l.count.saturating_sub(1));
            sum.saturating_mul(l.count.max(1).into())
                .saturating_add(digit.into())
        })
}
