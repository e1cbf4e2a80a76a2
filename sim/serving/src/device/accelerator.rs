//! An accelerator of this simulator as a device: attention's time and energy from an engine.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use einflow_arch::device::{Attention, Kernel, Modelled as Spec};
use einflow_spec::{
    Problem, Problems,
    quantity::{BytesPerSecond, Seconds},
};

use einflow_engine::report::Report;
use einflow_engine::{
    catalog::Catalog,
    request::{Engine, Request, RunKey},
};

/// An accelerator with its mapping of attention.
pub struct Modelled {
    spec: Spec,
    beside: Option<PathBuf>,
    catalog: Catalog,
    engine: Engine,
    /// Numbers of the accelerator that are other than its file's.
    overrides: Vec<(String, f64)>,
    known: Mutex<HashMap<RunKey, Arc<Report>>>,
}

impl Modelled {
    pub(super) fn load(spec: &Spec, beside: Option<&Path>) -> Result<Self, Problems> {
        let catalog = Catalog::new();
        catalog.accelerator(&spec.accelerator, beside, &[])?;
        Ok(Self {
            spec: spec.clone(),
            beside: beside.map(Path::to_path_buf),
            catalog,
            engine: Engine::Analytic,
            overrides: Vec::new(),
            known: Mutex::new(HashMap::new()),
        })
    }

    /// Takes times from another engine.
    pub fn by(&mut self, engine: Engine) {
        self.engine = engine;
    }

    /// Another bandwidth of the outermost memory.
    ///
    /// # Errors
    /// An accelerator that cannot be read.
    pub fn with_bandwidth(&mut self, bandwidth: BytesPerSecond) -> Result<(), Problems> {
        let (name, beside) = (&self.spec.accelerator, self.beside.as_deref());
        let accelerator = self.catalog.accelerator(name, beside, &[])?;
        if let Some(memory) = accelerator.memories.first() {
            let path = format!("memories.{}.bandwidth", memory.name);
            self.overrides = vec![(path, bandwidth.0)];
        }
        Ok(())
    }

    /// The report of a kernel of attention.
    ///
    /// The query heads that share a key head are queries of one sequence to it: G of them in decode, G for each token of a prompt.
    ///
    /// # Errors
    /// A kernel that is no attention; a shape that the mapping refuses.
    pub fn report(&self, kernel: &Kernel) -> Result<Arc<Report>, Problem> {
        let (attention, queries, mapping) = match kernel {
            Kernel::Decode(a) => (a, 1, &self.spec.mapping),
            Kernel::Prefill(a) if a.causal => {
                let causal = self.spec.causal.as_ref().unwrap_or(&self.spec.mapping);
                (a, a.length, causal)
            }
            Kernel::Prefill(a) => (a, a.length, &self.spec.mapping),
            _ => {
                return Err(Problem::nowhere(format!(
                    "{} computes attention; this is none",
                    self.spec.accelerator
                )));
            }
        };
        let request = self.request(attention, queries, mapping);
        let key = request.key();
        if let Some(found) = self.known.lock().ok().and_then(|k| k.get(&key).cloned()) {
            return Ok(found);
        }
        let report = request.run(&self.catalog).map_err(|problems| {
            let first = problems.iter().next().cloned();
            first.unwrap_or_else(|| Problem::nowhere("a run without a reason to fail"))
        })?;
        let report = Arc::new(report);
        if let Ok(mut known) = self.known.lock() {
            known.insert(key, Arc::clone(&report));
        }
        Ok(report)
    }

    fn request(&self, a: &Attention, queries: u64, mapping: &str) -> Request {
        let grouped = a.heads / a.key_heads.max(1);
        // A causal mask tells queries apart by their place: heads that share keys stay heads.
        let (heads, rows) = match a.causal && queries > 1 {
            true => (a.heads, queries),
            false => (a.key_heads, queries.saturating_mul(grouped)),
        };
        let sizes = [
            ("B", a.batch),
            ("H", heads),
            ("E", a.width),
            ("F", a.value_width),
            ("M", a.length),
            ("P", rows),
        ];
        Request {
            accelerator: Some(self.spec.accelerator.clone()),
            mapping: mapping.to_string(),
            sizes: sizes
                .into_iter()
                .map(|(name, size)| (name.to_string(), size))
                .collect::<BTreeMap<_, _>>(),
            engine: self.engine,
            beside: self.beside.clone(),
            overrides: self.overrides.clone(),
            ..Request::default()
        }
    }

    pub(super) fn time(&self, kernel: &Kernel) -> Result<Seconds, Problem> {
        Ok(Seconds(self.report(kernel)?.seconds()))
    }
}
