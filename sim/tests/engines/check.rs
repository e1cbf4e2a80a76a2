//! One comparison of all three: the array engine, the cycle engine, the reference interpreter.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use einflow_arch::{Accelerator, accelerators};
use einflow_engine::{
    array, cycle,
    events::{EventError, Movement, Observer, Task, Unseen},
};
use einflow_mappings::{bind, mapped::MappedCascade, mappings, spec::MappingSpec};
use einflow_workloads::{
    cascade::{Cascade, EinsumId, Function, Sizes, TensorKind},
    cascades,
    interpret::{Array, FunctionUnit, Kept, Options, interpret_with},
};

/// A small generator of numbers: the same everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

/// What inputs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Small whole numbers: sums of their products are exact, so that no order of adding shows.
    Whole,
    /// Numbers between -1 and 1.
    Real,
}

pub fn inputs(mapped: &MappedCascade, values: Values, seed: u64) -> BTreeMap<String, Array> {
    let cascade = &mapped.cascade;
    let mut numbers = Numbers(seed);
    let mut out = BTreeMap::new();
    for tensor in &cascade.tensors {
        if tensor.kind != TensorKind::Input {
            continue;
        }
        let ranks = cascade.batch.iter().chain(&tensor.ranks);
        let shape: Vec<usize> = ranks
            .map(|r| {
                mapped
                    .sizes
                    .get(&cascade.rank(*r).name)
                    .copied()
                    .unwrap_or(1) as usize
            })
            .collect();
        let data: Vec<f64> = (0..shape.iter().product())
            .map(|_| match values {
                Values::Whole => (numbers.next() % 5) as f64 - 2.0,
                Values::Real => (numbers.next() % 2001) as f64 / 1000.0 - 1.0,
            })
            .collect();
        out.insert(tensor.name.clone(), Array::new(shape, data));
    }
    out
}

fn unit_of(mapped: &MappedCascade, einsum: EinsumId, function: Function) -> FunctionUnit {
    let nests = mapped.blocks.iter().flat_map(|b| &b.nests);
    let Some(bound) = nests.flat_map(|n| &n.einsums).find(|e| e.einsum == einsum) else {
        return FunctionUnit::Exact;
    };
    let array = &mapped.accelerator.arrays[bound.unit];
    for (name, _) in &bound.operators {
        if name.rsplit('+').next() == Some(function.name())
            && let Some(p) = array.operator(name).and_then(|o| o.computes.as_ref())
        {
            return FunctionUnit::Polynomial {
                coefficients: p.coefficients.clone(),
                reduced: p.reduction.is_some(),
            };
        }
    }
    FunctionUnit::Exact
}

/// What the interpreter makes of the same inputs in the same format, with the same function units.
pub fn reference(
    mapped: &MappedCascade,
    inputs: &BTreeMap<String, Array>,
) -> BTreeMap<String, Array> {
    let options = Options {
        kept: Kept::Every,
        ..Options::new(mapped.accelerator.word)
    };
    let sizes = Sizes(mapped.sizes.clone());
    let all = mapped.cascade.sizes(&sizes.0).unwrap_or(sizes);
    interpret_with(&mapped.cascade, &all, inputs, &options, &|e, f| {
        unit_of(mapped, e, f)
    })
    .unwrap()
}

/// How close values must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Close {
    /// Bit for bit.
    Same,
    /// Within so many parts of the largest value: the order of adding differs.
    Within(f64),
}

pub fn values_differ(found: &Array, wanted: &Array, close: Close) -> Option<String> {
    if found.shape != wanted.shape {
        return Some(format!(
            "shape {:?}, expected {:?}",
            found.shape, wanted.shape
        ));
    }
    let largest = wanted
        .data
        .iter()
        .filter(|x| x.is_finite())
        .fold(0.0f64, |a, x| a.max(x.abs()));
    for (i, (a, b)) in found.data.iter().zip(&wanted.data).enumerate() {
        let empty = |array: &Array| array.empty.as_ref().is_some_and(|e| e[i]);
        if empty(found) != empty(wanted) {
            return Some(format!(
                "at {:?}: empty {}, expected {}",
                found.coordinates(i),
                empty(found),
                empty(wanted)
            ));
        }
        let same = match close {
            Close::Same => a == b || (a.is_nan() && b.is_nan()),
            Close::Within(part) => {
                a == b || (a - b).abs() <= part * largest || (a.is_nan() && b.is_nan())
            }
        };
        if !same {
            return Some(format!("at {:?}: {a}, expected {b}", found.coordinates(i)));
        }
    }
    None
}

/// Whether both engines refuse to run for the same reason. A mapping that waits for itself is illegal, and no agreement.
fn alike(a: &array::ArrayError, c: &EventError) -> bool {
    use {EventError as E, array::ArrayError::Events as A};
    matches!(
        (a, c),
        (A(E::Count(_)), E::Count(_)) | (A(E::Overflow), E::Overflow)
    )
}

/// Every start, in the order of its own Einsum or tensor.
#[derive(Default)]
pub struct Timeline(BTreeMap<String, Vec<(u64, u64, String)>>);

impl Observer for Timeline {
    fn task(&mut self, task: &Task<'_>) {
        let name = format!("{} {}", task.block, task.einsum);
        self.0.entry(name).or_default().push((
            task.start,
            task.duration,
            format!("{:?}", task.tile),
        ));
    }

    fn movement(&mut self, moved: &Movement<'_>) {
        let name = format!(
            "tensor {} {} {}",
            moved.tensor,
            moved.outer,
            if moved.inward { "inward" } else { "outward" }
        );
        self.0.entry(name).or_default().push((
            moved.start,
            moved.duration,
            format!("{:?} {}", moved.tile, moved.bytes),
        ));
    }

    fn sees_all(&self) -> bool {
        true
    }
}

impl Timeline {
    /// The first start that differs, of all.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let mut first: Option<(u64, String)> = None;
        for (name, list) in &self.0 {
            let none = Vec::new();
            let theirs = other.0.get(name).unwrap_or(&none);
            let at = list.iter().zip(theirs).position(|(a, b)| a != b);
            let at = at.or((list.len() != theirs.len()).then_some(list.len().min(theirs.len())));
            if let Some(at) = at {
                let (a, b) = (list.get(at), theirs.get(at));
                let time = a.into_iter().chain(b).map(|x| x.0).min().unwrap_or(0);
                if first.as_ref().is_none_or(|(t, _)| time < *t) {
                    first = Some((
                        time,
                        format!("{name} number {at}: array {a:?}, cycle {b:?}"),
                    ));
                }
            }
        }
        first.map(|(_, text)| text)
    }
}

/// Everything in which the engines differ; `jumps` says whether the cycle engine also runs with its jumps.
pub fn differences(
    mapped: &MappedCascade,
    inputs: &BTreeMap<String, Array>,
    close: Close,
    jumps: bool,
) -> Vec<String> {
    let mut out = Vec::new();
    let mut seen = Timeline::default();
    let programs = array::programs(mapped).unwrap();
    let run = array::run_programs(mapped, &programs, inputs, &mut seen);
    let mut theirs = Timeline::default();
    if run.is_ok() && cycle::run(mapped, false, &mut theirs).is_ok() {
        out.extend(seen.differs(&theirs));
    }
    for jump in [false, true].into_iter().take(1 + usize::from(jumps)) {
        let runs = cycle::run(mapped, jump, &mut Unseen);
        let (run, runs) = match (&run, runs) {
            (Ok(run), Ok(runs)) => (run, runs),
            // What cannot run, cannot run on either.
            (Err(a), Err(c)) if alike(a, &c) => continue,
            (Err(a), Ok(_)) => return vec![format!("array: {a}")],
            (Ok(_), Err(c)) => return vec![format!("cycle: {c}")],
            (Err(a), Err(c)) => return vec![format!("array: {a}; cycle: {c}")],
        };
        for (a, c) in run.blocks.iter().zip(&runs) {
            let name = &a.name;
            if a.cycles != c.cycles {
                out.push(format!(
                    "{name}: array {} cycles, cycle {} (jump {jump})",
                    a.cycles, c.cycles
                ));
            }
            if a.busy != c.totals.busy {
                out.push(format!(
                    "{name}: array busy {:?}, cycle {:?} (jump {jump})",
                    a.busy, c.totals.busy
                ));
            }
            if a.words != c.totals.words {
                out.push(format!(
                    "{name}: array words {:?}, cycle {:?} (jump {jump})",
                    a.words, c.totals.words
                ));
            }
        }
    }
    let Ok(run) = run else { return out };
    for (name, wanted) in reference(mapped, inputs) {
        // Of tiles that are left out, nothing is made on the way.
        let every = mapped.blocks.iter().all(|b| !b.space.skip_empty);
        let made = run.intermediates.get(&name).filter(|_| every);
        let found = run.outputs.get(&name).or(made);
        if let Some(found) = found.and_then(|f| values_differ(f, &wanted, close)) {
            out.push(format!("{name} {found}"));
        }
    }
    out
}

/// A shipped mapping on its accelerator with changed numbers.
pub fn shipped(
    name: &str,
    beside: Option<&Path>,
    overrides: &[(&str, f64)],
    sizes: &[(&str, u64)],
) -> MappedCascade {
    let (source, _) = mappings().find(name, None).unwrap();
    let spec = Arc::new(MappingSpec::parse(&source, beside).unwrap());
    let cascade = cascades().find(&spec.workload.text, None).unwrap().0;
    let cascade = Arc::new(Cascade::parse(&cascade).unwrap());
    let found = accelerators()
        .find(&spec.accelerator.as_ref().unwrap().text, None)
        .unwrap()
        .0;
    let mut accelerator = Accelerator::parse(&found).unwrap();
    for (path, value) in overrides {
        accelerator = accelerator.with_override(path, *value).unwrap();
    }
    let sizes = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    bind(&cascade, &Arc::new(accelerator), &spec, &sizes)
        .unwrap_or_else(|e| panic!("{name} {sizes:?}: {e:#?}"))
}
