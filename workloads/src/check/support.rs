//! Emptiness that is known before any value is: which points of an Einsum are not visited, which points of a tensor
//! are empty.

use einflow_spec::expr::{BinaryOp, Expr};
use einflow_spec::{Problems, Span};

use super::names::Names;
use crate::bounds::{Scope, always_holds};
use crate::cascade::{Condition, Einsum, Index, Map, RankId, Read, Tensor};

/// A condition that grows beyond this many parts is refused.
const LARGEST: usize = 2000;

impl Scope for Names {
    fn size_of_variable(&self, variable: &str) -> Option<&str> {
        self.variable(variable)
            .map(|rank| self.rank(rank).name.as_str())
    }

    fn same_size<'a>(&'a self, size: &'a str) -> &'a str {
        Names::same_size(self, size)
    }

    fn partitions_of(&self, rank: &str) -> Vec<(String, Vec<String>)> {
        let name = |id: &RankId| self.rank(*id).name.clone();
        self.partitions
            .iter()
            .filter(|partition| self.rank(partition.whole).name == rank)
            .map(|partition| {
                (
                    name(&partition.parts[0]),
                    partition.parts[1..].iter().map(name).collect(),
                )
            })
            .collect()
    }
}

/// Fills in `support` of each Einsum and of the tensor that it makes; Einsums are in their final order.
pub(super) fn fill(
    einsums: &mut [Einsum],
    tensors: &mut [Tensor],
    names: &Names,
    problems: &mut Problems,
) {
    for einsum in einsums {
        let mut conditions = Conditions {
            names,
            found: Vec::new(),
        };
        for condition in &einsum.conditions {
            conditions.add(condition.0.clone());
        }
        let per_read: Option<Vec<Vec<Expr>>> = einsum
            .reads
            .iter()
            .map(|read| conditions_of(read, tensors, names))
            .collect();
        let Some(per_read) = per_read else {
            problems.push(
                names
                    .problem(
                        einsum.span,
                        "the conditions under which this has values grow too large",
                    )
                    .help("simplify the index expressions on the way to it"),
            );
            continue;
        };
        let needed = non_empty(&einsum.map, einsum, &per_read, names);
        for condition in needed.unwrap_or_default() {
            conditions.add(condition);
        }
        einsum.support = conditions
            .found
            .into_iter()
            .map(|(_, condition)| Condition(condition))
            .collect();
        let output = &mut tensors[einsum.output.0];
        // An unvisited step of an iterative tensor keeps the previous value, and the first has the initial one.
        if output.iterative.is_none() {
            let kept = einsum.support.iter().filter(|condition| {
                let mut own = true;
                condition.0.walk(&mut |part| {
                    if let Expr::Name { name, .. } = part
                        && let Some(rank) = names.variable(name)
                    {
                        own &= output.ranks.contains(&rank);
                    }
                });
                own
            });
            output.support = kept.cloned().collect();
        }
    }
}

struct Conditions<'a> {
    names: &'a Names,
    /// Each with its text.
    found: Vec<(String, Expr)>,
}

impl Conditions<'_> {
    fn add(&mut self, condition: Expr) {
        if let Expr::Binary {
            op: BinaryOp::And,
            left,
            right,
            ..
        } = condition
        {
            self.add(*left);
            self.add(*right);
            return;
        }
        let text = condition.to_string();
        if self.found.iter().all(|(known, _)| *known != text)
            && !always_holds(&condition, self.names)
        {
            self.found.push((text, condition));
        }
    }
}

/// Conditions under which a read finds a value, over the variables of the reading Einsum. Conditions on a coordinate
/// that comes from an index tensor are left to the values. `None` where they grow too large.
fn conditions_of(read: &Read, tensors: &[Tensor], names: &Names) -> Option<Vec<Expr>> {
    let mut found = Vec::new();
    indices_conditions(read.tensor.0, &read.indices, tensors, names, &mut found)?;
    Some(found)
}

fn indices_conditions(
    tensor: usize,
    indices: &[Index],
    tensors: &[Tensor],
    names: &Names,
    found: &mut Vec<Expr>,
) -> Option<()> {
    let tensor = &tensors[tensor];
    for (position, (index, rank)) in indices.iter().zip(&tensor.ranks).enumerate() {
        match index {
            Index::Gather(through, inner) => {
                indices_conditions(through.0, inner, tensors, names, found)?
            }
            // The usual case needs no proof.
            Index::Expr(Expr::Name { name, .. }) if *name == names.rank(*rank).variable => {}
            Index::Expr(expr) => {
                let size = Expr::Name {
                    name: names.rank(*rank).name.clone(),
                    span: expr.span(),
                };
                let zero = Expr::Number {
                    text: "0".into(),
                    span: expr.span(),
                };
                let below = if tensor.iterative == Some(position) {
                    BinaryOp::LessEqual
                } else {
                    BinaryOp::Less
                };
                for condition in [
                    compare(BinaryOp::GreaterEqual, expr, zero),
                    compare(below, expr, size),
                ] {
                    if !always_holds(&condition, names) {
                        found.push(condition);
                    }
                }
            }
        }
    }
    for condition in &tensor.support {
        let replaced = substitute(&condition.0, &|name| {
            let rank = names.variable(name)?;
            let position = tensor.ranks.iter().position(|own| *own == rank)?;
            Some(match &indices[position] {
                Index::Expr(expr) => Some(expr),
                Index::Gather(..) => None,
            })
        });
        if let Some(condition) = replaced {
            if size_of(&condition) > LARGEST {
                return None;
            }
            found.push(condition);
        }
    }
    Some(())
}

fn compare(op: BinaryOp, left: &Expr, right: Expr) -> Expr {
    Expr::Binary {
        op,
        left: Box::new(left.clone()),
        span: left.span(),
        right: Box::new(right),
    }
}

fn size_of(expr: &Expr) -> usize {
    let mut count = 0;
    expr.walk(&mut |_| count += 1);
    count
}

/// The expression with names replaced; `None` where a name is known to have no expression.
fn substitute<'a>(expr: &Expr, replace: &dyn Fn(&str) -> Option<Option<&'a Expr>>) -> Option<Expr> {
    Some(match expr {
        Expr::Name { name, .. } => match replace(name) {
            None => expr.clone(),
            Some(replacement) => replacement?.clone(),
        },
        Expr::Number { .. } => expr.clone(),
        Expr::Read { .. } => return None,
        Expr::Call {
            name,
            arguments,
            name_span,
            span,
        } => {
            let arguments = arguments
                .iter()
                .map(|a| substitute(a, replace))
                .collect::<Option<_>>()?;
            Expr::Call {
                name: name.clone(),
                arguments,
                name_span: *name_span,
                span: *span,
            }
        }
        Expr::Unary { op, operand, span } => Expr::Unary {
            op: *op,
            operand: Box::new(substitute(operand, replace)?),
            span: *span,
        },
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => {
            let left = Box::new(substitute(left, replace)?);
            Expr::Binary {
                op: *op,
                left,
                right: Box::new(substitute(right, replace)?),
                span: *span,
            }
        }
    })
}

/// Conditions under which an expression has a value; `None` where it always has one.
fn non_empty(map: &Map, einsum: &Einsum, reads: &[Vec<Expr>], names: &Names) -> Option<Vec<Expr>> {
    match map {
        Map::Constant(_) | Map::Coordinate(_) => None,
        Map::Read(number) => (!reads[*number].is_empty()).then(|| reads[*number].clone()),
        Map::Apply(function, operands) if function.unites() => {
            let decides = einsum.deciding(operands, &|rank| &names.rank(rank).variable);
            let deciding = operands.iter().zip(decides).filter(|(_, decides)| *decides);
            let parts: Vec<Vec<Expr>> = deciding
                .map(|(o, _)| non_empty(o, einsum, reads, names))
                .collect::<Option<_>>()?;
            union(parts)
        }
        Map::Apply(_, operands) => {
            let all: Vec<Expr> = operands
                .iter()
                .filter_map(|o| non_empty(o, einsum, reads, names))
                .flatten()
                .collect();
            (!all.is_empty()).then_some(all)
        }
    }
}

/// What all parts have in common, and either of what is left.
fn union(parts: Vec<Vec<Expr>>) -> Option<Vec<Expr>> {
    let has = |part: &[Expr], condition: &Expr| {
        part.iter().any(|c| c.to_string() == condition.to_string())
    };
    let mut common: Vec<Expr> = Vec::new();
    for condition in parts.first()? {
        if parts.iter().all(|part| has(part, condition)) && !has(&common, condition) {
            common.push(condition.clone());
        }
    }
    let rests = parts.iter().map(|part| {
        let rest = part
            .iter()
            .filter(|condition| !has(&common, condition))
            .cloned();
        rest.reduce(|a, b| join(BinaryOp::And, a, b))
    });
    if let Some(either) = rests.collect::<Option<Vec<Expr>>>()
        && let Some(either) = either.into_iter().reduce(|a, b| join(BinaryOp::Or, a, b))
    {
        common.push(either);
    }
    (!common.is_empty()).then_some(common)
}

fn join(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    let span: Span = left.span().to(right.span());
    Expr::Binary {
        op,
        left: Box::new(left),
        right: Box::new(right),
        span,
    }
}
