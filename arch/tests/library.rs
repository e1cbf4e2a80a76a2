//! The accelerators of the library against the numbers published for them.

#![allow(clippy::unwrap_used)]

use einflow_arch::{Accelerator, Counting, RangeReduction, accelerators};
use einflow_spec::NumberFormat;
use einflow_spec::quantity::{Bytes, BytesPerSecond, Cycles, Picojoules};
use einflow_spec::{Node, check_sources};

fn load(name: &str) -> Accelerator {
    Accelerator::parse(&accelerators().get(name).unwrap())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs(),
        "{found} is not within {tolerance} of {expected}"
    );
}

#[test]
fn the_library_holds_the_chips() {
    let names: Vec<_> = accelerators().names().collect();
    assert_eq!(
        names,
        [
            "cascade-artifact",
            "flat",
            "flat-artifact",
            "fusemax",
            "fusemax-artifact",
            "fusemax-hbm",
            "fusemax-range-reduced",
            "systolic-128",
            "systolic-32",
        ]
    );
    for name in names {
        assert_eq!(load(name).name, name);
    }
}

#[test]
fn every_number_has_a_source() {
    for name in accelerators().names() {
        let node = Node::parse(&accelerators().get(name).unwrap()).unwrap();
        let problems = check_sources(&node);
        assert!(problems.is_empty(), "{problems}");
    }
}

#[test]
fn fusemax_as_published() {
    let chip = load("fusemax");
    assert_eq!(
        (chip.clock.0, chip.word, chip.counting),
        (940e6, NumberFormat::Bf16, Counting::Physical)
    );
    let (dram, buffer) = (chip.memory("dram").unwrap(), chip.memory("buffer").unwrap());
    assert_eq!(chip.memories[0].name, "dram");
    assert_eq!(
        (dram.capacity, dram.row, dram.outstanding),
        (None, Bytes(8), Some(64))
    );
    assert_eq!(
        dram.bandwidth,
        Some(BytesPerSecond(400.0 * f64::from(1 << 30)))
    );
    assert_eq!(dram.latency.cycles(chip.clock), Cycles(282)); // 300 ns at 940 MHz
    assert_eq!(
        (dram.read_energy, dram.write_energy),
        (Picojoules(249.6), Picojoules(249.6))
    );
    assert_eq!(
        (buffer.capacity, buffer.rows()),
        (Some(Bytes(16 << 20)), Some(32768))
    );
    assert_eq!(
        (
            buffer.banks,
            buffer.ports,
            buffer.latency.cycles(chip.clock)
        ),
        (32, 4, Cycles(4))
    );
    let array = chip.array("array2d").unwrap();
    assert_eq!((array.pes(), array.registers.words), (65536, 12));
    assert_eq!(array.operator("exp").unwrap().cycles, 6);
    close(array.energy_of("exp").unwrap().0, 6.0 * 17.1645, 1e-15); // rounding of one product
    assert_eq!(array.energy_of("sub"), Some(Picojoules(8.3395)));
    assert!(array.operator("div").is_none());
    let row = chip.array("array1d").unwrap();
    assert_eq!((row.rows, row.columns, row.registers.words), (1, 256, 32));
    assert!(row.operator("sub+exp").is_none());
    assert_eq!(row.energy_of("div"), Some(Picojoules(36.251153)));
    // Neither links nor control have a published energy: the report must be able to say so.
    assert_eq!(
        chip.uncharged().len(),
        2 + array.links.len() + row.links.len()
    );
}

#[test]
fn flat_as_published() {
    let chip = load("flat");
    assert_eq!(
        chip.memory("buffer").unwrap().capacity,
        Some(Bytes(32 << 20))
    );
    let (array, row) = (
        chip.array("array2d").unwrap(),
        chip.array("array1d").unwrap(),
    );
    assert_eq!((array.registers.words, row.registers.words), (4, 16));
    assert!(array.operator("exp").is_none() && array.operator("max").is_none());
    assert_eq!(row.operator("exp").unwrap().cycles, 1);
    let softmax = ["max", "sub+exp", "add", "div"].map(|name| row.operator(name).unwrap());
    // Four cycles an element, 8 register reads and 8 writes.
    assert_eq!(softmax.iter().map(|o| o.cycles).sum::<u64>(), 4);
    assert_eq!(softmax.iter().map(|o| o.register_reads).sum::<u64>(), 8);
    assert_eq!(softmax.iter().map(|o| o.register_writes).sum::<u64>(), 8);
    close(row.energy_of("sub+exp").unwrap().0, 8.3395 + 94.6475, 1e-15);
}

/// Taylor's coefficients on both arrays, and what the range reduction costs: it changes the exponential and nothing else.
#[test]
fn the_exponentials() {
    let published = load("fusemax");
    let mut reduced = load("fusemax-range-reduced");
    for (array, row) in reduced.arrays.iter_mut().zip(&published.arrays) {
        let (new, old) = (
            array.operator("exp").unwrap().clone(),
            row.operator("exp").unwrap(),
        );
        let polynomial = old.computes.clone().unwrap();
        assert_eq!(polynomial.reduction, None);
        let mut factorial = 1.0;
        for (power, coefficient) in polynomial.coefficients.iter().enumerate() {
            factorial *= (power as f64).max(1.0);
            close(*coefficient, 1.0 / factorial, 1e-15);
        }
        // Right near 0 alone: FUSEMAX.md, point 6.
        let at = |x: f64| {
            polynomial
                .coefficients
                .iter()
                .rev()
                .fold(0.0, |s, c| s * x + c)
        };
        assert_eq!((polynomial.coefficients.len(), at(0.0)), (6, 1.0));
        close(at(-20.0), -21152.333, 1e-6);

        let computes = new.computes.clone().unwrap();
        assert_eq!(computes.coefficients, polynomial.coefficients);
        assert_eq!(computes.reduction, Some(RangeReduction::Ln2));
        assert_eq!((new.cycles, old.cycles), (11, 6));
        let extra = array.energy_of("exp").unwrap().0 - row.energy_of("exp").unwrap().0;
        close(extra, 3.0 * 17.1645 + 2.0 * 8.3395, 1e-12);
        assert_eq!(new.register_reads - old.register_reads, 13);
        assert_eq!(new.register_writes - old.register_writes, 13);
        assert_eq!(array.registers.words, row.registers.words);
        array.operators.clone_from(&row.operators);
        array.cited.clone_from(&row.cited);
    }
    reduced.name.clone_from(&published.name);
    reduced.description.clone_from(&published.description);
    reduced.cited.clone_from(&published.cited);
    reduced.source = published.source.clone();
    assert_eq!(reduced, published);
    // FLAT's unit is exact.
    let flat = load("flat");
    let exact = ["exp", "sub+exp"].map(|name| flat.array("array1d").unwrap().operator(name));
    assert!(exact.iter().all(|o| o.unwrap().computes.is_none()));
}

/// An artifact file differs from the correct one in energies, buffer area and counting alone, so cycles
/// and traffic are those of its pair.
#[test]
fn the_artifact_files_differ_in_accounting_alone() {
    for (artifact, correct) in [
        ("fusemax-artifact", "fusemax"),
        ("flat-artifact", "flat"),
        ("cascade-artifact", "flat"),
    ] {
        let (mut artifact, correct) = (load(artifact), load(correct));
        assert_eq!(artifact.counting, Counting::Timeloop);
        assert_eq!(artifact.memory("buffer").unwrap().area.0, 0.0);
        artifact.name.clone_from(&correct.name);
        artifact.description.clone_from(&correct.description);
        artifact.cited.clone_from(&correct.cited);
        artifact.source = correct.source.clone();
        artifact.counting = correct.counting;
        for (a, c) in artifact.memories.iter_mut().zip(&correct.memories) {
            (a.area, a.area_per_bit) = (c.area, c.area_per_bit);
            a.cited.clone_from(&c.cited);
        }
        for (a, c) in artifact.arrays.iter_mut().zip(&correct.arrays) {
            a.registers = einflow_arch::Registers {
                words: a.registers.words,
                ..c.registers.clone()
            };
            a.components.clone_from(&c.components);
            assert_eq!(
                a.components.keys().collect::<Vec<_>>(),
                c.components.keys().collect::<Vec<_>>()
            );
        }
        assert_eq!(artifact, correct);
    }
}

#[test]
fn what_the_artifact_charges() {
    let chip = load("fusemax-artifact");
    for (array, pes) in [("array2d", 65536.0), ("array1d", 256.0)] {
        let registers = &chip.array(array).unwrap().registers;
        // An access in all PEs costs what one access in one PE does; decimal text to binary loses the last bits.
        close(registers.read_energy.0 * pes, 2.194, 1e-14);
        close(registers.write_energy.0 * pes, 1.906, 1e-14);
    }
    for name in ["flat-artifact", "cascade-artifact"] {
        let chip = load(name);
        assert!(
            chip.arrays
                .iter()
                .all(|a| a.registers.read_energy.0 == 0.0 && a.registers.write_energy.0 == 0.0)
        );
        assert_eq!(
            chip.memory("buffer").unwrap().read_energy,
            Picojoules(23787.0)
        );
    }
    let exponential = |name| {
        load(name)
            .array("array1d")
            .unwrap()
            .energy_of("exp")
            .unwrap()
            .0
    };
    assert_eq!(
        (
            exponential("flat-artifact"),
            exponential("cascade-artifact")
        ),
        (94.6475, 0.0)
    );
}

/// Columns `PE_dim`, `array_2d_area`, `area` of the artifact's pareto table.
const PARETO: [(u32, f64, f64); 6] = [
    (16, 4712617.37472, 5441230.48908),
    (32, 18850437.49888, 20315554.014039997),
    (64, 75401685.99552, 78369596.31228),
    (128, 301797241.20064, 307907612.38012),
    (256, 1207951209.6768, 1220894441.8412402),
    (512, 4834854330.20416, 4885081008.9724),
];

/// Within 1 %: the published areas hold a little buffer and a register file that is 0.2 % smaller.
#[test]
fn areas_of_the_pareto_table() {
    for (dim, array, both) in PARETO {
        let chip = load("fusemax")
            .with_override("arrays.array2d.rows", f64::from(dim))
            .and_then(|chip| chip.with_override("arrays.array2d.columns", f64::from(dim)))
            .and_then(|chip| chip.with_override("array1d.columns", f64::from(dim)))
            .unwrap();
        let area = chip.area();
        close(area.part("array2d").0, array, 0.01);
        close(area.arrays().0, both, 0.01);
        assert!(area.total().0 > area.arrays().0);
    }
}

#[test]
fn the_area_of_the_buffer_follows_its_capacity() {
    let chip = load("fusemax");
    // 2^27 bits of 0.346 um^2 that fill 70 % of the array; the file's quotient has four digits.
    close(
        chip.area().part("buffer").0,
        134_217_728.0 * 0.346 / 0.7,
        1e-4,
    );
    let twice = chip
        .with_override("memories.buffer.capacity", 33_554_432.0)
        .unwrap();
    close(
        twice.area().part("buffer").0,
        2.0 * chip.area().part("buffer").0,
        1e-15,
    );
    let stated = twice.with_override("buffer.area", 5.0).unwrap();
    assert_eq!(stated.area().part("buffer").0, 5.0);
    assert_eq!(chip.area().part("dram").0, 0.0);
}

#[test]
fn names_in_size_expressions() {
    let chip = load("flat").with_override("array2d.cols", 8.0).unwrap();
    let expected = [
        ("array2d.rows", 256),
        ("array2d.columns", 8),
        ("array2d.cols", 8),
        ("array2d.pes", 2048),
        ("array2d.registers.words", 4),
        ("array1d.columns", 256),
        ("buffer.capacity", 32 << 20),
        ("buffer.row", 512),
        ("buffer.banks", 32),
        ("dram.row", 8),
        ("word.bytes", 2),
    ];
    for (name, value) in expected {
        assert_eq!(chip.lookup(name), Some(value), "{name}");
    }
    for name in [
        "dram.capacity",
        "array2d",
        "array3d.rows",
        "array2d.depth",
        "buffer.",
        "clock",
    ] {
        assert_eq!(chip.lookup(name), None, "{name}");
    }
    for name in chip.names_for_lookup() {
        assert!(chip.lookup(&name).is_some(), "{name}");
    }
}
