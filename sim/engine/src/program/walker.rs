//! The walk of a stream: like that of an Einsum.

use super::parts::{Op, Program, Stream, StreamKind};

impl Stream {
    /// A stream's walk as an Einsum's: through the loops that tell its tiles apart, or task by task as the Einsum
    /// that it feeds or empties.
    pub fn walker(&self, program: &Program) -> Op {
        let (at, loops, exit, folds) = match self.kind {
            StreamKind::Fill(_) | StreamKind::Drain(_) => {
                let loops = (0..self.depth).filter(|at| Some(*at) != self.exit);
                ((self.nest, 0), loops.collect(), self.exit, Vec::new())
            }
            StreamKind::Operand(op, _) | StreamKind::Result(op) => {
                let of = &program.ops[op];
                (of.at, of.loops.clone(), of.exit, of.folds.clone())
            }
        };
        Op {
            name: String::new(),
            at,
            unit: 0,
            loops,
            exit,
            folds,
            steps: Vec::new(),
            cycles: 0,
            offset: 0,
            group: 0,
            phase: None,
            reads: Vec::new(),
            output: self.tensor,
            result: None,
            update: None,
            load: 0,
            shift: 0,
            lanes: (None, None),
            writes: None,
            uses: Vec::new(),
            every_tile: false,
            rows_apart: false,
        }
    }
}
