//! What a sweep shows: its front, and how its first result follows its numbers.

use std::{collections::BTreeMap, path::Path};

use einflow_spec::{Problem, Problems};

use super::{Content, Figure, Panel, Series};
use crate::render::short_name;

/// More points than this in one figure are thinned out: the front's are all kept.
const MOST_DRAWN: usize = 8000;
/// More series than this would not be told apart.
const MOST_SERIES: usize = 10;

/// What a sweep was about.
pub struct Swept<'s> {
    /// Its name.
    pub name: &'s str,
    /// The axes that vary.
    pub varying: Vec<&'s str>,
    /// What its front is about, most important first.
    pub objectives: Vec<String>,
}

/// The figures of a sweep whose rows are in the file `path`: the first two of what its front is about, against one another; and
/// the first against each axis of numbers.
///
/// # Errors
/// Rows that cannot be read.
pub fn swept(sweep: &Swept<'_>, path: &Path) -> Result<Vec<Figure>, Problems> {
    let failed = |e: csv::Error| Problem::nowhere(format!("cannot read {}: {e}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(failed)?;
    let header = reader.headers().map_err(failed)?.clone();
    let column = |name: &str| header.iter().position(|h| h == name);
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(record.map_err(failed)?);
    }
    let ok = column("status").map(|i| move |r: &csv::StringRecord| &r[i] == "ok");
    rows.retain(|r| ok.is_none_or(|ok| ok(r)));
    let number = |row: &csv::StringRecord, i: usize| row.get(i).and_then(|c| c.parse::<f64>().ok());
    let varying = &sweep.varying;
    let numeric = |name: &str| {
        let column = column(name)?;
        let all = rows.iter().all(|r| number(r, column).is_some());
        (all && !rows.is_empty()).then_some(column)
    };
    // Names, or few numbers, tell series apart.
    let series_by = varying.iter().find(|name| numeric(name).is_none()).copied();
    let series_of = |row: &csv::StringRecord| {
        let name = series_by.and_then(column).and_then(|i| row.get(i));
        name.map_or("all points".to_string(), short_name)
    };
    let mut figures = Vec::new();
    let front: Vec<(String, usize)> = sweep
        .objectives
        .iter()
        .filter_map(|name| Some((name.clone(), column(name)?)))
        .collect();
    let Some((first, y)) = front.first() else {
        return Ok(figures);
    };
    // The last of the others: area, where the file says nothing.
    let across = front[1..].iter().rev().find(|(_, x)| {
        let mut values = rows.iter().filter_map(|r| number(r, *x));
        let one = values.next();
        values.any(|v| Some(v) != one)
    });
    let mark = column("front");
    if let Some((second, x)) = across {
        let thin = rows.len().div_ceil(MOST_DRAWN).max(1);
        let mut all: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        let mut best: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            let (Some(x), Some(y)) = (number(row, *x), number(row, *y)) else {
                continue;
            };
            if mark.is_some_and(|m| &row[m] == "yes") {
                best.entry(series_of(row)).or_default().push((x, y));
            } else if i % thin == 0 {
                all.entry(series_of(row)).or_default().push((x, y));
            }
        }
        let lone = series_by.is_none();
        let series = |(name, mut points): (String, Vec<(f64, f64)>), pale: bool| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
            Series {
                name: if lone && !pale { "front".into() } else { name },
                points,
                joined: !pale && front.len() == 2,
                pale,
            }
        };
        let mut shown: Vec<Series> = all.into_iter().map(|s| series(s, true)).collect();
        shown.extend(best.into_iter().map(|s| series(s, false)));
        let ranked: Vec<String> = front.iter().map(|(name, _)| plain_title(name)).collect();
        let thinned = if thin > 1 {
            format!("; one point in {thin} drawn of those off the front")
        } else {
            String::new()
        };
        figures.push(Figure {
            name: "front".into(),
            title: format!(
                "{}: {} against {}",
                sweep.name,
                plain_title(first),
                plain_title(second)
            ),
            panels: vec![Panel {
                title: String::new(),
                y: axis_title(first),
                x: axis_title(second),
                content: Content::Points {
                    series: shown,
                    log: (true, true),
                },
            }],
            note: format!(
                "front: no other point of the same work is better in all of {}{thinned}",
                ranked.join(", ")
            ),
        });
    }
    for axis in varying.iter().filter(|a| numeric(a).is_some()) {
        let Some(x) = column(axis) else { continue };
        // The best of all points that share the value.
        let mut best: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for row in &rows {
            let (Some(x), Some(y)) = (number(row, x), number(row, *y)) else {
                continue;
            };
            let points = best.entry(series_of(row)).or_default();
            match points.iter_mut().find(|p| p.0 == x) {
                Some(point) => point.1 = point.1.min(y),
                None => points.push((x, y)),
            }
        }
        if best.len() > MOST_SERIES {
            continue;
        }
        let series = best.into_iter().map(|(name, mut points)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series {
                name,
                points,
                joined: true,
                pale: false,
            }
        });
        figures.push(Figure {
            name: format!("by-{}", axis.replace(|c: char| !c.is_alphanumeric(), "-")),
            title: format!(
                "{}: {} by {}",
                sweep.name,
                plain_title(first),
                plain_title(axis)
            ),
            panels: vec![Panel {
                title: String::new(),
                y: axis_title(first),
                x: axis_title(axis),
                content: Content::Points {
                    series: series.collect(),
                    log: (true, true),
                },
            }],
            note: "the least over all other axes".into(),
        });
    }
    Ok(figures)
}

/// A result's name without its unit.
fn plain_title(name: &str) -> String {
    let title = axis_title(name);
    title.split(", ").next().unwrap_or_default().to_string()
}

/// A result's name with its unit apart: `area_mm2` as `area, mm²`.
fn axis_title(name: &str) -> String {
    match name {
        "seconds" => return "latency, s".into(),
        "length" => return "tokens".into(),
        _ => {}
    }
    let units = [
        ("_mm2", "mm²"),
        ("_um2", "µm²"),
        ("_pj", "pJ"),
        ("_bytes", "bytes"),
        ("_seconds", "s"),
    ];
    let found = units.iter().find_map(|(end, unit)| {
        let stem = name.strip_suffix(end)?;
        Some(format!("{}, {unit}", stem.replace(['_', '.'], " ")))
    });
    found.unwrap_or_else(|| name.replace('_', " "))
}
