//! A scenario with its files read, and whether it can be: memory, divisibility, prices.

use einflow_arch::device::{DeviceLink, Times, law::ragged, links};
use einflow_spec::{Problem, Problems, Stored};
use einflow_workloads::models::Model;

use super::{
    Boundary, Partition,
    pipeline::Shape,
    pool::{DevicePool, placed},
    room::Room,
    scenario::{Role, Scenario},
    served::served,
    times::ServerTables,
};
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
        if let Some(given) = &self.models.spec.pipeline_parallel
            && given.value > self.layers
        {
            let message = format!(
                "{} stages, and {} has {} layers",
                given.value, model.name, self.layers
            );
            let problem = scenario.at(given.span, message);
            problems.push(problem.help("each stage has a layer at least"));
        }
        for pool in self.pools() {
            let all = model.kinds().into_iter();
            let fewest = all
                .filter_map(|(_, _, kind)| kind.experts)
                .map(|e| e.routed);
            if let (Some(given), Some(fewest)) = (&pool.spec.expert_parallel, fewest.min())
                && given.value > fewest
            {
                let message = format!("{fewest} experts among {} devices", given.value);
                let problem = scenario.at(given.span, message);
                problems.push(problem.help("each device has an expert at least"));
            }
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
