//! A scenario with its files read, and whether it can be: memory, divisibility, prices.

use std::path::PathBuf;

use einflow_arch::device::{Device, DeviceLink, Times, devices, law::ragged, links};
use einflow_spec::{
    Problem, Problems, Span, Stored,
    quantity::{Bytes, DollarsPerHour},
};
use einflow_workloads::{counts::Part, models::Model};

use super::{
    Boundary, Partition,
    memory::Memory,
    pipeline::Shape,
    room::Room,
    scenario::{Pool, Role, Scenario},
    served::served,
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
    folder: Option<PathBuf>,
    /// Steps of this model as a server measured them on the device, where one did and it serves the model alone.
    pub steps: Option<ServerTables>,
}

/// Layers that are alike.
pub struct LayerKind {
    /// Which kind, from 0.
    pub at: usize,
    /// How many.
    pub layers: u64,
    /// A model that has no others.
    pub model: Model,
}

/// A scenario ready to run.
pub struct System {
    /// As written.
    pub scenario: Scenario,
    /// The model.
    pub model: Model,
    /// Layers.
    pub layers: u64,
    /// Of each kind; one at least.
    pub kinds: Vec<LayerKind>,
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
    /// Tokens whose keys and values fit in each store, all of them in every window.
    pub stores: Vec<u64>,
    /// What requests take of a store.
    pub room: Room,
    /// Units of it in each store.
    pub units: Vec<u64>,
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

    fn load(scenario: &Scenario, spec: &Pool, replicas: Option<u64>) -> Result<Self, Problems> {
        let beside = scenario.beside.as_deref();
        let mut problems = Problems::new();
        let link = spec.link.as_ref().and_then(|name| {
            let found = links().find(&name.value, beside).map_err(Problems::from);
            let link = found.and_then(|(source, _)| DeviceLink::parse(&source));
            problems.absorb(link.map_err(|found| placed(scenario, name.span, &found)))
        });
        let far = spec.node_link.as_ref().and_then(|name| {
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
            && (!count.is_multiple_of(given.value) || !given.value.is_multiple_of(group))
        {
            let message = format!(
                "experts among {} of {count} devices in groups of {group}",
                given.value
            );
            let problem = scenario.at(given.span, message);
            problems.push(
                problem.help(
                    "`expert_parallel` divides `count`, and is a multiple of `tensor_parallel`",
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

impl System {
    /// Reads the files that a scenario names.
    ///
    /// # Errors
    /// Every file that is missing or wrong, and what does not go together: heads and partition, model and memory, batches and replicas.
    pub fn new(scenario: Scenario) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let beside = scenario.beside.clone();
        let model = Model::load(&scenario.model.value, beside.as_deref());
        let model = model.and_then(|model| served(&model).map(|()| model).map_err(Problems::from));
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
        let kinds = model.kinds().into_iter().enumerate();
        let kinds = kinds.map(|(at, (_, layers, model))| LayerKind { at, layers, model });
        let mut system = Self {
            layers,
            kinds: kinds.collect(),
            shape: Shape {
                batches: usize::try_from(n).unwrap_or(usize::MAX),
                replicas: usize::try_from(models.replicas).unwrap_or(1),
                stages: usize::try_from(models.stages).unwrap_or(1),
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
            room: Room::default(),
            units: Vec::new(),
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

    /// The kind of all layers, where they are alike.
    pub fn alike(&self) -> &LayerKind {
        &self.kinds[0]
    }

    /// The kind of which there are most layers.
    pub fn most_layers(&self) -> &LayerKind {
        let most = self.kinds.iter().rev().max_by_key(|kind| kind.layers);
        most.unwrap_or(self.alike())
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

    /// Requests of so many tokens that a store holds.
    pub fn holds(&self, store: usize, tokens: u64) -> u64 {
        match self.room.plain() {
            true => self.stores[store] / tokens.max(1),
            false => self.units[store] / self.taken(tokens).max(1),
        }
    }

    /// Units that a request of so many tokens takes of a store.
    pub fn taken(&self, tokens: u64) -> u64 {
        self.room.units(tokens.div_ceil(self.scenario.block_size))
    }

    /// What a policy says of its fullest store, as tokens: those whose keys and values take as much where they are in
    /// every window.
    pub fn fullest(&self, blocks: u64) -> u64 {
        if self.room.plain() {
            return blocks;
        }
        let token = self.model.token_cache_bytes(self.head_parts());
        let token = token.map_or(1, |bytes| bytes.0.max(1));
        let bytes = self.room.bytes(blocks / self.scenario.block_size);
        u64::try_from(bytes.0 / token).unwrap_or(u64::MAX)
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
        let mut groups = vec![(self.head_parts(), self.attends())];
        if self.attention.is_some() {
            groups.push((self.models.group, &self.models));
        }
        groups.extend(self.prefill.as_ref().map(|pool| (pool.group, pool)));
        for (parts, pool) in groups {
            let shared = self.kinds.iter().find_map(|kind| {
                let of = &kind.model;
                (!of.heads.is_multiple_of(parts)
                    || !of.key_heads.is_multiple_of(parts) && !parts.is_multiple_of(of.key_heads))
                .then_some(of)
            });
            if let Some(of) = shared {
                let fits = |n: &u64| {
                    of.heads.is_multiple_of(*n)
                        && (of.key_heads.is_multiple_of(*n) || n.is_multiple_of(of.key_heads))
                };
                let fits: Vec<String> =
                    (1..=of.heads).filter(fits).map(|n| n.to_string()).collect();
                problems.push(
                    scenario
                        .at(
                            pool.spec.count.span,
                            format!(
                                "{} query heads over {} key heads of {} cannot be divided among {parts} devices",
                                of.heads, of.key_heads, model.name
                            ),
                        )
                        .help(format!(
                            "by heads: {} devices, beyond {} of them with each key head on several; by requests: `partition: requests`, any number",
                            fits.join(", "),
                            of.key_heads
                        )),
                );
            }
        }
        if let Some(pool) = &self.attention {
            let mut parts = Vec::new();
            if self.kinds.len() > 1 {
                parts.push("layers of several kinds: the layers of a pipeline are alike");
            }
            let of = |has: fn(&Model) -> bool| self.kinds.iter().any(|kind| has(&kind.model));
            if of(|m| m.latent.is_some()) {
                parts.push("attention over a latent: its weights stand between queries and cache");
            }
            if of(|m| m.linear.is_some()) {
                parts.push("linear attention: it has no cache");
            }
            let accelerator = matches!(pool.answerer.device.times, Times::Accelerator(_));
            if accelerator && model.formats.cache != Stored::BF16 {
                parts.push("a cache that is not bf16, on an accelerator");
            }
            if !parts.is_empty() {
                problems.push(
                    scenario
                        .at(
                            scenario.model.span,
                            format!(
                                "attention of {} cannot be offloaded: {}",
                                model.name,
                                parts.join("; ")
                            ),
                        )
                        .help("a pool with `role: all` serves it, with prompts in chunks or on a pool of their own"),
                );
            }
        }
        for pool in self.pools() {
            let experts = model
                .kinds()
                .iter()
                .any(|(_, _, kind)| kind.experts.is_some());
            if let (Some(given), false) = (&pool.spec.expert_parallel, experts) {
                let problem = scenario.at(given.span, format!("{} has no experts", model.name));
                problems.push(problem.help("leave `expert_parallel` out"));
            }
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
                let own = ragged::Library::named(&library.value);
                let name = match own {
                    Some(own) => own.law.to_string(),
                    None => format!("decode:{}", library.value),
                };
                let known: Vec<&str> = match times {
                    Times::Laws(laws) => {
                        let equal = laws.keys().filter_map(|law| law.strip_prefix("decode:"));
                        let own = ragged::LIBRARIES.into_iter();
                        let own = own.filter(|library| laws.contains_key(library.law));
                        equal.chain(own.map(|library| library.name)).collect()
                    }
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
