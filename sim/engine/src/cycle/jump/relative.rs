//! A state apart from when it is and how far its walks have come: what is alike in it goes on alike.

use std::collections::VecDeque;

use einflow_mappings::{mapped::NamedLoop, nest::Term};
use smallvec::SmallVec;

use super::snapshot::digits;

use crate::{
    events::{
        Arrived, Barrier, Candidate, Held, Machine, OpState, Started, State, StreamState, Use,
    },
    program::{Cursor, Key, Op, Program, Stream, StreamKind, Tile},
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

    /// How far a tile is ahead of another, with its own lengths.
    fn ahead(&self, op: &'p Op, tile: &Tile, of: &Tile) -> Tile {
        let mut out = *tile;
        for (side, next) in out.iter_mut().zip(of) {
            side.0 = side.0.wrapping_sub(next.0);
        }
        if self.first == self.at {
            return out;
        }
        // Along several loops that count as one, in iterations of the innermost.
        let place = |tile: &Tile| {
            self.loops(op).iter().fold(0u64, |sum, l| {
                let digit = tile[l.cut.rank].0 / l.cut.step.max(1);
                sum.wrapping_mul(l.count).wrapping_add(digit)
            })
        };
        for l in self.loops(op) {
            let start = |t: &Tile| t[l.cut.rank].0 % l.cut.step.max(1);
            out[l.cut.rank].0 = start(tile).wrapping_sub(start(of));
        }
        let last = self.loops(op).last();
        last.into_iter().for_each(|l| {
            let apart = place(tile).wrapping_sub(place(of));
            let side = &mut out[l.cut.rank];
            side.0 = side.0.wrapping_add(apart.wrapping_mul(l.cut.step));
        });
        out
    }
}

/// The state with times relative to now, and places, tiles and counts relative to where each walk stands, without
/// that loop's own digit and without what has ended so long ago that it bears on nothing. Two states of which this is
/// the same go on alike, as long as the walks see no end of the loop.
///
/// Clocks of what did not move at all stand still: units' times and the end are compared by `clocks_alike`.
pub(super) fn relative(state: &State, to: At<'_>) -> State {
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
    let (program, now) = (to.program, *now);
    let from_now = |time: u64| time.wrapping_sub(now);
    let live = |end: u64| end + to.reach >= now;
    State {
        now: 0,
        ops: (0..ops.len())
            .map(|op| op_state(state, op, to, &from_now, &live))
            .collect(),
        streams: streams
            .iter()
            .zip(program.streams.iter().zip(to.walkers))
            .map(|(s, (stream, walker))| stream_state(s, stream, walker, to, &from_now, &live))
            .collect(),
        uses: uses
            .iter()
            .enumerate()
            .map(|(keep, users)| {
                let of_user = |(user, list): (usize, &VecDeque<Use>)| {
                    if list.is_empty() {
                        return VecDeque::new();
                    }
                    let next = state.generation(user, keep);
                    let live = list.iter().filter(|u| live(u.end));
                    live.map(|u| Use {
                        generation: next.wrapping_sub(u.generation),
                        end: from_now(u.end),
                    })
                    .collect()
                };
                users.iter().enumerate().map(of_user).collect()
            })
            .collect(),
        unit_free: Vec::new(),
        barrier: of_barrier(barrier, &ops[to.reference], program, &from_now),
        ports: ports.iter().map(|p| p.relative(now, to.reach)).collect(),
        channels: channels.iter().map(|c| c.relative(now)).collect(),
        bandwidths: bandwidths
            .iter()
            .map(|b| Some(b.as_ref()?.relative(now.saturating_sub(to.reach))))
            .collect(),
        end: 0,
        ready: ready
            .iter()
            .map(|r| {
                r.as_ref().map(|c| Candidate {
                    time: from_now(c.time),
                    cause: c.cause,
                })
            })
            .collect(),
        // How long something has kept a queue matters to nothing; whether only since now does.
        blocked: blocked
            .iter()
            .map(|held| {
                held.map(|held| Held {
                    cause: held.cause,
                    since: u64::from(held.since == now),
                    before: held.before.filter(|_| held.since == now),
                })
            })
            .collect(),
    }
}

fn op_state(
    state: &State,
    id: usize,
    to: At<'_>,
    from_now: &dyn Fn(u64) -> u64,
    live: &dyn Fn(u64) -> bool,
) -> OpState {
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
    let written = to.program.ops[id].writes;
    let next = written.map_or(0, |keep| state.generation(id, keep));
    OpState {
        cursor: cursor.without(to.first..=to.at),
        // What is due when follows from the walk; of the segments, the barrier says how far they are.
        key: Key {
            scope: 0,
            epoch: 0,
            fold: 0,
            ..*key
        },
        tile: to.ahead(op, tile, tile),
        place: 0,
        started: 0,
        kept: SmallVec::new(),
        history: history
            .iter()
            .filter(|t| live(t.end()))
            .map(|t| Started {
                place: place.wrapping_sub(t.place),
                number: started.wrapping_sub(t.number),
                start: from_now(t.start),
                steps: t.steps.clone(),
            })
            .collect(),
        last: last
            .iter()
            .map(|l| l.as_ref().map(|l| to.ahead(op, l, tile)))
            .collect(),
        recent: recent.iter().map(|g| next.wrapping_sub(*g)).collect(),
    }
}

fn stream_state(
    state: &StreamState,
    stream: &Stream,
    walker: &Op,
    to: At<'_>,
    from_now: &dyn Fn(u64) -> u64,
    live: &dyn Fn(u64) -> bool,
) -> StreamState {
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
    StreamState {
        cursor: cursor.without(to.first..=to.at),
        place: 0,
        around: 0,
        tile: to.ahead(walker, tile, tile),
        last: last.as_ref().map(|l| to.ahead(walker, l, tile)),
        arrived: arrived
            .iter()
            .filter(|a| live(a.whole))
            .map(|a| Arrived {
                place: place.wrapping_sub(a.place),
                around: around.wrapping_sub(a.around),
                taken: from_now(a.taken),
                first: from_now(a.first),
                whole: from_now(a.whole),
                cause: a.cause,
            })
            .collect(),
        recent: recent.iter().map(|g| to_room.wrapping_sub(*g)).collect(),
        issued: 0,
    }
}

fn of_barrier(
    barrier: &Barrier,
    reference: &OpState,
    program: &Program,
    from_now: &dyn Fn(u64) -> u64,
) -> Barrier {
    if program.segments.is_empty() {
        return barrier.clone();
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
    Barrier {
        // How far the open segment is behind what the marking Einsum does next.
        open: open.map(|(scope, epoch, segment)| {
            (
                key.scope.wrapping_sub(scope),
                key.epoch.wrapping_sub(epoch),
                segment,
            )
        }),
        floor: from_now(*floor),
        end: from_now(*end),
        epoch: from_now(*epoch),
        work: work.clone(),
        cause: *cause,
        waited: *waited,
    }
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
        Self((0..machine.program.whole.len()).map(of).collect())
    }

    /// Whether they stand as they did so many iterations of a loop before.
    pub fn repeat(&self, home: &NamedLoop, period: u64) -> bool {
        let by = period.saturating_mul(home.cut.step);
        let groups = self.0.get(home.cut.rank).and_then(Option::as_ref);
        groups.is_some_and(|groups| groups.iter().all(|g| by.is_multiple_of(*g)))
    }
}
