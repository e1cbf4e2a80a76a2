//! `replay`.

use std::path::Path;

use einflow_spec::{Problem, Problems, Source, files, quantity::Seconds};
use serde_json::json;

use super::{
    args::{Format, ReplayArguments},
    interrupt,
    offload::Bar,
    output,
};
use einflow_serving::{
    offload::{
        System,
        serve::{Served, ServedRequest},
    },
    replay::{Replay, replay},
};

/// As a scenario has it: a file by its whole path, or a name.
fn named(given: &str) -> String {
    let path = Path::new(given);
    let whole = path.is_file().then(|| std::path::absolute(path).ok());
    whole
        .flatten()
        .map_or(given.to_string(), |p| p.display().to_string())
}

/// Serves a trace.
pub fn replayed(arguments: &ReplayArguments) -> Result<u8, Problems> {
    let mut problems = Problems::new();
    let name = arguments.requests.display().to_string();
    let requests = files::read_text(&arguments.requests).map_err(Problems::from);
    let requests = problems.absorb(requests.map(|text| Source::new(name.clone(), text)));
    if !(arguments.host_overhead.is_finite() && arguments.host_overhead >= 0.0) {
        problems.push(Problem::nowhere(format!(
            "a host overhead of {} us",
            arguments.host_overhead
        )));
    }
    let scenario = Replay {
        trace: named(&name),
        device: named(&arguments.device),
        model: named(&arguments.model),
        kv_blocks: arguments.kv_blocks,
        block_size: arguments.block_size,
        step_tokens: arguments.step_tokens,
        sequences: arguments.sequences,
        prefix_caching: arguments.prefix_caching,
        reserve_prompts: arguments.reserve_prompts,
        host_overhead: Seconds(arguments.host_overhead * 1e-6),
        skip: arguments.skip.clone(),
        columns: arguments.columns.clone(),
        speed_up: arguments.speed_up,
    }
    .scenario();
    let scenario = problems.absorb(scenario);
    problems.into_result(Some(()))?;
    let (Some(requests), Some(scenario)) = (requests, scenario) else {
        return Err(Problems::new());
    };
    if let Some(path) = &arguments.save {
        std::fs::write(path, scenario.text())
            .map_err(|e| Problem::nowhere(format!("cannot write {}: {e}", path.display())))?;
    }
    interrupt::remember();
    let bar = Bar::new();
    let replayed = replay(&scenario, &requests, &bar);
    bar.0.finish_and_clear();
    let (system, served) = replayed?;
    let found: Vec<ServedRequest> = served.by_request().collect();
    match arguments.format {
        Format::Csv => output::print(&csv(&found))?,
        Format::Json => output::json(&document(&system, &served, &found))?,
        Format::Table => output::print(&table(&system, &served, &found))?,
    }
    Ok(interrupt::code(served.stopped))
}

/// A row for each request.
pub(super) fn csv(found: &[ServedRequest]) -> String {
    let mut out = String::from("request,ttft_s,tpot_s,finish_s\n");
    for r in found {
        let per_token = r.per_token.map_or(String::new(), |t| format!("{:.6}", t.0));
        out.push_str(&format!(
            "{},{:.6},{per_token},{:.6}\n",
            r.request, r.first_token.0, r.finish.0
        ));
    }
    out
}

/// Blocks of the only store.
fn blocks(system: &System) -> u64 {
    system.stores.iter().sum::<u64>() / system.scenario.block_size
}

fn document(system: &System, served: &Served, found: &[ServedRequest]) -> serde_json::Value {
    let requests = found.iter().map(|r| {
        json!({
            "request": r.request,
            "ttft_s": r.first_token.0,
            "tpot_s": r.per_token.map(|t| t.0),
            "finish_s": r.finish.0,
        })
    });
    json!({
        "kv_blocks": blocks(system),
        "block_size": system.scenario.block_size,
        "steps": served.account.totals.iterations,
        "preemptions": served.account.preemptions,
        "requests": requests.collect::<Vec<_>>(),
        "flags": served.flags,
    })
}

fn table(system: &System, served: &Served, found: &[ServedRequest]) -> String {
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let first = mean(found.iter().map(|r| r.first_token.0).collect());
    let per = mean(found.iter().filter_map(|r| Some(r.per_token?.0)).collect());
    let latency = mean(found.iter().map(|r| r.latency.0).collect());
    let end = found.iter().map(|r| r.finish.0).fold(0.0, f64::max);
    let tokens = served.account.totals.tokens;
    let mut out = format!(
        "{} requests served in {} steps, {} blocks of {} tokens, {} preemptions\n\
         first token, mean    {first:.3} s\n\
         time per token, mean {:.2} ms\n\
         latency, mean        {latency:.3} s\n\
         the last finishes at {end:.3} s: {:.0} tokens/s\n",
        found.len(),
        served.account.totals.iterations,
        blocks(system),
        system.scenario.block_size,
        served.account.preemptions,
        1e3 * per,
        tokens as f64 / end.max(f64::MIN_POSITIVE),
    );
    for flag in &served.flags {
        out.push_str(&format!("flag: {flag}\n"));
    }
    out
}
