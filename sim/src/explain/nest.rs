//! The loops of a block, and what stays, moves and runs at each.

use einflow_mappings::{
    count::Count,
    mapped::{Block, BoundEinsum, Keep, NamedLoop, Place, TransferKind},
    nest::iterations_within,
};
use einflow_workloads::cascade::{ReadTime, TensorKind};

use super::{
    Page,
    words::{list, number},
};
use crate::{analytic::AnalyticError, units::percent};

/// A keep: that of the block (`None`) or of one of its nests, and its position there.
type KeepId = (Option<usize>, usize);

/// The loops around what is told next.
struct Scope<'a> {
    index: usize,
    block: &'a Block,
    loops: Vec<NamedLoop>,
    /// Nests whose loops these are; none: only the block's own loops, several nests follow inside.
    nest: Option<usize>,
    /// Loops that stand around the scope and are told already.
    from: usize,
}

impl<'a> Page<'a> {
    /// A block's loops from the outside in.
    pub(super) fn nests(&mut self, index: usize) -> Result<(), AnalyticError> {
        let block = self.block(index);
        self.line(0, &format!("BLOCK {}", block.name));
        if block.space.skip_empty && !block.space.conditions.is_empty() {
            let all: u128 = self
                .tile_loops(block)
                .map(|l| u128::from(l.count))
                .product();
            let run = self.counts.cycles[index].tiles;
            self.line(
                2,
                &format!("tiles in which the cascade's conditions leave no point are skipped: {run} of {all} run"),
            );
        }
        let mut scope = Scope {
            index,
            block,
            loops: block.loops.clone(),
            nest: None,
            from: 0,
        };
        if let [only] = block.nests.as_slice() {
            scope.loops.extend(only.loops.iter().cloned());
            scope.nest = Some(0);
        }
        self.inside(&scope, 0, 2)
    }

    /// The loops an iteration of which is a tile.
    fn tile_loops(&self, block: &'a Block) -> impl Iterator<Item = &'a NamedLoop> {
        let own = match block.nests.as_slice() {
            [only] => only.loops.as_slice(),
            _ => &[],
        };
        block.loops.iter().chain(own)
    }

    fn inside(
        &mut self,
        scope: &Scope<'a>,
        depth: usize,
        indent: usize,
    ) -> Result<(), AnalyticError> {
        for keep in self.keeps_at(scope, depth) {
            self.keep(scope, keep, indent)?;
        }
        let (before, after) = einsums_at(scope, depth);
        for e in before {
            self.einsum(scope, e, indent)?;
        }
        if depth < scope.loops.len() {
            let mut end = depth + 1;
            while end < scope.loops.len() && self.merges(scope, depth, end) {
                end += 1;
            }
            self.line(indent, &self.loops_phrase(scope, depth, end));
            self.inside(scope, end, indent + 2)?;
            for at in (depth..end).rev() {
                self.exits(scope, at, indent)?;
            }
        } else if scope.nest.is_none() {
            let nests = scope.block.nests.len();
            for (n, nest) in scope.block.nests.iter().enumerate() {
                let names: Vec<&str> = nest.einsums.iter().map(|e| e.name.as_str()).collect();
                let names = list(&names);
                self.line(indent, &format!("step {} of {nests}: {names}", n + 1));
                let mut inner = Scope {
                    index: scope.index,
                    block: scope.block,
                    loops: scope.loops.clone(),
                    nest: Some(n),
                    from: depth,
                };
                inner.loops.extend(nest.loops.iter().cloned());
                self.inside(&inner, depth, indent + 2)?;
            }
        }
        for e in after {
            self.einsum(scope, e, indent)?;
        }
        Ok(())
    }

    /// Keeps whose tile serves one iteration of the loops down to a depth.
    fn keeps_at(&self, scope: &Scope<'a>, depth: usize) -> Vec<KeepId> {
        let shared = scope.block.loops.len();
        let own = scope.block.keeps.iter().enumerate();
        let alone = scope.block.nests.len() == 1;
        let mut out: Vec<KeepId> = Vec::new();
        if scope.nest.is_none() || alone {
            let at = |keep: &Keep| keep.depth.min(scope.loops.len());
            out.extend(own.filter(|(_, k)| at(k) == depth).map(|(i, _)| (None, i)));
        }
        if let Some(n) = scope.nest {
            let least = if alone { 0 } else { shared };
            let keeps = scope.block.nests[n].keeps.iter().enumerate();
            let at = |keep: &Keep| keep.depth.max(least).min(scope.loops.len());
            out.extend(
                keeps
                    .filter(|(_, k)| at(k) == depth)
                    .map(|(i, _)| (Some(n), i)),
            );
        }
        out
    }

    /// Whether the loop `at` can be told in one breath with those from `first` on.
    fn merges(&self, scope: &Scope<'a>, first: usize, at: usize) -> bool {
        let (before, after) = einsums_at(scope, at);
        let exits = |l: &NamedLoop| {
            let mut einsums = scope.block.nests.iter().flat_map(|n| &n.einsums);
            einsums.any(|e| e.at_exit_of.as_ref() == Some(&l.name))
        };
        self.keeps_at(scope, at).is_empty()
            && before.is_empty()
            && after.is_empty()
            && scope.loops[first..=at]
                .iter()
                .all(|l| self.is_whole_rank(l) && !exits(l))
    }

    /// Whether a loop walks all coordinates of its rank one by one.
    fn is_whole_rank(&self, l: &NamedLoop) -> bool {
        l.cut.step == 1 && l.count == self.mapped.base[l.cut.rank].size
    }

    fn loops_phrase(&self, scope: &Scope<'a>, first: usize, end: usize) -> String {
        let loops = &scope.loops[first..end];
        if loops.iter().all(|l| self.is_whole_rank(l)) {
            let counts: Vec<String> = loops.iter().map(|l| l.count.to_string()).collect();
            let names: Vec<&str> = loops.iter().map(|l| l.name.as_str()).collect();
            let (counts, names) = (counts.join(" x "), names.join(", "));
            return match loops {
                [_] => format!("for each of the {counts} {names}:"),
                _ => format!("for each of the {counts} ({names}):"),
            };
        }
        let l = &scope.loops[first];
        let base = &self.mapped.base[l.cut.rank];
        let outer = scope.loops[..first]
            .iter()
            .rev()
            .find(|o| o.cut.rank == l.cut.rank);
        let extent = outer.map_or(base.size, |o| o.cut.step.min(base.size));
        let step = l.cut.step.min(extent);
        if l.count == 1 {
            return format!(
                "for {}, once: all {extent} of {} in one tile:",
                l.name, base.name
            );
        }
        let tiles = match (step, extent % step) {
            (1, _) => format!("one coordinate of {} at a time", base.name),
            (_, 0) => format!("tiles of {step} of {}", base.name),
            (_, rest) => format!("tiles of {step} of {}, the last of {rest}", base.name),
        };
        format!("for {} in 0..{}, {tiles}:", l.name, l.count)
    }

    /// Einsums that run when a loop is through.
    fn exits(&mut self, scope: &Scope<'a>, at: usize, indent: usize) -> Result<(), AnalyticError> {
        let name = &scope.loops[at].name;
        for (n, nest) in scope.block.nests.iter().enumerate() {
            if scope.nest.is_some_and(|own| own != n) {
                continue;
            }
            let inner = Scope {
                index: scope.index,
                block: scope.block,
                loops: scope.loops.clone(),
                nest: Some(n),
                from: scope.from,
            };
            for (e, einsum) in nest.einsums.iter().enumerate() {
                if einsum.at_exit_of.as_ref() != Some(name) {
                    continue;
                }
                let within: Vec<String> = einsum
                    .shared_loops()
                    .iter()
                    .skip(at)
                    .map(|l| format!("{} in 0..{}", l.name, l.count))
                    .collect();
                let each = match within.as_slice() {
                    [] => String::new(),
                    within => format!(", for {}", list(within)),
                };
                self.line(indent, &format!("when {name} is through{each}:"));
                self.einsum(&inner, e, indent + 2)?;
            }
        }
        Ok(())
    }

    /// A tile that stays, and its movements.
    fn keep(&mut self, scope: &Scope<'a>, id: KeepId, indent: usize) -> Result<(), AnalyticError> {
        let keep = match id.0 {
            None => &scope.block.keeps[id.1],
            Some(n) => &scope.block.nests[n].keeps[id.1],
        };
        let own: Vec<usize> = (0..self.moves.len())
            .filter(|i| self.keep_of(scope, *i) == Some(id))
            .collect();
        let word = self.mapped.word_bytes();
        let name = self.tensor(keep.tensor);
        let size = super::words::bytes(keep.words.saturating_mul(word));
        let words = if keep.words == 1 { "word" } else { "words" };
        let what = match keep.depth {
            0 => format!("all of it, {} {words}", keep.words),
            _ => format!("a tile of {} {words}", keep.words),
        };
        let place = self.place(keep.place);
        let mut text = format!("{name} stays in {place}: {what} ({size})");
        let loaded = own.iter().any(|i| {
            let kind = self.moves[*i].transfer.kind;
            matches!(kind, TransferKind::Fill | TransferKind::Operand)
        });
        let in_turn = loaded && keep.depth > 0 && matches!(keep.place, Place::Memory(_));
        text.push_str(&match (keep.generations, in_turn) {
            (1, true) => ", single-buffered".into(),
            (1, false) => String::new(),
            (2, true) => ", double-buffered".to_string(),
            (n, _) => format!(", room for {n}"),
        });
        if keep.freed_by_row {
            text.push_str(", freed row by row");
        }
        if let Some(other) = keep.in_place_of {
            text.push_str(&format!(", in the room of {}", self.tensor(other)));
        }
        if keep.share != (1, 1) {
            let share = percent(keep.share.0 as f64 / keep.share.1 as f64);
            let rest = if keep.spills_through {
                "the rest is spilled and passes through"
            } else {
                "the rest is spilled and goes past it"
            };
            text.push_str(&format!("; {share} of it is kept there, {rest}"));
        }
        self.line(indent, &text);
        for at in own {
            let text = self.keep_move(at)?;
            self.line(indent + 2, &text);
            self.tell(at)?;
        }
        Ok(())
    }

    /// The keep that a movement fills or empties.
    fn keep_of(&self, scope: &Scope<'a>, at: usize) -> Option<KeepId> {
        let transfer = self.moves[at].transfer;
        let (n, e) = transfer.einsum;
        let place = match transfer.kind {
            TransferKind::Fill | TransferKind::Drain => transfer.inner,
            TransferKind::Operand | TransferKind::Update => {
                Place::Registers(scope.block.nests[n].einsums[e].unit)
            }
        };
        let fits = |k: &Keep| k.tensor == transfer.tensor && k.place == place;
        let nest = scope.block.nests[n].keeps.iter().position(fits);
        let own = || scope.block.keeps.iter().position(fits).map(|i| (None, i));
        nest.map(|i| (Some(n), i)).or_else(own)
    }

    /// A movement into or out of a tile that stays.
    fn keep_move(&self, at: usize) -> Result<String, AnalyticError> {
        let m = &self.moves[at];
        let each = match m.words.checked_div(m.changes) {
            Some(words) if m.words == words * m.changes && m.transfer.share == (1, 1) => {
                let amount = self.bytes(Count::whole(words))?;
                match m.changes {
                    1 => "once, ".into(),
                    times => format!("{amount} each time, {times} times: "),
                }
            }
            _ if m.changes > 1 => format!("{} times, ", m.changes),
            _ => String::new(),
        };
        let (reads, writes) = self.sides(at)?;
        let often = self.often(at);
        Ok(match m.transfer.kind {
            TransferKind::Fill => {
                let outer = m.transfer.outer.map(|p| self.place(p)).unwrap_or_default();
                let read = self.accessed(at, m.transfer.outer, true)?;
                let written = self.accessed(at, Some(m.transfer.inner), false)?;
                let through = match read == written {
                    true => String::new(),
                    false => format!(" (written there: {written})"),
                };
                format!("loaded from {outer}: {each}{read} in all{often}{through}")
            }
            TransferKind::Operand => format!("loaded: {each}{} in all{often}", list(&reads)),
            TransferKind::Update => {
                let back = match reads.is_empty() {
                    true => String::new(),
                    false => format!("; partial results come back, {}", list(&reads)),
                };
                format!("goes out: {each}{} in all{often}{back}", list(&writes))
            }
            TransferKind::Drain => {
                let outer = m.transfer.outer.map(|p| self.place(p)).unwrap_or_default();
                let written = self.accessed(at, m.transfer.outer, false)?;
                let mut text = format!("goes out to {outer}: {each}{written} in all{often}");
                let back = self.accessed(at, m.transfer.outer, true)?;
                if back != "0 B" {
                    text.push_str(&format!("; partial results come back: {back}"));
                }
                text
            }
        })
    }

    /// Bytes that a movement reads or writes in a place.
    fn accessed(
        &self,
        at: usize,
        place: Option<Place>,
        read: bool,
    ) -> Result<String, AnalyticError> {
        let Some(Place::Memory(memory)) = place else {
            return self.bytes(Count::default());
        };
        let access = self.moves[at].at(memory);
        self.bytes(if read { access.reads } else { access.writes })
    }

    /// What a movement reads from each memory, and what it writes to each.
    fn sides(&self, at: usize) -> Result<(Vec<String>, Vec<String>), AnalyticError> {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for memory in (0..self.mapped.accelerator.memories.len()).rev() {
            let access = self.moves[at].at(memory);
            let name = self.memory(memory);
            if !access.reads.is_zero() {
                reads.push(format!("{} from {name}", self.bytes(access.reads)?));
            }
            if !access.writes.is_zero() {
                writes.push(format!("{} to {name}", self.bytes(access.writes)?));
            }
        }
        Ok((reads, writes))
    }

    /// How often a word of an input or output passes the edge of the outermost memory.
    fn often(&self, at: usize) -> String {
        let m = &self.moves[at];
        let tensor = m.transfer.tensor;
        let kind = self.mapped.cascade.tensor(tensor).kind;
        let access = m.at(0);
        let moved = match m.transfer.kind {
            TransferKind::Fill | TransferKind::Operand => access.reads,
            TransferKind::Update | TransferKind::Drain => access.writes,
        };
        if !matches!(kind, TensorKind::Input | TensorKind::Output) || moved.is_zero() {
            return String::new();
        }
        match moved.over(self.mapped.needed(tensor)) {
            Some(times) if times == Count::whole(1) => ", each word once".into(),
            Some(times)
                if times.ceiling() == times.rounded() && Count::whole(times.rounded()) == times =>
            {
                format!(", each word {} times", number(times))
            }
            Some(times) => format!(", a word {} times on average", number(times)),
            None => String::new(),
        }
    }

    /// An Einsum: where it lies, what it does, what it reads and where its results go.
    fn einsum(&mut self, scope: &Scope<'a>, e: usize, indent: usize) -> Result<(), AnalyticError> {
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
        let each = einsum.cycles.to_string();
        let mut text = format!(
            "{}: {each} cycle{} a point",
            list(&operators),
            plural(&each)
        );
        if !steps.is_empty() {
            text.push_str(&format!(", looping over {}", steps.join(", ")));
        }
        if let Some(tile) = Count::ratio(cycles, tiles) {
            let tile = number(tile);
            let end = plural(&tile);
            let average = if cycles % tiles == 0 {
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
        tensor: einflow_workloads::cascade::TensorId,
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
            format!("takes {name} from within {}", self.array(unit))
        } else {
            format!("takes {name} over the links from {}", self.array(unit))
        })
    }
}

/// Einsums that run at a depth, before what stands further in and after it.
fn einsums_at(scope: &Scope<'_>, depth: usize) -> (Vec<usize>, Vec<usize>) {
    let Some(n) = scope.nest else {
        return (Vec::new(), Vec::new());
    };
    let einsums = &scope.block.nests[n].einsums;
    // Loops that run once may stand around it or inside: inside, it is beside the tiles that it works on.
    let at = |e: &BoundEinsum| {
        let own = e.shared_loops().len().max(scope.from);
        let once = scope.loops.iter().skip(own).take_while(|l| l.count == 1);
        own + once.count()
    };
    let inside = |e: &BoundEinsum| e.at_exit_of.is_none();
    let deeper = einsums.iter().position(|e| inside(e) && at(e) > depth);
    let here = einsums.iter().enumerate();
    here.filter(|(_, e)| inside(e) && at(e) == depth)
        .map(|(i, _)| i)
        .partition(|i| deeper.is_none_or(|d| *i < d))
}
