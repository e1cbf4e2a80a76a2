//! Repeating what happened since a snapshot, without looking.

use super::{Snapshot, digits};
use crate::{
    cycle::{CycleError, Totals, machine::Machine},
    program::Tile,
};

impl Machine<'_> {
    /// Repeats what happened since a snapshot so many times, or fewer where something that stood still would have moved meanwhile.
    /// False where that leaves nothing.
    pub(super) fn repeat(
        &mut self,
        old: &Snapshot,
        at: usize,
        times: u64,
        moved: &[bool],
    ) -> Result<bool, CycleError> {
        let mut times = times;
        let saved = self.snapshot();
        while times > 0 {
            self.jump(old, at, times, moved)?;
            if self.still_waits(moved) {
                return Ok(true);
            }
            self.restore(&saved);
            times /= 2;
        }
        Ok(false)
    }

    /// Whether all that stood still has to wait on. What others have done by then they never undo: what waits at the end waited all along.
    fn still_waits(&self, moved: &[bool]) -> bool {
        let stands = |member: &usize| !moved[*member];
        let units = (0..self.unit_free.len()).all(|unit| {
            let stands = self
                .turn(unit)
                .is_some_and(|t| t.members.iter().all(stands));
            !stands || !matches!(self.unit_candidate(unit), Some(Ok(_)))
        });
        units
            && (0..self.streams.len()).all(|id| {
                moved[self.ops.len() + id] || !matches!(self.stream_candidate(id), Some(Ok(_)))
            })
    }

    fn restore(&mut self, saved: &Snapshot) {
        self.now = saved.now;
        self.ops.clone_from(&saved.ops);
        self.streams.clone_from(&saved.streams);
        self.uses.clone_from(&saved.uses);
        self.unit_free.clone_from(&saved.unit_free);
        self.barrier.clone_from(&saved.barrier);
        self.ports.clone_from(&saved.ports);
        self.channels.clone_from(&saved.channels);
        self.totals.clone_from(&saved.totals);
        self.end = saved.end;
        self.ready.clone_from(&saved.ready);
        self.blocked.clone_from(&saved.blocked);
        self.find_turns();
    }

    /// Repeats what happened since a snapshot so many times.
    fn jump(
        &mut self,
        old: &Snapshot,
        at: usize,
        times: u64,
        moved: &[bool],
    ) -> Result<(), CycleError> {
        let program = self.program;
        let ahead = (self.now - old.now)
            .checked_mul(times)
            .filter(|t| *t < 1 << 61)
            .ok_or(CycleError::Overflow)?;
        let before = self.generations();
        let count = u128::from(times);
        let mut further = None;
        for (i, (state, then)) in self.ops.iter_mut().zip(&old.ops).enumerate() {
            let op = &program.ops[i];
            let by = digits(&state.cursor).nth(at).unwrap_or(0)
                - digits(&then.cursor).nth(at).unwrap_or(0);
            if by == 0 || state.cursor.done {
                continue;
            }
            let place = state.place;
            let tile = state.tile;
            let key = state.key;
            state.cursor.shift(program, op, at, by * times);
            state.key = state.cursor.key(program, op);
            // The same for all that moved: they walk one loop.
            further = Some((state.key.scope - key.scope, state.key.epoch - key.epoch));
            state.tile = state.cursor.tile(program, op);
            state.place = state.cursor.place(program, op);
            let started = (state.started - then.started) * times;
            state.started += started;
            for task in &mut state.history {
                task.place += state.place - place;
                task.number += started;
                task.start += ahead;
            }
            shift_tiles(&mut state.last, &tile, &state.tile);
        }
        for (i, (state, then)) in self.streams.iter_mut().zip(&old.streams).enumerate() {
            let op = &self.stream_ops[i];
            let by = digits(&state.cursor).nth(at).unwrap_or(0)
                - digits(&then.cursor).nth(at).unwrap_or(0);
            if by == 0 || state.cursor.done {
                continue;
            }
            let place = state.place;
            let tile = state.tile;
            state.cursor.shift(program, op, at, by * times);
            state.tile = state.cursor.tile(program, op);
            state.place = state.cursor.place(program, op);
            let moved = state.place - place;
            for arrived in &mut state.arrived {
                arrived.place += moved;
                arrived.first += ahead;
                arrived.whole += ahead;
            }
            state.recent.iter_mut().for_each(|p| *p += moved);
            state.issued += (state.issued - then.issued) * times;
            let mut last = [state.last.take()];
            shift_tiles(&mut last, &tile, &state.tile);
            let [last] = last;
            state.last = last;
        }
        let after = self.generations();
        for keep in 0..program.keeps.len() {
            for (position, user) in program.keeps[keep].users.iter().enumerate() {
                let by = after[keep][position] - before[keep][position];
                if moved[*user] {
                    for last in &mut self.uses[keep][*user] {
                        last.generation += by;
                        last.end += ahead;
                    }
                }
                if program.ops[*user].writes == Some(keep) {
                    self.ops[*user].recent.iter_mut().for_each(|g| *g += by);
                }
            }
        }
        self.now += ahead;
        if self.end != old.end {
            self.end += ahead;
        }
        for (time, before) in self.unit_free.iter_mut().zip(&old.unit_free) {
            if time != before {
                *time += ahead;
            }
        }
        let b = &mut self.barrier;
        b.floor += ahead;
        b.end += ahead;
        b.epoch.0 += ahead;
        if let (Some(open), Some((scopes, epochs))) = (&mut b.open, further) {
            open.0 += scopes;
            open.1 += epochs;
        }
        for table in &mut self.ports {
            table.taken.iter_mut().for_each(|p| p.start += ahead);
        }
        for channel in &mut self.channels {
            channel.free += ahead;
            channel.under_way.iter_mut().for_each(|t| *t += ahead);
        }
        for candidate in self.ready.iter_mut().flatten() {
            candidate.time += ahead;
        }
        self.find_turns();
        self.totals
            .repeat(&old.totals, times, count)
            .ok_or(CycleError::Overflow)
    }
}

fn shift_tiles(tiles: &mut [Option<Tile>], from: &Tile, to: &Tile) {
    for tile in tiles.iter_mut().flatten() {
        for (side, (a, b)) in tile.iter_mut().zip(from.iter().zip(to)) {
            side.0 = side.0 + b.0 - a.0;
        }
    }
}

impl Totals {
    /// Adds what came since `old` so many times more; none on overflow.
    fn repeat(&mut self, old: &Totals, times: u64, count: u128) -> Option<()> {
        for (sum, before) in self.words.iter_mut().zip(&old.words) {
            *sum = (*sum - before).checked_mul(count)?.checked_add(*sum)?;
        }
        let more = |sum: &mut u64, before: u64| -> Option<()> {
            *sum = (*sum - before).checked_mul(times)?.checked_add(*sum)?;
            Some(())
        };
        for (sum, before) in self.busy.iter_mut().zip(&old.busy) {
            more(sum, *before)?;
        }
        for (list, before) in self.waits.iter_mut().zip(&old.waits) {
            for (cause, sum) in list {
                let before = before
                    .iter()
                    .find(|(c, _)| c == cause)
                    .map_or(0, |(_, n)| *n);
                more(sum, before)?;
            }
        }
        more(&mut self.tasks, old.tasks)?;
        for (sum, before) in self.channel.iter_mut().zip(&old.channel) {
            more(sum, *before)?;
        }
        Some(())
    }
}
