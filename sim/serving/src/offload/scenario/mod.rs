//! A scenario: pools of devices, the links between them, what a batch does, and the load.

mod check;

use std::{path::PathBuf, sync::LazyLock};

use einflow_arch::measure::{BANDWIDTH, BYTES, TIME, measure, whole};
use einflow_spec::{
    Fields, Library, Node, Problem, Problems, Source, Span, did_you_mean,
    quantity::{Bytes, BytesPerSecond, DollarsPerHour, Seconds},
};

use super::serve::policy::{Choice, POLICIES};
use super::{Boundary, Partition};
use einflow_engine::request::Engine;

static SCENARIOS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

/// The scenario files that travel in the binary.
pub fn scenarios() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("scenario", "ron", SCENARIOS).marked("pools"));
    &LIBRARY
}

/// A value and where it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A scenario file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file.
    pub source: Source,
    /// The folder in which names are looked for first.
    pub beside: Option<PathBuf>,
    /// Its name.
    pub name: String,
    /// Where it is published, or `assumed`.
    pub cited: String,
    /// One or two sentences.
    pub description: String,
    /// The model: a name or a path.
    pub model: At<String>,
    /// Pools, in the order of the file.
    pub pools: Vec<Pool>,
    /// Links between pools.
    pub links: Vec<Link>,
    /// What is offloaded.
    pub boundary: Boundary,
    /// Whether old tokens are attended while the new keys and values are made and travel.
    pub overlap: bool,
    /// Batches in flight.
    pub batches: At<u64>,
    /// What the host adds to each iteration of a batch.
    pub host_overhead: Seconds,
    /// How requests are admitted.
    pub admission: Admission,
    /// Requests of a batch at most.
    pub sequences: u64,
    /// What runs in each iteration of a batch.
    pub policy: Choice,
    /// Tokens of a block of the KV cache.
    pub block_size: u64,
    /// Whether a preempted request finds those of its blocks that nobody has taken.
    pub prefix_caching: bool,
    /// What comes.
    pub load: Load,
    /// Where prompts are computed.
    pub prefill: At<Prefill>,
    /// Tokens of a step at most, prompts and decodes together, where prompts are computed with decodes.
    pub step_tokens: u64,
    /// The slowdown for which the bandwidth that would do is stated (`alpha`).
    pub slowdown: f64,
}

/// What a pool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything: attention is not offloaded.
    All,
    /// Products of the model.
    Model,
    /// Attention.
    Attention,
    /// Prompts.
    Prefill,
}

/// Devices of one kind.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Where it stands in the file.
    pub span: Span,
    /// What it does.
    pub role: Role,
    /// The device: a name or a path.
    pub device: At<String>,
    /// Devices.
    pub count: At<u64>,
    /// Devices among which the products of one replica are divided; all devices over the replicas where none is given.
    pub tensor_parallel: Option<At<u64>>,
    /// How attention is divided.
    pub partition: Partition,
    /// The link within the pool.
    pub link: Option<At<String>>,
    /// The share of a device's memory that may be used.
    pub memory_utilization: f64,
    /// Of that, what the runtime takes on each device, beside weights, activations and cache.
    pub reserved: Bytes,
    /// In place of the device's price.
    pub price: Option<DollarsPerHour>,
    /// In place of the device's bandwidth of memory.
    pub bandwidth: Option<At<BytesPerSecond>>,
    /// In place of the device's memory.
    pub memory: Option<Bytes>,
    /// Blocks of the KV cache of each store, in place of what memory leaves for them.
    pub kv_blocks: Option<At<u64>>,
    /// Whose attention kernels: `vllm`, `cudnn`, `flash`; what the device has where none is given.
    pub attention_library: Option<At<String>>,
    /// Which engine answers for an accelerator.
    pub engine: Engine,
}

/// A link between two pools.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name in the scenario.
    pub name: At<String>,
    /// The pools, by name.
    pub between: [At<String>; 2],
    /// The link of each device: a name or a path.
    pub link: At<String>,
}

/// How requests are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Room for the final length, which is known, is set aside.
    Reserve,
    /// Room for what there is; where it runs out, the newest request of the batch gives its own back and starts again.
    Grow,
}

/// Where prompts are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Elsewhere, and not simulated: a request comes with its cache.
    Excluded,
    /// On a pool of their own.
    Pool,
    /// In chunks, in the steps of the decodes, on the same devices.
    Chunked,
}

/// What comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// A trace of requests.
    Trace {
        /// A path, or a path in the embedded set.
        path: At<String>,
        /// Whether requests come when the trace says; else all are there at the start.
        arrivals: bool,
        /// The first so many requests; all where none is given.
        requests: Option<u64>,
        /// Requests of more tokens, prompt and generated, are left out, and the report says so.
        longest: Option<u64>,
    },
    /// The same requests all the time, each over as many tokens.
    Fixed {
        /// Requests, over all batches in flight; as many as the cache holds where none is given.
        batch: At<Option<u64>>,
        /// Tokens in the cache of each, the newest with them.
        context: u64,
    },
}

fn text(node: &Node) -> Result<String, Problem> {
    Ok(node.text()?.to_string())
}

fn placed<T>(
    read: impl FnOnce(&Node) -> Result<T, Problem>,
) -> impl FnOnce(&Node) -> Result<At<T>, Problem> {
    |node| {
        Ok(At {
            value: read(node)?,
            span: node.span,
        })
    }
}

fn positive(node: &Node) -> Result<u64, Problem> {
    up_to(node, 1 << 24)
}

fn up_to(node: &Node, most: u64) -> Result<u64, Problem> {
    match node.u64()? {
        0 => Err(node.expected("a number of at least 1")),
        n if n > most => Err(node.problem(format!("{n}")).help(format!("at most {most}"))),
        n => Ok(n),
    }
}

fn above_zero(node: &Node, value: f64) -> Result<f64, Problem> {
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(node.expected("a number above 0")),
    }
}

fn share(node: &Node) -> Result<f64, Problem> {
    match node.f64()? {
        value if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err(node.expected("a share above 0, at most 1")),
    }
}

/// One of a few words.
fn choice<T: Copy>(node: &Node, what: &str, known: &[(&str, T)]) -> Result<T, Problem> {
    let word = node.text()?;
    let found = known.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        node.problem(format!("there is no {what} `{word}`"))
            .help(did_you_mean(word, names.iter().copied()))
    })
}

const ROLES: &[(&str, Role)] = &[
    ("all", Role::All),
    ("model", Role::Model),
    ("attention", Role::Attention),
    ("prefill", Role::Prefill),
];
const PARTITIONS: &[(&str, Partition)] = &[
    ("heads", Partition::Heads),
    ("requests", Partition::Requests),
];
const BOUNDARIES: &[(&str, Boundary)] = &[
    ("core", Boundary::Core),
    ("projections", Boundary::Projections),
];
const ADMISSIONS: &[(&str, Admission)] =
    &[("reserve", Admission::Reserve), ("grow", Admission::Grow)];
const PREFILLS: &[(&str, Prefill)] = &[
    ("excluded", Prefill::Excluded),
    ("pool", Prefill::Pool),
    ("chunked", Prefill::Chunked),
];

/// Seconds that a host takes at most.
const LONGEST_OVERHEAD: f64 = 3600.0;
/// Batches in flight, and devices of a pool, at most.
const MOST_BATCHES: u64 = 1024;
const MOST_DEVICES: u64 = 16_384;

/// Of a device's memory, where caches are: what servers take unless told otherwise (vLLM's `gpu_memory_utilization`).
const MEMORY_UTILIZATION: f64 = 0.9;
/// What the runtime takes on each device, in bytes; assumed: a context, communication buffers and captured graphs.
const RESERVED: u128 = 1_000_000_000;
/// Requests of a batch at most, where a scenario says nothing; assumed: beyond what memories of today hold.
const SEQUENCES: u64 = 4096;
/// Tokens of a step, vLLM's default for servers.
const STEP_TOKENS: u64 = 2048;
/// Tokens of a block of the KV cache where prompts are computed, vLLM's default; elsewhere caches are exact where a
/// scenario says nothing.
const BLOCK_SIZE: u64 = 16;
const LARGEST_BLOCK: u64 = 1 << 20;
/// Blocks of a store at most: more than any memory's.
const MOST_BLOCKS: u64 = 1 << 40;
/// The slowdown for which Lamina states the least bandwidth.
const SLOWDOWN: f64 = 0.2;

impl Scenario {
    /// Finds a scenario by name or path.
    ///
    /// # Errors
    /// No such file, or every mistake in its form.
    pub fn load(name: &str) -> Result<Self, Problems> {
        let (source, origin) = scenarios().find(name, None)?;
        Self::parse(&source, origin.folder())
    }

    /// Reads a scenario file; names in it are looked for in `beside` first.
    ///
    /// # Errors
    /// Every mistake in the file's form.
    pub fn parse(source: &Source, beside: Option<PathBuf>) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut f = Fields::new(&node, "a scenario");
        let name = f.need("name", text);
        let cited = f.need("source", text);
        let description = f.get("description", text).unwrap_or_default();
        let model = f.need("model", placed(text));
        let pools = f.need_all("pools", pools);
        let links = f.get_all("links", links).unwrap_or_default();
        let boundary = f.get("boundary", |n| choice(n, "boundary", BOUNDARIES));
        let overlap = f.get("overlap", Node::bool);
        let batches = f.get("batches", placed(|n| up_to(n, MOST_BATCHES)));
        let host_overhead = f.get("host_overhead", |n| {
            let time = measure(n, TIME)?;
            match (0.0..=LONGEST_OVERHEAD).contains(&time) {
                true => Ok(Seconds(time)),
                false => Err(n.expected("a time from 0 to an hour")),
            }
        });
        let admission = f.get("admission", |n| choice(n, "admission", ADMISSIONS));
        let sequences = f.get("sequences", positive);
        let policy = f.get("policy", |n| {
            let known: Vec<_> = POLICIES.iter().map(|p| (p.name, *p)).collect();
            choice(n, "policy", &known)
        });
        let block_size = f.get("block_size", |n| up_to(n, LARGEST_BLOCK));
        let prefix_caching = f.get("prefix_caching", Node::bool);
        let load = f.need_all("load", load);
        let prefill = f.get("prefill", placed(|n| choice(n, "prefill", PREFILLS)));
        let step_tokens = f.get("step_tokens", positive);
        let slowdown = f.get("slowdown", |n| above_zero(n, n.f64()?));
        let here = Span::new(node.span.start, node.span.start + 1);
        let chunked = prefill
            .as_ref()
            .is_some_and(|p| p.value == Prefill::Chunked);
        let admission = admission.unwrap_or(Admission::Grow);
        let policy = policy.unwrap_or(POLICIES[0]);
        let scenario = (|| {
            Some(Self {
                source: source.clone(),
                beside,
                name: name?,
                cited: cited?,
                description,
                model: model?,
                pools: pools?,
                links,
                boundary: boundary.unwrap_or(Boundary::Core),
                overlap: overlap.unwrap_or(false),
                batches: batches.unwrap_or(At {
                    value: 1,
                    span: here,
                }),
                host_overhead: host_overhead.unwrap_or_default(),
                admission,
                sequences: sequences.unwrap_or(SEQUENCES),
                policy,
                block_size: block_size.unwrap_or(if chunked { BLOCK_SIZE } else { 1 }),
                prefix_caching: prefix_caching
                    .unwrap_or(chunked && policy.grows && admission == Admission::Grow),
                load: load?,
                prefill: prefill.unwrap_or(At {
                    value: Prefill::Excluded,
                    span: here,
                }),
                step_tokens: step_tokens.unwrap_or(STEP_TOKENS),
                slowdown: slowdown.unwrap_or(SLOWDOWN),
            })
        })();
        let scenario = f.finish(scenario)?;
        scenario.check(&node)?;
        Ok(scenario)
    }

    /// A problem at a place of the file.
    pub fn at(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem::at(&self.source, span, message)
    }

    /// The link between the pools with two roles.
    pub fn link(&self, a: Role, b: Role) -> Option<&Link> {
        let (a, b) = (self.pool(a)?, self.pool(b)?);
        self.links.iter().find(|l| {
            let has = |name: &str| l.between.iter().any(|e| e.value == name);
            has(&a.name) && has(&b.name)
        })
    }

    /// The pool with a role.
    pub fn pool(&self, role: Role) -> Option<&Pool> {
        self.pools.iter().find(|p| p.role == role)
    }
}

fn pools(node: &Node) -> Result<Vec<Pool>, Problems> {
    let mut problems = Problems::new();
    let mut out = Vec::new();
    for (name, span, node) in node.record()? {
        out.extend(problems.absorb(pool(name, *span, node)));
    }
    problems.into_result(Some(out))
}

fn pool(name: &str, span: Span, node: &Node) -> Result<Pool, Problems> {
    let mut f = Fields::new(node, "a pool");
    f.get("source", text);
    let role = f.need("role", |n| choice(n, "role", ROLES));
    let device = f.need("device", placed(text));
    let count = f.need("count", placed(|n| up_to(n, MOST_DEVICES)));
    let tensor_parallel = f.get("tensor_parallel", placed(positive));
    let partition = f.get("partition", |n| choice(n, "partition", PARTITIONS));
    let link = f.get("link", placed(text));
    let memory_utilization = f.get("memory_utilization", share);
    let reserved = f.get("reserved", |n| whole(n, BYTES));
    let price = f.get("price", |n| above_zero(n, n.f64()?));
    let bandwidth = f.get(
        "bandwidth",
        placed(|n| above_zero(n, measure(n, BANDWIDTH)?)),
    );
    let memory = f.get("memory", |n| whole(n, BYTES));
    let kv_blocks = f.get("kv_blocks", placed(|n| up_to(n, MOST_BLOCKS)));
    let library = f.get("library", placed(text));
    let engine = f.get("engine", |n| {
        Engine::named(n.text()?).map_err(|p| Problem {
            place: Some((n.source.clone(), n.span)),
            ..p
        })
    });
    let value = (|| {
        Some(Pool {
            name: name.to_string(),
            span,
            role: role?,
            device: device?,
            count: count?,
            tensor_parallel,
            partition: partition.unwrap_or(Partition::Heads),
            link,
            memory_utilization: memory_utilization.unwrap_or(MEMORY_UTILIZATION),
            reserved: Bytes(reserved.map_or(RESERVED, u128::from)),
            price: price.map(DollarsPerHour),
            bandwidth: bandwidth.map(|b| At {
                value: BytesPerSecond(b.value),
                span: b.span,
            }),
            memory: memory.map(|m| Bytes(m.into())),
            kv_blocks,
            attention_library: library,
            engine: engine.unwrap_or(Engine::Cycle),
        })
    })();
    f.finish(value)
}

fn links(node: &Node) -> Result<Vec<Link>, Problems> {
    let mut problems = Problems::new();
    let mut out = Vec::new();
    for node in node.list()? {
        let mut f = Fields::new(node, "a link of a scenario");
        let name = f.need("name", placed(text));
        let between = f.need("between", |n| {
            let two: Vec<At<String>> = n
                .list()?
                .iter()
                .map(|n| placed(text)(n))
                .collect::<Result<_, _>>()?;
            <[At<String>; 2]>::try_from(two).map_err(|_| n.expected("the names of two pools"))
        });
        let link = f.need("link", placed(text));
        let value = name.zip(between).zip(link);
        let value = value.map(|((name, between), link)| Link {
            name,
            between,
            link,
        });
        out.extend(problems.absorb(f.finish(value)));
    }
    problems.into_result(Some(out))
}

fn load(node: &Node) -> Result<Load, Problems> {
    let mut f = Fields::new(node, "a load");
    let path = f.get("trace", placed(text));
    let full = |n: &Node| match n.text() {
        Ok("full") => Ok(None),
        Ok(_) => Err(n.expected("a number of requests, or full")),
        Err(_) => positive(n).map(Some),
    };
    let batch = f.get("batch", placed(full));
    if path.is_some() == batch.is_some() {
        f.push(
            node.problem("a load is a trace, or a fixed batch")
                .help("(trace: \"requests.csv\", arrivals: false) or (batch: 64, context: 8192)"),
        );
        f.allow_all();
        return f.finish(None);
    }
    let value = match (path, batch) {
        (Some(path), _) => {
            let arrivals = f.get("arrivals", Node::bool).unwrap_or(false);
            let requests = f.get("requests", positive);
            let longest = f.get("longest", positive);
            Some(Load::Trace {
                path,
                arrivals,
                requests,
                longest,
            })
        }
        (None, batch) => {
            let context = f.need("context", positive);
            batch
                .zip(context)
                .map(|(batch, context)| Load::Fixed { batch, context })
        }
    };
    f.finish(value)
}
