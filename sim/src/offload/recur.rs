//! States that come back: what a pipeline will do depends on its state relative to now, and on nothing else.

use super::{
    pipeline::{Job, Kind, Pipeline, Shape},
    time::Ps,
};

/// States remembered; a period of more marks than this is simulated throughout.
const REMEMBERED: usize = 24;

/// The last states, each with its time and its batches' layers.
#[derive(Debug, Default)]
pub(super) struct History {
    states: Vec<(Vec<u64>, Ps, Vec<u32>)>,
    next: usize,
}

impl History {
    pub fn clear(&mut self) {
        self.states.clear();
        self.next = 0;
    }

    /// When the same state was there before, and with which layers; remembers it otherwise.
    pub fn seen(&mut self, state: Vec<u64>, now: Ps, layers: &[u32]) -> Option<(Ps, Vec<u32>)> {
        if let Some((_, then, from)) = self.states.iter().find(|(s, ..)| *s == state) {
            return Some((*then, from.clone()));
        }
        let entry = (state, now, layers.to_vec());
        match self.states.len() < REMEMBERED {
            true => self.states.push(entry),
            false => {
                self.states[self.next] = entry;
                self.next = (self.next + 1) % REMEMBERED;
            }
        }
        None
    }
}

/// Everything on which the future depends while all batches are between their first and last slices, times relative to now.
///
/// A batch that has yet to start is left out: nothing is passed over beyond its start.
pub(super) fn state(pipeline: &Pipeline<'_>, shape: Shape) -> Vec<u64> {
    let now = pipeline.now;
    let slows = pipeline.slows();
    let mut out = Vec::with_capacity(48);
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
    let mut arrivals: Vec<[u64; 2]> = pipeline
        .arrivals
        .iter()
        .map(|a| [job(&a.job), a.at.since(now).0])
        .collect();
    arrivals.sort_unstable();
    out.push(arrivals.len() as u64);
    out.extend(arrivals.into_iter().flatten());
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
    out
}

// A kind goes into four bits of a state.
const _: () = assert!((Kind::Output as u64) < 16);
