//! Steps of tables, replays that lose nothing, and a replay that is a scenario of one pool.

#![allow(clippy::unwrap_used)]

#[path = "serving/objectives.rs"]
mod objectives;

#[path = "serving/policies.rs"]
mod policies;

#[path = "serving/recorded.rs"]
mod recorded;

use einflow_serving::{
    offload::{
        Scenario, report,
        serve::{Options, ServedRequest, Unwatched},
        times::{Caches, Load, Operator, ServerTables},
    },
    replay::{Replay, replay},
};
use einflow_spec::{Source, quantity::Seconds};

/// What an iteration runs: the tokens that each decode attends, chunks and the tokens before them, tokens that come out.
fn load(decodes: &[u64], chunks: &[(u64, u64)], sampled: u64) -> Load {
    let mut caches = Caches::default();
    for length in decodes {
        caches.push(1, *length);
    }
    Load {
        caches,
        by_store: Vec::new(),
        chunks: chunks.to_vec(),
        sampled,
    }
}

fn tables() -> ServerTables {
    ServerTables::load("data/serving/rtx4090-llama3.1-8b", None, 32).unwrap()
}

fn us(load: &Load) -> f64 {
    tables().step(load).iter().map(|(_, us)| us).sum()
}

/// The tables' own points, added up by hand: 32 sequences of 1024 tokens.
#[test]
fn a_step_is_the_sum_of_its_tables() {
    let block = 2.0 * 2.11717 + 60.8173 + 2.43233 + 43.411 + 271.747 + 3.00767 + 141.943 + 181.391;
    let expected = 32.0 * block + 2.54933 + 2.48533 + 1190.84 + sampler(32);
    let decodes = load(&[1024; 32], &[], 32);
    let found = us(&decodes);
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    assert_eq!(tables().beyond(&decodes), None);
    assert!(tables().beyond(&load(&[], &[(1 << 20, 0)], 0)).is_some());
}

/// Two chunks of 512 take what one takes alone, and what the other adds to the smallest launch; one of 1024 takes more.
#[test]
fn chunks_of_a_step_are_apart() {
    let apart = us(&load(&[], &[(512, 0), (512, 0)], 0)) - us(&load(&[], &[(1024, 0)], 0));
    let expected = 32.0 * (41.0747 + (41.0747 - 9.546) - 108.24);
    assert!((apart / expected - 1.0).abs() < 1e-6, "{apart} {expected}");
}

/// The sampler's measured time.
fn sampler(sequences: u64) -> f64 {
    let text = include_str!("../../validation/data/serving/rtx4090-llama3.1-8b/per_sequence.csv");
    let row = format!("sampler,{sequences},");
    let line = text.lines().find_map(|l| l.strip_prefix(&row));
    line.unwrap().trim().parse().unwrap()
}

fn on(device: &str, trace: &str) -> Replay {
    Replay {
        trace: trace.into(),
        device: device.into(),
        model: "llama3-8b".into(),
        kv_blocks: None,
        block_size: 16,
        step_tokens: 2048,
        sequences: 256,
        prefix_caching: true,
        reserve_prompts: true,
        async_scheduling: true,
        null_block: true,
        host_overhead: Seconds(0.0),
        skip: Vec::new(),
        columns: Vec::new(),
        speed_up: 1.0,
        hash_block: None,
        shared_prefix: None,
        devices: (1, None),
    }
}

#[test]
fn a_replay_by_hand() {
    let text = "arrival_s,prompt_tokens,generated_tokens\n1,16,1\n5,16,2\n";
    let of = Replay {
        kv_blocks: Some(100),
        host_overhead: Seconds(0.25),
        async_scheduling: false,
        ..on("rtx4090", "t.csv")
    };
    let source = Source::new("t.csv", text);
    let (system, served) = replay(&of.scenario().unwrap(), &source, &Unwatched).unwrap();
    assert_eq!(system.stores, [1600]);
    // A whole prompt of 16 tokens, then one token over 17.
    let first = us(&load(&[], &[(16, 0)], 1)) * 1e-6 + 0.25;
    let second = us(&load(&[17], &[], 1)) * 1e-6 + 0.25;
    // Times are whole picoseconds, operator by operator.
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-10, "{a} {b}");
    let found: Vec<ServedRequest> = served.by_request().collect();
    close(found[0].first_token.0, first);
    close(found[0].finish.0, first);
    assert_eq!(found[0].per_token, None);
    // Four seconds after the first, where the clock starts.
    close(found[1].first_token.0, first);
    close(found[1].finish.0, 4.0 + first + second);
    close(found[1].per_token.unwrap().0, second);
    let account = &served.account;
    assert_eq!((account.totals.iterations, account.preemptions), (3, 0));
    // Planned ahead: the host begins with the second step when it has done the first, which is shorter than its own.
    let ahead = Replay {
        async_scheduling: true,
        ..of
    };
    let (_, served) = replay(&ahead.scenario().unwrap(), &source, &Unwatched).unwrap();
    let found: Vec<ServedRequest> = served.by_request().collect();
    close(found[1].first_token.0, first);
    close(found[1].finish.0, 4.0 + 0.25 + second);
}

/// A clock that starts late is a clock that starts: what counts is the time after the first arrival.
#[test]
fn a_trace_may_start_at_any_time() {
    let times = |begin: f64| {
        let text = format!(
            "arrival_s,prompt_tokens,generated_tokens\n{begin},50,7\n{},60,9\n",
            begin + 0.5
        );
        let of = on("h100", "t.csv").scenario().unwrap();
        let (_, served) = replay(&of, &Source::new("t.csv", text), &Unwatched).unwrap();
        served.by_request().collect::<Vec<_>>()
    };
    assert_eq!(times(0.0), times(1.7e15));
}

/// Two prompts of 75 blocks in a cache of 100, in chunks of 256 tokens. The first chunk of the second has room beside
/// the first prompt, all of it has not: admitted, it gives way again and again; else it waits until the first is done
/// (5 steps of prompt, the last of which makes a token, and 59 more: 64 each).
#[test]
fn whole_prompts_have_room_or_wait() {
    let trace = "arrival_s,prompt_tokens,generated_tokens\n0,1200,60\n0,1200,60\n";
    let of = |reserve_prompts| {
        let of = Replay {
            kv_blocks: Some(100),
            step_tokens: 256,
            prefix_caching: false,
            async_scheduling: false,
            null_block: false,
            reserve_prompts,
            ..on("h100", "t.csv")
        };
        let source = Source::new("t.csv", trace);
        let (_, served) = replay(&of.scenario().unwrap(), &source, &Unwatched).unwrap();
        (served.account.preemptions, served.account.totals.iterations)
    };
    assert_eq!(of(true), (0, 128));
    assert_eq!(of(false), (29, 127));
}

/// A replay is the scenario that it says it is: the same request by request, over three traces.
#[test]
fn a_replay_is_a_scenario_of_one_pool() {
    let head = "arrival_s,prompt_tokens,generated_tokens\n";
    let burst = format!("{head}{}", "0,2000,200\n".repeat(64));
    let azure = |name: &str, rows: usize| {
        let path = format!("../validation/data/serving/trace-{name}.csv");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().take(1 + rows).collect();
        lines.join("\n") + "\n"
    };
    let traces = [
        burst,
        azure("azure-code-2023", 1500),
        azure("azure-conv-2023", 1500),
    ];
    for (device, kv_blocks) in [("h100", None), ("rtx4090", Some(2588))] {
        for trace in &traces {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("trace.csv"), trace).unwrap();
            let of = Replay {
                kv_blocks,
                ..on(device, "trace.csv")
            };
            let scenario = of.scenario().unwrap();
            let requests = Source::new("trace.csv", trace.clone());
            let (_, replayed) = replay(&scenario, &requests, &Unwatched).unwrap();
            // Written by hand, with what chunked prompts have where nothing is said: a step of 2048 tokens, blocks of 16,
            // their reuse, requests admitted where their present length fits.
            let blocks = kv_blocks.map_or(String::new(), |n| format!("kv_blocks: {n},"));
            let text = format!(
                r#"(name: "own", source: "assumed", model: "llama3-8b",
                pools: {{"gpu": (role: all, device: "{device}", count: 1, {blocks} reserved: "1.359 GB", price: 1)}},
                sequences: 256, prefill: chunked, load: (trace: "trace.csv", arrivals: true))"#
            );
            let own = Scenario::parse(&Source::new("own.ron", text), Some(folder.path().into()));
            let (found, served) = report(own.unwrap(), Options::default(), &Unwatched).unwrap();
            assert_eq!(replayed.tokens, served.tokens, "{device}");
            assert_eq!(found.requests.0, found.requests.1);
            assert_eq!(
                replayed.account.totals.iterations,
                served.account.totals.iterations
            );
        }
    }
}

/// A device without a server's tables takes its kernels; a longer cache takes longer, a larger batch is worth more.
#[test]
fn steps_from_kernels() {
    let time = |batch: u64, context: u64| {
        let text = format!(
            r#"(name: "own", source: "assumed", model: "llama3-8b",
            pools: {{"gpu": (role: all, device: "h100", count: 1)}}, load: (batch: {batch}, context: {context}))"#
        );
        let own = Scenario::parse(&Source::new("own.ron", text), None).unwrap();
        let (found, _) = report(own, Options::default(), &Unwatched).unwrap();
        batch as f64 / found.throughput
    };
    // 16 GB of weights at 3.35 TB/s take 4.8 ms.
    let least = time(1, 100);
    assert!((0.0048..0.0096).contains(&least), "{least}");
    assert!(time(32, 8000) > 2.0 * time(32, 500));
    assert!(time(64, 500) < 2.0 * least);
}

/// What a replayed server keeps, on a card of 81 559 MiB: nine tenths less weights, a step's activations and the runtime.
#[test]
fn blocks_are_what_memory_leaves() {
    let source = Source::new("t.csv", "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n");
    let of = on("h100", "t.csv").scenario().unwrap();
    let (system, _) = replay(&of, &source, &Unwatched).unwrap();
    let weights = 2.0
        * (32.0 * (4096.0 * (32.0 + 32.0 + 16.0) * 128.0 + 3.0 * 4096.0 * 14336.0)
            + 2.0 * 4096.0 * 128_256.0);
    // 2048 tokens: the stream in and out and three feed-forward widths; scores of the 256 that come out, in four bytes.
    let step = 2048.0 * 2.0 * (2.0 * 4096.0 + 3.0 * 14336.0) + 256.0 * 4.0 * 128_256.0;
    let left = 0.9 * 81_559.0 * 1_048_576.0 - weights - step - 1.359e9;
    assert_eq!(system.stores, [(left / 131_072.0) as u64]);
}

/// The weights have to fit, whoever says how many blocks there are.
#[test]
fn blocks_do_not_make_weights_fit() {
    let source = Source::new("t.csv", "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n");
    let given = Replay {
        model: "llama3-70b".into(),
        kv_blocks: Some(100),
        ..on("h200", "t.csv")
    };
    let refused = replay(&given.scenario().unwrap(), &source, &Unwatched)
        .err()
        .unwrap();
    let text = refused.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("needs 141.1 GB for weights"), "{text}");
}

/// Wider steps than the tables have are several of theirs: what lies between the last two points says nothing of them.
#[test]
fn a_step_beyond_the_tables_is_several_within() {
    let within =
        |chunks: &[(u64, u64)]| chunks.iter().map(|c| us(&load(&[], &[*c], 0))).sum::<f64>();
    let cut = within(&[(2048, 0), (2048, 2048), (2048, 4096), (1000, 6144)]);
    let wide = us(&load(&[], &[(7144, 0)], 0));
    assert!((wide / cut - 1.0).abs() < 1e-12, "{wide} {cut}");
    // 8192 tokens of 8 billion parameters are 114 TFLOP, 0.69 s at 165 TFLOP/s.
    assert!(us(&load(&[], &[(8192, 0)], 1)) > 690_000.0);
    // Requests too, and what comes out.
    let many = load(&[512; 300], &[], 300);
    assert!(us(&many) > us(&load(&[512; 256], &[], 256)));
    assert!(tables().beyond(&many).unwrap().contains("several"));
}

/// Beyond the longest measured, time grows with every token before a chunk and every token of context.
#[test]
fn no_step_beyond_the_tables_falls() {
    for chunk in [1, 16, 71, 900, 2019, 2047] {
        for decodes in [0, 1, 7, 128] {
            let mut last = 0.0;
            for far in [16_384u64, 16_385, 20_000, 59_363, 59_463, 1 << 20, 1 << 30] {
                let now = us(&load(&vec![far; decodes], &[(chunk, far)], 1));
                assert!(
                    now.is_finite() && now >= last,
                    "{chunk} {decodes} {far}: {now} {last}"
                );
                last = now;
            }
        }
    }
}

/// A table that lacks what a step needs is refused: nothing is made of nothing.
#[test]
fn tables_with_holes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let from = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../validation/data/serving/rtx4090-llama3.1-8b"
    );
    let hole = |file: &str, without: &str, says: &str| {
        for name in ["dense.csv", "per_sequence.csv", "attention.csv"] {
            let text = std::fs::read_to_string(format!("{from}/{name}")).unwrap();
            let kept = text
                .lines()
                .filter(|l| name != file || !l.starts_with(without));
            let kept: Vec<&str> = kept.collect();
            std::fs::write(folder.path().join(name), kept.join("\n")).unwrap();
        }
        let refused =
            ServerTables::load(&folder.path().display().to_string(), None, 32).unwrap_err();
        let text = refused.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains(says), "{text}");
    };
    hole("dense.csv", "o_proj,", "no time of the layer `o_proj`");
    hole(
        "per_sequence.csv",
        "sampler,",
        "no time of the layer `sampler`",
    );
    hole("attention.csv", "0,0,", "of decodes alone");
}

/// Between two measured points a third may be missing: times are linear there. At the end of a line they go on, and that
/// is said.
#[test]
fn holes_of_a_table_are_bridged() {
    let from = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../validation/data/serving/rtx4090-llama3.1-8b"
    );
    let without = |point: &str| {
        let folder = tempfile::tempdir().unwrap();
        for name in ["dense.csv", "per_sequence.csv", "attention.csv"] {
            let text = std::fs::read_to_string(format!("{from}/{name}")).unwrap();
            let kept: Vec<&str> = text.lines().filter(|l| !l.starts_with(point)).collect();
            std::fs::write(folder.path().join(name), kept.join("\n")).unwrap();
        }
        ServerTables::load(".", Some(folder.path()), 32).unwrap()
    };
    let attention = |tables: &ServerTables, context: u64| {
        let step = tables.step(&load(&[context], &[(16, 64)], 1));
        let own = step.into_iter().filter(|(o, _)| *o == Operator::Attention);
        own.map(|(_, us)| us).sum::<f64>()
    };
    let whole = tables();
    let holed = without("16,64,1,128,");
    // A third of the way from 64 to 256.
    let [low, high] = [64, 256].map(|k| attention(&whole, k));
    let bridged = low + (high - low) / 3.0;
    assert!((attention(&holed, 128) / bridged - 1.0).abs() < 1e-12);
    assert_eq!(holed.beyond(&load(&[128], &[(16, 64)], 1)), None);
    let short = without("16,64,1,16384,");
    let [low, high] = [4096, 8192].map(|k| attention(&whole, k));
    let further = high + 2.0 * (high - low).max(0.0);
    assert!((attention(&short, 16_384) / further - 1.0).abs() < 1e-12);
    let said = short.beyond(&load(&[16_384], &[(16, 64)], 1)).unwrap();
    assert!(said.contains("as none was measured"), "{said}");
}
