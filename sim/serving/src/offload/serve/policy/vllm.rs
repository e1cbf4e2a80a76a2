//! Continuous batching, as vLLM's version 1 does it.
//!
//! Requests that run go on first, one token each or the next chunk of their prompt; those that wait join in order of
//! arrival while tokens, places and blocks of the KV cache are left. Where blocks run out, the newest that runs is
//! preempted: it gives its blocks back and comes back before those that wait, its tokens computed again. With prefix
//! caching it finds those of its blocks that nobody has taken meanwhile, and so do others that begin with the same tokens.
//! With asynchronous scheduling an iteration is planned when the one before it starts: who comes, and what is given back,
//! while that runs counts for the one after it. Batches in flight are kept alike in size.

use super::{Batching, Came, Choice, Limits, Next, requests::Requests};

/// As a scenario names it.
pub(super) const CHOICE: Choice = Choice {
    name: "vllm",
    grows: true,
    says: None,
    build: |limits| Box::new(Vllm::new(limits)),
};

/// The policy.
#[derive(Clone, Debug)]
pub struct Vllm(Requests);

impl Vllm {
    /// A server without requests.
    pub fn new(limits: Limits) -> Self {
        Self(Requests::new(limits))
    }

    /// Requests that run go on; where one finds no room, the newest gives way. The tokens that are left of the iteration.
    fn go_on(&mut self, batch: usize, next: &mut Next) -> u64 {
        let mut left = self.0.limits.step_tokens;
        let mut at = 0;
        while let Some(request) = self.0.batches[batch].get(at).copied() {
            if left == 0 {
                break;
            }
            let state = self.0.state(request);
            // All its tokens are on their way.
            if state.ends() {
                at += 1;
                continue;
            }
            let tokens = state.missing().min(left);
            if self.0.grow(request, tokens) {
                self.0.plan(batch, request, tokens);
                left -= tokens;
                at += 1;
            } else {
                next.preempted.extend(self.0.preempt(batch, request));
            }
        }
        // What is left of the batch has a prompt under way.
        for at in at..self.0.batches[batch].len() {
            let request = self.0.batches[batch][at];
            let state = self.0.state(request);
            next.starved += u64::from(!state.starved);
            state.starved = true;
        }
        left
    }

    /// The next iteration of each of these batches.
    fn plan(&mut self, batches: &[usize], next: &mut Next) {
        let gone = next.preempted.len();
        let mut left: Vec<u64> = batches.iter().map(|b| self.go_on(*b, next)).collect();
        if next.preempted.len() == gone {
            self.admit(batches, &mut left, next);
        } else {
            next.refused = true;
        }
    }

    /// Requests join those batches that are between two iterations, `left` tokens of each.
    fn admit(&mut self, between: &[usize], left: &mut [u64], next: &mut Next) {
        let most = self.0.limits.sequences;
        let mut closed = vec![false; self.0.batches.len()];
        while let Some((request, again)) = self.0.front() {
            let len = |b: usize| self.0.batches[b].len();
            // Batches stay alike: one that is larger than the others leaves the request to them.
            let others = |b: usize| -> f64 {
                let apart = |o: &usize| *o != b && !between.contains(o);
                let count = (0..closed.len()).filter(apart).count();
                let all: usize = (0..closed.len()).filter(apart).map(len).sum();
                match count {
                    0 => f64::INFINITY,
                    count => all as f64 / count as f64 * 1.02 + 1.0,
                }
            };
            let open = between
                .iter()
                .copied()
                .filter(|b| !closed[*b] && len(*b) < most && (len(*b) as f64) < others(*b))
                .min_by_key(|b| len(*b));
            let Some(batch) = open else {
                // Of those between two iterations some are at their limit, the others are larger than the rest.
                next.refused |= between.iter().any(|b| len(*b) >= most);
                break;
            };
            let place = between.iter().position(|b| *b == batch).unwrap_or(0);
            let admitted = match left[place] {
                0 => None,
                tokens => self.0.admit(request, batch, tokens),
            };
            let Some(tokens) = admitted else {
                next.refused = true;
                closed[batch] = true;
                continue;
            };
            self.0.plan(batch, request, tokens);
            left[place] -= tokens;
            next.admitted.push((request, again));
        }
    }
}

impl Batching for Vllm {
    fn requests(&self) -> &Requests {
        &self.0
    }

    fn requests_mut(&mut self) -> &mut Requests {
        &mut self.0
    }

    fn batch(&mut self, between: &[usize]) -> Next {
        let mut next = Next::default();
        let open: Vec<usize> = between
            .iter()
            .copied()
            .filter(|b| !self.0.planned(*b))
            .collect();
        self.plan(&open, &mut next);
        for batch in between {
            let load = self.0.start(*batch);
            next.loads.extend(load.map(|load| (*batch, load)));
        }
        if self.0.limits.ahead {
            let run: Vec<usize> = next.loads.iter().map(|(batch, _)| *batch).collect();
            self.plan(&run, &mut next);
            let planned = run.into_iter().filter(|b| self.0.planned(*b));
            next.ahead = planned.collect();
        }
        next
    }

    fn batch_ended(&mut self, batch: usize) -> Vec<Came> {
        let out = self.0.ended(batch);
        if out.iter().any(|c| c.last) {
            self.0.leave(batch, |_, state| state.done());
        }
        for came in out.iter().filter(|c| c.last) {
            self.0.forget(came.request);
        }
        out
    }
}
