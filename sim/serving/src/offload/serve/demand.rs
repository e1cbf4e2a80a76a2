//! What comes: requests of a trace, or the same ones all the time.

use einflow_spec::{Problem, Problems, Source};
use einflow_workloads::models::Positions;

use super::super::{
    System,
    scenario::{Load, Prefill, Scenario, Trace},
};
use super::trace::{self, Arrival, LeftOut, Prefixes, Reading, Skip};

/// What comes, read.
#[derive(Clone, Debug)]
pub enum Demand {
    /// Requests, in order of arrival.
    Requests {
        /// All of them.
        list: Vec<Arrival>,
        /// Whether they come when they say; else all are there at the start.
        arrivals: bool,
        /// Those that the scenario leaves out.
        left_out: Vec<LeftOut>,
        /// Whether those that no store holds are.
        skips_too_large: bool,
        /// How many times as fast as in the file they come.
        speed_up: f64,
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
            Load::Fixed(fixed) => Ok(Self::Fixed {
                batch: fixed.batch.value,
                context: fixed.context,
            }),
            Load::Trace(trace) => {
                let path = &trace.path;
                let source = crate::data::data(&path.value, scenario.beside.as_deref());
                let source = source.map_err(|p| match p.place {
                    Some(_) => p,
                    None => Problem {
                        place: Some((scenario.source.clone(), path.span)),
                        ..p
                    },
                })?;
                Self::of(scenario, trace, &source)
            }
        }
    }

    /// The requests of a file, as a scenario's load reads it.
    ///
    /// # Errors
    /// Every wrong cell in it.
    pub fn of(scenario: &Scenario, trace: &Trace, source: &Source) -> Result<Self, Problems> {
        let reading = Reading {
            columns: trace.columns.clone(),
            skip: trace.skip.clone(),
            arrivals: trace.arrivals,
            most: trace.requests,
            prefixes: scenario.prefix_caching.then_some(Prefixes {
                block: scenario.block_size,
                hash_block: trace.hash_block,
                share: trace.shared_prefix,
            }),
        };
        let (mut list, mut left_out) = trace::read(source, &reading)?;
        list.retain(|r| {
            let long = trace
                .longest
                .is_some_and(|most| r.prompt + r.generated > most);
            if long {
                LeftOut::note(&mut left_out, "longer than `longest`", r.row);
            }
            !long
        });
        if list.is_empty() {
            return Err(Problem {
                place: Some((scenario.source.clone(), trace.path.span)),
                ..Problem::nowhere("every request is longer than `longest`")
                    .help("a larger `longest`, or none")
            }
            .into());
        }
        list.iter_mut().for_each(|r| r.at.0 /= trace.speed_up);
        Ok(Self::Requests {
            arrivals: trace.arrivals,
            skips_too_large: trace.skip.contains(&Skip::TooLarge),
            speed_up: trace.speed_up,
            left_out,
            list,
            source: source.clone(),
        })
    }

    /// Leaves out what no store of the system holds, where that is asked for.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn on(mut self, system: &System) -> Result<Self, Problem> {
        if let Self::Requests {
            list,
            left_out,
            skips_too_large: true,
            source,
            ..
        } = &mut self
        {
            let (most, needs) = room(system);
            let positions = positions(system);
            list.retain(|r| {
                let large = needs(r) > most || read_tokens(r) > positions;
                if large {
                    LeftOut::note(left_out, "more than a store holds", r.row);
                }
                !large
            });
            if list.is_empty() {
                let message =
                    format!("every request is more than the {most} tokens that a store holds");
                return Err(trace::at_row(source, 1, message));
            }
        }
        Ok(self)
    }

    /// What is left out, a sentence for each reason.
    pub fn left_out(&self) -> impl Iterator<Item = String> {
        let all = match self {
            Self::Requests { left_out, .. } => &left_out[..],
            Self::Fixed { .. } => &[],
        };
        all.iter().map(|LeftOut { why, count, first }| match count {
            1 => format!("1 request {why} is left out, in row {first}"),
            _ => format!("{count} requests {why} are left out, the first in row {first}"),
        })
    }

    /// Refuses requests that no store holds.
    pub(super) fn fits(&self, system: &System) -> Result<(), Problem> {
        let (most, needs) = room(system);
        let (model, positions) = (&system.model, positions(system));
        let (list, source) = match self {
            Self::Requests { list, source, .. } => (list, source),
            Self::Fixed { context, .. } if *context > positions => {
                let message = format!(
                    "a context of {context} tokens, and {} has {positions} positions",
                    model.name
                );
                return Err(Problem::nowhere(message).help("a shorter `context`"));
            }
            Self::Fixed { .. } => return Ok(()),
        };
        let long = |r: &&Arrival| read_tokens(r) > positions;
        if let Some(first) = list.iter().find(long) {
            let message = format!(
                "row {}: a request of {} tokens, and {} has {positions} positions",
                first.row,
                read_tokens(first),
                model.name
            );
            return Err(trace::at_row(source, first.row, message)
                .help("`skip: [too_large]` (--skip too_large) leaves such requests out"));
        }
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
            "more devices, memory or `kv_blocks` in that pool; `skip: [too_large]` (--skip too_large) leaves such requests out",
        ))
    }
}

/// Positions that the model has learned.
fn positions(system: &System) -> u64 {
    match system.model.positions {
        Positions::Learned(positions) => positions,
        _ => u64::MAX,
    }
}

/// Tokens of a request that the model reads: the last is never read.
fn read_tokens(request: &Arrival) -> u64 {
    request.prompt.saturating_add(request.generated) - 1
}

/// Tokens that the largest store holds of one request, and those that a request needs at its end.
fn room(system: &System) -> (u64, impl Fn(&Arrival) -> u64) {
    let block = system.scenario.block_size;
    let most = match system.room.plain() {
        true => system.units.iter().max().map(|blocks| blocks * block),
        false => system
            .units
            .iter()
            .max()
            .map(|units| longest(system, *units)),
    };
    // Where prompts are computed the last token is never read; one that comes with its cache comes with a token, too.
    let unread = u64::from(system.scenario.prefill.value != Prefill::Excluded);
    let needs = move |r: &Arrival| r.prompt.saturating_add(r.generated) - unread;
    (most.unwrap_or(0), needs)
}

/// Tokens of the longest request that so many units hold: where no layer holds all tokens, any.
fn longest(system: &System, units: u64) -> u64 {
    let block = system.scenario.block_size;
    let fits = |tokens: u64| system.taken(tokens) <= units;
    let (mut low, mut high) = (0, u64::MAX / 2);
    if fits(high) {
        return u64::MAX;
    }
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        match fits(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    low / block * block
}
