//! Attention of decoding requests whose caches have unequal lengths.
//!
//! Three ways, by what the device says. A library that was measured on unequal lengths is asked for the very lengths. A
//! law or table of equal lengths is asked for the mean, and multiplied by what unequal lengths cost: what the pieces into
//! which FlashAttention cuts these caches stream, over what those of as many of the mean length do. An accelerator runs
//! one sequence after another, each over its own length.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use einflow_arch::device::{
    Attention, Device, Kernel, Times as Answers, devices,
    law::ragged::{FLASH, Library, SPLIT_KEYS, streamed},
};
use einflow_spec::{Problem, Problems};
use rustc_hash::{FxHashMap, FxHasher};

use super::{
    super::{pool::DevicePool, system::LayerKind, time::Ps},
    Caches, Times, Work, key,
};
use crate::device::layer::attention;

/// The device whose file has what FlashAttention's pieces take.
const MEASURED: &str = "h100";

/// Times of equal lengths that are remembered, at the most.
const MOST_EQUAL: usize = 1 << 16;

/// Key heads of all requests at the most, where each is a piece.
const MOST_PIECES: u64 = 1 << 22;

/// What unequal lengths cost, remembered where they come back.
#[derive(Default)]
pub(super) struct Unequal {
    /// By pool: what the pieces of FlashAttention take on its device.
    pieces: BTreeMap<usize, Arc<[f64]>>,
    /// Microseconds of so many of one length, by pool, parts, requests and length.
    equal: FxHashMap<(usize, u64, u64, u64), f64>,
    /// By the lengths at which it was found.
    factors: Recent<f64>,
    works: Recent<Work>,
    /// What it rests on that nobody measured.
    pub assumed: BTreeSet<String>,
}

/// The last values by pool, parts and lengths: batches go on with the same requests for a while, and do not come back.
struct Recent<V> {
    slots: Vec<Option<Known<V>>>,
}

struct Known<V> {
    of: (usize, u64),
    lengths: Vec<u64>,
    value: V,
}

/// How many.
const RECENT: usize = 256;

impl<V> Default for Recent<V> {
    fn default() -> Self {
        let slots = std::iter::repeat_with(|| None).take(RECENT).collect();
        Self { slots }
    }
}

impl<V: Copy> Recent<V> {
    fn slot(of: (usize, u64), lengths: &[u64]) -> usize {
        let mut hasher = FxHasher::default();
        (of, lengths).hash(&mut hasher);
        (hasher.finish() >> 32) as usize % RECENT
    }

    fn get(&self, of: (usize, u64), lengths: &[u64]) -> Option<V> {
        let found = self.slots[Self::slot(of, lengths)].as_ref()?;
        (found.of == of && found.lengths == lengths).then_some(found.value)
    }

    fn put(&mut self, of: (usize, u64), lengths: Vec<u64>, value: V) {
        let slot = Self::slot(of, &lengths);
        self.slots[slot] = Some(Known { of, lengths, value });
    }
}

impl Times<'_> {
    /// Attention of new tokens over these caches, on one of `parts` devices among which the heads are divided.
    pub(super) fn decode(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        caches: &Caches,
        parts: u64,
    ) -> Result<Work, Problem> {
        if matches!(pool.answerer.device.times, Answers::Accelerator(_)) {
            return self.one_after_another(pool, kind, caches, parts);
        }
        let library = pool.spec.attention_library.as_ref();
        if let Some(library) = library.and_then(|l| Library::named(&l.value)) {
            return self.by_lengths(pool, kind, caches, parts, library);
        }
        let layer = kind.model.layer(caches.requests(), parts);
        let length = (caches.mean().round() as u64).max(1);
        let kernel = attention(&layer, caches.requests(), length, false);
        let law = self.law(pool, &kernel);
        let equal = self.call(pool, &law, &kernel)?;
        let factor = self.factor(pool, kind, caches, parts, &law, &kernel)?;
        if factor == 1.0 {
            return Ok(equal);
        }
        // The same bytes and products over more time.
        let time = equal.time.seconds() * factor;
        let drawn = pool.answerer.energy(&kernel, time)?;
        self.drawn(pool, drawn.map(|(joules, _)| joules), time)
    }

    /// By a library's law of unequal lengths.
    fn by_lengths(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        caches: &Caches,
        parts: u64,
        library: Library,
    ) -> Result<Work, Problem> {
        let layer = kind.model.layer(caches.requests(), parts);
        let kernel = attention(&layer, caches.requests(), caches.longest().max(1), false);
        let Kernel::Decode(shape) = kernel else {
            return self.call(pool, library.law, &kernel);
        };
        let lengths = each(caches, &shape)?;
        let of = place(pool, kind, parts);
        if let Some(found) = self.unequal.works.get(of, &lengths) {
            return Ok(found);
        }
        let kernel = Kernel::Ragged {
            shape,
            lengths: lengths.as_slice().into(),
            plan: library.plan,
        };
        // What the law rests on is told once; its kernels are not kept: they do not come back.
        let laws = self.asked.entry(key(pool)).or_default();
        laws.entry(library.law.to_string()).or_default();
        let (time, flags) = self.ask(pool, library.law, &kernel, true)?;
        for flag in flags {
            self.flags.insert(format!("{}: {flag}", pool.device()));
        }
        let drawn = pool.answerer.energy(&kernel, time)?;
        let made = self.drawn(pool, drawn.map(|(joules, _)| joules), time)?;
        self.unequal.works.put(of, lengths, made);
        Ok(made)
    }

    /// What these lengths cost over as many of their mean length: 1 where all are alike.
    ///
    /// It is taken where the longest is a whole number of blocks of keys, the nearest, all others as much longer or shorter:
    /// as long as a batch goes on with the same requests, it is found once in a block.
    fn factor(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        caches: &Caches,
        parts: u64,
        law: &str,
        kernel: &Kernel,
    ) -> Result<f64, Problem> {
        let &Kernel::Decode(shape) = kernel else {
            return Ok(1.0);
        };
        if caches.alike() {
            return Ok(1.0);
        }
        let longest = caches.longest();
        let blocks = (longest + SPLIT_KEYS / 2) / SPLIT_KEYS;
        let there = blocks.max(1) * SPLIT_KEYS;
        let mut lengths = each(caches, &shape)?;
        for length in &mut lengths {
            *length = (*length + there).saturating_sub(longest).max(1);
        }
        let of = place(pool, kind, parts);
        if let Some(found) = self.unequal.factors.get(of, &lengths) {
            return Ok(found);
        }
        let values = self.pieces(pool, law)?;
        let requests = lengths.len() as u64;
        let mean = lengths.iter().sum::<u64>() as f64 / requests as f64;
        let chip = &pool.answerer.device.chip;
        let unequal = &mut self.unequal;
        // Of equal lengths between whole blocks, too.
        let mut equal = |blocks: u64| {
            let length = (blocks * SPLIT_KEYS).max(1);
            let known = (of.0, of.1, requests, length);
            if let Some(found) = unequal.equal.get(&known) {
                return *found;
            }
            let lengths = vec![length; requests as usize];
            let us = streamed(chip, &shape, &lengths, FLASH.plan, &values);
            if unequal.equal.len() >= MOST_EQUAL {
                unequal.equal.clear();
            }
            unequal.equal.insert(known, us);
            us
        };
        let below = mean as u64 / SPLIT_KEYS;
        let (a, b) = (equal(below), equal(below + 1));
        let share = mean / SPLIT_KEYS as f64 - below as f64;
        let us = streamed(chip, &shape, &lengths, FLASH.plan, &values);
        // What rounding to blocks takes off is no gain of unequal lengths.
        let factor = (us / (a + (b - a) * share)).max(1.0);
        if !factor.is_finite() {
            return Err(Problem::nowhere(format!(
                "attention of {requests} requests on {}, the longest of {longest} tokens, takes no finite time",
                pool.device()
            ))
            .help("look for a number of the device that is far too small: a bandwidth, a rate"));
        }
        self.unequal.factors.put(of, lengths, factor);
        Ok(factor)
    }

    /// What FlashAttention's pieces take on a pool's device, in the order of its law's parameters; what that rests on is
    /// noted.
    fn pieces(&mut self, pool: &DevicePool, law: &str) -> Result<Arc<[f64]>, Problem> {
        if let Some(found) = self.unequal.pieces.get(&key(pool)) {
            return Ok(Arc::clone(found));
        }
        let of = |device: &Device| -> Option<Arc<[f64]>> {
            let Answers::Laws(laws) = &device.times else {
                return None;
            };
            laws.get(FLASH.law).map(|law| law.values.as_slice().into())
        };
        let own = of(&pool.answerer.device);
        let device = pool.device();
        let measured = match &own {
            Some(_) => "measured there".to_string(),
            None => format!("of {MEASURED}, over its units and bandwidth"),
        };
        let kernel = match law {
            "decode:vllm" => {
                "; a server's kernel on pages is taken to divide them so, one that plans for each request loses less"
            }
            "decode:flash" => "",
            _ => "; nobody measured how another library divides them",
        };
        self.unequal.assumed.insert(format!(
            "{device}: `{law}` takes its time at the mean length, times what FlashAttention-2's pieces of the lengths \
             ({measured}) take longer than those of equal ones{kernel}: assumed"
        ));
        let values = match own {
            Some(own) => own,
            None => {
                let known = |problems: Problems| {
                    let first = problems.iter().next().cloned();
                    first.unwrap_or_else(|| Problem::nowhere(format!("{MEASURED} cannot be read")))
                };
                let (source, _) = devices().find(MEASURED, None)?;
                let found = of(&Device::parse(&source).map_err(known)?);
                found.ok_or_else(|| {
                    Problem::nowhere(format!("{MEASURED} has no law `{}`", FLASH.law))
                        .help("a device file with it")
                })?
            }
        };
        self.unequal.pieces.insert(key(pool), Arc::clone(&values));
        Ok(values)
    }

    /// On an accelerator: each sequence after the first adds as much as it would to another of its length. Its times are
    /// computed at eight lengths of each octave, and are nearly straight between.
    fn one_after_another(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        caches: &Caches,
        parts: u64,
    ) -> Result<Work, Problem> {
        let layer = kind.model.layer(caches.requests(), parts);
        // Where a length lies: the one below at which times are computed, the way to the next, and how far on it.
        let place = |length: f64| {
            let step = 1u64 << ((length.max(1.0) as u64).ilog2().max(3) - 3);
            let low = (length as u64 / step * step).max(1);
            (low, step, ((length - low as f64) / step as f64).max(0.0))
        };
        let mut at = |length: u64| -> Result<[[f64; 2]; 2], Problem> {
            let mut made = |batch| -> Result<[f64; 2], Problem> {
                let kernel = attention(&layer, batch, length, false);
                let work = self.call(pool, "decode", &kernel)?;
                Ok([work.time.0 as f64, work.joules])
            };
            Ok([made(1)?, made(2)?])
        };
        let mut sum = [0.0; 2];
        if caches.alike() {
            let (low, step, share) = place(caches.mean());
            let (a, b) = (at(low)?, at(low + step)?);
            let more = caches.requests() as f64 - 1.0;
            for (of, sum) in sum.iter_mut().enumerate() {
                let all = |at: [[f64; 2]; 2]| at[0][of] + (at[1][of] - at[0][of]) * more;
                *sum = all(a) + (all(b) - all(a)) * share;
            }
        } else {
            // Lengths between the same two are on one line: how many there are, and how far on it together.
            let mut lines: BTreeMap<(u64, u64), (f64, f64)> = BTreeMap::new();
            for (length, count) in caches.runs() {
                let (low, step, share) = place(*length as f64);
                let (all, ways) = lines.entry((low, step)).or_default();
                *all += *count as f64;
                *ways += share * *count as f64;
            }
            let first = caches.runs().first().map_or(1, |(length, _)| *length);
            let (low, step, share) = place(first as f64);
            let (a, b) = (at(low)?, at(low + step)?);
            for (of, sum) in sum.iter_mut().enumerate() {
                // What the first takes beyond what it would add.
                let once = |at: [[f64; 2]; 2]| 2.0 * at[0][of] - at[1][of];
                *sum = once(a) + (once(b) - once(a)) * share;
            }
            for ((low, step), (count, ways)) in lines {
                let (a, b) = (at(low)?, at(low + step)?);
                for (of, sum) in sum.iter_mut().enumerate() {
                    let more = |at: [[f64; 2]; 2]| at[1][of] - at[0][of];
                    *sum += more(a) * count + (more(b) - more(a)) * ways;
                }
            }
        }
        let [time, joules] = sum;
        Ok(Work {
            time: Ps(time.round().max(0.0) as u64),
            joules,
        })
    }
}

/// A kind of layer on a pool's devices, so many of which share its heads.
fn place(pool: &DevicePool, kind: &LayerKind, parts: u64) -> (usize, u64) {
    (key(pool) << 16 | kind.at, parts)
}

/// Each cache's length, where they make no more pieces than can be placed.
fn each(caches: &Caches, shape: &Attention) -> Result<Vec<u64>, Problem> {
    let pieces = caches.requests().saturating_mul(shape.key_heads.max(1));
    if pieces > MOST_PIECES {
        return Err(Problem::nowhere(format!(
            "{} requests of {} key heads make {pieces} pieces of attention",
            caches.requests(),
            shape.key_heads
        ))
        .help(format!(
            "at most {MOST_PIECES}: fewer requests, or all of one length and no `library` of unequal ones"
        )));
    }
    Ok(caches.lengths().map(|length| length.max(1)).collect())
}
