//! Executing compiled Einsums, a run of points along the innermost loop at a time.

use super::index::{Fault, Range, Test};
use super::lanes::{self, Bf16, F16, F32, F64, Lane, Rounding};
use super::ops;
use super::plan::{Access, IndexSource, Node, Plan, Reduction};
use super::{Array, Error, Options};
use crate::format::Format;
use einflow_spec::Problem;

/// The elements of a tensor.
struct Buffer {
    data: Vec<f64>,
    empty: Option<Vec<bool>>,
}

impl Buffer {
    fn mark_empty(&mut self, place: usize) {
        let length = self.data.len();
        self.empty.get_or_insert_with(|| vec![false; length])[place] = true;
    }

    /// Populates a point that was not visited: it is empty, or keeps the previous value of an iterative rank.
    fn pass_over(&mut self, place: usize, previous: Option<i64>) {
        let from = previous.and_then(|distance| place.checked_sub(usize::try_from(distance).ok()?));
        match from.filter(|&from| !self.empty.as_ref().is_some_and(|e| e[from])) {
            Some(from) => self.data[place] = self.data[from],
            None => self.mark_empty(place),
        }
    }
}

/// The tensors made so far.
pub(super) struct Machine {
    format: Format,
    accumulator: Format,
    tensors: Vec<Option<Buffer>>,
    scratch: Scratch,
}

/// Memory reused from one run of points to the next.
#[derive(Default)]
struct Scratch {
    lanes: Vec<Lane>,
    skip: Vec<bool>,
    candidates: Vec<(f64, i64)>,
}

/// Why an Einsum could not be executed to its end.
enum Stop {
    Fault(Fault),
    NotACoordinate(usize, f64),
    NotMade(usize),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl Machine {
    /// A machine without any tensor.
    pub fn new(tensors: usize, options: &Options) -> Self {
        Self {
            format: options.format,
            accumulator: options.accumulator,
            tensors: (0..tensors).map(|_| None).collect(),
            scratch: Scratch::default(),
        }
    }

    /// Takes an input, rounded to the number format unless it holds coordinates.
    pub fn load_input(&mut self, tensor: usize, coordinates: bool, array: &Array) {
        let format = if coordinates {
            Format::F64
        } else {
            self.format
        };
        let empty = array.empty.clone();
        let mut data: Vec<f64> = array.data.iter().map(|x| format.round(*x)).collect();
        for (x, empty) in data.iter_mut().zip(empty.iter().flatten()) {
            if *empty {
                *x = 0.0;
            }
        }
        self.tensors[tensor] = Some(Buffer { data, empty });
    }

    /// Makes room for an Einsum's output; coordinate 0 of an iterative rank gets the initial value.
    pub fn prepare(&mut self, plan: &Plan<'_>, initial: Option<f64>) {
        let mut buffer = Buffer {
            data: vec![0.0; plan.layout.shape.iter().product()],
            empty: None,
        };
        if let Some(axis) = plan.cascade.tensors[plan.output].iterative {
            let stride = plan.layout.strides[axis] as usize;
            let repeat = stride * plan.layout.lengths[axis] as usize;
            for first in (0..buffer.data.len()).step_by(repeat.max(1)) {
                for place in first..first + stride {
                    match initial {
                        Some(value) => buffer.data[place] = self.format.round(value),
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
        let Buffer { data, empty } = self.tensors[tensor].take()?;
        Some(Array { shape, data, empty })
    }

    /// Computes an Einsum, or the part of it at one coordinate of the recurrence's rank.
    pub fn execute(&mut self, plan: &Plan<'_>, step: Option<usize>) -> Result<(), Error> {
        // The scratch leaves the machine while the tensors are borrowed.
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = match self.accumulator {
            Format::F64 => self.run::<F64>(plan, step, &mut scratch),
            Format::F32 => self.run::<F32>(plan, step, &mut scratch),
            Format::Bf16 => self.run::<Bf16>(plan, step, &mut scratch),
            Format::F16 => self.run::<F16>(plan, step, &mut scratch),
        };
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
        let outer = if plan.reduction == Reduction::None {
            inner
        } else {
            plan.kept
        };
        loop {
            if plan.reduction == Reduction::None {
                let visited = self.block::<R>(plan, &mut point, ranges[inner], scratch)?;
                self.populate_run(plan, &mut point, ranges[inner], visited, scratch);
            } else {
                self.reduce::<R>(plan, &mut point, &ranges, scratch)?;
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
        let (Some(lane), Some(buffer)) = (scratch.lanes.last(), &mut self.tensors[plan.output])
        else {
            return;
        };
        let inner = point.len() - 1;
        point[inner] = 0;
        let (base, stride) = (plan.place.at(point), plan.place.coefficients[inner]);
        let format = if plan.coordinates {
            Format::F64
        } else {
            self.format
        };
        for v in full.start..full.end {
            let place = (base + stride * v) as usize;
            let i = (v - visited.start) as usize;
            let inside =
                v >= visited.start && v < visited.end && !scratch.skip.get(i).is_some_and(|s| *s);
            match if inside { lane.get(i) } else { None } {
                Some(value) => buffer.data[place] = format.round(value),
                None => buffer.pass_over(place, plan.previous),
            }
        }
    }

    /// Computes one output point of a reduction (all of a top-k's points along its own rank).
    fn reduce<R: Rounding>(
        &mut self,
        plan: &Plan<'_>,
        point: &mut [i64],
        ranges: &[Range],
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        let inner = ranges.len() - 1;
        for (v, range) in point[plan.kept..].iter_mut().zip(&ranges[plan.kept..]) {
            *v = range.start;
        }
        let mut inside = true;
        for test in &plan.output_tests {
            inside = inside && test.holds(point)?;
        }
        for access in &plan.presences {
            inside = inside && self.element(access, point)?.is_some();
        }
        scratch.candidates.clear();
        let mut sum = match plan.reduction {
            Reduction::Max => f64::NEG_INFINITY,
            Reduction::Min => f64::INFINITY,
            _ => 0.0,
        };
        while inside {
            let visited = self.block::<R>(plan, point, ranges[inner], scratch)?;
            let Scratch {
                lanes,
                skip,
                candidates,
            } = scratch;
            if let Some(lane) = lanes.last().filter(|_| !visited.is_empty()) {
                match plan.reduction {
                    Reduction::Max => fold(lane, skip, visited.len(), &mut sum, |a, x| {
                        R::round(ops::max(a, x))
                    }),
                    Reduction::Min => fold(lane, skip, visited.len(), &mut sum, |a, x| {
                        R::round(ops::min(a, x))
                    }),
                    Reduction::Top { .. } => {
                        let kept = (0..visited.len()).filter(|i| !skip.get(*i).is_some_and(|s| *s));
                        candidates.extend(
                            kept.filter_map(|i| Some((lane.get(i)?, visited.start + i as i64))),
                        );
                    }
                    _ => fold(lane, skip, visited.len(), &mut sum, |a, x| R::round(a + x)),
                }
            }
            if !advance(&mut point[plan.kept..inner], &ranges[plan.kept..inner]) {
                break;
            }
        }
        let Some(buffer) = &mut self.tensors[plan.output] else {
            return Ok(());
        };
        let place = plan.place.at(point);
        if let Reduction::Top { count, stride } = plan.reduction {
            // A stable sort leaves the lower of two coordinates with equal values in front.
            scratch.candidates.sort_by(|a, b| descending(a.0, b.0));
            for k in 0..count {
                let place = (place + stride * k as i64) as usize;
                match scratch.candidates.get(k) {
                    Some((_, coordinate)) => buffer.data[place] = *coordinate as f64,
                    None => buffer.mark_empty(place),
                }
            }
        } else if inside {
            buffer.data[place as usize] = if plan.coordinates {
                sum
            } else {
                self.format.round(sum)
            };
        } else {
            buffer.pass_over(place as usize, plan.previous);
        }
        Ok(())
    }

    /// Evaluates the map step along the innermost loop. Returns the range of points that were
    /// visited; their values are in the last lane, and those of them that were not visited after all
    /// are marked in `skip` (which is empty where there are none).
    fn block<R: Rounding>(
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
            if !matches!(test, Test::Tree(_)) {
                continue;
            }
            if !test.uses(&|i| i == inner) {
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
                Node::Coordinate(tree) => {
                    if tree.uses(&|i| i == inner) {
                        out.begin(false);
                        for v in range.start..range.end {
                            point[inner] = v;
                            out.values.push(R::round(tree.at(point)? as f64));
                        }
                        point[inner] = 0;
                    } else {
                        out.set(Some(R::round(tree.at(point)? as f64)));
                    }
                }
                Node::Read(read) => {
                    let read = &plan.reads[*read];
                    self.load(read, point, range, out)?;
                    if read.required && out.masked {
                        scratch.skip.resize(range.len(), false);
                        for (i, skip) in scratch.skip.iter_mut().enumerate() {
                            *skip |= out.get(i).is_none();
                        }
                    }
                }
                Node::Unary(f, a) => lanes::unary::<R>(*f, &done[*a], out),
                Node::Binary(function, f, a, b) => {
                    lanes::binary::<R>(*function, *f, &done[*a], &done[*b], out)
                }
            }
        }
        Ok(range)
    }

    /// Reads a tensor along a range of the innermost loop (whose variable is 0 in `point`).
    fn load(
        &self,
        access: &Access,
        point: &mut [i64],
        range: Range,
        out: &mut Lane,
    ) -> Result<(), Stop> {
        let inner = point.len() - 1;
        let buffer = self.buffer(access.tensor)?;
        if access.others.iter().any(|o| o.inner) {
            out.begin(true);
            for v in range.start..range.end {
                point[inner] = v;
                out.push(self.element(access, point)?);
            }
            point[inner] = 0;
            return Ok(());
        }
        let Some(others) = self.other_places(access, point)? else {
            out.set(None);
            return Ok(());
        };
        let (base, step) = (
            access.place.at(point) + others,
            access.place.coefficients[inner],
        );
        let mut valid = range;
        for (index, length) in &access.checks {
            valid.keep_inside(index.at(point), index.coefficients[inner], *length);
        }
        if valid.is_empty() {
            out.set(None);
            return Ok(());
        }
        if step == 0 && valid == range {
            let place = base as usize;
            let empty = buffer.empty.as_ref().is_some_and(|e| e[place]);
            out.set(if empty {
                None
            } else {
                Some(buffer.data[place])
            });
            return Ok(());
        }
        let masked = valid != range || buffer.empty.is_some();
        out.begin(masked);
        if masked {
            for v in range.start..range.end {
                let place = (base + step * v) as usize;
                let inside = v >= valid.start && v < valid.end;
                let empty = !inside || buffer.empty.as_ref().is_some_and(|e| e[place]);
                out.push(if empty {
                    None
                } else {
                    Some(buffer.data[place])
                });
            }
        } else if step == 1 {
            let first = (base + range.start) as usize;
            out.values
                .extend_from_slice(&buffer.data[first..first + range.len()]);
        } else {
            out.values
                .extend((range.start..range.end).map(|v| buffer.data[(base + step * v) as usize]));
        }
        Ok(())
    }

    fn buffer(&self, tensor: usize) -> Result<&Buffer, Stop> {
        self.tensors[tensor].as_ref().ok_or(Stop::NotMade(tensor))
    }

    /// What the indices that are not linear add to the place; `None` where one is empty or outside.
    fn other_places(&self, access: &Access, point: &[i64]) -> Result<Option<i64>, Stop> {
        let mut place = 0;
        for other in &access.others {
            let index = match &other.source {
                IndexSource::Tree(tree) => tree.at(point)?,
                IndexSource::Gather(access) => match self.element(access, point)? {
                    None => return Ok(None),
                    // Whole numbers of this size are exact in f64.
                    Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => value as i128,
                    Some(value) => return Err(Stop::NotACoordinate(access.tensor, value)),
                },
            };
            if index < 0 || index >= i128::from(other.length) {
                return Ok(None);
            }
            place += index as i64 * other.stride;
        }
        Ok(Some(place))
    }

    /// The element that an operand reads at a point; `None` where it is empty.
    fn element(&self, access: &Access, point: &[i64]) -> Result<Option<f64>, Stop> {
        if access
            .checks
            .iter()
            .any(|(index, length)| !(0..*length).contains(&index.at(point)))
        {
            return Ok(None);
        }
        let Some(others) = self.other_places(access, point)? else {
            return Ok(None);
        };
        let buffer = self.buffer(access.tensor)?;
        let place = (access.place.at(point) + others) as usize;
        let empty = buffer.empty.as_ref().is_some_and(|e| e[place]);
        Ok(if empty {
            None
        } else {
            Some(buffer.data[place])
        })
    }
}

/// Takes all non-empty values of a lane of `count` points, in order.
#[inline(always)]
fn fold(lane: &Lane, skip: &[bool], count: usize, sum: &mut f64, f: impl Fn(f64, f64) -> f64) {
    if !lane.masked && skip.is_empty() && lane.values.len() == count {
        *sum = lane.values.iter().fold(*sum, |a, x| f(a, *x));
        return;
    }
    for i in 0..count {
        if let Some(x) = lane.get(i)
            && !skip.get(i).is_some_and(|s| *s)
        {
            *sum = f(*sum, x);
        }
    }
}

/// Descending order of values, NaN in front (as the frameworks have it).
fn descending(a: f64, b: f64) -> std::cmp::Ordering {
    b.is_nan()
        .cmp(&a.is_nan())
        .then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
}

/// Moves to the next point of a loop nest, the last loop fastest; false after the last point, with
/// every loop back at its start.
fn advance(point: &mut [i64], ranges: &[Range]) -> bool {
    for (v, range) in point.iter_mut().zip(ranges).rev() {
        *v += 1;
        if *v < range.end {
            return true;
        }
        *v = range.start;
    }
    false
}
