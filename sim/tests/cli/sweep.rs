//! Sweeps: what is written, whoever interrupts it; plots.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use einflow::sweep::sweeps;
use tempfile::TempDir;

use crate::support::{command, edited, einflow_in, folder};

/// A CSV file: header and rows.
fn rows(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let cells = |r: &csv::StringRecord| r.iter().map(str::to_string).collect::<Vec<_>>();
    let header = cells(reader.headers().unwrap());
    let rows = reader.records().map(|r| cells(&r.unwrap())).collect();
    (header, rows)
}

/// Sweeps a file of this text, and gives the folder with `out/` in it, and the exit code.
fn swept(text: &str) -> (TempDir, i32) {
    let folder = folder(&[("mine.ron", text.to_string())]);
    let ran = einflow_in(folder.path(), &["sweep", "mine.ron", "--out", "out"]);
    assert!(ran.code == 0 || !ran.stderr.is_empty());
    (folder, ran.code)
}

fn out(folder: &TempDir, file: &str) -> std::path::PathBuf {
    folder.path().join("out").join(file)
}

/// Axes and constraints around +Binding for BERT at 1K.
fn small(axes: &str, rest: &str) -> String {
    format!(
        "(name: \"mine\", source: \"a test\", base: (mapping: \"fusemax-binding\", model: \"bert\", length: \"1K\"), axes: [{axes}],{rest})"
    )
}

/// The engine of all points, or of some.
#[test]
fn engines_vary() {
    let cycles = |text: &str| {
        let (folder, code) = swept(text);
        assert_eq!(code, 0);
        let (header, rows) = rows(&out(&folder, "points.csv"));
        let at = header.iter().position(|h| h == "cycles").unwrap();
        rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>()
    };
    let (analytic, cycle) = ("1892352", "4121514");
    let clock = "(path: \"accelerator.clock\", values: [940e6])";
    let engine = "(path: \"engine\", values: [\"analytic\", \"cycle\"])";
    assert_eq!(cycles(&small(clock, "")), [analytic]);
    assert_eq!(cycles(&small(clock, "engine: cycle")), [cycle]);
    assert_eq!(cycles(&small(engine, "")), [analytic, cycle]);
    let scenario = "(name: \"mine\", base: (scenario: \"fixed-70b\"), axes: [(path: \"scenario.batches\", values: [1])], engine: cycle)";
    let unknown = small(&engine.replace("cycle", "cycel"), "");
    for refused in [scenario, &small(engine, "engine: cycle"), &unknown] {
        assert_eq!(swept(refused).1, 2, "{refused}");
    }
}

/// Area against latency as published, within the targets of the same table's experiment.
#[test]
fn figure_12_is_reproduced() {
    let folder = TempDir::new().unwrap();
    einflow_in(folder.path(), &["sweep", "figure12", "--out", "out"]).good();
    let (header, found) = rows(&out(&folder, "points.csv"));
    let at = |name: &str| header.iter().position(|h| h == name).unwrap();
    let table = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../validation/data/fusemax/pareto.csv"
    );
    let (published, expected) = rows(Path::new(table));
    let of = |name: &str| published.iter().position(|h| h == name).unwrap();
    assert!(expected.len() >= 12);
    for row in &expected {
        let same = |r: &&Vec<String>| {
            r[at("model")] == row[of("model")].to_lowercase() && r[at("pe")] == row[of("PE_dim")]
        };
        let found = found.iter().find(same).unwrap();
        assert_eq!(found[at("dram_bytes")], row[of("traffic")]);
        for (ours, theirs, tolerance) in [
            // The same sums in another order of floating-point operations.
            ("seconds", "latency", 1e-9),
            ("memory_seconds", "mem_lat", 1e-9),
            // A register file of another depth has the area of one of 32 words.
            ("area.by_array_um2.array2d", "array_2d_area", 1e-2),
            ("area.arrays_um2", "area", 1e-2),
        ] {
            let (a, b): (f64, f64) = (
                found[at(ours)].parse().unwrap(),
                row[of(theirs)].parse().unwrap(),
            );
            assert!((a / b - 1.0).abs() <= tolerance, "{ours}: {a} {b}");
        }
        assert_eq!(found[at("front")], "yes");
    }
}

/// One axis of each kind, into each kind of file; every row is what `run` gives for those values.
#[test]
fn every_kind_of_axis() {
    let axes = r#"
        (path: "length", from: "1K", to: "4K", times: 2),
        (linked: [
          (name: "rows", path: "accelerator.arrays.array2d.rows", values: [128, 256]),
          (path: "accelerator.memories.buffer.capacity", values: ["8 MiB", "16 MiB"]),
        ]),
        (path: "mapping.sizes.P1", values: [1, 2]),
        (path: "model.heads", from: 8, to: 12, step: 4),
        (path: "sizes.B", values: [1]),
        (path: "accounting", values: [correct]),
        (path: "end_to_end", values: [false, true]),"#;
    let (folder, code) = swept(&small(
        axes,
        "columns: [\"cycles\", \"dram_bytes\", \"inputs.P1\"]",
    ));
    let (header, found) = rows(&out(&folder, "points.csv"));
    let reasons: Vec<&Vec<String>> = found.iter().filter(|r| r[8] != "ok").collect();
    assert_eq!((code, found.len()), (0, 3 * 2 * 2 * 2 * 2), "{reasons:?}");
    assert_eq!(
        header[..4],
        [
            "length",
            "rows",
            "accelerator.memories.buffer.capacity",
            "mapping.sizes.P1"
        ]
    );
    let row = |values: [&str; 4]| {
        let found = found.iter().find(|r| {
            r[0] == values[0]
                && r[1] == values[1]
                && r[3] == values[2]
                && r[4] == values[3]
                && r[7] == "false"
        });
        let row = found.unwrap();
        assert_eq!(row[8], "ok", "{row:?}");
        assert_eq!(row[11], values[2]);
        (
            row[9].parse::<u64>().unwrap(),
            row[10].parse::<u64>().unwrap(),
        )
    };
    // Cycles and bytes go with the heads (a part of a cycle at the end counts whole); P1 is how often K and V are read again.
    let (cycles, bytes) = row(["2048", "256", "1", "8"]);
    let (more, all) = row(["2048", "256", "1", "12"]);
    assert!(more.abs_diff(cycles / 2 * 3) <= 2, "{more} {cycles}");
    assert_eq!(all, bytes / 2 * 3);
    assert!(row(["2048", "256", "2", "8"]).1 < bytes);
    // By hand: 8 heads of 1024 x 64 words of 2 bytes; Q and AV once, K and V for each of the 1024 / 256 tiles of queries.
    assert_eq!(
        row(["1024", "256", "1", "8"]).1,
        8 * 1024 * 64 * 2 * (2 + 2 * 4)
    );
}

/// The front by brute force, work kept apart; rows in the order of the grid.
#[test]
fn the_front_is_marked() {
    let axes = r#"
        (path: "model", values: ["bert", "t5"]),
        (name: "rows", path: "accelerator.arrays.array2d.rows", from: 64, to: 320, step: 64),
        (path: "accelerator.memories.dram.bandwidth", values: [5e10, 2e11]),"#;
    let (folder, _) = swept(&small(
        axes,
        "front: (minimize: [\"seconds\", \"area_mm2\"])",
    ));
    let (header, found) = rows(&out(&folder, "points.csv"));
    let at = |name: &str| header.iter().position(|h| h == name).unwrap();
    let value = |r: &Vec<String>, name: &str| r[at(name)].parse::<f64>().unwrap();
    let mut marked = 0;
    for row in &found {
        let beaten = found.iter().any(|other| {
            let le = |name: &str| value(other, name) <= value(row, name);
            let lt = |name: &str| value(other, name) < value(row, name);
            other[0] == row[0]
                && le("seconds")
                && le("area_mm2")
                && (lt("seconds") || lt("area_mm2"))
        });
        assert_eq!(
            row[at("front")],
            if beaten { "no" } else { "yes" },
            "{row:?}"
        );
        marked += usize::from(!beaten);
    }
    let (front_header, front) = rows(&out(&folder, "front.csv"));
    assert_eq!(
        (front_header.len(), front.len()),
        (header.len() - 1, marked)
    );
    // JSON lines hold the same.
    let lines = fs::read_to_string(out(&folder, "points.jsonl")).unwrap();
    for (line, row) in lines.lines().zip(&found) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["model"], row[0].as_str());
        assert_eq!(value["cycles"].to_string(), row[at("cycles")]);
        assert_eq!(value["front"], row[at("front")] == "yes");
    }
    assert_eq!(lines.lines().count(), found.len());
}

/// The axis ends where the condition first holds: the value before it does not satisfy it.
#[test]
fn until_a_condition_holds() {
    let axes = r#"
        (path: "mapping", values: ["flat", "fusemax-binding"]),
        (name: "bandwidth", path: "accelerator.memories.dram.bandwidth", from: 1e9, times: 2, until: "memory_seconds <= compute_seconds"),"#;
    let text = small(axes, "columns: [\"memory_seconds\", \"compute_seconds\"]");
    let (folder, code) = swept(&text);
    let (_, found) = rows(&out(&folder, "points.csv"));
    assert_eq!((code, found.len()), (0, 2));
    for row in found {
        let number = |i: usize| row[i].parse::<f64>().unwrap();
        // Memory takes half as long at twice the bandwidth.
        assert!(
            number(3) <= number(4) && (2.0 * number(3) > number(4) || number(1) == 1e9),
            "{row:?}"
        );
    }
    // Where it ends first, the row says so.
    let (folder, code) = swept(&text.replace("times: 2, until", "times: 2, to: 2e9, until"));
    let (_, found) = rows(&out(&folder, "points.csv"));
    assert_eq!(code, 2);
    assert!(
        found
            .iter()
            .all(|r| r[2] == "unmet" && r[1] == "2000000000" && r[5].contains("does not hold")),
        "{found:?}"
    );
}

/// An illegal point is a row with its reason, and the others have results.
#[test]
fn illegal_points_say_why() {
    let axes = r#"(path: "accelerator.memories.buffer.capacity", values: [1024, 16777216])"#;
    let (folder, code) = swept(&small(axes, ""));
    let (header, found) = rows(&out(&folder, "points.csv"));
    let at = |name: &str| header.iter().position(|h| h == name).unwrap();
    assert_eq!(code, 0);
    assert_eq!(found[0][at("status")], "illegal");
    assert!(found[0][at("reason")].contains("1024"), "{:?}", found[0]);
    assert!(found[0][at("cycles")].is_empty());
    assert_eq!(
        (
            found[1][at("status")].as_str(),
            found[1][at("cycles")].as_str()
        ),
        ("ok", "1892352")
    );
}

#[test]
fn constraints_leave_points_out() {
    let axes =
        r#"(name: "rows", path: "accelerator.arrays.array2d.rows", from: 64, to: 256, step: 64)"#;
    let (folder, _) = swept(&small(axes, "where: [\"area_mm2 < 1000\", \"rows != 64\"]"));
    let (_, found) = rows(&out(&folder, "points.csv"));
    let kept: Vec<&str> = found.iter().map(|r| r[0].as_str()).collect();
    assert_eq!(kept, ["128", "192"]);
}

#[test]
fn thread_counts_change_no_byte_of_a_sweep() {
    let axes = r#"(name: "rows", path: "accelerator.arrays.array2d.rows", from: 8, to: 400, step: 1),
        (path: "accelerator.memories.buffer.capacity", values: [65536, 16777216])"#;
    let files = ["points.csv", "points.jsonl", "front.csv"];
    let run = |threads: &str| {
        let folder = folder(&[("mine.ron", small(axes, "where: [\"area_mm2 < 1500\"]"))]);
        let mut command = command(folder.path(), &["sweep", "mine.ron", "--out", "out"]);
        assert!(
            command
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .unwrap()
                .status
                .success()
        );
        files.map(|file| fs::read(out(&folder, file)).unwrap())
    };
    let one = run("1");
    assert!(one[0].len() > 50_000);
    assert!(one == run("3"));
}

/// Starts the large sweep and waits until it has written rows.
#[cfg(unix)]
fn started(folder: &Path) -> std::process::Child {
    let child = command(folder, &["sweep", "design-space", "--out", "out"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let size = || fs::metadata(folder.join("out/points.csv")).map_or(0, |m| m.len());
    while size() < 100_000 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no rows after a minute"
        );
        sleep(Duration::from_millis(5));
    }
    child
}

#[cfg(unix)]
fn whole_rows(folder: &Path, least: usize) -> usize {
    let text = fs::read_to_string(folder.join("out/points.csv")).unwrap();
    assert!(text.ends_with('\n'));
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(text.as_bytes());
    let cells = reader.headers().unwrap().len();
    let mut count = 0;
    for record in reader.records() {
        assert_eq!(record.unwrap().len(), cells);
        count += 1;
    }
    let lines = fs::read_to_string(folder.join("out/points.jsonl")).unwrap();
    assert!(lines.ends_with('\n'));
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["cycles"].is_u64() || value["status"] == "illegal");
    }
    assert!(count >= least, "{count}");
    count
}

#[cfg(unix)]
#[test]
fn a_killed_sweep_leaves_whole_rows() {
    let folder = TempDir::new().unwrap();
    let mut child = started(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    whole_rows(folder.path(), 100);
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_marks_what_it_has() {
    let folder = TempDir::new().unwrap();
    let child = started(folder.path());
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("stopped after") && said.contains("of 100000 points"),
        "{said}"
    );
    let count = whole_rows(folder.path(), 100);
    assert!(count < 100_000);
    let (header, found) = rows(&folder.path().join("out/points.csv"));
    assert!(
        found
            .iter()
            .all(|r| ["yes", "no"].contains(&r[header.len() - 1].as_str()))
    );
}

#[test]
fn without_a_folder_rows_go_to_standard_output() {
    let folder = TempDir::new().unwrap();
    let run =
        |format: &str| einflow_in(folder.path(), &["sweep", "lengths", "--format", format]).good();
    let csv = run("csv");
    assert_eq!(csv.lines().count(), 1 + 48);
    assert_eq!(run("json").lines().count(), 48);
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

/// Every shipped sweep but the large one runs as it is and from a copy.
#[test]
fn shipped_sweeps_run() {
    for name in sweeps().names().filter(|n| *n != "design-space") {
        let (folder, code) = swept(&edited(sweeps(), name, &[]));
        assert_eq!(code, 0, "{name}");
        let (header, found) = rows(&out(&folder, "points.csv"));
        let status = header.iter().position(|h| h == "status").unwrap();
        assert!(found.iter().all(|r| r[status] == "ok"), "{name}");
    }
}

/// Each figure as SVG and PNG; text as outlines, the title for readers that do not draw.
#[test]
fn plots_of_every_command() {
    let folder = TempDir::new().unwrap();
    let figures = |arguments: &str| {
        let plots = folder.path().join("plots");
        let _ = fs::remove_dir_all(&plots);
        let line = format!("{arguments} --plot plots");
        einflow_in(folder.path(), &line.split(' ').collect::<Vec<_>>()).good();
        let mut names = Vec::new();
        for entry in fs::read_dir(&plots).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
            if path.extension().unwrap() == "svg" {
                let text = String::from_utf8(bytes).unwrap();
                assert!(
                    text.starts_with("<svg") && text.ends_with("</svg>\n")
                        || text.ends_with("</svg>"),
                    "{stem}"
                );
                assert!(
                    !text.contains("<text") && text.contains("role=\"img\" aria-label="),
                    "{stem}"
                );
                assert!(
                    text.matches("<path d=\"M").count() > 5,
                    "{stem}: hardly any text"
                );
                names.push(stem);
            } else {
                assert!(
                    bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000,
                    "{stem}"
                );
            }
        }
        assert_eq!(fs::read_dir(&plots).unwrap().count(), 2 * names.len());
        names.sort();
        names.join(" ")
    };
    assert_eq!(
        figures("compare"),
        "area-latency energy energy-by-component speed utilization-array1d utilization-array1d-by-einsum utilization-array2d utilization-array2d-by-einsum"
    );
    assert_eq!(
        figures("run --model bert --length 1K --mapping flat"),
        "energy traffic utilization-array1d utilization-array2d"
    );
    assert_eq!(figures("sweep figure12"), "by-buffer-bytes by-pe front");
}

/// A point whose expression has no value is a row with its reason, the first one too.
#[test]
fn a_point_without_a_value_is_a_row() {
    let axes = r#"(path: "accelerator.memories.dram.read_energy", name: "x", values: [1, 2]),
        (path: "accelerator.memories.dram.write_energy", name: "y", as: "1 / (x - 1)")"#;
    let (folder, code) = swept(&small(axes, "columns: [\"seconds\"]"));
    assert_eq!(code, 0);
    let (_, found) = rows(&out(&folder, "points.csv"));
    assert_eq!(found[0][..3], ["1", "", "illegal"]);
    assert!(found[0][4].contains("is inf"), "{:?}", found[0]);
    assert_eq!(found[1][..3], ["2", "1", "ok"]);
}

/// A sweep of nothing but illegal points says why.
#[test]
fn a_sweep_without_a_legal_point_is_refused() {
    let axes = r#"(path: "mapping", values: ["fusemax-bindng", "fusemax-architecure"])"#;
    let folder = folder(&[("mine.ron", small(axes, ""))]);
    let ran = einflow_in(folder.path(), &["sweep", "mine.ron", "--out", "out"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("none of the 2 points"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("`fusemax-bindng`"), "{}", ran.stderr);
    assert_eq!(rows(&out(&folder, "points.csv")).1.len(), 2);
}

/// Files in the working folder are found by bare names, and what they name beside them.
#[test]
fn a_bare_file_name_finds_what_is_beside() {
    let mapping = einflow_mappings::mappings().get("fusemax-binding").unwrap();
    let chip = einflow_arch::accelerators().get("fusemax").unwrap();
    let text = mapping
        .text()
        .replace("accelerator: \"fusemax\"", "accelerator: \"own-chip\"");
    assert_ne!(text, mapping.text());
    let files = [("own.ron", text), ("own-chip.ron", chip.text().to_string())];
    let folder = folder(&files);
    let given = ["--model", "bert", "--length", "1K", "--mapping"];
    let run =
        |name: &str| einflow_in(folder.path(), &[&["run"], &given[..], &[name]].concat()).good();
    assert_eq!(run("own.ron"), run("./own.ron"));
}

/// One sweep at a time writes into a folder, and one that is killed leaves the rows of the one before.
#[cfg(unix)]
#[test]
fn a_folder_belongs_to_one_sweep_and_keeps_its_rows() {
    let few = r#"(path: "accelerator.memories.dram.read_energy", name: "x", values: [1, 2])"#;
    let many = r#"(path: "accelerator.memories.dram.read_energy", name: "x", from: 1, to: 900000, step: 1)"#;
    let files = [("few.ron", small(few, "")), ("many.ron", small(many, ""))];
    let folder = folder(&files);
    let few = ["sweep", "few.ron", "--out", "out"];
    einflow_in(folder.path(), &few).good();
    let before = fs::read(out(&folder, "points.csv")).unwrap();
    let mut long = command(folder.path(), &["sweep", "many.ron", "--out", "out"]);
    let mut long = long
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let beside = out(&folder, "points.csv.new");
    let rows = || fs::read_to_string(&beside).map_or(0, |text| text.lines().count());
    while rows() < 3 && started.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(20));
    }
    assert!(rows() >= 3);
    let refused = einflow_in(folder.path(), &few);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("another sweep"),
        "{}",
        refused.stderr
    );
    long.kill().unwrap();
    long.wait().unwrap();
    assert_eq!(fs::read(out(&folder, "points.csv")).unwrap(), before);
    einflow_in(folder.path(), &few).good();
    assert_eq!(fs::read(out(&folder, "points.csv")).unwrap(), before);
    assert!(!beside.exists());
}
