//! When each member of a group does each of its steps, relative to the group's start.

use smallvec::SmallVec;

use crate::program::Runs;

/// Regular accesses: first time, distance and number of each run of them.
pub type Pieces = SmallVec<[(u64, u64, u64); 2]>;

/// The steps of one Einsum in a task: pieces of constant distance, because members that end earlier leave their turns
/// to the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    /// First step, its time, and the distance from there on.
    pieces: SmallVec<[(u64, u64, u64); 2]>,
    /// Number of steps.
    pub count: u64,
    /// Cycles of one.
    pub cycles: u64,
}

impl Steps {
    /// The time of a step.
    pub fn at(&self, step: u64) -> u64 {
        let piece = self
            .pieces
            .iter()
            .rev()
            .find(|(first, _, _)| *first <= step);
        piece.map_or(0, |(first, time, stride)| time + (step - first) * stride)
    }

    /// The time at which the last step has ended.
    pub fn end(&self) -> u64 {
        self.at(self.count.saturating_sub(1)) + self.cycles
    }

    /// Steps at which the distance changes, and the last: between them times are linear.
    fn corners(&self) -> impl Iterator<Item = u64> + '_ {
        let around = |(first, _, _): &(u64, u64, u64)| [first.saturating_sub(1), *first];
        let last = self.count.saturating_sub(1);
        self.pieces.iter().flat_map(around).chain([last])
    }

    /// The least start of `reader` after this one's at which each of its steps finds the word of the same step,
    /// `delay` cycles after it was made: negative where the reader may start earlier.
    pub fn lead_of(&self, reader: &Steps, delay: u64) -> i64 {
        let steps = self.corners().chain(reader.corners());
        let last = self.count.min(reader.count).saturating_sub(1);
        steps
            .filter(|k| *k <= last)
            .map(|k| (self.at(k) + self.cycles + delay) as i64 - reader.at(k) as i64)
            .max()
            .unwrap_or(0)
    }

    /// The distance of steps at the start: how long a word may wait before the next one comes.
    pub fn stride(&self) -> u64 {
        self.pieces.first().map_or(1, |(_, _, stride)| *stride)
    }

    /// The times at which some of the steps begin, or (`ends`) have ended: pieces of first time, distance and number.
    pub fn times(&self, runs: &Runs, ends: bool) -> Pieces {
        let cycles = if ends { self.cycles } else { 0 };
        let mut out = Pieces::new();
        for (first, distance, number) in runs {
            let mut done = 0;
            for (n, (_, _, stride)) in self.pieces.iter().enumerate() {
                // Those of the run before the next piece.
                let until = match self.pieces.get(n + 1) {
                    Some((next, _, _)) => next.saturating_sub(*first).div_ceil(*distance),
                    None => *number,
                };
                let until = until.min(*number);
                if until > done {
                    let begin = self.at(first + done * distance) + cycles;
                    out.push((begin, distance * stride, until - done));
                    done = until;
                }
            }
        }
        out
    }
}

/// The steps of members that take turns: (steps, cycles of a step) of each, in the order of a round.
pub fn rounds(members: &[(u64, u64)]) -> SmallVec<[Steps; 2]> {
    let mut out: SmallVec<[Steps; 2]> = members
        .iter()
        .map(|(count, cycles)| Steps {
            pieces: SmallVec::new(),
            count: *count,
            cycles: *cycles,
        })
        .collect();
    let mut ends: SmallVec<[u64; 4]> = members.iter().map(|(count, _)| *count).collect();
    ends.sort_unstable();
    ends.dedup();
    let (mut round, mut time) = (0u64, 0u64);
    for end in ends {
        let active: SmallVec<[usize; 4]> = (0..members.len())
            .filter(|m| members[*m].0 > round)
            .collect();
        let stride: u64 = active.iter().map(|m| members[*m].1).sum();
        let mut offset = time;
        for m in active {
            out[m].pieces.push((round, offset, stride));
            offset += members[m].1;
        }
        time += stride * (end - round);
        round = end;
    }
    out
}

/// One step of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Cycles after the group's first step.
    pub time: u64,
    /// Which of the members.
    pub member: usize,
    /// Which of its steps.
    pub step: u64,
}

/// The steps of all members of a group in the order in which they are issued.
pub fn issued(members: &[Steps]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    for (member, steps) in members.iter().enumerate() {
        slots.extend((0..steps.count).map(|step| Slot {
            time: steps.at(step),
            member,
            step,
        }));
    }
    slots.sort_unstable();
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_turns_until_they_end() {
        let steps = rounds(&[(2, 1), (4, 1)]);
        assert_eq!([0, 1].map(|k| steps[0].at(k)), [0, 2]);
        assert_eq!([0, 1, 2, 3].map(|k| steps[1].at(k)), [1, 3, 4, 5]);
        assert_eq!((steps[0].end(), steps[1].end()), (3, 6));
        let order: Vec<usize> = issued(&steps).iter().map(|s| s.member).collect();
        assert_eq!(order, [0, 1, 0, 1, 1, 1]);
        let alone = rounds(&[(1, 7)]);
        assert_eq!(alone[0].end(), 7);
    }

    #[test]
    fn a_reader_starts_so_that_every_word_is_there() {
        let (maker, reader) = (&rounds(&[(4, 2)])[0], &rounds(&[(4, 1)])[0]);
        // The last word decides: made at 8, read at start + 3.
        assert_eq!(maker.lead_of(reader, 10), 8 + 10 - 3);
        // A slow reader waits for the first.
        assert_eq!(reader.lead_of(maker, 10), 1 + 10);
    }

    #[test]
    fn accesses_follow_the_steps() {
        let steps = &rounds(&[(6, 2)])[0];
        let all = |runs: &[(u64, u64, u64)], ends| steps.times(&runs.into(), ends);
        assert_eq!(all(&[(0, 1, 6)], false).as_slice(), [(0, 2, 6)]);
        assert_eq!(all(&[(0, 3, 2)], false).as_slice(), [(0, 6, 2)]);
        assert_eq!(all(&[(2, 3, 2)], true).as_slice(), [(6, 6, 2)]);
        // Where another member has ended, they are closer.
        let steps = &rounds(&[(2, 1), (4, 1)])[1];
        let all = steps.times(&[(0, 1, 4)].as_slice().into(), false);
        assert_eq!(all.as_slice(), [(1, 2, 2), (4, 1, 2)]);
    }
}
