//! Batches in flight over model replicas, an attention pool and the links between them: which task runs when.
//!
//! A batch goes through its layers: a *slice* on a model replica (the output projection and the feed-forward of one layer, the queries,
//! keys and values of the next), messages to the attention pool, attention there, a message back. Every replica, the pool and each
//! direction of a link serve one task at a time, in the order in which tasks become ready (a merge of old and new tokens before others'
//! attention). Slice `k` of batch `j` runs on replica
//! `(j + k) mod replicas`.
//!
//! Layers of an iteration are alike, so the same state comes back, later by some time and some layers on (`recur`); the layers
//! until the next batch that ends are then passed over, which changes nothing but the work of simulating them.

use std::collections::VecDeque;

pub use super::tasks::{Ended, Iteration, Kind, Layers, Message, Shape, Span, Stages, Unit};
use super::{recur::History, time::Ps};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub batch: usize,
    pub kind: Kind,
    pub layer: u32,
}

/// A task underway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub job: Job,
    pub start: Ps,
    /// What was left of it, in time at full speed, at `since`.
    pub left: Ps,
    pub since: Ps,
    /// By how many thousandths.
    pub slowed: u32,
    pub end: Ps,
}

impl Running {
    /// Goes on at another pace.
    fn pace(&mut self, now: Ps, slowed: u32) {
        if slowed == self.slowed {
            return;
        }
        let passed = now.since(self.since);
        let done = match self.slowed {
            0 => passed.0,
            slowed => (u128::from(passed.0) * 1000 / (1000 + u128::from(slowed))) as u64,
        };
        self.left = self.left.since(Ps(done));
        (self.since, self.slowed) = (now, slowed);
        self.end = now.after(stretched(self.left, slowed));
    }
}

fn stretched(work: Ps, slowed: u32) -> Ps {
    match slowed {
        0 => work,
        slowed => Ps(work.0.saturating_mul(1000 + u64::from(slowed)) / 1000),
    }
}

/// A message under way: its link is free again before it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub at: Ps,
    pub job: Job,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub work: Option<Iteration>,
    /// When it may start, while it has not.
    pub starts: Option<Ps>,
    /// The layer of the attention that it is at or before.
    pub layer: u32,
    pub attended: bool,
    pub rest_arrived: bool,
    /// From the end of a slice until the output of the attention after it is there.
    pub waits: bool,
}

/// Who sees tasks.
struct Observer<'o> {
    /// How many more.
    left: usize,
    /// Whether recurring states are passed over afterwards.
    jump: bool,
    sees: Box<dyn FnMut(Span) + 'o>,
}

/// Tasks of batches in flight, event by event.
pub struct Pipeline<'o> {
    pub(super) shape: Shape,
    pub(super) now: Ps,
    pub(super) batches: Vec<Batch>,
    pub(super) units: Vec<Option<Running>>,
    pub(super) queues: Vec<VecDeque<Job>>,
    pub(super) arrivals: Vec<Arrival>,
    /// A batch whose message is on its way to an idle attention pool.
    pub(super) reserved: Option<usize>,
    ended: VecDeque<Ended>,
    /// Batches that may yet start.
    starting: usize,
    /// When something happens next.
    pub(super) next: Ps,
    /// Whether a device may be slower at times: only then is it looked after.
    pub(super) slows: bool,
    pub(super) history: History,
    /// A slice ended at this instant: a moment to compare states.
    mark: bool,
    /// Whether recurring states are passed over.
    pub jump: bool,
    observer: Option<Observer<'o>>,
    /// Events handled: what the simulation itself costs.
    pub events: u64,
}

impl<'o> Pipeline<'o> {
    /// An idle system.
    pub fn new(shape: Shape) -> Self {
        let units = shape.replicas * shape.stages + 3;
        let idle = Batch {
            work: None,
            starts: None,
            layer: 0,
            attended: false,
            rest_arrived: false,
            waits: false,
        };
        Self {
            shape,
            now: Ps::ZERO,
            batches: vec![idle; shape.batches],
            units: vec![None; units],
            queues: vec![VecDeque::new(); units],
            arrivals: Vec::new(),
            reserved: None,
            ended: VecDeque::new(),
            starting: 0,
            next: Ps::NEVER,
            slows: false,
            history: History::default(),
            mark: false,
            jump: true,
            observer: None,
            events: 0,
        }
    }

    /// Shows the first `most` tasks that end to `observer`, and passes over none meanwhile.
    pub fn observe(&mut self, most: usize, observer: impl FnMut(Span) + 'o) {
        self.observer = (most > 0).then(|| Observer {
            left: most,
            jump: self.jump,
            sees: Box::new(observer),
        });
        self.jump &= most == 0;
    }

    /// How it is built.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// A batch that does nothing begins an iteration, at `at` or now if that is past.
    pub fn start(&mut self, batch: usize, work: Iteration, at: Ps) {
        let at = at.max(self.now);
        self.starting += usize::from(self.batches[batch].starts.is_none());
        self.next = self.next.min(at);
        self.batches[batch] = Batch {
            work: Some(work),
            starts: Some(at),
            layer: 0,
            attended: false,
            rest_arrived: false,
            waits: false,
        };
        self.changed();
    }

    /// Other batches run than before.
    fn changed(&mut self) {
        let waiting = |b: &Batch| matches!(&b.work, Some(Iteration::Layers(l)) if l.waiting > 0);
        self.slows = self.batches.iter().any(waiting);
        self.history.clear();
    }

    /// Goes on to the next batch that ends, or to `until`.
    pub fn advance(&mut self, until: Ps) -> Option<Ended> {
        loop {
            if let Some(ended) = self.ended.pop_front() {
                return Some(ended);
            }
            if self.next > until || self.next == Ps::NEVER {
                self.now = until.max(self.now);
                return None;
            }
            self.now = self.next;
            self.settle();
            if self.mark && self.jump && self.ended.is_empty() {
                self.pass_over(until);
            }
            self.mark = false;
        }
    }

    pub(super) fn next_event(&self) -> Ps {
        let units = self.units.iter().flatten().map(|r| r.end);
        let arrivals = self.arrivals.iter().map(|a| a.at);
        let soonest = units.fold(Ps::NEVER, Ps::min);
        let soonest = arrivals.fold(soonest, Ps::min);
        if self.starting == 0 {
            return soonest;
        }
        let starts = self.batches.iter().filter_map(|b| b.starts);
        starts.fold(soonest, Ps::min)
    }

    /// Everything that happens now, and what it sets off.
    fn settle(&mut self) {
        while self.next <= self.now {
            if self.starting > 0 {
                for batch in 0..self.batches.len() {
                    if self.batches[batch].starts.is_some_and(|at| at <= self.now) {
                        self.batches[batch].starts = None;
                        self.starting -= 1;
                        self.queue(batch, Kind::Slice);
                    }
                }
            }
            for unit in 0..self.units.len() {
                if self.units[unit].as_ref().is_some_and(|r| r.end <= self.now)
                    && let Some(done) = self.units[unit].take()
                {
                    self.finish(unit, done);
                }
            }
            while let Some(at) = self.due() {
                let arrival = self.arrivals.swap_remove(at);
                self.arrive(arrival.job);
            }
            self.dispatch();
            self.next = self.next_event();
        }
    }

    /// A message that is there, the first by batch and kind.
    fn due(&self) -> Option<usize> {
        let here = self.arrivals.iter().enumerate();
        here.filter(|(_, a)| a.at <= self.now)
            .min_by_key(|(_, a)| (a.job.batch, a.job.kind))
            .map(|(at, _)| at)
    }

    fn attention(&self) -> usize {
        self.shape.replicas * self.shape.stages
    }

    fn replica(&self, batch: usize, slice: u32) -> usize {
        let Shape {
            replicas, stages, ..
        } = self.shape;
        let shift = if self.shape.rotate { slice as usize } else { 0 };
        let stage = if stages > 1 { slice as usize } else { 0 };
        (batch + shift) % replicas * stages + stage
    }

    fn unit(&self, index: usize) -> Unit {
        match index.checked_sub(self.attention()) {
            None => Unit::Replica(index),
            Some(0) => Unit::Attention,
            Some(1) => Unit::Out,
            Some(_) => Unit::Back,
        }
    }

    fn layers(&self, batch: usize) -> Option<&Layers> {
        match &self.batches[batch].work {
            Some(Iteration::Layers(layers)) => Some(layers),
            _ => None,
        }
    }

    /// A task becomes ready.
    fn queue(&mut self, batch: usize, kind: Kind) {
        let layer = self.batches[batch].layer;
        let unit = match kind {
            Kind::Slice | Kind::KeyValue => self.replica(batch, layer),
            Kind::Attend | Kind::Merge => self.attention(),
            Kind::Query | Kind::Rest => self.attention() + 1,
            Kind::Output => self.attention() + 2,
        };
        let job = Job { batch, kind, layer };
        match kind {
            // A small kernel that another's whole attention would delay.
            Kind::Merge => self.queues[unit].push_front(job),
            _ => self.queues[unit].push_back(job),
        }
    }

    /// Starts what may start.
    fn dispatch(&mut self) {
        let (attention, out) = (self.attention(), self.attention() + 1);
        for unit in 0..self.units.len() {
            if self.units[unit].is_some() {
                continue;
            }
            if self.shape.receive_idle && unit == out {
                // The pool listens only while it does nothing.
                let idle = self.units[attention].is_none()
                    && self.queues[attention].is_empty()
                    && self.reserved.is_none();
                if !idle {
                    continue;
                }
                self.reserved = self.queues[out].front().map(|job| job.batch);
            }
            if let Some(job) = self.queues[unit].pop_front() {
                self.run(unit, job);
            }
        }
    }

    fn run(&mut self, unit: usize, job: Job) {
        let work = self.work(job);
        self.events += 1;
        self.units[unit] = Some(Running {
            job,
            start: self.now,
            left: work,
            since: self.now,
            slowed: 0,
            end: self.now.after(work),
        });
        self.repace();
    }

    fn work(&self, job: Job) -> Ps {
        let layers = match &self.batches[job.batch].work {
            Some(Iteration::Layers(layers)) => layers,
            Some(Iteration::Whole(time)) => return *time,
            Some(Iteration::Stages(stages)) => return stages.time(job.layer),
            None => return Ps::ZERO,
        };
        match job.kind {
            Kind::Slice if job.layer == layers.count => layers.last,
            Kind::Slice if job.layer == 0 => layers.first,
            Kind::Slice => layers.slice,
            Kind::KeyValue => layers.early,
            Kind::Query => layers.query.stream,
            Kind::Rest => layers.rest.unwrap_or_default().stream,
            Kind::Attend => layers.attend,
            Kind::Merge => layers.merge,
            Kind::Output => layers.output.stream,
        }
    }

    /// Replicas that wait for the output of another batch are slower meanwhile.
    fn repace(&mut self) {
        if !self.slows {
            return;
        }
        for replica in 0..self.shape.replicas {
            let Some(job) = self.units[replica].map(|r| r.job) else {
                continue;
            };
            let slowed = match job.kind == Kind::Slice && self.awaits(replica, job.batch) {
                true => self.layers(job.batch).map_or(0, |l| l.waiting),
                false => 0,
            };
            if let Some(running) = &mut self.units[replica] {
                running.pace(self.now, slowed);
            }
        }
    }

    /// Whether the output of a batch other than this is to come to this replica.
    fn awaits(&self, replica: usize, but: usize) -> bool {
        let mut batches = self.batches.iter().enumerate();
        batches.any(|(at, b)| b.waits && at != but && self.replica(at, b.layer + 1) == replica)
    }

    fn finish(&mut self, unit: usize, done: Running) {
        let job = done.job;
        let place = self.unit(unit);
        if let Some(observer) = &mut self.observer {
            (observer.sees)(Span {
                unit: place,
                kind: job.kind,
                batch: job.batch,
                layer: job.layer,
                start: done.start,
                end: done.end,
            });
            observer.left -= 1;
            if observer.left == 0 {
                self.jump = observer.jump;
                self.observer = None;
            }
        }
        if let Some(Iteration::Stages(stages)) = &self.batches[job.batch].work
            && job.layer + 1 < stages.count
        {
            let at = self.now.after(stages.way(job.layer));
            // As what comes back from attention: the next slice follows.
            let kind = Kind::Output;
            self.arrivals.push(Arrival {
                at,
                job: Job { kind, ..job },
            });
            return;
        }
        let layers = self.layers(job.batch);
        let rest = layers.and_then(|l| l.rest);
        match job.kind {
            Kind::Slice => {
                if layers.is_none_or(|l| job.layer == l.count) {
                    self.batches[job.batch].work = None;
                    self.changed();
                    self.ended.push_back(Ended {
                        batch: job.batch,
                        at: self.now,
                    });
                } else {
                    self.mark = true;
                    self.batches[job.batch].waits = true;
                    self.queue(job.batch, Kind::Query);
                    self.repace();
                    if rest.is_some() {
                        // The replica goes on with the same batch.
                        let next = Job {
                            kind: Kind::KeyValue,
                            ..job
                        };
                        self.run(unit, next);
                    }
                }
            }
            Kind::KeyValue => self.queue(job.batch, Kind::Rest),
            Kind::Query | Kind::Rest | Kind::Output => {
                let latency = layers.map_or(Ps::ZERO, |layers| match job.kind {
                    Kind::Query => layers.query.latency,
                    Kind::Rest => rest.unwrap_or_default().latency,
                    _ => layers.output.latency,
                });
                self.arrivals.push(Arrival {
                    at: self.now.after(latency),
                    job,
                });
                self.repace();
            }
            Kind::Attend => {
                self.batches[job.batch].attended = true;
                match rest {
                    Some(_) if self.batches[job.batch].rest_arrived => {
                        self.queue(job.batch, Kind::Merge);
                    }
                    Some(_) => {}
                    None => self.queue(job.batch, Kind::Output),
                }
            }
            Kind::Merge => self.queue(job.batch, Kind::Output),
        }
    }

    fn arrive(&mut self, job: Job) {
        if matches!(job.kind, Kind::Query | Kind::Rest) && self.reserved == Some(job.batch) {
            self.reserved = None;
        }
        match job.kind {
            Kind::Query => self.queue(job.batch, Kind::Attend),
            Kind::Rest => {
                self.batches[job.batch].rest_arrived = true;
                if self.batches[job.batch].attended {
                    self.queue(job.batch, Kind::Merge);
                }
            }
            _ => {
                let batch = &mut self.batches[job.batch];
                batch.layer += 1;
                (batch.attended, batch.rest_arrived, batch.waits) = (false, false, false);
                self.queue(job.batch, Kind::Slice);
                self.repace();
            }
        }
    }
}
