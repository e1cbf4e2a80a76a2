//! The traffic to the outermost memory of a block whose searched loops change places. Building the block anew for each
//! order would take most of a search.

use super::context::Context;
use crate::{
    count::{Count, traffic_of},
    mapped::{Block, BoundEinsum, NamedLoop, Place, Transfer, TransferKind},
    nest::Reuse,
    spec::{BlockSpec, Choice, Name},
};

/// What a block moves to and from the outermost memory, in any order of its searched loops.
pub(crate) struct Outermost<'a> {
    context: &'a Context<'a>,
    block: Block,
    /// Its loops with those searched in the order of the file.
    loops: Vec<NamedLoop>,
    /// How many of them come before those.
    fixed: usize,
    /// Whose loops the transfers follow.
    follows: Vec<Follows>,
}

/// The loops that a transfer follows.
enum Follows {
    /// Those in front of the searched ones.
    Fixed,
    /// All of the block's.
    Block,
    /// An Einsum's, by position.
    Einsum(usize),
}

impl<'a> Outermost<'a> {
    /// From a block built in one order. None for blocks that another order changes otherwise too.
    pub fn new(
        context: &'a Context<'a>,
        index: usize,
        mut block: Block,
        order: &[usize],
    ) -> Option<Self> {
        let spec = &context.spec.blocks[index];
        let [nest] = block.nests.as_slice() else {
            return None;
        };
        let exits = nest.einsums.iter().any(|e| e.at_exit_of.is_some());
        if !nest.loops.is_empty() || exits || placed_by_loop(spec) {
            return None;
        }
        let fixed = spec.loops.len();
        let mut loops = block.loops.clone();
        for (at, loop_) in order.iter().zip(block.loops.get(fixed..)?) {
            *loops.get_mut(fixed + at)? = loop_.clone();
        }
        block.transfers.retain(|t| {
            t.outer == Some(Place::Memory(0))
                || t.spill == Some(Place::Memory(0))
                || t.inner == Place::Memory(0)
        });
        let follows = block
            .transfers
            .iter()
            .map(|t| follows(&block, fixed, t))
            .collect::<Option<_>>()?;
        Some(Self {
            context,
            block,
            loops,
            fixed,
            follows,
        })
    }

    /// The words that the block moves with its searched loops in this order.
    pub fn moved(&mut self, order: &[usize]) -> Option<Count> {
        let searched = order.iter().map(|i| &self.loops[self.fixed + i]);
        let loops: Vec<&NamedLoop> = self.loops[..self.fixed].iter().chain(searched).collect();
        let einsums = &self.block.nests.first()?.einsums;
        for (transfer, follows) in self.block.transfers.iter_mut().zip(&self.follows) {
            match follows {
                Follows::Fixed => {}
                Follows::Block => {
                    transfer.loops.clear();
                    transfer.loops.extend(loops.iter().map(|l| l.cut));
                }
                Follows::Einsum(at) => {
                    let einsum = einsums.get(*at)?;
                    let walks = |l: &&NamedLoop| einsum.coordinates.iter().any(|t| l.touches(t));
                    let last = loops.iter().rposition(walks).map_or(0, |i| i + 1);
                    let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
                    transfer.loops.clear();
                    let all = loops[..last].iter().copied().chain(own);
                    transfer.loops.extend(all.map(|l| l.cut));
                    transfer.tile_depth = last;
                }
            }
        }
        let accelerator = self.context.accelerator;
        let traffic = traffic_of(
            &self.block.space,
            &self.block.transfers,
            accelerator.counting,
            accelerator.memories.len(),
            self.context.cascade.tensors.len(),
        );
        traffic.ok()?.of_memory(0)?.total()
    }
}

fn follows(block: &Block, fixed: usize, transfer: &Transfer) -> Option<Follows> {
    let einsums = &block.nests.first()?.einsums;
    if matches!(transfer.kind, TransferKind::Fill | TransferKind::Drain) {
        return match transfer.loops.len() {
            depth if depth <= fixed => Some(Follows::Fixed),
            depth if depth == block.loops.len() => Some(Follows::Block),
            _ => None,
        };
    }
    // Tiles in registers and partial results change with the loops in ways of their own.
    let mut keeps = block.keeps.iter().chain(&block.nests.first()?.keeps);
    let registers = |p: Place| matches!(p, Place::Registers(_));
    if transfer.reuse == Reuse::Nothing
        || keeps.any(|k| k.tensor == transfer.tensor && registers(k.place))
    {
        return None;
    }
    let same = |e: &BoundEinsum| {
        e.shared_loops().len() == transfer.tile_depth
            && e.loops.len() == transfer.loops.len()
            && e.loops
                .iter()
                .zip(&transfer.loops)
                .all(|(a, b)| a.cut == *b)
    };
    einsums.iter().position(same).map(Follows::Einsum)
}

/// Whether a searched loop is named where its place among the others tells: then no two orders are the same.
pub(crate) fn placed_by_loop(spec: &BlockSpec) -> bool {
    let keeps = spec.keep.iter();
    let keeps = keeps.chain(spec.nests.iter().flat_map(|n| &n.keep));
    let places = keeps.flat_map(|k| match &k.places {
        Choice::Fixed(places) => places.iter().collect::<Vec<_>>(),
        Choice::By { cases, .. } => cases.iter().flat_map(|(_, places)| places).collect(),
    });
    let searched = |name: &Name| spec.searched_loops.iter().any(|l| l.text == name.text);
    spec.pipeline.is_some()
        || places
            .into_iter()
            .any(|p| p.below.as_ref().is_some_and(searched))
}
