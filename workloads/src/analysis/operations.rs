//! How many operations a cascade takes, by kind.

use einflow_spec::Problem;
use indexmap::IndexMap;

use super::points::{self, Axis, Points};
use crate::cascade::{Cascade, Einsum, EinsumId, Function, Map, RankId, Reduce, Sizes};

/// Operations of a cascade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    /// One entry for each Einsum that computes (no views), in order.
    pub einsums: Vec<EinsumOperations>,
    /// Sums over the Einsums, by kind.
    pub total: IndexMap<&'static str, u128>,
    /// False where the points of some Einsum are only bounded from above.
    pub exact: bool,
}

/// Operations of one Einsum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EinsumOperations {
    /// The Einsum.
    pub einsum: EinsumId,
    /// Its name: its output's.
    pub name: String,
    /// Points of its iteration space at which its conditions hold, batch included.
    pub points: Points,
    /// By kind: the names of the element functions, `mac` for a multiplication whose products are summed, `top` for a
    /// value offered to a top-k. A reduction counts one operation for each value that enters it, the first included
    /// (it meets the identity).
    pub kinds: IndexMap<&'static str, u128>,
}

impl Operations {
    /// Arithmetic operations: each counts one, a `mac` two.
    pub fn arithmetic(&self) -> Option<u128> {
        self.total.iter().try_fold(0u128, |sum, (kind, count)| {
            let each = if *kind == "mac" { 2 } else { 1 };
            sum.checked_add(count.checked_mul(each)?)
        })
    }
}

/// Counts the operations of every Einsum.
///
/// Parts of an expression that read no tensor (`1 / sqrt(E)`) are constants and cost nothing; everything
/// else is computed at every point, as it is written.
///
/// # Errors
/// A count beyond 128 bits, a rank without a size, or a condition that cannot be evaluated.
pub fn operations(cascade: &Cascade, sizes: &Sizes) -> Result<Operations, Problem> {
    let mut counted = Operations {
        einsums: Vec::new(),
        total: IndexMap::new(),
        exact: true,
    };
    for id in (0..cascade.einsums.len()).map(EinsumId) {
        let einsum = cascade.einsum(id);
        if einsum.view {
            continue;
        }
        let points = points_of(cascade, einsum, sizes)?;
        counted.exact &= points.exact;
        let mut kinds = IndexMap::new();
        for kind in kinds_of(einsum) {
            add(&mut kinds, kind, points.count)?;
            add(&mut counted.total, kind, points.count)?;
        }
        counted.einsums.push(EinsumOperations {
            einsum: id,
            name: cascade.name_of(id).to_owned(),
            points,
            kinds,
        });
    }
    Ok(counted)
}

fn add(
    to: &mut IndexMap<&'static str, u128>,
    kind: &'static str,
    count: u128,
) -> Result<(), Problem> {
    let entry = to.entry(kind).or_insert(0);
    *entry = entry
        .checked_add(count)
        .ok_or_else(|| Problem::nowhere("an operation count passes 128 bits"))?;
    Ok(())
}

/// Points that an Einsum visits: its iteration space without the rank that a top-k populates, times the batch.
///
/// # Errors
/// As [`operations`].
pub fn points_of(cascade: &Cascade, einsum: &Einsum, sizes: &Sizes) -> Result<Points, Problem> {
    let populated = match einsum.reduce {
        Reduce::Top { into, .. } => Some(into),
        _ => None,
    };
    let mut axes = Vec::new();
    for rank in einsum.ranks.iter().filter(|rank| Some(**rank) != populated) {
        let variable = &cascade.rank(*rank).variable;
        axes.push(Axis {
            variable,
            range: 0..i128::from(size(cascade, sizes, *rank)?),
        });
    }
    let conditions: Vec<_> = einsum
        .support
        .iter()
        .map(|condition| &condition.0)
        .collect();
    let lookup = |name: &str| sizes.get(name).map(i128::from);
    let mut points = points::count(&axes, &conditions, &cascade.source, &lookup)?;
    for rank in &cascade.batch {
        points.count = points
            .count
            .checked_mul(u128::from(size(cascade, sizes, *rank)?))
            .ok_or_else(|| Problem::nowhere("the iteration space has more than 2^128 points"))?;
    }
    Ok(points)
}

pub(super) fn size(cascade: &Cascade, sizes: &Sizes, rank: RankId) -> Result<u64, Problem> {
    let name = &cascade.rank(rank).name;
    sizes
        .get(name)
        .ok_or_else(|| Problem::nowhere(format!("{} needs the size of `{name}`", cascade.name)))
}

/// The operations at one point, each by its kind.
pub fn kinds_of(einsum: &Einsum) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    functions(&einsum.map, &mut kinds);
    let mut kinds: Vec<&'static str> = kinds.into_iter().map(Function::name).collect();
    match einsum.reduce {
        Reduce::None => {}
        // The outermost function comes last.
        Reduce::Sum if matches!(einsum.map, Map::Apply(Function::Mul, _)) && !kinds.is_empty() => {
            kinds.pop();
            kinds.push("mac");
        }
        Reduce::Sum => kinds.push("add"),
        Reduce::Max => kinds.push("max"),
        Reduce::Min => kinds.push("min"),
        Reduce::Top { .. } => kinds.push("top"),
    }
    kinds
}

/// Collects the functions that depend on a read, operands first; true if any does.
fn functions(map: &Map, found: &mut Vec<Function>) -> bool {
    match map {
        Map::Constant(_) | Map::Coordinate(_) => false,
        Map::Read(_) => true,
        Map::Apply(function, operands) => {
            let mut reads = false;
            for operand in operands {
                reads |= functions(operand, found);
            }
            if reads {
                found.push(*function);
            }
            reads
        }
    }
}
