//! A waterfall: what each Einsum does on its unit in two epochs of a traced run, as in figure 4 of FuseMax.

use std::collections::BTreeMap;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{
    Content, Figure, Panel,
    draw::{
        Area, Axis, Drawn, Frame, INK, PALE, SCALE, Sheet, Words, rule, tick, width, words, write,
    },
};
use crate::trace::{Recorder, TaskSlice};
use einflow_engine::program::Program;

/// Height of a row, and the air above and below its bars.
const ROW: (i32, i32) = (30, 3);
/// The ends of epochs.
const MARK: RGBColor = RGBColor(165, 165, 165);
/// The start from which two epochs are looked for: the pipeline has filled by then.
const FILLED: usize = 8;

/// A row of a waterfall.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What it shows, and whose colour it has.
    pub name: String,
    /// What its neighbours have in common with it: the unit; empty for none.
    pub unit: String,
    /// Cycles by which the last PE is later than the first.
    pub skew: u64,
    /// Ends of epochs at the first PE.
    pub marks: Vec<u64>,
    /// What goes on.
    pub spans: Vec<Span>,
}

/// A bar.
#[derive(Clone, Debug)]
pub struct Span {
    /// The first cycle, at the first PE.
    pub start: u64,
    /// Cycles.
    pub duration: u64,
    /// Whether it belongs to what is not shown in full.
    pub pale: bool,
    /// Written into it where there is room.
    pub label: String,
}

/// Height of all rows.
pub(super) fn height(lanes: &[Lane]) -> i32 {
    ROW.0 * lanes.len() as i32
}

/// Two epochs of a traced run in its steady state, by unit and Einsum. None where the trace holds no three tasks of the Einsum that
/// begins an epoch.
pub fn waterfall(trace: &Recorder) -> Option<Figure> {
    let accelerator = &trace.mapped.accelerator;
    let block = trace.tasks.first()?.block;
    let program = &trace.programs[block];
    let tasks: Vec<&TaskSlice> = trace.tasks.iter().filter(|t| t.block == block).collect();
    let (anchor, marks) = epochs(program, &tasks)?;
    let (first, last) = (marks[0], marks[2]);
    let mut lanes = Vec::new();
    let mut shown = (first, last);
    for (unit, array) in accelerator.arrays.iter().enumerate() {
        let frame = program.frames[unit];
        let skew = array.rows + array.columns - 2;
        for (place, op) in program
            .ops
            .iter()
            .enumerate()
            .filter(|(_, op)| op.unit == unit)
        {
            let own = tasks.iter().filter(|t| t.op == place).map(|t| Span {
                start: t.start,
                duration: t.duration,
                pale: !(first + frame..last + frame).contains(&t.start),
                label: String::new(),
            });
            let spans: Vec<Span> = own.collect();
            let full = spans.iter().filter(|s| !s.pale);
            let Some(end) = full.map(|s| s.start + s.duration).max() else {
                continue;
            };
            shown.1 = shown.1.max(end);
            lanes.push(Lane {
                name: op.name.clone(),
                unit: array.name.clone(),
                skew,
                marks: marks.iter().map(|m| m + frame).collect(),
                spans,
            });
        }
    }
    for (memory, spec) in accelerator.memories.iter().enumerate() {
        let own = trace.movements.iter().filter(|m| m.outer == memory);
        let spans: Vec<Span> = own
            .map(|m| Span {
                start: m.start,
                duration: m.duration,
                pale: !(first..last).contains(&m.start),
                label: trace.mapped.cascade.tensors[m.tensor].name.clone(),
            })
            .collect();
        if !spans.is_empty() {
            lanes.push(Lane {
                name: spec.name.clone(),
                unit: String::new(),
                skew: 0,
                marks: marks.to_vec(),
                spans,
            });
        }
    }
    let air = (shown.1 - shown.0) / 25;
    let shown = (shown.0.saturating_sub(air), shown.1 + air);
    for lane in &mut lanes {
        let skew = lane.skew;
        lane.spans
            .retain(|s| s.start < shown.1 && s.start + s.duration + skew > shown.0);
    }
    Some(Figure {
        name: "waterfall".into(),
        title: format!("Two epochs of {}", trace.title),
        panels: vec![Panel {
            title: String::new(),
            y: String::new(),
            x: "cycles".into(),
            content: Content::Lanes { lanes, shown },
        }],
        note: format!(
            "Bars: PE (0, 0), or a unit's first; the slanting shade behind: the wavefront on its way to the last PE. Lines: epochs of {} \
             and {} cycles, from {anchor} to {anchor}; pale: others",
            marks[1] - marks[0],
            marks[2] - marks[1],
        ),
    })
}

/// The Einsum that begins an epoch, and three successive starts of it, in the time of the first unit: two epochs as they most often
/// follow one another, the first such once the pipeline has filled, before it first empties.
fn epochs<'a>(program: &'a Program, tasks: &[&TaskSlice]) -> Option<(&'a str, [u64; 3])> {
    let count = |op: usize| tasks.iter().filter(|t| t.op == op).count();
    let ops = || (0..program.ops.len()).filter(|o| count(*o) >= 3);
    let first_phase = ops().filter(|o| program.ops[*o].phase == Some(0));
    let anchor = first_phase.min_by_key(|o| program.groups[program.ops[*o].group].place);
    let anchor = anchor.or_else(|| ops().max_by_key(|o| (count(*o), std::cmp::Reverse(*o))))?;
    let op = &program.ops[anchor];
    let frame = program.frames[op.unit];
    let own: Vec<&&TaskSlice> = tasks.iter().filter(|t| t.op == anchor).collect();
    // Before the pipeline first empties: within the first iteration of the loops at which it does.
    let outer = &program.nests[op.at.0][..program.scopes.min(program.nests[op.at.0].len())];
    let step = |rank: usize| {
        outer
            .iter()
            .filter(|l| l.cut.rank == rank)
            .map(|l| l.cut.step)
            .min()
    };
    let scope = |t: &TaskSlice| -> Vec<u64> {
        let sides = t.tile.iter().enumerate();
        sides
            .map(|(r, side)| step(r).map_or(0, |s| side.0 / s.max(1)))
            .collect()
    };
    let within = own.iter().take_while(|t| scope(t) == scope(own[0])).count();
    let within = if within >= 3 { within } else { own.len() };
    let starts: Vec<u64> = own[..within]
        .iter()
        .map(|t| t.start.saturating_sub(frame))
        .collect();
    let pairs: Vec<(u64, u64)> = starts
        .windows(3)
        .map(|w| (w[1] - w[0], w[2] - w[1]))
        .collect();
    let from = FILLED.min(pairs.len() / 2);
    let mut often: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for pair in &pairs[from..] {
        *often.entry(*pair).or_default() += 1;
    }
    // Of equally frequent ones, those that wait least.
    let least = |pair: &&(u64, u64)| (std::cmp::Reverse(often[*pair]), pair.0 + pair.1);
    let best = pairs[from..].iter().min_by_key(least)?;
    let at = from + pairs[from..].iter().position(|p| p == best)?;
    Some((&op.name, [starts[at], starts[at + 1], starts[at + 2]]))
}

impl Sheet<'_> {
    /// Draws rows.
    pub(super) fn lanes<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        lanes: &[Lane],
        (from, to): (u64, u64),
        frame: &Frame,
    ) -> Drawn<DB> {
        let x = Axis {
            low: from as f64,
            high: to as f64,
            log: false,
        };
        let wide = f64::from(frame.right - frame.left);
        let across = |value: f64| f64::from(frame.left) + x.share(value) * wide;
        for value in x.ticks() {
            let at = across(value).round() as i32;
            rule(area, (at, frame.top), (at, frame.bottom), PALE)?;
            let label = if value < 1e6 {
                format!("{value}")
            } else {
                tick(value)
            };
            let below = (at, frame.bottom + 6);
            write(area, &words(&label, below, 13, (HPos::Center, VPos::Top)))?;
        }
        for (i, lane) in lanes.iter().enumerate() {
            let top = frame.top + ROW.0 * i as i32;
            let middle = (frame.left - 6, top + ROW.0 / 2);
            write(
                area,
                &words(&lane.name, middle, 13, (HPos::Right, VPos::Center)),
            )?;
            let colour = self.colour(&lane.name);
            for mark in &lane.marks {
                let at = across(*mark as f64).round() as i32;
                if (frame.left..=frame.right).contains(&at) {
                    rule(area, (at, top), (at, top + ROW.0), MARK)?;
                }
            }
            // Behind the bars what they send through the array, the pale ones first.
            let shades = lane
                .spans
                .iter()
                .filter(|_| lane.skew > 0)
                .map(|s| (s, true));
            let mut bars: Vec<(&Span, bool)> = shades
                .chain(lane.spans.iter().map(|s| (s, false)))
                .collect();
            bars.sort_by_key(|(span, shade)| (!shade, !span.pale));
            for (span, shade) in bars {
                let place = |(x, share): (f64, f64)| {
                    let y = f64::from(top + ROW.1) + share * f64::from(ROW.0 - 2 * ROW.1);
                    let scale = f64::from(SCALE);
                    (
                        (across(x) * scale).round() as i32,
                        (y * scale).round() as i32,
                    )
                };
                let skew = if shade { lane.skew } else { 0 };
                let corners = clipped(slanted(span, skew), (x.low, x.high));
                let corners: Vec<(i32, i32)> = corners.into_iter().map(place).collect();
                let strength = match (shade, span.pale) {
                    (false, false) => 1.0,
                    (false, true) => 0.35,
                    (true, false) => 0.25,
                    (true, true) => 0.1,
                };
                area.draw(&Polygon::new(
                    corners.clone(),
                    colour.mix(strength).filled(),
                ))?;
                if shade {
                    continue;
                }
                // However short a bar is, it is seen.
                let left = corners.iter().map(|c| c.0).min().unwrap_or_default();
                if corners.iter().all(|c| c.0 < left + SCALE) && !corners.is_empty() {
                    let (above, below) = (top + ROW.1, top + ROW.0 - ROW.1);
                    let line = [(left, above * SCALE), (left, below * SCALE)];
                    let style = colour.mix(strength).stroke_width(SCALE as u32);
                    area.draw(&PathElement::new(line, style))?;
                }
                let ends = (
                    span.start.max(from) as f64,
                    (span.start + span.duration).min(to) as f64,
                );
                let (left, right) = (across(ends.0), across(ends.1));
                if f64::from(width(&span.label, 12)) + 4.0 < right - left {
                    let at = (((left + right) / 2.0) as i32, top + ROW.0 / 2);
                    let label = Words {
                        light: !span.pale,
                        ..words(&span.label, at, 12, (HPos::Center, VPos::Center))
                    };
                    write(area, &label)?;
                }
            }
        }
        self.units(area, lanes, frame)
    }

    /// Names units beside their rows, and parts them.
    fn units<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        lanes: &[Lane],
        frame: &Frame,
    ) -> Drawn<DB> {
        let mut first = 0;
        while first < lanes.len() {
            let unit = &lanes[first].unit;
            let rows = lanes[first..]
                .iter()
                .take_while(|l| l.unit == *unit)
                .count();
            let (top, bottom) = (first as i32 * ROW.0, (first + rows) as i32 * ROW.0);
            let at = (frame.left - 64, frame.top + (top + bottom) / 2);
            let name = Words {
                turned: true,
                ..words(unit, at, 14, (HPos::Center, VPos::Top))
            };
            write(area, &name)?;
            let edge = frame.top + top;
            rule(area, (frame.left - 64, edge), (frame.right, edge), INK)?;
            first += rows;
        }
        Ok(())
    }
}

/// A bar's corners: cycle, and share of the way from the first PE to the last.
fn slanted(span: &Span, skew: u64) -> Vec<(f64, f64)> {
    let (start, end) = (span.start as f64, (span.start + span.duration) as f64);
    let skew = skew as f64;
    vec![
        (start, 0.0),
        (end, 0.0),
        (end + skew, 1.0),
        (start + skew, 1.0),
    ]
}

/// The part of a convex polygon between two cycles.
fn clipped(corners: Vec<(f64, f64)>, (low, high): (f64, f64)) -> Vec<(f64, f64)> {
    let cut = |corners: Vec<(f64, f64)>, edge: f64, inside: &dyn Fn(f64) -> bool| {
        let mut out = Vec::new();
        for (i, &(x, y)) in corners.iter().enumerate() {
            let (before_x, before_y) = corners[(i + corners.len() - 1) % corners.len()];
            if inside(x) != inside(before_x) {
                let share = (edge - before_x) / (x - before_x);
                out.push((edge, before_y + share * (y - before_y)));
            }
            if inside(x) {
                out.push((x, y));
            }
        }
        out
    };
    let right = cut(corners, low, &|x| x >= low);
    cut(right, high, &|x| x <= high)
}
