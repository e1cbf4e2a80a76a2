//! Reports of scenarios as JSON.

use serde_json::{Map, Value, json};

use einflow_serving::offload::{
    Report,
    report::{PoolMemory, Quantiles},
    values::Checked,
};

pub fn check_document(checked: &Checked) -> Value {
    json!({
        "f64": {
            "difference": checked.f64.difference,
            "bound": checked.f64.bound,
            "holds": checked.f64.holds(),
        },
        "bf16": {"difference": checked.bf16.difference},
        "apart": checked.apart,
    })
}

fn quantiles(times: Option<Quantiles>) -> Value {
    times.map_or(
        Value::Null,
        |t| json!({"p50": t.p50, "p90": t.p90, "p99": t.p99, "mean": t.mean}),
    )
}

fn memory(pool: &PoolMemory) -> Value {
    let gb = |bytes: einflow_spec::quantity::Bytes| bytes.0 as f64 * 1e-9;
    json!({
        "pool": pool.pool,
        "device": pool.device,
        "count": pool.count,
        "total_gb": gb(pool.each.total),
        "usable_gb": gb(pool.each.usable),
        "weights_gb": gb(pool.each.weights),
        "activations_gb": gb(pool.each.activations),
        "reserved_gb": gb(pool.each.reserved),
        "cache_gb": gb(pool.each.cache),
    })
}

/// The report as JSON.
pub fn document(r: &Report) -> Value {
    let devices = r.devices.iter().map(|d| {
        let operators: Map<String, Value> = d
            .by_operator
            .iter()
            .map(|(name, share)| (name.to_string(), json!(share)))
            .collect();
        json!({
            "name": d.name,
            "device": d.device,
            "utilization": d.utilization,
            "by_operator": operators,
        })
    });
    let links = r.links.iter().map(|l| {
        json!({
            "name": l.name,
            "bytes": l.bytes,
            "utilization": l.utilization,
            "peak_gb_per_s": l.peak_gb_per_s,
        })
    });
    let breakdown: Map<String, Value> = r
        .breakdown
        .iter()
        .map(|(name, ms)| (name.to_string(), json!(ms)))
        .collect();
    let needed = r.needed.map_or(Value::Null, |n| {
        json!({
            "slowdown": n.slowdown,
            "aggregate_gb_per_s": n.aggregate,
            "larger_direction_gb_per_s": n.duplex,
            "per_model_device_gb_per_s": n.per_model_device,
            "per_attention_device_gb_per_s": n.per_attention_device,
        })
    });
    let balance = r.balance.map_or(Value::Null, |b| {
        json!({
            "batches": b.batches,
            "model_us": b.model,
            "attention_us": b.attention,
            "messages_us": b.messages,
            "host_us": b.host,
            "layer_us": b.layer,
            "balanced_attention_us": b.balanced,
        })
    });
    let over_time = r.batch_over_time.iter().map(|(s, n)| json!([s, n]));
    json!({
        "name": r.name,
        "description": r.description,
        "model": r.model,
        "window_s": r.window_s,
        "saturated": r.saturated,
        "throughput_tokens_per_s": r.throughput,
        "mean_batch": r.mean_batch,
        "mean_context": r.mean_context,
        "batch_over_time": over_time.collect::<Vec<_>>(),
        "time_between_tokens_ms": quantiles(r.between),
        "time_between_tokens_by_part_ms": breakdown,
        "first_token_ms": quantiles(r.first),
        "devices": devices.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "bandwidth_needed": needed,
        "memory": r.memory.iter().map(memory).collect::<Vec<_>>(),
        "cache_tokens": {"capacity": r.capacity.0, "peak_of_a_store": r.capacity.1},
        "cost": {
            "dollars_per_hour": r.dollars_per_hour,
            "tokens_per_dollar": r.tokens_per_dollar,
            "dollars_per_million_tokens": 1e6 / r.tokens_per_dollar,
        },
        "energy_j_per_token": r.joules_per_token,
        "bound_by": r.bound_by,
        "balance": balance,
        "tokens": {"generated": r.tokens.0, "wanted": r.tokens.1},
        "requests": {"finished": r.requests.0, "wanted": r.requests.1},
        "preemptions": r.preemptions,
        "assumptions": r.assumptions,
        "flags": r.flags,
    })
}
