//! Servers side by side, and pools of several groups.

use super::*;

/// Copies of one server, with as many times the load, do what it does.
#[test]
fn a_replica_that_serves_by_itself_has_a_host_of_its_own() {
    let of = |n: u64| {
        let text = format!(
            r#"(name: "test", source: "assumed", model: "llama3-8b",
            pools: {{"all": (role: all, device: "h200", count: {n}, tensor_parallel: 1)}},
            batches: {n}, host_overhead: "5 ms", load: (batch: {}, context: 4096))"#,
            64 * n
        );
        run(&text, "")
    };
    let one = of(1);
    for n in [2, 3, 16] {
        let many = of(n);
        let share = many.throughput / (n as f64 * one.throughput);
        assert!((share - 1.0).abs() < 1e-9, "{n}: {share}");
        assert_eq!(
            many.between.map(|b| b.mean),
            one.between.as_ref().map(|b| b.mean)
        );
    }
    // Two batches on one replica share its host: what one's host does while the other runs takes no time, and 5 ms is less.
    let text = r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {"all": (role: all, device: "h200", count: 1)},
        batches: 2, host_overhead: "5 ms", load: (batch: 128, context: 4096))"#;
    let shared = run(text, "");
    assert!(shared.throughput > one.throughput && shared.throughput < 2.0 * one.throughput);
}

/// As many groups for prompts as for decoding: prompts' caches travel side by side, each over its own pair's link.
#[test]
fn each_pair_of_groups_has_a_link_of_its_own() {
    let of = |prompts: u64, decodes: u64| {
        let text = format!(
            r#"(name: "test", source: "assumed", model: "llama3-8b",
            pools: {{
                "p": (role: prefill, device: "h200", count: {prompts}, tensor_parallel: 1),
                "d": (role: all, device: "h200", count: {decodes}, tensor_parallel: 1),
            }},
            batches: {decodes}, links: [(name: "kv", between: ["p", "d"], link: "ethernet-400g")],
            load: (trace: "trace.csv", arrivals: true), prefill: pool)"#
        );
        // 8 prompts at once, of which each cache has 8192 x 131 072 B.
        let row = "0,8192,4\n".repeat(8);
        run(
            &text,
            &format!("arrival_s,prompt_tokens,generated_tokens\n{row}"),
        )
    };
    let cache = 8192.0 * 131_072.0;
    let busy = |r: &Report| (r.links[0].utilization * r.window_s, r.links[0].bytes);
    let (one, eight) = (of(1, 1), of(8, 8));
    // All of eight links, or one of them for all: as long for each cache.
    let (time, bytes) = busy(&one);
    let (side_by_side, all) = busy(&eight);
    assert_eq!((bytes, all), (8.0 * cache, 8.0 * cache));
    assert!((side_by_side - time / 8.0).abs() < 1e-9 * time);
    // What is fewer has a say: two groups that decode take two caches at a time, and so do two that compute prompts.
    for (prompts, decodes) in [(8, 2), (2, 8)] {
        let (two, _) = busy(&of(prompts, decodes));
        assert!((two - time / 2.0).abs() < 1e-9 * time, "{two} {time}");
    }
}

/// Each of two devices has half of the heads, their biases, columns and vocabulary.
#[test]
fn biases_are_weights_too() {
    let text = TOGETHER.replace("llama3-8b", "qwen2.5-32b");
    let system = System::new(scenario(&text, "")).unwrap();
    let biased = 5120 * 128 * (20 + 4 + 4) + 128 * (20 + 4 + 4);
    let layer = biased + 20 * 128 * 5120 + 3 * 5120 * 27648 / 2;
    let weights: u128 = 2 * (64 * layer + 2 * 5120 * 152_064 / 2);
    assert_eq!(system.models.memory.weights.0, weights);
    // 64 layers, keys and values of four heads of 128, two bytes.
    let room = system.models.memory.cache.0 / (64 * 2 * 4 * 128 * 2);
    assert_eq!(u128::from(system.stores[0]), room);
}
