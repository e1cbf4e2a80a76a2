//! Static batching: a batch is made of those that wait, and the next is made when all of it is done.
//!
//! Room for every request's final length is set aside when the batch is made. Prompts come first, whole or in chunks;
//! then each iteration runs over all of the batch: a request that has its tokens is computed on as padding until the
//! longest ends.

use super::{Batching, Came, Choice, Limits, Next, Part, requests::Requests};
use crate::offload::times::Load;

/// As a scenario names it.
pub(super) const CHOICE: Choice = Choice {
    name: "static",
    grows: false,
    says: Some(
        "a batch is made of those that wait, where their final lengths fit, and runs until the longest is done",
    ),
    build: |limits| Box::new(StaticBatching::new(limits)),
};

/// The policy.
#[derive(Clone, Debug)]
pub struct StaticBatching(Requests);

impl StaticBatching {
    /// A server without requests.
    pub fn new(limits: Limits) -> Self {
        Self(Requests::new(Limits {
            reserve: true,
            reuse: false,
            ahead: false,
            ..limits
        }))
    }

    /// Those that wait, in order, until one finds no place or no room.
    fn fill(&mut self, batch: usize, next: &mut Next) {
        while let Some((request, again)) = self.0.front() {
            let full = self.0.batches[batch].len() >= self.0.limits.sequences;
            if full || self.0.admit(request, batch, u64::MAX).is_none() {
                next.refused = true;
                break;
            }
            next.admitted.push((request, again));
        }
    }

    fn plan(&mut self, batch: usize) -> Option<Load> {
        let own = self.0.batches[batch].clone();
        let mut left = self.0.limits.step_tokens;
        let mut prompts = false;
        for request in &own {
            let state = self.0.state(*request);
            let missing = state.known() - state.computed;
            if state.made > 0 || missing == 1 && state.computed > 0 {
                continue;
            }
            prompts = true;
            let tokens = missing.min(left);
            if tokens > 0 {
                self.0.plan(batch, *request, tokens);
                left -= tokens;
            }
        }
        if prompts {
            return self.0.start(batch);
        }
        let mut padding = Vec::new();
        for request in &own {
            let state = self.0.state(*request);
            if state.done() {
                let part = Part {
                    request: *request,
                    tokens: 1,
                    before: state.computed,
                    samples: false,
                };
                padding.push((part, state.store));
            } else {
                self.0.plan(batch, *request, 1);
            }
        }
        let mut load = self.0.start(batch)?;
        for (part, store) in padding {
            load.add(part, store);
        }
        Some(load)
    }
}

impl Batching for StaticBatching {
    fn requests(&self) -> &Requests {
        &self.0
    }

    fn requests_mut(&mut self) -> &mut Requests {
        &mut self.0
    }

    fn batch(&mut self, between: &[usize]) -> Next {
        let mut next = Next::default();
        for batch in between {
            if self.0.batches[*batch].is_empty() {
                self.fill(*batch, &mut next);
            }
            let load = self.plan(*batch);
            next.loads.extend(load.map(|load| (*batch, load)));
        }
        // A batch under way lets nobody in.
        next.refused |= self.0.waits();
        next
    }

    fn batch_ended(&mut self, batch: usize) -> Vec<Came> {
        let out = self.0.ended(batch);
        let own = self.0.batches[batch].clone();
        if own.iter().all(|r| self.0.state(*r).done()) {
            self.0.leave(batch, |_, _| true);
        }
        out
    }
}
