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
    fn set(self, value: f64) -> Result<(), String> {
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
            Number::Count(place) => *place = whole()?,
            Number::OptionalCount(place) => *place = Some(whole()?),
            Number::Bytes(place) => *place = Bytes(u128::from(whole()?)),
            Number::Capacity(place) => *place = Some(Bytes(u128::from(whole()?))),
            Number::Bandwidth(place) => *place = Some(BytesPerSecond(value)),
            Number::Float(place) => *place = value,
            Number::OptionalFloat(place) => *place = Some(value),
            Number::Latency(Latency::Cycles(place)) => *place = whole()?,
            Number::Latency(Latency::Seconds(place)) => place.0 = value,
        }
        Ok(())
    }
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
        let mut changed = self.clone();
        let mut outcome = None;
        let wanted = match path.strip_suffix(".cols") {
            Some(array) => format!("{array}.columns"),
            None => path.to_string(),
        };
        changed.numbers(&mut |known, number| {
            let short = known
                .strip_prefix("memories.")
                .or_else(|| known.strip_prefix("arrays."));
            if outcome.is_none() && (known == wanted || short == Some(wanted.as_str())) {
                outcome = Some((known.to_string(), number.set(value)));
            }
        });
        let Some((known, result)) = outcome else {
            let names = changed.override_paths();
            return Err(Problem::nowhere(format!(
                "the accelerator {} has no number `{path}`",
                self.name
            ))
            .help(did_you_mean(&wanted, names.iter().map(String::as_str))));
        };
        let fail = |message: String| {
            Problem::nowhere(format!("{path} = {value} on {}: {message}", self.name))
        };
        result.map_err(fail)?;
        for memory in &mut changed.memories {
            if known == format!("memories.{}.area", memory.name) {
                memory.area_per_bit = None;
            }
            memory.derive_area();
        }
        match changed.faults().into_iter().next() {
            None => Ok(changed),
            Some(fault) => Err(fail(fault.message).help(fault.help)),
        }
    }

    /// Every path that [`Accelerator::with_override`] knows, in the order of the file.
    pub fn override_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.clone()
            .numbers(&mut |path, _| paths.push(path.to_string()));
        paths
    }

    fn numbers(&mut self, visit: &mut dyn FnMut(&str, Number<'_>)) {
        visit("clock", Number::Float(&mut self.clock.0));
        for memory in &mut self.memories {
            let name = memory.name.clone();
            let mut at = |field: &str, number: Number<'_>| {
                visit(&format!("memories.{name}.{field}"), number)
            };
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
            let mut at =
                |field: &str, number: Number<'_>| visit(&format!("arrays.{name}.{field}"), number);
            at("rows", Number::Count(&mut array.rows));
            at("columns", Number::Count(&mut array.columns));
            at("control_energy", Number::Float(&mut array.control_energy.0));
            at("registers.words", Number::Count(&mut array.registers.words));
            at(
                "registers.read_energy",
                Number::Float(&mut array.registers.read_energy.0),
            );
            at(
                "registers.write_energy",
                Number::Float(&mut array.registers.write_energy.0),
            );
            at("registers.area", Number::Float(&mut array.registers.area.0));
            for (name, component) in &mut array.components {
                at(
                    &format!("components.{name}.energy"),
                    Number::Float(&mut component.energy.0),
                );
                at(
                    &format!("components.{name}.area"),
                    Number::Float(&mut component.area.0),
                );
                at(
                    &format!("components.{name}.count"),
                    Number::Count(&mut component.count),
                );
            }
            for (name, operator) in &mut array.operators {
                at(
                    &format!("operators.{name}.cycles"),
                    Number::Count(&mut operator.cycles),
                );
                at(
                    &format!("operators.{name}.register_reads"),
                    Number::Count(&mut operator.register_reads),
                );
                at(
                    &format!("operators.{name}.register_writes"),
                    Number::Count(&mut operator.register_writes),
                );
                for (component, count) in &mut operator.actions {
                    at(
                        &format!("operators.{name}.actions.{component}"),
                        Number::Count(count),
                    );
                }
            }
            for link in &mut array.links {
                at(
                    &format!("links.{}.words_per_cycle", link.name),
                    Number::Count(&mut link.words_per_cycle),
                );
                at(
                    &format!("links.{}.latency", link.name),
                    Number::Count(&mut link.latency),
                );
                at(
                    &format!("links.{}.energy", link.name),
                    Number::Float(&mut link.energy.0),
                );
            }
        }
    }
}
