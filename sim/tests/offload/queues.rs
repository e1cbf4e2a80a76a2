//! Requests through every kind of system: none is lost, and those that wait are told.

use super::*;

/// Requests of mixed lengths, some of them bursts.
fn trace(seed: u64, count: u64, longest: u64) -> String {
    let mut state = seed;
    let mut below = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    let mut out = String::from("arrival_s,prompt_tokens,generated_tokens\n");
    let mut at = 0;
    for _ in 0..count {
        at += [0, 0, 30, 400][below(4) as usize];
        let (prompt, generated) = (1 + below(longest), 1 + below(200));
        out.push_str(&format!("{:.3},{prompt},{generated}\n", at as f64 / 1000.0));
    }
    out
}

fn generated(trace: &str) -> u64 {
    let last = |line: &str| line.rsplit(',').next().unwrap().parse::<u64>().unwrap();
    trace.lines().skip(1).map(last).sum()
}

/// Every mode: pools, partition, boundary, overlap, batches, admission, prompts.
fn modes() -> Vec<String> {
    let apart = |batches: u64, extra: &str, pool: &str| {
        format!(
            r#"(name: "test", source: "assumed", model: "llama3-8b",
            pools: {{
                "model": (role: model, device: "h200", count: {}),
                "attention": (role: attention, device: "rtx4090", {pool}),
            }},
            links: [(name: "net", between: ["model", "attention"], link: "ethernet-400g")],
            batches: {batches}, host_overhead: "1 ms", {extra}
            load: (trace: "trace.csv", arrivals: ARRIVALS))"#,
            batches.saturating_sub(1).max(1)
        )
    };
    // Caches of some 8000 tokens, so that requests wait and give way.
    let heads = r#"count: 4, partition: heads, memory: "1.5 GB", link: "pcie4""#;
    let requests = r#"count: 3, partition: requests, memory: "1.7 GB""#;
    let mut out = Vec::new();
    for batches in 1..=3 {
        for admission in ["grow", "reserve"] {
            for overlap in ["true", "false"] {
                let extra = format!("admission: {admission}, overlap: {overlap},");
                out.push(apart(batches, &extra, heads));
                out.push(apart(batches, &extra, requests));
            }
        }
    }
    out.push(apart(
        2,
        "boundary: projections,",
        r#"count: 3, partition: requests, memory: "5 GB""#,
    ));
    let together = |extra: &str| {
        format!(
            r#"(name: "test", source: "assumed", model: "llama3-8b",
            pools: {{"all": (role: all, device: "h200", count: 2, tensor_parallel: 1, memory: "22 GB")}},
            batches: 2, host_overhead: "1 ms", {extra}
            load: (trace: "trace.csv", arrivals: ARRIVALS))"#
        )
    };
    out.push(together("admission: grow,"));
    out.push(together("admission: reserve,"));
    out.push(together(
        "prefill: chunked, step_tokens: 256, admission: grow,",
    ));
    out.push(together(
        "prefill: chunked, sequences: 5, admission: reserve,",
    ));
    out.push(together(
        "prefill: chunked, block_size: 5, prefix_caching: false,",
    ));
    out.push(together(
        "prefill: chunked, policy: static, step_tokens: 256,",
    ));
    out.push(apart(2, "policy: static, sequences: 3,", heads));
    out.push(apart(3, "policy: static,", requests));
    out.push(
        r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {
            "prompts": (role: prefill, device: "h200", count: 2, tensor_parallel: 1),
            "model": (role: model, device: "h200", count: 1),
            "attention": (role: attention, device: "rtx4090", count: 4, partition: heads, memory: "1.5 GB"),
        },
        links: [
            (name: "net", between: ["model", "attention"], link: "ethernet-400g"),
            (name: "caches", between: ["prompts", "attention"], link: "ethernet-400g"),
        ],
        batches: 2, host_overhead: "1 ms", prefill: pool,
        load: (trace: "trace.csv", arrivals: ARRIVALS))"#
            .into(),
    );
    out
}

#[test]
fn every_token_is_made_and_what_is_passed_over_changes_nothing() {
    let trace = trace(3, 150, 1500);
    let wanted = generated(&trace);
    let mut preempted = 0;
    for mode in modes() {
        for arrivals in ["true", "false"] {
            let text = mode.replace("ARRIVALS", arrivals);
            let all = Options {
                jump: false,
                spans: 0,
            };
            let (one, served) = run_with(&text, &trace, Options::default());
            let (other, slow) = run_with(&text, &trace, all);
            assert_eq!(one.tokens, (wanted, wanted), "{text}");
            assert_eq!(one.requests, (150, 150), "{text}");
            assert!(one.capacity.1 <= served_capacity(&text), "{text}");
            // Twice the same, and the same with every layer simulated.
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "{text}");
            assert!(served.events <= slow.events);
            for device in &one.devices {
                assert!(
                    device.utilization <= 1.0 + 1e-9,
                    "{} {text}",
                    device.utilization
                );
            }
            for link in &one.links {
                assert!(link.utilization <= 1.0 + 1e-9 && link.peak_gb_per_s < 50.0);
            }
            preempted += one.preemptions;
        }
    }
    assert!(preempted > 0, "some cache was too small for all that grew");
}

/// Tokens of the largest store.
fn served_capacity(text: &str) -> u64 {
    let system = System::new(scenario(text, "")).unwrap();
    system.stores.into_iter().max().unwrap()
}

#[test]
fn a_request_alone_takes_what_a_batch_of_one_takes() {
    // One request, one token after another: each an iteration over one token more.
    let trace = "arrival_s,prompt_tokens,generated_tokens\n5,1000,3\n";
    let text = APART.replace(
        "load: (batch: 64, context: 2048)",
        "load: (trace: \"trace.csv\", arrivals: true)",
    );
    let (found, _) = run_with(&text, trace, Options::default());
    let each: f64 = [1001, 1002, 1003]
        .iter()
        .map(|context| {
            let fixed = APART.replace(
                "batch: 64, context: 2048",
                &format!("batch: 1, context: {context}"),
            );
            1.0 / run(&fixed, "").throughput
        })
        .sum();
    // The clock starts with the first arrival.
    let rate = 3.0 / each;
    assert!(
        (found.throughput / rate - 1.0).abs() < 1e-9,
        "{} {rate}",
        found.throughput
    );
    assert_eq!(found.bound_by, "arrivals");
}

#[test]
fn prompts_in_chunks_come_before_the_first_token() {
    // 600 tokens at 256 a step: three steps, the last of 88, whose end is the first token.
    let trace = "arrival_s,prompt_tokens,generated_tokens\n0,600,1\n";
    let text = r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {"all": (role: all, device: "h200", count: 1)},
        host_overhead: "1 ms", prefill: chunked, step_tokens: 256, admission: grow, async_scheduling: false,
        load: (trace: "trace.csv", arrivals: true))"#;
    let found = run(text, trace);
    let prefill = |c: f64, before: f64| {
        let length = (c * (c + 2.0 * before)).sqrt().round() as u64;
        let a = Attention {
            batch: 1,
            heads: 32,
            key_heads: 8,
            width: 128,
            value_width: 128,
            length,
            causal: true,
            cached: Stored::BF16,
        };
        law("prefill:cudnn", Kernel::Prefill(a)).min(law("prefill:flash", Kernel::Prefill(a)))
    };
    let events = law("pass", Kernel::Pass { rows: 1, bytes: 0 })
        - law("pass:graph", Kernel::Pass { rows: 1, bytes: 0 });
    let step = |m: u64, before: f64| {
        1000.0
            + 32.0
                * (2.0 * pass("pass:norm:graph", m, 2 * m * 4096)
                    + product(m, 4096, 48 * 128)
                    + pass("pass:graph", 1, 2 * m * 48 * 128)
                    + prefill(m as f64, before)
                    - events
                    + product(m, 4096, 4096)
                    + product(m, 4096, 2 * 14336)
                    + pass("pass:graph", 1, 3 * m * 14336)
                    + product(m, 14336, 4096))
    };
    let expected = step(256, 0.0) + step(256, 256.0) + step(88, 512.0) + product(1, 4096, 128_256);
    let first = found.first.unwrap().p50 * 1e3;
    // The histogram keeps three digits.
    assert!((first / expected - 1.0).abs() < 2e-3, "{first} {expected}");
    assert_eq!(found.tokens, (1, 1));
}

#[test]
fn a_full_cache_holds_what_the_mean_context_allows() {
    let found = report(
        Scenario::load("lamina-70b").unwrap(),
        Options::default(),
        &Unwatched,
    )
    .unwrap()
    .0;
    let filled = found.mean_batch * found.mean_context / found.capacity.0 as f64;
    // All but what is free for want of a request that fits, and between a batch's iterations.
    assert!((0.98..=1.005).contains(&filled), "{filled}");
    assert!(found.saturated);
    assert_eq!(found.requests, (19366, 19366));
}

/// A request that fills the cache to the last token comes back after it was preempted, and again.
#[test]
fn preempted_requests_do_not_grow() {
    let text = r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {"all": (role: all, device: "h100", count: 1, memory: "22 GB")},
        admission: grow, load: (trace: "trace.csv", arrivals: false))"#;
    let most = served_capacity(text);
    let half = most / 2;
    let row = format!("0,{},{}\n", half - 5, most - (half - 5));
    let trace = format!(
        "arrival_s,prompt_tokens,generated_tokens\n{}",
        row.repeat(3)
    );
    let found = run(text, &trace);
    assert!(found.preemptions > 0);
    assert_eq!(found.requests, (3, 3));
    assert_eq!(found.tokens.0, found.tokens.1);
    assert_eq!(found.capacity.1, most);
}

/// Requests of one token are done when their prompts are: two groups of one device, a prompt after another, each of two
/// whole steps.
#[test]
fn prompts_of_one_token_end_when_they_end() {
    let text = modes().pop().unwrap().replace("ARRIVALS", "true");
    let trace = format!(
        "arrival_s,prompt_tokens,generated_tokens\n{}",
        "0,4096,1\n".repeat(50)
    );
    let found = run(&text, &trace);
    assert_eq!((found.tokens, found.requests), ((50, 50), (50, 50)));
    let one = run(
        &text,
        "arrival_s,prompt_tokens,generated_tokens\n0,4096,1\n",
    )
    .window_s;
    assert!((found.window_s / (25.0 * one) - 1.0).abs() < 1e-9);
    for device in found
        .devices
        .iter()
        .filter(|d| d.name.starts_with("prompts/"))
    {
        assert!(
            (device.utilization - 1.0).abs() < 1e-9,
            "{}",
            device.utilization
        );
    }
    assert_ne!(found.bound_by, "arrivals");
}

/// What travels while old tokens are attended is hidden: overlap costs nothing where batches differ, or rotate.
#[test]
fn overlap_is_never_much_slower() {
    for (batches, count) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
        for batch in [13, 129, 400] {
            let text = APART
                .replace("batches: 1", &format!("batches: {batches}"))
                .replace(
                    "device: \"h200\", count: 1",
                    &format!("device: \"h200\", count: {count}"),
                )
                .replace("batch: 64", &format!("batch: {batch}"));
            let with = run(&text.replace("overlap: false", "overlap: true"), "").throughput;
            let without = run(&text, "").throughput;
            // Two products in place of one, and a merge, are more work: 3 % at most of these.
            assert!(with > 0.97 * without, "{batches} {batch}: {with} {without}");
        }
    }
}

/// Caches travel in the order in which prompts end: a long prompt on one group keeps none of the other group's waiting.
#[test]
fn a_long_prompt_holds_up_no_link() {
    let text = modes()
        .pop()
        .unwrap()
        .replace("ARRIVALS", "true")
        .replace("1.5 GB", "12 GB");
    let short = "0,100,20\n".repeat(40);
    let head = "arrival_s,prompt_tokens,generated_tokens\n";
    let alone = run(&text, &format!("{head}{short}"));
    let behind = run(&text, &format!("{head}0,60000,2\n{short}"));
    let p90 = |r: &Report| r.between.unwrap().p90;
    assert!(
        p90(&behind) < 1.5 * p90(&alone),
        "{} {}",
        p90(&behind),
        p90(&alone)
    );
    assert_eq!(behind.tokens, (802, 802));
}

/// Where batches wait for a place and not for room, the window is that in which they do.
#[test]
fn a_queue_for_places_is_a_queue() {
    let text = r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {"all": (role: all, device: "h100", count: 1)},
        sequences: 64, load: (trace: "trace.csv", arrivals: false))"#;
    let trace = format!(
        "arrival_s,prompt_tokens,generated_tokens\n{}0,100,2000\n",
        "0,100,10\n".repeat(640)
    );
    let found = run(text, &trace);
    assert!(found.saturated);
    assert!(found.mean_batch > 63.0, "{}", found.mean_batch);
    let alone = run(&text.replace("arrivals: false", "arrivals: true"), &trace);
    assert_ne!(alone.bound_by, "arrivals");
}

/// Few requests fit, so that a batch empties now and then: it must come back while others wait.
#[test]
fn a_batch_that_emptied_comes_back() {
    let text = r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {
            "model": (role: model, device: "h200", count: 1),
            "attention": (role: attention, device: "h20", count: 1, memory: "2 GB"),
        },
        links: [(name: "net", between: ["model", "attention"], link: "ethernet-400g")],
        batches: 2, admission: ADMISSION, load: (trace: "trace.csv", arrivals: false))"#;
    for admission in ["grow", "reserve"] {
        let text = text.replace("ADMISSION", admission);
        let most = served_capacity(&text);
        // Three at a time, most of the time.
        let row = |i: u64| format!("0,{},{}\n", most / 4 - 100 * (i % 3), 20 + 37 * (i % 5));
        let rows: String = (0..200).map(row).collect();
        let found = run(
            &text,
            &format!("arrival_s,prompt_tokens,generated_tokens\n{rows}"),
        );
        assert!(found.mean_batch > 2.8, "{admission}: {}", found.mean_batch);
    }
}

/// A fixed load fits store by store, not in their sum.
#[test]
fn a_fixed_request_is_whole_in_its_store() {
    let text = r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {
            "model": (role: model, device: "h200", count: 1),
            "attention": (role: attention, device: "h20", count: 4, partition: requests, memory: "6 GB"),
        },
        links: [(name: "net", between: ["model", "attention"], link: "ethernet-400g")],
        load: (batch: BATCH, context: 20000))"#;
    assert_eq!(run(&text.replace("BATCH", "full"), "").mean_batch, 4.0);
    let found = report(
        scenario(&text.replace("BATCH", "5"), ""),
        Options::default(),
        &Unwatched,
    );
    assert!(
        found
            .err()
            .unwrap()
            .to_string()
            .contains("2 of them need 40000 tokens")
    );
}
