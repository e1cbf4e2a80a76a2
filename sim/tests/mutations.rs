//! No file makes the reader panic or hang: mappings, accelerators, run files and experiments, damaged at random; mappings
//! that are still read are laid on an accelerator at small sizes and counted.
//!
//! 10^5 inputs by default; `EINFLOW_MUTATIONS=1000000 cargo test -p einflow --test mutations` tries as many as it says. The
//! variable changes the effort of this test only.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use einflow::{
    runs::{RunFile, runs},
    sweep::{SweepFile, Watch, run, sweeps},
    validate::{experiments, parse_experiment},
};
use einflow_arch::{
    Accelerator, accelerators,
    device::{Device, DeviceLink, devices, links},
};
use einflow_engine::analytic;
use einflow_mappings::{bind, mappings, spec::MappingSpec};
use einflow_serving::device::table::Table;
use einflow_spec::{Library, Node, Problems, Source, check_sources};
use einflow_workloads::{cascade::Cascade, cascades};

/// xorshift64*: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound.max(1)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// Texts that mean something to a reader.
const PIECES: [&str; 56] = [
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "\"",
    ",",
    ":",
    "//",
    "/*",
    "r#\"",
    "0",
    "1",
    "2",
    "3",
    "7",
    "256",
    "-1",
    "1e9",
    "1e999",
    "18446744073709551615",
    "340282366920938463463374607431768211456",
    "0x10",
    "0.5",
    "inf",
    "NaN",
    "true",
    "false",
    "None",
    "Some(1)",
    "()",
    "\"\"",
    "\"1 / 0\"",
    "\"M0 * M0 * M0\"",
    "\"P1\"",
    "\"-1\"",
    "\"ceil(P / 3)\"",
    "\"table.P1\"",
    "\"searched\"",
    "searched",
    "largest_that_fits",
    "largest_divisor_that_fits",
    "through",
    "row",
    "unbounded",
    "\"16 MiB\"",
    "\"buffer\"",
    "\"dram\"",
    "\"array1d\"",
    "\"p0\"",
    "\"m1\"",
    "\"M\"",
    "\n",
    "\u{1f980}",
    "é",
];

fn place(random: &mut Random, text: &str) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Names, numbers and strings of a text.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let from = at;
        if bytes[at] == b'"' {
            at += 1 + text[at + 1..]
                .find('"')
                .map_or(text.len() - at - 1, |i| i + 1);
            found.push((from, at));
        } else if bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' {
            while at < bytes.len()
                && (bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'_' | b'.'))
            {
                at += 1;
            }
            found.push((from, at));
        } else {
            at += 1;
        }
    }
    found
}

fn mutate(random: &mut Random, text: &mut String, other: &str) {
    match random.below(10) {
        0 => {
            let at = place(random, text);
            text.insert_str(at, random.of(&PIECES));
        }
        1 => {
            let from = place(random, text);
            let mut to = (from + random.below(16)).min(text.len());
            while !text.is_char_boundary(to) {
                to -= 1;
            }
            text.replace_range(from..to.max(from), "");
        }
        2 => {
            let at = place(random, text);
            text.truncate(at);
        }
        3..=5 => {
            let from = if random.below(4) == 0 {
                other.to_owned()
            } else {
                text.clone()
            };
            let (targets, sources) = (tokens(text), tokens(&from));
            if !targets.is_empty() && !sources.is_empty() {
                let (a, b) = targets[random.below(targets.len())];
                let (c, d) = sources[random.below(sources.len())];
                text.replace_range(a..b, &from[c..d]);
            }
        }
        6 | 7 => {
            let found = tokens(text);
            if !found.is_empty() {
                let (a, b) = found[random.below(found.len())];
                text.replace_range(a..b, random.of(&PIECES));
            }
        }
        // A line less, or one of this or another file once more.
        8 => {
            let mut lines: Vec<&str> = text.lines().collect();
            if !lines.is_empty() {
                lines.remove(random.below(lines.len()));
            }
            *text = lines.join("\n");
        }
        _ => {
            let from: Vec<&str> = if random.below(2) == 0 {
                other.lines().collect()
            } else {
                text.lines().collect()
            };
            let line = format!(
                "{}\n",
                from.get(random.below(from.len())).copied().unwrap_or("")
            );
            let at = text[..place(random, text)].rfind('\n').map_or(0, |i| i + 1);
            text.insert_str(at, &line);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mapping,
    Accelerator,
    Run,
    Sweep,
    Experiment,
    Device,
    Link,
    Measured,
}

/// Stops a sweep before its first chunk.
struct Nobody;

impl Watch for Nobody {
    fn done(&self, _: u64) {}

    fn stop(&self) -> bool {
        true
    }
}

/// Rows of tables of measurements.
const MEASURED: [&str; 4] = [
    "m,k,n,us\n1,4096,4096,17.5\n2,4096,4096,18.9\n",
    "backend,b,h,hkv,d,l,us\nflash,1,32,8,128,256,13.6\n",
    "model,phase,b,s,us_eager,us_graph\nllama3-8b,decode,1,512,209.1,166.2\n",
    "op,params,us_per_call,joule_per_call,mean_watt\ngemm,m=64;k=8192;n=8192,39.1,0.0298,762.8\n",
];

struct Inputs {
    files: Vec<(Kind, String)>,
    cascades: BTreeMap<String, Arc<Cascade>>,
    chips: Vec<Arc<Accelerator>>,
}

impl Inputs {
    fn new() -> Self {
        let mut files = Vec::new();
        let libraries: [(Kind, &Library); 7] = [
            (Kind::Mapping, mappings()),
            (Kind::Accelerator, accelerators()),
            (Kind::Run, runs()),
            (Kind::Sweep, sweeps()),
            (Kind::Experiment, experiments()),
            (Kind::Device, devices()),
            (Kind::Link, links()),
        ];
        for (kind, library) in libraries {
            for name in library.names() {
                let text = library.get(name).unwrap().text().to_owned();
                // Mappings hold the most rules: as many inputs as of the rest together.
                for _ in 0..if kind == Kind::Mapping { 2 } else { 1 } {
                    files.push((kind, text.clone()));
                }
            }
        }
        for table in MEASURED {
            files.push((Kind::Measured, table.to_string()));
        }
        let parse = |name: &str| Arc::new(Cascade::parse(&cascades().get(name).unwrap()).unwrap());
        let cascades = cascades()
            .names()
            .map(|n| (n.to_string(), parse(n)))
            .collect();
        let chips = ["fusemax", "flat"]
            .map(|n| Arc::new(Accelerator::parse(&accelerators().get(n).unwrap()).unwrap()));
        Self {
            files,
            cascades,
            chips: chips.to_vec(),
        }
    }

    /// What a program does with a file; true where it is good.
    fn exercise(&self, kind: Kind, text: String, number: usize) -> bool {
        let source = Source::new("mutated.ron", text);
        if number.is_multiple_of(16)
            && let Ok(node) = Node::parse(&source)
        {
            let _ = check_sources(&node).to_string();
        }
        let good = match kind {
            Kind::Mapping => MappingSpec::parse(&source, None).map(|spec| self.lay(spec, number)),
            Kind::Accelerator => Accelerator::parse(&source).map(|chip| {
                let _ = chip.area().total();
                for path in chip.override_paths().iter().take(4) {
                    let _ = chip.with_override(path, 3.0).map_err(|p| p.to_string());
                }
            }),
            Kind::Run => RunFile::parse(&source, None).map(|_| ()),
            Kind::Sweep => SweepFile::parse(&source, None).and_then(|sweep| {
                let _ = (sweep.points(), sweep.front(), sweep.varying().len());
                if number.is_multiple_of(64) {
                    // Up to the first point: names and paths.
                    let folder = tempfile::tempdir().unwrap();
                    run(&sweep, folder.path(), &Nobody)?;
                }
                Ok(())
            }),
            Kind::Experiment => parse_experiment(&source),
            Kind::Device => Device::parse(&source).map(|_| ()),
            Kind::Link => DeviceLink::parse(&source).map(|_| ()),
            Kind::Measured => Table::read(&source, None).map(|_| ()),
        };
        match good {
            Ok(()) => true,
            Err(problems) => {
                said(&problems, number);
                false
            }
        }
    }

    /// Lays a mapping on an accelerator at small sizes, and counts.
    fn lay(&self, spec: MappingSpec, number: usize) {
        let Some(cascade) = self.cascades.get(&spec.workload.text) else {
            return;
        };
        let chip =
            &self.chips[usize::from(spec.accelerator.as_ref().is_some_and(|a| a.text == "flat"))];
        // The sizes of a row of FLAT's table where there is one; else a few tiles and a partial one.
        let sizes = match spec.table {
            Some(_) => [
                ("B", 2),
                ("H", 12),
                ("M", 1024),
                ("P", 1024),
                ("E", 64),
                ("F", 64),
                ("D", 768),
                ("S", 3072),
            ],
            None => [
                ("B", 2),
                ("H", 3),
                ("M", 700),
                ("P", 600),
                ("E", 8),
                ("F", 4),
                ("D", 24),
                ("S", 40),
            ],
        };
        let given = sizes.map(|(name, size)| (name.to_string(), size)).into();
        match bind(cascade, chip, &Arc::new(spec), &given) {
            Ok(mapped) if number.is_multiple_of(4) => {
                let _ = analytic::evaluate(&mapped)
                    .map(|report| report.to_json())
                    .map_err(|e| e.to_string());
            }
            Ok(_) => {}
            Err(problems) => said(&problems, number),
        }
    }
}

fn said(problems: &Problems, number: usize) {
    assert!(!problems.is_empty(), "refused without a reason");
    assert!(!problems.to_string().is_empty());
    // Quoting the lines takes longer than finding the mistakes.
    assert!(!number.is_multiple_of(4) || !einflow::cli::render_problems(problems).is_empty());
}

/// One input, the same for the same number whatever the thread.
fn one(number: usize, inputs: &Inputs) -> (Kind, bool, Duration) {
    let mut random = Random((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (kind, text) = &inputs.files[random.below(inputs.files.len())];
    let mut text = text.clone();
    let other = inputs.files[random.below(inputs.files.len())].1.clone();
    for _ in 0..=random.below(4) {
        mutate(&mut random, &mut text, &other);
    }
    let begin = Instant::now();
    let good = inputs.exercise(*kind, text, number);
    (*kind, good, begin.elapsed())
}

#[test]
fn damaged_files_never_panic() {
    let count: usize = std::env::var("EINFLOW_MUTATIONS")
        .ok()
        .map_or(100_000, |n| n.parse().unwrap());
    let inputs = Inputs::new();
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(count.max(1));
    let results: Vec<(usize, Kind, bool, Duration)> = std::thread::scope(|scope| {
        let inputs = &inputs;
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    (worker..count)
                        .step_by(workers)
                        .map(|i| {
                            let (kind, good, time) = one(i, inputs);
                            (i, kind, good, time)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    });
    let slowest = results.iter().max_by_key(|r| r.3).unwrap();
    println!("slowest: input {} in {:?}", slowest.0, slowest.3);
    // A milliseconds' work each, on a machine that may be busy; an unbounded search or enumeration takes minutes.
    assert!(
        slowest.3 < Duration::from_secs(5),
        "input {} took {:?}",
        slowest.0,
        slowest.3
    );
    // Both sides of every reader are reached.
    for kind in [
        Kind::Mapping,
        Kind::Accelerator,
        Kind::Run,
        Kind::Sweep,
        Kind::Experiment,
    ] {
        let (all, good) = results
            .iter()
            .filter(|r| r.1 == kind)
            .fold((0, 0), |(a, g), r| (a + 1, g + usize::from(r.2)));
        let time: Duration = results.iter().filter(|r| r.1 == kind).map(|r| r.3).sum();
        println!("{kind:?}: {all} inputs, {good} good, {time:?}");
        assert!(
            good * 50 > all && good * 3 < all * 2,
            "{good} of {all} are good"
        );
    }
}

/// Sizes that no length reaches, and texts that nest or repeat.
#[test]
fn hostile_mappings_end_soon() {
    let inputs = Inputs::new();
    let binding = mappings()
        .get("fusemax-binding")
        .unwrap()
        .text()
        .to_string();
    let ffn = mappings().get("ffn").unwrap().text().to_string();
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
    let texts = [
        binding.replace("\"array2d.rows\",", &format!("\"{}\",", deep("(", ")"))),
        binding.replace("\"array2d.rows\",", &format!("\"1{}\",", "+1".repeat(50_000))),
        binding.replace("\"array2d.rows\",", "\"18446744073709551615\","),
        binding.replace("\"P1\": largest_divisor_that_fits", "\"P1\": 18446744073709551615"),
        binding.replace("\"P\": [\"P2\", \"P1\", \"P0\"]", "\"P\": [\"P2\", \"P1\", \"P0\", \"P1\", \"P0\", \"P1\"]"),
        binding.replace("\"BQK\": 3", "\"BQK\": 18446744073709551615"),
        binding.replace("drain", "drainn").replace("loops: [", &format!("loops: [{}", "\"b\", ".repeat(10_000))),
        ffn.replace("searched_loops: [\"b1\", \"p2\", \"s2\"]", "searched_loops: [\"b1\", \"p2\", \"s2\", \"b0\", \"p1\", \"s1\", \"d\", \"b1\", \"p2\", \"s2\", \"b1\", \"p2\", \"s2\"]"),
        ffn.replace("\"P1\": largest_that_fits", "\"P1\": searched").replace("\"B0\": largest_that_fits", "\"B0\": searched"),
        format!("{}{}", "(blocks: [".repeat(2000), "])".repeat(2000)),
        deep("[", "]"),
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let begin = Instant::now();
        inputs.exercise(Kind::Mapping, text, 4 * number);
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "text {number} took {:?}",
            begin.elapsed()
        );
    }
}
