//! What a run says: rates over its window, what every device and link did, what a token costs.

mod assumptions;
mod parts;

use einflow_spec::{Problem, Problems};
use einflow_workloads::layer::{Mixer, Operator};

use super::{
    Scenario, System,
    account::PARTS,
    memory::Memory,
    scenario::{Prefill, Role},
    serve::{Demand, Options, Served, Watch, serve},
    times::over_latents,
};
use crate::device::layer::{Lowering, attention};
use assumptions::assumptions;
use einflow_engine::report::Metric;
use parts::{balance, devices, links, needed, pool_memory, quantiles};

/// A distribution of times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// Half are at or below.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The mean.
    pub mean: f64,
}

/// What a device did.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceUse {
    /// The pool and the device's place in it: `attention/2`.
    pub name: String,
    /// The device's file.
    pub device: String,
    /// The share of the window in which it worked.
    pub utilization: f64,
    /// The same by operator.
    pub by_operator: Vec<(&'static str, f64)>,
}

/// What a link did.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkUse {
    /// Between which pools, and the direction.
    pub name: String,
    /// Bytes in the window, all devices together.
    pub bytes: f64,
    /// The share of the window in which it was busy.
    pub utilization: f64,
    /// The largest rate of a device, in GB/s.
    pub peak_gb_per_s: f64,
}

/// The least bandwidth for which messages take no more than a share of the time of model and attention, in GB/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needed {
    /// That share (`alpha`).
    pub slowdown: f64,
    /// Both directions added, as Lamina has it, over all devices.
    pub aggregate: f64,
    /// The larger direction alone: what full duplex needs.
    pub duplex: f64,
    /// Of `aggregate`, for each device of a model replica.
    pub per_model_device: f64,
    /// Of `aggregate`, for each device of attention.
    pub per_attention_device: f64,
}

/// What the devices of a pool cost.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPrice {
    /// The pool.
    pub pool: String,
    /// Devices.
    pub count: u64,
    /// US dollars an hour of one.
    pub each: f64,
    /// Whether attention is offloaded to it.
    pub attends: bool,
}

/// What a pool holds.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolMemory {
    /// The pool.
    pub pool: String,
    /// The device's file.
    pub device: String,
    /// Devices.
    pub count: u64,
    /// What fills each.
    pub each: Memory,
}

/// How a layer of all batches takes what it takes (times in microseconds).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Batches in flight.
    pub batches: u64,
    /// A slice on a replica.
    pub model: f64,
    /// Attention.
    pub attention: f64,
    /// Messages there and back.
    pub messages: f64,
    /// The host's share of a layer.
    pub host: f64,
    /// The larger of n t_m / (n - 1), n t_a and the way of one batch: what a layer of all batches takes.
    pub layer: f64,
    /// Attention as long as t_m / (n - 1) would keep both busy.
    pub balanced: f64,
}

/// The report of a scenario.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario.
    pub name: String,
    /// A sentence.
    pub description: String,
    /// The model.
    pub model: String,
    /// Seconds of the window.
    pub window_s: f64,
    /// Whether the queue was never empty in it.
    pub saturated: bool,
    /// Tokens a second.
    pub throughput: f64,
    /// Resident requests, the mean over time.
    pub mean_batch: f64,
    /// Tokens in the cache of a request, the mean over the tokens that came out.
    pub mean_context: f64,
    /// Resident requests over time: seconds, and the mean around.
    pub batch_over_time: Vec<(f64, f64)>,
    /// Between a request's tokens.
    pub between: Option<Quantiles>,
    /// From arrival to the first token, where prompts are computed.
    pub first: Option<Quantiles>,
    /// The mean time between tokens by what it is for, in milliseconds.
    pub breakdown: Vec<(&'static str, f64)>,
    /// Every device.
    pub devices: Vec<DeviceUse>,
    /// Every link between pools, by direction.
    pub links: Vec<LinkUse>,
    /// What links need.
    pub needed: Option<Needed>,
    /// Every pool.
    pub memory: Vec<PoolMemory>,
    /// Tokens that the stores hold, all together, and what was in the fullest at most.
    pub capacity: (u64, u64),
    /// What each pool costs, the model's first.
    pub prices: Vec<PoolPrice>,
    /// US dollars an hour.
    pub dollars_per_hour: f64,
    /// Tokens for a dollar.
    pub tokens_per_dollar: f64,
    /// Joules for a token.
    pub joules_per_token: f64,
    /// What bounds the rate.
    pub bound_by: String,
    /// How the layers are balanced, where attention is elsewhere.
    pub balance: Option<Balance>,
    /// Tokens that came out, of all that were asked for; none asked where the load is fixed.
    pub tokens: (u64, u64),
    /// Requests that got all their tokens, of all.
    pub requests: (u64, u64),
    /// How often a request gave its room back.
    pub preemptions: u64,
    /// What the result rests on.
    pub assumptions: Vec<String>,
    /// What makes it less sure.
    pub flags: Vec<String>,
}

/// A scenario run and reported, with what it did for a timeline.
///
/// # Errors
/// Everything wrong with the files that it names, a request that fits nowhere, a kernel of which a device says nothing.
pub fn report(
    scenario: Scenario,
    options: Options,
    watch: &dyn Watch,
) -> Result<(Report, Served), Problems> {
    let mut problems = Problems::new();
    let demand = problems.absorb(Demand::read(&scenario));
    let system = problems.absorb(System::new(scenario));
    problems.into_result(Some(()))?;
    let (Some(demand), Some(system)) = (demand, system) else {
        return Err(Problems::new());
    };
    let demand = demand.on(&system)?;
    let served = serve(&system, &demand, options, watch)?;
    let report = Report::new(&system, &demand, &served)?;
    Ok((report, served))
}

/// Below this share of its time a unit does not bound a system by itself.
const BUSY: f64 = 0.9;

impl Report {
    fn new(system: &System, demand: &Demand, served: &Served) -> Result<Self, Problem> {
        let scenario = &system.scenario;
        let (begin, end) = (&served.begin, &served.end);
        let window = end.at.since(begin.at);
        let seconds = window.seconds().0;
        let per = |value: f64| if seconds > 0.0 { value / seconds } else { 0.0 };
        let tokens = end.tokens - begin.tokens;
        let throughput = per(tokens as f64);
        let dollars_per_hour = system
            .pools()
            .map(|p| p.price.0 * p.count() as f64)
            .sum::<f64>();
        let (devices, joules) = devices(system, served, window);
        let links = links(system, served, window);
        let balance = balance(system, served);
        let account = &served.account;
        let gaps = (end.gaps - begin.gaps).max(1) as f64;
        let parts = end.parts.iter().zip(&begin.parts);
        let parts = parts.map(|(e, b)| (e - b) as f64 / gaps * 1e-9);
        let chunked = scenario.prefill.value != Prefill::Excluded;
        let wanted = match demand {
            Demand::Requests { list, .. } => list.iter().map(|r| r.generated).sum(),
            Demand::Fixed { .. } => 0,
        };
        let mut report = Self {
            name: scenario.name.clone(),
            description: scenario.description.clone(),
            model: system.model.name.clone(),
            window_s: seconds,
            saturated: served.saturated,
            throughput,
            mean_batch: per((end.resident - begin.resident) as f64 * 1e-12),
            mean_context: (end.context - begin.context) as f64
                / (end.decoded - begin.decoded).max(1) as f64,
            batch_over_time: account.batch.points(),
            between: quantiles(&served.between),
            first: (chunked && served.arrivals)
                .then(|| quantiles(&account.first))
                .flatten(),
            breakdown: PARTS.into_iter().zip(parts).collect(),
            devices,
            links,
            needed: needed(system, served),
            memory: system.pools().map(pool_memory).collect(),
            capacity: (system.stores.iter().sum(), account.peak_cached),
            prices: system
                .pools()
                .map(|p| PoolPrice {
                    pool: p.spec.name.clone(),
                    count: p.count(),
                    each: p.price.0,
                    attends: p.spec.role == Role::Attention,
                })
                .collect(),
            dollars_per_hour,
            tokens_per_dollar: throughput * 3600.0 / dollars_per_hour,
            joules_per_token: joules / tokens.max(1) as f64,
            bound_by: String::new(),
            balance,
            tokens: (account.totals.tokens, wanted),
            requests: (served.finished, served.requests),
            preemptions: account.preemptions,
            assumptions: assumptions(system, served),
            flags: served.flags.clone(),
        };
        let measures = [
            ("throughput", report.throughput),
            ("price", report.dollars_per_hour),
            ("price of a million tokens", 1e6 / report.tokens_per_dollar),
            ("tokens for a dollar", report.tokens_per_dollar),
            ("energy of a token", report.joules_per_token),
        ];
        // Where nothing came out, there is no price of it.
        let made = |(name, _): &&(&str, f64)| tokens > 0 || *name != "price of a million tokens";
        if let Some((name, _)) = measures
            .iter()
            .filter(made)
            .find(|(_, value)| !value.is_finite())
        {
            let message = format!(
                "{}: the {name} is beyond what a 64-bit number holds",
                report.name
            );
            return Err(Problem::nowhere(message).help(
                "look for a number of a pool or of its device that is far too large or too small: a price, a power",
            ));
        }
        report.bound_by = report.bound(system, served)?;
        if served.stopped {
            report.flags.push(format!(
                "stopped after {} of {wanted} tokens: what is here is of those",
                report.tokens.0
            ));
        } else if report.tokens.0 < wanted {
            report.flags.push(format!(
                "{} of {} requests did not get all their tokens",
                report.requests.1 - report.requests.0,
                report.requests.1
            ));
        }
        report.flags.extend(demand.left_out());
        if account.preemptions > 0 && scenario.prefill.value == Prefill::Excluded {
            report.flags.push(format!(
                "{} times a request gave its room back; to make its cache again took no time, as prompts are not simulated",
                account.preemptions
            ));
        }
        Ok(report)
    }

    /// Every number there is one of, by the name under which a sweep or a table asks for it.
    pub fn metrics(&self) -> Vec<(String, Metric)> {
        let mut out: Vec<(String, Metric)> = Vec::new();
        let mut real = |name: &str, value: f64| out.push((name.into(), Metric::Real(value)));
        real("throughput_tokens_per_s", self.throughput);
        real("mean_batch", self.mean_batch);
        real("mean_context", self.mean_context);
        for (name, times) in [
            ("time_between_tokens_ms", self.between),
            ("first_token_ms", self.first),
        ] {
            let Some(times) = times else { continue };
            real(&format!("{name}.p50"), times.p50);
            real(&format!("{name}.p90"), times.p90);
            real(&format!("{name}.p99"), times.p99);
            real(&format!("{name}.mean"), times.mean);
        }
        real("dollars_per_hour", self.dollars_per_hour);
        real("tokens_per_dollar", self.tokens_per_dollar);
        real("dollars_per_million_tokens", 1e6 / self.tokens_per_dollar);
        real("energy_j_per_token", self.joules_per_token);
        for pool in &self.memory {
            real(
                &format!("utilization.{}", pool.pool),
                self.busiest(&pool.pool),
            );
        }
        if let Some(needed) = self.needed {
            real("bandwidth_needed_gb_per_s.aggregate", needed.aggregate);
            real("bandwidth_needed_gb_per_s.larger_direction", needed.duplex);
            real(
                "bandwidth_needed_gb_per_s.model_device",
                needed.per_model_device,
            );
            real(
                "bandwidth_needed_gb_per_s.attention_device",
                needed.per_attention_device,
            );
        }
        if let Some(balance) = self.balance {
            real("layer.model_us", balance.model);
            real("layer.attention_us", balance.attention);
            real("layer.messages_us", balance.messages);
        }
        out.push(("cache_tokens".into(), Metric::Whole(self.capacity.0.into())));
        out.push(("tokens".into(), Metric::Whole(self.tokens.0.into())));
        out.push(("preemptions".into(), Metric::Whole(self.preemptions.into())));
        out.push(("bound_by".into(), Metric::Text(self.bound_by.clone())));
        out
    }

    /// The busiest device of a pool.
    pub fn busiest(&self, pool: &str) -> f64 {
        let own = self
            .devices
            .iter()
            .filter(|d| d.name.rsplit_once('/').is_some_and(|(p, _)| p == pool));
        own.map(|d| d.utilization).fold(0.0, f64::max)
    }

    fn bound(&self, system: &System, served: &Served) -> Result<String, Problem> {
        let host = served.end.host.since(served.begin.host);
        let window = served.end.at.since(served.begin.at);
        let host = host.0 as f64 / window.0.max(1) as f64 / system.hosts() as f64;
        // A few wait in any burst; and a pool for everything that is idle now and then has nothing to do.
        let few = served.waited * 10 < served.requests;
        let idle = system.attention.is_none()
            && system.prefill.is_none()
            && self.busiest(&system.models.spec.name) + host < BUSY;
        if served.arrivals && (few || idle) {
            return Ok("arrivals".to_string());
        }
        let models = &system.models;
        let batch = served.typical.as_ref().map_or(1, |(load, _)| load.width());
        let most = &system.most_layers().model;
        let layer = most.layer(batch.max(1), models.group);
        let into = match layer.experts {
            Some(_) => Operator::ExpertsGateUp,
            None => Operator::GateUp,
        };
        let kernels = Lowering::Served.kernels(into, &layer);
        let product = kernels.last().map(|c| models.answerer.bound_by(&c.kernel));
        let model = match product.transpose()?.as_deref() {
            Some("memory") => "model (weights from memory)",
            _ => "model (products)",
        };
        let pool = system.attends();
        let layer = most.layer(1, system.head_parts());
        let length = (self.mean_context.round() as u64).max(1);
        let length = layer.window.map_or(length, |window| window.min(length));
        let attention = match layer.mixer {
            Mixer::Linear(_) => "attention (state from memory)".to_string(),
            _ => {
                let cached = over_latents(&layer, 1, length)
                    .unwrap_or_else(|| attention(&layer, 1, length, false));
                match pool.answerer.bound_by(&cached)?.as_str() {
                    "memory" => "attention (cache from memory)".to_string(),
                    other => format!("attention ({other})"),
                }
            }
        };
        let mean: f64 = self.breakdown.iter().map(|(_, ms)| ms).sum();
        if let Some(prefill) = &system.prefill {
            let share = self.busiest(&prefill.spec.name);
            if share >= BUSY && share > self.busiest(&models.spec.name) {
                return Ok("prompts".to_string());
            }
        }
        if system.attention.is_none() {
            // One task after another: the longest.
            let own = self.breakdown.iter();
            let own = own.filter(|(name, ms)| *name != "waiting" && *ms > 0.0);
            let longest = own
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .map_or("model", |(name, _)| name);
            return Ok(match longest {
                "model" => model.to_string(),
                "attention" => attention,
                other => other.to_string(),
            });
        }
        let mut units: Vec<(String, f64)> = vec![
            (model.to_string(), self.busiest(&models.spec.name)),
            (attention, self.busiest(&pool.spec.name)),
            ("host".to_string(), host),
        ];
        if let Some(prefill) = &system.prefill {
            units.push(("prompts".to_string(), self.busiest(&prefill.spec.name)));
        }
        let links = self.links.iter().map(|l| l.utilization);
        units.push(("network".to_string(), links.fold(0.0, f64::max)));
        let busiest = units.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        Ok(match busiest {
            Some((name, share)) if share >= BUSY => name,
            Some((name, share)) => format!(
                "the way of one batch, {mean:.1} ms; busiest: {name} {:.0} %",
                100.0 * share
            ),
            None => String::new(),
        })
    }
}
