//! Repeating what happened since a snapshot, without looking.

use super::{Snapshot, digits};
use crate::{
    cycle::{CycleError, Totals, machine::Machine},
    program::Tile,
};

impl Machine<'_> {
    /// Repeats what happened since a snapshot so many times.
    pub(super) fn jump(&mut self, old: &Snapshot, at: usize, times: u64) -> Result<(), CycleError> {
        let program = self.program;
        let ahead = (self.now - old.now)
            .checked_mul(times)
            .filter(|t| *t < 1 << 61)
            .ok_or(CycleError::Overflow)?;
        let before = self.generations();
        let count = u128::from(times);
        for (i, (state, then)) in self.ops.iter_mut().zip(&old.ops).enumerate() {
            let op = &program.ops[i];
            let by = digits(&state.cursor).nth(at).unwrap_or(0)
                - digits(&then.cursor).nth(at).unwrap_or(0);
            if by == 0 || state.cursor.done {
                continue;
            }
            let place = state.place;
            let tile = state.tile;
            state.cursor.shift(program, op, at, by * times);
            state.key = state.cursor.key(program, op);
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
                for last in &mut self.uses[keep][*user] {
                    last.generation += by;
                    last.end += ahead;
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
        let least = self
            .ops
            .iter()
            .filter(|o| !o.cursor.done)
            .map(|o| o.key)
            .min();
        let b = &mut self.barrier;
        b.floor += ahead;
        b.end += ahead;
        b.epoch.0 += ahead;
        if let (Some(open), Some(key)) = (&mut b.open, least) {
            *open = (key.scope, key.epoch, open.2);
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
