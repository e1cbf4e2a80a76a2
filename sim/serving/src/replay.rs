//! A trace replayed on one device: a scenario of one pool, with prompts in chunks.

use std::fmt::Write;

use einflow_arch::device::{Device, devices};
use einflow_spec::{Problem, Problems, Source, quantity::Seconds};

use crate::offload::{
    Load, Scenario, System,
    serve::{Demand, Options, Served, Watch, serve, trace::Skip},
};

/// What the runtime takes of a device's memory, in bytes: beside Llama-3-8B's weights and the activations of a step it
/// leaves a server on 24 564 MiB 2585 blocks, and a recorded one had 2588 (validation/data/serving).
const RESERVED: u64 = 1_359_000_000;

/// What is replayed, and on what.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The trace, as a scenario names it.
    pub trace: String,
    /// The device: a name, or a path.
    pub device: String,
    /// The model: a name, or a path.
    pub model: String,
    /// Blocks of the KV cache; what fits beside the weights where none is given.
    pub kv_blocks: Option<u64>,
    /// Tokens of a block.
    pub block_size: u64,
    /// Tokens of a step.
    pub step_tokens: u64,
    /// Requests that run at once.
    pub sequences: u64,
    /// Whether blocks that were given back are found again while nobody has taken them.
    pub prefix_caching: bool,
    /// Whether a request is admitted only where its whole prompt has room.
    pub reserve_prompts: bool,
    /// Whether a step is planned while the one before it runs.
    pub async_scheduling: bool,
    /// Whether one block of the KV cache holds nothing.
    pub null_block: bool,
    /// What the host adds to each step.
    pub host_overhead: Seconds,
    /// Requests that are left out.
    pub skip: Vec<Skip>,
    /// Columns of the trace: which, and its name there.
    pub columns: Vec<(String, String)>,
    /// How many times as fast as the trace says requests come.
    pub speed_up: f64,
    /// Tokens that each of the trace's block hashes stands for.
    pub hash_block: Option<u64>,
    /// The share of each prompt with which all begin.
    pub shared_prefix: Option<f64>,
    /// Devices that share each layer, and the link between them.
    pub devices: (u64, Option<String>),
}

impl Replay {
    /// The scenario, as a file.
    ///
    /// # Errors
    /// A device that is not there, and every mistake in its file.
    pub fn scenario(&self) -> Result<Source, Problems> {
        let (source, _) = devices().find(&self.device, None)?;
        // A replay asks for no price; a scenario has one, and says that nobody gave it.
        let price = match Device::parse(&source)?.price {
            Some(_) => "",
            None => ", source: \"the price: assumed, the device's file has none\", price: 1",
        };
        let blocks = self
            .kv_blocks
            .map_or(String::new(), |n| format!(", kv_blocks: {n}"));
        let mut load = String::new();
        if !self.skip.is_empty() {
            let names: Vec<&str> = self.skip.iter().map(|s| s.name()).collect();
            load.push_str(&format!(", skip: [{}]", names.join(", ")));
        }
        if !self.columns.is_empty() {
            let named = self
                .columns
                .iter()
                .map(|(of, name)| format!("{of}: {name:?}"));
            let named: Vec<String> = named.collect();
            load.push_str(&format!(", columns: ({})", named.join(", ")));
        }
        if self.speed_up != 1.0 {
            load.push_str(&format!(", speed_up: {:?}", self.speed_up));
        }
        if let Some(tokens) = self.hash_block {
            load.push_str(&format!(", hash_block: {tokens}"));
        }
        if let Some(share) = self.shared_prefix {
            load.push_str(&format!(", shared_prefix: {share:?}"));
        }
        let (devices, link) = &self.devices;
        let link = link
            .as_ref()
            .map_or(String::new(), |link| format!(", link: {link:?}"));
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write!(
            text,
            r#"(
  name: "replay",
  source: "the command line",
  model: {:?},
  pools: {{ "all": (role: all, device: {:?}, count: {devices}{link}, reserved: "{RESERVED} B"{blocks}{price}) }},
  host_overhead: "{:?} s",
  sequences: {},
  block_size: {},
  prefix_caching: {},
  reserve_prompts: {},
  async_scheduling: {},
  null_block: {},
  load: (trace: {:?}, arrivals: true{load}),
  prefill: chunked,
  step_tokens: {},
)
"#,
            self.model,
            self.device,
            self.host_overhead.0,
            self.sequences,
            self.block_size,
            self.prefix_caching,
            self.reserve_prompts,
            self.async_scheduling,
            self.null_block,
            self.trace,
            self.step_tokens,
        );
        Ok(Source::new("replay", text))
    }
}

/// A trace that was read, and the system that it is for.
///
/// # Errors
/// Every mistake in the files that the scenario names, and in the trace.
pub fn prepared(scenario: &Source, requests: &Source) -> Result<(System, Demand), Problems> {
    let mut problems = Problems::new();
    let scenario = Scenario::parse(scenario, None)?;
    let Load::Trace(load) = &scenario.load else {
        return Err(Problem::nowhere("a replay is of a trace").into());
    };
    let demand = problems.absorb(Demand::of(&scenario, load, requests));
    let system = problems.absorb(System::new(scenario));
    problems.into_result(Some(()))?;
    let (Some(demand), Some(system)) = (demand, system) else {
        return Err(Problems::new());
    };
    let demand = demand.on(&system)?;
    Ok((system, demand))
}

/// Serves a trace that was read.
///
/// # Errors
/// As [`prepared`]; a request that the KV cache cannot hold.
pub fn replay(
    scenario: &Source,
    requests: &Source,
    watch: &dyn Watch,
) -> Result<(System, Served), Problems> {
    let (system, demand) = prepared(scenario, requests)?;
    let mut served = serve(&system, &demand, Options::default(), watch)?;
    served.flags.extend(demand.left_out());
    Ok((system, served))
}
