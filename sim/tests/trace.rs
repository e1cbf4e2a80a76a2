//! Traces against the rules of their format, and against the engine that they show.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use einflow_engine::{catalog::Catalog, cycle, events::Unseen, request::Request};
use einflow_mappings::mapped::MappedCascade;
use einflow_output::{
    plot,
    trace::{MOST_SLICES, Recorder, TraceError, TraceWindow, record},
};
use serde_json::Value;

fn mapped(mapping: &str, length: u64, sizes: &[(&str, u64)]) -> MappedCascade {
    let request = Request {
        model: Some("bert".into()),
        length: Some(length),
        mapping: mapping.into(),
        sizes: sizes.iter().map(|(n, v)| (n.to_string(), *v)).collect(),
        ..Request::default()
    };
    request
        .bind(&Catalog::default())
        .map_err(|e| format!("{e:?}"))
        .unwrap()
}

/// One sequence.
const SMALL: [(&str, u64); 2] = [("B", 1), ("H", 12)];

fn written(recorder: &Recorder) -> Value {
    let mut out = Vec::new();
    recorder.write(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn number(event: &Value, field: &str) -> f64 {
    let value = event.get(field).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number {field} in {event}"))
}

/// Whole nanoseconds, as Perfetto rounds the format's microseconds: each field on its own.
fn nanos(event: &Value, field: &str) -> u64 {
    (number(event, field) * 1e3).round() as u64
}

fn events(trace: &Value) -> &Vec<Value> {
    trace["traceEvents"].as_array().unwrap()
}

fn of_phase<'a>(trace: &'a Value, phase: &'a str) -> impl Iterator<Item = &'a Value> {
    events(trace).iter().filter(move |e| e["ph"] == phase)
}

/// The name of each track.
fn tracks(trace: &Value) -> BTreeMap<u64, String> {
    let named = of_phase(trace, "M").filter(|e| e["name"] == "thread_name");
    let name = |e: &Value| e["args"]["name"].as_str().unwrap().to_string();
    named
        .map(|e| (e["tid"].as_u64().unwrap(), name(e)))
        .collect()
}

/// Everything that the format demands.
fn check(trace: &Value) {
    assert_eq!(trace["displayTimeUnit"], "ns");
    assert!(trace["otherData"]["complete"].is_boolean());
    let names = tracks(trace);
    let mut ends: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut sorted = BTreeSet::new();
    let mut last_tid = 0;
    for event in events(trace) {
        let tid = event["tid"].as_u64().unwrap();
        assert_eq!(event["pid"], 1);
        assert!(event["name"].is_string() && event["args"].is_object());
        match event["ph"].as_str().unwrap() {
            "M" => {
                if event["name"] == "thread_sort_index" {
                    sorted.insert(tid);
                }
                continue;
            }
            "X" => {
                let (start, cycles) = (nanos(event, "ts"), nanos(event, "dur"));
                let (before, free) = ends.get(&tid).copied().unwrap_or_default();
                assert!(before <= start, "{event} out of order");
                assert!(free <= start, "{event} overlaps");
                assert!(cycles > 0, "{event}");
                ends.insert(tid, (start, start + cycles));
            }
            "C" => {
                let start = nanos(event, "ts");
                let (before, _) = ends.insert(tid, (start, start)).unwrap_or_default();
                assert!(before <= start, "{event} out of order");
                let args = event["args"].as_object().unwrap();
                assert!(!args.is_empty());
                assert!(args.values().all(|v| v.as_f64().unwrap() >= 0.0), "{event}");
            }
            other => panic!("phase {other}"),
        }
        assert!(
            names.contains_key(&tid),
            "{event} on a track without a name"
        );
        assert!(tid >= last_tid, "sorted by track");
        last_tid = tid;
    }
    assert_eq!(sorted, names.keys().copied().collect());
}

#[test]
fn a_trace_follows_the_format() {
    let mapped = mapped("fusemax-binding", 1024, &[]);
    let recorder = record(&mapped, None, "bert, 1K tokens").unwrap();
    assert!(!recorder.complete());
    let trace = written(&recorder);
    check(&trace);
    let slices = of_phase(&trace, "X").count();
    assert!(
        (MOST_SLICES * 9 / 10..=MOST_SLICES).contains(&slices),
        "{slices}"
    );
    assert_eq!(trace["otherData"]["complete"], false);
    let total: u64 = cycle::run(&mapped, true, &mut Unseen)
        .unwrap()
        .iter()
        .map(|r| r.cycles)
        .sum();
    let window = written(&recorder.of(total))["otherData"]["window"].clone();
    let window = window.as_str().unwrap();
    assert!(window.starts_with("cycles 0 to ") && window.ends_with(&format!(" of {total}")));
    let names: Vec<String> = tracks(&trace).into_values().collect();
    for name in [
        "array2d",
        "array2d, turn 2",
        "array1d",
        "dram channel",
        "buffer port lane 1",
        "buffer occupancy",
        "dram bandwidth",
    ] {
        assert!(names.iter().any(|n| n == name), "no {name} in {names:?}");
    }
    let named =
        |start: &str| of_phase(&trace, "X").any(|e| e["name"].as_str().unwrap().starts_with(start));
    for name in [
        "BQK m1=3 p1=0",
        "RM m1=0 p1=0",
        "K",
        "RM writes RM",
        "BQK reads Q",
        "K comes in",
    ] {
        assert!(named(name), "no {name}");
    }
    // The same run, the same bytes.
    assert_eq!(
        trace,
        written(&record(&mapped, None, "bert, 1K tokens").unwrap())
    );
}

/// Busy cycles of slices, by track name without its lane.
fn busy(trace: &Value) -> BTreeMap<String, u64> {
    let names = tracks(trace);
    let mut out = BTreeMap::new();
    for event in of_phase(trace, "X") {
        if let Some(busy) = event["args"]["busy"].as_u64() {
            let name = &names[&event["tid"].as_u64().unwrap()];
            let unit = name.split(',').next().unwrap().to_string();
            *out.entry(unit).or_default() += busy;
        }
    }
    out
}

#[test]
fn slices_add_up_to_what_the_engine_says() {
    for mapping in [
        "fusemax-binding",
        "fusemax-binding-double",
        "fusemax-architecture",
        "flat",
        "unfused",
    ] {
        let mapped = mapped(mapping, 1024, &SMALL);
        let all = TraceWindow {
            from: 0,
            to: u64::MAX,
        };
        let recorder = record(&mapped, Some(all), mapping).unwrap();
        assert!(recorder.complete(), "{mapping}");
        let trace = written(&recorder);
        check(&trace);
        assert_eq!(trace["otherData"]["complete"], true);
        let runs = cycle::run(&mapped, true, &mut Unseen).unwrap();
        let busy = busy(&trace);
        for (unit, array) in mapped.accelerator.arrays.iter().enumerate() {
            let counted: u64 = runs.iter().map(|r| r.totals.busy[unit]).sum();
            assert_eq!(
                busy.get(&array.name).copied().unwrap_or(0),
                counted,
                "{mapping} {}",
                array.name
            );
        }
        let total = |kind: &str, field: &str| -> u64 {
            let own = of_phase(&trace, "X").filter(|e| e["cat"] == kind);
            own.map(|e| e["args"][field].as_u64().unwrap()).sum()
        };
        let channel: u64 = runs.iter().flat_map(|r| &r.totals.channel).sum();
        assert_eq!(total("movement", "cycles"), channel, "{mapping}");
        for (m, memory) in mapped.accelerator.memories.iter().enumerate() {
            if memory.capacity.is_none() {
                continue;
            }
            let name = format!("{} occupancy", memory.name);
            let counter = of_phase(&trace, "C").filter(|e| e["name"] == name.as_str());
            let values: Vec<u64> = counter
                .map(|e| number(&e["args"], "bytes") as u64)
                .collect();
            let worst = mapped.blocks.iter().map(|b| b.occupancy[m]).max().unwrap();
            let peak = values.iter().copied().max().unwrap_or(0);
            assert_eq!(u128::from(peak), worst, "{mapping} {name}");
            assert_eq!(
                values.last().copied().unwrap_or(0),
                0,
                "{mapping}: all has gone"
            );
        }
    }
}

#[test]
fn a_window_shows_its_cycles_and_no_others() {
    let mapped = mapped("fusemax-binding", 1024, &SMALL);
    let window: TraceWindow = "2_000..3000".parse().unwrap();
    let recorder = record(&mapped, Some(window), "a window").unwrap();
    let trace = written(&recorder);
    check(&trace);
    let whole = written(&record(&mapped, None, "all").unwrap());
    let inside = |e: &&Value| {
        let (start, cycles) = (number(&e["args"], "cycle"), number(&e["args"], "cycles"));
        start < 3000.0 && start + cycles > 2000.0
    };
    let key = |e: &Value| (e["name"].to_string(), e["args"].to_string());
    let mut all: Vec<_> = of_phase(&whole, "X").filter(inside).map(key).collect();
    let mut shown: Vec<_> = of_phase(&trace, "X").map(key).collect();
    all.sort();
    shown.sort();
    assert_eq!(shown, all);
    assert!(matches!(
        "5..5".parse::<TraceWindow>(),
        Err(TraceError::Window(_))
    ));
    assert!("x".parse::<TraceWindow>().is_err());
}

#[test]
fn a_window_at_the_start_of_a_million_tokens_is_soon_there() {
    let mapped = mapped("fusemax-binding", 1 << 20, &[]);
    let begun = std::time::Instant::now();
    let window = TraceWindow {
        from: 0,
        to: 20_000,
    };
    let trace = written(&record(&mapped, Some(window), "1M tokens").unwrap());
    check(&trace);
    assert_eq!(trace["otherData"]["complete"], false);
    assert!(begun.elapsed().as_secs() < 20);
}

struct Broken;
impl std::io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("full"))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told() {
    let mapped = mapped("fusemax-binding", 1024, &SMALL);
    let recorder = record(&mapped, None, "").unwrap();
    assert!(matches!(
        recorder.write(&mut Broken),
        Err(TraceError::Write(_))
    ));
}

#[test]
fn two_epochs_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    for (mapping, length, each) in [
        ("fusemax-binding", 1 << 10, true),
        ("fusemax-binding-double", 1 << 16, true),
        ("fusemax-architecture", 1 << 12, true),
        ("fusemax-cascade", 1 << 10, false),
        ("unfused", 1 << 10, false),
    ] {
        let mapped = mapped(mapping, length, &[]);
        let title = format!("{mapping}: BERT, {}K tokens", length >> 10);
        let window = TraceWindow {
            from: 0,
            to: 40_000,
        };
        let recorder = record(&mapped, Some(window), &title).unwrap();
        let figure = plot::waterfall(&recorder).unwrap();
        let plot::Content::Lanes { lanes, shown } = &figure.panels[0].content else {
            panic!("no lanes")
        };
        assert!(shown.0 < shown.1);
        let full = |l: &plot::Lane| l.spans.iter().filter(|s| !s.pale).count();
        // Each Einsum of the loop runs once an epoch.
        for lane in lanes
            .iter()
            .filter(|l| each && !l.unit.is_empty() && l.name != "AV")
        {
            assert_eq!(full(lane), 2, "{mapping}: {}", lane.name);
        }
        let folder = folder.path().join(mapping);
        plot::save(&figure, &folder).unwrap();
        assert!(folder.join("waterfall.png").exists());
        assert!(folder.join("waterfall.svg").exists());
    }
}
