//! Conditions of Einsums as conditions on coordinates of base ranks.

use std::collections::BTreeMap;

use einflow_spec::{
    Problem, Problems,
    expr::{BinaryOp, Expr, UnaryOp},
};
use einflow_workloads::cascade::{Einsum, EinsumId, TensorId, TensorKind};

use super::{
    context::Context,
    linear::{Linear, linear},
};
use crate::{
    mapped::{Block, Use},
    nest::{Condition, PointTest, Space, Term},
};

/// The conditions on an Einsum's iteration space, without those that always hold.
pub(crate) fn conditions(context: &Context<'_>, einsum: &Einsum) -> Vec<Condition> {
    let mut out = Vec::new();
    for condition in &einsum.support {
        push(context, &condition.0, &mut out);
    }
    out
}

fn push(context: &Context<'_>, expr: &Expr, out: &mut Vec<Condition>) {
    if let Expr::Binary {
        op: BinaryOp::And,
        left,
        right,
        ..
    } = expr
    {
        push(context, left, out);
        push(context, right, out);
        return;
    }
    if let Recognised::Is(found) = condition(context, expr, true)
        && !out.contains(&found)
    {
        out.push(found);
    }
}

/// A condition, or (`holds` false) its opposite: comparisons are recognised one by one, what joins them is kept.
fn condition(context: &Context<'_>, expr: &Expr, holds: bool) -> Recognised {
    match expr {
        Expr::Unary {
            op: UnaryOp::Not,
            operand,
            ..
        } => return condition(context, operand, !holds),
        Expr::Binary {
            op: op @ (BinaryOp::And | BinaryOp::Or),
            left,
            right,
            ..
        } => {
            let both = [left, right].map(|e| condition(context, e, holds));
            return joined(both, (*op == BinaryOp::And) == holds);
        }
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => {
            let op = match holds {
                true => Some(*op),
                false => opposite(*op),
            };
            if let Some(op) = op {
                let compared = |left: &Expr, right: &Expr| Expr::Binary {
                    op,
                    left: Box::new(left.clone()),
                    right: Box::new(right.clone()),
                    span: *span,
                };
                // Above the largest of several is above all of them, below it below one.
                let above = matches!(op, BinaryOp::Greater | BinaryOp::GreaterEqual);
                let ordered = above || matches!(op, BinaryOp::Less | BinaryOp::LessEqual);
                for (side, turned) in [(left, true), (right, false)] {
                    if let Some((largest, arguments)) = extreme(side)
                        && ordered
                    {
                        let each = arguments.iter().map(|a| match turned {
                            true => condition(context, &compared(a, right), true),
                            false => condition(context, &compared(left, a), true),
                        });
                        return joined(each, (above != turned) == largest);
                    }
                }
                if let Some(found) = recognised(context, &compared(left, right)) {
                    return found;
                }
                if op == BinaryOp::NotEqual {
                    return not(condition(context, expr, !holds));
                }
            }
        }
        _ => {}
    }
    let found = Recognised::Is(general(context, expr));
    if holds { found } else { not(found) }
}

fn opposite(op: BinaryOp) -> Option<BinaryOp> {
    Some(match op {
        BinaryOp::Less => BinaryOp::GreaterEqual,
        BinaryOp::LessEqual => BinaryOp::Greater,
        BinaryOp::Greater => BinaryOp::LessEqual,
        BinaryOp::GreaterEqual => BinaryOp::Less,
        BinaryOp::Equal => BinaryOp::NotEqual,
        BinaryOp::NotEqual => BinaryOp::Equal,
        _ => return None,
    })
}

/// The operands of a largest (true) or smallest value.
fn extreme(expr: &Expr) -> Option<(bool, &[Expr])> {
    match expr {
        Expr::Call {
            name, arguments, ..
        } if name == "max" => Some((true, arguments)),
        Expr::Call {
            name, arguments, ..
        } if name == "min" => Some((false, arguments)),
        _ => None,
    }
}

fn not(found: Recognised) -> Recognised {
    Recognised::Is(match found {
        // No sum of nothing is 1.
        Recognised::Always => Condition::Affine {
            terms: Vec::new(),
            low: Some(1),
            high: None,
            residue: None,
        },
        Recognised::Is(condition) => Condition::Not(Box::new(condition)),
    })
}

/// All of several, or one of them.
fn joined(parts: impl IntoIterator<Item = Recognised>, all: bool) -> Recognised {
    let mut list = Vec::new();
    for part in parts {
        match part {
            Recognised::Always if all => {}
            Recognised::Always => return Recognised::Always,
            Recognised::Is(Condition::All(own)) if all => list.extend(own),
            Recognised::Is(Condition::Any(own)) if !all => list.extend(own),
            Recognised::Is(condition) => list.push(condition),
        }
    }
    match list.len() {
        0 if all => Recognised::Always,
        1 => Recognised::Is(list.remove(0)),
        _ if all => Recognised::Is(Condition::All(list)),
        _ => Recognised::Is(Condition::Any(list)),
    }
}

enum Recognised {
    Always,
    Is(Condition),
}

/// The closed forms: bands, congruences, blocks, and what always holds.
fn recognised(context: &Context<'_>, expr: &Expr) -> Option<Recognised> {
    let Expr::Binary {
        op, left, right, ..
    } = expr
    else {
        return None;
    };
    let side = |e: &Expr| {
        linear(context.cascade, context.ranks, e, &[])
            .ok()
            .filter(Linear::is_affine)
    };
    if let (
        BinaryOp::Equal,
        Expr::Binary {
            op: BinaryOp::Rem,
            left: value,
            right: modulus,
            ..
        },
    ) = (op, left.as_ref())
    {
        let (value, modulus, remainder) = (side(value)?, side(modulus)?, side(right)?);
        if let (Some((a, b)), true, true) = (
            pair(&value),
            modulus.terms.is_empty(),
            remainder.terms.is_empty(),
        ) {
            let modulus = u64::try_from(modulus.constant).ok().filter(|m| *m > 0)?;
            let remainder = remainder.constant.checked_sub(value.constant)?;
            if !(0..i128::from(modulus)).contains(&remainder.checked_add(value.constant)?) {
                return None;
            }
            let remainder = u64::try_from(remainder.rem_euclid(i128::from(modulus))).ok()?;
            return Some(Recognised::Is(Condition::Congruent {
                a,
                b,
                modulus,
                remainder,
            }));
        }
    }
    if let Expr::Call {
        name, arguments, ..
    } = left.as_ref()
        && let (BinaryOp::Less | BinaryOp::LessEqual, "abs", [inner]) =
            (op, name.as_str(), arguments.as_slice())
    {
        let (inner, bound) = (side(inner)?, side(right)?);
        let most = bound
            .constant
            .checked_sub(i128::from(*op == BinaryOp::Less))?;
        if !bound.terms.is_empty() || most < 0 {
            return None;
        }
        let always = inner
            .range(context.ranks)
            .is_some_and(|(l, g)| -most <= l && g <= most);
        if always {
            return Some(Recognised::Always);
        }
        let low = most.checked_neg()?.checked_sub(inner.constant)?;
        let high = most.checked_sub(inner.constant)?;
        return bounded(&inner, Some(low), Some(high)).map(Recognised::Is);
    }
    let difference = side(left)?.minus(side(right)?)?;
    if let Some((least, greatest)) = difference.range(context.ranks) {
        let always = match op {
            BinaryOp::Less => greatest < 0,
            BinaryOp::LessEqual => greatest <= 0,
            BinaryOp::Greater => least > 0,
            BinaryOp::GreaterEqual => least >= 0,
            BinaryOp::Equal => least == 0 && greatest == 0,
            BinaryOp::NotEqual => least > 0 || greatest < 0,
            _ => false,
        };
        if always {
            return Some(Recognised::Always);
        }
    }
    if let (BinaryOp::Equal, 0, [(x, fx), (y, fy)]) =
        (op, difference.constant, difference.terms.as_slice())
        && fx.checked_add(*fy) == Some(0)
        && fx.abs() == 1
        && x.modulus.is_none()
        && y.modulus.is_none()
        && (x.unit > 1 || y.unit > 1)
        && x.rank != y.rank
    {
        return Some(Recognised::Is(Condition::SameBlock {
            a: x.rank,
            unit_a: x.unit,
            b: y.rank,
            unit_b: y.unit,
        }));
    }
    // The sum without its constant k, `op` -k.
    let k = difference.constant;
    let (low, high) = match op {
        BinaryOp::Less => (None, Some(k.checked_neg()?.checked_sub(1)?)),
        BinaryOp::LessEqual => (None, Some(k.checked_neg()?)),
        BinaryOp::Greater => (Some(k.checked_neg()?.checked_add(1)?), None),
        BinaryOp::GreaterEqual => (Some(k.checked_neg()?), None),
        BinaryOp::Equal => (Some(k.checked_neg()?), Some(k.checked_neg()?)),
        _ => return None,
    };
    bounded(&difference, low, high).map(Recognised::Is)
}

/// A sum, its constant aside, between two bounds.
fn bounded(sum: &Linear, low: Option<i128>, high: Option<i128>) -> Option<Condition> {
    if let Some((a, b)) = pair(sum) {
        return Some(Condition::Band { a, b, low, high });
    }
    let terms = sum
        .terms
        .iter()
        .map(|(term, factor)| Some((i64::try_from(*factor).ok()?, *term)));
    Some(Condition::Affine {
        terms: terms.collect::<Option<_>>()?,
        low,
        high,
        residue: None,
    })
}

/// The ranks of a difference of two plain coordinates.
fn pair(value: &Linear) -> Option<(usize, usize)> {
    let plain = |t: &Term| t.unit == 1 && t.modulus.is_none();
    match value.terms.as_slice() {
        [(x, 1), (y, -1)] if plain(x) && plain(y) && x.rank != y.rank => Some((x.rank, y.rank)),
        [(x, -1), (y, 1)] if plain(x) && plain(y) && x.rank != y.rank => Some((y.rank, x.rank)),
        _ => None,
    }
}

/// Any other condition: tested point by point.
fn general(context: &Context<'_>, expr: &Expr) -> Condition {
    let expr = expr.clone();
    let source = context.cascade.source.clone();
    let sizes: BTreeMap<String, i128> = context
        .ranks
        .sizes
        .0
        .iter()
        .map(|(name, size)| (name.clone(), i128::from(*size)))
        .collect();
    let variables: BTreeMap<String, (usize, u64, Option<u64>)> = context
        .cascade
        .ranks
        .iter()
        .zip(&context.ranks.digits)
        .map(|(rank, d)| (rank.variable.clone(), (d.base, d.unit, d.modulus)))
        .collect();
    let mut ranks: Vec<usize> = Vec::new();
    expr.walk(&mut |part| {
        if let Expr::Name { name, .. } = part
            && let Some((base, ..)) = variables.get(name)
            && !ranks.contains(base)
        {
            ranks.push(*base);
        }
    });
    let places = ranks.clone();
    let text = expr.to_string();
    let test = PointTest::new(text, move |point: &[u64]| {
        let lookup = |name: &str| match variables.get(name) {
            Some((base, unit, modulus)) => {
                let at = places.iter().position(|r| r == base)?;
                let digit = point.get(at)? / (*unit).max(1);
                Some(i128::from(modulus.map_or(digit, |m| digit % m.max(1))))
            }
            None => sizes.get(name).copied(),
        };
        expr.whole(&source, &lookup, &Vec::new)
            .is_ok_and(|value| value != 0)
    });
    Condition::General { ranks, test }
}

/// The conditions by which a block's empty tiles are known: those that its Einsums share.
pub(crate) fn of_block(
    context: &Context<'_>,
    index: usize,
    block: &Block,
) -> Result<Vec<Condition>, Problems> {
    let spec = &context.spec.blocks[index];
    if !spec.skip_empty {
        return Ok(Vec::new());
    }
    let mut shared: Option<(String, Vec<Condition>)> = None;
    for einsum in block.nests.iter().flat_map(|n| &n.einsums) {
        let own = conditions(context, context.cascade.einsum(einsum.einsum));
        if own.is_empty() {
            continue;
        }
        // Each of them stands in a list once.
        let same = |list: &[Condition]| {
            list.len() == own.len() && list.iter().all(|condition| own.contains(condition))
        };
        match &shared {
            Some((first, conditions)) if !same(conditions) => {
                return Err(Problem::at(&context.spec.source, spec.span, format!(
                    "block {:?} skips empty tiles, but {first} and {} are empty in different places", spec.name, einsum.name
                ))
                .help("leave `skip_empty` out, or map the two in separate blocks")
                .into());
            }
            Some(_) => {}
            None => shared = Some((einsum.name.clone(), own)),
        }
    }
    Ok(shared.map(|(_, list)| list).unwrap_or_default())
}

impl Context<'_> {
    /// By tensor: how inputs are read and outputs written.
    pub fn uses(&self) -> Vec<Vec<Use>> {
        let mut uses = vec![Vec::new(); self.cascade.tensors.len()];
        let kind = |t: TensorId| self.cascade.tensor(t).kind;
        for id in (0..self.cascade.einsums.len()).map(EinsumId) {
            let einsum = self.cascade.einsum(id);
            if einsum.view {
                continue;
            }
            let reads = self.projections.reads(id).iter().flatten();
            let reads = reads.filter(|(tensor, _)| kind(*tensor) == TensorKind::Input);
            let written = (einsum.output, self.projections.own(einsum.output));
            let written = Some(written).filter(|_| kind(einsum.output) == TensorKind::Output);
            let touched: Vec<_> = reads.map(|(t, p)| (*t, p)).chain(written).collect();
            if touched.is_empty() {
                continue;
            }
            let mut points = Space::new(self.ranks.base.iter().map(|b| b.size).collect::<Vec<_>>());
            points.conditions = conditions(self, einsum);
            points.skip_empty = true;
            for (tensor, projection) in touched {
                uses[tensor.0].push(Use {
                    points: points.clone(),
                    projection: projection.clone(),
                });
            }
        }
        uses
    }
}

/// Adds an Einsum's conditions to the space of its points. Conditions are on base coordinates, so
/// they apply where the Einsum walks the ranks that they name down to single coordinates.
pub(crate) fn of_points(context: &Context<'_>, einsum: &Einsum, points: &mut Space) {
    let mut finest = vec![None; context.ranks.base.len()];
    for rank in context.cascade.batch.iter().chain(&einsum.ranks) {
        let digit = context.ranks.digit(*rank);
        let unit: &mut Option<u64> = &mut finest[digit.base];
        *unit = Some(unit.map_or(digit.unit, |u| u.min(digit.unit)));
    }
    for condition in conditions(context, einsum) {
        points.conditions.push(coarse(condition, &finest));
    }
}

/// A condition on coordinates, of the coarse digits that a space counts.
fn coarse(condition: Condition, finest: &[Option<u64>]) -> Condition {
    let scale = |rank: usize| finest[rank].unwrap_or(1).max(1);
    let scaled = |rank: usize, unit: u64| (unit / scale(rank)).max(1);
    let each = |list: Vec<Condition>| list.into_iter().map(|c| coarse(c, finest)).collect();
    match condition {
        Condition::General { ranks, test } if ranks.iter().any(|r| scale(*r) > 1) => {
            // The test wants coordinates.
            let test = test.scaled(ranks.iter().map(|r| scale(*r)).collect::<Vec<_>>());
            Condition::General { ranks, test }
        }
        Condition::Affine {
            mut terms,
            low,
            high,
            residue,
        } => {
            for (_, term) in &mut terms {
                term.unit = scaled(term.rank, term.unit);
            }
            Condition::Affine {
                terms,
                low,
                high,
                residue,
            }
        }
        Condition::SameBlock {
            a,
            unit_a,
            b,
            unit_b,
        } => Condition::SameBlock {
            a,
            unit_a: scaled(a, unit_a),
            b,
            unit_b: scaled(b, unit_b),
        },
        Condition::All(list) => Condition::All(each(list)),
        Condition::Any(list) => Condition::Any(each(list)),
        Condition::Not(not) => Condition::Not(Box::new(coarse(*not, finest))),
        other => other,
    }
}
