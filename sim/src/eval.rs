//! Running a cascade on a user's own tensors, from one `.npz` file to another.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use einflow_spec::NumberFormat;
use einflow_spec::{Problem, Problems, did_you_mean};
use einflow_workloads::cascade::{Cascade, Sizes, Tensor, TensorKind};
use einflow_workloads::interpret::{self, Array, Options, interpret};

use crate::npz::{self, Element, Stored, StoredAs};

/// What to compute.
#[derive(Clone, Debug)]
pub struct EvalRequest<'a> {
    /// The cascade.
    pub cascade: &'a Cascade,
    /// An `.npz` file with an array for each input, axes in declared order, any of the batch ranks
    /// in front; and perhaps references, named like outputs.
    pub input: PathBuf,
    /// Where to write the outputs, as an `.npz` file; `None` writes nothing.
    pub output: Option<PathBuf>,
    /// The format of every tensor.
    pub number_format: NumberFormat,
    /// The format of operators and reductions; `None` for the number format's default.
    pub accumulator: Option<NumberFormat>,
    /// Sizes that shapes do not fix, by rank or parameter.
    pub sizes: BTreeMap<String, u64>,
    /// Whether NaN is accepted in the arrays.
    pub allow_nan: bool,
    /// What the file's raw elements are.
    pub stored_as: StoredAs,
}

/// What was computed.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalReport {
    /// The format of every tensor.
    pub number_format: NumberFormat,
    /// The format of operators and reductions.
    pub accumulator: NumberFormat,
    /// The size of every rank and parameter; 1 for batch ranks that no array carries.
    pub sizes: Sizes,
    /// Inputs in declared order.
    pub inputs: Vec<EvalArray>,
    /// Outputs in declared order.
    pub outputs: Vec<EvalOutput>,
}

/// An array of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalArray {
    /// Its name.
    pub name: String,
    /// The rank of each axis.
    pub axes: Vec<String>,
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// The type of its elements in the file.
    pub element: Element,
}

/// An output of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalOutput {
    /// The array.
    pub array: EvalArray,
    /// How many points are empty; they are written as 0.
    pub empty: usize,
    /// The difference from the array of the same name in the input file, if there is one.
    pub error: Option<EvalError>,
}

/// How far an output is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvalError {
    /// The largest `|output - reference|`; infinite where only one of them is NaN, or infinite, or
    /// they are infinities of different signs, or where no double holds it.
    pub absolute: f64,
    /// The same, over the largest `|reference|`; 0 where both are equal everywhere, infinite where only the reference is 0
    /// everywhere.
    pub relative: f64,
}

impl EvalError {
    /// Whether both are numbers.
    pub fn is_finite(&self) -> bool {
        self.absolute.is_finite() && self.relative.is_finite()
    }
}

/// Computes the outputs of a cascade for the arrays of a file.
///
/// # Errors
/// A file that cannot be read or written; every array that is missing, unknown, wrongly shaped or
/// holds NaN, naming the array, the axis, what was found and what was expected; a size that is
/// unknown, missing or contradicts a shape.
pub fn eval(request: &EvalRequest<'_>) -> Result<EvalReport, Problems> {
    let cascade = request.cascade;
    let stored = npz::read(&request.input, &request.stored_as)?;
    let file = request.input.display().to_string();
    let mut problems = Problems::new();
    problems.absorb(check_names(cascade, &file, &stored));
    let all_there = problems.is_empty();
    if !request.allow_nan {
        problems.absorb(check_numbers(&file, &stored));
    }
    // Without an array, sizes would be missing that it fixes.
    if !all_there {
        return Err(problems);
    }
    let sizes = problems.absorb(sizes_of(cascade, &stored, &request.sizes));
    let sizes = problems.into_result(sizes)?;

    let mut references = stored;
    let mut inputs = BTreeMap::new();
    let mut report = EvalReport {
        number_format: request.number_format,
        accumulator: request
            .accumulator
            .unwrap_or(request.number_format.default_accumulator()),
        sizes,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    for tensor in inputs_of(cascade) {
        if let Some(Stored { array, element }) = references.remove(&tensor.name) {
            report
                .inputs
                .push(describe(cascade, tensor, &array, element));
            inputs.insert(tensor.name.clone(), array);
        }
    }
    let options = Options {
        accumulator: report.accumulator,
        allow_nan: request.allow_nan,
        memory: memory(),
        ..Options::new(report.number_format)
    };
    let outputs = interpret(cascade, &report.sizes, &inputs, &options).map_err(problem_of)?;

    let mut problems = Problems::new();
    for id in &cascade.outputs {
        let tensor = cascade.tensor(*id);
        let Some(array) = outputs.get(&tensor.name) else {
            continue;
        };
        let element = element_of(tensor, report.number_format);
        let error = references.get(&tensor.name).and_then(|reference| {
            problems.absorb(compare(&tensor.name, array, &reference.array).map_err(Problems::from))
        });
        report.outputs.push(EvalOutput {
            array: describe(cascade, tensor, array, element),
            empty: array.empty.iter().flatten().filter(|e| **e).count(),
            error,
        });
    }
    problems.into_result(Some(()))?;
    if let Some(path) = &request.output {
        let arrays = report.outputs.iter().filter_map(|output| {
            let (name, array) = outputs.get_key_value(&output.array.name)?;
            Some((name.as_str(), array, output.array.element))
        });
        let bytes = npz::write(arrays)?;
        fs::write(path, bytes)
            .map_err(|e| Problem::nowhere(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(report)
}

/// Bytes of memory that this process may have: of the machine, of its control group, of its address space, as far as the
/// system tells; it says none where it is not Linux.
fn memory() -> u64 {
    let word = |path: &str, line: &str, at: usize| -> Option<u64> {
        let text = fs::read_to_string(path).ok()?;
        let rest = text.lines().find_map(|l| l.strip_prefix(line))?;
        rest.split_whitespace().nth(at)?.parse().ok()
    };
    let machine = word("/proc/meminfo", "MemTotal:", 0).map(|kib| kib.saturating_mul(1024));
    let group = word("/sys/fs/cgroup/memory.max", "", 0);
    let address_space = word("/proc/self/limits", "Max address space", 0);
    [machine, group, address_space]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
}

fn inputs_of(cascade: &Cascade) -> impl Iterator<Item = &Tensor> + Clone {
    cascade
        .tensors
        .iter()
        .filter(|t| t.kind == TensorKind::Input)
}

/// The ranks of an array's axes: the last of the batch ranks, then the tensor's own. `None` where
/// there are too few or too many.
fn axes_of(cascade: &Cascade, tensor: &Tensor, axes: usize) -> Option<Vec<String>> {
    let carried = axes
        .checked_sub(tensor.ranks.len())
        .filter(|n| *n <= cascade.batch.len())?;
    let batch = &cascade.batch[cascade.batch.len() - carried..];
    Some(
        batch
            .iter()
            .chain(&tensor.ranks)
            .map(|r| cascade.rank(*r).name.clone())
            .collect(),
    )
}

fn describe(cascade: &Cascade, tensor: &Tensor, array: &Array, element: Element) -> EvalArray {
    EvalArray {
        name: tensor.name.clone(),
        axes: axes_of(cascade, tensor, array.shape.len()).unwrap_or_default(),
        shape: array.shape.clone(),
        element,
    }
}

/// bf16 has no type of its own in numpy; f32 holds it exactly. Coordinates need all of f64.
fn element_of(tensor: &Tensor, format: NumberFormat) -> Element {
    if tensor.coordinates_of.is_some() {
        return Element::F8;
    }
    let elements = [
        (NumberFormat::F16, Element::F2),
        (NumberFormat::F32, Element::F4),
    ];
    let holds = elements.into_iter().find(|(of, _)| of.holds(format));
    holds.map_or(Element::F8, |(_, element)| element)
}

fn problem_of(error: interpret::Error) -> Problem {
    match error {
        interpret::Error::Expression {
            einsum,
            mut problem,
        } => {
            problem.message = format!("in `{einsum}`: {}", problem.message);
            problem
        }
        error => Problem::nowhere(error.to_string()),
    }
}

/// Every input is there, and nothing that is neither an input nor an output.
fn check_names(
    cascade: &Cascade,
    file: &str,
    stored: &BTreeMap<String, Stored>,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for tensor in inputs_of(cascade).filter(|t| !stored.contains_key(&t.name)) {
        let axes = axes_of(cascade, tensor, tensor.ranks.len()).unwrap_or_default();
        let message = format!("{file} lacks the array `{}`", tensor.name);
        problems
            .push(Problem::nowhere(message).help(format!("its axes are [{}]", axes.join(", "))));
    }
    let outputs = cascade.outputs.iter().map(|id| cascade.tensor(*id));
    let known = inputs_of(cascade).chain(outputs).map(|t| t.name.as_str());
    for name in stored
        .keys()
        .filter(|name| !known.clone().any(|k| k == name.as_str()))
    {
        let message = format!(
            "{file} holds the array `{name}`, which {} neither reads nor makes",
            cascade.name
        );
        problems.push(Problem::nowhere(message).help(did_you_mean(name, known.clone())));
    }
    problems.into_result(Some(()))
}

fn check_numbers(file: &str, stored: &BTreeMap<String, Stored>) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for (name, Stored { array, .. }) in stored {
        if let Some(place) = array.data.iter().position(|x| x.is_nan()) {
            let message = format!(
                "the array `{name}` of {file} holds NaN at {:?}",
                array.coordinates(place)
            );
            problems.push(Problem::nowhere(message).help("--allow-nan accepts it"));
        }
    }
    problems.into_result(Some(()))
}

/// The sizes that the arrays' shapes fix, then those given, then what follows from both.
fn sizes_of(
    cascade: &Cascade,
    stored: &BTreeMap<String, Stored>,
    given: &BTreeMap<String, u64>,
) -> Result<Sizes, Problems> {
    let mut problems = Problems::new();
    problems.absorb(cascade.check_size_names(given.keys().map(String::as_str)));
    // Each size, and where it comes from.
    let mut known: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut batch: Option<(usize, &str)> = None;
    for tensor in inputs_of(cascade) {
        let Some(Stored { array, .. }) = stored.get(&tensor.name) else {
            continue;
        };
        let Some(axes) = axes_of(cascade, tensor, array.shape.len()) else {
            problems.push(wrong_axes(cascade, tensor, array));
            continue;
        };
        let carried = axes.len() - tensor.ranks.len();
        match batch {
            Some((other, first)) if carried > 0 && other != carried => {
                let message = format!(
                    "the array `{}` has {carried} batch axes in front, but `{first}` has {other}",
                    tensor.name
                );
                problems.push(
                    Problem::nowhere(message).help("all arrays that carry a batch carry the same"),
                );
                continue;
            }
            None if carried > 0 => batch = Some((carried, &tensor.name)),
            _ => {}
        }
        for (axis, (rank, &length)) in axes.into_iter().zip(&array.shape).enumerate() {
            let place = format!("axis {axis} of `{}`", tensor.name);
            match known.get(&rank) {
                _ if length == 0 => {
                    let message = format!("{place} ({rank}) has length 0");
                    problems.push(
                        Problem::nowhere(message).help("every axis has at least one element"),
                    );
                }
                Some((expected, from)) if *expected != length as u64 => {
                    let message = format!(
                        "{place} ({rank}) has length {length}, expected {expected} as {from}"
                    );
                    problems.push(Problem::nowhere(message));
                }
                Some(_) => {}
                None => {
                    known.insert(rank, (length as u64, place));
                }
            }
        }
    }
    for (name, size) in given {
        match known.get(name) {
            Some((expected, from)) if expected != size => {
                let message =
                    format!("{name} is given as {size}, but {from} has length {expected}");
                problems.push(Problem::nowhere(message).help("leave it out: the arrays fix it"));
            }
            Some(_) => {}
            None => {
                known.insert(name.clone(), (*size, String::new()));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut all: BTreeMap<String, u64> = known
        .into_iter()
        .map(|(name, (size, _))| (name, size))
        .collect();
    for rank in &cascade.batch {
        all.entry(cascade.rank(*rank).name.clone()).or_insert(1);
    }
    cascade.sizes(&all)
}

fn wrong_axes(cascade: &Cascade, tensor: &Tensor, array: &Array) -> Problem {
    let own = axes_of(cascade, tensor, tensor.ranks.len()).unwrap_or_default();
    let mut help = format!("its axes are [{}]", own.join(", "));
    if !cascade.batch.is_empty() {
        let batch: Vec<&str> = cascade
            .batch
            .iter()
            .map(|r| cascade.rank(*r).name.as_str())
            .collect();
        help += &format!(", with any of [{}] in front", batch.join(", "));
    }
    let message = format!(
        "the array `{}` has {} axes, expected {}",
        tensor.name,
        array.shape.len(),
        own.len()
    );
    Problem::nowhere(message).help(help)
}

/// The error of an output against its reference.
fn compare(name: &str, output: &Array, reference: &Array) -> Result<EvalError, Problem> {
    if output.shape != reference.shape {
        let message = format!(
            "the array `{name}` to compare with has shape {:?}, but the output has {:?}",
            reference.shape, output.shape
        );
        return Err(Problem::nowhere(message));
    }
    let mut absolute: f64 = 0.0;
    let mut scale: f64 = 0.0;
    for (a, b) in output.data.iter().zip(&reference.data) {
        let difference = if a == b || (a.is_nan() && b.is_nan()) {
            0.0
        } else {
            (a - b).abs()
        };
        absolute = absolute.max(if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        });
        scale = scale.max(if b.is_finite() { b.abs() } else { 0.0 });
    }
    let relative = if absolute == 0.0 {
        0.0
    } else {
        absolute / scale
    };
    Ok(EvalError { absolute, relative })
}

#[cfg(test)]
mod tests;
