//! The Timeloop cases, and what is said about files that are none.

#![allow(clippy::unwrap_used)]

use einflow::validate::timeloop::{Quantity, check_cases};

const CASES: &str = include_str!("../../validation/data/timeloop/cases.jsonl");

#[test]
fn every_count_of_every_case_is_equal() {
    let cases = check_cases("cases.jsonl", CASES).unwrap();
    assert_eq!(cases.len(), CASES.lines().count());
    for case in &cases {
        let differing: Vec<String> = case.mismatches().map(ToString::to_string).collect();
        assert!(
            differing.is_empty(),
            "{} (line {}): {differing:#?}",
            case.id,
            case.line
        );
        // Counts of each level and tensor, instances, cycles, multiplications, utilization.
        assert!(case.values.len() > 3 * 2 * 3 + 3);
    }
}

#[test]
fn a_wrong_count_is_found() {
    let line = CASES.lines().next().unwrap();
    let wrong = line
        .replacen("\"reads\":11520,", "\"reads\":11521,", 1)
        .replace("\"cycles\":7200", "\"cycles\":7201");
    let cases = check_cases("cases.jsonl", &wrong).unwrap();
    let found: Vec<String> = cases[0].mismatches().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "DRAM A reads: expected 11521, found 11520",
            "cycles: expected 7201, found 7200"
        ]
    );
    assert_eq!(
        cases[0].mismatches().next().unwrap().expected,
        Quantity::Count(11521)
    );
}

fn problems(text: &str) -> Vec<String> {
    let problems = check_cases("mine.jsonl", text).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn malformed_lines_name_the_line_and_the_field() {
    let good = CASES.lines().next().unwrap();
    let edits = [
        (
            "\"k\":16}",
            "\"k\":-16}",
            "mine.jsonl:2:1: `sizes.k` is -16 (a whole number of 1 or more is expected)",
        ),
        (
            "\"k\":16}",
            "\"k\":17}",
            "the nest of c004 cannot be counted: the factors of k multiply to 16, its size is 17",
        ),
        (
            "[\"n\",6]",
            "[\"q\",6]",
            "`levels[0].temporal[0][0]` names \"q\", which is no rank (known: m, n, k)",
        ),
        (
            "[\"n\",6]",
            "[\"n\"]",
            "`levels[0].temporal[0]` is a list of 1 ([rank, factor])",
        ),
        (
            "\"keep\":[\"A\"",
            "\"keep\":[\"X\"",
            "`levels[0].keep[0]` names \"X\", which is no tensor (known: A, B, Z)",
        ),
        (
            "\"cycles\":7200",
            "\"cycles\":\"many\"",
            "`timeloop.cycles` is \"many\" (a whole number of 0 or more is expected)",
        ),
        (
            "\"cycles\":7200,",
            "",
            "the field `timeloop.cycles` is missing (every case has it)",
        ),
        (
            "\"exact\":\"equal\"",
            "\"exact\":3",
            "`exact` is 3 (\"equal\", or counts by level and tensor, is expected)",
        ),
        (
            "{\"DRAM\":{\"A\"",
            "{\"SRAM\":{\"A\"",
            "`timeloop.levels.SRAM` is no level of this case (known: DRAM, GLB, LB, RF)",
        ),
        ("\"sizes\":{", "\"sizes\":{{", "this line is not JSON"),
    ];
    for (from, to, expected) in edits {
        assert!(good.contains(from), "{from}");
        let found = problems(&format!("{good}\n{}\n", good.replacen(from, to, 1)));
        assert!(
            found
                .iter()
                .any(|p| p.contains(expected) && p.starts_with("mine.jsonl:2:")),
            "{expected}: {found:?}"
        );
    }
    let two = format!(
        "{}\n{}",
        good.replacen("\"k\":16}", "\"k\":0}", 1),
        good.replacen("\"id\"", "\"name\"", 1)
    );
    assert!(
        problems(&two)
            .iter()
            .any(|p| p.starts_with("mine.jsonl:1:"))
    );
    assert!(
        problems(&two)
            .iter()
            .any(|p| p.starts_with("mine.jsonl:2:") && p.contains("`id` is missing"))
    );
    assert_eq!(problems("\n\n").len(), 1);
}
