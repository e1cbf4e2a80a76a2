//! What a PE computes at a point: the map step of an Einsum in the accumulator's format, and the reduce step.

use einflow_mappings::mapped::{BoundEinsum, MappedCascade};
use einflow_spec::{NumberFormat, expr::Expr};
use einflow_workloads::{
    cascade::{Cascade, Function, Map, RankId, Reduce},
    interpret::{FunctionUnit, binary, unary},
};

use super::error::ArrayError;

/// What computes a function of one operand in the PEs of an Einsum's array: the operator that applies it, alone or as
/// the last of a chain.
fn unit_of(mapped: &MappedCascade, bound: &BoundEinsum, function: Function) -> FunctionUnit {
    let operators = &mapped.accelerator.arrays[bound.unit].operators;
    let named = bound
        .operators
        .iter()
        .find(|(name, _)| name.rsplit('+').next() == Some(function.name()));
    let computes = named.and_then(|(name, _)| operators.get(name)?.computes.as_ref());
    computes.map_or(FunctionUnit::Exact, |polynomial| FunctionUnit::Polynomial {
        coefficients: polynomial.coefficients.clone(),
        reduced: polynomial.reduction.is_some(),
    })
}

/// The most values of an expression that are worked out beforehand.
const MOST_VALUES: u64 = 1 << 16;

/// A variable of an expression, and how to have it from the base ranks.
#[derive(Clone, Debug)]
struct Variable {
    name: String,
    base: usize,
    unit: u64,
    modulus: u64,
    /// How many values it has.
    count: u64,
}

impl Variable {
    fn at(&self, point: &[u64]) -> u64 {
        point[self.base] / self.unit % self.modulus
    }
}

/// A whole-number expression over rank variables.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    expr: Expr,
    variables: Vec<Variable>,
    /// Its values, the last variable's fastest; empty where they are too many.
    table: Vec<Option<i128>>,
}

impl Whole {
    pub fn new(mapped: &MappedCascade, expr: &Expr) -> Self {
        let mut variables: Vec<Variable> = Vec::new();
        expr.walk(&mut |part| {
            if let Expr::Name { name, .. } = part
                && variables.iter().all(|v| v.name != *name)
                && let mut ranks = mapped.cascade.ranks.iter()
                && let Some(rank) = ranks.position(|r| r.variable == *name)
                && let Some((base, unit, modulus)) = digit(mapped, RankId(rank))
            {
                let size = mapped.sizes.get(&mapped.cascade.ranks[rank].name);
                variables.push(Variable {
                    name: name.clone(),
                    base,
                    unit,
                    modulus,
                    count: size.copied().unwrap_or(u64::MAX),
                });
            }
        });
        let mut whole = Self {
            expr: expr.clone(),
            variables,
            table: Vec::new(),
        };
        let counts = whole.variables.iter().map(|v| v.count);
        let values = counts.fold(1, u64::saturating_mul);
        if values <= MOST_VALUES {
            let value = |at| whole.value(mapped, &whole.digits(at));
            whole.table = (0..values).map(value).collect();
        }
        whole
    }

    /// The variables at a place of the table.
    fn digits(&self, mut at: u64) -> Vec<u64> {
        let mut digits = vec![0; self.variables.len()];
        for (digit, v) in digits.iter_mut().zip(&self.variables).rev() {
            (*digit, at) = (at % v.count, at / v.count);
        }
        digits
    }

    fn value(&self, mapped: &MappedCascade, digits: &[u64]) -> Option<i128> {
        let lookup = |name: &str| {
            let own = self.variables.iter().position(|v| v.name == name);
            let known = own.map(|at| digits[at]);
            known
                .or_else(|| mapped.sizes.get(name).copied())
                .map(i128::from)
        };
        let source = &mapped.cascade.source;
        self.expr.whole(source, &lookup, &Vec::new).ok()
    }

    pub fn at(&self, mapped: &MappedCascade, point: &[u64]) -> Option<i128> {
        let digits = self.variables.iter().map(|v| v.at(point));
        if self.table.is_empty() {
            return self.value(mapped, &digits.collect::<Vec<_>>());
        }
        let each = self.variables.iter().zip(digits);
        let at = each.fold(0, |at, (v, digit)| at * v.count + digit);
        self.table[at as usize]
    }
}

/// How a rank's coordinate follows from that of its base rank: base rank, unit, modulus.
fn digit(mapped: &MappedCascade, rank: RankId) -> Option<(usize, u64, u64)> {
    let cascade = &mapped.cascade;
    cascade.tensors.iter().enumerate().find_map(|(t, tensor)| {
        let at = cascade
            .batch
            .iter()
            .chain(&tensor.ranks)
            .position(|r| *r == rank)?;
        let own = mapped.own_projection(einflow_workloads::cascade::TensorId(t));
        let term = own.dims.get(at)?.terms.first()?;
        Some((
            term.rank,
            term.unit.max(1),
            term.modulus.unwrap_or(u64::MAX),
        ))
    })
}

/// A step of the map.
#[derive(Clone, Debug)]
enum Node {
    Constant(f64),
    Read(usize),
    Coordinate(Whole),
    Unary(Function, fn(f64) -> f64, FunctionUnit, usize),
    Binary(Function, fn(f64, f64) -> f64, [bool; 2], usize, usize),
}

/// The reduce step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    None,
    Sum,
    Max,
    Min,
}

impl Reduction {
    pub fn identity(self) -> f64 {
        match self {
            Reduction::Max => f64::NEG_INFINITY,
            Reduction::Min => f64::INFINITY,
            _ => 0.0,
        }
    }

    pub fn of(self, accumulator: NumberFormat, a: f64, b: f64) -> f64 {
        let value = match self {
            Reduction::None => b,
            Reduction::Sum => a + b,
            Reduction::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Reduction::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
        };
        accumulator.round(value)
    }
}

/// An Einsum's arithmetic.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    nodes: Vec<Node>,
    pub reduction: Reduction,
    pub accumulator: NumberFormat,
    pub format: NumberFormat,
    /// A product of two operands that are summed.
    pub mac: Option<(usize, usize)>,
    /// Conditions on the output's coordinates, of a reduction.
    pub on_output: Vec<Whole>,
    /// Other conditions.
    pub on_points: Vec<Whole>,
}

impl Kernel {
    pub fn new(mapped: &MappedCascade, bound: &BoundEinsum) -> Result<Self, ArrayError> {
        let cascade: &Cascade = &mapped.cascade;
        let einsum = cascade.einsum(bound.einsum);
        let refuse = |why: &str| ArrayError::Unsupported {
            einsum: bound.name.clone(),
            why: why.into(),
        };
        let reduction = match &einsum.reduce {
            Reduce::Top { .. } => {
                return Err(refuse(
                    "it chooses the largest values, which takes a sorter that no array has",
                ));
            }
            _ if einsum.reduced.is_empty() => Reduction::None,
            Reduce::None => return Err(refuse("it has reduced ranks and no reduction")),
            Reduce::Sum => Reduction::Sum,
            Reduce::Max => Reduction::Max,
            Reduce::Min => Reduction::Min,
        };
        let format = mapped.accelerator.word;
        let accumulator = format.default_accumulator();
        let mut kernel = Self {
            nodes: Vec::new(),
            reduction,
            accumulator,
            format,
            mac: None,
            on_output: Vec::new(),
            on_points: Vec::new(),
        };
        for condition in &einsum.support {
            let mut on_output = reduction != Reduction::None;
            condition.0.walk(&mut |part| {
                if let Expr::Name { name, .. } = part {
                    let reduced = einsum
                        .reduced
                        .iter()
                        .any(|r| cascade.rank(*r).variable == *name);
                    on_output &= !reduced;
                }
            });
            let whole = Whole::new(mapped, &condition.0);
            if on_output {
                kernel.on_output.push(whole);
            } else {
                kernel.on_points.push(whole);
            }
        }
        kernel.push(mapped, bound, &einsum.map)?;
        if let (
            Reduction::Sum,
            [
                Node::Read(a),
                Node::Read(b),
                Node::Binary(Function::Mul, ..),
            ],
        ) = (reduction, kernel.nodes.as_slice())
        {
            kernel.mac = Some((*a, *b));
        }
        Ok(kernel)
    }

    fn push(
        &mut self,
        mapped: &MappedCascade,
        bound: &BoundEinsum,
        map: &Map,
    ) -> Result<usize, ArrayError> {
        let node = match map {
            Map::Constant(value) => Node::Constant(self.accumulator.round(*value)),
            Map::Read(read) => Node::Read(*read),
            Map::Coordinate(expr) => Node::Coordinate(Whole::new(mapped, expr)),
            Map::Apply(function, operands) => {
                let refuse = || ArrayError::Unsupported {
                    einsum: bound.name.clone(),
                    why: format!("`{}` of {} operands", function.name(), operands.len()),
                };
                match operands.as_slice() {
                    [a] => {
                        let f = unary(*function).ok_or_else(refuse)?;
                        let unit = if a.reads() {
                            unit_of(mapped, bound, *function)
                        } else {
                            FunctionUnit::Exact
                        };
                        let a = self.push(mapped, bound, a)?;
                        Node::Unary(*function, f, unit, a)
                    }
                    [a, b] => {
                        let f = binary(*function).ok_or_else(refuse)?;
                        let einsum = mapped.cascade.einsum(bound.einsum);
                        let may_miss = mapped.cascade.may_miss(einsum, *function, operands);
                        let may_miss = may_miss.into_iter().next().unwrap_or_default();
                        let a = self.push(mapped, bound, a)?;
                        let b = self.push(mapped, bound, b)?;
                        Node::Binary(*function, f, may_miss, a, b)
                    }
                    _ => return Err(refuse()),
                }
            }
        };
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Whether every point is worked on whose operands are there.
    pub fn unconditional(&self) -> bool {
        self.on_points.is_empty() && self.on_output.is_empty()
    }

    /// Whether conditions on the output alone hold.
    pub fn inside(&self, mapped: &MappedCascade, point: &[u64]) -> bool {
        self.on_output
            .iter()
            .all(|c| c.at(mapped, point) != Some(0))
    }

    /// The map's value at a point; none where the point is not visited or the value is empty.
    pub fn map(
        &self,
        mapped: &MappedCascade,
        point: &[u64],
        operands: &[Option<f64>],
        scratch: &mut Vec<Option<f64>>,
    ) -> Option<f64> {
        if !self
            .on_points
            .iter()
            .all(|c| c.at(mapped, point) != Some(0))
        {
            return None;
        }
        scratch.clear();
        for node in &self.nodes {
            let value = match node {
                Node::Constant(value) => Some(*value),
                Node::Read(read) => operands[*read],
                Node::Coordinate(whole) => whole
                    .at(mapped, point)
                    .map(|v| self.accumulator.round(v as f64)),
                Node::Unary(function, f, unit, a) => scratch[*a].map(|x| match unit {
                    FunctionUnit::Exact => self.accumulator.round(f(x)),
                    unit => unit.apply(*function, x, self.accumulator),
                }),
                Node::Binary(function, f, [left, right], a, b) => {
                    match (scratch[*a], scratch[*b]) {
                        (Some(_), Some(y)) if *function == Function::Div && y == 0.0 => None,
                        (Some(x), Some(y)) => Some(self.accumulator.round(f(x, y))),
                        (Some(x), None) if *right => Some(x),
                        (None, Some(y)) if *left => {
                            Some(if *function == Function::Sub { -y } else { y })
                        }
                        _ => None,
                    }
                }
            };
            scratch.push(value);
        }
        scratch.last().copied().flatten()
    }
}
