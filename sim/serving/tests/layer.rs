//! However a decoder layer is run, its products are the same.

#![allow(clippy::unwrap_used)]

use einflow_arch::device::Kernel;
use einflow_serving::device::{
    Call, Launch, Step,
    layer::{Lowering, Phase, layer, parts},
    two_gpus,
};
use einflow_workloads::{
    Model,
    layer::{Layer, Operator, Product},
};
use proptest::prelude::*;

const LOWERINGS: [Lowering; 4] = [
    Lowering::Framework,
    Lowering::Bare,
    Lowering::Served,
    Lowering::Library,
];

fn models() -> impl Strategy<Value = Model> {
    let sizes = (1..5u64, 1..5u64, 1..129u64, 1..500u64, 1..500u64);
    sizes.prop_map(|(keys, group, width, hidden, feed)| Model {
        // Two devices divide what one has.
        key_heads: 2 * keys,
        heads: 2 * keys * group,
        query_width: width,
        value_width: width,
        model_width: hidden,
        feed_forward_width: Some(2 * feed),
        ..Model::load("llama3-8b", None).unwrap()
    })
}

/// The products of some kernels, in no order.
fn products<'c>(calls: impl IntoIterator<Item = &'c Call>) -> Vec<Product> {
    let product = |call: &Call| match call.kernel {
        Kernel::Product {
            batch: 1, m, k, n, ..
        } => Some(Product { m, k, n }),
        _ => None,
    };
    let mut out: Vec<Product> = calls.into_iter().filter_map(product).collect();
    out.sort_unstable();
    out
}

fn operations<'c>(calls: impl IntoIterator<Item = &'c Call>) -> f64 {
    calls.into_iter().map(|c| c.kernel.operations()).sum()
}

/// Every kernel of steps, one for each choice of a library.
fn calls(steps: &[Step]) -> Vec<Call> {
    let one = |step: &Step| match step {
        Step::Call(call) | Step::Clean(call) => vec![call.clone()],
        Step::Fastest(calls) => calls[..1].to_vec(),
        Step::Repeat { steps, .. } => calls(steps),
        Step::Apart(apart) => {
            let slice = calls(&apart.slice);
            slice.into_iter().chain(calls(&apart.attend)).collect()
        }
        _ => Vec::new(),
    };
    steps.iter().flat_map(one).collect()
}

fn bytes(lowering: Lowering, operators: &[Operator], layer: &Layer) -> f64 {
    let calls = lowering.all(operators, layer);
    calls.iter().map(|call| call.kernel.bytes()).sum()
}

proptest! {
    #[test]
    fn every_lowering_does_the_same_products(model in models(), tokens in 1..200u64, length in 1..200u64) {
        for devices in [1, 2] {
            let shared = model.layer(tokens, devices);
            let expected: Vec<Product> = {
                let all = Layer::OPERATORS.iter();
                let mut all: Vec<_> = all.filter_map(|o| shared.product(*o)).collect();
                all.sort_unstable();
                all
            };
            for lowering in LOWERINGS {
                let kernels = lowering.all(&Layer::OPERATORS, &shared);
                prop_assert_eq!(&products(&kernels), &expected);
                let apart = lowering.all(&[Operator::Query, Operator::KeyValue], &shared);
                let joined = lowering.kernels(Operator::QueryKeyValue, &shared);
                prop_assert_eq!(operations(&apart), operations(&joined));
            }
            let of_parts = parts(&model, devices, tokens).unwrap();
            let of_parts: Vec<Call> = of_parts.iter().flat_map(|(_, t)| calls(&t.steps)).collect();
            prop_assert_eq!(&products(&of_parts), &expected);
            // Whole layers: attention with them.
            let modes = match devices {
                1 => &["one_gpu", "split1", "split2"][..],
                _ => &["tp2"],
            };
            let mut whole: Vec<Vec<Call>> = modes
                .iter()
                .map(|mode| calls(&two_gpus::task(&model, mode, tokens, length, 3).steps))
                .collect();
            if devices == 1 {
                let decode = layer(&model, Phase::Decode, tokens, length, Launch::Graph);
                whole.push(calls(&decode.steps));
            }
            for kernels in &whole {
                prop_assert_eq!(&products(kernels), &expected);
                prop_assert_eq!(operations(kernels), operations(&whole[0]));
            }
        }
    }

    /// Fusing saves passes over memory, and nothing moves less than once in and once out.
    #[test]
    fn fusing_moves_less(model in models(), tokens in 1..200u64) {
        let layer = model.layer(tokens, 1);
        let all = |lowering| bytes(lowering, &Layer::OPERATORS, &layer);
        prop_assert!(all(Lowering::Served) < all(Lowering::Library));
        prop_assert!(all(Lowering::Library) < all(Lowering::Framework));
        // Five passes for each of q and k.
        let rotary = |lowering| bytes(lowering, &[Operator::Rotary], &layer);
        prop_assert_eq!(rotary(Lowering::Framework), 5.0 * rotary(Lowering::Library));
        // With the write to the cache, v is moved too: read and written, of words of two bytes.
        let values = 4.0 * layer.words(layer.values()) as f64;
        prop_assert_eq!(rotary(Lowering::Served), rotary(Lowering::Library) + values);
    }
}

/// A framework's layer, kernel by kernel.
#[test]
fn a_framework_launches_each_map() {
    let model = Model::load("llama3-8b", None).unwrap();
    let task = layer(&model, Phase::Prefill, 2, 8, Launch::Eager);
    let pass = |kernel: Kernel| match kernel {
        Kernel::Pass { rows, bytes } => Some((rows, bytes)),
        _ => None,
    };
    let (hidden, keys, feed) = (16 * 4096, 16 * 1024, 16 * 14336);
    let kernels = calls(&task.steps);
    let found: Vec<_> = kernels
        .iter()
        .filter_map(|c| pass(c.kernel.clone()))
        .collect();
    let mut expected = vec![(16, 4 * hidden)];
    expected.extend([(1, 4 * hidden); 5]);
    expected.extend([(1, 4 * keys); 5]);
    expected.extend([(1, 4 * keys); 2]);
    expected.extend([(1, 6 * hidden), (16, 4 * hidden)]);
    expected.extend([(1, 4 * feed), (1, 6 * feed), (1, 6 * hidden)]);
    assert_eq!(found, expected);
    let attention = kernels.iter().find_map(|c| match c.kernel {
        Kernel::Prefill(a) => Some((a.batch, a.heads, a.key_heads, a.width, a.length, a.causal)),
        _ => None,
    });
    assert_eq!(attention, Some((2, 32, 8, 128, 8, true)));
}

/// Mixtral: 8 experts, of which two work on a token. Of one token both have a row; of four, 8 (1 - (3/4)^4) = 5.47 have one
/// in the mean, so that 8 rows lie as 2, 2, 2, 1, 1 on five; of 64, all eight have 16.
#[test]
fn experts_are_one_launch_over_those_that_are_drawn() {
    let model = Model::load("mixtral-8x7b", None).unwrap();
    let rows = |tokens: u64| {
        let layer = model.layer(tokens, 2);
        let calls = Lowering::Served.kernels(Operator::ExpertsGateUp, &layer);
        let [Call { law, kernel, .. }] = &calls[..] else {
            panic!("{calls:?}");
        };
        let Kernel::Grouped {
            experts,
            rows,
            k,
            n,
            ..
        } = kernel
        else {
            panic!("{kernel:?}");
        };
        // A device of two has half of each expert's columns: of gate and up 14 336.
        assert_eq!(
            (law.as_str(), *experts, *k, *n),
            ("grouped", 8, 4096, 14_336)
        );
        rows.to_vec()
    };
    assert_eq!(rows(1), [1, 1]);
    assert_eq!(rows(4), [2, 2, 2, 1, 1]);
    assert_eq!(rows(64), [16; 8]);
    let layer = model.layer(1, 1);
    assert_eq!(
        layer.feed_forward_operators(),
        [
            Operator::Router,
            Operator::ExpertsGateUp,
            Operator::ExpertsGate,
            Operator::ExpertsDown,
            Operator::Combine,
        ]
    );
    // Gate and up, and what is multiplied, of two experts: 2 x 3 x 14 336.
    assert_eq!(layer.fed_words(), 86_016);
    let dense = Model::load("llama3-8b", None).unwrap().layer(1, 1);
    assert_eq!(dense.fed_words(), 3 * 14_336);
    assert_eq!(
        dense.feed_forward_operators(),
        [Operator::GateUp, Operator::Gate, Operator::Down]
    );
}

/// Learned positions turn nothing: new keys and values go to the cache in a pass of their own.
#[test]
fn without_a_rotary_embedding_caches_are_written_all_the_same() {
    let passes = |model: &str, operator| {
        let layer = Model::load(model, None).unwrap().layer(10, 1);
        let calls = Lowering::Served.kernels(operator, &layer).into_iter();
        calls.map(|c| c.kernel.bytes() as u64).collect::<Vec<_>>()
    };
    assert_eq!(passes("gpt3-175b", Operator::Rotary), [0; 0]);
    // Keys and values of 96 heads of 128, read and written in two bytes each.
    let bytes = 10 * 2 * (2 * 96 * 128) * 2;
    assert_eq!(passes("gpt3-175b", Operator::CacheWrite), [bytes]);
    assert_eq!(passes("llama3-8b", Operator::CacheWrite), [0; 0]);
    assert_eq!(passes("llama3-8b", Operator::Rotary).len(), 1);
}
