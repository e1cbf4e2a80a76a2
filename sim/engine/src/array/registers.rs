//! The registers of the PEs: words that wait there for Einsums of the same array, operands, and running results.

use super::{
    arrays::Arrays,
    error::{ArrayError, FullRegisters},
    tensors::{NOT_MADE, THERE},
};
use crate::{
    events::{Machine, Turn},
    program::Sides,
};

/// Two operands are latched on arrival.
const LATCHED: u64 = 2;

impl Arrays<'_> {
    /// Counts the words that live in a PE once a group of a unit has run, and refuses more than there are registers.
    pub fn count_registers(
        &mut self,
        machine: &Machine<'_>,
        unit: usize,
        turn: &Turn,
    ) -> Result<(), ArrayError> {
        let mut live = LATCHED;
        let mut most = (0, turn.members[0]);
        let mut running = 0;
        for made in 0..self.program.ops.len() {
            if self.program.ops[made].unit != unit {
                continue;
            }
            let waits = self.waiting_words(machine, made);
            // What does not wait is at least the running result.
            running = running.max(u64::from(waits.is_none()));
            let words = waits.unwrap_or(0);
            live += words;
            if words > most.0 {
                most = (words, made);
            }
        }
        live += running;
        self.peak_registers[unit] = self.peak_registers[unit].max(live);
        let array = &self.mapped.accelerator.arrays[unit];
        if live <= array.registers.words {
            return Ok(());
        }
        let tensor = self.plans[most.1].output_tensor;
        let task = self.done[most.1].len() as u32;
        let layout = &self.tensors[tensor].layout;
        let word = self.tensors[tensor]
            .task
            .iter()
            .position(|t| *t == task)
            .unwrap_or(0);
        Err(ArrayError::Registers(Box::new(FullRegisters {
            einsum: self.name(turn.members[0]).into(),
            array: array.name.clone(),
            cycle: machine.state.unit_free[unit],
            tensor: self.tensor_name(tensor).into(),
            coordinates: layout.coordinates(word),
            live,
            words: array.registers.words,
        })))
    }

    /// Words of an Einsum's output that wait in a PE of its array for another Einsum there; none where none takes
    /// them from registers.
    fn waiting_words(&self, machine: &Machine<'_>, made: usize) -> Option<u64> {
        let op = &self.program.ops[made];
        let tensor = &self.tensors[self.plans[made].output_tensor];
        let done = self.done[made].len() as u32;
        // The first task whose words may still be read.
        let mut oldest = done;
        let mut by_word = true;
        let mut found = false;
        for (reader, other) in self.program.ops.iter().enumerate() {
            if other.unit != op.unit {
                continue;
            }
            for (i, read) in other.reads.iter().enumerate() {
                let Some(maker) = read
                    .maker
                    .as_ref()
                    .filter(|m| m.op == made && m.memory.is_none())
                else {
                    continue;
                };
                found = true;
                by_word &= maker.by_word && other.group == op.group;
                if machine.state.ops[reader].cursor.done {
                    continue;
                }
                let mut words = Vec::new();
                self.plans[reader].reads[i].words(&machine.state.ops[reader].tile, &mut words);
                let tasks = words.iter().map(|w| tensor.task[tensor.latest(*w)]);
                let first = tasks.filter(|t| !matches!(*t, NOT_MADE | THERE)).min();
                oldest = oldest.min(first.map_or(done, |t| t - 1));
            }
        }
        found.then(|| {
            let tasks = u64::from(done - oldest);
            if by_word {
                return tasks.min(1);
            }
            let tile = &machine.state.ops[made].tile;
            let own = self.mapped.own_projection(op.output);
            let words = op.steps.iter().filter(|l| l.touches_any(&own.dims));
            tasks * Sides(&words.cloned().collect::<Vec<_>>()).iterations(tile)
        })
    }
}
