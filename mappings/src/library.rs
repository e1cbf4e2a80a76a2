use std::sync::LazyLock;

use einflow_spec::Library;

static MAPPINGS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/mappings.rs"));
static TABLES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// The mapping files that travel in the binary.
pub fn mappings() -> &'static Library {
    static LIBRARY: LazyLock<Library> =
        LazyLock::new(|| Library::of("mapping", "ron", MAPPINGS).marked("blocks"));
    &LIBRARY
}

/// Tables of choices that the mapping files refer to.
pub(crate) fn tables() -> &'static Library {
    static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::of("table", "csv", TABLES));
    &LIBRARY
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A file that is new since the build script ran is not in the list.
    #[test]
    fn every_file_is_embedded() {
        for (library, extension) in [(mappings(), "ron"), (tables(), "csv")] {
            let mut names: Vec<String> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == extension))
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            assert_eq!(
                library.names().collect::<Vec<_>>(),
                names,
                "touch mappings/build.rs"
            );
        }
    }
}
