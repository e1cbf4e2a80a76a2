//! Tiles that memories keep: which a task uses, until when, and when their room is free.

use super::{
    machine::Machine,
    state::{Turn, Use, Whom},
    timing::Steps,
};
use crate::program::Op;

impl Machine<'_> {
    /// When all users but `but` have finished with a tile, or who has not.
    pub(super) fn released(
        &self,
        keep: usize,
        generation: u128,
        but: Option<usize>,
    ) -> Result<u64, Whom> {
        let plan = &self.program.keeps[keep];
        let mut time = 0;
        for user in &plan.users {
            if !self.is_past(*user, keep, generation) {
                return Err(Whom::Op(*user));
            }
            if Some(*user) == but {
                continue;
            }
            let last = self.state.uses[keep][*user]
                .iter()
                .rev()
                .find(|u| u.generation <= generation);
            time = time.max(last.map_or(0, |u| u.end));
        }
        if let Some(drain) = plan.drain {
            let last = self.state.streams[drain].moved(generation);
            let last = last.ok_or(Whom::Stream(drain))?;
            time = time.max(last.map_or(0, |a| a.taken));
        }
        for part in &plan.inward {
            let last = self.state.streams[*part].moved_within(generation);
            let last = last.ok_or(Whom::Stream(*part))?;
            time = time.max(last.map_or(0, |a| a.taken));
        }
        Ok(time)
    }

    /// Whether an Einsum has no task left that uses a tile of a keep, or one before it.
    pub(super) fn is_past(&self, user: usize, keep: usize, generation: u128) -> bool {
        self.state.ops[user].cursor.done || self.state.generation(user, keep) > generation
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
            let generation = self.state.generation(member, keep);
            let at = start + turn.load;
            let mut end = at;
            for read in &used.reads {
                let read = &op.reads[*read];
                if let Some(way) = &read.way {
                    let last = at + steps.at(steps.count.saturating_sub(1));
                    let first = at + steps.at(0);
                    let read = if way.stays {
                        first
                    } else if plan.by_row {
                        // The next tile's rows arrive no faster than one a cycle: the first may come when the first
                        // is free, the last when the last is.
                        last.saturating_sub(steps.count.saturating_sub(1))
                            .max(first)
                    } else {
                        last
                    };
                    end = end.max((read + 1).saturating_sub(way.delay));
                }
            }
            if used.output
                && let Some(way) = &op.result
            {
                end = end.max(at + steps.end() + way.delay + way.burst);
            }
            let uses = &mut self.state.uses[keep][member];
            match uses.back_mut() {
                Some(last) if last.generation == generation => last.end = last.end.max(end),
                _ => uses.push_back(Use { generation, end }),
            }
            if op.writes == Some(keep) {
                let recent = &mut self.state.ops[member].recent;
                if recent.back() != Some(&generation) {
                    plan.remember(recent, generation);
                }
            }
        }
    }
}
