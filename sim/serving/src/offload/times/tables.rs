//! Steps as a server's own kernels were measured on a device: what an iteration of a batch takes, layer by layer.

use std::collections::BTreeMap;

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

/// Linear between measured points, and on by the last two beyond them.
fn along(line: &Line, x: f64) -> f64 {
    let below = line.range(..=(x.floor() as u64)).next_back();
    let above = line.range((x.ceil() as u64)..).next();
    let pair = match (below, above) {
        (Some(a), Some(b)) => (a, b),
        (Some(_), None) => {
            let mut ends = line.iter().rev();
            match (ends.next(), ends.next()) {
                (Some(b), Some(a)) => (a, b),
                (Some(a), None) => (a, a),
                _ => return f64::NAN,
            }
        }
        (None, Some(b)) => (b, b),
        (None, None) => return f64::NAN,
    };
    let ((x0, y0), (x1, y1)) = pair;
    if x0 == x1 {
        return *y0;
    }
    y0 + (y1 - y0) * (x - *x0 as f64) / (*x1 as f64 - *x0 as f64)
}

impl ServerTables {
    /// Reads `dense.csv`, `per_sequence.csv` and `attention.csv` of a folder of the embedded set.
    ///
    /// # Errors
    /// A table that is not there, and every wrong cell.
    pub fn load(folder: &str, layers: u64) -> Result<Self, Problems> {
        let lines = |file: &str, column: &str| -> Result<BTreeMap<String, Line>, Problems> {
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
            problems.into_result(Some(out))
        };
        let dense = lines("dense.csv", "tokens")?;
        let sequences = lines("per_sequence.csv", "sequences")?;
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

    /// Attention of a chunk, the tokens before it, decodes and their context: linear in each between the measured points around.
    fn mixed(&self, point: [f64; 4]) -> f64 {
        // A coordinate of what there is none of is 0; what there is some of does not lean on what there is none of.
        let mut corners: Vec<([u64; 4], f64)> = vec![([0; 4], 1.0)];
        for (axis, x) in point.into_iter().enumerate() {
            let present = match axis {
                0 | 1 => point[0] > 0.0,
                _ => point[2] > 0.0,
            };
            let least = if axis == 1 { 0 } else { 1 };
            let values: Vec<u64> = self.axes[axis]
                .iter()
                .copied()
                .filter(|v| if present { *v >= least } else { *v == 0 })
                .collect();
            let Some(first) = values.first() else {
                return f64::NAN;
            };
            let (a, b, share) = if x <= *first as f64 {
                (*first, *first, 0.0)
            } else {
                let at = values
                    .partition_point(|v| (*v as f64) < x)
                    .min(values.len() - 1);
                let (a, b) = (values[at.saturating_sub(1)], values[at]);
                (a, b, (x - a as f64) / (b - a).max(1) as f64)
            };
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
        corners
            .into_iter()
            .map(|(at, weight)| weight * self.nearest(at))
            .sum()
    }

    /// A measured point; where the table lacks it, that of fewer decodes, scaled by their number.
    fn nearest(&self, at: [u64; 4]) -> f64 {
        if let Some(us) = self.attention.get(&at) {
            return *us;
        }
        let fewer = self.axes[2].iter().rev().filter(|n| **n < at[2] && **n > 0);
        for n in fewer {
            let other = [at[0], at[1], *n, at[3]];
            if let Some(us) = self.attention.get(&other) {
                return us * at[2] as f64 / *n as f64;
            }
        }
        f64::NAN
    }

    /// What an iteration takes, by operator, in microseconds.
    pub fn step(&self, load: &Load) -> Vec<(Operator, f64)> {
        let dense = |name: &str| {
            let line = self.dense.get(name);
            line.map_or(f64::NAN, |line| along(line, load.width() as f64))
        };
        let layers = self.layers as f64;
        let mut out: Vec<(Operator, f64)> = BLOCK
            .iter()
            .map(|(name, times, operator)| (*operator, times * dense(name) * layers))
            .collect();
        out.push((Operator::Attention, self.attention(load) * layers));
        out.extend(ONCE.map(|name| (Operator::Elementwise, dense(name))));
        if load.sampled > 0 {
            let sampled = |name: &str| {
                let line = self.sequences.get(name);
                line.map_or(f64::NAN, |line| along(line, load.sampled as f64))
            };
            out.extend(SAMPLING.map(|name| (Operator::Head, sampled(name))));
        }
        out
    }

    /// What of an iteration is beyond what was measured, if anything.
    pub fn beyond(&self, load: &Load) -> Option<String> {
        let most = |lines: &BTreeMap<String, Line>| {
            let ends = lines.values().filter_map(|l| l.keys().next_back());
            ends.copied().min().unwrap_or(0)
        };
        let [chunk, before, requests, context] =
            [0, 1, 2, 3].map(|axis| self.axes[axis].last().copied().unwrap_or(0));
        let largest = |of: fn(&(u64, u64)) -> u64| load.chunks.iter().map(of).max().unwrap_or(0);
        [
            ("tokens", load.width(), most(&self.dense)),
            ("tokens that come out", load.sampled, most(&self.sequences)),
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
            format!("steps beyond the {measured} {what} that were measured: extrapolated")
        })
    }
}
