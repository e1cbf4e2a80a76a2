//! A state apart from when it is and how far its walks have come: what is alike in it goes on alike.

use std::hash::{Hash, Hasher};

use einflow_mappings::{mapped::NamedLoop, nest::Term};
use rustc_hash::FxHasher;

use super::snapshot::digits;

use crate::{
    events::{Barrier, Machine, OpState, State, StreamState},
    program::{Cursor, Op, Program, Stream, StreamKind, Tile},
};

/// Where two states are to be compared.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    pub program: &'p Program,
    /// The walks of its streams.
    pub walkers: &'p [Op],
    pub groups: &'p Groups,
    /// Cycles after which nothing that has ended bears on what starts.
    pub reach: u64,
    /// The Einsum whose walk marks the ends of iterations.
    pub reference: usize,
    /// The loops (folds come after the loops) of which they are: one, or several that count as one.
    pub first: usize,
    pub at: usize,
}

impl<'p> At<'p> {
    /// The loops as an Einsum or a stream has them.
    pub fn loops(&self, op: &'p Op) -> &'p [NamedLoop] {
        let loops = &self.program.nests[op.at.0];
        match self.at.checked_sub(loops.len()) {
            None => &loops[self.first..=self.at],
            Some(fold) => op.folds.get(fold..=fold).unwrap_or(&[]),
        }
    }

    /// At which of their iterations a walk stands.
    pub fn digit(&self, op: &'p Op, cursor: &Cursor) -> u64 {
        let digits = digits(cursor).skip(self.first);
        let loops = self.loops(op).iter().zip(digits);
        loops.fold(0, |sum, (l, digit)| {
            sum.saturating_mul(l.count).saturating_add(digit)
        })
    }

    /// Their last iteration up to which all are full, where a walk stands.
    pub fn full_left(&self, op: &'p Op, cursor: &Cursor) -> u64 {
        if self.first == self.at {
            return cursor.full_left(self.program, op, self.at);
        }
        // Loops that count as one are full.
        let loops = self.loops(op).iter();
        loops.fold(1u64, |n, l| n.saturating_mul(l.count)) - 1
    }

    /// Moves a walk on by so many of their iterations.
    pub fn shift(&self, op: &Op, cursor: &mut Cursor, by: u64) {
        cursor.shift(self.program, op, self.first..=self.at, by);
    }

    /// Notes how far a tile is ahead of another, with its own lengths.
    fn ahead(&self, op: &'p Op, tile: &Tile, of: &Tile, out: &mut Alike) {
        let mut sides = *tile;
        for (side, next) in sides.iter_mut().zip(of) {
            side.0 = side.0.wrapping_sub(next.0);
        }
        if self.first < self.at {
            // Along several loops that count as one, in iterations of the innermost.
            let place = |tile: &Tile| {
                self.loops(op).iter().fold(0u64, |sum, l| {
                    let digit = tile[l.cut.rank].0 / l.cut.step.max(1);
                    sum.wrapping_mul(l.count).wrapping_add(digit)
                })
            };
            for l in self.loops(op) {
                let start = |t: &Tile| t[l.cut.rank].0 % l.cut.step.max(1);
                sides[l.cut.rank].0 = start(tile).wrapping_sub(start(of));
            }
            self.loops(op).last().into_iter().for_each(|l| {
                let apart = place(tile).wrapping_sub(place(of));
                let side = &mut sides[l.cut.rank];
                side.0 = side.0.wrapping_add(apart.wrapping_mul(l.cut.step));
            });
        }
        let ranks = &sides[..self.groups.ranks()];
        out.0
            .extend(ranks.iter().flat_map(|(start, len)| [*start, *len]));
    }
}

/// What two states have to have alike, as a list of numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alike(Vec<u64>);

impl Alike {
    /// A mark of it: of other states it is another, nearly always.
    pub fn mark(&self) -> u64 {
        let mut mark = FxHasher::default();
        self.0.hash(&mut mark);
        mark.finish()
    }

    /// So many things of which it is not known beforehand how many there are.
    fn list<T: Hash>(&mut self, things: impl Iterator<Item = T>) {
        let at = self.0.len();
        self.0.push(0);
        for thing in things {
            self.0[at] += 1;
            thing.hash(self);
        }
    }
}

/// What can be hashed can be listed: its parts are all that equality looks at.
impl Hasher for Alike {
    fn finish(&self) -> u64 {
        self.mark()
    }

    fn write(&mut self, bytes: &[u8]) {
        let words = bytes.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        });
        self.0.extend(words);
    }

    fn write_u8(&mut self, value: u8) {
        self.0.push(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.0.push(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0.push(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.0.push(value as u64);
    }

    fn write_u128(&mut self, value: u128) {
        self.0.extend([value as u64, (value >> 64) as u64]);
    }
}

/// The state with times relative to now, and places, tiles and counts relative to where each walk stands, without
/// that loop's own digit and without what has ended so long ago that it bears on nothing. Two states of which this is
/// the same go on alike, as long as the walks see no end of the loop.
///
/// Clocks of what did not move at all stand still: units' times and the end are compared by `clocks_alike`.
pub(super) fn relative(state: &State, to: At<'_>) -> Alike {
    let State {
        now,
        ops,
        streams,
        uses,
        unit_free: _,
        barrier,
        ports,
        channels,
        bandwidths,
        end: _,
        ready,
        blocked,
    } = state;
    let mut out = Alike::default();
    let now = *now;
    let clock = Clock {
        now,
        reach: to.reach,
    };
    for op in 0..ops.len() {
        op_state(state, op, to, clock, &mut out);
    }
    let walks = to.program.streams.iter().zip(to.walkers);
    for (state, (stream, walker)) in streams.iter().zip(walks) {
        stream_state(state, stream, walker, to, clock, &mut out);
    }
    for (keep, users) in uses.iter().enumerate() {
        for (user, list) in users.iter().enumerate() {
            let next = state.generation(user, keep);
            let live = list.iter().filter(|u| clock.live(u.end));
            out.list(live.map(|u| (next.wrapping_sub(u.generation), clock.since(u.end))));
        }
    }
    of_barrier(barrier, &ops[to.reference], to.program, clock, &mut out);
    for ports in ports {
        ports.relative(now, to.reach).hash(&mut out);
    }
    for channel in channels {
        channel.relative(now).hash(&mut out);
    }
    for bandwidth in bandwidths.iter().flatten() {
        let from = now.saturating_sub(to.reach);
        bandwidth.relative(from).hash(&mut out);
    }
    for candidate in ready {
        let candidate = candidate.as_ref();
        candidate
            .map(|c| (clock.since(c.time), c.cause))
            .hash(&mut out);
    }
    // How long something has kept a queue matters to nothing; whether only since now does.
    for held in blocked {
        let held = held.as_ref();
        held.map(|held| {
            let fresh = held.since == now;
            (held.cause, fresh, held.before.filter(|_| fresh))
        })
        .hash(&mut out);
    }
    out
}

/// Times as they look from now.
#[derive(Clone, Copy)]
struct Clock {
    now: u64,
    /// See [`At::reach`].
    reach: u64,
}

impl Clock {
    fn since(self, time: u64) -> u64 {
        time.wrapping_sub(self.now)
    }

    /// Whether what ends then may bear on what starts.
    fn live(self, end: u64) -> bool {
        end + self.reach >= self.now
    }
}

fn op_state(state: &State, id: usize, to: At<'_>, clock: Clock, out: &mut Alike) {
    let OpState {
        cursor,
        key,
        tile,
        place,
        started,
        history,
        // They follow from the walk.
        kept: _,
        last,
        recent,
    } = &state.ops[id];
    let op = &to.program.ops[id];
    let next = op.writes.map_or(0, |keep| state.generation(id, keep));
    cursor.without(to.first..=to.at).hash(out);
    // What is due when follows from the walk; of the segments, the barrier says how far they are.
    (key.nest, key.segment, key.place).hash(out);
    to.ahead(op, tile, tile, out);
    let live = history.iter().filter(|t| clock.live(t.end()));
    out.list(live.map(|t| {
        (
            place.wrapping_sub(t.place),
            started.wrapping_sub(t.number),
            clock.since(t.start),
            &t.steps,
        )
    }));
    for last in last {
        last.is_some().hash(out);
        last.iter().for_each(|l| to.ahead(op, l, tile, out));
    }
    out.list(recent.iter().map(|g| next.wrapping_sub(*g)));
}

fn stream_state(
    state: &StreamState,
    stream: &Stream,
    walker: &Op,
    to: At<'_>,
    clock: Clock,
    out: &mut Alike,
) {
    let StreamState {
        cursor,
        place,
        around,
        tile,
        last,
        arrived,
        recent,
        issued: _,
    } = state;
    let to_room = match stream.kind {
        StreamKind::Drain(_) => around,
        _ => place,
    };
    cursor.without(to.first..=to.at).hash(out);
    to.ahead(walker, tile, tile, out);
    last.is_some().hash(out);
    last.iter().for_each(|l| to.ahead(walker, l, tile, out));
    let live = arrived.iter().filter(|a| clock.live(a.whole));
    out.list(live.map(|a| {
        (
            place.wrapping_sub(a.place),
            around.wrapping_sub(a.around),
            [a.taken, a.first, a.whole].map(|time| clock.since(time)),
            a.cause,
        )
    }));
    out.list(recent.iter().map(|g| to_room.wrapping_sub(*g)));
}

fn of_barrier(
    barrier: &Barrier,
    reference: &OpState,
    program: &Program,
    clock: Clock,
    out: &mut Alike,
) {
    if program.segments.is_empty() {
        return barrier.hash(out);
    }
    let Barrier {
        open,
        floor,
        end,
        epoch,
        work,
        cause,
        waited,
    } = barrier;
    let key = reference.key;
    // How far the open segment is behind what the marking Einsum does next.
    let behind = open.map(|(scope, epoch, segment)| {
        (
            key.scope.wrapping_sub(scope),
            key.epoch.wrapping_sub(epoch),
            segment,
        )
    });
    let times = [floor, end, epoch].map(|time| clock.since(*time));
    (behind, times, work, cause, waited).hash(out);
}

/// By rank: how many coordinates share a word, or after how many words begin anew, each such number once; none where
/// tiles of one size do not all have as many words.
pub(super) struct Groups(Vec<Option<Vec<u64>>>);

impl Groups {
    pub fn new(machine: &Machine<'_>) -> Self {
        let transfers = &machine.mapped.blocks[machine.block].transfers;
        let of_transfers = transfers.iter().map(|t| &t.projection);
        let of_reads = machine.program.ops.iter().flat_map(|o| &o.reads);
        let all: Vec<_> = of_transfers
            .chain(of_reads.map(|r| &r.projection))
            .collect();
        let group = |t: &Term| t.unit.max(1).saturating_mul(t.modulus.unwrap_or(1).max(1));
        let of = |rank: usize| {
            // Where words do not exist, tiles of one size have more or fewer of them.
            all.iter().all(|p| p.is_even_along(rank)).then(|| {
                let terms = all.iter().flat_map(|p| p.all_dims()).flat_map(|d| &d.terms);
                let mut groups: Vec<u64> = terms.filter(|t| t.rank == rank).map(group).collect();
                groups.sort_unstable();
                groups.dedup();
                groups
            })
        };
        let ranks = machine.mapped.blocks[machine.block].space.sizes.len();
        Self((0..ranks).map(of).collect())
    }

    fn ranks(&self) -> usize {
        self.0.len()
    }

    /// Whether they stand as they did so many iterations of a loop before.
    pub fn repeat(&self, home: &NamedLoop, period: u64) -> bool {
        let by = period.saturating_mul(home.cut.step);
        let groups = self.0.get(home.cut.rank).and_then(Option::as_ref);
        groups.is_some_and(|groups| groups.iter().all(|g| by.is_multiple_of(*g)))
    }
}
