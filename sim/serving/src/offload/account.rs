//! What a run adds up: nothing here grows with the number of tokens.

use hdrhistogram::Histogram;

use super::{
    system::System,
    time::Ps,
    times::{Load, Timed, Work, Works, total},
};

/// Buckets of [`Series`].
const BUCKETS: usize = 256;

/// A quantity over time, as means over buckets that widen as time goes on.
#[derive(Clone, Debug)]
pub struct Series {
    width: Ps,
    /// Quantity times picoseconds.
    sums: Vec<u128>,
    at: Ps,
}

impl Series {
    fn new() -> Self {
        Self {
            // 1 ms.
            width: Ps(1_000_000_000),
            sums: Vec::new(),
            at: Ps::ZERO,
        }
    }

    /// The quantity was this from where the series ended to `until`.
    fn add(&mut self, until: Ps, value: u64) {
        while self.at < until {
            let bucket = (self.at.0 / self.width.0) as usize;
            if bucket >= BUCKETS {
                self.width = self.width.times(2);
                let pairs = self.sums.chunks(2).map(|pair| pair.iter().sum());
                self.sums = pairs.collect();
                continue;
            }
            let end = self.width.times(bucket as u64 + 1).min(until);
            if self.sums.len() <= bucket {
                self.sums.resize(bucket + 1, 0);
            }
            self.sums[bucket] += u128::from(end.since(self.at).0) * u128::from(value);
            self.at = end;
        }
    }

    /// Points: the middle of each bucket in seconds, and the mean there.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let width = self.width.seconds().0;
        let last = self.sums.len().saturating_sub(1);
        self.sums
            .iter()
            .enumerate()
            .map(|(i, sum)| {
                let start = self.width.times(i as u64);
                let span = match i == last {
                    true => self.at.since(start),
                    false => self.width,
                };
                let mean = *sum as f64 / span.0.max(1) as f64;
                ((i as f64) * width + span.seconds().0 / 2.0, mean)
            })
            .collect()
    }
}

/// Sums up to a moment; a window is the difference of two.
#[derive(Clone, Debug)]
pub struct Totals {
    /// The moment.
    pub at: Ps,
    /// Tokens that came out.
    pub tokens: u64,
    /// Iterations of batches.
    pub iterations: u64,
    /// Resident requests times picoseconds.
    pub resident: u128,
    /// Tokens that came out of caches: but those that end a prompt.
    pub decoded: u64,
    /// Tokens in caches, summed over those.
    pub context: u128,
    /// Tokens that products ran over, prompts with them, summed over iterations.
    pub width: u128,
    /// Of each device of each replica.
    pub model: Vec<Works>,
    /// Of each device of attention's pool.
    pub attention: Vec<Works>,
    /// Of each device of the prompts' pool, all together.
    pub prompts: Works,
    /// Bytes to attention's pool and back.
    pub bytes: [f64; 2],
    /// Time in which each direction was busy.
    pub links: [Ps; 2],
    /// Bytes of caches that came from the pool for prompts.
    pub cache_bytes: f64,
    /// Of that link.
    pub cache_time: Ps,
    /// Of the host.
    pub host: Ps,
    /// Time between tokens by what it was for, summed over tokens: model, attention, messages, host, waiting.
    pub parts: [u128; 5],
    /// Tokens that these parts are of.
    pub gaps: u64,
}

/// Names of [`Totals::parts`].
pub const PARTS: [&str; 5] = ["model", "attention", "messages", "host", "waiting"];

/// Everything that is counted.
pub struct Account {
    /// Sums so far.
    pub totals: Totals,
    /// Nanoseconds between a request's tokens, by tokens.
    pub between: Histogram<u64>,
    /// Nanoseconds from arrival to first token.
    pub first: Histogram<u64>,
    /// Resident requests over time.
    pub batch: Series,
    /// The fullest of all stores, in tokens.
    pub peak_cached: u64,
    /// The largest rate through a device's link, there and back, in bytes a second.
    pub peak_rate: [f64; 2],
    /// The largest rate of a lane of the link from the pool for prompts.
    pub peak_cache_rate: f64,
    /// Requests that were preempted, every time.
    pub preemptions: u64,
    resident: u64,
}

/// Three significant digits: times are within 0.1 %.
const DIGITS: u8 = 3;

impl Account {
    pub(super) fn new(system: &System) -> Self {
        let attention = system.attention.as_ref().map_or(0, |p| p.count() as usize);
        let histogram =
            || Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("3 is a number of digits"));
        Self {
            totals: Totals {
                at: Ps::ZERO,
                tokens: 0,
                iterations: 0,
                resident: 0,
                decoded: 0,
                context: 0,
                width: 0,
                model: vec![Works::default(); system.shape.replicas],
                attention: vec![Works::default(); attention],
                prompts: Works::default(),
                bytes: [0.0; 2],
                links: [Ps::ZERO; 2],
                cache_bytes: 0.0,
                cache_time: Ps::ZERO,
                host: Ps::ZERO,
                parts: [0; 5],
                gaps: 0,
            },
            between: histogram(),
            first: histogram(),
            batch: Series::new(),
            peak_cached: 0,
            peak_rate: [0.0; 2],
            peak_cache_rate: 0.0,
            preemptions: 0,
            resident: 0,
        }
    }

    /// So many requests are resident from now on.
    pub(super) fn resident(&mut self, now: Ps, requests: u64) {
        self.settle(now);
        self.resident = requests;
    }

    /// Up to now.
    pub(super) fn settle(&mut self, now: Ps) {
        let passed = now.since(self.totals.at);
        self.totals.resident += u128::from(passed.0) * u128::from(self.resident);
        self.batch.add(now, self.resident);
        self.totals.at = self.totals.at.max(now);
    }

    /// Tokens of an iteration came out.
    pub(super) fn came(&mut self, load: &Load) {
        let totals = &mut self.totals;
        totals.tokens += load.sampled;
        totals.decoded += load.requests();
        totals.context += u128::from(load.tokens());
        totals.width += u128::from(load.width());
    }

    /// An iteration of a batch ended.
    pub(super) fn iteration(&mut self, system: &System, batch: usize, timed: &Timed) {
        use super::pipeline::Iteration;
        let totals = &mut self.totals;
        totals.iterations += 1;
        let replicas = totals.model.len();
        if system.shape.rotate {
            // Slices go round: each replica has as many of them.
            let part = timed.model.map(|work| Work {
                time: Ps(work.time.0 / replicas as u64),
                joules: work.joules / replicas as f64,
            });
            for own in &mut totals.model {
                add_all(own, &part);
            }
        } else {
            add_all(&mut totals.model[batch % replicas], &timed.model);
        }
        for (own, work) in totals.attention.iter_mut().zip(&timed.attention) {
            add_all(own, work);
        }
        let Iteration::Layers(layers) = timed.iteration else {
            return;
        };
        let n = u64::from(layers.count);
        let out = layers
            .query
            .stream
            .after(layers.rest.unwrap_or_default().stream);
        let streams = [out, layers.output.stream];
        for (direction, stream) in streams.into_iter().enumerate() {
            totals.bytes[direction] += timed.bytes[direction];
            totals.links[direction] = totals.links[direction].after(stream.times(n));
            let seconds = stream.seconds().0;
            if seconds > 0.0 {
                let rate = timed.device_bytes[direction] / seconds;
                self.peak_rate[direction] = self.peak_rate[direction].max(rate);
            }
        }
    }

    /// `tokens` tokens came `gap` after the ones before them.
    pub(super) fn gap(&mut self, gap: Ps, tokens: u64, timed: &Timed, host: Ps) {
        use super::pipeline::Iteration;
        if tokens == 0 {
            return;
        }
        record(&mut self.between, gap, tokens);
        let (model, attention) = match timed.iteration {
            Iteration::Whole(time) => {
                let attention = timed.model[super::times::Operator::Attention as usize].time;
                (time.since(attention), attention)
            }
            Iteration::Stages(stages) => {
                // Of one device: a token goes through the stages in turn.
                let count = u64::from(stages.count);
                let attention = timed.model[super::times::Operator::Attention as usize].time;
                let attention = attention.times(count);
                (total(&timed.model).times(count).since(attention), attention)
            }
            Iteration::Layers(layers) => (
                total(&timed.model),
                layers.attend.after(layers.merge).times(layers.count.into()),
            ),
        };
        let mut parts = [model, attention, timed.messages, host];
        let known = parts.iter().fold(Ps::ZERO, |sum, p| sum.after(*p));
        let waiting = gap.since(known);
        // What runs beside attention of old tokens, keys and values of the new one, takes no time of its own.
        parts[0] = parts[0].since(known.since(gap));
        for (own, part) in self
            .totals
            .parts
            .iter_mut()
            .zip(parts.into_iter().chain([waiting]))
        {
            *own += u128::from(part.0) * u128::from(tokens);
        }
        self.totals.gaps += tokens;
    }
}

/// Counts a time, in nanoseconds.
pub(super) fn record(times: &mut Histogram<u64>, time: Ps, count: u64) {
    times
        .record_n((time.0 / 1000).max(1), count)
        .unwrap_or_else(|_| unreachable!("an auto-resizing histogram takes any value"));
}

fn add_all(own: &mut Works, works: &Works) {
    for (own, work) in own.iter_mut().zip(works) {
        *own = own.plus(*work);
    }
}
