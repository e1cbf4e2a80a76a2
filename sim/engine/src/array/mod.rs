//! The array engine: every PE, register and link, with the values moving.
//!
//! It runs the same static [`Program`]s as the cycle engine, by the same rules ([`crate::events`]). What is its own
//! are the words: each carries its tensor and its coordinates, it is tracked where it is from when on, and every read
//! of every step looks whether its word is there. A task that has started never stalls: what is missing is an error,
//! which names the word.
//!
//! # Time
//! PE (i, j) carries out each step i + j cycles after PE (0, 0). The engine goes step by step over the whole array,
//! which is the same as cycle by cycle: times are those of PE (0, 0), and a hop in the direction of the wavefront
//! costs nothing in them.
//!
//! # Values
//! Operators and reductions compute in the accumulator's format of the accelerator's word, what they populate is
//! rounded to the word.
//! A PE adds up what it makes one step after another. PEs that share a result add theirs along the links when it
//! leaves, the first first.
//! Partial results that leave for a memory are added there, and keep the accumulator's precision until they are whole.

mod arrays;
mod coordinates;
mod count;
mod error;
mod kernel;
mod links;
mod moving;
mod place;
mod plan;
mod registers;
mod run;
mod streams;
mod tensors;
mod words;
mod work;

pub use coordinates::Coordinates;
pub use error::{ArrayError, BusyPe, CrowdedLink, FullRegisters, MissingWord};

use std::collections::BTreeMap;

use einflow_mappings::mapped::MappedCascade;
use einflow_workloads::{cascade::TensorKind, interpret::Array};

use crate::{
    analytic::{self, AnalyticError},
    events::{EventError, Machine, Observer, Unseen},
    program::Program,
    report::Report,
};
use arrays::Arrays;
use tensors::{NOT_MADE, THERE, Tensor};

/// What a block did.
#[derive(Clone, Debug)]
pub struct ArrayBlock {
    /// The block.
    pub name: String,
    /// Cycles from its start to its end.
    pub cycles: u64,
    /// By unit: cycles in which it works.
    pub busy: Vec<u64>,
    /// By transfer: words moved.
    pub words: Vec<u128>,
}

/// What a run on the arrays made.
#[derive(Clone, Debug)]
pub struct ArrayRun {
    /// The blocks, one after another.
    pub blocks: Vec<ArrayBlock>,
    /// The cascade's outputs, by name.
    pub outputs: BTreeMap<String, Array>,
    /// All that Einsums made on the way, by name.
    pub intermediates: BTreeMap<String, Array>,
    /// Cycles of all PEs in which their array works.
    pub pe_cycles: u128,
    /// By unit: the most words that lived in the registers of one PE.
    pub peak_registers: Vec<u64>,
}

/// Builds the programs of all blocks.
///
/// # Errors
/// As [`crate::program::programs`].
pub fn programs(mapped: &MappedCascade) -> Result<Vec<Program>, ArrayError> {
    Ok(crate::program::programs(mapped).map_err(EventError::from)?)
}

/// Runs a mapped cascade on its accelerator's arrays.
///
/// # Errors
/// See [`ArrayError`].
pub fn run(
    mapped: &MappedCascade,
    inputs: &BTreeMap<String, Array>,
) -> Result<ArrayRun, ArrayError> {
    run_programs(mapped, &programs(mapped)?, inputs, &mut Unseen)
}

/// The report of a run: times and words as the arrays moved them. Values depend on the inputs and are not in it.
///
/// # Errors
/// What the analytic engine cannot count either.
pub fn report(mapped: &MappedCascade, run: &ArrayRun) -> Result<Report, AnalyticError> {
    let mut counts = analytic::count(mapped)?;
    let blocks = run.blocks.iter();
    counts.measured(mapped, blocks.map(|b| (&b.words[..], b.cycles)))?;
    analytic::report(mapped, &counts, "array")
}

/// As [`run`], of given programs, one for each block, and watched as a run of the cycle engine is.
///
/// # Errors
/// See [`ArrayError`].
pub fn run_programs(
    mapped: &MappedCascade,
    programs: &[Program],
    inputs: &BTreeMap<String, Array>,
    observer: &mut dyn Observer,
) -> Result<ArrayRun, ArrayError> {
    let format = mapped.accelerator.word;
    let mut tensors = tensors::load(mapped, inputs, format)?;
    let mut out = ArrayRun {
        blocks: Vec::new(),
        outputs: BTreeMap::new(),
        intermediates: BTreeMap::new(),
        pe_cycles: 0,
        peak_registers: vec![0; mapped.accelerator.arrays.len()],
    };
    for (index, program) in programs.iter().enumerate() {
        let mut machine = Machine::new(mapped, program, index).map_err(EventError::from)?;
        let mut arrays = Arrays::new(mapped, program, index, &mut tensors)?;
        while machine.step(&mut arrays, observer)? {}
        for (busy, array) in machine.totals.busy.iter().zip(&mapped.accelerator.arrays) {
            out.pe_cycles += u128::from(*busy) * array.pes();
        }
        for (peak, own) in out.peak_registers.iter_mut().zip(&arrays.peak_registers) {
            *peak = (*peak).max(*own);
        }
        arrays.complete();
        out.blocks.push(ArrayBlock {
            name: program.name.clone(),
            cycles: machine.state.end,
            busy: machine.totals.busy,
            words: arrays.words,
        });
        for op in &program.ops {
            // The next block finds its words where it starts.
            let tensor = &mut tensors[op.output.0];
            tensor.task.iter_mut().for_each(|task| *task = THERE);
            tensor.outer.clear();
        }
    }
    for (t, tensor) in mapped.cascade.tensors.iter().enumerate() {
        match tensor.kind {
            TensorKind::Output => out.outputs.insert(tensor.name.clone(), whole(&tensors[t])),
            TensorKind::Intermediate => out
                .intermediates
                .insert(tensor.name.clone(), whole(&tensors[t])),
            TensorKind::Input | TensorKind::View => None,
        };
    }
    Ok(out)
}

/// A tensor as an array.
fn whole(tensor: &Tensor) -> Array {
    Array {
        shape: tensor.layout.lengths.iter().map(|l| *l as usize).collect(),
        data: tensor.values.clone(),
        empty: tensor
            .masked
            .then(|| tensor.empty.clone())
            .filter(|e| e.iter().any(|e| *e)),
    }
}

impl Arrays<'_> {
    /// Words whose tiles were left out: they have the value of no points.
    fn complete(&mut self) {
        for op in 0..self.plans.len() {
            let plan = &self.plans[op];
            let id = plan.output_tensor;
            if self.tensors[id].task.iter().all(|t| *t != NOT_MADE) {
                continue;
            }
            let kernel = &plan.kernel;
            let sizes = &self.program.whole;
            let mut words = Vec::new();
            // Every point of the output's ranks.
            let mut point: Vec<u64> = vec![0; sizes.len()];
            loop {
                if let Some(word) = plan.output.at(&point)
                    && self.tensors[id].task[word] == NOT_MADE
                {
                    words.push((word, kernel.inside(self.mapped, &point)));
                }
                let moved = plan.output.parts.iter().rev().find_map(|p| {
                    point[p.rank] += 1;
                    if point[p.rank] < sizes[p.rank].1 {
                        return Some(());
                    }
                    point[p.rank] = 0;
                    None
                });
                if moved.is_none() {
                    break;
                }
            }
            words.sort_unstable();
            for (word, inside) in words {
                let tensor = &mut self.tensors[id];
                let value = if let Some(before) = tensor.layout.before(word) {
                    tensor.value(before)
                } else if kernel.reduction != kernel::Reduction::None && inside {
                    Some(kernel.reduction.identity())
                } else {
                    None
                };
                tensor.set(word, value);
                tensor.task[word] = THERE;
            }
            // Coordinates of no point: those of a partial last tile.
            let tensor = &mut self.tensors[id];
            for word in 0..tensor.task.len() {
                if tensor.task[word] == NOT_MADE {
                    let before = tensor.layout.before(word).and_then(|b| tensor.value(b));
                    tensor.set(word, before);
                    tensor.task[word] = THERE;
                }
            }
        }
    }
}
