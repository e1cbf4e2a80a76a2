//! Which query a mask leaves the most keys, and a cascade whose only query is that one.

use einflow_mappings::mapped::MappedCascade;
use einflow_spec::{
    Span,
    expr::{BinaryOp, Expr},
};
use einflow_workloads::cascade::{Cascade, Condition, Einsum, Map, RankId};

use super::bounds::{Bounds, bounds};
use crate::report::MaskedQuery;

/// Stretches of keys that are looked at to count those that a query sees.
const STRETCHES: u32 = 1 << 18;

/// A rank with its parts, outermost first, and the coordinates that one of each part stands for.
struct Parted<'a> {
    variables: Vec<(&'a str, u64)>,
    size: u64,
}

impl<'a> Parted<'a> {
    fn of(mapped: &'a MappedCascade, name: &str) -> Option<Self> {
        let cascade = &*mapped.cascade;
        let size = |rank: RankId| mapped.sizes.get(&cascade.rank(rank).name).copied();
        let rank = RankId(cascade.ranks.iter().position(|r| r.name == name)?);
        let parts = cascade.partitions.iter().find(|p| p.whole == rank);
        let parts = parts.map_or(vec![rank], |p| p.parts.clone());
        let mut stride = 1u64;
        let mut variables = Vec::new();
        for part in parts.iter().rev() {
            variables.push((cascade.rank(*part).variable.as_str(), stride));
            stride = stride.saturating_mul(size(*part)?);
        }
        variables.reverse();
        Some(Self {
            variables,
            size: size(rank)?,
        })
    }

    fn in_ranks_of(&self, cascade: &Cascade, einsum: &Einsum) -> bool {
        let ranks = einsum
            .ranks
            .iter()
            .map(|rank| &cascade.rank(*rank).variable);
        let mut found = ranks.filter(|v| self.variables.iter().any(|(own, _)| own == v));
        found.next().is_some()
    }

    /// What the parts' variables are from one coordinate to another: the first that differs ends what is known.
    fn between(&self, first: u64, last: u64) -> Vec<(&'a str, Bounds)> {
        let (mut low, mut high, mut same) = (first, last, true);
        let mut above = u64::MAX;
        let each = self.variables.iter().map(|(variable, stride)| {
            let (a, b) = match same {
                true => (low / stride, high / stride),
                false => (0, above / stride - 1),
            };
            same &= a == b;
            (low, high, above) = (low % stride, high % stride, *stride);
            (*variable, (a.into(), b.into()))
        });
        each.collect()
    }
}

/// The query that sees the most keys; `None` where no condition is on queries and keys.
pub(super) fn with_most_keys(mapped: &MappedCascade) -> Option<MaskedQuery> {
    let cascade = &*mapped.cascade;
    let (queries, keys) = (Parted::of(mapped, "P")?, Parted::of(mapped, "M")?);
    let masked = |einsum: &&Einsum| {
        queries.in_ranks_of(cascade, einsum) && keys.in_ranks_of(cascade, einsum)
    };
    let tile = queries.variables.first()?.1;
    let names = |condition: &Condition| {
        queries
            .variables
            .iter()
            .any(|(variable, _)| named(&condition.0, variable))
    };
    let einsum = cascade
        .einsums
        .iter()
        .filter(masked)
        .filter(|einsum| einsum.support.iter().any(names))
        .max_by_key(|einsum| einsum.support.len())?;
    let last = queries.size - 1;
    let among = [last, keys.size - 1, last / 2, last / 4, last - last / 4, 0];
    let mut best: Option<MaskedQuery> = None;
    for query in among.map(|query| query.min(last) / tile * tile) {
        let fixed = queries.between(query, query);
        let size = |name: &str| Some(i128::from(*mapped.sizes.get(name)?));
        let holds = |first: u64, last: u64| {
            let free = keys.between(first, last);
            let lookup = |name: &str| {
                let variable = fixed.iter().chain(&free).find(|(v, _)| *v == name);
                let any = || cascade.rank_named(name).map(|_| (0, 0));
                variable
                    .map(|(_, b)| *b)
                    .or_else(|| size(name).map(|s| (s, s)))
                    .or_else(any)
            };
            einsum.support.iter().fold((1, 1), |all, condition| {
                let (low, high) = bounds(&condition.0, &lookup).unwrap_or((0, 1));
                (all.0.min(low.min(1)), all.1.min(high.min(1)))
            })
        };
        let mut left = STRETCHES;
        let keys = visible(0, keys.size - 1, &holds, &mut left);
        if best.as_ref().is_none_or(|best| keys > best.keys) {
            best = Some(MaskedQuery { query, keys });
        }
    }
    best
}

/// Coordinates at which a condition holds; of stretches of which too many would have to be looked at, half.
fn visible(first: u64, last: u64, holds: &dyn Fn(u64, u64) -> Bounds, left: &mut u32) -> u64 {
    let length = last - first + 1;
    *left = left.saturating_sub(1);
    match holds(first, last) {
        (1, _) => length,
        (_, 0) => 0,
        _ if length == 1 || *left == 0 => length / 2,
        _ => {
            let middle = first + length.next_power_of_two() / 2 - 1;
            visible(first, middle, holds, left) + visible(middle + 1, last, holds, left)
        }
    }
}

fn named(expr: &Expr, wanted: &str) -> bool {
    let mut found = false;
    expr.walk(&mut |part| found |= matches!(part, Expr::Name { name, .. } if name == wanted));
    found
}

/// The cascade with its query 0 in the place of another: conditions and coordinates see that one's, and the number of
/// queries that there are.
pub(super) fn moved(mapped: &MappedCascade, query: u64) -> Cascade {
    let mut cascade = (*mapped.cascade).clone();
    let Some(queries) = Parted::of(mapped, "P") else {
        return cascade;
    };
    let Some((variable, tile)) = queries.variables.first().copied() else {
        return cascade;
    };
    let number = |value: u64, span: Span| Expr::Number {
        text: value.to_string(),
        span,
    };
    let replace = |expr: &mut Expr| {
        substitute(expr, &|name, span| {
            if name == variable {
                let own = Expr::Name {
                    name: name.to_owned(),
                    span,
                };
                let by = number(query / tile, span);
                Some(Expr::Binary {
                    op: BinaryOp::Add,
                    left: own.into(),
                    right: by.into(),
                    span,
                })
            } else {
                (name == "P").then(|| number(queries.size, span))
            }
        });
    };
    for tensor in &mut cascade.tensors {
        tensor.support.iter_mut().for_each(|c| replace(&mut c.0));
    }
    for einsum in &mut cascade.einsums {
        let all = einsum.conditions.iter_mut().chain(&mut einsum.support);
        all.for_each(|c| replace(&mut c.0));
        coordinates(&mut einsum.map, &replace);
    }
    cascade
}

fn coordinates(map: &mut Map, replace: &dyn Fn(&mut Expr)) {
    match map {
        Map::Coordinate(expr) => replace(expr),
        Map::Apply(_, operands) => operands.iter_mut().for_each(|o| coordinates(o, replace)),
        Map::Constant(_) | Map::Read(_) => {}
    }
}

/// Replaces names.
fn substitute(expr: &mut Expr, by: &dyn Fn(&str, Span) -> Option<Expr>) {
    match expr {
        Expr::Name { name, span } => {
            if let Some(other) = by(name, *span) {
                *expr = other;
            }
        }
        Expr::Number { .. } => {}
        Expr::Read { indices: parts, .. }
        | Expr::Call {
            arguments: parts, ..
        } => {
            parts.iter_mut().for_each(|part| substitute(part, by));
        }
        Expr::Unary { operand, .. } => substitute(operand, by),
        Expr::Binary { left, right, .. } => {
            substitute(left, by);
            substitute(right, by);
        }
    }
}
