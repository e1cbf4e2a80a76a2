//! Which slice stands on which track, and what it is called.

use super::recorder::{Access, PortSlice, Recorder, TaskSlice, User};
use einflow_engine::program::{Tile, inside};

/// Slices of one track, ascending in time.
pub(super) struct Track {
    pub name: String,
    pub slices: Vec<Slice>,
}

/// A slice: an index into what the recorder keeps.
#[derive(Clone, Copy)]
pub(super) enum Slice {
    Task(usize),
    Movement(usize),
    Ports(usize),
}

/// Spreads slices (start, end, what) over as few lanes as keep them apart, the lowest free one first.
fn lanes(mut slices: Vec<(u64, u64, Slice)>) -> Vec<Vec<Slice>> {
    // The sort is stable: what starts together stays in the order of its report.
    slices.sort_by_key(|(start, _, _)| *start);
    let mut out: Vec<(u64, Vec<Slice>)> = Vec::new();
    for (start, end, slice) in slices {
        match out.iter_mut().find(|(free, _)| *free <= start) {
            Some((free, lane)) => {
                *free = end;
                lane.push(slice);
            }
            None => out.push((end, vec![slice])),
        }
    }
    out.into_iter().map(|(_, lane)| lane).collect()
}

impl Recorder {
    /// All tracks: arrays, channels, ports.
    pub(super) fn tracks(&self) -> Vec<Track> {
        let mut out = Vec::new();
        let mut add = |slices: Vec<(u64, u64, Slice)>, name: &dyn Fn(usize) -> String| {
            for (i, slices) in lanes(slices).into_iter().enumerate() {
                let name = name(i + 1);
                out.push(Track { name, slices });
            }
        };
        let accelerator = &self.mapped.accelerator;
        for (unit, array) in accelerator.arrays.iter().enumerate() {
            let own = self.tasks.iter().enumerate();
            let own = own.filter(|(_, t)| self.programs[t.block].ops[t.op].unit == unit);
            let own = own.map(|(i, t)| (t.start, t.start + t.duration, Slice::Task(i)));
            add(self.seen(own), &|lane| match lane {
                1 => array.name.clone(),
                _ => format!("{}, turn {lane}", array.name),
            });
        }
        for (memory, spec) in accelerator.memories.iter().enumerate() {
            let own = self
                .movements
                .iter()
                .enumerate()
                .filter(|(_, m)| m.outer == memory);
            let own = own.map(|(i, m)| (m.start, m.start + m.duration, Slice::Movement(i)));
            add(self.seen(own), &|lane| match lane {
                1 => format!("{} channel", spec.name),
                _ => format!("{} channel, lane {lane}", spec.name),
            });
        }
        for (memory, spec) in accelerator.memories.iter().enumerate() {
            let own = self.ports.iter().enumerate();
            let own = own.filter(|(_, p)| p.ports.memory == memory);
            let own = own.map(|(i, p)| (p.ports.start, p.ports.last() + 1, Slice::Ports(i)));
            add(self.seen(own), &|lane| {
                format!("{} port lane {lane}", spec.name)
            });
        }
        out
    }

    fn seen(&self, slices: impl Iterator<Item = (u64, u64, Slice)>) -> Vec<(u64, u64, Slice)> {
        slices
            .filter(|(start, end, _)| end > start && self.shows(*start, *end))
            .collect()
    }

    /// Iterations in which a task runs: loop, number; loops of one iteration left out.
    pub(super) fn iterations(&self, task: &TaskSlice) -> Vec<(&str, u64)> {
        let program = &self.programs[task.block];
        let op = &program.ops[task.op];
        let loops = op.loops.iter().map(|at| &program.nests[op.at.0][*at]);
        let mut tile = program.whole;
        let mut out = Vec::new();
        for l in loops.chain(&op.folds) {
            let offset = task.tile[l.cut.rank].0 - tile[l.cut.rank].0;
            let digit = offset / l.cut.step.max(1);
            inside(&mut tile, l, digit);
            if l.count > 1 {
                out.push((l.name.as_str(), digit));
            }
        }
        out
    }

    /// `BQK m1=3 p1=0`: an Einsum and the innermost two loops that tell its tasks apart.
    pub(super) fn task_name(&self, task: &TaskSlice) -> String {
        let mut name = self.programs[task.block].ops[task.op].name.clone();
        let loops = self.iterations(task);
        for (l, digit) in &loops[loops.len().saturating_sub(2)..] {
            name.push_str(&format!(" {l}={digit}"));
        }
        name
    }

    /// Coordinates of a tile, by rank: `m`, `768..1023`.
    pub(super) fn coordinates(&self, tile: &Tile) -> Vec<(String, String)> {
        let ranks = self
            .mapped
            .base
            .iter()
            .zip(tile)
            .filter(|(b, _)| b.size > 1);
        let span =
            |(first, len): (u64, u64)| format!("{first}..{}", (first + len).saturating_sub(1));
        ranks
            .map(|(b, side)| (b.name.to_lowercase(), span(*side)))
            .collect()
    }

    /// Who uses ports, for what.
    pub(super) fn port_name(&self, slice: &PortSlice) -> String {
        let tensor = |t: usize| self.mapped.cascade.tensors[t].name.as_str();
        match slice.user {
            User::Task(block, op, t, access) => {
                let einsum = &self.programs[block].ops[op].name;
                match access {
                    Access::Read => format!("{einsum} reads {}", tensor(t)),
                    Access::Write => format!("{einsum} writes {}", tensor(t)),
                }
            }
            User::Movement(t, true) => format!("{} comes in", tensor(t)),
            User::Movement(t, false) => format!("{} goes out", tensor(t)),
            User::Unknown => "used".into(),
        }
    }
}
