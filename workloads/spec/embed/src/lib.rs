//! For build scripts: embeds a folder's data files, and no page, source or test that lies beside them.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

/// Writes `$OUT_DIR/<list>.rs`: an expression `&[(name, text), ..]` of the files right in `folder`, relative to the
/// package, that end in `extension`, by name without it.
///
/// Cargo runs the script again when one of them changes; a *new* file is seen when the script or any of them is
/// touched, and a test of each list says so if it was not.
///
/// # Errors
/// A folder that cannot be read, a list that cannot be written, or a call from outside a build script.
pub fn embed(list: &str, folder: &str, extension: &str) -> io::Result<()> {
    let folder = package()?.join(folder);
    let mut files = BTreeMap::new();
    for path in entries(&folder)? {
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            files.insert(name.to_owned(), path);
        }
    }
    write(list, files)
}

/// The same of a folder and all below it, by path relative to it, with `/` between its parts and the extension: any of
/// `extensions`.
///
/// # Errors
/// Those of [`embed`].
pub fn embed_tree(list: &str, folder: &str, extensions: &[&str]) -> io::Result<()> {
    let root = package()?.join(folder);
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .and_then(|found| found.to_str())
                .is_some_and(|found| extensions.contains(&found))
                && let Ok(inner) = path.strip_prefix(&root)
            {
                let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
                files.insert(parts.join("/"), path);
            }
        }
    }
    write(list, files)
}

fn package() -> io::Result<PathBuf> {
    Ok(PathBuf::from(
        env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?,
    ))
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect()
}

fn write(list: &str, files: BTreeMap<String, PathBuf>) -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut text = String::from("&[\n");
    for (name, path) in files {
        println!("cargo:rerun-if-changed={}", path.display());
        writeln!(text, "    ({name:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    text.push(']');
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(PathBuf::from(out).join(format!("{list}.rs")), text)
}
