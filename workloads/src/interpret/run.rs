//! Executing compiled Einsums, a run of points along the innermost loop at a time.

use super::condition::{Range, Test};
use super::index::Fault;
use super::lanes::{self, Lane};
use super::plan::{Node, Plan, Reduction};
use super::{Array, Error, Options};
use einflow_spec::{NumberFormat, Problem, Rounding, with_rounding};

/// The elements of a tensor.
pub(super) struct Buffer {
    pub data: Vec<f64>,
    pub empty: Option<Vec<bool>>,
}

impl Buffer {
    pub fn mark_empty(&mut self, place: usize) {
        let length = self.data.len();
        self.empty.get_or_insert_with(|| vec![false; length])[place] = true;
    }

    /// Populates a point with a value.
    pub fn set(&mut self, place: usize, value: f64) {
        self.data[place] = value;
        // What takes the room of one step may have been empty in the step before.
        if let Some(empty) = &mut self.empty {
            empty[place] = false;
        }
    }

    /// Populates a point that was not visited: it is empty, or keeps the previous value of an iterative rank.
    pub fn pass_over(&mut self, place: usize, previous: Option<i64>) {
        let from = previous.and_then(|distance| place.checked_sub(usize::try_from(distance).ok()?));
        match from.filter(|&from| !self.empty.as_ref().is_some_and(|e| e[from])) {
            Some(from) => self.data[place] = self.data[from],
            None => self.mark_empty(place),
        }
    }
}

/// An input as the caller holds it.
struct Given<'a> {
    array: &'a Array,
    format: NumberFormat,
    /// Whether its elements are other ones in the format.
    rounds: bool,
}

/// The tensors made so far.
pub(super) struct Machine<'a> {
    format: NumberFormat,
    accumulator: NumberFormat,
    running: NumberFormat,
    given: Vec<Option<Given<'a>>>,
    /// What is made, and inputs that are rounded.
    pub(super) tensors: Vec<Option<Buffer>>,
    scratch: Scratch,
}

/// Memory reused from one run of points to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// The value of each node of the map step.
    pub lanes: Vec<Lane>,
    /// Points of the visited range that are not visited; empty where all are.
    pub skip: Vec<bool>,
    /// Values and coordinates that a top-k chooses from.
    pub candidates: Vec<(f64, i64)>,
    /// Partial results of output points side by side.
    pub sums: Vec<f64>,
}

/// Why an Einsum could not be executed to its end.
pub(super) enum Stop {
    /// An expression without a value.
    Fault(Fault),
    /// An index tensor and what it holds.
    NotACoordinate(usize, f64),
    /// A tensor that was read too early.
    NotMade(usize),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl<'a> Machine<'a> {
    /// A machine without any tensor.
    pub fn new(tensors: usize, options: &Options<'_>) -> Self {
        Self {
            format: options.format,
            accumulator: options.accumulator,
            running: options.running,
            given: (0..tensors).map(|_| None).collect(),
            tensors: (0..tensors).map(|_| None).collect(),
            scratch: Scratch::default(),
        }
    }

    /// Takes an input: in the number format, unless it holds coordinates.
    pub fn give(&mut self, tensor: usize, coordinates: bool, array: &'a Array) {
        let format = if coordinates {
            NumberFormat::F64
        } else {
            self.format
        };
        let same = |x: f64| format.round(x).to_bits() == x.to_bits();
        let empty = array.empty.iter().flatten().zip(&array.data);
        let rounds = !array.data.iter().all(|x| same(*x))
            || empty.into_iter().any(|(empty, x)| *empty && *x != 0.0);
        self.given[tensor] = Some(Given {
            array,
            format,
            rounds,
        });
    }

    /// Whether an input's elements are other ones in the machine, which takes room for them.
    pub fn rounds(&self, tensor: usize) -> bool {
        self.given[tensor].as_ref().is_some_and(|g| g.rounds)
    }

    /// Rounds the inputs that have to be.
    pub fn load_inputs(&mut self) {
        for (given, buffer) in self.given.iter().zip(&mut self.tensors) {
            let Some(given) = given.as_ref().filter(|g| g.rounds) else {
                continue;
            };
            let empty = given.array.empty.clone();
            let elements = given.array.data.iter();
            let mut data: Vec<f64> = elements.map(|x| given.format.round(*x)).collect();
            for (x, empty) in data.iter_mut().zip(empty.iter().flatten()) {
                if *empty {
                    *x = 0.0;
                }
            }
            *buffer = Some(Buffer { data, empty });
        }
    }

    /// The elements of a tensor, and which of them are empty, where any is.
    pub(super) fn elements(&self, tensor: usize) -> Result<(&[f64], Option<&[bool]>), Stop> {
        if let Some(buffer) = &self.tensors[tensor] {
            return Ok((&buffer.data, buffer.empty.as_deref()));
        }
        let given = self.given[tensor].as_ref().filter(|g| !g.rounds);
        let given = given.ok_or(Stop::NotMade(tensor))?;
        Ok((&given.array.data, given.array.empty.as_deref()))
    }

    /// Makes room for an Einsum's output; coordinate 0 of an iterative rank gets the initial value.
    pub fn prepare(&mut self, plan: &Plan<'_>, initial: Option<f64>) {
        let mut buffer = Buffer {
            data: vec![0.0; plan.layout.shape.iter().product()],
            empty: None,
        };
        if let Some(axis) = plan.cascade.tensors[plan.output].iterative {
            let format = self.output_format(plan);
            let stride = plan.layout.strides[axis] as usize;
            let repeat = stride * plan.layout.lengths[axis] as usize;
            for first in (0..buffer.data.len()).step_by(repeat.max(1)) {
                for place in first..first + stride {
                    match initial {
                        Some(value) => buffer.data[place] = format.round(value),
                        None => buffer.mark_empty(place),
                    }
                }
            }
        }
        self.tensors[plan.output] = Some(buffer);
    }

    /// Forgets a tensor.
    pub fn release(&mut self, tensor: usize) {
        self.tensors[tensor] = None;
    }

    /// Takes a tensor out.
    pub fn take(&mut self, tensor: usize, shape: Vec<usize>) -> Option<Array> {
        if let Some(Buffer { data, empty }) = self.tensors[tensor].take() {
            return Some(Array { shape, data, empty });
        }
        Some(self.given[tensor].as_ref()?.array.clone())
    }

    /// The format that populates the output.
    pub(super) fn output_format(&self, plan: &Plan<'_>) -> NumberFormat {
        if plan.coordinates {
            NumberFormat::F64
        } else if plan.recurrent {
            self.running
        } else {
            self.format
        }
    }

    /// Computes an Einsum, or the part of it at one coordinate of the recurrence's rank.
    pub fn execute(&mut self, plan: &Plan<'_>, step: Option<usize>) -> Result<(), Error> {
        // The scratch leaves the machine while the tensors are borrowed.
        let mut scratch = std::mem::take(&mut self.scratch);
        let wider = self.running.precision() > self.accumulator.precision();
        let format = if plan.recurrent && wider {
            self.running
        } else {
            self.accumulator
        };
        let result = with_rounding!(format, R => self.run::<R>(plan, step, &mut scratch));
        self.scratch = scratch;
        let einsum = || plan.cascade.name_of(plan.id).to_string();
        let name = |tensor: usize| plan.cascade.tensors[tensor].name.clone();
        result.map_err(|stop| match stop {
            Stop::Fault(fault) => Error::Expression {
                einsum: einsum(),
                problem: Problem::at(&plan.cascade.source, fault.span, fault.message),
            },
            Stop::NotACoordinate(tensor, value) => Error::NotACoordinate {
                name: name(tensor),
                value,
            },
            Stop::NotMade(tensor) => Error::Unsupported {
                einsum: einsum(),
                why: format!("it reads `{}` before it is made", name(tensor)),
            },
        })
    }

    fn run<R: Rounding>(
        &mut self,
        plan: &Plan<'_>,
        step: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        scratch.lanes.resize_with(plan.nodes.len(), Lane::default);
        let mut ranges: Vec<Range> = plan
            .extents
            .iter()
            .map(|&n| Range {
                start: 0,
                end: n as i64,
            })
            .collect();
        if let Some(step) = step {
            ranges[0] = Range {
                start: step as i64,
                end: step as i64 + 1,
            };
        }
        let inner = ranges.len() - 1;
        let mut point: Vec<i64> = ranges.iter().map(|r| r.start).collect();
        let along = plan.reduced.end < ranges.len();
        let outer = if plan.reduction == Reduction::None {
            inner
        } else {
            plan.reduced.start
        };
        loop {
            if plan.reduction == Reduction::None {
                let visited = self.block::<R>(plan, &mut point, ranges[inner], scratch)?;
                self.populate_run(plan, &mut point, ranges[inner], visited, scratch);
            } else if along {
                self.reduce_run::<R>(plan, &mut point, &ranges, scratch)?;
            } else {
                self.reduce_point::<R>(plan, &mut point, &ranges, scratch)?;
            }
            if !advance(&mut point[..outer], &ranges[..outer]) {
                return Ok(());
            }
        }
    }

    /// Writes the values of an element-wise Einsum along the innermost loop.
    fn populate_run(
        &mut self,
        plan: &Plan<'_>,
        point: &mut [i64],
        full: Range,
        visited: Range,
        scratch: &Scratch,
    ) {
        let format = self.output_format(plan);
        let (Some(lane), Some(buffer)) = (scratch.lanes.last(), &mut self.tensors[plan.output])
        else {
            return;
        };
        let inner = point.len() - 1;
        point[inner] = 0;
        let (base, stride) = (plan.place.at(point), plan.place.coefficients[inner]);
        let whole = visited == full && scratch.skip.is_empty() && !lane.masked;
        if whole && stride == 1 && lane.values.len() == full.len() && buffer.empty.is_none() {
            let first = (base + full.start) as usize;
            let places = &mut buffer.data[first..first + full.len()];
            with_rounding!(format, R => round_all::<R>(&lane.values, places));
            return;
        }
        for v in full.start..full.end {
            let place = (base + stride * v) as usize;
            let i = (v - visited.start) as usize;
            let inside =
                v >= visited.start && v < visited.end && !scratch.skip.get(i).is_some_and(|s| *s);
            match if inside { lane.get(i) } else { None } {
                Some(value) => buffer.set(place, format.round(value)),
                None => buffer.pass_over(place, plan.previous),
            }
        }
    }

    /// Evaluates the map step along the innermost loop. Returns the range of points that were
    /// visited; their values are in the last lane, and those of them that were not visited after all
    /// are marked in `skip` (which is empty where there are none).
    pub(super) fn block<R: Rounding>(
        &self,
        plan: &Plan<'_>,
        point: &mut [i64],
        full: Range,
        scratch: &mut Scratch,
    ) -> Result<Range, Stop> {
        let inner = point.len() - 1;
        point[inner] = 0;
        let mut range = full;
        scratch.skip.clear();
        for test in &plan.tests {
            match test {
                Test::NonNegative(a) => range.keep_from_zero(a.at(point), a.coefficients[inner]),
                Test::Zero(a) => range.keep_inside(a.at(point), a.coefficients[inner], 1),
                Test::Tree(_) => {}
            }
        }
        for read in plan.reads.iter().filter(|r| r.required) {
            for (index, length) in &read.checks {
                range.keep_inside(index.at(point), index.coefficients[inner], *length);
            }
        }
        if range.is_empty() {
            return Ok(range);
        }
        for test in &plan.tests {
            let Test::Tree(form) = test else { continue };
            if !form.uses(inner) {
                if !test.holds(point)? {
                    return Ok(Range { start: 0, end: 0 });
                }
                continue;
            }
            scratch.skip.resize(range.len(), false);
            for i in 0..range.len() {
                // Other conditions may be what keeps this one from dividing by zero.
                if !scratch.skip[i] {
                    point[inner] = range.start + i as i64;
                    scratch.skip[i] = !test.holds(point)?;
                }
            }
            point[inner] = 0;
        }
        for (i, node) in plan.nodes.iter().enumerate() {
            let (done, rest) = scratch.lanes.split_at_mut(i);
            let out = &mut rest[0];
            match node {
                Node::Constant(value) => out.set(Some(R::round(*value))),
                Node::Coordinate(form) => {
                    if form.uses(inner) {
                        out.begin(false);
                        for v in range.start..range.end {
                            point[inner] = v;
                            out.values.push(R::round(form.at(point)? as f64));
                        }
                        point[inner] = 0;
                    } else {
                        out.set(Some(R::round(form.at(point)? as f64)));
                    }
                }
                Node::Read(read) => self.load(&plan.reads[*read], point, range, out)?,
                Node::Unary(f, unit, a) => lanes::unary::<R>(*f, unit, &done[*a], out),
                Node::Binary(function, f, may_miss, a, b) => {
                    lanes::binary::<R>(*function, *f, *may_miss, &done[*a], &done[*b], out)
                }
            }
        }
        Ok(range)
    }
}

fn round_all<R: Rounding>(values: &[f64], places: &mut [f64]) {
    let each = places.iter_mut().zip(values);
    each.for_each(|(place, value)| *place = R::round(*value));
}

/// Moves to the next point of a loop nest, the last loop fastest; false after the last point, with
/// every loop back at its start.
pub(super) fn advance(point: &mut [i64], ranges: &[Range]) -> bool {
    for (v, range) in point.iter_mut().zip(ranges).rev() {
        *v += 1;
        if *v < range.end {
            return true;
        }
        *v = range.start;
    }
    false
}
