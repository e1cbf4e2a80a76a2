//! What a random mapping keeps where, and how it binds an Einsum.

use std::{collections::BTreeMap, fmt::Write as _};

use einflow_workloads::cascade::{Einsum, TensorId, TensorKind};

use crate::cases::{Lanes, Maker, Shared};

impl Maker<'_, '_> {
    pub fn place(&mut self, memory: &str, loops: &[String], depth: usize, partly: bool) -> String {
        let below = if depth == 0 {
            String::new()
        } else {
            format!(", below: {:?}", loops[depth - 1])
        };
        let share = if partly && self.draws.one_in(4) {
            let share = ["0.5", "0.25", "0.75", "0"][self.draws.below(4)];
            let spills = ["around", "through"][self.draws.below(2)];
            format!(", share: {share}, spills: {spills}")
        } else {
            String::new()
        };
        format!("(memory: {memory:?}{below}{share})")
    }

    /// What the whole block keeps; also by tensor the innermost memory.
    pub fn keeps(
        &mut self,
        einsums: &[&Einsum],
        loops: &[String],
        looping: Option<usize>,
    ) -> (String, BTreeMap<TensorId, Vec<String>>) {
        let mut out = String::new();
        let mut innermost = BTreeMap::new();
        for i in 0..self.cascade.tensors.len() {
            let tensor = &self.cascade.tensors[i];
            let made = einsums.iter().any(|e| e.output == TensorId(i));
            let read = einsums
                .iter()
                .any(|e| e.reads.iter().any(|r| self.viewed(r.tensor) == TensorId(i)));
            if tensor.kind == TensorKind::View || !(made || read) {
                continue;
            }
            let name = tensor.name.clone();
            let mut places = Vec::new();
            let mut registers = None;
            let most = match looping {
                // The running value has to outlast the iterations.
                Some(at) if tensor.iterative.is_some() => at,
                _ => loops.len(),
            };
            let inner = tensor.kind == TensorKind::Intermediate;
            let wanted = if inner && tensor.iterative.is_some() {
                1
            } else {
                self.draws.below(self.memories.len())
            };
            // Read in two ways: only all of it serves both.
            let most = if name == "A" && self.cascade.name == "test/gram" {
                0
            } else {
                most
            };
            let mut depth = 0;
            for m in 1..self.memories.len() {
                if places.len() >= wanted && !(inner && places.is_empty()) {
                    break;
                }
                if self.memories.len() - m > wanted.max(1) - places.len().min(wanted)
                    && self.draws.one_in(2)
                {
                    continue;
                }
                depth += self.draws.below(most + 1 - depth);
                let memory = self.memories[m].clone();
                innermost
                    .entry(TensorId(i))
                    .or_insert_with(Vec::new)
                    .push(memory.clone());
                let last = places.len() + 1 >= wanted;
                places.push(self.place(&memory, loops, depth, last && tensor.iterative.is_none()));
            }
            // A running value in registers must be made there; of those only RM is not read at the exit.
            let running = tensor.iterative.is_some();
            if self.draws.one_in(if name == "RM" { 2 } else { 5 }) && (!running || name == "RM") {
                let array = ["array2d", "array1d"][if running { 0 } else { self.draws.below(2) }];
                let deep = if self.cascade.name == "test/gram" {
                    0
                } else {
                    depth + self.draws.below(loops.len() + 1 - depth)
                };
                registers = Some(array);
                self.in_registers.insert(TensorId(i), (array, None));
                places.push(self.place(array, loops, deep, false));
            }
            if registers.is_some() && made {
                innermost.remove(&TensorId(i));
            }
            if !places.is_empty() {
                let _ = write!(out, "{name:?}: [{}], ", places.join(", "));
            }
        }
        (out, innermost)
    }

    /// What a nest keeps besides: another tile inside the block's.
    pub fn nest_keeps(
        &mut self,
        einsums: &[&Einsum],
        shared: &Shared,
        block: &mut (String, BTreeMap<TensorId, Vec<String>>),
    ) -> String {
        let loops: Vec<String> = shared.block.iter().chain(&shared.nest).cloned().collect();
        let mut out = String::new();
        for i in 0..self.cascade.tensors.len() {
            let tensor = &self.cascade.tensors[i];
            let made = einsums.iter().any(|e| e.output == TensorId(i));
            let read = einsums
                .iter()
                .any(|e| e.reads.iter().any(|r| self.viewed(r.tensor) == TensorId(i)));
            let name = tensor.name.clone();
            // What the block keeps there is kept, and inside what it keeps in part is no other tile; running values have one place.
            let kept = block.0.split(&format!("{name:?}: [")).nth(1);
            let kept = kept.and_then(|k| k.split(']').next()).unwrap_or("");
            let kept = kept.contains("share") || kept.contains("\"buffer\"");
            let twice = self.cascade.name == "test/gram" && name == "A";
            if tensor.kind == TensorKind::View
                || !(made || read)
                || kept
                || twice
                || tensor.iterative.is_some()
                || !self.draws.one_in(6)
            {
                continue;
            }
            let depth = shared.block.len() + self.draws.below(shared.nest.len() + 1);
            let place = self.place("buffer", &loops, depth, false);
            let _ = write!(out, "{name:?}: [{place}], ");
            block.1.remove(&TensorId(i));
        }
        out
    }

    pub fn viewed(&self, tensor: TensorId) -> TensorId {
        let mut tensor = tensor;
        while let Some(view) = self
            .cascade
            .tensor(tensor)
            .producer
            .map(|p| self.cascade.einsum(p))
            .filter(|e| e.view)
        {
            tensor = view.reads[0].tensor;
        }
        tensor
    }

    /// Whether two Einsums have the same words of a tensor in the same PEs.
    fn alike(&self, tensor: TensorId, a: &Lanes, b: &Lanes) -> bool {
        let ranks = &self.cascade.tensor(tensor).ranks;
        let own = |lane: &Option<String>| {
            let cut = self
                .cuts
                .iter()
                .find(|c| lane.as_ref().is_some_and(|l| c.parts.contains(l)))?;
            (ranks.contains(&cut.rank) || self.cascade.batch.contains(&cut.rank))
                .then(|| lane.clone())
                .flatten()
        };
        a.iter().zip(b).all(|(a, b)| own(a) == own(b))
    }

    pub fn binding(
        &mut self,
        einsum: &Einsum,
        shared: &Shared,
        kept: &BTreeMap<TensorId, Vec<String>>,
    ) -> String {
        let ranks = self.ranks(einsum);
        let at_exit = shared
            .exit
            .as_ref()
            .filter(|_| self.cascade.tensor(einsum.output).kind == TensorKind::Output);
        let around: Vec<&String> = shared
            .block
            .iter()
            .chain(&shared.nest)
            .filter(|l| at_exit != Some(*l))
            .collect();
        let mut rest: Vec<Vec<String>> = Vec::new();
        for cut in self.cuts.iter().filter(|c| ranks.contains(&c.rank)) {
            rest.push(
                cut.parts
                    .iter()
                    .filter(|p| !around.contains(p))
                    .cloned()
                    .collect(),
            );
        }
        rest.retain(|l| !l.is_empty());
        let unit = if self.cascade.tensor(einsum.output).name == "RM" {
            0
        } else {
            self.draws.below(2)
        };
        let mut lanes = Vec::new();
        for _ in 0..2 - unit {
            if !rest.is_empty() && self.draws.one_in(2) {
                let at = self.draws.below(rest.len());
                let lane = rest[at].last().cloned().unwrap_or_default();
                // A part of the cascade's own that is coarse stays in time while the fine one is walked.
                let coarse = self
                    .cascade
                    .partitions
                    .iter()
                    .any(|p| self.cascade.rank(p.parts[0]).variable == lane);
                if !lanes.contains(&lane) && !coarse {
                    rest[at].pop();
                    lanes.push(lane);
                }
                rest.retain(|l| !l.is_empty());
            }
        }
        let mut dimensions = if unit == 1 { vec![1] } else { vec![0, 1] };
        let mut laid: Lanes = [None, None];
        for lane in lanes {
            let dimension = dimensions.remove(self.draws.below(dimensions.len()));
            laid[dimension] = Some(lane);
        }
        let array = ["array2d", "array1d"][unit];
        let touched: Vec<TensorId> = std::iter::once(einsum.output)
            .chain(einsum.reads.iter().map(|r| self.viewed(r.tensor)))
            .collect();
        // Where registers keep what it uses for an Einsum that is laid otherwise, one PE works.
        let elsewhere = touched.iter().any(|t| {
            let kept = self.in_registers.get(t).filter(|(at, _)| *at == array);
            let first = kept.and_then(|(_, first)| first.as_ref());
            first.is_some_and(|first| !self.alike(*t, first, &laid))
        });
        if elsewhere {
            for lane in laid.iter_mut().filter_map(Option::take) {
                let coarser = self.cuts.iter().find(|c| c.parts.contains(&lane));
                let coarser = coarser.map(|c| c.parts.clone()).unwrap_or_default();
                match rest.iter_mut().find(|l| coarser.contains(&l[0])) {
                    Some(list) => list.push(lane),
                    None => rest.push(vec![lane]),
                }
            }
        }
        for tensor in touched {
            if let Some((at, first @ None)) = self.in_registers.get_mut(&tensor)
                && *at == array
            {
                *first = Some(laid.clone());
            }
        }
        let loops = self.interleaved(rest);
        let mut out = format!("(unit: {array:?}, loops: {loops:?}");
        for (dimension, lane) in ["rows", "columns"].iter().zip(&laid) {
            if let Some(lane) = lane {
                let _ = write!(out, ", {dimension}: {lane:?}");
            }
        }
        if let Some(exit) = at_exit {
            let _ = write!(out, ", at_exit_of: {exit:?}");
        }
        // Registers, which are not among these, and partial results in a memory exclude each other.
        let memory = kept.get(&einsum.output).and_then(|k| k.last());
        if let Some(memory) = memory.filter(|_| self.draws.one_in(8)) {
            let _ = write!(out, ", partials: {memory:?}");
        }
        let mut from = String::new();
        for read in &einsum.reads {
            let id = self.viewed(read.tensor);
            let tensor = self.cascade.tensor(id);
            // A link to the other array joins equal columns.
            let alike = |at: &String| {
                let mut other = self.laid[&id].clone();
                if at != array {
                    other[0].clone_from(&laid[0]);
                }
                self.alike(id, &other, &laid)
            };
            let forwarded = self.units.get(&id).filter(|_| tensor.iterative.is_none());
            let forwarded = forwarded.filter(|at| alike(at));
            let place = match (forwarded, kept.get(&id)) {
                (Some(unit), _) if self.draws.one_in(8) => unit,
                (None, Some(kept)) if kept.len() > 1 && self.draws.one_in(4) => &kept[0],
                _ => continue,
            };
            let entry = format!("{:?}: {place:?}, ", tensor.name);
            if !from.contains(&entry) {
                from.push_str(&entry);
            }
        }
        if !from.is_empty() {
            let _ = write!(out, ", from: {{ {from} }}");
        }
        self.units.insert(einsum.output, array.to_string());
        self.laid.insert(einsum.output, laid);
        out.push(')');
        out
    }
}
