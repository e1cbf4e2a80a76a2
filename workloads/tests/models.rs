//! What published models take, derived by hand from their published configurations.
//!
//! Nothing here is read from a model's file: each number is arithmetic on the configuration that the file cites.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use einflow_spec::{Record, with_tables};
use einflow_workloads::{
    Model,
    layer::{Attended, Grouped, Layer, Operator, Phase, Product, Recurrence, Shape},
    models::{Experts, Formats, Kind, Latent, Linear},
};

/// A published number of parameters.
enum Count {
    /// That of the checkpoint, to the last one.
    Exact(u64),
    /// A rounded one.
    About(u64),
}

/// A model by hand.
struct Derived {
    name: &'static str,
    /// Words of weights.
    weights: u64,
    /// Words of normalisations, and of vectors that the model's file leaves out.
    left_out: u64,
    /// Parameters as published.
    published: Count,
    /// Words that products read for a token: the vocabulary's way out is among them, its way in is not.
    active: u64,
    /// What is published of those, in tenths of billions, with the words that this counts besides.
    stated_active: Option<(u64, u64)>,
    /// Bytes of weights.
    bytes: u64,
    /// Bytes of a token's cache in all layers.
    cache: u64,
    /// Bytes of a request of 128K tokens.
    request: u64,
}

const LONG: u64 = 1 << 17;

/// Grouped queries: q, k, v and the product out.
fn attention(d: u64, heads: u64, keys: u64, width: u64) -> u64 {
    d * width * (heads + 2 * keys) + heads * width * d
}

fn gated(d: u64, width: u64) -> u64 {
    3 * d * width
}

/// A model of one kind of dense layer.
fn dense(
    name: &'static str,
    [d, heads, keys, width, feed, layers, vocabulary]: [u64; 7],
    bias: u64,
    published: u64,
) -> Derived {
    let layer = attention(d, heads, keys, width) + bias + gated(d, feed);
    let weights = layers * layer + 2 * vocabulary * d;
    let cache = layers * 2 * keys * width * 2;
    Derived {
        name,
        weights,
        left_out: (2 * layers + 1) * d,
        published: Count::Exact(published),
        active: weights - vocabulary * d,
        stated_active: None,
        bytes: 2 * weights,
        cache,
        request: cache * LONG,
    }
}

/// gpt-oss: 64 query heads over 8, of 64; biases, sinks, experts of 2880.
fn gpt_oss(name: &'static str, layers: u64, experts: u64, published: u64, stated: u64) -> Derived {
    let d = 2880;
    let attention = attention(d, 64, 8, 64) + (64 + 2 * 8) * 64 + d + 64;
    let router = d * experts + experts;
    let [expert, biases] = [gated(d, 2880), 2 * 2880 + d];
    let table = 201_088 * d;
    // Half a byte a number, and a byte of scale to 32 of them: 90 blocks down each column.
    let packed = expert / 2 + 90 * (2 * 2880 + d) + 2 * biases;
    Derived {
        name,
        weights: layers * (attention + router + experts * (expert + biases)) + 2 * table,
        left_out: (2 * layers + 1) * d,
        published: Count::Exact(published),
        active: layers * (attention + router + 4 * (expert + biases)) + table,
        stated_active: Some((stated, 0)),
        bytes: layers * (2 * (attention + router) + experts * packed) + 2 * 2 * table,
        cache: layers * 2 * 8 * 64 * 2,
        request: layers / 2 * (LONG + 128) * 2 * 8 * 64 * 2,
    }
}

fn derived() -> Vec<Derived> {
    let qwen2 = 5120 + 2 * 1024;
    let mut all = vec![
        dense(
            "llama3.1-8b",
            [4096, 32, 8, 128, 14336, 32, 128_256],
            0,
            8_030_261_248,
        ),
        dense(
            "llama3.1-70b",
            [8192, 64, 8, 128, 28672, 80, 128_256],
            0,
            70_553_706_496,
        ),
        dense(
            "llama3.1-405b",
            [16384, 128, 8, 128, 53248, 126, 128_256],
            0,
            405_853_388_800,
        ),
        dense(
            "qwen2.5-32b",
            [5120, 40, 8, 128, 27648, 64, 152_064],
            qwen2,
            32_763_876_352,
        ),
        gpt_oss("gpt-oss-20b", 24, 32, 20_914_757_184, 361),
        gpt_oss("gpt-oss-120b", 36, 128, 116_829_156_672, 513),
    ];
    // Mixtral: two of eight experts; 46.7 and 12.9 billion, both with the embedding.
    let (own, table) = (attention(4096, 32, 8, 128) + 4096 * 8, 32_000 * 4096);
    let expert = gated(4096, 14336);
    let weights = 32 * (own + 8 * expert) + 2 * table;
    all.push(Derived {
        name: "mixtral-8x7b",
        weights,
        left_out: 65 * 4096,
        published: Count::Exact(46_702_792_704),
        active: 32 * (own + 2 * expert) + table,
        stated_active: Some((1290, table)),
        bytes: 2 * weights,
        cache: 131_072,
        request: 131_072 * LONG,
    });
    // Qwen3: normalisations of each head's queries and keys too; 3.3 billion with the embedding.
    let (own, table) = (attention(2048, 32, 4, 128) + 2048 * 128, 151_936 * 2048);
    let expert = gated(2048, 768);
    let weights = 48 * (own + 128 * expert) + 2 * table;
    all.push(Derived {
        name: "qwen3-30b-a3b",
        weights,
        left_out: 48 * (2 * 2048 + 2 * 128) + 2048,
        published: Count::Exact(30_532_122_624),
        active: 48 * (own + 8 * expert) + table,
        stated_active: Some((330, table)),
        bytes: 2 * weights,
        cache: 98_304,
        request: 98_304 * LONG,
    });
    all.extend([deepseek(), gpt3(), kimi(), gemma()]);
    all
}

fn deepseek() -> Derived {
    let (d, heads) = (7168, 128);
    let latent =
        d * 1536 + 1536 * heads * 192 + d * (512 + 64) + 512 * heads * 256 + heads * 128 * d;
    let [dense, expert] = [gated(d, 18432), gated(d, 2048)];
    let (router, table) = (d * 256, 129_280 * d);
    let fp8 = 61 * latent + 3 * dense + 58 * 257 * expert;
    // Scales of four bytes to 128 x 128: the product of 576 columns has half a block more.
    let blocks = 56 * 12 + 12 * 192 + 56 * 5 + 4 * 256 + 128 * 56;
    let blocks = 61 * blocks + 3 * 3 * 56 * 144 + 58 * 257 * 3 * 56 * 16;
    Derived {
        name: "deepseek-v3",
        weights: fp8 + 58 * router + 2 * table,
        // Normalisations, also of both latents, and a correction for each expert.
        left_out: 61 * (2 * d + 1536 + 512) + d + 58 * 256,
        // Without the module for further tokens.
        published: Count::Exact(671_026_419_200),
        active: 61 * latent + 3 * dense + 58 * (router + 9 * expert) + table,
        stated_active: Some((3700, 0)),
        bytes: fp8 + 4 * blocks + 2 * (58 * router + 2 * table),
        cache: 61 * (512 + 64) * 2,
        request: 61 * (512 + 64) * 2 * LONG,
    }
}

fn gpt3() -> Derived {
    let d = 12288;
    let layer = 4 * d * d + 4 * d + 8 * d * d + 5 * d;
    let weights = 96 * layer + 50_257 * d + 2048 * d;
    Derived {
        name: "gpt3-175b",
        weights,
        left_out: 96 * 4 * d + 2 * d,
        // Table D.1 of the paper: 174,600 million.
        published: Count::About(174_600_000_000),
        active: weights - 2048 * d,
        stated_active: None,
        bytes: 2 * weights,
        cache: 96 * 2 * d * 2,
        request: 96 * 2 * d * 2 * LONG,
    }
}

fn kimi() -> Derived {
    let (d, heads) = (2304, 32);
    let latent = d * heads * 192 + d * 576 + 512 * heads * 256 + heads * 128 * d;
    let all = heads * 128;
    let linear = 3 * d * all + 4 * 3 * all + 2 * (d * 128 + 128 * all) + d * heads + all * d;
    let [expert, router, table] = [gated(d, 1024), d * 256, 163_840 * d];
    let mixers = 7 * latent + 20 * linear + gated(d, 9216);
    let weights = mixers + 26 * (257 * expert + router) + 2 * table;
    // Matrices of four bytes a word, and three tokens of q, k and v under the convolution.
    let state = 20 * (heads * 128 * 128 * 4 + 3 * 3 * all * 2);
    Derived {
        name: "kimi-linear",
        weights,
        // Normalisations, also of the latent and of each linear layer's heads; a decay for each head and its bias for each
        // channel; a correction for each expert.
        left_out: 55 * d + 7 * 512 + 20 * (128 + heads + all) + 26 * 256,
        // Its 48 billion leave the vocabulary out.
        published: Count::About(48_000_000_000 + 2 * table),
        active: mixers + 26 * (9 * expert + router) + table,
        stated_active: Some((300, 0)),
        bytes: 2 * weights,
        cache: 7 * 576 * 2,
        request: 7 * 576 * 2 * LONG + state,
    }
}

fn gemma() -> Derived {
    let (d, table) = (5376, 262_208 * 5376);
    let weights = 62 * (attention(d, 32, 16, 128) + gated(d, 21504)) + table;
    let token = 2 * 16 * 128 * 2;
    Derived {
        name: "gemma3-27b",
        weights,
        // Four normalisations in a layer, and those of queries and keys.
        left_out: 62 * (4 * d + 2 * 128) + d,
        // Without the encoder of images: 25,600 million besides the vocabulary.
        published: Count::About(25_600_000_000 + table),
        active: weights,
        stated_active: None,
        bytes: 2 * weights,
        cache: 62 * token,
        request: (10 * LONG + 52 * 1024) * token,
    }
}

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
        k: 7168,
        n: 4096,
    };
    assert_eq!(layer.shape(O::ExpertsGateUp), Shape::Grouped(into));
    assert_eq!(into.touched(), 80);
    assert_eq!(
        layer.shape(O::ExpertsDown),
        Shape::Grouped(Grouped {
            groups: 256,
            rows: 80,
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
