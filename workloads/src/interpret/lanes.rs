//! Operations on a run of points along the innermost loop at once.

use super::{FunctionUnit, ops};
use crate::cascade::Function;
use einflow_spec::Rounding;

/// The values of one sub-expression at consecutive points: one for all of them, or one each.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// One value, or one for each point.
    pub values: Vec<f64>,
    /// Which of `values` are empty; in use only where `masked`.
    pub empty: Vec<bool>,
    /// Whether any may be empty.
    pub masked: bool,
}

impl Lane {
    /// One value for all points.
    pub fn set(&mut self, value: Option<f64>) {
        self.values.clear();
        self.values.push(value.unwrap_or(0.0));
        self.masked = value.is_none();
        if self.masked {
            self.empty.clear();
            self.empty.push(true);
        }
    }

    /// The value at the `i`-th point; `None` where empty.
    pub fn get(&self, i: usize) -> Option<f64> {
        let i = if self.values.len() == 1 { 0 } else { i };
        if self.masked && self.empty[i] {
            None
        } else {
            Some(self.values[i])
        }
    }

    /// Begins a lane of several values, without any yet.
    pub fn begin(&mut self, masked: bool) {
        self.values.clear();
        self.empty.clear();
        self.masked = masked;
    }

    /// Adds a value to a lane that was begun as masked.
    pub fn push(&mut self, value: Option<f64>) {
        self.values.push(value.unwrap_or(0.0));
        self.empty.push(value.is_none());
    }
}

/// `out = function(a)` as the unit has it; empty where `a` is.
pub(super) fn unary<R: Rounding>(f: fn(f64) -> f64, unit: &FunctionUnit, a: &Lane, out: &mut Lane) {
    out.begin(a.masked);
    out.values
        .extend(a.values.iter().map(|x| unit.at::<R>(f, *x)));
    if a.masked {
        out.empty.extend_from_slice(&a.empty);
    }
}

/// `out = function(a, b)`: empty where both operands are, where one is that may not be missing, or where a divisor
/// is 0; where one is missing, the value of the other (which a difference subtracts from nothing).
pub(super) fn binary<R: Rounding>(
    function: Function,
    f: fn(f64, f64) -> f64,
    may_miss: [bool; 2],
    a: &Lane,
    b: &Lane,
    out: &mut Lane,
) {
    let zero_divisor = function == Function::Div && b.values.contains(&0.0);
    if a.masked || b.masked || zero_divisor {
        return masked::<R>(function, f, may_miss, a, b, out);
    }
    // Known functions are inlined into their loops.
    match function {
        Function::Add => dense::<R>(|x, y| x + y, a, b, out),
        Function::Sub => dense::<R>(ops::sub, a, b, out),
        Function::Mul => dense::<R>(|x, y| x * y, a, b, out),
        Function::Div => dense::<R>(|x, y| x / y, a, b, out),
        Function::Max => dense::<R>(ops::max, a, b, out),
        Function::Min => dense::<R>(ops::min, a, b, out),
        _ => dense::<R>(f, a, b, out),
    }
}

#[inline(always)]
fn dense<R: Rounding>(f: impl Fn(f64, f64) -> f64, a: &Lane, b: &Lane, out: &mut Lane) {
    out.begin(false);
    match (a.values.as_slice(), b.values.as_slice()) {
        ([x], ys) => out.values.extend(ys.iter().map(|y| R::round(f(*x, *y)))),
        (xs, [y]) => out.values.extend(xs.iter().map(|x| R::round(f(*x, *y)))),
        (xs, ys) => out
            .values
            .extend(xs.iter().zip(ys).map(|(x, y)| R::round(f(*x, *y)))),
    }
}

fn masked<R: Rounding>(
    function: Function,
    f: fn(f64, f64) -> f64,
    may_miss: [bool; 2],
    a: &Lane,
    b: &Lane,
    out: &mut Lane,
) {
    out.begin(true);
    for i in 0..a.values.len().max(b.values.len()) {
        out.push(match (a.get(i), b.get(i)) {
            (Some(_), Some(y)) if function == Function::Div && y == 0.0 => None,
            (Some(x), Some(y)) => Some(R::round(f(x, y))),
            (Some(x), None) if may_miss[1] => Some(x),
            (None, Some(y)) if may_miss[0] => Some(if function == Function::Sub { -y } else { y }),
            _ => None,
        });
    }
}
