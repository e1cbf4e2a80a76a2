//! The engines: their names, what they give, and how they are run.

use einflow_mappings::mapped::MappedCascade;
use einflow_spec::{Form, Problem, Written, did_you_mean};

use crate::{analytic, array, check::inputs::inputs, cycle, error::EngineError, report::Report};

/// What computes a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Action counts from loop-nest reuse, time by phases.
    #[default]
    Analytic,
    /// Tiles as tasks on the real resources, every cycle accounted for.
    Cycle,
    /// Every word through every PE.
    Array,
}

/// What there is to say of an engine.
struct Entry {
    engine: Engine,
    name: &'static str,
    gives: &'static str,
    any_size: bool,
    evaluate: fn(&MappedCascade) -> Result<Report, EngineError>,
}

/// All engines, in the order of the enum.
const ENGINES: [Entry; 3] = [
    Entry {
        engine: Engine::Analytic,
        name: "analytic",
        gives: "counts of actions, and ideal times",
        any_size: true,
        evaluate: |mapped| Ok(analytic::evaluate(mapped)?),
    },
    Entry {
        engine: Engine::Cycle,
        name: "cycle",
        gives: "times with every wait, and where every cycle goes",
        any_size: true,
        evaluate: cycle::evaluate,
    },
    Entry {
        engine: Engine::Array,
        name: "array",
        gives: "values, with every word where it is read, at the sizes of a test",
        any_size: false,
        evaluate: |mapped| {
            let run = array::run(mapped, &inputs(mapped)?)?;
            Ok(array::report(mapped, &run)?)
        },
    },
];

impl Engine {
    /// All engines.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        ENGINES.iter().map(|e| e.engine)
    }

    fn entry(self) -> &'static Entry {
        &ENGINES[self as usize]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// What it gives, in a few words.
    pub fn gives(self) -> &'static str {
        self.entry().gives
    }

    /// Whether it runs a mapping at any size: runs may name it. The others are for tests and checks.
    pub fn any_size(self) -> bool {
        self.entry().any_size
    }

    /// The engine of that name, among those that a run may name.
    ///
    /// # Errors
    /// What is known instead.
    pub fn named(name: &str) -> Result<Self, Problem> {
        let known = || Self::all().filter(|e| e.any_size());
        known().find(|e| e.name() == name).ok_or_else(|| {
            Problem::nowhere(format!("there is no engine `{name}`"))
                .help(did_you_mean(name, known().map(Self::name)))
        })
    }

    /// Evaluates a mapped cascade.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn evaluate(self, mapped: &MappedCascade) -> Result<Report, EngineError> {
        (self.entry().evaluate)(mapped)
    }
}

impl Written for Engine {
    fn form() -> Form<Self> {
        Form {
            value: || {
                let known = Self::all().filter(|engine| engine.any_size());
                let names: Vec<String> =
                    known.map(|engine| format!("`{}`", engine.name())).collect();
                names.join(", ")
            },
            read: |_, node| {
                let place = Some((node.source.clone(), node.span));
                Ok(Self::named(node.text()?).map_err(|problem| Problem { place, ..problem })?)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_in_the_order_of_the_enum() {
        for (at, engine) in Engine::all().enumerate() {
            assert_eq!(engine as usize, at);
            assert_eq!(engine.entry().engine, engine);
            assert_eq!(
                Engine::named(engine.name()).ok(),
                engine.any_size().then_some(engine)
            );
        }
    }
}
