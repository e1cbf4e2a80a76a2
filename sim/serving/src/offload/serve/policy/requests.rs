//! The requests of a server, whatever its policy: who waits, who is in which batch, and who holds how much of which store.

use std::collections::VecDeque;

use super::{Came, Limits, Part, Preempted, Request, blocks::Blocks};
use crate::offload::times::Load;

/// A request and how far it is.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub request: Request,
    /// Tokens whose keys and values are in the cache.
    pub computed: u64,
    pub made: u64,
    pub store: usize,
    /// Blocks that it holds.
    held: u64,
    /// Whether an iteration ever had no tokens for its prompt.
    pub starved: bool,
}

impl State {
    /// Tokens that there are: those that it came with, and what was made.
    pub fn known(&self) -> u64 {
        self.request.tokens + self.made
    }

    /// Whether all of its tokens were made.
    pub fn done(&self) -> bool {
        self.made >= self.request.wanted
    }
}

/// All requests of a server.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    pub limits: Limits,
    states: Vec<Option<State>>,
    /// Those that have been preempted, before those that have not.
    again: VecDeque<usize>,
    waiting: VecDeque<usize>,
    /// Of each batch, in order of admission.
    pub batches: Vec<Vec<usize>>,
    /// What the iteration of each batch does.
    parts: Vec<Vec<Part>>,
    stores: Vec<Blocks>,
}

impl Requests {
    pub fn new(limits: Limits) -> Self {
        Self {
            states: Vec::new(),
            again: VecDeque::new(),
            waiting: VecDeque::new(),
            batches: vec![Vec::new(); limits.batches],
            parts: vec![Vec::new(); limits.batches],
            stores: limits
                .stores
                .iter()
                .map(|blocks| Blocks::new(*blocks, limits.reuse))
                .collect(),
            limits,
        }
    }

    pub fn arrive(&mut self, number: usize, request: Request) {
        if self.states.len() <= number {
            self.states.resize(number + 1, None);
        }
        self.states[number] = Some(State {
            request,
            computed: request.cached,
            made: 0,
            store: 0,
            held: 0,
            starved: false,
        });
        self.waiting.push_back(number);
    }

    pub fn resume(&mut self, request: usize) {
        self.again.push_back(request);
    }

    /// The request that is admitted next; whether it was preempted before.
    pub fn front(&self) -> Option<(usize, bool)> {
        let again = self.again.front().map(|r| (*r, true));
        again.or_else(|| self.waiting.front().map(|r| (*r, false)))
    }

    pub fn waits(&self) -> bool {
        self.front().is_some()
    }

    /// A request that has come and not left.
    pub fn state(&mut self, request: usize) -> &mut State {
        match &mut self.states[request] {
            Some(state) => state,
            None => unreachable!("only requests that came are in a queue or a batch"),
        }
    }

    /// The first of those that wait joins a batch with its next tokens, `most` of them at most, if a store has room: how many.
    pub fn admit(&mut self, request: usize, batch: usize, most: u64) -> Option<u64> {
        let (block, reserve) = (self.limits.block, self.limits.reserve);
        let whole = self.limits.whole_prompts;
        let state = self.state(request).clone();
        let recomputes = self.limits.preempted == Preempted::Recomputes;
        let stores = match self.limits.replicas {
            Some(replicas) => batch % replicas..batch % replicas + 1,
            None => 0..self.stores.len(),
        };
        let (mut chosen, mut first) = (None, u64::MAX);
        for store in stores {
            // The last token at least is computed: its scores are wanted.
            let kept = match recomputes {
                true => self.stores[store].kept(request, (state.known() - 1) / block),
                false => 0,
            };
            let computed = state.computed + kept * block;
            let tokens = (state.known() - computed).min(most);
            let room = match reserve {
                true => state.request.longest(),
                false => computed + tokens,
            };
            let used = self.stores[store].used();
            // Room for the whole is asked for, not taken: what another request's prompt still takes is not in it.
            let asked = if whole { room.max(state.known()) } else { room };
            if asked.div_ceil(block) <= self.stores[store].free() && used < first {
                (chosen, first) = (Some((store, kept, tokens, room)), used);
            }
        }
        let (store, kept, tokens, room) = chosen?;
        let blocks = room.div_ceil(block);
        self.stores[store].take_back(request, kept);
        self.stores[store].take(blocks - kept);
        let state = self.state(request);
        state.held = blocks;
        state.store = store;
        state.computed += kept * block;
        if self.again.front() == Some(&request) {
            self.again.pop_front();
        } else {
            self.waiting.pop_front();
        }
        self.batches[batch].push(request);
        Some(tokens)
    }

    /// Room for more tokens of a request, if there is enough.
    pub fn grow(&mut self, request: usize, tokens: u64) -> bool {
        let block = self.limits.block;
        let (stores, states) = (&mut self.stores, &mut self.states);
        let Some(state) = &mut states[request] else {
            return false;
        };
        let needed = state.computed + tokens;
        if needed <= state.held * block {
            return true;
        }
        let more = needed.div_ceil(block) - state.held;
        if !stores[state.store].take(more) {
            return false;
        }
        state.held += more;
        true
    }

    /// A request leaves its store; `back`: it may find its blocks again.
    fn release(&mut self, request: usize, back: bool) {
        let block = self.limits.block;
        let state = self.state(request);
        let owner = back.then_some((request, state.computed / block));
        let (store, held) = (state.store, std::mem::take(&mut state.held));
        self.stores[store].give(held, owner);
    }

    /// The newest of a batch that has the store of `request` gives its room up: which, and the tokens of its cache.
    pub fn preempt(&mut self, batch: usize, request: usize) -> Option<(usize, u64)> {
        let store = self.state(request).store;
        let own = std::mem::take(&mut self.batches[batch]);
        let newest = own.iter().rposition(|r| self.state(*r).store == store);
        self.batches[batch] = own;
        let gone = self.batches[batch].remove(newest?);
        self.release(gone, true);
        let state = self.state(gone);
        let cached = state.computed;
        match self.limits.preempted {
            Preempted::Recomputes => {
                self.state(gone).computed = 0;
                self.again.push_front(gone);
            }
            Preempted::Keeps => self.again.push_front(gone),
            Preempted::Leaves => {}
        }
        Some((gone, cached))
    }

    /// The next iteration computes these tokens of a request.
    pub fn plan(&mut self, batch: usize, request: usize, tokens: u64) {
        let state = self.state(request);
        let part = Part {
            request,
            tokens,
            before: state.computed,
            samples: state.computed + tokens == state.known(),
        };
        self.parts[batch].push(part);
    }

    /// What a batch brings to the iteration that was planned; `None`: nothing was.
    pub fn load(&mut self, batch: usize) -> Option<Load> {
        let stores = match self.limits.replicas {
            Some(_) => 0,
            None => self.stores.len(),
        };
        let mut load = Load {
            by_store: vec![(0, 0); stores],
            ..Load::default()
        };
        let parts = std::mem::take(&mut self.parts[batch]);
        for part in &parts {
            let store = self.state(part.request).store;
            load.add(*part, store);
        }
        self.parts[batch] = parts;
        (!self.parts[batch].is_empty()).then_some(load)
    }

    /// The planned iteration ended: what came out, in order of admission.
    pub fn ended(&mut self, batch: usize) -> Vec<Came> {
        let parts = std::mem::take(&mut self.parts[batch]);
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(state) = &mut self.states[part.request] else {
                continue;
            };
            state.computed += part.tokens;
            if part.samples {
                state.made += 1;
                out.push(Came {
                    request: part.request,
                    count: 1,
                    last: state.done(),
                });
            }
        }
        out
    }

    /// Requests leave a batch.
    pub fn leave(&mut self, batch: usize, gone: impl Fn(usize, &State) -> bool) {
        let mut own = std::mem::take(&mut self.batches[batch]);
        own.retain(|request| {
            let leaves = self.states[*request]
                .as_ref()
                .is_none_or(|state| gone(*request, state));
            if leaves {
                self.release(*request, false);
                self.states[*request] = None;
            }
            !leaves
        });
        self.batches[batch] = own;
    }

    pub fn running(&self, batch: usize) -> u64 {
        self.batches[batch].len() as u64
    }

    pub fn fullest(&self) -> u64 {
        let used = self.stores.iter().map(Blocks::used).max();
        used.unwrap_or(0) * self.limits.block
    }
}
