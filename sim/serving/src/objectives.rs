//! What a service promises its users, and the load up to which it keeps that.

use einflow_spec::{Problem, quantity::Seconds};

use crate::offload::{
    System,
    serve::{Demand, Options, Served, ServedRequest, Watch, serve, trace::Arrival},
};

/// Limits on the times of a request; it is good where it keeps all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objectives {
    /// From arrival to the first token (TTFT).
    pub first_token: Option<Seconds>,
    /// The mean between two tokens (TPOT); a request of one token has none.
    pub per_token: Option<Seconds>,
}

impl Objectives {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.first_token.is_some() || self.per_token.is_some()
    }

    /// Whether a request keeps them.
    pub fn kept(&self, request: &ServedRequest) -> bool {
        let within = |time: Seconds, most: Option<Seconds>| most.is_none_or(|m| time.0 <= m.0);
        within(request.first_token, self.first_token)
            && request.per_token.is_none_or(|t| within(t, self.per_token))
    }

    /// Good requests; one that did not get all its tokens is none.
    pub fn good(&self, served: &Served) -> u64 {
        served.by_request().filter(|r| self.kept(r)).count() as u64
    }

    /// Good requests over all of them.
    pub fn share(&self, served: &Served) -> f64 {
        self.good(served) as f64 / served.requests.max(1) as f64
    }
}

/// The highest load at which a share of the requests is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// How many times as fast as the trace says requests come.
    pub speed_up: f64,
    /// Requests a second that come then, in the mean.
    pub rate: f64,
    /// The share that is good then.
    pub share: f64,
    /// Whether the search ended here although it is good: the highest load may be higher.
    pub at_least: bool,
}

/// How near two loads are between which the highest one lies, as a ratio.
const NEAR: f64 = 1.01;
/// Requests a second, in the mean, at which the search up ends.
const FASTEST: f64 = 1e6;
/// Seconds over which the requests come at which the search down ends: far longer than any of them takes.
const LONGEST: f64 = 1e7;

/// Searches the highest load, by the speed at which a trace's requests come: in factors of two up or down, then by
/// halving. It takes for granted that what fails at a load fails at a higher one, too.
///
/// None where not even the slowest load is good enough; where all are, the fastest ([`Load::at_least`]). Speeds are over
/// the trace's own, whatever the demand was sped up by.
///
/// # Errors
/// As [`serve`]; a demand without arrivals; a run that was stopped.
pub fn highest_load(
    system: &System,
    demand: &Demand,
    objectives: &Objectives,
    share: f64,
    watch: &dyn Watch,
) -> Result<Option<Load>, Problem> {
    let (last, own) = match demand {
        Demand::Requests {
            list,
            arrivals: true,
            speed_up,
            ..
        } => {
            let at = |r: Option<&Arrival>| r.map_or(0.0, |r| r.at.0);
            (at(list.last()) - at(list.first()), *speed_up)
        }
        _ => (0.0, 1.0),
    };
    if last <= 0.0 {
        return Err(
            Problem::nowhere("a load is searched by how fast requests come")
                .help("a trace of which requests come at different times"),
        );
    }
    let at = |speed_up: f64| -> Result<Load, Problem> {
        let mut faster = demand.clone();
        if let Demand::Requests { list, .. } = &mut faster {
            list.iter_mut().for_each(|r| r.at.0 /= speed_up);
        }
        let served = serve(system, &faster, Options::default(), watch)?;
        if served.stopped {
            return Err(Problem::nowhere(
                "the search for the highest load was stopped",
            ));
        }
        Ok(Load {
            speed_up: speed_up * own,
            at_least: false,
            // As many gaps as there are requests but one.
            rate: (served.requests.max(1) - 1) as f64 * speed_up / last,
            share: objectives.share(&served),
        })
    };
    let good = |load: &Load| load.share >= share;
    let mut speed_up = 1.0;
    let mut load = at(speed_up)?;
    let (mut best, mut bad) = (None, None);
    let up = good(&load);
    loop {
        match good(&load) {
            true => best = Some((speed_up, load)),
            false => bad = Some(speed_up),
        }
        let done = best.is_some() && bad.is_some();
        speed_up *= if up { 2.0 } else { 0.5 };
        let beyond = match up {
            true => load.rate > FASTEST,
            false => last / speed_up > LONGEST,
        };
        if done || beyond {
            break;
        }
        load = at(speed_up)?;
    }
    while let (Some((low, _)), Some(high)) = (best, bad) {
        if high / low < NEAR {
            break;
        }
        let between = (low * high).sqrt();
        let load = at(between)?;
        match good(&load) {
            true => best = Some((between, load)),
            false => bad = Some(between),
        }
    }
    let best = best.map(|(_, load)| Load {
        at_least: bad.is_none(),
        ..load
    });
    Ok(best)
}
