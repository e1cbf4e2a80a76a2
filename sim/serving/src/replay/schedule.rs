//! What a server runs in each step, as vLLM's version 1 does it: requests that run go on first, one token each or the next chunk of their
//! prompt; those that wait join in order of arrival while tokens, places and blocks of the KV cache are left. Where blocks run out, the
//! newest that runs is preempted: it gives its blocks back and computes its tokens again when it comes back, before those that wait. With
//! prefix caching it finds those of its blocks that nobody has taken meanwhile.

use std::collections::VecDeque;

use super::blocks::Blocks;

/// The limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tokens of a step, prompts and decodes together.
    pub tokens: u64,
    /// Requests that run at once.
    pub sequences: usize,
    /// Tokens of a block of the KV cache.
    pub block: u64,
    /// Blocks.
    pub blocks: u64,
    /// Whether a request that comes back finds its own blocks, as long as nobody has taken them (prefix caching).
    pub reuse: bool,
}

/// A request to the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    prompt: u64,
    wanted: u64,
    /// Tokens whose keys and values are in the cache.
    computed: u64,
    made: u64,
    blocks: Vec<u32>,
}

impl State {
    /// Tokens that there are: the prompt and what was made.
    fn known(&self) -> u64 {
        self.prompt + self.made
    }
}

/// What a step does for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which request.
    pub request: usize,
    /// Tokens computed in the step.
    pub tokens: u64,
    /// Tokens in the cache before it.
    pub before: u64,
    /// Whether a token comes out.
    pub samples: bool,
}

/// Requests that wait and run.
#[derive(Clone, Debug)]
pub struct Scheduler {
    policy: Policy,
    states: Vec<State>,
    waiting: VecDeque<usize>,
    running: Vec<usize>,
    free: Blocks,
    /// How often a request was preempted.
    pub preemptions: u64,
}

impl Scheduler {
    /// A server without requests.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            states: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            free: Blocks::new(policy.blocks),
            preemptions: 0,
        }
    }

    /// A request comes. False: it can never run, its tokens need more blocks than there are.
    pub fn arrive(&mut self, prompt: u64, wanted: u64) -> bool {
        let all = (prompt + wanted).saturating_sub(1);
        let fits = all.div_ceil(self.policy.block) <= self.policy.blocks;
        if fits {
            self.waiting.push_back(self.states.len());
        }
        self.states.push(State {
            prompt,
            wanted,
            computed: 0,
            made: 0,
            blocks: Vec::new(),
        });
        fits
    }

    /// Whether nothing waits or runs.
    pub fn idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Requests that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Blocks for more tokens of a request, if there are enough.
    fn allocate(&mut self, request: usize, tokens: u64) -> bool {
        let state = &mut self.states[request];
        let needed = (state.computed + tokens).div_ceil(self.policy.block);
        let more = needed.saturating_sub(state.blocks.len() as u64);
        self.free.take(more, &mut state.blocks)
    }

    /// A request that waits starts to run with the next tokens, if there are blocks enough.
    fn start(&mut self, request: usize, budget: u64) -> Option<u64> {
        let size = self.policy.block;
        let state = &mut self.states[request];
        // The last token at least is computed: its scores are wanted.
        let kept = match self.policy.reuse {
            true => self.free.kept(request, (state.known() - 1) / size),
            false => 0,
        };
        let tokens = (state.known() - kept * size).min(budget);
        if (kept * size + tokens).div_ceil(size) > self.free.count() {
            return None;
        }
        self.free.take_back(request, kept, &mut state.blocks);
        state.computed = kept * size;
        self.allocate(request, tokens).then_some(tokens)
    }

    fn preempt(&mut self, request: usize) {
        let state = &mut self.states[request];
        self.free.give(&mut state.blocks);
        state.computed = 0;
        self.waiting.push_front(request);
        self.preemptions += 1;
    }

    /// The next step; empty where nothing can run.
    pub fn step(&mut self) -> Vec<Part> {
        let mut budget = self.policy.tokens;
        let mut parts: Vec<Part> = Vec::new();
        let mut preempted = false;
        let mut at = 0;
        while at < self.running.len() && budget > 0 {
            let request = self.running[at];
            let state = &self.states[request];
            let tokens = (state.known() - state.computed).min(budget);
            let mut runs = true;
            while !self.allocate(request, tokens) {
                let Some(newest) = self.running.pop() else {
                    break;
                };
                self.preempt(newest);
                preempted = true;
                if newest == request {
                    runs = false;
                    break;
                }
            }
            if !runs {
                break;
            }
            budget -= tokens;
            parts.push(self.part(request, tokens));
            at += 1;
        }
        while !preempted && budget > 0 && self.running.len() < self.policy.sequences {
            let Some(request) = self.waiting.front().copied() else {
                break;
            };
            let Some(tokens) = self.start(request, budget) else {
                break;
            };
            self.waiting.pop_front();
            self.running.push(request);
            budget -= tokens;
            parts.push(self.part(request, tokens));
        }
        parts
    }

    fn part(&self, request: usize, tokens: u64) -> Part {
        let state = &self.states[request];
        Part {
            request,
            tokens,
            before: state.computed,
            samples: state.computed + tokens == state.known(),
        }
    }

    /// A step is done: tokens are computed, and those that came out may end requests. Gives the requests that made a token, and whether it was their last.
    pub fn done(&mut self, parts: &[Part]) -> Vec<(usize, bool)> {
        let mut out = Vec::new();
        for part in parts {
            let state = &mut self.states[part.request];
            let before = state.computed / self.policy.block;
            state.computed += part.tokens;
            if self.policy.reuse {
                let full = state.computed / self.policy.block;
                self.free.filled(part.request, &state.blocks, before..full);
            }
            if !part.samples {
                continue;
            }
            state.made += 1;
            let last = state.made >= state.wanted;
            if last {
                self.free.give(&mut state.blocks);
                self.running.retain(|r| *r != part.request);
            }
            out.push((part.request, last));
        }
        out
    }
}
