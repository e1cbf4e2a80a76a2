//! Energy of a kernel: what the board draws idle and, beyond that, for operations and bytes, up to its power limit.

use einflow_arch::device::{Attention, Kernel, Power};
use einflow_spec::{
    Problem, Stored,
    quantity::{Joules, Seconds, Watts},
};

use super::{
    Call, Launch, Task,
    cells::{CellRow, Cells},
};

/// A row of `energy.csv`.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The operation.
    pub op: String,
    /// The work of a call; none: idle.
    pub task: Option<Task>,
    /// Energy of a call, in joules.
    pub joules: Option<f64>,
    /// Mean power, in watts.
    pub watts: Option<f64>,
}

/// Energy of a kernel that takes this long; `None`: the device's file does not say what its operations draw.
///
/// The board's limit is a regime: what would draw more is slowed down until it draws that, so its time is the measured one and its
/// power the limit.
pub fn energy(power: &Power, kernel: &Kernel, time: Seconds) -> Option<(Joules, Watts)> {
    // Under a higher limit the time would be another.
    let limit = power
        .measured_limit
        .map_or(power.limit.0, |m| m.0.min(power.limit.0));
    let drawn = wanted(power, kernel, time)?.0.min(limit);
    Some((Joules(drawn * time.0), Watts(drawn)))
}

/// What a kernel that takes this long would draw without a limit.
fn wanted(power: &Power, kernel: &Kernel, time: Seconds) -> Option<Watts> {
    let bytes = kernel.bytes()
        * match kernel {
            Kernel::Pass { .. } => power.copied_byte?,
            _ => power.byte?,
        };
    let operations = kernel.operations() * power.operation?;
    let scores = match kernel.scores() {
        0.0 => 0.0,
        scores => scores * power.score?,
    };
    let dynamic = (operations + scores + bytes) * 1e-12 / time.0;
    Some(Watts(power.idle.0 + power.active.0 + dynamic))
}

/// How often as long a kernel takes under the board's limit as was measured, without one or under a higher one: what it
/// draws beyond idling is spread over more time. Where its file does not say what it draws, that is the limit under which
/// it was measured; 1 where it does not say that either.
pub(super) fn slowed(power: &Power, kernel: &Kernel, time: Seconds) -> f64 {
    let measured = power.measured_limit.map_or(f64::INFINITY, |limit| limit.0);
    // As `energy`: at the limit while it works.
    let wanted = wanted(power, kernel, time).map_or(measured, |watts| watts.0.min(measured));
    if !wanted.is_finite() || wanted <= power.limit.0 {
        return 1.0;
    }
    (wanted - power.idle.0) / (power.limit.0 - power.idle.0)
}

/// Reads a row of an energy table.
pub(super) fn row(cells: &Cells, row: &CellRow) -> Result<Measured, Problem> {
    let known = [
        "idle",
        "gemm",
        "d2d",
        "attention_prefill",
        "attention_decode",
    ];
    let op = cells.choice(row, "op", &known)?;
    let params = cells.text(row, "params");
    let field = |name: &str| -> Result<u64, Problem> {
        let found = params
            .split(';')
            .filter_map(|p| p.split_once('='))
            .find(|(key, _)| key.trim() == name);
        let wrong = || {
            let want = format!("a list of sizes with {name}=N");
            cells.wrong(row, "params", params, &want)
        };
        match found.map(|(_, value)| value.trim().parse::<u64>()) {
            Some(Ok(value)) if value > 0 || name == "causal" => Ok(value),
            _ => Err(wrong()),
        }
    };
    let attention = |length: &str, causal: bool| -> Result<Attention, Problem> {
        Ok(Attention {
            batch: field("b")?,
            heads: field("h")?,
            key_heads: field("hkv")?,
            width: field("d")?,
            value_width: field("d")?,
            length: field(length)?,
            causal,
            cached: Stored::BF16,
        })
    };
    let call = |law: &str, kernel: Kernel| Call {
        law: law.into(),
        kernel,
        flushed: true,
    };
    let task = match op {
        "idle" => None,
        "gemm" => {
            let (m, k, n) = (field("m")?, field("k")?, field("n")?);
            Some(call("product", Kernel::product(m, k, n)))
        }
        "d2d" => {
            let bytes = field("bytes")?.saturating_mul(2);
            Some(call("pass", Kernel::Pass { rows: 1, bytes }))
        }
        "attention_prefill" => {
            let a = attention("s", field("causal")? == 1)?;
            Some(call("prefill:flash", Kernel::Prefill(a)))
        }
        _ => Some(call("decode:flash", Kernel::Decode(attention("l", false)?))),
    };
    Ok(Measured {
        op: op.to_string(),
        // A loop without a pause: no event and no host between its calls.
        task: task.map(|call| Task {
            chained: true,
            ..Task::alone(call, Launch::Graph)
        }),
        joules: cells.measured(row, "joule_per_call")?,
        watts: cells.measured(row, "mean_watt")?,
    })
}
