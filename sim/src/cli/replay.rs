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
    objectives::{Load, Objectives, highest_load},
    offload::{
        System,
        serve::{Served, ServedRequest},
    },
    replay::{Replay, prepared, replay},
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
    let objectives = Objectives {
        first_token: arguments.ttft.map(Seconds),
        per_token: arguments.tpot.map(|ms| Seconds(ms * 1e-3)),
    };
    if arguments.find_load.is_some() && !objectives.any() {
        problems.push(
            Problem::nowhere("without an objective every load is good")
                .help("--ttft SECONDS, --tpot MILLISECONDS, or both"),
        );
    }
    if arguments.find_load.is_some() && arguments.format == Format::Csv {
        problems.push(
            Problem::nowhere("a CSV has a row for each request, and no place for a load")
                .help("--format table or json with --find-load"),
        );
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
        async_scheduling: arguments.async_scheduling,
        null_block: arguments.null_block,
        devices: (arguments.devices, arguments.link.as_deref().map(named)),
        hash_block: arguments.hash_block,
        shared_prefix: arguments.shared_prefix,
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
    let replayed = replayed.and_then(|(system, served)| {
        let searched = match arguments.find_load.filter(|_| !served.stopped) {
            None => None,
            Some(share) => {
                let (system, demand) = prepared(&scenario, &requests)?;
                let highest = highest_load(&system, &demand, &objectives, share, &bar)?;
                Some((share, highest))
            }
        };
        Ok((system, served, searched))
    });
    bar.0.finish_and_clear();
    let (system, served, searched) = replayed?;
    let found: Vec<ServedRequest> = served.by_request().collect();
    let goal = Goal {
        objectives,
        searched,
    };
    match arguments.format {
        Format::Csv => output::print(&csv(&found))?,
        Format::Json => output::json(&document(&system, &served, &found, &goal))?,
        Format::Table => output::print(&table(&system, &served, &found, &goal))?,
    }
    Ok(interrupt::code(served.stopped))
}

/// Objectives, and what a search for the highest load found: the share that it asks for, and the load, if there is one.
struct Goal {
    objectives: Objectives,
    searched: Option<(f64, Option<Load>)>,
}

impl Goal {
    /// Good requests: how many, of how many, and how many a second.
    fn good(&self, served: &Served, found: &[ServedRequest]) -> Option<(u64, u64, f64)> {
        let end = found.iter().map(|r| r.finish.0).fold(0.0, f64::max);
        let good = self.objectives.good(served);
        let rate = good as f64 / end.max(f64::MIN_POSITIVE);
        self.objectives
            .any()
            .then_some((good, served.requests, rate))
    }
}

/// The value below which a share of the sorted ones lies: the nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Times of all requests, ascending.
fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all
}

/// A row for each request.
pub(super) fn csv(found: &[ServedRequest]) -> String {
    let mut out = String::from("request,ttft_s,tpot_s,finish_s,latency_s\n");
    for r in found {
        let per_token = r.per_token.map_or(String::new(), |t| format!("{:.6}", t.0));
        out.push_str(&format!(
            "{},{:.6},{per_token},{:.6},{:.6}\n",
            r.request, r.first_token.0, r.finish.0, r.latency.0
        ));
    }
    out
}

/// Blocks of the only store.
fn blocks(system: &System) -> u64 {
    system.stores.iter().sum::<u64>() / system.scenario.block_size
}

fn document(
    system: &System,
    served: &Served,
    found: &[ServedRequest],
    goal: &Goal,
) -> serde_json::Value {
    let requests = found.iter().map(|r| {
        json!({
            "request": r.request,
            "ttft_s": r.first_token.0,
            "tpot_s": r.per_token.map(|t| t.0),
            "finish_s": r.finish.0,
            "latency_s": r.latency.0,
        })
    });
    let percentiles = |values: Vec<f64>| {
        json!({
            "p50": percentile(&values, 50),
            "p90": percentile(&values, 90),
            "p99": percentile(&values, 99),
        })
    };
    let mut out = json!({
        "kv_blocks": blocks(system),
        "block_size": system.scenario.block_size,
        "steps": served.account.totals.iterations,
        "preemptions": served.account.preemptions,
        "found_tokens": served.found.0,
        "ttft_s": percentiles(sorted(found.iter().map(|r| r.first_token.0))),
        "tpot_s": percentiles(sorted(found.iter().filter_map(|r| Some(r.per_token?.0)))),
        "latency_s": percentiles(sorted(found.iter().map(|r| r.latency.0))),
        "requests": requests.collect::<Vec<_>>(),
        "flags": served.flags,
    });
    if let Some((good, of, rate)) = goal.good(served, found) {
        out["good"] = json!({"requests": good, "of": of, "goodput_per_s": rate});
    }
    if let Some((share, load)) = &goal.searched {
        out["highest_load"] = json!({
            "wanted_share": share,
            "speed_up": load.map(|l| l.speed_up),
            "requests_per_s": load.map(|l| l.rate),
            "share": load.map(|l| l.share),
            "at_least": load.map(|l| l.at_least),
        });
    }
    out
}

fn table(system: &System, served: &Served, found: &[ServedRequest], goal: &Goal) -> String {
    // The sum of nothing is -0.
    let mean = |values: Vec<f64>| (0.0 + values.iter().sum::<f64>()) / values.len().max(1) as f64;
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
    if let (found @ 1.., all) = served.found {
        let percent = 100.0 * found as f64 / all.max(1) as f64;
        out.push_str(&format!(
            "found in the cache   {found} of {all} prompt tokens ({percent:.1} %)\n"
        ));
    }
    let mut spread = |name: &str, values: Vec<f64>, unit: &str, scale: f64, digits: usize| {
        let all = [50, 90, 99].map(|p| percentile(&values, p));
        if let [Some(a), Some(b), Some(c)] = all.map(|v| v.map(|v| v * scale)) {
            out.push_str(&format!(
                "{name}, p50 p90 p99 {a:.digits$} {b:.digits$} {c:.digits$} {unit}\n"
            ));
        }
    };
    spread(
        "first token",
        sorted(found.iter().map(|r| r.first_token.0)),
        "s",
        1.0,
        3,
    );
    let per = found.iter().filter_map(|r| Some(r.per_token?.0));
    spread("time per token", sorted(per), "ms", 1e3, 2);
    if let Some((good, of, rate)) = goal.good(served, found) {
        let percent = 100.0 * good as f64 / of.max(1) as f64;
        out.push_str(&format!(
            "good: {good} of {of} requests ({percent:.1} %), {rate:.3} a second\n"
        ));
    }
    match goal.searched {
        Some((share, Some(load))) => out.push_str(&format!(
            "highest load at which {:.1} % are good: {}{:.3} requests a second, {:.3} times the trace's\n",
            100.0 * share,
            if load.at_least { "at least " } else { "" },
            load.rate,
            load.speed_up
        )),
        Some((share, None)) => out.push_str(&format!(
            "at no load are {:.1} % good\n",
            100.0 * share
        )),
        None => {}
    }
    for flag in &served.flags {
        out.push_str(&format!("flag: {flag}\n"));
    }
    out
}
