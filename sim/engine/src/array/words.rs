//! Whether the words that a step reads are where it reads them.

use super::{
    arrays::Arrays,
    error::{ArrayError, MissingWord},
    tensors::{NOT_MADE, THERE},
};
use crate::{
    events::Machine,
    program::{Need, Tile, needed},
};

impl Arrays<'_> {
    /// Checks that every word of an operand that this block makes is where the step reads it.
    pub(super) fn check_words(
        &mut self,
        machine: &Machine<'_>,
        member: usize,
        i: usize,
        tile: &Tile,
        cycle: u64,
    ) -> Result<(), ArrayError> {
        let op = &self.program.ops[member];
        let read = &op.reads[i];
        let Some(maker) = &read.maker else {
            return Ok(());
        };
        let tensor = &self.tensors[read.tensor.0];
        // What has been made anew since is still there as it was.
        let limit = match needed(
            self.program,
            op,
            read,
            maker,
            &machine.state.ops[member].tile,
        ) {
            Need::Nothing => 0,
            Need::UpTo(place) => self.upto(maker.op, place),
        };
        let mut words = Vec::new();
        self.plans[member].reads[i].words(tile, &mut words);
        for word in words {
            let at = tensor.latest(word);
            let why = match tensor.task[at] {
                THERE => continue,
                NOT_MADE if self.program.occupied.is_some() => continue,
                NOT_MADE => "has not been made".to_string(),
                task if task > limit => continue,
                task => {
                    let done = &self.done[maker.op][task as usize - 1];
                    let made = if maker.by_word || maker.memory.is_none() {
                        tensor.made[at]
                    } else {
                        done.end
                    };
                    // What a task hands on to its own next steps stays in the PE.
                    let own = maker.op == member && task as usize == self.done[member].len();
                    let there = if own {
                        tensor.made[at]
                    } else {
                        made + maker.delay
                    };
                    if there <= cycle {
                        continue;
                    }
                    format!("is there from cycle {there} on")
                }
            };
            let place = match maker.memory {
                Some(memory) => self.mapped.accelerator.memories[memory].name.clone(),
                None => format!(
                    "the registers of {}",
                    self.mapped.accelerator.arrays[op.unit].name
                ),
            };
            return Err(ArrayError::Word(Box::new(MissingWord {
                einsum: op.name.clone(),
                cycle,
                tensor: self.tensor_name(read.tensor.0).into(),
                coordinates: tensor.layout.coordinates(word),
                place,
                why,
            })));
        }
        Ok(())
    }

    /// Checks that every word of an operand is in the tile of the memory from which the step reads it.
    pub(super) fn check_kept(
        &mut self,
        member: usize,
        i: usize,
        tile: &Tile,
        cycle: u64,
    ) -> Result<(), ArrayError> {
        let op = &self.program.ops[member];
        let read = &op.reads[i];
        let (Some(keep), Some(way)) = (read.keep, &read.way) else {
            return Ok(());
        };
        let plan = &self.program.keeps[keep];
        let Some(stream) = plan.fill else {
            return Ok(());
        };
        let state = &self.streams[stream];
        let oldest = plan
            .generations
            .map_or(0, |n| state.whole.len().saturating_sub(n));
        let mut words = std::mem::take(&mut self.scratch);
        self.plans[member].reads[i].words(tile, &mut words);
        // The rows of the step pass the port before it.
        let asked = cycle as i64 - (way.delay + way.burst - 1) as i64;
        let missing = words.iter().find_map(|word| {
            let number = state.brought[*word] as usize;
            if number == 0 {
                return Some((*word, "has not held it".to_string()));
            }
            if number <= oldest {
                return Some((*word, "holds later tiles in its place".to_string()));
            }
            let there = state.since[*word];
            // Words that stay in the PEs were read at the first step.
            (there as i64 > asked && !way.stays)
                .then(|| (*word, format!("holds it from cycle {there} on")))
        });
        self.scratch = words;
        let Some((word, why)) = missing else {
            return Ok(());
        };
        Err(ArrayError::Word(Box::new(MissingWord {
            einsum: op.name.clone(),
            cycle,
            tensor: self.tensor_name(read.tensor.0).into(),
            coordinates: self.tensors[read.tensor.0].layout.coordinates(word),
            place: self.mapped.accelerator.memories[plan.memory].name.clone(),
            why,
        })))
    }
}
