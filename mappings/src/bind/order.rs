//! Every read after its write: across nests, loops, pipeline offsets and iterative ranks.

use einflow_spec::Problems;
use einflow_workloads::cascade::{ReadTime, TensorId, TensorKind};

use super::{
    context::Context,
    homes::{Homes, Origin},
};
use crate::{
    mapped::{Block, BoundEinsum, NamedLoop, Place},
    nest::Projection,
};

/// Iterations from either end of a loop that are looked at.
const LOOKED_AT: u64 = 1024;

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
                let Ok((tensor, projection)) = seen else {
                    continue;
                };
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
                let homes = Homes {
                    context,
                    index,
                    block,
                };
                let from = || homes.origin(n, e, tensor, read.time);
                let fault = place.fault(read.time, (wn, we), (n, e));
                let fault = fault.or_else(|| place.circle(projection, (wn, we), (n, e)));
                let fault = fault.or_else(|| place.gone(projection, (wn, we), (n, e), from()?));
                if let Some((message, help)) = fault {
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
    /// Loops that both stand in.
    fn shared(&self, writer: usize, reader: usize) -> Vec<&NamedLoop> {
        let own = self.block.nests[writer].loops.iter();
        let own = own.take(if writer == reader { usize::MAX } else { 0 });
        self.block.loops.iter().chain(own).collect()
    }

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
        let shared = self.shared(writer.0, reader.0);
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

    /// What an Einsum reads of tiles that come after its own must be made before, and find room beside it: else the two
    /// wait for each other, at every speed.
    fn circle(
        &self,
        seen: &Projection,
        writer: (usize, usize),
        reader: (usize, usize),
    ) -> Option<(String, String)> {
        let (w, r, name) = (&self.writer.name, &self.reader.name, self.name);
        let tensor = self.context.cascade.einsum(self.writer.einsum).output;
        let shared = self.shared(writer.0, reader.0);
        for (at, l) in self.finest(&shared) {
            let (_, ahead) = self.tiles_apart(tensor, seen, l);
            if ahead == 0 {
                continue;
            }
            // Units that no phases hold together run ahead of each other as far as there is room.
            let apart = self.writer.unit != self.reader.unit && self.block.phases.is_empty();
            let inside = shared[at + 1..].iter().map(|l| u128::from(l.count));
            let tiles = inside.fold(ahead, u128::saturating_mul);
            let offset = self.writer.offset.checked_sub(self.reader.offset);
            let runs = offset.is_some_and(|o| u128::from(o) >= tiles && writer.0 == reader.0);
            if !apart && !runs {
                return Some((
                    format!(
                        "{r} reads {name} up to {ahead} iterations of `{}` after its own, and {w} makes it there later: {r} waits for {w}, which stands behind {r}",
                        l.name
                    ),
                    format!(
                        "move `{}` inside {w} and {r}, or put {w} into a block before",
                        l.name
                    ),
                ));
            }
            let keeps = self
                .block
                .keeps
                .iter()
                .chain(&self.block.nests[writer.0].keeps);
            let small = keeps
                .filter(|k| k.tensor == tensor && k.depth > at)
                .find(|k| u128::from(k.generations) <= ahead);
            if small.is_some() {
                return Some((
                    format!(
                        "{r} reads {name} up to {ahead} iterations of `{}` after its own, and too few tiles of it are kept: {w} waits for room until {r} has run, which waits for {w}",
                        l.name
                    ),
                    format!(
                        "keep {name} below a loop outside `{}`, or `buffers: {}`",
                        l.name,
                        ahead + 1
                    ),
                ));
            }
        }
        None
    }

    /// Of loops around both, with their places, those that say which tile of a rank is at work: the finest over each.
    fn finest<'l>(&self, shared: &[&'l NamedLoop]) -> Vec<(usize, &'l NamedLoop)> {
        let says = |(at, l): &(usize, &NamedLoop)| {
            let finer = |other: &&NamedLoop| other.count > 1 && other.cut.rank == l.cut.rank;
            let exits = self.reader.at_exit_of.as_deref() == Some(l.name.as_str());
            l.count > 1 && !exits && !shared[at + 1..].iter().any(finer)
        };
        shared.iter().copied().enumerate().filter(says).collect()
    }

    /// What an Einsum reads of tiles that come before its own must still be where it reads it.
    fn gone(
        &self,
        seen: &Projection,
        writer: (usize, usize),
        reader: (usize, usize),
        from: Origin<'_>,
    ) -> Option<(String, String)> {
        let (r, name) = (&self.reader.name, self.name);
        let tensor = self.context.cascade.einsum(self.writer.einsum).output;
        let (place, place_name) = match from {
            Origin::Memory(m) => (Place::Memory(m), &self.context.accelerator.memories[m].name),
            Origin::Kept(e) | Origin::Made(e) => {
                let unit = e.unit;
                (
                    Place::Registers(unit),
                    &self.context.accelerator.arrays[unit].name,
                )
            }
        };
        let keeps = self.block.keeps.iter();
        let keeps = keeps.chain(&self.block.nests[reader.0].keeps);
        let mut keeps = keeps.filter(|k| k.tensor == tensor && k.place == place);
        let kept = keeps.next().map(|k| (k.depth, u128::from(k.generations)));
        let (depth, tiles) = match (kept, from) {
            (Some(kept), _) => kept,
            // At home there it is whole; what nothing keeps is handed over tile by tile.
            (None, Origin::Memory(_)) => return None,
            (None, _) => (usize::MAX, 1),
        };
        let shared = self.shared(writer.0, reader.0);
        let below = self
            .finest(&shared)
            .into_iter()
            .filter(|(at, _)| *at < depth);
        let back = below.map(|(_, l)| (l, self.tiles_apart(tensor, seen, l).0));
        let (l, back) = back.max_by_key(|(_, back)| *back)?;
        (back >= tiles).then(|| {
            let several = if tiles == 1 { "one tile" } else { "fewer tiles" };
            (
                format!(
                    "{r} reads {name} up to {back} iterations of `{}` before its own, and {several} of it stays in `{place_name}`: what was made before is gone",
                    l.name
                ),
                format!(
                    "keep {name} below a loop outside `{}`, or `buffers: {}`, or in a memory further out and take it `from` there",
                    l.name,
                    back.saturating_add(1)
                ),
            )
        })
    }

    /// By how many iterations of a loop the words that a reader needs are made before and after those of its own
    /// iteration, at most.
    fn tiles_apart(&self, tensor: TensorId, seen: &Projection, l: &NamedLoop) -> (u128, u128) {
        let (context, rank) = (self.context, l.cut.rank);
        let size = context.ranks.base[rank].size;
        let own = context.projections.own(tensor);
        let of = context.cascade.tensor(tensor);
        let running = of.iterative.map(|i| context.cascade.batch.len() + i);
        let walks = self.reader.shared_loops().iter().any(|own| own == l);
        let step = l.cut.step.max(1);
        let last = size.div_ceil(step).saturating_sub(1);
        // Where it reads furthest ahead of itself, is at an end, or so near that looking finds it.
        let near = (0..=last.min(LOOKED_AT)).chain(last.saturating_sub(LOOKED_AT)..=last);
        let (mut before, mut after) = (0, 0);
        for image in seen.images() {
            for (d, (own, read)) in own.dims.iter().zip(image).enumerate() {
                let [term] = own.terms.as_slice() else {
                    continue;
                };
                if Some(d) == running || own == read || term.rank != rank || term.modulus.is_some()
                {
                    continue;
                }
                let unit = i128::from(term.unit.max(1));
                for at in near.clone().filter(|at| walks || *at == 0) {
                    let tile = |r: usize| match r == rank && walks {
                        true => (at * step, step.min(size - at * step)),
                        false => (0, context.ranks.base[r].size),
                    };
                    let (first, furthest) = match read.chosen {
                        Some(_) => (0, i128::from(size) - 1),
                        None => {
                            let (low, high) = read.range(&tile);
                            let next = high.saturating_add(1).saturating_mul(unit);
                            (low.saturating_mul(unit), next.saturating_sub(1))
                        }
                    };
                    let made = |x: i128| x.clamp(0, i128::from(size) - 1) / i128::from(step);
                    before = before.max(i128::from(at) - made(first));
                    after = after.max(made(furthest) - i128::from(at));
                }
            }
        }
        (before.unsigned_abs(), after.unsigned_abs())
    }
}
