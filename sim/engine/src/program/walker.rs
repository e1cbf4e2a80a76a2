//! The walk of a stream: like that of an Einsum.

use einflow_mappings::mapped::NamedLoop;

use super::parts::{Op, Program, Stream, StreamKind};

impl Stream {
    /// Loops, and folds, each further iteration of which takes words outward that have been there.
    fn again(&self, program: &Program) -> (Vec<usize>, Vec<usize>) {
        match self.kind {
            StreamKind::Drain(_) => {
                let loops = program.nests[self.nest][..self.depth].iter().enumerate();
                let adds = |at: usize, l: &NamedLoop| {
                    Some(at) != self.exit && l.count > 1 && !l.touches_any(&self.own.dims)
                };
                let adds = loops.filter(|(at, l)| adds(*at, l));
                (adds.map(|(at, _)| at).collect(), Vec::new())
            }
            StreamKind::Result(op) => program.ops[op].again.clone(),
            StreamKind::Fill(_) | StreamKind::Operand(..) => (Vec::new(), Vec::new()),
        }
    }

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
            works: 0,
            narrow: None,
            returning: (1, None),
            loads: Vec::new(),
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
            again: self.again(program),
            repeats: false,
            every_tile: false,
            rows_apart: false,
        }
    }
}
