//! Requests on a system: who is admitted when, batch by batch, and what comes out.
//!
//! A batch changes between two of its iterations only: requests that have all their tokens leave, those that wait join in order while
//! there is room for their caches. Batches in flight are kept alike in size.

use std::collections::{BTreeMap, VecDeque};

use einflow_spec::{Problem, Problems, Source};

use super::{
    account::{Account, Totals},
    pipeline::{Iteration, Pipeline, Span},
    scenario::{Admission, Load as LoadSpec, Prefill, Scenario},
    system::{System, WORD},
    time::Ps,
    times::{Load, Timed, Times, total},
};
use crate::{
    serving::{Arrival, trace},
    validate,
};

/// What comes, read.
#[derive(Clone, Debug)]
pub enum Demand {
    /// Requests, in order of arrival.
    Requests {
        /// All of them.
        list: Vec<Arrival>,
        /// Whether they come when they say; else all are there at the start.
        arrivals: bool,
        /// Those that the scenario leaves out: how many, and the row of the first.
        left_out: Option<(usize, u64)>,
        /// Their file.
        source: Source,
    },
    /// The same requests all the time.
    Fixed {
        /// Over all batches; none: as many as the cache holds.
        batch: Option<u64>,
        /// Tokens of each.
        context: u64,
    },
}

impl Demand {
    /// Reads what a scenario says comes.
    ///
    /// # Errors
    /// A trace that is not there, and every wrong cell in it.
    pub fn read(scenario: &Scenario) -> Result<Self, Problems> {
        match &scenario.load {
            LoadSpec::Fixed { batch, context } => Ok(Self::Fixed {
                batch: batch.value,
                context: *context,
            }),
            LoadSpec::Trace {
                path,
                arrivals,
                requests,
                longest,
            } => {
                let source = validate::data(&path.value, scenario.beside.as_deref());
                let source = source.map_err(|p| match p.place {
                    Some(_) => p,
                    None => Problem {
                        place: Some((scenario.source.clone(), path.span)),
                        ..p
                    },
                })?;
                let mut list = trace::read(&source)?;
                if let Some(most) = requests {
                    list.truncate(usize::try_from(*most).unwrap_or(usize::MAX));
                }
                let too_long =
                    |r: &Arrival| longest.is_some_and(|most| r.prompt + r.generated > most);
                let first = list.iter().find(|r| too_long(r)).map(|r| r.row);
                let before = list.len();
                list.retain(|r| !too_long(r));
                if list.is_empty() {
                    return Err(Problem {
                        place: Some((scenario.source.clone(), path.span)),
                        ..Problem::nowhere("every request is longer than `longest`")
                            .help("a larger `longest`, or none")
                    }
                    .into());
                }
                Ok(Self::Requests {
                    arrivals: *arrivals,
                    left_out: first.map(|row| (before - list.len(), row)),
                    list,
                    source,
                })
            }
        }
    }
}

impl Demand {
    /// Refuses requests that no store holds.
    fn fits(&self, system: &System) -> Result<(), Problem> {
        let most = system.stores.iter().copied().max().unwrap_or(0);
        let Self::Requests { list, source, .. } = self else {
            return Ok(());
        };
        let needs = |r: &Arrival| r.prompt.saturating_add(r.generated);
        let too_large = |r: &&Arrival| needs(r) > most;
        let Some(first) = list.iter().find(too_large) else {
            return Ok(());
        };
        let more = match list.iter().filter(too_large).count() - 1 {
            0 => String::new(),
            n => format!("; {n} more are too large"),
        };
        let message = format!(
            "row {}: a request of {} tokens, and the pool `{}` holds {most}{more}",
            first.row,
            needs(first),
            system.attends().spec.name,
        );
        Err(trace::at_row(source, first.row, message).help(
            "more devices or memory in that pool; `longest` in the load leaves such requests out",
        ))
    }
}

/// Who watches a run.
pub trait Watch {
    /// So many tokens came out, of so many.
    fn done(&self, tokens: u64, of: u64);
    /// Whether to stop here.
    fn stop(&self) -> bool;
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {
    fn done(&self, _: u64, _: u64) {}

    fn stop(&self) -> bool {
        false
    }
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pass over layers that repeat.
    pub jump: bool,
    /// Tasks to keep for a timeline, from the start.
    pub spans: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            jump: true,
            spans: 0,
        }
    }
}

/// What came out.
pub struct Served {
    /// Everything counted.
    pub account: Account,
    /// Sums where the window of which rates are reported begins.
    pub begin: Totals,
    /// And where it ends.
    pub end: Totals,
    /// Whether the queue was never empty in the window.
    pub saturated: bool,
    /// Requests that got all their tokens.
    pub finished: u64,
    /// Requests that there were.
    pub requests: u64,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
    /// Tasks from the start.
    pub spans: Vec<Span>,
    /// The host's own, as batch, from, to.
    pub host_spans: Vec<(usize, Ps, Ps)>,
    /// The last iteration of each batch that is as a batch is in the window: what a layer takes.
    pub typical: Option<(Load, Timed)>,
    /// What makes times less sure.
    pub flags: Vec<String>,
    /// What times rest on that nobody measured.
    pub assumed: Vec<String>,
    /// Whether requests came when the trace said.
    pub arrivals: bool,
    /// Whether a request ever waited for room.
    pub refused: bool,
    /// Events that the simulation handled.
    pub events: u64,
}

/// A request that waits: for the first time, or after it was preempted.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    request: usize,
    /// Tokens that its cache starts with.
    context: u64,
    left: u64,
    /// When its last token came, if one has.
    last: Option<Ps>,
    /// When it can be admitted.
    ready: Ps,
}

/// A request with a place in a batch.
#[derive(Clone, Copy, Debug)]
struct Active {
    request: usize,
    /// Tokens in the cache, that which the iteration adds with them.
    context: u64,
    /// Tokens of the prompt that are not computed yet.
    prompt: u64,
    left: u64,
    store: usize,
    /// Tokens of the store that are set aside for it.
    held: u64,
    last: Option<Ps>,
    /// Tokens of the prompt that the iteration computes.
    chunk: u64,
}

#[derive(Default)]
struct BatchState {
    active: Vec<Active>,
    /// The iteration that runs, and what the host took before it.
    running: Option<(Load, Timed)>,
}

/// Iterations of each batch before a fixed load is measured, and while it is.
const FIXED_ITERATIONS: [u64; 2] = [16, 32];
/// Iterations between two looks at who watches.
const WATCHED: u64 = 512;

struct Server<'s> {
    system: &'s System,
    requests: &'s [Arrival],
    arrivals: bool,
    next: usize,
    /// Preempted ones first, oldest first.
    again: VecDeque<Waiting>,
    /// With prompts on a pool: those computed or under way, by when they can be admitted.
    prompted: BTreeMap<(Ps, usize), Waiting>,
    /// When each group of the prompts' pool is free.
    prompt_free: Vec<Ps>,
    /// When the link from there is.
    cache_free: Ps,
    batches: Vec<BatchState>,
    used: Vec<u64>,
    times: Times<'s>,
    account: Account,
    host_free: Ps,
    host: Ps,
    finished: u64,
    refused: bool,
}

/// Runs a demand on a system.
///
/// # Errors
/// A request that no store holds, by its row; a kernel of which a device's file says nothing.
pub fn serve(
    system: &System,
    demand: &Demand,
    options: Options,
    watch: &dyn Watch,
) -> Result<Served, Problem> {
    demand.fits(system)?;
    let spans = std::cell::RefCell::new(Vec::new());
    let mut pipeline = Pipeline::new(system.shape);
    pipeline.jump = options.jump;
    pipeline.observe(options.spans, |span| spans.borrow_mut().push(span));
    let (list, arrivals): (&[Arrival], bool) = match demand {
        Demand::Requests { list, arrivals, .. } => (list, *arrivals),
        Demand::Fixed { .. } => (&[], false),
    };
    let mut server = Server::new(system, list, arrivals);
    let mut run = Run {
        begin: None,
        end: None,
        typical: None,
        stopped: false,
        host_spans: Vec::new(),
        most_spans: options.spans,
    };
    match demand {
        Demand::Requests { .. } => server.trace(&mut pipeline, &mut run, watch)?,
        Demand::Fixed { batch, context } => {
            let held: u64 = system.stores.iter().map(|s| s / context).sum();
            // Each batch in flight has one at least: what does not fit is refused.
            let batch = batch.unwrap_or(held.max(system.scenario.batches.value));
            server.fixed(&mut pipeline, &mut run, batch, *context)?;
        }
    }
    let events = pipeline.events;
    drop(pipeline);
    let fixed = matches!(demand, Demand::Fixed { .. });
    let saturated = run.begin.is_some() && run.end.is_some();
    let whole = (Account::new(system).totals, server.account.totals.clone());
    let (begin, end) = match (run.begin, run.end) {
        (Some(begin), Some(end)) if !arrivals && end.tokens > begin.tokens => (begin, end),
        _ => whole,
    };
    let spans = spans.into_inner();
    let shown = spans.last().map_or(Ps::ZERO, |s: &Span| s.end);
    run.host_spans.retain(|(_, from, _)| *from < shown);
    Ok(Served {
        begin,
        end,
        saturated: fixed || (saturated && !arrivals),
        finished: server.finished,
        requests: list.len() as u64,
        stopped: run.stopped,
        spans,
        host_spans: run.host_spans,
        typical: run.typical,
        flags: server.times.flags.iter().cloned().collect(),
        assumed: server.times.assumed().into_iter().collect(),
        arrivals,
        refused: server.refused,
        account: server.account,
        events,
    })
}

/// What is kept of a run besides the account.
struct Run {
    begin: Option<Totals>,
    end: Option<Totals>,
    typical: Option<(Load, Timed)>,
    stopped: bool,
    host_spans: Vec<(usize, Ps, Ps)>,
    most_spans: usize,
}

impl<'s> Server<'s> {
    fn new(system: &'s System, requests: &'s [Arrival], arrivals: bool) -> Self {
        let host = Ps::of(system.scenario.host_overhead).unwrap_or(Ps::ZERO);
        let groups = system.prefill.as_ref().map_or(0, |p| p.replicas as usize);
        Self {
            system,
            requests,
            arrivals,
            next: 0,
            again: VecDeque::new(),
            prompted: BTreeMap::new(),
            prompt_free: vec![Ps::ZERO; groups],
            cache_free: Ps::ZERO,
            batches: (0..system.shape.batches)
                .map(|_| BatchState::default())
                .collect(),
            used: vec![0; system.stores.len()],
            times: Times::new(system),
            account: Account::new(system),
            host_free: Ps::ZERO,
            host,
            finished: 0,
            refused: false,
        }
    }

    fn arrives(&self, request: usize) -> Ps {
        if !self.arrivals {
            return Ps::ZERO;
        }
        Ps::of(self.requests[request].at).unwrap_or(Ps::NEVER)
    }

    /// When something new can next be admitted, or sent to the pool for prompts.
    fn next_ready(&self) -> Ps {
        let prompted = self.prompted.keys().next().map(|(at, _)| *at);
        let more = self.next < self.requests.len() && self.prompted.len() < self.ahead();
        let coming = more.then(|| self.arrives(self.next));
        [prompted, coming]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Ps::NEVER)
    }

    /// Prompts that are computed ahead of what is admitted: without arrivals a few, else all that came.
    fn ahead(&self) -> usize {
        match (&self.system.prefill, self.arrivals) {
            (Some(_), false) => 4 * (self.prompt_free.len() + self.batches.len()),
            _ => usize::MAX,
        }
    }

    /// Whether any request has yet to be admitted.
    fn waits(&self) -> bool {
        !self.again.is_empty() || !self.prompted.is_empty() || self.next < self.requests.len()
    }

    /// Sends prompts that are there to the pool for prompts.
    fn prompt(&mut self, now: Ps) -> Result<(), Problem> {
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
            let tokens = self.requests[request].prompt;
            let done = self.computed(from, tokens)?;
            let left = self.requests[request].generated - 1;
            self.account
                .first
                .record((done.0.since(from).0 / 1000).max(1))
                .unwrap_or_else(|_| unreachable!("an auto-resizing histogram takes any value"));
            self.account.totals.tokens += 1;
            if left == 0 {
                self.finished += 1;
                continue;
            }
            let waiting = Waiting {
                request,
                context: tokens,
                left,
                last: Some(done.0),
                ready: done.1,
            };
            self.prompted.insert((done.1, request), waiting);
        }
        Ok(())
    }

    /// When a prompt is computed on the pool for prompts, and when its cache is where it is needed.
    fn computed(&mut self, from: Ps, tokens: u64) -> Result<(Ps, Ps), Problem> {
        let system = self.system;
        let Some(pool) = &system.prefill else {
            return Ok((from, from));
        };
        let works = self.times.prompt(pool, tokens)?;
        let free = self.prompt_free.iter_mut().min();
        let done = match free {
            Some(free) => {
                *free = from.max(*free).after(total(&works));
                *free
            }
            None => from,
        };
        for (own, work) in self.account.totals.prompts.iter_mut().zip(&works) {
            own.time = own.time.after(work.time.times(pool.group));
            own.joules += work.joules * pool.group as f64;
        }
        let mut there = done;
        if let Some(link) = &system.prefill_network {
            let words = system.model.cache_words().unwrap_or(0);
            let bytes = tokens.saturating_mul(words).saturating_mul(WORD);
            let lanes = pool.group.min(system.head_parts()).max(1);
            let name = match link.operations.contains_key("send:graph") {
                true => "send:graph",
                false => "send",
            };
            let time = link.send(name, bytes / lanes, lanes);
            let time = time.and_then(Ps::of).unwrap_or(Ps::ZERO);
            there = done.max(self.cache_free).after(time);
            self.cache_free = there;
            self.account.totals.cache_bytes += bytes as f64;
            self.account.totals.cache_time = self.account.totals.cache_time.after(time);
        }
        Ok((done, there))
    }

    /// The request that is admitted next, if one can be.
    fn front(&self, now: Ps) -> Option<Waiting> {
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

    fn take_front(&mut self, waiting: &Waiting) {
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

    fn resident(&self) -> u64 {
        self.batches.iter().map(|b| b.active.len() as u64).sum()
    }

    /// Requests join those batches that are between two iterations.
    fn admit(&mut self, between: &[usize], now: Ps) {
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
            self.take_front(&waiting);
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
            });
        }
    }

    /// A store with room for a request of this batch: the emptiest.
    fn room(&self, batch: usize, needs: u64) -> Option<usize> {
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
    fn grow(&mut self, batch: usize, now: Ps) -> Result<bool, Problem> {
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
            let context = gone.context + gone.prompt;
            let ready = match self.system.prefill {
                Some(_) => self.computed(now, context)?.1,
                None => now,
            };
            self.again.push_front(Waiting {
                request: gone.request,
                context,
                left: gone.left,
                last: gone.last,
                ready,
            });
        }
        for store in 0..self.used.len() {
            self.account.peak_cached = self.account.peak_cached.max(self.used[store]);
        }
        Ok(preempted)
    }

    /// What a batch brings to its next iteration; `None` where it is empty.
    fn form(&mut self, batch: usize) -> Option<Load> {
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
    fn begin(
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
            let from = now.max(self.host_free);
            let start = from.after(self.host);
            self.host_free = start;
            self.account.totals.host = self.account.totals.host.after(self.host);
            if run.host_spans.len() < run.most_spans && self.host > Ps::ZERO {
                run.host_spans.push((*batch, from, start));
            }
            pipeline.start(*batch, timed.iteration, start);
            self.batches[*batch].running = Some((load, timed));
        }
        Ok(())
    }

    /// An iteration ended: tokens come out, requests leave.
    fn end(&mut self, batch: usize, now: Ps) {
        let Some((load, timed)) = self.batches[batch].running.take() else {
            return;
        };
        self.account.settle(now);
        self.account.iteration(self.system, batch, &timed);
        self.account.totals.tokens += load.sampled;
        self.account.totals.context += u128::from(load.tokens);
        let mut active = std::mem::take(&mut self.batches[batch].active);
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
                    self.account
                        .first
                        .record((now.since(from).0 / 1000).max(1))
                        .unwrap_or_else(|_| {
                            unreachable!("an auto-resizing histogram takes any value")
                        });
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

    fn trace(
        &mut self,
        pipeline: &mut Pipeline<'_>,
        run: &mut Run,
        watch: &dyn Watch,
    ) -> Result<(), Problem> {
        let wanted: u64 = self.requests.iter().map(|r| r.generated).sum();
        let mut now = Ps::ZERO;
        let mut between: Vec<usize> = (0..self.batches.len()).collect();
        let mut iterations = 0u64;
        let mut stuck = false;
        loop {
            self.begin(pipeline, run, &between, now)?;
            // From where the queue was first held up to where it is empty.
            if self.refused && run.begin.is_none() {
                run.begin = Some(self.account.totals.clone());
            }
            if run.begin.is_some() && run.end.is_none() && !self.waits() {
                run.end = Some(self.account.totals.clone());
            }
            let idle: Vec<usize> = (0..self.batches.len())
                .filter(|b| self.batches[*b].running.is_none())
                .collect();
            // A batch without requests begins when one comes.
            let coming = match self.again.is_empty() {
                true => self.next_ready(),
                false => self.again.front().map_or(Ps::NEVER, |w| w.ready),
            };
            let until = match idle.iter().any(|b| self.batches[*b].active.is_empty()) {
                true if coming > now => coming,
                _ => Ps::NEVER,
            };
            let all_idle = idle.len() == self.batches.len();
            match pipeline.advance(until) {
                Some(ended) => {
                    stuck = false;
                    now = ended.at;
                    if run.end.is_none() {
                        run.typical = self.batches[ended.batch].running.clone();
                    }
                    self.end(ended.batch, now);
                    between = vec![ended.batch];
                    iterations += 1;
                }
                None if until == Ps::NEVER => {
                    if !(all_idle && self.waits()) {
                        break;
                    }
                    // Everything was given back: what waits can be admitted now. Once: an empty system admits what fits at all.
                    if stuck {
                        return Err(Problem::nowhere(format!(
                            "request {} waits for ever",
                            self.again.front().map_or(self.next, |w| w.request)
                        )));
                    }
                    now = self.again.front().map_or(now, |w| w.ready.max(now));
                    between = idle;
                    stuck = true;
                    continue;
                }
                None => {
                    now = until;
                    between = idle;
                }
            }
            if iterations.is_multiple_of(WATCHED) {
                watch.done(self.account.totals.tokens, wanted);
                if watch.stop() {
                    run.stopped = true;
                    break;
                }
            }
        }
        self.account.settle(now);
        watch.done(self.account.totals.tokens, wanted);
        Ok(())
    }

    /// The same requests all the time, until the batches have found their rhythm, and then a while.
    fn fixed(
        &mut self,
        pipeline: &mut Pipeline<'_>,
        run: &mut Run,
        batch: u64,
        context: u64,
    ) -> Result<(), Problem> {
        let n = self.batches.len() as u64;
        let capacity: u64 = self.system.stores.iter().sum();
        if batch.saturating_mul(context) > capacity {
            return Err(Problem::nowhere(format!(
                "{batch} requests of {context} tokens need {} tokens of cache, and the pool `{}` holds {capacity}",
                batch.saturating_mul(context),
                self.system.attends().spec.name,
            ))
            .help("more devices or memory in that pool, fewer requests, or shorter ones"));
        }
        if batch < n {
            return Err(Problem::nowhere(format!("{batch} requests in {n} batches"))
                .help("each batch in flight has one request at least"));
        }
        self.account.peak_cached = batch * context;
        let stores = self.used.len() as u64;
        let mut works: Vec<(Load, Timed)> = Vec::new();
        for b in 0..n {
            let requests = batch / n + u64::from(b < batch % n);
            let each = |s: u64| requests / stores + u64::from((s + b) % stores < requests % stores);
            let load = Load {
                requests,
                tokens: requests * context,
                by_store: (0..stores).map(|s| (each(s), each(s) * context)).collect(),
                chunks: Vec::new(),
                sampled: requests,
            };
            let timed = self.times.iteration(&load)?;
            works.push((load, timed));
        }
        self.account.resident(Ps::ZERO, batch);
        let mut last = vec![None; works.len()];
        let mut rounds = vec![0u64; works.len()];
        let begin =
            |server: &mut Self, pipeline: &mut Pipeline<'_>, run: &mut Run, b: usize, now: Ps| {
                let from = now.max(server.host_free);
                let start = from.after(server.host);
                server.host_free = start;
                server.account.totals.host = server.account.totals.host.after(server.host);
                if run.host_spans.len() < run.most_spans && server.host > Ps::ZERO {
                    run.host_spans.push((b, from, start));
                }
                pipeline.start(b, works[b].1.iteration, start);
            };
        for b in 0..works.len() {
            begin(self, pipeline, run, b, Ps::ZERO);
        }
        let [warm, measured] = FIXED_ITERATIONS;
        while let Some(ended) = pipeline.advance(Ps::NEVER) {
            let b = ended.batch;
            self.account.settle(ended.at);
            let (load, timed) = &works[b];
            self.account.iteration(self.system, b, timed);
            self.account.totals.tokens += load.sampled;
            self.account.totals.context += u128::from(load.tokens);
            if let (Some(before), true) = (last[b], run.begin.is_some()) {
                let gap = ended.at.since(before);
                self.account.gap(gap, load.sampled, timed, self.host);
            }
            last[b] = Some(ended.at);
            rounds[b] += 1;
            // The window is from one end of the last batch to another.
            if b + 1 == works.len() && rounds[b] == warm {
                run.begin = Some(self.account.totals.clone());
            }
            if b + 1 == works.len() && rounds[b] == warm + measured {
                run.end = Some(self.account.totals.clone());
                break;
            }
            begin(self, pipeline, run, b, ended.at);
        }
        run.typical = works.into_iter().next();
        Ok(())
    }
}

impl Timed {
    /// Layers, where attention is elsewhere.
    pub fn layers(&self) -> Option<super::pipeline::Layers> {
        match self.iteration {
            Iteration::Layers(layers) => Some(layers),
            Iteration::Whole(_) => None,
        }
    }
}
