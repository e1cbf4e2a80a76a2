//! The reduce step.

use super::condition::Range;
use super::lanes::Lane;
use super::ops;
use super::plan::{Plan, Reduction};
use super::run::{Machine, Scratch, Stop, advance};
use einflow_spec::Rounding;

impl Reduction {
    /// The result over no points.
    fn identity(self) -> f64 {
        match self {
            Reduction::Max => f64::NEG_INFINITY,
            Reduction::Min => f64::INFINITY,
            _ => 0.0,
        }
    }
}

impl Machine<'_> {
    /// Computes one output point of a reduction along the innermost loop (for a top-k all points
    /// along the rank that it populates).
    pub(super) fn reduce_point<R: Rounding>(
        &mut self,
        plan: &Plan<'_>,
        point: &mut [i64],
        ranges: &[Range],
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        let inner = ranges.len() - 1;
        start(point, ranges, plan);
        let inside = self.is_inside(plan, point)?;
        let mut sum = plan.reduction.identity();
        scratch.candidates.clear();
        let mut more = inside;
        while more {
            let visited = self.block::<R>(plan, point, ranges[inner], scratch)?;
            let Scratch {
                lanes,
                skip,
                candidates,
                ..
            } = scratch;
            if let Some(lane) = lanes.last().filter(|_| !visited.is_empty()) {
                let count = visited.len();
                match plan.reduction {
                    Reduction::Max => {
                        fold(lane, skip, count, &mut sum, |a, x| R::round(ops::max(a, x)))
                    }
                    Reduction::Min => {
                        fold(lane, skip, count, &mut sum, |a, x| R::round(ops::min(a, x)))
                    }
                    Reduction::Top { .. } => {
                        let kept = (0..count).filter(|i| !skip.get(*i).is_some_and(|s| *s));
                        let found =
                            kept.filter_map(|i| Some((lane.get(i)?, visited.start + i as i64)));
                        candidates.extend(found);
                    }
                    _ => fold(lane, skip, count, &mut sum, |a, x| R::round(a + x)),
                }
            }
            more = advance(
                &mut point[plan.reduced.start..inner],
                &ranges[plan.reduced.start..inner],
            );
        }
        let format = self.output_format(plan);
        let Some(buffer) = &mut self.tensors[plan.output] else {
            return Ok(());
        };
        point[plan.reduced.clone()].fill(0);
        let place = plan.place.at(point);
        if let Reduction::Top { count, stride } = plan.reduction {
            // A stable sort leaves the lower of two coordinates with equal values in front.
            scratch.candidates.sort_by(|a, b| descending(a.0, b.0));
            for k in 0..count {
                let place = (place + stride * k as i64) as usize;
                match scratch.candidates.get(k) {
                    Some((_, coordinate)) => buffer.set(place, *coordinate as f64),
                    None => buffer.mark_empty(place),
                }
            }
        } else if inside {
            buffer.set(place as usize, format.round(sum));
        } else {
            buffer.pass_over(place as usize, plan.previous);
        }
        Ok(())
    }

    /// Computes output points side by side along the innermost loop. Each still takes its values in
    /// ascending order of the reduced coordinates.
    pub(super) fn reduce_run<R: Rounding>(
        &mut self,
        plan: &Plan<'_>,
        point: &mut [i64],
        ranges: &[Range],
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        let inner = ranges.len() - 1;
        let full = ranges[inner];
        start(point, ranges, plan);
        scratch.sums.clear();
        scratch.sums.resize(full.len(), plan.reduction.identity());
        loop {
            let visited = self.block::<R>(plan, point, full, scratch)?;
            let Scratch {
                lanes, skip, sums, ..
            } = scratch;
            if let Some(lane) = lanes.last().filter(|_| !visited.is_empty()) {
                let first = (visited.start - full.start) as usize;
                let sums = &mut sums[first..first + visited.len()];
                match plan.reduction {
                    Reduction::Max => zip(lane, skip, sums, |a, x| R::round(ops::max(a, x))),
                    Reduction::Min => zip(lane, skip, sums, |a, x| R::round(ops::min(a, x))),
                    _ => zip(lane, skip, sums, |a, x| R::round(a + x)),
                }
            }
            if !advance(
                &mut point[plan.reduced.clone()],
                &ranges[plan.reduced.clone()],
            ) {
                break;
            }
        }
        let format = self.output_format(plan);
        let checked = !plan.output_tests.is_empty() || !plan.presences.is_empty();
        point[plan.reduced.clone()].fill(0);
        for (sum, v) in scratch.sums.iter().zip(full.start..) {
            point[inner] = v;
            let inside = !checked || self.is_inside(plan, point)?;
            let place = plan.place.at(point) as usize;
            let Some(buffer) = &mut self.tensors[plan.output] else {
                break;
            };
            if inside {
                buffer.set(place, format.round(*sum));
            } else {
                buffer.pass_over(place, plan.previous);
            }
        }
        point[inner] = 0;
        Ok(())
    }

    /// Whether the output is non-empty at a point.
    fn is_inside(&self, plan: &Plan<'_>, point: &[i64]) -> Result<bool, Stop> {
        for test in &plan.output_tests {
            if !test.holds(point)? {
                return Ok(false);
            }
        }
        for found in &plan.presences {
            let mut point = point.to_vec();
            for (access, length) in &found.gathers {
                let Some(value) = self.coordinate(access, &point)? else {
                    return Ok(false);
                };
                if length.is_some_and(|length| !(0..length).contains(&value)) {
                    return Ok(false);
                }
                point.push(value);
            }
            for test in &found.tests {
                if !test.holds(&point)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Puts the reduced ranks' variables at their starts.
fn start(point: &mut [i64], ranges: &[Range], plan: &Plan<'_>) {
    for (v, range) in point[plan.reduced.clone()]
        .iter_mut()
        .zip(&ranges[plan.reduced.clone()])
    {
        *v = range.start;
    }
}

/// Takes all non-empty values of a lane of `count` points into one, in order.
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

/// Takes each non-empty value of a lane into its own result.
#[inline(always)]
fn zip(lane: &Lane, skip: &[bool], sums: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    if !lane.masked && skip.is_empty() {
        match lane.values.as_slice() {
            [x] => sums.iter_mut().for_each(|sum| *sum = f(*sum, *x)),
            xs => sums
                .iter_mut()
                .zip(xs)
                .for_each(|(sum, x)| *sum = f(*sum, *x)),
        }
        return;
    }
    for (i, sum) in sums.iter_mut().enumerate() {
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
