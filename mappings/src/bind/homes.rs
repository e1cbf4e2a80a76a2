//! Where a tensor is when an Einsum of a block reads or writes it.

use einflow_workloads::cascade::{ReadTime, TensorId};

use super::context::Context;
use crate::{
    mapped::{Block, BoundEinsum, BoundOperand, Keep, OperandOrigin, Place},
    nest::{Dim, Projection},
    spec::{BindingSpec, Name},
};

/// Where an Einsum takes an operand from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'b> {
    /// From a memory.
    Memory(usize),
    /// From the array that makes it, with no memory between.
    Made(&'b BoundEinsum),
    /// From the registers of its own array, which keep what that array made.
    Kept(&'b BoundEinsum),
}

/// An operand of an Einsum.
pub(crate) struct Operand<'a> {
    pub tensor: TensorId,
    /// How the read stands to the tensor's iterative rank.
    pub time: ReadTime,
    pub origin: Origin<'a>,
    /// Which of its words are read.
    pub dims: &'a [Dim],
}

/// The places of one block's tensors.
pub(crate) struct Homes<'a> {
    pub context: &'a Context<'a>,
    pub index: usize,
    pub block: &'a Block,
}

impl<'a> Homes<'a> {
    /// The Einsums of the block: nest, position, Einsum.
    pub fn einsums(&self) -> impl Iterator<Item = (usize, usize, &'a BoundEinsum)> + use<'a> {
        let nests = self.block.nests.iter().enumerate();
        nests.flat_map(|(n, nest)| {
            let einsums = nest.einsums.iter().enumerate();
            einsums.map(move |(e, einsum)| (n, e, einsum))
        })
    }

    /// The file's words for an Einsum.
    pub fn binding(&self, nest: usize, position: usize) -> (&'a Name, &'a BindingSpec) {
        let (name, binding) = &self.context.spec.blocks[self.index].nests[nest].einsums[position];
        (name, binding)
    }

    pub fn output(&self, einsum: &BoundEinsum) -> TensorId {
        self.context.cascade.einsum(einsum.einsum).output
    }

    pub fn name(&self, tensor: TensorId) -> &'a str {
        &self.context.cascade.tensor(tensor).name
    }

    /// The Einsum of the block that makes a tensor, and its nest.
    pub fn producer(&self, tensor: TensorId) -> Option<(usize, &'a BoundEinsum)> {
        self.einsums()
            .find(|(_, _, e)| self.output(e) == tensor)
            .map(|(n, _, e)| (n, e))
    }

    /// What is kept of a tensor while a nest runs; true: by the block.
    pub fn keeps(
        &self,
        nest: usize,
        tensor: TensorId,
    ) -> impl Iterator<Item = (&'a Keep, bool)> + use<'a> {
        let own = self.block.nests[nest].keeps.iter().map(|k| (k, false));
        let block = self.block.keeps.iter().map(|k| (k, true));
        block.chain(own).filter(move |(k, _)| k.tensor == tensor)
    }

    /// The innermost memory that holds a tensor while a nest runs.
    pub fn memory(&self, nest: usize, tensor: TensorId) -> Option<usize> {
        let kept = self
            .keeps(nest, tensor)
            .filter_map(|(k, _)| match k.place {
                Place::Memory(memory) => Some(memory),
                Place::Registers(_) => None,
            })
            .max();
        kept.or_else(|| self.context.crosses(self.index, tensor).then_some(0))
    }

    /// What the registers of an array keep of a tensor while a nest runs; true: for the block.
    pub fn registers(
        &self,
        nest: usize,
        tensor: TensorId,
        unit: usize,
    ) -> Option<(&'a Keep, bool)> {
        self.keeps(nest, tensor)
            .find(|(k, _)| k.place == Place::Registers(unit))
    }

    /// Whether a kept tile of a running value stays for all its coordinates: then the value before is there too.
    fn runs_inside(&self, nest: usize, keep: &Keep) -> bool {
        let tensor = self.context.cascade.tensor(keep.tensor);
        let running = tensor
            .iterative
            .map(|i| self.context.ranks.digit(tensor.ranks[i]));
        let around = self.block.loops.iter().chain(&self.block.nests[nest].loops);
        let mut around = around.take(keep.depth);
        running.is_some_and(|digit| !around.any(|l| l.touches(&digit.term())))
    }

    /// Where an Einsum takes an operand from; `None` where nothing makes it, which is reported elsewhere.
    pub fn origin(
        &self,
        nest: usize,
        position: usize,
        tensor: TensorId,
        time: ReadTime,
    ) -> Option<Origin<'a>> {
        let context = self.context;
        let made = self.producer(tensor);
        let direct = || made.map(|(_, writer)| Origin::Made(writer));
        let from = self.binding(nest, position).1.from.iter();
        let from = from
            .filter(|(t, _)| context.tensor(t) == Ok(tensor))
            .find_map(|(_, place)| context.place(place).ok());
        let reader = &self.block.nests[nest].einsums[position];
        let memory = match from {
            Some(Place::Registers(_)) => return direct(),
            Some(Place::Memory(memory)) => memory,
            None => match self.memory(nest, tensor) {
                Some(memory) => memory,
                None => return direct(),
            },
        };
        if let Some((keep, whole)) = self.registers(nest, tensor, reader.unit)
            && let Some((n, writer)) = made
            && writer.unit == reader.unit
            && (whole || n == nest)
            && (time != ReadTime::Previous || self.runs_inside(nest, keep))
        {
            return Some(Origin::Kept(writer));
        }
        Some(Origin::Memory(memory))
    }

    /// Every operand of an Einsum.
    pub fn operands(&self, nest: usize, position: usize) -> Vec<Operand<'a>> {
        let context = self.context;
        let einsum = self.block.nests[nest].einsums[position].einsum;
        let reads = context.projections.listed(einsum).iter();
        reads
            .zip(context.projections.reads(einsum))
            .filter_map(|(read, seen)| {
                let (tensor, projection) = seen.as_ref().ok()?;
                Some(Operand {
                    tensor: *tensor,
                    time: read.time,
                    origin: self.origin(nest, position, *tensor, read.time)?,
                    dims: &projection.dims,
                })
            })
            .collect()
    }
}

/// Of each Einsum of a block: where it stands, its operands with their origins, the innermost memory of its output.
type Origins = Vec<((usize, usize), Vec<BoundOperand>, Option<usize>)>;

/// What the engines need to know of where words come from and go to.
pub(crate) fn origins(context: &Context<'_>, index: usize, block: &Block) -> Origins {
    let homes = Homes {
        context,
        index,
        block,
    };
    let place_of = |writer: &BoundEinsum| {
        let found = homes.einsums().find(|(_, _, e)| e.einsum == writer.einsum);
        found.map(|(n, p, _)| OperandOrigin::Made(n, p))
    };
    let of = |(nest, position, einsum): (usize, usize, &BoundEinsum)| {
        let operand = |o: Operand<'_>| {
            let origin = match o.origin {
                Origin::Memory(memory) => OperandOrigin::Memory(memory),
                Origin::Made(writer) | Origin::Kept(writer) => place_of(writer)?,
            };
            Some(BoundOperand {
                tensor: o.tensor,
                time: o.time,
                projection: Projection::of(o.dims.to_vec()),
                origin,
            })
        };
        let operands = homes.operands(nest, position).into_iter();
        (
            (nest, position),
            operands.filter_map(operand).collect(),
            homes.memory(nest, homes.output(einsum)),
        )
    };
    homes.einsums().map(of).collect()
}
