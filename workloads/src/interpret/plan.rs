//! An Einsum compiled for given sizes: loops, linear forms and a list of operations.

use einflow_spec::Problem;
use einflow_spec::expr::Expr;

use super::condition::Test;
use super::index::{Affine, Form, Scope, Tree};
use super::layout::{Layout, Layouts};
use super::ops;
use super::presence::Presence;
use super::schedule::Member;
use super::{Error, FunctionUnit};
use crate::cascade::{
    Cascade, Einsum, EinsumId, Function, Index, Map, RankId, Reduce, Sizes, TensorId,
};

/// How to reach an element of a tensor from the loops' variables.
pub(super) struct Access {
    /// Index in [`Cascade::tensors`].
    pub tensor: usize,
    /// The place in the data, over all axes whose index is linear.
    pub place: Affine,
    /// Linear indices that may lie outside `0..length`.
    pub checks: Vec<(Affine, i64)>,
    /// Indices that are not linear.
    pub others: Vec<OtherIndex>,
    /// Whether the map's value is empty wherever it is.
    pub required: bool,
}

/// An index that is not linear in the loops' variables.
pub(super) struct OtherIndex {
    /// How it is computed.
    pub source: IndexSource,
    /// Length of the axis.
    pub length: i64,
    /// How far apart neighbours lie.
    pub stride: i64,
    /// Whether it changes along the innermost loop.
    pub inner: bool,
}

/// Where an index comes from.
pub(super) enum IndexSource {
    /// An expression with `/`, `%`, `min` and the like.
    Form(Form),
    /// An element of an index tensor.
    Gather(Access),
}

/// A [`Presence`], compiled.
pub(super) struct Found {
    /// Elements of index tensors, and the length of the axis that each is an index of.
    pub gathers: Vec<(Access, Option<i64>)>,
    /// What must hold of the loops' variables, followed by the elements.
    pub tests: Vec<Test>,
}

/// An operation of the map step; operands are earlier nodes.
pub(super) enum Node {
    /// A number.
    Constant(f64),
    /// Index into [`Plan::reads`].
    Read(usize),
    /// A coordinate or size.
    Coordinate(Form),
    /// A function of one operand, and what computes it.
    Unary(fn(f64) -> f64, FunctionUnit, usize),
    /// A function of two operands, and of each whether it may be missing.
    Binary(Function, fn(f64, f64) -> f64, [bool; 2], usize, usize),
}

/// The reduce step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// One point for each output point.
    None,
    /// Sum.
    Sum,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Coordinates of the largest along the innermost loop.
    Top {
        /// How many.
        count: usize,
        /// How far apart they lie in the output.
        stride: i64,
    },
}

/// A compiled Einsum.
pub(super) struct Plan<'a> {
    /// The cascade it belongs to.
    pub cascade: &'a Cascade,
    /// The Einsum.
    pub id: EinsumId,
    /// Index of the output in [`Cascade::tensors`].
    pub output: usize,
    /// The output's shape.
    pub layout: &'a Layout,
    /// Iterations of each loop: a recurrence's own (if it is part of one), the batch, the output's
    /// other ranks, the reduced ranks; for a reduction perhaps with one of the output's ranks moved
    /// innermost. There is at least one.
    pub extents: Vec<usize>,
    /// The loops over reduced ranks.
    pub reduced: std::ops::Range<usize>,
    /// Place in the output.
    pub place: Affine,
    /// How far before an element of an iterative output its previous coordinate lies.
    pub previous: Option<i64>,
    /// Conditions on the output's coordinates alone, for a reduction.
    pub output_tests: Vec<Test>,
    /// What index tensors must hold for the output to be non-empty, for a reduction.
    pub presences: Vec<Found>,
    /// All other conditions.
    pub tests: Vec<Test>,
    /// Operand reads that the map step uses.
    pub reads: Vec<Access>,
    /// The map step; the last node is its value.
    pub nodes: Vec<Node>,
    /// The reduce step.
    pub reduction: Reduction,
    /// Whether the output holds coordinates, which are not rounded.
    pub coordinates: bool,
    /// Whether it is part of a recurrence.
    pub recurrent: bool,
}

impl<'a> Plan<'a> {
    /// Compiles one Einsum. `step` is the rank that its component steps through, if any; `units` compute its
    /// functions of one operand.
    pub fn new(
        cascade: &'a Cascade,
        sizes: &'a Sizes,
        layouts: &'a Layouts,
        Member { id, recurrent }: Member,
        step: Option<RankId>,
        presences: &[Presence],
        units: &dyn Fn(EinsumId, Function) -> FunctionUnit,
    ) -> Result<Self, Error> {
        let einsum = cascade.einsum(id);
        let output = cascade.tensor(einsum.output);
        let layout = &layouts.tensors[einsum.output.0];
        let name = || cascade.name_of(id).to_string();
        let unsupported = |why: String| Error::Unsupported {
            einsum: name(),
            why,
        };

        let reduction = match &einsum.reduce {
            Reduce::Top { over, into } if einsum.reduced == [*over] => {
                let axis = output.ranks.iter().position(|r| r == into);
                let stride = axis.map_or(0, |axis| layout.strides[axis]);
                Reduction::Top {
                    count: layouts.extent(*into),
                    stride,
                }
            }
            Reduce::Top { .. } => {
                return Err(unsupported("a top-k reduces one rank and no other".into()));
            }
            _ if einsum.reduced.is_empty() => Reduction::None,
            Reduce::None => {
                return Err(unsupported("it has reduced ranks and no reduction".into()));
            }
            Reduce::Sum => Reduction::Sum,
            Reduce::Max => Reduction::Max,
            Reduce::Min => Reduction::Min,
        };
        let into = match &einsum.reduce {
            Reduce::Top { into, .. } => Some(*into),
            _ => None,
        };

        let is_kept =
            |r: &RankId| !einsum.reduced.contains(r) && Some(*r) != into && Some(*r) != step;
        let mut loops: Vec<RankId> = cascade.batch.clone();
        loops.extend(einsum.ranks.iter().filter(|r| is_kept(r)));
        let along = along(&loops, einsum, layouts, reduction);
        loops.retain(|r| Some(*r) != along);
        loops.splice(0..0, step);
        let reduced = loops.len()..loops.len() + einsum.reduced.len();
        loops.extend(&einsum.reduced);
        loops.extend(along);
        let mut scope = Scope {
            source: &cascade.source,
            sizes,
            variables: loops
                .iter()
                .map(|r| cascade.rank(*r).variable.as_str())
                .collect(),
            extents: loops.iter().map(|r| layouts.extent(*r)).collect(),
        };
        if reduced.end == 0 {
            // A scalar is computed in a nameless loop of one iteration.
            scope.variables.push("");
            scope.extents.push(1);
        }
        let compiler = Compiler {
            cascade,
            layouts,
            einsum,
            loops: &loops,
            scope: &scope,
            unit: &|function| units(id, function),
        };
        let failed = |problem: Problem| Error::Expression {
            einsum: name(),
            problem,
        };

        let mut place = compiler.batch_place(layout);
        for (axis, rank) in output.ranks.iter().enumerate() {
            let stride = layout.strides[axis];
            if output.iterative == Some(axis) {
                place.constant += stride;
            }
            if let Some(i) = loops.iter().position(|r| r == rank) {
                place.coefficients[i] += stride;
            } else if Some(*rank) != into {
                let rank = &cascade.rank(*rank).name;
                return Err(unsupported(format!(
                    "its output's rank {rank} is not among its ranks"
                )));
            }
        }

        let (mut tests, mut output_tests) = (Vec::new(), Vec::new());
        for condition in &einsum.support {
            let mut parts = Vec::new();
            Test::compile(&condition.0, &scope, &mut parts).map_err(failed)?;
            // By name, as the checker has it for the tensor's support: also a variable times 0 counts.
            let mut on_output = true;
            condition.0.walk(&mut |part| {
                if let Expr::Name { name, .. } = part {
                    on_output &= !scope.variables[reduced.clone()].contains(&name.as_str());
                }
            });
            if on_output && reduction != Reduction::None {
                output_tests.extend(parts);
                continue;
            }
            // What operands' emptiness implies shows in their elements; linear conditions narrow the
            // loop, others would only cost time.
            if !einsum.conditions.contains(condition) {
                parts.retain(|test| !matches!(test, Test::Tree(_)));
            }
            tests.extend(parts);
        }

        let mut plan = Self {
            cascade,
            id,
            output: einsum.output.0,
            layout,
            extents: scope.extents.clone(),
            reduced,
            place,
            previous: output.iterative.map(|axis| layout.strides[axis]),
            output_tests,
            presences: Vec::new(),
            tests,
            reads: Vec::new(),
            nodes: Vec::new(),
            reduction,
            coordinates: output.coordinates_of.is_some(),
            recurrent,
        };
        if reduction != Reduction::None {
            let compiled = presences.iter().map(|p| compiler.found(p));
            plan.presences = compiled.collect::<Result<_, _>>()?;
        }
        let mut numbers = vec![None; einsum.reads.len()];
        compiler.node(&einsum.map, &mut plan, &mut numbers)?;
        Ok(plan)
    }
}

/// The output's rank to compute along, side by side in the innermost loop, where that makes longer runs than
/// computing one output point after the other along the last reduced rank.
fn along(
    kept: &[RankId],
    einsum: &Einsum,
    layouts: &Layouts,
    reduction: Reduction,
) -> Option<RankId> {
    if !matches!(reduction, Reduction::Sum | Reduction::Max | Reduction::Min) {
        return None;
    }
    let longest = kept.iter().copied().max_by_key(|r| layouts.extent(*r))?;
    let other = einsum.reduced.last().map_or(1, |r| layouts.extent(*r));
    // A sum along one rank waits for each of its additions; side by side they do not.
    let extent = layouts.extent(longest);
    (extent >= 4 && extent.saturating_mul(4) >= other).then_some(longest)
}

/// What the parts of an Einsum are compiled with.
struct Compiler<'a> {
    cascade: &'a Cascade,
    layouts: &'a Layouts,
    einsum: &'a Einsum,
    loops: &'a [RankId],
    scope: &'a Scope<'a>,
    unit: &'a dyn Fn(Function) -> FunctionUnit,
}

impl Compiler<'_> {
    fn failed(&self, problem: Problem) -> Error {
        Error::Expression {
            einsum: self.cascade.tensor(self.einsum.output).name.clone(),
            problem,
        }
    }

    /// The place of a tensor's first element in each batch.
    fn batch_place(&self, layout: &Layout) -> Affine {
        let mut place = Affine {
            constant: 0,
            coefficients: vec![0; self.scope.variables.len()],
        };
        for (rank, stride) in self.cascade.batch.iter().zip(&layout.batch_strides) {
            if let Some(i) = self.loops.iter().position(|r| r == rank) {
                place.coefficients[i] += stride;
            }
        }
        place
    }

    fn found(&self, presence: &Presence) -> Result<Found, Error> {
        let mut gathers = Vec::new();
        let mut scope = Scope {
            source: self.scope.source,
            sizes: self.scope.sizes,
            variables: self.scope.variables.clone(),
            extents: self.scope.extents.clone(),
        };
        for gather in &presence.gathers {
            let access = self.access(gather.tensor, &gather.indices)?;
            let length = gather
                .axis
                .map(|(tensor, axis)| self.layouts.tensors[tensor.0].lengths[axis]);
            gathers.push((access, length));
            scope.variables.push(&gather.name);
            scope
                .extents
                .push(length.and_then(|l| l.try_into().ok()).unwrap_or(1));
        }
        let mut tests = Vec::new();
        if let Some(condition) = &presence.condition {
            Test::compile(condition, &scope, &mut tests).map_err(|p| self.failed(p))?;
        }
        Ok(Found { gathers, tests })
    }

    fn access(&self, tensor: TensorId, indices: &[Index]) -> Result<Access, Error> {
        let layout = &self.layouts.tensors[tensor.0];
        let innermost = self.scope.variables.len().saturating_sub(1);
        let mut access = Access {
            tensor: tensor.0,
            place: self.batch_place(layout),
            checks: Vec::new(),
            others: Vec::new(),
            required: false,
        };
        for ((index, &length), &stride) in indices.iter().zip(&layout.lengths).zip(&layout.strides)
        {
            let tree = match index {
                Index::Expr(expr) => Tree::compile(expr, self.scope).map_err(|p| self.failed(p))?,
                Index::Gather(tensor, indices) => {
                    let inner = self.uses(index, self.loops.last().copied());
                    let source = IndexSource::Gather(self.access(*tensor, indices)?);
                    access.others.push(OtherIndex {
                        source,
                        length,
                        stride,
                        inner,
                    });
                    continue;
                }
            };
            let affine = match tree {
                Tree::Affine(affine) => affine,
                tree => {
                    let form = Form::new(tree, &self.scope.extents);
                    let inner = form.uses(innermost);
                    access.others.push(OtherIndex {
                        source: IndexSource::Form(form),
                        length,
                        stride,
                        inner,
                    });
                    continue;
                }
            };
            let bounds = affine.bounds(&self.scope.extents);
            if bounds.is_none_or(|(low, high)| low < 0 || high >= length) {
                access.checks.push((affine.clone(), length));
            }
            access.place = access.place.combine(1, &affine, stride).ok_or_else(|| {
                let span = match index {
                    Index::Expr(expr) => expr.span(),
                    Index::Gather(..) => self.einsum.span,
                };
                self.failed(Problem::at(
                    &self.cascade.source,
                    span,
                    "the index overflows 64 bits",
                ))
            })?;
        }
        if access.place.bounds(&self.scope.extents).is_none() {
            let problem = Problem::at(
                &self.cascade.source,
                self.einsum.span,
                "an index overflows 64 bits",
            );
            return Err(self.failed(problem));
        }
        Ok(access)
    }

    /// Whether an index depends on a rank.
    fn uses(&self, index: &Index, rank: Option<RankId>) -> bool {
        let Some(rank) = rank else { return false };
        let variable = &self.cascade.rank(rank).variable;
        match index {
            Index::Expr(expr) => {
                let mut found = false;
                expr.walk(&mut |e| {
                    found |= matches!(e, Expr::Name { name, .. } if name == variable)
                });
                found
            }
            Index::Gather(_, indices) => {
                indices.iter().any(|i| self.uses(i, Some(rank)))
                    || self.cascade.batch.contains(&rank)
            }
        }
    }

    fn node(
        &self,
        map: &Map,
        plan: &mut Plan<'_>,
        numbers: &mut [Option<usize>],
    ) -> Result<usize, Error> {
        let node = match map {
            Map::Constant(value) => Node::Constant(*value),
            Map::Coordinate(expr) => {
                let tree = Tree::compile(expr, self.scope).map_err(|p| self.failed(p))?;
                Node::Coordinate(Form::new(tree, &self.scope.extents))
            }
            Map::Read(i) => match numbers[*i] {
                Some(node) => return Ok(node),
                None => {
                    let read = &self.einsum.reads[*i];
                    let mut access = self.access(read.tensor, &read.indices)?;
                    access.required = self.cascade.needs(self.einsum, &self.einsum.map, *i);
                    plan.reads.push(access);
                    numbers[*i] = Some(plan.nodes.len());
                    Node::Read(plan.reads.len() - 1)
                }
            },
            Map::Apply(function, operands) => {
                let nodes: Vec<usize> = operands
                    .iter()
                    .map(|o| self.node(o, plan, numbers))
                    .collect::<Result<_, _>>()?;
                match (
                    ops::unary(*function),
                    ops::binary(*function),
                    nodes.as_slice(),
                ) {
                    (Some(f), _, [a]) => {
                        let unit = if map.reads() {
                            (self.unit)(*function)
                        } else {
                            FunctionUnit::Exact
                        };
                        Node::Unary(f, unit, *a)
                    }
                    (_, Some(f), [a, rest @ .., last]) => {
                        let may_miss = self.cascade.may_miss(self.einsum, *function, operands);
                        let mut pairs = may_miss.into_iter();
                        let mut pair = || pairs.next().unwrap_or_default();
                        let mut left = *a;
                        for b in rest {
                            plan.nodes
                                .push(Node::Binary(*function, f, pair(), left, *b));
                            left = plan.nodes.len() - 1;
                        }
                        Node::Binary(*function, f, pair(), left, *last)
                    }
                    _ => {
                        return Err(Error::Unsupported {
                            einsum: self.cascade.tensor(self.einsum.output).name.clone(),
                            why: format!("`{}` of {} operands", function.name(), operands.len()),
                        });
                    }
                }
            }
        };
        plan.nodes.push(node);
        Ok(plan.nodes.len() - 1)
    }
}
