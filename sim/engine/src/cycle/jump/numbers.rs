//! The numbers of a state that walks and time change, one after another, so that states can be compared, and carried
//! on, number by number. What is not among them has to be the same.

use einflow_mappings::mapped::NamedLoop;

use crate::{
    events::{Barrier, Cause, Machine, OpState, State, StreamState, Totals},
    program::{Op, Program, StreamKind, Tile},
};

/// Beyond this no number is carried on.
const MOST: i128 = 1 << 120;

/// A sequence of tasks, movements or tiles, in which places are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sequence {
    /// An Einsum's tasks.
    Op(usize),
    /// A stream's movements.
    Stream(usize),
    /// A keep's tiles.
    Keep(usize),
}

/// What a number is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A time: so many parts a cycle, and what it tells of has ended so many parts after it.
    Time { parts: u64, lasts: u64 },
    /// A place in a sequence.
    Place(Sequence),
    /// A tile's first coordinate along a base rank.
    First(usize),
    /// How many there were.
    Count,
}

/// A number that may be taken out or changed.
pub(super) enum Number<'n> {
    Short(&'n mut u64),
    Signed(&'n mut i64),
    Long(&'n mut u128),
}

impl Number<'_> {
    fn get(&self) -> Option<i128> {
        let value = match self {
            Self::Short(n) => (**n).into(),
            Self::Signed(n) => (**n).into(),
            Self::Long(n) => i128::try_from(**n).ok()?,
        };
        (value < MOST).then_some(value)
    }

    fn put(&mut self, value: i128) -> Option<()> {
        match self {
            Self::Short(n) => **n = value.try_into().ok()?,
            Self::Signed(n) => **n = value.try_into().ok()?,
            Self::Long(n) => **n = value.try_into().ok()?,
        }
        Some(())
    }
}

/// What is done with each number.
type Each<'e> = &'e mut dyn FnMut(Kind, Number<'_>);

fn time(each: Each<'_>, time: &mut u64, lasts: u64) {
    each(Kind::Time { parts: 1, lasts }, Number::Short(time));
}

fn count(each: Each<'_>, number: &mut u64) {
    each(Kind::Count, Number::Short(number));
}

fn place(each: Each<'_>, of: Sequence, place: &mut u128) {
    each(Kind::Place(of), Number::Long(place));
}

fn tile(each: Each<'_>, tile: &mut Tile) {
    for (rank, (first, _)) in tile.iter_mut().enumerate() {
        each(Kind::First(rank), Number::Short(first));
    }
}

/// All numbers of a state, in an order that follows from how many there are of each part.
pub(super) fn of_state(state: &mut State, program: &Program, each: Each<'_>) {
    let State {
        now,
        ops,
        streams,
        uses,
        unit_free,
        barrier,
        ports,
        channels,
        bandwidths,
        end,
        ready,
        blocked,
    } = state;
    for (id, op) in ops.iter_mut().enumerate() {
        of_op(op, id, program, each);
    }
    for (id, stream) in streams.iter_mut().enumerate() {
        of_stream(stream, id, program, each);
    }
    for (keep, users) in uses.iter_mut().enumerate() {
        for used in users.iter_mut().flatten() {
            place(each, Sequence::Keep(keep), &mut used.generation);
            time(each, &mut used.end, 0);
        }
    }
    of_barrier(barrier, each);
    for table in ports {
        table
            .times()
            .for_each(|(start, lasts)| time(each, start, lasts));
    }
    for channel in channels {
        time(each, &mut channel.free, 0);
        let under_way = channel.under_way.iter_mut();
        under_way.for_each(|end| time(each, end, 0));
    }
    for bandwidth in bandwidths.iter_mut().flatten() {
        let (free, parts) = bandwidth.free();
        each(Kind::Time { parts, lasts: 0 }, Number::Short(free));
    }
    let clocks = unit_free.iter_mut().chain([now, end]);
    let candidates = ready.iter_mut().flatten().map(|c| &mut c.time);
    let held = blocked.iter_mut().flatten().map(|h| &mut h.since);
    clocks
        .chain(candidates)
        .chain(held)
        .for_each(|t| time(each, t, 0));
}

fn of_op(state: &mut OpState, id: usize, program: &Program, each: Each<'_>) {
    let own = Sequence::Op(id);
    state.cursor.numbers().for_each(|n| count(each, n));
    count(each, &mut state.key.scope);
    each(Kind::Count, Number::Signed(&mut state.key.epoch));
    count(each, &mut state.key.fold);
    tile(each, &mut state.tile);
    place(each, own, &mut state.place);
    count(each, &mut state.started);
    for task in &mut state.history {
        let lasts = task.steps.end();
        place(each, own, &mut task.place);
        count(each, &mut task.number);
        time(each, &mut task.start, lasts);
    }
    for (keep, number) in &mut state.kept {
        place(each, Sequence::Keep(*keep), number);
    }
    let last = state.last.iter_mut().flatten();
    last.for_each(|t| tile(each, t));
    // What is written to no keep is not remembered.
    let written = program.ops[id].writes.map_or(own, Sequence::Keep);
    let recent = state.recent.iter_mut();
    recent.for_each(|t| place(each, written, t));
}

fn of_stream(state: &mut StreamState, id: usize, program: &Program, each: Each<'_>) {
    let stream = &program.streams[id];
    let own = stream.keep().map_or(Sequence::Stream(id), Sequence::Keep);
    // Without a tile around it that number stays 0.
    let around = stream.around.map(Sequence::Keep);
    state.cursor.numbers().for_each(|n| count(each, n));
    place(each, own, &mut state.place);
    if let Some(around) = around {
        place(each, around, &mut state.around);
    }
    let tiles = [&mut state.tile].into_iter().chain(&mut state.last);
    tiles.for_each(|t| tile(each, t));
    for arrived in &mut state.arrived {
        place(each, own, &mut arrived.place);
        if let Some(around) = around {
            place(each, around, &mut arrived.around);
        }
        let times = [&mut arrived.taken, &mut arrived.first, &mut arrived.whole];
        times.into_iter().for_each(|t| time(each, t, 0));
    }
    let room = match stream.kind {
        StreamKind::Drain(_) => around,
        _ => Some(own),
    };
    if let Some(room) = room {
        let recent = state.recent.iter_mut();
        recent.for_each(|t| place(each, room, t));
    }
    count(each, &mut state.issued);
}

fn of_barrier(barrier: &mut Barrier, each: Each<'_>) {
    if let Some((scope, epoch, _)) = &mut barrier.open {
        count(each, scope);
        each(Kind::Count, Number::Signed(epoch));
    }
    let times = [&mut barrier.floor, &mut barrier.end, &mut barrier.epoch];
    times.into_iter().for_each(|t| time(each, t, 0));
}

/// All that is counted, but for what was simulated.
pub(super) fn of_totals(totals: &mut Totals, each: Each<'_>) {
    let Totals {
        words,
        busy,
        waits,
        tasks,
        simulated: _,
        channel,
    } = totals;
    for moved in words {
        each(Kind::Count, Number::Long(moved));
    }
    let waits = waits.iter_mut().flatten().map(|(_, cycles)| cycles);
    let short = busy.iter_mut().chain(waits).chain([tasks]).chain(channel);
    short.for_each(|n| count(each, n));
}

/// A state and what has been counted, as numbers and the rest.
#[derive(PartialEq)]
pub(super) struct Split {
    /// The state without its numbers.
    rest: State,
    /// By unit: causes of which waits were counted.
    causes: Vec<Vec<Cause>>,
}

/// Takes the numbers out of a state and its totals; none where one is too large.
pub(super) fn split(
    state: &State,
    totals: &Totals,
    program: &Program,
) -> Option<(Split, Vec<i128>)> {
    let mut rest = state.clone();
    rest.ports.iter_mut().for_each(|p| p.sort());
    let mut numbers = Some(Vec::new());
    let mut take = |_: Kind, mut number: Number<'_>| {
        let value = number.get().filter(|_| number.put(0).is_some());
        match (value, &mut numbers) {
            (Some(value), Some(list)) => list.push(value),
            _ => numbers = None,
        }
    };
    of_state(&mut rest, program, &mut take);
    of_totals(&mut totals.clone(), &mut take);
    let causes = |list: &Vec<(Cause, u64)>| list.iter().map(|(cause, _)| *cause).collect();
    let causes = totals.waits.iter().map(causes).collect();
    Some((Split { rest, causes }, numbers?))
}

/// What each number of [`split`] is.
pub(super) fn kinds(state: &State, totals: &Totals, program: &Program) -> Vec<Kind> {
    let mut out = Vec::new();
    let mut note = |kind: Kind, _: Number<'_>| out.push(kind);
    of_state(&mut state.clone(), program, &mut note);
    of_totals(&mut totals.clone(), &mut note);
    out
}

/// The state and totals with other numbers; none where one does not fit.
pub(super) fn join(
    state: &State,
    totals: &Totals,
    program: &Program,
    numbers: &[i128],
) -> Option<(State, Totals)> {
    let (mut state, mut totals) = (state.clone(), totals.clone());
    state.ports.iter_mut().for_each(|p| p.sort());
    let mut numbers = numbers.iter();
    let mut fits = true;
    let mut put = |_: Kind, mut number: Number<'_>| {
        let value = numbers.next();
        fits &= value.is_some_and(|value| number.put(*value).is_some());
    };
    of_state(&mut state, program, &mut put);
    of_totals(&mut totals, &mut put);
    fits.then_some((state, totals))
}

/// How far a place moves in a sequence with so many iterations of each of two loops.
pub(super) fn weights(
    machine: &Machine<'_>,
    of: Sequence,
    moves: [(usize, u64); 2],
) -> Option<[i128; 2]> {
    let program = machine.program;
    let nest = &program.nests[0];
    let loops: Vec<(Option<usize>, u64)> = match of {
        Sequence::Keep(keep) => {
            let plan = &program.keeps[keep];
            let own = nest[..plan.depth].iter().enumerate();
            own.map(|(at, l)| (Some(at), l.count)).collect()
        }
        Sequence::Op(id) => of_walk(nest, &program.ops[id]),
        Sequence::Stream(id) => of_walk(nest, &machine.walkers[id]),
    };
    let weight = |at: usize, by: u64| {
        let Some(found) = loops.iter().position(|(own, _)| *own == Some(at)) else {
            return Some(0);
        };
        let mut inside = loops[found + 1..].iter();
        inside.try_fold(i128::from(by), |w, (_, count)| {
            w.checked_mul((*count).max(1).into())
        })
    };
    let [row, band] = moves;
    Some([weight(row.0, row.1)?, weight(band.0, band.1)?])
}

fn of_walk(nest: &[NamedLoop], op: &Op) -> Vec<(Option<usize>, u64)> {
    let loops = op.loops.iter().map(|at| (Some(*at), nest[*at].count));
    loops
        .chain(op.folds.iter().map(|l| (None, l.count)))
        .collect()
}
