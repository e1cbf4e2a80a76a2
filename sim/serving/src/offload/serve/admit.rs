//! Who is admitted to which batch, and who gives way.

use einflow_spec::Problem;

use super::{
    super::{
        scenario::{Admission, Prefill},
        time::Ps,
    },
    Active, Server, Waiting,
};

impl Server<'_> {
    /// The request that is admitted next, if one can be.
    pub(super) fn front(&self, now: Ps) -> Option<Waiting> {
        if let Some(waiting) = self.again.front().filter(|w| w.ready <= now) {
            return Some(*waiting);
        }
        if self.system.prefill.is_some() {
            let first = self.prompted.first_key_value();
            return first.map(|(_, w)| *w).filter(|w| w.ready <= now);
        }
        (self.next < self.requests.len() && self.arrives(self.next) <= now).then(|| {
            let request = self.requests[self.next];
            Waiting {
                request: self.next,
                context: request.prompt,
                left: request.generated,
                last: None,
                ready: now,
            }
        })
    }

    pub(super) fn take_front(&mut self, waiting: &Waiting) {
        if self
            .again
            .front()
            .is_some_and(|w| w.request == waiting.request)
        {
            self.again.pop_front();
        } else if self.system.prefill.is_some() {
            self.prompted.remove(&(waiting.ready, waiting.request));
        } else {
            self.next += 1;
        }
    }

    /// Requests join those batches that are between two iterations.
    pub(super) fn admit(&mut self, between: &[usize], now: Ps) {
        let most = usize::try_from(self.system.scenario.sequences).unwrap_or(usize::MAX);
        let mut closed = vec![false; self.batches.len()];
        while let Some(waiting) = self.front(now) {
            let len = |b: usize| self.batches[b].active.len();
            // Batches stay alike: one that is larger than the others leaves the request to them.
            let others = |b: usize| -> f64 {
                let n = self.batches.len();
                let all: usize = (0..n)
                    .filter(|o| *o != b && !between.contains(o))
                    .map(len)
                    .sum();
                let count = (0..n).filter(|o| *o != b && !between.contains(o)).count();
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
                self.refused |= between.iter().any(|b| len(*b) >= most);
                break;
            };
            let needs = match self.system.scenario.admission {
                Admission::Reserve => waiting.context + waiting.left,
                Admission::Grow => waiting.context + 1,
            };
            let Some(store) = self.room(batch, needs) else {
                self.refused = true;
                closed[batch] = true;
                continue;
            };
            let again = self
                .again
                .front()
                .is_some_and(|w| w.request == waiting.request);
            self.take_front(&waiting);
            // Longer than the iteration under way when it came.
            let late = now.since(self.came(&waiting)) > self.last_gap.times(2);
            self.waited += u64::from(late && !again);
            self.used[store] += needs;
            self.account.peak_cached = self.account.peak_cached.max(self.used[store]);
            let chunked = self.system.scenario.prefill.value == Prefill::Chunked;
            self.batches[batch].active.push(Active {
                request: waiting.request,
                context: match chunked {
                    true => 0,
                    false => waiting.context + 1,
                },
                prompt: if chunked { waiting.context } else { 0 },
                left: waiting.left,
                store,
                held: needs,
                last: waiting.last,
                chunk: 0,
                starved: false,
            });
        }
    }

    /// When a request could first have been admitted.
    pub(super) fn came(&self, waiting: &Waiting) -> Ps {
        match self.system.prefill {
            Some(_) => waiting.ready,
            None => self.arrives(waiting.request),
        }
    }

    /// A store with room for a request of this batch: the emptiest.
    pub(super) fn room(&self, batch: usize, needs: u64) -> Option<usize> {
        let stores = match self.system.attention {
            // A replica keeps the caches of its batches.
            None => {
                let own = batch % self.system.shape.replicas;
                own..own + 1
            }
            Some(_) => 0..self.used.len(),
        };
        stores
            .filter(|s| self.used[*s] + needs <= self.system.stores[*s])
            .min_by_key(|s| self.used[*s])
    }

    /// Each request of a batch takes room for one more token; where there is none, the newest of the batch goes back.
    pub(super) fn grow(&mut self, batch: usize, now: Ps) -> Result<bool, Problem> {
        let mut preempted = false;
        let mut at = 0;
        while at < self.batches[batch].active.len() {
            let active = self.batches[batch].active[at];
            if active.prompt > 0 || active.held >= active.context {
                at += 1;
                continue;
            }
            if self.used[active.store] < self.system.stores[active.store] {
                self.used[active.store] += 1;
                self.batches[batch].active[at].held += 1;
                at += 1;
                continue;
            }
            // Of the same store, or its room would help nobody.
            let same = |a: &Active| a.store == active.store;
            let Some(newest) = self.batches[batch].active.iter().rposition(same) else {
                break;
            };
            let gone = self.batches[batch].active.remove(newest);
            self.used[gone.store] -= gone.held;
            self.account.preemptions += 1;
            preempted = true;
            // The cache has all tokens but the one that the iteration would have added; where prompts are computed here, that one is
            // of the prompt that is computed again.
            let chunked = self.system.scenario.prefill.value == Prefill::Chunked;
            let context = match chunked {
                true => gone.context + gone.prompt,
                false => gone.context - 1,
            };
            let waiting = Waiting {
                request: gone.request,
                context,
                left: gone.left,
                last: gone.last,
                ready: now,
            };
            match self.system.prefill {
                Some(_) => self.compute(now, context, gone.request, false, Some(waiting))?,
                None => self.again.push_front(waiting),
            }
        }
        for store in 0..self.used.len() {
            self.account.peak_cached = self.account.peak_cached.max(self.used[store]);
        }
        Ok(preempted)
    }
}
