use std::sync::LazyLock;

use einflow_spec::Library;
use include_dir::{Dir, include_dir};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/accelerators");

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("accelerator", "ron", files(&FILES)).marked("clock"));

/// Names and texts of the RON files of a folder.
pub(crate) fn files(folder: &'static Dir<'_>) -> impl Iterator<Item = (String, &'static str)> {
    folder.files().filter_map(|file| {
        let name = file.path().to_str()?.strip_suffix(".ron")?;
        Some((name.to_string(), file.contents_utf8()?))
    })
}

/// The accelerators that travel inside the binary.
pub fn accelerators() -> &'static Library {
    &LIBRARY
}
