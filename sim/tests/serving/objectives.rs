//! What a search for the highest load finds, against replays of traces that were written slower and faster.

use einflow_serving::{
    objectives::{Objectives, highest_load},
    offload::serve::Unwatched,
    replay::{Replay, prepared, replay},
};
use einflow_spec::{Source, quantity::Seconds};

use super::on;

/// The highest load is good; by hand it is slowed to and sped up from, and faster than it is not good.
#[test]
fn the_highest_load_is_between_good_and_bad() {
    let rows = |gap: f64| {
        let rows = (0..120).map(|i| format!("{},{},40\n", f64::from(i) * gap, 500 + 37 * (i % 11)));
        format!(
            "arrival_s,prompt_tokens,generated_tokens\n{}",
            rows.collect::<String>()
        )
    };
    let source = |gap: f64| Source::new("t.csv", rows(gap));
    let of = on("h100", "t.csv").scenario().unwrap();
    let objectives = Objectives {
        first_token: Some(Seconds(0.25)),
        per_token: Some(Seconds(0.02)),
    };
    let share = |gap: f64| {
        let (_, served) = replay(&of, &source(gap), &Unwatched).unwrap();
        let good = served
            .by_request()
            .filter(|r| r.first_token.0 <= 0.25 && r.per_token.is_none_or(|t| t.0 <= 0.02));
        good.count() as f64 / 120.0
    };
    let mut found = Vec::new();
    // From a trace that is far too slow, and from one that is far too fast.
    for gap in [2.0, 0.0005] {
        let (system, demand) = prepared(&of, &source(gap)).unwrap();
        let load = highest_load(&system, &demand, &objectives, 0.9, &Unwatched).unwrap();
        let load = load.unwrap();
        assert!((load.rate * gap / load.speed_up - 1.0).abs() < 1e-9);
        let own = gap / load.speed_up;
        assert_eq!(share(own), load.share);
        assert!(load.share >= 0.9);
        assert!(share(own / 1.011) < 0.9, "{gap} {load:?}");
        found.push(load.rate);
    }
    // Both ends of a search are within 1 % of where it turns.
    assert!((found[0] / found[1] - 1.0).abs() < 0.02, "{found:?}");
    // Speeds are over the trace's own, whatever it was sped up by before.
    let (system, demand) = prepared(
        &Replay {
            speed_up: 1e5,
            ..on("h100", "t.csv")
        }
        .scenario()
        .unwrap(),
        &source(2.0),
    )
    .unwrap();
    let load = highest_load(&system, &demand, &objectives, 0.9, &Unwatched)
        .unwrap()
        .unwrap();
    assert!((load.rate / found[0] - 1.0).abs() < 0.02 && !load.at_least);
    assert!((load.rate * 2.0 / load.speed_up - 1.0).abs() < 1e-9);
    // What nothing breaks has no highest load.
    let loose = Objectives {
        first_token: Some(Seconds(1e9)),
        per_token: None,
    };
    let load = highest_load(&system, &demand, &loose, 1.0, &Unwatched).unwrap();
    assert!(load.is_some_and(|l| l.at_least && l.share == 1.0));
    let (system, demand) = prepared(&of, &source(1.0)).unwrap();
    let never = Objectives {
        first_token: Some(Seconds(1e-6)),
        per_token: None,
    };
    let none = highest_load(&system, &demand, &never, 0.5, &Unwatched).unwrap();
    assert_eq!(none, None);
}
