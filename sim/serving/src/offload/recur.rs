//! States that come back: what a pipeline will do depends on its state relative to now, and on nothing else.

use super::{
    pipeline::{Iteration, Job, Kind, Pipeline},
    time::Ps,
};

/// States remembered; a period of more marks than this is simulated throughout.
const REMEMBERED: usize = 24;

/// The last states. Their room is used again: a run compares millions.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: Vec<Seen>,
    /// How many of them count, and which of those is the oldest once all do.
    count: usize,
    next: usize,
    /// The state now.
    now: Seen,
}

/// A state, its time and its batches' layers.
#[derive(Debug, Default)]
struct Seen {
    state: Vec<u64>,
    at: Ps,
    layers: Vec<u32>,
}

impl History {
    pub fn clear(&mut self) {
        self.count = 0;
        self.next = 0;
    }

    /// The same state as now, where it was there before; else now is remembered.
    fn before(&mut self) -> Option<&Seen> {
        let same = |seen: &Seen| seen.state == self.now.state;
        if let Some(found) = self.seen[..self.count].iter().position(same) {
            return Some(&self.seen[found]);
        }
        if self.count < REMEMBERED {
            if self.seen.len() == self.count {
                self.seen.push(Seen::default());
            }
            std::mem::swap(&mut self.seen[self.count], &mut self.now);
            self.count += 1;
        } else {
            std::mem::swap(&mut self.seen[self.next], &mut self.now);
            self.next = (self.next + 1) % REMEMBERED;
        }
        None
    }
}

impl Pipeline<'_> {
    /// Passes over layers if this state was there before.
    pub(super) fn pass_over(&mut self, until: Ps) {
        let Some((period, layers)) = self.recurs() else {
            return;
        };
        let mut rounds = u64::MAX;
        for (batch, passed) in self.batches.iter().zip(&layers) {
            let Some(Iteration::Layers(work)) = batch.work else {
                continue;
            };
            if let Some(starts) = batch.starts {
                // Short of it: what happens at the same instant comes after the start.
                rounds = rounds.min(starts.since(self.now).0.saturating_sub(1) / period.0);
            } else {
                // The slice before the last attention is the last that is like the others.
                let left = work.count.saturating_sub(1).saturating_sub(batch.layer);
                rounds = rounds.min(u64::from(left / passed));
            }
        }
        rounds = rounds.min(until.since(self.now).0 / period.0);
        if rounds == 0 || rounds == u64::MAX {
            return;
        }
        let later = period.times(rounds);
        let shift = |time: &mut Ps| *time = time.after(later);
        shift(&mut self.now);
        for running in self.units.iter_mut().flatten() {
            shift(&mut running.start);
            shift(&mut running.since);
            shift(&mut running.end);
        }
        for arrival in &mut self.arrivals {
            shift(&mut arrival.at);
        }
        let further = |batch: usize| (rounds as u32) * layers[batch];
        for (at, batch) in self.batches.iter_mut().enumerate() {
            if batch.work.is_some() && batch.starts.is_none() {
                batch.layer += further(at);
            }
        }
        let jobs = self.units.iter_mut().flatten().map(|r| &mut r.job);
        let jobs = jobs.chain(self.arrivals.iter_mut().map(|a| &mut a.job));
        for job in jobs.chain(self.queues.iter_mut().flatten()) {
            job.layer += further(job.batch);
        }
        self.next = self.next_event();
        self.history.clear();
    }

    /// The time and, for each batch, the layers between this state and the same one before.
    fn recurs(&mut self) -> Option<(Ps, Vec<u32>)> {
        let mut active = self.batches.iter().filter(|b| b.starts.is_none());
        if active.any(|b| matches!(b.work, Some(Iteration::Whole(_) | Iteration::Stages(_)))) {
            return None;
        }
        let mut history = std::mem::take(&mut self.history);
        state(self, &mut history.now.state);
        history.now.at = self.now;
        history.now.layers.clear();
        let layers = self.batches.iter().map(|b| b.layer);
        history.now.layers.extend(layers);
        let passed = history.before().map(|then| {
            let layers = self.batches.iter().zip(&then.layers);
            (then.at, layers.map(|(b, from)| b.layer - from).collect())
        });
        self.history = history;
        let (before, passed): (Ps, Vec<u32>) = passed?;
        let moves = |b: usize| {
            let batch = &self.batches[b];
            batch.work.is_none() || batch.starts.is_some() || passed[b] > 0
        };
        let all = (0..passed.len()).all(moves);
        (all && self.now > before).then(|| (self.now.since(before), passed))
    }
}

/// Everything on which the future depends while all batches are between their first and last slices, times relative to now.
///
/// A batch that has yet to start is left out: nothing is passed over beyond its start.
fn state(pipeline: &Pipeline<'_>, out: &mut Vec<u64>) {
    let (now, shape, slows) = (pipeline.now, pipeline.shape, pipeline.slows);
    out.clear();
    let job = |job: &Job| ((job.batch as u64) << 4) | job.kind as u64;
    for running in &pipeline.units {
        match running {
            None => out.push(u64::MAX),
            Some(r) => {
                out.push(job(&r.job));
                out.push(r.end.since(now).0);
                // What is left at full speed and since when matter only where the pace may change.
                if slows {
                    out.push(r.left.0);
                    out.push(now.since(r.since).0);
                    out.push(u64::from(r.slowed));
                }
            }
        }
    }
    for queue in &pipeline.queues {
        out.push(queue.len() as u64);
        out.extend(queue.iter().map(job));
    }
    let from = out.len();
    for arrival in &pipeline.arrivals {
        out.extend([job(&arrival.job), arrival.at.since(now).0]);
    }
    out[from..].as_chunks_mut::<2>().0.sort_unstable();
    out.push(pipeline.arrivals.len() as u64);
    out.push(pipeline.reserved.map_or(u64::MAX, |b| b as u64));
    let turn = if shape.rotate {
        shape.replicas as u32
    } else {
        1
    };
    for batch in &pipeline.batches {
        // The slice before the first layer is unlike the others.
        let first = batch.layer == 0;
        out.push(
            u64::from(batch.layer % turn) << 5
                | u64::from(batch.waits) << 4
                | u64::from(first) << 3
                | u64::from(batch.attended) << 2
                | u64::from(batch.rest_arrived) << 1
                | u64::from(batch.work.is_some()),
        );
    }
}

// A kind goes into four bits of a state.
const _: () = assert!((Kind::Output as u64) < 16);
