//! The cascade and model files that travel in the binary.

use std::path::Path;
use std::sync::LazyLock;

use einflow_spec::{Library, Problems};
use include_dir::{Dir, include_dir};

use crate::cascade::Cascade;

static CASCADES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/cascades");

static CASCADE_LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("cascade", "ron", files(&CASCADES)).marked("einsums"));

/// Every cascade file: `attention/one-pass`, `transformer/ffn`, ...
pub fn cascades() -> &'static Library {
    &CASCADE_LIBRARY
}

impl Cascade {
    /// Reads and checks a cascade by its name in the library or by path; `beside` is the folder of the file that named it.
    ///
    /// # Errors
    /// No such cascade, an unreadable file, or every mistake in it.
    pub fn load(name: &str, beside: Option<&Path>) -> Result<Self, Problems> {
        let (source, _) = cascades().find(name, beside)?;
        Self::parse(&source)
    }
}

/// Name without extension and text of every RON file below a folder.
pub(crate) fn files(folder: &'static Dir<'static>) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let mut open = vec![folder];
    while let Some(folder) = open.pop() {
        open.extend(folder.dirs());
        for file in folder.files() {
            let path = file.path().to_string_lossy().replace('\\', "/");
            if let (Some(name), Some(text)) = (path.strip_suffix(".ron"), file.contents_utf8()) {
                found.push((name.to_owned(), text));
            }
        }
    }
    found
}
