//! Files as users name them: what cannot be read is called what it is.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::Problem;

/// Bytes of a pipe or a device at most: some never end.
const LONGEST_STREAM: u64 = 1 << 30;

/// What pipes gave: they give it once, and a file may be asked for twice.
static STREAMS: Mutex<Option<HashMap<PathBuf, Vec<u8>>>> = Mutex::new(None);

/// The bytes of a file, a pipe or a device.
///
/// # Errors
/// Nothing of this name, a folder, a link that leads nowhere, a file that may not be read.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    existing(path).unwrap_or_else(|| {
        Err(Problem::nowhere(format!(
            "there is no file {}",
            path.display()
        )))
    })
}

/// The text of a file, a pipe or a device.
///
/// # Errors
/// Those of [`read`], and bytes that are no text.
pub fn read_text(path: &Path) -> Result<String, Problem> {
    existing_text(path).unwrap_or_else(|| {
        Err(Problem::nowhere(format!(
            "there is no file {}",
            path.display()
        )))
    })
}

/// Like [`read_text`]; `None` where there is nothing of this name.
///
/// # Errors
/// Those of [`read_text`].
pub fn existing_text(path: &Path) -> Option<Result<String, Problem>> {
    let text = |bytes| {
        String::from_utf8(bytes).map_err(|_| {
            Problem::nowhere(format!("{} is no text: it is not in UTF-8", path.display()))
        })
    };
    Some(existing(path)?.and_then(text))
}

/// Whether there is a file, a pipe or a device of this name, or a link that leads nowhere: no folder.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok() && !path.is_dir()
}

fn existing(path: &Path) -> Option<Result<Vec<u8>, Problem>> {
    let link = fs::symlink_metadata(path).ok()?.is_symlink();
    let what = path.display();
    let wrong = |message: String| Some(Err(Problem::nowhere(message)));
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(e) => {
            return wrong(match e.kind() {
                io::ErrorKind::NotFound => format!("{what} is a link to a file that is not there"),
                io::ErrorKind::PermissionDenied => format!("{what} may not be read"),
                _ if link => format!("{what} is a link that leads back to itself"),
                _ => format!("cannot read {what}: {e}"),
            });
        }
    };
    if found.is_dir() {
        return wrong(format!("{what} is a folder, not a file"));
    }
    let unreadable = |e: io::Error| {
        Problem::nowhere(match e.kind() {
            io::ErrorKind::PermissionDenied => format!("{what} may not be read"),
            _ => format!("cannot read {what}: {e}"),
        })
    };
    if found.is_file() {
        return Some(fs::read(path).map_err(unreadable));
    }
    // Whoever panicked while reading left the map whole.
    let mut streams = STREAMS.lock().unwrap_or_else(|e| e.into_inner());
    let streams = streams.get_or_insert_default();
    if let Some(bytes) = streams.get(path) {
        return Some(Ok(bytes.clone()));
    }
    let mut bytes = Vec::new();
    let stream =
        fs::File::open(path).and_then(|file| file.take(LONGEST_STREAM + 1).read_to_end(&mut bytes));
    match stream {
        Err(e) => Some(Err(unreadable(e))),
        Ok(_) if bytes.len() as u64 > LONGEST_STREAM => {
            wrong(format!("{what} gives more than 2^30 bytes"))
        }
        Ok(_) => {
            streams.insert(path.to_path_buf(), bytes.clone());
            Some(Ok(bytes))
        }
    }
}
