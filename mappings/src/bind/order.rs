//! Every read after its write: across nests, loops, pipeline offsets and iterative ranks.

use einflow_spec::Problems;
use einflow_workloads::cascade::{ReadTime, TensorKind};

use super::context::Context;
use crate::mapped::{Block, BoundEinsum, NamedLoop};

/// Where an Einsum stands in a tile's schedule: phase and position, or only the position.
fn order_of(block: &Block, nest: usize, position: usize) -> (usize, usize) {
    for (p, phase) in block.phases.iter().enumerate() {
        if let Some(i) = phase.einsums.iter().position(|at| *at == (nest, position)) {
            return (p, i);
        }
    }
    (0, position)
}

/// Refuses a block in which an Einsum reads what is not written yet.
pub(crate) fn check_order(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for (n, nest) in block.nests.iter().enumerate() {
        for (e, reader) in nest.einsums.iter().enumerate() {
            let reads = context.projections.listed(reader.einsum).iter();
            for (read, seen) in reads.zip(context.projections.reads(reader.einsum)) {
                let Ok((tensor, _)) = seen else { continue };
                let tensor = *tensor;
                if context.cascade.tensor(tensor).kind == TensorKind::Input {
                    continue;
                }
                let name = &context.cascade.tensor(tensor).name;
                let made = block.nests.iter().enumerate().find_map(|(wn, wnest)| {
                    let found = wnest
                        .einsums
                        .iter()
                        .position(|w| context.cascade.einsum(w.einsum).output == tensor);
                    found.map(|we| (wn, we, &wnest.einsums[we]))
                });
                let at = &context.spec.blocks[index].nests[n].einsums[e].0;
                let Some((wn, we, writer)) = made else {
                    match context.made_in(tensor) {
                        Some(b) if b < index => {}
                        Some(_) => problems.push(context.at(
                            at,
                            format!("{} reads {name}, which a later block makes", reader.name),
                        )),
                        None => {} // reported as an Einsum that no block binds
                    }
                    continue;
                };
                let place = Pair {
                    context,
                    block,
                    reader,
                    writer,
                    name,
                };
                if let Some((message, help)) = place.fault(read.time, (wn, we), (n, e)) {
                    problems.push(context.at(at, message).help(help));
                }
            }
        }
    }
    problems.into_result(Some(()))
}

struct Pair<'a> {
    context: &'a Context<'a>,
    block: &'a Block,
    reader: &'a BoundEinsum,
    writer: &'a BoundEinsum,
    name: &'a str,
}

impl Pair<'_> {
    fn fault(
        &self,
        time: ReadTime,
        writer: (usize, usize),
        reader: (usize, usize),
    ) -> Option<(String, String)> {
        let (w, r, name) = (&self.writer.name, &self.reader.name, self.name);
        if writer.0 > reader.0 {
            return Some((
                format!("{r} reads {name}, which a later nest makes"),
                format!("put {w} into an earlier nest"),
            ));
        }
        let nest = writer.0;
        let shared: Vec<&NamedLoop> = if writer.0 == reader.0 {
            self.block
                .loops
                .iter()
                .chain(&self.block.nests[nest].loops)
                .collect()
        } else {
            self.block.loops.iter().collect()
        };
        // A loop over a reduced rank around both: the result is whole only at that loop's exit.
        let einsum = self.context.cascade.einsum(self.writer.einsum);
        let tensor = einsum.output;
        let own = self.context.projections.own(tensor);
        for l in &shared {
            let reduced = einsum
                .reduced
                .iter()
                .map(|r| self.context.ranks.digit(*r))
                .any(|d| l.touches(&d.term()));
            let kept = l.touches_any(&own.dims);
            if reduced && !kept && self.reader.at_exit_of.as_deref() != Some(l.name.as_str()) {
                return Some((
                    format!(
                        "{r} reads {name} inside loop `{}`, over which {w} still reduces it",
                        l.name
                    ),
                    format!(
                        "give {r} `at_exit_of: \"{}\"`, or move the loop inside {w}",
                        l.name
                    ),
                ));
            }
        }
        let tensor = self.context.cascade.tensor(tensor);
        let iterative = tensor
            .iterative
            .map(|i| self.context.ranks.digit(tensor.ranks[i]));
        let iterates = |l: &&&NamedLoop| iterative.is_some_and(|d| l.touches(&d.term()));
        if matches!(time, ReadTime::Last | ReadTime::Other)
            && let Some(l) = shared.iter().find(iterates)
            && self.reader.at_exit_of.as_deref() != Some(l.name.as_str())
        {
            return Some((
                format!(
                    "{r} reads the last value of {name} inside loop `{}`, which still updates it",
                    l.name
                ),
                format!("give {r} `at_exit_of: \"{}\"`", l.name),
            ));
        }
        if writer.0 < reader.0 {
            return None;
        }
        // Tile x of an Einsum with offset o runs in epoch x - o, at its place in the epoch.
        let (wo, ro) = (
            i128::from(self.writer.offset),
            i128::from(self.reader.offset),
        );
        let before =
            order_of(self.block, writer.0, writer.1) < order_of(self.block, reader.0, reader.1);
        let distance = match time {
            ReadTime::Previous => match shared.iter().rposition(|l| iterates(&l)) {
                Some(position) => shared[position + 1..]
                    .iter()
                    .try_fold(1i128, |d, l| d.checked_mul(i128::from(l.count)))?,
                // The iterative rank is walked by the Einsums' own loops, in step.
                None => return None,
            },
            _ => 0,
        };
        let ahead = wo + distance - ro;
        if ahead > 0 || (ahead == 0 && before) {
            return None;
        }
        let needed = ro - distance + i128::from(!before);
        let what = if time == ReadTime::Previous {
            "the previous value of "
        } else {
            ""
        };
        let message = format!(
            "{r} reads {what}{name} before {w} has written it: {w} runs {wo} tiles ahead, {r} {ro}, and {needed} are needed"
        );
        let help = if self.block.pipeline.is_some() {
            format!(
                "raise the pipeline offset of {w} to {needed}, or put {w} before {r} in the phases"
            )
        } else {
            format!("put {w} before {r}")
        };
        Some((message, help))
    }
}
