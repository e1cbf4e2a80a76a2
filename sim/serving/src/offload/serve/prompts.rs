//! Prompts on a pool of their own: first come, first served, by the group that is free first; then the cache travels.

use einflow_spec::Problem;

use super::{
    super::{
        account::record,
        time::Ps,
        times::{Works, operation, total},
    },
    Arrival, OtherSpan, Server,
    policy::Request,
};

/// A prompt on the pool for prompts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompt {
    works: Works,
    /// When it was wanted.
    from: Ps,
    /// Where.
    group: usize,
    /// The request.
    request: usize,
    tokens: u64,
    /// Whether a token comes out at its end: not where a cache is made again.
    first: bool,
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
            self.compute(from, self.requests[request].prompt, request, true)?;
        }
        while let Some(entry) = self.prompts.first_entry().filter(|e| e.key().0 <= now) {
            let ((done, _), prompt) = entry.remove_entry();
            self.computed(done, prompt);
        }
        while let Some(entry) = self.prompted.first_entry().filter(|e| e.key().0 <= now) {
            match entry.remove_entry() {
                ((_, request), Ready::First(new)) => self.policy.arrive(request, new),
                ((_, request), Ready::Again) => self.policy.resume(request),
            }
        }
        Ok(())
    }

    /// Gives a prompt to the group of the pool that is free first.
    pub(super) fn compute(
        &mut self,
        from: Ps,
        tokens: u64,
        request: usize,
        first: bool,
    ) -> Result<(), Problem> {
        let Some(pool) = &self.system.prefill else {
            return Ok(());
        };
        let works = self.times.prompt(pool, tokens)?;
        let time = total(&works);
        let free = self.prompt_free.iter().enumerate().min_by_key(|(_, t)| **t);
        let group = free.map_or(0, |(group, _)| group);
        let start = from.max(self.prompt_free[group]);
        let done = start.after(time);
        self.prompt_free[group] = done;
        self.waited += u64::from(first && start.since(from) > time);
        self.begun += 1;
        if self.prompt_spans.len() < self.most_spans {
            self.prompt_spans.push(OtherSpan {
                of: group,
                request,
                start,
                end: done,
            });
        }
        let prompt = Prompt {
            works,
            from,
            group,
            request,
            tokens,
            first,
        };
        self.prompts.insert((done, self.begun), prompt);
        Ok(())
    }

    /// A prompt ended: its token comes out, and its cache goes to where it is needed, after those that ended before.
    fn computed(&mut self, done: Ps, prompt: Prompt) {
        let system = self.system;
        self.account.settle(done);
        let group = system.prefill.as_ref().map_or(1, |p| p.group);
        for (own, work) in self.account.totals.prompts.iter_mut().zip(&prompt.works) {
            own.time = own.time.after(work.time.times(group));
            own.joules += work.joules * group as f64;
        }
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
        let ready = self.sent(done, &prompt, group);
        let state = match prompt.first {
            true => {
                self.tokens[prompt.request].came = ready;
                Ready::First(Request {
                    tokens: tokens + 1,
                    cached: tokens,
                    wanted: generated - 1,
                    shared: None,
                })
            }
            false => Ready::Again,
        };
        self.prompted.insert((ready, prompt.request), state);
    }

    /// When a prompt's cache is where it is needed.
    fn sent(&mut self, done: Ps, prompt: &Prompt, group: u64) -> Ps {
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
            true => prompt.group,
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
