//! Random programs, each from its seed.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use einflow_arch::Accelerator;
use einflow_mappings::{bind, mapped::MappedCascade, spec::MappingSpec};
use einflow_spec::Source;
use einflow_workloads::cascade::Cascade;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One Einsum on one array below one buffer.
    Single,
    /// The same with a causal condition, empty tiles left out or not.
    Condition,
    /// The same below two memories.
    Deep,
    /// Two Einsums, the second on the first's words: one array or two, over a link or through the buffer.
    Pair,
    /// A pair in phases, the first perhaps ahead of the second.
    Pipeline,
    /// A running sum, and what reads it at the end.
    Recurrence,
}

pub struct Generated {
    pub text: String,
    pub mapped: Result<MappedCascade, String>,
}

/// The same numbers everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66);
        dice.below(2);
        dice
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }
}

/// A cascade in few words: inputs, output, Einsums, and the ranks by name.
struct Shape {
    inputs: &'static str,
    output: &'static str,
    einsum: &'static str,
    extra: &'static str,
    ranks: &'static [&'static str],
    /// What each tensor follows.
    tensors: &'static [(&'static str, &'static [&'static str])],
    reduced: &'static [&'static str],
}

const SINGLE: [Shape; 10] = [
    Shape {
        inputs: r#""A[m, k]", "B[k, n]""#,
        output: "Z[m, n]",
        einsum: "Z[m, n] = A[m, k] * B[k, n]",
        extra: "",
        ranks: &["M", "N", "K"],
        tensors: &[("A", &["M", "K"]), ("B", &["K", "N"]), ("Z", &["M", "N"])],
        reduced: &["K"],
    },
    Shape {
        inputs: r#""I[c, w]", "F[k, c, r]""#,
        output: "Z[k, p]",
        einsum: "Z[k, p] = I[c, p + r] * F[k, c, r]",
        extra: r#"parameters: { "P": "W - R + 1" },"#,
        ranks: &["C", "K", "R", "P"],
        tensors: &[
            ("I", &["C", "P", "R"]),
            ("F", &["K", "C", "R"]),
            ("Z", &["K", "P"]),
        ],
        reduced: &["C", "R"],
    },
    Shape {
        inputs: r#""I[w]", "F[r]""#,
        output: "Z[p]",
        einsum: "Z[p] = I[2 * p + r] * F[r]",
        extra: r#"parameters: { "P": "(W - R) / 2 + 1" },"#,
        ranks: &["R", "P"],
        tensors: &[("I", &["P", "R"]), ("F", &["R"]), ("Z", &["P"])],
        reduced: &["R"],
    },
    Shape {
        inputs: r#""A[i]", "B[j]""#,
        output: "Z[i, j]",
        einsum: "Z[i, j] = A[i] * B[j]",
        extra: "",
        ranks: &["I", "J"],
        tensors: &[("A", &["I"]), ("B", &["J"]), ("Z", &["I", "J"])],
        reduced: &[],
    },
    Shape {
        inputs: r#""A[b, m, k]", "B[b, k, n]""#,
        output: "Z[b, m, n]",
        einsum: "Z[b, m, n] = A[b, m, k] * B[b, k, n]",
        extra: "",
        ranks: &["B", "M", "N", "K"],
        tensors: &[
            ("A", &["B", "M", "K"]),
            ("B", &["B", "K", "N"]),
            ("Z", &["B", "M", "N"]),
        ],
        reduced: &["K"],
    },
    Shape {
        inputs: r#""A[i, k]""#,
        output: "Z[i]",
        einsum: "Z[i] = A[i, k] :: max(k)",
        extra: "",
        ranks: &["I", "K"],
        tensors: &[("A", &["I", "K"]), ("Z", &["I"])],
        reduced: &["K"],
    },
    Shape {
        inputs: r#""I[s, p]", "F[r]""#,
        output: "Z[r, p]",
        einsum: "Z[r, p] = I[(r + 1) % S, p] * F[r]",
        extra: r#"parameters: { "S": "= R" },"#,
        ranks: &["R", "P"],
        tensors: &[("I", &["R", "P"]), ("F", &["R"]), ("Z", &["R", "P"])],
        reduced: &[],
    },
    Shape {
        inputs: r#""A[i]", "B[j]""#,
        output: "Z[i, j]",
        einsum: "Z[i, j] = A[I - 1 - i] + B[(j + i) % J]",
        extra: "",
        ranks: &["I", "J"],
        tensors: &[("A", &["I"]), ("B", &["I", "J"]), ("Z", &["I", "J"])],
        reduced: &[],
    },
    Shape {
        inputs: r#""A[i, j]""#,
        output: "Z[j, i]",
        einsum: "Z[j, i] = A[i, j]",
        extra: "",
        ranks: &["I", "J"],
        tensors: &[("A", &["I", "J"]), ("Z", &["I", "J"])],
        reduced: &[],
    },
    Shape {
        inputs: r#""A[i, j]", "B[l]""#,
        output: "Z[i, j]",
        einsum: "Z[i, j] = A[i, j] + B[i + J - 1 - j]",
        extra: r#"parameters: { "L": "= I + J - 1" },"#,
        ranks: &["I", "J"],
        tensors: &[("A", &["I", "J"]), ("B", &["I", "J"]), ("Z", &["I", "J"])],
        reduced: &[],
    },
];

const OPERATORS: [(&str, u64); 5] = [("mac", 1), ("mul", 2), ("max", 3), ("add", 1), ("relu", 1)];

fn chip(dice: &mut Dice, kind: Kind) -> (String, u64, u64) {
    let rows = dice.of(&[1u64, 1, 2, 3, 4, 5, 7]);
    let columns = dice.of(&[1u64, 2, 3, 4, 5, 7]);
    let array = |name: &str, rows: u64, columns: u64, dice: &mut Dice| {
        let mut operators = String::new();
        for (name, cycles) in OPERATORS {
            let _ = write!(
                operators,
                "{name:?}: (cycles: {}, actions: {{\"alu\": 1}}, register_reads: 2, register_writes: 1), ",
                cycles + dice.below(2)
            );
        }
        let width = dice.of(&[4096u64, 4096, 8, 3, 2, 1]);
        let way = dice.of(&["down", "down", "right"]);
        let out = dice.of(&["down", "down", "right", "up"]);
        let mut links = String::new();
        let slow = dice.one_in(3);
        for direction in ["right", "left", "down", "up"] {
            let latency = if slow { 1 + dice.below(4) } else { 1 };
            let _ = write!(
                links,
                "{direction:?}: (direction: {direction}, multicast: true, reduce: true, words_per_cycle: {width}, latency: {latency}), "
            );
        }
        let second = match dice.below(3) {
            0 => format!(
                r#""in2": (from: "buffer", direction: {}, words_per_cycle: {width}, latency: {}), "#,
                dice.of(&["down", "right"]),
                1 + dice.below(9)
            ),
            _ => String::new(),
        };
        format!(
            r#"{name:?}: (source: "assumed", rows: {rows}, columns: {columns},
            components: {{ "alu": (source: "assumed", energy: 1, area: 1) }}, operators: {{ {operators} }},
            registers: (source: "assumed", words: 4096, read_energy: 1, write_energy: 1, area: 1),
            links: {{ {links} "in": (from: "buffer", direction: {way}, words_per_cycle: {width}, latency: {}), {second}
                "out": (to: "buffer", direction: {out}, words_per_cycle: {width}, latency: {}), {} }}),"#,
            1 + dice.below(3),
            1 + dice.below(3),
            match (kind, name) {
                (Kind::Pair | Kind::Pipeline | Kind::Recurrence, "array2d") =>
                    r#""below": (to: "array1d", direction: down, words_per_cycle: 4096)"#,
                _ => "",
            }
        )
    };
    let mut arrays = array("array2d", rows, columns, dice);
    if matches!(kind, Kind::Pair | Kind::Pipeline | Kind::Recurrence) {
        arrays.push_str(&array("array1d", 1, columns, dice));
    }
    let rate = dice.of(&[
        r#"bandwidth: "1000 GB/s","#,
        r#"bandwidth: "8 GB/s","#,
        r#"bandwidth: "3 GB/s","#,
        r#"bandwidth: "1 GB/s","#,
        "",
    ]);
    let outstanding = dice.of(&["", "outstanding: 1,", "outstanding: 2,", "outstanding: 3,"]);
    let ports = dice.of(&[64u64, 16, 8, 4, 3, 2, 1]);
    let buffer = dice.of(&[
        "",
        "",
        r#"bandwidth: "64 GB/s","#,
        r#"bandwidth: "10 GB/s","#,
        r#"bandwidth: "3 GB/s","#,
    ]);
    let banks = dice.of(&[ports, ports, 64]);
    let mut shared = String::new();
    if kind == Kind::Deep {
        let rate = dice.of(&[r#"bandwidth: "16 GB/s","#, r#"bandwidth: "4 GB/s","#, ""]);
        shared = format!(
            r#""shared": (source: "assumed", capacity: unbounded, row: "{} B", ports: {ports}, banks: {ports}, {rate} latency: "{} cycles",
            read_energy: 1, write_energy: 1, area: 0),"#,
            dice.of(&[4, 8, 16]),
            dice.of(&[0, 2, 6]),
        );
    }
    let text = format!(
        r#"(name: "chip", description: "for tests", source: "assumed", clock: "1 GHz", word: f16,
        memories: {{
          "dram": (source: "assumed", capacity: unbounded, row: "8 B", {rate} latency: "{} ns", {outstanding} read_energy: 1, write_energy: 1, area: 0),
          {shared}
          "buffer": (source: "assumed", capacity: unbounded, row: "{} B", banks: {banks}, ports: {ports}, {buffer} latency: "{} cycles", read_energy: 1, write_energy: 1, area: 0),
        }}, arrays: {{ {arrays} }})"#,
        dice.of(&[0, 1, 7, 30]),
        dice.of(&[2, 4, 8, 16, 64]),
        dice.of(&[0, 1, 2, 5]),
    );
    (text, rows, columns)
}

/// The Einsums of a pair: the first as one alone, the second on its words.
const SECOND: [(&str, &str); 2] = [
    ("Y[m, n] = relu(Z[m, n])", "Y[m, n]"),
    ("Y[m, n] = Z[m, n] * C[n]", "Y[m, n]"),
];

/// A running sum over M, kept below a loop outside it, and its last value scaled.
fn recurrence(dice: &mut Dice) -> Generated {
    let (chip, _, columns) = chip(dice, Kind::Recurrence);
    let cascade = r##"(name: "test", source: "assumed", description: "for tests", inputs: ["X[m, p]", "C[p]"], outputs: ["Y[p]"],
        einsums: r#"
            S[0, p] = 0
            S[m+1, p] = S[m, p] + X[m, p]
            Y[p] = S[M, p] * C[p]
        "#)"##;
    let (m, p) = (1 + dice.below(7), 1 + dice.below(9));
    let (inner, middle) = (1 + dice.below(columns.min(p)), 1 + dice.below(3));
    let outer = dice.one_in(2);
    let loops = if outer { r#""px2", "m""# } else { r#""m""# };
    let mut own = vec!["px1", "px0"];
    if !outer {
        own.insert(0, "px2");
    }
    let mut bound = String::new();
    for (name, unit) in [
        ("S", dice.of(&["array2d", "array1d"])),
        ("Y", dice.of(&["array2d", "array1d"])),
    ] {
        let lane = dice.one_in(2);
        let walked = if lane {
            &own[..own.len() - 1]
        } else {
            &own[..]
        };
        let columns = if lane { ", columns: \"px0\"" } else { "" };
        let exit = if name == "Y" {
            ", at_exit_of: \"m\""
        } else {
            ""
        };
        let _ = write!(
            bound,
            "{name:?}: (unit: {unit:?}{columns}, loops: {walked:?}{exit}), "
        );
    }
    let below = if outer { ", below: \"px2\"" } else { "" };
    let mut keep = format!("\"S\": [(memory: \"buffer\"{below})], ");
    if dice.one_in(2) {
        let buffers = dice.of(&["", ", buffers: 2"]);
        let _ = write!(
            keep,
            "\"X\": [(memory: \"buffer\", below: \"m\"{buffers})], "
        );
    }
    if dice.one_in(2) {
        let _ = write!(keep, "\"C\": [(memory: \"buffer\"{below})], ");
    }
    let mapping = format!(
        r#"(name: "case", source: "assumed", workload: "test", sizes: {{ "Px0": {inner}, "Px1": {middle} }}, splits: {{ "P": ["Px2", "Px1", "Px0"] }},
        blocks: [(name: "b", loops: [{loops}], keep: {{ {keep} }}, einsums: {{ {bound} }})])"#
    );
    build(
        cascade,
        &chip,
        &mapping,
        &[("M".to_string(), m), ("P".to_string(), p)].into(),
    )
}

pub fn program(kind: Kind, seed: u64) -> Generated {
    let dice = &mut Dice::new(seed);
    if kind == Kind::Recurrence {
        return recurrence(dice);
    }
    let pair = matches!(kind, Kind::Pair | Kind::Pipeline);
    let shape = match kind {
        Kind::Single | Kind::Deep => &SINGLE[dice.below(SINGLE.len() as u64) as usize],
        _ => &SINGLE[0],
    };
    let (chip, rows, columns) = chip(dice, kind);
    let second = SECOND[dice.below(2) as usize];
    let condition = if kind == Kind::Condition {
        dice.of(&[" where m <= n", " where n <= m", " where m == n"])
    } else {
        ""
    };
    let einsums = if pair {
        format!("{}\n{}", shape.einsum, second.0)
    } else {
        format!("{}{condition}", shape.einsum)
    };
    let inputs = if pair && second.0.contains('C') {
        format!("{}, \"C[n]\"", shape.inputs)
    } else {
        shape.inputs.into()
    };
    let cascade = format!(
        r##"(name: "test", source: "assumed", description: "for tests", inputs: [{inputs}], outputs: ["{}"], {} einsums: r#"{einsums}"#)"##,
        if pair { second.1 } else { shape.output },
        shape.extra
    );
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for rank in shape.ranks {
        let size = dice.of(&[1u64, 2, 3, 4, 5, 6, 7, 9]);
        sizes.insert((*rank).into(), size);
    }
    if let Some(p) = sizes.remove("P") {
        let r = sizes["R"];
        sizes.insert(
            "W".into(),
            if shape.ranks.contains(&"C") {
                p + r - 1
            } else {
                (p - 1) * 2 + r
            },
        );
        sizes.insert("P".into(), p);
    }
    // Parts of each rank: outermost first, the innermost perhaps across the array.
    let mut parts: Vec<Vec<String>> = Vec::new();
    let (mut splits, mut part_sizes) = (String::new(), String::new());
    let mut lanes = [None, None];
    for rank in shape.ranks {
        let size = sizes[*rank];
        let lower = rank.to_lowercase();
        let count = if size == 1 { 1 } else { 1 + dice.below(3) };
        let mut step = 1;
        let mut names = Vec::new();
        let lane = (0..2usize).find(|l| lanes[*l].is_none() && dice.one_in(2));
        for part in 0..count - 1 {
            let most = match (part, lane) {
                (0, Some(0)) => rows,
                (0, Some(_)) => columns,
                _ => 4,
            };
            let own = 1 + dice.below(most.min(size.div_ceil(step)));
            let _ = write!(part_sizes, "\"{rank}x{part}\": {own}, ");
            names.insert(0, format!("{lower}x{part}"));
            step *= own;
        }
        if count > 1 {
            names.insert(0, format!("{lower}x{}", count - 1));
            let upper: Vec<String> = names
                .iter()
                .map(|n| n.to_uppercase().replace('X', "x"))
                .collect();
            let _ = write!(splits, "{rank:?}: {upper:?}, ");
        } else {
            names.push(lower);
        }
        if let Some(l) = lane
            && (count > 1 || size <= [rows, columns][l])
        {
            lanes[l] = names.pop();
        }
        parts.push(names);
    }
    // Some outer parts are shared loops, the others the Einsum's own.
    let mut shared_parts: Vec<Vec<String>> = Vec::new();
    let mut own_parts: Vec<Vec<String>> = Vec::new();
    for (rank, names) in shape.ranks.iter().zip(&parts) {
        let free = !pair || *rank != "K";
        let at = if free {
            dice.below(names.len() as u64 + 1) as usize
        } else {
            0
        };
        shared_parts.push(names[..at].to_vec());
        own_parts.push(names[at..].to_vec());
    }
    let shared = interleaved(dice, shared_parts);
    let second_parts = shape
        .ranks
        .iter()
        .zip(&own_parts)
        .filter(|(r, _)| **r != "K")
        .map(|(_, p)| p.clone());
    let mut second_parts: Vec<Vec<String>> = second_parts.collect();
    let own = interleaved(dice, own_parts);
    let mut keep = String::new();
    let mut partials = "";
    let extra = [("C", &["N"][..])];
    let tensors = shape
        .tensors
        .iter()
        .chain(extra.iter().filter(|_| pair && second.0.contains('C')));
    for (tensor, _) in tensors {
        let output = *tensor == "Z";
        // A sum over shared loops needs a place for what is not whole.
        let carried = output
            && shared
                .iter()
                .any(|l| shape.reduced.iter().any(|r| part_of(l, r)));
        if !carried && dice.one_in(if pair && output { 2 } else { 4 }) {
            continue;
        }
        let mut depth = dice.below(shared.len() as u64 + 1) as usize;
        let place = |memory: &str, depth: usize, dice: &mut Dice| {
            let below = depth
                .checked_sub(1)
                .map_or(String::new(), |at| format!(", below: {:?}", shared[at]));
            let buffers = if depth == 0 {
                ""
            } else {
                dice.of(&["", "", ", buffers: 2"])
            };
            format!("(memory: {memory:?}{below}{buffers})")
        };
        let mut places = Vec::new();
        if kind == Kind::Deep && dice.one_in(2) {
            places.push(place("shared", depth, dice));
            depth += dice.below((shared.len() - depth) as u64 + 1) as usize;
        }
        if places.is_empty() || dice.one_in(2) {
            places.push(place("buffer", depth, dice));
            if output && dice.one_in(5) {
                partials = ", partials: \"buffer\"";
            }
        }
        let _ = write!(keep, "{tensor:?}: [{}], ", places.join(", "));
    }
    let lane = |at: usize, name: &str| {
        lanes[at]
            .as_ref()
            .map_or(String::new(), |l| format!(", {name}: {l:?}"))
    };
    let mut bound = format!(
        "\"Z\": (unit: \"array2d\"{}{}, loops: {own:?}{partials}), ",
        lane(0, "rows"),
        lane(1, "columns")
    );
    if pair {
        let below = dice.one_in(2);
        // A row of PEs walks in time what lies across rows.
        let of_n = |l: &String| l.starts_with('n');
        let mut rows_lane = lane(0, "rows");
        let mut columns_lane = lane(1, "columns");
        let walked = |lane: &Option<String>| lane.clone().filter(|l| !l.starts_with('k'));
        if lanes[0].as_ref().is_some_and(|l| l.starts_with('k')) {
            rows_lane.clear();
        } else if below && let Some(lane) = walked(&lanes[0]) {
            second_parts[usize::from(of_n(&lane))].push(lane);
            rows_lane.clear();
        }
        if lanes[1].as_ref().is_some_and(|l| l.starts_with('k')) {
            columns_lane.clear();
        }
        let loops = interleaved(dice, second_parts);
        let unit = if below { "array1d" } else { "array2d" };
        let _ = write!(
            bound,
            "\"Y\": (unit: {unit:?}{rows_lane}{columns_lane}, loops: {loops:?})"
        );
    }
    let skip = if kind == Kind::Condition {
        format!("skip_empty: {},", dice.one_in(2))
    } else {
        String::new()
    };
    let phases = if kind == Kind::Pipeline {
        let order = dice.of(&[["Z", "Y"], ["Y", "Z"], ["Y", "Z"]]);
        let drains = if shared.is_empty() || dice.one_in(2) {
            String::new()
        } else {
            format!(", drains_at: {:?}", dice.of(&shared))
        };
        let ahead = if order[0] == "Y" {
            1 + dice.below(2)
        } else {
            dice.below(2)
        };
        format!(
            "phases: [(name: \"one\", einsums: [{:?}], drain: {}), (name: \"two\", einsums: [{:?}], drain: {})], pipeline: (offsets: {{ \"Z\": {ahead} }}{drains}),",
            order[0],
            dice.below(4),
            order[1],
            dice.below(4)
        )
    } else {
        String::new()
    };
    let mapping = format!(
        r#"(name: "case", source: "assumed", workload: "test", sizes: {{ {part_sizes} }}, splits: {{ {splits} }},
        blocks: [(name: "b", loops: {shared:?}, keep: {{ {keep} }}, {skip} einsums: {{ {bound} }}, {phases})])"#,
    );
    let given: BTreeMap<String, u64> = sizes
        .iter()
        .filter(|(n, _)| *n != "P" || shape.extra.is_empty())
        .map(|(n, s)| (n.clone(), *s))
        .collect();
    build(&cascade, &chip, &mapping, &given)
}

fn part_of(name: &str, rank: &str) -> bool {
    name.split('x').next() == Some(&rank.to_lowercase())
}

/// One random order that keeps each list's own.
fn interleaved(dice: &mut Dice, mut lists: Vec<Vec<String>>) -> Vec<String> {
    let mut out = Vec::new();
    lists.retain(|l| !l.is_empty());
    while !lists.is_empty() {
        let at = dice.below(lists.len() as u64) as usize;
        out.push(lists[at].remove(0));
        lists.retain(|l| !l.is_empty());
    }
    out
}

pub fn build(cascade: &str, chip: &str, mapping: &str, sizes: &BTreeMap<String, u64>) -> Generated {
    let text = format!("{cascade}\n{chip}\n{mapping}\n{sizes:?}");
    let cascade = Arc::new(
        Cascade::parse(&Source::new("cascade.ron", cascade.to_string()))
            .unwrap_or_else(|e| panic!("{e:?}\n{text}")),
    );
    let chip = Arc::new(
        Accelerator::parse(&Source::new("chip.ron", chip.to_string()))
            .unwrap_or_else(|e| panic!("{e:?}\n{text}")),
    );
    let spec = MappingSpec::parse(&Source::new("case.ron", mapping.to_string()), None)
        .unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let mapped = bind(&cascade, &chip, &Arc::new(spec), sizes).map_err(|problems| {
        problems
            .iter()
            .map(|p| p.message.clone())
            .collect::<Vec<_>>()
            .join("; ")
    });
    Generated { text, mapped }
}
