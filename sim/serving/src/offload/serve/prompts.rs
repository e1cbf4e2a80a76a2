//! Prompts on a pool of their own: first come, first served, in steps of so many tokens on the group that is free first;
//! then the cache travels.

use einflow_spec::Problem;

use super::{
    super::{
        account::record,
        time::Ps,
        times::{Works, operation, total},
    },
    Arrival, OtherSpan, Server,
    policy::Request,
    trace::Alike,
};

/// A prompt on the pool for prompts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompt {
    /// When it was wanted.
    from: Ps,
    /// The request.
    request: usize,
    tokens: u64,
    /// Of these, those that were computed.
    before: u64,
    /// Whether a token comes out at its end: not where a cache is made again.
    first: bool,
}

/// A step of a group of the pool.
#[derive(Clone, Debug)]
pub(super) struct Step {
    works: Works,
    group: usize,
    /// Prompts that end with it.
    ends: Vec<Prompt>,
}

/// A request whose cache is where it is needed.
#[derive(Clone, Debug)]
pub(super) enum Ready {
    /// For the first time.
    First(Request),
    /// Again: it was preempted.
    Again,
}

impl Server<'_> {
    /// When something next happens besides the batches: a prompt ends, or something new can be admitted or sent to the pool for prompts.
    pub(super) fn next_ready(&self, now: Ps) -> Ps {
        let waiting = self.policy.waits().then_some(now);
        let prompt = self.prompts.keys().next().map(|(at, _)| *at);
        let prompted = self.prompted.keys().next().map(|(at, _)| *at);
        let more = self.next < self.requests.len();
        let coming = more.then(|| self.arrives(self.next));
        [waiting, prompt, prompted, coming]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Ps::NEVER)
    }

    /// Sends prompts that are there to the pool for prompts; what ended is counted, and its cache travels.
    pub(super) fn prompt(&mut self, now: Ps) -> Result<(), Problem> {
        if self.system.prefill.is_none() {
            return Ok(());
        }
        while self.next < self.requests.len() && self.arrives(self.next) <= now {
            let request = self.next;
            self.next += 1;
            let from = self.arrives(request);
            self.tokens[request].arrived = from;
            self.compute(from, self.requests[request].prompt, request, true);
        }
        self.steps(now)?;
        while let Some(entry) = self.prompts.first_entry().filter(|e| e.key().0 <= now) {
            let ((done, _), step) = entry.remove_entry();
            self.computed(done, &step);
        }
        while let Some(entry) = self.prompted.first_entry().filter(|e| e.key().0 <= now) {
            match entry.remove_entry() {
                ((_, request), Ready::First(new)) => self.policy.arrive(request, new),
                ((_, request), Ready::Again) => self.policy.resume(request),
            }
        }
        Ok(())
    }

    /// Gives a prompt to the pool.
    pub(super) fn compute(&mut self, from: Ps, tokens: u64, request: usize, first: bool) {
        self.prompt_queue.push_back(Prompt {
            from,
            request,
            tokens,
            before: 0,
            first,
        });
    }

    /// Steps that begin up to now: each on the group that can begin first, with what it has under way, and with those that
    /// wait then, in order, as far as there are tokens left.
    pub(super) fn steps(&mut self, now: Ps) -> Result<(), Problem> {
        let Some(pool) = &self.system.prefill else {
            return Ok(());
        };
        loop {
            let waits = self.prompt_queue.front().map(|prompt| prompt.from);
            let begins = |(group, free): (usize, &Ps)| {
                let start = match self.prompt_parts[group].is_some() {
                    true => *free,
                    false => free.max(&waits?).to_owned(),
                };
                Some((start, group))
            };
            let first = self.prompt_free.iter().enumerate().filter_map(begins).min();
            let Some((start, group)) = first.filter(|(start, _)| *start <= now) else {
                return Ok(());
            };
            let mut left = self.system.scenario.step_tokens;
            let (mut chunks, mut ends, mut begun) = (Vec::new(), Vec::new(), Vec::new());
            while left > 0 {
                let next = match self.prompt_parts[group].take() {
                    Some(prompt) => Some(prompt),
                    None => {
                        let waits = self.prompt_queue.front().is_some_and(|p| p.from <= start);
                        let next = waits.then(|| self.prompt_queue.pop_front()).flatten();
                        begun.extend(next.filter(|p| p.first).map(|p| p.from));
                        next
                    }
                };
                let Some(mut prompt) = next else { break };
                let tokens = (prompt.tokens - prompt.before).min(left);
                chunks.push((tokens, prompt.before));
                prompt.before += tokens;
                left -= tokens;
                match prompt.before < prompt.tokens {
                    true => self.prompt_parts[group] = Some(prompt),
                    false => ends.push(prompt),
                }
            }
            let sampled = ends.iter().filter(|prompt| prompt.first).count() as u64;
            let works = self.times.prompts(pool, &chunks, sampled)?;
            let time = total(&works);
            let done = start.after(time);
            self.prompt_free[group] = done;
            let late = begun.iter().filter(|from| start.since(**from) > time);
            self.waited += late.count() as u64;
            self.begun += 1;
            let request = ends.first().or(self.prompt_parts[group].as_ref());
            if let (Some(prompt), true) = (request, self.prompt_spans.len() < self.most_spans) {
                self.prompt_spans.push(OtherSpan {
                    of: group,
                    request: prompt.request,
                    start,
                    end: done,
                });
            }
            let step = Step { works, group, ends };
            self.prompts.insert((done, self.begun), step);
        }
    }

    /// A step ended: tokens come out, and caches go to where they are needed, after those that ended before.
    fn computed(&mut self, done: Ps, step: &Step) {
        self.account.settle(done);
        let group = self.system.prefill.as_ref().map_or(1, |p| p.group);
        for (own, work) in self.account.totals.prompts.iter_mut().zip(&step.works) {
            own.time = own.time.after(work.time.times(group));
            own.joules += work.joules * group as f64;
        }
        for prompt in &step.ends {
            self.prefilled(done, step.group, prompt);
        }
    }

    /// A prompt ended: its token comes out, and its cache goes to where it is needed.
    fn prefilled(&mut self, done: Ps, at: usize, prompt: &Prompt) {
        let group = self.system.prefill.as_ref().map_or(1, |p| p.group);
        let Arrival {
            prompt: tokens,
            generated,
            ..
        } = self.requests[prompt.request].clone();
        let own = &mut self.tokens[prompt.request];
        if prompt.first {
            record(&mut self.account.first, done.since(prompt.from), 1);
            self.account.totals.tokens += 1;
            (own.first, own.last, own.made) = (Some(done), Some(done), 1);
            if generated == 1 {
                self.finished += 1;
                return;
            }
        }
        let ready = self.sent(done, at, prompt, group);
        let state = match prompt.first {
            true => {
                self.tokens[prompt.request].came = ready;
                Ready::First(Request {
                    tokens: tokens + 1,
                    cached: tokens,
                    wanted: generated - 1,
                    shared: Alike::default(),
                })
            }
            false => Ready::Again,
        };
        self.prompted.insert((ready, prompt.request), state);
    }

    /// When a prompt's cache is where it is needed.
    fn sent(&mut self, done: Ps, at: usize, prompt: &Prompt, group: u64) -> Ps {
        let Some(link) = &self.system.prefill_network else {
            return done;
        };
        let lanes = group.min(self.system.head_parts()).max(1);
        // What a device that keeps it takes: of layers with a window its tokens, and states.
        let lane = self.system.model.request_bytes(prompt.tokens, lanes);
        let lane = lane.map_or(u64::MAX, |b| u64::try_from(b.0).unwrap_or(u64::MAX));
        let bytes = lane.saturating_mul(lanes);
        let name = operation(link, "send:graph", "send");
        let time = link.send(name, lane, lanes);
        let time = time.and_then(Ps::of).unwrap_or(Ps::ZERO);
        // A group's own link, or where fewer groups take caches that which is free first.
        let channels = self.cache_free.iter().enumerate();
        let channel = match self.cache_free.len() == self.prompt_free.len() {
            true => at,
            false => channels
                .min_by_key(|(_, free)| **free)
                .map_or(0, |(at, _)| at),
        };
        let start = done.max(self.cache_free[channel]);
        let there = start.after(time);
        self.cache_free[channel] = there;
        let totals = &mut self.account.totals;
        totals.cache_bytes += bytes as f64;
        totals.cache_time = totals.cache_time.after(time);
        let rate = lane as f64 / time.seconds().0.max(f64::MIN_POSITIVE);
        self.account.peak_cache_rate = self.account.peak_cache_rate.max(rate);
        if self.cache_spans.len() < self.most_spans {
            self.cache_spans.push(OtherSpan {
                of: channel,
                request: prompt.request,
                start,
                end: there,
            });
        }
        there
    }
}
