//! A server that was recorded, replayed: nothing here was fitted to it.

use einflow_serving::{
    offload::serve::{ServedRequest, Unwatched},
    replay::{Replay, replay},
};
use einflow_spec::Source;

use super::on;

/// 300 requests of ShareGPT at ten a second on an RTX 4090 (vLLM 0.19): the cache is full for most of three minutes.
/// Steps are those of tables measured on such a card without any batch of this run. Two seconds of 66 to the first token,
/// 0.1 ms of 32 a token and half a second of 87 in all would be more than 0.3 %; a request's own latency differs by more,
/// as one that is preempted a step earlier or later comes back among others.
#[test]
fn a_recorded_server_is_replayed() {
    let text = include_str!("../../../validation/data/serving/rtx4090-llama3.1-8b/recorded.csv");
    let of = Replay {
        kv_blocks: Some(2588),
        ..on("rtx4090", "recorded.csv")
    };
    let source = Source::new("recorded.csv", text);
    let (_, served) = replay(&of.scenario().unwrap(), &source, &Unwatched).unwrap();
    let found: Vec<ServedRequest> = served.by_request().collect();
    let recorded: Vec<[f64; 4]> = text
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<f64> = line
                .split(',')
                .take(5)
                .map(|c| c.parse().unwrap())
                .collect();
            [cells[0], cells[2], cells[3], cells[4]]
        })
        .collect();
    assert_eq!(found.len(), recorded.len());
    let mean = |of: &dyn Fn(usize) -> Option<f64>| {
        let values: Vec<f64> = (0..found.len()).filter_map(of).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let off = |ours: f64, theirs: f64| ours / theirs - 1.0;
    let first = off(
        mean(&|r| Some(found[r].first_token.0)),
        mean(&|r| Some(recorded[r][2] - recorded[r][0])),
    );
    let per = off(
        mean(&|r| Some(found[r].per_token?.0)),
        mean(&|r| {
            let [_, tokens, first, last] = recorded[r];
            (tokens > 1.0).then(|| (last - first) / (tokens - 1.0))
        }),
    );
    let latency = |r: usize| recorded[r][3] - recorded[r][0];
    let all = off(
        mean(&|r| Some(found[r].latency.0)),
        mean(&|r| Some(latency(r))),
    );
    let each = mean(&|r| Some(off(found[r].latency.0, latency(r)).abs()));
    for (what, off) in [("first token", first), ("a token", per), ("latency", all)] {
        assert!(off.abs() < 0.003, "{what}: {off}");
    }
    assert!(each < 0.01, "{each}");
    // As many blocks of prompts are found as the server's own caching could find.
    assert!(served.found.0 > 0);
}
