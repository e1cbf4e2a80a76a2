//! What a pipeline runs, and what it shows: data only.

use super::time::Ps;

/// A message: what it occupies the link for, and what it takes beyond that to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The link is busy.
    pub stream: Ps,
    /// From there to arrival.
    pub latency: Ps,
}

/// What the tasks of one iteration of one batch take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iteration {
    /// One task on the batch's own replica: a pool that does everything.
    Whole(Ps),
    /// Stage after stage, each on devices of its own: a pool that does everything.
    Stages(Stages),
    /// Layer by layer, attention elsewhere.
    Layers(Layers),
}

/// What the tasks of an iteration take where layers are divided among stages, as evenly as they can be: as vLLM does it,
/// the stages before the last have one more where they cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Stages.
    pub count: u32,
    /// Of them, those with one layer more: the last of them is the last but one.
    pub longer: u32,
    /// One of the others.
    pub each: Ps,
    /// One with a layer more.
    pub long: Ps,
    /// The last, with the vocabulary.
    pub last: Ps,
    /// From a stage to the next: what it takes to arrive.
    pub message: Ps,
    /// The same to another node.
    pub far: Ps,
    /// Stages of a node; all of them where there is one.
    pub together: u32,
}

impl Stages {
    /// What a stage takes.
    pub fn time(&self, stage: u32) -> Ps {
        let last = self.count.saturating_sub(1);
        match stage {
            _ if stage == last => self.last,
            _ if stage + self.longer >= last => self.long,
            _ => self.each,
        }
    }

    /// What it takes from a stage to the next.
    pub fn way(&self, stage: u32) -> Ps {
        match (stage + 1).is_multiple_of(self.together.max(1)) {
            true => self.far,
            false => self.message,
        }
    }
}

/// What the tasks of a layer take where attention is elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Layers.
    pub count: u32,
    /// The slice before the first attention.
    pub first: Ps,
    /// Between two attentions.
    pub slice: Ps,
    /// After the last.
    pub last: Ps,
    /// What follows a slice on its replica after the queries are there (but not the last): the new keys and values, sent apart.
    pub early: Ps,
    /// What is sent for attention to begin.
    pub query: Message,
    /// What follows, where attention begins without it: the new keys and values.
    pub rest: Option<Message>,
    /// Attention that needs `query` only.
    pub attend: Ps,
    /// Attention that needs `rest` too.
    pub merge: Ps,
    /// What comes back.
    pub output: Message,
    /// By how many thousandths a slice is slowed while its replica waits for the output of another batch: what receives it holds a
    /// part of the replica from the end of the slice before that attention until it is there.
    pub waiting: u32,
}

/// How the system is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Batches in flight.
    pub batches: usize,
    /// Model replicas.
    pub replicas: usize,
    /// Stages of each, one after another.
    pub stages: usize,
    /// Whether slices rotate over the replicas; else batch `j` stays on replica `j mod replicas`.
    pub rotate: bool,
    /// Whether the attention pool takes a message only while it attends to nothing, and attends to what it carries next.
    pub receive_idle: bool,
}

/// What runs, for a timeline and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// On a replica, or a stage of one.
    Slice,
    /// On a replica: the new keys and values, after the queries.
    KeyValue,
    /// To the attention pool: what attention begins with.
    Query,
    /// To the attention pool: the new keys and values.
    Rest,
    /// On the attention pool.
    Attend,
    /// On the attention pool: with the new keys and values.
    Merge,
    /// Back from the attention pool.
    Output,
}

/// A resource that serves one task at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A model replica; a stage of one, where it has several: those of the first replica first.
    Replica(usize),
    /// The attention pool.
    Attention,
    /// The link to the attention pool.
    Out,
    /// The link back.
    Back,
}

/// A task that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where.
    pub unit: Unit,
    /// What.
    pub kind: Kind,
    /// The batch.
    pub batch: usize,
    /// The layer, from 0; a slice has that of the attention after it.
    pub layer: u32,
    /// From.
    pub start: Ps,
    /// To.
    pub end: Ps,
}

/// A batch that ended its iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub batch: usize,
    /// When.
    pub at: Ps,
}
