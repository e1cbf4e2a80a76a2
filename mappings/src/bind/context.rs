//! What every block of one mapping shares, and the names in it.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_spec::{Problem, did_you_mean};
use einflow_workloads::cascade::{Cascade, EinsumId, TensorId, TensorKind};

use super::{
    projections::Projections,
    ranks::{Ranks, Scope},
};
use crate::{
    mapped::Place,
    spec::{BlockSpec, MappingSpec, Name, Row},
};

/// What every block of one mapping shares.
pub(crate) struct Context<'a> {
    pub cascade: &'a Cascade,
    pub accelerator: &'a Accelerator,
    pub spec: &'a MappingSpec,
    pub given: &'a BTreeMap<String, u64>,
    pub ranks: &'a Ranks,
    pub projections: &'a Projections,
    /// By tensor: the block that binds its Einsum.
    pub made_in: Vec<Option<usize>>,
    pub row: Option<&'a Row>,
}

impl Context<'_> {
    pub fn at(&self, name: &Name, message: String) -> Problem {
        Problem::at(&self.spec.source, name.span, message)
    }

    pub fn scope<'a>(&'a self, found: &'a BTreeMap<String, u64>) -> Scope<'a> {
        Scope {
            given: self.given,
            found,
            accelerator: self.accelerator,
            row: self.row,
            source: &self.spec.source,
        }
    }

    /// The block that binds the Einsum of a tensor; `None` for inputs and views.
    pub fn made_in(&self, tensor: TensorId) -> Option<usize> {
        self.made_in[tensor.0]
    }

    /// The Einsums that a block binds, in the cascade's order.
    pub fn einsums_of(&self, block: usize) -> impl Iterator<Item = EinsumId> + '_ {
        (0..self.cascade.einsums.len())
            .map(EinsumId)
            .filter(move |id| {
                let einsum = self.cascade.einsum(*id);
                !einsum.view && self.made_in(einsum.output) == Some(block)
            })
    }

    /// Whether a tensor comes from outside the block or is needed outside it.
    pub fn crosses(&self, block: usize, tensor: TensorId) -> bool {
        let t = self.cascade.tensor(tensor);
        if matches!(t.kind, TensorKind::Input | TensorKind::Output) {
            return true;
        }
        if self.made_in(tensor) != Some(block) {
            return true;
        }
        let mut einsums = (0..self.cascade.einsums.len()).map(EinsumId);
        einsums.any(|id| {
            let e = self.cascade.einsum(id);
            let mut reads = self.projections.listed(id).iter();
            !e.view
                && self.made_in(e.output) != Some(block)
                && reads.any(|r| self.projections.viewed(r.tensor) == tensor)
        })
    }

    /// The tensor that a name in the mapping stands for; a view stands for what it views.
    pub fn tensor(&self, name: &Name) -> Result<TensorId, Problem> {
        let id = self.cascade.tensor_named(&name.text).ok_or_else(|| {
            let known = self.cascade.tensors.iter().map(|t| t.name.as_str());
            self.at(
                name,
                format!("{} has no tensor `{}`", self.cascade.name, name.text),
            )
            .help(did_you_mean(&name.text, known))
        })?;
        Ok(self.projections.viewed(id))
    }

    /// The memory that a name stands for.
    pub fn memory(&self, name: &Name) -> Result<usize, Problem> {
        let known = self.accelerator.memories.iter().map(|m| m.name.as_str());
        self.accelerator
            .memories
            .iter()
            .position(|m| m.name == name.text)
            .ok_or_else(|| {
                self.at(
                    name,
                    format!("{} has no memory `{}`", self.accelerator.name, name.text),
                )
                .help(did_you_mean(&name.text, known))
            })
    }

    /// The array that a name stands for.
    pub fn array(&self, name: &Name) -> Result<usize, Problem> {
        let known = self.accelerator.arrays.iter().map(|a| a.name.as_str());
        self.accelerator
            .arrays
            .iter()
            .position(|a| a.name == name.text)
            .ok_or_else(|| {
                self.at(
                    name,
                    format!("{} has no array `{}`", self.accelerator.name, name.text),
                )
                .help(did_you_mean(&name.text, known))
            })
    }

    /// The memory, or the array whose registers are meant, that a name stands for.
    pub fn place(&self, name: &Name) -> Result<Place, Problem> {
        if let Some(array) = self
            .accelerator
            .arrays
            .iter()
            .position(|a| a.name == name.text)
        {
            return Ok(Place::Registers(array));
        }
        let known: Vec<&str> = self
            .accelerator
            .memories
            .iter()
            .map(|m| m.name.as_str())
            .chain(self.accelerator.arrays.iter().map(|a| a.name.as_str()))
            .collect();
        self.memory(name).map(Place::Memory).map_err(|_| {
            self.at(
                name,
                format!(
                    "{} has no memory or array `{}`",
                    self.accelerator.name, name.text
                ),
            )
            .help(did_you_mean(&name.text, known.iter().copied()))
        })
    }

    /// The splits that hold in a block: its own, and the mapping's of other ranks.
    pub fn splits<'b>(&'b self, block: &'b BlockSpec) -> Vec<&'b (Name, Vec<Name>)> {
        let own = &block.splits;
        let others = self
            .spec
            .splits
            .iter()
            .filter(|(rank, _)| !own.iter().any(|(o, _)| o.text == rank.text));
        own.iter().chain(others).collect()
    }
}

/// By tensor: the block that binds its Einsum.
pub(crate) fn makers(cascade: &Cascade, spec: &MappingSpec) -> Vec<Option<usize>> {
    let maker = |einsum: &str| {
        spec.blocks.iter().position(|b| {
            b.nests
                .iter()
                .any(|n| n.einsums.iter().any(|(name, _)| name.text == einsum))
        })
    };
    cascade.tensors.iter().map(|t| maker(&t.name)).collect()
}
