//! The analytic engine against an oracle that walks every block point by point: equal for every memory,
//! tensor and action, for every Einsum's steps and points, and for the time of the phases.

#![allow(clippy::unwrap_used)]

#[path = "oracle/bindings.rs"]
mod bindings;
#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/chips.rs"]
mod chips;
#[path = "oracle/index.rs"]
mod index;
#[path = "oracle/moves.rs"]
mod moves;
#[path = "oracle/tiles.rs"]
mod tiles;
#[path = "oracle/walk.rs"]
mod walk;
#[path = "oracle/work.rs"]
mod work;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    sync::Arc,
};

use cases::{Draws, case};
use einflow_arch::{Accelerator, accelerators};
use einflow_engine::analytic::{Counts, count};
use einflow_mappings::{bind, count::Count, mapped::MappedCascade, mappings, spec::MappingSpec};
use einflow_spec::Source;
use einflow_workloads::{
    cascade::{Cascade, TensorId, TensorKind},
    cascades,
};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use walk::{Exact, Walk, Walked};
use work::needed;

fn same(counted: Count, walked: Exact) -> bool {
    Count::ratio(walked.numer().unsigned_abs(), walked.denom().unsigned_abs()) == Some(counted)
}

/// Everything in which the two differ.
fn differences(mapped: &MappedCascade, counts: &Counts) -> Vec<String> {
    let mut out = Vec::new();
    for (t, tensor) in mapped.cascade.tensors.iter().enumerate() {
        if matches!(tensor.kind, TensorKind::Input | TensorKind::Output) {
            let (counted, walked) = (mapped.needed(TensorId(t)), needed(mapped, TensorId(t)));
            if counted != walked {
                out.push(format!(
                    "{}: {counted} words needed, {walked} walked",
                    tensor.name
                ));
            }
        }
    }
    for (b, block) in mapped.blocks.iter().enumerate() {
        let walked: Walked = Walk::block(mapped, b);
        for (m, memory) in mapped.accelerator.memories.iter().enumerate() {
            for (t, tensor) in mapped.cascade.tensors.iter().enumerate() {
                let counted = counts.block_traffic[b].get(m, t);
                let (reads, writes) = walked.accesses.get(&(m, t)).copied().unwrap_or_default();
                for (action, counted, walked) in [
                    ("reads", counted.reads, reads),
                    ("writes", counted.writes, writes),
                ] {
                    if !same(counted, walked) {
                        let counted = counted.as_f64();
                        out.push(format!(
                            "{} {} {} {action}: {counted} counted, {walked} walked",
                            block.name, memory.name, tensor.name
                        ));
                    }
                }
            }
        }
        for (n, nest) in block.nests.iter().enumerate() {
            for (e, einsum) in nest.einsums.iter().enumerate() {
                let cycles = walked.cycles[n][e];
                if cycles != counts.cycles[b].einsums[n][e] {
                    out.push(format!(
                        "{} cycles: {} counted, {cycles} walked",
                        einsum.name, counts.cycles[b].einsums[n][e]
                    ));
                }
                let lanes = mapped.accelerator.arrays[einsum.unit].pes();
                if counts.points[b][n][e] > walked.steps[n][e] * lanes {
                    out.push(format!("{} works more than its array can", einsum.name));
                }
                if walked.points[n][e] != counts.points[b][n][e] {
                    let (counted, walked) = (counts.points[b][n][e], walked.points[n][e]);
                    out.push(format!(
                        "{} points: {counted} counted, {walked} walked",
                        einsum.name
                    ));
                }
            }
        }
        let c = &counts.cycles[b];
        if (c.tiles, c.compute, c.drain) != (walked.tiles, walked.compute, walked.drain) {
            out.push(format!(
                "tiles, compute, drain: {:?} counted, {:?} walked",
                (c.tiles, c.compute, c.drain),
                (walked.tiles, walked.compute, walked.drain)
            ));
        }
    }
    out
}

/// What the mappings must show often enough for the comparison to mean something.
const SHOWN: [&str; 14] = [
    "share: 0.5, spills: around",
    "share: 0.5, spills: through",
    "partials: ",
    "from: { \"K\": \"shared\"",
    "at_exit_of: ",
    "skip_empty: true",
    "phases: ",
    "drain: 2",
    "(memory: \"array2d\", below: ",
    "\"RM\": [(memory: \"buffer\"), (memory: \"array2d\"",
    "\"b1\"",
    "(memory: \"shared\", below: ",
    "workload: \"test/convolution\"",
    "workload: \"attention/grouped-query\"",
];

/// Random mappings from one seed; `ORACLE_CASES` asks for more of them than a test run takes.
fn random(seed: u8) {
    let wanted = std::env::var("ORACLE_CASES")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(2000u32);
    let (compared, shown) = (Cell::new(0u32), RefCell::new([0u32; SHOWN.len()]));
    let refused = RefCell::new(BTreeMap::<String, u32>::new());
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: wanted,
            failure_persistence: None,
            max_shrink_iters: 4000,
            ..Config::default()
        },
        TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]),
    );
    let draws = proptest::collection::vec(proptest::num::u16::ANY, 300);
    let result = runner.run(&draws, |draws| {
        let Some(case) = case(&mut Draws::new(&draws)) else {
            return Ok(());
        };
        let bound = bind(&case.cascade, &case.accelerator, &case.spec, &case.sizes);
        let counted = bound.map_err(|e| {
            e.iter()
                .map(|p| p.message.clone())
                .collect::<Vec<_>>()
                .join("; ")
        });
        let counted = counted.and_then(|m| count(&m).map(|c| (m, c)).map_err(|e| e.to_string()));
        let (mapped, counts) = match counted {
            Ok(counted) => counted,
            Err(reason) => {
                *refused.borrow_mut().entry(reason).or_insert(0) += 1;
                return Ok(());
            }
        };
        compared.set(compared.get() + 1);
        for (times, what) in shown.borrow_mut().iter_mut().zip(SHOWN) {
            *times += u32::from(case.text.contains(what));
        }
        let found = differences(&mapped, &counts);
        let message = || format!("{}\n{}\n{:?}", found.join("\n"), case.text, case.sizes);
        if found.is_empty() {
            Ok(())
        } else {
            Err(TestCaseError::fail(message()))
        }
    });
    if let Err(problem) = result {
        panic!("{problem}");
    }
    assert!(
        compared.get() * 20 > wanted * 19,
        "{} of {wanted} compared, refused: {:#?}",
        compared.get(),
        refused.borrow()
    );
    for (times, what) in shown.borrow().iter().zip(SHOWN) {
        assert!(
            *times * 200 > wanted,
            "{what} in {times} of {wanted} mappings"
        );
    }
}

#[test]
fn random_mappings() {
    random(1);
}

#[test]
fn more_random_mappings() {
    random(2);
}

/// A shipped mapping at sizes that the oracle can walk, under both accountings.
fn miniature(name: &str, beside: Option<&Path>, buffer: f64, sizes: &[(&str, u64)]) {
    let (source, _) = mappings().find(name, None).unwrap();
    let spec = Arc::new(MappingSpec::parse(&source, beside).unwrap());
    let cascade = cascades().find(&spec.workload.text, None).unwrap().0;
    let cascade = Arc::new(Cascade::parse(&cascade).unwrap());
    let sizes: BTreeMap<String, u64> = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    for chip in [spec.accelerator.as_ref(), spec.published.as_ref()] {
        let found = accelerators().find(&chip.unwrap().text, None).unwrap().0;
        let mut accelerator = Accelerator::parse(&found).unwrap();
        for (path, value) in [
            ("array2d.rows", 4.0),
            ("array2d.columns", 4.0),
            ("array1d.columns", 4.0),
            ("buffer.row", 8.0),
            ("buffer.capacity", buffer),
        ] {
            accelerator = accelerator.with_override(path, value).unwrap();
        }
        let mapped = bind(&cascade, &Arc::new(accelerator), &spec, &sizes)
            .unwrap_or_else(|e| panic!("{name} {sizes:?}: {e:#?}"));
        let found = differences(&mapped, &count(&mapped).unwrap());
        assert!(found.is_empty(), "{name} {sizes:?}:\n{}", found.join("\n"));
    }
}

const ATTENTION: [[(&str, u64); 6]; 4] = [
    [("B", 2), ("H", 2), ("E", 3), ("F", 2), ("M", 8), ("P", 8)],
    [("B", 1), ("H", 2), ("E", 4), ("F", 4), ("M", 10), ("P", 19)],
    [("B", 2), ("H", 1), ("E", 5), ("F", 6), ("M", 21), ("P", 9)],
    [("B", 1), ("H", 3), ("E", 2), ("F", 3), ("M", 3), ("P", 2)],
];

#[test]
fn shipped_mappings_in_miniature() {
    for sizes in &ATTENTION {
        for buffer in [1536.0, 4096.0] {
            for name in [
                "unfused",
                "fusemax-cascade",
                "fusemax-cascade-chained",
                "fusemax-architecture",
                "fusemax-binding",
                "fusemax-binding-double",
                "fusemax-binding-run-on",
                "fusemax-causal",
            ] {
                miniature(name, None, buffer, sizes);
            }
        }
    }
    for sizes in [[2, 6, 9, 2, 3, 3, 5], [3, 8, 4, 1, 5, 4, 11]] {
        let names = ["B", "D", "P", "H", "E", "F", "S"];
        let sizes: Vec<(&str, u64)> = names.into_iter().zip(sizes).collect();
        miniature("projections", None, 512.0, &sizes);
        miniature("ffn", None, 512.0, &sizes);
    }
}

/// FLAT takes its choices from a table: one of ours, beside its mapping.
#[test]
fn flat_in_miniature() {
    const COLUMNS: &str = "E,F,H,M,P,Q_loc,K_loc,QK_loc,A_loc,V_loc,AV_loc,QK_stationarity,AV_stationarity,fusion_granularity,P1,proportion_buffered";
    let rows = [
        "offchip,offchip,onchip,onchip,offchip,offchip,output,output,head,4,1",
        "offchip,offchip,onchip,onchip,offchip,offchip,output,output,row,8,0.75",
        "onchip,offchip,offchip,offchip,offchip,onchip,weight,weight,row,4,1",
        "onchip,onchip,onchip,onchip,onchip,onchip,input,weight,row,8,0.5",
        "offchip,onchip,onchip,onchip,onchip,onchip,weight,input,head,4,0.25",
    ];
    for row in rows {
        for sizes in &ATTENTION {
            let folder = tempfile::tempdir().unwrap();
            let own: Vec<String> = sizes[1..].iter().map(|(_, s)| s.to_string()).collect();
            // B is no key; the keys are H, E, F, M, P in this order there.
            let [h, e, f, m, p] = own.try_into().unwrap();
            let text = format!("{COLUMNS}\n{e},{f},{h},{m},{p},{row}\n");
            std::fs::write(folder.path().join("flat-choices.csv"), text).unwrap();
            miniature("flat", Some(folder.path()), 65536.0, sizes);
        }
    }
}

/// A grid's neighbourhoods: conditions on rows and columns of a rank, skipped by tiles and counted by intervals.
#[test]
fn neighbourhoods_of_a_grid() {
    const CASCADE: &str = r##"(name: "grid", source: "assumed", description: "for tests", inputs: ["Q[e, p]", "K[e, m]"], outputs: ["S[m, p]"],
        parameters: { "WIDTH": 4, "RADIUS": 1 },
        einsums: r#"S[m, p] = Q[e, p] * K[e, m]
            where abs(p / WIDTH - m / WIDTH) <= RADIUS, abs(p % WIDTH - m % WIDTH) < RADIUS + 1"#)"##;
    const MAPPING: &str = r#"(name: "grid", source: "assumed", workload: "grid", sizes: { "P0": 4, "M0": 4 },
        splits: { "P": ["P1", "P0"], "M": ["M1", "M0"] },
        blocks: [(name: "all", skip_empty: true, loops: ["p1", "m1"],
            keep: { "K": [(memory: "buffer", below: "m1")] },
            einsums: { "S": (unit: "array2d", rows: "m0", columns: "p0", loops: ["e"]) })])"#;
    let cascade = Arc::new(Cascade::parse(&Source::new("grid-cascade.ron", CASCADE)).unwrap());
    let spec = Arc::new(MappingSpec::parse(&Source::new("grid.ron", MAPPING), None).unwrap());
    let found = accelerators().find("fusemax", None).unwrap().0;
    let accelerator = Arc::new(Accelerator::parse(&found).unwrap());
    let of = |length: u64, width: u64| {
        let sizes = [("E", 2), ("P", length), ("M", length), ("WIDTH", width)];
        let sizes = sizes.map(|(n, s)| (n.to_string(), s)).into();
        count(&bind(&cascade, &accelerator, &spec, &sizes).unwrap()).unwrap()
    };
    // Of 4 x 4 rows and columns, 10 pairs each are neighbours; a row of the grid is a tile.
    let counts = of(16, 4);
    assert_eq!(counts.points[0][0][0], 2 * 10 * 10);
    assert_eq!(counts.cycles[0].tiles, 10);
    // 32 rows of 32: 3 * 32 - 2 pairs each.
    assert_eq!(of(1024, 32).points[0][0][0], 2 * 94 * 94);
}
