//! Models by hand.

/// A published number of parameters.
pub enum Count {
    /// That of the checkpoint, to the last one.
    Exact(u64),
    /// A rounded one.
    About(u64),
}

/// A model by hand.
pub struct Derived {
    pub name: &'static str,
    /// Words of weights.
    pub weights: u64,
    /// Words of normalisations, and of vectors that the model's file leaves out.
    pub left_out: u64,
    /// Parameters as published.
    pub published: Count,
    /// Words that products read for a token: the vocabulary's way out is among them, its way in is not.
    pub active: u64,
    /// What is published of those, in tenths of billions, with the words that this counts besides.
    pub stated_active: Option<(u64, u64)>,
    /// Bytes of weights.
    pub bytes: u64,
    /// Bytes of a token's cache in all layers.
    pub cache: u64,
    /// Bytes of a request of 128K tokens.
    pub request: u64,
}

pub const LONG: u64 = 1 << 17;

/// Grouped queries: q, k, v and the product out.
fn attention(d: u64, heads: u64, keys: u64, width: u64) -> u64 {
    d * width * (heads + 2 * keys) + heads * width * d
}

pub fn gated(d: u64, width: u64) -> u64 {
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

pub fn derived() -> Vec<Derived> {
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
    // In fp8: a byte a word but for the vocabulary, in and out.
    let own = all.iter().find(|of| of.name == "llama3.1-405b");
    let own = own.map(|of| Derived {
        name: "llama3.1-405b-fp8",
        bytes: of.weights + 2 * 128_256 * 16_384,
        published: Count::Exact(405_853_388_800),
        ..*of
    });
    all.extend(own);
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
        // Normalisations, also of the latent and of each linear layer's heads; a decay for each head, its bias for each
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
