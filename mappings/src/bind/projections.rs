//! Which words of a tensor a point of the base ranks touches.

use einflow_spec::{Problem, expr::Expr};
use einflow_workloads::cascade::{Cascade, EinsumId, Index, RankId, TensorId};

use super::{linear::linear, ranks::Ranks};
use crate::nest::{Dim, Projection, Term};

/// What a read touches: the tensor that is really read (no view), and which of its words.
pub(crate) type Seen = Result<(TensorId, Projection), Problem>;

/// The projections of a cascade's tensors and reads at its sizes. No part of a rank changes them, so a search for
/// parts asks for them often and they are made once.
pub(crate) struct Projections {
    own: Vec<Projection>,
    reads: Vec<Vec<Seen>>,
    viewed: Vec<TensorId>,
}

impl Projections {
    pub fn new(cascade: &Cascade, ranks: &Ranks) -> Self {
        let tensors = || (0..cascade.tensors.len()).map(TensorId);
        let seen = |e: &einflow_workloads::cascade::Einsum| {
            let reads = e.reads.iter();
            reads
                .map(|r| read_projection(cascade, ranks, r.tensor, &r.indices))
                .collect()
        };
        Self {
            own: tensors()
                .map(|t| own_projection(cascade, ranks, t))
                .collect(),
            reads: cascade.einsums.iter().map(seen).collect(),
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

    /// The reads of an Einsum, in its order.
    pub fn reads(&self, einsum: EinsumId) -> &[Seen] {
        &self.reads[einsum.0]
    }

    /// The tensor that a view stands for in the end; others stand for themselves.
    pub fn viewed(&self, tensor: TensorId) -> TensorId {
        self.viewed[tensor.0]
    }

    /// What some Einsums together see of a tensor, one projection where all their reads agree (a convolution's
    /// I[p + r], grouped heads' K[m, h / G]); the error is whether they differ or there is none.
    pub fn seen(
        &self,
        einsums: impl Iterator<Item = EinsumId>,
        tensor: TensorId,
    ) -> Result<&Projection, bool> {
        let mut found: Option<&Projection> = None;
        for (read, projection) in einsums.flat_map(|e| &self.reads[e.0]).flatten() {
            if *read != tensor {
                continue;
            }
            if found.is_some_and(|f| f != projection) {
                return Err(true);
            }
            found = Some(projection);
        }
        found.ok_or(false)
    }
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
    Projection { dims }
}

fn plain_dim(ranks: &Ranks, rank: RankId) -> Dim {
    Dim {
        terms: vec![ranks.digit(rank).term()],
    }
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
    for index in &indices {
        push_index(cascade, ranks, index, &mut dims)?;
    }
    Ok((base, Projection { dims }))
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

fn push_index(
    cascade: &Cascade,
    ranks: &Ranks,
    index: &Index,
    dims: &mut Vec<Dim>,
) -> Result<(), Problem> {
    match index {
        Index::Expr(expr) => {
            let linear = linear(cascade, ranks, expr)?;
            let terms = linear
                .terms
                .iter()
                .map(|(term, factor)| {
                    u64::try_from(*factor).map(|coefficient| Term { coefficient, ..*term }).map_err(|_| {
                        Problem::at(&cascade.source, expr.span(), format!("the index `{expr}` falls as a rank variable rises"))
                            .help("a mapped cascade needs rising indices: turn the variable's direction around")
                    })
                })
                .collect::<Result<_, _>>()?;
            dims.push(Dim { terms });
        }
        // Where a gather lands is not known: each of its own points counts as a word of its own.
        Index::Gather(_, inner) => {
            for index in inner {
                push_index(cascade, ranks, index, dims)?;
            }
        }
    }
    Ok(())
}
