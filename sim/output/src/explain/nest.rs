//! The loops of a block, and what stays, moves and runs at each.

use einflow_mappings::mapped::{Block, BoundEinsum, Keep, NamedLoop};

use super::{Page, words::list};
use einflow_engine::analytic::AnalyticError;

/// A keep: that of the block (`None`) or of one of its nests, and its position there.
pub(super) type KeepId = (Option<usize>, usize);

/// The loops around what is told next.
pub(super) struct Scope<'a> {
    pub index: usize,
    pub block: &'a Block,
    pub loops: Vec<NamedLoop>,
    /// Nests whose loops these are; none: only the block's own loops, several nests follow inside.
    pub nest: Option<usize>,
    /// Loops that stand around the scope and are told already.
    pub from: usize,
}

impl<'a> Page<'a> {
    /// A block's loops from the outside in.
    pub(super) fn nests(&mut self, index: usize) -> Result<(), AnalyticError> {
        let block = self.block(index);
        self.line(0, &format!("BLOCK {}", block.name));
        if block.space.skip_empty && !block.space.conditions.is_empty() {
            let all: u128 = self
                .tile_loops(block)
                .map(|l| u128::from(l.count))
                .product();
            let run = self.counts.cycles[index].tiles;
            self.line(
                2,
                &format!("tiles in which the cascade's conditions leave no point are skipped: {run} of {all} run"),
            );
        }
        let mut scope = Scope {
            index,
            block,
            loops: block.loops.clone(),
            nest: None,
            from: 0,
        };
        if let [only] = block.nests.as_slice() {
            scope.loops.extend(only.loops.iter().cloned());
            scope.nest = Some(0);
        }
        self.inside(&scope, 0, 2)
    }

    /// The loops an iteration of which is a tile.
    fn tile_loops(&self, block: &'a Block) -> impl Iterator<Item = &'a NamedLoop> {
        let own = match block.nests.as_slice() {
            [only] => only.loops.as_slice(),
            _ => &[],
        };
        block.loops.iter().chain(own)
    }

    fn inside(
        &mut self,
        scope: &Scope<'a>,
        depth: usize,
        indent: usize,
    ) -> Result<(), AnalyticError> {
        for keep in self.keeps_at(scope, depth) {
            self.keep(scope, keep, indent)?;
        }
        let (before, after) = einsums_at(scope, depth);
        for e in before {
            self.einsum(scope, e, indent)?;
        }
        if depth < scope.loops.len() {
            let mut end = depth + 1;
            while end < scope.loops.len() && self.merges(scope, depth, end) {
                end += 1;
            }
            self.line(indent, &self.loops_phrase(scope, depth, end));
            self.inside(scope, end, indent + 2)?;
            for at in (depth..end).rev() {
                self.exits(scope, at, indent)?;
            }
        } else if scope.nest.is_none() {
            let nests = scope.block.nests.len();
            for (n, nest) in scope.block.nests.iter().enumerate() {
                let names: Vec<&str> = nest.einsums.iter().map(|e| e.name.as_str()).collect();
                let names = list(&names);
                self.line(indent, &format!("step {} of {nests}: {names}", n + 1));
                let mut inner = Scope {
                    index: scope.index,
                    block: scope.block,
                    loops: scope.loops.clone(),
                    nest: Some(n),
                    from: depth,
                };
                inner.loops.extend(nest.loops.iter().cloned());
                self.inside(&inner, depth, indent + 2)?;
            }
        }
        for e in after {
            self.einsum(scope, e, indent)?;
        }
        Ok(())
    }

    /// Keeps whose tile serves one iteration of the loops down to a depth.
    fn keeps_at(&self, scope: &Scope<'a>, depth: usize) -> Vec<KeepId> {
        let shared = scope.block.loops.len();
        let own = scope.block.keeps.iter().enumerate();
        let alone = scope.block.nests.len() == 1;
        let mut out: Vec<KeepId> = Vec::new();
        if scope.nest.is_none() || alone {
            let at = |keep: &Keep| keep.depth.min(scope.loops.len());
            out.extend(own.filter(|(_, k)| at(k) == depth).map(|(i, _)| (None, i)));
        }
        if let Some(n) = scope.nest {
            let least = if alone { 0 } else { shared };
            let keeps = scope.block.nests[n].keeps.iter().enumerate();
            let at = |keep: &Keep| keep.depth.max(least).min(scope.loops.len());
            out.extend(
                keeps
                    .filter(|(_, k)| at(k) == depth)
                    .map(|(i, _)| (Some(n), i)),
            );
        }
        out
    }

    /// Whether the loop `at` can be told in one breath with those from `first` on.
    fn merges(&self, scope: &Scope<'a>, first: usize, at: usize) -> bool {
        let (before, after) = einsums_at(scope, at);
        let exits = |l: &NamedLoop| {
            let mut einsums = scope.block.nests.iter().flat_map(|n| &n.einsums);
            einsums.any(|e| e.at_exit_of.as_ref() == Some(&l.name))
        };
        self.keeps_at(scope, at).is_empty()
            && before.is_empty()
            && after.is_empty()
            && scope.loops[first..=at]
                .iter()
                .all(|l| self.is_whole_rank(l) && !exits(l))
    }

    /// Whether a loop walks all coordinates of its rank one by one.
    fn is_whole_rank(&self, l: &NamedLoop) -> bool {
        l.cut.step == 1 && l.count == self.mapped.base[l.cut.rank].size
    }

    fn loops_phrase(&self, scope: &Scope<'a>, first: usize, end: usize) -> String {
        let loops = &scope.loops[first..end];
        if loops.iter().all(|l| self.is_whole_rank(l)) {
            let counts: Vec<String> = loops.iter().map(|l| l.count.to_string()).collect();
            let names: Vec<&str> = loops.iter().map(|l| l.name.as_str()).collect();
            let (counts, names) = (counts.join(" x "), names.join(", "));
            return match loops {
                [_] => format!("for each of the {counts} {names}:"),
                _ => format!("for each of the {counts} ({names}):"),
            };
        }
        let l = &scope.loops[first];
        let base = &self.mapped.base[l.cut.rank];
        let outer = scope.loops[..first]
            .iter()
            .rev()
            .find(|o| o.cut.rank == l.cut.rank);
        let extent = outer.map_or(base.size, |o| o.cut.step.min(base.size));
        let step = l.cut.step.min(extent);
        if l.count == 1 {
            return format!(
                "for {}, once: all {extent} of {} in one tile:",
                l.name, base.name
            );
        }
        let tiles = match (step, extent % step) {
            (1, _) => format!("one coordinate of {} at a time", base.name),
            (_, 0) => format!("tiles of {step} of {}", base.name),
            (_, rest) => format!("tiles of {step} of {}, the last of {rest}", base.name),
        };
        format!("for {} in 0..{}, {tiles}:", l.name, l.count)
    }

    /// Einsums that run when a loop is through.
    fn exits(&mut self, scope: &Scope<'a>, at: usize, indent: usize) -> Result<(), AnalyticError> {
        let name = &scope.loops[at].name;
        for (n, nest) in scope.block.nests.iter().enumerate() {
            if scope.nest.is_some_and(|own| own != n) {
                continue;
            }
            let inner = Scope {
                index: scope.index,
                block: scope.block,
                loops: scope.loops.clone(),
                nest: Some(n),
                from: scope.from,
            };
            for (e, einsum) in nest.einsums.iter().enumerate() {
                if einsum.at_exit_of.as_ref() != Some(name) {
                    continue;
                }
                let within: Vec<String> = einsum
                    .shared_loops()
                    .iter()
                    .skip(at)
                    .map(|l| format!("{} in 0..{}", l.name, l.count))
                    .collect();
                let each = match within.as_slice() {
                    [] => String::new(),
                    within => format!(", for {}", list(within)),
                };
                self.line(indent, &format!("when {name} is through{each}:"));
                self.einsum(&inner, e, indent + 2)?;
            }
        }
        Ok(())
    }
}

/// Einsums that run at a depth, before what stands further in and after it.
fn einsums_at(scope: &Scope<'_>, depth: usize) -> (Vec<usize>, Vec<usize>) {
    let Some(n) = scope.nest else {
        return (Vec::new(), Vec::new());
    };
    let einsums = &scope.block.nests[n].einsums;
    // Loops that run once may stand around it or inside: inside, it is beside the tiles that it works on.
    let at = |e: &BoundEinsum| {
        let own = e.shared_loops().len().max(scope.from);
        let once = scope.loops.iter().skip(own).take_while(|l| l.count == 1);
        own + once.count()
    };
    let inside = |e: &BoundEinsum| e.at_exit_of.is_none();
    let deeper = einsums.iter().position(|e| inside(e) && at(e) > depth);
    let here = einsums.iter().enumerate();
    here.filter(|(_, e)| inside(e) && at(e) == depth)
        .map(|(i, _)| i)
        .partition(|i| deeper.is_none_or(|d| *i < d))
}
