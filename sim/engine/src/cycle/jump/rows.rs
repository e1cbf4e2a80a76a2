//! The exact jump over rows of tiles that grow or shrink: under a mask along a diagonal each run of a loop is like the
//! one before, but for its length.
//!
//! A *row* is an iteration of a loop with all that a loop inside it, the *band*, walks. Two rows are alike where
//! each place in the second is that of the first one row on, and either at the same iteration of the band or moved
//! along it with the mask. Between what stays and what moves lies the stretch that the jump over the band's steady
//! state left out; it is longer, or shorter, by whole periods.
//!
//! Four ends of rows are compared, number by number. Where all third differences vanish, places go on by the same
//! step, times stay as far from now as they were, or are over and stay over, and the mask looks the same from row to
//! row, then the next row is that of before with a stretch that is longer by as much again: deterministic rules on like
//! states. So rows are left out, and numbers go on as the polynomials that they are.

use einflow_mappings::mapped::NamedLoop;

use super::{
    mask::Masked,
    numbers::{Kind, Sequence, join, kinds, weights},
    relative::At,
    repeat::still_waits,
    snapshot::{Jumped, Row, Shift, Stretch},
};
use crate::{
    events::{EventError, Machine, State, Totals},
    program::{Digits, Key, Program, StreamKind},
};

/// Most rows after which what takes turns comes round, as for the jump over iterations.
const PERIODS: usize = 4;

/// Ends of rows that are remembered: four of them, so many apart.
pub(super) const ROWS: usize = 3 * PERIODS + 1;

/// Leaves out rows where the last ones are alike; whether it did, and how many iterations of their loop that were.
pub(super) fn repeat_rows(
    machine: &mut Machine<'_>,
    rows: &[Row],
    to: At<'_>,
) -> Result<Option<u64>, EventError> {
    for period in 1..=PERIODS {
        let Some(first) = rows.len().checked_sub(3 * period + 1) else {
            break;
        };
        let ends: Vec<&Row> = rows[first..].iter().step_by(period).collect();
        let [a, b, c, d] = ends[..] else { break };
        let jumps = |end: usize| {
            let of = &rows[end + 1 - period..=end];
            of.iter().flat_map(|r| &r.jumps).collect::<Vec<_>>()
        };
        let last = rows.len() - 1;
        let alike = Alike {
            ends: [a, b, c, d],
            jumps: [jumps(last - 2 * period), jumps(last - period), jumps(last)],
            to,
            period: period as u64,
        };
        let Some((times, moved)) = alike.times(machine) else {
            continue;
        };
        let before = (machine.state.clone(), machine.totals.clone());
        let mut times = times;
        while times > 0 {
            let next = alike.after(machine, times);
            let next = next.filter(|(state, _)| {
                stands(machine, state) && order_holds(machine.program, state, &moved)
            });
            if let Some((state, totals)) = next {
                machine.set(state, totals);
                if still_waits(machine, &moved) {
                    return Ok(Some(times * alike.period));
                }
                machine.set(before.0.clone(), before.1.clone());
            }
            times /= 2;
        }
    }
    Ok(None)
}

/// Whether what follows from the walks of a state is what its numbers say.
fn stands(machine: &Machine<'_>, state: &State) -> bool {
    let program = machine.program;
    let mut ops = state.ops.iter().zip(&program.ops);
    let streams = state.streams.iter().zip(&program.streams);
    ops.all(|(state, op)| {
        let mut at = state.clone();
        at.stand(program, op);
        at == *state
    }) && streams
        .zip(machine.walkers.iter())
        .all(|((state, s), walker)| {
            let mut at = state.clone();
            at.stand(program, s, walker);
            at == *state
        })
}

/// Whether Einsums that stood still are due after all that moved.
fn order_holds(program: &Program, state: &State, moved: &[bool]) -> bool {
    let left = |i: &usize| !state.ops[*i].cursor.done;
    let all = || (0..program.ops.len()).filter(left);
    let furthest = all().filter(|i| moved[*i]).map(|i| state.ops[i].key).max();
    let mut still = all().filter(|i| !moved[*i]);
    still.all(|i| Some(state.ops[i].key) > furthest)
}

/// Four ends of rows, a period apart.
struct Alike<'r> {
    ends: [&'r Row; 4],
    /// The jumps of the last three periods.
    jumps: [Vec<&'r Jumped>; 3],
    to: At<'r>,
    period: u64,
}

/// Differences of one number from end to end.
fn differences(values: [i128; 4]) -> [i128; 3] {
    [0, 1, 2].map(|i| values[i + 1] - values[i])
}

fn constant<T: PartialEq>([a, b, c]: [T; 3]) -> Option<T> {
    (a == b && b == c).then_some(c)
}

impl Alike<'_> {
    /// How many periods more are like the last, and which Einsums and streams moved in it.
    fn times(&self, machine: &Machine<'_>) -> Option<(u64, Vec<bool>)> {
        let [a, b, c, d] = self.ends;
        let same = |x: &Row| x.numbers.len() == d.numbers.len() && x.split == d.split;
        if ![c, b, a].into_iter().all(same) {
            return None;
        }
        let even = (0..d.numbers.len()).all(|i| {
            let [x, y, z] = self.steps(i);
            z - y == y - x
        });
        if !even {
            return None;
        }
        let stretches = self.stretches()?;
        let shift = self.shift(machine, &stretches)?;
        let moved = self.moved(machine, shift)?;
        // Without a stretch between them nothing may stay where others move.
        if stretches.is_empty() && !self.all_along(machine, shift, &moved) {
            return None;
        }
        self.due(machine, &moved)?;
        let kinds = kinds(&machine.state, &machine.totals, machine.program);
        self.places(machine, shift, &kinds)?;
        self.keys(machine, &moved)?;
        self.started(machine)?;
        let mut times = self.full(machine, shift, &moved)?;
        for stretch in &stretches {
            if stretch.more < 0 {
                times = times.min(stretch.jump.times / stretch.more.unsigned_abs());
            }
        }
        times = self.mask(machine, shift, &stretches, times)?;
        times = self.clocks(machine, &kinds, times)?;
        (times > 0).then_some((times, moved))
    }

    /// By how much a number grew in each of the last three periods.
    fn steps(&self, number: usize) -> [i128; 3] {
        differences(self.ends.map(|row| row.numbers[number]))
    }

    /// Jumps whose length changes from row to row by the same.
    fn stretches(&self) -> Option<Vec<Stretch<'_>>> {
        let [a, b, c] = &self.jumps;
        if a.len() != c.len() || b.len() != c.len() {
            return None;
        }
        let mut out = Vec::new();
        for ((a, b), c) in a.iter().zip(b).zip(c) {
            if (a.at, a.period, a.plain) != (c.at, c.period, c.plain)
                || (b.at, b.period, b.plain) != (c.at, c.period, c.plain)
            {
                return None;
            }
            let step = |of: &dyn Fn(&Jumped) -> u64| {
                let (x, y, z) = (of(a) as i64, of(b) as i64, of(c) as i64);
                (z - y == y - x).then_some(z - y)
            };
            let more = step(&|j| j.times)?;
            if more == 0 {
                continue;
            }
            let first = u64::try_from(step(&|j| j.whole.0)?).ok()?;
            let behind = u64::try_from(step(&|j| j.whole.1)?).ok()?;
            if !c.plain || more * c.period as i64 != behind as i64 - first as i64 {
                return None;
            }
            out.push(Stretch {
                jump: c,
                moves: (first, behind),
                more,
            });
        }
        Some(out)
    }

    /// Which loop rows grow along, and by how much.
    fn shift(&self, machine: &Machine<'_>, stretches: &[Stretch<'_>]) -> Option<Shift> {
        let At { reference, at, .. } = self.to;
        let step = |walk: &[Digits; 2], before: &[Digits; 2], band: usize| {
            walk[0].get(band)?.checked_sub(*before[0].get(band)?)
        };
        let (last, before) = (self.ends[3], self.ends[2]);
        let by = step(&last.walks[reference], &before.walks[reference], at)?;
        let loops = machine.program.nests[0].len();
        let (band, along) = match stretches.first() {
            Some(s) => {
                let (first, behind) = s.moves;
                // Of the two ends of the stretch one stays.
                let moves = first.max(behind);
                (first.min(behind) == 0).then_some((s.jump.at, moves))?
            }
            None => {
                let walks = last.walks.iter().zip(&before.walks);
                let mut moves = walks.flat_map(|(a, b)| {
                    (at + 1..loops).filter_map(move |band| {
                        step(a, b, band).filter(|s| *s > 0).map(|s| (band, s))
                    })
                });
                moves.next()?
            }
        };
        let shift = Shift {
            at,
            band,
            by,
            along,
        };
        let home = |at: usize| &machine.program.nests[0][at];
        let fits = by == self.period
            && band > at
            && home(at).cut.rank != home(band).cut.rank
            && stretches.iter().all(|s| {
                s.jump.at == band
                    && s.moves.0.max(s.moves.1) == along
                    && s.moves.0.min(s.moves.1) == 0
            });
        fits.then_some(shift)
    }

    /// Which Einsums and streams moved a row on; none where one moved otherwise.
    fn moved(&self, machine: &Machine<'_>, shift: Shift) -> Option<Vec<bool>> {
        let loops = machine.program.nests[0].len();
        let of_walk = |walker: usize, half: usize| {
            let [a, b, c, d] = self.ends.map(|row| &row.walks[walker][half]);
            let mut moves = (0, 0);
            for i in 0..d.len() {
                let step = constant(differences([a, b, c, d].map(|w| w[i].into())))?;
                if i == shift.at {
                    moves.0 = step;
                } else if i == shift.band && i < loops {
                    moves.1 = step;
                } else if step != 0 {
                    return None;
                }
            }
            Some(moves)
        };
        let mut out = Vec::new();
        for walker in 0..self.ends[3].walks.len() {
            let done = self.done(machine, walker);
            let tasks = of_walk(walker, 0)?;
            let all = of_walk(walker, 1)?;
            let on = |moves: (i128, i128)| {
                moves.0 == i128::from(shift.by)
                    && (moves.1 == 0 || moves.1 == i128::from(shift.along))
            };
            let still = |moves: (i128, i128)| moves == (0, 0);
            let walked = machine.program.occupied.is_some();
            match (still(tasks), on(tasks)) {
                (true, _) if !walked || still(all) => out.push(false),
                (_, true) if !done && (!walked || on(all)) => out.push(true),
                _ => return None,
            }
        }
        Some(out)
    }

    fn done(&self, machine: &Machine<'_>, walker: usize) -> bool {
        let ops = &machine.state.ops;
        match walker.checked_sub(ops.len()) {
            None => ops[walker].cursor.done,
            Some(stream) => machine.state.streams[stream].cursor.done,
        }
    }

    /// Whether all that moved, but for what runs at the band's exit, moved along the band.
    fn all_along(&self, machine: &Machine<'_>, shift: Shift, moved: &[bool]) -> bool {
        let exits = |walker: usize| match walker.checked_sub(machine.program.ops.len()) {
            None => machine.program.ops[walker]
                .exit
                .is_some_and(|e| e <= shift.band),
            Some(stream) => {
                let walker = &machine.walkers[stream];
                walker.exit.is_some_and(|e| e <= shift.band) || !walker.loops.contains(&shift.band)
            }
        };
        let along = |walker: usize| {
            let [.., c, d] = self.ends.map(|row| &row.walks[walker][0]);
            d[shift.band] - c[shift.band] == shift.along
        };
        (0..moved.len()).all(|w| !moved[w] || exits(w) || along(w))
    }

    /// A movement that stood still and may start, may start at another time in the next period.
    fn due(&self, machine: &Machine<'_>, moved: &[bool]) -> Option<()> {
        let state = &machine.state;
        let queues = &state.ready[machine.units()..];
        let mut streams = state
            .streams
            .iter()
            .zip(queues)
            .zip(&moved[state.ops.len()..]);
        let none = streams.all(|((s, ready), moved)| *moved || s.cursor.done || ready.is_none());
        none.then_some(())
    }

    /// Places go on by whole rows, at the same iteration of the band or moved with it; of one sequence all do, or none.
    /// So do the first coordinates of tiles.
    fn places(&self, machine: &Machine<'_>, shift: Shift, kinds: &[Kind]) -> Option<()> {
        let program = machine.program;
        let loops = &program.nests[0];
        let steps = [shift.at, shift.band].map(|at| (loops[at].cut.rank, loops[at].cut.step));
        let mut moves: Vec<(Sequence, bool)> = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            match kind {
                Kind::Place(sequence) => {
                    let step = constant(self.steps(i))?;
                    let [row, band] = weights(
                        machine,
                        *sequence,
                        [(shift.at, shift.by), (shift.band, shift.along)],
                    )?;
                    let on = [row, row.checked_add(band)?];
                    if step != 0 && !on.contains(&step) {
                        return None;
                    }
                    let moved = step != 0;
                    match moves.iter().find(|(s, _)| s == sequence) {
                        Some((_, before)) if *before != moved => return None,
                        Some(_) => {}
                        None => moves.push((*sequence, moved)),
                    }
                }
                Kind::First(rank) => {
                    let step = constant(self.steps(i))?;
                    let by = |(r, step): (usize, u64), by: u64| {
                        (r == *rank).then(|| i128::from(step) * i128::from(by))
                    };
                    let on = by(steps[0], shift.by).or(by(steps[1], shift.along));
                    if step != 0 && Some(step) != on {
                        return None;
                    }
                }
                Kind::Time { .. } | Kind::Count => {}
            }
        }
        Some(())
    }

    /// Einsums keep their order: of those in one filling of the pipeline, tiles' numbers grow alike.
    fn keys(&self, machine: &Machine<'_>, moved: &[bool]) -> Option<()> {
        let of = |key: Key| (i128::from(key.scope), i128::from(key.epoch));
        let steps = |keys: [(i128, i128); 4]| {
            let scopes = differences(keys.map(|k| k.0));
            Some((constant(scopes)?, differences(keys.map(|k| k.1))))
        };
        let mut seen: Vec<((u64, usize), i128, [i128; 3])> = Vec::new();
        let keys = machine.state.ops.iter().map(|o| o.key).enumerate();
        for (op, key) in keys.filter(|(op, _)| moved[*op]) {
            let (scopes, epochs) = steps(self.ends.map(|row| of(row.keys[op])))?;
            if seen.first().is_some_and(|(_, first, _)| *first != scopes) {
                return None;
            }
            let home = (key.scope, key.nest);
            if seen.iter().any(|(k, _, e)| *k == home && *e != epochs) {
                return None;
            }
            seen.push((home, scopes, epochs));
        }
        if machine.program.segments.is_empty() {
            return Some(());
        }
        let [Some(a), Some(b), Some(c), Some(d)] = self.ends.map(|row| row.open) else {
            return None;
        };
        let open = [a, b, c, d].map(|(scope, epoch, _)| (i128::from(scope), i128::from(epoch)));
        let (scopes, epochs) = steps(open)?;
        let known = seen.iter().find(|((scope, _), ..)| *scope == d.0)?;
        (known.1 == scopes && known.2 == epochs).then_some(())
    }

    /// What is counted against each other grows alike: words that wait for their reader, and results on their way.
    fn started(&self, machine: &Machine<'_>) -> Option<()> {
        let ops = |op: usize| differences(self.ends.map(|row| row.started.0[op].into()));
        let streams = |s: usize| differences(self.ends.map(|row| row.started.1[s].into()));
        let program = machine.program;
        for (reader, op) in program.ops.iter().enumerate() {
            let makers = op.reads.iter().filter_map(|r| r.maker.as_ref());
            let mut waiting = makers.filter(|m| m.waiting.is_some());
            if !waiting.all(|m| ops(m.op) == ops(reader)) {
                return None;
            }
        }
        let results = program.streams.iter().enumerate();
        let mut results = results.filter_map(|(s, plan)| match plan.kind {
            StreamKind::Result(op) => Some((s, op)),
            _ => None,
        });
        results.all(|(s, op)| streams(s) == ops(op)).then_some(())
    }

    /// How many periods on all tiles of the rows' loop are full.
    fn full(&self, machine: &Machine<'_>, shift: Shift, moved: &[bool]) -> Option<u64> {
        let program = machine.program;
        let ops = machine.state.ops.iter().zip(&program.ops);
        let ops = ops.map(|(state, op)| (&state.cursor, op));
        let streams = machine.state.streams.iter().zip(machine.walkers.iter());
        let all = ops.chain(streams.map(|(state, op)| (&state.cursor, op)));
        let mut times = u64::MAX;
        for ((cursor, op), _) in all.zip(moved).filter(|(_, moved)| **moved) {
            let left = cursor.full_left(program, op, shift.at);
            let left = left.checked_sub(*cursor.digits.get(shift.at)?)?;
            times = times.min(left / shift.by);
        }
        Some(times)
    }

    /// How many periods on, at most `times`, the mask looks the same in each row.
    fn mask(
        &self,
        machine: &Machine<'_>,
        shift: Shift,
        stretches: &[Stretch<'_>],
        times: u64,
    ) -> Option<u64> {
        let program = machine.program;
        let loops = &program.nests[0];
        let occupied = program.occupied.as_ref()?;
        let (row, band) = (&loops[shift.at], &loops[shift.band]);
        let by = |l: &NamedLoop, by: u64| Some((l.cut.rank, l.cut.step.checked_mul(by)?));
        if !occupied.unchanged_by(&[by(row, shift.by)?, by(band, shift.along)?])
            || !self.to.groups.repeat(row, shift.by)
            || !self.to.groups.repeat(band, shift.along)
        {
            return None;
        }
        let mut masked = Vec::new();
        if stretches.is_empty() {
            // Each row of the last period, where the loops around it stand.
            let cursor = &machine.state.ops[self.to.reference].cursor;
            let mut around = Digits::from_slice(&cursor.digits[..shift.band]);
            if shift.band != shift.at + 1 {
                return None;
            }
            for back in 1..=shift.by {
                around[shift.at] = cursor.digits[shift.at].checked_sub(back)?;
                masked.push(Masked::new(machine, shift, around.clone(), None)?);
            }
        }
        for (i, stretch) in stretches.iter().enumerate() {
            let around = &stretch.jump.around;
            if stretches[..i].iter().any(|s| s.jump.around == *around) {
                return None;
            }
            masked.push(Masked::new(machine, shift, around.clone(), Some(stretch))?);
        }
        // Of every row of the last period something is known.
        let mut rows: Vec<u64> = masked.iter().map(|m| m.around[shift.at]).collect();
        rows.sort_unstable();
        rows.dedup();
        if rows.len() as u64 != shift.by {
            return None;
        }
        let holds = |i: u64| masked.iter().all(|m| m.looks_alike(machine, shift, i));
        if !holds(0) {
            return None;
        }
        // What stands in a later row than those that were compared has to find the same there as well.
        let stands = self.ends[3].walks.iter().flatten();
        let last = stands.filter_map(|walk| walk.get(shift.at)).max();
        let lead = last?.saturating_sub(*rows.first()?).div_ceil(shift.by);
        let bad = (1..=times.saturating_add(lead)).find(|i| !holds(*i));
        Some(bad.map_or(times, |bad| (bad - 1).saturating_sub(lead)))
    }

    /// How many periods on, at most `times`, times are as far from now as they were, or over and stay so.
    fn clocks(&self, machine: &Machine<'_>, kinds: &[Kind], times: u64) -> Option<u64> {
        let now = differences(self.ends.map(|row| row.now));
        let mut times = times;
        for (i, kind) in kinds.iter().enumerate() {
            let Kind::Time { parts, lasts } = *kind else {
                continue;
            };
            let parts = i128::from(parts);
            let steps = self.steps(i);
            let away = [0, 1, 2].map(|k| steps[k] - now[k] * parts);
            if away == [0, 0, 0] {
                continue;
            }
            // It falls back behind now, or catches up with it: what is over has to stay over.
            let first = self.ends[3].numbers[i] - self.ends[3].now * parts;
            let over =
                |away: i128| away + (i128::from(lasts) + i128::from(machine.reach)) * parts < 0;
            let after = |n: u64| {
                let n = i128::from(n);
                let (step, grows) = (away[2], away[2] - away[1]);
                first + n * step + n * (n + 1) / 2 * grows
            };
            if !over(first) {
                return None;
            }
            // A parabola: over at both ends and where it turns.
            let ok = |n: u64| {
                let turn = match away[2] - away[1] {
                    0 => 0,
                    grows => u64::try_from(-away[2] / grows).unwrap_or(0).min(n),
                };
                [n, turn, (turn + 1).min(n)]
                    .into_iter()
                    .all(|n| over(after(n)))
            };
            while times > 0 && !ok(times) {
                times /= 2;
            }
        }
        Some(times)
    }

    /// The state and totals so many periods on.
    fn after(&self, machine: &Machine<'_>, times: u64) -> Option<(State, Totals)> {
        let n = i128::from(times);
        let on = |i: usize| {
            let [_, y, z] = self.steps(i);
            let more = z.checked_mul(n)?;
            let grows = (z - y).checked_mul(n.checked_mul(n + 1)? / 2)?;
            self.ends[3].numbers[i]
                .checked_add(more)?
                .checked_add(grows)
        };
        let numbers: Option<Vec<i128>> = (0..self.ends[3].numbers.len()).map(on).collect();
        join(&machine.state, &machine.totals, machine.program, &numbers?)
    }
}
