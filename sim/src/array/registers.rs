//! The registers of the PEs.

use einflow_mappings::mapped::MappedCascade;

use crate::program::Program;

/// Words that live in the PEs of each array.
pub(super) struct Registers {
    /// By unit: the most words that lived in one PE.
    pub peak: Vec<u64>,
}

impl Registers {
    pub fn new(mapped: &MappedCascade, _program: &Program) -> Self {
        Self {
            peak: vec![0; mapped.accelerator.arrays.len()],
        }
    }
}
