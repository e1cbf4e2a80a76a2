use std::path::{Path, PathBuf};

use crate::{Node, Problem, Source, did_you_mean, files::existing_text, nearest};

/// Files that travel inside the binary: names without the extension, sorted, and their texts.
#[derive(Clone, Debug)]
pub struct Library {
    what: &'static str,
    extension: &'static str,
    marker: Option<&'static str>,
    files: Vec<(String, &'static str)>,
}

/// Where a file came from; paths inside it resolve beside it first, then in the embedded set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded set.
    Embedded,
    /// A folder of the user's.
    Folder(PathBuf),
}

impl Origin {
    /// The user's folder.
    pub fn folder(self) -> Option<PathBuf> {
        match self {
            Origin::Folder(folder) => Some(folder),
            Origin::Embedded => None,
        }
    }
}

impl Library {
    /// A library of `what` ("cascade") whose files end in `extension` ("ron").
    pub fn new(
        what: &'static str,
        extension: &'static str,
        files: impl IntoIterator<Item = (String, &'static str)>,
    ) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort();
        Self {
            what,
            extension,
            marker: None,
            files,
        }
    }

    /// A library of the names and texts that a build script embedded.
    pub fn of(what: &'static str, extension: &'static str, files: &[(&str, &'static str)]) -> Self {
        let owned = files.iter().map(|&(name, text)| (name.to_owned(), text));
        Self::new(what, extension, owned)
    }

    /// The same library, of files that all have the field `marker` and no other kind has: a file of another kind
    /// beside the one that names it does not hide an embedded one of that name.
    #[must_use]
    pub fn marked(mut self, marker: &'static str) -> Self {
        self.marker = Some(marker);
        self
    }

    /// Whether a text may be of this kind; one that cannot be read may.
    pub fn may_be(&self, source: &Source) -> bool {
        let Some(marker) = self.marker else {
            return true;
        };
        match Node::parse(source) {
            Ok(node) => node
                .record()
                .is_ok_and(|entries| entries.iter().any(|(key, _, _)| key == marker)),
            Err(_) => true,
        }
    }

    /// Names of all files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// The text of an embedded file.
    pub fn get(&self, name: &str) -> Option<Source> {
        let found = self
            .files
            .binary_search_by(|(n, _)| n.as_str().cmp(name))
            .ok()?;
        Some(Source::new(
            format!("{name}.{}", self.extension),
            self.files[found].1,
        ))
    }

    /// Finds a file by library name or by path. `beside` is the folder of the file that named it,
    /// if any: a file there wins over the embedded one of the same name, with or without the extension.
    ///
    /// # Errors
    /// No such file or name (the nearest known name is suggested), or an unreadable file.
    pub fn find(&self, name: &str, beside: Option<&Path>) -> Result<(Source, Origin), Problem> {
        let with_extension = format!("{name}.{}", self.extension);
        let looks_like_path = name.ends_with(&format!(".{}", self.extension))
            || Path::new(name).is_absolute()
            || ["./", "../"].iter().any(|dots| name.starts_with(dots));
        let mut candidates = Vec::new();
        if let Some(folder) = beside {
            candidates.push(folder.join(name));
            candidates.push(folder.join(&with_extension));
        } else if looks_like_path || Path::new(name).extension().is_some() {
            candidates.push(PathBuf::from(name));
        }
        let embedded = self.get(name);
        let mut unreadable = None;
        for path in candidates {
            let text = match existing_text(&path) {
                Some(Err(problem)) => {
                    unreadable.get_or_insert(problem);
                    None
                }
                Some(Ok(text)) => Some(text),
                None => None,
            };
            if let Some(text) = text {
                let source = Source::new(path.display().to_string(), text);
                if embedded.is_some() && !self.may_be(&source) {
                    continue;
                }
                let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
                return Ok((source, Origin::Folder(folder)));
            }
        }
        if let Some(source) = embedded {
            return Ok((source, Origin::Embedded));
        }
        if let Some(problem) = unreadable {
            return Err(problem);
        }
        let stem = name
            .strip_suffix(&format!(".{}", self.extension))
            .unwrap_or(name);
        if let (true, Some(_)) = (looks_like_path, self.get(stem)) {
            return Err(Problem::nowhere(format!("there is no file {name}"))
                .help(format!("the library's {} is named `{stem}`", self.what)));
        }
        let short: Vec<&str> = self.names().collect();
        // A name given without its folder is a likely slip.
        let last = |name: &'_ str| {
            name.rsplit('/')
                .next()
                .map(str::to_string)
                .unwrap_or_default()
        };
        let lasts: Vec<String> = short.iter().map(|n| last(n)).collect();
        let by_last = nearest(stem, lasts.iter().map(String::as_str))
            .and_then(|found| short.iter().find(|n| last(n) == found));
        let help = match (nearest(stem, short.iter().copied()), by_last) {
            (Some(found), _) | (None, Some(&found)) => format!("did you mean `{found}`?"),
            // A path says nothing of the library.
            (None, None) if looks_like_path && stem.contains('/') => String::new(),
            (None, None) => did_you_mean(stem, short.iter().copied()),
        };
        let message = if looks_like_path {
            format!("there is no file {name}")
        } else {
            format!("there is no {} named `{name}`", self.what)
        };
        Err(Problem::nowhere(message).help(help))
    }
}
