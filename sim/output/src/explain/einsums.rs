//! Einsums: where each lies, what it does, what it reads and where its results go.

use einflow_mappings::{
    count::Count,
    mapped::{BoundEinsum, Keep, NamedLoop, Place, TransferKind},
    nest::iterations_within,
};
use einflow_workloads::cascade::{ReadTime, TensorId};

use super::{
    Page,
    nest::Scope,
    words::{list, number},
};
use einflow_engine::analytic::AnalyticError;

impl<'a> Page<'a> {
    /// An Einsum: where it lies, what it does, what it reads and where its results go.
    pub(super) fn einsum(
        &mut self,
        scope: &Scope<'a>,
        e: usize,
        indent: usize,
    ) -> Result<(), AnalyticError> {
        let n = scope.nest.unwrap_or(0);
        let einsum = &scope.block.nests[n].einsums[e];
        self.line(indent, &self.laid(einsum));
        self.line(indent + 4, &self.work(scope, n, e)?);
        for read in self.reads(einsum) {
            let tensor = self.behind(read.tensor);
            let known = |at: &usize| {
                let t = self.moves[*at].transfer;
                t.einsum == (n, e) && t.tensor == tensor && t.kind == TransferKind::Operand
            };
            let own: Vec<usize> = (0..self.moves.len())
                .filter(known)
                .filter(|i| self.keep_of(scope, *i).is_none())
                .filter(|i| !self.moves[*i].told)
                .collect();
            for at in &own {
                let (reads, _) = self.sides(*at)?;
                let (rate, often) = (self.rate(*at)?, self.often(*at));
                let name = self.tensor(tensor);
                let text = format!("reads {name}: {rate}{} in all{often}", list(&reads));
                self.line(indent + 4, &text);
                self.tell(*at)?;
            }
            if own.is_empty()
                && let Some(text) = self.inner_read(scope, n, einsum, tensor, read.time)
            {
                self.line(indent + 4, &text);
            }
        }
        let output = self.mapped.cascade.einsum(einsum.einsum).output;
        let out = |at: &usize| {
            let t = self.moves[*at].transfer;
            t.einsum == (n, e) && t.tensor == output && t.kind == TransferKind::Update
        };
        let writes: Vec<usize> = (0..self.moves.len()).filter(out).collect();
        for at in &writes {
            if self.keep_of(scope, *at).is_some() {
                continue;
            }
            let (reads, written) = self.sides(*at)?;
            let (rate, often) = (self.rate(*at)?, self.often(*at));
            let mut text = format!(
                "writes {}: {rate}{} in all{often}",
                einsum.name,
                list(&written)
            );
            if !reads.is_empty() {
                let back = list(&reads);
                text.push_str(&format!("; partial results come back, {back}"));
            }
            self.line(indent + 4, &text);
            self.tell(*at)?;
        }
        if writes.is_empty() {
            let readers: Vec<&str> = scope
                .block
                .nests
                .iter()
                .flat_map(|nest| &nest.einsums)
                .filter(|r| {
                    self.reads(r)
                        .iter()
                        .any(|x| self.behind(x.tensor) == output)
                })
                .map(|r| r.name.as_str())
                .collect();
            let text = format!(
                "no memory keeps {}: it waits in registers for {}",
                einsum.name,
                list(&readers)
            );
            self.line(indent + 4, &text);
        }
        // What no tile claims is told where it is counted.
        let rest: Vec<usize> = (0..self.moves.len())
            .filter(|i| self.moves[*i].transfer.einsum == (n, e) && !self.moves[*i].told)
            .filter(|i| self.keep_of(scope, *i).is_none())
            .collect();
        for at in rest {
            let name = self.tensor(self.moves[at].transfer.tensor);
            let text = format!("moves {name}: {}", self.keep_move(at)?);
            self.line(indent + 4, &text);
            self.tell(at)?;
        }
        Ok(())
    }

    /// Bytes of a movement for each tile, where they are the same for all.
    fn rate(&self, at: usize) -> Result<String, AnalyticError> {
        let m = &self.moves[at];
        match m.words.checked_div(m.tiles) {
            Some(words) if m.tiles > 1 && words * m.tiles == m.words => Ok(format!(
                "{} a tile, {} tiles: ",
                self.bytes(Count::whole(words))?,
                m.tiles
            )),
            _ => Ok(String::new()),
        }
    }

    /// Where an Einsum lies.
    fn laid(&self, einsum: &BoundEinsum) -> String {
        let array = &self.mapped.accelerator.arrays[einsum.unit];
        let side = |lane: &Option<NamedLoop>, what: &str| {
            let lane = lane.as_ref()?;
            let base = &self.mapped.base[lane.cut.rank].name;
            Some((
                lane.count,
                format!("{} ({} of {base}) across the {what}", lane.name, lane.count),
            ))
        };
        let rows = side(&einsum.rows, "rows");
        let columns = side(&einsum.columns, "columns");
        let count = |s: &Option<(u64, String)>| s.as_ref().map_or(1, |s| u128::from(s.0));
        let used = count(&rows) * count(&columns);
        let sides: Vec<String> = rows.into_iter().chain(columns).map(|s| s.1).collect();
        let lies = match sides.as_slice() {
            [] => String::new(),
            sides => format!(" {},", list(sides)),
        };
        let (name, unit, all) = (&einsum.name, &array.name, array.pes());
        format!("{name} on {unit}:{lies} {used} of {all} PEs")
    }

    /// What a PE does for an Einsum, and the cycles of a tile.
    fn work(&self, scope: &Scope<'a>, n: usize, e: usize) -> Result<String, AnalyticError> {
        let einsum = &scope.block.nests[n].einsums[e];
        let operators: Vec<String> = einsum
            .operators
            .iter()
            .map(|(name, times)| match times {
                1 => name.clone(),
                times => format!("{times} x {name}"),
            })
            .collect();
        let own = &einsum.loops[einsum.shared_loops().len()..];
        let steps: Vec<String> = own
            .iter()
            .map(|l| format!("{} in 0..{}", l.name, l.count))
            .collect();
        let loops: Vec<_> = einsum.shared_loops().iter().map(|l| l.cut).collect();
        let tiles = iterations_within(&scope.block.space, &loops, loops.len())
            .map_err(|_| AnalyticError::Overflow)?;
        let cycles = self.counts.cycles[scope.index].einsums[n][e];
        let plural = |n: &str| if n == "1" { "" } else { "s" };
        let (each, step) = (einsum.cycles.to_string(), einsum.interval.to_string());
        let mut text = match operators.is_empty() {
            true => format!("passes words on: {step} cycle{} a step", plural(&step)),
            false => {
                let operators = list(&operators);
                format!("{operators}: {each} cycle{} a point", plural(&each))
            }
        };
        if !steps.is_empty() {
            text.push_str(&format!(", looping over {}", steps.join(", ")));
        }
        if let Some(excess) = einsum.loads.iter().map(|l| l.excess).max() {
            text.push_str(&format!(
                ", {excess} more to load what stays for these steps"
            ));
        }
        if let Some(tile) = Count::ratio(cycles, tiles) {
            let tile = number(tile);
            let end = plural(&tile);
            let average = if cycles.is_multiple_of(tiles) {
                ""
            } else {
                " on average"
            };
            text.push_str(&match tiles {
                1 => format!(": {tile} cycle{end}"),
                tiles => format!(": {tile} cycle{end} a tile{average}, {tiles} tiles"),
            });
        }
        Ok(text)
    }

    /// Where an operand comes from that no movement brings.
    fn inner_read(
        &self,
        scope: &Scope<'a>,
        n: usize,
        einsum: &BoundEinsum,
        tensor: TensorId,
        time: ReadTime,
    ) -> Option<String> {
        let name = self.tensor(tensor);
        let registers = Place::Registers(einsum.unit);
        let kept = |k: &Keep| k.tensor == tensor && k.place == registers;
        let keeps = &scope.block.nests[n].keeps;
        if scope.block.keeps.iter().chain(keeps).any(kept) {
            let before = match time {
                ReadTime::Previous => ", its value before this update",
                _ => "",
            };
            let unit = self.array(einsum.unit);
            return Some(format!("takes {name} from the registers of {unit}{before}"));
        }
        let (m, p) = self.maker(scope.block, tensor)?;
        let unit = scope.block.nests[m].einsums[p].unit;
        Some(if unit == einsum.unit {
            format!("takes {name} straight from the PEs of {}", self.array(unit))
        } else {
            format!("takes {name} over the links from {}", self.array(unit))
        })
    }
}
