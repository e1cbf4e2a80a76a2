//! A batch between two iterations: what it brings to the next, and what came out of the last.

use einflow_spec::Problem;

use super::{
    super::{account::record, pipeline::Pipeline, scenario::Admission, time::Ps, times::Load},
    OtherSpan, Run, Server,
};

impl Server<'_> {
    /// What a batch brings to its next iteration; `None` where it is empty.
    pub(super) fn form(&mut self, batch: usize) -> Option<Load> {
        let stores = match self.system.attention {
            Some(_) => self.used.len(),
            None => 0,
        };
        let mut load = Load {
            by_store: vec![(0, 0); stores],
            ..Load::default()
        };
        let active = &mut self.batches[batch].active;
        let decodes = active.iter().filter(|a| a.prompt == 0).count() as u64;
        let mut budget = self.system.scenario.step_tokens.saturating_sub(decodes);
        for a in active {
            a.chunk = 0;
            if a.prompt > 0 {
                a.chunk = a.prompt.min(budget);
                budget -= a.chunk;
                self.waited += u64::from(a.chunk == 0 && !a.starved);
                a.starved |= a.chunk == 0;
                if a.chunk > 0 {
                    load.chunks.push((a.chunk, a.context));
                    load.sampled += u64::from(a.chunk == a.prompt);
                }
                continue;
            }
            load.requests += 1;
            load.sampled += 1;
            load.tokens += a.context;
            if let Some(own) = load.by_store.get_mut(a.store) {
                own.0 += 1;
                own.1 += a.context;
            }
        }
        (load.requests > 0 || !load.chunks.is_empty()).then_some(load)
    }

    /// Batches that are between two iterations begin the next, those with requests.
    pub(super) fn begin(
        &mut self,
        pipeline: &mut Pipeline<'_>,
        run: &mut Run,
        between: &[usize],
        now: Ps,
    ) -> Result<(), Problem> {
        let mut preempted = false;
        if self.system.scenario.admission == Admission::Grow {
            for batch in between {
                preempted |= self.grow(*batch, now)?;
            }
        }
        self.prompt(now)?;
        if preempted {
            self.refused = true;
        } else {
            self.admit(between, now);
        }
        self.account.resident(now, self.resident());
        for batch in between {
            let Some(load) = self.form(*batch) else {
                continue;
            };
            let timed = self.times.iteration(&load)?;
            let start = self.hosted(run, *batch, now);
            pipeline.start(*batch, timed.iteration, start);
            self.batches[*batch].running = Some((load, timed));
        }
        Ok(())
    }

    /// The host prepares an iteration of a batch, after what it has begun: when that is done.
    pub(super) fn hosted(&mut self, run: &mut Run, batch: usize, now: Ps) -> Ps {
        let from = now.max(self.host_free);
        let end = from.after(self.host);
        self.host_free = end;
        self.account.totals.host = self.account.totals.host.after(self.host);
        if run.host_spans.len() < run.most_spans && self.host > Ps::ZERO {
            run.host_spans.push(OtherSpan {
                of: batch,
                request: batch,
                start: from,
                end,
            });
        }
        end
    }

    /// An iteration ended: tokens come out, requests leave.
    pub(super) fn end(&mut self, batch: usize, now: Ps) {
        let Some((load, timed)) = self.batches[batch].running.take() else {
            return;
        };
        self.account.settle(now);
        self.account.iteration(self.system, batch, &timed);
        self.account.came(&load);
        let mut active = std::mem::take(&mut self.batches[batch].active);
        self.last_gap = active
            .first()
            .and_then(|a| a.last)
            .map_or(self.last_gap, |last| now.since(last));
        // Most requests had their last token at the same moment.
        let mut alike: (Ps, u64) = (Ps::ZERO, 0);
        let mut left = 0;
        active.retain_mut(|a| {
            if a.prompt > 0 {
                a.prompt -= a.chunk;
                a.context += a.chunk;
                if a.chunk == 0 || a.prompt > 0 {
                    return true;
                }
                if a.last.is_none() {
                    let from = match self.arrivals {
                        true => Ps::of(self.requests[a.request].at).unwrap_or(Ps::ZERO),
                        false => Ps::ZERO,
                    };
                    record(&mut self.account.first, now.since(from), 1);
                }
                a.held = a.held.max(a.context);
            }
            if let Some(last) = a.last {
                if last != alike.0 {
                    self.account
                        .gap(now.since(alike.0), alike.1, &timed, self.host);
                    alike = (last, 0);
                }
                alike.1 += 1;
            }
            a.last = Some(now);
            a.left -= 1;
            a.context += 1;
            if a.left > 0 {
                return true;
            }
            self.used[a.store] -= a.held;
            left += 1;
            false
        });
        self.account
            .gap(now.since(alike.0), alike.1, &timed, self.host);
        self.finished += left;
        self.batches[batch].active = active;
        self.account.resident(now, self.resident());
    }
}
