//! A scenario with its files read, and whether it can be: memory, divisibility, prices.

use std::path::PathBuf;

use einflow_arch::device::{Device, DeviceLink, Times, devices, links};
use einflow_spec::{
    Problem, Problems, Span,
    quantity::{Bytes, DollarsPerHour},
};
use einflow_workloads::models::Model;

use super::{
    Boundary, Partition,
    memory::Memory,
    pipeline::Shape,
    scenario::{Pool, Role, Scenario},
    times::ServerTables,
};
use crate::device::{Answerer, layer::timed};

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
    /// Groups.
    pub replicas: u64,
    /// What an hour of one device costs.
    pub price: DollarsPerHour,
    /// What fills a device's memory.
    pub memory: Memory,
    /// The folder of the device's file, if it has one: tables that the file names are looked for there first.
    folder: Option<PathBuf>,
    /// Steps of this model as a server measured them on the device, where one did and it serves the model alone.
    pub steps: Option<ServerTables>,
}

/// A scenario ready to run.
pub struct System {
    /// As written.
    pub scenario: Scenario,
    /// The model.
    pub model: Model,
    /// Layers.
    pub layers: u64,
    /// Where products of the model run: a pool for `model` or `all`.
    pub models: DevicePool,
    /// Where attention runs, if elsewhere.
    pub attention: Option<DevicePool>,
    /// Where prompts are computed, if on a pool.
    pub prefill: Option<DevicePool>,
    /// Between the model's pool and attention's.
    pub network: Option<DeviceLink>,
    /// Between the prompts' pool and where caches are.
    pub prefill_network: Option<DeviceLink>,
    /// Tokens whose keys and values fit in each store.
    pub stores: Vec<u64>,
    /// How batches go through it.
    pub shape: Shape,
    /// What makes its results less sure.
    pub flags: Vec<String>,
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

    fn load(scenario: &Scenario, spec: &Pool, replicas: Option<u64>) -> Result<Self, Problems> {
        let beside = scenario.beside.as_deref();
        let mut problems = Problems::new();
        let link = spec.link.as_ref().and_then(|name| {
            let found = links().find(&name.value, beside).map_err(Problems::from);
            let link = found.and_then(|(source, _)| DeviceLink::parse(&source));
            problems.absorb(link.map_err(|found| placed(scenario, name.span, &found)))
        });
        let count = spec.count.value;
        // Attention's devices share no products; what they share is `partition`'s.
        let replicas = replicas.unwrap_or(count);
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
            None => count / replicas,
        };
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
                group,
                replicas: count / group,
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

impl System {
    /// Reads the files that a scenario names.
    ///
    /// # Errors
    /// Every file that is missing or wrong, and what does not go together: heads and partition, model and memory, batches and replicas.
    pub fn new(scenario: Scenario) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let beside = scenario.beside.clone();
        let model = Model::load(&scenario.model.value, beside.as_deref());
        let model = model.and_then(|model| timed(&model).map(|()| model).map_err(Problems::from));
        let model =
            problems.absorb(model.map_err(|found| placed(&scenario, scenario.model.span, &found)));
        let n = scenario.batches.value;
        let mut load = |role: Role, replicas: Option<u64>| {
            let spec = scenario.pool(role)?;
            problems.absorb(DevicePool::load(&scenario, spec, replicas))
        };
        let all = load(Role::All, Some(1));
        let models = load(Role::Model, Some(n.saturating_sub(1).max(1)));
        let attention = load(Role::Attention, None);
        let prefill = load(Role::Prefill, Some(1));
        let network = problems.absorb(link(&scenario, Role::Model, Role::Attention));
        let keeps = match scenario.pool(Role::All) {
            Some(_) => Role::All,
            None => Role::Attention,
        };
        let prefill_network = problems.absorb(link(&scenario, Role::Prefill, keeps));
        if let Some(models) = &models {
            let wanted = n.saturating_sub(1).max(1);
            if models.replicas != wanted {
                problems.push(
                    scenario
                        .at(
                            scenario.batches.span,
                            format!(
                                "{n} batches in flight over {} replicas of the model",
                                models.replicas
                            ),
                        )
                        .help(format!(
                            "n batches rotate over n - 1 replicas: {wanted} of them, each of count / {wanted} devices"
                        )),
                );
            }
        }
        if let Some(all) = &all
            && !n.is_multiple_of(all.replicas)
        {
            problems.push(
                scenario
                    .at(
                        scenario.batches.span,
                        format!("{n} batches over {} replicas", all.replicas),
                    )
                    .help("each replica has as many batches: a multiple"),
            );
        }
        problems.into_result(Some(()))?;
        let (Some(model), Some(models)) = (model, all.or(models)) else {
            return Err(Problems::new());
        };
        let layers = model.depth().unwrap_or(0);
        let mut system = Self {
            layers,
            shape: Shape {
                batches: usize::try_from(n).unwrap_or(usize::MAX),
                replicas: usize::try_from(models.replicas).unwrap_or(1),
                rotate: attention.is_some(),
                receive_idle: false,
            },
            model,
            models,
            attention,
            prefill,
            network: network.flatten(),
            prefill_network: prefill_network.flatten(),
            stores: Vec::new(),
            flags: Vec::new(),
            scenario,
        };
        system.check()?;
        system.measured()?;
        system.fill()?;
        Ok(system)
    }

    /// Steps that a server measured, where one device serves the model alone.
    fn measured(&mut self) -> Result<(), Problems> {
        let pool = &mut self.models;
        let folder = pool.answerer.device.servers.get(&self.model.name);
        if let (Some(folder), Role::All, 1) = (folder, pool.spec.role, pool.group) {
            pool.steps = Some(ServerTables::load(
                folder,
                pool.folder.as_deref(),
                self.layers,
            )?);
        }
        Ok(())
    }

    /// The pool that attends.
    pub fn attends(&self) -> &DevicePool {
        self.attention.as_ref().unwrap_or(&self.models)
    }

    /// Every pool.
    pub fn pools(&self) -> impl Iterator<Item = &DevicePool> {
        [
            Some(&self.models),
            self.attention.as_ref(),
            self.prefill.as_ref(),
        ]
        .into_iter()
        .flatten()
    }

    /// Blocks of each store that caches can take.
    pub fn store_blocks(&self) -> impl Iterator<Item = u64> {
        let (block, unused) = (self.scenario.block_size, self.scenario.null_block);
        let blocks = move |tokens: &u64| (tokens / block).saturating_sub(unused.into());
        self.stores.iter().map(blocks)
    }

    /// Hosts: each replica that serves by itself has its own, the replicas of a model around one attention pool share one.
    pub fn hosts(&self) -> u64 {
        match self.attention {
            None => self.models.replicas,
            Some(_) => 1,
        }
    }

    /// Prompts' caches that travel at one time: as many as there are pairs of a group that computes and one that keeps
    /// them, each over the links of its own devices; one over a link that all share.
    pub fn cache_channels(&self) -> u64 {
        match (&self.prefill, &self.prefill_network) {
            (Some(pool), Some(link)) if !link.shared => {
                let keeps = self.attends().count() / self.head_parts().max(1);
                pool.replicas.min(keeps).max(1)
            }
            _ => 1,
        }
    }

    /// Devices among which each request's heads are divided, where it is attended.
    pub fn head_parts(&self) -> u64 {
        match &self.attention {
            None => self.models.group,
            Some(pool) if pool.spec.partition == Partition::Heads => pool.count(),
            Some(_) => 1,
        }
    }

    fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let (scenario, model) = (&self.scenario, &self.model);
        if model.layers.is_none() || model.vocabulary.is_none() {
            problems.push(
                scenario
                    .at(
                        scenario.model.span,
                        format!("the model {} has no layers or no vocabulary", model.name),
                    )
                    .help("give `layers` and `vocabulary` in its file"),
            );
        }
        let mut divides = |parts: u64, pool: &DevicePool, heads: u64, what: &str| {
            if !heads.is_multiple_of(parts) {
                let fits: Vec<String> = (1..=heads)
                    .filter(|n| heads.is_multiple_of(*n))
                    .map(|n| n.to_string())
                    .collect();
                problems.push(
                    scenario
                        .at(
                            pool.spec.count.span,
                            format!(
                                "{heads} {what} of {} cannot be divided among {parts} devices",
                                model.name
                            ),
                        )
                        .help(format!(
                            "by heads: {} devices; by requests: `partition: requests`, any number",
                            fits.join(", ")
                        )),
                );
            }
        };
        divides(
            self.head_parts(),
            self.attends(),
            model.key_heads,
            "key heads",
        );
        if self.attention.is_some() {
            divides(
                self.models.group,
                &self.models,
                model.key_heads,
                "key heads",
            );
        }
        if let Some(prefill) = &self.prefill {
            divides(prefill.group, prefill, model.key_heads, "key heads");
        }
        if self.attention.is_some() && self.network.is_none() {
            problems.push(
                scenario
                    .at(
                        self.attends().spec.span,
                        "no link joins the model's pool and attention's",
                    )
                    .help("links: [(name: \"network\", between: [\"model\", \"attention\"], link: \"ethernet-400g\")]"),
            );
        }
        if self.prefill.is_some() && self.prefill_network.is_none() {
            problems.push(
                scenario
                    .at(
                        scenario.prefill.span,
                        "no link joins the pool for prompts and the pool with the caches",
                    )
                    .help("add one to `links`"),
            );
        }
        if let (Some(pool), Boundary::Projections, Partition::Heads) = (
            &self.attention,
            scenario.boundary,
            self.attends().spec.partition,
        ) && pool.count() > 1
            && pool.link.is_none()
        {
            problems.push(
                scenario
                    .at(
                        pool.spec.span,
                        "heads' outputs are summed over the pool, with no link within it",
                    )
                    .help("add `link: ...` to the pool, or `partition: requests`"),
            );
        }
        for pool in self.pools() {
            if let (Some(library), times) =
                (&pool.spec.attention_library, &pool.answerer.device.times)
            {
                let name = format!("decode:{}", library.value);
                let known: Vec<&str> = match times {
                    Times::Laws(laws) => laws
                        .keys()
                        .filter_map(|law| law.strip_prefix("decode:"))
                        .collect(),
                    Times::Tables(_) => vec!["vllm", "flash", "cudnn"],
                    Times::Accelerator(_) => Vec::new(),
                };
                if !known.contains(&library.value.as_str()) {
                    let message = format!("{} knows no `{name}`", pool.device());
                    problems.push(scenario.at(library.span, message).help(
                        match known.is_empty() {
                            true => {
                                "an accelerator has its own mapping: leave `library` out".into()
                            }
                            false => format!("it has: {}", known.join(", ")),
                        },
                    ));
                }
            }
            let accelerator = matches!(pool.answerer.device.times, Times::Accelerator(_));
            let attends_only =
                pool.spec.role == Role::Attention && scenario.boundary == Boundary::Core;
            if accelerator && !attends_only {
                problems.push(
                    scenario
                        .at(
                            pool.spec.device.span,
                            format!("{} computes attention only", pool.device()),
                        )
                        .help("an accelerator's pool has `role: attention`, with `boundary: core`"),
                );
            }
        }
        problems.into_result(Some(()))
    }
}

/// Problems without a place of their own, with that of the value that led to them.
fn placed(scenario: &Scenario, span: Span, problems: &Problems) -> Problems {
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

/// The link between two roles' pools.
fn link(scenario: &Scenario, a: Role, b: Role) -> Result<Option<DeviceLink>, Problems> {
    let Some(link) = scenario.link(a, b) else {
        return Ok(None);
    };
    let (source, _) = links()
        .find(&link.link.value, scenario.beside.as_deref())
        .map_err(|p| Problem {
            place: Some((scenario.source.clone(), link.link.span)),
            ..p
        })?;
    let found = DeviceLink::parse(&source)?;
    if !found.operations.contains_key("send") && !found.operations.contains_key("send:graph") {
        return Err(scenario
            .at(
                link.link.span,
                format!("nothing is known of `send` over {}", found.name),
            )
            .help("a link with the operation `send` in its file")
            .into());
    }
    Ok(Some(found))
}
