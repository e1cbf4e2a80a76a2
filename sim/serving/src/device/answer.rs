//! A device's answer to a task.

use std::{collections::BTreeMap, path::Path};

use einflow_arch::device::{Device, DeviceLink, Graph, Kernel, Times, devices, links, operator};
use einflow_spec::{
    Problem, Problems,
    quantity::{BytesPerSecond, Joules, Seconds, Watts},
};

use einflow_engine::request::Engine;

use super::energy::{energy, slowed};
use super::{Call, Launch, Step, Task, accelerator::Modelled, profiled::Profile};

/// A time, and what it rests on beyond the device's own numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The time.
    pub time: Seconds,
    /// What makes it less sure: extrapolation, a law that stands in for another.
    pub flags: Vec<String>,
}

/// A device that can be asked.
pub struct Answerer {
    /// The device.
    pub device: Device,
    links: BTreeMap<String, DeviceLink>,
    profile: Option<Profile>,
    accelerator: Option<Modelled>,
    /// The device whose laws answer, in a graph, for what the tables lack.
    analytic: Option<Device>,
    /// Whether answers beyond a table's grid are given, with a flag.
    pub extrapolate: bool,
}

/// What the host takes to launch a kernel from a framework, where nothing is captured; assumed: a few layers of Python and C++.
const HOST_LAUNCH: Seconds = Seconds(9e-6);

/// Parameters of laws that are the host's.
const HOST: [&str; 2] = ["launch", "launches"];

impl Answerer {
    /// Loads a device by its name in the library or by path.
    ///
    /// # Errors
    /// No such file, every mistake in it, and in the links, tables and files that it names.
    pub fn load(name: &str, beside: Option<&Path>) -> Result<Self, Problems> {
        let (source, origin) = devices().find(name, beside)?;
        let device = Device::parse(&source)?;
        Self::new(device, origin.folder().as_deref())
    }

    /// Of a device whose files are looked for in this folder first.
    ///
    /// # Errors
    /// Every mistake in the links, tables and files that it names.
    pub fn new(device: Device, beside: Option<&Path>) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut own = BTreeMap::new();
        for name in &device.links {
            let link = links()
                .find(name, beside)
                .map_err(Problems::from)
                .and_then(|(source, _)| DeviceLink::parse(&source));
            if let Some(link) = problems.absorb(link) {
                own.insert(name.clone(), link);
            }
        }
        let (mut profile, mut accelerator) = (None, None);
        match &device.times {
            Times::Laws(_) => {}
            Times::Tables(paths) => {
                profile = problems.absorb(Profile::load(&device, paths, beside));
            }
            Times::Accelerator(of) => accelerator = problems.absorb(Modelled::load(of, beside)),
        }
        let analytic = device.analytic.as_ref();
        let analytic = analytic.and_then(|name| problems.absorb(with_laws(name, beside)));
        problems.into_result(Some(Self {
            device,
            links: own,
            profile,
            accelerator,
            analytic,
            extrapolate: false,
        }))
    }

    /// A link of the device.
    pub fn link(&self, name: &str) -> Option<&DeviceLink> {
        self.links.get(name)
    }

    /// What a task takes.
    ///
    /// # Errors
    /// A task of which the device's file says nothing, or one beyond what was measured; a time that is no number.
    pub fn time(&self, task: &Task) -> Result<Answer, Problem> {
        let mut answer = self.all(&task.steps, task, 0)?;
        if task.events {
            answer.time += Seconds(self.events().unwrap_or(0.0) * 1e-6);
        }
        if task.chained && task.launch == Launch::Eager {
            let host = HOST_LAUNCH * task.steps.len() as f64;
            answer.time = Seconds(answer.time.0.max(host.0));
        }
        // Microseconds are what tables hold.
        match (answer.time.0 * 1e6).is_finite() {
            true => Ok(answer),
            false => Err(Problem::nowhere(format!(
                "the time of it on {} is beyond what a 64-bit number holds",
                self.device.name
            ))
            .help("look for a number of the device that is far too small: a bandwidth, a rate")),
        }
    }

    /// Steps one after another, while something else holds `held` units of the chip.
    pub(super) fn all(&self, steps: &[Step], task: &Task, held: u64) -> Result<Answer, Problem> {
        let mut answer = plain(Seconds(0.0));
        for step in steps {
            let mut one = self.step(step, task, held)?;
            if let (Step::Call(call), 1..) = (step, held) {
                one.time = one.time * self.slower(call, held)?;
            }
            answer.time += one.time;
            join(&mut answer.flags, one.flags);
        }
        Ok(answer)
    }

    fn step(&self, step: &Step, task: &Task, held: u64) -> Result<Answer, Problem> {
        match step {
            Step::Call(call) => Ok(self.limited(call, self.call(call, task)?)),
            Step::Clean(call) => Ok(self.limited(call, self.clean(call, task)?)),
            Step::Gaps(count) => Ok(plain(self.graph()?.gap * *count as f64)),
            Step::Repeat { count, steps } => {
                let one = self.all(steps, task, held)?;
                let time = one.time * *count as f64;
                Ok(Answer { time, ..one })
            }
            Step::Apart(apart) => self.apart(apart, task),
            Step::Beside(ways) => {
                let mut longest = plain(Seconds(0.0));
                for steps in ways {
                    let one = self.all(steps, task, held)?;
                    longest.time = Seconds(longest.time.0.max(one.time.0));
                    join(&mut longest.flags, one.flags);
                }
                Ok(longest)
            }
            Step::Fastest(calls) => {
                let mut best: Option<Answer> = None;
                let mut problem = None;
                for call in calls {
                    match self.call(call, task).map(|a| self.limited(call, a)) {
                        Ok(a) if best.as_ref().is_none_or(|b| a.time < b.time) => best = Some(a),
                        Ok(_) => {}
                        Err(p) => problem = Some(p),
                    }
                }
                best.ok_or_else(|| problem.unwrap_or_else(|| self.unknown("attention")))
            }
            Step::Send {
                operation,
                link,
                bytes,
                count,
            } => {
                let one = self
                    .find_link(link)?
                    .send(operation, *bytes, 1)
                    .ok_or_else(|| self.no_operation(link, operation))?;
                Ok(plain(one * *count as f64))
            }
            Step::AllReduce {
                operation,
                link,
                bytes,
                devices,
                how,
            } => self
                .find_link(link)?
                .all_reduce(operation, *devices, *bytes, *how)
                .map(plain)
                .ok_or_else(|| self.no_operation(link, operation)),
        }
    }

    /// A kernel under the limit of the board's power.
    fn limited(&self, call: &Call, mut answer: Answer) -> Answer {
        let Some(power) = self.device.power.filter(|_| self.accelerator.is_none()) else {
            return answer;
        };
        let slowed = slowed(&power, &call.kernel, answer.time);
        if slowed > 1.0 {
            answer.time = answer.time * slowed;
            let flag = format!("slowed down to its limit of {} W", power.limit.0);
            join(&mut answer.flags, vec![flag]);
        }
        answer
    }

    fn find_link(&self, name: &str) -> Result<&DeviceLink, Problem> {
        self.links.get(name).ok_or_else(|| {
            let own: Vec<&str> = self.links.keys().map(String::as_str).collect();
            Problem::nowhere(format!("{} has no link `{name}`", self.device.name)).help(
                match own.is_empty() {
                    true => "its file names no links".to_string(),
                    false => format!("it has: {}", own.join(", ")),
                },
            )
        })
    }

    fn no_operation(&self, link: &str, operation: &str) -> Problem {
        Problem::nowhere(format!("`{operation}` over {link} is not known"))
    }

    fn unknown(&self, what: &str) -> Problem {
        let known = match &self.device.times {
            Times::Laws(laws) => {
                let names: Vec<&str> = laws.keys().map(String::as_str).collect();
                format!("its file has laws for: {}", names.join(", "))
            }
            Times::Tables(tables) => format!("its tables: {}", tables.join(", ")),
            Times::Accelerator(_) => "it computes attention only".to_string(),
        };
        Problem::nowhere(format!(
            "{} has nothing to say of `{what}`",
            self.device.name
        ))
        .help(known)
    }

    /// How kernels follow one another in a graph.
    pub(super) fn graph(&self) -> Result<&Graph, Problem> {
        self.device.graph.as_ref().ok_or_else(|| {
            Problem::nowhere(format!(
                "{} does not say how kernels follow one another in a graph",
                self.device.name
            ))
            .help(
                "add `graph: (source: ..., gap: ..., transfer_units: ..., dirty: ...)` to its file",
            )
        })
    }

    /// The device with the laws: this one, or that which stands in where tables lack something.
    fn lawful(&self) -> &Device {
        self.analytic.as_ref().unwrap_or(&self.device)
    }

    /// Whether there is such a law.
    pub(crate) fn has_law(&self, name: &str) -> bool {
        matches!(&self.lawful().times, Times::Laws(laws) if laws.contains_key(name))
    }

    /// What launching alone and between events costs beyond launching in a graph, as passes over memory show it.
    fn events(&self) -> Option<f64> {
        let Times::Laws(laws) = &self.lawful().times else {
            return None;
        };
        // The floor is the first parameter of a law.
        let floor = |name: &str| laws.get(name).and_then(|l| l.values.first().copied());
        Some((floor("pass")? - floor("pass:graph")?).max(0.0))
    }

    /// How often as long a kernel of a graph takes while something else holds `held` units.
    fn slower(&self, call: &Call, held: u64) -> Result<f64, Problem> {
        let device = self.lawful();
        let names = [format!("{}:graph", call.law), call.law.clone()];
        let found = names.iter().find_map(|name| {
            let beside = device.by_law_beside(name, &call.kernel, call.flushed, held)?;
            let alone = device.by_law(name, &call.kernel, call.flushed)?;
            Some(beside.0 / alone.0)
        });
        found.ok_or_else(|| self.unknown(&call.law))
    }

    /// A kernel of a graph that finds nothing in the cache which has yet to be written back, where it was timed alone after a flush.
    ///
    /// What the flush left dirty goes back to memory beside the kernel. A law that was fitted to such times has it in its `ramp`, which
    /// is left out. From a measured time goes what the law says that it takes.
    fn clean(&self, call: &Call, task: &Task) -> Result<Answer, Problem> {
        let events = self.events().unwrap_or(0.0) * 1e-6;
        let less = |time: Seconds, much: f64| Seconds((time.0 - much).max(1e-7));
        let laws = |device: &Device| {
            let time = device.by_law_without(&call.law, &call.kernel, call.flushed, &["ramp"])?;
            Some(less(time, events))
        };
        let Some(profile) = &self.profile else {
            return match laws(&self.device) {
                Some(time) => Ok(plain(time)),
                None => self.call(call, task),
            };
        };
        match profile.time(call, Launch::Eager, self.extrapolate) {
            Ok(answer) => {
                let dirty = self.graph()?.dirty;
                let written = self.lawful().written_back(&call.law, &call.kernel, dirty);
                let much = events + written.unwrap_or_default().0;
                let time = less(answer.time, much);
                Ok(Answer { time, ..answer })
            }
            Err(problem) => self.instead(&call.law, laws, problem),
        }
    }

    /// What the laws say where the tables say nothing.
    fn instead(
        &self,
        name: &str,
        laws: impl Fn(&Device) -> Option<Seconds>,
        problem: Problem,
    ) -> Result<Answer, Problem> {
        let Some(device) = &self.analytic else {
            return Err(problem);
        };
        let time = laws(device).ok_or(problem)?;
        Ok(Answer {
            time,
            flags: vec![format!("`{name}` by the laws of {}", device.name)],
        })
    }

    fn call(&self, call: &Call, task: &Task) -> Result<Answer, Problem> {
        if let Some(profile) = &self.profile {
            let found = profile.time(call, task.launch, self.extrapolate);
            return found.or_else(
                |problem| match task.launch == Launch::Graph && task.chained {
                    true => {
                        let name = format!("{}:graph", call.law);
                        let events = self.events().unwrap_or(0.0) * 1e-6;
                        let laws = |d: &Device| {
                            let own = d.by_law(&name, &call.kernel, call.flushed);
                            own.or_else(|| {
                                let alone = d.by_law(&call.law, &call.kernel, call.flushed)?;
                                Some(Seconds((alone.0 - events).max(1e-7)))
                            })
                        };
                        self.instead(&name, laws, problem)
                    }
                    false => Err(problem),
                },
            );
        }
        if let Some(accelerator) = &self.accelerator {
            return accelerator.time(&call.kernel).map(plain);
        }
        let device = &self.device;
        let alone = !task.chained;
        if task.launch == Launch::Graph || task.chained {
            let name = format!("{}:graph", call.law);
            if let Some(time) = device.by_law(&name, &call.kernel, call.flushed) {
                let flags = device.doubts(&name, &call.kernel, time, false);
                return Ok(Answer { time, flags });
            }
        }
        let mut flags = Vec::new();
        let captured = task.launch == Launch::Graph;
        let ask = |name: &str| {
            let without: &[&str] = if captured { &HOST } else { &[] };
            device.by_law_without(name, &call.kernel, call.flushed, without)
        };
        let (name, time) = match ask(&call.law) {
            Some(time) => (&call.law, time),
            None => {
                // Another library's kernel for the same is better than no answer.
                let wanted = operator(&call.law);
                let Times::Laws(laws) = &device.times else {
                    return Err(self.unknown(&call.law));
                };
                let other = laws
                    .keys()
                    .find(|k| operator(k) == wanted && !k.ends_with(":graph"));
                let other = other.ok_or_else(|| self.unknown(&call.law))?;
                flags.push(format!("`{other}` in place of `{}`", call.law));
                (other, ask(other).ok_or_else(|| self.unknown(&call.law))?)
            }
        };
        join(
            &mut flags,
            device.doubts(name, &call.kernel, time, !captured),
        );
        let time = match self.events() {
            Some(events) if task.launch == Launch::Graph || !alone => {
                Seconds((time.0 - events * 1e-6).max(1e-7))
            }
            _ => time,
        };
        Ok(Answer { time, flags })
    }

    /// Takes an accelerator's times from this engine; false for a device that is none.
    pub fn by(&mut self, engine: Engine) -> bool {
        if let Some(accelerator) = &mut self.accelerator {
            accelerator.by(engine);
        }
        self.accelerator.is_some()
    }

    /// Another bandwidth of its memory.
    ///
    /// # Errors
    /// A device that answers by measured tables: they hold for the memory that it has.
    pub fn with_bandwidth(&mut self, bandwidth: BytesPerSecond) -> Result<(), Problems> {
        if self.profile.is_some() {
            let problem =
                Problem::nowhere(format!("{} answers by measured tables", self.device.name));
            return Err(problem
                .help("another bandwidth goes with a device that has laws, or is an accelerator")
                .into());
        }
        self.device.chip.bandwidth = bandwidth;
        match &mut self.accelerator {
            Some(accelerator) => accelerator.with_bandwidth(bandwidth),
            None => Ok(()),
        }
    }

    /// Energy of a kernel that takes this long: of an accelerator what its engine's ledger says, else what its board draws. `None`: the
    /// device's file does not say what it draws.
    ///
    /// # Errors
    /// A kernel that an accelerator does not compute.
    pub fn energy(
        &self,
        kernel: &Kernel,
        time: Seconds,
    ) -> Result<Option<(Joules, Watts)>, Problem> {
        if let Some(accelerator) = &self.accelerator {
            let joules = accelerator.report(kernel)?.energy_pj() * 1e-12;
            return Ok(Some((Joules(joules), Watts(joules / time.0))));
        }
        let power = self.device.power.as_ref();
        Ok(power.and_then(|power| energy(power, kernel, time)))
    }

    /// What bounds a kernel: of an accelerator what its report says, else what its peaks say: its memory, or its matrix units.
    ///
    /// # Errors
    /// A kernel that an accelerator does not compute.
    pub fn bound_by(&self, kernel: &Kernel) -> Result<String, Problem> {
        if let Some(accelerator) = &self.accelerator {
            return Ok(accelerator.report(kernel)?.bottleneck());
        }
        let chip = &self.device.chip;
        let memory = kernel.bytes() / chip.bandwidth.0;
        let matrix = kernel.operations() / chip.peak(kernel.bits()).0;
        Ok(if memory > matrix {
            "memory"
        } else {
            "products"
        }
        .to_string())
    }
}

/// Flags that are not there yet.
pub(super) fn join(flags: &mut Vec<String>, more: Vec<String>) {
    for flag in more {
        if !flags.contains(&flag) {
            flags.push(flag);
        }
    }
}

/// A device with laws.
fn with_laws(name: &str, beside: Option<&Path>) -> Result<Device, Problems> {
    let (source, _) = devices().find(name, beside)?;
    let device = Device::parse(&source)?;
    if !matches!(device.times, Times::Laws(_)) {
        let problem = Problem::nowhere(format!("{name} has no laws"));
        return Err(problem
            .help("`analytic` names a device that answers by laws")
            .into());
    }
    Ok(device)
}

fn plain(time: Seconds) -> Answer {
    Answer {
        time,
        flags: Vec::new(),
    }
}
