//! Which words of a tensor a point of the base ranks touches.

use einflow_spec::Problem;
use einflow_workloads::cascade::{Cascade, EinsumId, Index, RankId, Read, ReadTime, TensorId};

use super::{
    linear::{Linear, Variables, linear},
    ranks::Ranks,
};
use crate::nest::{Dim, Projection};

/// What a read touches: the tensor that is really read (no view), and which of its words.
pub(crate) type Seen = Result<(TensorId, Projection), Problem>;

/// The projections of a cascade's tensors and reads at its sizes. No part of a rank changes them, so a search for
/// parts asks for them often and they are made once.
pub(crate) struct Projections {
    own: Vec<Projection>,
    listed: Vec<Vec<Read>>,
    reads: Vec<Vec<Seen>>,
    viewed: Vec<TensorId>,
}

impl Projections {
    pub fn new(cascade: &Cascade, ranks: &Ranks) -> Self {
        let tensors = || (0..cascade.tensors.len()).map(TensorId);
        let listed: Vec<Vec<Read>> = cascade.einsums.iter().map(|e| listed(&e.reads)).collect();
        let seen = |reads: &Vec<Read>| {
            reads
                .iter()
                .map(|r| read_projection(cascade, ranks, r))
                .collect()
        };
        Self {
            own: tensors()
                .map(|t| own_projection(cascade, ranks, t))
                .collect(),
            reads: listed.iter().map(seen).collect(),
            listed,
            viewed: tensors().map(|t| viewed(cascade, t)).collect(),
        }
    }

    /// A tensor's words when each rank variable is its own index: batch ranks in front, then its ranks.
    pub fn own(&self, tensor: TensorId) -> &Projection {
        &self.own[tensor.0]
    }

    /// By tensor: [`own`](Self::own).
    pub fn into_own(self) -> Vec<Projection> {
        self.own
    }

    /// All that an Einsum reads: what stands in its expression, in that order, then the index tensors through which it
    /// gathers.
    pub fn listed(&self, einsum: EinsumId) -> &[Read] {
        &self.listed[einsum.0]
    }

    /// What each of [`listed`](Self::listed) touches.
    pub fn reads(&self, einsum: EinsumId) -> &[Seen] {
        &self.reads[einsum.0]
    }

    /// The tensor that a view stands for in the end; others stand for themselves.
    pub fn viewed(&self, tensor: TensorId) -> TensorId {
        self.viewed[tensor.0]
    }

    /// What some Einsums together see of a tensor: all that their reads touch (a convolution's I[p + r], grouped
    /// heads' K[m, h / G], both X[m] and X[m - 1]). None where none reads it.
    pub fn seen(
        &self,
        einsums: impl Iterator<Item = EinsumId>,
        tensor: TensorId,
    ) -> Option<Projection> {
        let reads = einsums.flat_map(|e| &self.reads[e.0]).flatten();
        let seen = reads.filter(|(t, _)| *t == tensor).map(|(_, p)| p);
        seen.fold(None, |all: Option<Projection>, p| {
            Some(all.map_or_else(|| p.clone(), |all| all.with(p)))
        })
    }
}

/// Reads, and those of the index tensors in them.
fn listed(reads: &[Read]) -> Vec<Read> {
    fn gathers(read: &Read, indices: &[Index], out: &mut Vec<Read>) {
        for index in indices {
            if let Index::Gather(tensor, indices) = index {
                out.push(Read {
                    tensor: *tensor,
                    indices: indices.clone(),
                    time: ReadTime::Plain,
                    span: read.span,
                });
                gathers(read, indices, out);
            }
        }
    }
    let mut all = reads.to_vec();
    for read in reads {
        gathers(read, &read.indices, &mut all);
    }
    all
}

/// The projection of a tensor's own ranks (batch ranks in front): which word a point of the base
/// ranks touches when each rank variable is its own index.
fn own_projection(cascade: &Cascade, ranks: &Ranks, tensor: TensorId) -> Projection {
    let tensor = cascade.tensor(tensor);
    let dims = cascade
        .batch
        .iter()
        .chain(&tensor.ranks)
        .map(|r| plain_dim(ranks, *r))
        .collect();
    Projection::of(dims)
}

fn plain_dim(ranks: &Ranks, rank: RankId) -> Dim {
    Dim::sum(vec![ranks.digit(rank).term()])
}

/// The projection of a read, with views resolved: the tensor that is really read, and its dims.
fn read_projection(
    cascade: &Cascade,
    ranks: &Ranks,
    read: &Read,
) -> Result<(TensorId, Projection), Problem> {
    let mut dims: Vec<Dim> = cascade.batch.iter().map(|r| plain_dim(ranks, *r)).collect();
    let (base, found) = resolve_views(cascade, ranks, read)?;
    let of = cascade.tensor(base);
    for (i, (linear, rank)) in found.iter().zip(&of.ranks).enumerate() {
        let mut dim = linear.dim().ok_or_else(|| {
            let message = format!("a number of an index of {} overflows 64 bits", of.name);
            Problem::at(&cascade.source, read.span, message)
        })?;
        // Of a running value, `ReadTime` tells whether the word before or after a coordinate's update is read.
        if of.iterative == Some(i) {
            if !linear.is_constant() {
                dim.offset = 0;
            }
        } else {
            bounded(&mut dim, linear.chosen, ranks, *rank);
        }
        dims.push(dim);
    }
    Ok((base, Projection::of(dims)))
}

/// The tensor that a view stands for in the end; others stand for themselves.
fn viewed(cascade: &Cascade, tensor: TensorId) -> TensorId {
    let mut tensor = tensor;
    while let Some(producer) = cascade
        .tensor(tensor)
        .producer
        .map(|p| cascade.einsum(p))
        .filter(|e| e.view)
    {
        tensor = producer.reads[0].tensor;
    }
    tensor
}

/// Replaces a view by what it views, its indices composed.
fn resolve_views(
    cascade: &Cascade,
    ranks: &Ranks,
    read: &Read,
) -> Result<(TensorId, Vec<Linear>), Problem> {
    let values = |indices: &[Index], variables: Variables<'_>| {
        let value = |index| place(cascade, ranks, read, index, variables);
        indices.iter().map(value).collect::<Result<Vec<_>, _>>()
    };
    let mut tensor = read.tensor;
    let mut found = values(&read.indices, &[])?;
    while let Some(view) = cascade
        .tensor(tensor)
        .producer
        .map(|p| cascade.einsum(p))
        .filter(|e| e.view)
    {
        let own = cascade.tensor(tensor).ranks.iter();
        let names = own.map(|r| cascade.rank(*r).variable.as_str());
        let variables: Vec<(&str, Linear)> = names.zip(found).collect();
        found = values(&view.reads[0].indices, &variables)?;
        tensor = view.reads[0].tensor;
    }
    Ok((tensor, found))
}

/// Which word an index names, before it is known which of them exist.
fn place(
    cascade: &Cascade,
    ranks: &Ranks,
    read: &Read,
    index: &Index,
    variables: Variables<'_>,
) -> Result<Linear, Problem> {
    let inner = match index {
        Index::Expr(expr) => return linear(cascade, ranks, expr, variables),
        Index::Gather(_, inner) => inner,
    };
    // Where a gather lands is not known: each entry of the index tensor may name a word of its own.
    let mut all = Linear::default();
    let mut entries = 1i128;
    let overflow = || {
        let message = "the index tensor has more entries than 128 bits count";
        Problem::at(&cascade.source, read.span, message.to_string())
    };
    for index in inner.iter().rev() {
        let mut own = place(cascade, ranks, read, index, variables)?;
        let (least, greatest) = own.range(ranks).ok_or_else(overflow)?;
        own.constant = 0;
        let sum = own.scaled(entries).and_then(|own| all.plus(own));
        all = sum.ok_or_else(overflow)?;
        let more = greatest.checked_sub(least).and_then(|d| d.checked_add(1));
        entries = more
            .and_then(|n| entries.checked_mul(n))
            .ok_or_else(overflow)?;
    }
    all.chosen = true;
    Ok(all)
}

/// Says which of a dimension's words exist, where not all do.
fn bounded(dim: &mut Dim, chosen: bool, ranks: &Ranks, rank: RankId) {
    // The coordinates of a part that the whole rank has: of M in parts of 16, m1 has as many as begin.
    let digit = ranks.digit(rank);
    let whole = ranks.base[digit.base].size.div_ceil(digit.unit.max(1));
    let size = digit.modulus.map_or(whole, |m| whole.min(m));
    if chosen {
        dim.chosen = Some(size);
        return;
    }
    let (least, greatest) = dim.range(&|rank| (0, ranks.base[rank].size));
    if least < 0 || greatest >= i128::from(size) {
        dim.within = Some(size);
    }
}
