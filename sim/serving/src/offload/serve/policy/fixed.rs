//! A fixed batch: the same requests over the same contexts, all the time.

use einflow_spec::Problem;

use super::{Came, Next, Policy, Request};
use crate::offload::{
    scenario::Load as LoadSpec,
    system::System,
    times::{Caches, Load},
};

/// Requests that fill a cache, at most.
const MOST_REQUESTS: u64 = 1 << 24;

/// The policy.
#[derive(Clone, Debug)]
pub struct Fixed {
    loads: Vec<Load>,
    fullest: u64,
}

impl Fixed {
    /// `batch` requests of `context` tokens over all batches in flight; as many as the caches hold where none are given.
    ///
    /// # Errors
    /// Fewer requests than batches, or more than a store holds.
    pub fn new(system: &System, batch: Option<u64>, context: u64) -> Result<Self, Problem> {
        let n = system.shape.batches as u64;
        let stores = 0..system.stores.len();
        let held: u64 = stores.map(|s| system.holds(s, context)).sum();
        // Each batch in flight has one request at least: what does not fit is refused.
        let batch = batch.unwrap_or(held.min(MOST_REQUESTS).max(n));
        let offloads = system.attention.is_some();
        let mut loads = Vec::new();
        let mut placed = vec![0u64; system.stores.len()];
        for b in 0..n {
            let requests = batch / n + u64::from(b < batch % n);
            if requests == 0 {
                return Err(at_load(system, format!("{batch} requests in {n} batches"))
                    .help("each batch in flight has one request at least"));
            }
            // Each request goes where most room is left; on replicas, where its batch is.
            let mut by_store = vec![Caches::default(); if offloads { placed.len() } else { 0 }];
            if offloads {
                for _ in 0..requests {
                    let taken = |s: usize| placed[s].saturating_mul(context);
                    let room = |s: &usize| system.stores[*s].saturating_sub(taken(*s));
                    let store = (0..placed.len()).rev().max_by_key(room).unwrap_or(0);
                    placed[store] += 1;
                    by_store[store].push(1, context);
                }
            } else {
                placed[b as usize % system.shape.replicas] += requests;
            }
            loads.push(Load {
                caches: Caches::equal(requests, context),
                by_store,
                chunks: Vec::new(),
                sampled: requests,
            });
        }
        for (requests, (at, store)) in placed.iter().zip(system.stores.iter().enumerate()) {
            let holds = system.holds(at, context);
            if *requests > holds {
                let (name, needs) = (&system.attends().spec.name, requests * context);
                let message = match system.room.plain() {
                    true => format!(
                        "{batch} requests of {context} tokens: {requests} of them need {needs} tokens of cache where `{name}` holds {store}",
                    ),
                    false => format!(
                        "{batch} requests of {context} tokens: {requests} of them where `{name}` holds {holds}",
                    ),
                };
                return Err(at_load(system, message)
                    .help("more devices or memory in that pool, fewer requests, or shorter ones"));
            }
        }
        let most = placed.into_iter().max().unwrap_or(0);
        let fullest = match system.room.plain() {
            true => most * context,
            // As a policy has it: in blocks.
            false => (most.saturating_mul(system.taken(context)))
                .saturating_mul(system.scenario.block_size),
        };
        Ok(Self { loads, fullest })
    }
}

/// A problem with the load of the scenario.
fn at_load(system: &System, message: String) -> Problem {
    let scenario = &system.scenario;
    match &scenario.load {
        LoadSpec::Fixed(load) => scenario.at(load.batch.span, message),
        LoadSpec::Trace(load) => scenario.at(load.path.span, message),
    }
}

impl Policy for Fixed {
    fn arrive(&mut self, _: usize, _: Request) {}

    fn resume(&mut self, _: usize) {}

    fn next(&mut self, between: &[usize]) -> Next {
        let loads = between.iter().map(|b| (*b, self.loads[*b].clone()));
        Next {
            loads: loads.collect(),
            ..Next::default()
        }
    }

    fn ended(&mut self, batch: usize) -> Vec<Came> {
        vec![Came {
            request: batch,
            count: self.loads[batch].sampled,
            last: false,
        }]
    }

    fn waits(&self) -> bool {
        false
    }

    fn running(&self, batch: usize) -> u64 {
        self.loads[batch].requests()
    }

    fn fullest(&self) -> u64 {
        self.fullest
    }
}
