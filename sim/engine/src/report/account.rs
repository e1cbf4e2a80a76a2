//! Where every cycle goes.

use einflow_mappings::count::Count;
use indexmap::IndexMap;

/// The cycles of a run, unit by unit, and what makes them more than the analytic engine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// By unit: what it does in each cycle; they add up to the run's cycles.
    pub units: IndexMap<String, IndexMap<Activity, u128>>,
    /// Cycles of the analytic engine, exact.
    pub analytic: Count,
    /// What makes the difference, in cycles: the items add up to the run's cycles less the analytic ones, rounded up.
    pub items: Vec<Item>,
    /// The unit whose waits are the items: the busiest.
    pub paced_by: String,
    /// Cycles that requests occupy the outermost memory's channel beyond their bytes over the bandwidth, each being
    /// rounded up.
    pub request_rounding: Count,
    /// Tasks run, and of them those that were simulated and not jumped over.
    pub tasks: (u128, u128),
}

/// What a unit does in a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activity {
    /// It works.
    Busy,
    /// The wavefront or the pipeline fills, or words that stay are loaded.
    Filling,
    /// Results leave, or the last tiles have passed.
    Draining,
    /// It waits for an operand: tensor, from where.
    Operand(String, String),
    /// It waits for room: for which tensor, where.
    Space(String, String),
    /// It waits for a port of a memory.
    Port(String),
    /// It waits for the words of a step, which a link takes one after another: which, of which array.
    Link(String, String),
    /// It waits for a memory's channel.
    Channel(String),
    /// The mapping has other units work.
    Mapping,
}

/// One reason for more cycles than the analytic engine counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub what: String,
    /// Cycles; negative for what the analytic engine counts too.
    pub cycles: i128,
}

impl Activity {
    /// In words.
    pub fn text(&self) -> String {
        match self {
            Activity::Busy => "busy".into(),
            Activity::Filling => "filling".into(),
            Activity::Draining => "draining".into(),
            Activity::Operand(tensor, from) => format!("waits for {tensor} from {from}"),
            Activity::Space(tensor, at) => format!("waits for room for {tensor} in {at}"),
            Activity::Port(memory) => format!("waits for a port of {memory}"),
            Activity::Link(link, array) => format!("waits for words on `{link}` of {array}"),
            Activity::Channel(memory) => format!("waits for {memory}'s channel"),
            Activity::Mapping => "idle by the mapping".into(),
        }
    }
}

impl Account {
    /// The same of runs one after another; `None` on overflow.
    pub fn plus(mut self, other: Self) -> Option<Self> {
        // A unit that only one run has is idle in the other.
        let total = |a: &Self| {
            a.units
                .values()
                .next()
                .map_or(0, |u| u.values().sum::<u128>())
        };
        let (mine, theirs) = (total(&self), total(&other));
        for (name, activities) in &mut self.units {
            if !other.units.contains_key(name) {
                *activities.entry(Activity::Mapping).or_insert(0) += theirs;
            }
        }
        for (name, activities) in other.units {
            let own = self
                .units
                .entry(name)
                .or_insert_with(|| IndexMap::from([(Activity::Mapping, mine)]));
            for (activity, cycles) in activities {
                let sum = own.entry(activity).or_insert(0);
                *sum = sum.checked_add(cycles)?;
            }
        }
        for item in other.items {
            match self.items.iter_mut().find(|i| i.what == item.what) {
                Some(own) => own.cycles = own.cycles.checked_add(item.cycles)?,
                None => self.items.push(item),
            }
        }
        self.analytic = self.analytic.plus(other.analytic)?;
        self.request_rounding = self.request_rounding.plus(other.request_rounding)?;
        self.tasks = (
            self.tasks.0.checked_add(other.tasks.0)?,
            self.tasks.1.checked_add(other.tasks.1)?,
        );
        Some(self)
    }
}
