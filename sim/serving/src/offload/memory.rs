//! What fills the memory of a pool's devices, and how many tokens' keys and values are left room for.

use einflow_spec::{At, Problem, Problems, quantity::Bytes};
use einflow_workloads::{
    layer::{Mixer, WORD_BYTES},
    models::Model,
};

use super::{
    Boundary, Partition,
    pool::DevicePool,
    room::Room,
    scenario::{Fixed, Load, Prefill, Scenario},
    system::System,
};

/// What fills the memory of one device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// All of it.
    pub total: Bytes,
    /// What may be used.
    pub usable: Bytes,
    /// Weights.
    pub weights: Bytes,
    /// Activations of the largest step.
    pub activations: Bytes,
    /// The runtime.
    pub reserved: Bytes,
    /// What is left for keys and values; 0 where none are kept.
    pub cache: Bytes,
}

/// Tokens of a step for which activations are set aside, where a scenario says nothing: what a batch of a server has at most.
const DEFAULT_STEP: u64 = 2048;

impl DevicePool {
    /// Fills the memory; refuses what does not fit.
    fn fill(
        &mut self,
        scenario: &Scenario,
        model: &Model,
        weights: Bytes,
        activations: f64,
        cached: bool,
    ) -> Result<(), Problem> {
        let memory = &mut self.memory;
        memory.weights = weights;
        memory.activations = Bytes(activations.ceil() as u128);
        let taken = memory.weights.0 + memory.activations.0 + memory.reserved.0;
        let gb = |bytes: u128| bytes as f64 * 1e-9;
        match memory.usable.0.checked_sub(taken) {
            Some(left) if left > 0 || !cached => {
                memory.cache = Bytes(if cached { left } else { 0 });
                Ok(())
            }
            _ => Err(scenario
                .at(
                    self.spec.count.span,
                    format!(
                        "{} does not fit in the pool `{}`: each of {} {} needs {:.1} GB for weights, {:.1} for activations, {:.1} for the runtime, and has {:.1} of {:.1} GB",
                        model.name,
                        self.spec.name,
                        self.spec.count.value,
                        self.answerer.device.name,
                        gb(memory.weights.0),
                        gb(memory.activations.0),
                        gb(memory.reserved.0),
                        gb(memory.usable.0),
                        gb(memory.total.0),
                    ),
                )
                .help(match memory.weights.0 {
                    0 => "a larger `memory_utilization`, more memory, or less `reserved` for the runtime",
                    _ => "more devices in a tensor-parallel group, a larger `memory_utilization`, or a smaller model",
                })),
        }
    }
}

impl System {
    /// Weights, activations and room for caches.
    pub(super) fn fill(&mut self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let (model, scenario) = (&self.model, &self.scenario);
        let overflow = || {
            Problem::nowhere(format!("the weights of {} overflow", model.name))
                .help("smaller sizes")
        };
        let offloads = self.attention.is_some();
        let moves = offloads && scenario.boundary == Boundary::Projections;
        // On one of so many devices: all weights, and those that go with attention.
        let weights = |pool: &DevicePool| pool.weights(model).ok_or_else(overflow);
        let moved = |devices: u64| match moves {
            true => model.attention_bytes(devices).ok_or_else(overflow),
            false => Ok(Bytes(0)),
        };
        let cached = |devices: u64| model.token_cache_bytes(devices).ok_or_else(overflow);
        let block = scenario.block_size;
        let (steps, sampled) = match scenario.prefill.value {
            // A token comes out of each request at most, however long the chunks of prompts beside it.
            Prefill::Chunked => (
                scenario.sequences.max(scenario.step_tokens),
                scenario.sequences,
            ),
            _ => (scenario.sequences, u64::MAX),
        };
        // The residual stream and what a layer makes of it, and the scores of the vocabulary of what comes out, in words
        // of four bytes.
        let step = |tokens: u64, group: u64| {
            // Of the kind of layer that makes most: its feed-forward, or what it attends with.
            let made = self.kinds.iter().map(|kind| {
                let layer = kind.model.layer(1, 1);
                let expanded = match layer.mixer {
                    Mixer::Latent(_) => layer.queries().saturating_add(layer.attended()),
                    _ => layer.keys_values(),
                };
                let attended = layer.queries().saturating_add(layer.attended());
                layer.fed_words().max(attended.saturating_add(expanded))
            });
            let (d, f) = (model.model_width as f64, made.max().unwrap_or(0) as f64);
            let vocabulary = model.vocabulary.unwrap_or(0) as f64;
            let group = group as f64;
            let scores = tokens.min(sampled) as f64 * 4.0 * vocabulary / group;
            tokens as f64 * WORD_BYTES as f64 * (2.0 * d + f / group) + scores
        };
        // Batches are as large as their share of what is resident at most.
        let shares = scenario.batches.value.max(1);
        let tokens = match &scenario.load {
            Load::Fixed(Fixed {
                batch: At {
                    value: Some(batch), ..
                },
                ..
            }) => batch.div_ceil(shares),
            _ => steps.min(DEFAULT_STEP.max(scenario.step_tokens)),
        };
        let group = self.models.group;
        let room = step(tokens, group);
        let own = weights(&self.models)?.0.saturating_sub(moved(group)?.0);
        let filled = self
            .models
            .fill(scenario, model, Bytes(own), room, !offloads);
        problems.absorb(filled.map_err(Problems::from));
        let mut flags = Vec::new();
        // What is left of each device's memory, or as many blocks as the scenario says: in tokens, and in what requests
        // take.
        let mut held_in = |pool: &mut DevicePool, token: Bytes, room: &Room| {
            let layers = u128::from(self.layers.max(1));
            let own = u128::from(pool.stage_layers(self.layers).max(1));
            if let Some(blocks) = &pool.spec.kv_blocks {
                let tokens = blocks.value.saturating_mul(block);
                let bytes = token.0.saturating_mul(tokens.into());
                let bytes = Bytes(bytes.saturating_mul(own).div_ceil(layers));
                if bytes > pool.memory.cache {
                    let gb = |bytes: u128| bytes as f64 * 1e-9;
                    let (left, asked) = (pool.memory.cache.0, blocks.value);
                    flags.push(format!(
                        "{asked} blocks of keys and values take {:.1} GB of each {}, and its memory leaves {:.1} GB: {} blocks",
                        gb(bytes.0),
                        pool.device(),
                        gb(left),
                        (asked as f64 * left as f64 / bytes.0 as f64).floor(),
                    ));
                }
                pool.memory.cache = bytes;
            }
            // A stage keeps what its layers do: as much as all would keep in more room.
            let cache = Bytes(pool.memory.cache.0.saturating_mul(layers) / own);
            let tokens = u64::try_from(cache.0 / token.0.max(1)).unwrap_or(u64::MAX);
            let units = match room.plain() {
                true => tokens / block,
                false => room.units_in(cache),
            };
            let unused = match scenario.null_block {
                true => room.block(),
                false => 0,
            };
            (tokens, units.saturating_sub(unused))
        };
        let (room, stores) = match &mut self.attention {
            None => {
                let room = Room::new(model, group, block);
                let one = held_in(&mut self.models, cached(group)?, &room);
                (room, vec![one; self.models.replicas as usize])
            }
            Some(pool) => {
                let parts = match pool.spec.partition {
                    Partition::Heads => pool.count(),
                    Partition::Requests => 1,
                };
                let own = self
                    .kinds
                    .iter()
                    .map(|kind| kind.model.layer(1, 1).queries());
                let words = tokens as f64 * (3 * own.max().unwrap_or(0)) as f64;
                let filled = pool.fill(
                    scenario,
                    model,
                    moved(parts)?,
                    WORD_BYTES as f64 * words / parts as f64,
                    true,
                );
                problems.absorb(filled.map_err(Problems::from));
                let room = Room::new(model, parts, block);
                let one = held_in(pool, cached(parts)?, &room);
                let stores = match pool.spec.partition {
                    Partition::Heads => vec![one],
                    Partition::Requests => vec![one; pool.count() as usize],
                };
                (room, stores)
            }
        };
        if let Some(pool) = &mut self.prefill {
            let room = step(scenario.step_tokens, pool.group);
            let own = weights(pool)?;
            let filled = pool.fill(scenario, model, own, room, false);
            problems.absorb(filled.map_err(Problems::from));
        }
        (self.stores, self.units) = stores.into_iter().unzip();
        self.room = room;
        self.flags = flags;
        problems.into_result(Some(()))
    }
}
