//! Models as they are served today, by hand: what fills a device's memory, to the byte, and a step as the sum of kernels
//! whose shapes are written down here.

use einflow_arch::device::{Attention, Collective, Kernel, Operands};
use einflow_serving::offload::{
    Scenario, System, report,
    serve::{Options, Unwatched},
};
use einflow_spec::{Source, Stored};

use super::{ROUNDED, law_of, link};

fn system(name: &str) -> System {
    System::new(Scenario::load(name).unwrap()).unwrap()
}

/// Microseconds of a step, by the simulator: a batch's requests over its rate.
fn step(name: &str, requests: f64) -> f64 {
    let scenario = Scenario::load(name).unwrap();
    let (found, _) = report(scenario, Options::default(), &Unwatched).unwrap();
    requests / found.throughput * 1e6
}

/// A format as a model's file has it, read through a file.
fn kept(text: &str) -> Stored {
    use einflow_workloads::Model;
    let source = Source::new(
        "m.ron",
        format!(
            r#"(name: "m", source: "assumed", description: "m", batch: 1, heads: 1, query_width: 1, value_width: 1,
            model_width: 1, feed_forward_width: 1, formats: (weights: {text}))"#
        ),
    );
    Model::parse(&source).unwrap().formats.weights
}

/// Kernels of one device in a captured graph, in microseconds.
struct On {
    device: &'static str,
    /// Requests.
    b: u64,
    /// What a kernel timed alone has around it, of which a pass over memory shows what that costs.
    events: f64,
}

impl On {
    fn new(device: &'static str, b: u64) -> Self {
        let floor = |name| law_of(device, name, Kernel::Pass { rows: 1, bytes: 0 });
        Self {
            device,
            b,
            events: floor("pass") - floor("pass:graph"),
        }
    }

    /// A pass over so many bytes for each token.
    fn pass(&self, bytes: u64) -> f64 {
        let bytes = self.b * bytes;
        law_of(self.device, "pass:graph", Kernel::Pass { rows: 1, bytes })
    }

    /// A normalisation of so many words, read and written.
    fn norm(&self, words: u64) -> f64 {
        let (rows, bytes) = (self.b, self.b * 4 * words);
        law_of(self.device, "pass:norm:graph", Kernel::Pass { rows, bytes })
    }

    /// Products of two-byte words, of so many heads; on an H100 as a server measured them.
    fn product(&self, batch: u64, k: u64, n: u64, operands: Operands) -> f64 {
        let law = match self.device {
            "h100" => "product",
            _ => "product:graph",
        };
        let kernel = Kernel::Product {
            batch,
            m: self.b,
            k,
            n,
            operands,
        };
        law_of(self.device, law, kernel)
    }

    fn words(&self, k: u64, n: u64) -> f64 {
        self.product(1, k, n, Operands::WORDS)
    }

    /// A product by a law that was fitted to kernels timed alone.
    fn alone(&self, law: &str, k: u64, n: u64, operands: Operands) -> f64 {
        let kernel = Kernel::Product {
            batch: 1,
            m: self.b,
            k,
            n,
            operands,
        };
        law_of(self.device, law, kernel) - self.events
    }

    /// Experts of which `each` of `experts` work on a token: in the mean as many have rows as are not missed.
    fn experts(&self, experts: u64, each: u64, k: u64, n: u64, operands: Operands) -> f64 {
        let missed = (1.0 - each as f64 / experts as f64).powi(self.b as i32);
        let drawn = experts as f64 * (1.0 - missed);
        let all = self.b * each;
        let time = |with: u64| {
            let rows = (0..with).map(|at| all / with + u64::from(at < all % with));
            let kernel = Kernel::Grouped {
                experts,
                rows: rows.collect(),
                k,
                n,
                operands,
            };
            law_of(self.device, "grouped", kernel) - self.events
        };
        let (low, high) = (time(drawn.floor() as u64), time(drawn.ceil() as u64));
        low + (high - low) * drawn.fract()
    }

    fn decode(&self, [heads, key_heads, width]: [u64; 3], length: u64) -> f64 {
        let a = Attention {
            batch: self.b,
            heads,
            key_heads,
            width,
            value_width: width,
            length,
            causal: false,
            cached: Stored::BF16,
        };
        law_of(self.device, "decode:vllm", Kernel::Decode(a))
    }

    /// Over latents of 512 words and 64 with the position.
    fn latent(&self, heads: u64, length: u64) -> f64 {
        let a = Attention {
            batch: self.b,
            heads,
            key_heads: 1,
            width: 576,
            value_width: 512,
            length,
            causal: false,
            cached: Stored::BF16,
        };
        law_of(self.device, "latent:flashmla", Kernel::Latent(a)) - self.events
    }
}

fn close(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() < ROUNDED,
        "{found} {expected}"
    );
}

/// What is left of 0.9 of so many MiB, beside weights, a step's activations (the stream in and out and what a layer makes
/// of it in two bytes, the scores of the vocabulary in four) and a runtime of 1 GB.
fn left(mib: u64, weights: u64, tokens: u64, [stream, made, scores]: [u64; 3]) -> u128 {
    let usable = (mib as f64 * 1_048_576.0 * 0.9) as u128;
    let activations = tokens * (2 * (2 * stream + made) + 4 * scores);
    usable - u128::from(weights) - u128::from(activations) - 1_000_000_000
}

/// Llama 3.1 405B on eight: 126 layers, 16384 wide; each has 16 of 128 heads, one of 8 key heads of 128, and 6656 of
/// 53248 columns; weights in one byte but for 16032 of the vocabulary's 128256 columns, in and out.
#[test]
fn llama_405b_in_fp8_on_eight() {
    let (d, feed, head) = (16_384, 6656, 16_032);
    let layer = d * (16 + 2) * 128 + 16 * 128 * d + 3 * d * feed;
    let weights = 126 * layer + 2 * d * head * 2;
    let system = system("today-405b");
    let memory = system.models.memory;
    assert_eq!(memory.weights.0, u128::from(weights));
    let cache = left(81_559, weights, 64, [d, 3 * feed, head]);
    assert_eq!(memory.cache.0, cache);
    // A key and a value of one head, 126 layers.
    assert_eq!(u128::from(system.stores[0]), cache / (126 * 2 * 128 * 2));

    let on = On::new("h100", 64);
    let fp8 = |k, n| on.alone("product:fp8-tensor", k, n, Operands::BYTES);
    // Two bytes are read, and one is written.
    let narrow = |k| on.pass(3 * k);
    let reduce = link("nvlink4-dgx").all_reduce("all_reduce", 8, 64 * d * 2, Collective::Ring);
    let layer = 2.0 * on.norm(d)
        + narrow(d)
        + fp8(d, 18 * 128)
        + on.pass(4 * 18 * 128)
        + on.decode([16, 1, 128], 4096)
        + narrow(2048)
        + fp8(2048, d)
        + narrow(d)
        + fp8(d, 2 * feed)
        + on.pass(6 * feed)
        + narrow(feed)
        + fp8(feed, d)
        + 2.0 * reduce.unwrap().0 * 1e6;
    close(step("today-405b", 64.0), 126.0 * layer + on.words(d, head));
}

/// gpt-oss-120b on one: 36 layers, 2880 wide, 64 heads over 8 of 64, 128 experts of 2880 of which four work on a token.
/// Half of the layers see 128 tokens.
#[test]
fn gpt_oss_in_mxfp4_on_one() {
    let d = 2880;
    // Queries, keys and values with biases, the product out with its own, a sink for each head; a router with biases.
    let attention = d * 80 * 64 + 80 * 64 + 64 * 64 * d + d + 64;
    let router = d * 128 + 128;
    // Half a byte a number, a byte of scale to 32 of them down each column, biases in two bytes.
    let expert = 3 * d * d / 2 + 90 * 3 * d + 2 * 3 * d;
    let table = 201_088 * d;
    let weights = 36 * (2 * (attention + router) + 128 * expert) + 2 * 2 * table;
    let system = system("today-gpt-oss");
    let memory = system.models.memory;
    assert_eq!(memory.weights.0, u128::from(weights));
    let cache = left(81_559, weights, 64, [d, 4 * 3 * d, 201_088]);
    assert_eq!(memory.cache.0, cache);
    // A request over 4096 tokens: all of them in 18 layers, 128 in the others; keys and values of 8 heads of 64.
    let request = 18 * (4096 + 128) * 2 * 8 * 64 * 2;
    assert_eq!(u128::from(system.holds(0, 4096)), cache / request);

    let on = On::new("h100", 64);
    let operands = Operands::of(Stored::BF16, kept("mxfp4"));
    let layer = 2.0 * on.norm(d)
        + on.words(d, 80 * 64)
        + on.pass(4 * 80 * 64)
        + on.words(64 * 64, d)
        + on.words(d, 128)
        + on.experts(128, 4, d, 2 * d, operands)
        + on.pass(4 * 6 * d)
        + on.experts(128, 4, d, d, operands)
        + on.pass(2 * 5 * d);
    let attention = on.decode([64, 8, 64], 4096) + on.decode([64, 8, 64], 128);
    close(
        step("today-gpt-oss", 64.0),
        36.0 * layer + 18.0 * attention + on.words(d, 201_088),
    );
}

/// DeepSeek-V3 on eight of sixteen, each replica: 61 layers, 7168 wide, 16 of 128 heads on a device, latents whole; three
/// dense layers of 18432, 58 with 256 experts and a shared one of 2048, of which a device has 256 columns.
#[test]
fn deepseek_v3_on_eight_each() {
    let (d, heads) = (7168, 16);
    let fp8 = |k: u64, n: u64| k * n + 4 * k.div_ceil(128) * n.div_ceil(128);
    let latent = fp8(d, 1536)
        + fp8(1536, heads * 192)
        + fp8(d, 576)
        + fp8(512, heads * 256)
        + fp8(heads * 128, d);
    let gated = |width| fp8(d, 2 * width) + fp8(width, d);
    let weights = 61 * latent
        + 3 * gated(18_432 / 8)
        + 58 * (257 * gated(256) + 2 * d * 256)
        + 2 * 2 * d * 16_160;
    let system = system("today-deepseek");
    let memory = system.models.memory;
    assert_eq!(memory.weights.0, u128::from(weights));
    // Queries, keys, values and outputs of all heads: more than nine experts' three widths of 2048.
    let made = 128 * (2 * 192 + 2 * 128) / 8;
    let cache = left(143_771, weights, 64, [d, made, 16_160]);
    assert_eq!(memory.cache.0, cache);
    // Each device has all of a latent: 576 words, 61 layers.
    assert_eq!(u128::from(system.stores[0]), cache / (61 * 576 * 2));

    let on = On::new("h200", 64);
    let weights = kept("(format: fp8, block: [128, 128], scale: f32)");
    let rows = kept("(format: fp8, block: [128, 1], scale: f32)");
    let narrowed = Operands::of(rows, weights);
    let product = |k, n| on.alone("product:fp8-row", k, n, narrowed);
    // A scale of four bytes to 128 numbers.
    let narrow = |k: u64| on.pass(3 * k + 4 * k.div_ceil(128));
    // Products of each head; weights are widened.
    let head = |k, n| on.product(heads, k, n, Operands::of(Stored::BF16, weights));
    let reduce = link("nvlink4-dgx").all_reduce("all_reduce", 8, 64 * d * 2, Collective::Ring);
    let reduce = reduce.unwrap().0 * 1e6;
    let attention = on.norm(d)
        + narrow(d)
        + product(d, 1536)
        + product(d, 576)
        + on.norm(1536 + 512)
        + narrow(1536)
        + product(1536, heads * 192)
        + on.pass(4 * (heads * 64 + 64))
        + on.pass(4 * 576)
        + head(128, 512)
        + on.latent(heads, 4096)
        + head(512, 128)
        + narrow(heads * 128)
        + product(heads * 128, d)
        + reduce;
    let gated =
        |width: u64| product(d, 2 * width) + on.pass(6 * width) + narrow(width) + product(width, d);
    let dense = on.norm(d) + narrow(d) + gated(18_432 / 8) + reduce;
    let widened = on.pass(8 * (3 * 256 + 8));
    let experts = on.norm(d)
        + on.words(d, 256)
        + narrow(d)
        + on.experts(256, 8, d, 512, narrowed)
        + on.pass(8 * 6 * 256)
        + widened
        + on.experts(256, 8, 256, d, narrowed)
        // The stream is narrowed once for these and the shared one.
        + gated(256)
        + on.pass(2 * 10 * d)
        + reduce;
    close(
        step("today-deepseek", 128.0),
        61.0 * attention + 3.0 * dense + 58.0 * experts + on.words(d, 16_160),
    );
}

/// Kimi Linear on two: 27 layers, 2304 wide, 16 of 32 heads on a device. 20 keep a matrix of 128 x 128 for each head and
/// three tokens under the convolution, seven a latent; the first has one feed-forward layer of 9216, the others 256
/// experts and a shared one of 1024.
#[test]
fn kimi_linear_on_two() {
    let (d, heads) = (2304, 16);
    let all = heads * 128;
    let latent = d * heads * 192 + d * 576 + 512 * heads * 256 + all * d;
    let linear = 3 * d * all + 4 * 3 * all + 2 * (d * 128 + 128 * all) + d * heads + all * d;
    let gated = |width| 3 * d * width;
    let words =
        7 * latent + 20 * linear + gated(4608) + 26 * (257 * gated(512) + d * 256) + 2 * 81_920 * d;
    let system = system("today-kimi");
    let memory = system.models.memory;
    assert_eq!(memory.weights.0, u128::from(2 * words));
    // Three widths of nine experts: more than queries, keys, values and outputs of all heads.
    let made = 9 * 3 * 1024 / 2;
    let cache = left(81_559, 2 * words, 16, [d, made, 81_920]);
    assert_eq!(memory.cache.0, cache);
    let state = heads * 128 * 128 * 4 + 3 * 3 * all * 2;
    let request = u128::from(20 * state + 7 * 576 * 2 * 131_072);
    assert_eq!(u128::from(system.holds(0, 131_072)), cache / request);

    let on = On::new("h100", 16);
    let words = |k, n| on.words(k, n);
    let head = |k, n| on.product(heads, k, n, Operands::WORDS);
    let reduce = link("nvlink4").all_reduce("all_reduce:graph", 2, 16 * d * 2, Collective::Ring);
    let reduce = reduce.unwrap().0 * 1e6;
    // A pass that finds nothing in the cache: states there and back; queries, keys, values, decays, strengths, outputs.
    let states = {
        use einflow_serving::device::Answerer;
        let bytes = 16 * (2 * state + 2 * (5 * all + heads));
        let device = Answerer::load("h100", None).unwrap().device;
        let pass = Kernel::Pass { rows: 1, bytes };
        device.by_law("pass:graph", &pass, true).unwrap().0 * 1e6
    };
    let linear = words(d, 3 * all)
        + on.pass(4 * 3 * all)
        + words(d, 128)
        + words(128, all)
        + words(d, heads)
        + states
        + words(d, 128)
        + words(128, all)
        + on.pass(6 * all);
    let latent = words(d, heads * 192)
        + words(d, 576)
        + on.norm(512)
        + on.pass(4 * 576)
        + head(128, 512)
        + on.latent(heads, 131_072)
        + head(512, 128);
    let gated = |width: u64| words(d, 2 * width) + on.pass(6 * width) + words(width, d);
    let experts = words(d, 256)
        + on.experts(256, 8, d, 1024, Operands::WORDS)
        + on.pass(8 * 6 * 512)
        + on.experts(256, 8, 512, d, Operands::WORDS)
        + gated(512)
        + on.pass(2 * 10 * d);
    let every = 2.0 * on.norm(d) + words(all, d) + 2.0 * reduce;
    let expected = 27.0 * every
        + 20.0 * linear
        + 7.0 * latent
        + gated(4608)
        + 26.0 * experts
        + words(d, 81_920);
    close(step("today-kimi", 16.0), expected);
}

/// Attention on a memory with little compute: 8 queries share each key, and a chip of one operation a byte does 16 for
/// every 2 bytes. 80 layers of 64 x 16384 tokens, a key head of 128 on each of eight: products of 2 x 2 x 8 x 128
/// operations a token at 30.2 TFLOP/s take 11.4 ms; the 512 bytes of each at 30.168 TB/s 1.4 ms.
#[test]
fn queries_of_a_group_bound_a_memory_that_computes() {
    use einflow_arch::device::{Device, law};
    let text = r#"(name: "pim", description: "a memory that computes", source: "assumed",
        chip: (source: "assumed", units: 5, matrix: "30.2 TFLOP/s", memory: "80 GiB", bandwidth: "30.168 TB/s", cache: "1 MiB"),
        laws: {"decode": (source: "assumed", floor: 1.0, bandwidth: 1.0, ramp: 0.001, head: 0.001, combine: 0.001,
            unsplit: 1.0, cache_bandwidth: 1, cached: 1)})"#;
    let device = Device::parse(&Source::new("pim.ron", text)).unwrap();
    let layer = |heads| {
        let a = Attention {
            batch: 64,
            heads,
            key_heads: 1,
            width: 128,
            value_width: 128,
            length: 16_384,
            causal: false,
            cached: Stored::BF16,
        };
        let kernel = Kernel::Decode(a);
        let time = device.by_law("decode", &kernel, true).unwrap();
        assert_eq!(law::parameters(&kernel).len(), 8);
        80.0 * time.0 * 1e3
    };
    let tokens = 80.0 * 64.0 * 16_384.0;
    let products = tokens * 2.0 * 2.0 * 8.0 * 128.0 / 30.2e12 * 1e3;
    let stream = tokens * 512.0 / 30.168e12 * 1e3;
    assert!((11.3..11.5).contains(&products) && (1.4..1.5).contains(&stream));
    // A microsecond a launch.
    assert!((layer(8) / (products + 0.08) - 1.0).abs() < 0.01);
    assert!((layer(1) / (stream + 0.08) - 1.0).abs() < 0.02);
}
