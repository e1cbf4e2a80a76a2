//! Whole experts divided among devices, by hand.

use einflow_arch::device::{Attention, Kernel, Operands};
use einflow_serving::offload::{
    Scenario, System, report,
    serve::{Options, Unwatched},
};
use einflow_spec::Stored;

use super::{ROUNDED, decode, law_of, link, pass, product, run};

const MIXTRAL: &str = r#"(
  name: "own", source: "assumed", model: "mixtral-8x7b",
  pools: {"all": (role: all, device: "h100", count: 4, tensor_parallel: 1, expert_parallel: 4, expert_imbalance: 1.5, link: "nvlink4")},
  batches: 4, load: (batch: 64, context: 1024),
)"#;

/// Mixtral on four: each attends over 16 requests with all heads and has two of eight experts whole. Two experts of each of
/// 64 tokens are 32 rows a device in the mean, 48 on the busiest. A token has none of a device's two experts with
/// (6/8)(5/7): it is sent to 3 (1 - 30/56) others.
#[test]
fn a_step_is_the_sum_of_its_kernels_and_of_its_ways() {
    let b = 16;
    let of = |name: &str, kernel| law_of("h100", name, kernel);
    let product = |k, n| of("product", Kernel::product(b, k, n));
    let pass = |name: &str, rows, bytes| of(name, Kernel::Pass { rows, bytes });
    let floor = |name: &str| pass(name, 1, 0);
    let events = floor("pass") - floor("pass:graph");
    let experts = |k, n| {
        let kernel = Kernel::Grouped {
            experts: 2,
            rows: vec![24; 2].into(),
            k,
            n,
            operands: Operands::WORDS,
        };
        of("grouped", kernel) - events
    };
    let a = Attention {
        batch: b,
        heads: 32,
        key_heads: 8,
        width: 128,
        value_width: 128,
        length: 1024,
        causal: false,
        cached: Stored::BF16,
    };
    let bytes = (16.0 * 3.0 * (1.0 - 30.0 / 56.0) * 4096.0 * 2.0_f64).ceil() as u64;
    let way = link("nvlink4").send("send:graph", bytes, 4).unwrap().0 * 1e6;
    let layer = 2.0 * pass("pass:norm:graph", b, 4 * b * 4096)
        + product(4096, (32 + 16) * 128)
        + pass("pass:graph", 1, 4 * b * (32 + 16) * 128)
        + of("decode:vllm", Kernel::Decode(a))
        + product(4096, 4096)
        + product(4096, 8)
        + 2.0 * way
        + experts(4096, 2 * 14_336)
        // Gate and up of a row are read, their product is written: 48 rows of 14336 words.
        + pass("pass:graph", 1, 2 * 48 * 3 * 14_336)
        + experts(14_336, 4096)
        + pass("pass:graph", 1, 2 * b * 3 * 4096);
    let step = 32.0 * layer + product(4096, 32_000);
    let found = run(MIXTRAL, "");
    let expected = 64.0 / step * 1e6;
    assert!(
        (found.throughput / expected - 1.0).abs() < ROUNDED,
        "{} {expected}",
        found.throughput
    );
    let ways = found.devices[0].by_operator.iter();
    let ways: f64 = ways
        .filter(|(name, _)| *name == "all-to-all")
        .map(|(_, share)| share)
        .sum();
    assert!((ways / (64.0 * way / step) - 1.0).abs() < ROUNDED, "{ways}");
    let said = found
        .assumptions
        .iter()
        .any(|a| a.contains("experts are divided among 4 devices"));
    assert!(said, "{:?}", found.assumptions);
}

/// Bytes of a matrix in fp8 with a scale of four bytes to 128 x 128.
fn fp8(k: u64, n: u64) -> u64 {
    k * n + 4 * k.div_ceil(128) * n.div_ceil(128)
}

/// DeepSeek-V3 on 16, each with 16 of 256 experts whole and all else: 61 layers of latents, three of them dense.
#[test]
fn a_device_has_whole_experts() {
    let scenario = Scenario::load("today-deepseek-experts").unwrap();
    let system = System::new(scenario).unwrap();
    let attention = fp8(7168, 1536)
        + fp8(1536, 128 * 192)
        + fp8(7168, 576)
        + fp8(512, 128 * 256)
        + fp8(128 * 128, 7168);
    let one = fp8(7168, 2 * 2048) + fp8(2048, 7168);
    let dense = fp8(7168, 2 * 18_432) + fp8(18_432, 7168);
    let router = 2 * 7168 * 256;
    let expected = 61 * attention + 3 * dense + 58 * (17 * one + router) + 2 * 2 * 129_280 * 7168;
    assert_eq!(system.models.memory.weights.0, u128::from(expected));
}

/// The same: a token has one of a device's 16 experts with 1 - (240 ... 233) / (256 ... 249), one of a host's 128 with
/// 1 - (128 ... 121) / (256 ... 249). It goes in a byte a word and a scale of four to 128, and comes back in two bytes.
#[test]
fn tokens_go_to_experts_within_and_between_hosts() {
    let scenario = Scenario::load("today-deepseek-experts").unwrap();
    let (found, _) = report(scenario, Options::default(), &Unwatched).unwrap();
    let missed = |others: f64| {
        (0..8)
            .map(|i| (others - f64::from(i)) / (256.0 - f64::from(i)))
            .product::<f64>()
    };
    let copies = [2.0 * 7.0 * (1.0 - missed(240.0)), 1.0 - missed(128.0)];
    let links = [link("nvlink4-dgx"), link("ethernet-400g")];
    let mut layer = 0.0;
    for bytes in [7168.0 + 4.0 * 56.0, 2.0 * 7168.0] {
        let time =
            |at: usize, bytes: f64| links[at].send("send", bytes.ceil() as u64, 16).unwrap().0;
        let latency = [time(0, 0.0), time(1, 0.0)];
        let stream = [0, 1].map(|at| time(at, 64.0 * copies[at] * bytes) - latency[at]);
        layer += latency[0] + latency[1] + stream[0].max(stream[1]);
    }
    let step = 1024.0 / found.throughput;
    let shares = found.devices[0].by_operator.iter();
    let share: f64 = shares
        .filter(|(name, _)| *name == "all-to-all")
        .map(|(_, share)| share)
        .sum();
    assert!(
        (share * step / (58.0 * layer) - 1.0).abs() < ROUNDED,
        "{} {}",
        share * step,
        58.0 * layer
    );
}

/// What does not go together is refused where it is written.
#[test]
fn divisions_that_do_not_fit_are_refused() {
    let refused = |from: &str, to: &str| {
        let text = MIXTRAL.replace(from, to);
        assert_ne!(text, MIXTRAL);
        let source = einflow_spec::Source::new("own.ron", text);
        let found = Scenario::parse(&source, None).and_then(|s| System::new(s).map(|_| ()));
        found.unwrap_err().to_string()
    };
    let said = refused("expert_parallel: 4", "expert_parallel: 3");
    assert!(
        said.contains("experts among 3 of 4 devices in groups of 1"),
        "{said}"
    );
    let said = refused("mixtral-8x7b", "llama3-8b");
    assert!(said.contains("llama3-8b has no experts"), "{said}");
    let said = refused(", link: \"nvlink4\"", "");
    assert!(
        said.contains("tokens go to experts of other devices"),
        "{said}"
    );
    let said = refused(
        "expert_parallel: 4",
        "pipeline_parallel: 4, expert_parallel: 4",
    );
    assert!(said.contains("experts among 4 of 4 devices"), "{said}");
    let said = refused(
        "count: 4, tensor_parallel: 1, expert_parallel: 4",
        "count: 16, tensor_parallel: 4, expert_parallel: 16",
    );
    assert!(said.contains("8 experts among 16 devices"), "{said}");
    let said = refused(
        "count: 4, tensor_parallel: 1, expert_parallel: 4, expert_imbalance: 1.5",
        "count: 64, pipeline_parallel: 64",
    );
    assert!(
        said.contains("64 stages, and mixtral-8x7b has 32 layers"),
        "{said}"
    );
    let said = refused("expert_parallel: 4, ", "");
    assert!(said.contains("expert_imbalance"), "{said}");
    let said = refused("link:", "node: 2, link:");
    assert!(
        said.contains("nodes between which nothing travels"),
        "{said}"
    );
}

/// Llama-3-8B in three stages: 32 layers are 11, 11 and 10, and the vocabulary's scores. One batch goes through all of
/// them and over two links; with three in flight the longest stage is always busy.
#[test]
fn stages_one_after_another() {
    let b = 16;
    let text = |batches: u64| {
        format!(
            r#"(name: "own", source: "assumed", model: "llama3-8b",
            pools: {{"all": (role: all, device: "h200", count: 3, pipeline_parallel: 3, link: "nvlink4")}},
            batches: {batches}, load: (batch: {}, context: 2048))"#,
            16 * batches
        )
    };
    let layer = 2.0 * pass("pass:norm:graph", b, 2 * b * 4096)
        + product(b, 4096, (32 + 16) * 128)
        + pass("pass:graph", 1, 2 * b * (32 + 16) * 128)
        + decode(b, 32, 8, 2048)
        + product(b, 4096, 4096)
        + product(b, 4096, 2 * 14_336)
        + pass("pass:graph", 1, 3 * b * 14_336)
        + product(b, 14_336, 4096);
    let head = product(b, 4096, 128_256);
    let way = link("nvlink4")
        .send("send:graph", b * 4096 * 2, 1)
        .unwrap()
        .0
        * 1e6;
    let alone = 32.0 * layer + head + 2.0 * way;
    let found = run(&text(1), "");
    let expected = 16.0 / alone * 1e6;
    assert!(
        (found.throughput / expected - 1.0).abs() < ROUNDED,
        "{} {expected}",
        found.throughput
    );
    let longest = (11.0 * layer).max(10.0 * layer + head);
    let found = run(&text(3), "");
    let expected = 16.0 / longest * 1e6;
    assert!(
        (found.throughput / expected - 1.0).abs() < ROUNDED,
        "{} {expected}",
        found.throughput
    );
    // 11 layers of 218 112 000 words, and one table of 128256 x 4096.
    let system =
        System::new(Scenario::parse(&einflow_spec::Source::new("own.ron", text(1)), None).unwrap())
            .unwrap();
    let words = 11 * (4096 * 48 * 128 + 4096 * 4096 + 3 * 4096 * 14_336) + 128_256 * 4096;
    assert_eq!(system.models.memory.weights.0, 2 * words);
    // Eleven layers keep 4096 bytes of a token each.
    assert_eq!(
        u128::from(system.stores[0]),
        system.models.memory.cache.0 * 32 / 11 / (32 * 4096)
    );
}
