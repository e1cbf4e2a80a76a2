//! Which coordinates of a tensor are read: the image of an iteration space under affine indices.
//!
//! Coordinates and points together satisfy inequalities; the points' variables are eliminated by Fourier and Motzkin's
//! method. A variable that its coordinates determine (`2 * p`) is counted with them. Where whole numbers might leave gaps
//! else (no bound of a pair has the factor 1) only coordinates are kept that are certainly read (the dark shadow of the
//! Omega test), so that a count is never too large.

use einflow_spec::expr::{Expr, floor_div};
use einflow_spec::{Problem, Source};

use super::term::{self, Formula, Scope, Stop, Term};
use super::{Axis, closed_form};

/// More inequalities than this are not worth a closed form.
const MOST_ROWS: usize = 128;

/// One way to read a tensor.
pub(in crate::analysis) struct Image<'a> {
    /// The variables of the points that read.
    pub(in crate::analysis) axes: Vec<Axis<'a>>,
    /// What holds at each of these points.
    pub(in crate::analysis) conditions: Vec<Expr>,
    /// One index for each axis of the tensor.
    pub(in crate::analysis) indices: Vec<Expr>,
}

/// An affine function that is at least 0.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    factors: Vec<i128>,
    constant: i128,
}

/// How many coordinates of a tensor of these `lengths` are read at least, in one of several ways; exactly, but for
/// several ways of which one has gaps. `None` where no closed form is known.
///
/// # Errors
/// An unknown name, or a condition that divides by zero.
pub(in crate::analysis) fn reached(
    lengths: &[i128],
    images: &[Image<'_>],
    source: &Source,
    size: &dyn Fn(&str) -> Option<i128>,
) -> Result<Option<u128>, Problem> {
    // No rank variable is called so.
    let names: Vec<String> = (0..lengths.len()).map(|i| format!("#{i}")).collect();
    let own = || names.iter().zip(lengths);
    let own = || {
        own().map(|(variable, length)| Axis {
            variable,
            range: 0..*length,
        })
    };
    let mut ways = Vec::new();
    for image in images {
        let axes: Vec<Axis<'_>> = own().chain(image.axes.iter().cloned()).collect();
        let scope = Scope {
            axes: &axes,
            source,
            size,
        };
        let mut formulas = Vec::new();
        let found = image.conditions.iter().map(|c| scope.formula(c));
        let at = image.indices.iter().enumerate();
        let equal = at.map(|(i, index)| scope.equal(Term::Variable(i), index));
        for formula in found.chain(equal) {
            match formula {
                Ok(formula) => formulas.push(formula),
                Err(Stop::Wrong(problem)) => return Err(*problem),
                Err(Stop::NotAffine) => return Ok(None),
            }
        }
        let shadows = term::alternatives(formulas).and_then(|alternatives| {
            let shadows = alternatives
                .iter()
                .map(|terms| shadow(&axes, lengths, terms));
            shadows.collect::<Option<Vec<_>>>()
        });
        let Some(shadows) = shadows else {
            return Ok(None);
        };
        ways.extend(shadows);
    }
    let axes: Vec<Axis<'_>> = own().collect();
    let same = ways.iter().all(|way| way.more.is_empty());
    let all = || {
        let of = ways.iter().map(|way| way.formula.clone());
        closed_form(&axes, vec![Formula::Or(of.collect())])
    };
    // What is certain of each way is certain of all.
    let each = || {
        let counts = ways.iter().map(|way| {
            let axes: Vec<_> = own().chain(way.more.iter().cloned()).collect();
            closed_form(&axes, vec![way.formula.clone()])
        });
        counts.collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    Ok(same.then(all).flatten().or_else(each))
}

/// What is left of a way to read when its variables are eliminated.
struct Shadow<'a> {
    formula: Formula,
    /// Variables that the coordinates determine; the formula has them behind these.
    more: Vec<Axis<'a>>,
}

/// What the terms, each at least 0, leave of the first variables, which have `lengths`.
fn shadow<'a>(axes: &[Axis<'a>], lengths: &[i128], terms: &[Term]) -> Option<Shadow<'a>> {
    let mut rows = Vec::new();
    let mut width = axes.len();
    for (v, axis) in axes.iter().enumerate() {
        rows.push(Row::variable(v).plus(1, axis.range.start.checked_neg()?)?);
        rows.push(Row::variable(v).plus(-1, axis.range.end.checked_sub(1)?)?);
    }
    for term in terms {
        let row = linear(term, &mut rows, &mut width)?;
        rows.push(row);
    }
    rows.iter_mut().for_each(|row| row.factors.resize(width, 0));
    for row in &mut rows {
        row.reduce()?;
    }
    let mut kept: Vec<usize> = (0..lengths.len()).collect();
    let mut left: Vec<usize> = (lengths.len()..width).collect();
    // What leaves no gaps goes first.
    while !left.is_empty() {
        if let Some((at, equal)) = left
            .iter()
            .enumerate()
            .find_map(|(at, v)| Some((at, equality(&rows, *v, |row| row.factors[*v] == 1)?)))
        {
            rows = replaced(rows, left.remove(at), &equal)?;
        } else if let Some(at) = left.iter().position(|v| has_unit_bounds(&rows, *v)) {
            rows = eliminated(rows, left.remove(at))?;
        } else if let Some(at) = left.iter().position(|v| {
            let others = |row: &Row| left.iter().all(|o| o == v || row.factors[*o] == 0);
            *v < axes.len() && equality(&rows, *v, others).is_some()
        }) {
            kept.push(left.remove(at));
        } else {
            rows = eliminated(rows, left.remove(0))?;
        }
        if rows.len() > MOST_ROWS {
            return None;
        }
    }
    for row in &mut rows {
        row.factors = kept.iter().map(|v| row.factors[*v]).collect();
    }
    let more: Vec<Axis<'a>> = kept[lengths.len()..]
        .iter()
        .map(|v| axes[*v].clone())
        .collect();
    let holds = rows.into_iter().filter(|row| !row.always(lengths));
    Some(Shadow {
        formula: Formula::And(holds.map(Row::formula).collect()),
        more,
    })
}

/// A row with a variable that is 0, as it and its opposite are both at least 0.
fn equality(rows: &[Row], v: usize, fits: impl Fn(&Row) -> bool) -> Option<Row> {
    let with = rows.iter().filter(|row| row.factors[v] > 0 && fits(row));
    let is_zero = |row: &&Row| {
        row.times(-1)
            .is_some_and(|opposite| rows.contains(&opposite))
    };
    with.clone().find(is_zero).cloned()
}

/// The rows with a variable, of factor 1 in a row that is 0, replaced by what it is.
fn replaced(rows: Vec<Row>, v: usize, equal: &Row) -> Option<Vec<Row>> {
    let mut out: Vec<Row> = Vec::new();
    for row in rows {
        let mut row = row.add(&equal.times(row.factors[v].checked_neg()?)?)?;
        row.reduce()?;
        let always = row.constant >= 0 && row.factors.iter().all(|f| *f == 0);
        if !(always || out.contains(&row)) {
            out.push(row);
        }
    }
    Some(out)
}

/// Whether of every pair of bounds on a variable one has the factor 1.
fn has_unit_bounds(rows: &[Row], v: usize) -> bool {
    let mut factors = rows.iter().map(|row| row.factors[v]);
    let lower = factors.clone().all(|f| f <= 1);
    lower || factors.all(|f| f >= -1)
}

/// The rows without a variable: each lower bound of it is below each upper one.
fn eliminated(rows: Vec<Row>, v: usize) -> Option<Vec<Row>> {
    let (mut lower, mut upper, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match row.factors[v] {
            0 => out.push(row),
            1.. => lower.push(row),
            _ => upper.push(row),
        }
    }
    for low in &lower {
        for high in &upper {
            let (a, b) = (low.factors[v], high.factors[v].checked_neg()?);
            let mut row = low.times(b)?.add(&high.times(a)?)?;
            let gap = (a - 1).checked_mul(b - 1)?;
            row.constant = row.constant.checked_sub(gap)?;
            row.reduce()?;
            let constant = row.factors.iter().all(|f| *f == 0);
            if !(constant && row.constant >= 0 || out.contains(&row)) {
                out.push(row);
            }
        }
    }
    Some(out)
}

/// A term as an affine function; a quotient is a variable of its own between two bounds.
fn linear(term: &Term, rows: &mut Vec<Row>, width: &mut usize) -> Option<Row> {
    let mut quotient = |a: &Term, by: i128| {
        let a = linear(a, rows, width)?;
        let q = Row::variable(*width);
        *width += 1;
        let rest = a.add(&q.times(by.checked_neg()?)?)?;
        rows.push(rest.clone());
        rows.push(rest.plus(-1, by.checked_sub(1)?)?);
        Some((q, rest))
    };
    match term {
        Term::Constant(value) => Some(Row {
            factors: Vec::new(),
            constant: *value,
        }),
        Term::Variable(v) => Some(Row::variable(*v)),
        Term::Add(a, b) => linear(a, rows, width)?.add(&linear(b, rows, width)?),
        Term::Scale(by, a) => linear(a, rows, width)?.times(*by),
        Term::Div(a, by) => Some(quotient(a, *by)?.0),
        Term::Rem(a, by) => Some(quotient(a, *by)?.1),
        Term::Min(..) | Term::Max(..) | Term::Abs(_) => None,
    }
}

impl Row {
    fn variable(v: usize) -> Self {
        let mut factors = vec![0; v + 1];
        factors[v] = 1;
        Row {
            factors,
            constant: 0,
        }
    }

    fn times(&self, by: i128) -> Option<Row> {
        let factors = self.factors.iter().map(|f| f.checked_mul(by));
        Some(Row {
            factors: factors.collect::<Option<_>>()?,
            constant: self.constant.checked_mul(by)?,
        })
    }

    fn add(&self, other: &Row) -> Option<Row> {
        let factor = |row: &Row, v: usize| row.factors.get(v).copied().unwrap_or(0);
        let width = self.factors.len().max(other.factors.len());
        let factors = (0..width).map(|v| factor(self, v).checked_add(factor(other, v)));
        Some(Row {
            factors: factors.collect::<Option<_>>()?,
            constant: self.constant.checked_add(other.constant)?,
        })
    }

    /// `by` times the row, and a constant.
    fn plus(&self, by: i128, constant: i128) -> Option<Row> {
        let mut row = self.times(by)?;
        row.constant = row.constant.checked_add(constant)?;
        Some(row)
    }

    /// Divides by what all factors have in common; whole numbers leave a whole bound.
    fn reduce(&mut self) -> Option<()> {
        let common = self
            .factors
            .iter()
            .fold(0, |a, f| super::region::gcd(a, *f));
        if common > 1 {
            self.factors.iter_mut().for_each(|f| *f /= common);
            self.constant = floor_div(self.constant, common)?;
        }
        Some(())
    }

    /// Whether it holds at all coordinates.
    fn always(&self, lengths: &[i128]) -> bool {
        if self.factors[lengths.len()..].iter().any(|f| *f != 0) {
            return false;
        }
        let mut ends = self.factors.iter().zip(lengths);
        let least = ends.try_fold(self.constant, |sum, (factor, length)| {
            sum.checked_add(factor.checked_mul(length - 1)?.min(0))
        });
        least.is_some_and(|least| least >= 0)
    }

    fn formula(self) -> Formula {
        let mut sum = Term::Constant(self.constant);
        for (v, factor) in self.factors.iter().enumerate().filter(|(_, f)| **f != 0) {
            let scaled = Term::Scale(*factor, Box::new(Term::Variable(v)));
            sum = Term::Add(Box::new(sum), Box::new(scaled));
        }
        if self.factors.iter().all(|f| *f == 0) {
            return Formula::Constant(self.constant >= 0);
        }
        Formula::Holds(sum)
    }
}
