//! The analytic engine against an oracle that walks every block point by point: equal for every memory,
//! tensor and action, for every Einsum's steps and points, and for the time of the phases.

#![allow(clippy::unwrap_used)]

#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/chips.rs"]
mod chips;
#[path = "oracle/index.rs"]
mod index;
#[path = "oracle/walk.rs"]
mod walk;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cases::{Draws, case};
use einflow::analytic::{Counts, count};
use einflow_mappings::{bind, count::Count, mapped::MappedCascade};
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
