//! Programs for the naive simulator and the engines alike, and what they must agree in.

mod by_hand;
mod compare;
mod generate;

use std::collections::BTreeMap;

use compare::{Outcome, compare};
use generate::{Kind, program};

/// Runs so many programs of a kind: how many agreed, waited for themselves on all, or were refused.
fn agree(kind: Kind, programs: u64) -> BTreeMap<&'static str, u64> {
    let mut found: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut bad = Vec::new();
    let wanted = std::env::var("NAIVE_SEED")
        .ok()
        .and_then(|s| s.parse::<u64>().ok());
    let seeds = wanted.map_or(0..programs, |s| s..s + 1);
    for seed in seeds {
        let program = program(kind, seed);
        let outcome = match &program.mapped {
            Err(reason) => {
                if wanted.is_some() {
                    println!("{}\n{reason}", program.text);
                }
                Outcome::Refused
            }
            Ok(mapped) => compare(mapped),
        };
        let name = match outcome {
            Outcome::Agreed(jumped) => {
                if jumped {
                    *found.entry("agreed with a jump").or_insert(0) += 1;
                }
                "agreed"
            }
            Outcome::Deadlock => "waits for itself",
            Outcome::Refused => "refused",
            Outcome::Large => "too large",
            Outcome::Differs(ref text) => {
                bad.push(format!("{kind:?} seed {seed}: {text}"));
                if bad.len() <= 3 {
                    println!(
                        "{kind:?} seed {seed}\n{}\n{}",
                        program.text,
                        bad.last().unwrap()
                    );
                }
                "differs"
            }
        };
        *found.entry(name).or_insert(0) += 1;
    }
    println!("{kind:?}: {found:?}");
    assert!(
        bad.is_empty(),
        "{} programs differ, the first: {}",
        bad.len(),
        bad[0]
    );
    found
}

#[test]
fn one_einsum() {
    let found = agree(Kind::Single, 2100);
    assert!(found.get("agreed").is_some_and(|n| *n >= 1700), "{found:?}");
}

#[test]
fn conditions() {
    let found = agree(Kind::Condition, 1100);
    assert!(found.get("agreed").is_some_and(|n| *n >= 900), "{found:?}");
}

#[test]
fn two_memories_deep() {
    let found = agree(Kind::Deep, 1000);
    assert!(found.get("agreed").is_some_and(|n| *n >= 800), "{found:?}");
}

#[test]
fn two_einsums() {
    let found = agree(Kind::Pair, 1100);
    assert!(found.get("agreed").is_some_and(|n| *n >= 900), "{found:?}");
}

#[test]
fn pipelines() {
    let found = agree(Kind::Pipeline, 1100);
    assert!(found.get("agreed").is_some_and(|n| *n >= 850), "{found:?}");
}

#[test]
fn recurrences() {
    let found = agree(Kind::Recurrence, 1100);
    assert!(found.get("agreed").is_some_and(|n| *n >= 900), "{found:?}");
}
