//! What comes: requests of a trace, or the same ones all the time.

use einflow_spec::{Problem, Problems, Source};

use super::super::{
    System,
    scenario::{Load, Prefill, Scenario, Trace},
};
use super::trace::{self, Arrival};

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
            Load::Fixed(fixed) => Ok(Self::Fixed {
                batch: fixed.batch.value,
                context: fixed.context,
            }),
            Load::Trace(Trace {
                path,
                arrivals,
                requests,
                longest,
            }) => {
                let source = crate::data::data(&path.value, scenario.beside.as_deref());
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

    /// Refuses requests that no store holds.
    pub(super) fn fits(&self, system: &System) -> Result<(), Problem> {
        let block = system.scenario.block_size;
        let most = system.stores.iter().map(|s| s / block * block).max();
        let most = most.unwrap_or(0);
        let Self::Requests { list, source, .. } = self else {
            return Ok(());
        };
        // Where prompts are computed the last token is never read; one that comes with its cache comes with a token, too.
        let unread = u64::from(system.scenario.prefill.value != Prefill::Excluded);
        let needs = |r: &Arrival| r.prompt.saturating_add(r.generated) - unread;
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
            "more devices, memory or `kv_blocks` in that pool; `longest` in the load leaves such requests out",
        ))
    }
}
