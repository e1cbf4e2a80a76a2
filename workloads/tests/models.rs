//! What published models take, derived by hand from their published configurations.
//!
//! Nothing here is read from a model's file: each number is arithmetic on the configuration that the file cites.

#![allow(clippy::unwrap_used)]

#[path = "models/derived.rs"]
mod derived;

use std::{fs, path::Path};

use derived::{Count, Derived, LONG, derived};

use einflow_spec::{Record, with_tables};
use einflow_workloads::{
    Model,
    layer::{Attended, Grouped, Layer, Operator, Phase, Product, Recurrence, Shape},
    models::{Experts, Formats, Kind, Latent, Linear},
};

fn load(name: &str) -> Model {
    Model::load(name, None).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn models_take_what_is_derived_by_hand() {
    for by_hand in derived() {
        let (name, model) = (by_hand.name, load(by_hand.name));
        assert_eq!(model.weights(), Some(by_hand.weights), "{name}");
        let all = by_hand.weights + by_hand.left_out;
        match by_hand.published {
            Count::Exact(published) => assert_eq!(all, published, "{name}"),
            // 48.4 billion are called 48.
            Count::About(published) => {
                let off = all as f64 / published as f64 - 1.0;
                assert!(
                    off.abs() < if name == "kimi-linear" { 0.008 } else { 0.001 },
                    "{name}: {all}"
                );
            }
        }
        assert!(by_hand.left_out * 10_000 < by_hand.weights, "{name}");
        assert_eq!(model.active_weights(), Some(by_hand.active), "{name}");
        assert_eq!(
            model.weight_bytes(1).unwrap().0,
            by_hand.bytes.into(),
            "{name}"
        );
        assert_eq!(
            model.token_cache_bytes(1).unwrap().0,
            by_hand.cache.into(),
            "{name}"
        );
        assert_eq!(
            model.request_bytes(LONG, 1).unwrap().0,
            by_hand.request.into(),
            "{name}"
        );
        // Rounded or cut to as many digits as are published: 513 stands for 5.13 billion, 3700 for 37.
        if let Some((stated, besides)) = by_hand.stated_active {
            let unit = [100, 10, 1]
                .into_iter()
                .find(|unit| stated % unit == 0)
                .unwrap();
            let counted = (by_hand.active + besides) as f64 / 1e7;
            let near = (counted - stated as f64).abs() <= unit as f64 / 2.0;
            let cut = counted >= stated as f64 && counted < (stated + unit) as f64;
            assert!(near || cut, "{name}: {counted} where {stated} is published");
        }
    }
}

/// The bytes of the published checkpoints of gpt-oss (its model card): 12.8 and 60.8 GiB.
#[test]
fn packed_experts_take_what_their_checkpoint_takes() {
    for (name, gib) in [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)] {
        let bytes = load(name).weight_bytes(1).unwrap().0 as f64 / f64::from(1 << 30);
        assert!((bytes - gib).abs() < 0.05, "{name}: {bytes}");
    }
}

#[test]
fn windows_fill_up_and_states_do_not_grow() {
    let bytes = |name, length| load(name).request_bytes(length, 1).unwrap().0;
    // 24 layers of 2048 bytes; from the window on, twelve.
    assert_eq!(bytes("gpt-oss-20b", 128), 128 * 24 * 2048);
    assert_eq!(bytes("gpt-oss-20b", 129), 128 * 24 * 2048 + 12 * 2048);
    assert_eq!(bytes("kimi-linear", 0), 43_417_600);
    assert_eq!(
        bytes("kimi-linear", 1000) - bytes("kimi-linear", 0),
        8_064_000
    );
}

#[test]
fn devices_share_heads_and_columns() {
    let llama = load("llama3.1-8b");
    assert_eq!(
        llama.weight_bytes(8).unwrap().0,
        llama.weight_bytes(1).unwrap().0 / 8
    );
    assert_eq!(llama.token_cache_bytes(8).unwrap().0, 131_072 / 8);
    // Two devices have a copy each of one key head.
    assert_eq!(llama.token_cache_bytes(16).unwrap().0, 131_072 / 8);
    // A latent is whole on each, and so are its first products and the routers.
    let deepseek = load("deepseek-v3");
    assert_eq!(deepseek.token_cache_bytes(8).unwrap().0, 70_272);
    let (d, heads) = (7168u64, 16);
    let latent = d * 1536 + 1536 * heads * 192 + d * 576 + 512 * heads * 256 + heads * 128 * d;
    // Blocks of scales: 24 columns of heads' queries, 32 of keys and values, 16 rows of the product out.
    let blocks = 56 * 12 + 12 * 24 + 56 * 5 + 4 * 32 + 16 * 56;
    // 256 columns of each expert and 2304 of a dense layer: 2 and 18 blocks.
    let columns = 3 * d * 2304 * 3 + 58 * 257 * 3 * d * 256;
    let scales = 3 * 3 * 56 * 18 + 58 * 257 * 3 * 56 * 2;
    let bf16 = 58 * d * 256 + 2 * (129_280 / 8) * d;
    let expected = 61 * (latent + 4 * blocks) + columns + 4 * scales + 2 * bf16;
    assert_eq!(deepseek.weight_bytes(8).unwrap().0, expected.into());
}

fn kind(model: &Model, name: &str, tokens: u64) -> Layer {
    let kinds = model.kinds();
    let (_, _, model) = kinds.iter().find(|(kind, ..)| *kind == name).unwrap();
    model.layer(tokens, 1)
}

#[test]
fn a_latent_is_expanded_for_prompts_and_absorbed_in_decoding() {
    use Operator as O;
    let layer = kind(&load("deepseek-v3"), "experts", 10);
    let product = |o| layer.product(o).unwrap();
    assert_eq!(
        product(O::QueryDown),
        Product {
            m: 10,
            k: 7168,
            n: 1536
        }
    );
    assert_eq!(
        product(O::QueryUp),
        Product {
            m: 10,
            k: 1536,
            n: 128 * 192
        }
    );
    assert_eq!(
        product(O::LatentDown),
        Product {
            m: 10,
            k: 7168,
            n: 576
        }
    );
    assert_eq!(
        product(O::LatentUp),
        Product {
            m: 10,
            k: 512,
            n: 128 * (128 + 128)
        }
    );
    assert_eq!(
        product(O::Output),
        Product {
            m: 10,
            k: 128 * 128,
            n: 7168
        }
    );
    let absorbed = [(O::Absorb, 128, 512), (O::Expand, 512, 128)];
    for (operator, k, n) in absorbed {
        let expected = Grouped {
            groups: 128,
            rows: 1280,
            each: 128,
            k,
            n,
        };
        assert_eq!(layer.shape(operator), Shape::Grouped(expected));
        assert_eq!(layer.stored(operator), None);
    }
    // Between them the weights of both are those of the product that they stand for.
    assert_eq!(128 * (128 * 512 + 512 * 128), 512 * 128 * 256);
    let all = Attended {
        heads: 128,
        key_heads: 128,
        query_width: 192,
        value_width: 128,
        read: 128 * 320,
        window: None,
    };
    assert_eq!(layer.shape(O::Attention), Shape::Attention(all));
    let one = Attended {
        key_heads: 1,
        query_width: 576,
        value_width: 512,
        read: 576,
        ..all
    };
    assert_eq!(layer.shape(O::LatentAttention), Shape::Attention(one));
    let [prompts, decoding] = [Phase::Prefill, Phase::Decode].map(|phase| layer.operators(phase));
    let only = |a: &[O], b: &[O]| {
        a.iter()
            .filter(|o| !b.contains(o))
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!(only(&prompts, &decoding), [O::LatentUp, O::Attention]);
    assert_eq!(
        only(&decoding, &prompts),
        [O::Absorb, O::LatentAttention, O::Expand]
    );
}

#[test]
fn experts_have_the_rows_that_chose_them() {
    use Operator as O;
    let layer = kind(&load("deepseek-v3"), "experts", 10);
    assert_eq!(
        layer.product(O::Router),
        Some(Product {
            m: 10,
            k: 7168,
            n: 256
        })
    );
    let into = Grouped {
        groups: 256,
        rows: 80,
        each: 8,
        k: 7168,
        n: 4096,
    };
    assert_eq!(layer.shape(O::ExpertsGateUp), Shape::Grouped(into));
    assert_eq!(into.touched(), 80);
    // 256 (1 - (1 - 8 / 256)^10) of them have a row, if they are drawn at random.
    assert!((into.drawn() - 69.638_103_9).abs() < 1e-6);
    assert_eq!(
        layer.shape(O::ExpertsDown),
        Shape::Grouped(Grouped {
            groups: 256,
            rows: 80,
            each: 8,
            k: 2048,
            n: 7168
        })
    );
    assert_eq!(
        layer.product(O::SharedGateUp),
        Some(Product {
            m: 10,
            k: 7168,
            n: 4096
        })
    );
    assert_eq!(
        layer.product(O::SharedDown),
        Some(Product {
            m: 10,
            k: 2048,
            n: 7168
        })
    );
    // Eight rows and that of the shared expert are read, one is written.
    let Shape::Elementwise(combined) = layer.shape(O::Combine) else {
        panic!()
    };
    assert_eq!(combined.words, 10 * 10 * 7168);
    assert!(
        !kind(&load("deepseek-v3"), "dense", 1)
            .operators(Phase::Decode)
            .contains(&O::Router)
    );
}

#[test]
fn linear_attention_has_a_state_in_place_of_a_cache() {
    use Operator as O;
    let model = load("kimi-linear");
    let layer = kind(&model, "linear", 10);
    let product = |o| layer.product(o).map(|p| [p.m, p.k, p.n]);
    assert_eq!(product(O::QueryKeyValue), Some([10, 2304, 3 * 4096]));
    assert_eq!(product(O::DecayDown), Some([10, 2304, 128]));
    assert_eq!(product(O::Decay), Some([10, 128, 4096]));
    assert_eq!(product(O::Strength), Some([10, 2304, 32]));
    assert_eq!(product(O::OutputGateDown), Some([10, 2304, 128]));
    assert_eq!(product(O::OutputGate), Some([10, 128, 4096]));
    assert_eq!(product(O::Output), Some([10, 4096, 2304]));
    let state = Recurrence {
        heads: 32,
        query_width: 128,
        value_width: 128,
    };
    assert_eq!(layer.shape(O::Recurrence), Shape::Recurrence(state));
    let operators = layer.operators(Phase::Decode);
    assert!(
        [O::CacheWrite, O::Attention, O::Rotary]
            .iter()
            .all(|o| !operators.contains(o))
    );
    assert_eq!(
        (layer.cached(), layer.state()),
        (0, [32 * 128 * 128, 3 * 3 * 4096])
    );
    // The order of its 27 layers, as counts.
    let kinds: Vec<_> = model
        .kinds()
        .into_iter()
        .map(|(name, layers, _)| (name.to_owned(), layers))
        .collect();
    let expected = [("dense", 1), ("linear", 19), ("latent", 7)]
        .map(|(name, layers)| (name.to_owned(), layers));
    assert_eq!(kinds, expected);
}

/// One that stands for latent attention's products where `projections` would ask for another.
#[test]
fn ranks_without_one_size_say_why() {
    let why = |name| load(name).unsized_ranks();
    assert!(why("llama3.1-8b").is_empty() && why("gemma3-27b").is_empty());
    let kimi = why("kimi-linear");
    assert_eq!(
        kimi["E"],
        "128 in `dense`, 128 in `linear`, 192 in `latent`"
    );
    assert_eq!(kimi.keys().copied().collect::<Vec<_>>(), ["D", "E", "S"]);
    assert_eq!(why("mixtral-8x7b")["S"], "that of each expert");
    assert_eq!(load("deepseek-v3").sizes(7)["E"], 192);
}

/// The tables of the page are those of the declarations, and of what is derived here.
#[test]
fn the_page_has_the_fields_and_the_numbers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference/models.md");
    let page = fs::read_to_string(&path).unwrap();
    let tables = [
        ("## A file", Model::fields()),
        ("### A kind of layer", Kind::fields()),
        ("### A latent", Latent::fields()),
        ("### Linear attention", Linear::fields()),
        ("### Experts", Experts::fields()),
        ("### Formats", Formats::fields()),
    ];
    let mut found = with_tables(&page, &tables);
    let head = "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    let from = found.find(head).unwrap() + head.len();
    let length: usize = found[from..]
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('|'))
        .map(str::len)
        .sum();
    found.replace_range(
        from..from + length,
        &derived().iter().map(row).collect::<String>(),
    );
    if std::env::var_os("EINFLOW_BLESS").is_some_and(|v| v == "1") {
        fs::write(&path, &found).unwrap();
    } else {
        assert!(
            found == page,
            "EINFLOW_BLESS=1 writes the tables of models.md anew"
        );
    }
}

fn row(of: &Derived) -> String {
    let billions = |words: u64| format!("{:.2}", words as f64 * 1e-9);
    let published = match of.published {
        Count::Exact(published) => published.to_string(),
        Count::About(published) => billions(published),
    };
    let active = of.stated_active.map_or("-".into(), |(stated, _)| {
        format!("{}", stated as f64 / 100.0)
    });
    format!(
        "| `{}` | {} | {published} | {} | {active} | {} | {} | {} |\n",
        of.name,
        billions(of.weights),
        billions(of.active),
        of.bytes,
        of.cache,
        of.request
    )
}
