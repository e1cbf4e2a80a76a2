//! Which words of a tensor a point of the base ranks touches.

use einflow_spec::{Problem, expr::Expr};
use einflow_workloads::cascade::{Cascade, EinsumId, Index, RankId, Read, ReadTime, TensorId};

use super::{linear::linear, ranks::Ranks};
use crate::nest::{Dim, Projection, Term};

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
            let seen = |r: &Read| read_projection(cascade, ranks, r.tensor, &r.indices);
            reads.iter().map(seen).collect()
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
    tensor: TensorId,
    indices: &[Index],
) -> Result<(TensorId, Projection), Problem> {
    let mut dims: Vec<Dim> = cascade.batch.iter().map(|r| plain_dim(ranks, *r)).collect();
    let (base, indices) = resolve_views(cascade, tensor, indices.to_vec())?;
    let of = cascade.tensor(base);
    for (i, (index, rank)) in indices.iter().zip(&of.ranks).enumerate() {
        let mut dim = dim(cascade, ranks, index)?;
        // Of a running value, `ReadTime` tells whether the word before or after a coordinate's update is read.
        if of.iterative == Some(i) {
            if !dim.terms.is_empty() {
                dim.offset = 0;
            }
        } else {
            bounded(&mut dim, ranks, *rank);
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
    tensor: TensorId,
    indices: Vec<Index>,
) -> Result<(TensorId, Vec<Index>), Problem> {
    let (mut tensor, mut indices) = (tensor, indices);
    while let Some(producer) = cascade
        .tensor(tensor)
        .producer
        .map(|p| cascade.einsum(p))
        .filter(|e| e.view)
    {
        let names: Vec<&str> = cascade
            .tensor(tensor)
            .ranks
            .iter()
            .map(|r| cascade.rank(*r).variable.as_str())
            .collect();
        let read = &producer.reads[0];
        let replaced = read
            .indices
            .iter()
            .map(|index| match index {
                Index::Expr(expr) => substitute(expr, &names, &indices).map(Index::Expr),
                Index::Gather(..) => Some(index.clone()),
            })
            .collect::<Option<Vec<_>>>();
        indices = replaced.ok_or_else(|| {
            Problem::at(
                &cascade.source,
                read.span,
                "a view of a gathered tensor cannot be mapped",
            )
        })?;
        tensor = read.tensor;
    }
    Ok((tensor, indices))
}

fn substitute(expr: &Expr, names: &[&str], by: &[Index]) -> Option<Expr> {
    Some(match expr {
        Expr::Name { name, .. } => match names.iter().position(|n| n == name) {
            Some(i) => match by.get(i)? {
                Index::Expr(replacement) => replacement.clone(),
                Index::Gather(..) => return None,
            },
            None => expr.clone(),
        },
        Expr::Unary { op, operand, span } => Expr::Unary {
            op: *op,
            operand: Box::new(substitute(operand, names, by)?),
            span: *span,
        },
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => Expr::Binary {
            op: *op,
            left: Box::new(substitute(left, names, by)?),
            right: Box::new(substitute(right, names, by)?),
            span: *span,
        },
        Expr::Call {
            name,
            arguments,
            name_span,
            span,
        } => Expr::Call {
            name: name.clone(),
            arguments: arguments
                .iter()
                .map(|a| substitute(a, names, by))
                .collect::<Option<_>>()?,
            name_span: *name_span,
            span: *span,
        },
        _ => expr.clone(),
    })
}

/// Which words an index names, before it is known which of them exist.
fn dim(cascade: &Cascade, ranks: &Ranks, index: &Index) -> Result<Dim, Problem> {
    match index {
        Index::Expr(expr) => {
            let linear = linear(cascade, ranks, expr)?;
            let rising = |(term, factor): &(Term, i128)| {
                u64::try_from(*factor).map(|coefficient| Term { coefficient, ..*term }).map_err(|_| {
                    Problem::at(&cascade.source, expr.span(), format!("the index `{expr}` falls as a rank variable rises"))
                        .help("a mapped cascade needs rising indices: turn the variable's direction around")
                })
            };
            let offset = i64::try_from(linear.constant).map_err(|_| {
                Problem::at(
                    &cascade.source,
                    expr.span(),
                    format!("the constant of the index `{expr}` overflows 64 bits"),
                )
            })?;
            Ok(Dim {
                terms: linear.terms.iter().map(rising).collect::<Result<_, _>>()?,
                offset,
                ..Dim::default()
            })
        }
        // Where a gather lands is not known: each entry of the index tensor may name a word of its own.
        Index::Gather(_, inner) => {
            let mut terms: Vec<Term> = Vec::new();
            let mut entries = 1u64;
            for index in inner.iter().rev() {
                let own = dim(cascade, ranks, index)?;
                let most = greatest(&own, ranks);
                let scaled = |t: &Term| {
                    let coefficient = t.coefficient.saturating_mul(entries);
                    Term { coefficient, ..*t }
                };
                terms.extend(own.terms.iter().map(scaled));
                let values = u64::try_from(most - i128::from(own.offset)).unwrap_or(u64::MAX);
                entries = entries.saturating_mul(values.saturating_add(1));
            }
            Ok(Dim {
                terms,
                chosen: Some(u64::MAX),
                ..Dim::default()
            })
        }
    }
}

/// The greatest coordinate of a dimension; its offset is the least.
fn greatest(dim: &Dim, ranks: &Ranks) -> i128 {
    let of = |t: &Term| {
        let last = ranks.base[t.rank].size.saturating_sub(1) / t.unit.max(1);
        let last = t.modulus.map_or(last, |m| last.min(m.saturating_sub(1)));
        i128::from(t.coefficient) * i128::from(last)
    };
    i128::from(dim.offset) + dim.terms.iter().map(of).sum::<i128>()
}

/// Says which of a dimension's words exist, where not all do.
fn bounded(dim: &mut Dim, ranks: &Ranks, rank: RankId) {
    // The coordinates of a part that the whole rank has: of M in parts of 16, m1 has as many as begin.
    let digit = ranks.digit(rank);
    let whole = ranks.base[digit.base].size.div_ceil(digit.unit.max(1));
    let size = digit.modulus.map_or(whole, |m| whole.min(m));
    if dim.chosen.is_some() {
        dim.chosen = Some(size);
    } else if dim.offset < 0 || greatest(dim, ranks) >= i128::from(size) {
        dim.within = Some(size);
    }
}
