//! What an Einsum holds in the PEs while a task runs.

use einflow_arch::Array;

use super::{
    kernel::Reduction,
    plan::{Lane, Plan},
    tensors::Tensor,
};
use crate::program::Tile;

/// No word.
pub(super) const NO_WORD: usize = usize::MAX;

/// What an Einsum holds in the PEs while a task runs.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// Sums of each output word over the tasks so far, in the accumulator's format.
    pub sums: Vec<f64>,
    /// Which computation of the word they belong to.
    pub round: Vec<u32>,
    /// By PE: the running value.
    pub running: Vec<f64>,
    /// By PE: whether it has one.
    pub filled: Vec<bool>,
    /// By PE: the output word that it works on.
    pub word: Vec<usize>,
    /// PEs of a row.
    pub columns: usize,
    /// Rows and columns at work.
    pub active: (usize, usize),
    /// The box of the running output words.
    pub tile: Option<Tile>,
    /// By operand: words by row and by column.
    pub operands: Vec<Operand>,
}

/// An operand's words in one step.
#[derive(Clone, Debug, Default)]
pub(super) struct Operand {
    pub rows: Vec<i64>,
    pub columns: Vec<i64>,
    pub base: i64,
    /// Whether they differ from those of the step before.
    pub new: bool,
    pub before: (i64, Vec<i64>, Vec<i64>),
}

impl Work {
    pub fn new(plan: &Plan<'_>, array: &Array, output: &Tensor) -> Self {
        let pes = usize::try_from(array.pes()).unwrap_or(0);
        let words = output.layout.words;
        let reduces = plan.kernel.reduction != Reduction::None;
        Self {
            sums: if reduces {
                vec![plan.kernel.reduction.identity(); words]
            } else {
                Vec::new()
            },
            round: if reduces { vec![0; words] } else { Vec::new() },
            running: vec![0.0; pes],
            filled: vec![false; pes],
            word: vec![NO_WORD; pes],
            columns: usize::try_from(array.columns).unwrap_or(1),
            active: (0, 0),
            tile: None,
            operands: vec![Operand::default(); plan.reads.len()],
        }
    }
}

/// PEs at work along a lane in a box; `other` is the lane across it, which may cut the same rank more coarsely.
pub(super) fn length(lane: Option<Lane>, other: Option<Lane>, tile: &Tile) -> usize {
    let Some(l) = lane else { return 1 };
    let around = other
        .filter(|o| o.rank == l.rank && o.step > l.step)
        .map_or(u64::MAX, |o| o.step);
    usize::try_from(tile[l.rank].1.min(around).div_ceil(l.step)).unwrap_or(1)
}
