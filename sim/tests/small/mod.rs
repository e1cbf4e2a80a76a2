//! Attention on small variants of the shipped chip, by text that is replaced in the shipped files.

use std::{collections::BTreeMap, sync::Arc};

use einflow_arch::Accelerator;
use einflow_mappings::{bind, mapped::MappedCascade, spec::MappingSpec};
use einflow_spec::Source;
use einflow_workloads::cascade::Cascade;

/// The three files of a run.
#[derive(Clone, Debug)]
pub struct Files {
    pub cascade: String,
    pub chip: String,
    pub mapping: String,
}

/// Causal attention on the shipped chip.
pub fn causal() -> Files {
    Files {
        cascade: include_str!("../../../workloads/cascades/attention/one-pass-causal.ron").into(),
        chip: include_str!("../../../arch/accelerators/fusemax.ron").into(),
        mapping: include_str!("../../../mappings/fusemax-causal.ron").into(),
    }
}

/// Puts `to` in place of `from`, which has to be there.
pub fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "no `{from}` in\n{text}");
    *text = text.replace(from, to);
}

impl Files {
    /// The same with arrays of so many rows and columns.
    pub fn on(mut self, rows: u64, columns: u64) -> Self {
        replace(&mut self.chip, "rows: 256", &format!("rows: {rows}"));
        replace(
            &mut self.chip,
            "columns: 256",
            &format!("columns: {columns}"),
        );
        self
    }

    /// Bound at these sizes; else what is wrong.
    pub fn bound(&self, sizes: &[(&str, u64)]) -> Result<MappedCascade, String> {
        let source = |name: &str, text: &str| Source::new(name, text.to_string());
        let cascade = Cascade::parse(&source("cascade.ron", &self.cascade)).unwrap();
        let chip = Accelerator::parse(&source("chip.ron", &self.chip)).unwrap();
        let spec = MappingSpec::parse(&source("mapping.ron", &self.mapping), None).unwrap();
        let sizes: BTreeMap<String, u64> = sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
        bind(&Arc::new(cascade), &Arc::new(chip), &Arc::new(spec), &sizes).map_err(|problems| {
            let messages = problems.iter().map(|p| p.message.clone());
            messages.collect::<Vec<_>>().join("; ")
        })
    }
}
