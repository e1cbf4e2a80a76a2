//! A device by its tables: linear interpolation between what was measured.

use std::{collections::BTreeMap, path::Path};

use einflow_arch::device::{Attention, Chip, Device, Kernel, Operands, law, operator};
use einflow_spec::{Problem, Problems, Stored, quantity::Seconds};

use super::{
    Answer, Call, Launch, Step,
    table::{Row, Table},
};

/// The measured grid of one family: by the outer coordinate, times over the inner one.
#[derive(Clone, Debug, Default)]
struct Grid {
    lines: BTreeMap<u64, Vec<Point>>,
    warm: bool,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    /// The inner coordinate.
    x: f64,
    /// Bytes that the kernel touches.
    bytes: f64,
    us: f64,
    /// The inner coordinate as a table has it.
    shown: u64,
}

/// How much of the longest causal block of queries is left over at the end; what fits to both libraries on an H200 say.
const IMBALANCE: f64 = 0.8;

/// Tables of a device.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    name: String,
    chip: Chip,
    grids: BTreeMap<String, Grid>,
}

/// Where a kernel lies: its family, the outer coordinate, and the inner one, in which times are near to linear.
fn place(chip: &Chip, call: &Call, launch: Launch) -> (String, u64, f64) {
    let suffix = match launch {
        Launch::Graph => ":graph",
        Launch::Eager => "",
    };
    let law = &call.law;
    let heads = |a: &Attention| {
        let kept = match a.cached == Stored::BF16 || a.causal {
            true => String::new(),
            false => format!(" cached in {}", a.cached),
        };
        format!("h={} hkv={} d={}{kept}", a.heads, a.key_heads, a.width)
    };
    match &call.kernel {
        Kernel::Product {
            batch,
            m,
            k,
            n,
            operands,
        } => (
            match batch {
                // A table's own laws say how its operands are held; of others it says nothing.
                _ if *operands != Operands::WORDS && operator(law) == law => {
                    format!("{law}{suffix} of k={k} n={n} in {}", operands.weights)
                }
                1 => format!("{law}{suffix} of k={k} n={n}"),
                _ => format!("{law}{suffix} of k={k} n={n}, {batch} at once"),
            },
            0,
            *m as f64,
        ),
        // The work grows with the square of the length, and in whole waves of blocks.
        Kernel::Prefill(a) => (
            format!(
                "{law}{suffix} of {} causal={}",
                heads(a),
                u8::from(a.causal)
            ),
            a.batch,
            law::steps(chip, a, IMBALANCE),
        ),
        Kernel::Decode(a) => (
            format!("{law}{suffix} of {}", heads(a)),
            a.batch,
            a.length as f64,
        ),
        Kernel::Pass { bytes, .. } => (format!("{law}{suffix}"), 0, *bytes as f64),
        // Shapes of more than two coordinates: each is a family of its own, answered where it was measured.
        other => (format!("{law}{suffix} of {other:?}"), 0, 1.0),
    }
}

/// On the line through two points.
fn line(a: Point, b: Point, x: f64) -> f64 {
    if b.x == a.x {
        return a.us;
    }
    a.us + (b.us - a.us) * (x - a.x) / (b.x - a.x)
}

impl Profile {
    pub fn load(
        device: &Device,
        paths: &[String],
        beside: Option<&Path>,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut profile = Self {
            name: device.name.clone(),
            chip: device.chip,
            grids: BTreeMap::new(),
        };
        for path in paths {
            let table = crate::data::data(path, beside)
                .map_err(Problems::from)
                .and_then(|source| Table::read(&source, None));
            let Some(table) = problems.absorb(table) else {
                continue;
            };
            for problem in impossible(device, &table) {
                problems.push(problem);
            }
            let own = |row: &&Row| row.of(&device.name);
            profile.add(&table, table.rows.iter().filter(own));
        }
        problems.into_result(Some(profile))
    }

    fn add<'r>(&mut self, table: &Table, rows: impl Iterator<Item = &'r Row>) {
        for row in rows {
            for (_, measured, task) in &row.columns {
                let ([Step::Call(call)], Some(us)) = (task.steps.as_slice(), measured) else {
                    continue;
                };
                let (family, outer, x) = place(&self.chip, call, table.launch);
                let grid = self.grids.entry(family).or_default();
                grid.warm |= !call.flushed;
                let points = grid.lines.entry(outer).or_default();
                let at = points.partition_point(|p| p.x < x);
                let point = Point {
                    x,
                    bytes: call.kernel.bytes(),
                    us: *us,
                    shown: match &call.kernel {
                        Kernel::Product { m, .. } => *m,
                        Kernel::Pass { bytes, .. } => *bytes,
                        Kernel::Grouped { rows, .. } => rows.iter().sum(),
                        Kernel::Prefill(a)
                        | Kernel::Decode(a)
                        | Kernel::Latent(a)
                        | Kernel::Ragged { shape: a, .. }
                        | Kernel::Masked { shape: a, .. }
                        | Kernel::Chunked(a) => a.length,
                    },
                };
                match points.get_mut(at) {
                    // Measured twice: the mean.
                    Some(known) if known.x == x => known.us = (known.us + us) / 2.0,
                    _ => points.insert(at, point),
                }
            }
        }
    }

    /// What a kernel takes, between what was measured; beyond it only where `extrapolate`, with a flag.
    pub fn time(&self, call: &Call, launch: Launch, extrapolate: bool) -> Result<Answer, Problem> {
        let (family, outer, x) = place(&self.chip, call, launch);
        let Some(grid) = self.grids.get(&family) else {
            let operator = family.split(" of ").next().unwrap_or(&family);
            let alike: Vec<&str> = self
                .grids
                .keys()
                .filter(|k| k.split(" of ").next() == Some(operator))
                .filter_map(|k| k.split(" of ").nth(1))
                .take(6)
                .collect();
            let problem = Problem::nowhere(format!("{} has not measured {family}", self.name));
            return Err(match alike.is_empty() {
                true => problem.help(einflow_spec::did_you_mean(
                    operator,
                    self.grids.keys().filter_map(|k| k.split(" of ").next()),
                )),
                false => problem.help(format!("it has measured {}, ...", alike.join("; "))),
            });
        };
        let bytes = call.kernel.bytes();
        let along = |points: &[Point]| self.along(points, x, bytes, grid.warm);
        let (us, inside) = match grid.lines.get(&outer) {
            Some(points) => along(points),
            None => {
                let below = grid.lines.range(..outer).next_back();
                let above = grid.lines.range(outer..).next();
                let (pair, within) = match (below, above) {
                    (Some(a), Some(b)) => ([a, b], true),
                    _ => {
                        let mut ends: Vec<_> = match below {
                            Some(_) => grid.lines.iter().rev().take(2).collect(),
                            None => grid.lines.iter().take(2).collect(),
                        };
                        ends.sort_by_key(|(at, _)| **at);
                        match ends.as_slice() {
                            [a, b] => ([*a, *b], false),
                            [a] => ([*a, *a], false),
                            _ => return Err(Problem::nowhere("an empty table")),
                        }
                    }
                };
                let ends = pair.map(|(at, points)| {
                    let (us, inside) = along(points);
                    (*at as f64, us, inside)
                });
                let [(x0, y0, i0), (x1, y1, i1)] = ends;
                let share = if x1 > x0 {
                    (outer as f64 - x0) / (x1 - x0)
                } else {
                    0.0
                };
                (y0 + (y1 - y0) * share, within && i0 && i1)
            }
        };
        if inside {
            return Ok(Answer {
                time: Seconds(us * 1e-6),
                flags: Vec::new(),
            });
        }
        if !extrapolate || us <= 0.0 {
            let lines: Vec<String> = grid
                .lines
                .iter()
                .filter_map(|(outer, points)| {
                    let (first, last) = (points.first()?, points.last()?);
                    let (first, last) = (first.shown, last.shown);
                    Some(match outer {
                        0 => format!("{first} to {last}"),
                        _ => format!("batch {outer}: {first} to {last}"),
                    })
                })
                .collect();
            return Err(Problem::nowhere(format!(
                "{family} beyond what {} has measured",
                self.name
            ))
            .help(format!(
                "measured: {}; --extrapolate goes on beyond, with a flag",
                lines.join("; ")
            )));
        }
        Ok(Answer {
            time: Seconds(us * 1e-6),
            flags: vec!["extrapolated".into()],
        })
    }

    /// Along a line, and whether that is between measured points.
    fn along(&self, points: &[Point], x: f64, bytes: f64, warm: bool) -> (f64, bool) {
        let at = points.partition_point(|p| p.x < x);
        if let Some(exact) = points.get(at).filter(|p| p.x == x) {
            return (exact.us, true);
        }
        let inside = at > 0 && at < points.len();
        // Data that fit in the last-level cache, and data that do not, are two regimes: no line joins them.
        let cache = self.chip.cache.0 as f64;
        let fits = |p: &Point| !warm || (p.bytes <= cache) == (bytes <= cache);
        let same: Vec<Point> = points.iter().filter(|p| fits(p)).copied().collect();
        let own = if same.len() >= 2 {
            same
        } else {
            points.to_vec()
        };
        let at = own.partition_point(|p| p.x < x);
        let us = match own.as_slice() {
            [] => f64::NAN,
            [only] => only.us,
            _ => {
                let at = at.clamp(1, own.len() - 1);
                line(own[at - 1], own[at], x)
            }
        };
        (us, inside)
    }
}

/// Rows of a table that the device cannot have reached: faster than its memory or its matrix units, by far more than its cache holds.
fn impossible(device: &Device, table: &Table) -> Vec<Problem> {
    let chip = &device.chip;
    let mut out = Vec::new();
    for row in &table.rows {
        if !row.of(&device.name) {
            continue;
        }
        for (column, measured, task) in &row.columns {
            let ([Step::Call(call)], Some(us)) = (task.steps.as_slice(), measured) else {
                continue;
            };
            let bytes = call.kernel.bytes();
            let reached = bytes / (us * 1e-6);
            let worked = call.kernel.operations() / (us * 1e-6);
            let message = if bytes > 4.0 * chip.cache.0 as f64 && reached > chip.bandwidth.0 {
                format!(
                    "{:.2} TB/s of the memory's {:.2} for {:.0} MB, 4 times the cache or more",
                    reached * 1e-12,
                    chip.bandwidth.0 * 1e-12,
                    bytes * 1e-6
                )
            } else if worked > chip.matrix.0 {
                format!(
                    "{:.0} TFLOP/s of the {:.0} of its matrix units",
                    worked * 1e-12,
                    chip.matrix.0 * 1e-12
                )
            } else {
                continue;
            };
            let cell = &table.cells.rows[row.at];
            out.push(
                table
                    .cells
                    .at_row(
                        cell,
                        format!(
                            "row {}, field `{column}`: {us} us is impossible on {}: {message}",
                            cell.number, device.name
                        ),
                    )
                    .help("measure it again, or leave the row out"),
            );
        }
    }
    out
}

/// Relative errors of interpolation at each measured point but those at a grid's rim, from all the others, by law.
pub fn between_points(device: &Device, table: &Table) -> BTreeMap<String, Vec<f64>> {
    let own: Vec<&Row> = table.rows.iter().filter(|r| r.of(&device.name)).collect();
    let mut out: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (left_out, row) in own.iter().enumerate() {
        let mut profile = Profile {
            name: device.name.clone(),
            chip: device.chip,
            grids: BTreeMap::new(),
        };
        let others = own.iter().enumerate().filter(|(i, _)| *i != left_out);
        profile.add(table, others.map(|(_, r)| *r));
        for (_, measured, task) in &row.columns {
            let ([Step::Call(call)], Some(us)) = (task.steps.as_slice(), measured) else {
                continue;
            };
            if let Ok(answer) = profile.time(call, table.launch, false) {
                let error = answer.time.0 * 1e6 / us - 1.0;
                out.entry(call.law.clone()).or_default().push(error);
            }
        }
    }
    out
}
