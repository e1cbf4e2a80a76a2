//! For build scripts: embeds a folder's data files, and no page, source or test that lies beside them.

use std::{collections::BTreeMap, env, fmt::Write, fs, io, path::PathBuf};

/// Writes `$OUT_DIR/<list>.rs`: an expression `&[(name, text), ..]` of the files right in `folder`, relative to the package, that end in
/// `extension`, by name without it. Cargo runs the script again when one of them changes; a *new* file is seen when the script or
/// any of them is touched, and a test of each list says so if it was not.
///
/// # Errors
/// A folder that cannot be read, a list that cannot be written, or a call from outside a build script.
pub fn embed(list: &str, folder: &str, extension: &str) -> io::Result<()> {
    let var = |name: &str| env::var(name).map_err(io::Error::other);
    let folder = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join(folder);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            files.insert(name.to_owned(), path);
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
    let mut text = String::from("&[\n");
    for (name, path) in files {
        println!("cargo:rerun-if-changed={}", path.display());
        writeln!(text, "    ({name:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    text.push(']');
    fs::write(
        PathBuf::from(var("OUT_DIR")?).join(format!("{list}.rs")),
        text,
    )
}
