//! A batch between two iterations: what it brings to the next, and what came out of the last.

use einflow_spec::Problem;

use super::{
    super::{account::record, pipeline::Pipeline, time::Ps},
    OtherSpan, Run, Server,
    policy::Request,
    trace::Alike,
};
use crate::offload::scenario::Prefill;

impl Server<'_> {
    /// Requests that are there come to the policy.
    fn arrive(&mut self, now: Ps) {
        if self.system.prefill.is_some() {
            return;
        }
        let chunked = self.system.scenario.prefill.value == Prefill::Chunked;
        while self.next < self.requests.len() && self.arrives(self.next) <= now {
            let at = self.arrives(self.next);
            let arrival = &self.requests[self.next];
            // One that comes with its cache comes with a token, too, whose keys and values are not in it.
            let request = match chunked {
                true => Request {
                    tokens: arrival.prompt,
                    cached: 0,
                    wanted: arrival.generated,
                    shared: arrival.shared.clone(),
                },
                false => Request {
                    tokens: arrival.prompt + 1,
                    cached: arrival.prompt,
                    wanted: arrival.generated,
                    shared: Alike::default(),
                },
            };
            let tokens = &mut self.tokens[self.next];
            (tokens.arrived, tokens.came) = (at, at);
            self.policy.arrive(self.next, request);
            self.next += 1;
        }
    }

    /// Batches that are between two iterations begin the next, those with requests.
    pub(super) fn begin(
        &mut self,
        pipeline: &mut Pipeline<'_>,
        run: &mut Run,
        between: &[usize],
        now: Ps,
    ) -> Result<(), Problem> {
        self.prompt(now)?;
        self.arrive(now);
        let next = self.policy.next(between);
        self.refused |= next.refused;
        self.waited += next.starved;
        for (request, again) in next.admitted {
            // Longer than the iteration under way when it came.
            let late = now.since(self.tokens[request].came) > self.last_gap.times(2);
            self.waited += u64::from(late && !again);
        }
        for (request, cached) in next.preempted {
            self.account.preemptions += 1;
            if self.system.prefill.is_some() {
                self.compute(now, cached, request, false);
            }
        }
        self.steps(now)?;
        let fullest = self.system.fullest(self.policy.fullest());
        self.account.peak_cached = self.account.peak_cached.max(fullest);
        self.account.resident(now, self.resident());
        for (batch, load) in next.loads {
            let timed = self.times.iteration(&load)?;
            // What was planned before the last iteration ran was made ready meanwhile.
            let start = match self.ready[batch].take() {
                Some(ready) => now.max(ready),
                None => self.hosted(run, batch, now),
            };
            pipeline.start(batch, timed.iteration, start);
            self.running[batch] = Some((load, timed, start.since(now).min(self.host)));
        }
        for batch in next.ahead {
            self.ready[batch] = Some(self.hosted(run, batch, now));
        }
        Ok(())
    }

    /// The batch's host prepares an iteration, after what it has begun: when that is done.
    fn hosted(&mut self, run: &mut Run, batch: usize, now: Ps) -> Ps {
        // Batch j stays on replica j mod replicas, and with its host.
        let host = batch % self.host_free.len();
        let from = now.max(self.host_free[host]);
        let end = from.after(self.host);
        self.host_free[host] = end;
        self.account.totals.host = self.account.totals.host.after(self.host);
        if run.host_spans.len() < run.most_spans && self.host > Ps::ZERO {
            run.host_spans.push(OtherSpan {
                of: host,
                request: batch,
                start: from,
                end,
            });
        }
        end
    }

    /// An iteration ended: tokens come out, requests leave.
    pub(super) fn end(&mut self, batch: usize, now: Ps) {
        let Some((load, timed, host)) = self.running[batch].take() else {
            return;
        };
        self.account.settle(now);
        self.account.iteration(self.system, batch, &timed);
        self.account.came(&load);
        let came = self.policy.ended(batch);
        if let Some(last) = came.first().and_then(|c| self.tokens[c.request].last) {
            self.last_gap = now.since(last);
        }
        // Most requests had their last token at the same moment.
        let mut alike: (Ps, u64) = (Ps::ZERO, 0);
        for came in came {
            let tokens = &mut self.tokens[came.request];
            match tokens.last {
                Some(last) => {
                    if last != alike.0 {
                        self.account.gap(now.since(alike.0), alike.1, &timed, host);
                        alike = (last, 0);
                    }
                    alike.1 += came.count;
                }
                None => {
                    tokens.first = Some(now);
                    if self.system.scenario.prefill.value == Prefill::Chunked {
                        record(&mut self.account.first, now.since(tokens.came), came.count);
                    }
                }
            }
            tokens.last = Some(now);
            tokens.made += came.count;
            self.finished += u64::from(came.last);
        }
        self.account.gap(now.since(alike.0), alike.1, &timed, host);
        self.account.resident(now, self.resident());
    }
}
