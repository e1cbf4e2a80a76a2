//! Loops that count as one.

use einflow_mappings::nest::Projection;

use crate::events::Machine;

/// How many of a block's loops, from the outside, only tell apart what shares nothing, as batches and heads do:
/// together they are like one loop, whose iterations follow on each other alike wherever one of them begins anew.
///
/// Their tiles are full, no condition has a say along their ranks, all that runs or moves does so in each of their
/// iterations, and each tensor has a dimension for each of them, or for none where it is only read: from one iteration
/// to the next all words change, or none.
pub(super) fn joint(machine: &Machine<'_>) -> usize {
    let (mapped, program) = (machine.mapped, machine.program);
    let nest = &program.nests[0];
    let mut count = nest.len();
    for other in &program.nests {
        let alike = nest.iter().zip(other).take_while(|(a, b)| a == b).count();
        count = count.min(alike);
    }
    if program.scopes > 0 {
        count = count.min(program.scopes);
    }
    let all = program.ops.iter().chain(machine.walkers.iter());
    for op in all {
        let own = op.loops.iter().enumerate();
        count = count.min(own.take_while(|(at, l)| at == *l).count());
        let exits = op.exit.into_iter();
        let again = op.again.0.iter().copied();
        count = exits.chain(again).fold(count, usize::min);
    }
    for (at, l) in nest.iter().enumerate() {
        let (rank, step) = (l.cut.rank, l.cut.step.max(1));
        let full = program.whole[rank] == (0, step.saturating_mul(l.count));
        let first = nest[..at].iter().all(|o| o.cut.rank != rank);
        if !full || program.is_masked(rank) || !first {
            count = count.min(at);
        }
    }
    let block = &mapped.blocks[machine.block];
    let reads = program.ops.iter().flat_map(|o| &o.reads);
    let projections: Vec<&Projection> = reads
        .map(|r| &r.projection)
        .chain(block.transfers.iter().map(|t| &t.projection))
        .chain(program.keeps.iter().map(|k| &k.projection))
        .chain(program.streams.iter().flat_map(|s| [&s.projection, &s.own]))
        .collect();
    let made: Vec<&Projection> = program
        .ops
        .iter()
        .map(|o| mapped.own_projection(o.output))
        .collect();
    let alike = |count: usize| {
        let ranks = || {
            nest[..count]
                .iter()
                .filter(|l| l.count > 1)
                .map(|l| l.cut.rank)
        };
        let all = |p: &Projection| ranks().all(|rank| tells_apart(p, rank));
        let none = |p: &Projection| ranks().all(|rank| !touches(p, rank));
        made.iter().all(|p| all(p)) && projections.iter().all(|p| all(p) || none(p))
    };
    while count > 0 && !alike(count) {
        count -= 1;
    }
    count
}

fn touches(projection: &Projection, rank: usize) -> bool {
    let mut dims = projection.all_dims();
    dims.any(|d| d.chosen.is_some() || d.terms.iter().any(|t| t.rank == rank))
}

/// Whether each coordinate of a rank has words of its own.
fn tells_apart(projection: &Projection, rank: usize) -> bool {
    projection.is_plain()
        && projection.all_dims().all(|d| {
            d.terms.iter().all(|t| t.rank != rank)
                || matches!(d.terms[..], [t] if t.unit <= 1 && t.modulus.is_none() && t.coefficient == 1)
        })
        && touches(projection, rank)
}
