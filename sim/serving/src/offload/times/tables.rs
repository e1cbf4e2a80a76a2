//! Steps as a server's own kernels were measured on a device: what an iteration of a batch takes, layer by layer.

use std::collections::{BTreeMap, VecDeque};

use einflow_spec::Problems;

use super::{Load, Operator};
use crate::{data::data, device::cells::Cells};

/// Times over one coordinate.
type Line = BTreeMap<u64, f64>;

/// Tables of one model on one device, in microseconds.
#[derive(Clone, Debug)]
pub struct ServerTables {
    layers: u64,
    dense: BTreeMap<String, Line>,
    sequences: BTreeMap<String, Line>,
    /// By chunk, tokens before it, decodes, and their context.
    attention: BTreeMap<[u64; 4], f64>,
    axes: [Vec<u64>; 4],
}

/// Layers of a decoder block, how often they run in it, and what they are.
const BLOCK: [(&str, f64, Operator); 7] = [
    ("layernorm", 2.0, Operator::Elementwise),
    ("qkv_proj", 1.0, Operator::Projections),
    ("rotary_emb", 1.0, Operator::Elementwise),
    ("o_proj", 1.0, Operator::Output),
    ("gate_up_proj", 1.0, Operator::FeedForward),
    ("act_fn", 1.0, Operator::Elementwise),
    ("down_proj", 1.0, Operator::FeedForward),
];
/// The rest run once in a step; the last two over the tokens that come out.
const ONCE: [&str; 2] = ["embedding", "final_layernorm"];
const SAMPLING: [&str; 2] = ["lm_head", "sampler"];

/// Linear between measured points. Beyond the last, as several of that size and a rest: the last two points are too near each
/// other to say how a line goes on.
fn along(line: &Line, x: u64) -> f64 {
    let Some((last, longest)) = line.last_key_value() else {
        return 0.0;
    };
    let (whole, rest) = match x > *last {
        true => (x / last, x % last),
        false => (0, x),
    };
    let below = line.range(..=rest).next_back();
    let above = line.range(rest..).next();
    let part = match (below, above) {
        _ if whole > 0 && rest == 0 => 0.0,
        (Some((x0, y0)), Some((x1, y1))) if x0 != x1 => {
            y0 + (y1 - y0) * (rest as f64 - *x0 as f64) / (*x1 as f64 - *x0 as f64)
        }
        (Some((_, y)), _) | (None, Some((_, y))) => *y,
        (None, None) => 0.0,
    };
    whole as f64 * longest + part
}

/// What every one of these lines reaches to.
fn widest(lines: &BTreeMap<String, Line>) -> u64 {
    let ends = lines.values().filter_map(|l| l.keys().next_back());
    ends.copied().min().unwrap_or(1)
}

/// Sets what the table lacks to what fewer decodes take, scaled by their number; a point for which there are none is returned.
fn filled(attention: &mut BTreeMap<[u64; 4], f64>, axes: &[Vec<u64>; 4]) -> Result<(), [u64; 4]> {
    let above = |axis: usize| axes[axis].iter().copied().filter(|v| *v > 0);
    let chunks = above(0).flat_map(|c| axes[1].iter().map(move |before| [c, *before]));
    let chunks: Vec<[u64; 2]> = if above(0).next().is_some() {
        chunks.collect()
    } else {
        vec![[1, 0]]
    };
    let decodes: Vec<[u64; 2]> = above(2)
        .flat_map(|n| above(3).map(move |k| [n, k]))
        .collect();
    let decodes = if decodes.is_empty() {
        vec![[1, 1]]
    } else {
        decodes
    };
    for [c, before] in std::iter::once([0, 0]).chain(chunks) {
        for [n, k] in std::iter::once([0, 0]).chain(decodes.iter().copied()) {
            let at = [c, before, n, k];
            if [c, n] == [0, 0] || attention.contains_key(&at) {
                continue;
            }
            let fewer = axes[2]
                .iter()
                .rev()
                .filter(|other| **other < n && **other > 0);
            let mut scaled = fewer
                .filter_map(|m| Some(attention.get(&[c, before, *m, k])? * n as f64 / *m as f64));
            let us = scaled.next().ok_or(at)?;
            attention.insert(at, us);
        }
    }
    Ok(())
}

impl ServerTables {
    /// Reads `dense.csv`, `per_sequence.csv` and `attention.csv` of a folder of the embedded set.
    ///
    /// # Errors
    /// A table that is not there, every wrong cell, and what a step needs and no row has.
    pub fn load(folder: &str, layers: u64) -> Result<Self, Problems> {
        let lines = |file: &str,
                     column: &str,
                     needed: &[&str]|
         -> Result<BTreeMap<String, Line>, Problems> {
            let cells = Cells::read(&data(&format!("{folder}/{file}"), None)?)?;
            let mut problems = cells.problems.clone();
            let mut out: BTreeMap<String, Line> = BTreeMap::new();
            for row in &cells.rows {
                let read = cells
                    .size(row, column)
                    .and_then(|x| Ok((x, cells.measured(row, "time_us")?)));
                if let Some((x, Some(us))) = problems.absorb(read.map_err(Problems::from)) {
                    let line = out.entry(cells.text(row, "layer").to_string()).or_default();
                    line.insert(x, us);
                }
            }
            for name in needed.iter().filter(|name| !out.contains_key(**name)) {
                problems.push(cells.at_header(format!("no time of the layer `{name}`")));
            }
            problems.into_result(Some(out))
        };
        let layers_of_a_step: Vec<&str> =
            BLOCK.iter().map(|(name, ..)| *name).chain(ONCE).collect();
        let dense = lines("dense.csv", "tokens", &layers_of_a_step)?;
        let sequences = lines("per_sequence.csv", "sequences", &SAMPLING)?;
        let cells = Cells::read(&data(&format!("{folder}/attention.csv"), None)?)?;
        let mut problems = cells.problems.clone();
        let (mut attention, mut axes) = (BTreeMap::new(), [const { Vec::new() }; 4]);
        let names = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"];
        for row in &cells.rows {
            let mut at = [0; 4];
            for (value, name) in at.iter_mut().zip(names) {
                let text = cells.text(row, name);
                match text.parse::<u64>() {
                    Ok(number) => *value = number,
                    Err(_) => {
                        problems.push(cells.wrong(row, name, text, "a whole number"));
                    }
                }
            }
            let us = cells.measured(row, "time_us").map_err(Problems::from);
            if let Some(Some(us)) = problems.absorb(us) {
                attention.insert(at, us);
                for (axis, value) in axes.iter_mut().zip(at) {
                    axis.push(value);
                }
            }
        }
        for axis in &mut axes {
            axis.sort_unstable();
            axis.dedup();
        }
        if let (true, Err(at)) = (problems.is_empty(), filled(&mut attention, &axes)) {
            let point: Vec<String> = names
                .iter()
                .zip(at)
                .map(|(n, v)| format!("{n} {v}"))
                .collect();
            let message = format!(
                "no time of attention at {}, nor with fewer decodes",
                point.join(", ")
            );
            problems.push(cells.at_header(message).help(
                "rows of every chunk after every length, of decodes alone, and of both together",
            ));
        }
        problems.into_result(Some(Self {
            layers,
            dense,
            sequences,
            attention,
            axes,
        }))
    }

    /// Attention of a step. Tables mix one chunk with decodes; further chunks add what they take alone beyond the smallest launch.
    fn attention(&self, load: &Load) -> f64 {
        // The largest first.
        let mut chunks: Vec<(f64, f64)> = load
            .chunks
            .iter()
            .map(|(chunk, before)| (*chunk as f64, *before as f64))
            .collect();
        chunks.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
        let context = load.tokens as f64 / (load.requests as f64).max(1.0);
        let (chunk, before) = chunks.first().copied().unwrap_or_default();
        let least = self.axes[0].iter().find(|c| **c > 0);
        let least = least.map_or(0.0, |c| self.mixed([*c as f64, 0.0, 0.0, 0.0]));
        let others: f64 = chunks
            .iter()
            .skip(1)
            .map(|(chunk, before)| (self.mixed([*chunk, *before, 0.0, 0.0]) - least).max(0.0))
            .sum();
        self.mixed([chunk, before, load.requests as f64, context]) + others
    }

    /// Attention of a chunk, the tokens before it, decodes and their context. Beyond the longest that was measured it grows with the
    /// tokens before a chunk and with the context as it does towards the end of the table, and never falls.
    fn mixed(&self, point: [f64; 4]) -> f64 {
        let mut inside = point;
        for (x, axis) in inside.iter_mut().zip(&self.axes) {
            *x = x.min(axis.last().map_or(0.0, |last| *last as f64));
        }
        let end = self.between(inside);
        let slope = |axis: usize| {
            let mut before = inside;
            let shorter = self.axes[axis].iter().rev().nth(1).copied();
            before[axis] = shorter.filter(|x| *x > 0).unwrap_or(0) as f64;
            let low = if before[axis] > 0.0 || axis == 1 {
                self.between(before)
            } else {
                0.0
            };
            (end - low).max(0.0) / (inside[axis] - before[axis])
        };
        let further = [1, 3]
            .into_iter()
            .filter(|axis| point[*axis] > inside[*axis]);
        end + further
            .map(|axis| slope(axis) * (point[axis] - inside[axis]))
            .sum::<f64>()
    }

    /// Attention within the table: linear in each coordinate between the measured points around.
    fn between(&self, point: [f64; 4]) -> f64 {
        // A coordinate of what there is none of is 0; what there is some of does not lean on what there is none of.
        let mut corners: Vec<([u64; 4], f64)> = vec![([0; 4], 1.0)];
        for (axis, x) in point.into_iter().enumerate() {
            let present = match axis {
                0 | 1 => point[0] > 0.0,
                _ => point[2] > 0.0,
            };
            let least = if axis == 1 { 0 } else { 1 };
            let values = self.axes[axis].iter().copied();
            let values: Vec<u64> = values.filter(|v| present && *v >= least).collect();
            let above = values.partition_point(|v| (*v as f64) < x);
            let (a, b) = match (
                above.checked_sub(1).and_then(|i| values.get(i)),
                values.get(above),
            ) {
                (Some(a), Some(b)) => (*a, *b),
                (Some(a), None) | (None, Some(a)) => (*a, *a),
                (None, None) => (0, 0),
            };
            let share = (x - a as f64).max(0.0) / (b - a).max(1) as f64;
            let share = if a == b { 0.0 } else { share };
            corners = corners
                .into_iter()
                .flat_map(|(mut low, weight)| {
                    let mut high = low;
                    (low[axis], high[axis]) = (a, b);
                    [(low, weight * (1.0 - share)), (high, weight * share)]
                })
                .filter(|(_, weight)| *weight != 0.0)
                .collect();
        }
        // Every corner is there: `filled` has seen to it.
        let measured = |at: &[u64; 4]| self.attention.get(at).copied().unwrap_or_default();
        corners
            .into_iter()
            .map(|(at, weight)| weight * measured(&at))
            .sum()
    }

    /// The iteration in steps that were measured: as a server with their largest as its limit would run it.
    fn pieces(&self, load: &Load) -> Vec<Load> {
        let [longest, _, most, _] = self
            .axes
            .each_ref()
            .map(|axis| axis.last().copied().unwrap_or(0));
        let widest = widest(&self.dense);
        let wide = load.chunks.iter().any(|(chunk, _)| *chunk > longest);
        if load.width() <= widest && load.requests <= most && !wide {
            return vec![load.clone()];
        }
        let (mut requests, mut tokens) = (load.requests, load.tokens);
        let mut chunks: VecDeque<(u64, u64)> = load.chunks.iter().copied().collect();
        let mut out = Vec::new();
        while requests > 0 || !chunks.is_empty() {
            let mut piece = Load {
                requests: requests.min(most).min(widest),
                ..Load::default()
            };
            piece.tokens = (u128::from(tokens) * u128::from(piece.requests)
                / u128::from(requests.max(1))) as u64;
            (requests, tokens) = (requests - piece.requests, tokens - piece.tokens);
            let mut room = widest - piece.requests;
            while let Some((chunk, before)) = chunks.pop_front() {
                let now = chunk.min(room).min(longest);
                if now < chunk {
                    chunks.push_front((chunk - now, before + now));
                }
                if now == 0 {
                    break;
                }
                piece.chunks.push((now, before));
                room -= now;
                if now < chunk && now == longest {
                    break;
                }
            }
            out.push(piece);
        }
        out
    }

    /// What an iteration takes, by operator, in microseconds.
    pub fn step(&self, load: &Load) -> Vec<(Operator, f64)> {
        let pieces = self.pieces(load);
        let dense = |name: &str| -> f64 {
            let line = self.dense.get(name);
            let of = |line| pieces.iter().map(|p| along(line, p.width())).sum();
            line.map_or(0.0, of)
        };
        let layers = self.layers as f64;
        let mut out: Vec<(Operator, f64)> = BLOCK
            .iter()
            .map(|(name, times, operator)| (*operator, times * dense(name) * layers))
            .collect();
        let attention: f64 = pieces.iter().map(|p| self.attention(p)).sum();
        out.push((Operator::Attention, attention * layers));
        out.extend(ONCE.map(|name| (Operator::Elementwise, dense(name))));
        if load.sampled > 0 {
            let sampled = |name: &str| {
                let line = self.sequences.get(name);
                line.map_or(0.0, |line| along(line, load.sampled))
            };
            out.extend(SAMPLING.map(|name| (Operator::Head, sampled(name))));
        }
        out
    }

    /// What of an iteration is beyond what was measured, if anything.
    pub fn beyond(&self, load: &Load) -> Option<String> {
        let [chunk, before, requests, context] =
            [0, 1, 2, 3].map(|axis| self.axes[axis].last().copied().unwrap_or(0));
        let largest = |of: fn(&(u64, u64)) -> u64| load.chunks.iter().map(of).max().unwrap_or(0);
        [
            ("tokens", load.width(), widest(&self.dense)),
            (
                "tokens that come out",
                load.sampled,
                widest(&self.sequences),
            ),
            ("tokens of a chunk", largest(|c| c.0), chunk),
            ("tokens before a chunk", largest(|c| c.1), before),
            ("requests that decode", load.requests, requests),
            (
                "tokens of context",
                load.tokens / load.requests.max(1),
                context,
            ),
        ]
        .into_iter()
        .find(|(_, found, measured)| found > measured)
        .map(|(what, _, measured)| {
            let how = match what {
                "tokens before a chunk" | "tokens of context" => "extrapolated",
                _ => "taken as several",
            };
            format!("steps beyond the {measured} {what} that were measured: {how}")
        })
    }
}
