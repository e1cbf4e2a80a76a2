//! Prompts on a pool of their own: first come, first served, by the group that is free first; then the cache travels.

use einflow_spec::Problem;

use super::{
    super::{
        account::record,
        system::WORD,
        time::Ps,
        times::{Works, operation, total},
    },
    OtherSpan, Server, Waiting,
};
use crate::serving::Arrival;

/// A prompt on the pool for prompts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompt {
    works: Works,
    /// When it was wanted.
    from: Ps,
    /// The request that it is of, where its first token comes out at its end.
    first: bool,
    /// Whether that is its only token.
    only: bool,
}

impl Server<'_> {
    /// When something next happens besides the batches: a prompt ends, or something new can be admitted or sent to the pool for prompts.
    pub(super) fn next_ready(&self) -> Ps {
        let again = self.again.front().map(|w| w.ready);
        let prompt = self.prompts.keys().next().map(|(at, _)| *at);
        let prompted = self.prompted.keys().next().map(|(at, _)| *at);
        let more = self.next < self.requests.len() && self.prompted.len() < self.ahead();
        let coming = more.then(|| self.arrives(self.next));
        [again, prompt, prompted, coming]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Ps::NEVER)
    }

    /// Prompts that are computed ahead of what is admitted: without arrivals a few, else all that came.
    pub(super) fn ahead(&self) -> usize {
        match (&self.system.prefill, self.arrivals) {
            (Some(_), false) => 4 * (self.prompt_free.len() + self.batches.len()),
            _ => usize::MAX,
        }
    }

    /// Sends prompts that are there to the pool for prompts, and counts those that ended.
    pub(super) fn prompt(&mut self, now: Ps) -> Result<(), Problem> {
        if self.system.prefill.is_none() {
            return Ok(());
        }
        while self.next < self.requests.len()
            && self.arrives(self.next) <= now
            && self.prompted.len() < self.ahead()
        {
            let request = self.next;
            self.next += 1;
            let from = self.arrives(request);
            let Arrival {
                prompt, generated, ..
            } = self.requests[request];
            let only = generated == 1;
            let (done, ready) = self.computed(from, prompt, request, Some(only))?;
            if only {
                continue;
            }
            let waiting = Waiting {
                request,
                context: prompt,
                left: generated - 1,
                last: Some(done),
                ready,
            };
            self.prompted.insert((ready, request), waiting);
        }
        while let Some(entry) = self.prompts.first_entry().filter(|e| e.key().0 <= now) {
            let ((at, _), prompt) = entry.remove_entry();
            self.account.settle(at);
            let group = self.system.prefill.as_ref().map_or(1, |p| p.group);
            for (own, work) in self.account.totals.prompts.iter_mut().zip(&prompt.works) {
                own.time = own.time.after(work.time.times(group));
                own.joules += work.joules * group as f64;
            }
            if prompt.first {
                record(&mut self.account.first, at.since(prompt.from), 1);
                self.account.totals.tokens += 1;
                self.finished += u64::from(prompt.only);
            }
        }
        Ok(())
    }

    /// When a prompt is computed on the pool for prompts, and when its cache is where it is needed. `first`: a token comes out at its
    /// end, and whether it is the only one.
    pub(super) fn computed(
        &mut self,
        from: Ps,
        tokens: u64,
        request: usize,
        first: Option<bool>,
    ) -> Result<(Ps, Ps), Problem> {
        let system = self.system;
        let Some(pool) = &system.prefill else {
            return Ok((from, from));
        };
        let works = self.times.prompt(pool, tokens)?;
        let time = total(&works);
        let free = self.prompt_free.iter().enumerate().min_by_key(|(_, t)| **t);
        let group = free.map_or(0, |(group, _)| group);
        let start = from.max(self.prompt_free[group]);
        let done = start.after(time);
        self.prompt_free[group] = done;
        self.waited += u64::from(first.is_some() && start.since(from) > time);
        self.ended += 1;
        let prompt = Prompt {
            works,
            from,
            first: first.is_some(),
            only: first == Some(true),
        };
        self.prompts.insert((done, self.ended), prompt);
        let span = |start, end| OtherSpan {
            of: group,
            request,
            start,
            end,
        };
        if self.prompt_spans.len() < self.most_spans {
            self.prompt_spans.push(span(start, done));
        }
        let mut there = done;
        if let (Some(link), false) = (&system.prefill_network, first == Some(true)) {
            let words = system.model.cache_words().unwrap_or(0);
            let bytes = tokens.saturating_mul(words).saturating_mul(WORD);
            let lanes = pool.group.min(system.head_parts()).max(1);
            let name = operation(link, "send:graph", "send");
            let time = link.send(name, bytes / lanes, lanes);
            let time = time.and_then(Ps::of).unwrap_or(Ps::ZERO);
            let start = done.max(self.cache_free);
            there = start.after(time);
            self.cache_free = there;
            let totals = &mut self.account.totals;
            totals.cache_bytes += bytes as f64;
            totals.cache_time = totals.cache_time.after(time);
            let rate = (bytes / lanes) as f64 / time.seconds().0.max(f64::MIN_POSITIVE);
            self.account.peak_cache_rate = self.account.peak_cache_rate.max(rate);
            if self.cache_spans.len() < self.most_spans {
                self.cache_spans.push(span(start, there));
            }
        }
        Ok((done, there))
    }
}
