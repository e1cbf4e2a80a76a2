//! Scenarios of pools: against the batch, the price of attention's devices, and over time.

use super::{Bar, Content, Figure, Group, Panel, Series};
use einflow_serving::offload::Report;

/// Prices of one of attention's devices over one of the model's.
const RATIOS: (f64, f64, usize) = (0.02, 2.0, 41);

fn line(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.to_string(),
        points,
        joined: true,
        pale: false,
    }
}

fn mark(name: &str, point: (f64, f64)) -> Series {
    Series {
        joined: false,
        ..line(name, vec![point])
    }
}

fn panel(title: &str, x: &str, y: &str, series: Vec<Series>, log: (bool, bool)) -> Panel {
    Panel {
        title: title.to_string(),
        x: x.to_string(),
        y: y.to_string(),
        content: Content::Points { series, log },
    }
}

/// What a run shows: throughput and cost against the batch, the parts of the time between tokens, tokens for a dollar against the price
/// of attention's devices, and the batch over time. `curve` has reports of fixed batches.
pub fn offloaded(found: &Report, curve: &[Report]) -> Vec<Figure> {
    let mean = |r: &Report| r.between.map_or(f64::NAN, |t| t.mean);
    let along = |y: &dyn Fn(&Report) -> f64| -> Vec<(f64, f64)> {
        curve.iter().map(|r| (r.mean_batch, y(r))).collect()
    };
    let name = |what: &str| format!("{}-{what}", found.name);
    let title = |what: &str| format!("{}: {what}", found.name);
    let fixed = format!("fixed batch, {:.0} tokens", found.mean_context);
    let million = |r: &Report| 1e6 / r.tokens_per_dollar;
    let mut figures = vec![Figure {
        name: name("batch"),
        title: title("against the batch"),
        panels: vec![
            panel(
                "throughput",
                "batch (requests)",
                "tokens/s",
                vec![
                    line(&fixed, along(&|r| r.throughput)),
                    mark("this run", (found.mean_batch, found.throughput)),
                ],
                (true, true),
            ),
            panel(
                "cost against latency",
                "time between tokens, mean (ms)",
                "$ for a million tokens",
                vec![
                    line(
                        &fixed,
                        curve.iter().map(|r| (mean(r), million(r))).collect(),
                    ),
                    mark("this run", (mean(found), million(found))),
                ],
                (false, true),
            ),
        ],
        note: String::new(),
    }];
    let parts = |r: &Report| Bar {
        label: String::new(),
        parts: r
            .breakdown
            .iter()
            .map(|(name, ms)| (name.to_string(), *ms))
            .collect(),
    };
    let mut groups: Vec<Group> = curve
        .iter()
        .map(|r| Group {
            label: format!("{:.0}", r.mean_batch),
            bars: vec![parts(r)],
        })
        .collect();
    groups.push(Group {
        label: "this run".into(),
        bars: vec![parts(found)],
    });
    figures.push(Figure {
        name: name("between"),
        title: title("time between tokens by what it is for"),
        panels: vec![Panel {
            title: String::new(),
            x: format!("batch ({fixed})"),
            y: "ms".into(),
            content: Content::Bars(groups),
        }],
        note: String::new(),
    });
    if let Some(priced) = prices(found) {
        figures.push(Figure {
            name: name("price"),
            title: title("tokens for a dollar"),
            panels: vec![priced],
            note: String::new(),
        });
    }
    if found.batch_over_time.len() > 1 {
        figures.push(Figure {
            name: name("time"),
            title: title("requests in the batch"),
            panels: vec![panel(
                "",
                "s",
                "requests",
                vec![line("resident", found.batch_over_time.clone())],
                (false, false),
            )],
            note: String::new(),
        });
    }
    figures
}

/// Tokens for a dollar over the price of one of attention's devices, in that of one of the model's.
fn prices(found: &Report) -> Option<Panel> {
    let attention = found.prices.iter().find(|p| p.attends)?;
    let model = found.prices.first()?;
    let rest: f64 = found
        .prices
        .iter()
        .filter(|p| !p.attends)
        .map(|p| p.count as f64 * p.each)
        .sum();
    let (low, high, count) = RATIOS;
    let at = |ratio: f64| {
        let dollars = rest + attention.count as f64 * ratio * model.each;
        found.throughput * 3600.0 / dollars
    };
    let points = (0..count)
        .map(|i| {
            let ratio = low * (high / low).powf(i as f64 / (count - 1) as f64);
            (ratio, at(ratio))
        })
        .collect();
    let own = attention.each / model.each;
    Some(panel(
        "",
        "price of one of attention's devices / one of the model's",
        "tokens for a dollar",
        vec![
            line("at other prices", points),
            mark("this run", (own, at(own))),
        ],
        (true, false),
    ))
}

/// Scenarios side by side: the parts of the time between tokens, throughput, tokens for a dollar.
pub fn offload_compared(reports: &[&Report]) -> Figure {
    let bars = |title: &str, y: &str, parts: &dyn Fn(&Report) -> Vec<(String, f64)>| Panel {
        title: title.to_string(),
        x: String::new(),
        y: y.to_string(),
        content: Content::Bars(
            reports
                .iter()
                .map(|r| Group {
                    label: r.name.clone(),
                    bars: vec![Bar {
                        label: String::new(),
                        parts: parts(r),
                    }],
                })
                .collect(),
        ),
    };
    let names: Vec<&str> = reports.iter().map(|r| r.name.as_str()).collect();
    Figure {
        name: names.join("-and-"),
        title: names.join(" and "),
        panels: vec![
            bars("time between tokens", "ms", &|r| {
                let parts = r.breakdown.iter();
                parts.map(|(name, ms)| (name.to_string(), *ms)).collect()
            }),
            bars("throughput", "tokens/s", &|r| {
                vec![("tokens/s".to_string(), r.throughput)]
            }),
            bars("tokens for a dollar", "tokens/$", &|r| {
                vec![("tokens/$".to_string(), r.tokens_per_dollar)]
            }),
        ],
        note: String::new(),
    }
}
