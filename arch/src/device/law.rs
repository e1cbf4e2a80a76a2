//! How long a kernel takes on a chip: closed forms with a few parameters, which `einflow fit` finds from measurements.
//!
//! Times are in microseconds in here, bandwidths in bytes a microsecond.

use einflow_spec::quantity::{BytesPerSecond, Seconds};

use super::{Chip, Kernel, kernel::Attention};

/// A parameter of a law.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name in a device file.
    pub name: &'static str,
    /// Its unit: `us`, or nothing for a fraction of the chip's own number.
    pub unit: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Where it may lie.
    pub range: (f64, f64),
    /// Where a fit begins.
    pub start: f64,
}

const fn us(name: &'static str, start: f64, high: f64, about: &'static str) -> Parameter {
    Parameter {
        name,
        unit: "us",
        about,
        range: (1e-3, high),
        start,
    }
}

const fn part(name: &'static str, start: f64, range: (f64, f64), about: &'static str) -> Parameter {
    Parameter {
        name,
        unit: "",
        about,
        range,
        start,
    }
}

const FLOOR: Parameter = us("floor", 6.0, 200.0, "what the smallest launch takes");
const BANDWIDTH: Parameter = part(
    "bandwidth",
    0.85,
    (0.02, 1.5),
    "what a long stream reaches of the memory's peak",
);
const RAMP: Parameter = us(
    "ramp",
    8.0,
    200.0,
    "what a stream far larger than the cache loses until it runs at full speed",
);
const CACHED: Parameter = part(
    "cached",
    1.0,
    (1e-3, 16.0),
    "the share of the cache below which data that was touched before is still there",
);
const CACHE_BANDWIDTH: Parameter = part(
    "cache_bandwidth",
    2.0,
    (0.1, 20.0),
    "what such data come with, in the memory's peak",
);
const THROTTLE: Parameter = part(
    "throttle",
    0.2,
    (1e-3, 0.6),
    "by how much the power limit slows work that keeps the matrix units busy for long",
);
const THROTTLE_AFTER: Parameter = Parameter {
    name: "throttle_after",
    unit: "us",
    about: "the time in which half of that comes",
    // A board averages what it draws over more than this.
    range: (100.0, 1e5),
    start: 500.0,
};

/// Parameters of a matrix product.
pub const PRODUCT: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    part(
        "efficiency",
        0.85,
        (0.05, 2.0),
        "what the largest tile reaches of the matrix units' peak",
    ),
    part(
        "tile_penalty",
        20.0,
        (1e-2, 500.0),
        "by how much smaller tiles do worse: words of a row and a column that cost as much as a multiply",
    ),
    THROTTLE,
    THROTTLE_AFTER,
    us(
        "step",
        1.0,
        20.0,
        "what a wave of tiles takes besides its products",
    ),
    CACHE_BANDWIDTH,
    CACHED,
];

/// Parameters of fused attention over a cache.
pub const DECODE: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    us(
        "head",
        1.0,
        50.0,
        "what a unit takes for a sequence's key head besides its bytes",
    ),
    us(
        "combine",
        2.0,
        100.0,
        "what adding up the parts of a split cache takes",
    ),
    part(
        "unsplit",
        0.85,
        (0.02, 1.5),
        "the bandwidth where there are heads enough and the cache is not split",
    ),
    CACHE_BANDWIDTH,
    CACHED,
];

/// Parameters of fused attention of a prompt.
pub const PREFILL: &[Parameter] = &[
    FLOOR,
    part(
        "efficiency",
        0.8,
        (0.05, 2.0),
        "what the products of a block reach of the matrix units' peak",
    ),
    part(
        "scores",
        0.2,
        (0.01, 10.0),
        "scores that a unit exponentiates, in 2^18 a microsecond",
    ),
    us(
        "row",
        1.5,
        50.0,
        "what a block of queries takes besides its scores",
    ),
    part(
        "imbalance",
        0.8,
        (0.05, 3.0),
        "how much of the longest block of queries is left over at the end of a causal one",
    ),
    THROTTLE,
    THROTTLE_AFTER,
];

/// Parameters of a pass over memory.
pub const PASS: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    us(
        "row",
        0.01,
        20.0,
        "what a wave of rows, one to a unit, takes besides its bytes",
    ),
    CACHE_BANDWIDTH,
    CACHED,
];

/// Parameters of a transfer over a link.
pub const TRANSFER: &[Parameter] = &[
    FLOOR,
    part(
        "bandwidth",
        0.8,
        (1e-3, 1.5),
        "what a long message reaches of the link's peak",
    ),
    us(
        "ramp",
        5.0,
        1000.0,
        "what a message far larger than `half` loses until it runs at full speed",
    ),
    part(
        "half",
        1.0,
        (1e-3, 1e3),
        "the message in MiB at which half of that is lost",
    ),
    us(
        "step",
        1.0,
        100.0,
        "what each device beyond two adds to a collective",
    ),
];

/// Queries, and keys, of a block of fused attention.
const BLOCK: f64 = 128.0;

/// How sharply the work of attention over a cache overlaps with its stream.
const OVERLAP: i32 = 3;

/// How sharply data fall out of a cache that is too small for them: used in turn, the first word goes just before it is needed again.
const SPILL: i32 = 12;

/// Tiles of a product that a library chooses from.
const TILES: [(f64, f64); 7] = [
    (64.0, 64.0),
    (64.0, 128.0),
    (128.0, 64.0),
    (128.0, 128.0),
    (128.0, 192.0),
    (128.0, 256.0),
    (256.0, 128.0),
];

/// Which parameters a kernel's law has.
pub fn parameters(kernel: &Kernel) -> &'static [Parameter] {
    match kernel {
        Kernel::Product { .. } => PRODUCT,
        Kernel::Prefill(_) => PREFILL,
        Kernel::Decode(_) => DECODE,
        Kernel::Pass { .. } => PASS,
    }
}

/// The time of a kernel, `values` being those of its [`parameters`], in order.
///
/// `flushed`: nothing of its data is in the cache when it begins.
pub fn time(chip: &Chip, kernel: &Kernel, values: &[f64], flushed: bool) -> Seconds {
    Call::new(chip, kernel, flushed, 0).time(values)
}

/// A kernel on a chip with all that no parameter bears on: its tiles, waves and parts.
#[derive(Clone, Debug)]
pub struct Call<'c> {
    chip: &'c Chip,
    flushed: bool,
    bytes: f64,
    /// Units that nothing else holds.
    free: f64,
    of: Of,
}

#[derive(Clone, Debug)]
enum Of {
    Product(Box<[Way; WAYS]>),
    Prefill(Attention),
    /// Sequences' key heads, and into how many parts the cache of each is cut.
    Decode(f64, Option<f64>),
    /// Rows.
    Pass(f64),
}

/// Splits of the sum that a library chooses from.
const SPLITS: [f64; 3] = [1.0, 2.0, 4.0];

const WAYS: usize = TILES.len() * SPLITS.len();

/// A tile and a split of the sum.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Operations of a tile.
    operations: f64,
    /// Waves of tiles over all units, and over the free ones.
    waves: (f64, f64),
    /// Whether parts are added up.
    split: bool,
}

fn ways(sides: [f64; 4], units: f64, free: f64) -> Box<[Way; WAYS]> {
    let [batch, m, k, n] = sides;
    let mut out = Box::new([Way::default(); WAYS]);
    let choices = TILES.iter().flat_map(|t| SPLITS.map(|split| (*t, split)));
    for (way, ((rows, columns), split)) in out.iter_mut().zip(choices) {
        let tiles = batch * (m / rows).ceil() * (n / columns).ceil();
        let depth = (k / split).max(64.0);
        let waves = |units: f64| (tiles * split / units).ceil();
        *way = Way {
            operations: 2.0 * rows * columns * depth,
            waves: (waves(units), waves(free)),
            split: split > 1.0,
        };
    }
    out
}

impl<'c> Call<'c> {
    /// A kernel while something else holds `held` of the chip's units: a library chooses its tiles as though all were
    /// there, and those that find no unit make another wave; a stream is as much slower as there are fewer units to ask
    /// for it. Attention takes what it takes with all of them: nothing is known to hold units beside it.
    ///
    /// `flushed`: nothing of its data is in the cache when it begins.
    pub fn new(chip: &'c Chip, kernel: &Kernel, flushed: bool, held: u64) -> Self {
        let free = chip.units.saturating_sub(held).max(1) as f64;
        let (bytes, of) = match *kernel {
            Kernel::Product { batch, m, k, n } => {
                let sides = [batch, m, k, n].map(|s| s as f64);
                let ways = ways(sides, chip.units as f64, free);
                (kernel.bytes(), Of::Product(ways))
            }
            Kernel::Prefill(a) => (0.0, Of::Prefill(a)),
            Kernel::Decode(a) => {
                let heads = (a.batch * a.key_heads) as f64;
                // The new token's key and value are read too.
                let bytes = a.cache_bytes() * (a.length as f64 + 1.0) / a.length.max(1) as f64;
                (
                    bytes,
                    Of::Decode(heads, parts(chip, heads, a.length as f64)),
                )
            }
            Kernel::Pass { rows, .. } => (kernel.bytes(), Of::Pass(rows as f64)),
        };
        Self {
            chip,
            flushed,
            bytes,
            free,
            of,
        }
    }

    /// Its time, `values` being those of the kernel's [`parameters`], in order.
    pub fn time(&self, values: &[f64]) -> Seconds {
        let us = match &self.of {
            Of::Product(ways) => self.product(&**ways, values),
            Of::Prefill(a) => prefill(self.chip, a, values),
            Of::Decode(heads, parts) => self.decode(*heads, *parts, values),
            Of::Pass(rows) => self.pass(*rows, values),
        };
        Seconds(us * 1e-6)
    }

    fn product(&self, ways: &[Way], values: &[f64]) -> f64 {
        let &[
            floor,
            bandwidth,
            lost,
            efficiency,
            penalty,
            throttle,
            after,
            step,
            cache,
            cached,
        ] = values
        else {
            return f64::NAN;
        };
        let (chip, bytes) = (self.chip, self.bytes);
        let units = chip.units as f64;
        let memory = (bytes / reached(chip, bytes, bandwidth, cache, cached, self.flushed)
            + ramp(chip, bytes, lost))
            * (units / self.free);
        let peak = efficiency * chip.matrix.0 * 1e-6 / units;
        // With all units, and with those that are free.
        let (mut alone, mut work) = (f64::INFINITY, f64::INFINITY);
        for ((rows, columns), ways) in TILES.iter().zip(ways.chunks(SPLITS.len())) {
            let rate = peak / (1.0 + penalty * (1.0 / rows + 1.0 / columns));
            for way in ways {
                let sum = if way.split { step } else { 0.0 };
                let wave = way.operations / rate + step;
                let over = |waves: f64| waves * wave + sum;
                if over(way.waves.0) < alone {
                    (alone, work) = (over(way.waves.0), over(way.waves.1));
                }
            }
        }
        let both = overlapped(work, memory, 4);
        floor + both * (1.0 + throttle * both / (both + after) * work / both)
    }

    fn decode(&self, heads: f64, parts: Option<f64>, values: &[f64]) -> f64 {
        let &[
            floor,
            bandwidth,
            lost,
            head,
            combine,
            unsplit,
            cache,
            cached,
        ] = values
        else {
            return f64::NAN;
        };
        let (chip, bytes) = (self.chip, self.bytes);
        let memory = if parts.is_some() { bandwidth } else { unsplit };
        let stream = bytes / reached(chip, bytes, memory, cache, cached, self.flushed);
        let issue = head * heads / chip.units as f64;
        let added = if parts.is_some_and(|p| p > 1.0) {
            combine
        } else {
            0.0
        };
        floor + overlapped(issue, stream, OVERLAP) + ramp(chip, bytes, lost) + added
    }

    fn pass(&self, rows: f64, values: &[f64]) -> f64 {
        let &[floor, bandwidth, lost, row, cache, cached] = values else {
            return f64::NAN;
        };
        let (chip, bytes) = (self.chip, self.bytes);
        let stream = bytes / reached(chip, bytes, bandwidth, cache, cached, self.flushed);
        let slower = chip.units as f64 / self.free;
        let all = overlapped(row * rows / chip.units as f64, stream, 4) * slower;
        floor + all + ramp(chip, bytes, lost) * slower
    }
}

/// Work and memory that overlap, but not wholly: the larger, and a little more where they are alike.
fn overlapped(a: f64, b: f64, sharpness: i32) -> f64 {
    (a.powi(sharpness) + b.powi(sharpness)).powf(1.0 / f64::from(sharpness))
}

/// Bandwidth over the memory's peak where data that fit in the cache are still there.
fn reached(chip: &Chip, bytes: f64, memory: f64, cache: f64, cached: f64, flushed: bool) -> f64 {
    let peak = chip.bandwidth.0 * 1e-6;
    if flushed || bytes <= 0.0 {
        return memory * peak;
    }
    let missed = 1.0 / (1.0 + (chip.cache.0 as f64 * cached / bytes).powi(SPILL));
    peak / (missed / memory + (1.0 - missed) / cache)
}

fn ramp(chip: &Chip, bytes: f64, ramp: f64) -> f64 {
    ramp * bytes / (bytes + chip.cache.0 as f64)
}

/// Steps of a block of queries over a block of keys that the busiest unit makes one after another: what fused attention of a prompt
/// takes, but for the time of a step. `imbalance`: how much of the longest causal block of queries is left over at the end.
pub fn steps(chip: &Chip, a: &Attention, imbalance: f64) -> f64 {
    let units = chip.units as f64;
    let blocks = (a.length as f64 / BLOCK).ceil();
    let rows = (a.batch * a.heads) as f64 * blocks;
    if a.causal {
        return rows * (blocks + 1.0) / 2.0 / units + imbalance * blocks;
    }
    // The last wave of blocks leaves units idle; they are not all equally late.
    let even = (rows / units).max(1.0);
    (even.ceil() + even) / 2.0 * blocks
}

fn prefill(chip: &Chip, a: &Attention, values: &[f64]) -> f64 {
    let &[floor, efficiency, scores, row, imbalance, throttle, after] = values else {
        return f64::NAN;
    };
    let units = chip.units as f64;
    let blocks = (a.length as f64 / BLOCK).ceil();
    let rate = efficiency * chip.matrix.0 * 1e-6 / units;
    let block =
        4.0 * BLOCK * BLOCK * a.width as f64 / rate + BLOCK * BLOCK / (scores * f64::from(1 << 18));
    let steps = steps(chip, a, imbalance);
    let work = if a.causal {
        steps * block + (a.batch * a.heads) as f64 * blocks * row / units
    } else {
        steps * (block + row / blocks)
    };
    floor + work * (1.0 + throttle * work / (work + after))
}

/// Into how many parts a cache is cut so that no unit idles: as few as come within 15 % of the best filling of two blocks a unit
/// (the rule of FlashAttention-2, `num_splits_heuristic`).
fn parts(chip: &Chip, heads: f64, length: f64) -> Option<f64> {
    let slots = 2.0 * chip.units as f64;
    if heads >= 0.8 * slots {
        return None;
    }
    let most = (length / BLOCK).ceil().min(slots).min(128.0) as u32;
    let filled = |parts: u32| {
        let waves = heads * f64::from(parts) / slots;
        waves / waves.ceil()
    };
    let best = (1..=most).map(filled).fold(0.0, f64::max);
    let found = (1..=most).find(|p| filled(*p) >= 0.85 * best);
    Some(f64::from(found.unwrap_or(1)))
}

/// What attention over a cache takes longer, `values` being its law's, where `dirty` bytes that the cache holds have to be written back
/// to make room for what it reads, in microseconds.
///
/// All that their traffic takes where memory bounds it. Where it is not split it leaves memory idle for a part of the time: to first
/// order of the overlap, the square of the share that it reaches remains.
pub fn written_back(chip: &Chip, a: &Attention, values: &[f64], dirty: f64) -> f64 {
    let &[_, bandwidth, _, _, _, unsplit, ..] = values else {
        return f64::NAN;
    };
    let heads = (a.batch * a.key_heads) as f64;
    let share = match parts(chip, heads, a.length as f64) {
        Some(_) => 1.0,
        None => (unsplit / bandwidth).min(1.0),
    };
    let bytes = dirty.min(a.cache_bytes());
    bytes / (bandwidth * chip.bandwidth.0 * 1e-6) * share.powi(OVERLAP - 1)
}

/// The time of a message over a link with this peak, `values` being those of [`TRANSFER`]. A collective passes `steps` devices
/// beyond the first two.
pub fn transfer(peak: BytesPerSecond, bytes: f64, steps: u64, values: &[f64]) -> Seconds {
    let &[floor, bandwidth, lost, half, step] = values else {
        return Seconds(f64::NAN);
    };
    let half = half * 1_048_576.0;
    let stream = bytes / (bandwidth * peak.0 * 1e-6);
    Seconds((floor + step * steps as f64 + stream + lost * bytes / (bytes + half)) * 1e-6)
}
