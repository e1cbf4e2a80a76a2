//! Metrics of a report, by the names that sweeps and experiments use.

#![allow(clippy::unwrap_used)]

use einflow_engine::report::Metric;
use einflow_engine::{catalog::Catalog, request::Request};
use serde_json::Value;

/// Each name gives what the JSON object holds at that path.
#[test]
fn names_are_those_of_the_json_object() {
    let request = Request {
        model: Some("bert".into()),
        length: Some(1000),
        mapping: "fusemax-cascade".into(),
        end_to_end: true,
        ..Request::default()
    };
    let report = request.run(&Catalog::new()).unwrap();
    let json = report.to_json();
    let mut seen = 0;
    for name in report.metric_names() {
        let found = report.metric(&name).unwrap();
        let full = match name.as_str() {
            "dram_bytes" => "dram_bytes.total",
            "energy_pj" => "energy_pj.total",
            "area_mm2" => {
                assert_eq!(found, Metric::Real(report.area_um2() / 1e6));
                continue;
            }
            "times_bound" => continue,
            name => name,
        };
        // Names of components hold dots themselves.
        let mut at: &Value = &json;
        let mut rest = full;
        while !rest.is_empty() {
            let fits = |key: &&String| {
                rest == key.as_str()
                    || rest
                        .strip_prefix(key.as_str())
                        .is_some_and(|r| r.starts_with('.'))
            };
            let key = at.as_object().unwrap().keys().find(fits).unwrap();
            at = &at[key];
            rest = rest[key.len()..].trim_start_matches('.');
        }
        let wanted = match found {
            Metric::Whole(value) => value.to_string(),
            Metric::Real(value) => serde_json::json!(value).to_string(),
            Metric::Text(text) => serde_json::json!(text).to_string(),
        };
        assert_eq!(at.to_string(), wanted, "{name}");
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
    assert_eq!(report.metric("bound_by.array1d"), Some(Metric::Real(1.0)));
    assert_eq!(report.metric("utilization"), None);
}
