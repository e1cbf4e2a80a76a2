//! Scenarios served: by hand where there are few requests, and nothing lost where there are many.

#![allow(clippy::unwrap_used)]

#[path = "offload/experts.rs"]
mod experts;
#[path = "offload/kinds.rs"]
mod kinds;
#[path = "offload/queues.rs"]
mod queues;
#[path = "offload/replicas.rs"]
mod replicas;
#[path = "offload/spread.rs"]
mod spread;
#[path = "offload/today.rs"]
mod today;

use einflow_arch::device::{Attention, Collective, DeviceLink, Kernel, links};
use einflow_serving::{
    device::Answerer,
    offload::{
        Report, Scenario, System, report,
        scenario::scenarios,
        serve::{Options, Served, Unwatched},
    },
};
use einflow_spec::{Source, Stored};

fn scenario(text: &str, trace: &str) -> Scenario {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trace.csv"), trace).unwrap();
    // The folder must outlive the run: it is small, and goes with the machine's temporary files.
    let path = folder.keep();
    Scenario::parse(&Source::new("test.ron", text), Some(path)).unwrap_or_else(|p| panic!("{p}"))
}

fn run_with(text: &str, trace: &str, options: Options) -> (Report, Served) {
    report(scenario(text, trace), options, &Unwatched).unwrap_or_else(|p| panic!("{p}"))
}

fn run(text: &str, trace: &str) -> Report {
    run_with(text, trace, Options::default()).0
}

const TOGETHER: &str = r#"(
    name: "test", source: "assumed", model: "llama3-8b",
    pools: {"all": (role: all, device: "h200", count: 2, link: "nvlink4", memory_utilization: 0.9)},
    host_overhead: "1 ms", load: (batch: 64, context: 2048),
)"#;

const APART: &str = r#"(
    name: "test", source: "assumed", model: "llama3-8b",
    pools: {
        "model": (role: model, device: "h200", count: 1),
        "attention": (role: attention, device: "h200", count: 2, partition: heads),
    },
    links: [(name: "net", between: ["model", "attention"], link: "ethernet-400g")],
    boundary: core, overlap: false, batches: 1, host_overhead: "0 ms",
    load: (batch: 64, context: 2048),
)"#;

/// The H200's law, in microseconds.
fn law(name: &str, kernel: Kernel) -> f64 {
    law_of("h200", name, kernel)
}

/// A device's law, in microseconds.
fn law_of(device: &str, name: &str, kernel: Kernel) -> f64 {
    let device = Answerer::load(device, None).unwrap().device;
    let flushed = !matches!(kernel, Kernel::Pass { .. });
    device.by_law(name, &kernel, flushed).unwrap().0 * 1e6
}

fn product(m: u64, k: u64, n: u64) -> f64 {
    law("product:graph", Kernel::product(m, k, n))
}

fn pass(law_name: &str, rows: u64, words: u64) -> f64 {
    law(
        law_name,
        Kernel::Pass {
            rows,
            bytes: 2 * words,
        },
    )
}

fn decode(batch: u64, heads: u64, key_heads: u64, length: u64) -> f64 {
    let a = Attention {
        batch,
        heads,
        key_heads,
        width: 128,
        value_width: 128,
        length,
        causal: false,
        cached: Stored::BF16,
    };
    law("decode:vllm", Kernel::Decode(a))
}

fn link(name: &str) -> DeviceLink {
    DeviceLink::parse(&links().find(name, None).unwrap().0).unwrap()
}

/// Rounding of every time to a picosecond, some thirty times a layer: far below this.
const ROUNDED: f64 = 1e-6;

#[test]
fn an_iteration_on_one_pool_is_the_sum_of_its_kernels() {
    // Llama-3-8B on two: 32 layers, 4096 wide, 32 and 8 heads of 128, 14336 between.
    let b = 64;
    let reduce = link("nvlink4")
        .all_reduce("all_reduce:graph", 2, b * 4096 * 2, Collective::Ring)
        .unwrap()
        .0
        * 1e6;
    let layer = 2.0 * pass("pass:norm:graph", b, 2 * b * 4096)
        + product(b, 4096, (16 + 8) * 128)
        + pass("pass:graph", 1, 2 * b * (16 + 8) * 128)
        + decode(b, 16, 4, 2048)
        + product(b, 2048, 4096)
        + product(b, 4096, 14336)
        + pass("pass:graph", 1, 3 * b * 7168)
        + product(b, 7168, 4096)
        + 2.0 * reduce;
    let step = 1000.0 + 32.0 * layer + product(b, 4096, 128_256 / 2);
    let found = run(TOGETHER, "");
    let expected = 64.0 / step * 1e6;
    assert!(
        (found.throughput / expected - 1.0).abs() < ROUNDED,
        "{} {expected}",
        found.throughput
    );
    // $ and J by hand: two H200s at 3.8 $/h; not below what both draw idle.
    assert_eq!(found.dollars_per_hour, 7.6);
    let per_dollar = found.throughput * 3600.0 / 7.6;
    assert!((found.tokens_per_dollar / per_dollar - 1.0).abs() < 1e-12);
    let idle = 2.0 * 124.8 / found.throughput;
    let limit = 2.0 * 700.0 / found.throughput;
    assert!(found.joules_per_token > idle && found.joules_per_token < limit);
    // The host's millisecond is no device's.
    let busy = 1.0 - 1000.0 / step;
    assert!((found.devices[0].utilization - busy).abs() < ROUNDED);
    assert_eq!(found.devices.len(), 2);
}

#[test]
fn one_batch_apart_is_slices_messages_and_attention_in_turn() {
    let b = 64;
    let before = pass("pass:norm:graph", b, 2 * b * 4096)
        + product(b, 4096, (32 + 16) * 128)
        + pass("pass:graph", 1, 2 * b * (32 + 16) * 128);
    let after = product(b, 4096, 4096)
        + pass("pass:norm:graph", b, 2 * b * 4096)
        + product(b, 4096, 2 * 14336)
        + pass("pass:graph", 1, 3 * b * 14336)
        + product(b, 14336, 4096);
    let last = pass("pass:norm:graph", b, 2 * b * 4096) + product(b, 4096, 128_256);
    // Two devices: half of the heads each; each writes its new keys and values, reading and writing them once.
    let attend = decode(b, 16, 4, 2048) + pass("pass:graph", 1, 2 * 2 * b * 4 * 128);
    let net = link("ethernet-400g");
    // The one device of the model sends and receives all of it: e d B (1 + 2 / G) there, e d B back, G = 4.
    let send = |bytes: u64| net.send("send", bytes, 1).unwrap().0 * 1e6;
    let there = send(2 * 4096 * b + 2 * 2 * 4096 * b / 4);
    let back = send(2 * 4096 * b);
    let step = 32.0 * (before + there + attend + back + after) + last;
    let found = run(APART, "");
    let expected = 64.0 / step * 1e6;
    assert!(
        (found.throughput / expected - 1.0).abs() < ROUNDED,
        "{} {expected}",
        found.throughput
    );
    let tokens = found.throughput * found.window_s;
    let bytes = |i: usize| found.links[i].bytes / tokens;
    assert!(
        (bytes(0) - 32.0 * 2.0 * 4096.0 * 1.5).abs() < 1.0,
        "{}",
        bytes(0)
    );
    assert!((bytes(1) - 32.0 * 2.0 * 4096.0).abs() < 1.0);
    // A direction is busy while its words stream, not while they are on their way.
    for (direction, message) in [there, back].into_iter().enumerate() {
        let busy = 32.0 * (message - send(0)) / step;
        let utilization = found.links[direction].utilization;
        assert!(
            (utilization / busy - 1.0).abs() < ROUNDED,
            "{utilization} {busy}"
        );
    }
    // Lamina's formula, both directions, over what model and attention take.
    let needed = found.needed.unwrap();
    let time = 0.2 * (32.0 * (before + attend + after) + last) * 1e-6;
    let both = 2.5 * 2.0 * 4096.0 * 64.0 * 32.0 / time * 1e-9;
    assert!((needed.aggregate / both - 1.0).abs() < ROUNDED);
    assert!((needed.duplex / needed.aggregate - 1.5 / 2.5).abs() < 1e-12);
    assert_eq!(needed.per_attention_device * 2.0, needed.aggregate);
}

#[test]
fn room_for_caches_is_what_weights_and_runtime_leave() {
    let scenario = Scenario::load("vllm-70b").unwrap();
    let system = System::new(scenario).unwrap();
    // 0.9 of 80 GB, a quarter of the weights, activations of 2048 tokens (a stream in and out, three feed-forward widths and the
    // scores of a quarter of the vocabulary in four bytes), 1 GB.
    let weights = 80.0 * (8192.0 * (64.0 + 64.0 + 8.0 + 8.0) * 128.0 + 3.0 * 8192.0 * 28672.0)
        + 2.0 * 8192.0 * 128_256.0;
    let step = 2048.0 * (2.0 * (2.0 * 8192.0 + 3.0 * 28672.0 / 4.0) + 4.0 * 128_256.0 / 4.0);
    let left = 0.9 * 80e9 - 2.0 * weights / 4.0 - step - 1e9;
    let tokens = 4.0 * left / 327_680.0;
    assert_eq!(system.stores, [tokens as u64]);
}

#[test]
fn every_shipped_scenario_parses_and_names_what_exists() {
    for name in scenarios().names() {
        let scenario = Scenario::load(name).unwrap_or_else(|p| panic!("{name}: {p}"));
        assert_eq!(scenario.name, name);
        System::new(scenario).unwrap_or_else(|p| panic!("{name}: {p}"));
    }
}
