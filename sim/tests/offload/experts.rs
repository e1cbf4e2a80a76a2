//! Mixtures of experts by hand.

use einflow_arch::device::{Attention, Collective, Kernel, Operands};
use einflow_spec::Stored;

use super::{ROUNDED, TOGETHER, law_of, link, run};

/// Mixtral on two: of 64 tokens' 128 rows each of eight experts has 16, and a device half of its columns.
#[test]
fn experts_are_two_launches_a_layer() {
    let b = 64;
    let text = TOGETHER
        .replace("llama3-8b", "mixtral-8x7b")
        .replace("h200", "h100");
    let reduce = link("nvlink4").all_reduce("all_reduce:graph", 2, b * 4096 * 2, Collective::Ring);
    let of = |name: &str, kernel| law_of("h100", name, kernel);
    let product = |k, n| of("product", Kernel::product(b, k, n));
    let pass = |name: &str, rows, words: u64| {
        let bytes = 2 * words;
        of(name, Kernel::Pass { rows, bytes })
    };
    // Timed alone between events, of which a pass over memory shows what they cost beyond a launch in a graph.
    let floor = |name: &str| of(name, Kernel::Pass { rows: 1, bytes: 0 });
    let events = floor("pass") - floor("pass:graph");
    let experts = |k, n| {
        let rows = vec![16; 8].into();
        let kernel = Kernel::Grouped {
            experts: 8,
            rows,
            k,
            n,
            operands: Operands::WORDS,
        };
        of("grouped", kernel) - events
    };
    let a = Attention {
        batch: b,
        heads: 16,
        key_heads: 4,
        width: 128,
        value_width: 128,
        length: 2048,
        causal: false,
        cached: Stored::BF16,
    };
    let layer = 2.0 * pass("pass:norm:graph", b, 2 * b * 4096)
        + product(4096, (16 + 8) * 128)
        + pass("pass:graph", 1, 2 * b * (16 + 8) * 128)
        + of("decode:vllm", Kernel::Decode(a))
        + product(2048, 4096)
        + product(4096, 8)
        + experts(4096, 14_336)
        // Two experts' gate and up of a token are read, their product is written.
        + pass("pass:graph", 1, b * 2 * 3 * 7168)
        + experts(7168, 4096)
        // What two made is read, their sum written.
        + pass("pass:graph", 1, b * 3 * 4096)
        + 2.0 * reduce.unwrap().0 * 1e6;
    let step = 1000.0 + 32.0 * layer + product(4096, 32_000 / 2);
    let found = run(&text, "");
    let expected = 64.0 / step * 1e6;
    assert!(
        (found.throughput / expected - 1.0).abs() < ROUNDED,
        "{} {expected}",
        found.throughput
    );
}
