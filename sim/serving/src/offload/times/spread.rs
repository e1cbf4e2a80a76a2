//! Whole experts divided among devices: what one of them computes, and what tokens take to the experts and back.
//!
//! Devices that hold experts attend in groups, each over requests of its own, and run in step: tokens of all groups go
//! to the experts that the router chose, wherever these are. A device sends a token once to each device that has any of
//! its experts; over a link between nodes once to each node, where it goes on over the link within.

use einflow_arch::device::{Collective, DeviceLink, Kernel};
use einflow_spec::{Problem, quantity::Seconds};
use einflow_workloads::{
    layer::{Grouped, Layer, Operator, Shape, WORD_BYTES},
    models::Experts,
};

use super::{
    super::{pool::DevicePool, system::LayerKind},
    Times, Work,
    kernels::{operation, rounded},
};
use crate::device::{
    Call,
    layer::{Lowering, grouped},
};

/// What experts take in a layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    /// Their products.
    pub products: Work,
    /// Passes over memory.
    pub passes: Work,
    /// To the experts and back.
    pub exchange: Work,
    /// From the devices of a group to all of it, each of which has the sums of its part of the tokens.
    pub gather: Work,
}

/// Copies of a token, in the mean, where experts are drawn at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Copies {
    /// Over the link within a node: to the other devices of its own, and on arrival to those of the others.
    pub within: f64,
    /// Over the link between nodes.
    pub between: f64,
}

impl Copies {
    /// Of a token whose experts are on some of `devices` devices, in nodes of `node`.
    pub fn new(experts: &Experts, devices: u64, node: u64) -> Self {
        let node = node.clamp(1, devices.max(1));
        let each = experts.routed as f64 / devices.max(1) as f64;
        let met = |held: f64| met(experts, held);
        let nodes = devices.div_ceil(node) as f64;
        Self {
            within: nodes * (node as f64 - 1.0) * met(each),
            between: (nodes - 1.0) * met(each * node as f64),
        }
    }
}

/// The share of tokens of which one of `held` experts is drawn: those without one draw all from the others.
fn met(experts: &Experts, held: f64) -> f64 {
    let others = experts.routed as f64 - held;
    let missed = (0..experts.active).map(|drawn| {
        let drawn = drawn as f64;
        ((others - drawn) / (experts.routed as f64 - drawn)).max(0.0)
    });
    1.0 - missed.product::<f64>()
}

/// Rows of the busiest of some devices where each has so many in the mean: as said, else as experts drawn at random give.
/// Draws are nearly independent, so that rows spread by their root; the largest of n normal ones is sqrt(2 ln n) of that
/// above the mean at most.
pub(super) fn busiest(mean: f64, devices: u64, imbalance: Option<f64>) -> f64 {
    match imbalance {
        Some(times) => mean * times,
        None => mean + (2.0 * mean * (devices.max(1) as f64).ln()).sqrt(),
    }
}

impl Times<'_> {
    /// What the experts of a kind of layer take, each group of the pool's devices having `tokens` tokens.
    pub(super) fn spread(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        tokens: u64,
        experts: &Experts,
    ) -> Result<Spread, Problem> {
        let devices = pool.experts();
        let (group, imbalance) = (pool.group.max(1), pool.spec.expert_imbalance);
        let groups = (devices / group).max(1);
        let all = kind.model.layer(tokens.saturating_mul(groups), 1);
        let mean = (all.tokens.saturating_mul(experts.active)) as f64 / devices.max(1) as f64;
        let rows = busiest(mean, devices, imbalance).min(mean * devices as f64);
        let mut out = Spread::default();
        for operator in [
            Operator::ExpertsGateUp,
            Operator::ExpertsGate,
            Operator::ExpertsDown,
        ] {
            let [passes, products] = self.local(pool, operator, &all, rows, devices)?;
            out.passes = out.passes.plus(passes);
            out.products = out.products.plus(products);
        }
        // A group's devices have its tokens by parts.
        let own = tokens.div_ceil(group);
        let layer = kind.model.layer(own, 1);
        out.passes = out
            .passes
            .plus(self.operator(pool, Operator::Combine, &layer)?);
        out.exchange.time = rounded(self.exchange(pool, kind, own, experts)?)?;
        if let (Some(link), true) = (&pool.link, group > 1) {
            let bytes = layer
                .hidden
                .saturating_mul(tokens.saturating_mul(WORD_BYTES));
            // A reduction is a sum of parts and this.
            let time = reduction(pool, link, group, bytes)?;
            out.gather.time = rounded(Seconds(time.0 / 2.0))?;
        }
        Ok(out)
    }

    /// An operator of the experts on the device that has most rows, of `all` the layer's: passes and products.
    fn local(
        &mut self,
        pool: &DevicePool,
        operator: Operator,
        all: &Layer,
        rows: f64,
        devices: u64,
    ) -> Result<[Work; 2], Problem> {
        let [mut passes, mut products] = [Work::default(); 2];
        let total = all
            .experts
            .map_or(0, |e| e.active)
            .saturating_mul(all.tokens);
        for call in Lowering::Served.kernels(operator, all) {
            match (&call.kernel, all.shape(operator)) {
                (Kernel::Grouped { operands, .. }, Shape::Grouped(shape)) => {
                    let local = Grouped {
                        groups: shape.groups.div_ceil(devices),
                        rows: rows.ceil() as u64,
                        // Rows come from tokens of all devices: no expert has one of each.
                        each: 0,
                        ..shape
                    };
                    let most = local.groups.min(local.rows).max(1) as f64;
                    let with = (shape.drawn() / devices as f64).clamp(1.0, most);
                    let mut of =
                        |with: f64| self.run(pool, &grouped(local, with as u64, *operands));
                    let (a, b) = (of(with.floor())?, of(with.ceil())?);
                    products = products.plus(a.towards(b, with.fract()));
                }
                (Kernel::Pass { rows: of, bytes }, _) => {
                    let bytes = *bytes as f64 * rows / total.max(1) as f64;
                    let kernel = Kernel::Pass {
                        rows: *of,
                        bytes: bytes.ceil() as u64,
                    };
                    let call = Call {
                        kernel,
                        ..call.clone()
                    };
                    passes = passes.plus(self.run(pool, &call)?);
                }
                _ => products = products.plus(self.run(pool, &call)?),
            }
        }
        Ok([passes, products])
    }

    /// Tokens to their experts, as wide as products take them, and what these make back, in words.
    fn exchange(
        &mut self,
        pool: &DevicePool,
        kind: &LayerKind,
        tokens: u64,
        experts: &Experts,
    ) -> Result<Seconds, Problem> {
        let devices = pool.experts();
        let node = pool.nodes.as_ref().map_or(devices, |(node, _)| *node);
        let copies = Copies::new(experts, devices, node);
        let (width, formats) = (kind.model.model_width, &kind.model.formats);
        let there = formats.activations.bytes(width, 1).0 as f64;
        let back = (WORD_BYTES * width) as f64;
        let within = pool.link.as_ref().map(|link| (link, copies.within));
        let between = pool.nodes.as_ref().map(|(_, link)| (link, copies.between));
        let mut sum = 0.0;
        for bytes in [there, back] {
            // Both links stream at once; what goes over both waits for both.
            let (mut longest, mut latencies) = (0.0_f64, 0.0);
            for (link, copies) in [within, between].into_iter().flatten() {
                if copies == 0.0 {
                    continue;
                }
                let names = ["all_to_all:graph", "send:graph", "all_to_all", "send"];
                let known = |name: &&str| link.operations.contains_key(*name);
                let name = names.into_iter().find(known);
                let time = |bytes: f64| {
                    let time = name.and_then(|n| link.send(n, bytes.ceil() as u64, devices));
                    time.map(|t| t.0).ok_or_else(|| unknown(link, "send"))
                };
                let latency = time(0.0)?;
                longest = longest.max(time(bytes * copies * tokens as f64)? - latency);
                latencies += latency;
            }
            sum += longest + latencies;
        }
        Ok(Seconds(sum))
    }
}

/// A reduction over devices of a pool: where they are in several nodes each node sums, then as many rings as a node has
/// devices go from node to node, each with its part.
pub(super) fn reduction(
    pool: &DevicePool,
    link: &DeviceLink,
    devices: u64,
    bytes: u64,
) -> Result<Seconds, Problem> {
    let over = |link: &DeviceLink, devices: u64, bytes: u64| {
        let name = operation(link, "all_reduce:graph", "all_reduce");
        let time = link.all_reduce(name, devices, bytes, Collective::Ring);
        time.ok_or_else(|| unknown(link, "all_reduce"))
    };
    match &pool.nodes {
        Some((node, far)) if devices > *node => {
            let within = over(link, *node, bytes)?;
            let between = over(far, devices.div_ceil(*node), bytes.div_ceil(*node))?;
            Ok(Seconds(within.0 + between.0))
        }
        _ => over(link, devices, bytes),
    }
}

fn unknown(link: &DeviceLink, operation: &str) -> Problem {
    Problem::nowhere(format!("`{operation}` over {} is not known", link.name))
        .help("a link with that operation in its file, for the pool")
}

#[cfg(test)]
mod tests {
    use einflow_workloads::models::Experts;

    use super::{Copies, busiest};

    /// Two of four experts, one a device, two nodes of two: a device has one of a token's experts with 1 - 1/2, a node
    /// with 1 - (2/4)(1/3) = 5/6.
    #[test]
    fn copies_by_hand() {
        let experts = Experts {
            routed: 4,
            active: 2,
            width: 1,
            shared_width: None,
        };
        let found = Copies::new(&experts, 4, 2);
        assert!((found.within - 2.0 * 0.5).abs() < 1e-12, "{found:?}");
        assert!((found.between - 5.0 / 6.0).abs() < 1e-12, "{found:?}");
        // One node: three others, each with half the tokens.
        let found = Copies::new(&experts, 4, 4);
        assert_eq!((found.within, found.between), (1.5, 0.0));
        // All on one device: nobody sends.
        let found = Copies::new(&experts, 1, 1);
        assert_eq!((found.within, found.between), (0.0, 0.0));
    }

    #[test]
    fn the_busiest_has_more_than_the_mean() {
        assert_eq!(busiest(100.0, 1, None), 100.0);
        // sqrt(2 x 100 x ln 16) = 23.55.
        assert!((busiest(100.0, 16, None) - 123.548).abs() < 1e-3);
        assert_eq!(busiest(100.0, 16, Some(1.5)), 150.0);
    }
}
