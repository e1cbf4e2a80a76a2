use std::sync::LazyLock;

use einflow_spec::Library;
use include_dir::{Dir, include_dir};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR");

fn files(extension: &'static str) -> impl Iterator<Item = (String, &'static str)> {
    FILES
        .files()
        .filter(move |f| f.path().extension().is_some_and(|e| e == extension))
        .filter_map(|f| {
            let name = f.path().file_stem()?.to_str()?.to_string();
            Some((name, f.contents_utf8()?))
        })
}

/// The mapping files that travel in the binary.
pub fn mappings() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::new("mapping", "ron", files("ron")).marked("blocks"));
    &LIBRARY
}

/// Tables of choices that the mapping files refer to.
pub(crate) fn tables() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::new("table", "csv", files("csv")));
    &LIBRARY
}
