//! Conditions, and the ranges of the innermost loop that linear ones leave.

use einflow_spec::Problem;
use einflow_spec::expr::{BinaryOp, Expr, floor_div};

use super::index::{Affine, Fault, Form, Scope, Tree};

/// A range of the innermost loop: `start..end`, empty where `end <= start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First coordinate.
    pub start: i64,
    /// One past the last.
    pub end: i64,
}

impl Range {
    /// Whether it holds no coordinate.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Number of coordinates.
    pub fn len(self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(0)
    }

    /// Keeps the coordinates `v` where `base + step * v >= 0`.
    pub fn keep_from_zero(&mut self, base: i64, step: i64) {
        let bound = floor_div(i128::from(base), i128::from(step.unsigned_abs()));
        match bound.map(|b| b.clamp(i128::from(i64::MIN) + 1, i128::from(i64::MAX) - 1) as i64) {
            // v >= -base / step, rounded up.
            Some(b) if step > 0 => self.start = self.start.max(-b),
            // v <= base / -step, rounded down.
            Some(b) => self.end = self.end.min(b + 1),
            None if base < 0 => self.end = self.start,
            None => {}
        }
    }

    /// Keeps the coordinates `v` where `0 <= base + step * v < length`.
    pub fn keep_inside(&mut self, base: i64, step: i64, length: i64) {
        self.keep_from_zero(base, step);
        self.keep_from_zero((length - 1).saturating_sub(base), step.saturating_neg());
    }
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// The form is at least 0.
    NonNegative(Affine),
    /// The form is 0.
    Zero(Affine),
    /// The value is not 0.
    Tree(Form),
}

impl Test {
    /// Compiles a condition to tests that must all hold.
    pub fn compile(expr: &Expr, scope: &Scope<'_>, tests: &mut Vec<Test>) -> Result<(), Problem> {
        let Expr::Binary {
            op, left, right, ..
        } = expr
        else {
            tests.push(Test::Tree(Form::new(
                Tree::compile(expr, scope)?,
                &scope.extents,
            )));
            return Ok(());
        };
        if *op == BinaryOp::And {
            Test::compile(left, scope, tests)?;
            return Test::compile(right, scope, tests);
        }
        let (a, b) = (Tree::build(left, scope)?, Tree::build(right, scope)?);
        let form = match (&a, &b) {
            (Tree::Affine(a), Tree::Affine(b)) => {
                let one = Affine {
                    constant: 1,
                    coefficients: vec![0; a.coefficients.len()],
                };
                let less = |a: &Affine, b: &Affine, strict: i64| {
                    b.combine(1, a, -1)?.combine(1, &one, -strict)
                };
                match op {
                    BinaryOp::Less => less(a, b, 1).map(Test::NonNegative),
                    BinaryOp::LessEqual => less(a, b, 0).map(Test::NonNegative),
                    BinaryOp::Greater => less(b, a, 1).map(Test::NonNegative),
                    BinaryOp::GreaterEqual => less(b, a, 0).map(Test::NonNegative),
                    BinaryOp::Equal => less(a, b, 0).map(Test::Zero),
                    _ => None,
                }
            }
            _ => None,
        };
        let fits = |test: &Test| match test {
            Test::NonNegative(a) | Test::Zero(a) => a.bounds(&scope.extents).is_some(),
            Test::Tree(_) => true,
        };
        let test = match form.filter(fits) {
            Some(test) => test,
            None => Test::Tree(Form::new(Tree::compile(expr, scope)?, &scope.extents)),
        };
        if !test.always_holds(&scope.extents) {
            tests.push(test);
        }
        Ok(())
    }

    /// Whether it holds at every point of the loops.
    fn always_holds(&self, extents: &[usize]) -> bool {
        match self {
            Test::NonNegative(a) => a.bounds(extents).is_some_and(|(low, _)| low >= 0),
            Test::Zero(_) | Test::Tree(_) => false,
        }
    }

    /// Whether it holds at a point.
    pub fn holds(&self, point: &[i64]) -> Result<bool, Fault> {
        Ok(match self {
            Test::NonNegative(a) => a.at(point) >= 0,
            Test::Zero(a) => a.at(point) == 0,
            Test::Tree(form) => form.at(point)? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against trying every coordinate.
    #[test]
    fn ranges_are_clipped_exactly() {
        for base in -9..10 {
            for step in -4..5 {
                for length in 1..6 {
                    let full = Range { start: 0, end: 7 };
                    let mut range = full;
                    range.keep_inside(base, step, length);
                    let inside = |v: i64| (0..length).contains(&(base + step * v));
                    let expected: Vec<i64> = (0..7).filter(|v| inside(*v)).collect();
                    let found: Vec<i64> = (range.start..range.end).collect();
                    assert_eq!(found, expected, "{base} {step} {length}");
                }
            }
        }
    }
}
