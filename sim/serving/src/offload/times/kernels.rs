//! Kernels and messages asked of a pool's devices, remembered where they come back.

use std::{collections::BTreeSet, sync::Arc};

use einflow_arch::device::{DeviceLink, Kernel, Times as Answers, operator as law_family};
use einflow_spec::{
    Problem,
    quantity::{Joules, Seconds},
};
use einflow_workloads::layer::{Layer, Operator, Shape, WORD_BYTES};

use super::{
    super::{
        Boundary, pipeline::Message, pool::DevicePool, served::assumptions, system::LayerKind,
        time::Ps,
    },
    Times, Work, key,
    mixers::common,
    spread::reduction,
};
use crate::device::{
    Call, Launch, Step, Task,
    formats::{derived, head},
    layer::{Lowering, fused, grouped, product},
};

/// Layers' products by the tokens that they run over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Products {
    pub norm: Work,
    pub query: Work,
    pub key_value: Work,
    pub projections: Work,
    pub rotary: Work,
    pub output: Work,
    /// The reduction after the output projection.
    pub reduce: Work,
    /// What follows the feed-forward: the same, or where whole experts are divided the sums of each device to the others.
    pub gathered: Work,
    /// Tokens to experts on other devices, and back.
    pub exchange: Work,
    pub feed: Work,
    pub gate: Work,
}

impl Times<'_> {
    /// What the times rest on that nobody measured: the laws that were asked and are assumed.
    pub fn assumed(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        let kinds = &self.system.kinds;
        if kinds.iter().any(|kind| kind.model.experts.is_some()) {
            let pools = self.system.pools();
            let spread = pools.into_iter().find(|pool| pool.spreads());
            let name = &self.system.model.name;
            out.insert(match spread {
                None => format!("{name}: experts are drawn at random, each as often, and rows are even over those that are: assumed"),
                Some(pool) => format!(
                    "{name}: experts are divided among {} devices, which run in step with as many tokens each; {}: assumed",
                    pool.experts(),
                    match pool.spec.expert_imbalance {
                        Some(times) => format!("the busiest has {times} times the mean's rows"),
                        None => "they are drawn at random, each as often, and the busiest device is waited for".into(),
                    }
                ),
            });
        }
        out.extend(assumptions(&self.system.model));
        out.extend(self.derived.iter().cloned());
        out.extend(self.unequal.assumed.iter().cloned());
        let asked = self.asked.iter();
        for (pool, law) in asked.flat_map(|(pool, laws)| laws.keys().map(move |law| (pool, law))) {
            let pools = self.system.pools();
            let Some(pool) = pools.into_iter().find(|p| key(p) == *pool) else {
                continue;
            };
            let Answers::Laws(laws) = &pool.answerer.device.times else {
                continue;
            };
            let graph = format!("{law}:graph");
            let own = match measured_in_server(pool, law) {
                true => laws.get(law),
                false => laws.get(&graph).or_else(|| laws.get(law)),
            };
            if let Some(own) = own.filter(|l| l.cited.starts_with("assumed")) {
                out.insert(format!("{}: `{law}` is {}", pool.device(), own.cited));
            }
        }
        out
    }

    /// Products and passes of a kind of layer on a device of a pool.
    pub(super) fn products(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        tokens: u64,
    ) -> Result<Products, Problem> {
        let known = (key(pool), kind.at, tokens);
        if let Some(found) = self.products.get(&known) {
            return Ok(*found);
        }
        let mut made = self.shard(pool, kind, tokens, pool.group)?;
        let layer = kind.model.layer(tokens, pool.group);
        made.gathered = made.reduce;
        let spread = layer.experts.filter(|_| pool.spreads());
        for operator in layer.feed_forward_operators() {
            if spread.is_some() && operator.of_experts() {
                continue;
            }
            let [passes, products] = self.apart(pool, operator, &layer)?;
            made.gate = made.gate.plus(passes);
            made.feed = made.feed.plus(products);
        }
        if let Some(experts) = kind
            .model
            .layer(tokens, 1)
            .experts
            .filter(|_| spread.is_some())
        {
            let spread = self.spread(pool, kind, tokens, &experts)?;
            made.gate = made.gate.plus(spread.passes);
            made.feed = made.feed.plus(spread.products);
            (made.exchange, made.gathered) = (spread.exchange, spread.gather);
        }
        self.products.insert(known, made);
        Ok(made)
    }

    /// Attention's products on one of `parts` devices among which the heads are divided.
    pub(super) fn shard(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        tokens: u64,
        parts: u64,
    ) -> Result<Products, Problem> {
        let known = (key(pool), kind.at, tokens, parts);
        if let Some(found) = self.shards.get(&known) {
            return Ok(*found);
        }
        let layer = kind.model.layer(tokens, parts);
        let (overlap, boundary) = (self.system.scenario.overlap, self.system.scenario.boundary);
        // Where attention alone is elsewhere, caches are written there.
        let caches = self.system.attention.is_none() || boundary == Boundary::Projections;
        let mut made = Products {
            norm: self.operator(pool, Operator::Norm, &layer)?,
            output: self.operator(pool, Operator::Output, &layer)?,
            ..Products::default()
        };
        for operator in common(&layer) {
            if operator == Operator::CacheWrite && !caches {
                continue;
            }
            let [passes, products] = self.apart(pool, operator, &layer)?;
            made.rotary = made.rotary.plus(passes);
            made.projections = made.projections.plus(products);
        }
        if overlap {
            made.query = self.operator(pool, Operator::Query, &layer)?;
            made.key_value = self.operator(pool, Operator::KeyValue, &layer)?;
        }
        if let (Some(link), true) = (&pool.link, parts > 1) {
            let bytes = layer.words(WORD_BYTES * layer.hidden);
            let time = reduction(pool, link, parts, bytes)?;
            made.reduce.time = rounded(time)?;
        }
        self.shards.insert(known, made);
        Ok(made)
    }

    /// Writes of `requests` new tokens to the caches of attention's pool, on one of `parts` devices among which the heads are
    /// divided; with overlap the new tokens' part is added afterwards, in the same pass.
    pub(super) fn copied(
        &mut self,
        pool: &DevicePool,
        requests: u64,
        parts: u64,
    ) -> Result<Work, Problem> {
        if let Some(found) = self.copies.get(&(requests, parts)) {
            return Ok(*found);
        }
        let passes = match self.system.scenario.overlap {
            true => &[Operator::CacheWrite, Operator::Merge][..],
            false => &[Operator::CacheWrite],
        };
        let layer = self.system.model.layer(requests, parts);
        let made = self.run(pool, &fused(passes, &layer))?;
        self.copies.insert((requests, parts), made);
        Ok(made)
    }

    /// Scores of the vocabulary for the tokens that come out.
    pub(super) fn head(&mut self, pool: &DevicePool, tokens: u64) -> Result<Work, Problem> {
        if tokens == 0 {
            return Ok(Work::default());
        }
        let known = (key(pool), tokens);
        if let Some(found) = self.heads.get(&known) {
            return Ok(*found);
        }
        let layer = self.system.model.layer(tokens, pool.group);
        let made = match layer.head() {
            Some(shape) => self.run(pool, &product(shape, head(&layer)))?,
            None => Work::default(),
        };
        self.heads.insert(known, made);
        Ok(made)
    }

    pub(super) fn prefill_laws(&self, pool: &DevicePool) -> Vec<String> {
        let Answers::Laws(laws) = &pool.answerer.device.times else {
            return vec!["prefill:flash".into()];
        };
        let own: Vec<String> = laws
            .keys()
            .filter(|name| name.starts_with("prefill") && !name.ends_with(":graph"))
            .cloned()
            .collect();
        if own.is_empty() {
            vec!["prefill".into()]
        } else {
            own
        }
    }

    /// Whose kernel attends: what the pool says, else a server's before a framework's.
    pub(super) fn law(&mut self, pool: &DevicePool, kernel: &Kernel) -> Arc<str> {
        if let Some(found) = self.laws.get(&key(pool)) {
            return Arc::clone(found);
        }
        let candidates = ["decode:vllm", "decode:flash", "decode:cudnn", "decode"];
        let works = |law: &&&str| match &pool.answerer.device.times {
            Answers::Laws(laws) => laws.contains_key(**law),
            _ => self.ask(pool, law, kernel, true).is_ok(),
        };
        let found: Arc<str> = match &pool.spec.attention_library {
            Some(library) => format!("decode:{}", library.value).into(),
            None => (*candidates.iter().find(works).unwrap_or(&"decode")).into(),
        };
        self.laws.insert(key(pool), Arc::clone(&found));
        found
    }

    /// An operator as a server runs it.
    pub(super) fn operator(
        &mut self,
        pool: &DevicePool,
        operator: Operator,
        layer: &Layer,
    ) -> Result<Work, Problem> {
        let [passes, products] = self.apart(pool, operator, layer)?;
        Ok(passes.plus(products))
    }

    /// The same, passes over memory and products apart.
    fn apart(
        &mut self,
        pool: &DevicePool,
        operator: Operator,
        layer: &Layer,
    ) -> Result<[Work; 2], Problem> {
        let [mut passes, mut products] = [Work::default(); 2];
        for call in Lowering::Served.kernels(operator, layer) {
            if let (Kernel::Grouped { operands, .. }, Shape::Grouped(shape)) =
                (&call.kernel, layer.shape(operator))
            {
                // As many as have rows in the mean, which is no whole number.
                let (low, share) = (shape.drawn().floor(), shape.drawn().fract());
                let mut of = |with: f64| self.run(pool, &grouped(shape, with as u64, *operands));
                let (a, b) = (of(low)?, of(low + share.ceil())?);
                products = products.plus(a.towards(b, share));
                continue;
            }
            let work = self.run(pool, &call)?;
            let sum = match call.kernel {
                Kernel::Pass { .. } => &mut passes,
                _ => &mut products,
            };
            *sum = sum.plus(work);
        }
        Ok([passes, products])
    }

    /// The law that answers a product: the one of its formats, else that of two-byte words, with the bytes and the rate
    /// of those that it has.
    fn formatted(&mut self, pool: &DevicePool, call: &Call) -> String {
        let family = law_family(&call.law);
        let Some(operands) = derived(&call.kernel).filter(|_| family != call.law) else {
            return call.law.clone();
        };
        let has = |name: &str| pool.answerer.has_law(name);
        if has(&call.law) || has(&format!("{}:graph", call.law)) || !has(family) {
            return call.law.clone();
        }
        let rate = match (pool.answerer.device.chip.matrix_8bit, operands.bits()) {
            (Some(rate), ..=8) => format!("{:.0} TFLOP/s of 8-bit numbers", rate.0 * 1e-12),
            _ => "the rate of 16-bit words".into(),
        };
        self.derived.insert(format!(
            "{}: `{}` by `{family}`, with bytes as they are kept and {rate}: assumed",
            pool.device(),
            call.law
        ));
        family.into()
    }

    /// A kernel; a pass also on an accelerator, which has none.
    pub(super) fn run(&mut self, pool: &DevicePool, call: &Call) -> Result<Work, Problem> {
        let on_accelerator = matches!(pool.answerer.device.times, Answers::Accelerator(_));
        if let (Kernel::Pass { bytes, .. }, true) = (&call.kernel, on_accelerator) {
            self.flags.insert(format!(
                "{}: writes to the cache and sums of parts take their bytes over its bandwidth: assumed",
                pool.device()
            ));
            let seconds = *bytes as f64 / pool.answerer.device.chip.bandwidth.0;
            return Ok(Work {
                time: rounded(Seconds(seconds))?,
                joules: 0.0,
            });
        }
        let law = self.formatted(pool, call);
        self.called(pool, &law, &call.kernel, call.flushed)
    }

    pub(super) fn ask(
        &self,
        pool: &DevicePool,
        law: &str,
        kernel: &Kernel,
        flushed: bool,
    ) -> Result<(Seconds, Vec<String>), Problem> {
        let call = Call {
            law: law.to_string(),
            kernel: kernel.clone(),
            flushed,
        };
        let task = match measured_in_server(pool, law) {
            true => Task::alone(call, Launch::Eager),
            false => Task {
                steps: vec![Step::Call(call)],
                launch: Launch::Graph,
                chained: true,
                events: false,
            },
        };
        let answer = pool.answerer.time(&task)?;
        Ok((answer.time, answer.flags))
    }

    pub(super) fn call(
        &mut self,
        pool: &DevicePool,
        law: &str,
        kernel: &Kernel,
    ) -> Result<Work, Problem> {
        // Between two uses of a layer's weights and caches those of all others pass.
        self.called(pool, law, kernel, !matches!(kernel, Kernel::Pass { .. }))
    }

    fn called(
        &mut self,
        pool: &DevicePool,
        law: &str,
        kernel: &Kernel,
        flushed: bool,
    ) -> Result<Work, Problem> {
        let at = usize::from(flushed);
        let known = self.asked.get(&key(pool)).and_then(|laws| laws.get(law));
        if let Some(found) = known.and_then(|kernels| kernels[at].get(kernel)) {
            return Ok(*found);
        }
        let (time, flags) = self.ask(pool, law, kernel, flushed)?;
        for flag in flags {
            self.flags.insert(format!("{}: {flag}", pool.device()));
        }
        let drawn = pool.answerer.energy(kernel, time)?;
        let made = self.drawn(pool, drawn.map(|(joules, _)| joules), time)?;
        let laws = self.asked.entry(key(pool)).or_default();
        let kernels = laws.entry(law.to_string()).or_default();
        kernels[at].insert(kernel.clone(), made);
        Ok(made)
    }

    /// A time of a device, and what it draws meanwhile beyond idling; `drawn`: in all, where its file says.
    pub(super) fn drawn(
        &mut self,
        pool: &DevicePool,
        drawn: Option<Joules>,
        time: Seconds,
    ) -> Result<Work, Problem> {
        let device = &pool.answerer.device;
        let joules = match (drawn, &device.power) {
            // An accelerator's ledger has no idle power.
            (Some(joules), None) => {
                self.flags.insert(format!(
                    "{}: draws nothing idle: its ledger has no idle power",
                    device.name
                ));
                joules.0
            }
            (Some(joules), Some(power)) => joules.0 - power.idle.0 * time.0,
            (None, Some(power)) => {
                self.flags.insert(format!(
                    "{}: at its power limit while it works: assumed, its file has no energy of operations",
                    device.name
                ));
                (power.limit.0 - power.idle.0) * time.0
            }
            (None, None) => {
                self.flags.insert(format!(
                    "{}: its file does not say what it draws: 0 J",
                    device.name
                ));
                0.0
            }
        };
        Ok(Work {
            time: rounded(time)?,
            joules: joules.max(0.0),
        })
    }

    /// A message of so many bytes from the busiest device.
    pub(super) fn message(&mut self, bytes: f64) -> Result<Message, Problem> {
        let bytes = bytes.ceil() as u64;
        if let Some(found) = self.messages.get(&bytes) {
            return Ok(*found);
        }
        let Some(link) = &self.system.network else {
            return Ok(Message::default());
        };
        let name = operation(link, "send:graph", "send");
        let sharers = self.system.attends().count().max(self.system.models.group);
        let unknown = || Problem::nowhere(format!("`send` over {} is not known", link.name));
        let time = |bytes: u64| link.send(name, bytes, sharers).ok_or_else(unknown);
        let latency = rounded(time(0)?)?;
        let all = rounded(time(bytes)?)?;
        let message = Message {
            stream: all.since(latency),
            latency,
        };
        self.messages.insert(bytes, message);
        Ok(message)
    }
}

/// Whether a law was fitted to what a server measured: kernels one after another, without the host between them. Those of a captured
/// graph are better where they were measured, not where they are assumed.
fn measured_in_server(pool: &DevicePool, law: &str) -> bool {
    let Answers::Laws(laws) = &pool.answerer.device.times else {
        return false;
    };
    let assumed = |name: &str| {
        laws.get(name)
            .is_none_or(|l| l.cited.starts_with("assumed"))
    };
    let server = |name: &str| {
        laws.get(name)
            .is_some_and(|l| l.cited.contains("data/serving"))
    };
    server(law) && assumed(&format!("{law}:graph"))
}

pub(super) fn rounded(time: Seconds) -> Result<Ps, Problem> {
    Ps::of(time).ok_or_else(|| {
        Problem::nowhere(format!("a time of {} s", time.0)).help("times go from 0 to 213 days")
    })
}

/// What a link calls an operation of a captured graph.
pub(in crate::offload) fn operation<'n>(
    link: &DeviceLink,
    graph: &'n str,
    plain: &'n str,
) -> &'n str {
    // Layers are captured: a link measured without the host in the way says so.
    if link.operations.contains_key(graph) {
        graph
    } else {
        plain
    }
}
