//! What a server runs in each iteration of a batch: a policy a file.
//!
//! A [`Policy`] knows tokens, places and rooms, and no time: the server tells it who comes ([`Policy::arrive`]) and which
//! batches are between two iterations ([`Policy::next`]), runs what it answers, and tells it when that has ended
//! ([`Policy::ended`]). Those that a scenario can name are in [`POLICIES`]; one more is a file, and a line there.

mod blocks;
pub(super) mod fixed;
mod requests;
mod static_batching;
mod vllm;

use einflow_spec::Named;

use super::super::{room::Room, times::Load};
use super::trace::Alike;
use requests::Requests;

pub use static_batching::StaticBatching;
pub use vllm::Vllm;

/// A policy that a scenario can name.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its name.
    pub name: &'static str,
    /// Whether it may set aside less than a request's final length: whether `admission` bears on it.
    pub grows: bool,
    /// What it does, for a report; nothing where `admission` says it.
    pub says: Option<&'static str>,
    /// Makes one that keeps to limits.
    pub build: fn(Limits) -> Box<dyn Policy>,
}

impl Named for Choice {
    fn name(self) -> &'static str {
        self.name
    }
}

/// The policies that a scenario can name; the first where it names none.
pub const POLICIES: &[Choice] = &[vllm::CHOICE, static_batching::CHOICE];

/// What becomes of the keys and values of a request that gives its room up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preempted {
    /// The batch computes its tokens again.
    Recomputes,
    /// It waits, and comes back with its cache: prompts are not simulated.
    Keeps,
    /// Another pool computes its cache again: the server says when ([`Policy::resume`]).
    Leaves,
}

/// The limits of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Batches in flight.
    pub batches: usize,
    /// Requests of a batch.
    pub sequences: usize,
    /// Tokens of an iteration of a batch, prompts and decodes together.
    pub step_tokens: u64,
    /// Tokens of a block of the KV cache.
    pub block: u64,
    /// Blocks of each store, or units of what requests take of it ([`Room::units`]).
    pub stores: Vec<u64>,
    /// What a request of so many blocks of tokens takes of a store.
    pub room: Room,
    /// Where each batch keeps its caches in the store of its replica: replicas. Else any store takes any request.
    pub replicas: Option<usize>,
    /// What becomes of the cache of a request that gives its room up.
    pub preempted: Preempted,
    /// Whether room for the final length is set aside at admission.
    pub reserve: bool,
    /// Whether a request is admitted only where all tokens that are known of it have room, not those of its first chunk alone.
    pub whole_prompts: bool,
    /// Whether blocks that were given back are found again, as long as nobody has taken them (prefix caching): by the request
    /// that had them, and by those that begin with the same tokens.
    pub reuse: bool,
    /// Whether an iteration is planned while the one before it runs (asynchronous scheduling).
    pub ahead: bool,
}

impl Limits {
    /// What a request of so many tokens takes of a store.
    fn taken(&self, tokens: u64) -> u64 {
        self.room.units(tokens.div_ceil(self.block))
    }
}

/// A request to a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Tokens that are known when it comes.
    pub tokens: u64,
    /// Of these, the first ones whose keys and values come with it: fewer than all.
    pub cached: u64,
    /// Tokens to make, 1 or more.
    pub wanted: u64,
    /// What its first blocks of the KV cache hold, as far as others hold the same.
    pub shared: Alike,
}

impl Request {
    /// Tokens of its cache at the end: the last one that is made is never read.
    pub fn longest(&self) -> u64 {
        self.tokens.saturating_add(self.wanted - 1)
    }

    /// What its first blocks hold, as far as others hold the same.
    pub fn shared(&self) -> &[u32] {
        self.shared.blocks()
    }
}

/// What an iteration does for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which request.
    pub request: usize,
    /// Tokens computed.
    pub tokens: u64,
    /// Tokens in the cache before.
    pub before: u64,
    /// Whether a token comes out.
    pub samples: bool,
}

impl Load {
    /// Adds a request's part: one token over a cache is a decode, all else a chunk of a prompt.
    pub fn add(&mut self, part: Part, store: usize) {
        self.sampled += u64::from(part.samples);
        if part.tokens != 1 || part.before == 0 {
            self.chunks.push((part.tokens, part.before));
            return;
        }
        self.caches.push(1, part.before + 1);
        if let Some(own) = self.by_store.get_mut(store) {
            own.push(1, part.before + 1);
        }
    }
}

/// Tokens that came out of an iteration for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// Which request, or which batch of a fixed load.
    pub request: usize,
    /// Tokens.
    pub count: u64,
    /// Whether it has all its tokens.
    pub last: bool,
}

/// What runs next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Next {
    /// Batches that have something to run, and what.
    pub loads: Vec<(usize, Load)>,
    /// Batches whose iteration after that is planned, too.
    pub ahead: Vec<usize>,
    /// Requests that joined a batch; whether they had been preempted.
    pub admitted: Vec<(usize, bool)>,
    /// Requests that gave their room up, and the tokens that were in their cache.
    pub preempted: Vec<(usize, u64)>,
    /// Requests whose prompt got no tokens for the first time.
    pub starved: u64,
    /// Whether somebody waits for room, for a place or for tokens of an iteration.
    pub refused: bool,
}

/// Who runs, with how many tokens, and who gives way.
pub trait Policy {
    /// A request comes; they are numbered from 0 in the order in which they were made.
    fn arrive(&mut self, request: usize, new: Request);

    /// The cache of a request that had left is there again.
    fn resume(&mut self, request: usize);

    /// What the batches run that are between two iterations.
    fn next(&mut self, between: &[usize]) -> Next;

    /// An iteration of a batch ended: tokens are computed, and who has all of them leaves.
    fn ended(&mut self, batch: usize) -> Vec<Came>;

    /// Whether anybody waits to be admitted.
    fn waits(&self) -> bool;

    /// Requests in a batch.
    fn running(&self, batch: usize) -> u64;

    /// Tokens in the fullest store.
    fn fullest(&self) -> u64;

    /// Tokens of requests that others had left in the cache.
    fn found(&self) -> u64 {
        0
    }
}

/// A policy over requests that are kept for it: what it says is who runs.
trait Batching {
    /// Its requests.
    fn requests(&self) -> &Requests;

    /// Its requests, to plan and to admit.
    fn requests_mut(&mut self) -> &mut Requests;

    /// As [`Policy::next`].
    fn batch(&mut self, between: &[usize]) -> Next;

    /// As [`Policy::ended`].
    fn batch_ended(&mut self, batch: usize) -> Vec<Came>;
}

impl<B: Batching> Policy for B {
    fn arrive(&mut self, request: usize, new: Request) {
        self.requests_mut().arrive(request, new);
    }

    fn resume(&mut self, request: usize) {
        self.requests_mut().resume(request);
    }

    fn next(&mut self, between: &[usize]) -> Next {
        self.batch(between)
    }

    fn ended(&mut self, batch: usize) -> Vec<Came> {
        self.batch_ended(batch)
    }

    fn waits(&self) -> bool {
        self.requests().waits()
    }

    fn running(&self, batch: usize) -> u64 {
        self.requests().running(batch)
    }

    fn fullest(&self) -> u64 {
        self.requests().fullest()
    }

    fn found(&self) -> u64 {
        self.requests().found
    }
}
