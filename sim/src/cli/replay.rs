//! `replay`.

use einflow_arch::device::Device;
use einflow_spec::{Problem, Problems, Source, quantity::Seconds};
use einflow_workloads::models::Model;
use serde_json::json;

use super::{
    args::{Format, ReplayArguments},
    output,
};
use einflow_serving::{
    device::Answerer,
    replay::{
        Policy, Replayed, replay,
        step::{ServerTables, StepModel},
        trace,
    },
};

/// The share of a device's memory that a server takes, as vLLM does unless told otherwise.
const MEMORY_SHARE: f64 = 0.9;
/// Of that, what activations, graphs and the runtime take; assumed, near what is left of 24 GiB beside Llama-3-8B and the 2588 blocks of a
/// recorded server (validation/data/serving).
const RESERVED: f64 = 1.7e9;
/// Bytes of a word.
const WORD: f64 = 2.0;

/// Blocks of the KV cache that fit beside a model's weights.
fn blocks(device: &Device, model: &Model, block: u64) -> Result<u64, Problem> {
    let unknown = || {
        Problem::nowhere(format!(
            "the model {} has no layers or no vocabulary",
            model.name
        ))
        .help("give `layers` and `vocabulary` in its file, or --kv-blocks")
    };
    let weights = model.weights().ok_or_else(unknown)? as f64 * WORD;
    let cached = model.cache_words().ok_or_else(unknown)? as f64 * WORD;
    let left = MEMORY_SHARE * device.chip.memory.0 as f64 - weights - RESERVED;
    let blocks = (left / (cached * block as f64)).floor();
    if blocks < 1.0 {
        return Err(Problem::nowhere(format!(
            "{} does not fit on {}: {:.1} GB of weights, {:.1} GB of {:.1} GB for them and the KV cache",
            model.name,
            device.name,
            weights * 1e-9,
            MEMORY_SHARE * device.chip.memory.0 as f64 * 1e-9 - RESERVED * 1e-9,
            device.chip.memory.0 as f64 * 1e-9
        ))
        .help("a device with more memory, or a smaller model"));
    }
    Ok(blocks as u64)
}

/// Serves a trace.
pub fn replayed(arguments: &ReplayArguments) -> Result<u8, Problems> {
    let mut problems = Problems::new();
    let name = arguments.requests.display().to_string();
    let requests = std::fs::read_to_string(&arguments.requests)
        .map_err(|e| Problem::nowhere(format!("cannot read {name}: {e}")).into())
        .and_then(|text| trace::read(&Source::new(name, text)));
    let requests = problems.absorb(requests);
    let answerer = problems.absorb(Answerer::load(&arguments.device, None));
    let model = problems.absorb(Model::load(&arguments.model, None));
    if !(arguments.host_overhead.is_finite() && arguments.host_overhead >= 0.0) {
        problems.push(Problem::nowhere(format!(
            "a host overhead of {} us",
            arguments.host_overhead
        )));
    }
    problems.into_result(Some(()))?;
    let (Some(requests), Some(answerer), Some(model)) = (requests, answerer, model) else {
        return Err(Problems::new());
    };
    let derived = match arguments.kv_blocks {
        Some(given) => given,
        None => blocks(&answerer.device, &model, arguments.block_size)?,
    };
    let policy = Policy {
        tokens: arguments.step_tokens,
        sequences: usize::try_from(arguments.sequences).unwrap_or(usize::MAX),
        block: arguments.block_size,
        blocks: derived,
        reuse: arguments.prefix_caching,
    };
    let tables = answerer.device.servers.get(&model.name).cloned();
    let steps = match tables {
        Some(folder) => {
            let layers = model.layers.unwrap_or(1);
            StepModel::Measured(Box::new(ServerTables::load(&folder, layers)?))
        }
        None => StepModel::Kernels(Box::new((answerer, model))),
    };
    let overhead = Seconds(arguments.host_overhead * 1e-6);
    let found = replay(&requests, policy, &steps, overhead)?;
    match arguments.format {
        Format::Csv => output::print(&csv(&found))?,
        Format::Json => output::json(&document(&found, policy))?,
        Format::Table => output::print(&table(&found, &requests, policy))?,
    }
    Ok(0)
}

fn csv(found: &Replayed) -> String {
    let mut out = String::from("request,ttft_s,tpot_s,finish_s\n");
    for r in &found.served {
        let per_token = r.per_token.map_or(String::new(), |t| format!("{:.6}", t.0));
        out.push_str(&format!(
            "{},{:.6},{per_token},{:.6}\n",
            r.request, r.first_token.0, r.finish.0
        ));
    }
    out
}

fn document(found: &Replayed, policy: Policy) -> serde_json::Value {
    let requests = found.served.iter().map(|r| {
        json!({
            "request": r.request,
            "ttft_s": r.first_token.0,
            "tpot_s": r.per_token.map(|t| t.0),
            "finish_s": r.finish.0,
        })
    });
    json!({
        "kv_blocks": policy.blocks,
        "block_size": policy.block,
        "steps": found.steps,
        "preemptions": found.preemptions,
        "requests": requests.collect::<Vec<_>>(),
    })
}

fn table(found: &Replayed, requests: &[trace::Arrival], policy: Policy) -> String {
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let first = mean(found.served.iter().map(|r| r.first_token.0).collect());
    let per = mean(
        found
            .served
            .iter()
            .filter_map(|r| r.per_token.map(|t| t.0))
            .collect(),
    );
    let latency = mean(
        found
            .served
            .iter()
            .map(|r| r.finish.0 - requests[r.request].at.0)
            .collect(),
    );
    let end = found.served.iter().map(|r| r.finish.0).fold(0.0, f64::max);
    let tokens: u64 = requests.iter().map(|r| r.generated).sum();
    format!(
        "{} requests served in {} steps, {} blocks of {} tokens, {} preemptions\n\
         first token, mean    {first:.3} s\n\
         time per token, mean {:.2} ms\n\
         latency, mean        {latency:.3} s\n\
         the last finishes at {end:.3} s: {:.0} tokens/s\n",
        found.served.len(),
        found.steps,
        policy.blocks,
        policy.block,
        found.preemptions,
        1e3 * per,
        tokens as f64 / end.max(f64::MIN_POSITIVE),
    )
}
