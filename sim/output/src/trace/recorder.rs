//! What is kept of a run.

use einflow_mappings::mapped::MappedCascade;

use super::{TraceError, TraceWindow, lives::Lives};
use einflow_engine::{
    events::{Movement, Observer, Task},
    program::{Op, Ports, Program, Tile, Way, programs},
};

/// Where a window is not stated, it ends after about so many slices.
pub const MOST_SLICES: usize = 100_000;

/// A task in the window.
#[derive(Clone, Debug)]
pub(crate) struct TaskSlice {
    pub block: usize,
    /// Its Einsum's place in the block's program.
    pub op: usize,
    pub start: u64,
    pub duration: u64,
    /// Cycles in which it has steps: less than `duration` where others take turns with it.
    pub busy: u64,
    pub tile: Tile,
}

/// A movement in the window.
#[derive(Clone, Debug)]
pub(crate) struct MovementSlice {
    pub tensor: usize,
    pub outer: usize,
    pub inward: bool,
    pub start: u64,
    pub duration: u64,
    pub bytes: u128,
    pub tile: Tile,
}

/// A use of ports in the window.
#[derive(Clone, Debug)]
pub(super) struct PortSlice {
    pub ports: Ports,
    pub user: User,
}

/// Who uses ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// An Einsum (block, place) reads or writes a tensor.
    Task(usize, usize, usize, Access),
    /// A movement of a tensor, towards the arrays or away from them.
    Movement(usize, bool),
    /// Not known.
    Unknown,
}

/// How badly an access fits a use of ports: whether another one is named so, whether its words may stay, by how many cycles it is off.
type Rank = (bool, bool, u64);

/// What a task does at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Collects a window of a run.
#[derive(Debug)]
pub struct Recorder {
    pub(crate) mapped: MappedCascade,
    pub(crate) programs: Vec<Program>,
    pub(crate) title: String,
    pub(crate) tasks: Vec<TaskSlice>,
    pub(crate) movements: Vec<MovementSlice>,
    pub(super) ports: Vec<PortSlice>,
    pub(super) lives: Vec<Lives>,
    pub(super) from: u64,
    /// The cycle after the last; all that is reported where there is none.
    pub(super) to: Option<u64>,
    pub(super) total: Option<u64>,
    /// Whether the run was ended.
    pub(super) stopped: bool,
    /// The current block, and cycles before it.
    pub(super) block: usize,
    before: u64,
    /// Cycles by which the port of a task lies before or after it, at the most.
    reach: u64,
    /// Uses of ports whose user has not been reported, and tasks since.
    waiting: Vec<Ports>,
    since: Vec<TaskSlice>,
}

impl Recorder {
    /// A recorder of a window; none: from the start, about [`MOST_SLICES`] slices.
    ///
    /// # Errors
    /// A block that cannot be run.
    pub fn new(mapped: &MappedCascade, window: Option<TraceWindow>) -> Result<Self, TraceError> {
        let programs = programs(mapped)?;
        let ops = || programs.iter().flat_map(|p| &p.ops);
        let reads = ops().flat_map(|o| &o.reads).filter_map(|r| r.way.as_ref());
        let ways = reads.chain(ops().filter_map(|o| o.result.as_ref()));
        let reach = ways.map(|w| w.delay + w.burst).max().unwrap_or(0);
        let lives = (0..programs.len()).map(|b| Lives::new(mapped, &programs[b], b));
        Ok(Self {
            title: format!("{} on {}", mapped.spec.name, mapped.accelerator.name),
            lives: lives.collect(),
            mapped: mapped.clone(),
            tasks: Vec::new(),
            movements: Vec::new(),
            ports: Vec::new(),
            from: window.map_or(0, |w| w.from),
            to: window.map(|w| w.to),
            total: None,
            stopped: false,
            block: 0,
            before: 0,
            reach,
            waiting: Vec::new(),
            since: Vec::new(),
            programs,
        })
    }

    /// What runs, for people.
    #[must_use]
    pub fn titled(mut self, title: &str) -> Self {
        self.title = title.to_string();
        self
    }

    /// Cycles of the whole run, where they are known.
    #[must_use]
    pub fn of(mut self, cycles: u64) -> Self {
        self.total = Some(cycles);
        self
    }

    /// Whether the window holds the whole run.
    pub fn complete(&self) -> bool {
        !self.stopped && self.from == 0
    }

    /// Whether a slice is seen.
    pub(super) fn shows(&self, start: u64, end: u64) -> bool {
        end > self.from && self.to.is_none_or(|to| start < to)
    }

    /// Gives the uses of ports that wait their users.
    fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let tasks = std::mem::take(&mut self.since);
        let mut named: Vec<(usize, usize)> = Vec::new();
        for ports in std::mem::take(&mut self.waiting) {
            let user = self.user(&ports, &tasks, &mut named);
            self.keep_ports(ports, user);
        }
    }

    fn keep_ports(&mut self, ports: Ports, user: User) {
        if self.shows(ports.start, ports.last() + 1) {
            self.ports.push(PortSlice { ports, user });
        }
    }

    /// The user of ports among tasks that start together: who accesses the memory when they are used, each access named once.
    fn user(&self, ports: &Ports, tasks: &[TaskSlice], named: &mut Vec<(usize, usize)>) -> User {
        let mut best: Option<(Rank, (usize, usize), User)> = None;
        let mut offer = |rank: Rank, access: (usize, usize), user: User| {
            if best.as_ref().is_none_or(|(b, _, _)| rank < *b) {
                best = Some((rank, access, user));
            }
        };
        let fits = |way: &Way| way.memory == ports.memory && way.rows == ports.rows;
        for (i, task) in tasks.iter().enumerate() {
            let op = &self.programs[task.block].ops[task.op];
            let end = task.start + task.duration;
            for (j, read) in op.reads.iter().enumerate() {
                let Some(way) = read.way.as_ref().filter(|w| fits(w)) else {
                    continue;
                };
                let lead = way.delay + way.burst - 1;
                let first = task.start.saturating_sub(lead);
                if ports.start >= first && ports.start <= end.saturating_sub(lead) {
                    // A word that stays may not be read again.
                    let seen = named.contains(&(i, j));
                    let user = User::Task(task.block, task.op, read.tensor.0, Access::Read);
                    offer((seen, way.stays, ports.start - first), (i, j), user);
                }
            }
            if let Some(way) = op.result.as_ref().filter(|w| fits(w)) {
                let (first, last) = (task.start + way.delay, end + way.delay + way.burst);
                if ports.start > first && ports.start <= last {
                    let j = op.reads.len();
                    let seen = named.contains(&(i, j));
                    let user = User::Task(task.block, task.op, op.output.0, Access::Write);
                    offer((seen, false, 0), (i, j), user);
                }
            }
        }
        match best {
            Some((_, access, user)) => {
                named.push(access);
                user
            }
            None => User::Unknown,
        }
    }

    /// An Einsum by its name in the current block.
    fn op(&self, einsum: &str) -> Option<(usize, &Op)> {
        let ops = self.programs[self.block].ops.iter().enumerate();
        ops.into_iter().find(|(_, op)| op.name == einsum)
    }
}

impl Observer for Recorder {
    fn block(&mut self, index: usize, before: u64) {
        (self.block, self.before) = (index, before);
    }

    fn task(&mut self, task: &Task<'_>) {
        let Some((place, op)) = self.op(task.einsum) else {
            return;
        };
        let slice = TaskSlice {
            block: self.block,
            op: place,
            start: self.before + task.start,
            duration: task.duration,
            busy: op.steps_of(task.tile) * op.cycles,
            tile: *task.tile,
        };
        let end = slice.start + slice.duration;
        let program = &self.programs[self.block];
        self.lives[self.block].task(program, place, task.tile, (slice.start, end), self.from);
        if !self.waiting.is_empty() {
            self.since.push(slice.clone());
        }
        if self.shows(slice.start, end) {
            self.tasks.push(slice);
        }
    }

    fn movement(&mut self, movement: &Movement<'_>) {
        if self.since.is_empty() {
            let user = User::Movement(movement.tensor, movement.inward);
            for ports in std::mem::take(&mut self.waiting) {
                self.keep_ports(ports, user);
            }
        }
        let slice = MovementSlice {
            tensor: movement.tensor,
            outer: movement.outer,
            inward: movement.inward,
            start: self.before + movement.start,
            duration: movement.duration,
            bytes: movement.bytes,
            tile: *movement.tile,
        };
        let program = &self.programs[self.block];
        self.lives[self.block].movement(program, &slice, self.from);
        if self.shows(slice.start, slice.start + slice.duration) {
            self.movements.push(slice);
        }
    }

    fn ports(&mut self, ports: &Ports) {
        self.waiting.push(Ports {
            start: self.before + ports.start,
            ..*ports
        });
    }

    fn sees_all(&self) -> bool {
        true
    }

    fn enough(&mut self, now: u64) -> bool {
        // What started together has been reported.
        self.settle();
        let seen = (self.before + now).saturating_sub(self.reach);
        let enough = match self.to {
            Some(to) => seen >= to,
            None => self.tasks.len() + self.movements.len() + self.ports.len() >= MOST_SLICES,
        };
        if enough {
            self.to = Some(self.to.unwrap_or(seen));
            self.stopped = true;
        }
        enough
    }
}
