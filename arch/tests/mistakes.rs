//! Wrong files and wrong overrides: what the user reads.

#![allow(clippy::unwrap_used)]

use einflow_arch::{Accelerator, accelerators};
use einflow_spec::{Problem, Problems, Source};

const GOOD: &str = r#"(
name: "tiny", description: "Two memories, one array.", source: "assumed",
clock: "1 GHz", word: f32,
memories: {
  "dram": (source: "assumed", capacity: unbounded, row: 64, bandwidth: "10 GB/s", latency: "100 ns",
    read_energy: 10, write_energy: 10, area: 0),
  "buffer": (source: "assumed", capacity: "1 KiB", row: "16 B", latency: 1,
    read_energy: 1, write_energy: 1, area_per_bit: 0.5),
},
arrays: {
  "grid": (source: "assumed", rows: 4, columns: 2,
    components: {"mac": (source: "assumed", energy: 1, area: 10)},
    operators: {"mac": (cycles: 1, actions: {"mac": 1}, register_reads: 3, register_writes: 3)},
    registers: (source: "assumed", words: 4, read_energy: 0.1, write_energy: 0.1, area: 5),
    links: {"across": (direction: right), "out": (to: "buffer", direction: down)},
  ),
})"#;

fn parse(text: &str) -> Result<Accelerator, Problems> {
    Accelerator::parse(&Source::new("tiny.ron", text))
}

/// The messages after one replacement, each led by the first word of the text to which it points.
fn say(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let problems = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
    let lines = problems.iter().map(|problem| {
        let (source, span) = problem.place.as_ref().unwrap();
        let under = source.text()[span.start..]
            .split([' ', ':', ','])
            .next()
            .unwrap();
        format!(
            "{under}: {}\n",
            Problem {
                place: None,
                ..problem.clone()
            }
        )
    });
    lines.collect()
}

#[test]
fn a_good_file_and_its_defaults() {
    let chip = parse(GOOD).unwrap_or_else(|problems| panic!("{problems}"));
    let buffer = chip.memory("buffer").unwrap();
    assert_eq!(
        (
            buffer.banks,
            buffer.ports,
            buffer.outstanding,
            buffer.bandwidth
        ),
        (1, 1, None, None)
    );
    assert_eq!(buffer.area.0, 4096.0); // 8192 bits of 0.5 um^2
    assert_eq!(chip.area().arrays().0, 8.0 * 15.0);
    assert_eq!(chip.counting.name(), "physical");
}

#[test]
fn each_mistake_has_its_place_and_a_way_out() {
    let cases = [
        (
            "row: \"16 B\"",
            "row: 24",
            "\"1: a row of 24 B does not divide the capacity of 1024 B (1008 would do)\n",
        ),
        (
            "row: \"16 B\"",
            "row: 18",
            "18: a row of 18 B does not hold whole words of 4 B (a multiple of 4 B would do)\n\
             \"1: a row of 18 B does not divide the capacity of 1024 B (1008 would do)\n",
        ),
        (
            "row: \"16 B\"",
            "row: 0",
            "0: the row is zero bytes wide (a multiple of 4 B would do)\n",
        ),
        (
            "row: \"16 B\"",
            "row: \"16 Bits\"",
            "\"16: expected a number with a unit, found the string \"16 Bits\" (units: B, KiB, MiB, GiB, kB, MB, GB)\n",
        ),
        (
            "capacity: unbounded",
            "capacity: infinite",
            "infinite: expected a number of bytes, found `infinite` (such as 16384, \"16 KiB\" or unbounded)\n",
        ),
        (
            "rows: 4",
            "rows: 0",
            "0: the number of rows is zero (a whole number of at least 1 would do)\n",
        ),
        (
            "rows: 4",
            "rows: -4",
            "-4: -4 is a negative number where a count was expected (a whole number from 0 to 2^64 - 1 would do)\n",
        ),
        (
            "rows: 4",
            "rows: 99999999",
            "99999999: the number of rows is 99999999 (at most 2^24 is accepted)\n",
        ),
        (
            "rows: 4",
            "row: 4",
            "(source: an array lacks the field `rows`\nrow: an array has no field `row` (did you mean `rows`?)\n",
        ),
        (
            "{\"mac\": 1}",
            "{\"mca\": 1}",
            "1}: the operator `mac` uses `mca`, which grid does not have (did you mean `mac`?)\n",
        ),
        (
            "{\"mac\": 1}",
            "{\"mac\": 0}",
            "0}: the number of mac actions of mac is zero (a whole number of at least 1 would do)\n",
        ),
        (
            "to: \"buffer\"",
            "to: \"bufer\"",
            "\"bufer\": the link `out` names `bufer`, which is no memory or array (did you mean `buffer`?)\n",
        ),
        (
            "to: \"buffer\"",
            "from: \"dram\", to: \"buffer\"",
            "\"buffer\": the link `out` has both `from` and `to` \
             (a link inside the array leaves both out; one end of any other is this array)\n",
        ),
        (
            "direction: right",
            "direction: rigth",
            "rigth): `rigth` is not known here (did you mean `right`?)\n",
        ),
        (
            "\"grid\"",
            "\"dram\"",
            "\"dram\": `dram` already names a memory (names of memories and arrays are distinct)\n",
        ),
        (
            "\"buffer\": (",
            "\"dram\": (",
            "\"dram\": `dram` is given twice (names are distinct)\n",
        ),
        (
            "\"grid\"",
            "\"the grid\"",
            "\"the: `the grid` cannot name a memory or an array \
             (a letter, then letters, digits and `_` (size expressions name it), other than `word`)\n",
        ),
        (
            "\"1 GHz\"",
            "\"0 GHz\"",
            "\"0: the clock is 0 (a finite number above 0 would do)\n",
        ),
        (
            "energy: 1, area: 10",
            "energy: -1, area: 10",
            "-1: the energy of mac is -1 (a finite number of at least 0 would do)\n",
        ),
        (
            "area_per_bit: 0.5",
            "area: 1, area_per_bit: 0.5",
            "(source: a memory has either `area` or `area_per_bit` \
             (`area` is the whole memory's, in um^2; 0 for a memory off the chip)\n",
        ),
        (
            "word: f32",
            "word: fp32",
            "fp32: `fp32` is not known here (did you mean `f32`?)\n",
        ),
        (
            "latency: \"100 ns\"",
            "latency: \"100 parsecs\"",
            "\"100: expected a number with a unit, found the string \"100 parsecs\" \
             (such as \"300 ns\" or \"4 cycles\"; units: cycles, s, ms, us, ns, ps)\n",
        ),
        (
            "source: \"assumed\", rows",
            "source: \"\", rows",
            "\"\": expected a text that is not empty, found the string \"\"\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"exp\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: []))}",
            "[]))}: the polynomial of exp has no coefficient (coefficients, of the power 0 first, such as [1, 1, 0.5])\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"sub+mul\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: [1, 1]))}",
            "[1: `mul` takes two operands, a polynomial one (leave `computes` out: it is computed as it is)\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"tanh\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: [0, 1], reduction: ln2))}",
            "ln2))}: `ln2` reduces the operand of `exp`, not of `tanh` (leave `reduction` out)\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"exp\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: [1, 1], reduction: ln3))}",
            "ln3))}: `ln3` is not known here (did you mean `ln2`?)\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"exp\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: 1))}",
            "1))}: expected a list, found the number 1 (coefficients, of the power 0 first, such as [1, 1, 0.5])\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"exp\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: [\"one\"]))}",
            "\"one\"]))}: expected a number, found the string \"one\"\n",
        ),
        (
            "register_writes: 3)}",
            "register_writes: 3), \"exp\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomials: [1]))}",
            "(polynomials: a computation lacks the field `polynomial`\n\
             polynomials: a computation has no field `polynomials` (did you mean `polynomial`?)\n",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(say(from, to), expected, "{from} -> {to}");
    }
}

#[test]
fn a_polynomial_of_too_many_coefficients() {
    let exp = "register_writes: 3), \"exp\": (cycles: 1, actions: {}, register_reads: 1, register_writes: 1, computes: (polynomial: LIST))}";
    let say = |n: usize| {
        let exp = exp.replace("LIST", &format!("{:?}", vec![1; n]));
        parse(&GOOD.replacen("register_writes: 3)}", &exp, 1)).map(|_| ())
    };
    say(32).unwrap();
    let found = say(33).unwrap_err().to_string();
    assert!(
        found.contains("the polynomial of exp has 33 coefficients (at most 32 are accepted)"),
        "{found}"
    );
}

#[test]
fn all_mistakes_at_once() {
    let text = GOOD
        .replace("rows: 4", "rows: 0")
        .replace("cycles: 1", "cycles: 0")
        .replace("row: 64", "row: 0");
    assert_eq!(parse(&text).unwrap_err().len(), 3);
    let text = GOOD
        .replace("rows: 4", "rowz: 4")
        .replace("row: 64, ", "")
        .replace("word: f32", "word: 3");
    assert_eq!(parse(&text).unwrap_err().len(), 4); // the missing field and the unknown one count apart
}

#[test]
fn without_memories_or_arrays() {
    let text = "(name: \"x\", description: \"x\", source: \"assumed\", clock: 1, word: f32, memories: {}, arrays: {})";
    let found = parse(text).unwrap_err().to_string();
    assert!(
        found.contains("at least one memory") && found.contains("at least one array"),
        "{found}"
    );
}

#[test]
fn overrides() {
    let chip = parse(GOOD).unwrap();
    for path in chip.override_paths() {
        // 32 is acceptable but as a latency in seconds and as the capacity of rows of 64 B.
        let value = match path.as_str() {
            "memories.dram.latency" => 2e-7,
            "memories.dram.capacity" => 640.0,
            _ => 32.0,
        };
        if path == "memories.dram.area_per_bit" {
            continue;
        }
        let changed = chip
            .with_override(&path, value)
            .unwrap_or_else(|problem| panic!("{problem}"));
        assert_ne!(changed, chip, "{path} changed nothing");
    }
    let say = |path: &str, value: f64| chip.with_override(path, value).unwrap_err().to_string();
    assert_eq!(
        say("arrays.grid.rws", 1.0),
        "the accelerator tiny has no number `arrays.grid.rws` (did you mean `arrays.grid.rows`?)"
    );
    assert_eq!(
        say("grid.rows", 0.0),
        "grid.rows = 0 on tiny: the number of rows is zero (a whole number of at least 1 would do)"
    );
    assert_eq!(
        say("grid.rows", 1.5),
        "grid.rows = 1.5 on tiny: 1.5 is not a whole number from 0 to 2^64 - 1"
    );
    assert_eq!(
        say("clock", f64::NAN),
        "clock = NaN on tiny: NaN is not a finite number"
    );
    assert!(say("buffer.row", 12.0).contains("does not divide"));
    assert!(say("dram.area_per_bit", 1.0).contains("unbounded"));
}

/// Cutting the file anywhere, or dropping any byte, is an error or still a file, never a panic.
#[test]
fn mutilated_files_do_not_panic() {
    let text = accelerators().get("fusemax").unwrap().text().to_string();
    for at in (0..text.len()).step_by(37) {
        assert!(parse(&text[..at]).is_err());
        let _ = parse(&format!("{}{}", &text[..at], &text[at + 1..]));
    }
}
