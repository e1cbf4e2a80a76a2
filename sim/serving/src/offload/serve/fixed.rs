//! The same requests all the time.

use einflow_spec::Problem;

use super::{
    super::{
        pipeline::Pipeline,
        scenario::Load as LoadSpec,
        time::Ps,
        times::{Load, Timed},
    },
    Run, Server, Watch,
};

/// Iterations of each batch before a fixed load is measured, and while it is.
const FIXED_ITERATIONS: [u64; 2] = [16, 32];

/// Requests that fill a cache, at most.
const MOST_REQUESTS: u64 = 1 << 24;

impl Server<'_> {
    /// A problem with the load of the scenario.
    fn at_load(&self, message: String) -> Problem {
        let scenario = &self.system.scenario;
        match &scenario.load {
            LoadSpec::Fixed { batch, .. } => scenario.at(batch.span, message),
            LoadSpec::Trace { path, .. } => scenario.at(path.span, message),
        }
    }

    /// The same requests all the time, until the batches have found their rhythm, and then a while.
    pub(super) fn fixed(
        &mut self,
        pipeline: &mut Pipeline<'_>,
        run: &mut Run,
        batch: Option<u64>,
        context: u64,
        watch: &dyn Watch,
    ) -> Result<(), Problem> {
        let system = self.system;
        let n = self.batches.len() as u64;
        let held: u64 = system.stores.iter().map(|s| s / context).sum();
        // Each batch in flight has one request at least: what does not fit is refused.
        let batch = batch.unwrap_or(held.min(MOST_REQUESTS).max(n));
        let offloads = system.attention.is_some();
        let mut works: Vec<(Load, Timed)> = Vec::new();
        let mut placed = vec![0u64; self.used.len()];
        for b in 0..n {
            let requests = batch / n + u64::from(b < batch % n);
            if requests == 0 {
                return Err(self
                    .at_load(format!("{batch} requests in {n} batches"))
                    .help("each batch in flight has one request at least"));
            }
            // Each request goes where most room is left; on replicas, where its batch is.
            let mut by_store = vec![(0, 0); if offloads { placed.len() } else { 0 }];
            if offloads {
                for _ in 0..requests {
                    let room = |s: &usize| {
                        system.stores[*s] - (placed[*s] * context).min(system.stores[*s])
                    };
                    let store = (0..placed.len()).rev().max_by_key(room).unwrap_or(0);
                    placed[store] += 1;
                    by_store[store].0 += 1;
                    by_store[store].1 += context;
                }
            } else {
                placed[b as usize % system.shape.replicas] += requests;
            }
            let load = Load {
                requests,
                tokens: requests * context,
                by_store,
                chunks: Vec::new(),
                sampled: requests,
            };
            let timed = self.times.iteration(&load)?;
            works.push((load, timed));
        }
        for (requests, store) in placed.iter().zip(&system.stores) {
            self.account.peak_cached = self.account.peak_cached.max(requests * context);
            if requests * context > *store {
                return Err(self.at_load(format!(
                    "{batch} requests of {context} tokens: {requests} of them need {} tokens of cache where `{}` holds {store}",
                    requests * context,
                    system.attends().spec.name,
                ))
                .help("more devices or memory in that pool, fewer requests, or shorter ones"));
            }
        }
        self.account.resident(Ps::ZERO, batch);
        let mut last = vec![None; works.len()];
        let mut rounds = vec![0u64; works.len()];
        for (b, (_, timed)) in works.iter().enumerate() {
            let start = self.hosted(run, b, Ps::ZERO);
            pipeline.start(b, timed.iteration, start);
        }
        let [warm, measured] = FIXED_ITERATIONS;
        while let Some(ended) = pipeline.advance(Ps::NEVER) {
            let b = ended.batch;
            self.account.settle(ended.at);
            let (load, timed) = &works[b];
            self.account.iteration(self.system, b, timed);
            self.account.came(load);
            if let (Some(before), true) = (last[b], run.begin.is_some()) {
                let gap = ended.at.since(before);
                self.account.gap(gap, load.sampled, timed, self.host);
            }
            last[b] = Some(ended.at);
            rounds[b] += 1;
            // The window is from one end of the last batch to another.
            if b + 1 == works.len() && rounds[b] == warm {
                run.begin = Some(self.mark());
            }
            if watch.stop() {
                run.stopped = true;
                break;
            }
            if b + 1 == works.len() && rounds[b] == warm + measured {
                run.end = Some(self.mark());
                break;
            }
            let start = self.hosted(run, b, ended.at);
            pipeline.start(b, works[b].1.iteration, start);
        }
        Ok(())
    }
}
