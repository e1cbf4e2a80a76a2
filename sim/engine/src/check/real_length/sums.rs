//! Running sums, and the increments that they lose.

use std::collections::{BTreeMap, BTreeSet};

use einflow_spec::expr::Expr;
use einflow_workloads::{
    cascade::{Cascade, Function, Index, Map, RankId, Reduce, TensorId},
    interpret::Array,
};

/// A tensor that adds an increment to what it was, or to what was made of that: `RD[m1+1, p] = SLD[m1, p] + SPD[m1,
/// p]`.
pub(super) struct RunningSum {
    tensor: TensorId,
    /// The iterative axis.
    axis: usize,
    increment: TensorId,
    carried: TensorId,
}

/// A running sum that lost increments.
pub(super) struct Lost {
    /// The sum.
    pub tensor: TensorId,
    /// Its iterative rank.
    pub rank: RankId,
    /// Its place in the tensor's data at the end.
    pub last: usize,
    /// Its value there.
    pub value: f64,
    /// The first step of which the increment is lost.
    pub first: u64,
    /// The first of the steps up to the end that all are lost.
    pub stopped: Option<u64>,
    /// Steps of which the increment is lost.
    pub count: u64,
    /// All steps.
    pub steps: u64,
}

impl RunningSum {
    /// The running sum that a tensor is, if it is one.
    pub fn of(cascade: &Cascade, tensor: TensorId) -> Option<Self> {
        let made = cascade.tensor(tensor);
        let axis = made.iterative?;
        let einsum = cascade.einsum(made.producer?);
        let Map::Apply(Function::Add, operands) = &einsum.map else {
            return None;
        };
        let ([Map::Read(a), Map::Read(b)], Reduce::None) = (operands.as_slice(), &einsum.reduce)
        else {
            return None;
        };
        // Operands at the sum's own coordinates lie as it does, but for the initial value.
        let own = |read: &usize| {
            let read = &einsum.reads[*read];
            let plain = made.ranks.iter().zip(&read.indices).all(|(rank, index)| {
                matches!(index, Index::Expr(Expr::Name { name, .. }) if *name == cascade.rank(*rank).variable)
            });
            let tensor = cascade.tensor(read.tensor);
            let fits = tensor.ranks == made.ranks && tensor.iterative.is_none();
            (plain && fits).then_some(read.tensor)
        };
        let (a, b) = (own(a)?, own(b)?);
        let (carried, increment) = match (
            follows_from(cascade, a, tensor),
            follows_from(cascade, b, tensor),
        ) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => return None,
        };
        Some(Self {
            tensor,
            axis,
            increment,
            carried,
        })
    }

    /// The tensors of which the values tell what it loses.
    pub fn tensors(&self) -> [TensorId; 3] {
        [self.tensor, self.increment, self.carried]
    }

    /// What it loses, from their values; `None` where it loses nothing, or an increment is negative.
    pub fn lost(&self, cascade: &Cascade, trace: &BTreeMap<String, Array>) -> Option<Lost> {
        let array = |tensor: TensorId| trace.get(&cascade.tensor(tensor).name);
        let (sum, increment, carried) = (
            array(self.tensor)?,
            array(self.increment)?,
            array(self.carried)?,
        );
        if increment.data.iter().any(|x| x.is_nan() || *x < 0.0) {
            return None;
        }
        let ranks = &cascade.tensor(self.tensor).ranks;
        let batch = sum.shape.len() - ranks.len();
        let steps = sum.shape[batch + self.axis] - 1;
        let inner: usize = sum.shape[batch + self.axis + 1..].iter().product();
        let lanes = sum.data.len() / (steps + 1);
        let mut found: Option<Lost> = None;
        for lane in 0..lanes {
            let (outer, i) = (lane / inner, lane % inner);
            let after = |step: usize| (outer * (steps + 1) + step + 1) * inner + i;
            let is_lost = |step: &usize| {
                let place = (outer * steps + step) * inner + i;
                let (add, from) = (increment.data[place], carried.data[place]);
                add > 0.0 && from.is_finite() && sum.data[after(*step)] == from
            };
            let Some(first) = (0..steps).find(is_lost) else {
                continue;
            };
            if found.as_ref().is_some_and(|f| f.first <= first as u64) {
                continue;
            }
            let tail = (0..steps).rev().take_while(is_lost).last();
            found = Some(Lost {
                tensor: self.tensor,
                rank: ranks[self.axis],
                last: after(steps - 1),
                value: sum.data[after(steps - 1)],
                first: first as u64,
                stopped: tail.map(|step| step as u64),
                count: (0..steps).filter(is_lost).count() as u64,
                steps: steps as u64,
            });
        }
        found
    }
}

/// Whether a tensor is made, however indirectly, from `origin`.
fn follows_from(cascade: &Cascade, tensor: TensorId, origin: TensorId) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![tensor]);
    while let Some(at) = open.pop() {
        if at == origin {
            return true;
        }
        if let Some(einsum) = cascade.tensor(at).producer.filter(|_| seen.insert(at)) {
            open.extend(cascade.einsum(einsum).reads.iter().map(|read| read.tensor));
        }
    }
    false
}
