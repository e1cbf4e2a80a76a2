//! Fused attention of one query over caches of unequal lengths: how libraries cut the caches into pieces, and how the
//! pieces share the chip.
//!
//! A piece is a block of threads on a unit, and streams a part of one sequence's keys and values of one key head.
//! Pieces are placed in the order of the launch, those that find no place as soon as another ends. A unit's pieces
//! share it, and all share the memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::OnceLock,
};

use super::{super::Number, Attention, Chip, Parameter, RAGGED, RAGGED_CORES, ramp};

/// How a library divides caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// FlashAttention-2 without a paged cache: queries that share a key head in one block of threads, caches split by
    /// the longest of them where there are too few heads; nothing is split where each query head has its own keys.
    Longest,
    /// FlashInfer's kernel on matrix units: the smallest chunk of which the chip holds all pieces at once.
    Filled,
    /// FlashInfer's kernel on general-purpose units: as [`Plan::Filled`], while the sequences' key heads leave room.
    Cores,
}

impl Plan {
    /// The parameters of its law.
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Longest | Self::Filled => RAGGED,
            Self::Cores => RAGGED_CORES,
        }
    }

    /// Blocks of threads that a unit holds: registers and shared memory of the kernels on Hopper leave room for these.
    fn resident(self) -> u64 {
        match self {
            Self::Longest | Self::Filled => 2,
            Self::Cores => 6,
        }
    }
}

/// Tokens of a page of FlashInfer's cache, and pages of its least chunk.
const PAGE: u64 = 16;
const LEAST: u64 = 8;
/// Keys of a block of FlashAttention-2, where caches are split and where they are not.
const SPLIT_KEYS: u64 = 128;
const KEYS: u64 = 64;
/// Splits that FlashAttention-2 makes at the most.
const MOST_SPLITS: u64 = 128;

/// What all pieces of a unit stream together, over what one does alone, at which schedules are made; between them
/// times are linear.
const TOGETHER: [f64; 8] = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0];

/// How sharply the unit's pace and the memory's turn into one another.
const SHARPNESS: i32 = 4;

/// The pieces of a launch.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    plan: Plan,
    /// Tokens of each, in the order of the launch.
    tokens: Vec<f64>,
    /// Whether parts of a cache are added up.
    split: bool,
    /// Query heads a key head.
    group: f64,
    /// Bytes of a token of a key head.
    token: f64,
    units: usize,
    schedules: [OnceLock<Vec<(f64, f64)>>; TOGETHER.len()],
}

impl Pieces {
    pub fn new(chip: &Chip, a: &Attention, lengths: &[u64], plan: Plan) -> Self {
        let heads = a.key_heads.max(1);
        let group = a.heads / heads;
        let (tokens, split) = match plan {
            Plan::Longest => by_longest(chip, heads, group, lengths),
            Plan::Filled | Plan::Cores => by_chunk(chip, heads, lengths, plan),
        };
        Self {
            plan,
            tokens: tokens.iter().map(|t| *t as f64).collect(),
            split,
            group: group as f64,
            token: a.token_bytes() / heads as f64,
            units: chip.units as usize,
            schedules: Default::default(),
        }
    }

    /// Kernels and copies that the host launches.
    fn launches(&self) -> f64 {
        let parts = if self.split { 1.0 } else { 0.0 };
        match self.plan {
            // Queries of a group are brought together before, and their outputs apart after.
            Plan::Longest if self.group > 1.0 => 3.0 + parts,
            _ => 1.0 + parts,
        }
    }

    /// What the host takes to launch it, in microseconds.
    pub fn host(&self, values: &[f64]) -> f64 {
        values
            .last()
            .map_or(f64::NAN, |launch| launch * self.launches())
    }

    /// Microseconds, `values` being those of the plan's [`parameters`](Plan::parameters).
    pub fn us<N: Number>(&self, chip: &Chip, bytes: f64, values: &[N]) -> N {
        let &[floor, bandwidth, lost, combine, alone, x, y, launch] = values else {
            return N::of(f64::NAN);
        };
        // What a token takes at the unit's share of the memory's peak.
        let peak = chip.bandwidth.0 * 1e-6;
        let share = self.token * chip.units as f64 / peak;
        let one = N::of(1.0);
        let (pace, together) = match self.plan {
            Plan::Longest | Plan::Filled => (one / if self.split { x } else { alone }, y),
            Plan::Cores => {
                let pace = one / alone + x * self.group;
                let busy = y * self.group;
                match busy.value() > pace.value() {
                    true => (busy, one),
                    false => (pace, pace / busy),
                }
            }
        };
        let pace = pace * share;
        let memory = one / (bandwidth * (peak / self.token));
        let stream = self.stream(pace, memory, together);
        let added = if self.split { combine } else { N::of(0.0) };
        let all = floor + ramp(chip, bytes, lost) + stream + added;
        let host = launch * self.launches();
        if host.value() > all.value() {
            host
        } else {
            all
        }
    }

    /// What the schedule takes where a piece alone takes `pace` microseconds a token, the memory `memory`, and the
    /// pieces of a unit stream `together` times what one does.
    fn stream<N: Number>(&self, pace: N, memory: N, together: N) -> N {
        let most = self.plan.resident() as f64;
        let at = TOGETHER.iter().rposition(|t| *t <= together.value());
        let time = |at: usize| {
            let schedule = self.schedules[at].get_or_init(|| {
                let resident = self.plan.resident() as usize;
                schedule(&self.tokens, self.units, resident, TOGETHER[at])
            });
            let mut sum = N::of(0.0);
            for (rate, tokens) in schedule {
                let slower = super::overlapped(pace, memory * *rate, SHARPNESS);
                sum = sum + slower * *tokens;
            }
            sum
        };
        let (at, next) = match at {
            Some(at) if TOGETHER[at] < most && at + 1 < TOGETHER.len() => (at, at + 1),
            Some(at) => return time(at),
            None => return time(0),
        };
        let way = (together - N::of(TOGETHER[at])) * (1.0 / (TOGETHER[next] - TOGETHER[at]));
        let low = time(at);
        low + (time(next) - low) * way
    }
}

/// The pieces of FlashAttention-2, and whether it splits.
fn by_longest(chip: &Chip, heads: u64, group: u64, lengths: &[u64]) -> (Vec<u64>, bool) {
    let longest = lengths.iter().copied().max().unwrap_or(1).max(1);
    let blocks = longest.div_ceil(SPLIT_KEYS);
    let splits = match group {
        // Query heads of their own keys take the kernel of prompts.
        0 | 1 => 1,
        _ => {
            let pieces = (lengths.len() as u64).saturating_mul(heads);
            splits(chip.units.saturating_mul(2), pieces, blocks)
        }
    };
    let whole = |l: &u64| l.div_ceil(KEYS) * KEYS;
    if splits == 1 {
        // The batch within a head.
        let one: Vec<u64> = lengths.iter().map(whole).collect();
        return (one.repeat(heads as usize), false);
    }
    // Splits within a head within a sequence; those beyond a short sequence's end do nothing.
    let each = blocks.div_ceil(splits);
    let mut out = Vec::new();
    for length in lengths {
        let own = length.div_ceil(SPLIT_KEYS);
        let parts: Vec<u64> = (0..splits)
            .map(|i| own.saturating_sub(i * each).min(each) * SPLIT_KEYS)
            .filter(|tokens| *tokens > 0)
            .collect();
        out.extend(parts.repeat(heads as usize));
    }
    (out, true)
}

/// As few splits as come within 15 % of the best filling of `slots`, of those that make shorter pieces than one split
/// fewer (`num_splits_heuristic`).
fn splits(slots: u64, pieces: u64, blocks: u64) -> u64 {
    if pieces as f64 >= 0.8 * slots as f64 {
        return 1;
    }
    let shorter = |n: &u64| *n == 1 || blocks.div_ceil(*n) != blocks.div_ceil(*n - 1);
    let filled = |n: u64| {
        let waves = pieces as f64 * n as f64 / slots as f64;
        waves / waves.ceil()
    };
    let most = MOST_SPLITS.min(slots).min(blocks);
    let best = (1..=most).filter(shorter).map(filled).fold(0.0, f64::max);
    let found = (1..=most)
        .filter(shorter)
        .find(|n| filled(*n) >= 0.85 * best);
    found.unwrap_or(1)
}

/// The pieces of FlashInfer's kernels, and whether they split.
fn by_chunk(chip: &Chip, heads: u64, lengths: &[u64], plan: Plan) -> (Vec<u64>, bool) {
    let pages: Vec<u64> = lengths.iter().map(|l| l.div_ceil(PAGE).max(1)).collect();
    let slots = chip.units.saturating_mul(plan.resident());
    let pieces = (lengths.len() as u64).saturating_mul(heads);
    let fill = plan == Plan::Filled || pieces < slots;
    let mut high = pages.iter().copied().max().unwrap_or(1);
    let mut low = if fill { LEAST } else { high };
    let room = slots / heads;
    while low < high {
        let middle = u64::midpoint(low, high);
        let pieces: u64 = pages.iter().map(|p| p.div_ceil(middle)).sum();
        match pieces > room {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    let one: Vec<u64> = pages
        .iter()
        .flat_map(|p| (0..p.div_ceil(low)).map(move |i| (p - i * low).min(low) * PAGE))
        .collect();
    let split = one.len() > pages.len();
    // Chunks within a sequence within a head.
    (one.repeat(heads as usize), split)
}

/// Pieces on a unit.
#[derive(Clone, Default)]
struct Unit {
    /// What is left of each.
    left: Vec<f64>,
    /// When that was so.
    since: f64,
}

/// What pieces do at a time, and how long, in the time that a piece alone takes for a token: rates of all pieces
/// together, in that of one alone, each with the time for which it is so.
fn schedule(tokens: &[f64], units: usize, resident: usize, together: f64) -> Vec<(f64, f64)> {
    // Units without a piece do not count.
    let units = units.min(tokens.len()).max(1);
    let rate = |pieces: usize| (together / pieces.max(1) as f64).min(1.0);
    let all_of = |unit: &Unit| unit.left.len() as f64 * rate(unit.left.len());
    // When the first of a unit's pieces ends; times are positive, and order as their bits do.
    let next = |unit: &Unit| {
        let least = unit.left.iter().copied().reduce(f64::min)?;
        Some((unit.since + least / rate(unit.left.len())).to_bits())
    };
    let mut waiting = tokens.iter().copied();
    let mut all = vec![Unit::default(); units];
    let places = units.saturating_mul(resident);
    for (at, piece) in waiting.by_ref().take(places).enumerate() {
        all[at % units].left.push(piece);
    }
    let mut ends: BinaryHeap<_> = (all.iter().enumerate())
        .filter_map(|(at, unit)| Some(Reverse((next(unit)?, at))))
        .collect();
    let mut total: f64 = all.iter().map(all_of).sum();
    let mut now = 0.0;
    // Rates in 1024ths: as good as the same.
    let mut out: BTreeMap<u64, f64> = BTreeMap::new();
    while let Some(Reverse((end, at))) = ends.pop() {
        let (end, unit) = (f64::from_bits(end), &mut all[at]);
        *out.entry((total * 1024.0).round() as u64).or_default() += end - now;
        now = end;
        total -= all_of(unit);
        let done = (now - unit.since) * rate(unit.left.len());
        let mut left = Vec::with_capacity(resident);
        for piece in &unit.left {
            // Pieces of one length end together.
            match piece - done {
                rest if rest > 1e-6 => left.push(rest),
                _ => left.extend(waiting.next()),
            }
        }
        *unit = Unit { left, since: now };
        total += all_of(unit);
        ends.extend(next(unit).map(|end| Reverse((end, at))));
    }
    let pairs = out.into_iter().filter(|(_, time)| *time > 0.0);
    pairs
        .map(|(rate, time)| (rate as f64 / 1024.0, time))
        .collect()
}
