//! An Einsum on its unit: lanes, loops, operators, and whether every rank is walked once.

use einflow_spec::{Problems, did_you_mean};
use einflow_workloads::cascade::EinsumId;

use super::{context::Context, operators::operators_of, ranks::Parts};
use crate::{
    mapped::{BoundEinsum, NamedLoop, Returns},
    nest::Space,
    spec::{BindingSpec, BlockSpec, Name},
};

impl Context<'_> {
    pub fn einsum(
        &self,
        name: &Name,
        spec: &BindingSpec,
        around: &[NamedLoop],
        parts: &Parts,
        block: &BlockSpec,
    ) -> Result<BoundEinsum, Problems> {
        let source = &self.spec.source;
        let mut problems = Problems::new();
        let known = || -> Vec<&str> {
            let real = self.cascade.einsums.iter().filter(|e| !e.view);
            real.map(|e| self.cascade.tensor(e.output).name.as_str())
                .collect()
        };
        let id = (0..self.cascade.einsums.len())
            .map(EinsumId)
            .find(|id| self.cascade.name_of(*id) == name.text && !self.cascade.einsum(*id).view)
            .ok_or_else(|| {
                self.at(
                    name,
                    format!("{} has no Einsum `{}`", self.cascade.name, name.text),
                )
                .help(did_you_mean(&name.text, known()))
            })?;
        let einsum = self.cascade.einsum(id);
        let unit = problems.absorb(self.array(&spec.unit).map_err(Problems::from));
        let mut lane = |choice: &crate::spec::Choice<Option<Name>>| -> Option<(NamedLoop, Name)> {
            let name = problems
                .absorb(choice.pick(self.row, source).map_err(Problems::from))?
                .clone()?;
            Some((
                problems.absorb(parts.find(&name, source).map_err(Problems::from))?,
                name,
            ))
        };
        let rows = lane(&spec.rows);
        let columns = lane(&spec.columns);
        let own: Vec<(NamedLoop, Name)> = problems
            .absorb(spec.loops.pick(self.row, source).map_err(Problems::from))
            .map(|names| {
                names
                    .iter()
                    .filter_map(|n| {
                        Some((
                            problems.absorb(parts.find_loop(n, source).map_err(Problems::from))?,
                            n.clone(),
                        ))
                    })
                    .collect()
            })
            .unwrap_or_default();

        // Digits that the Einsum iterates over.
        let digits: Vec<_> = self
            .cascade
            .batch
            .iter()
            .chain(&einsum.ranks)
            .map(|r| self.ranks.digit(*r))
            .collect();
        let relevant = |l: &NamedLoop| {
            digits
                .iter()
                .any(|d| d.base == l.cut.rank && l.touches(&d.term()))
        };
        for (l, n) in own.iter().chain(rows.iter()).chain(columns.iter()) {
            if !relevant(l) && l.count > 1 {
                problems.push(self.at(
                    n,
                    format!("{} does not iterate over `{}`", name.text, l.name),
                ));
            }
        }
        let mut shared: Vec<NamedLoop> = around.to_vec();
        if let Some(exit) = &spec.at_exit_of {
            match shared.iter().position(|l| l.name == exit.text) {
                Some(position) => {
                    shared.remove(position);
                }
                None => problems.push(
                    self.at(
                        exit,
                        format!("no loop `{}` is around {}", exit.text, name.text),
                    )
                    .help(did_you_mean(
                        &exit.text,
                        around.iter().map(|l| l.name.as_str()),
                    )),
                ),
            }
        }
        // Inside its innermost own rank an Einsum is not repeated; around it, it is computed again.
        let last = shared.iter().rposition(relevant).map_or(0, |i| i + 1);
        shared.truncate(last);
        let own_loops = own.len();
        let mut loops = shared;
        loops.extend(own.iter().map(|(l, _)| l.clone()));

        // Every rank must be walked completely, from coarse to fine, the lanes innermost.
        for (base, rank) in self.ranks.base.iter().enumerate() {
            let Some(finest) = digits
                .iter()
                .filter(|d| d.base == base)
                .map(|d| d.unit)
                .min()
            else {
                continue;
            };
            let start = digits
                .iter()
                .filter(|d| d.base == base)
                .map(|d| d.unit.saturating_mul(d.size))
                .max();
            let mut extent = rank.size.min(start.unwrap_or(rank.size));
            let mut steps: Vec<(&NamedLoop, bool)> = loops
                .iter()
                .filter(|l| l.cut.rank == base)
                .map(|l| (l, false))
                .collect();
            steps.extend(
                rows.iter()
                    .chain(columns.iter())
                    .map(|(l, _)| (l, true))
                    .filter(|(l, _)| l.cut.rank == base),
            );
            steps.retain(|(l, is_lane)| l.count > 1 || *is_lane);
            for pair in steps.windows(2) {
                // A part of one coordinate (an array of one row) cuts nothing and may stand anywhere.
                if pair[1].0.cut.step >= pair[0].0.cut.step
                    && pair[1].0.count > 1
                    && pair[0].0.count > 1
                {
                    let (inner, outer) = (&pair[1].0.name, &pair[0].0.name);
                    let message = if inner == outer {
                        format!("{}: `{inner}` is walked twice", name.text)
                    } else {
                        format!(
                            "{}: `{inner}` stands inside `{outer}` but is the coarser part of {}",
                            name.text, rank.name
                        )
                    };
                    problems.push(self.at(name, message).help("order the parts of a rank from coarse to fine, the part across the array innermost"));
                }
            }
            for (l, is_lane) in &steps {
                if *is_lane {
                    let lanes = extent.div_ceil(l.cut.step);
                    let (on_rows, lane_name) = match &rows {
                        Some((r, n)) if r == *l => (true, n),
                        _ => (false, columns.as_ref().map_or(name, |(_, n)| n)),
                    };
                    if let Some(unit) = unit {
                        let array = &self.accelerator.arrays[unit];
                        let room = if on_rows { array.rows } else { array.columns };
                        if lanes > room {
                            let dimension = if on_rows { "rows" } else { "columns" };
                            problems.push(
                                self.at(lane_name, format!(
                                    "{}: `{}` lays {lanes} coordinates across the {dimension} of {}, which has {room}",
                                    name.text, l.name, array.name
                                ))
                                .help(format!("make the part {} at most {room}, or loop over a coarser part around it", l.name.to_uppercase())),
                            );
                        }
                    }
                }
                extent = extent.min(l.cut.step);
            }
            if extent > finest {
                let missing: Vec<String> = parts
                    .iter()
                    .filter(|p| p.base == base && p.step < extent && p.count > 1)
                    .map(|p| format!("`{}`", p.name))
                    .collect();
                problems.push(
                    self.at(name, format!("{} does not walk all of rank {}: tiles of {extent} coordinates are left", name.text, rank.name))
                        .help(format!("loop over or lay across the array: {}", missing.join(", "))),
                );
            }
        }

        let operators = unit.and_then(|unit| {
            problems.absorb(operators_of(
                self,
                name,
                einsum,
                spec,
                &self.accelerator.arrays[unit],
            ))
        });
        let points = self.points(einsum);
        // Digits of a base rank whose own coordinate is there too say nothing more.
        let whole = |base: usize| {
            let of_base = || digits.iter().filter(move |d| d.base == base);
            of_base().find(|d| d.modulus.is_none() && of_base().all(|o| o.unit >= d.unit))
        };
        let telling = digits
            .iter()
            .filter(|d| whole(d.base).is_none_or(|w| w.unit == d.unit));
        let coordinates = telling.map(|d| d.term()).collect();
        let offset = block
            .pipeline
            .as_ref()
            .and_then(|p| p.offsets.iter().find(|(n, _)| n.text == name.text))
            .map_or(0, |(_, o)| *o);
        let value = unit
            .zip(operators)
            .map(|(unit, (operators, cycles))| BoundEinsum {
                einsum: id,
                name: name.text.clone(),
                unit,
                rows: rows.map(|(l, _)| l),
                columns: columns.map(|(l, _)| l),
                loops,
                own_loops,
                at_exit_of: spec.at_exit_of.as_ref().map(|n| n.text.clone()),
                operators,
                cycles,
                offset,
                points,
                coordinates,
                operands: Vec::new(),
                output: einsum.output,
                output_memory: None,
                partials: spec.partials.is_some(),
                interval: cycles,
                narrow: None,
                returns: Returns::default(),
                loads: Vec::new(),
                passing: Vec::new(),
            });
        problems.into_result(value)
    }

    /// The points of an Einsum: one rank for each base rank, 1 where it does not iterate over it.
    fn points(&self, einsum: &einflow_workloads::cascade::Einsum) -> Space {
        let mut sizes = vec![1; self.ranks.base.len()];
        for (base, rank) in self.ranks.base.iter().enumerate() {
            let digits: Vec<_> = self
                .cascade
                .batch
                .iter()
                .chain(&einsum.ranks)
                .map(|r| self.ranks.digit(*r))
                .filter(|d| d.base == base)
                .collect();
            let Some(finest) = digits.iter().map(|d| d.unit).min() else {
                continue;
            };
            let whole = digits.iter().any(|d| d.modulus.is_none());
            sizes[base] = if whole {
                rank.size.div_ceil(finest)
            } else {
                digits
                    .iter()
                    .map(|d| d.size)
                    .product::<u64>()
                    .min(rank.size)
            };
        }
        let mut space = Space::new(sizes);
        super::conditions::of_points(self, einsum, &mut space);
        space
    }
}
