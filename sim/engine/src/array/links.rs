//! The links between the PEs of an array, and how many words pass them.

use einflow_arch::Direction;

use super::{
    arrays::Arrays,
    error::{ArrayError, CrowdedLink},
    kernel::Reduction,
    plan::Lane,
};

impl Arrays<'_> {
    /// Checks that the words of a step that are new to the PEs pass the links between them: an operand that all PEs
    /// of a lane share travels along it, and so does a sum that they form together and that leaves at once.
    pub fn check_links(&self, member: usize, leaves: bool, cycle: u64) -> Result<(), ArrayError> {
        let op = &self.program.ops[member];
        let plan = &self.plans[member];
        let array = &self.mapped.accelerator.arrays[op.unit];
        let lanes = [
            (
                "rows",
                plan.rows,
                op.lanes.0.as_ref(),
                [Direction::Down, Direction::Up],
            ),
            (
                "columns",
                plan.columns,
                op.lanes.1.as_ref(),
                [Direction::Right, Direction::Left],
            ),
        ];
        for (at, (between, lane, l, directions)) in lanes.into_iter().enumerate() {
            let Some(Lane { shared, .. }) = lane.filter(|_| l.is_some_and(|l| l.count > 1)) else {
                continue;
            };
            let mut tensors: Vec<&str> = Vec::new();
            for (i, access) in plan.reads.iter().enumerate() {
                let made_here = op.reads[i]
                    .maker
                    .as_ref()
                    .is_some_and(|m| m.memory.is_none() && self.program.ops[m.op].unit == op.unit);
                if plan.shares[i][at]
                    && !made_here
                    && self.works[member].operands[i].new
                    && !access.checked()
                {
                    tensors.push(self.tensor_name(plan.read_tensors[i]));
                }
            }
            if shared && leaves && plan.kernel.reduction != Reduction::None {
                tensors.push(self.tensor_name(plan.output_tensor));
            }
            let neighbours = array
                .links
                .iter()
                .filter(|l| l.from.is_none() && l.to.is_none());
            let each = neighbours.filter(|l| directions.contains(&l.direction));
            let room = each
                .map(|l| l.words_per_cycle)
                .sum::<u64>()
                .saturating_mul(op.cycles);
            if tensors.len() as u64 > room {
                return Err(ArrayError::Link(Box::new(CrowdedLink {
                    einsum: op.name.clone(),
                    array: array.name.clone(),
                    between,
                    cycle,
                    words: tensors.len() as u64,
                    room,
                    cycles: op.cycles,
                    tensors: tensors.join(", "),
                })));
            }
        }
        Ok(())
    }
}
