//! Files by name: each is read and checked once.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use einflow_arch::{Accelerator, accelerators};
use einflow_mappings::{mapped::MappedCascade, mappings, spec::MappingSpec};
use einflow_spec::{Edit, Origin, Problem, Problems, edited};
use einflow_workloads::{
    cascade::Cascade,
    cascades,
    models::{Model, models},
};

use crate::{
    check::{Check, Depth, check, miniature, miniature::Shape},
    report::Report,
    request::RunKey,
};

/// A file: its name, the folder to look in first, and what to change in it.
type Key = (String, Option<PathBuf>, Vec<Edit>);
type Cache<T> = Mutex<HashMap<Key, Arc<T>>>;
/// The accelerator that numbers were changed in (kept, so that its address stays its own), and the result.
type Overridden = (Arc<Accelerator>, Arc<Accelerator>);
/// The accelerator's address, and the numbers by path, as bits.
type Overrides = (usize, Vec<(String, u64)>);

/// What a check follows from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CheckKey {
    /// The addresses of the mapping, the cascade and the accelerator: files of one name may differ.
    files: (usize, usize, usize),
    miniature: Shape,
    depth: Depth,
    /// Those at the real length, where that is checked too.
    sizes: Option<BTreeMap<String, u64>>,
}

/// A check, and the files that it is of (kept, so that their addresses stay their own).
type Checked = (
    (Arc<MappingSpec>, Arc<Cascade>, Arc<Accelerator>),
    OnceLock<Arc<Check>>,
);

/// A cache of changed files is emptied at so many, so that a sweep's memory does not grow with its points.
const MOST_CHANGED: usize = 64;

/// Cascades, models, accelerators and mappings, by library name or path. Shared by threads.
#[derive(Default)]
pub struct Catalog {
    cascades: Cache<Cascade>,
    models: Cache<Model>,
    accelerators: Cache<Accelerator>,
    mappings: Cache<MappingSpec>,
    overridden: Mutex<HashMap<Overrides, Overridden>>,
    bound: Mutex<HashMap<(String, RunKey), Arc<MappedCascade>>>,
    reports: Mutex<HashMap<RunKey, Arc<Report>>>,
    checks: Mutex<HashMap<CheckKey, Arc<Checked>>>,
}

fn cached<T>(
    cache: &Cache<T>,
    name: &str,
    beside: Option<&Path>,
    edits: &[Edit],
    load: impl FnOnce() -> Result<T, Problems>,
) -> Result<Arc<T>, Problems> {
    let key = (
        name.to_string(),
        beside.map(Path::to_path_buf),
        edits.to_vec(),
    );
    if let Some(found) = cache.lock().ok().and_then(|c| c.get(&key).cloned()) {
        return Ok(found);
    }
    let value = Arc::new(load()?);
    if let Ok(mut cache) = cache.lock() {
        if cache.len() >= MOST_CHANGED {
            cache.retain(|(_, _, edits), _| edits.is_empty());
        }
        cache.insert(key, Arc::clone(&value));
    }
    Ok(value)
}

impl Catalog {
    /// The report of a run that was made before, or makes it. `key` tells runs apart.
    ///
    /// # Errors
    /// Those of the run.
    pub fn report(
        &self,
        key: RunKey,
        run: impl FnOnce() -> Result<Report, Problems>,
    ) -> Result<Arc<Report>, Problems> {
        if let Some(found) = self.reports.lock().ok().and_then(|c| c.get(&key).cloned()) {
            return Ok(found);
        }
        let report = Arc::new(run()?);
        if let Ok(mut reports) = self.reports.lock() {
            reports.insert(key, Arc::clone(&report));
        }
        Ok(report)
    }

    /// A check of a mapped cascade's values; runs with the same miniature share one.
    pub fn check(&self, mapped: &MappedCascade, depth: Depth) -> Arc<Check> {
        let files = (
            Arc::clone(&mapped.spec),
            Arc::clone(&mapped.cascade),
            Arc::clone(&mapped.accelerator),
        );
        let key = CheckKey {
            files: (
                Arc::as_ptr(&files.0) as usize,
                Arc::as_ptr(&files.1) as usize,
                Arc::as_ptr(&files.2) as usize,
            ),
            miniature: miniature::key(mapped),
            depth,
            sizes: (depth == Depth::Length).then(|| mapped.sizes.clone()),
        };
        let fresh = || Arc::new((files, OnceLock::new()));
        let cell = match self.checks.lock() {
            Ok(mut checks) => Arc::clone(checks.entry(key).or_insert_with(fresh)),
            Err(_) => fresh(),
        };
        Arc::clone(cell.1.get_or_init(|| Arc::new(check(mapped, depth))))
    }

    /// A mapped cascade that was bound before on this accelerator, or one that differs from it in nothing that bears
    /// on mappings; or binds it. `key` tells all else apart.
    ///
    /// # Errors
    /// Those of binding.
    pub fn bound(
        &self,
        key: (String, RunKey),
        accelerator: &Arc<Accelerator>,
        bind: impl FnOnce() -> Result<MappedCascade, Problems>,
    ) -> Result<MappedCascade, Problems> {
        let found = self.bound.lock().ok().and_then(|c| c.get(&key).cloned());
        let mapped = match found {
            Some(found) => found,
            None => {
                let mapped = Arc::new(bind()?);
                if let Ok(mut cache) = self.bound.lock() {
                    if cache.len() >= MOST_CHANGED {
                        cache.clear();
                    }
                    cache.insert(key, Arc::clone(&mapped));
                }
                mapped
            }
        };
        Ok(mapped.on(accelerator))
    }

    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// A cascade; `beside` is the folder of the file that names it, `edits` change values in the file.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn cascade(
        &self,
        name: &str,
        beside: Option<&Path>,
        edits: &[Edit],
    ) -> Result<Arc<Cascade>, Problems> {
        cached(&self.cascades, name, beside, edits, || {
            Cascade::parse(&edited(&cascades().find(name, beside)?.0, edits)?)
        })
    }

    /// A model.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn model(
        &self,
        name: &str,
        beside: Option<&Path>,
        edits: &[Edit],
    ) -> Result<Arc<Model>, Problems> {
        cached(&self.models, name, beside, edits, || {
            Model::parse(&edited(&models().find(name, beside)?.0, edits)?)
        })
    }

    /// An accelerator.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn accelerator(
        &self,
        name: &str,
        beside: Option<&Path>,
        edits: &[Edit],
    ) -> Result<Arc<Accelerator>, Problems> {
        cached(&self.accelerators, name, beside, edits, || {
            Accelerator::parse(&edited(&accelerators().find(name, beside)?.0, edits)?)
        })
    }

    /// An accelerator with some of its numbers changed.
    ///
    /// # Errors
    /// As [`Accelerator::with_overrides`].
    pub fn overridden(
        &self,
        accelerator: &Arc<Accelerator>,
        overrides: &[(String, f64)],
    ) -> Result<Arc<Accelerator>, Problem> {
        let bits = overrides.iter().map(|(p, v)| (p.clone(), v.to_bits()));
        let key = (Arc::as_ptr(accelerator) as usize, bits.collect());
        let found = self.overridden.lock().ok();
        if let Some((_, found)) = found.and_then(|c| c.get(&key).cloned()) {
            return Ok(found);
        }
        let numbers: Vec<(&str, f64)> = overrides.iter().map(|(p, v)| (p.as_str(), *v)).collect();
        let changed = Arc::new(accelerator.with_overrides(&numbers)?);
        if let Ok(mut cache) = self.overridden.lock() {
            if cache.len() >= MOST_CHANGED {
                cache.clear();
            }
            cache.insert(key, (Arc::clone(accelerator), Arc::clone(&changed)));
        }
        Ok(changed)
    }

    /// A mapping; files that it names are looked for beside it first.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn mapping(
        &self,
        name: &str,
        beside: Option<&Path>,
        edits: &[Edit],
    ) -> Result<Arc<MappingSpec>, Problems> {
        cached(&self.mappings, name, beside, edits, || {
            let (source, origin) = mappings().find(name, beside)?;
            let folder = match &origin {
                Origin::Folder(folder) => Some(folder.as_path()),
                Origin::Embedded => None,
            };
            MappingSpec::parse(&edited(&source, edits)?, folder)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::request::Request;

    /// Files of one name may differ: here in how the operators compute their functions.
    #[test]
    fn checks_are_of_files_and_not_of_their_names() {
        let catalog = Catalog::new();
        let request = Request {
            model: Some("bert".into()),
            length: Some(1024),
            mapping: "fusemax-binding".into(),
            ..Request::default()
        };
        let mapped = request.bind(&catalog).unwrap();
        let mut chip = (*mapped.accelerator).clone();
        for array in &mut chip.arrays {
            for operator in array.operators.values_mut() {
                operator.computes = None;
            }
        }
        let other = mapped.on(&Arc::new(chip));
        let listed = |mapped| {
            let check = catalog.check(mapped, Depth::Functions);
            check.miniature.as_ref().unwrap().as_listed.is_some()
        };
        assert!(listed(&mapped) && !listed(&other));
        // Of the same files and sizes there is one check.
        let again = request.bind(&catalog).unwrap();
        assert!(Arc::ptr_eq(
            &catalog.check(&mapped, Depth::Functions),
            &catalog.check(&again, Depth::Functions)
        ));
    }
}
