//! Files by name: each is read and checked once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use einflow_arch::{Accelerator, accelerators};
use einflow_mappings::{mappings, spec::MappingSpec};
use einflow_spec::{Origin, Problems};
use einflow_workloads::{
    cascade::Cascade,
    cascades,
    models::{Model, models},
};

use crate::report::Report;

type Cache<T> = Mutex<HashMap<(String, Option<PathBuf>), Arc<T>>>;

/// Cascades, models, accelerators and mappings, by library name or path. Shared by threads.
#[derive(Default)]
pub struct Catalog {
    cascades: Cache<Cascade>,
    models: Cache<Model>,
    accelerators: Cache<Accelerator>,
    mappings: Cache<MappingSpec>,
    reports: Mutex<HashMap<String, Arc<Report>>>,
}

fn cached<T>(
    cache: &Cache<T>,
    name: &str,
    beside: Option<&Path>,
    load: impl FnOnce() -> Result<T, Problems>,
) -> Result<Arc<T>, Problems> {
    let key = (name.to_string(), beside.map(Path::to_path_buf));
    if let Some(found) = cache.lock().ok().and_then(|c| c.get(&key).cloned()) {
        return Ok(found);
    }
    let value = Arc::new(load()?);
    if let Ok(mut cache) = cache.lock() {
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
        key: String,
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

    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// A cascade; `beside` is the folder of the file that names it.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn cascade(&self, name: &str, beside: Option<&Path>) -> Result<Arc<Cascade>, Problems> {
        cached(&self.cascades, name, beside, || {
            Cascade::parse(&cascades().find(name, beside)?.0)
        })
    }

    /// A model.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn model(&self, name: &str, beside: Option<&Path>) -> Result<Arc<Model>, Problems> {
        cached(&self.models, name, beside, || {
            Model::parse(&models().find(name, beside)?.0)
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
    ) -> Result<Arc<Accelerator>, Problems> {
        cached(&self.accelerators, name, beside, || {
            Accelerator::parse(&accelerators().find(name, beside)?.0)
        })
    }

    /// A mapping; files that it names are looked for beside it first.
    ///
    /// # Errors
    /// No such file, or every mistake in it.
    pub fn mapping(&self, name: &str, beside: Option<&Path>) -> Result<Arc<MappingSpec>, Problems> {
        cached(&self.mappings, name, beside, || {
            let (source, origin) = mappings().find(name, beside)?;
            let folder = match &origin {
                Origin::Folder(folder) => Some(folder.as_path()),
                Origin::Embedded => None,
            };
            MappingSpec::parse(&source, folder)
        })
    }
}
