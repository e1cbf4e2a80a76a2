//! What a stream has moved.

use einflow_mappings::mapped::Block;

use super::{count::Counter, place::Words, tensors::Tensor};
use crate::program::{Stream, StreamKind};

/// What a stream has moved.
pub(super) struct Moving {
    pub words: Words,
    pub counter: Counter,
    /// Of a fill, by word: one more than the number of the movement that brought it last.
    pub brought: Vec<u32>,
    /// Of a fill, by word: from when on it has been there without a break.
    pub since: Vec<u64>,
    /// By movement: when all of its words are there.
    pub whole: Vec<u64>,
}

impl Moving {
    pub fn new(block: &Block, stream: &Stream, tensor: &Tensor) -> Self {
        let sizes = &block.space.sizes;
        let moved = &block.transfers[stream.transfer];
        Self {
            words: Words::own(&tensor.layout, &stream.projection, sizes),
            counter: Counter::new(stream.transfer, moved, sizes, false),
            brought: match stream.kind {
                StreamKind::Fill(_) => vec![0; tensor.layout.words],
                _ => Vec::new(),
            },
            since: match stream.kind {
                StreamKind::Fill(_) => vec![0; tensor.layout.words],
                _ => Vec::new(),
            },
            whole: Vec::new(),
        }
    }
}
