use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    account::{Account, Activity},
    checked::{Check, Errors, Reference},
    data::Report,
};

/// A whole number as JSON, exactly.
pub fn whole(value: u128) -> Value {
    // The number type keeps the digits as they are.
    serde_json::from_str(&value.to_string()).unwrap_or(Value::Null)
}

impl Report {
    /// The report as one JSON object; integers are written exactly.
    pub fn to_json(&self) -> Value {
        let (read, write, total) = self.dram_bytes();
        let mut utilization = Map::new();
        let mut by_einsum = Map::new();
        for unit in self.units.keys() {
            utilization.insert(unit.clone(), json!(self.utilization(unit)));
            by_einsum.insert(unit.clone(), json!(self.utilization_by_einsum(unit)));
        }
        let mut traffic = Map::new();
        for (memory, tensors) in &self.traffic {
            let cells: Map<String, Value> = tensors
                .iter()
                .map(|(tensor, a)| {
                    (tensor.clone(), json!({"read": whole(a.reads.rounded()), "write": whole(a.writes.rounded())}))
                })
                .collect();
            traffic.insert(memory.clone(), Value::Object(cells));
        }
        let occupancy: Map<String, Value> = self
            .occupancy
            .iter()
            .map(|(m, b)| (m.clone(), whole(*b)))
            .collect();
        let mut areas = Map::new();
        for item in &self.area {
            areas.insert(item.component.clone(), json!(item.count as f64 * item.area));
        }
        let blocks: Vec<Value> = self
            .blocks
            .iter()
            .map(|b| {
                let memory: Map<String, Value> = b
                    .memory
                    .iter()
                    .map(|(m, t)| (m.clone(), json!(t.as_f64() / self.clock)))
                    .collect();
                json!({
                    "name": b.name,
                    "seconds": b.time.as_f64() / self.clock,
                    "compute_cycles": whole(b.compute),
                    "compute_seconds": b.compute as f64 / self.clock,
                    "memory_seconds": memory,
                    "bottleneck": b.bottleneck,
                })
            })
            .collect();
        let mut inputs = Map::new();
        inputs.insert("workload".into(), json!(self.inputs.workload));
        inputs.insert("model".into(), json!(self.inputs.model));
        inputs.insert("length".into(), json!(self.inputs.length));
        inputs.insert("accelerator".into(), json!(self.inputs.accelerator));
        inputs.insert("mapping".into(), json!(self.inputs.mapping));
        inputs.insert("engine".into(), json!(self.inputs.engine));
        if !self.inputs.set.is_empty() {
            let set: Map<String, Value> = self
                .inputs
                .set
                .iter()
                .map(|(path, value)| (path.clone(), json!(value)))
                .collect();
            inputs.insert("set".into(), Value::Object(set));
        }
        for (name, size) in &self.inputs.sizes {
            inputs.insert(name.clone(), json!(size));
        }
        if !self.inputs.block_sizes.is_empty() {
            let blocks = self.inputs.block_sizes.iter();
            let blocks: Map<String, Value> = blocks
                .map(|(block, sizes)| (block.clone(), json!(sizes)))
                .collect();
            inputs.insert("sizes_by_block".into(), Value::Object(blocks));
        }
        if !self.inputs.overridden.is_empty() {
            let defaults = self.inputs.overridden.iter();
            let defaults: Map<String, Value> = defaults
                .map(|o| (o.name.clone(), json!(o.default)))
                .collect();
            inputs.insert("defaults_overridden".into(), Value::Object(defaults));
        }
        let mut report = json!({
            "cycles": whole(self.cycles()),
            "seconds": self.seconds(),
            "dram_bytes": {"read": whole(read), "write": whole(write), "total": whole(total)},
            "energy_pj": {"total": self.energy_pj(), "by_component": self.energy_by_component()},
            "area_um2": self.area_um2(),
            "area": {
                "arrays_um2": self.array_area_um2(None),
                "by_array_um2": self.units.keys().map(|u| (u.clone(), json!(self.array_area_um2(Some(u))))).collect::<Map<_, _>>(),
                "by_component_um2": areas,
            },
            "utilization": utilization,
            "utilization_by_einsum": by_einsum,
            "traffic": traffic,
            "occupancy_bytes": occupancy,
            "bottleneck": self.bottleneck(),
            "compute_seconds": self.compute_seconds(),
            "memory_seconds": self.memory_seconds(),
            "lower_bound": {
                "compute_seconds": self.lower_bound.compute_seconds,
                "dram_bytes": whole(self.lower_bound.dram_bytes),
            },
            "blocks": blocks,
            "uncharged": self.uncharged,
            "inputs": inputs,
        });
        if let (Some(account), Some(fields)) = (&self.account, report.as_object_mut()) {
            fields.insert("account".into(), account.to_json());
        }
        if let (Some(check), Some(fields)) = (&self.check, report.as_object_mut()) {
            fields.insert("check".into(), checked(check));
        }
        report
    }
}

/// A whole number of either sign as JSON, exactly.
fn signed(value: i128) -> Value {
    serde_json::from_str(&value.to_string()).unwrap_or(Value::Null)
}

fn checked(check: &Check) -> Value {
    let errors = |e: &Errors| json!({"max_absolute": e.max_abs, "max_relative": e.max_rel});
    let reference = |r: Reference| match r {
        Reference::Attention => "softmax attention",
        Reference::Interpreter => "interpreter in f64",
    };
    let mut miniature = match &check.miniature {
        Err(error) => json!({"error": error.to_string()}),
        Ok(m) => json!({
            "sizes": m.sizes,
            "arrays": m.arrays.iter().map(|(n, r, c)| (n.clone(), json!([r, c]))).collect::<Map<_, _>>(),
            "format": m.formats.0.name(),
            "accumulator": m.formats.1.name(),
            "reference": reference(m.reference),
            "error": errors(&m.errors),
            "error_with_listed_functions": m.as_listed.as_ref().map(errors),
            "equals_interpreter": m.as_interpreted,
            "cycles_array": m.cycles.0,
            "cycles_cycle": m.cycles.1,
        }),
    };
    if let (Ok(m), Some(fields)) = (&check.miniature, miniature.as_object_mut())
        && !m.toothless.is_empty()
    {
        fields.insert("not_checked".into(), json!(m.toothless));
    }
    let mut real = check.real_length.as_ref().map(|r| match r {
        Err(error) => json!({"error": error.to_string()}),
        Ok(r) => json!({
            "length": r.length,
            "E": r.e,
            "F": r.f,
            "format": r.format.name(),
            "accumulator": r.accumulator.name(),
            "reference": reference(r.reference),
            "error": {"max_absolute": r.max_abs_error, "max_relative": r.max_rel_error},
            "error_with_exact_functions": errors(&r.exact_exponential),
            "stagnation": r.stagnation.as_ref().map(|s| json!({
                "tensor": s.tensor,
                "first_lost_key": s.key,
                "nothing_added_from_key": s.stopped,
                "lost": s.lost,
                "increments": s.steps,
                "relative_error": s.relative_error,
                "cure": s.cure.map(|f| f.name()),
            })),
        }),
    });
    if let (Some(Ok(r)), Some(fields)) = (
        &check.real_length,
        real.as_mut().and_then(Value::as_object_mut),
    ) && let Some(mask) = &r.mask
    {
        fields.insert("query".into(), json!(mask.query));
        fields.insert("keys_seen".into(), json!(mask.keys));
    }
    json!({"miniature": miniature, "real_length": real})
}

impl Account {
    fn to_json(&self) -> Value {
        let unit = |activities: &IndexMap<Activity, u128>| -> Map<String, Value> {
            activities
                .iter()
                .map(|(activity, cycles)| (activity.text(), whole(*cycles)))
                .collect()
        };
        let units: Map<String, Value> = self
            .units
            .iter()
            .map(|(name, activities)| (name.clone(), Value::Object(unit(activities))))
            .collect();
        let items: Vec<Value> = self
            .items
            .iter()
            .map(|i| json!({"item": i.what, "cycles": signed(i.cycles)}))
            .collect();
        json!({
            "units": units,
            "analytic_cycles": whole(self.analytic.ceiling()),
            "beyond_analytic": items,
            "paced_by": self.paced_by,
            "request_rounding_cycles": self.request_rounding.as_f64(),
            "tasks": whole(self.tasks.0),
            "tasks_simulated": whole(self.tasks.1),
        })
    }
}
