//! What an Einsum of a program needs to know of its arrays, found once.

use einflow_mappings::mapped::{BoundEinsum, MappedCascade, NamedLoop};
use einflow_workloads::cascade::TensorId;

use super::{
    count::Counter,
    error::ArrayError,
    kernel::{Kernel, Reduction},
    place::{Access, Layout, constants},
};
use crate::program::{Op, Program};

/// A dimension of the array across which an Einsum lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub rank: usize,
    pub step: u64,
    /// The output is made by all PEs of the lane together.
    pub shared: bool,
}

/// An Einsum's plan.
pub(super) struct Plan<'a> {
    pub bound: &'a BoundEinsum,
    pub kernel: Kernel,
    /// By operand.
    pub reads: Vec<Access>,
    pub read_tensors: Vec<usize>,
    /// By operand: whether all PEs of a column, and all of a row, use one word.
    pub shares: Vec<[bool; 2]>,
    pub output: Access,
    pub output_tensor: usize,
    pub rows: Option<Lane>,
    pub columns: Option<Lane>,
    /// Loops that bring no new point: the Einsum is computed again.
    pub again: Vec<usize>,
    /// By operand, then the output.
    pub counters: Vec<Option<Counter>>,
    /// Results pass to a memory, which adds them up.
    pub adds_outside: bool,
}

impl<'a> Plan<'a> {
    pub fn new(
        mapped: &'a MappedCascade,
        program: &Program,
        block: usize,
        op: &Op,
        layouts: &[Layout],
    ) -> Result<Self, ArrayError> {
        let bound = &mapped.blocks[block].nests[op.at.0].einsums[op.at.1];
        let cascade = &mapped.cascade;
        let einsum = cascade.einsum(bound.einsum);
        let sizes = &mapped.blocks[block].space.sizes;
        let refuse = |why: &str| ArrayError::Unsupported {
            einsum: op.name.clone(),
            why: why.into(),
        };
        let shifts = einsum
            .reads
            .iter()
            .map(|seen| constants(mapped, &op.name, seen));
        let shifts: Vec<Vec<i64>> = shifts.collect::<Result<_, _>>()?;
        if shifts.len() != op.reads.len() {
            return Err(refuse("one of its operands has no known place"));
        }
        let kernel = Kernel::new(mapped, bound)?;
        let mut reads = Vec::new();
        for (read, shifts) in op.reads.iter().zip(&shifts) {
            if cascade.tensor(read.tensor).coordinates_of.is_some() {
                return Err(refuse("it reads coordinates as numbers"));
            }
            reads.push(Access::read(
                &layouts[read.tensor.0],
                &read.projection,
                sizes,
                shifts,
            ));
        }
        let own = |t: TensorId| mapped.own_projection(t);
        let step = cascade.tensor(op.output).iterative.is_some();
        let output = Access::own(&layouts[op.output.0], &own(op.output).dims, sizes, step);
        let lane = |l: &Option<NamedLoop>| {
            l.as_ref().map(|l| Lane {
                rank: l.cut.rank,
                step: l.cut.step.max(1),
                shared: l.count > 1 && !l.touches_any(&own(op.output).dims),
            })
        };
        let nest = &program.nests[op.at.0];
        let told = |l: &NamedLoop| bound.coordinates.iter().any(|t| l.touches(t));
        let again = op
            .loops
            .iter()
            .filter(|at| !told(&nest[**at]))
            .copied()
            .collect();
        let transfers = &mapped.blocks[block].transfers;
        let counter = |transfer: Option<usize>| {
            let id = transfer?;
            let moved = &transfers[id];
            // Registers that keep a tile of their own are filled when it changes, not at every step.
            let all = op.loops.len() + op.folds.len() + op.steps.len();
            let by_step = moved.loops.len() > moved.tile_depth
                || op.steps.is_empty()
                || moved.loops.len() == all;
            Some(Counter::new(id, moved, sizes, !by_step))
        };
        let mut counters: Vec<Option<Counter>> =
            op.reads.iter().map(|r| counter(r.operand)).collect();
        counters.push(counter(op.update));
        let shares = |read: &crate::program::Read| {
            let shares = |l: &Option<NamedLoop>| {
                !l.as_ref()
                    .is_some_and(|l| l.touches_any(&read.projection.dims))
            };
            [shares(&op.lanes.0), shares(&op.lanes.1)]
        };
        Ok(Self {
            bound,
            shares: op.reads.iter().map(shares).collect(),
            reads,
            read_tensors: op.reads.iter().map(|r| r.tensor.0).collect(),
            rows: lane(&op.lanes.0),
            columns: lane(&op.lanes.1),
            output,
            output_tensor: op.output.0,
            again,
            counters,
            adds_outside: op.result.is_some() && kernel.reduction != Reduction::None,
            kernel,
        })
    }
}
