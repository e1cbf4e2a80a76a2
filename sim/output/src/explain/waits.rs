//! Who waits for whom.

use einflow_mappings::{
    mapped::{Block, BoundEinsum, Keep, TransferKind},
    nest::iterations,
};
use einflow_workloads::cascade::ReadTime;
use indexmap::IndexMap;

use super::{Page, words::list};

impl<'a> Page<'a> {
    /// The order of a block's work.
    pub(super) fn waits(&mut self, index: usize) {
        let block = self.block(index);
        self.out.push('\n');
        self.line(2, "who waits for whom");
        let mut lines = Vec::new();
        if let Some(before) = index.checked_sub(1).map(|i| self.block(i)) {
            lines.push(format!("starts when block {} is done", before.name));
        }
        lines.extend(self.phases(block));
        for group in &self.mapped.spec.blocks[index].interleave {
            let names: Vec<&str> = group.iter().map(|n| n.text.as_str()).collect();
            let phase = |name: &str| {
                let of = |(n, e): &(usize, usize)| block.nests[*n].einsums[*e].name == name;
                block.phases.iter().position(|p| p.einsums.iter().any(of))
            };
            let apart = names.iter().any(|n| phase(n) != phase(names[0]));
            let counted = match apart {
                true => "; the cycles of each are counted in its own phase",
                false => "",
            };
            lines.push(format!(
                "{} alternate cycle by cycle on one array{counted}",
                list(&names)
            ));
        }
        lines.extend(self.single(block));
        lines.extend(self.pipeline(block));
        lines.extend(self.running(block));
        lines.extend(self.complete(block));
        for line in lines {
            self.line(4, &line);
        }
    }

    fn phases(&self, block: &Block) -> Option<String> {
        let einsums: usize = block.nests.iter().map(|n| n.einsums.len()).sum();
        if einsums == 1 {
            return None;
        }
        if block.phases.is_empty() {
            let steps = match block.nests.len() {
                1 => "a tile's Einsums follow one another in the order above",
                _ => "a tile's steps follow one another in the order above",
            };
            return Some(format!(
                "{steps}; the mapping states no phases, so the analytic engine lets the arrays overlap on different tiles and takes the slowest"
            ));
        }
        let what = match block.pipeline {
            Some(_) => "each step of the pipeline",
            None => "each tile",
        };
        let phases: Vec<String> = block
            .phases
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let of = |(n, e): &(usize, usize)| block.nests[*n].einsums[*e].name.as_str();
                let names: Vec<&str> = p.einsums.iter().map(of).collect();
                let drain = match p.drain {
                    0 => String::new(),
                    cycles => format!(" after {cycles} cycles in which the array drains"),
                };
                format!("({}) {}{drain}: {}", i + 1, p.name, list(&names))
            })
            .collect();
        Some(format!(
            "{what} takes {} phases, one after another: {}. Within a phase the arrays work side by side, the Einsums of one array in turn",
            phases.len(),
            phases.join("; ")
        ))
    }

    /// Tiles that cannot be loaded before the one in their room is done with.
    fn single(&self, block: &Block) -> Option<String> {
        let reloaded = |k: &&Keep| {
            let load = |m: &super::Move<'_>| {
                m.transfer.kind == TransferKind::Fill
                    && m.transfer.tensor == k.tensor
                    && m.transfer.inner == k.place
                    && m.changes > 1
            };
            k.generations == 1 && !k.freed_by_row && self.moves.iter().any(load)
        };
        let keeps = block.keeps.iter();
        let mut names: Vec<&str> = Vec::new();
        for keep in keeps
            .chain(block.nests.iter().flat_map(|n| &n.keeps))
            .filter(reloaded)
        {
            let name = self.tensor(keep.tensor);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| {
            format!(
                "single-buffered, the next tile of {} is loaded when the one before is done with; the analytic engine's cycles leave that wait out",
                list(&names)
            )
        })
    }

    /// The Einsums that run in every tile, by how many tiles they are ahead.
    fn pipeline(&self, block: &Block) -> Vec<String> {
        let Some(pipeline) = &block.pipeline else {
            return Vec::new();
        };
        let einsums = || block.nests.iter().flat_map(|n| &n.einsums);
        let mut ahead: Vec<(u64, Vec<&str>)> = Vec::new();
        for e in einsums().filter(|e| e.at_exit_of.is_none()) {
            match ahead.iter_mut().find(|(offset, _)| *offset == e.offset) {
                Some((_, names)) => names.push(&e.name),
                None => ahead.push((e.offset, vec![&e.name])),
            }
        }
        ahead.sort_by_key(|(offset, _)| *offset);
        let groups: Vec<String> = ahead
            .iter()
            .map(|(offset, names)| match offset {
                0 => format!("{} on the oldest", list(names)),
                1 => format!("{} 1 tile ahead of it", list(names)),
                n => format!("{} {n} tiles ahead", list(names)),
            })
            .collect();
        let mut lines = vec![format!(
            "a software pipeline has {} tiles in flight, and at any time these work: {}",
            pipeline.depth + 1,
            groups.join("; ")
        )];
        let mut lags: IndexMap<u64, Vec<String>> = IndexMap::new();
        for reader in einsums().filter(|e| e.at_exit_of.is_none()) {
            for (maker, time) in self.sources(block, reader) {
                let lag = maker.offset.saturating_sub(reader.offset);
                if lag > 0 && time != ReadTime::Previous {
                    let pair = format!("{} for {}", maker.name, reader.name);
                    let pairs = lags.entry(lag).or_default();
                    if !pairs.contains(&pair) {
                        pairs.push(pair);
                    }
                }
            }
        }
        lags.sort_keys();
        for (lag, pairs) in &lags {
            let plural = if *lag == 1 { "" } else { "s" };
            lines.push(format!(
                "made {lag} step{plural} before it is read: {}",
                list(pairs)
            ));
        }
        lines.push(match pipeline.drains_at.and_then(|d| block.loops.get(d).map(|l| (d, l))) {
            Some((at, l)) => {
                let outer: Vec<_> = block.loops[..=at].iter().map(|l| l.cut).collect();
                let times = iterations(&block.space, &outer)
                    .map_or_else(|_| String::new(), |times| format!(" ({times} times)"));
                format!(
                    "the pipeline empties at the end of each {}{times} and fills again; what that adds each time, up to {} step{}, is not in the analytic engine's cycles (see `--engine cycle`)",
                    l.name,
                    pipeline.depth,
                    if pipeline.depth == 1 { "" } else { "s" }
                )
            }
            None => "the pipeline runs on from one tile to the next to the end of the block".into(),
        });
        lines
    }

    /// What an Einsum reads that the block makes.
    fn sources(&self, block: &'a Block, reader: &BoundEinsum) -> Vec<(&'a BoundEinsum, ReadTime)> {
        let reads = self.reads(reader).iter();
        reads
            .filter_map(|r| {
                let (n, e) = self.maker(block, self.behind(r.tensor))?;
                Some((&block.nests[n].einsums[e], r.time))
            })
            .collect()
    }

    /// Running values, by the loop that carries them.
    fn running(&self, block: &'a Block) -> Vec<String> {
        let cascade = &self.mapped.cascade;
        let mut carried: IndexMap<&str, Vec<&str>> = IndexMap::new();
        let mut last: IndexMap<(&str, &str), Vec<&str>> = IndexMap::new();
        for einsum in block.nests.iter().flat_map(|n| &n.einsums) {
            let output = cascade.tensor(cascade.einsum(einsum.einsum).output);
            if let Some(rank) = output.iterative.and_then(|i| output.ranks.get(i)) {
                let names = carried.entry(&cascade.rank(*rank).variable).or_default();
                names.push(&einsum.name);
            }
            for (maker, time) in self.sources(block, einsum) {
                if let (ReadTime::Last, Some(exit)) = (time, &einsum.at_exit_of) {
                    let names = last.entry((&einsum.name, exit)).or_default();
                    names.push(&maker.name);
                }
            }
        }
        let mut lines = Vec::new();
        for (variable, names) in &carried {
            let (what, they) = match names.len() {
                1 => ("is a running value", "it is"),
                _ => ("are running values", "they are"),
            };
            let mut text = format!(
                "{} {what}: {they} updated from one {variable} to the next",
                list(names)
            );
            if let Some(at) = block.loops.iter().position(|l| l.name == *variable) {
                let skips = block.space.skip_empty && !block.space.conditions.is_empty();
                let most = if skips { "at most " } else { "" };
                let between: u128 = block.loops[at + 1..]
                    .iter()
                    .map(|l| u128::from(l.count))
                    .product();
                text.push_str(&match between {
                    1 => ", and each tile waits for those of the tile before".to_string(),
                    n => {
                        format!(", and {most}{n} tiles run from one update of a value to its next")
                    }
                });
            }
            lines.push(text);
        }
        for ((reader, exit), makers) in &last {
            lines.push(format!(
                "{reader} waits for the end of {exit}: it takes the last {}",
                list(makers)
            ));
        }
        lines
    }

    /// What has to be complete over a rank before it is used.
    fn complete(&self, block: &'a Block) -> Vec<String> {
        let cascade = &self.mapped.cascade;
        let mut out: IndexMap<(&str, String), Vec<&str>> = IndexMap::new();
        for reader in block.nests.iter().flat_map(|n| &n.einsums) {
            for (maker, _) in self.sources(block, reader) {
                let reduced = &cascade.einsum(maker.einsum).reduced;
                if reduced.is_empty() {
                    continue;
                }
                let ranks: Vec<&str> = reduced
                    .iter()
                    .map(|r| cascade.rank(*r).name.as_str())
                    .collect();
                let names = out.entry((&maker.name, list(&ranks))).or_default();
                if !names.contains(&reader.name.as_str()) {
                    names.push(&reader.name);
                }
            }
        }
        out.iter()
            .map(|((maker, ranks), readers)| {
                let verb = if readers.len() == 1 { "waits" } else { "wait" };
                format!(
                    "{} {verb} until {maker} is complete over {ranks}",
                    list(readers)
                )
            })
            .collect()
    }
}
