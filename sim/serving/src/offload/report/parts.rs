//! The parts of a report, each from what a run added up.

use einflow_workloads::layer::WORD_BYTES;
use hdrhistogram::Histogram;

use super::{
    super::{
        Boundary, Partition, System,
        pool::DevicePool,
        scenario::Role,
        serve::Served,
        time::Ps,
        times::{OPERATORS, Operator, Works, total},
    },
    Balance, DeviceUse, LinkUse, Needed, PoolMemory, Quantiles,
};

pub(super) fn quantiles(times: &Histogram<u64>) -> Option<Quantiles> {
    // Nanoseconds.
    let at = |q: f64| times.value_at_quantile(q) as f64 * 1e-6;
    (!times.is_empty()).then(|| Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        mean: times.mean() * 1e-6,
    })
}

pub(super) fn pool_memory(pool: &DevicePool) -> PoolMemory {
    PoolMemory {
        pool: pool.spec.name.clone(),
        device: pool.device().to_string(),
        count: pool.count(),
        each: pool.memory,
    }
}

/// What every device did in the window, and the joules of all.
pub(super) fn devices(system: &System, served: &Served, window: Ps) -> (Vec<DeviceUse>, f64) {
    let (begin, end) = (&served.begin, &served.end);
    let mut out = Vec::new();
    let mut joules = 0.0;
    let seconds = window.seconds().0;
    let mut add = |pool: &DevicePool, at: u64, before: &Works, after: &Works, share: f64| {
        let mut by_operator = Vec::new();
        let mut busy = 0.0;
        let idle = pool.answerer.device.power.map_or(0.0, |p| p.idle.0);
        joules += idle * seconds;
        for operator in 0..OPERATORS {
            let time = after[operator].time.since(before[operator].time);
            joules += (after[operator].joules - before[operator].joules) * share;
            if time > Ps::ZERO {
                let part = time.0 as f64 * share / window.0.max(1) as f64;
                busy += part;
                by_operator.push((Operator::ALL[operator].name(), part));
            }
        }
        // Whole iterations are counted where they end: at the ends of a window that is off by a part of one.
        if busy > 1.0 {
            by_operator.iter_mut().for_each(|(_, part)| *part /= busy);
            busy = 1.0;
        }
        out.push(DeviceUse {
            name: format!("{}/{at}", pool.spec.name),
            device: pool.device().to_string(),
            utilization: busy,
            by_operator,
        });
    };
    let models = &system.models;
    for (replica, (before, after)) in begin.model.iter().zip(&end.model).enumerate() {
        let each = models.group * models.stages;
        for place in 0..each {
            add(models, replica as u64 * each + place, before, after, 1.0);
        }
    }
    if let Some(pool) = &system.attention {
        for (at, (before, after)) in begin.attention.iter().zip(&end.attention).enumerate() {
            add(pool, at as u64, before, after, 1.0);
        }
    }
    if let Some(pool) = &system.prefill {
        // What all of them did together: prompts go to the first that is free.
        let share = 1.0 / pool.count() as f64;
        for at in 0..pool.count() {
            add(pool, at, &begin.prompts, &end.prompts, share);
        }
    }
    (out, joules)
}

pub(super) fn links(system: &System, served: &Served, window: Ps) -> Vec<LinkUse> {
    let (begin, end) = (&served.begin, &served.end);
    let share = |a: Ps, b: Ps| b.since(a).0 as f64 / window.0.max(1) as f64;
    let mut out = Vec::new();
    let scenario = &system.scenario;
    let named = |a: Role, b: Role| {
        let link = scenario.link(a, b)?;
        let (a, b) = (scenario.pool(a)?, scenario.pool(b)?);
        Some((link.name.value.clone(), a.name.clone(), b.name.clone()))
    };
    if let Some((link, a, b)) = named(Role::Model, Role::Attention) {
        for (at, (from, to)) in [(&a, &b), (&b, &a)].into_iter().enumerate() {
            out.push(LinkUse {
                name: format!("{link}: {from} to {to}"),
                bytes: end.bytes[at] - begin.bytes[at],
                utilization: share(begin.links[at], end.links[at]),
                peak_gb_per_s: served.account.peak_rate[at] * 1e-9,
            });
        }
    }
    let keeps = match system.attention {
        None => Role::All,
        Some(_) => Role::Attention,
    };
    if let Some((link, a, b)) = named(Role::Prefill, keeps) {
        out.push(LinkUse {
            name: format!("{link}: {a} to {b}"),
            bytes: end.cache_bytes - begin.cache_bytes,
            utilization: share(begin.cache_time, end.cache_time) / system.cache_channels() as f64,
            peak_gb_per_s: served.account.peak_cache_rate * 1e-9,
        });
    }
    out
}

/// What one batch's iteration takes on model and attention, in seconds.
pub(super) fn halves(served: &Served) -> Option<(f64, f64, u64)> {
    let (load, timed) = served.typical.as_ref()?;
    let layers = timed.layers()?;
    let attention = layers
        .attend
        .after(layers.merge)
        .times(u64::from(layers.count));
    Some((
        total(&timed.model).seconds().0,
        attention.seconds().0,
        load.requests(),
    ))
}

/// `(2 + 2 / G) e d B L / (alpha (MTIME(B) + ATIME(B, l)))`: Lamina (arXiv 2405.01814).
pub(super) fn needed(system: &System, served: &Served) -> Option<Needed> {
    let (model_time, attention_time, batch) = halves(served)?;
    let pool = system.attention.as_ref()?;
    let token = system.model.layer(1, 1);
    // Words of a token, to attention's pool and back.
    let (there, back) = match system.scenario.boundary {
        Boundary::Core => (token.queries() + token.keys_values(), token.attended()),
        // Each device that has heads of a request needs all of its stream.
        Boundary::Projections => {
            let copies = match pool.spec.partition {
                Partition::Heads => pool.count(),
                Partition::Requests => 1,
            };
            (token.hidden * copies, token.hidden)
        }
    };
    let slowdown = system.scenario.slowdown;
    let time = slowdown * (model_time + attention_time);
    let rate = |words: u64| (words * WORD_BYTES * batch * system.layers) as f64 / time * 1e-9;
    let aggregate = rate(there + back);
    Some(Needed {
        slowdown,
        aggregate,
        duplex: rate(there.max(back)),
        per_model_device: aggregate / system.models.group as f64,
        per_attention_device: aggregate / pool.count() as f64,
    })
}

pub(super) fn balance(system: &System, served: &Served) -> Option<Balance> {
    let (_, timed) = served.typical.as_ref()?;
    let layers = timed.layers()?;
    let n = system.scenario.batches.value;
    let us = |time: Ps| time.0 as f64 * 1e-6;
    let slices = total(&timed.model).0 as f64 * 1e-6;
    let count = f64::from(layers.count.max(1));
    let model = slices / count;
    let attention = us(layers.attend.after(layers.merge));
    let messages = us(timed.messages) / count;
    let host = system.scenario.host_overhead.0 * 1e6 / count;
    let out = layers
        .query
        .stream
        .after(layers.rest.unwrap_or_default().stream);
    let replicas = system.models.replicas as f64;
    let n_f = n as f64;
    Some(Balance {
        batches: n,
        model,
        attention,
        messages,
        host,
        layer: (n_f * model / replicas)
            .max(n_f * attention)
            .max(n_f * us(out))
            .max(n_f * us(layers.output.stream))
            .max(model + attention + messages + host)
            .max(n_f * host),
        balanced: model / replicas,
    })
}
