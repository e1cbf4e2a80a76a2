//! Which Einsums take turns on a unit, and which phases that joins.

use einflow_workloads::cascade::ReadTime;

use super::{
    build::Builder,
    parts::{Group, Maker},
};

impl Builder<'_> {
    /// Which Einsums are issued together: those that the mapping says alternate, and those of one unit that hand
    /// over word by word in registers.
    pub(super) fn groups(&self) -> (Vec<Group>, Vec<Vec<usize>>) {
        let index = |at: &(usize, usize)| self.ops.iter().position(|o| o.at == *at);
        let mut of: Vec<usize> = (0..self.ops.len()).collect();
        let join = |of: &mut Vec<usize>, a: usize, b: usize| {
            let (from, to) = (of[a].max(of[b]), of[a].min(of[b]));
            of.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
        };
        let mut stated: Vec<usize> = Vec::new();
        for names in &self.block.interleave {
            let members: Vec<usize> = names.iter().filter_map(index).collect();
            members
                .windows(2)
                .for_each(|pair| join(&mut of, pair[0], pair[1]));
            stated.extend(members);
        }
        for (reader, op) in self.ops.iter().enumerate() {
            for read in &op.reads {
                if let Some(maker) = &read.maker
                    && in_turn(maker)
                    && self.ops[maker.op].unit == op.unit
                    && self.ops[maker.op].offset == op.offset
                    && read.time != ReadTime::Previous
                    && self.in_step(maker.op, reader)
                    && self.all_in_turn(&of, [maker.op, reader])
                {
                    join(&mut of, maker.op, reader);
                }
            }
        }
        let phases = self.block.phases.len();
        // Phases between which Einsums alternate run as one segment.
        let mut segment_of: Vec<usize> = (0..phases).collect();
        for root in 0..self.ops.len() {
            let in_group = (0..self.ops.len()).filter(|o| of[*o] == root);
            let own: Vec<usize> = in_group.filter_map(|o| self.ops[o].phase).collect();
            if let (Some(low), Some(high)) = (own.iter().min(), own.iter().max()) {
                let (low, high) = (segment_of[*low], segment_of[*high]);
                segment_of
                    .iter_mut()
                    .filter(|s| (low..=high).contains(*s))
                    .for_each(|s| *s = low);
            }
        }
        let mut names = segment_of.clone();
        names.dedup();
        let segments: Vec<Vec<usize>> = names
            .iter()
            .map(|s| (0..phases).filter(|p| segment_of[*p] == *s).collect())
            .collect();
        let order = |op: usize| {
            let at = self.ops[op].at;
            let phase = self.ops[op].phase;
            let position =
                phase.and_then(|p| self.block.phases[p].einsums.iter().position(|e| *e == at));
            (phase.unwrap_or(0), position.unwrap_or(at.1))
        };
        let mut roots: Vec<usize> = (0..self.ops.len()).filter(|o| of[*o] == *o).collect();
        let first = |root: usize| {
            let members = (0..self.ops.len()).filter(|o| of[*o] == root);
            members.map(order).min().unwrap_or_default()
        };
        roots.sort_by_key(|root| (self.ops[*root].at.0, first(*root)));
        let groups = roots
            .iter()
            .enumerate()
            .map(|(place, root)| {
                let mut members: Vec<usize> =
                    (0..self.ops.len()).filter(|o| of[*o] == *root).collect();
                // In the order in which the mapping lists those that alternate; makers before readers otherwise.
                members.sort_by_key(|o| {
                    (
                        stated.iter().position(|s| s == o).unwrap_or(usize::MAX),
                        order(*o),
                    )
                });
                let segment = self.ops[*root]
                    .phase
                    .and_then(|p| segments.iter().position(|s| s.contains(&p)));
                Group {
                    unit: self.ops[*root].unit,
                    ops: members,
                    segment: segment.unwrap_or(0),
                    place,
                }
            })
            .collect();
        (groups, segments)
    }

    /// Whether two Einsums of one unit may alternate: they run in the same loops, and none between them needs more
    /// than a word.
    fn in_step(&self, maker: usize, reader: usize) -> bool {
        let (made, op) = (&self.ops[maker], &self.ops[reader]);
        let alike = made.loops == op.loops && made.exit == op.exit && made.at.0 == op.at.0;
        // What the reader needs besides must not wait for all of the maker's words.
        let whole = op.reads.iter().any(|read| {
            read.maker.as_ref().is_some_and(|m| {
                m.op != maker
                    && !in_turn(m)
                    && read.time != ReadTime::Previous
                    && self.follows(m.op, maker, 0)
            })
        });
        alike && !whole
    }

    /// Whether the members of two groups may take turns: none reads from a memory, or late, what another made in the
    /// same round.
    fn all_in_turn(&self, of: &[usize], pair: [usize; 2]) -> bool {
        let inside = |op: usize| pair.iter().any(|p| of[*p] == of[op]);
        (0..self.ops.len()).filter(|op| inside(*op)).all(|op| {
            let op = &self.ops[op];
            // The value of the round before matters where the steps walk the iterative rank.
            let walked = |m: &Maker| {
                let mut steps = op.steps.iter().filter(|l| l.count > 1);
                m.memory.is_some() && steps.any(|l| m.iterative == Some(l.cut.rank))
            };
            op.reads.iter().all(|read| {
                let Some(maker) = read.maker.as_ref().filter(|m| inside(m.op)) else {
                    return true;
                };
                match read.time {
                    ReadTime::Previous => !walked(maker),
                    _ => in_turn(maker),
                }
            })
        })
    }

    /// Whether an Einsum reads another's output, through any number of others, in the same tile.
    fn follows(&self, op: usize, maker: usize, depth: usize) -> bool {
        op == maker
            || (depth < self.ops.len()
                && self.ops[op].reads.iter().any(|read| {
                    read.time != ReadTime::Previous
                        && read
                            .maker
                            .as_ref()
                            .is_some_and(|m| self.follows(m.op, maker, depth + 1))
                }))
    }
}

/// Whether a word is there for the next turn: a sum that comes back along its lane, or through a memory, comes too
/// late.
fn in_turn(maker: &Maker) -> bool {
    maker.by_word && maker.memory.is_none() && maker.delay == 0
}
