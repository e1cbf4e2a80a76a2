//! Predicted against measured times.

use super::{Content, Figure, Panel, Series};
use einflow_serving::device::predict::Predicted;

/// More series than these do not tell apart.
const MOST: usize = 8;

/// A prediction's rows, log-log, and how far each is off: a series for each predicted column and group, or for each column where there are many groups.
pub fn predicted(found: &Predicted, name: &str) -> Figure {
    let several = found.columns.len() > 1;
    let mut groups: Vec<&str> = found.rows.iter().map(|r| r.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    let by_group = !several && groups.len() <= MOST;
    let (mut times, mut ratios): (Vec<Series>, Vec<Series>) = (Vec::new(), Vec::new());
    let put = |list: &mut Vec<Series>, name: &str, point: (f64, f64)| {
        if let Some(series) = list.iter_mut().find(|s| s.name == name) {
            series.points.push(point);
        } else {
            list.push(Series {
                name: name.to_string(),
                points: vec![point],
                joined: false,
                pale: false,
            });
        }
    };
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for row in &found.rows {
        for (at, (column, _)) in found.columns.iter().enumerate() {
            let (Some(measured), Some(predicted)) = (row.measured[at], row.predicted[at]) else {
                continue;
            };
            let name = match (by_group, column.is_empty()) {
                (true, _) => row.group.as_str(),
                (false, true) => "all parts",
                (false, false) => column.as_str(),
            };
            low = low.min(measured);
            high = high.max(measured);
            put(&mut times, name, (measured, predicted));
            put(&mut ratios, name, (measured, predicted / measured));
        }
    }
    let pale = |name: &str, points: Vec<(f64, f64)>| Series {
        name: name.into(),
        points,
        joined: true,
        pale: true,
    };
    if low < high {
        times.insert(0, pale("as measured", vec![(low, low), (high, high)]));
        ratios.insert(0, pale("as measured", vec![(low, 1.0), (high, 1.0)]));
    }
    let unit = match found.columns.iter().any(|(c, _)| c.contains("watt")) {
        true => "us, J or W",
        false => "us",
    };
    let panel = |y: &str, series: Vec<Series>| Panel {
        title: String::new(),
        y: y.into(),
        x: format!("measured ({unit})"),
        content: Content::Points {
            series,
            log: (true, true),
        },
    };
    Figure {
        name: name.to_string(),
        title: format!("{}: predicted against measured", found.device),
        panels: vec![
            panel(&format!("predicted ({unit})"), times),
            panel("predicted / measured", ratios),
        ],
        note: String::new(),
    }
}
