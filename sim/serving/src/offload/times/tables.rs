//! Steps as a server's own kernels were measured on a device: what an iteration of a batch takes, layer by layer.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use einflow_spec::Problems;

use super::{
    Load, Operator,
    grid::{Beyond, Grid},
};
use crate::{data::data, device::cells::Cells};

/// Times over one coordinate.
type Line = BTreeMap<u64, f64>;

/// Tables of one model on one device, in microseconds.
#[derive(Clone, Debug)]
pub struct ServerTables {
    layers: u64,
    dense: BTreeMap<String, Line>,
    sequences: BTreeMap<String, Line>,
    /// Attention of decodes alone, by how many and their context; of a chunk alone, by its tokens and those before it; of
    /// both together, by all four.
    decodes: Grid,
    chunks: Grid,
    mixed: Grid,
    /// The longest chunk, tokens before one, decodes and context; and of each the longest but one.
    longest: [u64; 4],
    shorter: [u64; 4],
    shortest_chunk: u64,
}

/// A step that was measured: its requests have one length.
#[derive(Clone, Debug, Default)]
struct Piece {
    requests: u64,
    tokens: u64,
    chunks: Vec<(u64, u64)>,
}

impl Piece {
    fn width(&self) -> u64 {
        self.requests + self.chunks.iter().map(|(tokens, _)| tokens).sum::<u64>()
    }
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

impl ServerTables {
    /// Reads `dense.csv`, `per_sequence.csv` and `attention.csv` of a folder: one in `beside`, else of the embedded set.
    ///
    /// # Errors
    /// A table that is not there, every wrong cell, and what a step needs and no row has.
    pub fn load(folder: &str, beside: Option<&Path>, layers: u64) -> Result<Self, Problems> {
        let lines = |file: &str,
                     column: &str,
                     needed: &[&str]|
         -> Result<BTreeMap<String, Line>, Problems> {
            let cells = Cells::read(&data(&format!("{folder}/{file}"), beside)?)?;
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
        let cells = Cells::read(&data(&format!("{folder}/attention.csv"), beside)?)?;
        let mut problems = cells.problems.clone();
        let [mut decodes, mut chunks, mut mixed] = [const { Vec::new() }; 3];
        let names = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"];
        let ([mut longest, mut shorter], mut shortest_chunk) = ([[0; 4]; 2], u64::MAX);
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
                match at {
                    [0, _, 0, _] => {}
                    [0, _, n, k] => decodes.push((vec![n, k], us)),
                    [c, before, 0, _] => chunks.push((vec![c, before], us)),
                    _ => mixed.push((at.to_vec(), us)),
                }
                for ((most, next), value) in longest.iter_mut().zip(&mut shorter).zip(at) {
                    match value.cmp(most) {
                        Ordering::Greater => *next = std::mem::replace(most, value),
                        Ordering::Less => *next = value.max(*next),
                        Ordering::Equal => {}
                    }
                }
                if at[0] > 0 {
                    shortest_chunk = at[0].min(shortest_chunk);
                }
            }
        }
        let [decodes, chunks, mixed] = [decodes, chunks, mixed].map(|points| {
            let mut grid = Grid::default();
            for (at, us) in points {
                grid.insert(&at, us);
            }
            grid
        });
        let kinds = [
            (&decodes, "of decodes alone (prefill_chunk 0)"),
            (&chunks, "of a chunk alone (n_decode 0)"),
            (&mixed, "of a chunk and decodes together"),
        ];
        for (_, what) in kinds.iter().filter(|(grid, _)| grid.is_empty()) {
            let problem = cells.at_header(format!("no time of attention {what}"));
            problems
                .push(problem.help("rows of decodes alone, of chunks alone, and of both together"));
        }
        problems.into_result(Some(Self {
            layers,
            dense,
            sequences,
            decodes,
            chunks,
            mixed,
            longest,
            shorter,
            shortest_chunk,
        }))
    }

    /// Attention of a step. Tables mix one chunk with decodes; further chunks add what they take alone beyond the smallest launch.
    fn attention(&self, load: &Piece, inside: &mut bool) -> f64 {
        // The largest first.
        let mut chunks: Vec<(f64, f64)> = load
            .chunks
            .iter()
            .map(|(chunk, before)| (*chunk as f64, *before as f64))
            .collect();
        chunks.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
        let context = load.tokens as f64 / (load.requests as f64).max(1.0);
        let (chunk, before) = chunks.first().copied().unwrap_or_default();
        let least = self.mixed([self.shortest_chunk as f64, 0.0, 0.0, 0.0], &mut true);
        let others: f64 = chunks
            .iter()
            .skip(1)
            .map(|(chunk, before)| {
                let alone = self.mixed([*chunk, *before, 0.0, 0.0], inside);
                (alone - least).max(0.0)
            })
            .sum();
        let decodes = load.requests as f64;
        self.mixed([chunk, before, decodes, context], inside) + others
    }

    /// Attention of a chunk, the tokens before it, decodes and their context; what there is some of does not lean on what
    /// there is none of. Beyond the longest that was measured it grows with the tokens before a chunk and with the context
    /// as it does towards the end of the table, and with more decodes in proportion.
    fn mixed(&self, point: [f64; 4], inside: &mut bool) -> f64 {
        let longest = self.longest.map(|x| x as f64);
        let mut end_at = point;
        for (x, most) in end_at.iter_mut().zip(longest) {
            *x = x.min(most);
        }
        let end = self.within(end_at, inside);
        let further = [1, 3]
            .into_iter()
            .filter(|axis| point[*axis] > end_at[*axis]);
        let more = further.map(|axis| {
            let mut before = end_at;
            before[axis] = self.shorter[axis] as f64;
            let low = match before[axis] > 0.0 || axis == 1 {
                true => self.within(before, inside),
                false => 0.0,
            };
            let slope = (end - low).max(0.0) / (end_at[axis] - before[axis]).max(1.0);
            slope * (point[axis] - end_at[axis])
        });
        end + more.sum::<f64>()
    }

    /// The same where nothing is longer than the longest.
    fn within(&self, [chunk, before, decodes, context]: [f64; 4], inside: &mut bool) -> f64 {
        let [c, b] = [(chunk, Beyond::Proportion), (before, Beyond::Slope)];
        let [n, k] = [(decodes, Beyond::Proportion), (context, Beyond::Slope)];
        match (chunk > 0.0, decodes > 0.0) {
            (true, true) => self.mixed.at(&[c, b, n, k], inside),
            (true, false) => self.chunks.at(&[c, b], inside),
            (false, true) => self.decodes.at(&[n, k], inside),
            (false, false) => 0.0,
        }
    }

    /// The iteration in steps that were measured: as a server with their largest as its limit would run it.
    fn pieces(&self, load: &Load) -> Vec<Piece> {
        let [longest, _, most, _] = self.longest;
        let widest = widest(&self.dense);
        let wide = load.chunks.iter().any(|(chunk, _)| *chunk > longest);
        let (mut requests, mut tokens) = (load.requests(), load.tokens());
        if load.width() <= widest && requests <= most && !wide {
            let chunks = load.chunks.clone();
            return vec![Piece {
                requests,
                tokens,
                chunks,
            }];
        }
        let mut chunks: VecDeque<(u64, u64)> = load.chunks.iter().copied().collect();
        let mut out = Vec::new();
        while requests > 0 || !chunks.is_empty() {
            let mut piece = Piece {
                requests: requests.min(most).min(widest),
                ..Piece::default()
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
        let attention: f64 = pieces.iter().map(|p| self.attention(p, &mut true)).sum();
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
        let [chunk, before, requests, context] = self.longest;
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
            ("requests that decode", load.requests(), requests),
            (
                "tokens of context",
                load.tokens() / load.requests().max(1),
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
        .or_else(|| {
            let mut inside = true;
            for piece in self.pieces(load) {
                self.attention(&piece, &mut inside);
            }
            (!inside).then(|| {
                "steps that mix chunks and decodes as none was measured: fewer decodes in proportion, shorter lengths extrapolated"
                    .to_string()
            })
        })
    }
}
