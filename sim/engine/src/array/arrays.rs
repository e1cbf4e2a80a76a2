//! The arrays at work: what a back end of the events does with words.

use einflow_mappings::mapped::MappedCascade;

use super::{
    error::{ArrayError, BusyPe},
    moving::Moving,
    plan::Plan,
    tensors::{NEVER, Tensor},
    work::Work,
};
use crate::{
    events::{BackEnd, Machine, Turn},
    hardware::Moved,
    program::Program,
};

/// A task that has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// Its place in its Einsum's sequence.
    pub place: u128,
    /// When its last step has ended in PE (0, 0).
    pub end: u64,
}

/// Every word of a block's tensors, and the PEs that they pass.
pub(super) struct Arrays<'a> {
    pub mapped: &'a MappedCascade,
    pub program: &'a Program,
    pub tensors: &'a mut Vec<Tensor>,
    pub plans: Vec<Plan<'a>>,
    pub works: Vec<Work>,
    /// By Einsum: tasks that have started.
    pub done: Vec<Vec<Done>>,
    pub streams: Vec<Moving>,
    /// By unit: what ran last.
    unit_last: Vec<usize>,
    /// By unit: the most words that lived in one PE.
    pub peak_registers: Vec<u64>,
    /// By transfer: words moved.
    pub words: Vec<u128>,
    /// Words of one step, reused.
    pub scratch: Vec<usize>,
}

impl<'a> Arrays<'a> {
    pub fn new(
        mapped: &'a MappedCascade,
        program: &'a Program,
        block: usize,
        tensors: &'a mut Vec<Tensor>,
    ) -> Result<Self, ArrayError> {
        let accelerator = &mapped.accelerator;
        let units = accelerator.arrays.len();
        let layouts: Vec<_> = tensors.iter().map(|t| t.layout.clone()).collect();
        let (mut plans, mut works) = (Vec::new(), Vec::new());
        for op in &program.ops {
            let plan = Plan::new(mapped, program, block, op, &layouts)?;
            let einsum = mapped.cascade.einsum(plan.bound.einsum);
            tensors[op.output.0].prepare(plan.kernel.format, einsum.initial);
            works.push(Work::new(
                &plan,
                &accelerator.arrays[op.unit],
                &tensors[op.output.0],
            ));
            plans.push(plan);
        }
        let mut streams = Vec::new();
        for stream in &program.streams {
            let tensor = &mut tensors[stream.tensor.0];
            if tensor.outer.is_empty() && program.ops.iter().any(|o| o.output == stream.tensor) {
                tensor.outer = vec![NEVER; tensor.layout.words];
            }
            streams.push(Moving::new(&mapped.blocks[block], stream, tensor));
        }
        Ok(Self {
            mapped,
            program,
            tensors,
            plans,
            works,
            done: vec![Vec::new(); program.ops.len()],
            streams,
            unit_last: vec![0; units],
            peak_registers: vec![0; units],
            words: vec![0; mapped.blocks[block].transfers.len()],
            scratch: Vec::new(),
        })
    }

    pub fn name(&self, op: usize) -> &str {
        &self.program.ops[op].name
    }

    pub fn tensor_name(&self, tensor: usize) -> &str {
        &self.mapped.cascade.tensors[tensor].name
    }

    /// How many tasks of an Einsum stand before or at a place.
    pub fn upto(&self, op: usize, place: u128) -> u32 {
        self.done[op].partition_point(|d| d.place <= place) as u32
    }
}

impl BackEnd for Arrays<'_> {
    type Error = ArrayError;

    fn group(
        &mut self,
        machine: &Machine<'_>,
        unit: usize,
        turn: &Turn,
        start: u64,
    ) -> Result<(), ArrayError> {
        let until = machine.state.unit_free[unit];
        if start < until {
            return Err(ArrayError::Busy(Box::new(BusyPe {
                einsum: self.name(turn.members[0]).into(),
                array: self.mapped.accelerator.arrays[unit].name.clone(),
                cycle: start,
                other: self.name(self.unit_last[unit]).into(),
                until,
            })));
        }
        self.unit_last[unit] = turn.members[turn.members.len() - 1];
        self.run_group(machine, turn, start + turn.load)
    }

    fn booked(
        &mut self,
        machine: &Machine<'_>,
        unit: usize,
        turn: &Turn,
    ) -> Result<(), ArrayError> {
        self.count_registers(machine, unit, turn)
    }

    fn movement(
        &mut self,
        machine: &Machine<'_>,
        stream: usize,
        moved: Moved,
    ) -> Result<(), ArrayError> {
        self.move_words(machine, stream, moved)
    }
}
