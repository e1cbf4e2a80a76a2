//! How long kept tiles stay in their memories.

use std::collections::VecDeque;

use einflow_mappings::mapped::{Keep, MappedCascade, Place};

use super::recorder::MovementSlice;
use einflow_engine::program::{KeepPlan, Program, StreamKind, Tile};

/// A tile's stay.
#[derive(Clone, Debug)]
struct Life {
    /// Which tile.
    generation: u128,
    start: u64,
    /// The end of its last user so far.
    end: u64,
}

/// Stays of the tiles of a block's keeps.
#[derive(Debug)]
pub(super) struct Lives {
    /// By keep.
    lives: Vec<VecDeque<Life>>,
    /// By keep: bytes of a tile beyond its host's, tiles at once, its host: the keep whose room it takes over.
    keeps: Vec<(u128, usize, Option<usize>)>,
    /// By keep: its memory.
    memories: Vec<usize>,
}

/// Tiles of a keep that may still be in use, beyond those that are there at once.
const RECENT: usize = 32;

impl Lives {
    pub fn new(mapped: &MappedCascade, program: &Program, block: usize) -> Self {
        let block = &mapped.blocks[block];
        let spec = |plan: &KeepPlan| -> Option<&Keep> {
            let inner = block.nests.iter().flat_map(|n| &n.keeps);
            let mut all = block.keeps.iter().chain(inner);
            all.find(|k| k.tensor == plan.tensor && k.place == Place::Memory(plan.memory))
        };
        let bytes_of = |keep: &Keep| {
            let bytes = keep.words * mapped.word_bytes() * u128::from(keep.share.0);
            bytes.div_ceil(u128::from(keep.share.1.max(1)))
        };
        let keeps = program.keeps.iter().map(|plan| {
            let tiles = plan.generations.unwrap_or(usize::MAX).max(1);
            let Some(keep) = spec(plan) else {
                return (0, tiles, None);
            };
            let host = keep.in_place_of.and_then(|tensor| {
                let mut all = program.keeps.iter().enumerate();
                let same = |p: &KeepPlan| p.tensor == tensor && p.memory == plan.memory;
                let (at, plan) = all.find(|(_, p)| same(p))?;
                Some((at, bytes_of(spec(plan)?)))
            });
            // It brings what its host's room does not hold.
            let taken = host.map_or(0, |(_, bytes)| bytes);
            (
                bytes_of(keep).saturating_sub(taken),
                tiles,
                host.map(|(at, _)| at),
            )
        });
        Self {
            keeps: keeps.collect(),
            lives: vec![VecDeque::new(); program.keeps.len()],
            memories: program.keeps.iter().map(|k| k.memory).collect(),
        }
    }

    /// A task uses its tiles.
    pub fn task(
        &mut self,
        program: &Program,
        place: usize,
        tile: &Tile,
        span: (u64, u64),
        from: u64,
    ) {
        let op = &program.ops[place];
        for used in &op.uses {
            let plan = &program.keeps[used.keep];
            let loops = &program.nests[op.at.0][..plan.depth];
            let mut firsts = tile.map(|(first, _)| first);
            let generation = loops.iter().enumerate().fold(0u128, |sum, (at, l)| {
                let digit = if op.loops.contains(&at) {
                    let step = l.cut.step.max(1);
                    let digit = firsts[l.cut.rank] / step;
                    firsts[l.cut.rank] %= step;
                    digit
                } else if op.exit == Some(at) {
                    l.count.saturating_sub(1)
                } else {
                    0
                };
                number(sum, l.count, digit)
            });
            self.note(used.keep, generation, span, from);
        }
    }

    /// A movement loads a tile, or takes it out.
    pub fn movement(&mut self, program: &Program, moved: &MovementSlice, from: u64) {
        for (keep, plan) in program.keeps.iter().enumerate() {
            let stream = if moved.inward { plan.fill } else { plan.drain };
            let Some(stream) = stream.map(|s| &program.streams[s]) else {
                continue;
            };
            let kind = matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Drain(_));
            if !kind || stream.tensor.0 != moved.tensor || stream.outer != moved.outer {
                continue;
            }
            let mut firsts = moved.tile.map(|(first, _)| first);
            let loops = &program.nests[plan.nest][..plan.depth];
            let generation = loops.iter().enumerate().fold(0u128, |sum, (at, l)| {
                if stream.exit == Some(at) {
                    return number(sum, l.count, l.count.saturating_sub(1));
                }
                let step = l.cut.step.max(1);
                let digit = firsts[l.cut.rank] / step;
                firsts[l.cut.rank] %= step;
                number(sum, l.count, digit)
            });
            self.note(
                keep,
                generation,
                (moved.start, moved.start + moved.duration),
                from,
            );
        }
    }

    fn note(&mut self, keep: usize, generation: u128, (start, end): (u64, u64), from: u64) {
        let tiles = self.keeps[keep].1;
        let lives = &mut self.lives[keep];
        let known = lives.iter_mut().rev().take(tiles.saturating_add(RECENT));
        if let Some(life) = known.into_iter().find(|l| l.generation == generation) {
            life.start = life.start.min(start);
            life.end = life.end.max(end);
            return;
        }
        lives.push_back(Life {
            generation,
            start,
            end,
        });
        // What has gone before the window is not shown.
        while lives.len() > tiles.saturating_add(RECENT)
            && lives.front().is_some_and(|l| l.end < from)
        {
            lives.pop_front();
        }
    }

    /// Comings and goings of bytes at a memory; `open`: the run was ended, so that the last tiles have not gone.
    pub fn changes(&self, memory: usize, open: bool) -> Vec<(u64, i128)> {
        let mut out = Vec::new();
        let mut ends: Vec<Vec<u64>> = Vec::new();
        for (lives, (_, tiles, _)) in self.lives.iter().zip(&self.keeps) {
            // The successor's room is the predecessor's.
            let next = |i: usize| {
                let later = lives.get(i.saturating_add(*tiles));
                later.map_or(u64::MAX, |l| l.start)
            };
            let own = lives.iter().enumerate();
            ends.push(own.map(|(i, l)| l.end.min(next(i)).max(l.start)).collect());
        }
        // A room is taken until the last tile in it has gone.
        for (keep, (_, _, host)) in self.keeps.iter().enumerate() {
            let Some(host) = *host else { continue };
            for (i, life) in self.lives[keep].iter().enumerate() {
                let gone = ends[keep][i];
                let at = self.lives[host].partition_point(|h| h.start <= life.start);
                if let Some(end) = at.checked_sub(1).and_then(|at| ends[host].get_mut(at)) {
                    *end = gone.max(*end);
                }
            }
        }
        for (keep, lives) in self.lives.iter().enumerate() {
            let (bytes, tiles, _) = self.keeps[keep];
            if self.memories[keep] != memory || bytes == 0 {
                continue;
            }
            let bytes = i128::try_from(bytes).unwrap_or(i128::MAX);
            for (i, life) in lives.iter().enumerate() {
                out.push((life.start, bytes));
                if !open || i.saturating_add(tiles) < lives.len() {
                    out.push((ends[keep][i], -bytes));
                }
            }
        }
        out.sort_unstable();
        out
    }
}

/// A number with one digit more.
fn number(sum: u128, count: u64, digit: u64) -> u128 {
    sum.saturating_mul(count.max(1).into())
        .saturating_add(digit.into())
}
