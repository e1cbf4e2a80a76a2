//! The numbers of an accelerator by path, for sweeps.

use einflow_spec::quantity::{Bytes, BytesPerSecond};
use einflow_spec::{Problem, did_you_mean};

use crate::{Accelerator, Latency};

/// A number that a path names.
enum Number<'a> {
    Count(&'a mut u64),
    OptionalCount(&'a mut Option<u64>),
    Bytes(&'a mut Bytes),
    Capacity(&'a mut Option<Bytes>),
    Bandwidth(&'a mut Option<BytesPerSecond>),
    Float(&'a mut f64),
    OptionalFloat(&'a mut Option<f64>),
    Latency(&'a mut Latency),
}

/// 2^64: counts stay below it.
const COUNT_BOUND: f64 = 18_446_744_073_709_551_616.0;

impl Number<'_> {
    fn set(&mut self, value: f64) -> Result<(), String> {
        let whole = || {
            if value.fract() == 0.0 && (0.0..COUNT_BOUND).contains(&value) {
                Ok(value as u64)
            } else {
                Err(format!("{value} is not a whole number from 0 to 2^64 - 1"))
            }
        };
        if !value.is_finite() {
            return Err(format!("{value} is not a finite number"));
        }
        match self {
            Number::Count(place) => **place = whole()?,
            Number::OptionalCount(place) => **place = Some(whole()?),
            Number::Bytes(place) => **place = Bytes(u128::from(whole()?)),
            Number::Capacity(place) => **place = Some(Bytes(u128::from(whole()?))),
            Number::Bandwidth(place) => **place = Some(BytesPerSecond(value)),
            Number::Float(place) => **place = value,
            Number::OptionalFloat(place) => **place = Some(value),
            Number::Latency(Latency::Cycles(place)) => *place = whole()?,
            Number::Latency(Latency::Seconds(place)) => place.0 = value,
        }
        Ok(())
    }
}

/// Whether a path is these steps with dots between; `memories` and `arrays` may be left out, and columns be `cols`.
fn leads_to(path: &str, steps: &[&str]) -> bool {
    // Most differ in their last step, and a sweep asks often.
    let last = steps.last().copied().unwrap_or_default();
    if !path.ends_with(last) && !path.ends_with("cols") {
        return false;
    }
    let is = |steps: &[&str]| {
        let mut rest = path;
        for (i, step) in steps.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            let after = rest.strip_prefix(dot);
            let step = after.and_then(|r| {
                r.strip_prefix(step)
                    .or_else(|| r.strip_prefix("cols").filter(|_| *step == "columns"))
            });
            match step {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    };
    is(steps) || (matches!(steps, ["memories" | "arrays", ..]) && is(&steps[1..]))
}

/// Whether a number that [`Accelerator::with_override`] knows can change which mappings are legal, or what they count:
/// not a clock, a bandwidth, a latency, an energy or an area.
pub fn bears_on_mappings(path: &str) -> bool {
    let field = path.rsplit('.').next().unwrap_or(path);
    !matches!(
        field,
        "clock" | "bandwidth" | "latency" | "outstanding" | "energy" | "area" | "area_per_bit"
    ) && !field.ends_with("_energy")
}

impl Accelerator {
    /// The same accelerator with one number changed: `arrays.array2d.rows`, `memories.buffer.capacity` (in bytes),
    /// `clock` (in hertz), `arrays.array2d.components.mac.energy`, ...; `memories.` and `arrays.` may be left
    /// out. Units are those of the fields; a latency keeps the file's unit (cycles or seconds). An area that the file gives
    /// for one bit follows the capacity.
    ///
    /// # Errors
    /// An unknown path (the nearest known one is suggested), or a value that no file could hold there.
    pub fn with_override(&self, path: &str, value: f64) -> Result<Accelerator, Problem> {
        self.with_overrides(&[(path, value)])
    }

    /// As [`with_override`](Self::with_override), for several numbers; what they mean together is checked once all are set.
    ///
    /// # Errors
    /// As [`with_override`](Self::with_override).
    pub fn with_overrides(&self, wanted: &[(&str, f64)]) -> Result<Accelerator, Problem> {
        let mut changed = self.clone();
        let mut set = vec![false; wanted.len()];
        let mut fault = None;
        let fail = |(path, value): (&str, f64), message: String| {
            Problem::nowhere(format!("{path} = {value} on {}: {message}", self.name))
        };
        let mut stated_areas = Vec::new();
        changed.numbers(&mut |steps, mut number| {
            for (one, set) in wanted.iter().zip(&mut set) {
                if !leads_to(one.0, steps) {
                    continue;
                }
                *set = true;
                if let Err(message) = number.set(one.1) {
                    fault = fault.take().or(Some(fail(*one, message)));
                }
                if let ["memories", memory, "area"] = steps {
                    stated_areas.push((*memory).to_string());
                }
            }
        });
        if let Some((_, (path, _))) = set.iter().zip(wanted).find(|(set, _)| !**set) {
            let names = changed.override_paths();
            return Err(Problem::nowhere(format!(
                "the accelerator {} has no number `{path}`",
                self.name
            ))
            .help(did_you_mean(path, names.iter().map(String::as_str))));
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        for memory in &mut changed.memories {
            if stated_areas.contains(&memory.name) {
                memory.area_per_bit = None;
            }
            memory.derive_area();
        }
        match (changed.faults().into_iter().next(), wanted) {
            (None, _) => Ok(changed),
            (Some(fault), [one]) => Err(fail(*one, fault.message).help(fault.help)),
            (Some(fault), all) => {
                let all: Vec<String> = all.iter().map(|(p, v)| format!("{p} = {v}")).collect();
                let message = format!("{} on {}: {}", all.join(", "), self.name, fault.message);
                Err(Problem::nowhere(message).help(fault.help))
            }
        }
    }

    /// Whether [`Accelerator::with_override`] knows a path.
    pub fn has_number(&self, path: &str) -> bool {
        let mut found = false;
        self.clone()
            .numbers(&mut |steps, _| found |= leads_to(path, steps));
        found
    }

    /// Every path that [`Accelerator::with_override`] knows, in the order of the file.
    pub fn override_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.clone()
            .numbers(&mut |steps, _| paths.push(steps.join(".")));
        paths
    }

    fn numbers(&mut self, visit: &mut dyn FnMut(&[&str], Number<'_>)) {
        visit(&["clock"], Number::Float(&mut self.clock.0));
        for memory in &mut self.memories {
            let name = memory.name.clone();
            let mut at =
                |field: &str, number: Number<'_>| visit(&["memories", &name, field], number);
            at("capacity", Number::Capacity(&mut memory.capacity));
            at("row", Number::Bytes(&mut memory.row));
            at("banks", Number::Count(&mut memory.banks));
            at("ports", Number::Count(&mut memory.ports));
            at("bandwidth", Number::Bandwidth(&mut memory.bandwidth));
            at("latency", Number::Latency(&mut memory.latency));
            at(
                "outstanding",
                Number::OptionalCount(&mut memory.outstanding),
            );
            at("read_energy", Number::Float(&mut memory.read_energy.0));
            at("write_energy", Number::Float(&mut memory.write_energy.0));
            at("area", Number::Float(&mut memory.area.0));
            let mut per_bit = memory.area_per_bit.map(|area| area.0);
            at("area_per_bit", Number::OptionalFloat(&mut per_bit));
            memory.area_per_bit = per_bit.map(einflow_spec::quantity::SquareMicrometres);
        }
        for array in &mut self.arrays {
            let name = array.name.clone();
            let mut at = |field: &[&str], number: Number<'_>| {
                let mut steps = ["arrays", &name, "", "", "", ""];
                let end = 2 + field.len();
                steps[2..end].copy_from_slice(field);
                visit(&steps[..end], number);
            };
            at(&["rows"], Number::Count(&mut array.rows));
            at(&["columns"], Number::Count(&mut array.columns));
            at(
                &["control_energy"],
                Number::Float(&mut array.control_energy.0),
            );
            at(
                &["registers", "words"],
                Number::Count(&mut array.registers.words),
            );
            at(
                &["registers", "read_energy"],
                Number::Float(&mut array.registers.read_energy.0),
            );
            at(
                &["registers", "write_energy"],
                Number::Float(&mut array.registers.write_energy.0),
            );
            at(
                &["registers", "area"],
                Number::Float(&mut array.registers.area.0),
            );
            for (name, component) in &mut array.components {
                at(
                    &["components", name, "energy"],
                    Number::Float(&mut component.energy.0),
                );
                at(
                    &["components", name, "area"],
                    Number::Float(&mut component.area.0),
                );
                at(
                    &["components", name, "count"],
                    Number::Count(&mut component.count),
                );
            }
            for (name, operator) in &mut array.operators {
                at(
                    &["operators", name, "cycles"],
                    Number::Count(&mut operator.cycles),
                );
                at(
                    &["operators", name, "register_reads"],
                    Number::Count(&mut operator.register_reads),
                );
                at(
                    &["operators", name, "register_writes"],
                    Number::Count(&mut operator.register_writes),
                );
                for (component, count) in &mut operator.actions {
                    at(
                        &["operators", name, "actions", component],
                        Number::Count(count),
                    );
                }
            }
            for link in &mut array.links {
                at(
                    &["links", &link.name, "words_per_cycle"],
                    Number::Count(&mut link.words_per_cycle),
                );
                at(
                    &["links", &link.name, "latency"],
                    Number::Count(&mut link.latency),
                );
                at(
                    &["links", &link.name, "energy"],
                    Number::Float(&mut link.energy.0),
                );
            }
        }
    }
}
