//! A law's parameters from measured times.

use std::collections::BTreeMap;

use einflow_arch::device::{
    Chip, DeviceLink, Kernel, Number,
    law::{self, Sloped},
    law_parameters, links,
};
use einflow_spec::quantity::BytesPerSecond;
use nalgebra::{DMatrix, DVector};

use super::{
    Launch, Step,
    table::{Row, Table},
};

/// Measured times of one law.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Each a kernel, whether its data are flushed, the measured microseconds, and the group that it belongs to.
    pub all: Vec<Sample>,
}

/// One measured time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The kernel.
    pub kernel: Kernel,
    /// Nothing of its data is in the cache when it begins.
    pub flushed: bool,
    /// Microseconds.
    pub us: f64,
    /// Its group.
    pub group: String,
}

/// Parameters that were found.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The values, in the order of the law's parameters.
    pub values: Vec<f64>,
    /// One standard deviation of each, relative; none: it was kept, or the samples say nothing of it.
    pub uncertainty: Vec<Option<f64>>,
    /// Mean and largest relative error over the samples.
    pub error: (f64, f64),
}

/// Errors beyond this count by their size, not by their square: a few odd measurements do not draw the rest.
const ROBUST: f64 = 0.1;
/// Rounds of the search; a few tens do.
const ROUNDS: usize = 100;

impl Samples {
    /// The samples of each law in some rows of a table: of single kernels.
    pub fn of<'r>(
        launch: Launch,
        rows: impl IntoIterator<Item = &'r Row>,
    ) -> BTreeMap<String, Samples> {
        let mut out: BTreeMap<String, Samples> = BTreeMap::new();
        for row in rows {
            for (_, measured, task) in &row.columns {
                let ([Step::Call(call)], Some(us)) = (task.steps.as_slice(), measured) else {
                    continue;
                };
                let name = match launch {
                    Launch::Graph => format!("{}:graph", call.law),
                    Launch::Eager => call.law.clone(),
                };
                out.entry(name).or_default().all.push(Sample {
                    kernel: call.kernel.clone(),
                    flushed: call.flushed,
                    us: *us,
                    group: row.group.clone(),
                });
            }
        }
        out
    }

    /// Relative errors of a law's times.
    pub fn errors(&self, chip: &Chip, values: &[f64]) -> Vec<f64> {
        let error = |s: &Sample| {
            let time = law::time(chip, &s.kernel, values, s.flushed);
            time.0 * 1e6 / s.us - 1.0
        };
        self.all.iter().map(error).collect()
    }
}

/// Mean and largest magnitude.
pub fn size(errors: &[f64]) -> (f64, f64) {
    let sum: f64 = errors.iter().map(|e| e.abs()).sum();
    let most = errors.iter().map(|e| e.abs()).fold(0.0, f64::max);
    (sum / errors.len().max(1) as f64, most)
}

/// Fits a law by its name. `keep`: parameters that stay at these values.
///
/// # Errors
/// No such law; fewer samples than parameters.
pub fn fit(
    name: &str,
    chip: &Chip,
    samples: &Samples,
    keep: &BTreeMap<String, f64>,
) -> Result<Fit, String> {
    fit_from(name, chip, samples, keep, None)
}

/// [`fit`] from one start, such as what more samples gave: a search that is near its end takes few rounds.
///
/// # Errors
/// As [`fit`].
pub fn fit_from(
    name: &str,
    chip: &Chip,
    samples: &Samples,
    keep: &BTreeMap<String, f64>,
    start: Option<&[f64]>,
) -> Result<Fit, String> {
    let parameters = law_parameters(name).ok_or_else(|| format!("there is no law `{name}`"))?;
    let mut keep = keep.clone();
    // Of a cache, times without one say nothing.
    if samples.all.iter().all(|s| s.flushed) {
        for p in parameters.iter().filter(|p| p.name.starts_with("cache")) {
            keep.entry(p.name.to_string()).or_insert(p.start);
        }
    }
    let call = |s: &Sample| (law::Call::new(chip, &s.kernel, s.flushed, 0), s.us);
    let calls: Vec<_> = samples.all.iter().map(call).collect();
    search(name, parameters, &keep, start, &calls[..])
}

/// Measured times beside what a law says of them.
trait Measured {
    fn rows(&self) -> usize;

    /// The law's time over the measured one.
    fn ratio<N: Number>(&self, row: usize, values: &[N]) -> N;

    /// Their logarithms.
    fn logs(&self, values: &[f64]) -> Vec<f64> {
        (0..self.rows())
            .map(|r| self.ratio(r, values).ln())
            .collect()
    }
}

/// Kernels, with their microseconds.
impl Measured for [(law::Call<'_>, f64)] {
    fn rows(&self) -> usize {
        self.len()
    }

    fn ratio<N: Number>(&self, row: usize, values: &[N]) -> N {
        let (call, us) = &self[row];
        call.us(values) / N::of(*us)
    }
}

/// Messages over a link with this peak.
impl Measured for (BytesPerSecond, &LinkSamples) {
    fn rows(&self) -> usize {
        self.1.all.len()
    }

    fn ratio<N: Number>(&self, row: usize, values: &[N]) -> N {
        let (bytes, steps, count, us) = self.1.all[row];
        law::transfer(self.0, bytes, steps, values) * count as f64 / N::of(us)
    }
}

/// Messages of one operation over a link.
#[derive(Clone, Debug, Default)]
pub struct LinkSamples {
    /// Each the bytes that a device sends, the devices beyond two, how many messages, and the measured microseconds of all.
    pub all: Vec<(f64, u64, u64, f64)>,
}

/// The messages of each link and operation in a table.
pub fn link_samples(table: &Table) -> BTreeMap<(String, String), LinkSamples> {
    let mut out: BTreeMap<(String, String), LinkSamples> = BTreeMap::new();
    for row in &table.rows {
        for (_, measured, task) in &row.columns {
            let ([step], Some(us)) = (task.steps.as_slice(), measured) else {
                continue;
            };
            let (key, sample) = match step {
                Step::Send {
                    operation,
                    link,
                    bytes,
                    count,
                } => ((link, operation), (*bytes as f64, 0, *count, *us)),
                Step::AllReduce {
                    operation,
                    link,
                    bytes,
                    devices,
                    how,
                } => {
                    let sent = how.sent(*devices, *bytes);
                    ((link, operation), (sent, devices.saturating_sub(2), 1, *us))
                }
                _ => continue,
            };
            let key = (key.0.clone(), key.1.clone());
            out.entry(key).or_default().all.push(sample);
        }
    }
    out
}

/// Fits an operation over a link with this peak.
///
/// # Errors
/// Fewer samples than parameters.
pub fn fit_link(name: &str, peak: BytesPerSecond, samples: &LinkSamples) -> Result<Fit, String> {
    let mut keep = BTreeMap::new();
    if samples.all.iter().all(|s| s.1 == 0) {
        // Two devices say nothing of a third.
        let step = law::TRANSFER.iter().filter(|p| p.name == "step");
        keep.extend(step.map(|p| (p.name.to_string(), p.start)));
    }
    search(name, law::TRANSFER, &keep, None, &(peak, samples))
}

/// Levenberg and Marquardt's search in the logarithms of parameters and times, so that every parameter stays positive and a short time
/// counts like a long one; from each start, as a cache makes two valleys.
fn search<M: Measured + ?Sized>(
    name: &str,
    parameters: &'static [law::Parameter],
    keep: &BTreeMap<String, f64>,
    near: Option<&[f64]>,
    measured: &M,
) -> Result<Fit, String> {
    let rows = measured.rows();
    let near = near.filter(|n| n.len() == parameters.len());
    let start: Vec<f64> = parameters
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let from = near.map_or(p.start, |n| n[i]);
            keep.get(p.name).copied().unwrap_or(from)
        })
        .collect();
    let open: Vec<usize> = (0..parameters.len())
        .filter(|i| !keep.contains_key(parameters[*i].name))
        .collect();
    if rows < open.len() {
        return Err(format!(
            "{rows} measured times for the {} parameters of `{name}`",
            open.len()
        ));
    }
    let mut best = descend(parameters, &open, start.clone(), measured);
    for (name, factor) in OTHER_STARTS {
        let at = open.iter().find(|i| parameters[**i].name == name);
        if let (Some(at), None) = (at, near) {
            let mut other = start.clone();
            other[*at] *= factor;
            let found = descend(parameters, &open, other, measured);
            if found.1 < best.1 {
                best = found;
            }
        }
    }
    let (values, _, normal) = best;
    let logs = measured.logs(&values);
    let freedom = (rows as f64 - open.len() as f64).max(1.0);
    let variance = logs.iter().map(|r| r * r).sum::<f64>() / freedom;
    let mut uncertainty = vec![None; parameters.len()];
    // What no sample depends on has no uncertainty to speak of, and would make the rest singular.
    let felt: Vec<usize> = (0..open.len())
        .filter(|c| normal[(*c, *c)] > 1e-6)
        .collect();
    let inner = DMatrix::from_fn(felt.len(), felt.len(), |a, b| normal[(felt[a], felt[b])]);
    if let Some(inverse) = inner.try_inverse() {
        for (a, c) in felt.iter().enumerate() {
            let own = (inverse[(a, a)] * variance).sqrt();
            uncertainty[open[*c]] = own.is_finite().then_some(own);
        }
    }
    let errors: Vec<f64> = logs.iter().map(|r| r.exp_m1()).collect();
    Ok(Fit {
        values,
        uncertainty,
        error: size(&errors),
    })
}

/// Where further searches begin: with a cache of which little serves, with units that do half as well. Each is a valley of its own.
const OTHER_STARTS: [(&str, f64); 2] = [("cached", 0.15), ("efficiency", 0.5)];

fn cost(logs: &[f64]) -> f64 {
    let one = |r: &f64| match r.abs() {
        r if r < ROBUST => r * r,
        r => ROBUST * (2.0 * r - ROBUST),
    };
    logs.iter().map(one).sum()
}

/// From one start: the values, their cost, and the normal matrix there.
fn descend<M: Measured + ?Sized>(
    parameters: &[law::Parameter],
    open: &[usize],
    mut values: Vec<f64>,
    measured: &M,
) -> (Vec<f64>, f64, DMatrix<f64>) {
    let moved = |values: &[f64], step: &[f64]| -> Vec<f64> {
        let mut out = values.to_vec();
        for (i, s) in open.iter().zip(step) {
            let (low, high) = parameters[*i].range;
            out[*i] = (out[*i].ln() - s.clamp(-1.0, 1.0)).exp().clamp(low, high);
        }
        out
    };
    let mut now = measured.logs(&values);
    let columns = open.len();
    if columns == 0 {
        let found = cost(&now);
        return (values, found, DMatrix::zeros(0, 0));
    }
    let mut damping = 1e-2;
    let mut normal = DMatrix::zeros(columns, columns);
    for _ in 0..ROUNDS {
        let mut gradient;
        (normal, gradient) = slopes(open, &values, &now, measured);
        // What would leave its range stays where it is, and the others move without it.
        let mut free = normal.clone();
        for (c, i) in open.iter().enumerate() {
            let (low, high) = parameters[*i].range;
            let (value, down) = (values[*i], gradient[c] > 0.0);
            if down && value <= low || !down && value >= high {
                free.row_mut(c).fill(0.0);
                free.column_mut(c).fill(0.0);
                gradient[c] = 0.0;
            }
        }
        let before = cost(&now);
        let mut after = before;
        for _ in 0..12 {
            let mut system = free.clone();
            for i in 0..columns {
                system[(i, i)] += damping * (free[(i, i)] + 1e-9);
            }
            let Some(step) = system.lu().solve(&gradient) else {
                damping *= 10.0;
                continue;
            };
            let tried = moved(&values, step.as_slice());
            let errors = measured.logs(&tried);
            let found = cost(&errors);
            if found.is_finite() && found < before {
                (values, now, after) = (tried, errors, found);
                damping = (damping / 5.0_f64).max(1e-9);
                break;
            }
            damping *= 4.0;
        }
        if before - after <= 1e-7 * before {
            break;
        }
    }
    let found = cost(&now);
    (values, found, normal)
}

/// The normal matrix and the gradient of the errors `now`, along the logarithms of the open parameters; large errors weigh less.
fn slopes<M: Measured + ?Sized>(
    open: &[usize],
    values: &[f64],
    now: &[f64],
    measured: &M,
) -> (DMatrix<f64>, DVector<f64>) {
    let mut sloped: Vec<Sloped<{ law::MOST }>> = values.iter().map(|v| Number::of(*v)).collect();
    for (c, i) in open.iter().enumerate() {
        sloped[*i].slopes[c] = values[*i];
    }
    let mut normal = [[0.0; law::MOST]; law::MOST];
    let mut gradient = [0.0; law::MOST];
    for (row, error) in now.iter().enumerate() {
        let ratio = measured.ratio(row, &sloped);
        let slopes = ratio.slopes.map(|s| s / ratio.value);
        let weight = (ROBUST / error.abs()).min(1.0);
        for ((slope, sums), sum) in slopes.iter().zip(&mut normal).zip(&mut gradient) {
            let weighted = slope * weight;
            *sum += weighted * error;
            for (own, other) in sums.iter_mut().zip(&slopes) {
                *own += weighted * other;
            }
        }
    }
    let columns = open.len();
    (
        DMatrix::from_fn(columns, columns, |a, b| normal[a][b]),
        DVector::from_fn(columns, |a, _| gradient[a]),
    )
}

/// The samples of every law of a table's own device rows.
pub fn of_table(table: &Table, device: &str) -> BTreeMap<String, Samples> {
    let own = |row: &&Row| row.of(device);
    Samples::of(table.launch, table.rows.iter().filter(own))
}

/// The law from which another inherits what its measurements do not tell, and the parameters that it inherits: a graph takes the host away,
/// not the units; a normalisation reads memory like any pass.
fn parent(name: &str) -> Option<(String, &'static [&'static str])> {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        ["product", "graph"] => Some((
            "product".into(),
            &[
                "efficiency",
                "tile_penalty",
                "throttle",
                "throttle_after",
                "step",
            ],
        )),
        ["pass", "graph"] => Some(("pass".into(), &["bandwidth", "ramp", "row"])),
        ["pass", _, "graph"] => Some((
            "pass:graph".into(),
            &["bandwidth", "ramp", "cache_bandwidth", "cached"],
        )),
        // A framework on each of two devices: another launch of the same kernel.
        ["divided", "decode", library] => Some((
            format!("decode:{library}"),
            &["ramp", "head", "combine", "cache_bandwidth", "cached"],
        )),
        _ => None,
    }
}

/// A law that was fitted.
#[derive(Clone, Debug)]
pub struct FittedLaw {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub fit: Fit,
    /// Where the times come from.
    pub tables: Vec<String>,
    /// How many.
    pub samples: usize,
    /// The shortest and the longest, in microseconds; none: of an operation over a link.
    pub times: Option<(f64, f64)>,
    /// They are fewer than the parameters, which stay what the device said of them.
    pub stood: bool,
}

/// The least and the largest.
fn ends(times: impl Iterator<Item = f64>) -> (f64, f64) {
    times.fold((f64::INFINITY, 0.0), |(a, b), t| (a.min(t), b.max(t)))
}

/// What a law keeps of the one that it inherits from.
pub fn kept(name: &str, known: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, f64> {
    let Some((from, names)) = parent(name) else {
        return BTreeMap::new();
    };
    let (Some(values), Some(parameters)) = (known.get(&from), law_parameters(&from)) else {
        return BTreeMap::new();
    };
    let pairs = parameters.iter().zip(values);
    pairs
        .filter(|(p, _)| names.contains(&p.name))
        .map(|(p, v)| (p.name.to_string(), *v))
        .collect()
}

/// Fits every law that the tables measure, those first from which others inherit. `known`: laws that the device has already.
///
/// # Errors
/// A law with fewer samples than parameters.
pub fn fit_all(
    device: &str,
    chip: &Chip,
    tables: &[Table],
    known: &BTreeMap<String, Vec<f64>>,
) -> Result<Vec<FittedLaw>, String> {
    let mut samples: BTreeMap<String, (Samples, Vec<String>)> = BTreeMap::new();
    for table in tables {
        for (name, own) in of_table(table, device) {
            let entry = samples.entry(name).or_default();
            entry.0.all.extend(own.all);
            entry.1.push(table.cells.source.name().to_string());
        }
    }
    let mut known = known.clone();
    let mut order: Vec<_> = samples.into_iter().collect();
    // `pass` before `pass:graph` before `pass:norm:graph`.
    let inherits = |name: &str| {
        let mut depth = 0;
        let mut at = name.to_string();
        while let Some((from, _)) = parent(&at) {
            (depth, at) = (depth + 1, from);
        }
        depth
    };
    order.sort_by_key(|(name, _)| (inherits(name), name.clone()));
    let mut out = Vec::new();
    for (name, (samples, tables)) in order {
        let mut keep = kept(&name, &known);
        let parameters = law_parameters(&name).unwrap_or_default();
        // What the device says already stands where there are too few times to say otherwise.
        let own = known
            .get(&name)
            .filter(|_| samples.all.len() < parameters.len());
        for (parameter, value) in parameters.iter().zip(own.into_iter().flatten()) {
            keep.insert(parameter.name.to_string(), *value);
        }
        let stood = own.is_some();
        let found = fit(&name, chip, &samples, &keep)?;
        known.insert(name.clone(), found.values.clone());
        out.push(FittedLaw {
            name,
            fit: found,
            tables,
            samples: samples.all.len(),
            times: Some(ends(samples.all.iter().map(|s| s.us))),
            stood,
        });
    }
    Ok(out)
}

/// Fits every operation of every link that the tables measure; the link's file in the library gives its peak.
///
/// # Errors
/// An operation with fewer samples than parameters.
pub fn fit_links(tables: &[Table]) -> Result<BTreeMap<String, Vec<FittedLaw>>, String> {
    let mut samples: BTreeMap<(String, String), (LinkSamples, Vec<String>)> = BTreeMap::new();
    for table in tables {
        for (key, own) in link_samples(table) {
            let entry = samples.entry(key).or_default();
            entry.0.all.extend(own.all);
            entry.1.push(table.cells.source.name().to_string());
        }
    }
    let mut out: BTreeMap<String, Vec<FittedLaw>> = BTreeMap::new();
    for ((link, name), (samples, tables)) in samples {
        let known = links().get(&link).map(|s| DeviceLink::parse(&s));
        let Some(Ok(known)) = known else {
            return Err(format!("there is no link `{link}` in the library"));
        };
        let found = fit_link(&name, known.bandwidth, &samples)?;
        out.entry(link).or_default().push(FittedLaw {
            name,
            fit: found,
            tables,
            samples: samples.all.len(),
            times: None,
            stood: false,
        });
    }
    Ok(out)
}
