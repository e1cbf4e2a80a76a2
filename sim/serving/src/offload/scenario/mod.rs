//! A scenario: pools of devices, the links between them, what a batch does, and the load.

mod check;

use std::{path::PathBuf, sync::LazyLock};

use einflow_spec::{
    At, Form, Key, Library, Node, Problem, Problems, Record, Source, Span, Written, choice,
    choices, counted, named, pairs, positive,
    quantity::{Bytes, BytesPerSecond, DollarsPerHour, Seconds},
    record,
};

use super::serve::{
    policy::{Choice, POLICIES},
    trace::{Columns, Skip},
};
use super::{Boundary, Partition};
use einflow_engine::request::Engine;

static SCENARIOS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

/// The scenario files that travel in the binary.
pub fn scenarios() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("scenario", "ron", SCENARIOS).marked("pools"));
    &LIBRARY
}

record! {
    /// A scenario file.
    #[derive(Clone, Debug)]
    pub struct Scenario = "a scenario" {
        /// Its name.
        pub name: String;
        /// Where it is published, or `assumed`.
        pub cited("source"): String;
        /// One or two sentences.
        pub description: String = String::new() => "nothing";
        /// The file.
        pub source: Source where Source;
        /// The folder in which names are looked for first.
        pub beside: Option<PathBuf> where PathBuf;
        /// Where the struct stands.
        pub span: Span where Span;
        /// A model's name or file; its `layers` and `vocabulary` are needed.
        pub model: At<String>;
        /// The pools, by name, below.
        pub pools: Vec<Pool> as pools;
        /// Links between pools, below.
        pub links: Vec<Link> = Vec::new() => "none";
        /// What is offloaded, see below.
        pub boundary: Boundary = Boundary::Core => "`core`";
        /// Whether old tokens are attended while the new keys and values are made and travel, see below.
        pub overlap: bool = false;
        /// Batches in flight: n over n - 1 replicas of the model (1 over 1); on a pool for everything, as many for each replica.
        pub batches: At<u64> as counted::<MOST_BATCHES, _> = nowhere(1, &span) => "1";
        /// What the host takes before each iteration of a batch, one batch at a time; a replica that serves by itself
        /// has its own.
        pub host_overhead: Seconds as overhead = Seconds::default() => "0";
        /// Where prompts are computed, see below.
        pub prefill: At<Prefill> = nowhere(Prefill::Excluded, &span) => "`excluded`";
        /// How requests are admitted, see below.
        pub admission: Admission = Admission::Grow => "`grow`";
        /// Requests of a batch at most.
        pub sequences: u64 as counted::<MOST, _> = SEQUENCES => "4096";
        /// What runs in each iteration of a batch, see below.
        pub policy: Choice as policy = POLICIES[0] => "`vllm`";
        /// Tokens of a block of the KV cache.
        pub block_size: u64 as counted::<LARGEST_BLOCK, _> = if chunked(&prefill) { BLOCK_SIZE } else { 1 } => "16 where prompts are chunked, else 1";
        /// Whether a request is admitted only where all of its prompt has room, as by vLLM since 0.19 (`scheduler_reserve_full_isl`); else where its first chunk has.
        pub reserve_prompts: bool = chunked(&prefill)
            && policy.is_some_and(|policy| policy.grows)
            && admission == Some(Admission::Grow) => "`true` with chunked prompts and `admission: grow`";
        /// Whether blocks that were given back are found again while nobody has taken them: by a preempted request its own,
        /// by others those that begin with the same tokens, where the trace says so.
        pub prefix_caching: bool = chunked(&prefill)
            && policy.is_some_and(|policy| policy.grows)
            && admission == Some(Admission::Grow) => "`true` with chunked prompts and `admission: grow`";
        /// Whether an iteration is planned while the one before it runs, as by vLLM since 0.14 (`async_scheduling`): the host
        /// works meanwhile, and who comes or leaves then counts for the iteration after it.
        pub async_scheduling: bool = chunked(&prefill)
            && policy.is_some_and(|policy| policy.grows)
            && admission == Some(Admission::Grow) => "`true` with chunked prompts and `admission: grow`";
        /// Whether one block of each store holds nothing, as in vLLM's version 1.
        pub null_block: bool = chunked(&prefill)
            && policy.is_some_and(|policy| policy.grows)
            && admission == Some(Admission::Grow) => "`true` with chunked prompts and `admission: grow`";
        /// What comes, see below.
        pub load: Load;
        /// Tokens of a step at most: prompts and decodes together, where prompts are chunked; of a step of a pool for prompts.
        pub step_tokens: u64 as counted::<MOST, _> = STEP_TOKENS => "2048";
        /// The slowdown for which the least bandwidth is stated.
        pub slowdown: f64 as positive = SLOWDOWN => "0.2";
    }
}

named! {
    /// What a pool does.
    pub enum Role = "role" {
        /// Everything: attention is not offloaded.
        All = "all",
        /// Products of the model.
        Model = "model",
        /// Attention.
        Attention = "attention",
        /// Prompts.
        Prefill = "prefill",
    }
}

record! {
    /// Devices of one kind.
    #[derive(Clone, Debug)]
    pub struct Pool = "a pool" {
        unread source: Option<String> => "nothing is cited";
        /// Its name.
        pub name: String where Key;
        /// Where its name stands in the file.
        pub span: Span where Span;
        /// What it does: everything, or the model's products and attention apart; prompts.
        pub role: Role;
        /// A device's name or file.
        pub device: At<String>;
        /// Devices.
        pub count: At<u64> as counted::<MOST_DEVICES, _>;
        /// Devices among which the products of one replica are divided.
        pub tensor_parallel: Option<At<u64>> as counted::<MOST, _> => "all, over the replicas";
        /// Stages of a replica, one after another, each with as many layers.
        pub pipeline_parallel: Option<At<u64>> as counted::<MOST_BATCHES, _> => "1: every device has a part of all layers";
        /// Devices among which whole experts are divided, over several groups; else each group divides the columns of all.
        pub expert_parallel: Option<At<u64>> as counted::<MOST, _> => "each expert is divided by columns";
        /// Rows of the device with most, over the mean, where experts are divided.
        pub expert_imbalance: Option<f64> as positive => "what experts drawn at random give";
        /// Devices of a node, where the pool has several.
        pub node: Option<At<u64>> as counted::<MOST, _> => "all";
        /// What each device has towards other nodes: a link's name or file.
        pub node_link: Option<At<String>> => "none";
        /// How attention is divided: each device has as many key heads of every request, or each request is whole on one.
        pub partition: Partition = Partition::Heads => "`heads`";
        /// The link between devices of the pool; needed where products are shared.
        pub link: Option<At<String>> => "none";
        /// The share of a device's memory that may be used.
        pub memory_utilization: f64 as share = MEMORY_UTILIZATION => "0.9";
        /// Of that, what the runtime takes on each device, beside weights, activations and cache.
        pub reserved: Bytes = Bytes(RESERVED) => "1 GB";
        /// What one device costs.
        pub price: Option<DollarsPerHour> as positive => "the device's";
        /// The bandwidth of a device's memory.
        pub bandwidth: Option<At<BytesPerSecond>> as positive => "the device's";
        /// A device's memory.
        pub memory: Option<Bytes> => "the device's";
        /// Blocks of the KV cache of each store.
        pub kv_blocks: Option<At<u64>> as counted::<MOST_BLOCKS, _> => "what memory leaves";
        /// Whose attention kernels: `vllm`, `flash`, `cudnn`, by what they take of equal lengths and what unequal ones add;
        /// `flash2-varlen`, `flashinfer-tensor`, `flashinfer-cuda`, measured on unequal lengths.
        pub attention_library("library"): Option<At<String>> => "the first of the first three that the device has";
        /// Which engine answers where the device is an accelerator.
        pub engine: Engine = Engine::Cycle => "`cycle`";
    }
}

record! {
    /// A link between two pools.
    #[derive(Clone, Debug)]
    pub struct Link = "a link of a scenario" {
        /// Its name in the scenario.
        pub name: At<String>;
        /// The pools, by name.
        pub between: [At<String>; 2] as between;
        /// What each device has towards the other pool: a link's name or file.
        pub link: At<String>;
    }
}

named! {
    /// How requests are admitted.
    pub enum Admission = "admission" {
        /// Room for the final length, which is known, is set aside.
        Reserve = "reserve",
        /// Room for what there is; where it runs out, the newest request of the batch gives its own back and starts again.
        Grow = "grow",
    }
}

named! {
    /// Where prompts are computed.
    pub enum Prefill = "prefill" {
        /// Elsewhere, and not simulated: a request comes with its cache.
        Excluded = "excluded",
        /// On a pool of their own.
        Pool = "pool",
        /// In chunks, in the steps of the decodes, on the same devices.
        Chunked = "chunked",
    }
}

/// What comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// A trace of requests.
    Trace(Box<Trace>),
    /// The same requests all the time.
    Fixed(Fixed),
}

record! {
    /// A trace of requests.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Trace = "a load" {
        /// A table with arrival_s, prompt_tokens, generated_tokens, or a trace as others publish it (Azure, BurstGPT, Vidur,
        /// Mooncake, Qwen; conversations without times): beside the scenario, or in the embedded set.
        pub path("trace"): At<String>;
        /// Whether requests come when the trace says; else all are there at the start.
        pub arrivals: bool = false;
        /// The first so many requests.
        pub requests: Option<u64> as counted::<MOST, _> => "all";
        /// Requests of more tokens, prompt and generated, are left out, and the report says so.
        pub longest: Option<u64> as counted::<MOST, _> => "none is too long";
        /// Names of the trace's columns, below.
        pub columns: Columns = Columns::default() => "those of the form that the file has";
        /// Requests that are left out, and counted in the report: without tokens, before the one listed before them, more than
        /// a store holds.
        pub skip: Vec<Skip> = Vec::new() => "none: each is refused";
        /// How many times as fast as the trace says requests come.
        pub speed_up: f64 as positive = 1.0;
        /// Tokens that each of the trace's block hashes stands for.
        pub hash_block: Option<u64> as counted::<MOST, _> => "512 or 16, whichever fits all rows";
        /// The share of each prompt with which all prompts begin, in place of what the trace says: a system prompt.
        pub shared_prefix: Option<f64> as share => "what the trace says, else none";
    } check |fields| {
        if arrivals == Some(false) && let Some(node) = fields.optional("speed_up") {
            let problem = node.problem("all requests are there at the start");
            fields.push(problem.help("`arrivals: true`, or no `speed_up`"));
        }
    }
}

record! {
    /// The same requests all the time, each over as many tokens.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Fixed = "a load" {
        /// Requests, over all batches in flight; as many as the cache holds with `full`.
        pub batch: At<Option<u64>> as batch;
        /// Tokens in the cache of each, the newest with them.
        pub context: u64 as counted::<MOST, _>;
    }
}

impl Written for Load {
    fn form() -> Form<Self> {
        Form {
            value: || "a trace, or a fixed load".into(),
            read: |name, node| match ["trace", "batch"]
                .map(|key| node.record().is_ok_and(|r| r.iter().any(|e| e.0 == key)))
            {
                [true, false] => Trace::read(name, node).map(|trace| Self::Trace(Box::new(trace))),
                [false, true] => Fixed::read(name, node).map(Self::Fixed),
                _ => Err(node
                    .problem("a load is a trace, or a fixed batch")
                    .help(
                        "(trace: \"requests.csv\", arrivals: false) or (batch: 64, context: 8192)",
                    )
                    .into()),
            },
        }
    }
}

/// A value that the file does not have: its place is where the struct begins.
fn nowhere<T>(value: T, of: &Option<Span>) -> At<T> {
    let start = of.map_or(0, |span| span.start);
    At {
        value,
        span: Span::new(start, start + 1),
    }
}

fn chunked(prefill: &Option<At<Prefill>>) -> bool {
    matches!(
        prefill,
        Some(At {
            value: Prefill::Chunked,
            ..
        })
    )
}

fn pools() -> Form<Vec<Pool>> {
    Form {
        value: || "map from names: a pool".into(),
        read: |_, node| {
            let pools = pairs(node, Pool::read)?.into_iter();
            Ok(pools
                .map(|(name, pool)| Pool {
                    span: name.span,
                    ..pool
                })
                .collect())
        },
    }
}

fn overhead() -> Form<Seconds> {
    Form {
        value: || format!("{}; to an hour", (Seconds::form().value)()),
        read: |name, node| match (Seconds::form().read)(name, node)? {
            time if (0.0..=LONGEST_OVERHEAD).contains(&time.0) => Ok(time),
            _ => Err(node.expected("a time from 0 to an hour").into()),
        },
    }
}

fn policy() -> Form<Choice> {
    Form {
        value: || choices(POLICIES),
        read: |_, node| Ok(choice(node, "policy", POLICIES)?),
    }
}

fn share() -> Form<f64> {
    Form {
        value: || "a number above 0, at most 1".into(),
        read: |_, node| match node.f64()? {
            value if value > 0.0 && value <= 1.0 => Ok(value),
            _ => Err(node.expected("a share above 0, at most 1").into()),
        },
    }
}

fn between() -> Form<[At<String>; 2]> {
    Form {
        value: || "the names of two pools".into(),
        read: |name, node| {
            let two: Vec<At<String>> = (Written::form().read)(name, node)?;
            two.try_into()
                .map_err(|_| node.expected("the names of two pools").into())
        },
    }
}

fn batch() -> Form<At<Option<u64>>> {
    Form {
        value: || "a whole number, or `full`".into(),
        read: |name, node| {
            let value = match node.text() {
                Ok("full") => None,
                Ok(_) => return Err(node.expected("a number of requests, or full").into()),
                Err(_) => Some((counted::<MOST, _>().read)(name, node)?),
            };
            Ok(At {
                value,
                span: node.span,
            })
        },
    }
}

/// Numbers of requests and tokens at most.
const MOST: u64 = 1 << 24;
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
        let scenario = Self::read_beside(&node, beside.as_deref())?;
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
