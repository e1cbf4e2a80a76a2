//! Fused attention of one query over caches of unequal lengths: how libraries cut the caches into pieces, and how the
//! pieces share the chip.
//!
//! A piece is a block of threads on a unit, and streams a part of one sequence's keys and values of one key head.
//! Pieces are placed in the order of the launch, those that find no place as soon as another ends. A unit's pieces
//! share it, and all share the memory.

use std::sync::OnceLock;

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

/// A library with a law of its own for unequal caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Library {
    /// As tables and scenarios name it.
    pub name: &'static str,
    /// Its law, as device files name it.
    pub law: &'static str,
    /// How it divides caches.
    pub plan: Plan,
}

/// FlashAttention-2 by what it does with lengths.
pub const FLASH: Library = Library {
    name: "flash2-varlen",
    law: "ragged:flash2-varlen",
    plan: Plan::Longest,
};

/// Those that there are.
pub const LIBRARIES: [Library; 3] = [
    FLASH,
    Library {
        name: "flashinfer-tensor",
        law: "ragged:flashinfer-tensor",
        plan: Plan::Filled,
    },
    Library {
        name: "flashinfer-cuda",
        law: "ragged-cores:flashinfer-cuda",
        plan: Plan::Cores,
    },
];

impl Library {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        LIBRARIES.into_iter().find(|library| library.name == name)
    }
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
/// Keys of a block of FlashAttention-2, where caches are split (also of all caches the least step that changes no
/// division), and where they are not.
pub const SPLIT_KEYS: u64 = 128;
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
    /// Of which each has a whole number.
    step: f64,
    /// Whether parts of a cache are added up.
    split: bool,
    /// Query heads a key head.
    group: f64,
    /// Bytes of a token of a key head.
    token: f64,
    units: usize,
    placed: OnceLock<Placed>,
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
            step: match plan {
                Plan::Longest => KEYS,
                Plan::Filled | Plan::Cores => PAGE,
            } as f64,
            split,
            group: group as f64,
            token: a.token_bytes() / heads as f64,
            units: chip.units as usize,
            placed: OnceLock::new(),
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
        let [pace, memory, together] = self.paces(chip, [bandwidth, alone, x, y]);
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

    /// Where the pieces find place.
    fn placed(&self) -> &Placed {
        let resident = self.plan.resident() as usize;
        self.placed
            .get_or_init(|| Placed::new(&self.tokens, self.units, resident, self.step))
    }

    /// What a piece alone takes for a token, and the memory, in microseconds, and what the pieces of a unit stream
    /// together in what one does; of the plan's parameters the bandwidth, and the three of its pieces.
    fn paces<N: Number>(&self, chip: &Chip, [bandwidth, alone, x, y]: [N; 4]) -> [N; 3] {
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
        [pace, memory, together]
    }

    /// What the schedule takes where a piece alone takes `pace` microseconds a token, the memory `memory`, and the
    /// pieces of a unit stream `together` times what one does.
    fn stream<N: Number>(&self, pace: N, memory: N, together: N) -> N {
        let most = self.plan.resident() as f64;
        let at = TOGETHER.iter().rposition(|t| *t <= together.value());
        let time = |at: usize| {
            let schedule = self.schedules[at].get_or_init(|| self.placed().schedule(TOGETHER[at]));
            lasts(schedule, pace, memory)
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

/// Microseconds that the pieces of these caches stream on a chip, `values` being those of the plan's
/// [`parameters`](Plan::parameters): what is left of the law's time without its floor, its ramp, the sum of parts and the
/// host.
pub fn streamed(chip: &Chip, a: &Attention, lengths: &[u64], plan: Plan, values: &[f64]) -> f64 {
    let &[_, bandwidth, _, _, alone, x, y, _] = values else {
        return f64::NAN;
    };
    let pieces = Pieces::new(chip, a, lengths, plan);
    let [pace, memory, together] = pieces.paces(chip, [bandwidth, alone, x, y]);
    lasts(&pieces.placed().schedule(together), pace, memory)
}

/// What a schedule takes where a piece alone takes `pace` microseconds a token, and the memory `memory`.
fn lasts<N: Number>(schedule: &[(f64, f64)], pace: N, memory: N) -> N {
    let mut sum = N::of(0.0);
    for (rate, tokens) in schedule {
        let slower = super::overlapped(pace, memory * *rate, SHARPNESS);
        sum = sum + slower * *tokens;
    }
    sum
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

/// Pieces as the chip takes them: until the last of them has found a place, all places are taken and run at one pace.
#[derive(Clone, Debug)]
struct Placed {
    /// Tokens that each place has streamed by then.
    full: f64,
    /// Whether there was such a time: else there are places for all pieces from the start.
    waited: bool,
    /// Pieces that a unit holds at the most.
    resident: usize,
    /// What is left then on each unit: tokens of its pieces, the shortest first, and nothing where there is none.
    left: Vec<f64>,
}

/// Steps in which the longest piece is placed, at the most.
const FINEST: f64 = 4096.0;

/// Spans of the time in which fewer and fewer pieces run, each with the mean of its rates: what a piece alone takes and
/// what memory takes cross in one of them, where the mean is off by a fifth at the most.
const SPANS: usize = 64;

/// The end of a chain of places.
const NOBODY: u32 = u32::MAX;

impl Placed {
    /// Pieces go to units in turn, then to where a place is free first; of those free at the same time, to the first unit.
    /// `step`: tokens of which every piece has a whole number.
    fn new(tokens: &[f64], units: usize, resident: usize, step: f64) -> Self {
        // Units without a piece do not count.
        let units = units.min(tokens.len()).max(1);
        let places = units.saturating_mul(resident);
        let waited = tokens.len() > places;
        // Of the places of all units, one unit after another.
        let mut ends = vec![0.0; places];
        let mut placed = Vec::with_capacity(places.min(tokens.len()));
        for round in 0..resident {
            let own = tokens.iter().skip(round * units).take(units);
            for (unit, piece) in own.enumerate() {
                ends[unit * resident + round] = *piece;
                placed.push((unit * resident + round) as u32);
            }
        }
        let mut full = 0.0;
        if waited {
            // Places by when they are free, in steps: a ring as long as the longest piece, each of it a chain of places.
            let longest = tokens.iter().copied().fold(1.0, f64::max);
            let a_token = 1.0 / (longest / FINEST).max(step);
            let steps = |tokens: f64| ((tokens * a_token + 0.5) as usize).max(1);
            let ring = (steps(longest) + 1).next_power_of_two();
            let mut free = vec![NOBODY; ring];
            let mut behind = vec![NOBODY; places];
            for place in placed {
                let first = &mut free[steps(ends[place as usize]) & (ring - 1)];
                behind[place as usize] = std::mem::replace(first, place);
            }
            let mut here: Vec<u32> = Vec::new();
            let mut now = 0;
            let mut waiting = &tokens[places..];
            while !waiting.is_empty() {
                now += 1;
                let mut next = std::mem::replace(&mut free[now & (ring - 1)], NOBODY);
                while next != NOBODY {
                    here.push(next);
                    next = behind[next as usize];
                }
                here.sort_unstable();
                for (place, piece) in here.drain(..).zip(waiting) {
                    let end = &mut ends[place as usize];
                    full = f64::max(full, *end);
                    *end += piece;
                    let first = &mut free[(now + steps(*piece)) & (ring - 1)];
                    behind[place as usize] = std::mem::replace(first, place);
                    waiting = &waiting[1..];
                }
            }
        }
        for unit in ends.chunks_mut(resident) {
            for end in unit.iter_mut() {
                // Pieces of one length end together.
                *end = if *end - full > 1e-6 { *end - full } else { 0.0 };
            }
            // Few: each to its place among those before.
            for at in 1..resident {
                let mut to = at;
                while to > 0 && unit[to - 1] > unit[to] {
                    unit.swap(to - 1, to);
                    to -= 1;
                }
            }
        }
        Self {
            full,
            waited,
            resident,
            left: ends,
        }
    }

    /// What pieces do at a time, and how long, in the time that a piece alone takes for a token: rates of all pieces
    /// together, in that of one alone, each with the time for which it is so. `together`: what all pieces of a unit
    /// stream, in that of one alone.
    fn schedule(&self, together: f64) -> Vec<(f64, f64)> {
        let all_of = |pieces: usize| (pieces as f64).min(together);
        let mut out = Vec::new();
        if self.waited {
            let unit = all_of(self.resident);
            let units = self.left.len() / self.resident;
            let time = self.full * self.resident as f64 / unit;
            out.push((unit * units as f64, time));
        }
        // When a unit has a piece less, and what it streams less from then on.
        let mut ends: Vec<(f64, f64)> = Vec::with_capacity(self.left.len());
        let (mut rate, mut last) = (0.0, 0.0);
        for unit in self.left.chunks(self.resident) {
            let mut pieces = unit.iter().filter(|left| **left > 0.0).count();
            rate += all_of(pieces);
            let (mut now, mut streamed) = (0.0, 0.0);
            for piece in &unit[unit.len() - pieces..] {
                now += (piece - streamed) * pieces as f64 / all_of(pieces);
                streamed = *piece;
                ends.push((now, all_of(pieces) - all_of(pieces - 1)));
                pieces -= 1;
            }
            last = f64::max(last, now);
        }
        if last == 0.0 {
            return out;
        }
        // Spans of time with the mean of their rates: what is lost at an end, and streamed of it before, in each.
        let span = last / SPANS as f64;
        let mut spans = [(0.0, 0.0); SPANS];
        for (end, less) in ends {
            let at = ((end / span) as usize).min(SPANS - 1);
            spans[at].0 += less;
            spans[at].1 += less * (end - at as f64 * span);
        }
        for (lost, before) in spans {
            let mean = rate - lost + before / span;
            rate -= lost;
            match out.last_mut() {
                Some((same, time)) if lost == 0.0 && *same == mean => *time += span,
                _ => out.push((mean.max(0.0), span)),
            }
        }
        out
    }
}
