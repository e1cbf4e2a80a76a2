//! Repeating what happened since a snapshot, without looking.

use super::{
    relative::{At, relative},
    snapshot::{Found, Snapshot},
};
use crate::{
    events::{EventError, Machine, State, Totals},
    program::{Cursor, Op, StreamKind, Tile},
};

/// The latest time to which a jump leads: far enough below the latest of all for what a task takes.
const LATEST: u64 = 1 << 61;

/// Repeats what happened between two snapshots so many times, or fewer where something that stood still would have
/// moved meanwhile.
/// How often; none where that leaves nothing.
pub(super) fn repeat(
    machine: &mut Machine<'_>,
    new: &Snapshot,
    old: &Snapshot,
    to: At<'_>,
    found: &Found,
) -> Result<Option<u64>, EventError> {
    let (mut times, moved) = (found.times, &found.moved[..]);
    while times > 0 {
        let mut totals = new.totals.clone();
        let counted = count_again(&mut totals, &old.totals, times);
        let again = Again {
            to,
            old: &old.state,
            times,
            moved,
        };
        let state = again.state(new.state.clone());
        let (Some(state), Some(())) = (state, counted) else {
            return Err(EventError::Overflow);
        };
        debug_assert!(
            relative(&state, to) == relative(&new.state, to),
            "a jump changes nothing but when it is and how far the walks are"
        );
        machine.set(state, totals);
        if still_waits(machine, moved) {
            return Ok(Some(times));
        }
        times /= 2;
    }
    machine.set(new.state.clone(), new.totals.clone());
    Ok(None)
}

/// Whether all that stood still has to wait on. What others have done by then they never undo: what waits at the end
/// waited all along.
pub(super) fn still_waits(machine: &Machine<'_>, moved: &[bool]) -> bool {
    let stands = |member: &usize| !moved[*member];
    let ops = machine.program.ops.len();
    (0..machine.state.ready.len()).all(|queue| {
        let stood = match queue.checked_sub(machine.units()) {
            None => machine
                .turn(queue)
                .is_some_and(|t| t.members.iter().all(stands)),
            Some(stream) => !moved[ops + stream],
        };
        !stood || !matches!(machine.candidate(queue), Some(Ok(_)))
    })
}

/// What is done again.
struct Again<'a> {
    to: At<'a>,
    old: &'a State,
    times: u64,
    moved: &'a [bool],
}

impl Again<'_> {
    /// The state after so many times more what happened since the old one; none on overflow.
    fn state(&self, state: State) -> Option<State> {
        let (program, old, times) = (self.to.program, self.old, self.times);
        let next = |state: &State, keep: usize, user: usize| state.generation(user, keep);
        let users = || {
            let keeps = program.keeps.iter().enumerate();
            keeps.flat_map(|(keep, plan)| plan.users.iter().map(move |user| (keep, *user)))
        };
        let before: Vec<u128> = users().map(|(k, u)| next(&state, k, u)).collect();
        let ahead = (state.now - old.now)
            .checked_mul(times)
            .filter(|t| *t < LATEST)?;
        let mut state = state;
        let mut further = None;
        for (i, op) in program.ops.iter().enumerate() {
            if self.moved[i] {
                further = further.or(Some(self.op(&mut state, i, op, ahead)));
            }
        }
        for (i, walker) in self.to.walkers.iter().enumerate() {
            if self.moved[program.ops.len() + i] {
                self.stream(&mut state, i, walker, ahead);
            }
        }
        let after: Vec<u128> = users().map(|(k, u)| next(&state, k, u)).collect();
        for ((keep, user), (before, after)) in users().zip(before.iter().zip(&after)) {
            let by = after - before;
            for last in &mut state.uses[keep][user] {
                last.generation += by;
                last.end += if self.moved[user] { ahead } else { 0 };
            }
            if program.ops[user].writes == Some(keep) {
                state.ops[user].recent.iter_mut().for_each(|g| *g += by);
            }
        }
        // Every part of the state is named here: one that is new has to be thought of.
        let State {
            now,
            ops: _,
            streams: _,
            uses: _,
            unit_free,
            barrier,
            ports,
            channels,
            bandwidths,
            end,
            ready,
            blocked,
        } = &mut state;
        for held in blocked.iter_mut().flatten() {
            // What has kept a queue since now does so since the new one.
            held.since += if held.since == *now { ahead } else { 0 };
        }
        *now += ahead;
        if *end != old.end {
            *end += ahead;
        }
        for (time, before) in unit_free.iter_mut().zip(&old.unit_free) {
            if time != before {
                *time += ahead;
            }
        }
        if !program.segments.is_empty() {
            barrier.floor += ahead;
            barrier.end += ahead;
            barrier.epoch += ahead;
            // The same for all that moved: they walk one loop.
            if let (Some(open), Some((scopes, epochs))) = (&mut barrier.open, further) {
                open.0 += scopes;
                open.1 += epochs;
            }
        }
        ports.iter_mut().for_each(|p| p.move_on(ahead));
        channels.iter_mut().for_each(|c| c.move_on(ahead));
        let stated = bandwidths.iter_mut().flatten();
        stated.for_each(|b| b.move_on(ahead));
        for candidate in ready.iter_mut().flatten() {
            candidate.time += ahead;
        }
        Some(state)
    }

    /// How far the loop's digit moves on.
    fn by(&self, op: &Op, new: &Cursor, old: &Cursor) -> u64 {
        (self.to.digit(op, new) - self.to.digit(op, old)) * self.times
    }

    /// Moves an Einsum on: by how many scopes and epochs.
    fn op(&self, state: &mut State, id: usize, op: &Op, ahead: u64) -> (u64, i64) {
        let (then, state) = (&self.old.ops[id], &mut state.ops[id]);
        let (key, place) = (state.key, state.place);
        let by = self.by(op, &state.cursor, &then.cursor);
        self.to.shift(op, &mut state.cursor, by);
        state.stand(self.to.program, op);
        let started = (state.started - then.started) * self.times;
        state.started += started;
        for task in &mut state.history {
            task.place += state.place - place;
            task.number += started;
            task.start += ahead;
        }
        self.shift_tiles(op, &mut state.last, by);
        (state.key.scope - key.scope, state.key.epoch - key.epoch)
    }

    /// Moves a stream on.
    fn stream(&self, state: &mut State, id: usize, walker: &Op, ahead: u64) {
        let (then, state) = (&self.old.streams[id], &mut state.streams[id]);
        let (place, around) = (state.place, state.around);
        let by = self.by(walker, &state.cursor, &then.cursor);
        let (program, stream) = (self.to.program, &self.to.program.streams[id]);
        self.to.shift(walker, &mut state.cursor, by);
        state.stand(program, stream, walker);
        let (moved, around) = (state.place - place, state.around - around);
        for arrived in &mut state.arrived {
            arrived.place += moved;
            arrived.around += around;
            arrived.taken += ahead;
            arrived.first += ahead;
            arrived.whole += ahead;
        }
        let room = match stream.kind {
            StreamKind::Drain(_) => around,
            _ => moved,
        };
        state.recent.iter_mut().for_each(|p| *p += room);
        state.issued += (state.issued - then.issued) * self.times;
        self.shift_tiles(walker, std::slice::from_mut(&mut state.last), by);
    }

    /// Moves tiles on by so many iterations.
    fn shift_tiles(&self, op: &Op, tiles: &mut [Option<Tile>], by: u64) {
        for tile in tiles.iter_mut().flatten() {
            let mut by = by;
            for (at, l) in self.to.loops(op).iter().enumerate().rev() {
                let step = l.cut.step.max(1);
                let side = &mut tile[l.cut.rank];
                side.0 += by * step;
                if at > 0 {
                    let length = step * l.count.max(1);
                    by = side.0 / length;
                    side.0 %= length;
                }
            }
        }
    }
}

/// Adds what came since `old` so many times more; none on overflow.
fn count_again(totals: &mut Totals, old: &Totals, times: u64) -> Option<()> {
    let Totals {
        words,
        busy,
        waits,
        tasks,
        // Tasks that are jumped over are not simulated.
        simulated: _,
        channel,
    } = totals;
    for (sum, before) in words.iter_mut().zip(&old.words) {
        *sum = (*sum - before)
            .checked_mul(times.into())?
            .checked_add(*sum)?;
    }
    let more = |sum: &mut u64, before: u64| -> Option<()> {
        *sum = (*sum - before).checked_mul(times)?.checked_add(*sum)?;
        Some(())
    };
    for (sum, before) in busy.iter_mut().zip(&old.busy) {
        more(sum, *before)?;
    }
    for (list, before) in waits.iter_mut().zip(&old.waits) {
        for (cause, sum) in list {
            let known = before.iter().find(|(c, _)| c == cause);
            more(sum, known.map_or(0, |(_, n)| *n))?;
        }
    }
    more(tasks, old.tasks)?;
    for (sum, before) in channel.iter_mut().zip(&old.channel) {
        more(sum, *before)?;
    }
    Some(())
}
