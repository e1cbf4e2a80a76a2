//! Mappings that the engines must not contradict each other on: both run them, with the same words.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::{Accelerator, accelerators};
use einflow_engine::{
    analytic,
    cycle::{self, BlockRun},
    events::Unseen,
};
use einflow_mappings::{
    bind, count::transferred, mapped::MappedCascade, mappings, spec::MappingSpec,
};
use einflow_spec::Source;
use einflow_workloads::{cascade::Cascade, cascades};

/// A shipped mapping, changed.
fn changed(name: &str, changes: &[(&str, &str)], sizes: &[(&str, u64)]) -> MappedCascade {
    let mut text = mappings().find(name, None).unwrap().0.text().to_string();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    let spec = MappingSpec::parse(&Source::new("changed.ron", text), None).unwrap();
    let cascade = cascades().find(&spec.workload.text, None).unwrap().0;
    let chip = spec.accelerator.as_ref().unwrap();
    let chip = accelerators().find(&chip.text, None).unwrap().0;
    let cascade = Cascade::parse(&cascade).unwrap();
    let chip = Accelerator::parse(&chip).unwrap();
    of(cascade.into(), chip.into(), spec.into(), sizes)
}

fn of(
    cascade: Arc<Cascade>,
    chip: Arc<Accelerator>,
    spec: Arc<MappingSpec>,
    sizes: &[(&str, u64)],
) -> MappedCascade {
    let sizes: BTreeMap<String, u64> = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
    bind(&cascade, &chip, &spec, &sizes).unwrap()
}

/// Runs on the cycle engine with and without the jump; the words of each transfer as the closed forms have them.
fn agreed(mapped: &MappedCascade) -> Vec<BlockRun> {
    let run = |jump| cycle::run(mapped, jump, &mut Unseen).unwrap();
    let (jumped, walked) = (run(true), run(false));
    for ((block, a), b) in mapped.blocks.iter().zip(&jumped).zip(&walked) {
        assert_eq!((a.cycles, &a.totals.words), (b.cycles, &b.totals.words));
        for (transfer, words) in block.transfers.iter().zip(&a.totals.words) {
            let counted = transferred(&block.space, transfer).unwrap().words;
            let name = &mapped.cascade.tensor(transfer.tensor).name;
            assert_eq!(*words, counted, "{name} {:?}", transfer.kind);
        }
    }
    jumped
}

const HEADS: [(&str, u64); 4] = [("B", 2), ("H", 6), ("E", 64), ("F", 64)];

fn attention(length: u64) -> Vec<(&'static str, u64)> {
    [HEADS.as_slice(), &[("M", length), ("P", length)]].concat()
}

/// A loop that no condition ties stands inside one whose tiles are left out.
#[test]
fn heads_inside_a_causal_mask() {
    let loops = [(
        r#"loops: ["b", "h", "p2", "m1", "p1"]"#,
        r#"loops: ["b", "p2", "m1", "h", "p1"]"#,
    )];
    agreed(&changed("fusemax-causal", &loops, &attention(1024)));
}

/// Half of a running value lives in DRAM, and comes back for the next step.
#[test]
fn a_running_value_that_is_kept_in_part() {
    let whole = r#""RD": [(memory: "buffer", below: "p2")]"#;
    let half = r#""RD": [(memory: "buffer", share: 0.5, below: "p2")]"#;
    agreed(&changed(
        "fusemax-binding",
        &[(whole, half)],
        &attention(1024),
    ));
}

/// A pipeline that runs on from head to head, each of one tile.
#[test]
fn a_pipeline_over_heads_of_one_tile() {
    agreed(&changed("fusemax-binding-run-on", &[], &attention(256)));
}

/// Phases fix the order in which Einsums of a tile run, whatever the order of their lines: the first that reads what
/// registers keep loads it.
#[test]
fn the_order_of_lines_does_not_matter() {
    let line = "      \"RM\": (unit: \"array1d\", columns: \"p0\"),\n";
    let before = "      \"RD\": (unit: \"array1d\", columns: \"p0\"),\n";
    let later = [(line, ""), (before, &*format!("{line}{before}"))];
    let words = |mapped: &MappedCascade| {
        let counts = analytic::count(mapped).unwrap();
        let rm = mapped.cascade.tensor_named("RM").unwrap().0;
        counts.traffic.get(1, rm).total().unwrap().rounded()
    };
    let (first, last) = (
        changed("fusemax-binding", &[], &attention(1024)),
        changed("fusemax-binding", &later, &attention(1024)),
    );
    agreed(&last);
    // Of each of 12 heads 4 tiles of keys: RM is written, read by the 2D array, and before its next step, 1024 words each.
    assert_eq!(
        (words(&first), words(&last)),
        (3 * 12 * 4 * 1024, 3 * 12 * 4 * 1024)
    );
}

/// Of ten tiles of keys, query tile i has i + 1: 55 tiles of 256 words leave the registers, and each is in the buffer for
/// the 2D array once.
#[test]
fn tiles_that_are_left_out_leave_no_words() {
    let changes = [(
        r#"loops: ["b", "h", "p2", "m1", "p1"]"#,
        r#"loops: ["b", "h", "p2", "p1", "m1"]"#,
    )];
    let sizes = [
        ("B", 1),
        ("H", 1),
        ("E", 64),
        ("F", 64),
        ("M", 2560),
        ("P", 2560),
    ];
    let mapped = changed("fusemax-causal", &changes, &sizes);
    agreed(&mapped);
    let counts = analytic::count(&mapped).unwrap();
    let rm = mapped.cascade.tensor_named("RM").unwrap().0;
    assert_eq!(counts.traffic.get(1, rm).writes.rounded(), 55 * 256);
}

/// 2 048 000 weights over 32 links, for two rows of inputs: what loading them takes longer than their steps costs.
#[test]
fn weights_for_few_rows_take_their_links_time() {
    for (m, analytic, measured) in [
        (1, 65_536, 65_640),
        (2, 65_536, 69_704),
        (40, 81_920, 147_546),
    ] {
        let sizes = [("M", m), ("N", 1000), ("K", 2048)];
        let mapped = changed("matmul-weight-stationary", &[], &sizes);
        let counts = analytic::count(&mapped).unwrap();
        assert_eq!(counts.times[0].ceiling(), analytic, "{m}");
        assert_eq!(agreed(&mapped)[0].cycles, measured, "{m}");
    }
}

/// A sum over 50 stays in registers below a loop outside; its last value is for the next block: 8 words go out, and 8 are
/// preset.
#[test]
fn a_running_value_in_registers_needs_no_memory() {
    let cascade = r##"(name: "test", source: "assumed", description: "for tests", inputs: ["A[i, p]"], outputs: ["Z[p]"], einsums: r#"
        S[0, p] = 0
        S[i+1, p] = S[i, p] + A[i, p]
        Z[p] = relu(S[I, p])
    "#)"##;
    let chip = r#"(name: "chip", description: "for tests", source: "assumed", clock: "1 GHz", word: f16, memories: {
            "dram": (source: "assumed", capacity: unbounded, row: "8 B", bandwidth: "8 GB/s", latency: "10 ns", read_energy: 1, write_energy: 1, area: 0),
            "buffer": (source: "assumed", capacity: "1 MiB", row: "8 B", latency: "1 cycle", read_energy: 1, write_energy: 1, area: 0),
        }, arrays: { "row": (source: "assumed", rows: 1, columns: 4, components: { "alu": (source: "assumed", energy: 1, area: 1) },
            operators: { "add": (cycles: 1, actions: {"alu": 1}, register_reads: 2, register_writes: 1),
                "relu": (cycles: 1, actions: {"alu": 1}, register_reads: 1, register_writes: 1) },
            registers: (source: "assumed", words: 8, read_energy: 1, write_energy: 1, area: 1),
            links: { "in": (from: "buffer", direction: up, words_per_cycle: 2), "out": (to: "buffer", direction: down) } ) })"#;
    let mapping = r#"(name: "case", source: "assumed", workload: "test", sizes: { "P0": 4 }, splits: { "P": ["P1", "P0"] }, blocks: [
        (name: "sum", loops: ["p1", "i"], keep: { "S": [(memory: "row", below: "p1")] }, einsums: { "S": (unit: "row", columns: "p0") }),
        (name: "use", loops: ["p1"], einsums: { "Z": (unit: "row", columns: "p0") })])"#;
    let cascade = Cascade::parse(&Source::new("test.ron", cascade)).unwrap();
    let chip = Accelerator::parse(&Source::new("chip.ron", chip)).unwrap();
    let spec = MappingSpec::parse(&Source::new("case.ron", mapping), None).unwrap();
    let mapped = of(
        cascade.into(),
        chip.into(),
        spec.into(),
        &[("I", 50), ("P", 8)],
    );
    agreed(&mapped);
    let counts = analytic::count(&mapped).unwrap();
    let s = mapped.cascade.tensor_named("S").unwrap().0;
    let access = counts.traffic.get(0, s);
    assert_eq!(
        (access.reads.rounded(), access.writes.rounded()),
        (8 + 8, 8)
    );
}
