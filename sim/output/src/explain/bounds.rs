//! How long a block takes, and what would have to change.

use einflow_mappings::{count::Count, mapped::Phase};

use super::{
    Page,
    words::{list, number},
};
use crate::render;
use einflow_engine::{
    analytic::{AnalyticError, memory_time},
    units::percent,
};

/// What sets the pace while an array drains.
const DRAIN: &str = "the drain";

/// A part of a time as a percentage.
fn share(part: Count, whole: Count) -> String {
    percent(if whole.is_zero() {
        0.0
    } else {
        part.as_f64() / whole.as_f64()
    })
}

impl Page<'_> {
    /// A block's time and what bounds it.
    pub(super) fn bounds(&mut self, index: usize) -> Result<(), AnalyticError> {
        let block = self.block(index);
        let counts = self.counts;
        let cycles = &counts.cycles[index];
        let time = counts.times[index];
        self.out.push('\n');
        self.line(2, "what bounds it");
        if !block.phases.is_empty() {
            self.phase_table(index);
        }
        let tiles = Count::whole(cycles.compute).over(cycles.tiles);
        let each = match tiles {
            Some(each) if cycles.tiles > 1 => {
                format!(" ({} tiles x {})", cycles.tiles, number(each))
            }
            _ => String::new(),
        };
        let mut memories = Vec::new();
        let mut slowest: Option<(&str, Count)> = None;
        for (m, memory) in self.mapped.accelerator.memories.iter().enumerate() {
            let needs = memory_time(&self.mapped.accelerator, m, &counts.block_traffic[index]);
            if let Some(needs) = needs.ok_or(AnalyticError::Overflow)? {
                let access = counts.block_traffic[index].of_memory(m);
                let words = access.and_then(einflow_mappings::count::Access::total);
                let moved = self.bytes(words.ok_or(AnalyticError::Overflow)?)?;
                let name = &memory.name;
                let cycles = needs.ceiling();
                let part = share(needs, time);
                memories.push(format!(
                    "{name} needs {cycles} to move {moved} ({part} of the time)"
                ));
                if slowest.is_none_or(|(_, t)| needs > t) {
                    slowest = Some((name, needs));
                }
            }
        }
        let compute = Count::whole(cycles.compute);
        self.line(
            4,
            &format!(
                "{} cycles: the arrays need {}{each}{}{}",
                time.ceiling(),
                cycles.compute,
                if memories.is_empty() { "" } else { ", " },
                list(&memories)
            ),
        );
        for (unit, array) in self.mapped.accelerator.arrays.iter().enumerate() {
            let text = self.busy(index, unit);
            if let Some(text) = text {
                self.line(4, &format!("{} {text}", array.name));
            }
        }
        let verdict = match slowest {
            Some((name, needs)) if needs > compute => {
                let faster = needs.as_f64() / cycles.compute.max(1) as f64;
                let heavy = self.heaviest(index, name);
                format!(
                    "bound by {name}: {faster:.2} times its bandwidth, or as many times fewer bytes{heavy}, would leave it to the arrays"
                )
            }
            slowest => self.bound_by_arrays(index, slowest),
        };
        self.line(4, &verdict);
        Ok(())
    }

    /// How long an array works on a block, and on what.
    fn busy(&self, index: usize, unit: usize) -> Option<String> {
        let block = self.block(index);
        let counts = &self.counts.cycles[index];
        let time = self.counts.times[index];
        let busy = Count::whole(counts.units[unit]);
        if busy.is_zero() {
            return Some("has nothing to do".into());
        }
        let mut parts: Vec<(u128, &str)> = Vec::new();
        let mut useful = 0.0;
        for (n, nest) in block.nests.iter().enumerate() {
            for (e, einsum) in nest.einsums.iter().enumerate() {
                if einsum.unit == unit {
                    parts.push((counts.einsums[n][e], &einsum.name));
                    useful += self.counts.points[index][n][e] as f64 * einsum.cycles as f64;
                }
            }
        }
        parts.sort_by_key(|(cycles, _)| std::cmp::Reverse(*cycles));
        let named: Vec<String> = parts
            .iter()
            .map(|(cycles, name)| format!("{name} {}", share(Count::whole(*cycles), time)))
            .collect();
        let pes = self.mapped.accelerator.arrays[unit].pes() as f64;
        let working = useful / (pes * busy.as_f64());
        let idle = match percent(working).as_str() {
            "100.0%" => String::new(),
            part => format!(", with {part} of its PE-cycles doing work then"),
        };
        let named = named.join(", ");
        Some(format!(
            "is busy {} of the time ({named}){idle}",
            share(busy, time)
        ))
    }

    /// The tensor that a memory moves most of.
    fn heaviest(&self, index: usize, memory: &str) -> String {
        let chip = &self.mapped.accelerator;
        let Some(m) = chip.memories.iter().position(|x| x.name == memory) else {
            return String::new();
        };
        let traffic = &self.counts.block_traffic[index];
        let mut best: Option<(&str, Count)> = None;
        for (t, tensor) in self.mapped.cascade.tensors.iter().enumerate() {
            let moved = traffic.get(m, t).total().unwrap_or_default();
            if best.is_none_or(|(_, most)| moved > most) {
                best = Some((&tensor.name, moved));
            }
        }
        let all = traffic.of_memory(m).and_then(|a| a.total());
        match (best, all) {
            (Some((name, moved)), Some(all)) => {
                format!(" ({name} is {} of them)", share(moved, all))
            }
            _ => String::new(),
        }
    }

    fn bound_by_arrays(&self, index: usize, memory: Option<(&str, Count)>) -> String {
        let block = self.block(index);
        let counts = &self.counts.cycles[index];
        let time = self.counts.times[index];
        let mut paced: Vec<(u128, String)> = Vec::new();
        let mut add = |cycles: u128, name: &str| {
            match paced.iter_mut().find(|(_, n)| n == name) {
                Some((sum, _)) => *sum += cycles,
                None if cycles > 0 => paced.push((cycles, name.to_string())),
                None => {}
            };
        };
        for phase in &block.phases {
            let by_unit = self.by_unit(index, phase);
            if let Some((cycles, name)) = self.slowest(&by_unit, &counts.units) {
                add(cycles, name);
            }
        }
        if block.phases.is_empty()
            && let Some((cycles, name)) = self.slowest(&counts.units, &counts.units)
        {
            add(cycles, name);
        }
        add(counts.drain, DRAIN);
        paced.sort_by_key(|(cycles, _)| std::cmp::Reverse(*cycles));
        let Some((_, first)) = paced.first() else {
            return "bound by nothing: there is no work".into();
        };
        let (still, next) = self.without(index, first, memory);
        let left = match (&next, still.is_zero()) {
            (_, true) => "nothing else takes time".to_string(),
            (next, false) => {
                let after = next
                    .as_ref()
                    .map_or(String::new(), |n| format!(", for {n}"));
                let part = share(still, time);
                let with = match first.as_str() {
                    DRAIN => "without the drain".to_string(),
                    _ => format!("were {first} free,"),
                };
                format!("{with} the block would still take {part} of the time{after}")
            }
        };
        match paced.as_slice() {
            [(_, only)] if block.phases.is_empty() => format!("bound by {only}: {left}"),
            [(_, only)] => {
                let ties = self.ties(index, only);
                let ties = match ties.as_slice() {
                    [] => String::new(),
                    ties => format!(" ({})", ties.join("; ")),
                };
                format!("bound by {only}: no array is slower in any phase{ties}; {left}")
            }
            paced => {
                let parts: Vec<String> = paced
                    .iter()
                    .map(|(cycles, name)| {
                        format!("{name} for {}", share(Count::whole(*cycles), time))
                    })
                    .collect();
                format!(
                    "bound by the phases in turn, paced by {} of the time: {left}",
                    list(&parts)
                )
            }
        }
    }

    /// Arrays that take as long as the given one in some phases.
    fn ties(&self, index: usize, pacer: &str) -> Vec<String> {
        let arrays = &self.mapped.accelerator.arrays;
        let mut out = Vec::new();
        for (unit, array) in arrays.iter().enumerate() {
            let mut phases = Vec::new();
            for phase in &self.block(index).phases {
                let by_unit = self.by_unit(index, phase);
                let most = by_unit.iter().copied().max().unwrap_or(0);
                if array.name != pacer && by_unit[unit] == most && most > 0 {
                    phases.push(phase.name.as_str());
                }
            }
            if !phases.is_empty() {
                out.push(format!("{} is as slow in {}", array.name, list(&phases)));
            }
        }
        out
    }

    /// Cycles of a phase by array.
    fn by_unit(&self, index: usize, phase: &Phase) -> Vec<u128> {
        let counts = &self.counts.cycles[index];
        let mut out = vec![0u128; self.mapped.accelerator.arrays.len()];
        for (n, e) in &phase.einsums {
            out[self.block(index).nests[*n].einsums[*e].unit] += counts.einsums[*n][*e];
        }
        out
    }

    /// What a block would take were one array's work, or the drain, free; and what then sets the pace, where it is one.
    fn without(
        &self,
        index: usize,
        free: &str,
        memory: Option<(&str, Count)>,
    ) -> (Count, Option<String>) {
        let counts = &self.counts.cycles[index];
        let arrays = &self.mapped.accelerator.arrays;
        let (mut sum, mut pacers) = (0u128, Vec::new());
        let mut add = |by_unit: &[u128]| {
            let others = by_unit.iter().zip(arrays).filter(|(_, a)| a.name != free);
            if let Some((cycles, array)) = others.max_by_key(|(cycles, _)| **cycles)
                && *cycles > 0
            {
                sum += cycles;
                if !pacers.contains(&array.name) {
                    pacers.push(array.name.clone());
                }
            }
        };
        for phase in &self.block(index).phases {
            add(&self.by_unit(index, phase));
        }
        if self.block(index).phases.is_empty() {
            add(&counts.units);
        }
        if free != DRAIN && counts.drain > 0 {
            sum += counts.drain;
            pacers.push(DRAIN.into());
        }
        match memory {
            Some((name, needs)) if needs > Count::whole(sum) => (needs, Some(name.to_string())),
            _ => (Count::whole(sum), Some(list(&pacers))),
        }
    }

    /// The slowest array; of equals the one with more work in all.
    fn slowest(&self, by_unit: &[u128], total: &[u128]) -> Option<(u128, &str)> {
        let arrays = &self.mapped.accelerator.arrays;
        by_unit
            .iter()
            .zip(total)
            .zip(arrays)
            .enumerate()
            .max_by_key(|(unit, (work, _))| (*work, std::cmp::Reverse(*unit)))
            .map(|(_, ((cycles, _), array))| (*cycles, array.name.as_str()))
    }

    /// Cycles of a tile, phase by phase.
    fn phase_table(&mut self, index: usize) {
        let block = self.block(index);
        let counts = &self.counts.cycles[index];
        let chip = &self.mapped.accelerator;
        let mut head = vec!["cycles a tile"];
        head.extend(chip.arrays.iter().map(|a| a.name.as_str()));
        let drains = block.phases.iter().any(|p| p.drain > 0);
        if drains {
            head.push("drain");
        }
        head.extend(["takes", "share"]);
        let mut table = render::table(&head);
        let tile = |cycles: u128| {
            let each = Count::whole(cycles).over(counts.tiles);
            each.map_or_else(String::new, number)
        };
        for phase in &block.phases {
            let by_unit = self.by_unit(index, phase);
            let slowest = by_unit.iter().copied().max().unwrap_or(0);
            let takes = slowest + counts.tiles * u128::from(phase.drain);
            let mut row = vec![phase.name.clone()];
            row.extend(by_unit.iter().map(|c| tile(*c)));
            if drains {
                row.push(phase.drain.to_string());
            }
            row.push(tile(takes));
            row.push(share(Count::whole(takes), self.counts.times[index]));
            table.add_row(row);
        }
        for line in render::finish(table, 1).lines() {
            self.out.push_str(&format!("    {line}\n"));
        }
    }

    /// All blocks together.
    pub(super) fn total(&mut self) -> Result<(), AnalyticError> {
        let mut sum = Count::default();
        for time in &self.counts.times {
            sum = sum.plus(*time).ok_or(AnalyticError::Overflow)?;
        }
        self.out.push('\n');
        if self.mapped.blocks.len() > 1 {
            let parts: Vec<String> = self
                .mapped
                .blocks
                .iter()
                .zip(&self.counts.times)
                .map(|(b, t)| format!("{} {}", b.name, share(*t, sum)))
                .collect();
            let blocks = list(&parts);
            self.line(
                0,
                &format!(
                    "IN ALL {} cycles, block after block: {blocks}",
                    sum.ceiling()
                ),
            );
        } else {
            self.line(0, &format!("IN ALL {} cycles", sum.ceiling()));
        }
        for (m, memory) in self.mapped.accelerator.memories.iter().enumerate() {
            let access = self.counts.traffic.of_memory(m);
            let access = access.ok_or(AnalyticError::Overflow)?;
            let (read, written) = (self.bytes(access.reads)?, self.bytes(access.writes)?);
            self.line(
                2,
                &format!("{}: {read} read, {written} written", memory.name),
            );
        }
        Ok(())
    }
}
