//! What a service promises its users, and the load up to which it keeps that.

use einflow_spec::{Problem, quantity::Seconds};

use crate::offload::{
    System,
    serve::{Demand, Options, Served, ServedRequest, Watch, serve},
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
}

/// How near two loads are between which the highest one lies, as a ratio.
const NEAR: f64 = 1.01;
/// How much faster or slower than the trace requests may come.
const MOST: f64 = 4096.0;

/// Searches the highest load, by the speed at which a trace's requests come: in factors of two up or down, then by
/// halving. It takes for granted that what fails at a load fails at a higher one, too.
///
/// None where not even the slowest load is good enough; where all are, the fastest.
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
    let last = match demand {
        Demand::Requests {
            list,
            arrivals: true,
            ..
        } => list.last().map_or(0.0, |r| r.at.0) - list.first().map_or(0.0, |r| r.at.0),
        _ => 0.0,
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
            speed_up,
            // As many gaps as there are requests but one.
            rate: (served.requests.max(1) - 1) as f64 * speed_up / last,
            share: objectives.share(&served),
        })
    };
    let good = |load: &Load| load.share >= share;
    let first = at(1.0)?;
    let (mut best, mut bad) = (good(&first).then_some(first), None);
    let step = if best.is_some() { 2.0 } else { 0.5 };
    let mut speed_up = 1.0;
    if best.is_none() {
        bad = Some(1.0);
    }
    while (best.is_none() || bad.is_none()) && (1.0 / MOST..=MOST).contains(&(speed_up * step)) {
        speed_up *= step;
        let load = at(speed_up)?;
        match good(&load) {
            true => best = Some(load),
            false => bad = Some(speed_up),
        }
    }
    while let (Some(low), Some(high)) = (best, bad) {
        if high / low.speed_up < NEAR {
            break;
        }
        let load = at((low.speed_up * high).sqrt())?;
        match good(&load) {
            true => best = Some(load),
            false => bad = Some(load.speed_up),
        }
    }
    Ok(best)
}
