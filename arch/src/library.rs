use std::sync::LazyLock;

use einflow_spec::Library;
use include_dir::{Dir, include_dir};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/accelerators");

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let files = FILES.files().filter_map(|file| {
        let name = file.path().to_str()?.strip_suffix(".ron")?;
        Some((name.to_string(), file.contents_utf8()?))
    });
    Library::new("accelerator", "ron", files).marked("clock")
});

/// The accelerators that travel inside the binary.
pub fn accelerators() -> &'static Library {
    &LIBRARY
}
