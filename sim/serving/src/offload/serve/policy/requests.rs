//! The requests of a server, whatever its policy: who waits, who is in which batch, and who holds how much of which store.

use std::collections::VecDeque;

use super::{
    Came, Limits, Part, Preempted, Request,
    blocks::{Blocks, Content, Held},
};
use crate::offload::times::{Caches, Load};

/// A request and how far it is.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub request: Request,
    /// Tokens whose keys and values are in the cache, or will be when what is planned has run.
    pub computed: u64,
    pub made: u64,
    /// Tokens that come out of iterations that are planned or run.
    promised: u64,
    pub store: usize,
    held: Held,
    /// Blocks that it held before it was preempted.
    before: Option<Held>,
    /// Its blocks that others find.
    named: usize,
    /// Whether an iteration ever had no tokens for its prompt.
    pub starved: bool,
}

impl State {
    /// Tokens that there are: those that it came with, and what was made.
    pub fn known(&self) -> u64 {
        self.request.tokens + self.made
    }

    /// Tokens that are next to be computed; those that come out of what is planned are among them.
    pub fn missing(&self) -> u64 {
        self.known() + self.promised - self.computed
    }

    /// Whether all of its tokens were made.
    pub fn done(&self) -> bool {
        self.made >= self.request.wanted
    }

    /// Whether all of its tokens were made, or will be when what is planned has run.
    pub fn ends(&self) -> bool {
        self.made + self.promised >= self.request.wanted
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
    /// What the next iteration of each batch does.
    planned: Vec<Vec<Part>>,
    /// What the one that runs does.
    runs: Vec<Vec<Part>>,
    stores: Vec<Blocks>,
    /// Tokens of requests that others had left in the cache.
    pub found: u64,
}

impl Requests {
    pub fn new(limits: Limits) -> Self {
        Self {
            states: Vec::new(),
            again: VecDeque::new(),
            waiting: VecDeque::new(),
            batches: vec![Vec::new(); limits.batches],
            planned: vec![Vec::new(); limits.batches],
            runs: vec![Vec::new(); limits.batches],
            found: 0,
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
            computed: request.cached,
            request,
            made: 0,
            promised: 0,
            store: 0,
            held: Held::default(),
            before: None,
            named: 0,
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
        let recomputes = self.limits.preempted == Preempted::Recomputes;
        let state = self.states[request].as_ref()?;
        // What runs has yet to say which tokens there are.
        if state.promised > 0 {
            return None;
        }
        let stores = match self.limits.replicas {
            Some(replicas) => batch % replicas..batch % replicas + 1,
            None => 0..self.stores.len(),
        };
        let (mut chosen, mut first) = (None, u64::MAX);
        for at in stores {
            let store = &self.stores[at];
            // The last token at least is computed: its scores are wanted.
            let found = match recomputes {
                true => {
                    let before = state.before.as_ref().filter(|_| at == state.store);
                    let most = (state.known() - 1) / block;
                    store.found(request, state.request.shared(), before, most)
                }
                false => Vec::new(),
            };
            let computed = state.computed + found.len() as u64 * block;
            let tokens = (state.known() - computed).min(most);
            let room = match reserve {
                true => state.request.longest(),
                false => computed + tokens,
            };
            let used = store.used();
            // Room for the whole is asked for, not taken: what another request's prompt still takes is not in it.
            let asked = if whole { room.max(state.known()) } else { room };
            if store.room(self.limits.taken(asked), &found) && used < first {
                (chosen, first) = (Some((at, found, tokens, room)), used);
            }
        }
        let (at, found, tokens, room) = chosen?;
        let blocks = self.limits.taken(room);
        let store = &mut self.stores[at];
        let mut held = store.hold(found);
        let kept = held.count;
        store.take(&mut held, blocks - kept);
        let again = self.again.front() == Some(&request);
        match again {
            true => self.again.pop_front(),
            false => {
                self.found += kept * block;
                self.waiting.pop_front()
            }
        };
        let state = self.state(request);
        state.computed += kept * block;
        (state.held, state.store) = (held, at);
        (state.before, state.named) = (None, 0);
        self.batches[batch].push(request);
        Some(tokens)
    }

    /// Room for more tokens of a request, if there is enough.
    pub fn grow(&mut self, request: usize, tokens: u64) -> bool {
        let (stores, states) = (&mut self.stores, &mut self.states);
        let Some(state) = &mut states[request] else {
            return false;
        };
        let needed = self.limits.taken(state.computed + tokens);
        match needed.checked_sub(state.held.count) {
            None | Some(0) => true,
            Some(more) => stores[state.store].take(&mut state.held, more),
        }
    }

    /// A request leaves its store; `back`: it may find its blocks again.
    fn release(&mut self, request: usize, back: bool) {
        let block = self.limits.block;
        let (stores, states) = (&mut self.stores, &mut self.states);
        let Some(state) = &mut states[request] else {
            return;
        };
        let (store, held) = (&mut stores[state.store], std::mem::take(&mut state.held));
        if back && self.limits.reuse {
            // Of a token that has yet to come out nobody knows which it is.
            let full = state.computed.min(state.known()) / block;
            for at in state.request.shared().len()..full as usize {
                store.name(&held, at, Content::Own(request, at));
            }
        }
        store.give(&held);
        state.before = back.then_some(held);
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
        let block = self.limits.block;
        let (stores, states) = (&mut self.stores, &mut self.states);
        let Some(state) = &mut states[request] else {
            return;
        };
        let part = Part {
            request,
            tokens,
            before: state.computed,
            samples: tokens == state.missing(),
        };
        state.computed += tokens;
        state.promised += u64::from(part.samples);
        // Others find full blocks from now on: what they compute comes after this.
        let full = usize::try_from(state.computed / block).unwrap_or(usize::MAX);
        let shared = state.request.shared();
        for (at, content) in shared.iter().enumerate().take(full).skip(state.named) {
            stores[state.store].name(&state.held, at, Content::Shared(*content));
        }
        state.named = state.named.max(full.min(shared.len()));
        self.planned[batch].push(part);
    }

    /// Whether anything is planned for a batch.
    pub fn planned(&self, batch: usize) -> bool {
        !self.planned[batch].is_empty()
    }

    /// What was planned for a batch runs: what it brings to the iteration; `None`: nothing was.
    pub fn start(&mut self, batch: usize) -> Option<Load> {
        let parts = std::mem::take(&mut self.planned[batch]);
        if parts.is_empty() {
            return None;
        }
        let stores = match self.limits.replicas {
            Some(_) => 0,
            None => self.stores.len(),
        };
        let mut load = Load {
            caches: Caches::with_capacity(parts.len()),
            by_store: vec![Caches::default(); stores],
            ..Load::default()
        };
        for part in &parts {
            let store = self.state(part.request).store;
            load.add(*part, store);
        }
        self.runs[batch] = parts;
        Some(load)
    }

    /// The iteration that ran ended: what came out, in order of admission.
    pub fn ended(&mut self, batch: usize) -> Vec<Came> {
        let parts = std::mem::take(&mut self.runs[batch]);
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(state) = &mut self.states[part.request] else {
                continue;
            };
            if part.samples {
                state.promised -= 1;
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

    /// A request that was preempted while its last token was on its way has no more to compute.
    pub fn forget(&mut self, request: usize) {
        if let Some(at) = self.again.iter().position(|r| *r == request) {
            self.again.remove(at);
            self.states[request] = None;
        }
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
