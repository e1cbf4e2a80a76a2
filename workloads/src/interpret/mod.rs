//! The reference interpreter: the value of every tensor of a cascade, for given inputs.
//!
//! It is the definition of what a cascade means, and what the engines' values are compared with.
//!
//! # Arithmetic
//! Inputs are rounded to the number format. Each operator of a map expression is computed and
//! rounded in the accumulator's format, a product and the sum that takes it as two operators (no
//! fused multiply-add). Reductions accumulate in ascending coordinate order (the reduced ranks in
//! their order in the Einsum, the last one fastest) in the accumulator's format, and the value that
//! populates the output is rounded to the number format. Coordinates that a top-k populates are
//! whole numbers and not rounded. Elementary functions are those of the `libm` crate, so results do
//! not depend on the platform; with [`interpret_with`], what a [`FunctionUnit`] makes of them. A recurrence (Einsums that step
//! through an iterative rank together, `RD` and the product that corrects it) may keep its tensors in a wider
//! format, [`Options::running`], in which it then computes too.
//!
//! # Emptiness
//! A point of the iteration space is visited where every condition holds and the map has a value. A product or
//! quotient with an empty operand is empty, and so is a division by zero. A sum, difference, maximum or minimum is
//! the union of its operands: it skips an empty one, where another has a word. An operand that lacks one of the
//! Einsum's ranks makes no points of its own beside one that has all. An element-wise Einsum leaves its other points empty; a reduction
//! over no points gives its identity (0, -inf, +inf), except where a condition on the coordinates
//! of the output alone fails (a written one, or that an index tensor has a value): there it is empty. A step of an iterative rank that is empty keeps the
//! previous coordinate's value. A read outside a tensor is empty. `-inf - -inf` is
//! -inf here, so that its exponential is 0 and a fully masked row of softmax comes out as 0.

mod array;
mod condition;
mod error;
mod index;
mod joined;
mod lanes;
mod layout;
mod ops;
mod plan;
mod presence;
mod read;
mod reduce;
mod run;
mod schedule;
mod units;

use std::collections::BTreeMap;

use einflow_spec::NumberFormat;

pub use array::Array;
pub use error::Error;
pub use ops::{binary, unary};
pub use units::FunctionUnit;

use crate::cascade::{Cascade, EinsumId, Function, Sizes, TensorId, TensorKind};
pub(crate) use index::replaced;
use layout::Layouts;
use plan::Plan;
use presence::Presence;
use run::Machine;
use schedule::{Component, Held, Member};

/// A tensor of more elements than this (2 GiB of `f64`) is refused.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Which tensors are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept<'a> {
    /// The cascade's outputs.
    Outputs,
    /// All.
    Every,
    /// These: what they do not follow from is not computed.
    Only(&'a [TensorId]),
}

impl Kept<'_> {
    fn holds(self, cascade: &Cascade, tensor: TensorId) -> bool {
        match self {
            Kept::Outputs => cascade.outputs.contains(&tensor),
            Kept::Every => true,
            Kept::Only(these) => these.contains(&tensor),
        }
    }
}

/// How to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// The format of every tensor.
    pub format: NumberFormat,
    /// The format of operators and of the sums, maxima and minima of reductions.
    pub accumulator: NumberFormat,
    /// The format of the tensors that a recurrence makes, instead of `format`; its Einsums compute in it where it
    /// has more precision than `accumulator`.
    pub running: NumberFormat,
    /// Whether NaN is accepted in an input.
    pub allow_nan: bool,
    /// Which tensors are returned.
    pub kept: Kept<'a>,
    /// Bytes that the tensors held at once may take.
    pub memory: u64,
}

impl Options<'_> {
    /// Computing in `format` with its default accumulator; NaN refused, outputs only, memory without a limit.
    pub fn new(format: NumberFormat) -> Self {
        let accumulator = format.default_accumulator();
        Self {
            format,
            accumulator,
            running: format,
            allow_nan: false,
            kept: Kept::Outputs,
            memory: u64::MAX,
        }
    }
}

/// Computes the outputs of `cascade` (or the tensors that [`Options::kept`] asks for), by name.
///
/// An input's axes are its ranks in declared order, behind any number of the cascade's batch ranks
/// (the innermost ones), the same for all inputs that carry any; an input that carries none is
/// shared by the whole batch. Outputs carry the batch ranks in front. An iterative rank's axis is
/// one longer than the rank and begins with the initial value.
///
/// `sizes` must hold every rank and parameter of the cascade; batch ranks may be left out.
///
/// # Errors
/// A missing, unknown or wrongly shaped input, NaN in an input, a size that is missing or zero, a
/// tensor larger than [`MAX_ELEMENTS`], tensors that take more than [`Options::memory`] together, an index expression that divides by zero or overflows.
pub fn interpret(
    cascade: &Cascade,
    sizes: &Sizes,
    inputs: &BTreeMap<String, Array>,
    options: &Options<'_>,
) -> Result<BTreeMap<String, Array>, Error> {
    interpret_with(cascade, sizes, inputs, options, &|_, _| FunctionUnit::Exact)
}

/// Bytes that a run without a batch holds at most at once, its inputs with them, if they are in the number format.
///
/// # Errors
/// As [`interpret`], as far as sizes have a say.
pub fn memory(cascade: &Cascade, sizes: &Sizes, kept: Kept<'_>) -> Result<u128, Error> {
    let mut layouts = Layouts::of(cascade, sizes, &[], &|_| false)?;
    let order = Order::new(cascade, &mut layouts, kept)?;
    let held = Held::most(cascade, &layouts, &order, &|_| false, kept);
    Ok(held.bytes)
}

/// What is computed when.
struct Order {
    components: Vec<Component>,
    /// Of each Einsum.
    presences: Vec<Vec<Presence>>,
    /// Of each tensor the last component that bears on it.
    last_use: Vec<Option<usize>>,
}

impl Order {
    fn new(cascade: &Cascade, layouts: &mut Layouts, kept: Kept<'_>) -> Result<Self, Error> {
        let mut components = schedule::components(cascade)?;
        let presences = presence::presences(cascade);
        if let Kept::Only(these) = kept {
            schedule::keep_only(cascade, &mut components, &presences, these);
        }
        let components = joined::join(cascade, layouts, &presences, components);
        joined::narrow(cascade, layouts, &presences, &components, kept);
        let last_use = schedule::last_uses(cascade, &components, &presences);
        Ok(Self {
            components,
            presences,
            last_use,
        })
    }
}

/// As [`interpret`], with what computes each element function of one operand in each Einsum. What reads no
/// tensor (`sqrt(E)`) is a constant, known before, and exact.
///
/// # Errors
/// As [`interpret`].
pub fn interpret_with(
    cascade: &Cascade,
    sizes: &Sizes,
    inputs: &BTreeMap<String, Array>,
    options: &Options<'_>,
    units: &dyn Fn(EinsumId, Function) -> FunctionUnit,
) -> Result<BTreeMap<String, Array>, Error> {
    let mut layouts = Layouts::new(cascade, sizes, inputs)?;
    if !options.allow_nan {
        inputs
            .iter()
            .try_for_each(|(name, array)| layout::check_numbers(name, array))?;
    }
    let order = Order::new(cascade, &mut layouts, options.kept)?;
    let Order {
        components,
        presences,
        last_use,
    } = &order;
    let mut machine = Machine::new(cascade.tensors.len(), options);
    for (t, tensor) in cascade.tensors.iter().enumerate() {
        let needed = last_use[t].is_some() || options.kept.holds(cascade, TensorId(t));
        if tensor.kind == TensorKind::Input
            && needed
            && let Some(array) = inputs.get(&tensor.name)
        {
            machine.give(t, tensor.coordinates_of.is_some(), array);
        }
    }
    let rounds = |t: usize| machine.rounds(t);
    Held::most(cascade, &layouts, &order, &rounds, options.kept).check(cascade, options.memory)?;
    machine.load_inputs();
    let mut plans = Vec::with_capacity(components.len());
    for component in components {
        let plan = |member: &Member| {
            let presences = &presences[member.id.0];
            Plan::new(
                cascade,
                sizes,
                &layouts,
                *member,
                component.steps,
                presences,
                units,
            )
        };
        plans.push(
            component
                .einsums
                .iter()
                .map(plan)
                .collect::<Result<Vec<_>, _>>()?,
        );
    }

    for (i, (component, plans)) in components.iter().zip(&plans).enumerate() {
        for (einsum, plan) in component.einsums.iter().zip(plans) {
            machine.prepare(plan, cascade.einsum(einsum.id).initial);
        }
        for step in 0..component.steps.map_or(1, |rank| layouts.extent(rank)) {
            for plan in plans {
                machine.execute(plan, component.steps.map(|_| step))?;
            }
        }
        for (t, last) in last_use.iter().enumerate() {
            if *last == Some(i) && !options.kept.holds(cascade, TensorId(t)) {
                machine.release(t);
            }
        }
    }

    let mut results = BTreeMap::new();
    for (t, tensor) in cascade.tensors.iter().enumerate() {
        if options.kept.holds(cascade, TensorId(t))
            && let Some(array) = machine.take(t, layouts.tensors[t].shape.clone())
        {
            results.insert(tensor.name.clone(), array);
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests;
