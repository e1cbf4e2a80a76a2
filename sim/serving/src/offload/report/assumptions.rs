//! What a result rests on, in words.

use einflow_arch::device::Times;

use super::super::{
    Partition, System,
    scenario::{Admission, Load, Prefill},
    serve::Served,
};

pub(super) fn assumptions(system: &System, served: &Served) -> Vec<String> {
    let scenario = &system.scenario;
    let attends = system.attends();
    let lengths = match &attends.answerer.device.times {
        _ if attends.steps.is_some() => "takes what as many of their mean length take",
        Times::Accelerator(_) => "takes what each of them takes",
        _ => "takes what its kernel does with their lengths",
    };
    let mut out = vec![
        format!("attention of requests of different lengths {lengths}"),
        "looking up and sampling tokens takes no time".to_string(),
    ];
    for pool in system.pools() {
        let spec = &pool.spec;
        out.push(format!(
            "{}: {} {} at {:.2} $/h each, {:.0} % of memory, {:.1} GB of it for the runtime",
            spec.name,
            pool.count(),
            pool.device(),
            pool.price.0,
            100.0 * spec.memory_utilization,
            spec.reserved.0 as f64 * 1e-9
        ));
        let device = &pool.answerer.device;
        if matches!(device.times, Times::Accelerator(_)) {
            out.push(format!(
                "{}: {} {}",
                spec.name, device.description, device.cited
            ));
            out.push(format!(
                "{}: one sequence after another, by the {} engine",
                spec.name,
                spec.engine.name()
            ));
        }
        if let Some(bandwidth) = &spec.bandwidth {
            out.push(format!(
                "{}: memory of {:.2} TB/s in place of the device's",
                spec.name,
                bandwidth.value.0 * 1e-12
            ));
        }
    }
    out.push("links and hosts draw nothing".to_string());
    if system.models.replicas > 1 && system.attention.is_some() {
        out.push("the residual stream goes from replica to replica while attention runs: it takes no time".to_string());
    }
    if system.attention.is_some() {
        let how = match system.attends().spec.partition {
            Partition::Heads => "by heads",
            Partition::Requests => "by requests, each to the device with the most room",
        };
        let ahead = match scenario.overlap {
            true => "; queries travel first, old tokens are attended meanwhile",
            false => "",
        };
        out.push(format!("attention is divided {how}{ahead}"));
        out.push(
            "a message takes as long as that of the device that sends or receives the most".into(),
        );
    }
    out.push(match scenario.host_overhead.0 {
        0.0 => "the host takes no time".to_string(),
        time => format!(
            "{} takes {:.1} ms for each iteration of a batch, one batch at a time{}",
            match system.hosts() {
                1 => "the host".to_string(),
                hosts => format!("each of {hosts} hosts"),
            },
            time * 1e3,
            match scenario.async_scheduling {
                true => ", while the one before it runs",
                false => "",
            }
        ),
    });
    out.push(match scenario.prefill.value {
        Prefill::Excluded => "prompts are computed elsewhere: neither their time nor their cost is in here".to_string(),
        Prefill::Pool => format!("prompts are computed on a pool of their own, {} tokens a step; finished ones wait there without limit", scenario.step_tokens),
        Prefill::Chunked => format!("prompts are computed with the decodes, {} tokens a step", scenario.step_tokens),
    });
    match &scenario.load {
        Load::Fixed(_) => {
            out.push("the same requests all the time, of the same length".to_string())
        }
        Load::Trace(trace) => {
            out.push(
                match scenario.admission {
                    _ if scenario.policy.says.is_some() => scenario.policy.says.unwrap_or_default(),
                    Admission::Reserve => "a request is admitted where its final length fits",
                    Admission::Grow if scenario.reserve_prompts => {
                        "a request is admitted where its whole prompt fits; the newest gives way"
                    }
                    Admission::Grow => {
                        "a request is admitted where its present length fits; the newest gives way"
                    }
                }
                .to_string(),
            );
            if !trace.arrivals {
                out.push(
                    "all requests are there at the start; rates are of the time in which some wait"
                        .to_string(),
                );
            }
        }
    }
    out.extend(served.assumed.iter().cloned());
    out
}
