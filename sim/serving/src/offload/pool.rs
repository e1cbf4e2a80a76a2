//! A pool of a scenario with its files read: a device, links, and how a model is divided among them.

use std::path::PathBuf;

use einflow_arch::device::{Device, DeviceLink, devices, links};
use einflow_spec::{
    Problem, Problems, Span,
    quantity::{Bytes, DollarsPerHour},
};
use einflow_workloads::{counts::Part, models::Model};

use super::{
    memory::Memory,
    scenario::{Pool, Scenario},
    times::ServerTables,
};
use crate::device::Answerer;

/// A pool with its devices.
pub struct DevicePool {
    /// As the scenario has it.
    pub spec: Pool,
    /// One of its devices.
    pub answerer: Answerer,
    /// The link within the pool.
    pub link: Option<DeviceLink>,
    /// Devices among which one replica's products are divided.
    pub group: u64,
    /// Stages of a replica, each a group with a part of the layers.
    pub stages: u64,
    /// Replicas.
    pub replicas: u64,
    /// Where the pool has several nodes: devices of one, and the link of each device to the others.
    pub nodes: Option<(u64, DeviceLink)>,
    /// What an hour of one device costs.
    pub price: DollarsPerHour,
    /// What fills a device's memory.
    pub memory: Memory,
    /// The folder of the device's file, if it has one: tables that the file names are looked for there first.
    pub(super) folder: Option<PathBuf>,
    /// Steps of this model as a server measured them on the device, where one did and it serves the model alone.
    pub steps: Option<ServerTables>,
}

impl DevicePool {
    /// Devices.
    pub fn count(&self) -> u64 {
        self.spec.count.value
    }

    /// The name of the device's file.
    pub fn device(&self) -> &str {
        &self.answerer.device.name
    }

    /// Whether whole experts are divided among devices, each of which has all columns of its own.
    pub fn spreads(&self) -> bool {
        self.spec.expert_parallel.is_some()
    }

    /// Devices among which experts are divided.
    pub fn experts(&self) -> u64 {
        let spread = self.spec.expert_parallel.as_ref();
        spread.map_or(self.group, |devices| devices.value)
    }

    /// Bytes of a model's weights on one device; `None` on overflow.
    pub fn weights(&self, model: &Model) -> Option<Bytes> {
        let all = self.all_weights(model)?;
        let layers = u128::from(model.depth()?.max(1));
        if self.stages == 1 {
            return Some(all);
        }
        // The vocabulary in is on the first stage, out on the last: those with most of it have one table.
        let layer = |part: &Part| match (part, self.spreads()) {
            (Part::Embeddings, _) => Some(0),
            (Part::Experts, true) => self.whole_experts(model),
            _ => Some(model.part_bytes(*part, self.group)?.0),
        };
        let inside: u128 = Part::ALL.iter().map(layer).sum::<Option<u128>>()?;
        let ends = all.0.saturating_sub(inside);
        let table = if model.tied_embeddings {
            ends
        } else {
            ends.div_ceil(2)
        };
        let most = layers.div_ceil(self.stages.into());
        Some(Bytes(inside.checked_mul(most)?.div_ceil(layers) + table))
    }

    /// Layers of the longest stage.
    pub fn stage_layers(&self, layers: u64) -> u64 {
        layers.div_ceil(self.stages.max(1))
    }

    /// Bytes of whole experts on one device.
    fn whole_experts(&self, model: &Model) -> Option<u128> {
        let kinds = model.kinds();
        let routed = kinds
            .iter()
            .filter_map(|(_, _, kind)| kind.experts)
            .map(|e| e.routed)
            .max();
        let routed = u128::from(routed.unwrap_or(1));
        let whole = model.part_bytes(Part::Experts, 1)?;
        (whole.0 / routed).checked_mul(routed.div_ceil(self.experts().into()))
    }

    /// The same of all layers.
    fn all_weights(&self, model: &Model) -> Option<Bytes> {
        let all = model.weight_bytes(self.group)?;
        if !self.spreads() {
            return Some(all);
        }
        let by_columns = model.part_bytes(Part::Experts, self.group)?;
        let own = self.whole_experts(model)?;
        Some(Bytes(all.0.saturating_sub(by_columns.0) + own))
    }

    pub(super) fn load(
        scenario: &Scenario,
        spec: &Pool,
        replicas: Option<u64>,
    ) -> Result<Self, Problems> {
        let beside = scenario.beside.as_deref();
        let mut problems = Problems::new();
        let [link, far] = [&spec.link, &spec.node_link].map(|named| {
            let name = named.as_ref()?;
            let found = links().find(&name.value, beside).map_err(Problems::from);
            let link = found.and_then(|(source, _)| DeviceLink::parse(&source));
            problems.absorb(link.map_err(|found| placed(scenario, name.span, &found)))
        });
        let count = spec.count.value;
        // Attention's devices share no products; what they share is `partition`'s.
        let replicas = replicas.unwrap_or(count);
        let stages = spec.pipeline_parallel.as_ref().map_or(1, |n| n.value);
        let group = match &spec.tensor_parallel {
            Some(given) if !count.is_multiple_of(given.value) => {
                problems.push(
                    scenario
                        .at(
                            given.span,
                            format!("{count} devices in groups of {}", given.value),
                        )
                        .help("`tensor_parallel` divides `count`"),
                );
                1
            }
            Some(given) => given.value,
            None if !count.is_multiple_of(replicas * stages) && stages > 1 => {
                let message = format!("{count} devices in {stages} stages of {replicas} replicas");
                let problem = scenario.at(spec.count.span, message);
                problems.push(problem.help("`pipeline_parallel` divides `count`"));
                1
            }
            None if !count.is_multiple_of(replicas) => {
                problems.push(
                    scenario
                        .at(
                            spec.count.span,
                            format!("{count} devices for {replicas} replicas of the model"),
                        )
                        .help("n batches rotate over n - 1 replicas: `count` is a multiple of it"),
                );
                1
            }
            None => (count / (replicas * stages).max(1)).max(1),
        };
        if let Some(given) = &spec.pipeline_parallel
            && !count.is_multiple_of(group * stages)
        {
            let message = format!("{count} devices in {stages} stages of {group}");
            let problem = scenario.at(given.span, message);
            problems
                .push(problem.help("`pipeline_parallel` times `tensor_parallel` divides `count`"));
        }
        if let Some(given) = &spec.pipeline_parallel
            && stages > 1
            && link.is_none()
            && spec.link.is_none()
        {
            let problem = scenario.at(given.span, "stages with no link between them");
            problems.push(problem.help("add `link: \"nvlink4\"` to the pool"));
        }
        if group > 1 && link.is_none() && spec.link.is_none() {
            problems.push(
                scenario
                    .at(
                        spec.span,
                        format!("{group} devices share the products, with no link between them"),
                    )
                    .help("add `link: \"nvlink4\"` to the pool, or `tensor_parallel: 1`"),
            );
        }
        if let Some(node) = &spec.node
            && !count.is_multiple_of(node.value)
        {
            let message = format!("{count} devices in nodes of {}", node.value);
            problems.push(
                scenario
                    .at(node.span, message)
                    .help("`node` divides `count`"),
            );
        }
        if let Some(given) = &spec.expert_parallel
            && (!(count / stages.max(1)).is_multiple_of(given.value)
                || !given.value.is_multiple_of(group))
        {
            let message = format!(
                "experts among {} of {count} devices in groups of {group}",
                given.value
            );
            let problem = scenario.at(given.span, message);
            problems.push(
                problem.help(
                    "`expert_parallel` divides the devices of a stage, of all replicas, and is a multiple of `tensor_parallel`",
                ),
            );
        }
        if let Some(given) = &spec.expert_parallel
            && given.value > 1
            && link.is_none()
            && spec.link.is_none()
        {
            let problem = scenario.at(
                given.span,
                "tokens go to experts of other devices, with no link between them",
            );
            problems.push(problem.help("add `link: \"nvlink4\"` to the pool"));
        }
        let found = devices().find(&spec.device.value, beside);
        let found = found.map_err(|p| placed(scenario, spec.device.span, &p.into()));
        let answerer = problems.absorb(found.and_then(|(source, origin)| {
            let device = Device::parse(&source)?;
            let folder = origin.folder();
            let mut answerer = Answerer::new(device, folder.as_deref())?;
            answerer.extrapolate = true;
            answerer.by(spec.engine);
            if let Some(bandwidth) = &spec.bandwidth {
                let changed = answerer.with_bandwidth(bandwidth.value);
                changed.map_err(|found| placed(scenario, bandwidth.span, &found))?;
            }
            Ok((answerer, folder))
        }));
        let price = answerer.as_ref().and_then(|(answerer, _)| {
            let price = spec.price.or(answerer.device.price);
            if price.is_none() {
                problems.push(
                    scenario
                        .at(
                            spec.device.span,
                            format!("{} has no price", answerer.device.name),
                        )
                        .help("give the pool one, in US dollars an hour: price: 2.5"),
                );
            }
            price
        });
        let pool = answerer.zip(price).map(|((answerer, folder), price)| {
            let total = spec.memory.unwrap_or(answerer.device.chip.memory);
            Self {
                spec: spec.clone(),
                link,
                nodes: spec.node.as_ref().map(|node| node.value).zip(far),
                group,
                stages,
                replicas: count / (group * stages).max(1),
                price,
                memory: Memory {
                    total,
                    usable: Bytes((total.0 as f64 * spec.memory_utilization) as u128),
                    weights: Bytes(0),
                    activations: Bytes(0),
                    reserved: spec.reserved,
                    cache: Bytes(0),
                },
                answerer,
                folder,
                steps: None,
            }
        });
        problems.into_result(pool)
    }
}

/// Problems without a place of their own, with that of the value that led to them.
pub(super) fn placed(scenario: &Scenario, span: Span, problems: &Problems) -> Problems {
    let mut out = Problems::new();
    for problem in problems.iter() {
        let own = problem.place.clone();
        let place = own.or_else(|| Some((scenario.source.clone(), span)));
        out.push(Problem {
            place,
            ..problem.clone()
        });
    }
    out
}
