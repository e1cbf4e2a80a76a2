//! How far words go: hops inside an array, links between arrays and memories, and the ports they take.

use einflow_arch::{Accelerator, Array, Direction, Link};
use einflow_mappings::mapped::{BoundEinsum, NamedLoop};
use einflow_mappings::nest::Projection;

use super::steps::Follows;

/// The way of a task's words between a memory and an array.
#[derive(Clone, Debug)]
pub struct Way {
    /// The memory.
    pub memory: usize,
    /// Cycles from the memory's port to the first PE, or from the PE that ends a step to the port.
    pub delay: u64,
    /// Rows that a port moves at each of the accesses.
    pub rows: u64,
    /// Which of the Einsum's step loops bring an access each; the others keep the words.
    pub follows: Follows,
    /// Whether one of them does.
    pub stays: bool,
    /// Accesses, one a cycle, wherever there is one: rows of the array that have words of their own.
    pub burst: u64,
}

/// A regular use of a memory's ports: `rows` of them at `start`, `start + stride`, ... `count` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The memory.
    pub memory: usize,
    /// The first cycle.
    pub start: u64,
    /// Cycles from one access to the next.
    pub stride: u64,
    /// Accesses.
    pub count: u64,
    /// Ports that each takes.
    pub rows: u64,
}

impl Ports {
    /// The last cycle of use.
    pub fn last(&self) -> u64 {
        self.start + self.stride * self.count.saturating_sub(1)
    }

    /// Whether a cycle is one of use.
    pub fn at(&self, cycle: u64) -> bool {
        cycle >= self.start
            && cycle <= self.last()
            && (cycle - self.start).is_multiple_of(self.stride.max(1))
    }
}

/// Lanes whose PEs have words of their own: (rows, columns), each the number of lanes or 1.
pub fn lanes(einsum: &BoundEinsum, projection: &Projection) -> (u64, u64) {
    let of = |lane: &Option<NamedLoop>| match lane {
        Some(l) if l.touches_any(&projection.dims) => l.count,
        _ => 1,
    };
    (of(&einsum.rows), of(&einsum.columns))
}

/// How many step loops, from the outside, end with one that the words follow.
pub fn depth(steps: &[NamedLoop], projection: &Projection) -> usize {
    let follows = |l: &NamedLoop| l.touches_any(&projection.dims);
    steps.iter().rposition(follows).map_or(0, |at| at + 1)
}

/// Rows of a memory that hold so many words.
pub fn rows_of(accelerator: &Accelerator, memory: usize, words: u64) -> u64 {
    let bytes = u128::from(words) * accelerator.word.bytes().0;
    let rows = bytes.div_ceil(accelerator.memories[memory].row.0.max(1));
    u64::try_from(rows).unwrap_or(u64::MAX).max(1)
}

/// The latency of a memory in cycles.
pub fn latency(accelerator: &Accelerator, memory: usize) -> u64 {
    let cycles = accelerator.memories[memory]
        .latency
        .cycles(accelerator.clock);
    u64::try_from(cycles.0).unwrap_or(u64::MAX)
}

/// Whether a link joins a memory, or one further in, through which its words pass.
fn joins(accelerator: &Accelerator, memory: usize, end: Option<&String>) -> bool {
    end.is_some_and(|end| {
        accelerator.memories[memory..]
            .iter()
            .any(|m| m.name == *end)
    })
}

/// Whether words on a link move from row to row.
fn down(link: &Link) -> bool {
    matches!(link.direction, Direction::Down | Direction::Up)
}

/// The link over which words of a memory enter an array, of lanes with words of their own in rows and columns: at the
/// edge of the rows where only rows have their own, of the columns where only columns have; else, or where none is
/// there, the first.
pub fn entering(
    accelerator: &Accelerator,
    memory: usize,
    unit: usize,
    (rows, columns): (u64, u64),
) -> Option<&Link> {
    let links = accelerator.arrays[unit].links.iter();
    let feeding = links.filter(|l| joins(accelerator, memory, l.from.as_ref()));
    let at_edge = |l: &&Link| match (rows > 1, columns > 1) {
        (true, false) => !down(l),
        (false, true) => down(l),
        _ => true,
    };
    feeding.clone().find(at_edge).or(feeding.clone().next())
}

/// The link over which an array's results leave for a memory.
pub fn leaving(accelerator: &Accelerator, memory: usize, unit: usize) -> Option<&Link> {
    let mut links = accelerator.arrays[unit].links.iter();
    links.find(|l| joins(accelerator, memory, l.to.as_ref()))
}

/// Rows of PEs whose own words pass a link, and those between the PEs in its direction, in one cycle.
pub fn width(accelerator: &Accelerator, unit: usize, link: Option<&Link>) -> u64 {
    let Some(link) = link else { return 1 };
    let links = accelerator.arrays[unit].links.iter();
    let between = links.filter(|l| l.from.is_none() && l.to.is_none());
    let on = between.filter(|l| l.direction == link.direction);
    let most = on.map(|l| l.words_per_cycle).max();
    most.map_or(link.words_per_cycle, |w| w.min(link.words_per_cycle))
        .max(1)
}

/// Accesses of an operand's or a result's words in a step, one a cycle, and the words of each, of lanes with words of
/// their own in rows and columns: one access, or where all PEs have their own as many rows of PEs as pass in a cycle.
pub fn accesses((rows, columns): (u64, u64), width: u64) -> (u64, u64) {
    if rows > 1 && columns > 1 {
        let at_once = width.min(rows);
        (rows.div_ceil(at_once), columns.saturating_mul(at_once))
    } else {
        (1, rows.max(columns))
    }
}

/// Cycles by which a PE's work is later than that of the PE above it, and of the PE left of it: a hop of what moves
/// between them.
pub fn skew(array: &Array) -> (u64, u64) {
    let links = array.links.iter();
    let between = links.filter(|l| l.from.is_none() && l.to.is_none());
    let slowest = |rows: bool| {
        let along = between.clone().filter(|l| down(l) == rows);
        along.map(|l| l.latency).max().unwrap_or(1)
    };
    (slowest(true), slowest(false))
}

/// Cycles from an array's first PE to its last, along rows and columns.
pub fn tail(array: &Array) -> (u64, u64) {
    let (down, right) = skew(array);
    (
        (array.rows - 1).saturating_mul(down),
        (array.columns - 1).saturating_mul(right),
    )
}

/// Cycles that a word makes from its PE's place in the wavefront to the edge in a direction.
fn hops(accelerator: &Accelerator, unit: usize, direction: Direction) -> u64 {
    let (down, right) = tail(&accelerator.arrays[unit]);
    match direction {
        Direction::Down => down,
        Direction::Right => right,
        Direction::Up | Direction::Left => 0,
    }
}

/// Cycles from the end of a step in PE (0, 0) to the port of the memory that takes its result: the wavefront's way to
/// the edge and the link.
pub fn outward(accelerator: &Accelerator, unit: usize, memory: usize, across: bool) -> u64 {
    let link = leaving(accelerator, memory, unit);
    let direction = link.map_or(Direction::Down, |l| l.direction);
    let mut total = hops(accelerator, unit, direction) + link.map_or(1, |l| l.latency);
    // A result that all columns make together is whole at the last of them.
    if across && direction != Direction::Right {
        total += tail(&accelerator.arrays[unit]).1;
    }
    total
}

/// Cycles from the end of a step in PE (0, 0) of one array to where the first PE of another array may use the word:
/// along
/// rows or columns to the edge, and over the link.
pub fn between(accelerator: &Accelerator, from: usize, to: usize) -> u64 {
    let (source, target) = (&accelerator.arrays[from], &accelerator.arrays[to]);
    let out = source
        .links
        .iter()
        .find(|l| l.to.as_ref() == Some(&target.name));
    let into = target
        .links
        .iter()
        .find(|l| l.from.as_ref() == Some(&source.name));
    out.or(into)
        .map_or(1, |l| hops(accelerator, from, l.direction) + l.latency)
}

/// By array: how much later than the first its frame of time is. An array fed from the edge of another is the row (or
/// column) below its last.
pub fn frames(accelerator: &Accelerator) -> Vec<u64> {
    let mut frames = vec![0u64; accelerator.arrays.len()];
    // A chain of arrays is at most as long as there are arrays.
    for _ in 0..accelerator.arrays.len() {
        for (from, array) in accelerator.arrays.iter().enumerate() {
            for link in &array.links {
                let to = link
                    .to
                    .as_ref()
                    .and_then(|to| accelerator.arrays.iter().position(|a| a.name == *to));
                if let Some(to) = to.filter(|to| *to > from) {
                    frames[to] = frames[to].max(frames[from] + between(accelerator, from, to));
                }
            }
        }
    }
    frames
}
