//! Names in a mapping file: every one that means nothing is found before anything is built from the others.

use einflow_spec::{Problem, Problems, did_you_mean};

use super::context::Context;
use crate::spec::{BindingSpec, BlockSpec, Choice, KeepSpec, Name};

/// Finds every unknown name, Einsum in two phases or none, and Einsum bound twice or not at all.
pub(crate) fn check_names(context: &Context<'_>) -> Result<(), Problems> {
    let mut check = Check {
        context,
        problems: Problems::new(),
    };
    check.coverage();
    check.sizes();
    for block in &context.spec.blocks {
        check.block(block);
    }
    check.problems.into_result(Some(()))
}

struct Check<'a> {
    context: &'a Context<'a>,
    problems: Problems,
}

impl Check<'_> {
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        self.problems.absorb(result.map_err(Problems::from))
    }

    fn unknown<'k>(
        &mut self,
        name: &Name,
        message: String,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        self.problems.push(
            self.context
                .at(name, message)
                .help(did_you_mean(&name.text, known)),
        );
    }

    /// Einsums that no block binds, and those bound twice.
    fn coverage(&mut self) {
        let (cascade, spec) = (self.context.cascade, self.context.spec);
        let bindings = || {
            spec.blocks
                .iter()
                .flat_map(|b| &b.nests)
                .flat_map(|n| &n.einsums)
        };
        let mut missing = Vec::new();
        for einsum in cascade.einsums.iter().filter(|e| !e.view) {
            let name = &cascade.tensor(einsum.output).name;
            let mut bound = bindings().filter(|(n, _)| n.text == *name);
            if bound.next().is_none() {
                missing.push(format!("{name:?}"));
            } else if let Some((again, _)) = bound.next() {
                self.problems.push(
                    self.context
                        .at(again, format!("{name} is bound twice"))
                        .help("bind each Einsum once"),
                );
            }
        }
        let Some(first) = missing.first() else { return };
        let names = missing.join(", ").replace('"', "");
        let at = spec.workload.span;
        self.problems.push(if spec.workload.text == cascade.name {
            Problem::at(
                &spec.source,
                at,
                format!("no block binds {names} of {}", cascade.name),
            )
            .help(format!(
                "add `{first}: (unit: ...)` to the einsums of a block"
            ))
        } else {
            Problem::at(
                &spec.source,
                at,
                format!(
                    "this mapping is not one of {}: no block binds {names}",
                    cascade.name
                ),
            )
            .help(format!("it maps {}", spec.workload.text))
        });
    }

    /// A size that no split and no parameter knows is a slip.
    fn sizes(&mut self) {
        let (cascade, spec) = (self.context.cascade, self.context.spec);
        let splits = || {
            spec.splits
                .iter()
                .chain(spec.blocks.iter().flat_map(|b| &b.splits))
        };
        let parts = splits()
            .flat_map(|(_, parts)| parts)
            .map(|n| n.text.as_str());
        let known: Vec<&str> = parts
            .chain(cascade.parameters.keys().map(String::as_str))
            .collect();
        for (name, _) in spec
            .sizes
            .iter()
            .chain(spec.blocks.iter().flat_map(|b| &b.sizes))
        {
            if !known.contains(&name.text.as_str()) {
                let message = format!(
                    "`{}` is neither a part of a split nor a parameter of {}",
                    name.text, cascade.name
                );
                self.unknown(name, message, known.iter().copied());
            }
        }
        let ranks: Vec<&str> = cascade.ranks.iter().map(|r| r.name.as_str()).collect();
        for (name, _) in splits() {
            if !ranks.contains(&name.text.as_str()) {
                let message = format!("{} has no rank `{}`", cascade.name, name.text);
                self.unknown(name, message, ranks.iter().copied());
            }
        }
    }

    fn block(&mut self, block: &BlockSpec) {
        let parts = self.parts(block);
        block
            .loops
            .iter()
            .chain(&block.searched_loops)
            .for_each(|l| self.part(l, &parts));
        self.places(&block.keep);
        for nest in &block.nests {
            nest.loops.iter().for_each(|l| self.part(l, &parts));
            self.places(&nest.keep);
            for (name, binding) in &nest.einsums {
                self.binding(name, binding, &parts);
            }
        }
        self.steps(block);
    }

    /// The loops that a block may name, and the sizes of the same parts.
    fn parts(&self, block: &BlockSpec) -> Vec<(String, String)> {
        let (cascade, splits) = (self.context.cascade, self.context.splits(block));
        let mut parts = Vec::new();
        for (i, rank) in cascade.ranks.iter().enumerate() {
            match splits
                .iter()
                .find(|(name, _)| name.text == rank.name || name.text == rank.variable)
            {
                Some((_, names)) => parts.extend(
                    names
                        .iter()
                        .map(|n| (n.text.to_lowercase(), n.text.clone())),
                ),
                None if cascade.partitions.iter().any(|p| p.whole.0 == i) => {}
                None => parts.push((rank.variable.clone(), rank.name.clone())),
            }
        }
        parts
    }

    fn part(&mut self, name: &Name, parts: &[(String, String)]) {
        if parts.iter().any(|(known, _)| *known == name.text) {
            return;
        }
        let help = match parts.iter().find(|(_, size)| *size == name.text) {
            Some((variable, _)) => format!("loops are named by the variable: `{variable}`"),
            None => did_you_mean(&name.text, parts.iter().map(|(known, _)| known.as_str())),
        };
        self.problems.push(
            self.context
                .at(name, format!("there is no rank part `{}`", name.text))
                .help(help),
        );
    }

    fn picked<'c, T>(&mut self, choice: &'c Choice<T>) -> Option<&'c T> {
        let picked = choice.pick(self.context.row, &self.context.spec.source);
        self.keep(picked)
    }

    fn places(&mut self, keeps: &[KeepSpec]) {
        for keep in keeps {
            self.keep(self.context.tensor(&keep.tensor));
            for place in self.picked(&keep.places).into_iter().flatten() {
                self.keep(self.context.place(&place.memory));
                if let Some(tensor) = &place.in_place_of {
                    self.keep(self.context.tensor(tensor));
                }
            }
        }
    }

    fn binding(&mut self, name: &Name, binding: &BindingSpec, parts: &[(String, String)]) {
        let cascade = self.context.cascade;
        let real = cascade
            .einsums
            .iter()
            .filter(|e| !e.view)
            .map(|e| cascade.tensor(e.output).name.as_str());
        if !real.clone().any(|known| known == name.text) {
            self.unknown(
                name,
                format!("{} has no Einsum `{}`", cascade.name, name.text),
                real,
            );
        }
        self.keep(self.context.array(&binding.unit));
        for lane in [&binding.rows, &binding.columns] {
            if let Some(Some(name)) = self.picked(lane) {
                self.part(name, parts);
            }
        }
        for name in self.picked(&binding.loops).into_iter().flatten() {
            self.part(name, parts);
        }
        for (operand, place) in &binding.from {
            self.keep(self.context.tensor(operand));
            self.keep(self.context.place(place));
        }
        if let Some(memory) = &binding.partials {
            self.keep(self.context.memory(memory));
        }
    }

    /// Phases, interleaving and the pipeline: Einsums of the block, each in one phase.
    fn steps(&mut self, block: &BlockSpec) {
        let bindings = || block.nests.iter().flat_map(|n| &n.einsums);
        let einsums = || bindings().map(|(name, _)| name.text.as_str());
        let mut seen: Vec<&str> = Vec::new();
        let (mut twice, mut unknown) = (Vec::new(), Vec::new());
        for name in block.phases.iter().flat_map(|p| &p.einsums) {
            if !einsums().any(|known| known == name.text) {
                unknown.push(name);
            } else if seen.contains(&name.text.as_str()) {
                twice.push(name);
            }
            seen.push(&name.text);
        }
        unknown.extend(
            block
                .interleave
                .iter()
                .flatten()
                .filter(|n| !einsums().any(|known| known == n.text)),
        );
        let offsets = block
            .pipeline
            .iter()
            .flat_map(|p| &p.offsets)
            .map(|(name, _)| name);
        unknown.extend(offsets.filter(|n| !einsums().any(|known| known == n.text)));
        for name in &unknown {
            self.unknown(
                name,
                format!("the block has no Einsum `{}`", name.text),
                einsums(),
            );
        }
        for name in twice {
            self.problems.push(
                self.context
                    .at(name, format!("{} is in two phases", name.text))
                    .help("keep one of them"),
            );
        }
        // A misspelt name is reported as such; those that it leaves without a phase follow from it.
        for name in einsums()
            .filter(|name| unknown.is_empty() && !block.phases.is_empty() && !seen.contains(name))
        {
            self.problems.push(
                Problem::at(
                    &self.context.spec.source,
                    block.span,
                    format!("{name} stands in no phase of block {:?}", block.name),
                )
                .help("name it in the phase in which it runs, or leave all phases out"),
            );
        }
        for group in &block.interleave {
            let unit = |name: &Name| {
                bindings()
                    .find(|(n, _)| n.text == name.text)
                    .map(|(_, b)| &b.unit.text)
            };
            let first = group.first().and_then(unit);
            if let Some(other) = group
                .iter()
                .find(|n| first.is_some() && unit(n).is_some_and(|u| Some(u) != first))
            {
                let message = format!(
                    "{} runs on another array than what it is to alternate with",
                    other.text
                );
                self.problems.push(
                    self.context
                        .at(other, message)
                        .help("Einsums of one array alternate"),
                );
            }
        }
    }
}
