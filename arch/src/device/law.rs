//! How long a kernel takes on a chip: closed forms with a few parameters, which `einflow fit` finds from measurements.
//!
//! Times are in microseconds in here, bandwidths in bytes a microsecond.

pub mod grouped;
mod parameters;
pub mod ragged;

use einflow_spec::quantity::{BytesPerSecond, Seconds};

pub use super::number::Sloped;
pub use parameters::{
    CHUNKED, DECODE, GROUPED, LATENT, MASKED, MOST, PASS, PREFILL, PRODUCT, Parameter, RAGGED,
    RAGGED_CORES, TRANSFER,
};

use grouped::Grouped;
use ragged::Pieces;

use super::{
    Chip, Kernel,
    kernel::{Attention, Scales},
    number::Number,
};

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
        Kernel::Grouped { .. } => GROUPED,
        Kernel::Ragged { plan, .. } => plan.parameters(),
        Kernel::Masked { .. } => MASKED,
        Kernel::Chunked(_) => CHUNKED,
        Kernel::Prefill(_) => PREFILL,
        Kernel::Decode(_) => DECODE,
        Kernel::Latent(_) => LATENT,
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
    /// Its tiles, and what the matrix units do of its operands, in operations a microsecond.
    Product(Box<[Way; WAYS]>, f64),
    Grouped(Grouped),
    Prefill(Attention),
    /// Sequences' key heads, and into how many parts the cache of each is cut; microseconds that its products take at the
    /// matrix units' peak.
    Decode(f64, Option<f64>, f64),
    /// Microseconds that its products take at the matrix units' peak.
    Latent(f64),
    /// Its pieces, and microseconds that its products take at the matrix units' peak.
    Ragged(Box<Pieces>, f64),
    /// Microseconds that the products of kept blocks take at the matrix units' peak; blocks of queries, and blocks with a
    /// mask.
    Masked(f64, [f64; 2]),
    Chunked,
    /// Rows.
    Pass(f64),
}

/// Splits of the sum that a library chooses from.
const SPLITS: [f64; 3] = [1.0, 2.0, 4.0];

const WAYS: usize = TILES.len() * SPLITS.len();

/// A tile and a split of the sum.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Operations of a tile; infinite: the library has no such way.
    operations: f64,
    /// Waves of tiles over all units, and over the free ones.
    waves: (f64, f64),
    /// Whether parts are added up.
    split: bool,
}

fn ways(sides: [f64; 4], scales: Scales, units: f64, free: f64) -> Box<[Way; WAYS]> {
    let [batch, m, k, n] = sides;
    let mut out = Box::new([Way::default(); WAYS]);
    let choices = TILES.iter().flat_map(|t| SPLITS.map(|split| (*t, split)));
    let tiles = |(rows, columns): (f64, f64)| batch * (m / rows).ceil() * (n / columns).ceil();
    // PyTorch's kernel for scales of rows (CUTLASS) splits no sum, and takes the smaller of two tiles where all are
    // computed at once.
    let small = tiles((64.0, 128.0)) <= units;
    let only = if small { (64.0, 128.0) } else { (128.0, 128.0) };
    for (way, ((rows, columns), split)) in out.iter_mut().zip(choices) {
        let tiles = tiles((rows, columns));
        let depth = (k / split).max(64.0);
        let waves = |units: f64| (tiles * split / units).ceil();
        let offered = scales == Scales::Whole || (rows, columns) == only && split == 1.0;
        *way = Way {
            operations: match offered {
                true => 2.0 * rows * columns * depth,
                false => f64::INFINITY,
            },
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
        let (bytes, of) = match kernel {
            Kernel::Product {
                batch,
                m,
                k,
                n,
                operands,
            } => {
                let sides = [batch, m, k, n].map(|s| *s as f64);
                let ways = ways(sides, operands.scales, chip.units as f64, free);
                let matrix = chip.peak(operands.bits()).0 * 1e-6;
                (kernel.bytes(), Of::Product(ways, matrix))
            }
            Kernel::Grouped {
                experts,
                rows,
                k,
                n,
                operands,
            } => {
                let tiles = Grouped::new(chip, *experts, rows, [*k, *n], *operands);
                (kernel.bytes(), Of::Grouped(tiles))
            }
            Kernel::Prefill(a) => (0.0, Of::Prefill(*a)),
            Kernel::Ragged {
                shape,
                lengths,
                plan,
            } => {
                let pieces = Pieces::new(chip, shape, lengths, *plan);
                let products = kernel.operations() / (chip.matrix.0 * 1e-6);
                (kernel.bytes(), Of::Ragged(Box::new(pieces), products))
            }
            Kernel::Masked {
                shape,
                blocks,
                partial,
            } => {
                let rows = (shape.length as f64 / BLOCK).ceil();
                let heads = shape.batch as f64 * shape.heads as f64;
                let products = heads * *blocks as f64 * 2.0 * BLOCK * BLOCK * shape.widths();
                let products = products / (chip.matrix.0 * 1e-6);
                let each = [heads * rows, heads * *partial as f64];
                (kernel.bytes(), Of::Masked(products, each))
            }
            Kernel::Chunked(_) => (kernel.bytes(), Of::Chunked),
            Kernel::Decode(a) => {
                let heads = (a.batch * a.key_heads) as f64;
                // The new token's key and value are read too.
                let bytes = a.cache_bytes() * (a.length as f64 + 1.0) / a.length.max(1) as f64;
                let parts = parts(chip, heads, a.length as f64);
                let products = kernel.operations() / (chip.matrix.0 * 1e-6);
                (bytes, Of::Decode(heads, parts, products))
            }
            Kernel::Latent(_) => {
                let products = kernel.operations() / (chip.matrix.0 * 1e-6);
                (kernel.bytes(), Of::Latent(products))
            }
            Kernel::Pass { rows, .. } => (kernel.bytes(), Of::Pass(*rows as f64)),
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
        Seconds(self.us(values) * 1e-6)
    }

    /// The same in microseconds, in numbers that may have slopes.
    pub fn us<N: Number>(&self, values: &[N]) -> N {
        match &self.of {
            Of::Product(ways, matrix) => self.product(&**ways, *matrix, values),
            Of::Grouped(tiles) => tiles.us(self.chip, self.bytes, values),
            Of::Prefill(a) => prefill(self.chip, a, values),
            Of::Decode(heads, parts, products) => self.decode(*heads, *parts, *products, values),
            Of::Latent(products) => self.latent(*products, values),
            Of::Ragged(pieces, products) => {
                let stream = pieces.us(self.chip, self.bytes, values);
                // Many queries a key head on a chip with little compute for each byte.
                match *products > stream.value() {
                    true => N::of(*products),
                    false => stream,
                }
            }
            Of::Masked(products, each) => self.masked(*products, *each, values),
            Of::Chunked => self.chunked(values),
            Of::Pass(rows) => self.pass(*rows, values),
        }
    }

    /// What the host takes to launch it by the law's own parameter, in microseconds; none: the law has no such.
    pub fn host(&self, values: &[f64]) -> Option<f64> {
        match &self.of {
            Of::Ragged(pieces, _) => Some(pieces.host(values)),
            Of::Masked(..) | Of::Chunked => values.first().copied(),
            _ => None,
        }
    }

    fn masked<N: Number>(&self, products: f64, [rows, partial]: [f64; 2], values: &[N]) -> N {
        let &[launches, efficiency, row, mask] = values else {
            return N::of(f64::NAN);
        };
        let units = self.chip.units as f64;
        let work = N::of(products) / efficiency + row * (rows / units) + mask * (partial / units);
        overlapped(launches, work, 4)
    }

    fn chunked<N: Number>(&self, values: &[N]) -> N {
        let &[launches, bandwidth] = values else {
            return N::of(f64::NAN);
        };
        let stream = N::of(self.bytes) / (bandwidth * (self.chip.bandwidth.0 * 1e-6));
        overlapped(launches, stream, 4)
    }

    fn product<N: Number>(&self, ways: &[Way], matrix: f64, values: &[N]) -> N {
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
            return N::of(f64::NAN);
        };
        let (chip, bytes) = (self.chip, self.bytes);
        let units = chip.units as f64;
        let memory = (N::of(bytes) / reached(chip, bytes, bandwidth, cache, cached, self.flushed)
            + ramp(chip, bytes, lost))
            * (units / self.free);
        let peak = efficiency * matrix / N::of(units);
        let (way, (rows, columns)) = fastest(ways, peak.value(), penalty.value(), step.value());
        let rate = tile_rate(peak, penalty, rows, columns);
        let work = way.time(way.waves.1, rate, step);
        let both = overlapped(work, memory, 4);
        floor + both * (N::of(1.0) + throttle * both / (both + after) * work / both)
    }

    fn decode<N: Number>(&self, heads: f64, parts: Option<f64>, products: f64, values: &[N]) -> N {
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
            return N::of(f64::NAN);
        };
        let (chip, bytes) = (self.chip, self.bytes);
        let memory = if parts.is_some() { bandwidth } else { unsplit };
        let stream = N::of(bytes) / reached(chip, bytes, memory, cache, cached, self.flushed);
        // Many queries a key head on a chip with little compute for each byte.
        let stream = match products > stream.value() {
            true => N::of(products),
            false => stream,
        };
        let issue = head * heads / N::of(chip.units as f64);
        let added = if parts.is_some_and(|p| p > 1.0) {
            combine
        } else {
            N::of(0.0)
        };
        floor + overlapped(issue, stream, OVERLAP) + ramp(chip, bytes, lost) + added
    }

    fn latent<N: Number>(&self, products: f64, values: &[N]) -> N {
        let &[floor, bandwidth, efficiency] = values else {
            return N::of(f64::NAN);
        };
        let stream = N::of(self.bytes) / (bandwidth * (self.chip.bandwidth.0 * 1e-6));
        floor + overlapped(N::of(products) / efficiency, stream, 4)
    }

    fn pass<N: Number>(&self, rows: f64, values: &[N]) -> N {
        let &[floor, bandwidth, lost, row, cache, cached] = values else {
            return N::of(f64::NAN);
        };
        let (chip, bytes) = (self.chip, self.bytes);
        let units = chip.units as f64;
        let stream = N::of(bytes) / reached(chip, bytes, bandwidth, cache, cached, self.flushed);
        let slower = units / self.free;
        let all = overlapped(row * rows / N::of(units), stream, 4) * slower;
        floor + all + ramp(chip, bytes, lost) * slower
    }
}

/// What a unit does a microsecond on a tile of this size.
fn tile_rate<N: Number>(peak: N, penalty: N, rows: f64, columns: f64) -> N {
    peak / (N::of(1.0) + penalty * (1.0 / rows + 1.0 / columns))
}

impl Way {
    /// What so many waves take.
    fn time<N: Number>(&self, waves: f64, rate: N, step: N) -> N {
        let sum = if self.split { step } else { N::of(0.0) };
        (N::of(self.operations) / rate + step) * waves + sum
    }
}

/// The way that a library chooses, with its tile: the fastest with all units.
fn fastest(ways: &[Way], peak: f64, penalty: f64, step: f64) -> (&Way, (f64, f64)) {
    let (mut best, mut found) = (f64::INFINITY, (&ways[0], TILES[0]));
    for ((rows, columns), ways) in TILES.iter().zip(ways.chunks(SPLITS.len())) {
        let rate = tile_rate(peak, penalty, *rows, *columns);
        for way in ways {
            let time = way.time(way.waves.0, rate, step);
            if time < best {
                (best, found) = (time, (way, (*rows, *columns)));
            }
        }
    }
    found
}

/// Work and memory that overlap, but not wholly: the larger, and a little more where they are alike.
fn overlapped<N: Number>(a: N, b: N, sharpness: i32) -> N {
    (a.powi(sharpness) + b.powi(sharpness)).powf(1.0 / f64::from(sharpness))
}

/// Bandwidth over the memory's peak where data that fit in the cache are still there.
fn reached<N: Number>(chip: &Chip, bytes: f64, memory: N, cache: N, cached: N, flushed: bool) -> N {
    let peak = chip.bandwidth.0 * 1e-6;
    if flushed || bytes <= 0.0 {
        return memory * peak;
    }
    let one = N::of(1.0);
    let missed = one / (one + (cached * chip.cache.0 as f64 / N::of(bytes)).powi(SPILL));
    N::of(peak) / (missed / memory + (one - missed) / cache)
}

fn ramp<N: Number>(chip: &Chip, bytes: f64, ramp: N) -> N {
    ramp * bytes / N::of(bytes + chip.cache.0 as f64)
}

/// Steps of a block of queries over a block of keys that the busiest unit makes one after another: what fused attention of a prompt
/// takes, but for the time of a step. `imbalance`: how much of the longest causal block of queries is left over at the end.
pub fn steps<N: Number>(chip: &Chip, a: &Attention, imbalance: N) -> N {
    let units = chip.units as f64;
    let blocks = (a.length as f64 / BLOCK).ceil();
    let rows = (a.batch * a.heads) as f64 * blocks;
    if a.causal {
        return N::of(rows * (blocks + 1.0) / 2.0 / units) + imbalance * blocks;
    }
    // The last wave of blocks leaves units idle; they are not all equally late.
    let even = (rows / units).max(1.0);
    N::of((even.ceil() + even) / 2.0 * blocks)
}

fn prefill<N: Number>(chip: &Chip, a: &Attention, values: &[N]) -> N {
    let &[floor, efficiency, scores, row, imbalance, throttle, after] = values else {
        return N::of(f64::NAN);
    };
    let units = chip.units as f64;
    let blocks = (a.length as f64 / BLOCK).ceil();
    let rate = efficiency * chip.matrix.0 * 1e-6 / N::of(units);
    let block = N::of(2.0 * BLOCK * BLOCK * a.widths()) / rate
        + N::of(BLOCK * BLOCK) / (scores * f64::from(1 << 18));
    let steps = steps(chip, a, imbalance);
    let work = if a.causal {
        steps * block + row * ((a.batch * a.heads) as f64 * blocks) / N::of(units)
    } else {
        steps * (block + row / N::of(blocks))
    };
    floor + work * (N::of(1.0) + throttle * work / (work + after))
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

/// The microseconds of a message over a link with this peak, `values` being those of [`TRANSFER`]. A collective passes
/// `steps` devices beyond the first two.
pub fn transfer<N: Number>(peak: BytesPerSecond, bytes: f64, steps: u64, values: &[N]) -> N {
    let &[floor, bandwidth, lost, half, step] = values else {
        return N::of(f64::NAN);
    };
    let half = half * 1_048_576.0;
    let stream = N::of(bytes) / (bandwidth * peak.0 * 1e-6);
    floor + step * steps as f64 + stream + lost * bytes / (N::of(bytes) + half)
}
