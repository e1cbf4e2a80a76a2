//! The analytic engine: action counts from loop-nest reuse, time by phases.
//!
//! A block takes the sum over its phases of the slowest unit, at least its traffic over the bandwidth of each memory
//! that states one; blocks add. No fill, no drain but a stated one, no prologue: those are the `cycle` engine's.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_mappings::{
    count::{BlockCycles, Count, Traffic, accesses, cycles, traffic, transferred, work},
    mapped::{Block, MappedCascade},
    nest::{CountError, Moved},
};
use einflow_workloads::cascade::{TensorId, TensorKind};
use indexmap::IndexMap;

use crate::energy::energy;
use crate::hardware;
use crate::report::{AreaItem, BlockReport, Inputs, LowerBound, Report, Unit};

impl Counts {
    /// Puts what a run measured in the place of what was counted: by block, words by transfer, and cycles.
    ///
    /// # Errors
    /// Overflow, or a transfer that cannot be counted.
    pub(crate) fn measured<'r>(
        &mut self,
        mapped: &MappedCascade,
        runs: impl Iterator<Item = (&'r [u128], u64)>,
    ) -> Result<(), AnalyticError> {
        let accelerator = &mapped.accelerator;
        let (memories, tensors) = (accelerator.memories.len(), mapped.cascade.tensors.len());
        self.traffic = Traffic::new(memories, tensors);
        for (index, (block, (words, cycles))) in mapped.blocks.iter().zip(runs).enumerate() {
            let fault = |source| AnalyticError::Count {
                block: block.name.clone(),
                source,
            };
            let mut moved = Vec::with_capacity(block.transfers.len());
            for (transfer, words) in block.transfers.iter().zip(words) {
                moved.push(Moved {
                    words: *words,
                    ..transferred(&block.space, transfer).map_err(fault)?
                });
            }
            let (transfers, counting) = (&block.transfers, accelerator.counting);
            let traffic =
                accesses(transfers, &moved, counting, memories, tensors).map_err(fault)?;
            self.traffic.add(&traffic).ok_or(AnalyticError::Overflow)?;
            self.block_traffic[index] = traffic;
            self.times[index] = Count::whole(cycles.into());
        }
        Ok(())
    }
}

/// Why a mapped cascade could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum AnalyticError {
    /// A nest that cannot be counted.
    #[error("block {block:?} cannot be counted: {source}")]
    Count {
        /// The block.
        block: String,
        /// What is in the way.
        source: CountError,
    },
    /// A count beyond 128 bits.
    #[error("a count overflows 128 bits")]
    Overflow,
}

/// The raw counts of one evaluation: everything that the report derives from.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Accesses by memory and tensor, all blocks.
    pub traffic: Traffic,
    /// By block: accesses.
    pub block_traffic: Vec<Traffic>,
    /// By block: cycles.
    pub cycles: Vec<BlockCycles>,
    /// By block, nest and Einsum: points at which it works.
    pub points: Vec<Vec<Vec<u128>>>,
    /// By block: duration in cycles, exact.
    pub times: Vec<Count>,
}

/// Counts actions and cycles. This is the part that a sweep repeats; [`evaluate`] makes a report of it.
///
/// # Errors
/// See [`AnalyticError`].
pub fn count(mapped: &MappedCascade) -> Result<Counts, AnalyticError> {
    let accelerator = &mapped.accelerator;
    let (memories, tensors) = (accelerator.memories.len(), mapped.cascade.tensors.len());
    let mut out = Counts {
        traffic: Traffic::new(memories, tensors),
        block_traffic: Vec::with_capacity(mapped.blocks.len()),
        cycles: Vec::with_capacity(mapped.blocks.len()),
        points: Vec::with_capacity(mapped.blocks.len()),
        times: Vec::with_capacity(mapped.blocks.len()),
    };
    for block in mapped.blocks.iter() {
        let fault = |source| AnalyticError::Count {
            block: block.name.clone(),
            source,
        };
        let moved = traffic(block, accelerator.counting, memories, tensors).map_err(fault)?;
        let time = cycles(block, accelerator.arrays.len()).map_err(fault)?;
        let mut worked = Vec::with_capacity(block.nests.len());
        for nest in &block.nests {
            worked.push(
                nest.einsums
                    .iter()
                    .map(|e| work(block, e))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(fault)?,
            );
        }
        let mut slowest = Count::whole(time.compute);
        for memory in 0..memories {
            if let Some(needed) =
                memory_time(accelerator, memory, &moved).ok_or(AnalyticError::Overflow)?
            {
                slowest = slowest.max(needed);
            }
        }
        out.traffic.add(&moved).ok_or(AnalyticError::Overflow)?;
        out.block_traffic.push(moved);
        out.cycles.push(time);
        out.points.push(worked);
        out.times.push(slowest);
    }
    Ok(out)
}

/// Cycles in which a memory moves a block's words; inner `None` for a memory without a bandwidth of its own.
pub fn memory_time(
    accelerator: &Accelerator,
    memory: usize,
    traffic: &Traffic,
) -> Option<Option<Count>> {
    let memory_spec = &accelerator.memories[memory];
    if memory_spec.bandwidth.is_none() {
        return Some(None);
    }
    let words = traffic.of_memory(memory)?.total()?;
    let bytes = words.times(accelerator.word.bytes().0)?;
    let each = hardware::cycles_per_byte(accelerator, memory_spec)?;
    Some(Some(
        bytes.times(each.numerator())?.over(each.denominator())?,
    ))
}

/// Evaluates a mapped cascade.
///
/// # Errors
/// See [`AnalyticError`].
pub fn evaluate(mapped: &MappedCascade) -> Result<Report, AnalyticError> {
    report(mapped, &count(mapped)?, "analytic")
}

/// The report of an engine's counts and times.
///
/// # Errors
/// Overflow of 128 bits.
pub(crate) fn report(
    mapped: &MappedCascade,
    counts: &Counts,
    engine: &'static str,
) -> Result<Report, AnalyticError> {
    let accelerator = &mapped.accelerator;
    let mut units: IndexMap<String, Unit> = accelerator
        .arrays
        .iter()
        .map(|a| {
            (
                a.name.clone(),
                Unit {
                    pes: a.pes(),
                    busy: IndexMap::new(),
                },
            )
        })
        .collect();
    let mut blocks = Vec::new();
    let mut total = Count::default();
    for (index, block) in mapped.blocks.iter().enumerate() {
        total = total
            .plus(counts.times[index])
            .ok_or(AnalyticError::Overflow)?;
        for (nest, points) in block.nests.iter().zip(&counts.points[index]) {
            for (einsum, points) in nest.einsums.iter().zip(points) {
                let busy = points
                    .checked_mul(u128::from(einsum.cycles))
                    .ok_or(AnalyticError::Overflow)?;
                let (_, unit) = units
                    .get_index_mut(einsum.unit)
                    .ok_or(AnalyticError::Overflow)?;
                let sum = unit.busy.entry(einsum.name.clone()).or_insert(0);
                *sum = sum.checked_add(busy).ok_or(AnalyticError::Overflow)?;
            }
        }
        blocks.push(block_report(mapped, block, index, counts).ok_or(AnalyticError::Overflow)?);
    }
    let mut traffic_by_memory = IndexMap::new();
    for (m, memory) in accelerator.memories.iter().enumerate() {
        let mut tensors = IndexMap::new();
        for (t, tensor) in mapped.cascade.tensors.iter().enumerate() {
            let access = counts.traffic.get(m, t);
            if !access.reads.is_zero() || !access.writes.is_zero() {
                tensors.insert(tensor.name.clone(), access);
            }
        }
        traffic_by_memory.insert(memory.name.clone(), tensors);
    }
    let energy = energy(
        mapped,
        &counts.traffic,
        &counts.points,
        &mut traffic_by_memory,
    )
    .ok_or(AnalyticError::Overflow)?;
    let occupancy = accelerator
        .memories
        .iter()
        .enumerate()
        .filter(|(_, m)| m.capacity.is_some())
        .map(|(i, m)| {
            (
                m.name.clone(),
                mapped
                    .blocks
                    .iter()
                    .filter_map(|b| b.occupancy.get(i))
                    .copied()
                    .max()
                    .unwrap_or(0),
            )
        })
        .collect();
    Ok(Report {
        inputs: Inputs {
            workload: mapped.cascade.name.clone(),
            model: None,
            length: None,
            accelerator: accelerator.name.clone(),
            mapping: mapped.spec.name.clone(),
            engine,
            set: Vec::new(),
            sizes: mapped.sizes.clone(),
            block_sizes: block_sizes(mapped),
            overridden: Vec::new(),
        },
        time: total,
        clock: accelerator.clock.0,
        word_bytes: mapped.word_bytes(),
        units,
        traffic: traffic_by_memory,
        outermost: accelerator
            .memories
            .first()
            .map(|m| m.name.clone())
            .unwrap_or_default(),
        occupancy,
        energy,
        area: area(accelerator),
        blocks,
        lower_bound: lower_bound(mapped, counts).ok_or(AnalyticError::Overflow)?,
        uncharged: accelerator.uncharged(),
        account: None,
        check: None,
    })
}

/// The memory whose traffic bounds a block, where one does.
pub(crate) fn memory_bound<'m>(
    mapped: &'m MappedCascade,
    counts: &Counts,
    index: usize,
) -> Option<&'m str> {
    let compute = Count::whole(counts.cycles[index].compute);
    let memories = mapped.accelerator.memories.iter().enumerate();
    memories
        .filter_map(|(m, spec)| {
            let time = memory_time(&mapped.accelerator, m, &counts.block_traffic[index])??;
            (time > compute).then_some((spec.name.as_str(), time))
        })
        .max_by(|a, b| a.1.cmp(&b.1))
        .map(|(name, _)| name)
}

/// By block: sizes of the parts that other blocks have not, or have otherwise.
fn block_sizes(mapped: &MappedCascade) -> Vec<(String, BTreeMap<String, u64>)> {
    let shared = |name: &String, size: &u64| {
        mapped
            .blocks
            .iter()
            .all(|block| block.parts.get(name) == Some(size))
    };
    let own = mapped.blocks.iter().map(|block| {
        let parts = block
            .parts
            .iter()
            .filter(|(name, size)| !shared(name, size));
        (
            block.name.clone(),
            parts.map(|(name, size)| (name.clone(), *size)).collect(),
        )
    });
    own.filter(|(_, parts): &(_, BTreeMap<_, _>)| !parts.is_empty())
        .collect()
}

fn block_report(
    mapped: &MappedCascade,
    block: &Block,
    index: usize,
    counts: &Counts,
) -> Option<BlockReport> {
    let accelerator = &mapped.accelerator;
    let cycles = &counts.cycles[index];
    let mut memory = IndexMap::new();
    let mut bottleneck = None;
    for (m, spec) in accelerator.memories.iter().enumerate() {
        if let Some(time) = memory_time(accelerator, m, &counts.block_traffic[index])? {
            if time > Count::whole(cycles.compute)
                && bottleneck.as_ref().is_none_or(|(_, t)| time > *t)
            {
                bottleneck = Some((spec.name.clone(), time));
            }
            memory.insert(spec.name.clone(), time);
        }
    }
    // Each phase is paced by its slowest unit.
    let mut paced_by: IndexMap<String, u128> = IndexMap::new();
    let mut pace = |name: &str, cycles: u128| {
        if cycles > 0 {
            let sum = paced_by.entry(name.to_string()).or_insert(0);
            *sum = sum.saturating_add(cycles);
        }
    };
    for phase in &block.phases {
        let mut by_unit = vec![0u128; accelerator.arrays.len()];
        for (n, e) in &phase.einsums {
            by_unit[block.nests[*n].einsums[*e].unit] += cycles.einsums[*n][*e];
        }
        pace_slowest(&by_unit, &cycles.units, accelerator, &mut pace);
    }
    if block.phases.is_empty() {
        pace_slowest(&cycles.units, &cycles.units, accelerator, &mut pace);
    }
    pace("drain", cycles.drain);
    let mut slowest: Option<(&String, u128)> = None;
    for (name, cycles) in &paced_by {
        if slowest.is_none_or(|(_, c)| *cycles > c) {
            slowest = Some((name, *cycles));
        }
    }
    let bottleneck = bottleneck
        .map(|(name, _)| name)
        .or(slowest.map(|(name, _)| name.clone()))
        .unwrap_or_default();
    Some(BlockReport {
        name: block.name.clone(),
        time: counts.times[index],
        compute: cycles.compute,
        memory,
        paced_by,
        bottleneck,
    })
}

/// Of equally slow units, the one with more work in all sets the pace.
fn pace_slowest(
    by_unit: &[u128],
    total: &[u128],
    accelerator: &Accelerator,
    pace: &mut dyn FnMut(&str, u128),
) {
    let slowest = by_unit
        .iter()
        .zip(total)
        .enumerate()
        .max_by_key(|(unit, work)| (*work, std::cmp::Reverse(*unit)));
    if let Some((unit, (cycles, _))) = slowest
        && let Some(array) = accelerator.arrays.get(unit)
    {
        pace(&array.name, *cycles);
    }
}

fn area(accelerator: &Accelerator) -> Vec<AreaItem> {
    let mut out = Vec::new();
    for memory in &accelerator.memories {
        out.push(AreaItem {
            component: memory.name.clone(),
            in_array: None,
            count: 1,
            area: memory.area.0,
        });
    }
    for array in &accelerator.arrays {
        let in_array = Some(array.name.clone());
        for (name, component) in &array.components {
            out.push(AreaItem {
                component: format!("{}.{name}", array.name),
                in_array: in_array.clone(),
                count: array.pes() * u128::from(component.count),
                area: component.area.0,
            });
        }
        let component = format!("{}.registers", array.name);
        out.push(AreaItem {
            component,
            in_array,
            count: array.pes(),
            area: array.registers.area.0,
        });
    }
    out
}

/// Work over all PEs, each Einsum on whichever array takes the fewest cycles for it, and inputs and outputs moved
/// once.
fn lower_bound(mapped: &MappedCascade, counts: &Counts) -> Option<LowerBound> {
    let accelerator = &mapped.accelerator;
    let pes: u128 = accelerator.arrays.iter().map(|a| a.pes()).sum();
    let mut work = 0u128;
    for (block, points) in mapped.blocks.iter().zip(&counts.points) {
        for (nest, points) in block.nests.iter().zip(points) {
            for (einsum, points) in nest.einsums.iter().zip(points) {
                let on = |array: &einflow_arch::Array| {
                    einsum
                        .operators
                        .iter()
                        .try_fold(0u64, |sum, (operator, times)| {
                            array
                                .operator(operator)?
                                .cycles
                                .checked_mul(*times)?
                                .checked_add(sum)
                        })
                };
                let least = accelerator
                    .arrays
                    .iter()
                    .filter_map(on)
                    .min()
                    .unwrap_or(einsum.cycles);
                work = work.checked_add(points.checked_mul(u128::from(least))?)?;
            }
        }
    }
    let mut words = 0u128;
    for (i, tensor) in mapped.cascade.tensors.iter().enumerate() {
        if matches!(tensor.kind, TensorKind::Input | TensorKind::Output) {
            // Skipping may leave out results of which every input is masked.
            let moved = counts.traffic.get(0, i).total()?.ceiling();
            words = words.checked_add(mapped.needed(TensorId(i)).min(moved))?;
        }
    }
    let dram_bytes = words.checked_mul(mapped.word_bytes())?;
    let bandwidth = accelerator.memories.first().and_then(|m| m.bandwidth);
    Some(LowerBound {
        compute_seconds: work as f64 / pes as f64 / accelerator.clock.0,
        dram_bytes,
        memory_seconds: bandwidth.map_or(0.0, |b| dram_bytes as f64 / b.0),
    })
}
