//! A trace replayed on one device: a scenario of one pool, with prompts in chunks.

use std::fmt::Write;

use einflow_arch::device::{Device, devices};
use einflow_spec::{Problems, Source, quantity::Seconds};

use crate::offload::{
    Scenario, System,
    serve::{Demand, Options, Served, Watch, serve, trace},
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
    /// Whether a preempted request finds those of its blocks that nobody has taken.
    pub prefix_caching: bool,
    /// Whether a request is admitted only where its whole prompt has room.
    pub reserve_prompts: bool,
    /// What the host adds to each step.
    pub host_overhead: Seconds,
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
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write!(
            text,
            r#"(
  name: "replay",
  source: "the command line",
  model: {:?},
  pools: {{ "all": (role: all, device: {:?}, count: 1, reserved: "{RESERVED} B"{blocks}{price}) }},
  host_overhead: "{:?} s",
  sequences: {},
  block_size: {},
  prefix_caching: {},
  reserve_prompts: {},
  load: (trace: {:?}, arrivals: true),
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
            self.trace,
            self.step_tokens,
        );
        Ok(Source::new("replay", text))
    }
}

/// Serves a trace that was read.
///
/// # Errors
/// Every mistake in the files that the scenario names; a request that the KV cache cannot hold.
pub fn replay(
    scenario: &Source,
    requests: &Source,
    watch: &dyn Watch,
) -> Result<(System, Served), Problems> {
    let mut problems = Problems::new();
    let list = problems.absorb(trace::read(requests));
    let system = problems.absorb(Scenario::parse(scenario, None).and_then(System::new));
    problems.into_result(Some(()))?;
    let (Some(list), Some(system)) = (list, system) else {
        return Err(Problems::new());
    };
    let demand = Demand::Requests {
        list,
        arrivals: true,
        left_out: None,
        source: requests.clone(),
    };
    let served = serve(&system, &demand, Options::default(), watch)?;
    Ok((system, served))
}
