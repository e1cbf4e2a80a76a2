//! Words on their way between memories, and between the outermost one and the arrays.

use super::{
    arrays::Arrays,
    error::{ArrayError, MissingWord},
    tensors::NEVER,
};
use crate::{
    events::Machine,
    hardware::Moved,
    program::{StreamKind, stored},
};

impl Arrays<'_> {
    /// Moves the words of a stream's next tile.
    pub fn move_words(
        &mut self,
        machine: &Machine<'_>,
        id: usize,
        moved: Moved,
    ) -> Result<(), ArrayError> {
        let stream = &self.program.streams[id];
        let tile = &machine.state.streams[id].tile;
        let mut words = Vec::new();
        self.streams[id].words.words(tile, &mut words);
        self.check_stored(machine, id, &words, moved.start)?;
        let state = &mut self.streams[id];
        if matches!(stream.kind, StreamKind::Fill(_) | StreamKind::Drain(_)) {
            self.words[stream.transfer] += state.counter.step(tile);
        }
        state.whole.push(moved.whole);
        let tensor = &mut self.tensors[stream.tensor.0];
        match stream.kind {
            StreamKind::Fill(_) => {
                let number = state.whole.len() as u32;
                for word in &words {
                    // What the tile before holds too does not come again.
                    if number == 1 || state.brought[*word] != number - 1 {
                        state.since[*word] = moved.whole;
                    }
                    state.brought[*word] = number;
                }
            }
            StreamKind::Drain(_) | StreamKind::Result(_) if !tensor.outer.is_empty() => {
                // Of an iterative tensor the value after this step.
                let iterative = tensor.layout.iterative;
                let after = iterative.map_or(0, |at| tensor.layout.strides[at]);
                words
                    .iter()
                    .for_each(|w| tensor.outer[*w + after] = moved.whole);
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that words which this block makes are in the outer memory when a stream takes them from there.
    fn check_stored(
        &self,
        machine: &Machine<'_>,
        id: usize,
        words: &[usize],
        start: u64,
    ) -> Result<(), ArrayError> {
        let stream = &self.program.streams[id];
        let Some(source) = &stream.source else {
            return Ok(());
        };
        // What has been stored anew since was there before.
        let tile = &machine.state.streams[id].tile;
        let Some(place) = stored(self.program, source, tile) else {
            return Ok(());
        };
        let writer = &machine.state.streams[source.stream];
        let before = writer.arrived.iter().rev().find(|a| a.place <= place);
        let before = before.map_or(u64::MAX, |a| a.whole);
        let tensor = &self.tensors[stream.tensor.0];
        for word in words {
            let there = tensor.outer[tensor.latest(*word)];
            if there == NEVER || there.min(before) <= start {
                continue;
            }
            let name = self.tensor_name(stream.tensor.0);
            return Err(ArrayError::Word(Box::new(MissingWord {
                einsum: format!("the movement of {name}"),
                cycle: start,
                tensor: name.into(),
                coordinates: tensor.layout.coordinates(*word),
                place: self.mapped.accelerator.memories[stream.outer].name.clone(),
                why: format!("holds it from cycle {} on", there.min(before)),
            })));
        }
        Ok(())
    }
}
