//! Published and measured tables: the user's, or those of `validation/data`, which travel in the binary.

use std::path::{Path, PathBuf};

use einflow_spec::{Problem, Source, files};

/// Names relative to `validation/data`, and texts.
const TABLES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/data.rs"));

/// Reads a table that a file in the folder `beside` names: beside that file, or else `data/<name>` of the embedded set.
///
/// # Errors
/// No such file, or one that cannot be read.
pub fn data(name: &str, beside: Option<&Path>) -> Result<Source, Problem> {
    let given = PathBuf::from(name);
    let path = match beside {
        Some(folder) => folder.join(&given),
        None => given.clone(),
    };
    let looked_for = beside.is_some() || given.is_absolute();
    if let Some(text) = looked_for.then(|| files::existing_text(&path)).flatten() {
        return Ok(Source::new(path.display().to_string(), text?));
    }
    name.strip_prefix("data/")
        .and_then(|name| TABLES.iter().find(|(known, _)| *known == name))
        .map(|(_, text)| Source::new(name, *text))
        .ok_or_else(|| {
            Problem::nowhere(format!("there is no file {name}"))
                .help("paths resolve beside the experiment, then in the embedded set")
        })
}
