//! Requests on a system: what a policy runs goes through the pipeline, iteration by iteration, and what comes out is
//! counted.
//!
//! A batch changes between two of its iterations only: requests that have all their tokens leave, and others join
//! ([`policy`]).

mod demand;
mod iterations;
pub mod policy;
mod prompts;
pub mod trace;

use std::collections::{BTreeMap, VecDeque};

use einflow_spec::{Problem, quantity::Seconds};
use hdrhistogram::Histogram;

use super::{
    account::{Account, Totals},
    pipeline::{Iteration, Pipeline, Span},
    scenario::{Admission, Prefill},
    system::System,
    time::Ps,
    times::{Caches, Load, Timed, Times},
};
pub use demand::Demand;
use policy::{Limits, Policy, Preempted};
use prompts::{Prompt, Ready, Step};
pub use trace::Arrival;

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
    /// Tokens of their prompts that others had left in the cache, of how many.
    pub found: (u64, u64),
    /// When tokens of each request came.
    pub tokens: Vec<Tokens>,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
    /// Tasks from the start.
    pub spans: Vec<Span>,
    /// The host's own meanwhile.
    pub host_spans: Vec<OtherSpan>,
    /// Prompts on their pool meanwhile, by group.
    pub prompt_spans: Vec<OtherSpan>,
    /// Caches on their way from there.
    pub cache_spans: Vec<OtherSpan>,
    /// An iteration of a batch of the window's mean size and context: what a layer takes.
    pub typical: Option<(Load, Timed)>,
    /// Times between tokens in the window.
    pub between: Histogram<u64>,
    /// Requests that waited for room, for a place in a batch, or for their prompt to begin.
    pub waited: u64,
    /// What makes times less sure.
    pub flags: Vec<String>,
    /// What times rest on that nobody measured.
    pub assumed: Vec<String>,
    /// Whether requests came when the trace said.
    pub arrivals: bool,
    /// Events that the simulation handled.
    pub events: u64,
}

/// A task of a host (of which batch), of the pool for prompts or of a link from there (of which request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSpan {
    /// The host, the group or the link.
    pub of: usize,
    /// The request, or the batch.
    pub request: usize,
    /// From.
    pub start: Ps,
    /// To.
    pub end: Ps,
}

/// When a request came, and its tokens; all after the first arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// When the request came.
    pub arrived: Ps,
    /// When it could first be admitted: where prompts have a pool, later.
    pub came: Ps,
    /// Tokens that it wants; none of a fixed load.
    pub wanted: u64,
    /// Tokens that came out.
    pub made: u64,
    /// The first.
    pub first: Option<Ps>,
    /// The last so far.
    pub last: Option<Ps>,
}

/// A request that got all its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServedRequest {
    /// Which, from 0, in order of arrival.
    pub request: usize,
    /// From its arrival to its first token.
    pub first_token: Seconds,
    /// Between two tokens, the mean; none with a single token.
    pub per_token: Option<Seconds>,
    /// From its arrival to its last token.
    pub latency: Seconds,
    /// When its last token came, after the first arrival.
    pub finish: Seconds,
}

impl Served {
    /// The requests of a trace that got all their tokens.
    pub fn by_request(&self) -> impl Iterator<Item = ServedRequest> {
        self.tokens.iter().enumerate().filter_map(|(request, own)| {
            let (first, last) = (own.first?, own.last?);
            (own.made == own.wanted).then(|| ServedRequest {
                request,
                first_token: first.since(own.arrived).seconds(),
                per_token: (own.made > 1)
                    .then(|| Seconds(last.since(first).seconds().0 / (own.made - 1) as f64)),
                latency: last.since(own.arrived).seconds(),
                finish: last.seconds(),
            })
        })
    }
}

/// Iterations of each batch without which a window says nothing: whole iterations are counted where they end.
const SHORTEST_WINDOW: u64 = 16;
/// Iterations between two looks at who watches.
const WATCHED: u64 = 512;
/// Iterations of each batch before a fixed load is measured, and while it is.
const FIXED_ITERATIONS: [u64; 2] = [16, 32];

struct Server<'s> {
    system: &'s System,
    requests: &'s [Arrival],
    arrivals: bool,
    /// The next that comes.
    next: usize,
    policy: Box<dyn Policy>,
    /// Of each request; of each batch, where the load is fixed.
    tokens: Vec<Tokens>,
    /// The iteration that each batch runs, and how long its host kept it waiting.
    running: Vec<Option<(Load, Timed, Ps)>>,
    /// With prompts on a pool: those that wait for it, in order.
    prompt_queue: VecDeque<Prompt>,
    /// With prompts on a pool: that of each group that is in parts.
    prompt_parts: Vec<Option<Prompt>>,
    /// With prompts on a pool: steps under way, by when they end.
    prompts: BTreeMap<(Ps, usize), Step>,
    /// With prompts on a pool: requests by when they can be admitted.
    prompted: BTreeMap<(Ps, usize), Ready>,
    /// When each group of the prompts' pool is free.
    prompt_free: Vec<Ps>,
    /// When each link from there is.
    cache_free: Vec<Ps>,
    times: Times<'s>,
    account: Account,
    /// When each host is free.
    host_free: Vec<Ps>,
    /// When the next iteration of each batch is ready to run, where it was planned ahead.
    ready: Vec<Option<Ps>>,
    host: Ps,
    finished: u64,
    refused: bool,
    /// Steps of prompts that were begun: tells those that end at the same time apart.
    begun: usize,
    waited: u64,
    /// The last time between two iterations of a batch.
    last_gap: Ps,
    prompt_spans: Vec<OtherSpan>,
    cache_spans: Vec<OtherSpan>,
    most_spans: usize,
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
    let policy: Box<dyn Policy> = match demand {
        Demand::Requests { .. } => (system.scenario.policy.build)(system.limits()),
        Demand::Fixed { batch, context } => {
            Box::new(policy::fixed::Fixed::new(system, *batch, *context)?)
        }
    };
    let fixed = matches!(demand, Demand::Fixed { .. });
    let mut server = Server::new(system, list, arrivals, policy);
    server.most_spans = options.spans;
    let mut run = Run {
        begin: None,
        end: None,
        stopped: false,
        host_spans: Vec::new(),
        most_spans: options.spans,
    };
    server.run(&mut pipeline, &mut run, fixed, watch)?;
    let events = pipeline.events;
    drop(pipeline);
    let enough = SHORTEST_WINDOW * system.scenario.batches.value;
    let window = |begin: &Mark, end: &Mark| end.0.iterations >= begin.0.iterations + enough;
    let mut saturated = fixed;
    let empty = Account::new(system);
    let whole = (
        (empty.totals, empty.between),
        (
            server.account.totals.clone(),
            server.account.between.clone(),
        ),
    );
    let (begin, end) = match (run.begin, run.end) {
        (Some(begin), Some(end)) if fixed || (!arrivals && window(&begin, &end)) => {
            saturated = true;
            (begin, end)
        }
        _ => whole,
    };
    let mut between = end.1;
    // What was counted before the window was counted at its end too.
    let _ = between.subtract(&begin.1);
    let typical = server.typical(&begin.0, &end.0)?;
    let spans = spans.into_inner();
    let shown = spans.last().map_or(Ps::ZERO, |s: &Span| s.end);
    for own in [
        &mut run.host_spans,
        &mut server.prompt_spans,
        &mut server.cache_spans,
    ] {
        own.retain(|span| span.start < shown);
    }
    Ok(Served {
        begin: begin.0,
        end: end.0,
        between,
        saturated,
        finished: server.finished,
        requests: list.len() as u64,
        found: {
            let prompts = list.iter().map(|r| r.prompt);
            let all = prompts.fold(0, u64::saturating_add);
            (server.policy.found(), all)
        },
        tokens: server.tokens,
        stopped: run.stopped,
        spans,
        host_spans: run.host_spans,
        prompt_spans: server.prompt_spans,
        cache_spans: server.cache_spans,
        typical,
        waited: server.waited,
        flags: {
            let alike = list.iter().any(|r| !r.shared.blocks().is_empty());
            let lost = (alike && !system.room.plain()).then(|| {
                format!(
                    "prompts that begin alike are computed each: layers of {} keep windows or states",
                    system.model.name
                )
            });
            let own = server.times.flags.iter().chain(&system.flags).cloned();
            own.chain(lost).collect()
        },
        assumed: server.times.assumed().into_iter().collect(),
        arrivals,
        account: server.account,
        events,
    })
}

/// What is kept of a run besides the account.
struct Run {
    begin: Option<Mark>,
    end: Option<Mark>,
    stopped: bool,
    host_spans: Vec<OtherSpan>,
    most_spans: usize,
}

/// Everything counted up to a moment.
type Mark = (Totals, Histogram<u64>);

impl<'s> Server<'s> {
    fn new(
        system: &'s System,
        requests: &'s [Arrival],
        arrivals: bool,
        policy: Box<dyn Policy>,
    ) -> Self {
        let host = Ps::of(system.scenario.host_overhead).unwrap_or(Ps::ZERO);
        let groups = system.prefill.as_ref().map_or(0, |p| p.replicas as usize);
        Self {
            system,
            requests,
            arrivals,
            next: 0,
            policy,
            tokens: match requests {
                [] => vec![Tokens::default(); system.shape.batches],
                requests => {
                    let wanted = requests.iter().map(|r| r.generated);
                    wanted
                        .map(|wanted| Tokens {
                            wanted,
                            ..Tokens::default()
                        })
                        .collect()
                }
            },
            running: vec![None; system.shape.batches],
            prompt_queue: VecDeque::new(),
            prompt_parts: vec![None; groups],
            prompts: BTreeMap::new(),
            prompted: BTreeMap::new(),
            begun: 0,
            waited: 0,
            last_gap: Ps::ZERO,
            prompt_spans: Vec::new(),
            cache_spans: Vec::new(),
            most_spans: 0,
            prompt_free: vec![Ps::ZERO; groups],
            cache_free: vec![Ps::ZERO; system.cache_channels() as usize],
            times: Times::new(system),
            account: Account::new(system),
            ready: vec![None; system.shape.batches],
            host_free: vec![Ps::ZERO; system.hosts() as usize],
            host,
            finished: 0,
            refused: false,
        }
    }

    /// When a request comes.
    fn arrives(&self, request: usize) -> Ps {
        if !self.arrivals {
            return Ps::ZERO;
        }
        // The clock starts with the first.
        let begin = self.requests.first().map_or(0.0, |r| r.at.0);
        Ps::of(Seconds(self.requests[request].at.0 - begin)).unwrap_or(Ps::NEVER)
    }

    /// Whether any request has yet to be admitted.
    fn waits(&self) -> bool {
        self.policy.waits()
            || !self.prompts.is_empty()
            || !self.prompt_queue.is_empty()
            || !self.prompted.is_empty()
            || self.next < self.requests.len()
    }

    fn resident(&self) -> u64 {
        (0..self.running.len())
            .map(|b| self.policy.running(b))
            .sum()
    }

    /// Until all is done; a fixed load until the batches have found their rhythm, and then a while.
    fn run(
        &mut self,
        pipeline: &mut Pipeline<'_>,
        run: &mut Run,
        fixed: bool,
        watch: &dyn Watch,
    ) -> Result<(), Problem> {
        let wanted: u64 = self.requests.iter().map(|r| r.generated).sum();
        let mut now = Ps::ZERO;
        let mut between: Vec<usize> = (0..self.running.len()).collect();
        let [warm, measured] = FIXED_ITERATIONS;
        let mut rounds = 0;
        let mut iterations = 0u64;
        let mut stuck = false;
        loop {
            self.begin(pipeline, run, &between, now)?;
            // From where the queue was first held up to where it is empty.
            if self.refused && run.begin.is_none() {
                run.begin = Some(self.mark());
            }
            match (self.waits(), &run.end) {
                // Somebody gave room back and waits again.
                (true, Some(_)) => run.end = None,
                (false, None) if run.begin.is_some() && !fixed => run.end = Some(self.mark()),
                _ => {}
            }
            let idle = self.between();
            // A batch without requests begins when one comes.
            let coming = self.next_ready(now);
            let until = match idle.iter().any(|b| self.policy.running(*b) == 0) {
                true if coming > now => coming,
                _ => Ps::NEVER,
            };
            let all_idle = idle.len() == self.running.len();
            match pipeline.advance(until) {
                Some(ended) => {
                    stuck = false;
                    now = ended.at;
                    self.end(ended.batch, now);
                    // And those that found nobody before: there may be room now.
                    between = self.between();
                    iterations += 1;
                    // The window of a fixed load is from one end of the last batch to another.
                    if fixed && ended.batch + 1 == self.running.len() {
                        rounds += 1;
                        if rounds == warm {
                            run.begin = Some(self.mark());
                        } else if rounds == warm + measured {
                            run.end = Some(self.mark());
                            break;
                        }
                    }
                }
                None if until == Ps::NEVER => {
                    if !(all_idle && self.waits()) {
                        break;
                    }
                    // Everything was given back: what waits can be admitted now. Once: an empty system admits what fits at all.
                    if stuck {
                        break;
                    }
                    between = idle;
                    stuck = true;
                    continue;
                }
                None => {
                    now = until;
                    between = idle;
                }
            }
            if fixed || iterations.is_multiple_of(WATCHED) {
                watch.done(self.account.totals.tokens, wanted);
                if watch.stop() {
                    run.stopped = true;
                    break;
                }
            }
        }
        self.account.settle(now);
        watch.done(self.account.totals.tokens, wanted);
        let left = self.requests.len() as u64 - self.finished;
        if left > 0 && !run.stopped {
            return Err(Problem::nowhere(format!(
                "{left} of {} requests are not done when the simulated time ends, after 213 days",
                self.requests.len()
            ))
            .help("a shorter trace, or less for the host to do"));
        }
        Ok(())
    }

    /// Batches that run no iteration.
    fn between(&self) -> Vec<usize> {
        let idle = |b: &usize| self.running[*b].is_none();
        (0..self.running.len()).filter(idle).collect()
    }

    fn mark(&self) -> Mark {
        (self.account.totals.clone(), self.account.between.clone())
    }

    /// An iteration of a batch of the mean size and context between two moments.
    fn typical(&mut self, begin: &Totals, end: &Totals) -> Result<Option<(Load, Timed)>, Problem> {
        let iterations = end.iterations - begin.iterations;
        let decoded = end.decoded - begin.decoded;
        if iterations == 0 || decoded == 0 {
            return Ok(None);
        }
        let mean = |sum: u128, of: u64| (sum as f64 / of as f64).round().max(1.0) as u64;
        let requests = mean(decoded.into(), iterations);
        let context = mean(end.context - begin.context, decoded);
        let width = mean(end.width - begin.width, iterations);
        let stores = match self.system.attention {
            Some(_) => self.system.stores.len() as u64,
            None => 0,
        };
        let each = |s: u64| requests / stores + u64::from(s < requests % stores);
        let load = Load {
            caches: Caches::equal(requests, context),
            by_store: (0..stores)
                .map(|s| Caches::equal(each(s), context))
                .collect(),
            chunks: match width.saturating_sub(requests) {
                0 => Vec::new(),
                tokens => vec![(tokens, 0)],
            },
            sampled: requests,
        };
        let timed = self.times.iteration(&load)?;
        Ok(Some((load, timed)))
    }
}

impl System {
    /// The limits within which a policy runs requests.
    fn limits(&self) -> Limits {
        let scenario = &self.scenario;
        let (chunked, block) = (
            scenario.prefill.value == Prefill::Chunked,
            scenario.block_size,
        );
        Limits {
            batches: self.shape.batches,
            sequences: usize::try_from(scenario.sequences).unwrap_or(usize::MAX),
            step_tokens: if chunked {
                scenario.step_tokens
            } else {
                u64::MAX
            },
            block,
            stores: self.units.clone(),
            room: self.room.clone(),
            replicas: self.attention.is_none().then_some(self.shape.replicas),
            preempted: match scenario.prefill.value {
                Prefill::Chunked => Preempted::Recomputes,
                Prefill::Excluded => Preempted::Keeps,
                Prefill::Pool => Preempted::Leaves,
            },
            reserve: scenario.admission == Admission::Reserve,
            whole_prompts: scenario.reserve_prompts,
            // Blocks of layers that keep a window or a state say less than that their tokens are there.
            reuse: scenario.prefix_caching && self.room.plain(),
            ahead: scenario.async_scheduling,
        }
    }
}

impl Timed {
    /// Layers, where attention is elsewhere.
    pub fn layers(&self) -> Option<super::pipeline::Layers> {
        match self.iteration {
            Iteration::Layers(layers) => Some(layers),
            Iteration::Whole(_) | Iteration::Stages(_) => None,
        }
    }
}
