//! Running the binary in a folder of its own, and golden files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use einflow_spec::Library;
use tempfile::TempDir;

/// What a run of the binary did.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output of a run that succeeded and complained of nothing.
    pub fn good(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (0, ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.good()).unwrap()
    }
}

/// The binary, not started.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_einflow"));
    command
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Runs the binary in a folder.
pub fn einflow_in(folder: &Path, arguments: &[&str]) -> Ran {
    let output = command(folder, arguments).output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the binary in an empty folder; arguments are split at spaces.
pub fn einflow(arguments: &str) -> Ran {
    let folder = TempDir::new().unwrap();
    einflow_in(
        folder.path(),
        &arguments.split_whitespace().collect::<Vec<_>>(),
    )
}

/// A folder with these files.
pub fn folder(files: &[(&str, String)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A file of a library with some of its text replaced; each piece must be there once.
pub fn edited(library: &Library, name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = library
        .get(name)
        .unwrap_or_else(|| panic!("{name}"))
        .text()
        .to_string();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{name} holds {from:?} once");
        text = text.replace(from, to);
    }
    text
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Compares with a golden file, or writes it where `EINFLOW_BLESS=1`. Returns what differs.
pub fn differs(name: &str, found: &str) -> Option<String> {
    let path = golden_path(name);
    if std::env::var_os("EINFLOW_BLESS").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    (expected != found).then(|| format!("{}: expected\n{expected}\nfound\n{found}", path.display()))
}

/// Like [`differs`], for one file.
pub fn golden(name: &str, found: &str) {
    if let Some(difference) = differs(name, found) {
        panic!("{difference}\n(EINFLOW_BLESS=1 writes what was found)");
    }
}

/// Golden files of a folder that no test writes any more.
pub fn stale(folder: &str, known: &[String]) -> Vec<String> {
    let names = fs::read_dir(golden_path(folder))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !known.contains(name)).collect()
}
