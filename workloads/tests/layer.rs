//! The decoder layer's shapes: its weights are the model's, and devices that share it have all of it between them.

#![allow(clippy::unwrap_used)]

use einflow_workloads::{
    Model,
    layer::{Elementwise, Layer, Operator, Phase, Product, Shape},
    models::Layers,
};
use proptest::prelude::*;

/// A model whose key heads and feed-forward columns divide among `devices`.
fn divided() -> impl Strategy<Value = (Model, u64)> {
    let sizes = (1..4u64, 1..5u64, 1..33u64, 1..33u64, 1..65u64, 1..33u64);
    (sizes, 1..6u64, 1..5u64, 1..9u64).prop_map(
        |((keys, group, query, value, hidden, feed), devices, layers, vocabulary)| {
            let model = Model {
                key_heads: keys * devices,
                heads: group * keys * devices,
                layers: Some(Layers::Alike(layers)),
                vocabulary: Some(vocabulary * devices),
                query_width: query,
                value_width: value,
                model_width: hidden,
                feed_forward_width: Some(feed * devices),
                ..Model::load("llama3-8b", None).unwrap()
            };
            (model, devices)
        },
    )
}

fn map(layer: &Layer, operator: Operator) -> Elementwise {
    match layer.shape(operator) {
        Shape::Elementwise(map) => map,
        other => panic!("{operator:?} is {other:?}"),
    }
}

proptest! {
    #[test]
    fn weights_are_the_products((model, _) in divided()) {
        let (d, e, f) = (model.model_width, model.query_width, model.value_width);
        let attention = d * (model.heads * (e + f) + model.key_heads * (e + f));
        let layers = model.depth().unwrap();
        let ends = 2 * d * model.vocabulary.unwrap();
        let expected = layers * (attention + 3 * d * model.feed_forward_width.unwrap()) + ends;
        prop_assert_eq!(model.weights(), Some(expected));
        prop_assert_eq!(model.attention_bytes(1).unwrap().0, u128::from(2 * layers * attention));
        prop_assert_eq!(model.cache_words(), Some(layers * model.key_heads * (e + f)));
        // The cache grows by what the operator that writes it reads, and writes.
        let written = map(&model.layer(1, 1), Operator::CacheWrite).words;
        prop_assert_eq!(model.cache_words(), Some(layers * written / 2));
    }

    #[test]
    fn devices_have_the_layer_between_them((model, devices) in divided(), tokens in 0..100u64) {
        let (all, one) = (model.layer(tokens, 1), model.layer(tokens, devices));
        for phase in [Phase::Prefill, Phase::Decode] {
            prop_assert_eq!(all.operators(phase), Layer::OPERATORS);
        }
        let whole = [Operator::Norm, Operator::Residual];
        for operator in Layer::OPERATORS.into_iter().chain([Operator::Query, Operator::KeyValue, Operator::Merge]) {
            match (all.shape(operator), one.shape(operator)) {
                (Shape::Product(a), Shape::Product(b)) => {
                    prop_assert_eq!(a.m, b.m);
                    prop_assert_eq!(a.weights().unwrap(), b.weights().unwrap() * devices);
                    // What is summed afterwards is the residual stream, whole on each.
                    let partial = b.n == a.n && b.k * devices == a.k;
                    prop_assert!(devices == 1 || operator.summed() == partial);
                }
                (Shape::Elementwise(a), Shape::Elementwise(b)) => {
                    let times = if whole.contains(&operator) { 1 } else { devices };
                    prop_assert_eq!(a.words, b.words * times);
                    let maps: Vec<u64> = b.maps.iter().map(|words| words * times).collect();
                    prop_assert_eq!(a.maps, maps);
                    prop_assert_eq!(a.rows, b.rows);
                }
                (Shape::Attention(a), Shape::Attention(b)) => {
                    let whole = [a.heads, a.key_heads, a.read];
                    prop_assert_eq!(whole, [b.heads, b.key_heads, b.read].map(|n| n * devices));
                    let widths = [a.query_width, a.value_width];
                    prop_assert_eq!(widths, [b.query_width, b.value_width]);
                }
                (a, b) => prop_assert_eq!(a, b),
            }
        }
        prop_assert_eq!([all.heads, all.key_heads], [one.heads, one.key_heads].map(|n| n * devices));
        let columns = |operator| one.product(operator).unwrap().n;
        prop_assert_eq!(
            columns(Operator::Query) + columns(Operator::KeyValue),
            columns(Operator::QueryKeyValue)
        );
        prop_assert_eq!(one.head().unwrap().n * devices, model.vocabulary.unwrap());
    }
}

#[test]
fn a_layer_of_llama3_70b_on_four_devices() {
    // 64 query heads and 8 key heads of 128, 8192 wide, 28672 in the feed-forward; 10 tokens.
    let layer = Model::load("llama3-70b", None).unwrap().layer(10, 4);
    let product = |operator| {
        let Product { m, k, n } = layer.product(operator).unwrap();
        [m, k, n]
    };
    assert_eq!(product(Operator::QueryKeyValue), [10, 8192, 2048 + 2 * 256]);
    assert_eq!(product(Operator::Output), [10, 2048, 8192]);
    assert_eq!(product(Operator::GateUp), [10, 8192, 2 * 7168]);
    assert_eq!(product(Operator::Down), [10, 7168, 8192]);
    assert_eq!(layer.head().unwrap().n, 32064);
    let words = |operator| map(&layer, operator).words;
    assert_eq!(map(&layer, Operator::Norm).rows, 10);
    assert_eq!(words(Operator::Norm), 2 * 81920);
    assert_eq!(words(Operator::Residual), 3 * 81920);
    assert_eq!(words(Operator::Rotary), 2 * (20480 + 2560));
    assert_eq!(words(Operator::CacheWrite), 2 * (2560 + 2560));
    // silu(gate) is written, and read with the other; in one pass it is neither.
    assert_eq!(map(&layer, Operator::Gate).maps, [2 * 71680, 3 * 71680]);
    assert_eq!(words(Operator::Gate), 3 * 71680);
}

/// Where heads do not divide, the device with most says how long it takes.
#[test]
fn the_largest_share_is_asked() {
    let model = Model::load("llama3-8b", None).unwrap();
    let layer = model.layer(1, 3);
    assert_eq!([layer.heads, layer.key_heads], [11, 3]);
    assert_eq!(layer.feed_forward, 4779);
}
