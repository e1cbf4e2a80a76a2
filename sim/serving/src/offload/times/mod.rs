//! What an iteration of a batch takes: kernels of a layer on the devices of each pool, messages between them.
//!
//! A served layer is: a normalisation, the products for queries, keys and values, the rotary embedding with the write to the cache,
//! attention, the output projection, a normalisation (with the residual sum), the two feed-forward products in, their gate, the product
//! out; a reduction over the group after the output projection and after the feed-forward. It runs as a captured graph.

mod apart;
mod grid;
mod kernels;
mod load;
mod mixers;
mod ragged;
mod spread;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use einflow_arch::device::{DeviceLink, Kernel};
use einflow_spec::{Problem, quantity::Seconds};
use einflow_workloads::layer::WORD_BYTES;
use rustc_hash::FxHashMap;

use super::{
    Boundary,
    pipeline::{Iteration, Message, Stages},
    pool::DevicePool,
    system::System,
    time::Ps,
};
use kernels::{Products, rounded};
pub use load::{Caches, Load};
use mixers::Mixed;
use ragged::Unequal;
pub use tables::ServerTables;
pub(super) use {kernels::operation, mixers::over_latents};

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Products for queries, keys and values.
    Projections,
    /// The output projection.
    Output,
    /// Feed-forward products.
    FeedForward,
    /// Normalisations, the rotary embedding, gates, writes to the cache.
    Elementwise,
    /// Reductions over a group.
    AllReduce,
    /// Tokens to experts on other devices, and back.
    Exchange,
    /// Attention.
    Attention,
    /// Scores of the vocabulary.
    Head,
    /// Prompts, on a pool of their own.
    Prompts,
}

/// How many there are.
pub const OPERATORS: usize = 9;

impl Operator {
    /// All of them.
    pub const ALL: [Self; OPERATORS] = [
        Self::Projections,
        Self::Output,
        Self::FeedForward,
        Self::Elementwise,
        Self::AllReduce,
        Self::Exchange,
        Self::Attention,
        Self::Head,
        Self::Prompts,
    ];

    /// In reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Projections => "projections",
            Self::Output => "output projection",
            Self::FeedForward => "feed-forward",
            Self::Elementwise => "element-wise",
            Self::AllReduce => "all-reduce",
            Self::Exchange => "all-to-all",
            Self::Attention => "attention",
            Self::Head => "vocabulary",
            Self::Prompts => "prompts",
        }
    }
}

/// Time, and energy beyond idling.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Of one device.
    pub time: Ps,
    /// Of one device, beyond what it draws idle.
    pub joules: f64,
}

impl Work {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            time: self.time.after(other.time),
            joules: self.joules + other.joules,
        }
    }

    /// So far on the way to another.
    fn towards(self, other: Self, share: f64) -> Self {
        let between = |a: f64, b: f64| a + (b - a) * share;
        Self {
            time: Ps(between(self.time.0 as f64, other.time.0 as f64).round() as u64),
            joules: between(self.joules, other.joules),
        }
    }

    fn times(self, n: u64) -> Self {
        Self {
            time: self.time.times(n),
            joules: self.joules * n as f64,
        }
    }
}

/// Work by operator.
pub type Works = [Work; OPERATORS];

fn add(works: &mut Works, operator: Operator, work: Work) {
    let own = &mut works[operator as usize];
    *own = own.plus(work);
}

/// The time of all.
pub fn total(works: &Works) -> Ps {
    works.iter().fold(Ps::ZERO, |sum, w| sum.after(w.time))
}

/// An iteration of a batch.
#[derive(Clone, Debug)]
pub struct Timed {
    /// What the pipeline runs.
    pub iteration: Iteration,
    /// Of each device of a replica that runs a slice, over the iteration.
    pub model: Works,
    /// Of each device of attention's pool, over the iteration; one for all where they do the same.
    pub attention: Vec<Works>,
    /// Bytes to attention's pool and back, over the iteration, all devices together.
    pub bytes: [f64; 2],
    /// Of the busiest device on each side of the link, to and back, in one layer.
    pub device_bytes: [f64; 2],
    /// Messages, there and back, as far as they stand between a slice and the next: seconds over the iteration.
    pub messages: Ps,
}

impl Timed {
    /// An iteration in one piece.
    fn whole(works: Works) -> Self {
        Self {
            iteration: Iteration::Whole(total(&works)),
            model: works,
            attention: Vec::new(),
            bytes: [0.0; 2],
            device_bytes: [0.0; 2],
            messages: Ps::ZERO,
        }
    }
}

/// Times of a system's iterations, remembered where they come back.
pub struct Times<'s> {
    system: &'s System,
    /// By pool, kind of layer and tokens.
    products: FxHashMap<(usize, usize, u64), Products>,
    /// By the devices among which heads are divided, too.
    shards: FxHashMap<(usize, usize, u64, u64), Products>,
    heads: FxHashMap<(usize, u64), Work>,
    /// What a share's new tokens cost beside attention, by requests and parts.
    copies: FxHashMap<(u64, u64), Work>,
    messages: FxHashMap<u64, Message>,
    laws: FxHashMap<usize, Arc<str>>,
    /// What makes the times less sure.
    pub flags: BTreeSet<String>,
    /// Laws that stand in for those of other formats.
    derived: BTreeSet<String>,
    /// What unequal lengths cost.
    unequal: Unequal,
    /// What laws said: by pool and law, of kernels that may find their data in the cache and of those that do not.
    asked: BTreeMap<usize, BTreeMap<String, [FxHashMap<Kernel, Work>; 2]>>,
}

/// Pools are told apart by their roles.
fn key(pool: &DevicePool) -> usize {
    pool.spec.role as usize
}

impl<'s> Times<'s> {
    /// Nothing asked yet.
    pub fn new(system: &'s System) -> Self {
        Self {
            system,
            products: FxHashMap::default(),
            shards: FxHashMap::default(),
            heads: FxHashMap::default(),
            copies: FxHashMap::default(),
            messages: FxHashMap::default(),
            laws: FxHashMap::default(),
            flags: BTreeSet::new(),
            derived: BTreeSet::new(),
            unequal: Unequal::default(),
            asked: BTreeMap::new(),
        }
    }

    /// An iteration of a batch.
    ///
    /// # Errors
    /// A kernel or a message of which the device's or link's file says nothing.
    pub fn iteration(&mut self, load: &Load) -> Result<Timed, Problem> {
        match &self.system.attention {
            None => self.together(load),
            Some(pool) => match self.system.scenario.boundary {
                Boundary::Core => self.core(load, pool),
                Boundary::Projections => self.projections(load, pool),
            },
        }
    }

    /// A step of the pool for prompts: parts of prompts and the tokens before each, so many of which a token comes out.
    ///
    /// # Errors
    /// As [`Times::iteration`].
    pub fn prompts(
        &mut self,
        pool: &DevicePool,
        chunks: &[(u64, u64)],
        sampled: u64,
    ) -> Result<Works, Problem> {
        let mut out = Works::default();
        let tokens = chunks.iter().map(|(tokens, _)| tokens).sum();
        for kind in &self.system.kinds {
            let p = self.products(pool, kind, tokens)?;
            let mixed = self.prompted(pool, kind, chunks)?;
            let layer = [
                p.norm,
                p.projections,
                p.rotary,
                mixed.products,
                mixed.attention,
                p.output,
                p.reduce,
                p.norm,
                p.feed,
                p.exchange,
                p.gate,
                p.gathered,
            ];
            let sum = layer.into_iter().fold(Work::default(), Work::plus);
            add(&mut out, Operator::Prompts, sum.times(kind.layers));
        }
        let head = self.head(pool, sampled)?;
        add(&mut out, Operator::Prompts, head);
        Ok(out)
    }

    /// Everything on one pool.
    fn together(&mut self, load: &Load) -> Result<Timed, Problem> {
        let system = self.system;
        let pool = &system.models;
        if let Some(steps) = &pool.steps {
            return self.measured(load, pool, steps);
        }
        let mut works = Works::default();
        for kind in &system.kinds {
            let p = self.products(pool, kind, load.width().max(1))?;
            let mut mixed = Mixed::default();
            if load.requests() > 0 {
                mixed = self.decoded(pool, kind, &load.caches, pool.group)?;
            }
            if !load.chunks.is_empty() {
                mixed = mixed.plus(self.prompted(pool, kind, &load.chunks)?);
            }
            let layer = [
                (Operator::Elementwise, p.norm.times(2)),
                (Operator::Projections, p.projections.plus(mixed.products)),
                (Operator::Elementwise, p.rotary),
                (Operator::Attention, mixed.attention),
                (Operator::Output, p.output),
                (Operator::AllReduce, p.reduce.plus(p.gathered)),
                (Operator::Exchange, p.exchange),
                (Operator::FeedForward, p.feed),
                (Operator::Elementwise, p.gate),
            ];
            for (operator, work) in layer {
                add(&mut works, operator, work.times(kind.layers));
            }
        }
        let head = self.head(pool, load.sampled)?;
        if pool.stages > 1 {
            return self.staged(pool, load.width().max(1), works, head);
        }
        add(&mut works, Operator::Head, head);
        Ok(Timed::whole(works))
    }

    /// Layers divided among the stages of a pool; `works`: those of all layers on one of the devices that share each, and
    /// what follows the last. A stage's layers take the mean of all.
    fn staged(
        &mut self,
        pool: &DevicePool,
        tokens: u64,
        mut works: Works,
        head: Work,
    ) -> Result<Timed, Problem> {
        let (layers, count) = (self.system.layers.max(1), pool.stages);
        let all = total(&works).0 as f64;
        let of = |own: u64| Ps((all * own as f64 / layers as f64).round() as u64);
        let each = of(layers / count);
        // A device of a group sends its part of the residual stream.
        let width = self.system.model.model_width.saturating_mul(WORD_BYTES);
        let bytes = tokens.saturating_mul(width).div_ceil(pool.group.max(1));
        let near = pool
            .link
            .as_ref()
            .map(|link| way(link, bytes))
            .transpose()?;
        let far = match &pool.nodes {
            Some((_, link)) => Some(way(link, bytes)?),
            None => near,
        };
        let together = match &pool.nodes {
            Some((node, _)) => (node / pool.group.max(1)).max(1),
            None => count,
        };
        let stages = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let staged = Stages {
            count: stages(count),
            longer: stages(layers % count),
            each,
            long: of(layers / count + 1),
            last: each.after(head.time),
            message: near.unwrap_or_default(),
            far: far.unwrap_or_default(),
            together: stages(together),
        };
        add(&mut works, Operator::Head, head);
        let model = works.map(|work| Work {
            time: Ps(work.time.0 / count),
            joules: work.joules / count as f64,
        });
        Ok(Timed {
            iteration: Iteration::Stages(staged),
            ..Timed::whole(model)
        })
    }

    /// Everything on one device, by what a server measured there.
    fn measured(
        &mut self,
        load: &Load,
        pool: &DevicePool,
        steps: &ServerTables,
    ) -> Result<Timed, Problem> {
        if let Some(beyond) = steps.beyond(load) {
            self.flags.insert(format!("{}: {beyond}", pool.device()));
        }
        if load.caches.spread() {
            self.flags.insert(format!(
                "{}: steps were measured on caches of one length: a batch's are taken at their mean, though the longest has \
                 more than twice as many tokens",
                pool.device()
            ));
        }
        let mut works = Works::default();
        for (operator, us) in steps.step(load) {
            let work = self.drawn(pool, None, Seconds(us * 1e-6))?;
            add(&mut works, operator, work);
        }
        Ok(Timed::whole(works))
    }
}

/// What it takes from a stage to the next.
fn way(link: &DeviceLink, bytes: u64) -> Result<Ps, Problem> {
    let name = operation(link, "send:graph", "send");
    let time = link.send(name, bytes, 1);
    rounded(time.ok_or_else(|| {
        Problem::nowhere(format!("`send` over {} is not known", link.name))
            .help("a link with that operation in its file, for the pool")
    })?)
}
