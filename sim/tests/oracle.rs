//! The analytic engine against an oracle that walks every block point by point: equal for every memory,
//! tensor and action, for every Einsum's steps and points, and for the time of the phases.

#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/chips.rs"]
mod chips;
#[path = "oracle/index.rs"]
mod index;
#[path = "oracle/walk.rs"]
mod walk;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    sync::Arc,
};

use cases::{Draws, case};
use einflow::analytic::{Counts, count};
use einflow_arch::{Accelerator, accelerators};
use einflow_mappings::{bind, count::Count, mapped::MappedCascade, mappings, spec::MappingSpec};
use einflow_workloads::{cascade::Cascade, cascades};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use walk::{Exact, Walk, Walked};

fn same(counted: Count, walked: Exact) -> bool {
    Count::ratio(walked.numer().unsigned_abs(), walked.denom().unsigned_abs()) == Some(counted)
}

/// Everything in which the two differ.
fn differences(mapped: &MappedCascade, counts: &Counts) -> Vec<String> {
    let mut out = Vec::new();
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
                let cycles = walked.steps[n][e] * u128::from(einsum.cycles);
                if cycles != counts.cycles[b].einsums[n][e] {
                    out.push(format!(
                        "{} cycles: {} counted, {cycles} walked",
                        einsum.name, counts.cycles[b].einsums[n][e]
                    ));
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

#[test]
fn random_mappings() {
    let wanted: u32 = std::env::var("ORACLE_CASES")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(4000);
    let (compared, refused) = (
        Cell::new(0u32),
        RefCell::new(BTreeMap::<String, u32>::new()),
    );
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: wanted,
            failure_persistence: None,
            max_shrink_iters: 4000,
            ..Config::default()
        },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let survey = std::env::var("ORACLE_SURVEY").is_ok();
    let kinds = RefCell::new(BTreeMap::<String, (u32, String)>::new());
    let result = runner.run(
        &proptest::collection::vec(proptest::num::u16::ANY, 200),
        |draws| {
            let Some(case) = case(&mut Draws::new(&draws)) else {
                return Ok(());
            };
            let mapped = match bind(&case.cascade, &case.accelerator, &case.spec, &case.sizes) {
                Ok(mapped) => mapped,
                Err(problems) => {
                    for p in problems.iter().take(1) {
                        *refused
                            .borrow_mut()
                            .entry(format!("{} {}", case.cascade.name, p.message))
                            .or_insert(0) += 1;
                    }
                    return Ok(());
                }
            };
            let counts = match count(&mapped) {
                Ok(counts) => counts,
                Err(problem) => {
                    *refused
                        .borrow_mut()
                        .entry(format!("{} {problem}", case.cascade.name))
                        .or_insert(0) += 1;
                    return Ok(());
                }
            };
            compared.set(compared.get() + 1);
            let found = differences(&mapped, &counts);
            if found.is_empty() {
                return Ok(());
            }
            let message = format!("{}\n{}\n{:?}", found.join("\n"), case.text, case.sizes);
            if survey {
                let key = format!(
                    "{} {}",
                    case.cascade.name,
                    found[0].split(':').next().unwrap_or("")
                );
                let mut kinds = kinds.borrow_mut();
                let entry = kinds.entry(key).or_insert((0, message.clone()));
                entry.0 += 1;
                if message.len() < entry.1.len() {
                    entry.1 = message;
                }
                return Ok(());
            }
            Err(TestCaseError::fail(message))
        },
    );
    if survey {
        for (key, (count, message)) in kinds.borrow().iter() {
            println!("## {count} x {key}\n{message}\n");
        }
        println!(
            "compared {} refused {:#?}",
            compared.get(),
            refused.borrow()
        );
    }
    if let Err(problem) = result {
        panic!("{problem}");
    }
    assert!(
        compared.get() * 10 > wanted * 8,
        "{} of {wanted} compared, refused: {:#?}",
        compared.get(),
        refused.borrow()
    );
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
