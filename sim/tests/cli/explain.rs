//! Mappings in words.

use einflow_engine::{analytic::evaluate, units::parse_length};
use einflow_engine::{catalog::Catalog, request::Request};
use einflow_mappings::mappings;
use einflow_output::explain::{Inputs, explain};

use crate::{
    behaviour::fits,
    support::{einflow, einflow_in, folder, golden},
};

#[test]
fn explanations() {
    for name in ["fusemax-binding", "flat", "unfused"] {
        golden(
            &format!("explain-{name}.txt"),
            &einflow(&format!("explain {name}")).good(),
        );
    }
}

/// Sizes of a mapping's cascade that no model has.
fn of_no_model(mapping: &str) -> &'static [(&'static str, u64)] {
    if mapping.starts_with("matmul-") {
        &[("N", 700), ("K", 300)]
    } else {
        &[]
    }
}

/// Every movement is told once: what the text states sums to the report, to the last word.
#[test]
fn what_is_stated_sums_to_the_report() {
    for name in mappings().names() {
        for (model, length) in [("bert", "1K"), ("xlm", "64K"), ("bert", "256K")] {
            let request = Request {
                mapping: name.to_string(),
                model: Some(model.into()),
                length: Some(parse_length(length).unwrap()),
                sizes: of_no_model(name)
                    .iter()
                    .map(|(size, value)| ((*size).to_owned(), *value))
                    .collect(),
                ..Request::default()
            };
            let what = format!("explain {name} --model {model} --length {length}");
            let mapped = request.bind(&Catalog::new()).unwrap();
            let report = evaluate(&mapped).unwrap();
            let text = explain(&mapped, Inputs::default()).unwrap();
            fits(&what, &text.text);
            for (m, memory) in mapped.accelerator.memories.iter().enumerate() {
                let stated = text.stated.of_memory(m).unwrap();
                assert_eq!(
                    stated,
                    report.words(&memory.name),
                    "{what}: {}",
                    memory.name
                );
            }
        }
    }
}

/// The amounts beside the name of the outermost memory, read from the text as a reader adds them up.
#[test]
fn amounts_in_the_text_sum_to_the_report() {
    for name in mappings().names() {
        let sizes: Vec<String> = of_no_model(name)
            .iter()
            .map(|(size, value)| format!(" --size {size}={value}"))
            .collect();
        let text = einflow(&format!("explain {name}{}", sizes.concat())).good();
        fits(name, &text);
        let words: Vec<&str> = text.split_whitespace().collect();
        let amount = |at: usize| {
            let unit = match words[at + 1] {
                "B" => 1.0,
                "KiB" => 1024.0,
                "MiB" => 1024.0 * 1024.0,
                "GiB" => 1024.0 * 1024.0 * 1024.0,
                other => panic!("{name}: {other}"),
            };
            words[at].parse::<f64>().unwrap() * unit
        };
        let plain = |at: usize| words[at].trim_end_matches([',', ':', ';']);
        let (mut stated, mut told) = (0.0, 0.0);
        let mut at_dram = false;
        for at in 0..words.len() {
            // `loaded from dram: ... 96 MiB in all` and `96 MiB from dram in all`.
            if ["from", "to"].contains(&words[at]) && plain(at + 1) == "dram" {
                if words[at + 1] == "dram:" {
                    at_dram = true;
                } else {
                    stated += amount(at - 2);
                }
            }
            if at_dram && words[at] == "in" && plain(at + 1) == "all" {
                stated += amount(at - 2);
                at_dram = false;
            }
            if words[at] == "dram:" && words[at + 3] == "read," {
                told = amount(at + 1) + amount(at + 4);
            }
        }
        assert!(told > 0.0, "{name}");
        assert!(
            (stated / told - 1.0).abs() < 0.01,
            "{name}: {stated} of {told}"
        );
    }
}

#[test]
fn a_run_file_with_one_run_is_explained() {
    let run = |rest: &str| {
        let text = format!(
            "(name: \"r\", source: \"s\", runs: [(mapping: \"flat\", model: \"t5\", length: \"4K\"{rest})])"
        );
        folder(&[("r.ron", text)])
    };
    let own = run("");
    let found = einflow_in(own.path(), &["explain", "r.ron"]).good();
    let same = einflow("explain flat --model t5 --length 4K").good();
    assert_eq!(found, same);
    let more = run(", end_to_end: true");
    let all = einflow_in(more.path(), &["explain", "r.ron"]).good();
    assert!(all.starts_with(&same) && all.contains("\nffn on "), "{all}");
}
