//! Which operators of an array an Einsum needs at each point.

use einflow_arch::Array;
use einflow_spec::{Problems, did_you_mean};
use einflow_workloads::cascade::{Einsum, Function, Map, Reduce};

use super::context::Context;
use crate::spec::{BindingSpec, Name};

/// Operators with their counts, and the cycles that they take, for one point.
pub(crate) type Operators = (Vec<(String, u64)>, u64);

/// The operators of one point: those of the map step and one for the reduce step. A product that is
/// summed is a `mac`; a chain that the binding names (`sub`, `exp`) is one operator (`sub+exp`).
pub(crate) fn operators_of(
    context: &Context<'_>,
    name: &Name,
    einsum: &Einsum,
    binding: &BindingSpec,
    array: &Array,
) -> Result<Operators, Problems> {
    let mut problems = Problems::new();
    let mut found: Vec<(String, u64)> = Vec::new();
    let mut add = |name: &str| match found.iter_mut().find(|(n, _)| n == name) {
        Some((_, count)) => *count += 1,
        None => found.push((name.to_string(), 1)),
    };
    let chain: Vec<&str> = binding.chain.iter().map(|n| n.text.as_str()).collect();
    let mut chained = false;
    let summed_product = matches!(
        (&einsum.reduce, &einsum.map),
        (Reduce::Sum, Map::Apply(Function::Mul, _))
    );
    walk(&einsum.map, &mut |map, outermost| {
        let Map::Apply(function, _) = map else {
            return 0;
        };
        // What reads no tensor (1 / sqrt(E)) is a constant, known before the first point.
        if !map.reads() {
            return 0;
        }
        let length = chain.len();
        if length > 1 && !chained && chain_at(map, &chain) {
            chained = true;
            add(&chain.join("+"));
            return length;
        }
        if outermost && summed_product {
            add("mac");
        } else {
            add(function.name());
        }
        1
    });
    match einsum.reduce {
        Reduce::Sum if !summed_product => add("add"),
        Reduce::Max | Reduce::Top { .. } => add("max"),
        Reduce::Min => add("min"),
        Reduce::Sum | Reduce::None => {}
    }
    if length_without_match(&chain, chained) {
        let at = binding.chain.first().unwrap_or(name);
        problems.push(
            context
                .at(at, format!("{} applies no {} one after the other", name.text, chain.join(" and ")))
                .help("a chain lists operators from the innermost outward, such as [\"sub\", \"exp\"]"),
        );
    }
    let mut cycles = 0u64;
    for (operator, count) in &found {
        match array.operator(operator) {
            Some(o) => match o
                .cycles
                .checked_mul(*count)
                .and_then(|c| c.checked_add(cycles))
            {
                Some(sum) => cycles = sum,
                None => {
                    problems.push(context.at(name, format!("the cycles of {} overflow", name.text)))
                }
            },
            None => problems.push(
                context
                    .at(
                        &binding.unit,
                        format!(
                            "{} needs the operator `{operator}`, which {} lacks",
                            name.text, array.name
                        ),
                    )
                    .help(did_you_mean(
                        operator,
                        array.operators.keys().map(String::as_str),
                    )),
            ),
        }
    }
    problems.into_result(Some((found, cycles)))
}

fn length_without_match(chain: &[&str], chained: bool) -> bool {
    !chain.is_empty() && !chained
}

/// Visits operations outermost first; `visit` says how many nested ones it took.
fn walk<'a>(map: &'a Map, visit: &mut dyn FnMut(&'a Map, bool) -> usize) {
    fn inner<'a>(
        map: &'a Map,
        outermost: bool,
        skip: usize,
        visit: &mut dyn FnMut(&'a Map, bool) -> usize,
    ) {
        let taken = if skip > 0 {
            skip
        } else {
            visit(map, outermost)
        };
        if let Map::Apply(_, operands) = map {
            for (i, operand) in operands.iter().enumerate() {
                // A chain runs through the first operand.
                inner(
                    operand,
                    false,
                    if i == 0 { taken.saturating_sub(1) } else { 0 },
                    visit,
                );
            }
        }
    }
    inner(map, true, 0, visit);
}

/// Whether the operations from `map` inward, through first operands, are the chain read backwards.
fn chain_at(map: &Map, chain: &[&str]) -> bool {
    let mut at = map;
    for (i, name) in chain.iter().rev().enumerate() {
        let Map::Apply(function, operands) = at else {
            return false;
        };
        if function.name() != *name {
            return false;
        }
        match operands.first() {
            Some(next) => at = next,
            None => return i + 1 == chain.len(),
        }
    }
    true
}
