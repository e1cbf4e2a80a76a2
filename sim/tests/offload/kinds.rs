//! Layers of several kinds under a load: windows over unequal lengths, key heads on several devices, and a store that is
//! too small for all.

use einflow_arch::device::Kernel;
use einflow_serving::offload::{
    System,
    serve::Options,
    times::{Caches, Load, Operator, Times},
};

use super::{law_of, run, run_with, scenario};

const GPT_OSS: &str = r#"(name: "test", source: "assumed", model: "gpt-oss-20b",
    pools: {"all": (role: all, device: "h100", count: 1)}, load: (batch: 2, context: 1000))"#;

/// Of requests of 100 and 1000 tokens a layer with a window of 128 reads 100 and 128: 228, not 2 x 128. Both lengths are in one
/// block of 128 keys, so that they cost what their mean, 114, does; 12 of 24 layers have a window.
#[test]
fn a_window_is_over_each_requests_own_length() {
    let system = System::new(scenario(GPT_OSS, "")).unwrap();
    let mut times = Times::new(&system);
    let mut attention = |lengths: &[u64]| {
        let mut caches = Caches::default();
        lengths.iter().for_each(|length| caches.push(1, *length));
        let load = Load {
            caches,
            sampled: lengths.len() as u64,
            ..Load::default()
        };
        let timed = times.iteration(&load).unwrap();
        timed.model[Operator::Attention as usize].time.0 as f64 * 1e-6
    };
    // Requests of one length, within the window and beyond it: all layers read 114, or half of them 128.
    let decode = |length| {
        let layer = system.kinds[0].model.layer(2, 1);
        let a = einflow_arch::device::Attention {
            batch: 2,
            heads: layer.heads,
            key_heads: layer.key_heads,
            width: 64,
            value_width: 64,
            length,
            causal: false,
            cached: einflow_spec::Stored::BF16,
        };
        law_of("h100", "decode:vllm", Kernel::Decode(a))
    };
    let close = |found: f64, expected: f64| {
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    };
    close(attention(&[114, 114]), 24.0 * decode(114));
    close(
        attention(&[1000, 1000]),
        12.0 * (decode(1000) + decode(128)),
    );
    // What unequal lengths cost in the layers without a window is that of the same lengths there alone.
    let both = attention(&[100, 1000]);
    let full = both - 12.0 * decode(114);
    assert!(full >= 12.0 * decode(550) * (1.0 - 1e-6), "{full}");
    assert!(both < attention(&[1000, 1000]) + 12.0 * decode(1000));
}

/// Eight key heads on sixteen devices: each has one of them, and two of 32 query heads. A token keeps 32 layers of a key and
/// a value of 128 in two bytes on each, as on eight.
#[test]
fn key_heads_are_on_several_devices() {
    let text = |count: u64| {
        format!(
            r#"(name: "test", source: "assumed", model: "llama3-8b",
            pools: {{"all": (role: all, device: "h200", count: {count}, link: "nvlink4")}},
            load: (batch: 64, context: 2048))"#
        )
    };
    let room = |count| {
        let system = System::new(scenario(&text(count), "")).unwrap();
        (
            system.stores[0],
            system.models.memory.cache.0 / u128::from(system.stores[0]),
        )
    };
    let ((eight, token), (sixteen, same)) = (room(8), room(16));
    assert_eq!((token, same), (32 * 2 * 128 * 2, 32 * 2 * 128 * 2));
    // Only fewer weights make room.
    assert!(sixteen > eight && sixteen < eight * 11 / 10);
    assert!(run(&text(16), "").throughput > 0.0);
}

/// A store for one and a half of four requests: they wait, give way and come back, and every token is made. Layers with a
/// window hold 9 blocks of a request at most, and so do more requests fit than if all held all.
#[test]
fn a_small_store_of_two_kinds_loses_nothing() {
    let text = r#"(name: "test", source: "assumed", model: "gpt-oss-20b",
        pools: {"all": (role: all, device: "h100", count: 1, kv_blocks: 129)},
        prefill: chunked, admission: grow, reserve_prompts: false, null_block: false,
        load: (trace: "trace.csv", arrivals: false))"#;
    let trace = format!(
        "arrival_s,prompt_tokens,generated_tokens\n{}",
        "0,2000,600\n".repeat(4)
    );
    let system = System::new(scenario(text, &trace)).unwrap();
    // 2599 tokens are 163 blocks of 16; of 12 layers 2048 bytes a token each.
    let block = 12 * 2048 * 16;
    assert_eq!(system.room.bytes(system.taken(2599)).0, block * (163 + 9));
    // 129 blocks of all 24 layers, in every window, are 258 of half of them: one request of 172, and a half.
    assert_eq!(system.room.bytes(system.units[0]).0, block * 258);
    let (found, served) = run_with(text, &trace, Options::default());
    assert!(found.preemptions > 0, "{}", found.capacity.0);
    assert_eq!((found.requests, found.tokens), ((4, 4), (2400, 2400)));
    assert!(found.capacity.1 <= found.capacity.0);
    assert_eq!(served.finished, 4);
}
