//! Attention elsewhere: a layer in tasks of the model's pool, of attention's pool, and messages between them.

use einflow_spec::Problem;
use einflow_workloads::layer::WORD_BYTES;

use super::{
    super::{
        Partition,
        pipeline::{Iteration, Layers, Message},
        pool::DevicePool,
        time::Ps,
    },
    Caches, Load, Operator, Timed, Times, Work, Works, add, total,
};

impl Times<'_> {
    /// Attention alone elsewhere.
    pub(super) fn core(&mut self, load: &Load, pool: &DevicePool) -> Result<Timed, Problem> {
        let system = self.system;
        let (scenario, models) = (&system.scenario, &system.models);
        let batch = load.requests().max(1);
        let kind = system.alike();
        let p = self.products(models, kind, batch)?;
        let head = self.head(models, load.sampled)?;
        let overlap = scenario.overlap;
        let made = match overlap {
            true => p.query,
            false => p.projections,
        };
        let before = p.norm.plus(made).plus(p.rotary);
        let after = [
            p.output, p.reduce, p.norm, p.exchange, p.feed, p.gate, p.gathered,
        ]
        .into_iter()
        .fold(Work::default(), Work::plus);
        let early = if overlap {
            p.key_value
        } else {
            Work::default()
        };
        let last = after.plus(p.norm).plus(head);
        // Bytes of one layer.
        let token = kind.model.layer(1, 1);
        // A key head that several devices share goes to each of them.
        let keys_values = match pool.spec.partition {
            Partition::Heads => {
                let parts = pool.count();
                parts.saturating_mul(kind.model.layer(1, parts).keys_values())
            }
            Partition::Requests => token.keys_values(),
        };
        let [q, kv, out] = [token.queries(), keys_values, token.attended()]
            .map(|width| (WORD_BYTES * width) as f64);
        let (first, rest) = match overlap {
            true => (q, Some(kv)),
            false => (q + kv, None),
        };
        let shares = self.shares(load, pool);
        let each = |bytes: f64| busiest(bytes, batch, models.group, &shares);
        let query = self.message(each(first))?;
        let rest_message = rest.map(|bytes| self.message(each(bytes))).transpose()?;
        let output = self.message(each(out))?;
        // What each device of the pool does.
        let (mut attend, mut merge) = (Ps::ZERO, Ps::ZERO);
        let works = of_each(&shares, |share| {
            let mut own = Works::default();
            if share.requests() > 0 {
                let time = self.decoded(pool, kind, share.caches, share.parts)?;
                let time = time.attention;
                let copied = self.copied(pool, share.requests(), share.parts)?;
                add(&mut own, Operator::Attention, time.times(system.layers));
                add(&mut own, Operator::Elementwise, copied.times(system.layers));
                match overlap {
                    true => {
                        attend = attend.max(time.time);
                        merge = merge.max(copied.time);
                    }
                    false => attend = attend.max(time.time.after(copied.time)),
                }
            }
            Ok(own)
        })?;
        let layers = Layers {
            count: u32::try_from(system.layers).unwrap_or(u32::MAX),
            first: before.time,
            slice: after.plus(before).time,
            last: last.time,
            early: early.time,
            query,
            rest: rest_message,
            attend,
            merge,
            output,
            waiting: 0,
        };
        let mut model_works = Works::default();
        let n = system.layers;
        for (operator, work) in [
            (Operator::Elementwise, p.norm.times(2)),
            (Operator::Projections, made.plus(early)),
            (Operator::Elementwise, p.rotary.plus(p.gate)),
            (Operator::Output, p.output),
            (Operator::AllReduce, p.reduce.plus(p.gathered)),
            (Operator::Exchange, p.exchange),
            (Operator::FeedForward, p.feed),
        ] {
            add(&mut model_works, operator, work.times(n));
        }
        add(&mut model_works, Operator::Elementwise, p.norm);
        add(&mut model_works, Operator::Head, head);
        let count = n as f64;
        Ok(Timed {
            iteration: Iteration::Layers(layers),
            model: model_works,
            attention: works,
            bytes: [(q + kv) * batch as f64 * count, out * batch as f64 * count],
            device_bytes: [each(q + kv), each(out)],
            messages: arrives(query).after(arrives(output)).times(n),
        })
    }

    /// Attention with its projections elsewhere: the residual stream travels.
    pub(super) fn projections(&mut self, load: &Load, pool: &DevicePool) -> Result<Timed, Problem> {
        let system = self.system;
        let (model, models) = (&system.model, &system.models);
        let batch = load.requests().max(1);
        let kind = system.alike();
        let p = self.products(models, kind, batch)?;
        let head = self.head(models, load.sampled)?;
        let feed = [p.norm, p.exchange, p.feed, p.gate, p.gathered]
            .into_iter()
            .fold(Work::default(), Work::plus);
        let bytes = (WORD_BYTES * model.model_width) as f64;
        let shares = self.shares(load, pool);
        // Each device that has some heads of a request needs all of its stream, and one of them sends the sum back.
        let there = busiest(bytes, batch, models.group, &shares).max(
            shares
                .iter()
                .map(|s| bytes * s.requests() as f64)
                .fold(0.0, f64::max),
        );
        let back = busiest(bytes, batch, models.group, &shares);
        let (query, output) = (self.message(there)?, self.message(back)?);
        let mut attend = Ps::ZERO;
        let works = of_each(&shares, |share| {
            let mut own = Works::default();
            if share.requests() > 0 {
                let d = self.shard(pool, kind, share.requests(), share.parts)?;
                let time = self.decoded(pool, kind, share.caches, share.parts)?;
                let time = time.attention;
                for (operator, work) in [
                    (Operator::Elementwise, d.norm.plus(d.rotary)),
                    (Operator::Projections, d.projections),
                    (Operator::Attention, time),
                    (Operator::Output, d.output),
                    (Operator::AllReduce, d.reduce),
                ] {
                    add(&mut own, operator, work.times(system.layers));
                }
                attend = attend.max(Ps(total(&own).0 / system.layers.max(1)));
            }
            Ok(own)
        })?;
        let n = system.layers;
        let layers = Layers {
            count: u32::try_from(n).unwrap_or(u32::MAX),
            first: p.norm.time,
            slice: feed.time,
            last: feed.plus(p.norm).plus(head).time,
            early: Ps::ZERO,
            query,
            rest: None,
            attend,
            merge: Ps::ZERO,
            output,
            waiting: 0,
        };
        let mut model_works = Works::default();
        for (operator, work) in [
            (Operator::Elementwise, p.norm.plus(p.gate)),
            (Operator::FeedForward, p.feed),
            (Operator::AllReduce, p.gathered),
            (Operator::Exchange, p.exchange),
        ] {
            add(&mut model_works, operator, work.times(n));
        }
        add(&mut model_works, Operator::Elementwise, p.norm.times(2));
        add(&mut model_works, Operator::Head, head);
        let parts = shares.iter().map(|s| s.requests()).sum::<u64>().max(batch);
        Ok(Timed {
            iteration: Iteration::Layers(layers),
            model: model_works,
            attention: works,
            bytes: [
                bytes * parts as f64 * n as f64,
                bytes * batch as f64 * n as f64,
            ],
            device_bytes: [there, back],
            messages: arrives(query).after(arrives(output)).times(n),
        })
    }

    /// How a batch is spread over attention's devices.
    fn shares<'l>(&self, load: &'l Load, pool: &DevicePool) -> Vec<Share<'l>> {
        match pool.spec.partition {
            Partition::Heads => {
                let share = Share {
                    caches: &load.caches,
                    parts: pool.count(),
                };
                vec![share; pool.count() as usize]
            }
            Partition::Requests => load
                .by_store
                .iter()
                .map(|caches| Share { caches, parts: 1 })
                .collect(),
        }
    }
}

/// What one device of attention's pool has of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share<'l> {
    caches: &'l Caches,
    /// Devices among which its heads are divided.
    parts: u64,
}

impl Share<'_> {
    fn requests(&self) -> u64 {
        self.caches.requests()
    }
}

/// What each device does; one that has as much as the one before does the same.
fn of_each(
    shares: &[Share<'_>],
    mut does: impl FnMut(&Share<'_>) -> Result<Works, Problem>,
) -> Result<Vec<Works>, Problem> {
    let mut out: Vec<Works> = Vec::with_capacity(shares.len());
    for (at, share) in shares.iter().enumerate() {
        let works = match at.checked_sub(1) {
            Some(before) if shares[before] == *share => out[before],
            _ => does(share)?,
        };
        out.push(works);
    }
    Ok(out)
}

/// Bytes through the busiest device on either side, of `bytes` for each request.
fn busiest(bytes: f64, batch: u64, group: u64, shares: &[Share<'_>]) -> f64 {
    let sent = bytes * batch as f64 / group as f64;
    let received = shares
        .iter()
        .map(|s| bytes * s.requests() as f64 / s.parts as f64)
        .fold(0.0, f64::max);
    sent.max(received)
}

fn arrives(message: Message) -> Ps {
    message.stream.after(message.latency)
}
