//! How words lie in an array, and how far they go.

use einflow_arch::{Accelerator, Direction, Link};
use einflow_mappings::{mapped::BoundEinsum, nest::Projection};

use super::{
    unroll::pes,
    words::{Tile, words},
};

/// How a tensor lies in the PEs of a full step.
pub struct Lie {
    pub rows: u64,
    pub columns: u64,
    /// Whether PEs of different rows touch different words.
    pub down: bool,
    /// Whether PEs of different columns do.
    pub across: bool,
}

pub fn lie(einsum: &BoundEinsum, step: &Tile, projection: &Projection) -> Lie {
    let all = pes(einsum, step);
    let of: Vec<_> = all
        .iter()
        .map(|(i, j, tile)| (*i, *j, words(tile, projection)))
        .collect();
    let differ = |a: &u64, b: &u64| {
        of.iter().any(|x| {
            of.iter()
                .any(|y| x.0 == *a && y.0 == *b && x.1 == y.1 && x.2 != y.2)
        })
    };
    let differ_across = |a: &u64, b: &u64| {
        of.iter().any(|x| {
            of.iter()
                .any(|y| x.1 == *a && y.1 == *b && x.0 == y.0 && x.2 != y.2)
        })
    };
    let rows = all.iter().map(|p| p.0).max().unwrap_or(0) + 1;
    let columns = all.iter().map(|p| p.1).max().unwrap_or(0) + 1;
    Lie {
        rows,
        columns,
        down: (1..rows).any(|i| differ(&0, &i)),
        across: (1..columns).any(|j| differ_across(&0, &j)),
    }
}

/// Accesses of a step: one of all lanes' words, or, where all PEs have their own, one for as many rows of PEs as the
/// links take in a cycle; and rows of each.
pub fn accesses_of(chip: &Accelerator, memory: usize, lie: &Lie, wide: u64) -> (i64, u64) {
    let wide = wide.min(lie.rows);
    let (burst, words) = match (lie.down, lie.across) {
        (true, true) => (lie.rows.div_ceil(wide), lie.columns * wide),
        (true, false) => (1, lie.rows),
        (false, true) => (1, lie.columns),
        (false, false) => (1, 1),
    };
    let bytes = words * chip.word.bytes().0 as u64;
    (
        burst as i64,
        bytes.div_ceil(chip.memories[memory].row.0 as u64),
    )
}

fn vertical(link: &Link) -> bool {
    link.direction == Direction::Down || link.direction == Direction::Up
}

/// Links between neighbours.
fn inside(chip: &Accelerator, unit: usize) -> impl Iterator<Item = &Link> {
    let links = chip.arrays[unit].links.iter();
    links.filter(|l| l.from.is_none() && l.to.is_none())
}

/// The link from a memory (or one further in) over which words enter: where rows alone have their own, at the rows' ends,
/// where columns alone have theirs, at the columns'.
pub fn gate<'a>(chip: &'a Accelerator, memory: usize, unit: usize, lie: &Lie) -> Option<&'a Link> {
    let feeds = |name: &String| chip.memories[memory..].iter().any(|m| m.name == *name);
    let all: Vec<&Link> = chip.arrays[unit]
        .links
        .iter()
        .filter(|l| l.from.as_ref().is_some_and(feeds))
        .collect();
    let wanted = match (lie.down, lie.across) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    };
    let fits = all.iter().find(|l| wanted.is_none_or(|w| vertical(l) == w));
    fits.or(all.first()).copied()
}

/// The link over which results leave.
pub fn exit(chip: &Accelerator, memory: usize, unit: usize) -> Option<&Link> {
    let takes = |name: &String| chip.memories[memory..].iter().any(|m| m.name == *name);
    let mut links = chip.arrays[unit].links.iter();
    links.find(|l| l.to.as_ref().is_some_and(takes))
}

/// Words a cycle of a link at the edge and those behind it.
pub fn wide(chip: &Accelerator, unit: usize, link: Option<&Link>) -> u64 {
    let Some(link) = link else { return 1 };
    let behind = inside(chip, unit).filter(|l| l.direction == link.direction);
    let behind = behind.map(|l| l.words_per_cycle).max();
    link.words_per_cycle.min(behind.unwrap_or(u64::MAX))
}

/// Cycles that the wavefront takes to the next row, and to the next column.
fn steps(chip: &Accelerator, unit: usize) -> (i64, i64) {
    let slowest = |along: bool| {
        let all = inside(chip, unit).filter(|l| vertical(l) == along);
        all.map(|l| l.latency as i64).max().unwrap_or(1)
    };
    (slowest(true), slowest(false))
}

/// When the wavefront of a step is in the last PE.
pub fn last_pe(chip: &Accelerator, unit: usize) -> i64 {
    let (down, right) = steps(chip, unit);
    let array = &chip.arrays[unit];
    (array.rows as i64 - 1) * down + (array.columns as i64 - 1) * right
}

pub fn latency(chip: &Accelerator, memory: usize) -> i64 {
    chip.memories[memory].latency.cycles(chip.clock).0 as i64
}

/// Cycles from a memory's port to the first PE of an array.
pub fn inward(chip: &Accelerator, memory: usize, unit: usize, lie: &Lie) -> i64 {
    latency(chip, memory) + hop(chip, memory, unit, lie)
}

/// Cycles from the edge to the first PE.
pub fn hop(chip: &Accelerator, memory: usize, unit: usize, lie: &Lie) -> i64 {
    gate(chip, memory, unit, lie).map_or(1, |l| l.latency as i64)
}

/// From the end of a step in the first PE until a word is at the edge: every PE's is walked hop by hop, from where the
/// wavefront made it (PE (i, j) ends its step i rows' and j columns' hops later), and the first one counts.
fn hops(chip: &Accelerator, unit: usize, direction: Direction) -> i64 {
    let array = &chip.arrays[unit];
    let (rows, columns) = (array.rows as i64, array.columns as i64);
    let (down, right) = match direction {
        Direction::Down => (1, 0),
        Direction::Up => (-1, 0),
        Direction::Right => (0, 1),
        Direction::Left => (0, -1),
    };
    let (to_row, to_column) = steps(chip, unit);
    let arrives = |i: i64, j: i64| {
        let (mut row, mut column) = (i, j);
        let mut cycle = i * to_row + j * to_column;
        while (0..rows).contains(&(row + down)) && (0..columns).contains(&(column + right)) {
            (row, column) = (row + down, column + right);
            cycle += down.abs() * to_row + right.abs() * to_column;
        }
        cycle
    };
    let pes = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
    pes.map(|(i, j)| arrives(i, j)).min().unwrap_or(0)
}

/// Cycles from a step's end in the first PE to a memory's port: to the array's edge, and over the link.
pub fn outward(chip: &Accelerator, memory: usize, unit: usize, summed_across: bool) -> i64 {
    let array = &chip.arrays[unit];
    let link = exit(chip, memory, unit);
    let direction = link.map_or(Direction::Down, |l| l.direction);
    let across = summed_across && direction != Direction::Right;
    let (_, to_column) = steps(chip, unit);
    let across = if across {
        (array.columns as i64 - 1) * to_column
    } else {
        0
    };
    hops(chip, unit, direction) + across + link.map_or(1, |l| l.latency as i64)
}

/// Cycles from a step's end in the first PE of one array to the first PE of another.
pub fn between(chip: &Accelerator, from: usize, to: usize) -> i64 {
    let (source, target) = (&chip.arrays[from], &chip.arrays[to]);
    let out = source
        .links
        .iter()
        .find(|l| l.to.as_ref() == Some(&target.name));
    let into = target
        .links
        .iter()
        .find(|l| l.from.as_ref() == Some(&source.name));
    let way = |l: &Link| hops(chip, from, l.direction) + l.latency as i64;
    out.or(into).map_or(1, way)
}

/// Cycles until a sum that the PEs of a lane make together is back in all of them.
pub fn round_trip(chip: &Accelerator, einsum: &BoundEinsum, lie: &Lie) -> i64 {
    let array = &chip.arrays[einsum.unit];
    let (to_row, to_column) = steps(chip, einsum.unit);
    let down = if lie.rows > 1 && !lie.down {
        2 * (array.rows as i64 - 1) * to_row
    } else {
        0
    };
    let across = if lie.columns > 1 && !lie.across {
        2 * (array.columns as i64 - 1) * to_column
    } else {
        0
    };
    down + across
}

/// By array: how late its frame of time is. An array that another's edge feeds is the row below its last one.
pub fn frames(chip: &Accelerator) -> Vec<i64> {
    let mut frames = vec![0i64; chip.arrays.len()];
    for from in 0..frames.len() {
        for link in &chip.arrays[from].links {
            let to = chip
                .arrays
                .iter()
                .position(|a| link.to.as_ref() == Some(&a.name));
            if let Some(to) = to.filter(|to| *to > from) {
                frames[to] = frames[to].max(frames[from] + between(chip, from, to));
            }
        }
    }
    frames
}
