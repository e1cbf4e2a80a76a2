//! What values a whole-number expression takes while its variables run over ranges: never fewer than it does.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp, floor_div};

/// The least and the greatest value.
pub(super) type Bounds = (i128, i128);

/// Bounds of an expression's values, each name within those that `lookup` gives it; `None` where nothing is known. A
/// condition is (0, 0) where it never holds and (1, 1) where it always does.
pub(super) fn bounds(expr: &Expr, lookup: &dyn Fn(&str) -> Option<Bounds>) -> Option<Bounds> {
    match expr {
        Expr::Number { text, .. } => {
            let value = text.replace('_', "").parse().ok()?;
            Some((value, value))
        }
        Expr::Name { name, .. } => lookup(name),
        Expr::Read { .. } => None,
        Expr::Unary { op, operand, .. } => {
            let (low, high) = bounds(operand, lookup)?;
            Some(match op {
                UnaryOp::Neg => (-high, -low),
                UnaryOp::Not => truth(low == 0 && high == 0, low <= 0 && high >= 0),
            })
        }
        Expr::Call {
            name, arguments, ..
        } => call(name, arguments, lookup),
        Expr::Binary {
            op, left, right, ..
        } => {
            let (a, b) = (bounds(left, lookup)?, bounds(right, lookup)?);
            binary(*op, a, b)
        }
    }
}

fn call(name: &str, arguments: &[Expr], lookup: &dyn Fn(&str) -> Option<Bounds>) -> Option<Bounds> {
    if let (
        "ceil",
        [
            Expr::Binary {
                op: BinaryOp::Div,
                left,
                right,
                ..
            },
        ],
    ) = (name, arguments)
    {
        let (a, b) = (bounds(left, lookup)?, bounds(right, lookup)?);
        let (low, high) = quotient((-a.1, -a.0), b)?;
        return Some((-high, -low));
    }
    let values: Option<Vec<Bounds>> = arguments.iter().map(|a| bounds(a, lookup)).collect();
    let values = values?;
    let each = |pick: &dyn Fn(i128, i128) -> i128| {
        let first = values.first().copied()?;
        Some(
            values
                .iter()
                .fold(first, |a, b| (pick(a.0, b.0), pick(a.1, b.1))),
        )
    };
    match name {
        "min" => each(&i128::min),
        "max" => each(&i128::max),
        "abs" => values.first().map(|&(low, high)| {
            let least = if low <= 0 && high >= 0 {
                0
            } else {
                low.abs().min(high.abs())
            };
            (least, low.abs().max(high.abs()))
        }),
        _ => None,
    }
}

fn binary(op: BinaryOp, a: Bounds, b: Bounds) -> Option<Bounds> {
    let always = |(low, high): Bounds| low > 0 || high < 0;
    let ever = |(low, high): Bounds| low != 0 || high != 0;
    let meet = a.0 <= b.1 && b.0 <= a.1;
    let same = a.0 == a.1 && a == b;
    Some(match op {
        BinaryOp::Or => truth(always(a) || always(b), ever(a) || ever(b)),
        BinaryOp::And => truth(always(a) && always(b), ever(a) && ever(b)),
        BinaryOp::Less => truth(a.1 < b.0, a.0 < b.1),
        BinaryOp::LessEqual => truth(a.1 <= b.0, a.0 <= b.1),
        BinaryOp::Greater => truth(a.0 > b.1, a.1 > b.0),
        BinaryOp::GreaterEqual => truth(a.0 >= b.1, a.1 >= b.0),
        BinaryOp::Equal => truth(same, meet),
        BinaryOp::NotEqual => truth(!meet, !same),
        BinaryOp::Add => (a.0.checked_add(b.0)?, a.1.checked_add(b.1)?),
        BinaryOp::Sub => (a.0.checked_sub(b.1)?, a.1.checked_sub(b.0)?),
        BinaryOp::Mul => corners(a, b, &i128::checked_mul)?,
        BinaryOp::Div => quotient(a, b)?,
        // Never negative; what stays within one multiple of the divisor grows with the dividend.
        BinaryOp::Rem if b.0 == b.1 && b.0 > 0 => {
            match floor_div(a.0, b.0)? == floor_div(a.1, b.0)? {
                true => (a.0.rem_euclid(b.0), a.1.rem_euclid(b.0)),
                false => (0, b.0 - 1),
            }
        }
        BinaryOp::Rem => (0, b.0.abs().max(b.1.abs()).checked_sub(1)?),
    })
}

fn quotient(a: Bounds, b: Bounds) -> Option<Bounds> {
    (b.0 > 0 || b.1 < 0).then(|| corners(a, b, &floor_div))?
}

fn corners(a: Bounds, b: Bounds, value: &dyn Fn(i128, i128) -> Option<i128>) -> Option<Bounds> {
    let all = [
        value(a.0, b.0)?,
        value(a.0, b.1)?,
        value(a.1, b.0)?,
        value(a.1, b.1)?,
    ];
    Some((*all.iter().min()?, *all.iter().max()?))
}

fn truth(always: bool, ever: bool) -> Bounds {
    (i128::from(always), i128::from(ever))
}
