//! The commands of `README.md` do what it says: each runs in a folder of its own and succeeds.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Commands of the `sh` blocks that run the binary, without their prompt, pipes, redirections and comments, and those
/// that edit a file, whole.
///
/// Other commands (`cargo test`, `git clone`) are left out.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut open = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```sh";
            continue;
        }
        if !inside {
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        open.push_str(line.trim_end_matches('\\'));
        if line.ends_with('\\') {
            continue;
        }
        let command = std::mem::take(&mut open);
        let arguments = ["cargo run --release -- ", "einflow "]
            .iter()
            .find_map(|start| command.strip_prefix(start));
        let end = |text: &str| {
            [" | ", " > ", " #"]
                .iter()
                .filter_map(|stop| text.find(stop))
                .min()
                .unwrap_or(text.len())
        };
        found.extend(arguments.map(|a| a[..end(a)].trim().to_string()));
        if command.starts_with("sed ") {
            found.push(command);
        }
    }
    found
}

#[test]
fn commands_are_found() {
    let page = "Text `einflow no`.\n```sh\ncargo run --release -- compare   # five accelerators\ncargo test\n$ einflow eval x \\\n    --size M0=16\neinflow list | head -1\n```\n```ron\neinflow no\n```\n```sh\neinflow completions bash > file\nsed s/a/b/ x > y\n```\n";
    assert_eq!(
        commands(page),
        [
            "compare",
            "eval x --size M0=16",
            "list",
            "completions bash",
            "sed s/a/b/ x > y"
        ]
    );
}

/// `in.npz`, for `eval`: Q, K and V of four queries and eight keys.
fn tensors() -> Vec<u8> {
    use npyz::WriterBuilder;
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, rows, columns) in [("Q", 2, 4), ("K", 2, 8), ("V", 3, 8)] {
        let mut array = Vec::new();
        let options = npyz::WriteOptions::<f64>::new()
            .default_dtype()
            .shape(&[rows, columns]);
        let mut writer = options.writer(&mut array).begin_nd().unwrap();
        writer
            .extend((0..rows * columns).map(|i| i as f64 / 8.0))
            .unwrap();
        writer.finish().unwrap();
        zip.start_file(
            format!("{name}.npy"),
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
        zip.write_all(&array).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn every_command_succeeds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = fs::read_to_string(&path).unwrap_or_default();
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("in.npz"), tensors()).unwrap();
    // Commands that change a file name it from the top of the repository.
    #[cfg(unix)]
    std::os::unix::fs::symlink(path.with_file_name("arch"), folder.path().join("arch")).unwrap();
    for line in commands(&page) {
        if line.starts_with("sed ") {
            let shell = Command::new("sh")
                .current_dir(folder.path())
                .args(["-c", &line])
                .status();
            assert!(shell.unwrap().success(), "{line}");
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_einflow"))
            .current_dir(folder.path())
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "einflow {line}\n{said}");
        assert!(!output.stdout.is_empty(), "einflow {line}: says nothing");
    }
}
