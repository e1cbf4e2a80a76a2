//! A report and its parts.

use std::{collections::BTreeMap, sync::Arc};

use einflow_mappings::count::{Access, Count};
use einflow_workloads::sizes::OverriddenDefault;
use indexmap::IndexMap;

use super::{account::Account, checked::Check};

/// The result of a run of one or several cascades.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub inputs: Inputs,
    /// Duration in cycles of the accelerator's clock, exact.
    pub time: Count,
    /// The accelerator's clock, in hertz.
    pub clock: f64,
    /// Bytes of a word.
    pub word_bytes: u128,
    /// By array: its PEs and what they worked on.
    pub units: IndexMap<String, Unit>,
    /// By memory (and register file), by tensor: words. Registers are counted under the tensor that is being made.
    pub traffic: IndexMap<String, IndexMap<String, Access>>,
    /// Name of the outermost memory.
    pub outermost: String,
    /// Bytes that each bounded memory holds at the worst moment.
    pub occupancy: IndexMap<String, u128>,
    /// Where the energy goes.
    pub energy: Vec<Charge>,
    /// Where the area goes: component, count, um^2 of one.
    pub area: Vec<AreaItem>,
    /// Blocks, in order.
    pub blocks: Vec<BlockReport>,
    /// What no legal mapping can beat.
    pub lower_bound: LowerBound,
    /// Parameters for which nothing is published and which cost nothing here.
    pub uncharged: Vec<String>,
    /// Where every cycle goes, where the engine tells.
    pub account: Option<Account>,
    /// What a check of the values found, where one was asked for.
    pub check: Option<Arc<Check>>,
}

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The cascade.
    pub workload: String,
    /// The model that gave the sizes.
    pub model: Option<String>,
    /// The sequence length.
    pub length: Option<u64>,
    /// The accelerator.
    pub accelerator: String,
    /// The mapping.
    pub mapping: String,
    /// The engine.
    pub engine: &'static str,
    /// What was changed in the files: path, value as text.
    pub set: Vec<(String, String)>,
    /// Sizes of all ranks and parts; of a part that differs from block to block, the first block's.
    pub sizes: BTreeMap<String, u64>,
    /// By block: sizes of the parts that other blocks have not, or have otherwise.
    pub block_sizes: Vec<(String, BTreeMap<String, u64>)>,
    /// Sizes that the model gave in place of the cascade's defaults.
    pub overridden: Vec<OverriddenDefault>,
}

/// An array and its work.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its PEs.
    pub pes: u128,
    /// By Einsum: PE-cycles of useful work.
    pub busy: IndexMap<String, u128>,
}

/// One line of the energy ledger: `count` actions of `energy` pJ each.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The component (`dram`, `array2d.mac`).
    pub component: String,
    /// The action (`read`, `write`, `compute`).
    pub action: &'static str,
    /// How often; a fraction where a row is shared or a tensor kept in part.
    pub count: Count,
    /// Energy of one action, in pJ.
    pub energy: f64,
}

impl Charge {
    /// Energy of the line, in pJ.
    pub fn total(&self) -> f64 {
        self.count.as_f64() * self.energy
    }
}

/// One line of the area ledger.
#[derive(Clone, Debug)]
pub struct AreaItem {
    /// The component.
    pub component: String,
    /// Whether it is a part of an array (else a memory).
    pub in_array: Option<String>,
    /// How many there are.
    pub count: u128,
    /// Area of one, in um^2.
    pub area: f64,
}

/// One block's time.
#[derive(Clone, Debug)]
pub struct BlockReport {
    /// Its name.
    pub name: String,
    /// Cycles, exact.
    pub time: Count,
    /// Cycles that the units need, memory aside.
    pub compute: u128,
    /// Cycles that each memory with a bandwidth needs.
    pub memory: IndexMap<String, Count>,
    /// By array: the cycles in which it sets the pace.
    pub paced_by: IndexMap<String, u128>,
    /// What bounds it.
    pub bottleneck: String,
}

/// What no legal mapping on this accelerator can beat.
#[derive(Clone, Debug, Default)]
pub struct LowerBound {
    /// Seconds that the operations take with every PE of every array busy.
    pub compute_seconds: f64,
    /// Bytes of inputs and outputs, each moved once.
    pub dram_bytes: u128,
    /// Seconds that those bytes take.
    pub memory_seconds: f64,
}

impl Report {
    /// Duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.time.as_f64() / self.clock
    }

    /// Duration in whole cycles, rounded up.
    pub fn cycles(&self) -> u128 {
        self.time.ceiling()
    }

    /// Share of an array's PE-cycles in which it does useful work, 0 to 1.
    pub fn utilization(&self, unit: &str) -> f64 {
        self.units
            .get(unit)
            .map_or(0.0, |u| self.share(u, u.busy.values().sum::<u128>() as f64))
    }

    /// The same by Einsum.
    pub fn utilization_by_einsum(&self, unit: &str) -> IndexMap<String, f64> {
        self.units
            .get(unit)
            .map(|u| {
                u.busy
                    .iter()
                    .map(|(name, busy)| (name.clone(), self.share(u, *busy as f64)))
                    .collect()
            })
            .unwrap_or_default()
    }

    fn share(&self, unit: &Unit, busy: f64) -> f64 {
        let available = unit.pes as f64 * self.time.as_f64();
        if available > 0.0 {
            busy / available
        } else {
            0.0
        }
    }

    /// Words that a memory reads and writes.
    pub fn words(&self, memory: &str) -> Access {
        let zero = Access::default();
        self.traffic.get(memory).map_or(zero, |tensors| {
            tensors.values().fold(zero, |sum, a| Access {
                reads: sum.reads.plus(a.reads).unwrap_or(sum.reads),
                writes: sum.writes.plus(a.writes).unwrap_or(sum.writes),
            })
        })
    }

    /// Bytes that the outermost memory reads, writes, and both. Of each tensor the words are whole, so that sums are
    /// those of what is shown.
    pub fn dram_bytes(&self) -> (u128, u128, u128) {
        let tensors = self.traffic.get(&self.outermost);
        let bytes = |words: &dyn Fn(&Access) -> Count| -> u128 {
            let tensors = tensors.into_iter().flat_map(|tensors| tensors.values());
            tensors.map(|a| words(a).rounded() * self.word_bytes).sum()
        };
        let (read, write) = (bytes(&|a| a.reads), bytes(&|a| a.writes));
        (read, write, read + write)
    }

    /// The first measure that no double holds: it is infinite, or no number.
    pub fn beyond_a_double(&self) -> Option<String> {
        let energy = self
            .energy
            .iter()
            .map(|c| (format!("energy of {}", c.component), c.total()));
        let area = self
            .area
            .iter()
            .map(|a| (format!("area of {}", a.component), a.count as f64 * a.area));
        let whole = [
            ("time", self.seconds()),
            ("energy", self.energy_pj()),
            ("area", self.area_um2()),
            ("least time", self.lower_bound.compute_seconds),
            ("least time of the memory", self.lower_bound.memory_seconds),
            ("memory's time", self.memory_seconds()),
        ];
        let whole = whole.map(|(name, value)| (name.to_owned(), value));
        let mut all = energy.chain(area).chain(whole);
        all.find_map(|(name, value)| (!value.is_finite()).then_some(name))
    }

    /// Energy in pJ.
    pub fn energy_pj(&self) -> f64 {
        self.energy.iter().map(Charge::total).sum()
    }

    /// Energy in pJ by component.
    pub fn energy_by_component(&self) -> IndexMap<String, f64> {
        let mut out = IndexMap::new();
        for charge in &self.energy {
            *out.entry(charge.component.clone()).or_insert(0.0) += charge.total();
        }
        out
    }

    /// Area in um^2.
    pub fn area_um2(&self) -> f64 {
        self.area.iter().map(|a| a.count as f64 * a.area).sum()
    }

    /// Area in um^2 of one array, or of all arrays.
    pub fn array_area_um2(&self, array: Option<&str>) -> f64 {
        let of = |a: &&AreaItem| {
            a.in_array
                .as_deref()
                .is_some_and(|name| array.is_none_or(|n| n == name))
        };
        self.area
            .iter()
            .filter(of)
            .map(|a| a.count as f64 * a.area)
            .sum()
    }

    /// What bounds the run: the resource that sets the pace for most of the time.
    pub fn bottleneck(&self) -> String {
        let mut by: IndexMap<&str, Count> = IndexMap::new();
        for block in &self.blocks {
            let sum = by.entry(block.bottleneck.as_str()).or_default();
            *sum = sum.plus(block.time).unwrap_or(*sum);
        }
        let mut best: Option<(&str, Count)> = None;
        for (name, time) in by {
            if best.is_none_or(|(_, b)| time > b) {
                best = Some((name, time));
            }
        }
        best.map_or_else(String::new, |(name, _)| name.to_string())
    }

    /// Seconds that the units need, memory aside.
    pub fn compute_seconds(&self) -> f64 {
        let cycles: u128 = self.blocks.iter().map(|b| b.compute).sum();
        cycles as f64 / self.clock
    }

    /// Seconds that the slowest memory of each block needs.
    pub fn memory_seconds(&self) -> f64 {
        let slowest = self.blocks.iter();
        let cycles = slowest
            .filter_map(|b| b.memory.values().copied().max())
            .fold(Count::default(), |sum, t| sum.plus(t).unwrap_or(sum));
        cycles.as_f64() / self.clock
    }

    /// How many times longer the run takes than the longer of its two lower bounds.
    pub fn above_bound(&self) -> f64 {
        self.seconds()
            / self
                .lower_bound
                .compute_seconds
                .max(self.lower_bound.memory_seconds)
    }
}
