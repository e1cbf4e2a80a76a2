//! A trace served by a device: when each request gets its tokens.

use einflow_spec::{Problem, quantity::Seconds};

use super::{
    schedule::{Policy, Scheduler},
    step::StepModel,
    trace::Arrival,
};

/// One served request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Which request, from 0.
    pub request: usize,
    /// From its arrival to its first token.
    pub first_token: Seconds,
    /// Between two tokens, the mean; none with a single token.
    pub per_token: Option<Seconds>,
    /// When its last token came, after the trace's begin.
    pub finish: Seconds,
}

/// A replayed trace.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Every request, in order of arrival.
    pub served: Vec<Served>,
    /// Steps that the server made.
    pub steps: u64,
    /// How often a request was preempted.
    pub preemptions: u64,
}

/// Serves a trace. `overhead`: what the host adds to each step.
///
/// # Errors
/// A request that the KV cache cannot hold, by its number; a step that the device cannot answer.
pub fn replay(
    requests: &[Arrival],
    policy: Policy,
    model: &StepModel,
    overhead: Seconds,
) -> Result<Replayed, Problem> {
    let mut scheduler = Scheduler::new(policy);
    let mut first: Vec<Option<f64>> = vec![None; requests.len()];
    let mut finish: Vec<Option<f64>> = vec![None; requests.len()];
    let (mut now, mut next, mut steps) = (0.0_f64, 0, 0u64);
    loop {
        while let Some(request) = requests.get(next).filter(|r| r.at.0 <= now) {
            if !scheduler.arrive(request.prompt, request.generated) {
                let held = policy.blocks.saturating_mul(policy.block);
                return Err(Problem::nowhere(format!(
                    "request {next} (row {}) needs {} tokens of KV cache, and there are {held}",
                    request.row,
                    request.prompt + request.generated - 1
                ))
                .help("more blocks (--kv-blocks), or a trace without it"));
            }
            next += 1;
        }
        if scheduler.idle() {
            match requests.get(next) {
                Some(request) => now = request.at.0,
                None => break,
            }
            continue;
        }
        let parts = scheduler.step();
        if parts.is_empty() {
            // All were preempted: the next step starts with the first of them.
            continue;
        }
        now += model.time(&parts)?.0 + overhead.0;
        steps += 1;
        for (request, last) in scheduler.done(&parts) {
            first[request].get_or_insert(now);
            if last {
                finish[request] = Some(now);
            }
        }
    }
    let served = requests.iter().enumerate().filter_map(|(i, request)| {
        let (first, finish) = (first[i]?, finish[i]?);
        let others = request.generated.saturating_sub(1);
        Some(Served {
            request: i,
            first_token: Seconds(first - request.at.0),
            per_token: (others > 0).then(|| Seconds((finish - first) / others as f64)),
            finish: Seconds(finish),
        })
    });
    Ok(Replayed {
        served: served.collect(),
        steps,
        preemptions: scheduler.preemptions,
    })
}
