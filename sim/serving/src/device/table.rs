//! Tables of measurements: which one a file is, and what each row asks of a device.

mod kinds;
mod shapes;

use einflow_arch::device::{Attention, Collective, Kernel};
use einflow_spec::{Problem, Problems, Source, Stored};

use super::{
    Call, Launch, Step, Task,
    cells::{CellRow, Cells},
    divided,
    layer::{self, Phase},
    two_gpus,
};
use kinds::recognised;

/// What a file measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Matrix products.
    Product,
    /// Fused attention of prompts.
    Prefill,
    /// Fused attention over a cache.
    Decode,
    /// Attention in three kernels.
    Unfused,
    /// Whole decoder layers.
    Layer,
    /// Parts of a Llama-2-70B layer, by tensor-parallel degree.
    Parts,
    /// A decode step over two devices.
    TwoGpus,
    /// Copies and additions in memory, and over the host's link.
    Memory,
    /// Element-wise maps and normalisations.
    Elementwise,
    /// Messages and reductions between two devices.
    Messages,
    /// Messages and reductions among several.
    Network,
    /// Energy of sustained loops.
    Energy,
    /// Products of a mixture's experts.
    Grouped,
    /// Fused attention over caches of unequal lengths.
    Ragged,
    /// Fused attention of prompts with values of another width.
    Widths,
    /// Mechanisms over prompts.
    Mechanism,
    /// Fused attention under masks.
    Pattern,
    /// Attention divided over two devices.
    Divided,
}

/// A table that was recognised.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it measures.
    pub kind: Kind,
    /// Its text.
    pub cells: Cells,
    /// The rows.
    pub rows: Vec<Row>,
    /// How its kernels were launched.
    pub launch: Launch,
}

/// A row: what it asks, and what was measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place among the table's rows.
    pub at: usize,
    /// The device that it was measured on, where the table says.
    pub device: Option<String>,
    /// Rows of one group belong together: one (k, n), one set of heads.
    pub group: String,
    /// The measured columns, each with what was measured (in microseconds), if it was, and the question.
    pub columns: Vec<(String, Option<f64>, Task)>,
    /// The value of `energy.csv`'s columns.
    pub energy: Option<super::energy::Measured>,
}

impl Row {
    /// Whether it was measured on the device of that name: tables say `h100_sxm`, device files `h100`.
    pub fn of(&self, device: &str) -> bool {
        let plain = |name: &str| -> String {
            let letters = name.chars().filter(|c| c.is_ascii_alphanumeric());
            letters.collect::<String>().to_ascii_lowercase()
        };
        let device = device.strip_suffix("-profiled").unwrap_or(device);
        self.device
            .as_ref()
            .is_none_or(|own| plain(own).starts_with(&plain(device)))
    }
}

/// Operations within a device's memory or over the host's link.
const MEMORY: [&str; 4] = ["d2d", "add", "h2d", "d2h"];
/// Operations between two devices.
const MESSAGES: [&str; 3] = ["pingpong", "allreduce", "allgather"];
/// Element-wise operations.
const ELEMENTWISE: [&str; 4] = ["add", "copy", "rmsnorm", "silu_mul"];

impl Table {
    /// Reads a table of measurements; `launch` overrides what its name says.
    ///
    /// # Errors
    /// A header that is none of the known ones (with the columns that it lacks to be the nearest), and every wrong cell.
    pub fn read(source: &Source, launch: Option<Launch>) -> Result<Self, Problems> {
        let cells = Cells::read(source)?;
        let kind = recognised(&cells)?;
        let file = std::path::Path::new(source.name()).file_name();
        let named = match file.is_some_and(|f| f.to_string_lossy().contains("graph")) {
            true => Launch::Graph,
            false => Launch::Eager,
        };
        let launch = launch.unwrap_or(named);
        let mut problems = cells.problems.clone();
        let mut rows = Vec::new();
        for (at, row) in cells.rows.iter().enumerate() {
            let found = row_of(kind, &cells, row, at, launch);
            rows.extend(problems.absorb(found));
        }
        if cells.rows.is_empty() {
            problems.push(cells.at_header("the table has no rows"));
        }
        problems.into_result(Some(()))?;
        Ok(Self {
            kind,
            cells,
            rows,
            launch,
        })
    }
}

fn row_of(
    kind: Kind,
    cells: &Cells,
    row: &CellRow,
    at: usize,
    launch: Launch,
) -> Result<Row, Problems> {
    let mut problems = Problems::new();
    let mut size = |column: &str| problems.absorb(cells.size(row, column).map_err(Problems::from));
    // What is timed again and again, its data untouched between, finds them in the cache.
    let flushed = !cells.has("framework") && launch == Launch::Eager;
    let alone = |law: String, kernel: Kernel, flushed: bool| {
        Task::alone(
            Call {
                law,
                kernel,
                flushed,
            },
            launch,
        )
    };
    let column = |name: &str, task: Task| {
        let measured = cells.measured(row, name).map_err(Problems::from);
        measured.map(|m| (name.to_string(), m, task))
    };
    let device = cells
        .has("device")
        .then(|| cells.text(row, "device").to_string());
    let mut out = Row {
        at,
        device,
        group: String::new(),
        columns: Vec::new(),
        energy: None,
    };
    let (group, tasks): (String, Vec<(&str, Task)>) = match kind {
        Kind::Product => {
            // A chain of products with weights of their own finds none in the cache.
            let flushed = !cells.has("framework");
            let (law, kernel) = shapes::product(cells, row)?;
            let group = match (&kernel, law.split_once(':')) {
                (Kernel::Product { k, n, .. }, None) => format!("k={k} n={n}"),
                (Kernel::Product { k, n, .. }, Some((_, kind))) => format!("{kind} k={k} n={n}"),
                _ => law.clone(),
            };
            (group, vec![("us", alone(law, kernel, flushed))])
        }
        Kind::Prefill => {
            let shape = (size("b"), size("h"), size("hkv"), size("d"), size("s"));
            let causal = problems.absorb(cells.flag(row, "causal").map_err(Problems::from));
            let backend = cells.text(row, "backend").to_string();
            problems.into_result(Some(()))?;
            let a = attention(cells, row, shape, causal.unwrap_or(false))?;
            (
                format!("{backend} h={} hkv={} d={}", a.heads, a.key_heads, a.width),
                vec![(
                    "us",
                    alone(format!("prefill:{backend}"), Kernel::Prefill(a), flushed),
                )],
            )
        }
        Kind::Decode => {
            let shape = (size("b"), size("h"), size("hkv"), size("d"), size("l"));
            problems.into_result(Some(()))?;
            let a = attention(cells, row, shape, false)?;
            let backend = match cells.has("backend") {
                true => cells.text(row, "backend"),
                // A framework with its version: vllm-0.24.0.
                false => cells.text(row, "framework").split('-').next().unwrap_or(""),
            };
            let law = match backend {
                "" => "decode".to_string(),
                name => format!("decode:{name}"),
            };
            (
                format!("{backend} h={} hkv={} d={}", a.heads, a.key_heads, a.width)
                    .trim_start()
                    .to_string(),
                vec![("us", alone(law, Kernel::Decode(a), flushed))],
            )
        }
        Kind::Unfused => {
            let (b, h, d, s) = (size("b"), size("h"), size("d"), size("s"));
            problems.into_result(Some(()))?;
            let (b, h, d, s) = (
                b.unwrap_or(1),
                h.unwrap_or(1),
                d.unwrap_or(1),
                s.unwrap_or(1),
            );
            let parts = layer::unfused(b * h, d, s);
            let total = Task {
                // One kernel finds what the one before left in the cache.
                steps: parts
                    .iter()
                    .cloned()
                    .enumerate()
                    .map(|(at, call)| {
                        let flushed = call.flushed && at == 0;
                        Step::Call(Call { flushed, ..call })
                    })
                    .collect(),
                launch: Launch::Graph,
                chained: true,
                events: launch == Launch::Eager,
            };
            let [qk, softmax, av] = parts.map(|call| Task::alone(call, launch));
            (
                format!("b={b} h={h} d={d}"),
                vec![
                    ("total_us", total),
                    ("qk_us", qk),
                    ("softmax_us", softmax),
                    ("av_us", av),
                ],
            )
        }
        Kind::Layer => {
            let (b, s) = (size("b"), size("s"));
            let phase = problems.absorb(
                cells
                    .choice(row, "phase", &["prefill", "decode"])
                    .map_err(Problems::from),
            );
            let name = cells.text(row, "model");
            let model = problems.absorb(layer::model(name).map_err(|problems| {
                let problem = cells.wrong(row, "model", name, "a model that is known");
                let help = problems.iter().find_map(|p| p.help.clone());
                Problems::from(problem.help(help.unwrap_or_default()))
            }));
            problems.into_result(Some(()))?;
            let (Some(model), Some(b), Some(s), Some(phase)) = (model, b, s, phase) else {
                return Err(Problems::new());
            };
            let phase_of = match phase {
                "prefill" => Phase::Prefill,
                _ => Phase::Decode,
            };
            let task = |launch| layer::layer(&model, phase_of, b, s, launch);
            (
                format!("{name} {phase}"),
                vec![
                    ("us_graph", task(Launch::Graph)),
                    ("us_eager", task(Launch::Eager)),
                ],
            )
        }
        Kind::Parts => {
            let (tp, tokens) = (size("tp"), size("tokens"));
            problems.into_result(Some(()))?;
            let (tp, tokens) = (tp.unwrap_or(1), tokens.unwrap_or(1));
            let model = layer::model("llama2-70b")?;
            let parts = layer::parts(&model, tp, tokens)
                .map_err(|m| cells.wrong(row, "tp", &tp.to_string(), &m))?;
            (format!("tp={tp}"), parts)
        }
        Kind::TwoGpus => {
            let (b, l, layers) = (size("b"), size("l"), size("layers"));
            let mode = cells.text(row, "mode");
            if !two_gpus::MODES.contains(&mode) {
                let known = two_gpus::MODES.join(", ");
                let problem = cells.wrong(row, "mode", mode, "a way to divide the work");
                problems.push(problem.help(format!("one of {known}")));
            }
            problems.into_result(Some(()))?;
            let (Some(b), Some(l), Some(layers)) = (b, l, layers) else {
                return Err(Problems::new());
            };
            // The shapes that the table was measured with.
            let model = layer::model("llama3-8b")?;
            let task = two_gpus::task(&model, mode, b, l, layers);
            (mode.to_string(), vec![("us", task)])
        }
        Kind::Memory => {
            let bytes = size("bytes");
            let op = problems.absorb(cells.choice(row, "op", &MEMORY).map_err(Problems::from));
            problems.into_result(Some(()))?;
            let (bytes, op) = (bytes.unwrap_or(1), op.unwrap_or("d2d"));
            let task = match op {
                // Every byte is read once and written once.
                "d2d" | "add" => {
                    let bytes = bytes.saturating_mul(2);
                    alone("pass".into(), Kernel::Pass { rows: 1, bytes }, flushed)
                }
                _ => Task {
                    steps: vec![Step::Send {
                        operation: op.into(),
                        link: "pcie5".into(),
                        bytes,
                        count: 1,
                    }],
                    launch,
                    chained: false,
                    events: false,
                },
            };
            (op.to_string(), vec![("us", task)])
        }
        Kind::Elementwise => {
            let rows = size("rows");
            let op = problems.absorb(
                cells
                    .choice(row, "op", &ELEMENTWISE)
                    .map_err(Problems::from),
            );
            problems.into_result(Some(()))?;
            let (rows, op) = (rows.unwrap_or(1), op.unwrap_or("add"));
            // The shapes that the table was measured with.
            let shapes = layer::model("llama3-8b")?.layer(rows, 1);
            let task = Task {
                steps: layer::elementwise(op, &shapes)
                    .into_iter()
                    .map(Step::Call)
                    .collect(),
                launch,
                chained: true,
                events: false,
            };
            (op.to_string(), vec![("us", task)])
        }
        Kind::Messages => {
            let bytes = size("bytes");
            let op = problems.absorb(cells.choice(row, "op", &MESSAGES).map_err(Problems::from));
            problems.into_result(Some(()))?;
            let (bytes, op) = (bytes.unwrap_or(1), op.unwrap_or("pingpong"));
            (
                op.to_string(),
                vec![("us", message(op, "nvlink4", bytes, 2, launch))],
            )
        }
        Kind::Network => {
            let (gpus, per_node, bytes) = (size("gpus"), size("gpus_per_node"), size("bytes"));
            let op = problems.absorb(
                cells
                    .choice(row, "op", &["all_reduce", "send_recv"])
                    .map_err(Problems::from),
            );
            problems.into_result(Some(()))?;
            let (gpus, per_node, bytes) =
                (gpus.unwrap_or(2), per_node.unwrap_or(1), bytes.unwrap_or(1));
            let op = op.unwrap_or("send_recv");
            let link = match per_node > 1 {
                true => "nvlink4-dgx",
                false => "ethernet-400g-nccl",
            };
            (
                format!("{op} gpus={gpus} of {per_node} a node"),
                vec![("us", message(op, link, bytes, gpus, launch))],
            )
        }
        Kind::Grouped => {
            let (group, experts, dense) = shapes::grouped(cells, row)?;
            (
                group,
                vec![
                    ("us", alone("grouped".into(), experts, true)),
                    ("dense_us", alone(shapes::DENSE.into(), dense, true)),
                ],
            )
        }
        Kind::Ragged | Kind::Widths | Kind::Mechanism | Kind::Pattern => {
            let (group, law, kernel) = match kind {
                Kind::Ragged => shapes::ragged(cells, row)?,
                Kind::Widths => shapes::widths(cells, row)?,
                Kind::Mechanism => shapes::mechanism(cells, row)?,
                _ => shapes::pattern(cells, row)?,
            };
            (group, vec![("us", alone(law, kernel, flushed))])
        }
        Kind::Divided => {
            let a = shapes::divided(cells, row)?;
            let mode = problems.absorb(
                cells
                    .choice(row, "mode", &divided::MODES)
                    .map_err(Problems::from),
            );
            problems.into_result(Some(()))?;
            let mode = mode.unwrap_or_default();
            (mode.to_string(), vec![("us", divided::task(mode, &a))])
        }
        Kind::Energy => {
            let energy = super::energy::row(cells, row)?;
            let group = energy.op.clone();
            let task = energy.task.clone();
            out.energy = Some(energy);
            (
                group,
                match task {
                    Some(task) => vec![("us_per_call", task)],
                    None => Vec::new(),
                },
            )
        }
    };
    out.group = group;
    let mut problems = Problems::new();
    for (name, task) in tasks {
        out.columns.extend(problems.absorb(column(name, task)));
    }
    problems.into_result(Some(out))
}

type Shape = (
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
);

fn attention(
    cells: &Cells,
    row: &CellRow,
    (b, h, hkv, d, length): Shape,
    causal: bool,
) -> Result<Attention, Problem> {
    let shape = Attention {
        batch: b.unwrap_or(1),
        heads: h.unwrap_or(1),
        key_heads: hkv.unwrap_or(1),
        width: d.unwrap_or(1),
        value_width: d.unwrap_or(1),
        length: length.unwrap_or(1),
        causal,
        cached: Stored::BF16,
    };
    if !shape.heads.is_multiple_of(shape.key_heads) {
        let text = shape.key_heads.to_string();
        return Err(cells.wrong(
            row,
            "hkv",
            &text,
            &format!("a divisor of h, {}", shape.heads),
        ));
    }
    Ok(shape)
}

fn message(op: &str, link: &str, bytes: u64, gpus: u64, launch: Launch) -> Task {
    let suffix = match launch {
        Launch::Graph => ":graph",
        Launch::Eager => "",
    };
    let operation = |name: &str| format!("{name}{suffix}");
    let step = match op {
        // There and back.
        "pingpong" => Step::Send {
            operation: operation("send"),
            link: link.into(),
            bytes,
            count: 2,
        },
        "send_recv" => Step::Send {
            operation: operation("send"),
            link: link.into(),
            bytes,
            count: 1,
        },
        "allgather" => Step::Send {
            operation: operation("all_gather"),
            link: link.into(),
            bytes,
            count: 1,
        },
        _ => Step::AllReduce {
            operation: operation("all_reduce"),
            link: link.into(),
            bytes,
            devices: gpus,
            how: Collective::Ring,
        },
    };
    Task {
        steps: vec![step],
        launch,
        chained: false,
        events: false,
    }
}
