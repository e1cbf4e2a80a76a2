//! Products by what their operands are held in: the law that answers, and the passes that narrow activations before.

use einflow_arch::device::{Kernel, Operands, Scales};
use einflow_spec::Stored;
use einflow_workloads::{
    counts::Part,
    layer::{Layer, Operator, SERVED, Shape, WORD_BYTES},
};

use super::Call;

/// What a product of an operator multiplies.
///
/// Products into a latent's space and out of it have rows of one head each, which no published kernel narrows: their
/// weights are widened.
pub(crate) fn operands(operator: Operator, layer: &Layer) -> Operands {
    let [activations, weights] = match operator {
        Operator::Absorb | Operator::Expand => [SERVED.into(), layer.formats.of(Part::Attention)],
        _ => layer.formats.operands(Part::of(operator)),
    };
    Operands::of(activations, weights)
}

/// What multiplies words of two bytes with the weights of the vocabulary.
pub(crate) fn head(layer: &Layer) -> Operands {
    Operands::of(SERVED.into(), layer.formats.of(Part::Embeddings))
}

/// The law of a family (`product`, `grouped`) for such operands: the family's own for words of two bytes, else
/// `product:fp8-row`, `product:fp8-tensor`, `grouped:mxfp4-bf16` (weights first).
pub fn law(family: &str, operands: Operands) -> String {
    let Operands {
        activations,
        weights,
        scales,
    } = operands;
    let wide = |format: Stored| format.bits() >= SERVED.bits();
    if wide(activations) && wide(weights) {
        return family.into();
    }
    let names = (weights.numbers(), activations.numbers());
    match (names, scales) {
        (("fp8", "fp8"), Scales::Rows) => format!("{family}:fp8-row"),
        (("fp8", "fp8"), Scales::Whole) => format!("{family}:fp8-tensor"),
        ((weights, activations), _) if weights == activations => format!("{family}:{weights}"),
        ((weights, activations), _) => format!("{family}:{weights}-{activations}"),
    }
}

/// What the operands of a kernel with a law of its own are, in words; none of others.
pub fn derived(kernel: &Kernel) -> Option<Operands> {
    match kernel {
        Kernel::Product { operands, .. } | Kernel::Grouped { operands, .. } => Some(*operands),
        _ => None,
    }
}

/// The pass that narrows the activations of an operator; none where it takes them as they are, or another before it
/// reads the same.
pub(crate) fn narrowing(operator: Operator, layer: &Layer) -> Option<Call> {
    use Operator as O;
    let activations = |operator| operands(operator, layer).activations;
    let narrow = |operator| activations(operator).bits() < SERVED.bits();
    let stream = layer.hidden;
    let (rows, k) = match (operator, layer.shape(operator)) {
        // The residual stream, after another product that reads it.
        (O::KeyValue | O::LatentDown | O::Strength, _) => return None,
        (O::DecayDown | O::OutputGateDown, _) => return None,
        (O::Decay | O::OutputGate, Shape::Product(product)) if product.k == stream => return None,
        (O::SharedGateUp, _) if narrow(O::ExpertsGateUp) => return None,
        // Before tokens go to their experts.
        (O::ExpertsGateUp, Shape::Grouped(grouped)) => (layer.tokens, grouped.k),
        (_, Shape::Product(product)) => (product.m, product.k),
        (_, Shape::Grouped(grouped)) => (grouped.rows, grouped.k),
        _ => return None,
    };
    if !narrow(operator) {
        return None;
    }
    let narrowed = u64::try_from(activations(operator).bytes(k, 1).0).unwrap_or(u64::MAX);
    let row = k.saturating_mul(WORD_BYTES).saturating_add(narrowed);
    Some(Call {
        law: "pass".into(),
        kernel: Kernel::Pass {
            rows: 1,
            bytes: rows.saturating_mul(row),
        },
        flushed: false,
    })
}
